"""What each variation of a study does to the accuracy, when all are trained with the same seeds:
the pages about spectral blocks, about ViT-CIFAR's departures and about recipes ask it in one way.

Variations and seeds add (`contrasts.blocked`): every run informs one common residual, and all
variations are compared with a named one at once (Dunnett), or the two of each named pair (Holm).
Below FREEDOM degrees of freedom the pages show the runs and say nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from astroformer import contrasts
from astroformer.contrasts import Blocked, Contrast
from astroformer.ledger import predictions, tables
from astroformer.studies import devices

FREEDOM = 8  # degrees of freedom of the residual, below which nothing is said
CONFIDENCE = 0.95
LISTED = 4  # runs of a variation up to which a cell of a table names each
WORDS = {"top1": "top-1", "balanced_accuracy": "balanced"}  # metric -> what a table calls it


@dataclass(frozen=True, eq=False)
class Effects:
    """An accuracy of every variation of a study against that of one of them, `base`."""

    base: str
    asked: tuple[str, ...]  # all variations of the study, run or not
    values: pd.DataFrame  # (seeds, variations) accuracy in %, of all completed runs
    model: Blocked | None  # None where the base, or all others, are not run
    # Variation -> difference in points. All these intervals hold together.
    against: dict[str, Contrast]  # for other seeds
    images: dict[str, Contrast]  # for other seeds and other images too, where it can be known
    unkept: int  # completed runs whose predictions are not in the ledger
    metric: str = "top1"  # one of WORDS
    mixed: str = ""  # which seeds were made on several kinds of devices, in a sentence

    @property
    def freedom(self) -> int:
        return self.model.freedom if self.model else 0

    @property
    def decides(self) -> bool:
        return self.freedom >= FREEDOM

    def pairs(self, variation: str) -> pd.Series:
        """Difference to the base by seed, in points, of the seeds that both have."""
        if not {variation, self.base} <= set(self.values):
            return pd.Series(dtype=float)
        return (self.values[variation] - self.values[self.base]).dropna()


def effects(frame: pd.DataFrame, base: str, *, metric: str = "top1") -> Effects:
    """From a study's frame (`studies.frame`). A completed run without a finite accuracy is none."""
    asked = tuple(dict.fromkeys(frame["variation"]))
    done = _done(frame, metric)
    if not len(done):
        return Effects(base, asked, pd.DataFrame(), None, {}, {}, 0, metric)
    values = _values(done, asked, metric)
    unkept = (
        sum(not predictions.present(run) for run in done["run"]) if "run" in done else len(done)
    )
    # what shares a seed with the base can be compared with it
    shared = values[values[base].notna()] if base in values else values.iloc[:0]
    shared = shared.dropna(axis=1, how="all")
    if shared.shape[1] < 2:
        return Effects(base, asked, values, None, {}, {}, unkept, metric)
    model = contrasts.blocked(shared, confidence=CONFIDENCE)
    against = {str(name): found for name, found in model.against(base).items()}
    balanced = metric == "balanced_accuracy"
    images = {} if unkept == len(done) else _other_images(done, base, list(against), balanced)
    mixed = devices.sentence_of_seeds(done[done["variation"].isin(list(shared))])
    return Effects(base, asked, values, model, against, images, unkept, metric, mixed)


def _done(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The completed runs of a study with a finite accuracy, one a variation and seed."""
    done = frame[frame["status"] == "completed"]
    if not len(done):
        return done
    done = done.assign(**{metric: done[metric].astype(float)})
    return done[done[metric].notna()].drop_duplicates(["variation", "seed"], keep="last")


def _values(done: pd.DataFrame, asked: Iterable[str], metric: str) -> pd.DataFrame:
    """(seeds, variations) of `_done`, the variations in the order of the study."""
    values = done.pivot(index="seed", columns="variation", values=metric)
    return values[[name for name in asked if name in values]]


def _other_images(
    done: pd.DataFrame, base: str, others: list[str], balanced: bool
) -> dict[str, Contrast]:
    """Intervals for other seeds and other images of the same classes, where two variations have the
    predictions of enough common seeds. By Bonferroni they hold together.
    """
    runs = done.pivot(index="seed", columns="variation", values="run")
    confidence = 1 - (1 - CONFIDENCE) / len(others)
    found = {}
    for name in others:
        both = runs[[name, base]].dropna()
        one, other = (_right(both[arm]) for arm in (name, base))
        if len(both) < tables.LEAST or one is None or other is None:
            continue
        if np.array_equal(one[1], other[1]):
            found[name] = contrasts.two_way_bootstrap(
                one[0], other[0], one[1], balanced=balanced, confidence=confidence, draws=4000
            )
    return found


def _right(runs: pd.Series) -> tuple[np.ndarray, np.ndarray] | None:
    """Which images each run classifies correctly, (runs, images), and their labels; None if the
    predictions of a run are missing or of other images.
    """
    kept = [predictions.read(run) for run in runs]
    told = [one for one in kept if one is not None]
    if not told or len(told) < len(kept):
        return None
    labels = told[0].labels
    if not all(np.array_equal(one.labels, labels) for one in told):
        return None
    return np.stack([one.right for one in told]), labels


def slope(found: Effects, *, without_base: bool = False) -> Contrast | None:
    """The trend over a dose, where variations are numbers: points a unit, of the straight line
    through all variations that are run (the weights are linear); None below three of them.

    without_base: of the line through the others, to tell a trend from a step after the base
    """
    if found.model is None:
        return None
    doses = {
        arm: float(arm) for arm in found.model.arms if not (without_base and arm == found.base)
    }
    if len(doses) < 3:
        return None
    away = {arm: dose - float(np.mean(list(doses.values()))) for arm, dose in doses.items()}
    squares = sum(each**2 for each in away.values())
    return found.model.combination({arm: each / squares for arm, each in away.items()})


# Pairs


@dataclass(frozen=True, eq=False)
class Pair:
    """Two variations of a study, and what the second has more than the first."""

    base: pd.Series  # seed -> accuracy in %
    other: pd.Series
    contrast: Contrast | None  # in points; None where the runs of its block leave too few degrees
    mixed: bool = False  # whether some seed's runs were made on several kinds of devices

    @property
    def each_seed(self) -> pd.Series:
        """Difference by seed, in points, of the seeds that both have."""
        return (self.other - self.base).dropna()


def pairs(
    frame: pd.DataFrame,
    blocks: Iterable[Mapping[str, tuple[str, str]]],
    *,
    metric: str = "top1",
) -> dict[str, Pair]:
    """Name of a pair -> the pair, from a study's frame. `blocks` name the pairs (base, other) of
    variations; those of one block are trained on the same images, and their runs inform one
    residual. The intervals of all pairs of all blocks hold together (Bonferroni), and their
    p-values are Holm's.
    """
    blocks, found = list(blocks), {}
    done = _done(frame, metric)
    confidence = 1 - (1 - CONFIDENCE) / max(1, sum(map(len, blocks)))
    for block in blocks:
        names = list(dict.fromkeys(name for pair in block.values() for name in pair))
        own = done[done["variation"].isin(names)]
        values = _values(own, names, metric) if len(own) else pd.DataFrame()
        several = values.shape[1] > 1 and len(values) > 1
        model = contrasts.blocked(values, confidence=confidence) if several else None
        for name, (base, other) in block.items():
            one, two = (values.get(arm, pd.Series(dtype=float)).dropna() for arm in (base, other))
            compared = own[own["variation"].isin([base, other])]
            pair = Pair(one, two, None, bool(devices.sentence_of_seeds(compared)))
            if model is not None and model.freedom >= FREEDOM and len(pair.each_seed):
                pair = replace(pair, contrast=model.contrast(other, base))
            found[name] = pair
    known = {name: one.contrast for name, one in found.items() if one.contrast}
    adjusted = contrasts.holm({name: one.p for name, one in known.items()})
    for name, one in known.items():
        found[name] = replace(found[name], contrast=replace(one, p=adjusted[name]))
    return found


# For a page


def pairs_table(found: Mapping[str, Pair], names: tuple[str, str], metric: str) -> pd.DataFrame:
    """A row for each of `pairs`: mean and runs of both, called by `names`, and the change with its
    interval and Holm's p; without a verdict the change is that of each seed. Where a pair's runs of
    one seed were made on several kinds of devices, a last column says so.
    """
    rows, mixed = [], any(pair.mixed for pair in found.values())
    for name, pair in found.items():
        one = pair.contrast
        runs = {
            f"{called}: {WORDS[metric]} (%)": _runs(own)
            for called, own in zip(names, (pair.base, pair.other))
        }
        rows.append(
            {"": name, **runs}
            | {
                "change (points)": _listed(pair.each_seed) if one is None else _change(one),
                "95 %, other seeds": ends(one),
                "p (Holm)": "" if one is None else _p(one),
            }
            | ({"devices": "mixed" if pair.mixed else "alike"} if mixed else {})
        )
    return pd.DataFrame(rows).set_index("")


def effects_table(found: Effects, label: Callable[[str], str] = str) -> pd.DataFrame:
    """A row for each variation: mean and runs, the change against the base with its interval for
    other seeds, Dunnett's p, and, if it is known of any, the interval for other images too. Without
    a verdict the change is that of each seed.
    """
    rows = []
    for name in found.asked:
        own = found.values[name] if name in found.values else pd.Series(dtype=float)
        row = {
            "variation": label(name),
            f"{WORDS[found.metric]} (%): mean (runs)": _runs(own.dropna()),
            "change (points)": "",
            "95 %, other seeds": "",
            "p (Dunnett)": "",
            "95 %, other images too": "",
        }
        if name in found.against:
            one = found.against[name]
            if found.decides:
                row |= {
                    "change (points)": _change(one),
                    "95 %, other seeds": ends(one),
                    "p (Dunnett)": _p(one),
                    "95 %, other images too": ends(found.images.get(name)),
                }
            else:
                row["change (points)"] = each_seed(found, name)
        rows.append(row)
    table = pd.DataFrame(rows).set_index("variation")
    return table if found.images else table.drop(columns="95 %, other images too")


def _change(one: Contrast) -> str:
    return f"{one.estimate:+.2f}"


def _p(one: Contrast) -> str:
    return f"{one.p:.3f}" if one.p >= 0.001 else "< 0.001"


def _listed(differences: pd.Series) -> str:
    return ", ".join(f"{difference:+.2f}" for difference in differences)


def _runs(values: pd.Series) -> str:
    """ "50.87 (50.30, 49.00, 53.30)", of more than LISTED runs "50.87 (8 runs)". An interval of so
    few runs of one variation would be wider than that of the common residual, and say less.
    """
    if not len(values):
        return tables.NOT_RUN
    each = ", ".join(f"{value:.2f}" for value in values)
    return f"{values.mean():.2f} ({each if len(values) <= LISTED else f'{len(values)} runs'})"


def ends(one: Contrast | None) -> str:
    """ "-0.87 to +2.74", nothing where there is no interval."""
    if one is None or not np.isfinite([one.low, one.high]).all():
        return ""
    return f"{one.low:+.2f} to {one.high:+.2f}"


def each_seed(found: Effects, name: str) -> str:
    """The difference to the base of each seed: "+0.90, +1.05"."""
    return _listed(found.pairs(name))


def told(found: Effects, name: str) -> str:
    """A difference in words: "+0.93 points (95 % -0.87 to +2.74)"."""
    one = found.against[name]
    if not found.decides:
        return f"{each_seed(found, name)} points by seed"
    return f"{one.estimate:+.2f} points (95 % {ends(one)})"


def beyond(found: Effects) -> list[str]:
    """The variations whose interval for other seeds leaves zero out, if anything may be said."""
    if not found.decides:
        return []
    return [name for name, one in found.against.items() if one.low > 0 or one.high < 0]


def method(found: Effects, base: str) -> str:
    """How the differences to the base, so called, were made, and whether devices are mixed within
    them, in a few sentences.
    """
    if found.model is None:
        return f"There is nothing to compare with {base} yet."
    return " ".join(filter(None, [_method(found, found.model, base), found.mixed]))


def _method(found: Effects, model: Blocked, base: str) -> str:
    if not found.decides:
        return (
            f"The runs leave {found.freedom} degrees of freedom for their spread, and {FREEDOM} "
            "are asked for: each seed's difference is shown, and no verdict."
        )
    return (
        "Variations and seeds are taken to add. The spread of a run around the sum of both is "
        f"{model.sd:.2f} points, from all runs together ({found.freedom} degrees of "
        f"freedom). Intervals and p-values are Dunnett's against {base}: the 95 % hold for "
        "all variations together."
    )


def about_images(found: Effects) -> str:
    """What the intervals say of other images, in a sentence."""
    runs = int(found.values.notna().sum().sum())
    if not runs:
        return ""
    lacking = f"all {runs}" if found.unkept == runs else f"{found.unkept} of {runs}"
    if found.images:
        told = "The last interval also holds for other images of the same classes."
        missing = f" The predictions of {lacking} runs are missing from the ledger."
        return told + missing * bool(found.unkept)
    if not found.unkept:
        return "The intervals hold for other seeds and not for other images."
    return (
        "The intervals hold for other seeds and not for other images: the predictions of "
        f"{lacking} runs are missing from the ledger, and with the part of the images the "
        "intervals would be wider."
    )
