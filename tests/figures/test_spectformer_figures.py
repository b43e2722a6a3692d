"""The figures of gates and of spectral blocks show what was kept and run, and say where nothing
was.
"""

import numpy as np
import pandas as pd
import pytest

from astroformer.figures import spectformer as drawn
from astroformer.reading.filters import Filters


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


def test_the_study_shows_every_seed_or_says_that_nothing_was_run():
    rows = [
        dict(
            variation=str(blocks),
            seed=seed,
            status="completed",
            top1=50.0 + blocks + seed,
            macs=1e6,
            params=1e6,
            nll=1.0,
            dataset="none",
            device="CPU",
            command="",
        )
        for blocks in (0, 1)
        for seed in (0, 1, 2)
    ]
    steps = pd.DataFrame({"ratio": [1.0, 0.9], "low": [1.0, 0.8], "high": [1.0, 1.0]}, index=[0, 1])
    figure = drawn.study(pd.DataFrame(rows), steps)
    dots = figure.axes[0].lines[-1]
    assert sorted(dots.get_ydata()) == [50, 51, 51, 52, 52, 53] and words(figure) == []
    empty = pd.DataFrame(
        [dict(variation=str(blocks), seed=0, status="not run", command="run") for blocks in (0, 1)]
    )
    assert words(drawn.study(empty, steps)) == ["not run"] * 3
