"""The memory of training every network: the largest micro-batch that a card holds, and what is
predicted beside what PyTorch's allocator hands out.

    .venv/bin/python -m astroformer.training.memory_by_card

prints the table by card. Nothing is allocated for it (`counting.memory`). What is measured, is
measured in a process for each network, whose end gives everything back.

Reads top to bottom: predicted, largest_micro_batch, predicted_by_card; measure (one network, in the
process that is started for it), measured_rows.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import pandas as pd
import torch
from timm.optim import create_optimizer_v2

from astroformer import machine
from astroformer.counting.memory import GB, Memory, gigabytes, held_by_the_allocator, of_training
from astroformer.ledger import records
from astroformer.models import create, default_image_size
from astroformer.sizes import IMAGE_SIZE, NAMES, checked_name
from astroformer.training.execution import can_recompute, checkpoint_gradients
from astroformer.training.memory import on_meta

CARDS = (16, 24, 40, 80, 141)  # GB of usual GPUs; 10^9 bytes, which is less than all of them have
CLASSES, OPTIMIZER = 1000, "adamw"
FAR = (4096, 8192)  # images at once, where the fullest moment is the one that grows the most
# measured at their own 224 pixels too
SMALL = ("astroformer_0", "spectformer_ti", "spectformer_xs", "spectformer_h_s")
MOST_MEASURED = 6 * GB  # of one process
SPARED = 2 * GB  # of what is free, for others


def can_checkpoint(name: str) -> bool:
    """Whether the network has blocks that can be computed again."""
    return can_recompute(_network(name, default_image_size(checked_name(name))))


def _network(name: str, image_size: int):
    return on_meta(name, (("img_size", image_size), ("num_classes", CLASSES)))


@lru_cache(maxsize=4096)
def predicted(
    name: str,
    image_size: int,
    micro_batch: int,
    *,
    checkpointed: bool = False,
    device: str = "cuda",
    precision: str = "bfloat16",
    channels_last: bool = False,
) -> Memory:
    """The fullest moment of AdamW's steps on one micro-batch of images of `image_size` pixels."""
    return of_training(
        _network(name, image_size),
        (image_size, image_size),
        batch=micro_batch,
        micro_batch=micro_batch,
        optimizer=OPTIMIZER,
        precision=precision,
        device=device,
        channels_last=channels_last,
        prepare=checkpoint_gradients if checkpointed else lambda network: None,
    )


def largest_micro_batch(
    name: str, image_size: int, cards: Sequence[float], *, checkpointed: bool = False
) -> list[int]:
    """The most images at once for which `Memory.most` is no more than each of the cards (GB); 0
    where one image is too much.

    At every moment of a step memory is affine in the number of images, so its fullest moment is
    convex in it. A line through two far points is therefore never above it, and touches it in
    between wherever it touches it at all: what the line promises is checked at the answer, and
    once that has held, it holds for all larger cards below the far points.
    """

    def most(images: int) -> float:
        return predicted(name, image_size, images, checkpointed=checkpointed).most

    first, second = FAR
    slope = (most(second) - most(first)) / (second - first)
    start, touched, found = most(first) - slope * first, False, []
    for card in sorted(cards):
        answer = max(0, int((card * GB - start) / slope))
        if answer and not (touched and answer <= second):
            if most(answer) <= card * GB:
                touched = abs(most(answer) - start - slope * answer) < 1
            else:  # another moment is fuller: the answer lies below
                low = 0
                while answer - low > 1:
                    middle = (low + answer) // 2
                    low, answer = (middle, answer) if most(middle) <= card * GB else (low, middle)
                answer = low
        found.append(answer)
    return [found[sorted(cards).index(card)] for card in cards]


def predicted_by_card(
    names: Sequence[str] = NAMES,
    *,
    sizes: Mapping[str, int] = IMAGE_SIZE,
    cards: Sequence[float] = CARDS,
) -> pd.DataFrame:
    """The largest micro-batch of each network at its image size (default: its own) on each card,
    with and without gradient checkpointing: bfloat16, AdamW, 1000 classes, the average of weights
    not kept. A network without blocks to compute again has one row.
    """
    rows = []
    for name in names:
        for checkpointed in (False, True) if can_checkpoint(name) else (False,):
            size = sizes.get(checked_name(name)) or default_image_size(name)
            images = largest_micro_batch(name, size, cards, checkpointed=checkpointed)
            rows.append(
                {
                    "model": name,
                    "image_size": size,
                    "checkpointing": checkpointed,
                    **{f"{card:g} GB": number for card, number in zip(cards, images, strict=True)},
                }
            )
    return pd.DataFrame(rows)


# --- predicted beside measured ---


def measure(name: str, image_size: int, micro_batches: Sequence[int]) -> Iterator[dict]:
    """Of a training on this machine's CPU, in float32: bytes that are predicted, and those that
    PyTorch's allocator hands out at most at once for the network, its optimizer and two steps.
    """
    from astroformer.counting.throughput import training_step

    for number in micro_batches:
        told = predicted(
            name, image_size, number, device="cpu", precision="float32", channels_last=True
        )

        def training(number: int = number) -> None:
            pixels = torch.zeros(number, 3, image_size, image_size, dtype=torch.uint8)
            model = create(name, img_size=image_size, num_classes=CLASSES)
            optimizer = create_optimizer_v2(model, opt=OPTIMIZER, lr=1e-4, weight_decay=0.05)
            step = training_step(model, pixels.float())
            for _ in range(2):  # the first makes the optimizer's states
                step()
                optimizer.step()
                model.zero_grad()

        measured = held_by_the_allocator(training)
        yield {
            "batch_size": number,
            "predicted_bytes": told.total,
            "moment": told.moment,
            "measured_bytes": measured,
            "ratio": measured / told.total,
        }


def sizes_to_measure(name: str) -> list[int]:
    """A small image that leaves the network a grid, and of networks that are small or made for
    small images their own size and one above.
    """
    own = default_image_size(name)
    return [own, 2 * own] if own <= 64 else [64, own] if name in SMALL else [64]


def measured_rows(
    names: Sequence[str] = NAMES,
    *,
    micro_batches: Sequence[int] = (4, 8),
    sizes: Mapping[str, Sequence[int]] | None = None,
    most: float = MOST_MEASURED,
) -> Iterator[dict]:
    """A record for each network, image size and micro-batch: bytes predicted, measured, and their
    ratio. A training that may take more than `most` bytes, or all but 2 GB of what is free here, is
    not measured, and its row says what it needs.
    """
    common = {
        "what": "training memory",
        "contestant": "float32, AdamW",
        "device": records.device_name(torch.device("cpu")),
        "versions": records.versions(),
        "git": records.git_state(),
        "classes": CLASSES,
    }
    for name in names:
        for size in sizes[name] if sizes else sizes_to_measure(checked_name(name)):
            told = {
                number: predicted(
                    name, size, number, device="cpu", precision="float32", channels_last=True
                )
                for number in micro_batches
            }
            room = min(most, machine.free_memory() - SPARED)
            small = [number for number in micro_batches if told[number].most <= room]
            measured = _in_a_process(name, size, small) if small else []
            left_out = [
                {
                    "batch_size": number,
                    "predicted_bytes": told[number].total,
                    "moment": told[number].moment,
                    "measured_bytes": None,
                    "ratio": None,
                    "note": f"not measured, needs {gigabytes(told[number].most)} GB",
                }
                for number in micro_batches
                if number not in small
            ]
            for row in (*measured, *left_out):
                started = datetime.now(UTC).isoformat(timespec="seconds")
                yield {**common, "started": started, "model": name, "image_size": size, **row}


def _in_a_process(name: str, image_size: int, micro_batches: Sequence[int]) -> list[dict]:
    words = [name, f"{image_size}", *map(str, micro_batches)]
    program = "from astroformer.training import memory_by_card as own; own.main()"
    command = [sys.executable, "-W", "ignore", "-c", program, *words]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        said = (result.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise OSError(f"measuring {name} at {image_size} pixels ended early: {said}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def main() -> None:
    """Without words the table by card; with a name, pixels and micro-batches what is measured."""
    words = sys.argv[1:]
    if not words:
        print(predicted_by_card().to_string(index=False))
        return
    for row in measure(words[0], int(words[1]), [int(word) for word in words[2:]]):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
