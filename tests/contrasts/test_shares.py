"""The interval of a share: the published table, how often it holds the truth, its two sides."""

import numpy as np
import pytest
from scipy import stats

from astroformer.contrasts import wilson

# Newcombe (1998), Statistics in Medicine 17, table I, method 3
NEWCOMBE = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize("successes, trials, low, high", NEWCOMBE)
def test_the_interval_is_that_of_the_published_table(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("successes, trials", [(0, 1), (3, 7), (20, 20), (12.5, 40)])
def test_what_is_no_success_has_the_same_interval_from_the_other_end(successes, trials, confidence):
    low, high = wilson(successes, trials, confidence=confidence)
    other = wilson(trials - successes, trials, confidence=confidence)
    assert other == pytest.approx((1 - high, 1 - low))
    assert 0 <= low <= successes / trials <= high <= 1 and low < high


def test_its_ends_are_the_shares_that_a_score_test_just_does_not_reject():
    for successes, trials in ((3, 7), (81, 263)):
        for end in wilson(successes, trials, confidence=0.9):
            z = abs(successes / trials - end) / np.sqrt(end * (1 - end) / trials)
            assert 2 * stats.norm.sf(z) == pytest.approx(0.1)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_it_holds_the_true_share_about_as_often_as_it_says(share):
    trials = 60
    chances = stats.binom.pmf(np.arange(trials + 1), trials, share)
    held = [low <= share <= high for low, high in (wilson(k, trials) for k in range(trials + 1))]
    assert 0.93 < chances[held].sum() < 0.97


@pytest.mark.parametrize("successes, trials", [(1, 0), (3, 2), (-1, 5), (float("nan"), 5)])
def test_a_share_of_nothing_or_of_more_than_all_is_refused(successes, trials):
    with pytest.raises(ValueError, match="There is no share of"):
        wilson(successes, trials)
