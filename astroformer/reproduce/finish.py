"""What Sphinx's pages lack for those who hear them or use the keyboard, and what they carry in
vain.

Reads top to bottom: the pages' own HTML, the theme's icons, the pictures. What a figure has besides
its picture is in `figures_of_pages`. Each step leaves a page alone that it has already seen.
"""

import io
import re
import shutil
from pathlib import Path

from PIL import Image

from .figures_of_pages import draw_dark, with_drawings

# Every icon there is, as a script of 1.5 MB. The theme's style sheet shows the same icons from a
# font, which it fetches in any case.
ICON_SCRIPT = re.compile(r'[ \t]*<script src="[^"]*/fontawesome\.js[^"]*"></script>\n?')
ICON = re.compile(r'<(i|span) class="((?:fa-(?:solid|regular|brands)|fa[srb]) fa-)')
OPENS_BRANCH = "<summary><span class="
CITATION = 'role="doc-biblioentry"'
ICON_RULE = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"[^"]*"\}')
WOFF = re.compile(r'url\([^)]*/fa-[\w-]+\.woff2\) format\("woff2"\),')
CONTENT = re.compile(r'"\\?([ef][0-9a-f]{3})"|"([\ue000-\uf8ff])"')
NAMED_BY_CONTENT = re.compile(r"[0-9a-f]{64}")
EFFORT = dict(method=2, quality=50)  # more takes longer and saves nothing


def finish(html: Path, before: Path) -> None:
    """Works on the pages that Sphinx has just built. `before` is the book that was published
    before; of it, pictures that are still the same are taken.
    """
    pages = [path for path in html.rglob("*.html") if "_static" not in path.parts]
    texts = {path: path.read_text() for path in pages}
    smaller = _shrink_pictures(html / "_images", before / "_images")
    widths = draw_dark(html / "_images")
    for path, text in texts.items():
        done = _shown_small(_named(ICON_SCRIPT.sub("", text)), smaller)
        done = with_drawings(done, path, widths)
        if done != text:
            path.write_text(done)
    _keep_icons(html / "_static", "".join(texts.values()))


def _named(text: str) -> str:
    """Icons are silent, what opens a branch of the contents has a name, and an entry of a list of
    citations is an item of it: a list may hold nothing else.
    """
    text = ICON.sub(r'<\1 aria-hidden="true" class="\2', text)
    text = text.replace(
        OPENS_BRANCH, OPENS_BRANCH.replace("<summary>", '<summary aria-label="pages below">')
    )
    return text.replace(CITATION, 'role="listitem"')


def _keep_icons(static: Path, text: str) -> None:
    """Of the theme's icons those that a page, a style sheet or a script names: the fonts and the
    rules of all others go, 240 kB a page.
    """
    sheet = static / "styles" / "pydata-sphinx-theme.css"
    scripts = static / "scripts"
    (scripts / "fontawesome.js").unlink(missing_ok=True)
    if not sheet.is_file():
        return
    named = set(re.findall(r"fa-[\w-]+", text))
    for script in scripts.glob("*.js"):
        named |= set(re.findall(r"fa-[\w-]+", script.read_text()))

    def kept(rule: re.Match) -> str:
        return rule[0] if named & set(re.findall(r"fa-[\w-]+", rule[1])) else ""

    sheet.write_text(WOFF.sub("", ICON_RULE.sub(kept, sheet.read_text())))
    told = "".join(path.read_text() for path in static.rglob("*.css"))
    letters = {int(code, 16) if code else ord(letter) for code, letter in CONTENT.findall(told)}
    fonts = static / "vendor" / "fontawesome" / "webfonts"
    for font in fonts.glob("*.ttf"):
        _keep_letters(font, letters)
        font.with_suffix(".woff2").unlink(missing_ok=True)


def _keep_letters(font: Path, letters: set[int]) -> None:
    from fontTools import subset  # an extra of the book, not of the library

    options = subset.Options(recalc_timestamp=False, notdef_outline=True)
    loaded = subset.load_font(str(font), options)
    one = subset.Subsetter(options)
    one.populate(unicodes=letters)
    one.subset(loaded)
    subset.save_font(loaded, str(font), options)


def _shrink_pictures(images: Path, before: Path) -> set[str]:
    """The names of the PNG files that are smaller as WebP, pixel for pixel the same, and lie there
    as such instead.
    """
    return {path.name for path in sorted(images.glob("*.png")) if _shrunk(path, before)}


def _shrunk(path: Path, before: Path) -> bool:
    target = path.with_suffix(".webp")
    known = before / target.name
    if NAMED_BY_CONTENT.fullmatch(path.stem) and known.is_file():
        shutil.copy(known, target)
    else:
        smaller = _webp(path)
        if len(smaller) >= path.stat().st_size:
            return False
        target.write_bytes(smaller)
    path.unlink()
    return True


def _webp(path: Path) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        opaque = image.convert("RGBA").getextrema()[3] == (255, 255)
        image.convert("RGB" if opaque else "RGBA").save(
            buffer, "webp", lossless=True, exact=True, **EFFORT
        )
    return buffer.getvalue()


def _shown_small(text: str, names: set[str]) -> str:
    """The page with the smaller pictures in place of those they were made of."""
    return re.sub(
        r"(_images/[^\"'/ ]+)\.png(?=[\"' ])",
        lambda found: (
            f"{found[1]}.webp" if f"{found[1].rpartition('/')[2]}.png" in names else found[0]
        ),
        text,
    )
