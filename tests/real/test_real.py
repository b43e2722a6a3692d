"""Real images, end to end through the command line: unpack, train, evaluate; skipped, saying so,
without the archives.

Each run must beat the majority class by a stated margin: it shows that the path from a folder to a
record works on images that nobody made for it, not how well the network can do.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from astroformer import paths

SHARED = Path(os.environ.get("ASTROFORMER_SHARED", paths.ROOT.parent / "shared")) / "data"
pytestmark = pytest.mark.real


def astroformer(*words, folder, answer=False):
    """Runs the command; its lines go to the terminal as they come (`make test-real` shows them),
    or come back as JSON.
    """
    environment = os.environ | {
        "ASTROFORMER_RUNS": str(folder / "runs"),
        "ASTROFORMER_LOCAL_LEDGER": str(folder / "ledger"),
    }
    environment.pop("OMP_NUM_THREADS", None)  # these run one after another and may use every core
    command = [sys.executable, "-m", "astroformer", *map(str, words)]
    result = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE if answer else None, text=True
    )
    assert result.returncode == 0, command
    return json.loads(result.stdout) if answer else None


def archive(name):
    path = SHARED / name
    if not path.is_file():
        pytest.skip(
            f"the archive {name} is not at hand; put it where ASTROFORMER_SHARED/data points to"
        )
    return path


@pytest.mark.parametrize(
    "name, settings, margin",
    [
        # majority class 69.7 %: elliptical galaxies. Mirror images of spirals swap their labels.
        (
            "galaxyzoo1-128.tar.xz",
            ["--image-size", "64", "--recipe", "smoke", "--set", "epochs=4"],
            6,
        ),
        # majority class 10 %: the classes are balanced
        (
            "cifar10-jpeg.tar.xz",
            ["--recipe", "small", "--set", "epochs=5", "--fraction", "0.2"],
            30,
        ),
    ],
)
def test_a_real_archive_is_learned_through_a_folder(name, settings, margin, tmp_path):
    packed = archive(name)
    where = ["--dataset", "folder", "--data-dir", tmp_path / "images"]
    astroformer("data", "unpack", packed, tmp_path / "images", folder=tmp_path)
    # The committed ledger may hold this very run; here it is made again.
    astroformer(
        "train", *where, "--model", "astroformer_pico", *settings, "--force", folder=tmp_path
    )
    record = json.loads(next((tmp_path / "ledger").glob("*.jsonl")).read_text())
    statistics = astroformer("data", "stats", *where, "--json", folder=tmp_path, answer=True)
    counts = [row["test"] for row in statistics["classes"]]
    majority = 100 * max(counts) / sum(counts)
    assert record["metrics"]["top1"] > majority + margin, (
        f"{record['metrics']} against a majority class of {majority:.1f} %"
    )
    assert record["metrics"]["balanced_accuracy"] > 100 / len(counts) + margin
    checkpoint = next((tmp_path / "runs").glob("*/last.pt"))
    size = ["--image-size", record["image_size"]]
    measured = astroformer(
        "evaluate", checkpoint, *where, *size, "--json", folder=tmp_path, answer=True
    )[0]
    assert (
        measured["top1"] == pytest.approx(record["metrics"]["top1"])
        and measured["dataset"] == record["dataset"]["title"]
    )


def test_tiny_imagenet_is_learned_from_a_part_of_its_archive(tmp_path):
    """A quarter of the training images of ten of the 200 classes: chance is 10 %."""
    parts = [archive(f"tiny-imagenet-200.{part}.tar.xz") for part in ("train0", "val")]
    tree = tmp_path / "tiny-imagenet-200"
    astroformer("data", "unpack", *parts, tree, folder=tmp_path)
    where = ["--dataset", "tiny_imagenet", "--data-dir", tmp_path, "--class-fraction", "0.05"]
    astroformer("train", *where, "--recipe", "small", "--set", "epochs=6", folder=tmp_path)
    record = json.loads(next((tmp_path / "ledger").glob("*.jsonl")).read_text())
    assert (
        record["dataset"]["train"],
        record["dataset"]["test"],
        record["dataset"]["classes"],
    ) == (1_250, 500, 10)
    assert (
        record["dataset"]["title"]
        == "part of Tiny ImageNet (200 classes; images: 25,000 train, 10,000 test) (10 of 200 "
        "classes)"
    )
    assert record["metrics"]["top1"] > 25 and record["metrics"][
        "balanced_accuracy"
    ] == pytest.approx(record["metrics"]["top1"])
    checkpoint = next((tmp_path / "runs").glob("*/last.pt"))
    measured = astroformer("evaluate", checkpoint, *where, "--json", folder=tmp_path, answer=True)[
        0
    ]
    assert measured["top1"] == pytest.approx(record["metrics"]["top1"])
