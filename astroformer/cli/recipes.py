"""The verb that shows recipes: what there is, what one says, how two differ, what a command line
of timm's train.py means.
"""

import argparse
import sys
from dataclasses import asdict

from astroformer.cli.common import add_verb, print_table

USAGE = "astroformer recipe [NAME | diff NAME NAME ... | from-timm COMMAND LINE ...] [--json]"


def _recipe(verbs) -> None:
    verb = add_verb(
        verbs,
        "recipe",
        recipe,
        "show a recipe with its biography, the differences of several, or what timm's flags mean",
        table=True,
    )
    verb.usage = USAGE
    verb.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="NAME",
        help="default: list the recipes; `from-timm` is followed by a command line of timm's "
        "train.py as it stands, and `from-timm --help` says what each flag becomes",
    )


def recipe(options) -> None:
    # what follows the first name is left to this function
    words = [word for word in options.words if word != "--json"]
    as_json = options.json or len(words) < len(options.words)
    if not words:
        from astroformer.recipes import RECIPES

        print_table(
            [
                {
                    "recipe": one.name,
                    "epochs": one.epochs,
                    "batch": one.batch_size,
                    "optimizer": one.optimizer,
                    "source": one.source,
                }
                for one in RECIPES.values()
            ],
            as_json,
        )
    elif words[0] == "from-timm":
        _from_timm(words[1:], as_json)
    elif words[0] == "diff":
        from astroformer.reading.recipes import differences

        if len(words) < 3:
            raise ValueError(f"diff needs two recipes or more: {USAGE}")
        print_table(
            differences(words[1:]).rename_axis("field").reset_index().to_dict("records"), as_json
        )
    elif len(words) == 1:
        _show(words[0], as_json)
    else:
        raise ValueError(f"{' '.join(words)!r} is not one recipe; usage: {USAGE}")


def _show(name: str, as_json: bool) -> None:
    from astroformer.recipes import BIOGRAPHIES, OURS, get_recipe

    one = get_recipe(name)
    if not as_json:
        print(BIOGRAPHIES[name])
    print_table(
        [
            {"field": field, "value": value, "ours": field in OURS[name]}
            if as_json
            else {"field": field, "value": str(value), "": "ours" if field in OURS[name] else ""}
            for field, value in asdict(one).items()
        ],
        as_json,
    )


def _from_timm(words: list[str], as_json: bool) -> None:
    from astroformer.recipes import TOLD, timm_flags

    reading = timm_flags.read(words)
    print_table(
        [
            {"field": field, "value": value if as_json else str(value)}
            for field, value in asdict(reading.recipe).items()
            if field not in TOLD
        ],
        as_json,
    )
    for line in (*reading.warnings, *_not_here(reading)):
        print(line, file=sys.stderr)
    command = reading.command(image_size=_size_of(reading))
    print(command, file=sys.stderr if as_json else sys.stdout)


def _not_here(reading) -> list[str]:
    """What the printed command still lacks to be run, a line each."""
    from astroformer.data.table import DATASETS
    from astroformer.recipes.timm_flags import network_name
    from astroformer.sizes import NAMES, TIMM

    lines = []
    if reading.processes is None:
        lines.append(
            "--gpus is not given: 8 processes are taken, as distributed_train.sh 8 of the "
            "Astroformer README starts them"
        )
    name = reading.model and network_name(reading.model)
    if name and name not in NAMES and not name.startswith(TIMM):
        lines.append(
            f"--model {name} is no network of timm's nor of this project; choose one of "
            f"{', '.join(NAMES)}, or any of timm.list_models()"
        )
    if reading.dataset not in DATASETS:
        lines.append(
            f"--dataset {reading.dataset} is not known here; choose one of {', '.join(DATASETS)} "
            "(folder: any images in ROOT/train/<class> and ROOT/test/<class>)"
        )
    return lines


def _size_of(reading) -> int | None:
    """The size of the network's images, which train.py takes where none is said."""
    from astroformer.sizes import IMAGE_SIZE

    return None if reading.sized else IMAGE_SIZE.get(reading.model)


VERBS = (_recipe,)
