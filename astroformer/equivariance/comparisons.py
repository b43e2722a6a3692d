"""Networks compared by pairs of seeds: does one that moves with its image classify better, what do
turns in training buy, what does training do to sensitivity. Every sentence follows the numbers.

A pair is two runs that differ in one thing and share their seed, so their images, order and random
draws (`contrasts.paired`). Intervals are of 95 %, each for itself: among many one misses by chance.

Reads top to bottom: accuracies, differences of accuracy, turns, the beginning of a move, words.
"""

import math
from collections.abc import Mapping

import pandas as pd

from astroformer import contrasts
from astroformer.contrasts import Contrast
from astroformer.equivariance import trained
from astroformer.equivariance.trained import SYNTHETIC, newest, plain, spoken
from astroformer.ledger import identity, links, records, tables

METRICS = {"top1": "top-1", "balanced_accuracy": "balanced"}
VARIANTS = ("by construction", "BlurPool")
HALF = 2  # the whole stride over it is the shift that lies farthest from every multiple of it
TURNS = {"rotation by 90°": "a quarter turn", "mirror image": "a reflection"}


# Accuracies.


def accuracies(frame: pd.DataFrame) -> pd.DataFrame:
    """From the ledger (`records.frame()`): top-1 and balanced accuracy on test images of each
    network of `equivariance.switches`, over seeds; the rows of a data set are together.
    """
    found = [some for _, some in _networks(frame).groupby("group", sort=False)]
    data = list(dict.fromkeys(some["dataset.title"].iloc[0] for some in found))
    found.sort(key=lambda some: data.index(some["dataset.title"].iloc[0]))
    rows = [
        {
            "data": some["dataset.title"].iloc[0],
            "recipe": tables.recipe(some),
            "model": some["model"].iloc[0],
            "network": some["network"].iloc[0],
        }
        for some in found
    ]
    apart = tables.differences([tuple(row.values()) for row in rows], found)
    for row, some, words in zip(rows, found, apart):
        row["recipe"] += words
        row["top-1 (%)"] = tables.accuracy(some, "top1")
        row["balanced (%)"] = tables.accuracy(some, "balanced_accuracy")
    return links.frame(
        rows, columns=["data", "recipe", "model", "network", "top-1 (%)", "balanced (%)"]
    )


def _networks(frame: pd.DataFrame) -> pd.DataFrame:
    """Completed runs of the ledger that were evaluated on test images, each once
    (`records.unique`), with a column `network`; none that a study with a design asked for, whose
    page has them (`tables.of_no_study`).
    """
    frame = records.unique(tables.of_no_study(frame))
    if len(frame):
        frame = frame[frame["dataset.evaluated_on"] == "test"]
    return frame.assign(
        network=[
            trained.named(row["model"], records.options_of(row)) for _, row in frame.iterrows()
        ]
    )


# Differences of accuracy.


def compared_runs(frame: pd.DataFrame, model: str) -> pd.DataFrame:
    """The runs of the ledger (`records.frame()`) of this model with the recipe `smoke` that can be
    paired: of each data set those of the newest revision that has the released network and a
    variant, trained alike; where several lengths of training have both, those with most runs.
    """
    table = _networks(frame)
    if not len(table):
        return table
    table = table.assign(
        recipe=table["recipe.name"].map(tables.spelled),
        alike=[identity.digest(one, but=("seed", "options")) for one in table["identity"]],
    )
    table = plain(table[table["model"] == model])
    chosen = []
    for _, some in table.groupby("dataset.title", sort=False):
        pairs = [
            runs[runs["network"].isin(("as released", *VARIANTS))]
            for _, runs in some.groupby("alike", sort=False)
            if "as released" in set(runs["network"]) and set(runs["network"]) & set(VARIANTS)
        ]
        if pairs:
            chosen.append(max(pairs, key=lambda runs: (runs["revision"].iloc[0], len(runs))))
    return pd.concat(chosen) if chosen else table.iloc[:0]


def gains(frame: pd.DataFrame, model: str) -> dict[tuple[str, str, str], Contrast]:
    """(data set, variant, metric) -> points of accuracy that the variant lies above the released
    network, paired by seed, over the seeds that both have and whose metric is finite.
    """
    found, pairs = {}, compared_runs(frame, model)
    if not len(pairs):
        return found
    for data_set, some in pairs.groupby("dataset.title", sort=False):
        for variant in VARIANTS:
            for metric in METRICS:
                values = {
                    network: tables.metric(runs, metric).set_axis(runs["seed"]).dropna()
                    for network, runs in some.groupby("network")
                }
                if variant in values:
                    one, other = values[variant], values["as released"]
                    seeds = sorted(set(one.index) & set(other.index))
                    if seeds:
                        found[data_set, variant, metric] = contrasts.paired(
                            one.loc[seeds], other.loc[seeds]
                        )
    return found


def gain_table(found: Mapping[tuple[str, str, str], Contrast]) -> pd.DataFrame:
    """`gains` as a page shows them: a row for each data set and variant, a column for each metric
    with `difference [low to high] (pairs)` in points.
    """
    rows = {}
    for (data_set, variant, metric), contrast in found.items():
        row = rows.setdefault(
            (data_set, variant), {"data": data_set, "network": f"{variant}, less as released"}
        )
        row[f"{METRICS[metric]} (points)"] = difference_text(contrast)
    columns = ["data", "network", *(f"{words} (points)" for words in METRICS.values())]
    return pd.DataFrame(list(rows.values()), columns=columns)


def gains_in_words(
    found: Mapping[tuple[str, str, str], Contrast], variant: str = "by construction"
) -> str:
    """A sentence for each data set on whether a variant classifies better than the release."""
    said = []
    for data_set in dict.fromkeys(data_set for data_set, _, _ in found):
        of_it = {
            f"{words} accuracy": found[data_set, variant, metric]
            for metric, words in METRICS.items()
            if (data_set, variant, metric) in found
        }
        if not of_it:
            continue
        if len(set(of_it.values())) == 1:  # where classes are alike in size, both are one number
            of_it = {f"accuracy ({' and '.join(METRICS.values())})": next(iter(of_it.values()))}
        parts = [f"its {words} is {in_words(one)}" for words, one in of_it.items()]
        said.append(f"On {spoken(data_set)} {'; '.join(parts)}.")
    return " ".join(said)


def together_in_words(found: Mapping[tuple[str, str, str], Contrast]) -> str:
    """Which of all differences of `gains` remain when they are judged as one family."""
    p_values = {
        name: one.p if one.n >= tables.LEAST and one.p == one.p else 1.0  # NaN: not known
        for name, one in found.items()
    }
    adjusted = contrasts.holm(p_values)
    kept = [name for name in found if adjusted[name] <= 0.05]
    family = f"the {len(found)} differences of accuracy"
    if not kept:
        return f"None of {family} remains after Holm's correction (5 % for all of them together)."
    named = "; ".join(
        f"{variant} on {spoken(data)}, {METRICS[metric]}" for data, variant, metric in kept
    )
    return (
        f"{len(kept)} of {family} {'remain' if len(kept) > 1 else 'remains'} after Holm's "
        f"correction (5 % for all of them together): {named}."
    )


# What turns and reflections in training buy.


def turns(frame: pd.DataFrame) -> dict[str, dict[str, object]]:
    """By move of TURNS: of synthetic test galaxies that the trained network as released calls the
    same after it, the mean share in percent over seeds, `taught` with turns and reflections and
    `untaught` without, and the paired `difference` of these shares and of the `accuracy`'s change;
    for the seeds of both. `frame` is what `trained.read` gives. Empty where either is missing.
    """
    released = frame[
        (frame["data"] == SYNTHETIC)
        & (frame["network"] == "as released")
        & (frame["weights"] == "trained")
    ]
    for _, some in sorted(released.groupby("revision"), reverse=True):
        turned = some["turned"].astype(bool)
        taught = some[turned & (some["recipe"] == "smoke")].set_index("seed")
        untaught = some[~turned].set_index("seed")
        if seeds := sorted(set(taught.index) & set(untaught.index)):
            return _turns(taught, untaught, seeds)
    return {}


def _turns(taught: pd.DataFrame, untaught: pd.DataFrame, seeds: list[int]) -> dict:
    """`turns` of measurements by seed."""
    found = {}
    for move in TURNS:
        values = {
            (name, what): pd.Series(
                {seed: some.loc[seed, "consistency"][move][what] for seed in seeds}
            )
            for name, some in (("taught", taught), ("untaught", untaught))
            for what in ("same class (%)", "change in accuracy (points)")
        }
        found[move] = {
            name: float(values[name, "same class (%)"].mean()) for name in ("taught", "untaught")
        } | {
            name: contrasts.paired(values["taught", what], values["untaught", what])
            for name, what in (
                ("difference", "same class (%)"),
                ("accuracy", "change in accuracy (points)"),
            )
        }
    return found


def turns_in_words(found: Mapping[str, Mapping]) -> str:
    """What the measured networks show, and what their seeds cannot tell."""
    said = []
    for move, words in TURNS.items():
        if move in found:
            one = found[move]
            said.append(
                f"After {words} {one['taught']:.0f} % keep their class with turns and reflections "
                f"in training and {one['untaught']:.0f} % without: with them the share is "
                f"{in_words(one['difference'])}. The change in accuracy is "
                f"{in_words(one['accuracy'])}."
            )
    return " ".join(said)


def symmetry_table(frame: pd.DataFrame) -> pd.DataFrame:
    """What turns and reflections do to predictions, by recipe: those that turn and reflect their
    images, and those that do not.
    """
    rows = []
    for turned, some in newest(frame).groupby("turned", sort=True):
        row = {"trained": "with turns and reflections" if turned else "without"}
        for move, name in (("rotation by 90°", "quarter turn"), ("mirror image", "mirror image")):
            found = [moved[move] for moved in some["consistency"]]
            row[f"{name}: same class (%)"] = tables.mean_interval(
                [one["same class (%)"] for one in found], 1, share=True
            )
            row[f"{name}: change in accuracy (points)"] = tables.mean_interval(
                [one["change in accuracy (points)"] for one in found], 1
            )
        rows.append(row)
    return pd.DataFrame(rows)


# What a page speaks of.


def half_stride(row: pd.Series) -> str:
    """The shift by half the whole stride of a measurement's network: it lies farthest from the
    shifts at which strides do no harm, and is not chosen by what was measured, as the worst is.
    """
    return f"shift by {max(map(int, row['errors']['logits'])) // HALF} px"


def kept_in_words(frame: pd.DataFrame) -> str:
    """For each data set: how many images keep their class after a shift by half the whole stride,
    by construction and as released, with the 95 % interval on the logit scale; `frame` is what
    `trained.read` gives, or some rows of it.
    """
    said = []
    smoke = plain(frame[frame["weights"] == "trained"])
    for data_set, some in smoke.groupby("data", sort=False):
        kept = []
        for network in ("by construction", "as released"):
            rows = newest(some[some["network"] == network])
            if len(rows):
                kept.append(f"{_kept(rows)} {network}")
        if len(kept) == 2:
            said.append(f"on {spoken(data_set)} {' and '.join(kept)}")
    return "; ".join(said)


def _kept(rows: pd.DataFrame) -> str:
    """`58.2 % (41.4 to 73.2)`, or that it is exact."""
    move = half_stride(rows.iloc[0])
    found = contrasts.mean([moved[move]["same class (%)"] for moved in rows["consistency"]])
    if found.estimate == 100 and trained.moves_exactly(rows.iloc[0], move):
        return "100 % (exact)"
    inside = contrasts.on_logit_scale(found)
    known = found.n >= tables.LEAST and not math.isnan(inside.low)
    interval = f" ({inside.low:.1f} to {inside.high:.1f})" if known else ""
    return f"{found.estimate:.1f} %{interval}"


def sensitivity(frame: pd.DataFrame, model: str) -> Contrast | None:
    """By how much training raises the change of the logits for the beginning of a move, in percent
    of their size per pixel: trained less random weights of the same run, for the released network
    on synthetic galaxies; None where they were not measured.
    """
    some = plain(frame)
    some = newest(
        some[
            (some["data"] == SYNTHETIC)
            & (some["network"] == "as released")
            & (some["model"] == model)
        ]
    )
    sizes = {
        weights: pd.Series([100 * lie["size"] for lie in rows["lie"]], index=rows["run"])
        for weights, rows in some.groupby("weights")
    }
    if set(sizes) != set(trained.WEIGHTS):
        return None
    runs = sorted(set(sizes["trained"].index) & set(sizes["random"].index))
    if not runs:
        return None
    return contrasts.paired(sizes["trained"].loc[runs], sizes["random"].loc[runs])


def sensitivity_in_words(change: Contrast) -> str:
    """What training does to the change for the beginning of a move, from `sensitivity`."""
    if change.n < tables.LEAST or change.low <= 0 <= change.high:
        start = "Whether training makes the released network more sensitive is not decided"
    else:
        side = "more" if change.low > 0 else "less"
        start = f"Training makes the released network {side} sensitive"
    return f"{start}: paired by seed, the change after training is {in_words(change)} than before."


def sizes(frame: pd.DataFrame) -> dict[str, float]:
    """Means over seeds of the change of the logits per pixel, in percent of their size, on the
    synthetic galaxies: `released_random`, `released_trained`, `exact_trained`, `blur_trained`.
    What has not been measured is left out.
    """
    smoke = frame[(frame["data"] == SYNTHETIC) & (frame["recipe"] == "smoke")]
    found = {}
    for network, short in (
        ("as released", "released"),
        ("BlurPool", "blur"),
        ("by construction", "exact"),
    ):
        for weights in trained.WEIGHTS:
            some = newest(smoke[(smoke["network"] == network) & (smoke["weights"] == weights)])
            if len(some):
                found[f"{short}_{weights}"] = float(
                    some["lie"].map(lambda lie: 100 * lie["size"]).mean()
                )
    return found


def facts(frame: pd.DataFrame, ledger: pd.DataFrame, model: str) -> dict[str, str | float]:
    """What a page speaks of: `gains`, `gains_blur`, `together` (what is left of them as a family),
    `kept`, `turns`, `sensitivity`, `single` (the largest error by construction in single
    precision), and `sizes` as `lie_...`. `frame` is what `trained.read` gives, `ledger` is
    `records.frame()`. A sentence about what has not been measured is "not run".
    """
    some = frame[frame["model"] == model]
    made, change = gains(ledger, model), sensitivity(some, model)
    exact = some[some["network"] == "by construction"]
    said = {
        "gains": gains_in_words(made),
        "gains_blur": gains_in_words(made, "BlurPool"),
        "together": together_in_words(made) if made else "",
        "kept": kept_in_words(some),
        "turns": turns_in_words(turns(some)),
        "sensitivity": sensitivity_in_words(change) if change else "",
    }
    errors = trained.errors_over_seeds(exact) if len(exact) else pd.DataFrame()
    if len(errors):
        largest = errors.loc[errors["precision"] == "float32", "high"].max()
        said["single"] = trained.size(float(largest))
    return {name: words or tables.NOT_RUN for name, words in said.items()} | (
        {f"lie_{name}": value for name, value in sizes(some).items()}
    )


# Words.


def difference_text(contrast: Contrast) -> str:
    """`+1.2, -0.3 to +2.7 (3)`; without the interval below tables.LEAST pairs."""
    if contrast.n < tables.LEAST:
        return f"{contrast.estimate:+.1f} ({contrast.n})"
    return f"{contrast.estimate:+.1f}, {contrast.low:+.1f} to {contrast.high:+.1f} ({contrast.n})"


def in_words(contrast: Contrast) -> str:
    """What a difference in points shows, to follow "is": higher, lower, or undecided."""
    half = (contrast.high - contrast.low) / 2
    side = "higher" if contrast.estimate >= 0 else "lower"
    if contrast.n < tables.LEAST:
        return (
            f"{side} by {abs(contrast.estimate):.1f} points for so few seeds ({contrast.n}) that "
            "nothing is decided"
        )
    if half == 0 and contrast.estimate == 0:
        return "the same in every seed"
    if contrast.low > 0 or contrast.high < 0:
        return f"{side} by {abs(contrast.estimate):.1f} ± {half:.1f} points"
    return (
        f"between {-contrast.low:.1f} points lower and {contrast.high:.1f} points higher: "
        f"{contrast.n} seeds do not decide"
    )
