"""Several trainings side by side on one machine, as `study run --parallel K` makes them: images a
second of all together, beside those of one process.

Each process trains a copy of its own and is told when to begin; arrangements of processes take
turns, while the others wait.

    python -m astroformer.speed.processes NAME PIXELS IMAGES DEVICE

is such a process; it reads seconds from its input and answers with the steps that it made in them.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from astroformer import machine
from astroformer.counting.throughput import middle_half
from astroformer.speed.contestants import Contestant, batch_of
from astroformer.speed.roofline import synchronize
from astroformer.training.execution import Execution

USUAL = {"cpu": ("astroformer_pico", 64, 16), "cuda": ("astroformer_pico", 64, 64)}
ROUNDS = 5
READY = 300.0  # seconds that a process has to begin
OURS = Contestant(label="ours", whose="ours", execution=Execution(), precision="float32")


@dataclass(frozen=True)
class Arrangement:
    processes: int
    threads: int  # of each

    @property
    def label(self) -> str:
        one = self.processes == 1
        each = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"1 process, {each}" if one else f"{self.processes} processes of {each}"


def arrangements(device: torch.device) -> list[Arrangement]:
    """One process first; then as many as there are processors, or several on one GPU."""
    if device.type == "cuda":
        return [Arrangement(number, 1) for number in (1, 2, 4)]
    here = machine.processors()
    found = [Arrangement(1, here), Arrangement(1, 1), Arrangement(here, 1)]
    return list(dict.fromkeys(found))


def rows(device: torch.device, seconds: float) -> Iterator[dict]:
    """A row for each arrangement; `times_as_fast` is to the first, in the same round."""
    name, size, number = USUAL[device.type]
    known = arrangements(device)
    each = max(1.0, seconds / (ROUNDS * len(known)))
    crews = {one: _Crew(one, name, size, number, device) for one in known}
    try:
        found = {one: np.zeros(ROUNDS) for one in known}
        for round_ in range(ROUNDS):
            for one, crew in crews.items():
                found[one][round_] = crew.images_per_second(each)
    finally:
        for crew in crews.values():
            crew.end()
    first = found[known[0]]
    for one in known:
        low, middle, high = middle_half(found[one] / first)
        yield {
            "what": "processes",
            "status": "measured",
            "model": name,
            "image_size": size,
            "batch_size": number,
            "contestant": one.label,
            "precision": OURS.precision,
            "processes": one.processes,
            "threads": one.threads,
            "rounds": ROUNDS,
            "images_per_second": float(np.median(found[one])),
            "times_as_fast": middle,
            "times_low": low,
            "times_high": high,
        }


class _Crew:
    """The processes of an arrangement, ready before the first is asked."""

    def __init__(self, one: Arrangement, name: str, size: int, number: int, device: torch.device):
        self.number = number
        command = [sys.executable, "-m", __name__, name, str(size), str(number), device.type]
        self.members = [
            subprocess.Popen(
                command,
                env=os.environ | machine.threads(one.threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(one.processes)
        ]
        for member in self.members:
            self._answer(member)

    @staticmethod
    def _answer(member: subprocess.Popen) -> float:
        assert member.stdout is not None
        line = member.stdout.readline()
        if not line:
            raise ChildProcessError(
                f"a process that trains beside others ended with status {member.wait(READY)}"
            )
        return float(line)

    def images_per_second(self, seconds: float) -> float:
        for member in self.members:
            assert member.stdin is not None
            print(seconds, file=member.stdin, flush=True)
        return sum(self.number * self._answer(member) for member in self.members)

    def end(self) -> None:
        """A process ends at the end of its input."""
        for member in self.members:
            assert member.stdin is not None and member.stdout is not None
            member.stdin.close()
            member.stdout.close()
            member.wait(READY)


def answer(arguments: Sequence[str]) -> None:
    """Trains when asked, and says the steps a second."""
    name, size, number, kind = arguments
    device = torch.device(kind)
    step = OURS.step(name, int(size), device)
    batch = batch_of(int(number), int(size), device, execution=OURS.execution)
    for _ in range(2):
        step(*batch)
    print(0.0, flush=True)
    for line in sys.stdin:
        made, began = 0, time.monotonic()
        while time.monotonic() - began < float(line):
            step(*batch)
            synchronize(device)
            made += 1
        print(made / (time.monotonic() - began), flush=True)


if __name__ == "__main__":
    answer(sys.argv[1:])
