"""What the error of a network under shifts consists of: the causes, and the share of each.

A cause is something that does not move with the image: strides (patches too), which begin to count
at a fixed pixel; padding with zeros; the bias table, or the position embedding, which knows where
a position lies. Each can be left in the network or repaired in a copy of it with the same weights,
so that n causes make 2^n networks. The worth of a set of causes is the squared relative error of
the logits of the network that has these causes left. Its Shapley values (shapley.py) say how much
of the error each cause makes, and add up to the error of the network as released.

Strides can be repaired in two ways. `aligned`, the one that counts: the image is moved, before the
network sees it, so that the network always begins to count at the same place of its content. What
is computed then is the trained function itself. `polyphase`, which Astroformer has as an option:
each stride keeps the grid with the most energy. That changes the function to one that the weights
were not trained for; with zero padding left, it may choose another grid where the released network
hardly changes, and so make an error that strides are then credited with taking away.

A measurement is one JSON line about one checkpoint, with the ledger's record of its run, in
`book/ledger/equivariance/causes/*.jsonl`. Weights are trained unless a function says `random`.

Reads top to bottom: the networks, their errors, measured and kept, shares, tables.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from astroformer.data import Images
from astroformer.equivariance import network as equivariance
from astroformer.equivariance import shapley, trained
from astroformer.equivariance.consistency import SHIFTS
from astroformer.ledger import identity, records, tables
from astroformer.models import create
from astroformer.training import load_trained
from astroformer.training.evaluate import check_classes

FOLDER = trained.FOLDER / "causes"
STRIDES = "strides"
# By file of the architecture: cause -> what repairs it, other options or a change of the network.
CAUSES: dict[str, dict[str, dict[str, str] | Callable[..., None]]] = {
    "astroformer": {
        STRIDES: equivariance.aligned_images,
        "padding": {"padding": equivariance.REPAIRED["padding"]},
        "bias table": {"offsets": equivariance.REPAIRED["offsets"]},
    },
    "spectformer": {
        STRIDES: equivariance.aligned_images,
        "position embedding": equivariance.positions_alike,
    },
    "spectformer_h": {
        STRIDES: equivariance.aligned_images,
        "padding": equivariance.circular_padding,
    },
}
CAUSES["vit_cifar"] = CAUSES["spectformer"]
WAYS = ("aligned", "polyphase")  # to repair strides
POLYPHASE = {"downsampling": equivariance.REPAIRED["downsampling"]}
GALAXIES = 4  # of a report
AXES = (-1, -2)  # to the right, downwards; the opposite shifts undo them, so make the same error

Errors = dict[frozenset[str], np.ndarray]  # set of causes left -> (images, shifts)


# The networks.


def causes_of(name: str) -> tuple[str, ...]:
    """The causes of a network, by its timm name."""
    found = CAUSES.get(equivariance.architecture(name))
    if found is None:
        raise ValueError(
            f"what breaks {name} cannot be repaired here; the causes are known of the networks "
            "of this library: astroformer_*, spectformer_*, vit_cifar"
        )
    return tuple(found)


def ways_of(name: str) -> tuple[str, ...]:
    """The ways to repair strides that a network has."""
    return WAYS if equivariance.architecture(name) == "astroformer" else WAYS[:1]


def with_causes(
    name: str,
    left: Iterable[str],
    state: Mapping[str, Tensor],
    *,
    way: str = "aligned",
    dtype: torch.dtype = torch.float64,
    **options,
) -> nn.Module:
    """The network with these weights and these causes left, all others repaired."""
    left, changes, repairs = frozenset(left), dict[str, str](), []
    if equivariance.architecture(name) == "astroformer":
        changes |= equivariance.RELEASED
    for cause in causes_of(name):
        if cause in left:
            continue
        repair = CAUSES[equivariance.architecture(name)][cause]
        if cause == STRIDES and way == "polyphase":
            repair = POLYPHASE
        if isinstance(repair, dict):
            changes |= repair
        else:
            repairs.append(repair)
    return equivariance.changed(name, dict(state), changes, tuple(repairs), dtype=dtype, **options)


# Their errors.


@torch.no_grad()
def squared_errors(model: nn.Module, images: Tensor, shifts: Sequence[int]) -> np.ndarray:
    """(B, S) squared relative error of the logits for images (B, C, H, W) and shifts in pixels:
    the norm of their change over their own, squared, mean over a shift to the right and one down.
    """
    still = model(images)
    size = still.square().sum(1)
    found = [
        sum((model(images.roll(shift, axis)) - still).square().sum(1) / size for axis in AXES)
        / len(AXES)
        for shift in shifts
    ]
    return torch.stack(found, 1).double().numpy()


def errors(
    name: str,
    images: Tensor,
    shifts: Sequence[int],
    state: Mapping[str, Tensor],
    *,
    way: str = "aligned",
    **options,
) -> Errors:
    """`squared_errors` of all 2^n networks, in the precision of the images."""
    return {
        left: squared_errors(
            with_causes(name, left, state, way=way, dtype=images.dtype, **options), images, shifts
        )
        for left in shapley.subsets(causes_of(name))
    }


# Measured and kept.


def measure(checkpoint: str | Path, images: Images, *, shifts: Sequence[int] = SHIFTS) -> dict:
    """One measurement of a checkpoint's network on `trained.FEW` of these images, in double
    precision. The network's whole stride is measured too if it is no one of the shifts.

    squared: way -> causes left, joined by "+" -> (images, shifts)
    training: the ledger's record of the run, without its history
    """
    model, described = load_trained(checkpoint)
    check_classes(checkpoint, described, images, "Measure")
    name, run = described["model"], trained.record_of(described)
    whole = equivariance.whole_stride(model)
    shifts = sorted({*shifts, whole})
    batch = trained.batch(images, described)
    options = own(described)
    found = {
        way: errors(name, batch, shifts, model.state_dict(), way=way, **options)
        for way in ways_of(name)
    }
    return {
        "run": described["run"],
        "model": name,
        "options": dict(described["options"]),
        "whole_stride": whole,
        "shifts": shifts,
        "squared": {
            way: {
                "+".join(cause for cause in causes_of(name) if cause in left): [
                    [float(f"{value:.5g}") for value in row] for row in made.tolist()
                ]
                for left, made in of_way.items()
            }
            for way, of_way in found.items()
        },
        "training": {
            field: value for field, value in run.items() if field not in ("history", "origin")
        },
        **trained.conditions(images),
    }


def own(described: dict) -> dict:
    """The options of a checkpoint's network, but for those that are causes."""
    return {
        option: value
        for option, value in described["options"].items()
        if option not in equivariance.RELEASED
    }


def keep(measurement: dict, name: str) -> Path:
    """Adds a measurement to `book/ledger/equivariance/causes/NAME.jsonl`."""
    return records.write_line(
        measurement, records.named(name, FOLDER, shown="book/ledger/equivariance/causes")
    )


def keep_here(measurement: dict) -> Path:
    """Adds a measurement to this job's file below the local ledger."""
    return records.write_line(measurement, local_folder() / records.job_name())


def local_folder() -> Path:
    """Measurements made on this machine and not (yet) committed."""
    return trained.local_folder() / "causes"


def read(folder: Path | None = None) -> pd.DataFrame:
    """The newest measurement of each run, in a folder, or among those committed and those of this
    machine: `network`, `data`, `recipe`, `seed`, `group` and
    `revision`, as in `trained.read`, before the columns of the measurement.
    """
    folders = (FOLDER, local_folder()) if folder is None else (folder,)
    frame = pd.DataFrame(trained.lines_in(folders))
    if not len(frame):
        return pd.DataFrame(columns=["network", "data", "model", "seed", "run"])
    runs = list(frame["training"])
    about = pd.DataFrame(
        {
            "network": [trained.named(run["model"], run["options"]) for run in runs],
            "data": [run["dataset"]["title"] for run in runs],
            "recipe": [tables.spelled(run["recipe"]["name"]) for run in runs],
            "seed": [run["seed"] for run in runs],
            "group": [identity.group(run) for run in runs],
            "revision": [identity.revision(run) for run in runs],
        }
    )
    every = pd.concat([about, frame], axis=1)
    return every.drop_duplicates(["group", "seed"], keep="last").reset_index(drop=True)


def about(frame: pd.DataFrame, model: str, run: str) -> pd.DataFrame:
    """Of what `read` gives, the measurements to show beside a run: of all seeds that were trained
    as it was, if it was measured; else of its model; else of the smallest Astroformer.
    """
    alike = frame[frame["group"].isin(frame.loc[frame["run"] == run, "group"])]
    of_model = frame[frame["model"] == model]
    usual = frame[frame["model"] == "astroformer_pico"]
    return next((some for some in (alike, of_model) if len(some)), usual)


# Shares.


def divided(worths: Sequence[Errors]) -> pd.DataFrame:
    """Shares of the squared error in percent, a row for each cause: `worths` has the errors of
    each seed, set of causes -> (images,).

    mean, low, high: Shapley shares of a seed's error, the mean over its images, over the seeds
    image low, image high: the least and the largest share of the error of a single image
    first in, last in: where the cause is put in alone, and after all others; mean over the seeds
    """
    if not worths:
        raise ValueError("There is no measurement whose error could be divided.")
    over_images = [{left: made.mean() for left, made in worth.items()} for worth in worths]

    def percent(parts, worth) -> pd.DataFrame:
        return pd.DataFrame(
            {
                cause: np.atleast_1d(share)
                for cause, share in shapley.percent(parts(worth), worth).items()
            }
        )

    seeds, first, last = (
        pd.concat([percent(parts, worth) for worth in over_images])
        for parts in (shapley.values, shapley.first_in, shapley.last_in)
    )
    single = pd.concat([percent(shapley.values, worth) for worth in worths])
    return pd.DataFrame(
        {
            "mean": seeds.mean(),
            "low": seeds.min(),
            "high": seeds.max(),
            "image low": single.min(),
            "image high": single.max(),
            "first in": first.mean(),
            "last in": last.mean(),
        }
    )


def worth(line: pd.Series, shifts: Iterable[int], *, way: str = "aligned") -> Errors:
    """What a measurement holds of these shifts: set of causes -> (images,), the mean over them."""
    columns = [line["shifts"].index(shift) for shift in shifts]
    return {
        frozenset(filter(None, left.split("+"))): np.array(made)[:, columns].mean(1)
        for left, made in line["squared"][way].items()
    }


def asked(line: pd.Series) -> dict[str, list[int]]:
    """The shifts that are spoken of, in pixels, by what they are called: one pixel, the whole
    stride or patch, and all of consistency.SHIFTS together.
    """
    whole = int(line["whole_stride"])
    every = [shift for shift in line["shifts"] if shift in SHIFTS]
    return {
        "1 px": [1],
        f"{whole} px (whole stride)": [whole],
        f"{min(every)} to {max(every)} px": every,
    }


def shares(frame: pd.DataFrame, *, way: str = "aligned") -> pd.DataFrame:
    """`divided` over the seeds of each data set and network and for each of `asked`: a row for each
    cause, with columns `data`, `model`, `seeds`, `images`, `shift` and `cause`.
    """
    rows = []
    for some in _groups(frame):
        first = some.iloc[0]
        for words, shifts in asked(first).items():
            found = divided([worth(line, shifts, way=way) for _, line in some.iterrows()])
            about = {
                "data": first["data"],
                "model": first["model"],
                "seeds": len(some),
                "images": len(next(iter(worth(first, shifts).values()))),
                "shift": words,
            }
            rows += [
                about | {"cause": cause} | row.to_dict()
                for cause, row in found.rename_axis("cause").iterrows()
            ]
    return pd.DataFrame(rows)


def _groups(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """For each data set and network the measurements of one training as released over its seeds:
    of several such trainings the newest revision's, of these the one with most seeds.
    """
    released = frame[frame["network"].str.startswith("as released")]
    return [
        max(
            (group for _, group in some.groupby("group", sort=False)),
            key=lambda group: (group["revision"].iloc[0], len(group)),
        )
        for _, some in released.groupby(["data", "model"], sort=False)
    ]


def by_shift(frame: pd.DataFrame, *, way: str = "aligned") -> pd.DataFrame:
    """For drawing: the Shapley values themselves, squared relative errors, by shift: `data`,
    `model`, `shift`, `all`, and a column for each cause; mean over images and seeds. The causes
    add up to `all`.
    """
    rows = []
    for some in _groups(frame):
        first = some.iloc[0]
        for shift in first["shifts"]:
            made = [worth(line, [shift], way=way) for _, line in some.iterrows()]
            mean = {left: np.mean([one[left].mean() for one in made]) for left in made[0]}
            rows.append(
                {
                    "data": first["data"],
                    "model": first["model"],
                    "shift": shift,
                    "all": mean[max(mean, key=len)],
                }
                | {cause: float(value) for cause, value in shapley.values(mean).items()}
            )
    return pd.DataFrame(rows)


def changes(frame: pd.DataFrame) -> pd.DataFrame:
    """How far the logits of the networks as released change, in percent of their size: a row for
    each data set and network, with `runs`, the `whole` stride in pixels, and the least and the
    largest of its seeds, each the mean over its images, for one pixel (`pixel low`, `pixel high`)
    and for the whole stride (`stride low`, `stride high`).
    """
    rows = []
    for some in _groups(frame):
        first = some.iloc[0]
        row = {key: first[key] for key in ("data", "model")} | {"runs": len(some)}
        row["whole"] = int(first["whole_stride"])
        for name, shift in (("pixel", 1), ("stride", row["whole"])):
            found = [worth(line, [shift]) for _, line in some.iterrows()]
            sizes = [100 * np.sqrt(one[max(one, key=len)]).mean() for one in found]
            row |= {f"{name} low": min(sizes), f"{name} high": max(sizes)}
        rows.append(row)
    return pd.DataFrame(rows)


def random_shares(
    name: str,
    images: Tensor,
    *,
    stds: Sequence[float],
    seeds: Sequence[int],
    shifts: Sequence[int],
    **options,
) -> pd.DataFrame:
    """`divided` for random weights: a row for each cause and each standard deviation with which
    the bias table is drawn (column `bias_std`), over seeds and images (B, C, H, W).
    """
    rows = []
    for std in stds:
        worths = []
        for seed in seeds:
            state = equivariance.random_state(name, seed=seed, bias_std=std, **options)
            made = errors(name, images, shifts, state, **options)
            worths.append({left: squared.mean(1) for left, squared in made.items()})
        found = divided(worths).rename_axis("cause").reset_index()
        rows.append(found.assign(bias_std=std))
    return pd.concat(rows, ignore_index=True)


# Tables.


def table(found: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Shares as a page shows them: a row for each value of the columns `by`, a column for each
    cause, `mean (low to high)` over the seeds in percent, then the range of single images.
    """

    def said(row: pd.Series) -> str:
        mean, low, high, least, most = (
            trained.rounded(row[name])
            for name in ("mean", "low", "high", "image low", "image high")
        )
        return f"{mean} ({low} to {high}); {least} to {most}"

    rows = {}
    for _, row in found.iterrows():
        place = tuple(row[name] for name in by)
        rows.setdefault(place, dict(zip(by, place)))[row["cause"]] = said(row)
    return pd.DataFrame(list(rows.values())).fillna("")


def in_words(found: pd.DataFrame) -> str:
    """A sentence for each data set from the rows of `shares` that are to be spoken of: the causes,
    the largest first, with the range over the seeds.
    """
    said = []
    for data, rows in found.groupby("data", sort=False):
        parts = []
        for _, row in rows.sort_values("mean", ascending=False).iterrows():
            mean, low, high = (trained.rounded(row[name]) for name in ("mean", "low", "high"))
            article = "the " if row["cause"] in ("bias table", "position embedding") else ""
            verb = "" if parts else " comes"
            parts.append(f"{mean} % ({low} to {high}){verb} from {article}{row['cause']}")
        said.append(f"On {trained.spoken(data)} {', '.join(parts[:-1])} and {parts[-1]}.")
    return " ".join(said)


def facts(frame: pd.DataFrame) -> dict[str, str | int]:
    """What a page speaks of, from the measurements of Astroformer (`read`): the shares over all
    shifts together in words, by each way to repair strides, the largest share of the bias table in
    any of them, how many seeds and images they are of, and of which network.
    """
    every = {way: shares(frame, way=way) for way in WAYS}
    found = {way: some[some["shift"] == some["shift"].iloc[-1]] for way, some in every.items()}
    bias = pd.concat(found.values()).query("cause == 'bias table'")
    return {f"shares_{way}": in_words(some) for way, some in found.items()} | {
        "share_model": ", ".join(frame["model"].unique()),
        "bias_share": f"{bias['mean'].abs().max():.1g}",
        "share_seeds": int(found[WAYS[0]]["seeds"].min()),
        "share_images": int(found[WAYS[0]]["images"].min()),
    }


def report(
    name: str, *, image_size: int | None = None, checkpoint: str | None = None, seed: int = 0
) -> pd.DataFrame:
    """Shares of the squared error on GALAXIES synthetic galaxies for one network: a row for each
    way to repair strides, shift and cause, in percent. Random weights, or a checkpoint's: then its
    own network and size are meant. The shifts are the powers of two up to the whole stride.
    """
    subject = equivariance.asked(
        name, image_size=image_size, checkpoint=checkpoint, seed=seed, number=GALAXIES
    )
    state = subject.state or equivariance.random_state(subject.model, seed=seed, **subject.options)
    whole = equivariance.whole_stride(create(subject.model, **subject.options))
    shifts = [2**power for power in range(whole.bit_length())]
    rows = []
    for way in ways_of(subject.model):
        made = errors(subject.model, subject.images, shifts, state, way=way, **subject.options)
        for words, columns in [(f"{shift} px", [place]) for place, shift in enumerate(shifts)] + [
            ("all of them", list(range(len(shifts))))
        ]:
            found = divided([{left: some[:, columns].mean(1) for left, some in made.items()}])
            rows += [
                {"strides repaired": way, "shift": words, "cause": cause}
                | {
                    f"{column} (%)": round(float(row[column]), 2)
                    for column in ("mean", "image low", "image high", "first in", "last in")
                }
                for cause, row in found.iterrows()
            ]
    return pd.DataFrame(rows)
