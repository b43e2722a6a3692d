"""Weights to begin with: from a checkpoint of this project, a released file, a folder as the
Hugging Face hub has them or the hub itself, into a network with a classifier of its own.

Reads top to bottom: weights_of (what --init says), read_weights and the parts of a file,
load_weights (names, sizes, channels, classes), what an error says. Nothing is loaded partially
unless that is asked for.
"""

import hashlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from astroformer.machine import is_out_of_memory
from astroformer.models import build
from astroformer.sizes import NAMES, TIMM
from astroformer.training import checkpoint
from astroformer.training.run_folder import LAST

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


# What --init says in place of a file: weights that timm downloads, those of the network's own name,
# or of any repository on the hub.
PRETRAINED, HUB = "pretrained", "hf-hub:"
# A folder as timm and the hub write it: its description, and the weights by the first of the names.
CONFIG = "config.json"
STORED = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
# How images are prepared, by the names of timm's pretrained_cfg.
DESCRIBED = ("mean", "std", "crop_pct", "interpolation")
# of an error's explanation, which may be a page long
LONGEST = 200


class Weights(dict[str, Tensor]):
    """A state dict; which part of its file it was, in words ("" if there was no choice); and of
    what brings a description the network's name in timm and how images are prepared (DESCRIBED).
    """

    part = ""
    architecture = ""
    described: dict | None = None


def is_downloaded(init: str) -> bool:
    """Whether --init names weights that timm downloads, and no file or folder."""
    return init == PRETRAINED or init.startswith(HUB)


def named(init: str) -> str:
    """How a record and a command name them: a path by its last part, as records are published."""
    return init if is_downloaded(init) else Path(init).name


def weights_of(init: str, name: str, *, average: bool | None = None) -> Weights:
    """The weights that --init says for a network: a path as of `read_weights`; "pretrained", timm's
    own for the network of that name; or "hf-hub:OWNER/NAME".
    """
    return downloaded(init, name) if is_downloaded(init) else read_weights(init, average=average)


def downloaded(init: str, name: str) -> Weights:
    """Weights that timm brings from where they are published, or has in its cache. OSError in one
    line where they cannot be had, ValueError if they are of another network.
    """
    own = build.timm_name(name)
    if init == PRETRAINED and not name.startswith(TIMM):
        raise ValueError(
            f"--init {PRETRAINED} is for networks of timm's, and {name} is one of this project, of "
            "which no weights are published; give a file"
        )
    if init == PRETRAINED and not timm.models.is_model_pretrained(own):
        raise ValueError(f"timm has no weights of {name}; give a file, or another tag in its name")
    try:
        with quiet_hub(), torch.random.fork_rng(devices=[]):
            network = timm.create_model(own if init == PRETRAINED else init, pretrained=True)
    except Exception as error:  # of the network, the hub, the file
        if is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:LONGEST] or type(error).__name__
        raise OSError(
            f"--init {init}: these weights are not in this machine's cache and could not be had "
            f"({said}); once there is a network they are kept, or give a file or folder of them"
        ) from error
    found: dict = network.pretrained_cfg
    architecture = found["architecture"]
    if architecture != own.partition(".")[0]:
        usual = of_project(architecture)
        raise ValueError(f"--init {init} is of the network {usual}; give --model {usual}")
    weights = Weights(network.state_dict())
    weights.architecture = architecture
    weights.described = None if init == PRETRAINED else _description(found)
    return weights


@contextmanager
def quiet_hub() -> Iterator[None]:
    """While the hub's client works, which tells of each of its trials; the error at the end says
    what was wrong.
    """
    log = logging.getLogger("huggingface_hub")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def of_project(architecture: str) -> str:
    """The name here of a network that timm calls so."""
    return architecture if architecture in NAMES else f"{TIMM}{architecture}"


def _description(found: dict) -> dict | None:
    """How images are prepared, of a network's description; None unless it says all of it."""
    if any(found.get(name) is None for name in DESCRIBED):
        return None
    return {
        name: list(map(float, found[name])) if name in ("mean", "std") else found[name]
        for name in DESCRIBED
    }


def preparation(name: str, weights: Weights | None = None) -> dict:
    """How images are prepared for a network (DESCRIBED): as its weights bring it, or else as the
    network is described.
    """
    if weights is not None and weights.described:
        return weights.described
    usual = build.described(name)
    return {key: getattr(usual, key) for key in DESCRIBED}


def version(init: str) -> tuple[int, ...] | None:
    """Of the file, or of the files of a folder, by which an overwritten one is told; None where
    --init names no path.
    """
    path = Path(init)
    if is_downloaded(init) or not path.exists():
        return None
    files = [path, *sorted(path.iterdir())] if path.is_dir() else [path]
    told = [one.stat() for one in files if one.exists()]
    return tuple(number for one in told for number in (one.st_mtime_ns, one.st_size, one.st_ino))


def _in_folder(folder: Path) -> tuple[Path, dict]:
    """The file of weights in a folder as the hub has them, and the folder's description."""
    if (folder / LAST).is_file():  # of a run
        return folder / LAST, {}
    try:
        described = json.loads((folder / CONFIG).read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} has neither a {CONFIG}, as `astroformer export --to hf` and timm write it, "
            f"nor a {LAST}, as a run has; give the file of the weights itself"
        ) from None
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is no JSON ({error})") from error
    if not isinstance(described, dict):
        raise ValueError(f"{folder / CONFIG} describes no network")
    found = [folder / name for name in STORED if (folder / name).is_file()]
    found = found or sorted(folder.glob("*.safetensors"))
    if not found:
        raise FileNotFoundError(f"{folder} has no file of weights, such as {STORED[0]}")
    return found[0], described


def read_weights(path: str | Path, *, average: bool | None = None) -> Weights:
    """The state dict in a file, by name, on the CPU, without the names of wrappers: of a checkpoint
    of this project, of a released file ("model" or "state_dict" in it), of safetensors, or bare; or
    that of a folder with a description, as timm writes it for the hub, or of a run. Nothing in a
    file is executed.

    average: True for the average of the weights (EMA), False for those of the last step, where a
        file may hold both. None takes the average of this project's checkpoints, by which the run
        is judged, and of other files the weights of the last step, as timm does.
    """
    path, config = Path(path), {}
    if path.is_dir():
        path, config = _in_folder(path)
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
    if config:
        weights.architecture = str(config.get("architecture", ""))
        weights.described = _description(config.get("pretrained_cfg") or config)
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

    Filters, positions and bias tables of another image size are interpolated, and names of an older
    release turned, as the network's own file says how (`checkpoint_filter_fn`, timm's too). The
    first convolution of images with other channels is adapted: see `adapted`.
    new_classifier: a classifier for other classes than the network's is left out, which is what
        fine-tuning means
    allow_partial: whatever else is missing, surplus or of another shape is left out too, each name
        through `report`
    """
    present, architecture = model.state_dict(), getattr(state, "architecture", "")
    state = adapted(renamed(state, model), model, allow_partial=allow_partial)
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
            f"{'; '.join(told)}"
            f"{mend(model, state, architecture, sized=not (missing or surplus))}. "
            "--allow-partial takes what fits and prints what it leaves out"
        )
    if told:
        report(f"left out: {'; '.join(told)}")
    taken = {name: value for name, value in state.items() if name in present and name not in shapes}
    model.load_state_dict(taken, strict=False)
    return [name for name in present if name not in taken]


def renamed(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The state dict by the names of the network, as far as they can be told: without what all of
    them begin with, and turned by the network's own module where more of them are right then. Older
    files do not count the batches of a BatchNorm, which changes nothing.
    """
    present = model.state_dict()
    state = without_prefix(state, present)

    def wrong(names: Iterable[str]) -> int:
        differing = {*names} ^ present.keys()
        return len(differing - classifier_names(model, differing))

    if wrong(state):
        counted = {
            name: value
            for name, value in present.items()
            if name.endswith("num_batches_tracked") and name not in state
        }
        state = min(
            (dict(state), {**state, **counted}, dict(fitted(state, model))),
            key=lambda one: wrong(one),
        )
    return state


def adapted(
    state: dict[str, Tensor], model: nn.Module, *, allow_partial: bool = False
) -> dict[str, Tensor]:
    """The state dict with the first convolution's weights for the network's channels, where the
    file's are for others: summed for one channel, so that a grey image is what it was; repeated and
    scaled for more (timm's `adapt_input_conv`). ValueError in one line for a form that cannot be,
    which allow_partial leaves as it is.
    """
    of = getattr(model, "pretrained_cfg", {}).get("first_conv") or ()
    state = dict(state)
    for name in (of,) if isinstance(of, str) else of:
        key = f"{name}.weight"
        layer = dict(model.named_modules()).get(name)
        if key not in state or not isinstance(layer, nn.Conv2d) or layer.groups > 1:
            continue
        theirs, own = state[key].shape, layer.weight.shape
        if theirs == own or (len(theirs), *theirs[:1]) != (4, own[0]) or theirs[1] == own[1]:
            continue
        told = {} if theirs[1] == 3 else {"base_chans": theirs[1]}
        try:
            state[key] = adapt_input_conv(own[1], state[key], **told)
        except (NotImplementedError, AssertionError, TypeError) as error:
            if allow_partial:
                continue
            raise ValueError(
                f"the first convolution of the weights is for {theirs[1]} channels, the network's "
                f"for {own[1]}, and timm cannot adapt that; --allow-partial draws it anew"
            ) from error
    return state


def fitted(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The state dict as the `checkpoint_filter_fn` of the network's own module turns it, for the
    network's image size.
    """
    fit = beside(model, "checkpoint_filter_fn")
    try:
        return fit(dict(state), model) if fit else state
    except (KeyError, AttributeError):
        # names of another architecture, of which --allow-partial takes what there is
        return state


def beside(model: nn.Module, name: str) -> Callable | None:
    """A function of that name, if there is one, of the module that makes the network, or else of
    the one that its class stands in: timm makes some networks of another file's class.
    """
    known = (getattr(model, "pretrained_cfg", None) or {}).get("architecture", "")
    makers = [timm.model_entrypoint(known).__module__] if timm.is_model(known) else []
    modules = [sys.modules[one] for one in (*makers, type(model).__module__)]
    return next((found for one in modules if (found := getattr(one, name, None))), None)


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
    state = renamed(state, model)
    return any(
        name not in state or state[name].shape != present[name].shape
        for name in classifier_names(model, present)
    )


def mend(
    model: nn.Module, state: dict[str, Tensor], architecture: str = "", *, sized: bool = False
) -> str:
    """The options with which the network would fit the file, where the network's module can tell
    them from it; or the network that the file says it is of.

    sized: whether all names are the network's, and some shapes are not
    """
    about = getattr(model, "pretrained_cfg", None) or {}
    own = about.get("architecture", "")
    if architecture and own and architecture != own:
        return f"; they are of the network {of_project(architecture)}"
    if sized and own not in NAMES and about.get("fixed_input_size"):
        size = about["input_size"][-1]
        return f"; timm brings them to no other size of images than perhaps {size} pixels"
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
