"""The study "few images": does C-C-C-T generalise better than C-C-T-T and C-T-T-T when there are
few images to train on? Its design is `book/studies/few_images.yml`.

`cells` says which runs it consists of as far as can be said (confirmatory runs follow from the
tuning). `Result` is what they came to: the primary comparison, the family of secondary ones, and
the tables that the page shows.
"""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from astroformer import contrasts
from astroformer.counting.cost import model_cost
from astroformer.data.tasks import TASKS
from astroformer.ledger import links
from astroformer.studies import design as designs
from astroformer.studies import devices, tuning
from astroformer.studies.answers import Answer, answer, signed
from astroformer.studies.cells import Cell, Found, base_run, found_in, once
from astroformer.studies.design import Design, Part, Profile
from astroformer.studies.outcomes import Difference, by_seed, difference, outcomes
from astroformer.studies.tuning import Choice

NAME = "few_images"
# stage -> (number of images, times the steps)
STAGES = {
    "low": ("low", 1.0),
    "middle": ("middle", 1.0),
    "untuned": ("low", 1.0),
    "twice": ("low", 2.0),
    "larger": ("low", 1.0),
}
# the stages that measure the primary comparison otherwise -> how, as a table says it
ELSEWISE = {
    "twice": "twice the steps",
    "untuned": "one rate for all stacks",
    "middle": "more images",
    "larger": "64 pixels",
}
COLUMNS_ELSEWISE = ("measured", "points", "at first", "moved", "low", "high", "seeds", "data sets")


def cells(design: Design, profile: Profile, found: Found) -> list[Cell]:
    """In the order in which they are made. A task's confirmatory runs come when the tuning of all
    arms of the part is over there.
    """
    return [
        cell for part in design.parts(profile) for cell in _cells_of(design, profile, part, found)
    ]


def _cells_of(design: Design, profile: Profile, part: Part, found: Found) -> list[Cell]:
    arms = [design.arms[name] for name in part.arms]
    if part.stage == "tuning":
        return [
            cell
            for task in part.tasks
            for arm in arms
            for cell in tuning.cells(design, profile, arm, task, part.tier, found)
        ]
    designs.known(design.name, "stage", part.stage, ("tuning", *STAGES))
    chosen = {
        task: choices
        for task in part.tasks
        if (choices := _choices(design, profile, part, task, found)) is not None
    }
    return [
        cell_of(design, profile, part, arm.name, task, seed, choices[arm.name])
        for seed in profile.seeds or part.seeds
        for task, choices in chosen.items()
        for arm in arms
    ]


def _choices(
    design: Design, profile: Profile, part: Part, task: str, found: Found
) -> dict[str, Choice] | None:
    """Rate and decay of each arm, or None while one is not tuned."""
    if part.stage == "untuned":
        return dict.fromkeys(part.arms, tuning.untuned(design))
    as_which = dict(part.tuned_as)
    choices = {}
    for name in part.arms:
        source = design.arms[as_which.get(name, name)]
        outcome = tuning.tuned(design, profile, source, task, found)
        if outcome is None:
            return None
        choices[name] = outcome.winner
    return choices


def cell_of(
    design: Design,
    profile: Profile,
    part: Part,
    arm: str,
    task: str,
    seed: int,
    choice: Choice,
) -> Cell:
    """One confirmatory run."""
    size, steps = STAGES[part.stage]
    run = base_run(
        design.arms[arm],
        task,
        profile,
        seed=seed,
        size=size,
        steps=steps,
        pixels=part.pixels,
        **choice.recipe(),
    )
    settings = {"rate": choice.rate, "decay": choice.decay}
    return Cell(design.name, part.tier, part.stage, task, arm, seed, run, settings)


# What it came to


@dataclass(frozen=True, eq=False)
class Result:
    """Everything that the page says, from records alone."""

    design: Design
    profile: Profile
    found: Found
    cells: tuple[Cell, ...]  # each run of a stage once

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a run that was made; see `outcomes`."""
        return outcomes([cell for cell in self.cells if cell.stage != "tuning"], self.found)

    def stage(self, name: str) -> pd.DataFrame:
        return self.table[self.table["stage"] == name]

    def title(self, arm: str) -> str:
        return self.design.arms[arm].title

    def seeds(self, stage: str, arm: str) -> list[int]:
        """Those that the design asks for."""
        parts = [
            part
            for part in self.design.parts(self.profile)
            if part.stage == stage and arm in part.arms
        ]
        return sorted({seed for part in parts for seed in self.profile.seeds or part.seeds})

    def difference(
        self,
        one: str,
        other: str,
        stage: str = "low",
        tasks: tuple[str, ...] | None = None,
        *,
        diverged: bool = True,
    ) -> Difference | None:
        """One arm less the other; with `diverged`, runs that diverged count at chance, else they
        are left out.
        """
        table = self.stage(stage)
        if not diverged:
            table = table[~table["diverged"].astype(bool)]
        return difference(table, one, other, tasks or self.design.tasks)

    def answer(self, one: str, other: str, stage: str = "low") -> Answer:
        return answer(
            self.difference(one, other, stage),
            one=self.title(one),
            other=self.title(other),
            where=self.where(stage),
            smallest=float(self.design.told["smallest_effect"]),
            seeds=len(self.seeds(stage, other)),
            tasks=len(self.design.tasks),
            without=self.difference(one, other, stage, diverged=False),
        )

    @cached_property
    def primary(self) -> Answer:
        return self.answer(*self.design.told["primary"]["arms"])

    def where(self, stage: str) -> str:
        """The scale, which each answer begins with."""
        size, steps = STAGES[stage]
        tasks = [TASKS[name] for name in self.design.tasks]
        of_part = [
            part.pixels
            for part in self.design.parts(self.profile)
            if part.stage == stage and part.pixels
        ]
        pixels = sorted({*of_part} or {self.profile.pixels or task.image_size for task in tasks})
        each = sorted({task.images[size] // task.classes for task in tasks})
        first = self.design.arms[self.design.told["primary"]["arms"][0]]
        network = model_cost(
            self.profile.model, image_size=pixels[0], num_classes=100, **dict(first.options)
        )
        return (
            f"At {network['params'] / 1e6:.1f} million parameters and {_span(pixels)} pixels, with "
            f"{_span(each)} images a class"
            f"{'' if steps == 1 else f', {steps:g} times the steps'} and "
            f"{'one rate for all' if stage == 'untuned' else 'rates tuned alike'}"
        )

    # Tables

    def forest(
        self, others: tuple[str, ...] = ("CCTT", "CTTT"), stage: str = "low"
    ) -> pd.DataFrame:
        """One row a task and other arm, and their means: the difference of C-C-C-T with both
        intervals, of the training accuracy, and the probability that a run is better.
        """
        first = self.design.told["primary"]["arms"][0]
        rows = []
        for other in others:
            groups = [(task,) for task in self.design.tasks] + [tuple(self.design.tasks)]
            for tasks in groups:
                found = self.difference(first, other, stage, tasks)
                name = TASKS[tasks[0]].title if len(tasks) == 1 else f"mean of {len(tasks)}"
                rows.append(_forest_row(name, self.title(other), found))
        return pd.DataFrame(rows)

    def accuracies(self, stage: str = "low") -> pd.DataFrame:
        """Task, arm: mean of the runs with its interval, on test and on training images, and how
        many diverged.
        """
        rows = []
        for (task, arm), group in self.stage(stage).groupby(["task", "arm"], sort=False):
            test = contrasts.mean(group["value"])
            rows.append(
                {
                    "data set": TASKS[task].title,
                    "arm": self.title(arm),
                    "test (%)": links.at_run(group["run"].iloc[0], _with_interval(group["value"])),
                    "training images (%)": _with_interval(group["train"]),
                    "runs": len(group),
                    "diverged": int(group["diverged"].sum()),
                    "estimate": test.estimate,
                }
            )
        return links.frame(rows)

    def curve(self, arms: tuple[str, ...] = ("CCCT", "CCTT", "CTTT")) -> pd.DataFrame:
        """Accuracy against the number of images: one row a run of the stages low and middle."""
        part = self.table[self.table["stage"].isin(["low", "middle"])]
        part = part[part["arm"].isin(arms)].copy()
        part["images"] = [
            TASKS[task].images[STAGES[stage][0]] for task, stage in zip(part["task"], part["stage"])
        ]
        return part

    def secondary(self) -> pd.DataFrame:
        """The family of secondary comparisons with p-values by Holm; a row without runs says so.
        The family is that of all designs (`elsewhere`), so that a p counts tests that are not rows.
        """
        first, second, *_ = self.design.told["primary"]["arms"]
        compared: dict[str, contrasts.Contrast | None] = {}
        for other in ("CTTT", "CCCC"):
            difference = self.difference(first, other)
            compared[f"{self.title(first)} less {self.title(other)}"] = (
                None if difference is None else difference.seeds
            )
        name = f"{self.title(first)} less {self.title(second)}, small less middle"
        compared[name] = self.interaction(first, second)
        # a test that is not made yet counts as one that finds nothing
        p = {name: 1.0 if one is None else one.p for name, one in compared.items()}
        adjusted = contrasts.holm(p | self.elsewhere)
        rows = []
        for name, one in compared.items():
            row: dict[str, object] = {"comparison": name}
            if one is not None:
                row |= {
                    "points": one.estimate,
                    "low": one.low,
                    "high": one.high,
                    "p (Holm)": adjusted[name],
                }
            rows.append(row)
        return pd.DataFrame(rows, columns=["comparison", "points", "low", "high", "p (Holm)"])

    @cached_property
    def elsewhere(self) -> dict[str, float]:
        """p-values of the tests that join the family by the designs of other studies; 1 of one that
        is not made yet.
        """
        from astroformer.studies import augmentation, stability, variations  # they import this one

        stable = stability.result(self.profile.name, self.found)
        first, *others = stable.arms
        found = {
            f"usable rates, {first} against {other}": stable.wider(first, other) for other in others
        }
        dropout = augmentation.result(self.profile.name, self.found)
        found["regional dropout"] = dropout.more_on_galaxies
        form = designs.read("attention_form")
        profile = form.profile(self.profile.name)
        study = variations.Result(
            form, profile, self.found, tuple(variations.cells(form, profile, self.found))
        )
        for title, tasks in study.groups.items():
            model = study.model(tasks)
            fitted = model is not None and form.told["base"] in model.arms
            against = model.against(form.told["base"]) if fitted else {}
            for arm in ("outside", "none"):
                found[f"{study.title(arm)}, {title}"] = against.get(arm)
        return {
            name: 1.0 if one is None or math.isnan(one.p) else one.p for name, one in found.items()
        }

    def interaction(self, one: str, other: str) -> contrasts.Contrast | None:
        """The difference at the small number of images less that at the middle one, on the seeds
        that both have; None if a task has fewer than two of them.
        """
        sets = {}
        for task in self.design.tasks:
            low, middle = self._paired(one, other, "middle", task)
            if len(low) < contrasts.contrast.PAIR:
                return None
            sets[task] = low - middle
        return contrasts.pooled(sets)

    def _paired(self, one: str, other: str, stage: str, task: str) -> tuple[pd.Series, pd.Series]:
        """The differences of a task by seed, at the small number of images and at a stage."""
        sizes = [by_seed(self.stage(name), task, (one, other), "value") for name in ("low", stage)]
        low, there = (wide[one] - wide[other] for wide in sizes)
        both = low.index.intersection(there.index)
        return low[both], there[both]

    def elsewise(self) -> pd.DataFrame:
        """The primary comparison at each other stage, beside itself on the same seeds and data
        sets: columns measured, points, at first, moved, low, high, seeds and data sets, where moved
        is the mean of the differences by seed with its 95 % interval. Left out are data sets
        without two seeds at a stage, and those whose runs there are those of the first measurement.
        """
        one, other = self.design.told["primary"]["arms"]
        rows = []
        for stage, title in ELSEWISE.items():
            pairs = {task: self._paired(one, other, stage, task) for task in self.design.tasks}
            known = {
                task: both
                for task, both in pairs.items()
                if len(both[0]) >= contrasts.contrast.PAIR and not self._is_first(stage, task)
            }
            if not known:
                continue
            moved = contrasts.pooled({task: there - low for task, (low, there) in known.items()})
            low, there = (
                sum(float(both[which].mean()) for both in known.values()) / len(known)
                for which in (0, 1)
            )
            rows.append(
                {
                    "measured": title,
                    "points": there,
                    "at first": low,
                    "moved": moved.estimate,
                    "low": moved.low,
                    "high": moved.high,
                    "seeds": min(len(both[0]) for both in known.values()),
                    "data sets": len(known),
                }
            )
        return pd.DataFrame(rows, columns=list(COLUMNS_ELSEWISE))

    def _is_first(self, stage: str, task: str) -> bool:
        """Whether a stage asks for the very runs that the small number of images asks for, as where
        the tuned rate is the one rate for all.
        """
        tables = (self.stage(name) for name in ("low", stage))
        first, there = (table.loc[table["task"] == task, "run"] for table in tables)
        return len(there) > 0 and set(there) <= set(first)

    def elsewhere_made(self) -> str:
        """A sentence where the runs of other stages were made on another kind of device than those
        of the first measurement with which `elsewise` pairs them; "" where none were.
        """
        arms, apart = self.design.told["primary"]["arms"], Counter()
        made = {
            (cell.stage, cell.task, cell.arm, cell.seed): devices.places_of(record)
            for cell in self.cells
            if cell.arm in arms and (record := self.found.of(cell)) is not None
        }
        for (stage, task, arm, seed), there in made.items():
            first = made.get(("low", task, arm, seed))
            if stage in ELSEWISE and first and first != there:
                apart[tuple(" and ".join(sorted(map(str, one))) for one in (first, there))] += 1
        return " ".join(
            f"**A second thing changed with it**: {number} of the runs were made on {there}, and "
            f"those with which they are compared on {first}; what moved may be either."
            for (first, there), number in apart.items()
        )

    @cached_property
    def _at_twice(self) -> pd.Series | None:
        table = self.elsewise().set_index("measured")
        name = ELSEWISE["twice"]
        return table.loc[name] if name in table.index else None

    @property
    def check_is_met(self) -> bool:
        """The design's check: twice the steps move the primary comparison by less than the smallest
        effect.
        """
        row = self._at_twice
        return row is not None and abs(row["moved"]) < float(self.design.told["smallest_effect"])

    def checked(self) -> str:
        """A sentence on the design's check."""
        row, held = self._at_twice, self.check_is_met
        if row is None:
            return "Whether the number of steps decides the answer is not measured yet."
        allowed = float(self.design.told["smallest_effect"])
        larger = row["moved"] * row["at first"] > 0
        return (
            f"The design asks that twice the steps move the primary comparison by less than "
            f"{allowed:g} point: they move it by {signed(row['moved'], 2)} points, to a "
            f"{'larger' if larger else 'smaller'} difference (95 % {signed(row['low'])} to "
            f"{signed(row['high'])}; {row['seeds']:.0f} seeds, {row['data sets']:.0f} data sets). "
            + (
                "That is met."
                if held
                else "That is not met: by the design the steps are to be doubled for all arms, "
                "which is not done."
            )
        )

    def tuned(self) -> pd.DataFrame:
        """Task and arm: the tuned rate and weight decay, and whether the rate is the grid's end."""
        arms = dict.fromkeys(
            arm
            for part in self.design.parts(self.profile)
            if part.stage == "tuning"
            for arm in part.arms
        )
        rows = []
        for task in self.design.tasks:
            for arm in arms:
                outcome = tuning.tuned(
                    self.design, self.profile, self.design.arms[arm], task, self.found
                )
                row = {"data set": TASKS[task].title, "arm": self.title(arm)}
                if outcome is not None:
                    row |= {
                        "learning rate": outcome.winner.rate,
                        "weight decay": outcome.winner.decay,
                        "end of the grid": outcome.at_edge,
                        "runs": outcome.runs,
                    }
                rows.append(row)
        return pd.DataFrame(rows)

    def tuning_runs(self) -> pd.DataFrame:
        """One row a tuning run: task, arm, rate, decay, part of the steps, validation accuracy (the
        task's metric, %), NLL, and whether it diverged.
        """
        rows = []
        for cell in self.cells:
            record = self.found.of(cell) if cell.stage == "tuning" else None
            if record is None:
                continue
            metric = TASKS[cell.task].metric
            rows.append(
                {
                    "task": cell.task,
                    "arm": cell.arm,
                    **cell.settings,
                    "value": record["metrics"].get(metric),
                    "nll": record["metrics"].get("nll"),
                    "diverged": record["status"] != "completed",
                }
            )
        return pd.DataFrame(rows)

    def progress(self) -> pd.DataFrame:
        """Runs of each stage: made, and (as far as can be named) missing; and the processor hours
        of those made, of a run on a GPU those of the processor beside it.
        """
        rows = []
        for cell in self.cells:
            record = self.found.of(cell)
            rows.append(
                {
                    "stage": cell.stage,
                    "runs": 1,
                    "made": int(record is not None),
                    "processor hours": cpu_hours(record) if record else 0.0,
                }
            )
        table = pd.DataFrame(rows, columns=["stage", "runs", "made", "processor hours"])
        return table.groupby("stage", as_index=False, sort=False).sum()


def result(profile: str = "cpu", found: list[dict] | Found | None = None) -> Result:
    """What the ledger holds of the study under a profile."""
    design = designs.read(NAME)
    known = found_in(found)
    one = design.profile(profile)
    return Result(design, one, known, once(cells(design, one, known)))


def cpu_hours(record) -> float:
    """Processor time of all attempts at a run, in hours."""
    return sum(attempt.get("cpu_seconds", 0.0) for attempt in record["attempts"]) / 3600


def _forest_row(name: str, other: str, found: Difference | None) -> dict[str, object]:
    row: dict[str, object] = {"data set": name, "against": other}
    if found is None:
        return row
    row |= {
        "points": found.seeds.estimate,
        "low": found.seeds.low,
        "high": found.seeds.high,
        "low with images": found.images.low if found.images else float("nan"),
        "high with images": found.images.high if found.images else float("nan"),
        "seeds": min(len(pairs) for pairs in found.pairs.values()),
        "training, points": found.train.estimate,
        "training low": found.train.low,
        "training high": found.train.high,
        "P(better)": found.better.estimate if found.better else float("nan"),
        "pairs": [float(value) for pairs in found.pairs.values() for value in pairs],
    }
    return row


def _with_interval(values: pd.Series) -> str:
    known = values.dropna()
    if not len(known):
        return ""
    found = contrasts.mean(known)
    if len(known) == 1:
        return f"{found.estimate:.1f}"
    # of a few runs near 100 %, Student's interval reaches beyond what can be
    return f"{found.estimate:.1f} [{max(found.low, 0):.1f}, {min(found.high, 100):.1f}]"


def _span(numbers: list[int]) -> str:
    return f"{numbers[0]}" if len(set(numbers)) == 1 else f"{numbers[0]} to {numbers[-1]}"
