"""What was measured, a panel a data set: each group of runs with its interval, beside guessing."""

import math

import pandas as pd
from matplotlib.figure import Figure

from astroformer import contrasts
from astroformer.figures.style import COLORS, panels
from astroformer.ledger import tables

LONGEST = 34  # letters of a label
ROW, HEAD = 0.27, 0.85  # inches


def dots(frame: pd.DataFrame) -> Figure:
    """Top-1 accuracy of the runs that differ in nothing but the seed, with the 95 % interval over
    seeds where there are at least three, and the accuracy of guessing among as many classes.

    frame: `records.frame()`
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for group in tables.groups(frame):
        found.setdefault(tables.title(group.iloc[0]), []).append(group)
    titles = sorted(found)
    heights = [HEAD + ROW * len(found[title]) for title in titles] or [1.0]
    figure, axes = panels(len(heights), 1, height=sum(heights), heights=heights)
    for axis, title in zip(axes, titles):
        groups = sorted(found[title], key=_mean)
        _panel(axis, title, list(zip(_labels(groups), groups)))
    return figure


def _labels(groups: list[pd.DataFrame]) -> list[str]:
    """The network, and what of its options and recipe the others of that network do not share."""
    told = []
    for group in groups:
        first = group.iloc[0]
        words = filter(None, tables.options(first).split(", "))
        told.append((first["model"], [*words, *tables.recipe(group).split("+")]))
    labels = []
    for model, words in told:
        alike = [set(other) for name, other in told if name == model]
        common = set.intersection(*alike)
        own = [word for word in words if word not in common]
        labels.append(", ".join([model, *own]))
    return labels


def _mean(group: pd.DataFrame) -> float:
    return float(tables.metric(group, "top1").astype(float).mean())


def _panel(axis, title: str, groups: list[tuple[str, pd.DataFrame]]) -> None:
    classes = groups[0][1]["dataset.classes"].dropna()
    if len(classes):
        axis.axvline(100 / float(classes.iloc[0]), color=COLORS["grey"], linestyle=":")
    names = []
    for height, (label, group) in enumerate(groups):
        seeds = contrasts.mean(tables.metric(group, "top1"))
        mean, known = _mean(group), math.isfinite(seeds.low)
        error = [[mean - seeds.low], [seeds.high - mean]] if known and len(group) > 2 else None
        color = COLORS["orange" if tables.is_pilot(group) else "blue"]
        axis.errorbar(mean, height, xerr=error, fmt="o", color=color, capsize=3, markersize=5)
        short = label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"
        names.append(f"{short} ({len(group)})")
    axis.set(yticks=range(len(names)), yticklabels=names, ylim=(-0.7, len(names) - 0.3))
    axis.set(xlim=(0, 100), xlabel="top-1 (%)")
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axis.tick_params(axis="y", length=0)
