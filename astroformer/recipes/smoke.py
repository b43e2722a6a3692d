"""Recipes of ours for a CPU and for small images. Nobody published them; they exist to see a
network learn within minutes.

smoke   `astroformer train --model astroformer_pico --dataset galaxies --recipe smoke --seed 0`
        The run that `make book` makes. Flips and quarter turns, since a galaxy has no up; a high
        learning rate, since a small network on few images has no time for a low one.
small   The same with stronger augmentation, for runs of tens of epochs on real images of 32 to 128
        pixels.
"""

from astroformer.recipes.recipe import Recipe

SMOKE = Recipe(
    name="smoke",
    source="ours, not tuned",
    epochs=8,
    batch_size=50,
    learning_rate=3e-3,
    warmup_epochs=1,
    final_learning_rate=1e-5,
    weight_decay=0.02,
    clip_grad=1.0,
    label_smoothing=0.05,
    hflip=0.5,
    vflip=0.5,
    rotate90=True,
)

SMALL = Recipe(
    name="small",
    source="ours, not tuned",
    epochs=30,
    batch_size=100,
    learning_rate=3e-3,
    warmup_epochs=2,
    final_learning_rate=1e-5,
    weight_decay=0.05,
    clip_grad=1.0,
    label_smoothing=0.1,
    drop_path_rate=0.05,
    crop="pad",
    hflip=0.5,
)

RECIPES = (SMOKE, SMALL)
