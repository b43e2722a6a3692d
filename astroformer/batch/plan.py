"""What a batch takes, said before anything starts: runs, those that the ledger holds, GPU-hours,
energy, disk, the longest job; by page and study.
"""

from argparse import Namespace
from typing import Any

import pandas as pd

from astroformer.batch.jobs import Options, jobs_of
from astroformer.counting.memory import GB
from astroformer.ledger import records
from astroformer.studies import asked, needs, runner
from astroformer.studies.asked import Asked
from astroformer.studies.needs import Estimator, Needs, Place

# What is asked for where nothing is named: under `smoke` the pages train what they show.
USUAL = {"smoke": (), "gpu": tuple(runner.MODULES), "paper": (*runner.MODULES, asked.RESULTS)}


def names_of(options: Namespace) -> list[str]:
    words = [name for text in options.study for name in text.split(",") if name]
    return words or list(USUAL[options.profile])


def asked_of(options: Namespace) -> Asked:
    return asked.asked(
        names_of(options),
        options.study_profile or options.profile,
        models=[name for name in options.models.split(",") if name],
    )


def device_of(options: Namespace) -> str:
    return options.device or ("cpu" if options.profile == "smoke" else "cuda")


def estimator_of(options: Namespace) -> Estimator:
    return Estimator(Place.named(options.card or None, device_of(options)))


def options_of(options: Namespace) -> Options:
    device = device_of(options)
    return Options(
        device=device,
        bundle=60 * options.bundle,
        longest=3600 * options.longest,
        gpus=options.gpus,
        most_gpus=options.most_gpus,
        cpus=options.cpus or (8 if device == "cuda" else 1),
        mix_devices=options.mix_devices,
    )


def table(found: Asked, estimator: Estimator) -> pd.DataFrame:
    """A row for each page, study and stage: page, study, stage, runs, in_ledger, missing, hours (of
    one device), kwh, disk_gb, longest_hours, rough (runs whose speed is not measured), unknown
    (runs without any estimate), do_not_fit.
    """
    from tqdm import tqdm

    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    # the memory of each kind of run takes seconds; None: a bar on a terminal alone
    for unit in tqdm(found.units, unit="run", leave=False, disable=None):
        page = unit.pages[0] if unit.pages else ""
        row = rows.setdefault(
            (page, unit.study, unit.stage),
            {"page": page, "study": unit.study, "stage": unit.stage, **dict.fromkeys(COUNTED, 0)},
        )
        row["runs"] += 1
        if unit.record is not None:
            row["in_ledger"] += 1
            continue
        _add(row, estimator.of(unit))
    return pd.DataFrame(list(rows.values()), columns=["page", "study", "stage", *COUNTED])


COUNTED = (
    *("runs", "in_ledger", "missing", "hours", "kwh", "disk_gb", "longest_hours"),
    *("rough", "unknown", "do_not_fit"),
)


def _add(row: dict[str, Any], one: Needs) -> None:
    row["missing"] += 1
    row["disk_gb"] += one.disk / GB
    row["do_not_fit"] += not one.fits
    row["rough"] += one.how not in ("", needs.MEASURED)
    if one.hours is None:
        row["unknown"] += 1
        return
    row["hours"] += one.hours
    row["longest_hours"] = max(row["longest_hours"], one.hours)
    row["kwh"] += one.kwh or 0.0


def summary(
    found: Asked, rows: pd.DataFrame, estimator: Estimator, options: Options
) -> dict[str, Any]:
    """The whole batch in a dictionary: place, the sums of `table`, jobs and the longest of them."""
    jobs = list(jobs_of(found.missing, estimator, options))
    known = [job["seconds"] * job["ranks"] for job in jobs if job["seconds"] is not None]
    sums = {name: rows[name].sum().item() if len(rows) else 0 for name in COUNTED}
    return {
        "place": estimator.place.title,
        **{name: sums[name] for name in COUNTED if name != "longest_hours"},
        "unnamed": found.unnamed,
        "jobs": len(jobs),
        "longest_job_hours": max((job["seconds"] or 0.0 for job in jobs), default=0.0) / 3600,
        "device_hours": sum(known) / 3600,
        "most_memory_gb": max((job["memory"] for job in jobs), default=0) / GB,
        "running_gb": _running(found, estimator),
        "commit": records.git_state(),
    }


def _running(found: Asked, estimator: Estimator) -> float:
    """Disk that the largest run takes while it trains."""
    return max((estimator.of(unit).running for unit in found.missing), default=0) / GB


def lines(told: dict[str, Any]) -> list[str]:
    """The summary in sentences."""
    device = "hours of " + told["place"]
    found = [
        f"{told['runs']} runs, {told['in_ledger']} of them in the ledger; {told['missing']} to be "
        f"made in {told['jobs']} jobs",
        f"{told['hours']:,.1f} {device}"
        + (f", {told['kwh']:,.1f} kWh of its board" if told["kwh"] else "")
        + f"; the longest job {told['longest_job_hours']:,.1f} hours",
        f"{told['disk_gb']:,.1f} GB of disk for weights, predictions and pages, and up to "
        f"{told['running_gb']:,.1f} GB beside it for each run that trains; up to "
        f"{told['most_memory_gb']:,.1f} GB of memory on the device",
    ]
    if told["rough"]:
        found.append(
            f"the speed of {told['rough']} runs is not measured there, so that their hours are "
            "rough: `astroformer bench --keep NAME` on a node measures it"
        )
    if told["unknown"]:
        found.append(f"{told['unknown']} runs have no estimate and are in no sum")
    if told["do_not_fit"]:
        found.append(
            f"{told['do_not_fit']} runs do not fit {told['place']} in the micro-batches that their "
            "recipe asks for, and will be refused there: choose a card with more memory"
        )
    if told["unnamed"]:
        found.append(
            f"{told['unnamed']} more runs follow from the outcome of these, and are planned then"
        )
    return found
