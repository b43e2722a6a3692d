"""Logs: each epoch once, with the numbers of the record, however often the run was stopped."""

import importlib.util

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from astroformer.recipes import get_recipe
from astroformer.training import Run, fit

CPU = torch.device("cpu")


@pytest.fixture
def run(tiny_folder, own_runs):
    return Run(
        model="astroformer_pico",
        dataset="folder",
        data_dir=str(tiny_folder),
        image_size=32,
        recipe=get_recipe("smoke", epochs=3, batch_size=24),
    ).resolved(CPU)


def scalars_of(folder):
    """{name: [(step, value), ...]} as TensorBoard shows them."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def assert_agree(run, history):
    table = pd.read_csv(run.folder / "log.csv")
    assert table.to_dict("records") == history and [entry["epoch"] for entry in history] == [
        1,
        2,
        3,
    ]
    shown = scalars_of(run.folder)
    assert set(shown) == set(history[0]) - {"epoch"} >= {"train_loss", "learning_rate", "top1"}
    for name, points in shown.items():
        assert [step for step, _ in points] == [1, 2, 3]
        # float32
        assert [value for _, value in points] == pytest.approx(
            [entry[name] for entry in history], rel=1e-6
        )


def test_both_logs_of_a_run_that_was_stopped_twice_have_each_epoch_once(run):
    """Stopped within the second epoch; then the last one logged without its checkpoint, as by a
    kill between the two.
    """
    both = dict(device=CPU, logs=("csv", "tensorboard"), report=lambda line: None)
    fit(run, stop_after=3, **both)
    assert pd.read_csv(run.folder / "log.csv")["epoch"].tolist() == [1]
    one = (run.folder / "last.pt").read_bytes()
    fit(run, stop_after=5, **both)
    (run.folder / "last.pt").write_bytes(one)
    fitted = fit(run, **both)
    assert fitted.record["resumed_from"] == 3
    assert_agree(run, fitted.record["history"])


def test_a_run_that_the_ledger_holds_gets_the_logs_it_is_asked_for_afterwards(run):
    first = fit(run, device=CPU, report=lambda line: None)
    # no log unless asked for
    assert sorted(path.name for path in run.folder.iterdir()) == [".lock", "last.pt"]
    assert fit(run, device=CPU, logs=("csv", "tensorboard"), report=lambda line: None).reused
    assert_agree(run, first.record["history"])


def test_a_log_that_cannot_be_written_is_refused_before_training(run):
    with pytest.raises(ValueError, match="choose one of csv, tensorboard, wandb"):
        fit(run, device=CPU, logs=("comet",))
    if importlib.util.find_spec("wandb") is None:
        with pytest.raises(ValueError, match="pip install wandb"):
            fit(run, device=CPU, logs=("csv", "wandb"))
    assert not run.folder.exists()
