"""A small training on the images of `tiny_folder`, for tests of every room."""

import torch

from astroformer.recipes import get_recipe
from astroformer.training import Run

CPU = torch.device("cpu")
# Everything that draws random numbers or keeps a state beside the weights.
EVERYTHING = dict(
    epochs=3,
    batch_size=8,
    micro_batch_size=4,
    mixup=0.8,
    cutout=0.5,
    dropblock=0.1,
    drop_rate=0.1,
    drop_path_rate=0.2,
    ema_decay=0.9,
    crop="random-resized",
    hflip=0.5,
)


def small_run(folder, *, seed=0, **changes):
    """A run of astroformer_pico on 32 pixels for two epochs in batches of 8, unless `changes`, of
    the recipe, say otherwise. The 48 training images of `tiny_folder` are 6 batches.
    """
    settings = {"epochs": 2, "batch_size": 8} | changes
    return Run(
        model="astroformer_pico",
        dataset="folder",
        data_dir=str(folder),
        image_size=32,
        recipe=get_recipe("smoke", **settings),
        seed=seed,
    ).resolved(CPU)
