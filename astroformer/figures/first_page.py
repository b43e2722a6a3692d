"""The board and the picture of the first page, and the same in README.md:

    .venv/bin/python -m astroformer.figures.first_page

writes README.md between its two marks and the picture beside it. Both follow from the ledger; a
test says when they are no longer current.
"""

import base64
import hashlib
import inspect
import io
import json
import os
import re
import sys
import tempfile
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from astroformer import paths
from astroformer.figures import style, vector
from astroformer.figures.style import COLORS, panels
from astroformer.reproduce.dark import dark
from astroformer.studies.first_page import EQUIVARIANT, FEW_IMAGES, FirstPage, Row, first_page

ICONS = {
    **dict.fromkeys(("supported", "reproduced", "compatible"), "✔"),
    **dict.fromkeys(("partly", "no difference that matters"), "◐"),
    "contradicted": "✘",
    **dict.fromkeys(("undecided", "cannot be decided"), "?"),
    "not run": "○",
}
HEADS = ("claim", "verdict", "strongest evidence", "to decide it")
README, PICTURE = "README.md", "book/_static/first_page.png"
BEGIN, END = (
    "<!-- board: written by astroformer.figures.first_page -->",
    "<!-- end of the board -->",
)
STATE = "astroformer"  # the key of the picture's text that tells from which numbers it was drawn


# The board


def board(page: FirstPage):
    """A row for each claim, as HTML whose links lead to the pages of the book's folder. On narrow
    screens each row is a card (`_static/astroformer.css`).
    """
    from IPython.display import HTML  # an extra of the book, not of the library

    rows = "\n".join(f"<tr>{''.join(_cells(row))}</tr>" for row in page.rows)
    heads = "".join(f'<th scope="col">{head}</th>' for head in HEADS)
    return HTML(
        f'<table class="dataframe board"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table>"
    )


def _cells(row: Row) -> list[str]:
    claim = escape(row.claim)
    linked = f'<a href="{row.page}.html">{claim}</a>' if row.page else claim
    kind = row.verdict.replace(" ", "-")
    badge = f'<span class="verdict {kind}">{ICONS[row.verdict]} {escape(row.word)}</span>'
    cells = [linked, badge, escape(row.evidence), escape(row.to_decide)]
    return [f'<td data-head="{head}">{cell}</td>' for head, cell in zip(HEADS, cells)]


def as_markdown(page: FirstPage) -> str:
    """The same for README.md; its links lead to the notebooks."""
    lines = [f"| {' | '.join(HEADS)} |", "| --- " * len(HEADS) + "|"]
    for row in page.rows:
        claim = f"[{row.claim}](book/{row.page}.ipynb)" if row.page else row.claim
        cells = (claim, f"{ICONS[row.verdict]} {row.word}", row.evidence, row.to_decide)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# The picture


def picture(page: FirstPage) -> plt.Figure:
    """What was printed against what was counted; what few images say of the stacks; how far the
    logits go when the image moves.
    """
    figure, (counts, leads, moves) = panels(3, 1, height=6.4, heights=(1, 0.75, 1.2))
    _counts(counts, page)
    _leads(leads, page)
    _moves(moves, page)
    for axes in (counts, leads, moves):
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
    return figure


def _counts(axes: plt.Axes, page: FirstPage) -> None:
    agree, rows = page.agree, page.agree["rows"]
    axes.axvline(0, color=COLORS["grey"])
    for height, (metric, color) in enumerate((("flops", "orange"), ("params", "blue"))):
        values = page.excess[metric].sort_values()
        axes.plot(values, [height] * len(values), "o", color=COLORS[color], alpha=0.65)
    axes.set(
        yticks=[0, 1],
        yticklabels=["FLOPs", "parameters"],
        ylim=(-0.6, 1.6),
        xlabel="printed, above the released network's count (%)",
    )
    _headed(
        axes,
        f"{agree['params_agree']} of {rows} printed parameter counts and "
        f"{agree['flops_agree']} of {agree['flops_rows']} FLOPs\nare those of the released code",
    )


def _leads(axes: plt.Axes, page: FirstPage) -> None:
    few = page.row(FEW_IMAGES)
    axes.axvline(0, color=COLORS["grey"])
    for height, (stack, one) in enumerate(page.leads.items()):
        of_sets = page.each[stack]
        axes.plot(of_sets, [height - 0.28] * len(of_sets), "o", color=COLORS["grey"], markersize=4)
        axes.errorbar(
            one.estimate,
            height,
            xerr=[[one.estimate - one.low], [one.high - one.estimate]],
            fmt="o",
            color=COLORS["blue"],
            capsize=4,
        )
    if not page.leads:
        axes.text(0.5, 0.5, "no comparison has enough runs yet", ha="center", va="center")
    axes.set(
        yticks=range(len(page.leads)),
        yticklabels=[f"over {stack}" for stack in page.leads],
        ylim=(-0.6, max(1, len(page.leads)) - 0.4),
        xlabel="lead of C-C-C-T (points, 95 %; grey: single data sets)",
    )
    _headed(axes, f"Does C-C-C-T learn better from few images?\n{few.word.capitalize()}")


def _moves(axes: plt.Axes, page: FirstPage) -> None:
    moves = page.row(EQUIVARIANT)
    names = []
    for one in page.changes.to_dict("records"):
        for what, label in (("stride", "whole stride"), ("pixel", "one pixel")):
            low, high = one[f"{what} low"], one[f"{what} high"]
            color = COLORS["blue" if what == "pixel" else "sky"]
            axes.barh(len(names), high - low, left=low, color=color, height=0.55)
            names.append(f"{one['data'].split(' subset')[0]}, {label}")
    axes.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlim=(0, None),
        xlabel="change of the logits when the image moves (%)",
    )
    _headed(axes, f"Does it keep translational equivariance?\n{moves.word.capitalize()}")


def _headed(axes: plt.Axes, takeaway: str) -> None:
    axes.set_title(takeaway, loc="left", fontsize=11, fontweight="bold")


def embedded(page: FirstPage):
    """The picture as HTML that carries it, for a page other than the one that draws it."""
    from IPython.display import HTML

    figure, drawn = picture(page), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    told = vector.svg(figure)
    assert told is not None, "three small plots are never too heavy for SVG"
    pictures = {
        "only-light": ("png", drawn.getvalue()),
        "only-dark": ("svg+xml", dark(told).encode()),
    }
    words = (
        "Three pictures: printed counts beside those of the released code; C-C-C-T's lead with "
        "few images; how far the logits go when the image moves."
    )
    shown = "".join(
        f'<img class="{when}" alt="{words}" style="max-width: 36rem; width: 100%" '
        f'src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
        for when, (kind, data) in pictures.items()
    )
    return HTML(f"<figure>{shown}</figure>")


# README.md


def state(page: FirstPage) -> str:
    """What the picture was drawn from, and how, as a digest."""
    told = {
        "excess": page.excess[["params", "flops"]].round(2).to_dict("list"),
        "agree": {name: round(float(value), 2) for name, value in page.agree.items()},
        "leads": {
            name: [round(v, 2) for v in (one.estimate, one.low, one.high, *page.each[name])]
            for name, one in page.leads.items()
        },
        "changes": page.changes.round(2).to_dict("list"),
        "words": [row.word for row in page.rows],
        "drawn": [inspect.getsource(one) for one in (picture, _counts, _leads, _moves, _headed)],
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def with_board(text: str, page: FirstPage) -> str:
    """README.md with the board as it is now."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md must have the lines {BEGIN} and {END} once each")
    board = f"{BEGIN}\n{as_markdown(page)}\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: board, text, flags=re.DOTALL)


def stale(page: FirstPage, root: Path = paths.ROOT) -> list[str]:
    """Which of the two files are not what the ledger says now."""
    readme = root / README
    old = [README] if readme.read_text() != with_board(readme.read_text(), page) else []
    drawn = root / PICTURE
    told = Image.open(drawn).info.get(STATE) if drawn.is_file() else None
    return old + ([PICTURE] if told != state(page) else [])


def write(page: FirstPage, root: Path = paths.ROOT) -> list[str]:
    """Bring both up to date; the names of those that were not."""
    old = stale(page, root)
    if README in old:
        readme = root / README
        readme.write_text(with_board(readme.read_text(), page))
    if PICTURE in old:
        with plt.rc_context(style.STYLE):
            picture(page).savefig(root / PICTURE, dpi=150, metadata={STATE: state(page)})
    return old


def main() -> int:
    paths.need_checkout("writing README.md")
    with tempfile.TemporaryDirectory() as empty:  # of the committed records alone
        os.environ["ASTROFORMER_LOCAL_LEDGER"] = empty
        changed = write(first_page())
    print(f"changed: {', '.join(changed)}" if changed else "both are current")
    return 0


if __name__ == "__main__":
    sys.exit(main())
