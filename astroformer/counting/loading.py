"""How many images a second one processor reads and augments, for each way of augmenting: what
loader processes have to be enough for.

    .venv/bin/python -m astroformer.counting.loading

prints the table for synthetic galaxies of 32, 64 and 128 pixels. Whether a GPU waits for images is
the comparison with `throughput`: processors x images/s here, against images/s there.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd
import torch

from astroformer import data
from astroformer.data import Images
from astroformer.data.augment import Augmented, keys_of_epoch
from astroformer.data.loader import Loader
from astroformer.recipes import Recipe, get_recipe

PLAIN = get_recipe("smoke", hflip=0.0, vflip=0.0, rotate90=False)
RANDOM_CROP = replace(PLAIN, crop="random-resized", crop_scale=(0.08, 1.0), hflip=0.5)
AUGMENTATIONS: dict[str, Recipe] = {
    "none": PLAIN,
    "pad, flip": replace(PLAIN, crop="pad", hflip=0.5),
    "random-resized crop, flip": RANDOM_CROP,
    "the same, colour jitter (readme)": replace(RANDOM_CROP, color_jitter=0.4),
    "the same, RandAugment (methodology)": replace(RANDOM_CROP, randaugment="rand-m9-mstd0.5-inc1"),
    "pad, flip, AutoAugment (vit_cifar)": replace(
        PLAIN, crop="pad", hflip=0.5, autoaugment="cifar10-released"
    ),
}


class Rate(NamedTuple):
    """Images a second: the median of several rounds, the least and the most."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:,.0f} [{self.least:,.0f}, {self.most:,.0f}]"


def images_per_second(
    images: Images, recipes: dict[str, Recipe], *, rounds: int = 5, batch_size: int = 50
) -> dict[str, Rate]:
    """Of one processor, for each recipe. A round is an epoch of each recipe in turn, so that what
    else the machine does meets all of them; the time is the processor's own.
    """
    batch_size = min(batch_size, len(images))
    datasets = {name: Augmented(images, recipe, seed=0) for name, recipe in recipes.items()}
    measured: dict[str, list[float]] = {name: [] for name in recipes}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for epoch in range(rounds + 1):
            for name, dataset in datasets.items():
                keys = keys_of_epoch(dataset, batch_size, epoch=epoch)
                begun = time.process_time()
                number = sum(len(labels) for _, labels in Loader(dataset).batches(keys))
                taken = time.process_time() - begun
                if epoch:  # the first one warms up
                    measured[name].append(number / taken)
    finally:
        torch.set_num_threads(threads)
    return {
        name: Rate(statistics.median(own), min(own), max(own)) for name, own in measured.items()
    }


def table(
    sizes: Sequence[int] = (32, 64, 128), *, number: int = 500, rounds: int = 5
) -> pd.DataFrame:
    """A row for each augmentation, a column for each size of image."""
    columns = {}
    for size in sizes:
        images = data.load("galaxies", "train", image_size=size, train_images=number)
        rates = images_per_second(images, AUGMENTATIONS, rounds=rounds)
        columns[f"{size} px"] = {name: str(rate) for name, rate in rates.items()}
    return pd.DataFrame(columns)


if __name__ == "__main__":
    print(table().to_string())
