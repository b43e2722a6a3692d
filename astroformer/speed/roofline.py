"""What a device can do at most, measured: a large matrix product and a large copy.

A network that does F operations and moves B bytes takes at least max(F / product, B / copy)
(Williams, Waterman and Patterson 2009, "Roofline").
"""

import statistics
import time
from dataclasses import dataclass

import torch

# side of the square matrices, at most, and bytes that are copied: larger than caches, and soon done
SIDE = {"cpu": 2048, "cuda": 8192}
SMALLEST = 256  # side
LONGEST = 1.0  # seconds of a product. A processor without instructions for bfloat16 needs a minute
COPIED = {"cpu": 2**28, "cuda": 2**31}
ROUNDS = 7


@dataclass(frozen=True)
class Roofline:
    """Of one device."""

    product: dict[str, float]  # precision -> operations a second, two for a multiply-add
    copy: float  # bytes a second, read and written

    def product_in(self, precision: str) -> float:
        """The matrix product's rate in a precision; both half precisions are as fast."""
        return self.product["bfloat16" if precision == "float16" else precision]


def synchronize(device: torch.device) -> None:
    """Waits for what the device still has before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured(device: torch.device) -> Roofline:
    """The median of a few rounds on random numbers."""
    product = {
        precision: rate_of_product(device, SIDE[device.type], getattr(torch, precision))
        for precision in ("float32", "bfloat16")
    }
    number = COPIED[device.type]
    source = torch.ones(number, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Roofline(product, 2 * number / _median(lambda: target.copy_(source), device))


def rate_of_product(device: torch.device, most: int, dtype: torch.dtype) -> float:
    """Operations a second of a product of square matrices: of side `most`, or where LONGEST does
    not allow it the best of the smaller ones, since a product without instructions of its own is
    faster in the caches.
    """
    side, rates = SMALLEST, []
    while side < most:
        seconds = _seconds_of_product(device, side, dtype, rounds=1)
        rates.append(2 * side**3 / seconds)
        if 8 * seconds > LONGEST:  # twice the side is eight times the work
            return max(rates)
        side *= 2
    return 2 * most**3 / _seconds_of_product(device, most, dtype)


def _seconds_of_product(
    device: torch.device, side: int, dtype: torch.dtype, rounds: int = ROUNDS
) -> float:
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty(side, side, dtype=dtype, device=device)
    return _median(lambda: torch.mm(a, b, out=out), device, rounds)


def _median(call, device: torch.device, rounds: int = ROUNDS) -> float:
    call()
    found = []
    for _ in range(rounds):
        synchronize(device)
        began = time.perf_counter()
        call()
        synchronize(device)
        found.append(time.perf_counter() - began)
    return statistics.median(found)
