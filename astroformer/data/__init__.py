"""Data sets behind one door: the table `DATASETS`, and `load(name, split, ...)`, `about`, `classes`
of any of them.

`SOURCES` says which module reads which. Each has the same three functions, and names in OWN what it
takes beside their common arguments.
"""

from pathlib import Path
from types import ModuleType

import numpy as np

from astroformer import paths
from astroformer.data import (
    catalogue,
    folder,
    galaxies,
    galaxy10,
    imagenet,
    stretch,
    tiny_imagenet,
    torchvision_sets,
)
from astroformer.data.images import About, Images, held_out, some_of, stratified
from astroformer.data.listing import remembered
from astroformer.data.table import DATASETS, DataSet

__all__ = [
    "DATASETS",
    "SOURCES",
    "About",
    "DataSet",
    "Images",
    "about",
    "channels",
    "classes",
    "load",
    "native_image_size",
    "root_of",
    "stratified",
    "stretch",
    "train_size",
    "usual",
]

SOURCES: dict[str, ModuleType] = {
    "galaxies": galaxies,
    "folder": folder,
    "tiny_imagenet": tiny_imagenet,
    **dict.fromkeys(("galaxy10_decals", "galaxy10_sdss"), galaxy10),
    "imagenet1k": imagenet,
    **dict.fromkeys(torchvision_sets.TITLES, torchvision_sets),
}
# What one source alone takes, and why another does not: in words after the name. An argument that
# says nothing is None, "" or, of those in ZERO, 0.
OWN = {
    "train_images": "is for generated data; take a part of other data with fraction=0.1 instead",
    "test_images": "is for data without an official split",
    "split_seed": "is for data without an official split",
    "test_fraction": "is for a folder without test images",
    "stretch": "is for a folder of images with more than 8 bits a channel",
    "bands": "is for a folder of images",
    **dict.fromkeys(catalogue.ASKED, "is about a table of labels for a folder of images"),
}
ZERO = ("split_seed", "test_fraction", "threshold", "soft_targets")


def load(
    name: str,
    split: str,
    *,
    purpose: str | None = None,
    image_size: int | None = None,
    data_dir: str | Path | None = None,
    class_fraction: float = 1.0,
    fraction: float = 1.0,
    seed: int = 0,
    validation: float = 0.0,
    crop_pct: float | None = None,
    interpolation: str = "bicubic",
    **own,
) -> Images:
    """One split of a data set, as uint8 (N, H, W, C) with labels; C is 3 but for a folder.

    split: "train", "validation" or "test"; validation is taken from train, never from test
    purpose: "train" or "evaluate", which decides how an image is cut, whatever folder it is from;
        None means training for the split "train" and evaluation for the others
    image_size: pixels; None means the data set's own
    data_dir: the ImageFolder of `folder`; where the files of a data set with a name lie, None
        meaning ASTROFORMER_DATA
    class_fraction: part of the classes, with all their images; which ones does not depend on any
        seed
    fraction: part of each class of the training images to keep (nested, stratified, drawn by
        `seed`)
    validation: part of each class of the training images to hold out, before `fraction` (always the
        same ones)
    crop_pct: part of the shorter side that the middle square keeps; None means all of it for
        training, and for evaluation the data set's own part (`DataSet.crop_pct`)
    interpolation: of the square

    own: what one source alone takes
        train_images: how many training images `galaxies` makes; None means the table's number
        test_images, split_seed: of Galaxy10, which has no official split: how many to test on,
            drawn by which seed
        test_fraction: of a folder without test images, part of each class to test on, drawn by
            `split_seed`
        stretch: of a folder of images with more than 8 bits a channel, see `stretch.py`
        bands: of a folder, "g,r,z": ends of files' names, names of FITS extensions, or numbers of
            planes, see `values.py`
        labels: of a folder, a table of the images' labels, see `catalogue.py`; label_column,
            id_column: its columns, where their names are not usual ones; votes: columns with the
            votes for each class ("smooth,disk"), threshold: part of them that a label must have,
            soft_targets: whether training aims at their fractions
    """
    told = _asked(name, split, validation, **own)
    purpose = purpose or ("train" if split == "train" else "evaluate")
    if purpose not in ("train", "evaluate"):
        raise ValueError(f"purpose {purpose!r} is not known; choose train or evaluate")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size {image_size}: give a number of pixels of at least 1")
    if crop_pct is None:
        crop_pct = 1.0 if purpose == "train" else DATASETS[name].crop_pct
    root, folder_split = root_of(name, data_dir), "test" if split == "test" else "train"
    how = (image_size, crop_pct, interpolation)
    images = _load(name, folder_split, root, how, told)
    if class_fraction != 1:
        images = images.some_classes(class_fraction)
    part = _part(images.labels, split, fraction, seed, validation, images.objects)
    images = images if part is None else images.take(part, split)
    counts = images.counts()
    if split == "train" and not counts.all():
        name_of = images.classes[int(np.flatnonzero(counts == 0)[0])]
        raise ValueError(
            f"class {name_of!r} of {images.about.title} has no training image, so nothing can "
            "learn it; add images, or remove the class"
        )
    return images


def train_size(
    name: str,
    *,
    data_dir: str | Path | None = None,
    class_fraction: float = 1.0,
    fraction: float = 1.0,
    seed: int = 0,
    validation: float = 0.0,
    **own,
) -> int:
    """How many training images `load` would give, without reading or drawing one."""
    told = _asked(name, "train", validation, **own)
    root, source, objects = root_of(name, data_dir), SOURCES[name], None
    if hasattr(source, "labels"):
        labels = source.labels(name, root, "train", **dict(told))
        classes_known = classes(name, root)
    else:
        images = _load(name, "train", root, (None, 1.0, "bicubic"), told)
        labels, classes_known, objects = images.labels, images.classes, images.objects
    if class_fraction != 1:
        kept = np.isin(labels, some_of(len(classes_known), class_fraction))
        labels, objects = labels[kept], None if objects is None else objects[kept]
    part = _part(labels, "train", fraction, seed, validation, objects)
    return len(labels if part is None else part)


def _asked(
    name: str,
    split: str,
    validation: float,
    **given: object,
) -> tuple[tuple[str, object], ...]:
    """The arguments that one source alone takes; ValueError for what cannot be asked for."""
    _checked(name)
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split {split!r} is not known; choose train, validation or test")
    if split == "validation" and not validation:
        raise ValueError(
            'split "validation" needs validation=0.1, say: the part of train to hold out'
        )
    if not 0 <= validation < 1:
        raise ValueError(f"validation {validation} is outside [0, 1); 0.1 holds out a tenth")
    return _own(name, **given)


def _part(
    labels: np.ndarray,
    split: str,
    fraction: float,
    seed: int,
    validation: float,
    objects: np.ndarray | None,
) -> np.ndarray | None:
    """The indices that a split takes of the images of its folder; None means all of them."""
    if split == "test":
        return None
    taken = np.arange(len(labels))
    if validation:
        left_out = held_out(labels, validation, seed=0, objects=objects)
        if split == "validation":
            return left_out
        taken = np.setdiff1d(taken, left_out)
    if fraction != 1:
        taken = taken[stratified(labels[taken], fraction, seed)]
    return taken if len(taken) < len(labels) else None


def _own(name: str, **given: object) -> tuple[tuple[str, object], ...]:
    """The arguments that one source alone takes, if they were given; ValueError where another
    source was named.
    """
    own = {}
    for key, value in given.items():
        if key not in OWN:
            raise TypeError(f"{key} is no argument of a data set; {', '.join(OWN)} are")
        if value is None or value == "" or (value == 0 and key in ZERO):
            continue
        if key not in SOURCES[_checked(name)].OWN:
            raise ValueError(f"{key} {OWN[key]}; {DATASETS[name].title} is not")
        own[key] = value
    return tuple(own.items())


def _read_by(name: str, own: tuple[tuple[str, object], ...]) -> dict[str, object]:
    """Those that decide which images a source has and what they are."""
    names = getattr(SOURCES[name], "READ_BY", ())
    return {key: value for key, value in own if key in names}


def _places(name: str, split: str, root: Path | None, how: tuple, own: tuple) -> list[Path]:
    return SOURCES[name].places(name, root, **_read_by(name, own))


@remembered(_places, most=4)
def _load(name: str, split: str, root: Path | None, how: tuple, own: tuple) -> Images:
    """A whole split, kept while its files stay as they are: pages and tests ask for the same one
    many times. Nobody can write into its arrays.
    """
    image_size, crop_pct, interpolation = how
    images = SOURCES[name].load(
        name,
        root,
        split,
        image_size=image_size,
        crop_pct=crop_pct,
        interpolation=interpolation,
        **dict(own),
    )
    images.labels.setflags(write=False)
    return images


def about(
    name: str, data_dir: str | Path | None = None, train_images: int | None = None, **own
) -> About:
    """What must be said beside a number, with the fingerprint of the data: of the files, or of
    the generator's recipe. `own`, here and below, as of `load`.
    """
    root = root_of(name, data_dir)
    told = dict(_own(name, train_images=train_images)) | _read_by(name, _own(name, **own))
    return SOURCES[name].about(name, root, **told)


def usual(name: str, data_dir: str | Path | None = None) -> dict[str, int]:
    """What `train_images` and `test_images` are where they are not said, of sources that take them:
    saying so is the same as saying nothing.
    """
    source = SOURCES[_checked(name)]
    return source.usual(name, root_of(name, data_dir)) if hasattr(source, "usual") else {}


def classes(name: str, data_dir: str | Path | None = None, **own) -> tuple[str, ...]:
    """Names, in the order of the labels."""
    root = root_of(name, data_dir)
    return SOURCES[name].classes(name, root, **_read_by(name, _own(name, **own)))


def channels(name: str, data_dir: str | Path | None = None, **own) -> int:
    """Channels of an image: 3, but for a folder of images with other bands."""
    source, told = SOURCES[_checked(name)], _read_by(name, _own(name, **own))
    if not hasattr(source, "channels") or not {"stretch", "bands"} & set(told):
        return 3
    return source.channels(name, root_of(name, data_dir), **told)


def native_image_size(name: str, data_dir: str | Path | None = None, **own) -> int:
    """Pixels, when nothing else is asked for."""
    told = _read_by(name, _own(name, **own))
    return DATASETS[_checked(name)].image_size or folder.native_size(
        name, root_of(name, data_dir), **told
    )


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
