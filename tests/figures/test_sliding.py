"""The sliding galaxy: each frame shows the moved pixels and what was given for them, and nothing
comes from another host.
"""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from astroformer.data.morphology import render
from astroformer.figures.sliding import PALE, followed, sliding

CLASSES = ("round", "a class whose name is forty letters long", "spiral", "edge-on")
SHIFTS = (-4, 0, 3, 8, 16, 23)


@pytest.fixture(scope="module")
def pixels():
    return render(5, size=32, rng=np.random.default_rng(0))


def made_up(networks=("as released", "other"), shifts=SHIFTS, classes=CLASSES, seed=0):
    rows = np.random.default_rng(seed).dirichlet(
        np.ones(len(classes)), (len(networks), len(shifts))
    )
    return dict(zip(networks, rows, strict=True))


@pytest.fixture(scope="module")
def shown(pixels):
    return sliding(pixels, made_up(), SHIFTS, CLASSES, name="slide")


def decoded(trace):
    return np.asarray(
        Image.open(
            io.BytesIO(base64.b64decode(trace.source.removeprefix("data:image/png;base64,")))
        )
    )


def test_each_frame_shows_the_rolled_pixels_and_the_probabilities_given_for_them(pixels, shown):
    frames, given = shown.figure.frames, made_up()
    assert [frame.name for frame in frames] == [str(shift) for shift in SHIFTS]
    for row, (shift, frame) in enumerate(zip(SHIFTS, frames, strict=True)):
        image, *bars = frame.data
        assert np.array_equal(decoded(image), np.roll(pixels, shift, axis=1))
        for values, bar in zip(given.values(), bars, strict=True):
            assert bar.x == pytest.approx(100 * values[row], abs=0.006)


def test_a_frame_replaces_the_traces_that_it_describes(shown):
    for frame in shown.figure.frames:
        replaced = [shown.figure.data[trace] for trace in frame.traces]
        assert [(trace.type, trace.xaxis, trace.yaxis) for trace in frame.data] == [
            (t.type, t.xaxis, t.yaxis) for t in replaced
        ]


def test_the_figure_begins_with_the_image_unmoved(pixels, shown):
    (slider,) = shown.figure.layout.sliders
    assert SHIFTS[slider.active] == 0 and np.array_equal(decoded(shown.figure.data[0]), pixels)
    for trace, values in zip(shown.figure.data[1:], made_up().values()):
        assert trace.x == pytest.approx(100 * values[SHIFTS.index(0)], abs=0.006)


def test_the_slider_has_a_step_for_each_frame_named_by_its_shift_in_pixels(shown):
    (slider,) = shown.figure.layout.sliders
    assert [(step.label, list(step.args[0])) for step in slider.steps] == [
        (str(shift), [str(shift)]) for shift in SHIFTS
    ]
    assert all(
        step.method == "animate" and step.args[1]["frame"]["redraw"] for step in slider.steps
    )
    assert slider.currentvalue.suffix == " px"


def test_the_predicted_class_of_each_network_and_no_other_is_in_full_colour(shown):
    for row, frame in enumerate(shown.figure.frames):
        for values, bar in zip(made_up().values(), frame.data[1:], strict=True):
            assert [opacity == 1 for opacity in bar.marker.opacity] == [
                k == values[row].argmax() for k in range(len(CLASSES))
            ]
            assert set(bar.marker.opacity) == {1, PALE}


@pytest.mark.parametrize("networks", [("one",), ("one", "two"), ("one", "two", "three")])
def test_bars_lie_below_their_class_name_without_touching_each_other_or_the_next(pixels, networks):
    figure = sliding(pixels, made_up(networks), SHIFTS, CLASSES).figure
    names = next(trace for trace in figure.data if trace.type == "scatter")
    assert names.text == CLASSES and (names.xaxis, names.yaxis) == ("x2", "y2")
    bars = [trace for trace in figure.frames[0].data if trace.type == "bar"]
    for k, name_at in enumerate(names.y):
        edges = [
            edge for bar in bars for edge in (bar.y[k] - bar.width / 2, bar.y[k] + bar.width / 2)
        ]
        assert edges == sorted(edges) and name_at < edges[0] and edges[-1] < k + 1


def test_the_mime_bundle_is_a_plot_and_a_picture_that_asks_no_other_host_and_stays_still(shown):
    bundle = shown._repr_mimebundle_()
    assert (
        base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
        and bundle["text/plain"] == shown.alt
    )
    page = bundle["text/html"]
    # JSON writes / as \u002f
    words = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "", page.replace("\\u002f", "/"))
    assert "//" not in words and "http" not in words and "<script src" not in words
    # nothing moves before the reader asks
    assert "Plotly.addFrames('slide'" in page and "Plotly.animate(" not in page
    assert (
        bundle
        == sliding(
            render(5, size=32, rng=np.random.default_rng(0)),
            made_up(),
            SHIFTS,
            CLASSES,
            name="slide",
        )._repr_mimebundle_()
    )


def test_many_positions_of_a_larger_image_remain_a_page_that_loads():
    shifts, classes = range(33), [f"class {k}" for k in range(10)]
    galaxy = render(7, size=64, rng=np.random.default_rng(0))
    figure = sliding(galaxy, made_up(shifts=shifts, classes=classes), shifts, classes).figure
    assert len(figure.frames) == 33 and len(figure.to_json()) < 1_500_000


def test_the_picture_follows_the_two_classes_that_the_first_network_begins_with(pixels, shown):
    given = made_up()
    first, second = followed(given, SHIFTS)
    unmoved = given["as released"][SHIFTS.index(0)]
    assert [first, second] == sorted(range(len(CLASSES)), key=lambda k: -unmoved[k])[:2]
    *strip, above, below = shown.picture.axes
    assert [axis.get_title() for axis in strip] == [f"{shift} px" for shift in (-4, 0, 3, 16, 23)]
    for axis in strip:
        assert np.array_equal(
            axis.images[0].get_array(), np.roll(pixels, int(axis.get_title().split()[0]), axis=1)
        )
    for axis, label in ((above, first), (below, second)):
        assert axis.get_title(loc="left") == CLASSES[label]
        assert {line.get_label(): list(line.get_ydata()) for line in axis.lines} == {
            network: list(100 * values[:, label]) for network, values in given.items()
        }


def test_shifts_in_any_order_are_drawn_from_left_to_right(pixels):
    shifts = (8, 0, 4)
    *_, axis = sliding(pixels, made_up(shifts=shifts), shifts, CLASSES).picture.axes
    assert list(axis.lines[0].get_xdata()) == [0, 4, 8]


def test_the_words_say_what_each_network_predicts_and_how_often_that_changes(pixels):
    steady, fickle = np.full((3, 4), 0.1), np.full((3, 4), 0.1)
    steady[:, 2] = fickle[[0, 1], 2] = fickle[2, 0] = 0.7
    alt = sliding(pixels, {"steady": steady, "fickle": fickle}, (0, 5, 9), CLASSES).alt
    assert "by 0 to 9 pixels" in alt
    assert re.search(
        r"steady: predicts spiral for the image unmoved, another class at 0 of 3 "
        r"shifts; .* 70.0 % and 70.0 %",
        alt,
    )
    assert re.search(
        r"fickle: predicts spiral for the image unmoved, another class at 1 of 3 "
        r"shifts; .* 10.0 % and 70.0 %",
        alt,
    )


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            dict(probabilities=made_up(shifts=SHIFTS[1:])),
            r"shape \(5, 4\); 6 shifts and 4 classes "
            r"need \(6, 4\)",
        ),
        (dict(classes=CLASSES[:3]), r"shape \(6, 4\); 6 shifts and 3 classes need \(6, 3\)"),
        (dict(probabilities={"logits": np.full((6, 4), -2.0)}), "give the logits' softmax"),
        (dict(probabilities={}), "no network's probabilities"),
        (dict(shifts=(1, 2, 3, 4, 5, 6)), "0 among them"),
        (dict(shifts=(0, 1, 1, 4, 5, 6)), "each once"),
        (dict(pixels=np.zeros((32, 32, 3))), r"float64 .* give the pixels as stored"),
        (dict(pixels=np.zeros((32, 32), dtype=np.uint8)), r"shape \(32, 32\)"),
    ],
    ids=str,
)
def test_what_does_not_belong_together_is_refused_in_one_line(pixels, changes, words):
    arguments = (
        dict(pixels=pixels, probabilities=made_up(), shifts=SHIFTS, classes=CLASSES) | changes
    )
    with pytest.raises(ValueError, match=words) as caught:
        sliding(**arguments)
    assert "\n" not in str(caught.value)
