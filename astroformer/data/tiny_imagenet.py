"""Tiny ImageNet in the layout of its archive, from the extracted folder or straight from the zip
file.

ROOT/tiny-imagenet-200/    wnids.txt, words.txt, train/<wnid>/images/*.JPEG, val/images/*.JPEG,
                           val/val_annotations.txt
ROOT/tiny-imagenet-200.zip the same, not extracted

200 classes of 500 training images, 64 x 64 pixels, some of them grey. The test split here is `val`,
10,000 images with the labels of val_annotations.txt: those of the archive's own test images were
never given out. ROOT may be the folder itself. Images are decoded when asked for; before training
they are decoded once, if memory allows (`ready`).
"""

import io
import os
import zipfile
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from astroformer.data import listing as files_of
from astroformer.data import walk
from astroformer.data.images import About, Images, fingerprint
from astroformer.data.pixels import Decoded, open_rgb, read_stored

TITLE = "Tiny ImageNet"
FOLDER = "tiny-imagenet-200"
ARCHIVE = FOLDER + ".zip"
IMAGE_SIZE = 64  # pixels
FULL = {"train": 100_000, "test": 10_000}  # images, in 200 classes
CLASSES = 200
OWN = ()
GET = "`astroformer data fetch tiny_imagenet` downloads it"


def places(name: str, root: Path) -> list[Path]:
    """What the data set consists of, wherever it lies."""
    return [root / "wnids.txt", root / "train", root / "val", root / FOLDER, root / ARCHIVE]


def load(
    name: str,
    root: Path,
    split: str,
    *,
    image_size: int | None = None,
    crop_pct: float = 1.0,
    interpolation: str = "bicubic",
) -> Images:
    """A split ("train" or "test", which is `val`), in the order of class and file name, or of
    val_annotations.txt.
    """
    size, place = image_size or IMAGE_SIZE, tree(root)
    label_of = {wnid: label for label, wnid in enumerate(wnids(place))}
    listed = listing(place, split)
    packed = place.suffix == ".zip"
    read = partial(read_packed, place, files_of.version(place)) if packed else read_stored
    sources = [file if packed else os.path.join(place, file) for file, _ in listed]
    labels = np.array([label_of[wnid] for _, wnid in listed], dtype=np.int64)
    pixels = Decoded(sources, size, read, crop_pct=crop_pct, interpolation=interpolation)
    return Images(pixels, labels, classes(name, root), size, split, about(name, root))


def read_packed(archive: Path, version: tuple[int, ...], file: str) -> Image.Image:
    """The image of a file in the archive, as `read_stored` gives that of a path."""
    packed = io.BytesIO(opened(archive, version, os.getpid()).read(f"{FOLDER}/{file}"))
    return open_rgb(packed, shown=f"{archive}:{file}")


def read_bytes(archive: Path, file: str) -> bytes:
    return opened(archive, files_of.version(archive), os.getpid()).read(f"{FOLDER}/{file}")


@lru_cache(maxsize=4)
def opened(archive: Path, version: tuple[int, ...], process: int) -> zipfile.ZipFile:
    """The archive, opened once in each process: processes that share an open file would move one
    another's place in it.
    """
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"{archive} cannot be read as a zip file ({error}); is the download "
            "complete? "
            "`astroformer data verify tiny_imagenet` compares its MD5"
        ) from error


def tree(root: Path) -> Path:
    """The extracted folder, else the zip file."""
    for candidate in (root, root / FOLDER):
        if (candidate / "wnids.txt").is_file() and (candidate / "train").is_dir():
            return candidate
    if (root / ARCHIVE).is_file():
        return root / ARCHIVE
    raise FileNotFoundError(
        f"{root} holds neither {FOLDER}/ (with wnids.txt, train/ and val/) "
        f"nor {ARCHIVE}; {GET}, "
        "another folder is named with --data-dir ROOT or ASTROFORMER_DATA"
    )


@files_of.remembered(lambda place: [place])
def files(place: Path) -> dict[str, int]:
    """Every file below the tree that is data, by its path there, and its bytes."""
    if place.suffix == ".zip":
        return {
            info.filename.removeprefix(FOLDER + "/"): info.file_size
            for info in opened(place, files_of.version(place), os.getpid()).infolist()
            if not info.is_dir() and not any(map(walk.hidden, info.filename.split("/")))
        }
    found = {}
    for folder, folders, names in os.walk(place, followlinks=True):
        folders[:] = [name for name in folders if not walk.hidden(name)]
        names = [name for name in names if not walk.hidden(name)]
        below = Path(folder).relative_to(place).as_posix()
        found |= {
            name if below == "." else f"{below}/{name}": os.stat(os.path.join(folder, name)).st_size
            for name in names
        }
    return found


def text(place: Path, file: str) -> list[str]:
    """The lines of a text file below the tree."""
    if file not in files(place):
        raise FileNotFoundError(
            f"{place} has no {file}, without which its images have no labels; {GET} anew"
        )
    content = read_bytes(place, file) if place.suffix == ".zip" else (place / file).read_bytes()
    return content.decode("utf-8-sig").splitlines()  # a byte order mark is no part of a name


@files_of.remembered(lambda place: [place])
def wnids(place: Path) -> tuple[str, ...]:
    """The classes, sorted, as an ImageFolder numbers them."""
    listed = tuple(sorted(filter(None, text(place, "wnids.txt"))))
    present = {file.split("/")[1] for file in files(place) if file.startswith("train/")}
    if set(listed) != present or len(listed) < 2:
        differing = sorted(set(listed) ^ present)
        raise ValueError(
            f"wnids.txt of {place} lists {len(listed)} classes and train/ has "
            f"{len(present)}"
            + (f" (differing: {', '.join(differing[:5])})" if differing else "; two are needed")
            + f"; {GET} anew"
        )
    return listed


@files_of.remembered(places)
def classes(name: str, root: Path) -> tuple[str, ...]:
    """The first word that words.txt has for each wnid, with the wnid where two classes share it."""
    place = tree(root)
    words = {
        wnid: words.split(",")[0]
        for wnid, _, words in (line.partition("\t") for line in text(place, "words.txt"))
    }
    first = [words.get(wnid, wnid) for wnid in wnids(place)]
    return tuple(
        f"{word} ({wnid})" if first.count(word) > 1 else word
        for word, wnid in zip(first, wnids(place), strict=True)
    )


@files_of.remembered(lambda place, split: [place])
def listing(place: Path, split: str) -> tuple[tuple[str, str], ...]:
    """(file below the tree, wnid) of every image."""
    if split == "train":
        return tuple(
            (file, file.split("/")[1])
            for file in sorted(files(place))
            if file.startswith("train/") and file.upper().endswith(".JPEG")
        )
    found, present = [], files(place)
    folders = {"/".join(file.split("/")[:2]) for file in present}
    for number, line in enumerate(text(place, "val/val_annotations.txt"), 1):
        image, wnid = (line.split("\t") + ["", ""])[:2]
        if f"val/images/{image}" not in present or f"train/{wnid}" not in folders:
            raise ValueError(
                f"{place}, val/val_annotations.txt, line {number}: {line[:60]!r} "
                "does not name an image of val/images and a "
                f"class of train/; {GET} anew"
            )
        found.append((f"val/images/{image}", wnid))
    return tuple(found)


@files_of.remembered(places)
def about(name: str, root: Path) -> About:
    """Title and fingerprint: of the images' paths and sizes and of the labels, not of 110,000
    files' bytes.
    """
    place = tree(root)
    number, sizes = len(wnids(place)), files(place)
    listed = {split: listing(place, split) for split in FULL}
    whole = number == CLASSES and all(len(listed[split]) == FULL[split] for split in FULL)
    part = f"{number} classes; images: " + ", ".join(
        f"{len(of):,} {split}" for split, of in listed.items()
    )
    return About(
        name,
        TITLE if whole else f"part of {TITLE} ({part})",
        "real",
        fingerprint(
            *(f"{file} {sizes[file]} {wnid}" for of in listed.values() for file, wnid in of)
        ),
        "labelled validation images as the test split; the fingerprint is of names, "
        "sizes and labels of files",
    )
