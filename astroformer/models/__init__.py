"""Architectures, one file each. Importing this package registers every model with timm; `MODELS`
is the one table of the reproduced systems' names, `BASELINES` that of what they are compared with.
"""

import timm

from astroformer.models import (  # noqa: F401  (importing one registers its networks)
    astroformer,
    baselines,
    spectformer,
    spectformer_h,
    vit_cifar,
)
from astroformer.sizes import BASELINES, MODELS, NAMES, checked_name  # noqa: F401


def default_image_size(name: str) -> int:
    """Pixels, height and width, that the network takes when nothing else is asked for."""
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise ValueError(f"timm does not say which images {name} takes; give their --image-size")
    return config.input_size[-1]
