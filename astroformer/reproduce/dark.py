"""A figure for the dark theme, made of the one for the light theme (`figures.vector`).

Paper, ink, axes and grid, which have no hue, turn; colours that stand for data stay, letters in
them become bright enough to be read. A photograph and what lies on it stay as they are; a map of
numbers that begins at white turns in all of its colours.

Reads top to bottom: the drawing, its colours, the pictures within.
"""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
from PIL import Image

Color = tuple[int, int, int]

INK: Color = (0xCE, 0xD6, 0xDD)  # the theme's letters and its page, by night
PAPER: Color = (0x12, 0x12, 0x12)
HUE = 32  # of 255, between the strongest and the weakest channel: what has less is ink or paper
# Rows and columns of a strip of photographs that are all as bright are the paper between two,
# white but for what a JPEG makes of it. A photograph alone may be white from edge to edge.
GUTTER = 190
STRIP = 2  # times as long as it is wide
READABLE = 4.5  # contrast of letters with their paper, as WCAG 2 wants it
COLOR = re.compile(r"(fill|stroke):#([0-9a-f]{6})")


# The drawing


def dark(drawing: str) -> str:
    """The same SVG as it is to be seen by night."""
    from astroformer.figures import vector  # matplotlib, a second: only for who builds the book

    for prefix, name in (("", vector.SVG), ("xlink", vector.LINK)):
        ElementTree.register_namespace(prefix, name)
    root = ElementTree.fromstring(drawing)
    root.set("fill", _hex(INK))  # what says no colour would be black

    ways = {
        vector.KEPT: turned_photograph,
        vector.COLOURED: np.copy,
        vector.THEMED: turned_map,
    }

    def turn(one: ElementTree.Element, told: str) -> None:
        """`told`: what the drawing says of this part."""
        own = one.get("id", "").partition("-")[0]
        told = own if own in vector.TOLD else told
        kept = told == vector.KEPT
        if kept and own:
            one.set("fill", "#000000")
        if one.tag == f"{{{vector.SVG}}}image":
            way = ways.get(told, turned_ink)
            one.set(vector.HREF, _repainted(one.get(vector.HREF, ""), way))
        elif not kept and "style" in one.attrib:
            letters = one.tag in (f"{{{vector.SVG}}}text", f"{{{vector.SVG}}}tspan")
            free = letters and told != vector.THEMED  # a map's letters are made for its cells
            one.set("style", COLOR.sub(lambda found: _turned(found, free), one.attrib["style"]))
        for part in one:
            turn(part, told)

    turn(root, "")
    return ElementTree.tostring(root, encoding="unicode")


# Its colours


def _turned(found: re.Match, letters: bool) -> str:
    red, green, blue = bytes.fromhex(found[2])
    color = turned_ink(np.array([red, green, blue], np.uint8))
    if letters and np.ptp(color) > HUE:
        color = _readable(color)
    return f"{found[1]}:{_hex(color)}"


def turned_ink(colors: np.ndarray) -> np.ndarray:
    """Colours (..., 3 or more channels) without a hue go from ink to paper as they did from black
    to white; others stay, and so does what is behind the third channel.
    """
    rgb = colors[..., :3].astype(float)
    light = (rgb.mean(-1, keepdims=True) / 255) ** 1.2  # or greys would come near to the paper
    turned = light * np.array(PAPER) + (1 - light) * np.array(INK)
    grey = np.ptp(rgb, axis=-1, keepdims=True) <= HUE
    return _with_rest(np.where(grey, turned, rgb), colors)


def turned_map(colors: np.ndarray) -> np.ndarray:
    """Colours as bright as they were dark, of the same hue: white becomes the paper."""
    rgb = colors[..., :3] / 255
    turned = rgb + 1 - rgb.max(-1, keepdims=True) - rgb.min(-1, keepdims=True)
    paper = np.array(PAPER) / 255
    return _with_rest(255 * (paper + turned * (1 - paper)), colors)


def turned_photograph(pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, channels) as they are, but for the paper between photographs in a strip."""
    if max(pixels.shape[:2]) < STRIP * min(pixels.shape[:2]):
        return pixels
    rgb = pixels[..., :3]
    white = (rgb.min(-1) >= GUTTER) & (np.ptp(rgb, axis=-1) <= HUE)
    between = white.all(0)[None, :] | white.all(1)[:, None]
    return _with_rest(np.where(between[..., None], np.array(PAPER), rgb), pixels)


def _with_rest(rgb: np.ndarray, colors: np.ndarray) -> np.ndarray:
    return np.concatenate([rgb.round().astype(np.uint8), colors[..., 3:]], axis=-1)


def _readable(color: np.ndarray) -> np.ndarray:
    """The colour with as much white in it as letters need."""
    white = np.zeros(())
    while contrast(color, PAPER) < READABLE:
        white = white + 0.05
        color = ((1 - white) * color + white * 255).round().astype(np.uint8)
    return color


def contrast(one, other) -> float:
    """Of two colours, as WCAG 2 defines it: 1 where they are the same, 21 of black and white."""
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(color) -> float:
    part = np.asarray(color) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _hex(color) -> str:
    return "#" + bytes(int(part) for part in color[:3]).hex()


# The pictures within


def _repainted(address: str, way) -> str:
    head, _, data = address.partition("base64,")
    kind = "jpeg" if head.startswith("data:image/jpeg") else "png"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        few = image.mode == "P"
        pixels = np.asarray(image.convert("RGBA" if few else image.mode))
    turned = way(pixels)
    if np.array_equal(turned, pixels):
        return address  # with the bytes it had: a JPEG would lose something every time
    picture = Image.fromarray(turned)
    if few:
        picture = picture.quantize(256, method=Image.Quantize.FASTOCTREE)
    buffer = io.BytesIO()
    options = {"quality": 90, "subsampling": 0} if kind == "jpeg" else {"optimize": True}
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
