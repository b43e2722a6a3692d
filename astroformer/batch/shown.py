"""What the page on running at scale shows: the budget of the published tables by card, how planning
grows, what the test under Slurm saw.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from astroformer.batch import scale
from astroformer.ledger import links, records
from astroformer.speed import kept
from astroformer.studies import asked, needs, results
from astroformer.studies.asked import Unit
from astroformer.studies.needs import Estimator, Needs, Place

TABLES = ("table_astroformer", "table_spectformer", "table_vit_cifar")
SLURM = scale.KEPT / "slurm.jsonl"


def budget(cards: Sequence[str]) -> pd.DataFrame:
    """One seed of each run behind the published tables: network, data set, pixels, images, and for
    each card the hours and, in brackets, the energy of its board; a `~` before those of a speed
    that is not measured there. The multiply-adds are those of the closed forms.
    """
    units, estimators = _of_tables(cards)
    rows = []
    for unit in units:
        images = needs.images_of(unit.run) / 1e6
        row = {"network": unit.run.model, "data": unit.label.split(", ")[1]}
        row |= {"pixels": needs.pixels_of(unit.run), "images (millions)": round(images, 1)}
        for card, estimator in estimators.items():
            row[f"{card}: h (kWh)"] = _priced([estimator.of(unit)])
        rows.append(row)
    return pd.DataFrame(rows)


def _of_tables(cards: Sequence[str]) -> tuple[list[Unit], dict[str, Estimator]]:
    """One seed of each run behind the published tables, and what counts its hours on each card."""
    known = records.read()
    units = [u for u in asked.asked(TABLES, "paper", known=known).units if u.run.seed == 0]
    return units, _estimators(cards, known)


def _estimators(cards: Sequence[str], known: list[dict]) -> dict[str, Estimator]:
    speeds = kept.frame()
    return {
        card: Estimator(Place.named(card, "cuda"), known, speeds, memory=False) for card in cards
    }


def _priced(needed: Sequence[Needs]) -> str:
    """`needs.hours_text` of some runs and, in brackets, their energy; "not known" without hours."""
    powered = [one.kwh for one in needed if one.kwh]
    if not any(one.hours for one in needed):
        return needs.hours_text(needed)
    return f"{needs.hours_text(needed)} ({needs.amount(sum(powered)) if powered else ''})"


def budget_words(cards: Sequence[str]) -> str:
    """What the tables come to, and by what the hours are known, in sentences."""
    units, estimators = _of_tables(cards)
    parts = []
    for card, estimator in estimators.items():
        found = [estimator.of(unit) for unit in units]
        hours = sum(one.hours or 0.0 for one in found)
        measured = sum(one.how == needs.MEASURED for one in found)
        parts.append(f"{hours / 24:,.0f} days of one {card} ({measured} of {len(found)} measured)")
    return "One seed of all rows together: " + ", ".join(parts) + "."


@dataclass(frozen=True)
class Missing:
    """The runs behind published numbers (one seed each) and planned re-runs that the ledger lacks.

    needed: page of a data set -> card -> what each of its runs needs there
    """

    needed: dict[str, dict[str, list[Needs]]]

    @classmethod
    def on(cls, cards: Sequence[str]) -> "Missing":
        known = records.read()
        estimators, needed = _estimators(cards, known), {}
        for page in asked.subjects():
            if units := asked.asked([page], "paper", known=known).missing:
                needed[page] = {c: [e.of(unit) for unit in units] for c, e in estimators.items()}
        return cls(needed)

    def table(self) -> pd.DataFrame:
        """A row for each data set, which leads to its page; hours and energy as in `budget`."""
        subjects, rows = asked.subjects(), []
        for page, cards in self.needed.items():
            title = results.subject(subjects[page]).title
            runs = max(map(len, cards.values()), default=0)
            row = {"data set": links.to(f"{page}.html", title), "runs missing": runs}
            rows.append(row | {f"{card}: h (kWh)": _priced(own) for card, own in cards.items()})
        return links.frame(rows)

    def words(self, card: str) -> dict[str, object]:
        """What a page says: runs, and days of one card."""
        every = [one for cards in self.needed.values() for one in cards[card]]
        hours = sum(one.hours or 0.0 for one in every)
        return {"runs": len(every), "days": needs.amount(hours / 24), "card": card}


def growth() -> pd.DataFrame:
    """Seconds of planning by the number of runs: a row a step."""
    rows = scale.frame()
    if not len(rows):
        return rows
    table = rows.pivot(index="step", columns="runs", values="seconds")
    table = table.rename(columns=lambda number: f"{number:,} runs (s)").loc[list(scale.STEPS)]
    return table.rename_axis(columns=None).reset_index()


def growth_words() -> str:
    rows = scale.frame()
    if not len(rows):
        return "Not measured yet: `python -m astroformer.batch.scale --keep`."
    row = rows.iloc[-1]
    commit = (row["git"].get("commit") or "no commit")[:12]
    whole = rows.pivot(index="step", columns="runs", values="seconds")
    last, before = sorted(whole.columns)[-1], sorted(whole.columns)[-2]
    most = (whole[last] / whole[before]).max()
    return (
        f"{last // before} times the runs take at most {most:.1f} times as long. Measured on "
        f"{row['device']}, commit {commit}."
    )


def slurm() -> pd.DataFrame:
    """What the newest test under Slurm saw, a row a test; empty where none is kept."""
    lines = SLURM.read_text().splitlines() if SLURM.is_file() else []
    rows = pd.DataFrame([json.loads(line) for line in lines])
    if not len(rows):
        return rows
    rows = rows.drop_duplicates("test", keep="last")
    rows["what"] = rows["test"].str.removeprefix("test_").str.replace("_", " ")
    columns = ["what", "seconds", "jobs", "runs", "starts", "processes"]
    for name in columns:
        if name not in rows:
            rows[name] = None
    for name in columns[1:]:
        rows[name] = ["" if pd.isna(value) else f"{value:.0f}" for value in rows[name]]
    return rows[columns]
