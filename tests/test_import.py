"""What importing the package does: timm knows the networks, and nothing heavy is loaded before
it is needed.
"""

import subprocess
import sys

import pytest

PROGRAM = """
import importlib.util, sys
import astroformer
from astroformer import cli
from astroformer.audit import audit
from astroformer.studies import results
from astroformer.verdicts import verdicts
for words in (["ledger"], ["claims", "--system", "ViT-CIFAR"], ["data", "list"]):
    assert cli.main(words) == 0
heavy = {"torch", "torchvision", "timm"} & set(sys.modules)
assert not heavy, heavy
# Whoever only looks whether timm is there does not keep the networks from it.
assert importlib.util.find_spec("timm")
import timm
assert set(astroformer.models.MODELS) <= set(timm.list_models())
assert timm.create_model("astroformer_pico", num_classes=3, img_size=32).num_classes == 3
assert not any(type(finder).__module__ == "astroformer" for finder in sys.meta_path)
"""


def test_the_package_loads_torch_and_timm_only_when_asked_and_timm_then_knows_its_networks():
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize(
    "first",
    [
        "import timm",
        "from astroformer.models.spectformer_h import SpectFormerH",
        "from timm.layers import DropPath",
    ],
)
def test_timm_knows_the_networks_whatever_is_imported_first(first):
    program = (
        f"{first}\nimport astroformer, timm; assert set(astroformer.models.MODELS) <= "
        "set(timm.list_models())"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", program]).returncode == 0


NOTHING_HIDDEN = """
import importlib, pkgutil
import astroformer
for found in pkgutil.walk_packages(astroformer.__path__, "astroformer."):
    package, _, name = found.name.rpartition(".")
    if name != "__main__":
        module = importlib.import_module(found.name)
        assert getattr(importlib.import_module(package), name) is module, found.name
"""


def test_no_name_of_a_package_hides_a_module():
    program = [sys.executable, "-W", "ignore", "-c", NOTHING_HIDDEN]
    result = subprocess.run(program, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
