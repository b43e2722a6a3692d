"""What lies in a folder of images, before any image is read: classes, splits, and the files of each
image.

ROOT/train/<class>/* and ROOT/test/<class>/*, or ROOT/<class>/* without splits, or images in any
folder with a table of their labels (`catalogue.py`). An image is one file, or a file for each band:
NAME_g.fits, NAME_r.fits, NAME_z.fits. All are of one kind (pictures, FITS or NumPy); what is of
another kind, or no image, is left out and counted.

Reads top to bottom: Asked, Tree, tree, its parts, what is asked of it (classes, lists, splits).
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from astroformer.data import catalogue, listing, walk
from astroformer.data.catalogue import Labelled, Table
from astroformer.data.walk import readable

LAYOUT = "expected ROOT/train/<class>/*.jpg and ROOT/test/<class>/*.jpg, or ROOT/<class>/*.jpg"
# The folders that a split may be, the first one that is there.
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}
NO_TEST = (
    "give --test-fraction 0.2 to test on a part of the training images, or --validation 0.1 to "
    "measure on held-out training images alone"
)
ABOUT = "about.json"
KINDS = (walk.PICTURES, "FITS", "NumPy")
IMAGES = {*walk.SUFFIXES, *walk.VALUES}
# Filters by their usual names, at the end of a file's name.
BAND = re.compile(
    "(?P<name>.+)[_.-](?P<band>[ugrizyYJHK]|Ks|[UBVRI]|[FN]UV|VIS|[wW][1-4]|[fF][0-9]{3,4}[A-Z]*)"
)
OTHER_BANDS = "of no band that is asked for"
INCOMPLETE = "without a file for each band"

Source = Path | tuple[Path, ...]  # a file, or a file for each band


@dataclass(frozen=True)
class Asked:
    """What is asked of a folder beside its place.

    bands: see `values.Reading`
    values: whether images hold values, as a stretch makes 8 bits of them
    table: the images' labels; None where folders are classes
    """

    bands: tuple[str, ...] = ()
    values: bool = False
    table: Table | None = None


PLAIN = Asked()


def asked_of(
    root: Path,
    *,
    stretch: object = "",
    bands: str = "",
    labels: str | Path = "",
    label_column: str = "",
    id_column: str = "",
    votes: str = "",
    threshold: float = 0.0,
    soft_targets: bool = False,
) -> Asked:
    """What the arguments of `data.load` ask of a folder. ValueError for what contradicts itself."""
    columns = {"label_column": label_column, "id_column": id_column}
    by_votes = {"threshold": threshold, "soft_targets": soft_targets}
    if not labels:
        for name, value in (columns | {"votes": votes} | by_votes).items():
            if value:
                raise ValueError(
                    f"--{name.replace('_', '-')} is about a table of labels; name it with --labels"
                )
        return Asked(parsed_bands(bands), bool(stretch))
    path = Path(labels).expanduser()
    if not path.is_file() and (root / path).is_file():
        path = root / path
    counted = tuple(filter(None, (one.strip() for one in votes.split(","))))
    table = Table(path, **columns, votes=counted, **by_votes)
    return Asked(parsed_bands(bands), bool(stretch), table)


def parsed_bands(text: str) -> tuple[str, ...]:
    """ "g, r,z" -> ("g", "r", "z"). ValueError for a band that is named twice."""
    bands = tuple(filter(None, (one.strip() for one in text.split(","))))
    for one in bands:
        if bands.count(one) > 1:
            raise ValueError(f"--bands {text} names {one} twice; name each band once")
    return bands


@dataclass(frozen=True)
class Tree:
    """The images of a folder as they lie, before anything is asked of them."""

    root: Path
    train: dict[str, list[Source]]  # class -> images; empty without training images
    test: dict[str, list[Source]] | None  # None without test images
    named: dict[str, Path]  # "train", "test" -> the folder; train may be ROOT itself
    left_out: dict[str, Counter] = field(default_factory=dict)  # split -> what is no image
    unused: tuple[str, ...] = ()  # folders beside the splits, in words
    kind: str = walk.PICTURES
    labelled: Labelled | None = None  # by a table
    bands: tuple[str, ...] = ()  # of the files, where each band has one

    @property
    def first(self) -> Source:
        """The first image."""
        return next(iter((self.train or self.test or {}).values()))[0]

    def place(self, source: Source, split: str) -> str:
        """The place of an image below its split's folder, in one spelling; of one with a file for
        each band without the band.
        """
        folder = self.named[split]
        if isinstance(source, Path):
            return _place(source, folder)
        name, suffix = _name_and_suffix(source[0])
        return _place(source[0].with_name(name[: -len(self.bands[0]) - 1] + suffix), folder)


def files_of(source: Source) -> tuple[Path, ...]:
    return (source,) if isinstance(source, Path) else source


def _place(path: Path, folder: Path) -> str:
    return "/".join(map(readable, path.relative_to(folder).parts))


def places(name: str, root: Path, asked: Asked = PLAIN) -> list[Path]:
    """What the data set consists of."""
    table = [asked.table.path] if asked.table else []
    if not asked.table and _split_folders(root, "train"):
        return [*_split_folders(root, "train"), *_split_folders(root, "test"), root / ABOUT]
    return [root, *table]


@listing.remembered(lambda root, asked=PLAIN: places("folder", root, asked))
def tree(root: Path, asked: Asked = PLAIN) -> Tree:
    """Everything that lies in the folder. FileNotFoundError for one that has no images."""
    if asked.table:
        return _by_table(root, asked)
    candidates = _split_folders(root, "train")
    named: dict[str, Path] = {"train": candidates[0]} if candidates else {}
    tests = _split_folders(root, "test")
    if not named and not tests and len(walk.folders_in(root)) > 1:
        named["train"] = root  # without splits
    left_out = {"train": Counter(), "test": Counter()}
    train = _classes_of(named["train"], left_out["train"]) if named else {}
    unused = []
    for place in tests:
        inside = {readable(one.name) for one in walk.folders_in(place)}
        labelled = not train or any(_known(name, train) for name in inside)
        if labelled and "test" not in named:
            named["test"] = place
        elif labelled:
            unused.append(f"{place.name}/ is not used: {named['test'].name}/ is the test split")
        else:
            unused.append(f"{place.name}/ is not used: it has no folder of a class of train/")
    test = None
    if "test" in named:
        known = _classes_of(named["test"], left_out["test"])
        test = {}
        for name, files in known.items():
            test.setdefault(_known(name, train) or name, []).extend(files)
        test = dict(sorted(test.items()))
    if not named:
        loose = Counter[str]()
        walk.images_below(root, loose, suffixes=())
        raise FileNotFoundError(
            f"{root} has no folder train and no class folders{_lies(_as_loose(loose))}; {LAYOUT}"
        )
    of_split = {"train": train, "test": test or {}}
    files = [one for of_class in of_split.values() for own in of_class.values() for one in own]
    choose, kind, bands = _choice(files, asked)
    for split, of_class in of_split.items():
        for name, own in of_class.items():
            of_class[name] = choose(own, left_out[split])
    return Tree(root, train, test, named, left_out, tuple(unused), kind, None, bands)


def _by_table(root: Path, asked: Asked) -> Tree:
    """The images of a folder that a table labels."""
    assert asked.table is not None
    left_out: Counter[str] = Counter()
    files = walk.images_below(root, left_out, suffixes=IMAGES)
    own = asked.table.path.resolve()
    files = [one for one in files if one.resolve() != own]
    left_out[walk.suffix_of(own.name)] -= int(own.is_relative_to(root.resolve()))
    if not files:
        raise FileNotFoundError(f"{root} has no images{_lies(left_out)}; name another --data-dir")
    choose, kind, bands = _choice(files, asked)
    chosen = choose(files, left_out)
    bare = Tree(root, {}, None, {"train": root}, {}, (), kind, None, bands)
    told = catalogue.labelled(asked.table, {bare.place(one, "train"): one for one in chosen}, root)
    splits = told.splits if any(told.splits) else _splits_of_places(told.places)
    of_split: dict[str, dict[str, list]] = {
        split: {label: [] for label in told.classes} for split in SPLITS
    }
    for source, label, split in zip(told.sources, told.labels, splits):
        of_split[split or "train"][label].append(source)
    train, test = (
        {label: own for label, own in of_split[split].items() if own} for split in SPLITS
    )
    named = {"train": root} if train else {}
    if test:
        named["test"] = root
    found = replace(told, splits=splits)
    # of an empty count nothing is said
    counts = {"train": +left_out, "test": Counter()}
    return Tree(root, train, test or None, named, counts, (), kind, found, bands)


def _splits_of_places(places: Sequence[str]) -> list[str]:
    """By the folders in which labelled images lie, where all lie in those of splits and both are
    there; else "" for each.
    """
    folders = {name: split for split, names in SPLITS.items() for name in names}
    found = [folders.get(place.partition("/")[0].casefold(), "") for place in places]
    return found if {*found} == {*SPLITS} else [""] * len(found)


Choose = Callable[[Iterable[Path], Counter], list[Source]]


def _choice(files: Sequence[Path], asked: Asked) -> tuple[Choose, str, tuple[str, ...]]:
    """Which of the files are images of the data set, one kind of all that lie there, and whether
    each band has a file: a function that turns files into images and counts the rest, the kind, and
    the bands that are files.
    """
    kinds = Counter(walk.kind_of(one) for one in files)
    order = KINDS[1:] + KINDS[:1] if asked.values or asked.bands else KINDS
    kind = next((one for one in order if kinds[one]), walk.PICTURES)
    own = [one for one in files if walk.kind_of(one) == kind]
    named = [one for one in asked.bands if not one.isdecimal()]
    by_file = len(named) == len(asked.bands) > 0 and any(_band(one, named) for one in own)
    if not asked.bands and kind != walk.PICTURES:
        _check_bands(own)

    def choose(files: Iterable[Path], left_out: Counter) -> list[Source]:
        kept: list[Source] = []
        for one in files:
            if walk.kind_of(one) == kind:
                kept.append(one)
            else:
                left_out[walk.suffix_of(one.name)] += 1
        return _by_bands(kept, asked.bands, left_out) if by_file else kept

    return choose, kind, asked.bands if by_file else ()


def _name_and_suffix(path: Path) -> tuple[str, str]:
    suffix = walk.suffix_of(path.name)
    return path.name[: len(path.name) - len(suffix)], path.name[len(path.name) - len(suffix) :]


def _band(path: Path, bands: Sequence[str]) -> str:
    """The band that a file's name ends with; "" for none."""
    name, _ = _name_and_suffix(path)
    ends = [one for one in bands if any(name.endswith(sign + one) for sign in "_.-")]
    return max(ends, key=len, default="")


def _by_bands(files: Iterable[Source], bands: tuple[str, ...], left_out: Counter) -> list[Source]:
    """The files of each image, in the order of the bands."""
    found: dict[tuple[Path, str], dict[str, Path]] = defaultdict(dict)
    for path in files:
        assert isinstance(path, Path)
        if band := _band(path, bands):
            name, _ = _name_and_suffix(path)
            found[path.parent, name[: -len(band)]].setdefault(band, path)
        else:
            left_out[f"{walk.suffix_of(path.name)} {OTHER_BANDS}"] += 1
    whole = [own for own in found.values() if len(own) == len(bands)]
    if lacking := len(found) - len(whole):
        left_out[f"galaxies {INCOMPLETE}"] += lacking
    return [tuple(own[band] for band in bands) for own in whole]


def _check_bands(files: Sequence[Path]) -> None:
    """ValueError for files that are bands of the same galaxies by their names, which would be
    trained on as images of their own.
    """
    of_name: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for one in files:
        found = BAND.fullmatch(_name_and_suffix(one)[0])
        if found is None:
            return
        of_name[one.parent, found["name"]].append(found["band"])
    [*sets] = {tuple(sorted(own)) for own in of_name.values()}
    if len(sets) == 1 and len(sets[0]) > 1:
        order = sorted(sets[0], key=lambda one: ("ugrizyYJHK".find(one[:1]), one))
        example = _name_and_suffix(files[0])[0]
        raise ValueError(
            f"each galaxy has {len(order)} files, one a band ({example} and so on); say so with "
            f"--bands {','.join(order)}, from blue to red"
        )


def _split_folders(root: Path, split: str) -> list[Path]:
    """The folders that may be a split, in the order of SPLITS; capital letters do not matter."""
    if not root.is_dir():
        return []
    there: dict[str, Path] = {}
    for path in walk.folders_in(root):
        there.setdefault(path.name.casefold(), path)
    exact = {path.name: path for path in walk.folders_in(root)}
    return [
        found for name in SPLITS[split] if (found := exact.get(name) or there.get(name)) is not None
    ]


def _classes_of(place: Path, left_out: Counter[str]) -> dict[str, list]:
    """Class -> files of images of any kind, in the order of the names. Two spellings of one name
    are one class.
    """
    found: dict[str, list[Path]] = {}
    folders = walk.folders_in(place)
    for one in folders:
        own = walk.images_below(one, left_out, suffixes=IMAGES)
        found.setdefault(readable(one.name), []).extend(own)
    for entry in os.scandir(place):
        suffix = walk.suffix_of(entry.name)
        if walk.hidden(entry.name):
            left_out[walk.HIDDEN] += 1
        elif suffix in IMAGES or suffix in walk.CONTAINERS:
            left_out[f"{suffix} {walk.LOOSE}"] += not entry.is_dir()
    return dict(sorted(found.items()))


def _as_loose(counts: Counter[str]) -> Counter[str]:
    """Images that lie outside of class folders, as they are counted."""
    return Counter(
        {f"{one} {walk.LOOSE}" if one in IMAGES else one: n for one, n in counts.items()}
    )


def _known(name: str, train: dict[str, list]) -> str:
    """The class of train that a folder's name means: itself, or the only one that differs in
    nothing but capital letters; "" for none.
    """
    if name in train:
        return name
    alike = [one for one in train if one.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else ""


# What is asked of it


def existing(root: str | Path) -> Path:
    root = Path(root).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {root}; {LAYOUT}. Name it with --data-dir, "
            "or unpack an archive with "
            "`astroformer data unpack ARCHIVE DEST`"
        )
    return root


def split_folder(root: Path, split: str, asked: Asked = PLAIN) -> Path:
    """The folder of a split."""
    found = tree(root, asked).named
    if split not in found:
        if asked.table:
            raise FileNotFoundError(
                f"{asked.table.path} has no images for the split {split}"
                + (f"; {NO_TEST}" if split == "test" else "; write train in its column `split`")
            )
        if split == "train":
            raise FileNotFoundError(f"{root} has no folder train; {LAYOUT}")
        names = ", ".join(SPLITS["test"][:-1]) + f" or {SPLITS['test'][-1]}"
        why = f" ({'; '.join(unused)})" if (unused := tree(root, asked).unused) else ""
        raise FileNotFoundError(f"{root} has no folder {names}{why}; {NO_TEST}")
    return found[split]


def class_names(root: Path, asked: Asked = PLAIN) -> tuple[str, ...]:
    """Sorted. Of a folder with test images alone they are those of the test images."""
    found = tree(root, asked)
    split = "train" if "train" in found.named else "test"
    names, place = found.train if split == "train" else found.test or {}, found.named[split]
    if len(names) < 2 and asked.table:
        raise ValueError(
            f"{asked.table.path} has {split} images of {len(names)} class ({', '.join(names)}) and "
            "a classifier needs two; part them in another way in its column `split`"
        )
    if len(names) < 2:
        raise ValueError(
            f"{place} has {len(names)} class folders and a classifier needs two"
            f"{_lies(found.left_out[split])}; {LAYOUT}"
        )
    for name, files in names.items():
        if not files:
            raise _without_images(name, place, found)
    return tuple(names)


def list_split(
    root: Path,
    split: str,
    classes: tuple[str, ...],
    test_fraction: float = 0.0,
    split_seed: int = 0,
    asked: Asked = PLAIN,
) -> list[tuple[Source, int]]:
    """(image, label) in the order of class and file name; ValueError for a split that cannot be
    trained or measured on.
    """
    found = tree(root, asked)
    if test_fraction and found.test is not None:
        where = (
            f"{asked.table.path} has its own test images"
            if asked.table
            else f"{root} has its own test images in {found.named['test'].name}/"
        )
        raise ValueError(f"{where}; leave out --test-fraction")
    if split == "train" or test_fraction:
        place = split_folder(root, "train", asked)
        of_class = drawn(found, test_fraction, split_seed)[split] if test_fraction else found.train
    else:
        place = split_folder(root, "test", asked)
        of_class = found.test or {}
    for name, files in of_class.items():
        if name not in classes:
            raise ValueError(
                f"class {name!r} of {place} is missing in {split_folder(root, 'train', asked)}, so "
                "nothing can learn it; add training images or remove the folder"
            )
        if not files:
            raise _without_images(name, place, found)
    if not of_class:
        raise ValueError(f"{place} has no class folders{_lies(found.left_out[split])}; {LAYOUT}")
    if absent := [name for name in classes if name not in of_class]:
        raise ValueError(
            f"class {absent[0]!r} of {split_folder(root, 'train', asked)} is missing in {place}, "
            "so nothing can measure it; add test images of it, or measure on held-out training "
            "images with --validation 0.1"
        )
    number = {name: label for label, name in enumerate(classes)}
    return [(path, number[name]) for name, files in of_class.items() for path in files]


def _without_images(name: str, place: Path, found: Tree) -> ValueError:
    """The error for a class folder in which no image lies, with what lies there instead."""
    inside = Counter[str]()
    for one in walk.folders_in(place):
        if readable(one.name) == name:
            files = walk.images_below(one, inside, suffixes=IMAGES)
            inside.update(
                walk.suffix_of(file.name) for file in files if walk.kind_of(file) != found.kind
            )
    others = [one for one in inside if one in IMAGES]
    of_kind = (
        f"; the others are {found.kind}, and a data set has images of one kind"
        if others and found.kind != walk.PICTURES
        else ""
    )
    suffixes = walk.SUFFIXES if found.kind == walk.PICTURES else walk.VALUES
    read = "" if inside else f" ({', '.join(sorted(suffixes))})"
    return ValueError(
        f"class {name!r} of {place} has no images{read}{_lies(inside)}{of_kind}; add some or "
        "remove the folder"
    )


def _lies(left_out: Counter[str]) -> str:
    """What lies in place of images, as a part of an error."""
    return f", but {walk.counted(left_out)}{walk.not_read(left_out)}" if +left_out else ""


def drawn(found: Tree, fraction: float, seed: int) -> dict[str, dict[str, list[Source]]]:
    """ "train" and "test" -> class -> images: drawn from the training images by a seed."""
    parts: dict[str, dict[str, list[Source]]] = {split: {} for split in SPLITS}
    if found.labelled is None:
        for name, files in found.train.items():
            own = tested(name, files, found, fraction, seed)
            for split in SPLITS:
                parts[split][name] = own[split]
        return parts
    told = found.labelled
    test = catalogue.drawn(told.labels, told.objects, told.places, fraction, seed)
    for label in told.classes:
        of_label = np.array([one == label for one in told.labels])
        for split, chosen in (("train", of_label & ~test), ("test", of_label & test)):
            parts[split][label] = [told.sources[index] for index in np.flatnonzero(chosen)]
    return parts


def tested(
    name: str, files: list[Source], found: Tree, fraction: float, seed: int
) -> dict[str, list[Source]]:
    """ "train" and "test" -> images of a class: the first part of them in the order of the SHA-256
    of the seed and the image's place, at least one and never all. So an image keeps its split when
    others come or go, but for those at the border, and everybody draws the same.
    """
    place = found.named["train"]
    if not 0 < fraction < 1:
        raise ValueError(f"test_fraction {fraction} is outside (0, 1); 0.2 tests on a fifth")
    if len(files) < 2:
        raise ValueError(
            f"class {name!r} of {place} has {len(files)} image, which cannot be trained and tested "
            "on; add images or remove the folder"
        )

    def key(source: Source) -> bytes:
        return hashlib.sha256(f"{seed}/{found.place(source, 'train')}".encode()).digest()

    number = min(max(1, round(fraction * len(files))), len(files) - 1)
    chosen = set(sorted(files, key=key)[:number])
    return {
        "test": [path for path in files if path in chosen],
        "train": [path for path in files if path not in chosen],
    }


def objects_of(found: Tree) -> dict[Source, int] | None:
    """The object that each image shows; None where every image shows one of its own."""
    told = found.labelled
    if told is None or len(np.unique(told.objects)) == len(told.objects):
        return None
    return dict(zip(told.sources, told.objects.tolist()))


def targets_of(found: Tree, classes: tuple[str, ...]) -> dict[Source, np.ndarray] | None:
    """The probabilities (K,) that training aims at for each image; None where labels are all."""
    told = found.labelled
    if told is None or told.fractions is None:
        return None
    return dict(zip(told.sources, catalogue.of_classes(told.fractions, told.classes, classes)))
