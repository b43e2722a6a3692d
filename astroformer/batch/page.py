"""What the training page asks where it is executed for a job: the job's runs are made, and shown in
a table; the last of them is shown in full.
"""

import json
from pathlib import Path

import pandas as pd
import torch

from astroformer.batch.jobs import unit_of
from astroformer.studies.asked import Unit
from astroformer.studies.make import make
from astroformer.training import Fitted


def made(job: str) -> list[Fitted]:
    """The job's runs, made or found in the ledger, one that was completed last.

    job: path of `jobs/NAME.json`

    RuntimeError if none was completed; studies.make.NotMade for those that could not be made.
    """
    told = json.loads(Path(job).read_text())
    found: list[tuple[Unit, Fitted]] = []
    units = [unit_of(unit) for unit in told["units"]]
    make(
        units,
        device=torch.device(told["device"]),
        mix_devices=told["mix_devices"],
        then=lambda unit, fitted: found.append((unit, fitted)),
    )
    if not found:
        raise RuntimeError(f"no run of job {told['name']} was completed; the records say why")
    return [fitted for _, fitted in found]


def overview(runs: list[Fitted]) -> pd.DataFrame:
    """A row a run: what it is, what came out, how long it took, and whether it was there before."""
    rows = []
    for fitted in runs:
        record, study = fitted.record, fitted.record.get("study") or {}
        rows.append(
            {
                "run": record["run"],
                "model": " ".join([record["model"], *map(str, record["options"].values())]),
                "data": record["dataset"]["title"],
                "arm": study.get("arm", ""),
                "seed": record["seed"],
                "top1": record["metrics"]["top1"],
                "balanced": record["metrics"]["balanced_accuracy"],
                "minutes": round(record["seconds"] / 60, 2),
                "images/s": record["images_per_second"],
                "device": record["device"],
                "": "in the ledger" if fitted.reused else "made here",
            }
        )
    return pd.DataFrame(rows)
