"""The verb export: a trained network for other programs."""

import sys

from astroformer.cli.common import add_verb
from astroformer.cli.training import add_average_argument

KINDS = ("safetensors", "hf", "torch", "onnx")


def _export(verbs) -> None:
    verb = add_verb(
        verbs,
        "export",
        export,
        "write a trained network for other programs: weights, a folder for timm and the Hugging "
        "Face hub, a program for torch alone, or ONNX",
    )
    verb.add_argument(
        "network", help="a checkpoint (runs/RUN/last.pt), the folder of a run, or a run's name"
    )
    verb.add_argument(
        "--to",
        required=True,
        choices=KINDS,
        help="safetensors: weights with their description; hf: config.json, weights and model "
        "card, as timm loads them; torch: a program of torch.export; onnx: a graph. The last two "
        "take pixels, uint8 (batch, channels, height, width), and need no astroformer",
    )
    verb.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="the file (.safetensors, .pt2, .onnx), or the folder of --to hf",
    )
    verb.add_argument("--force", action="store_true", help="replace what is at --out")
    add_average_argument(verb, "a checkpoint")
    verb.add_argument(
        "--push",
        metavar="REPO",
        help="upload the folder of --to hf to the Hugging Face hub, as OWNER/NAME; the token is "
        "HF_TOKEN's or that of `hf auth login`",
    )
    verb.add_argument(
        "--private", action="store_true", help="if --push makes the repository, hide it"
    )


def export(options) -> None:
    if options.push and options.to != "hf":
        raise ValueError("--push uploads the folder that --to hf makes; give --to hf with it")
    if options.private and not options.push:
        raise ValueError("--private is about the repository of --push, which is missing")
    from astroformer import exporting

    made = exporting.export(
        options.network,
        options.to,
        options.out,
        average=options.ema,
        force=options.force,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(made.told(), "Load it with:", "", *made.lines, sep="\n")
    if options.push:
        print(f"\nuploaded to {exporting.push(made, options.push, private=options.private)}")


VERBS = (_export,)
