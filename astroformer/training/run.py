"""One run: a frozen value that decides the outcome, whose hash is its name."""

import shlex
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import torch

from astroformer import data
from astroformer.data.augment import LARGEST
from astroformer.ledger import identity
from astroformer.models import checked_name
from astroformer.models.options import Option, checked_options
from astroformer.recipes import RECIPES, Recipe, setting
from astroformer.recipes.recipe import converted
from astroformer.training import initial
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

    model: str  # a name of `sizes.NAMES`, or timm/NAME of any network of timm's
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
    bands: str = ""  # of a folder, such as "g,r,z", see data.values
    # a table of the labels of a folder's images, see data.catalogue, and what is said of it; its
    # rows are in the fingerprint of the images
    labels: str | None = None
    label_column: str = ""
    id_column: str = ""
    votes: str = ""
    threshold: float = 0.0
    soft_targets: bool = False
    # part of train held out, on which the network is measured while it trains; 0 holds out none
    validation: float = 0.0
    # the split of the final metrics: "auto" is validation where images are held out, else test;
    # "test" beside held-out images measures on test once, at the end
    evaluate: str = "auto"
    data_dir: str | None = None  # the ImageFolder of data set `folder`
    # weights to begin with: a file, a folder, or words of initial.py; None begins with random ones
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
        if self.bands:
            bands = ",".join(data.folder_tree.parsed_bands(self.bands))
            object.__setattr__(self, "bands", bands)
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
        size = self.image_size or self.native_image_size()
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

    def native_image_size(self) -> int:
        """Pixels of the images as they come."""
        return data.native_image_size(self.dataset, self.data_dir, **self.read_by())

    @property
    def channels(self) -> int:
        """Of an image, and of the network's first layer."""
        return data.channels(self.dataset, self.data_dir, **self.read_by())

    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        return data.classes(self.dataset, self.data_dir, **self.read_by())

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
        about = data.about(self.dataset, self.data_dir, self.train_images, **self.read_by())
        return (
            self.asked()
            | {
                "data": about.sha256,
                "mirrored": sorted(sorted(pair) for pair in about.mirrored)
                if self.reflects
                else [],
                "image_size": self.image_size,
                "evaluation": self.evaluation_crop(),
                "precision": self.recipe.precision,
            }
            | self._brought()
        )

    def _brought(self) -> dict[str, object]:
        """Mean and deviation where they come with the weights to begin with; those of a network's
        own description go with its name.
        """
        if self.recipe.preprocessing != "network" or not self.init:
            return {}
        told = self.initial_weights()[0].described
        return {"normalisation": [told["mean"], told["std"]]} if told else {}

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

    def initial_weights(self) -> tuple[initial.Weights, str]:
        """The weights that `init` says, and their fingerprint."""
        return _read_weights(self.init, self.model, self.init_average, initial.version(self.init))

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
            return {name: self.described()[name] for name in ("crop_pct", "interpolation")}
        return {"crop_pct": data.DATASETS[self.dataset].crop_pct, "interpolation": "bicubic"}

    def described(self) -> dict:
        """How images are prepared for the network, by the names of `initial.DESCRIBED`: as the
        weights to begin with say it, a folder's or the hub's, else as the network is described.
        """
        weights = self.initial_weights()[0] if self.init else None
        return initial.preparation(self.model, weights)

    def images(self) -> dict[str, object]:
        """Arguments of `data.load`, beside the split, that give the images of a resolved run on
        this machine: what a checkpoint says of them.
        """
        place = self.data_dir and str(data.root_of(self.dataset, self.data_dir).resolve())
        named = {"name": self.dataset, "image_size": self.image_size, "seed": self.seed}
        table = Path(self.labels or "").expanduser()  # or a name in the folder, which it stays
        labels = str(table.resolve()) if table.is_file() else self.labels
        return named | self._of_images() | {"data_dir": place, "labels": labels}

    def _of_images(self) -> dict[str, object]:
        names = ("data_dir", "fraction", "train_images", "test_images", "split_seed", *YOUNGER)
        names += ("class_fraction", "validation", *LABELLED)
        return {name: getattr(self, name) for name in names}

    def read_by(self) -> dict[str, object]:
        """What decides which images a folder has and what they are, as arguments of `data`."""
        return {name: getattr(self, name) for name in ("stretch", "bands", *LABELLED)}

    def labelled(self) -> dict[str, object]:
        """What is said of a table of labels, for a record: its name, and its columns as far as they
        are named.
        """
        if not self.labels:
            return {}
        told = {name: value for name in LABELLED if (value := getattr(self, name))}
        return told | {"labels": Path(self.labels).name}

    def model_options(self, num_classes: int) -> dict:
        """Keyword arguments of `timm.create_model`."""
        channels = self.channels
        return dict(
            num_classes=num_classes,
            img_size=self.image_size,
            drop_rate=self.recipe.drop_rate,
            drop_path_rate=self.recipe.drop_path_rate,
            **dict(self.options),
            **({"in_chans": channels} if channels != 3 else {}),
        )

    def command(self, *, located: bool = False) -> str:
        """The line that repeats the run on a device of the same kind, quoted for a shell. A folder
        is named, as a record may be published; `located` gives its path instead, for whoever ran it
        here.
        """
        words = ["astroformer", "train", "--model", self.model, "--dataset", self.dataset]
        # a data set with a name is found by it
        if self.data_dir and (located or self.dataset == "folder"):
            folder = self.data_dir
            if not located:
                folder = data.about(self.dataset, self.data_dir, **self.read_by()).name
            words += ["--data-dir", folder]
        base = base_of(self.recipe)
        words += ["--recipe", base.name]
        for name, value in self.unlike(base).items():
            words += ["--set", setting(name, value)]
        for name, value in self.options:
            words += ["--model-option", setting(name, value)]
        if self.init:
            words += ["--init", self.init if located else initial.named(self.init)]
            words += ["--allow-partial"] * self.allow_partial
            words += {None: [], True: ["--ema"], False: ["--no-ema"]}[self.init_average]
        if self.evaluated_on != replace(self, evaluate="auto").evaluated_on:
            words += ["--evaluate", self.evaluated_on]
        for name in ("stretch", "bands", *LABELLED):
            value = self.labelled().get(name) if name in LABELLED else getattr(self, name)
            if value and name not in RANGES:
                value = self.labels if located and name == "labels" else value
                words += [f"--{name.replace('_', '-')}", *[str(value)] * (value is not True)]
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
    "threshold": float,
    **dict.fromkeys(("data_dir", "init", "evaluate", "stretch", "bands", "labels"), str),
    **dict.fromkeys(("label_column", "id_column", "votes"), str),
    **dict.fromkeys(("allow_partial", "init_average", "soft_targets"), bool),
}
YOUNGER = ("test_fraction", "stretch", "bands")
LABELLED = data.catalogue.ASKED
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
    "threshold": (0, 1),
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
    init: str, name: str, average: bool | None, version: tuple[int, ...] | None
) -> tuple[initial.Weights, str]:
    """Kept, as naming a run needs them each time, and beginning it does; `version` tells an
    overwritten file from the older.
    """
    weights = initial.weights_of(init, name, average=average)
    return weights, initial.fingerprint(weights)


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
