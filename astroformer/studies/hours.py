"""What the training behind each reported accuracy takes on one GPU: hours by the measured speed of
that network at that size, kilowatt-hours by the power of the board. Nothing is estimated from
another network or another size.
"""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from astroformer.counting import budget
from astroformer.counting.cards import card_of
from astroformer.data import DATASETS
from astroformer.speed import answers
from astroformer.studies import published
from astroformer.training.run import Run

ACCURACIES = ("top1", "top5")


class Speed(NamedTuple):
    """Of a network at a size on a GPU."""

    device: str
    images_per_second: float
    how: str  # "a training with data", or "steps without data"


def speed_of(model: str, image_size: int, frame: pd.DataFrame, found: list[dict]) -> Speed | None:
    """The measured speed of our network: of a training with data if there is one, else of its
    fastest step; the fastest device of several.

    frame: `speed.kept.frame()`; found: the ledger's runs
    """
    for what, how in (("training", "a training with data"), ("step", "steps without data")):
        rows = answers.of(frame, what)
        if len(rows):
            rows = rows[
                (rows["model"] == model)
                & (rows["image_size"] == image_size)
                & rows["contestant"].str.startswith("ours")
                & rows["device"].map(answers.on_a_gpu)
            ]
        own = [Speed(row["device"], row["images_per_second"], how) for _, row in rows.iterrows()]
        run = budget.speed_on_a_gpu(model, image_size, found) if what == "training" else None
        if run:
            own.append(Speed(run["device"], run["images_per_second"], how))
        if own:
            return max(own, key=lambda one: one.images_per_second)
    return None


def trainings(claims: pd.DataFrame) -> dict[Run, tuple[str, str, str]]:
    """Each training behind an accuracy that authors report, once: network, data set, and the
    accuracy as it is printed.
    """
    own = claims[
        claims["metric"].isin(ACCURACIES) & (claims["by"] == "authors") & (claims["model"] != "")
    ]
    found: dict[Run, tuple[str, str, str]] = {}
    for claim in own.itertuples():
        run = published.run_behind(claim)
        found.setdefault(run, (claim.model, claim.dataset, claim.value))
    return found


def images_of(run: Run) -> int:
    """Images that pass the network forward and backward, all epochs together."""
    recipe = run.recipe
    return recipe.steps * recipe.batch_size or DATASETS[run.dataset].train * recipe.epochs


def of_claims(claims: pd.DataFrame, frame: pd.DataFrame, found: list[dict]) -> pd.DataFrame:
    """A row for each training behind a reported accuracy: model, dataset, reported, image_size,
    images, flop, device, hours, kwh (of the whole board at its published power), how; None where
    nothing is measured or published.
    """
    rows = []
    for run, (model, dataset, reported) in trainings(claims).items():
        images, known = images_of(run), speed_of(run.model, run.image_size, frame, found)
        flop = budget.training_flop(
            run.model,
            image_size=run.image_size,
            num_classes=DATASETS[run.dataset].classes,
            images=images,
        )
        hours = images / known.images_per_second / 3600 if known else None
        card = card_of(known.device) if known else None
        rows.append(
            {
                "model": model,
                "dataset": dataset,
                "reported": reported,
                "image_size": run.image_size,
                "images": images,
                "flop": flop,
                "device": known.device if known else None,
                "hours": hours,
                "kwh": hours * card.watts / 1000 if card and hours else None,
                "how": known.how if known else None,
            }
        )
    return pd.DataFrame(rows)


def measured(rows: pd.DataFrame) -> Iterable[dict]:
    return rows[rows["hours"].notna()].to_dict("records")
