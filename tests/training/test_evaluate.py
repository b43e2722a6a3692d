"""Metrics, held against their definitions and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score

from astroformer.training import metrics


def test_metrics_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 8, 500)
    logits = generator.normal(size=(500, 8)) + 2 * np.eye(8)[labels] * generator.random((500, 1))
    measured = metrics(torch.from_numpy(logits).float(), labels)
    predicted = logits.argmax(1)
    assert math.isclose(measured["top1"], 100 * (predicted == labels).mean())
    assert math.isclose(measured["top5"], 100 * top_k_accuracy_score(labels, logits, k=5))
    assert math.isclose(measured["balanced_accuracy"], 100 * balanced_accuracy_score(labels, predicted))
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
