"""How a table is shown on a page: sorted by a click, with row heads, numbers of which only the
size matters.
"""

from html import escape

import pandas as pd

from astroformer.ledger import links


def rough(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as powers of ten with one digit, for errors of which only the size matters."""
    return frame.map(lambda value: value if isinstance(value, str) else f"{value:.0e}")


def headed(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The table with one column as its row heads, and that column's name in the corner."""
    return frame.set_index(column).rename_axis(index=None, columns=column)


def sortable(frame: pd.DataFrame, *, prose_last: bool = False, searched: bool = False):
    """The table for a page. On a built page a click on a column's head, or Enter there, sorts it
    (`book/_static/tables.js`); elsewhere it stands as it is. With `prose_last` the last column
    holds sentences; it is wrapped, and so is the first. With `searched` a field above it leaves
    the rows that have a word. Texts of `ledger.links` lead where they say.
    """
    from IPython.display import HTML  # an extra of the book, not of the library

    classes = ["sortable", *(["prose-last"] if prose_last else [])]
    classes += ["searchable"] * searched
    shown = frame.map(lambda cell: links.html_of(cell) if isinstance(cell, str) else cell)
    shown.columns = [escape(str(name), quote=False) for name in frame.columns]
    with pd.option_context("display.max_colwidth", None):
        html = shown.to_html(index=False, border=0, justify="left", classes=classes, escape=False)
    return HTML(html)


def sortable_or(frame: pd.DataFrame, otherwise: str, *, prose_last: bool = False):
    """The table for a page, or a sentence (Markdown) where it has no rows."""
    from IPython.display import Markdown

    return sortable(frame, prose_last=prose_last) if len(frame) else Markdown(otherwise)
