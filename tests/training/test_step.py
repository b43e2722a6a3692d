"""One optimizer step, executed in several ways, is one step: the same weights up to rounding, and
one form of its state in checkpoints.
"""

import pytest
import timm
import torch

from astroformer.recipes import get_recipe
from astroformer.training import Execution, execution
from astroformer.training.step import (
    FUSED,
    Step,
    optimizer_of,
    set_learning_rate,
    settle,
    settled_for,
    state_of,
)

CPU = torch.device("cpu")
PLAIN, QUICK = Execution(fused=False, graphs=False), Execution(fused=True, graphs=False)


def recipe(**changes):
    return get_recipe("smoke", batch_size=4, weight_decay=0.1, **changes)


def stepping(how, **changes):
    torch.manual_seed(1)
    model = timm.create_model("vit_cifar", dim=32, depth=2, heads=2, mlp_hidden=32, num_classes=3)
    optimizer = optimizer_of(model.train(), recipe(**changes), how, CPU)
    return Step(model, optimizer, clip_grad=0.5)


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.eye(3)[torch.randint(3, (4,), generator=generator)]
    return torch.randn(4, 3, 32, 32, generator=generator), target


def train(step, seeds):
    losses = []
    for seed in seeds:
        set_learning_rate(step.optimizer, 1e-3 / (1 + seed))
        losses.append(float(step(*batch(seed))[0]))
    return losses


@pytest.mark.parametrize("optimizer", FUSED)
def test_the_fused_kernel_takes_the_same_steps(optimizer):
    plain = train(stepping(PLAIN, optimizer=optimizer), range(12))
    quick = train(stepping(QUICK, optimizer=optimizer), range(12))
    assert quick == pytest.approx(plain, abs=1e-5)
    assert plain[0] != pytest.approx(plain[-1], abs=1e-3)  # it learns


@pytest.mark.parametrize("first, then", [(PLAIN, QUICK), (QUICK, PLAIN)])
def test_a_checkpoint_goes_on_whatever_wrote_it(first, then):
    whole = train(stepping(PLAIN), range(8))
    begun, rest = stepping(first), stepping(then)
    train(begun, range(4))
    rest.model.load_state_dict(begun.model.state_dict())
    rest.optimizer.load_state_dict(state_of(begun.optimizer))
    settle(rest.optimizer, then, CPU)
    assert train(rest, range(4, 8)) == pytest.approx(whole[4:], abs=1e-5)
    assert all(bool(group["fused"]) == then.fused for group in rest.optimizer.param_groups)


def test_a_batch_in_parts_adds_up_to_the_batch():
    whole, parts = stepping(PLAIN), stepping(PLAIN)
    x, target = batch(0)
    loss, norm = whole(x, target)
    halves = [parts.add(x[own], target[own], part=0.5) for own in (slice(2), slice(2, 4))]
    assert float(sum(halves)) == pytest.approx(float(loss), rel=1e-5)
    assert float(parts.end()) == pytest.approx(float(norm), rel=1e-4)


def test_what_cannot_be_is_refused_where_it_was_asked_for_and_left_out_where_not():
    model = torch.nn.Linear(2, 2)
    asked = Execution(graphs=True)
    with pytest.raises(ValueError, match="leave out --graphs"):
        settled_for(asked.settled(CPU), asked, model, recipe(), CPU, parts=1)
    asked = Execution(fused=True)
    with pytest.raises(ValueError, match="has no fused kernel.*leave out --fused"):
        settled_for(asked.settled(CPU), asked, model, recipe(optimizer="lamb"), CPU, parts=1)
    settled = Execution().settled(CPU)
    quiet = settled_for(settled, Execution(), model, recipe(optimizer="lamb"), CPU, parts=1)
    assert settled.fused and not quiet.fused and not quiet.graphs


def test_a_long_training_is_compiled_on_a_gpu_and_a_small_step_is_a_graph_there(monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(execution, "can_compile", lambda: True)
    short, long = (Execution().settled(gpu, macs=1e11, steps=n) for n in (10, 1_000_000))
    large = Execution().settled(gpu, macs=1e13, steps=5_000)
    assert not short.compile and long.compile and large.compile
    assert short.graphs and long.graphs and not large.graphs
    assert not Execution().settled(CPU, macs=1e11, steps=1_000_000).compile
    monkeypatch.setattr(execution, "can_compile", lambda: False)
    assert not Execution().settled(gpu, macs=1e11, steps=1_000_000).compile
    assert Execution(compile=True).settled(gpu).compile  # forced, and then it says what is missing
