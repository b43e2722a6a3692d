"""The least time that a training step can take on a device, and what fills the time above it.

The floor is that of the roofline (Williams, Waterman and Patterson 2009): each operation takes the
longer of its arithmetic at the device's matrix rate and its traffic at the device's copy rate, both
measured. The backward pass does twice the arithmetic of the forward pass and moves twice its bytes:
the gradients of inputs and of weights. The optimizer reads four numbers of each weight and writes
three. A step that fuses operations, which then move fewer bytes, may be faster.
"""

from collections.abc import Callable
from functools import cache

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from astroformer.counting import trace
from astroformer.counting.budget import FLOP_PER_MAC
from astroformer.counting.memory import silenced
from astroformer.speed.contestants import PLAINEST
from astroformer.speed.roofline import Roofline, synchronize

PASSES = 3  # a step over its forward pass
OF_OPTIMIZER = 7 * 4  # bytes of each weight: w, gradient, m, v; then w, m, v
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
PROFILED = 3  # steps
NAMED = 6  # kernels that are told


@cache
def _operations(name: str, image_size: int, dtype_bytes: int) -> pd.DataFrame:
    with torch.device("meta"):
        model = PLAINEST.network(name, image_size)
    return trace.record(model, image_size, dtype_bytes=dtype_bytes).frame()


def floor_of(
    name: str, image_size: int, number: int, *, precision: str, params: int, limits: Roofline
) -> dict:
    """Seconds of a step on `number` images, in all and by stage of the network.

    floor: the sum over operations; arithmetic: that of all arithmetic alone, which no fusion beats
    """
    product = limits.product_in(precision)
    operations = _operations(name, image_size, BYTES[precision])
    arithmetic = FLOP_PER_MAC * operations["macs"] * number / product
    moved = number * (operations["input_bytes"] + operations["output_bytes"])
    traffic = PASSES * (moved + operations["weight_bytes"]) / limits.copy
    longer = arithmetic.clip(lower=traffic)
    stages = longer.groupby(operations["stage"], sort=False).sum().to_dict()
    stages["optimizer"] = OF_OPTIMIZER * params / limits.copy
    return {
        "floor": float(sum(stages.values())),
        "floor_arithmetic": float(arithmetic.sum()),
        "floor_by_stage": {stage: float(seconds) for stage, seconds in stages.items()},
    }


def kernels_of(step: Callable[[], object], device: torch.device) -> list[list]:
    """The kernels, or on a CPU PyTorch's operations, that take most of a call's time, with their
    parts of it: [name, 0 to 1], the largest first.
    """
    gpu = device.type == "cuda"
    kinds = [ProfilerActivity.CUDA] if gpu else [ProfilerActivity.CPU]
    with silenced(), profile(activities=kinds) as seen:
        for _ in range(PROFILED):
            step()
        synchronize(device)
    rows = [
        (event.key, event.self_device_time_total if gpu else event.self_cpu_time_total)
        for event in seen.key_averages()
    ]
    whole = sum(time for _, time in rows)
    rows = sorted(rows, key=lambda row: -row[1])[:NAMED]
    return [[name[:120], time / whole] for name, time in rows if time]
