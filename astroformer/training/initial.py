"""Weights to begin with: from a checkpoint of this project or a released file, into a network with
a classifier of its own.

Reads top to bottom: read_weights, load_weights, what an error says. Nothing is loaded partially
unless that is asked for.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from astroformer.training import checkpoint

SHOWN = 6  # names listed in an error before "and so many more"


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file, by name, on the CPU: of a checkpoint of this project (the average
    of the weights where one was kept), or under "model" or "state_dict" as releases have it, or
    bare. Nothing in the file is executed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} to take weights from")
    # DeiT's checkpoints hold the arguments of their run
    with torch.serialization.safe_globals([argparse.Namespace]):
        state = checkpoint.load(
            path, "weights; it is truncated, or holds more than tensors and plain values"
        )
    if isinstance(state, dict) and state.get("format") == checkpoint.FORMAT:
        state = checkpoint.evaluated(state)
    # SpectFormer's hierarchical files have one within the other
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(value, Tensor) for value in state.values())
    ):
        raise ValueError(
            f'{path} holds no state dict, neither bare nor under "model" or "state_dict"'
        )
    # Prefixes of DistributedDataParallel and of ViT-CIFAR's Lightning module.
    return {
        name.removeprefix("module.").removeprefix("model."): value for name, value in state.items()
    }


def fingerprint(state: dict[str, Tensor]) -> str:
    """SHA-256 of names, shapes and values: which weights a run began with."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(
            value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            if value.numel()
            else b""
        )
    return digest.hexdigest()


def load_weights(
    model: nn.Module,
    state: dict[str, Tensor],
    *,
    new_classifier: bool = False,
    allow_partial: bool = False,
    report: Callable[[str], None] = print,
) -> list[str]:
    """Copies the weights into the network; returns the names of its weights that keep their present
    value.

    Filters, positions and bias tables of another image size are interpolated, as the network's own
    file says how.
    new_classifier: a classifier for other classes than the network's is left out, which is what
        fine-tuning means
    allow_partial: whatever else is missing, surplus or of another shape is left out too, each name
        through `report`
    """
    present = model.state_dict()
    left = classifier_names(model, {*present, *state}) if new_classifier else set()
    state = {name: value for name, value in state.items() if name not in left}
    missing = [name for name in present if name not in state and name not in left]
    surplus = [name for name in state if name not in present]
    if allow_partial or not (missing or surplus):
        state = fitted(state, model)
    shapes = [
        name for name in present if name in state and state[name].shape != present[name].shape
    ]
    told = [
        f"{len(names)} {what} ({listed(names)})"
        for what, names in (
            ("missing", missing),
            ("surplus", surplus),
            (
                "of another shape",
                [f"{name} {_size(state[name])} for {_size(present[name])}" for name in shapes],
            ),
        )
        if names
    ]
    if told and not allow_partial:
        raise ValueError(
            "the weights do not fit the network: "
            f"{'; '.join(told)}{mend(model, state)}. "
            "--allow-partial takes what fits and prints what it leaves out"
        )
    if told:
        report(f"left out: {'; '.join(told)}")
    taken = {name: value for name, value in state.items() if name in present and name not in shapes}
    model.load_state_dict(taken, strict=False)
    return [name for name in present if name not in taken]


def fitted(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The state dict as the `checkpoint_filter_fn` of the network's own module turns it, for the
    network's image size.
    """
    fit = beside(model, "checkpoint_filter_fn")
    try:
        return fit(state, model) if fit else state
    except (KeyError, AttributeError):
        # names of another architecture, of which --allow-partial takes what there is
        return state


def beside(model: nn.Module, name: str) -> Callable | None:
    """A function of the module that the network's class stands in, if there is one of that name."""
    return getattr(sys.modules[type(model).__module__], name, None)


def classifier_names(model: nn.Module, names: Iterable[str]) -> set[str]:
    """The weights of the classifier, and of the auxiliary one of token labelling."""
    of = getattr(model, "pretrained_cfg", {}).get("classifier") or "head"
    prefixes = tuple(f"{one}." for one in ([of] if isinstance(of, str) else [*of])) + ("aux_head.",)
    return {name for name in names if name.startswith(prefixes)}


def classes_differ(model: nn.Module, state: dict[str, Tensor]) -> bool:
    """Whether the file's classifier is for another number of classes than the network's, or
    there is none.
    """
    present = model.state_dict()
    return any(
        name not in state or state[name].shape != present[name].shape
        for name in classifier_names(model, present)
    )


def mend(model: nn.Module, state: dict[str, Tensor]) -> str:
    """The options with which the network would fit the file, where the network's module can tell
    them from it.
    """
    tell = beside(model, "options_of")
    try:
        options = tell(state) if tell else {}
    except (KeyError, IndexError, ValueError):  # another architecture's file
        options = {}
    differing = {
        name: value for name, value in options.items() if value != tell(model.state_dict())[name]
    }
    if not differing:
        return "; choose the network that the file is of with --model"
    return "; the file's network is made with " + " ".join(
        f"--model-option {name}={value}" for name, value in differing.items()
    )


def listed(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _size(value: Tensor) -> str:
    return "x".join(str(n) for n in value.shape) or "a number"
