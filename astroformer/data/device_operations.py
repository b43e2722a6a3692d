"""Pillow's image operations for many images at once, each image with a strength of its own, on
whatever device they lie.

Reads top to bottom: colours, tables of values, sharpness, affine maps, resized crops. An operation
takes uint8 (B, C, H, W) and gives the same; a strength is (B,). Pillow rounds to uint8 after every
operation, mostly towards zero, and so it is done here, in the precision and the order in which
Pillow computes: float32 to blend, float64 for affine maps, whole numbers to resize. So every level
is Pillow's, but for resized crops that shrink: Pillow 13 begins with rows or with columns,
whichever is cheaper, and older ones and this file always with rows.

Nothing here waits for the device or depends on the other images of a batch.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 256  # of uint8


# Colours


def each(strengths: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)"""
    return strengths.view(-1, 1, 1, 1)


def blend(base: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """Image.blend: base + factor (image - base) in float32, cut to 0..255, rounded towards zero.
    Multiplied and added one after the other, since one fused step would round otherwise.
    """
    base = base.to(torch.float32)
    mixed = (images - base).mul_(each(factors).to(torch.float32)).add_(base)
    return mixed.clamp_(0, LEVELS - 1).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """Luma as Image.convert("L") computes it, int32 (B, 1, H, W). Of images of other bands than
    red, green and blue each band is grey itself, (B, C, H, W).
    """
    if images.shape[1] != 3:
        return images.to(torch.int32)
    red, green, blue = images.to(torch.int32).split(1, dim=1)
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def color(images: Tensor, factors: Tensor) -> Tensor:
    """ImageEnhance.Color; 0 gives grey images, 1 the same."""
    return blend(grey(images), images, factors)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """ImageEnhance.Contrast; 0 gives images of their mean grey alone."""
    height, width = images.shape[-2:]
    mean = grey(images).sum((2, 3), keepdim=True).to(torch.float64) / (height * width)
    return blend((mean + 0.5).floor(), images, factors)


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """ImageEnhance.Brightness; 0 gives black images."""
    return blend(images.new_zeros(()), images, factors)


def invert(images: Tensor) -> Tensor:
    """ImageOps.invert"""
    return images.bitwise_not()


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """ImageOps.posterize: the highest 1 to 8 bits are kept."""
    dropped = 2.0 ** (8 - bits)
    return images & each(LEVELS - dropped).to(torch.uint8)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """ImageOps.solarize: values from the threshold on are inverted."""
    return torch.where(images < each(thresholds).to(torch.float32), images, images.bitwise_not())


def solarize_add(images: Tensor, added: Tensor) -> Tensor:
    """timm's SolarizeAdd: values below 128 grow by so many levels, whole numbers."""
    brighter = (images.to(torch.int16) + each(added).to(torch.int16)).clamp_(max=LEVELS - 1)
    return torch.where(images < LEVELS // 2, brighter.to(torch.uint8), images)


# Tables: what becomes of each value of a channel


def looked_up(images: Tensor, tables: Tensor) -> Tensor:
    """Each value's entry in its channel's table, uint8 (B, C, 256)."""
    values = images.flatten(2).to(torch.int64)
    return tables.gather(2, values).view_as(images)


def autocontrast(images: Tensor) -> Tensor:
    """ImageOps.autocontrast: each channel's smallest value becomes 0, its largest 255."""
    low, high = (
        edge.to(torch.float64).unsqueeze(2)
        for edge in (images.amin((2, 3)), images.amax((2, 3)))  # (B, C, 1)
    )
    # a tensor over a tensor, since PyTorch divides a number by one through its reciprocal
    scale = torch.full_like(low, LEVELS - 1) / (high - low).clamp(min=1)
    values = torch.arange(LEVELS, device=images.device, dtype=torch.float64)
    tables = (values * scale - low * scale).clamp_(0, LEVELS - 1)  # (B, C, 256)
    return looked_up(images, torch.where(high > low, tables, values).to(torch.uint8))


def equalize(images: Tensor) -> Tensor:
    """ImageOps.equalize: each channel's values are spread so that each is about as frequent."""
    values = images.flatten(2).to(torch.int64)
    counts = torch.zeros(*images.shape[:2], LEVELS, device=images.device, dtype=torch.int64)
    counts.scatter_add_(2, values, torch.ones_like(values))  # (B, C, 256)
    largest = values.amax(2, keepdim=True)
    step = (values.shape[2] - counts.gather(2, largest)) // 255
    below = counts.cumsum(2) - counts
    tables = ((step // 2 + below) // step.clamp(min=1)).clamp_(max=LEVELS - 1)
    same = torch.arange(LEVELS, device=images.device)
    return looked_up(images, torch.where(step > 0, tables, same).to(torch.uint8))


# Sharpness


def smooth(images: Tensor) -> Tensor:
    """ImageFilter.SMOOTH: 3 x 3 of ones about a five, over 13; the border stays. float32."""
    values = images.to(torch.float32)
    rows = values[..., :-2, :] + values[..., 1:-1, :] + values[..., 2:, :]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    inner = values[..., 1:-1, 1:-1]
    inner.copy_(((box + 4 * inner) / 13 + 0.5).floor_())
    return values


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """ImageEnhance.Sharpness; 0 gives smoothed images, 1 the same, 2 sharpened ones."""
    return blend(smooth(images), images, factors)


# Affine maps


def affine(
    images: Tensor, matrices: Tensor, *, interpolation: str, fill: Tensor, axis: str = "both"
) -> Tensor:
    """Image.transform with Image.Transform.AFFINE: pixel (x, y) of the result is read at
    (a x + b y + c, d x + e y + f) of the image, both counted at the middles of pixels.

    Pillow's bicubic of a transform has a = -1 (its resizing has -0.5), and reads beyond the border
    what is on it. A pixel that is read outside the image gets the fill, unmixed.

    matrices: float64 (B, 6), rows (a, b, c, d, e, f)
    interpolation: "nearest", "bilinear" or "bicubic"
    fill: uint8 (C,), or (1,) for all channels
    axis: "x" if every pixel stays in its row, "y" if in its column; saves reading the others
    """
    if interpolation == "nearest":
        x, y = _nearest(matrices, images.shape)
        nearest = _reader(images, axis)(
            y.clamp(0, images.shape[2] - 1), x.clamp(0, images.shape[3] - 1)
        )
        inside = _within(x, images.shape[3]) & _within(y, images.shape[2])
        return torch.where(inside, nearest, fill.view(-1, 1, 1))
    x, y = _positions(matrices, images.shape)
    inside = _within(x, images.shape[3]) & _within(y, images.shape[2])
    x, y = x - 0.5, y - 0.5
    left, top = x.floor(), y.floor()
    right_part, lower_part = x - left, y - top
    offsets, combine = FILTERS[interpolation]
    columns = [_clipped(left, offset, images.shape[3]) for offset in offsets]
    rows = [_clipped(top, offset, images.shape[2]) for offset in offsets]
    here = -offsets[0]  # of the offsets, the place of 0: the pixel itself
    read = _reader(images, axis)

    def along_row(row: Tensor) -> Tensor:
        return combine([read(row, column).to(torch.float64) for column in columns], right_part)

    if axis == "x":
        values = along_row(rows[here])
    elif axis == "y":
        column = columns[here]
        values = combine([read(row, column).to(torch.float64) for row in rows], lower_part)
    else:
        values = combine([along_row(row) for row in rows], lower_part)
    values = values.clamp_(0, LEVELS - 1).to(torch.uint8)  # rounded towards zero
    return torch.where(inside, values, fill.view(-1, 1, 1))


def _grid(shape: torch.Size, matrices: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The x of each column, (W,), and the y of each row, (H, 1)."""
    y, x = (torch.arange(size, device=matrices.device, dtype=dtype) for size in shape[2:])
    return x, y[:, None]


def _positions(matrices: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Where each pixel is read, x and y, float64 (B, 1, H, W)."""
    x, y = _grid(shape, matrices, torch.float64)
    x, y = x + 0.5, y + 0.5
    a, b, c, d, e, f = matrices.view(-1, 6, 1, 1, 1).unbind(1)
    return a * x + b * y + c, d * x + e * y + f


def _nearest(matrices: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Which pixel is read, x and y, int64 (B, 1, H, W): Pillow counts in units of 2^-16, unless
    columns and rows keep together.
    """
    a, b, c, d, e, f = matrices.view(-1, 6, 1, 1, 1).unbind(1)
    x, y = _grid(shape, matrices, torch.int64)

    def fixed(value: Tensor) -> Tensor:
        return (value * 65536.0 + 0.5).floor().to(torch.int64)

    turned_x = (fixed(c + a * 0.5 + b * 0.5) + fixed(a) * x + fixed(b) * y) >> 16
    turned_y = (fixed(f + d * 0.5 + e * 0.5) + fixed(d) * x + fixed(e) * y) >> 16
    straight = (b == 0) & (d == 0)
    straight_x = (c + a * 0.5 + a * x).floor().to(torch.int64)
    straight_y = (f + e * 0.5 + e * y).floor().to(torch.int64)
    return (
        torch.where(straight, straight_x, turned_x),
        torch.where(straight, straight_y, turned_y),
    )


def _within(positions: Tensor, size: int) -> Tensor:
    return (positions >= 0) & (positions < size)


def _clipped(positions: Tensor, offset: int, size: int) -> Tensor:
    return (positions + offset).clamp_(0, size - 1).to(torch.int64)


def _reader(images: Tensor, axis: str):
    """(rows, columns), int64 (B, 1, H, W) each -> the pixels there, uint8 (B, C, H, W)."""
    number, channels, height, width = images.shape

    def read(rows: Tensor, columns: Tensor) -> Tensor:
        if axis != "both":
            along, places = (3, columns) if axis == "x" else (2, rows)
            return images.gather(along, places.expand(number, channels, height, width))
        places = (rows * width + columns).view(number, 1, -1).expand(number, channels, -1)
        return images.flatten(2).gather(2, places).view_as(images)

    return read


def _linear(values: list[Tensor], part: Tensor) -> Tensor:
    first, second = values
    return first + (second - first) * part


def _cubic(values: list[Tensor], part: Tensor) -> Tensor:
    """Pillow's polynomial; in this form, equal values give just that value."""
    v1, v2, v3, v4 = values
    p2, p3, p4 = v3 - v1, 2 * (v1 - v2) + v3 - v4, v2 - v1 - v3 + v4
    return p4.mul_(part).add_(p3).mul_(part).add_(p2).mul_(part).add_(v2)


# By interpolation: which pixels beside the one at hand are read, and what is made of them.
FILTERS = {"bilinear": ((0, 1), _linear), "bicubic": ((-1, 0, 1, 2), _cubic)}


# Crops


def padded_crop(images: Tensor, tops: Tensor, lefts: Tensor, *, padding: int) -> Tensor:
    """A black margin of so many pixels around each image, then a crop of its own size.

    tops, lefts: int64 (B,), 0 to twice the padding
    """
    height, width = images.shape[2:]
    padded = F.pad(images, [padding] * 4)
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2p + 1, 2p + 1, H, W)
    return crops[torch.arange(len(images), device=images.device), :, tops, lefts]


UNIT = 2**22  # Pillow's weights are whole numbers of it
# By interpolation: the reach of the filter in pixels, and the filter.
REACH = {"bilinear": 1, "bicubic": 2}


def resized_crop(images: Tensor, boxes: Tensor, *, size: int, interpolation: str) -> Tensor:
    """Image.crop, then Image.resize to (size, size): rows first, then columns, each rounded to
    uint8. Where an image shrinks, the filter grows with it.

    (B, C, H, W) -> (B, C, size, size)

    boxes: int64 (B, 4): top, left, height, width, within the image
    interpolation: "bilinear" or "bicubic" (a = -0.5)
    """
    top, left, height, width = boxes.unbind(1)
    narrow = _resized(images, left, width, size=size, interpolation=interpolation, dimension=3)
    return _resized(narrow, top, height, size=size, interpolation=interpolation, dimension=2)


def _resized(
    images: Tensor,
    starts: Tensor,
    lengths: Tensor,
    *,
    size: int,
    interpolation: str,
    dimension: int,
) -> Tensor:
    """One dimension of each image, from a start on and for a length, brought to a size."""
    scale = (lengths.to(torch.float64) / size)[:, None]
    grown = scale.clamp(min=1)
    reach = REACH[interpolation] * grown
    places = torch.arange(size, device=images.device, dtype=torch.float64)
    centres = (places + 0.5) * scale  # (B, size)
    first = (centres - reach + 0.5).floor().clamp_(min=0)
    last = torch.minimum((centres + reach + 0.5).floor(), lengths[:, None].to(torch.float64))
    # as many as the largest crop can need, whatever these are: nothing asks the device
    largest = max(1.0, images.shape[dimension] / size)
    taps = torch.arange(2 * math.ceil(REACH[interpolation] * largest) + 1, device=images.device)
    read = first[:, None] + taps[:, None]  # (B, taps, size)
    weights = _weights((read - centres[:, None] + 0.5) / grown[:, None], interpolation)
    weights = torch.where(read < last[:, None], weights, 0.0)
    weights = weights / weights.sum(1, keepdim=True)
    weights = (weights * UNIT).round().to(torch.int32)
    read = (starts[:, None, None] + torch.minimum(read, last[:, None] - 1)).to(torch.int64)
    shape = list(images.shape)
    shape[dimension] = size
    as_columns = (-1, 1, 1, size) if dimension == 3 else (-1, 1, size, 1)
    total = torch.full(shape, UNIT // 2, dtype=torch.int32, device=images.device)
    for tap in range(len(taps)):
        where = read[:, tap].view(as_columns).expand(shape)
        total += images.gather(dimension, where) * weights[:, tap].view(as_columns)
    return (total >> 22).clamp_(0, LEVELS - 1).to(torch.uint8)


def _weights(distances: Tensor, interpolation: str) -> Tensor:
    x = distances.abs()
    if interpolation == "bilinear":
        return (1 - x).clamp_(min=0)
    near, far = (1.5 * x - 2.5) * x * x + 1, -0.5 * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


# Flips and quarter turns


def turned(images: Tensor, *, flip: bool, quarters: int) -> Tensor:
    """Squares reflected left to right, if `flip`, then turned anticlockwise."""
    return torch.rot90(images.flip(3) if flip else images, quarters, (2, 3))
