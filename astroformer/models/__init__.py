"""Architectures, one file each. Importing this package registers every model with timm; `MODELS`
is the one table of the reproduced systems' names, `BASELINES` that of what they are compared with.
`create` makes any of them by its name, and any other network of timm's.
"""

from astroformer.models import (  # noqa: F401  (importing one registers its networks)
    astroformer,
    baselines,
    spectformer,
    spectformer_h,
    vit_cifar,
)
from astroformer.models.build import create, default_image_size, described  # noqa: F401
from astroformer.sizes import BASELINES, MODELS, NAMES, checked_name  # noqa: F401
