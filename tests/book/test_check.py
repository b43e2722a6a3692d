"""`reproduce --check` passes a book as it was built, and not one with a digit changed, wherever it
stands; an archive of it is held against itself, and is the same archive each time.
"""

import json
import os
import random
import re
import shutil
import subprocess
import tarfile

import nbformat
import pytest
from bs4 import BeautifulSoup

from astroformer.ledger import claims, records
from astroformer.reproduce import BookError, Layout, reproduce
from astroformer.reproduce.check import MOST, check
from astroformer.reproduce.release import PDF, release

PAGE = """\
from astroformer.figures import every_run, tables as shown
from astroformer.ledger import claims, records, tables
from astroformer.verdicts import verdicts
from myst_nb import glue

found = records.frame(records.read(FOLDER))
glue("count", len(found), display=False)
glue("share", 12.3456, display=False)
glue("words", "**Between** 3.5 and 7", display=False)
glue("block", shown.sortable(tables.measured(found)[:2]), display=False)
shown.sortable(tables.measured(found))
"""
SECOND = """\
reported = claims.read()
shown.sortable(verdicts.reported_beside_measured(reported, found, "top1"))
"""
WORDS = "There are {glue:text}`count` of them, {glue:text}`share:.2f` and {glue:text}`words`.\n"
WORDS += "\n```{glue} block\n```\n"
FILE = "cpu-2core.jsonl"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small book with real records and claims, committed and built."""
    root = tmp_path_factory.mktemp("checked")
    layout = Layout(root)
    for folder in ("book/ledger", "book/_static", "astroformer"):
        (root / folder).mkdir(parents=True)
    layout.toc.write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: book/numbers\n")
    for name in ("_config.yml", "CITATION.cff", "book/claims.csv", f"book/ledger/{FILE}"):
        shutil.copy(Layout().root / name, root / name)
    shutil.copytree(Layout().book / "_static", layout.book / "_static", dirs_exist_ok=True)
    (layout.book / "index.md").write_text("# A small book\n")
    (layout.book / "references.bib").write_text("")
    (layout.library / "part.py").write_text("x = 1\n")
    layout.lock.write_text("torch==2.15\n")
    (root / ".gitignore").write_text("/_build/\nbook/ledger/local/\n")
    code = [PAGE.replace("FOLDER", f"__import__('pathlib').Path({str(layout.ledger)!r})"), SECOND]
    code.append("every_run.every_run(found)")
    parameters = nbformat.v4.new_code_cell("number: int = 1", metadata={"tags": ["parameters"]})
    cells = [nbformat.v4.new_markdown_cell("# Numbers"), parameters]
    cells += [*map(nbformat.v4.new_code_cell, code), nbformat.v4.new_markdown_cell(WORDS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), layout.book / "numbers.ipynb")
    committed = "git init -q && git add -A && git -c user.name=a -c user.email=a@b commit -qm one"
    subprocess.run(committed, shell=True, cwd=root, check=True)
    assert reproduce(layout=layout) == 0
    return layout


@pytest.fixture
def page(built):
    """The built page; it is put back."""
    path = built.html / "book/numbers.html"
    before = path.read_text()
    yield path
    path.write_text(before)


def digits_of(article):
    """Each digit that a reader sees in the page's outputs and quotations: (text, place)."""
    shown = article.select("div.cell_output, div.output, span.pasted-text")
    texts = {id(text): text for part in shown for text in part.find_all(string=True)}
    return [
        (text, place)
        for text in texts.values()
        if text.parent.name not in ("script", "style")
        for place, sign in enumerate(text)
        if sign.isdigit()
    ]


def test_a_book_as_it_was_built_fits(built):
    found = check(layout=built)
    assert not found.complaints and str(found).endswith("all fit")
    [(_, record, _), *_] = records.numbered(built.ledger / FILE)
    assert found.computed > 20 and found.shown > 200 and record["run"]


def test_a_changed_digit_fails_wherever_it_stands(built, page):
    soup = BeautifulSoup(page.read_text(), "html.parser")
    page.write_text(str(soup))
    assert not check(layout=built).complaints
    number = len(digits_of(soup.find("article")))
    assert number > 500
    for choice in random.Random(0).sample(range(number), 40):
        changed = BeautifulSoup(str(soup), "html.parser")
        text, place = digits_of(changed.find("article"))[choice]
        other = str((int(text[place]) + 1) % 10)
        text.replace_with(text[:place] + other + text[place + 1 :])
        page.write_text(str(changed))
        found = check(layout=built)
        assert found.complaints, (text, place)
        assert all(one.startswith("numbers: ") for one in found.complaints)


def test_a_number_of_the_ledger_that_changed_is_named_with_what_it_should_be(built, page):
    path = built.ledger / FILE
    before = path.read_text()
    first = json.loads(before.splitlines()[0])
    first["metrics"]["top1"] -= 1.0
    path.write_text("\n".join([json.dumps(first), *before.splitlines()[1:]]) + "\n")
    try:
        told = "\n".join(check(layout=built).complaints)
    finally:
        path.write_text(before)
    assert (
        f"(run top1 {first['run']} {first['started']})" in told
        and f"{first['metrics']['top1']:.2f}" in told
    )
    assert "not executed from what is here (ledger changed" in told


def test_a_claim_that_changed_is_named_with_what_it_should_be(built, page):
    before = built.claims.read_text()
    [claim] = [c for c in claims.read(built.claims).itertuples(index=False)
               if (c.model, c.dataset, c.metric) == ("astroformer_3", "CIFAR-100", "top1")
               and c.by == "authors"]  # fmt: skip
    built.claims.write_text(before.replace("top1,87.65,", "top1,87.56,", 1))
    try:
        told = "\n".join(check(layout=built).complaints)
    finally:
        built.claims.write_text(before)
    assert f"'87.65' should be '87.56' (claim {claims.id_of(claim)})" in told


def test_many_complaints_are_counted_and_a_page_without_its_copy_is_named(built, page):
    page.write_text(re.sub(r"(data-of=[^>]*>)([^<]*)<", r"\g<1>9\2<", page.read_text()))
    told = check(layout=built).complaints
    assert len(told) == MOST + 1 and re.search(r"numbers: and \d+ more", told[-1])
    page.unlink()
    assert check(layout=built).complaints == ["numbers: the built page is missing"]
    page.write_text("")


def test_what_was_never_built_is_refused(built, tmp_path):
    for place in (tmp_path, tmp_path / "none.tar.gz", built.claims):
        with pytest.raises(BookError):
            check(place, layout=built)


# The archive


def test_an_archive_is_the_same_each_time_and_fits_itself(built, page):
    target = release(built)
    first = target.read_bytes()
    assert release(built).read_bytes() == first
    found = check(target)
    assert not found.complaints and found.computed > 20 and found.shown > 200
    with tarfile.open(target) as packed:
        names = [one.partition("/")[2] for one in packed.getnames()]
    for name in ("SHA256SUMS", ".zenodo.json", "CITATION.cff", "book/claims.csv",
                 f"book/ledger/{FILE}", "_build/html/index.html"):  # fmt: skip
        assert name in names
    assert not any("local/" in name or name.startswith(".git/") for name in names)


def test_the_pdf_of_these_pages_is_in_the_archive_and_that_of_older_pages_is_not(built, page):
    pdf = built.build / PDF
    pdf.write_bytes(b"%PDF of these pages")
    try:
        for age, packed_too in ((0, True), (3600, False)):
            when = max(one.stat().st_mtime for one in built.html.rglob("*.html")) - age
            os.utime(pdf, (when + 1, when + 1))
            with tarfile.open(release(built)) as packed:
                names = [one.partition("/")[2] for one in packed.getnames()]
            assert (f"_build/{PDF}" in names) == packed_too
    finally:
        pdf.unlink()


def test_a_changed_file_in_an_archive_is_named(built, page, tmp_path):
    target = release(built)
    with tarfile.open(target) as packed:
        packed.extractall(tmp_path, filter="data")
    [root] = tmp_path.iterdir()
    own = root / "_build/html/book/numbers.html"
    own.write_text(own.read_text().replace("</article>", "1</article>", 1))
    (root / "more").write_text("")
    changed = tmp_path / "changed.tar.gz"
    with tarfile.open(changed, "w:gz") as packed:
        packed.add(root, root.name)
    told = check(changed).complaints
    assert "_build/html/book/numbers.html: not the file of SHA256SUMS" in told
    assert "more: not named by SHA256SUMS" in told


def test_a_checkout_with_changes_or_old_pages_is_not_released(built, page):
    (built.root / "new").write_text("")
    try:
        with pytest.raises(BookError, match=r"the checkout has changes \(\?\? new\)"):
            release(built)
    finally:
        (built.root / "new").unlink()
    page.write_text(page.read_text().replace("</article>", "</article><!-- -->", 1))
    release(built)  # nothing that is shown has changed
    page.write_text(re.sub(r'(pasted-text">)\d', r"\g<1>77", page.read_text(), count=1))
    with pytest.raises(BookError, match="run `make book`"):
        release(built)


def test_what_zenodo_asks_for_comes_from_the_citation(built):
    with tarfile.open(release(built)) as packed:
        [name] = [one for one in packed.getnames() if one.endswith(".zenodo.json")]
        told = json.loads(packed.extractfile(name).read())
    assert told["title"] == "Astroformer, re-examined" and told["upload_type"] == "software"
    assert told["related_identifiers"][0]["identifier"] == "arXiv:2304.05350"
    assert told["creators"] and told["license"] == "Apache-2.0"
