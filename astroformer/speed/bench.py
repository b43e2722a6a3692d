"""Training steps of several contestants, which take turns in one process.

Whatever else the machine does hits all of them, and what is told is the ratio within a round: its
median and its middle half. The device's own limits are measured in the same call.

Reads top to bottom: Asked, bench, rows_of_network, forward passes, what a row says.
"""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor

from astroformer.counting.budget import FLOP_PER_MAC
from astroformer.counting.cost import count_macs, count_params
from astroformer.counting.throughput import middle_half, turns
from astroformer.ledger import records
from astroformer.speed import epochs, processes, roofline
from astroformer.speed.contestants import PLAINEST, Contestant, batch_of, contestants, models_on
from astroformer.speed.floors import floor_of, kernels_of
from astroformer.speed.roofline import Roofline, synchronize
from astroformer.training.execution import SMALL
from astroformer.training.step import Step

ROUNDS = 30  # at most
# a turn lasts so long that starting the clock does not count, in seconds
TURN = {"cpu": 0.2, "cuda": 0.05}
BATCH = {"cpu": 16, "cuda": 256}  # images of a step when nobody says
SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is measured. Empty means the usual of the device."""

    models: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    batch_size: int = 0
    seconds: float = SECONDS
    compiled: bool | None = None  # torch.compile among the contestants; None: on a GPU
    epochs: bool = True  # whole epochs with data, and several processes, too


def bench(
    asked: Asked, device: torch.device, report: Callable[[str], None] = print
) -> Iterator[dict]:
    """Rows as `row_of` makes them, as soon as each is known. Every network gets the same part of
    the time that is left; one that does not fit into it is begun all the same.
    """
    ends = time.monotonic() + asked.seconds
    limits = roofline.measured(device)
    said = common(device) | {"product": limits.product, "copy": limits.copy}
    yield said | {"what": "roofline"}
    tasks = [("steps", *one) for one in models_on(device, asked.models, asked.sizes)]
    if asked.epochs and not (asked.models or asked.sizes):
        tasks.append(("processes", *processes.USUAL[device.type][:2]))
    if asked.epochs:
        tasks += [("epochs", *one) for one in epochs.models_on(device, asked.models, asked.sizes)]
    for number, (what, name, size) in enumerate(tasks):
        left = (ends - time.monotonic()) / (len(tasks) - number)
        report(f"{name} at {size} pixels, {what}: {max(0, left):.0f} s")
        if what == "steps":
            rows = rows_of_network(name, size, device, asked, limits, left, report)
        elif what == "processes":
            rows = processes.rows(device, left / 2)  # the other half starts them
        else:
            rows = epochs.rows_of_network(name, size, device, left)
        for row in rows:
            yield said | row
        release(device)


def common(device: torch.device) -> dict:
    """What every row says of the machine and the moment."""
    return {
        "device": records.device_name(device),
        "versions": records.versions(),
        "git": records.git_state(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def release(device: torch.device) -> None:
    """Gives back what the contestants had."""
    gc.collect()
    torch._dynamo.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@dataclass
class Entered:
    """A contestant that is ready to take turns."""

    contestant: Contestant
    step: Step
    batch: tuple[Tensor, Tensor]
    prepared: float  # seconds from nothing to the end of its second step
    peak: int | None  # bytes on a GPU at the fullest moment of a step, all its own included

    def __call__(self) -> None:
        self.step(*self.batch)


def entered(
    contestant: Contestant, name: str, size: int, number: int, device: torch.device
) -> Entered:
    """A contestant after two steps."""
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device) if gpu else 0
    began = time.monotonic()
    step = contestant.step(name, size, device)
    batch = batch_of(number, size, device, execution=contestant.execution)
    for _ in range(2):
        step(*batch)
    synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) - held if gpu else None
    return Entered(contestant, step, batch, time.monotonic() - began, peak)


def rows_of_network(
    name: str,
    size: int,
    device: torch.device,
    asked: Asked,
    limits: Roofline,
    seconds: float,
    report: Callable[[str], None],
) -> Iterator[dict]:
    """A row for each contestant: its training step, and for those of PyTorch's operations one by
    one the forward pass. A contestant that does not fit into the memory beside the others says so.
    """
    began = time.monotonic()
    number = asked.batch_size or BATCH[device.type]
    compiled = device.type == "cuda" if asked.compiled is None else asked.compiled
    ready: list[Entered] = []
    with torch.device("meta"):
        model = PLAINEST.network(name, size)
    counted = {"macs": count_macs(model, size), "params": count_params(model)}
    graphs = device.type == "cuda" and counted["macs"] * number <= SMALL
    for contestant in contestants(name, device, compiled=compiled, graphs=graphs):
        try:
            ready.append(entered(contestant, name, size, number, device))
        except (torch.OutOfMemoryError, MemoryError):
            release(device)
            yield row_of(contestant, name, size, number, "step") | {"status": "out of memory"}
            continue
        report(f"  {contestant.label}: ready after {ready[-1].prepared:.1f} s")
    if not ready:
        return
    times = repetitions(ready[0], device)
    left = seconds - (time.monotonic() - began)

    def taking_turns(calls: dict[str, Callable[[], object]], part: float) -> dict[str, dict]:
        """Timings by label; the first call is what the others are compared with."""
        found = turns(
            {label: repeated(call, times) for label, call in calls.items()},
            rounds=ROUNDS,
            warmup=1,
            seconds=max(0.0, part * left),
            synchronize=lambda: synchronize(device),
        )
        first = next(iter(found.values()))
        return {label: timing(own / times, first / times, number) for label, own in found.items()}

    timed = taking_turns({one.contestant.label: one for one in ready}, 0.8)
    for one in ready:
        precision, own = one.contestant.precision, timed[one.contestant.label]
        operations = FLOP_PER_MAC * counted["macs"] * own["images_per_second"]
        told = {
            "prepared": one.prepared,
            "peak_memory": one.peak,
            "of_product": operations / limits.product_in(precision),
            "kernels": kernels_of(one, device),
        }
        how = dict(precision=precision, params=counted["params"], limits=limits)
        floor = floor_of(name, size, number, **how)
        yield row_of(one.contestant, name, size, number, "step") | counted | own | told | floor
    eager = [one for one in ready if not one.contestant.execution.compile][:3]
    timed = taking_turns({one.contestant.label: forward_of(one) for one in eager}, 0.2)
    for one in eager:
        row = row_of(one.contestant, name, size, number, "forward")
        yield row | counted | timed[one.contestant.label]


def repetitions(one: Entered, device: torch.device) -> int:
    """How many steps make a turn."""
    synchronize(device)
    clock = time.monotonic()
    one()
    synchronize(device)
    return max(1, round(TURN[device.type] / (time.monotonic() - clock)))


def repeated(call: Callable[[], object], times: int) -> Callable[[], None]:
    def several() -> None:
        for _ in range(times):
            call()

    return several


def forward_of(one: Entered) -> Callable[[], None]:
    """An evaluation pass of a contestant's network, without gradients."""

    def forward() -> None:
        one.step.model.eval()
        with torch.inference_mode(), one.step.autocast():
            one.step.model(one.batch[0])
        one.step.model.train()

    return forward


def timing(own: np.ndarray, first: np.ndarray, number: int) -> dict:
    """Seconds of a step in each round, and of the first contestant's: medians and middle halves."""
    low, middle, high = middle_half(own)
    times_low, times, times_high = middle_half(first / own)
    return {
        "status": "measured",
        "rounds": len(own),
        "seconds": middle,
        "seconds_low": low,
        "seconds_high": high,
        "images_per_second": number / middle,
        "times_as_fast": times,
        "times_low": times_low,
        "times_high": times_high,
    }


def row_of(contestant: Contestant, name: str, size: int, number: int, what: str) -> dict:
    execution = {
        field: value
        for field, value in vars(contestant.execution).items()
        if field in ("channels_last", "compile", "fused", "graphs")
    }
    return {
        "what": what,
        "model": name,
        "image_size": size,
        "batch_size": number,
        "contestant": contestant.label,
        "precision": contestant.precision,
        "execution": execution,
    }
