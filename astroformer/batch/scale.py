"""How the time of planning grows with the number of runs, on this machine:

    .venv/bin/python -m astroformer.batch.scale [--keep]

plans files of 100, 1,000 and 10,000 runs: what `astroformer plan` does, the files of the jobs, and
the engine's dry run over them (snakemake -n), the last two also with a job for each run. Each is a
process of its own, and the first of each number counts every network anew. --keep adds the rows to
book/ledger/batch/scale.jsonl.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch

from astroformer import machine, paths
from astroformer.ledger import records

KEPT = paths.LEDGER / "batch"
NUMBERS = (100, 1_000, 10_000)
# Eight networks, each with an eighth of the runs as seeds; none of them is made.
MODELS = (
    *("astroformer_pico", "astroformer_0", "spectformer_ti", "vit_cifar"),
    *("spectformer_xs", "astroformer_1", "spectformer_h_s", "astroformer_2"),
)
EACH = "0.000001"  # minutes of a bundle, so that each run has a job of its own
OWN_JOB = ", a job for each run"


def _jobs(folder: str, bundle: str) -> list[str]:
    words = ["-m", "astroformer.batch", "plan", folder, "0", "--device", "cuda"]
    return [*words, "--bundle", bundle, "--study", "{file}"]


def _dry_run(folder: str, bundle: str) -> list[str]:
    words = ["-m", "snakemake", "--snakefile", str(paths.ROOT / "workflow" / "Snakefile")]
    words += ["--directory", folder, "--cores", "1", "--dry-run", "--quiet", "all", "--config"]
    settings = ["studies={file}", f"folder={folder}", "pages=none", "device=cuda"]
    return [*words, *settings, f"bundle={bundle}"]


STEPS = {
    "plan": ["-m", "astroformer", "plan", "--device", "cuda", "--json", "--study", "{file}"],
    "jobs": _jobs("{folder}/few", "30"),
    "dry run": _dry_run("{folder}/few", "30"),
    "jobs" + OWN_JOB: _jobs("{folder}/many", EACH),
    "dry run" + OWN_JOB: _dry_run("{folder}/many", EACH),
}


def file_of(number: int, path: Path) -> Path:
    """So many runs on synthetic galaxies, in MODELS' turns."""
    each = [len(range(place, number, len(MODELS))) for place in range(len(MODELS))]
    lines = [
        f"  - {{model: {model}, dataset: galaxies, recipe: small, image_size: 64, "
        f"seeds: {list(range(seeds))}}}"
        for model, seeds in zip(MODELS, each)
    ]
    path.write_text("\n".join(["runs:", *lines]) + "\n")
    return path


def measured(number: int) -> list[dict]:
    """A row for each of STEPS, with its seconds of wall clock and of processor."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        file = file_of(number, Path(place) / "many.yml")
        for name in ("few", "many"):
            (Path(place) / name).mkdir()
        for step, words in STEPS.items():
            command = [word.format(file=file, folder=place) for word in words]
            began = time.perf_counter()
            own = os.environ | {"ASTROFORMER_CACHE": f"{place}/cache"}
            subprocess.run([sys.executable, *command], env=own, check=True, capture_output=True)
            seconds = time.perf_counter() - began
            folder = Path(place) / ("many" if step.endswith(OWN_JOB) else "few")
            jobs = len(list(folder.glob("jobs/*.json")))
            rows.append({"step": step, "runs": number, "jobs": jobs, "seconds": round(seconds, 2)})
    return rows


def main(words: list[str]) -> int:
    told = {
        "device": records.device_name(torch.device("cpu")),
        "processors": machine.processors(),
        "git": records.git_state(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for number in NUMBERS:
        for row in measured(number):
            print(f"{row['runs']:>6} runs, {row['step']}: {row['seconds']:.1f} s", flush=True)
            if "--keep" in words:
                records.write_line({**row, **told}, KEPT / "scale.jsonl")
    return 0


def frame() -> pd.DataFrame:
    """What is kept: the newest row of each step and number."""
    path = KEPT / "scale.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = pd.DataFrame([json.loads(line) for line in lines])
    return rows.drop_duplicates(["step", "runs"], keep="last") if len(rows) else rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
