"""`make pdf`: the whole book as one PDF, which Debian's chromium prints from the pages that
`make book` has built. Nothing is executed.

Reads top to bottom: the chapters in the order of _toc.yml, with ids and links that hold in one
document; the document around them, with title page and contents; the browser, which draws it, makes
wide things fit, and prints it twice: where the headings of the first print lie is what the contents
of the second one say.
"""

import html
import io
import json
import posixpath
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ..version import __version__
from .pages import BookError, Layout, documents
from .screenshots import OPTIONS, find_browser, served

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag
    from playwright.sync_api import Page

NAME = "astroformer-re-examined.pdf"
WHOLE = "book/whole.html"  # where the browser finds the document: beside the pages
OLDEST = 131  # of chromium: the first that draws what stands above and below the text of a page
WIDTH, WIDTH_ACROSS = 665, 994  # CSS pixels of a line: A4 less the margins of the style sheet
MANY = 14  # columns of a table that has a sheet laid across
PATIENCE = 240_000  # milliseconds; all formulas of the book on a busy machine
PRINTS = 4  # at most: page numbers are of one width, so that the second has the right ones
REFERS = ("for", "headers", "aria-labelledby", "aria-describedby", "aria-controls")

# What a page has for a screen and a pointer: folded code, what plots need, figures for the dark.
SCREEN_ONLY = (
    "details.above-input, .headerlink, script, .interactive, button, .only-dark, .download"
)

# All is drawn: heads of tables without the buttons that sort, which chromium does not repeat on a
# table's second page. Then what is wider than its line becomes smaller: a table shrinks by itself
# only as far as its words break.
SETTLED = """async () => {
  for (const one of document.querySelectorAll("th button")) one.replaceWith(...one.childNodes);
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  await Promise.allSettled(Array.from(document.images, image => image.decode()));
}"""
FITTED = """across => {
  const end = part => {
    const line = part.closest("article").getBoundingClientRect();
    return line.left + (part.closest(".across") ? across : line.width) + 0.5;
  };
  const beyond = part => part.getBoundingClientRect().right > end(part);
  for (const part of document.querySelectorAll("article :is(table, pre, mjx-container, svg, img)"))
    for (let tries = 0; tries < 4 && beyond(part); tries++) {
      const box = part.getBoundingClientRect();
      part.style.zoom = (part.style.zoom || 1) * (end(part) - box.left) / box.width * 0.995;
    }
  const wide = Array.from(document.querySelectorAll("article *")).find(part =>
    beyond(part) && !part.closest("mjx-assistive-mml, .visually-hidden"));
  return wide && `<${wide.tagName.toLowerCase()} class="${wide.className}"> in `
    + `${wide.closest("article").id}: ${wide.textContent.trim().slice(0, 40)}`;
}"""
NUMBERED = """numbers => {
  const set = link => link.querySelector(".number").textContent
    = numbers[link.getAttribute("href").slice(1)] || "";
  const links = Array.from(document.querySelectorAll(".pdf-contents a"));
  return links.filter(link => !set(link)).map(link => link.textContent);
}"""


@dataclass
class Chapter:
    """A page of the book as a part of the document."""

    document: str  # as in _toc.yml: "book/galaxies"
    article: "Tag"
    part: str = ""  # of the first chapter below a caption of _toc.yml: that caption
    dead: list[str] = field(default_factory=list)  # links that lead to nothing in the book

    @property
    def name(self) -> str:
        return self.document.rpartition("/")[2]

    @property
    def title(self) -> str:
        return _words(self.article.find("h1")) or self.name


def _words(head: "Tag | None") -> str:
    return " ".join(head.get_text().split()) if head else ""


# The chapters.


def chapters(layout: Layout) -> tuple[list[Chapter], list[str]]:
    """Every page of the book in reading order, and what their heads load: style sheets, formulas,
    the script that says where long words of tables may break.
    """
    from bs4 import BeautifulSoup  # an extra of the book

    if not (layout.html / "index.html").is_file():
        raise BookError("there is no book yet: run `make book` first")
    found, heads, parts = [], {}, _parts(layout)
    for document in documents(layout.toc):
        path = layout.html / f"{document}.html"
        page = BeautifulSoup(path.read_bytes() if path.is_file() else b"", "html.parser")
        article = page.select_one("article.bd-article")
        if article is None:
            raise BookError(f"the built book has no page {document}.html: run `make book`")
        heads |= dict.fromkeys(_heads(page))
        _still(article)
        found.append(Chapter(document, article, parts.get(document, "")))
    _join(found)
    return found, list(heads)


def _parts(layout: Layout) -> dict[str, str]:
    """The first document below each caption of the table of contents."""
    told = yaml.safe_load(layout.toc.read_text())
    return {part["chapters"][0]["file"]: part.get("caption", "") for part in told.get("parts", ())}


def _heads(page: "BeautifulSoup") -> Iterator[str]:
    for one in page.select('head > link[rel="stylesheet"], head > script'):
        words = f"{one.get('src', '')}{one.string or ''}"
        if one.name == "link" or re.search("tables[.]js|mathjax", words, re.IGNORECASE):
            yield str(one)


def _still(article: "Tag") -> None:
    """The page without what only a screen can do: what opens is open, pictures stand in place of
    interactive figures, and none waits until it is scrolled to.
    """
    for one in article.select(SCREEN_ONLY):
        one.decompose()
    for one in article.select("details"):
        one["open"] = ""
    for one in article.select("img"):
        del one["loading"], one["hidden"]
    for one in article.select("form"):
        one.name, one.attrs = "p", {}
        one.clear()
        one.append("(On the page, a form stands here.)")
    for one in article.select("table"):
        if max((len(row.select("th, td")) for row in one.select("tr")), default=0) >= MANY:
            one["class"] = [*one.get_attribute_list("class"), "across"]


def _join(found: list[Chapter]) -> None:
    """Ids get the name of their chapter, and links between pages lead to them. The article itself
    is what a link to the page leads to.
    """
    known = {}
    for chapter in found:
        chapter.article["id"] = known[chapter.document, ""] = chapter.name
        for one in chapter.article.select("[id]:not(svg *)"):  # parts of a drawing name each other
            known[chapter.document, str(one["id"])] = one["id"] = f"{chapter.name}--{one['id']}"
    for chapter in found:
        _refer(chapter, known)
        for number, one in enumerate(chapter.article.select("h1, h2")):
            one["id"] = one.get("id") or f"{chapter.name}--heading-{number}"


def _refer(chapter: Chapter, known: dict[tuple[str, str], str]) -> None:
    ids = {part: name for (document, part), name in known.items() if document == chapter.document}
    for name in REFERS:
        for one in chapter.article.select(f"[{name}]"):
            words = one[name] if isinstance(one[name], list) else str(one[name]).split()
            one[name] = " ".join(ids.get(word, word) for word in words)
    for one in chapter.article.select("a[href]"):
        address = str(one["href"])
        if re.match(r"[a-z]+:|//", address):
            continue
        page, _, part = address.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(chapter.document), page))
        target = known.get((place.removesuffix(".html") if page else chapter.document, part))
        if target:
            one["href"] = f"#{target}"
        else:
            chapter.dead.append(address)
            del one["href"]


# The document.


def whole(layout: Layout, told: dict, found: list[Chapter], heads: list[str]) -> str:
    """`told` is the book's configuration: title, author, address."""
    sheet = (layout.book / "_static" / "pdf.css").read_text()
    return f"""<!doctype html>
<html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8">
<title>{html.escape(told["title"])}</title><link rel="icon" href="data:,">
{"".join(heads)}
<style>{sheet}{_running(told["title"], found)}</style></head><body>
{_title_page(layout, told)}
{_contents(found)}
<main class="bd-article-container">{"".join(str(chapter.article) for chapter in found)}</main>
</body></html>"""


def _running(title: str, found: list[Chapter]) -> str:
    """The line above each page. A style sheet takes it from no heading, so that each chapter has
    pages of its own name.
    """
    rules = [_above("@page", "left", title), _above("@page contents", "right", "Contents")]
    for number, chapter in enumerate(found):
        rules += [
            _above(f"@page chapter{number}", "right", chapter.title),
            _above(f"@page across{number}", "right", chapter.title, "size: A4 landscape; "),
            f'[id="{chapter.name}"] {{ page: chapter{number}; }}',
            f'[id="{chapter.name}"] .across {{ page: across{number}; }}',
        ]
    return "\n".join(rules)


def _above(pages: str, side: str, words: str, more: str = "") -> str:
    return (
        f"{pages} {{ {more}@top-{side} {{ content: {json.dumps(words, ensure_ascii=False)}; }} }}"
    )


def _title_page(layout: Layout, told: dict) -> str:
    cited = yaml.safe_load((layout.root / "CITATION.cff").read_text())
    built = time.strftime("%Y-%m-%d", time.gmtime((layout.html / "index.html").stat().st_mtime))
    address = (told.get("repository") or {}).get("url") or ""
    return f"""<section class="pdf-title"><p class="title">{html.escape(told["title"])}</p>
<p class="about">{html.escape(" ".join(cited["abstract"].split()))}</p>
<div class="made"><p>{html.escape(told["author"])}</p>
<p>Version {__version__}, pages built on {built}, {html.escape(cited["license"])}</p>
<p>Code that the pages fold away is left out, and interactive figures are still.</p>
<p><a href="{html.escape(address)}">{html.escape(address)}</a></p></div></section>"""


def _contents(found: list[Chapter]) -> str:
    """Chapters and sections; numbers are filled in when a print has shown them."""
    lines = []
    for chapter in found:
        if chapter.part:
            lines.append(f'<li class="part">{html.escape(chapter.part)}</li>')
        for head in chapter.article.select("h1, h2"):
            kind, words = {"h1": "chapter", "h2": "section"}[head.name], html.escape(_words(head))
            lines.append(
                f'<li class="{kind}"><a href="#{head["id"]}"><span>{words}</span>'
                '<span class="dots"></span><span class="number"></span></a></li>'
            )
    return f'<nav class="pdf-contents"><h1>Contents</h1><ol>{"".join(lines)}</ol></nav>'


# The browser.


def printed(layout: Layout, document: str, executable: str) -> bytes:
    """The document as PDF, with the numbers of its own pages in the contents."""
    from playwright.sync_api import sync_playwright  # an extra of the PDF

    own = [word for word in OPTIONS if "pipe" not in word and word != "--headless"]
    with sync_playwright() as started, served(layout.html) as address:
        chromium = started.chromium.launch(executable_path=executable, args=own)
        if int(chromium.version.partition(".")[0]) < OLDEST:
            raise BookError(f"chromium {chromium.version} is too old: install {OLDEST} or later")
        page = chromium.new_page(viewport={"width": WIDTH, "height": 1000}, color_scheme="light")
        page.set_default_timeout(PATIENCE)
        as_html = dict(body=document, content_type="text/html; charset=utf-8")
        page.route(f"{address}/{WHOLE}", lambda route: route.fulfill(**as_html))
        return _drawn(page, f"{address}/{WHOLE}")


def _drawn(page: "Page", address: str) -> bytes:
    missing: list[str] = []
    page.on("requestfailed", lambda one: missing.append(one.url))
    page.on("response", lambda one: missing.append(one.url) if one.status >= 400 else None)
    page.emulate_media(media="print")
    page.goto(address)
    page.evaluate(SETTLED)
    if missing:
        raise BookError(f"the built book lacks {missing[0]}: run `make book`")
    if wide := page.evaluate(FITTED, WIDTH_ACROSS):
        raise BookError(f"something does not fit the page: {wide}")
    numbers: dict[str, int] = {}
    for _ in range(PRINTS):
        done = page.pdf(prefer_css_page_size=True, outline=True, tagged=True, print_background=True)
        before, numbers = numbers, places(done)
        if numbers == before:
            return done
        if lost := page.evaluate(NUMBERED, numbers):
            raise BookError(f"the PDF has no place for the heading {lost[0]!r}")
    raise BookError("the page numbers of the contents do not settle: give them a fixed width")


def places(done: bytes) -> dict[str, int]:
    """On which page lies what links of the document lead to, by its id."""
    import pikepdf  # an extra of the PDF

    with pikepdf.open(io.BytesIO(done)) as read:
        numbers = {page.objgen: number for number, page in enumerate(read.pages, 1)}
        named = read.Root.get("/Dests", {}).items()
        return {name.removeprefix("/"): numbers[place[0].objgen] for name, place in named}


def packed(done: bytes, author: str) -> bytes:
    """The same PDF in half of the bytes: chromium writes the tags of each word uncompressed."""
    import pikepdf  # an extra of the PDF

    buffer = io.BytesIO()
    with pikepdf.open(io.BytesIO(done)) as read:
        read.docinfo["/Author"] = author
        read.save(buffer, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    return buffer.getvalue()


def make(layout: Layout | None = None) -> tuple[Path, list[str]]:
    """Writes `_build/astroformer-re-examined.pdf`; also the links that lead to nothing, and are
    plain text there.
    """
    layout = layout or Layout()
    found, heads = chapters(layout)
    if (executable := find_browser()) is None:
        raise BookError("no chromium found: install it (Debian: apt-get install chromium)")
    told = yaml.safe_load(layout.config.read_text())
    done = packed(printed(layout, whole(layout, told, found, heads), executable), told["author"])
    target, partial = layout.build / NAME, layout.build / f"{NAME}.partial"
    partial.write_bytes(done)
    partial.replace(target)
    return target, [f"{chapter.name}: {link}" for chapter in found for link in chapter.dead]


def main() -> int:
    try:
        target, dead = make()
    except BookError as error:
        print(error, file=sys.stderr)
        return 2
    for link in dead:
        print(f"a link leads to nothing in the book and became text, {link}", file=sys.stderr)
    print(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
