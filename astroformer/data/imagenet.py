"""ImageNet-1k from its own tree, `ROOT/train/<wnid>/*.JPEG` and `ROOT/val/<wnid>/*.JPEG`. Never
downloaded, never copied.

Images are decoded one by one when asked for. The test split is `val`, cut as SpectFormer's infer.py
cuts it: shorter side to 256 for 224 pixels, bicubic, the middle. Random-resized crops are cut from
the whole training image; under a recipe with another crop, and for the mean and deviation of the
channels, a training image is its middle square scaled to image_size.

One split alone will do: evaluating needs no `train`. Classes are named by their wnids, and numbered
in their order.
"""

import os
import re
from pathlib import Path

import numpy as np

from astroformer.data import listing as files_of
from astroformer.data import walk
from astroformer.data.images import About, Images, fingerprint
from astroformer.data.pixels import Decoded, read_stored

OWN = ()
TITLE = "ImageNet-1k"
FOLDER = "ILSVRC2012"  # below ASTROFORMER_DATA, when no folder is named
IMAGE_SIZE = 224  # pixels
FOLDERS = {"train": "train", "test": "val"}  # of the splits
FULL = {"train": 1_281_167, "test": 50_000}  # images, in 1,000 classes
WNID = re.compile(r"n\d{8}")
LAYOUT = (
    "expected ROOT/train/<wnid>/*.JPEG and ROOT/val/<wnid>/*.JPEG, with folders such as n01440764"
)


def places(name: str, root: Path) -> list[Path]:
    """What the data set consists of."""
    return [root / folder for folder in FOLDERS.values()]


def load(
    name: str,
    root: Path,
    split: str,
    *,
    image_size: int | None = None,
    crop_pct: float = 1.0,
    interpolation: str = "bicubic",
) -> Images:
    """A split ("train" or "test"), never in memory as a whole."""
    size, names = image_size or IMAGE_SIZE, classes(name, root)
    label_of = {wnid: label for label, wnid in enumerate(names)}
    files = listing(root, split)
    paths = [os.path.join(root, file) for file, _ in files]
    labels = np.array([label_of[file.split("/")[1]] for file, _ in files], dtype=np.int64)
    pixels = Decoded(paths, size, read_stored, crop_pct=crop_pct, interpolation=interpolation)
    return Images(pixels, labels, names, size, split, about(name, root))


def present(root: Path) -> list[str]:
    """The splits that lie there, at least one."""
    found = [split for split, folder in FOLDERS.items() if (root / folder).is_dir()]
    if not found:
        raise FileNotFoundError(
            f"{root} does not hold ImageNet's tree; {LAYOUT}. The images are "
            "given out at "
            "https://image-net.org; name their folder with --data-dir "
            "ILSVRC2012. Any other folder of "
            "images is --dataset folder"
        )
    return found


@files_of.remembered(places)
def classes(name: str, root: Path) -> tuple[str, ...]:
    """The wnids, sorted; both splits must have the same."""
    of_split = {
        split: sorted({file.split("/")[1] for file, _ in listing(root, split)})
        for split in present(root)
    }
    first, *others = of_split.values()
    for other in others:
        if other != first:
            differing = sorted(set(first) ^ set(other))
            raise ValueError(
                f"{len(differing)} classes lie only in one of {root / 'train'} and "
                f"{root / 'val'} "
                f"({', '.join(differing[:5])}); the same folders must be in both"
            )
    if len(first) < 2:
        raise ValueError(f"{root} has one class and a classifier needs two; {LAYOUT}")
    return tuple(first)


@files_of.remembered(lambda root, split: [root / FOLDERS[split]])
def listing(root: Path, split: str) -> tuple[tuple[str, int], ...]:
    """(file below ROOT, bytes) in the order of class and name."""
    folder = root / FOLDERS[split]
    if split not in present(root):
        raise FileNotFoundError(f"{root} has no folder {folder.name}; {LAYOUT}")
    files = []
    for name in (path.name for path in walk.folders_in(folder)):
        if not WNID.fullmatch(name):
            raise ValueError(
                f"{folder / name} is not named by a wnid such as n01440764; for "
                "other classes choose "
                "--dataset folder"
            )
        members = sorted(
            (f"{folder.name}/{name}/{entry.name}", entry.stat().st_size)
            for entry in os.scandir(folder / name)
            if entry.name.lower().endswith((".jpeg", ".jpg")) and not walk.hidden(entry.name)
        )
        if not members:
            raise ValueError(
                f"class {name} of {folder} has no .JPEG files; add them or remove the empty folder"
            )
        files += members
    if not files:
        raise ValueError(f"{folder} has no class folders; {LAYOUT}")
    return tuple(files)


@files_of.remembered(places)
def about(name: str, root: Path) -> About:
    """Title and fingerprint: of every file's path and size, not its bytes, of which the whole
    set has some 150 GB.
    """
    listed = {split: listing(root, split) for split in present(root)}
    number = len(classes(name, root))
    whole = number == 1_000 and all(len(files) == FULL[split] for split, files in listed.items())
    part = ", ".join(f"{len(files):,} {FOLDERS[split]}" for split, files in listed.items())
    return About(
        name,
        TITLE if whole else f"part of {TITLE} ({number:,} classes; images: {part})",
        "real",
        fingerprint(*(f"{file} {size}" for files in listed.values() for file, size in files)),
        "https://image-net.org; the fingerprint is of names and sizes of files",
    )
