"""Checkpoints: written whole or not at all, read without executing anything, the previous one kept.

`last.pt` is the newest, `previous.pt` the one before. A process killed between two writes leaves a
readable one of the two.
"""

import argparse
import os
import pathlib
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

FORMAT = "astroformer checkpoint 1"
# What torch and pickle raise of a file that is none of theirs, a text or an image.
UNREADABLE = (
    *(RuntimeError, pickle.UnpicklingError, EOFError, OSError),
    *(ValueError, KeyError, IndexError, AttributeError, TypeError),
)

# What other programs keep beside the weights and is plain: numbers and arrays of NumPy (its module
# has had two names), paths, the arguments of a run (DeiT). Each with the name by which a file knows
# it. Nothing of them runs code.
_MULTIARRAY = getattr(np, "_core", None) or np.core
_DTYPES = [
    kind
    for kind in vars(np.dtypes).values()
    if isinstance(kind, type) and issubclass(kind, np.dtype) and kind is not np.dtypes.ObjectDType
]
PLAIN = (
    *(
        (getattr(_MULTIARRAY.multiarray, name), f"numpy.{core}.multiarray.{name}")
        for name in ("scalar", "_reconstruct")
        for core in ("core", "_core")
    ),
    *((kind, f"numpy.{kind.__name__}") for kind in (np.ndarray, np.dtype)),
    *((kind, f"numpy.dtypes.{kind.__name__}") for kind in _DTYPES),
    *(
        (kind, f"{module}.{kind.__name__.removeprefix(pure)}")
        for kind in (pathlib.PurePosixPath, pathlib.PureWindowsPath)
        for pure in ("", "Pure")
        for module in ("pathlib", "pathlib._local")
    ),
    argparse.Namespace,
)
# torch's words for what it does not read
UNKNOWN_CLASS = re.compile(r"GLOBAL (\S+) (?:was not|whose module)|but got <class '([^']+)'>")
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal's colours


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
    """What torch or safetensors saved in a file, tensors on the CPU; nothing in it is executed.
    ValueError if it "cannot be read as" what was `meant`, with the class that is refused.
    """
    try:
        if _is_safetensors(path):
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(list(PLAIN)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (*UNREADABLE, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as {meant}{_reason(error)}") from error


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as that format does: the length of a JSON text, and the text."""
    with open(path, "rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _reason(error: Exception) -> str:
    text = ESCAPES.sub("", str(error))
    refused = UNKNOWN_CLASS.search(text)
    if refused:
        return (
            f": it holds an object of {refused[1] or refused[2]}, and reading that could run code "
            "of whoever made the file; save the weights alone where it came from, with "
            "torch.save(network.state_dict(), FILE)"
        )
    first = text.splitlines()[0] if text else type(error).__name__
    return f"; it is truncated or another program's file ({first})"


def evaluated(state: dict, *, average: bool | None = None) -> dict[str, Tensor]:
    """The weights of a checkpoint by which the run is judged: their average where one was kept.

    average: True asks for it (ValueError where there is none), False for those of the last step
    """
    if average and not state["average"]:
        raise ValueError(
            "the checkpoint holds no average of the weights (EMA): its recipe has ema_decay=0; "
            "leave out --ema"
        )
    return (state["average"] if average is not False else None) or state["weights"]


def read(path: Path) -> dict:
    """A checkpoint of this project, tensors on the CPU. Anything else raises ValueError with the
    file's name.
    """
    state = load(path, "a checkpoint")
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
