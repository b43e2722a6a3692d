"""What a run said about each image of the split it was evaluated on, kept beside its record: one
compressed file a run.

Kept are the labels, the likeliest classes in order and their probabilities: enough for the
confusion matrix, the recall of each class, the reliability diagram and the surest mistakes, without
weights, images or torch. Committed files lie in `book/ledger/predictions/RUN.npz`, those of this
machine in `predictions/` below the local ledger.
"""

import hashlib
import lzma
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from astroformer import paths

KEPT = 5  # likeliest classes of an image, where there are more than ALL_UP_TO
ALL_UP_TO = 10  # so many classes or fewer are all kept
# of the expected calibration error and its diagram, of equal width, as in Guo et al. 2017
BINS = 15
SHARED = "labels-"  # begins the name of a file that several runs share
FIELDS = ("labels", "top", "probabilities", "classes", "evaluated_on")
# Raised of a file that is cut, damaged or of another kind.
UNREADABLE = (
    *(OSError, ValueError, LookupError, EOFError, TypeError, ArithmeticError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, AttributeError, SyntaxError),
)


@dataclass(frozen=True)
class Predictions:
    """N images, K classes, of which the k likeliest of each image are known."""

    run: str
    labels: np.ndarray  # (N,) true classes
    top: np.ndarray  # (N, k) classes, the likeliest first
    probabilities: np.ndarray  # (N, k) float32, theirs
    classes: tuple[str, ...]  # K names
    evaluated_on: str  # "test" or "validation"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def predicted(self) -> np.ndarray:
        """(N,): the likeliest class of each image."""
        return self.top[:, 0]

    @property
    def confidence(self) -> np.ndarray:
        """(N,) float32: the probability of the likeliest class."""
        return self.probabilities[:, 0]

    @property
    def right(self) -> np.ndarray:
        """(N,) bool."""
        return self.predicted == self.labels


def of_logits(run: str, logits, labels, classes, *, evaluated_on: str) -> Predictions:
    """From logits (N, K), a tensor on the CPU or an array, and labels (N,)."""
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if logits.ndim != 2 or logits.shape != (len(labels), len(classes)):
        raise ValueError(
            f"logits of shape {logits.shape} do not fit {len(labels):,} labels of "
            f"{len(classes):,} classes"
        )
    kept = len(classes) if len(classes) <= ALL_UP_TO else KEPT
    top = np.argsort(-logits, axis=1, kind="stable")[:, :kept]  # (N, k)
    probabilities = np.take_along_axis(softmax(logits, axis=1), top, axis=1).astype(np.float32)
    return Predictions(
        run,
        labels.astype(np.int32),
        top.astype(np.int32),
        probabilities,
        tuple(map(str, classes)),
        evaluated_on,
    )


def write(run: str, logits, labels, classes, *, evaluated_on: str) -> Path:
    """Keeps the predictions of a run beside its local record."""
    return save(of_logits(run, logits, labels, classes, evaluated_on=evaluated_on), local(run))


def save(predictions: Predictions, path: Path) -> Path:
    """Replaces the file in one step: a reader never sees half of it."""
    return _write({name: np.asarray(getattr(predictions, name)) for name in FIELDS}, path)


def save_compact(predictions: Predictions, path: Path) -> Path:
    """The likeliest class of each image and its probability in half precision; labels and names of
    classes lie once for all runs of a split, in a file beside it that bears their digest. A tenth
    of the room of `save`.
    """
    smallest = np.uint8 if len(predictions.classes) <= 256 else np.uint16
    shared = {
        "labels": predictions.labels.astype(smallest),
        "classes": np.asarray(predictions.classes),
        "evaluated_on": np.asarray(predictions.evaluated_on),
    }
    digest = hashlib.sha256(
        shared["labels"].tobytes() + "\n".join(predictions.classes).encode()
    ).hexdigest()[:12]
    beside = path.with_name(f"{SHARED}{digest}.npz")
    if not beside.is_file():
        _write(shared, beside)
    own = {
        "shared": np.asarray(digest),
        "top": predictions.top[:, :1].astype(smallest),
        "probabilities": predictions.probabilities[:, :1].astype(np.float16),
        "evaluated_on": shared["evaluated_on"],
    }
    return _write(own, path)


def _write(arrays: dict[str, np.ndarray], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(partial, path)
    return path


def read(run: str) -> Predictions | None:
    """The predictions of a run, by its hash: committed ones first, then those of this machine;
    None if there are none.
    """
    found = [path for path in (committed(run), local(run)) if path.is_file()]
    return load(found[0]) if found else None


def load(path: Path) -> Predictions:
    """One file of predictions; `run` is its name."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] for name in file.files}
        if "shared" in values:
            values |= _shared(path.with_name(f"{SHARED}{values['shared']}.npz"), path)
        return _checked(path.stem, {name: values[name] for name in FIELDS})
    except _Lacking:
        raise
    except UNREADABLE as error:
        raise ValueError(
            f"{path} is no file of predictions ({error}); delete it, and make it "
            "again with "
            "`astroformer evaluate CHECKPOINT --keep`"
        ) from error


def _checked(run: str, values: dict[str, np.ndarray]) -> Predictions:
    """Predictions of arrays as a file holds them; ValueError for arrays that cannot be those."""
    labels, top, likely = values["labels"], values["top"], values["probabilities"]
    classes = values["classes"]
    if len(top) != len(labels):
        raise ValueError(f"{len(top)} answers to {len(labels)} images")
    if labels.ndim != 1 or top.ndim != 2 or likely.shape != top.shape or not top.shape[1]:
        raise ValueError(f"shapes {labels.shape}, {top.shape} and {likely.shape}")
    if classes.ndim != 1 or classes.dtype.kind != "U" or values["evaluated_on"].ndim:
        raise ValueError("the names of its classes are no texts")
    if not {labels.dtype.kind, top.dtype.kind} <= set("iu") or likely.dtype.kind != "f":
        raise ValueError("its classes and probabilities are no numbers")
    if len(labels) and not all(0 <= one.min() <= one.max() < len(classes) for one in (labels, top)):
        raise ValueError("it names a class that it does not have")
    if not ((likely >= 0) & (likely <= 1.001)).all():  # half precision rounds
        raise ValueError("its probabilities are not all between 0 and 1")
    return Predictions(
        run,
        labels.astype(np.int32),
        top.astype(np.int32),
        likely.astype(np.float32),
        tuple(classes.tolist()),
        str(values["evaluated_on"]),
    )


class _Lacking(ValueError):
    """Of predictions that are whole, the file that they share with others is not."""


def _shared(path: Path, whose: Path) -> dict[str, np.ndarray]:
    """Labels and names of classes that several files of predictions share."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {"labels": file["labels"], "classes": file["classes"]}
    except UNREADABLE as error:
        raise _Lacking(
            f"{path}, with the labels of {whose.name}, is missing or damaged ({error}); "
            f"`git checkout -- {path.name}` there brings a committed one back"
        ) from error


def committed(run: str) -> Path:
    """Where the book's own predictions of a run lie, or would."""
    return paths.LEDGER / "predictions" / f"{run}.npz"


def local(run: str) -> Path:
    """The same of this machine's."""
    return paths.local_ledger() / "predictions" / f"{run}.npz"


def present(run: str) -> bool:
    return committed(run).is_file() or local(run).is_file()


def keep(run: str, *, compact: bool = False) -> Path | None:
    """Copies a run's local predictions to the committed ones, whole or compact (`save_compact`);
    None if it has none.
    """
    if not local(run).is_file():
        return None
    return (save_compact if compact else save)(load(local(run)), committed(run))


# What follows from predictions alone.


def metrics(predictions: Predictions) -> dict[str, float]:
    """top1, balanced_accuracy and ece in percent, as `training.evaluate.metrics` has them."""
    recall = per_class(predictions)["recall (%)"].dropna()
    bins = reliability(predictions)
    gaps = (bins["accuracy"] - bins["confidence"]).abs() * bins["images"]
    return {
        "top1": 100 * predictions.right.mean().item(),
        "balanced_accuracy": recall.mean().item(),
        "ece": 100 * gaps.sum() / len(predictions),
    }


def confusion(predictions: Predictions) -> np.ndarray:
    """(K, K) counts: row the true class, column the predicted one."""
    matrix = np.zeros((len(predictions.classes),) * 2, dtype=int)
    np.add.at(matrix, (predictions.labels, predictions.predicted), 1)
    return matrix


def per_class(predictions: Predictions) -> pd.DataFrame:
    """For each class: its images, and the part of them recognised, in percent (empty for a class
    without images).
    """
    matrix = confusion(predictions)
    images = matrix.sum(1)
    recall = np.divide(
        100 * np.diag(matrix), images, out=np.full(len(matrix), np.nan), where=images > 0
    )
    return pd.DataFrame({"class": predictions.classes, "images": images, "recall (%)": recall})


def reliability(predictions: Predictions) -> pd.DataFrame:
    """For each of BINS bins of confidence that holds images: its bounds, the images, their mean
    confidence and accuracy (0 to 1).
    """
    confidence = predictions.confidence.astype(np.float64)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    frame = pd.DataFrame(
        {"bin": bins, "confidence": confidence, "accuracy": predictions.right.astype(float)}
    )
    found = frame.groupby("bin").agg(
        images=("bin", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean")
    )
    return found.reset_index().assign(
        low=lambda table: table["bin"] / BINS, high=lambda table: (table["bin"] + 1) / BINS
    )


def mistakes(predictions: Predictions, number: int = 12) -> pd.DataFrame:
    """The wrong predictions of which the network was surest: index in the split, both classes,
    the probability (0 to 1).
    """
    wrong = np.flatnonzero(~predictions.right)
    surest = wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:number]
    names = np.asarray(predictions.classes, dtype=object)
    return pd.DataFrame(
        {
            "index": surest,
            "true": names[predictions.labels[surest]],
            "predicted": names[predictions.predicted[surest]],
            "probability": predictions.confidence[surest],
        }
    )


def confused(matrix: np.ndarray, classes: tuple[str, ...], number: int = 20) -> pd.DataFrame:
    """The pairs that a confusion matrix (K, K) mixes up most: true class, predicted class,
    images, part of the true class (%).
    """
    counts = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
    part = 100 * counts / matrix.sum(1, keepdims=True).clip(1)
    order = sorted(np.argwhere(counts), key=lambda pair: (-part[tuple(pair)], *pair))[:number]
    return pd.DataFrame(
        [
            {
                "true": classes[i],
                "predicted": classes[j],
                "images": int(counts[i, j]),
                "of the class (%)": part[i, j],
            }
            for i, j in order
        ],
        columns=["true", "predicted", "images", "of the class (%)"],
    )
