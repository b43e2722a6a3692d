"""What cannot fit is refused before it starts, in one line whose ways out do fit; what fits is not
refused, and no outcome depends on how much memory there is.
"""

import re
from dataclasses import replace

import pytest
import torch

from astroformer import cli, machine
from astroformer.ledger import records
from astroformer.models import NAMES
from astroformer.recipes import get_recipe
from astroformer.recipes import replace as changed
from astroformer.training import Execution, Run, fit, memory
from astroformer.training.evaluate import BATCH
from astroformer.training.pace import LAST, Pace

CPU = torch.device("cpu")
LARGE = ("former_2", "former_3", "former_4", "former_5", "_h_b", "_h_l")  # seconds each
PLAIN, AGAIN = Execution().settled(CPU), Execution(grad_checkpointing=True).settled(CPU)


def run_of(model="astroformer_pico", *, image_size=64, **recipe):
    settings = dict(epochs=1, batch_size=48, mixup=0.0) | recipe
    recipe = get_recipe("smoke", **settings)
    return Run(model=model, dataset="galaxies", recipe=recipe, image_size=image_size).resolved(CPU)


def steps(run, execution=PLAIN):
    return memory.of_steps(run, classes=10, device="cpu", execution=execution)


def begun(run, free, execution=PLAIN):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "free_memory", lambda: free)
        patch.setattr(machine, "tells_memory", lambda: True)
        return memory.checked(run, classes=10, device=CPU, execution=execution)


def refused(run, free, execution=PLAIN):
    with pytest.raises(ValueError, match="GB free; ") as error:
        begun(run, free, execution)
    assert "\n" not in str(error.value)
    return str(error.value)


def followed(run, execution, way):
    """The run and its execution as a way out of the refusal says."""
    if found := re.search(r"--set micro_batch_size=(\d+)", way):
        recipe = changed(run.recipe, micro_batch_size=int(found[1]))
        run = replace(run, recipe=recipe)
    again = execution.grad_checkpointing or "--grad-checkpointing" in way
    return run, replace(execution, grad_checkpointing=again)


@pytest.mark.parametrize("execution", [PLAIN, AGAIN], ids=["plain", "checkpointed"])
@pytest.mark.parametrize(
    "model",
    [
        *("vit_cifar", "convnext_narrow"),
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in ("astroformer_0", "spectformer_h_s")
        ),
    ],
)
def test_the_ways_out_of_a_refusal_fit_and_a_larger_micro_batch_would_not(model, execution):
    run = run_of(model, batch_size=240, mixup=0.8)
    needed = steps(run, execution)
    free = 0.3e9 + 1.3 * needed.states * 1.1 + 0.05 * needed.total
    assert free < needed.least
    said = refused(run, free, execution)
    assert f"{model} at 64 pixels, 240 images at a time, takes {needed}" in said
    ways = said.partition("; choose ")[2].split(" or ")
    assert ways[0]
    for way in ways:
        other, how = followed(run, execution, way)
        assert steps(other, how).most <= free
        assert f"({memory.gigabytes(steps(other, how).total)} GB, " in way
        room = begun(other, free, how)
        assert len(room.lines) == 1 and 1 <= room.evaluation_batch <= BATCH
        size = other.recipe.micro_batch_size
        if "micro_batch_size" in way:
            assert 240 % size == 0 and size % 2 == 0 and "another run" in way  # Mixup pairs
            larger = [n for n in range(size + 2, 240, 2) if 240 % n == 0]
            if larger:
                more = replace(other, recipe=changed(run.recipe, micro_batch_size=larger[0]))
                assert steps(more, how).most > free
            assert other.hash != run.hash
        else:
            assert "the same run" in way and other.hash == run.hash


def test_a_run_that_checkpointing_alone_makes_fit_is_told_so_first():
    run = run_of(batch_size=600)
    free = steps(run, AGAIN).most
    assert free < steps(run).least
    said = refused(run, free)
    assert (
        "; choose --grad-checkpointing (" in said and "the same run) or --set micro_batch" in said
    )
    assert len(begun(run, free, AGAIN).lines) == 1


def test_a_network_that_cannot_checkpoint_is_not_told_to():
    run = run_of("logistic_8x8", batch_size=480)
    assert "grad-checkpointing" not in refused(run, 1e6)


def test_where_no_micro_batch_is_small_enough_the_line_says_what_else():
    said = refused(run_of("astroformer_3"), 1e9)
    assert said.endswith("no micro-batch is small enough: choose a smaller network or --image-size")


@pytest.mark.parametrize("execution", [PLAIN, AGAIN], ids=["plain", "checkpointed"])
def test_only_what_cannot_fit_is_refused_and_between_there_is_a_warning(execution):
    run = run_of()
    needed = steps(run, execution)
    assert "takes" in refused(run, needed.least - 1, execution)
    for free in (needed.least, needed.total, needed.most - 1):
        lines = begun(run, free, execution).lines
        assert "memory may run out" in lines[1] and "\n" not in lines[1]
        way = lines[1].partition("; safe is ")[2]
        other, how = followed(run, execution, way.partition(" or ")[0])
        assert steps(other, how).most <= free or way == "a smaller network or --image-size"
    assert len(begun(run, needed.most, execution).lines) == 1


def test_a_compiled_run_is_refused_by_its_weights_and_states_alone():
    run, compiled = run_of(), replace(PLAIN, compile=True)
    needed = steps(run, compiled)
    assert needed.least < 0.2 * steps(run).least
    assert "memory may run out" in begun(run, needed.least, compiled).lines[1]
    refused(run, needed.least - 1, compiled)


def test_a_machine_that_does_not_tell_its_memory_refuses_nothing(monkeypatch):
    monkeypatch.setattr(machine, "machine_memory", lambda: None)
    monkeypatch.setattr(machine, "control_groups", list)
    run = run_of("astroformer_3", image_size=256)
    assert not machine.tells_memory() and machine.free_memory() == machine.UNKNOWN_MEMORY
    room = memory.checked(run, classes=10, device=CPU, execution=PLAIN)
    assert len(room.lines) == 1 and "GB are free" not in room.lines[0]


def test_fewer_images_are_evaluated_at_a_time_where_all_would_not_fit():
    run = run_of("resnet18_narrow", batch_size=8)
    _, evaluation = memory.of_run(run, classes=10, device="cpu", execution=PLAIN)
    assert begun(run, evaluation.most).evaluation_batch == BATCH
    free = evaluation.most / 2
    few = begun(run, free).evaluation_batch
    assert 1 <= few < BATCH / 2
    part = replace(evaluation, temporary=round(evaluation.temporary * few / BATCH))
    more = replace(evaluation, temporary=round(evaluation.temporary * (few + 1) / BATCH))
    assert part.most <= free < more.most


def test_evaluating_in_smaller_parts_changes_nothing_but_rounding(tiny_folder, own_runs):
    recipe = get_recipe("smoke", epochs=1, batch_size=8)
    run = Run(
        model="astroformer_pico",
        dataset="folder",
        data_dir=str(tiny_folder),
        image_size=32,
        recipe=recipe,
    )
    whole = fit(run, device=CPU, report=lambda line: None).record["metrics"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "evaluation_batch", lambda *_: 5)
        parts = fit(run, device=CPU, force=True, report=lambda line: None).record["metrics"]
    assert parts == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name.endswith(LARGE) else ()) for name in NAMES],
)
def test_every_network_is_told_its_memory_on_either_device(name):
    size = 64 if name != "vit_narrow" else 32
    run = run_of(name, image_size=size, batch_size=4)
    for device in ("cpu", "cuda"):
        needed, evaluation = memory.of_run(run, classes=10, device=device)
        assert needed.total > 3 * needed.weights and evaluation.temporary > 0
        assert needed.least < needed.total < needed.most


def test_what_the_recipe_says_is_counted():
    plain = steps(run_of())
    assert steps(run_of(ema_decay=0.99)).average == plain.weights
    assert steps(run_of(optimizer="sgd")).optimizer < plain.optimizer
    assert steps(run_of(micro_batch_size=12)).kept == pytest.approx(plain.kept / 4, rel=0.02)
    assert steps(run_of(dropblock=0.1)).total > plain.total
    assert steps(run_of(precision="bfloat16")).kept < 0.6 * plain.kept
    left = Run(model="astroformer_pico", dataset="galaxies", recipe=get_recipe("smoke"))
    here, there = (memory.of_steps(left, classes=10, device=on) for on in ("cpu", "cuda"))
    assert there.kept < 0.6 * here.kept  # a precision that is left to the device


# The command


# one of which the committed ledger has no run
RARE = ("--model", "vit_cifar", "--model-option", "depth=2")


def asked(folder, *more):
    words = ["train", "--dataset", "folder", "--data-dir", str(folder), "--image-size", "32"]
    return [*words, "--device", "cpu", "--set", "batch_size=8", "--set", "epochs=1", *more]


def test_the_first_line_of_a_training_says_gigabytes_and_that_hours_are_not_known(
    tiny_folder, own_runs, capsys
):
    assert cli.main(asked(tiny_folder, *RARE)) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert re.match(
        r"vit_cifar at 32 pixels, 8 images at a time: 0\.\d\d GB in the evaluation "
        r"\(.*\); [\d.]+ GB are free; for how long is not estimated",
        first,
    )


def test_the_first_line_says_hours_by_a_run_on_this_device(tiny_folder, own_runs, capsys):
    assert cli.main(asked(tiny_folder, *RARE)) == 0
    known = records.read()[-1]
    capsys.readouterr()
    assert cli.main(asked(tiny_folder, *RARE, "--seed", "1")) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert f"at {known['images_per_second']:,.0f} images/s, as run {known['run']}" in first
    assert cli.main(asked(tiny_folder, *RARE, "--model-option", "heads=6")) == 0
    assert "not estimated" in capsys.readouterr().out.splitlines()[0]  # another network


def test_a_command_that_cannot_fit_ends_before_images_are_read(
    tiny_folder, own_runs, capsys, monkeypatch
):
    monkeypatch.setattr(machine, "free_memory", lambda: int(1e6))
    monkeypatch.setattr("astroformer.data.load", lambda *_, **__: pytest.fail("images were read"))
    assert cli.main(asked(tiny_folder, "--grad-checkpointing")) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.strip().splitlines()) == 1
    assert "takes" in said.err and "0.00 GB free; no micro-batch is small enough" in said.err
    assert records.read() == [] or all(r["origin"] == "committed" for r in records.read())


# The pace


def test_after_a_few_steps_the_hours_that_are_left_are_said_once(monkeypatch):
    clock = iter([100.0, 106.0])
    monkeypatch.setattr("astroformer.training.pace.time.monotonic", lambda: next(clock))
    said = []
    pace = Pace(CPU, said.append)
    for step in range(1, 40):
        pace.after_step(1000 - step, 7200 - step)
    assert said == [f"a step takes 2 s: 4.0 hours for the {7200 - LAST:,} steps that are left"]


def test_a_measurement_within_a_minute_needs_no_line(monkeypatch):
    clock = iter([100.0, 106.0])
    monkeypatch.setattr("astroformer.training.pace.time.monotonic", lambda: next(clock))
    said = []
    pace = Pace(CPU, said.append)
    for step in range(1, 20):
        pace.after_step(20 - step, 7200 - step)
    assert said == []


def test_images_that_are_augmented_on_a_gpu_lie_there_whole():
    gpu = torch.device("cuda")
    on_host, on_device = (
        run_of(image_size=32, augmentation=where, hflip=0.5) for where in ("host", "device")
    )
    assert memory.held_on(gpu, on_host) == memory.held_on(CPU, on_device) == 0
    assert memory.held_on(gpu, on_device) == on_device.train_size() * 3 * 32 * 32
