"""Weights that processes divide: the numbers of one process, checkpoints that any number of them
goes on from, and about half of everything in each of two.
"""

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from sharded_program import CPU, OPTIMIZERS, RUNS, run_of
from test_checkpointing import CAN, CANNOT
from test_ranks import ended, started

from astroformer.ledger import curves
from astroformer.models import NAMES
from astroformer.recipes import get_recipe
from astroformer.sizes import ASTROFORMER
from astroformer.training import Execution, Run, fit, memory
from astroformer.training.sharded import largest_unit, units_of

PROGRAM = Path(__file__).parent / "sharded_program.py"
COMPLETE = ("shared", "accumulated", "lookahead")
STOP = 8  # the step after which a run is stopped that the other kind goes on with


def on_meta(name):
    with torch.device("meta"):
        return timm.create_model(name, num_classes=10)


# What is gathered at once


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("astroformer")])
def test_every_block_of_an_astroformer_is_a_unit(name):
    model = on_meta(name)
    units = units_of(model)
    blocks = [block for stage in model.stages for block in stage.blocks]
    assert {id(unit) for unit in units.values()} == {id(block) for block in blocks}
    assert len(units) == sum(ASTROFORMER[name]["depths"])


@pytest.mark.parametrize("name", [*CAN, "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_units_hold_most_of_a_network_and_none_holds_most_of_it(name):
    model = on_meta(name)
    whole = sum(one.numel() for one in model.parameters())
    units = {id(p): p.numel() for unit in units_of(model).values() for p in unit.parameters()}
    assert sum(units.values()) > 0.8 * whole
    assert largest_unit(model) < 4 * whole / 2


def test_a_network_without_blocks_is_refused():
    with pytest.raises(ValueError, match="no blocks .*; leave out --shard"):
        units_of(on_meta(CANNOT))


def test_one_process_alone_is_told_to_start_several(tiny_folder, own_runs):
    with pytest.raises(ValueError, match="torchrun .* --shard"):
        fit(run_of("shared", str(tiny_folder)), device=CPU, execution=Execution(shard=True))


def test_a_run_goes_on_in_another_layout_of_its_weights(tiny_folder, own_runs):
    """Divided weights lie in rows, and what they leave is gone on with in any layout."""
    run, losses = run_of("shared", str(tiny_folder)), []
    for first, then in ((True, True), (False, True), (True, False)):
        for layout, stop in ((first, STOP), (then, None)):
            how = dict(execution=Execution(channels_last=layout), stop_after=stop)
            fit(run, device=CPU, force=True, **how)
        losses.append(curves.read(run.resolved(CPU).hash).loss)
    assert np.abs(losses[1] - losses[0]).max() < 1e-5
    assert np.abs(losses[2] - losses[0]).max() < 1e-5


def test_memory_goes_down_with_the_processes_to_what_is_gathered_and_activations():
    run = Run(
        model="astroformer_5",
        dataset="galaxy10_decals",
        image_size=64,
        recipe=get_recipe("readme", batch_size=64, micro_batch_size=8),
        seed=0,
    )
    one = memory.of_steps(run, classes=10, execution=Execution())
    eight = memory.of_steps(run, classes=10, execution=Execution(world_size=8))
    divided = memory.of_steps(run, classes=10, execution=Execution(world_size=8, shard=True))
    unit = largest_unit(on_meta("astroformer_5"))
    assert eight.states <= one.states
    assert divided.optimizer == pytest.approx(eight.optimizer / 8, rel=0.01)
    assert eight.weights / 8 < divided.weights < eight.weights / 8 + 2.1 * unit
    assert divided.total < eight.total / 2


# Two processes beside one


@pytest.fixture(scope="module")
def made(tiny_folder, tmp_path_factory):
    """Where one process ("one") and two ("two") left their runs, where each went on with the
    other's ("one after two", "two after one"), the checkpoints between, and what two said.
    """
    folders = {
        name: tmp_path_factory.mktemp(name.replace(" ", "-"))
        for name in ("one", "two", "one after two", "two after one")
    }
    between = {}

    def alone(name, where, **how):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ASTROFORMER_RUNS", str(where / "runs"))
            patch.setenv("ASTROFORMER_LOCAL_LEDGER", str(where / "ledger"))
            execution = Execution(**RUNS[name][3])
            fit(run_of(name, str(tiny_folder)), device=CPU, execution=execution, **how)

    def keep(name, where):
        found = folders[where] / "runs" / hash_of(name, tiny_folder) / "last.pt"
        between[name, where] = shutil.copy(found, folders[where] / f"{name}.pt")

    for name in COMPLETE:
        alone(name, folders["one"], stop_after=STOP)
    shutil.copytree(folders["one"], folders["two after one"], dirs_exist_ok=True)
    for name in COMPLETE:
        keep(name, "two after one")
        alone(name, folders["one"])
    after, before, own = (folders[one] for one in ("two after one", "one after two", "two"))
    words = [
        *("optimizers", "networks", "evaluations"),
        f"shared@{own}",
        *(f"{name}@{after}" for name in COMPLETE),
        *(f"{name}:{STOP}@{before}" for name in COMPLETE),
        "thirds",
    ]
    said = ended(started(2, PROGRAM, tiny_folder, *words, folder=own))
    for name in COMPLETE:
        keep(name, "one after two")
        alone(name, before)
    return folders, between, said


def hash_of(name, folder):
    return run_of(name, str(folder)).resolved(CPU).hash


def told(said, what):
    """What both processes said of something, each time."""
    lines = [line for line in said.splitlines() if line.startswith(f"{what} ")]
    return [json.loads(line.removeprefix(f"{what} ")) for line in lines]


@pytest.fixture
def read(made, tiny_folder, monkeypatch):
    """(name, whose) -> the losses and norms of a run, and its last checkpoint"""

    def of(name, whose):
        folder = made[0][whose]
        monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(folder / "ledger"))
        run = hash_of(name, tiny_folder)
        kept = torch.load(folder / "runs" / run / "last.pt", weights_only=True)
        return curves.read(run), kept

    return of


@pytest.mark.parametrize(
    "name, whose",
    [("shared", "two"), *product(COMPLETE, ("one after two", "two after one"))],
)
def test_divided_weights_train_as_whole_ones(name, whose, read):
    (expected, alone), (found, kept) = read(name, "one"), read(name, whose)
    assert len(found.loss) == 20 and np.ptp(found.loss) > 0.01
    assert np.abs(found.loss - expected.loss).max() < 1e-5
    assert np.abs(found.norm / expected.norm - 1).max() < 1e-4
    # AdamW makes a step of any gradient, however small, so those of rounding alone tell: a bias
    # before BatchNorm has no other, and moves that layer's mean and nothing else.
    robust = RUNS[name][0] == "vit_cifar"
    for part in ("weights", "average"):
        assert kept[part].keys() == alone[part].keys()
        for weight, value in alone[part].items():
            if robust or not weight.endswith(("bias", "running_mean")):
                near = dict(rtol=1e-3, atol=1e-6 if robust else 5e-4)
                torch.testing.assert_close(kept[part][weight], value, **near)


def shape_of(state):
    """A state with shapes and types in place of numbers."""
    if isinstance(state, torch.Tensor):
        return type(state), tuple(state.shape), state.dtype, state.device.type
    if isinstance(state, dict):
        noted = getattr(state, "_metadata", None)
        return type(state), noted, [(name, shape_of(value)) for name, value in state.items()]
    if isinstance(state, list | tuple):
        return type(state), [shape_of(value) for value in state]
    return type(state)


@pytest.mark.parametrize("name", COMPLETE)
def test_a_checkpoint_of_divided_weights_has_the_form_of_any_other(name, made):
    divided, whole = (
        torch.load(made[1][name, where], weights_only=True)
        for where in ("one after two", "two after one")
    )
    assert divided["step"] == whole["step"] == STOP
    for part in ("weights", "average", "optimizer"):
        assert shape_of(divided[part]) == shape_of(whole[part])
    assert divided["optimizer"]["state"] and divided.keys() == whole.keys()
    assert [(k, shape_of(v)) for k, v in divided.items() if k != "attempts"] == [
        (k, shape_of(v)) for k, v in whole.items() if k != "attempts"
    ]
    assert divided["optimizer"]["param_groups"] == whole["optimizer"]["param_groups"]


def test_each_process_has_about_half_of_everything(made):
    every = told(made[2], "held")
    assert len(every) == 1 + 2 * len(COMPLETE)
    for ranks in every:
        for kind in ("weights", "average", "states"):
            parts = [one[kind] for one in ranks]
            assert sum(parts) == pytest.approx(1.0) and max(parts) < 0.54


def test_every_network_has_the_gradients_of_whole_copies(made):
    [ranks] = told(made[2], "networks")
    for found in ranks:
        assert set(found) == set(CAN)
        assert max(found.values()) < 1e-5


def test_ranks_with_unequal_parts_of_the_images_evaluate_all_of_them(made):
    [ranks] = told(made[2], "evaluations")
    for found in ranks:
        assert set(found) == {"1", "23"} and max(found.values()) < 1e-5


def test_an_optimizer_that_would_make_something_else_of_parts_is_refused(made):
    [ranks] = told(made[2], "optimizers")
    assert ranks[0] == ranks[1]
    refused = {name for name in OPTIMIZERS if ranks[0][name]}
    assert refused == {"adafactor", "adamp"}
    assert all("leave out --shard" in ranks[0][name] for name in refused)


def test_micro_batches_that_are_not_as_many_in_each_process_are_refused(made):
    [line] = told(made[2], "refused")
    assert "3 cannot be divided among 2" in line
