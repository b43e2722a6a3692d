"""Augmentation on the device: the distributions of the host's, images that depend on nothing but
their own keys, and runs that say so.
"""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from small_run import CPU, small_run
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from astroformer.data import device_steps as steps
from astroformer.data import galaxies, on_device
from astroformer.data.augment import Augmented, keys_of_epoch, rand_augment, seeded
from astroformer.data.folder import load_folder
from astroformer.data.images import About, Images
from astroformer.data.loader import Loader
from astroformer.data.pixels import Decoded
from astroformer.recipes import get_recipe
from astroformer.training import Execution, checkpoint, fit

MEAN = [0.2, 0.25, 0.3]
DRAWS = 10_000
ALIKE, UNLIKE = 1e-4, 1e-9  # p-values: seeds are fixed, so these are no matter of luck
RECIPES = {
    "lowdata": dict(crop="pad", hflip=0.5, randaugment="rand-m5-mstd0.5-inc1"),
    "vit_cifar": dict(crop="pad", hflip=0.5, autoaugment="cifar10-released"),
    "everything": dict(
        crop="random-resized",
        interpolation="random",
        hflip=0.5,
        vflip=0.5,
        rotate90=True,
        randaugment="rand-m9-mstd0.5",
        color_jitter=0.4,
        autoaugment="svhn",
    ),
}


def recipe_of(**changes):
    return get_recipe(
        "smoke", **dict(augmentation="device", hflip=0, vflip=0, rotate90=False) | changes
    )


def loader(images, *, seed=3, **changes):
    return on_device.DeviceLoader(images, recipe_of(**changes), seed=seed, mean=MEAN, device=CPU)


@pytest.fixture(scope="module")
def images():
    pixels, labels = galaxies.generate(40, size=24)
    mirrored = (("a", "b"), ("c", "d"))  # and e is its own mirror image
    about = About("toy", "toy", "synthetic", mirrored=mirrored)
    return Images(pixels, labels % 5, tuple("abcde"), 24, "train", about)


KEYS = [
    (epoch, index, *more) for epoch in (0, 4) for index in range(40) for more in ((), (1,), (2,))
]


def by_key(made, batches):
    """Each key's image and label, wherever they came."""
    return {
        key: (image.numpy().tobytes(), int(label))
        for keys, (some, labels) in zip(batches, made, strict=True)
        for key, image, label in zip(keys, some, labels, strict=True)
    }


@pytest.fixture(scope="module", params=RECIPES)
def changed(request, images):
    """A loader under a recipe, and what it makes of KEYS all at once."""
    own = loader(images, **RECIPES[request.param])
    return own, by_key(own.batches([KEYS]), [KEYS])


@settings(max_examples=10)
@given(order=st.permutations(range(len(KEYS))), sizes=st.lists(st.integers(1, 60), min_size=9))
def test_an_image_depends_on_its_key_alone_not_on_batches_or_how_many_are_made_at_once(
    changed, order, sizes
):
    own, expected = changed
    ends = [0, *np.cumsum(sizes).tolist(), len(KEYS)]
    shuffled = [KEYS[i] for i in order]
    batches = [shuffled[a:b] for a, b in itertools.pairwise(ends) if shuffled[a:b]]
    for most in (1, 70, 4_096):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(on_device, "IMAGES_AT_ONCE", most)
            made = list(own.batches(batches))
            assert [len(some) for some, _ in made] == list(map(len, batches))
            assert by_key(made, batches) == expected


def test_the_parts_of_a_key_and_the_seed_all_change_an_image(images):
    own, other = (loader(images, seed=seed, **RECIPES["lowdata"]) for seed in (3, 4))
    made = {
        key: part[0] for key, part in by_key(own.batches([KEYS]), [KEYS]).items()
    }  # without labels
    again = {key: part[0] for key, part in by_key(other.batches([KEYS]), [KEYS]).items()}
    assert sum(made[key] == again[key] for key in KEYS) < len(KEYS) / 10
    for changes in (lambda e, i, *n: (4, i, *n), lambda e, i, *n: (e, i, *(n or (2,)))):
        pairs = [(key, changes(*key)) for key in KEYS if changes(*key) != key]
        assert pairs and sum(made[a] == made[b] for a, b in pairs) < len(pairs) / 10


def test_a_pass_takes_up_where_another_was_left_and_repetitions_are_images_of_their_own(images):
    recipe = recipe_of(sampling="balanced", **RECIPES["lowdata"])
    uneven = images.take(np.flatnonzero((images.labels > 0) | (np.arange(40) < 6)))
    dataset, own = on_device.training_loader(uneven, recipe, seed=3, mean=MEAN, device=CPU)
    keys = keys_of_epoch(dataset, 4, epoch=1)
    assert any(len(key) == 3 for key in sum(keys, []))
    rest = keys_of_epoch(dataset, 4, epoch=1, skip=3)
    made, again = by_key(own.batches(keys), keys), by_key(own.batches(rest), rest)
    assert len(made) == sum(map(len, keys)) and all(made[key] == again[key] for key in again)


# Random numbers


def test_the_numbers_are_those_of_splitmix64():
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]  # of seed 0
    counter = np.arange(1, 4, dtype=np.uint64)
    assert steps.mixed(steps.STRIDE * counter).tolist() == published


def draws(number=DRAWS, *, seed=0, epochs=1):
    keys = itertools.product(range(epochs), range(number // epochs))
    return steps.Draws(seed, list(keys))


@pytest.mark.parametrize("epochs", [1, 100, DRAWS])
def test_numbers_are_uniform_and_know_nothing_of_their_neighbours(epochs):
    own = draws(epochs=epochs)
    numbers = np.concatenate([own.uniform(purpose, 4) for purpose in range(5)], 1)  # (DRAWS, 20)
    assert ((numbers >= 0) & (numbers < 1)).all()
    for column in numbers.T:
        assert stats.kstest(column, "uniform").pvalue > ALIKE
        assert stats.pearsonr(column[1:], column[:-1]).pvalue > ALIKE
    for one, other in itertools.combinations(numbers.T, 2):
        assert stats.pearsonr(one, other).pvalue > ALIKE
    assert np.array_equal(own.uniform(2, 3, begin=1), own.uniform(2, 4)[:, 1:])


def test_pairs_of_uniform_numbers_become_normal_ones():
    assert stats.kstest(steps.normal(draws().uniform(0, 2)), "norm").pvalue > ALIKE
    assert np.isfinite(steps.normal(np.array([[0.0, 0.0], [1 - 2**-53, 0.5]]))).all()


# Crops, reflections, labels


def test_crops_reflections_and_turns_move_pixels_and_labels_as_numpy_does(images):
    own = loader(images, crop="pad", hflip=0.5, vflip=0.5, rotate90=True)
    crop, reflection = own.steps
    made, labels = own.augmented(KEYS)
    drawn = steps.Draws(3, KEYS)
    plan = steps.Plan()
    tops, lefts = (plan.arrays[slot] for slot in crop.planned(drawn, plan))
    mirror = images.mirror_labels()
    met = Counter()
    for place, (left_right, up_down, turns) in enumerate(zip(*reflection.drawn(drawn))):
        index, top, left = drawn.index[place], tops[place], lefts[place]
        expected = np.pad(images.pixels[index], ((3, 3), (3, 3), (0, 0)))
        expected, label = expected[top : top + 24, left : left + 24], images.labels[index]
        if left_right:
            expected, label = expected[:, ::-1], mirror[label]
        if up_down:
            expected, label = expected[::-1], mirror[label]
        expected = np.rot90(expected, turns)
        assert np.array_equal(made[place].permute(1, 2, 0).numpy(), expected)
        assert labels[place] == label
        met[bool(left_right), bool(up_down), int(turns)] += 1
    assert len(met) == 16


def test_what_leaves_nothing_to_chance_is_what_the_host_makes(images):
    keys = [(0, index) for index in range(40)]
    for changes in (
        dict(hflip=1),
        dict(vflip=1),
        dict(hflip=1, vflip=1),
        dict(hflip=1, crop="pad"),
    ):
        if "crop" in changes:
            pixels = np.full_like(images.pixels, 0)  # of which every crop is the same
            some = Images(pixels, images.labels, images.classes, 24, "train", images.about)
        else:
            some = images
        recipe = recipe_of(**changes)
        dataset, own = on_device.training_loader(some, recipe, seed=3, mean=MEAN, device=CPU)
        assert isinstance(own, on_device.DeviceLoader)
        for made, expected in zip(own.augmented(keys), dataset.__getitems__(keys), strict=True):
            assert torch.equal(made, expected)


def test_the_steps_come_in_the_hosts_order():
    every = steps.steps_of(recipe_of(**RECIPES["everything"]), 24, MEAN, shape=(24, 24))
    order = [steps.ResizedCrop, steps.RandAugment, steps.Jitter, steps.Reflection, steps.Policy]
    assert list(map(type, every)) == order
    padded = steps.steps_of(recipe_of(**RECIPES["lowdata"]), 24, MEAN, shape=(24, 24))
    assert list(map(type, padded)) == [steps.PaddedCrop, steps.RandAugment, steps.Reflection]


def test_crops_are_anywhere_and_reflections_and_turns_come_equally_often():
    step, plan = steps.PaddedCrop(4), steps.Plan()
    tops, lefts = (plan.arrays[slot] for slot in step.planned(draws(), plan))
    counts = np.bincount(tops * 9 + lefts, minlength=81)
    assert len(counts) == 81 and stats.chisquare(counts).pvalue > ALIKE
    left_right, up_down, turns = steps.Reflection(0.5, 0.5, True).drawn(draws())
    assert stats.chisquare(np.bincount(left_right * 8 + up_down * 4 + turns)).pvalue > ALIKE
    left_right, up_down, turns = steps.Reflection(0.2, 0.0, False).drawn(draws())
    assert stats.binomtest(int(left_right.sum()), DRAWS, 0.2).pvalue > ALIKE
    assert not up_down.any() and not turns.any()


@pytest.mark.parametrize("shape", [(32, 32), (20, 40), (90, 30)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0)])
def test_crops_of_random_size_are_drawn_as_timm_draws_them(shape, scale):
    height, width = shape
    boxes = steps.ResizedCrop(24, shape, scale, "bicubic").boxes(draws())
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= shape).all()
    image = torch.zeros(3, height, width)
    timm = RandomResizedCropAndInterpolation(24, scale=scale)
    with seeded(0):
        expected = np.array([timm.get_params(image, timm.scale, timm.ratio) for _ in range(DRAWS)])
    for one, other in zip(boxes.T, expected.T, strict=True):
        assert stats.ks_2samp(one, other).pvalue > ALIKE
    assert stats.ks_2samp(boxes[:, 2] * boxes[:, 3], expected[:, 2] * expected[:, 3]).pvalue > ALIKE
    assert stats.ks_2samp(boxes[:, 2] / boxes[:, 3], expected[:, 2] / expected[:, 3]).pvalue > ALIKE


# RandAugment beside timm's


class Noted(steps.RandAugment):
    """RandAugment that notes what it would do: (layer, image, operation, strength or None)."""

    def noted(self, drawn):
        self.notes = []
        for _ in self.groups(drawn):
            pass
        return self.notes

    def groups_of(self, op, rows, parts, directions, filters):
        rule = steps.RULES.get(op.name, lambda parts, directions, op: np.full(len(parts), np.nan))
        strengths = rule(parts, directions, op)
        self.notes += [(int(row), op.name, float(s)) for row, s in zip(rows, strengths)]
        return super().groups_of(op, rows, parts, directions, filters)


def on_a_device(words):
    return Noted(words, "bicubic", 32, MEAN).noted(draws())


def on_the_host(words):
    policy = rand_augment(words, {"img_mean": (1, 2, 3)})
    for op in policy.ops:
        op.aug_fn = noting(op.name)
    notes = []
    with seeded(0):
        for row in range(DRAWS):
            notes += [(row, *done) for done in policy([])]
    return notes


def noting(name):
    def note(done, strength=float("nan"), **_):
        return [*done, (name, float(strength))]

    return note


def unlikely(one, other):
    """The smallest p-values of how often each operation comes, of how many an image gets, and of
    the strengths of each operation, in two lists of notes.
    """
    names = sorted({name for _, name, _ in (*one, *other)})
    columns = [Counter(name for _, name, _ in notes) for notes in (one, other)]
    table = [[column[name] for name in names] for column in columns]
    numbers = [
        np.bincount(np.bincount([row for row, *_ in notes], minlength=DRAWS), minlength=5)
        for notes in (one, other)
    ]
    numbers = np.array(numbers)[:, np.sum(numbers, 0) > 0]
    several = stats.chi2_contingency(numbers).pvalue if numbers.shape[1] > 1 else 1.0
    strengths = []
    for name in names:
        samples = [[s for _, own, s in notes if own == name] for notes in (one, other)]
        if not np.isnan(sum(samples, [])).any() and all(samples):
            strengths.append(stats.ks_2samp(*samples).pvalue)
    # of those that grow with the magnitude as it is, all together: many numbers tell more
    moved = [
        [abs(s) / MOST[name] for _, name, s in notes if name in MOST] for notes in (one, other)
    ]
    strengths.append(stats.ks_2samp(*moved).pvalue)
    return stats.chi2_contingency(table).pvalue, several, min(strengths)


# At magnitude 10.
MOST = dict(Rotate=30, ShearX=0.3, ShearY=0.3, TranslateXRel=0.45, TranslateYRel=0.45)
WORDS = [
    "rand-m5-mstd0.5-inc1",
    "rand-m9-mstd0.5-inc1",
    "rand-m9",
    "rand-m9-n3-mstd101",
    "rand-m7-p0.8-tweights-mstd1-inc1",
    "rand-m20-mmax30-mstd6-inc1",
]


@pytest.mark.parametrize("words", WORDS)
def test_operations_come_as_often_and_as_strong_as_timms(words):
    assert min(unlikely(on_a_device(words), on_the_host(words))) > ALIKE


@pytest.mark.parametrize(
    "one, other, differs",
    [
        ("rand-m5-mstd0.5-inc1", "rand-m5-mstd0.8-inc1", 2),
        ("rand-m9-mstd0.5", "rand-m8-mstd0.5", 2),
        ("rand-m5-p0.5", "rand-m5-p0.55", 1),
        ("rand-m7-n2-tweights-inc1", "rand-m7-n2-inc1", 0),
    ],
)
def test_that_comparison_tells_other_distributions_apart(one, other, differs):
    assert unlikely(on_a_device(one), on_the_host(other))[differs] < UNLIKE


def test_weighted_operations_come_once_in_an_image_and_others_may_come_twice():
    for words, most in (("rand-m9-p1-tweights-inc1", 1), ("rand-m9-p1-inc1", 2)):
        pairs = Counter((row, name) for row, name, _ in on_a_device(words))
        assert max(pairs.values()) == most


def test_either_interpolation_comes_equally_often_where_a_recipe_leaves_it_open():
    step = steps.RandAugment("rand-m9-p1-inc1", "random", 32, MEAN)
    counts = Counter()
    for operation, rows, _ in step.groups(draws()):
        counts[dict(operation.how).get("interpolation")] += len(rows)
    assert counts["bicubic"] + counts["bilinear"] > DRAWS / 2
    both = counts["bicubic"] + counts["bilinear"]
    assert stats.binomtest(counts["bicubic"], both, 0.5).pvalue > ALIKE


# AutoAugment and colour jitter


@pytest.mark.parametrize("word", ["cifar10", "svhn", "cifar10-released", "svhn-released"])
def test_pairs_of_a_policy_come_as_often_as_it_says(word):
    step = steps.Policy(word, 32)
    cells = [[()] * DRAWS, [()] * DRAWS]  # what each image gets, first and second
    for number, (operation, rows, strengths) in enumerate(step.groups(draws())):
        place = number // len(step.operations)
        for k, row in enumerate(rows):
            strength = 0.0 if strengths is None else strengths[k]
            cells[place][row] = (operation, *np.atleast_1d(strength).tolist())
    observed = Counter(zip(*cells))
    expected = Counter()
    dataset = word.partition("-")[0]
    policies = AutoAugment(AutoAugmentPolicy(dataset)).policies
    for number, pair in enumerate(policies):
        parts = []
        for place, (_, probability, _) in enumerate(pair):
            own = Counter({(): 1 - probability})
            for way in range(2):
                operation = step.operations[step.which[number, place, way]]
                strength = step.strengths[number, place, way]
                strength = strength if operation.name == "affine" else strength[:1]
                own[(operation, *strength.tolist())] += probability / 2
            parts.append(own)
        for (one, p), (other, q) in itertools.product(*(part.items() for part in parts)):
            expected[one, other] += p * q / len(policies)
    assert not set(observed) - {cell for cell, p in expected.items() if p > 0}
    frequent = [cell for cell, p in expected.items() if p * DRAWS >= 5]
    counts = np.array([observed[cell] for cell in frequent])
    rest = DRAWS - counts.sum()
    told = np.array([expected[cell] for cell in frequent]) * DRAWS
    assert len(frequent) > 50 and abs(rest - (DRAWS - told.sum())) <= 5 * np.sqrt(
        DRAWS - told.sum()
    )
    assert stats.chisquare(counts, told * counts.sum() / told.sum()).pvalue > ALIKE


def test_colours_are_jittered_in_any_order_and_within_bounds():
    for most in (0.4, 1.5):
        step, orders = steps.Jitter(most), [[] for _ in range(DRAWS)]
        factors = {name: np.full(DRAWS, np.nan) for name in step.NAMES}
        for operation, rows, strengths in step.groups(draws()):
            factors[operation.name][rows] = strengths
            for row in rows:
                orders[row].append(operation.name)
        low = max(0, 1 - most)
        for values in factors.values():
            assert stats.kstest(values, "uniform", (low, 1 + most - low)).pvalue > ALIKE
        counts = Counter(map(tuple, orders))
        assert len(counts) == 6 and all(len(set(order)) == 3 for order in counts)
        assert stats.chisquare(list(counts.values())).pvalue > ALIKE


# Images, beside the host's


@pytest.mark.parametrize("name", RECIPES)
def test_images_of_many_draws_are_distributed_as_the_hosts(name, images):
    one = images.take(np.array([4]))
    recipe = recipe_of(**RECIPES[name])
    keys = [(epoch, 0) for epoch in range(DRAWS)]
    own = on_device.DeviceLoader(one, recipe, seed=3, mean=MEAN, device=CPU)
    made = torch.cat([some for some, _ in own.batches([keys[i::10] for i in range(10)])])
    host, _ = Augmented(one, recipe, seed=3, mean=MEAN).__getitems__(keys)
    for what in (features(made), features(host)):
        assert all(len(np.unique(values)) > 10 for values in what)
    for ours, theirs in zip(features(made), features(host)):
        assert stats.ks_2samp(ours, theirs).pvalue > ALIKE


def features(some):
    """Of many images: mean, deviation, steepness, a pixel of the middle and one of a corner."""
    values = some.to(torch.float32)
    steepness = (values[..., 1:] - values[..., :-1]).abs().mean((1, 2, 3))
    about = (values.mean((1, 2, 3)), values.std((1, 2, 3)), steepness)
    return [part.numpy() for part in (*about, values[:, 0, 12, 12], values[:, 1, 2, 3])]


# What is refused


def test_images_that_do_not_fit_are_refused_in_one_line_with_the_way_out(images):
    recipe = recipe_of(hflip=0.5)
    how = dict(seed=0, mean=MEAN, device=CPU)
    needed = images.pixels.size
    assert on_device.DeviceLoader(images, recipe, room=needed, **how).pixels.numel() == needed
    with pytest.raises(ValueError, match="all 40 training images on cpu") as error:
        on_device.DeviceLoader(images, recipe, room=needed - 1, **how)
    assert "--set augmentation=host" in str(error.value) and "\n" not in str(error.value)


def test_operations_that_only_the_host_has_are_refused_by_name(images):
    with pytest.raises(ValueError, match="no Desaturate, .*rand-m5-t3a.* augmentation=host"):
        loader(images, randaugment="rand-m5-t3a")
    with pytest.raises(ValueError, match="is not in timm's words"):
        loader(images, randaugment="rand-x5")


def wholes_of(shapes):
    rng = np.random.default_rng(0)
    sources = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    pixels = Decoded(sources, 24, np.asarray)
    labels = np.zeros(len(shapes), dtype=np.int64)
    return Images(pixels, labels, ("a", "b"), 24, "train", About("x", "x", "synthetic"))


def test_crops_of_random_size_come_from_the_images_as_they_are_stored(images):
    stored = wholes_of([(48, 64)] * 5)
    own = loader(stored, crop="random-resized", crop_scale=(1, 1))
    assert own.pixels.shape == (5, 3, 48, 64)
    made, _ = own.augmented([(0, index) for index in range(5)])
    assert made.shape == (5, 3, 24, 24)
    with pytest.raises(ValueError, match="48 x 64 and 48 x 65 pixels; .*augmentation=host"):
        loader(wholes_of([(48, 64), (48, 65)]), crop="random-resized")
    # squares are of one size, whatever they were cut from
    made, _ = loader(wholes_of([(48, 64), (48, 65)]), crop="pad").augmented([(0, 0), (0, 1)])
    assert made.shape == (2, 3, 24, 24)


# Runs


def run_on(folder, **changes):
    return small_run(folder, **({"crop": "pad", "randaugment": "rand-m9-mstd0.5-inc1"} | changes))


def test_a_run_on_the_device_is_another_run_and_the_hosts_keeps_its_name(tiny_folder):
    host, device = (run_on(tiny_folder, augmentation=where) for where in ("host", "device"))
    assert host.hash == run_on(tiny_folder).hash != device.hash
    assert "augmentation" not in host.recipe.canonical()
    assert device.recipe.canonical()["augmentation"] == "device"
    # where no image is changed by itself, there is nothing that could differ
    plain = dict(crop="none", hflip=0, vflip=0, rotate90=False, randaugment="", autoaugment="")
    same = [run_on(tiny_folder, augmentation=where, **plain).hash for where in ("host", "device")]
    assert same[0] == same[1]
    images = load_folder(tiny_folder, "train")
    recipe = run_on(tiny_folder, augmentation="device", **plain).recipe
    _, own = on_device.training_loader(images, recipe, seed=0, mean=MEAN, device=CPU)
    assert isinstance(own, Loader)


def test_a_run_that_is_stopped_anywhere_ends_with_the_same_bits(tiny_folder, own_runs):
    run = run_on(tiny_folder, augmentation="device", autoaugment="cifar10", mixup=0.2)
    silent = dict(device=CPU, report=lambda line: None)
    whole = fit(run, **silent)
    assert whole.record["status"] == "completed"
    assert whole.record["recipe"]["augmentation"] == "device"
    expected = checkpoint.read(whole.weights)["weights"]
    for step in (4, 9):
        assert (
            fit(run, stop_after=step, force=step == 4, **silent).record["status"] == "interrupted"
        )
    again = checkpoint.read(fit(run, **silent).weights)["weights"]
    assert all(torch.equal(expected[name], value) for name, value in again.items())


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


@CUDA
@pytest.mark.gpu
@pytest.mark.parametrize("name", RECIPES)
def test_a_gpu_makes_the_images_of_a_cpu_and_nobody_waits_for_it(name, images):
    own = loader(images, **RECIPES[name])
    gpu = on_device.DeviceLoader(images, own.recipe, seed=3, mean=MEAN, device=torch.device("cuda"))
    expected = own.augmented(KEYS)
    gpu.augmented(KEYS)  # colours of what is laid bare are sent once
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = gpu.augmented(KEYS)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for one, other in zip(made, expected, strict=True):
        assert torch.equal(one.cpu(), other)


@CUDA
@pytest.mark.gpu
def test_a_gpu_trains_on_images_that_lie_on_it(tiny_folder, own_runs):
    run = run_on(tiny_folder, augmentation="device", precision="float32")
    gpu = torch.device("cuda")
    record = fit(run, device=gpu, execution=Execution(workers=0), report=lambda line: None).record
    assert record["status"] == "completed"
