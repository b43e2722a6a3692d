"""The verb that says what trained networks make of images without labels: predict."""

import argparse
import json
import sys

from astroformer.cli.common import add_verb, device_of
from astroformer.cli.training import add_average_argument

TURNS = (4, 8)  # what --turns takes, beside nothing


def _predict(verbs) -> None:
    verb = add_verb(
        verbs,
        "predict",
        predict,
        "labels and calibrated probabilities of images without labels, as a CSV or Parquet table",
    )
    verb.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="checkpoints of this project, such as runs/RUN/last.pt, or names of runs whose "
        "weights lie here; several are an ensemble, whose probabilities are averaged",
    )
    verb.add_argument(
        "images",
        metavar="IMAGES",
        help="a folder, with folders below or without; an image; or a text file with a path on "
        "each line",
    )
    verb.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="predictions.csv or .parquet. Stopped, the same command goes on from FILE.part",
    )
    verb.add_argument(
        "--top-k", type=int, default=1, help="so many of the likeliest classes; default: 1"
    )
    verb.add_argument(
        "--all", action="store_true", help="the probability of every class in a column of its own"
    )
    verb.add_argument(
        "--calibrate",
        action=argparse.BooleanOptionalAction,
        help="fit a temperature on the run's validation images (test images, where it holds out "
        "none) and keep it beside the checkpoint; --no-calibrate: raw probabilities; default: "
        "calibrated where a temperature is kept",
    )
    verb.add_argument(
        "--turns",
        type=int,
        nargs="?",
        const=4,
        default=1,
        choices=TURNS,
        help="average over quarter turns, for images without an up: 4 of them (the default without "
        "a number), or 8 with mirror images",
    )
    verb.add_argument(
        "--no-unlike",
        action="store_true",
        help="leave out how unlike the training images each image is, for which a network's "
        "training images are looked at once",
    )
    verb.add_argument(
        "--data-dir",
        help="where the images of the network's own run lie, which --calibrate and the column "
        "`unlike` need once; default: where they lay when it was trained",
    )
    add_average_argument(verb, "a checkpoint")
    verb.add_argument("--force", action="store_true", help="make FILE again, or overwrite it")
    verb.add_argument("--batch-size", type=int, help="images at a time; on a CPU the same bits")
    verb.add_argument("--workers", type=int, help="processes that read images; the same bits")
    verb.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    verb.add_argument("--json", action="store_true", help="print JSON, for programs")


def predict(options) -> int:
    from astroformer.inference import write
    from astroformer.inference.unlike import THRESHOLD

    outcome = write(
        options.models,
        options.images,
        options.out,
        force=options.force,
        turns=options.turns,
        top_k=options.top_k,
        every=options.all,
        calibrate=options.calibrate,
        unlike=not options.no_unlike,
        data_dir=options.data_dir,
        average=options.ema,
        device=device_of(options.device),
        workers=options.workers,
        batch_size=options.batch_size,
        progress=None,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if options.json:
        print(json.dumps(vars(outcome) | {"out": str(outcome.out)}, indent=1))
        return 0
    rate = f", {outcome.images_per_second:,.1f} images/s" if outcome.images_per_second else ""
    print(f"{outcome.out}: {outcome.images:,} images{rate if outcome.made else ''}")
    if outcome.labels:
        print("labels: " + ", ".join(f"{name} {n:,}" for name, n in outcome.labels.items()))
    if outcome.flagged is not None:
        print(
            f"unlike: {outcome.flagged:,} images are more unlike the training images than "
            f"{THRESHOLD:.0%} of held-out ones (column unlike above {THRESHOLD})"
        )
    if outcome.failed:
        first = "; ".join(f"{said} ({n:,})" for said, n in outcome.reasons.items())
        print(f"not read: {outcome.failed:,} images, see the column error: {first}")
    return 0


VERBS = (_predict,)
