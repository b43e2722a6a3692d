"""Tables of the book: records averaged over seeds, and what such a table calls its rows."""

import math
import re
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # scipy.stats.t.ppf would import for more than a second

from astroformer.ledger import identity, records

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


def mean_interval(values: Sequence[float] | np.ndarray | pd.Series, digits: int = 2) -> str:
    """`mean ± half-width (n)`, `mean (1)` for one run, "not run" for none. A value that is missing,
    or was not finite, is none.
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return NOT_RUN
    mean, half = interval(known)
    return (
        f"{mean:.{digits}f} ({len(known)})"
        if half is None
        else f"{mean:.{digits}f} ± {half:.{digits}f} ({len(known)})"
    )


MEASURED = (
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
)


def measured(frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Completed runs, averaged over seeds: one row for each of `groups`."""
    rows, found = [], groups(records.frame() if frame is None else frame)
    for group in found:
        first = group.iloc[0]
        rows.append(
            {
                "data set": title(first),
                "model": first["model"],
                "options": options(first),
                "recipe": recipe(group) + begun(first),
                "epochs": int(first["epochs"]),
                "images": f"{first['dataset.train']:,} train, {first['dataset.test']:,} "
                f"{first['dataset.evaluated_on']}",
                "pixels": int(first["image_size"]),
            }
        )
    apart = differences([tuple(row.values()) for row in rows], found)
    for row, group, words in zip(rows, found, apart):
        row["recipe"] += words
        row |= {
            "top-1 (%)": mean_interval(metric(group, "top1")),
            "balanced (%)": mean_interval(metric(group, "balanced_accuracy")),
            "ECE (%)": mean_interval(metric(group, "ece")),
            "minutes": mean_interval(group["seconds"].astype(float) / 60, 1),
            "record": joined(group["origin"]),
            "device": joined(group["device"]),
        }
    return pd.DataFrame(rows, columns=list(MEASURED)).sort_values(
        ["data set", "model", "recipe"], ignore_index=True
    )


def groups(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Completed runs that differ in nothing but the seed, together, each once (`records.unique`):
    whatever their recipe is called, and wherever they were made.
    """
    if not len(frame):
        return []
    return [group for _, group in records.unique(frame).groupby("group", sort=False)]


def metric(group: pd.DataFrame, name: str) -> pd.Series:
    """A metric of each run, NaN where it was not recorded or was not finite."""
    return group.get(f"metrics.{name}", pd.Series(float("nan"), index=group.index)).astype(float)


def recipe(group: pd.DataFrame) -> str:
    """What the recipe of a group is called, with the revision of the training if that is an older
    one. A name is written with its changes in order; equal recipes may have several names.
    """
    return joined(spelled(name) for name in group["recipe.name"]) + revised(group)


def revised(group: pd.DataFrame) -> str:
    """ " (revision 1)" beside what was trained under an older revision than today's."""
    revision = int(group["revision"].iloc[0])
    return "" if revision >= identity.REVISION else f" (revision {revision})"


def spelled(name: str) -> str:
    """A recipe's name with its changes in the order of the fields: `smoke+epochs=3+hflip=0.0`."""
    base, *changes = re.split(r"\+(?=[a-z_0-9]+=)", name)
    return "+".join([base, *sorted(changes)])


def differences(labels: Sequence[Hashable], found: Sequence[pd.DataFrame]) -> list[str]:
    """For each group, in which values it differs from the others that have the same label, such as
    ", learning_rate=0.3"; nothing for one whose label is its own.
    """
    values = [_values(group) for group in found]
    told = []
    for label, own in zip(labels, values):
        alike = [other for name, other in zip(labels, values) if name == label]
        differing = [
            name for name in own if any(other.get(name, None) != own[name] for other in alike)
        ]
        told.append("".join(f", {name}={_short(own[name])}" for name in differing))
    return told


def _values(group: pd.DataFrame) -> dict[str, object]:
    """The identity of a group's runs in one dictionary."""
    one = dict(group["identity"].iloc[0])
    nested = {name: one.pop(name, None) or {} for name in ("options", "recipe")}
    one = {name: value for name, value in one.items() if name != "seed"}
    return one | nested["options"] | nested["recipe"]


def _short(value: object) -> object:
    """A fingerprint by its first digits."""
    return value[:8] if isinstance(value, str) and len(value) == 64 else value


def joined(words) -> str:
    """Different words, each once."""
    return ", ".join(dict.fromkeys(map(str, words)))


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


def readable(record: dict) -> pd.DataFrame:
    """A record as two columns, its nested parts written as `name value`, without the history
    (which the curves show) and the identity (whose parts stand beside it).
    """

    def text(value) -> str:
        if isinstance(value, dict):
            return ", ".join(
                f"{name} {text(part)}"
                for name, part in value.items()
                if part not in ("", None, 0, 0.0, False, [], ())
            )
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "; ".join(map(text, value))
        if isinstance(value, float):
            return f"{value:.4g}"
        return (
            f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        )

    rows = [
        (name, text(value))
        for name, value in record.items()
        if name not in ("history", "identity", "origin")
    ]
    return pd.DataFrame({"value": [value for _, value in rows]}, index=[name for name, _ in rows])
