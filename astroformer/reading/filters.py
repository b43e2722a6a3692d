"""Learned spectral gates: taken from a checkpoint, kept with the book, and measured in frequency
and in the image.

A checkpoint is too large for the book, its gates are not: `keep` writes them to
`book/ledger/filters/NAME-RUN.npz`, half precision, with what must be said beside a figure of them.
Nothing in such a file is executed when it is read.

Reads top to bottom: Filters, `of_checkpoint`, `keep`, `read`, `find`, `described`, `fresh`;
`concentration` of one network and `profile` of one block, `compared` and `facts` of several
networks.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from astroformer import paths
from astroformer.ledger import records
from astroformer.ledger.tables import NOT_RUN
from astroformer.models import MODELS
from astroformer.models.spectformer import SpectralGate, kernel_of
from astroformer.training import load_trained

FOLDER = paths.LEDGER / "filters"
# kept as they are; `options` as JSON
WORDS = ("run", "model", "dataset", "kind", "recipe", "command")
LOW = 0.25  # cycles per position: half of the highest frequency that a grid holds along an axis
MEASURES = ("low frequencies (%)", "radius (pixels)", "at offset zero (%)")
_THREE = "with gates alone, {:.1f}{unit} where attention follows, {:.1f}{unit} as drawn"
IN_WORDS = (
    "{:.1f} % of the gains' energy lie at low frequencies " + _THREE.replace("{unit}", " %"),
    "the kernels' radius is {:.1f} pixels " + _THREE.replace("{unit}", ""),
    "{:.1f} % of the kernels' energy lie at offset zero " + _THREE.replace("{unit}", " %"),
)


@dataclass(frozen=True)
class Filters:
    """The gates of one trained network, in the order of its blocks, and where they come from."""

    run: str  # hash
    model: str
    options: dict  # of timm.create_model
    dataset: str  # title
    kind: str  # "real", "synthetic", ..
    recipe: str
    command: str  # repeats the run
    # block -> stored gains (H, W // 2 + 1, C, 2), real and imaginary parts last
    weights: dict[str, np.ndarray]
    grids: dict[str, tuple[int, int]]  # block -> positions (H, W)

    def kernel(self, block: str) -> np.ndarray:
        """The convolution kernel (H, W, C), with offset zero at [0, 0]."""
        return kernel_of(
            torch.from_numpy(self.weights[block].astype(np.float32)), self.grids[block]
        ).numpy()

    def gains(self, block: str) -> np.ndarray:
        """The complex gain (H, W, C) of every frequency, the constant at [0, 0]: the kernel's
        Fourier transform, so what the gate does, whatever stands in the stored entries that it does
        not read.
        """
        return np.fft.fft2(self.kernel(block), axes=(0, 1))

    def step(self, block: str) -> tuple[float, float]:
        """Pixels from one position to the next, (down, right)."""
        height, width = np.broadcast_to(self.options["img_size"], 2)
        return float(height / self.grids[block][0]), float(width / self.grids[block][1])


# Where they come from


def of_checkpoint(path: str | Path) -> Filters:
    """The gates of a checkpoint; its record in the ledger says what it was trained on."""
    model, described = load_trained(path)
    gates = {name: gate for name, gate in model.named_modules() if isinstance(gate, SpectralGate)}
    if not gates:
        raise ValueError(
            f"{path} holds a network without spectral gates ({described['model']}); "
            "take a spectformer's"
        )
    record = records.completed(described["run"])
    if record is None:
        raise ValueError(
            f"{path}: the ledger holds no completed record of run "
            f"{described['run']}, which would say what it was "
            "trained on; finish the run, or add its record to book/ledger"
        )
    return Filters(
        run=described["run"],
        model=described["model"],
        options=described["options"],
        dataset=record["dataset"]["title"],
        kind=record["dataset"]["kind"],
        recipe=record["recipe"]["name"],
        command=record["command"],
        weights={name: gate.complex_weight.detach().numpy() for name, gate in gates.items()},
        grids={name: gate.grid_size for name, gate in gates.items()},
    )


def keep(path: str | Path, name: str) -> Path:
    """Writes the gates of a checkpoint to `book/ledger/filters/NAME-RUN.npz`, to be committed."""
    records.check_name(name, "book/ledger/filters/NAME-RUN.npz")
    found = of_checkpoint(path)
    with np.errstate(over="ignore"):  # an overflow is refused below, by its infinite result
        weights = {block: weight.astype(np.float16) for block, weight in found.weights.items()}
    if not all(np.isfinite(weight).all() for weight in weights.values()):
        raise ValueError(
            f"{path} has gains that are not finite or too large for half precision; "
            "did the training fail?"
        )
    target = FOLDER / f"{name}-{found.run}.npz"
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        target,
        **{word: np.array(getattr(found, word)) for word in WORDS},
        options=np.array(json.dumps(found.options)),
        blocks=np.array(list(weights)),
        grids=np.array(list(found.grids.values())),
        **{f"weight.{block}": weight for block, weight in weights.items()},
    )
    return target


def read(path: str | Path) -> Filters:
    """What `keep` wrote."""
    try:
        with np.load(path, allow_pickle=False) as file:
            blocks = [str(block) for block in file["blocks"]]
            return Filters(
                **{word: str(file[word]) for word in WORDS},
                options=json.loads(str(file["options"])),
                weights={block: file[f"weight.{block}"] for block in blocks},
                grids={
                    block: (int(height), int(width))
                    for block, (height, width) in zip(blocks, file["grids"])
                },
            )
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not a file of kept filters ({str(error).splitlines()[0]}); "
            "`astroformer ledger --filters CHECKPOINT NAME` writes them"
        ) from error


def find(name: str) -> Filters | None:
    """Filters by a file's path (.npz as kept, .pt a checkpoint) or by the name that they were
    kept under; None if none were.
    """
    if Path(name).suffix in (".npz", ".pt"):
        return read(name) if Path(name).suffix == ".npz" else of_checkpoint(name)
    found = [
        path
        for path in sorted(FOLDER.glob("*.npz"))
        if name in (path.stem, path.stem.rpartition("-")[0])
    ]
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} runs are kept as {name}; choose one of "
            f"{', '.join(path.stem for path in found)}"
        )
    return read(found[0]) if found else None


def described(networks: Mapping[str, Filters | None]) -> pd.DataFrame:
    """What must be said beside a figure of several networks' filters, a row each."""
    return pd.DataFrame(
        [_described(filters) for filters in networks.values()], index=list(networks)
    ).fillna("")


def _described(filters: Filters | None) -> dict[str, str]:
    if filters is None:
        return {"trained on": NOT_RUN}
    sizes = {**MODELS[filters.model], **filters.options}
    depth = sizes["depth"] if "depth" in sizes else sum(sizes["depths"])
    kind = "" if filters.kind in filters.dataset else f" ({filters.kind})"
    return {
        "trained on": f"{filters.dataset}{kind}",
        "recipe": filters.recipe,
        "model": filters.model,
        "spectral blocks": f"{len(filters.weights)} of {depth}",
        "run": filters.run,
    }


def fresh(filters: Filters, seed: int = 0) -> Filters:
    """The same gates as a new network draws them: what a measure of learned ones must be held
    against.
    """

    def drawn(weight: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        return SpectralGate(weight.shape[2], grid).complex_weight.detach().numpy()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = {
            block: drawn(weight, filters.grids[block]) for block, weight in filters.weights.items()
        }
    return replace(filters, weights=weights)


# What they do


def concentration(filters: Filters) -> pd.DataFrame:
    """How concentrated each block's gates are: one row a block, the mean over channels of MEASURES.

    low frequencies: part of the gains' energy (squared magnitude, all frequencies) at no more than
    LOW cycles per position
    radius: root of the kernel's mean squared distance from offset zero, weighted by the kernel's
        energy; distances around the torus, the shorter way
    at offset zero: part of the kernel's energy there, where a gate does no more than scale its
    channel
    """
    return pd.DataFrame({block: _concentration(filters, block) for block in filters.weights}).T


def _concentration(filters: Filters, block: str) -> dict[str, float]:
    (frequency, gains), (distance, kernel) = (
        energy(filters, block, what) for what in ("gains", "kernel")
    )
    measured = (
        100 * gains[frequency <= LOW].sum(0),  # (C,)
        np.sqrt((kernel * distance[..., None] ** 2).sum((0, 1))),  # (C,)
        100 * kernel[0, 0],
    )  # (C,)
    return {name: float(values.mean()) for name, values in zip(MEASURES, measured)}


def energy(filters: Filters, block: str, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the "gains", the length of each frequency (H, W) in cycles per position; of the "kernel",
    the length of each offset in pixels; and the part of the energy that lies there, (H, W, C), 1 in
    all for each channel.
    """
    (height, width), (down, right) = filters.grids[block], filters.step(block)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    if what == "gains":
        length, values = np.hypot(rows, columns), np.abs(filters.gains(block)) ** 2
    else:
        # offsets lie in a kernel as frequencies do in its transform: 0, 1, .. and back from the
        # most negative to -1
        length, values = (
            np.hypot(rows * height * down, columns * width * right),
            filters.kernel(block).astype(np.float64) ** 2,
        )
    return length, values / values.sum((0, 1))


def profile(filters: Filters, block: str, what: str) -> pd.Series:
    """The energy of `energy` in rings as wide as the grid resolves, mean over channels, over that
    of an even spread: index the rings' mean length, up to where a ring no longer closes.
    """
    length, parts = energy(filters, block, what)
    step = 1 / min(filters.grids[block]) if what == "gains" else min(filters.step(block))
    ring = np.rint(length / step).astype(int)
    whole = ring <= min(filters.grids[block]) // 2
    table = pd.DataFrame(
        {"ring": ring[whole], "length": length[whole], "energy": parts.mean(2)[whole] * length.size}
    )
    return table.groupby("ring").mean().set_index("length")["energy"]


def compared(networks: Mapping[str, Filters | None]) -> pd.DataFrame:
    """MEASURES of several networks, a row a block, counted from 1; the last row is a gate as a new
    network draws it. A network whose filters were not kept says so; one that has no gate in a block
    has an empty cell.
    """
    known = {name: filters for name, filters in networks.items() if filters is not None}
    rows = max((len(filters.weights) for filters in known.values()), default=0)
    index = [*(f"block {i + 1}" for i in range(rows)), "as drawn"]
    lacking = pd.DataFrame(NOT_RUN, index=index, columns=list(MEASURES))
    tables = {
        name: lacking if filters is None else _by_block(filters, index)
        for name, filters in networks.items()
    }
    return (
        pd.concat(tables, axis=1)
        .swaplevel(axis=1)
        .reindex(columns=pd.MultiIndex.from_product([MEASURES, list(networks)]))
    )


def _by_block(filters: Filters, index: list[str]) -> pd.DataFrame:
    measured, drawn = concentration(filters), concentration(fresh(filters)).mean()
    measured.index = [f"block {i + 1}" for i in range(len(measured))]
    return (
        pd.concat([measured, drawn.to_frame("as drawn").T])
        .round(1)
        .reindex(index)
        .astype(object)
        .fillna("")
    )


def facts(networks: Mapping[str, Filters | None]) -> dict[str, object]:
    """What the measures of two networks say, gates alone first, for the sentences of a page."""
    if any(filters is None for filters in networks.values()):
        lacking = " and ".join(name for name, filters in networks.items() if filters is None)
        return {"verdict": f"Nothing can be said yet: the filters of {lacking} are not kept."}
    alone, mixed = (concentration(filters) for filters in networks.values())
    drawn, shared = (
        concentration(fresh(next(iter(networks.values())))).mean(),
        min(len(alone), len(mixed)),
    )
    sentences = [f"In the first {shared} blocks, which both networks have, on average:"]
    for measure, words in zip(MEASURES, IN_WORDS):
        one, other = (table[measure].iloc[:shared].to_numpy() for table in (alone, mixed))
        sentences.append(
            f"{words.format(one.mean(), other.mean(), drawn[measure])} (larger with "
            "gates alone in "
            f"{(one > other).sum()} of {shared} "
            f"blocks){'.' if words is IN_WORDS[-1] else ';'}"
        )
    return {"verdict": " ".join(sentences)}
