"""Equivariance of trained networks, measured once and kept, so that pages can show it with the
spread over seeds.

A measurement is one JSON line about one checkpoint, or about the same network as it was drawn
before training. It bears the hash of its run, whose record in the ledger says the rest: recipe,
data, seed. The lines lie in `book/ledger/equivariance/*.jsonl`, append-only, one file per machine
and job.

Reads top to bottom: `measure`, append and read, tables, the verdict on the claim that the network
moves with its image. Comparisons between networks are in comparisons.py, the causes of the errors
in causes.py.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from astroformer import contrasts, data, paths
from astroformer.data import Images
from astroformer.data.augment import normalise
from astroformer.equivariance import lie_derivative
from astroformer.equivariance import network as equivariance
from astroformer.equivariance.consistency import SHIFTS, consistency
from astroformer.ledger import identity, records, tables
from astroformer.models import create
from astroformer.recipes import get_recipe
from astroformer.training import Run, fit, load_trained
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
    few = batch(images, described)
    moved = consistency(
        model, images, mean=described["mean"], std=described["std"], shifts=shifts
    ).set_index("move")
    errors = precisions(model, few)
    by_kind = lie_derivative.by_kind(model, few)
    return {
        "run": described["run"],
        "weights": weights,
        "model": described["model"],
        "options": dict(described["options"]),
        "errors": errors,
        "lie": {"size": by_kind.attrs["total"], "by_kind": by_kind.to_dict("index")},
        "consistency": moved.to_dict("index"),
        **conditions(images),
    }


def batch(images: Images, described: dict, *, number: int | None = None) -> torch.Tensor:
    """(B, 3, H, W) FEW of the images (or so many), spread evenly over them, normalised for a
    checkpoint's network, in double precision.
    """
    few = images.take(np.linspace(0, len(images) - 1, min(number or FEW, len(images))).astype(int))
    pixels = torch.from_numpy(few.array()).permute(0, 3, 1, 2)
    return normalise(pixels, described["mean"], described["std"], dtype=torch.float64)


def conditions(images: Images) -> dict:
    """What a measurement says of its images, its machine and its time."""
    return {
        "dataset": asdict(images.about) | {"split": images.split, "images": len(images)},
        "device": records.device_name(torch.device("cpu")),
        "versions": records.versions(),
        "git": records.git_state(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def record_of(described: dict) -> dict:
    """The ledger's record of a checkpoint's run."""
    record = records.completed(described["run"])
    if record is None:
        raise ValueError(
            f"the ledger holds no completed record of run {described['run']}, so its "
            "seed is not known; "
            "`astroformer train` makes one, `astroformer ledger` lists them"
        )
    return record


def as_drawn(described: dict) -> nn.Module:
    """The network of a checkpoint as it was before the first step: drawn by the seed of its run,
    as `fit` draws it.
    """
    seed = record_of(described)["seed"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create(described["model"], **described["options"]).eval()


def precisions(model: nn.Module, images: torch.Tensor) -> dict[str, dict[str, dict[str, float]]]:
    """{"S4": {"16": {"float64": ..., "float32": ...}, "1": ...}, "logits": ...}, mean over the
    images (B, 3, H, W)
    """
    found = {}
    for dtype in equivariance.ROUNDING:
        model = model.to(dtype)  # from single to double and back loses nothing
        for (part, pixels), error in equivariance.mean_at_two_shifts(model, images).items():
            found.setdefault(part, {}).setdefault(str(pixels), {})[
                equivariance.precision(dtype)
            ] = error
    return found


def keep(measurement: dict, name: str) -> Path:
    """Adds a measurement to `book/ledger/equivariance/NAME.jsonl`."""
    return records.write_line(
        measurement, records.named(name, FOLDER, shown="book/ledger/equivariance")
    )


def keep_here(measurement: dict) -> Path:
    """Adds a measurement to this job's file below the local ledger."""
    return records.write_line(measurement, local_folder() / records.job_name())


def local_folder() -> Path:
    """Measurements made on this machine and not (yet) committed."""
    return paths.local_ledger() / "equivariance"


def lines_in(folders: Iterable[Path]) -> list[dict]:
    """The measurements in all files of some folders, oldest first."""
    files = [path for folder in folders for path in sorted(folder.glob("*.jsonl"))]
    lines = [line for path in files for line in records.read_file(path)]
    return sorted(lines, key=lambda line: line["measured"])


def read(folder: Path | None = None) -> pd.DataFrame:
    """The newest measurement of each run and kind of weights in a folder, or among those committed
    and those of this machine, with what the ledger says of the run:
    columns `network` (as in equivariance.switches), `recipe`, `data`, `seed`, `turned` (the recipe
    turns or reflects its images), `identity`, `group` and `revision` (as in `records.frame`) before
    those of the measurement.
    """
    folders = (FOLDER, local_folder()) if folder is None else (folder,)
    frame = pd.DataFrame(lines_in(folders))
    if not len(frame):
        return pd.DataFrame(columns=["network", "recipe", "data", "seed", "run", "weights"])
    frame = frame.drop_duplicates(["run", "weights"], keep="last").reset_index(drop=True)
    runs = {record["run"]: record for record in records.read() if record["status"] == "completed"}
    missing = [run for run in frame["run"] if run not in runs]
    if missing:
        raise ValueError(
            f"{' or '.join(map(str, folders))} measures run {missing[0]}, of which the ledger "
            "holds no record; keep it too: astroformer ledger --keep"
        )
    of = [runs[run] for run in frame["run"]]
    about = pd.DataFrame(
        {
            "network": [named(row["model"], row["options"]) for row in of],
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


def named(model: str, options: dict) -> str:
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


# Tables over seeds. `frame` is what `read` gives, or some rows of it.

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


def over_groups(frame: pd.DataFrame, said: Callable[[pd.DataFrame], str]) -> pd.Series:
    """What is said of the rows of each group, by the words of GROUP."""
    found = {tuple(words.values()): said(some) for words, some in grouped(frame)}
    index = pd.MultiIndex.from_tuples(list(found), names=GROUP)
    return pd.Series(list(found.values()), index=index, name="value")


def spread(
    frame: pd.DataFrame, value: Callable[[pd.Series], float], *, digits: int = 1
) -> pd.Series:
    """`value(row)` over the seeds of each group, as `tables.mean_interval` has it."""
    return over_groups(
        frame,
        lambda some: tables.mean_interval([value(row) for _, row in some.iterrows()], digits),
    )


def same_class(
    frame: pd.DataFrame, moves: list[str], *, what: str = "same class (%)"
) -> pd.DataFrame:
    """One row a group, one column a move: `tables.mean_interval` over seeds, that of a share for
    "same class (%)". What a theorem promises, and what is found so in every seed, is "exact".
    """

    def said(some: pd.DataFrame, move: str) -> str:
        found = [moved[move][what] for moved in some["consistency"]]
        promised = 100.0 if what == "same class (%)" else 0.0
        if set(found) == {promised} and moves_exactly(some.iloc[0], move):
            return f"{promised:.0f}, exact ({len(found)})"
        return tables.mean_interval(found, 1, share=what == "same class (%)")

    return pd.DataFrame(
        {move: over_groups(frame, lambda some: said(some, move)) for move in moves}  # noqa: B023
    ).reset_index()


def moves_exactly(row: pd.Series, move: str) -> bool:
    """Does the network of a measurement keep its predictions under this move by construction? A
    shift does no harm where strides follow the image, or where it is a multiple of the whole
    stride and nothing but strides is left.
    """
    network = row["network"].partition(",")[0]
    if not move.startswith("shift by "):
        return False
    whole = max(map(int, row["errors"]["logits"]))
    return network == "by construction" or (
        network in ("BlurPool", "strides alone") and int(move.split()[2]) % whole == 0
    )


def curves(frame: pd.DataFrame, what: str = "same class (%)") -> pd.DataFrame:
    """For drawing shares in percent, long: group columns, `shift` in pixels, `mean`, and the ends
    `low` and `high` of its 95 % interval over seeds on the logit scale, within 0 and 100; the mean
    itself where there is none.
    """
    rows = []
    for words, some in grouped(frame):
        for move in some.iloc[0]["consistency"]:
            if move.startswith("shift by "):
                found = contrasts.mean([row[move][what] for row in some["consistency"]])
                inside = contrasts.on_logit_scale(found)
                known = found.n >= tables.LEAST and not math.isnan(inside.low)
                ends = {
                    "low": inside.low if known else found.estimate,
                    "high": inside.high if known else found.estimate,
                }
                rows.append(words | {"shift": int(move.split()[2]), "mean": found.estimate} | ends)
    return pd.DataFrame(rows)


def errors_over_seeds(frame: pd.DataFrame, part: str = "logits") -> pd.DataFrame:
    """Relative errors of a part, long: group columns, `seeds`, `pixels`, `precision`, the
    geometric mean over the seeds (they span powers of ten), and the least and the largest.
    """
    rows = []
    for words, some in grouped(frame):
        for pixels in sorted(some.iloc[0]["errors"][part], key=int, reverse=True):
            for precision in ("float64", "float32"):
                found = np.array([one[part][pixels][precision] for one in some["errors"]])
                rows.append(
                    words
                    | {
                        "seeds": len(some),
                        "pixels": int(pixels),
                        "precision": precision,
                        # an error of nothing has no logarithm
                        "mean": float(np.exp(np.log(found.clip(1e-17)).mean())),
                        "low": float(found.min()),
                        "high": float(found.max()),
                    }
                )
    return pd.DataFrame(rows)


def error_table(
    frame: pd.DataFrame, part: str = "logits", *, precision: str = "float64"
) -> pd.DataFrame:
    """`errors_over_seeds` in one precision as a page shows them: a row a group, a column a shift,
    `geometric mean (least to largest)`.
    """
    found = errors_over_seeds(frame, part).query("precision == @precision")
    shown = found.assign(
        text=[sized(row["mean"], row["low"], row["high"]) for _, row in found.iterrows()],
        shift=[f"{pixels} px" for pixels in found["pixels"]],
    )
    wide = shown.pivot_table(
        index=[*GROUP, "seeds"], columns="shift", values="text", aggfunc="first", sort=False
    )
    return wide.rename_axis(columns=None).reset_index()


def sized(mean: float, low: float, high: float) -> str:
    """A relative error and its range in percent; of rounding, as powers of ten."""
    if mean < equivariance.ROUNDING[torch.float32]:
        return f"{mean:.0e} ({low:.0e} to {high:.0e})"
    return f"{size(mean)} ({rounded(100 * low)} to {rounded(100 * high)})"


def size(error: float) -> str:
    """A relative error in percent, to a digit at least; one of rounding as a power of ten."""
    if error < equivariance.ROUNDING[torch.float32]:
        return f"{error:.0e}"
    return f"{rounded(100 * error)} %" if error >= 1e-3 else f"{100 * error:.1g} %"


def rounded(percent: float) -> str:
    """A number to a whole, one below ten to a tenth; never a negative zero."""
    text = f"{percent:.0f}" if abs(percent) >= 9.95 else f"{percent:.1f}"
    return text.lstrip("-") if float(text) == 0 else text


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


# The verdict on "the network keeps translational equivariance".


def changes(frame: pd.DataFrame) -> pd.DataFrame:
    """How far the logits of trained networks as released change, in percent of their size: a row
    for each data set, with `runs`, the `whole` stride in pixels, and over the runs the least and
    the largest change for one pixel (`pixel low`, `pixel high`) and for the whole stride.
    """
    released = frame[(frame["network"] == "as released") & (frame["weights"] == "trained")]
    rows = []
    for data_set, some in released.groupby("data", sort=False):
        of_logits = [errors["logits"] for errors in some["errors"]]
        whole = max(map(int, of_logits[0]))
        row = {"data": data_set, "runs": len(some), "whole": whole}
        for name, pixels in (("pixel", "1"), ("stride", str(whole))):
            found = [100 * error[pixels]["float64"] for error in of_logits]
            row |= {f"{name} low": min(found), f"{name} high": max(found)}
        rows.append(row)
    return pd.DataFrame(rows)


def verdict(checks: pd.DataFrame, found: pd.DataFrame) -> tuple[str, str]:
    """(verdict, reason) for "the network keeps translational equivariance", from
    `network.attention_checks` and `changes` of trained networks. Reproduced if the released
    network moves with its image, by whole strides at least; partly if only the attention does, on
    a grid without edges; contradicted if not even that.
    """
    theorem = equivariance.facts(checks)["theorem_error"]
    limit = equivariance.ROUNDING[torch.float64]
    if not len(found):
        return tables.NOT_RUN, "no trained network was measured"
    stride, pixel = found["stride high"].max() / 100, found["pixel high"].max() / 100
    runs = f"{found['runs'].sum()} trained networks as released"
    if max(stride, pixel) < limit:
        return "reproduced", (
            f"the logits of {runs} change by {max(stride, pixel):.0e} of their size at most"
        )
    if stride < limit:
        return "partly", (
            f"true of {runs} for shifts by whole strides ({stride:.0e}); for one pixel the logits "
            f"change by {ranges(found, 'pixel')}"
        )
    if theorem < limit:
        return "partly", (
            "true of relative attention on a grid without edges (largest error "
            f"{theorem:.0e}); the logits of {runs} change by {ranges(found, 'pixel')} for one "
            f"pixel, and by {ranges(found, 'stride')} for the whole stride of "
            f"{found['whole'].max()} pixels"
        )
    return (
        "contradicted",
        f"not even relative attention moves with its input on a grid without edges ({theorem:.0e})",
    )


def facts(checks: pd.DataFrame, frame: pd.DataFrame) -> dict[str, str]:
    """What pages speak of: `verdict` and `verdict_reason` from `network.attention_checks` and what
    `read` gives; `trained_pixel` and `trained_stride`, the range of `changes` over all data sets
    for one pixel and for the whole stride, in percent.
    """
    found = changes(frame)
    spoken = dict(zip(("verdict", "verdict_reason"), verdict(checks, found)))
    for shift in ("pixel", "stride") if len(found) else ():
        low, high = found[f"{shift} low"].min(), found[f"{shift} high"].max()
        spoken[f"trained_{shift}"] = between(low, high)
    return spoken


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table of relative errors with each number as `size` has it."""
    return table.map(lambda value: value if isinstance(value, str) else size(value))


def ranges(found: pd.DataFrame, shift: str) -> str:
    """`14 to 22 % (synthetic galaxies) and 6 to 12 % (Galaxy Zoo 1)`."""
    return " and ".join(
        f"{between(row[f'{shift} low'], row[f'{shift} high'])} % ({spoken(row['data'])})"
        for _, row in found.iterrows()
    )


def between(low: float, high: float) -> str:
    """`14 to 22`, or one number where both are written alike."""
    ends = list(dict.fromkeys([rounded(low), rounded(high)]))
    return " to ".join(ends)


def spoken(title: str) -> str:
    """A data set's title without what stands in brackets."""
    return re.sub(r"( subset)? \(.*\)$", "", title)


def short_run(
    model: str,
    *,
    image_size: int | None = None,
    seed: int = 0,
    recipe: str = "smoke",
    epochs: int = 0,
    fraction: float = 1.0,
    checkpoint: str = "",
) -> tuple[nn.Module, dict]:
    """The network of one run on the synthetic galaxies, which pages share so that it is trained
    once, and its checkpoint's description; of `checkpoint`, if one is named. `epochs` of 0 are the
    recipe's; what is asked is as of training.Run.
    """
    if checkpoint:
        return load_trained(checkpoint)
    run = Run(
        model=model,
        dataset="galaxies",
        image_size=image_size,
        seed=seed,
        fraction=fraction,
        recipe=get_recipe(recipe, **({"epochs": epochs} if epochs else {})),
    )
    return load_trained(fit(run, need_weights=True, report=lambda line: None).weights)


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
