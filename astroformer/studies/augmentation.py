"""The study "regional dropout and the rest of the recipe": a fractional factorial of eight factors
on galaxies and on CIFAR-100. Its design is `book/studies/augmentation.yml`.

Every run informs every effect, so that a main effect has the standard error of half of all runs,
where one change at a time has that of three.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd

from astroformer import contrasts
from astroformer.contrasts import Contrast
from astroformer.studies import design as designs
from astroformer.studies import few_images, tuning
from astroformer.studies.answers import (
    CONTRADICTED,
    NOT_RUN,
    SCALE,
    SUPPORTED,
    UNDECIDED,
    WAITS,
    Answer,
    signed,
)
from astroformer.studies.cells import Cell, Found, base_run, found_in, once
from astroformer.studies.design import Arm, Design, Part, Profile
from astroformer.studies.outcomes import outcomes

NAME = "augmentation"
STAGES = ("factorial", "confirmation")


def factorial(factors: Mapping[str, Mapping]) -> list[dict[str, int]]:
    """The runs of a two-level fractional factorial, factor -> -1 or +1. A factor without a
    generator takes all combinations with the others that have none; one with a generator, such as
    BCD, is their product; ValueError for a generator of others than those.

    Source: Box, Hunter and Hunter, "Statistics for Experimenters", chapter 6.
    """
    free = [name for name, factor in factors.items() if "generator" not in factor]
    for name, factor in factors.items():
        if not set(factor.get("generator", "")) <= set(free):
            raise ValueError(
                f"factor {name} has the generator {factor['generator']!r}; choose letters of the "
                f"factors without one, {', '.join(free)}"
            )
    runs = []
    for levels in product((-1, 1), repeat=len(free)):
        run = dict(zip(free, levels))
        for name, factor in factors.items():
            if "generator" in factor:
                sign = 1
                for letter in factor["generator"]:
                    sign *= run[letter]
                run[name] = sign
        runs.append({name: run[name] for name in factors})
    return runs


def recipe_of(design: Design, levels: Mapping[str, int]) -> dict[str, object]:
    """The changes of the recipe that a run of the factorial makes."""
    changes = dict(design.told["always"])
    for name, level in levels.items():
        changes |= design.told["factors"][name]["with" if level > 0 else "without"]
    return changes


def cells(design: Design, profile: Profile, found: Found) -> list[Cell]:
    """All runs of a seed before the next seed, tasks in turn. They take the rate that few_images
    tuned, and wait for it.
    """
    rates = tuned_rates(design, profile, found)
    cells = []
    for part in design.parts(profile):
        designs.known(design.name, "stage", part.stage, STAGES)
        for seed in profile.seeds or part.seeds:
            for task in part.tasks:
                if task in rates:
                    cells += _cells_of(design, profile, part, task, seed, rates[task])
    return cells


def tuned_rates(design: Design, profile: Profile, found: Found) -> dict[str, float]:
    """Task -> the learning rate that few_images tuned for the arm, where its tuning is over."""
    other = designs.read(few_images.NAME)
    arm = other.arm(design.told["arm"])
    outcomes = {
        task: tuning.tuned(other, other.profile(profile.name), arm, task, found)
        for task in design.tasks
    }
    return {task: one.winner.rate for task, one in outcomes.items() if one is not None}


def _cells_of(
    design: Design, profile: Profile, part: Part, task: str, seed: int, rate: float
) -> list[Cell]:
    other = designs.read(few_images.NAME)
    arm = other.arm(design.told["arm"])
    if part.stage == "factorial":
        return [
            _cell(design, profile, part, arm, task, seed, rate, recipe_of(design, run), run)
            for run in factorial(design.told["factors"])
        ]
    told = design.told["confirmation"]
    strengths = [("base", 0, {})] + [
        (form, strength, changes)
        for form, each in told["forms"].items()
        for strength, changes in enumerate(each, 1)
    ]
    return [
        _cell(
            design,
            profile,
            part,
            arm,
            task,
            seed,
            rate,
            design.told["always"] | told["base"] | changes,
            {"form": form, "strength": strength},
        )
        for form, strength, changes in strengths
    ]


def _cell(
    design: Design,
    profile: Profile,
    part: Part,
    arm: Arm,
    task: str,
    seed: int,
    rate: float,
    recipe: Mapping[str, object],
    settings: Mapping[str, object],
) -> Cell:
    run = base_run(
        arm,
        task,
        profile,
        seed=seed,
        size="low",
        pixels=profile.pixels or int(design.told["pixels"]),
        steps=profile.steps or int(design.told["steps"]),
        learning_rate=rate,
        **recipe,
    )
    return Cell(design.name, part.tier, part.stage, task, arm.name, seed, run, dict(settings))


# What it came to


@dataclass(frozen=True, eq=False)
class Result:
    """Everything that the page says, from records alone."""

    design: Design
    profile: Profile
    found: Found
    cells: tuple[Cell, ...]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a run of the factorial that was made: task, seed, value (%), a column for each
        factor with -1 or +1.
        """
        return outcomes([cell for cell in self.cells if cell.stage == "factorial"], self.found)

    @property
    def regional(self) -> list[str]:
        factors = self.design.told["factors"]
        return [name for name, factor in factors.items() if factor.get("regional")]

    def fit(self, task: str) -> "Effects | None":
        """The main effects on one task, from its complete seeds; None without one."""
        part = self.table[self.table["task"] == task] if len(self.table) else self.table
        if not len(part):
            return None
        names, runs = list(self.design.told["factors"]), factorial(self.design.told["factors"])
        whole = part.groupby("seed")["value"].transform("size") == len(runs)
        return main_effects(part[whole], names) if whole.any() else None

    def effects(self) -> pd.DataFrame:
        """One row a factor: its main effect on galaxies, on the control, and their difference, in
        points, each with its 95 % interval; an empty table until both tasks have a whole seed.
        """
        galaxies, control = (self.fit(task) for task in self.design.tasks)
        if galaxies is None or control is None:
            return pd.DataFrame()
        rows = []
        for name, factor in self.design.told["factors"].items():
            both = {
                "galaxies": galaxies.of({name: 1.0}),
                "control": control.of({name: 1.0}),
                "difference": interaction(galaxies, control, {name: 1.0}),
            }
            row = {"factor": factor["title"], "regional": bool(factor.get("regional"))}
            for column, found in both.items():
                row |= {
                    column: found.estimate,
                    f"{column} low": found.low,
                    f"{column} high": found.high,
                }
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def more_on_galaxies(self) -> Contrast | None:
        """The mean effect of the three forms of regional dropout on galaxies less that on the
        control, in points; None until both tasks have a whole seed.
        """
        galaxies, control = (self.fit(task) for task in self.design.tasks)
        if galaxies is None or control is None:
            return None
        return interaction(galaxies, control, dict.fromkeys(self.regional, 1 / len(self.regional)))

    def answer(self) -> Answer:
        """The verdict on regional dropout by the rule of the design, and its sentence."""
        galaxies, control = (self.fit(task) for task in self.design.tasks)
        found = self.more_on_galaxies
        if galaxies is None or control is None or found is None:
            return Answer(NOT_RUN, "No seed of the factorial is complete on both data sets.", True)
        weights = dict.fromkeys(self.regional, 1 / len(self.regional))
        here, there = galaxies.of(weights), control.of(weights)
        made = min(galaxies.seeds, control.seeds)
        planned = len({cell.seed for cell in self.cells if cell.stage == "factorial"})
        pilot = made < planned
        if pilot:
            verdict = UNDECIDED
        elif found.high < 0 and here.estimate < 0:
            verdict = SUPPORTED
        elif found.low > 0 or here.low > 0:
            verdict = CONTRADICTED
        else:
            verdict = UNDECIDED
        based = f"{made} of {planned} seeds" if pilot else f"{made} seed{'s' * (made > 1)}"
        told = (
            f"CutMix, Cutout and DropBlock change accuracy on galaxies by {_spoken(here)} points "
            f"on average and on CIFAR-100 by {_spoken(there)}: {_spoken(found)} more on galaxies, "
            f"from {based} of {len(factorial(self.design.told['factors']))} runs."
        )
        if pilot:
            told = f"Pilot: {told} {WAITS}"
        return Answer(verdict, f"{told} {SCALE}", pilot)


@dataclass(frozen=True, eq=False)
class Effects:
    """Main effects of a factorial with the residual of what they leave: seeds are blocks."""

    estimates: dict[str, float]  # factor -> mean with it less mean without, in points
    error: float  # standard error of each: the design is orthogonal
    freedom: int
    seeds: int

    def of(self, weights: Mapping[str, float]) -> Contrast:
        """A weighted sum of effects, which do not depend on one another."""
        estimate = sum(weight * self.estimates[name] for name, weight in weights.items())
        error = self.error * math.sqrt(sum(weight**2 for weight in weights.values()))
        return contrasts.contrast.student(estimate, error, self.freedom, self.seeds, 0.95)


def main_effects(table: pd.DataFrame, names: list[str]) -> Effects:
    """Least squares of value on the factors (-1, +1) and the seeds, from whole seeds. What the
    interactions of two factors do is part of the residual, so that an effect is no surer than the
    sum of effects is right.
    """
    seeds = pd.get_dummies(table["seed"]).to_numpy(dtype=float)
    levels = table[names].to_numpy(dtype=float)
    design = np.hstack([levels, seeds])
    values = table["value"].to_numpy(dtype=float)
    solution, *_ = np.linalg.lstsq(design, values, rcond=None)
    freedom = len(values) - np.linalg.matrix_rank(design)
    residual = values - design @ solution
    spread = math.sqrt(float(residual @ residual) / freedom) if freedom else math.nan
    return Effects(
        {name: 2 * float(solution[place]) for place, name in enumerate(names)},
        2 * spread / math.sqrt(len(values)),
        int(freedom),
        seeds.shape[1],
    )


def interaction(one: Effects, other: Effects, weights: Mapping[str, float]) -> Contrast:
    """A weighted sum of effects on one task less the same on another; the tasks are independent
    (degrees of freedom by Welch and Satterthwaite).
    """
    first, second = one.of(weights), other.of(weights)
    parts = (first.error**2, second.error**2)
    total = sum(parts)
    each = sum(part**2 / found.freedom for part, found in zip(parts, (first, second)))
    freedom = total**2 / each if each > 0 else first.freedom + second.freedom
    return contrasts.contrast.student(
        first.estimate - second.estimate, math.sqrt(total), freedom, min(first.n, second.n), 0.95
    )


def _spoken(found: Contrast) -> str:
    return f"{signed(found.estimate)} (95 % {signed(found.low)} to {signed(found.high)})"


def result(profile: str = "cpu", found: list[dict] | Found | None = None) -> Result:
    """What the ledger holds of the study under a profile."""
    design = designs.read(NAME)
    known = found_in(found)
    one = design.profile(profile)
    return Result(design, one, known, once(cells(design, one, known)))
