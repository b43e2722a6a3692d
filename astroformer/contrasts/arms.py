"""Arms against one another, run by run of the same seed: two arms (`paired`, `pooled`), several
(`blocked`, `dunnett`), many tests (`holm`), no difference (`tost`).
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from astroformer.contrasts.contrast import PAIR, Contrast, mean, numbers, student

# Two arms


def paired(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Contrast:
    """Mean of a - b over seeds with its t interval. Both are in the order of the seeds; two Series
    must have the same index.

    Model: the differences of a seed's two runs are independent and normal. Source: Student (1908),
    "The Probable Error of a Mean", Biometrika 6.
    """
    return mean(_differences(a, b), confidence=confidence)


def pooled(sets: Mapping[Hashable, ArrayLike], *, confidence: float = 0.95) -> Contrast:
    """Mean of one contrast over several data sets, each with the same weight: name of the data set
    -> paired differences. `n` counts the pairs of all sets.

    Model: each set has its own mean and its own variance of a pair's difference; the sets are
    independent. The interval is about the mean of these sets, not about another data set. Degrees
    of freedom: Welch (1947), Biometrika 34, and Satterthwaite (1946), Biometrics Bulletin 2.
    """
    samples = {name: numbers(values) for name, values in sets.items()}
    if not samples:
        raise ValueError("There is no data set to average over.")
    estimate = float(np.mean([values.mean() for values in samples.values()]))
    n = sum(map(len, samples.values()))
    if min(map(len, samples.values())) < PAIR:
        return student(estimate, math.nan, 0, n, confidence)
    parts = np.array([values.var(ddof=1) / len(values) for values in samples.values()])
    each = np.array([len(values) - 1 for values in samples.values()])
    total = parts.sum()
    freedom = total**2 / (parts**2 / each).sum() if total > 0 else each.sum()
    return student(estimate, math.sqrt(total) / len(samples), float(freedom), n, confidence)


# Several arms


@dataclass(frozen=True, eq=False)
class Blocked:
    """A fitted two-way model (`blocked`): what `contrast` and `against` read from it."""

    arms: tuple[Hashable, ...]
    effects: np.ndarray  # (arms,) least squares; only their differences have a meaning
    unscaled: np.ndarray  # (arms, arms) covariance of the effects over the residual variance
    estimable: np.ndarray  # (arms, arms) takes a contrast to the part of it that the runs determine
    present: np.ndarray  # (arms, seeds) which runs there are
    sd: float  # of a residual, pooled over all arms; NaN without degrees of freedom
    freedom: int
    confidence: float

    def contrast(self, one: Hashable, other: Hashable) -> Contrast:
        """Mean of `one` less that of `other`, with the t interval of the pooled residual."""
        return self.combination({one: 1.0, other: -1.0})

    def combination(self, weights: Mapping[Hashable, float]) -> Contrast:
        """A weighted sum of arms, for example the trend over a dose; the weights sum to 0. `n` is
        the number of seeds that have a run of every weighted arm.
        """
        weight = self._weights(weights)
        n = int(self.present[weight != 0].all(axis=0).sum())
        scale = math.sqrt(max(0.0, weight @ self.unscaled @ weight))
        return student(
            float(weight @ self.effects), scale * self.sd, self.freedom, n, self.confidence
        )

    def against(self, control: Hashable) -> dict[Hashable, Contrast]:
        """Every other arm less the control, with simultaneous intervals and adjusted p-values: with
        the stated confidence *all* intervals hold.

        Dunnett (1955), Journal of the American Statistical Association 50, with the residual of the
        two-way model: the largest of the |t| has a multivariate t distribution.
        """
        others = [arm for arm in self.arms if arm != control]
        if len(others) == len(self.arms):
            raise ValueError(f"There is no arm {control!r}; there are {list(self.arms)}.")
        single = {arm: self.contrast(arm, control) for arm in others}
        if len(others) < 2 or self.freedom < 1 or self.sd == 0:
            return single
        rows = np.array([self._weights({arm: 1.0, control: -1.0}) for arm in others])
        return _simultaneous(single, rows @ self.unscaled @ rows.T)

    def _weights(self, weights: Mapping[Hashable, float]) -> np.ndarray:
        unknown = [arm for arm in weights if arm not in self.arms]
        if unknown:
            raise ValueError(f"There is no arm {unknown[0]!r}; there are {list(self.arms)}.")
        weight = np.array([float(weights.get(arm, 0.0)) for arm in self.arms])
        if abs(weight.sum()) > 1e-9 or not weight.any():
            raise ValueError("The weights of a contrast sum to 0, and not all of them are 0.")
        if not np.allclose(weight @ self.estimable, weight, atol=1e-8):
            raise ValueError(
                f"The arms {[arm for arm in weights if weights[arm]]} are joined by no common "
                "seeds: their difference cannot be told from that of the seeds."
            )
        return weight


def blocked(
    values: Mapping[Hashable, Mapping[Hashable, float]] | pd.DataFrame, *, confidence: float = 0.95
) -> Blocked:
    """Fit value = arm + seed + residual by least squares, from arm -> {seed: value} or from a
    DataFrame with a column for each arm and a row for each seed, where NaN is a run that was not
    made. Seeds without a run of some arm are used as far as they compare the others.

    Model: arms and seeds add, residuals are independent and normal with one variance. With two arms
    it is the paired t test; with more, the pooled residual has more degrees of freedom than each
    pair. Below 8 of them show the points and give no verdict. Source: Montgomery, "Design and
    Analysis of Experiments", chapter 4 (randomised complete block design).
    """
    table = _table(values)
    present = np.isfinite(table.to_numpy(dtype=float))  # (seeds, arms)
    seeds, arms = np.nonzero(present)
    observed = table.to_numpy(dtype=float)[seeds, arms]
    count = table.shape[1]
    design = np.hstack([np.eye(count)[arms], np.eye(len(table))[seeds]])  # (runs, arms + seeds)
    inverse = np.linalg.pinv(design.T @ design, rcond=1e-10, hermitian=True)
    solution = inverse @ (design.T @ observed)
    residual = observed - design @ solution
    freedom = len(observed) - int(np.linalg.matrix_rank(design))
    spread = float(residual @ residual)
    # what rounding leaves of values that add exactly is no spread
    spread = 0.0 if spread < (1e-12 * np.abs(observed).max()) ** 2 * len(observed) else spread
    return Blocked(
        arms=tuple(table.columns),
        effects=solution[:count],
        unscaled=inverse[:count, :count],
        estimable=(inverse @ design.T @ design)[:count, :count],
        present=present.T,
        sd=math.sqrt(spread / freedom) if freedom else math.nan,
        freedom=freedom,
        confidence=confidence,
    )


def dunnett(
    control: ArrayLike, others: Mapping[Hashable, ArrayLike], *, confidence: float = 0.95
) -> dict[Hashable, Contrast]:
    """Each other arm less the control, with simultaneous intervals and adjusted p-values, for runs
    that share no seeds; `blocked(...).against(...)` is for those that do.

    Model: independent normal values with one variance. Source: Dunnett (1955), Journal of the
    American Statistical Association 50. The critical value is found by root finding:
    scipy.stats.dunnett minimises a noisy function for it and promises 1 % of alpha only.
    """
    base = numbers(control)
    samples = {arm: numbers(values) for arm, values in others.items()}
    freedom = len(base) + sum(map(len, samples.values())) - len(samples) - 1
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in [base, *samples.values()])
    sd = math.sqrt(squares / freedom) if freedom else math.nan
    single = {
        arm: student(
            float(values.mean() - base.mean()),
            sd * math.sqrt(1 / len(base) + 1 / len(values)),
            freedom,
            min(len(base), len(values)),
            confidence,
        )
        for arm, values in samples.items()
    }
    if len(single) < 2 or freedom < 1 or sd == 0:
        return single
    own = np.diag([1 / len(values) for values in samples.values()])
    return _simultaneous(single, own + 1 / len(base))


# Many tests, and no difference


def holm(p_values: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """Adjusted p-values of a family of tests, in the order given: rejecting those below alpha
    rejects a true hypothesis with a probability of at most alpha, however the tests depend.

    Source: Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian
    Journal of Statistics 6.
    """
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ValueError(f"The p-value of {name!r} is {p}, not a number from 0 to 1.")
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def tost(differences: ArrayLike | Contrast, margin: float, *, alpha: float = 0.05) -> Contrast:
    """Is the mean within ± margin? Two one-sided t tests of paired differences, or of a contrast
    that has degrees of freedom (`paired`, `pooled`, `blocked`). `p` is the larger of the two: below
    alpha the difference is smaller than the margin. The interval has the confidence 1 - 2 alpha (90
    %), and p < alpha exactly if it lies within the margin.

    Model: that of the contrast. Source: Schuirmann (1987), Journal of Pharmacokinetics and
    Biopharmaceutics 15.
    """
    if not margin > 0:
        raise ValueError(f"A margin of {margin} leaves no room for equivalence.")
    if isinstance(differences, Contrast):
        if math.isnan(differences.freedom):
            raise ValueError("A contrast without degrees of freedom has no t test.")
        found = student(
            differences.estimate,
            differences.error,
            differences.freedom,
            differences.n,
            1 - 2 * alpha,
        )
    else:
        found = mean(differences, confidence=1 - 2 * alpha)
    room = margin - abs(found.estimate)
    if math.isnan(found.error):
        p = math.nan
    elif found.error == 0:
        p = 0.0 if room > 0 else 1.0
    else:
        p = float(stdtr(found.freedom, -room / found.error))
    return replace(found, p=p)


# What several of them share


def _differences(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """a - b, pair by pair."""
    if isinstance(a, pd.Series) and isinstance(b, pd.Series) and not a.index.equals(b.index):
        raise ValueError(f"The seeds differ: {list(a.index)} and {list(b.index)}.")
    one, other = numbers(a), numbers(b)
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} values are no pairs.")
    return one - other


def _table(values: Mapping[Hashable, Mapping[Hashable, float]] | pd.DataFrame) -> pd.DataFrame:
    """A column for each arm, a row for each seed, NaN where there is no run."""
    if not isinstance(values, pd.DataFrame):
        for runs in values.values():
            if runs:
                numbers(list(runs.values()))
        values = pd.DataFrame(
            {arm: pd.Series(dict(runs), dtype=float) for arm, runs in values.items()}
        )
    table = values.astype(float)
    if np.isinf(table.to_numpy()).any():
        raise ValueError("A value is infinite: count a diverged run at chance.")
    empty = [arm for arm in table.columns if table[arm].isna().all()]
    if table.shape[1] < 2 or empty:
        raise ValueError(
            f"Two arms with runs are needed; without any run: {empty}, arms: {list(table.columns)}."
        )
    return table


def _simultaneous(
    single: Mapping[Hashable, Contrast], covariance: np.ndarray
) -> dict[Hashable, Contrast]:
    """Contrasts of one residual with intervals that hold together, from those that hold alone and
    their covariance (contrasts, contrasts) over the residual variance.
    """
    scale = np.sqrt(np.diag(covariance))
    correlation = np.round(covariance / np.outer(scale, scale), 12)
    key = tuple(map(tuple, correlation.tolist()))
    any_of_them = next(iter(single.values()))
    critical = _critical(key, any_of_them.freedom, any_of_them.confidence)
    return {
        arm: replace(
            found,
            low=found.estimate - critical * found.error,
            high=found.estimate + critical * found.error,
            p=max(found.p, 1 - _all_below(abs(found.estimate) / found.error, key, found.freedom)),
        )
        for arm, found in single.items()
    }


def _all_below(limit: float, correlation: tuple[tuple[float, ...], ...], freedom: float) -> float:
    """Probability that all |t| of a multivariate t distribution are below a limit."""
    from scipy import stats

    limits = np.full(len(correlation), limit)
    # a fixed seed: the integral uses random points, and the same data must give the same p
    return float(
        stats.multivariate_t.cdf(
            limits,
            shape=np.array(correlation),
            df=freedom,
            lower_limit=-limits,
            random_state=np.random.default_rng(0),
        )
    )


@lru_cache(maxsize=256)
def _critical(
    correlation: tuple[tuple[float, ...], ...], freedom: float, confidence: float
) -> float:
    """The limit below which all |t| lie with this probability. It is above that of a single t and
    below Bonferroni's.
    """
    from scipy.optimize import brentq

    tests = len(correlation)
    single = float(stdtrit(freedom, (1 + confidence) / 2))
    bonferroni = float(stdtrit(freedom, 1 - (1 - confidence) / 2 / tests))
    return float(
        brentq(
            lambda limit: _all_below(limit, correlation, freedom) - confidence,
            0.99 * single,
            1.01 * bonferroni,
            xtol=1e-5,
        )
    )
