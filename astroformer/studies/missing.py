"""The runs that a data set's page asks for: those behind the numbers that authors report, and those
of planned studies; and which record of the ledger answers one. `lacking.py` has what the missing
ones take.
"""

from collections.abc import Callable

import pandas as pd

from astroformer.data import DataSet
from astroformer.ledger import records, tables
from astroformer.models.options import checked_options
from astroformer.studies import published, results, studies
from astroformer.training.run import Run
from astroformer.verdicts import verdicts

# The studies that are planned beside the runs of the claims, as far as they are about a data set.
PLANNED = ("public_reruns", "recipes", "tiny_imagenet")


def asked_for(name: str, claims: pd.DataFrame) -> list[Run]:
    """The runs behind the accuracies that authors report on the data set, then those of PLANNED on
    it, each once and of one seed.
    """
    row = results.subject(name)
    own = claims[
        (claims["dataset"] == row.title)
        & claims["metric"].isin(results.ACCURACIES)
        & (claims["by"] == "authors")
        & (claims["model"] != "")
    ]
    behind = [published.run_behind(claim) for claim in own.itertuples()]
    planned = [
        run
        for study in PLANNED
        for run in studies.get_study(study).variations.values()
        if (run.dataset, run.data_dir)
        == (("folder", row.name) if name in results.FOLDERS else (name, None))
    ]
    return list(dict.fromkeys([*behind, *planned]))


def made(name: str, found: list[dict]) -> Callable[[Run], dict | None]:
    """A function that gives the record that answers a run asked for on the data set, whichever its
    seed, or None.

    found: all records of the ledger
    """
    row = results.subject(name)
    runs = records.unique(tables.of_no_study(records.frame(results.of(name, found))))
    runs = runs[_whole(runs, row)] if len(runs) else runs
    by_hash = {record["run"]: record for record in found if record["status"] == "completed"}
    known = [(_values(run), by_hash[run["run"]]) for _, run in runs.iterrows()]

    def record_of(asked: Run) -> dict | None:
        values = (asked.model, dict(asked.options), asked.image_size, asked.recipe.canonical())
        return next((record for key, record in known if key == values), None)

    return record_of


def _values(run: pd.Series) -> tuple[str, dict, int, dict]:
    """Network, its options, pixels and the values of the recipe, whatever it was called."""
    options = checked_options(run["model"], dict(run["identity"]["options"]))
    return run["model"], options, run["image_size"], run["identity"]["recipe"]


def _whole(runs: pd.DataFrame, row: DataSet) -> list[bool]:
    """Of each run, whether it may stand beside a claim about the data set, or could if it were real
    and of the network as released.
    """
    real = runs.drop(columns=[name for name in runs if str(name).startswith("options.")])
    real = real.assign(**{"dataset.kind": "real", "stack": None})

    def is_whole(run: pd.Series) -> bool:
        names = (one for one in verdicts.IMAGE_SIZES if run["model"].startswith(one.lower()))
        about = verdicts.Subject(row.title, next(names, "Astroformer"))
        return run["dataset.train"] == row.train and not verdicts.barred(run, about)

    return [is_whole(run) for _, run in real.iterrows()]
