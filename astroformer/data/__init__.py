"""Data sets behind one door: the table `DATASETS`, and `load(name, split, ...)`, `about`, `classes`
of any of them.

`SOURCES` says which module reads which. Each has the same three functions, and names in OWN what it
takes beside their common arguments.
"""

from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np

from astroformer import paths
from astroformer.data import folder, galaxies, galaxy10, imagenet, tiny_imagenet, torchvision_sets
from astroformer.data.images import About, Images, stratified
from astroformer.data.table import DATASETS, DataSet

__all__ = [
    "DATASETS",
    "SOURCES",
    "About",
    "DataSet",
    "Images",
    "about",
    "classes",
    "load",
    "native_image_size",
    "root_of",
    "stratified",
]

SOURCES: dict[str, ModuleType] = {
    "galaxies": galaxies,
    "folder": folder,
    "tiny_imagenet": tiny_imagenet,
    "galaxy10_decals": galaxy10,
    "imagenet1k": imagenet,
    **dict.fromkeys(torchvision_sets.TITLES, torchvision_sets),
}
OWN = {
    "train_images": "is for generated data; take a part of other data with fraction=0.1 instead",
    "test_images": "is for data without an official split",
    "split_seed": "is for data without an official split",
}


def load(
    name: str,
    split: str,
    *,
    image_size: int | None = None,
    data_dir: str | Path | None = None,
    train_images: int | None = None,
    test_images: int | None = None,
    split_seed: int = 0,
    class_fraction: float = 1.0,
    fraction: float = 1.0,
    seed: int = 0,
    validation: float = 0.0,
    crop_pct: float | None = None,
) -> Images:
    """One split of a data set, as uint8 (N, H, W, 3) with labels.

    split: "train", "validation" or "test"; validation is taken from train, never from test
    image_size: pixels; None means the data set's own
    data_dir: the ImageFolder of `folder`; where the files of a data set with a name lie, None
        meaning ASTROFORMER_DATA
    train_images: how many training images `galaxies` makes; None means the table's number
    test_images, split_seed: of `galaxy10_decals`, which has no official split: how many to test on,
        drawn by which seed
    class_fraction: part of the classes, with all their images; which ones does not depend on any
        seed
    fraction: part of each class of the training images to keep (nested, stratified, drawn by
        `seed`)
    validation: part of each class of the training images to hold out, before `fraction` (always the
        same ones)
    crop_pct: part of the shorter side that the middle square keeps; None means the data set's own,
        see `load_folder`
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split {split!r} is not known; choose train, validation or test")
    if split == "validation" and not validation:
        raise ValueError(
            'split "validation" needs validation=0.1, say: the part of train to hold out'
        )
    own = _own(
        name, train_images=train_images, test_images=test_images, split_seed=split_seed or None
    )
    images = _load(
        _checked(name),
        "test" if split == "test" else "train",
        image_size,
        root_of(name, data_dir),
        crop_pct,
        own,
    )
    if class_fraction != 1:
        images = images.some_classes(class_fraction)
    if split == "test":
        return images
    if validation:
        held_out = stratified(images.labels, validation, seed=0)
        if split == "validation":
            return images.take(held_out, "validation")
        images = images.take(np.setdiff1d(np.arange(len(images)), held_out))
    return images if fraction == 1 else images.take(stratified(images.labels, fraction, seed))


def _own(name: str, **given: object) -> tuple[tuple[str, object], ...]:
    """The arguments that one source alone takes, if they were given; ValueError where another
    source was named.
    """
    own = {key: value for key, value in given.items() if value is not None}
    for key in own:
        if key not in SOURCES[_checked(name)].OWN:
            raise ValueError(f"{key} {OWN[key]}; {DATASETS[name].title} is not")
    return tuple(own.items())


@lru_cache(maxsize=4)
def _load(
    name: str,
    split: str,
    image_size: int | None,
    root: Path | None,
    crop_pct: float | None,
    own: tuple,
) -> Images:
    """A whole split, kept in memory while the process lives: pages and tests ask for the same
    one many times.
    """
    return SOURCES[name].load(
        name, root, split, image_size=image_size, crop_pct=crop_pct, **dict(own)
    )


def about(name: str, data_dir: str | Path | None = None, train_images: int | None = None) -> About:
    """What must be said beside a number, with the fingerprint of the data: of the files, or of
    the generator's recipe.
    """
    root = root_of(name, data_dir)
    return SOURCES[name].about(name, root, **dict(_own(name, train_images=train_images)))


def classes(name: str, data_dir: str | Path | None = None) -> tuple[str, ...]:
    """Names, in the order of the labels."""
    root = root_of(name, data_dir)
    return SOURCES[name].classes(name, root)


def native_image_size(name: str, data_dir: str | Path | None = None) -> int:
    """Pixels, when nothing else is asked for."""
    return DATASETS[_checked(name)].image_size or folder.native_size(root_of(name, data_dir))


def root_of(name: str, data_dir: str | Path | None) -> Path | None:
    """Where the files lie: an existing path, else a name below ASTROFORMER_DATA; None for
    generated data.
    """
    if _checked(name) == "galaxies":
        return None
    if name == "folder" and data_dir is None:
        raise ValueError(
            "the data set `folder` needs --data-dir ROOT (or data_dir=...): "
            "ROOT/train/<class>/*.jpg, "
            "ROOT/test/..."
        )
    if data_dir is None:
        # as torchvision's root=
        return paths.data() / imagenet.FOLDER if name == "imagenet1k" else paths.data()
    below, given = paths.data() / Path(data_dir), Path(data_dir).expanduser()
    root = below if below.is_dir() and not given.is_dir() else given
    return folder.existing(root) if name == "folder" else root


def _checked(name: str) -> str:
    if name not in DATASETS:
        raise ValueError(f"data set {name!r} is not known; choose one of {', '.join(DATASETS)}")
    return name
