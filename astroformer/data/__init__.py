"""Data sets behind one door: the table `DATASETS` and `load(name, split, ...)`."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from astroformer import paths
from astroformer.data import galaxies
from astroformer.data.folder import class_names, describe, existing, load_folder, native_size
from astroformer.data.images import About, Images, fingerprint, stratified

__all__ = ["DATASETS", "About", "DataSet", "Images", "about", "load", "native_image_size", "stratified"]


@dataclass(frozen=True)
class DataSet:
    """A row of the table of data sets. None stands for "depends on the folder"."""

    name: str
    title: str
    kind: str                       # "real" or "synthetic"
    classes: tuple[str, ...] | None
    image_size: int | None          # pixels, height and width, as loaded when nothing else is asked for
    train: int | None               # images
    test: int | None
    licence: str
    source: str


DATASETS = {
    "galaxies": DataSet("galaxies", "synthetic galaxies", "synthetic", galaxies.CLASS_NAMES, 64, 2_000, 1_000, "Apache-2.0",
                        "made on this machine by astroformer/data/galaxies.py, in the ten classes of Galaxy10 DECaLS"),
    "folder": DataSet("folder", "an ImageFolder", "real", None, None, None, None, "as the images' owner says",
                      "ROOT/train/<class>/ and ROOT/test/<class>/, named by --data-dir"),
}
GALAXIES_SEED = 0         # the training set: images 0, 1, ... of this seed
GALAXIES_TEST_SEED = 1    # the test set: another seed, so the two share no galaxy whatever their sizes


def load(name: str, split: str, *, image_size: int | None = None, data_dir: str | Path | None = None,
         train_images: int | None = None, fraction: float = 1.0, seed: int = 0, validation: float = 0.0) -> Images:
    """One split of a data set, as uint8 (N, H, W, 3) with labels.

    split: "train", "validation" or "test"; validation is taken from train, never from test
    image_size: pixels; None means the data set's own
    data_dir: the ImageFolder of `folder`
    train_images: how many training images `galaxies` makes; None means the table's number
    fraction: part of each class of the training images to keep (nested, stratified, drawn by `seed`)
    validation: part of each class of the training images to hold out, before `fraction` (always the same ones)
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split {split!r} is not known; choose train, validation or test")
    if split == "validation" and not validation:
        raise ValueError('split "validation" needs validation=0.1, say: the part of train to hold out')
    source = "test" if split == "test" else "train"
    images = _load(_checked(name), source, image_size, None if data_dir is None else str(data_dir), train_images)
    if split == "test":
        return images
    if validation:
        held_out = stratified(images.labels, validation, seed=0)
        if split == "validation":
            return images.take(held_out, "validation")
        images = images.take(np.setdiff1d(np.arange(len(images)), held_out))
    return images if fraction == 1 else images.take(stratified(images.labels, fraction, seed))


@lru_cache(maxsize=4)
def _load(name: str, split: str, image_size: int | None, data_dir: str | None, train_images: int | None) -> Images:
    """A whole split, kept in memory while the process lives: pages and tests ask for the same one many times."""
    described = about(name, data_dir, train_images)
    if name == "folder":
        return load_folder(folder_root(data_dir), split, image_size=image_size)
    row = DATASETS[name]
    size = image_size or row.image_size
    number, seed = (train_images or row.train, GALAXIES_SEED) if split == "train" else (row.test, GALAXIES_TEST_SEED)
    pixels, labels = galaxies.load_galaxies(number, size=size, seed=seed)
    return Images(pixels, labels, row.classes, size, split, described)


def about(name: str, data_dir: str | Path | None = None, train_images: int | None = None) -> About:
    """What must be said beside a number, with the fingerprint of the data: of the files, or of the generator's recipe."""
    if _checked(name) == "folder":
        if train_images is not None:
            raise ValueError("train_images is for generated data; take a part of a folder with fraction=0.1 instead")
        return describe(folder_root(data_dir))
    row = DATASETS[name]
    recipe = (f"{name} version {galaxies.VERSION}, train {train_images or row.train} of seed {GALAXIES_SEED}, "
              f"test {row.test} of seed {GALAXIES_TEST_SEED}")
    return About(name, row.title, row.kind, fingerprint(recipe), row.source)


def classes(name: str, data_dir: str | Path | None = None) -> tuple[str, ...]:
    return class_names(folder_root(data_dir)) if _checked(name) == "folder" else DATASETS[name].classes


def native_image_size(name: str, data_dir: str | Path | None = None) -> int:
    """Pixels, when nothing else is asked for."""
    return native_size(folder_root(data_dir)) if _checked(name) == "folder" else DATASETS[name].image_size


def folder_root(data_dir: str | Path | None) -> Path:
    """The ImageFolder: an existing path, else a name below ASTROFORMER_DATA."""
    if data_dir is None:
        raise ValueError("the data set `folder` needs --data-dir ROOT (or data_dir=...): ROOT/train/<class>/*.jpg, ROOT/test/...")
    below = paths.data() / Path(data_dir)
    return existing(below if below.is_dir() and not Path(data_dir).is_dir() else data_dir)


def _checked(name: str) -> str:
    if name not in DATASETS:
        raise ValueError(f"data set {name!r} is not known; choose one of {', '.join(DATASETS)}")
    return name
