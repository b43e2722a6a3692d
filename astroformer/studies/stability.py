"""The study "stable training": which stacks diverge without clipping, and over how many rates do
they train? Its design is `book/studies/stability.yml`.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from astroformer import contrasts
from astroformer.data.tasks import TASKS
from astroformer.ledger import curves
from astroformer.studies import design as designs
from astroformer.studies.answers import (
    CONTRADICTED,
    FEWEST,
    NOT_RUN,
    SCALE,
    SUPPORTED,
    UNDECIDED,
    WAITS,
    Answer,
)
from astroformer.studies.cells import DIVERGED, Cell, Found, base_run, found_in, once
from astroformer.studies.design import Design, Profile

NAME = "stability"
STAGES = ("rates",)
# A rate is usable if it keeps this part of what the arm's best rate gains over guessing. A number
# of points below the best would favour the arm that learns less: its curve is flatter.
KEPT = 0.8
LEARNED = 3.0  # points above guessing that an arm's best rate must reach to be compared
WINDOW = 50  # steps before a step, from which a spike stands out
DRAWS = 2000  # of the bootstrap over seeds


def cells(design: Design, profile: Profile, found: Found) -> list[Cell]:
    """All rates and arms of a seed before the next seed."""
    told = design.told["protocol"]
    cells = []
    for part in design.parts(profile):
        designs.known(design.name, "stage", part.stage, STAGES)
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
            value = record["metrics"].get(task.metric)
            broken = record["status"] == DIVERGED or value is None
            rose = curve is not None and not broken and rose_again(curve.loss)
            rows.append(
                {
                    "arm": cell.arm,
                    "seed": cell.seed,
                    "rate": cell.settings["rate"],
                    "value": 100 / task.classes if broken else value,
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
        rows: list[dict[str, object]] = []
        for arm in self.arms:
            own = self.runs[self.runs["arm"] == arm]
            if not len(own):
                rows.append({"arm": self.title(arm), "runs": 0})
                continue
            low, high = contrasts.wilson(int(own["diverged"].sum()), len(own))
            means = own.groupby("rate")["value"].mean()
            row: dict[str, object] = {
                "arm": self.title(arm),
                "runs": len(own),
                "diverged": int(own["diverged"].sum()),
                "share diverged (%)": f"{100 * low:.0f} to {100 * high:.0f}",
                "usable rates (octaves)": usable(means, self.chance),
                "sensitivity (% of the gain)": sensitivity(means, self.chance),
                "spikes for 1,000 steps": float(own["spikes"].median()),
                "gradient, 99 % over median": float(own["gradient"].median()),
            }
            rows.append(row)
        return pd.DataFrame(rows)

    @cached_property
    def arms(self) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(arm for part in self.design.parts(self.profile) for arm in part.arms)
        )

    def whole(self, arm: str) -> pd.DataFrame:
        """Accuracy: seeds in rows, rates in columns; the seeds that have a run at every rate."""
        own = self.runs[self.runs["arm"] == arm]
        wide = own.pivot_table(index="seed", columns="rate", values="value", aggfunc="last")
        asked = {float(str(cell.settings["rate"])) for cell in self.cells}
        rates = sorted(asked or set(own["rate"]))
        return wide.reindex(columns=rates).dropna().astype(float)

    def learned(self, arm: str) -> bool:
        """Whether the best rate lies more than LEARNED above guessing. Else noise decides which
        rates keep a part of the gain.
        """
        own = self.runs[self.runs["arm"] == arm]
        return bool(len(own)) and own.groupby("rate")["value"].mean().max() > self.chance + LEARNED

    @property
    def chance(self) -> float:
        """Accuracy of guessing, in %."""
        return max(100 / TASKS[task].classes for task in self.design.tasks)

    def wider(self, one: str, other: str) -> contrasts.Contrast | None:
        """Log2 of the ratio of the usable octaves of two arms, with the interval of a bootstrap
        over the seeds that both have at all rates; None below FEWEST of them, and where one of
        the arms never learned.

        Few seeds tell their own spread badly, and resampling n of them shows (n - 1) / n of it: the
        deviations are enlarged as in `contrasts.bootstrap_draws`.
        """
        first, second = self.whole(one), self.whole(other)
        seeds = first.index.intersection(second.index)
        n = len(seeds)
        if n < FEWEST or not (self.learned(one) and self.learned(other)):
            return None
        rates = first.columns.to_numpy(dtype=float)
        tables = [table.loc[seeds].to_numpy() for table in (first, second)]  # (seeds, rates)
        random = np.random.default_rng(0)
        drawn = random.integers(n, size=(DRAWS, n))
        spans = [octaves(rates, table[drawn].mean(axis=1), self.chance) for table in tables]
        whole = [float(octaves(rates, table.mean(axis=0), self.chance)) for table in tables]
        estimate = math.log2(whole[0] / whole[1])
        deviations = np.log2(spans[0] / spans[1]) - estimate
        ratios = estimate + deviations * np.sqrt(n / random.chisquare(n - 1, DRAWS))
        low, high = np.quantile(ratios, [0.025, 0.975])
        tail = min(int((ratios <= 0).sum()), int((ratios >= 0).sum()))
        p = min(1.0, 2 * (tail + 1) / (DRAWS + 1))
        return contrasts.Contrast(estimate, float(low), float(high), p, n)

    def answer(self) -> Answer:
        """The verdict by the rule of the design, and its sentence."""
        first, *others = self.arms
        runs = self.runs
        if not len(runs):
            return Answer(NOT_RUN, "No run is made yet.", True)
        planned = len({cell.seed for cell in self.cells})
        made = min(len(self.whole(arm)) for arm in self.arms)
        pilot = made < planned
        told = f"{'Pilot: ' if pilot else ''}{self._counts()}"
        compared = [one for one in (self.wider(first, other) for other in others) if one]
        if len(compared) < len(others):
            idle = [
                self.title(arm)
                for arm in self.arms
                if len(self.whole(arm)) and not self.learned(arm)
            ]
            why = (
                f"{' and '.join(idle)} never came {LEARNED:g} points above guessing, so that no "
                "rate is better than another."
                if idle
                else f"{made} of {planned} seeds are whole, which decides nothing yet."
            )
            return Answer(UNDECIDED, f"{told} {why} {SCALE}", pilot)
        if pilot:
            verdict = UNDECIDED
        elif all(one.low > 0 for one in compared):
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
        seeds = f"{made} of {planned} seeds. {WAITS}" if pilot else f"{made} seeds."
        return Answer(verdict, f"{told} {self.title(first)} has {ratios}; {seeds} {SCALE}", pilot)

    def _counts(self) -> str:
        """How many runs diverged, and how many octaves of rates are usable, of each arm with
        runs.
        """
        rows = [(arm, own) for arm in self.arms if len(own := self.runs[self.runs["arm"] == arm])]
        lost = ", ".join(
            f"{int(own['diverged'].sum())} of {len(own)} of {self.title(arm)}" for arm, own in rows
        )
        means = {arm: own.groupby("rate")["value"].mean() for arm, own in rows}
        spans = ", ".join(
            f"{usable(means[arm], self.chance):.1f} octaves of {self.title(arm)}" for arm in means
        )
        return (
            f"Without clipping {lost} diverged; rates that keep {100 * KEPT:g} % of what the best "
            f"one gains over guessing span {spans}."
        )


def result(profile: str = "cpu", found: list[dict] | Found | None = None) -> Result:
    """What the ledger holds of the study under a profile."""
    design = designs.read(NAME)
    known = found_in(found)
    one = design.profile(profile)
    return Result(design, one, known, once(cells(design, one, known)))


def rose_again(loss: np.ndarray) -> bool:
    """Whether the mean loss of the last 20 steps lies above that of steps 16 to 25: the run learned
    and lost it, or never learned.
    """
    if len(loss) < 45:
        return False
    return bool(np.mean(loss[-20:]) > np.mean(loss[15:25]))


def spikes(loss: np.ndarray) -> float:
    """Steps, of 1,000, with a loss above the median of the 50 steps before plus 6 of their median
    absolute deviations. The first loss that is not finite is a spike, and the last step that
    counts: what follows it tells nothing. NaN for 50 steps or fewer.
    """
    known = np.asarray(loss, dtype=float)
    lost = np.flatnonzero(~np.isfinite(known))
    known = known[: lost[0] + 1] if len(lost) else known
    if len(known) <= WINDOW:
        return math.nan
    before = np.lib.stride_tricks.sliding_window_view(known, WINDOW)[:-1]
    median = np.median(before, axis=1)
    deviation = np.median(np.abs(before - median[:, None]), axis=1)
    above = ~(known[WINDOW:] <= median + 6 * deviation)  # NaN is above too
    return float(1000 * above.mean())


def tail_of(norm: np.ndarray) -> float:
    """The 99th percentile of the gradient's norm over its median, of the finite steps; NaN where
    there is none, or where half of them are 0.
    """
    finite = np.asarray(norm, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not len(finite) or not (middle := float(np.median(finite))):
        return math.nan
    return float(np.quantile(finite, 0.99)) / middle


def usable(means: pd.Series, chance: float) -> float:
    """Octaves of learning rates that keep KEPT of what the best one gains over guessing: accuracy
    by rate, joined linearly on the log scale. A range that reaches the end of the grid is cut off
    there. 0 where nothing is gained.

    chance: accuracy of guessing, in the accuracies' unit
    """
    means = means.sort_index()
    return float(octaves(means.index.to_numpy(dtype=float), means.to_numpy(dtype=float), chance))


def ends(means: pd.Series, chance: float) -> tuple[float, float]:
    """The lowest and the highest rate that keep KEPT of what the best one gains over guessing, on
    the lines that join the grid; an end of the grid where the range is cut off there. The best rate
    alone where nothing is gained.
    """
    means = means.sort_index()
    if means.max() <= chance:
        best = float(means.idxmax())
        return best, best
    limit = chance + KEPT * (means.max() - chance)
    rates, values = np.log2(means.index.to_numpy(dtype=float)), means.to_numpy(dtype=float)

    def first(order: slice) -> float:
        x, y = rates[order], values[order]
        at = int(np.argmax(y >= limit))
        if at == 0:
            return float(2 ** x[0])
        part = (limit - y[at - 1]) / (y[at] - y[at - 1])
        return float(2 ** (x[at - 1] + part * (x[at] - x[at - 1])))

    return first(slice(None)), first(slice(None, None, -1))


def octaves(rates: np.ndarray, values: np.ndarray, chance: float) -> np.ndarray:
    """`usable` of many at once: rates (R,) in rising order, accuracies (..., R) -> (...)."""
    steps = np.diff(np.log2(rates))  # (R - 1,)
    gain = values.max(axis=-1, keepdims=True) - chance
    limit = np.where(gain > 0, chance + KEPT * gain, np.inf)
    one, other = values[..., :-1], values[..., 1:]
    high, low = np.maximum(one, other), np.minimum(one, other)
    # of each step of the grid the part that lies above the limit
    part = np.clip((high - limit) / np.maximum(high - low, 1e-12), 0, 1)
    return (np.where(low >= limit, 1.0, part) * steps).sum(axis=-1)


def sensitivity(means: pd.Series, chance: float) -> float:
    """Mean shortfall from the best over the rates, in % of what the best gains over guessing: 0 if
    all rates are equal, 100 if all others only guess and there are many. NaN where nothing is
    gained. Wortsman et al. (2023, arXiv:2309.14322) take the mean shortfall of the loss.
    """
    gain = float(means.max() - chance)
    return 100 * float(means.max() - means.mean()) / gain if gain > 0 else math.nan
