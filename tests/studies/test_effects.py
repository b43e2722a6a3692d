"""Variations against a named one: one common residual, intervals that hold together, nothing said
of few runs, and the part of the images where predictions are kept.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from astroformer import contrasts
from astroformer.ledger import predictions
from astroformer.studies import effects


def frame(values: dict[str, list[float | None]], **changes) -> pd.DataFrame:
    """A study's frame: variation -> accuracy by seed, None where it is not run."""
    return pd.DataFrame(
        [
            {"variation": name, "seed": seed, "status": "not run"}
            if value is None
            else {
                "variation": name,
                "seed": seed,
                "status": "completed",
                "top1": value,
                "run": f"{name}{seed}",
            }
            | changes
            for name, own in values.items()
            for seed, value in enumerate(own)
        ]
    )


# as ViT-CIFAR's departures came out: one difference that happens to agree over seeds
AGREEING = {
    "base": [33.75, 32.20, 32.05],
    "agreeing": [34.60, 33.10, 33.10],
    "linear": [33.60, 30.40, 30.65],
    "others": [33.70, 32.25, 32.20],
    "all": [33.80, 32.35, 32.05],
    "step": [32.70, 32.90, 30.70],
    "policy": [32.50, 32.70, 32.45],
    "textbook": [33.70, 34.20, 31.75],
}


def test_three_differences_that_agree_are_no_effect_beside_the_spread_of_all_runs():
    found = effects.effects(frame(AGREEING), "base")
    one = found.against["agreeing"]
    pairs = found.pairs("agreeing")
    alone = stats.ttest_1samp(pairs, 0)
    assert alone.pvalue < 0.01, "a paired test of its own calls it clear"
    assert found.freedom == 14 and one.estimate == pytest.approx(pairs.mean())
    assert one.low < 0 < one.high and one.p > 0.4
    assert effects.beyond(found) == []
    assert effects.told(found, "agreeing") == "+0.93 points (95 % -0.87 to +2.74)"


def test_all_variations_are_compared_at_once_as_the_common_function_does():
    found = effects.effects(frame(AGREEING), "base")
    model = contrasts.blocked(pd.DataFrame(AGREEING)).against("base")
    assert found.against.keys() == model.keys()
    for name, one in model.items():
        assert (found.against[name].low, found.against[name].p) == (one.low, one.p)
    # the interval of one comparison alone is narrower
    single = contrasts.blocked(pd.DataFrame(AGREEING)).contrast("linear", "base")
    assert found.against["linear"].low < single.low


def test_below_eight_degrees_of_freedom_the_runs_are_shown_and_nothing_is_said():
    few = effects.effects(frame({"base": [50.0, 51.0, 52.0], "far": [70.0, 71.5, 72.0]}), "base")
    assert few.freedom == 2 and not few.decides and effects.beyond(few) == []
    table = effects.effects_table(few)
    assert table.loc["far"].tolist() == [
        "71.17 (70.00, 71.50, 72.00)",
        "+20.00, +20.50, +20.00",
        "",
        "",
    ]
    assert "2 degrees of freedom" in effects.method(few, "the base") and "no verdict" in (
        effects.method(few, "the base")
    )


def test_two_runs_are_two_values_without_an_interval():
    found = effects.effects(frame({"base": [50.0, 53.0], "other": [70.0, 71.0]}), "base")
    table = effects.effects_table(found)
    assert table.loc["other", "top-1 (%): mean (runs)"] == "70.50 (70.00, 71.00)"
    assert "±" not in table.to_string() and table.loc["other", "95 %, other seeds"] == ""


def test_a_base_that_is_not_run_compares_nothing():
    for values in (
        {"base": [None] * 3, "other": [50.0, 51.0, 52.0]},
        {"base": [None], "a": [None]},
    ):
        found = effects.effects(frame(values), "base")
        assert found.model is None and not found.against and not found.decides
        assert effects.method(found, "the base") == "There is nothing to compare with the base yet."
        assert effects.effects_table(found).iloc[0, 0] == "not run"
        assert effects.slope(found) is None


def test_variations_without_a_common_seed_are_not_compared():
    values = AGREEING | {"late": [None, None, None, 40.0], "base": [*AGREEING["base"], None]}
    found = effects.effects(frame(values), "base")
    assert "late" not in found.against and len(found.against) == 7
    assert effects.effects_table(found).loc["late", "change (points)"] == ""


def test_a_run_whose_accuracy_is_not_finite_is_left_out():
    values = AGREEING | {"policy": [32.5, float("nan"), 32.45]}
    found = effects.effects(frame(values), "base")
    assert found.freedom == 13 and len(found.pairs("policy")) == 2


def test_the_slope_is_that_of_a_straight_line_and_tells_a_trend_from_a_step():
    noise = np.random.default_rng(1).normal(0, 0.1, (7, 3))
    line = {str(dose): list(50 - 2.0 * dose + noise[dose]) for dose in range(7)}
    found = effects.effects(frame(line), "0")
    slope = effects.slope(found)
    fitted = np.polyfit(range(7), pd.DataFrame(line).mean(), 1)[0]
    assert slope.estimate == pytest.approx(fitted) and slope.high < -1.9
    assert effects.slope(found, without_base=True).high < -1.9
    step = {str(dose): list(50 - 5.0 * (dose > 0) + noise[dose]) for dose in range(7)}
    found = effects.effects(frame(step), "0")
    assert effects.slope(found).high < 0
    rest = effects.slope(found, without_base=True)
    assert rest.low < 0 < rest.high
    two = effects.effects(frame({"0": [1.0, 2.0, 3.0], "1": [2.0, 3.0, 5.0]}), "0")
    assert effects.slope(two) is None


def test_the_part_of_the_images_is_added_where_predictions_are_kept_and_missed_where_not(own_runs):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 200)
    runs = {name: [0.0] * 3 for name in ("base", "better", "unkept", "same")}
    for name, part in (("base", 0.6), ("better", 0.9), ("same", 0.6)):
        for seed in range(3):
            right = draw.random(200) < part
            runs[name][seed] = 100 * right.mean()
            logits = np.eye(2)[np.where(right, labels, 1 - labels)]
            predictions.write(f"{name}{seed}", logits, labels, ("a", "b"), evaluated_on="test")
    runs["unkept"] = [60.0, 61.0, 62.5]
    runs |= {f"more {i}": [60.0 + i, 61.0, 62.0] for i in range(2)}
    found = effects.effects(frame(runs), "base")
    assert found.images.keys() == {"better", "same"} and found.unkept == 9
    assert found.images["better"].estimate == pytest.approx(found.against["better"].estimate)
    assert found.images["better"].low > 0 > found.images["same"].low
    # 5 comparisons: by Bonferroni each has 99 %
    assert found.images["better"].confidence == pytest.approx(0.99)
    table = effects.effects_table(found)
    assert table.loc["unkept", "95 %, other images too"] == ""
    assert table.loc["better", "95 %, other images too"] == effects.ends(found.images["better"])
    assert "9 of 18 runs are missing" in effects.about_images(found)
    without = effects.effects(frame(AGREEING, run="none"), "base")
    assert "95 %, other images too" not in effects.effects_table(without)
    assert "of all 24 runs are missing" in effects.about_images(without)


# Other metrics, and pairs


def test_another_metric_is_compared_as_top1_is_and_named_in_the_table(own_runs):
    other = frame(AGREEING).rename(columns={"top1": "balanced_accuracy"}).assign(top1=1.0)
    balanced = effects.effects(other, "base", metric="balanced_accuracy")
    plain = effects.effects(frame(AGREEING), "base")
    for name, one in plain.against.items():
        assert (balanced.against[name].low, balanced.against[name].p) == (one.low, one.p)
    assert effects.effects_table(balanced).columns[0] == "balanced (%): mean (runs)"
    flat = effects.effects(other, "base")
    assert [one.estimate for one in flat.against.values()] == pytest.approx([0.0] * 7)


PAIRS = {"one": ("base", "agreeing"), "other": ("linear", "textbook")}


def test_pairs_of_a_block_share_its_residual_and_their_p_values_are_holms():
    found = effects.pairs(frame(AGREEING), [PAIRS, {"third": ("all", "step")}])
    values = pd.DataFrame(AGREEING)
    assert found["third"].contrast is None, "a block of two arms and three seeds decides nothing"
    assert {found[name].contrast for name in PAIRS} == {None}, "nor does one of 6 degrees"
    every = {name: ("base", name) for name in AGREEING if name != "base"}
    found = effects.pairs(frame(AGREEING), [every])
    model = contrasts.blocked(values)
    single = {name: model.contrast(name, "base") for name in every}
    holm = contrasts.holm({name: one.p for name, one in single.items()})
    for name, one in single.items():
        contrast = found[name].contrast
        assert contrast.estimate == pytest.approx(found[name].each_seed.mean())
        assert contrast.p == pytest.approx(holm[name]) and contrast.error == one.error
        assert contrast.low < one.low and contrast.high > one.high


def test_pairs_without_a_verdict_show_each_seed_and_those_not_run_say_so():
    values = AGREEING | {"absent": [None, None, None]}
    wanted = [{"few": ("base", "agreeing"), "none": ("base", "absent")}]
    table = effects.pairs_table(effects.pairs(frame(values), wanted), ("A", "B"), "top1")
    assert table.columns.tolist()[:2] == ["A: top-1 (%)", "B: top-1 (%)"]
    assert table.loc["few", "change (points)"] == "+0.85, +0.90, +1.05"
    assert table.loc["none"].tolist()[1:] == ["not run", "", "", ""]
    assert set(table["p (Holm)"]) == {""}


def test_a_pair_whose_runs_of_a_seed_were_made_on_two_kinds_of_devices_says_so():
    runs = frame(AGREEING, device="NVIDIA H100", precision="bfloat16")
    wanted = [{"one": ("base", "agreeing"), "two": ("base", "linear")}]
    table = effects.pairs_table(effects.pairs(runs, wanted), ("A", "B"), "top1")
    assert "devices" not in table
    elsewhere = (runs["variation"] == "linear") & (runs["seed"] == 1)
    runs.loc[elsewhere, "device"] = "NVIDIA H200"
    table = effects.pairs_table(effects.pairs(runs, wanted), ("A", "B"), "top1")
    assert table["devices"].to_dict() == {"one": "alike", "two": "mixed"}


def test_many_runs_are_counted_and_few_are_listed():
    assert effects._runs(pd.Series([50.0, 52.0])) == "51.00 (50.00, 52.00)"
    assert effects._runs(pd.Series([50.0, 52.0] * 4)) == "51.00 (8 runs)"
