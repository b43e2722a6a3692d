"""Runs one by one: how probably one is better (`probability_of_improvement`), how their spreads
compare (`sd_ratio`), where a further one lies (`prediction_interval`), how many are needed
(`needed_seeds`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtr, fdtri, nctdtr, ndtr, ndtri, stdtrit

from astroformer.contrasts.contrast import PAIR, Contrast, numbers


@dataclass(frozen=True)
class SdRatio(Contrast):
    """A log ratio of standard deviations; `freedom` is that of the numerator."""

    freedom_b: float = math.nan  # degrees of freedom of the denominator


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
    one, other = numbers(a), numbers(b)
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

    Model: independent normal runs. Source: Hahn and Meeker, "Statistical Intervals", chapter 4.
    """
    sample = numbers(values)
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


def _pooled_variance(cells: Sequence[ArrayLike]) -> tuple[float, int]:
    """Variance within cells and its degrees of freedom."""
    samples = [numbers(cell) for cell in cells]
    freedom = sum(len(sample) - 1 for sample in samples)
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples)
    if freedom < 1 or squares == 0:
        raise ValueError("A standard deviation needs a cell with two different values.")
    return squares / freedom, freedom
