"""Logs of a run beside its checkpoints, each only when asked for (`--log csv`): the numbers of
every epoch as they come.

csv           runs/<hash>/log.csv, one line an epoch, one column a number
tensorboard   runs/<hash>/tensorboard/, for `tensorboard --logdir runs`
wandb         the service at wandb.ai, if its package is installed; the only one that uses a network

The names are those of a record's history (train_loss, learning_rate, top1, ...), alike in all
three. A log is made from the whole history each time it is opened: a resumed run has each epoch
once, those before it was asked for among them.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pandas as pd

from astroformer.training.run import Run

Note = Callable[[list[dict]], None]  # takes the history as it stands


@contextmanager
def csv_log(run: Run) -> Iterator[Note]:
    """Written whole after each epoch: a reader sees all lines or those before."""
    run.folder.mkdir(parents=True, exist_ok=True)
    path, part = run.folder / "log.csv", run.folder / f"part-{os.getpid()}.csv"

    def note(history: list[dict]) -> None:
        if history:
            pd.DataFrame(history).to_csv(part, index=False)
            os.replace(part, path)

    yield note


@contextmanager
def tensorboard_log(run: Run) -> Iterator[Note]:
    from torch.utils.tensorboard import SummaryWriter

    # Epochs count from 1: what an earlier session wrote into the folder is void, the history
    # repeats it.
    with SummaryWriter(run.folder / "tensorboard", purge_step=1) as writer:
        written = 0

        def note(history: list[dict]) -> None:
            nonlocal written
            for entry in history[written:]:
                for name, value in scalars(entry).items():
                    writer.add_scalar(name, value, global_step=entry["epoch"])
            written = len(history)
            writer.flush()

        yield note


@contextmanager
def wandb_log(run: Run) -> Iterator[Note]:
    import wandb

    run.folder.mkdir(parents=True, exist_ok=True)
    with wandb.init(
        project="astroformer", id=run.hash, resume="allow", dir=run.folder, config=run.identity()
    ) as remote:

        def note(history: list[dict]) -> None:
            for entry in history:
                if entry["epoch"] >= remote.step:  # those before are there already
                    remote.log(scalars(entry), step=entry["epoch"])

        yield note


def scalars(entry: dict) -> dict[str, float]:
    """The numbers of an epoch without its own."""
    return {name: value for name, value in entry.items() if name != "epoch"}


LOGS = {"csv": csv_log, "tensorboard": tensorboard_log, "wandb": wandb_log}


def check_logs(names: Sequence[str]) -> None:
    """Raises ValueError, before anything is trained, for a log that is not known or whose
    package is not installed.
    """
    for name in names:
        if name not in LOGS:
            raise ValueError(f"log {name!r} is not known; choose one of {', '.join(LOGS)}")
    if "wandb" in names and importlib.util.find_spec("wandb") is None:
        raise ValueError(
            "the log wandb needs a package that is not installed: pip install wandb, "
            "or choose csv, tensorboard"
        )


@contextmanager
def opened_logs(names: Sequence[str], run: Run) -> Iterator[Note]:
    """The logs of a resolved run as one function, which takes the history as it stands."""
    with ExitStack() as stack:
        notes = [stack.enter_context(LOGS[name](run)) for name in dict.fromkeys(names)]

        def note(history: list[dict]) -> None:
            for one in notes:
                one(history)

        yield note
