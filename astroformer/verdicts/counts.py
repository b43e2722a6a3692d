"""A verdict for a reported count: parameters, and operations under several conventions, of the
released network in closed form.

Seven conventions at two or three printed digits make an agreement cheap. So a count of operations
is reproduced only if one convention prints all rows of its table.
"""

from itertools import product

import pandas as pd

from astroformer.counting import closed_forms
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
from astroformer.verdicts.beside import IMAGE_SIZES

CLASSES = {name: dataset["classes"] for name, dataset in DATASETS.items()}
PRINTED = ((prints_as, "rounded"), (truncates_to, "cut off, but not rounded"))

Found = tuple[str, str, str]  # verdict, measured, why


def count(claim, claims: pd.DataFrame) -> Found:
    """The verdict on a number of parameters or operations; `claims` holds the other rows of its
    table.
    """
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
            if claim.metric == "params":
                return verdict, *_agreement(claim, stated, size, test, how)
            return _of_table(claim, claims, stated, size, verdict, test, how)
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


def _of_table(
    claim, claims: pd.DataFrame, stated: dict[int, dict[str, int]], size: int, verdict, test, how
) -> Found:
    """The verdict on operations that some convention prints: as given if the same convention prints
    all rows of the table, else partly.
    """
    whole, rows = conventions_of_table(claim, claims)
    both = [
        name
        for name in whole
        if all(name in _agreeing(claim, found, test) for found in stated.values())
    ]
    if not both:
        measured, why = _agreement(claim, stated, size, test, how)
        return (
            "partly",
            measured,
            f"{why} No single convention prints all {rows} rows of the table.",
        )
    kept = {number: {name: found[name] for name in both} for number, found in stated.items()}
    measured, why = _agreement(claim, kept, size, test, how)
    if rows == 1:
        return verdict, measured, why
    cut = min(whole[name] for name in both)
    but = f", {cut} of them only cut off" if cut else ""
    verb = "prints" if len(both) == 1 else "print"
    return (
        verdict,
        measured,
        f"{why} All {rows} rows of the table are what {', '.join(both)} {verb}{but}.",
    )


def conventions_of_table(claim, claims: pd.DataFrame) -> tuple[dict[str, int], int]:
    """Which conventions print every row of operations in the claim's table, each with the number of
    rows that it gives only cut off; those with the fewest first. And the number of rows.
    """
    same = (claims["source"] == claim.source) & (claims["table"] == claim.table)
    rows = claims[same & (claims["metric"] == claim.metric) & (claims["model"] != "")]
    cut = dict.fromkeys(closed_forms.CONVENTIONS, 0)
    for row in rows.itertuples(index=False):
        try:
            stated = [
                _counted(row, IMAGE_SIZES[row.system][0], number)
                for number in _class_numbers(row, claims)
            ]
        except KeyError:  # a network that is not counted here is printed by no convention
            stated = []
        for name in list(cut):
            rounded, shortened = (
                bool(stated) and all(name in _agreeing(row, found, test) for found in stated)
                for test, _ in PRINTED
            )
            if not (rounded or shortened):
                del cut[name]
            elif not rounded:
                cut[name] += 1
    return dict(sorted(cut.items(), key=lambda item: item[1])), len(rows)


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


def coincides(claim, report: dict | None) -> str:
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
