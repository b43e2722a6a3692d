"""Differences between arms with their intervals and p-values: every comparison of the book is made
here.

An arm is a way of training, a seed is one training run of it. Runs of the same seed share their
images, their order and their random draws, so that seeds are pairs (two arms) or blocks (several).
`contrast` holds what all share, `arms` compares arms over seeds, `images` also over test images,
`runs` looks at runs one by one and plans, `shares` counts.

A value has the unit that it is given in; an accuracy of the ledger is a percentage, a difference of
two of them is in percentage points. Intervals hold for normal errors. A value that is not finite
is refused: whoever compares arms must say how a diverged run counts.
"""

from astroformer.contrasts.arms import Blocked, blocked, dunnett, holm, paired, pooled, tost
from astroformer.contrasts.contrast import Contrast, mean, on_logit_scale
from astroformer.contrasts.images import (
    Answers,
    accuracy_bootstrap,
    bootstrap_draws,
    pooled_bootstrap,
    two_way_bootstrap,
)
from astroformer.contrasts.runs import (
    SdRatio,
    needed_seeds,
    paired_power,
    prediction_interval,
    probability_of_improvement,
    sd_ratio,
)
from astroformer.contrasts.shares import wilson

__all__ = [
    "Answers",
    "Blocked",
    "Contrast",
    "SdRatio",
    "accuracy_bootstrap",
    "blocked",
    "bootstrap_draws",
    "dunnett",
    "holm",
    "mean",
    "needed_seeds",
    "on_logit_scale",
    "paired",
    "paired_power",
    "pooled",
    "pooled_bootstrap",
    "prediction_interval",
    "probability_of_improvement",
    "sd_ratio",
    "tost",
    "two_way_bootstrap",
    "wilson",
]
