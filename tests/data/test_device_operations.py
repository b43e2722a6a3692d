"""Operations on many images at once, each beside Pillow's on one image: the same levels."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from timm.data import auto_augment as timm_operations
from torchvision.transforms import functional as torchvision
from torchvision.transforms.autoaugment import InterpolationMode, _apply_op

from astroformer.data import device_operations as operations
from astroformer.data import device_steps as steps
from astroformer.data import galaxies
from astroformer.data.augment import ReleasedAutoAugment, auto_augment, rand_augment

EDGES = (37, 150, 90)  # a colour of no picture
RESAMPLING = {name: getattr(Image.Resampling, name.upper()) for name in ("bilinear", "bicubic")}
RESAMPLING["nearest"] = Image.Resampling.NEAREST
# of a strength that is one number for each image
FACTORS = st.lists(st.floats(0, 3, width=32), min_size=6, max_size=6)
# so small that no pixel is far away, so large that some are outside
COEFFICIENTS = st.floats(-0.6, 0.6)


def pictures(kind, size=32):
    """uint8 (6, H, W, 3)"""
    rng = np.random.default_rng(5)
    if kind == "galaxies":
        return np.stack([galaxies.render(label, size=size, rng=rng) for label in range(6)])
    if kind == "noise":
        return rng.integers(0, 256, (6, size, size + 4, 3), dtype=np.uint8)
    if kind == "flat":
        return np.broadcast_to(
            rng.integers(0, 256, (6, 1, 1, 3), dtype=np.uint8), (6, size, size, 3)
        ).copy()
    return rng.choice(np.array([99, 100, 101], dtype=np.uint8), (6, size, size, 3))


KINDS = pytest.mark.parametrize("kind", ["galaxies", "noise", "flat", "few levels"])


def tensor(images):
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def by_pillow(images, operation, *strengths):
    """(B, H, W, 3) int, an operation on one image after the other."""
    parts = zip(images, *strengths) if strengths else ((image,) for image in images)
    return np.stack(
        [np.asarray(operation(Image.fromarray(image), *own), dtype=int) for image, *own in parts]
    )


def here(changed):
    assert changed.dtype == torch.uint8
    return changed.permute(0, 2, 3, 1).numpy().astype(int)


def assert_same(changed, expected):
    assert (here(changed) == expected).all()


@KINDS
@pytest.mark.parametrize("name", ["Color", "Contrast", "Brightness", "Sharpness"])
@settings(max_examples=15)
@given(factors=FACTORS)
def test_an_enhancement_gives_pillows_levels(kind, name, factors):
    images = pictures(kind)
    expected = by_pillow(
        images, lambda one, f: getattr(ImageEnhance, name)(one).enhance(f), factors
    )
    enhance = getattr(operations, name.lower())
    assert_same(enhance(tensor(images), torch.tensor(factors, dtype=torch.float64)), expected)


@KINDS
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", ["Color", "Contrast", "Brightness", "Sharpness"])
def test_an_enhancement_by_a_round_factor_gives_pillows_levels(kind, name, factor):
    images = pictures(kind)
    expected = by_pillow(images, lambda one: getattr(ImageEnhance, name)(one).enhance(factor))
    assert_same(
        getattr(operations, name.lower())(tensor(images), torch.full((6,), factor)), expected
    )


@KINDS
@pytest.mark.parametrize("name", ["autocontrast", "equalize", "invert"])
def test_an_operation_without_a_strength_gives_pillows_levels(kind, name):
    images = pictures(kind)
    expected = by_pillow(images, getattr(ImageOps, name))
    assert_same(getattr(operations, name)(tensor(images)), expected)


def test_channels_of_any_histogram_are_equalised_and_stretched_as_pillow_does_it():
    rng = np.random.default_rng(0)
    images = np.stack(
        [
            rng.integers(low, low + span, (24, 24, 3))
            for low, span in zip(rng.integers(0, 200, 60), rng.integers(1, 56, 60))
        ]
    ).astype(np.uint8)
    images[::3, :20] = 7  # a level with most of the pixels: Pillow leaves such a channel alone
    for name in ("equalize", "autocontrast"):
        expected = by_pillow(images, getattr(ImageOps, name))
        assert_same(getattr(operations, name)(tensor(images)), expected)
    assert (by_pillow(images, ImageOps.equalize) != images).any()


@settings(max_examples=30)
@given(
    bits=st.lists(st.integers(1, 8), min_size=6, max_size=6),
    thresholds=st.lists(st.floats(0, 256, width=32), min_size=6, max_size=6),
    added=st.lists(st.integers(0, 128), min_size=6, max_size=6),
)
def test_levels_are_cut_inverted_and_raised_as_pillow_and_timm_do_it(bits, thresholds, added):
    images = pictures("noise")
    for name, strengths in (("posterize", bits), ("solarize", thresholds)):
        expected = by_pillow(images, getattr(ImageOps, name), strengths)
        changed = getattr(operations, name)(tensor(images), torch.tensor(strengths).double())
        assert_same(changed, expected)
    expected = by_pillow(images, timm_operations.solarize_add, added)
    assert_same(operations.solarize_add(tensor(images), torch.tensor(added).double()), expected)


def transformed(images, matrices, interpolation):
    how = dict(resample=RESAMPLING[interpolation], fillcolor=EDGES)
    return by_pillow(
        images,
        lambda one, m: one.transform(one.size, Image.Transform.AFFINE, tuple(m), **how),
        matrices,
    )


def mapped(images, matrices, interpolation, axis="both"):
    return operations.affine(
        tensor(images),
        torch.from_numpy(np.asarray(matrices, dtype=np.float64)),
        interpolation=interpolation,
        fill=torch.tensor(EDGES, dtype=torch.uint8),
        axis=axis,
    )


@KINDS
@pytest.mark.parametrize("interpolation", RESAMPLING)
@settings(max_examples=15)
@given(
    parts=st.lists(
        st.tuples(*[COEFFICIENTS] * 4, st.floats(-20, 20), st.floats(-20, 20)),
        min_size=6,
        max_size=6,
    )
)
def test_an_affine_map_reads_pillows_pixels(kind, interpolation, parts):
    images = pictures(kind)
    matrices = [(1 + a, b, c, d, 1 + e, f) for a, b, d, e, c, f in parts]
    expected = transformed(images, matrices, interpolation)
    changed = mapped(images, matrices, interpolation)
    assert_same(changed, expected)


@KINDS
@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("name", [*steps.AXIS])
def test_turns_shears_and_shifts_by_many_strengths_are_pillows(kind, interpolation, name):
    images = pictures(kind)[[0, 1, 2, 3, 4, 5] * 20]
    if name == "Rotate":
        images = images[:, :32, :32]  # the matrices are those of squares
    most = {"R": 45.0, "S": 0.4, "T": 20.0}[name[0]]
    amounts = np.random.default_rng(1).uniform(-most, most, len(images))
    amounts[:6] = np.round(amounts[:6])  # to whole pixels, and none at all
    amounts[5] = 0
    matrices = steps.matrices(name, amounts, 32)
    if name == "Rotate":
        how = dict(resample=RESAMPLING[interpolation], fillcolor=EDGES)
        expected = by_pillow(images, lambda one, degrees: one.rotate(degrees, **how), amounts)
    else:
        expected = transformed(images, matrices, interpolation)
    changed = mapped(images, matrices, interpolation, steps.AXIS[name])
    assert_same(changed, expected)


@pytest.mark.parametrize("interpolation", RESAMPLING)
def test_what_lies_outside_is_the_fill_unmixed_and_nothing_inside_is(interpolation):
    white = np.full((1, 32, 32, 3), 255, dtype=np.uint8)
    changed = here(mapped(white, [(1, 0, 10.3, 0, 1, 0)], interpolation))[0]
    filled = (changed == EDGES).all(-1)
    # the columns read at x + 0.5 + 10.3 < 32, by Pillow's rule
    assert filled[:, 22:].all() and (changed[:, :21] == 255).all()
    assert (filled | (changed == 255).all(-1)).all()


@KINDS
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@settings(max_examples=15)
@given(data=st.data())
def test_a_crop_that_is_not_shrunk_is_pillows_to_the_bit(kind, interpolation, data):
    images = pictures(kind)
    boxes = data.draw(st.lists(crops(*images.shape[1:3]), min_size=6, max_size=6))
    expected = by_pillow(
        images,
        lambda one, top, left, height, width: torchvision.resized_crop(
            one, top, left, height, width, [36, 36], InterpolationMode(interpolation)
        ),
        *zip(*boxes),
    )
    changed = operations.resized_crop(
        tensor(images), torch.tensor(boxes), size=36, interpolation=interpolation
    )
    assert_same(changed, expected)


@st.composite
def crops(draw, height, width):
    tall, wide = draw(st.integers(1, height)), draw(st.integers(1, width))
    return draw(st.integers(0, height - tall)), draw(st.integers(0, width - wide)), tall, wide


@KINDS
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@settings(max_examples=15)
@given(data=st.data())
def test_a_crop_that_is_shrunk_is_pillows_rows_and_then_columns(kind, interpolation, data):
    images, size = pictures(kind, 40), 12
    boxes = data.draw(st.lists(crops(*images.shape[1:3]), min_size=6, max_size=6))
    filters = RESAMPLING[interpolation]

    def in_two(one, top, left, height, width):
        crop = one.crop((left, top, left + width, top + height))
        return crop.resize((size, height), filters).resize((size, size), filters)

    changed = operations.resized_crop(
        tensor(images), torch.tensor(boxes), size=size, interpolation=interpolation
    )
    assert_same(changed, by_pillow(images, in_two, *zip(*boxes)))


def test_a_shrunk_galaxy_is_about_pillows_whichever_dimension_comes_first():
    images, off = pictures("galaxies", 64), []
    rng = np.random.default_rng(2)
    for _ in range(20):
        sides = rng.integers(24, 65, (6, 2))
        boxes = np.concatenate([rng.integers(0, 65 - sides), sides], 1)
        expected = by_pillow(
            images,
            lambda one, top, left, height, width: torchvision.resized_crop(
                one, top, left, height, width, [24, 24], InterpolationMode.BICUBIC
            ),
            *boxes.T.tolist(),
        )
        changed = operations.resized_crop(
            tensor(images), torch.from_numpy(boxes), size=24, interpolation="bicubic"
        )
        off.append(np.abs(here(changed) - expected))
    assert np.mean(off) < 0.2 and (np.array(off) > 2).mean() < 1e-3


def test_a_padded_crop_is_a_part_of_the_image_with_its_black_margin():
    images = pictures("noise")[[0, 1, 2, 3, 4, 5] * 14][:81]
    offsets = np.stack(np.divmod(np.arange(81), 9), 1)  # every one that there is
    margin = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    expected = [one[y : y + 32, x : x + 36] for one, (y, x) in zip(margin, offsets)]
    changed = operations.padded_crop(tensor(images), *torch.from_numpy(offsets).T, padding=4)
    assert_same(changed, np.stack(expected))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_reflections_and_quarter_turns_are_numpys(flip, quarters):
    images = pictures("galaxies")
    expected = np.rot90(images[:, :, ::-1] if flip else images, quarters, (1, 2))
    assert_same(operations.turned(tensor(images), flip=flip, quarters=quarters), expected)


ALL = {
    "color": 1.7,
    "contrast": 0.3,
    "brightness": 1.4,
    "sharpness": 1.9,
    "posterize": 3.0,
    "solarize": 100.0,
    "solarize_add": 60.0,
}


@pytest.mark.parametrize("name", [*ALL, "autocontrast", "equalize", "invert", "affine"])
def test_what_becomes_of_an_image_does_not_depend_on_the_others(name):
    images = tensor(pictures("galaxies"))
    apply = getattr(operations, name)
    if name == "affine":
        matrices = torch.from_numpy(steps.matrices("Rotate", np.linspace(-30, 30, 6), 32))

        def apply(images, some=slice(None)):
            fill = torch.tensor(EDGES, dtype=torch.uint8)
            return operations.affine(images, matrices[some], interpolation="bicubic", fill=fill)

        alone = [apply(images[i : i + 1], slice(i, i + 1)) for i in range(6)]
        assert torch.equal(apply(images), torch.cat(alone))
        return
    strengths = (torch.full((6,), ALL[name]),) if name in ALL else ()
    alone = [apply(images[i : i + 1], *(part[:1] for part in strengths)) for i in range(6)]
    assert torch.equal(apply(images.clone(), *strengths), torch.cat(alone))


# The strengths: timm's operations and AutoAugment's by name


def done(groups, images):
    """What a step's groups make of images."""
    changed = tensor(images)
    for operation, rows, strengths in groups:
        given = None if strengths is None else torch.from_numpy(strengths)
        changed[rows] = operation(changed[rows], given)
    return changed


@pytest.mark.parametrize(
    "words", ["rand-m9", "rand-m9-inc1", "rand-m9-inc1-mmax30", "rand-m9-tweights"]
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("direction", [-1, 1])
def test_an_operation_of_randaugment_is_timms_at_the_same_magnitude(
    words, interpolation, direction, monkeypatch
):
    # timm turns a magnitude round where this is more than a half
    monkeypatch.setattr(random, "random", lambda: 0.75 if direction < 0 else 0.25)
    images = pictures("galaxies")
    mean = [value / 255 for value in EDGES]
    step = steps.RandAugment(words, interpolation, 32, mean)
    settings_of_timm = {"img_mean": EDGES, "interpolation": RESAMPLING[interpolation]}
    policy = rand_augment(words, settings_of_timm)
    levels = np.array([0.0, 1.0, 4.9, 5.0, 8.37, 10.0])
    if "mmax" in words:
        levels = levels * 3
    assert len(policy.ops) >= 15 and len(step.policy.ops) == len(policy.ops)
    for number, op in enumerate(policy.ops):
        op.prob = 1.0
        expected = by_pillow(images, lambda one, level, op=op: with_level(op, level)(one), levels)
        groups = step.groups_of(
            step.policy.ops[number],
            np.arange(6),
            levels / 10,
            np.full(6, float(direction)),
            np.zeros(6, dtype=int),
        )
        changed = done(groups, images)
        assert_same(changed, expected)


def with_level(op, level):
    op.magnitude = level
    return op


@pytest.mark.parametrize("dataset", ["cifar10", "svhn"])
def test_torchvisions_autoaugment_does_the_same_to_the_bit(dataset):
    images = pictures("galaxies")
    step = steps.Policy(dataset, 32)
    textbook = auto_augment(dataset)
    space = textbook._augmentation_space(10, (32, 32))

    def expected_of(one, name, number, way):
        magnitudes, signed = space[name]
        amount = float(magnitudes[number]) if number is not None else 0.0
        amount = -amount if signed and not way else amount
        return _apply_op(one, name, amount, InterpolationMode.NEAREST, None)

    for name, number, way, changed in of_policy(step, images):
        expected = by_pillow(images, partial(expected_of, name=name, number=number, way=way))
        assert_same(changed, expected)


@pytest.mark.parametrize("dataset", ["cifar10", "svhn"])
def test_the_released_autoaugment_does_the_same(dataset, monkeypatch):
    images = pictures("galaxies")
    step = steps.Policy(f"{dataset}-released", 32)
    for name, number, way, changed in of_policy(step, images):
        monkeypatch.setattr(random, "choice", lambda ways, way=way: ways[way])
        apply = partial(ReleasedAutoAugment(step.pairs).apply, name=name, strength=number)
        assert_same(changed, by_pillow(images, apply))


def of_policy(step, images):
    """Every operation of a policy with its strength in either direction, and what it does."""
    seen = set()
    for pair, place, way in np.ndindex(step.which.shape):
        name, _, number = step.pairs[pair][place]
        if (name, number, way) in seen:
            continue
        seen.add((name, number, way))
        operation = step.operations[step.which[pair, place, way]]
        strengths = np.repeat(step.strengths[pair, place, way][None], 6, 0)
        if operation.name != "affine":
            strengths = strengths[:, 0]
        plain = name in steps.WITHOUT_STRENGTH
        group = (operation, np.arange(6), None if plain else strengths)
        yield name, number, way, done([group], images)
