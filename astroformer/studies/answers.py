"""What a comparison of two arms allows to be said: a verdict of four words, and its sentence.

The rule, from the designs of the studies: `supported` where the whole 95 % interval over seeds and
test images lies above 0, `contradicted` where it lies below, `no difference that matters` where the
90 % interval lies within the smallest effect of interest (two one-sided tests), `undecided`
otherwise. Never "no effect".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc, stdtrit

from astroformer import contrasts
from astroformer.contrasts import Contrast
from astroformer.counting import closed_forms
from astroformer.data.tasks import TASKS
from astroformer.studies.outcomes import Difference

SUPPORTED, CONTRADICTED = "supported", "contradicted"
SAME, UNDECIDED, NOT_RUN = "no difference that matters", "undecided", "not run"
FEWEST = 3  # seeds on each task, below which points are shown and nothing is said
# a look at fewer seeds decides nothing: many looks would find something by chance
WAITS = "The verdict waits for all seeds."
# Millions of parameters of the networks that the paper's tables name, as released.
SIZES = [
    closed_forms.released_counts(model, image_size=224, num_classes=10).params / 1e6
    for model in ("astroformer_3", "astroformer_4", "astroformer_5")
]
SCALE = (
    f"It says nothing about the paper's networks, of {min(SIZES):.0f} to {max(SIZES):.0f} "
    "million parameters at 224 pixels."
)


@dataclass(frozen=True)
class Answer:
    verdict: str
    sentence: str
    pilot: bool  # fewer seeds than the design asks for


def interval_of(difference: Difference) -> Contrast:
    """The wider of the two intervals that exist: over seeds and images, else over seeds."""
    seeds, images = difference.seeds, difference.images
    if images is None or images.high - images.low < seeds.high - seeds.low:
        return seeds
    return images


def narrow_interval_of(difference: Difference, smallest: float) -> tuple[float, float]:
    """The 90 % interval of the same kind. That over seeds is of the two one-sided tests; that over
    seeds and images is the 95 % one, narrowed as the t interval is.
    """
    seeds, wide = difference.seeds, interval_of(difference)
    tested = contrasts.tost(seeds, smallest)
    if wide is seeds:
        return tested.low, tested.high
    part = float(stdtrit(seeds.freedom, 0.95) / stdtrit(seeds.freedom, 0.975))
    low, high = (wide.estimate + part * (end - wide.estimate) for end in (wide.low, wide.high))
    return low, high


def verdict_of(difference: Difference, smallest: float) -> str:
    """One of the four words; "undecided" where an interval is not known."""
    interval = interval_of(difference)
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return UNDECIDED
    if interval.low > 0:
        return SUPPORTED
    if interval.high < 0:
        return CONTRADICTED
    low, high = narrow_interval_of(difference, smallest)
    return SAME if -smallest < low and high < smallest else UNDECIDED


def answer(
    difference: Difference | None,
    *,
    one: str,
    other: str,
    where: str,
    smallest: float,
    seeds: int,
    tasks: int,
    without: Difference | None = None,
) -> Answer:
    """The verdict and its sentence.

    where: such as "At 1.2 million parameters and 32 pixels, with 20 images a class"
    seeds: that the design asks for on each task
    without: the same difference without the runs that diverged, told where there are some
    """
    if difference is None:
        return Answer(NOT_RUN, f"{one} against {other}: too few runs yet to compare.", True)
    each = min(len(pairs) for pairs in difference.pairs.values())
    pilot = each < seeds
    also = [told for told in (_lost(difference, without, one, other), SCALE) if told]
    if each < FEWEST:
        kind = "Pilot: " if pilot else ""
        told = f"{kind}{_numbers(difference)}; {each} seeds decide nothing."
        return Answer(UNDECIDED, " ".join((told, *also)), pilot)
    verdict, estimate = verdict_of(difference, smallest), difference.seeds.estimate
    interval = interval_of(difference)
    alone = " for other seeds alone" if difference.images is None else ""
    if pilot:
        span = f"95 % {signed(interval.low)} to {signed(interval.high)}{alone}"
        sentence = (
            f"Pilot: {where}, {one} less {other} is so far {signed(estimate)} points on test "
            f"images ({span}; {each} of {seeds} seeds, {tasks} data set{'s' * (tasks > 1)})"
            f"{_fit_so_far(difference)}. {WAITS}"
        )
        return Answer(UNDECIDED, " ".join((sentence, *also)), pilot)
    low, high, confidence = interval.low, interval.high, 95
    if verdict == SAME:  # by this interval it is said
        low, high = narrow_interval_of(difference, smallest)
        confidence = 90
    span = f"{confidence} % {signed(low)} to {signed(high)}"
    evidence = f"({span}{alone}; {each} seeds, {tasks} data set{'s' * (tasks > 1)})"
    if verdict in (SUPPORTED, CONTRADICTED):
        beyond = f", by more than {smallest:g} point" if min(abs(low), abs(high)) > smallest else ""
        word, fit = _compared(difference, smallest, better=verdict == SUPPORTED)
        sentence = (
            f"{where}, {one} {word} than {other} by {abs(estimate):.1f} points {evidence}"
            f"{beyond}{fit}."
        )
    elif verdict == SAME:
        sentence = f"{where}, {one} and {other} differ by less than {smallest:g} point {evidence}."
    else:
        sentence = (
            f"{where}: {signed(estimate)} points {evidence}. {one} may be up to "
            f"{max(0.0, high):.1f} points better or {max(0.0, -low):.1f} worse than {other}."
            f"{_needed(difference, smallest, each)}"
        )
    also = [heterogeneous(difference), *also]
    return Answer(verdict, " ".join((sentence, *filter(None, also))), pilot)


def _fit_so_far(difference: Difference) -> str:
    """The difference on training images, where it is known."""
    estimate = difference.train.estimate
    return f" and {signed(estimate)} on training images" if math.isfinite(estimate) else ""


def _compared(difference: Difference, smallest: float, *, better: bool) -> tuple[str, str]:
    """ "is better", or "generalises better" where the training images are fitted equally well; and
    what is said of that fit: "better fit" and "better generalisation" are two things.
    """
    train, word = difference.train, "better" if better else "worse"
    by = f"by {abs(train.estimate):.1f} points"
    if train.low > 0 or train.high < 0:
        fit = "better" if train.low > 0 else "worse"
        link = ", and also fits" if fit == word else ", but fits"
        return f"is {word}", f"{link} the training images {fit}, {by}"
    if not math.isfinite(train.high - train.low):
        return f"is {word}", "; how well it fits the training images is not known"
    if contrasts.tost(train, smallest).p < 0.05:
        return f"generalises {word}", ", and fits the training images equally well"
    return f"is {word}", (
        f", and may fit the training images better or worse ({signed(train.estimate)} points, "
        f"95 % {signed(train.low)} to {signed(train.high)})"
    )


def heterogeneous(difference: Difference) -> str:
    """A sentence where the tasks disagree by more than their seeds do, else nothing."""
    if not (told := by_task(difference)):
        return ""
    return (
        f"The data sets disagree ({told}): the mean is of these sets and no forecast for a "
        "further one."
    )


def by_task(difference: Difference) -> str:
    """ "CIFAR-100 +4.8; Galaxy Zoo 1 −0.1" where the tasks disagree by more than their seeds do,
    else nothing.

    The test, at 5 %, is that of one mean with a variance for each task: Welch (1951), "On the
    Comparison of Several Mean Values", Biometrika 38.
    """
    samples = [np.asarray(pairs, dtype=float) for pairs in difference.pairs.values()]
    sizes = np.array([len(sample) for sample in samples])
    if len(samples) < 2 or sizes.min() < contrasts.contrast.PAIR:
        return ""
    means = np.array([sample.mean() for sample in samples])
    variances = np.array([sample.var(ddof=1) for sample in samples])
    if variances.min() <= 0:
        return ""
    weights, k = sizes / variances, len(samples)
    middle = float(weights @ means / weights.sum())
    unequal = float((((1 - weights / weights.sum()) ** 2) / (sizes - 1)).sum())
    scale = 1 + 2 * (k - 2) / (k**2 - 1) * unequal
    ratio = float(weights @ (means - middle) ** 2) / (k - 1) / scale
    if fdtrc(k - 1, (k**2 - 1) / (3 * unequal), ratio) >= 0.05:
        return ""
    return "; ".join(f"{_title(task)} {signed(mean)}" for task, mean in difference.means.items())


def _lost(difference: Difference, without: Difference | None, one: str, other: str) -> str:
    """What is said of runs that diverged; nothing where none did."""
    if not any(difference.diverged):
        return ""
    first, second = difference.diverged
    told = f"{first} runs of {one} and {second} of {other} diverged and count at chance"
    if without is None:
        return f"{told}; without them too few are left to compare."
    found = interval_of(without)
    ends = f"95 % {signed(found.low)} to {signed(found.high)}"
    known = f" ({ends})" if math.isfinite(found.high - found.low) else ""
    return f"{told}; without them the difference is {signed(without.seeds.estimate)} points{known}."


def _needed(difference: Difference, smallest: float, made: int) -> str:
    """How many seeds the spread asks for; nothing where it is not known, or where so many are made
    and the spread over seeds is not what leaves it undecided.
    """
    samples: Sequence = list(difference.pairs.values())
    spreads = [float(pairs.std(ddof=1)) for pairs in samples if len(pairs) > 1]
    if not spreads or not all(map(math.isfinite, spreads)) or max(spreads) == 0:
        return ""
    # of the mean over tasks, as if each seed gave one such mean
    spread = math.sqrt(sum(one**2 for one in spreads)) / len(spreads)
    number = contrasts.needed_seeds(spread, smallest)
    if number <= made:
        return ""
    return f" With this spread {number} seeds would be needed to see {smallest:g} point."


def _numbers(difference: Difference) -> str:
    return "; ".join(
        f"{_title(task)}: " + ", ".join(signed(value) for value in pairs)
        for task, pairs in difference.pairs.items()
    )


def _title(task: str) -> str:
    return TASKS[task].title if task in TASKS else task


def signed(value: float, digits: int = 1) -> str:
    """ "+1.2", "−0.3" with a true minus, "0.0" without a sign."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else '−'}{text}"
