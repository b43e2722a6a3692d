"""Claims and ledger records made for the tests of verdicts."""

from dataclasses import asdict

import pandas as pd

from astroformer.ledger import claims, records
from astroformer.recipes import get_recipe
from astroformer.verdicts import verdicts

EMPTY = records.frame([])
WEIGHTS = {"file": "last.pt", "sha256": "w"}
README, SMOKE, METHODOLOGY = (
    asdict(get_recipe(name)) for name in ("readme", "smoke", "methodology")
)
GALAXY10 = {"title": "Galaxy10 DECaLS", "source": "galaxy10_decals", "test": 1_774}
FAILED = dict(status="failed", metrics={"top1": 10.0}, history=[])


def claim(**changes):
    """One claim as a table, with its number as the reader of the file makes it."""
    row = (
        dict(
            system="Astroformer",
            model="astroformer_3",
            dataset="CIFAR-10",
            metric="top1",
            value="90.00",
            unit="%",
            by="authors",
            source="Astroformer README",
            table="Main Results",
            conditions="one run",
        )
        | changes
    )
    number, qualifier = claims.parse(row["value"], row["unit"]), claims.qualifier(row["value"])
    return pd.DataFrame([row | {"number": number, "qualifier": qualifier}])


def history(*accuracies):
    """What a record tells of its epochs."""
    return [{"epoch": epoch, "top1": top1} for epoch, top1 in enumerate(accuracies, 1)]


def record(top1=90.0, **changes):
    """A record of a whole run of the claim's network; its best epoch is its last."""
    dataset = {
        "title": "CIFAR-10",
        "kind": "real",
        "sha256": "s",
        "source": "cifar10",
        "train": 50_000,
        "test": 10_000,
        "evaluated_on": "test",
    } | changes.pop("dataset", {})
    plain = dict.fromkeys(records.FIELDS) | dict(
        status="completed",
        model="astroformer_3",
        stack="CCCT",
        options={},
        image_size=224,
        dataset=dataset,
        fraction=1.0,
        recipe=README,
        seed=0,
        precision="float32",
        seconds=100.0,
        device="a card",
        metrics={"top1": top1},
        history=history(top1 - 5, top1) if top1 is not None else [],
        started="2026-01-01T00:00:00+00:00",
        origin="committed",
    )
    return plain | {"run": str((top1, changes))} | changes


def seeds(*accuracies, first=0, **changes):
    """Records that differ in nothing but the seed."""
    return [
        record(top1, **{"run": f"run {seed} {changes}", "seed": seed} | changes)
        for seed, top1 in enumerate(accuracies, first)
    ]


def runs(*accuracies, **changes):
    return records.frame(seeds(*accuracies, **changes))


def judged(table, frame=EMPTY):
    """(verdict, measured, why) of the first claim."""
    row = verdicts.verdicts(table, frame).iloc[0]
    return row["verdict"], row["measured"], row["why"]
