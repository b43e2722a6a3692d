"""Architectures, one file each. Importing this package registers every model with timm; `MODELS` is the one table of names."""

from astroformer.models import astroformer

MODELS: dict[str, dict] = {**astroformer.VARIANTS}  # timm name -> sizes
