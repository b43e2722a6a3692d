"""Where the sources are published, in buttons and in the pages' first cell: written by one command,
taken back by it, and right for pages that are copies of one notebook.
"""

import json
import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroformer.reproduce import BookError, Layout, reproduce
from astroformer.reproduce.address import BINDER, COLAB, TAG, Address, main, write
from astroformer.reproduce.pages import assignments, parameters_cells, read_notebook

GITHUB = Address("https://github.com/owner/repo")
PAGE = "results.ipynb"
TOC = """\
format: jb-book
root: book/index
chapters:
  - file: book/results_one
  - file: book/results_two
"""


@pytest.fixture
def sources(tmp_path):
    """What an address is written into, as it lies in the checkout."""
    (tmp_path / "book").mkdir()
    for name in ("_config.yml", "_toc.yml", "CITATION.cff"):
        shutil.copy(Layout().root / name, tmp_path)
    for page in Layout().book.glob("*.ipynb"):
        shutil.copy(page, tmp_path / "book")
    return Layout(tmp_path)


def contents(layout):
    return {path: path.read_bytes() for path in sorted(layout.root.rglob("*.*"))}


def first_code(page):
    return next(cell for cell in read_notebook(page)["cells"] if cell["cell_type"] == "code")


def test_an_address_is_written_once_changed_and_taken_back(sources):
    before = contents(sources)
    write(sources, None)
    none = contents(sources)
    if not re.search(rb'url: "https', before[sources.config]):
        assert none == before, "the checkout has no address, and nothing to take back"
    changed = write(sources, GITHUB)
    assert {path.name for path in changed} == {path.name for path in before} - {"_toc.yml"}
    written = contents(sources)
    assert write(sources, GITHUB) == [] and contents(sources) == written
    write(sources, Address("https://gitlab.com/a/b", "book/2"))
    assert b"owner/repo" not in b"".join(contents(sources).values())
    assert COLAB not in sources.config.read_text(), "Colab opens GitHub alone"
    write(sources, None)
    assert contents(sources) == none


def test_each_page_begins_with_the_cell_and_keeps_its_parameters(sources):
    known = {page: assignments(parameters_cells(read_notebook(page))[0]) for page in pages(sources)}
    write(sources, GITHUB)
    for page in pages(sources):
        cell = first_code(page)
        assert cell["metadata"]["tags"] == [TAG, "remove-cell"]
        assert "astroformer[book] @ git+https://github.com/owner/repo@main" in "".join(
            cell["source"]
        )
        after = assignments(parameters_cells(read_notebook(page))[0])
        assert [ast.target.id for ast in after] == [ast.target.id for ast in known[page]]


def pages(layout):
    return sorted(layout.book.glob("*.ipynb"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "github.com/a/b",
        "http://github.com/a/b",
        "https://github.com/a",
        "https://github.com/a/b/c",
        "https://me:secret@github.com/a/b",
        "https://github.com/a/b?x=1",
        "https://github.com/a b/c",
        "https://github.com/a'/c",
        "git@github.com:a/b.git",
    ],
)
def test_what_is_no_address_is_refused_in_one_line(url, capsys):
    with pytest.raises(BookError, match="give https://HOST/OWNER/REPOSITORY"):
        Address(url)
    if url:
        assert main([url]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(owner=NAMES, name=NAMES, end=st.sampled_from(["", "/", ".git"]))
def test_an_address_is_one_however_it_is_typed(owner, name, end):
    plain = name.removesuffix(".git") or name
    assert Address(f"https://github.com/{owner}/{plain}{end}").url.startswith(
        f"https://github.com/{owner}/{plain}".removesuffix(".git")
    )


@pytest.mark.parametrize("branch", ["", "a b", "x'", "-/ ", "a//b"])
def test_what_is_no_branch_is_refused(branch):
    with pytest.raises(BookError, match="no name of a branch"):
        Address("https://github.com/a/b", branch)


def test_buttons_lead_to_the_notebook_that_is_published(tmp_path, monkeypatch):
    """Also from a page that is one of several copies of it."""
    (tmp_path / "book/_static").mkdir(parents=True)
    for folder in ("astroformer", "book/ledger"):
        (tmp_path / folder).mkdir()
    layout = Layout(tmp_path)
    layout.toc.write_text(TOC)
    shutil.copy(Layout().config, tmp_path)
    shutil.copytree(Layout().book / "_static", layout.book / "_static", dirs_exist_ok=True)
    (layout.book / "index.md").write_text("# A small book\n")
    (layout.book / "references.bib").write_text("")
    for file, text in ((layout.claims, "claim\n"), (layout.lock, "torch==2.15\n")):
        file.write_text(text)
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Results"]},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {"tags": ["parameters"]},
            "source": ['profile: str = "smoke"\n', 'dataset: str = "one"'],
            "outputs": [],
            "execution_count": None,
        },
    ]
    each = {"each": {"dataset": {"one": "Results on one", "two": "Results on two"}}}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    told = {"kernelspec": kernel, "astroformer": each}
    page = {"cells": cells, "metadata": told, "nbformat": 4, "nbformat_minor": 5}
    (layout.book / PAGE).write_text(json.dumps(page))
    write(layout, GITHUB)
    assert reproduce(layout=layout) == 0
    for name in ("results_one", "results_two"):
        html = (layout.html / f"book/{name}.html").read_text()
        links = set(re.findall(rf'href="((?:{BINDER}|{COLAB}|{GITHUB.url})[^"]*)"', html))
        assert links >= {
            GITHUB.url,
            f"{COLAB}/github/owner/repo/blob/main/book/{PAGE}",
            f"{BINDER}/v2/gh/owner/repo/main?urlpath=lab/tree/book/{PAGE}",
        }
        assert "find_spec" not in html
