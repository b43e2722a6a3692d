"""Makes runs that are asked for, one after another in this process: for a page, or a batch job.

What another process makes is passed over and, at the end, waited for: no run is made twice, and no
device idles beside one. What is stopped, by the clock or by a signal, has saved, and the same call
goes on.

Reads top to bottom: Made, NotMade, make, one run of it.
"""

import gc
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from astroformer import data, machine
from astroformer.counting.budget import duration
from astroformer.data.tasks import not_at_hand
from astroformer.ledger import records
from astroformer.studies import devices, runner, studies
from astroformer.studies.asked import Unit
from astroformer.studies.cells import Found
from astroformer.training import Execution, Fitted, Run, fit, memory
from astroformer.training.interrupts import Interrupts
from astroformer.training.loop import silent
from astroformer.training.run import default_device
from astroformer.training.run_folder import Busy
from astroformer.training.shortage import OutOfMemory

SOON, PATIENCE = 0.5, 10.0  # seconds until what others make is looked at again: first, at most
LONGEST = 5  # labels, or reasons, that a line names

Report = Callable[[str], None]


@dataclass
class Made:
    """What became of some units.

    made: trained here to their end, completed or diverged
    found: that the ledger held, or that another process made meanwhile
    diverged: of these, those whose record says failed
    left: neither; the time was over, or other processes make them and were not waited for
    errors: with the line that says why
    """

    made: list[Unit] = field(default_factory=list)
    found: list[Unit] = field(default_factory=list)
    diverged: list[Unit] = field(default_factory=list)
    left: list[Unit] = field(default_factory=list)
    errors: list[tuple[Unit, str]] = field(default_factory=list)
    seconds: float = 0.0

    def __add__(self, other: "Made") -> "Made":
        return Made(
            *(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__)
        )


class NotMade(OSError):
    """Some runs could not be made; all others are. `made` tells which."""

    def __init__(self, made: Made):
        self.made = made
        super().__init__(reasons(made.errors))


def reasons(errors: Sequence[tuple[Unit, str]]) -> str:
    """In one line: each reason once, with the units that it stopped."""
    by: dict[str, list[str]] = {}
    for unit, line in errors:
        by.setdefault(line, []).append(f"{unit.study} ({unit.label})")
    told = [f"{shortened(labels)}: {line}" for line, labels in by.items()]
    runs = "1 run" if len(errors) == 1 else f"{len(errors)} runs"
    return f"{runs} could not be made: {shortened(told, '; ')}"


def shortened(words: Sequence[str], between: str = ", ") -> str:
    """The first of a list, and how many others there are."""
    more = len(words) - LONGEST
    return between.join(words[:LONGEST]) + (f"{between}and {more} more" if more > 0 else "")


def make(
    units: Sequence[Unit],
    *,
    hours: float | None = None,
    device: torch.device | None = None,
    execution: Execution | None = None,
    report: Report = print,
    progress: Report | None = None,
    wait: bool = True,
    need_weights: bool = False,
    mix_devices: bool = False,
    then: Callable[[Unit, Fitted], None] | None = None,
) -> Made:
    """Trains the run of each unit that the ledger does not hold, in the order given.

    hours: after which the run under way saves and no other begins; None is no limit
    execution: of every run; what does not fit the device as it is computes its activations twice
        (the same run), if its network can
    report: is told of each unit; `progress` of what happens within a run, None being `report`
    wait: in the end for the runs that other processes make, else they are `left`
    need_weights: train again what the ledger holds and of which the weights are gone
    mix_devices: make runs too that a study compares with some that were made on another kind of
        device or in another precision; else those are among the errors
    then: what to do with each unit that is made or found; an error of it is one of the unit

    A run that diverges has a record that says so, and is made. What stops one unit alone (no
    images, too little memory) does not stop the others: NotMade at the end. KeyboardInterrupt when
    this process is told to end, once the run under way has saved.

    Several processes that train together (torchrun) call it alike. They wait for others at each
    run, and an error of one, after which they cannot meet again, ends them all.
    """
    if hours is not None and not 0 <= hours < math.inf:
        raise ValueError(f"hours {hours:g}: give 0 or more hours")
    report = silent if int(os.environ.get("RANK", "0")) else report
    maker = Maker(
        device or default_device(),
        execution or Execution(),
        until=None if hours is None else time.monotonic() + 3600 * hours,
        report=report,
        progress=progress or report,
        need_weights=need_weights,
        mix_devices=mix_devices,
        then=then,
    )
    # between two runs nothing is to be saved: there a signal ends the process as a Ctrl-C does
    with Interrupts():
        made = maker.all(units, wait=wait)
    if made.errors:
        raise NotMade(made)
    return made


@dataclass
class Maker:
    """How units are made, and what has become of them so far."""

    device: torch.device
    execution: Execution
    until: float | None  # of time.monotonic
    report: Report
    progress: Report
    need_weights: bool
    mix_devices: bool
    then: Callable[[Unit, Fitted], None] | None
    made: Made = field(default_factory=Made)
    named: set[int] = field(default_factory=set)  # numbers of units that were reported

    def all(self, units: Sequence[Unit], *, wait: bool) -> Made:
        began, patience = time.monotonic(), SOON
        todo = list(enumerate(units, 1))
        while True:
            left = []
            for number, unit in todo:
                if self.over or not self.one(unit, number, len(units)):
                    left.append((number, unit))
            if not left or not wait or self.over:
                break
            moved = len(left) < len(todo)
            if moved or patience == SOON:
                self.report(f"waiting for {len(left)} runs that other processes make")
            patience = SOON if moved else min(PATIENCE, 2 * patience)
            time.sleep(patience if self.until is None else min(patience, self.seconds_left))
            todo = left
        self.made.left = [unit for _, unit in left]
        self.made.seconds = time.monotonic() - began
        if left and self.over:
            self.report(f"the time is over with {len(left)} runs left; the same line goes on")
        return self.made

    @property
    def seconds_left(self) -> float:
        return math.inf if self.until is None else max(0.0, self.until - time.monotonic())

    @property
    def over(self) -> bool:
        return self.seconds_left == 0.0

    def one(self, unit: Unit, number: int, of: int) -> bool:
        """Whether the unit is done with; not if another process makes it, or the time is over."""
        new = number not in self.named
        if new:
            self.named.add(number)
            self.report(f"{number}/{of} {unit.study}, {unit.stage}: {unit.label}")
        try:
            fitted = self.fitted(unit)
            status = fitted.record["status"]
            if status == "interrupted":
                return False
            if status == "completed" and self.then:
                self.then(unit, fitted)
        except Exception as error:
            of_the_run = isinstance(error, OSError | ValueError) or is_out_of_memory(error)
            if not of_the_run or torch.distributed.is_initialized():
                raise
            if isinstance(error, Busy):
                self.report(f"{error}; going on with the next") if new else None
                return False
            line = " ".join(str(error).split())
            self.made.errors.append((unit, line))
            self.report(f"not made: {line}")
            return True
        finally:
            release(self.device)
        (self.made.found if fitted.reused else self.made.made).append(unit)
        if status == "failed":
            self.made.diverged.append(unit)
        self.report(outcome(fitted))
        return True

    def fitted(self, unit: Unit) -> Fitted:
        """The unit's run; what lacks memory after all goes on with its activations computed
        twice.
        """
        run = with_images(unit.run)
        how = self.executed(run, unit.classes)
        try:
            return self.fit(run, unit, how)
        except Exception as error:
            if not is_out_of_memory(error) or not self.may_checkpoint(run, how):
                raise
            line = str(error)
        # outside of the clause above, which holds the tensors of the run that failed
        release(self.device)
        self.report(f"{line}; going on with --grad-checkpointing")
        return self.fit(run, unit, replace(how, grad_checkpointing=True))

    def fit(self, run: Run, unit: Unit, execution: Execution) -> Fitted:
        about = dict(unit.told) if unit.told else None
        what, mix = f"{unit.study}, {unit.stage}: {unit.label}", self.mix_devices
        compared = (unit.run, self.device, peers_of(unit))
        return fit(
            run,
            device=self.device,
            execution=execution,
            wait=machine.together() > 1,
            need_weights=self.need_weights,
            again=False,
            time_limit=None if self.until is None else self.seconds_left,
            study=about,
            check=devices.check(*compared, what=what, about=about, mix=mix),
            report=self.progress,
        )

    def executed(self, run: Run, classes: int) -> Execution:
        """As asked for, with checkpointing where the device has too little memory without it."""
        free = memory_of(self.device)
        execution = replace(self.execution, world_size=machine.together())
        resolved = run.resolved(self.device)
        kind = "cpu" if self.device.type == "cpu" else "cuda"
        needed = memory.of_steps(resolved, classes=classes, device=kind, execution=execution)
        images = memory.held_on(self.device, resolved)
        if free is None or needed.most + images <= free:
            return self.execution
        if not self.may_checkpoint(run, self.execution, alone=False):
            return self.execution
        return replace(self.execution, grad_checkpointing=True)

    def may_checkpoint(self, run: Run, execution: Execution, *, alone: bool = True) -> bool:
        """Whether it would be another try. After an error that one of several processes met alone,
        the others could not follow.
        """
        if execution.grad_checkpointing or (alone and machine.together() > 1):
            return False
        return memory.can_checkpoint(run)


def peers_of(unit: Unit) -> devices.Peers:
    """The runs with which a study compares a unit's."""

    def of_designs(run: Run, place: devices.Place) -> Sequence[Mapping]:
        return runner.Peers(str(told["profile"]), Found(records.read()))(run, place)

    told = unit.told or {}
    if told.get("name") in runner.MODULES:
        return of_designs
    if unit.study in studies.STUDIES:
        return studies.Peers(unit.study)
    return lambda run, place: ()


def outcome(fitted: Fitted) -> str:
    """What came of a run, in a few words."""
    record = fitted.record
    if record["status"] == "failed":
        return f"diverged at step {record['failed_at_step']}"
    where = "in the ledger" if fitted.reused else f"made in {duration(record['seconds'])}"
    return f"{where}: {record['metrics']['top1']:.2f} % top-1"


def with_images(run: Run) -> Run:
    """The run with its images where they lie. FileNotFoundError in one line that names the way to
    bring them; ValueError for a folder that calls itself otherwise, whose runs would not be found
    again.
    """
    found = studies.located(run)
    if run.dataset != "folder" or run.data_dir is None:
        return found  # of a data set with a name, whatever reads it says so
    try:
        name = data.about("folder", found.data_dir).name
    except FileNotFoundError as error:
        if Path(run.data_dir).name != run.data_dir:
            raise
        raise FileNotFoundError(not_at_hand([run.data_dir])) from error
    if name != studies.name_of_folder(run.data_dir):
        raise ValueError(
            f"{data.root_of('folder', found.data_dir)} calls itself {name!r} in its about.json, so "
            f"that no run on it would be known as one of {run.data_dir!r}; name that folder, or "
            "remove the file"
        )
    return found


def memory_of(device: torch.device) -> float | None:
    """Bytes that a run can have; of several processes, which must decide alike, what the device has
    in all.
    """
    if device.type == "cuda" and machine.together() > 1:
        return torch.cuda.get_device_properties(device).total_memory
    return memory.free_on(device)


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, OutOfMemory) or machine.is_out_of_memory(error)


def release(device: torch.device) -> None:
    """Gives a GPU's memory back between two runs, and what was compiled for the first."""
    if device.type != "cuda":
        return
    gc.collect()
    torch.cuda.empty_cache()
    if (compiled := sys.modules.get("torch._dynamo")) is not None:
        compiled.reset()
