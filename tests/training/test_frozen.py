"""A linear probe trains the classifier and nothing else, on features that stay what they were; its
recipe and that of fine-tuning.
"""

import copy

import pytest
import torch
from small_run import CPU

from astroformer.counting.memory import of_training
from astroformer.models import create
from astroformer.recipes import RECIPES, get_recipe, replace
from astroformer.training import Run, fit, load_trained
from astroformer.training.frozen import freeze

KINDS = (
    "astroformer_pico",
    "resnet18_narrow",
    "spectformer_ti",
    "timm/test_vit",
    "timm/test_resnet",
)
OF_A_RUN = dict(num_classes=3, img_size=32, drop_rate=0.5, drop_path_rate=0.5)


def made(name):
    torch.manual_seed(0)
    return create(name, **OF_A_RUN)


@pytest.mark.parametrize("name", KINDS)
def test_only_the_classifier_has_a_gradient_and_features_are_those_of_evaluation(name):
    model = freeze(made(name), "classifier")
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = model.eval()(x)
    for twin in (model, copy.deepcopy(model)):
        twin.train()
        logits = twin(x)
        assert torch.equal(logits, expected)  # nothing is dropped, no statistic of the batch
        logits.square().sum().backward()
        graded = {key for key, one in twin.named_parameters() if one.grad is not None}
        learned = {key for key, one in twin.named_parameters() if one.requires_grad}
        classifier = dict(twin.named_modules())
        assert graded == learned and len(learned) == 2
        assert isinstance(classifier[next(iter(learned)).rpartition(".")[0]], torch.nn.Linear)
        after = twin.state_dict()
        assert all(torch.equal(after[key], before[key]) for key in before)


def test_all_is_the_network_as_it_was():
    model = made("resnet18_narrow")
    assert freeze(model, "all") is model and model.train().training
    assert all(one.requires_grad for one in model.parameters())


def test_a_network_without_a_classifier_is_refused():
    with pytest.raises(ValueError, match="no classifier that could be trained alone"):
        freeze(create("resnet18_narrow", **OF_A_RUN | {"num_classes": 0}), "classifier")


@pytest.mark.parametrize("trained", ["classifier", "all"])
def test_a_run_changes_what_its_recipe_says_and_goes_on_where_it_was_stopped(
    trained, tiny_folder, own_runs
):
    def run():
        settings = dict(epochs=2, batch_size=8, warmup_epochs=0, ema_decay=0.5)
        return Run(
            model="resnet18_narrow",
            dataset="folder",
            data_dir=str(tiny_folder),
            image_size=32,
            recipe=get_recipe("linear_probe", trained=trained, **settings),
        ).resolved(CPU)

    how = dict(device=CPU, report=lambda line: None)
    torch.manual_seed(run().seed)
    drawn = create("resnet18_narrow", **run().model_options(3)).state_dict()
    stopped = fit(run(), stop_after=3, checkpoint_seconds=0, **how)
    assert stopped.record["status"] == "interrupted"
    fitted = fit(run(), **how)
    assert fitted.record["attempts"][-1]["from_step"] == 3
    own = load_trained(fitted.weights, average=False)[0].state_dict()
    changed = {name for name in own if not torch.equal(own[name], drawn[name])}
    if trained == "classifier":
        assert changed == {"fc.weight", "fc.bias"}
    else:
        assert {name for name in own if name.endswith((".weight", "running_mean"))} <= changed
    again = fit(run(), force=True, **how)
    whole = load_trained(again.weights, average=False)[0].state_dict()
    assert all(torch.equal(whole[name], own[name]) for name in own)  # stopped or not


def test_a_probe_needs_less_memory_and_the_prediction_says_so():
    of = {
        trained: of_training(
            create("resnet18_narrow", **OF_A_RUN),
            (32, 32),
            batch=8,
            micro_batch=8,
            prepare=lambda network, trained=trained: freeze(network, trained),
        )
        for trained in ("all", "classifier")
    }
    probe, whole = of["classifier"], of["all"]
    assert probe.weights == whole.weights
    assert probe.optimizer < whole.optimizer / 100 and probe.total < whole.total / 2


def test_the_recipes_differ_in_what_the_literature_says():
    finetune, probe = RECIPES["finetune"], RECIPES["linear_probe"]
    assert (finetune.trained, probe.trained) == ("all", "classifier")
    assert probe.weight_decay == probe.label_smoothing == probe.mixup == probe.drop_path_rate == 0
    assert finetune.learning_rate < RECIPES["smoke"].learning_rate / 10
    for recipe in (finetune, probe):
        assert recipe.values == "ours" and "He et al. 2022" in recipe.source
    # what acts within the network says nothing where that is left as in evaluation
    assert replace(probe, drop_path_rate=0.3, dropblock=0.1).canonical() == probe.canonical()
    assert "trained" not in finetune.canonical() and probe.canonical()["trained"] == "classifier"
