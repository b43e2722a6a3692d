"""Whether the numbers on built pages are those of the ledger, of the claims, and of what the pages
computed: `astroformer reproduce --check [DIR|ARCHIVE]`.

Three comparisons, each of which a changed digit fails:

- a number that says what it is of (`data-of`, see `ledger.links`) is computed again from the
  records, or read again from claims.csv;
- the numbers of a page's outputs and of the sentences that quote them are those of its executed
  copy, one by one;
- the executed copy was made from the sources, records and claims as they are now.

An archive of `make release` is held against itself: its checksums, and its pages against its own
ledger, claims and executed copies.
"""

import json
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..ledger import claims, records, tables
from .freshness import State, digest, inputs, reason
from .pages import BookError, Layout, Page, read_book, read_profile

SUMS = "SHA256SUMS"
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
PASTED = re.compile(r"\{glue:text\}`([^`]+)`")
BLOCK = re.compile(r"```\{glue\}[ ]*(\S+)[ ]*\n(?::doc:[ ]*(\S+)\n)?")
TARGET = re.compile(r"\]\([^)]*\)")  # of a link in Markdown, which a reader does not see
FORMS = {"accuracy": tables.accuracy, "cell": tables.cell}
MOST = 20  # complaints that are printed of one page


@dataclass
class Checked:
    """How many numbers of which kind were compared, and what did not fit."""

    computed: int = 0  # again, from records or claims
    shown: int = 0  # in outputs and sentences, against executed copies
    complaints: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = f"{self.computed:,} numbers computed again, {self.shown:,} compared with outputs"
        return (
            f"{told}; {len(self.complaints)} do not fit" if self.complaints else f"{told}; all fit"
        )


@dataclass(frozen=True)
class Place:
    """Built pages, and what they are held against."""

    html: Path
    layout: Layout
    profile: str

    @cached_property
    def records(self) -> pd.DataFrame:
        """All records, by (run, started)."""
        frame = records.frame(records.read(self.layout.ledger if self._alone else None))
        once = frame.drop_duplicates(["run", "started"], keep="last")
        return once.set_index(["run", "started"], drop=False)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The newest record of each run; one that was completed before one that was not."""
        frame = self.records.reset_index(drop=True)
        order = frame.assign(done=frame["status"] == "completed").sort_values(
            ["done", "started"], kind="stable"
        )
        return order.drop_duplicates("run", keep="last").set_index("run", drop=False)

    @property
    def _alone(self) -> bool:
        """Whether this is an archive, with its own ledger and nothing of this machine."""
        return self.layout.root != Layout().root

    @cached_property
    def claims(self) -> dict[str, Any]:
        found = claims.read(self.layout.claims)
        return {claims.id_of(one): one for one in found.itertuples(index=False)}


def check(where: Path | None = None, profile: str = "smoke", *, layout: Layout | None = None):
    """Checks a folder of built pages, or an archive. BookError for what is neither."""
    layout = layout or Layout()
    if where is None or where.is_dir():
        html = layout.html if where is None else where
        return _check(Place(html, layout, profile), now=True)
    if not where.is_file():
        raise BookError(f"there is no folder or archive {where}; `make book` builds {layout.html}")
    with tempfile.TemporaryDirectory(prefix="astroformer-check-") as folder:
        root = _unpacked(where, Path(folder))
        found = Checked(complaints=list(_by_sums(root)))
        own = _check(Place(root / "_build/html", Layout(root), profile), now=False)
        return Checked(own.computed, own.shown, found.complaints + own.complaints)


def _unpacked(archive: Path, folder: Path) -> Path:
    """The one folder within an archive."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(folder)
        else:
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise BookError(f"{archive} is no archive of `make release` ({error})") from error
    inside = [one for one in folder.iterdir() if one.is_dir()]
    if len(inside) != 1 or not (inside[0] / SUMS).is_file():
        raise BookError(f"{archive} is no archive of `make release`: it has no {SUMS}")
    return inside[0]


def _by_sums(root: Path) -> Iterator[str]:
    lines = (root / SUMS).read_text().splitlines()
    told = {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}
    there = {
        path.relative_to(root).as_posix(): path
        for path in root.rglob("*")
        if path.is_file() and path.name != SUMS
    }
    for name in sorted(told.keys() | there.keys()):
        if name not in there:
            yield f"{name}: named by {SUMS} and not there"
        elif name not in told:
            yield f"{name}: not named by {SUMS}"
        elif digest(there[name]) != told[name]:
            yield f"{name}: not the file of {SUMS}"


def _check(place: Place, *, now: bool) -> Checked:
    pages = read_book(place.layout)
    checked = Checked()
    if not (place.html / "index.html").is_file():
        raise BookError(f"{place.html} has no built pages; run `make book` first")
    executed = {
        page.name: place.layout.executed(place.profile) / page.copy
        for page in pages
        if page.executable
    }
    outputs = {name: _Outputs(path) for name, path in executed.items() if path.is_file()}
    for page in pages:
        path = place.html / "book" / f"{page.name}.html"
        if not path.is_file():
            checked.complaints.append(f"{page.name}: the built page is missing")
            continue
        found = list(_of_page(page, path, place, outputs, checked))
        checked.complaints += found[:MOST]
        if len(found) > MOST:
            checked.complaints.append(f"{page.name}: and {len(found) - MOST} more")
    if now:
        checked.complaints += _stale(place, pages)
    return checked


def _stale(place: Place, pages: list[Page]) -> Iterator[str]:
    """Pages that were executed from other sources, records or claims."""
    layout, state = place.layout, State(place.layout.state(place.profile))
    given = read_profile(layout, pages, place.profile)
    for page in pages:
        if not page.executable:
            continue
        copy = layout.executed(place.profile) / page.copy
        told = page.told(given[page.name])
        why = reason(state.pages.get(page.name), inputs(layout, told, given[page.name]), copy)
        if why is not None:
            yield f"{page.name}: not executed from what is here ({why}); run `make book`"


def _of_page(
    page: Page, path: Path, place: Place, outputs: dict[str, "_Outputs"], checked: Checked
) -> Iterator[str]:
    from bs4 import BeautifulSoup  # an extra of the book

    article = BeautifulSoup(path.read_text(), "html.parser").find("article") or ()
    if not article:
        yield f"{page.name}: the built page has no text"
        return
    for part in article.select("script, style"):
        part.decompose()
    for one in article.select("[data-of]"):
        text, of = one.get_text(), one["data-of"]
        meant = _again(str(of), text, place)
        checked.computed += 1
        if text != meant:
            yield f"{page.name}: {text!r} should be {meant!r} ({of})"
    pasted = [one.get_text() for one in article.select("span.pasted-text, span.pasted-inline")]
    blocks = [one.get_text(" ") for one in article.select("div.output") if not _in_cell(one)]
    checked.shown += len(pasted) + len(blocks)
    meant = _quoted(page, outputs)
    yield from _compared(
        page.name, "quoted in its sentences", *(list(_parts(those)) for those in (pasted, meant))
    )
    meant = _quoted_blocks(page, outputs)
    yield from _compared(page.name, "quoted", *(list(_parts(those)) for those in (blocks, meant)))
    if page.name not in outputs:
        if page.executable:
            yield f"{page.name}: its executed copy is missing; run `make book`"
        return
    for part in article.select("figcaption, .pasted-text, .pasted-inline"):
        part.decompose()
    shown = [
        number
        for cell in article.select("div.cell_output")
        for number in NUMBER.findall(cell.get_text(" "))
    ]
    checked.shown += len(shown)
    yield from _compared(page.name, "in its outputs", shown, outputs[page.name].numbers)


def _in_cell(output) -> bool:
    return output.find_parent("div", class_="cell_output") is not None


def _parts(texts: list[str]) -> Iterator[str]:
    """The numbers of each text; itself where it has none, as it is shown."""
    for text in texts:
        yield from NUMBER.findall(text) or [" ".join(text.replace("*", "").split())]


def _compared(page: str, where: str, shown: list[str], meant: list[str]) -> Iterator[str]:
    if shown == meant:
        return
    place = next(
        (i for i, pair in enumerate(zip(shown, meant)) if pair[0] != pair[1]),
        min(len(shown), len(meant)),
    )
    one, other = (" ".join(those[place : place + 3]) or "nothing" for those in (shown, meant))
    yield (
        f"{page}: number {place + 1:,} {where} is not that of its executed copy: {one!r}, not "
        f"{other!r}"
    )


def _again(of: str, text: str, place: Place) -> str:
    """What the text should be."""
    what, *rest = of.split()
    if what == "claim":
        claim = place.claims.get(rest[0])
        if claim is None:
            return "no claim of that name"
        return (
            text if text in (claim.value, claims.written(claim.value, claim.unit)) else claim.value
        )
    metric, *named = rest
    if what == "run":
        run, started = named
        if (run, started) not in place.records.index:
            return f"no record of run {run} that was started at {started}"
        column = f"metrics.{metric}"
        value = place.records.at[(run, started), column] if column in place.records else None
        digits = len(text.partition(".")[2])
        return "" if value is None or pd.isna(value) else f"{value:.{digits}f}"
    if unknown := [run for run in named if run not in place.runs.index]:
        return f"no run {unknown[0]}"
    return str(FORMS[what](place.runs.loc[named], metric))


class _Outputs:
    """What an executed page shows: its numbers in order, and what it gives to sentences."""

    def __init__(self, path: Path):
        self.notebook = json.loads(path.read_text())

    @cached_property
    def glued(self) -> dict[str, str]:
        """Name -> text."""
        found = {}
        for name, text in self._given("text/plain"):
            quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
            found[name] = text[1:-1] if quoted else text
        return found

    @cached_property
    def blocks(self) -> dict[str, str]:
        """Name -> the text of what is given as HTML."""
        return {name: _text_of(html) for name, html in self._given("text/html")}

    def _given(self, kind: str) -> Iterator[tuple[str, str]]:
        """What the page gives to sentences in one form, by its name."""
        for output in self._every():
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            for own, data in output.get("data", {}).items() if name else ():
                if own.endswith(kind):
                    yield name, "".join(data)

    @cached_property
    def numbers(self) -> list[str]:
        return [number for text in self._texts() for number in NUMBER.findall(text)]

    def _every(self) -> Iterator[dict]:
        for cell in self.notebook["cells"]:
            hidden = {"remove-output", "remove-cell"} & set(cell["metadata"].get("tags", ()))
            if not hidden:
                yield from cell.get("outputs", ())

    def _texts(self) -> Iterator[str]:
        for output in self._every():
            data = output.get("data", {})
            if output["output_type"] == "stream":
                yield "".join(output["text"])
            elif "text/html" in data:
                yield _text_of("".join(data["text/html"]))
            elif "text/markdown" in data:
                yield TARGET.sub("]", "".join(data["text/markdown"]))
            elif "text/plain" in data and not any(kind.startswith("image/") for kind in data):
                yield "".join(data["text/plain"])


def _text_of(html: str) -> str:
    from bs4 import BeautifulSoup  # an extra of the book

    parsed = BeautifulSoup(html, "html.parser")
    for part in parsed.select("script, style"):
        part.decompose()
    return parsed.get_text(" ")


def _source(page: Page) -> str:
    """The Markdown of a page."""
    source = page.source.read_text()
    if not page.executable:
        return source
    cells = json.loads(source)["cells"]
    return "\n".join("".join(one["source"]) for one in cells if one["cell_type"] == "markdown")


def _quoted_blocks(page: Page, outputs: dict[str, _Outputs]) -> list[str]:
    """The texts of tables and the like that a page quotes, in order."""
    found = []
    for name, doc in BLOCK.findall(_source(page)):
        owner = Path(doc).stem if doc else page.name
        told = outputs[owner].blocks.get(name) if owner in outputs else None
        found.append("nothing of that name" if told is None else told)
    return found


def _quoted(page: Page, outputs: dict[str, _Outputs]) -> list[str]:
    """What the sentences of a page quote, in order."""
    found = []
    for name in PASTED.findall(_source(page)):
        where, _, key = name.rpartition("::")
        owner = Path(where).stem if where else page.name
        key, _, form = key.partition(":")
        text = outputs[owner].glued.get(key) if owner in outputs else None
        found.append(_formed(text, form))
    return found


def _formed(text: str | None, form: str) -> str:
    if text is None:
        return "nothing of that name"
    if form in ("", "s"):
        return text
    number = float(text)
    return format(int(text) if number.is_integer() and "." not in text else number, form)
