"""The folder that Jupyter Book reads: executed copies beside the markdown pages, the library they include,
MathJax and plotly.

Document names stay `book/...`, so that links from the built pages to their sources stay true.
"""

import shutil
from importlib import metadata
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .execute import Failure
from .pages import Layout, Page

# What a formula in a page needs of MathJax; the package carries 24 MB.
MATHJAX_PACKAGE = "sphinx-mathjax-offline"
MATHJAX_PARTS = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts")
PLOTLY_SCRIPT = "plotly/package_data/plotly.min.js"  # 4.8 MB, fetched only by pages with an interactive figure


def stage(layout: Layout, pages: list[Page], profile: str, injected: dict[str, dict], failures: dict[str, Failure]) -> None:
    """Fill `_build/stage` afresh from the sources and the executed copies."""
    shutil.rmtree(layout.stage, ignore_errors=True)
    local = layout.local_ledger.name if layout.local_ledger.parent == layout.ledger else "local"
    not_staged = shutil.ignore_patterns("*.ipynb", ".ipynb_checkpoints", layout.profiles.name, local)
    shutil.copytree(layout.book, layout.stage / "book", ignore=not_staged)
    shutil.copytree(layout.library, layout.stage / "astroformer", ignore=shutil.ignore_patterns("__pycache__"))
    for file in (layout.config, layout.toc):
        shutil.copy(file, layout.stage)
    _copy_mathjax(layout.stage / "_extra" / "vendor" / "mathjax")
    _copy_plotly(layout.stage / "_extra" / "vendor" / "plotly")
    for page in pages:
        if page.executable:
            notebook = staged_notebook(page, layout.executed(profile) / page.source.name, injected[page.name], failures.get(page.name))
            nbformat.write(notebook, layout.stage / f"{page.document}.ipynb")


def staged_notebook(page: Page, copy: Path, parameters: dict, failure: Failure | None) -> NotebookNode:
    """An executed copy made fit to publish; a page that has none yet says so in the book."""
    notebook = nbformat.read(copy if copy.is_file() else page.source, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    _strip_papermill(notebook)
    _hide_parameters(notebook, parameters)
    if failure:
        _mark_failure(notebook, failure)
    elif not copy.is_file():
        _insert_note(notebook, "This page has not been executed", "Execute it with `make book`.")
    return notebook


def _strip_papermill(notebook: NotebookNode) -> None:
    """Paths, times and random cell names would be published with the page, and make no two builds equal."""
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)


def _hide_parameters(notebook: NotebookNode, parameters: dict) -> None:
    """The parameters cell is for machines. What was injected is shown on request, unless it is only the profile's name."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.metadata["tags"] = [*tags, "remove-input"]
        elif "injected-parameters" in tags:
            only_profile = set(parameters) <= {"profile"}
            cell.metadata["tags"] = [*tags, "remove-input" if only_profile else "hide-input"]


def _mark_failure(notebook: NotebookNode, failure: Failure) -> None:
    """Below the page's title, say where it stopped; the traceback stands at the cell itself."""
    error = failure.error.replace("`", "'")
    _insert_note(notebook, "This page failed", f"It stopped at {failure.cell}: `{error}`. What follows that cell is missing.")


def _insert_note(notebook: NotebookNode, title: str, text: str) -> None:
    note = nbformat.v4.new_markdown_cell(f":::{{admonition}} {title}\n:class: danger\n{text}\n:::")
    note.id = "note"
    first_prose = next((index for index, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"), -1)
    notebook.cells.insert(first_prose + 1, note)


def _copy_mathjax(destination: Path) -> None:
    """MathJax is published with the book: no page asks another host for anything."""
    folder = Path(metadata.distribution(MATHJAX_PACKAGE).locate_file(MATHJAX_PACKAGE)) / "static" / "mathjax"
    for part in MATHJAX_PARTS:
        source, target = folder / part, destination / part
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def _copy_plotly(destination: Path) -> None:
    """The script of interactive figures, from the package; `figures.interactive.SCRIPT` names it as a page sees it."""
    destination.mkdir(parents=True, exist_ok=True)
    shutil.copy(metadata.distribution("plotly").locate_file(PLOTLY_SCRIPT), destination)
