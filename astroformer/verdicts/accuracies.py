"""A verdict for a reported accuracy or time, from the runs that may stand beside it.

A published accuracy is one run. So it is held against the interval in which one further run of the
same training lies (`compare`), not against that of the mean, which shrinks to nothing as seeds are
added; and it is reproduced only if the mean is known to be near, not if it might be.

Reads top to bottom: the comparison of numbers, of a claim with one group of runs, which group
speaks, times.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from numpy.typing import ArrayLike

from astroformer import contrasts
from astroformer.contrasts import Contrast
from astroformer.ledger import tables
from astroformer.ledger.claims import DATASETS
from astroformer.verdicts.beside import Beside, groups_beside, runs_beside, studied

POINTS = 0.5  # percentage points: nearer is near, however small the spread over seeds
SDS = 2.0  # standard deviations of a single run that also count as near
LEAST = tables.LEAST  # runs, without which there is no interval and no verdict
ENOUGH = 5  # runs, without which nothing is contradicted
TIME_SHARE = 0.1  # part of the printed time that a measured one may differ
NORMAL = 1.959964  # standard errors: half of a 95 % interval
NAMED = 8  # other groups that a reason names

Found = tuple[str, str, str]  # verdict, measured, why
# Of groups that are equally near to the publication and equally large, the first speaks.
STRICTEST = ("cannot be decided", "contradicted", "partly", "compatible", "reproduced")


# The comparison of numbers


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds, in the unit of the values."""

    verdict: str  # "reproduced", "compatible", "contradicted" or "cannot be decided"
    missing: str  # what would decide; "" where something is decided
    gap: float  # from the mean to the claim
    margin: float  # M; NaN below LEAST runs
    mean: Contrast
    further: tuple[Contrast, ...]  # where one further run lies: its last epoch, and its best


def compare(
    claimed: float,
    last: ArrayLike,
    best: ArrayLike | None = None,
    *,
    may_be_best: bool = True,
    image_error: float = 0.0,
    over: bool = False,
) -> Comparison:
    """A claim beside the accuracies of runs, one a seed, in percent.

    last: after the last epoch
    best: after the best epoch of each run; None if that is not known
    may_be_best: whether the claim may be the best epoch of its run
    image_error: standard error of the difference that other test images make
    over: whether the claim says "over", and is missed only from below

    reproduced: the whole 95 % interval of the mean lies within ± M of the claim, M the larger of
    POINTS and SDS standard deviations of a run. compatible: the claim lies where a further run
    does, the mean is not known as well. contradicted: it lies outside, of the last epoch and of the
    best, by ENOUGH runs or more, and further than POINTS from the mean.
    """
    mean = contrasts.mean(last)
    gap = max(claimed - mean.estimate, 0.0) if over else abs(claimed - mean.estimate)
    if mean.n < LEAST:
        some = "one run has" if mean.n == 1 else "two runs have"
        missing = f"further seeds, since {some} no interval"
        return Comparison("cannot be decided", missing, gap, math.nan, mean, ())
    margin = max(POINTS, SDS * mean.error * math.sqrt(mean.n))
    half = math.hypot(mean.high - mean.estimate, NORMAL * image_error)
    ends = [claimed - (mean.estimate - half), 0.0 if over else mean.estimate + half - claimed]

    gain = 0.0 if best is None else max(0.0, contrasts.mean(best).estimate - mean.estimate)
    further = [
        contrasts.prediction_interval(last, selection_allowance=gain, image_error=image_error)
    ]
    if best is not None:
        further.append(contrasts.prediction_interval(best, image_error=image_error))
    inside = any((over or one.low <= claimed) and claimed <= one.high for one in further)

    missing = ""
    if max(ends) <= margin:
        verdict = "reproduced"
    elif inside:
        verdict = "compatible"
    elif mean.n < ENOUGH:
        verdict = "cannot be decided"
        missing = f"further seeds, since {mean.n} runs are too few to contradict"
    elif gap <= POINTS:
        verdict = "cannot be decided"
        missing = f"further seeds, since the mean lies within {POINTS} points, its interval not"
    elif may_be_best and best is None and claimed > mean.estimate:
        verdict = "cannot be decided"
        missing = "the accuracy after each epoch, since the authors may report their best"
    else:
        verdict = "contradicted"
    return Comparison(verdict, missing, gap, margin, mean, tuple(further))


# A claim and one group of runs


def judge(claim, group: Beside) -> Found:
    """The verdict that one group of runs allows. With a departure from the publication it decides
    nothing, and agrees in part at most.
    """
    measured, lost = tables.cell(group.runs, claim.metric), tables.diverged(group.runs)
    how = f"{group.departure}, not as published" if group.departure else "the published recipe"
    some = f"{lost} of {len(group.runs)} runs diverged"
    values = tables.metric(group.ended, claim.metric).dropna()
    if not len(values):
        return "cannot be decided", measured, f"With {how} {some}. Missing: a run that ends."
    last, best, may_be_best = epochs(claim, group, values)
    if last is None:
        missing = "the accuracy after each epoch, since the source gives that of the best"
        return "cannot be decided", measured, f"Measured with {how}. Missing: {missing}."
    if "best epoch" in claim.source:
        how += " after the best epoch"
    found = compare(
        claim.number,
        last,
        best,
        may_be_best=may_be_best,
        image_error=image_error(claim, group, float(values.mean())),
        over=claim.qualifier == "over",
    )
    verdict, missing = found.verdict, found.missing
    if group.departure:
        verdict = "partly" if verdict == "reproduced" else "cannot be decided"
        missing = "runs with the published recipe and image size"
    elif lost and verdict == "reproduced":
        verdict = "partly"
    why = [_told(claim, found, f"{tables.mean_interval(last, share=True)} %", how)]
    if lost:
        why.append(f"{some}, of which the source says nothing.")
    if missing and verdict != "partly":
        why.append(f"Missing: {missing}.")
    return verdict, measured, " ".join(why)


def epochs(
    claim, group: Beside, values: pd.Series
) -> tuple[list[float] | None, list[float] | None, bool]:
    """(last, best, may_be_best) as `compare` takes them. A source that says which epoch it reports
    is held against that alone; `last` is None where it is the best and that is not known.
    """
    last, best = list(values), best_epochs(group.ended.loc[values.index], claim.metric)
    if "last epoch" in claim.source:
        return last, None, False
    if "best epoch" in claim.source:
        return best, None, False
    return last, best, True


def best_epochs(runs: pd.DataFrame, metric: str) -> list[float] | None:
    """The best of each run's history; None where one was not evaluated after several epochs on the
    images of the final accuracy: its last entry is then another number.
    """
    found = []
    for history, final in zip(runs["history"], tables.metric(runs, metric)):
        seen = [entry.get(metric) for entry in history or []]
        known = [value for value in seen if value is not None]
        if len(known) < 2 or seen[-1] is None or not math.isclose(seen[-1], final):
            return None
        found.append(max(known))
    return found


def image_error(claim, group: Beside, accuracy: float) -> float:
    """Standard error (points) of the difference between two draws of test images, ours and the
    authors', each of as many as ours: binomial. 0 where both have the data set's official split.
    """
    if DATASETS.get(claim.dataset, {}).get("test_images"):
        return 0.0
    images = float(group.runs["dataset.test"].iloc[0])
    return math.sqrt(2 * accuracy * (100 - accuracy) / images)


def _told(claim, found: Comparison, mean: str, how: str) -> str:
    """The numbers of a comparison in sentences."""
    reported = f"the reported {claim.value} %"
    away = f"{found.gap:.2f} points"
    if not found.further:
        some = "One run" if found.mean.n == 1 else "Two runs"
        return f"{some}, {away} away: {mean} was measured with {how}, beside {reported}."
    split = ""
    if not DATASETS.get(claim.dataset, {}).get("test_images"):
        split = (
            f" {claim.dataset} has no official split: the intervals are wider by what other test "
            "images make."
        )
    if found.verdict == "reproduced":
        return (
            f"{mean} was measured with {how}: the whole interval of the mean lies within "
            f"{found.margin:.2f} points of {reported}.{split}"
        )
    lies = "within" if found.verdict == "compatible" else "outside"
    named = ("its last epoch", "its best epoch")
    where = " and ".join(
        f"{_ends(one)} ({name})" if len(found.further) > 1 else _ends(one)
        for one, name in zip(found.further, named)
    )
    return (
        f"{mean} was measured with {how}, {away} from {reported}. The interval of the mean does "
        f"not lie within {found.margin:.2f} points of it, and it lies {lies} where one further run "
        f"would be, {where}.{split}"
    )


def _ends(found: Contrast) -> str:
    return f"{max(found.low, 0):.2f} to {min(found.high, 100):.2f} %"


# Which group speaks


def accuracy(claim, frame: pd.DataFrame) -> Found:
    """The verdict of the group nearest to the publication, and what the others say."""
    groups = groups_beside(claim, frame)
    if groups:
        return speaking(groups, [judge(claim, group) for group in groups])
    runs = runs_beside(claim, frame)
    if not runs:
        return (
            "not run",
            "",
            f"The ledger holds no completed run of {claim.model} on {claim.dataset}"
            f"{' but for those of studies' * studied(claim, frame)}.",
        )
    barred = pd.concat([group["barred"] for group in runs])
    reasons = "; ".join(dict.fromkeys(barred.replace("", f"without {claim.metric}")))
    return (
        "cannot be decided",
        "",
        f"Measured only {reasons}. Missing: a run of the released network on the whole, real "
        f"{claim.dataset}.",
    )


def speaking(groups: Sequence[Beside], found: Sequence[Found]) -> Found:
    """What the group nearest to the publication found; the larger of equally near ones, the
    strictest of equally large ones. The NAMED next ones are named with their verdicts.
    """
    order = sorted(
        range(len(groups)),
        key=lambda i: (
            groups[i].distance,
            -len(groups[i].ended),
            STRICTEST.index(found[i][0]),
        ),
    )
    first, *others = order
    verdict, measured, why = found[first]
    told = [f"{groups[i].label}: {found[i][0]}, {found[i][1]}" for i in others[:NAMED]]
    if more := len(others) - len(told):
        told.append(f"and {more:,} more group{'s' * (more > 1)} of runs")
    return verdict, measured, f"{why} Beside it, {'; '.join(told)}." if others else why


# Times


def seconds(claim, frame: pd.DataFrame) -> Found:
    """A time is found again or is another time: no source names its software, so that none is
    contradicted.
    """
    groups = groups_beside(claim, frame)
    groups = [group for group in groups if len(group.ended)]
    if not groups:
        return (
            "not run",
            "",
            f"The ledger holds no completed run of {claim.model} on the whole, real "
            f"{claim.dataset}.",
        )
    device = re.search(r"device (\w+)", claim.conditions)
    if not device:
        return "cannot be decided", "", "Missing: the device, which the source does not name."
    # a run that was made again elsewhere took its time there too
    on_device = frame[frame["device"].str.contains(device[1], regex=False, na=False)]
    there = [
        group
        for group in groups_beside(claim, on_device)
        if group.departure == "" and len(group.ended)
    ]
    if not there:
        devices = tables.joined(pd.concat([group.ended for group in groups])["device"])
        return (
            "cannot be decided",
            "",
            "Missing: a run with the published recipe and image size on the device that the source "
            f"names, {device[1]}. The ledger holds runs on {devices}.",
        )
    return speaking(there, [compare_seconds(claim, group, device[1]) for group in there])


def compare_seconds(claim, group: Beside, device: str) -> Found:
    """The claim and the times of a group of runs on the device that the source names."""
    took = group.ended["seconds"].astype(float)
    mean = took.mean()
    measured = f"{mean:,.0f} s ({len(took)})"
    told = (
        f"On {device} it took {mean:,.0f} s, {mean / claim.number:.2f} times the reported "
        f"{claim.value}"
    )
    if abs(mean - claim.number) <= TIME_SHARE * claim.number:
        return "reproduced", measured, f"{told}."
    return (
        "cannot be decided",
        measured,
        f"{told}: another time. Missing: the versions of the software, which the source does not "
        "name.",
    )
