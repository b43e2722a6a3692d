"""Intervals for other test images, not only other seeds: two arms (`two_way_bootstrap`), two arms
on several data sets (`pooled_bootstrap`), one arm (`accuracy_bootstrap`).
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from astroformer.contrasts.contrast import PAIR, Contrast, on_logit_scale


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


def accuracy_bootstrap(
    correct: np.ndarray,
    labels: np.ndarray,
    *,
    balanced: bool = False,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Contrast:
    """Accuracy of one arm in percent, with an interval for other seeds *and* other test images of
    the same classes; `balanced` is the mean over classes. `correct` (seeds, images) are truth
    values, `labels` (images) the classes. The ends are those of `bootstrap_draws`, on the logit
    scale. There is no hypothesis and no p.
    """
    answers = Answers(correct, np.zeros_like(correct), labels, balanced)
    found = pooled_bootstrap({"": answers}, confidence=confidence, draws=draws, seed=seed)
    return on_logit_scale(replace(found, p=math.nan))


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
