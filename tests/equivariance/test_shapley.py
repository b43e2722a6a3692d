"""Shapley's four properties, on random games; they single his value out, so that whatever has them
is it.
"""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroformer.equivariance import shapley

CAUSES = ("strides", "padding", "bias table", "norm")
numbers = st.floats(-100, 100, allow_nan=False)


@st.composite
def games(draw, causes=CAUSES):
    """A worth for every set of some causes; that of none need not be zero."""
    chosen = causes[: draw(st.integers(1, len(causes)))]
    return {some: draw(numbers) for some in shapley.subsets(chosen)}


def causes_of(game):
    return sorted(max(game, key=len))


def close(one, other):
    return np.isclose(one, other, rtol=0, atol=1e-9)


@given(games())
def test_values_add_up_to_the_whole_and_shares_to_a_hundred(game):
    values = shapley.values(game)
    whole = game[max(game, key=len)] - game[frozenset()]
    assert list(values) and close(sum(values.values()), whole)
    if abs(whole) > 1e-3:
        assert sum(shapley.percent(values, game).values()) == pytest.approx(100, abs=1e-6)


@given(games())
def test_a_value_is_the_mean_over_all_orders_of_what_the_cause_adds_there(game):
    causes = causes_of(game)
    orders = list(permutations(causes))
    for cause, value in shapley.values(game).items():
        added = [
            game[frozenset(order[: order.index(cause) + 1])]
            - game[frozenset(order[: order.index(cause)])]
            for order in orders
        ]
        assert close(value, np.mean(added))


@given(games(), st.permutations(CAUSES))
def test_values_go_with_their_causes_whatever_these_are_called(game, called):
    names = dict(zip(CAUSES, called))
    renamed = {frozenset(names[cause] for cause in some): made for some, made in game.items()}
    other = shapley.values(renamed)
    assert all(close(value, other[names[cause]]) for cause, value in shapley.values(game).items())


@given(games(CAUSES[:3]))
def test_causes_that_do_alike_have_equal_values(game):
    """They are made alike: a set's worth is the mean of its own and of that with both swapped."""
    swap = {"strides": "padding", "padding": "strides"}
    causes = causes_of(game)
    if not set(swap) <= set(causes):
        return
    alike = {
        some: (made + game[frozenset(swap.get(cause, cause) for cause in some)]) / 2
        for some, made in game.items()
    }
    values = shapley.values(alike)
    assert close(values["strides"], values["padding"])


@given(games(CAUSES[:3]), numbers)
def test_a_cause_that_adds_the_same_to_every_set_has_that_as_its_value(game, made):
    dummy = {some | {"dummy"}: worth + made for some, worth in game.items()}
    values = shapley.values(game | dummy)
    assert close(values["dummy"], made)
    assert all(close(values[cause], value) for cause, value in shapley.values(game).items())


@given(games(), st.lists(numbers, min_size=16, max_size=16), numbers)
def test_values_add_up_over_worths_that_add_up(game, others, factor):
    other = dict(zip(game, others))
    together = {some: made + factor * other[some] for some, made in game.items()}
    one, two = shapley.values(game), shapley.values(other)
    for cause, value in shapley.values(together).items():
        assert np.isclose(value, one[cause] + factor * two[cause], rtol=1e-9, atol=1e-7)


def test_a_game_that_was_divided_by_hand():
    """The glove game: one left glove, two right ones; a pair is worth 1. By hand 4/6, 1/6, 1/6."""
    worth = {
        some: float("left" in some and len(some) > 1)
        for some in shapley.subsets(("left", "right", "other right"))
    }
    values = shapley.values(worth)
    assert values == pytest.approx({"left": 2 / 3, "right": 1 / 6, "other right": 1 / 6})
    assert shapley.first_in(worth) == dict.fromkeys(values, 0)
    assert shapley.last_in(worth) == {"left": 1, "right": 0, "other right": 0}


def test_arrays_are_divided_entry_by_entry():
    draw = np.random.default_rng(0)
    worth = {some: draw.random((2, 3)) for some in shapley.subsets(CAUSES[:2])}
    values = shapley.values(worth)
    for place in np.ndindex(2, 3):
        single = shapley.values({some: made[place] for some, made in worth.items()})
        assert all(values[cause][place] == single[cause] for cause in single)


def test_what_lies_between_first_and_last_place_holds_the_value_of_one_of_two_causes():
    worth = {frozenset(): 0.0, frozenset("a"): 3.0, frozenset("b"): 1.0, frozenset("ab"): 8.0}
    values, first, last = (
        part(worth) for part in (shapley.values, shapley.first_in, shapley.last_in)
    )
    assert values == {"a": 5, "b": 3} and first == {"a": 3, "b": 1} and last == {"a": 7, "b": 5}


@pytest.mark.parametrize(
    "worth, error",
    [
        ({}, "need a cause"),
        ({frozenset(): 1.0}, "need a cause"),
        ({frozenset("a"): 1.0, frozenset("ab"): 2.0, frozenset(): 0.0}, "worth of {'b'}"),
        ({frozenset("a"): 1.0}, "worth of no cause"),
        ({frozenset(): np.zeros(2), frozenset("a"): np.zeros(3)}, "different shapes"),
    ],
)
def test_a_game_that_is_not_whole_is_refused(worth, error):
    with pytest.raises(ValueError, match=error):
        shapley.values(worth)


def test_of_nothing_there_are_no_shares():
    worth = {frozenset(): 1.0, frozenset("a"): 1.0}
    with pytest.raises(ValueError, match="make nothing together"):
        shapley.percent(shapley.values(worth), worth)
