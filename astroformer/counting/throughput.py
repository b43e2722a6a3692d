"""Speed as a ratio: calls that are compared take turns in one process, so that whatever else the
machine does hits all of them.

Reads top to bottom: `turns`, `middle_half`, `interleaved`, `training_step`, `images_per_second`,
`step_ratios`, `price`.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn

from astroformer.counting.cost import model_cost
from astroformer.models import create


def turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    warmup: int = 2,
    seconds: float | None = None,
    synchronize: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Seconds of each call in each round, (rounds,). Within a round each call runs once; the order
    turns from round to round.

    seconds: after which no other round begins, though there are at least 3
    synchronize: waits for an accelerator
    """
    names, found = list(calls), {name: [] for name in calls}
    begun = time.monotonic()
    for turn in range(warmup + rounds):
        over = seconds is not None and time.monotonic() - begun > seconds
        if over and turn >= warmup + 3:
            break
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            synchronize()
            began = time.perf_counter()
            calls[name]()
            synchronize()
            if turn >= warmup:
                found[name].append(time.perf_counter() - began)
    return {name: np.array(each) for name, each in found.items()}


def middle_half(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    warmup: int = 2,
    synchronize: Callable[[], None] = lambda: None,
) -> pd.DataFrame:
    """Seconds of each call (median over rounds) and its ratio to the first call's in the same
    round: median and the middle half. Arguments as of `turns`.
    """
    seconds = turns(calls, rounds=rounds, warmup=warmup, synchronize=synchronize)
    base, rows = next(iter(seconds.values())), []
    for name, own in seconds.items():
        low, middle, high = middle_half(own / base)
        rows.append(
            {
                "name": name,
                "seconds": statistics.median(own),
                "ratio": middle,
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


def training_step(
    model: nn.Module,
    images: torch.Tensor,
    *,
    channels_last: bool = True,
    precision: str = "float32",
) -> Callable[[], None]:
    """Forward and backward pass of a batch (B, 3, H, W); no optimizer, whose part does not
    depend on the network's options. precision: or "bfloat16" (autocast)
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model, images = model.train().to(memory_format=layout), images.contiguous(memory_format=layout)
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)

    def step() -> None:
        model.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()

    return step


def images_per_second(
    model: nn.Module, image_size: int, *, batch_size: int, rounds: int = 3, **how
) -> float:
    """Of training steps on the network's device, on random images, after two that are not counted;
    `how` as of `training_step`.
    """
    device = next(model.parameters()).device
    images = torch.randn(batch_size, 3, image_size, image_size, device=device)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    step = training_step(model, images, **how)
    timed = interleaved({"step": step}, rounds=rounds, synchronize=synchronize)
    return batch_size / float(timed["seconds"].iloc[0])


def step_ratios(
    models: Mapping[str, nn.Module], *, image_size: int, batch_size: int = 16, rounds: int = 9
) -> pd.DataFrame:
    """`interleaved` training steps on random images; the first model is what the others are
    compared with.
    """
    device = next(next(iter(models.values())).parameters()).device
    images = torch.randn(batch_size, 3, image_size, image_size, device=device)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    return interleaved(
        {name: training_step(model, images) for name, model in models.items()},
        rounds=rounds,
        synchronize=synchronize,
    )


def price(
    name: str,
    choices: Mapping[str, dict],
    *,
    image_size: int,
    batch_size: int = 16,
    num_classes: int = 10,
    rounds: int = 9,
) -> pd.DataFrame:
    """What options of a network cost, against the first of `choices` (name -> options):
    multiply-adds of one image, counted, and the time of a training step, measured.
    """
    macs = {
        label: model_cost(name, image_size=image_size, num_classes=num_classes, **options)["macs"]
        for label, options in choices.items()
    }
    models = {
        label: create(name, img_size=image_size, num_classes=num_classes, **options)
        for label, options in choices.items()
    }
    steps, first = (
        step_ratios(models, image_size=image_size, batch_size=batch_size, rounds=rounds),
        next(iter(macs.values())),
    )
    return pd.DataFrame(
        {
            "multiply-adds (M)": [f"{count / 1e6:.1f}" for count in macs.values()],
            "ratio": [f"{count / first:.2f}" for count in macs.values()],
            "time of a training step, ratio": [f"{row.ratio:.2f}" for row in steps.itertuples()],
            "its middle half": [f"{row.low:.2f} to {row.high:.2f}" for row in steps.itertuples()],
        },
        index=list(macs),
    )
