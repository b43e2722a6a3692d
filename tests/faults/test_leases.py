"""Trainings that hold their folders by leases: one that is killed is gone on with at once, and one
that slept while another took its run stops without a byte more in the folder. Either way the run
ends with the bits of one that nobody touched.
"""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from fork_server import SOON, Server, until
from small_run import EVERYTHING
from system_calls import FLOCK_OF_ONE_MACHINE, NO_FLOCK
from test_killed import (
    elsewhere,
    ends_in_order,
    is_completed,
    ranks_started,
    stamp,
    wait_for_moment,
)
from trained import assert_same_bits, outcome, run_on

from astroformer import locks
from astroformer.ledger import records
from astroformer.training import run_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc tells processes"),
]

EPOCHS = 12  # of 6 steps
BEAT, STALE = 0.2, 3.0  # seconds


@pytest.fixture(scope="module")
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="module")
def untouched(tiny_folder, server, tmp_path_factory):
    """The place of a run that nobody disturbs."""
    place = tmp_path_factory.mktemp("untouched")
    ends_in_order(server, place, [server.start(words_of(tiny_folder), place)])
    return place


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A ledger and checkpoints that processes write and this one reads."""
    monkeypatch.setenv("ASTROFORMER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(tmp_path / "ledger"))
    return tmp_path


def words_of(folder):
    changes = EVERYTHING | {"epochs": EPOCHS}
    return [
        *("train", "--dataset", "folder", "--data-dir", str(folder), "--image-size", "32"),
        *("--device", "cpu", "--checkpoint-seconds", "0"),
        *(f"--set={name}={value}" for name, value in changes.items()),
    ]


def lease_in(folder):
    return locks.lease_of(folder / run_folder.LOCK)


def said_by(place, name):
    return (place / name / "output").read_text()


def started(server, words, place, name, **how):
    """A process with an output of its own; ledger and checkpoints are those of the place."""
    own = place / name
    own.mkdir(exist_ok=True)
    variables = {
        name: os.environ[name] for name in ("ASTROFORMER_RUNS", "ASTROFORMER_LOCAL_LEDGER")
    }
    return server.start(words, own, **variables, **how)


def statuses(run):
    return sorted(record["status"] for record in records.read() if record["run"] == run.hash)


@pytest.mark.parametrize(
    "calls, variables",
    [(FLOCK_OF_ONE_MACHINE, {"ASTROFORMER_LOCKS": "lease"}), (NO_FLOCK, {})],
    ids=["lease", "no flock"],
)
def test_a_killed_training_that_held_a_lease_is_gone_on_with_at_once(
    tiny_folder, server, untouched, place, calls, variables
):
    run, words = run_on(tiny_folder, epochs=EPOCHS), words_of(tiny_folder)
    how = dict(calls=calls, **variables)
    for number in range(2):
        killed = started(server, words, place, f"killed-{number}", **how)
        wait_for_moment(run.folder, "later", random.Random(number))
        assert lease_in(run.folder).exists() and not is_completed(place)
        os.killpg(killed, signal.SIGKILL)
        assert server.ended(killed) == -signal.SIGKILL
    began = time.monotonic()
    ends_in_order(server, place, [started(server, words, place, "last", **how)])
    assert time.monotonic() - began < locks.STALE / 2
    assert "goes on from step" in said_by(place, "last")
    assert "waiting" not in said_by(place, "last")
    assert not lease_in(run.folder).exists()
    assert_same_bits(outcome(run), elsewhere(run, untouched))


def test_a_training_that_slept_while_another_took_its_run_stops_and_writes_nothing_there(
    tiny_folder, server, untouched, place
):
    run, words = run_on(tiny_folder, epochs=EPOCHS), words_of(tiny_folder)
    how = dict(calls=NO_FLOCK, locks={"HEARTBEAT": BEAT, "STALE": STALE, "POLL": BEAT})
    sleeper = started(server, words, place, "sleeper", **how)
    wait_for_moment(run.folder, "later", random.Random(3))
    os.killpg(sleeper, signal.SIGSTOP)
    last = run.folder / run_folder.LAST
    before = stamp(last)
    taker = started(server, words, place, "taker", **how)
    for _ in until(SOON, "the other has gone on"):
        if stamp(last) != before:
            break
    os.killpg(taker, signal.SIGSTOP)  # so that whatever is written now is the sleeper's
    time.sleep(BEAT)
    told = json.loads(lease_in(run.folder).read_text())
    assert told["pid"] == taker and not is_completed(place)
    there = {path: stamp(path) for path in run.folder.iterdir()}
    os.killpg(sleeper, signal.SIGCONT)
    assert server.ended(sleeper) == 2, said_by(place, "sleeper")
    now = {path: stamp(path) for path in run.folder.iterdir() if not path.name.startswith("part-")}
    assert now == {path: there[path] for path in now} and last in now
    assert json.loads(lease_in(run.folder).read_text()) == told
    complaint = said_by(place, "sleeper").splitlines()[-1]
    assert f"run {run.hash} is another process's now" in complaint
    assert f"process {taker} on " in complaint and "without a checkpoint" in complaint
    os.killpg(taker, signal.SIGCONT)
    ends_in_order(server, place, [taker])
    assert f"process {sleeper} on " in said_by(place, "taker")
    assert statuses(run) == ["completed", "interrupted"]
    assert_same_bits(outcome(run), elsewhere(run, untouched))


def test_all_ranks_of_a_run_whose_lease_was_taken_stop(tiny_folder, server, place):
    run, words = run_on(tiny_folder, epochs=10 * EPOCHS), words_of(tiny_folder)
    words += ["--set=epochs=" + str(10 * EPOCHS)]
    numbers = ranks_started(
        server, words, place, locks={"HEARTBEAT": BEAT}, ASTROFORMER_LOCKS="lease"
    )
    wait_for_moment(run.folder, "later", random.Random(4))
    mine = place / "mine"
    mine.write_text(json.dumps(locks.described()))
    os.replace(mine, lease_in(run.folder))
    assert [server.ended(number) for number in numbers] == [2, 2]
    said = (place / "output").read_text()
    assert said.count("is another process's now") == 1  # the first rank tells
    assert f"process {os.getpid()} on " in said and "Traceback" not in said
    assert statuses(run) == ["interrupted"] and lease_in(run.folder).exists()
