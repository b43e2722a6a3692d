"""What lies in a folder now: a signature of its files, and results that are kept only while it
stays the same.

A process that lives for hours, a notebook's kernel, sees images come and go. So nothing that was
read from files is remembered by their path alone.
"""

import functools
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

# A listing of more files that takes longer is not repeated at each call, as a run asks for it
# several times; it is good for so many times what it took. A short one is always made anew: that it
# took long tells of the machine's other work.
FEW, QUICK, LIFETIME = 1_000, 0.05, 20.0  # files; seconds; factor
SAMPLES, SAMPLE_BYTES = 64, 4096  # pieces of a large file that its fingerprint looks at
_slow: dict[tuple[str, ...], tuple[float, str]] = {}  # places -> until when, signature


def signature(places: Iterable[Path]) -> str:
    """SHA-256 over the name, size, times and inode of every file at or below the places; links are
    followed. One that is not there counts as absent.
    """
    key = tuple(str(place) for place in places)
    until, known = _slow.get(key, (0.0, ""))
    began = time.monotonic()
    if began < until:
        return known
    digest, number = hashlib.sha256(), 0
    for place in key:
        for line in _listed(place):
            digest.update(line.encode(errors="surrogateescape") + b"\0")
            number += not line.endswith("/")  # a folder is no file
    took = time.monotonic() - began
    if number > FEW and took > QUICK:
        _slow[key] = (time.monotonic() + LIFETIME * took, digest.hexdigest())
    return digest.hexdigest()


def version(path: str | Path) -> tuple[int, int, int, int]:
    """What changes when a file is written again: size, times, inode."""
    told = os.stat(path)
    return told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino


def samples(path: Path) -> list[bytes]:
    """Pieces of a file, from its first bytes to its last."""
    pieces, size = [], os.stat(path).st_size
    with open(path, "rb") as file:
        for place in np.linspace(0, max(size - SAMPLE_BYTES, 0), SAMPLES).astype(int):
            file.seek(place)
            pieces.append(file.read(SAMPLE_BYTES))
    return pieces


def _listed(place: str, above: tuple[tuple[int, int], ...] = ()) -> Iterable[str]:
    """A line for every file, in the order of the names; `above`: the folders around this one."""
    try:
        told = os.stat(place)
    except OSError:
        yield f"{place} absent"
        return
    if not os.path.isdir(place):
        yield f"{place} {version(place)}"
        return
    own = (told.st_dev, told.st_ino)
    if own in above:  # a link that leads back
        return
    yield f"{place}/"
    with os.scandir(place) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            try:
                if entry.is_dir():
                    yield from _listed(entry.path, (*above, own))
                else:
                    told = entry.stat()
                    of_file = (told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino)
                    yield f"{entry.path} {of_file}"
            except OSError:  # a link to nowhere, or gone meanwhile
                yield f"{entry.path} unreadable"


def remembered(places: Callable[..., Iterable[Path]], *, most: int = 8) -> Callable:
    """A decorator: the results for the last `most` arguments are kept while the files at
    `places(*arguments)` stay as they were.
    """

    def decorate(function: Callable) -> Callable:
        kept: OrderedDict[tuple, tuple[str, object]] = OrderedDict()

        @functools.wraps(function)
        def call(*arguments):
            now = signature(places(*arguments))
            if arguments not in kept or kept[arguments][0] != now:
                kept[arguments] = (now, function(*arguments))
                while len(kept) > most:
                    kept.popitem(last=False)
            kept.move_to_end(arguments)
            return kept[arguments][1]

        return call

    return decorate
