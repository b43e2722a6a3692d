"""Any folder of images on disk: `ROOT/train/<class>/*.jpg` and `ROOT/test/<class>/*.jpg`, or
`ROOT/<class>/*.jpg` without splits, or images with a table of their labels. Class names are folder
names, or what the table says.

The test folder may be called val, valid or validation. Where there is none, a part of the training
images is tested on (`test_fraction`), or the network is measured on held-out training images alone
(`validation` of `data.load`).

Images are pictures (JPEG, PNG, ...), or values (FITS, NPY, TIFF and PNG of more than 8 bits), which
a stretch brings to 8 bits. What lies there says `folder_tree.py`, what the files hold `values.py`,
what their bytes come to `contents.py`.

A file `about.json` in ROOT, which `astroformer data unpack` writes for the archives it knows, says
how the data set must be named beside a number. Without one the folder's own name is used.
"""

import json
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from astroformer import paths
from astroformer.data import canonical, catalogue, folder_tree, listing, stretch, values, walk
from astroformer.data.catalogue import listed
from astroformer.data.contents import SHOWN, Contents, check_depth, contents_of, keep
from astroformer.data.folder_tree import (  # noqa: F401  (others ask this module for them)
    ABOUT,
    LAYOUT,
    PLAIN,
    SPLITS,
    Asked,
    Source,
    Tree,
    asked_of,
    class_names,
    existing,
    list_split,
    objects_of,
    targets_of,
    tree,
)
from astroformer.data.images import About, Images
from astroformer.data.pixels import STRETCHED, Decoded, open_rgb, read_stored
from astroformer.data.stretch import Lupton, Stretch, fitted
from astroformer.data.values import Reading
from astroformer.data.walk import readable

CURE = "`astroformer data unpack` writes such a file; repair this one, or remove it"

# What decides which images lie there and what they are, and is asked of `about`, `classes` and the
# others too; and what decides how they are parted.
READ_BY = ("stretch", "bands", *catalogue.ASKED)
OWN = ("test_fraction", "split_seed", *READ_BY)


def places(name: str, root: Path, **read_by) -> list[Path]:
    """What the data set consists of."""
    return folder_tree.places(name, root, asked_of(root, **read_by))


def load(
    name: str,
    root: Path,
    split: str,
    *,
    image_size: int | None = None,
    crop_pct: float = 1.0,
    interpolation: str = "bicubic",
    **own,
) -> Images:
    """A split of the data set `folder`."""
    how = {"crop_pct": crop_pct, "interpolation": interpolation}
    return load_folder(root, split, image_size=image_size, **how, **own)


def about(name: str, root: Path, **read_by) -> About:
    return describe(root, asked_of(root, **read_by))


def classes(name: str, root: Path, **read_by) -> tuple[str, ...]:
    return class_names(root, asked_of(root, **read_by))


def channels(name: str, root: Path, **read_by) -> int:
    """Of an image."""
    asked = asked_of(root, **read_by)
    return reading(root, asked).channels


def native_size(name: str, root: Path, **read_by) -> int:
    """Pixels on the shorter side of the first training image; of a folder with test images alone,
    of the first of these.
    """
    asked = asked_of(root, **read_by)
    class_names(root, asked)  # says what is wrong with the folder
    return min(_first_shape(root, asked)[:2])


def load_folder(
    root: str | Path,
    split: str,
    *,
    image_size: int | None = None,
    crop_pct: float = 1.0,
    interpolation: str = "bicubic",
    test_fraction: float = 0.0,
    split_seed: int = 0,
    stretch: str | Stretch | Lupton = "",
    **read_by,
) -> Images:
    """One split of a folder, read when asked for. A square is resized (shorter side) and
    centre-cropped to `image_size` x `image_size` pixels.

    image_size: None takes the size of the first training image
    crop_pct: part of the shorter side that the crop keeps; 0.875 resizes to 256 for 224 pixels
    test_fraction, split_seed: part of each class to test on where there are no test images, and
        what it is drawn by, see `folder_tree.tested` and `catalogue.drawn`
    stretch: how images with more than 8 bits a channel become 8 bits, see `stretch.py`; its limits
        are those of the training images. One that has its limits, as a network was trained with, is
        taken as it is, and images in other units are refused
    read_by: bands and the table of labels, see `data.load`
    """
    root = existing(root)
    asked = asked_of(root, stretch=stretch, **read_by)
    classes = class_names(root, asked)
    part = (test_fraction, split_seed)
    listed_images = list_split(root, split, classes, *part, asked)
    about, found, remarks = describe(root, asked), tree(root, asked), []
    if asked != PLAIN or not recognised(root):  # one that is has the pixels of the published one
        contents = known_contents(root, asked)
        _check(root, contents, bool(stretch))
        remarks = _leaks(found, contents, part)
    remarks = [f"{readable(root.resolve().name)}: {one}" for one in remarks]
    sources = [_as_text(source) for source, _ in listed_images]
    labels = np.array([label for _, label in listed_images], dtype=np.int64)
    read, number = read_stored, 3
    if asked.values or asked.bands or found.kind != walk.PICTURES:
        read = reading(root, asked)
        if stretch:
            applied = stretch
            if isinstance(stretch, str):
                train = list_split(root, "train", classes, *part, asked)
                own = tuple(_as_text(source) for source, _ in train)
                applied = _fitted(stretch, own, asked.bands, _signature(root, asked))
            else:
                _check_units(applied, sources, read, root)
            if isinstance(applied, Lupton):
                applied.check(read.channels)
            read = replace(read, stretch=applied)
            remarks.append(applied.described())
        number = read.channels
        if read.bands and number == 3 and read.bands != read.names:
            remarks.append(f"bands {', '.join(read.names)} are red, green and blue")
    size = image_size or min(_first_shape(root, asked)[:2])
    how = {"channels": number, "crop_pct": crop_pct, "interpolation": interpolation}
    pixels = Decoded(sources, size, read, **how)
    objects, targets = objects_of(found), targets_of(found, classes)
    return Images(
        pixels,
        labels,
        classes,
        size,
        split,
        replace(about, remarks=(*about.remarks, *remarks)) if remarks else about,
        objects and np.array([objects[source] for source, _ in listed_images], dtype=np.int64),
        targets and np.stack([targets[source] for source, _ in listed_images]),
    )


def _as_text(source: Source) -> str | tuple[str, ...]:
    return str(source) if isinstance(source, Path) else tuple(map(str, source))


@lru_cache(maxsize=4)
def _fitted(
    name: str, train: tuple[values.Source, ...], bands: tuple[str, ...], version: str
) -> Stretch | Lupton:
    def read(source: values.Source) -> np.ndarray:
        return values.with_more(values.read(source, bands), source)

    return fitted(name, train, read)


def _check_units(applied: Stretch | Lupton, sources: list, read: Reading, root: Path) -> None:
    def values_of(source: values.Source) -> np.ndarray:
        return values.with_more(values.read(source, read.bands), source)

    stretch.check_units(applied, sources, values_of, f"the images of {root}")


def _signature(root: Path, asked: Asked = PLAIN) -> str:
    return listing.signature(folder_tree.places("folder", root, asked))


def _check(root: Path, contents: Contents, stretched: bool) -> None:
    """ValueError for images that cannot be shown as they are asked for."""
    check_depth(root, contents.deep, contents.images, contents.deepest)
    if contents.deep and not stretched:
        raise ValueError(f"the images of {root} have more than 8 bits a channel, and {STRETCHED}")
    if contents.empty:
        raise ValueError(
            f"{len(contents.empty):,} images of {root} have no pixel that is a number "
            f"({listed(contents.empty, SHOWN)}); take them away, or their rows out of the table"
        )


def _leaks(found: Tree, contents: Contents, part: tuple[float, int]) -> list[str]:
    """What lies in a drawn test part and in the training images, and objects that are in both."""
    told, (fraction, seed) = found.labelled, part
    test: set[str] = set()
    if fraction:
        drawn = list_of_drawn(found, fraction, seed)
        test = {f"train/{found.place(source, 'train')}" for source in drawn}
    elif found.test is None:
        return []
    remarks = []
    if test:
        both = [group for group in contents.same if {one in test for one in group} == {False, True}]
        if twice := [one.partition("/")[2] for group in both for one in group if one in test]:
            remarks.append(
                f"{len(twice):,} of {len(test):,} test images are byte for byte training images "
                f"({listed(sorted(twice), SHOWN)})"
            )
    elif told is not None:
        trained = {one for one, split in zip(told.objects.tolist(), told.splits) if split != "test"}
        own = [
            place
            for one, split, place in zip(told.objects.tolist(), told.splits, told.places)
            if split == "test" and one in trained
        ]
        if own:
            remarks.append(
                f"{len(own):,} test images show objects of training images, by positions within "
                f"{catalogue.SAME_OBJECT:g} arcsec ({listed(own, SHOWN)})"
            )
    return remarks


def list_of_drawn(found: Tree, fraction: float, seed: int) -> list[Source]:
    """The images that are tested on where a part is drawn."""
    return [
        source
        for files in folder_tree.drawn(found, fraction, seed)["test"].values()
        for source in files
    ]


def reading(root: Path, asked: Asked) -> Reading:
    """How the folder's images are read, without a stretch."""
    found = tree(root, asked)
    # grey pictures are shown in three equal channels; values stay as many bands as they are
    as_rgb = not asked.bands and (found.kind == walk.PICTURES or not asked.values)
    if as_rgb and not asked.values and found.kind == walk.PICTURES:
        return Reading()
    number = _first_shape(root, asked)[2]
    if as_rgb and not asked.values and number not in (1, 3):
        raise ValueError(
            f"the images of {root} have {number} bands of 8 bits, and a picture has three; name "
            f"those that are used with --bands {','.join(map(str, range(number)))}"
        )
    return Reading(asked.bands, None, 3 if as_rgb and number == 1 else number, as_rgb)


def _first_shape(root: Path, asked: Asked) -> tuple[int, int, int]:
    source = _as_text(tree(root, asked).first)
    files = folder_tree.files_of(tree(root, asked).first)
    return _shape_of(source, asked.bands, tuple(map(listing.version, files)))


@lru_cache(maxsize=64)
def _shape_of(
    source: values.Source, bands: tuple[str, ...], version: tuple
) -> tuple[int, int, int]:
    return values.shape_of(source, bands)


@listing.remembered(lambda root, asked=PLAIN: folder_tree.places("folder", root, asked))
def describe(root: Path, asked: Asked = PLAIN) -> About:
    """Name, kind and fingerprint of the folder. The fingerprint covers the place of every image of
    both splits below its split, and its bytes, and the rows of a table; the test folder's name does
    not matter. A folder whose pixels and labels are those of a published data set is that data set,
    see `canonical.py`, and one that only bears its title is said not to be.

    `remarks` say what was left out, what lies in both splits, and which rule of pixels was needed.
    """
    found = tree(root, asked)
    remarks = [f"{root.resolve().name}: {one}" for one in found.unused]
    if left_out := sum(found.left_out.values(), Counter()):
        remarks.append(f"{readable(root.resolve().name)}: left out: {walk.counted(left_out)}")
    remarks += found.labelled.remarks if found.labelled else ()
    if asked == PLAIN and (published := recognised(root)):
        return About(
            name=published.name,
            title=published.title,
            kind="real",
            sha256=published.sha256,
            note="the data set's own pixels, labels and split, as a folder of images",
            remarks=tuple(remarks),
        )
    told, name = read_about(root / ABOUT), readable(root.resolve().name)
    mirrored = [(left, right) for left, right in told.get("mirrored", ())]
    named, known = [one for pair in mirrored for one in pair], class_names(root, asked)
    for one in named:
        if one not in known or named.count(one) > 1:
            what = "twice" if one in known else "which is no class of the folder"
            raise ValueError(f"{root / ABOUT}: mirrored names {one!r}, {what}; {CURE}")
    title = told.get("title", told.get("name", name))
    if title in {known.title for known in canonical.KNOWN}:  # what about.json says is not so
        title += " (not all of its own images)"
    contents = known_contents(root, asked)
    return About(
        name=told.get("name", name),
        title=title,
        kind=told.get("kind", "real"),
        note=told.get("note", ""),
        mirrored=tuple(mirrored),
        sha256=contents.sha256,
        remarks=(*remarks, *contents.remarks(name)),
    )


@listing.remembered(lambda root, asked: folder_tree.places("folder", root, asked))
def known_contents(root: Path, asked: Asked) -> Contents:
    """`contents_of`, read once while the files stay as they are."""
    return contents_of(root, asked)


def read_about(path: Path) -> dict:
    """What about.json says; ValueError in one line, with its name, if it is not what this project
    writes.
    """
    if not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no JSON, no text, or too long a number
        raise ValueError(f"{path} is not JSON ({error}); {CURE}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path} holds a {type(told).__name__}, not an object with a name; {CURE}")
    for one in ("name", "title", "kind", "note"):
        if not isinstance(told.get(one, ""), str):
            raise ValueError(f"{path}: {one} is not a text; {CURE}")
    pairs = told.get("mirrored", [])
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)
        for pair in pairs
    ):
        raise ValueError(f"{path}: mirrored is not a list of pairs of class names; {CURE}")
    return told


def recognised(root: Path) -> canonical.Canonical | None:
    """The published data set that the folder is, or None. Only a folder with as many classes,
    images and pixels is read for it; the answer is kept in the cache folder.
    """
    found = tree(root)
    if found.test is None or not found.train:
        return None
    names = class_names(root)
    of_split = {"train": found.train, "test": found.test}
    listed = {
        split: [(path, name) for name, files in of_class.items() for path in files]
        for split, of_class in of_split.items()
    }
    counts = (len(names), len(listed["train"]), len(listed["test"]))
    if all((known.classes, known.train, known.test) != counts for known in canonical.KNOWN):
        return None
    candidate = canonical.candidate(*counts, native_size("folder", root))
    if candidate is None:
        return None
    signed = f"{_signature(root)}-pixels"
    kept = paths.cache() / "fingerprints" / signed
    known = kept.read_text().strip() if kept.is_file() else ""
    if len(known) != 64:
        known = canonical.digest(
            (split, name, np.asarray(open_rgb(path)))
            for split, files in listed.items()
            for path, name in files
        )
        keep(kept, known)
    return candidate if known == candidate.sha256 else None
