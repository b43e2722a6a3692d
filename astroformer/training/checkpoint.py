"""Checkpoints: written whole or not at all, read without executing anything, the previous one kept.

`last.pt` is the newest, `previous.pt` the one before. A process killed between two writes leaves a
readable one of the two.

Nothing of a file is believed before all of it is looked at: torch reads past the checksums of its
own archive, so that a flipped bit would be trained on. `whole` compares them; `read` asks for every
field with its type; `newest` holds weights and optimizer against those of the training.
"""

import argparse
import os
import pathlib
import pickle
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from astroformer.machine import is_out_of_memory

FORMAT = "astroformer checkpoint 1"
# What torch, pickle and zipfile raise of a file that is none of theirs, a text or an image.
UNREADABLE = (
    *(RuntimeError, pickle.UnpicklingError, EOFError, OSError, struct.error, ArithmeticError),
    *(ValueError, LookupError, AttributeError, TypeError, AssertionError),
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error),
)
# What every checkpoint says, and what going on with its run needs beside it. Fields that came
# later are not among them.
FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("run", "model", "recipe", "dataset"), str),
    **dict.fromkeys(("options", "weights"), dict),
    **dict.fromkeys(("classes", "mean", "std"), list),
    **dict.fromkeys(("step", "steps"), int),
    "image_size": (int, list, tuple),
    "average": (dict, NoneType),
}
TO_GO_ON: dict[str, type | tuple[type, ...]] = {
    "optimizer": (dict, NoneType),
    **dict.fromkeys(("history", "attempts"), list),
    "loss_sum": float,
    "curve": Tensor,
    "started": str,
}
# Of an attempt, what the record of the run and the comparison with the next attempt ask for.
ATTEMPT: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("git", "versions", "execution"), dict),
    **dict.fromkeys(("started", "device"), str),
    **dict.fromkeys(("from_step", "to_step", "images"), int),
    "seconds": (int, float),
}
REFUSED = "refused-"  # begins the name of a file that was put aside

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


def save(state: dict, folder: Path, *, lost: Callable[[], object] = bool) -> Path:
    """Writes `state` as `folder/last.pt`; what was last becomes previous. OSError in one line if
    there is no room: then nothing half-written stays, and the older ones do.

    lost: whether the folder has become another process's; asked before and after the bytes are
        written, and if so everything stays as it is
    """
    folder.mkdir(parents=True, exist_ok=True)
    last, previous, part = (
        folder / "last.pt",
        folder / "previous.pt",
        folder / f"part-{os.getpid()}.pt",
    )
    if lost():
        return last
    try:
        with open(part, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            # the name must not point to bytes that a power cut loses
            os.fsync(file.fileno())
        if lost():
            part.unlink(missing_ok=True)
            return last
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
    """Whether the file holds the weights of a run's last step, undamaged."""
    try:
        check_whole(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return (state["run"], state["step"]) == (run, state["steps"])
    except UNREADABLE:
        return False


def load(path: Path, meant: str) -> object:
    """What torch or safetensors saved in a file, tensors on the CPU; nothing in it is executed.
    ValueError if it "cannot be read as" what was `meant`, with the class that is refused. A want of
    memory says nothing of the file and is raised as it is.
    """
    try:
        check_file(path)
        if _is_safetensors(path):
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(list(PLAIN)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (*UNREADABLE, safetensors.SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{path} cannot be read as {meant}{_reason(error)}") from error


def check_file(path: Path) -> None:
    """ValueError for a folder, a pipe or a device; one could be waited for without an end."""
    if path.exists() and not path.is_file():
        raise ValueError("no file but a folder, a pipe or a device")


def check_whole(path: Path) -> None:
    """ValueError or another of UNREADABLE unless the file is an archive as torch writes it, with
    every byte of its parts as the checksum beside it says (zlib's CRC-32, about a second for two
    gigabytes).
    """
    check_file(path)
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        # an archive of others could unpack to any size
        packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        if packed or sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("its parts are compressed, which torch does not do")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"the checksum of its part {damaged} is another: it is damaged")


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
    """A checkpoint of this project, tensors on the CPU. Anything else, and a damaged one, raises
    ValueError with the file's name.
    """
    try:
        check_whole(path)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise ValueError(f"{path} cannot be read as a checkpoint{_reason(error)}") from error
    state = load(path, "a checkpoint")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of this project; `astroformer train` writes them"
        )
    if wrong := _wrong(state, FIELDS):
        raise ValueError(f"{path} is not a whole checkpoint: {wrong}; another program made it")
    return state


def newest(
    folder: Path, run: str, report: Callable[[str], None], *, like: Mapping | None = None
) -> dict | None:
    """The newest checkpoint of `run` (its hash) in `folder` that can be gone on from. Call it with
    the folder's lock: each file that will not do is named through `report` and put aside, so that
    it never takes the place of a good one.

    like: the state of the training at its start, whose weights and optimizer those of the
        checkpoint must fit
    """
    for name in ("last.pt", "previous.pt"):
        path = folder / name
        if not os.path.lexists(path):
            continue
        try:
            state = read(path)
            if state["run"] != run:
                raise ValueError(f"{path} belongs to run {state['run']}, not {run}")
            if like is not None and (wrong := unlike(state, like)):
                raise ValueError(f"{path} does not fit its run: {wrong}")
        except (ValueError, FileNotFoundError) as error:
            report(f"{error}; {_put_aside(path)}; trying the one before")
            continue
        return state
    return None


def _put_aside(path: Path) -> str:
    """Renames a file that will not do; in words. One that cannot be renamed stays."""
    numbers = ("", *(f"-{number}" for number in range(2, 1_000)))
    names = (f"{REFUSED}{path.stem}{number}{path.suffix}" for number in numbers)
    aside = next(
        (place for name in names if not os.path.lexists(place := path.parent / name)), path
    )
    try:
        os.replace(path, aside)
    except OSError as error:
        return f"it cannot be put aside ({error.strerror})"
    return f"it is put aside as {aside.name}"


def unlike(state: Mapping, like: Mapping) -> str:
    """In what the state of a checkpoint differs from that of the training which it is to become,
    in words; "" where it fits.
    """
    if wrong := _wrong(state, TO_GO_ON):
        return wrong
    if state["steps"] != like["steps"] or not 0 <= state["step"] <= state["steps"]:
        return f"it is at step {state['step']} of {state['steps']}, and there are {like['steps']}"
    for part in ("weights", "average"):
        if wrong := _other_tensors(state[part], like[part]):
            return f"{part}: {wrong}"
    if state["optimizer"] is None and state["step"] < state["steps"]:
        return "the state of the optimizer is missing"
    if state["optimizer"] is not None and (
        wrong := _other_groups(state["optimizer"], like["optimizer"])
    ):
        return f"optimizer: {wrong}"
    if state["curve"].shape != (2, state["step"]):
        return f"curve has the shape {tuple(state['curve'].shape)}"
    if not all(isinstance(entry, dict) for entry in state["history"]):
        return "history is no list of measurements"
    if not state["attempts"]:
        return "attempts is empty"
    found = (_wrong(one, ATTEMPT) for one in state["attempts"])
    return next(("attempts: " + wrong for wrong in found if wrong), "")


def _wrong(state: object, fields: Mapping[str, type | tuple[type, ...]]) -> str:
    """The first of the fields that is missing or of another type, in words; "" for none."""
    if not isinstance(state, Mapping):
        return f"a {type(state).__name__} stands for its fields"
    for name, kind in fields.items():
        value = state.get(name)
        if name not in state:
            return f"{name} is missing"
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            return f"{name} is a {type(value).__name__}"
    return ""


def _other_tensors(found: dict | None, like: dict | None) -> str:
    """Names, shapes and types of two state dicts; one of them, or both, may be None."""
    if (found is None) != (like is None):
        return "missing" if found is None else "there, which this run does not have"
    for name in (found or {}).keys() ^ (like or {}).keys():
        return f"only one of checkpoint and network has {name}"
    for name, own in (like or {}).items():
        value = found[name]
        if not isinstance(value, Tensor) or (value.shape, value.dtype) != (own.shape, own.dtype):
            return f"{name} has another shape or type"
    return ""


def _other_groups(found: dict, like: dict) -> str:
    """Of two states of an optimizer, whether they are about the same parameters."""
    groups, own = found.get("param_groups"), like["param_groups"]
    if not isinstance(groups, list) or not all(isinstance(one, dict) for one in groups):
        return "it has no groups of parameters"
    if [one.get("params") for one in groups] != [one["params"] for one in own]:
        return "it is about other parameters"
    for one, theirs in zip(groups, own, strict=True):
        # other versions of torch have other settings in a group, and other devices other kinds
        numbers = [name for name, value in theirs.items() if type(value) in (int, float)]
        for name in numbers:
            if not isinstance(one.get(name, 0), int | float | Tensor) or "lr" not in one:
                return f"{name} is no number"
    known = {place for one in own for place in one["params"]}
    states = found.get("state")
    if not isinstance(states, dict) or not states.keys() <= known:
        return "it has states of other parameters"
    return "" if all(isinstance(one, dict) for one in states.values()) else "a state is no state"
