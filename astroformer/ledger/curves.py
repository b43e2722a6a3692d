"""The loss and the norm of the gradient of every step of a run, kept beside its record: one file a
run. They show what the numbers of each epoch hide, spikes and the step at which a run diverges.

Committed files lie in `book/ledger/curves/RUN.npz`, those of this machine in `curves/` below the
local ledger.
"""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from astroformer import paths


@dataclass(frozen=True)
class Curve:
    """S steps; what was not finite is NaN or infinite here too."""

    loss: np.ndarray  # (S,) float32, mean over the batch, in nats
    norm: np.ndarray  # (S,) float32, of all gradients together, before clipping


def write(run: str, curve) -> Path:
    """Keeps (2, S), a tensor or an array: loss and norm of each step, beside the run's local
    record.
    """
    loss, norm = np.asarray(curve.cpu() if hasattr(curve, "cpu") else curve, dtype=np.float32)
    return save(Curve(loss, norm), local(run))


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
    for path in (committed(run), local(run)):
        if path.is_file():
            try:
                with np.load(path, allow_pickle=False) as file:
                    return Curve(file["loss"].astype(np.float32), file["norm"].astype(np.float32))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise ValueError(
                    f"{path} is no file of a run's curve ({error}); delete it, and make it again "
                    "with `astroformer train ... --force`"
                ) from error
    return None


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
    curve = read(run)
    # float16 ends at 65,504: a larger value is shown as infinite, which it may as well be
    with np.errstate(over="ignore"):
        half = Curve(curve.loss.astype(np.float16), curve.norm.astype(np.float16))
    return save(half, committed(run))
