"""SpectFormer's recipes: rates as the release's rule gives them, schedules with the ends that
its flags name; every network trains.
"""

import pytest
import torch

from astroformer import data
from astroformer.recipes import get_recipe
from astroformer.training import Run, checkpoint, evaluate_checkpoint, fit
from astroformer.training.schedule import learning_rate

STEPS = 10  # an epoch


@pytest.mark.parametrize(
    "name, per_gpu, base, epochs",
    [
        ("spectformer", 128, 5e-4, 300),
        ("spectformer_384", 64, 5e-6, 30),
        ("spectformer_transfer", 64, 1e-4, 1000),
        ("spectformer_h", 128, 5e-4, 310),
    ],
)
def test_rates_follow_the_rule_of_the_release_for_eight_gpus(name, per_gpu, base, epochs):
    recipe = get_recipe(name)
    assert recipe.batch_size == 8 * per_gpu and recipe.epochs == epochs
    assert recipe.learning_rate == pytest.approx(base * per_gpu * 8 / 512)
    assert learning_rate(recipe, 0, STEPS) == 1e-6  # warm-up begins
    # and ends
    assert learning_rate(recipe, 5 * STEPS, STEPS) == pytest.approx(recipe.learning_rate, rel=1e-2)
    last = learning_rate(recipe, epochs * STEPS - 1, STEPS)
    assert last == pytest.approx(recipe.final_learning_rate, rel=1e-2)


def test_fine_tuning_at_384_pixels_keeps_one_rate_after_its_warm_up():
    recipe = get_recipe("spectformer_384")
    assert {learning_rate(recipe, step, STEPS) for step in range(5 * STEPS, 30 * STEPS)} == {5e-6}


def test_token_labels_go_without_the_mixing_of_images():
    vanilla, hierarchical = get_recipe("spectformer"), get_recipe("spectformer_h")
    assert vanilla.mixup and vanilla.cutmix and vanilla.clip_grad
    assert (
        not (hierarchical.mixup or hierarchical.cutmix or hierarchical.clip_grad)
        and hierarchical.cutout
    )


SHALLOW = {
    name: dict(depth=2, spectral_blocks=1, patch_size=8)
    for name in ("spectformer_ti", "spectformer_xs", "spectformer_s", "spectformer_b")
}
SHALLOW |= {
    name: dict(depths=(1, 1, 1, 1), token_label=name.endswith("s"))
    for name in ("spectformer_h_s", "spectformer_h_b", "spectformer_h_l")
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name[-2:] in ("_b", "_l") else ())
        for name in SHALLOW
    ],
)
def test_every_width_trains_resumes_with_the_same_bits_and_is_evaluated(
    name, tiny_folder, tmp_path, monkeypatch
):
    """The released widths and heads, with few blocks; dropped paths and, in one network, token
    labels draw random numbers.
    """
    recipe = get_recipe(
        "spectformer_h" if "_h_" in name else "spectformer",
        epochs=1,
        warmup_epochs=0,
        batch_size=16,
        drop_path_rate=0.2,
        crop="none",
        randaugment="",
    )
    run = Run(
        model=name,
        dataset="folder",
        data_dir=str(tiny_folder),
        image_size=32,
        recipe=recipe,
        options=tuple(sorted(SHALLOW[name].items())),
    )
    ended = []
    for folder, stops in (("whole", [None]), ("parts", [1, 2, None])):
        monkeypatch.setenv("ASTROFORMER_RUNS", str(tmp_path / folder / "runs"))
        monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(tmp_path / folder / "ledger"))
        for stop in stops:
            fitted = fit(run, device=torch.device("cpu"), stop_after=stop, report=lambda line: None)
        ended.append((fitted, checkpoint.read(fitted.weights)))
    (whole, before), (parts, after) = ended
    assert (
        whole.record["resumed_from"] is None
        and parts.record["resumed_from"] == 2
        and after["history"] == before["history"]
    )
    assert all(
        torch.equal(value, before["weights"][key]) for key, value in after["weights"].items()
    )
    measured = evaluate_checkpoint(
        parts.weights,
        lambda told: data.load(
            "folder", "test", image_size=told["image_size"], data_dir=str(tiny_folder)
        ),
    )
    assert (
        measured["finished"]
        and measured["top1"] == parts.record["metrics"]["top1"]
        and measured["images_per_second"] > 0
    )
