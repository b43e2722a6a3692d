"""How long a training will take, by its own first steps."""

import time
from collections.abc import Callable

import torch

from astroformer.counting.budget import duration

# The steps after which the clock is read: the first ones choose kernels and ask for memory.
FIRST, LAST = 2, 5
SOON = 60  # seconds until a measurement, which tells the same, that are worth no line


class Pace:
    """Reports once, after LAST steps, what a step takes and for how long it goes on so."""

    def __init__(self, device: torch.device, report: Callable[[str], None]):
        self.device, self.report = device, report
        self.seen, self.began = 0, 0.0

    def after_step(self, to_the_measurement: int, left: int) -> None:
        """Counts a step; so many are left until the network is measured, and in all."""
        self.seen += 1
        if self.seen not in (FIRST, LAST):
            return
        if self.device.type == "cuda":  # which may still have them before it
            torch.cuda.synchronize(self.device)
        now = time.monotonic()
        if self.seen == FIRST:
            self.began = now
            return
        each = (now - self.began) / (LAST - FIRST)
        if each * to_the_measurement > SOON:
            self.report(
                f"a step takes {each:.2g} s: {duration(each * left)} for the {left:,} steps that "
                "are left"
            )
