"""The loop (`fit`), evaluation, checkpoints, and the value that names a run."""

from astroformer.training.evaluate import evaluate_checkpoint, load_trained, metrics, predict
from astroformer.training.fit import Fitted, fit
from astroformer.training.run import Run, parse_option

__all__ = ["Fitted", "Run", "evaluate_checkpoint", "fit", "load_trained", "metrics", "parse_option", "predict"]
