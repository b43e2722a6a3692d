"""On which devices the runs of a study were made. Runs that are compared with one another, those of
a block, belong on one kind of device and in one precision: else a difference between arms may be
one between devices, which round and schedule otherwise.

A block is a study, stage, task and seed. By that every comparison of the studies pairs its runs
(`outcomes.by_seed`, `contrasts.blocked`, the factorial); from one block to the next the device may
change, since a seed's level is taken out. All runs of a block count, not only those of different
arms: a factorial has one arm, and a range of rates is only as good as its rates.

What is looked at is what the ledger holds. Two machines that begin a block at the same moment are
told nothing; the pages still say what came of it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import pandas as pd
import torch

from astroformer.data.tasks import TASKS
from astroformer.ledger import records
from astroformer.studies.cells import Cell, Found
from astroformer.training.run import Run, precision_of

THREADS = re.compile(r", \d+ threads?$")  # at the end of a processor's name
FLAG = "--mix-devices"


class Elsewhere(ValueError):
    """A run is compared with some that were made on another kind of device."""


class Place(NamedTuple):
    """Where a run is made, as far as it may change what comes out."""

    device: str  # its kind: a name without the number of threads
    precision: str

    def __str__(self) -> str:
        return f"{self.device} ({self.precision})"


class Block(NamedTuple):
    study: str
    stage: str
    task: str
    seed: int


def kind_of(device: str) -> str:
    """The kind of a device by its name in a record. The number of threads is no part of it: it
    says how busy a machine was, and not which one.
    """
    return THREADS.sub("", device)


def place_of(run: Run, device: torch.device) -> Place:
    """Where a run would be made."""
    precision = run.recipe.precision
    return Place(
        kind_of(records.device_name(device)),
        precision_of(device) if precision == "auto" else precision,
    )


def places_of(record: Mapping) -> frozenset[Place]:
    """Where a run was made: in one place, or in several if it was stopped and went on elsewhere.
    None where its record does not say.
    """
    attempts = [one for one in record.get("attempts") or () if one.get("images", 1)]
    names = {one["device"] for one in (*attempts, record) if one.get("device")}
    return frozenset(Place(kind_of(name), str(record.get("precision"))) for name in names)


def other_device(known: Iterable[Mapping], place: Place) -> Mapping | None:
    """The first of some finished records that was made elsewhere, be it in part; None if all were
    made there.
    """
    return next((record for record in known if _is_elsewhere(record, place)), None)


def elsewhere(known: Iterable[Mapping], place: Place, seed: int) -> list[Mapping]:
    """Finished records of a seed that were made elsewhere: without any, nothing can be mixed."""
    return [one for one in known if one.get("seed") == seed and _is_elsewhere(one, place)]


def _is_elsewhere(record: Mapping, place: Place) -> bool:
    return record["status"] != "interrupted" and bool(places_of(record) - {place})


def refused(what: str, record: Mapping, place: Place) -> Elsewhere:
    """Why a run, so called, is not made here, in one line."""
    arm = (record.get("study") or {}).get("arm")
    there = " and ".join(sorted(map(str, places_of(record))))
    return Elsewhere(
        f"{what} is compared with run {record['run']}{f' ({arm})' if arm else ''}, which was made "
        f"on {there}, and this device is {place}; make it there, or give {FLAG}, which the record "
        "and the page then say"
    )


# The runs with which a run is compared, as far as it matters where it is made: finished records.
Peers = Callable[[Run, Place], Iterable[Mapping]]


def check(
    run: Run,
    device: torch.device,
    peers: Peers,
    *,
    what: str,
    about: dict[str, object] | None,
    mix: bool,
) -> Callable[[], None]:
    """For `fit`, of a run so called: Elsewhere if one with which it is compared was made elsewhere.

    mix: it is made all the same, and `about`, what its record says of its study, then says that
    """

    def made_there() -> None:
        place = place_of(run, device)
        other = other_device(peers(run, place), place)
        if other is None:
            return
        if not mix:
            raise refused(what, other, place)
        if about is not None:
            about["mixed_devices"] = True

    return made_there


# What is mixed


def blocks(cells: Iterable[Cell]) -> dict[Block, list[Cell]]:
    """The cells that are compared with one another; one that is asked for twice once."""
    found: dict[Block, dict[str, Cell]] = {}
    for cell in cells:
        block = Block(cell.study, cell.stage, cell.task, cell.seed)
        found.setdefault(block, {}).setdefault(cell.key, cell)
    return {block: list(each.values()) for block, each in found.items()}


def mixed(cells: Iterable[Cell], found: Found) -> dict[Block, Counter[Place]]:
    """The blocks whose finished runs were made in different places, with how many in each; a run
    that was made in several counts in each.
    """
    told = {}
    for block, each in blocks(cells).items():
        made = [record for cell in each if (record := found.of(cell)) is not None]
        if len(made) > 1 and len(counted := count(made)) > 1:
            told[block] = counted
    return told


def are_several(known: Iterable[Mapping]) -> bool:
    """Whether records were made in more than one place: else nothing is mixed."""
    return len({place for record in known for place in places_of(record)}) > 1


def count(made: Iterable[Mapping]) -> Counter[Place]:
    return Counter(place for record in made for place in places_of(record))


def sentence(found: Mapping[Block, Counter[Place]]) -> str:
    """Which blocks are mixed, with the numbers of runs; "" for none."""
    if not found:
        return ""
    groups: dict[tuple[str, str], list[Block]] = {}
    for block in found:
        groups.setdefault((block.stage, block.task), []).append(block)
    told = [
        f"{stage}, {TASKS[task].title if task in TASKS else task}, {_seeds(b.seed for b in each)}: "
        f"{_runs(found[block] for block in each)}"
        for (stage, task), each in groups.items()
    ]
    return _whole(len(found), "of a stage, a task and a seed", "; ".join(told))


def where(cells: Iterable[Cell], found: Found) -> str:
    """Where finished runs were made, with how many in each place; "" for fewer than two."""
    made = [record for cell in cells if (record := found.of(cell)) is not None]
    counted = count({record["run"]: record for record in made}.values())
    if len(counted) < 2:
        return ""
    return f"Where they were made: {_runs([counted])}."


def sentence_of_seeds(runs: pd.DataFrame) -> str:
    """The same of a study without stages and tasks (`studies.frame`), whose blocks are seeds.

    runs: one row a completed run, with seed, device and precision
    """
    if not {"device", "precision"} <= set(runs):
        return ""
    told = {}
    for seed, group in runs.groupby("seed"):
        made = group[["device", "precision"]].dropna().to_dict("records")
        if len(counted := count(made)) > 1:
            told[seed] = counted
    return told and _whole(len(told), "of a seed", f"{_seeds(told)}: {_runs(told.values())}") or ""


def _whole(number: int, of_what: str, told: str) -> str:
    blocks = "one set" if number == 1 else f"{number} sets"
    return (
        f"**Devices are mixed** within {blocks} of runs that are compared with one another, those "
        f"{of_what}, so that differences there may be those of devices: {told}."
    )


def _seeds(seeds: Iterable[int]) -> str:
    names = [f"{seed}" for seed in sorted(seeds)]
    return f"seed{'s' * (len(names) > 1)} {', '.join(names)}"


def _runs(counts: Iterable[Counter[Place]]) -> str:
    whole = sum(counts, Counter())
    return ", ".join(
        f"{number} run{'s' * (number > 1)} on {place}" for place, number in sorted(whole.items())
    )
