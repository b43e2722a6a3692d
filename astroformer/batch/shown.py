"""What the page on running at scale shows: the budget of the published tables by card, how planning
grows, what the test under Slurm saw.
"""

import json
from collections.abc import Sequence

import pandas as pd

from astroformer.batch import scale
from astroformer.ledger import links, records
from astroformer.speed import kept
from astroformer.studies import asked, needs, results
from astroformer.studies.asked import Unit
from astroformer.studies.needs import Estimator, Place

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
            found = estimator.of(unit)
            near = "" if found.how == needs.MEASURED else "~"
            hours, energy = _amount(found.hours), _amount(found.kwh)
            row[f"{card}: h (kWh)"] = f"{near}{hours} ({energy})" if hours else "not known"
        rows.append(row)
    return pd.DataFrame(rows)


def _of_tables(cards: Sequence[str]) -> tuple[list[Unit], dict[str, Estimator]]:
    """One seed of each run behind the published tables, and what counts its hours on each card."""
    known, speeds = records.read(), kept.frame()
    units = [u for u in asked.asked(TABLES, "paper", known=known).units if u.run.seed == 0]
    return units, {
        card: Estimator(Place.named(card, "cuda"), known, speeds, memory=False) for card in cards
    }


def _amount(value: float | None) -> str:
    """With two digits, whole ones from a hundred on."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


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


def missing(cards: Sequence[str]) -> pd.DataFrame:
    """The runs behind published numbers (one seed each) and planned re-runs that the ledger lacks:
    a row for each data set's page, with what they take on each card as in `budget`, and the line
    that makes them on a GPU.
    """
    known, speeds = records.read(), kept.frame()
    estimators = {
        card: Estimator(Place.named(card, "cuda"), known, speeds, memory=False) for card in cards
    }
    rows = []
    for page, subject in asked.subjects().items():
        found = asked.asked([page], "paper", known=known)
        if not found.missing:
            continue
        title = results.subject(subject).title
        row = {"data set": links.to(f"{page}.html", title), "runs missing": len(found.missing)}
        for card, estimator in estimators.items():
            needed = [estimator.of(unit) for unit in found.missing]
            hours, energy = (
                sum(getattr(one, what) or 0.0 for one in needed) for what in ("hours", "kwh")
            )
            near = "" if all(one.how == needs.MEASURED for one in needed) else "~"
            row[f"{card}: h (kWh)"] = f"{near}{_amount(hours)} ({_amount(energy)})"
        rows.append(row)
    return links.frame(rows)


def missing_words(lacking: pd.DataFrame, card: str) -> dict[str, object]:
    """What a page says of `missing`: runs, and days of one card."""
    if not len(lacking):
        return {"runs": 0, "days": "0", "card": card}
    column = lacking[f"{card}: h (kWh)"].str.extract(r"([\d.,]+)")[0]
    hours = column.str.replace(",", "").astype(float).sum()
    return {"runs": int(lacking["runs missing"].sum()), "days": _amount(hours / 24), "card": card}


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
