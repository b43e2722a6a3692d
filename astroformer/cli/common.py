"""What several verbs share: how one is added, how a table is printed, how a data set and a device
are named.
"""

import argparse
import json
import os
import re
from typing import TYPE_CHECKING

from astroformer import machine

if TYPE_CHECKING:
    import torch

SHORT_NAMES = {"c10": "cifar10", "c100": "cifar100"}  # as ViT-CIFAR's command line has them


def add_verb(verbs, name: str, call, text: str, *, table: bool = False) -> argparse.ArgumentParser:
    """A verb that calls `call` with its options; one that prints a table takes --json."""
    verb = verbs.add_parser(name, help=text, description=text)
    # a function, as options are still added; an error spells them as the usage does
    verb.set_defaults(call=call, usage=verb.format_usage)
    if table:
        verb.add_argument("--json", action="store_true", help="print JSON, for programs")
    return verb


def speaks() -> bool:
    """Whether this process prints: of those that torchrun starts the first."""
    return machine.together() == 1 or os.environ["RANK"] == "0"


def print_table(rows: list[dict], as_json: bool) -> None:
    import pandas as pd

    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        print(pd.DataFrame(rows).to_string(index=False) if rows else "nothing yet")


def dataset_name(text: str) -> str:
    return SHORT_NAMES.get(text, text)


def add_data_arguments(verb) -> None:
    """Which images: `images_asked_for` turns the options into arguments of `data.load` and of
    `Run`.
    """
    verb.add_argument(
        "--dataset",
        default="galaxies",
        type=dataset_name,
        help="galaxies (embedded, synthetic), folder, or a name of `astroformer "
        "data list`, such as cifar10 (or c10)",
    )
    verb.add_argument(
        "--data-dir",
        help="the ImageFolder of --dataset folder, or where the files "
        "of a named data set lie "
        "(default: ASTROFORMER_DATA)",
    )
    verb.add_argument("--image-size", type=int, help="pixels; default: the data set's own")
    verb.add_argument(
        "--class-fraction",
        type=float,
        default=1.0,
        help="part of the classes, with all their images",
    )
    verb.add_argument("--train-images", type=int, help="training images of a generated data set")
    verb.add_argument(
        "--test-images",
        type=int,
        help="test images of a data set without an official split (galaxy10_decals)",
    )
    verb.add_argument("--split-seed", type=int, default=0, help="which draws them")
    verb.add_argument(
        "--test-fraction",
        type=float,
        default=0.0,
        help="part of each class to test on, of a folder without test images",
    )
    verb.add_argument(
        "--stretch",
        default="",
        help="from more than 8 bits a channel to 8: linear, asinh, zscale or percentile:LOW,HIGH, "
        "with limits of the training images, after own: with each image's own; or of three bands "
        "lupton:STRETCH,Q",
    )
    verb.add_argument(
        "--bands",
        default="",
        metavar="g,r,z",
        help="of a folder: ends of files' names (x_g.fits, x_r.fits, ...), FITS extensions, or "
        "numbers of planes from 0; three of them, from blue to red, make a colour picture",
    )
    verb.add_argument(
        "--labels",
        metavar="TABLE",
        help="labels of the images of a folder: a CSV, Parquet or FITS table with a row an image",
    )
    verb.add_argument("--label-column", default="", help="its column of labels, if not found")
    verb.add_argument(
        "--id-column", default="", help="its column of files' places, names or ids, if not found"
    )
    verb.add_argument(
        "--votes",
        default="",
        metavar="COLUMN,COLUMN",
        help="its columns of votes, or their fractions, one a class, in place of labels",
    )
    verb.add_argument(
        "--threshold", type=float, default=0.0, help="part of the votes that a label must have"
    )
    verb.add_argument(
        "--soft-targets",
        action="store_true",
        help="train on the votes' fractions; the class with most votes is what accuracy counts",
    )


# Options of `add_data_arguments` about a table of labels.
LABELS_BY = ("labels", "label_column", "id_column", "votes", "threshold", "soft_targets")
# Options of `add_data_arguments` that are arguments of `data.load`, of `data.about` and `Run`.
ABOUT_IMAGES = (
    *("image_size", "data_dir", "class_fraction", "train_images", "test_images", "split_seed"),
    *("test_fraction", "stretch", "bands"),
    *LABELS_BY,
)


def images_asked_for(options) -> dict[str, object]:
    return {name: getattr(options, name) for name in ABOUT_IMAGES}


def device_of(text: str | None) -> "torch.device":
    """What --device names; a GPU if there is one, where nothing is named."""
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text is None:
        return torch.device("cuda" if there else "cpu")
    if not re.fullmatch("cpu|cuda(:[0-9]+)?", text):
        raise ValueError(
            f"--device {text} is not known; choose cpu, cuda (a GPU) or cuda:1 (the second GPU)"
        )
    if text == "cpu":
        return torch.device("cpu")
    if not there:
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = (
            ": this torch is built without CUDA"
            if torch.version.cuda is None
            else f" that CUDA_VISIBLE_DEVICES={shown!r} lets torch see"
            if shown is not None
            else " that torch can use"
        )
        raise ValueError(
            f"--device {text}: this machine has no CUDA device{why}; give --device cpu"
        )
    if int(text.partition(":")[2] or 0) >= there:
        raise ValueError(
            f"--device {text}: this machine has {there} CUDA device{'s' * (there > 1)}; choose one "
            f"of {', '.join(f'cuda:{number}' for number in range(there))}"
        )
    return torch.device(text)
