"""The image in a FITS file, through astropy: one plane, a cube, or extensions by their names.

What the format means is applied: byte order, BSCALE and BZERO, BLANK (pixels without a value are
NaN), compression (.fits.gz, .fits.fz). The first row of a FITS image is its lowest one (FITS
standard 4.0, section 3.3.2), as ds9 shows it; rows are turned round here, so that an image has the
handedness of its picture. Nothing is written, so that a file keeps its WCS.

astropy takes about a millisecond to make objects of a file's headers, and 100,000 cut-outs are to
be read in a minute. So the commonest file, one image in the primary array without scaling, is read
by the few keywords that say where its values lie (`_plain`); whatever else a header says, astropy
reads. tests/data/test_fits_images.py holds the two against one another.
"""

import bz2
import gzip
import io
import math
import threading
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

CARD, BLOCK = 80, 2880  # bytes of a line of a header, of a unit of the file
MOST_BANDS = 64  # a cube with more planes is a spectrum in every pixel, and no image
TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}  # by BITPIX
# Keywords of a primary header that leave the reading to astropy.
SPECIAL = (b"BSCALE", b"BZERO", b"BLANK", b"GROUPS", b"ZIMAGE", b"CONTINUE")
# What astropy and the packed formats raise for a file that is not whole.
BROKEN = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, AttributeError)
# astropy warns of a file that was cut before it raises. Filters of warnings are the process's own,
# so one thread at a time changes them; reading headers is Python, which runs one thread anyway.
_QUIET = threading.Lock()


def planes(path: str | Path, bands: Sequence[str] = (), content: bytes | None = None) -> np.ndarray:
    """The image of a file as (C, H, W), its lowest row last, in the machine's byte order: integers
    as they are, or floating-point numbers with NaN where there is no value.

    bands: names of extensions, or numbers of a cube's planes, from 0; none means the one image
        that the file has, with all its planes
    content: the file's bytes, if they are at hand

    ValueError in one line for a file without an image, one with several of which none is named, and
    one that is not whole.
    """
    numbered = all(one.isdecimal() for one in bands)
    if content is None:
        with open(path, "rb") as file:
            content = file.read()
    content = _unpacked(path, content)
    found = _plain(content) if numbered else None
    if found is None:
        found = _read(path, content, () if numbered else bands)
    if numbered and bands:
        found = _chosen(path, found, bands)
    native = found.dtype.newbyteorder("=")
    return np.ascontiguousarray(found[:, ::-1].astype(native, copy=False))


def _unpacked(path: str | Path, content: bytes) -> bytes:
    """The bytes of a file that is packed as a whole, by its first ones."""
    unpack = {b"\x1f\x8b": gzip.decompress, b"BZ": bz2.decompress}.get(content[:2])
    if unpack is None:
        return content
    try:
        return unpack(content)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> ValueError:
    what = " ".join(str(error).split())
    return ValueError(f"cannot read the FITS file {path} ({what}); replace the file or delete it")


def _plain(content: bytes) -> np.ndarray | None:
    """The image of a file that holds nothing but a primary array without scaling; None for any
    other file.
    """
    values: dict[bytes, bytes] = {}
    for start in range(0, len(content) - CARD + 1, CARD):
        card = content[start : start + CARD]
        name = card[:8].rstrip()
        if name == b"END":
            break
        if name in SPECIAL:
            return None
        if name in (b"SIMPLE", b"BITPIX") or name.startswith(b"NAXIS"):
            if card[8:10] != b"= " or name in values:
                return None
            values[name] = card[10:].partition(b"/")[0].strip()
    else:
        return None
    if values.pop(b"SIMPLE", b"") != b"T":
        return None
    try:
        told = {name: int(value) for name, value in values.items()}
        axes = [told[b"NAXIS%d" % axis] for axis in range(told[b"NAXIS"], 0, -1)]
        kind = np.dtype(TYPES[told[b"BITPIX"]])
    except (KeyError, ValueError):
        return None
    if len(axes) not in (2, 3) or min(axes) < 1 or (len(axes) == 3 and axes[0] > MOST_BANDS):
        return None
    begin, number = _whole_blocks(start + CARD), math.prod(axes)
    # data that are followed by more, or that are not all there, are astropy's
    if len(content) != begin + _whole_blocks(number * kind.itemsize):
        return None
    image = np.frombuffer(content, kind, number, begin).reshape(axes)
    return image[None] if image.ndim == 2 else image


def _whole_blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _read(path: str | Path, content: bytes, names: Sequence[str]) -> np.ndarray:
    """By astropy: the planes of extensions in the order of their names, or of the only image."""
    from astropy.io import fits

    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(content), memmap=False) as units:
                images = [unit for unit in units if unit.is_image and len(unit.shape) >= 2]
                _check(path, images, units, names)
                if not names:
                    return _cube(path, images[0].data)
                # of several versions of an extension the first
                named = {str(unit.name).casefold(): unit for unit in reversed(images)}
                parts = [_cube(path, named[one.casefold()].data) for one in names]
    except BROKEN as error:
        if isinstance(error, UnusualImage):
            raise
        raise _unreadable(path, error) from error
    for name, part in zip(names, parts):
        if len(part) > 1:
            raise UnusualImage(
                f"extension {name} of {path} has {len(part)} planes, and a band is one"
            )
    check_sizes(path, names, [part.shape[1:] for part in parts])
    return np.concatenate(parts)


class UnusualImage(ValueError):
    """A file that can be read and does not hold the image that is asked for."""


def _check(path: str | Path, images: list, units: Sequence, names: Sequence[str]) -> None:
    """Whether the file has the images that are named, or one where none is."""
    known = ", ".join(str(unit.name) or f"number {place}" for place, unit in enumerate(images))
    if not images:
        tables = sum(not unit.is_image for unit in units)
        raise UnusualImage(
            f"the FITS file {path} has no image{f', but {tables} tables' if tables else ''}; "
            "remove it from the images"
        )
    if not names and len(images) > 1:
        named = ",".join(str(unit.name) for unit in images)
        raise UnusualImage(
            f"the FITS file {path} has {len(images)} images ({known}); say which are the bands, "
            f"such as --bands {images[0].name or named}"
        )
    there = [str(unit.name).casefold() for unit in images]
    for name in names:
        if name.casefold() not in there:
            raise UnusualImage(
                f"the FITS file {path} has no extension {name}, only {known}; name those with "
                "--bands, or the planes of a cube by their numbers (--bands 0,1,2)"
            )


def _cube(path: str | Path, values: np.ndarray) -> np.ndarray:
    """(C, H, W) of an array whose further axes, such as a polarisation's, have the length 1."""
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or len(values) > MOST_BANDS:
        raise UnusualImage(
            f"the image of {path} has the axes {' x '.join(map(str, values.shape))}, and an image "
            f"has two, or three with at most {MOST_BANDS} bands first"
        )
    return values


def _chosen(path: str | Path, found: np.ndarray, bands: Sequence[str]) -> np.ndarray:
    numbers = [int(one) for one in bands]
    if max(numbers) >= len(found):
        raise UnusualImage(
            f"{path} has {len(found)} band{'s' * (len(found) > 1)}, numbered from 0, and --bands "
            f"asks for {max(numbers)}"
        )
    return found[numbers]


def check_sizes(path: object, names: Sequence[str], sizes: Sequence[tuple[int, ...]]) -> None:
    """ValueError for bands of one image that have several sizes."""
    if len(set(sizes)) > 1:
        told = ", ".join(f"{name} {h} x {w}" for name, (h, w) in zip(names, sizes))
        raise UnusualImage(
            f"the bands of {path} have several sizes ({told} pixels); bring them to one, by "
            "reproject say, or leave bands out with --bands"
        )
