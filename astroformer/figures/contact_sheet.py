"""What a data set looks like to a network: some images of each class, and how their values are
spread before and after the stretch.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from astroformer.data import Images, values
from astroformer.data.pixels import Decoded, shown
from astroformer.data.stretch import Stretch
from astroformer.data.values import Reading
from astroformer.figures.style import COLORS

ROWS, COLUMNS = 10, 8  # classes and images of each, at most
LOOKED_AT = 200  # images of the histograms, evenly spaced
INCHES = 0.9  # side of an image


def contact_sheet(images: Images) -> Figure:
    """The first classes in rows, evenly spaced images of each in columns, as squares; below, the
    values of evenly spaced images as a network sees them and, of a folder with a stretch, as its
    files hold them, with the limits of the stretch. One band is grey, of more than three a few are
    shown in colour (`pixels.shown`).
    """
    classes = images.classes[:ROWS]
    reading = images.reading if images.reading and images.reading.stretch else None
    # by pyplot, which makes it one that a notebook shows; its places are set here
    figure = plt.figure(
        figsize=(INCHES * (COLUMNS + 1.5), INCHES * len(classes) + 2.6), layout="none"
    )
    plt.close(figure)
    above, below = np.ravel(
        figure.subfigures(2, 1, squeeze=False, height_ratios=(INCHES * len(classes), 2.6))
    )
    axes = above.subplots(
        len(classes), COLUMNS, squeeze=False, gridspec_kw={"wspace": 0.05, "hspace": 0.05}
    )
    above.subplots_adjust(left=0.2, right=0.99, bottom=0.01, top=0.98)
    for row, name in zip(axes, classes, strict=True):
        members = np.flatnonzero(images.labels == images.classes.index(name))
        chosen = members[np.unique(np.linspace(0, len(members) - 1, COLUMNS).astype(int))]
        for place, one in enumerate(row):
            one.set(xticks=[], yticks=[])
            one.set_visible(place < len(chosen))
            if place < len(chosen):
                one.imshow(shown(images.pixels[int(chosen[place])]))
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    drawn = below.subplots(1, 2 if reading else 1, squeeze=False)[0]
    below.subplots_adjust(left=0.1, right=0.98, bottom=0.22, top=0.86, wspace=0.25)
    some = np.unique(np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).astype(int))
    if reading:
        _before(drawn[0], images, reading, some)
    _after(drawn[-1], images, some)
    return figure


def _channels(images: Images) -> list[tuple[str, str]]:
    """The name of each channel and its colour."""
    reading, number = images.reading, images.channels
    names = reading.names if reading else ("",) * number
    if number == 1:
        return [(names[0] or "grey", COLORS["grey"])]
    usual = ("red", "green", "blue") if number == 3 else tuple(COLORS)
    return [
        (name or (usual[place] if number == 3 else f"band {place}"), COLORS[usual[place % 6]])
        for place, name in enumerate(names)
    ]


def _before(axes, images: Images, reading: Reading, some: np.ndarray) -> None:
    assert isinstance(images.pixels, Decoded)  # as whatever has a stretch
    read = [values.read(images.pixels.sources[int(i)], reading.bands) for i in some]
    bands = [
        np.concatenate([one[:, :, band].ravel() for one in read])
        for band in range(read[0].shape[2])
    ]
    bands = [band[np.isfinite(band)] for band in bands]
    known = np.concatenate(bands)
    edges = np.linspace(known.min(), known.max() + 1e-9, 101) if len(known) else 100
    channels = _channels(images) if len(bands) > 1 else [("", COLORS["grey"])]
    for band, (name, color) in zip(bands, channels, strict=True):
        if len(bands) == 1:
            axes.hist(band, bins=100, color=color, log=True)
        else:
            axes.hist(band, bins=edges, color=color, log=True, histtype="step", label=name)
    stretch = reading.stretch
    if isinstance(stretch, Stretch) and stretch.low:
        several = len(stretch.low) > 1
        for low, high, (_, color) in zip(stretch.low, stretch.high, channels):
            for limit in (low, high):
                axes.axvline(limit, color=color if several else COLORS["orange"], linestyle="--")
        axes.set_title(f"in the files; limits of {stretch.name}", fontsize=9, loc="left")
    elif stretch is not None:
        axes.set_title(f"in the files; {stretch.name}", fontsize=9, loc="left")
    axes.set(xlabel="value", ylabel="pixels")
    if len(bands) > 1:
        axes.legend(fontsize=8)


def _after(axes, images: Images, some: np.ndarray) -> None:
    channels = _channels(images)
    counts = np.zeros((len(channels), 256), dtype=np.int64)
    for i in some:
        pixels = images.pixels[int(i)].reshape(-1, len(channels))
        counts += [np.bincount(band, minlength=256) for band in pixels.T]
    grey = (counts == counts[0]).all()
    if grey:
        channels = [("grey", COLORS["grey"])]
    for count, (name, color) in zip(counts, channels, strict=False):
        axes.step(range(256), np.maximum(count, 0.5), where="mid", color=color, label=name)
    axes.set(xlabel="value", ylabel="" if grey else "pixels", yscale="log", xlim=(0, 255))
    axes.set_title("as a network sees them", fontsize=9, loc="left")
    if not grey:
        axes.legend(fontsize=8)
