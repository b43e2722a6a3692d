"""Checkpoints: written whole or not at all, read without executing anything, the previous one kept.

`last.pt` is the newest, `previous.pt` the one before. A process killed between two writes leaves a
readable one of the two.
"""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

FORMAT = "astroformer checkpoint 1"
# What torch and pickle raise of a file that is none of theirs, a text or an image.
UNREADABLE = (
    *(RuntimeError, pickle.UnpicklingError, EOFError, OSError),
    *(ValueError, KeyError, IndexError, AttributeError, TypeError),
)


def save(state: dict, folder: Path) -> Path:
    """Writes `state` as `folder/last.pt`; what was last becomes previous. OSError in one line if
    there is no room: then nothing half-written stays, and the older ones do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last, previous, part = (
        folder / "last.pt",
        folder / "previous.pt",
        folder / f"part-{os.getpid()}.pt",
    )
    try:
        with open(part, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            # the name must not point to bytes that a power cut loses
            os.fsync(file.fileno())
        if last.exists():
            os.replace(last, previous)
        os.replace(part, last)
    except BaseException as error:
        part.unlink(missing_ok=True)
        # torch's writer raises a RuntimeError on a full disk
        if isinstance(error, RuntimeError) and "unexpected pos" in str(error):
            raise no_room(state, folder, "the disk is full") from error
        if isinstance(error, OSError):
            raise no_room(state, folder, error.strerror or str(error)) from error
        raise
    return last


def size_of(state: object) -> int:
    """About how many bytes a state takes: those of its tensors."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, dict) else state
    return sum(map(size_of, parts)) if isinstance(state, dict | list | tuple) else 0


def no_room(state: dict, folder: Path, why: str) -> OSError:
    needed, free = size_of(state), shutil.disk_usage(folder).free
    return OSError(
        f"no checkpoint could be written into {folder}: it takes about {needed / 1e6:,.1f} MB, "
        f"{free / 1e6:,.1f} MB are free there ({why}); make room, or set ASTROFORMER_RUNS to a "
        "folder on a larger disk; the same command goes on from the checkpoint before"
    )


def is_finished(path: Path, run: str) -> bool:
    """Whether the file holds the weights of a run's last step. Reads no weights."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return (state["run"], state["step"]) == (run, state["steps"])
    except UNREADABLE:
        return False


def load(path: Path, meant: str) -> object:
    """What torch saved in a file, tensors on the CPU. ValueError if it "cannot be read as" what
    was `meant`.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise ValueError(
            f"{path} cannot be read as {meant} "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error


def evaluated(state: dict) -> dict[str, Tensor]:
    """The weights of a checkpoint by which the run is judged: their average where one was kept."""
    return state["average"] or state["weights"]


def read(path: Path) -> dict:
    """A checkpoint of this project, tensors on the CPU. Anything else raises ValueError with the
    file's name.
    """
    state = load(path, "a checkpoint; it is truncated or another program's file")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of this project; `astroformer train` writes them"
        )
    return state


def newest(folder: Path, run: str, report: Callable[[str], None]) -> dict | None:
    """The newest readable checkpoint of `run` (its hash) in `folder`; each file passed over is
    named through `report`.
    """
    for name in ("last.pt", "previous.pt"):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = read(path)
        except ValueError as error:
            report(f"{error}; trying the one before")
            continue
        if state["run"] != run:
            report(f"{path} belongs to run {state['run']}, not {run}; trying the one before")
            continue
        return state
    return None
