"""Two trained runs for every test of the room: trained once in a process, copied for each test."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from small_run import CPU, small_run

from astroformer.training import fit


@dataclass(frozen=True)
class Runs:
    """Two runs on the images of `tiny_folder` that differ in their seed, in a ledger and a folder
    of checkpoints of one test's own. A third of its training images is held out.
    """

    folder: Path
    names: tuple[str, str]

    @property
    def weights(self) -> list[str]:
        return [str(self.folder / "runs" / name / "last.pt") for name in self.names]


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory, tiny_folder):
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        _point_to(place, patch)
        made = [
            fit(
                replace(
                    small_run(tiny_folder, seed=seed),
                    model="timm/test_efficientnet_evos",
                    validation=0.34,
                ).resolved(CPU),
                device=CPU,
                report=lambda line: None,
            )
            for seed in (0, 1)
        ]
    return Runs(place, tuple(one.record["run"] for one in made))


@pytest.fixture
def runs(trained_once, tmp_path, monkeypatch):
    place = tmp_path / "of_runs"
    shutil.copytree(trained_once.folder, place)
    _point_to(place, monkeypatch)
    return replace(trained_once, folder=place)


def _point_to(folder, patch):
    patch.setenv("ASTROFORMER_RUNS", os.path.join(folder, "runs"))
    patch.setenv("ASTROFORMER_LOCAL_LEDGER", os.path.join(folder, "ledger"))
