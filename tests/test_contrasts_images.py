"""Contrasts over other test images: how often their intervals hold the truth, and what must not
change them. Simulations have a fixed generator.
"""

import math
from statistics import NormalDist

import numpy as np
import pytest

from astroformer.contrasts import (
    Answers,
    accuracy_bootstrap,
    mean,
    paired,
    pooled_bootstrap,
    two_way_bootstrap,
)

SEEDS = 8
NOMINAL = (0.93, 0.97)  # what an interval of 95 % may cover at 8 seeds


@pytest.fixture
def generator():
    return np.random.default_rng(20)


def ends(contrast):
    return contrast.low, contrast.high


def answers(generator, *, seed_sd, image_sd, seeds=SEEDS, images=300, classes=3):
    """Correct answers of two arms, and the true difference in points. An answer is right if the sum
    of the class, the image, the image for the arm, the seed for the arm, and chance is positive.
    """
    labels = np.arange(images) % classes
    easy = np.linspace(-0.5, 0.5, classes)
    shared = easy[labels] + 0.7 * generator.normal(size=images)
    correct = [
        shared
        + lead
        + image_sd * generator.normal(size=images)
        + seed_sd * generator.normal(size=(seeds, 1))
        + generator.normal(size=(seeds, images))
        > 0
        for lead in (0.3, 0.0)
    ]
    spread = math.sqrt(1 + 0.7**2 + image_sd**2 + seed_sd**2)
    a, b = (
        np.mean([NormalDist().cdf((level + lead) / spread) for level in easy])
        for lead in (0.3, 0.0)
    )
    return Answers(*correct, labels), 100 * (a - b)


def boot(found, **changes):
    return two_way_bootstrap(found.correct_a, found.correct_b, found.labels, **changes)


# the seeds' spread alone, both, and the images' alone
@pytest.mark.parametrize(("seed_sd", "image_sd"), [(0.2, 0.0), (0.1, 0.5), (0.02, 1.0), (0.0, 0.0)])
def test_the_two_way_bootstrap_covers_whichever_spread_is_larger(generator, seed_sd, image_sd):
    held = []
    for repeat in range(1000):
        found, truth = answers(generator, seed_sd=seed_sd, image_sd=image_sd)
        low, high = ends(boot(found, draws=400, seed=repeat))
        held.append(low <= truth <= high)
    assert NOMINAL[0] <= np.mean(held) <= NOMINAL[1]


def test_the_two_way_bootstrap_is_wider_than_the_seeds_alone(generator):
    found, _ = answers(generator, seed_sd=0.02, image_sd=1.0)
    by_seed = [100 * part.mean(axis=1) for part in (found.correct_a, found.correct_b)]
    seeds, both = paired(*by_seed), boot(found)
    assert both.estimate == pytest.approx(seeds.estimate)
    assert both.high - both.low > 1.2 * (seeds.high - seeds.low)
    assert both.n == SEEDS and both.low < both.estimate < both.high


def test_arms_that_are_always_the_same_number_of_images_apart_have_no_spread_over_seeds():
    labels = np.repeat([0, 1], 50)
    everything, nothing = np.ones((4, 100), dtype=bool), np.zeros((4, 100), dtype=bool)
    all_right = two_way_bootstrap(everything, nothing, labels)
    assert (all_right.estimate, *ends(all_right)) == pytest.approx((100, 100, 100))
    one_class = everything & (labels == 1)  # strata keep the class's share in every draw
    assert ends(two_way_bootstrap(one_class, nothing, labels)) == pytest.approx((50, 50))


def test_balanced_accuracy_weighs_classes_and_not_images():
    labels = np.repeat([0, 1], [90, 10])
    right, wrong = np.ones((3, 100), dtype=bool), np.zeros((3, 100), dtype=bool)
    right[:, :90] = False  # A knows only the rare class
    assert two_way_bootstrap(right, wrong, labels).estimate == pytest.approx(10)
    assert two_way_bootstrap(right, wrong, labels, balanced=True).estimate == pytest.approx(50)


def test_the_bootstrap_repeats_itself_and_does_not_see_the_order_of_images(generator):
    found, _ = answers(generator, seed_sd=0.1, image_sd=0.5)
    assert boot(found, seed=3) == boot(found, seed=3) != boot(found, seed=4)
    swapped = two_way_bootstrap(found.correct_b, found.correct_a, found.labels)
    assert (-swapped.high, -swapped.low) == pytest.approx(ends(boot(found)), abs=1.0)
    assert swapped.estimate == pytest.approx(-boot(found).estimate)
    order = generator.permutation(300)
    mixed = two_way_bootstrap(
        found.correct_a[:, order], found.correct_b[:, order], found.labels[order]
    )
    assert ends(mixed) == pytest.approx(ends(boot(found)), abs=1.0)


def test_the_bootstraps_p_is_small_where_the_interval_excludes_no_difference(generator):
    found, _ = answers(generator, seed_sd=0.05, image_sd=0.2)
    far, near = boot(found), two_way_bootstrap(found.correct_a, found.correct_a, found.labels)
    assert far.low > 0 and far.p < 0.05
    assert (near.estimate, near.p) == (0, 1)


def test_the_bootstrap_of_several_sets_is_the_mean_with_a_smaller_interval(generator):
    found = {name: answers(generator, seed_sd=0.1, image_sd=0.5)[0] for name in "abc"}
    single = [boot(each) for each in found.values()]
    together = pooled_bootstrap(found)
    assert together.estimate == pytest.approx(np.mean([each.estimate for each in single]))
    expected = math.hypot(*(each.high - each.low for each in single)) / 3
    assert together.high - together.low == pytest.approx(expected, rel=0.1)
    assert together.n == 3 * SEEDS
    with pytest.raises(ValueError, match="no data set"):
        pooled_bootstrap({})


def one_arm(generator, *, level, seed_sd, image_sd, images=300, seeds=SEEDS):
    """Correct answers of one arm (seeds, images), the classes, and the true accuracy in percent."""
    labels = np.arange(images) % 3
    easy = np.linspace(-0.5, 0.5, 3)
    correct = (
        level
        + easy[labels]
        + image_sd * generator.normal(size=images)
        + seed_sd * generator.normal(size=(seeds, 1))
        + generator.normal(size=(seeds, images))
        > 0
    )
    spread = math.sqrt(1 + image_sd**2 + seed_sd**2)
    truth = 100 * np.mean([NormalDist().cdf((level + each) / spread) for each in easy])
    return correct, labels, truth


# at 60 % and at 98 %; the images' spread alone, and the seeds'
@pytest.mark.parametrize("level", [0.3, 2.5])
@pytest.mark.parametrize(("seed_sd", "image_sd"), [(0.05, 1.0), (0.2, 0.5)])
def test_the_accuracy_of_one_arm_covers_other_seeds_and_other_images(
    generator, level, seed_sd, image_sd
):
    held, by_seed = [], []
    for repeat in range(800):
        correct, labels, truth = one_arm(generator, level=level, seed_sd=seed_sd, image_sd=image_sd)
        found = accuracy_bootstrap(correct, labels, draws=400, seed=repeat)
        held.append(found.low <= truth <= found.high)
        alone = mean(100 * correct.mean(axis=1))
        by_seed.append(alone.low <= truth <= alone.high)
    assert 0.92 <= np.mean(held) <= 0.98
    if image_sd == 1:
        assert np.mean(by_seed) < 0.8  # seeds alone do not know other images


def test_the_accuracy_of_one_arm_is_the_mean_and_has_no_p(generator):
    correct, labels, _ = one_arm(generator, level=2.5, seed_sd=0.2, image_sd=0.5)
    found = accuracy_bootstrap(correct, labels)
    assert found.estimate == pytest.approx(100 * correct.mean()) and math.isnan(found.p)
    assert 90 < found.low < found.estimate < found.high < 100
    rare = labels == 0
    balanced = accuracy_bootstrap(correct[:, :200], np.minimum(labels, 1)[:200], balanced=True)
    both = [correct[:, :200][:, rare[:200] == kind].mean() for kind in (True, False)]
    assert balanced.estimate == pytest.approx(50 * sum(both))
    perfect = accuracy_bootstrap(np.ones((3, 9), dtype=bool), np.zeros(9))
    assert perfect.estimate == 100 and math.isnan(perfect.low)


@pytest.mark.parametrize(
    ("a", "b", "labels", "words"),
    [
        (np.ones((2, 3), dtype=bool), np.ones((2, 4), dtype=bool), np.zeros(3), "are not"),
        (np.ones((2, 3), dtype=bool), np.ones((2, 3), dtype=bool), np.zeros(4), "are not"),
        (np.ones((2, 3)), np.ones((2, 3)), np.zeros(3), "truth values"),
        (np.ones((1, 3), dtype=bool), np.ones((1, 3), dtype=bool), np.zeros(3), "Two seeds"),
    ],
)
def test_answers_that_do_not_fit_together_are_refused(a, b, labels, words):
    with pytest.raises(ValueError, match=words):
        two_way_bootstrap(a, b, labels)
