"""The distance is Mahalanobis's with the covariance of Ledoit and Wolf; its share is of held-out
images.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from astroformer.inference import unlike
from astroformer.inference.unlike import Reference


def features(number, seed=0, *, size=6, away=0.0):
    generator = np.random.default_rng(seed)
    scales = np.linspace(0.1, 3, size)
    made = generator.normal(size=(number, size)) * scales + 5 + away * scales
    return torch.from_numpy(made.astype(np.float32))


def made(number=200, views=1):
    reference = unlike.fitted("digest", features(number), "validation")
    held = torch.stack([features(50, seed) for seed in range(2, 2 + views)], 1)
    return reference.with_held(views, held)


@settings(max_examples=20)
@given(number=st.integers(3, 80), seed=st.integers(0, 2**32))
def test_the_distance_is_that_of_scikit_learns_covariance(number, seed):
    train = features(number, seed)
    reference = unlike.fitted("digest", train, "test")
    own = features(9, seed + 1)
    expected = np.sqrt(LedoitWolf().fit(train.double().numpy()).mahalanobis(own.double().numpy()))
    assert np.allclose(reference.distance(own[:, None]), expected)


def test_it_has_the_same_bits_alone_and_in_any_order_of_images_and_views():
    reference = made(views=4)
    every = torch.stack([features(70, seed) for seed in range(4)], 1)
    found = reference.distance(every)
    assert found.shape == (70,) and reference.distance(every[:0]).shape == (0,)
    alone = [reference.distance(every[i : i + 1])[0] for i in (0, 31, 32, 69)]
    assert alone == found[[0, 31, 32, 69]].tolist()
    order = torch.randperm(70)
    assert np.array_equal(reference.distance(every[order]), found[order.numpy()])
    assert np.array_equal(reference.distance(every[:, [2, 0, 3, 1]]), found)


@given(at=st.floats(0, 100), step=st.floats(0, 10))
def test_a_share_is_the_part_of_held_out_images_that_are_less_unlike(at, step):
    reference = REFERENCE
    held = reference.held[1]
    lower, upper = reference.share(np.array([at, at + step]), 1)
    assert lower == np.mean(held < at) and 0 <= lower <= upper <= 1
    assert reference.share(held[-1:] + 1, 1) == 1 and reference.share(held[:1], 1) == 0


REFERENCE = made()


def test_what_is_far_is_told_from_what_is_like_the_training_images():
    like, far = (REFERENCE.distance(features(300, 9, away=away)[:, None]) for away in (0.0, 4.0))
    assert roc_auc_score([0] * 300 + [1] * 300, [*like, *far]) > 0.99
    assert np.mean(REFERENCE.share(like, 1) > 0.9) < 0.25
    assert np.mean(REFERENCE.share(far, 1) > 0.9) > 0.9


def test_features_that_never_vary_say_nothing():
    train = features(50)
    train[:, 2] = 1.0
    reference = unlike.fitted("digest", train, "test")
    assert np.isfinite(reference.distance(features(5, 1)[:, None])).all()
    same = unlike.fitted("digest", torch.ones(4, 3), "test")
    assert (same.distance(torch.ones(2, 1, 3)) == 0).all()
    with pytest.raises(ValueError, match="at least two"):
        unlike.fitted("digest", torch.ones(1, 3), "test")


def test_what_is_kept_is_of_the_same_weights_and_has_the_same_bits(tmp_path):
    assert unlike.kept(tmp_path, "digest") is None
    reference = made(views=4)
    unlike.keep(reference, tmp_path)
    found = unlike.kept(tmp_path, "digest")
    assert isinstance(found, Reference) and unlike.kept(tmp_path, "other weights") is None
    own = torch.stack([features(9, seed) for seed in range(4)], 1)
    assert np.array_equal(found.distance(own), reference.distance(own))
    assert {*found.held} == {4} and found.trained == 200 and found.split == "validation"
    assert [one.name for one in tmp_path.iterdir()] == [unlike.FILE]


@pytest.mark.parametrize("cut", [0, 10, 500, -30])
def test_a_damaged_file_is_refused_with_its_name(tmp_path, cut):
    path = unlike.keep(made(), tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="unlike.npz cannot be read .*remove it"):
        unlike.kept(tmp_path, "digest")
