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
    """The table for a page, after `itables.init_notebook_mode`: a click on a column's head sorts
    it. With `prose_last` the last column holds sentences; it is wrapped, and so is the first.
    """
    import itables  # an extra of the book, not of the library

    # no search box, no pages
    bare = {"topStart": None, "topEnd": None, "bottomStart": None, "bottomEnd": None}
    return itables.show(
        frame,
        showIndex=False,
        paging=False,
        scrollX=True,
        layout=bare,
        classes="display compact nowrap" + " prose-last" * prose_last,
    )


def sortable_or(frame: pd.DataFrame, otherwise: str, *, prose_last: bool = False):
    """The table for a page, or a sentence (Markdown) where it has no rows."""
    from IPython.display import Markdown

    return sortable(frame, prose_last=prose_last) if len(frame) else Markdown(otherwise)
