"""Parts of data sets: seeded, stratified, nested, and test images never among those trained on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroformer import data
from astroformer.data.images import About, Images, fingerprint, stratified

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
