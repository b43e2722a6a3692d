"""Differences between arms with their intervals and p-values: every comparison of the book is made
here.

An arm is a way of training, a seed is one training run of it. Runs of the same seed share their
images, their order and their random draws, so that seeds are pairs (two arms) or blocks (several).
Reads top to bottom: two arms (`paired`, `pooled`), several arms (`blocked`, `dunnett`), many tests
(`holm`), no difference (`tost`), other test images (`two_way_bootstrap`, `pooled_bootstrap`),
runs one by one (`probability_of_improvement`, `sd_ratio`, `prediction_interval`), planning
(`needed_seeds`).

A value has the unit that it is given in; an accuracy of the ledger is a percentage, a difference of
two of them is in percentage points. Intervals hold for normal errors. A value that is not finite
is refused: whoever compares arms must say how a diverged run counts.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

# scipy.stats imports for more than a second: only where scipy.special lacks something
from scipy.special import fdtr, fdtri, nctdtr, ndtr, ndtri, stdtr, stdtrit

PAIR = 2  # the fewest values that have a spread


@dataclass(frozen=True)
class Contrast:
    """An estimate with its interval. What cannot be known (the interval of a single run) is NaN."""

    estimate: float
    low: float
    high: float
    p: float  # two-sided, of the hypothesis that nothing differs; `tost` has the opposite one
    n: int  # pairs, blocks that both arms share, or runs of the smaller arm
    freedom: float = math.nan  # degrees of freedom of the error
    error: float = math.nan  # standard error of the estimate, where the interval is a t interval
    confidence: float = 0.95


@dataclass(frozen=True)
class SdRatio(Contrast):
    """A log ratio of standard deviations; `freedom` is that of the numerator."""

    freedom_b: float = math.nan  # degrees of freedom of the denominator


# Two arms


def paired(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Contrast:
    """Mean of a - b over seeds with its t interval. Both are in the order of the seeds; two Series
    must have the same index.

    Model: the differences of a seed's two runs are independent and normal. Source: Student (1908),
    "The Probable Error of a Mean", Biometrika 6.
    """
    differences = _differences(a, b)
    return _mean_of(differences, confidence)


def pooled(sets: Mapping[Hashable, ArrayLike], *, confidence: float = 0.95) -> Contrast:
    """Mean of one contrast over several data sets, each with the same weight: name of the data set
    -> paired differences. `n` counts the pairs of all sets.

    Model: each set has its own mean and its own variance of a pair's difference; the sets are
    independent. The interval is about the mean of these sets, not about another data set. Degrees
    of freedom: Welch (1947), Biometrika 34, and Satterthwaite (1946), Biometrics Bulletin 2.
    """
    samples = {name: _numbers(values) for name, values in sets.items()}
    if not samples:
        raise ValueError("There is no data set to average over.")
    estimate = float(np.mean([values.mean() for values in samples.values()]))
    n = sum(map(len, samples.values()))
    if min(map(len, samples.values())) < PAIR:
        return _student(estimate, math.nan, 0, n, confidence)
    parts = np.array([values.var(ddof=1) / len(values) for values in samples.values()])
    each = np.array([len(values) - 1 for values in samples.values()])
    total = parts.sum()
    freedom = total**2 / (parts**2 / each).sum() if total > 0 else each.sum()
    return _student(estimate, math.sqrt(total) / len(samples), float(freedom), n, confidence)


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
        return _student(
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
        covariance = rows @ self.unscaled @ rows.T
        scale = np.sqrt(np.diag(covariance))
        correlation = np.round(covariance / np.outer(scale, scale), 12)
        key = tuple(map(tuple, correlation.tolist()))
        critical = _critical(key, self.freedom, self.confidence)
        return {
            arm: Contrast(
                estimate=found.estimate,
                low=found.estimate - critical * found.error,
                high=found.estimate + critical * found.error,
                p=max(
                    found.p, 1 - _all_below(abs(found.estimate) / found.error, key, self.freedom)
                ),
                n=found.n,
                freedom=self.freedom,
                error=found.error,
                confidence=self.confidence,
            )
            for arm, found in single.items()
        }

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
    American Statistical Association 50, as in scipy.stats.dunnett.
    """
    from scipy import stats

    base = _numbers(control)
    samples = {arm: _numbers(values) for arm, values in others.items()}
    # a fixed generator: the distribution is integrated by random points
    found = stats.dunnett(*samples.values(), control=base, rng=np.random.default_rng(0))
    interval = found.confidence_interval(confidence)
    freedom = len(base) + sum(map(len, samples.values())) - len(samples) - 1
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in [base, *samples.values()])
    return {
        arm: Contrast(
            estimate=float(values.mean() - base.mean()),
            low=float(interval.low[position]),
            high=float(interval.high[position]),
            p=float(found.pvalue[position]),
            n=min(len(base), len(values)),
            freedom=freedom,
            error=math.sqrt(squares / freedom * (1 / len(base) + 1 / len(values))),
            confidence=confidence,
        )
        for position, (arm, values) in enumerate(samples.items())
    }


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
        found = _student(
            differences.estimate,
            differences.error,
            differences.freedom,
            differences.n,
            1 - 2 * alpha,
        )
    else:
        found = _mean_of(_numbers(differences), 1 - 2 * alpha)
    room = margin - abs(found.estimate)
    if math.isnan(found.error):
        p = math.nan
    elif found.error == 0:
        p = 0.0 if room > 0 else 1.0
    else:
        p = float(stdtr(found.freedom, -room / found.error))
    return Contrast(
        found.estimate,
        found.low,
        found.high,
        p,
        found.n,
        found.freedom,
        found.error,
        found.confidence,
    )


# Other test images


@dataclass(frozen=True, eq=False)
class Answers:
    """Which test images two arms classify correctly: arrays (seeds, images) of truth values, in the
    same order of seeds and of images; `labels` are the classes of the images.
    """

    correct_a: np.ndarray
    correct_b: np.ndarray
    labels: np.ndarray
    balanced: bool = False  # the mean over classes instead of that over images


def two_way_bootstrap(
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    labels: np.ndarray,
    *,
    balanced: bool = False,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Contrast:
    """Accuracy of A less that of B in percentage points, with an interval for other seeds *and*
    other test images of the same classes; `balanced` compares the means over classes. Arrays as in
    `Answers`; the percentile interval is of the draws of `bootstrap_draws`. `n` counts the seeds.
    """
    answers = Answers(correct_a, correct_b, labels, balanced)
    return pooled_bootstrap({"": answers}, confidence=confidence, draws=draws, seed=seed)


def pooled_bootstrap(
    sets: Mapping[Hashable, Answers],
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Contrast:
    """`two_way_bootstrap` of the mean over several data sets, each with the same weight; `n` counts
    the seeds of all sets. The sets are drawn independently.
    """
    if not sets:
        raise ValueError("There is no data set to average over.")
    streams = np.random.default_rng(seed).spawn(len(sets))
    found = [
        bootstrap_draws(answers, draws, generator=stream)
        for answers, stream in zip(sets.values(), streams)
    ]
    estimate = float(np.mean([own for own, _ in found]))
    drawn = np.mean([own for _, own in found], axis=0)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    # as many draws as lie beyond 0 on the rarer side, and the data themselves
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return Contrast(
        estimate,
        float(low),
        float(high),
        min(1.0, 2 * (tail + 1) / (draws + 1)),
        sum(len(answers.correct_a) for answers in sets.values()),
        confidence=confidence,
    )


def bootstrap_draws(
    answers: Answers, draws: int, *, generator: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Difference of the accuracies of two arms in percentage points, and draws of what it would be
    with other seeds and other test images: the difference plus the deviation of resampled seeds
    plus that of images resampled within their class. Both arms get the same seeds and images.

    Model: image i is answered by seed s with difference = mean + seed + image + remainder. A
    bootstrap that resamples both at once counts the remainder three times (Owen 2007, "The
    Pigeonhole Bootstrap", Annals of Applied Statistics 1); here the seeds' deviation contains it,
    and the images' is reduced by its part of the variance. Deviations are enlarged by sqrt(n / (n -
    1)), since resampling n values shows (n - 1) / n of their variance. The seeds' are divided by
    the root of a chi-square draw over its degrees of freedom, as in Student's t, since few seeds
    tell their own spread badly (Hesterberg 2015, The American Statistician 69, on small samples).
    """
    difference, labels = _answers(answers)
    classes = [difference[:, labels == name] for name in np.unique(labels)]
    weights = [
        1 / len(classes) if answers.balanced else part.shape[1] / len(labels) for part in classes
    ]
    seeds = sum(weight * part.mean(axis=1) for weight, part in zip(weights, classes))
    estimate, n = float(np.mean(seeds)), len(difference)
    by_seed = seeds[generator.integers(0, n, (draws, n))].mean(axis=1) - estimate
    by_seed *= np.sqrt(n / generator.chisquare(n - 1, draws))  # sqrt(n / (n - 1)) is part of it

    by_image, variance, remainder = np.zeros(draws), 0.0, 0.0
    for weight, part in zip(weights, classes):
        images = part.mean(axis=0)  # over seeds
        m = len(images)
        if m < PAIR:
            continue  # a class of one image does not show how images differ
        chosen = generator.integers(0, m, (draws, m), dtype=np.int32)
        deviation = images[chosen].mean(axis=1) - images.mean()
        by_image += weight * math.sqrt(m / (m - 1)) * deviation
        left = part - images - part.mean(axis=1, keepdims=True) + images.mean()
        variance += weight**2 * images.var(ddof=1) / m
        remainder += weight**2 * float((left**2).sum()) / ((n - 1) * (m - 1)) / n / m
    if variance > 0:
        by_image *= math.sqrt(max(0.0, 1 - remainder / variance))
    return 100 * estimate, 100 * (estimate + by_seed + by_image)


# Runs one by one


def probability_of_improvement(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Contrast:
    """How probably a run of A has a larger value than a run of B, ties counted by half: the share
    of all pairs of runs. `p` is of the hypothesis that it is 1/2.

    The estimate: Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical
    Precipice" (arXiv:2108.13264), section 4.3. The interval: all probabilities whose score test is
    not rejected, with the variance of Hanley and McNeil at the mean sample size (Newcombe 2006,
    Statistics in Medicine 25, method 5); unlike a bootstrap it keeps a width at 0 and at 1. Model:
    independent runs; where seeds are shared and help both arms alike, the interval is too wide.
    Both use the normal distribution: below 5 runs an arm (3 against 3 can show no exact p below
    0.1) take the estimate alone.
    """
    one, other = _numbers(a), _numbers(b)
    m, n = len(one), len(other)
    above = np.sign(one[:, None] - other[None, :])
    estimate = float((above.mean() + 1) / 2)

    def variance(share):
        size = (m + n) / 2 - 1
        ties = (1 - share) / (2 - share) + share / (1 + share)
        return share * (1 - share) * (1 + size * ties) / (m * n)

    shares = np.linspace(0, 1, 20_001)
    z = ndtri((1 + confidence) / 2)
    kept = shares[(estimate - shares) ** 2 <= z**2 * variance(shares)]
    error = math.sqrt(variance(0.5))
    return Contrast(
        estimate,
        float(min(kept.min(initial=1), estimate)),
        float(max(kept.max(initial=0), estimate)),
        float(2 * ndtr(-abs(estimate - 0.5) / error)),
        min(m, n),
        confidence=confidence,
    )


def sd_ratio(
    a: Sequence[ArrayLike], b: Sequence[ArrayLike], *, confidence: float = 0.95
) -> SdRatio:
    """Natural logarithm of the standard deviation over seeds of A over that of B, pooled over cells
    (a cell is one data set at one size): a list of the cells' values for each arm. Cells may differ
    in their means. exp() of the estimate and of the ends is the ratio itself.

    Model: independent normal values, for each arm one variance in all cells; runs that share seeds
    make the interval too wide. Source: the F interval of a ratio of variances, Snedecor and
    Cochran, "Statistical Methods", chapter 6.
    """
    (one, freedom), (other, freedom_b) = _pooled_variance(a), _pooled_variance(b)
    estimate = math.log(one / other) / 2
    tail = (1 - confidence) / 2
    below = float(fdtr(freedom, freedom_b, one / other))
    return SdRatio(
        estimate,
        estimate - math.log(fdtri(freedom, freedom_b, 1 - tail)) / 2,
        estimate - math.log(fdtri(freedom, freedom_b, tail)) / 2,
        min(1.0, 2 * min(below, 1 - below)),
        min(sum(map(np.size, a)), sum(map(np.size, b))),
        freedom=freedom,
        confidence=confidence,
        freedom_b=freedom_b,
    )


def prediction_interval(
    values: ArrayLike,
    *,
    confidence: float = 0.95,
    selection_allowance: float = 0.0,
    image_error: float = 0.0,
) -> Contrast:
    """Where one further run of the same training lies: mean ± t s sqrt(1 + 1/n). A published number
    is such a run, so that it is compared with this interval and not with that of the mean.

    `selection_allowance` raises the upper end: an author who reports the best epoch can only be
    higher. `image_error` is the standard error due to other test images where the published split
    is not known; it is added in squares. `error` is that of a further run about the mean, without
    both. There is no hypothesis and no p.

    Model: independent normal runs. Sources: Hahn and Meeker, "Statistical Intervals", chapter 4;
    statistics.md, A2.
    """
    sample = _numbers(values)
    if selection_allowance < 0 or image_error < 0:
        raise ValueError("An allowance and a standard error are not negative.")
    n, mean = len(sample), float(sample.mean())
    if n < PAIR:
        return Contrast(mean, math.nan, math.nan, math.nan, n, n - 1, confidence=confidence)
    error = float(sample.std(ddof=1)) * math.sqrt(1 + 1 / n)
    level = (1 + confidence) / 2
    half = math.hypot(float(stdtrit(n - 1, level)) * error, float(ndtri(level)) * image_error)
    return Contrast(
        mean,
        mean - half,
        mean + half + selection_allowance,
        math.nan,
        n,
        n - 1,
        error,
        confidence,
    )


# Planning


def needed_seeds(sd: float, effect: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """The fewest seeds with which a two-sided paired t test finds a mean difference of `effect`
    with this power; `sd` is that of a pair's difference, in the same unit.

    Source: the noncentral t distribution, Cohen, "Statistical Power Analysis", chapter 2.
    """
    if not (effect != 0 and math.isfinite(effect) and sd >= 0 and math.isfinite(sd)):
        raise ValueError(f"No number of seeds shows an effect of {effect} at an sd of {sd}.")
    if not 0 < alpha < power < 1:
        raise ValueError(f"A power of {power} does not lie between alpha = {alpha} and 1.")
    if sd == 0:
        return PAIR
    size = abs(effect) / sd
    # the normal approximation is never too large, and short by a few seeds at most
    n = max(PAIR, math.floor(((ndtri(1 - alpha / 2) + ndtri(power)) / size) ** 2))
    while paired_power(n, size, alpha=alpha) < power:
        n += 1
    return n


def paired_power(n: int, size: float, *, alpha: float = 0.05) -> float:
    """Probability that a two-sided paired t test with n seeds rejects "no difference" if the mean
    difference is `size` standard deviations of a pair's difference.
    """
    critical, shift = stdtrit(n - 1, 1 - alpha / 2), math.sqrt(n) * abs(size)
    return float(1 - nctdtr(n - 1, shift, critical) + nctdtr(n - 1, shift, -critical))


# What several of them share


def _student(estimate: float, error: float, freedom: float, n: int, confidence: float) -> Contrast:
    """The t interval and the two-sided p of an estimate with a standard error."""
    if not freedom > 0 or math.isnan(error):
        return Contrast(
            estimate, math.nan, math.nan, math.nan, n, freedom, math.nan, confidence=confidence
        )
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    if error > 0:
        p = float(2 * stdtr(freedom, -abs(estimate) / error))
    else:
        p = 1.0 if estimate == 0 else 0.0
    return Contrast(estimate, estimate - half, estimate + half, p, n, freedom, error, confidence)


def _mean_of(values: np.ndarray, confidence: float) -> Contrast:
    """A mean with its t interval."""
    n = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n >= PAIR else math.nan
    return _student(float(values.mean()), error, n - 1, n, confidence)


def _numbers(values: ArrayLike) -> np.ndarray:
    """One row of finite numbers, at least one."""
    found = np.asarray(values, dtype=float)
    if found.ndim != 1 or not len(found):
        raise ValueError(f"One row of values is needed, not an array of shape {found.shape}.")
    if not np.isfinite(found).all():
        raise ValueError(
            f"{int((~np.isfinite(found)).sum())} of {len(found)} values are not finite: count a "
            "diverged run at chance, or leave its seed out and say so."
        )
    return found


def _differences(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """a - b, pair by pair."""
    if isinstance(a, pd.Series) and isinstance(b, pd.Series) and not a.index.equals(b.index):
        raise ValueError(f"The seeds differ: {list(a.index)} and {list(b.index)}.")
    one, other = _numbers(a), _numbers(b)
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} values are no pairs.")
    return one - other


def _table(values: Mapping[Hashable, Mapping[Hashable, float]] | pd.DataFrame) -> pd.DataFrame:
    """A column for each arm, a row for each seed, NaN where there is no run."""
    if not isinstance(values, pd.DataFrame):
        for runs in values.values():
            if runs:
                _numbers(list(runs.values()))
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


def _answers(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Differences (seeds, images) in -1, 0, 1, and the classes of the images."""
    one, other = np.asarray(answers.correct_a), np.asarray(answers.correct_b)
    labels = np.asarray(answers.labels)
    if one.ndim != 2 or one.shape != other.shape or one.shape[1:] != labels.shape:
        raise ValueError(
            f"Arrays of shapes {one.shape}, {other.shape} and {labels.shape} are not (seeds, "
            "images) twice and (images)."
        )
    if one.dtype != bool or other.dtype != bool:
        raise ValueError("Correct answers are truth values: give `predicted == labels`.")
    if len(one) < PAIR or not len(labels):
        raise ValueError("Two seeds and an image are needed to see how seeds and images differ.")
    return one.astype(float) - other, labels


def _pooled_variance(cells: Sequence[ArrayLike]) -> tuple[float, int]:
    """Variance within cells and its degrees of freedom."""
    samples = [_numbers(cell) for cell in cells]
    freedom = sum(len(sample) - 1 for sample in samples)
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples)
    if freedom < 1 or squares == 0:
        raise ValueError("A standard deviation needs a cell with two different values.")
    return squares / freedom, freedom


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
