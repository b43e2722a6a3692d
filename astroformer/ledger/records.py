"""The ledger: one JSON line a run, append-only, one file per machine and job.

Committed records lie in `book/ledger/*.jsonl`; those made on this machine in `book/ledger/local/`,
which git ignores. Readers get both, told apart by `origin`. `keep` copies a local record to a
committed file.
"""

import json
import math
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from astroformer import paths
from astroformer.ledger import predictions

if TYPE_CHECKING:
    import torch

FIELDS = (
    "run",
    "status",
    "model",
    "stack",
    "options",
    "params",
    "macs",
    "image_size",
    "dataset",
    "fraction",
    "recipe",
    "seed",
    "epochs",
    "selection",
    "metrics",
    "history",
    "seconds",
    "images_per_second",
    "peak_memory",
    "device",
    "world_size",
    "precision",
    "versions",
    "git",
    "command",
    "started",
    "resumed_from",
    "failed_at_step",
)
OPTIONAL = ("init",)  # only in the record of a run that began with given weights
STATUS = ("completed", "failed", "interrupted")


def append(record: dict, path: Path | None = None) -> Path:
    """Adds one record to this job's file with a single write, so that a reader never sees half a
    line.
    """
    if set(record) - set(OPTIONAL) != set(FIELDS) or record["status"] not in STATUS:
        raise ValueError(
            f"a ledger record has the fields {', '.join(FIELDS)} and a status of "
            f"{', '.join(STATUS)}; "
            "differs in "
            f"{', '.join(sorted(set(record) - set(OPTIONAL) ^ set(FIELDS))) or 'status'}"
        )
    return write_line(record, path or job_file())


def write_line(record: dict, path: Path) -> Path:
    """Adds a line of JSON to a file with a single write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(record, allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path


def job_file() -> Path:
    """This process's own file, so that two jobs never share one."""
    return paths.local_ledger() / job_name()


@lru_cache(maxsize=1)
def job_name() -> str:
    """Machine, time and process."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{platform.node() or 'machine'}-{now}-{os.getpid()}.jsonl"


def read(folder: Path | None = None) -> list[dict]:
    """Every record, oldest first, with `origin` "committed" or "local"; one that was kept is not
    listed twice.
    """
    committed = sorted((folder or paths.LEDGER).glob("*.jsonl"))
    local = [] if folder else sorted(paths.local_ledger().glob("*.jsonl"))
    records = [
        {**record, "origin": origin}
        for origin, files in (("committed", committed), ("local", local))
        for file in files
        for record in read_file(file)
    ]
    kept = {
        (record["run"], record["started"]) for record in records if record["origin"] == "committed"
    }
    records = [
        r for r in records if r["origin"] == "committed" or (r["run"], r["started"]) not in kept
    ]
    return sorted(records, key=lambda record: record["started"])


def read_file(path: Path) -> list[dict]:
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number} is not a JSON record ({error}); remove the line"
            ) from error
    return records


def completed(run: str) -> dict | None:
    """The newest completed record of a run (its hash), or None."""
    found = [
        record for record in read() if record["run"] == run and record["status"] == "completed"
    ]
    return found[-1] if found else None


def frame(records: list[dict] | None = None) -> pd.DataFrame:
    """One row a record, with dataset, recipe and metrics spread over columns (`metrics.top1`,
    `dataset.name`, ...).
    """
    records = read() if records is None else records
    return (
        pd.json_normalize(records, max_level=1)
        if records
        else pd.DataFrame(columns=[*FIELDS, "origin"])
    )


def options_of(row: pd.Series) -> dict[str, object]:
    """The network's own options of one row of `frame`: those columns that are not empty. Beside an
    empty cell pandas makes 96 into 96.0, which is undone.
    """
    found = {
        name.removeprefix("options."): row[name]
        for name in row.index
        if name.startswith("options.")
    }
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in found.items()
        if not (isinstance(value, float) and math.isnan(value))
    }


def check_name(name: str, becomes: str) -> None:
    """Refuses what cannot stand for NAME in the file that the error says it becomes."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(
            f"{name!r} is not a name of letters, digits, - and _; it becomes {becomes}"
        )


def named(name: str, folder: Path, *, shown: str = "book/ledger") -> Path:
    """The file of a committed folder that a user named; `shown` is the folder in the words of an
    error.
    """
    check_name(name, f"{shown}/NAME.jsonl")
    return folder / f"{name}.jsonl"


def keep(run: str, name: str) -> Path:
    """Copies the newest completed local record of a run to `book/ledger/NAME.jsonl`, and its
    predictions, to be committed.
    """
    target = named(name, paths.LEDGER)
    if target.is_file():
        kept = [
            r["run"]
            for r in read_file(target)
            if r["run"].startswith(run) and r["status"] == "completed"
        ]
        if kept:
            predictions.keep(kept[-1])  # they may have been made after the record was kept
            return target
    found = [
        r
        for r in read()
        if r["origin"] == "local" and r["run"].startswith(run) and r["status"] == "completed"
    ]
    if not found:
        raise ValueError(f"no completed local record of run {run}; `astroformer ledger` lists them")
    append({field: value for field, value in found[-1].items() if field != "origin"}, target)
    predictions.keep(found[-1]["run"])
    return target


def device_name(device: "torch.device") -> str:
    """The accelerator's or the processor's own name, with the number of threads for the latter."""
    import torch  # here alone: reading the ledger needs none of it

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        name = models[0] if models else name
    return f"{name}, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    libraries = {name: metadata.version(name) for name in ("torch", "torchvision", "timm", "numpy")}
    return {"python": platform.python_version(), **libraries}


def git_state() -> dict:
    """Commit of the checkout and whether tracked files differ from it; None outside a
    repository.
    """

    def git(*words: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", "-C", str(paths.ROOT), *words], capture_output=True, text=True, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}
