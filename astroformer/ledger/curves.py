"""The loss and the norm of the gradient of every step of a run, kept beside its record: one file a
run. They show what the numbers of each epoch hide, spikes and the step at which a run diverges.

Committed files lie in `book/ledger/curves/RUN.npz`, those of this machine in `curves/` below the
local ledger.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from astroformer import paths
from astroformer.ledger.predictions import UNREADABLE


@dataclass(frozen=True)
class Curve:
    """S steps; what was not finite is NaN or infinite here too."""

    loss: np.ndarray  # (S,) float32, mean over the batch, in nats
    norm: np.ndarray  # (S,) float32, of all gradients together, before clipping


def write(run: str, curve) -> Path:
    """Keeps (2, S), a tensor or an array: loss and norm of each step, beside the run's local
    record. ValueError for another shape.
    """
    both = np.asarray(curve.cpu() if hasattr(curve, "cpu") else curve, dtype=np.float32)
    if both.ndim != 2 or len(both) != 2:
        raise ValueError(f"a curve of shape {both.shape} is not (2, steps): the losses, the norms")
    return save(Curve(both[0], both[1]), local(run))


def save(curve: Curve, path: Path) -> Path:
    """Replaces the file in one step: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with open(partial, "wb") as file:
        np.savez_compressed(file, loss=curve.loss, norm=curve.norm)
    os.replace(partial, path)
    return path


def read(run: str) -> Curve | None:
    """The curve of a run, by its hash: a committed one first; None if there is none. ValueError
    for a file that is not one.
    """
    found = [path for path in (committed(run), local(run)) if path.is_file()]
    return load(found[0]) if found else None


def load(path: Path) -> Curve:
    """One file of a curve; ValueError for a file that is not one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            loss, norm = file["loss"], file["norm"]
        if (
            loss.ndim != 1
            or loss.shape != norm.shape
            or {loss.dtype.kind, norm.dtype.kind} != {"f"}
        ):
            raise ValueError(f"{loss.dtype} {loss.shape} and {norm.dtype} {norm.shape}")
        return Curve(loss.astype(np.float32), norm.astype(np.float32))
    except UNREADABLE as error:
        raise ValueError(
            f"{path} is no file of a run's curve ({error}); delete it, and make it again "
            "with `astroformer train ... --force`"
        ) from error


def committed(run: str) -> Path:
    """Where the book's own curve of a run lies, or would."""
    return paths.LEDGER / "curves" / f"{run}.npz"


def local(run: str) -> Path:
    """The same of this machine's."""
    return paths.local_ledger() / "curves" / f"{run}.npz"


def keep(run: str) -> Path | None:
    """Copies a run's local curve to the committed ones, in half precision; None if it has none."""
    if not local(run).is_file():
        return None
    curve = load(local(run))
    return save(Curve(_halved(curve.loss), _halved(curve.norm)), committed(run))


def _halved(values: np.ndarray) -> np.ndarray:
    """As float16, which ends at 65,504: what is finite stays so, as the measures of stability leave
    out what is not.
    """
    largest = float(np.finfo(np.float16).max)
    held = np.where(np.isfinite(values), np.clip(values, -largest, largest), values)
    return held.astype(np.float16)
