"""What only a GPU shows: training there, half precision, and the same images as on a CPU."""

import pytest
import torch

from astroformer.recipes import get_recipe
from astroformer.training import Execution, Run, fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def run_on(folder, **changes):
    recipe = get_recipe("smoke", **({"epochs": 2, "batch_size": 8, "mixup": 0.4} | changes))
    return Run(
        model="astroformer_pico",
        dataset="folder",
        data_dir=str(folder),
        image_size=32,
        recipe=recipe,
    )


def trained(run, **execution):
    gpu = torch.device("cuda")
    return fit(run, device=gpu, execution=Execution(**execution), report=lambda line: None)


def test_a_run_trains_in_bfloat16_with_loader_processes_and_says_so(tiny_folder, own_runs):
    record = trained(run_on(tiny_folder), workers=2).record
    assert record["status"] == "completed" and record["execution"]["workers"] == 2
    expected = "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    assert record["precision"] == expected and "threads" not in record["device"]
    assert record["execution"]["tf32"] is False and record["execution"]["cudnn_benchmark"] is True


def test_a_float32_run_follows_the_same_run_on_a_cpu(tiny_folder, own_runs):
    run = run_on(tiny_folder, precision="float32", drop_path_rate=0.0, drop_rate=0.0)
    on_gpu = trained(run, workers=0).record["history"]
    on_cpu = fit(run, device=torch.device("cpu"), force=True, report=lambda line: None).record
    losses = [[entry["train_loss"] for entry in history] for history in (on_gpu, on_cpu["history"])]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


def test_the_switches_of_speed_leave_the_runs_name_and_its_loss(tiny_folder, own_runs):
    run = run_on(tiny_folder, precision="float32")
    plain = trained(run, channels_last=False, cudnn_benchmark=False).record
    run_again = fit(
        run,
        device=torch.device("cuda"),
        execution=Execution(channels_last=True, tf32=True, grad_checkpointing=True),
        force=True,
        report=lambda line: None,
    ).record
    assert run_again["run"] == plain["run"]
    assert run_again["history"][-1]["train_loss"] == pytest.approx(
        plain["history"][-1]["train_loss"], rel=5e-2
    )
