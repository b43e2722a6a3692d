"""Astroformer, re-examined. Importing the package registers its networks with timm:

    import astroformer, timm
    timm.create_model("astroformer_3", num_classes=10, img_size=256)
"""

from astroformer import models  # noqa: F401  (registration with timm is the import's purpose)
from astroformer.version import __version__  # noqa: F401
