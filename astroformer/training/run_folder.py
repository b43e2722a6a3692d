"""The folder of a run, `runs/HASH/`: who works in it, what is written there and when.

.lock         held by the process that trains the run; freed by the system when it ends
.lock.lease   beside it where the file system's locks are none, or of one machine only: see locks.py
last.pt       the newest checkpoint; of a finished run the weights alone
previous.pt   the one before, while the run goes on
.forced       while a run that the ledger holds is trained again, or has its record and not yet its
              weights and predictions: the ledger then does not answer for it

Checkpoints themselves, how they are written and read, are `checkpoint.py`'s concern.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from astroformer import paths
from astroformer.locks import Lock, OnLoss, locked
from astroformer.training import checkpoint

SHARE = 0.02  # part of the time that checkpoints may take
SHORTEST = 30.0  # seconds between two checkpoints within an epoch
LAST, PREVIOUS, LOCK, FORCED = "last.pt", "previous.pt", ".lock", ".forced"


class Busy(OSError):
    """Another process works on the run."""


class Lost(Busy):
    """Another process has taken the run from this one, which slept, or was taken for dead."""


@contextmanager
def held(
    folder: Path, *, wait: bool, report: Callable[[str], None], on_loss: OnLoss | None = None
) -> Iterator[Lock]:
    """The folder's lock. Busy if another process has it and this one shall not wait.

    on_loss: called in any thread, with a sentence, if another process takes the lock meanwhile.
        From then on nothing may be written into the folder: it is the other's, which has gone on
        from the last checkpoint, and whatever was trained since is trained there again.
    """
    check_writable(folder)
    with locked(folder / LOCK, wait=False, on_loss=on_loss) as lock:
        if lock:
            yield lock
            return
    who = f" ({lock.holder})" if lock.holder else ""
    if not wait:
        raise Busy(f"another process works on run {folder.name}{who}")
    report(f"another process works on run {folder.name}{who}; waiting for it to end")
    with locked(folder / LOCK, on_loss=on_loss) as lock:
        yield lock


def check_writable(folder: Path) -> None:
    """Makes the folder and tries to write there, before anything is trained. OSError in one line
    that names the way out.
    """
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"0" * 4096)
    except OSError as error:
        raise OSError(
            f"cannot write checkpoints into {folder} ({error.strerror or error}); set "
            "ASTROFORMER_RUNS to a folder of your own, on a disk with room"
        ) from error
    finally:
        with suppress(OSError):
            probe.unlink()


def remove_parts(folder: Path) -> None:
    """What processes left that were killed while they wrote a checkpoint. Call it with the lock."""
    for part in folder.glob("part-*"):
        part.unlink(missing_ok=True)


def is_forced(folder: Path) -> bool:
    """Whether a run that the ledger may hold is being trained again, or was not ended in full."""
    return (folder / FORCED).exists()


def begin_end(folder: Path) -> None:
    """A record is about to be written, and weights and predictions after it: a process that is
    killed in between is followed by one that goes on. On a full disk the record comes first.
    """
    with suppress(OSError):
        (folder / FORCED).touch()


def begin_anew(folder: Path) -> None:
    """Forgets what is there, for a run that is trained again. One that was begun anew and stopped
    goes on instead. Call it with the lock.
    """
    if is_forced(folder):
        return
    for name in (LAST, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
    (folder / FORCED).touch()


class Checkpoints:
    """Writes the checkpoints of a run. Left alone, as often as SHARE of the time allows, and not
    more often than every SHORTEST seconds within an epoch; with `seconds`, that often within an
    epoch and at the end of each.

    writes: False in a process that leaves it to another, as ranks but the first do
    lock: of the folder; once it is another process's nothing is written any more
    """

    def __init__(
        self,
        folder: Path,
        *,
        seconds: float | None,
        writes: bool = True,
        lock: Lock | None = None,
    ):
        if seconds is not None and not seconds >= 0:
            raise ValueError(f"checkpoint_seconds {seconds} is no time; give 0 or more seconds")
        self.folder, self.seconds, self.writes = folder, seconds, writes
        self.lock = lock or Lock(True)
        self.cost = 0.0  # seconds that the last one took
        self.saved_at = time.monotonic()

    def due(self) -> bool:
        """Whether one is to be written within an epoch."""
        if not self.writes:
            return False
        interval = max(SHORTEST, self.cost / SHARE) if self.seconds is None else self.seconds
        return time.monotonic() - self.saved_at > interval

    def affordable(self) -> bool:
        """Whether one is to be written at the end of an epoch, but for the last: short epochs of a
        large network would spend their time on the disk.
        """
        passed = time.monotonic() - self.saved_at
        return self.writes and (self.seconds is not None or passed >= self.cost / SHARE)

    def write(self, state: dict) -> None:
        if not self.writes:
            return
        began = time.monotonic()
        checkpoint.save(state, self.folder, lost=self.lock.lost)
        self.saved_at = time.monotonic()
        self.cost = self.saved_at - began

    def finish(self, state: dict) -> None:
        """Leaves the weights of a finished run and nothing that only going on would need."""
        checkpoint.save(state, self.folder, lost=self.lock.lost)
        for name in () if self.lock.lost() else (PREVIOUS, FORCED):
            (self.folder / name).unlink(missing_ok=True)


def folder_of(run: str) -> Path:
    """By a run's hash."""
    return paths.runs() / run
