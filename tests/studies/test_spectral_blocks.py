"""The study of spectral blocks: what is compared with attention alone, what is said about it, and
what is missing.
"""

import numpy as np
import pandas as pd

from astroformer.reading.filters import Filters
from astroformer.studies import effects
from astroformer.studies.spectral_blocks import (
    comparable,
    compared,
    costs,
    facts,
    speeds,
    spread_of_draws,
    verdict,
)

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
                    run=f"{blocks}-{seed}",
                    test=1000,
                    evaluated_on="test",
                    dataset="synthetic galaxies",
                    kind="synthetic",
                    device=device,
                )
            rows.append(row)
    return pd.DataFrame(rows)


STEP = {0: [50.3, 49.0, 53.3]} | {
    blocks: [46.0 + 0.1 * blocks, 45.5, 45.0 - 0.1 * blocks] for blocks in range(1, 7)
}


def said(accuracies, **options):
    table = runs(accuracies, **options)
    return facts(table, compared(table), STEPS)


def test_each_number_of_blocks_is_compared_with_attention_alone_at_once():
    found = compared(runs(STEP, depth=6))
    assert found.base == "0" and list(found.against) == ["1", "2", "3", "4", "5", "6"]
    assert found.freedom == 12
    words = verdict(found)
    assert words.startswith("With 1, 2, 3, 4, 5, 6 spectral blocks top-1 is ")
    assert "points lower than with attention alone. 6 of 6 simultaneous intervals" in words
    assert words.endswith("between none and some, and not between some and more.")
    assert "best" not in words


def test_a_slope_is_told_from_a_step():
    line = {blocks: [50.0 - blocks, 50.4 - blocks, 50.1 - blocks] for blocks in range(7)}
    line[3] = [47.2, 47.3, 47.1]  # without any remainder there would be nothing to test
    words = verdict(compared(runs(line, depth=6)))
    assert "a further one changes top-1 by -1.00 points" in words and "between none" not in words


def test_no_difference_beyond_the_spread_is_not_called_none():
    flat = {blocks: [50.0 + 0.3 * (blocks % 2), 49.0, 51.0 - 0.2 * blocks] for blocks in range(7)}
    words = verdict(compared(runs(flat, depth=6)))
    assert words.startswith("None of 6 simultaneous intervals leaves out zero") and "up to" in words


def test_few_runs_are_shown_and_nothing_is_said():
    few = said({0: [50.0, 50.4, 50.2], 1: [60.0, 60.4, 60.2], 2: [59.0, 61.0, 60.1]})
    assert few["verdict"].startswith("Nothing can be said yet")
    assert "4 degrees of freedom" in few["method"]
    table = effects.effects_table(compared(runs({0: [50.0, 51.0], 1: [60.0, 62.0]}, seeds=2)))
    assert table.loc["1", "change (points)"] == "+10.00, +11.00"


def test_the_price_is_a_ratio_and_needs_both_ends():
    assert said({0: [50.0], 1: [49.0], 2: [40.0]})["price"] == (
        "Gates alone take 0.80 times the multiply-adds of attention alone; "
        "a training step takes 0.80 times as "
        "long (middle half of the rounds 0.78 to 0.85)."
    )
    assert said({0: [50.0], 1: [49.0]})["price"] == ""


def test_what_was_not_run_says_so_with_its_command():
    found = costs(runs({0: [50.0, 51.0, 52.0], 1: [60.0]}), STEPS).set_index("spectral blocks")
    assert found["not run"].tolist() == ["", "2 seeds: run 1 1", "3 seeds: run 2 0"]
    assert found["cross-entropy"].tolist() == ["1.000 ± 0.000 (3)", "1.000 (1)", "not run"]
    assert found.loc[2, "multiply-adds (M)"] == "not run"
    for some in ({}, {1: [60.0]}):
        assert said(some)["verdict"].startswith("Nothing can be said yet")
        assert len(costs(runs(some), STEPS)) == 3
    assert said({})["runs"] == "None of the study's 9 runs is in the ledger."


def test_runs_of_two_machines_are_compared_and_both_are_named():
    one = runs({0: [50.0, 51.0, 52.0], 1: [50.0], 2: [50.0]})
    both = one.assign(
        device=one["device"].mask(one["variation"].eq("0") & one["seed"].eq(2), "GPU")
    )
    assert len(compared(both).values["0"].dropna()) == 3
    assert "on CPU and GPU." in facts(both, compared(both), STEPS)["runs"]


def test_the_draws_of_new_gates_have_a_range():
    network = Filters(
        run="0" * 12,
        model="spectformer_ti",
        options={"img_size": 24},
        dataset="none",
        kind="synthetic",
        recipe="none",
        command="none",
        weights={"blocks.0.filter": np.zeros((6, 4, 5, 2), np.float32)},
        grids={"blocks.0.filter": (6, 6)},
    )
    words = spread_of_draws({"one": network, "none": None}, draws=3)
    assert words.startswith("Over 3 draws of every block a gate of a new network has: ")
    low, high = words.partition("low frequencies (%) ")[2].split(",")[0].split(" to ")
    assert 0 < float(low) < float(high) < 100
    assert spread_of_draws({"none": None}) == ""


def test_training_steps_are_compared_with_that_of_attention_alone():
    steps = speeds("spectral_blocks", batch_size=2, rounds=2)
    assert (
        list(steps.index) == list(range(7))
        and steps.loc[0, "ratio"] == 1
        and (steps["low"] <= steps["high"]).all()
    )


def test_runs_on_other_images_are_left_out():
    one = runs({0: [50.0, 51.0, 52.0]})
    other = one.assign(dataset=one["dataset"].mask(one["seed"] == 2, "other galaxies"))
    assert len(comparable(other)) == 2 and len(compared(other).values) == 2
