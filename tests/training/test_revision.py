"""What a run comes to under this revision, in numbers: the loop, the loader and the augmentation
cannot change unnoticed.

If a test here fails and the change is meant, the same run comes to something else: raise
`astroformer.ledger.identity.REVISION` and write down here what it says. Records of the older
revision stay, with their label. If the change is not meant, it is a fault.
"""

import hashlib

import numpy as np
import torch

from astroformer.data.augment import MIXING, Augmented, BatchAugmentation, derive, keys_of_epoch
from astroformer.data.loader import Loader
from astroformer.recipes import get_recipe
from astroformer.training import Run
from astroformer.training.loop import Training
from astroformer.training.run import REVISION

CPU = torch.device("cpu")
RECIPES = {
    "crops and RandAugment": dict(
        crop="random-resized", interpolation="random", hflip=0.5, randaugment="rand-m9-mstd0.5-inc1"
    ),
    "padding and AutoAugment": dict(crop="pad", hflip=0.5, autoaugment="cifar10-released"),
    "turns and balanced classes": dict(vflip=0.5, rotate90=True, sampling="balanced"),
}
# SHA-256 of the bytes of an epoch's batches, pixels and labels, of the images of `tiny_folder`.
BATCHES = {
    "crops and RandAugment": "a73f07e8bfeedd6f",
    "padding and AutoAugment": "1704d3099853381b",
    "turns and balanced classes": "8ff5b2beb4e2015c",
}
# Mean loss of each step of a run, which processors and versions of torch change in late digits.
LOSSES = [1.059992, 1.04993, 1.100219, 1.07833, 1.665036, 2.092353]
TARGETS = [0.116244, 0.86709, 0.016667]  # of the first of eight images that are mixed
HELD = 2  # the revision that these numbers are of


def recipe(**changes):
    return get_recipe("smoke", **({"epochs": 2, "batch_size": 8} | changes))


def run_on(folder, **changes):
    return Run(
        model="astroformer_pico",
        dataset="folder",
        data_dir=str(folder),
        image_size=32,
        recipe=recipe(**changes),
    ).resolved(CPU)


def digest_of_epoch(run):
    images = run.load("train")
    dataset = Augmented(images, run.recipe, seed=3, mean=[0.25, 0.25, 0.25])
    digest = hashlib.sha256()
    for pixels, labels in Loader(dataset).batches(keys_of_epoch(dataset, 8, epoch=1)):
        digest.update(np.ascontiguousarray(pixels.numpy()).tobytes() + labels.numpy().tobytes())
    return digest.hexdigest()[:16]


def test_the_revision_is_the_one_whose_numbers_stand_here():
    assert REVISION == HELD


def test_an_epoch_has_the_batches_of_this_revision(tiny_folder):
    found = {
        name: digest_of_epoch(run_on(tiny_folder, **changes)) for name, changes in RECIPES.items()
    }
    assert found == BATCHES


def test_a_run_has_the_losses_of_this_revision(tiny_folder):
    run = run_on(
        tiny_folder, mixup=0.8, cutout=0.5, erase_mode="pixel", drop_rate=0.1, drop_path_rate=0.2
    )
    training = Training(run, CPU, lambda line: None)
    losses, before = [], 0.0
    for _ in training.train_on():
        losses.append(float(training.loss_sum) - before)
        before = float(training.loss_sum)
    training.close()
    np.testing.assert_allclose(losses, LOSSES, rtol=2e-4)


def test_mixing_and_its_targets_are_those_of_this_revision():
    """Drawn by NumPy and Python, on which processors do not differ."""
    augment = BatchAugmentation(
        recipe(mixup=0.8, cutmix=1.0, mixup_mode="elem"),
        mean=[0.5] * 3,
        std=[0.25] * 3,
        num_classes=3,
        device=CPU,
    )
    images = torch.arange(8 * 3 * 16).reshape(8, 3, 4, 4).remainder(256).to(torch.uint8)
    _, targets = augment(images, torch.arange(8) % 3, seed=derive(MIXING, 0, 5, 0))
    np.testing.assert_allclose(targets[0].numpy(), TARGETS, rtol=1e-4)
