"""Pictures of the poster's proof sketch: how far its sides are apart over many draws, and for
two positions by hand.
"""

import pandas as pd
from matplotlib.figure import Figure

from astroformer.equivariance import proof_sketch as sketch
from astroformer.figures.style import COLORS, panels

MARKS = {sketch.LINES: ("red", "o"), sketch.ATTENTION: ("blue", "s"), sketch.SHIFT: ("green", "^")}
POSITIONS = {1: "blue", 2: "orange"}


def residuals(table: pd.DataFrame) -> Figure:
    """Relative residual against the length of Delta, from equivariance.proof_sketch.residuals:
    median, and a band of quantiles.
    """
    figure, (axis,) = panels(1, 1, height=3.6)
    for comparison, of_one in table.groupby("comparison", sort=False):
        color, marker = MARKS[comparison]
        axis.fill_between(
            of_one["length"],
            of_one["low"],
            of_one["high"],
            color=COLORS[color],
            alpha=0.2,
            linewidth=0,
        )
        axis.plot(
            of_one["length"],
            of_one["median"],
            marker=marker,
            markersize=5,
            color=COLORS[color],
            label=comparison,
        )
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="length of Δ (features have length of about 1)",
        ylabel="relative residual",
    )
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left")
    return figure


def counterexample(table: pd.DataFrame) -> Figure:
    """The two positions' features and outputs on one line of numbers, from
    equivariance.proof_sketch.counterexample.

    Above, a vector is added to the features: what attention does, and what either line of the
    sketch says. Below, the positions are exchanged: the colours change places, in the output as in
    the input.
    """
    moved = table["side"].isin((sketch.SWAPPED, sketch.ANSWER))
    sides = list(table["side"].unique())
    first_below = min(sides.index(side) for side in table[moved]["side"])
    heights = {side: -row - 0.7 * (row >= first_below) for row, side in enumerate(sides)}
    figure, (axis,) = panels(1, 1, height=0.42 * len(sides) + 1.0)
    for side, pair in table.groupby("side", sort=False):
        height = heights[side]
        axis.plot(pair["value"], [height] * len(pair), color="#d1d5db", linewidth=2, zorder=1)
        # A number stands beside its dot, on the side away from the other.
        smaller = pair["value"].idxmin()
        for index, row in pair.iterrows():
            axis.plot(
                row["value"],
                height,
                "o",
                color=COLORS[POSITIONS[row["position"]]],
                markersize=10,
                zorder=2,
                label=f"position {row['position']}" if side == sketch.FEATURES else None,
            )
            axis.annotate(
                f"{row['value']:.3g}",
                (row["value"], height),
                ((-9 if index == smaller else 9), 0),
                textcoords="offset points",
                ha="right" if index == smaller else "left",
                va="center",
                fontsize=9,
            )
    low, high = table["value"].min(), table["value"].max()
    axis.axhline(
        (heights[sides[first_below - 1]] + heights[sides[first_below]]) / 2,
        color=COLORS["grey"],
        linewidth=0.8,
    )
    axis.set(
        yticks=list(heights.values()),
        yticklabels=list(heights),
        xlabel="value (one dimension)",
        xlim=(low - 0.1 * (high - low), high + 0.1 * (high - low)),
        ylim=(min(heights.values()) - 0.6, 0.6),
    )
    for label, side in zip(axis.get_yticklabels(), sides):
        label.set_fontweight("bold" if side == sketch.TRUTH else "normal")
    axis.grid(axis="y", visible=False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure
