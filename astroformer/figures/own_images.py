"""Pictures of predictions of one's own images."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from astroformer.figures.style import COLORS, panels
from astroformer.inference.unlike import THRESHOLD


def unlike(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """How unlike the training images each image is (`unlike` of a table of predictions), a row of
    dots for each table; beyond the line one in a hundred images like the training ones lies.
    """
    figure, (axes,) = panels(1, 1, height=0.7 + 0.55 * len(tables))
    colors = [COLORS["blue"], COLORS["orange"], COLORS["green"], COLORS["grey"]]
    draws = np.random.default_rng(0)
    for row, table in enumerate(tables.values()):
        values = table["unlike_distance"].dropna().to_numpy(float)
        axes.plot(
            values,
            row + draws.uniform(-0.2, 0.2, len(values)),
            "o",
            color=colors[row % len(colors)],
            markersize=4,
            alpha=0.7,
        )
        flagged = int((table["unlike"] > THRESHOLD).sum())
        axes.annotate(
            f"{flagged} of {len(values)} are unlike",
            (1.01, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
        )
    axes.set(
        yticks=range(len(tables)),
        yticklabels=list(tables),
        ylim=(len(tables) - 0.5, -0.5),
        xlim=(0, None),
        xlabel="distance of the features from those of the training images",
    )
    return figure
