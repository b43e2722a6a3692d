"""The loop (`fit`), evaluation, checkpoints, and the value that names a run."""

from astroformer.training.evaluate import (
    evaluate_checkpoint,
    evaluate_weights,
    load_trained,
    metrics,
    predict,
)
from astroformer.training.loop import Fitted, fit
from astroformer.training.run import Run, parse_option

__all__ = [
    "Fitted",
    "Run",
    "evaluate_checkpoint",
    "evaluate_weights",
    "fit",
    "load_trained",
    "metrics",
    "parse_option",
    "predict",
]
