"""Shapley shares: a whole that several causes make together, divided among them.

Causes do not add up: what one of them makes depends on which others are there. `worth` says what
every set of causes makes together, so that a cause can be put in at each place of every order of
them. Its Shapley value is the mean, over all orders, of what it adds where it is put in:

    phi_i = sum over sets S without i of |S|! (n - |S| - 1)! / n! (worth(S with i) - worth(S))

It is the only division that adds up to the whole, treats causes alike that do alike, gives nothing
to a cause that does nothing, and adds up over worths that add up. A value may be negative, where a
cause takes away more than it makes. Source: Shapley (1953), "A value for n-person games",
Contributions to the Theory of Games II, Annals of Mathematics Studies 28, 307 to 317.

Reads top to bottom: the sets, the values, the first and the last place, shares of the whole.
"""

import math
from collections.abc import Hashable, Iterable, Mapping
from itertools import combinations
from typing import TypeVar

import numpy as np

Cause = TypeVar("Cause", bound=Hashable)
# what each set of causes makes: numbers, or arrays of one shape, whose entries are divided each
Worth = Mapping[frozenset[Cause], float | np.ndarray]


def subsets(causes: Iterable[Cause]) -> list[frozenset[Cause]]:
    """All 2^n sets of n causes, the smaller first, in the order of the causes."""
    causes = list(causes)
    return [
        frozenset(some) for size in range(len(causes) + 1) for some in combinations(causes, size)
    ]


def values(worth: Worth[Cause]) -> dict[Cause, np.ndarray]:
    """The Shapley value of each cause, in the unit and shape of the worth. They add up to the worth
    of all causes less that of none.
    """
    causes, worth = _checked(worth)
    found = {}
    for cause in causes:
        found[cause] = np.zeros_like(worth[frozenset()])
        for without in subsets(other for other in causes if other != cause):
            place = len(without)  # orders that have exactly these before the cause
            orders = math.factorial(place) * math.factorial(len(causes) - place - 1)
            added = worth[without | {cause}] - worth[without]
            found[cause] = found[cause] + orders / math.factorial(len(causes)) * added
    return found


def first_in(worth: Worth[Cause]) -> dict[Cause, np.ndarray]:
    """What each cause makes alone: where it is put in first, the others being away."""
    causes, worth = _checked(worth)
    return {cause: worth[frozenset({cause})] - worth[frozenset()] for cause in causes}


def last_in(worth: Worth[Cause]) -> dict[Cause, np.ndarray]:
    """What goes away with each cause: where it is put in last, the others being there."""
    causes, worth = _checked(worth)
    whole = frozenset(causes)
    return {cause: worth[whole] - worth[whole - {cause}] for cause in causes}


def percent(
    parts: Mapping[Cause, float | np.ndarray], worth: Worth[Cause]
) -> dict[Cause, np.ndarray]:
    """Parts of the whole in percent of it, the worth of all causes less that of none."""
    causes, worth = _checked(worth)
    whole = worth[frozenset(causes)] - worth[frozenset()]
    if np.any(whole == 0):
        raise ValueError("The causes make nothing together, so that no part has a share of it.")
    return {cause: 100 * np.asarray(part) / whole for cause, part in parts.items()}


def _checked(
    worth: Worth[Cause],
) -> tuple[list[Cause], dict[frozenset[Cause], np.ndarray]]:
    """The causes in the order in which they come first, and the worth of every set as an array."""
    causes = list(dict.fromkeys(cause for some in worth for cause in some))
    if not causes:
        raise ValueError("Shapley values need a cause.")
    missing = [set(some) or "no cause" for some in subsets(causes) if some not in worth]
    if missing:
        raise ValueError(
            f"The worth of {missing[0]} is not given; {len(causes)} causes have "
            f"{2 ** len(causes)} sets."
        )
    arrays = {some: np.asarray(made, dtype=float) for some, made in worth.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1:
        raise ValueError(f"The worths of the sets have different shapes: {sorted(shapes)}.")
    return causes, arrays
