"""GPUs by what their makers publish of them: the rate of dense matrix products in bfloat16 with
sums in float32, memory, and the power of the whole board.

Makers print twice the rate for matrices with zeros in a pattern ("with sparsity"); here stands the
dense one. What a device reaches of it is measured (`speed.roofline`), never assumed.
"""

import re
from dataclasses import dataclass

A100 = "NVIDIA A100 Tensor Core GPU, data sheet (2021)"
A10 = "NVIDIA A10 Tensor Core GPU, data sheet (2021)"
ADA = "NVIDIA Ada GPU Architecture, white paper, appendix A (2022)"
AMPERE = "NVIDIA Ampere GA102 GPU Architecture, white paper, appendix A (2020)"
BLACKWELL = "NVIDIA RTX Blackwell GPU Architecture, white paper, appendix A (2025)"
H100 = "NVIDIA H100 Tensor Core GPU, data sheet (2022)"
H200 = "NVIDIA H200 Tensor Core GPU, data sheet (2023)"
L4 = "NVIDIA L4 Tensor Core GPU, data sheet (2023)"
L40S = "NVIDIA L40S, data sheet (2023)"
MI300X = "AMD Instinct MI300X accelerator, data sheet (2023)"


@dataclass(frozen=True)
class Card:
    name: str
    tflops: float  # 10^12 operations a second: dense, bfloat16, two for a multiply-add
    memory: int  # 10^9 bytes
    watts: int  # of the board at most
    source: str
    # how PyTorch's names of the device begin; others of the same family have other rates
    devices: tuple[str, ...]

    def rate(self, precision: str) -> float:
        """Operations a second. In float32 those of TF32, for which each of the sources prints half
        of bfloat16's; without it no card is faster.
        """
        return self.tflops * 1e12 / (2 if precision == "float32" else 1)


CARDS: tuple[Card, ...] = (
    Card("RTX 3090", 71, 24, 350, AMPERE, ("NVIDIA GeForce RTX 3090",)),
    Card("RTX 4080", 97.5, 16, 320, ADA, ("NVIDIA GeForce RTX 4080",)),
    Card("RTX 4090", 165.2, 24, 450, ADA, ("NVIDIA GeForce RTX 4090",)),
    Card("RTX 5090", 209.5, 32, 575, BLACKWELL, ("NVIDIA GeForce RTX 5090",)),
    Card("A10", 125, 24, 150, A10, ("NVIDIA A10",)),
    Card("L4", 121, 24, 72, L4, ("NVIDIA L4",)),
    Card("L40S", 362, 48, 350, L40S, ("NVIDIA L40S",)),
    Card("A100 SXM 40 GB", 312, 40, 400, A100, ("NVIDIA A100-SXM4-40GB",)),
    Card("A100 SXM 80 GB", 312, 80, 400, A100, ("NVIDIA A100-SXM4-80GB",)),
    Card("H100 SXM", 989, 80, 700, H100, ("NVIDIA H100 80GB HBM3",)),
    Card("H200 SXM", 989, 141, 700, H200, ("NVIDIA H200",)),
    Card("MI300X", 1307, 192, 750, MI300X, ("AMD Instinct MI300X",)),
)


def card_of(device: str) -> Card | None:
    """The card of a device by PyTorch's name of it; None for one that is not in the list: the
    H200 NVL is another card than the H200.
    """
    return next((card for card in CARDS if device in card.devices), None)


# What no thread of a processor exceeds: two units of AVX-512, or one of AMX for bfloat16 (Intel 64
# and IA-32 Architectures Optimization Reference Manual, 2023), at a clock that none reaches.
PER_CYCLE = {"float32": 64, "bfloat16": 2048}
CLOCK = 6.5e9


def peak(device: str, precision: str) -> float | None:
    """Operations a second that a device of that name (`records.device_name`) does not exceed; None
    for one that is not known.
    """
    if card := card_of(device):
        return card.rate(precision)
    threads = re.search(r", (\d+) threads$", device)
    return int(threads[1]) * PER_CYCLE[precision] * CLOCK if threads else None
