"""A run's folder has one owner at a time, keeps no rubbish, and tells early that it has no room."""

import json
import os
import resource
import signal
import time

import pytest
import torch
from small_run import CPU
from small_run import small_run as run_on

from astroformer import cli, locks
from astroformer.ledger import predictions, records
from astroformer.studies import studies
from astroformer.training import checkpoint, fit, run_folder
from astroformer.training.run_folder import Busy, Checkpoints, Lost, held


def silent(line):
    """Says nothing."""


def test_a_folder_that_another_process_holds_is_busy_until_that_ends(another_process, tmp_path):
    _, pipe = another_process(tmp_path / "run")
    with (
        pytest.raises(Busy, match="another process works on run run"),
        held(tmp_path / "run", wait=False, report=silent),
    ):
        pass
    said = []
    began = time.monotonic()
    signal.signal(signal.SIGALRM, lambda *_: pipe.send("end"))
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with held(tmp_path / "run", wait=True, report=said.append):
        assert time.monotonic() - began >= 0.4 and "waiting" in said[0]


def test_the_lock_of_a_killed_process_is_free(another_process, tmp_path):
    process, _ = another_process(tmp_path / "run")
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    with held(tmp_path / "run", wait=False, report=silent):
        pass


def test_a_run_that_another_process_makes_is_not_begun_and_nothing_of_it_is_touched(
    another_process, tiny_folder, own_runs
):
    run = run_on(tiny_folder)
    fit(run, device=CPU, stop_after=3, report=silent)
    before = (run.folder / "last.pt").read_bytes()
    another_process(run.folder)
    for force in (False, True):
        with pytest.raises(Busy):
            fit(run, device=CPU, force=force, wait=False, report=silent)
    assert (run.folder / "last.pt").read_bytes() == before


def test_a_study_leaves_a_run_to_the_process_that_makes_it_and_takes_the_next(
    another_process, tiny_folder, own_runs, monkeypatch
):
    runs = {"one": run_on(tiny_folder), "two": run_on(tiny_folder, epochs=1)}
    monkeypatch.setitem(studies.STUDIES, "shared", studies.Study("?", runs, seeds=(0,)))
    _, pipe = another_process(runs["one"].folder)
    said = []
    assert not studies.run_study("shared", device=CPU, report=said.append)
    assert records.completed(runs["two"].hash) and not records.completed(runs["one"].hash)
    assert any("going on with the next" in line for line in said)
    pipe.send("end")
    assert studies.run_study("shared", device=CPU, report=silent)
    assert records.completed(runs["one"].hash)


def taken_by_another(folder):
    """Another process's lease in place of this one's."""
    other = folder / "other"
    other.write_text(json.dumps(locks.described()))
    os.replace(other, locks.lease_of(folder / run_folder.LOCK))


def test_a_run_that_became_another_process_s_stops_within_a_step_and_writes_no_checkpoint(
    tiny_folder, own_runs, monkeypatch
):
    monkeypatch.setenv(locks.VARIABLE, "lease")
    monkeypatch.setattr(locks, "HEARTBEAT", 0.05)
    run = run_on(tiny_folder, epochs=1000)
    fit(run, device=CPU, stop_after=3, report=silent)
    before = (run.folder / "last.pt").read_bytes()

    def report(line):
        if "goes on from step" in line:
            taken_by_another(run.folder)

    with pytest.raises(Lost, match="is another process's now, as its lease was taken by another"):
        fit(run, device=CPU, report=report)
    assert (run.folder / "last.pt").read_bytes() == before
    [first, second] = [record for record in records.read() if record["run"] == run.hash]
    assert first["status"] == second["status"] == "interrupted"
    with pytest.raises(Busy, match=f"process {os.getpid()} on "):
        fit(run, device=CPU, wait=False, report=silent)


def test_a_run_that_became_another_process_s_as_it_ended_is_the_other_s_to_record(
    tiny_folder, own_runs, monkeypatch
):
    monkeypatch.setenv(locks.VARIABLE, "lease")
    run = run_on(tiny_folder)

    def report(line):
        if "epoch   2/2" in line:
            taken_by_another(run.folder)

    with pytest.raises(Lost):
        fit(run, device=CPU, report=report)
    assert not records.completed(run.hash) and not predictions.present(run.hash)
    assert not (run.folder / "last.pt").exists() or not checkpoint.is_finished(
        run.folder / "last.pt", run.hash
    )


def test_a_study_goes_on_with_the_next_run_when_one_was_taken(tiny_folder, own_runs, monkeypatch):
    monkeypatch.setenv(locks.VARIABLE, "lease")
    runs = {"one": run_on(tiny_folder), "two": run_on(tiny_folder, epochs=1)}
    monkeypatch.setitem(studies.STUDIES, "shared", studies.Study("?", runs, seeds=(0,)))
    said = []

    def report(line):
        said.append(line)
        if "epoch   1/2" in line:
            taken_by_another(runs["one"].folder)

    assert not studies.run_study("shared", device=CPU, report=report)
    assert records.completed(runs["two"].hash) and not records.completed(runs["one"].hash)
    assert any("another process's now" in line and "going on" in line for line in said)


def test_a_finished_run_keeps_the_weights_alone(tiny_folder, own_runs):
    run = run_on(tiny_folder)
    fit(run, device=CPU, stop_after=7, report=silent)
    (run.folder / "part-1.pt").write_bytes(b"left by a process that was killed")
    unfinished = os.path.getsize(run.folder / "last.pt")
    assert not checkpoint.is_finished(run.folder / "last.pt", run.hash)
    fitted = fit(run, device=CPU, report=silent)
    assert sorted(path.name for path in run.folder.iterdir()) == [".lock", "last.pt"]
    assert checkpoint.is_finished(fitted.weights, run.hash)
    assert not checkpoint.is_finished(fitted.weights, "another")
    assert checkpoint.read(fitted.weights)["optimizer"] is None
    assert os.path.getsize(fitted.weights) < 0.4 * unfinished  # AdamW keeps two numbers a weight
    assert fit(run, device=CPU, need_weights=True, report=silent).reused


def test_a_record_that_was_lost_is_made_again_from_finished_weights(tiny_folder, own_runs):
    run = run_on(tiny_folder)
    first = fit(run, device=CPU, report=silent).record
    for file in (own_runs / "ledger").glob("*.jsonl"):
        file.unlink()
    again = fit(run, device=CPU, report=silent).record
    assert again["metrics"] == first["metrics"] and again["resumed_from"] == 12


def test_checkpoints_take_two_hundredths_of_the_time_at_most(tmp_path, monkeypatch):
    """With a clock that stands still but for what is told."""
    now = [0.0]
    monkeypatch.setattr(run_folder.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        run_folder.checkpoint, "save", lambda state, folder, lost: now.__setitem__(0, now[0] + 3.0)
    )
    checkpoints = Checkpoints(tmp_path, seconds=None)
    written = []
    while now[0] < 3_000:
        now[0] += 1.0
        if checkpoints.affordable() or checkpoints.due():  # an epoch ends each second
            checkpoints.write({})
            written.append(now[0])
    assert len(written) * 3.0 <= 0.021 * now[0] + 3.0 and len(written) > 10
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="0 or more"):
            Checkpoints(tmp_path, seconds=wrong)
    often = Checkpoints(tmp_path, seconds=0.0)
    now[0] += 0.1
    assert often.due() and often.affordable()


@pytest.fixture
def little_room():
    """Files of this process may take no more than two megabytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_is_one_line_and_leaves_the_older_checkpoint_and_no_part(tmp_path, little_room):
    checkpoint.save({"small": torch.zeros(10), "run": "a"}, tmp_path)
    with pytest.raises(OSError) as refused:
        checkpoint.save({"large": torch.zeros(1_000_000)}, tmp_path)
    assert "\n" not in str(refused.value) and "ASTROFORMER_RUNS" in str(refused.value)
    assert "about 4.0 MB" in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    assert checkpoint.load(tmp_path / "last.pt", "a checkpoint")["run"] == "a"


def test_a_disk_that_fills_during_a_run_ends_it_with_status_2_and_one_line(
    tiny_folder, own_runs, little_room, capsys
):
    words = ["train", "--dataset", "folder", "--data-dir", str(tiny_folder), "--image-size", "32"]
    assert cli.main([*words, "--set", "epochs=2", "--set", "batch_size=8", "--device", "cpu"]) == 2
    complained = capsys.readouterr().err
    assert complained.startswith("astroformer: no checkpoint could be written")
    assert complained.count("\n") == 1 and not list((own_runs / "runs").rglob("part-*"))


@pytest.mark.parametrize("what", ["ASTROFORMER_RUNS", "ASTROFORMER_LOCAL_LEDGER"])
def test_a_place_that_cannot_be_written_to_is_said_before_the_first_step(
    tiny_folder, own_runs, monkeypatch, capsys, what
):
    (own_runs / "file").write_text("no folder can be made below a file")
    monkeypatch.setenv(what, str(own_runs / "file" / "below"))
    words = ["train", "--dataset", "folder", "--data-dir", str(tiny_folder), "--image-size", "32"]
    assert cli.main([*words, "--set", "batch_size=8", "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert what in said.err and said.err.count("\n") == 1 and "epoch" not in said.out
