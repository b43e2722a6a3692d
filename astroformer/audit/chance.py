"""How easily made-up tables do what the reported one does: the share of them, in numbers and words,
and how many single numbers would pass by luck.

`by_changes` is (1 + decoys, LEVELS) throughout: matches by number of changes, of the reported table
in row 0 and of each made-up one.
"""

import numpy as np

from astroformer.audit.search import LEVELS

EASY = 0.05  # what more than this share of made-up tables also does is no evidence


def share(as_well: int, made_up: int) -> float:
    """Of a reported table and so many made-up ones, the part that does as well as the reported one,
    itself among them: it is never 0.

    Source: Phipson and Smyth (2010), "Permutation P-values Should Never Be Zero", Statistical
    Applications in Genetics and Molecular Biology 9.
    """
    return (as_well + 1) / (made_up + 1)


def in_words(part: float, made_up: int) -> str:
    """A `share` for a table: "12.4 %", or "< 0.5 %" where none of 200 did as well."""
    none = share(0, made_up)
    return f"< {100 * none:.1g} %" if part <= none else f"{100 * part:.1f} %"


def fewest(by_changes: np.ndarray) -> np.ndarray:
    """(1 + decoys,) changes of the nearest match, LEVELS where there is none."""
    found = by_changes > 0
    return np.where(found.any(1), found.argmax(1), LEVELS)


def single(by_changes: np.ndarray, nearest: list[dict]) -> dict:
    """One number: its matches by number of changes, those expected by chance, and the share of
    made-up tables that match with no more changes than the nearest real match.
    """
    real, made_up, changes = by_changes[0], by_changes[1:], fewest(by_changes)
    none = changes[0] == LEVELS
    return {
        "matches": int(real.sum()),
        "by_changes": real.tolist(),
        "expected_by_changes": made_up.mean(0).round(3).tolist(),
        "fewest_changes": None if none else int(changes[0]),
        "as_easily": None if none else share(int((changes[1:] <= changes[0]).sum()), len(made_up)),
        "nearest": nearest,
    }


def luck(numbers: list[np.ndarray]) -> dict:
    """How many of several numbers of one kind are easy for no more than EASY of made-up tables, and
    how many are so in a made-up table: `numbers` holds `by_changes` of each.

    expected: mean over the made-up tables; as_many: share of those in which as many are
    """
    # (numbers, 1 + decoys)
    changes = np.array([fewest(by_changes) for by_changes in numbers])
    easier = (changes[:, None, :] <= changes[:, :, None]).sum(2)  # each table among all
    passing = ((changes < LEVELS) & (easier <= EASY * changes.shape[1])).sum(0)
    return {
        "numbers": len(numbers),
        "passing": int(passing[0]),
        "expected": round(float(passing[1:].mean()), 3),
        "as_many": share(int((passing[1:] >= passing[0]).sum()), len(passing) - 1),
    }
