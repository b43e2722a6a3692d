"""House rules: what keeps the sources readable, publishable and free of one machine's traces."""

import ast
import json
import re
import subprocess

import pytest

from astroformer.reproduce import Layout, read_book
from astroformer.reproduce.address import TAG
from astroformer.reproduce.pages import (
    PROFILES,
    assignments,
    copies,
    documents,
    parameters_cells,
    read_notebook,
    read_profile,
)

LAYOUT = Layout()
NOTEBOOKS = sorted(LAYOUT.book.glob("*.ipynb"))
PAGE_LINES = 60  # code lines of a page; more belongs into the library
FILE_LINES = 700  # lines of a file of the library

pages = pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(source):
    """Less the cell that installs the library, which is the same in each page."""
    return [
        "".join(cell["source"])
        for cell in read_notebook(source)["cells"]
        if cell["cell_type"] == "code" and TAG not in cell["metadata"].get("tags", [])
    ]


def is_python(line):
    """Magics and shell lines are no Python; a page should have none, but they are another rule's
    business.
    """
    return not line.lstrip().startswith(("%", "!"))


def parse(cell):
    return ast.parse("\n".join(line for line in cell.splitlines() if is_python(line)))


@pages
def test_a_page_stores_no_outputs(source):
    for cell in json.loads(source.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None, (
                f"run `nbstripout --keep-id {source.name}`"
            )


@pages
def test_a_page_has_one_parameters_cell_of_typed_assignments(source):
    cells = parameters_cells(read_notebook(source))
    assert len(cells) == 1
    statements = assignments(cells[0])
    assert statements, "a page has at least the parameter `profile`"
    for statement in statements:
        assert isinstance(statement, ast.AnnAssign) and statement.value is not None, (
            f"untyped: {ast.unparse(statement)}"
        )
        ast.literal_eval(statement.value)


@pages
def test_a_page_is_a_letter_not_a_program(source):
    cells = code_cells(source)
    lines = [
        line
        for cell in cells
        for line in cell.splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]
    assert len(lines) <= PAGE_LINES
    for cell in cells:
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(parse(cell))), (
            "classes belong into the library"
        )


@pages
def test_a_page_begins_with_its_title(source):
    first = read_notebook(source)["cells"][0]
    assert first["cell_type"] == "markdown" and "".join(first["source"]).startswith("# ")


@pages
def test_figures_have_captions_names_and_alternative_text(source):
    for cell in read_notebook(source)["cells"]:
        figure = cell["metadata"].get("mystnb", {}).get("figure")
        if figure is not None:
            assert figure.get("caption") and figure.get("name")
            assert cell["metadata"]["mystnb"].get("image", {}).get("alt"), (
                f"{figure['name']} has no alternative text"
            )


def test_the_table_of_contents_lists_every_page_once():
    listed, made = documents(LAYOUT.toc), copies(LAYOUT)
    several = {page.source for page in made.values()}
    present = [
        f"book/{path.stem}"
        for path in [*NOTEBOOKS, *LAYOUT.book.glob("*.md")]
        if path not in several
    ]
    assert sorted(listed) == sorted([*present, *made])


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_names_only_pages_and_parameters_that_exist(profile):
    read_profile(LAYOUT, read_book(LAYOUT), profile)


@pytest.mark.parametrize(
    "source",
    sorted(LAYOUT.library.rglob("*.py")),
    ids=lambda path: str(path.relative_to(LAYOUT.root)),
)
def test_a_file_of_the_library_can_be_read_in_one_go(source):
    assert len(source.read_text().splitlines()) <= FILE_LINES


def test_no_tracked_file_names_a_folder_of_one_machine():
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=LAYOUT.root, capture_output=True, text=True
    )
    if listing.returncode:
        pytest.skip("not a git checkout: there is no list of tracked files")
    machine_path = re.compile(rb"(?<![\w.*])/(home|work|root|Users|mnt)/\w")
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        path = LAYOUT.root / name
        if (
            path.is_file()
            and path.name != "test_house.py"
            and machine_path.search(path.read_bytes())
        ):
            found.append(name)
    assert not found
