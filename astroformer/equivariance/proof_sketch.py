"""The poster's proof sketch, as it is printed: what its two lines say, how often they are equal,
and when they are.

The section "Proof Sketch" of the poster (Dagli 2023, arXiv:2304.05350; the paper's appendix A.2)
argues that relative attention is translation-equivariant with

    y_i' = sum_j exp((x_i + D).(x_j + D) + w_{i-j}) / sum_k exp((x_i + D).x_k + w_{i-k}) x_j
         first line
         = y_i + D sum_j [exp(x_i.x_j + w_{i-j}) / sum_k exp(x_i.x_k + w_{i-k})] exp(D.x_j)
             last line

where D (Delta) is added to the features; no position moves. Of the features x (N, C), D (C,) and
the bias w (N, N) nothing is assumed but that they are finite. Write p_ij for the softmax over j of
x_i.x_j + w_{i-j}, y_i = sum_j p_ij x_j for attention, M_i = sum_j p_ij exp(D.x_j), and z_i = sum_j
p_ij exp(D.x_j) x_j / M_i, the mean under the softmax of (x_i + D).x_j + w_{i-j}.

    attention of x + D = z_i + D. Its logits (x_i + D).(x_j + D) + w_{i-j} have (x_i + D).D in each
                         j, which the softmax cancels; the mean of x_j + D is then z_i + D.
    the first line     = exp((x_i + D).D) z_i. The denominator lacks D beside x_k, so nothing
                       cancels; the last factor lacks D, too.
    the last line      = y_i + M_i D.

When are they equal, for every i?

Attention = last line if and only if z_i - y_i = (M_i - 1) D.
    D = 0: it holds. D orthogonal to every x_j: it holds, for then M_i = 1 and z_i = y_i; both sides
    are y_i + D. D.x_j = t for all j, as when all features are equal or there is one position: the
    difference is (1 - exp t) D, so t must be 0. By accident: for instance the features -a and a,
    weighed alike, where a^2 tanh u = u (cosh u - 1) and D = u / a. For every D: only if all
    features are zero. For small D the difference is V_i D, with V_i the covariance of the features
    under p_i; so V_i = 0, all features are equal to some x, and exp(D.x) = 1 for every D.
First line = last line if and only if exp((x_i + D).D) z_i = y_i + M_i D.
    D = 0: it holds. Another D orthogonal to every x_j: it does not; (exp(D.D) - 1) y_i, orthogonal
    to D, would have to be D. All features equal to x, or one position: D must be c x with exp(c (1
    + c) x.x) = 1 + c exp(c x.x), which some c other than 0 solves unless x.x is 0 or 1. For every
    D: for no x. With D = s x_j and s growing, z_i stays away from zero, so the first line grows
    like exp(s^2 x_j.x_j) and faster than the last, whose exponent is linear in s. With all features
    zero the lines are 0 and D.

Both differences are analytic in (x, w, D) and not zero everywhere, so almost every draw fails;
`residuals` shows by how much. What equivariance asks for instead, that the output moves when the
positions move, holds to rounding where offsets wrap.

Reads top to bottom: the lines, many draws, the special cases, two positions by hand.
"""

import math
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from scipy.optimize import brentq
from torch import Tensor

from astroformer.equivariance.network import Shift, relative_error, shifted

LINES = "first line = last line"
ATTENTION = "attention of x + Δ = last line"
SHIFT = "attention of shifted positions = shifted attention"
# relative residual below which a draw counts as equal; rounding stays far below, a difference far
# above
EQUAL = 1e-9
ROUNDING = 1e-12  # relative residual of an equation that holds, in double precision
# of Delta; the features' length is about 1
LENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0, 2.0, 3.0)

Setting = tuple[Tensor, Tensor, Tensor]  # x (N, C), Delta (C,), bias w (N, N)


# Attention, and the lines.


def relative_attention(x: Tensor, bias: Tensor) -> Tensor:
    """The poster's y_i = sum_j softmax_j(x_i x_j + w_{i-j}) x_j. Features (N, C), bias w (N, N)
    -> (N, C)
    """
    return (x @ x.mT + bias).softmax(-1) @ x


def offset_bias(table: Tensor, side: int) -> Tensor:
    """w_{i-j} for all pairs of positions of a side x side grid, (N, N), from a number for each
    offset.

    A table of side x side wraps offsets around a torus; one of (2 side - 1)^2 has every offset by
    itself, as released.
    """
    offset = (torch.arange(side)[:, None] - torch.arange(side)) % len(table)  # (side, side)
    # (N, N)
    return table[offset[:, None, :, None], offset[None, :, None, :]].reshape(side**2, side**2)


def first_line(x: Tensor, delta: Tensor, bias: Tensor) -> Tensor:
    """The first line as printed, in float64. x (N, C), delta (C,), bias w (N, N) -> (N, C)"""
    x, delta, bias = _checked(x, delta, bias)
    moved = x + delta
    below = torch.logsumexp(moved @ x.mT + bias, -1, keepdim=True)
    return (moved @ moved.mT + bias - below).exp() @ x


def last_line(x: Tensor, delta: Tensor, bias: Tensor) -> Tensor:
    """The last line as printed, in float64. x (N, C), delta (C,), bias w (N, N) -> (N, C)"""
    x, delta, bias = _checked(x, delta, bias)
    weights = (x @ x.mT + bias).softmax(-1)  # (N, N)
    return relative_attention(x, bias) + (weights @ (x @ delta).exp())[:, None] * delta


def attention_of_sum(x: Tensor, delta: Tensor, bias: Tensor) -> Tensor:
    """What the lines are said to be: attention when delta is added to every feature, in float64.
    Same shapes.
    """
    x, delta, bias = _checked(x, delta, bias)
    return relative_attention(x + delta, bias)


def _checked(x: Tensor, delta: Tensor, bias: Tensor) -> Setting:
    if x.ndim != 2 or delta.shape != x.shape[1:] or bias.shape != (len(x), len(x)):
        raise ValueError(
            f"the features have the shape {tuple(x.shape)}, Δ {tuple(delta.shape)} "
            f"and the bias {tuple(bias.shape)}; "
            "give (N, C), (C,) and (N, N)"
        )
    return x.double(), delta.double(), bias.double()


def at_shifted_positions(x: Tensor, shift: Shift, grid: tuple[int, int]) -> Tensor:
    """Features (N, C) of a grid (H, W), in reading order, moved cyclically by (dy, dx)
    positions.
    """
    return shifted(x.mT.unflatten(-1, grid), shift).flatten(-2).mT


def attention_and_shift(
    x: Tensor, bias: Tensor, shift: Shift, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Attention to shifted positions, and shifted attention, (N, C) each: the same where
    attention is equivariant.
    """
    return relative_attention(at_shifted_positions(x, shift, grid), bias), at_shifted_positions(
        relative_attention(x, bias), shift, grid
    )


def compared(x: Tensor, delta: Tensor, bias: Tensor) -> dict[str, float]:
    """Relative residual of the sketch's two equations: of its "=", and of attention against what
    it arrives at.
    """
    reference = last_line(x, delta, bias)
    return {
        LINES: relative_error(first_line(x, delta, bias), reference),
        ATTENTION: relative_error(attention_of_sum(x, delta, bias), reference),
    }


# Many draws.


def residuals(
    *,
    draws: int = 200,
    lengths: Sequence[float] = LENGTHS,
    side: int = 4,
    dim: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """Relative residuals over random features, biases and directions of Delta, for each length of
    Delta: median, 5 % and 95 % quantile, and the share of draws below `EQUAL`.

    A torus of side x side positions, features of length about 1. Each draw is used at every length.
    The third comparison is equivariance itself: the features x + Delta at positions shifted by a
    random, non-zero shift.
    """
    if draws < 1 or side < 2 or dim < 1 or not len(lengths) or not min(lengths) > 0:
        raise ValueError(
            f"draws={draws}, side={side}, dim={dim}, lengths={tuple(lengths)}: give "
            "at least one draw, a grid of at "
            "least two positions a side, one dimension and one length, and lengths "
            "above zero"
        )
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(draws):
        x = torch.randn(side * side, dim, generator=draw, dtype=torch.float64) / math.sqrt(dim)
        direction = _unit(dim, draw)
        bias = offset_bias(torch.randn(side, side, generator=draw, dtype=torch.float64), side)
        place = int(torch.randint(1, side * side, (), generator=draw))  # 0 would be no shift
        for length in lengths:
            delta = length * direction
            both = attention_and_shift(x + delta, bias, divmod(place, side), (side, side))
            found += [
                {"length": length, "comparison": name, "residual": residual}
                for name, residual in (
                    compared(x, delta, bias) | {SHIFT: relative_error(*both)}
                ).items()
            ]
    groups = pd.DataFrame(found).groupby(["length", "comparison"], sort=False)["residual"]
    return pd.DataFrame(
        {
            "median": groups.median(),
            "low": groups.quantile(0.05),
            "high": groups.quantile(0.95),
            "share equal": groups.apply(lambda values: (values < EQUAL).mean()),
        }
    ).reset_index()


def facts(found: pd.DataFrame) -> dict[str, float]:
    """What a page speaks of, from `residuals`: `sketch_equal`, in percent of the draws, how often
    either line of the sketch is fulfilled at most, and `shift_error`, the largest residual of
    shifted positions.
    """
    moved = found["comparison"] == SHIFT
    return {
        "sketch_equal": 100 * float(found.loc[~moved, "share equal"].max()),
        "shift_error": float(found.loc[moved, "high"].max()),
    }


def _unit(dim: int, draw: torch.Generator) -> Tensor:
    direction = torch.randn(dim, generator=draw, dtype=torch.float64)
    return direction / direction.norm()


# The special cases: each makes a setting of random size from a generator.


def anything(draw: torch.Generator) -> Setting:
    """No condition: a control. Some draws have a single position."""
    side, dim = (
        int(torch.randint(low, high, (), generator=draw)) for low, high in ((1, 5), (2, 9))
    )
    x = torch.randn(side * side, dim, generator=draw, dtype=torch.float64) / math.sqrt(dim)
    bias = offset_bias(
        torch.randn(2 * side - 1, 2 * side - 1, generator=draw, dtype=torch.float64), side
    )
    return x, (0.2 + torch.rand((), generator=draw, dtype=torch.float64)) * _unit(dim, draw), bias


def nothing_added(draw: torch.Generator) -> Setting:
    x, delta, bias = anything(draw)
    return x, 0 * delta, bias


def orthogonal(draw: torch.Generator) -> Setting:
    x, delta, bias = anything(draw)
    return x - (x @ delta)[:, None] * delta / (delta @ delta), delta, bias


def zero_features(draw: torch.Generator) -> Setting:
    x, delta, bias = anything(draw)
    return 0 * x, delta, bias


def equal_features(draw: torch.Generator) -> Setting:
    x, delta, bias = anything(draw)
    return x[:1].expand_as(x), delta, bias


def equal_features_and_their_multiple(draw: torch.Generator) -> Setting:
    x, _, bias = equal_features(draw)
    return x, multiple_that_balances(float(x[0] @ x[0])) * x[0], bias


def opposite_features(draw: torch.Generator) -> Setting:
    """-a and a, and a bias of offsets 0 and 1 that takes the difference of their products away."""
    _, delta, _ = anything(draw)
    u = 0.5 + 2 * float(torch.rand((), generator=draw, dtype=torch.float64))
    a = math.sqrt(u * (math.cosh(u) - 1) / math.tanh(u))
    unit = delta / delta.norm()
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    return a * signs[:, None] * unit, u / a * unit, -a * a * signs[:, None] * signs


def multiple_that_balances(square: float) -> float:
    """c other than 0 with exp(c (1 + c) r) = 1 + c exp(c r), for r = x.x: the lines' equality for
    equal features and D = c x.

    The trivial solution is divided out. What remains is r - 1 at c = 0; it is -exp(-r) at c = -1,
    and grows without bound with c.
    """
    if not square > 0 or square == 1:
        raise ValueError(
            f"features of squared length {square}: there is no multiple but 0; give "
            "a length other than 0 and 1"
        )

    def remains(c: float) -> float:
        return math.expm1(c * (1 + c) * square) / c - math.exp(c * square) if c else square - 1

    low, high = (-1.0, 0.0) if square > 1 else (0.0, 1.0)
    while square < 1 and remains(high) < 0:
        high *= 2
    return float(brentq(remains, low, high, xtol=1e-16, rtol=1e-15))


CASES: dict[str, Callable[[torch.Generator], Setting]] = {
    "no condition": anything,
    "Δ = 0": nothing_added,
    "Δ orthogonal to every feature": orthogonal,
    "every feature zero": zero_features,
    "all features equal": equal_features,
    "all features equal to x, Δ the multiple c x that balances": equal_features_and_their_multiple,
    "features −a and a weighed alike, Δ = u / a that balances": opposite_features,
}


def special_cases(*, draws: int = 200, seed: int = 0) -> pd.DataFrame:
    """For each of `CASES` and each equation of the sketch: whether it holds, and the smallest
    and largest relative residual.
    """
    if draws < 1:
        raise ValueError(f"draws={draws}: give at least one")
    rows = []
    for case, setting in CASES.items():
        draw = torch.Generator().manual_seed(seed)
        table = pd.DataFrame([compared(*setting(draw)) for _ in range(draws)])
        for comparison, residual in table.items():
            holds = (
                "always"
                if residual.max() < ROUNDING
                else "never"
                if residual.min() > EQUAL
                else "sometimes"
            )
            rows.append(
                {
                    "case": case,
                    "comparison": comparison,
                    "holds": holds,
                    "smallest residual": residual.min(),
                    "largest residual": residual.max(),
                    "draws": draws,
                }
            )
    return pd.DataFrame(rows)


def held(cases: pd.DataFrame) -> pd.DataFrame:
    """`special_cases` as a table for a page: cases by equations."""
    table = cases.pivot(index="case", columns="comparison", values="holds").loc[list(CASES)]
    return table.rename_axis(index=None, columns="case")


# Two positions by hand.

FEATURES, MOVED, PLAIN, TRUTH, FIRST, LAST, SWAPPED, ANSWER = (
    "x",
    "x + Δ",
    "attention of x",
    "attention of x + Δ",
    "printed first line",
    "printed last line",
    "x, positions exchanged",
    "attention of these",
)


def counterexample() -> pd.DataFrame:
    """Two positions in one dimension, x = (0, 1), w = 0, Delta = 1: every side, computed, beside
    what it is by hand.

    The last two rows exchange the positions, which is the cyclic shift by one: the output's values
    change places.
    """
    x, delta, bias = (
        torch.tensor(values, dtype=torch.float64) for values in ([[0], [1]], [1], [[0, 0], [0, 0]])
    )
    swapped = at_shifted_positions(x, (0, 1), (1, 2))
    sides = {
        FEATURES: (x, "0", "1"),
        MOVED: (x + delta, "1", "2"),
        PLAIN: (relative_attention(x, bias), "1 / 2", "e / (1 + e)"),
        TRUTH: (attention_of_sum(x, delta, bias), "1 + e / (1 + e)", "1 + e² / (1 + e²)"),
        FIRST: (first_line(x, delta, bias), "e² / (1 + e)", "e⁴ / (1 + e²)"),
        LAST: (last_line(x, delta, bias), "1 + e / 2", "1 + e² / (1 + e)"),
        SWAPPED: (swapped, "1", "0"),
        ANSWER: (relative_attention(swapped, bias), "e / (1 + e)", "1 / 2"),
    }
    return pd.DataFrame(
        [
            {
                "side": side,
                "position": position + 1,
                "by hand": by_hand[position],
                "value": float(values[position, 0]),
            }
            for side, (values, *by_hand) in sides.items()
            for position in range(len(x))
        ]
    )
