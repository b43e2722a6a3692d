"""Weights to begin with: from a checkpoint of this project or a released file, into a network with
a classifier of its own.

Reads top to bottom: read_weights and the parts of a file, load_weights, what an error says. Nothing
is loaded partially unless that is asked for.
"""

import hashlib
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from astroformer.training import checkpoint

SHOWN = 6  # names listed in an error before "and so many more"
# Names of wrappers: of DistributedDataParallel (and of an average by torch.optim.swa_utils), of
# torch.compile, of FSDP and checkpointing, of ViT-CIFAR's Lightning module. Those that torch
# makes up itself stand anywhere in a name.
IN_FRONT = re.compile(r"^(?:(?:module|model)\.)+")
ANYWHERE = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Parts of a file that are an average of the weights over the steps, by their names.
AVERAGES = re.compile(r"(?:^|_)(?:ema|average|averaged|swa)(?:_|$)")
# The part that is taken where a file has several, the first of them that it has.
KNOWN = ("model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema")
# Parts that hold tensors, and none of the network's.
OTHERS = re.compile("optim|sched|scaler|callback|^loops?$|loss|criterion|rng|^amp")
DEPTH = 3  # dictionaries within one another that are searched
KINDS = {False: "the weights of the last step", True: "the average of the weights (EMA)"}
FLAGS = {False: "--no-ema", True: "--ema"}


class Weights(dict[str, Tensor]):
    """A state dict, and which part of its file it was, in words ("" if there was no choice)."""

    part = ""


def read_weights(path: str | Path, *, average: bool | None = None) -> Weights:
    """The state dict in a file, by name, on the CPU, without the names of wrappers: of a checkpoint
    of this project, of a released file ("model" or "state_dict" in it), of safetensors, or bare.
    Nothing in the file is executed.

    average: True for the average of the weights (EMA), False for those of the last step, where a
        file may hold both. None takes the average of this project's checkpoints, by which the run
        is judged, and of other files the weights of the last step, as timm does.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} to take weights from")
    state = checkpoint.load(path, "weights")
    if isinstance(state, dict) and state.get("format") == checkpoint.FORMAT:
        found = {name: state[name] for name in ("weights", "average") if state[name]}
        usual = "average" in found
    else:
        found, usual = parts(state), False
    if not found:
        raise ValueError(
            f'{path} holds no state dict, neither bare nor under "model" or "state_dict"'
        )
    name = _chosen(path, found, usual, average)
    weights = Weights(unwrapped(found[name], path))
    weights.part = _told(name, found)
    return weights


def parts(value: object, within: str = "", depth: int = DEPTH) -> dict[str, dict[str, Tensor]]:
    """The state dicts in what a file holds, each by its place ("model.state_dict"; "" if it is the
    whole). Plain values beside the tensors are left out.
    """
    if not isinstance(value, dict):
        return {}
    found: dict[str, dict[str, Tensor]] = {}
    for name, inner in value.items():
        if isinstance(name, str) and depth and not OTHERS.search(name.lower()):
            found |= parts(inner, f"{within}.{name}".lstrip("."), depth - 1)
    tensors = {name: one for name, one in value.items() if isinstance(one, Tensor)}
    if found or not tensors or not all(isinstance(name, str) for name in tensors):
        return found
    return {within: tensors}


def _chosen(path: Path, found: dict, usual: bool, average: bool | None) -> str:
    """Which of the parts is taken. ValueError where there is none of the kind, or nobody can say
    which.
    """
    kinds = {kind: [name for name in found if _is_average(name) == kind] for kind in KINDS}
    wanted = usual if average is None else average
    if average is None and not kinds[wanted]:
        wanted = not wanted
    there = kinds[wanted]
    if not there:
        raise ValueError(
            f"{path} does not hold {KINDS[wanted]}, only {listed([*found]) or 'other weights'}; "
            f"leave out {FLAGS[wanted]}"
        )
    known = [one for key in KNOWN for one in there if key in one.split(".")]
    if len(there) > 1 and not known:
        raise ValueError(
            f"{path} holds several networks ({listed(there)}); save the one that you mean by "
            f"itself, with torch.save(torch.load(FILE)[{there[0].partition('.')[0]!r}], NEW)"
        )
    return (known or there)[0]


def _is_average(name: str) -> bool:
    return any(AVERAGES.search(one.lower()) for one in name.split("."))


def _told(taken: str, found: dict) -> str:
    """Which part of a file was taken, and how the other is, where there are both."""
    kind = _is_average(taken)
    other = [name for name in found if _is_average(name) != kind]
    if not other:
        return f"{taken}, {KINDS[kind]}" if kind else ""
    return (
        f"{taken}, {KINDS[kind]} ({FLAGS[not kind]} takes {other[0]}, "
        f"{KINDS[not kind].replace('of the weights', 'of them').replace('the weights', 'those')})"
    )


def unwrapped(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The state dict without the names of wrappers, in any order and as often as they come."""
    # how many steps torch.optim.swa_utils has averaged over
    kept = {name: value for name, value in state.items() if name != "n_averaged"}
    bare = {IN_FRONT.sub("", ANYWHERE.sub("", name)): value for name, value in kept.items()}
    if len(bare) < len(kept):
        raise ValueError(
            f"{path} holds some weights twice, with and without the name of a wrapper (module., "
            "model., _orig_mod.); save those of the network alone"
        )
    return bare


def without_prefix(state: dict[str, Tensor], present: Iterable[str]) -> dict[str, Tensor]:
    """The state dict without what all its names begin with, `encoder.` say, where no name is one of
    the network's (`present`) as it stands, and some are behind it.
    """
    present, names = set(present), {name: name for name in state}
    while names and not present.intersection(names.values()):
        first = {name.partition(".")[0] for name in names.values()}
        if len(first) > 1 or not all("." in name for name in names.values()):
            return state
        names = {own: name.partition(".")[2] for own, name in names.items()}
    return {name: state[own] for own, name in names.items()}


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
    state = without_prefix(state, present)
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
    state = without_prefix(state, present)
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
