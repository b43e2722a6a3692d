"""What a run did: its curves from the record's history, and where its predictions are right and wrong."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from astroformer.data import Images
from astroformer.figures.style import COLORS, WIDTH, panels, picture


def curves(record: dict) -> Figure:
    """Loss and accuracy by epoch, from a record's history."""
    history = record["history"]
    epochs = [entry["epoch"] for entry in history]
    figure, (loss, accuracy) = panels(1, 2, height=2.7)
    loss.plot(epochs, [entry["train_loss"] for entry in history], "o-", label="train, with augmentation")
    loss.plot(epochs, [entry["nll"] for entry in history], "s--", label=record["dataset"]["evaluated_on"])
    loss.set(xlabel="epoch", ylabel="cross-entropy (nats)", ylim=(0, None))
    loss.legend()
    accuracy.plot(epochs, [entry["top1"] for entry in history], "o-", color=COLORS["green"], label="top-1")
    accuracy.plot(epochs, [entry["balanced_accuracy"] for entry in history], "s--", color=COLORS["orange"], label="balanced")
    accuracy.set(xlabel="epoch", ylabel=f"{record['dataset']['evaluated_on']} accuracy (%)", ylim=(0, 100))
    accuracy.legend(loc="lower right")
    return figure


def confusion_matrix(logits: Tensor, images: Images) -> np.ndarray:
    """(K, K) counts: row the true class, column the predicted one."""
    predicted = logits.argmax(1).numpy()
    matrix = np.zeros((len(images.classes),) * 2, dtype=int)
    np.add.at(matrix, (images.labels, predicted), 1)
    return matrix


def confusion(logits: Tensor, images: Images) -> Figure:
    """The confusion matrix, as parts of the true class, with the counts written in."""
    matrix = confusion_matrix(logits, images)
    part = matrix / matrix.sum(1, keepdims=True).clip(1)
    size = max(3.0, min(WIDTH, 0.5 * len(matrix) + 1.4))
    figure, (axes,) = panels(1, 1, height=size, width=size + 0.8)
    axes.imshow(part, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    for i, j in np.argwhere(matrix):
        axes.text(j, i, matrix[i, j], ha="center", va="center", fontsize=8, color="white" if part[i, j] > 0.55 else "#374151")
    axes.set(xticks=range(len(matrix)), yticks=range(len(matrix)), yticklabels=images.classes,
             xlabel="predicted class", ylabel="true class")
    axes.set_xticklabels(images.classes, rotation=45, ha="right", rotation_mode="anchor")
    return figure


def mistakes(logits: Tensor, images: Images, *, number: int = 12) -> Figure:
    """The wrong predictions that the network is surest of, with both names and the probability it gave."""
    probability = logits.double().softmax(1)
    confidence, predicted = probability.max(1)
    wrong = torch.nonzero(predicted != torch.from_numpy(images.labels)).flatten()
    wrong = wrong[confidence[wrong].argsort(descending=True)][:number].tolist()
    columns = 3
    rows = max(1, -(-len(wrong) // columns))
    figure, axes = panels(rows, columns, height=2.5 * rows)
    for axis in axes[len(wrong):]:
        axis.set_axis_off()
    for axis, i in zip(axes, wrong):
        picture(axis, images.pixels[i])
        true, said = images.classes[images.labels[i]], images.classes[predicted[i]]
        axis.set_title(f"{true}\nsaid: {said}\n({100 * confidence[i]:.0f} %)", fontsize=8.5)
    return figure
