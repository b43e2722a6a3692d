"""From pages to a book: execute what is out of date with papermill, then build the HTML with
Jupyter Book.

Reads in this order: `pages` (what there is to execute, and with which parameters), `parameters`
(how a page itself checks what it was given), `freshness` (why a page must be executed again),
`execute` (papermill), `stage` and `build` (Jupyter Book), `run` (the verb). `screenshots` looks at
the result. `address` writes where the sources are published into them.
"""

from .pages import BookError, Layout, Page, read_book
from .run import plan, reproduce

__all__ = ["BookError", "Layout", "Page", "plan", "read_book", "reproduce"]
