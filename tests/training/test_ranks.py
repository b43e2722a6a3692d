"""Processes that train one run together: the numbers of one, one record, and an end in time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranks_program import RUNS, run_of

from astroformer.ledger import curves, predictions, records
from astroformer.training import ranks, run_folder
from astroformer.training.ranks import pieces

PROGRAM = Path(__file__).parent / "ranks_program.py"
SOON = 60  # seconds within which a lost process ends the others
VERB = ["-m", "astroformer", "train", "--device", "cpu", "--model", "astroformer_pico"]


def started(number, *words, folder, **variables):
    """torchrun with so many processes, whose ledger and checkpoints lie in a folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(number)]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", *map(str, words)]
    environment = os.environ | {
        "ASTROFORMER_RUNS": str(folder / "runs"),
        "ASTROFORMER_LOCAL_LEDGER": str(folder / "ledger"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "400",
        **variables,
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )


def ended(process, *, status=0):
    """What it printed."""
    said, _ = process.communicate(timeout=600)
    assert process.returncode == status, said[-3000:]
    return said


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A ledger and checkpoints that processes write and this one reads."""
    monkeypatch.setenv("ASTROFORMER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(tmp_path / "ledger"))
    return tmp_path


# Who computes what


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 17))
def test_every_row_is_computed_once_and_batchnorm_sees_the_micro_batches_of_one_process(
    batch, micro, number
):
    parts = [range(start, min(start + micro, batch)) for start in range(0, batch, micro)]
    try:
        shares = pieces(batch, micro, number)
    except ValueError as error:
        assert number > len(parts) and ("start fewer" in str(error) or "at most" in str(error))
        return
    assert len(shares) == number and all(shares)
    every = [piece for share in shares for piece in share]
    rows = [row for piece in every for row in range(piece.start, piece.stop)]
    assert rows == list(range(batch))
    for rank, share in enumerate(shares):
        assert all(rank in piece.group for piece in share)
        assert all(a.stop == b.start for a, b in zip(share, share[1:], strict=False))
    for i, part in enumerate(parts):
        own = [piece for piece in every if piece.part == i]
        assert (own[0].start, own[-1].stop) == (part.start, part.stop)
        assert {piece.group for piece in own} == {own[0].group}
        assert len(own) == len(own[0].group)
    if number <= len(parts):
        assert all(len(piece.group) == 1 for piece in every)


@pytest.mark.parametrize("text", ["0", "-3", "soon", "nan"])
def test_a_patience_that_is_no_time_is_refused(text, monkeypatch):
    monkeypatch.setenv(ranks.VARIABLE, text)
    with pytest.raises(ValueError, match="not a number of seconds above 0"):
        ranks.patience()


# The same numbers


@pytest.fixture(scope="module")
def made(tiny_folder, tmp_path_factory):
    """number of processes -> where they left the runs of RUNS"""
    folders = {}

    def of(number):
        if number not in folders:
            folders[number] = tmp_path_factory.mktemp(f"ranks{number}")
            ended(started(number, PROGRAM, tiny_folder, *RUNS, folder=folders[number]))
        return folders[number]

    return of


@pytest.fixture
def read(made, tiny_folder, monkeypatch):
    """(name, number of processes) -> the curve, the record and the predictions of a run"""

    def of(name, number):
        monkeypatch.setenv("ASTROFORMER_RUNS", str(made(number) / "runs"))
        monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(made(number) / "ledger"))
        run = run_of(name, str(tiny_folder)).resolved(torch.device("cpu"))
        [record] = [one for one in records.read() if one["run"] == run.hash]
        return curves.read(run.hash), record, predictions.load(predictions.local(run.hash))

    return of


@pytest.mark.parametrize("number", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", RUNS)
def test_processes_agree_with_one_in_the_loss_of_every_step(name, number, read):
    """Mixup, CutMix, clipping, the average of weights and micro-batches are on, and a batch of 12
    is shared by 4 processes in parts of 12, 6 and 4.
    """
    alone, alone_record, alone_logits = read(name, 1)
    curve, record, logits = read(name, number)
    assert len(curve.loss) == 50 and np.ptp(curve.loss) > 0.01
    assert np.abs(curve.loss - alone.loss).max() < 1e-5
    assert np.abs(curve.norm / alone.norm - 1).max() < 1e-3
    assert (alone_record["world_size"], record["world_size"]) == (1, number)
    # every test image once, in order
    assert len(logits) == len(alone_logits) == record["dataset"]["test"] == 24
    assert logits.labels.tolist() == alone_logits.labels.tolist()
    assert record["metrics"]["nll"] == pytest.approx(alone_record["metrics"]["nll"], rel=1e-3)
    assert record["attempts"][-1]["images"] == 50 * 12


@pytest.mark.parametrize("number", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_running_statistics_are_those_of_one_process(made, tiny_folder, number):
    run = run_of("astroformer_halves", str(tiny_folder)).resolved(torch.device("cpu"))
    one, several = (
        torch.load(made(each) / "runs" / run.hash / run_folder.LAST, weights_only=True)["weights"]
        for each in (1, number)
    )
    # A bias before BatchNorm has a gradient of rounding alone, which AdamW makes steps of: it moves
    # means and nothing else.
    statistics = [name for name in one if "running_var" in name or "tracked" in name]
    assert len(statistics) > 10
    for name in statistics:
        torch.testing.assert_close(several[name], one[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_another_number_of_processes_goes_on_with_a_run_and_says_so(there, tiny_folder, read):
    ended(started(1, PROGRAM, tiny_folder, "astroformer:20", folder=there))
    said = ended(started(2, PROGRAM, tiny_folder, "astroformer", folder=there))
    assert said.count("goes on from step 20 of 50") == 1 and "world_size 1 -> 2" in said
    run = run_of("astroformer", str(tiny_folder)).resolved(torch.device("cpu"))
    curve = curves.load(there / "ledger" / curves.local(run.hash).relative_to(there / "ledger"))
    assert np.abs(curve.loss - read("astroformer", 1)[0].loss).max() < 1e-5


# An end in time


def words_of(folder):
    return [
        *VERB, "--dataset", "folder", "--data-dir", folder, "--image-size", "32",
        "--recipe", "smoke", "--set", "batch_size=12", "--set", "epochs=400",
        "--set", "warmup_epochs=0", "--checkpoint-seconds", "1",
    ]  # fmt: skip


def until_it_trains(process):
    """Waits for the line of the tenth epoch; what was printed."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch  10/"):
            return lines
    raise AssertionError("".join(lines[-30:]))


def workers_of(process):
    """The processes that torchrun has started, in the order of their ranks."""
    task = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = {}
    for pid in map(int, task.read_text().split()):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        told = dict(one.partition(b"=")[::2] for one in variables)
        if b"RANK" in told:
            found[int(told[b"RANK"])] = pid
    return [found[rank] for rank in sorted(found)]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="/proc tells ranks")
@pytest.mark.parametrize("number", [signal.SIGUSR1])
def test_a_warning_to_one_process_saves_one_checkpoint_and_stops_all(number, there, tiny_folder):
    process = started(2, *words_of(tiny_folder), folder=there)
    until_it_trains(process)
    os.kill(workers_of(process)[1], number)
    said = ended(process, status=1)  # torchrun's own, of processes that end with 130
    assert said.count("the same command goes on from there") == 1
    assert "exitcode  : 130" in said
    [record] = [one for one in records.read() if one["origin"] == "local"]
    assert record["status"] == "interrupted" and record["world_size"] == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="/proc tells ranks")
@pytest.mark.parametrize("rank, number", [(1, signal.SIGKILL), (0, signal.SIGSTOP)])
def test_a_process_that_dies_or_hangs_ends_the_others_and_the_command_goes_on(
    number, rank, there, tiny_folder
):
    process = started(2, *words_of(tiny_folder), folder=there, **{ranks.VARIABLE: "6"})
    until_it_trains(process)
    pids = workers_of(process)
    os.kill(pids[rank], number)
    began = time.monotonic()
    said = process.communicate(timeout=SOON)[0]
    assert time.monotonic() - began < SOON and process.returncode == 1
    if number == signal.SIGSTOP:  # of one that dies, torchrun itself says so
        assert f"rank {rank} (" in said and "answers no more" in said
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists()
    process = started(2, *words_of(tiny_folder), folder=there)
    assert any("goes on from step" in line for line in until_it_trains_on(process))
    process.terminate()
    process.communicate(timeout=SOON)


def until_it_trains_on(process):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch "):
            return lines
    raise AssertionError("".join(lines[-30:]))


@pytest.mark.slow
def test_what_cannot_be_done_is_said_once(there, tiny_folder):
    said = ended(started(2, *VERB, "--recipe", "unheard", folder=there), status=1)
    assert said.count("unheard") == 1
    words = ["-m", "astroformer", "ledger"]
    said = ended(started(2, *words, folder=there), status=1)
    assert said.count("which share the work of `train` alone") == 1
    crowded = [*words_of(tiny_folder), "--set", "batch_size=1"]
    said = ended(started(2, *crowded, folder=there), status=1)
    assert said.count("batch_size 1 is less than the 2 processes") == 1


def test_a_run_that_the_ledger_holds_is_not_trained_again(made, tiny_folder):
    said = ended(started(2, PROGRAM, tiny_folder, "vit_cifar", folder=made(1)))
    assert said.count("is in the ledger") == 1
    lines = [
        json.loads(line)
        for path in (made(1) / "ledger").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert len(lines) == len(RUNS)


# Who is given up


class Signs:
    """A store of what ranks tell, as the watch reads it."""

    def __init__(self):
        self.told = {}

    def set(self, key, value):
        self.told[key] = str(value).encode()

    def get(self, key):
        return self.told[key]

    def check(self, keys):
        return all(key in self.told for key in keys)


@pytest.fixture
def watched(monkeypatch):
    """A watch of rank 0 among three whose thread does not run, and a clock that is set."""
    monkeypatch.setattr(ranks.Watch, "_run", lambda self: None)
    monkeypatch.setenv(ranks.VARIABLE, "10")
    watch = ranks.Watch(0, 3, Signs())
    clock = [0.0]
    monkeypatch.setattr(ranks.time, "monotonic", lambda: clock[0])

    def after(seconds, **signs):
        """What the watch says then, if ranks tell (signs of life, progress, waiting) as given."""
        clock[0] += seconds
        for rank, sign in signs.items():
            watch.store.set(f"name/{rank[1]}", f"rank {rank[1]}")
            watch.store.set(f"sign/{rank[1]}", " ".join(map(str, sign)))
        return watch._look()

    return after


def test_a_rank_without_a_sign_is_given_up_and_one_that_was_never_there_is_not(watched):
    assert watched(0, r0=(1, 0, 0), r1=(1, 0, 0)) is None
    assert watched(9, r0=(2, 1, 0), r1=(1, 0, 0)) is None
    assert watched(2, r0=(3, 2, 0)) == "rank 1"


def test_a_rank_that_all_others_wait_for_is_given_up_unless_it_goes_on_or_is_excused(watched):
    assert watched(0, r0=(1, 5, 1), r1=(1, 5, 1), r2=(1, 5, 0)) is None
    assert watched(9, r0=(2, 5, 1), r1=(2, 5, 1), r2=(2, 5, 0)) is None
    assert watched(2, r0=(3, 5, 1), r1=(3, 5, 1), r2=(3, 5, 0)) == "rank 2"
    assert watched(2, r0=(4, 5, 1), r1=(4, 5, 1), r2=(4, 5, 1)) is None  # it writes a file
    assert watched(2, r0=(5, 6, 0), r1=(5, 6, 0), r2=(5, 6, 0)) is None  # all compute
    assert watched(20, r0=(6, 6, 0), r1=(6, 6, 1), r2=(6, 6, 0)) is None  # two are slow
