"""Any ImageFolder on disk: `ROOT/train/<class>/*.jpg` and `ROOT/test/<class>/*.jpg` (or `val`).
Class names are folder names.

A file `about.json` in ROOT, which `astroformer data unpack` writes for the archives it knows, says
how the data set must be named beside a number. Without one the folder's own name is used.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from astroformer.data.images import About, Images, fingerprint

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"}
LAYOUT = "expected ROOT/train/<class>/*.jpg and ROOT/test/<class>/*.jpg (or val)"


OWN = ()


def load(
    name: str,
    root: Path,
    split: str,
    *,
    image_size: int | None = None,
    crop_pct: float | None = None,
) -> Images:
    """A split of the data set `folder`."""
    return load_folder(
        root, split, image_size=image_size, crop_pct=1.0 if crop_pct is None else crop_pct
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
    in_memory_limit: int | None = None,
) -> Images:
    """One split of an ImageFolder, resized (shorter side, bicubic) and centre-cropped to
    `image_size` x `image_size` pixels.

    image_size: None takes the size of the first training image
    crop_pct: part of the shorter side that the crop keeps; 0.875 resizes to 256 for 224 pixels
    in_memory_limit: bytes of uint8 that may be kept decoded; None means half of the free memory. A
        larger split is decoded image by image, each time it is asked for.
    """
    root = existing(root)
    classes = class_names(root)
    files = list_split(root, split, classes)
    about, image_size = describe(root), image_size or native_size(root)
    paths = [path for path, _ in files]
    labels = np.array([label for _, label in files], dtype=np.int64)
    decoded = Decoded(
        paths, image_size, partial(read_image, size=image_size, crop_pct=checked_crop(crop_pct))
    )
    return Images(decoded.kept(in_memory_limit), labels, classes, image_size, split, about)


class Decoded:
    """Images that are made from their sources (files, arrays) when asked for: item i is uint8
    (size, size, 3).

    read: source -> that image; read_whole: source -> uint8 (H, W, 3), the image before it is cut to
        a square
    """

    def __init__(
        self, sources: Sequence, size: int, read: Callable, read_whole: Callable | None = None
    ):
        self.sources, self.size, self.read, self.read_whole = (
            sources,
            size,
            read,
            read_whole or read,
        )

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(self.sources[index])

    def whole(self, index: int) -> np.ndarray:
        return self.read_whole(self.sources[index])

    def take(self, indices: np.ndarray) -> "Decoded":
        return Decoded([self.sources[i] for i in indices], self.size, self.read, self.read_whole)

    def kept(self, in_memory_limit: int | None = None) -> "np.ndarray | Decoded":
        """Every image, if they take no more than so many bytes (None: half of the free memory);
        else itself.
        """
        limit = free_memory() // 2 if in_memory_limit is None else in_memory_limit
        return self.all() if len(self) * self.size**2 * 3 <= limit else self

    def ready(self, report: Callable[[str], None]) -> "np.ndarray | Decoded":
        """For what asks for each image many times: every image decoded, if memory allows and
        nothing is lost by cutting it to a square beforehand.
        """
        return self.kept() if self.read_whole is self.read else self

    def all(self) -> np.ndarray:
        """Every image, (N, size, size, 3), decoded by threads: Pillow releases the interpreter
        while it decodes.
        """
        images = np.empty((len(self), self.size, self.size, 3), dtype=np.uint8)
        with ThreadPoolExecutor() as pool:
            for i, image in enumerate(pool.map(self.__getitem__, range(len(self)))):
                images[i] = image
        return images


def read_image(path: str | Path, size: int, crop_pct: float = 1.0) -> np.ndarray:
    """uint8 (size, size, 3): the middle of the image, see `squared`."""
    return np.asarray(squared(open_rgb(path), size, crop_pct))


def whole_image(path: str | Path) -> np.ndarray:
    """uint8 (H, W, 3)."""
    return np.asarray(open_rgb(path))


def open_rgb(source: str | Path | BinaryIO, *, shown: str = "") -> Image.Image:
    """The image of a file in RGB, decoded; grey, transparent and CMYK ones are converted.
    `shown` names it where it has no path.
    """
    try:
        with Image.open(source) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"cannot read the image {shown or source} ({error}); replace the file or delete it"
        ) from error


def squared(image: Image.Image, size: int, crop_pct: float = 1.0) -> Image.Image:
    """Shorter side to `size` / `crop_pct`, bicubic, then the middle `size` x `size` pixels.

    Lengths and edges are rounded as torchvision's Resize and CenterCrop do, with which the
    published numbers were measured.
    """
    shorter, present = int(size / crop_pct), min(image.size)
    if present != shorter:
        image = image.resize(
            [int(shorter * side / present) for side in image.size], Image.Resampling.BICUBIC
        )
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def checked_crop(crop_pct: float) -> float:
    if not 0 < crop_pct <= 1:
        raise ValueError(
            f"crop_pct {crop_pct} is outside (0, 1]; 0.875 keeps 224 of 256 pixels, "
            "1 the whole shorter side"
        )
    return crop_pct


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
    names = ("test", "val") if split == "test" else (split,)
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


@lru_cache(maxsize=8)
def describe(root: Path) -> About:
    """Name, kind and fingerprint of the folder; the fingerprint covers every file's path and
    bytes in both splits.
    """
    classes = class_names(root)
    parts: list[bytes | str] = []
    for split in ("train", "test"):
        for path, _ in list_split(root, split, classes):
            parts += [path.relative_to(root).as_posix(), path.read_bytes()]
    told = json.loads((root / "about.json").read_text()) if (root / "about.json").is_file() else {}
    name = told.get("name", root.resolve().name)
    return About(
        name=name,
        title=told.get("title", name),
        kind=told.get("kind", "real"),
        note=told.get("note", ""),
        mirrored=tuple(tuple(pair) for pair in told.get("mirrored", ())),
        sha256=fingerprint(*parts),
    )


def native_size(root: Path) -> int:
    """Pixels on the shorter side of the first training image."""
    path, _ = list_split(root, "train", class_names(root))[0]
    with Image.open(path) as image:
        return min(image.size)


def free_memory() -> int:
    """Bytes that can be had without swapping (Linux); elsewhere a cautious 4 GiB."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")
        )
    except (OSError, StopIteration):
        return 4 * 2**30
