"""What a page has of a figure besides its picture: the SVG to download, the same for the dark
theme, and a width below which it scrolls rather than shrinks.

An executed page carries the SVG beside the picture (`figures.vector`). Staging takes it out, or
Sphinx would show it in place of the picture, and lays it where the built picture will lie, under
the name that the picture will have. A figure without SVG, of a page that was executed by an older
revision, stays as it is.

Reads top to bottom: before Sphinx, after it, the letters of a drawing.
"""

import base64
import hashlib
import html
import math
import re
from pathlib import Path

from nbformat import NotebookNode
from PIL import Image

from .dark import dark

PNG, SVG = "image/png", "image/svg+xml"
GIVEN = "application/papermill.record/"  # before the kind of what is given to sentences
LEAST_LETTERS = 9  # CSS pixels, on any screen
FIGURE = re.compile(
    r'(?P<before><figure[^>]*? id="(?P<name>[^"]+)"[^>]*>\s*)?'
    r'(?P<img><img (?P<rest>[^>]*?)src="(?P<folder>[^"]*_images/)(?P<hash>[0-9a-f]{64})'
    r'\.(?P<kind>webp|png)"[^>]*>)'
)


# Before Sphinx


def take_vectors(notebook: NotebookNode, images: Path) -> None:
    """Moves each SVG that stands beside a picture from a page's outputs to a file of the folder of
    built pictures.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for before in ("", GIVEN):
                drawn = data.pop(before + SVG, None) if before + PNG in data else None
                if drawn is not None:
                    picture = base64.b64decode("".join(data[before + PNG]))
                    images.mkdir(parents=True, exist_ok=True)
                    # myst-nb names pictures by their content
                    path = images / f"{hashlib.sha256(picture).hexdigest()}.svg"
                    path.write_text("".join(drawn))


# After Sphinx


def draw_dark(images: Path) -> dict[str, int]:
    """Writes the dark drawing beside each light one. Returns, by name, the least width in CSS
    pixels at which letters can be read. Drawings of pictures that no page shows go.
    """
    widths = {}
    for path in sorted(images.glob("*.svg")):
        if not re.fullmatch("[0-9a-f]{64}", path.stem):
            continue
        if not any(path.with_suffix(f".{kind}").is_file() for kind in ("webp", "png")):
            path.unlink()
            continue
        drawing = path.read_text()
        dark_path(path).write_text(dark(drawing))
        widths[path.stem] = least_width(drawing)
    return widths


def dark_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}-dark.svg")


def with_drawings(text: str, page: Path, widths: dict[str, int]) -> str:
    """The page with both drawings at each picture that has them."""
    number = 0

    def drawn(found: re.Match) -> str:
        nonlocal number
        if found["hash"] not in widths or "only-light" in found["img"]:
            return found[0]
        number += 1
        return (found["before"] or "") + _drawn(found, page, number, widths[found["hash"]])

    return FIGURE.sub(drawn, text)


def _drawn(found: re.Match, page: Path, number: int, least: int) -> str:
    picture = page.parent / found["folder"] / f"{found['hash']}.{found['kind']}"
    with Image.open(picture) as image:
        width, height = image.size
    size = f'width="{width}" height="{height}"'
    alt = re.search(r'alt="[^"]*"', found["img"])
    words = alt[0] if alt else 'alt=""'
    light = found["img"].replace("<img ", f'<img class="only-light" {size} ', 1)
    address = f"{found['folder']}{found['hash']}"
    night = f'<img class="only-dark" loading="lazy" {size} {words} src="{address}-dark.svg"/>'
    name = html.escape(f"{page.stem}-{found['name'] or f'figure-{number}'}")
    return (
        f'<div class="drawn" style="--least: {least}px">{light}{night}</div>\n'
        f'<p class="download"><a href="{address}.svg" download="{name}.svg" '
        f'aria-label="SVG of this figure">SVG</a></p>'
    )


# The letters of a drawing


def least_width(drawing: str) -> int:
    """CSS pixels a drawing must be wide for its smallest letters to be readable; 0 without any."""
    sizes = letters(drawing)
    return math.ceil(LEAST_LETTERS * width_of(drawing) / min(sizes)) if sizes else 0


def letters(drawing: str) -> list[float]:
    """Sizes of letters, in the units of the drawing."""
    return [float(size) for size in re.findall(r"font-size:([\d.]+)px", drawing)]


def width_of(drawing: str) -> float:
    """Of the drawing in its own units."""
    box = re.search(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) [\d.]+"', drawing)
    if box is None:
        raise ValueError("a drawing without a viewBox")
    return float(box[1])
