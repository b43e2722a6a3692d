"""What the first page and README.md say first: each claim of principle and each reported table with
its verdict, the strongest evidence, and what it would take to decide it. Nothing of it is typed.
"""

from collections import Counter
from dataclasses import dataclass

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
    SUPPORTED,
    UNDECIDED,
    interval_of,
)
from astroformer.studies.runner import plan
from astroformer.verdicts import verdicts

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
STACKS = {"CCTT": "C-C-T-T", "CTTT": "C-T-T-T", "CCCC": "C-C-C-C"}  # beside C-C-C-T
DATASETS = ("CIFAR-10", "CIFAR-100", "Tiny ImageNet", "Galaxy10 DECaLS")


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
    changes: percent by which moving an image changes the logits: `trained.changes`
    flop: of all trainings of the ledger together; `cheapest`: of the cheapest printed accuracy of
        Astroformer
    """

    rows: tuple[Row, ...]
    excess: pd.DataFrame
    agree: dict[str, float]
    leads: dict[str, Contrast]
    changes: pd.DataFrame
    runs: int
    flop: float
    cheapest: float

    def row(self, claim: str) -> Row:
        return next(row for row in self.rows if row.claim == claim)


def first_page(profile: str = "cpu", found: list[dict] | None = None) -> FirstPage:
    """Of the ledger as it is now.

    profile: of the studies' designs; found: all records
    """
    found = records.read() if found is None else found
    claims = reported.read()
    beside = pd.concat(
        [cost.reported_beside_counted(claims, name) for name in DATASETS], ignore_index=True
    )
    beside = beside[beside["model"].str.startswith("astroformer")]
    agree = cost.agreement(beside)
    trainings = hours.of_claims(claims, kept.frame(), found)
    own = trainings[trainings["model"].str.startswith("astroformer")]
    whole = records.unique(records.frame(found))
    rows = [
        *_of_principle(profile, found, claims),
        *_of_tables(claims, found, agree, trainings),
    ]
    return FirstPage(
        rows=tuple(sorted(rows, key=lambda row: ORDER.index(row.verdict))),
        excess=cost.reported_over_counted(beside).assign(model=beside["model"]),
        agree=agree,
        leads=_leads(profile, found),
        changes=trained.changes(trained.read()),
        runs=len(whole),
        flop=float((FLOP_PER_MAC * whole["macs"] * _images(whole)).sum()),
        cheapest=float(own["flop"].min()),
    )


def facts(page: FirstPage) -> dict[str, object]:
    """What the first sentences say."""
    few = page.row(principles.PRINCIPLES[few_images_claim()].short)
    moves = page.row("Astroformer keeps translational equivariance")
    accuracies = page.row("Astroformer's printed accuracies")
    return {
        "few_verdict": few.word,
        "few_number": few.evidence or "no run was made yet",
        "moves_verdict": moves.word,
        "moves_number": moves.evidence,
        "params_agree": page.agree["params_agree"],
        "params_rows": page.agree["rows"],
        "accuracies": accuracies.evidence,
        "runs": f"{page.runs:,}",
        "petaflop": f"{page.flop / 1e15:,.1f}",
        "cheapest": f"{page.cheapest / 1e15:,.0f}",
        "counted": counted(page),
    }


def few_images_claim() -> str:
    """The comparison that the paper's central claim asks for."""
    return next(iter(principles.PRINCIPLES))


def counted(page: FirstPage) -> str:
    """ "3 contradicted, 1 partly, 8 not run": the board in a line."""
    words = Counter(row.word for row in page.rows)
    return ", ".join(f"{number} {word}" for word, number in words.items())


def _of_principle(profile: str, found: list[dict], claims: pd.DataFrame) -> list[Row]:
    board = principles.board(profile, found, claims)
    return [
        Row(
            claim=row["short"],
            verdict=row["verdict"],
            pilot=row["pilot"],
            evidence=row["brief"],
            to_decide=_left(row, profile),
            page=row["page"],
        )
        for row in board.to_dict("records")
    ]


def _left(row: dict, profile: str) -> str:
    """How much of its study is still to be made."""
    if row["verdict"] not in (UNDECIDED, NOT_RUN):
        return ""
    if not row["study"]:
        return "a study; none asks for it yet"
    table = plan([row["study"]], profile)
    runs, left = int(table["runs"].sum()), int((table["runs"] - table["done"]).sum())
    return f"{left:,} of {runs:,} small runs" if left else "more seeds"


def _of_tables(
    claims: pd.DataFrame, found: list[dict], agree: dict, trainings: pd.DataFrame
) -> list[Row]:
    judged = verdicts.verdicts(claims, records.frame(found), audit.read())
    judged = judged[judged["by"] == "authors"]
    rows = []
    for system, metrics, claim, page in TABLES:
        own = judged[(judged["system"] == system) & judged["metric"].isin(metrics)]
        words = Counter(own["verdict"])
        verdict = max(words, key=lambda word: (words[word], -ORDER.index(word)))
        evidence = ", ".join(f"{words[word]} {word}" for word in sorted(words, key=ORDER.index))
        if system == "Astroformer" and metrics[0] in ("params", "flops"):
            least, most = agree[f"{metrics[0]}_least"], agree[f"{metrics[0]}_most"]
            evidence += f"; {least:+.0f} to {most:+.0f} % from the released networks"
        elif "top1" in metrics:
            evidence = f"{len(own)} numbers: {evidence}"
        rows.append(Row(claim, verdict, False, evidence, _price(system, metrics, trainings), page))
    return rows


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


def _leads(profile: str, found: list[dict]) -> dict[str, Contrast]:
    study = few_images.result(profile, found)
    leads = {}
    for stack in STACKS:
        one = study.difference("CCCT", stack)
        if one is not None and min(map(len, one.pairs.values())) >= FEWEST:
            leads[STACKS[stack]] = interval_of(one)
    return leads


def _images(frame: pd.DataFrame) -> pd.Series:
    """Images that passed the networks forward and backward in each run."""
    by_steps = frame["steps"] * frame["recipe.batch_size"]
    return by_steps.fillna(frame["epochs"] * frame["dataset.train"])
