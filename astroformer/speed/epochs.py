"""A whole epoch with data beside the same steps on one repeated batch: what reading, augmenting and
moving images costs beside computing.

The training is a real one (`training.loop.Training`) on the embedded galaxies, without a record.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from astroformer.counting.throughput import middle_half, turns
from astroformer.recipes import Recipe, get_recipe
from astroformer.speed.roofline import synchronize
from astroformer.training.loop import Training
from astroformer.training.run import Run

# network, pixels, batch, recipe
USUAL = {
    "cpu": (("astroformer_pico", 32, 64, "lowdata"),),
    "cuda": (
        ("vit_cifar", 32, 128, "vit_cifar"),
        ("astroformer_0", 64, 128, "lowdata"),
        ("astroformer_0", 224, 128, "lowdata"),
    ),
}
BATCHES = 8  # of an epoch
ROUNDS = 7


def models_on(
    device: torch.device, models: Sequence[str], sizes: Sequence[int]
) -> list[tuple[str, int]]:
    return [
        (name, size)
        for name, size, _, _ in USUAL[device.type]
        if (not models or name in models) and (not sizes or size in sizes)
    ]


def rows_of_network(name: str, size: int, device: torch.device, seconds: float) -> Iterator[dict]:
    """A row for augmentation on the host and one for that on the device: seconds of an epoch over
    seconds of its steps on one batch.
    """
    [(batch, base)] = [
        (batch, recipe)
        for model, pixels, batch, recipe in USUAL[device.type]
        if (model, pixels) == (name, size)
    ]
    for where in ("host", "device"):
        recipe = get_recipe(
            base, steps=0, epochs=10_000, warmup_epochs=1.0, batch_size=batch, augmentation=where
        )
        yield row_of_training(name, size, device, recipe, seconds / 2)


def row_of_training(
    name: str, size: int, device: torch.device, recipe: Recipe, seconds: float
) -> dict:
    run = Run(
        model=name,
        dataset="galaxies",
        image_size=size,
        train_images=BATCHES * recipe.batch_size,
        recipe=recipe,
    ).resolved(device)
    training = Training(run, device, lambda line: None)
    try:
        epoch, repeated = with_data(training), without(training)
        found = turns(
            {"repeated": repeated, "epoch": epoch},
            rounds=ROUNDS,
            warmup=2,
            seconds=seconds,
            synchronize=lambda: synchronize(device),
        )
    finally:
        training.close()
    low, middle, high = middle_half(found["epoch"] / found["repeated"])
    return {
        "what": "epoch",
        "status": "measured",
        "model": name,
        "image_size": size,
        "batch_size": recipe.batch_size,
        "contestant": f"ours, augmentation on the {recipe.augmentation}",
        "precision": training.recipe.precision,
        "execution": training.execution.recorded(),
        "rounds": len(found["epoch"]),
        "images_per_second": BATCHES * recipe.batch_size / float(np.median(found["epoch"])),
        "over_steps_alone": middle,
        "over_low": low,
        "over_high": high,
    }


def with_data(training: Training) -> Callable[[], None]:
    def epoch() -> None:
        for _ in training.train_on():
            pass

    return epoch


def without(training: Training) -> Callable[[], None]:
    """The same number of steps on the first batch."""
    images, labels = next(iter(training.loader.batches(training._keys(1))))
    images, labels = images.to(training.device), labels.to(training.device)

    def steps() -> None:
        for _ in range(BATCHES):
            training.train_step(images, labels)

    return steps
