"""What is done to pages that Sphinx has built before they are published."""

import io
import re
from importlib import metadata

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from astroformer.reproduce.finish import finish

STATIC = "pydata_sphinx_theme/theme/pydata_sphinx_theme/static"
NAME = "0123456789abcdef" * 4
PAGE = f"""<html><head>
  <script src="../_static/scripts/fontawesome.js?digest=1"></script>
  <script src="../_static/tables.js"></script></head><body>
<details><summary><span class="toctree-toggle"><i class="fa-solid fa-chevron-down"></i></span>
</summary></details><div class="citation" role="doc-biblioentry">One</div>
<img alt="a plot" src="../_images/{NAME}.png"/><img alt="noise" src="../_images/noise.png"/>
</body></html>
"""


@pytest.fixture
def html(tmp_path):
    """A built book of one page with the theme's icons and two pictures."""
    root = tmp_path / "html"
    for folder in ("book", "_images", "_static/styles", "_static/scripts"):
        (root / folder).mkdir(parents=True)
    (root / "book" / "index.html").write_text(PAGE)
    theme = metadata.distribution("pydata-sphinx-theme")
    for name in ("styles/pydata-sphinx-theme.css", "scripts/fontawesome.js"):
        source = theme.locate_file(f"{STATIC}/{name}")
        (root / "_static" / name).write_bytes(source.read_bytes())  # pyrefly: ignore
    fonts = root / "_static" / "vendor" / "fontawesome" / "webfonts"
    fonts.mkdir(parents=True)
    for name in ("fa-solid-900.ttf", "fa-solid-900.woff2"):
        source = theme.locate_file(f"{STATIC}/vendor/fontawesome/webfonts/{name}")
        (fonts / name).write_bytes(source.read_bytes())  # pyrefly: ignore
    plot = np.full((200, 300, 3), 255, np.uint8)
    plot[50:60] = (10, 120, 30)
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for name, pixels in ((NAME, plot), ("noise", noise)):
        Image.fromarray(pixels).save(root / "_images" / f"{name}.png")
    return root


def test_a_page_has_names_for_readers_and_loads_no_script_of_all_icons(html, tmp_path):
    finish(html, tmp_path / "none")
    page = (html / "book" / "index.html").read_text()
    assert "fontawesome.js" not in page and "tables.js" in page
    assert '<summary aria-label="pages below">' in page and 'role="listitem"' in page
    assert '<i aria-hidden="true" class="fa-solid fa-chevron-down">' in page
    finish(html, tmp_path / "none")
    assert (html / "book" / "index.html").read_text() == page, "a second time changes nothing"


def test_the_font_and_the_style_sheet_keep_the_icons_that_are_used(html, tmp_path):
    finish(html, tmp_path / "none")
    sheet = (html / "_static/styles/pydata-sphinx-theme.css").read_text()
    assert ".fa-chevron-down:before" in sheet and ".fa-people-group:before" not in sheet
    assert ".woff2" not in sheet and "fa-solid-900.ttf" in sheet
    (font,) = (html / "_static/vendor/fontawesome/webfonts").iterdir()
    letters = TTFont(font).getBestCmap()
    # of the page, and of the theme's own boxes, which name theirs in variables
    assert {0xF078, 0xF05A, 0xF0EB} <= set(letters) and 0xE533 not in letters
    assert font.stat().st_size < 20_000


def test_a_picture_is_published_in_fewer_bytes_with_the_same_pixels(html, tmp_path):
    before = np.asarray(Image.open(html / "_images" / f"{NAME}.png"))
    size = (html / "_images" / f"{NAME}.png").stat().st_size
    finish(html, tmp_path / "none")
    page = (html / "book" / "index.html").read_text()
    for name in re.findall(r'src="\.\./_images/([^"]+)"', page):
        assert (html / "_images" / name).is_file()
    smaller = html / "_images" / f"{NAME}.webp"
    assert smaller.stat().st_size < size and f"{NAME}.webp" in page
    assert np.array_equal(np.asarray(Image.open(smaller)), before)


def test_a_picture_named_by_its_content_is_taken_from_the_book_before(html, tmp_path):
    known = tmp_path / "before" / "_images"
    known.mkdir(parents=True)
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "webp")
    for name in (NAME, "noise"):
        (known / f"{name}.webp").write_bytes(buffer.getvalue())
    finish(html, tmp_path / "before")
    assert (html / "_images" / f"{NAME}.webp").read_bytes() == buffer.getvalue()
    other = list((html / "_images").glob("noise.*"))
    assert len(other) == 1 and other[0].read_bytes() != buffer.getvalue()
