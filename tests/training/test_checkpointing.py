"""Gradient checkpointing changes the memory of a run and nothing that comes out of it: weights,
running statistics and every random stream, for each network that can, whole or resumed.

On a CPU all of it is the same to the bit: the second pass is the first one's arithmetic on the
same numbers.
"""

import copy

import pytest
import timm
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from astroformer import cli
from astroformer.models import NAMES
from astroformer.models.options import default_options
from astroformer.recipes import get_recipe
from astroformer.training import Execution, Run, checkpoint, fit
from astroformer.training.dropblock import add_dropblock
from astroformer.training.execution import checkpoint_gradients

CPU = torch.device("cpu")
CANNOT = "logistic_8x8"
CAN = [name for name in NAMES if name != CANNOT]
# Sizes that keep a network's kinds of blocks and leave a test seconds.
SMALL = {
    "stem_width": 8,
    "dims": (8, 16, 32, 64),
    "depths": (1, 2, 1, 2),
    "num_heads": 2,
    "depth": 3,
    "dim": 24,
    "heads": 2,
    "spectral_blocks": 1,
    "embed_dim": 16,
    "mlp_hidden": 24,
}


def small(name):
    """The network with few and narrow blocks; a baseline, which is its sizes, as it is."""
    options = default_options(name)
    own = {option: value for option, value in SMALL.items() if option in options}
    if name.startswith("spectformer_h"):
        own["num_heads"] = (2, 2, 2, 2)
    torch.manual_seed(0)
    return timm.create_model(
        name, num_classes=3, img_size=side(name), drop_rate=0.2, drop_path_rate=0.3, **own
    )


def side(name):
    """Pixels of its images; of 32 the last stage of a hierarchical SpectFormer is one position,
    which DropBlock would erase whole.
    """
    return 64 if name.startswith("spectformer_h") else 32


def steps(model, *, micro_batches=2, dropblock="", number=3, pixels=32):
    """Trains a little, with everything that draws random numbers; the weights and statistics."""
    model = model.train()
    try:
        at = add_dropblock(model, 0.2, dropblock) if dropblock else add_dropblock(model, 0.0)
    except ValueError:  # a network without stages
        at = add_dropblock(model, 0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(8, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))
    for step in range(number):
        torch.manual_seed(step)
        at.at((step + 1) / number)
        for part in images.chunk(micro_batches):
            nn.functional.cross_entropy(model(part), torch.arange(len(part)) % 3).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.clone() for name, value in model.state_dict().items()}, torch.rand(3)


def assert_same(found, expected):
    (weights, drawn), (expected_weights, expected_drawn) = found, expected
    for name, value in expected_weights.items():
        assert value.isfinite().all() and torch.equal(weights[name], value), name
    assert torch.equal(drawn, expected_drawn)  # the next number of the random stream


@pytest.mark.parametrize(
    "dropblock", ["paper", *(pytest.param(one, marks=pytest.mark.slow) for one in ("", "stages"))]
)
@pytest.mark.parametrize("name", CAN)
def test_a_checkpointed_network_trains_to_the_same_bits_and_statistics(name, dropblock):
    how = dict(dropblock=dropblock, pixels=side(name))
    expected = steps(small(name), **how)
    checkpointed = Execution(channels_last=False, grad_checkpointing=True).prepared(small(name))
    assert_same(steps(checkpointed, **how), expected)


@pytest.mark.parametrize("name", CAN)
def test_a_checkpointed_network_keeps_less_for_the_backward_pass(name):
    def kept(model):
        seen = {}
        with saved_tensors_hooks(
            lambda tensor: seen.setdefault(tensor.untyped_storage()._cdata, tensor), lambda _: _
        ):
            model.train()(torch.zeros(4, 3, side(name), side(name)))
        return sum(tensor.untyped_storage().nbytes() for tensor in seen.values())

    model = small(name)
    plain = kept(model)
    checkpoint_gradients(model)
    assert kept(model) < plain


def test_a_network_without_blocks_is_refused_by_its_name_in_one_line(tiny_folder, own_runs, capsys):
    asked = ["train", "--model", CANNOT, "--dataset", "folder", "--data-dir", str(tiny_folder)]
    asked += ["--image-size", "32", "--device", "cpu", "--grad-checkpointing"]
    asked += ["--set", "batch_size=8"]
    assert cli.main(asked) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and f"{CANNOT} has no blocks" in said
    assert "leave out --grad-checkpointing" in said


def test_a_network_of_timm_that_only_has_the_method_is_refused_too():
    class Refusing(nn.Linear):
        def set_grad_checkpointing(self, enable=True):
            assert not enable, "gradient checkpointing not supported"

    with pytest.raises(ValueError, match="Refusing has no blocks"):
        checkpoint_gradients(Refusing(2, 2))


class Layers(nn.Module):
    """Layers that keep statistics in every way PyTorch has, in one block."""

    def __init__(self):
        super().__init__()
        self.pretrained_cfg = {}
        self.blocks = nn.Sequential(
            nn.Conv2d(3, 4, 1),
            nn.BatchNorm2d(4, momentum=None),  # the mean over all batches
            nn.BatchNorm2d(4, track_running_stats=False),
            nn.InstanceNorm2d(4, track_running_stats=True),
            timm.layers.BatchNormAct2d(4, momentum=0.3),
            nn.Flatten(),
            nn.BatchNorm1d(4 * 32 * 32),
        )
        self.frozen = nn.BatchNorm1d(4 * 32 * 32).eval()
        self.head, self.grad_checkpointing = nn.Linear(4 * 32 * 32, 3), False

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def set_grad_checkpointing(self, enable=True):
        self.grad_checkpointing = enable

    def forward(self, x):
        if self.grad_checkpointing:
            blocks = (lambda y: self.frozen(self.blocks(y)),)
            return self.head(timm.models.checkpoint_seq(blocks, x))
        return self.head(self.frozen(self.blocks(x)))


@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_every_kind_of_running_statistic_is_taken_once_a_pass(micro_batches):
    torch.manual_seed(0)
    model = Layers()
    other = copy.deepcopy(model)
    expected = steps(model, micro_batches=micro_batches)
    checkpoint_gradients(other)
    assert_same(steps(other, micro_batches=micro_batches), expected)
    counted = [value for name, value in expected[0].items() if name.endswith("tracked")]
    assert {int(number) for number in counted} == {0, 3 * micro_batches}


def test_statistics_stay_those_of_one_pass_when_a_pass_is_broken_off():
    torch.manual_seed(0)
    model = Layers()
    checkpoint_gradients(model)
    tensors = {name: id(buffer) for name, buffer in model.named_buffers()}
    loss = model.train()(torch.randn(4, 3, 32, 32)).sum()
    failing = model.blocks[-1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss.backward()
    assert {name: id(buffer) for name, buffer in model.named_buffers()} == tensors
    with pytest.raises(ZeroDivisionError):
        model(torch.randn(4, 3, 32, 32))
    failing.remove()
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    assert int(model.blocks[-1].num_batches_tracked) == 2


def test_the_average_of_a_checkpointed_network_is_evaluated_as_any_other():
    model = small("astroformer_pico")
    average = ModelEmaV3(model, decay=0.5)
    checkpoint_gradients(model)
    hooked = ModelEmaV3(model, decay=0.5)
    images = torch.randn(4, 3, 32, 32)
    for _ in range(2):
        model.train()(images).sum().backward()
        average.update(model)
        hooked.update(model)
    with torch.inference_mode():
        assert torch.equal(hooked.module.eval()(images), average.module.eval()(images))


def test_a_compiled_network_takes_its_statistics_once_too():
    def statistics(checkpointed):
        model = small("astroformer_pico")
        if checkpointed:
            checkpoint_gradients(model)
        torch._dynamo.reset()
        compiled = torch.compile(model.train(), backend="aot_eager")
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(0)
        for _ in range(2):
            nn.functional.cross_entropy(compiled(images), torch.arange(4) % 3).backward()
        return {name: value for name, value in model.named_buffers() if "running" in name}

    expected, found = statistics(False), statistics(True)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


# Everything that draws random numbers or keeps a state beside the weights.
EVERYTHING = dict(
    epochs=2,
    batch_size=8,
    micro_batch_size=4,
    mixup=0.8,
    cutout=0.5,
    dropblock=0.1,
    dropblock_form="paper",
    drop_rate=0.1,
    drop_path_rate=0.2,
    ema_decay=0.9,
    crop="random-resized",
    hflip=0.5,
)


def trained(folder, *, checkpointing, stops=(), **changes):
    recipe = get_recipe("smoke", **(EVERYTHING | changes))
    run = Run(
        model="astroformer_pico",
        dataset="folder",
        data_dir=str(folder),
        image_size=32,
        recipe=recipe,
    )
    for turn, stop in enumerate((*stops, None)):
        # a resumed run may be executed otherwise than it began
        on = checkpointing if isinstance(checkpointing, bool) else checkpointing[turn]
        fitted = fit(
            run,
            device=CPU,
            execution=Execution(grad_checkpointing=on),
            stop_after=stop,
            force=stop is None and not stops,
            report=lambda line: None,
        )
    return fitted.record, checkpoint.read(fitted.weights)


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_a_run_ends_with_the_same_bits_and_name_whole_or_resumed(
    tiny_folder, own_runs, monkeypatch, tmp_path, precision
):
    record, expected = trained(tiny_folder, checkpointing=False, precision=precision)
    for turn, how in enumerate(
        (
            dict(checkpointing=True),
            dict(checkpointing=True, stops=(3, 7)),
            dict(checkpointing=(False, True, False), stops=(3, 7)),
        )
    ):
        monkeypatch.setenv("ASTROFORMER_RUNS", str(tmp_path / f"runs{turn}"))
        monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(tmp_path / f"ledger{turn}"))
        again, found = trained(tiny_folder, precision=precision, **how)
        assert again["run"] == record["run"] and again["metrics"] == record["metrics"]
        assert "grad_checkpointing" in again["execution"]
        for part in ("weights", "average"):
            for name, value in expected[part].items():
                assert torch.equal(found[part][name], value), f"{how}: {part} {name}"
