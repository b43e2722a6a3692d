"""The study "stable training": which stacks diverge without clipping, and over how many rates do
they train? Its design is `book/studies/stability.yml`.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import ndtri

from astroformer import contrasts
from astroformer.data.tasks import TASKS
from astroformer.ledger import curves, records
from astroformer.studies import design as designs
from astroformer.studies.answers import (
    CONTRADICTED,
    FEWEST,
    NOT_RUN,
    SCALE,
    SUPPORTED,
    UNDECIDED,
    Answer,
)
from astroformer.studies.cells import DIVERGED, Cell, Found, base_run
from astroformer.studies.design import Design, Profile

NAME = "stability"
MARGIN = 3.0  # points below the best accuracy within which a rate is usable
WINDOW = 50  # steps before a step, from which a spike stands out


def cells(design: Design, profile: Profile, found: Found) -> list[Cell]:
    """All rates and arms of a seed before the next seed."""
    told = design.told["protocol"]
    cells = []
    for part in design.order:
        for seed in profile.seeds or part.seeds:
            for task in part.tasks:
                for rate in profile.rates or told["rates"]:
                    for arm in part.arms:
                        run = base_run(
                            design.arms[arm],
                            task,
                            profile,
                            seed=seed,
                            size="low",
                            evaluate="validation",
                            steps=profile.steps or int(told["steps"]),
                            learning_rate=rate,
                            weight_decay=told["decay"],
                            **told["recipe_changes"],
                        )
                        cells.append(
                            Cell(
                                design.name,
                                part.tier,
                                part.stage,
                                task,
                                arm,
                                seed,
                                run,
                                {"rate": rate},
                            )
                        )
    return cells


# What it came to


@dataclass(frozen=True, eq=False)
class Result:
    """Everything that the page says, from records and the curves kept beside them."""

    design: Design
    profile: Profile
    found: Found
    cells: tuple[Cell, ...]

    def title(self, arm: str) -> str:
        return self.design.arms[arm].title

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a run that was made: arm, seed, rate, accuracy on validation images (%), whether
        it diverged and by which sign, spikes for 1,000 steps, the gradient's 99th percentile over
        its median.
        """
        rows = []
        for cell in self.cells:
            record = self.found.of(cell)
            if record is None:
                continue
            task, curve = TASKS[cell.task], curves.read(record["run"])
            broken = record["status"] == DIVERGED
            rose = curve is not None and not broken and rose_again(curve.loss)
            value = record["metrics"].get(task.metric)
            rows.append(
                {
                    "arm": cell.arm,
                    "seed": cell.seed,
                    "rate": cell.settings["rate"],
                    "value": 100 / task.classes if broken or value is None else value,
                    "diverged": broken or rose,
                    "sign": "not finite" if broken else "loss rose" if rose else "",
                    "spikes": np.nan if curve is None else spikes(curve.loss),
                    "gradient": np.nan if curve is None else tail_of(curve.norm),
                    "run": record["run"],
                }
            )
        columns = ("arm", "seed", "rate", "value", "diverged", "sign", "spikes", "gradient", "run")
        return pd.DataFrame(rows, columns=list(columns))

    def summary(self) -> pd.DataFrame:
        """Arm: runs, how many diverged with the Wilson interval of the share, octaves of usable
        rates, sensitivity, spikes, gradient.
        """
        rows = []
        for arm in self.arms:
            own = self.runs[self.runs["arm"] == arm]
            if not len(own):
                rows.append({"arm": self.title(arm), "runs": 0})
                continue
            low, high = wilson(int(own["diverged"].sum()), len(own))
            means = own.groupby("rate")["value"].mean()
            rows.append(
                {
                    "arm": self.title(arm),
                    "runs": len(own),
                    "diverged": int(own["diverged"].sum()),
                    "share diverged (%)": f"{100 * low:.0f} to {100 * high:.0f}",
                    "usable rates (octaves)": usable(means),
                    "sensitivity (points)": float(means.max() - means.mean()),
                    "spikes for 1,000 steps": float(own["spikes"].median()),
                    "gradient, 99 % over median": float(own["gradient"].median()),
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def arms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(arm for part in self.design.order for arm in part.arms))

    def wider(self, one: str, other: str) -> contrasts.Contrast | None:
        """Log2 of the ratio of the usable octaves of two arms, with the interval of a bootstrap
        over the seeds that both have at all rates; None below FEWEST of them.
        """
        grids = []
        for arm in (one, other):
            own = self.runs[self.runs["arm"] == arm]
            grids.append(own.pivot_table(index="seed", columns="rate", values="value").dropna())
        seeds = grids[0].index.intersection(grids[1].index)
        if len(seeds) < FEWEST or grids[0].columns.tolist() != grids[1].columns.tolist():
            return None
        first, second = (grid.loc[seeds] for grid in grids)
        draws = np.random.default_rng(0).integers(len(seeds), size=(2000, len(seeds)))
        ratios = [
            math.log2(usable(first.iloc[draw].mean()) / usable(second.iloc[draw].mean()))
            for draw in draws
        ]
        low, high = np.quantile(ratios, [0.025, 0.975])
        estimate = math.log2(usable(first.mean()) / usable(second.mean()))
        below = (np.sum(np.array(ratios) <= 0) + 1) / (len(ratios) + 1)
        p = float(min(1.0, 2 * min(below, 1 - below)))
        return contrasts.Contrast(estimate, float(low), float(high), p, len(seeds))

    def answer(self) -> Answer:
        """The verdict by the rule of the design, and its sentence."""
        first, *others = self.arms
        runs = self.runs
        if not len(runs):
            return Answer(NOT_RUN, "No run is made yet.", True)
        planned = len({cell.seed for cell in self.cells})
        seeds = runs.groupby("arm")["seed"].nunique().reindex(list(self.arms)).fillna(0)
        counts = ", ".join(
            f"{int(runs.loc[runs['arm'] == arm, 'diverged'].sum())} of "
            f"{int((runs['arm'] == arm).sum())} of {self.title(arm)}"
            for arm in self.arms
        )
        octaves = ", ".join(
            f"{row['usable rates (octaves)']:.1f}"
            for row in self.summary().to_dict("records")
            if row["runs"]
        )
        told = (
            f"Without clipping {counts} diverged; rates within {MARGIN:g} points of the best span "
            f"{octaves} octaves."
        )
        pilot = int(seeds.min()) < planned
        compared = [self.wider(first, other) for other in others]
        if any(one is None for one in compared):
            few = f"{int(seeds.min())} of {planned} seeds decide nothing yet."
            return Answer(UNDECIDED, f"Pilot: {told} {few} {SCALE}", True)
        if all(one.low > 0 for one in compared):
            verdict = SUPPORTED
        elif any(one.high < 0 for one in compared):
            verdict = CONTRADICTED
        else:
            verdict = UNDECIDED
        ratios = "; ".join(
            f"{2**one.estimate:.2f} times as many octaves as {self.title(other)} (95 % "
            f"{2**one.low:.2f} to {2**one.high:.2f})"
            for other, one in zip(others, compared)
        )
        kind = "Pilot: " if pilot else ""
        return Answer(verdict, f"{kind}{told} {self.title(first)} has {ratios}. {SCALE}", pilot)


def result(profile: str = "cpu", found: list[dict] | None = None) -> Result:
    """What the ledger holds of the study under a profile."""
    design = designs.read(NAME)
    known = Found(records.read() if found is None else found)
    one = design.profile(profile)
    return Result(design, one, known, tuple(cells(design, one, known)))


def rose_again(loss: np.ndarray) -> bool:
    """Whether the mean loss of the last 20 steps lies above that of steps 16 to 25: the run learned
    and lost it, or never learned.
    """
    if len(loss) < 45:
        return False
    return bool(np.mean(loss[-20:]) > np.mean(loss[15:25]))


def spikes(loss: np.ndarray) -> float:
    """Steps, of 1,000, with a loss above the median of the 50 steps before plus 6 of their median
    absolute deviations.
    """
    finite = np.asarray(loss, dtype=float)
    if len(finite) <= WINDOW:
        return math.nan
    before = np.lib.stride_tricks.sliding_window_view(finite, WINDOW)[:-1]
    median = np.median(before, axis=1)
    deviation = np.median(np.abs(before - median[:, None]), axis=1)
    above = ~(finite[WINDOW:] <= median + 6 * deviation)  # what is not finite is a spike too
    return float(1000 * above.mean())


def tail_of(norm: np.ndarray) -> float:
    """The 99th percentile of the gradient's norm over its median, of the finite steps."""
    finite = np.asarray(norm, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return math.nan
    return float(np.quantile(finite, 0.99) / np.median(finite))


def usable(means: pd.Series, margin: float = MARGIN) -> float:
    """Octaves of learning rates within `margin` points of the best: accuracy by rate, joined
    linearly on the log scale. A range that reaches the end of the grid is cut off there.
    """
    means = means.sort_index()
    rates, values = np.log2(means.index.to_numpy(dtype=float)), means.to_numpy(dtype=float)
    limit, total = values.max() - margin, 0.0
    for (x0, y0), (x1, y1) in zip(zip(rates, values), zip(rates[1:], values[1:])):
        high, low = max(y0, y1), min(y0, y1)
        if low >= limit:
            total += x1 - x0
        elif high > limit:
            total += (x1 - x0) * (high - limit) / (high - low)
    # a single usable rate spans less than a step of the grid; half of one keeps the ratio finite
    return max(float(total), 0.5 * float(np.min(np.diff(rates))) if len(rates) > 1 else 1.0)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share. Source: Wilson (1927), Journal of the American Statistical
    Association 22.
    """
    z = float(ndtri(0.975))
    share, scale = successes / trials, 1 + z**2 / trials
    middle = (share + z**2 / (2 * trials)) / scale
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)
