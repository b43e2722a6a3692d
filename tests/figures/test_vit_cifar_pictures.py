"""Pictures of ViT-CIFAR say what was not run and how to run it, and draw what was measured where
it was measured.
"""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from astroformer.figures import vit_cifar as drawn
from astroformer.reading import vit_cifar as asked
from astroformer.recipes import get_recipe
from astroformer.studies import effects


def texts(axis):
    return " ".join(" ".join(text.get_text().split()) for text in axis.texts)


def run(**changes):
    """A row of the ledger's frame with what a curve needs."""
    history = [
        {"epoch": epoch, "top1": 10.0 * epoch, "nll": 2.0 / epoch, "train_loss": 2.5 / epoch}
        for epoch in (1, 2, 3)
    ]
    return {
        "history": history,
        "recipe.name": "vit_cifar+epochs=3",
        "recipe.label_smoothing": 0.0,
        "recipe.smoothing_over": "all",
        "dataset.evaluated_on": "test",
    } | changes


def test_a_row_without_runs_names_the_run_that_fills_it_and_its_cost():
    figure = drawn.curves({"SVHN": pd.DataFrame()}, {"SVHN": 97.31})
    accuracy, beside = figure.axes
    assert "not run" in texts(accuracy) and "reported: 97.31" in texts(accuracy)
    assert asked.expected("SVHN")["command"] in texts(beside) and "PFLOP" in texts(beside)
    assert [line.get_ydata()[0] for line in accuracy.lines] == [97.31]


def test_the_reported_number_stands_beside_the_released_network_alone():
    released, reduced = pd.DataFrame([run()]), pd.DataFrame([run(**{"options.depth": 1})])
    for runs, expected in ((released, "reported, on CIFAR-10 itself: 90.92"), (reduced, "")):
        reported = {"CIFAR-10": 90.92, "CIFAR-100": 66.54}
        accuracy, _ = drawn.curves({"CIFAR-10 (JPEG re-encode): 3 epochs": runs}, reported).axes
        assert texts(accuracy) == expected
        assert [10, 20, 30] in [list(line.get_ydata()) for line in accuracy.lines]


def test_recipes_have_colours_of_their_own_across_rows():
    smooth = run(**{"recipe.label_smoothing": 0.1, "recipe.smoothing_over": "others"})
    figure = drawn.curves({"one": pd.DataFrame([run(), smooth]), "two": pd.DataFrame([smooth])}, {})
    first, second = figure.axes[0].lines, figure.axes[2].lines
    assert first[0].get_color() != first[1].get_color() == second[0].get_color()
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "vit_cifar: no smoothing",
        "vit_cifar: 0.1 to others",
        "in training, as augmented",
    ]


def test_too_many_recipes_for_the_colours_are_refused():
    runs = pd.DataFrame([run(**{"recipe.label_smoothing": 0.01 * i}) for i in range(9)])
    with pytest.raises(ValueError, match="9 recipes and 7 colours"):
        drawn.curves({"one": runs}, {})


def test_an_empty_ledger_is_drawn_as_not_run():
    assert texts(drawn.curves({}, {}).axes[0]) == "not run"


def ablated(values):
    frame = pd.DataFrame(
        [
            {"variation": name, "seed": seed, "status": "completed", "top1": value, "run": "none"}
            for name, own in values.items()
            for seed, value in enumerate(own)
        ]
        + [{"variation": "textbook", "seed": 0, "status": "not run"}]
    )
    return effects.effects(frame, asked.BASE)


def test_the_ablation_shows_each_seed_an_interval_where_it_may_and_what_is_not_run():
    values = {asked.BASE: [30.0, 31.0, 32.0], "one": [28.0, 29.5, 30.0]}
    values |= {f"other {i}": [30.0 + i / 10, 31.0, 31.5] for i in range(4)}
    found = ablated(values)
    (axis,) = drawn.ablation(found, {"one": "one *"}).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "one *",
        *(f"other {i}" for i in range(4)),
        "textbook",
    ]
    bars = axis.containers[0]
    ends = bars[2][0].get_segments()[0][:, 0].tolist()
    assert ends == pytest.approx([found.against["one"].low, found.against["one"].high])
    seeds = [line for line in axis.lines if list(line.get_ydata()) == [0, 0, 0]]
    assert list(seeds[0].get_xdata()) == [-2, -1.5, -2] and texts(axis) == "not run"
    few = ablated({asked.BASE: [30.0, 31.0], "one": [28.0, 29.5]})
    (axis,) = drawn.ablation(few, {}).axes
    assert not axis.containers, "two seeds are two points"


def test_the_ends_of_the_schedule_are_drawn_apart():
    recipes = (get_recipe("vit_cifar", schedule=form) for form in ("epoch", "step"))
    released, textbook = (asked.rates(recipe, steps_per_epoch=2) for recipe in recipes)
    _, first, last = drawn.schedules(released, textbook, final=1e-5).axes
    assert first.get_xlim() == (0, 10) and last.get_xlim() == (190, 200)
    assert (
        first.lines[0].get_ydata()[0] == 0
        and last.lines[0].get_ydata()[-1] > last.lines[1].get_ydata()[-1]
    )


def test_each_form_has_a_row_that_begins_with_the_image_itself():
    image = np.full((32, 32, 3), 7, np.uint8)
    figure = drawn.turned(
        image,
        {"a": [Image.new("RGB", (32, 32))] * 9, "b": [Image.new("RGB", (32, 32))] * 2},
        columns=4,
    )
    assert len(figure.axes) == 8
    assert (figure.axes[4].images[0].get_array() == image).all() and not figure.axes[7].images
