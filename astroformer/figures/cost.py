"""What networks cost, drawn: multiply-adds by stage and kind, their growth with image size and
from variant to variant.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from astroformer.counting.cost import exponent
from astroformer.figures.style import COLORS, panels

KINDS = {
    "1x1 convolution": "blue",
    "3x3 convolution": "orange",
    "3x3 depthwise convolution": "green",
    "linear": "purple",
    "attention product": "red",
}


def by_stage(operations: dict[str, pd.DataFrame]) -> Figure:
    """One panel a network: multiply-adds of each stage, its kinds stacked; `operations` are
    traces' frames by name.
    """
    rows = -(-(len(operations) + 1) // 2)
    figure, axes = panels(rows, 2, height=1.75 * rows)
    drawn = {}
    for axis, (name, frame) in zip(axes, operations.items()):
        giga = (
            frame.pivot_table(
                index="stage",
                columns="kind",
                values="macs",
                aggfunc="sum",
                fill_value=0,
                sort=False,
            )
            / 1e9
        )
        unknown = [kind for kind in giga.columns if giga[kind].any() and kind not in KINDS]
        if unknown:
            raise ValueError(
                f"no colour for {', '.join(unknown)}; the figure knows {', '.join(KINDS)}"
            )
        left = pd.Series(0.0, index=giga.index)
        for kind in (kind for kind in KINDS if kind in giga.columns):
            drawn[kind] = axis.barh(
                giga.index, giga[kind], left=left, color=COLORS[KINDS[kind]], label=kind
            )
            left = left + giga[kind]
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_title(name, loc="left")
    for axis in axes[max(0, len(operations) - 2) : len(operations)]:  # the lowest of each column
        axis.set_xlabel("multiply-adds (G)")
    for axis in axes[len(operations) :]:
        axis.set_axis_off()
    axes[len(operations)].legend(drawn.values(), drawn.keys(), loc="center left")
    return figure


def growth_with_size(counted: pd.DataFrame) -> Figure:
    """Multiply-adds against image size, both logarithmic: layers solid, attention's products
    dashed, by stack; the legend gives the fitted power of the side.
    """
    figure, (axis,) = panels(1, 1, height=4.2)
    lines = zip(("blue", "orange", "green"), (6.5, 4.0, 1.5), counted.groupby("stack", sort=False))
    # widths differ because the layers' lines lie almost on one another
    for color, width, (stack, group) in lines:
        for column, style in (("layers", "-"), ("attention", "s--")):
            power = exponent(group["image_size"], group[column])
            axis.plot(
                group["image_size"],
                group[column] / 1e9,
                style,
                color=COLORS[color],
                markersize=4.5,
                linewidth=width if column == "layers" else 1.8,
                label=f"{'-'.join(str(stack))} {column}: side$^{{{power:.2f}}}$",
            )
    axis.set(
        xscale="log", yscale="log", xlabel="image size (pixels a side)", ylabel="multiply-adds (G)"
    )
    sizes = sorted(set(counted["image_size"]))
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    axis.legend(handlelength=2.4)
    return figure


def growth_with_variant(costs: Sequence[dict], beside: pd.DataFrame) -> Figure:
    """Parameters and multiply-adds, both logarithmic: networks by name (filled, joined) and
    reported pairs (hollow).

    `costs` as of counting.cost.network_cost; `beside` as of counting.cost.reported_beside_counted.
    """
    figure, (axis,) = panels(1, 1, height=4.0)
    params, macs = [cost["params"] / 1e6 for cost in costs], [cost["macs"] / 1e9 for cost in costs]
    axis.plot(params, macs, "o-", color=COLORS["blue"], label="counted: the released networks")
    for cost, x, y in zip(costs, params, macs):
        axis.annotate(
            cost["model"].removeprefix("astroformer_"),
            (x, y),
            xytext=(-6, 6),
            textcoords="offset points",
            ha="right",
        )
    axis.plot(
        pd.to_numeric(beside["reported params"]),
        pd.to_numeric(beside["reported FLOPs"]),
        "D",
        markerfacecolor="none",
        markeredgewidth=1.4,
        color=COLORS["red"],
        label="reported: README, per data set",
    )
    axis.set(xscale="log", yscale="log", xlabel="parameters (M)", ylabel="multiply-adds (G)")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.legend(loc="lower right")
    return figure
