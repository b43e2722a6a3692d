"""From a picture's bytes to uint8 RGB, by a rule for each kind of pixels, and from an image as it
is stored to the square that a network sees. Files that hold values are `values.py`'s.

`Decoded` is what the sources give where an image is more than the array that is asked for: crops
of random size are cut from the image as it is stored, everything else from its middle square.
"""

import re
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from astroformer.machine import free_memory, processors

RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
DEEP = re.compile("(16|32)[BLN]")  # the end of a raw mode with more than 8 bits a channel
LOOKED_AT = 64  # images whose sizes say how much memory all of them take as they are stored


class Packed:
    """Images of any size in one array, item i uint8 (H, W, C), which cannot be written to.

    shapes: (N, 3), height, width and channels of each
    """

    def __init__(self, buffer: np.ndarray, starts: np.ndarray, shapes: np.ndarray):
        self.buffer, self.starts, self.shapes = buffer, starts, shapes

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        shape = self.shapes[index]
        start = self.starts[index]
        return self.buffer[start : start + shape.prod()].reshape(shape)

    def take(self, indices: np.ndarray) -> "Packed":
        return Packed(self.buffer, self.starts[indices], self.shapes[indices])

    @classmethod
    def of(cls, images: Sequence[np.ndarray]) -> "Packed":
        sizes = np.array([image.size for image in images], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        buffer = np.empty(int(sizes.sum()), dtype=np.uint8)
        for image, start in zip(images, starts):
            buffer[start : start + image.size] = image.reshape(-1)
        buffer.setflags(write=False)
        shapes = np.array([image.shape for image in images], dtype=np.int64).reshape(-1, 3)
        return cls(buffer, starts, shapes)


class Decoded:
    """Images that are read when asked for. Item i is uint8 (size, size, C), the middle square;
    `whole(i)` is uint8 (H, W, C), the image as its source keeps it.

    read: a source (a file's path, several of them, an array) -> the image as it is stored, an array
        or Pillow's
    channels: C
    crop_pct, interpolation: how the square is cut, see `squared`
    squares, wholes: what is in memory already
    """

    def __init__(
        self,
        sources: Sequence,
        size: int,
        read: Callable,
        *,
        channels: int = 3,
        crop_pct: float = 1.0,
        interpolation: str = "bicubic",
        squares: np.ndarray | None = None,
        wholes: Packed | None = None,
    ):
        self.sources, self.size, self.read, self.channels = sources, size, read, channels
        self.crop_pct, self.interpolation = checked_crop(crop_pct), checked_filter(interpolation)
        self.squares, self.wholes = squares, wholes

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> np.ndarray:
        if self.squares is not None:
            return self.squares[index]
        return square(self._read(index), self.size, self.crop_pct, self.interpolation)

    def whole(self, index: int) -> np.ndarray:
        """The image as it is stored, uint8 (H, W, C)."""
        return np.asarray(self._read(index))

    def picture(self, index: int) -> np.ndarray | Image.Image:
        """The same for Pillow, which copies a file's image to an array and back otherwise; an array
        where Pillow has no such image.
        """
        return pictured(self._read(index))

    def _read(self, index: int) -> np.ndarray | Image.Image:
        return self.read(self.sources[index]) if self.wholes is None else self.wholes[index]

    def take(self, indices: np.ndarray) -> "Decoded":
        some = self.sources
        some = some[indices] if isinstance(some, np.ndarray) else [some[i] for i in indices]
        return self.changed(
            sources=some,
            squares=None if self.squares is None else self.squares[indices],
            wholes=None if self.wholes is None else self.wholes.take(indices),
        )

    def changed(self, **changes) -> "Decoded":
        """The same with some of the constructor's arguments changed."""
        own = {"sources": self.sources, "size": self.size, "read": self.read}
        kept = {"squares": self.squares, "wholes": self.wholes}
        how = {"crop_pct": self.crop_pct, "interpolation": self.interpolation}
        how["channels"] = self.channels
        arguments = own | how | kept | changes
        return type(self)(
            arguments.pop("sources"), arguments.pop("size"), arguments.pop("read"), **arguments
        )

    def kept(self, limit: int | None = None) -> "Decoded":
        """With every square in memory, if they take no more than `limit` bytes (None: half of
        what this process may have); else as it is.
        """
        limit = free_memory() // 2 if limit is None else limit
        if self.squares is not None or len(self) * self.size**2 * self.channels > limit:
            return self
        squares = self.all()
        squares.setflags(write=False)
        return self.changed(squares=squares)

    def ready(self, report: Callable[[str], None], *, whole: bool = False) -> "Decoded":
        """For what asks for each image many times: decoded once, as it is stored (`whole`) or as
        squares, if memory allows. The pixels are the same in any case, so that the outcome of a
        training does not depend on the memory; what is read again from the disk lies in the
        system's own cache as far as that goes.
        """
        if not whole:
            return self.kept()
        in_memory = self.wholes is not None or isinstance(self.sources, np.ndarray)
        # a third, since each is there twice while they are packed
        if in_memory or self._bytes_as_stored() > free_memory() // 3:
            return self
        return self.changed(wholes=Packed.of(self._each(self.whole)))

    def _bytes_as_stored(self) -> int:
        """About how many bytes all images take as they are stored, by evenly spaced ones."""
        some = np.unique(np.linspace(0, len(self) - 1, min(len(self), LOOKED_AT)).astype(int))
        return int(np.mean([self.whole(int(i)).size for i in some]) * len(self))

    def all(self) -> np.ndarray:
        """Every square, uint8 (N, size, size, C)."""
        if self.squares is not None:
            return np.array(self.squares)
        images = np.empty((len(self), self.size, self.size, self.channels), dtype=np.uint8)

        def fill(index: int) -> None:
            images[index] = self[index]

        self._each(fill)
        return images

    def _each(self, get: Callable[[int], object]) -> list:
        """What `get` gives for every index, by threads: Pillow releases the interpreter while it
        decodes.
        """
        with ThreadPoolExecutor(processors()) as pool:
            return list(pool.map(get, range(len(self))))


def stored_or_cut(
    pixels: np.ndarray, size: int, *, crop_pct: float = 1.0, interpolation: str = "bicubic"
) -> "np.ndarray | Decoded":
    """An array of images (N, H, W, C) as it is, where each is the square that is asked for; else
    the means to cut it. Neither can be written to.
    """
    pixels.setflags(write=False)
    if checked_crop(crop_pct) == 1 and pixels.shape[1:3] == (size, size):
        return pixels
    how = {"crop_pct": crop_pct, "interpolation": interpolation, "channels": pixels.shape[3]}
    return Decoded(pixels, size, np.asarray, **how)


def as_picture(image: np.ndarray | Image.Image) -> Image.Image:
    """For Pillow, which has images of one band, uint8 (H, W, 1), and of three."""
    if isinstance(image, Image.Image):
        return image
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def pictured(image: np.ndarray | Image.Image) -> np.ndarray | Image.Image:
    """The same where Pillow has such images; others stay arrays."""
    has = isinstance(image, Image.Image) or image.shape[2] in (1, 3)
    return as_picture(image) if has else image


def as_array(picture: np.ndarray | Image.Image) -> np.ndarray:
    """uint8 (H, W, C) of Pillow's image."""
    pixels = np.asarray(picture)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def each_band(
    image: np.ndarray | Image.Image, change: Callable[[Image.Image], Image.Image]
) -> np.ndarray:
    """What a change of Pillow's makes of an image, uint8 (H, W, C): of one or three bands at once,
    of any other number band by band.
    """
    whole = pictured(image)
    if isinstance(whole, Image.Image):
        return as_array(change(whole))
    image = whole
    bands = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(change(band)) for band in bands], axis=2)


def shown(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, C) -> (H, W, 3), to be looked at: one band is grey; of more than three, which
    come by wavelength, the last is red, the middle one green and the first blue.
    """
    channels = image.shape[2]
    if channels == 3:
        return image
    return image[:, :, [channels - 1, channels // 2, 0]]


def read_whole(path: str | Path) -> np.ndarray:
    """The image of a file as it is stored, uint8 (H, W, 3)."""
    return np.asarray(read_stored(path))


def read_stored(path: str | Path) -> Image.Image:
    """The same as it comes from Pillow.

    Pillow decodes, not torchvision: both use libjpeg-turbo and give the same pixels. Decoding alone
    takes torchvision's function 0.8 times as long, but crops and RandAugment are Pillow's, and the
    copy to it takes up what was gained (`counting.host_images` measures both).
    """
    return open_rgb(path)


def open_rgb(source: str | Path | BinaryIO, *, shown: str = "") -> Image.Image:
    """The image of a file in RGB, decoded. Grey, palette and CMYK images are converted, transparent
    ones are laid on black, and one with an EXIF orientation is turned as it says.

    One with more than 8 bits a channel is refused: RGB has no room for them, and how they are to be
    stretched is the user's choice. `shown` names the image where it has no path.
    """
    with opened(source, shown) as image:
        deep = depth_of(image, shown or source)
        if not deep:
            return converted(image, shown or source)
    raise ValueError(f"the image {shown or source} has {deep}, and {STRETCHED}")


STRETCHED = (
    "8 bits a channel are read: choose a stretch (--stretch linear, asinh, zscale or "
    "percentile:1,99.5), or convert it to 8-bit PNG or JPEG"
)


# What Pillow raises for files that are not whole.
BROKEN = (
    *(OSError, SyntaxError, ValueError, RuntimeError, TypeError, LookupError, ArithmeticError),
    *(EOFError, AttributeError, struct.error, Image.DecompressionBombError),
)
TURNED = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 274  # the tag, of EXIF and of TIFF


def opened(source: str | Path | BinaryIO, shown: str = "") -> Image.Image:
    """An image of a file, its header read; ValueError in one line for what is none."""
    try:
        return Image.open(source)
    except BROKEN as error:
        raise unreadable(shown or source, error) from error


def depth_of(image: Image.Image, shown: object) -> str:
    """`depth`; ValueError in one line for a file whose header is broken."""
    try:
        return depth(image)
    except BROKEN as error:
        raise unreadable(shown, error) from error


def converted(image: Image.Image, shown: object) -> Image.Image:
    """An opened image of 8 bits a channel in RGB, see `open_rgb`."""
    try:
        image = upright(image)
        if is_transparent(image):
            image = image.convert("RGBA")
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, image)
        if image.mode == "RGB":  # of which `convert` would make a copy
            image.load()
            return image
        return image.convert("RGB")
    except BROKEN as error:
        raise unreadable(shown, error) from error


def unreadable(shown: object, error: Exception) -> ValueError:
    what = " ".join(str(error).split())
    return ValueError(f"cannot read the image {shown} ({what}); replace the file or delete it")


def upright(image: Image.Image) -> Image.Image:
    """Turned as its orientation says; Pillow turns a TIFF itself when it decodes it."""
    turn = None if image.format in ("TIFF", "MPO") and is_tiff(image) else orientation(image)
    return image.transpose(TURNED[turn]) if turn in TURNED else image


def is_tiff(image: Image.Image) -> bool:
    return hasattr(image, "tag_v2")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened image, 1 if there is none; nothing is decoded for it."""
    if is_tiff(image):
        return int(image.tag_v2.get(ORIENTATION, 1))
    stored = image.info.get("exif")
    if not stored:
        return 1
    exif = Image.Exif()
    try:
        exif.load(stored)
        return int(exif.get(ORIENTATION, 1))
    except Exception:  # a broken block of EXIF is no reason to refuse the image
        return 1


def is_transparent(image: Image.Image) -> bool:
    """Whether an opened image has an alpha channel or a transparent colour."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def rules_of(path: str | Path) -> list[str]:
    """What `open_rgb` does to an image beside converting it, by its header: "transparent",
    "turned"; and "deep" where it has more than 8 bits a channel. Nothing for a file that is no
    image.
    """
    try:
        with Image.open(path) as image:
            found = {"transparent": is_transparent(image), "turned": orientation(image) in TURNED}
            found["deep"] = bool(depth(image))
    except Exception:  # whoever reads its pixels says what is wrong
        return []
    return [name for name, is_so in found.items() if is_so]


def size_of(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels as the image is shown."""
    with opened(path, "") as image:
        try:
            return upright(image).size
        except BROKEN as error:
            raise unreadable(path, error) from error


def depth(image: Image.Image) -> str:
    """What an opened image has beyond 8 bits a channel, in words; "" for nothing. The mode alone
    does not tell: Pillow opens 16-bit colours as RGB and drops their lower half.
    """
    modes = {"I": "32-bit integers", "F": "floating-point numbers"}
    if image.mode in modes or image.mode.startswith("I;16"):
        return f"{modes.get(image.mode, '16-bit integers')} (mode {image.mode})"
    bits = max(_bits_of_tiff(image), _bits_of_tiles(image), _bits_of_jpeg2000(image))
    return f"{bits} bits a channel (mode {image.mode})" if bits > 8 else ""


def _bits_of_tiff(image: Image.Image) -> int:
    tags = getattr(image, "tag_v2", None)
    stored = tags.get(258, 8) if tags else 8  # BitsPerSample
    return max(stored) if isinstance(stored, tuple) else int(stored)


def _bits_of_tiles(image: Image.Image) -> int:
    """As the decoder is asked for: raw modes such as "RGB;16B" (where "BGR;16" and "RGB;16" are 16
    bits for a whole pixel), SGI's own decoder, and the largest value of a PPM.
    """
    bits = 8
    for codec, _, _, arguments in getattr(image, "tile", []):
        words = arguments if isinstance(arguments, tuple) else (arguments,)
        raw = [word.partition(";")[2] for word in words if isinstance(word, str)]
        bits = max([bits, *(int(one[:2]) for one in raw if DEEP.fullmatch(one))])
        largest = words[-1] if codec.startswith("ppm") and isinstance(words[-1], int) else 255
        if codec == "SGI16" or largest > 255:
            bits = max(bits, 16)
    return bits


def _bits_of_jpeg2000(image: Image.Image) -> int:
    """By the header of the codestream, where a channel has three bytes; the first tells the bits.

    Pillow reads it for grey images alone.
    """
    if image.format != "JPEG2000":
        return 8
    place = image.fp.tell()
    image.fp.seek(0)
    _, _, header = image.fp.read(2**16).partition(b"\xff\x4f\xff\x51")
    image.fp.seek(place)
    channels = int.from_bytes(header[36:38], "big")
    return max([8, *((one & 0x7F) + 1 for one in header[38 : 38 + 3 * channels : 3])])


def square(
    image: np.ndarray | Image.Image,
    size: int,
    crop_pct: float = 1.0,
    interpolation: str = "bicubic",
) -> np.ndarray:
    """uint8 (size, size, C): the middle of an image (H, W, C) or of Pillow's, see `squared`."""
    sides = image.size if isinstance(image, Image.Image) else image.shape[:2]
    if sides == (size, size) and crop_pct == 1:
        return np.asarray(image)
    return each_band(image, lambda band: squared(band, size, crop_pct, interpolation))


def squared(
    image: Image.Image, size: int, crop_pct: float = 1.0, interpolation: str = "bicubic"
) -> Image.Image:
    """Shorter side to `size` / `crop_pct`, then the middle `size` x `size` pixels.

    Lengths and edges are rounded as torchvision's Resize and CenterCrop do, with which the
    published numbers were measured.
    """
    shorter, present = int(size / crop_pct), min(image.size)
    if present != shorter:
        sides = [int(shorter * side / present) for side in image.size]
        image = image.resize(sides, RESAMPLING[interpolation])
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def checked_crop(crop_pct: float) -> float:
    if not 0 < crop_pct <= 1:
        raise ValueError(
            f"crop_pct {crop_pct} is outside (0, 1]; 0.875 keeps 224 of 256 pixels, 1 "
            "the whole shorter side"
        )
    return crop_pct


def checked_filter(interpolation: str) -> str:
    if interpolation not in RESAMPLING:
        raise ValueError(
            f"interpolation {interpolation!r} is not known; choose one of {', '.join(RESAMPLING)}"
        )
    return interpolation
