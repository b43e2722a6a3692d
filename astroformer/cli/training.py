"""Verbs that train and evaluate: train, evaluate."""

import argparse
import sys

from astroformer.cli.common import (
    LABELS_BY,
    add_data_arguments,
    add_verb,
    device_of,
    images_asked_for,
    print_table,
    speaks,
)

SMOOTHING = 0.1  # what a bare --label-smoothing means


def _train(verbs) -> None:
    verb = add_verb(verbs, "train", train, "train one run and add its record to the ledger")
    verb.add_argument("--model", default="astroformer_pico")
    add_data_arguments(verb)
    verb.add_argument("--recipe", default="smoke")
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the recipe",
    )
    verb.add_argument(
        "--label-smoothing",
        type=float,
        nargs="?",
        const=SMOOTHING,
        metavar="MASS",
        help="short for --set label_smoothing=MASS; over all classes unless --set "
        f"smoothing_over=others; without a number {SMOOTHING}, as in ViT-CIFAR's command",
    )
    verb.add_argument(
        "--autoaugment",
        action="store_true",
        help="AutoAugment with the policy of the data set, as ViT-CIFAR's release "
        "has it (cifar10, cifar100, svhn)",
    )
    verb.add_argument(
        "--init",
        metavar="FILE",
        help="weights to begin with: of a run (runs/RUN/last.pt) or a released file",
    )
    verb.add_argument(
        "--allow-partial",
        action="store_true",
        help="take what fits of --init, and print what is left out",
    )
    add_average_argument(verb, "--init")
    verb.add_argument("--stack", help="kinds of the four stages, such as CCTT")
    verb.add_argument(
        "--model-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the network, such as rel_bias=outside or attn_layer=cbam",
    )
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument(
        "--fraction", type=float, default=1.0, help="part of each class of the training images"
    )
    verb.add_argument(
        "--validation",
        type=float,
        default=0.0,
        help="part of train to hold out and to measure on, in place of test",
    )
    verb.add_argument(
        "--evaluate",
        choices=("auto", "validation", "test"),
        default="auto",
        help="test: beside --validation, measure on test once, at the end",
    )
    verb.add_argument(
        "--force", action="store_true", help="train although the ledger holds the run"
    )
    add_execution_arguments(verb)
    verb.add_argument(
        "--shard",
        action="store_true",
        help="each process of torchrun keeps a part of the weights, gradients and optimizer states",
    )
    verb.add_argument(
        "--checkpoint-seconds",
        type=float,
        help="time between two checkpoints within an epoch, and one at the end of each; default: "
        "as often as 2 %% of the time allow",
    )
    verb.add_argument(
        "--log",
        action="append",
        default=[],
        metavar="KIND",
        help="csv, tensorboard or wandb: the numbers of each epoch beside the "
        "checkpoints; may be given several times",
    )


def train(options) -> int:
    from astroformer.recipes import get_recipe, parse_changes
    from astroformer.sizes import checked_name

    # what is mistyped is said before torch is loaded, which takes seconds
    checked_name(options.model)
    changes = parse_changes(options.set)
    if options.label_smoothing is not None:
        changes["label_smoothing"] = options.label_smoothing
    if options.allow_partial and not options.init:
        raise ValueError("--allow-partial is about the weights of --init FILE, which is missing")
    if options.ema is not None and not options.init:
        raise ValueError(
            f"--{'' if options.ema else 'no-'}ema is about the weights of --init FILE, which is "
            "missing; an average over the steps of a run is kept with --set ema_decay=0.9998"
        )
    get_recipe(options.recipe, **changes)
    from astroformer.data.augment import policy_of
    from astroformer.training import Run, fit, parse_option

    if options.autoaugment:
        changes["autoaugment"] = policy_of(options.dataset)
    own = dict(parse_option(text) for text in options.model_option)
    if options.stack:
        own["stack"] = options.stack
    run = Run(
        model=options.model,
        dataset=options.dataset,
        recipe=get_recipe(options.recipe, **changes),
        init=options.init,
        allow_partial=options.allow_partial,
        init_average=options.ema,
        seed=options.seed,
        options=tuple(own.items()),
        fraction=options.fraction,
        validation=options.validation,
        evaluate=options.evaluate,
        **images_asked_for(options),
    )
    fitted = fit(
        run,
        device=device_of(options.device),
        execution=execution_of(options, shard=options.shard),
        force=options.force,
        checkpoint_seconds=options.checkpoint_seconds,
        logs=options.log,
        report=lambda line: print(line, flush=True),
    )
    record = fitted.record
    if record["status"] != "completed":
        return 1
    if not speaks():
        return 0
    found = {name: value for name, value in record["metrics"].items() if value is not None}
    print(
        f"run {record['run']} on {record['dataset']['title']} ({record['dataset']['kind']}): "
        + ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        + f"; {record['epochs']} epochs in {record['seconds'] / 60:.1f} min; "
        + (
            f"weights in {fitted.weights}"
            if fitted.weights.is_file()
            else "its weights are not here, --force makes them"
        )
    )
    return 0


def add_average_argument(verb, file: str) -> None:
    verb.add_argument(
        "--ema",
        action=argparse.BooleanOptionalAction,
        help=f"of {file} that holds both: take the average of the weights over the steps (EMA), or "
        "those of the last step; default: the average of this project's checkpoints, the last step "
        "of other files",
    )


# Of an Execution, that may be on or off: what each is.
SWITCHES = {
    "channels-last": "memory layout of convolutions; default: on",
    "compile": "torch.compile; default: on a GPU, for trainings that are long enough",
    "fused": "the optimizer's step as one kernel; default: where PyTorch has one",
    "graphs": "steps as a CUDA graph; default: on a GPU, where a training can",
    "tf32": "float32 products of a GPU in 19 bits",
    "cudnn-benchmark": "a GPU tries the kernels of convolutions; default: on",
    "grad-checkpointing": "compute activations twice instead of keeping them",
}


def add_execution_arguments(verb) -> None:
    """How a run is executed: `execution_of` and `device_of` read the options."""
    verb.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    group = verb.add_argument_group("speed (recorded, no part of what is asked for)")
    group.add_argument(
        "--workers",
        type=int,
        help="processes that read and augment images; default: none on a CPU, beside a GPU as many "
        "as may be used, up to 8",
    )
    for name, text in SWITCHES.items():
        group.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=text)


def execution_of(options, **more):
    """An Execution of what was said, and more; the rest is left to its defaults."""
    from astroformer.training import Execution

    names = ("workers", *(name.replace("-", "_") for name in SWITCHES))
    said = {name: getattr(options, name) for name in names}
    return Execution(**{name: value for name, value in said.items() if value is not None}, **more)


def _evaluate(verbs) -> None:
    verb = add_verb(
        verbs,
        "evaluate",
        evaluate,
        "metrics and speed of a checkpoint, or of released weights, on a split",
        table=True,
    )
    verb.add_argument(
        "checkpoint",
        nargs="?",
        metavar="MODEL",
        help="a checkpoint of this project, such as runs/RUN/last.pt, or the name of a run whose "
        "weights lie here",
    )
    verb.add_argument(
        "images",
        nargs="?",
        metavar="IMAGES",
        help="a folder of test images alone, IMAGES/<class>/* or IMAGES/test/<class>/*, in place "
        "of --dataset: its folders are classes of MODEL, all or some of them; or with --labels",
    )
    verb.add_argument(
        "--weights",
        metavar="FILE",
        help="in its place: weights of --model alone, such as a released SpectFormer's",
    )
    verb.add_argument("--model", help="the network of --weights")
    verb.add_argument(
        "--model-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of that network",
    )
    verb.add_argument(
        "--allow-partial",
        action="store_true",
        help="evaluate weights that do not fit in full; what is left out is printed",
    )
    add_average_argument(verb, "a file")
    add_data_arguments(verb)
    verb.add_argument("--split", default="test", choices=("train", "test"))
    verb.add_argument(
        "--keep",
        action="store_true",
        help="keep what the checkpoint says of each "
        "image beside its run's record, for the "
        "pages; refused unless the metrics are "
        "those of the record",
    )
    verb.add_argument(
        "--crop-pct",
        type=float,
        help="part of the shorter side that the middle square keeps, such as 0.875; default: as "
        "the checkpoint's run had it, with --weights as the network was described",
    )
    verb.add_argument("--batch-size", type=int, default=250, help="images at a time")
    verb.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")


def evaluate(options) -> None:
    from astroformer import data
    from astroformer.data.values import of_told
    from astroformer.inference.labelled import images_of_folder
    from astroformer.inference.members import found
    from astroformer.training import evaluate_checkpoint, evaluate_weights, parse_option

    def load_images(size: int, **read_by) -> data.Images:
        asked = images_asked_for(options)
        asked |= {name: value for name, value in read_by.items() if not asked[name]}
        sized = asked | {"image_size": asked["image_size"] or size}
        return data.load(options.dataset, options.split, purpose="evaluate", **sized)

    def test_images(told: dict) -> data.Images:
        if options.images:
            by = {name: getattr(options, name) for name in LABELS_BY}
            return images_of_folder(
                options.images, told, report, image_size=options.image_size, **by
            )
        reading = told["reading"] if options.dataset == "folder" else None
        how = reading and of_told(reading)  # as it was trained, where nothing else is asked for
        read_by = {"stretch": how.stretch, "bands": ",".join(how.bands)} if how else {}
        return load_images(told["image_size"], **read_by)

    def report(line: str) -> None:
        print(line, file=sys.stderr)

    if (options.checkpoint is None) == (options.weights is None) or (options.weights is None) != (
        options.model is None
    ):
        raise ValueError(
            "give either a checkpoint of this project, runs/RUN/last.pt, or "
            "--weights FILE with its --model NAME"
        )
    if options.images and options.data_dir:
        raise ValueError(
            f"the images are {options.images} or those of --data-dir {options.data_dir}; leave one "
            "of them out"
        )
    if options.keep and options.weights:
        raise ValueError(
            "--keep is about the checkpoint of a run in the ledger; weights alone are of no run"
        )
    if options.batch_size < 1:
        raise ValueError(f"--batch-size {options.batch_size}: give at least 1 image")
    how = {
        "device": device_of(options.device),
        "crop_pct": options.crop_pct,
        "batch_size": options.batch_size,
        "average": options.ema,
        "report": report,
    }
    if options.checkpoint:
        path = found(options.checkpoint)
        measured = evaluate_checkpoint(path, test_images, keep=options.keep, **how)
    else:
        own = dict(parse_option(text) for text in options.model_option)
        measured = evaluate_weights(
            options.weights,
            options.model,
            load_images,
            options=own,
            **how,
            allow_partial=options.allow_partial,
        )
    print_table([measured], options.json)


VERBS = (_train, _evaluate)
