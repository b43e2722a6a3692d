"""Which configurations print the digits that a paper reports?

For each reported pair (parameters, FLOPs) every candidate of `Space` is counted under every
convention, and those that print the same digits are kept, ranked by how many changes from the
release they need. Among hundreds of millions of candidates some coincide by chance. How many is
measured: the same search runs for made-up tables near the reported one (decoys), and what a made-up
table finds as easily is no evidence.

A made-up table moves all counts of a model by one amount. The rows of a model are built from one
network with other classes, or nearly so: 271.54 and 271.68 M differ by 90 classes. A table whose
numbers moved each on its own could not do what the reported one does for nothing.

Reads top to bottom: Target and Numbers (what is looked for), Found, search. `audit.py` draws the
conclusions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astroformer.audit.candidates import Block, Release, Space, operations
from astroformer.ledger.claims import row_name
from astroformer.sizes import ASTROFORMER as VARIANTS

# half of the last digit that the README prints of its parameters, two decimals of a million
PARAMS_HALF = 5000
RANGE = 0.05  # how far a decoy may lie from its model's smallest number, relative
LEVELS = 5  # numbers of changes told apart: 0, 1, 2, 3, and 4 or more
JOINT = 4  # and those that print several rows' parameters among configurations with at most so many
# FLOPs alone are matched among configurations with at most so many changes: beyond, everything
# coincides
NEAR = 2


@dataclass(frozen=True)
class Target:
    """A row of a results table: its two counts, as printed (parameters in millions, FLOPs in
    billions).
    """

    model: str
    dataset: str
    params: str
    flops: str
    release: Release

    @property
    def row(self) -> str:
        return row_name(self.model, self.dataset)


def half_steps(printed: str, unit: float) -> tuple[int, int]:
    """The printed value as a whole number of half last digits, and how much one half is: "161.75"
    with 1e6 -> (32350, 5000).

    A count c prints these digits when c // half, less that number, is -1 or 0 (rounded), or 0 or 1
    (the rest cut off).
    """
    decimals = len(printed.partition(".")[2])
    return 2 * int(printed.replace(".", "")), round(unit / 10**decimals / 2)


@dataclass
class Numbers:
    """The numbers looked for: column 0 holds those reported, each other column is a made-up table.
    Rows are distinct (model, params, FLOPs).
    """

    rows: list[tuple[str, str, str]]
    params: np.ndarray  # (rows, 1 + decoys) in half steps of 5,000
    flops: np.ndarray  # (rows, 1 + decoys) in half steps of `flops_half`
    flops_half: np.ndarray  # (rows,)
    # which numbers a count prints: those of half step i are order[first[i] : first[i + 1]], indices
    # into the flattened (rows, 1 + decoys)
    first: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, found: list[Target], decoys: int, seed: int, *, reach: float = RANGE) -> "Numbers":
        """`reach` is how far the shift of a made-up table may go, as a part of the smallest count
        of the model. Parameters and FLOPs of a model are shifted apart from each other, and so are
        the models.
        """
        rows = list(dict.fromkeys((target.model, target.params, target.flops) for target in found))
        if strange := [p for _, p, _ in rows if half_steps(p, 1e6)[1] != PARAMS_HALF]:
            raise ValueError(
                "the audit expects parameters in millions with two decimals, not "
                f"{strange[0]!r}; mend claims.csv"
            )
        params, flops, halves = (
            np.array(part)
            for part in zip(*((half_steps(p, 1e6)[0], *half_steps(g, 1e9)) for _, p, g in rows))
        )
        shifts = np.zeros((2, len(rows), 1 + decoys), dtype=np.int64)  # of params and FLOPs
        draw = np.random.default_rng(seed)
        for model in dict.fromkeys(name for name, *_ in rows):
            own = np.array([name == model for name, *_ in rows])
            room = _amounts(int(params[own].min() * reach) // 2)
            if len(room) < decoys:
                raise ValueError(
                    f"only {len(room)} made-up numbers fit within {reach:.0%} of "
                    f"{params[own].min() / 200} M; ask for fewer decoys"
                )
            shifts[0, own, 1:] = 2 * draw.permutation(room)[:decoys]
            # FLOPs may be printed to different digits: the shift is a number of the coarsest ones
            # and of their fractions, so that no number prints as it was
            finest, coarsest = halves[own].min(), halves[own].max()
            smallest = (flops[own] * halves[own]).min()
            room = _amounts(int(smallest * reach / finest) // 2, least=2 * int(coarsest / finest))
            shift = draw.choice(room, decoys) * finest
            shifts[1, own, 1:] = 2 * np.rint(shift / halves[own][:, None])
        params, flops = params[:, None] + shifts[0], flops[:, None] + shifts[1]
        printed = np.concatenate([(params + slip).ravel() for slip in (-1, 0, 1)])
        order = np.argsort(printed, kind="stable")
        first = np.searchsorted(printed[order], np.arange(printed.max() + 3))
        return cls(rows, params, flops, halves, first, order % params.size)

    def row(self, target: Target) -> int:
        return self.rows.index((target.model, target.params, target.flops))

    def printed_by(self, params: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(N,) counts -> the index of a count, and row and column of a number that it prints, once
        for each such number: (hits,) three times.
        """
        # the last half step holds no number
        step = np.minimum(params // PARAMS_HALF, len(self.first) - 2)
        number = self.first[step + 1] - self.first[step]
        which = np.flatnonzero(number)
        number, start = number[which], self.first[step[which]]
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        row, column = np.divmod(self.order[np.repeat(start, number) + within], self.params.shape[1])
        return np.repeat(which, number), row, column


def _amounts(most: int, *, least: int = 2) -> np.ndarray:
    """Last digits by which a number may be moved, down and up. One by a single digit would share
    counts with the reported one, which is rounded there and cut off here.
    """
    return np.r_[-most : 1 - least, least : most + 1]


COLUMNS = (
    "target",
    "decoy",
    "changes",
    "params",
    "under",
    "widths",
    "image_size",
    "outer",
    "option",
    "depths",
)


class Found:
    """What the search saw: how many candidates coincide with each target at each number of
    changes, and which ones.
    """

    def __init__(self, looked_for: int, columns: int):
        self.by_changes = {
            kind: np.zeros((looked_for, columns, LEVELS), dtype=np.int64)
            for kind in ("params", "flops", "pair")
        }
        self._hits: dict[str, list[np.ndarray]] = {"params": [], "flops": [], "close": []}

    def keep(self, kind: str, rows: np.ndarray) -> None:
        """Candidates that coincide, (candidates, COLUMNS)."""
        self._hits[kind].append(rows)

    def hits(self, kind: str) -> pd.DataFrame:
        """ "params": those that print a reported number; "flops": those near a release that print
        reported FLOPs; "close": those near a release, of its widths, that print the parameters of a
        target or of one of its decoys.
        """
        return pd.DataFrame(
            np.concatenate([np.empty((0, len(COLUMNS)), dtype=np.int64), *self._hits[kind]]),
            columns=COLUMNS,
        )


def _rows(block: Block, place: int, flat: np.ndarray, **columns) -> np.ndarray:
    """(candidates, COLUMNS) for candidates of a block by their flat index; `columns` are arrays
    or one number for all.
    """
    option, depths = np.divmod(flat, len(block.space.depths))
    columns |= dict(
        widths=block.space["widths"].index(block.widths),
        image_size=block.image_size,
        outer=place,
        option=option,
        depths=depths,
    )
    return np.stack([np.broadcast_to(columns[name], len(flat)) for name in COLUMNS], 1)


def search(
    space: Space,
    looked_for: list[Target],
    *,
    decoys: int = 200,
    seed: int = 0,
    reach: float = RANGE,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Numbers, Found]:
    """Counts every candidate and compares it with every number."""
    numbers = Numbers.of(looked_for, decoys, seed, reach=reach)
    found = Found(len(looked_for), 1 + decoys)
    # (options, depths)
    inner = {
        model: space.option_changes()[:, None] + space.depth_changes(VARIANTS[model]["depths"])
        for model in {target.model for target in looked_for}
    }
    for done, block in enumerate(space.blocks(), 1):
        for place, outer in enumerate(space.outer):
            _compare_params(block, place, block.around(outer), looked_for, numbers, inner, found)
            _compare_flops(block, place, block.around(outer), looked_for, numbers, inner, found)
        report(
            f"audit: {done * len(space) // space.number_of_blocks:,} of {len(space):,} candidates"
        )
    return numbers, found


def _compare_params(
    block: Block,
    place: int,
    around: np.ndarray,
    looked_for: list[Target],
    numbers: Numbers,
    inner: dict[str, np.ndarray],
    found: Found,
) -> None:
    """Candidates whose parameters print one of the numbers: do their FLOPs, too, and after how
    many changes?
    """
    space, outer = block.space, block.space.outer[place]
    hit, row, column = numbers.printed_by((block.body[0] + around[0]).ravel())
    features = block.body.reshape(len(block.body), -1)[:, hit] + around[:, None]
    under = _prints(features, numbers.flops[row, column], numbers.flops_half[row])
    for t, target in enumerate(looked_for):
        release, mine = target.release, np.flatnonzero(row == numbers.row(target))
        changes = inner[target.model].ravel()[hit[mine]] + space.outer_changes(
            release, block.widths, block.image_size, outer
        )
        level, both = np.minimum(changes, LEVELS - 1), under[mine] > 0
        np.add.at(found.by_changes["params"][t], (column[mine], level), 1)
        np.add.at(found.by_changes["pair"][t], (column[mine][both], level[both]), 1)
        rows = _rows(
            block,
            place,
            hit[mine],
            target=t,
            decoy=column[mine],
            changes=changes,
            params=features[0, mine],
            under=under[mine],
        )
        found.keep("params", rows[column[mine] == 0])
        if block.widths == release.widths:
            found.keep("close", rows[changes <= JOINT])


def _compare_flops(
    block: Block,
    place: int,
    around: np.ndarray,
    looked_for: list[Target],
    numbers: Numbers,
    inner: dict[str, np.ndarray],
    found: Found,
) -> None:
    """Candidates near a release whose FLOPs alone print one of the numbers."""
    space, outer = block.space, block.space.outer[place]
    for t, target in enumerate(looked_for):
        fixed = space.outer_changes(target.release, block.widths, block.image_size, outer)
        if fixed > NEAR:
            continue
        near = np.flatnonzero(inner[target.model] <= NEAR - fixed)
        changes = inner[target.model].ravel()[near] + fixed
        features = block.body.reshape(len(block.body), -1)[:, near] + around[:, None]
        row = numbers.row(target)
        # (near, numbers)
        under = _prints(features[..., None], numbers.flops[row], numbers.flops_half[row])
        which, column = np.nonzero(under)
        np.add.at(found.by_changes["flops"][t], (column, changes[which]), 1)
        real = which[column == 0]
        found.keep(
            "flops",
            _rows(
                block,
                place,
                near[real],
                target=t,
                decoy=0,
                changes=changes[real],
                params=features[0, real],
                under=under[real, 0],
            ),
        )


def _prints(features: np.ndarray, wanted: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Bit i is set where the count under convention i prints the wanted FLOPs (see
    `half_steps`).
    """
    under = np.zeros((), dtype=np.int64)
    for i, count in enumerate(operations(features).values()):
        under = under | (np.abs(count // half - wanted) <= 1).astype(np.int64) << i
    return under
