"""Synthetic galaxies in the ten Galaxy10 DECaLS classes: the embedded data set, so that every page
runs without a download.

    images, labels = load_galaxies(2000, size=64, seed=0)        # uint8 (N, H, W, 3), int64 (N,)

How one galaxy is drawn is `morphology.py`'s concern; here a number of them is made in parallel, and
kept. They are made up: an accuracy on them says that code works and which of two designs learns
faster here, nothing about the sky.

A seed means the same bytes for any number of processes and any division into parts, on one kind of
processor with one set of library versions. Another processor may round an exponential differently
and change single grey levels.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import astropy
import numpy as np
import scipy

from astroformer import paths
from astroformer.data import morphology
from astroformer.data.images import About, Images, fingerprint
from astroformer.data.morphology import CLASS_NAMES, SMALLEST, VERSION, image_at, label_at, render
from astroformer.data.pixels import stored_or_cut
from astroformer.data.table import DATASETS
from astroformer.machine import processors, threads

__all__ = [
    "CLASS_NAMES",
    "VERSION",
    "about",
    "classes",
    "generate",
    "load",
    "load_galaxies",
    "render",
]

OWN = ("train_images",)  # how many to make for training; None means the table's number
SEEDS = {"train": 0, "test": 1}  # two seeds, so the splits share no galaxy whatever their sizes

# images that are drawn sooner than another process has started (one to two seconds)
IN_PROCESS = 300


def places(name: str, root: None) -> list[Path]:
    """Nothing: the images follow from the arguments alone."""
    return []


def load(
    name: str,
    root: None,
    split: str,
    *,
    image_size: int | None = None,
    crop_pct: float = 1.0,
    interpolation: str = "bicubic",
    train_images: int | None = None,
) -> Images:
    """A split ("train" or "test") of the data set `galaxies`."""
    size, number = image_size or DATASETS[name].image_size, numbers(name, train_images)[split]
    pixels, labels = load_galaxies(number, size=size, seed=SEEDS[split])
    pixels = stored_or_cut(pixels, size, crop_pct=crop_pct, interpolation=interpolation)
    return Images(pixels, labels, CLASS_NAMES, size, split, about(name, root, train_images))


def labels(name: str, root: None, split: str, *, train_images: int | None = None) -> np.ndarray:
    """(N,) int64, without drawing a galaxy."""
    number, seed = numbers(name, train_images)[split], SEEDS[split]
    return np.array([label_at(index, seed=seed) for index in range(number)], dtype=np.int64)


def about(name: str, root: None, train_images: int | None = None) -> About:
    """With the fingerprint of what is made, not of its pixels."""
    recipe = ", ".join(
        f"{split} {number} of seed {SEEDS[split]}"
        for split, number in numbers(name, train_images).items()
    )
    row = DATASETS[name]
    return About(
        name, row.title, row.kind, fingerprint(f"{name} version {VERSION}, {recipe}"), row.source
    )


def classes(name: str, root: None) -> tuple[str, ...]:
    return CLASS_NAMES


def usual(name: str, root: None) -> dict[str, int]:
    return {"train_images": DATASETS[name].train}


def numbers(name: str, train_images: int | None) -> dict[str, int]:
    """Images of each split."""
    if train_images is not None and train_images < 1:
        raise ValueError(f"train_images {train_images}: give a number of at least 1")
    return {"train": train_images or DATASETS[name].train, "test": DATASETS[name].test}


def generate(
    number: int, *, size: int = 64, seed: int = 0, first: int = 0, workers: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images `first` to `first + number - 1` of a seed: uint8 (N, size, size, 3) and labels int64
    (N,).

    Classes are exactly balanced when `first` and `number` are multiples of ten. `workers` is the
    number of processes: by default one per processor this process may use, or this process alone
    for a few images.
    """
    _check(number, size, seed, first, workers)
    labels = np.array(
        [label_at(index, seed=seed) for index in range(first, first + number)], dtype=np.int64
    )
    images = np.empty((number, size, size, 3), dtype=np.uint8)
    if workers is None:
        workers = 1 if number < IN_PROCESS else processors()
    if workers == 1:
        for place in range(number):
            images[place] = image_at(first + place, size=size, seed=seed)
    else:
        _draw_elsewhere(images, seed, first, min(workers, number))
    return images, labels


def _check(number: int, size: int, seed: int, first: int, workers: int | None) -> None:
    if number < 1:
        raise ValueError(f"{number} galaxies asked for: give a number of at least 1")
    if size < SMALLEST:
        raise ValueError(
            f"a galaxy of {size} pixels shows nothing: give a size of at least {SMALLEST}"
        )
    if seed < 0 or first < 0:
        raise ValueError(f"seed {seed}, first {first}: give numbers that are not negative")
    if workers is not None and workers < 1:
        raise ValueError(
            f"{workers} workers draw nothing: give at least 1, or None for one per processor"
        )


def _draw_elsewhere(images: np.ndarray, seed: int, first: int, workers: int) -> None:
    """Fills `images` (N, H, W, 3) from `workers` processes, each with a contiguous part.

    They are fresh interpreters running `morphology.py` as a program. A fork may deadlock once
    PyTorch has threads; multiprocessing's spawn would import the caller's `__main__` and, to find
    the function, PyTorch with it.
    """
    bounds = np.linspace(0, len(images), workers + 1).astype(int)
    # Left in reverse order: an error or an interrupt kills the processes, and with that ends the
    # readers.
    with ThreadPoolExecutor(workers) as readers, contextlib.ExitStack() as stack:
        drawing = []
        for start, stop in zip(bounds, bounds[1:], strict=False):
            complaints = stack.enter_context(tempfile.TemporaryFile())
            process = stack.enter_context(
                _start(stop - start, images.shape[1], seed, first + start, complaints)
            )
            stack.callback(process.kill)  # no effect on one that has finished
            drawing.append((process, complaints, images[start:stop]))
        # One reader a process: where nobody reads, a full pipe makes the writer wait.
        list(readers.map(lambda one: _receive(*one), drawing))


def _start(number: int, size: int, seed: int, first: int, complaints) -> subprocess.Popen:
    wanted = {"number": number, "size": size, "seed": seed, "first": first}
    options = [f"--{name}={value}" for name, value in wanted.items()]
    # -P: without it the modules beside morphology.py could hide the standard library's.
    command = [sys.executable, "-P", str(Path(morphology.__file__).resolve()), *options]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        env=os.environ | threads(1),
    )


def _receive(process: subprocess.Popen, complaints, images: np.ndarray) -> None:
    """Reads `images` (n, H, W, 3) from a process; one that stops early is an error that repeats
    its last words.
    """
    received = process.stdout.readinto(memoryview(images).cast("B"))
    if process.wait() or received < images.nbytes:
        complaints.seek(0)
        words = complaints.read().decode(errors="replace").strip().splitlines() or [
            "it said nothing"
        ]
        raise RuntimeError(
            f"a process that draws galaxies stopped early ({words[-1]}): pass "
            "workers=1 to see where"
        )


def load_galaxies(
    number: int,
    *,
    size: int = 64,
    seed: int = 0,
    first: int = 0,
    workers: int | None = None,
    cache: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """As `generate`, kept in the user's cache folder; `cache=False` neither reads nor writes
    there.
    """
    _check(number, size, seed, first, workers)
    if not cache:
        return generate(number, size=size, seed=seed, first=first, workers=workers)
    file = _cache_file(number, size, seed, first)
    kept = _read(file)
    if kept is None:
        kept = generate(number, size=size, seed=seed, first=first, workers=workers)
        _write(file, *kept)
    return kept


def _cache_file(number: int, size: int, seed: int, first: int) -> Path:
    """Named by all that decides the pixels, the libraries that compute them included."""
    decisive = {
        "version": VERSION,
        "number": number,
        "size": size,
        "seed": seed,
        "first": first,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "astropy": astropy.__version__,
    }
    name = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
    return paths.cache() / "galaxies" / f"{name}.npz"


def _read(file: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Images and labels, or None if they have to be made; a damaged file is named on standard
    error.
    """
    if not file.exists():
        return None
    content, seal = file.read_bytes(), file.with_suffix(".sha256")
    if not seal.exists() or seal.read_text().strip() != hashlib.sha256(content).hexdigest():
        print(
            f"astroformer: {file} is damaged (its SHA-256 is not the recorded one); making it "
            "again",
            file=sys.stderr,
        )
        return None
    with np.load(io.BytesIO(content)) as kept:
        return kept["images"], kept["labels"]


def _write(file: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """The file and its checksum, each complete or absent: processes that write the same galaxies
    at once do no harm.
    """
    buffer = io.BytesIO()
    np.savez(buffer, images=images, labels=labels)
    content = buffer.getvalue()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # The checksum first: a reader that finds the new images finds their checksum.
        _replace(file.with_suffix(".sha256"), hashlib.sha256(content).hexdigest().encode() + b"\n")
        _replace(file, content)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and file.parent.is_dir():
            print(
                f"astroformer: {file.parent} cannot be written to, so the galaxies are made again "
                "next time; ASTROFORMER_CACHE names a folder of your own",
                file=sys.stderr,
            )
            return
        raise OSError(
            f"cannot keep galaxies in {file.parent} ({error}): set ASTROFORMER_CACHE, "
            "or pass cache=False"
        ) from error


def _replace(file: Path, content: bytes) -> None:
    """Readable for all whom the user's umask lets read, as a cache may be shared."""
    unfinished = file.with_name(f".unfinished-{uuid.uuid4().hex}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
