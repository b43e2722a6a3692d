"""Being stopped: Ctrl-C, or SIGTERM or SIGUSR1 from a batch system, to this process or to its whole
group.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from astroformer.data.loader import STOPPING

TOGETHER = 5.0  # seconds


class Stopped(Exception):
    """Evaluation was left because of an interrupt; nothing is lost."""


class Interrupts:
    """While entered, an interrupt raises KeyboardInterrupt at once where nothing is to be saved,
    and within `deferred` only sets `stopped`, which the loop reads between two steps.

    An exception in the middle of an optimizer step would leave half of the weights updated. A
    second interrupt ends at once, unless it follows within TOGETHER seconds: a batch system tells
    every process of a job, and those that started this one tell it too.

    seconds: after which `stop` is called; None for never
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.stopped = False
        self.told = False  # by a signal
        self._told_at = 0.0
        self._timer = None if seconds is None else threading.Timer(max(0.0, seconds), self.stop)
        self._deferring = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in STOPPING}
        if self._timer:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_) -> None:
        if self._timer:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if not self._deferring or (self.told and now - self._told_at > TOGETHER):
            raise KeyboardInterrupt
        if not self.told:
            self.stopped, self.told, self._told_at = True, True, now

    @contextmanager
    def deferred(self) -> Iterator[None]:
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def stop(self) -> None:
        """As an interrupt does within `deferred`, from any thread."""
        self.stopped = True

    def check(self) -> None:
        """Raises Stopped after an interrupt: for work that can be left between two parts of it."""
        if self.stopped:
            raise Stopped
