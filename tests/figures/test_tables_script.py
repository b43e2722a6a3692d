"""The script that sorts a page's tables, in a browser."""

import base64
import json
import re
import subprocess

import numpy as np
import pandas as pd
import pytest

from astroformer import paths
from astroformer.figures import tables
from astroformer.reproduce.screenshots import find_browser

SCRIPT = paths.BOOK / "_static" / "tables.js"
BROWSER = find_browser()

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not BROWSER, reason="Debian's chromium is not installed"),
]
PAGE = """<!doctype html><html><body><article class="bd-article">
<div style="overflow-x: auto; width: 300px">
{table}</div><pre>short</pre></article><script>{script}</script><script>
addEventListener("load", () => {{
const heads = document.querySelectorAll("th button"), told = [];
const rows = () => Array.from(document.querySelectorAll("tbody tr"));
const column = n => rows().map(row => row.cells[n].textContent);
for (const n of {clicks}) {{
  heads[n].click();
  told.push([column(n), heads[n].parentElement.getAttribute("aria-sort")]);
}}
const box = document.querySelector("div");
document.body.innerHTML = "<p id=told>" + btoa(unescape(encodeURIComponent(JSON.stringify({{
  told, scrolls: box.tabIndex, short: document.querySelector("pre").tabIndex}})))) + "</p>";
}});
</script></body></html>"""


def sorted_by(frame, clicks, folder):
    """What the columns hold after each click on a head, in a browser."""
    table = tables.sortable(frame).data
    page = folder / "page.html"
    script = SCRIPT.read_text()
    page.write_text(PAGE.format(table=table, script=script, clicks=json.dumps(list(clicks))))
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000"]
    done = subprocess.run(
        [BROWSER, *words, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120
    )
    found = re.search(r"id=\"told\">([^<]+)<", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    return json.loads(base64.b64decode(found[1]))


def test_a_click_sorts_and_another_turns_the_order(tmp_path):
    random = np.random.default_rng(0)
    numbers = {
        f"number {n}": [f"{value:,.{n}f} points" for value in random.normal(0, 10**n, 4)]
        for n in range(1, 6)
    }
    frame = pd.DataFrame(
        {
            "name": ["b", "a", "C", ""],
            "value": ["12.3 %", "1,024 [900, 1,100]", "−4.5", ""],
            "mixed": ["not run", "7", "-1e-3", "+2"],
            **numbers,
        }
    )
    every = [*range(3, 8)] * 2
    found = sorted_by(frame, [0, 0, 1, 1, 2, *sorted(every)], tmp_path)
    columns = [column for column, _ in found["told"]]
    assert columns[0] == ["a", "b", "C", ""] and columns[1] == ["C", "b", "a", ""]
    assert columns[2] == ["−4.5", "12.3 %", "1,024 [900, 1,100]", ""]
    assert columns[3] == ["1,024 [900, 1,100]", "12.3 %", "−4.5", ""]
    assert columns[4] == ["-1e-3", "+2", "7", "not run"]
    assert [way for _, way in found["told"]][:5] == [
        "ascending", "descending", "ascending", "descending", "ascending"
    ]  # fmt: skip
    for up, down in zip(columns[5::2], columns[6::2]):
        values = [float(text.removesuffix(" points").replace(",", "")) for text in up]
        assert values == sorted(values) and down == up[::-1]
    assert found["scrolls"] == 0 and found["short"] == -1, "a box that scrolls takes the keyboard"


def test_what_a_cell_holds_is_text():
    shown = tables.sortable(pd.DataFrame({"a <b>": ["1 < 2", "<script>"]})).data
    assert "&lt;script&gt;" in shown and "<script>" not in shown and "a &lt;b&gt;" in shown
