"""How long a training will take, by its own first steps."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from astroformer.counting.budget import duration
from astroformer.machine import is_watched

if TYPE_CHECKING:
    from tqdm import tqdm

# The steps after which the clock is read: the first ones choose kernels and ask for memory.
FIRST, LAST = 2, 5
SOON = 60  # seconds until a measurement, which tells the same, that are worth no line


class Pace:
    """Reports once, after LAST steps, what a step takes and for how long it goes on so. Where
    somebody watches, a bar of the steps until the network is measured, which goes when it is full.
    """

    def __init__(self, device: torch.device, report: Callable[[str], None], *, bar: bool = True):
        self.device, self.report = device, report
        self.seen, self.began = 0, 0.0
        self.hidden = not (bar and is_watched())
        self.bar: tqdm | None = None

    def after_step(self, to_the_measurement: int, left: int) -> None:
        """Counts a step; so many are left until the network is measured, and in all."""
        self._move(to_the_measurement)
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
            self._clear()  # the next step draws it again below the line
            self.report(
                f"a step takes {each:.2g} s: {duration(each * left)} for the {left:,} steps that "
                "are left"
            )

    def _move(self, to_the_measurement: int) -> None:
        if self.hidden:
            return
        if self.bar is None:
            from tqdm.auto import tqdm  # in a kernel it brings ipywidgets

            self.bar = tqdm(total=to_the_measurement + 1, unit="step", leave=False)
        self.bar.update()
        if to_the_measurement == 0:
            self.bar.close()
            self.bar = None

    def _clear(self) -> None:
        if self.bar is not None:
            self.bar.clear()
