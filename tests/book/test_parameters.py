"""What papermill gives a page: a name that the page does not have stops it before anything runs,
and every value gets the type that the page's parameters cell declares.
"""

import os
import subprocess
import sys

import nbformat
import pytest
from galaxy_folder import write_galaxies
from hypothesis import given
from hypothesis import strategies as st

from astroformer.reproduce import Layout, read_book
from astroformer.reproduce.pages import read_notebook
from astroformer.reproduce.parameters import ParameterError, assigned, checked, declared

LAYOUT = Layout()
CELL = (
    'data_dir: str = ""  # a folder\nepochs: int = 3\nfraction: float = 1.0\nstrict: bool = False'
)
KINDS = declared(CELL)
CHECK = "from astroformer.reproduce import parameters\nparameters.check()"
SEEN = "print(repr((data_dir, epochs, fraction, strict)))"
QUIET = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PREFER_ENV_PATH": "1"}


def run(folder, *command):
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=os.environ | QUIET,
        capture_output=True,
        text=True,
        timeout=300,
    )


def papermill(source, folder, *words):
    return run(folder, "papermill", source, "out.ipynb", "--no-progress-bar", *words)


def write(path, *cells):
    first = nbformat.v4.new_code_cell(CELL, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(
        cells=[first, *map(nbformat.v4.new_code_cell, cells)],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    nbformat.write(notebook, path)
    return path


def last_line(path):
    outputs = nbformat.read(path, as_version=4).cells[-1].outputs
    return outputs[0].text.strip() if outputs else None


# The rule


@given(st.sampled_from(sorted(KINDS)), st.sampled_from("abcxyz_"), st.integers(0, 8))
def test_a_name_that_is_one_letter_off_is_refused_with_the_nearest(name, letter, place):
    mistyped = name[:place] + letter + name[place:]
    if not mistyped.isidentifier():
        return
    with pytest.raises(ParameterError) as refused:
        checked({mistyped: 1}, KINDS, "this page")
    said = str(refused.value)
    assert f"no parameter {mistyped} (the nearest is {name})" in said and "\n" not in said
    assert all(known in said for known in KINDS)


def test_every_unknown_name_is_said_and_one_that_resembles_nothing_too():
    with pytest.raises(ParameterError, match="no parameter seeed; no parameter epoch .*epochs"):
        checked({"seeed": 7, "epoch": 1, "epochs": 1}, KINDS)


@given(st.integers(-(10**6), 10**6))
def test_a_number_is_the_text_that_it_was_typed_as_where_a_text_is_wanted(number):
    assert checked({"data_dir": number}, KINDS) == {"data_dir": str(number)}


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"data_dir": "2024"}, "2024"),
        ({"data_dir": True}, "True"),
        ({"data_dir": 2.5}, "2.5"),
        ({"epochs": 4.0}, 4),
        ({"epochs": "4"}, 4),
        ({"fraction": 1}, 1.0),
        ({"strict": 1}, True),
        ({"strict": "true"}, True),
    ],
)
def test_a_value_gets_the_type_of_its_parameter(given, expected):
    [value] = checked(given, KINDS).values()
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"epochs": "three"}, "epochs 'three' is not a whole number"),
        ({"epochs": 2.5}, "epochs 2.5 is not a whole number"),
        ({"epochs": True}, "epochs True is no number"),
        ({"fraction": "half"}, "fraction 'half' is not a finite number"),
        ({"fraction": False}, "fraction False is no number"),
        ({"strict": 3}, "strict 3 is not true or false"),
        ({"data_dir": None}, "-r data_dir"),
        ({"data_dir": float("inf")}, "-r data_dir"),
        ({"data_dir": 1e20}, "-r data_dir"),
        ({"data_dir": ["a"]}, "-r data_dir"),
    ],
)
def test_a_value_of_another_type_is_refused_in_one_line(given, said):
    with pytest.raises(ParameterError) as refused:
        checked(given, KINDS)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_both_cells_are_read_as_they_stand():
    assert {"data_dir": str, "epochs": int, "fraction": float, "strict": bool} == KINDS
    assert assigned("# Parameters\nepochs = 1\nother = [\n  1]\n") == ["epochs", "other"]
    assert declared("%matplotlib inline\nx: int = 1") == {} == declared("x = 1")


# In a notebook


def test_papermill_gives_typed_values_and_stops_before_the_next_cell(tmp_path):
    page = write(tmp_path / "page.ipynb", CHECK, SEEN)
    done = papermill(page, tmp_path, "-p", "data_dir", "2024", "-p", "fraction", "1")
    assert done.returncode == 0, done.stderr
    assert last_line(tmp_path / "out.ipynb") == "('2024', 3, 1.0, False)"
    # papermill's own names of the two files are no mistake
    done = papermill(page, tmp_path, "--inject-paths", "-p", "epochs", "5")
    assert last_line(tmp_path / "out.ipynb") == "('', 5, 1.0, False)"
    done = papermill(page, tmp_path, "-p", "epoch", "1", "-p", "epochs", "2")
    assert done.returncode == 1 and last_line(tmp_path / "out.ipynb") is None
    told = [line for line in done.stderr.splitlines() if "epoch (the nearest is epochs)" in line]
    assert told == [done.stderr.rstrip().splitlines()[-1]], "one line, the last"


@pytest.mark.slow
def test_without_papermill_and_again_in_a_copy_of_it_a_page_runs(tmp_path):
    page = write(tmp_path / "page.ipynb", CHECK, SEEN)
    done = run(tmp_path, "jupyter", "execute", "--inplace", page)
    assert done.returncode == 0, done.stderr
    assert last_line(page) == "('', 3, 1.0, False)"
    assert papermill(page, tmp_path, "-p", "data_dir", "7").returncode == 0
    done = run(tmp_path, "jupyter", "execute", "--inplace", tmp_path / "out.ipynb")
    assert done.returncode == 0 and last_line(tmp_path / "out.ipynb") == "('7', 3, 1.0, False)"


# The pages


@pytest.mark.parametrize("source", sorted(LAYOUT.book.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_page_checks_what_it_was_given_before_anything_else(source):
    cells = [cell for cell in read_notebook(source)["cells"] if cell["cell_type"] == "code"]
    assert "parameters" in cells[0]["metadata"]["tags"]
    assert "".join(cells[1]["source"]).startswith(CHECK)
    assert None not in declared("".join(cells[0]["source"])).values()


@pytest.mark.parametrize(
    "name, words, said",
    [
        ("training", ("-p", "epoch", "1", "-p", "seed", "3"), "epoch (the nearest is epochs)"),
        pytest.param(
            *("measured", ("-p", "metrics", "top1"), "metrics (the nearest is metric)"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("training", ("-p", "epochs", "six"), "epochs 'six' is not a whole number"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_page_stops_at_once_under_papermill(name, words, said, tmp_path):
    done = papermill(LAYOUT.book / f"{name}.ipynb", tmp_path, *words)
    assert done.returncode == 1 and said in done.stderr.rstrip().splitlines()[-1]
    ran = [
        cell.execution_count
        for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
        if cell.cell_type == "code"
    ]
    assert [number for number in ran if number] == [1, 2, 3], "parameters, papermill's, the check"


@pytest.mark.slow
def test_a_folder_whose_name_is_a_number_is_drawn_by_a_page(tmp_path):
    write_galaxies(tmp_path / "2024", train=8, test=4)
    words = ("-p", "dataset", "folder", "-p", "data_dir", "2024", "-p", "image_size", "32")
    done = papermill(LAYOUT.book / "galaxies.ipynb", tmp_path, *words, "--cwd", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_profile_with_a_value_of_another_type_is_refused_before_anything(tmp_path):
    from astroformer.reproduce.pages import BookError, read_profile

    layout = Layout()
    layout.profiles = tmp_path / "profiles.yml"
    layout.profiles.write_text("gpu: {training: {epochs: six}}\n")
    with pytest.raises(BookError, match="gpu, training: epochs 'six' is not a whole number"):
        read_profile(layout, read_book(layout), "smoke")
