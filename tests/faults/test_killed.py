"""Twenty kills of a training at random moments: whatever is killed and whenever, the same command
given again until it ends leaves the bits of a run that nobody killed.

Real processes are killed by SIGKILL, which no process can answer: loader processes, the first
process, one of two ranks, or all at once; some of them just as a checkpoint is being written.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fork_server import SOON, Server, until
from small_run import CPU, EVERYTHING
from trained import assert_same_bits, outcome, run_on

from astroformer.ledger import curves, predictions, records
from astroformer.training import checkpoint, fit, run_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc tells processes"),
]

EPOCHS = 30  # of 6 steps
# What is killed, and when: in the first second or so; a random time after some more checkpoints;
# or while the next one is being written.
KILLS = [
    ("all", "soon"),
    ("loader", "later"),
    ("all", "writing"),
    ("first", "later"),
    ("all", "later"),
    ("loader", "later"),
    ("first", "writing"),
    ("all", "later"),
    ("all", "writing"),
    ("first", "soon"),
    ("loader", "later"),
    ("all", "later"),
]
RANK_KILLS = [  # of two; which rank is killed
    ((1,), "soon"),
    ((0,), "writing"),
    ((1,), "later"),
    ((0, 1), "later"),
    ((0,), "later"),
]
TORCHRUN_KILLS = ["everything", "rank 1", "rank 0"]


def test_there_are_twenty_kills():
    assert len(KILLS) + len(RANK_KILLS) + len(TORCHRUN_KILLS) == 20


def words_of(folder):
    """The command of `run_on`, with a checkpoint after every step."""
    changes = EVERYTHING | {"epochs": EPOCHS}
    return [
        *("train", "--dataset", "folder", "--data-dir", str(folder), "--image-size", "32"),
        *("--device", "cpu", "--checkpoint-seconds", "0"),
        *(f"--set={name}={value}" for name, value in changes.items()),
    ]


@pytest.fixture(scope="module")
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A ledger and checkpoints that processes write and this one reads."""
    monkeypatch.setenv("ASTROFORMER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(tmp_path / "ledger"))
    return tmp_path


def stamp(path):
    """What changes when a file is replaced."""
    try:
        told = path.stat()
    except FileNotFoundError:
        return None
    return told.st_ino, told.st_mtime_ns


def wait_for_moment(folder, when, random):
    """Until the moment of a kill. Every step writes a checkpoint, so that waiting for some is
    waiting for steps.
    """
    if when == "soon":
        time.sleep(random.uniform(0, 1.5))
        return
    last, known = folder / run_folder.LAST, stamp(folder / run_folder.LAST)
    more = random.randint(1, 6)
    for _ in until(SOON, "a checkpoint"):
        if stamp(last) != known:
            more, known = more - 1, stamp(last)
        if not more:
            break
    if when == "later":
        time.sleep(random.uniform(0, 0.2))
        return
    for _ in until(SOON, "a checkpoint that is being written"):
        if parts_in(folder):
            return


def parts_in(folder):
    """Checkpoints that are not whole."""
    return list(folder.glob("part-*"))


def children_of(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_completed(place):
    """Whether the ledger has a completed record."""
    return any('"status": "completed"' in path.read_text() for path in ledgers(place))


def ledgers(place):
    return (place / "ledger").glob("*.jsonl")


def ends_in_order(server, place, numbers):
    """All processes of a run, which now complete it."""
    assert [server.ended(number) for number in numbers] == [0] * len(numbers), said(place)


def said(place):
    """Everything that the processes printed."""
    return (place / "output").read_text()


def state_in(folder):
    return checkpoint.read(folder / run_folder.LAST)["step"] if any(folder.glob("*.pt")) else 0


def test_a_run_with_loader_processes_that_is_killed_again_and_again_ends_with_the_same_bits(
    tiny_folder, server, place
):
    drawn, words = random.Random(0), [*words_of(tiny_folder), "--workers", "2"]
    run, untouched = run_on(tiny_folder, epochs=EPOCHS), place / "untouched"
    untouched.mkdir()
    ends_in_order(server, untouched, [server.start(words, untouched)])
    torn = reached = 0
    for what, when in KILLS:
        number = server.start(words, place)
        wait_for_moment(run.folder, when, drawn)
        if what == "all":
            os.killpg(number, signal.SIGKILL)
        elif what == "first":
            os.kill(number, signal.SIGKILL)
        else:
            os.kill(drawn.choice(loaders_of(number)), signal.SIGKILL)
        status = server.ended(number)
        assert status == (2 if what == "loader" else -signal.SIGKILL), said(place)
        assert not is_completed(place), "the run was over before it was killed"
        torn += bool(parts_in(run.folder))
        reached = max(reached, state_in(run.folder))
    assert torn >= 2, "no kill fell into the writing of a checkpoint"
    assert 0 < reached < EPOCHS * 6
    assert said(place).count("a loader process ended") == 3
    number = server.start(words, place)
    ends_in_order(server, place, [number])
    assert "goes on from step" in said(place)
    assert "Traceback" not in said(place)
    assert not parts_in(run.folder) and not list(run.folder.glob("refused-*"))
    assert_same_bits(outcome(run), elsewhere(run, untouched))


def loaders_of(number):
    """Those of the training images, which are started first; after the first measurement there are
    two more.
    """
    for _ in until(SOON, "two loader processes"):
        if len(found := sorted(children_of(number))) >= 2:
            return found[:2]


def elsewhere(run, place):
    """The outcome of the same run with another ledger and other checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASTROFORMER_RUNS", str(place / "runs"))
        patch.setenv("ASTROFORMER_LOCAL_LEDGER", str(place / "ledger"))
        return outcome(run)


def ranks_started(server, words, place, **more):
    """Two processes as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = dict(
        WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    return [
        server.start(words, place, RANK=str(rank), LOCAL_RANK=str(rank), **variables, **more)
        for rank in range(2)
    ]


def torchrun(words, place):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "astroformer"]
    own = {
        "ASTROFORMER_RUNS": str(place / "runs"),
        "ASTROFORMER_LOCAL_LEDGER": str(place / "ledger"),
        "OMP_NUM_THREADS": "1",
    }
    with open(place / "output", "ab") as output:
        return subprocess.Popen(
            [*command, *words],
            env=os.environ | own,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def ranks_of(agent):
    """The processes that torchrun has started, in the order of their ranks."""
    found = {}
    for number in children_of(agent):
        variables = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
        told = dict(one.partition(b"=")[::2] for one in variables)
        if b"RANK" in told:
            found[int(told[b"RANK"])] = number
    return [found[rank] for rank in sorted(found)]


def test_two_ranks_that_are_killed_again_and_again_end_with_the_same_bits(
    tiny_folder, server, place
):
    drawn, words = random.Random(1), words_of(tiny_folder)
    run, untouched = run_on(tiny_folder, epochs=EPOCHS), place / "untouched"
    untouched.mkdir()
    ends_in_order(server, untouched, ranks_started(server, words, untouched))
    torn = 0
    for which, when in RANK_KILLS:
        numbers = ranks_started(server, words, place)
        wait_for_moment(run.folder, when, drawn)
        for rank in which:
            os.kill(numbers[rank], signal.SIGKILL)
        # the other gives up, as the channel breaks or the watch finds nobody
        statuses = [server.ended(number) for number in numbers]
        for rank, status in enumerate(statuses):
            assert (status == -signal.SIGKILL) == (rank in which) and status != 0, said(place)
        assert not is_completed(place), "the run was over before it was killed"
        torn += bool(parts_in(run.folder))
    assert torn >= 1, "no kill fell into the writing of a checkpoint"
    for what in TORCHRUN_KILLS:
        agent = torchrun(words, place)
        wait_for_moment(run.folder, "later", drawn)
        numbers = ranks_of(agent.pid)
        assert len(numbers) == 2
        if what == "everything":
            for number in (agent.pid, *numbers):
                os.kill(number, signal.SIGKILL)
        else:
            os.kill(numbers[int(what[-1])], signal.SIGKILL)
        assert agent.wait(SOON) == (-signal.SIGKILL if what == "everything" else 1), said(place)
        for _ in until(SOON, "the ranks are gone"):
            if not any(is_alive(number) for number in numbers):
                break
        assert not is_completed(place), "the run was over before it was killed"
    ends_in_order(server, place, ranks_started(server, words, place))
    assert not parts_in(run.folder) and not list(run.folder.glob("refused-*"))
    assert_same_bits(outcome(run), elsewhere(run, untouched))


def is_alive(number):
    """Whether a process is there and does something; a zombie of a container's does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_two_processes_on_one_run_make_one_record_and_the_second_waits(tiny_folder, server, place):
    words = words_of(tiny_folder)
    run = run_on(tiny_folder, epochs=EPOCHS)
    numbers = [server.start(words, place) for _ in range(2)]
    ends_in_order(server, place, numbers)
    assert "waiting for it to end" in said(place) and "is in the ledger" in said(place)
    lines = [line for path in ledgers(place) for line in path.read_text().splitlines()]
    assert len(lines) == 1 and json.loads(lines[0])["run"] == run.hash
    assert len(outcome(run)["history"]) == EPOCHS


def test_who_waits_for_a_killed_process_goes_on_with_its_run(tiny_folder, server, place):
    words, run = words_of(tiny_folder), run_on(tiny_folder, epochs=EPOCHS)
    first = server.start(words, place)
    wait_for_moment(run.folder, "later", random.Random(2))
    second = server.start(words, place)
    for _ in until(SOON, "the second waits"):
        if "waiting for it to end" in said(place):
            break
    os.killpg(first, signal.SIGKILL)
    assert server.ended(first) == -signal.SIGKILL
    ends_in_order(server, place, [second])
    assert "goes on from step" in said(place)
    assert len(outcome(run)["history"]) == EPOCHS


# Between the record and the weights


@pytest.fixture
def one_thread():
    """Two threads that spin on a busy machine are many times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Killed(BaseException):
    """Stands for a kill: no handler of an Exception sees it."""


@pytest.mark.parametrize(
    "module, function", [(curves, "write"), (predictions, "write"), (checkpoint, "save")]
)
def test_a_run_that_is_killed_between_its_record_and_its_weights_is_ended_by_the_same_command(
    tiny_folder, place, one_thread, monkeypatch, module, function
):
    run, kept = run_on(tiny_folder), getattr(module, function)

    def killed(*arguments, **named):
        if is_completed(place):
            raise Killed
        return kept(*arguments, **named)

    fit(run, device=CPU, stop_after=8, report=print)
    monkeypatch.setattr(module, function, killed)
    with pytest.raises(Killed):
        fit(run, device=CPU, report=print)
    monkeypatch.undo()
    monkeypatch.setenv("ASTROFORMER_RUNS", str(place / "runs"))
    monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(place / "ledger"))
    assert records.completed(run.hash)
    again = fit(run, device=CPU, report=print)
    assert not again.reused and again.record["status"] == "completed"
    assert checkpoint.is_finished(again.weights, run.hash)
    assert len(predictions.load(predictions.local(run.hash))) == 24
    assert fit(run, device=CPU, need_weights=True, report=print).reused
    assert not run_folder.is_forced(run.folder)
