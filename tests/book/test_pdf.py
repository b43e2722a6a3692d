"""A small book becomes one document, and that a PDF."""

import io
import re
import shutil

import pypdf
import pytest
import yaml
from bs4 import BeautifulSoup
from PIL import Image

from astroformer import paths
from astroformer.reproduce import BookError, Layout, pdf
from astroformer.reproduce.screenshots import find_browser

TOC = {
    "format": "jb-book",
    "root": "book/index",
    "parts": [{"caption": "Later letters", "chapters": [{"file": "book/z"}, {"file": "book/a"}]}],
}
PAGE = """<html><head><link rel="stylesheet" href="../_static/house.css"/>
<script src="../_static/clicks.js"></script></head><body><nav>elsewhere</nav>
<article class="bd-article"><section id="{name}"><h1>{title}
<a class="headerlink" href="#{name}">#</a></h1>{body}</section></article></body></html>"""
LINES = "".join(f"<p>Line {number} of a long section.</p>" for number in range(60))
HEADS = "".join(f"<th>column {number}</th>" for number in range(16))
BODIES = {
    "index": '<p>Begin with <a href="z.html">the last</a>, or at <a href="a.html#part">a part</a>.'
    '</p><div style="width: 400px"><table><tr><td style="min-width: 900px">wide</td></tr></table>'
    "</div>",
    "z": f"""<section id="part"><h2>A part &amp; more</h2>{LINES}</section>
<h2>Across</h2><p>Above the table.</p><table><tr>{HEADS}</tr></table><p>Below the table.</p>
<h2>Last</h2><p aria-labelledby="part seen">See <a id="seen" href="#part">above</a>,
<a href="https://example.org/x">elsewhere</a> and <a href="lost.html">nowhere</a>.</p>""",
    "a": """<section id="part"><h2>A part</h2><details class="admonition hide above-input">
<summary>Show the code</summary><pre>import this</pre></details>
<details><summary>More</summary><p>What opens.</p></details>
<div><img class="for-print" hidden loading="lazy" alt="a plot" src="../_images/plot.webp"/>
<div class="interactive"><script>draw()</script>The pointer moves this.</div></div>
<p class="download"><a href="../_images/plot.svg" download="plot.svg">SVG</a></p>
<form id="choice"><input name="one"/></form></section>""",
}
TITLES = {"index": "The book", "z": "The last letter", "a": 'The "first" letter'}


def write(root):
    """A built book of three pages, in an order that is not that of their names."""
    layout = Layout(root)
    for folder in (
        "book/_static",
        "_build/html/book",
        "_build/html/_static",
        "_build/html/_images",
    ):
        (root / folder).mkdir(parents=True)
    layout.toc.write_text(yaml.safe_dump(TOC))
    layout.config.write_text(yaml.safe_dump({"title": "A small book", "author": "Somebody"}))
    shutil.copy(paths.ROOT / "CITATION.cff", root)
    shutil.copy(paths.BOOK / "_static" / "pdf.css", layout.book / "_static")
    (layout.html / "index.html").write_text("")
    (layout.html / "_static" / "house.css").write_text("h2 { color: #222; }")
    Image.new("RGB", (40, 20), "navy").save(layout.html / "_images" / "plot.webp", lossless=True)
    for name, body in BODIES.items():
        page = PAGE.format(name=name, title=TITLES[name], body=body)
        (layout.html / "book" / f"{name}.html").write_text(page)
    return layout


@pytest.fixture
def layout(tmp_path):
    return write(tmp_path)


@pytest.fixture
def document(layout):
    found, heads = pdf.chapters(layout)
    told = yaml.safe_load(layout.config.read_text())
    return BeautifulSoup(pdf.whole(layout, told, found, heads), "html.parser")


def test_chapters_come_in_the_order_of_the_contents_under_their_parts(document):
    articles = document.select("article")
    assert [one["id"] for one in articles] == ["index", "z", "a"]
    lines = [" ".join(one.get_text().split()) for one in document.select(".pdf-contents li")]
    assert lines == [
        *("The book", "Later letters", "The last letter", "A part & more", "Across", "Last"),
        *('The "first" letter', "A part"),
    ]
    assert document.select_one("html head title").text == "A small book"
    assert [one["href"] for one in document.select("head link[rel=stylesheet]")] == [
        "../_static/house.css"
    ]
    assert not document.select("script"), "what answers to clicks is not loaded"


def test_ids_are_unique_and_links_lead_to_them_or_to_other_hosts(layout, document):
    ids = [one["id"] for one in document.select("[id]")]
    assert len(ids) == len(set(ids))
    links = {one["href"] for one in document.select("a[href]") if one["href"]}
    assert {link for link in links if not link.startswith("#")} == {"https://example.org/x"}
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert {"#z", "#a--part", "#z--part"} <= links
    assert document.select_one("[aria-labelledby]")["aria-labelledby"] == "z--part z--seen"
    found, _ = pdf.chapters(layout)
    assert [(one.name, one.dead) for one in found if one.dead] == [("z", ["lost.html"])]
    assert "nowhere" in document.text


def test_hidden_code_stays_hidden_and_figures_are_still(document):
    page = document.select_one("#a")
    assert "import this" not in page.text and "The pointer" not in page.text
    assert page.select_one("details").has_attr("open") and "What opens." in page.text
    assert set(page.select_one("img").attrs) == {"class", "alt", "src"}
    assert "SVG" not in page.text and not page.select("input") and "a form stands here" in page.text
    assert document.select("table.across") == document.select("#z table")


def test_a_book_that_is_not_built_or_lacks_a_page_is_refused_in_one_line(layout):
    (layout.html / "book" / "a.html").unlink()
    with pytest.raises(
        BookError, match="^the built book has no page book/a.html: run `make book`$"
    ):
        pdf.make(layout)
    shutil.rmtree(layout.html)
    with pytest.raises(BookError, match="^there is no book yet: run `make book` first$"):
        pdf.make(layout)


def test_without_chromium_it_says_how_to_install_it(layout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BookError, match="^no chromium found: install it .*chromium[)]$"):
        pdf.make(layout)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    layout = write(tmp_path_factory.mktemp("book"))
    target, dead = pdf.make(layout)
    assert target == layout.build / "astroformer-re-examined.pdf" and dead == ["z: lost.html"]
    assert [path.name for path in layout.build.iterdir() if path.is_file()] == [target.name]
    return pypdf.PdfReader(io.BytesIO(target.read_bytes()))


@pytest.fixture(scope="module")
def texts(made):
    return [page.extract_text() for page in made.pages]


def outline(made):
    """Titles of the bookmarks, with their level and page."""

    def walk(entries, level):
        for one in entries:
            if isinstance(one, list):
                yield from walk(one, level + 1)
            else:
                yield one.title, level, made.get_destination_page_number(one) + 1

    return list(walk(made.outline, 0))


class TestPrinted:
    """What the PDF itself holds, as another reader reads it."""

    pytestmark = [
        pytest.mark.browser,
        pytest.mark.skipif(not find_browser(), reason="Debian's chromium is not installed"),
    ]

    def test_numbers_in_the_contents_are_those_of_the_pages_on_which_headings_lie(
        self, made, texts
    ):
        told = dict(re.findall(r"^(\S.*?) *(\d+)$", texts[1], flags=re.MULTILINE))
        marks = outline(made)
        assert marks[0] == ("Contents", 0, 2)
        names = [title for title, _, _ in marks[1:]]
        assert names == [
            *("The book", "The last letter", "A part & more", "Across", "Last"),
            *('The "first" letter', "A part"),
        ]
        for title, _, page in marks[1:]:
            assert int(told[title]) == page, title
            assert title in texts[page - 1]
        pages = [page for _, _, page in marks]
        assert pages == sorted(pages) and len(set(pages)) > 5
        assert [level for _, level, _ in marks] == [0, 0, 0, 1, 1, 1, 0, 1]

    def test_each_page_bears_its_number_and_its_chapter_but_the_title(self, made, texts):
        assert "A small book" in texts[0] and "Somebody" in texts[0]
        chapters = [(title, page) for title, level, page in outline(made) if level == 0]
        ends = [page for _, page in chapters[1:]] + [len(texts) + 1]
        for (title, begin), end in zip(chapters, ends, strict=True):
            for page in range(begin, end):
                lines = texts[page - 1].splitlines()[:3]
                assert any("A small book" in line and title in line for line in lines), page
                assert str(page) in lines
        assert not re.search(r"^1$", texts[0], flags=re.MULTILINE)

    def test_a_table_of_many_columns_has_a_sheet_across_and_a_wide_one_shrinks(self, made, texts):
        across = [page for page in made.pages if page.mediabox.width > page.mediabox.height]
        assert [made.get_page_number(page) for page in across] == [
            next(number for number, text in enumerate(texts) if "column 15" in text)
        ]
        assert "Above the table." not in across[0].extract_text()
        assert any("wide" in text for text in texts)

    def test_links_lead_within_the_document_or_to_other_hosts(self, made):
        notes = [note.get_object() for page in made.pages for note in page.get("/Annots", ())]
        addresses = {note["/A"]["/URI"] for note in notes if "/A" in note}
        assert addresses == {"https://example.org/x"}
        inside = {str(note["/Dest"]).removeprefix("/") for note in notes if "/Dest" in note}
        assert {"z", "a--part", "z--part"} <= inside
        assert inside <= {name.removeprefix("/") for name in made.named_destinations}

    def test_it_can_be_read_aloud_and_says_what_it_is(self, made):
        assert made.metadata.title == "A small book" and made.metadata.author == "Somebody"
        assert made.trailer["/Root"]["/MarkInfo"]["/Marked"]
        assert made.trailer["/Root"]["/Lang"] == "en"

    @pytest.mark.parametrize(
        ("was", "becomes", "told"),
        [
            (
                "plot.webp",
                "gone.webp",
                "^the built book lacks .*/_images/gone.webp: run `make book`$",
            ),
            (
                "<p>What",
                '<p style="width: 900px">What',
                "^something does not fit the page: <p .*What",
            ),
        ],
    )
    def test_what_is_missing_or_would_be_cut_is_refused_in_one_line(
        self, layout, was, becomes, told
    ):
        page = layout.html / "book" / "a.html"
        page.write_text(page.read_text().replace(was, becomes))
        with pytest.raises(BookError, match=told):
            pdf.make(layout)
        assert not (layout.build / pdf.NAME).exists()
