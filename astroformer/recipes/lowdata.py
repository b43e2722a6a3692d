"""Recipes of ours for the studies of few images (`book/studies/few_images.yml`): the same number of
steps whatever the number of images, so that arms and training sizes are compared at equal work.

lowdata           Natural images of 32 to 64 pixels: flips, RandAugment at a moderate strength, a
                  little Mixup.
lowdata_galaxies  Galaxies have no up and no handedness that a class depends on: flips, quarter
                  turns, a little Mixup; no RandAugment, whose colours and thresholds make galaxies
                  of other kinds.

The learning rate and the weight decay are beginnings: the studies tune both for each network and
data set on validation images. Equal steps, since equal epochs would give the smaller training set
fewer updates and so measure optimisation.
"""

from astroformer.recipes.recipe import Recipe, replace

LOWDATA = Recipe(
    name="lowdata",
    source="ours; rate and weight decay are tuned by the studies that use it",
    steps=2_000,
    batch_size=64,
    learning_rate=2e-3,
    warmup_part=0.1,
    weight_decay=0.02,
    clip_grad=1.0,
    label_smoothing=0.1,
    drop_path_rate=0.1,
    crop="pad",
    hflip=0.5,
    randaugment="rand-m5-mstd0.5-inc1",
    mixup=0.2,
)

LOWDATA_GALAXIES = replace(
    LOWDATA,
    name="lowdata_galaxies",
    steps=1_500,
    randaugment="",
    vflip=0.5,
    rotate90=True,
)

RECIPES = (LOWDATA, LOWDATA_GALAXIES)
