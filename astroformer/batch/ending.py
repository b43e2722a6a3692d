"""Being told to end by a scheduler, for the whole life of a process. Nothing here imports what
takes seconds, so that the first of them are covered, too.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Ending:
    """Whether a scheduler has told this process to end, and who is to save what it has."""

    def __init__(self) -> None:
        self.told = False
        self._forward: Callable[[], None] | None = None

    def note(self, number: int, frame: object = None) -> None:
        """The handler of the signals."""
        print(f"told to end (signal {number}): saving", file=sys.stderr, flush=True)
        first, self.told = not self.told, True
        if first and self._forward:
            self._forward()

    @contextmanager
    def handed_to(self, forward: Callable[[], None]) -> Iterator[None]:
        """While entered, the first signal is handed on; what is running then saves and ends by
        itself.
        """
        self._forward = forward
        if self.told:  # a moment ago
            forward()
        try:
            yield
        finally:
            self._forward = None


@contextmanager
def told_to_end() -> Iterator[Ending]:
    """While entered, a scheduler's signal is noted, and ends nothing."""
    ending = Ending()
    before = {number: signal.signal(number, ending.note) for number in SIGNALS}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stay() -> None:
    """From here on a signal changes nothing: what is done keeps its exit status, while the
    interpreter takes its seconds to end.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
