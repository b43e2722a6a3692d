"""Making what is asked for: no run twice, stopped by the clock or a signal without loss, and one
run's trouble is not the others'.
"""

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import yaml
from small_run import CPU, small_run

from astroformer.ledger import curves, identity, records
from astroformer.studies import asked as asking
from astroformer.studies import make as making
from astroformer.studies.asked import Unit, asked
from astroformer.studies.make import NotMade, make
from astroformer.training import loop, memory


def silent(line):
    """Says nothing."""


def unit(run, label="one", **told):
    return Unit("mine", "runs", label, run, classes=3, group="a group", **told)


def made(*units, **how):
    return make(units, device=CPU, report=how.pop("report", silent), progress=silent, **how)


def local():
    return [record for record in records.read() if record["origin"] == "local"]


def outcome(run):
    """What must be alike to the bit: all metrics, and the loss of every step."""
    curve = curves.read(run.hash)
    return records.completed(run.hash)["metrics"], curve.loss.tolist(), curve.norm.tolist()


# Once


def test_a_run_of_the_ledger_is_found_and_the_others_are_made_with_what_their_study_says(
    tiny_folder, own_runs
):
    told = {"name": "mine", "design": "abc", "stage": "runs"}
    first, second = (unit(small_run(tiny_folder, seed=seed), told=told) for seed in (0, 1))
    assert made(first).made == [first]
    both = made(first, second)
    assert (both.found, both.made, both.left, both.errors) == ([first], [second], [], [])
    assert [record["study"] for record in local()] == [told, told]


def test_a_run_that_another_process_makes_is_passed_over_and_waited_for_at_the_end(
    another_process, tiny_folder, own_runs
):
    first, second = (unit(small_run(tiny_folder, seed=seed), str(seed)) for seed in (0, 1))
    (_, pipe), said = another_process(first.run.folder), []
    assert made(first, second, wait=False).left == [first]
    assert records.completed(second.run.hash)

    def report(line):
        said.append(line)
        if line.startswith("waiting for 1 run"):
            pipe.send("end")

    both = made(first, second, report=report)
    assert (both.found, both.made) == ([second], [first])
    assert [line for line in said if "going on with the next" in line] == [said[1]]


def test_who_waits_stops_waiting_when_the_time_is_over(another_process, tiny_folder, own_runs):
    one = unit(small_run(tiny_folder))
    another_process(one.run.folder)
    began = time.monotonic()
    assert made(one, hours=2 / 3600).left == [one]
    assert 2 <= time.monotonic() - began < 20


PROCESS = """
import sys, torch
from astroformer.studies.asked import asked
from astroformer.studies.make import make
torch.set_num_threads(1)
done = make(asked([sys.argv[1]]).units, report=lambda line: print(line, flush=True))
print("made", len(done.made), "found", len(done.found), flush=True)
"""


def process(path):
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def file_of_runs(folder, images, *, seeds, **changes):
    """A file of runs like `small_run`, on images that are named by their path."""
    run = {
        "model": "astroformer_pico",
        "dataset": "folder",
        "data_dir": str(images),
        "recipe": "smoke",
        "image_size": 32,
        "set": {"epochs": 2, "batch_size": 8} | changes,
        "seeds": list(seeds),
    }
    path = folder / "runs.yml"
    path.write_text(yaml.safe_dump({"runs": [run]}))
    return path


def test_two_processes_share_the_runs_and_make_none_twice(tiny_folder, own_runs, tmp_path):
    path = file_of_runs(tmp_path, tiny_folder, seeds=range(4))
    processes = [process(path) for _ in range(2)]
    said = [one.communicate(timeout=600)[0] for one in processes]
    assert [one.returncode for one in processes] == [0, 0], said
    last = [text.splitlines()[-1].split() for text in said]
    assert sum(int(words[1]) for words in last) == 4
    done = [record["run"] for record in local()]
    assert len(done) == 4 == len(set(done)) and not asked([str(path)]).missing
    assert {record["status"] for record in local()} == {"completed"}


# Stopped


def test_what_the_clock_stops_in_mid_run_goes_on_to_the_same_bits(
    tiny_folder, tmp_path, monkeypatch
):
    run = small_run(tiny_folder, epochs=10, mixup=0.8, drop_path_rate=0.2)
    whole = {}
    for name in ("at once", "in parts"):
        monkeypatch.setenv("ASTROFORMER_RUNS", str(tmp_path / name / "runs"))
        monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(tmp_path / name / "ledger"))
        if name == "at once":
            made(unit(run))
            whole = outcome(run)
    said, limit = [], 10.0  # seconds
    began = time.monotonic()

    def wait_for_the_clock(line):
        """At the fifth epoch, whatever the speed of this machine, the time is over."""
        if line.startswith("epoch   5"):
            time.sleep(max(0.0, began + limit + 0.5 - time.monotonic()))

    done = make(
        [unit(run)],
        device=CPU,
        hours=limit / 3600,
        report=said.append,
        progress=wait_for_the_clock,
    )
    assert done.left == [unit(run)] and not done.made
    assert "the same line goes on" in said[-1]
    assert made(unit(run)).made == [unit(run)]
    first, second = local()
    assert (first["status"], second["status"]) == ("interrupted", "completed")
    assert 0 < second["resumed_from"] < 60
    assert outcome(run) == whole


def test_no_run_begins_when_the_time_is_over(tiny_folder, own_runs):
    said = []
    one = unit(small_run(tiny_folder))
    assert made(one, hours=0, report=said.append).left == [one]
    assert local() == [] and said == ["the time is over with 1 runs left; the same line goes on"]
    for hours in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="give 0 or more hours"):
            made(one, hours=hours)


def test_a_batch_systems_signal_saves_the_run_and_the_same_call_goes_on(
    tiny_folder, own_runs, tmp_path
):
    path = file_of_runs(tmp_path, tiny_folder, seeds=[0, 1], epochs=400)
    one = process(path)
    for line in one.stdout:
        if line.startswith("epoch   3"):
            one.send_signal(signal.SIGTERM)
            break
    said, _ = one.communicate(timeout=120)
    assert one.returncode != 0 and "KeyboardInterrupt" in said, said
    [record] = local()
    assert record["status"] == "interrupted", "and the second run did not begin"
    run = replace(asked([str(path)]).units[0].run).resolved(CPU)
    assert run.hash == record["run"] and (run.folder / "last.pt").exists()
    again = make([unit(run)], device=CPU, hours=20 / 3600, report=silent, progress=silent)
    assert again.left and max(record["resumed_from"] or 0 for record in local()) >= 18


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_between_two_runs_ends_it_and_leaves_the_handlers_as_they_were(
    number, tiny_folder, own_runs
):
    before = signal.getsignal(number)
    first, second = (unit(small_run(tiny_folder, seed=seed, epochs=1)) for seed in (0, 1))
    with pytest.raises(KeyboardInterrupt):
        made(first, second, then=lambda *_: os.kill(os.getpid(), number))
    assert [record["run"] for record in local()] == [first.run.hash]
    assert signal.getsignal(number) is before


# Trouble


def test_one_that_diverges_and_ones_without_images_do_not_stop_the_others(tiny_folder, own_runs):
    diverges = unit(small_run(tiny_folder, learning_rate=1e30, clip_grad=0.0), "wild")
    elsewhere = replace(small_run(tiny_folder), data_dir="not-there-1")
    task = replace(small_run(tiny_folder), data_dir="tiny40")
    named = replace(small_run(tiny_folder), dataset="cifar100", data_dir=None)
    good = unit(small_run(tiny_folder, seed=5), "good")
    bad = [unit(run, str(n)) for n, run in enumerate((elsewhere, task, named))]
    with pytest.raises(NotMade) as told:
        made(diverges, *bad, good)
    done, line = told.value.made, str(told.value)
    assert (done.made, done.diverged) == ([diverges, good], [diverges])
    assert [one for one, _ in done.errors] == bad
    assert line.startswith("3 runs could not be made: mine (0): the images of not-there-1 are not")
    assert "`astroformer data derive tiny40`" in line and "\n" not in line
    assert "astroformer data fetch cifar100" in line
    assert sorted(record["status"] for record in local()) == ["completed", "failed"]


def test_a_run_that_diverged_is_not_trained_again(tiny_folder, own_runs):
    diverges = unit(small_run(tiny_folder, learning_rate=1e30, clip_grad=0.0))
    assert made(diverges).made == [diverges]
    again = made(diverges)
    assert (again.made, again.found, again.diverged) == ([], [diverges], [diverges])
    assert len(local()) == 1


@pytest.mark.slow
def test_what_does_not_fit_is_checkpointed_where_that_alone_makes_it_fit(
    tiny_folder, own_runs, monkeypatch
):
    run = small_run(tiny_folder, epochs=1, batch_size=16)
    again = loop.Execution(grad_checkpointing=True)
    plain, less = (
        memory.of_steps(run, classes=3, device="cpu", execution=execution).most
        for execution in (None, again)
    )
    assert less < plain
    small = unit(small_run(tiny_folder, epochs=1, batch_size=1), "small")
    monkeypatch.setattr(memory, "free_on", lambda device: (plain + less) / 2)
    assert made(unit(run)).made
    assert local()[0]["execution"]["grad_checkpointing"]
    # and it is the same run
    assert local()[0]["run"] == run.hash
    least = memory.of_steps(run, classes=3, device="cpu", execution=again).least
    monkeypatch.setattr(memory, "free_on", lambda device: 0.9 * least)
    other = unit(replace(run, seed=1), "large")
    with pytest.raises(NotMade, match=r"mine \(large\): astroformer_pico at 32 .* GB free") as told:
        made(other, small)
    assert told.value.made.made == [small]


def test_a_run_that_runs_out_of_memory_goes_on_with_its_activations_computed_twice(
    tiny_folder, own_runs, monkeypatch
):
    step = loop.Training.train_step

    def short(training, images, labels):
        if not training.execution.grad_checkpointing and training.step == 3:
            raise MemoryError("cannot allocate 2.00 GiB")
        return step(training, images, labels)

    one = unit(small_run(tiny_folder))
    made(one)
    whole = outcome(one.run)
    monkeypatch.setattr(loop.Training, "train_step", short)
    said, other = [], unit(small_run(tiny_folder, seed=1))
    assert made(other, report=said.append).made == [other]
    assert any("going on with --grad-checkpointing" in line for line in said)
    monkeypatch.setattr(loop.Training, "train_step", step)
    assert outcome(one.run) == whole


def test_what_is_to_be_done_with_a_run_may_fail_for_one_alone(tiny_folder, own_runs):
    seen = []

    def then(one, fitted):
        seen.append((one.label, fitted.weights.exists()))
        if one.label == "0":
            raise ValueError("cannot be measured")

    both = [unit(small_run(tiny_folder, seed=seed, epochs=1), str(seed)) for seed in (0, 1)]
    with pytest.raises(NotMade, match=r"1 run could not be made: mine \(0\): cannot be measured"):
        made(*both, then=then)
    assert seen == [("0", True), ("1", True)]
    (both[1].run.folder / "last.pt").unlink()
    made(both[1])
    assert not (both[1].run.folder / "last.pt").exists()
    made(both[1], need_weights=True, then=then)
    assert seen[-1] == ("1", True)


def test_a_mistake_in_the_library_is_no_trouble_of_one_run(tiny_folder, own_runs):
    def then(one, fitted):
        raise TypeError("a mistake")

    with pytest.raises(TypeError, match="a mistake"):
        made(unit(small_run(tiny_folder, epochs=1)), then=then)


# What is asked for


def test_a_folder_that_is_named_by_its_path_is_known_again_by_what_it_calls_itself(
    tiny_folder, own_runs, tmp_path
):
    path = file_of_runs(tmp_path, tiny_folder, seeds=[0], epochs=1)
    assert len(asked([str(path)]).missing) == 1
    made(*asked([str(path)]).missing)
    assert local()[0]["dataset"]["name"] == "tiny" and not asked([str(path)]).missing


def test_a_run_that_diverged_is_asked_for_no_more_until_the_training_is_another(
    tiny_folder, own_runs, tmp_path, monkeypatch
):
    wild = dict(epochs=1, learning_rate=1e30, clip_grad=0.0)
    path = file_of_runs(tmp_path, tiny_folder, seeds=[0], **wild)
    made(*asked([str(path)]).units)
    [one] = asked([str(path)]).units
    assert one.record["status"] == "failed"
    monkeypatch.setattr(identity, "REVISION", identity.REVISION + 1)
    assert asked([str(path)]).missing


def test_a_study_that_takes_tuned_rates_asks_for_their_tuning_first():
    never = asking.asked(["augmentation"], "gpu", known=[])
    assert never.unnamed and {one.study for one in never.units} == {"few_images"}
    assert {(one.stage, one.told["arm"]) for one in never.units} == {("tuning", "CCCT")}
    each = asking.asked(["galaxy10_part"], "gpu", known=[]).units
    assert {one.told["task"] for one in each} == {"galaxies3"}, "tuned there for all folds"
    assert {one.told["arm"] for one in each} == {"CCCT", "CCTT", "CTTT"}
    alone = asking.asked(["stability"], "gpu", known=[])
    assert not alone.unnamed and {one.study for one in alone.units} == {"stability"}
    of_all = asking.asked(["few_images", "augmentation"], "gpu", known=[]).units
    assert len({one.key for one in of_all}) == len(of_all)


def test_reasons_are_told_in_one_line_each_once():
    units = [unit(None, str(number)) for number in range(9)]
    line = making.reasons([(one, "no images" if n else "no memory") for n, one in enumerate(units)])
    assert line.count("no images") == line.count("no memory") == 1 and "and 3 more" in line
    assert line.startswith("9 runs could not be made: mine (0): no memory; mine (1), mine (2)")
