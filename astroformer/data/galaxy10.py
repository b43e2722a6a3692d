"""Galaxy10 (Leung and Bovy 2019; Walmsley et al. 2022), from its publishers' HDF5 files, never read
as a whole: Galaxy10 DECaLS and the older Galaxy10 SDSS. A file of the Hugging Face edition of
Galaxy10 DECaLS in its place is `galaxy10_parquet.py`'s.

ROOT/Galaxy10_DECals.h5    images uint8 (17736, 256, 256, 3), ans (17736,) in 0..9, ra, dec,
                           redshift, pxscale
ROOT/Galaxy10.h5           images uint8 (21785, 69, 69, 3), ans (21785,) in 0..9

Opening reads labels and coordinates alone; an image is read when asked for. The published file is
compressed in blocks that may hold parts of many images, so before training `ready` copies all of
them once into a memory map in the cache folder: after that an epoch, in any order, reads no more
than it uses.

There is no official split. It is drawn by a seed, stratified, each class to its exact share
(largest remainders); by default a tenth is for testing, which gives the sizes of the public
edition, 15,962 and 1,774. Which images that edition tests on was its own choice and is another.

`about` tells files apart by labels, coordinates, the size of the file and samples of its bytes, in
milliseconds; a SHA-256 of 2.5 GB at every start would take seconds to minutes. `astroformer data
verify galaxy10_decals` computes that.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, Protocol

import h5py
import numpy as np
from tqdm import tqdm

from astroformer import paths
from astroformer.data import galaxy10_parquet, walk
from astroformer.data.images import About, Images, fingerprint
from astroformer.data.listing import samples, version
from astroformer.data.morphology import CLASS_NAMES  # the ten classes, in the order of the labels
from astroformer.data.pixels import Decoded
from astroformer.data.table import DATASETS
from astroformer.locks import Lock, locked

OWN = ("test_images", "split_seed")
FILE = "Galaxy10_DECals.h5"
URLS = (
    "https://zenodo.org/records/10845026/files/Galaxy10_DECals.h5",
    "https://astro.utoronto.ca/~hleung/shared/Galaxy10/Galaxy10_DECals.h5",
)
SHA256 = "19aefc477c41bb7f77ff07599a6b82a038dc042f889a111b0d4d98bb755c1571"
SIZE = 256  # pixels, height and width
NUMBER = 17_736  # images of the published file
# Of Galaxy10 SDSS: facts and checksum as astroNN's documentation has them,
# https://github.com/henrysky/astroNN/blob/master/docs/source/galaxy10sdss.rst
SDSS_FILE = "Galaxy10.h5"
SDSS_URLS = (
    "https://zenodo.org/records/10844811/files/Galaxy10.h5",
    "https://astro.utoronto.ca/~hleung/shared/Galaxy10/Galaxy10.h5",
    "http://astro.utoronto.ca/~bovy/Galaxy10/Galaxy10.h5",
)
SDSS_SHA256 = "969a6b1cefcc36e09fffa86febd2f699a4aa19b837ba0427f01b0bc6ded458af"
SDSS_CLASSES = (
    "Disk, Face-on, No Spiral",
    "Smooth, Completely round",
    "Smooth, in-between round",
    "Smooth, Cigar shaped",
    "Disk, Edge-on, Rounded Bulge",
    "Disk, Edge-on, Boxy Bulge",
    "Disk, Edge-on, No Bulge",
    "Disk, Face-on, Tight Spiral",
    "Disk, Face-on, Medium Spiral",
    "Disk, Face-on, Loose Spiral",
)
TESTED = 0.1  # part of the images that is for testing
COORDINATES = ("ra", "dec", "redshift", "pxscale")
# bytes of decompressed blocks kept: images in their order need each block once
BLOCK_CACHE = 128 * 2**20
COPIED = 256  # images copied into the memory map at a time, 50 MB


class Edition(NamedTuple):
    """A published file."""

    name: str
    file: str
    urls: tuple[str, ...]
    sha256: str
    size: int  # pixels, height and width
    number: int  # images
    classes: tuple[str, ...]
    note: str  # where images and labels are from

    @property
    def title(self) -> str:
        return DATASETS[self.name].title

    @property
    def get(self) -> str:
        return (
            f"`astroformer data fetch {self.name}` downloads the published file, `data verify` "
            f"compares its SHA-256 {self.sha256}"
        )


def edition(name: str) -> Edition:
    """By the data set's name."""
    if name == "galaxy10_sdss":
        note = "images: Sloan Digital Sky Survey (g, r, i), labels: Galaxy Zoo"
        return Edition(name, SDSS_FILE, SDSS_URLS, SDSS_SHA256, 69, 21_785, SDSS_CLASSES, note)
    note = "images: DESI Legacy Imaging Surveys, labels: Galaxy Zoo"
    return Edition(name, FILE, URLS, SHA256, SIZE, NUMBER, CLASS_NAMES, note)


def _in_parquet(name: str, root: Path) -> bool:
    """Whether the Hugging Face edition lies there, and not the publishers' file."""
    if name != "galaxy10_decals" or (root / FILE).is_file():
        return False
    return bool(galaxy10_parquet.files_in(root))


def places(name: str, root: Path) -> list[Path]:
    """What the data set consists of."""
    if _in_parquet(name, root):
        return [one for own in galaxy10_parquet.files_in(root).values() for one in own]
    return [root / edition(name).file]


def load(
    name: str,
    root: Path,
    split: str,
    *,
    image_size: int | None = None,
    crop_pct: float = 1.0,
    interpolation: str = "bicubic",
    test_images: int | None = None,
    split_seed: int = 0,
) -> Images:
    """A split ("train" or "test"), in the file's order."""
    own = edition(name)
    size, how = image_size or own.size, {"crop_pct": crop_pct, "interpolation": interpolation}
    if _in_parquet(name, root):
        if test_images is not None or split_seed:
            raise ValueError(
                f"{galaxy10_parquet.TITLE} has a split of its own; leave out --test-images and "
                "--split-seed"
            )
        store = galaxy10_parquet.store(root, split)
        pixels = Galaxies(np.arange(store.number), size, store.image, store=store, **how)
        return Images(pixels, store.labels(), own.classes, size, split, about(name, root))
    path = file_in(root, own)
    labels, _ = contents(path, own)
    tested = drawn(labels, test_images, split_seed)
    places = tested if split == "test" else np.setdiff1d(np.arange(len(labels)), tested)
    read = partial(stored_image, path, version(path))
    pixels = Galaxies(places, size, read, store=Hdf5(path, name), **how)
    return Images(pixels, labels[places], own.classes, size, split, about(name, root))


def about(name: str, root: Path) -> About:
    if _in_parquet(name, root):
        return galaxy10_parquet.about(name, root)
    own = edition(name)
    labels, sha256 = contents(file_in(root, own), own)
    whole = len(labels) == own.number
    of_the_split = (
        "no official split: a seeded, stratified one, whose test images are not those of the "
        "public edition of the same sizes"
        if name == "galaxy10_decals"
        else "no official split: a seeded, stratified one"
    )
    return About(
        name,
        own.title if whole else f"part of {own.title} ({len(labels):,} images)",
        "real",
        sha256,
        f"{own.note}; {of_the_split}; the fingerprint is of labels, coordinates and samples of the "
        "file",
    )


def classes(name: str, root: Path) -> tuple[str, ...]:
    return edition(name).classes


def usual(name: str, root: Path) -> dict[str, int]:
    if _in_parquet(name, root):
        return {}
    own = edition(name)
    return {"test_images": round(TESTED * len(contents(file_in(root, own), own)[0]))}


def drawn(labels: np.ndarray, test_images: int | None, seed: int) -> np.ndarray:
    """Sorted places of so many test images (None: a tenth), of each class its share to within
    one image.
    """
    total, counts = len(labels), np.bincount(labels, minlength=len(CLASS_NAMES))
    number = round(TESTED * total) if test_images is None else test_images
    if seed < 0:
        raise ValueError(f"split_seed {seed} is negative; any number from 0 on draws a split")
    least = -(-total // counts[counts > 0].min())  # gives the rarest class an image for certain
    if not least <= number <= total - least:
        raise ValueError(
            f"test_images {number} of {total:,} images may leave a class without one "
            "to test on or to train "
            f"with; choose from {least} to {total - least}"
        )
    shares, remainders = number * counts // total, number * counts % total
    shares[np.argsort(-remainders, kind="stable")[: number - shares.sum()]] += 1
    chosen = [
        np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))[:share]
        for label, share in enumerate(shares)
    ]
    return np.sort(np.concatenate(chosen))


class Store(Protocol):
    """All images of a file or of some, in their order."""

    number: int
    size: int  # pixels
    shown: str  # what they are from, in a few words
    copy: Path  # where their memory map goes

    def images(self, start: int, stop: int) -> np.ndarray:
        """uint8 (stop - start, size, size, 3)"""


@dataclass(frozen=True)
class Hdf5:
    """A published file as a Store."""

    path: Path
    name: str

    @property
    def number(self) -> int:
        return len(contents(self.path, edition(self.name))[0])

    @property
    def size(self) -> int:
        return edition(self.name).size

    @property
    def shown(self) -> str:
        return self.path.name

    @property
    def copy(self) -> Path:
        sha256 = contents(self.path, edition(self.name))[1]
        return paths.cache() / self.name / f"{sha256[:16]}-{self.path.stat().st_mtime_ns}.npy"

    def images(self, start: int, stop: int) -> np.ndarray:
        return stored_images(self.path, start, stop)


class Galaxies(Decoded):
    """Images of a Store by their places in it (`sources`), (N,)."""

    def __init__(self, places: np.ndarray, size: int, read: Callable, *, store: Store, **how):
        super().__init__(places, size, read, **how)
        self.store = store

    def changed(self, **changes) -> "Galaxies":
        return super().changed(store=self.store, **changes)

    def ready(self, report: Callable[[str], None], *, whole: bool = False) -> "Galaxies":
        """From the memory map, which is made if there is none; squares in memory too, if they are
        smaller and half of what is free will do.
        """
        file = memory_map(self.store, report)
        mapped = self.changed(read=partial(mapped_image, file, version(file)))
        return mapped if whole or self.size == self.store.size else mapped.kept()


def stored_image(path: Path, version: tuple[int, ...], place: int) -> np.ndarray:
    return stored_images(path, place, place + 1)[0]


def stored_images(path: Path, start: int, stop: int) -> np.ndarray:
    """uint8 (stop - start, size, size, 3)."""
    try:
        return opened(path, version(path))["images"][start:stop]
    except OSError as error:
        what = f"images {start} to {stop - 1} cannot be read: {error}"
        raise damaged(path, what, edition_of(path)) from error


def edition_of(path: Path) -> Edition:
    """By the file's name."""
    return edition("galaxy10_sdss" if path.name == SDSS_FILE else "galaxy10_decals")


_open: dict[tuple[Path, int], tuple[tuple[int, ...], h5py.File]] = {}  # by path and process


def opened(path: Path, version: tuple[int, ...]) -> h5py.File:
    """The file, opened once in each process: HDF5 must not be shared with a process that was
    forked off.
    """
    close_older(path, version)
    key = (path, os.getpid())
    if key not in _open:
        how = {"rdcc_nbytes": BLOCK_CACHE, "rdcc_nslots": 100_003, "locking": "best-effort"}
        _open[key] = (version, h5py.File(path, "r", **how))
    return _open[key][1]


def close_older(path: Path, version: tuple[int, ...]) -> None:
    """Whoever opens a file that is open already gets what HDF5 remembers of it, even if it was
    written again meanwhile.
    """
    key = (path, os.getpid())
    if key in _open and _open[key][0] != version:
        _open.pop(key)[1].close()


def mapped_image(file: Path, version: tuple[int, ...], place: int) -> np.ndarray:
    return np.array(mapped(file, version)[place])


@lru_cache(maxsize=4)
def mapped(file: Path, version: tuple[int, ...]) -> np.ndarray:
    """uint8 (N, size, size, 3), read from the disk where it is looked at; what is passed to other
    processes is the name.
    """
    return np.load(file, mmap_mode="r")


def memory_map(store: Store, report: Callable[[str], None]) -> Path:
    """A .npy file in the cache folder with all images, whole or not at all. It is made once, by
    one process at a time.
    """
    shape, file = (store.number, store.size, store.size, 3), store.copy
    if is_whole(file, shape):  # nothing to write: the folder may be another user's
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file.with_suffix(".lock")) as lock:
            if not is_whole(file, shape):
                report(
                    f"copying {store.number:,} images once into {file} "
                    f"({np.prod(shape) / 1e9:.1f} GB)"
                )
                copy_images(store, file, shape, lock)
    except PermissionError as error:
        raise PermissionError(
            f"cannot write {file}, the memory map of {store.shown} ({error.strerror}); "
            "set ASTROFORMER_CACHE to a folder of your own"
        ) from error
    return file


def is_whole(file: Path, shape: tuple[int, ...]) -> bool:
    try:
        kept = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # not there, or cut by a full disk
        return False
    return kept.shape == shape and kept.dtype == np.uint8


def copy_images(store: Store, file: Path, shape: tuple[int, ...], lock: Lock) -> None:
    """Written by ordinary writes: on a full disk they raise, where writing into a map would end
    the process. OSError if another process has taken the lock meanwhile, whose copy it is then.
    """
    needed, free = int(np.prod(shape)), shutil.disk_usage(file.parent).free
    if needed > free:
        raise OSError(
            f"the memory map of {store.shown} needs {needed / 1e9:.1f} GB in "
            f"{file.parent} and {free / 1e9:.1f} GB are "
            "free; make room, or set ASTROFORMER_CACHE to a folder on a larger disk"
        )
    part = file.with_suffix(".part")
    # what a killed process left, or one that sleeps still has open
    part.unlink(missing_ok=True)
    try:
        with (
            open(part, "wb") as stream,
            tqdm(total=shape[0], unit="images", desc=store.shown, disable=None) as bar,
        ):
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            for start in range(0, shape[0], COPIED):
                images = store.images(start, min(start + COPIED, shape[0]))
                stream.write(images.data)
                bar.update(len(images))
        if lost := lock.lost():
            raise OSError(
                f"the memory map {file} is not made here, as {lost}; the same command waits for it"
            )
        os.replace(part, file)
    finally:
        if not lock.lost():
            part.unlink(missing_ok=True)


def file_in(root: Path, own: Edition | None = None) -> Path:
    """The publishers' file; FileNotFoundError that names what lies there in its place: another
    survey's Galaxy10.
    """
    own = own or edition("galaxy10_decals")
    path = root / own.file
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}{_in_its_place(root, own)}; {own.get}. Another folder is named "
            "with --data-dir ROOT or ASTROFORMER_DATA"
        )
    return path


def _in_its_place(root: Path, own: Edition) -> str:
    files = walk.others_below(root) if root.is_dir() else []
    hdf5 = [one for one in files if one.suffix in (".h5", ".hdf5")]
    parquet = [one for one in files if one.suffix == ".parquet"]
    other = edition("galaxy10_decals" if own.name == "galaxy10_sdss" else "galaxy10_sdss")
    if own.name == "galaxy10_sdss" and parquet:
        return f", and the {len(parquet)} Parquet files there ({parquet[0].name}) are not read"
    if any(one.name == other.file for one in hdf5):
        return (
            f", and {other.file} is {other.title}, with other images and classes: "
            f"--dataset {other.name}"
        )
    return f", and {hdf5[0].name} is not it" if hdf5 else ""


def contents(path: Path, own: Edition | None = None) -> tuple[np.ndarray, str]:
    """Labels (N,) int64 and the fingerprint of a file, read anew when it has changed."""
    return read_contents(path, version(path), own or edition("galaxy10_decals"))


@lru_cache(maxsize=4)
def read_contents(path: Path, version: tuple[int, ...], own: Edition) -> tuple[np.ndarray, str]:
    """ValueError in one line for anything that is not a file in the published format. Reads no
    image.
    """
    size = version[0]
    pieces = samples(path)
    if not h5py.is_hdf5(path):
        raise damaged(path, f"it is no HDF5 file, it begins with {pieces[0][:20]!r}", own)
    try:
        close_older(path, version)
        with h5py.File(path, "r", locking="best-effort") as file:
            missing = [
                key for key in ("images", "ans") if not isinstance(file.get(key), h5py.Dataset)
            ]
            if missing:
                raise damaged(path, f"it has no {' and no '.join(missing)}", own)
            labels, images = file["ans"][()], file["images"]
            check(path, images, labels, own)
            coordinates = [file[key][()].tobytes() for key in COORDINATES if key in file]
    except OSError as error:
        raise damaged(path, str(error), own) from error
    labels = labels.astype(np.int64)
    return labels, fingerprint(
        labels.tobytes(), *coordinates, f"{len(labels)} images, {size} bytes", *pieces
    )


def check(path: Path, images: h5py.Dataset, labels: np.ndarray, own: Edition) -> None:
    if images.shape[1:] != (own.size, own.size, 3) or images.dtype != np.uint8:
        raise damaged(
            path,
            f"its images are {images.dtype} {images.shape}, not uint8 (N, {own.size}, {own.size}, "
            "3)",
            own,
        )
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        what = f"its {images.shape[0]:,} images have labels (ans) of {labels.dtype} {labels.shape}"
        raise damaged(path, what, own)
    if not len(labels):
        raise damaged(path, "it has no images", own)
    if labels.min() < 0 or labels.max() >= len(own.classes):
        what = (
            f"its labels (ans) go from {labels.min()} to {labels.max()}, not from 0 to "
            f"{len(own.classes) - 1}"
        )
        raise damaged(path, what, own)


def damaged(path: Path, what: str, own: Edition) -> ValueError:
    return ValueError(
        f"{path} is not {own.title} as published: {' '.join(what.split())}. {own.get}"
    )
