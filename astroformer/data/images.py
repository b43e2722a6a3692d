"""What every data set gives: images in memory as uint8 with their labels, and the seeded,
stratified ways to take a part.

`Images` is the one type between the sources (`galaxies.py`, `folder.py`) and everything that trains
or measures.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from PIL import Image

from astroformer.data.pixels import Decoded, pictured, stored_or_cut
from astroformer.data.values import Reading


class Pixels(Protocol):
    """An array of images, or something that reads one when asked, `pixels.Decoded`: item i is the
    square that a network sees, uint8 (size, size, C).
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> np.ndarray: ...


@dataclass(frozen=True)
class About:
    """What must be said beside a number measured on a data set."""

    name: str  # short, as in file names and tables
    title: str  # as a column may be headed
    kind: str  # "real", "re-encoded" or "synthetic"
    sha256: str = ""  # of the images and labels: what "the same data" means
    note: str = ""  # licence, credit, what the images are not
    # pairs of classes that are mirror images of one another
    mirrored: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()  # to be said once, before the images are used


@dataclass(frozen=True)
class Images:
    """A split: N images of one size, uint8 (N, H, W, C), labels (N,) int64, and the names of the
    classes.

    objects: a number for each image, (N,) int64, the same for those that show one object, where
        that is known: they belong to one part of a split
    targets: (N, K) float32, probabilities of the classes that training aims at in place of the
        label alone, where there are such
    """

    pixels: Pixels = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    image_size: int  # pixels, height and width
    split: str  # "train", "validation" or "test"
    about: About
    objects: np.ndarray | None = field(default=None, repr=False)
    targets: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """Of an image: 3, but for those with other bands."""
        if isinstance(self.pixels, np.ndarray):
            return self.pixels.shape[3]
        return getattr(self.pixels, "channels", 3)

    @property
    def reading(self) -> Reading | None:
        """How the files' values become these images, where they hold values or bands are named."""
        read = getattr(self.pixels, "read", None)
        return read if isinstance(read, Reading) else None

    def array(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Images `start` to `stop`, or all, as squares: uint8 (n, size, size, C)."""
        some = range(len(self))[start:stop]
        if isinstance(self.pixels, np.ndarray):
            return np.array(self.pixels[some.start : some.stop])
        return self.pixels.take(np.asarray(some)).all()

    def whole(self, index: int) -> np.ndarray:
        """An image as it is stored, uint8 (H, W, C): what crops of random size are cut from."""
        whole = getattr(self.pixels, "whole", self.pixels.__getitem__)
        return whole(index)

    def picture(self, index: int) -> np.ndarray | Image.Image:
        """The same for Pillow, without a copy where a file is decoded; an array where Pillow has
        no such image.
        """
        made = getattr(self.pixels, "picture", None)
        return pictured(self.pixels[index]) if made is None else made(index)

    def cut(self, *, crop_pct: float, interpolation: str = "bicubic") -> "Images":
        """The same images with squares cut in another way, from the images as they are stored."""
        if isinstance(self.pixels, Decoded):
            pixels = self.pixels.changed(
                crop_pct=crop_pct, interpolation=interpolation, squares=None
            )
        else:
            pixels = stored_or_cut(
                self.pixels, self.image_size, crop_pct=crop_pct, interpolation=interpolation
            )
        return replace(self, pixels=pixels)

    def counts(self) -> np.ndarray:
        """Images of each class, (K,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def target(self, index: int) -> int | np.ndarray:
        """What training aims at for an image: its label, or probabilities (K,)."""
        return int(self.labels[index]) if self.targets is None else self.targets[index]

    def take(self, indices: np.ndarray, split: str | None = None) -> "Images":
        pixels = (
            self.pixels[indices]
            if isinstance(self.pixels, np.ndarray)
            else self.pixels.take(indices)
        )
        own = {
            name: None if (values := getattr(self, name)) is None else values[indices]
            for name in ("labels", "objects", "targets")
        }
        return replace(self, pixels=pixels, split=split or self.split, **own)

    def some_classes(self, fraction: float) -> "Images":
        """Only the images of a part of the classes, which are drawn once and for all; a smaller
        part lies within a larger one. The title says how many.
        """
        chosen = some_of(len(self.classes), fraction)
        number = len(chosen)
        if number == len(self.classes):
            return self
        kept = self.take(np.flatnonzero(np.isin(self.labels, chosen)))
        names = tuple(self.classes[i] for i in chosen)
        about = replace(
            self.about,
            title=f"{self.about.title} ({number} of {len(self.classes)} classes)",
            mirrored=tuple(pair for pair in self.about.mirrored if set(pair) <= set(names)),
        )
        labels, targets = np.searchsorted(chosen, kept.labels), kept.targets
        if targets is not None:  # what the others have is shared out
            targets = targets[:, chosen] / targets[:, chosen].sum(1, keepdims=True)
        return replace(kept, labels=labels, classes=names, about=about, targets=targets)

    def ready(self, report: Callable[[str], None], *, whole: bool = False) -> "Images":
        """The same images for what asks for each many times: a source that reads on demand may do
        it once now, for squares or (`whole`) for the images as they are stored.
        """
        if isinstance(self.pixels, np.ndarray):
            return self
        return replace(self, pixels=self.pixels.ready(report, whole=whole))

    def mirror_labels(self) -> np.ndarray:
        """(K,): the label that an image has after a reflection. Only classes of a handedness
        change.
        """
        after = np.arange(len(self.classes))
        for left, right in self.about.mirrored:
            i, j = self.classes.index(left), self.classes.index(right)
            after[i], after[j] = j, i
        return after

    def statistics(self, at_most: int = 5_000) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, in units of 0..1, over at most that many
        images, evenly spaced.
        """
        # of each value; the images themselves together would fill the memory
        channels = range(self.channels)
        counts = np.zeros((len(channels), 256), dtype=np.int64)
        # folders are sorted by class
        for i in np.linspace(0, len(self) - 1, min(len(self), at_most)).astype(int):
            pixels = self.pixels[i].reshape(-1, len(channels))
            counts += [np.bincount(pixels[:, c], minlength=256) for c in channels]
        values, number = np.arange(256) / 255, counts.sum(1)
        mean = counts @ values / number
        deviation = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / number).clip(min=1e-3)
        return [round(float(v), 4) for v in mean], [round(float(v), 4) for v in deviation]


def of_bands(values: Sequence[float], channels: int) -> list[float]:
    """What is said of red, green and blue, such as their mean, for images of so many channels: of
    other numbers than three the average for each, as a first layer's weights are brought to them.
    """
    if channels == len(values):
        return list(values)
    return [float(np.mean(values))] * channels


def some_of(classes: int, fraction: float) -> np.ndarray:
    """The labels of a part of the classes, sorted: at least two, drawn once and for all."""
    if not 0 < fraction <= 1:
        raise ValueError(
            f"class_fraction {fraction} is outside (0, 1]; 0.05 keeps every twentieth class"
        )
    number = max(2, round(fraction * classes))
    return np.sort(np.random.default_rng(0).permutation(classes)[:number])


def stratified(labels: np.ndarray, fraction: float, seed: int, *, leave: int = 0) -> np.ndarray:
    """Sorted indices of `fraction` of each class, drawn by `seed`: at least one image of each, and
    at most all but `leave`, whichever leaves more.

    Nested: a smaller fraction of the same seed is part of a larger one, so a low-data curve only
    ever adds images.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction} is outside (0, 1]; 0.1 keeps a tenth of each class")
    chosen = [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, int(label)]).permutation(len(members))
        number = min(max(1, round(fraction * len(members))), len(members) - leave)
        chosen.append(members[order[:number]])
    return np.sort(np.concatenate(chosen))


def held_out(
    labels: np.ndarray, fraction: float, seed: int, objects: np.ndarray | None = None
) -> np.ndarray:
    """Sorted indices of `fraction` of each class, to be kept from training. A class keeps an image
    to be trained on: one that has a single image holds out none.

    objects: as of `Images`; those that show one object are held out together, and an object
        belongs to the class of the first of its images
    """
    if objects is None:
        chosen = stratified(labels, fraction, seed, leave=1)
    else:
        _, first, own = np.unique(objects, return_index=True, return_inverse=True)
        drawn = stratified(labels[first], fraction, seed, leave=1)
        chosen = np.flatnonzero(np.isin(own, drawn))
    if not len(chosen):
        raise ValueError(
            f"validation={fraction:g} of {len(labels):,} images holds out none, since each class "
            "has one image and that is for training; add images"
        )
    return chosen


def fingerprint(*parts: bytes | str) -> str:
    """SHA-256 over the parts, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
