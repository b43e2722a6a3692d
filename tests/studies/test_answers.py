"""Verdicts and sentences: each verdict comes at the rate at which it should, over many studies
whose truth is known, and no sentence says more than the runs show.
"""

import re

import numpy as np
import pandas as pd
import pytest

from astroformer import contrasts
from astroformer.contrasts import Answers, Contrast
from astroformer.studies import answers
from astroformer.studies.answers import (
    CONTRADICTED,
    NOT_RUN,
    SAME,
    SCALE,
    SUPPORTED,
    UNDECIDED,
    answer,
    heterogeneous,
    narrow_interval_of,
    signed,
    verdict_of,
)
from astroformer.studies.outcomes import Difference

TASKS = ("cifar100", "galaxies3", "tiny40")
NOTHING_KNOWN = Contrast(*[float("nan")] * 4, 0)


def difference(pairs, *, train=None, images=None, diverged=(0, 0)):
    """pairs: task -> differences of the seeds; `train` the same on training images."""
    values = {task: pd.Series(each) for task, each in pairs.items()}
    fit = contrasts.pooled(train) if train else NOTHING_KNOWN
    return Difference(contrasts.pooled(values), images, fit, None, values, diverged)


def drawn(random, truth, spread, seeds, tasks=TASKS):
    return difference({task: random.normal(truth, spread, seeds) for task in tasks})


def said(found, **changes):
    given = dict(
        one="C-C-C-T",
        other="C-C-T-T",
        where="At 1.2 million parameters and 32 pixels, with 20 images a class",
        smallest=1.0,
        seeds=3,
        tasks=3,
    )
    return answer(found, **given | changes)


# Rates, over studies whose truth is known


@pytest.mark.parametrize(
    "seeds, spread, truth, expected, least",
    [
        (3, 1, 3, SUPPORTED, 0.97),
        (3, 3, 3, SUPPORTED, 0.4),
        (8, 1, 3, SUPPORTED, 1.0),
        (8, 3, 3, SUPPORTED, 0.97),
        (8, 3, -3, CONTRADICTED, 0.97),
        (3, 1, -3, CONTRADICTED, 0.97),
        (8, 1, 0, SAME, 0.9),
        (3, 3, 0, UNDECIDED, 0.9),
        (8, 3, 0, UNDECIDED, 0.8),
    ],
)
def test_each_verdict_comes_where_it_should(seeds, spread, truth, expected, least):
    random = np.random.default_rng([seeds, spread, truth + 9])
    found = [verdict_of(drawn(random, truth, spread, seeds), 1.0) for _ in range(300)]
    assert found.count(expected) >= least * len(found)
    wrong = {3: CONTRADICTED, -3: SUPPORTED}.get(truth)
    assert wrong not in found


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize("spread", [1, 3])
def test_what_is_not_so_is_seldom_said(seeds, spread):
    """Of no difference at all "supported" and "contradicted" each have 2.5 %; of a difference of
    exactly the smallest effect "no difference that matters" has 5 %.
    """
    random, number = np.random.default_rng([seeds, spread]), 600
    found = [verdict_of(drawn(random, 0, spread, seeds), 1.0) for _ in range(number)]
    assert found.count(SUPPORTED) <= 0.05 * number
    assert found.count(CONTRADICTED) <= 0.05 * number
    found = [verdict_of(drawn(random, 1.0, spread, seeds), 1.0) for _ in range(number)]
    assert found.count(SAME) <= 0.07 * number


def answered(random, truth, seeds, *, images=200, classes=4):
    """Answers of two arms, one of which has `truth` points more: seeds, images and each answer are
    drawn.
    """
    labels = np.repeat(np.arange(classes), images // classes)
    hard = random.uniform(0.2, 0.7, images)
    favours = random.normal(0, 0.3, images)  # an image may suit one arm
    sides = []
    for sign in (1, -1):
        luck = random.normal(0, 0.02, (seeds, 1))
        part = hard + sign * (favours + truth / 100) / 2 + luck
        sides.append(random.random((seeds, images)) < part.clip(0, 1))
    return Answers(sides[0], sides[1], labels)


def with_images(random, truth, seeds):
    sets = {task: answered(random, truth, seeds) for task in TASKS}
    pairs = {
        task: 100 * (each.correct_a.mean(1) - each.correct_b.mean(1)) for task, each in sets.items()
    }
    return difference(pairs, images=contrasts.pooled_bootstrap(sets))


@pytest.mark.parametrize(
    "truth, seeds, expected, least", [(12, 8, SUPPORTED, 0.9), (-12, 3, CONTRADICTED, 0.5)]
)
def test_with_predictions_the_verdict_is_for_other_images_too(truth, seeds, expected, least):
    random = np.random.default_rng(seeds)
    found = [with_images(random, truth, seeds) for _ in range(30)]
    words = [verdict_of(one, 1.0) for one in found]
    assert words.count(expected) >= least * len(found)
    assert (CONTRADICTED if truth > 0 else SUPPORTED) not in words
    # as many seeds again would not tell what other images would say
    wider = [one.images.high - one.images.low > one.seeds.high - one.seeds.low for one in found]
    assert np.mean(wider) > (0.9 if seeds == 8 else 0.1)


def test_with_predictions_no_difference_is_seldom_called_one():
    random, number = np.random.default_rng(1), 200
    found = [with_images(random, 0, 8) for _ in range(number)]
    words = [verdict_of(one, 1.0) for one in found]
    assert words.count(SUPPORTED) <= 0.05 * number and words.count(CONTRADICTED) <= 0.05 * number
    # which the interval over seeds alone would have called one far more often
    assert sum(one.seeds.low > 0 or one.seeds.high < 0 for one in found) > 0.15 * number


# The rule


def interval(low, high, estimate=None, freedom=20.0):
    estimate = (low + high) / 2 if estimate is None else estimate
    error = (high - low) / 2 / 2.086  # t of 20 degrees of freedom
    return Contrast(estimate, low, high, 0.5, 24, freedom, error)


def ruled(seeds, images=None):
    found = Difference(interval(*seeds), images and interval(*images), NOTHING_KNOWN, None, {}, 0)
    return verdict_of(found, 1.0)


def test_the_wider_interval_decides():
    assert ruled((0.1, 2.0)) == SUPPORTED and ruled((-2.0, -0.1)) == CONTRADICTED
    assert ruled((0.1, 2.0), (-0.5, 2.6)) == UNDECIDED
    assert ruled((0.5, 1.5), (0.2, 1.8)) == SUPPORTED
    assert ruled((-0.5, 2.6), (0.1, 2.0)) == UNDECIDED  # a bootstrap of few images may be narrower
    assert ruled((-0.9, 0.9)) == SAME and ruled((-1.1, 1.1)) == SAME  # 90 %: 0.83 of it
    assert ruled((-1.3, 1.3)) == UNDECIDED and ruled((-0.5, 0.5), (-1.3, 1.3)) == UNDECIDED
    assert ruled((float("nan"), float("nan"))) == UNDECIDED


def test_the_ninety_percent_interval_of_seeds_is_that_of_the_two_tests():
    found = difference({task: np.array([0.3, -0.2, 0.5, 0.1]) for task in TASKS})
    tested = contrasts.tost(found.seeds, 1.0)
    assert narrow_interval_of(found, 1.0) == pytest.approx((tested.low, tested.high))
    assert (tested.p < 0.05) == (verdict_of(found, 1.0) == SAME)
    part = (tested.high - tested.low) / (found.seeds.high - found.seeds.low)
    wide = Difference(found.seeds, interval(-3, 4, 0.2), found.train, None, found.pairs, (0, 0))
    low, high = narrow_interval_of(wide, 1.0)
    assert (low, high) == pytest.approx((0.2 - part * 3.2, 0.2 + part * 3.8))


# Sentences

GAINS = {"cifar100": [2.0, 2.4, 1.9], "galaxies3": [3.0, 2.5, 2.8], "tiny40": [2.2, 2.6, 2.1]}
FIT = {  # on the training images
    "equal": {task: [0.1, -0.1, 0.0] for task in TASKS},
    "better": {task: [4.0, 4.2, 4.1] for task in TASKS},
    "worse": {task: [-4.0, -4.2, -4.1] for task in TASKS},
    "open": {task: [-9.0, 3.0, 9.0] for task in TASKS},
}
LOSSES = {task: [-value for value in each] for task, each in GAINS.items()}
SMALL = {task: [0.1, -0.2, 0.05] for task in TASKS}
WIDE = {task: [4.0, -6.0, 3.0] for task in TASKS}


@pytest.mark.parametrize("pairs", [GAINS, LOSSES, SMALL, WIDE], ids=["up", "down", "same", "open"])
@pytest.mark.parametrize("fit", FIT)
@pytest.mark.parametrize("seeds", [3, 8])
def test_every_sentence_names_its_scale_and_says_neither_no_effect_nor_no_gain(pairs, fit, seeds):
    found = said(difference(pairs, train=FIT[fit]), seeds=seeds)
    assert found.verdict == UNDECIDED or not found.pilot
    assert found.sentence.endswith(SCALE) and found.sentence.count(SCALE) == 1
    assert not re.search(r"no (effect|gain|difference)|cannot be told", found.sentence)
    assert "At 1.2 million parameters and 32 pixels, with 20 images a class" in found.sentence
    assert found.pilot == (seeds > 3) and found.sentence.startswith("Pilot: ") == found.pilot
    assert ("3 of 8 seeds, 3 data sets" if found.pilot else "; 3 seeds, 3 data") in found.sentence
    assert "nan" not in found.sentence and "\n" not in found.sentence


@pytest.mark.parametrize(
    "pairs, fit, words",
    [
        (GAINS, "equal", "C-C-C-T generalises better than C-C-T-T by 2.4 points"),
        (GAINS, "equal", ", by more than 1 point, and fits the training images equally well."),
        (GAINS, "better", "is better than C-C-T-T .*, and also fits the training images better, b"),
        (GAINS, "worse", "is better than C-C-T-T .*, but fits the training images worse, by 4.1"),
        (GAINS, "open", r"is better than C-C-T-T .*, and may fit .* better or worse \(\+1.0 point"),
        (LOSSES, "equal", "C-C-C-T generalises worse than C-C-T-T by 2.4 points"),
        (LOSSES, "better", "is worse than C-C-T-T .*, but fits the training images better, by 4."),
        (LOSSES, "worse", "is worse than C-C-T-T .*, and also fits the training images worse"),
    ],
)
def test_better_fit_and_better_generalisation_are_two_things(pairs, fit, words):
    found = said(difference(pairs, train=FIT[fit]))
    assert re.search(words, found.sentence)
    assert ("generalises" in found.sentence) == (fit == "equal")
    assert ("and also fits" in found.sentence) == (fit in ("better", "worse") and "also" in words)


def test_a_fit_that_is_not_known_is_said_to_be_so():
    found = said(difference(GAINS))
    assert "; how well it fits the training images is not known." in found.sentence


def test_a_small_difference_is_told_by_the_interval_that_says_so():
    found = said(difference(SMALL))
    low, high = narrow_interval_of(difference(SMALL), 1.0)
    assert found.verdict == SAME
    assert "C-C-C-T and C-C-T-T differ by less than 1 point" in found.sentence
    assert f"(90 % {signed(low)} to {signed(high)} for other seeds alone;" in found.sentence


def test_an_undecided_difference_says_how_large_it_may_be_and_what_would_decide():
    one = difference(WIDE)
    found = said(one)
    assert found.verdict == UNDECIDED
    up, down = f"{one.seeds.high:.1f}", f"{-one.seeds.low:.1f}"
    assert f"C-C-C-T may be up to {up} points better or {down} worse" in found.sentence
    spread = np.std(WIDE["tiny40"], ddof=1) / np.sqrt(3)  # of the mean of three
    needed = contrasts.needed_seeds(spread, 1.0)
    assert f"With this spread {needed} seeds would be needed to see 1 point." in found.sentence
    # other images, not more seeds, leave this one undecided
    random = np.random.default_rng(0)
    pairs = {task: random.normal(0.8, 0.3, 12) for task in TASKS}
    images = interval(-3.0, 4.0, 0.8)
    assert "would be needed" not in said(difference(pairs, images=images), seeds=12).sentence


def test_two_seeds_are_shown_and_decide_nothing():
    pairs = {task: each[:2] for task, each in GAINS.items()}
    found = said(difference(pairs), seeds=8)
    assert found.verdict == UNDECIDED and found.pilot
    assert found.sentence == (
        "Pilot: CIFAR-100: +2.0, +2.4; Galaxy Zoo 1, three classes: +3.0, +2.5; Tiny ImageNet, 40 "
        f"of 200 classes: +2.2, +2.6; 2 seeds decide nothing. {SCALE}"
    )
    nothing = said(None)
    assert nothing.verdict == NOT_RUN and nothing.pilot
    assert nothing.sentence == "C-C-C-T against C-C-T-T: too few runs yet to compare."


def test_a_pilot_shows_what_there_is_and_waits():
    """However sure it seems: many looks would find something by chance."""
    one = difference(GAINS, train=FIT["better"])
    found = said(one, seeds=4)
    assert verdict_of(one, 1.0) == SUPPORTED and said(one).verdict == SUPPORTED
    assert found.verdict == UNDECIDED and found.pilot
    assert found.sentence == (
        "Pilot: At 1.2 million parameters and 32 pixels, with 20 images a class, C-C-C-T less "
        f"C-C-T-T is so far +2.4 points on test images (95 % {signed(one.seeds.low)} to "
        f"{signed(one.seeds.high)} for other seeds alone; 3 of 4 seeds, 3 data sets) and +4.1 on "
        f"training images. The verdict waits for all seeds. {SCALE}"
    )
    assert "data sets). The verdict waits" in said(difference(GAINS), seeds=4).sentence


def test_runs_that_diverged_are_named_with_the_difference_without_them():
    found = said(difference(GAINS, diverged=(0, 1)), without=difference(SMALL))
    words = "0 runs of C-C-C-T and 1 of C-C-T-T diverged and count at chance; without them the "
    assert f"{words}difference is 0.0 points (95 % " in found.sentence
    alone = said(difference(GAINS, diverged=(2, 1)))
    assert "; without them too few are left to compare." in alone.sentence
    assert "diverged" not in said(difference(GAINS), without=difference(SMALL)).sentence


def test_for_which_seeds_and_images_an_interval_holds_is_said():
    images = interval(1.0, 4.0, 2.4)
    assert "for other seeds alone" not in said(difference(GAINS, images=images)).sentence
    assert "for other seeds alone" in said(difference(GAINS)).sentence


# Data sets that disagree


def test_data_sets_that_disagree_beyond_their_seeds_are_named():
    pairs = {"cifar100": [5.0, 5.5, 4.8], "galaxies3": [-2.0, -1.5, -2.2], "tiny40": [0.1, 0.4, 0]}
    told = heterogeneous(difference(pairs))
    assert told.startswith(
        "The data sets disagree (CIFAR-100 +5.1; Galaxy Zoo 1, three classes −1.9; Tiny ImageNet, "
    )
    assert told.endswith("no forecast for a further one.")
    assert told in said(difference(pairs)).sentence
    # of one sign, and still of two sizes
    assert heterogeneous(difference({"a": [5.0, 5.5, 4.8, 5.2], "b": [0.5, 0.6, 0.4, 0.5]}))
    for agreeing in (GAINS | {"tiny40": [2.4, 2.6, 2.8]}, SMALL, {"cifar100": [5.0, 6.0, 4.0]}):
        assert heterogeneous(difference(agreeing)) == ""
    assert heterogeneous(difference({"a": [1.0, 1.0], "b": [2.0, 2.0]})) == ""  # no spread


@pytest.mark.parametrize("seeds", [3, 8])
def test_data_sets_that_agree_are_seldom_said_not_to(seeds):
    random = np.random.default_rng(seeds)
    told = [
        heterogeneous(
            difference({task: random.normal(1, sd, seeds) for task, sd in zip(TASKS, (1, 3, 2))})
        )
        for _ in range(400)
    ]
    assert np.mean([text != "" for text in told]) < 0.09
    apart = drawn(random, 0, 1, seeds).pairs
    apart = {task: values + shift for (task, values), shift in zip(apart.items(), (0, 8, 0))}
    assert heterogeneous(difference(apart))


def test_heterogeneity_is_welchs_test():
    """Of two samples its ratio is the square of Welch's t."""
    from scipy import stats

    random = np.random.default_rng(0)
    for shift in np.linspace(0, 3, 25):
        one, other = random.normal(0, 1, 6), random.normal(shift, 3, 9)
        p = stats.ttest_ind(one, other, equal_var=False).pvalue
        assert (heterogeneous(difference({"a": one, "b": other})) != "") == (p < 0.05)


def test_a_sign_is_a_true_minus_and_nothing_has_none():
    told = [signed(value) for value in (1.25, -0.3, 0.04, -0.04, 0.0)]
    assert told == ["+1.2", "−0.3", "0.0", "0.0", "0.0"]
    assert answers.FEWEST == 3
