"""What augmentation does to single images and their labels, and to the classes of a batch."""

import textwrap

import pandas as pd
from matplotlib.figure import Figure

from astroformer.figures.style import COLORS, WIDTH, panels
from astroformer.reading.augmentation import Shown

# inches: column heads, row heads, between pictures, a line of text
HEAD, LEFT, GAP, LINE = 0.22, 1.05, 0.06, 0.11


def plate(shown: dict[str, list[Shown]]) -> Figure:
    """A column for each way, a row for each image, headed by the label of the first column; below a
    picture the label with which it is trained, where that is another one.
    """
    first = next(iter(shown.values()))
    side = (WIDTH - LEFT) / len(shown) - GAP
    below = [
        [
            _lines(ways[row].label, side) if ways[row].label != first[row].label else []
            for ways in shown.values()
        ]
        for row in range(len(first))
    ]
    heights = [side + GAP + LINE * max(map(len, labels)) for labels in below]
    figure, (axis,) = panels(1, 1, height=HEAD + sum(heights))
    figure.set_layout_engine("none")  # everything has its place in inches
    axis.set_position((0, 0, 1, 1))
    top = HEAD
    for row, (labels, height) in enumerate(zip(below, heights)):
        axis.text(
            LEFT - GAP,
            top + side / 2,
            "\n".join(textwrap.wrap(first[row].label.replace("_", " "), 15)),
            ha="right",
            va="center",
            fontsize=8,
        )
        for column, (ways, lines) in enumerate(zip(shown.values(), labels)):
            x = LEFT + column * (side + GAP)
            axis.imshow(ways[row].pixels, extent=(x, x + side, top + side, top))
            axis.text(
                x + side / 2,
                top + side + 0.02,
                "\n".join(lines),
                ha="center",
                va="top",
                fontsize=6.5,
                color=COLORS["red"],
            )
        top += height
    for column, name in enumerate(shown):
        axis.text(
            LEFT + column * (side + GAP) + side / 2,
            HEAD - GAP,
            name,
            ha="center",
            va="bottom",
            fontsize=9,
        )
    axis.set(xlim=(0, WIDTH), ylim=(top, 0), aspect="equal")
    axis.set_axis_off()
    return figure


def _lines(label: str, width: float) -> list[str]:
    """A line for each part of a mixed label, more where a part is longer than so many inches."""
    return [
        line
        for part in label.replace("_", " ").split(" + ")
        for line in textwrap.wrap(part, int(width / 0.048), subsequent_indent=" ")
    ]


def class_counts_by_batch(counted: pd.DataFrame, classes: tuple[str, ...]) -> Figure:
    """Images of each class in every batch (`reading.sampling.batch_counts`), a panel for each
    sampling: a dot a batch, its area how many batches coincide.
    """
    samplings = list(dict.fromkeys(counted["sampling"]))
    figure, axes = panels(1, len(samplings), height=0.24 * len(classes) + 1.0)
    for i, (axis, sampling) in enumerate(zip(axes, samplings)):
        often = (
            counted[counted["sampling"] == sampling]
            .groupby(["class", "images"])
            .size()
            .reset_index(name="batches")
        )
        axis.scatter(
            often["images"],
            [classes.index(name) for name in often["class"]],
            s=60 * often["batches"] / often["batches"].max(),
            color=COLORS["blue"],
            edgecolor="white",
            linewidth=0.4,
        )
        axis.set(
            title=sampling,
            xlabel="images in a batch",
            yticks=range(len(classes)),
            yticklabels=classes if i == 0 else [],
            xlim=(-1, counted["images"].max() + 1),
            ylim=(len(classes) - 0.5, -0.5),
        )
        axis.tick_params(labelsize=8)
    return figure
