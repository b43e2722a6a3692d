"""How a table is shown on a page: sorted by a click, with row heads, numbers of which only the
size matters.
"""

import pandas as pd


def rough(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as powers of ten with one digit, for errors of which only the size matters."""
    return frame.map(lambda value: value if isinstance(value, str) else f"{value:.0e}")


def headed(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The table with one column as its row heads, and that column's name in the corner."""
    return frame.set_index(column).rename_axis(index=None, columns=column)


def sortable(frame: pd.DataFrame, *, prose_last: bool = False):
    """The table for a page. On a built page a click on a column's head, or Enter there, sorts it
    (`book/_static/tables.js`); elsewhere it stands as it is. With `prose_last` the last column
    holds sentences; it is wrapped, and so is the first.
    """
    from IPython.display import HTML  # an extra of the book, not of the library

    classes = ["sortable", *(["prose-last"] if prose_last else [])]
    with pd.option_context("display.max_colwidth", None):
        return HTML(frame.to_html(index=False, border=0, justify="left", classes=classes))


def sortable_or(frame: pd.DataFrame, otherwise: str, *, prose_last: bool = False):
    """The table for a page, or a sentence (Markdown) where it has no rows."""
    from IPython.display import Markdown

    return sortable(frame, prose_last=prose_last) if len(frame) else Markdown(otherwise)
