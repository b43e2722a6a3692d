"""A figure by night: paper and ink turn, colours of data and photographs stay."""

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from astroformer.figures import style, vector
from astroformer.figures.style import COLORS, panels, picture
from astroformer.reproduce.dark import (
    GUTTER,
    HUE,
    INK,
    PAPER,
    READABLE,
    contrast,
    dark,
    turned_ink,
    turned_map,
    turned_photograph,
)

BYTES = st.integers(0, 255)


@pytest.fixture(autouse=True)
def _style():
    style.use()


def rgb(color):
    return tuple(bytes.fromhex(color.removeprefix("#")))


def colors_of(drawing):
    return {rgb(one) for one in re.findall(r"(?:fill|stroke):(#\w{6})", drawing)}


def pictures_of(drawing):
    found = re.findall(r"base64,([^\"]+)", drawing)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


@pytest.mark.parametrize("name", COLORS)
def test_a_colour_of_data_stays_and_is_seen_on_the_dark_paper(name):
    figure, (axes,) = panels(1, 1, height=2)
    axes.plot([1, 2], color=COLORS[name])
    light = vector.svg(figure)
    assert light is not None and rgb(COLORS[name].lower()) in colors_of(light)
    drawn = {tuple(turned_ink(np.array(rgb(COLORS[name]), np.uint8)))}
    assert drawn <= colors_of(dark(light))
    assert all(contrast(color, PAPER) >= 3 for color in drawn)
    if name != "grey":  # which is ink
        assert drawn == {rgb(COLORS[name])}


def test_white_is_the_paper_and_black_the_ink():
    figure, (axes,) = panels(1, 1, height=2)
    axes.plot([1, 2], "ks", markerfacecolor="white")
    light = vector.svg(figure)
    assert light is not None
    night = dark(light)
    before, after = colors_of(light), colors_of(night)
    assert (255, 255, 255) in before and (0, 0, 0) in before
    assert PAPER in after and INK in after
    assert not any(contrast(color, (255, 255, 255)) < 1.3 for color in after), "nothing is white"
    root = re.match(r"<svg [^>]*>", night)
    assert root and f'fill="#{bytes(INK).hex()}"' in root[0], "letters without a colour are ink"
    assert len(re.findall("<path|<use|<text", night)) == len(re.findall("<path|<use|<text", light))


@given(st.tuples(BYTES, BYTES, BYTES))
def test_ink_turns_and_hues_stay(color):
    turned = turned_ink(np.array(color, np.uint8))
    if np.ptp(color) > HUE:
        assert tuple(turned) == color
    else:
        assert all(min(i, p) <= part <= max(i, p) for part, i, p in zip(turned, INK, PAPER)), (
            "between the two"
        )


@given(BYTES, BYTES)
def test_a_lighter_grey_is_nearer_to_the_paper(one, other):
    first, second = (turned_ink(np.full(3, value, np.uint8)) for value in sorted((one, other)))
    assert contrast(first, PAPER) >= contrast(second, PAPER)


@given(st.tuples(BYTES, BYTES, BYTES), st.tuples(BYTES, BYTES, BYTES))
def test_a_map_is_as_bright_as_it_was_dark(one, other):
    def lightness(color):
        return int(max(color)) + int(min(color))

    paler, stronger = sorted((one, other), key=lightness, reverse=True)
    before = lightness(paler) - lightness(stronger)
    turned = [turned_map(np.array(color, np.uint8)) for color in (paler, stronger)]
    if before > 40:
        assert lightness(turned[0]) < lightness(turned[1])
    assert tuple(turned_map(np.array([255, 255, 255], np.uint8))) == PAPER


@given(st.integers(0, 2**32 - 1))
def test_of_a_photograph_only_the_paper_between_two_changes(seed):
    pixels = np.random.default_rng(seed).integers(0, GUTTER, (4, 13, 3), np.uint8)
    pixels[2, 3] = 255  # a bright star is no paper
    pixels[:, 5] = 255
    turned = turned_photograph(pixels)
    assert (turned[:, 5] == PAPER).all()
    assert np.array_equal(np.delete(turned, 5, 1), np.delete(pixels, 5, 1))


def test_a_strip_of_photographs_has_dark_paper_between_them_as_jpeg_too():
    pixels = np.random.default_rng(0).integers(0, 90, (64, 8, 64, 3), np.uint8)
    strip = np.pad(pixels, ((2, 2), (0, 0), (2, 2), (0, 0)), constant_values=255)
    figure, (axes,) = panels(1, 1, height=2)
    picture(axes, strip.reshape(68, 8 * 68, 3))
    light = vector.svg(figure)
    assert light is not None and "image/jpeg" in light
    (before,), (after,) = pictures_of(light), pictures_of(dark(light))
    assert before[:, 68::68].min() > 180 and after[:, 68::68].max() < 75
    assert before[0].min() > 180 and after[0].max() < 75


def test_a_negative_stays_white():
    pixels = np.full((24, 24, 3), 255, np.uint8)
    pixels[8:12, 8:12] = 0
    assert np.array_equal(turned_photograph(pixels), pixels)


def test_a_photograph_and_the_letters_on_it_are_the_same_by_night():
    pixels = np.random.default_rng(0).integers(0, GUTTER, (16, 16, 3), np.uint8)
    figure, (axes,) = panels(1, 1, height=2)
    picture(axes, pixels, "title")
    axes.text(8, 8, "within", color="white")
    light = vector.svg(figure)
    assert light is not None
    night = dark(light)
    (shown,) = pictures_of(night)
    assert np.array_equal(shown, pixels)
    within, title = (re.search(rf"<text[^>]*>{word}", night) for word in ("within", "title"))
    assert within and "fill:#ffffff" in within[0]
    assert title and "#ffffff" not in title[0]


def test_a_map_of_numbers_is_no_white_card():
    figure, (axes,) = panels(1, 1, height=3)
    axes.imshow(np.eye(8), cmap="Blues")
    for place, color in ((0, "white"), (1, "#374151")):
        axes.text(place, 0, f"cell {place}", color=color, ha="center")
    light = vector.svg(figure)
    assert light is not None
    night = dark(light)
    (before,), (after,) = pictures_of(light), pictures_of(night)
    assert before.mean() > 200 and after.mean() < 70
    assert after[0, 0].mean() > after[0, 1].mean(), "what stood out stands out"
    for place in (0, 1):
        said = re.search(rf"fill:(#\w{{6}})[^>]*>cell {place}", night)
        assert said and contrast(rgb(said[1]), after[0, place]) >= READABLE


def test_the_bar_that_explains_a_map_stays_with_it():
    figure, (axes,) = panels(1, 1, height=3)
    figure.colorbar(axes.imshow(np.linspace(0, 1, 64).reshape(8, 8), cmap="magma"))
    light = vector.svg(figure)
    assert light is not None
    before, after = pictures_of(light), pictures_of(dark(light))
    assert len(before) == 2 and all(map(np.array_equal, before, after))


def test_letters_in_a_colour_of_data_can_be_read():
    figure, (axes,) = panels(1, 1, height=2)
    for place, color in enumerate(COLORS.values()):
        axes.text(0, place / 9, "words", color=color)
    light = vector.svg(figure)
    assert light is not None
    letters = re.findall(r"<text[^>]*?fill:(#\w{6})[^>]*>words", dark(light))
    assert len(letters) == len(COLORS)
    assert all(contrast(rgb(color), PAPER) >= READABLE for color in letters)
