"""The tasks of the studies out of the real archives: exactly the images that the designs name, and
CIFAR-100 recognised by its pixels. Skipped, saying so, without the archives.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from astroformer import data, paths
from astroformer.data import canonical
from astroformer.data.tasks import TASKS

SHARED = Path(os.environ.get("ASTROFORMER_SHARED", paths.ROOT.parent / "shared")) / "data"
pytestmark = pytest.mark.real
ARCHIVES = {
    "cifar100-png": [f"cifar100-png.{part}.tar.xz" for part in
                     ("test", "train0", "train1", "train2", "train3")],
    "galaxyzoo1-128": ["galaxyzoo1-128.tar.xz"],
    "tiny-imagenet-200": [f"tiny-imagenet-200.{part}.tar.xz" for part in
                          ("train0", "train1", "val")],
    "galaxy10-decals-1000": ["galaxy10-decals-1000.tar.xz"],
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of data, ASTROFORMER_DATA for what is called below."""
    return tmp_path_factory.mktemp("data")


def call(place, *words, status=0):
    environment = os.environ | {
        "ASTROFORMER_DATA": str(place),
        "ASTROFORMER_CACHE": str(place / "cache"),
        "ASTROFORMER_RUNS": str(place / "runs"),
        "ASTROFORMER_LOCAL_LEDGER": str(place / "ledger"),
    }
    command = [sys.executable, "-m", "astroformer", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout


def derived(place, task):
    source = TASKS[task].derivation.source
    packed = [SHARED / name for name in ARCHIVES[source]]
    absent = [path.name for path in packed if not path.is_file()]
    if absent:
        pytest.skip(
            f"{', '.join(absent)} are not at hand; put them where ASTROFORMER_SHARED/data is"
        )
    if not (place / source).is_dir():
        call(place, "data", "unpack", *packed, place / source)
    call(place, "data", "derive", task)
    call(place, "data", "derive", "--check", place / task)
    return place / task


@pytest.mark.parametrize(
    "name, train, test",
    [
        ("cifar100", [500] * 100, [100] * 100),
        ("galaxies3", [480] * 3, [518, 4165, 370]),  # edge-on, elliptical, spiral
        ("tiny40", [250] * 40, [50] * 40),
        ("galaxy10_part-0", [80] * 10, [20] * 10),
    ],
)
def test_a_task_has_exactly_the_images_of_its_design(place, name, train, test, monkeypatch):
    monkeypatch.setenv("ASTROFORMER_CACHE", str(place / "cache"))
    root, task = derived(place, name), TASKS[name]
    images = {
        split: data.load("folder", split, data_dir=root, validation=task.validation)
        for split in ("train", "validation", "test")
    }
    assert np.array_equal(images["train"].counts() + images["validation"].counts(), np.array(train))
    assert images["validation"].counts().tolist() == [task.held_out] * task.classes
    assert images["test"].counts().tolist() == test
    about = images["train"].about
    if name == "cifar100":
        assert (about.name, about.title) == ("cifar100", "CIFAR-100")
        assert about.sha256 == canonical.SHA256_CIFAR100


def test_a_study_plans_its_runs_on_the_real_tasks_and_begins_the_first(place):
    for task in ("cifar100", "galaxies3", "tiny40"):
        derived(place, task)
    planned = json.loads(call(place, "study", "plan", "few_images", "--json"))
    # the grid of both arms on the three tasks, and the finalists of what the ledger has tuned
    grid = 2 * 3 * 6 * 2
    assert planned[0]["stage"] == "tuning"
    assert grid <= planned[0]["runs"] <= grid + 2 * 3 * 2
    words = ("study", "run", "few_images", "--parallel", "2", "--time-budget", "1.5")
    call(place, *words, status=1)  # the time is over before the runs are
    assert list((place / "runs").glob("*/last.pt"))
