"""The page of the library names what there is, its code runs, and each name says what it is."""

import importlib
import inspect
import re

import pytest

from astroformer import paths
from astroformer.reproduce.docstrings import as_written

PAGE = (paths.BOOK / "library.md").read_text()
MODULES = re.findall(r"automodule:: (\S+)\n((?:   :.*\n)*)", PAGE)


def names_of(module, options):
    told = re.search(r":members: (\S.*)", options)
    return told[1].split(", ") if told else module.__all__


@pytest.mark.parametrize("name, options", MODULES, ids=[name for name, _ in MODULES])
def test_every_name_of_the_page_is_there_and_says_what_it_is(name, options):
    module = importlib.import_module(name)
    assert inspect.getdoc(module)
    for one in names_of(module, options):
        assert inspect.getdoc(getattr(module, one)), f"{name}.{one} has no docstring"


def test_every_package_that_names_its_public_names_is_on_the_page():
    packages = [
        f"astroformer.{path.parent.name}"
        for path in paths.PACKAGE.glob("*/__init__.py")
        if "__all__" in path.read_text()
    ]
    assert len(packages) > 5 and set(packages) <= {name for name, _ in MODULES}


def test_the_code_of_the_page_trains(own_runs):
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "library.md", "exec"), found := {})
    assert found["fitted"].record["status"] == "completed"


def test_a_docstring_is_shown_as_it_is_written():
    lines = ["(B, C) -> *x*, `y`", "", "  name: what|it is_", ""]
    as_written(None, "function", "f", None, None, lines)
    assert lines == [
        ".. code-block:: text", "", "   (B, C) -> *x*, `y`", "", "     name: what|it is_", "",
    ]  # fmt: skip
    empty = []
    as_written(None, "function", "f", None, None, empty)
    assert not empty
