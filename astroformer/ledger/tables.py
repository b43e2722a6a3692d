"""Tables of the book: records averaged over seeds, and claims with the measurement beside them."""

import math

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # scipy.stats.t.ppf would import for more than a second

from astroformer.ledger import records
from astroformer.ledger.claims import README

NOT_RUN = "not run"


def interval(values: list[float] | np.ndarray) -> tuple[float, float | None]:
    """Mean and half-width of the 95 % interval of the mean (Student's t over seeds); no width
    for a single value.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float(values.mean()), None
    return float(values.mean()), float(
        stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values))
    )


def mean_interval(values: list[float] | np.ndarray, digits: int = 2) -> str:
    """`mean ± half-width (n)`, `mean (1)` for one run, "not run" for none."""
    if len(values) == 0:
        return NOT_RUN
    mean, half = interval(values)
    return (
        f"{mean:.{digits}f} ({len(values)})"
        if half is None
        else f"{mean:.{digits}f} ± {half:.{digits}f} ({len(values)})"
    )


GROUP = (
    "model",
    "stack",
    "options",
    "image_size",
    "dataset.title",
    "dataset.kind",
    "dataset.sha256",
    "dataset.train",
    "dataset.test",
    "dataset.evaluated_on",
    "fraction",
    "recipe.name",
    "epochs",
    "selection",
    "precision",
    "device",
    "origin",
    "init.sha256",
)


def measured(frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Completed runs, averaged over seeds: one row for each (model, data set, recipe, ...), by
    the newest record of each seed.
    """
    frame = records.frame() if frame is None else frame
    found = groups(frame)
    if not found:
        return pd.DataFrame(
            columns=[
                "data set",
                "model",
                "options",
                "top-1 (%)",
                "balanced (%)",
                "recipe",
                "epochs",
                "ECE (%)",
                "minutes",
                "images",
                "pixels",
                "record",
                "device",
            ]
        )
    rows = []
    for group in found:
        first = group.iloc[0]
        rows.append(
            {
                "data set": title(first),
                "model": first["model"],
                "options": options(first),
                "top-1 (%)": mean_interval(group["metrics.top1"]),
                "balanced (%)": mean_interval(group["metrics.balanced_accuracy"]),
                "recipe": first["recipe.name"] + begun(first),
                "epochs": int(first["epochs"]),
                "ECE (%)": mean_interval(group["metrics.ece"]),
                "minutes": mean_interval(group["seconds"] / 60, 1),
                "images": f"{first['dataset.train']:,} train, {first['dataset.test']:,} "
                f"{first['dataset.evaluated_on']}",
                "pixels": int(first["image_size"]),
                "record": first["origin"],
                "device": first["device"],
            }
        )
    return pd.DataFrame(rows).sort_values(["data set", "model", "recipe"], ignore_index=True)


def groups(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Completed runs that differ in nothing but the seed, together; of each run the newest
    record.
    """
    if not len(frame) or not (frame["status"] == "completed").any():
        return []
    frame = frame[frame["status"] == "completed"].drop_duplicates(
        ["run", "device", "origin"], keep="last"
    )
    # in older records split_seed meant the seed that drew a fraction, of which there was one a run
    if "dataset.classes" in frame:
        frame = frame.assign(
            split=frame["dataset.split_seed"].where(frame["dataset.classes"].notna(), 0).astype(int)
        )
    own = [name for name in frame.columns if name.startswith("options.")]
    keys = [name for name in (*GROUP, "split") if name in frame.columns] + own
    return [group for _, group in frame.groupby(keys, dropna=False, sort=False)]


def options(row: pd.Series) -> str:
    """The stack and the network's own options, in words."""
    return ", ".join(
        [*row[["stack"]].dropna(), *(option(*pair) for pair in records.options_of(row).items())]
    )


def option(name: str, value: object) -> str:
    """A word tells what it is about, a number does not."""
    return value if isinstance(value, str) else f"{name} {value}"


def begun(row: pd.Series) -> str:
    """With which weights a run began, if not with random ones."""
    file = row.get("init.file")
    return f", from {file}" if isinstance(file, str) else ""


def title(row: pd.Series) -> str:
    """The data set as it may be named beside a number: synthetic images say so, a part says how
    large.
    """
    name = row["dataset.title"]
    if row["dataset.kind"] == "synthetic" and "synthetic" not in name:
        name += " (synthetic)"
    return name if row["fraction"] == 1 else f"{name}, {100 * row['fraction']:g} %"


def reported_beside_measured(
    claims: pd.DataFrame,
    frame: pd.DataFrame | None = None,
    metric: str = "top1",
    source: str = README,
) -> pd.DataFrame:
    """Each claim of one metric and source, and the measurement on exactly that data set; "not run"
    where there is none.

    Only a record whose data set is real and bears the claim's own name counts: a re-encoded or
    synthetic stand-in does not. Nor does a network with options of its own, or one that did not
    begin with random weights.
    """
    frame = records.frame() if frame is None else frame
    claims = claims[
        (claims["metric"] == metric) & (claims["model"] != "") & (claims["source"] == source)
    ]
    done = frame[frame["status"] == "completed"] if len(frame) else frame
    if len(done):
        done = done[[not records.options_of(row) and not begun(row) for _, row in done.iterrows()]]
    rows = []
    for _, claim in claims.iterrows():
        same = (
            done[
                (done["model"] == claim["model"])
                & (done["dataset.title"] == claim["dataset"])
                & (done["dataset.kind"] == "real")
                & (done["fraction"] == 1)
            ]
            if len(done)
            else done
        )
        rows.append(
            {
                "data set": claim["dataset"],
                "model": claim["model"],
                "reported (%)": claim["value"],
                "measured (%)": mean_interval(same[f"metrics.{metric}"] if len(same) else []),
                "source": f"{claim['source']}, {claim['table']}",
            }
        )
    return pd.DataFrame(rows)


def readable(record: dict) -> pd.DataFrame:
    """A record as two columns, its nested parts written as `name value`, without the history
    (which the curves show).
    """

    def text(value) -> str:
        if isinstance(value, dict):
            return ", ".join(
                f"{name} {text(part)}"
                for name, part in value.items()
                if part not in ("", None, 0, 0.0, False, [], ())
            )
        if isinstance(value, float):
            return f"{value:.4g}"
        return (
            f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        )

    rows = [
        (name, text(value)) for name, value in record.items() if name not in ("history", "origin")
    ]
    return pd.DataFrame({"value": [value for _, value in rows]}, index=[name for name, _ in rows])
