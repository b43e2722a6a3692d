"""What the first page and README.md say first: each claim of principle and each reported table with
its verdict, the strongest evidence, and what it would take to decide it. Nothing of it is typed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from astroformer.audit import audit
from astroformer.contrasts import Contrast
from astroformer.counting import cost
from astroformer.counting.budget import FLOP_PER_MAC
from astroformer.equivariance import trained
from astroformer.ledger import claims as reported
from astroformer.ledger import records
from astroformer.speed import kept
from astroformer.studies import few_images, hours, principles
from astroformer.studies.answers import (
    CONTRADICTED,
    FEWEST,
    NOT_RUN,
    SAME,
    SIZES,
    SUPPORTED,
    UNDECIDED,
    by_task,
    interval_of,
)
from astroformer.studies.cells import Found
from astroformer.studies.outcomes import Difference
from astroformer.studies.runner import cells_of, missing
from astroformer.verdicts import verdicts
from astroformer.version import __version__

CANNOT = "cannot be decided"
# What is decided stands first.
ORDER = (
    *(CONTRADICTED, "partly", SUPPORTED, "reproduced", "compatible", SAME),
    *(UNDECIDED, CANNOT, NOT_RUN),
)
# system, metrics, what is claimed in a few words, page
TABLES = (
    ("Astroformer", ("params",), "Astroformer's printed parameter counts", "audit"),
    ("Astroformer", ("flops",), "Astroformer's printed FLOPs", "cost"),
    ("Astroformer", ("top1", "top5"), "Astroformer's printed accuracies", "measured"),
    (
        "SpectFormer",
        ("params", "flops"),
        "SpectFormer's printed parameters and FLOPs",
        "spectformer",
    ),
    ("SpectFormer", ("top1", "top5"), "SpectFormer's printed accuracies", "measured"),
    ("ViT-CIFAR", ("params",), "ViT-CIFAR's printed parameter counts", "vit_cifar"),
    ("ViT-CIFAR", ("top1", "seconds"), "ViT-CIFAR's printed accuracies and times", "vit_cifar"),
)
OTHER_STACKS = ("CCTT", "CTTT", "CCCC")  # beside C-C-C-T
# What the first sentences and the picture are about.
FEW_IMAGES = principles.PRINCIPLES["test accuracy of C-C-C-T less C-C-T-T, few images"].short
EQUIVARIANT = principles.PRINCIPLES["change of the logits when the image moves"].short


@dataclass(frozen=True)
class Row:
    """One line of the board; `page`: its name under book/, "" for none."""

    claim: str
    verdict: str
    pilot: bool
    evidence: str
    to_decide: str
    page: str

    @property
    def word(self) -> str:
        return principles.word(self.verdict, self.pilot)


@dataclass(frozen=True)
class FirstPage:
    """The board, and what the picture shows.

    excess: percent by which printed params and flops of Astroformer exceed the released networks'
    agree: how many of them agree: `cost.agreement`
    leads: stack -> the accuracy of C-C-C-T less its own, few images, in points
    each: the same of single data sets: stack -> their means, in points
    apart: that of each data set, against C-C-T-T, where they disagree
    checked: whether the design's check of that answer is passed
    changes: percent by which moving an image changes the logits: `trained.changes`
    flop: of all trainings of the ledger together; `cheapest`: of the cheapest printed accuracy of
        Astroformer
    board, judged: what the rows follow from, `principles.board` and `verdicts.verdicts`
    """

    rows: tuple[Row, ...]
    excess: pd.DataFrame
    agree: dict[str, float]
    leads: dict[str, Contrast]
    each: dict[str, list[float]]
    apart: str
    checked: bool
    changes: pd.DataFrame
    runs: int
    flop: float
    cheapest: float
    board: pd.DataFrame = field(repr=False)
    judged: pd.DataFrame = field(repr=False)

    def row(self, claim: str) -> Row:
        return next(row for row in self.rows if row.claim == claim)


def first_page(profile: str = "cpu", found: list[dict] | None = None) -> FirstPage:
    """Of the ledger as it is now.

    profile: of the studies' designs; found: all records
    """
    found = records.read() if found is None else found
    claims, frame = reported.read(), records.frame(found)
    beside = pd.concat(
        [cost.reported_beside_counted(claims, name) for name in reported.README_DATASETS],
        ignore_index=True,
    )
    beside = beside[beside["model"].str.startswith("astroformer")]
    agree = cost.agreement(beside)
    trainings = hours.of_claims(claims, kept.frame(), found)
    own = trainings[trainings["model"].str.startswith("astroformer")]
    whole = records.unique(frame)
    board = principles.board(profile, found, claims)
    judged = verdicts.verdicts(claims, frame, audit.read())
    few = few_images.result(profile, found)
    primary = few.difference(*few.design.told["primary"]["arms"])
    rows = [*_of_principle(board, profile, Found(found)), *_of_tables(judged, agree, trainings)]
    if not few.check_is_met:
        check = "the design's check: all its runs at twice the steps"
        rows = [
            replace(row, to_decide=row.to_decide or check) if row.claim == FEW_IMAGES else row
            for row in rows
        ]
    leads = _leads(few)
    return FirstPage(
        rows=tuple(sorted(rows, key=lambda row: ORDER.index(row.verdict))),
        excess=cost.reported_over_counted(beside).assign(model=beside["model"]),
        agree=agree,
        leads={stack: interval_of(one) for stack, one in leads.items()},
        each={stack: list(one.means.values()) for stack, one in leads.items()},
        apart="" if primary is None else by_task(primary),
        checked=few.check_is_met,
        changes=trained.changes(trained.read()),
        runs=len(whole),
        flop=float((FLOP_PER_MAC * whole["macs"] * _images(whole)).sum()),
        cheapest=float(own["flop"].min()),
        board=board,
        judged=judged,
    )


def facts(page: FirstPage) -> dict[str, object]:
    """What the first sentences say."""
    return {
        "few_verdict": page.row(FEW_IMAGES).word,
        "few_apart": f" (in points: {page.apart})" if page.apart else "",
        "few_checked": "" if page.checked else ", with a check that is still open",
        "moves_verdict": page.row(EQUIVARIANT).word,
        "params_agree": page.agree["params_agree"],
        "params_rows": page.agree["rows"],
        "runs": f"{page.runs:,}",
        "petaflop": f"{page.flop / 1e15:,.1f}",
        "cheapest": f"{page.cheapest / 1e15:,.0f}",
        "smallest": f"{min(SIZES):.0f}",
        "largest": f"{max(SIZES):.0f}",
        "version": __version__,
    }


def _of_principle(board: pd.DataFrame, profile: str, known: Found) -> list[Row]:
    left = {name: _left(name, profile, known) for name in dict.fromkeys(board["study"])}
    return [
        Row(
            claim=row["short"],
            verdict=row["verdict"],
            pilot=row["pilot"],
            evidence=row["brief"],
            to_decide=left[row["study"]] if row["verdict"] in (UNDECIDED, NOT_RUN) else "",
            page=row["page"],
        )
        for row in board.to_dict("records")
    ]


def _left(study: str, profile: str, known: Found) -> str:
    """How much of a study is still to be made."""
    if not study:
        return "a study; none asks for it yet"
    cells = cells_of([study], profile, known)
    left = len(missing(cells, known))
    return f"{left:,} of {len(cells):,} small runs" if left else "more seeds"


def _of_tables(
    judged: pd.DataFrame, agree: Mapping[str, float], trainings: pd.DataFrame
) -> list[Row]:
    judged = judged[judged["by"] == "authors"]
    rows = []
    for system, metrics, claim, page in TABLES:
        own = judged[(judged["system"] == system) & judged["metric"].isin(metrics)]
        own = own[own["model"] != ""]  # a number that names no network can be held against none
        words = Counter(own["verdict"])
        verdict = of_table(words)
        evidence = ", ".join(f"{words[word]} {word}" for word in sorted(words, key=ORDER.index))
        if system == "Astroformer" and metrics[0] in ("params", "flops"):
            least, most = agree[f"{metrics[0]}_least"], agree[f"{metrics[0]}_most"]
            evidence += f"; {_percent(least)} to {_percent(most)} % from the released networks"
        elif "top1" in metrics and len(words) > 1:
            evidence = f"{len(own)} numbers: {evidence}"
        rows.append(Row(claim, verdict, False, evidence, _price(system, metrics, trainings), page))
    return rows


def of_table(words: Mapping[str, int]) -> str:
    """One verdict for a table, of how many of its numbers have each. What is not decided counts
    only where nothing is. One verdict in all numbers is that of the table; it is contradicted if
    more than half of them are; else it holds partly.
    """
    decided = {word: n for word, n in words.items() if word not in (UNDECIDED, CANNOT, NOT_RUN)}
    if not decided:
        return max(words, key=lambda word: (words[word], -ORDER.index(word)))
    if len(decided) == 1:
        return next(iter(decided))
    most = 2 * decided.get(CONTRADICTED, 0) > sum(decided.values())
    return CONTRADICTED if most else "partly"


def _percent(value: float) -> str:
    """Whole, but that what is not 0 does not read so."""
    return f"{value:+.0f}" if abs(value) >= 0.5 or not value else f"{value:+.1f}"


def _price(system: str, metrics: tuple[str, ...], trainings: pd.DataFrame) -> str:
    """What the cheapest of the trainings behind a table takes; "" for counts."""
    if "top1" not in metrics:
        return ""
    own = trainings[trainings["model"].str.startswith(system.lower().replace("-", "_"))]
    one = own.loc[own["flop"].idxmin()]
    price = f"{one['flop'] / 1e15:,.0f} PFLOP"
    if one["hours"] and one["hours"] == one["hours"]:
        price += f", {60 * one['hours']:.0f} minutes of an {one['device']}"
    return f"the cheapest training: {price}"


def _leads(few: few_images.Result) -> dict[str, Difference]:
    """Stack -> C-C-C-T less it, where there are enough runs for an interval."""
    found = {few.title(stack): few.difference("CCCT", stack) for stack in OTHER_STACKS}
    return {
        title: one
        for title, one in found.items()
        if one is not None and min(map(len, one.pairs.values())) >= FEWEST
    }


def _images(frame: pd.DataFrame) -> pd.Series:
    """Images that passed the networks forward and backward in each run."""
    by_steps = frame["steps"] * frame["recipe.batch_size"]
    return by_steps.fillna(frame["epochs"] * frame["dataset.train"])
