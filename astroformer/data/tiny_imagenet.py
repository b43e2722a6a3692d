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

from astroformer.data.folder import Decoded, checked_crop, open_rgb, squared
from astroformer.data.images import About, Images, fingerprint

TITLE = "Tiny ImageNet"
FOLDER = "tiny-imagenet-200"
ARCHIVE = FOLDER + ".zip"
IMAGE_SIZE = 64  # pixels
FULL = {"train": 100_000, "test": 10_000}  # images, in 200 classes
CLASSES = 200
OWN = ()
GET = "`astroformer data fetch tiny_imagenet` downloads it"


def load(
    name: str,
    root: Path,
    split: str,
    *,
    image_size: int | None = None,
    crop_pct: float | None = None,
) -> Images:
    """A split ("train" or "test", which is `val`), in the order of class and file name, or of
    val_annotations.txt.
    """
    size, place = image_size or IMAGE_SIZE, tree(root)
    label_of = {wnid: label for label, wnid in enumerate(wnids(place))}
    listed = listing(place, split)
    read = partial(
        read_image, place, size=size, crop_pct=checked_crop(1.0 if crop_pct is None else crop_pct)
    )
    labels = np.array([label_of[wnid] for _, wnid in listed], dtype=np.int64)
    return Images(
        Decoded([file for file, _ in listed], size, read),
        labels,
        classes(name, root),
        size,
        split,
        about(name, root),
    )


def read_image(place: Path, file: str, *, size: int, crop_pct: float) -> np.ndarray:
    """uint8 (size, size, 3) of a file below the tree."""
    if place.suffix != ".zip":
        return np.asarray(squared(open_rgb(place / file), size, crop_pct))
    packed = io.BytesIO(opened(place, os.getpid()).read(f"{FOLDER}/{file}"))
    return np.asarray(squared(open_rgb(packed, shown=f"{place}:{file}"), size, crop_pct))


@lru_cache(maxsize=4)
def opened(archive: Path, process: int) -> zipfile.ZipFile:
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


@lru_cache(maxsize=4)
def files(place: Path) -> dict[str, int]:
    """Every file below the tree, by its path there, and its bytes."""
    if place.suffix == ".zip":
        return {
            info.filename.removeprefix(FOLDER + "/"): info.file_size
            for info in opened(place, os.getpid()).infolist()
            if not info.is_dir()
        }
    found = {}
    for folder, _, names in os.walk(place):
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
    content = (
        opened(place, os.getpid()).read(f"{FOLDER}/{file}")
        if place.suffix == ".zip"
        else (place / file).read_bytes()
    )
    return content.decode().splitlines()


@lru_cache(maxsize=4)
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


@lru_cache(maxsize=4)
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


@lru_cache(maxsize=4)
def listing(place: Path, split: str) -> tuple[tuple[str, str], ...]:
    """(file below the tree, wnid) of every image."""
    if split == "train":
        return tuple(
            (file, file.split("/")[1])
            for file in sorted(files(place))
            if file.startswith("train/") and file.upper().endswith(".JPEG")
        )
    found = []
    for number, line in enumerate(text(place, "val/val_annotations.txt"), 1):
        image, wnid = (line.split("\t") + ["", ""])[:2]
        if f"val/images/{image}" not in files(place) or f"train/{wnid}" not in folders(place):
            raise ValueError(
                f"{place}, val/val_annotations.txt, line {number}: {line[:60]!r} "
                "does not name an image of val/images and a "
                f"class of train/; {GET} anew"
            )
        found.append((f"val/images/{image}", wnid))
    return tuple(found)


@lru_cache(maxsize=4)
def folders(place: Path) -> frozenset[str]:
    return frozenset("/".join(file.split("/")[:2]) for file in files(place))


@lru_cache(maxsize=4)
def about(name: str, root: Path) -> About:
    """Title and fingerprint: of the images' paths and sizes and of the labels, not of 110,000
    files' bytes.
    """
    place = tree(root)
    number = len(wnids(place))
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
            *(f"{file} {files(place)[file]} {wnid}" for of in listed.values() for file, wnid in of)
        ),
        "labelled validation images as the test split; the fingerprint is of names, "
        "sizes and labels of files",
    )
