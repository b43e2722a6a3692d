"""A verdict for each reported number, computed from the counts of the released networks and from
the ledger, never typed.

reproduced           the number was found again, within the tolerance that its metric's rule states
partly               it agrees only under a condition that its source does not state, or only when
                     digits are cut off
contradicted         what was counted or measured under the published conditions is another number
cannot be decided    something is missing, which the reason names
not run              nothing here has been counted or measured that bears on it

Reads top to bottom: rules, `verdicts`, which runs may stand beside a claim (in every table, not
only here), then a judge for each kind of number: counts, accuracies, times, margins, re-runs.
"""

import re
from itertools import product
from typing import NamedTuple

import pandas as pd

from astroformer import data
from astroformer.counting import closed_forms
from astroformer.ledger import records, tables
from astroformer.ledger.claims import (
    DATASETS,
    README,
    UNITS,
    digits,
    prints_as,
    row_name,
    truncates_to,
    written,
)

VERDICTS = ("reproduced", "partly", "contradicted", "cannot be decided", "not run")
# which of several groups of runs speaks for all
PRECEDENCE = ("reproduced", "contradicted", "partly", "cannot be decided")

CLASSES = {name: dataset["classes"] for name, dataset in DATASETS.items()}
# Pixels: of the scaling curves (poster) or the tables first, then of the training command (README:
# 256 for Galaxy10).
IMAGE_SIZES = {"Astroformer": (224, 256), "SpectFormer": (224,), "ViT-CIFAR": (32,)}
PRINTED = ((prints_as, "rounded"), (truncates_to, "cut off, but not rounded"))
POINTS = 0.5  # percentage points that an accuracy may differ
TIME_SHARE = 0.1  # part of the printed time that a measured one may differ

_ACCURACY = (
    "A run counts if it is whole: the released network with random weights at the beginning, all "
    "of the real data set that the claim names, its test images. Runs that differ in more than "
    "the seed are not averaged. "
    "Reproduced if the claim lies within the 95 % interval of the mean over seeds, or within "
    f"{POINTS} points of the mean. "
    f"Contradicted if the whole interval lies further than {POINTS} points from the claim, which "
    "takes two seeds, a "
    "published recipe and a published image size. Partly if only another recipe or image size "
    "reaches it. "
    "What others report of their re-runs is held against the authors' claim."
)
_COUNT = (
    "to the printed digits in the printed unit. Partly if only truncation gives them, or only an "
    "auxiliary classifier that "
    "the source does not mention, or another number of classes or image size than the claim's. "
    "Contradicted otherwise."
)
RULES = {
    "top1": _ACCURACY,
    "top5": _ACCURACY,
    "params": "Reproduced if the parameters of the released network, with the claim's number of "
    f"classes, round {_COUNT}",
    "flops": "Reproduced if the cost of one image in the released network, with the claim's "
    "number of classes and under any "
    f"of {len(closed_forms.CONVENTIONS)} counting conventions, rounds {_COUNT}",
    "seconds": "Reproduced if a whole run with a published recipe on the device that the claim "
    "names takes the printed time "
    f"within {100 * TIME_SHARE:g} %, contradicted if it does not. Times on other "
    "devices decide nothing.",
    "margin": "Cannot be decided from the examined documents, which do not print the previous "
    "best values. The value that a "
    "margin implies is computed from the best accuracy that the same authors report.",
}


def verdicts(claims: pd.DataFrame, frame: pd.DataFrame, report: dict | None = None) -> pd.DataFrame:
    """The claims (`claims.read()`) and the columns `verdict`, `measured`, `why`; `frame` is the
    ledger's (`records.frame()`).

    With the audit's `report` (`audit.read()`), the reason for a count also names what coincides
    with it. That never changes a verdict: another network with the printed count is not the network
    that the claim names.
    """
    unknown = sorted(set(claims["system"]) - set(IMAGE_SIZES))
    if unknown:
        raise ValueError(
            f"no image size is known for the system {unknown[0]!r}; it is one of "
            f"{', '.join(IMAGE_SIZES)}, "
            "or stands in IMAGE_SIZES first"
        )
    rows = [
        (
            verdict,
            measured,
            " ".join(
                filter(None, (why, _coincides(claim, report) if verdict == "contradicted" else ""))
            ),
        )
        for claim in claims.itertuples(index=False)
        for verdict, measured, why in [_judge(claim, claims, frame)]
    ]
    return pd.concat(
        [claims, pd.DataFrame(rows, columns=["verdict", "measured", "why"], index=claims.index)],
        axis=1,
    )


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """How many numbers of each system have which verdict; what others report of their re-runs
    has rows of its own.
    """
    system = judged["system"].where(judged["by"] == "authors", judged["system"] + ", by others")
    table = pd.crosstab(system, judged["verdict"]).reindex(
        index=list(dict.fromkeys(system)), columns=list(VERDICTS), fill_value=0
    )
    table.insert(0, "numbers", table.sum(axis=1))
    return table.rename_axis(index="system", columns=None).reset_index()


def readable(judged: pd.DataFrame, system: str) -> pd.DataFrame:
    """What `verdicts` gave for one system, as a table for a page: the reason last, since it is
    the longest.
    """
    rows = judged[judged["system"] == system]
    return pd.DataFrame(
        {
            "number": [
                ", ".join(filter(None, pair)) or system
                for pair in zip(rows["model"], rows["dataset"])
            ],
            "metric": rows["metric"],
            "reported": [written(*pair) for pair in zip(rows["value"], rows["unit"])],
            "verdict": rows["verdict"],
            "measured": rows["measured"],
            "why, and where it is reported": rows["why"]
            + " ["
            + rows["source"]
            + ", "
            + rows["table"]
            + "]",
        }
    )


def _judge(claim, claims: pd.DataFrame, frame: pd.DataFrame) -> tuple[str, str, str]:
    """(verdict, measured, why) for one claim, a row of the claims as a named tuple."""
    if claim.metric == "margin":
        verdict, measured, why = _margin(claim, claims)
    elif claim.by == "others":
        verdict, measured, why = _rerun(claim, claims)
    elif not claim.model:
        verdict, measured, why = (
            "cannot be decided",
            "",
            "Missing: a released network, which the source does not name.",
        )
    elif claim.metric in ("params", "flops"):
        verdict, measured, why = _count(claim, claims)
    elif claim.metric == "seconds":
        verdict, measured, why = _seconds(claim, frame)
    else:
        verdict, measured, why = _accuracy(claim, frame)
    return verdict, measured, " ".join(filter(None, (why, _elsewhere(claim, claims))))


# Which runs may stand beside a claim


class Subject(NamedTuple):
    """What a claim or a page is about, as far as a run may be about it too (`barred`)."""

    dataset: str  # its title
    system: str = "Astroformer"


def runs_beside(claim, frame: pd.DataFrame) -> pd.DataFrame:
    """Completed runs of the claim's network on its data set or a stand-in for it, each once
    (`records.unique`), with two columns more: `barred`, why a run is not about the claim at all,
    and `departure`, from the publication; "" is neither.
    """
    if not len(frame):
        return frame
    # CIFAR-10 (JPEG re-encode), but not CIFAR-100
    begins = re.compile(re.escape(claim.dataset) + r"(?![\w-])")
    about = frame["dataset.title"].map(lambda title: begins.match(str(title)) is not None)
    runs = records.unique(frame[(frame["model"] == claim.model) & about])
    return runs.assign(
        barred=[barred(run, claim) for _, run in runs.iterrows()],
        departure=[_departure(run, claim) for _, run in runs.iterrows()],
    )


def barred(run: pd.Series, claim) -> str:
    """Why a run is not about the claim (or a Subject): other data or another network than the
    claim's, or other weights at the beginning. "" if it is. Every table and verdict asks here.
    """
    if run["dataset.kind"] != "real":
        return f"on {run['dataset.title']}, which is {run['dataset.kind']}"
    if run["dataset.title"] != claim.dataset:
        return f"on {run['dataset.title']}"
    if run["fraction"] != 1:
        return f"with {100 * run['fraction']:g} % of the training images"
    if run["dataset.evaluated_on"] != "test":
        return f"on {run['dataset.evaluated_on']} images instead of the test images"
    tested = run.get("dataset.test_images")
    known = data.DATASETS.get(run.get("dataset.source"))
    if pd.notna(tested) and tested != (known and known.test):
        return f"on {tested:,.0f} test images, another number than the data set's own split has"
    if pd.notna(run.get("init.sha256")) or tables.begun(run):
        return f"with given weights at the beginning{tables.begun(run)}"
    changed = records.options_of(run)
    if claim.system == "Astroformer" and pd.notna(run["stack"]):
        changed.setdefault("stack", run["stack"])
    changes = [
        f"{name} {value}" for name, value in changed.items() if (name, value) != ("stack", "CCCT")
    ]
    return f"with another network ({', '.join(changes)})" if changes else ""


def _departure(run: pd.Series, claim) -> str:
    """From the publication, in recipe and image size. A recipe is the authors' if its source begins
    with the system's name; one that was changed bears a + in its own name.
    """
    published = str(run["recipe.source"]).startswith(claim.system) and "+" not in run["recipe.name"]
    parts = [] if published else [f"the recipe {run['recipe.name']}"]
    if run["image_size"] not in IMAGE_SIZES[claim.system]:
        parts.append(f"{run['image_size']} pixels")
    return " and ".join(parts)


def groups_beside(claim, frame: pd.DataFrame) -> list[pd.DataFrame]:
    """The runs that are about the claim, in groups that differ in nothing but the seed; those with
    a published recipe and image size first. A run without the claim's accuracy is left out.
    """
    runs = runs_beside(claim, frame)
    if not len(runs):
        return []
    whole = runs[runs["barred"] == ""]
    if claim.metric != "seconds":
        whole = whole[tables.metric(whole, claim.metric).notna()]
    found = [group for _, group in whole.groupby("group", sort=False)]
    return sorted(found, key=lambda group: departure_of(group) != "")


def departure_of(group: pd.DataFrame) -> str:
    """Of a group of runs from the publication. They have one recipe, by whatever names: it is the
    published one if any of them is.
    """
    return "" if (group["departure"] == "").any() else group["departure"].iloc[-1]


BESIDE = ("data set", "model", "reported (%)", "measured (%)", "measured with", "source")


def reported_beside_measured(
    claims: pd.DataFrame,
    frame: pd.DataFrame | None = None,
    metric: str = "top1",
    source: str = README,
) -> pd.DataFrame:
    """Each claim of one metric and source, and the measurements that may stand beside it: a line
    for each group of runs, or one that says "not run".
    """
    frame = records.frame() if frame is None else frame
    chosen = claims[
        (claims["metric"] == metric) & (claims["model"] != "") & (claims["source"] == source)
    ]
    rows = []
    for claim in chosen.itertuples(index=False):
        found = groups_beside(claim, frame)
        labels = [
            f"{tables.recipe(group)}, {group['image_size'].iloc[0]} pixels" for group in found
        ]
        apart = tables.differences(labels, found)
        measured = [
            (tables.mean_interval(tables.metric(group, metric)), label + words)
            for group, label, words in zip(found, labels, apart)
        ]
        rows += [
            (claim.dataset, claim.model, claim.value, *cells, f"{claim.source}, {claim.table}")
            for cells in measured or [(tables.NOT_RUN, "")]
        ]
    return pd.DataFrame(rows, columns=list(BESIDE))


# Parameters and operations


def _count(claim, claims: pd.DataFrame) -> tuple[str, str, str]:
    classes = _class_numbers(claim, claims)
    if not classes:
        return (
            "cannot be decided",
            "",
            "Missing: the number of classes, since the source names no data set.",
        )
    size = IMAGE_SIZES[claim.system][0]
    try:
        stated = {number: _counted(claim, size, number) for number in classes}
    except KeyError:
        return "not run", "", f"The network {claim.model} is not among those that are counted here."
    for verdict, (test, how) in zip(("reproduced", "partly"), PRINTED):
        if all(_agreeing(claim, found, test) for found in stated.values()):
            return verdict, *_agreement(claim, stated, size, test, how)
    if claim.model in closed_forms.SPECTFORMER_H:
        both = {number: _counted(claim, size, number, token_label=True) for number in classes}
        for test, how in PRINTED:
            if all(_agreeing(claim, found, test) for found in both.values()):
                measured, why = _agreement(claim, both, size, test, how)
                return (
                    "partly",
                    measured,
                    f"{why} That is with the auxiliary classifier of token labels; without it it "
                    "is not.",
                )
    for other, number, (test, how) in product(
        _sizes(claim), sorted(set(CLASSES.values())), PRINTED
    ):
        found = _counted(claim, other, number)
        if _agreeing(claim, found, test):
            measured, why = _agreement(claim, {number: found}, other, test, how)
            return (
                "partly",
                measured,
                f"{why} At {size} pixels with {_listed(classes)} classes it is not.",
            )
    name, nearest = min(
        stated[classes[0]].items(), key=lambda item: abs(item[1] - claim.number * UNITS[claim.unit])
    )
    why = (
        f"At {size} pixels the released network has {_spoken(name, nearest, claim)} for "
        f"{_listed(classes)} classes, not "
        f"{written(claim.value, claim.unit)}"
    )
    return (
        "contradicted",
        _in_unit(nearest, claim),
        why + ("." if claim.metric == "params" else "; no counting convention comes nearer."),
    )


def _sizes(claim) -> list[int]:
    """Pixels that the claim may silently mean: those of its system, and those of the data set's own
    images where the network takes them.
    """
    own = DATASETS.get(claim.dataset, {}).get("pixels")
    return list(
        dict.fromkeys([*IMAGE_SIZES[claim.system], *([own] if own and own % 32 == 0 else [])])
    )


def _class_numbers(claim, claims: pd.DataFrame) -> list[int]:
    """Of the claim's data set; where it names none, of those for which the same source reports
    on the same network.
    """
    same = claims[(claims["source"] == claim.source) & (claims["model"] == claim.model)]
    named = [claim.dataset] if claim.dataset else list(same["dataset"])
    return sorted({CLASSES[dataset] for dataset in named if dataset in CLASSES})


def _counted(claim, image_size: int, classes: int, *, token_label: bool = False) -> dict[str, int]:
    """Name -> count: the parameters, or the cost under each convention. KeyError for a network
    without a closed form.
    """
    found = closed_forms.released(
        claim.model, image_size=image_size, num_classes=classes, token_label=token_label
    )
    return {"parameters": found["params"]} if claim.metric == "params" else found["conventions"]


def _agreeing(claim, found: dict[str, int], test) -> list[str]:
    return [name for name, count in found.items() if test(count, claim.value, claim.unit)]


def _agreement(
    claim, stated: dict[int, dict[str, int]], image_size: int, test, how: str
) -> tuple[str, str]:
    """(measured, why) for counts by number of classes, with every convention that agrees named."""
    agreeing = {
        number: [_spoken(name, found[name], claim) for name in _agreeing(claim, found, test)]
        for number, found in stated.items()
    }
    spoken = [f"{', '.join(each)} for {number} classes" for number, each in agreeing.items()]
    first = next(iter(stated.values()))
    measured = _in_unit(first[_agreeing(claim, first, test)[0]], claim)
    return measured, (
        f"At {image_size} pixels the released network has {' and '.join(spoken)}; "
        f"{how}, that is "
        f"{written(claim.value, claim.unit)}."
    )


def _coincides(claim, report: dict | None) -> str:
    """The set of changes to the releases that prints this row's parameters and most others',
    where made-up tables seldom do.
    """
    if report is None or claim.metric != "params" or claim.source != README:
        return ""
    row = row_name(claim.model, claim.dataset)
    sets = [
        one
        for one in report["joint"]["shown"]
        if row in one["rows"] and one["as_easily"] <= report["easy"]
    ]
    if not sets:
        return ""
    best = max(sets, key=lambda one: (len(one["rows"]), -one["number_of_changes"]))
    return (
        f"The audit: it coincides with the release after {best['number_of_changes']} changes "
        f"({', '.join(best['changes'])}); "
        f"so do {len(best['rows'])} of the README's {len(report['rows'])} rows."
    )


def _spoken(name: str, count: int, claim) -> str:
    return (
        f"{count:,} parameters"
        if claim.metric == "params"
        else f"{_in_unit(count, claim)} ({name})"
    )


def _in_unit(count: int, claim) -> str:
    """In the claim's unit with one decimal more than it prints, so that rounding can be seen."""
    return written(
        f"{count / UNITS[claim.unit]:,.{digits(claim.value) + 1 if claim.unit else 0}f}", claim.unit
    )


def _listed(classes: list[int]) -> str:
    return " or ".join(map(str, classes))


# Accuracies


def _accuracy(claim, frame: pd.DataFrame) -> tuple[str, str, str]:
    runs = runs_beside(claim, frame)
    if not len(runs):
        return (
            "not run",
            "",
            f"The ledger holds no completed run of {claim.model} on {claim.dataset}.",
        )
    whole = groups_beside(claim, frame)
    if not whole:
        reasons = "; ".join(dict.fromkeys(runs["barred"].replace("", f"without {claim.metric}")))
        return (
            "cannot be decided",
            "",
            (
                f"Measured only {reasons}. Missing: a run of the released network on the whole, "
                "real "
                f"{claim.dataset}."
            ),
        )
    found = [
        (_compare(claim, tables.metric(group, claim.metric), departure_of(group)), len(group))
        for group in whole
    ]
    return min(found, key=lambda one: (PRECEDENCE.index(one[0][0]), -one[1]))[0]


def _compare(claim, values: pd.Series, departure: str) -> tuple[str, str, str]:
    """The claim and a group of runs, by seed, with a departure from the publication or none."""
    mean, half = tables.interval(list(values))
    measured, gap = tables.mean_interval(list(values)), _gap(claim, mean)
    found = (
        f"{measured} % was measured with "
        f"{f'{departure}, not as published' if departure else 'a published recipe'}"
    )
    if gap <= POINTS or half is not None and gap <= half:
        near = f"within {POINTS} points of" if gap <= POINTS else "with an interval that holds"
        return (
            "partly" if departure else "reproduced",
            measured,
            f"{found}, {near} the reported {claim.value} %.",
        )
    found = f"{found}, {gap:.2f} points from the reported {claim.value} %"
    if departure:
        return (
            "cannot be decided",
            measured,
            f"{found}. Missing: runs with a published recipe and image size.",
        )
    if half is None:
        return (
            "cannot be decided",
            measured,
            f"{found}. Missing: further seeds, since one run has no interval.",
        )
    if gap - half > POINTS:
        return (
            "contradicted",
            measured,
            f"{found}; the whole interval lies further than {POINTS} points from it.",
        )
    return (
        "cannot be decided",
        measured,
        f"{found}. Missing: further seeds, since the interval comes nearer than that.",
    )


def _gap(claim, mean: float) -> float:
    """Points between a measured mean and the claim. One that says "over" is missed only from
    below.
    """
    gap = claim.number - mean
    return round(max(gap, 0.0) if claim.qualifier == "over" else abs(gap), 9)


# Times, margins, re-runs, and what is printed elsewhere


def _seconds(claim, frame: pd.DataFrame) -> tuple[str, str, str]:
    runs = groups_beside(claim, frame)
    if not runs:
        return (
            "not run",
            "",
            f"The ledger holds no completed run of {claim.model} on the whole, real "
            f"{claim.dataset}.",
        )
    device = re.search(r"device (\w+)", claim.conditions)
    if not device:
        return "cannot be decided", "", "Missing: the device, which the source does not name."
    # a run that was made again elsewhere took its time there too
    on_device = frame[frame["device"].str.contains(device[1], regex=False, na=False)]
    there = [group for group in groups_beside(claim, on_device) if departure_of(group) == ""]
    if not there:
        return (
            "cannot be decided",
            "",
            (
                "Missing: a run with a published recipe and image size on the device that the "
                "source "
                f"names, {device[1]}. "
                f"The ledger holds runs on {tables.joined(pd.concat(runs)['device'])}."
            ),
        )
    found = [(_compare_seconds(claim, group["seconds"], device[1]), len(group)) for group in there]
    return min(found, key=lambda one: (PRECEDENCE.index(one[0][0]), -one[1]))[0]


def _compare_seconds(claim, seconds: pd.Series, device: str) -> tuple[str, str, str]:
    """The claim and the times of a group of runs on the device that the source names."""
    mean = seconds.mean()
    return (
        "reproduced" if abs(mean - claim.number) <= TIME_SHARE * claim.number else "contradicted",
        f"{mean:,.0f} s ({len(seconds)})",
        f"On {device} it took {mean:,.0f} s, {mean / claim.number:.2f} times the reported "
        f"{claim.value}.",
    )


def _authors_numbers(claim, claims: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What the authors of the system report on the claim's data set, for named networks, as a
    number and not a bound.
    """
    return claims[
        (claims["system"] == claim.system)
        & (claims["by"] == "authors")
        & (claims["metric"] == metric)
        & (claims["dataset"] == claim.dataset)
        & (claims["model"] != "")
        & (claims["qualifier"] == "")
    ]


def _margin(claim, claims: pd.DataFrame) -> tuple[str, str, str]:
    missing = "Missing: the previous best value, which no examined document prints."
    own = _authors_numbers(claim, claims, "top1")
    if not len(own):
        return "cannot be decided", "", missing
    best = own.loc[own["number"].idxmax()]
    implied = f"{best['number'] - claim.number:.{max(digits(best['value']), digits(claim.value))}f}"
    return (
        "cannot be decided",
        "",
        (
            f"{missing} The best accuracy that the authors report on {claim.dataset}, "
            f"{best['value']} "
            f"% ({best['model']}, "
            f"{best['source']}), implies {implied} %."
        ),
    )


def _rerun(claim, claims: pd.DataFrame) -> tuple[str, str, str]:
    """A number that others report, against the authors' own. Each is a single run, so none can
    contradict.
    """
    own = _authors_numbers(claim, claims, claim.metric)
    own = own[own["model"] == claim.model] if claim.model else own.nlargest(1, "number")
    if not len(own):
        return "cannot be decided", "", "Missing: a number of the authors' to hold it against."
    reported = own.iloc[0]
    gap = round(reported["number"] - claim.number, 9)
    found = (
        f"Others report {claim.value} % ({claim.conditions}), the authors "
        f"{reported['value']} % "
        f"({reported['model']}, {reported['source']})"
    )
    if claim.qualifier == "over":
        return (
            "cannot be decided",
            "",
            f"{found}. Missing: the accuracy itself, since only a lower bound is given.",
        )
    if abs(gap) <= POINTS:
        return "reproduced", "", f"{found}: within {POINTS} points."
    return (
        "cannot be decided",
        "",
        (
            f"{found}: {abs(gap):.2f} points "
            f"{'lower' if gap > 0 else 'higher'}. "
            "Missing: further seeds, since one run has no interval."
        ),
    )


def _elsewhere(claim, claims: pd.DataFrame) -> str:
    """Other numbers for the same quantity, by the authors or by others. A network has one count
    for as many classes.
    """
    if claim.metric in ("margin", "seconds") or claim.by == "others":
        return ""
    same = claims[(claims["system"] == claim.system) & (claims["metric"] == claim.metric)]
    if not claim.model:
        same = same[
            (same["model"] != "")
            & (same["dataset"] == claim.dataset)
            & (same["value"] == claim.value)
        ]
        notes = [
            f"{other.source} prints the same number for {other.model}"
            for other in same.itertuples(index=False)
        ]
    else:
        counted = claim.metric in ("params", "flops")
        alike = same["dataset"] == claim.dataset
        if counted and claim.dataset in CLASSES:
            alike |= same["dataset"].map(CLASSES) == CLASSES[claim.dataset]
        same = same[(same["model"] == claim.model) & alike]
        notes = [
            _note(claim, other)
            for other in same.itertuples(index=False)
            if other.number * UNITS[other.unit] != claim.number * UNITS[claim.unit]
        ]
    return f"Elsewhere: {'; '.join(notes)}." if notes else ""


def _note(claim, other) -> str:
    verb = "prints" if other.by == "authors" else "finds"
    place = f" for {other.dataset}" if other.dataset != claim.dataset else ""
    return f"{other.source} {verb} {written(other.value, other.unit)}{place}{_accord(claim, other)}"


def _accord(one, other) -> str:
    """Whether two different numbers agree: the one with more digits prints as that with fewer,
    or exceeds its "over".
    """
    fine, coarse = sorted(
        (one, other), key=lambda claim: UNITS[claim.unit] / 10 ** digits(claim.value)
    )
    if coarse.qualifier == "over":
        return ", which agrees" if fine.number >= coarse.number else ""
    return (
        ", the same when rounded"
        if prints_as(fine.number * UNITS[fine.unit], coarse.value, coarse.unit)
        else ""
    )
