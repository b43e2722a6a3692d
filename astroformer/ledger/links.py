"""Texts of the book's tables that lead somewhere: a measured number to its runs, a reported one to
its claim, a claim to its source.

Such a text is a `str` like any other, compared and sorted as one; `figures.tables` shows its
`html`. What a number is of stands beside it in the page (`data-of`), so that
`astroformer reproduce --check` can compute it again.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pandas import DataFrame

RUNS, CLAIMS = "runs.html", "claims.html"  # pages of the book


class Linked(str):
    """A text and how a page shows it."""

    html: str

    def __new__(cls, text: str, html: str) -> "Linked":
        self = super().__new__(cls, text)
        self.html = html
        return self

    def __reduce__(self) -> tuple:  # as copied and pickled
        return Linked, (str(self), self.html)


def html_of(text: str) -> str:
    return text.html if isinstance(text, Linked) else escape(text, quote=False)


def joined(parts: Iterable[str], between: str = "") -> Linked:
    """Texts one after another, of which some may lead somewhere."""
    parts = list(parts)
    return Linked(between.join(parts), escape(between).join(map(html_of, parts)))


def to(address: str, text: str, *, of: str = "") -> Linked:
    """A text that leads to an address; `of` says what the number is of."""
    told = f' data-of="{escape(of)}"' if of else ""
    return Linked(text, f'<a href="{escape(address)}"{told}>{html_of(text)}</a>')


def measured(text: str, group: str, what: str, runs: Iterable[str]) -> Linked:
    """A number that was measured on some or all runs of a group (`identity.group`); `what` names
    the function and the metric that give it, such as "accuracy top1".
    """
    return to(f"{RUNS}#runs-{group}", text, of=" ".join((what, *runs)))


def at_run(run: str, text: str) -> Linked:
    """A number that was measured on a run and its seeds, by the first of them."""
    return to(f"{RUNS}#run-{run}", text)


def reported(text: str, claim: str) -> Linked:
    """A number that a document prints, by its claim (`claims.id_of`)."""
    return to(f"{CLAIMS}#claim-{claim}", text, of=f"claim {claim}")


def anchored(anchor: str, text: str) -> Linked:
    """A text at which a page can be opened, and that says so: it leads to itself."""
    return Linked(text, f'<a id="{escape(anchor)}" href="#{escape(anchor)}">{html_of(text)}</a>')


def frame(
    rows: Mapping[str, Any] | Iterable[Any],
    columns: Sequence[str] | None = None,
) -> DataFrame:
    """`pandas.DataFrame(rows, columns)` in which texts stay what they are: pandas would make plain
    ones of a column of them.
    """
    data: Any = rows if isinstance(rows, Mapping) else list(rows)
    made = DataFrame(data, columns=None if columns is None else list(columns), dtype=object)
    for name in made.columns:
        if not any(isinstance(one, Linked) for one in made[name]):
            made[name] = made[name].infer_objects()
    return made
