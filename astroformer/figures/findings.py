"""What was found, as pages show it: the board of the claims of principle, and pictures of two
findings, the first and last rates of a schedule, and the floor that label smoothing puts under a
loss.
"""

import re
from html import escape

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from astroformer.figures.style import COLORS, panels
from astroformer.studies import principles

STACK = re.compile(r"[CT](?:-[CT]){3}")


def board(table: pd.DataFrame):
    """The claims of principle (`principles.board`) as HTML whose links lead to the pages of the
    studies, so that it can stand on every page of the book's folder. A sentence that is tested in
    several ways stands once.
    """
    from IPython.display import HTML  # an extra of the book, not of the library

    heads = ("claim", "compared here")
    rows = [
        (
            _light(f"“{row['claim']}” [{row['source']}]"),
            _light(row["compared"]),
            principles.word(row["verdict"], row["pilot"]),
            _link(row["page"]),
            escape(row["number"]),
        )
        for row in table.to_dict("records")
    ]
    shown = pd.DataFrame(rows, columns=[*heads, "verdict", "page", "strongest number"])
    text = shown.set_index(list(heads)).to_html(escape=False, index_names=False, justify="left")
    for head in heads:  # pandas has no row heads with names in one line
        text = text.replace("<th></th>", f"<th>{head}</th>", 1)
    return HTML(text)


def _link(page: str) -> str:
    return f'<a href="{page}.html">{page.replace("_", " ")}</a>' if page else "none"


def _light(text: str) -> str:
    """A sentence at the head of a row, where bold letters would shout; stacks stay in one line."""
    whole = STACK.sub(r'<span style="white-space: nowrap">\g<0></span>', escape(text))
    return f'<div style="font-weight: normal; text-align: left">{whole}</div>'


def first_and_last(schedule: pd.DataFrame, *, final: float, number: int = 12) -> Figure:
    """The first and the last epochs of a schedule (columns epoch, learning rate), with the last
    rate that was announced.
    """
    figure, (first, last) = panels(1, 2, height=2.7)
    for axes, part, title, marked in (
        (first, schedule.head(number), "first epochs", 0),
        (last, schedule.tail(number), "last epochs", -1),
    ):
        epochs, rates = part["epoch"].to_numpy(), part["learning rate"].to_numpy()
        axes.plot(epochs, rates, "o-", color=COLORS["blue"], clip_on=False)
        axes.annotate(
            f"{rates[marked]:.3g}",
            (epochs[marked], rates[marked]),
            xytext=(0, 12),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
        axes.set(xlabel="epoch", title=title, ylim=(0, 1.15 * rates.max()))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
        axes.locator_params(axis="x", integer=True, nbins=6)
    last.axhline(final, color=COLORS["red"], linestyle="--")
    last.annotate(
        "as announced",
        (schedule["epoch"].iloc[-number], final),
        xytext=(0, -12),
        textcoords="offset points",
        fontsize=9,
        color=COLORS["red"],
    )
    first.set_ylabel("learning rate")
    return figure


def floors(table: pd.DataFrame) -> Figure:
    """The loss against the probability that the network gives to the true class, without smoothing
    and with the release's.

    `table` has the columns classes, probability, loss, smoothed, and floor, the lowest that can be
    reached.
    """
    figure, axes = panels(1, table["classes"].nunique(), height=2.7)
    for axis, (classes, part) in zip(axes, table.groupby("classes")):
        axis.plot(
            part["probability"],
            part["loss"],
            color=COLORS["grey"],
            linestyle="--",
            label="not smoothed",
        )
        axis.plot(part["probability"], part["smoothed"], color=COLORS["blue"], label="smoothed")
        floor = part["floor"].iloc[0]
        axis.axhline(floor, color=COLORS["red"], linewidth=1.2)
        axis.annotate(
            f"floor {floor:.3f}",
            (0.98, floor),
            xytext=(0, -12),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color=COLORS["red"],
        )
        axis.set(
            xlabel="probability of the true class",
            title=f"{classes} classes",
            ylim=(0, 2.0),
            xlim=(0.3, 1.0),
            xticks=np.arange(0.4, 1.01, 0.2),
        )
    axes[0].set_ylabel("cross-entropy (nats)")
    axes[-1].legend(loc="upper right")
    return figure
