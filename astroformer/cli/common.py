"""What several verbs share: how one is added, how a table is printed, how a data set is named."""

import argparse
import json

SHORT_NAMES = {"c10": "cifar10", "c100": "cifar100"}  # as ViT-CIFAR's command line has them


def add_verb(verbs, name: str, call, text: str, *, table: bool = False) -> argparse.ArgumentParser:
    """A verb that calls `call` with its options; one that prints a table takes --json."""
    verb = verbs.add_parser(name, help=text, description=text)
    verb.set_defaults(call=call)
    if table:
        verb.add_argument("--json", action="store_true", help="print JSON, for programs")
    return verb


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


def images_asked_for(options) -> dict[str, object]:
    return {
        name: getattr(options, name)
        for name in (
            "image_size",
            "data_dir",
            "class_fraction",
            "train_images",
            "test_images",
            "split_seed",
        )
    }
