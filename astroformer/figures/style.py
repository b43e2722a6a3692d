"""One look for every figure: Okabe and Ito's colours, which survive colour blindness, on white,
readable at 400 pixels.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler

from astroformer.data.pixels import shown
from astroformer.figures import vector

COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "grey": "#6b7280",
}
# inches; fills the column at any width, so letters must be large enough for one of 400 pixels
WIDTH = 6.0

STYLE = {
    "figure.dpi": 200,
    "savefig.bbox": "tight",
    "figure.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=list(COLORS.values())),
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "figure.constrained_layout.use": True,
}


def use() -> None:
    """Applies the style to this process; a page calls it once, after its imports. Tables show
    whole cells, figures carry their SVG.
    """
    plt.rcParams.update(STYLE)
    pd.set_option("display.max_colwidth", None)
    vector.use()


def say(facts: Mapping[str, object], prefix: str = "") -> None:
    """Puts values into the sentences of a page, each under its name behind the prefix."""
    from myst_nb import glue

    for name, value in facts.items():
        glue(f"{prefix}{name}", value, display=False)


def panels(
    rows: int,
    columns: int,
    *,
    height: float,
    width: float = WIDTH,
    heights: Sequence[float] | None = None,
) -> tuple[plt.Figure, list[plt.Axes]]:
    """A figure of rows x columns axes, in reading order; `heights`: of the rows, in proportion. A
    page shows it as the value of a cell.
    """
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, height), squeeze=False, height_ratios=heights
    )
    plt.close(figure)  # only pyplot forgets it; otherwise Jupyter would show it a second time
    return figure, list(axes.flat)


def picture(axes: plt.Axes, image, title: str = "", **options) -> None:
    """An image without ticks or frame; of pixels (H, W, C) with any number of bands."""
    pixels = isinstance(image, np.ndarray) and image.ndim == 3 and image.dtype == np.uint8
    axes.imshow(shown(image) if pixels else image, **options)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title)
