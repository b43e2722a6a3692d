"""ViT-CIFAR's recipes: what the README and the code say, the schedule by hand and by PyTorch's own
parts, and a run that learns, resumes with the same bits, and does what Adam with an L2 term does.
"""

import math

import pytest
import torch

from astroformer.recipes import RECIPES, get_recipe
from astroformer.training import Run, checkpoint, fit
from astroformer.training.loop import Training
from astroformer.training.schedule import learning_rate

CPU = torch.device("cpu")
SMALL = (("dim", 48), ("depth", 2), ("heads", 4), ("mlp_hidden", 48))  # the network's own arguments


def rates(recipe, steps_per_epoch=3):
    """The learning rate of each epoch, which is the same at each of its steps."""
    found = [
        [
            learning_rate(recipe, step, steps_per_epoch)
            for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch)
        ]
        for epoch in range(recipe.epochs)
    ]
    assert all(len(set(of_epoch)) == 1 for of_epoch in found)
    return [of_epoch[0] for of_epoch in found]


def test_the_recipes_have_the_numbers_of_the_readmes_table():
    for recipe in (RECIPES["vit_cifar"], RECIPES["vit_cifar_smoothing"], RECIPES["vit_cifar_svhn"]):
        assert (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.weight_decay) == (
            200,
            128,
            "adam",
            5e-5,
        )
        assert (
            recipe.learning_rate,
            recipe.final_learning_rate,
            recipe.warmup_epochs,
            recipe.drop_rate,
        ) == (1e-3, 1e-5, 5, 0)
        assert recipe.decay_all and recipe.schedule == "epoch" and recipe.crop == "pad"
    assert (
        RECIPES["vit_cifar_smoothing"].label_smoothing,
        RECIPES["vit_cifar_smoothing"].smoothing_over,
    ) == (0.1, "others")


def test_the_numbers_were_made_without_smoothing_and_svhn_without_a_flip():
    assert RECIPES["vit_cifar"].label_smoothing == RECIPES["vit_cifar_svhn"].label_smoothing == 0
    assert (RECIPES["vit_cifar"].hflip, RECIPES["vit_cifar"].autoaugment) == (
        0.5,
        "cifar10-released",
    )
    assert (RECIPES["vit_cifar_svhn"].hflip, RECIPES["vit_cifar_svhn"].autoaugment) == (
        0,
        "svhn-released",
    )


def test_the_first_epoch_runs_at_zero_and_the_last_above_the_minimum():
    found = rates(RECIPES["vit_cifar"])
    assert found[:7] == pytest.approx([0, 2e-4, 4e-4, 6e-4, 8e-4, 1e-3, 1e-3], abs=1e-18)
    assert found[106] == pytest.approx(5.05e-4)  # a hundred epochs after epoch 6: half way down
    assert f"{found[-1]:.2e}" == "1.30e-05"  # and not 1e-5: 7 of 200 epochs are missing
    assert found[-1] == pytest.approx(1e-5 + 9.9e-4 * math.sin(math.pi * 7 / 400) ** 2)
    assert all(a > b for a, b in zip(found[6:], found[7:]))


def test_the_schedule_is_pytorchs_own_cosine_begun_when_warm_up_is_over():
    recipe, parameter = (
        get_recipe("vit_cifar", epochs=30, warmup_epochs=3.0),
        torch.nn.Parameter(torch.zeros(1)),
    )
    optimizer = torch.optim.Adam([parameter], lr=recipe.learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=30, eta_min=recipe.final_learning_rate
    )
    expected = [recipe.learning_rate * epoch / 3 for epoch in range(4)]
    while len(expected) < 30:
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    assert rates(recipe) == pytest.approx(expected, rel=1e-12, abs=1e-18)


def test_the_textbooks_schedule_changes_at_each_step_and_is_the_default():
    recipe = get_recipe("vit_cifar", schedule="step")
    assert get_recipe("smoke").schedule == "step"
    assert learning_rate(recipe, 0, 390) == 0 < learning_rate(recipe, 1, 390) == 1e-3 / (5 * 390)
    assert 1e-5 < learning_rate(recipe, 200 * 390 - 1, 390) < 1e-5 + 1e-9


@pytest.fixture
def run(tiny_folder, own_runs):
    def make(name="vit_cifar", options=SMALL, **changes):
        recipe = get_recipe(name, **dict(epochs=2, warmup_epochs=1, batch_size=8) | changes)
        return Run(
            model="vit_cifar",
            dataset="folder",
            data_dir=str(tiny_folder),
            image_size=32,
            options=options,
            recipe=recipe,
        ).resolved(CPU)

    return make


def quiet(line):
    pass


@pytest.mark.parametrize(
    "form", [(), (("scale", "head"), ("mlp_end", "linear"))], ids=["released", "textbook"]
)
def test_some_epochs_learn_three_easy_classes_in_either_form(run, form):
    """Without augmentation, which 48 images of 32 pixels would need hundreds of epochs for."""
    record = fit(
        run(epochs=20, options=SMALL + form, autoaugment="", crop="none"), device=CPU, report=quiet
    ).record
    history = record["history"]
    assert history[-1]["train_loss"] < history[0]["train_loss"] - 0.12
    assert record["metrics"]["top1"] > 45  # guessing gives 33
    assert [epoch["learning_rate"] for epoch in history[:2]] == [0, 1e-3]


def test_the_first_epoch_changes_no_weight(run):
    fitted = fit(run(), device=CPU, stop_after=6, report=quiet)  # 48 images, 8 a step
    fresh = Training(run(), CPU, quiet).model.state_dict()
    for name, value in checkpoint.read(fitted.weights)["weights"].items():
        assert torch.equal(value, fresh[name]), name


def test_a_run_stopped_at_several_points_ends_with_the_same_bits(run, tmp_path, monkeypatch):
    options = SMALL + (("proj_drop_rate", 0.1),)
    settings = dict(name="vit_cifar_smoothing", options=options, epochs=3)
    monkeypatch.setenv("ASTROFORMER_RUNS", str(tmp_path / "whole"))
    whole = checkpoint.read(fit(run(**settings), device=CPU, report=quiet).weights)
    for name in ("ASTROFORMER_RUNS", "ASTROFORMER_LOCAL_LEDGER"):
        monkeypatch.setenv(name, str(tmp_path / "parts" / name))
    for step in (2, 6, 13):  # within the epoch at rate 0, at its end, within a later one
        assert (
            fit(run(**settings), device=CPU, stop_after=step, report=quiet).record["status"]
            == "interrupted"
        )
    last = fit(run(**settings), device=CPU, report=quiet)
    parts = checkpoint.read(last.weights)
    assert last.record["resumed_from"] == 13 and parts["history"] == whole["history"]
    for name, value in whole["weights"].items():
        assert torch.equal(parts["weights"][name], value), name


def test_a_step_is_that_of_torchs_adam_with_an_l2_term_on_every_parameter(run):
    training = Training(run(weight_decay=0.3, autoaugment="", crop="none", hflip=0.0), CPU, quiet)
    assert type(training.optimizer) is torch.optim.Adam
    [group] = training.optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 0.3)
    # class token, positions, biases and gains too
    assert len(group["params"]) == len(list(training.model.parameters()))

    training.step = training.steps_per_epoch  # the second epoch, at the full rate
    before = {
        name: parameter.detach().clone() for name, parameter in training.model.named_parameters()
    }
    pixels = torch.stack([training.dataset[0, i][0] for i in range(8)])
    labels = torch.tensor([int(training.train_images.labels[i]) for i in range(8)])
    x, target = training.augment(pixels, labels, seed=0)
    torch.nn.functional.cross_entropy(training.model.train()(x), target).backward()
    gradient = {
        name: parameter.grad.clone() + 0.3 * before[name]
        for name, parameter in training.model.named_parameters()
    }
    training.optimizer.zero_grad()
    training.train_step(pixels, labels)
    # Adam's first step: the sign of gradient plus decay
    for name, parameter in training.model.named_parameters():
        expected = before[name] - 1e-3 * gradient[name] / (gradient[name].abs() + 1e-8)
        clear = gradient[name].abs() > 1e-6
        torch.testing.assert_close(parameter[clear], expected[clear], rtol=0, atol=1e-5, msg=name)
