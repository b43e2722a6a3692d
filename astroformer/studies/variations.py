"""Studies that compare several variations with a named one, at one rate for all: the form of
attention, equivariance by construction, the number of spectral blocks, ViT-CIFAR's departures,
BatchNorm under data parallel training. Their designs are those of `book/studies/` that name this
reader.

Arms and seeds add; the pooled residual serves every comparison (`contrasts.blocked`), and all
variations are compared with the base at once (Dunnett). A dose is tested for its trend.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from astroformer import contrasts
from astroformer.contrasts import Contrast
from astroformer.data.tasks import TASKS
from astroformer.ledger import records
from astroformer.studies import design as designs
from astroformer.studies import few_images, tuning
from astroformer.studies.answers import NOT_RUN, signed
from astroformer.studies.cells import Cell, Found, base_run
from astroformer.studies.design import Arm, Design, Part, Profile
from astroformer.studies.effects import FREEDOM
from astroformer.studies.outcomes import by_seed, outcomes

NAMES = (
    "attention_form",
    "equivariant",
    "galaxy10_part",
    "spectral_blocks_real",
    "vit_cifar_parts",
    "ranks",
)


def cells(design: Design, profile: Profile, found: Found) -> list[Cell]:
    """All arms and tasks of a seed before the next seed. Where the rate is one that few_images
    tunes, a task waits for it.
    """
    return [
        cell
        for part in design.parts(profile)
        for seed in profile.seeds or part.seeds
        for task in part.tasks
        for cell in _cells_of(design, profile, part, task, seed, found)
    ]


def _cells_of(
    design: Design, profile: Profile, part: Part, task: str, seed: int, found: Found
) -> list[Cell]:
    told = design.told
    tuned = _tuned(design, profile, part, task, found)
    if tuned is None:
        return []
    shared = dict(told.get("options", {}))
    cells = []
    for name in part.arms:
        arm = design.arms[name]
        recipe = {
            **tuned[name],
            **told.get("recipe", {}),
            **told["arms"][name].get("recipe", {}),
        }
        options = tuple(sorted({**shared, **dict(arm.options)}.items()))
        run = base_run(
            Arm(name, arm.title, arm.model, options),
            task,
            profile,
            seed=seed,
            size=told["size"],
            **recipe,
        )
        cells.append(Cell(design.name, part.tier, part.stage, task, name, seed, run))
    return cells


def _tuned(
    design: Design, profile: Profile, part: Part, task: str, found: Found
) -> dict[str, dict[str, object]] | None:
    """Arm -> rate and weight decay that few_images tuned for it; nothing for each where the design
    names none, None while the tuning is not over.
    """
    source = design.told.get("tuned_as")
    if source is None:
        return {arm: {} for arm in part.arms}
    other = designs.read(few_images.NAME)
    tuned = {}
    for arm in part.arms:
        theirs = other.arm(source if isinstance(source, str) else source[arm])
        on = design.told.get("tuned_on", task)
        outcome = tuning.tuned(other, other.profile(profile.name), theirs, on, found)
        if outcome is None:
            return None
        tuned[arm] = outcome.winner.recipe()
    return tuned


@dataclass(frozen=True, eq=False)
class Result:
    """What the ledger holds of one of these studies."""

    design: Design
    profile: Profile
    found: Found
    cells: tuple[Cell, ...]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a run that was made; see `outcomes`."""
        return outcomes(self.cells, self.found)

    def title(self, arm: str) -> str:
        return self.design.arms[arm].title

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """What is compared as one data set: title -> its tasks. Folds are pooled."""
        if "pooled" in self.design.told:
            return {str(self.design.told["pooled"]): tuple(self.design.tasks)}
        return {TASKS[task].title: (task,) for task in self.design.tasks}

    def values(self, tasks: tuple[str, ...], arms: Sequence[str]) -> pd.DataFrame:
        """Seeds in rows, arms in columns: the mean over the tasks, of seeds that all of them
        have.
        """
        if not len(self.table):
            return pd.DataFrame(columns=list(arms))
        each = [by_seed(self.table, task, arms, "value") for task in tasks]
        seeds = each[0].index
        for one in each[1:]:
            seeds = seeds.intersection(one.index)
        return sum(one.loc[seeds] for one in each) / len(each)

    def model(self, tasks: tuple[str, ...]) -> contrasts.Blocked | None:
        """Arms and seeds; None below two arms with two common seeds."""
        arms = [arm for arm in self.design.arms if len(self.values(tasks, (arm,)))]
        wide = self.values(tasks, arms) if len(arms) > 1 else pd.DataFrame()
        return contrasts.blocked(wide) if len(wide) >= contrasts.contrast.PAIR else None

    def comparisons(self) -> pd.DataFrame:
        """One row a data set and arm: accuracy of its runs, the difference from the base with its
        simultaneous 95 % interval and adjusted p where the residual has FREEDOM degrees of freedom.
        """
        base, rows = self.design.told["base"], []
        for title, tasks in self.groups.items():
            model = self.model(tasks)
            against = {}
            if model is not None and model.freedom >= FREEDOM and base in model.arms:
                against = model.against(base)
            for arm in self.design.arms:
                values = self.values(tasks, (arm,))
                row: dict[str, object] = {"data set": title, "arm": self.title(arm)}
                row["seeds"] = len(values)
                if len(values):
                    row["accuracy (%)"] = float(values[arm].mean())
                if arm in against:
                    one = against[arm]
                    row |= {
                        "points": one.estimate,
                        "low": one.low,
                        "high": one.high,
                        "p (Dunnett)": one.p,
                    }
                rows.append(row)
        columns = ["data set", "arm", "accuracy (%)", "points", "low", "high", "seeds"]
        return pd.DataFrame(rows, columns=[*columns, "p (Dunnett)"])

    def trend(self, tasks: tuple[str, ...]) -> Contrast | None:
        """Points of accuracy for one step of the dose, where the design has one."""
        dose, model = self.design.told.get("dose"), self.model(tasks)
        if dose is None or model is None or model.freedom < FREEDOM:
            return None
        if any(arm not in model.arms for arm in dose):
            return None
        middle = (len(dose) - 1) / 2
        weights = {arm: place - middle for place, arm in enumerate(dose)}
        scale = sum(weight**2 for weight in weights.values())
        return model.combination({arm: weight / scale for arm, weight in weights.items()})

    def sentence(self) -> str:
        """What can be said so far."""
        if not len(self.table):
            return f"{NOT_RUN.capitalize()}."
        told = []
        for title, tasks in self.groups.items():
            model = self.model(tasks)
            if model is None or model.freedom < FREEDOM:
                told.append(f"On {title} too few runs are made to compare.")
                continue
            if (trend := self.trend(tasks)) is not None:
                told.append(
                    f"On {title} accuracy changes by {signed(trend.estimate)} points for each step "
                    f"(95 % {signed(trend.low)} to {signed(trend.high)})."
                )
                continue
            against = model.against(self.design.told["base"])
            clear = {arm: one for arm, one in against.items() if one.p < 0.05}
            for arm, one in clear.items():
                told.append(
                    f"On {title} “{self.title(arm)}” differs from “"
                    f"{self.title(self.design.told['base'])}” by {signed(one.estimate)} points "
                    f"(95 % {signed(one.low)} to {signed(one.high)})."
                )
            if not clear:
                widest = max(max(abs(one.low), abs(one.high)) for one in against.values())
                told.append(
                    f"On {title} no difference is told from 0; each may be up to {widest:.1f} "
                    "points."
                )
        return " ".join(told)


def result(name: str, profile: str = "cpu", found: list[dict] | None = None) -> Result:
    """What the ledger holds of a study under a profile."""
    design = designs.read(name)
    known = Found(records.read() if found is None else found)
    one = design.profile(profile)
    return Result(design, one, known, tuple(cells(design, one, known)))
