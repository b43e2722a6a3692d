"""What a data set's page lacks: the runs behind the numbers that authors report, and those of
planned studies, with the command and the price of each.
"""

from collections.abc import Callable

import pandas as pd

from astroformer.counting import budget
from astroformer.counting.memory import gigabytes
from astroformer.data import DataSet
from astroformer.ledger import records, tables
from astroformer.models.options import checked_options
from astroformer.recipes import Recipe
from astroformer.studies import published, results, studies
from astroformer.training import memory_kept
from astroformer.training.run import Run
from astroformer.verdicts import verdicts

NOT_ESTIMATED = "not estimated"
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


def not_run(name: str, claims: pd.DataFrame, found: list[dict]) -> pd.DataFrame:
    """The runs asked for that the ledger lacks: the command, which says what the run needs to fit a
    GPU of 80 GB; the gigabytes that it takes there, the operations of one seed, and its GPU-hours
    where the network's speed on a GPU was measured, else NOT_ESTIMATED.

    found: all records of the ledger; the speed of a network is that of its runs on any data set
    """
    row, rows, record_of = results.subject(name), [], made(name, found)
    for asked in asked_for(name, claims):
        recipe, size = asked.recipe, asked.image_size
        if record_of(asked) is not None:
            continue
        images = recipe.steps * recipe.batch_size or row.train * recipe.epochs
        flop = budget.training_flop(
            asked.model,
            image_size=size,
            num_classes=row.classes,
            images=images,
            **dict(asked.options),
        )
        known = budget.speed_on_a_gpu(asked.model, size, found)
        hours = images / known["images_per_second"] / 3600 if known else None
        words, needed = memory_kept.on_a_card(asked, classes=row.classes)
        rows.append(
            {
                "model": " ".join([asked.model, *dict(asked.options).values()]),
                "recipe": _called(recipe),
                "pixels": size,
                "GB": gigabytes(needed.total),
                "GPU-hours": NOT_ESTIMATED if hours is None else f"{hours:.2g}",
                "PFLOP": float(f"{flop / 1e15:.3g}"),
                "speed": f"run {known['run']}, {known['device']}" if known else "",
                "command": " ".join([asked.command(located=True), *words]),
            }
        )
    columns = ("model", "recipe", "pixels", "GB", "GPU-hours", "PFLOP", "speed", "command")
    return pd.DataFrame(rows, columns=list(columns))


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


def why_not_estimated(lacking: pd.DataFrame) -> str:
    """Why hours are not estimated in the table of runs that are missing, in a sentence; "" where
    all are.
    """
    if not (lacking["GPU-hours"] == NOT_ESTIMATED).any():
        return ""
    return (
        "Hours are estimated only by the measured speed of the same network at the same size on a "
        "GPU, of which the ledger has none here: small networks reach a few hundredths of the rate "
        f"of large ones. PFLOP counts {budget.FLOP_PER_MAC} operations for each multiply-add of a "
        "training image."
    )


def _called(recipe: Recipe) -> str:
    """The recipe in a cell of a table: what is changed for other hardware stands in the command."""
    base, *changes = recipe.name.split("+")
    if len(changes) < 2:
        return recipe.name
    length = f", {recipe.steps:,} steps" if recipe.steps else ""
    return f"{base}, {recipe.batch_size:,} images a step{length}"


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
