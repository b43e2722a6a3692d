"""What counts as an operation: five counters' rules, by name. "FLOPs" in a paper is one of them,
seldom said which.
"""

from typing import NamedTuple


class Convention(NamedTuple):
    description: str
    families: tuple[str, ...]  # of operations, see trace.rule
    factor: int = 1  # per multiply-add


CONVENTIONS: dict[str, Convention] = {
    "fvcore": Convention(
        "as it comes: layers, explicit products; norms (BatchNorm 2, LayerNorm 5 an element); no "
        "fused attention, no FFT",
        ("layer", "attention", "norm", "pooling"),
    ),
    "fvcore_handlers": Convention(
        "fvcore with handlers for fused attention (its two products) and FFTs (log2 N an element)",
        ("layer", "attention", "norm", "pooling", "fused attention", "fft"),
    ),
    "fvcore_handlers_no_norm": Convention(
        "the same, norms not counted", ("layer", "attention", "pooling", "fused attention", "fft")
    ),
    "torch": Convention(
        "FlopCounterMode: 2 per multiply-add of layers and attention; no norms, no FFT",
        ("layer", "attention", "fused attention"),
        2,
    ),
    "conv_linear": Convention(
        "convolutions and linear layers only, 1 per multiply-add", ("layer",)
    ),
}
