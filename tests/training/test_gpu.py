"""What only a GPU shows: training there, half precision, and the same images as on a CPU."""

import pytest
import timm
import torch

from astroformer.models.twins import timm_twin
from astroformer.recipes import get_recipe
from astroformer.training import Execution, Run, fit
from astroformer.training.step import optimizer_of, set_learning_rate, stepping_of

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


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype, largest", [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_astroformer_0_says_what_timm_says_on_a_gpu(dtype, largest, compiled):
    """Logits and gradients beside timm's own network, relative to their largest number."""
    torch.manual_seed(0)
    theirs = timm_twin("astroformer_0", stack="CCCT", image_size=64).cuda().train()
    ours = timm.create_model("astroformer_0", img_size=64, num_classes=10).cuda().train()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(16, 3, 64, 64, device="cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found = []
    for model in (theirs, ours):
        forward = torch.compile(model) if compiled and model is ours else model
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype is torch.bfloat16):
            logits = forward(x)
        logits.float().square().mean().backward()
        gradients = torch.cat(
            [p.grad.flatten().float() for _, p in sorted(model.named_parameters())]
        )
        found.append((logits.detach().float(), gradients))
    for one, other in zip(*found, strict=True):
        assert float((one - other).norm() / one.norm()) < largest * (1 if one.dim() == 2 else 10)


@pytest.mark.parametrize("name, options", [("astroformer_pico", {}), ("vit_cifar", {})])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_graph_replays_the_steps_that_calls_take(name, options, compiled):
    """With stochastic depth and dropout, whose numbers follow the seed of each step."""
    gpu, losses = torch.device("cuda"), []
    recipe = get_recipe("smoke", batch_size=8, learning_rate=1e-3, clip_grad=1.0)
    for graphs in (False, True):
        execution = Execution(compile=compiled, graphs=graphs).settled(gpu)
        torch.manual_seed(0)
        model = timm.create_model(
            name, img_size=32, num_classes=5, drop_path_rate=0.3, drop_rate=0.1, **options
        )
        model = execution.prepared(model.to(gpu).train())
        optimizer = optimizer_of(model, recipe, execution, gpu)
        step = stepping_of(model, model, optimizer, execution, clip_grad=1.0)
        own = []
        for number in range(20):
            torch.manual_seed(number)
            x = torch.randn(8, 3, 32, 32, device=gpu).contiguous(memory_format=execution.layout)
            target = torch.eye(5, device=gpu)[torch.arange(8, device=gpu) % 5]
            set_learning_rate(optimizer, 1e-3 * (1 + number % 3))
            own.append(float(step(x, target)[0]))
        losses.append(own)
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    assert losses[0][0] != pytest.approx(losses[0][-1], rel=1e-2)


def test_a_run_whose_steps_are_a_graph_resumes(tiny_folder, own_runs):
    run = run_on(tiny_folder, ema_decay=0.9, drop_path_rate=0.1)
    gpu = torch.device("cuda")
    fit(run, device=gpu, stop_after=3, report=lambda line: None)
    record = fit(run, device=gpu, report=lambda line: None).record
    assert record["status"] == "completed" and record["execution"]["graphs"] is True
    assert record["resumed_from"] == 3
