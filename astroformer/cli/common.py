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


def add_data_arguments(verb) -> None:
    verb.add_argument("--dataset", default="galaxies", type=lambda name: SHORT_NAMES.get(name, name),
                      help="galaxies (embedded, synthetic), folder, cifar10 (or c10), cifar100 (c100), svhn, imagenet1k")
    verb.add_argument("--data-dir", help="the ImageFolder of --dataset folder, or where the files of a named data set lie "
                                         "(default: ASTROFORMER_DATA)")
    verb.add_argument("--image-size", type=int, help="pixels; default: the data set's own")
    verb.add_argument("--train-images", type=int, help="training images of a generated data set")
