"""Probabilities that are as often right as they say: one temperature by which log-probabilities are
divided, fitted on images that were not trained on.

Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), section 4.2. A
temperature changes no order, so that labels stay. What is divided is the log of the mean
probability over views and members: of one network and one view these are its logits but for a
constant, as in the paper; an average has a temperature of its own, since it is less sure than each
of its parts.

Kept as `temperature.json` beside the checkpoint (of an ensemble: beside the first), an entry for
each set of networks and number of views.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from astroformer.inference.members import Ensemble
from astroformer.training import metrics

FILE = "temperature.json"
LEAST, MOST = 0.05, 20.0  # where a network is always right, or as good as a guess, none is best
CURE = "remove the file, and --calibrate writes it anew"


@dataclass(frozen=True)
class Temperature:
    """A temperature, and on what it was fitted.

    weights: SHA-256 of the weights of each network
    turns: views of an image
    nll: nats, ece: percent, before and after, of the images it was fitted on
    """

    temperature: float
    weights: list[str]
    runs: list[str]
    turns: int
    split: str
    dataset: str
    images: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    fitted: str  # when

    def described(self) -> str:
        return (
            f"temperature {self.temperature:.3f}, fitted on {self.images:,} {self.split} images "
            f"of {self.dataset}: NLL {self.nll_before:.4f} -> {self.nll_after:.4f}, ECE "
            f"{self.ece_before:.2f} % -> {self.ece_after:.2f} %"
        )


def best(log_probabilities: Tensor, labels: np.ndarray) -> float:
    """The temperature with the least mean negative log-likelihood of the labels (N,), given
    log-probabilities or logits (N, K), between LEAST and MOST.

    The likelihood is convex in 1 / temperature, so that its slope has one zero.
    """
    z = log_probabilities.double().numpy()
    own = z[np.arange(len(z)), labels]

    def slope(inverse: float) -> float:
        scaled = inverse * z
        weights = np.exp(scaled - scaled.max(1, keepdims=True))
        return float(((weights * z).sum(1) / weights.sum(1) - own).mean())

    if slope(1 / MOST) >= 0:  # even the flattest is too sure
        return MOST
    if slope(1 / LEAST) <= 0:
        return LEAST
    return 1 / float(brentq(slope, 1 / MOST, 1 / LEAST, xtol=1e-12))


def fitted(
    ensemble: Ensemble,
    turns: int,
    log_probabilities: Tensor,
    labels: np.ndarray,
    *,
    split: str,
    dataset: str,
) -> Temperature:
    """The temperature of an ensemble, from what it says of held-out images: (N, K), (N,)."""
    value = best(log_probabilities, labels)
    before, after = (metrics(log_probabilities / one, labels) for one in (1.0, value))
    return Temperature(
        temperature=value,
        weights=ensemble.key,
        runs=list(ensemble.runs),
        turns=turns,
        split=split,
        dataset=dataset,
        images=len(labels),
        nll_before=float(before["nll"] or 0.0),
        nll_after=float(after["nll"] or 0.0),
        ece_before=float(before["ece"] or 0.0),
        ece_after=float(after["ece"] or 0.0),
        fitted=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def kept(ensemble: Ensemble, turns: int) -> Temperature | None:
    """The temperature that is kept beside one of the members, for all of them and as many views."""
    for folder in dict.fromkeys(one.folder for one in ensemble.members):
        for one in _read(folder / FILE):
            if (one.weights, one.turns) == (ensemble.key, turns):
                return one
    return None


def keep(one: Temperature, folder: Path) -> Path:
    """Adds a temperature to those beside a checkpoint, in the place of an older one of the same
    networks and views.
    """
    path = folder / FILE
    others = [
        other for other in _read(path) if (other.weights, other.turns) != (one.weights, one.turns)
    ]
    text = json.dumps([asdict(other) for other in (*others, one)], indent=1)
    part = path.with_name(f"{FILE}.{os.getpid()}.part")
    part.write_text(text + "\n")
    os.replace(part, path)
    return path


def _read(path: Path) -> Sequence[Temperature]:
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        return ()
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); {CURE}") from error
    names = {field.name for field in fields(Temperature)}
    if not isinstance(told, list) or not all(
        isinstance(one, dict) and one.keys() == names and _is_positive(one["temperature"])
        for one in told
    ):
        raise ValueError(f"{path} is not what this command writes; {CURE}")
    return [Temperature(**one) for one in told]


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6


def applied(log_probabilities: Tensor, temperature: float) -> np.ndarray:
    """Probabilities at a temperature, float64 (B, K)."""
    return torch.softmax(log_probabilities / temperature, 1).numpy()
