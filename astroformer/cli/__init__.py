"""The command `astroformer`: parse, call, print. Every verb has --help; one that prints a table has
--json.

Whatever goes wrong ends with one line on stderr (errors.py); ASTROFORMER_TRACEBACK=1 shows where it
was raised.
"""

import argparse
import contextlib
import os
import select
import sys
import warnings
from collections.abc import Sequence

# torch and fvcore announce TorchScript's end at every import
warnings.filterwarnings("ignore", category=FutureWarning)

from astroformer import machine  # noqa: E402
from astroformer.cli import (  # noqa: E402
    book,
    data,
    exporting,
    inference,
    networks,
    plan,
    recipes,
    report,
    speed,
    studies,
    suggest,
    training,
)
from astroformer.cli.common import speaks  # noqa: E402
from astroformer.cli.errors import complaint  # noqa: E402
from astroformer.version import __version__  # noqa: E402

INTERRUPTED, UNREAD = 130, 141  # as a shell says that SIGINT or SIGPIPE ended a program


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses, calls, prints; the exit status is 0, 1 (the work failed), 2 (what was asked for
    cannot be done), 130 (interrupted) or 141 (nobody reads on, as after `| head`).
    """
    options = None
    try:
        options = _asked(arguments)
        return _answer(options)
    except KeyboardInterrupt:
        _let_go_of_output()
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            _let_go_of_output()
            return UNREAD
        if os.environ.get("ASTROFORMER_TRACEBACK"):
            raise
        _let_go_of_output()
        usage = getattr(options, "usage", str)  # of the verb, see common.add_verb
        line, status = complaint(error, usage())
        # of the processes of torchrun the first speaks, unless it knows nothing of the error
        if speaks() or getattr(error, "rank", None) is not None:
            print(f"astroformer: {line}", file=sys.stderr)
        return status


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    try:
        return parser().parse_args(arguments)
    except SystemExit:  # after --help, or words that argparse refuses
        print(end="", flush=True)
        raise


def _answer(options: argparse.Namespace) -> int:
    """Calls, and writes out what was printed."""
    if (number := machine.together()) > 1 and options.call is not training.train:
        raise ValueError(
            f"torchrun has started {number} processes, which share the work of `train` alone; call "
            "this verb without it"
        )
    try:
        status = options.call(options) or 0
    except SystemExit:  # after --help of recipe from-timm
        print(end="", flush=True)
        raise
    print(end="", flush=True)
    return status


def _nobody_reads() -> bool:
    """Whether the other end of standard output, or of standard error, is closed."""
    try:
        watched = select.poll()
        for stream in (sys.stdout, sys.stderr):
            watched.register(stream.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0))
    except (AttributeError, OSError, ValueError):  # not a file of the system
        return False


def _let_go_of_output() -> None:
    """Writes out what was printed. What cannot be written is dropped, as the interpreter would
    complain of it when it ends.
    """
    try:
        print(end="", flush=True)
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):  # not a file of the system
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="astroformer",
        description="Astroformer, re-examined: networks, training, ledger, book.",
    )
    top.add_argument("--version", action="version", version=f"astroformer {__version__}")
    verbs = top.add_subparsers(required=True, metavar="VERB")
    for module in (
        networks,
        data,
        recipes,
        suggest,
        training,
        exporting,
        inference,
        report,
        studies,
        plan,
        speed,
        book,
    ):
        for add in module.VERBS:
            add(verbs)
    return top
