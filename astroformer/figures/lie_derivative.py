"""Pictures of the Lie derivative: which kinds of layer it comes from, before and after training."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from astroformer.figures.style import COLORS, panels

HEIGHT = 0.42  # inches for the two bars of a kind
# of the largest bar: what is smaller in both tables is zero, and is named below instead of drawn
ROUNDING = 1e-9
LABELS = {
    "share (%)": "share of the Lie derivative (%)",
    "size": "change of the logits per pixel, in their own norm",
}


def by_kind(before: pd.DataFrame, after: pd.DataFrame, *, column: str = "share (%)") -> Figure:
    """Horizontal bars by kind of layer, the largest after training on top; whiskers where a table
    has the column `half`, half the width of a 95 % interval in the units of `column`.

    before, after: as of equivariance.lie_derivative.by_kind, of one network with two sets of
        weights; column: "share (%)" or "size".
    """
    if column not in LABELS:
        raise ValueError(f'column="{column}" is not known; choose {" or ".join(LABELS)}')
    if set(before.index) != set(after.index):
        raise ValueError(
            f"{', '.join(sorted(set(before.index) ^ set(after.index)))}: in one "
            "table only; give two of the same network"
        )
    largest = before[column].abs().combine(after[column].abs(), max)
    kinds = [
        kind
        for kind in after[column].sort_values().index
        if largest[kind] > ROUNDING * largest.max()
    ]
    figure, (axis,) = panels(1, 1, height=HEIGHT * len(kinds) + 1.1)
    for table, label, color, above in (
        (before, "before training", "orange", 0.2),
        (after, "after training", "blue", -0.2),
    ):
        shown = table.loc[kinds]
        axis.barh(
            np.arange(len(kinds)) + above,
            shown[column],
            height=0.38,
            color=COLORS[color],
            label=label,
            xerr=shown.get("half"),
            error_kw={"elinewidth": 1.2, "capsize": 2.5},
        )
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(yticks=range(len(kinds)), yticklabels=kinds, xlabel=LABELS[column])
    axis.grid(False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2, borderaxespad=0.2)
    zero = [kind for kind in before.index if kind not in kinds]
    if zero:
        figure.supxlabel(
            "\n".join(textwrap.wrap("zero to rounding: " + ", ".join(zero), 75)), fontsize=9
        )
    return figure
