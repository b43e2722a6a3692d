"""Shared by all tests: nothing is written into the checkout, and two test processes do not fight for two cores."""

import os
import tempfile

# Before torch is imported, here and in what the tests start. Two workers with two spinning threads each are many times
# slower than two with one.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
_OWN = tempfile.TemporaryDirectory(prefix="astroformer-tests-")
os.environ["ASTROFORMER_RUNS"] = os.path.join(_OWN.name, "runs")
os.environ["ASTROFORMER_LOCAL_LEDGER"] = os.path.join(_OWN.name, "ledger")

import pytest  # noqa: E402
from galaxy_folder import write_galaxies  # noqa: E402


def pytest_collection_modifyitems(items):
    """One file's tests run in one process and share their fixtures, unless a test names another group."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """ROOT of an ImageFolder: 3 classes, 16 training and 8 test images each, 32 x 32 pixels."""
    root = tmp_path_factory.mktemp("images") / "tiny"
    write_galaxies(root)
    return root


@pytest.fixture
def own_runs(tmp_path, monkeypatch):
    """A ledger and a folder of checkpoints for one test."""
    monkeypatch.setenv("ASTROFORMER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(tmp_path / "ledger"))
    return tmp_path
