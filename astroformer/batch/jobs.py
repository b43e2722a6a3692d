"""From the runs that are missing to jobs: short runs are bundled until a job lasts long enough to
be worth starting, long ones get more GPUs, and each job says what it needs of a node.

Jobs that were planned before and whose runs are still asked for stay as they are, so that a plan
that is made again changes only what has changed.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from astroformer.batch.data import FOLDER
from astroformer.batch.layout import Batch, sources, write
from astroformer.ledger import identity, records
from astroformer.recipes import Recipe
from astroformer.studies.asked import Asked, Unit
from astroformer.studies.needs import Estimator, Needs
from astroformer.training.ranks import pieces
from astroformer.training.run import Run

MARGIN = 1.5  # times the estimate, which a job's time limit is
ROUGH_MARGIN = 4.0  # where the estimate is rough
START = 600.0  # seconds of a job beside its runs: Python, images, the page, the notice of its end
UNKNOWN = 4 * 3600.0  # seconds of a run whose speed nobody knows, for its time limit


@dataclass(frozen=True)
class Options:
    """How runs become jobs.

    device: "cuda" or "cpu"
    bundle: seconds that a job should last
    longest: seconds of a run from which on it gets several GPUs, and the most that a job may ask
        for: a run that takes longer saves, is started again and goes on
    gpus: of every job; 0 leaves it to the estimate
    most_gpus: of a node
    cpus: for each GPU; of device "cpu" the threads of a job
    """

    device: str = "cuda"
    bundle: float = 1800.0
    longest: float = 24 * 3600.0
    gpus: int = 0
    most_gpus: int = 8
    cpus: int = 8
    mix_devices: bool = False

    def __post_init__(self):
        for name in ("bundle", "longest", "most_gpus", "cpus"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)} must be more than 0")
        if self.gpus < 0:
            raise ValueError(f"gpus {self.gpus} is negative; 0 leaves it to the estimate")


def jobs_of(
    units: Sequence[Unit], estimator: Estimator, options: Options
) -> Iterator[dict[str, Any]]:
    """The jobs of units, in their order; each a plain value as `jobs/NAME.json` holds it."""
    bundle: list[tuple[Unit, Needs, int]] = []
    for unit in units:
        needs = estimator.of(unit)
        entry = (unit, needs, gpus_of(unit.run, needs, options))
        if bundle and not _belongs(entry, bundle, options):
            yield job_of(bundle, options)
            bundle = []
        bundle.append(entry)
    if bundle:
        yield job_of(bundle, options)


def _belongs(entry, bundle, options: Options) -> bool:
    """Whether a unit joins the bundle: of one study and stage, alike in what it needs, and the job
    does not last long enough yet. Units of a group stay together up to twice that long.
    """
    unit, needs, gpus = entry
    last, _, own = bundle[-1]
    lasts = [one.seconds for _, one, _ in bundle]
    if needs.seconds is None or None in lasts or gpus != own or gpus > 1:
        return False
    if (unit.study, unit.stage) != (last.study, last.stage):
        return False
    whole = sum(lasts) + needs.seconds
    return whole <= options.bundle or (unit.group == last.group and whole <= 2 * options.bundle)


def gpus_of(run: Run, needs: Needs, options: Options) -> int:
    """How many GPUs a run gets: as many as it takes not to last longer than `longest`, no more than
    it has micro-batches or a node has GPUs.
    """
    if options.gpus or options.device == "cpu":
        wanted = options.gpus
    else:
        wanted = max(1, math.ceil((needs.seconds or 0.0) / options.longest))
    parts = len(pieces(run.recipe.batch_size, run.recipe.images_at_once, 1)[0])
    most = max(1, min(parts, options.most_gpus))
    return min(wanted, most) if options.device == "cuda" else min(wanted, options.most_gpus)


def job_of(bundle, options: Options) -> dict[str, Any]:
    """A job of units with their needs."""
    units = [unit for unit, _, _ in bundle]
    needs = [one for _, one, _ in bundle]
    gpus = bundle[0][2]
    ranks = max(1, gpus)
    own = identity.digest({"keys": [unit.key for unit in units], "gpus": gpus})
    known = [one.seconds for one in needs]
    seconds = None if None in known else sum(known) / ranks
    margin = MARGIN if all(one.how == "measured" for one in needs) else ROUGH_MARGIN
    limit = START + (UNKNOWN * len(units) if seconds is None else margin * seconds)
    memory = max(one.host_memory for one in needs) + START_MEMORY * (ranks - 1)
    name = "-".join([units[0].study, units[0].stage.split(" ")[0], own])
    return {
        "name": name,
        "study": units[0].study,
        "pages": sorted({page for unit in units for page in unit.pages}),
        "device": options.device,
        "gpus": gpus,
        "ranks": ranks,
        "cpus": options.cpus * (ranks if options.device == "cuda" else 1),
        "mem_mb": math.ceil(memory / 1e6),
        "runtime": math.ceil(min(limit, options.longest) / 60),
        "seconds": seconds,
        "memory": max(one.memory for one in needs),
        "mix_devices": options.mix_devices,
        "data": sorted({name_of_data(unit.run) for unit in units}),
        "units": [plain(unit) for unit in units],
    }


START_MEMORY = 3 * 10**9  # bytes of each further process


def name_of_data(run: Run) -> str:
    """As the rule that looks for data knows it, a file's name: the data set, or a folder."""
    return FOLDER + quote(run.data_dir or "", safe="") if run.dataset == "folder" else run.dataset


# Runs as plain values


def plain(unit: Unit) -> dict[str, Any]:
    """A unit as JSON holds it."""
    told = {name: getattr(unit, name) for name in ("study", "stage", "label", "classes", "group")}
    return told | {
        "key": unit.key,
        "run": asdict(unit.run),
        "told": dict(unit.told) if unit.told else None,
        "pages": list(unit.pages),
    }


def unit_of(told: dict[str, Any]) -> Unit:
    """The unit that `plain` wrote."""
    fields = dict(told["run"])
    recipe = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in fields["recipe"].items()
    }
    fields["recipe"] = Recipe(**recipe)
    fields["options"] = tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in fields["options"]
    )
    names = ("study", "stage", "label", "classes", "group", "told")
    return Unit(
        run=Run(**fields), pages=tuple(told["pages"]), **{name: told[name] for name in names}
    )


# The plan of a wave


def write_plan(
    batch: Batch, wave: int, asked: Asked, estimator: Estimator, options: Options
) -> dict[str, Any]:
    """Writes the jobs of a wave: those planned before whose runs are all still asked for, and new
    ones for what is missing beside them. Jobs of earlier waves are none of this one.
    """
    wanted = {unit.key for unit in asked.units}
    earlier = {name for one in range(wave) for name in batch.read_plan(one)["jobs"]}
    kept, covered = [], set()
    for job in _planned(batch):
        keys = {told["key"] for told in job["units"]}
        if keys <= wanted and not keys & covered:
            covered |= keys
            if job["name"] not in earlier:
                kept.append(job["name"])
    new = [unit for unit in asked.missing if unit.key not in covered]
    made = list(jobs_of(new, estimator, options))
    own = {"sources": sources(), "commit": records.git_state()}
    for job in made:
        write(job | own, batch.job(job["name"]))
    for name in kept:  # what is still to be made is made by the library as it is now
        if not batch.notebook(name).is_file():
            write(batch.read_job(name) | own, batch.job(name))
    plan = {
        "wave": wave,
        "jobs": sorted(kept) + [job["name"] for job in made],
        "asked": len(asked.units),
        "in_ledger": sum(unit.record is not None for unit in asked.units),
        "unnamed": asked.unnamed,
        **own,
    }
    write(plan, batch.plan(wave))
    return plan


def _planned(batch: Batch) -> Iterable[dict[str, Any]]:
    for path in sorted(Path(batch.folder / "jobs").glob("*.json")):
        yield batch.read_job(path.stem)
