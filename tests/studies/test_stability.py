"""The study of stable training: what its measures say of examples worked by hand, how often its
verdict is wrong, and what it says of runs that diverged.
"""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import finished

from astroformer import contrasts, paths
from astroformer.ledger import curves
from astroformer.ledger.curves import Curve
from astroformer.studies import stability
from astroformer.studies.answers import (
    CONTRADICTED,
    NOT_RUN,
    SCALE,
    SUPPORTED,
    UNDECIDED,
)
from astroformer.studies.stability import (
    octaves,
    rose_again,
    sensitivity,
    spikes,
    tail_of,
    usable,
)

RATES = [0.001 * 2**k for k in range(6)]
CURVE = np.array([9.0, 13.0, 14.0, 11.0, 6.0, 2.0])  # accuracy by rate

# Measures


def falling(steps=600, start=4.6, end=3.0):
    return np.linspace(start, end, steps).astype(np.float32)


def test_a_run_diverged_if_its_end_lies_above_its_twentieth_step():
    loss = falling()
    assert not rose_again(loss)
    rising = loss.copy()
    rising[-20:] = loss[15:25].mean() + 0.01
    assert rose_again(rising) and not rose_again(rising - 0.0101 * (np.arange(600) >= 580))
    for scale in (1e-3, 7.0, 1e4):
        assert rose_again(scale * rising) and not rose_again(scale * loss)
    # steps 16 to 25 and the last 20 decide, and no other
    other = loss.copy()
    other[:15], other[25:580] = 0.0, 9.0
    assert not rose_again(other)
    assert rose_again(np.r_[np.zeros(25), np.ones(20)])
    assert not rose_again(np.r_[np.zeros(24), np.ones(20)])  # 44 steps: the two parts would meet


def test_spikes_stand_out_of_the_fifty_steps_before_them():
    loss = np.tile([3.0, 3.2], 300)  # the median is 3.1, the deviation 0.1: the limit 3.7
    assert spikes(loss) == 0
    loss[[100, 300]] = 3.75, 3.65
    assert spikes(loss) == pytest.approx(1000 * 1 / 550)
    for scale, shift in ((0.01, 0.0), (50.0, 3.0)):
        assert spikes(scale * loss + shift) == pytest.approx(1000 / 550)
    loss[20] = 99.0  # among the first 50 there is nothing to stand out of
    assert spikes(loss) == pytest.approx(1000 / 550)
    assert math.isnan(spikes(loss[:50])) and spikes(loss[:51]) == 0


def test_a_loss_that_is_not_finite_is_one_spike_and_the_last_step():
    for broken in (np.nan, np.inf):
        loss = np.tile([3.0, 3.2], 100)
        loss[150:] = broken
        assert spikes(loss) == pytest.approx(1000 * 1 / 101)
        loss[30:] = broken
        assert math.isnan(spikes(loss))


def test_the_tail_of_the_gradient_is_its_99th_percentile_over_its_median():
    norm = np.r_[np.ones(98), 5.0, 9.0]
    expected = np.quantile(norm, 0.99)
    assert tail_of(norm) == pytest.approx(expected) == pytest.approx(5.04)
    assert tail_of(300 * norm) == pytest.approx(expected)
    assert tail_of(np.r_[norm, np.nan, np.inf]) == pytest.approx(expected)
    assert math.isnan(tail_of(np.full(9, np.nan))) and math.isnan(tail_of(np.zeros(9)))


def by_rate(values, rates=RATES):
    return pd.Series(list(values), index=list(rates)[: len(values)], dtype=float)


# Of an accuracy of 10 over guessing at 0, what keeps 80 % lies above 8.
@pytest.mark.parametrize(
    "values, expected",
    [
        ([10, 10, 10, 10, 10, 10], 5.0),  # the whole grid, cut off at its ends
        ([8.01, 8.01, 10, 8.01, 8.01, 8.01], 5.0),  # just what is kept
        ([1, 10, 10, 1, 1, 1], 1 + 2 / 9 + 2 / 9),
        ([10, 4, 4, 4, 4, 4], 2 / 6),  # only one side of the best is there
        ([4, 4, 4, 4, 4, 10], 2 / 6),
        ([4, 10, 4, 4, 9, 4], 2 / 6 + 2 / 6 + 1 / 5 + 1 / 5),  # two ranges
        ([0, 30, 0, 0, 0, 0], 0.4),  # a narrow peak stays narrow
        ([9.0, 13.0, 14.0, 11.0, 6.0, 2.0], (13 - 11.2) / 4 + 1 + (14 - 11.2) / 3),
    ],
)
def test_usable_octaves_are_joined_linearly_on_the_scale_of_octaves(values, expected):
    means = by_rate(values)
    assert usable(means, 0.0) == pytest.approx(expected)
    # neither another unit of the rate, nor the order of rows, nor how much an arm gains over
    # guessing, nor what guessing reaches changes it
    assert usable(by_rate(values, np.array(RATES) * 17), 0.0) == pytest.approx(expected)
    assert usable(means[::-1], 0.0) == pytest.approx(expected)
    assert usable(0.3 * means, 0.0) == pytest.approx(expected)
    assert usable(2 * means + 20, 20.0) == pytest.approx(expected)
    # accuracies that fall with the rate are a mirror image
    assert usable(by_rate(values[::-1]), 0.0) == pytest.approx(expected)


@given(st.lists(st.floats(1.0, 90.0), min_size=6, max_size=6))
def test_the_ends_of_a_range_hold_what_is_usable(values):
    means = by_rate(values, np.array(RATES))
    low, high = stability.ends(means, 0.0)
    assert min(RATES) <= low <= high <= max(RATES)
    # a range in one piece is as long as its octaves, one in several pieces is longer
    assert np.log2(high / low) >= usable(means, 0.0) - 1e-9
    limit = stability.KEPT * means.max()
    kept = [rate for rate in RATES if means[rate] >= limit]
    assert low <= min(kept) * (1 + 1e-9) and high >= max(kept) * (1 - 1e-9)
    if means.iloc[0] >= limit:
        assert low == pytest.approx(min(RATES))


def test_what_gains_nothing_over_guessing_has_no_usable_rate():
    for values in ([1.0] * 6, [0.0, 0.5, 1.0, 0.9, 0.8, 0.7]):
        assert usable(by_rate(values), 1.0) == 0.0
        assert math.isnan(sensitivity(by_rate(values), 1.0))


def test_sensitivity_is_the_mean_shortfall_in_parts_of_the_gain():
    assert sensitivity(by_rate([21, 16, 11, 21, 21, 6]), 1.0) == pytest.approx(
        100 * (5 + 10 + 15) / 6 / 20
    )
    assert sensitivity(by_rate([9.0] * 6), 1.0) == 0
    weaker = 1 + (np.array([21, 16, 11, 21, 21, 6]) - 1) / 4  # a quarter of the gain everywhere
    assert sensitivity(by_rate(weaker), 1.0) == pytest.approx(25)


def test_octaves_of_many_curves_are_those_of_each():
    random = np.random.default_rng(0)
    many = random.uniform(0, 20, (40, 2, 6))
    found = octaves(np.array(RATES), many, 1.0)
    assert found.shape == (40, 2)
    for place in np.ndindex(40, 2):
        assert found[place] == pytest.approx(usable(by_rate(many[place]), 1.0))
    # a grid whose steps are not octaves
    uneven = usable(by_rate([10, 10, 1], (0.001, 0.004, 0.032)), 0.0)
    assert uneven == pytest.approx(2 + 3 * 2 / 9)
    assert usable(by_rate([10.0]), 0.0) == 0.0


# The comparison


def study_of(values, *, diverged=()):
    """values: arm -> (seeds, rates); `diverged` holds (arm, seed, place of the rate)."""
    study = stability.result("cpu", [])
    rows = [
        {
            "arm": arm,
            "seed": 10 + seed,
            "rate": rate,
            "value": table[seed][place],
            "diverged": (arm, 10 + seed, place) in diverged,
            "sign": "",
            "spikes": 1.0,
            "gradient": 2.0,
            "run": "none",
        }
        for arm, table in values.items()
        for seed in range(len(table))
        for place, rate in enumerate(RATES)
    ]
    study.__dict__["runs"] = pd.DataFrame(rows)
    return study


def drawn(random, shape, seeds=3, spread=0.5):
    return np.asarray(shape) + random.normal(0, spread, (seeds, 6))


WIDE = [12.0, 13.0, 14.0, 13.5, 13.0, 12.0]
NARROW = [4.0, 13.0, 14.0, 5.0, 2.0, 1.0]


def test_the_ratio_of_octaves_is_that_of_the_means_over_seeds():
    random = np.random.default_rng(0)
    values = {"CCCT": drawn(random, WIDE), "CCTT": drawn(random, CURVE), "CTTT": [CURVE] * 3}
    study = study_of(values)
    found = study.wider("CCCT", "CCTT")
    spans = [usable(by_rate(np.mean(values[arm], axis=0)), 1.0) for arm in ("CCCT", "CCTT")]
    assert found.estimate == pytest.approx(math.log2(spans[0] / spans[1])) and found.n == 3
    assert found.low < found.estimate < found.high and 0 < found.p <= 1
    back = study.wider("CCTT", "CCCT")
    assert back.estimate == pytest.approx(-found.estimate)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), abs=0.2)
    assert back.p == pytest.approx(found.p, abs=0.02)
    assert study.wider("CCCT", "CCTT") == found  # the same draws each time


def test_equal_arms_are_seldom_told_apart_and_unequal_ones_are(monkeypatch):
    """A plain bootstrap of three seeds would tell every fifth pair of equal arms apart."""
    monkeypatch.setattr(stability, "DRAWS", 400)  # enough for so many pairs
    random, number = np.random.default_rng(0), 200
    equal, unequal = [], []
    for _ in range(number):
        blocks = random.normal(0, 0.5, (3, 1))
        same = {arm: drawn(random, CURVE) + blocks for arm in ("CCCT", "CCTT")}
        equal.append(study_of(same).wider("CCCT", "CCTT"))
        other = {"CCCT": drawn(random, WIDE), "CCTT": drawn(random, NARROW)}
        unequal.append(study_of(other).wider("CCCT", "CCTT"))
    assert sum(one.low > 0 or one.high < 0 for one in equal) <= 0.08 * number
    assert sum(one.low > 0 for one in unequal) >= 0.9 * number
    for one in equal + unequal:  # p and the interval are of one mind, but for the draws' steps
        assert (one.p < 0.05) == (one.low > 0 or one.high < 0) or 0.03 < one.p < 0.07


def test_below_three_whole_seeds_nothing_is_compared():
    random = np.random.default_rng(0)
    values = {arm: drawn(random, CURVE) for arm in ("CCCT", "CCTT", "CTTT")}
    assert study_of({arm: table[:2] for arm, table in values.items()}).wider("CCCT", "CCTT") is None
    study = study_of(values)
    runs = study.runs
    lacking = (runs["arm"] == "CCTT") & (runs["seed"] == 12) & (runs["rate"] == RATES[3])
    study.__dict__["runs"] = runs[~lacking]
    assert study.wider("CCCT", "CCTT") is None and study.wider("CCCT", "CTTT") is not None
    answer = study.answer()
    assert answer.verdict == UNDECIDED and answer.pilot
    assert "2 of 3 seeds are whole, which decides nothing yet." in answer.sentence
    # a rate that no seed of an arm has is no narrower grid
    study.__dict__["runs"] = runs[(runs["rate"] != RATES[0])]
    assert study.wider("CCCT", "CTTT") is None


def test_an_arm_that_never_learns_has_no_wide_range():
    """Noise alone would say which of its rates are usable."""
    random = np.random.default_rng(0)
    values = {
        "CCCT": drawn(random, CURVE),
        "CCTT": drawn(random, np.full(6, 1.0), spread=0.2),
        "CTTT": drawn(random, CURVE),
    }
    study = study_of(values)
    assert study.learned("CCCT") and not study.learned("CCTT")
    answer = study.answer()
    assert study.wider("CCCT", "CCTT") is None and answer.verdict == UNDECIDED
    assert "C-C-T-T never came 3 points above guessing" in answer.sentence and not answer.pilot


@pytest.mark.parametrize(
    "shapes, verdict",
    [
        ((WIDE, NARROW, NARROW), SUPPORTED),
        ((NARROW, WIDE, WIDE), CONTRADICTED),
        ((NARROW, NARROW, WIDE), CONTRADICTED),  # narrower than one is enough
        ((WIDE, NARROW, WIDE), UNDECIDED),
        ((CURVE, CURVE, CURVE), UNDECIDED),
    ],
)
def test_the_verdict_asks_for_both_comparisons(shapes, verdict):
    random = np.random.default_rng(1)
    values = {arm: drawn(random, shape) for arm, shape in zip(("CCCT", "CCTT", "CTTT"), shapes)}
    study = study_of(values, diverged={("CTTT", 11, 5), ("CCTT", 10, 4), ("CTTT", 10, 5)})
    answer = study.answer()
    assert answer.verdict == verdict and not answer.pilot and answer.sentence.endswith(SCALE)
    assert answer.sentence.startswith(
        "Without clipping 0 of 18 of C-C-C-T, 1 of 18 of C-C-T-T, 2 of 18 of C-T-T-T diverged; "
    )
    one = study.wider("CCCT", "CTTT")
    assert f"{2**one.estimate:.2f} times as many octaves as C-T-T-T (95 % " in answer.sentence


def test_fewer_seeds_than_planned_are_a_pilot():
    random = np.random.default_rng(1)
    shapes = {"CCCT": WIDE, "CCTT": NARROW, "CTTT": NARROW}
    study = study_of({arm: drawn(random, shape) for arm, shape in shapes.items()})
    assert study.answer().verdict == SUPPORTED
    more = stability.result("gpu", [])
    more.__dict__["runs"] = study.runs
    answer = more.answer()
    assert answer.pilot and answer.sentence.startswith("Pilot: Without clipping")
    assert answer.verdict == UNDECIDED  # however sure it seems
    assert "; 3 of 8 seeds. The verdict waits for all seeds. It says" in answer.sentence
    one = study_of({"CCCT": drawn(random, WIDE)})
    assert one.answer().pilot and "0 of 3 seeds are whole" in one.answer().sentence
    assert stability.result("cpu", []).answer().verdict == NOT_RUN


# From records and curves


@pytest.fixture(scope="module")
def made():
    def accuracy(cell):
        shape = {"CCCT": WIDE, "CCTT": CURVE, "CTTT": NARROW}[cell.arm]
        place = RATES.index(cell.settings["rate"])
        if (cell.arm, cell.seed, place) == ("CTTT", 10, 5):
            return None
        return shape[place] + 0.1 * (cell.seed - 11)

    return finished(stability, accuracy)


def test_runs_are_read_from_records_and_their_curves(made, own_runs, monkeypatch):
    monkeypatch.setattr(paths, "LEDGER", own_runs)
    assert len(made) == 54
    bare = stability.result("cpu", made).runs
    assert bare["spikes"].isna().all() and bare["diverged"].sum() == 1
    lost = bare[bare["diverged"]].iloc[0]
    assert (lost["arm"], lost["seed"], lost["sign"]) == ("CTTT", 10, "not finite")
    assert lost["value"] == 1.0  # guessing among 100 classes
    rising = np.r_[falling(580), np.full(20, 9.0)].astype(np.float32)
    for place, one in enumerate(made):
        loss = rising if place == 0 else falling()
        curves.write(one["run"], np.stack([loss, np.ones(600)]))
    study = stability.result("cpu", made)
    runs = study.runs.set_index("run")
    first = runs.loc[made[0]["run"]]
    assert first["diverged"] and first["sign"] == "loss rose" and first["value"] > 1
    assert runs["gradient"].eq(1.0).all() and runs["diverged"].sum() == 2
    table = study.summary().set_index("arm")
    assert table["runs"].eq(18).all() and table["diverged"].tolist() == [1, 0, 1]
    low, high = contrasts.wilson(1, 18)
    assert table.loc["C-C-C-T", "share diverged (%)"] == f"{100 * low:.0f} to {100 * high:.0f}"
    means = runs[runs["arm"] == "CCTT"].groupby("rate")["value"].mean()
    assert table.loc["C-C-T-T", "usable rates (octaves)"] == pytest.approx(usable(means, 1.0))
    expected = 100 * (14 - CURVE.mean()) / (14 - 1)
    assert table.loc["C-C-T-T", "sensitivity (% of the gain)"] == pytest.approx(expected)
    assert study.answer().verdict == SUPPORTED and not study.answer().pilot


def test_an_arm_without_runs_has_an_empty_row(made):
    part = [one for one in made if one["study"]["arm"] != "CTTT"]
    table = stability.result("cpu", part).summary().set_index("arm")
    assert table.loc["C-T-T-T", "runs"] == 0 and table.loc["C-C-T-T", "runs"] == 18
    assert Curve(falling(), falling()).loss.dtype == np.float32
