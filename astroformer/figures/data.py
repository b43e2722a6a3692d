"""Images of a data set: plates of every class, how often each occurs, how its colours are
spread.
"""

import numpy as np
from matplotlib.figure import Figure

from astroformer.data import Images
from astroformer.figures.style import COLORS, WIDTH, panels, picture


def plate(images: Images, *, each: int = 8, size: int | None = None) -> Figure:
    """The first `each` images of every class, a row a class."""
    classes = len(images.classes)
    figure, axes = panels(classes, 1, height=WIDTH / (each + 2.2) * classes, width=WIDTH)
    for label, name in enumerate(images.classes):
        members = np.flatnonzero(images.labels == label)[:each]
        strip = np.concatenate(
            [
                np.pad(images.pixels[i], ((2, 2), (2, 2), (0, 0)), constant_values=255)
                for i in members
            ],
            axis=1,
        )
        picture(axes[label], strip)
        axes[label].set_ylabel(
            name.replace(" ", "\n", 1), rotation=0, ha="right", va="center", fontsize=9
        )
    return figure


def class_counts(*splits: Images) -> Figure:
    """Bars of the number of images of each class, one colour a split."""
    names = splits[0].classes
    figure, (axes,) = panels(1, 1, height=0.32 * len(names) + 0.8)
    height = 0.8 / len(splits)
    for i, images in enumerate(splits):
        axes.barh(np.arange(len(names)) + i * height, images.counts(), height, label=images.split)
    axes.set(yticks=np.arange(len(names)) + 0.4 - height / 2, yticklabels=names, xlabel="images")
    axes.invert_yaxis()
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(splits))
    return figure


def channel_histograms(images: Images) -> Figure:
    """How bright pixels are in each channel, on a logarithmic axis: a dark sky and few bright
    pixels.
    """
    figure, (axes,) = panels(1, 1, height=2.6)
    channels, colors = images.channels, list(COLORS.values())
    pixels = images.array(stop=500).reshape(-1, channels)
    bands = [
        ("red (z)", COLORS["red"]),
        ("green (r)", COLORS["green"]),
        ("blue (g)", COLORS["blue"]),
    ]
    if channels != 3:
        bands = [(f"band {i}", colors[i % len(colors)]) for i in range(channels)]
    for channel, (name, color) in enumerate(bands):
        counts, edges = np.histogram(pixels[:, channel], bins=64, range=(0, 256))
        axes.stairs(counts / len(pixels), edges, label=name, color=color, linewidth=1.6)
    axes.set(yscale="log", xlabel="pixel value (0 to 255)", ylabel="part of all pixels")
    axes.legend()
    return figure
