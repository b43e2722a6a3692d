"""Astroformer, re-examined. Importing the package registers its networks with timm:

    import astroformer, timm
    timm.create_model("astroformer_3", num_classes=10, img_size=256)

That happens when timm itself is imported, before or after: timm brings torch and torchvision, which
takes several times as long as all that the commands and pages need that build no network.
"""

import importlib.abc
import importlib.util
import sys
import warnings

# Said once a process when ipywidgets is not installed, and it would stand on every page.
warnings.filterwarnings("ignore", message="IProgress not found")

from astroformer import paths  # noqa: E402
from astroformer.version import __version__  # noqa: E402, F401

paths.set_home()  # before anything imports astropy


class _Registration(importlib.abc.MetaPathFinder):
    """Finds timm as it would be found anyway, and registers the networks as soon as it is
    loaded.
    """

    asked = False  # while the other finders are asked

    def find_spec(self, name, path, target=None):
        if name != "timm" or self.asked:
            return None
        self.asked = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.asked = False
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_register(module) -> None:
                load(module)
                sys.meta_path.remove(self)
                importlib.import_module("astroformer.models")

            spec.loader.exec_module = load_and_register
        return spec


if "timm" in sys.modules:
    from astroformer import models  # noqa: F401  (registration is the import's purpose)
else:
    sys.meta_path.insert(0, _Registration())


def __getattr__(name: str):
    """`astroformer.models` is there without an import of its own."""
    if name == "models":
        return importlib.import_module("astroformer.models")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
