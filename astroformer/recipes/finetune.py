"""Recipes of ours for a network that begins with given weights (`--init`), and a few thousand
images.

finetune      All weights change. AdamW with a cosine and a short warm-up, weight decay 0.05, label
              smoothing 0.1: the form of He et al. 2022 (MAE, arXiv:2111.06377, appendix A.1), whose
              rate of 1e-3 for 256 images comes to about this one for a batch of 64; they add a
              lower rate for earlier layers, RandAugment, Mixup and stochastic depth, which some
              networks do not have. Kornblith, Shlens and Le 2019 (arXiv:1805.08974) compare it
              with linear classifiers on twelve data sets: the more images, the more it gains.
linear_probe  The classifier alone changes, on the features of the given weights (Alain and Bengio
              2016, arXiv:1610.01644). No weight decay, smoothing, Mixup or stochastic depth: He et
              al. (appendix A.1, after Chen, Xie and He 2021, arXiv:2104.02057) find regularisation
              harmful here. AdamW in place of their LARS, since the best rate of SGD goes with the
              scale of the features, which differs from network to network.

Which of the two: where images are few or unlike those to come, fine-tuning can distort good
features, and a linear probe, or one before it, does better (Kumar et al. 2022, arXiv:2202.10054).
Rates and numbers of epochs are beginnings, to be tuned on validation images.
"""

from astroformer.recipes.recipe import Recipe, replace

FINETUNE = Recipe(
    name="finetune",
    source="ours, after He et al. 2022, appendix A.1; not tuned",
    epochs=30,
    batch_size=64,
    learning_rate=2e-4,
    warmup_epochs=2,
    final_learning_rate=1e-6,
    weight_decay=0.05,
    clip_grad=1.0,
    label_smoothing=0.1,
    crop="random-resized",
    crop_scale=(0.5, 1.0),
    hflip=0.5,
)

LINEAR_PROBE = replace(
    FINETUNE,
    name="linear_probe",
    source="ours, after He et al. 2022, appendix A.1; not tuned",
    trained="classifier",
    learning_rate=1e-3,
    weight_decay=0.0,
    clip_grad=0.0,
    label_smoothing=0.0,
)

RECIPES = (FINETUNE, LINEAR_PROBE)
