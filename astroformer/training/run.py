"""One run: a frozen value that decides the outcome, whose hash is its name."""

import shlex
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import timm
import torch
from torch import Tensor

from astroformer import data
from astroformer.data.augment import LARGEST
from astroformer.ledger import identity
from astroformer.models import checked_name
from astroformer.models.options import Option, checked_options
from astroformer.recipes import RECIPES, Recipe, setting
from astroformer.recipes.recipe import converted
from astroformer.training.initial import fingerprint, read_weights
from astroformer.training.run_folder import folder_of

# Of the training loop, the loader and the augmentation: raised when the same run would give other
# weights. `tests/training/test_revision.py` holds the bits of a tiny run against it.
REVISION = identity.REVISION


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
    # part of each class to test on, of a folder without test images, drawn by split_seed
    test_fraction: float = 0.0
    stretch: str = ""  # of a folder of images with more than 8 bits a channel, see data.stretch
    # part of train held out, on which the network is measured while it trains; 0 holds out none
    validation: float = 0.0
    # the split of the final metrics: "auto" is validation where images are held out, else test;
    # "test" beside held-out images measures on test once, at the end
    evaluate: str = "auto"
    data_dir: str | None = None  # the ImageFolder of data set `folder`
    # a file of weights to begin with, see initial.py; None begins with random ones
    init: str | None = None
    # of it: True for the average of the weights (EMA), False for those of the last step; None as
    # initial.py says
    init_average: bool | None = None
    allow_partial: bool = False  # weights that do not fit the network are left out

    def __post_init__(self):
        checked_name(self.model)
        if self.dataset not in data.DATASETS:
            data.root_of(self.dataset, self.data_dir)  # raises, with the names
        for field in fields(self):
            value, kind = getattr(self, field.name), PLAIN.get(field.name)
            if kind is not None and not (value is None and field.default is None):
                value = str(value) if kind is str else converted(kind, value, "run", field.name)
                object.__setattr__(self, field.name, value)
        object.__setattr__(
            self, "options", tuple(checked_options(self.model, dict(self.options)).items())
        )
        if self.stretch:
            object.__setattr__(self, "stretch", data.stretch.canonical(self.stretch))
        if self.evaluate not in EVALUATE:
            raise ValueError(
                f"evaluate {self.evaluate!r} is not known; choose {', '.join(EVALUATE)}"
            )
        if self.evaluate == "validation" and not self.validation:
            raise ValueError(
                "evaluate validation needs held-out images: give validation=0.1 (--validation 0.1)"
            )
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} {value} is out of range; choose {least} to {most}")

    def resolved(self, device: torch.device) -> "Run":
        """The run with everything that depends on the data or the device written out, and nothing
        that says the same as saying nothing. Equal runs are equal then, and have equal hashes.
        """
        size = self.image_size or data.native_image_size(self.dataset, self.data_dir)
        usual = data.usual(self.dataset, self.data_dir)
        unsaid = {name: None for name, value in usual.items() if getattr(self, name) == value}
        return replace(self, image_size=size, evaluate=self.evaluated_on, **unsaid).settled(device)

    def settled(self, device: torch.device | None = None) -> "Run":
        """The run with its recipe written out: the preprocessing and, given a device, the
        precision.
        """
        recipe = self.recipe
        if recipe.preprocessing == "auto":
            recipe = replace(recipe, preprocessing=preprocessing_of(self))
        if recipe.precision == "auto" and device is not None:
            recipe = replace(recipe, precision=precision_of(device))
        return replace(self, recipe=recipe)

    @property
    def evaluated_on(self) -> str:
        """The split of the final metrics: "validation" or "test"."""
        if self.evaluate == "auto":
            return "validation" if self.validation else "test"
        return self.evaluate

    def check_batch(self) -> None:
        """ValueError for a batch of more images than there are: a smaller one at the same learning
        rate would be another training.
        """
        images, batch = self.train_size(), self.recipe.batch_size
        if batch > images:
            even = max(1, images // 2 * 2)
            raise ValueError(
                f"recipe {self.recipe.name}: batch_size {batch:,} is more than the {images:,} "
                f"training images; choose --set batch_size={even} or less (and a learning rate for "
                "it), or more images"
            )

    def train_size(self) -> int:
        """How many training images there are."""
        return data.train_size(self.dataset, **self._of_images(), seed=self.seed)

    @property
    def is_resolved(self) -> bool:
        """Whether everything is written out, in the one way in which `resolved` does it."""
        unsaid = (self.recipe.precision, self.recipe.preprocessing)
        if self.image_size is None or "auto" in (*unsaid, self.evaluate):
            return False
        usual = data.usual(self.dataset, self.data_dir)
        return all(getattr(self, name) != value for name, value in usual.items())

    def identity(self) -> dict[str, object]:
        """Everything that decides the outcome, as plain values. ValueError for a run that is not
        resolved, since it does not say all of it.
        """
        if not self.is_resolved:
            raise ValueError(
                "a run has no name before it is resolved: call run.resolved(device) first, which "
                "writes out its image size, precision, preprocessing and batch"
            )
        about = data.about(self.dataset, self.data_dir, self.train_images)
        return self.asked() | {
            "data": about.sha256,
            "mirrored": sorted(sorted(pair) for pair in about.mirrored) if self.reflects else [],
            "image_size": self.image_size,
            "evaluation": self.evaluation_crop(),
            "precision": self.recipe.precision,
        }

    def asked(self) -> dict[str, object]:
        """The part of the identity that is known without images and device."""
        return {
            "revision": REVISION,
            "model": self.model,
            "options": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in self.options
            },
            "dataset": self.dataset,
            "fraction": self.fraction,
            "class_fraction": self.class_fraction,
            "validation": self.validation,
            "evaluated_on": self.evaluated_on,
            "test_images": self.test_images,
            "split_seed": self.split_seed,
            "init": None if self.init is None else self.initial_weights()[1],
            "allow_partial": self.allow_partial and self.init is not None,
            "recipe": self.recipe.canonical(),
            "seed": self.seed,
        } | self.younger()

    def younger(self) -> dict[str, object]:
        """Fields that came after the first records of this revision. Where they say nothing they
        are left out, so that older runs keep their names.
        """
        return {name: value for name in YOUNGER if (value := getattr(self, name))}

    @property
    def reflects(self) -> bool:
        """Whether images are reflected, so that classes of a handedness change places."""
        return bool(self.recipe.hflip or self.recipe.vflip)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the identity of a resolved run."""
        return identity.digest(self.identity())

    @property
    def question(self) -> str:
        """The same for every precision: by it the ledger is asked for a run whose precision was
        left to the device.
        """
        return identity.digest(self.identity(), but=("precision",))

    @property
    def folder(self) -> Path:
        """Where the checkpoints of a resolved run lie."""
        return folder_of(self.hash)

    def initial_weights(self) -> tuple[dict[str, Tensor], str]:
        """The weights in the file `init`, and their fingerprint."""
        stat = Path(self.init).stat() if Path(self.init).is_file() else None
        version = stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return _read_weights(self.init, self.init_average, version)

    def load(self, split: str) -> data.Images:
        """The images of a split, cut for training or for being evaluated as the recipe says."""
        how = {} if split == "train" else self.evaluation_crop()
        return data.load(
            self.dataset,
            split,
            image_size=self.image_size,
            seed=self.seed,
            **self._of_images(),
            **how,
        )

    def evaluation_crop(self) -> dict[str, object]:
        """How an image is cut to be evaluated, as arguments of `data.load`: by the network's
        description or by the data set's habit.
        """
        if self.recipe.preprocessing == "network":
            described = timm.get_pretrained_cfg(self.model)
            return {"crop_pct": described.crop_pct, "interpolation": described.interpolation}
        return {"crop_pct": data.DATASETS[self.dataset].crop_pct, "interpolation": "bicubic"}

    def _of_images(self) -> dict[str, object]:
        names = ("data_dir", "fraction", "train_images", "test_images", "split_seed", *YOUNGER)
        return {name: getattr(self, name) for name in (*names, "class_fraction", "validation")}

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
        """The line that repeats the run on a device of the same kind, quoted for a shell. A folder
        is named, as a record may be published; `located` gives its path instead, for whoever ran it
        here.
        """
        words = ["astroformer", "train", "--model", self.model, "--dataset", self.dataset]
        # a data set with a name is found by it
        if self.data_dir and (located or self.dataset == "folder"):
            folder = self.data_dir if located else data.about(self.dataset, self.data_dir).name
            words += ["--data-dir", folder]
        base = base_of(self.recipe)
        words += ["--recipe", base.name]
        for name, value in self.unlike(base).items():
            words += ["--set", setting(name, value)]
        for name, value in self.options:
            words += ["--model-option", setting(name, value)]
        if self.init:
            words += ["--init", self.init if located else Path(self.init).name]
            words += ["--allow-partial"] * self.allow_partial
            words += {None: [], True: ["--ema"], False: ["--no-ema"]}[self.init_average]
        if self.evaluated_on != replace(self, evaluate="auto").evaluated_on:
            words += ["--evaluate", self.evaluated_on]
        if self.stretch:
            words += ["--stretch", self.stretch]
        for name in RANGES:
            default = type(self).__dataclass_fields__[name].default
            if name == "seed" or getattr(self, name) != default:
                words += [f"--{name.replace('_', '-')}", f"{getattr(self, name)}"]
        return shlex.join(words)

    def unlike(self, base: Recipe) -> dict[str, object]:
        """The fields of the recipe that must be said beside `base`, with their values: not what
        "auto" comes to anyway, on this machine.
        """
        meant = {
            "preprocessing": preprocessing_of(self),
            "precision": precision_of(default_device()),
        }
        # steps are said where a base counts them and this recipe does not
        own = self.recipe.canonical() | {
            "precision": self.recipe.precision,
            "steps": self.recipe.steps,
        }
        different = {}
        for name, value in own.items():
            theirs = getattr(base, name)
            theirs = meant[name] if theirs == "auto" and value != "auto" else theirs
            value = tuple(value) if isinstance(value, list) else value
            if value != theirs:
                different[name] = value
        return different


# Fields that are plain values, with their types.
PLAIN: dict[str, type] = {
    **dict.fromkeys(("seed", "image_size", "train_images", "test_images", "split_seed"), int),
    **dict.fromkeys(("fraction", "class_fraction", "validation", "test_fraction"), float),
    **dict.fromkeys(("data_dir", "init", "evaluate", "stretch"), str),
    **dict.fromkeys(("allow_partial", "init_average"), bool),
}
YOUNGER = ("test_fraction", "stretch")
EVALUATE = ("auto", "validation", "test")
# Smallest and largest values of those that are numbers, in the order of a command.
RANGES: dict[str, tuple[float, float]] = {
    "image_size": (1, 2**16),
    "fraction": (0, 1),
    "class_fraction": (0, 1),
    "train_images": (1, 2**40),
    "test_images": (1, 2**40),
    "split_seed": (0, LARGEST),
    "test_fraction": (0, 1),
    "validation": (0, 1),
    "seed": (0, LARGEST),
}


def default_device() -> torch.device:
    """Where a run goes when nobody says: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision_of(device: torch.device) -> str:
    """What "auto" means on a device: bfloat16 where a GPU has it."""
    bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if bfloat16 else "float32"


def preprocessing_of(run: Run) -> str:
    """What "auto" means for a run: given weights are used to their own network's preprocessing."""
    return "network" if run.init is not None else "data"


def base_of(recipe: Recipe) -> Recipe:
    """The recipe of the table that a recipe was made from, by its name, or else the one from which
    the fewest fields differ. Only a beginning: `Run.unlike` compares all values.
    """
    if (named := recipe.name.partition("+")[0]) in RECIPES:
        return RECIPES[named]
    own = recipe.canonical().items()

    def alike(base: Recipe) -> int:
        theirs = base.canonical()
        return sum(name in theirs and theirs[name] == value for name, value in own)

    return max(RECIPES.values(), key=alike)


@lru_cache(maxsize=1)
def _read_weights(
    path: str, average: bool | None, version: tuple[int, ...] | None
) -> tuple[dict[str, Tensor], str]:
    """Kept, as naming a run needs them each time, and beginning it does; `version` tells an
    overwritten file from the older.
    """
    weights = read_weights(path, average=average)
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
