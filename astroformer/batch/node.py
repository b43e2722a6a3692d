"""A job as it runs on its node: what is wrong with the node is said first, in one line; then the
training page is executed with the job's runs; a signal of the scheduler saves what there is.

With several GPUs torchrun makes the runs, and the page that follows shows them. A job that was told
to end asks Slurm to be started again, and elsewhere ends with the status AGAIN, which the engine
answers with another try. Its checkpoints lie in the folders of its runs, so that any node goes on.

Reads top to bottom: run (a job), refusals, page (of the book), ends and starts again.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from astroformer import machine, paths
from astroformer.batch.ending import Ending
from astroformer.batch.layout import AGAIN, Batch, sources, write
from astroformer.reproduce.execute import Failure, execute, kernel_environment
from astroformer.reproduce.pages import MAKE, Layout, Page, read_book, read_profile
from astroformer.reproduce.run import noted

FAILED = 1
REFUSED = 2  # the node cannot do this job; another may
MOST_STARTS = 100  # of one job under Slurm
LEAST_ROOM = 2 * 10**9  # bytes of a disk that a job begins with


class Refused(ValueError):
    """A node that cannot do a job, in one line that names the way out."""


def run(batch: Batch, name: str, ending: Ending) -> int:
    """Makes the runs of a job and executes its page; the exit status."""
    job = batch.read_job(name)
    os.environ["ASTROFORMER_JOB"] = name
    os.environ.setdefault("ASTROFORMER_LOCKS", "lease")
    try:
        check_node(job)
        return _made(batch, job, ending)
    except Refused as refused:
        return _refused(batch, name, f"{refused}")


def _made(batch: Batch, job: Mapping[str, Any], ending: Ending) -> int:
    name = job["name"]
    if job["ranks"] > 1:
        status = _together(batch, job, ending)
        if status:
            failure = Failure("torchrun", "", _last_words(status))
            return _end(batch, name, status, failure, batch.executed(name))
    layout = Layout()
    page = next(page for page in read_book(layout) if page.name == "training")
    parameters = {"job": str(batch.job(name))}
    return _executed(
        *(batch, name, layout, page, parameters, ending),
        copy=batch.executed(name),
        notebook=batch.notebook(name),
        threads=job["cpus"],
    )


def _executed(
    batch: Batch,
    name: str,
    layout: Layout,
    page: Page,
    parameters: dict[str, object],
    ending: Ending,
    *,
    copy: Path,
    notebook: Path,
    threads: int | None = None,
    note: Callable[[Failure | None, float], None] | None = None,
) -> int:
    """Executes a page into `copy`, and puts it where the engine waits for it if it held.

    note: is told how it ended and in how many seconds, unless it was told to end
    """
    if ending.told:
        return _end(batch, name, AGAIN, None, copy)
    with kernel_environment(layout, threads), ending.handed_to(_interrupt_kernels):
        failure, seconds = execute(layout, page, parameters, copy)
    if ending.told:
        return _end(batch, name, AGAIN, failure, copy)
    if note:
        note(failure, seconds)
    if failure:
        return _end(batch, name, FAILED, failure, copy)
    batch.failed(name).unlink(missing_ok=True)
    publish(copy, notebook)
    print(f"{name} done in {seconds:.1f} s", flush=True)
    return 0


def publish(copy: Path, notebook: Path) -> None:
    """A copy where it is waited for, whole or not at all, without taking its room twice."""
    notebook.parent.mkdir(parents=True, exist_ok=True)
    partial = notebook.with_name(f".{notebook.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(copy, partial)
    except OSError:  # a file system without links
        shutil.copyfile(copy, partial)
    os.replace(partial, notebook)
    os.utime(notebook)


# What is wrong with a node


def check_node(job: Mapping[str, Any]) -> None:
    """Refused, in one line, for a node on which the job cannot run as it was planned."""
    own = sources()
    if own != job["sources"]:
        from astroformer.ledger import records

        here, there = records.git_state(), job["commit"]
        raise Refused(
            f"this node has another library than the one that planned the job: {_state(here)}, "
            f"sources {own}; planned with {_state(there)}, sources {job['sources']}. Give both the "
            "same commit, or plan again (the next call of snakemake does)"
        )
    _check_device(job)
    _check_data(job)
    _check_room(job)


def _state(git: Mapping[str, Any]) -> str:
    commit = (git.get("commit") or "no commit")[:12]
    return f"{commit}{' with changes' if git.get('dirty') else ''}"


def _check_device(job: Mapping[str, Any]) -> None:
    if job["device"] != "cuda":
        return
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there < max(1, job["gpus"]):
        raise Refused(
            f"the job needs {max(1, job['gpus'])} GPU(s) and torch sees {there} on "
            f"{platform.node()} (CUDA_VISIBLE_DEVICES is "
            f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')!r}); ask the scheduler for GPUs, "
            "or plan for the processor: --config device=cpu"
        )


def _check_data(job: Mapping[str, Any]) -> None:
    from astroformer.batch.data import lacking

    absent = lacking(job["data"])
    if absent:
        raise Refused("; ".join(absent))


def _check_room(job: Mapping[str, Any]) -> None:
    from astroformer.ledger import records
    from astroformer.training import run_folder

    try:
        run_folder.check_writable(paths.runs())
        records.check_writable()
    except OSError as error:
        raise Refused(f"{error}") from error
    for what, folder, variable in (
        ("checkpoints", paths.runs(), "ASTROFORMER_RUNS"),
        ("records", paths.local_ledger(), "ASTROFORMER_LOCAL_LEDGER"),
    ):
        free = shutil.disk_usage(folder).free
        if free < LEAST_ROOM:
            raise Refused(
                f"the disk of the {what}, {folder}, has {free / 1e9:.1f} GB left, and a job begins "
                f"with {LEAST_ROOM / 1e9:.0f} at least; make room, or set {variable}"
            )


# Several processes


def _together(batch: Batch, job: Mapping[str, Any], ending: Ending) -> int:
    """torchrun with as many processes as the job has ranks, which make its runs."""
    if ending.told:
        return AGAIN
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(job["ranks"]), "-m", "astroformer.batch", "ranks"]
    command += [str(batch.job(job["name"]))]
    threads = max(1, job["cpus"] // job["ranks"])
    process = subprocess.Popen(
        command, env=os.environ | machine.threads(threads), start_new_session=True
    )

    def forward() -> None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)  # torchrun hands it on and waits

    with ending.handed_to(forward):
        status = process.wait()
    return AGAIN if ending.told else status


def _last_words(status: int) -> str:
    return f"torchrun ended with status {status}; the log has what the first rank said that failed"


def ranks(path: Path) -> int:
    """One of the processes that torchrun starts: makes the runs of a job."""
    import torch

    from astroformer.batch.jobs import unit_of
    from astroformer.studies.make import make

    job = json.loads(path.read_text())
    make(
        [unit_of(told) for told in job["units"]],
        device=torch.device(job["device"]),
        mix_devices=job["mix_devices"],
    )
    return 0


# A page of the book


def page(batch: Batch, name: str, ending: Ending, *, profile: str, study_profile: str = "") -> int:
    """Executes a page as `astroformer reproduce` does, where the engine waits for it."""
    layout = Layout()
    pages = read_book(layout)
    injected = read_profile(layout, pages, profile)
    found = {page.name: page for page in pages if page.executable}
    if name not in found:
        raise Refused(f"no page named {name}; the pages are {', '.join(found)}")
    chosen, parameters = found[name], dict(injected[name])
    if MAKE in chosen.defaults:  # what is missing has jobs of its own
        parameters[MAKE] = False
    if study_profile and "study_profile" in chosen.defaults:
        parameters["study_profile"] = study_profile
    return _executed(
        *(batch, name, layout, chosen, parameters, ending),
        copy=layout.executed(profile) / chosen.copy,
        notebook=batch.page(name),
        note=noted(layout, profile, chosen, parameters),
    )


# The end


def _interrupt_kernels() -> None:
    """The kernels of this process save as at a Ctrl-C; the scheduler may have told them too."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any("ipykernel" in word for word in child.cmdline()):
                child.send_signal(signal.SIGINT)


def _end(batch: Batch, name: str, status: int, failure: Failure | None, copy: Path) -> int:
    """Notes why a job or page did not end well, and how it goes on."""
    if status == AGAIN:
        if _requeued():
            print(f"{name} saved; Slurm starts it again", file=sys.stderr, flush=True)
        else:
            print(f"{name} saved; the next try goes on from there", file=sys.stderr, flush=True)
        return AGAIN
    told = vars(failure) if failure else {"cell": "", "source": "", "error": f"status {status}"}
    write(
        {"name": name, **told, "copy": str(copy) if copy.is_file() else ""},
        batch.failed(name),
    )
    print(f"{name} failed at {told['cell']}: {told['error']}", file=sys.stderr, flush=True)
    return status


def _refused(batch: Batch, name: str, why: str) -> int:
    with suppress(OSError):  # its disk may be what is full
        write(
            {"name": name, "cell": "before it began", "source": "", "error": why, "copy": ""},
            batch.failed(name),
        )
    print(f"{name}: {why}", file=sys.stderr, flush=True)
    return REFUSED


def _requeued() -> bool:
    """Whether Slurm was asked to start this job again. Not one that somebody has ended: its state
    is not RUNNING any more.
    """
    number = os.environ.get("SLURM_JOB_ID")
    if number is None or int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= MOST_STARTS:
        return False
    try:
        state = subprocess.run(
            ["squeue", "--noheader", "--jobs", number, "--format", "%T"],
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()
        if state != "RUNNING":
            return False
        asked = subprocess.run(["scontrol", "requeue", number], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        traceback.print_exc()
        return False
    return asked.returncode == 0
