"""A data set made out of another one: classes merged, dropped or chosen, training images balanced,
unused ones added to test, folds. The result is an ImageFolder of links with `about.json` and
`manifest.json`.

What is chosen follows from the names of files alone (their order, or the SHA-256 of the name), so
that everybody derives the same folder. `manifest.json` names every image with its source and the
SHA-256 of its bytes, and `check` compares a folder with it.
"""

import hashlib
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from astroformer.data import folder, tiny_imagenet
from astroformer.data.folder import ABOUT
from astroformer.data.images import some_of

MANIFEST = "manifest.json"
ORDERS = ("name", "sha256")


@dataclass(frozen=True)
class Derivation:
    """What is done to a source. Everything is left as it is by default."""

    source: str  # a folder below ASTROFORMER_DATA, or a path
    merge: tuple[tuple[str, tuple[str, ...]], ...] = ()  # new class -> old classes
    drop: tuple[str, ...] = ()  # classes left out
    classes: int = 0  # so many of the classes, drawn once and for all; 0 means all
    most: int = 0  # training images of each class; 0 means all
    order: str = "name"  # by which the first `most` are taken: "name" (numbers counted) or "sha256"
    unused: str = ""  # "test": training images that are not taken join the test images
    folds: int = 0  # train and test together in so many parts, one of which is tested on
    fold: int = 0  # which
    name: str = ""  # of the result: about.json
    title: str = ""
    note: str = ""

    def __post_init__(self):
        if self.order not in ORDERS:
            raise ValueError(f"order {self.order!r} is not known; choose {' or '.join(ORDERS)}")
        if self.unused not in ("", "test"):
            raise ValueError(f"unused {self.unused!r} is not known; choose test, or nothing")
        if self.folds and not (self.folds > 1 and 0 <= self.fold < self.folds):
            raise ValueError(
                f"fold {self.fold} of {self.folds}: give at least 2 folds, and one from 0 to "
                f"{max(1, self.folds - 1)}"
            )
        if self.folds and self.most:
            raise ValueError("folds take every image; leave out the number of training images")


@dataclass(frozen=True, order=True)
class Item:
    """An image of a derived folder."""

    split: str  # "train" or "test"
    label: str  # class
    name: str  # of the file
    source: str  # place below the source


def derive(
    derivation: Derivation,
    root: Path,
    destination: Path,
    report: Callable[[str], None] = print,
) -> Path:
    """Makes the folder from the source at `root`, in one step: an interruption leaves nothing half
    made. A folder that holds this derivation already is left as it is.
    """
    items = planned(derivation, root)
    told = manifest(derivation, root, items)
    if destination.exists():
        if (destination / MANIFEST).is_file() and read_manifest(destination) == told:
            report(f"{destination} is there already: {described(items)}")
            return destination
        raise FileExistsError(
            f"{destination} holds something else; remove it, or name another folder with --out"
        )
    part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for item in items:
            place = part / item.split / item.label / item.name
            place.parent.mkdir(parents=True, exist_ok=True)
            _link(root / item.source, place)
        about = {"name": derivation.name or destination.name}
        about["title"] = derivation.title or derivation.name or destination.name
        kept = folder.read_about(root / ABOUT)
        about["kind"] = kept.get("kind", "real")
        if note := " ".join(filter(None, [derivation.note, kept.get("note", "")])):
            about["note"] = note
        classes = {item.label for item in items}
        mirrored = [pair for pair in kept.get("mirrored", []) if set(pair) <= classes]
        if mirrored:
            about["mirrored"] = mirrored
        (part / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
        (part / MANIFEST).write_text(json.dumps(told, indent=0, ensure_ascii=False) + "\n")
        part.rename(destination)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    report(f"{destination}: {described(items)}")
    return destination


def _link(source: Path, place: Path) -> None:
    """A hard link; a copy where the file system has none."""
    try:
        os.link(source.resolve(), place)
    except OSError:
        shutil.copyfile(source, place)


def described(items: list[Item]) -> str:
    """ "3 classes, 1,440 training images, 5,053 test images"."""
    train = sum(item.split == "train" for item in items)
    classes = len({item.label for item in items})
    return f"{classes} classes, {train:,} training images, {len(items) - train:,} test images"


def planned(derivation: Derivation, root: Path) -> list[Item]:
    """Every image of the result, sorted."""
    found = _chosen(derivation, source_items(root))
    labels = sorted({item.label for item in found})
    if len(labels) < 2:
        raise ValueError(
            f"the derivation leaves {len(labels)} classes of {root}, and a classifier needs two"
        )
    train = defaultdict(list)
    for item in found:
        train[item.label, item.split].append(item)
    items: list[Item] = []
    for label in labels:
        own = [train[label, split] for split in ("train", "test")]
        items += _split(derivation, label, *own)
    return sorted(_renamed(items))


def _chosen(derivation: Derivation, found: list[Item]) -> list[Item]:
    """Images of the classes that stay, under their new names."""
    known = sorted({item.label for item in found})
    renamed = {old: new for new, each in derivation.merge for old in each}
    for label in [*renamed, *derivation.drop]:
        if label not in known:
            raise ValueError(
                f"class {label!r} is not in {derivation.source}; its classes are {', '.join(known)}"
            )
    kept = [label for label in known if label not in derivation.drop]
    if derivation.classes:
        if derivation.classes > len(kept):
            raise ValueError(
                f"{derivation.classes} classes are asked for, and {derivation.source} has "
                f"{len(kept)}"
            )
        drawn = some_of(len(kept), derivation.classes / len(kept))
        kept = [kept[place] for place in drawn]
    return [
        Item(item.split, renamed.get(item.label, item.label), item.name, item.source)
        for item in found
        if item.label in kept
    ]


def _split(derivation: Derivation, label: str, train: list[Item], test: list[Item]) -> list[Item]:
    """The images of one class in their splits."""
    if derivation.folds:
        order = sorted([*train, *test], key=_by_sha256)
        return [
            Item("test" if place % derivation.folds == derivation.fold else "train", *_told(item))
            for place, item in enumerate(order)
        ]
    if not derivation.most:
        return [*train, *test]
    if len(train) < derivation.most:
        raise ValueError(
            f"class {label!r} has {len(train)} training images and {derivation.most} are asked for"
        )
    order = sorted(train, key=_by_sha256 if derivation.order == "sha256" else _by_number)
    taken, left = order[: derivation.most], order[derivation.most :]
    joined = [Item("test", *_told(item)) for item in left] if derivation.unused else []
    return [*taken, *test, *joined]


def _told(item: Item) -> tuple[str, str, str]:
    return item.label, item.name, item.source


def _by_sha256(item: Item) -> tuple[str, str]:
    return hashlib.sha256(item.name.encode()).hexdigest(), item.source


def _by_number(item: Item) -> tuple[list, str]:
    """Names with their numbers counted: image_2 before image_10."""
    parts = re.split(r"(\d+)", item.name)
    return [int(part) if part.isdigit() else part for part in parts], item.source


def _renamed(items: list[Item]) -> list[Item]:
    """Two images of one class and split that have one name get that of their source's folders in
    front.
    """
    count: dict[tuple[str, str, str], int] = defaultdict(int)
    for item in items:
        count[item.split, item.label, item.name] += 1
    return [
        item
        if count[item.split, item.label, item.name] == 1
        else Item(item.split, item.label, item.source.replace("/", "-"), item.source)
        for item in items
    ]


def source_items(root: Path) -> list[Item]:
    """Every image of an ImageFolder, or of Tiny ImageNet in its own layout."""
    if (root / "wnids.txt").is_file():
        place = tiny_imagenet.tree(root)
        return [
            Item(split, wnid, Path(file).name, file)
            for split, theirs in (("train", "train"), ("test", "val"))
            for file, wnid in tiny_imagenet.listing(place, theirs)
        ]
    root, names = folder.existing(root), folder.class_names(root)
    return [
        Item(split, names[label], path.name, path.relative_to(root).as_posix())
        for split in folder.SPLITS
        for path, label in folder.list_split(root, split, names)
    ]


# The manifest


def manifest(derivation: Derivation, root: Path, items: list[Item]) -> dict[str, object]:
    """Settings, every image with the SHA-256 of its bytes, and the SHA-256 of all that."""
    settings = {name: value for name, value in asdict(derivation).items() if name != "source"}
    listed = [
        [item.split, item.label, item.name, item.source, _sha256(root / item.source)]
        for item in items
    ]
    told = {"source": Path(derivation.source).name, "derivation": settings, "images": listed}
    told = json.loads(json.dumps(told))  # tuples as lists, as they are read back
    canonical = json.dumps(told, sort_keys=True, ensure_ascii=False).encode()
    return told | {"sha256": hashlib.sha256(canonical).hexdigest()}


def read_manifest(destination: Path) -> dict[str, object]:
    path = destination / MANIFEST
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{destination} has no {MANIFEST}: it was not made by `astroformer data derive`"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); derive the folder anew") from error


def check(destination: Path) -> list[str]:
    """What differs from the manifest, a line each; nothing if the folder is as it was made."""
    told, wrong = read_manifest(destination), []
    known = set()
    for split, label, name, _, digest in told["images"]:
        place = destination / split / label / name
        known.add(place)
        if not place.is_file():
            wrong.append(f"{split}/{label}/{name} is missing")
        elif _sha256(place) != digest:
            wrong.append(f"{split}/{label}/{name} is changed")
    for split in folder.SPLITS:
        for place in (destination / split).rglob("*"):
            if place.is_file() and place not in known:
                wrong.append(f"{place.relative_to(destination)} is not of the derivation")
    return wrong


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
