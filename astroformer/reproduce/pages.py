"""What there is to execute: the pages that `_toc.yml` lists, their typed parameters, and the
profiles that set them.

A notebook may be executed several times, each time as a page of its own: its metadata say so,
`"astroformer": {"each": {"dataset": {"cifar10": "Results on CIFAR-10", ...}}}`, a parameter with
its values and their titles. The copies are listed in `_toc.yml` (`book/results_cifar10`), the
notebook itself is not.
"""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from .. import paths
from .parameters import ParameterError, checked

PROFILES = ("smoke", "gpu", "paper")
MAKE = "make_missing"  # the parameter by which a page trains what it lacks
# What PyYAML raises of a file that is none, and of words that are not what they claim (!!int x).
NO_YAML = (
    *(yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError),
    *(ArithmeticError, RecursionError),
)


class BookError(Exception):
    """A mistake in the book's sources or in the request, in one line that names the way out; or
    several, a line each. Nothing was executed.
    """

    def __init__(self, *mistakes: str):
        # each in one line: names come from files, and a name in YAML may hold line breaks
        super().__init__("\n".join(" ".join(mistake.split()) for mistake in mistakes))


class Layout:
    """Where the sources lie and where the results go. A test puts a small book elsewhere by
    giving another root.
    """

    def __init__(self, root: Path = paths.ROOT):
        self.root = Path(root).resolve()
        self.book = self.root / "book"  # pages, bibliography, claims and ledger
        self.config = self.root / "_config.yml"  # Jupyter Book's configuration
        self.toc = self.root / "_toc.yml"  # the list of pages, in reading order
        self.profiles = self.book / "profiles.yml"  # the parameters that a profile gives to a page
        # included by pages, and a reason to execute them again
        self.library = self.root / "astroformer"
        self.lock = self.root / "requirements.lock"
        self.claims = self.book / "claims.csv"
        self.ledger = self.book / "ledger"
        self.local_ledger = (
            paths.local_ledger() if self.root == paths.ROOT else self.ledger / "local"
        )
        self.build = self.root / "_build"  # everything below can be deleted and made again
        # what Jupyter Book reads: executed copies beside the other sources
        self.stage = self.build / "stage"
        self.html = self.build / "html"
        self.sphinx_log = self.build / "sphinx.log"

    def executed(self, profile: str) -> Path:
        """The folder of the executed copies, failed ones included."""
        return self.build / "executed" / profile

    def state(self, name: str) -> Path:
        """What the last build knew, so that the next one does only what is needed: of a profile a
        folder with a file for each page, of the book a file.
        """
        return self.build / "state" / name

    def show(self, path: Path) -> str:
        """A path as a person at the root would type it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


@dataclass(frozen=True)
class Page:
    """One document of the book. `defaults` are the parameters of its cell tagged `parameters`,
    by name.
    """

    document: str  # as in _toc.yml: "book/galaxies"
    source: Path
    defaults: dict[str, object]
    trains: bool = False  # writes records itself, so local records never make it stale
    # of a copy: the parameter that makes it this one
    given: dict[str, object] = field(default_factory=dict)
    title: str = ""  # of a copy, in place of the source's

    @property
    def name(self) -> str:
        return self.document.rpartition("/")[2]

    @property
    def executable(self) -> bool:
        return self.source.suffix == ".ipynb"

    @property
    def copy(self) -> str:
        """The file name of its executed copy."""
        return f"{self.name}.ipynb"

    def told(self, parameters: dict[str, object]) -> "Page":
        """The page as it is with these parameters: one that makes what it lacks trains."""
        return replace(self, trains=self.trains or bool(parameters.get(MAKE)))


def documents(toc: Path) -> list[str]:
    """The documents of a table of contents, in reading order."""

    def walk(entry) -> Iterator[str]:
        if isinstance(entry, list):
            for item in entry:
                yield from walk(item)
        elif isinstance(entry, dict):
            yield from (entry[key] for key in ("root", "file") if key in entry)
            for key in ("parts", "chapters", "sections", "subtrees", "entries"):
                yield from walk(entry.get(key))

    if not toc.is_file():
        raise BookError(
            f"{toc.name} is missing: it lists the pages of the book; restore it with "
            f"`git checkout {toc.name}`"
        )
    return list(walk(yaml.safe_load(toc.read_text())))


def read_book(layout: Layout) -> list[Page]:
    """Every page of the book in reading order, each read and checked."""
    listed, declared = documents(layout.toc), copies(layout)
    for document, page in declared.items():
        if document not in listed:
            raise BookError(
                f"{page.source.name} is executed as {page.name}, too, which "
                f"{layout.toc.name} does not list: add "
                f"`- file: {document}`, or remove it from the notebook's metadata "
                "(astroformer, each)"
            )
    pages = [_read_page(layout, document, declared) for document in listed]
    names = [page.name for page in pages]
    for name in names:
        if names.count(name) > 1:
            raise BookError(
                f"{layout.toc.name} lists two pages named {name}: rename one, "
                "executed copies go by their stem"
            )
    return pages


def copies(layout: Layout) -> dict[str, Page]:
    """The pages that notebooks of the book declare as copies of themselves, by document. A notebook
    that the table of contents lists neither itself nor as a copy is no page, and is not read: one
    begun beside the book, or a duplicate that Jupyter made.
    """
    found, listed = {}, documents(layout.toc)
    orphans = [document for document in listed if not _sources(layout, document)]
    for source in sorted(layout.book.glob("*.ipynb")):
        own = f"{source.parent.relative_to(layout.root).as_posix()}/{source.stem}"
        if own not in listed and not any(one.startswith(f"{own}_") for one in orphans):
            continue
        notebook = read_notebook(source)
        told = notebook["metadata"].get("astroformer", {})
        if "each" not in told:
            continue
        defaults = _defaults(source, notebook)
        for parameter, value, title in _each(source, told["each"], defaults):
            document = f"{own}_{value}"
            found[document] = Page(
                document,
                source,
                defaults,
                bool(told.get("trains", False)),
                {parameter: value},
                title,
            )
    return found


def _each(source: Path, each: object, defaults: dict[str, object]) -> list[tuple[str, str, str]]:
    """(parameter, value, title) of each copy."""
    if (
        not isinstance(each, dict)
        or len(each) != 1
        or not isinstance(titles := next(iter(each.values())), dict)
        or not titles
    ):
        raise BookError(
            f'{source.name}: its metadata astroformer.each must be {{"parameter": '
            f'{{"value": "Title", ...}}}}'
        )
    parameter = next(iter(each))
    if parameter not in defaults:
        raise BookError(
            f"{source.name} is executed for each {parameter}, but has no parameter of "
            f"that name; it has: {', '.join(defaults)}"
        )
    return [(parameter, value, title) for value, title in titles.items()]


def _read_page(layout: Layout, document: str, declared: dict[str, Page]) -> Page:
    sources = _sources(layout, document)
    if document in declared and not sources:
        return declared[document]
    own = [page for page in declared.values() if page.source in sources]
    if own:
        raise BookError(
            f"{layout.toc.name} lists {document}, which is executed once for each "
            f"{next(iter(own[0].given))}: list "
            f"its copies instead, such as {own[0].document}"
        )
    if len(sources) != 1 or document in declared:
        found = (
            "neither .ipynb nor .md exists and no notebook is executed as it"
            if not sources
            else f"it is also what {declared[document].source.name} is executed as"
            if document in declared
            else "both .ipynb and .md exist"
        )
        raise BookError(
            f"{layout.toc.name} lists {document}, but {found}: keep exactly one, or "
            "correct the list"
        )
    source = sources[0]
    if source.suffix == ".md":
        return Page(document, source, {})
    notebook = read_notebook(source)
    trains = bool(notebook["metadata"].get("astroformer", {}).get("trains", False))
    return Page(document, source, _defaults(source, notebook), trains)


def _sources(layout: Layout, document: str) -> list[Path]:
    named = (layout.root / f"{document}{suffix}" for suffix in (".ipynb", ".md"))
    return [path for path in named if path.is_file()]


def read_notebook(source: Path) -> dict:
    """A notebook as JSON."""
    try:
        notebook = json.loads(source.read_text())
        return {"cells": notebook["cells"], "metadata": notebook["metadata"]}
    except (ValueError, KeyError, TypeError) as error:  # also of bytes that are no text, or a list
        raise BookError(
            f"{source.name} is not a notebook ({error}): restore it with `git "
            "checkout`, or save it again from Jupyter"
        ) from error


def parameters_cells(notebook: dict) -> list[str]:
    """The sources of the cells tagged `parameters`."""
    return [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", [])
    ]


def assignments(source: str) -> list[ast.stmt]:
    """The statements of a parameters cell, docstring excepted."""
    return [
        statement
        for statement in ast.parse(source).body
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
    ]


def _defaults(source: Path, notebook: dict) -> dict[str, object]:
    """Names and default values of a page's parameters, which `parameters.check` holds papermill's
    to.
    """
    defaults = {}
    for cell in parameters_cells(notebook):
        try:
            for statement in assignments(cell):
                match statement:
                    case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                        defaults[name] = ast.literal_eval(value)
                    case ast.Assign(targets=[ast.Name(id=name)], value=value):
                        defaults[name] = ast.literal_eval(value)
                    case _:
                        raise ValueError(f"{ast.unparse(statement)!r} gives no name a value")
        except (SyntaxError, ValueError, TypeError) as error:
            raise BookError(
                f"{source.name}: its parameters cell may hold only lines like "
                f"`epochs: int = 3` ({error})"
            ) from error
    return defaults


def read_profile(layout: Layout, pages: list[Page], profile: str) -> dict[str, dict[str, object]]:
    """What a profile injects, page by page. All profiles are checked, so a slip in `paper` shows
    on a laptop.
    """
    if profile not in PROFILES:
        raise BookError(f"no profile named {profile}; choose one of {', '.join(PROFILES)}")
    table = _profiles(layout.profiles) if layout.profiles.is_file() else {}
    # a source stands for its copies
    by_name = {page.source.stem: page for page in pages} | {page.name: page for page in pages}
    for name, settings in (table or {}).items():
        if name not in PROFILES:
            raise BookError(
                f"book/profiles.yml names the profile {name}; the profiles are "
                f"{', '.join(PROFILES)}"
            )
        for page, parameters in (settings or {}).items():
            if page not in by_name:
                raise BookError(
                    f"book/profiles.yml, {name}: no page named {page}; the pages are "
                    f"{', '.join(by_name)}"
                )
            _check(by_name[page], parameters or {}, f"book/profiles.yml, {name}, {page}")
    chosen = (table or {}).get(profile) or {}
    return {
        page.name: _injected(
            page, profile, (chosen.get(page.source.stem) or {}) | (chosen.get(page.name) or {})
        )
        for page in pages
        if page.executable
    }


def _profiles(path: Path) -> dict[str, dict[str, dict]]:
    """Profile -> page -> parameters; BookError for a file that is built otherwise."""
    try:
        table = yaml.safe_load(path.read_bytes()) or {}
    except NO_YAML as error:
        why = " ".join(str(error).split())
        raise BookError(f"book/profiles.yml is not YAML ({why}): repair it") from error
    levels = [("the file", table)]
    if isinstance(table, dict):
        levels += [(name, pages or {}) for name, pages in table.items()]
        levels += [
            (f"{name}, {page}", settings or {})
            for name, pages in table.items()
            if isinstance(pages, dict)
            for page, settings in pages.items()
        ]
    for where, level in levels:
        if not isinstance(level, dict) or not all(isinstance(name, str) for name in level):
            raise BookError(
                f"book/profiles.yml, {where}: names with what they stand for are expected, "
                "profile, page, parameter"
            )
    return table


def _check(page: Page, parameters: dict, where: str) -> None:
    """BookError for a name that the page does not have, or a value of another type."""
    for parameter in parameters:
        if parameter not in page.defaults:
            known = ", ".join(page.defaults) or "none"
            raise BookError(
                f"{where}: {page.source.name} has no parameter named {parameter}; it has: {known}"
            )
        if parameter in page.given:
            raise BookError(
                f"{where}: {parameter} is what tells the copies of {page.source.name} "
                "apart; remove it there"
            )
    try:
        checked(parameters, {name: type(value) for name, value in page.defaults.items()}, where)
    except ParameterError as error:
        raise BookError(str(error)) from error


def _injected(page: Page, profile: str, settings: dict) -> dict[str, object]:
    return ({"profile": profile} if "profile" in page.defaults else {}) | page.given | settings
