"""What the predictions of runs say: confusion matrix, reliability, surest mistakes; and the
curves of many runs together.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from astroformer.figures.style import COLORS, WIDTH, panels, picture
from astroformer.ledger import predictions
from astroformer.studies.results import MOST_CURVES, Group, curves

LINES = ("-", "--")  # a colour comes back with the other
LEGEND_CHARACTERS = 88  # of a line of the legend, which fills the figure's width


def learning(groups: Sequence[Group]) -> Figure:
    """Top-1 and balanced accuracy by epoch: means over seeds, shaded from lowest to highest. Of the
    groups the first MOST_CURVES, whose values by epoch are of one kind of images.
    """
    shown = groups[:MOST_CURVES]
    if len(kinds := {group.watched_on for group in shown}) != 1:
        raise ValueError(f"Curves on {' and '.join(sorted(kinds)) or 'no'} images are no figure.")
    labels = [
        textwrap.fill(f"{group.label} ({len(group.rows)})", LEGEND_CHARACTERS) for group in shown
    ]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure, both = panels(1, 2, height=2.9 + 0.19 * lines)
    for axes, metric, title in zip(
        both, ("top1", "balanced_accuracy"), ("top-1 (%)", "balanced (%)")
    ):
        title += f", {shown[0].watched_on} images"
        for number, group in enumerate(shown):
            color, line = list(COLORS.values())[number % len(COLORS)], LINES[number // len(COLORS)]
            table = curves(group, metric)
            axes.plot(
                table.index,
                table["mean"],
                line,
                color=color,
                marker=".",
                markersize=4,
                linewidth=1.4,
                label=labels[number],
            )
            axes.fill_between(
                table.index, table["lowest"], table["highest"], color=color, alpha=0.15, linewidth=0
            )
        axes.set(xlabel="epoch", title=title, ylim=(0, 100))
    figure.legend(
        *both[0].get_legend_handles_labels(), loc="outside lower left", fontsize=7.5, ncols=1
    )
    return figure


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """A confusion matrix (K, K), as parts of the true class, with the counts written in where
    there is room.
    """
    part = matrix / matrix.sum(1, keepdims=True).clip(1)
    size = max(3.0, min(WIDTH, 0.5 * len(matrix) + 1.4))
    figure, (axes,) = panels(1, 1, height=size, width=size + 0.8)
    axes.imshow(part, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    letters = 8 if len(matrix) <= 10 else 5
    for i, j in np.argwhere(matrix):
        axes.text(
            j,
            i,
            matrix[i, j],
            ha="center",
            va="center",
            fontsize=letters,
            color="white" if part[i, j] > 0.55 else "#374151",
        )
    axes.set(
        xticks=range(len(matrix)),
        yticks=range(len(matrix)),
        yticklabels=classes,
        xlabel="predicted class",
        ylabel="true class",
    )
    axes.set_xticklabels(classes, rotation=45, ha="right", rotation_mode="anchor")
    return figure


def reliability(seeds: Sequence[predictions.Predictions]) -> Figure:
    """Accuracy against confidence, bin by bin: a dot for each seed, the mean over all predictions a
    bar; below, how many images of one seed each bin holds (mean). The seeds saw the same images, so
    that they are not added up.
    """
    each = [predictions.reliability(one) for one in seeds]
    figure, (axes, below) = panels(2, 1, height=4.2, width=4.6, heights=(3, 1))
    place = dict(width=1 / predictions.BINS, align="edge", edgecolor="white")
    every = pd.concat(each)
    every = every.assign(right=every["accuracy"] * every["images"])
    total = every.groupby("low")[["right", "images"]].sum()
    axes.plot([0, 1], [0, 1], "--", color=COLORS["grey"], linewidth=1, label="as sure as right")
    axes.bar(
        total.index, total["right"] / total["images"], color=COLORS["blue"], alpha=0.35, **place
    )
    for bins in each:
        axes.plot(
            bins["confidence"],
            bins["accuracy"],
            "o",
            color=COLORS["blue"],
            markersize=4,
            alpha=0.8,
            label="a seed" if bins is each[0] else None,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="part that is right", xticklabels=[])
    axes.legend(loc="upper left")
    below.bar(total.index, total["images"] / len(seeds), color=COLORS["grey"], **place)
    below.set(xlim=(0, 1), xlabel="probability of the predicted class", ylabel="images\nof a seed")
    return figure


def plate(table: pd.DataFrame, images: Sequence[np.ndarray]) -> Figure:
    """Wrong predictions (`predictions.mistakes`) with their images: both classes, and the
    probability of the wrong one.
    """
    columns = 3
    rows = max(1, -(-len(images) // columns))
    figure, axes = panels(rows, columns, height=2.5 * rows)
    for axis in axes[len(images) :]:
        axis.set_axis_off()
    for axis, image, row in zip(axes, images, table.itertuples()):
        picture(axis, image)
        axis.set_title(
            f"{row.true}\nsaid: {row.predicted}\n({100 * row.probability:.0f} %)", fontsize=8.5
        )
    return figure
