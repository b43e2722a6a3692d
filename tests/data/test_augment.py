"""Augmentation: a function of seed, epoch and image alone; what it may and may not do to a
label.
"""

import itertools
import random
from dataclasses import replace as with_fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from astroformer.data.augment import (
    CLASSES,
    DROPOUT,
    IMAGE,
    MIXING,
    ORDER,
    SHOWN,
    Augmented,
    BatchAugmentation,
    ReleasedAutoAugment,
    derive,
    keys_of_epoch,
    order_of_epoch,
    smoothed,
)
from astroformer.data.folder import load_folder
from astroformer.data.images import About, Images
from astroformer.data.loader import Loader
from astroformer.recipes import get_recipe

EVERYTHING = dict(
    crop="random-resized",
    hflip=0.5,
    vflip=0.5,
    rotate90=True,
    randaugment="rand-m9-mstd0.5-inc1",
    color_jitter=0.4,
)


def batches(images, recipe, *, workers=0, **options):
    dataset = Augmented(images, recipe, seed=3)
    loader = Loader(dataset, workers=workers)
    made = list(loader.batches(keys_of_epoch(dataset, 8, **options)))
    loader.close()
    return made


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other)
    )


@pytest.fixture(scope="module")
def images(tiny_folder):
    return load_folder(tiny_folder, "train")


def test_the_number_of_workers_does_not_change_a_batch(images):
    recipe = get_recipe("smoke", **EVERYTHING)
    assert same(batches(images, recipe, epoch=1), batches(images, recipe, epoch=1, workers=2))


def test_an_epoch_entered_in_its_middle_goes_on_with_the_same_batches(images):
    recipe = get_recipe("smoke", **EVERYTHING)
    assert same(batches(images, recipe, epoch=1)[3:], batches(images, recipe, epoch=1, skip=3))


def test_another_epoch_has_another_order_and_other_crops(images):
    recipe = get_recipe("smoke", **EVERYTHING)
    dataset = Augmented(images, recipe, seed=3)
    assert orders(images.labels, epoch=0) != orders(images.labels, epoch=1)
    assert not torch.equal(dataset[0, 5][0], dataset[1, 5][0])


def orders(labels, *, sampling="shuffled", batch_size=8, seed=3, epoch=0):
    return order_of_epoch(
        np.asarray(labels), batch_size, sampling=sampling, seed=seed, epoch=epoch
    ).tolist()


def test_a_shuffled_epoch_has_the_order_of_its_seed_and_its_whole_batches(images):
    expected = torch.randperm(
        48, generator=torch.Generator().manual_seed(derive(ORDER, 3, 1))
    ).tolist()
    assert orders(images.labels, epoch=1) == expected
    dataset = Augmented(images, get_recipe("smoke"), seed=3)
    keys = keys_of_epoch(dataset, 11, epoch=1, skip=1)
    assert [len(batch) for batch in keys] == [11, 11, 11]  # 4 of 48 images are left out
    assert sum(keys, []) == [(1, index) for index in expected[11:44]]


UNEVEN = [0] * 37 + [1] * 5 + [2] * 12 + [3]


@pytest.mark.parametrize("batch_size", [1, 4, 10, 11, 55, 60])
def test_stratified_batches_have_each_classs_part_rounded_up_or_down_and_no_image_twice(batch_size):
    labels = np.array(UNEVEN)
    for epoch in range(20):
        order = orders(labels, sampling="stratified", batch_size=batch_size, epoch=epoch)
        assert sorted(order) == list(range(55))
        for start in range(0, 55 - batch_size + 1, batch_size):
            counts = np.bincount(labels[order[start : start + batch_size]], minlength=4)
            assert (np.abs(counts - np.bincount(labels) * batch_size / 55) < 1).all()


def test_balanced_epochs_show_every_class_equally_often_and_a_small_one_from_the_beginning_again():
    labels = np.array(UNEVEN)
    for epoch in range(20):
        order = np.array(orders(labels, sampling="balanced", epoch=epoch))
        assert len(order) == 55 and set(np.bincount(labels[order])) == {13, 14}
        times = np.bincount(order, minlength=55)
        assert all(
            times[labels == label].max() - times[labels == label].min() <= 1 for label in range(4)
        )
        for start in range(0, 48, 8):
            # 8 x 13 / 55 and 8 x 14 / 55
            assert set(np.bincount(labels[order[start : start + 8]], minlength=4)) <= {1, 2, 3}
    shown = [set(orders(labels, sampling="balanced", epoch=epoch)) for epoch in range(20)]
    assert set.union(*shown) == set(range(55)) and shown[0] != shown[1]


@pytest.mark.parametrize("sampling", ["stratified", "balanced"])
def test_an_order_is_a_function_of_seed_and_epoch(sampling):
    assert orders(UNEVEN, sampling=sampling) == orders(UNEVEN, sampling=sampling)
    assert orders(UNEVEN, sampling=sampling) != orders(UNEVEN, sampling=sampling, seed=4)
    assert orders(UNEVEN, sampling=sampling) != orders(UNEVEN, sampling=sampling, epoch=1)


@pytest.mark.parametrize("sampling", ["stratified", "balanced"])
def test_unequal_classes_give_the_same_batches_from_the_middle_of_an_epoch_and_with_workers(
    images, sampling
):
    some = images.take(np.r_[0:16, 16:20, 32:48])  # 16, 4 and 16 of a class
    recipe = get_recipe("smoke", sampling=sampling, **EVERYTHING)
    whole = batches(some, recipe, epoch=1)
    assert len(whole) == 4 and same(whole[2:], batches(some, recipe, epoch=1, skip=2))
    assert same(whole, batches(some, recipe, epoch=1, workers=2))


def test_an_image_that_comes_again_within_an_epoch_is_cropped_anew(images):
    some = images.take(np.r_[0:16, 16:18, 32:48])  # 16, 2 and 16 of a class
    dataset = Augmented(some, get_recipe("smoke", sampling="balanced", **EVERYTHING), seed=3)
    keys = sum(keys_of_epoch(dataset, 8, epoch=2), [])
    of_one = [key for key in keys if key[1] == 16]
    assert of_one[:3] == [(2, 16), (2, 16, 1), (2, 16, 2)] and len(set(keys)) == len(keys) == 32
    assert sum(keys_of_epoch(dataset, 8, epoch=2, skip=3), []) == keys[24:]
    first, again = dataset[of_one[0]][0], dataset[of_one[1]][0]
    assert not torch.equal(first, again) and torch.equal(first, dataset[2, 16][0])


def test_augmentation_leaves_every_generator_where_it_was(images):
    dataset = Augmented(images, get_recipe("smoke", **EVERYTHING), seed=0)
    for ask in (lambda: dataset[0, 0], lambda: batches(images, dataset.recipe, epoch=0)):
        drawn = []
        for _ in range(2):
            random.seed(1)
            np.random.seed(1)
            torch.manual_seed(1)
            if drawn:
                ask()
            drawn.append((random.random(), np.random.rand(), float(torch.rand(1))))
        assert drawn[0] == drawn[1]


PURPOSES = (ORDER, CLASSES, IMAGE, MIXING, DROPOUT, SHOWN)
whole_numbers = st.integers(-(2**63), 2**63 - 1)
tuples = st.tuples(st.sampled_from(PURPOSES), st.lists(whole_numbers | st.just(0), max_size=5))


def test_purposes_are_told_apart():
    assert len(set(PURPOSES)) == 6


def test_no_two_of_many_tuples_share_a_seed():
    """Lengths, purposes, order, trailing zeros, and numbers that are alike but for one bit."""
    numbers = [0, 1, 2, 3, 7, 2**31, 2**32, 2**32 + 1, 2**62, 2**63 - 1, -1, -(2**63)]
    some = {
        (purpose, *chosen, *[0] * zeros)
        for purpose in PURPOSES
        for length in range(4)
        for chosen in itertools.product(numbers, repeat=length)
        for zeros in range(4 - length)
    }
    some |= {(IMAGE, seed, epoch, i) for seed in (0, 1) for epoch in range(50) for i in range(500)}
    assert len(some) > 60_000
    seeds = {derive(*one) for one in some}
    assert len(seeds) == len(some) and min(seeds) >= 0 and max(seeds) < 2**63


@given(one=tuples, other=tuples)
def test_a_seed_is_that_of_its_purpose_and_its_numbers_alone(one, other):
    seeds = [derive(purpose, *numbers) for purpose, numbers in (one, other)]
    assert (seeds[0] == seeds[1]) == (one == other)
    assert seeds[0] == derive(one[0], *map(int, np.array(one[1], dtype=np.int64)))


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**30, 0.5, "3"])
def test_a_number_that_no_seed_can_be_made_from_is_refused(number):
    with pytest.raises(ValueError, match="whole numbers below"):
        derive(ORDER, 1, number)
    with pytest.raises(ValueError, match="whole numbers below"):
        derive(number, 1)


def test_a_recipe_without_augmentation_gives_the_stored_pixels(images):
    plain = get_recipe("smoke", hflip=0.0, vflip=0.0, rotate90=False)
    pixels, label = Augmented(images, plain, seed=0)[4, 7]
    assert (
        np.array_equal(pixels.permute(1, 2, 0).numpy(), images.pixels[7])
        and label == images.labels[7]
    )


def test_a_mirrored_spiral_gets_the_label_of_its_mirror_image():
    pixels = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    handed = Images(
        pixels,
        np.array([0, 1]),
        ("left", "right"),
        8,
        "train",
        About("x", "x", "real", mirrored=(("left", "right"),)),
    )
    flip = get_recipe("smoke", hflip=1.0, vflip=0.0, rotate90=False)
    flipped, label = Augmented(handed, flip, seed=0)[0, 0]
    assert label == 1 and np.array_equal(flipped.permute(1, 2, 0).numpy(), pixels[0][:, ::-1])
    both = get_recipe("smoke", hflip=1.0, vflip=1.0, rotate90=True)
    # two reflections are a turn, which keeps the handedness
    assert Augmented(handed, both, seed=0)[0, 0][1] == 0


def test_randaugment_at_its_strongest_never_stops_a_run(images):
    policy = get_recipe("smoke", randaugment="rand-m10-n4-mstd3-inc1")
    dataset = Augmented(images, policy, seed=0)
    assert all(
        dataset[epoch, index][0].shape == (3, 32, 32) for epoch in range(6) for index in range(48)
    )


POLICIES = ("cifar10", "svhn", "cifar10-released", "svhn-released")


@pytest.mark.parametrize("policy", POLICIES)
def test_autoaugment_is_a_function_of_seed_epoch_and_image_whatever_was_drawn_before(
    images, policy
):
    recipe = get_recipe("smoke", autoaugment=policy, crop="pad")
    whole = batches(images, recipe, epoch=1)
    random.seed(7)
    torch.manual_seed(7)
    # as a resumed run enters the epoch
    assert same(whole[4:], batches(images, recipe, epoch=1, skip=4))
    assert same(whole, batches(images, recipe, epoch=1, workers=2))
    assert not same(whole, batches(images, with_fields(recipe, autoaugment=""), epoch=1))
    assert not same(whole, batches(images, recipe, epoch=2))


def test_every_policy_is_its_own(images):
    found = [
        batches(images, get_recipe("smoke", autoaugment=policy), epoch=0) for policy in POLICIES
    ]
    assert not any(same(one, other) for i, one in enumerate(found) for other in found[:i])


def test_autoaugment_comes_after_the_flip_as_in_the_release(images):
    """With the one sub-policy "rotate", an image that is always flipped is still turned
    anticlockwise.
    """
    dataset = Augmented(
        images,
        get_recipe("smoke", hflip=1.0, vflip=0.0, rotate90=False, autoaugment="cifar10-released"),
        seed=0,
    )
    dataset.policy.pairs = [(("Rotate", 1.0, 9),)]
    flipped_then_turned = Image.fromarray(images.pixels[3][:, ::-1]).rotate(
        30, fillcolor=(128, 128, 128)
    )
    assert np.array_equal(
        dataset[0, 3][0].permute(1, 2, 0).numpy(), np.asarray(flipped_then_turned)
    )


def released_policy(name="cifar10"):
    return ReleasedAutoAugment(AutoAugment(AutoAugmentPolicy(name)).policies)


def test_the_released_policies_turn_one_way_and_torchvisions_either_way(images):
    picture = Image.fromarray(images.pixels[0])
    turned = {
        angle: np.asarray(picture.rotate(angle, fillcolor=(128, 128, 128)))
        for angle in (20 / 3, -20 / 3)
    }
    assert all(
        np.array_equal(np.asarray(released_policy().apply(picture, "Rotate", 2)), turned[20 / 3])
        for _ in range(20)
    )
    policy = AutoAugment(AutoAugmentPolicy.CIFAR10)
    policy.policies = [(("Rotate", 1.0, 2), ("Invert", 0.0, None))]
    assert len({policy(picture).tobytes() for _ in range(20)}) == 2


def test_released_operations_leave_grey_behind_and_go_either_way(images):
    white = Image.new("RGB", (32, 32), (255, 255, 255))
    random.seed(0)
    for name in ("ShearX", "ShearY", "TranslateX", "TranslateY"):
        results = {released_policy().apply(white, name, 9).tobytes() for _ in range(20)}
        assert len(results) == 2
        assert all(128 in result and 0 not in result for result in results)
    shifts = {
        tuple(
            (np.asarray(released_policy().apply(white, "TranslateX", 9))[0, :, 0] == 128).nonzero()[
                0
            ]
        )
        for _ in range(20)
    }
    # 150 / 331 of 32 pixels: 14.5
    assert {len(shift) for shift in shifts} <= {14, 15} and {shift[0] for shift in shifts} & {0}
    assert (np.asarray(released_policy().apply(white, "Rotate", 9))[0, 0] == 128).all()


@pytest.mark.parametrize(
    "name, strength, factors",
    [("Brightness", 7, (0.3, 1.7)), ("Color", 0, (1.0,)), ("Contrast", 9, (0.1, 1.9))],
)
def test_released_changes_of_colour_grow_by_tenths_in_both_directions(
    images, name, strength, factors
):
    from PIL import ImageEnhance

    picture = Image.fromarray(images.pixels[20])
    random.seed(0)
    found = {released_policy().apply(picture, name, strength).tobytes() for _ in range(20)}
    assert found == {
        getattr(ImageEnhance, name)(picture).enhance(factor).tobytes() for factor in factors
    }


def test_released_posterising_and_solarising_have_the_strengths_of_the_release():
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3))
    # 8 - 4 * 7 / 9 = 4.9 bits
    assert len(np.unique(released_policy().apply(ramp, "Posterize", 7))) == 2**5
    solarised = np.asarray(released_policy().apply(ramp, "Solarize", 8)).reshape(256, 3)[:, 0]
    # from 256 / 9 = 28.4
    assert (solarised[:29] == np.arange(29)).all() and (
        solarised[29:] == 255 - np.arange(29, 256)
    ).all()


def test_no_sub_policy_stops_a_run(images):
    for name in ("cifar10", "svhn"):
        policy = released_policy(name)
        assert len(policy.pairs) == 25
        for operation, _, strength in {operation for pair in policy.pairs for operation in pair}:
            assert policy.apply(Image.fromarray(images.pixels[0]), operation, strength).size == (
                32,
                32,
            )


def augmentation(recipe):
    return BatchAugmentation(
        recipe, mean=[0.0] * 3, std=[1.0] * 3, num_classes=3, device=torch.device("cpu")
    )


def test_targets_are_probabilities_and_smoothing_is_spread_over_all_classes():
    x, y = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2, 0])
    _, target = augmentation(get_recipe("smoke", label_smoothing=0.3))(x, y, seed=0)
    assert torch.allclose(target[0], torch.tensor([0.8, 0.1, 0.1]))
    _, mixed = augmentation(get_recipe("smoke", mixup=0.8, label_smoothing=0.1))(x, y, seed=0)
    assert torch.allclose(mixed.sum(1), torch.ones(4))


def test_smoothing_goes_to_all_classes_as_in_pytorch_or_to_the_others_as_in_vit_cifar():
    labels, logits = (
        torch.tensor([2, 0]),
        torch.tensor([[0.3, -1.0, 2.0, 0.5], [1.0, 0.0, -0.5, 0.2]]),
    )
    # 0.4 / 4 to each, 0.6 more to the true one
    everywhere = torch.tensor([[0.1, 0.1, 0.7, 0.1], [0.7, 0.1, 0.1, 0.1]])
    others = torch.tensor([[0.4 / 3, 0.4 / 3, 0.6, 0.4 / 3], [0.6, 0.4 / 3, 0.4 / 3, 0.4 / 3]])
    assert torch.allclose(smoothed(labels, 4, 0.4), everywhere) and torch.allclose(
        smoothed(labels, 4, 0.4, over="others"), others
    )
    loss = -(smoothed(labels, 4, 0.4) * logits.log_softmax(1)).sum(1).mean()
    assert torch.allclose(
        loss, torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.4)
    )
    assert torch.equal(smoothed(labels, 4, 0.0), smoothed(labels, 4, 0.0, over="others"))
    x = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    _, target = augmentation(get_recipe("smoke", label_smoothing=0.3, smoothing_over="others"))(
        x, torch.tensor([0, 2]), seed=0
    )
    assert torch.allclose(target, torch.tensor([[0.7, 0.15, 0.15], [0.15, 0.15, 0.7]]))


@pytest.mark.parametrize("field", ["mixup", "cutmix", "cutout"])
def test_each_mixing_and_regional_dropout_changes_images_and_is_a_function_of_the_step(field):
    x, y = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8) % 3
    recipe = get_recipe("smoke", **{field: 1.0})
    one, other = (augmentation(recipe)(x, y, seed=5) for _ in range(2))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert not torch.equal(one[0], x.float() / 255)


def test_regional_dropout_is_off_in_the_recipes_of_the_paper():
    for name in ("readme", "methodology"):
        recipe = get_recipe(name)
        assert (recipe.cutmix, recipe.cutout, recipe.dropblock) == (0, 0, 0)
    assert with_fields(get_recipe("methodology"), cutmix=1.0).cutmix == 1.0


@pytest.mark.parametrize("words", ["foo", "augmix-m9", "9"])
def test_words_that_timm_does_not_know_are_refused_in_one_line(images, words):
    with pytest.raises(ValueError, match="not in timm's words"):
        Augmented(images, get_recipe("smoke", randaugment=words), seed=0)
