"""From the staged folder to `_build/html`, by Jupyter Book, with every warning an error."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .address import lead_to_sources
from .finish import finish
from .freshness import digest
from .pages import Layout

# the command of this environment, whatever PATH says
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Sphinx colours warnings in log files, too
SHOWN_WARNINGS = 20  # lines of Sphinx's output on a failure; the rest is in the log


def up_to_date(layout: Layout) -> bool:
    """Whether the published book was built from exactly what is staged now."""
    state = layout.state("book.json")
    return (
        state.is_file()
        and (layout.html / "index.html").is_file()
        and json.loads(state.read_text()) == _staged(layout)
    )


def _staged(layout: Layout) -> dict[str, str]:
    """One hash over everything that decides the HTML."""
    total = hashlib.sha256()
    files = [path for path in layout.stage.rglob("*") if path.is_file()] + [layout.lock]
    for path in sorted(files):
        if path.is_file():
            total.update(f"{layout.show(path)} {digest(path)}\n".encode())
    return {"staged": total.hexdigest()}


def build(layout: Layout, strict: bool) -> bool:
    """Build the HTML and publish it in one step; a build that fails leaves the old book. Returns
    whether it was published.

    `strict` turns warnings into errors. A page that failed, or was not executed yet, lacks what
    others refer to, so then warnings are only logged.
    """
    layout.state("book.json").unlink(missing_ok=True)
    work = layout.build / "sphinx"
    shutil.rmtree(work, ignore_errors=True)
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", layout.stage, "--path-output", work]
    command += ["-W", "-n", "--keep-going"] if strict else []
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "PYTHONHASHSEED": "0", "NO_COLOR": "1"}
    with open(layout.sphinx_log, "w") as log:
        status = subprocess.run(
            command, cwd=layout.build, env=environment, stdout=log, stderr=subprocess.STDOUT
        ).returncode
    new = work / "_build" / "html"
    if status != 0 or not (new / "index.html").is_file():
        _explain(layout)
        return False
    lead_to_sources(layout, new)
    _clear_outputs(new / "_sources")
    finish(new, layout.html)
    _publish(new, layout.html)
    shutil.rmtree(work)
    layout.state("book.json").parent.mkdir(parents=True, exist_ok=True)
    layout.state("book.json").write_text(json.dumps(_staged(layout)))
    return True


def _clear_outputs(sources: Path) -> None:
    """The notebooks to be downloaded hold what is run, not what came of it: that stands on the
    page, and a second time it would be half of the book's bytes.
    """
    for path in sources.rglob("*.ipynb"):
        notebook = json.loads(path.read_text())
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def _publish(new: Path, html: Path) -> None:
    """Swap folders rather than copy into one: Sphinx never deletes files that an older book has
    left.
    """
    old = html.with_name("html.old")
    shutil.rmtree(old, ignore_errors=True)
    if html.exists():
        os.replace(html, old)
    os.replace(new, html)
    shutil.rmtree(old, ignore_errors=True)


def _explain(layout: Layout) -> None:
    """The lines of Sphinx's log that say what is wrong, with the paths of the sources, not of
    the staged copies.
    """
    text = COLOURS.sub("", layout.sphinx_log.read_text())
    lines = text.replace(f"{layout.stage}/", "").splitlines()
    wrong = [
        line
        for line in lines
        if any(word in line for word in ("WARNING", "ERROR", "Error", "error:"))
    ] or lines[-5:]
    for line in wrong[:SHOWN_WARNINGS]:
        print(f"      {line}")
    print(f"      (all of it: {layout.show(layout.sphinx_log)})")
