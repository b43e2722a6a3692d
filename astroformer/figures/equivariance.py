"""Pictures of equivariance: the error by shift, part by part, what it is made of, and what
moving does to predictions.
"""

from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from astroformer.figures.style import COLORS, panels

FLOOR = 1e-16  # below the rounding of double precision: what is drawn as "none"
SINGLE = 1e-6  # the same of single precision
NETWORKS = {
    "as released": ("blue", "o"),
    "strides alone": ("orange", "s"),
    "BlurPool": ("green", "^"),
    "by construction": ("red", "D"),
}

CAUSES = {
    "strides": "blue",
    "padding": "orange",
    "bias table": "green",
    "position embedding": "green",
}


def heat_maps(errors: dict[str, pd.DataFrame], parts: tuple[str, ...]) -> Figure:
    """One row a network, one column a part: relative error by shift (dy downwards, dx to the
    right), logarithmic, for networks in single precision.

    `errors`: name -> as of equivariance.network.shift_errors, over a square grid of shifts.
    """
    figure, axes = panels(len(errors), len(parts), height=1.25 * len(errors) + 0.6)
    for i, (name, table) in enumerate(errors.items()):
        row, last = axes[i * len(parts) : (i + 1) * len(parts)], i == len(errors) - 1
        for axis, part in zip(row, parts):
            of_part = table[table["part"] == part].pivot(index="dy", columns="dx", values="error")
            shown = axis.imshow(
                of_part.to_numpy().clip(SINGLE),
                norm=LogNorm(SINGLE, 1),
                cmap="magma",
                extent=(*_edges(of_part.columns), *_edges(of_part.index)[::-1]),
            )
            axis.grid(False)
            axis.set(xticks=(0, 16, 32), yticks=(0, 16, 32))
            axis.set_title(part if i == 0 else "")
            axis.set_xlabel("dx (px)" if last else "")
            axis.tick_params(labelsize=8, labelleft=axis is row[0], labelbottom=last)
        row[0].set_ylabel(f"{name}\ndy (px)", fontsize=9)
    figure.colorbar(shown, ax=axes, shrink=0.8, label="relative error", ticks=[1e-6, 1e-4, 1e-2, 1])
    return figure


def _edges(values: pd.Index) -> tuple[float, float]:
    half = (values[1] - values[0]) / 2
    return values[0] - half, values[-1] + half


def along_a_row(errors: dict[str, pd.DataFrame], part: str = "logits") -> Figure:
    """Relative error of one part against a shift to the right, for each network."""
    figure, (axis,) = panels(1, 1, height=3.2)
    for name, table in errors.items():
        line, (color, marker) = table[(table["part"] == part) & (table["dy"] == 0)], NETWORKS[name]
        axis.plot(
            line["dx"],
            line["error"].clip(FLOOR),
            marker=marker,
            markersize=4,
            color=COLORS[color],
            label=name,
        )
    axis.set(
        yscale="log",
        ylim=(FLOOR / 3, 3),
        xlabel="shift to the right (pixels)",
        ylabel=f"relative error of the {part}",
    )
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=4)
    return figure


def parts_of_the_error(table: pd.DataFrame) -> Figure:
    """What the squared error consists of, by shift, a panel a data set; bars add up to the dots.

    `table`: as of equivariance.causes.by_shift, of one network.
    """
    data = list(dict.fromkeys(table["data"]))
    figure, axes = panels(1, len(data), height=3.2)
    for axis, name in zip(axes, data):
        line = table[table["data"] == name]
        up, down = np.zeros(len(line)), np.zeros(len(line))
        for cause, color in CAUSES.items():
            if cause not in line:  # a network has some of them
                continue
            value = line[cause].to_numpy()
            axis.bar(
                line["shift"],
                value,
                bottom=np.where(value >= 0, up, down),
                width=0.8,
                color=COLORS[color],
                label=cause,
            )
            up, down = up + value.clip(0), down + value.clip(None, 0)
        axis.plot(line["shift"], line["all"], "o", color="black", markersize=4, label="as released")
        axis.set(xlabel="shift (pixels)", title="\n".join(wrap(name, 30)), xticks=range(0, 17, 4))
    axes[0].set_ylabel("squared relative error of the logits")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def shares(table: pd.DataFrame) -> Figure:
    """Shapley shares of the squared error, a panel a data set, a group of bars a shift. Beside
    each bar the range over seeds, thick, and from the share put in first to that put in last, thin.

    `table`: as of equivariance.causes.shares, of one network.
    """
    data, shifts = (list(dict.fromkeys(table[name])) for name in ("data", "shift"))
    figure, axes = panels(1, len(data), height=3.4)
    for axis, name in zip(axes, data):
        rows = table[table["data"] == name]
        causes = [cause for cause in CAUSES if cause in set(rows["cause"])]
        width = 0.8 / len(causes)
        for place, cause in enumerate(causes):
            own = rows[rows["cause"] == cause].set_index("shift").loc[shifts]
            x = np.arange(len(shifts)) + (place - (len(causes) - 1) / 2) * width
            axis.bar(x, own["mean"], width=0.9 * width, color=COLORS[CAUSES[cause]], label=cause)
            for part, (one, other), style in (
                (0.15, ("low", "high"), {"linewidth": 3.5, "label": "range over seeds"}),
                (-0.15, ("first in", "last in"), {"linewidth": 1.2, "label": "first in, last in"}),
            ):
                lines = axis.vlines(x + part * width, own[one], own[other], color="black", **style)
                if place:
                    lines.set_label("_")
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(
            title="\n".join(wrap(name, 30)),
            xticks=range(len(shifts)),
            xticklabels=["\n".join(wrap(words, 8)) for words in shifts],
        )
        axis.grid(False, axis="x")
    axes[0].set_ylabel("share of the squared error (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def stage_by_stage(errors: dict[str, dict[str, pd.DataFrame]]) -> Figure:
    """A panel a network: relative error of each part, for a shift to the right by one pixel and by
    a whole patch or stride, as released; by the latter with all but patches or strides repaired;
    and by one pixel by construction.

    `errors`: as of equivariance.systems.errors.
    """
    figure, axes = panels(1, len(errors), height=3.4)
    for axis, (name, tables) in zip(axes, errors.items()):
        near, whole = sorted(tables["as released"]["dx"].unique())
        alone = next(label for label in tables if label in ("patches alone", "strides alone"))
        for label, shift, text, color, marker in (
            ("as released", near, "as released, one pixel", "red", "o"),
            ("as released", whole, "as released, whole patch or stride", "blue", "s"),
            (
                alone,
                whole,
                "all but patches or strides repaired, whole patch or stride",
                "green",
                "^",
            ),
            ("by construction", near, "by construction, one pixel", "grey", "D"),
        ):
            line = tables[label][tables[label]["dx"] == shift]
            axis.plot(
                range(len(line)),
                line["error"].clip(FLOOR),
                marker=marker,
                markersize=4,
                color=COLORS[color],
                label=text,
            )
        parts = [
            part.replace("blocks.", "").replace("enc.", "").replace("block", "S")
            for part in line["part"]
        ]
        parts = [str(int(part) + 1) if part.isdigit() else part for part in parts]
        axis.set(
            yscale="log",
            ylim=(FLOOR / 3, 10),
            title=f"{name} ({whole} px)",
            xticks=range(len(parts)),
        )
        axis.set_xticklabels(parts, rotation=90 if len(parts) > 5 else 0, fontsize=8)
        axis.tick_params(labelleft=axis is axes[0])
    axes[0].set_ylabel("relative error")
    figure.supxlabel("block or stage, then the logits", fontsize=10)
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=2,
        fontsize=8,
        handlelength=1.5,
    )
    return figure


def consistency_curves(curves: pd.DataFrame) -> Figure:
    """Images that keep their class against the shift, a panel a data set, a line a network, bands
    for the 95 % interval over seeds; `curves` as of equivariance.trained.curves.
    """
    data = list(dict.fromkeys(curves["data"]))
    figure, axes = panels(1, len(data), height=3.2)
    for axis, name in zip(axes, data):
        for network, line in curves[curves["data"] == name].groupby("network", sort=False):
            color, marker = COLORS[NETWORKS[network][0]], NETWORKS[network][1]
            axis.fill_between(
                line["shift"],
                line["low"],
                line["high"],
                color=color,
                alpha=0.15,
                linewidth=0,
            )
            axis.plot(
                line["shift"], line["mean"], marker=marker, markersize=4, color=color, label=network
            )
        axis.set(
            xlabel="shift (pixels)",
            title="\n".join(wrap(name, 30)),
            ylim=(0, 102),
            xticks=range(0, 17, 4),
        )
    axes[0].set_ylabel("same class (%)")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(NETWORKS)
    )
    return figure
