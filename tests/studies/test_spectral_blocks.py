"""The study of spectral blocks: what is averaged, what is said about differences, and what is
missing.
"""

import pandas as pd
import pytest
from scipy import stats

from astroformer.studies.spectral_blocks import comparable, difference, facts, speeds, table

STEPS = pd.DataFrame(
    {"ratio": [1.0, 0.9, 0.8], "low": [1.0, 0.88, 0.78], "high": [1.0, 0.93, 0.85]}, index=[0, 1, 2]
)


def runs(accuracies: dict[int, list[float]], *, device="CPU", depth=2, seeds=3) -> pd.DataFrame:
    """A study's frame: so many seeds asked for each number of blocks, of which those with an
    accuracy are completed.
    """
    rows = []
    for blocks in range(depth + 1):
        found = accuracies.get(blocks, [])
        for seed in range(seeds):
            row = {
                "variation": str(blocks),
                "seed": seed,
                "status": "not run",
                "command": f"run {blocks} {seed}",
            }
            if seed < len(found):
                row |= dict(
                    status="completed",
                    top1=found[seed],
                    nll=1.0,
                    macs=(10 - blocks) * 1e6,
                    params=1000 + blocks,
                    dataset="synthetic galaxies",
                    kind="synthetic",
                    device=device,
                )
            rows.append(row)
    return pd.DataFrame(rows)


def test_the_difference_of_means_has_welchs_interval():
    one, other = pd.Series([61.0, 62.5, 60.2]), pd.Series([58.0, 59.0, 60.5, 57.1])
    gap, half = difference(one, other)
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert gap == pytest.approx(one.mean() - other.mean()) and (
        gap - half,
        gap + half,
    ) == pytest.approx(tuple(interval))
    assert difference(one, other[:1])[1] is None and difference(one[:1], other[:1])[1] is None


def test_the_verdict_tells_a_difference_from_none():
    said = facts(
        runs({0: [50.0, 50.4, 50.2], 1: [60.0, 60.4, 60.2], 2: [59.0, 61.0, 60.1]}), STEPS
    )["verdict"]
    assert "best mean is that of 1 spectral block, 60.20" in said
    assert "points above attention alone (0 spectral blocks): more than its own interval." in said
    assert "points above gates alone (2 spectral blocks): not more than its own interval" in said


def test_the_best_may_be_an_end_and_the_price_is_a_ratio():
    found = facts(
        runs({0: [50.0, 50.4, 50.2], 1: [49.0, 48.0, 48.1], 2: [40.0, 40.4, 40.2]}), STEPS
    )
    assert (
        "That is attention alone." in found["verdict"]
        and "above gates alone (2 spectral blocks): more" in found["verdict"]
    )
    assert found["price"] == (
        "Gates alone take 0.80 times the multiply-adds of attention alone; "
        "a training step takes 0.80 times as "
        "long (middle half of the rounds 0.78 to 0.85)."
    )


def test_one_seed_cannot_tell_how_far_chance_goes():
    assert "too few seeds" in facts(runs({0: [50.0], 1: [60.0], 2: [55.0]}), STEPS)["verdict"]


def test_what_was_not_run_says_so_with_its_command():
    found = table(runs({0: [50.0, 51.0, 52.0], 1: [60.0]}), STEPS).set_index("spectral blocks")
    assert found["top-1 (%)"].tolist() == ["51.00 ± 2.48 (3)", "60.00 (1)", "not run"]
    assert found["seeds not run"].tolist() == [0, 2, 3] and found["to run the first"].tolist() == [
        "",
        "run 1 1",
        "run 2 0",
    ]
    assert found.loc[2, "multiply-adds (M)"] == "not run"
    for some in (runs({}), runs({1: [60.0]})):
        assert (
            facts(some, STEPS)["verdict"].startswith("Nothing can be said yet")
            and len(table(some, STEPS)) == 3
        )
    assert facts(runs({}), STEPS)["runs"] == "None of the study's 9 runs is in the ledger."


def test_accuracies_of_two_machines_are_averaged_and_both_are_named():
    one = runs({0: [50.0, 51.0, 52.0], 1: [50.0], 2: [50.0]})
    both = one.assign(
        device=one["device"].mask(one["variation"].eq("0") & one["seed"].eq(2), "GPU")
    )
    assert (
        table(both, STEPS).iloc[0]["top-1 (%)"].startswith("51.00")
        and "on CPU and GPU." in facts(both, STEPS)["runs"]
    )


def test_training_steps_are_compared_with_that_of_attention_alone():
    steps = speeds("spectral_blocks", batch_size=2, rounds=2)
    assert (
        list(steps.index) == list(range(7))
        and steps.loc[0, "ratio"] == 1
        and (steps["low"] <= steps["high"]).all()
    )


def test_runs_on_other_images_are_left_out():
    one = runs({0: [50.0, 51.0, 52.0]})
    assert (
        len(comparable(one.assign(dataset=one["dataset"].mask(one["seed"] == 2, "other galaxies"))))
        == 2
    )
