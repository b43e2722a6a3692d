"""What a command line of timm's train.py means as a recipe. The Astroformer README's "recipe" is
such a command and nothing else.

`read(words)` takes the words after `distributed_train.sh 8 DATA` with the script's own defaults for
what they do not say, as of timm 0.8 (early 2023), the version that the release copied. `FLAGS` is
the table of what each flag becomes here.
"""

import argparse
import difflib
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from astroformer.recipes.astroformer import README
from astroformer.recipes.recipe import TOLD, Recipe, replace, setting

NOTHING = "nothing"  # what a flag without effect decides
# an optimizer with one of these in its name gets the rate that grows as the root of the batch
ADAPTIVE = ("ada", "lamb")


@dataclass(frozen=True)
class Flag:
    decides: str  # fields of the recipe, an option of `astroformer train`, or NOTHING
    meaning: str  # in words; for NOTHING, why
    kind: type | None = float  # of its value; None for a switch, which takes none
    default: object = None  # what train.py takes when it is not given
    values: int | None = None  # how many, where it takes several


FLAGS = {
    "--gpus": Flag(
        "batch_size, learning_rate",
        "the number behind distributed_train.sh: so many processes, each with its batch",
        int,
        8,
    ),
    "--dataset": Flag(
        "--dataset",
        "the data set, by its name here or in timm (torch/cifar100)",
        str,
    ),
    "--data-dir": Flag("--data-dir", "where its files lie", str),
    "--train-split": Flag(NOTHING, "the name of a folder; here a data set's own `train`", str),
    "--val-split": Flag(
        NOTHING,
        "the name of a folder; here a data set's own `test`, evaluated "
        "with the last epoch's weights",
        str,
    ),
    "--model": Flag("--model", "the network", str),
    "--num-classes": Flag(NOTHING, "the classifier is made for the classes of the data set", int),
    "--img-size": Flag(
        NOTHING,
        "the released train.py never passes it to the network, which is "
        "built for 224 pixels; images have "
        "the size of --input-size",
        int,
    ),
    "--in-chans": Flag(NOTHING, "images have three channels", int, 3),
    "--input-size": Flag("--image-size", "channels, height, width of an image", int, values=3),
    "--batch-size": Flag(
        "batch_size, micro_batch_size",
        "images of one process at a time, and what its BatchNorm sees",
        int,
        128,
    ),
    "--grad-accum-steps": Flag(
        "batch_size, learning_rate", "batches of a process in one step of the optimizer", int, 1
    ),
    "--opt": Flag("optimizer", "a name of timm's optimizer factory", str, "sgd"),
    "--sched": Flag("schedule", "the cosine", str, "cosine"),
    "--sched-on-updates": Flag(NOTHING, "the rate moves with every step in any case", None),
    "--lr": Flag("learning_rate", "the rate itself; then the three of the base rate do nothing"),
    "--lr-base": Flag(
        "learning_rate",
        "times (batch of all processes / --lr-base-size), or its "
        "square root for adaptive optimizers",
        float,
        0.1,
    ),
    "--lr-base-size": Flag("learning_rate", "images to which the base rate belongs", int, 256),
    "--lr-base-scale": Flag(
        "learning_rate", "linear or sqrt; by the optimizer's name where it is not given", str, ""
    ),
    "--lr-cycle-decay": Flag(
        NOTHING, "lowers the rate from one cosine to the next, and there is one"
    ),
    "--lr-k-decay": Flag(
        NOTHING, "an exponent of the cosine's time, and 1 leaves it as it is", float, 1.0
    ),
    "--warmup-lr": Flag("warmup_learning_rate", "where the warm-up begins", float, 1e-5),
    "--min-lr": Flag("final_learning_rate", "where the cosine ends", float, 0.0),
    "--epochs": Flag("epochs", "length of the cosine, the warm-up in it", int, 300),
    "--warmup-epochs": Flag("warmup_epochs", "of these, with a rate that rises linearly", int, 5),
    "--cooldown-epochs": Flag(
        NOTHING, "epochs at --min-lr after the cosine; here a run ends with it", int, 0
    ),
    "--weight-decay": Flag("weight_decay", "not on norms and biases", float, 2e-5),
    "--clip-grad": Flag("clip_grad", "largest norm of all gradients together", float, 0.0),
    "--model-ema": Flag("ema_decay", "an average of the weights, which is then evaluated", None),
    "--model-ema-decay": Flag("ema_decay", "of that average", float, 0.9998),
    "--no-aug": Flag(
        "crop, hflip, vflip, color_jitter, randaugment",
        "the whole image and nothing else, whatever other flags say",
        None,
    ),
    "--scale": Flag(
        "crop_scale",
        "smallest and largest part of the area that a random crop keeps",
        float,
        (0.08, 1.0),
        values=2,
    ),
    "--hflip": Flag("hflip", "probability of a reflection, left to right", float, 0.5),
    "--vflip": Flag("vflip", "probability of a reflection, top to bottom", float, 0.0),
    "--color-jitter": Flag(
        "color_jitter", "largest relative change of brightness, contrast, saturation", float, 0.4
    ),
    "--aa": Flag("randaugment", "RandAugment in timm's words", str, ""),
    "--reprob": Flag("cutout", "probability of an erased rectangle", float, 0.0),
    "--remode": Flag(
        "erase_mode", "the rectangle's filling: const, rand (one colour) or pixel", str, "pixel"
    ),
    "--train-interpolation": Flag(
        "interpolation", "of random crops and RandAugment: bicubic, bilinear, random", str, "random"
    ),
    "--mixup": Flag("mixup", "alpha of the Beta distribution", float, 0.0),
    "--cutmix": Flag("cutmix", "alpha of the Beta distribution", float, 0.0),
    "--mixup-mode": Flag("mixup_mode", "one mixing weight a batch, pair or elem", str, "batch"),
    "--smoothing": Flag("label_smoothing", "spread over all classes", float, 0.1),
    "--drop": Flag("drop_rate", "dropout before the classifier", float, 0.0),
    "--drop-path": Flag("drop_path_rate", "stochastic depth of the last block", float, 0.0),
    "--drop-block": Flag("dropblock", "part of the features that is erased", float, 0.0),
    "--channels-last": Flag("--channels-last", "memory layout, for speed", None),
    "--torchcompile": Flag("--compile", "torch.compile, for speed", None),
    "--amp": Flag(
        "precision", "half precision where a GPU has it, bfloat16 here; without it float32", None
    ),
    "--amp-impl": Flag(
        NOTHING, "apex or native, whose float16 with a scaled loss is bfloat16 here", str
    ),
    "--save-images": Flag(NOTHING, "writes batches as pictures into the output folder", None),
    "--log-wandb": Flag(
        NOTHING,
        "sends the numbers of each epoch to a service; `astroformer train --log wandb` does",
        None,
    ),
    "--output": Flag(NOTHING, "a folder for checkpoints; here ASTROFORMER_RUNS", str),
}
SHORT = {"--batch-size": "-b"}
SWITCHES = {"--channels-last": "channels-last", "--torchcompile": "compile"}  # of a run's speed
# The README's command for Galaxy10 DECals, after `distributed_train.sh 8 [/path/to/dataset]`.
README_COMMAND = (
    "--train-split TRAIN --val-split VAL --model astroformer_5 --num-classes 10 --img-size 256 "
    "--in-chans 3 --input-size 3 256 256 "
    "--batch-size 256 --grad-accum-steps 1 --opt adamw --sched cosine --lr-base 2e-5 "
    "--lr-cycle-decay 1e-2 --lr-k-decay 1 "
    "--warmup-lr 1e-5 --epochs 300 --warmup-epochs 5 --mixup 0.8 --smoothing 0.1 --drop 0.1 "
    "--save-images --amp --amp-impl apex "
    "--output result_ours/astroformer_5_galaxy10 --log-wandb"
)


@dataclass(frozen=True)
class Reading:
    """The recipe of a command line, the other options of `astroformer train` that it asks for,
    and what was said in vain.
    """

    recipe: Recipe
    options: str
    warnings: tuple[str, ...]

    def command(self) -> str:
        """The same training here. ROOT stands for the folder of images where the command line
        names none.
        """
        base, start = README.name, asdict(README)
        changed = [
            shlex.join(["--set", setting(name, value)])
            for name, value in asdict(self.recipe).items()
            if name not in TOLD and value != start[name]
        ]
        return " ".join(["astroformer train", self.options, f"--recipe {base}", *changed])


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise ValueError(f"recipe from-timm: {message}")


def parser() -> argparse.ArgumentParser:
    """Of the flags in FLAGS; what is not given is None (a switch: False)."""
    made = _Parser(
        prog="astroformer recipe from-timm",
        allow_abbrev=False,
        description="The recipe that the flags of timm's train.py mean, as the "
        "Astroformer README gives them.",
    )
    made.add_argument("data", nargs="?", help="the folder of images")
    for name, flag in FLAGS.items():
        names = [name, SHORT[name]] if name in SHORT else [name]
        text = f"{flag.decides}: {flag.meaning}"
        if flag.kind is None:
            made.add_argument(*names, action="store_true", help=text)
        else:
            made.add_argument(*names, type=flag.kind, nargs=flag.values, help=text)
    return made


def read(words: Sequence[str]) -> Reading:
    """The recipe that the words of a command line mean. ValueError for an unknown flag, naming the
    nearest ones, and for values that no recipe here can express.
    """
    given, unknown = parser().parse_known_args(list(words))
    if unknown:
        near = difflib.get_close_matches(unknown[0].partition("=")[0], FLAGS, n=3, cutoff=0.6)
        raise ValueError(
            f"{unknown[0]!r} is not a flag that a recipe can be read from; "
            + (
                f"the nearest are {', '.join(near)}"
                if near
                else "`astroformer recipe from-timm --help` lists them"
            )
        )
    said = {name: getattr(given, _key(name)) for name in FLAGS}
    _check(said)
    values = {
        name: flag.default if said[name] is None else said[name] for name, flag in FLAGS.items()
    }
    return Reading(
        replace(README, **_fields(values)),
        _options(given.data, values),
        tuple(_warnings(said, values)),
    )


def _key(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _check(said: dict[str, object]) -> None:
    """ValueError for what would be another training than any recipe's."""
    expressible = {
        "--sched": ("cosine", "schedules are cosines"),
        "--lr-k-decay": (1.0, "the cosine's time is not bent"),
        "--in-chans": (3, "images have three channels"),
    }
    for name, (value, why) in expressible.items():
        if said[name] not in (None, value):
            raise ValueError(
                f"{name} {said[name]} has no recipe here: {why}; leave it out or give {value}"
            )
    if said["--aa"] and not said["--aa"].startswith("rand"):
        raise ValueError(
            f"--aa {said['--aa']} has no recipe here: only RandAugment in timm's "
            "words, such as rand-m9-mstd0.5-inc1"
        )
    if said["--lr-base-scale"] not in (None, "", "linear", "sqrt"):
        raise ValueError(
            f"--lr-base-scale {said['--lr-base-scale']} is not known; give linear or sqrt"
        )
    for name in ("--gpus", "--batch-size", "--grad-accum-steps", "--lr-base-size"):
        if said[name] is not None and said[name] < 1:
            raise ValueError(f"{name} {said[name]} is too few; give at least 1")
    size = said["--input-size"]
    if size and (size[0] != 3 or size[1] != size[2]):
        raise ValueError(
            f"--input-size {' '.join(map(str, size))} is not a square image of three "
            "channels; give 3 256 256, say"
        )


def learning_rate(values: dict[str, object]) -> float:
    """timm's rule: the base rate times global batch / base size, or its square root for adaptive
    optimizers.
    """
    if values["--lr"]:
        return values["--lr"]
    ratio = (
        values["--gpus"]
        * values["--batch-size"]
        * values["--grad-accum-steps"]
        / values["--lr-base-size"]
    )
    adaptive = any(part in values["--opt"].lower() for part in ADAPTIVE)
    scale = values["--lr-base-scale"] or ("sqrt" if adaptive else "linear")
    return values["--lr-base"] * (ratio**0.5 if scale == "sqrt" else ratio)


def _fields(values: dict[str, object]) -> dict[str, object]:
    """Every field of a recipe that the flags decide."""
    parts = values["--gpus"] * values["--grad-accum-steps"]
    augmented, jitter = (
        not values["--no-aug"],
        values["--color-jitter"] if _jitters(values) else 0.0,
    )
    return dict(
        epochs=values["--epochs"],
        batch_size=parts * values["--batch-size"],
        micro_batch_size=values["--batch-size"] if parts > 1 else 0,
        optimizer=values["--opt"].lower(),
        learning_rate=learning_rate(values),
        warmup_epochs=values["--warmup-epochs"],
        warmup_learning_rate=values["--warmup-lr"],
        final_learning_rate=values["--min-lr"],
        weight_decay=values["--weight-decay"],
        clip_grad=values["--clip-grad"],
        ema_decay=values["--model-ema-decay"] if values["--model-ema"] else 0.0,
        label_smoothing=values["--smoothing"],
        drop_rate=values["--drop"],
        drop_path_rate=values["--drop-path"],
        crop="random-resized" if augmented else "none",
        crop_scale=tuple(values["--scale"]),
        hflip=augmented * values["--hflip"],
        vflip=augmented * values["--vflip"],
        color_jitter=augmented * jitter,
        randaugment=values["--aa"] if augmented else "",
        mixup=values["--mixup"],
        mixup_mode=values["--mixup-mode"],
        cutmix=values["--cutmix"],
        cutout=values["--reprob"],
        erase_mode=values["--remode"],
        interpolation=values["--train-interpolation"],
        dropblock=values["--drop-block"],
        precision="auto" if values["--amp"] else "float32",
        preprocessing="network",
    )


def _jitters(values: dict[str, object]) -> bool:
    """timm leaves colours alone beside RandAugment, unless its words hold "3a"."""
    return not values["--aa"] or "3a" in values["--aa"]


def _options(folder: str | None, values: dict[str, object]) -> str:
    words = [f"--model {shlex.quote(values['--model'])}"] if values["--model"] else []
    # timm's name is the reader's and the data set's, in letters of either case
    name = (values["--dataset"] or "folder").rpartition("/")[2].lower()
    name = "folder" if name == "image_folder" else name
    root = values["--data-dir"] or folder or "ROOT"
    words.append(f"--dataset {shlex.quote(name)} --data-dir {shlex.quote(root)}")
    if values["--input-size"]:
        words.append(f"--image-size {values['--input-size'][1]}")
    words += [f"--{switch}" for flag, switch in SWITCHES.items() if values[flag]]
    return " ".join(words)


def _warnings(said: dict[str, object], values: dict[str, object]) -> list[str]:
    """One line for each flag that was given and has no effect."""
    idle = {name: flag.meaning for name, flag in FLAGS.items() if flag.decides == NOTHING}
    if values["--lr"]:
        idle |= dict.fromkeys(
            ("--lr-base", "--lr-base-size", "--lr-base-scale"), "--lr gives the rate itself"
        )
    if not values["--model-ema"]:
        idle["--model-ema-decay"] = "no average is kept without --model-ema"
    if not values["--reprob"]:
        idle["--remode"] = "nothing is erased without --reprob"
    if not _jitters(values):
        idle["--color-jitter"] = "timm leaves it out beside RandAugment"
    if values["--no-aug"]:
        idle |= dict.fromkeys(
            ("--scale", "--hflip", "--vflip", "--color-jitter", "--aa"), "--no-aug is given"
        )
    return [
        f"{name} changes nothing here: {why}"
        for name, why in idle.items()
        if said[name] not in (None, False)
    ]
