"""Any ImageFolder on disk: `ROOT/train/<class>/*.jpg` and `ROOT/test/<class>/*.jpg` (or `val`).
Class names are folder names.

A file `about.json` in ROOT, which `astroformer data unpack` writes for the archives it knows, says
how the data set must be named beside a number. Without one the folder's own name is used.
"""

import hashlib
import json
import os
import time
from functools import lru_cache
from pathlib import Path

import numpy as np

from astroformer import paths
from astroformer.data import canonical, listing
from astroformer.data.images import About, Images
from astroformer.data.pixels import Decoded, open_rgb, read_whole

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"}
LAYOUT = "expected ROOT/train/<class>/*.jpg and ROOT/test/<class>/*.jpg (or val)"
SPLITS = {"train": ("train",), "test": ("test", "val")}  # the folders that a split may be
ABOUT = "about.json"
CURE = "`astroformer data unpack` writes such a file; repair this one, or remove it"
READ_AT_ONCE = 2**20  # bytes of a file that its fingerprint takes at a time
SLOW = 2.0  # seconds of reading after which a fingerprint is kept in the cache folder

OWN = ()


def places(name: str, root: Path) -> list[Path]:
    """What the data set consists of."""
    return [root / folder for folders in SPLITS.values() for folder in folders] + [root / ABOUT]


def load(
    name: str,
    root: Path,
    split: str,
    *,
    image_size: int | None = None,
    crop_pct: float = 1.0,
    interpolation: str = "bicubic",
) -> Images:
    """A split of the data set `folder`."""
    return load_folder(
        root, split, image_size=image_size, crop_pct=crop_pct, interpolation=interpolation
    )


def about(name: str, root: Path) -> About:
    return describe(root)


def classes(name: str, root: Path) -> tuple[str, ...]:
    return class_names(root)


def load_folder(
    root: str | Path,
    split: str,
    *,
    image_size: int | None = None,
    crop_pct: float = 1.0,
    interpolation: str = "bicubic",
) -> Images:
    """One split of an ImageFolder, read when asked for. A square is resized (shorter side) and
    centre-cropped to `image_size` x `image_size` pixels.

    image_size: None takes the size of the first training image
    crop_pct: part of the shorter side that the crop keeps; 0.875 resizes to 256 for 224 pixels
    """
    root = existing(root)
    classes = class_names(root)
    files = list_split(root, split, classes)
    about, image_size = describe(root), image_size or native_size(root)
    labels = np.array([label for _, label in files], dtype=np.int64)
    sources = [str(path) for path, _ in files]
    pixels = Decoded(
        sources, image_size, read_whole, crop_pct=crop_pct, interpolation=interpolation
    )
    return Images(pixels, labels, classes, image_size, split, about)


def existing(root: str | Path) -> Path:
    root = Path(root).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {root}; {LAYOUT}. Name it with --data-dir, "
            "or unpack an archive with "
            "`astroformer data unpack ARCHIVE DEST`"
        )
    return root


def split_folder(root: Path, split: str) -> Path:
    """The folder of a split; `test` may be called `val`."""
    names = SPLITS[split]
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise FileNotFoundError(f"{root} has no folder {' or '.join(names)}; {LAYOUT}")


def class_names(root: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in split_folder(root, "train").iterdir() if path.is_dir())
    if len(names) < 2:
        raise ValueError(
            f"{root / 'train'} has {len(names)} class folders and a classifier needs two; {LAYOUT}"
        )
    return tuple(names)


def list_split(root: Path, split: str, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """(file, label) in the order of class and file name."""
    folder = split_folder(root, split)
    present = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for name in present:
        if name not in classes:
            raise ValueError(
                f"class {name!r} of {folder} is missing in {root / 'train'}, so "
                "nothing can learn it; "
                "add training images or remove the folder"
            )
    if not present:
        raise ValueError(f"{folder} has no class folders; {LAYOUT}")
    if absent := [name for name in classes if name not in present]:
        raise ValueError(
            f"class {absent[0]!r} of {root / 'train'} is missing in {folder}, so "
            "nothing can measure it; "
            "add images or remove the folder"
        )
    files = []
    for name in present:
        members = sorted(
            path for path in (folder / name).rglob("*") if path.suffix.lower() in SUFFIXES
        )
        if not members:
            raise ValueError(
                f"class {name!r} of {folder} has no images "
                f"({', '.join(sorted(SUFFIXES))}); "
                "add some or remove the empty folder"
            )
        files += [(path, classes.index(name)) for path in members]
    return files


@listing.remembered(lambda root: places("folder", root))
def describe(root: Path) -> About:
    """Name, kind and fingerprint of the folder. The fingerprint covers the place of every image of
    both splits below its split, and its bytes; `test` may be called `val`. A folder whose pixels
    and labels are those of a published data set is that data set, see `canonical.py`, and one
    that only bears its title is said not to be.
    """
    if published := recognised(root):
        return About(
            name=published.name,
            title=published.title,
            kind="real",
            sha256=published.sha256,
            note="the data set's own pixels, labels and split, as a folder of images",
        )
    told, name = read_about(root / ABOUT), root.resolve().name
    mirrored = [(left, right) for left, right in told.get("mirrored", ())]
    named, known = [one for pair in mirrored for one in pair], class_names(root)
    for one in named:
        if one not in known or named.count(one) > 1:
            what = "twice" if one in known else "which is no class of the folder"
            raise ValueError(f"{root / ABOUT}: mirrored names {one!r}, {what}; {CURE}")
    title = told.get("title", told.get("name", name))
    if title in {known.title for known in canonical.KNOWN}:  # what about.json says is not so
        title += " (not all of its own images)"
    return About(
        name=told.get("name", name),
        title=title,
        kind=told.get("kind", "real"),
        note=told.get("note", ""),
        mirrored=tuple(mirrored),
        sha256=fingerprint_of_files(root),
    )


def read_about(path: Path) -> dict:
    """What about.json says; ValueError in one line, with its name, if it is not what this project
    writes.
    """
    if not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); {CURE}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path} holds a {type(told).__name__}, not an object with a name; {CURE}")
    for field in ("name", "title", "kind", "note"):
        if not isinstance(told.get(field, ""), str):
            raise ValueError(f"{path}: {field} is not a text; {CURE}")
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
    names = class_names(root)
    listed = {split: list_split(root, split, names) for split in SPLITS}
    counts = (len(names), len(listed["train"]), len(listed["test"]))
    if all((known.classes, known.train, known.test) != counts for known in canonical.KNOWN):
        return None
    found = canonical.candidate(*counts, native_size(root))
    if found is None:
        return None
    signed = f"{listing.signature(places('folder', root))}-pixels"
    kept = paths.cache() / "fingerprints" / signed
    known = kept.read_text().strip() if kept.is_file() else ""
    if len(known) != 64:
        known = canonical.digest(
            (split, names[label], np.asarray(open_rgb(path)))
            for split, files in listed.items()
            for path, label in files
        )
        _keep(kept, known)
    return found if known == found.sha256 else None


def fingerprint_of_files(root: Path) -> str:
    """SHA-256 over the places and bytes of all images, read piece by piece. What took long is kept
    in the cache folder, under the signature of the files.
    """
    kept = paths.cache() / "fingerprints" / listing.signature(places("folder", root))
    if kept.is_file() and len(known := kept.read_text().strip()) == 64:
        return known
    began, digest, classes = time.monotonic(), hashlib.sha256(), class_names(root)
    for split in SPLITS:
        folder = split_folder(root, split)
        for path, _ in list_split(root, split, classes):
            place = f"{split}/{path.relative_to(folder).as_posix()}"
            digest.update(f"{len(os.fsencode(place))}:".encode() + os.fsencode(place))
            digest.update(f"{path.stat().st_size}:".encode())
            with open(path, "rb") as file:
                while piece := file.read(READ_AT_ONCE):
                    digest.update(piece)
    found = digest.hexdigest()
    if time.monotonic() - began > SLOW:
        _keep(kept, found)
    return found


def _keep(path: Path, text: str) -> None:
    """A fingerprint in the cache folder; without room for it, it is computed again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_text(text)
        os.replace(part, path)
    except OSError:
        return


def native_size(root: Path) -> int:
    """Pixels on the shorter side of the first training image."""
    path, _ = list_split(root, "train", class_names(root))[0]
    return _shorter_side(str(path), listing.version(path))


@lru_cache(maxsize=64)
def _shorter_side(path: str, version: tuple[int, ...]) -> int:
    return min(open_rgb(path).size)
