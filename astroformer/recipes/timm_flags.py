"""What a command line of timm's train.py means as a recipe. The Astroformer README's "recipe" is
such a command and nothing else.

`read(words)` takes the words of a command as they stand, launcher and script included, with the
script's own defaults for what they do not say. `timm_table.FLAGS` says what each flag becomes here.

Reads top to bottom: what a reading is, the parser, `read`, what is refused, the launcher, the
fields of the recipe, the other options, what was said in vain.
"""

import argparse
import difflib
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath

from astroformer.recipes.astroformer import README
from astroformer.recipes.recipe import TOLD, Recipe, replace, setting
from astroformer.recipes.timm_table import ALIASES, CANNOT, FLAGS, NOTHING, Flag
from astroformer.sizes import NAMES, TIMM

__all__ = ["CANNOT", "FLAGS", "NOTHING", "README_COMMAND", "Flag", "Reading", "parser", "read"]

# an optimizer with one of these in its name gets the rate that grows as the root of the batch
ADAPTIVE = ("ada", "lamb")
# Flags that are switches of `astroformer train`, of a run's speed.
SWITCHES = {
    "--channels-last": "--channels-last",
    "--torchcompile": "--compile",
    "--grad-checkpointing": "--grad-checkpointing",
}
# Flags whose value is that of an option of `astroformer train`.
SAME = {"--seed": "--seed", "--device": "--device", "--workers": "--workers"}
AMP = ("--amp", "--native-amp", "--apex-amp")
# What other programs call a data set.
SYNONYMS = {
    **dict.fromkeys(("", "image_folder", "imagefolder"), "folder"),
    **dict.fromkeys(("imagenet", "imagenet_1k", "imagenet2012", "ilsvrc2012"), "imagenet1k"),
    "cifar_10": "cifar10",
    "cifar_100": "cifar100",
    "svhn_cropped": "svhn",
    **dict.fromkeys(("tiny_imagenet_200", "tinyimagenet"), "tiny_imagenet"),
}
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
    model: str | None = None  # the network that it names
    dataset: str = "folder"
    sized: bool = False  # whether it says the size of an image
    processes: int | None = None  # how many it says; None: the 8 of the README were taken

    def command(self, *, image_size: int | None = None) -> str:
        """The same training here. ROOT stands for the folder of images where the command line
        names none; `image_size` for the size where it says none, in pixels.
        """
        base, start = README.name, asdict(README)
        changed = [
            shlex.join(["--set", setting(name, value)])
            for name, value in asdict(self.recipe).items()
            if name not in TOLD and value != start[name]
        ]
        size = [f"--image-size {image_size}"] * (image_size is not None and not self.sized)
        return " ".join(["astroformer train", self.options, *size, f"--recipe {base}", *changed])


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise ValueError(f"recipe from-timm: {message}")


def parser() -> argparse.ArgumentParser:
    """Of the flags in FLAGS; what is not given is None (a switch: False). A flag may be shortened,
    as train.py's own parser allows.
    """
    made = _Parser(
        prog="astroformer recipe from-timm",
        description="The `astroformer train` line that a command line of timm's train.py means, "
        "pasted as it stands.",
    )
    made.add_argument("data", nargs="?", help="the folder of images")
    for name, flag in FLAGS.items():
        names = [name, *ALIASES.get(name, ())]
        text = f"{flag.decides}: {flag.meaning}"
        if flag.kind is None:
            made.add_argument(*names, action="store_true", help=text)
        else:
            const = {"const": ""} if flag.values == "?" else {}
            made.add_argument(*names, type=flag.kind, nargs=flag.values, help=text, **const)
    return made


def read(words: Sequence[str]) -> Reading:
    """The recipe that the words of a command line mean: those of a shell, or one text that is
    split as a shell would. ValueError for an unknown flag, naming the nearest ones, and for values
    that no recipe here can express.
    """
    words, processes = _launched(_split(words))
    given, unknown = parser().parse_known_args(words)
    folder = given.data
    if folder is None and unknown and not unknown[0].startswith("-"):
        folder = unknown.pop(0)  # behind flags argparse does not find it
    if unknown:
        raise _unknown(unknown[0])
    said = {name: getattr(given, _key(name)) for name in FLAGS}
    said = {n: None if v is False or v == [] else v for n, v in said.items()}
    if said["--gpus"] is None:
        said["--gpus"] = processes
    values = {
        name: flag.default if said[name] is None else said[name] for name, flag in FLAGS.items()
    }
    _check(said, values)
    return Reading(
        replace(README, **_fields(values)),
        shlex.join(_options(folder, values)),
        tuple(_warnings(said, values)),
        model=values["--model"],
        dataset=dataset_name(values["--dataset"]),
        sized=bool(values["--input-size"] or values["--img-size"]),
        processes=said["--gpus"],
    )


def _key(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _unknown(word: str) -> ValueError:
    near = difflib.get_close_matches(word.partition("=")[0], FLAGS, n=3, cutoff=0.6)
    return ValueError(
        f"{word!r} is not a flag that a recipe can be read from; "
        + (
            f"the nearest are {', '.join(near)}"
            if near
            else "`astroformer recipe from-timm --help` lists them"
        )
    )


# What is refused


def _check(said: Mapping[str, object], values: Mapping[str, object]) -> None:
    """ValueError for what would be another training than any recipe's: all of it in one line."""
    refused = [
        f"{name}{_written(said[name])} has no recipe here: {flag.meaning}; leave it out"
        + "".join(f" or give {one}" for one in flag.only if not isinstance(one, tuple))
        for name, flag in FLAGS.items()
        if said[name] is not None and _is_refused(name, flag, values)
    ]
    if values["--aa"] and not values["--aa"].startswith("rand"):
        refused.append(
            f"--aa {values['--aa']} has no recipe here: only RandAugment in timm's "
            "words, such as rand-m9-mstd0.5-inc1"
        )
    if values["--lr-base-scale"] not in ("", "linear", "sqrt"):
        refused.append(
            f"--lr-base-scale {values['--lr-base-scale']} is not known; give linear or sqrt"
        )
    for name in ("--gpus", "--batch-size", "--grad-accum-steps", "--lr-base-size"):
        if values[name] < 1:
            refused.append(f"{name} {values[name]} is too few; give at least 1")
    size = values["--input-size"]
    if size and (size[0] != 3 or size[1] != size[2]):
        refused.append(
            f"--input-size {' '.join(map(str, size))} is not a square image of three "
            "channels; give 3 256 256, say"
        )
    if refused:
        raise ValueError(". ".join(refused))


def _is_refused(name: str, flag: Flag, values: Mapping[str, object]) -> bool:
    """Whether a flag that was given asks for another training than any recipe's."""
    if not (flag.decides == CANNOT or flag.only) or not flag.when(values):
        return False
    value = tuple(values[name]) if isinstance(values[name], list) else values[name]
    return value not in flag.only and value != _usual(name, values)


def _usual(name: str, values: Mapping[str, object]) -> object:
    """What a network or an optimizer has anyway of a flag, where only timm knows it."""
    if name in ("--mean", "--std"):
        import timm

        described = timm.get_pretrained_cfg(values["--model"]) if values["--model"] else None
        return described and getattr(described, _key(name))
    if name not in ("--opt-eps", "--opt-betas", "--momentum"):
        return None
    import inspect

    from timm.optim import get_optimizer_class, get_optimizer_info

    optimizer = values["--opt"].lower().rpartition("_")[2]  # of lookahead_radam
    try:
        if name == "--momentum":  # train.py gives it to optimizers that have one
            has = get_optimizer_info(optimizer).has_momentum
            return None if has else values[name]
        takes = inspect.signature(get_optimizer_class(optimizer, bind_defaults=False)).parameters
    except ValueError as error:
        raise ValueError(f"--opt {values['--opt']} is no optimizer of timm's") from error
    own = takes.get(_key(name).removeprefix("opt_"))
    return None if own is None else own.default


def _written(value: object) -> str:
    if value is True:
        return ""
    return f" {' '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"


# The launcher

BETWEEN = {";", "&&", "||", "|", "&"}  # between two commands of a line
REDIRECTED = re.compile(r"(\d?|&)(>>?|<)(&\d)?(.*)")
PROCESSES = re.compile(r"(?:^| )--?(?:nproc[_-]per[_-]node|num[_-]processes|ntasks|np|n)[ =](\S+)")
NODES = re.compile(r"(?:^| )--?nnodes[ =](\d+)(?: |$)")


def _split(words: Sequence[str]) -> list[str]:
    """The words of the command that trains. One text alone is split as a shell would, with
    lines that go on behind a backslash; other commands of the line and redirections are left out.
    """
    if len(words) != 1 or len(words[0].split()) == 1:
        # an empty word may be a value, a broken end of a line is none
        return [word for word in words if not word or word.strip(" \\\n\r\t")]
    text = re.sub(r"\\[ \t]*\r?\n", " ", words[0])
    try:
        split = shlex.split(re.sub(r"(?<=\S);(?=\s|$)", " ;", text))
    except ValueError as error:
        raise ValueError(f"the command line cannot be split into words ({error})") from error
    commands: list[list[str]] = [[]]
    left_out = False
    for word in split:
        redirected = REDIRECTED.fullmatch(word)
        if word in BETWEEN:
            commands.append([])
        elif redirected:
            left_out = not redirected[3] and not redirected[4]  # the next word is the file
        elif left_out or word in ("$", "!", "%"):
            left_out = False
        else:
            commands[-1].append(os.path.expandvars(word.lstrip("!")))
    return next((one for one in commands if any(map(_is_flag, one))), commands[0])


def _is_flag(word: str) -> bool:
    name = word.partition("=")[0]
    return name in FLAGS or any(name in others for others in ALIASES.values())


def _launched(words: list[str]) -> tuple[list[str], int | None]:
    """The words behind the script, and how many processes the launcher starts. Without a script:
    the words, and None.
    """
    first = next((number for number, word in enumerate(words) if _is_flag(word)), len(words))
    scripts = [
        number
        for number, word in enumerate(words[:first])
        if PurePath(word).suffix in (".py", ".sh")
    ]
    if not scripts:
        return words, None
    launcher, script, rest = words[: scripts[-1]], words[scripts[-1]], words[scripts[-1] + 1 :]
    if script.endswith(".sh"):  # distributed_train.sh NUMBER
        number, rest = (rest[0], rest[1:]) if rest[:1] and not _is_flag(rest[0]) else ("", rest)
        return rest, _number(number, launcher)
    found = PROCESSES.search(" ".join(launcher))
    nodes = NODES.search(" ".join(launcher))
    here = _number(found[1], launcher) if found else 1
    return rest, here * (int(nodes[1]) if nodes else 1)


def _number(word: str, launcher: Sequence[str]) -> int:
    """A number of processes; where it is a word such as "gpu", that of the GPUs that the launcher
    is shown.
    """
    if word.isdigit():
        return int(word)
    shown = [one.partition("=")[2] for one in launcher if one.startswith("CUDA_VISIBLE_DEVICES=")]
    if not shown:
        raise ValueError(
            f"how many processes {word or 'the script'!r} starts cannot be told; say it with "
            "--gpus N"
        )
    return len(shown[-1].split(","))


# The recipe


def learning_rate(values: Mapping[str, object]) -> float:
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


def _fields(values: Mapping[str, object]) -> dict[str, object]:
    """Every field of a recipe that the flags decide."""
    parts = values["--gpus"] * values["--grad-accum-steps"]
    # what one BatchNorm sees
    together = values["--batch-size"] * (values["--gpus"] if values["--sync-bn"] else 1)
    augmented, jitter = (
        not values["--no-aug"],
        values["--color-jitter"] if _jitters(values) else 0.0,
    )
    return dict(
        epochs=values["--epochs"],
        batch_size=parts * values["--batch-size"],
        micro_batch_size=together if together < parts * values["--batch-size"] else 0,
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
        precision="auto" if any(values[name] for name in AMP) else "float32",
        preprocessing="network",
    )


def _jitters(values: Mapping[str, object]) -> bool:
    """timm leaves colours alone beside RandAugment, unless its words hold "3a"."""
    return not values["--aa"] or "3a" in values["--aa"]


def dataset_name(name: str | None) -> str:
    """Of a data set by its name in timm, which is the reader's and its own (torch/cifar100,
    tfds/cifar10:3.0.2), in letters of either case.
    """
    own = (name or "").partition(":")[0].rpartition("/")[2].lower().replace("-", "_")
    return SYNONYMS.get(own, own)


def network_name(name: str) -> str:
    """The name here of a network that timm calls so: any but those of this project is timm/NAME."""
    if name in NAMES:
        return name
    import timm

    return f"{TIMM}{name}" if timm.is_model(name) else name


def _options(folder: str | None, values: Mapping[str, object]) -> list[str]:
    """The words of `astroformer train` that are about no recipe."""
    words = ["--model", network_name(values["--model"])] if values["--model"] else []
    words += ["--dataset", dataset_name(values["--dataset"])]
    words += ["--data-dir", values["--data-dir"] or folder or "ROOT"]
    size = values["--input-size"][1] if values["--input-size"] else values["--img-size"]
    words += ["--image-size", str(size)] if size else []
    begun_with = values["--initial-checkpoint"] or values["--pretrained-path"]
    words += ["--init", begun_with] if begun_with else []
    for option in values["--model-kwargs"] or ():
        words += ["--model-option", option]
    for flag, option in SAME.items():
        words += [] if values[flag] is None else [option, str(values[flag])]
    return words + [switch for flag, switch in SWITCHES.items() if values[flag] is not None]


def _warnings(said: Mapping[str, object], values: Mapping[str, object]) -> list[str]:
    """One line for each flag that was given and has no effect."""
    idle = {
        name: flag.meaning
        if flag.when(values)
        else "train.py does not look at it beside the other flags"
        for name, flag in FLAGS.items()
        if flag.decides in (NOTHING, CANNOT)
    }
    if values["--lr"]:
        idle |= dict.fromkeys(
            ("--lr-base", "--lr-base-size", "--lr-base-scale"), "--lr gives the rate itself"
        )
    if values["--input-size"]:
        idle["--img-size"] = "--input-size gives the size of an image"
    if values["--initial-checkpoint"]:
        idle["--pretrained-path"] = "--initial-checkpoint is taken after it"
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
    lines = [
        f"{name} changes nothing here: {why}"
        for name, why in idle.items()
        if said[name] is not None
    ]
    if values["--model-ema"] and not values["--model-ema-warmup"]:
        lines.append(
            "--model-ema: the decay grows towards --model-ema-decay here, as it does in train.py "
            "with --model-ema-warmup"
        )
    return lines
