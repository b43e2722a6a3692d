"""What a data set looks like to a network: some images of each class, and how their values are
spread before and after the stretch.
"""

import numpy as np
from matplotlib.figure import Figure

from astroformer.data import Images
from astroformer.data.pixels import Decoded, read_deep
from astroformer.data.stretch import Stretch
from astroformer.figures.style import COLORS

ROWS, COLUMNS = 10, 8  # classes and images of each, at most
LOOKED_AT = 200  # images of the histograms, evenly spaced
INCHES = 0.9  # side of an image


def contact_sheet(images: Images) -> Figure:
    """The first classes in rows, evenly spaced images of each in columns, as squares; below, the
    values of evenly spaced images as a network sees them and, of a folder with a stretch, as its
    files hold them, with the limits of the stretch.
    """
    classes = images.classes[:ROWS]
    stretch = _stretch_of(images)
    figure = Figure(figsize=(INCHES * (COLUMNS + 1.5), INCHES * len(classes) + 2.6))
    above, below = np.ravel(
        figure.subfigures(2, 1, squeeze=False, height_ratios=(INCHES * len(classes), 2.6))
    )
    axes = above.subplots(
        len(classes), COLUMNS, squeeze=False, gridspec_kw={"wspace": 0.05, "hspace": 0.05}
    )
    above.subplots_adjust(left=0.2, right=0.99, bottom=0.01, top=0.98)
    for row, name in zip(axes, classes, strict=True):
        members = np.flatnonzero(images.labels == images.classes.index(name))
        shown = members[np.unique(np.linspace(0, len(members) - 1, COLUMNS).astype(int))]
        for place, one in enumerate(row):
            one.set(xticks=[], yticks=[])
            one.set_visible(place < len(shown))
            if place < len(shown):
                one.imshow(images.pixels[int(shown[place])])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    drawn = below.subplots(1, 2 if stretch else 1, squeeze=False)[0]
    below.subplots_adjust(left=0.1, right=0.98, bottom=0.22, top=0.86, wspace=0.25)
    some = np.unique(np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).astype(int))
    if stretch:
        _before(drawn[0], images, stretch, some)
    _after(drawn[-1], images, some)
    return figure


def _stretch_of(images: Images) -> Stretch | None:
    read = images.pixels.read if isinstance(images.pixels, Decoded) else None
    found = getattr(read, "keywords", {}).get("stretch")
    return found if isinstance(found, Stretch) else None


def _before(axes, images: Images, stretch: Stretch, some: np.ndarray) -> None:
    assert isinstance(images.pixels, Decoded)  # as whatever has a stretch
    values = [read_deep(images.pixels.sources[int(i)]).ravel() for i in some]
    values = np.concatenate(values)
    values = values[np.isfinite(values)]
    axes.hist(values, bins=100, color=COLORS["grey"], log=True)
    for limit in (stretch.low, stretch.high):
        axes.axvline(limit, color=COLORS["orange"])
    axes.set_title(f"in the files; limits of {stretch.name}", fontsize=9, loc="left")
    axes.set(xlabel="value", ylabel="pixels")


def _after(axes, images: Images, some: np.ndarray) -> None:
    counts = np.zeros((3, 256), dtype=np.int64)
    for i in some:
        pixels = images.pixels[int(i)].reshape(-1, 3)
        counts += [np.bincount(pixels[:, channel], minlength=256) for channel in range(3)]
    grey = (counts == counts[0]).all()
    channels = {"grey": "grey"} if grey else {"red": "red", "green": "green", "blue": "blue"}
    for count, (name, color) in zip(counts, channels.items(), strict=False):
        axes.step(range(256), np.maximum(count, 0.5), where="mid", color=COLORS[color], label=name)
    axes.set(xlabel="value", ylabel="" if grey else "pixels", yscale="log", xlim=(0, 255))
    axes.set_title("as a network sees them", fontsize=9, loc="left")
    if not grey:
        axes.legend(fontsize=8)
