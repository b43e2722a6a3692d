"""What a recipe is: every hyper-parameter with its unit and its meaning. Zero or "" switches a
thing off.

How fast a run goes, and on what, is no part of it: `training.execution.Execution`.
"""

import math
import numbers
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from dataclasses import replace as _replace

SAMPLINGS = ("shuffled", "stratified", "balanced")  # see data.augment.order_of_epoch
# Fields that recipes of older records have; they are switches of `Execution` now.
RETIRED = {"channels_last": "--channels-last", "compile": "--compile"}
# What older records did without saying so.
BEFORE = {"preprocessing": "data", "interpolation": "bicubic", "erase_mode": "const"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    source: str  # document and section, or who chose the values
    # whose they are: "published" all of them, "partly ours", or "ours"
    values: str = "ours"

    epochs: int = 0  # passes over the training images
    # optimizer steps, however many images there are; where they are given, epochs do not count
    steps: int = 0
    batch_size: int  # images per optimizer step, all ranks together
    # images per forward pass (BatchNorm sees that many); 0 means the whole batch
    micro_batch_size: int = 0
    # or "stratified": each batch in the data's proportions; "balanced": all classes alike
    sampling: str = "shuffled"

    # a name of timm's optimizer factory; "lookahead_radam" wraps one in Lookahead
    optimizer: str = "adamw"
    # where the cosine begins, at this batch size; after a warm-up by steps the cosine has already
    # fallen a little, since it counts from the first step (timm without --warmup-prefix)
    learning_rate: float
    warmup_epochs: float = 0.0  # linear, from warmup_learning_rate towards learning_rate
    warmup_part: float = 0.0  # the same as a part of `steps`, where they are given
    warmup_learning_rate: float = 0.0
    final_learning_rate: float = 0.0  # where the cosine ends
    # "step", or "epoch": changed between epochs alone, see training.schedule.rate_of_epoch
    schedule: str = "step"
    # decoupled for "adamw", an L2 term of the gradient for "adam" and "radam"
    weight_decay: float = 0.0
    # on every parameter; else not on norms, biases, bias tables, tokens, positions
    decay_all: bool = False
    clip_grad: float = 0.0  # largest norm of all gradients together
    # of an exponential moving average of the weights, which is then evaluated; the decay grows
    # towards this value (timm's --model-ema-warmup), or a short run would keep its first weights
    ema_decay: float = 0.0

    # weights that change: "all", or those of the "classifier" on the features of the others
    trained: str = "all"

    label_smoothing: float = 0.0  # probability mass spread evenly over classes
    # "all" classes (as PyTorch has it), or the "others", the true one not among them
    smoothing_over: str = "all"
    drop_rate: float = 0.0  # dropout before the classifier
    drop_path_rate: float = 0.0  # stochastic depth of the last block, growing linearly from 0

    # mean, deviation and the crop of evaluation: those of the "data" at hand, or those that the
    # "network" was described with (timm's pretrained_cfg); "auto": the network's where it begins
    # with given weights, else the data's
    preprocessing: str = "auto"
    crop: str = "none"  # "none", "pad" (an eighth on each side, then crop) or "random-resized"
    crop_scale: tuple[float, float] = (0.08, 1.0)  # part of the area, for "random-resized"
    # of random-resized crops and RandAugment: "bicubic", "bilinear", or either at "random" (timm)
    interpolation: str = "bicubic"
    hflip: float = 0.0  # probability of a reflection, left to right
    vflip: float = 0.0  # probability of a reflection, top to bottom
    rotate90: bool = False  # by 0, 90, 180 or 270 degrees
    randaugment: str = ""  # timm's words, such as "rand-m9-mstd0.5-inc1"
    # "cifar10" or "svhn", torchvision's policies; with "-released", see augment.py
    autoaugment: str = ""
    color_jitter: float = 0.0  # largest relative change of brightness, contrast, saturation
    # where crops, flips and colours are made: on the "host", image by image, or on the "device",
    # many at once: the same distributions from another stream of random numbers
    augmentation: str = "host"
    mixup: float = 0.0  # alpha of the Beta distribution
    mixup_mode: str = "batch"  # one mixing weight a "batch", or one for each "elem"
    # "either" Mixup or CutMix for a batch, by half where both are on, always the one where one is
    # (timm); or "independent": a batch draws for each of them on its own, by half, so that one does
    # not halve the other, both may come, and one alone comes to half of the batches
    mixing: str = "either"

    cutmix: float = 0.0  # alpha; regional dropout, for ablation
    cutout: float = 0.0  # probability of one erased rectangle; regional dropout, for ablation
    # of the erased square, as a part of the image's side (DeVries & Taylor 2017); 0 erases a
    # rectangle of random size and shape instead (timm's RandomErasing)
    cutout_side: float = 0.0
    erase_mode: str = "const"  # the rectangle's: "const" (the mean), one colour at "rand", "pixel"
    dropblock: float = 0.0  # part of the features; regional dropout, for ablation
    # "stages": after each, 7 x 7, at one rate; "paper": see training.dropblock
    dropblock_form: str = "stages"

    # "float32", "bfloat16" (autocast), or "auto": bfloat16 where a GPU has it
    precision: str = "auto"

    def __post_init__(self):
        for field in fields(self):  # 2 and 2.0 are one value, and so are a list and a tuple
            value = converted(
                field.type, getattr(self, field.name), f"recipe {self.name}", field.name
            )
            object.__setattr__(self, field.name, value)
        object.__setattr__(self, "optimizer", self.optimizer.lower())
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                known = ", ".join(choice or '""' for choice in choices)
                raise self._wrong(f'{name}="{getattr(self, name)}" is not known; choose {known}')
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                bounds = f"at least {least:g}" if math.isinf(most) else f"{least:g} to {most:g}"
                raise self._wrong(
                    f"{name} {getattr(self, name):g} is out of range; choose {bounds}"
                )
        if not (self.epochs or self.steps):
            raise self._wrong("nothing says how long to train; give epochs or steps")
        if not self.steps and self.warmup_epochs > self.epochs:
            raise self._wrong(
                f"warmup_epochs {self.warmup_epochs:g} is more than epochs {self.epochs}"
            )
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise self._wrong(f"crop_scale {low:g},{high:g} is not 0 < smallest <= largest <= 1")
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise self._wrong(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size "
                f"{self.micro_batch_size}"
            )
        self._check_pairs()
        if self.schedule == "epoch" and self.steps:
            raise self._wrong(
                'schedule="epoch" changes the rate between epochs, and steps are given; choose '
                'steps=0 or schedule="step"'
            )
        if self.schedule == "epoch" and (self.warmup_epochs < 1 or self.warmup_epochs % 1):
            raise self._wrong(
                'schedule="epoch" warms up over whole epochs, at least one, not '
                f'{self.warmup_epochs:g}; choose another warmup_epochs or schedule="step"'
            )
        if self.smoothing_over == "others" and self.label_smoothing and (self.mixup or self.cutmix):
            raise self._wrong(
                'Mixup and CutMix smooth over all classes; choose smoothing_over="all"'
            )

    @property
    def images_at_once(self) -> int:
        """Images per forward pass, which BatchNorm sees."""
        return self.micro_batch_size or self.batch_size

    def _check_pairs(self) -> None:
        """Mixup and CutMix mix the images of a forward pass in pairs."""
        name = "micro_batch_size" if self.micro_batch_size else "batch_size"
        if (self.mixup or self.cutmix) and getattr(self, name) % 2:
            raise self._wrong(
                f"Mixup and CutMix pair images, and {name} {getattr(self, name)} is odd; "
                f"choose an even one, such as --set {name}={getattr(self, name) + 1}"
            )

    def _wrong(self, what: str) -> ValueError:
        return ValueError(f"recipe {self.name}: {what}")

    def canonical(self) -> dict[str, object]:
        """The fields that decide what a run comes to, by name, as plain values: a part of the
        run's identity. They are those of `effective`, without the fields of LATER that say what was
        done before these fields came: older runs keep their names.
        """
        usual = {field.name: field.default for field in fields(self)}
        return {
            name: value
            for name, value in self.effective().items()
            if name not in LATER or value != usual[name]
        }

    def effective(self) -> dict[str, object]:
        """The fields that have an effect, by name, as plain values. Not what is told of the recipe
        (TOLD), not the precision (which an identity holds beside the recipe), and no field that has
        no effect beside the others: a Mixup mode without Mixup.
        """
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in (*TOLD, "precision")
        }
        if self.micro_batch_size == self.batch_size:
            values["micro_batch_size"] = 0
        return {
            name: value
            for name, value in values.items()
            if name not in NEEDED or NEEDED[name](self)
        }

    @classmethod
    def from_record(cls, fields_of_record: dict[str, object]) -> "Recipe":
        """The recipe of a ledger record, whatever its age: fields younger than the record say what
        was done then, retired ones are left out.
        """
        kept = {name: value for name, value in fields_of_record.items() if name not in RETIRED}
        return cls(**{**BEFORE, **kept})


# Fields that tell of a recipe and change nothing.
TOLD = ("name", "source", "values")
# Fields younger than REVISION: a run whose recipe has their default is the run that it was.
LATER = ("mixing", "cutout_side", "dropblock_form", "augmentation", "trained")
# Fields that are words, with the words that each may be.
CHOICES: dict[str, tuple[str, ...]] = {
    "values": ("published", "partly ours", "ours"),
    "crop": ("none", "pad", "random-resized"),
    "interpolation": ("bicubic", "bilinear", "random"),
    "mixup_mode": ("batch", "elem", "pair"),
    "mixing": ("either", "independent"),
    "dropblock_form": ("stages", "paper"),
    "erase_mode": ("const", "rand", "pixel"),
    "preprocessing": ("auto", "data", "network"),
    "precision": ("auto", "float32", "bfloat16"),
    "schedule": ("step", "epoch"),
    "smoothing_over": ("all", "others"),
    "sampling": SAMPLINGS,
    "autoaugment": ("", "cifar10", "svhn", "cifar10-released", "svhn-released"),
    "augmentation": ("host", "device"),
    "trained": ("all", "classifier"),
}
# Fields that say how each image is changed by itself, by draws of its own.
PER_IMAGE = ("crop", "hflip", "vflip", "rotate90", "randaugment", "autoaugment", "color_jitter")
# Smallest and largest value of fields that are numbers.
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("epochs", "steps"), (0, math.inf)),
    "batch_size": (1, math.inf),
    **dict.fromkeys(
        ("micro_batch_size", "learning_rate", "warmup_epochs", "warmup_learning_rate"),
        (0, math.inf),
    ),
    **dict.fromkeys(
        ("final_learning_rate", "weight_decay", "clip_grad", "mixup", "cutmix", "color_jitter"),
        (0, math.inf),
    ),
    **dict.fromkeys(
        ("ema_decay", "label_smoothing", "drop_rate", "drop_path_rate", "hflip", "vflip", "cutout"),
        (0, 1),
    ),
    **dict.fromkeys(("cutout_side", "dropblock", "warmup_part"), (0, 1)),
}
# Fields that do something only beside others, with the condition.
NEEDED: dict[str, Callable[[Recipe], object]] = {
    "epochs": lambda recipe: not recipe.steps,
    "warmup_epochs": lambda recipe: not recipe.steps,
    "steps": lambda recipe: recipe.steps,
    "warmup_part": lambda recipe: recipe.steps,
    "warmup_learning_rate": lambda recipe: (
        recipe.warmup_part if recipe.steps else recipe.warmup_epochs
    ),
    "decay_all": lambda recipe: recipe.weight_decay,
    "smoothing_over": lambda recipe: recipe.label_smoothing,
    "crop_scale": lambda recipe: recipe.crop == "random-resized",
    "interpolation": lambda recipe: recipe.crop == "random-resized" or recipe.randaugment,
    **dict.fromkeys(("mixup_mode", "mixing"), lambda recipe: recipe.mixup or recipe.cutmix),
    **dict.fromkeys(("erase_mode", "cutout_side"), lambda recipe: recipe.cutout),
    # a classifier that is trained alone sees features as they are in evaluation
    **dict.fromkeys(
        ("drop_rate", "drop_path_rate", "dropblock"), lambda recipe: recipe.trained == "all"
    ),
    "dropblock_form": lambda recipe: recipe.dropblock and recipe.trained == "all",
    "augmentation": lambda recipe: any(
        getattr(recipe, name) not in ("", "none", 0) for name in PER_IMAGE
    ),
}


def converted(kind: type, value: object, whose: str, name: str) -> object:
    """A value as its field's type: 2 as 2.0, a list as a tuple, a NumPy number as Python's, "3" as
    3 (a batch system's parameters come as texts). ValueError for what is another value.
    """
    try:
        if isinstance(value, str) and kind is not str:
            value = _parse(kind, value)
        if kind is bool and (isinstance(value, bool) or value in (0, 1)):
            return bool(value)
        if kind is int and not isinstance(value, bool) and value == int(value):
            return int(value)
        if kind is float and isinstance(value, numbers.Real) and math.isfinite(value):
            return float(value)
        if kind is str and isinstance(value, str):
            return str(value)
        if kind == tuple[float, float]:
            low, high = value
            return float(low), float(high)
    except (ValueError, TypeError, KeyError, OverflowError):
        pass
    raise ValueError(f"{whose}: {name} {value!r} is not {_words(kind)}")


def _words(kind: type) -> str:
    known = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
    return known.get(kind, "two numbers, such as 0.2,1.0")


def replace(recipe: Recipe, **changes) -> Recipe:
    """The recipe with some fields changed; its name says which (`smoke+epochs=3`), in the order of
    the fields' names. A published recipe is "partly ours" then. An unknown field raises and lists
    them.
    """
    types = {field.name: field.type for field in fields(Recipe)}
    for name in changes:
        if name not in types:
            raise unknown_field(name)
    changes = {
        name: converted(types[name], value, f"recipe {recipe.name}", name)
        for name, value in changes.items()
    }
    values = changes.pop("values", None)
    changes = {name: value for name, value in changes.items() if getattr(recipe, name) != value}
    if values is None and recipe.values == "published" and set(changes) - {*TOLD, "precision"}:
        values = "partly ours"
    base, *parts = re.split(r"\+(?=[a-z_0-9]+=)", recipe.name)
    named = {part.partition("=")[0]: part for part in parts}
    named |= {name: setting(name, value) for name, value in changes.items()}
    label = "+".join([base, *(named[name] for name in sorted(named))])
    return _replace(recipe, **{"name": label, "values": values or recipe.values, **changes})


def unknown_field(name: str) -> ValueError:
    if name in RETIRED:
        return ValueError(
            f"{name} is no field of a recipe any more, since it changes the speed alone: "
            f"say {RETIRED[name]} or --no{RETIRED[name][1:]}"
        )
    known = ", ".join(sorted(field.name for field in fields(Recipe)))
    return ValueError(f"a recipe has no field {name!r}; its fields are {known}")


def setting(name: str, value: object) -> str:
    """A field as `parse_changes` reads it: "epochs=3", "crop_scale=0.2,1.0". Python's shortest text
    of a number, so that it is read back as the same number.
    """
    return f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"


def parse_changes(settings: list[str]) -> dict[str, object]:
    """`["epochs=3", "rotate90=true"]` -> values of the fields' types."""
    types = {field.name: field.type for field in fields(Recipe)}
    changes: dict[str, object] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or name in TOLD:
            settable = ", ".join(sorted(set(types) - {*TOLD}))
            raise ValueError(
                f"{text!r} is not FIELD=VALUE with a field of a recipe; they are {settable}"
            )
        if name not in types:
            raise unknown_field(name)
        changes[name] = converted(types[name], value, f"--set {name}", name)
    return changes


def _parse(kind: type, text: str) -> object:
    """A text as a value of a field's type. ValueError for what is none."""
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
    if kind == tuple[float, float]:
        low, high = text.strip("()[] ").split(",")
        return float(low), float(high)
    number = float(text)
    return int(text) if kind is int and text.strip().lstrip("+-").isdigit() else number
