"""What a published page has of a figure besides its picture: on one really executed page."""

import csv
import io
import re
import shutil

import nbformat
import numpy as np
import pytest
from PIL import Image

from astroformer.figures import style, vector
from astroformer.reproduce import Layout, reproduce
from astroformer.reproduce.dark import PAPER
from astroformer.reproduce.figures_of_pages import (
    LEAST_LETTERS,
    least_width,
    letters,
    take_vectors,
    width_of,
    with_drawings,
)
from astroformer.reproduce.screenshots import OPTIONS, OVERFLOW, find_browser, served

BROWSER = find_browser()
CELLS = {
    "start": """
import numpy as np
import pandas as pd
from astroformer.figures import style, tables
style.use()
""",
    "plot": """
figure, (axes,) = style.panels(1, 1, height=3)
axes.plot([1, 2, 3], [4, 9, 5], "o-", label="a line")
axes.set(xlabel="epoch", ylabel="loss")
axes.legend(fontsize=6)
figure
""",
    "plate": """
pixels = np.random.default_rng(0).integers(0, 120, (24, 24, 3), np.uint8)
figure, axes = style.panels(1, 3, height=2)
for one in axes:
    style.picture(one, pixels, "galaxy")
figure
""",
    "uncaptioned": """
figure, (axes,) = style.panels(1, 1, height=2)
axes.imshow(np.eye(5), cmap="Blues")
figure
""",
    "table": """
rows = [['a "b", c', "−4.5"], ["plain", "1,024"], ["two   lines", "7"]]
tables.sortable(pd.DataFrame(rows, columns=["name, or not", "value"]))
""",
}
FIGURES = {name: f"What the {name} shows." for name in ("plot", "plate")}


def write_page(path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Drawn")])
    for name, source in CELLS.items():
        told = {"figure": {"name": f"fig-{name}", "caption": FIGURES.get(name)}}
        shown = {"mystnb": told | {"image": {"alt": f"A {name}."}}} if name in FIGURES else {}
        notebook.cells.append(nbformat.v4.new_code_cell(source.strip(), metadata=shown))
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """A book of one page with a plot, photographs, a map and a table, executed and built."""
    root = tmp_path_factory.mktemp("drawn")
    for folder in ("book/ledger", "astroformer"):
        (root / folder).mkdir(parents=True)
    layout = Layout(root)
    layout.toc.write_text(
        "format: jb-book\nroot: book/index\nchapters:\n  - file: book/drawn_page\n"
    )
    layout.config.write_text(Layout().config.read_text())
    (layout.book / "index.md").write_text("# A small book\n")
    (layout.book / "references.bib").write_text("")
    shutil.copytree(Layout().book / "_static", layout.book / "_static")
    write_page(layout.book / "drawn_page.ipynb")
    layout.claims.write_text("claim,value\n")
    layout.lock.write_text("torch==2.15\n")
    assert reproduce(layout=layout) == 0
    return layout


@pytest.fixture(scope="module")
def page(layout):
    return (layout.html / "book" / "drawn_page.html").read_text()


def copy_of(layout):
    return nbformat.read(layout.executed("smoke") / "drawn_page.ipynb", as_version=4)


def kinds(notebook):
    return [set(one.data) for cell in notebook.cells for one in cell.get("outputs", [])]


def test_an_executed_page_carries_the_drawing_and_a_staged_one_the_picture_alone(layout):
    drawn = [found for found in kinds(copy_of(layout)) if "image/png" in found]
    assert len(drawn) == 3 and all(vector.MIME in found for found in drawn)
    staged = nbformat.read(layout.stage / "book" / "drawn_page.ipynb", as_version=4)
    assert [found - {vector.MIME} for found in kinds(copy_of(layout))] == kinds(staged)


def test_a_page_shows_the_picture_with_its_words_and_beside_it_the_dark_drawing(layout, page):
    boxes = re.findall(r'<div class="drawn".*?</div>\s*<p class="download">.*?</p>', page)
    assert len(boxes) == 3
    for box in boxes:
        light, night = re.findall(r"<img [^>]*>", box)
        for image, told, kind in ((light, "only-light", "webp"), (night, "only-dark", "svg")):
            source = re.search(r'src="\.\./(_images/[^"]+)"', image)
            assert f'class="{told}"' in image and source and source[1].endswith(kind)
            assert (layout.html / source[1]).is_file()
        assert re.findall('alt="[^"]*"', light) == re.findall('alt="[^"]*"', night)
        sizes = [re.findall(r'(?:width|height)="(\d+)"', image) for image in (light, night)]
        assert sizes[0] == sizes[1] and len(sizes[0]) == 2
        assert 'loading="lazy"' in night
        link = re.search(r'href="\.\./(_images/[^"]+\.svg)" download="([^"]+)"', box)
        assert link and (layout.html / link[1]).read_text().startswith("<svg")
    names = re.findall('download="([^"]+)"', page)
    assert names == [
        "drawn_page-fig-plot.svg",
        "drawn_page-fig-plate.svg",
        "drawn_page-figure-3.svg",
    ]
    for name, caption in FIGURES.items():
        figure = re.search(rf'<figure[^>]* id="fig-{name}">(.*?)</figure>', page, re.DOTALL)
        assert figure and f'alt="A {name}."' in figure[1] and caption in figure[1]
        assert figure[1].count('class="drawn"') == 1


def test_the_downloaded_drawing_is_what_the_page_made_and_nothing_else_lies_there(layout):
    made = {
        one.data[vector.MIME]
        for cell in copy_of(layout).cells
        for one in cell.get("outputs", [])
        if vector.MIME in one.data
    }
    drawings = list((layout.html / "_images").glob("*.svg"))
    light = [path for path in drawings if not path.stem.endswith("-dark")]
    assert {path.read_text() for path in light} == made and len(drawings) == 2 * len(light)


def test_a_second_look_changes_nothing(layout, page):
    widths = {path.stem: 1 for path in (layout.html / "_images").glob("*.svg")}
    assert with_drawings(page, layout.html / "book" / "drawn_page.html", widths) == page


def test_a_page_of_an_older_revision_stays_as_it_is(tmp_path):
    picture = nbformat.v4.new_output("display_data", {"image/png": "AAAA", "text/plain": "x"})
    alone = nbformat.v4.new_output("display_data", {vector.MIME: "<svg/>"})
    cell = nbformat.v4.new_code_cell("1", outputs=[picture, alone])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    before = nbformat.writes(notebook)
    take_vectors(notebook, tmp_path / "_images")
    assert nbformat.writes(notebook) == before and not (tmp_path / "_images").exists()
    text = f'<figure id="fig-a">\n<img alt="a" src="../_images/{"0" * 64}.png"/></figure>'
    assert with_drawings(text, tmp_path / "book" / "page.html", {}) == text


@pytest.mark.parametrize("size", [5, 7.5, 12])
def test_at_its_least_width_the_smallest_letter_can_be_read(size):
    style.use()
    figure, (axes,) = style.panels(1, 1, height=2)
    axes.text(0.5, 0.5, "small", fontsize=size)
    drawing = vector.svg(figure)
    assert drawing is not None and min(letters(drawing)) == min(size, 10)
    least = least_width(drawing)
    shown = [min(letters(drawing)) * width / width_of(drawing) for width in (least - 1, least)]
    assert shown[0] < LEAST_LETTERS <= shown[1]


def test_a_drawing_without_letters_may_be_as_narrow_as_it_likes():
    assert least_width('<svg viewBox="0 0 10 10"></svg>') == 0


# In a browser.


@pytest.fixture(scope="module")
def opened(layout):
    """Opens the page in a window of a width and a theme."""
    if not BROWSER:
        pytest.skip("Debian's chromium is not installed")
    from playwright.sync_api import sync_playwright

    own = [word for word in OPTIONS if "pipe" not in word and word != "--headless"]
    with served(layout.html) as address, sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=own)

        def at(width, theme):
            size = {"width": width, "height": 900}
            tab = chromium.new_context(viewport=size, color_scheme=theme).new_page()
            tab.goto(f"{address}/book/drawn_page.html")
            return tab

        yield at
        chromium.close()


def shot(element):
    return np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB"))


@pytest.mark.browser
def test_by_night_no_figure_is_a_white_card_and_by_day_each_is_paper(opened):
    for theme, seen in (("light", "only-light"), ("dark", "only-dark")):
        tab = opened(1000, theme)
        boxes = tab.locator(".drawn")
        assert boxes.count() == 3
        for box in boxes.all():
            images = [one for one in box.locator("img").all() if one.is_visible()]
            assert [one.get_attribute("class") for one in images] == [seen]
            images[0].scroll_into_view_if_needed()
            images[0].evaluate("one => one.decode()")
            pixels = shot(images[0])
            paper = (PAPER if theme == "dark" else (255, 255, 255)) == pixels[2, 2]
            assert paper.all(), "the corner is paper"
            assert theme == "light" or (pixels.min(-1) > 230).mean() < 0.05


@pytest.mark.browser
def test_on_a_narrow_screen_letters_can_be_read_and_boxes_scroll_by_the_keyboard(opened, layout):
    for theme in ("light", "dark"):
        tab = opened(400, theme)
        assert not tab.evaluate(OVERFLOW)
        for box in tab.locator(".drawn").all():
            (image,) = (one for one in box.locator("img").all() if one.is_visible())
            name = re.search("[0-9a-f]{64}", image.get_attribute("src"))
            drawing = (layout.html / "_images" / f"{name[0]}.svg").read_text()
            shown = image.bounding_box()["width"] / width_of(drawing) * min(letters(drawing))
            assert shown >= LEAST_LETTERS
        small = tab.locator("#fig-plot .drawn")
        assert (small.get_attribute("role"), small.get_attribute("tabindex")) == ("region", "0")
        assert small.get_attribute("aria-label")
        small.focus()
        tab.keyboard.press("ArrowRight")
        tab.wait_for_function("document.querySelector('#fig-plot .drawn').scrollLeft > 0")
    wide = opened(1400, "light").locator("#fig-plot .drawn")
    assert wide.get_attribute("tabindex") is None, "what does not scroll is no stop of the keyboard"


@pytest.mark.browser
def test_a_table_is_taken_away_as_csv_by_the_keyboard_as_it_is_shown(opened):
    tab = opened(1000, "light")
    tab.locator("table.sortable th button").last.click()
    button = tab.locator("p.download button")
    button.focus()
    with tab.expect_download() as download:
        tab.keyboard.press("Enter")
    assert download.value.suggested_filename == "drawn_page-table-1.csv"
    with open(download.value.path(), newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["name, or not", "value"],
        ['a "b", c', "-4.5"],
        ["two lines", "7"],
        ["plain", "1,024"],
    ]
    tab.locator("table.sortable tbody tr").first.evaluate("row => { row.hidden = true; }")
    with tab.expect_download() as download:
        button.click()
    with open(download.value.path(), newline="") as file:
        assert list(csv.reader(file)) == [rows[0], *rows[2:]]


@pytest.mark.browser
def test_on_paper_there_is_nothing_to_click_and_figures_are_the_light_ones(opened):
    tab = opened(1000, "dark")
    tab.emulate_media(media="print")
    assert not any(one.is_visible() for one in tab.locator("p.download").all())
    assert all(one.is_visible() for one in tab.locator(".only-light").all())
    assert not any(one.is_visible() for one in tab.locator(".only-dark").all())
