"""A figure as SVG: lean, the same in every build, and with ids for what follows no theme."""

import io
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from astroformer.figures import style, vector
from astroformer.figures.style import COLORS, panels, picture


@pytest.fixture(autouse=True)
def _style():
    style.use()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)


def a_plot(points=20):
    figure, (axes,) = panels(1, 1, height=3)
    x, y = np.random.default_rng(1).normal(size=(2, points))
    axes.plot(x, y, "o", color=COLORS["blue"], label="points & more")
    axes.set(xlabel="size < 2", xscale="symlog")
    axes.legend()
    return figure


def raw(figure):
    """As matplotlib itself draws it."""
    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", bbox_inches="tight")
    return drawn.getvalue()


def parts(drawing, kind):
    return parts_of(ElementTree.fromstring(drawing), kind)


def parts_of(root, kind):
    return [one for one in root.iter() if one.tag.endswith(f"}}{kind}")]


def marked(drawing, told):
    """The tags that an id with this beginning stands at."""
    every = ElementTree.fromstring(drawing).iter()
    return [one for one in every if one.get("id", "").startswith(f"{told}-")]


def words(one):
    return " ".join("".join(one.itertext()).split())


def test_a_drawing_is_lean_has_letters_and_is_the_same_every_time():
    drawing = vector.svg(a_plot())
    assert drawing == vector.svg(a_plot())
    assert len(drawing) < len(raw(a_plot())) / 2
    said = [words(one) for one in parts(drawing, "text")]
    assert "size < 2" in said and "points & more" in said
    assert f'font-family="{vector.FAMILY}"' in drawing and "DejaVu" not in drawing[400:]
    assert not re.search(r"<dc:date>|\d{4}-\d\d-\d\d", drawing)
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', drawing))
    assert used == set(re.findall(r' id="([\w-]+)"', drawing)), "what is named is there, once"


def test_every_mark_stays_where_it_was_drawn():
    def places(drawing):
        return [(float(one.get("x")), float(one.get("y"))) for one in parts(drawing, "use")]

    figure = a_plot()
    vector.svg(figure)  # the layout settles
    assert np.allclose(places(vector.svg(figure)), places(raw(figure)), atol=0.01)


def test_drawing_leaves_the_figure_as_it_was():
    figure = a_plot(vector.MOST_MARKS + 1)
    picture(figure.axes[0], noise(8, 8))
    artists = figure.findobj()
    before = [(one.get_gid(), one.get_rasterized()) for one in artists]
    vector.svg(figure)
    assert [(one.get_gid(), one.get_rasterized()) for one in artists] == before
    assert figure.axes[0].images[0].get_interpolation() == "nearest"


def test_marks_by_the_thousand_become_one_picture():
    few, many = (
        vector.svg(a_plot(points)) for points in (vector.MOST_MARKS, 20 * vector.MOST_MARKS)
    )
    assert len(parts(few, "image")) == 0 and len(parts(few, "use")) > vector.MOST_MARKS
    assert len(parts(many, "image")) == 1 and len(parts(many, "use")) < 100
    assert len(many) < len(few)
    assert [words(one) for one in parts(many, "text")], "letters stay letters"


@pytest.mark.parametrize(("side", "drawn"), [(64, True), (250, True), (1500, False)])
def test_a_photograph_keeps_its_pixels_and_beyond_some_weight_there_is_no_drawing(side, drawn):
    figure, (axes,) = panels(1, 1, height=3)
    picture(axes, noise(side, side))
    drawing = vector.svg(figure)
    assert (drawing is not None) == drawn
    if drawing is not None:
        (image,) = parts(drawing, "image")
        assert (image.get("width"), image.get("height")) == (str(side), str(side))
        assert len(drawing) <= vector.MOST_BYTES


def test_what_lies_on_a_photograph_or_on_colour_is_kept_and_all_else_is_not():
    figure, (photo, bars) = panels(1, 2, height=3)
    picture(photo, noise(32, 32), "title")
    photo.plot([3, 8], [8, 9], color="white")
    photo.text(10, 10, "within", color="white")
    photo.text(5, -3, "above")
    bars.barh([0], [3], color=COLORS["blue"])
    bars.barh([1], [3], color="white")
    bars.text(1, 0, "on a bar", color="white")
    bars.text(1, 1, "on white")
    bars.text(3.5, 0.5, "beside")
    kept = marked(vector.svg(figure), vector.KEPT)
    assert len([one for one in kept if one.tag.endswith("}image")]) == 1
    assert {words(one) for one in kept if words(one)} == {"within", "on a bar"}
    assert len(kept) == 4, "the photograph, the line on it, two texts"


@pytest.mark.parametrize(
    ("cmap", "told"),
    [("Blues", "themed"), ("RdBu_r", "themed"), ("gray", "kept"), ("magma", "kept")],
)
def test_a_map_of_numbers_that_begins_at_white_follows_the_theme(cmap, told):
    figure, (axes,) = panels(1, 1, height=3)
    shown = axes.imshow(np.linspace(0, 1, 64).reshape(8, 8), cmap=cmap)
    figure.colorbar(shown)
    axes.text(3, 3, "cell")
    drawing = vector.svg(figure)
    if told == vector.THEMED:
        themed = marked(drawing, told)
        assert len(themed) == 2, "the map and the bar that explains it"
        assert sum(len(parts_of(one, "image")) for one in themed) == 2
        assert not marked(drawing, vector.KEPT)
    else:
        assert not marked(drawing, vector.THEMED)
        bars = [one for one in marked(drawing, vector.COLOURED) if parts_of(one, "image")]
        assert len(bars) == (cmap == "magma"), "a bar of greys is ink"
        assert "cell" in [words(one) for one in marked(drawing, told)]
