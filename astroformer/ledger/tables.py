"""Tables of the book: records averaged over seeds, and what such a table calls its rows."""

import re
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from astroformer import contrasts
from astroformer.contrasts import Contrast
from astroformer.ledger import identity, links, predictions, records

NOT_RUN = "not run"
# The fewest runs whose interval is printed. That of two is 12.7 standard errors wide: it says
# nothing that the two values do not say better.
LEAST = 3
# A run of fewer epochs is a pilot: the documents train for 200 to 300.
PILOT_EPOCHS = 30
# Metric -> whether it is a mean over classes; those that predictions give anew for other images.
ACCURACIES = {"top1": False, "balanced_accuracy": True}


def interval(values: Sequence[float] | np.ndarray | pd.Series) -> tuple[float, float | None]:
    """Mean and half-width of the 95 % interval of the mean (Student's t over seeds), in the unit of
    the values; no width below LEAST of them. A value that is not finite is none; the mean of none
    is NaN.
    """
    known = _finite(values)
    if not len(known):
        return float("nan"), None
    found = contrasts.mean(known)
    return found.estimate, found.high - found.estimate if found.n >= LEAST else None


def mean_interval(
    values: Sequence[float] | np.ndarray | pd.Series, digits: int = 2, *, share: bool = False
) -> str:
    """`mean ± half-width (n)`; both values for two runs, the value for one, "not run" for none. A
    value that is missing, or was not finite, is none.

    share: the values are percentages of a whole. An interval that would leave 0 to 100 is made on
    the logit scale, and its ends are printed: `mean, low to high (n)`. Runs that all have 0 or all
    100 % show no spread, which does not make them exact: `mean (n)`.
    """
    known = np.sort(_finite(values))
    count = f"({len(known)})"
    if not len(known):
        return NOT_RUN
    if len(known) < LEAST:
        return f"{', '.join(f'{value:.{digits}f}' for value in known)} {count}"
    found = contrasts.mean(known)
    mean = f"{found.estimate:.{digits}f}"
    if share and found.estimate in (0, 100):
        return f"{mean} {count}"
    if not share or (found.low >= 0 and found.high <= 100):
        return f"{mean} ± {found.high - found.estimate:.{digits}f} {count}"
    return f"{mean}, {_ends(contrasts.on_logit_scale(found), digits)} {count}"


def _finite(values: Sequence[float] | np.ndarray | pd.Series) -> np.ndarray:
    known = np.asarray(values, dtype=float)
    return known[np.isfinite(known)]


def _ends(found: Contrast | None, digits: int = 1) -> str:
    """The ends of an interval, nothing where there is none."""
    if found is None or not np.isfinite([found.low, found.high]).all():
        return ""
    return f"{found.low:.{digits}f} to {found.high:.{digits}f}"


def two_intervals(group: pd.DataFrame, name: str) -> tuple[Contrast, Contrast | None]:
    """Two 95 % intervals of the mean accuracy (%) of completed runs that differ in nothing but the
    seed: for other seeds (would another training say the same?), and for other seeds and other test
    images of the same classes (would other galaxies?). `name` is "top1" or "balanced_accuracy".

    The second resamples the images within their classes (`contrasts.accuracy_bootstrap`). It is
    None below LEAST runs, and where the predictions of a run are missing or of other images.
    """
    if name not in ACCURACIES:
        known = " or ".join(ACCURACIES)
        raise ValueError(f"predictions do not give {name} for other images; choose {known}")
    seeds = contrasts.mean(metric(group, name))
    kept = [predictions.read(run) for run in group["run"]]
    told = [one for one in kept if one is not None]
    if len(told) < max(LEAST, len(kept)):
        return seeds, None
    labels = told[0].labels
    if not all(np.array_equal(one.labels, labels) for one in told):
        return seeds, None
    right = np.stack([one.right for one in told])
    return seeds, contrasts.accuracy_bootstrap(right, labels, balanced=ACCURACIES[name])


MEASURED = (
    "data set",
    "model",
    "recipe",
    "top-1 (%)",
    "top-1: 95 % seeds x images",
    "balanced (%)",
    "balanced: 95 % seeds x images",
    "diverged",
    "epochs",
    "ECE (%)",
    "minutes",
    "images",
    "pixels",
    "record",
    "device",
)


def measured(frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Runs averaged over seeds: one row for each of `gathered`. A run that diverged is counted
    beside the mean, in which it cannot be.
    """
    rows, found = [], gathered(records.frame() if frame is None else frame)
    for group in found:
        first = group.iloc[0]
        rows.append(
            {
                "data set": title(first),
                "model": network(first),
                "recipe": recipe(group) + begun(first),
                "epochs": int(first["epochs"]),
                "images": f"{first['dataset.train']:,} train, {first['dataset.test']:,} "
                f"{first['dataset.evaluated_on']}",
                "pixels": int(first["image_size"]),
            }
        )
    apart = differences([tuple(row.values()) for row in rows], found)
    for row, group, words in zip(rows, found, apart):
        done = ended(group)
        row["recipe"] += words
        row |= {
            "top-1 (%)": accuracy(done, "top1"),
            "top-1: 95 % seeds x images": _other_images(done, "top1"),
            "balanced (%)": accuracy(done, "balanced_accuracy"),
            "balanced: 95 % seeds x images": _other_images(done, "balanced_accuracy"),
            "diverged": f"{diverged(group)} of {len(group)}" if diverged(group) else "",
            "ECE (%)": mean_interval(metric(done, "ece"), share=True),
            "minutes": mean_interval(done["seconds"].astype(float) / 60, 1),
            "record": joined(group["origin"]),
            "device": joined(group["device"]),
        }
    return links.frame(rows, MEASURED).sort_values(
        ["data set", "model", "recipe"], ignore_index=True
    )


def _other_images(done: pd.DataFrame, name: str) -> str:
    return _ends(two_intervals(done, name)[1]) if metric(done, name).notna().any() else ""


def of_no_study(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of `records.frame` without the runs that a study with a design asked for (its name
    stands in the record). They stand on that study's page: a tuning run among others would be one
    more row of a table, and its best rate a choice. The fixed lists of `studies.STUDIES` leave no
    name in their records, and stay.

    `groups` and `gathered`, and with them every table and verdict that is made of groups, ask here.
    """
    asked = found.get("study.name")
    return found if asked is None else found[asked.isna()]


def groups(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Completed runs that differ in nothing but the seed, together, each once (`records.unique`):
    whatever their recipe is called, and wherever they were made; those `of_no_study`.
    """
    frame = of_no_study(frame)
    if not len(frame):
        return []
    return [group for _, group in records.unique(frame).groupby("group", sort=False)]


def gathered(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """The same with the runs that failed, after those of their group that did not: of each seed
    that no record completed, the newest record.
    """
    frame = of_no_study(frame)
    if not len(frame):
        return []
    done = records.unique(frame)
    failed = (
        frame[frame["status"] == "failed"]
        .sort_values("started", kind="stable", na_position="first")
        .drop_duplicates(["group", "seed"], keep="last")
    )
    made_again = set(zip(done["group"], done["seed"]))
    failed = failed[[pair not in made_again for pair in zip(failed["group"], failed["seed"])]]
    both = pd.concat([done, failed]) if len(failed) else done
    return [group for _, group in both.groupby("group", sort=False)]


def ended(group: pd.DataFrame) -> pd.DataFrame:
    """The runs of one of `gathered` that came to an end with a network whose answers are numbers.
    The loop gives up a run only for a loss or an answer that is not finite.
    """
    return group[(group["status"] == "completed") & metric(group, "top1").notna()]


def diverged(group: pd.DataFrame) -> int:
    """How many of one of `gathered` did not."""
    return len(group) - len(ended(group))


def cell(group: pd.DataFrame, name: str) -> str:
    """An accuracy of one of `gathered` as `mean_interval` has it, and how many of its runs
    diverged: `90.10 ± 0.25 (3); 2 of 5 diverged`.
    """
    done = ended(group)
    mean, lost = mean_interval(metric(done, name), share=True), len(group) - len(done)
    part = f"{lost} of {len(group)} diverged"
    text = mean if not lost else part if mean == NOT_RUN else f"{mean}; {part}"
    return _linked(text, group, f"cell {name}")


def accuracy(group: pd.DataFrame, name: str) -> str:
    """An accuracy of runs that differ in nothing but the seed, as `mean_interval` has it, and
    whether it is of pilots: `33.10 (1), pilot`.
    """
    text = mean_interval(metric(group, name), share=True)
    text = text if text == NOT_RUN or not is_pilot(group) else f"{text}, pilot"
    return _linked(text, group, f"accuracy {name}")


def _linked(text: str, group: pd.DataFrame, what: str) -> str:
    """The text with the way to the runs, where they are those of one group of the ledger."""
    if text == NOT_RUN or "group" not in group or group["group"].nunique() != 1:
        return text
    return links.measured(text, group["group"].iloc[0], what, group["run"])


def is_pilot(group: pd.DataFrame) -> bool:
    """Whether runs are too few, or too short, to say more than that the code learns: fewer than
    LEAST, or fewer than PILOT_EPOCHS epochs.
    """
    return len(group) < LEAST or bool((group["epochs"].astype(float) < PILOT_EPOCHS).any())


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
    values, alike = [_values(group) for group in found], {}
    for label, own in zip(labels, values):
        alike.setdefault(label, []).append(own)
    differing = {label: _differing(those) for label, those in alike.items()}
    return [
        "".join(f", {name}={_short(own[name])}" for name in own if name in differing[label])
        for label, own in zip(labels, values)
    ]


def _differing(those: list[dict[str, object]]) -> set[str]:
    """The names whose values are not the same in all dictionaries; one that lacks it has None."""
    first, names = those[0], {name for one in those for name in one}
    return {name for name in names if any(one.get(name) != first.get(name) for one in those)}


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


def network(row: pd.Series) -> str:
    """Its name, with what is said of it beside the name: "astroformer_pico (CCTT)"."""
    told = options(row)
    return f"{row['model']} ({told})" if told else str(row["model"])


def options(row: pd.Series) -> str:
    """The stack and the network's own options, in words."""
    stack = [row["stack"]] if pd.notna(row["stack"]) else []
    return ", ".join([*stack, *(option(*pair) for pair in records.options_of(row).items())])


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
    return name if row["fraction"] == 1 else f"{name}, {100 * row['fraction']:.3g} %"


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
