"""What is exported: the network of a checkpoint and all that is known of it, from the checkpoint,
the ledger and the table of data sets.

Reads top to bottom: Subject, subject (from a word to one), Graph (from pixels to logits), images to
compare with.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

from astroformer.data import DATASETS
from astroformer.data.augment import normalise
from astroformer.ledger import records
from astroformer.models import build
from astroformer.sizes import NAMES
from astroformer.training import load_trained
from astroformer.training.found import checkpoint_of
from astroformer.version import __version__

CODE_LICENCE = "Apache-2.0"
UNKNOWN = "not known: the ledger of this machine has no record of the run"
# What older checkpoints do not say: how the images were cut that the run was evaluated on.
PLAIN = {"crop_pct": 1.0, "interpolation": "bicubic"}
# Images of a batch with which what is exported is compared, one after the other.
BATCHES = (1, 2, 5)


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network, in eval mode on the CPU.

    told: the checkpoint's description, as of `training.load_trained`
    record: of the run, the newest completed one in the ledger; None where there is none
    """

    path: Path
    model: nn.Module
    told: dict
    record: dict | None

    @property
    def name(self) -> str:
        """Of the network, as a run has it."""
        return self.told["model"]

    @property
    def architecture(self) -> str:
        """Of the network, as timm has it, without a tag."""
        return build.timm_name(self.name).partition(".")[0]

    @property
    def is_ours(self) -> bool:
        """Whether timm knows the network only once this library is imported."""
        return self.name in NAMES

    @property
    def arguments(self) -> dict[str, object]:
        """Of `timm.create_model`, with which the network was made; rates of what is dropped while
        it is trained are not among them.
        """
        made = build.arguments(self.name, **self.told["options"])
        return {name: value for name, value in made.items() if name not in build.RATES}

    @property
    def classes(self) -> list[str]:
        return self.told["classes"]

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width in pixels."""
        height, width = to_2tuple(self.told["image_size"])
        return len(self.told["mean"]), int(height), int(width)

    @property
    def crop(self) -> dict:
        """How an image is cut that is not yet of this size: crop_pct and interpolation."""
        return self.told["crop"] or PLAIN

    @property
    def finished(self) -> bool:
        return self.told["step"] == self.told["steps"]

    @property
    def judged(self) -> bool:
        """Whether the record's metrics are those of these weights: of the last step, and of the
        average where one is kept.
        """
        if self.record is None or not self.finished:
            return False
        return ("average" in self.record["selection"]) == self.told["averaged"]

    @property
    def data_licence(self) -> str:
        """Of the images that the network was trained on."""
        row = DATASETS.get(self.record["dataset"]["source"]) if self.record else None
        return row.licence if row else UNKNOWN

    def metadata(self) -> dict[str, str]:
        """What must be said of the weights, each value a text; what is no text is JSON."""
        plain = {
            "classes": self.classes,
            "mean": self.told["mean"],
            "std": self.told["std"],
            "input_size": self.input_size,
            "crop": self.crop,
            "options": self.arguments,
            "reading": self.told.get("reading"),  # of values and bands; null for pictures
        }
        return {
            "model": self.architecture,
            **{name: json.dumps(value) for name, value in plain.items()},
            "run": self.told["run"],
            "recipe": self.told["recipe"],
            "dataset": self.told["dataset"],
            "weights": "average of the steps (EMA)" if self.told["averaged"] else "last step",
            "steps": f"{self.told['step']} of {self.told['steps']}",
            "licence": CODE_LICENCE,
            "data_licence": self.data_licence,
            "made_by": f"astroformer {__version__}, torch {torch.__version__}",
        }


def subject(word: str | Path, *, average: bool | None = None) -> Subject:
    """The network that a word means, see `checkpoint_of`; average as of `training.load_trained`."""
    path = checkpoint_of(word)
    model, told = load_trained(path, average=average)
    return Subject(path, model, told, records.completed(told["run"]))


class Graph(nn.Module):
    """Pixels to logits: uint8 (B, C, H, W) of 0..255, already cut to the network's size, to float32
    (B, K). What normalises them is within, so that nobody need know mean and deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, subject: Subject):
        super().__init__()
        self.model = subject.model
        self.register_buffer("mean", torch.tensor(subject.told["mean"]))
        self.register_buffer("std", torch.tensor(subject.told["std"]))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.model(normalise(images, self.mean, self.std))


def batches(subject: Subject) -> list[Tensor]:
    """Images of random pixels, uint8, as many as BATCHES says: what an export is compared by."""
    generator = torch.Generator().manual_seed(0)
    size = subject.input_size
    return [
        torch.randint(0, 256, (number, *size), dtype=torch.uint8, generator=generator)
        for number in BATCHES
    ]
