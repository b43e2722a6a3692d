"""Pages work by hand: under papermill, called from anywhere, and again under nbval, which runs in
the copy's folder. And every page asks the library only for what is there.

Training is cut short by the pages' own parameters; `make book` executes all pages as they stand.
"""

import ast
import importlib
import json
import os
import subprocess
import sys

import pytest

from astroformer.reproduce import Layout, read_book
from astroformer.reproduce.pages import read_notebook

LAYOUT = Layout()
# Of a notebook that is executed as several pages, these: one with claims and no record, one with
# records and predictions. tests/studies/test_results.py calls what the others call.
OF_SEVERAL = {"results_cifar100", "results_galaxyzoo1"}
PAGES = [
    page
    for page in read_book(LAYOUT)
    if page.executable and (not page.given or page.name in OF_SEVERAL)
]
# The longest pages are executed by `make book` alone: what a caller's folder and parameters do to a
# page, the others show, since one function of the library resolves paths.
LONG = {"consistency", "equivariance", "spectral_blocks", "vit_cifar"}
SHORT_PAGES = [page for page in PAGES if page.name not in LONG]
CHECKED = [page for page in SHORT_PAGES if "nbval-check-output" in page.source.read_text()]
# One of each kind: it has records and predictions, its outputs are checked; one that trains stands
# in test_make_missing.py. The others are slow tests, since `make book` executes them, too.
OF_EACH_KIND = {"results_galaxyzoo1", "galaxies"}
MINUTES = 60  # in seconds

# for pages that have these parameters
SHORT = {"epochs": 1, "fraction": 0.2, "step": 16, "draws": 20, "searched": 20}


def parametrize(pages):
    return pytest.mark.parametrize(
        "page",
        [
            pytest.param(
                page,
                id=page.name,
                marks=[] if page.name in OF_EACH_KIND else [pytest.mark.slow],
            )
            for page in pages
        ],
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Records and checkpoints go to a temporary folder, shared: a page that trains does so once
    for all tests here.
    """
    folder = tmp_path_factory.mktemp("records")
    own = {
        "ASTROFORMER_LOCAL_LEDGER": str(folder / "ledger"),
        "ASTROFORMER_RUNS": str(folder / "runs"),
    }
    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
    return os.environ | own | quiet


def run_in(folder, environment, *command):
    result = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=8 * MINUTES,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]


def papermill(page, source, target, folder, environment):
    given = {name: value for name, value in SHORT.items() if name in page.defaults} | page.given
    settings = [word for name, value in given.items() for word in ("-p", name, value)]
    run_in(folder, environment, "papermill", source, target, "--no-progress-bar", *settings)


@pytest.fixture(scope="module")
def executed(environment, tmp_path_factory):
    """The page's copy, executed by papermill from another folder than the repository's root;
    each page once.
    """
    folder, copies = tmp_path_factory.mktemp("executed"), {}

    def copy(page):
        if page.name not in copies:
            papermill(page, page.source, page.copy, folder, environment)
            copies[page.name] = folder / page.copy
        return copies[page.name]

    return copy


@parametrize(SHORT_PAGES)
def test_a_page_runs_under_papermill_from_anywhere(page, executed):
    cells = [cell for cell in read_notebook(executed(page))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)


def test_a_page_runs_under_papermill_from_the_root(environment, tmp_path):
    # where a caller stands is the same question for every page
    page = min(PAGES, key=lambda page: page.trains)
    papermill(
        page, page.source.relative_to(LAYOUT.root), tmp_path / "out.ipynb", LAYOUT.root, environment
    )


@parametrize(CHECKED)
def test_a_page_gives_the_same_checked_outputs_again(page, executed, environment, tmp_path):
    """nbval executes the copy once more and compares the cells tagged nbval-check-output with their
    first outputs. What comes after the last of them is left out.
    """
    notebook = json.loads(executed(page).read_text())
    last = max(
        number
        for number, cell in enumerate(notebook["cells"])
        if "nbval-check-output" in cell["metadata"].get("tags", ())
    )
    copy = tmp_path / page.copy
    copy.write_text(json.dumps(notebook | {"cells": notebook["cells"][: last + 1]}))
    run_in(
        LAYOUT.root,
        environment,
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "-n",
        "0",
        "-q",
        "-p",
        "no:cacheprovider",
        copy,
    )


def test_some_outputs_are_checked():
    assert len(CHECKED) >= 2
    assert {page.name for page in PAGES} >= LONG and len(SHORT_PAGES) > 2 * len(LONG)


def modules_of(tree):
    """Local name -> module, for what a page imports from the library; an import of a name that is
    not there raises.
    """
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("astroformer"):
            for alias in node.names:
                package = importlib.import_module(node.module)
                try:
                    module = importlib.import_module(f"{node.module}.{alias.name}")
                except ModuleNotFoundError:
                    assert hasattr(package, alias.name), f"{node.module} has no {alias.name}"
                else:
                    if getattr(package, alias.name, module) is module:
                        found[alias.asname or alias.name] = module
    return found


@pytest.mark.parametrize(
    "source", sorted({page.source for page in PAGES}), ids=lambda path: path.stem
)
def test_a_page_asks_the_library_only_for_what_is_there(source):
    cells = [cell for cell in read_notebook(source)["cells"] if cell["cell_type"] == "code"]
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in cells))
    modules = modules_of(tree)
    assigned = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = node.value.id
            if name in modules and name not in assigned:
                assert hasattr(modules[name], node.attr), f"{name}.{node.attr}"
