"""Makes the runs of studies: what they cost first, then several processes that share the work, in
the order of the designs, within a budget of minutes.

Each process takes the first run that is missing and that no other process makes (the lock of the
run's folder tells), trains it on one thread, and looks again: tuning that ends elsewhere opens the
confirmatory runs here. At the end of the budget every process saves a checkpoint; the same command
goes on from there. So several calls, on several machines with one folder, share the work too.

`shard` divides it where there is no such folder. Confirmatory runs follow from the whole tuning of
their task, so that machines without a common folder exchange it (`keep`) before they go on.
"""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import pandas as pd

from astroformer import data, machine, paths
from astroformer.counting.cost import model_cost
from astroformer.data.tasks import TASKS, not_at_hand
from astroformer.ledger import curves, predictions, records
from astroformer.studies import augmentation, design, devices, few_images, stability, variations
from astroformer.studies.cells import Cell, Found, key_of_run
from astroformer.studies.devices import Elsewhere
from astroformer.training.execution import Execution
from astroformer.training.loop import fit
from astroformer.training.run import Run, default_device
from astroformer.training.run_folder import Busy

# name of a design -> the module that makes its cells
MODULES = {module.NAME: module for module in (few_images, stability, augmentation)} | dict.fromkeys(
    variations.NAMES, variations
)
WITH_CURVES = (stability.NAME,)  # studies that look at every step
# exit statuses of a process that made its runs, or that was asked to end
ENDED = (0, 130, -signal.SIGINT, -signal.SIGTERM)
GRACE = 120.0  # seconds that a process has to save its checkpoint
TOLD = 10.0  # seconds in which it begins to, if a batch system has told it as well
PATIENCE = 10.0  # seconds until a process looks again for what the others leave


@dataclass(frozen=True)
class Shard:
    """Which cells are this call's: the part `index` of `of` parts (from 0), of some tasks alone."""

    index: int
    of: int
    tasks: tuple[str, ...] = ()  # of all, where none is named

    @classmethod
    def parse(cls, text: str, tasks: Sequence[str] = ()) -> "Shard":
        """ "2/8", the first being 0/8."""
        index, slash, of = text.partition("/")
        if not (slash and index.isdecimal() and of.isdecimal() and int(index) < int(of)):
            raise ValueError(f"--shard {text!r} is not I/N with I from 0 to N - 1, such as 0/4")
        return cls(int(index), int(of), tuple(tasks))

    @property
    def words(self) -> list[str]:
        """Of a command that makes these cells."""
        tasks = [word for task in self.tasks for word in ("--task", task)]
        return [*(["--shard", f"{self.index}/{self.of}"] if self.of > 1 else []), *tasks]

    def has(self, cell: Cell) -> bool:
        """By the block (study, stage, task, seed), so that arms that are compared stay on one
        machine.
        """
        if self.tasks and cell.task not in self.tasks:
            return False
        block = f"{cell.study} {cell.stage} {cell.task} {cell.seed}"
        return int(hashlib.sha256(block.encode()).hexdigest(), 16) % self.of == self.index


def cells_of(
    names: Sequence[str], profile: str, found: Found, shard: Shard | None = None
) -> list[Cell]:
    """The runs of studies in the order in which they are made; one that two studies share once."""
    cells: list[Cell] = []
    tasks: list[str] = []
    for name in names:
        if name not in MODULES:
            raise ValueError(f"study {name!r} is not known; choose one of {', '.join(MODULES)}")
        one = design.read(name)
        cells += MODULES[name].cells(one, one.profile(profile), found)
        tasks += one.tasks
    for task in shard.tasks if shard else ():
        if task not in tasks:
            raise ValueError(
                f"--task {task!r} is no task of {', '.join(names)}; choose of "
                f"{', '.join(dict.fromkeys(tasks))}"
            )
    ordered = sorted(cells, key=lambda cell: cell.tier)  # stable: each design's own order
    once = {cell.key: cell for cell in reversed(ordered)}
    return [
        cell for cell in ordered if once[cell.key] is cell and (shard is None or shard.has(cell))
    ]


def missing(cells: list[Cell], found: Found) -> list[Cell]:
    """Runs without a record that counts: completed, or diverged."""
    return [cell for cell in cells if found.of(cell) is None]


def check_images(cells: Sequence[Cell]) -> None:
    """FileNotFoundError in one line for tasks whose images are not at hand."""
    needed = list(dict.fromkeys(TASKS[cell.task].name for cell in cells))
    absent = [name for name in needed if not (paths.data() / name).is_dir()]
    if absent:
        others = ", or name the others with --task" if len(absent) < len(needed) else ""
        raise FileNotFoundError(f"{not_at_hand(absent)}{others}")


# What it costs


def plan(names: Sequence[str], profile: str, shard: Shard | None = None) -> pd.DataFrame:
    """Runs by study and stage: how many there are, how many are done, the hours of one process that
    the rest takes at the speeds that the ledger knows. Confirmatory runs whose tuning is not over
    are not counted yet, and said so.
    """
    found = Found(records.read())
    speeds = speeds_of(records.frame())
    rows = []
    for cell in cells_of(names, profile, found, shard):
        record = found.of(cell)
        rows.append(
            {
                "tier": cell.tier,
                "study": cell.study,
                "stage": cell.stage,
                "runs": 1,
                "done": int(record is not None),
                "diverged": int(record is not None and record["status"] == "failed"),
                "hours left": 0.0 if record is not None else seconds_of(cell, speeds) / 3600,
            }
        )
    table = pd.DataFrame(
        rows, columns=["tier", "study", "stage", "runs", "done", "diverged", "hours left"]
    )
    groups = table.groupby(["tier", "study", "stage"], as_index=False, sort=False)
    # where no speed is known the hours are not known either, instead of none
    hours = groups["hours left"].agg(lambda each: each.sum(skipna=False))
    return groups.sum().assign(**{"hours left": hours["hours left"]})


def speeds_of(frame: pd.DataFrame) -> dict[tuple[str, int], float]:
    """(model, pixels) -> multiply-adds of the forward pass that a process trained on in a second,
    the median of the newest records of this machine's processor; ("", 0) of all of them.
    """
    if not len(frame) or "macs" not in frame:
        return {}
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    mine = records.device_name(device).partition(",")[0]
    known = frame[
        frame["device"].astype(str).str.startswith(mine)
        & frame["images_per_second"].notna()
        & frame["macs"].notna()
    ].copy()
    if not len(known):
        return {}
    known["rate"] = known["images_per_second"].astype(float) * known["macs"].astype(float)
    found = {("", 0): float(known["rate"].median())}
    for (model, pixels), group in known.groupby(["model", "image_size"]):
        found[(model, int(pixels))] = float(group.tail(20)["rate"].median())
    return found


def seconds_of(cell: Cell, speeds: dict[tuple[str, int], float]) -> float:
    """Of training, at the speed that is known for this network and size, else at that of any; NaN
    where none is known.
    """
    run = cell.run
    rate = speeds.get((run.model, run.image_size), speeds.get(("", 0)))
    if rate is None:
        return float("nan")
    macs = _macs(run.model, run.image_size, TASKS[cell.task].classes, run.options)
    return run.recipe.steps * run.recipe.batch_size * macs / rate


@lru_cache(maxsize=256)
def _macs(model: str, pixels: int, classes: int, options: tuple) -> int:
    return model_cost(model, image_size=pixels, num_classes=classes, **dict(options))["macs"]


# Running


def work(
    names: Sequence[str],
    profile: str,
    *,
    shard: Shard | None = None,
    device=None,
    execution: Execution | None = None,
    report: Callable[[str], None] = print,
    until: float | None = None,
    mix_devices: bool = False,
) -> int:
    """One process: makes what is missing, until nothing is or the time is over. While others make
    all that is left it waits for what they open. The number of runs made.

    mix_devices: make runs too that are compared with some that were made on another kind of device
        or in another precision; else they are left, and ValueError says why when nothing else is
    """
    machine.give_way()
    made, named = 0, set()
    refused: dict[str, Elsewhere] = {}
    device = device or default_device()
    while True:
        found = Found(records.read())
        todo = missing(cells_of(names, profile, found, shard), found)
        if not todo:
            return made
        check_images(todo)
        peers, busy = Peers(profile, found), False
        for cell in todo:
            if until is not None and time.time() >= until:
                return made
            _check_name(cell)
            if cell.key in refused:
                continue
            what = f"{cell.study}, {cell.stage}: {cell.task}, {cell.arm}, seed {cell.seed}"
            if cell.key not in named:
                named.add(cell.key)
                report(what)
            about = told(cell, profile)
            try:
                fitted = fit(
                    cell.run,
                    device=device,
                    execution=execution,
                    wait=False,
                    report=report,
                    study=about,
                    check=devices.check(
                        *(cell.run, device, peers), what=what, about=about, mix=mix_devices
                    ),
                )
            except Busy:
                busy = True
                continue
            except Elsewhere as error:
                report(str(error))
                refused[cell.key] = error
                continue
            if Found([fitted.record]).of(cell) is None:
                raise ChildProcessError(
                    f"the record of run {fitted.record['run']} does not answer the run that was "
                    "asked for; is another version of this library at work beside this one?"
                )
            made += 1
            break
        else:
            if not busy:
                raise refused[todo[0].key]
            left = PATIENCE if until is None else until - time.time()
            time.sleep(max(0.0, min(PATIENCE, left)))


class Peers:
    """The runs with which each run is compared, in any design."""

    def __init__(self, profile: str, found: Found):
        self.profile, self.found = profile, found

    @cached_property
    def by_key(self) -> dict[str, list[Cell]]:
        peers: dict[str, list[Cell]] = {}
        for name in design.names():
            one = design.read(name)
            if name not in MODULES or self.profile not in one.profiles:
                continue
            cells = MODULES[name].cells(one, one.profile(self.profile), self.found)
            for block in devices.blocks(cells).values():
                for cell in block:
                    peers.setdefault(cell.key, []).extend(block)
        return peers

    def __call__(self, run: Run, place: devices.Place) -> list[Mapping]:
        """The finished records of a run's peers; none are looked for where all of the ledger were
        made in that place.
        """
        if not devices.elsewhere(self.found.by_key.values(), place, run.seed):
            return []
        key = key_of_run(run)
        found = [self.found.of(peer) for peer in self.by_key.get(key, []) if peer.key != key]
        return [record for record in found if record is not None]


def told(cell: Cell, profile: str) -> dict[str, object]:
    """What the record of a cell's run says of its study."""
    return {
        "name": cell.study,
        "design": design.read(cell.study).digest,
        "stage": cell.stage,
        "task": cell.task,
        "arm": cell.arm,
        "profile": profile,
    }


def _check_name(cell: Cell) -> None:
    """ValueError for images that call themselves otherwise: their runs would not be found again."""
    name = data.about("folder", cell.run.data_dir).name
    if name != cell.run.data_dir:
        raise ValueError(
            f"{paths.data() / cell.task} calls itself {name!r} in its about.json, so that no run "
            f"on it would be known as one of {cell.task!r}; remove the folder, and make it with "
            f"`astroformer data derive {cell.task}`"
        )


def run(
    names: Sequence[str],
    profile: str,
    *,
    minutes: float | None = None,
    parallel: int = 1,
    shard: Shard | None = None,
    words: Sequence[str] = (),
    progress: bool = True,
) -> bool:
    """Starts `parallel` processes of one thread each and shows how far they are; at the end of the
    budget, and at an interruption, they save what they have. True when nothing is missing.
    ChildProcessError, with its last words, for a process that ended otherwise.

    words: further words of the command that each process gets, such as ["--device", "cuda"]
    """
    found = Found(records.read())
    todo = missing(cells_of(names, profile, found, shard), found)
    if not todo:
        return True
    check_images(todo)
    until = None if minutes is None else time.time() + 60 * minutes
    command = [sys.executable, "-m", "astroformer", "study", "work", *names]
    command += ["--profile", profile, *(shard.words if shard else []), *words]
    command += [] if until is None else ["--until", f"{until:.0f}"]
    folder = paths.local_ledger() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    # the end of a tuning opens more runs than there are now
    open_ended = any(cell.stage == "tuning" for cell in todo)
    began, workers = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}", {}
    with _told_to_end():
        try:
            for number in range(parallel if open_ended else min(parallel, len(todo))):
                path = folder / f"study-{began}-{number}.log"
                with open(path, "w") as log:
                    # in a session of its own, so that a Ctrl-C reaches it once, from here
                    worker = subprocess.Popen(
                        command,
                        env=os.environ | machine.threads(1),
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                workers[worker] = path
            _watch(list(workers), names, profile, shard, until, progress)
        except _Ended:
            _wait(workers, TOLD)
            raise
        finally:
            _end(workers)
    broken = [worker for worker in workers if worker.returncode not in ENDED]
    if broken:
        path, status = workers[broken[0]], broken[0].returncode
        raise ChildProcessError(
            f"{len(broken)} of {len(workers)} processes ended with status {status}, the last words "
            f"of which are {_last_line(path)!r} in {path}; the same command goes on"
        )
    found = Found(records.read())
    return not missing(cells_of(names, profile, found, shard), found)


class _Ended(KeyboardInterrupt):
    """A batch system ends the job, or the terminal is closed."""


@contextmanager
def _told_to_end() -> Iterator[None]:
    """While entered, the end of a job is an end of the budget, as a Ctrl-C is."""

    def note(number: int, frame: object) -> None:
        raise _Ended

    of_a_job = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {
        number: signal.getsignal(number)
        for number in of_a_job
        if threading.current_thread() is threading.main_thread()  # no other may set them
        and signal.getsignal(number) is not signal.SIG_IGN  # as nohup has it
    }
    try:
        for number in before:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _watch(workers, names, profile, shard, until, progress: bool) -> None:
    """A bar of the runs, until the processes end or the time is over."""
    from tqdm import tqdm

    found = Found(records.read())
    cells = cells_of(names, profile, found, shard)
    done = len(cells) - len(missing(cells, found))
    speeds = speeds_of(records.frame())
    with tqdm(total=len(cells), initial=done, unit="run", disable=not progress) as bar:
        while any(worker.poll() is None for worker in workers):
            time.sleep(2 if until is None else min(2.0, max(0.1, until - time.time())))
            if until is not None and time.time() >= until:
                return
            if not progress or int(time.time()) % 30 > 2:
                continue
            found = Found(records.read())
            cells = cells_of(names, profile, found, shard)
            left = missing(cells, found)
            hours = sum(seconds_of(cell, speeds) for cell in left) / 3600 / len(workers)
            bar.total, bar.n = len(cells), len(cells) - len(left)
            if hours == hours:
                bar.set_postfix_str(f"{hours:.1f} h left of what can be named")


def _wait(workers: Iterable[subprocess.Popen], seconds: float) -> None:
    """Until all have ended, or the time is over."""
    end = time.monotonic() + seconds
    while any(worker.poll() is None for worker in workers) and time.monotonic() < end:
        time.sleep(0.1)


def _end(workers: Iterable[subprocess.Popen]) -> None:
    """Asks each process to end, on which it saves; whoever does not end is ended. By SIGTERM, since
    a shell's background jobs ignore SIGINT.
    """
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
    _wait(workers, GRACE)
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


# What there is, and keeping it


def frame(name: str, profile: str) -> pd.DataFrame:
    """One row a run of a study, in the order in which they are made: what the ledger says of it,
    or "not run", and its command.
    """
    found = Found(records.read())
    rows = []
    for cell in cells_of([name], profile, found):
        record = found.of(cell)
        row = {
            "stage": cell.stage,
            "task": cell.task,
            "arm": cell.arm,
            "seed": cell.seed,
            "settings": ", ".join(f"{key} {value}" for key, value in cell.settings.items()),
            "status": "not run" if record is None else record["status"],
        }
        if record is not None:
            row |= {"run": record["run"], **record["metrics"]}
        rows.append(row | {"command": cell.run.command(located=True)})
    return pd.DataFrame(rows)


def keep(name: str, profile: str | None = None) -> int:
    """Copies the finished runs of a study that only this machine has, completed or diverged, into
    `book/ledger/`, with their predictions and the curves of those that the study looks at. How
    many. The file bears the name of the study that a run was made for, whichever study is kept.
    """
    one, kept = design.read(name), 0
    every = records.read()
    committed = {record["run"] for record in every if record["origin"] == "committed"}
    found = Found(record for record in every if record["origin"] == "local")
    looked_at = Found(every)
    for chosen in [profile] if profile else one.profiles:
        for cell in cells_of([name], chosen, looked_at):
            record = found.of(cell)
            if record is None or record["run"] in committed:
                continue
            # the record last: what is kept of a run is whole, or is kept again
            predictions.keep(record["run"], compact=True)
            if name in WITH_CURVES:
                curves.keep(record["run"])
            line = {field: value for field, value in record.items() if field != "origin"}
            made_for = (record.get("study") or {}).get("name", name)
            records.write_line(line, paths.LEDGER / f"{made_for}.jsonl")
            committed.add(record["run"])
            kept += 1
    return kept
