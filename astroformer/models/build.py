"""A network by its name: one of this project, or `timm/NAME`, any of timm's own.

Both are made with the same arguments, those of a run. Of timm's networks some are built for images
of one size and some take any; some have no stochastic depth; each has options of its own.
`arguments` leaves out what a network does not take and refuses what would then not be done.

Reads top to bottom: timm_name, described, default_image_size; arguments, create, in_one_line;
check_options.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import timm
import torch
from torch import nn

from astroformer.sizes import TIMM

# Arguments of timm's factory that are about weights, files or other uses of a network.
NO_OPTION = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args"),
    *("checkpoint_path", "cache_dir", "features_only", "out_indices", "feature_cls", "pruned"),
    *("scriptable", "exportable", "no_jit", "device", "dtype"),
)
# A recipe's, which a network of timm's may lack.
RATES = ("drop_rate", "drop_path_rate")
UNEXPECTED = re.compile(r"unexpected keyword argument\D*?'(\w+)'")


def timm_name(name: str) -> str:
    """The name by which timm makes the network."""
    return name.removeprefix(TIMM)


def described(name: str):
    """How timm describes a network (its `pretrained_cfg`): the images that it is used to, where
    classifier and first convolution are. None for one that timm does not describe.
    """
    return timm.get_pretrained_cfg(timm_name(name))


def default_image_size(name: str) -> int:
    """Pixels, height and width, that the network takes when nothing else is asked for."""
    config = described(name)
    if config is None:
        raise ValueError(f"timm does not say which images {name} takes; give their --image-size")
    return config.input_size[-1]


def arguments(name: str, **options) -> dict[str, object]:
    """Those of the options that are arguments of `timm.create_model` for this network: all, for a
    network of this project. One of timm's is given `img_size` only if it is built for one size, and
    a rate of dropout or stochastic depth only if it has such; ValueError for a rate above 0 that it
    does not have.
    """
    if not name.startswith(TIMM):
        return options
    taken = dict(options)
    config = described(name)
    if "img_size" in taken and not (config is not None and config.fixed_input_size):
        del taken["img_size"]
    for rate in sorted(lacking(name) & taken.keys()):
        if taken.pop(rate):
            raise ValueError(
                f"{name} has no {rate}; choose --set {rate}=0 (the recipe has {options[rate]:g})"
            )
    return taken


@cache
def lacking(name: str) -> frozenset[str]:
    """Which of the RATES a network of timm's does not take. It is made on the meta device, which
    allocates nothing.
    """
    without: frozenset[str] = frozenset()
    while len(without) < len(RATES):
        asked = {rate: 0.0 for rate in RATES if rate not in without}
        try:
            with torch.device("meta"):
                timm.create_model(timm_name(name), **asked)
        except TypeError as error:
            found = UNEXPECTED.search(str(error))
            if found is None or found[1] not in asked:
                raise
            without |= {found[1]}
        else:
            break
    return without


def create(name: str, **options) -> nn.Module:
    """The network, with random weights. ValueError in one line for what one of timm's cannot be
    made with.
    """
    taken = arguments(name, **options)
    with in_one_line(name, options.get("img_size")):
        return timm.create_model(timm_name(name), **taken)


@contextmanager
def in_one_line(name: str, image_size: object = None) -> Iterator[None]:
    """While a network is made or called for images of that size: what one of timm's does not do,
    which it says by an assertion or by failing anyhow, is a ValueError in one line. What is said by
    a ValueError stays, and so does a want of memory.
    """
    try:
        yield
    except Exception as error:
        from astroformer.machine import is_out_of_memory

        said = isinstance(error, ValueError) or is_out_of_memory(error)
        if said or not name.startswith(TIMM):
            raise
        found = UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
        if found is not None:
            raise ValueError(f"{name} has no option {found[1]!r}") from error
        why = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        of = f" for images of {image_size} pixels" if image_size else ""
        raise ValueError(
            f"{name} cannot be used{of}, timm says: {why.rstrip('.')}; try another --image-size "
            "or other options"
        ) from error


@cache
def check_options(name: str, options: tuple[tuple[str, object], ...]) -> None:
    """ValueError in one line unless a network of timm's takes these options, each of a name and a
    value. It is made on the meta device.
    """
    for option, _ in options:
        if option in NO_OPTION:
            raise ValueError(
                f"{option} is no option of {name} in a run: "
                + (
                    "weights to begin with are named by --init"
                    if option.startswith(("pretrained", "checkpoint"))
                    else "it does not change the network"
                )
            )
    with torch.device("meta"):
        create(name, num_classes=1, **dict(options))
