"""The points of the poster's scaling curves: accuracy against size, as reported, as counted, as
measured here.

Reported are three sizes for each data set (README, "Main Results"). The curves that the poster
draws for other networks are pictures without numbers, so they have no points here.
"""

import math
from collections.abc import Mapping
from itertools import combinations

import pandas as pd
from scipy.special import ndtr

from astroformer import contrasts
from astroformer.counting.cost import network_cost
from astroformer.ledger import records, tables
from astroformer.ledger.claims import README, README_DATASETS
from astroformer.models import MODELS
from astroformer.verdicts.beside import Subject, barred

COLUMNS = (
    "model",
    "kind",
    "accuracy",
    "params_reported",
    "flops_reported",
    "params_counted",
    "macs_counted",
    "run",
    "record",
    "hover",
)


def points(
    dataset: str, claims: pd.DataFrame, frame: pd.DataFrame, *, image_size: int = 224
) -> pd.DataFrame:
    """One row a point, in order of size: what the README reports on a data set, then every
    completed run on it.

    `accuracy` in %; parameters in millions; FLOPs and multiply-adds of one image in billions. A
    reported point (`kind`) has both the README's counts and those of the released network for
    `image_size` pixels; a measured one (`run`, `record` committed or local) has only what its
    record counted. `hover` says it all in lines.
    """
    _check(dataset)
    rows = _reported(dataset, claims, image_size) + _measured(dataset, frame)
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(
        ["kind", "params_counted"], ascending=[False, True], kind="stable", ignore_index=True
    )


def _check(dataset: str) -> None:
    if dataset not in README_DATASETS:
        raise ValueError(
            f"no scaling points for the data set {dataset!r}; choose one of "
            f"{', '.join(README_DATASETS)}"
        )


def _reported(dataset: str, claims: pd.DataFrame, image_size: int) -> list[dict]:
    readme = claims[
        (claims["source"] == README)
        & (claims["dataset"] == dataset)
        & claims["metric"].isin(["top1", "params", "flops"])
    ]
    if not len(readme):
        raise ValueError(
            f"the claims hold nothing of {README} on {dataset}; restore book/claims.csv"
        )
    rows = []
    for model, group in readme.groupby("model"):
        claim = group.set_index("metric")
        missing = {"top1", "params", "flops"} - set(claim.index)
        if missing or not claim.index.is_unique or model not in MODELS:
            raise ValueError(
                f"the claims of {README} for {model} on {dataset} must be one "
                "accuracy, one count of parameters and "
                f"one of FLOPs, of a network in {', '.join(MODELS)}; mend "
                "book/claims.csv"
            )
        params, macs = _counted(model, image_size, README_DATASETS[dataset]["classes"])
        printed = claim["value"]
        rows.append(
            {
                "model": model,
                "kind": "reported",
                "accuracy": claim["number"]["top1"],
                "params_reported": claim["number"]["params"],
                "flops_reported": claim["number"]["flops"],
                "params_counted": params,
                "macs_counted": macs,
                "run": "",
                "record": "",
                "hover": [
                    f"{model}, reported: {printed['top1']} %",
                    f"reported: {printed['params']} M parameters, {printed['flops']} G FLOPs",
                    f"counted: {params:.2f} M, {macs:.2f} G multiply-adds, {image_size} pixels",
                    f"{README}, {claim['table']['top1']}",
                    claim["conditions"]["top1"],
                ],
            }
        )
    return rows


def _counted(model: str, image_size: int, classes: int) -> tuple[float, float]:
    """Parameters in millions and multiply-adds in billions."""
    cost = network_cost(model, image_size=image_size, num_classes=classes)
    return cost["params"] / 1e6, cost["macs"] / 1e9


def _measured(dataset: str, frame: pd.DataFrame) -> list[dict]:
    """Completed runs that may stand beside a claim about this data set (`beside.barred`), each
    once: a re-encoded or synthetic stand-in has no point, nor has a run that held out a part of
    the training images, or one that a study asked for.
    """
    frame = tables.of_no_study(frame)
    if not len(frame):
        return []
    runs, about = records.unique(frame), Subject(dataset)
    same = runs[[barred(run, about) == "" for _, run in runs.iterrows()]] if len(runs) else runs
    return [
        {
            "model": run["model"],
            "kind": "measured",
            "accuracy": run["metrics.top1"],
            "params_reported": math.nan,
            "flops_reported": math.nan,
            "params_counted": run["params"] / 1e6,
            "macs_counted": run["macs"] / 1e9,
            "run": run["run"],
            "record": run["origin"],
            "hover": [
                f"{run['model']} ({run['stack']}), measured: {run['metrics.top1']:.2f} % "
                f"({run['dataset.evaluated_on']})",
                f"run {run['run']}, {run['origin']} record",
                f"recipe {run['recipe.name']}, {int(run['epochs'])} epochs, seed {run['seed']}",
                f"{run['params'] / 1e6:.2f} M parameters, {run['macs'] / 1e9:.2f} G "
                "multiply-adds, "
                f"{run['image_size']} pixels",
                str(run["device"]),
            ],
        }
        for _, run in same.iterrows()
    ]


def shifts(points: pd.DataFrame) -> pd.DataFrame:
    """By how many percent the reported counts exceed those of the released network, a row a
    reported point.
    """
    reported = points[points["kind"] == "reported"]
    shift = {
        "parameters (%)": 100 * (reported["params_reported"] / reported["params_counted"] - 1),
        "FLOPs (%)": 100 * (reported["flops_reported"] / reported["macs_counted"] - 1),
    }
    return pd.DataFrame(shift).set_axis(reported["model"])


def rises(points: pd.DataFrame) -> bool:
    """Whether every larger network is reported to be better than every smaller one."""
    reported = points[points["kind"] == "reported"].sort_values("params_counted")
    return bool(reported["accuracy"].is_monotonic_increasing and reported["accuracy"].is_unique)


def chance(first: float, second: float, test_images: int) -> float:
    """Half-width of the 95 % interval of a difference of two accuracies (%), each from its own draw
    of `test_images` images.

    Only the choice of test images is in it (binomial), not the spread over seeds, which nobody
    reported.
    """
    return 1.96 * _error(first, second, test_images)


def _error(first: float, second: float, test_images: int) -> float:
    variance = sum(accuracy * (100 - accuracy) / test_images for accuracy in (first, second))
    return math.sqrt(variance)


def comparisons(points: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Each pair of reported sizes, from data set -> `points`: what the larger gains (percentage
    points), what chance in the test images explains of one pair, and whether the gain goes beyond
    it when all pairs are tested (Holm's correction of two-sided p-values below 0.05).

    Another training of the same network would differ too. No seed's spread was reported, so it is
    in none of the columns: "yes" says that the test images do not explain the gain, no more.
    """
    rows, p_values = [], {}
    for dataset, of in points.items():
        _check(dataset)
        number = README_DATASETS[dataset]["test_images"]
        reported = of[of["kind"] == "reported"].sort_values("params_counted")
        for (_, small), (_, large) in combinations(reported.iterrows(), 2):
            gain = large["accuracy"] - small["accuracy"]
            row = {
                "data set": dataset,
                "from": small["model"],
                "to": large["model"],
                "size ratio": round(large["params_counted"] / small["params_counted"], 2),
                "gain": round(gain, 2),
                "chance": "unknown",
            }
            if number is not None:
                both = small["accuracy"], large["accuracy"], number
                row["chance"] = f"± {chance(*both):.2f}"
                p_values[len(rows)] = 2 * float(ndtr(-abs(gain) / _error(*both)))
            rows.append(row)
    beyond = {row: p < 0.05 for row, p in contrasts.holm(p_values).items()}
    words = {True: "yes", False: "no", None: "unknown"}
    return pd.DataFrame(rows).assign(beyond=[words[beyond.get(row)] for row in range(len(rows))])
