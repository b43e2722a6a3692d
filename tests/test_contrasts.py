"""Contrasts over seeds: closed forms, how often intervals hold the truth, what changes nothing.

Simulations have a fixed generator: a rate is the same number every time. 4,000 data sets tell a
rate near 95 % to 0.3 points, 1,000 to 0.7.
"""

import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from astroformer.contrasts import (
    arms,
    blocked,
    dunnett,
    holm,
    mean,
    needed_seeds,
    on_logit_scale,
    paired,
    paired_power,
    pooled,
    prediction_interval,
    probability_of_improvement,
    sd_ratio,
    tost,
)

SEEDS = 8
NOMINAL = (0.93, 0.97)  # what an interval of 95 % may cover at 8 seeds

A = np.array([61.0, 62.5, 60.2, 63.1])
B = np.array([58.0, 59.0, 60.5, 57.1])

accuracies = st.floats(0, 100).map(lambda value: round(value, 2))
samples = st.lists(accuracies, min_size=3, max_size=9)
pairs = st.lists(st.tuples(accuracies, accuracies), min_size=3, max_size=9).map(
    lambda rows: np.array(rows).T
)


@pytest.fixture
def generator():
    return np.random.default_rng(20)


def ends(contrast):
    return contrast.low, contrast.high


def coverage(draw, truth, repeats=4000):
    """How often the interval of `draw()` holds the truth."""
    found = [draw() for _ in range(repeats)]
    return np.mean([each.low <= truth <= each.high for each in found])


def nominal(rate):
    return NOMINAL[0] <= rate <= NOMINAL[1]


# One arm


def test_the_mean_has_scipys_t_interval():
    found, theirs = mean(A), stats.ttest_1samp(A, 60)
    assert ends(found) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert (found.n, found.freedom, found.error) == (4, 3, pytest.approx(stats.sem(A)))
    one = mean([61.0])
    assert one.estimate == 61 and math.isnan(one.low) and math.isnan(one.error)
    with pytest.raises(ValueError, match="1 of 2 values are not finite"):
        mean([61.0, math.nan])


@given(samples)
def test_the_interval_of_a_share_stays_between_0_and_100(values):
    found = on_logit_scale(mean(values))
    if 0 < found.estimate < 100:
        assert 0 <= found.low <= found.estimate + 1e-9
        assert found.estimate - 1e-9 <= found.high <= 100
        mirrored = on_logit_scale(mean(100 - np.array(values)))
        assert ends(mirrored) == pytest.approx((100 - found.high, 100 - found.low), abs=1e-6)
    else:
        assert math.isnan(found.low)


def test_the_logit_scale_changes_little_far_from_the_ends_and_keeps_a_value_of_100():
    plain = mean([49.5, 50.0, 50.5])
    assert ends(on_logit_scale(plain)) == pytest.approx(ends(plain), abs=0.01)
    near = mean([100.0, 97.5, 98.5])
    assert near.high > 100 and 85 < on_logit_scale(near).low < on_logit_scale(near).high < 100


def test_near_100_the_logit_scale_covers_where_the_t_interval_does_not(generator):
    runs = 100 * generator.beta(0.99 * 98, 0.01 * 98, (4000, SEEDS))  # 99 %, sd 1
    plain = [mean(row) for row in runs]
    held = {
        scale: np.mean([found.low <= 99 <= found.high for found in map(scale, plain)])
        for scale in (lambda found: found, on_logit_scale)
    }
    by_t, by_logit = held.values()
    assert by_t < 0.91 < by_logit


# Two arms


def test_the_paired_contrast_is_scipys_paired_t_test():
    found, theirs = paired(A, B), stats.ttest_rel(A, B)
    assert ends(found) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.n, found.freedom, found.estimate) == (4, 3, pytest.approx((A - B).mean()))
    narrow = paired(A, B, confidence=0.5)
    assert ends(narrow) == pytest.approx(tuple(theirs.confidence_interval(0.5)))


def test_one_pair_has_no_interval_and_equal_differences_have_one_of_no_width():
    one = paired([61.0], [58.0])
    assert one.estimate == 3 and all(map(math.isnan, (one.low, one.high, one.p)))
    same = paired([61.0, 62.0], [58.0, 59.0])
    assert (*ends(same), same.p) == (3, 3, 0)
    assert paired([61.0, 62.0], [61.0, 62.0]).p == 1


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([1.0, math.nan], [1.0, 2.0], "1 of 2 values are not finite"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "2 and 3 values are no pairs"),
        ([], [], "One row of values"),
        (pd.Series([1.0, 2.0], [10, 11]), pd.Series([1.0, 2.0], [11, 10]), "The seeds differ"),
    ],
)
def test_what_is_no_pair_of_runs_is_refused(a, b, words):
    with pytest.raises(ValueError, match=words):
        paired(a, b)


def test_the_paired_interval_covers_as_often_as_it_says(generator):
    def draw():
        seeds = generator.normal(size=SEEDS) * 3
        return paired(
            seeds + 1.5 + generator.normal(size=SEEDS), seeds + generator.normal(size=SEEDS)
        )

    assert nominal(coverage(draw, 1.5))


@given(pairs, st.floats(-50, 50))
def test_a_shift_of_both_arms_changes_nothing_and_a_swap_changes_the_sign(both, shift):
    a, b = both
    found, shifted, swapped = paired(a, b), paired(a + shift, b + shift), paired(b, a)
    assert shifted.estimate == pytest.approx(found.estimate, abs=1e-9)
    assert ends(shifted) == pytest.approx(ends(found), abs=1e-9)
    assert (-swapped.estimate, -swapped.high, -swapped.low, swapped.p) == pytest.approx(
        (found.estimate, *ends(found), found.p), abs=1e-9
    )


def test_pooling_weights_data_sets_equally_and_has_welchs_degrees_of_freedom():
    first, second = np.array([1.0, 2.0, 4.0]), np.array([0.0, 10.0, 5.0, 3.0, 2.0])
    found = pooled({"galaxies": first, "CIFAR": second})
    # the mean of a and b is half of a - (-b), for which scipy has Welch's interval
    welch = stats.ttest_ind(first, -second, equal_var=False)
    assert found.estimate == pytest.approx((first.mean() + second.mean()) / 2)
    assert ends(found) == pytest.approx(np.array(welch.confidence_interval(0.95)) / 2)
    assert (found.p, found.freedom, found.n) == pytest.approx((welch.pvalue, welch.df, 8))


def test_pooling_one_data_set_is_the_paired_contrast_and_a_single_run_gives_no_interval():
    one, pair = pooled({"CIFAR": A - B}), paired(A, B)
    assert (*ends(one), one.freedom) == pytest.approx((*ends(pair), pair.freedom))
    lone = pooled({"CIFAR": A - B, "galaxies": [1.0]})
    assert math.isnan(lone.low) and lone.estimate == pytest.approx(((A - B).mean() + 1) / 2)
    with pytest.raises(ValueError, match="no data set"):
        pooled({})


def test_the_pooled_interval_covers_with_spreads_as_different_as_the_pilots(generator):
    def draw():
        return pooled({sd: generator.normal(sd, sd, SEEDS) for sd in (1.0, 3.3, 2.0)})

    assert nominal(coverage(draw, 2.1))


# Several arms


def design(generator, arms=4, seeds=SEEDS):
    """Values arm -> {seed: value}: arm k is k higher than arm 0, seeds differ more than arms."""
    common = 3 * generator.normal(size=seeds)
    return {
        arm: dict(enumerate(arm + common + generator.normal(size=seeds))) for arm in range(arms)
    }


def test_two_blocked_arms_are_the_paired_contrast():
    found = blocked({"A": dict(enumerate(A)), "B": dict(enumerate(B))}).contrast("A", "B")
    pair = paired(A, B)
    assert (found.estimate, *ends(found), found.p) == pytest.approx(
        (pair.estimate, *ends(pair), pair.p)
    )
    assert (found.n, found.freedom) == (4, 3)


def test_a_complete_design_has_the_textbooks_residual(generator):
    table = pd.DataFrame(design(generator))
    values = table.to_numpy()
    left = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    found = blocked(table)
    assert found.freedom == 3 * (SEEDS - 1)
    assert found.sd == pytest.approx(math.sqrt((left**2).sum() / found.freedom))
    contrast = found.contrast(2, 0)
    assert contrast.estimate == pytest.approx(table[2].mean() - table[0].mean())
    assert contrast.error == pytest.approx(found.sd * math.sqrt(2 / SEEDS))
    half = stats.t.ppf(0.975, found.freedom) * contrast.error
    assert contrast.high - contrast.estimate == pytest.approx(half)


def test_missing_runs_are_handled_by_least_squares(generator):
    values = design(generator)
    del values[1][0], values[3][5], values[3][6]
    found = blocked(values)
    rows = [(arm, seed, value) for arm in values for seed, value in values[arm].items()]
    matrix = np.array(
        [
            [1.0, *(arm == k for k in (1, 2, 3)), *(seed == k for k in range(1, SEEDS))]
            for arm, seed, _ in rows
        ]
    )
    solution, squares, rank, _ = np.linalg.lstsq(matrix, [row[2] for row in rows])
    freedom = len(rows) - rank
    error = math.sqrt(squares[0] / freedom * np.linalg.inv(matrix.T @ matrix)[3, 3])
    contrast = found.contrast(3, 0)
    assert contrast.estimate == pytest.approx(solution[3])
    assert contrast.error == pytest.approx(error)
    assert (contrast.n, contrast.freedom) == (SEEDS - 2, freedom)
    assert found.contrast(1, 0).n == SEEDS - 1
    frame = pd.DataFrame({arm: pd.Series(runs) for arm, runs in values.items()})
    assert blocked(frame).contrast(3, 0).estimate == pytest.approx(contrast.estimate)


def test_a_seed_that_only_one_arm_has_says_nothing_about_a_difference(generator):
    values = design(generator)
    found = blocked(values).contrast(1, 0)
    values[1][99] = 1000.0
    again = blocked(values).contrast(1, 0)
    assert (again.estimate, again.error, again.freedom) == pytest.approx(
        (found.estimate, found.error, found.freedom)
    )


def test_arms_without_a_common_seed_cannot_be_compared_except_through_a_third():
    apart = {"A": {0: 1.0, 1: 2.0}, "B": {2: 3.0, 3: 5.0}}
    with pytest.raises(ValueError, match="joined by no common seeds"):
        blocked(apart).contrast("A", "B")
    joined = blocked(apart | {"C": {0: 4.0, 1: 5.5, 2: 1.0, 3: 2.0}}).contrast("A", "B")
    assert joined.n == 0 and joined.estimate == pytest.approx(-3.25 - 2.5)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"A": {0: 1.0, 1: math.nan}, "B": {0: 1.0}}, "not finite"),
        ({"A": {0: 1.0}}, "Two arms"),
        ({"A": {0: 1.0}, "B": {}}, r"without any run: \['B'\]"),
        (pd.DataFrame({"A": [1.0, math.inf], "B": [1.0, 2.0]}), "infinite"),
    ],
)
def test_a_design_without_arms_or_with_a_diverged_value_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        blocked(values)


def test_an_unknown_arm_and_weights_that_are_no_contrast_are_refused(generator):
    found = blocked(design(generator))
    for call in (lambda: found.contrast(1, 9), lambda: found.against(9)):
        with pytest.raises(ValueError, match="There is no arm 9; there are"):
            call()
    with pytest.raises(ValueError, match="sum to 0"):
        found.combination({0: 1.0, 1: 1.0})


def test_a_trend_is_a_combination(generator):
    table = pd.DataFrame(design(generator))
    found = blocked(table).combination({0: -3, 1: -1, 2: 1, 3: 3})
    assert found.estimate == pytest.approx(table.mean() @ [-3, -1, 1, 3])
    assert found.error == pytest.approx(blocked(table).sd * math.sqrt(20 / SEEDS))


def test_a_design_without_degrees_of_freedom_has_estimates_only():
    found = blocked({"A": {0: 3.0}, "B": {0: 1.0}, "C": {0: 0.0}})
    assert found.freedom == 0
    for contrast in (found.contrast("A", "B"), found.against("B")["A"]):
        assert contrast.estimate == pytest.approx(2) and math.isnan(contrast.low)


def test_values_that_add_exactly_have_no_spread():
    found = blocked({"A": {0: 0.1, 1: 0.3}, "B": {0: 1.1, 1: 1.3}, "C": {0: 0.4, 1: 0.6}})
    assert found.sd == 0 and found.against("C")["B"].p == 0


def test_blocked_intervals_cover_with_missing_runs_too(generator):
    def draw():
        values = design(generator)
        del values[1][0], values[3][5]
        return blocked(values).contrast(3, 1)

    assert nominal(coverage(draw, 2.0, repeats=2000))


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(-50, 50))
def test_blocked_contrasts_ignore_what_a_whole_seed_adds(seed, shift):
    values = design(np.random.default_rng(seed))
    found = blocked(values).contrast(2, 1)
    for runs in values.values():
        runs[4] += shift
    again = blocked(values)
    assert (again.contrast(2, 1).estimate, again.contrast(2, 1).error) == pytest.approx(
        (found.estimate, found.error), abs=1e-8
    )
    swapped = again.contrast(1, 2)
    assert (-swapped.high, -swapped.low) == pytest.approx(ends(found), abs=1e-8)


@pytest.mark.parametrize(("others", "freedom"), [(2, 12), (3, 12), (5, 20)])
def test_the_critical_value_of_blocks_is_dunnetts_integral(others, freedom):
    correlation = tuple(
        tuple(1.0 if row == column else 0.5 for column in range(others)) for row in range(others)
    )
    critical = arms._critical(correlation, freedom, 0.95)
    assert inside(critical, [1] * others, 1, freedom) == pytest.approx(0.95, abs=3e-4)


def test_simultaneous_intervals_of_blocks_hold_together(generator):
    first = blocked(design(generator)).against(0)
    half = [(each.high - each.low) / 2 / each.error for each in first.values()]
    assert half == pytest.approx([half[0]] * 3)
    held, single = [], []
    for _ in range(2000):
        fit = blocked(design(generator))
        off = [fit.contrast(arm, 0) for arm in (1, 2, 3)]
        apart = max(abs(each.estimate - arm) / each.error for arm, each in zip((1, 2, 3), off))
        held.append(apart <= half[0])
        single.append(all(each.low <= arm <= each.high for arm, each in zip((1, 2, 3), off)))
    assert nominal(np.mean(held))
    assert np.mean(single) < NOMINAL[0]  # what the adjustment is for


def test_adjusted_p_and_interval_of_blocks_agree_and_are_wider_than_single_ones(generator):
    for _ in range(5):
        fit = blocked(
            {arm: {k: v / 4 for k, v in runs.items()} for arm, runs in design(generator).items()}
        )
        for arm, each in fit.against(1).items():
            alone = fit.contrast(arm, 1)
            assert (each.p < 0.05) == (each.low > 0 or each.high < 0)
            assert each.low < alone.low and each.high > alone.high
            assert alone.p <= each.p <= min(1, 3 * alone.p) + 1e-4


def inside(limit, sizes, control, freedom):
    """Probability that all |t| of Dunnett's test are below a limit, by his own integral: given the
    control's mean u and the pooled sd s, the arms are independent.
    """
    u = np.linspace(-8, 8, 801)
    s = np.sqrt(stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, freedom) / freedom)[:, None]
    held = stats.norm.pdf(u) * (u[1] - u[0])
    for size in sizes:
        shared = math.sqrt(size / (size + control))  # of the arm's deviation with the control's
        own = math.sqrt(1 - shared**2)
        held = held * (
            stats.norm.cdf((limit * s - shared * u) / own)
            - stats.norm.cdf((-limit * s - shared * u) / own)
        )
    return held.sum(axis=1).mean()


@pytest.fixture
def unequal(generator):
    """A control of 8 runs and arms of 6 and 4."""
    return generator.normal(size=8), {"A": generator.normal(1, 1, 6), "B": A - 60}


def test_dunnetts_statistics_and_p_are_scipys(unequal):
    control, others = unequal
    theirs = stats.dunnett(*others.values(), control=control, rng=np.random.default_rng(1))
    found = dunnett(control, others)
    for position, each in enumerate(found.values()):
        assert each.p == pytest.approx(theirs.pvalue[position], abs=1e-3)
        assert each.estimate / each.error == pytest.approx(theirs.statistic[position])
    assert (found["A"].n, found["B"].n, found["A"].freedom) == (6, 4, 15)


def test_dunnetts_interval_has_the_critical_value_of_his_integral(unequal):
    """scipy's own comes from minimising a noisy function: its confidence is promised to 0.0005
    only, so that an end near 0 may be off by more than its hundredth.
    """
    control, others = unequal
    found = dunnett(control, others)
    limits = [(each.high - each.low) / 2 / each.error for each in found.values()]
    assert limits[0] == pytest.approx(limits[1])
    assert inside(limits[0], (6, 4), 8, 15) == pytest.approx(0.95, abs=1e-4)
    theirs = stats.dunnett(*others.values(), control=control, rng=np.random.default_rng(1))
    interval = theirs.confidence_interval(0.95)
    for position, each in enumerate(found.values()):
        half = (interval.high[position] - interval.low[position]) / 2
        assert (each.high - each.low) / 2 == pytest.approx(half, rel=5e-3)


def test_dunnett_does_not_change_from_call_to_call(unequal):
    control, others = unequal
    found = dunnett(control, others)
    arms._critical.cache_clear()
    assert found == dunnett(control, others)


def test_dunnett_of_one_arm_is_the_t_test_and_of_single_runs_has_no_interval(unequal):
    control, others = unequal
    found, theirs = dunnett(control, {"A": others["A"]})["A"], stats.ttest_ind(others["A"], control)
    assert (found.p, *ends(found)) == pytest.approx((theirs.pvalue, *theirs.confidence_interval()))
    lone = dunnett([60.0], {"A": [61.0], "B": [62.0]})
    assert lone["A"].estimate == 1 and math.isnan(lone["A"].low)


def test_dunnetts_intervals_hold_together(generator):
    means = np.array([0.0, 1.0, 2.0, 3.0])[:, None]
    values = generator.normal(means, 1, (4000, 4, SEEDS))
    one = dunnett(values[0, 0], dict(enumerate(values[0, 1:], start=1)))
    limit = (one[1].high - one[1].low) / 2 / one[1].error  # the same for every data set
    sd = np.sqrt(values.var(axis=2, ddof=1).mean(axis=1))
    assert one[1].error == pytest.approx(sd[0] * math.sqrt(2 / SEEDS))
    difference = values.mean(axis=2)[:, 1:] - values.mean(axis=2)[:, :1] - means[1:, 0]
    held = np.abs(difference).max(axis=1) <= limit * sd * math.sqrt(2 / SEEDS)
    assert nominal(held.mean())


# Many tests, and no difference


def test_holm_by_hand():
    # 4 x 0.01; 3 x 0.02; 2 x 0.03 is no more than that; 0.5
    found = holm({"c": 0.03, "a": 0.01, "d": 0.5, "b": 0.02})
    assert found == pytest.approx({"c": 0.06, "a": 0.04, "d": 0.5, "b": 0.06})
    assert list(found) == ["c", "a", "d", "b"]
    assert holm({}) == {} and holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    with pytest.raises(ValueError, match="'a' is nan"):
        holm({"a": math.nan})


@given(st.dictionaries(st.integers(), st.floats(0, 1), min_size=1, max_size=9))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p_values):
    found = holm(p_values)
    order = sorted(p_values, key=lambda name: p_values[name])
    assert [found[name] for name in order] == sorted(found.values())
    for name, p in p_values.items():
        assert p <= found[name] <= min(1.0, len(p_values) * p)


def test_holms_family_makes_a_false_claim_in_at_most_five_of_a_hundred(generator):
    # 5 true hypotheses that share a baseline, and 2 false ones with an effect
    baseline = generator.normal(size=(4000, 1))
    z = (generator.normal(size=(4000, 7)) + baseline) / math.sqrt(2) + [0, 0, 0, 0, 0, 4, 4]
    p = 2 * stats.norm.sf(np.abs(z))
    adjusted = np.array([list(holm(dict(enumerate(row))).values()) for row in p])
    assert 0.025 < (adjusted[:, :5] < 0.05).any(axis=1).mean() <= 0.05
    assert (p[:, :5] < 0.05).any(axis=1).mean() > 0.1  # without the adjustment
    bonferroni = (p[:, 5:] < 0.05 / 7).mean()
    assert (adjusted[:, 5:] < 0.05).mean() > bonferroni


def test_tost_is_two_one_sided_t_tests():
    differences = np.array([0.2, -0.4, 0.6, 0.1, -0.1])
    found = tost(differences, 1.0)
    one_sided = [
        stats.ttest_1samp(differences, -1.0, alternative="greater").pvalue,
        stats.ttest_1samp(differences, 1.0, alternative="less").pvalue,
    ]
    assert found.p == pytest.approx(max(one_sided)) and found.confidence == pytest.approx(0.9)
    theirs = stats.ttest_1samp(differences, 0).confidence_interval(0.9)
    assert ends(found) == pytest.approx(tuple(theirs))
    assert tost(paired(differences, np.zeros(5)), 1.0) == found


def test_tost_of_runs_that_cannot_tell():
    assert math.isnan(tost([0.0], 1.0).p)
    assert (tost([0.5, 0.5], 1.0).p, tost([1.0, 1.0], 1.0).p) == (0, 1)
    with pytest.raises(ValueError, match="no room"):
        tost([0.0, 0.1], 0.0)
    with pytest.raises(ValueError, match="degrees of freedom"):
        tost(probability_of_improvement(A, B), 1.0)


@given(samples, st.floats(0.01, 20))
def test_tost_is_equivalent_exactly_if_its_interval_lies_within_the_margin(values, margin):
    found = tost(np.array(values) / 10 - 5, margin)
    if abs(found.p - 0.05) > 1e-9:
        assert (found.p < 0.05) == (-margin < found.low and found.high < margin)
    mirrored = tost(5 - np.array(values) / 10, margin)
    assert mirrored.p == pytest.approx(found.p)


def test_tosts_error_rates(generator):
    def equivalent(mean, sd):
        values = generator.normal(mean, sd, (3000, SEEDS))
        return np.mean([tost(row, 1.0).p < 0.05 for row in values])

    # at the margin: never more than 5 %, and 5 % where the spread leaves room
    assert equivalent(1.0, 0.5) == pytest.approx(0.05, abs=0.012)
    assert equivalent(-1.0, 2.0) <= 0.06
    assert equivalent(0.0, 0.5) > 0.95  # equal arms are found equal
    assert equivalent(0.0, 2.0) < 0.2  # a wide spread is no proof


# Runs one by one


def test_the_probability_of_improvement_counts_pairs_and_half_of_ties():
    found = probability_of_improvement([1, 2, 3], [2, 2, 0])
    assert found.estimate == pytest.approx((1 + (1 + 2 * 0.5) + 3) / 9)
    u = stats.mannwhitneyu(A, B, method="asymptotic", use_continuity=False)
    own = probability_of_improvement(A, B)
    assert (own.estimate, own.p) == pytest.approx((u.statistic / 16, u.pvalue))
    assert probability_of_improvement([1.0], [1.0]).estimate == 0.5


def test_certain_improvement_of_few_runs_keeps_an_interval():
    found = probability_of_improvement([3.0, 4.0, 5.0], [0.0, 1.0, 2.0])
    assert found.estimate == found.high == 1 and 0.2 < found.low < 0.7
    more = probability_of_improvement(np.arange(20, 40), np.arange(20))
    assert more.low > found.low


@given(samples, samples, st.floats(0.1, 5))
def test_the_probability_of_improvement_sees_only_the_order(a, b, scale):
    a, b = np.array(a), np.array(b)
    found, swapped = probability_of_improvement(a, b), probability_of_improvement(b, a)
    stretched = probability_of_improvement(np.exp(a * scale / 50), np.exp(b * scale / 50))
    assert stretched.estimate == pytest.approx(found.estimate)
    assert (1 - swapped.high, 1 - swapped.low) == pytest.approx(ends(found), abs=1e-4)
    assert found.low <= found.estimate <= found.high


@pytest.mark.parametrize("share", [0.5, 0.75, 0.9])
def test_the_interval_of_the_probability_of_improvement_covers(generator, share):
    shift = math.sqrt(2) * NormalDist().inv_cdf(share)

    def draw():
        return probability_of_improvement(
            generator.normal(shift, 1, SEEDS), generator.normal(0, 1, SEEDS)
        )

    assert nominal(coverage(draw, share, repeats=2000))


def test_the_sd_ratio_has_the_f_interval():
    found = sd_ratio([A], [B])
    ratio = A.var(ddof=1) / B.var(ddof=1)
    assert found.estimate == pytest.approx(math.log(ratio) / 2)
    limits = [ratio / stats.f.ppf(0.975, 3, 3), ratio / stats.f.ppf(0.025, 3, 3)]
    assert np.exp(2 * np.array(ends(found))) == pytest.approx(limits)
    assert found.p == pytest.approx(2 * min(stats.f.cdf(ratio, 3, 3), stats.f.sf(ratio, 3, 3)))
    cells = sd_ratio([A, B[:3]], [B, A])
    assert (cells.freedom, cells.freedom_b, cells.n) == (5, 6, 7)
    with pytest.raises(ValueError, match="two different values"):
        sd_ratio([[1.0]], [A])


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-50, 50))
def test_the_sd_ratio_sees_scale_and_no_shift_of_a_cell(seed, scale, shift):
    one, other, cell = np.random.default_rng(seed).normal(size=(3, SEEDS))
    found, swapped = sd_ratio([one, cell], [other]), sd_ratio([other], [one, cell])
    assert (-swapped.high, -swapped.low) == pytest.approx(ends(found), abs=1e-9)
    moved = sd_ratio([one, cell + shift], [scale * other])
    assert moved.estimate == pytest.approx(found.estimate - math.log(scale), abs=1e-9)


def test_the_interval_of_the_sd_ratio_covers(generator):
    def draw():
        a = generator.normal([[0], [5], [9]], 2.0, (3, SEEDS))
        return sd_ratio(list(a), list(generator.normal(0, 1, (3, SEEDS))))

    assert nominal(coverage(draw, math.log(2)))


def test_the_prediction_interval_by_hand_and_its_allowances():
    found = prediction_interval(A)
    half = stats.t.ppf(0.975, 3) * A.std(ddof=1) * math.sqrt(1.25)
    assert ends(found) == pytest.approx((A.mean() - half, A.mean() + half))
    best = prediction_interval(A, selection_allowance=0.7)
    assert ends(best) == pytest.approx((found.low, found.high + 0.7))
    other = prediction_interval(A, image_error=2.0)
    assert other.high - A.mean() == pytest.approx(math.hypot(half, 1.959964 * 2.0))
    assert math.isnan(prediction_interval([60.0]).high)
    with pytest.raises(ValueError, match="not negative"):
        prediction_interval(A, selection_allowance=-1.0)


def test_one_further_run_lies_in_the_prediction_interval(generator):
    runs = generator.normal(80, 0.8, (4000, SEEDS + 1))
    found = [prediction_interval(row[:-1]) for row in runs]
    assert nominal(np.mean([each.low <= new <= each.high for each, new in zip(found, runs[:, -1])]))
    # the interval of the mean does not hold it
    means = [paired(row[:-1], np.zeros(SEEDS)) for row in runs[:1000]]
    assert np.mean([each.low <= new <= each.high for each, new in zip(means, runs[:, -1])]) < 0.7


def test_the_best_epoch_of_an_author_is_allowed_for(generator):
    """Reported is the best of four epochs, each with its own noise; the allowance is the mean of
    what the best of them gains.
    """
    gain = 0.5 * generator.normal(size=(20_000, 4)).max(axis=1).mean()
    held = {0.0: [], gain: []}
    for _ in range(2000):
        last = generator.normal(80, 0.8, SEEDS)
        reported = generator.normal(80, 0.6) + 0.5 * generator.normal(size=4).max()
        for allowance, inside in held.items():
            each = prediction_interval(last, selection_allowance=allowance)
            inside.append(each.low <= reported <= each.high)
    assert np.mean(held[gain]) >= 0.95 > np.mean(held[0.0])


# Planning


@pytest.mark.parametrize(("size", "seeds"), [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_needed_seeds_are_those_of_the_textbooks(size, seeds):
    assert needed_seeds(1.0, size) == seeds
    assert needed_seeds(2.0, -2 * size) == seeds


def test_needed_seeds_are_the_fewest():
    for sd, effect, power in [(1.0, 1.2, 0.8), (3.3, 1.0, 0.9), (2.0, 9.0, 0.8), (1.0, 3.1, 0.8)]:
        n = needed_seeds(sd, effect, power=power)
        assert paired_power(n, effect / sd) >= power
        assert n == 2 or paired_power(n - 1, effect / sd) < power
    assert needed_seeds(1.0, 1.2) == 8  # 8 seeds show 1.2 points at an sd of 1
    assert needed_seeds(0.0, 1.0) == 2
    assert needed_seeds(1.0, 0.01) == pytest.approx(78_490, rel=1e-3)


def test_the_power_is_how_often_a_paired_test_finds_the_effect(generator):
    values = generator.normal(1.2, 1.0, (4000, SEEDS))
    t = values.mean(axis=1) / values.std(axis=1, ddof=1) * math.sqrt(SEEDS)
    found = np.mean(np.abs(t) > stats.t.ppf(0.975, SEEDS - 1))
    assert paired_power(SEEDS, 1.2) == pytest.approx(found, abs=0.02)
    assert paired_power(SEEDS, 0.0) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("sd", "effect", "power"),
    [(1.0, 0.0, 0.8), (-1.0, 1.0, 0.8), (math.nan, 1.0, 0.8), (1.0, 1.0, 1.0), (1.0, 1.0, 0.01)],
)
def test_a_plan_that_no_number_of_seeds_fulfils_is_refused(sd, effect, power):
    with pytest.raises(ValueError, match="No number of seeds|does not lie"):
        needed_seeds(sd, effect, power=power)
