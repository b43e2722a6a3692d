"""One run: a frozen value that decides the outcome, whose hash is its name."""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from astroformer import data, paths
from astroformer.models import checked_name
from astroformer.recipes import Recipe
from astroformer.training.initial import fingerprint, read_weights

# of the training loop and the augmentation: raised when the same run would give other weights
REVISION = 1

INIT = ("init", "allow_partial")
# Younger fields, which enter the hash only where they are not at their default: older runs keep
# their names.
LATER = ("class_fraction", "test_images", "split_seed")
Option = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Run:
    """Recipe + model + data set + seed.

    data_dir and init say where images and weights lie; in their place their fingerprints enter the
    hash.
    """

    model: str  # a name of MODELS
    dataset: str  # a name of DATASETS
    recipe: Recipe
    seed: int = 0
    # the network's own arguments, such as (("stack", "CCTT"),)
    options: tuple[tuple[str, Option], ...] = ()
    image_size: int | None = None  # pixels; None means the data set's own
    fraction: float = 1.0  # part of the training images of each class
    # training images of a generated data set; None means the table's number
    train_images: int | None = None
    class_fraction: float = 1.0  # part of the classes, with all their images
    # to test on, of a data set without an official split; None means the table's number
    test_images: int | None = None
    split_seed: int = 0  # which draws them
    # part of train held out and evaluated in place of test; 0 evaluates on test
    validation: float = 0.0
    data_dir: str | None = None  # the ImageFolder of data set `folder`
    # a file of weights to begin with, see initial.py; None begins with random ones
    init: str | None = None
    allow_partial: bool = False  # weights that do not fit the network are left out

    def __post_init__(self):
        checked_name(self.model)

    def resolved(self, device: torch.device) -> "Run":
        """The run with everything that depends on the data or the device written out."""
        recipe, size = (
            self.recipe,
            self.image_size or data.native_image_size(self.dataset, self.data_dir),
        )
        if recipe.precision == "auto":
            bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
            recipe = replace(recipe, precision="bfloat16" if bfloat16 else "float32")
        return replace(self, recipe=recipe, image_size=size)

    def identity(self) -> dict:
        """Everything that decides the outcome, as plain values."""
        own = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("recipe", "data_dir", *INIT)
            and not (field.name in LATER and getattr(self, field.name) == field.default)
        }
        # a run from random weights keeps the hash that it had before there was a choice
        if self.init is not None:
            own |= {"init": self.initial_weights()[1], "allow_partial": self.allow_partial}
        return own | {
            "recipe": self.recipe.deciding(),
            "data": data.about(self.dataset, self.data_dir, self.train_images).sha256,
            "revision": REVISION,
        }

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the identity. Call it on a resolved run."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Where the checkpoints of a resolved run lie."""
        return paths.runs() / self.hash

    def initial_weights(self) -> tuple[dict[str, Tensor], str]:
        """The weights in the file `init`, and their fingerprint."""
        stat = Path(self.init).stat() if Path(self.init).is_file() else None
        return _read_weights(self.init, stat and (stat.st_mtime_ns, stat.st_size))

    def load(self, split: str) -> data.Images:
        return data.load(
            self.dataset,
            split,
            image_size=self.image_size,
            data_dir=self.data_dir,
            fraction=self.fraction,
            train_images=self.train_images,
            test_images=self.test_images,
            split_seed=self.split_seed,
            class_fraction=self.class_fraction,
            seed=self.seed,
            validation=self.validation,
        )

    def model_options(self, num_classes: int) -> dict:
        """Keyword arguments of `timm.create_model`."""
        return dict(
            num_classes=num_classes,
            img_size=self.image_size,
            drop_rate=self.recipe.drop_rate,
            drop_path_rate=self.recipe.drop_path_rate,
            **dict(self.options),
        )

    def command(self, *, located: bool = False) -> str:
        """The line that repeats the run on a device of the same kind. A folder is named, as a
        record may be published; `located` gives its path instead, for whoever ran it here.
        """
        words = ["astroformer train", f"--model {self.model}", f"--dataset {self.dataset}"]
        # a data set with a name is found by it
        if self.data_dir and (located or self.dataset == "folder"):
            words.append(
                "--data-dir "
                f"{self.data_dir if located else data.about(self.dataset, self.data_dir).name}"
            )
        base, *changes = self.recipe.name.split("+")
        words += [f"--recipe {base}", *(f"--set {change}" for change in changes)]
        words += [f"--model-option {name}={value}" for name, value in self.options]
        if self.init:
            words.append(
                f"--init {self.init if located else Path(self.init).name}"
                + " --allow-partial" * self.allow_partial
            )
        for name in (
            "image_size",
            "fraction",
            "class_fraction",
            "train_images",
            "test_images",
            "split_seed",
            "validation",
        ):
            default = type(self).__dataclass_fields__[name].default
            if getattr(self, name) != default:
                words.append(f"--{name.replace('_', '-')} {getattr(self, name)}")
        return " ".join([*words, f"--seed {self.seed}"])


@lru_cache(maxsize=1)
def _read_weights(path: str, version: tuple[int, int] | None) -> tuple[dict[str, Tensor], str]:
    """Kept, as naming a run needs them each time, and beginning it does; `version` tells an
    overwritten file from the older.
    """
    weights = read_weights(path)
    return weights, fingerprint(weights)


def parse_option(text: str) -> tuple[str, Option]:
    """ "depth=6" -> ("depth", 6): an argument of a network. What reads as a number or as true or
    false is one, the rest are words.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"{text!r} is not NAME=VALUE, such as rel_bias=outside")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            pass
    return name, value
