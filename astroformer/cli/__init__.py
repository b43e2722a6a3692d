"""The command `astroformer`: parse, call, print. Every verb has --help; one that prints a table has
--json.

Bad input ends with one line on stderr and status 2; ASTROFORMER_TRACEBACK=1 shows where it was
raised.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

# torch and fvcore announce TorchScript's end at every import
warnings.filterwarnings("ignore", category=FutureWarning)

from astroformer.cli import book, data, networks, recipes, training  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses, calls, prints; the exit status is 0, 1 (the work failed), 2 (bad input) or 130
    (interrupted).
    """
    options = parser().parse_args(arguments)
    try:
        return options.call(options) or 0
    except (ValueError, OSError) as error:
        if os.environ.get("ASTROFORMER_TRACEBACK"):
            raise
        print(f"astroformer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="astroformer",
        description="Astroformer, re-examined: networks, training, ledger, book.",
    )
    verbs = top.add_subparsers(required=True, metavar="VERB")
    for module in (networks, data, recipes, training, book):
        for add in module.VERBS:
            add(verbs)
    return top
