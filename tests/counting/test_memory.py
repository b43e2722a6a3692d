"""What a training step is told to take is what PyTorch's allocator hands out, and no less than the
process grows by; nothing is allocated to tell it.
"""

import copy
import subprocess
import sys

import pytest
import timm
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from astroformer.counting import memory
from astroformer.counting.cost import on_meta
from astroformer.training.execution import checkpoint_gradients

CLASSES = 10
NETWORKS = {
    "astroformer_pico": 64,
    "spectformer_ti": 64,
    "spectformer_h_s": 64,
    "vit_cifar": 32,
    "convnext_narrow": 64,
    "resnet18_narrow": 64,
    "vit_narrow": 64,
}


class Attending(nn.Module):
    """Attention between 16 x 16 positions with a learned bias."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 256, 256))

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)  # (B, 256, 3)
        attended = nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=self.bias)
        return attended.mean(1)


def told(model, size, number, **how):
    return memory.of_training(model, (size, size), batch=number, micro_batch=number, **how)


def test_a_step_of_a_small_network_by_hand():
    """An image of 3 x 4 x 4 numbers; 5 filters of 3 weights and a bias; 5 numbers to 2 classes."""
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.GELU(), nn.Flatten(), nn.Linear(80, 2))
    weights = 4 * (15 + 5 + 160 + 2)
    needed = told(network, 4, 100, optimizer="adamw", average=True)
    assert (needed.weights, needed.optimizer, needed.average) == (weights, 2 * weights, weights)
    assert needed.images == 100 * 48 * (1 + 4)  # bytes and numbers
    # before GELU and after it; what follows has 2 numbers an image
    assert needed.kept == pytest.approx(100 * 4 * (80 + 80), rel=0.05)
    assert 0 < needed.temporary < 100 * 4 * 3 * 80 and needed.moment == "backward pass"
    assert needed.total == needed.states + needed.images + needed.kept + needed.temporary


def test_an_optimizers_step_is_the_fullest_moment_of_a_network_that_is_all_weights():
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 10_000), nn.Linear(10_000, 500))
    needed = told(network, 4, 1)
    assert needed.moment == "optimizer's step" and needed.gradients == needed.weights
    # AdamW's root of a weight's mean square, and its quotient
    assert needed.kept == 0 and needed.temporary == 2 * 4 * 10_000 * 500


def test_gradients_of_the_micro_batches_before_are_there_in_every_pass():
    model = on_meta("astroformer_0", 64, CLASSES)
    whole = told(model, 64, 8)
    parts = memory.of_training(model, (64, 64), batch=32, micro_batch=8)
    learned = sum(p.nbytes for p in model.parameters())
    assert whole.gradients < learned == parts.gradients
    assert parts.total - parts.images > whole.total - whole.images
    more = memory.of_training(model, (64, 64), batch=64, micro_batch=8)
    assert more.total - parts.total == 32 * 3 * 64 * 64  # the images alone


@pytest.mark.parametrize(
    "name, ratio",
    [("sgd", 1), ("adamw", 2), ("radam", 2), ("lion", 1), ("lookahead_radam", 3), ("lamb", 2)],
)
def test_an_optimizers_states_are_counted_by_its_own_steps(name, ratio):
    assert memory.optimizer_ratio(name) == ratio


@pytest.mark.parametrize(
    "name, copies", [("sgd", 1), ("adamw", 2), ("lookahead_radam", 5), ("lamb", 3)]
)
def test_what_an_optimizer_makes_while_it_changes_a_weight_is_what_the_allocator_hands_out(
    name, copies
):
    assert memory.optimizer_copies(name) == pytest.approx(copies, abs=0.01)
    with memory.stepping(name) as (optimizer, weights):
        held = memory.held_by_the_allocator(optimizer.step)
    assert held == pytest.approx(copies * weights.nbytes, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kernel, side", [(3, 2), (3, 8), (5, 4), (5, 8), (7, 4), (7, 7), (7, 16)])
def test_the_filters_that_a_depthwise_convolution_pads_are_told(kernel, side, dtype):
    network = nn.Conv2d(96, 96, kernel, padding=kernel // 2, groups=96)
    network.to(memory_format=torch.channels_last, dtype=dtype)
    images = torch.zeros(2, 96, side, side, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
    recorder = memory.Recorder(beside=memory.padded_filters)

    def step():
        network(images).square().sum().backward()

    step()
    network.zero_grad()
    images.grad = None
    held = memory.held_by_the_allocator(step)
    network.zero_grad()
    images.grad = None
    with recorder:
        recorder.begin([*network.parameters(), images], ())
        step()
    # kernels of small filters have sums of their own
    assert held == pytest.approx(recorder.fullest, rel=0.05, abs=100_000)


@pytest.mark.parametrize("checkpointed", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_allocator_hands_out_as_much_as_is_told(name, checkpointed):
    size, number = NETWORKS[name], 24
    model = timm.create_model(name, img_size=size, num_classes=CLASSES, drop_path_rate=0.1)
    prepare = checkpoint_gradients if checkpointed else lambda network: None
    needed = told(model, size, number, channels_last=True, prepare=prepare, optimizer="adamw")
    prepare(model)
    model.train().to(memory_format=torch.channels_last)
    images = torch.rand(number, 3, size, size).contiguous(memory_format=torch.channels_last)

    def step():
        loss = -model(images).float().log_softmax(-1).mean()
        loss.backward()

    step()  # what is made once and for all
    model.zero_grad()
    most = memory.held_by_the_allocator(step)
    of_the_step = needed.gradients + needed.kept + needed.temporary
    if needed.moment == "backward pass":
        assert 0.99 < most / of_the_step < 1.06
    else:  # less than the optimizer's step takes later
        assert most < 1.06 * of_the_step


def test_the_allocator_is_asked_for_what_is_alive_at_once(capfd):
    def call():
        first = torch.ones(1000, 1000)
        del first
        return torch.ones(500, 1000), torch.ones(750, 1000)

    assert memory.held_by_the_allocator(call) == pytest.approx(4 * 1_250_000, rel=0.01)
    assert capfd.readouterr().err == ""  # a page shows what is written there
    table = memory.beside_the_allocator({"vit_cifar": 32}, numbers=(2, 8))
    assert table["images at a time"].tolist() == [2, 8]
    assert table["held / told"].between(0.99, 1.06).all()


GROWTH = """
import sys
import timm, torch
import astroformer

name, size, checkpointed = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"

def now(entry):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))

torch.rand(64, 64).mm(torch.rand(64, 64)).sum()
before = now("VmRSS")
for number in (4, 8, 16):
    model = timm.create_model(name, img_size=size, num_classes=10).train()
    model = model.to(memory_format=torch.channels_last)
    if checkpointed:
        model.set_grad_checkpointing()
    optimizer = torch.optim.AdamW(model.parameters())
    images = torch.rand(number, 3, size, size).contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        torch.nn.functional.cross_entropy(model(images), torch.arange(number) % 10).backward()
        optimizer.step()
        optimizer.zero_grad()
    print(now("VmHWM") - before)
    del model, optimizer, images
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells what a process takes")
@pytest.mark.parametrize("checkpointed", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name, size",
    [
        ("vit_cifar", 32),
        pytest.param("astroformer_pico", 64, marks=pytest.mark.slow),
        pytest.param("spectformer_h_s", 64, marks=pytest.mark.slow),
    ],
)
def test_a_process_grows_by_no_less_and_not_much_more(name, size, checkpointed):
    """The bound that decides what is refused, and the one from which a run is safe."""
    asked = [sys.executable, "-W", "ignore", "-c", GROWTH, name, str(size), str(checkpointed)]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    prepare = checkpoint_gradients if checkpointed else lambda network: None
    for number, grown in zip((4, 8, 16), map(int, said.split()), strict=True):
        model = on_meta(name, size, CLASSES)
        needed = told(model, size, number, channels_last=True, prepare=prepare)
        assert needed.least <= grown <= needed.most, f"{number}: {grown / 1e9:.3f} GB, {needed}"


@pytest.mark.slow
def test_checkpointing_keeps_less_and_never_takes_more():
    for name, size in NETWORKS.items():
        model = on_meta(name, size, CLASSES)
        plain = told(model, size, 64)
        again = told(model, size, 64, prepare=checkpoint_gradients)
        assert again.total < plain.total and again.kept < plain.kept, name


def test_half_precision_halves_what_convolutions_keep():
    model = on_meta("resnet18_narrow", 64, CLASSES)
    whole, half = (told(model, 64, 64, precision=name) for name in ("float32", "bfloat16"))
    # beside it autocast keeps the weights that it copies
    assert half.kept == pytest.approx(whole.kept / 2 + whole.weights / 2, rel=0.02)
    assert half.optimizer == whole.optimizer and half.weights == whole.weights


def test_a_gpu_keeps_no_attention_between_positions_and_norms_in_full():
    here, there = (told(Attending(), 16, 8, device=device) for device in ("cpu", "cuda"))
    pairs = 4 * 8 * 256 * 256  # bytes of the weights between the positions of 8 images
    assert there.kept < pairs < here.kept
    # with a bias that is learned, the gradient of the bias is there as well
    assert there.gradients + there.temporary < pairs
    norms = nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32), nn.Flatten(), nn.Linear(3072, 2))
    here, there = (
        told(norms, 32, 64, precision="bfloat16", device=device) for device in ("cpu", "cuda")
    )
    assert there.kept > here.kept


@pytest.mark.skipif(torch.version.cuda is None, reason="this PyTorch knows no CUDA autocast")
@pytest.mark.parametrize("name", ["astroformer_pico", "convnext_narrow", "resnet18_narrow"])
def test_what_a_gpu_is_told_to_keep_is_what_pytorch_keeps_on_fake_tensors_of_one(name):
    model, number, size = on_meta(name, NETWORKS[name], CLASSES), 64, NETWORKS[name]
    with torch.random.fork_rng(devices=[]), FakeTensorMode():
        copies = {}
        for own in (*model.parameters(), *model.buffers()):
            fake = torch.empty(own.shape, dtype=own.dtype, device="cuda")
            copies[id(own)] = nn.Parameter(fake) if isinstance(own, nn.Parameter) else fake
        network = copy.deepcopy(model, copies).train()
        images = torch.empty(number, 3, size, size, device="cuda")
        with memory.Recorder() as recorder:
            recorder.begin([*network.parameters(), *network.buffers(), images], ())
            torch.set_autocast_enabled("cuda", True)
            torch.set_autocast_dtype("cuda", torch.bfloat16)
            torch.autocast_increment_nesting()
            try:
                outputs = network(images)
            finally:
                torch.set_autocast_enabled("cuda", False)
                torch.autocast_decrement_nesting()
                torch.clear_autocast_cache()
            kept = recorder.alive
            assert outputs.device.type == "cuda"
    needed = told(model, size, number, precision="bfloat16", device="cuda")
    assert needed.kept == pytest.approx(kept, rel=0.03)


def test_telling_draws_no_random_number_and_leaves_the_network_as_it_is():
    model = timm.create_model("astroformer_pico", img_size=32, num_classes=CLASSES).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    told(model, 32, 8, prepare=checkpoint_gradients)
    memory.of_evaluation(model, (32, 32), batch=8)
    assert torch.equal(torch.rand(2), expected)
    assert not model.training and not model.stages[0].grad_checkpointing
    assert not model._forward_hooks and all(p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.ones(1).device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def test_evaluation_goes_with_the_number_of_images_and_keeps_nothing():
    model = on_meta("astroformer_pico", 64, CLASSES)
    few, many = (memory.of_evaluation(model, (64, 64), batch=n) for n in (50, 250))
    assert many == pytest.approx(5 * few, rel=0.01)
    assert few < told(model, 64, 50).kept


def test_rectangles_and_other_channels_are_told_too():
    model = on_meta("resnet18_narrow", 32, CLASSES, in_chans=5)
    needed = memory.of_training(model, (32, 64), batch=4, micro_batch=4, in_chans=5)
    assert needed.images == 4 * 5 * 32 * 64 * 5


def test_sizes_are_said_in_gigabytes_with_the_parts_that_can_be_seen():
    assert [memory.gigabytes(n) for n in (2e6, 2.2e8, 5.34e9, 9.97e9, 3.2085e11, 2.5e12)] == [
        "0.00",
        "0.22",
        "5.3",
        "10",
        "321",
        "2,500",
    ]
    needed = memory.Memory(
        moment="backward pass",
        weights=int(2e9),
        gradients=0,
        optimizer=int(4e9),
        average=0,
        images=int(1e7),
        kept=int(3e10),
        temporary=int(1e9),
    )
    assert (
        str(needed)
        == "37 GB in the backward pass (weights 2.0, optimizer 4.0, kept 30, temporary 1.0)"
    )
    assert needed.least < needed.total < needed.most
