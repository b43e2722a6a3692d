"""What each process of `torchrun` runs in the tests of ranks: some runs, one after another.

python ranks_program.py IMAGES RUN[:STEPS] ...: the images' folder, then names in RUNS, each with
the step after which it is to stop.
"""

import sys

import torch

from astroformer.recipes import Recipe, get_recipe, replace
from astroformer.training import Run, fit

# 12 images a batch; in whole batches or micro-batches of 6 or 4, of which BatchNorm sees one
SMALL = replace(
    get_recipe("smoke"),
    steps=50,
    warmup_epochs=0,
    batch_size=12,
    learning_rate=5e-4,
    drop_rate=0.0,
    drop_path_rate=0.0,
    mixup=0.8,
    cutmix=1.0,
    clip_grad=1.0,
    ema_decay=0.9,
)
RUNS = {
    "astroformer": ("astroformer_pico", SMALL, {}),
    "astroformer_halves": ("astroformer_pico", replace(SMALL, micro_batch_size=6), {}),
    "spectformer_thirds": (
        "spectformer_ti",
        replace(SMALL, micro_batch_size=4),
        {"patch_size": 8, "depth": 2, "spectral_blocks": 1},
    ),
    "vit_cifar": ("vit_cifar", SMALL, {"depth": 2, "dim": 64, "heads": 4, "mlp_hidden": 128}),
}


def run_of(name: str, folder: str) -> Run:
    return run_with(folder, *RUNS[name])


def run_with(folder: str, model: str, recipe: Recipe, options: dict) -> Run:
    return Run(
        model=model,
        dataset="folder",
        data_dir=folder,
        image_size=32,
        recipe=recipe,
        options=options,
        seed=3,
    )


def main(folder: str, *names: str) -> None:
    for word in names:
        name, _, steps = word.partition(":")
        fit(
            run_of(name, folder),
            device=torch.device("cpu"),
            stop_after=int(steps) if steps else None,
            report=lambda line: print(line, flush=True),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
