"""Which network, recipe and number of epochs for a number of images: by the runs of the study
"few images" that were measured on the test images, and by nothing else.

What the records say is what these networks reached on the study's data sets. Another data set may
be easier or harder; the range over data sets says how much. Of many more or many fewer images than
any run of the study had, nothing is known, and that is said.

Reads top to bottom: Images (what is asked about), Known (what was measured), Suggestion, suggest.
"""

import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from astroformer import contrasts
from astroformer.counting.budget import duration
from astroformer.data.tasks import TASKS, Task
from astroformer.recipes import get_recipe, setting
from astroformer.studies import few_images
from astroformer.studies.asked import Unit
from astroformer.studies.needs import Estimator, Needs, Place
from astroformer.training.run import Run

GALAXIES, PICTURES = "galaxies", "pictures"
KINDS = (GALAXIES, PICTURES)
FEWEST = 3  # runs, below which a network's accuracy is not said
FAR = 4.0  # times as many images a class, or as few, beyond which nothing is known
STRIDE = 16  # of the networks: pixels must be a multiple of it


@dataclass(frozen=True)
class Images:
    """A data set that somebody wants to train on.

    train: training images of all classes together
    pixels: of their shorter side
    kind: GALAXIES, PICTURES, or "" where nobody says
    words: what a command must say to name them
    """

    train: int
    classes: int
    pixels: int
    kind: str = ""
    dataset: str = "folder"
    data_dir: str | None = None
    # what else says which images a folder has: arguments of `Run`, such as ("bands", "g,r,z")
    read_by: tuple[tuple[str, object], ...] = ()
    words: tuple[str, ...] = ("--dataset", "folder", "--data-dir", "ROOT")

    @property
    def each(self) -> float:
        return self.train / self.classes


@dataclass(frozen=True)
class Known:
    """What runs of one network came to on one task, measured on its test images."""

    task: Task
    each: int  # training images of a class
    arm: str
    title: str
    pixels: int
    seeds: tuple[int, ...]
    values: tuple[float, ...]  # one a seed, in percent, of the task's metric
    run: Run  # the first of them

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def kind(self) -> str:
        return GALAXIES if "galax" in self.task.name else PICTURES

    def row(self) -> dict[str, object]:
        """For a table."""
        found = contrasts.mean(list(self.values))
        low, high = max(found.low, 0.0), min(found.high, 100.0)
        return {
            "network": f"{self.run.model}, {self.title}",
            "data set": self.task.title,
            "images a class": self.each,
            "pixels": self.pixels,
            "accuracy (%)": round(self.mean, 1),
            "95 %, other seeds": f"{low:.1f} to {high:.1f}",
            "runs": len(self.values),
        }


@dataclass(frozen=True)
class Suggestion:
    """What to train, or why the records do not say it.

    near: what was measured on the data set with the nearest number of images, the best first
    level: titles of networks whose difference to the first is not told apart by its seeds
    run: the first of `near` on the user's images; None where nothing is known
    needs: seconds and more of this run in a place
    remarks: sentences that belong beside the numbers
    """

    images: Images
    near: tuple[Known, ...]
    level: tuple[str, ...]
    run: Run | None
    needs: Needs | None
    place: Place
    remarks: tuple[str, ...]
    known: bool = True  # whether any run had about as many images

    @property
    def command(self) -> str:
        if self.run is None:
            return ""
        recipe, first = self.run.recipe, self.near[0].run
        words = ["astroformer", "train", "--model", self.run.model, *self.images.words]
        words += ["--recipe", recipe.name.partition("+")[0]]
        base = get_recipe(recipe.name.partition("+")[0])
        for name in ("learning_rate", "weight_decay", "batch_size", "steps"):
            if getattr(recipe, name) != getattr(base, name):
                words += ["--set", setting(name, getattr(recipe, name))]
        for name, value in first.options:
            words += ["--model-option", setting(name, value)]
        return shlex.join([*words, "--image-size", f"{self.run.image_size}"])

    @property
    def epochs(self) -> float | None:
        """How often each image is seen."""
        if self.run is None:
            return None
        return self.run.recipe.steps * self.run.recipe.batch_size / self.images.train

    def told(self) -> dict[str, object]:
        """Plain values, for --json."""
        first = self.near[0] if self.near else None
        return {
            "training_images": self.images.train,
            "classes": self.images.classes,
            "network": self.run and self.run.model,
            "options": dict(first.run.options) if self.run and first else None,
            "recipe": self.run and self.run.recipe.canonical(),
            "image_size": self.run and self.run.image_size,
            "epochs": self.epochs and round(self.epochs, 1),
            "accuracy": first and self.known and round(first.mean, 2) or None,
            "accuracy_range": [round(v, 2) for v in self.range()] if first and self.known else None,
            "hours": self.needs and self.needs.hours,
            "where": self.place.title,
            "not_told_apart": list(self.level),
            "measured": [one.row() for one in self.near],
            "remarks": list(self.remarks),
            "command": self.command,
        }

    def range(self) -> tuple[float, float]:
        """Lowest and highest accuracy of a run of the first network."""
        return min(self.near[0].values), max(self.near[0].values)

    def lines(self) -> list[str]:
        """The answer in sentences."""
        images = self.images
        told = [
            f"{images.train:,} training images in {images.classes} classes "
            f"({images.each:,.0f} of each), {images.pixels} pixels."
        ]
        if self.run is None:
            return [*told, *self.remarks]
        first = self.near[0]
        low, high = self.range()
        told.append(
            f"Train {self.run.model} ({first.title}) with the recipe "
            f"{self.run.recipe.name.partition('+')[0]} for {self.run.recipe.steps:,} steps of "
            f"{self.run.recipe.batch_size} images: {self.epochs:,.0f} epochs of yours."
        )
        if self.known:
            told.append(
                f"On {first.task.title} with {first.each} images of each class it reached "
                f"{first.mean:.1f} % (from {low:.1f} to {high:.1f} over {len(first.values)} "
                "seeds); "
                f"guessing would reach {100 / first.task.classes:.1f} %."
            )
        if self.needs and self.needs.seconds is not None:
            rough = "" if self.needs.how == "measured" else f", by a speed that is {self.needs.how}"
            told.append(f"It takes {duration(self.needs.seconds)} on {self.place.title}{rough}.")
        else:
            told.append(f"How long it takes on {self.place.title} is not known.")
        return [*told, *self.remarks, self.command]


@lru_cache(maxsize=4)
def _measured(profile: str) -> tuple[Known, ...]:
    found = few_images.result(profile)
    return tuple(_known_of(found))


def measured(found: few_images.Result | None = None, profile: str = "cpu") -> tuple[Known, ...]:
    """Every network of the study with at least FEWEST runs on a task at a number of images."""
    return _measured(profile) if found is None else tuple(_known_of(found))


def _known_of(found: few_images.Result) -> list[Known]:
    cells = {found.found.of(cell)["run"]: cell for cell in found.cells if found.found.of(cell)}
    known, table = [], found.table[found.table["stage"].isin(["low", "middle"])]
    for (stage, task, arm), group in table.groupby(["stage", "task", "arm"], sort=False):
        cell = cells[group["run"].iloc[0]]
        if len(group) < FEWEST:
            continue
        own, size = TASKS[str(task)], few_images.STAGES[str(stage)][0]
        known.append(
            Known(
                task=own,
                each=own.each[size],
                arm=str(arm),
                title=found.title(str(arm)),
                pixels=cell.run.image_size or own.image_size,
                seeds=tuple(int(seed) for seed in group["seed"]),
                values=tuple(float(value) for value in group["value"]),
                run=cell.run,
            )
        )
    return known


def suggest(
    images: Images,
    place: Place | None = None,
    *,
    known: Sequence[Known] | None = None,
    estimator: Estimator | None = None,
) -> Suggestion:
    """What the records say of a training on so many images, and what it takes in a place (None:
    this machine's processor).
    """
    if images.kind and images.kind not in KINDS:
        raise ValueError(f"kind {images.kind!r} is not known; choose {' or '.join(KINDS)}")
    place = place or Place()
    every = measured() if known is None else tuple(known)
    alike = [one for one in every if not images.kind or one.kind == images.kind]
    if not alike:
        kind = f" of {images.kind}" if images.kind else ""
        why = f"The ledger holds no finished runs{kind} to go by, so nothing is suggested."
        return Suggestion(images, (), (), None, None, place, (why,))
    nearest = min(alike, key=lambda one: _distance(one, images))
    near = [one for one in alike if (one.task, one.each) == (nearest.task, nearest.each)]
    near.sort(key=lambda one: -one.mean)
    ratio = images.each / nearest.each
    run = _run_for(images, near[0])
    unit = Unit("suggest", "runs", "yours", run, images.classes, "")
    needs = (estimator or Estimator(place, memory=False)).of(unit)
    if not 1 / FAR <= ratio <= FAR:
        why = (
            f"That is far {'more' if ratio > 1 else 'fewer'} images of a class than any run of "
            f"the study had ({_span(one.each for one in alike)}), so the records do not say which "
            "network is best here, nor what it reaches. The command is a beginning: compare "
            "several networks on held-out images (--validation 0.2)."
        )
        return Suggestion(images, tuple(near), (), run, needs, place, (why,), known=False)
    level = tuple(one.title for one in near[1:] if not _told_apart(near[0], one))
    remarks = tuple(_remarks(images, near, level, alike))
    return Suggestion(images, tuple(near), level, run, needs, place, remarks)


def _span(numbers: Iterable[int]) -> str:
    low, *_, high = sorted([*numbers] * 2)
    return f"{low}" if low == high else f"{low} to {high}"


def _distance(one: Known, images: Images) -> float:
    """Images of a class count most, then the number of classes."""
    return abs(math.log(one.each / images.each)) + 0.5 * abs(
        math.log(one.task.classes / images.classes)
    )


def _run_for(images: Images, one: Known) -> Run:
    """The run of the study on the user's images: the same network, recipe, tuned rate and decay,
    steps and pixels, where the images have as many.
    """
    recipe = one.run.recipe
    batch = min(recipe.batch_size, max(2, images.train // 2 * 2))
    pixels = min(one.pixels, max(2 * STRIDE, images.pixels // STRIDE * STRIDE))
    return replace(
        one.run,
        dataset=images.dataset,
        data_dir=images.data_dir,
        **dict(images.read_by),
        recipe=replace(recipe, batch_size=batch),
        image_size=pixels,
        fraction=1.0,
        validation=0.0,
        evaluate="auto",
        seed=0,
    )


def _told_apart(one: Known, other: Known) -> bool:
    """Whether the 95 % interval of their difference, seed by seed, leaves zero out."""
    theirs = dict(zip(other.seeds, other.values))
    both = [(v, theirs[seed]) for seed, v in zip(one.seeds, one.values) if seed in theirs]
    if len(both) < contrasts.contrast.PAIR:
        return False
    found = contrasts.paired(*zip(*both))
    return found.low > 0 or found.high < 0


def _remarks(
    images: Images, near: Sequence[Known], level: Sequence[str], alike: Sequence[Known]
) -> list[str]:
    first, told = near[0], []
    if level:
        told.append(
            f"{', '.join(level)} {'is' if len(level) == 1 else 'are'} not told apart from it by so "
            "few seeds."
        )
    others = {one.task.title: one.mean for one in alike if one.arm == first.arm}
    others.pop(first.task.title, None)
    listed = ", ".join(f"{title} {value:.1f} %" for title, value in others.items())
    told.append(
        "Your images may be easier or harder"
        + (f": the same network reached, on other data sets, {listed}." if listed else ".")
    )
    if not images.kind:
        told.append(f"Say --like {GALAXIES} or --like {PICTURES} to go by such images alone.")
    if images.pixels > first.pixels * 1.5:
        told.append(
            f"The study trained at {first.pixels} pixels and yours have {images.pixels}: larger "
            "images may tell more, at a cost that grows with their area."
        )
    return told
