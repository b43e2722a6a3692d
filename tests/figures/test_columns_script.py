"""The script that folds wide tables and makes cards of their rows, in a browser."""

import pandas as pd
import pytest

from astroformer import paths
from astroformer.figures import tables
from astroformer.reproduce.screenshots import find_browser

STATIC = paths.BOOK / "_static"
BROWSER = find_browser()

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not BROWSER, reason="Debian's chromium is not installed"),
]
PAGE = """<!doctype html><html><head><style>{css}</style></head><body>
<article class="bd-article"><div style="overflow-x: auto">{table}</div></article>
<script>{columns}</script><script>{sorter}</script></body></html>"""
SEEN = """() => {
  const table = document.querySelector("table"), button = document.querySelector("button.columns");
  const rows = [table.tHead.rows[0], table.tBodies[0].rows[0]];
  const seen = () => rows.flatMap((row) => Array.from(row.cells))
    .filter((cell) => cell.offsetParent !== null).map((cell) => cell.textContent);
  const told = {first: seen(), words: button && button.textContent};
  if (button) {
    button.click();
    told.whole = seen();
    told.expanded = button.getAttribute("aria-expanded");
    button.click();
    told.again = seen();
  }
  const cell = rows[1].cells[1];
  const before = getComputedStyle(cell, "::before").content;
  return {...told, before, display: getComputedStyle(cell).display};
}"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])


def seen(browser, table, width=1400):
    """What a browser shows of a table (HTML) at a width in pixels."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    css, columns, sorter = (
        (STATIC / name).read_text() for name in ("columns.css", "columns.js", "tables.js")
    )
    page.set_content(PAGE.format(table=table, css=css, columns=columns, sorter=sorter))
    told = page.evaluate(SEEN)
    page.close()
    return told


def wide(columns, letters=0):
    return pd.DataFrame([{f"head {n}{'x' * letters}": f"cell {n}" for n in range(columns)}])


def both(places, letters=0):
    return [f"head {n}{'x' * letters}" for n in places] + [f"cell {n}" for n in places]


@pytest.mark.parametrize(
    ("columns", "letters", "prose_last", "first"),
    [
        (6, 40, False, None),
        (8, 0, False, None),  # fits
        (7, 40, False, range(6)),
        (9, 0, False, range(6)),
        (17, 0, False, range(6)),
        (6, 40, True, None),
        (13, 0, True, [0, 1, 2, 3, 4, 12]),
    ],
)
def test_six_columns_are_shown_and_a_button_shows_all(columns, letters, prose_last, first, browser):
    table = tables.sortable(wide(columns, letters), prose_last=prose_last).data
    told = seen(browser, table)
    if first is None:
        assert told["words"] is None and told["first"] == both(range(columns), letters)
        return
    assert told["first"] == both(first, letters)
    assert told["words"] == f"all {columns} columns" and told["expanded"] == "true"
    assert told["whole"] == both(range(columns), letters) and told["again"] == told["first"]


def test_a_table_with_two_rows_of_heads_stays_whole(browser):
    frame = wide(9)
    frame.columns = pd.MultiIndex.from_product([["a", "b", "c"], ["d", "e", "f"]])
    told = seen(browser, frame.to_html())
    assert told["words"] is None


def test_on_a_small_screen_a_row_is_a_card_whose_cells_bear_their_heads(browser):
    five, three = (tables.sortable(wide(number)).data for number in (5, 3))
    narrow = seen(browser, five, width=400)
    assert narrow["display"] == "block" and "head 1" in narrow["before"]
    assert narrow["first"] == [f"cell {n}" for n in range(5)]
    usual = seen(browser, five)
    assert (usual["display"], usual["before"]) == ("table-cell", "none")
    assert seen(browser, three, width=400)["display"] == "table-cell"
    folded = seen(browser, tables.sortable(wide(9)).data, width=400)
    assert folded["first"] == [f"cell {n}" for n in range(6)] and len(folded["whole"]) == 9
