"""Tuning of learning rate and weight decay on validation images, with the same small budget for
every arm and task. Nothing here sees a test image.

Two rounds: the whole grid at a part of the steps; then the best rates, each with its better decay,
at all of them. The winner is what the confirmatory runs take. A run that diverged never wins while
another one trained.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from astroformer.data.tasks import TASKS
from astroformer.studies.cells import DIVERGED, Cell, Found, base_run
from astroformer.studies.design import Arm, Design, Profile

SIZE = "low"  # the number of images at which is tuned


@dataclass(frozen=True)
class Choice:
    """A rate and a weight decay."""

    rate: float
    decay: float

    def recipe(self) -> dict[str, object]:
        return {"learning_rate": self.rate, "weight_decay": self.decay}


@dataclass(frozen=True)
class Tuned:
    """What tuning came to for one arm on one task."""

    winner: Choice
    finalists: tuple[Choice, ...]
    at_edge: bool  # whether the winner has the lowest or highest rate of the grid
    runs: int


def grid(design: Design, profile: Profile) -> list[Choice]:
    told = design.told["tuning"]
    rates = profile.rates or tuple(told["rates"])
    decays = profile.decays or tuple(told["decays"])
    return [Choice(float(rate), float(decay)) for rate in rates for decay in decays]


def untuned(design: Design) -> Choice:
    return Choice(**design.told["tuning"]["untuned"])


def cells(
    design: Design, profile: Profile, arm: Arm, task: str, tier: int, found: Found
) -> list[Cell]:
    """The runs of both rounds for an arm on a task; those of the second when the first is over."""
    told = design.told["tuning"]
    first = [
        _cell(design, profile, arm, task, tier, choice, float(told["part"]))
        for choice in grid(design, profile)
    ]
    if any(found.of(cell) is None for cell in first):
        return first
    final = [
        _cell(design, profile, arm, task, tier, choice, 1.0)
        for choice in finalists(first, found, int(told["finalists"]))
    ]
    return first + final


def _cell(
    design: Design, profile: Profile, arm: Arm, task: str, tier: int, choice: Choice, part: float
) -> Cell:
    seed = int(design.told["tuning"]["seed"])
    run = base_run(
        arm,
        task,
        profile,
        seed=seed,
        size=SIZE,
        evaluate="validation",
        steps=part,
        **choice.recipe(),
    )
    settings = {"rate": choice.rate, "decay": choice.decay, "part": part}
    return Cell(design.name, tier, "tuning", task, arm.name, seed, run, settings)


def choice_of(cell: Cell) -> Choice:
    return Choice(cell.settings["rate"], cell.settings["decay"])


def loss_of(record: Mapping) -> float:
    """NLL on the validation images; infinite for a run that diverged."""
    value = record["metrics"].get("nll")
    return math.inf if record["status"] == DIVERGED or value is None else value


def accuracy_of(record: Mapping, metric: str) -> float:
    value = record["metrics"].get(metric)
    return -math.inf if record["status"] == DIVERGED or value is None else value


def finalists(first: list[Cell], found: Found, number: int) -> list[Choice]:
    """The better decay of each rate, and of these the best by NLL (smoother than accuracy)."""
    best: dict[float, tuple[float, Choice]] = {}
    for cell in first:
        choice = choice_of(cell)
        loss = loss_of(found.of(cell))
        if choice.rate not in best or loss < best[choice.rate][0]:
            best[choice.rate] = (loss, choice)
    ranked = sorted(best.values(), key=lambda one: (one[0], one[1].rate))
    return [choice for _, choice in ranked[:number]]


def tuned(design: Design, profile: Profile, arm: Arm, task: str, found: Found) -> Tuned | None:
    """The outcome, or None while runs are missing. By validation accuracy (the task's metric); the
    NLL breaks ties. Where every finalist diverged, the best other rate of the first round.
    """
    every = cells(design, profile, arm, task, 0, found)
    number = len(grid(design, profile))
    first, final = every[:number], every[number:]
    if not final or any(found.of(cell) is None for cell in every):
        return None
    metric = TASKS[task].metric

    def merit(cell: Cell) -> tuple[float, float]:
        record = found.of(cell)
        return accuracy_of(record, metric), -loss_of(record)

    tried = {choice_of(cell).rate for cell in final}
    others = [cell for cell in first if choice_of(cell).rate not in tried]
    if all(merit(cell)[0] == -math.inf for cell in final) and others:
        # by NLL, as in the first round; the lowest rate where nothing trained at all
        winner = min(others, key=lambda cell: loss_of(found.of(cell)))
        if loss_of(found.of(winner)) == math.inf:
            winner = min(every, key=lambda cell: choice_of(cell).rate)
    else:
        winner = max(final, key=merit)
    choice = choice_of(winner)
    rates = [one.rate for one in grid(design, profile)]
    return Tuned(
        choice,
        tuple(choice_of(cell) for cell in final),
        choice.rate in (min(rates), max(rates)),
        len(every),
    )
