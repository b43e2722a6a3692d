"""The folder that Jupyter Book reads: executed copies beside the markdown pages, the library they
include, MathJax and plotly.

Document names stay `book/...`, so that links from the built pages to their sources stay true.
"""

import base64
import gzip
import re
import shutil
from importlib import metadata
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .execute import Failure, read_cells
from .figures_of_pages import take_vectors
from .pages import Layout, Page

# What a formula in a page needs of MathJax; the package carries 24 MB. Its bundles have a menu,
# too, which makes every formula a stop of the Tab key and weighs half as much as the rest; these
# are the parts that _config.yml loads instead.
MATHJAX_PACKAGE = "sphinx-mathjax-offline"
MATHJAX_PARTS = (
    *("startup.js", "core.js", "input/tex.js", "input/tex/extensions"),
    *("output/chtml.js", "output/chtml/fonts", "a11y/assistive-mml.js"),
)
# outputs that a caption may stand under
PICTURES = {"image/png", "image/svg+xml", "image/jpeg", "text/html"}
# tags by which a page says itself what becomes of a cell's code
TREATED = {"remove-input", "remove-cell", "hide-cell", "show-input", "injected-parameters"}
# Where a label is defined or used: {numref}`fig-x`, {ref}`words <fig-x>`, [words](#fig-x),
# (fig-x)=, :name: fig-x.
NAMED = re.compile(
    r"(?P<before>\{(?:numref|ref|eq|numeq|doc)\}`(?:[^`<]*<)?|\]\(#?|^\(|^:(?:name|label): *)"
    r"(?P<label>[\w-]+)(?P<after>>?`|\)=?|$)",
    re.MULTILINE,
)
# 4.8 MB, of which pages with an interactive figure fetch the packed 1.9 MB
PLOTLY_SCRIPT = "plotly/package_data/plotly.min.js"
# Unpacks and runs it, from a file as from a server. `plotlyReady` is a promise that it is there.
PLOTLY_UNPACKED = """window.plotlyReady = (async () => {
  const packed = Uint8Array.from(atob("%s"), (letter) => letter.charCodeAt(0));
  const script = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const element = document.createElement("script");
  element.src = URL.createObjectURL(await new Response(script).blob());
  await new Promise((done, failed) => {
    Object.assign(element, {onload: done, onerror: failed});
    document.head.append(element);
  });
  URL.revokeObjectURL(element.src);
})();
"""
# A table of so many columns may lie over the margin beside the text.
WIDE = 12


def stage(
    layout: Layout,
    pages: list[Page],
    profile: str,
    injected: dict[str, dict],
    failures: dict[str, Failure],
) -> None:
    """Fill `_build/stage` afresh from the sources and the executed copies."""
    shutil.rmtree(layout.stage, ignore_errors=True)
    local = layout.local_ledger.name if layout.local_ledger.parent == layout.ledger else "local"
    not_staged = shutil.ignore_patterns(
        "*.ipynb", ".ipynb_checkpoints", layout.profiles.name, local
    )
    shutil.copytree(layout.book, layout.stage / "book", ignore=not_staged)
    shutil.copytree(
        layout.library, layout.stage / "astroformer", ignore=shutil.ignore_patterns("__pycache__")
    )
    for file in (layout.config, layout.toc):
        shutil.copy(file, layout.stage)
    _copy_mathjax(layout.stage / "_extra" / "vendor" / "mathjax")
    _copy_plotly(layout.stage / "_extra" / "vendor" / "plotly")
    for page in pages:
        if page.executable:
            notebook = staged_notebook(
                page,
                layout.executed(profile) / page.copy,
                injected[page.name],
                failures.get(page.name),
            )
            take_vectors(notebook, layout.stage / "_extra" / "_images")
            nbformat.write(notebook, layout.stage / f"{page.document}.ipynb")


def staged_notebook(
    page: Page, copy: Path, parameters: dict, failure: Failure | None
) -> NotebookNode:
    """An executed copy made fit to publish; a page that has none yet says so in the book."""
    notebook = read_cells(copy if copy.is_file() else page.source)
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])
    ]
    _strip_papermill(notebook)
    _hide_parameters(notebook, parameters, page)
    _fold_code(notebook)
    if copy.is_file():
        _leave_out_silent(notebook)
        _uncaption_words(notebook)
        _widen(notebook)
    if page.given:
        _tell_apart(notebook, page)
    if failure:
        _mark_failure(notebook, failure)
    elif not copy.is_file():
        _insert_note(notebook, "This page has not been executed", "Execute it with `make book`.")
    return notebook


def _strip_papermill(notebook: NotebookNode) -> None:
    """Paths, times and random cell names would be published with the page, and make no two
    builds equal.
    """
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)


def _hide_parameters(notebook: NotebookNode, parameters: dict, page: Page) -> None:
    """The parameters cell is for machines. What was injected is shown on request, unless it is only
    the profile's name, or what makes a copy this one, which its title says.
    """
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.metadata["tags"] = [*tags, "remove-input"]
        elif "injected-parameters" in tags:
            plain = set(parameters) <= {"profile", *page.given}
            cell.metadata["tags"] = [*tags, "remove-input" if plain else "hide-input"]


def _fold_code(notebook: NotebookNode) -> None:
    """Code stands behind a click above what it shows. Where it shows nothing, as imports and what
    is put into sentences, the page has only what follows; the notebook, a click away, has all.
    """
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and not TREATED & set(tags):
            tag = "hide-input" if any(map(_is_shown, cell.outputs)) else "remove-input"
            cell.metadata["tags"] = [*(one for one in tags if one != "hide-input"), tag]


def _is_shown(output: NotebookNode) -> bool:
    """Whether a reader sees an output: what is glued into sentences has types of its own."""
    data = output.get("data")
    return data is None or any(not kind.startswith("application/papermill.record") for kind in data)


def _leave_out_silent(notebook: NotebookNode) -> None:
    """A cell tagged `optional` that had nothing to show, as for a data set without predictions,
    is not published.
    """
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "optional" not in cell.metadata.get("tags", []) or cell.outputs
    ]


def _uncaption_words(notebook: NotebookNode) -> None:
    """A cell that had nothing to draw and said why in words is no figure: neither numbered nor
    captioned.
    """
    for cell in notebook.cells:
        told = cell.metadata.get("mystnb", {})
        if (
            "figure" in told
            and cell.outputs
            and not any(PICTURES & set(output.get("data", {})) for output in cell.outputs)
        ):
            del told["figure"]


def _widen(notebook: NotebookNode) -> None:
    """A cell with a table of many columns gets the theme's tag for what is wider than the text."""
    for cell in notebook.cells:
        tables = [
            "".join(one.get("data", {}).get("text/html", "")) for one in cell.get("outputs", [])
        ]
        if any(len(re.findall(r"<th[ >]", one.partition("</tr>")[0])) >= WIDE for one in tables):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "full-width"]


def _tell_apart(notebook: NotebookNode, page: Page) -> None:
    """A copy gets its own title, and labels that no other copy of its source has: each ends with
    the page's name. Roles and links to them follow.
    """
    first = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
    first.source = re.sub(r"\A# .*", lambda _: f"# {page.title}", first.source)
    labels = {label for cell in notebook.cells for label in _labels(cell)}
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "name" in figure:
            figure["name"] = _own(figure["name"], page)
        texts = (
            [(cell, "source")]
            if cell.cell_type == "markdown"
            else [(figure, "caption")]
            if "caption" in figure
            else []
        )
        for holder, key in texts:
            holder[key] = NAMED.sub(
                lambda found: (
                    found["before"] + _own(found["label"], page) + found["after"]
                    if found["label"] in labels
                    else found[0]
                ),
                holder[key],
            )


def _own(label: str, page: Page) -> str:
    return f"{label}-{page.name.replace('_', '-')}"


def _labels(cell: NotebookNode) -> list[str]:
    """What a cell defines: the name of its figure; targets such as `(fig-x)=` and `:name: fig-x`
    of its text.
    """
    if cell.cell_type != "markdown":
        return (
            [name]
            if (name := cell.metadata.get("mystnb", {}).get("figure", {}).get("name"))
            else []
        )
    return [
        found[1] or found[2]
        for found in re.finditer(
            r"^\(([\w-]+)\)=|^:(?:name|label): "
            r"*([\w-]+)",
            cell.source,
            re.MULTILINE,
        )
    ]


def _mark_failure(notebook: NotebookNode, failure: Failure) -> None:
    """Below the page's title, say where it stopped; the traceback stands at the cell itself."""
    error = failure.error.replace("`", "'")
    _insert_note(
        notebook,
        "This page failed",
        f"It stopped at {failure.cell}: `{error}`. What follows that cell is missing.",
    )


def _insert_note(notebook: NotebookNode, title: str, text: str) -> None:
    note = nbformat.v4.new_markdown_cell(f":::{{admonition}} {title}\n:class: danger\n{text}\n:::")
    note.id = "note"
    first_prose = next(
        (index for index, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"), -1
    )
    notebook.cells.insert(first_prose + 1, note)


def _copy_mathjax(destination: Path) -> None:
    """MathJax is published with the book: no page asks another host for anything."""
    folder = (
        Path(str(metadata.distribution(MATHJAX_PACKAGE).locate_file(MATHJAX_PACKAGE)))
        / "static"
        / "mathjax"
    )
    for part in MATHJAX_PARTS:
        source, target = folder / part, destination / part
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def _copy_plotly(destination: Path) -> None:
    """The script of interactive figures, from the package; `figures.interactive.SCRIPT` names it
    as a page sees it. It is packed: not every server does that by itself.
    """
    script = Path(str(metadata.distribution("plotly").locate_file(PLOTLY_SCRIPT))).read_bytes()
    packed = base64.b64encode(gzip.compress(script, mtime=0)).decode()
    destination.mkdir(parents=True, exist_ok=True)
    (destination / "plotly.js").write_text(PLOTLY_UNPACKED % packed)
