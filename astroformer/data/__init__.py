"""Data sets behind one door: the table `DATASETS` and `load(name, split, ...)`."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from astroformer import paths
from astroformer.data import galaxies, imagenet, torchvision_sets
from astroformer.data.folder import class_names, describe, existing, load_folder, native_size
from astroformer.data.images import About, Images, fingerprint, stratified

__all__ = ["DATASETS", "About", "DataSet", "Images", "about", "load", "native_image_size", "stratified"]


@dataclass(frozen=True)
class DataSet:
    """A row of the table of data sets. None stands for "depends on the folder"."""

    name: str
    title: str
    kind: str                       # "real" or "synthetic"
    classes: int | None
    image_size: int | None          # pixels, height and width, as loaded when nothing else is asked for
    train: int | None               # images
    test: int | None
    licence: str
    source: str


TORCHVISION = "the owners' files, where torchvision puts its downloads: --data-dir or ASTROFORMER_DATA; never fetched"
DATASETS = {
    "galaxies": DataSet("galaxies", "synthetic galaxies", "synthetic", 10, 64, 2_000, 1_000, "Apache-2.0",
                        "made on this machine by astroformer/data/galaxies.py, in the ten classes of Galaxy10 DECaLS"),
    "folder": DataSet("folder", "an ImageFolder", "real", None, None, None, None, "as the images' owner says",
                      "ROOT/train/<class>/ and ROOT/test/<class>/, named by --data-dir"),
    "cifar10": DataSet("cifar10", "CIFAR-10", "real", 10, 32, 50_000, 10_000, "none stated", TORCHVISION),
    "cifar100": DataSet("cifar100", "CIFAR-100", "real", 100, 32, 50_000, 10_000, "none stated", TORCHVISION),
    "svhn": DataSet("svhn", "SVHN", "real", 10, 32, 73_257, 26_032, "non-commercial use", TORCHVISION),
    "imagenet1k": DataSet("imagenet1k", imagenet.TITLE, "real", 1_000, imagenet.IMAGE_SIZE, *imagenet.FULL.values(),
                          "non-commercial research, on ImageNet's terms",
                          "ROOT/train/<wnid>/*.JPEG, ROOT/val/<wnid>/*.JPEG: --data-dir or ILSVRC2012 in ASTROFORMER_DATA; "
                          "never fetched"),
}
GALAXIES_SEED = 0         # the training set: images 0, 1, ... of this seed
GALAXIES_TEST_SEED = 1    # the test set: another seed, so the two share no galaxy whatever their sizes


def load(name: str, split: str, *, image_size: int | None = None, data_dir: str | Path | None = None,
         train_images: int | None = None, fraction: float = 1.0, seed: int = 0, validation: float = 0.0,
         crop_pct: float | None = None) -> Images:
    """One split of a data set, as uint8 (N, H, W, 3) with labels.

    split: "train", "validation" or "test"; validation is taken from train, never from test
    image_size: pixels; None means the data set's own
    data_dir: the ImageFolder of `folder`; where the files of a data set with a name lie, None meaning ASTROFORMER_DATA
    train_images: how many training images `galaxies` makes; None means the table's number
    fraction: part of each class of the training images to keep (nested, stratified, drawn by `seed`)
    validation: part of each class of the training images to hold out, before `fraction` (always the same ones)
    crop_pct: part of the shorter side that the middle square keeps; None means the data set's own, see `load_folder`
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split {split!r} is not known; choose train, validation or test")
    if split == "validation" and not validation:
        raise ValueError('split "validation" needs validation=0.1, say: the part of train to hold out')
    source = "test" if split == "test" else "train"
    images = _load(_checked(name), source, image_size, root_of(name, data_dir), train_images, crop_pct)
    if split == "test":
        return images
    if validation:
        held_out = stratified(images.labels, validation, seed=0)
        if split == "validation":
            return images.take(held_out, "validation")
        images = images.take(np.setdiff1d(np.arange(len(images)), held_out))
    return images if fraction == 1 else images.take(stratified(images.labels, fraction, seed))


@lru_cache(maxsize=4)
def _load(name: str, split: str, image_size: int | None, root: Path | None, train_images: int | None,
          crop_pct: float | None) -> Images:
    """A whole split, kept in memory while the process lives: pages and tests ask for the same one many times."""
    described = about(name, root, train_images)
    kept = 1.0 if crop_pct is None else crop_pct
    if name == "folder":
        return load_folder(root, split, image_size=image_size, crop_pct=kept)
    if name == "imagenet1k":
        return imagenet.load(root, split, image_size=image_size, crop_pct=crop_pct)
    if name in torchvision_sets.TITLES:
        return torchvision_sets.load(name, root, split, image_size=image_size, crop_pct=kept)
    if crop_pct is not None:
        raise ValueError(f"crop_pct is for images that are cut to a square; {name} are made as squares")
    row = DATASETS[name]
    size = image_size or row.image_size
    number, seed = (train_images or row.train, GALAXIES_SEED) if split == "train" else (row.test, GALAXIES_TEST_SEED)
    pixels, labels = galaxies.load_galaxies(number, size=size, seed=seed)
    return Images(pixels, labels, galaxies.CLASS_NAMES, size, split, described)


def about(name: str, data_dir: str | Path | None = None, train_images: int | None = None) -> About:
    """What must be said beside a number, with the fingerprint of the data: of the files, or of the generator's recipe."""
    root = root_of(name, data_dir)
    if root is not None and train_images is not None:
        raise ValueError("train_images is for generated data; take a part of other data with fraction=0.1 instead")
    if name == "folder":
        return describe(root)
    if name == "imagenet1k":
        return imagenet.about(root)
    if name in torchvision_sets.TITLES:
        return torchvision_sets.about(name, root)
    row = DATASETS[name]
    recipe = (f"{name} version {galaxies.VERSION}, train {train_images or row.train} of seed {GALAXIES_SEED}, "
              f"test {row.test} of seed {GALAXIES_TEST_SEED}")
    return About(name, row.title, row.kind, fingerprint(recipe), row.source)


def classes(name: str, data_dir: str | Path | None = None) -> tuple[str, ...]:
    """Names, in the order of the labels."""
    root = root_of(name, data_dir)
    if name == "folder":
        return class_names(root)
    if name == "imagenet1k":
        return imagenet.classes(root)
    return torchvision_sets.classes(name, root) if name in torchvision_sets.TITLES else galaxies.CLASS_NAMES


def native_image_size(name: str, data_dir: str | Path | None = None) -> int:
    """Pixels, when nothing else is asked for."""
    return native_size(root_of(name, data_dir)) if name == "folder" else DATASETS[_checked(name)].image_size


def root_of(name: str, data_dir: str | Path | None) -> Path | None:
    """Where the files lie: an existing path, else a name below ASTROFORMER_DATA; None for generated data."""
    if _checked(name) == "galaxies":
        return None
    if name == "folder" and data_dir is None:
        raise ValueError("the data set `folder` needs --data-dir ROOT (or data_dir=...): ROOT/train/<class>/*.jpg, "
                         "ROOT/test/...")
    if data_dir is None:
        return paths.data() / imagenet.FOLDER if name == "imagenet1k" else paths.data()  # as torchvision's root=
    below, given = paths.data() / Path(data_dir), Path(data_dir).expanduser()
    root = below if below.is_dir() and not given.is_dir() else given
    return existing(root) if name == "folder" else root


def _checked(name: str) -> str:
    if name not in DATASETS:
        raise ValueError(f"data set {name!r} is not known; choose one of {', '.join(DATASETS)}")
    return name
