"""The sketch's lines are what is printed; they are equal where the proof says so, to rounding,
and almost nowhere else.
"""

from math import e, exp

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from astroformer.equivariance import proof_sketch as sketch
from astroformer.equivariance.network import relative_error
from astroformer.equivariance.proof_sketch import relative_attention
from astroformer.figures import proof_sketch as drawing

ROUNDING = 1e-12
SIZES = dict(positions=st.integers(1, 12), dim=st.integers(2, 9), seed=st.integers(0, 9_999))


def random(positions, dim, seed):
    """Features, a vector and a bias that need not even depend on offsets; lengths of about 1."""
    draw = torch.Generator().manual_seed(seed)
    x, delta = (
        torch.randn(*shape, generator=draw, dtype=torch.float64) / dim**0.5
        for shape in ((positions, dim), (dim,))
    )
    return x, delta, torch.randn(positions, positions, generator=draw, dtype=torch.float64)


def by_loops(x, delta, bias):
    """Both lines summed term by term, as the poster prints them."""
    first, last = torch.zeros_like(x), torch.zeros_like(x)
    for i in range(len(x)):
        below = sum(exp((x[i] + delta) @ x[k] + bias[i, k]) for k in range(len(x)))
        first[i] = sum(
            exp((x[i] + delta) @ (x[j] + delta) + bias[i, j]) / below * x[j] for j in range(len(x))
        )
        plain = sum(exp(x[i] @ x[k] + bias[i, k]) for k in range(len(x)))
        share = [exp(x[i] @ x[j] + bias[i, j]) / plain for j in range(len(x))]
        last[i] = sum(share[j] * x[j] for j in range(len(x))) + delta * sum(
            share[j] * exp(delta @ x[j]) for j in range(len(x))
        )
    return first, last


@settings(max_examples=20, deadline=None)
@given(**SIZES)
def test_the_lines_are_the_printed_sums_term_by_term(positions, dim, seed):
    setting = random(positions, dim, seed)
    first, last = by_loops(*setting)
    assert relative_error(sketch.first_line(*setting), first) < ROUNDING
    assert relative_error(sketch.last_line(*setting), last) < ROUNDING


@settings(max_examples=40, deadline=None)
@given(**SIZES)
def test_the_three_sides_are_what_the_proof_makes_of_them(positions, dim, seed):
    x, delta, bias = random(positions, dim, seed)
    weights = (x @ x.mT + bias).softmax(-1)
    tilted = weights * (x @ delta).exp()
    mean = tilted.sum(-1, keepdim=True)  # M_i
    z, y = tilted / mean @ x, weights @ x
    attention = sketch.attention_of_sum(x, delta, bias)
    assert relative_error(attention, z + delta) < ROUNDING
    assert (
        relative_error(sketch.first_line(x, delta, bias), ((x + delta) @ delta).exp()[:, None] * z)
        < ROUNDING
    )
    assert relative_error(sketch.last_line(x, delta, bias), y + mean * delta) < ROUNDING


@settings(max_examples=40, deadline=None)
@given(**SIZES)
def test_adding_nothing_makes_every_side_attention(positions, dim, seed):
    x, delta, bias = random(positions, dim, seed)
    y = relative_attention(x, bias)
    for side in (sketch.first_line, sketch.last_line, sketch.attention_of_sum):
        assert relative_error(side(x, 0 * delta, bias), y) < ROUNDING


@settings(max_examples=40, deadline=None)
@given(**SIZES)
def test_a_vector_orthogonal_to_every_feature_is_added_to_the_output_but_the_first_line_scales_it(
    positions, dim, seed
):
    x, delta, bias = random(positions, dim, seed)
    x = x - (x @ delta)[:, None] * delta / (delta @ delta)
    y = relative_attention(x, bias)
    assert relative_error(sketch.attention_of_sum(x, delta, bias), y + delta) < ROUNDING
    assert relative_error(sketch.last_line(x, delta, bias), y + delta) < ROUNDING
    first = sketch.first_line(x, delta, bias)
    assert relative_error(first, y * (delta @ delta).exp()) < ROUNDING
    assert relative_error(first, y + delta) > 1e-6


@settings(max_examples=40, deadline=None)
@given(**SIZES)
def test_when_all_features_are_equal_only_an_orthogonal_vector_is_added(positions, dim, seed):
    x, delta, bias = random(positions, dim, seed)
    x = x[:1].expand_as(x)
    difference = sketch.attention_of_sum(x, delta, bias) - sketch.last_line(x, delta, bias)
    expected = (1 - (x @ delta).exp())[:, None] * delta
    assert torch.allclose(
        difference, expected, rtol=0, atol=ROUNDING * (1 + float((x[0] @ delta).exp()))
    )


@settings(max_examples=40, deadline=None)
@given(**SIZES, scale=st.floats(0.2, 4))
def test_for_equal_features_one_other_multiple_of_them_makes_the_lines_equal_but_not_to_attention(
    positions, dim, seed, scale
):
    x, _, bias = random(positions, dim, seed)
    x = scale * x[:1].expand_as(x)
    square = float(x[0] @ x[0])
    assume(abs(square - 1) > 1e-3)  # the multiple tends to 0 there, where everything is equal
    delta = sketch.multiple_that_balances(square) * x[0]
    assert delta.norm() > 0
    residual = sketch.compared(x, delta, bias)
    assert residual[sketch.LINES] < ROUNDING < 1e-9 < residual[sketch.ATTENTION]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9_999))
def test_two_opposite_features_weighed_alike_are_an_accident_that_needs_no_orthogonality(seed):
    x, delta, bias = sketch.opposite_features(torch.Generator().manual_seed(seed))
    assert abs(float(x[1] @ delta)) > 0.1 and bias[0, 0] == bias[1, 1] and bias[0, 1] == bias[1, 0]
    residual = sketch.compared(x, delta, bias)
    assert residual[sketch.ATTENTION] < ROUNDING < 0.1 < residual[sketch.LINES]
    residual = sketch.compared(x, 1.1 * delta, bias)
    assert residual[sketch.ATTENTION] > 1e-6  # a little longer, and it is gone


def test_the_table_of_special_cases_says_which_equation_holds():
    table = (
        sketch.special_cases(draws=60, seed=3).set_index(["case", "comparison"])["holds"].unstack()
    )
    assert list(zip(table[sketch.LINES], table[sketch.ATTENTION], strict=True)) == [
        {
            "no condition": ("never", "never"),
            "Δ = 0": ("always", "always"),
            "Δ orthogonal to every feature": ("never", "always"),
            "every feature zero": ("never", "always"),
            "all features equal": ("never", "never"),
            "all features equal to x, Δ the multiple c x that balances": ("always", "never"),
            "features −a and a weighed alike, Δ = u / a that balances": ("never", "always"),
        }[case]
        for case in table.index
    ]
    assert set(table.index) == set(sketch.CASES)


def test_over_many_draws_neither_equation_holds_and_equivariance_does():
    table = sketch.residuals(draws=50, lengths=(1e-6, 1e-3, 1), side=3, dim=5)
    share = table.groupby("comparison")["share equal"]
    assert (
        share.max()[sketch.LINES] == share.max()[sketch.ATTENTION] == 0
        and share.min()[sketch.SHIFT] == 1
    )
    assert (table["low"] <= table["median"]).all() and (table["median"] <= table["high"]).all()
    assert table[table["comparison"] == sketch.SHIFT]["high"].max() < ROUNDING


def test_the_difference_grows_from_zero_in_proportion_to_the_length_of_what_is_added():
    table = sketch.residuals(draws=30, lengths=(1e-8, 1e-7, 1e-4, 1e-2, 1, 3), side=3, dim=5)
    for name in (sketch.LINES, sketch.ATTENTION):
        median = table[table["comparison"] == name].set_index("length")["median"]
        assert median.is_monotonic_increasing and median[1e-8] < 1e-7
        # wrong already at first order
        assert median[1e-4] / median[1e-7] == pytest.approx(1e3, rel=0.01)


def test_residuals_are_the_same_again_and_differ_by_seed():
    options = dict(draws=5, lengths=(0.1,), side=2, dim=3)
    assert sketch.residuals(**options).equals(sketch.residuals(**options))
    assert not sketch.residuals(**options).equals(sketch.residuals(**options, seed=1))


def test_the_counterexample_is_as_by_hand_and_its_formulas_are_its_values():
    table = sketch.counterexample()
    values = {side: tuple(pair["value"]) for side, pair in table.groupby("side")}
    half, weight = 1 / 2, exp(1) / (1 + exp(1))
    by_hand = {
        sketch.FEATURES: (0, 1),
        sketch.MOVED: (1, 2),
        sketch.PLAIN: (half, weight),
        sketch.TRUTH: (
            (1 * exp(1) + 2 * exp(2)) / (exp(1) + exp(2)),
            (1 * exp(2) + 2 * exp(4)) / (exp(2) + exp(4)),
        ),
        sketch.FIRST: (exp(1 * 2) / (exp(0) + exp(1)), exp(2 * 2) / (exp(0) + exp(2))),
        sketch.LAST: (
            half + (half * exp(0) + half * exp(1)),
            weight + ((1 - weight) * exp(0) + weight * exp(1)),
        ),
        sketch.SWAPPED: (1, 0),
        sketch.ANSWER: (weight, half),
    }
    assert values.keys() == by_hand.keys()
    for side, pair in by_hand.items():
        assert values[side] == pytest.approx(pair, abs=ROUNDING), side
    for row in table.itertuples():
        formula = table.loc[row.Index, "by hand"].replace("²", "**2").replace("⁴", "**4")
        # arithmetic that this repository wrote
        assert row.value == pytest.approx(eval(formula, {"e": e}), abs=ROUNDING)


@pytest.mark.parametrize(
    "shapes", [((4, 3), (4,), (4, 4)), ((4, 3), (3,), (3, 3)), ((2, 4, 3), (3,), (4, 4))], ids=str
)
@pytest.mark.parametrize("side", [sketch.first_line, sketch.last_line, sketch.attention_of_sum])
def test_shapes_that_do_not_belong_together_are_refused(side, shapes):
    with pytest.raises(ValueError, match=r"give \(N, C\), \(C,\) and \(N, N\)"):
        side(*(torch.zeros(shape) for shape in shapes))


def test_what_cannot_be_drawn_is_refused():
    for wrong in (
        dict(draws=0),
        dict(lengths=()),
        dict(lengths=(0.0, 1.0)),
        dict(side=1),
        dict(dim=0),
    ):
        with pytest.raises(ValueError, match="give at least one draw"):
            sketch.residuals(**wrong)
    with pytest.raises(ValueError, match="give at least one"):
        sketch.special_cases(draws=0)
    with pytest.raises(ValueError, match="no multiple but 0"):
        sketch.multiple_that_balances(1.0)


def test_the_pictures_show_every_row_of_their_tables():
    table = sketch.residuals(draws=5, lengths=(0.01, 0.1, 1), side=2, dim=3)
    (axis,) = drawing.residuals(table).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert drawn == {name: list(rows["median"]) for name, rows in table.groupby("comparison")}
    table = sketch.counterexample()
    (axis,) = drawing.counterexample(table).axes
    heights = dict(
        zip((label.get_text() for label in axis.get_yticklabels()), axis.get_yticks(), strict=True)
    )
    dots = {
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in axis.lines
        if line.get_marker() == "o"
    }
    assert dots == {(row.value, heights[row.side]) for row in table.itertuples()}
