"""Images whose files hold values, not 8-bit pictures: FITS, NPY, and TIFF and PNG with more than 8
bits a channel. Here a file, or a file for each band, becomes an array of values (`read`), and with
a stretch an image of 8 bits (`Reading`).

One band or any number of them make an image. Three bands that are named, or that FITS holds, come
by wavelength as astronomers list them (g,r,z), and make a picture whose red is the last one. More
or fewer stay in their order, and so do the colours of a picture.

Reads top to bottom: Reading, read, one function for each kind of file, shapes.
"""

import io
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from astroformer.data import fits_images, pixels, walk
from astroformer.data.pixels import STRETCHED
from astroformer.data.stretch import Lupton, Stretch, stretch_of

Source = str | Path | tuple[str | Path, ...]  # a file, or a file for each band
MOST_CHANNELS = fits_images.MOST_BANDS  # an axis of an array that is longer is a side of the image
LOOKED_AT = 100  # images whose values tell whether their units are those of a stretch


@dataclass(frozen=True)
class Reading:
    """How a source becomes an image: called with one, it gives uint8 (H, W, C).

    bands: names of extensions or of files, or numbers of planes; empty for all that a file has
    stretch: None for files of 8 bits a channel
    channels: C
    as_rgb: whether an image of one band is shown in grey, as three equal channels
    """

    bands: tuple[str, ...] = ()
    stretch: Stretch | Lupton | None = None
    channels: int = 3
    as_rgb: bool = False

    def __call__(self, source: Source) -> np.ndarray:
        values = read(source, self.bands)
        if self.stretch is None:
            image = of_8_bits(values, source)
        else:
            image = self.stretch(with_numbers(with_more(values, source), source))
        if self.as_rgb and image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        if image.shape[2] != self.channels:
            raise ValueError(
                f"the image {named(source)} has {bands_of(image.shape[2])}, and those of this data "
                f"set have {self.channels}; name the bands that all of them have with --bands"
            )
        return image

    @property
    def names(self) -> tuple[str, ...]:
        """Of the channels, in their order; "" for each where the bands have no names."""
        if len(self.bands) == self.channels:
            return tuple(by_wavelength(self.bands))
        return ("",) * self.channels

    def told(self) -> dict:
        """All of it as plain values, for a checkpoint or the description of an exported network:
        `of_told` makes the same of them.
        """
        return asdict(self) | {"stretch": self.stretch and self.stretch.told()}


def of_told(told: dict) -> Reading:
    """The Reading that `told` describes."""
    stretch = stretch_of(told["stretch"]) if told["stretch"] else None
    return Reading(tuple(told["bands"]), stretch, told["channels"], told["as_rgb"])


def by_wavelength(bands: Sequence) -> Sequence:
    """Three bands from blue to red as red, green and blue; any other number as they are."""
    return bands[::-1] if len(bands) == 3 else bands


def bands_of(number: int) -> str:
    return f"{number} band{'s' * (number != 1)}"


def named(source: Source) -> str:
    return str(source[0] if isinstance(source, tuple) else source)


def of_8_bits(values: np.ndarray, source: Source) -> np.ndarray:
    """The same; ValueError for values of more than 8 bits, which need a stretch."""
    if values.dtype == np.uint8:
        return values
    kind = {"f": "floating-point numbers", "i": "integers", "u": "integers"}[values.dtype.kind]
    raise ValueError(
        f"the image {named(source)} has {8 * values.dtype.itemsize}-bit {kind}, and {STRETCHED}"
    )


def with_more(values: np.ndarray, source: Source) -> np.ndarray:
    """The same; ValueError for values of 8 bits, which are an image as they are."""
    if values.dtype != np.uint8:
        return values
    raise ValueError(
        f"the image {named(source)} has 8 bits a channel, and a stretch is for more; leave out "
        "--stretch, or convert the images that have more to 8 bits"
    )


def with_numbers(values: np.ndarray, source: Source) -> np.ndarray:
    """The same; ValueError for an image in which no pixel has a value."""
    if values.dtype.kind != "f" or np.isfinite(values).any():
        return values
    raise ValueError(f"the image {named(source)} has no pixel that is a number")


def read(source: Source, bands: Sequence[str] = (), content: bytes | None = None) -> np.ndarray:
    """The values of an image, (H, W, C): uint8 for an image of 8 bits, else integers or
    floating-point numbers in which NaN stands for pixels without a value.

    source: a file's path; or one for each of `bands`, in their order
    content: the bytes of the one file, if they are at hand

    ValueError in one line for what is no image, or none with these bands.
    """
    if isinstance(source, tuple):
        return _of_files(source, bands)
    kind = walk.kind_of(source)
    if kind == "FITS":
        planes = fits_images.planes(source, bands, content)
        return np.moveaxis(np.asarray(by_wavelength(planes)), 0, 2)
    values = _of_numpy(source, content) if kind == "NumPy" else of_picture(source, content)
    return _numbered(values, source, bands) if bands else values


def _of_files(source: tuple[str | Path, ...], bands: Sequence[str]) -> np.ndarray:
    parts = []
    for path in source:
        part = read(path)
        if part.shape[2] != 1:
            raise ValueError(
                f"{path} is to be one band and has {part.shape[2]}; give a file for each band, or "
                "leave out --bands"
            )
        parts.append(part[:, :, 0])
    fits_images.check_sizes(named(source), bands, [part.shape for part in parts])
    return np.stack(by_wavelength(parts), axis=2)


def _numbered(values: np.ndarray, source: Source, bands: Sequence[str]) -> np.ndarray:
    """The channels with these numbers."""
    if not all(one.isdecimal() for one in bands):
        raise ValueError(
            f"{source} has no bands by the names {', '.join(bands)}: name them by their numbers "
            f"(--bands 0,1,2), or give a file for each, {Path(source).stem}_{bands[0]} and so on"
        )
    numbers = [int(one) for one in bands]
    if max(numbers) >= values.shape[2]:
        raise ValueError(
            f"{source} has {bands_of(values.shape[2])}, numbered from 0, and --bands asks for "
            f"{max(numbers)}"
        )
    return np.ascontiguousarray(values[:, :, numbers])


# NumPy


def _of_numpy(path: str | Path, content: bytes | None) -> np.ndarray:
    try:
        with io.BytesIO(content) if content is not None else open(path, "rb") as file:
            values = np.load(file, allow_pickle=False)
    except Exception as error:  # a damaged header is evaluated as text, and asks for any memory
        raise pixels.unreadable(path, error) from error
    if values.dtype.kind not in "fiu" or not values.size:
        raise ValueError(
            f"{path} holds {values.dtype} {values.shape}, and an image is of whole or "
            "floating-point numbers"
        )
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return channels_last(values, path)


def channels_last(values: np.ndarray, path: object) -> np.ndarray:
    """(H, W), (H, W, C) or (C, H, W) as (H, W, C). Channels are the first or the last axis,
    whichever is shorter than both others; ValueError where neither is, or both are.
    """
    if values.ndim == 2:
        return values[:, :, None]
    if values.ndim == 3:
        first, middle, last = values.shape
        if last <= MOST_CHANNELS and last < min(first, middle):
            return values
        if first <= MOST_CHANNELS and first < min(middle, last):
            return np.moveaxis(values, 0, 2)
    raise ValueError(
        f"{path} has the shape {values.shape}, and an image is (H, W), (H, W, bands) or "
        f"(bands, H, W) with fewer bands than pixels on a side"
    )


# TIFF, PNG and other pictures


def of_picture(path: str | Path, content: bytes | None = None) -> np.ndarray:
    """The values of a picture's file, (H, W, C): uint8 as `open_rgb` gives them (one channel of a
    grey image), or of more than 8 bits as they are stored, with transparent colours laid on black.

    Pillow reads grey images of any depth and colours of 8 bits; tifffile and imagecodecs the rest.
    """
    is_tiff = walk.suffix_of(str(path)) in (".tif", ".tiff")
    try:
        opened = pixels.opened(io.BytesIO(content) if content is not None else path, str(path))
    except ValueError:  # of what Pillow does not know, such as five bands
        if is_tiff and (values := _of_tiff(path, content)) is not None:
            return values
        raise
    with opened as image:
        deep = pixels.depth_of(image, path)
        if not deep:
            grey = image.mode in ("1", "L") and not pixels.is_transparent(image)
            made = pixels.converted(image, path)
            return pixels.as_array(made.getchannel(0) if grey else made)
        try:
            one = getattr(image, "n_frames", 1) == 1
            if one and (image.mode in ("I", "F") or image.mode.startswith("I;16")):
                return np.asarray(pixels.upright(image))[:, :, None]
        except pixels.BROKEN as error:
            raise pixels.unreadable(path, error) from error
        if image.format == "PNG":
            return _turned(_of_deep_png(path, content), pixels.orientation(image))
    if is_tiff and (values := _of_tiff(path, content)) is not None:
        return values
    raise ValueError(
        f"the image {path} has {deep}, and colours of more than 8 bits are read from PNG, TIFF, "
        "FITS and NPY; write it as one of them"
    )


def _of_deep_png(path: str | Path, content: bytes | None) -> np.ndarray:
    """Colours of 16 bits, which Pillow cuts to 8."""
    import imagecodecs

    if content is None:
        content = Path(path).read_bytes()
    try:
        values = imagecodecs.png_decode(content)
    except (RuntimeError, ValueError) as error:
        raise pixels.unreadable(path, error) from error
    if values.ndim == 2:
        values = values[:, :, None]
    if values.shape[2] in (2, 4):  # the last one says how much is to be seen
        opaque = values[:, :, -1:] / np.iinfo(values.dtype).max
        values = np.round(values[:, :, :-1] * opaque).astype(values.dtype)
    return np.ascontiguousarray(values)


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """An array as an EXIF orientation says, see `pixels.TURNED`."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    flipped = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.flip(values, flipped)


def _of_tiff(path: str | Path, content: bytes | None) -> np.ndarray | None:
    """A TIFF of colours, or of pages of one size, with more than 8 bits a channel. None for one
    that tifffile does not know, of which Pillow says what it is.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is raised, too
    try:
        with tifffile.TiffFile(io.BytesIO(content) if content is not None else path) as file:
            stored = file.series[0]
            number, most = math.prod(stored.shape), 2 * (Image.MAX_IMAGE_PIXELS or math.inf)
            if number > most * 3 or len(file.pages[0].dataoffsets) > number:
                raise ValueError(f"it promises {number:,} values")
            values, axes = stored.asarray(), stored.axes
            turn = file.pages[0].tags.get(pixels.ORIENTATION)
    except tifffile.TiffFileError:
        return None
    except Exception as error:  # of whatever packs its values
        raise pixels.unreadable(path, error) from error
    if values.ndim == 2:
        values = values[:, :, None]
    elif values.ndim == 3 and axes.endswith("YX"):  # pages, or planes of colours
        values = np.moveaxis(values, 0, 2)
    if values.ndim != 3 or values.shape[2] > MOST_CHANNELS or values.dtype.kind not in "fiu":
        raise ValueError(
            f"the TIFF {path} holds {stored.dtype} {stored.shape} ({axes}), and an image has two "
            "axes, or three with its bands"
        )
    return np.ascontiguousarray(_turned(values, int(turn.value) if turn else 1))


# What can be told of an image


def shape_of(source: Source, bands: Sequence[str] = ()) -> tuple[int, int, int]:
    """Height, width and bands. A picture of 8 bits is not decoded for it."""
    first = source[0] if isinstance(source, tuple) else source
    if walk.kind_of(first) == walk.PICTURES and not bands:
        try:
            width, height = pixels.size_of(first)
            with Image.open(first) as image:
                if not pixels.depth(image):
                    return height, width, 3
        except ValueError:
            if walk.suffix_of(str(first)) not in (".tif", ".tiff"):
                raise
    return read(source, bands).shape
