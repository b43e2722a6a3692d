"""Who is compared: a network, ours or timm's own, with everything that decides how its training
step is executed. All of them take the same step (`training.step`) on the same numbers.

The released setting is that of the papers' commands: PyTorch's operations one by one, images in
rows of one channel, an optimizer of many kernels, half precision on a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from astroformer.models import checked_name, create
from astroformer.models.twins import timm_twin
from astroformer.recipes import Recipe
from astroformer.sizes import ASTROFORMER, TIMM
from astroformer.training.execution import Execution
from astroformer.training.step import Step, optimizer_of, settled_for, stepping_of

CLASSES = 100
# the papers' optimizer; a rate at which weights stay what they are while a clock runs
RECIPE = Recipe(
    name="bench", source="ours", steps=1, batch_size=1, learning_rate=1e-6, weight_decay=0.05
)
PLAIN = Execution(channels_last=False, compile=False, fused=False, graphs=False)
MARKS = ("resnet50", "coatnet_0_rw_224")  # networks of timm that people know


@dataclass(frozen=True, kw_only=True)
class Contestant:
    label: str
    whose: str  # "ours" or "timm"
    execution: Execution
    precision: str  # "float32", "float16" or "bfloat16"

    def network(self, name: str, image_size: int) -> nn.Module:
        """The network by its name of ours; timm's own of the same sizes, or timm's by its name."""
        if self.whose == "timm" and name in ASTROFORMER:
            return timm_twin(name, stack="CCCT", image_size=image_size, num_classes=CLASSES)
        own = f"{TIMM}{name}" if name in MARKS else name
        return create(own, num_classes=CLASSES, img_size=image_size)

    def step(self, name: str, image_size: int, device: torch.device) -> Step:
        """Its training step. ValueError where a network or a device rules the execution out."""
        torch.manual_seed(0)
        model = self.network(name, image_size).to(device).train()
        execution = self.execution.settled(device)
        execution = settled_for(execution, self.execution, model, RECIPE, device, parts=1)
        execution.apply()
        model = execution.prepared(model)
        optimizer = optimizer_of(model, RECIPE, execution, device)
        return stepping_of(model, model, optimizer, execution, precision=self.precision)


PLAINEST = Contestant(label="", whose="ours", execution=PLAIN, precision="float32")


def batch_of(
    number: int, image_size: int, device: torch.device, *, execution: Execution
) -> tuple[Tensor, Tensor]:
    """Random images (B, 3, H, W), as an execution lays them out, and targets (B, K)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(number, 3, image_size, image_size, generator=generator)
    target = torch.rand(number, CLASSES, generator=generator).softmax(1)
    layout = execution.settled(device).layout
    return x.to(device).contiguous(memory_format=layout), target.to(device)


def contestants(
    name: str, device: torch.device, *, compiled: bool, graphs: bool
) -> list[Contestant]:
    """Those of a network; the first is the released setting, which the others are divided by.

    compiled, graphs: whether torch.compile and CUDA graphs are among them
    """
    gpu = device.type == "cuda"
    twin = name in ASTROFORMER  # has timm's own network beside it
    usual, half = ("float16", "bfloat16") if gpu else ("float32", "float32")
    quick = replace(PLAIN, channels_last=True, fused=True)
    ways = [("as released", PLAIN, usual), ("channels last, fused", quick, half)]
    if compiled:
        ways.append(("channels last, fused, compiled", replace(quick, compile=True), half))
    own = list(ways) if twin else []
    if graphs:  # which timm's loop has not
        own.append(("CUDA graph", replace(quick, graphs=True), half))
    if graphs and compiled:
        own.append(("compiled, CUDA graph", replace(quick, graphs=True, compile=True), half))
    if not gpu:
        own.append(("channels last, fused, bfloat16", quick, "bfloat16"))
    timms = name in MARKS or name.startswith(TIMM)
    theirs = "timm" if twin or timms else "ours"
    entered = [(theirs, *way) for way in ways]
    if not timms:
        entered += [("ours", *way) for way in own]
    return [
        Contestant(label=f"{whose}, {label}", whose=whose, execution=how, precision=precision)
        for whose, label, how, precision in entered
    ]


# What is measured where nobody says: (network, pixels).
USUAL = {
    "cpu": (
        ("astroformer_pico", 32),
        ("astroformer_pico", 64),
        ("astroformer_0", 64),
        ("vit_cifar", 32),
        ("spectformer_ti", 64),
    ),
    "cuda": (
        ("astroformer_3", 224),
        ("astroformer_0", 224),
        ("astroformer_0", 64),
        ("astroformer_pico", 64),
        ("vit_cifar", 32),
        ("spectformer_xs", 224),
        *((mark, 224) for mark in MARKS),
    ),
}


def models_on(
    device: torch.device, models: Sequence[str], sizes: Sequence[int]
) -> list[tuple[str, int]]:
    """Networks with the pixels at which they are measured; ValueError for names that nobody
    knows.
    """
    if not models:
        usual = USUAL[device.type]
        return [(name, size) for name, size in usual if not sizes or size in sizes]
    for name in models:
        if name not in MARKS:
            checked_name(name)
    return [(name, size) for name in models for size in sizes or (64,)]
