"""What each flag of timm's train.py becomes here: the table that `timm_flags` reads by.

Names, types and defaults are those of train.py as of timm VERSION (github.com/huggingface/
pytorch-image-models, at 3c467449 of October 2026, and what the notes of the release add). What
OLDER holds was in versions before; the release of Astroformer copied one of them, timm 0.9.10.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

VERSION = "1.0.31"
NOTHING = "nothing"  # what a flag without effect decides
CANNOT = "cannot be done here"  # what is refused, but for the values in `only`


@dataclass(frozen=True)
class Flag:
    decides: str  # fields of the recipe, an option of `astroformer train`, NOTHING or CANNOT
    meaning: str  # in words; for NOTHING and CANNOT, why
    kind: type | None = float  # of its value; None for a switch, which takes none
    default: object = None  # what train.py takes when it is not given
    values: int | str | None = None  # how many, where it takes several ("+", "*" or "?")
    only: tuple = ()  # values that it may have here, where others would be another training
    # whether train.py looks at the flag at all, given the values of the others
    when: Callable[[Mapping[str, object]], object] = lambda values: True


def _alike(decides: str, meaning: str, *names: str, kind: type | None = str, **rest):
    """Several flags of which the same is said."""
    return dict.fromkeys(names, Flag(decides, meaning, kind, **rest))


def _mixes(values: Mapping[str, object]) -> object:
    return values["--mixup"] or values["--cutmix"]


_DATA = {
    "--dataset": Flag(
        "--dataset", "the data set, by its name here or in timm (torch/cifar100)", str
    ),
    "--data-dir": Flag("--data-dir", "where its files lie", str),
    "--train-split": Flag(NOTHING, "the name of a folder; here a data set's own `train`", str),
    "--val-split": Flag(
        NOTHING,
        "the name of a folder; here a data set's own `test`, evaluated "
        "with the last epoch's weights",
        str,
    ),
    **_alike(
        NOTHING,
        "the number of images of a streamed data set; here they are counted",
        *("--train-num-samples", "--val-num-samples"),
        kind=int,
    ),
    "--dataset-download": Flag(NOTHING, "`astroformer data fetch NAME` downloads", None),
    "--dataset-trust-remote-code": Flag(
        NOTHING, "no code that comes with a data set is executed", None
    ),
    "--class-map": Flag(CANNOT, "classes are the names of the folders, in their order", str),
    "--input-img-mode": Flag(CANNOT, "images have three channels", str, only=("RGB",)),
    **_alike(
        NOTHING,
        "the name of a field; here an image has one file and one class",
        *("--input-key", "--target-key"),
    ),
    "--task": Flag(CANNOT, "an image has one class of several", str, only=("classification",)),
    **_alike(
        NOTHING,
        "belongs to --task multilabel",
        *("--target-format", "--multilabel-threshold"),
    ),
}

_NETWORK = {
    "--model": Flag("--model", "the network", str),
    "--model-kwargs": Flag("--model-option", "arguments of the network", str, values="*"),
    "--pretrained": Flag(
        CANNOT, "say --init pretrained here, or --init FILE for a file of weights", None
    ),
    "--pretrained-path": Flag("--init", "a file of weights to begin with", str),
    "--initial-checkpoint": Flag("--init", "a file of weights to begin with", str),
    "--pretrained-cfg-overlay": Flag(
        CANNOT, "a network is described by this library alone", str, values="*"
    ),
    "--num-classes": Flag(NOTHING, "the classifier is made for the classes of the data set", int),
    "--gp": Flag(CANNOT, "a network pools as it was published", str),
    "--img-size": Flag(
        "--image-size",
        "height and width of an image, unless --input-size says them; the release builds every "
        "network for 224 pixels all the same",
        int,
    ),
    "--in-chans": Flag(NOTHING, "images have three channels", int, 3, only=(3,)),
    "--input-size": Flag("--image-size", "channels, height, width of an image", int, values=3),
    **_alike(
        CANNOT,
        "images are normalised as the network was described (or, by --set preprocessing=data, by "
        "their own mean and deviation)",
        *("--mean", "--std"),
        kind=float,
        values="+",
    ),
    **_alike(
        CANNOT,
        "a classifier begins as the network's own file draws it",
        *("--head-init-scale", "--head-init-bias"),
        kind=float,
    ),
    **_alike(
        CANNOT,
        "BatchNorm has the numbers of the network's own file",
        *("--bn-momentum", "--bn-eps"),
        kind=float,
    ),
    "--drop": Flag("drop_rate", "dropout before the classifier", float, 0.0),
    "--drop-path": Flag("drop_path_rate", "stochastic depth of the last block", float, 0.0),
    "--drop-connect": Flag(NOTHING, "timm's older word for --drop-path, without effect", float),
    "--drop-block": Flag("dropblock", "part of the features that is erased", float, 0.0),
}

_BATCH = {
    "--gpus": Flag(
        "batch_size, learning_rate",
        "the number behind distributed_train.sh: so many processes, each with its batch",
        int,
        8,
    ),
    "--batch-size": Flag(
        "batch_size, micro_batch_size",
        "images of one process at a time, and what its BatchNorm sees",
        int,
        128,
    ),
    "--grad-accum-steps": Flag(
        "batch_size, learning_rate", "batches of a process in one step of the optimizer", int, 1
    ),
    "--sync-bn": Flag(
        "micro_batch_size", "BatchNorm sees the batches of all processes together", None
    ),
    "--split-bn": Flag(CANNOT, "BatchNorm is not split by --aug-splits", None),
    "--dist-bn": Flag(NOTHING, "one process keeps the statistics of BatchNorm", str),
    **_alike(
        CANNOT,
        "all images of a run have one size, and a batch one number of them",
        *("--train-img-sizes", "--train-batch-sizes", "--train-batches-per-epoch"),
        kind=int,
        values="+",
    ),
    "--train-size-probs": Flag(NOTHING, "belongs to --train-img-sizes", float, values="+"),
    **_alike(
        NOTHING,
        "belongs to --train-img-sizes",
        *("--train-size-schedule", "--train-size-schedule-spread", "--train-size-random-mix"),
        *("--variable-batch-loss-scale",),
    ),
    "--naflex-loader": Flag(CANNOT, "images are squares of one size", None),
    **_alike(
        NOTHING,
        "belongs to --naflex-loader",
        *("--naflex-train-seq-lens", "--naflex-max-seq-len", "--naflex-patch-sizes"),
        *("--naflex-patch-size-probs",),
        kind=float,
        values="+",
    ),
    "--naflex-loss-scale": Flag(NOTHING, "belongs to --naflex-loader", str),
    "--naflex-patchify-channels-first": Flag(NOTHING, "belongs to --naflex-loader", None),
}

_OPTIMIZER = {
    "--opt": Flag("optimizer", "a name of timm's optimizer factory", str, "sgd"),
    "--weight-decay": Flag("weight_decay", "not on norms and biases", float, 2e-5),
    "--clip-grad": Flag("clip_grad", "largest norm of all gradients together", float, 0.0),
    "--clip-mode": Flag(
        CANNOT,
        "gradients are clipped by their norm",
        str,
        only=("norm",),
        when=lambda values: values["--clip-grad"],
    ),
    "--opt-eps": Flag(CANNOT, "an optimizer has its own epsilon"),
    "--opt-betas": Flag(CANNOT, "an optimizer has its own betas", float, values="+"),
    "--momentum": Flag(CANNOT, "an optimizer with momentum has 0.9", only=(0.9,)),
    "--opt-kwargs": Flag(CANNOT, "an optimizer has its own arguments", str, values="*"),
    "--layer-decay": Flag(CANNOT, "all layers have one learning rate", only=(1.0,)),
    **_alike(
        NOTHING,
        "belongs to --layer-decay",
        *("--layer-decay-min-scale", "--layer-decay-no-opt-scale"),
        kind=float,
    ),
}

_RATE = {
    "--sched": Flag("schedule", "schedules are cosines", str, "cosine", only=("cosine",)),
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
    "--lr-noise": Flag(CANNOT, "the rate has no noise", float, values="+"),
    **_alike(NOTHING, "belongs to --lr-noise", "--lr-noise-pct", "--lr-noise-std", kind=float),
    "--lr-cycle-limit": Flag(CANNOT, "the cosine comes once", int, only=(0, 1)),
    "--lr-cycle-mul": Flag(
        NOTHING, "lengthens one cosine after the other, and there is one", float
    ),
    "--lr-cycle-decay": Flag(
        NOTHING, "lowers the rate from one cosine to the next, and there is one"
    ),
    "--lr-k-decay": Flag(
        NOTHING, "an exponent of the cosine's time, which is not bent", float, 1.0, only=(1.0,)
    ),
    "--warmup-lr": Flag("warmup_learning_rate", "where the warm-up begins", float, 1e-5),
    "--min-lr": Flag("final_learning_rate", "where the cosine ends", float, 0.0),
    "--epochs": Flag("epochs", "length of the cosine, the warm-up in it", int, 300),
    "--warmup-epochs": Flag("warmup_epochs", "of these, with a rate that rises linearly", int, 5),
    "--warmup-prefix": Flag(
        CANNOT,
        "the cosine counts from the first step, the warm-up in it",
        None,
        when=lambda values: values["--warmup-epochs"],
    ),
    "--cooldown-epochs": Flag(
        NOTHING, "epochs at --min-lr after the cosine; here a run ends with it", int, 0
    ),
    "--stop-epoch": Flag(CANNOT, "a run goes on to its last epoch", int),
    "--epoch-repeats": Flag(NOTHING, "repeats a streamed data set within an epoch", float),
    **_alike(
        NOTHING,
        "belongs to other schedules than the cosine",
        *("--decay-epochs", "--decay-rate", "--patience-epochs", "--lr-stable-timescale"),
        kind=float,
    ),
    "--decay-milestones": Flag(
        NOTHING, "belongs to other schedules than the cosine", int, values="+"
    ),
    "--lr-decay-fn": Flag(NOTHING, "belongs to other schedules than the cosine", str),
}

_AUGMENTATION = {
    "--no-aug": Flag(
        "crop, hflip, vflip, color_jitter, randaugment",
        "the whole image and nothing else, whatever other flags say",
        None,
    ),
    "--train-crop-mode": Flag(CANNOT, "a crop has a random size and place", str, only=("rrc",)),
    "--scale": Flag(
        "crop_scale",
        "smallest and largest part of the area that a random crop keeps",
        float,
        (0.08, 1.0),
        values=2,
    ),
    "--ratio": Flag(
        CANNOT,
        "a random crop is between 3:4 and 4:3",
        float,
        values=2,
        only=((0.75, 4 / 3), (0.75, 1.33), (0.75, 1.333), (0.75, 1.3333)),
    ),
    "--hflip": Flag("hflip", "probability of a reflection, left to right", float, 0.5),
    "--vflip": Flag("vflip", "probability of a reflection, top to bottom", float, 0.0),
    "--color-jitter": Flag(
        "color_jitter", "largest relative change of brightness, contrast, saturation", float, 0.4
    ),
    "--color-jitter-prob": Flag(CANNOT, "every image has its colours changed", only=(1.0,)),
    "--grayscale-prob": Flag(CANNOT, "no image is made grey", only=(0.0,)),
    "--gaussian-blur-prob": Flag(CANNOT, "no image is blurred", only=(0.0,)),
    "--aa": Flag("randaugment", "RandAugment in timm's words", str, ""),
    "--aug-repeats": Flag(CANNOT, "an image comes once in an epoch", only=(0.0,)),
    "--aug-splits": Flag(CANNOT, "a batch is augmented once", int, only=(0,)),
    "--reprob": Flag("cutout", "probability of an erased rectangle", float, 0.0),
    "--remode": Flag(
        "erase_mode", "the rectangle's filling: const, rand (one colour) or pixel", str, "pixel"
    ),
    "--recount": Flag(
        CANNOT,
        "one rectangle is erased",
        int,
        only=(1,),
        when=lambda values: values["--reprob"],
    ),
    "--resplit": Flag(NOTHING, "belongs to --aug-splits", None),
    "--train-interpolation": Flag(
        "interpolation", "of random crops and RandAugment: bicubic, bilinear, random", str, "random"
    ),
    "--mixup": Flag("mixup", "alpha of the Beta distribution", float, 0.0),
    "--cutmix": Flag("cutmix", "alpha of the Beta distribution", float, 0.0),
    "--cutmix-minmax": Flag(
        CANNOT, "the size of CutMix's rectangle is drawn by --cutmix", float, values="+"
    ),
    "--mixup-prob": Flag(CANNOT, "every batch is mixed", only=(1.0,), when=_mixes),
    "--mixup-switch-prob": Flag(
        CANNOT,
        "half of the batches are mixed by CutMix",
        only=(0.5,),
        when=lambda values: values["--mixup"] and values["--cutmix"],
    ),
    "--mixup-mode": Flag("mixup_mode", "one mixing weight a batch, pair or elem", str, "batch"),
    "--mixup-off-epoch": Flag(
        CANNOT, "batches are mixed to the last epoch", int, only=(0,), when=_mixes
    ),
}

_LOSS = {
    "--smoothing": Flag("label_smoothing", "spread over all classes", float, 0.1),
    "--loss": Flag(CANNOT, "the loss is the cross-entropy", str, only=("ce",)),
    **_alike(CANNOT, "the loss is the cross-entropy", "--jsd-loss", "--bce-loss", kind=None),
    "--bce-sum": Flag(NOTHING, "belongs to --bce-loss", None),
    **_alike(
        NOTHING, "belongs to --bce-loss", "--bce-target-thresh", "--bce-pos-weight", kind=float
    ),
    "--class-stats": Flag(NOTHING, "belongs to --loss and its weights", str),
    **_alike(CANNOT, "all classes have one weight", "--loss-pos-weight", "--loss-class-weight"),
    **_alike(
        NOTHING,
        "belongs to --loss-class-weight",
        *("--loss-weight-power", "--loss-weight-beta", "--loss-weight-max"),
        kind=float,
    ),
    **_alike(
        NOTHING,
        "belongs to another --loss",
        *("--asl-gamma-pos", "--asl-gamma-neg", "--asl-clip", "--poly-epsilon", "--poly-gamma"),
        *("--poly-alpha", "--twoway-tp", "--twoway-tn", "--db-neg-scale", "--db-init-bias"),
        *("--db-focal-gamma",),
        kind=float,
    ),
    "--asl-reduction": Flag(NOTHING, "belongs to another --loss", str),
    "--kd-model-name": Flag(CANNOT, "a network has no teacher", str),
    **_alike(
        NOTHING,
        "belongs to --kd-model-name",
        *("--kd-distill-type", "--kd-loss-type", "--kd-token-distill-type"),
    ),
    **_alike(
        NOTHING,
        "belongs to --kd-model-name",
        *("--distill-loss-weight", "--task-loss-weight", "--kd-temperature"),
        *("--kd-student-feature-dim", "--kd-teacher-feature-dim"),
        kind=float,
    ),
}

_AVERAGE = {
    "--model-ema": Flag("ema_decay", "an average of the weights, which is then evaluated", None),
    "--model-ema-decay": Flag("ema_decay", "of that average", float, 0.9998),
    "--model-ema-warmup": Flag(
        NOTHING, "the decay grows towards --model-ema-decay in any case", None
    ),
    **_alike(
        NOTHING,
        "says where and in which precision the average lies; here it lies beside the weights",
        *("--model-ema-force-cpu", "--model-ema-force-fp32"),
        kind=None,
    ),
}

_SPEED = {
    "--device": Flag("--device", "what to compute on", str),
    "--workers": Flag("--workers", "processes that read and augment images", int),
    "--channels-last": Flag("--channels-last", "memory layout, for speed", None),
    "--torchcompile": Flag("--compile", "torch.compile, for speed", str, values="?"),
    "--grad-checkpointing": Flag(
        "--grad-checkpointing", "activations are computed twice, for less memory", None
    ),
    "--amp": Flag(
        "precision", "half precision where a GPU has it, bfloat16 here; without it float32", None
    ),
    "--amp-dtype": Flag(NOTHING, "half precision is bfloat16 here", str),
    "--model-dtype": Flag(CANNOT, "weights are float32", str, only=("float32",)),
    **_alike(
        NOTHING,
        "changes the speed alone",
        *("--torchscript", "--fast-norm", "--synchronize-step", "--pin-mem", "--no-prefetcher"),
        *("--use-multi-epochs-loader", "--persistent-workers", "--no-persistent-workers"),
        kind=None,
    ),
    **_alike(NOTHING, "changes the speed alone", "--fuser", "--torchcompile-mode"),
    "--validation-batch-size": Flag(NOTHING, "changes the speed of evaluation alone", int),
    "--device-modules": Flag(NOTHING, "torch's own devices are used", str, values="+"),
    "--no-ddp-bb": Flag(NOTHING, "says what processes send to one another", None),
    "--local_rank": Flag(NOTHING, "is told to a process by its launcher", int),
}

_RUN = {
    "--config": Flag(CANNOT, "a YAML file of flags is not read; write its lines as flags", str),
    "--seed": Flag("--seed", "of everything that is drawn", int),
    "--worker-seeding": Flag(NOTHING, "each image has a seed of its own", str),
    **_alike(
        NOTHING,
        "the same command goes on with a run that was stopped",
        *("--resume", "--start-epoch"),
    ),
    "--no-resume-opt": Flag(
        NOTHING, "the same command goes on with a run that was stopped, its optimizer with it", None
    ),
    "--log-interval": Flag(NOTHING, "a line is printed after each epoch", int),
    "--val-interval": Flag(NOTHING, "the network is measured after each epoch", int),
    **_alike(
        NOTHING,
        "a checkpoint is written as often as --checkpoint-seconds says, and two are kept",
        *("--recovery-interval", "--checkpoint-hist"),
        kind=int,
    ),
    "--save-epochs": Flag(NOTHING, "the weights of the last epoch are kept", int, values="+"),
    "--eval-metric": Flag(NOTHING, "chooses the best epoch; here the last one is reported", str),
    "--crop-pct": Flag(
        NOTHING,
        "cuts the images of the evaluation, here as the network was described; `astroformer "
        "evaluate --crop-pct` says another part",
    ),
    "--interpolation": Flag(
        NOTHING, "resizes the images of the evaluation, here as the network was described", str
    ),
    "--tta": Flag(CANNOT, "an image is evaluated once", int, only=(0,)),
    "--save-images": Flag(NOTHING, "writes batches as pictures into the output folder", None),
    "--output": Flag(NOTHING, "a folder for checkpoints; here ASTROFORMER_RUNS", str),
    "--experiment": Flag(NOTHING, "a name; here a run is named by what decides it", str),
    "--log-wandb": Flag(
        NOTHING,
        "sends the numbers of each epoch to a service; `astroformer train --log wandb` does",
        None,
    ),
    **_alike(NOTHING, "belongs to --log-wandb", "--wandb-project", "--wandb-resume-id"),
    "--wandb-tags": Flag(NOTHING, "belongs to --log-wandb", str, values="+"),
    **_alike(
        NOTHING,
        "is for the script that makes many runs",
        *("--sweep-locks", "--sweep-attempt"),
        values="+",
    ),
}

# Of older versions alone.
OLDER = {
    "--amp-impl": Flag(
        NOTHING, "apex or native, whose float16 with a scaled loss is bfloat16 here", str
    ),
    **_alike("precision", "the same as --amp", "--native-amp", "--apex-amp", kind=None),
    "--aot-autograd": Flag(NOTHING, "changes the speed alone", None),
    "--num-gpu": Flag(NOTHING, "the launcher says how many processes there are", int),
}

FLAGS: dict[str, Flag] = {
    **(_DATA | _NETWORK | _BATCH | _OPTIMIZER | _RATE | _AUGMENTATION),
    **(_LOSS | _AVERAGE | _SPEED | _RUN | OLDER),
}
# Other spellings.
ALIASES = {
    "--batch-size": ("-b",),
    "--validation-batch-size": ("-vb",),
    "--workers": ("-j",),
    "--config": ("-c",),
    "--dataset": ("-d",),
    "--decay-rate": ("--dr",),
    "--local_rank": ("--local-rank",),
    "--train-batches-per-epoch": ("--train-steps-per-epoch",),
}
