"""The loop: it learns, it resumes exactly, it stops honestly, and it does not train twice."""

import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import timm
import torch
from small_run import CPU
from small_run import EVERYTHING as WITHOUT_RANDAUGMENT
from small_run import small_run as run_on

from astroformer import cli
from astroformer.ledger import curves, predictions, records
from astroformer.recipes import get_recipe
from astroformer.training import Execution, checkpoint, fit, load_trained, predict
from astroformer.training.schedule import learning_rate

VERSIONS = records.versions()
EVERYTHING = WITHOUT_RANDAUGMENT | {"randaugment": "rand-m9-mstd0.5-inc1"}
STEPS = 3 * 48 // 8


@pytest.fixture
def run(tiny_folder, own_runs):
    return lambda **changes: run_on(tiny_folder, **changes)


@pytest.fixture(scope="module")
def whole(tiny_folder, shared_runs):
    """What a run of EVERYTHING ends with that nobody stopped."""
    return state_of(fit(run_on(tiny_folder, **EVERYTHING), device=CPU, report=lambda line: None))


def lines():
    said = []
    return said, said.append


def state_of(fitted):
    return checkpoint.read(fitted.weights)


def assert_same_bits(one, other):
    for part in ("weights", "average"):
        assert (one[part] is None) == (other[part] is None)
        for name, value in (one[part] or {}).items():
            assert torch.equal(value, other[part][name]), f"{part} {name}"


def test_a_few_epochs_learn_three_easy_classes(run):
    fitted = fit(run(epochs=10), device=CPU, report=lambda line: None)
    history = fitted.record["history"]
    assert history[-1]["train_loss"] < history[0]["train_loss"] - 0.15
    assert fitted.record["metrics"]["top1"] > 60  # guessing gives 33


def test_a_run_stopped_at_several_points_ends_with_the_same_bits(whole, run):
    said, report = lines()
    for step in (2, 6, 7, 13):  # within an epoch, at its end, at the next one's start
        fitted = fit(run(**EVERYTHING), device=CPU, stop_after=step, report=report)
        assert fitted.record["status"] == "interrupted"
        assert state_of(fitted)["step"] == step
    last = fit(run(**EVERYTHING), device=CPU, report=report)
    assert last.record["status"] == "completed" and last.record["resumed_from"] == 13
    assert_same_bits(state_of(last), whole)
    assert state_of(last)["history"] == whole["history"]
    assert any("goes on from step 13 of 18" in line for line in said)


def words(tiny_folder, *more):
    settings = [f"--set={name}={value}" for name, value in EVERYTHING.items()]
    return [
        "train",
        "--dataset",
        "folder",
        "--data-dir",
        str(tiny_folder),
        "--image-size",
        "32",
        "--device",
        "cpu",
        "--checkpoint-seconds",
        "0",
        *settings,
        *more,
    ]


# So many epochs that a busy machine, too, sends its signal before the run is over.
LONG = ("--set=epochs=60",)


def start(tiny_folder, folder, *more, group=False):
    """`astroformer train` as a person starts it, on one thread; `group`: as a batch system does,
    with a process group of its own.
    """
    environment = os.environ | {
        "ASTROFORMER_RUNS": str(folder / "runs"),
        "ASTROFORMER_LOCAL_LEDGER": str(folder / "ledger"),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    command = [sys.executable, "-m", "astroformer", *words(tiny_folder, *more)]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=group,
    )


def wait_for_step(folder, step, process):
    """Until a checkpoint of at least that step lies there; importing everything takes a minute
    on a busy machine.
    """
    end = time.monotonic() + 300
    while time.monotonic() < end:
        for path in (folder / "runs").glob("*/last.pt"):
            try:
                if checkpoint.read(path)["step"] >= step:
                    return
            except (FileNotFoundError, ValueError):  # between two names; the next look finds it
                pass
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    raise AssertionError("no checkpoint came")


def test_the_command_of_a_killed_process_given_again_ends_with_the_same_bits(
    whole, tiny_folder, own_runs, capsys
):
    process = start(tiny_folder, own_runs)
    wait_for_step(own_runs, 4, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert cli.main(words(tiny_folder)) == 0
    assert "goes on from step" in capsys.readouterr().out
    assert_same_bits(checkpoint.read(next((own_runs / "runs").glob("*/last.pt"))), whole)


def test_ctrl_c_saves_and_says_how_to_go_on(tiny_folder, tmp_path):
    process = start(tiny_folder, tmp_path / "stopped", *LONG)
    wait_for_step(tmp_path / "stopped", 2, process)
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=120)
    assert process.returncode == 130, complained
    assert (
        "the same command goes on from there: astroformer train --model astroformer_pico "
        f"--dataset folder --data-dir {tiny_folder}" in said
    )
    assert "Traceback" not in complained
    record = json.loads(next((tmp_path / "stopped" / "ledger").glob("*.jsonl")).read_text())
    assert record["status"] == "interrupted"


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_signal_to_the_whole_group_with_loader_processes_saves_and_ends_with_130(
    number, whole, tiny_folder, own_runs
):
    compared = number == signal.SIGTERM
    more = () if compared else LONG
    process = start(tiny_folder, own_runs, "--workers", "2", *more, group=True)
    wait_for_step(own_runs, 1 if compared else 3, process)
    os.killpg(process.pid, number)
    said, complained = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in complained, complained
    record = json.loads(next((own_runs / "ledger").glob("*.jsonl")).read_text())
    state = checkpoint.read(next((own_runs / "runs").glob("*/last.pt")))
    assert record["status"] == "interrupted" and f"stopped at step {state['step']} of " in said
    if compared:  # what was saved goes on to the same bits, without processes too
        assert_same_bits(state_of(fit(run_on(tiny_folder, **EVERYTHING), device=CPU)), whole)


def test_the_ledger_answers_for_a_run_that_it_holds(run):
    first = fit(run(), device=CPU, report=lambda line: None)
    said, report = lines()
    again = fit(run(), device=CPU, report=report)
    assert (
        again.reused and again.record["started"] == first.record["started"] and "--force" in said[0]
    )
    assert len(records.read()) == len([r for r in records.read() if r["origin"] == "committed"]) + 1
    forced = fit(run(), device=CPU, force=True, report=report)
    assert not forced.reused and forced.record["resumed_from"] is None
    assert_same_bits(state_of(forced), state_of(first))


def test_lost_weights_are_trained_again_only_when_they_are_needed(run):
    first = fit(run(), device=CPU, report=lambda line: None)
    before = state_of(first)
    assert not first.weights.with_name("previous.pt").exists()
    first.weights.unlink()
    assert fit(run(), device=CPU, report=lambda line: None).reused
    assert_same_bits(
        state_of(fit(run(), device=CPU, need_weights=True, report=lambda line: None)), before
    )


def test_a_loss_that_is_not_finite_ends_the_run_as_failed_with_its_step(run):
    said, report = lines()
    fitted = fit(
        run(learning_rate=1e12, warmup_epochs=0.0, clip_grad=0.0, epochs=4),
        device=CPU,
        report=report,
    )
    assert fitted.record["status"] == "failed" and 0 < fitted.record["failed_at_step"] < 24
    assert f"not finite at step {fitted.record['failed_at_step']}" in said[-1]
    assert records.completed(fitted.record["run"]) is None


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_network_that_says_nothing_finite_ends_the_run_as_failed_with_null_metrics(run, epochs):
    """The weights burst in the last step of an epoch, after its last loss."""
    said, report = lines()
    asked = run(epochs=epochs, batch_size=48, learning_rate=1e20, warmup_epochs=0.0, clip_grad=0.0)
    record = fit(asked, device=CPU, report=report).record
    assert record["status"] == "failed" and record["failed_at_step"] == 1
    assert record["history"][-1]["top1"] is None and record["metrics"]["nll"] is None
    kept = [one for one in records.read() if one["run"] == record["run"]]
    assert [one["status"] for one in kept] == ["failed"]
    assert json.loads(json.dumps(kept[0], allow_nan=False)) == kept[0]
    assert fit(asked, device=CPU, report=report).record["status"] == "failed"  # again, not an error


def test_bfloat16_autocast_trains_too_and_is_another_run(run):
    record = fit(run(precision="bfloat16"), device=CPU, report=lambda line: None).record
    assert record["status"] == "completed" and record["precision"] == "bfloat16"
    assert record["run"] != run().hash and run().recipe.precision == "float32"  # "auto" on a CPU


def test_a_run_in_another_precision_answers_where_the_precision_was_left_to_the_device(
    run, tiny_folder, own_runs
):
    record = fit(run(precision="bfloat16"), device=CPU, report=lambda line: None).record
    left = dataclasses.replace(run(), recipe=get_recipe("smoke", epochs=2, batch_size=8))
    assert left.recipe.precision == "auto"
    again = fit(left, device=CPU, report=lambda line: None)
    assert again.reused and again.record["run"] == record["run"]
    assert not fit(run(precision="float32"), device=CPU, report=lambda line: None).reused


def test_the_execution_is_recorded_and_no_part_of_the_name(run):
    plain = Execution(channels_last=False, workers=1)
    record = fit(run(), device=CPU, execution=plain, report=lambda line: None).record
    assert record["run"] == run().hash
    assert record["execution"]["channels_last"] is False and record["execution"]["workers"] == 1
    usual = fit(run(), device=CPU, force=True, report=lambda line: None).record
    assert usual["execution"]["channels_last"] is True and usual["execution"]["workers"] == 0
    assert math.isclose(usual["metrics"]["nll"], record["metrics"]["nll"], rel_tol=1e-2)


def test_a_resumed_run_lists_its_attempts_and_says_what_has_changed_between_them(run, monkeypatch):
    fit(run(), device=CPU, stop_after=3, report=lambda line: None)
    monkeypatch.setattr(records, "versions", lambda: dict(VERSIONS, torch="9.9"))
    said, report = lines()
    record = fit(run(), device=CPU, execution=Execution(channels_last=False), report=report).record
    assert f"torch {VERSIONS['torch']} -> 9.9" in said[0]
    assert "channels_last True -> False" in said[0] and "device" not in said[0]
    first, second = record["attempts"]
    assert (first["from_step"], first["to_step"], first["images"]) == (0, 3, 24)
    assert (second["from_step"], second["to_step"], second["images"]) == (3, 12, 72)
    assert record["steps"] == 12 and record["versions"]["torch"] == "9.9"
    assert record["images_per_second"] == pytest.approx(72 / second["seconds"], rel=1e-2)
    assert record["seconds"] == pytest.approx(first["seconds"] + second["seconds"], abs=0.02)


def test_an_interrupted_force_goes_on_with_and_without_the_word(run):
    first = fit(run(), device=CPU, report=lambda line: None)
    for force in (True, False):
        stopped = fit(run(), device=CPU, force=True, stop_after=3, report=lambda line: None)
        assert stopped.record["status"] == "interrupted"
        again = fit(run(), device=CPU, force=force, report=lambda line: None)
        assert not again.reused and again.record["resumed_from"] == 3
        assert_same_bits(state_of(again), state_of(first))
        assert fit(run(), device=CPU, report=lambda line: None).reused


def test_a_batch_larger_than_the_data_is_refused_with_the_largest_that_is_possible(run, own_runs):
    asked = dataclasses.replace(run(), recipe=get_recipe("smoke", epochs=1, batch_size=2048))
    with pytest.raises(ValueError, match=r"2,048 is more than the 48 .* --set batch_size=48"):
        fit(asked, device=CPU, report=lambda line: None)
    assert not any(record["origin"] == "local" for record in records.read())


BY_STEPS = dict(steps=11, warmup_part=0.2, mixup=0.2, drop_path_rate=0.1)  # epochs have 6 steps


def test_a_run_that_counts_steps_ends_within_an_epoch_and_measures_test_once(run):
    asked = dataclasses.replace(
        run(**BY_STEPS), validation=0.25, evaluate="test", fraction=0.5
    ).resolved(CPU)
    fitted = fit(asked, device=CPU, evaluations=3, report=lambda line: None)
    record = fitted.record
    assert [entry["step"] for entry in record["history"]] == [4, 7, 11] and record["steps"] == 11
    assert record["dataset"]["evaluated_on"] == record["identity"]["evaluated_on"] == "test"
    # what is watched are the held-out images; the metrics are of others
    logits = predictions.read(record["run"])
    assert len(logits) == record["dataset"]["test"] and logits.evaluated_on == "test"
    assert record["metrics"]["top1"] == pytest.approx(100 * logits.right.mean())
    assert "--evaluate test" in record["command"] and record["metrics"]["train_nll"] > 0
    # how often it is measured changes nothing of what it comes to
    other = fit(asked, device=CPU, evaluations=1, force=True, report=lambda line: None)
    assert other.record["metrics"] == record["metrics"] and len(other.record["history"]) == 1


@pytest.mark.parametrize("stop", [1, 4, 5, 10])
def test_a_run_that_counts_steps_goes_on_with_the_same_bits_and_the_same_curve(run, stop):
    asked = dataclasses.replace(run(**BY_STEPS), validation=0.25, evaluate="test").resolved(CPU)
    first = fit(asked, device=CPU, report=lambda line: None)
    whole, expected = curves.read(asked.hash), state_of(first)
    again = {"device": CPU, "report": lambda line: None}
    fit(asked, force=True, stop_after=stop, **again)
    goes_on = fit(asked, force=True, **again)
    assert goes_on.record["resumed_from"] == stop
    assert_same_bits(state_of(goes_on), expected)
    assert goes_on.record["metrics"] == first.record["metrics"]
    kept = curves.read(asked.hash)
    assert np.array_equal(kept.loss, whole.loss) and np.array_equal(kept.norm, whole.norm)
    assert len(kept.loss) == 11 and (kept.norm > 0).all()


def test_the_curve_of_a_run_that_diverges_is_kept_to_the_step(run):
    asked = run(epochs=3, learning_rate=1e20, warmup_epochs=0.0, clip_grad=0.0)
    record = fit(asked, device=CPU, report=lambda line: None).record
    assert record["status"] == "failed"
    loss = curves.read(asked.hash).loss
    assert np.isfinite(loss[: record["failed_at_step"]]).all()
    assert not np.isfinite(loss[record["failed_at_step"] :]).all()
    assert curves.read("0" * 12) is None


def test_warm_up_is_a_part_of_the_steps_whatever_an_epoch_holds():
    recipe = get_recipe("lowdata", steps=200, warmup_part=0.1)
    rates = [[learning_rate(recipe, step, size) for step in range(200)] for size in (1, 7, 1000)]
    assert rates[0] == rates[1] == rates[2]
    assert rates[0][0] == 0 and max(rates[0]) == rates[0][20] and rates[0][-1] < 1e-6


def test_a_short_run_does_not_keep_its_first_weights_in_the_average(run):
    fitted = fit(run(ema_decay=0.9998), device=CPU, report=lambda line: None)
    state = state_of(fitted)
    torch.manual_seed(0)
    drawn = timm.create_model("astroformer_pico", **state["options"]).state_dict()
    name = "stages.3.blocks.1.mlp.fc1.weight"
    moved = [
        (weights[name] - drawn[name]).norm() for weights in (state["average"], state["weights"])
    ]
    assert moved[0] > 0.3 * moved[1] > 0


def test_the_generators_of_the_caller_stay_as_they_were(run):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    fit(run(epochs=1), device=CPU, report=lambda line: None)
    assert random.getstate() == before[0] and np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_loader_process_that_dies_ends_the_run_in_one_line_and_what_was_trained_is_saved(
    run, monkeypatch
):
    from astroformer.data.augment import Augmented

    whole_image = Augmented.image

    def dies(self, key):
        if key[0] == 1:  # in the second epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return whole_image(self, key)

    monkeypatch.setattr(Augmented, "image", dies)
    with pytest.raises(OSError, match="loader process.*--workers"):
        fit(run(), device=CPU, execution=Execution(workers=1), report=lambda line: None)
    assert checkpoint.read(run().folder / "last.pt")["step"] == 6


def test_a_record_has_every_field_and_names_the_machine_and_the_commit(run):
    record = fit(run(), device=CPU, report=lambda line: None).record
    assert set(record) == set(records.FIELDS)
    assert (
        record["params"] > 1e6
        and record["macs"] > 1e6
        and record["seconds"] > 0
        and record["peak_memory"] > 1e6
    )
    assert (
        record["dataset"]["name"] == "tiny"
        and record["dataset"]["train"] == 48
        and record["dataset"]["test"] == 24
    )
    assert record["selection"] == "last epoch" and len(record["history"]) == record["epochs"] == 2
    of_test = {"top1", "top5", "balanced_accuracy", "nll", "ece"}
    of_train = {"train_top1", "train_balanced_accuracy", "train_nll"}
    assert set(record["metrics"]) == of_test | of_train
    assert "threads" in record["device"] and set(record["git"]) == {"commit", "dirty"}
    assert record["command"].startswith(
        "astroformer train --model astroformer_pico --dataset folder --data-dir tiny"
    )


def test_weight_decay_can_be_asked_for_on_every_parameter(run):
    from astroformer.training.loop import Training

    training = Training(run(weight_decay=0.3, decay_all=True), CPU, print)
    groups = training.optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {0.3}
    assert sum(len(group["params"]) for group in groups) == len(list(training.model.parameters()))


def test_the_evaluated_checkpoint_is_the_network_that_was_measured(run):
    fitted = fit(run(ema_decay=0.5), device=CPU, report=lambda line: None)
    model, described = load_trained(fitted.weights)
    images = run().load("test")
    logits = predict(model, images, mean=described["mean"], std=described["std"])
    top1 = 100 * (logits.argmax(1).numpy() == images.labels).mean()
    assert math.isclose(top1, fitted.record["metrics"]["top1"]) and described["classes"] == [
        "cigar",
        "round",
        "spiral",
    ]


def test_the_learning_rate_warms_up_linearly_and_falls_as_a_cosine():
    recipe = get_recipe(
        "smoke",
        epochs=10,
        warmup_epochs=2.0,
        warmup_learning_rate=0.1,
        learning_rate=1.0,
        final_learning_rate=0.2,
    )
    rates = [learning_rate(recipe, step, 100) for step in range(1000)]
    assert rates[0] == 0.1 and math.isclose(rates[100], 0.55)
    assert all(a < b for a, b in zip(rates[:199], rates[1:200])) and all(
        a > b for a, b in zip(rates[200:], rates[201:])
    )
    assert math.isclose(rates[500], 0.6) and 0.2 < rates[-1] < 0.201


def test_weight_decay_spares_norms_biases_and_bias_tables(run):
    from astroformer.training.loop import Training

    training = Training(run(weight_decay=0.3), CPU, print)
    names = {id(p): name for name, p in training.model.named_parameters()}
    decayed = {
        names[id(p)]
        for group in training.optimizer.param_groups
        if group["weight_decay"]
        for p in group["params"]
    }
    assert decayed and all(name.endswith("weight") and "norm" not in name for name in decayed)
    assert len(names) == sum(len(group["params"]) for group in training.optimizer.param_groups)


def test_micro_batches_sum_to_the_gradient_of_the_whole_batch(run):
    """Without BatchNorm's dependence on the batch (evaluation mode) both ways give one gradient."""
    from astroformer.training.loop import Training

    gradients = []
    for size in (0, 4):
        training = Training(
            run(
                micro_batch_size=size,
                label_smoothing=0.0,
                clip_grad=0.0,
                optimizer="sgd",
                warmup_epochs=0.0,
            ),
            CPU,
            print,
        )
        training.model.eval()
        before = [p.detach().clone() for p in training.model.parameters()]
        x = torch.from_numpy(training.train_images.array(0, 8)).permute(0, 3, 1, 2)
        training.train_step(x, torch.tensor(training.train_images.labels[:8]))
        gradients.append(
            torch.cat(
                [(b - p.detach()).flatten() for b, p in zip(before, training.model.parameters())]
            )
        )
    assert torch.allclose(*gradients, atol=1e-6) and gradients[0].abs().max() > 1e-5
