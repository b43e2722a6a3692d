"""What a comparison of two arms allows to be said: a verdict of four words, and its sentence.

The rule, from the designs of the studies: `supported` where the whole 95 % interval over seeds and
test images lies above 0, `contradicted` where it lies below, `no difference that matters` where the
90 % interval over seeds lies within the smallest effect of interest (two one-sided tests),
`undecided` otherwise. Never "no effect".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from astroformer import contrasts
from astroformer.contrasts import Contrast
from astroformer.studies.outcomes import Difference

SUPPORTED, CONTRADICTED = "supported", "contradicted"
SAME, UNDECIDED, NOT_RUN = "no difference that matters", "undecided", "not run"
FEWEST = 3  # seeds on each task, below which points are shown and nothing is said
SCALE = "It says nothing about the 160 to 650 million parameters at 224 pixels of the paper."


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


def verdict_of(difference: Difference, smallest: float) -> str:
    """One of the four words; "undecided" where an interval is not known."""
    interval = interval_of(difference)
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return UNDECIDED
    if interval.low > 0:
        return SUPPORTED
    if interval.high < 0:
        return CONTRADICTED
    return SAME if contrasts.tost(difference.seeds, smallest).p < 0.05 else UNDECIDED


def answer(
    difference: Difference | None,
    *,
    one: str,
    other: str,
    where: str,
    smallest: float,
    seeds: int,
    tasks: int,
) -> Answer:
    """The verdict and its sentence.

    where: such as "At 1.2 million parameters and 32 to 48 pixels, with 20 to 50 images a class"
    seeds: that the design asks for on each task
    """
    if difference is None:
        return Answer(NOT_RUN, f"{one} against {other}: too few runs yet to compare.", True)
    each = min(len(pairs) for pairs in difference.pairs.values())
    pilot = each < seeds
    kind = "Pilot: " if pilot else ""
    if each < FEWEST:
        told = f"{kind}{_numbers(difference)}; {each} seeds decide nothing."
        return Answer(UNDECIDED, told, pilot)
    verdict = verdict_of(difference, smallest)
    interval, estimate = interval_of(difference), difference.seeds.estimate
    span = f"95 % {signed(interval.low)} to {signed(interval.high)}"
    based = f"{each} of {seeds} seeds" if pilot else f"{seeds} seeds"
    evidence = f"({span}; {based}, {tasks} data set{'s' * (tasks > 1)})"
    if verdict in (SUPPORTED, CONTRADICTED):
        word = "better" if verdict == SUPPORTED else "worse"
        beyond = (
            f", by more than {smallest:g} point"
            if min(abs(interval.low), abs(interval.high)) > smallest
            else ""
        )
        sentence = (
            f"{where}, and rates tuned alike, {one} is {word} than {other} by "
            f"{abs(estimate):.1f} points {evidence}{beyond}, and {fit_words(difference)}."
        )
    elif verdict == SAME:
        sentence = f"{where}, {one} and {other} differ by less than {smallest:g} point {evidence}."
    else:
        sentence = (
            f"{signed(estimate)} points {evidence}: {one} may be up to "
            f"{max(0.0, interval.high):.1f} points better or {max(0.0, -interval.low):.1f} worse "
            f"than {other}.{_needed(difference, smallest)}"
        )
    return Answer(verdict, f"{kind}{sentence} {SCALE}", pilot)


def fit_words(difference: Difference) -> str:
    """Whether it fits the training images differently too: "better fit" and "better generalisation"
    are two things.
    """
    train = difference.train
    if train.low > 0:
        return f"also fits the training images better, by {train.estimate:.1f} points"
    if train.high < 0:
        return f"fits the training images worse, by {-train.estimate:.1f} points"
    if contrasts.tost(train, 1.0).p < 0.05:
        return "fits the training images equally well"
    return (
        f"may fit them better or worse ({signed(train.estimate)} points, 95 % "
        f"{signed(train.low)} to {signed(train.high)})"
    )


def heterogeneous(difference: Difference) -> str:
    """A sentence where the tasks disagree by more than their seeds do, else nothing."""
    means = [float(pairs.mean()) for pairs in difference.pairs.values()]
    if len(means) < 2 or min(means) >= 0 or max(means) <= 0:
        return ""
    listed = ", ".join(f"{task} {signed(mean)}" for task, mean in zip(difference.pairs, means))
    return (
        f"The data sets disagree ({listed}): the mean is of these sets and no forecast for a "
        "further one."
    )


def _needed(difference: Difference, smallest: float) -> str:
    """How many seeds the spread asks for; nothing where it is not known."""
    samples: Sequence = list(difference.pairs.values())
    spreads = [float(pairs.std(ddof=1)) for pairs in samples if len(pairs) > 1]
    if not spreads or not all(map(math.isfinite, spreads)) or max(spreads) == 0:
        return ""
    # of the mean over tasks, as if each seed gave one such mean
    spread = math.sqrt(sum(one**2 for one in spreads)) / len(spreads)
    number = contrasts.needed_seeds(spread, smallest)
    return f" With this spread {number} seeds would be needed to see {smallest:g} point."


def _numbers(difference: Difference) -> str:
    return "; ".join(
        f"{task}: " + ", ".join(signed(value) for value in pairs)
        for task, pairs in difference.pairs.items()
    )


def signed(value: float) -> str:
    """ "+1.2", "−0.3" with a true minus, "0.0" without a sign."""
    text = f"{abs(value):.1f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else '−'}{text}"
