"""Where a batch keeps its files, and what the engine's rules read of them. Nothing here imports
torch or pandas: the engine reads it at each start, and again on each node.

    plan/WAVE.json     the jobs of a wave, in order; a wave holds the runs that can be named when
                       the waves before it are done (confirmatory runs follow from tuning)
    jobs/NAME.json     one job: its runs in full, and what it needs
    runs/NAME.ipynb    the executed page of a job that is done
    executed/          the same while it runs, and of jobs and pages that failed
    pages/NAME.ipynb   the executed page of the book
    failed/NAME.json   which cell failed and why, of what failed last
    logs/, benchmarks/ of each job; data/NAME.ok, of each data set that was found
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from astroformer import paths

# Exit status of a job that saved what it had and is to be started again (BSD's EX_TEMPFAIL).
AGAIN = 75


@dataclass(frozen=True)
class Batch:
    """The files of one batch, below its folder."""

    folder: Path

    def plan(self, wave: int | str) -> Path:
        return self.folder / "plan" / f"{wave}.json"

    def job(self, name: str) -> Path:
        return self.folder / "jobs" / f"{name}.json"

    def notebook(self, name: str) -> Path:
        return self.folder / "runs" / f"{name}.ipynb"

    def executed(self, name: str) -> Path:
        return self.folder / "executed" / f"{name}.ipynb"

    def page(self, name: str) -> Path:
        return self.folder / "pages" / f"{name}.ipynb"

    def failed(self, name: str) -> Path:
        return self.folder / "failed" / f"{name}.json"

    def read_plan(self, wave: int | str) -> dict[str, Any]:
        return json.loads(self.plan(wave).read_text())

    def read_job(self, name: str) -> dict[str, Any]:
        path = self.job(name)
        return _read(path, path.stat().st_mtime_ns)

    def failures(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("failed/*.json"))]


@lru_cache(maxsize=4096)
def _read(path: Path, version: int) -> dict[str, Any]:
    return json.loads(path.read_text())


def sources() -> str:
    """Sixteen hexadecimal digits of the library as it lies here, file by file: a job is made by the
    library that planned it, or refused.
    """
    digest = hashlib.sha256()
    for path in sorted(paths.PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(paths.PACKAGE)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def write(told: Mapping[str, Any], path: Path) -> None:
    """As JSON, whole or not at all; a file that says the same already keeps its time."""
    text = json.dumps(told, indent=1, sort_keys=True) + "\n"
    if path.is_file() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
