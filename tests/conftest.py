"""Shared by all tests: nothing is written into the checkout, and two test processes do not fight
for two cores.
"""

import multiprocessing
import os
import tempfile
import time
from pathlib import Path

# Before torch is imported, here and in what the tests start. Two workers with two spinning threads
# each are many times slower than two with one.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
_OWN = tempfile.TemporaryDirectory(prefix="astroformer-tests-")
os.environ["ASTROFORMER_RUNS"] = os.path.join(_OWN.name, "runs")
os.environ["ASTROFORMER_LOCAL_LEDGER"] = os.path.join(_OWN.name, "ledger")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from galaxy_folder import write_galaxies  # noqa: E402

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


# Files that take minutes begin first, or one process would wait for the other at the end. The tests
# of a file run in one process and share their fixtures (--dist loadfile).
LONG_FILES = (
    *("workflow/test_local_profile.py", "training/test_ranks.py", "book/test_pages.py"),
    *("training/test_sharded.py", "book/test_make_missing.py", "batch/test_node.py"),
    *("book/test_reproduce.py", "studies/test_results.py", "test_wheel.py"),
)


def pytest_collection_modifyitems(items):
    tests = Path(__file__).parent
    order = {tests / name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.hookimpl(tryfirst=True)  # before fixtures are made
def pytest_runtest_setup(item):
    """`.ci/run` has so much time and no more, and machines differ: what it does not reach is
    skipped, counted in the closing line and named by -rs.
    """
    until = float(os.environ.get("ASTROFORMER_TEST_UNTIL", "inf"))  # seconds since 1970
    if time.time() > until:
        pytest.skip("the time of ASTROFORMER_TEST_UNTIL is over")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """ROOT of an ImageFolder: 3 classes, 16 training and 8 test images each, 32 x 32 pixels."""
    root = tmp_path_factory.mktemp("images") / "tiny"
    write_galaxies(root)
    return root


@pytest.fixture
def own_runs(tmp_path, monkeypatch):
    """A ledger and a folder of checkpoints for one test."""
    return runs_in(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory):
    """A ledger and a folder of checkpoints for the tests of one file, which share what was
    trained there.
    """
    with pytest.MonkeyPatch.context() as patch:
        yield runs_in(tmp_path_factory.mktemp("shared"), patch)


def runs_in(folder, patch):
    patch.setenv("ASTROFORMER_RUNS", str(folder / "runs"))
    patch.setenv("ASTROFORMER_LOCAL_LEDGER", str(folder / "ledger"))
    return folder


@pytest.fixture
def another_process():
    """Starts a process that holds a run's folder; gives it, and the end of a pipe: a word ends
    it.
    """
    context, started = multiprocessing.get_context("fork"), []

    def start(folder):
        ours, theirs = context.Pipe()
        process = context.Process(target=holding, args=(folder, theirs))
        process.start()
        started.append(process)
        assert ours.poll(30) and ours.recv() == "held"
        return process, ours

    yield start
    for process in started:
        process.kill()
        process.join(30)


def holding(folder, pipe):
    """In another process: holds a run's folder until it is told to end."""
    from astroformer.training.run_folder import held

    with held(folder, wait=True, report=lambda line: None):
        pipe.send("held")
        pipe.poll(60)
