"""Verbs about a network: models, cost, audit, equivariance."""

import json
import sys

from astroformer import paths
from astroformer.cli.common import add_verb, print_table


def _models(verbs) -> None:
    verb = add_verb(verbs, "models", models, "the networks, with their sizes", table=True)
    verb.add_argument("--classes", type=int, default=10)


def models(options) -> None:
    """Counts in closed form, which needs no network."""
    from astroformer.counting.baseline_forms import counts_of
    from astroformer.counting.kept_costs import checked_classes
    from astroformer.sizes import BASELINES, IMAGE_SIZE, MODELS

    classes, rows = checked_classes(options.classes), []
    for name, sizes in (MODELS | BASELINES).items():
        counts = counts_of(name, image_size=IMAGE_SIZE[name], num_classes=classes)
        rows.append(
            {
                "model": name,
                "image_size": IMAGE_SIZE[name],
                "params": counts.params,
                "macs": counts.macs,
                **{key: str(value) for key, value in sizes.items()},
            }
        )
    print_table(rows, options.json)


def _cost(verbs) -> None:
    verb = add_verb(
        verbs, "cost", cost, "parameters, operations, memory and time of one image", table=True
    )
    verb.add_argument("model")
    verb.add_argument("--image-size", type=int, help="pixels; default: the network's own")
    verb.add_argument("--classes", type=int, default=10)
    verb.add_argument("--stack", help="kinds of the four stages, C or T, such as CCTT")
    verb.add_argument(
        "--dtype-bytes", type=int, default=4, help="of a real number: 4 for float32, 2 for bfloat16"
    )
    verb.add_argument(
        "--peak-tflops",
        type=float,
        help="10^12 operations a second of an accelerator, for a time floor: say 100",
    )
    verb.add_argument(
        "--bandwidth-gb",
        type=float,
        help="10^9 bytes a second from and to its memory, for a time floor: say 1000",
    )


def cost(options) -> None:
    """Prints what is kept, where that was asked for; else counts, which takes torch."""
    from astroformer.counting import kept_costs

    asked = dict(
        num_classes=options.classes,
        stack=options.stack,
        dtype_bytes=options.dtype_bytes,
        peak_tflops=options.peak_tflops,
        bandwidth_gb=options.bandwidth_gb,
    )
    kept_costs.checked(options.model, **asked)
    counted = kept_costs.kept(options.model, image_size=options.image_size, **asked)
    if counted is None:
        from astroformer.counting.cost import network_cost

        counted = network_cost(options.model, image_size=options.image_size, **asked)
    if options.json:
        print(json.dumps(counted, indent=1))
    else:
        from astroformer.counting.cost_tables import described

        print(described(counted))


def _audit(verbs) -> None:
    verb = add_verb(
        verbs,
        "audit",
        audit,
        "which configurations print the reported counts, and how easily they print made-up ones",
        table=True,
    )
    verb.add_argument(
        "--decoys",
        type=int,
        default=200,
        help="made-up tables beside the reported one: in each, all parameters of a model are moved "
        "by one amount and all its FLOPs by another, so that its rows keep their distances",
    )
    verb.add_argument("--seed", type=int, default=0, help="of the amounts")
    verb.add_argument(
        "--write",
        action="store_true",
        help="into book/ledger/audit.json, from which the book reads",
    )


def audit(options) -> None:
    from astroformer.audit import audit as found
    from astroformer.audit import tables
    from astroformer.ledger import claims as reported

    if options.decoys < 1:
        raise ValueError(
            f"--decoys {options.decoys}: at least one made-up table is needed to "
            "say what chance finds"
        )
    if options.write:
        paths.need_checkout("audit --write")
    shown = (
        (lambda line: print(f"\r{line}", end="", file=sys.stderr, flush=True))
        if sys.stderr.isatty()
        else lambda line: None
    )
    report = found.audit(reported.read(), decoys=options.decoys, seed=options.seed, report=shown)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if options.write:
        found.write(report)
    print(json.dumps(report, indent=1) if options.json else tables.in_words(report))


def _equivariance(verbs) -> None:
    verb = add_verb(
        verbs,
        "equivariance",
        equivariance,
        "how far a network is from moving with its image, and by which part",
        table=True,
    )
    verb.add_argument(
        "--model", default="astroformer_pico", help="a network of the project, or any of timm's"
    )
    verb.add_argument("--image-size", type=int, help="pixels; default: the network's own")
    verb.add_argument("--checkpoint", help="trained weights; default: random ones")
    verb.add_argument("--seed", type=int, default=0, help="of random weights and of the image")
    verb.add_argument(
        "--causes",
        action="store_true",
        help="print the share of strides, padding and positions in the error instead",
    )
    kept = verb.add_argument_group(
        "to keep what is measured on a checkpoint: errors and their causes, Lie derivative, "
        "consistency"
    )
    kept.add_argument(
        "--keep",
        metavar="NAME",
        help="add it to book/ledger/equivariance/NAME.jsonl and causes/NAME.jsonl there, from "
        "which the book reads",
    )
    kept.add_argument(
        "--dataset",
        default="galaxies",
        help="of whose test images: galaxies (embedded, synthetic) or folder",
    )
    kept.add_argument("--data-dir", help="the ImageFolder of --dataset folder")
    kept.add_argument(
        "--weights",
        default="both",
        choices=("trained", "random", "both"),
        help="trained, or as drawn before training",
    )
    kept.add_argument(
        "--images", type=int, default=200, help="so many of them, of each class alike"
    )


def equivariance(options) -> None:
    from astroformer.equivariance import causes, network

    if options.keep:
        _keep_equivariance(options)
        return
    report = causes.report if options.causes else network.report
    found = report(
        options.model,
        image_size=options.image_size,
        checkpoint=options.checkpoint,
        seed=options.seed,
    )
    print_table(found.to_dict("records"), options.json)


def _keep_equivariance(options) -> None:
    from astroformer.equivariance import causes
    from astroformer.equivariance import trained as kept
    from astroformer.training import load_trained

    paths.need_checkout("equivariance --keep")
    if options.checkpoint is None:
        raise ValueError(
            "--keep needs --checkpoint FILE: what is kept is a measurement of "
            "trained weights, such as runs/RUN/last.pt"
        )
    images = kept.sample(
        options.dataset,
        options.images,
        image_size=load_trained(options.checkpoint)[1]["image_size"],
        data_dir=options.data_dir,
    )
    found = [
        kept.measure(options.checkpoint, images, weights=weights)
        for weights in (kept.WEIGHTS if options.weights == "both" else [options.weights])
    ]
    files = [kept.keep(measurement, options.keep) for measurement in found]
    if options.weights != "random":
        found.append(causes.measure(options.checkpoint, images))
        causes.keep(found[-1], options.keep)
    print(json.dumps(found, indent=1) if options.json else f"kept in {files[-1]}")


VERBS = (_models, _cost, _audit, _equivariance)
