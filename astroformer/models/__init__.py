"""Architectures, one file each. `MODELS` is the one table of names; `register` makes timm know them, see `astroformer/__init__.py`."""

import importlib

from astroformer.models.sizes import MODELS

__all__ = ["MODELS", "checked_name", "default_image_size", "register"]

ARCHITECTURES = ("astroformer", "spectformer", "spectformer_h", "vit_cifar")  # files; importing one registers its networks


def register() -> None:
    for name in ARCHITECTURES:
        importlib.import_module(f"astroformer.models.{name}")


def checked_name(name: str, *, others: str = "") -> str:
    """The name, if it is one of MODELS, else a ValueError that lists them; `others` ends the list, where more may be named."""
    if name not in MODELS:
        raise ValueError(f"model {name!r} is not known; choose one of {', '.join(MODELS)}{others}")
    return name


def default_image_size(name: str) -> int:
    """Pixels, height and width, that the network takes when nothing else is asked for."""
    import timm  # here alone: the table of names needs none of it
    return timm.get_pretrained_cfg(name).input_size[-1]
