"""The loop (`fit`), evaluation, checkpoints, and the values that say what a run is (`Run`) and how
it is executed (`Execution`).
"""

from astroformer.training.evaluate import (
    evaluate_checkpoint,
    evaluate_weights,
    load_trained,
    metrics,
    predict,
)
from astroformer.training.execution import Execution
from astroformer.training.loop import Fitted, fit
from astroformer.training.run import Run, parse_option

__all__ = [
    "Execution",
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
