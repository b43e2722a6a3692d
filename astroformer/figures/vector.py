"""A figure as SVG, beside the picture that a page shows: for download, and for the dark theme, to
which `astroformer.reproduce.dark` turns it.

It is the same in every build, its letters stay letters, and it is as lean as it can be: drawn marks
by the thousand become one picture. What of it does not follow a theme as ink does is told by ids: a
photograph keeps its colours, and so does what lies on it (`kept`); a map of numbers that begins, or
is centred, at white would be a white card, so all of its colours turn (`themed`), while those of
another map, and of the bar that explains it, stay (`coloured`).

Reads top to bottom: when it is drawn, drawing, what lies on what, making it lean.
"""

import base64
import io
import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeGuard
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import Collection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from astroformer import machine

MIME = "image/svg+xml"
KEPT, THEMED, COLOURED = TOLD = ("kept", "themed", "coloured")
FAMILY = "DejaVu Sans, Verdana, sans-serif"  # whose letters are nearly as wide as one another
MOST_BYTES = 300_000  # a figure beyond has no SVG: its download is the picture
MOST_MARKS = 1_500  # points of one artist, about 30 kB; more are drawn as a picture
MOST_PIXELS = 100_000  # bytes of all pictures within; beyond, they lose what eyes hardly miss
QUALITIES = (None, 92, 85)  # as they are, or as JPEG; the first that is light enough, or the last
DPI = 120  # of marks that become a picture
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "astroformer",  # or ids would differ from build to build
    "image.composite_image": False,  # each picture in its own pixels, however few
}
SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
HREF = f"{{{LINK}}}href"
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
# What a group hands down to its parts; opacity is not: it would be that of all of them together.
HANDED_DOWN = ("fill", "stroke")


def use() -> None:
    """From now on a figure that a page shows carries its SVG. Not where a person has the notebook
    open: it would be drawn twice, and saved with the notebook.
    """
    try:
        from IPython import get_ipython  # an extra of the book, not of the library
    except ImportError:
        return
    shell = get_ipython()
    if shell is not None and not machine.is_open_notebook():
        # beside what the kernel itself registers for figures, and registers anew at will
        shell.display_formatter.mimebundle_formatter.for_type(Figure, _bundle)


def _bundle(figure: Figure) -> dict[str, str]:
    drawn = svg(figure)
    return {} if drawn is None else {MIME: drawn}


# Drawing


def svg(figure: Figure) -> str | None:
    """The figure as SVG; None where it would be too heavy."""
    with _marked(figure):
        drawn = io.StringIO()
        with matplotlib.rc_context(SETTINGS):
            figure.savefig(
                drawn, format="svg", bbox_inches="tight", dpi=DPI, metadata={"Date": None}
            )
    lean = _lean(drawn.getvalue())
    return lean if len(lean) <= MOST_BYTES else None


# What lies on what


@contextmanager
def _marked(figure: Figure) -> Iterator[None]:
    """For the while, artists have the ids that tell what a theme may change, those of very many
    points are to become pictures, and pictures keep the pixels they have.
    """
    figure.draw_without_rendering()  # or nothing would have its place yet
    with ExitStack() as after:
        for number, (artist, what) in enumerate(_told(figure)):
            after.callback(artist.set_gid, artist.get_gid())
            artist.set_gid(f"{what}-{number}")
        for axes in figure.get_axes():
            for artist in (*axes.collections, *axes.lines):
                if _marks(artist) > MOST_MARKS:
                    after.callback(artist.set_rasterized, artist.get_rasterized())
                    artist.set_rasterized(True)
            for image in axes.images:
                if image.get_interpolation() == "nearest":
                    after.callback(image.set_interpolation, "nearest")
                    image.set_interpolation("none")
        yield


def _marks(artist: Line2D | Collection) -> int:
    """How many points a line or a collection draws."""
    if isinstance(artist, Line2D):
        return len(artist.get_xydata())
    points = sum(len(path.vertices) for path in artist.get_paths())
    return max(len(artist.get_offsets()), points)


def _told(figure: Figure) -> Iterator[tuple[Artist, str]]:
    """Artists of a figure and what becomes of them in another theme, other than following it."""
    grounds: list[Bbox] = []
    for axes in figure.get_axes():
        if any(_begins_white(one) for one in (*axes.images, *axes.collections)):
            yield axes, THEMED
            continue
        if any(_is_hued(one) for one in axes.collections):
            yield axes, COLOURED
        photographs = [
            box for image in axes.images if (box := _seen(image.get_window_extent(), axes))
        ]
        yield from ((image, KEPT) for image in axes.images)
        for artist in (*axes.lines, *axes.patches, *axes.collections):
            if _on(artist, photographs):
                yield artist, KEPT
        grounds += photographs
        grounds += [
            box
            for patch in axes.patches
            if _is_coloured(patch) and (box := _seen(patch.get_window_extent(), axes))
        ]
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_text().strip() and _on(text, grounds):
            yield text, KEPT


def _seen(box: Bbox, axes: Axes) -> Bbox | None:
    """What of a box the axes show."""
    return Bbox.intersection(box, axes.bbox)


def _on(artist: Artist, grounds: list[Bbox]) -> bool:
    """Whether the middle of an artist lies on one of the grounds."""
    if not grounds or not artist.get_visible():
        return False
    box = artist.get_window_extent()
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    return any(ground.contains(x, y) for ground in grounds)


def _is_coloured(patch: Patch) -> bool:
    """Whether letters on a patch are made for its colour, not for the paper's."""
    *color, alpha = to_rgba(patch.get_facecolor())
    return patch.get_visible() and patch.get_fill() and alpha > 0.5 and np.ptp(color) > 0.1


def _begins_white(mappable: Artist) -> bool:
    """Whether numbers are shown as colours that begin, or are centred, at white."""
    if not _is_hued(mappable):
        return False
    first, middle = mappable.cmap((0.0, 0.5))[:, :3]
    return min(first) > 0.85 or min(middle) > 0.85


def _is_hued(mappable: Artist) -> TypeGuard[ScalarMappable]:
    """Whether numbers are shown as colours. A scale of greys is ink, or a photograph."""
    if not isinstance(mappable, ScalarMappable) or (array := mappable.get_array()) is None:
        return False
    if isinstance(mappable, AxesImage) and array.ndim != 2:
        return False  # pixels that have their colours
    return max(np.ptp(color) for color in mappable.cmap((0.0, 0.5, 1.0))[:, :3]) > 0.02


# Making it lean


def _lean(drawn: str) -> str:
    """The same in fewer bytes: without remarks, ids that nothing names, digits that nobody sees, or
    groups that say nothing.
    """
    for prefix, name in (("", SVG), ("xlink", LINK)):
        ElementTree.register_namespace(prefix, name)
    root = ElementTree.fromstring(drawn)
    for one in root.findall(f"{{{SVG}}}metadata"):
        root.remove(one)
    named = set(re.findall(r"#([\w-]+)", drawn))
    own = {one.get("id"): _style(one) for one in root.iter() if one.get("id") in named}
    for one in root.iter():
        _shorten(one, named)
        if one.tag == f"{{{SVG}}}use":  # what the mark itself says holds in any case
            said = own.get(one.get(HREF, "")[1:], {})
            _restyle(one, {key: value for key, value in _style(one).items() if key not in said})
    pictures = list(root.iter(f"{{{SVG}}}image"))
    told = [one.get(HREF, "") for one in pictures]
    for quality in QUALITIES:
        smaller = [_smaller(address, quality) for address in told]
        if sum(map(len, smaller)) <= MOST_PIXELS:
            break
    for one, address in zip(pictures, smaller):
        one.set(HREF, address)
        scaled = re.match(r"matrix\(([\d.]+)", one.get("transform", ""))
        if scaled and float(scaled[1]) < 1:
            one.attrib.pop("style", None)  # pixels smaller than the screen's are to melt
    _unwrap(root)
    _hand_down(root)
    root.set("font-family", FAMILY)
    return _renamed(ElementTree.tostring(root, encoding="unicode"))


def _renamed(text: str) -> str:
    """Ids by their number: those of matplotlib follow from the last digit of every place, and a
    figure that is drawn a second time differs in some.
    """
    ids = dict.fromkeys(re.findall(r' id="([a-z][0-9a-f]{10,})"', text))
    short = {name: f"i{number}" for number, name in enumerate(ids)}
    return re.sub(
        r'(?<=[#"])([a-z][0-9a-f]{10,})(?=[")])', lambda found: short.get(found[1], found[1]), text
    )


def _shorten(one: ElementTree.Element, named: set[str]) -> None:
    told = one.get("id", "")
    if told and told not in named and told.partition("-")[0] not in TOLD:
        del one.attrib["id"]
    if not (one.text or "").strip():
        one.text = None
    one.tail = None
    style = {key: value for key, value in _style(one).items() if key != "font-family"}
    if "font" in style:  # "700 10px 'DejaVu Sans', ...": what stands before the family
        *weight, size = style.pop("font").partition("px")[0].split()
        style |= {"font-size": f"{size}px"} | ({"font-weight": weight[-1]} if weight else {})
    _restyle(one, style)
    turned = one.get("transform", "")
    if turned.startswith(("rotate(-0 ", "rotate(0 ")):
        del one.attrib["transform"]
    elif turned:
        digits = 6 if "matrix" in turned or "scale" in turned else 2
        one.set("transform", _rounded(turned, digits))
    for key in ("x", "y", "width", "height", "viewBox"):
        if key in one.attrib:
            one.set(key, _rounded(one.attrib[key]))
    if "d" in one.attrib:
        one.set("d", re.sub(r"\s*([MLCQz])\s*", r"\1", _rounded(one.attrib["d"])).strip())


def _rounded(text: str, digits: int = 2) -> str:
    """The text with its numbers to so many digits behind the point."""
    return NUMBER.sub(lambda found: f"{float(found[0]):.{digits}f}".rstrip("0").rstrip("."), text)


def _style(one: ElementTree.Element) -> dict[str, str]:
    told = (part.partition(":") for part in one.get("style", "").split(";"))
    return {key.strip(): value.strip() for key, _, value in told if value}


def _restyle(one: ElementTree.Element, style: dict[str, str]) -> None:
    one.attrib.pop("style", None)
    if style:
        one.set("style", ";".join(f"{key}:{value}" for key, value in style.items()))


def _unwrap(one: ElementTree.Element) -> None:
    """Groups that say nothing make room for their parts."""
    for part in list(one):
        _unwrap(part)
    if all(part.tag != f"{{{SVG}}}g" or part.attrib for part in one):
        return
    plain = (list(part) if _says_nothing(part) else [part] for part in one)
    one[:] = list(itertools.chain.from_iterable(plain))


def _says_nothing(one: ElementTree.Element) -> bool:
    return one.tag == f"{{{SVG}}}g" and not one.attrib


def _hand_down(root: ElementTree.Element) -> None:
    """What the marks of a group have in common stands once, at the group."""
    for group in root.iter(f"{{{SVG}}}g"):
        styles = [_style(part) for part in group]
        if len(styles) < 2 or _style(group):
            continue
        common = {
            key: value
            for key, value in styles[0].items()
            if key.startswith(HANDED_DOWN) and all(style.get(key) == value for style in styles)
        }
        if common:
            _restyle(group, common)
            for part, style in zip(group, styles):
                _restyle(part, {key: value for key, value in style.items() if key not in common})


def _smaller(address: str, quality: int | None) -> str:
    """A picture within, without a fourth channel that says nothing; if not as it is, a photograph
    as JPEG of this quality, and marks in at most 256 colours.
    """
    head, _, data = address.partition("base64,")
    if not head.startswith("data:image/png"):
        return address
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        picture = image.convert("RGBA")
    kind, options = "png", {"optimize": True}
    if picture.getextrema()[3] == (255, 255):
        picture = picture.convert("RGB")
        if quality is not None:
            kind, options = "jpeg", {"quality": quality, "subsampling": 0}
    elif quality is not None:
        picture = picture.quantize(256, method=Image.Quantize.FASTOCTREE)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
