"""What a run did: its curves from the record's history, and where its predictions are right and
wrong.
"""

from matplotlib.figure import Figure
from torch import Tensor

from astroformer.data import Images
from astroformer.figures import results
from astroformer.figures.style import COLORS, panels
from astroformer.ledger import predictions


def curves(record: dict) -> Figure:
    """Loss and accuracy by epoch, from a record's history."""
    history = record["history"]
    epochs = [entry["epoch"] for entry in history]
    figure, (loss, accuracy) = panels(1, 2, height=2.7)
    loss.plot(
        epochs, [entry["train_loss"] for entry in history], "o-", label="train, with augmentation"
    )
    loss.plot(
        epochs, [entry["nll"] for entry in history], "s--", label=record["dataset"]["evaluated_on"]
    )
    loss.set(xlabel="epoch", ylabel="cross-entropy (nats)", ylim=(0, None))
    loss.legend()
    accuracy.plot(
        epochs, [entry["top1"] for entry in history], "o-", color=COLORS["green"], label="top-1"
    )
    accuracy.plot(
        epochs,
        [entry["balanced_accuracy"] for entry in history],
        "s--",
        color=COLORS["orange"],
        label="balanced",
    )
    accuracy.set(
        xlabel="epoch", ylabel=f"{record['dataset']['evaluated_on']} accuracy (%)", ylim=(0, 100)
    )
    accuracy.legend(loc="lower right")
    return figure


def confusion(logits: Tensor, images: Images) -> Figure:
    """The confusion matrix, as parts of the true class, with the counts written in."""
    return results.confusion(predictions.confusion(_predictions(logits, images)), images.classes)


def mistakes(logits: Tensor, images: Images, *, number: int = 12) -> Figure:
    """The wrong predictions that the network is surest of, with both names and the probability
    it gave.
    """
    table = predictions.mistakes(_predictions(logits, images), number)
    return results.plate(table, [images.pixels[i] for i in table["index"]])


def _predictions(logits: Tensor, images: Images) -> predictions.Predictions:
    return predictions.of_logits(
        "", logits, images.labels, images.classes, evaluated_on=images.split
    )
