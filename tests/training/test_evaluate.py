"""Metrics, held against their definitions and against scikit-learn; evaluation of checkpoints
and of released weights.
"""

import math

import numpy as np
import pytest
import timm
import torch
from imagenet_tree import write_tree
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score
from timm.data import IMAGENET_DEFAULT_MEAN

from astroformer import data
from astroformer.training import evaluate_weights, metrics, predict
from astroformer.training.evaluate import evaluate


def test_metrics_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 8, 500)
    logits = generator.normal(size=(500, 8)) + 2 * np.eye(8)[labels] * generator.random((500, 1))
    measured = metrics(torch.from_numpy(logits).float(), labels)
    predicted = logits.argmax(1)
    assert math.isclose(measured["top1"], 100 * (predicted == labels).mean())
    assert math.isclose(measured["top5"], 100 * top_k_accuracy_score(labels, logits, k=5))
    assert math.isclose(
        measured["balanced_accuracy"], 100 * balanced_accuracy_score(labels, predicted)
    )
    probability = torch.from_numpy(logits).softmax(1).numpy()
    assert math.isclose(measured["nll"], log_loss(labels, probability), rel_tol=1e-5)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    confident = torch.tensor([[0.8, 0.2]]).log().repeat(10, 1)  # says 80 %
    right_in_eight = np.array([0] * 8 + [1] * 2)
    right_in_five = np.array([0] * 5 + [1] * 5)
    assert metrics(confident, right_in_eight)["ece"] == pytest.approx(0, abs=1e-5)
    assert metrics(confident, right_in_five)["ece"] == pytest.approx(30, abs=1e-4)


def test_fewer_than_five_classes_make_top5_certain():
    assert metrics(torch.randn(6, 3), np.array([0, 1, 2, 0, 1, 2]))["top5"] == 100


class Reader(torch.nn.Module):
    """Logits are the mean of each channel: right for images whose class is their colour."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * x.mean((2, 3))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet") / "ILSVRC2012"
    write_tree(root)
    return root


def test_an_evaluation_is_the_metrics_of_what_is_predicted_with_its_speed(tree):
    images = data.load("imagenet1k", "test", data_dir=tree, image_size=32)
    constants = dict(mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3))
    measured = evaluate(Reader(), images, device=torch.device("cpu"), **constants)
    expected = metrics(predict(Reader(), images, **constants), images.labels)
    assert {name: measured[name] for name in expected} == expected and measured[
        "images_per_second"
    ] > 0
    assert 50 < measured["top1"] < 100 and measured["images"] == 12  # one image is grey
    assert measured["dataset"].startswith("part of ImageNet-1k") and measured["split"] == "test"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model("spectformer_ti", num_classes=3, img_size=32).eval()


@pytest.fixture
def loaded(tree):
    return lambda size: data.load("imagenet1k", "test", data_dir=tree, image_size=32)


@pytest.mark.parametrize(
    "wrap",
    [lambda state: {"model": state, "epoch": 300}, lambda state: state],
    ids=["under model", "bare"],
)
def test_released_weights_are_evaluated_on_imagenets_tree_with_the_networks_own_constants(
    network, loaded, tmp_path, wrap
):
    torch.save(wrap(network.state_dict()), tmp_path / "released.pth")
    measured = evaluate_weights(
        tmp_path / "released.pth", "spectformer_ti", loaded, device=torch.device("cpu")
    )
    images, config = loaded(32).cut(crop_pct=0.9), network.pretrained_cfg
    assert (loaded(32).pixels.crop_pct, config["crop_pct"]) == (0.875, 0.9)
    expected = metrics(
        predict(network, images, mean=config["mean"], std=config["std"]), images.labels
    )
    assert {name: measured[name] for name in expected} == pytest.approx(expected)
    assert measured["weights"] == "released.pth" and config["mean"] == IMAGENET_DEFAULT_MEAN
    assert measured["crop_pct"] == 0.9
    asked = evaluate_weights(
        tmp_path / "released.pth",
        "spectformer_ti",
        loaded,
        device=torch.device("cpu"),
        crop_pct=0.5,
    )
    assert asked["crop_pct"] == 0.5 and asked["nll"] != measured["nll"]


def test_weights_that_do_not_fit_are_evaluated_only_when_that_is_allowed(network, loaded, tmp_path):
    state = network.state_dict()
    torch.save({"model": {**state, "surplus.weight": torch.zeros(2)}}, tmp_path / "released.pth")
    with pytest.raises(ValueError, match="1 surplus .*surplus.weight.*--allow-partial"):
        evaluate_weights(
            tmp_path / "released.pth", "spectformer_ti", loaded, device=torch.device("cpu")
        )
    said = []
    evaluate_weights(
        tmp_path / "released.pth",
        "spectformer_ti",
        loaded,
        device=torch.device("cpu"),
        allow_partial=True,
        report=said.append,
    )
    assert len(said) == 1 and "surplus.weight" in said[0]


def test_a_file_that_would_execute_something_is_refused(loaded, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="evil.pth"):
        evaluate_weights(tmp_path / "evil.pth", "spectformer_ti", loaded)
    assert not (tmp_path / "executed").exists()
