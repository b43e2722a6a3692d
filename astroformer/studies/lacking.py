"""What a data set's page lacks, with the command and the price of each run: memory, hours by the
same rule as everywhere (`needs.Estimator`), operations.
"""

import pandas as pd

from astroformer.counting import budget
from astroformer.counting.memory import gigabytes
from astroformer.recipes import Recipe
from astroformer.studies import missing, needs, results
from astroformer.studies.asked import Unit
from astroformer.studies.needs import Estimator, Place
from astroformer.training import memory_kept


def not_run(name: str, claims: pd.DataFrame, found: list[dict], card: str = "") -> pd.DataFrame:
    """The runs asked for that the ledger lacks: the command, which says what the run needs to fit a
    GPU of 80 GB; the gigabytes that it takes there, the operations of one seed, and its hours on a
    card, with a `~` where the network's speed at that size is not measured there.

    found: all records of the ledger
    card: its name, such as "A100 SXM 80 GB"; "" or "cpu": `needs.USUAL_CARD`
    """
    row, rows, record_of = results.subject(name), [], missing.made(name, found)
    place = _place(card)
    estimator = Estimator(place, found, memory=False)
    for asked in missing.asked_for(name, claims):
        recipe, size = asked.recipe, asked.image_size
        if record_of(asked) is not None:
            continue
        flop = budget.training_flop(
            asked.model,
            image_size=size,
            num_classes=row.classes,
            images=needs.images_of(asked),
            **dict(asked.options),
        )
        unit = Unit(name, "", asked.model, asked, row.classes, name)
        words, needed = memory_kept.on_a_card(asked, classes=row.classes)
        rows.append(
            {
                "model": " ".join([asked.model, *dict(asked.options).values()]),
                "recipe": _called(recipe),
                "pixels": size,
                "GB": gigabytes(needed.total),
                "hours": needs.hours_text([estimator.of(unit)]),
                "PFLOP": float(f"{flop / 1e15:.3g}"),
                "command": " ".join([asked.command(located=True), *words]),
            }
        )
    columns = ("model", "recipe", "pixels", "GB", "hours", "PFLOP", "command")
    return pd.DataFrame(rows, columns=list(columns))


def hours_in_words(lacking: pd.DataFrame, card: str = "") -> str:
    """Of which card the hours of `not_run` are, and how far they can be relied on; "" without
    runs.
    """
    if not len(lacking):
        return ""
    said = f"Hours are those of one seed on {_place(card).title}."
    if lacking["hours"].str.startswith("~").any():
        said += (
            " A `~` marks a speed that is not measured there for that network and size: they follow"
            " from the part of a card's published rate that the measured step of nearest size "
            "reached, and may be several times too many."
        )
    return (
        f"{said} PFLOP counts {budget.FLOP_PER_MAC} operations for each multiply-add of a "
        "training image."
    )


def _place(card: str) -> Place:
    return Place.named("" if card == "cpu" else card, "cuda")


def _called(recipe: Recipe) -> str:
    """The recipe in a cell of a table: what is changed for other hardware stands in the command."""
    base, *changes = recipe.name.split("+")
    if len(changes) < 2:
        return recipe.name
    length = f", {recipe.steps:,} steps" if recipe.steps else ""
    return f"{base}, {recipe.batch_size:,} images a step{length}"
