"""Equivariance of trained networks, measured once and kept, so that pages can show it with the
spread over seeds.

A measurement is one JSON line about one checkpoint, or about the same network as it was drawn
before training. It bears the hash of its run, whose record in the ledger says the rest: recipe,
data, seed. The lines lie in `book/ledger/equivariance/*.jsonl`, append-only, one file per machine
and job.

Reads top to bottom: `measure`, append and read, tables.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from torch import nn

from astroformer import data, paths
from astroformer.data import Images
from astroformer.data.augment import normalise
from astroformer.equivariance import lie_derivative
from astroformer.equivariance import network as equivariance
from astroformer.equivariance.consistency import SHIFTS, consistency
from astroformer.ledger import identity, records, tables
from astroformer.training import load_trained
from astroformer.training.evaluate import check_classes

FOLDER = paths.LEDGER / "equivariance"
WEIGHTS = ("random", "trained")
SYNTHETIC = "synthetic galaxies"  # title of the embedded data set
FEW = 8  # images for what is measured in double precision, spread evenly over the others


def measure(
    checkpoint: str | Path,
    images: Images,
    *,
    weights: str = "trained",
    shifts: tuple[int, ...] = SHIFTS,
) -> dict:
    """One measurement of a checkpoint's network on images of the classes that it was trained on.

    errors: part -> shift in pixels -> precision -> relative error (equivariance.shift_errors), mean
        over FEW images
    lie: relative change per pixel, and share of it by kind of layer (lie_derivative.by_kind), on
        the same images
    consistency: move -> same class (%), change in accuracy (points), on all images
    """
    trained, described = load_trained(checkpoint)
    check_classes(checkpoint, described, images, "Measure")
    model = trained if weights == "trained" else as_drawn(described)
    few = images.take(np.linspace(0, len(images) - 1, min(FEW, len(images))).astype(int))
    pixels = torch.from_numpy(few.array()).permute(0, 3, 1, 2)
    # (B, 3, H, W)
    batch = normalise(pixels, described["mean"], described["std"], dtype=torch.float64)
    moved = consistency(
        model, images, mean=described["mean"], std=described["std"], shifts=shifts
    ).set_index("move")
    errors = precisions(model, batch)
    by_kind = lie_derivative.by_kind(model, batch)
    return {
        "run": described["run"],
        "weights": weights,
        "model": described["model"],
        "options": dict(described["options"]),
        "dataset": asdict(images.about) | {"split": images.split, "images": len(images)},
        "errors": errors,
        "lie": {"size": by_kind.attrs["total"], "by_kind": by_kind.to_dict("index")},
        "consistency": moved.to_dict("index"),
        "device": records.device_name(torch.device("cpu")),
        "versions": records.versions(),
        "git": records.git_state(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def as_drawn(described: dict) -> nn.Module:
    """The network of a checkpoint as it was before the first step: drawn by the seed of its run,
    as `fit` draws it.
    """
    record = records.completed(described["run"])
    if record is None:
        raise ValueError(
            f"the ledger holds no completed record of run {described['run']}, so its "
            "seed is not known; "
            "`astroformer train` makes one, `astroformer ledger` lists them"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(record["seed"])
        return timm.create_model(described["model"], **described["options"]).eval()


def precisions(model: nn.Module, images: torch.Tensor) -> dict[str, dict[str, dict[str, float]]]:
    """{"S4": {"16": {"float64": ..., "float32": ...}, "1": ...}, "logits": ...}, mean over the
    images (B, 3, H, W)
    """
    found = {}
    for dtype in equivariance.ROUNDING:
        model = model.to(dtype)  # from single to double and back loses nothing
        errors = pd.DataFrame(
            [equivariance.at_two_shifts(model, image[None].to(dtype)) for image in images]
        ).mean()
        for (part, pixels), error in errors.items():
            found.setdefault(part, {}).setdefault(str(pixels), {})[
                equivariance.precision(dtype)
            ] = float(error)
    return found


def keep(measurement: dict, name: str) -> Path:
    """Adds a measurement to `book/ledger/equivariance/NAME.jsonl`."""
    return records.write_line(
        measurement, records.named(name, FOLDER, shown="book/ledger/equivariance")
    )


def read(folder: Path = FOLDER) -> pd.DataFrame:
    """The newest measurement of each run and kind of weights, with what the ledger says of the run:
    columns `network` (as in equivariance.switches), `recipe`, `data`, `seed`, `turned` (the recipe
    turns or reflects its images), `identity`, `group` and `revision` (as in `records.frame`) before
    those of the measurement.
    """
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in records.read_file(path)]
    frame = pd.DataFrame(sorted(lines, key=lambda line: line["measured"]))
    if not len(frame):
        return pd.DataFrame(columns=["network", "recipe", "data", "seed", "run", "weights"])
    frame = frame.drop_duplicates(["run", "weights"], keep="last").reset_index(drop=True)
    runs = {record["run"]: record for record in records.read() if record["status"] == "completed"}
    missing = [run for run in frame["run"] if run not in runs]
    if missing:
        raise ValueError(
            f"{folder} measures run {missing[0]}, of which the ledger holds no "
            "record; keep it too: "
            "astroformer ledger --keep"
        )
    of = [runs[run] for run in frame["run"]]
    about = pd.DataFrame(
        {
            "network": [_network(row["model"], row["options"]) for row in of],
            "recipe": [tables.spelled(row["recipe"]["name"]) for row in of],
            "data": [row["dataset"]["title"] for row in of],
            "seed": [row["seed"] for row in of],
            "turned": [
                any(row["recipe"][name] for name in ("rotate90", "hflip", "vflip")) for row in of
            ],
            "identity": [identity.of(row) for row in of],
            "group": [identity.group(row) for row in of],
            "revision": [identity.revision(row) for row in of],
        }
    )
    # equal runs may have two hashes
    every = pd.concat([about, frame], axis=1)
    return every.drop_duplicates(["group", "seed", "weights"], keep="last").reset_index(drop=True)


def _network(model: str, options: dict) -> str:
    """Which of `equivariance.switches` these options are, with whatever else differs from the
    release.
    """
    own = {name: value for name, value in options.items() if name in equivariance.RELEASED}
    rest = [f"{name}={value}" for name, value in options.items() if name not in own]
    labels = [
        label
        for label, choice in equivariance.switches(model).items()
        if choice == {**equivariance.RELEASED, **own} or not (choice or own)
    ]
    return ", ".join([*(labels or [f"{name}={value}" for name, value in own.items()]), *rest])


# Tables: mean and 95 % interval over seeds. `frame` is what `read` gives, or some rows of it.

GROUP = ["data", "recipe", "model", "network", "weights"]  # what a table says of a row


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose recipe is `smoke`, over whatever number of epochs, of any revision."""
    return frame[frame["recipe"].str.fullmatch(r"smoke(\+epochs=\d+)?( \(revision \d+\))?")]


def newest(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the newest revision of the training among them."""
    return frame[frame["revision"] == frame["revision"].max()]


def grouped(frame: pd.DataFrame) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """The rows that differ in nothing but the seed, together, with what a table says of them
    (GROUP). An older revision of the training is named with the recipe.
    """
    found = [some for _, some in frame.groupby(["group", "weights"], sort=False)]
    words = [some.iloc[0][GROUP].to_dict() for some in found]
    for row, some in zip(words, found):
        row["recipe"] += tables.revised(some)
    apart = tables.differences([tuple(row.values()) for row in words], found)
    return [
        (row | {"recipe": row["recipe"] + more}, some)
        for row, more, some in zip(words, apart, found)
    ]


def spread(frame: pd.DataFrame, value, *, digits: int = 1) -> pd.Series:
    """`value(row)` over the seeds of each group, as `mean ± half (n)`."""
    found = {
        tuple(words.values()): tables.mean_interval(
            [value(row) for _, row in some.iterrows()], digits
        )
        for words, some in grouped(frame)
    }
    index = pd.MultiIndex.from_tuples(list(found), names=GROUP)
    return pd.Series(list(found.values()), index=index, name="value")


def same_class(
    frame: pd.DataFrame, moves: list[str], *, what: str = "same class (%)"
) -> pd.DataFrame:
    """One row a group, one column a move."""
    return pd.DataFrame(
        {move: spread(frame, lambda row: row["consistency"][move][what]) for move in moves}  # noqa: B023
    ).reset_index()


def symmetry_table(frame: pd.DataFrame) -> pd.DataFrame:
    """What turns and reflections do to predictions, by recipe: those that turn and reflect their
    images, and those that do not.
    """
    rows = []
    for turned, some in frame.groupby("turned", sort=True):
        row = {"trained": "with turns and reflections" if turned else "without"}
        for move, name in (("rotation by 90°", "quarter turn"), ("mirror image", "mirror image")):
            for what in ("same class (%)", "change in accuracy (points)"):
                row[f"{name}: {what}"] = tables.mean_interval(
                    [moved[move][what] for moved in some["consistency"]], 1
                )
        rows.append(row)
    return pd.DataFrame(rows)


def curves(frame: pd.DataFrame, what: str = "same class (%)") -> pd.DataFrame:
    """For drawing, long: group columns, `shift` in pixels, `mean`, `half` (width of half the
    interval, 0 for one seed).
    """
    rows = []
    for words, some in grouped(frame):
        for move in some.iloc[0]["consistency"]:
            if move.startswith("shift by "):
                mean, half = tables.interval([row[move][what] for row in some["consistency"]])
                rows.append(
                    words | {"shift": int(move.split()[2]), "mean": mean, "half": half or 0.0}
                )
    return pd.DataFrame(rows)


def error_table(frame: pd.DataFrame, part: str = "logits") -> pd.DataFrame:
    """Relative errors of a part, a row for each group: geometric means over the seeds, since
    they span powers of ten.
    """
    rows = []
    for words, some in grouped(frame):
        row = dict(words)
        for precision in ("float64", "float32"):
            for pixels in sorted(some.iloc[0]["errors"][part], key=int, reverse=True):
                found = np.array([one[part][pixels][precision] for one in some["errors"]])
                row[f"{pixels} px, {precision}"] = float(np.exp(np.log(found.clip(1e-17)).mean()))
        rows.append(row)
    return pd.DataFrame(rows)


def lie_by_kind(frame: pd.DataFrame, what: str = "share (%)") -> pd.DataFrame:
    """For figures.lie_derivative: rows kinds of layers, columns `what` (mean over the seeds of
    one group) and `half`.
    """
    kinds = list(dict.fromkeys(kind for lie in frame["lie"] for kind in lie["by_kind"]))
    found = {
        kind: tables.interval([lie["by_kind"].get(kind, {}).get(what, 0.0) for lie in frame["lie"]])
        for kind in kinds
    }
    return pd.DataFrame(
        [{"kind": kind, what: mean, "half": half or 0.0} for kind, (mean, half) in found.items()]
    ).set_index("kind")


def accuracies(frame: pd.DataFrame) -> pd.DataFrame:
    """From the ledger (`records.frame()`): top-1 and balanced accuracy on test images of each
    network of `equivariance.switches`, over seeds.
    """
    found = [some for _, some in _networks(frame).groupby("group", sort=False)]
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
        row["top-1 (%)"] = tables.mean_interval(tables.metric(some, "top1"))
        row["balanced (%)"] = tables.mean_interval(tables.metric(some, "balanced_accuracy"))
    return pd.DataFrame(
        rows, columns=["data", "recipe", "model", "network", "top-1 (%)", "balanced (%)"]
    )


def _networks(frame: pd.DataFrame) -> pd.DataFrame:
    """Completed runs of the ledger that were evaluated on test images, each once
    (`records.unique`), with a column `network`.
    """
    frame = records.unique(frame)
    if len(frame):
        frame = frame[frame["dataset.evaluated_on"] == "test"]
    return frame.assign(
        network=[_network(row["model"], records.options_of(row)) for _, row in frame.iterrows()]
    )


def facts(frame: pd.DataFrame, runs: pd.DataFrame) -> dict[str, float]:
    """Means over seeds that a page speaks of, on the synthetic galaxies unless the name says
    otherwise; `frame` is what `read` gives, `runs` the ledger's (`records.frame()`). What has not
    been measured is left out.
    """
    smoke = frame[(frame["data"] == SYNTHETIC) & (frame["recipe"] == "smoke")]
    found: dict[str, pd.Series] = {}
    for network, short in (
        ("as released", "released"),
        ("BlurPool", "blur"),
        ("by construction", "exact"),
    ):
        for weights in WEIGHTS:
            some = newest(smoke[(smoke["network"] == network) & (smoke["weights"] == weights)])
            found[f"lie_{short}_{weights}"] = some["lie"].map(lambda lie: 100 * lie["size"])
            found[f"kept_{short}_{weights}"] = some["consistency"].map(worst_shift)
    released = frame[(frame["data"] == SYNTHETIC) & (frame["network"] == "as released")]
    taught = released[(released["recipe"] == "smoke") & (released["weights"] == "trained")]
    for some, short in (
        (newest(taught), "taught"),
        (newest(released[~released["turned"].astype(bool)]), "untaught"),
    ):
        for move, name in (("rotation by 90°", "turn"), ("mirror image", "mirror")):
            found[f"{name}_{short}"] = some["consistency"].map(
                lambda moved: moved[move]["same class (%)"]  # noqa: B023
            )
    means = {name: float(values.mean()) for name, values in found.items() if len(values)}
    return means | _gaps(runs)


def worst_shift(consistency: dict) -> float:
    """How many images (%) keep their class after the shift after which the fewest do."""
    return min(
        values["same class (%)"] for move, values in consistency.items() if move.startswith("shift")
    )


def _gaps(runs: pd.DataFrame) -> dict[str, float]:
    """Points of top-1 accuracy that a variant lies below the released network, by variant and
    data set.
    """
    table = _networks(runs)
    if not len(table):
        return {}
    # only runs are compared that differ in nothing but the variant and the seed
    table = table.assign(
        recipe=table["recipe.name"].map(tables.spelled),
        alike=[identity.digest(one, but=("seed", "options")) for one in table["identity"]],
    )
    means = (
        plain(table)
        .groupby(["dataset.title", "revision", "alike", "network"])["metrics.top1"]
        .mean()
        .unstack()
    )
    found = {}
    for network, short in (("BlurPool", "blur"), ("by construction", "exact")):
        if network in means:
            gaps = (means["as released"] - means[network]).dropna().reset_index(name="gap")
            for title, some in gaps.groupby("dataset.title"):
                name = f"gap_{short}_{'synthetic' if title == SYNTHETIC else 'real'}"
                found[name] = float(newest(some)["gap"].mean())
    return found


def sample(
    dataset: str, number: int, *, image_size: int | None = None, data_dir: str | None = None
) -> Images:
    """About `number` test images, stratified, the same ones each time."""
    test = data.load(dataset, "test", image_size=image_size, data_dir=data_dir)
    return (
        test
        if number >= len(test)
        else test.take(data.stratified(test.labels, number / len(test), seed=0))
    )
