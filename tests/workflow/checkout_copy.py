"""A copy of the checkout that a workflow may run in and a test may change: its pages, its plan and
its book are its own, the packages are those of the tests' environment.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from astroformer import paths
from astroformer.studies import asked

# Twelve short runs in four groups: a second each on one core, beside what a job takes to start.
STUDY = """\
pages: [results_galaxies]
runs:
  - {{name: C-C-C-T, options: {{stack: CCCT}}, set: {{epochs: 1, batch_size: 16}}, {same}}}
  - {{name: C-C-T-T, options: {{stack: CCTT}}, set: {{epochs: 1, batch_size: 16}}, {same}}}
  - {{name: C-T-T-T, options: {{stack: CTTT}}, set: {{epochs: 1, batch_size: 16}}, {same}}}
  - {{name: longer, options: {{stack: CCCT}}, set: {{epochs: {epochs}, batch_size: 16}}, {same}}}
"""
SAME = (
    "model: astroformer_pico, dataset: galaxies, recipe: smoke, image_size: 32, "
    "train_images: 64, seeds: [0, 1, 2]"
)
BROKEN = "a test broke this page"
IMAGES = 400  # of an epoch of a longer run
LONG = """\
runs:
  - {{model: astroformer_pico, dataset: galaxies, recipe: smoke, image_size: 32,
     set: {{epochs: {epochs}, batch_size: 16}}, train_images: {images}, seeds: [{seed}]}}
"""


@dataclass
class Copy:
    """The copy at `root`; records, weights and the batch's files below `place`."""

    root: Path
    place: Path
    words: tuple[str, ...] = ()  # of every call of snakemake
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_checkout(cls, place: Path, **how) -> "Copy":
        """The files that git knows, and those that it would, as they lie here now."""
        root = place / "checkout"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=paths.ROOT,
            capture_output=True,
            check=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (paths.ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(paths.ROOT / name, root / name)
        return cls(root, place, **how)

    def study(self, name: str, text: str) -> Path:
        path = self.place / f"{name}.yml"
        path.write_text(text)
        return path

    @property
    def ledger(self) -> Path:
        return self.place / "ledger"

    @property
    def runs(self) -> Path:
        return self.place / "runs"

    def batch(self, name: str = "batch") -> Path:
        return self.place / name

    def variables(self) -> dict[str, str]:
        return {
            **os.environ,
            # before the tests' own installation, which is the checkout itself
            "PYTHONPATH": str(self.root),
            "ASTROFORMER_LOCAL_LEDGER": str(self.ledger),
            "ASTROFORMER_RUNS": str(self.runs),
            "OMP_NUM_THREADS": "1",
            **self.environment,
        }

    def command(self, study: Path | str, *words: str, batch: str = "batch", **settings) -> list:
        """The words of a call of snakemake; `settings` are those of workflow/config.yml."""
        told = {"profile": "smoke", "studies": study, "folder": self.batch(batch), **settings}
        return [
            *(sys.executable, "-m", "snakemake", "--snakefile", self.root / "workflow/Snakefile"),
            *("--directory", self.place / f"work-{batch}", *self.words, *words, "--config"),
            *(f"{name}={value}" for name, value in told.items()),
        ]

    @contextmanager
    def broken(self, name: str) -> Iterator[None]:
        """A page raises an error in the cell that checks its parameters, while this is entered."""
        source = self.root / f"book/{name}.ipynb"
        whole = source.read_text()
        told = json.loads(whole)
        cells = [cell for cell in told["cells"] if "parameters.check()" in "".join(cell["source"])]
        cells[0]["source"] = [*cells[0]["source"], f"\nraise LookupError({BROKEN!r})"]
        source.write_text(json.dumps(told))
        yield
        source.write_text(whole)

    def start(self, study: Path | str, *words: str, **how) -> subprocess.Popen:
        command = list(map(str, self.command(study, *words, **how)))
        return subprocess.Popen(
            command,
            env=self.variables(),
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def call(self, study: Path | str, *words: str, **how) -> tuple[int, str]:
        """Exit status and everything that was said."""
        process = self.start(study, *words, **how)
        try:
            said, _ = process.communicate()
        finally:
            process.terminate()  # if the test itself was ended
        return process.returncode, said

    def records(self) -> list[dict]:
        return [
            json.loads(line)
            for path in sorted(self.ledger.glob("*.jsonl"))
            for line in path.read_text().splitlines()
            if line.strip()
        ]

    def completed(self) -> dict[str, list[dict]]:
        """Run -> its completed records."""
        found: dict[str, list[dict]] = {}
        for record in self.records():
            if record["status"] == "completed":
                found.setdefault(record["run"], []).append(record)
        return found

    def checkpoint(self, study: Path) -> Path:
        """From which the one run of a study goes on, once it is there."""
        [unit] = asked.asked([str(study)], known=[]).units
        return self.runs / unit.run.resolved(torch.device("cpu")).hash / "previous.pt"

    def alone(self, study: Path) -> "Alone":
        """Begins the one run of a study, alone and in one go, with a ledger of its own."""
        [unit] = asked.asked([str(study)], known=[]).units
        words = unit.run.command(located=True).split()[1:]
        place = self.place / "alone" / study.stem
        own = {"ASTROFORMER_LOCAL_LEDGER": str(place / "ledger")}
        own |= {"ASTROFORMER_RUNS": str(place / "runs")}
        return Alone(
            place / "ledger",
            subprocess.Popen(
                ["nice", sys.executable, "-m", "astroformer", *words],
                env=self.variables() | own,
                cwd=self.root,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ),
        )


@dataclass
class Alone:
    """A run that nobody interrupts."""

    ledger: Path
    process: subprocess.Popen

    def record(self) -> dict:
        assert self.process.wait() == 0
        [line] = [
            line for path in self.ledger.glob("*.jsonl") for line in path.read_text().splitlines()
        ]
        return json.loads(line)


def twelve(epochs: int = 2) -> str:
    return STUDY.format(same=SAME, epochs=epochs)


def long(epochs: int, seed: int) -> str:
    return LONG.format(epochs=epochs, seed=seed, images=IMAGES)
