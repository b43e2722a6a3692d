"""Parts of data sets: seeded, stratified, nested, and test images never among those trained on."""

import shutil

import numpy as np
import pytest
from dataset_files import publish, write_cifar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astroformer import data
from astroformer.data.images import About, Images, fingerprint, held_out, stratified

LABELS = np.repeat(np.arange(5), [100, 50, 20, 3, 1])


def test_a_fraction_keeps_that_part_of_every_class_and_at_least_one_image():
    kept = np.bincount(LABELS[stratified(LABELS, 0.1, seed=0)])
    assert kept.tolist() == [10, 5, 2, 1, 1]


def test_the_same_seed_draws_the_same_part_and_another_seed_another():
    assert np.array_equal(stratified(LABELS, 0.3, seed=1), stratified(LABELS, 0.3, seed=1))
    assert not np.array_equal(stratified(LABELS, 0.3, seed=1), stratified(LABELS, 0.3, seed=2))


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=80),
    seed=st.integers(0, 2**31),
    fractions=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
)
def test_a_smaller_fraction_is_part_of_a_larger_one_and_no_class_is_lost(labels, seed, fractions):
    labels = np.array(labels)
    small, large = (set(stratified(labels, fraction, seed)) for fraction in sorted(fractions))
    assert small <= large and set(labels[list(small)]) == set(labels)


histograms = st.lists(st.integers(1, 30), min_size=1, max_size=8).filter(lambda own: max(own) > 1)


@given(
    counts=histograms,
    seed=st.integers(0, 2**31),
    parts=st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)),
    fraction=st.floats(0.001, 1),
)
def test_whatever_is_held_out_every_class_keeps_an_image_to_be_trained_on(
    counts, seed, parts, fraction
):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    small, large = (held_out(labels, part, seed) for part in sorted(parts))
    assert set(small) <= set(large)
    for chosen, part in zip((small, large), sorted(parts)):
        out = np.bincount(labels[chosen], minlength=len(counts))
        expected = [min(max(1, round(part * own)), own - 1) for own in counts]
        assert out.tolist() == expected
        left = np.setdiff1d(np.arange(len(labels)), chosen)
        trained = left[stratified(labels[left], fraction, seed)]
        assert np.bincount(labels[trained], minlength=len(counts)).min() >= 1
        assert not set(trained) & set(chosen)


@given(number=st.integers(1, 12), part=st.floats(0.001, 0.999))
def test_where_every_class_has_one_image_none_can_be_held_out(number, part):
    with pytest.raises(ValueError, match="holds out none, since each class has one image"):
        held_out(np.arange(number), part, seed=0)


def test_a_class_with_one_image_is_trained_on_and_not_validated(tiny_folder, tmp_path):
    root = shutil.copytree(tiny_folder, tmp_path / "rare")
    for path in sorted((root / "train" / "spiral").iterdir())[1:]:
        path.unlink()
    for validation in (0.01, 0.1, 0.5, 0.99):
        train, left_out = (
            data.load("folder", split, data_dir=root, validation=validation)
            for split in ("train", "validation")
        )
        assert train.counts().min() == train.counts()[2] == 1 and left_out.counts()[2] == 0
        assert len(train) + len(left_out) == 33 and left_out.counts()[:2].min() >= 1


def test_a_class_without_a_training_image_is_refused_with_its_name(tmp_path, monkeypatch):
    write_cifar(tmp_path, "cifar100", batch=99)
    publish(monkeypatch, "cifar100", tmp_path)
    with pytest.raises(ValueError, match="class 'kind99' of CIFAR-100 has no training image"):
        data.load("cifar100", "train", data_dir=tmp_path)
    assert len(data.load("cifar100", "test", data_dir=tmp_path)) == 99
    with pytest.raises(ValueError, match="class .* of synthetic galaxies has no training image"):
        data.load("galaxies", "train", train_images=5, image_size=16)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fraction=st.floats(0.05, 1),
    validation=st.just(0.0) | st.floats(0.01, 0.95),
    class_fraction=st.sampled_from([1.0, 0.67]),
    seed=st.integers(0, 9),
)
def test_the_number_of_training_images_is_known_without_reading_one(
    tiny_folder, fraction, validation, class_fraction, seed
):
    options = dict(
        data_dir=tiny_folder,
        fraction=fraction,
        validation=validation,
        class_fraction=class_fraction,
        seed=seed,
    )
    images = data.load("folder", "train", **options)
    assert data.train_size("folder", **options) == len(images)
    assert images.counts().min() >= 1


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(ValueError, match="outside"):
        stratified(LABELS, fraction, seed=0)


def test_validation_is_taken_from_train_and_the_two_share_nothing(tiny_folder):
    options = dict(data_dir=tiny_folder, validation=0.25)
    train, held_out = (data.load("folder", split, **options) for split in ("train", "validation"))
    whole = data.load("folder", "train", data_dir=tiny_folder)
    assert len(train) + len(held_out) == len(whole)
    assert held_out.counts().tolist() == [4, 4, 4] and held_out.split == "validation"
    of = lambda images: {image.tobytes() for image in images.pixels}  # noqa: E731
    assert not of(train) & of(held_out) and of(train) | of(held_out) == of(whole)


def test_the_training_galaxies_are_not_among_the_test_galaxies():
    train, test = (
        data.load("galaxies", split, train_images=100, image_size=32) for split in ("train", "test")
    )
    assert train.about.kind == "synthetic" and len(train) == 100
    assert not {image.tobytes() for image in train.pixels} & {
        image.tobytes() for image in test.pixels
    }


def test_statistics_cover_all_classes_of_a_sorted_folder():
    pixels = np.concatenate(
        [np.zeros((50, 8, 8, 3), np.uint8), np.full((50, 8, 8, 3), 255, np.uint8)]
    )
    images = Images(
        pixels, np.repeat([0, 1], 50), ("dark", "bright"), 8, "train", About("x", "x", "real")
    )
    mean, deviation = images.statistics(at_most=10)
    assert mean == [0.5] * 3 and deviation == [0.5] * 3


def test_a_reflection_swaps_only_the_classes_that_have_a_handedness():
    about = About("x", "x", "real", mirrored=(("left", "right"),))
    images = Images(
        np.zeros((3, 8, 8, 3), np.uint8),
        np.arange(3),
        ("left", "other", "right"),
        8,
        "train",
        about,
    )
    assert images.mirror_labels().tolist() == [2, 1, 0]


def test_a_fingerprint_tells_parts_that_join_to_the_same_bytes_apart():
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(name="galaxy", split="train"), "choose one of galaxies, folder"),
        (dict(name="galaxies", split="dev"), "choose train, validation or test"),
        (dict(name="galaxies", split="validation"), "validation=0.1"),
        (dict(name="folder", split="train"), "--data-dir"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(arguments, words):
    with pytest.raises(ValueError, match=words):
        data.load(**arguments)
