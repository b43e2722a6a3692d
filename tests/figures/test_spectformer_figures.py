"""The figures of gates and of spectral blocks show what was kept and run, and say where nothing
was.
"""

import numpy as np
import pandas as pd
import pytest

from astroformer.figures import spectformer as drawn
from astroformer.reading.filters import Filters
from astroformer.studies.spectral_blocks import compared


def network(gates: int) -> Filters:
    weights = {
        f"blocks.{i}.filter": np.random.default_rng(i).normal(size=(6, 4, 5, 2))
        for i in range(gates)
    }
    return Filters(
        run="0" * 12,
        model="spectformer_ti",
        options={"img_size": 24},
        dataset="none",
        kind="synthetic",
        recipe="none",
        command="none",
        weights=weights,
        grids=dict.fromkeys(weights, (6, 6)),
    )


def words(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("what", ["gains", "kernels"])
def test_every_filter_of_the_mosaic_is_centred_and_scaled_by_itself(what):
    one = network(3)
    figure = drawn.learned({"one": one, "none": None}, what=what, blocks=2, channels=3)
    picture = figure.axes[0].images[0].get_array()
    assert picture.shape == (2 * 6 + 2, 3 * 6 + 2 * 2) and words(figure) == ["not run"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "2", "4"]
    values = (
        np.abs(one.gains("blocks.1.filter")) if what == "gains" else one.kernel("blocks.1.filter")
    )
    tile = picture[8:14, 16:22]  # second block, third of the channels drawn
    assert tile[3, 3] == pytest.approx(values[0, 0, 4] / np.abs(values[..., 4]).max()) and np.abs(
        tile
    ).max() == pytest.approx(1)


def test_profiles_have_a_line_for_every_block_and_one_for_a_new_network():
    figure = drawn.profiles({"one": network(3), "none": None})
    assert [len(axes.lines) for axes in figure.axes] == [4, 0, 4, 0] and words(figure) == [
        "not run"
    ] * 2


def runs(seeds: int, *, numbers: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            dict(
                variation=str(blocks),
                seed=seed,
                status="completed",
                top1=50.0 + blocks + seed + (blocks == seed),
                macs=1e6,
                params=1e6,
                nll=1.0,
                dataset="none",
                device="CPU",
                command="",
                run=f"{blocks}-{seed}",
                test=10,
                evaluated_on="test",
            )
            for blocks in range(numbers)
            for seed in range(seeds)
        ]
    )


def steps(numbers: int) -> pd.DataFrame:
    return pd.DataFrame({"ratio": 1.0, "low": 0.9, "high": 1.0}, index=range(numbers))


def test_the_study_shows_every_seed_and_the_interval_of_a_difference_where_one_may_be_drawn():
    made = runs(3, numbers=6)
    found = compared(made)
    axis = drawn.study(made, found, steps(6)).axes[0]
    assert sorted(axis.lines[-1].get_ydata()) == sorted(made["top1"])
    ends = [bars[2][0].get_segments()[0][:, 1] for bars in axis.containers]
    base = made.loc[made["variation"] == "0", "top1"].mean()
    assert [list(own - base) for own in ends] == [
        pytest.approx([one.low, one.high]) for one in found.against.values()
    ]
    few = runs(2, numbers=3)
    axis = drawn.study(few, compared(few), steps(3)).axes[0]
    assert len(axis.lines[-1].get_ydata()) == 6 and not axis.containers, "points and no interval"


def test_a_study_without_runs_says_so():
    empty = pd.DataFrame(
        [dict(variation=str(blocks), seed=0, status="not run", command="run") for blocks in (0, 1)]
    )
    assert words(drawn.study(empty, compared(empty), steps(2))) == ["not run"] * 3
