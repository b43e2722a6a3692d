"""Pictures of the audit: all candidates beside the reported points, and how easily made-up
tables are met.
"""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from astroformer.audit.chance import in_words, share
from astroformer.audit.tables import KINDS
from astroformer.figures.style import COLORS, panels

SHORT = {
    "CIFAR-10": "CIFAR-10",
    "CIFAR-100": "CIFAR-100",
    "Tiny ImageNet": "Tiny",
    "Galaxy10 DECaLS": "Galaxy10",
}


def plane(params: np.ndarray, macs: np.ndarray, report: dict) -> Figure:
    """Candidates in the plane of parameters and multiply-adds (the darker, the more), the reported
    pairs, and the released networks that bear their names.
    """
    rows = report["rows"]
    reported = np.array(
        [[float(row["printed"][metric]) for metric in ("params", "flops")] for row in rows]
    )
    released = np.array(
        [
            [row["released"]["params"] / 1e6, row["released"]["conventions"]["macs"] / 1e9]
            for row in rows
        ]
    )
    figure, (whole, near) = panels(2, 1, height=6.4, heights=(1, 1.15))
    for axis, gridsize in ((whole, 90), (near, 140)):
        axis.hexbin(
            params / 1e6,
            macs / 1e9,
            gridsize=gridsize,
            xscale="log",
            yscale="log",
            cmap="Greys",
            norm=LogNorm(),
            linewidths=0.1,
            mincnt=1,
            alpha=0.5,
        )
        for (x0, y0), (x1, y1) in zip(reported, released):
            axis.plot([x0, x1], [y0, y1], "-", color=COLORS["red"], linewidth=0.9, alpha=0.7)
        axis.plot(
            *released.T,
            "D",
            markersize=5,
            color=COLORS["blue"],
            label="released network of that name, counted",
        )
        axis.plot(
            *reported.T,
            "o",
            markersize=7,
            markerfacecolor="none",
            markeredgewidth=1.6,
            color=COLORS["red"],
            label="reported (README)",
        )
        axis.set(
            xlabel="parameters (M)",
            ylabel="multiply-adds, or FLOPs as printed (G)"
            if axis is near
            else "multiply-adds (G)",
        )
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(LogLocator(subs=(1, 2, 5)))
            side.set_major_formatter("{x:g}")
        axis.minorticks_off()
    whole.legend(loc="upper left")
    near.set(xlim=(130, 1250), ylim=(17, 190))
    _label(near, rows, reported)
    return figure


def _label(axis, rows: list[dict], reported: np.ndarray) -> None:
    """Names beside the reported points; data sets that share a point, to the width of a mark,
    share a label.
    """
    groups: list[tuple[np.ndarray, str, list[str]]] = []
    for row, point in zip(rows, reported):
        model, dataset = row["model"].replace("astroformer_", "A-"), SHORT[row["dataset"]]
        for at, name, datasets in groups:
            if name == model and np.allclose(at, point, rtol=0.01):
                datasets.append(dataset)
                break
        else:
            groups.append((point, model, [dataset]))
    for at, name, datasets in groups:
        others = [
            other for other, *_ in groups if other is not at and np.allclose(other, at, rtol=0.2)
        ]
        # points that lie close: one label up, one down
        shift = 0 if not others else 7 if at[1] > others[0][1] else -7
        axis.annotate(
            f"{name}: {', '.join(datasets)}",
            at,
            xytext=(9, shift - 3),
            textcoords="offset points",
            fontsize=7.5,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        )


def chance(report: dict) -> Figure:
    """For each row and each of its numbers: the share of made-up tables that find a match after
    as few changes.
    """
    rows, decoys = report["rows"], report["space"]["decoys"]
    floor = share(0, decoys)
    figure, (axis,) = panels(1, 1, height=0.34 * len(rows) + 1.2)
    marks = {
        "params": ("o", COLORS["blue"]),
        "flops": ("s", COLORS["orange"]),
        "pair": ("^", COLORS["purple"]),
    }
    for kind, (marker, color) in marks.items():
        points = [
            (row[kind]["as_easily"], i)
            for i, row in enumerate(rows)
            if row[kind]["as_easily"] is not None
        ]
        if points:
            axis.plot(
                *zip(*points),
                marker,
                color=color,
                markersize=7,
                label=KINDS[kind],
                clip_on=False,
                zorder=3,
            )
    axis.axvline(report["easy"], color=COLORS["grey"], linewidth=1.2, linestyle="--")
    axis.annotate(
        "one made-up table in twenty",
        (report["easy"], -0.9),
        xytext=(-5, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=8.5,
        color=COLORS["grey"],
    )
    axis.set(
        xscale="log",
        xlim=(floor * 0.9, 1.1),
        ylim=(len(rows) - 0.5, -1.4),
        xlabel="share of made-up tables that do as well",
        yticks=range(len(rows)),
    )
    axis.set_yticklabels(
        [f"{row['model'].replace('astroformer_', 'A-')}, {SHORT[row['dataset']]}" for row in rows]
    )
    ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if tick > 1.2 * floor]
    axis.set_xticks(
        [floor, *ticks], [in_words(floor, decoys), *(f"{100 * tick:g} %" for tick in ticks)]
    )
    axis.minorticks_off()
    axis.legend(loc="upper center", bbox_to_anchor=(0.4, -0.16), ncols=3)
    return figure
