"""A verdict for each reported number, computed from the counts of the released networks and from
the ledger, never typed.

reproduced           the number was found again, within the tolerance that its metric's rule states
compatible           a further run might give it, but the mean of the runs is not known well enough
                     to say that it was found again
partly               it agrees only under a condition that its source does not state, or only when
                     digits are cut off
contradicted         what was counted or measured under the published conditions is another number
cannot be decided    something is missing, which the reason names
not run              nothing here has been counted or measured that bears on it

Reads top to bottom: rules, `verdicts`, what judges a claim. Counts are judged in `counts`,
accuracies and times in `accuracies`, from the runs that `beside` finds; here are margins, re-runs
by others, and what other sources print. Claims of principle (metric `comparison`) have no number
that could be found again: they are passed over here, and judged by the studies, which stand above
(`astroformer.studies.principles`).
"""

import pandas as pd

from astroformer.counting import closed_forms
from astroformer.ledger import links
from astroformer.ledger.claims import (
    UNITS,
    digits,
    id_of,
    numbers,
    prints_as,
    source_of,
    url_of,
    written,
)
from astroformer.verdicts import accuracies, counts
from astroformer.verdicts.accuracies import ENOUGH, LEAST, POINTS, SDS, TIME_SHARE
from astroformer.verdicts.beside import IMAGE_SIZES, Subject, barred, reported_beside_measured
from astroformer.verdicts.counts import CLASSES

__all__ = [
    "RULES",
    "VERDICTS",
    "Subject",
    "barred",
    "readable",
    "reported_beside_measured",
    "summary",
    "verdicts",
]

VERDICTS = (
    "reproduced",
    "compatible",
    "partly",
    "contradicted",
    "cannot be decided",
    "not run",
)

WHY = "why, and where it is reported"  # a column of tables

_ACCURACY = (
    "A run counts if it is whole: the released network with random weights at the beginning, all "
    "of the real data set that the claim names, its test images. Runs that differ in more than "
    "the seed are not averaged: each group of them is judged by itself, and the one nearest to the "
    "publication speaks. A published accuracy is one run, so it is held against where one further "
    "run would be: the 95 % prediction interval over seeds, of the last epoch and of the best, "
    "wider where the authors' test images are not known. "
    "Reproduced if the whole 95 % interval of the mean lies within M of the claim, M the larger of "
    f"{POINTS} points and {SDS:g} standard deviations of a run; compatible if only a further run "
    f"might give it; both take {LEAST} seeds. Contradicted if it lies outside of both prediction "
    f"intervals, which takes {ENOUGH} seeds. Only the published recipe and image size "
    "can do so; another agrees partly at most. A run that diverged is counted and said. One or "
    "two runs decide nothing, and neither does one that others report."
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
    "flops": f"Reproduced if one of {len(closed_forms.CONVENTIONS)} counting conventions prints "
    "all rows of the claim's table, and the cost of one image in the released network, with the "
    f"claim's number of classes and under that convention, rounds {_COUNT} Partly, too, if each "
    "row needs a convention of its own.",
    "seconds": "Reproduced if a whole run with the published recipe on the device that the claim "
    f"names takes the printed time within {100 * TIME_SHARE:g} %. Else it is another time, which "
    "contradicts nothing, since the source does not name its software. Times on other devices "
    "decide nothing.",
    "margin": "Cannot be decided from the examined documents, which do not print the previous "
    "best values. The value that a "
    "margin implies is computed from the best accuracy that the same authors report.",
}


def verdicts(claims: pd.DataFrame, frame: pd.DataFrame, report: dict | None = None) -> pd.DataFrame:
    """The claims (`claims.read()`) that print a number, and the columns `verdict`, `measured`,
    `why`; `frame` is the ledger's (`records.frame()`). Comparisons are left out.

    With the audit's `report` (`audit.read()`), the reason for a count also names what coincides
    with it. That never changes a verdict: another network with the printed count is not the network
    that the claim names.
    """
    claims = numbers(claims)
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
                filter(
                    None,
                    (why, counts.coincides(claim, report) if verdict == "contradicted" else ""),
                )
            ),
        )
        for claim in claims.itertuples(index=False)
        for verdict, measured, why in [_judge(claim, claims, frame)]
    ]
    return pd.concat(
        [claims, links.frame(rows, ("verdict", "measured", "why")).set_index(claims.index)], axis=1
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
    named = [
        ", ".join(filter(None, pair)) or system for pair in zip(rows["model"], rows["dataset"])
    ]
    claims = list(rows.itertuples(index=False))
    return links.frame(
        {
            "number": [links.anchored(f"claim-{id_of(o)}", n) for o, n in zip(claims, named)],
            "metric": rows["metric"],
            "reported": [
                links.to(url_of(one.source, one.table), value, of=f"claim {id_of(one)}")
                for one in claims
                for value in [written(one.value, one.unit)]
            ],
            "verdict": rows["verdict"],
            "measured": rows["measured"],
            WHY: why(rows),
        }
    )


def why(judged: pd.DataFrame) -> list[links.Linked]:
    """The reason for each verdict, and the way to where the number is reported."""
    cited = [source_of(*pair) for pair in zip(judged["source"], judged["table"])]
    return [links.joined((text, " [", source, "]")) for text, source in zip(judged["why"], cited)]


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
        verdict, measured, why = counts.count(claim, claims)
    elif claim.metric == "seconds":
        verdict, measured, why = accuracies.seconds(claim, frame)
    else:
        verdict, measured, why = accuracies.accuracy(claim, frame)
    return verdict, measured, " ".join(filter(None, (why, _elsewhere(claim, claims))))


# Margins, re-runs, and what is printed elsewhere


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
    """A number that others report, beside the authors' own. Each is one number, and one run
    decides nothing, however near or far.
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
    way = "lower" if gap > 0 else "higher"
    return (
        "cannot be decided",
        "",
        f"{found}: one run, {abs(gap):.2f} points {way}. Missing: further seeds, since one run has "
        "no interval.",
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
