"""Astroformer, re-examined. Importing the package registers its networks with timm:

    import astroformer, timm
    timm.create_model("astroformer_3", num_classes=10, img_size=256)
"""

import warnings

# Said once a process when ipywidgets is not installed, and it would stand on every page.
warnings.filterwarnings("ignore", message="IProgress not found")

from astroformer import models  # noqa: E402, F401  (registration with timm is the import's purpose)
from astroformer.version import __version__  # noqa: E402, F401
