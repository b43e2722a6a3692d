"""What a contrast is, and the t interval that several of them share."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

# scipy.stats imports for more than a second: only where scipy.special lacks something
from scipy.special import expit, logit, stdtr, stdtrit

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


def mean(values: ArrayLike, *, confidence: float = 0.95) -> Contrast:
    """Mean of runs with its t interval, in the unit of the values; `p` is of the hypothesis that it
    is 0.

    Model: independent normal runs. Source: Student (1908), Biometrika 6.
    """
    known = numbers(values)
    n = len(known)
    error = float(known.std(ddof=1)) / math.sqrt(n) if n >= PAIR else math.nan
    return student(float(known.mean()), error, n - 1, n, confidence)


def on_logit_scale(found: Contrast) -> Contrast:
    """The interval of a share in percent with its ends carried over to the logit scale, so that
    they lie between 0 and 100. A share of 0 or 100 % has no interval there: NaN.

    The distance of an end from the estimate p is divided by the slope p (100 - p) / 100 of the
    logit (delta method), so that single runs of 0 or 100 % do no harm. Source: Agresti,
    "Categorical Data Analysis", section 3.1.
    """
    if not 0 < found.estimate < 100:
        return replace(found, low=math.nan, high=math.nan)
    share = found.estimate / 100
    slope = 100 * share * (1 - share)

    def carried(end: float) -> float:
        return float(100 * expit(logit(share) + (end - found.estimate) / slope))

    return replace(found, low=carried(found.low), high=carried(found.high))


def student(estimate: float, error: float, freedom: float, n: int, confidence: float) -> Contrast:
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


def numbers(values: ArrayLike) -> np.ndarray:
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
