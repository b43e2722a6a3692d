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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from astroformer.data import folder, tiny_imagenet, torchvision_sets, walk
from astroformer.data.folder import ABOUT
from astroformer.data.images import some_of

MANIFEST = "manifest.json"
ORDERS = ("name", "sha256")
# Sources that the authors' own files make, where those lie: folder -> data set of torchvision.
PNG_OF = {"cifar100-png": "cifar100"}


@dataclass(frozen=True)
class Derivation:
    """What is done to a source. Everything is left as it is by default. ValueError for what
    contradicts itself.
    """

    source: str  # a folder below ASTROFORMER_DATA, or a path
    merge: tuple[tuple[str, tuple[str, ...]], ...] = ()  # new class -> old classes
    drop: tuple[str, ...] = ()  # classes left out
    keep: tuple[str, ...] = ()  # classes kept, under their old names; none means all
    classes: int = 0  # so many of the classes, drawn once and for all; 0 means all
    of: int = 0  # classes that the source must have for that; 0 means any number
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
        if self.unused and not self.most:
            raise ValueError("every training image is used; give a number of them, most=480, say")
        if min(self.classes, self.most, self.folds) < 0:
            raise ValueError("classes, most and folds are numbers of at least 0, which means all")
        if not (self.folds > 1 and 0 <= self.fold < self.folds) and (self.folds or self.fold):
            raise ValueError(
                f"fold {self.fold} of {self.folds}: give at least 2 folds, and one from 0 to "
                f"{max(1, self.folds - 1)}"
            )
        if self.folds and self.most:
            raise ValueError("folds take every image; leave out the number of training images")
        if self.keep and self.classes:
            raise ValueError("classes are named or drawn, not both; give one of keep and classes")
        merged = [old for _, each in self.merge for old in each]
        for label in merged:
            if merged.count(label) > 1:
                raise ValueError(f"class {label!r} is merged twice; merge it into one")
            if label in self.drop:
                raise ValueError(f"class {label!r} is merged and dropped; do one of both")
        for label, _ in self.merge:
            if label in ("", ".", "..") or re.search(r"[/\\\0]", label):
                raise ValueError(f"class {label!r} cannot be the name of a folder; choose another")

    @property
    def renamed(self) -> dict[str, str]:
        """Old class -> new class, of those merged."""
        return {old: new for new, each in self.merge for old in each}


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
    made. A folder that holds these images already keeps them, and is told anew what they are.

    FileExistsError for a destination that holds something else; ValueError for what the source
    cannot give.
    """
    root = tree_of(root)
    items = planned(derivation, root)
    about = about_of(derivation, root, items, destination.name)
    told = manifest(derivation, root, items) | {"about": about}
    told |= {"sha256": _sha256_of(told)}
    if _holds(destination, told):
        if read_manifest(destination) != told:
            _tell(destination, told)
        report(f"{destination} is there already: {described(items)}")
        return destination
    part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for item in items:
            place = part / item.split / item.label / item.name
            place.parent.mkdir(parents=True, exist_ok=True)
            _link(root / item.source, place)
        _tell(part, told)
        part.rename(destination)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    report(f"{destination}: {described(items)}")
    return destination


def _holds(destination: Path, told: Mapping) -> bool:
    """Whether the folder holds these images already; FileExistsError if it holds others."""
    if not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
        return False
    same = (destination / MANIFEST).is_file() and all(
        read_manifest(destination)[key] == told[key] for key in ("source", "images")
    )
    if not same:
        raise FileExistsError(
            f"{destination} holds something else; remove it, or name another folder with --out"
        )
    lacking = [
        f"{split}/{label}/{name}"
        for split, label, name, *_ in told["images"]
        if not (destination / split / label / name).is_file()
    ]
    if lacking:
        raise FileExistsError(
            f"{destination} lacks {len(lacking):,} of its images ({lacking[0]}); remove the folder "
            "and derive it anew"
        )
    return True


def _tell(place: Path, told: Mapping) -> None:
    """Writes about.json and manifest.json, with a line for each image, each in one step."""
    about = json.dumps(told["about"], indent=1) + "\n"
    parts = [
        f'"{key}": '
        + (
            "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
            if key == "images"
            else json.dumps(value)
        )
        for key, value in told.items()
    ]
    for name, text in ((ABOUT, about), (MANIFEST, "{\n" + ",\n".join(parts) + "\n}\n")):
        written = place / f".{name}.{os.getpid()}.part"
        written.write_text(text, encoding="utf-8")
        written.replace(place / name)


def about_of(
    derivation: Derivation, root: Path, items: Iterable[Item], name: str
) -> dict[str, object]:
    """What about.json says of the result: its own words, and those of its source.

    Classes that mirror one another stay so, under their new names, unless they are merged into one
    or one of them is left out. ValueError where only one of the two is merged with others: an image
    would have no class after a reflection.
    """
    kept = folder.read_about(root / ABOUT)
    whole, name = kept.get("title", kept.get("name", root.resolve().name)), derivation.name or name
    about: dict[str, object] = {
        "name": name,
        "title": derivation.title or f"{name} (from {whole})",
        "kind": kept.get("kind", "real"),
    }
    notes = [derivation.note, f"Made of {whole}: {kept['note']}" if kept.get("note") else ""]
    if any(notes):
        about["note"] = ". ".join(filter(None, notes))
    classes, renamed = {item.label for item in items}, derivation.renamed
    sources = [*renamed.values()]
    mirrored = []
    for pair in kept.get("mirrored", []):
        left, right = (renamed.get(label, label) for label in pair)
        if left == right or not {left, right} <= classes:
            continue
        for old, new, other in ((pair[0], left, pair[1]), (pair[1], right, pair[0])):
            if sources.count(new) > 1:
                raise ValueError(
                    f"class {old!r} is merged with others and its mirror image {other!r} is not in "
                    "the same class, so that a reflected image would have none; merge both or drop "
                    "one"
                )
        mirrored.append([left, right])
    return about | ({"mirrored": mirrored} if mirrored else {})


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


# Which images


def planned(derivation: Derivation, root: Path) -> list[Item]:
    """Every image of the result, sorted. ValueError for a class that the source does not have, or
    that has too few images.
    """
    found = _chosen(derivation, source_items(root))
    labels = sorted({item.label for item in found})
    if len(labels) < 2:
        raise ValueError(
            f"the derivation leaves {len(labels)} classes of {root}, and a classifier needs two"
        )
    of_class = defaultdict(list)
    for item in found:
        of_class[item.label, item.split].append(item)
    items: list[Item] = []
    for label in labels:
        items += _split(derivation, label, of_class[label, "train"], of_class[label, "test"])
    return sorted(_renamed(items))


def _chosen(derivation: Derivation, found: list[Item]) -> list[Item]:
    """Images of the classes that stay, under their new names."""
    known, renamed = sorted({item.label for item in found}), derivation.renamed
    source = Path(derivation.source).name
    if derivation.of and len(known) != derivation.of:
        raise ValueError(
            f"{source} has {len(known)} classes and should have {derivation.of}; is all of it here?"
        )
    for label in [*renamed, *derivation.drop, *derivation.keep]:
        if label not in known:
            raise ValueError(
                f"class {label!r} is not in {source}; its classes are {', '.join(known)}"
            )
    kept = [label for label in known if label not in derivation.drop]
    for label in renamed.values():
        if label in kept and label not in renamed:
            raise ValueError(
                f"{source} has a class {label!r} already; name it among those that are merged, "
                "drop it, or choose another name for the merged one"
            )
    if derivation.keep:
        kept = [label for label in kept if label in derivation.keep]
    if derivation.classes:
        if derivation.classes > len(kept):
            raise ValueError(
                f"{derivation.classes} classes are asked for, and {source} has {len(kept)}"
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
        if len(order) < derivation.folds:
            raise ValueError(
                f"class {label!r} has {len(order)} images, and {derivation.folds} folds are asked "
                "for; ask for fewer, or drop the class"
            )
        return [
            Item("test" if place % derivation.folds == derivation.fold else "train", *_told(item))
            for place, item in enumerate(order)
        ]
    if not derivation.most:
        return [*train, *test]
    if len(train) < derivation.most:
        raise ValueError(
            f"class {label!r} has {len(train)} training images and {derivation.most} are asked "
            "for; ask for fewer, or drop the class"
        )
    order = sorted(train, key=_by_sha256 if derivation.order == "sha256" else _by_number)
    taken, left = order[: derivation.most], order[derivation.most :]
    joined = [Item("test", *_told(item)) for item in left] if derivation.unused else []
    return [*taken, *test, *joined]


def _told(item: Item) -> tuple[str, str, str]:
    return item.label, item.name, item.source


def _by_sha256(item: Item) -> tuple[str, str]:
    return hashlib.sha256(os.fsencode(item.name)).hexdigest(), item.source


def _by_number(item: Item) -> tuple[list, str]:
    """Names with their numbers counted: image_2 before image_10."""
    # the odd parts are the numbers
    parts = re.split(r"([0-9]+)", item.name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], item.source


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


# The source


def found_source(
    derivation: Derivation, place: Path, beside: Path, report: Callable[[str], None] = print
) -> Path:
    """The folder that a derivation is made of: of its name below `place`, else below `beside`. One
    that the authors' own files below `place` make is written below `beside` first.
    """
    for candidate in dict.fromkeys((place, beside)):
        if (candidate / derivation.source).is_dir():
            return candidate / derivation.source
    name = PNG_OF.get(derivation.source)
    if name and all((place / file).exists() for file in torchvision_sets.PLACES[name]):
        return written_as_png(name, place, beside / derivation.source, report)
    what = "unpack its archive there (`astroformer data unpack ARCHIVE ... DEST`)"
    if name:
        what += f", put torchvision's files there (`astroformer data fetch {name}`)"
    raise FileNotFoundError(
        f"there is no folder {place / derivation.source}, from which {derivation.name} is "
        f"derived; {what}, or name the place with --data-dir"
    )


def written_as_png(
    name: str, root: Path, destination: Path, report: Callable[[str], None] = print
) -> Path:
    """The images of a data set of torchvision's, lossless: train/<class>/0000.png and so on, each
    named by its place in its class.
    """
    told = torchvision_sets.about(name, root)
    part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for split in folder.SPLITS:
            images, seen = torchvision_sets.load(name, root, split), defaultdict(int)
            for index, label in enumerate(images.labels):
                place = part / split / images.classes[label] / f"{seen[label]:04d}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images.pixels[index]).save(place)
                seen[label] += 1
        note = "the authors' files, written as lossless PNG"
        about = {"name": destination.name, "title": told.title, "kind": told.kind, "note": note}
        (part / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
        part.rename(destination)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    report(f"{destination}: {told.title} as PNG, from {root}")
    return destination


def tree_of(root: Path) -> Path:
    """The folder below which the images of a source lie."""
    if (root / "train").is_dir() and not (root / "wnids.txt").is_file():
        return root
    if (root / tiny_imagenet.FOLDER).is_dir() or (root / "wnids.txt").is_file():
        return tiny_imagenet.tree(root)
    if (root / tiny_imagenet.ARCHIVE).is_file():
        raise ValueError(
            f"{root / tiny_imagenet.ARCHIVE} is packed, and links need files; unpack it with "
            f"`astroformer data unpack {tiny_imagenet.ARCHIVE} {tiny_imagenet.FOLDER}`"
        )
    return folder.existing(root)


def source_items(root: Path) -> list[Item]:
    """Every image of an ImageFolder, or of Tiny ImageNet in its own layout (`tree_of`)."""
    if (root / "wnids.txt").is_file():
        return [
            Item(split, wnid, Path(file).name, file)
            for split in folder.SPLITS
            for file, wnid in tiny_imagenet.listing(root, split)
        ]
    names = folder.class_names(root)
    return [
        Item(split, names[label], path.name, path.relative_to(root).as_posix())
        for split in folder.SPLITS
        for path, label in folder.list_split(root, split, names)
    ]


# The manifest


def manifest(derivation: Derivation, root: Path, items: list[Item]) -> dict[str, object]:
    """Settings, and every image with the SHA-256 of its bytes; and the SHA-256 of all that."""
    settings = {name: value for name, value in asdict(derivation).items() if name != "source"}
    listed = [
        [item.split, item.label, item.name, item.source, _sha256(root / item.source)]
        for item in items
    ]
    told = {"source": Path(derivation.source).name, "derivation": settings, "images": listed}
    told = json.loads(json.dumps(told))  # tuples as lists, as they are read back
    return told | {"sha256": _sha256_of(told)}


def _sha256_of(told: Mapping) -> str:
    """Of the manifest's content without this number itself, whatever the order of its keys."""
    content = {key: value for key, value in told.items() if key != "sha256"}
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode(errors="surrogateescape")).hexdigest()


def read_manifest(destination: Path) -> dict:
    """FileNotFoundError or ValueError in one line for a folder without one that can be read."""
    path = destination / MANIFEST
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{destination} has no {MANIFEST}: it was not made by `astroformer data derive`"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); derive the folder anew") from error
    rows = told.get("images") if isinstance(told, dict) else None
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows) or "source" not in told:
        raise ValueError(f"{path} does not list images; derive the folder anew")
    return told


def _is_row(row: object) -> bool:
    """Whether it is a line of a manifest that stays below its folder."""
    return (
        isinstance(row, list)
        and len(row) == 5
        and all(isinstance(one, str) for one in row)
        and row[0] in folder.SPLITS
        and not any(one in ("", ".", "..") or "/" in one for one in row[1:3])
    )


def check(destination: Path) -> list[str]:
    """What differs from the manifest, a line each; nothing if the folder is as it was made."""
    told = read_manifest(destination)
    wrong = [] if told.get("sha256") == _sha256_of(told) else [f"{MANIFEST} is changed"]
    if "about" in told and folder.read_about(destination / ABOUT) != told["about"]:
        wrong.append(f"{ABOUT} is changed")
    known = set()
    for split, label, name, _, digest in told["images"]:
        place = destination / split / label / name
        known.add(place)
        if not place.is_file():
            wrong.append(f"{split}/{label}/{name} is missing")
        elif _sha256(place) != digest:
            wrong.append(f"{split}/{label}/{name} is changed")
    # `val` would be read as test images, if it were there
    for split in dict.fromkeys(name for names in folder.SPLITS.values() for name in names):
        for place in sorted((destination / split).rglob("*")):
            shown = not any(map(walk.hidden, place.relative_to(destination).parts))
            if shown and place.is_file() and place not in known:
                wrong.append(f"{place.relative_to(destination)} is not of the derivation")
    return wrong


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
