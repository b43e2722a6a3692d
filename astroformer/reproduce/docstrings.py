"""Sphinx extension for the page of the library's names: a docstring is shown as it is written.

The library's docstrings are plain text for people who read the code: shapes, units, names of
arguments with a colon. reStructuredText would read markup into them that they do not have.
"""

from sphinx.application import Sphinx


def as_written(app, what: str, name: str, found, options, lines: list[str]) -> None:
    """Makes of a docstring's lines, in place, a block in which nothing is markup."""
    while lines and not lines[-1].strip():
        del lines[-1]
    if lines:
        lines[:] = [".. code-block:: text", "", *(f"   {line}".rstrip() for line in lines), ""]


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", as_written)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
