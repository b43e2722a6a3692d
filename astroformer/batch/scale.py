"""How the time of planning grows with the number of runs, on this machine:

    .venv/bin/python -m astroformer.batch.scale [--keep]

plans files of 100, 1,000 and 10,000 runs: what `astroformer plan` does, the jobs of the first wave,
and the engine's dry run over them (snakemake -n), each in a process of its own, without what an
earlier one counted. --keep adds the rows to book/ledger/batch/scale.jsonl.
"""

import json
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
STEPS = {
    "plan": ["-m", "astroformer", "plan", "--device", "cuda", "--json", "--study", "{file}"],
    "jobs": [
        *("-m", "astroformer.batch", "plan", "{folder}", "0"),
        *("--device", "cuda", "--study", "{file}"),
    ],
    "dry run": [
        *("-m", "snakemake", "--snakefile", str(paths.ROOT / "workflow" / "Snakefile")),
        *("--directory", "{folder}", "--cores", "1", "--dry-run", "--quiet", "all"),
        *("--config", "studies={file}", "folder={folder}", "pages=none", "device=cuda"),
    ],
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
        folder = Path(place) / "batch"
        folder.mkdir()
        for step, words in STEPS.items():
            command = [word.format(file=file, folder=folder) for word in words]
            began = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            seconds = time.perf_counter() - began
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
