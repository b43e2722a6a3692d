"""How a run is executed: what may change its speed and the rounding of its numbers, and not what
was asked for. It is recorded with each attempt and is no part of the run's identity.
"""

import os
import shutil
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from astroformer import machine
from astroformer.data.loader import workers_beside

# Compiling took 23 to 95 s for our networks (H200, PyTorch 2.11). It is repaid on a GPU from so
# many multiply-adds of a training's forward passes on, which take ten minutes there at a fifth of
# the speed of matrix products; or from so many steps on, which take minutes however small they are.
REPAID = 2e16
LONG = 20_000
# Of a step's forward pass, up to which a GPU is faster than Python asks it to compute.
SMALL = 1e12


@dataclass(frozen=True, kw_only=True)
class Execution:
    """None means that the device decides, see `settled`."""

    channels_last: bool | None = None  # memory layout of images and convolutions
    # torch.compile, which takes a minute or more before the first step
    compile: bool | None = None
    fused: bool | None = None  # the optimizer's step as one kernel, where PyTorch has one
    # whole steps recorded as a CUDA graph and replayed, see step.GraphedStep
    graphs: bool | None = None
    # float32 products of a GPU in 19 bits (TensorFloat-32), which are several times as fast; off,
    # float32 means float32
    tf32: bool = False
    cudnn_benchmark: bool | None = None  # tries the kernels of convolutions at their first use
    workers: int | None = None  # processes that read and augment images
    grad_checkpointing: bool = False  # computes activations twice instead of keeping them
    # each process keeps a part of weights, gradients and optimizer states, see sharded.py
    shard: bool = False
    world_size: int = 1  # processes that train together

    def __post_init__(self):
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers {self.workers} is negative; 0 reads in the same process")

    def settled(self, device: torch.device, *, macs: float = 0.0, steps: int = 0) -> "Execution":
        """With everything that a device decides written out.

        macs: multiply-adds of a step's forward pass, by which a network is small
        steps: of the whole training, by which it is long enough to be compiled
        """
        if self.shard and self.world_size == 1:
            raise ValueError(
                "--shard divides the weights among processes, and this is one alone; start several "
                "(torchrun --nproc-per-node 8 -m astroformer train ... --shard), or leave it out"
            )
        on_gpu = device.type == "cuda"
        repaid = on_gpu and (macs * steps >= REPAID or steps >= LONG) and can_compile()
        return replace(
            self,
            channels_last=True if self.channels_last is None else self.channels_last,
            compile=repaid if self.compile is None else self.compile,
            fused=True if self.fused is None else self.fused,
            graphs=on_gpu and macs <= SMALL if self.graphs is None else self.graphs,
            cudnn_benchmark=on_gpu if self.cudnn_benchmark is None else self.cudnn_benchmark,
            workers=self._workers(device) if self.workers is None else self.workers,
        )

    def _workers(self, device: torch.device) -> int:
        """Processes that train together on one machine share its processors."""
        some = workers_beside(device)
        return max(1, some // machine.sharing()) if some else 0

    @property
    def layout(self) -> torch.memory_format:
        """Of images and of the weights of convolutions."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def apply(self) -> None:
        """Sets what is set for the whole process."""
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        torch.backends.cudnn.allow_tf32 = self.tf32
        torch.backends.cudnn.benchmark = bool(self.cudnn_benchmark)

    def prepared(self, model: nn.Module) -> nn.Module:
        """A network in the memory layout that is asked for, on its device; FSDP2 divides
        contiguous weights alone.
        """
        if self.grad_checkpointing:
            checkpoint_gradients(model)
        turned = self.channels_last and not self.shard
        return model.to(memory_format=self.layout) if turned else model

    def recorded(self) -> dict[str, object]:
        """For a ledger record."""
        return asdict(self) | {"threads": torch.get_num_threads(), "process": os.getpid()}


def can_compile() -> bool:
    """Whether torch.compile has what it needs for a GPU: Triton, and a C compiler for Triton."""
    from torch.utils._triton import has_triton_package

    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return has_triton_package() and bool(compiler)


def checkpoint_gradients(model: nn.Module) -> None:
    """Lets a network compute its activations anew in the backward pass instead of keeping them
    (timm's `set_grad_checkpointing`): the same weights to the bit on a CPU, less memory, about a
    third more arithmetic.

    PyTorch draws dropout, stochastic depth and DropBlock alike both times. Running statistics
    would count every batch twice; here the second pass has copies of them (see `Recomputed`).

    ValueError in one line for a network that has no such blocks.
    """
    name = getattr(model, "pretrained_cfg", None) or {}
    name = name.get("architecture", type(model).__name__)
    refused = ValueError(
        f"{name} has no blocks that could compute their activations again; leave out "
        "--grad-checkpointing"
    )
    if not hasattr(model, "set_grad_checkpointing"):
        raise refused
    try:
        model.set_grad_checkpointing(True)
    except (AssertionError, NotImplementedError):  # timm's networks that have only the method
        raise refused from None
    second = Recomputed()
    model.register_forward_pre_hook(second.first_pass_begins)
    model.register_forward_hook(second.first_pass_ends, always_call=True)
    for module in model.modules():
        if isinstance(getattr(module, "running_mean", None), Tensor):
            module.register_forward_pre_hook(second.lend_copies)
            module.register_forward_hook(second.take_back, always_call=True)


def can_recompute(model: nn.Module) -> bool:
    """Whether a network has blocks that can be computed again. It is prepared for that then, so
    ask of one that is not used, such as one on the meta device.
    """
    try:
        checkpoint_gradients(model)
    except ValueError:
        return False
    return True


class Recomputed:
    """Hooks that give a layer with running statistics copies of them while its block is computed
    for the second time, which is whenever the network itself is not being called.

    A compiled network computes again within its graph, where statistics change once anyway: there
    the hooks do nothing.
    """

    def __init__(self):
        self.passing = False  # whether the network is being called: the first pass
        self.own: dict[nn.Module, dict[str, Tensor | None]] = {}  # what copies stand for

    def first_pass_begins(self, *_) -> None:
        if not torch.compiler.is_compiling():
            self.passing = True

    def first_pass_ends(self, *_) -> None:
        if not torch.compiler.is_compiling():
            self.passing = False

    def lend_copies(self, layer: nn.Module, _) -> None:
        if torch.compiler.is_compiling() or self.passing or not layer.training:
            return
        self.own[layer] = dict(layer.named_buffers(recurse=False))
        for name, statistic in self.own[layer].items():
            setattr(layer, name, statistic.clone())

    def take_back(self, layer: nn.Module, *_) -> None:
        if torch.compiler.is_compiling():
            return
        for name, statistic in self.own.pop(layer, {}).items():
            setattr(layer, name, statistic)
