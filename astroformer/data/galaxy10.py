"""Galaxy10 DECaLS (Leung and Bovy 2019; Walmsley et al. 2022), from its publishers' HDF5 file,
never read as a whole.

ROOT/Galaxy10_DECals.h5    images uint8 (17736, 256, 256, 3), ans (17736,) in 0..9, ra, dec,
                           redshift, pxscale

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
from functools import lru_cache, partial
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from astroformer import paths
from astroformer.data import walk
from astroformer.data.images import About, Images, fingerprint
from astroformer.data.listing import version
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
GET = (
    "`astroformer data fetch galaxy10_decals` downloads the published file, `data verify` "
    f"compares its SHA-256 {SHA256}"
)
SIZE = 256  # pixels, height and width
NUMBER = 17_736  # images of the published file
TESTED = 0.1  # part of the images that is for testing
COORDINATES = ("ra", "dec", "redshift", "pxscale")
SAMPLES, SAMPLE_BYTES = 64, 4096  # pieces of the file that its fingerprint looks at
# bytes of decompressed blocks kept: images in their order need each block once
BLOCK_CACHE = 128 * 2**20
COPIED = 256  # images copied into the memory map at a time, 50 MB


def places(name: str, root: Path) -> list[Path]:
    """What the data set consists of."""
    return [root / FILE]


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
    path, size = file_in(root), image_size or SIZE
    labels, _ = contents(path)
    tested = drawn(labels, test_images, split_seed)
    places = tested if split == "test" else np.setdiff1d(np.arange(len(labels)), tested)
    read = partial(stored_image, path, version(path))
    pixels = Galaxies(places, size, read, crop_pct=crop_pct, interpolation=interpolation, path=path)
    return Images(pixels, labels[places], CLASS_NAMES, size, split, about(name, root))


def about(name: str, root: Path) -> About:
    labels, sha256 = contents(file_in(root))
    title = DATASETS[name].title
    return About(
        name,
        title if len(labels) == NUMBER else f"part of {title} ({len(labels):,} images)",
        "real",
        sha256,
        "images: DESI Legacy Imaging Surveys, labels: Galaxy Zoo; no official split: a "
        "seeded, stratified one, "
        "whose test images are not those of the public edition of the same sizes; the "
        "fingerprint is of labels, "
        "coordinates and samples of the file",
    )


def classes(name: str, root: Path) -> tuple[str, ...]:
    return CLASS_NAMES


def usual(name: str, root: Path) -> dict[str, int]:
    return {"test_images": round(TESTED * len(contents(file_in(root))[0]))}


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


class Galaxies(Decoded):
    """Images of the file `path` by their places in it (`sources`), (N,)."""

    def __init__(self, places: np.ndarray, size: int, read: Callable, *, path: Path, **how):
        super().__init__(places, size, read, **how)
        self.path = path

    def changed(self, **changes) -> "Galaxies":
        return super().changed(path=self.path, **changes)

    def ready(self, report: Callable[[str], None], *, whole: bool = False) -> "Galaxies":
        """From the memory map, which is made if there is none; squares in memory too, if they are
        smaller and half of what is free will do.
        """
        file = memory_map(self.path, report)
        mapped = self.changed(read=partial(mapped_image, file, version(file)))
        return mapped if whole or self.size == SIZE else mapped.kept()


def stored_image(path: Path, version: tuple[int, ...], place: int) -> np.ndarray:
    return stored_images(path, place, place + 1)[0]


def stored_images(path: Path, start: int, stop: int) -> np.ndarray:
    """uint8 (stop - start, 256, 256, 3)."""
    try:
        return opened(path, version(path))["images"][start:stop]
    except OSError as error:
        raise damaged(path, f"images {start} to {stop - 1} cannot be read: {error}") from error


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
    """uint8 (N, 256, 256, 3), read from the disk where it is looked at; what is passed to other
    processes is the name.
    """
    return np.load(file, mmap_mode="r")


def memory_map(path: Path, report: Callable[[str], None]) -> Path:
    """A .npy file in the cache folder with all images, whole or not at all. It is made once, by
    one process at a time.
    """
    labels, sha256 = contents(path)
    shape = (len(labels), SIZE, SIZE, 3)
    file = paths.cache() / "galaxy10_decals" / f"{sha256[:16]}-{path.stat().st_mtime_ns}.npy"
    if is_whole(file, shape):  # nothing to write: the folder may be another user's
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file.with_suffix(".lock")) as lock:
            if not is_whole(file, shape):
                report(
                    f"copying {len(labels):,} images once into {file} "
                    f"({np.prod(shape) / 1e9:.1f} GB)"
                )
                copy_images(path, file, shape, lock)
    except PermissionError as error:
        raise PermissionError(
            f"cannot write {file}, the memory map of {path.name} ({error.strerror}); "
            "set ASTROFORMER_CACHE to a folder of your own"
        ) from error
    return file


def is_whole(file: Path, shape: tuple[int, ...]) -> bool:
    try:
        kept = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # not there, or cut by a full disk
        return False
    return kept.shape == shape and kept.dtype == np.uint8


def copy_images(path: Path, file: Path, shape: tuple[int, ...], lock: Lock) -> None:
    """Written by ordinary writes: on a full disk they raise, where writing into a map would end
    the process. OSError if another process has taken the lock meanwhile, whose copy it is then.
    """
    needed, free = int(np.prod(shape)), shutil.disk_usage(file.parent).free
    if needed > free:
        raise OSError(
            f"the memory map of {path.name} needs {needed / 1e9:.1f} GB in "
            f"{file.parent} and {free / 1e9:.1f} GB are "
            "free; make room, or set ASTROFORMER_CACHE to a folder on a larger disk"
        )
    part = file.with_suffix(".part")
    # what a killed process left, or one that sleeps still has open
    part.unlink(missing_ok=True)
    try:
        with (
            open(part, "wb") as stream,
            tqdm(total=shape[0], unit="images", desc=path.name, disable=None) as bar,
        ):
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            for start in range(0, shape[0], COPIED):
                images = stored_images(path, start, min(start + COPIED, shape[0]))
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


def file_in(root: Path) -> Path:
    """The publishers' file; FileNotFoundError that names what lies there in its place: another
    edition, or another survey's Galaxy10.
    """
    path = root / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}{_in_its_place(root)}; {GET}. Another folder is named with "
            "--data-dir ROOT or ASTROFORMER_DATA"
        )
    return path


def _in_its_place(root: Path) -> str:
    files = walk.others_below(root) if root.is_dir() else []
    parquet = [one for one in files if one.suffix == ".parquet"]
    hdf5 = [one for one in files if one.suffix in (".h5", ".hdf5")]
    if parquet:
        return (
            f", and the {len(parquet)} Parquet files there ({parquet[0].name}) are another edition "
            "that is not read"
        )
    if hdf5:
        return (
            f", and {hdf5[0].name} is not it: Galaxy10 SDSS (Galaxy10.h5) has other images and "
            "classes than Galaxy10 DECaLS, and the published file has the name above"
        )
    return ""


def contents(path: Path) -> tuple[np.ndarray, str]:
    """Labels (N,) int64 and the fingerprint of a file, read anew when it has changed."""
    return read_contents(path, version(path))


@lru_cache(maxsize=4)
def read_contents(path: Path, version: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """ValueError in one line for anything that is not a file in the published format. Reads no
    image.
    """
    size = version[0]
    pieces = samples(path, size)
    if not h5py.is_hdf5(path):
        raise damaged(path, f"it is no HDF5 file, it begins with {pieces[0][:20]!r}")
    try:
        close_older(path, version)
        with h5py.File(path, "r", locking="best-effort") as file:
            missing = [
                key for key in ("images", "ans") if not isinstance(file.get(key), h5py.Dataset)
            ]
            if missing:
                raise damaged(path, f"it has no {' and no '.join(missing)}")
            labels, images = file["ans"][()], file["images"]
            check(path, images, labels)
            coordinates = [file[key][()].tobytes() for key in COORDINATES if key in file]
    except OSError as error:
        raise damaged(path, str(error)) from error
    labels = labels.astype(np.int64)
    return labels, fingerprint(
        labels.tobytes(), *coordinates, f"{len(labels)} images, {size} bytes", *pieces
    )


def samples(path: Path, size: int) -> list[bytes]:
    """Pieces of the file, from its first bytes to its last."""
    pieces = []
    with open(path, "rb") as file:
        for place in np.linspace(0, max(size - SAMPLE_BYTES, 0), SAMPLES).astype(int):
            file.seek(place)
            pieces.append(file.read(SAMPLE_BYTES))
    return pieces


def check(path: Path, images: h5py.Dataset, labels: np.ndarray) -> None:
    if images.shape[1:] != (SIZE, SIZE, 3) or images.dtype != np.uint8:
        raise damaged(
            path, f"its images are {images.dtype} {images.shape}, not uint8 (N, {SIZE}, {SIZE}, 3)"
        )
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise damaged(
            path,
            f"its {images.shape[0]:,} images have labels (ans) of {labels.dtype} {labels.shape}",
        )
    if not len(labels):
        raise damaged(path, "it has no images")
    if labels.min() < 0 or labels.max() >= len(CLASS_NAMES):
        raise damaged(
            path,
            f"its labels (ans) go from {labels.min()} to {labels.max()}, not from "
            f"0 to {len(CLASS_NAMES) - 1}",
        )


def damaged(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{path} is not Galaxy10 DECaLS as published: {' '.join(what.split())}. {GET}"
    )
