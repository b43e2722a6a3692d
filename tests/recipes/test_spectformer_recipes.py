"""SpectFormer's recipes: rates as the release's rule gives them, and schedules with the ends that its flags name."""

import pytest

from astroformer.recipes import get_recipe
from astroformer.training.fit import learning_rate

STEPS = 10  # an epoch


@pytest.mark.parametrize("name, per_gpu, base, epochs", [
    ("spectformer", 128, 5e-4, 300), ("spectformer_384", 64, 5e-6, 30), ("spectformer_transfer", 64, 1e-4, 1000),
    ("spectformer_h", 128, 5e-4, 310)])
def test_rates_follow_the_rule_of_the_release_for_eight_gpus(name, per_gpu, base, epochs):
    recipe = get_recipe(name)
    assert recipe.batch_size == 8 * per_gpu and recipe.epochs == epochs
    assert recipe.learning_rate == pytest.approx(base * per_gpu * 8 / 512)
    assert learning_rate(recipe, 0, STEPS) == 1e-6                                    # warm-up begins
    assert learning_rate(recipe, 5 * STEPS, STEPS) == pytest.approx(recipe.learning_rate, rel=1e-2)   # and ends
    last = learning_rate(recipe, epochs * STEPS - 1, STEPS)
    assert last == pytest.approx(recipe.final_learning_rate, rel=1e-2)


def test_fine_tuning_at_384_pixels_keeps_one_rate_after_its_warm_up():
    recipe = get_recipe("spectformer_384")
    assert {learning_rate(recipe, step, STEPS) for step in range(5 * STEPS, 30 * STEPS)} == {5e-6}


def test_token_labels_go_without_the_mixing_of_images():
    vanilla, hierarchical = get_recipe("spectformer"), get_recipe("spectformer_h")
    assert vanilla.mixup and vanilla.cutmix and vanilla.clip_grad
    assert not (hierarchical.mixup or hierarchical.cutmix or hierarchical.clip_grad) and hierarchical.cutout
