"""A node that cannot do its job says so in one line before anything is trained, and loses nothing;
one that is told to end saves and goes on.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from batch_of_runs import planned

from astroformer.batch.ending import SIGNALS
from astroformer.batch.layout import AGAIN
from astroformer.batch.node import REFUSED

# one by one the handler is the same, and each costs the imports of a process
EACH = [SIGNALS[0], *(pytest.param(number, marks=pytest.mark.slow) for number in SIGNALS[1:])]


def command(batch, name):
    return [sys.executable, "-m", "astroformer.batch", "run", str(batch.folder), name]


def run(batch, name, **variables):
    return subprocess.run(
        command(batch, name), env=os.environ | variables, capture_output=True, text=True
    )


def refused(done, *words):
    """Whether a job was refused in one line that has these words."""
    assert done.returncode == REFUSED, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    for word in words:
        assert word in lines[0], lines[0]
    return True


def changed(batch, name, **fields):
    path = batch.job(name)
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@contextmanager
def mounted(place, options):
    """A file system of its own in memory."""
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)]).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def job(own_runs, tmp_path):
    batch, told = planned(tmp_path / "own")
    [name] = told["jobs"]
    return batch, name


def test_a_node_with_another_library_is_refused_and_both_are_named(job):
    batch, name = job
    other = {"commit": "0123456789abcdef", "dirty": False}
    changed(batch, name, sources="f" * 16, commit=other)
    assert refused(run(batch, name), "0123456789ab", "f" * 16, batch.read_job(name)["name"])
    from astroformer.batch.layout import sources

    assert sources() in run(batch, name).stderr


def test_a_node_without_a_gpu_is_refused(job):
    batch, name = job
    changed(batch, name, device="cuda", gpus=1)
    done = run(batch, name, CUDA_VISIBLE_DEVICES="")
    assert refused(done, "needs 1 GPU", "torch sees 0", "device=cpu")


def test_a_node_without_the_images_is_refused_with_the_way_to_bring_them(own_runs, tmp_path):
    batch, told = planned(
        tmp_path / "own", data="folder", more=", data_dir: cifar100, fraction: 0.1"
    )
    [name] = told["jobs"]
    done = run(batch, name, ASTROFORMER_DATA=str(tmp_path / "nothing"))
    assert refused(done, "cifar100", "astroformer data derive cifar100", "ASTROFORMER_DATA")


def test_a_folder_that_cannot_be_written_is_named_with_its_variable(job, tmp_path):
    batch, name = job
    (tmp_path / "file").write_text("no folder")
    for variable in ("ASTROFORMER_RUNS", "ASTROFORMER_LOCAL_LEDGER"):
        assert refused(run(batch, name, **{variable: str(tmp_path / "file" / "in")}), variable)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted by root alone")
def test_a_full_disk_is_told_before_anything_is_trained(job, tmp_path):
    batch, name = job
    with mounted(tmp_path / "full", "size=64k") as place:
        assert refused(run(batch, name, ASTROFORMER_RUNS=str(place / "runs")), "GB left", "room")


@pytest.mark.slow
def test_what_was_refused_is_in_the_summary_and_not_after_it_holds(job):
    batch, name = job
    right = batch.read_job(name)["sources"]
    changed(batch, name, sources="f" * 16)
    run(batch, name)
    said = subprocess.run(
        [sys.executable, "-m", "astroformer.batch", "summary", str(batch.folder)],
        capture_output=True,
        text=True,
    )
    assert said.returncode == 1 and said.stdout.startswith(f"{name} failed at before it began")
    changed(batch, name, sources=right)
    assert run(batch, name).returncode == 0
    assert not batch.failures() and batch.notebook(name).is_file()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a file system is mounted by root alone")
def test_a_home_that_can_only_be_read_is_no_hindrance(job, tmp_path):
    batch, name = job
    with mounted(tmp_path / "home", "ro") as home:
        unset = {"XDG_CACHE_HOME": "", "ASTROFORMER_CACHE": "", "JUPYTER_CONFIG_DIR": ""}
        kept = {key: value for key, value in os.environ.items() if key not in unset}
        done = subprocess.run(
            command(batch, name), env=kept | {"HOME": str(home)}, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert batch.notebook(name).is_file()


@pytest.mark.slow
def test_a_job_that_is_told_to_end_saves_and_the_next_try_goes_on(own_runs, tmp_path):
    batch, told = planned(tmp_path / "own", epochs=40, more=", train_images: 400")
    [name] = told["jobs"]
    process = subprocess.Popen(
        command(batch, name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    runs = own_runs / "runs"
    until = time.monotonic() + 200
    while not list(runs.glob("*/previous.pt")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == AGAIN and "the next try goes on" in said, said
    assert not batch.notebook(name).exists()
    done = run(batch, name)
    assert done.returncode == 0, done.stderr
    lines = [
        json.loads(line)
        for path in (own_runs / "ledger").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert [line["status"] for line in sorted(lines, key=lambda line: len(line["attempts"]))] == [
        "interrupted",
        "completed",
    ]


def listens(process, number):
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", EACH)
def test_a_job_that_is_told_before_it_began_asks_for_another_try(job, own_runs, number):
    """From its first second on, while it imports what it needs."""
    batch, name = job
    process = subprocess.Popen(
        command(batch, name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    until = time.monotonic() + 60
    while not listens(process, signal.SIGUSR1):  # the last to get its handler
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == AGAIN and "the next try goes on" in said, said
    assert not batch.notebook(name).exists() and not batch.failed(name).exists()


@pytest.mark.parametrize("number", EACH)
def test_a_signal_after_the_end_changes_no_status(tmp_path, number):
    """The interpreter takes its time to end, and a job that is done stays done."""
    late = (
        "import atexit, os, runpy, sys\n"
        f"atexit.register(os.kill, os.getpid(), {int(number)})\n"
        "runpy.run_module('astroformer.batch', run_name='__main__', alter_sys=True)"
    )
    (tmp_path / "failed").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", late, "summary", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_that_another_process_makes_is_waited_for_and_not_made_twice(own_runs, tmp_path):
    batch, told = planned(tmp_path / "own", seeds=(0, 1))
    [name] = told["jobs"]
    both = [
        subprocess.Popen(command(batch, name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    for process in both:
        said, _ = process.communicate()
        assert process.returncode == 0, said.decode()
    runs = [
        json.loads(line)["run"]
        for path in (own_runs / "ledger").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert len(runs) == len(set(runs)) == 2
