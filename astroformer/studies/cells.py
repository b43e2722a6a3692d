"""A cell of a study: one run, with what it is for. And the index by which records are found that
answer a run, without its images at hand.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from astroformer.data.tasks import TASKS
from astroformer.ledger import identity, records
from astroformer.models import NAMES
from astroformer.models.options import checked_options
from astroformer.recipes import get_recipe
from astroformer.recipes import replace as changed
from astroformer.studies.design import Arm, Profile
from astroformer.training.run import YOUNGER, Run

# Of a run whose numbers decide nothing more: a loss or a logit was not finite.
DIVERGED = "failed"


@dataclass(frozen=True)
class Cell:
    """One run of a study. Cells of a lower tier are made first, of one tier in the order given."""

    study: str
    tier: int
    stage: str
    task: str
    arm: str
    seed: int
    run: Run
    settings: Mapping[str, object] = field(default_factory=dict, compare=False)  # of this stage

    @property
    def key(self) -> str:
        return key_of_run(self.run)


def base_run(
    arm: Arm,
    task: str,
    profile: Profile,
    *,
    seed: int,
    size: str,
    evaluate: str = "test",
    pixels: int | None = None,
    steps: float = 1.0,
    **recipe: object,
) -> Run:
    """A run of an arm on a task under a profile.

    size: "low" or "middle", how many training images
    evaluate: the split of the final metrics
    steps: times the profile's or the task's number, or (above 10) the number itself
    recipe: changes of the task's recipe
    """
    about = TASKS[task]
    number = profile.steps or about.steps
    number = int(steps) if steps > 10 else round(number * steps)
    return Run(
        model=arm.model or profile.model,
        dataset="folder",
        data_dir=about.name,
        image_size=pixels or profile.pixels or about.image_size,
        recipe=get_recipe(about.recipe, **{"steps": number, **recipe}),
        options=arm.options,
        seed=seed,
        fraction=about.fraction(size),
        validation=about.validation,
        evaluate=evaluate,
    )


def with_recipe(run: Run, **changes: object) -> Run:
    return replace(run, recipe=changed(run.recipe, **changes))


# Which record answers which run


@lru_cache(maxsize=8192)
def key_of_run(run: Run) -> str:
    """What decides a run's outcome and is known without its images and its device, as text."""
    asked = run.settled().asked()
    return _text(asked | {"folder": run.data_dir, "image_size": run.image_size})


def key_of_record(record: Mapping) -> str | None:
    """The same of a record; None for one of another revision, or of networks or options that are
    not known any more.
    """
    found = identity.of(record)
    if identity.revision(record) != identity.REVISION or found["model"] not in NAMES:
        return None
    try:
        options = checked_options(found["model"], found["options"])
    except ValueError:
        return None
    return _text(found | {"options": options, "folder": record["dataset"]["name"]})


KEYED = (
    *("model", "options", "dataset", "folder", "image_size", "fraction", "class_fraction"),
    *("validation", "evaluated_on", "init", "recipe", "seed"),
)


def _text(found: Mapping[str, object]) -> str:
    told = {name: found.get(name) for name in KEYED}
    younger = {name: found[name] for name in YOUNGER if found.get(name)}
    return json.dumps(told | younger, sort_keys=True)


def once(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Each run of a stage once, at its first place: a profile's seeds stand in for those of every
    part of an order, so that two parts may ask for the same run.
    """
    found: dict[tuple, Cell] = {}
    for cell in cells:
        found.setdefault((cell.stage, cell.task, cell.arm, cell.seed, cell.key), cell)
    return tuple(found.values())


class Found:
    """The records that answer runs, by `Cell.key`: of several the newest that was completed, else
    the newest that failed. `other_revisions` counts what a study asked for and cannot be compared
    any more (`key_of_record`): it is left out.
    """

    def __init__(self, known: Iterable[Mapping]):
        self.by_key: dict[str, Mapping] = {}
        self.other_revisions = 0
        for record in known:
            if record["status"] == "interrupted":
                continue
            key = key_of_record(record)
            if key is None:
                self.other_revisions += bool(record.get("study"))
                continue
            older = self.by_key.get(key)
            if older is None or older["status"] == DIVERGED or record["status"] == "completed":
                self.by_key[key] = record

    def of(self, cell: "Cell | Run") -> Mapping | None:
        run = cell.run if isinstance(cell, Cell) else cell
        return self.by_key.get(key_of_run(run))


def found_in(known: "Iterable[Mapping] | Found | None") -> Found:
    """The index of some records; of the whole ledger if none are given."""
    if isinstance(known, Found):
        return known
    return Found(records.read() if known is None else known)
