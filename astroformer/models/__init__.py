"""Architectures, one file each. Importing this package registers every model with timm; `MODELS`
is the one table of the reproduced systems' names, `BASELINES` that of what they are compared with.
"""

import difflib

import timm

from astroformer.models import (  # noqa: F401  (importing one registers its networks)
    astroformer,
    baselines,
    spectformer,
    spectformer_h,
    vit_cifar,
)
from astroformer.sizes import BASELINES, MODELS

NAMES = (*MODELS, *BASELINES)


def checked_name(name: str, *, others: str = "", nearest_first: bool = False) -> str:
    """The name, if it is one of NAMES, else a ValueError that lists them; `others` ends the
    list, where more may be named.
    """
    if name not in NAMES:
        near = (
            difflib.get_close_matches(name, NAMES, n=len(NAMES), cutoff=0.6)
            if nearest_first
            else []
        )
        raise ValueError(
            f"model {name!r} is not known; choose one of "
            f"{', '.join(dict.fromkeys([*near, *NAMES]))}{others}"
        )
    return name


def default_image_size(name: str) -> int:
    """Pixels, height and width, that the network takes when nothing else is asked for."""
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise ValueError(f"timm does not say which images {name} takes; give their --image-size")
    return config.input_size[-1]
