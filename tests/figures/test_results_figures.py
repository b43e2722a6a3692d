"""The figures of a results page show what was counted."""

import numpy as np
import pandas as pd
import pytest

from astroformer.figures import results, runs
from astroformer.ledger import predictions
from astroformer.studies.results import MOST_CURVES, Group


def group(label, *, top1=60.0, seeds=2, evaluated_on="test"):
    history = [
        [
            {"epoch": epoch, "top1": top1 + seed + epoch, "balanced_accuracy": top1}
            for epoch in (1, 2)
        ]
        for seed in range(seeds)
    ]
    return Group(
        label,
        pd.DataFrame(
            {
                "history": history,
                "metrics.top1": top1,
                "dataset.evaluated_on": evaluated_on,
                "seed": range(seeds),
            }
        ),
    )


def test_curves_are_means_over_seeds_shaded_from_lowest_to_highest():
    top1, balanced = results.learning([group("one", seeds=3)]).axes
    assert top1.lines[0].get_xydata().tolist() == [[1, 62], [2, 63]] and balanced.lines[
        0
    ].get_ydata().tolist() == [60, 60]
    band = top1.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (61, 64)


def test_no_more_groups_are_drawn_than_can_be_told_apart():
    many = [group(f"group {i}, " + "long words " * 12) for i in range(MOST_CURVES + 3)]
    figure = results.learning(many)
    assert len(figure.axes[0].lines) == MOST_CURVES
    assert (
        len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines})
        == MOST_CURVES
    )
    assert (
        max(
            len(line)
            for text in figure.legends[0].get_texts()
            for line in text.get_text().splitlines()
        )
        <= results.LEGEND_CHARACTERS
    )


def test_a_figure_says_of_which_images_its_curves_are_and_mixes_none():
    held_out = results.learning([group("held out", evaluated_on="validation")])
    assert held_out.axes[0].get_title() == "top-1 (%), validation images"
    with pytest.raises(ValueError, match="Curves on test and validation images are no figure"):
        results.learning([group("a"), group("b", evaluated_on="validation")])


def test_a_confusion_matrix_writes_each_count_that_is_not_zero():
    (axes,) = results.confusion(np.array([[5, 0], [2, 1]]), ("disc", "ring")).axes
    assert sorted(text.get_text() for text in axes.texts) == ["1", "2", "5"]
    assert axes.images[0].get_array().tolist() == [[1, 0], [2 / 3, 1 / 3]], (
        "shaded by the part of the true class"
    )


def test_a_reliability_diagram_has_a_dot_for_each_seed_and_counts_the_images_of_one():
    logits = np.log([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)

    def seed(right):
        labels = [0] * right + [1] * (10 - right) + [0] * 5 + [1] * 5
        return predictions.of_logits("", logits, labels, ("a", "b"), evaluated_on="test")

    above, below = results.reliability([seed(8), seed(10)]).axes
    first, second = (line.get_xydata() for line in above.lines[1:])
    assert first == pytest.approx(np.array([[0.6, 0.5], [0.9, 0.8]]))
    assert second == pytest.approx(np.array([[0.6, 0.5], [0.9, 1.0]]))
    assert [bar.get_height() for bar in above.patches] == pytest.approx([0.5, 0.9])
    assert [bar.get_height() for bar in below.patches] == [10, 10], (
        "not 20: the images are the same"
    )


def test_the_figures_of_one_run_are_those_of_its_logits(tiny_folder):
    import torch

    from astroformer import data

    images = data.load("folder", "test", data_dir=tiny_folder)
    logits = torch.eye(3)[torch.from_numpy((images.labels + (np.arange(24) % 8 == 0)) % 3)] * 4
    counts = sorted(text.get_text() for text in runs.confusion(logits, images).axes[0].texts)
    assert counts == ["1"] * 3 + ["7"] * 3
    titles = [axes.get_title() for axes in runs.mistakes(logits, images).axes]
    assert len(titles) == 3 and titles[0].startswith(
        f"{images.classes[0]}\nsaid: {images.classes[1]}\n("
    )
