"""What a training holds in memory at once, told before any of it is allocated.

PyTorch's fake tensors have a shape, a layout and a type, and no numbers. A whole step runs on them:
PyTorch chooses each kernel, autograd keeps and frees, checkpointing computes again, autocast
copies weights, all as in a real step. A recorder adds up the storages that are alive. What a kernel
takes for itself while it works, and what an allocator leaves unused between blocks, is not seen.

How good it is, on a CPU of 2 cores (PyTorch 2.15, glibc): ten networks of 1 to 150 million
parameters, 32 to 224 pixels, micro-batches of 4, 8 and 16, plain and with checkpointing, four
optimizers, 60 steps in all. At its fullest, PyTorch's own allocator holds 1.00 to 1.06 times what
is told here. The process grows (VmHWM) by no less than that, and by no more than 1.3 times it and
0.3 GB: by 1.1 to 1.6 times where it is more than 0.3 GB, by up to 3.5 times below, since compiled
kernels and blocks below 32 MB stay with glibc. astroformer_3 at 224 pixels with 8 images was told
8.59 GB and grew by 9.17. Predicted before measuring were 1.0 to 1.3 times from 0.2 GB on; blocks
that are freed and not given back were underrated, with checkpointing most. No GPU was at hand:
what is said of one follows its kernels' rules in PyTorch's documentation.

Reads top to bottom: Memory (the answer), of_training, of_evaluation, real passes beside what is
told of them, optimizer_ratio, pretended networks, the recorder, what a GPU does otherwise.
"""

import copy
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

import pandas as pd
import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from astroformer.counting.throughput import training_step
from astroformer.models import create

GB = 1e9
# The part of the sum that is needed for certain, and by how much it may be exceeded: a factor and
# an amount. Those of a CPU are measured, see above; those of a GPU leave room for cuDNN's
# workspaces, CUDA's own half gigabyte and the gaps of PyTorch's allocator there.
LEAST = 0.95
MOST = {"cpu": (1.3, 0.3 * GB), "cuda": (1.15, 1.0 * GB)}


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the fullest moment of a training."""

    moment: str  # "backward pass", "optimizer's step" or "evaluation"
    weights: int  # and buffers
    gradients: int  # those that are there at that moment
    optimizer: int  # its states
    average: int  # the moving average of the weights
    images: int  # a batch as bytes, a micro-batch as numbers
    kept: int  # activations for the backward pass, and weights as autocast copies them
    temporary: int  # what else is alive: outputs and gradients of a layer, a block computed again
    device: str = "cpu"  # or "cuda"
    compiled: bool = False  # by torch.compile, which keeps less, nobody tells how much

    @property
    def total(self) -> int:
        return self.states + self.images + self.kept + self.temporary

    @property
    def states(self) -> int:
        """What is there whatever is computed."""
        return self.weights + self.gradients + self.optimizer + self.average

    @property
    def least(self) -> float:
        """Bytes without which it cannot run."""
        return LEAST * (self.states if self.compiled else self.total)

    @property
    def most(self) -> float:
        """Bytes with which it runs, as far as was measured."""
        factor, more = MOST[self.device]
        return factor * self.total + more

    def __str__(self) -> str:
        """In gigabytes, with the parts that can be seen: "12 GB in the evaluation (kept 9.8)"."""
        parts = {name.replace("_", " "): getattr(self, name) for name in PARTS}
        seen = {name: size for name, size in parts.items() if size >= max(GB, self.total) / 100}
        listed = ", ".join(f"{name} {gigabytes(size)}" for name, size in seen.items())
        return f"{gigabytes(self.total)} GB in the {self.moment}" + (f" ({listed})" if seen else "")


PARTS = ("weights", "gradients", "optimizer", "average", "images", "kept", "temporary")


def gigabytes(size: float) -> str:
    """Bytes as 10^9 bytes, to two digits or to the hundredth: "0.22", "5.3", "321"."""
    number = size / GB
    return f"{number:,.{0 if number >= 9.95 else 1 if number >= 0.995 else 2}f}"


def of_training(
    model: nn.Module,
    image_size: tuple[int, int],
    *,
    batch: int,
    micro_batch: int,
    in_chans: int = 3,
    optimizer: str = "adamw",
    average: bool = False,
    precision: str = "float32",
    device: str = "cpu",
    channels_last: bool = False,
    compiled: bool = False,
    holders: int = 1,
    unit: int = 0,
    prepare: Callable[[nn.Module], object] = lambda model: None,
) -> Memory:
    """The fullest moment of optimizer steps on `batch` images of `image_size` pixels (H, W), in
    micro-batches.

    model: on any device, the meta device too; it stays as it is
    precision: "float32", or "bfloat16" for autocast
    device: "cpu" or "cuda", whose kernels are assumed
    holders: processes among which weights, gradients and states are divided; then of `unit` bytes
        of weights, the largest block's, one lot is whole while it is computed, and the next one is
        already; their gradients are whole until they are divided, with a copy to send
    prepare: what is done to the network before it is trained, such as switching checkpointing on;
        it is given a copy
    """
    height, width = image_size
    with pretended(model, channels_last=channels_last) as network:
        prepare(network)
        network.train()
        every = list(network.parameters())
        parameters = [one for one in every if one.requires_grad]
        buffers = size_of(list(network.buffers()))
        learned, fixed = size_of(parameters), size_of(every) - size_of(parameters)
        if batch > micro_batch:  # those of the micro-batches before
            for parameter in parameters:
                parameter.grad = torch.empty_like(parameter)
        x = images_of(micro_batch, in_chans, height, width, channels_last=channels_last)
        recorder = Recorder(beside=padded_filters if device == "cpu" else nothing)
        with recorder, kernels_of(device, precision):
            recorder.begin([*every, *network.buffers(), x], parameters)
            with autocast(precision):
                outputs = network(x)
            kept = recorder.alive
            loss = sum(-one.float().log_softmax(-1).mean() for one in outputs_of(outputs))
            run_backward(loss)
        before = recorder.born_by_the_fullest([p.grad for p in parameters if p.grad is not None])
        at_once = recorder.fullest - before
    learned, whole = learned // holders, 2 * unit if holders > 1 else 0
    weights = learned + fixed // holders + buffers
    states = {
        "optimizer": round(optimizer_ratio(optimizer) * learned),
        "average": weights if average else 0,
        "device": device,
        "compiled": compiled,
    }
    images = batch * in_chans * height * width + x.nbytes
    backward = Memory(
        moment="backward pass",
        weights=weights + whole,
        gradients=before // holders + whole,
        images=images,
        kept=min(kept, at_once),
        temporary=max(0, at_once - kept),
        **states,
    )
    # PyTorch's optimizers go through all weights at once on a GPU, with one more copy of them, and
    # through one after another on a CPU.
    largest = max((size_of([one]) for one in parameters), default=0)
    copies = learned if device == "cuda" else round(optimizer_copies(optimizer) * largest)
    step = Memory(
        moment="optimizer's step",
        gradients=learned,
        images=images,
        weights=weights,
        kept=0,
        temporary=copies,
        **states,
    )
    return max(backward, step, key=lambda memory: memory.total)


def of_evaluation(
    model: nn.Module,
    image_size: tuple[int, int],
    *,
    batch: int,
    in_chans: int = 3,
    precision: str = "float32",
    device: str = "cpu",
    channels_last: bool = False,
) -> int:
    """Bytes beside the weights that the forward pass of `batch` images takes, without gradients;
    their pixels are among them. Arguments as of `of_training`.
    """
    height, width = image_size
    with torch.no_grad(), pretended(model, channels_last=channels_last) as network:
        network.eval()
        x = images_of(batch, in_chans, height, width)  # evaluated in rows, whatever the weights'
        with Recorder() as recorder, kernels_of(device, precision), autocast(precision):
            recorder.begin([*network.parameters(), *network.buffers(), x], ())
            network(x)
        return recorder.fullest + x.nbytes + batch * in_chans * height * width


def held_by_the_allocator(step: Callable[[], object]) -> int:
    """Bytes that PyTorch's allocator on a CPU holds at most at once for what a call makes, by
    PyTorch's profiler; what is there before the call is not counted.
    """
    with silenced(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    assert seen.profiler is not None and seen.profiler.kineto_results is not None
    alive = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()  # pyrefly: ignore[missing-attribute] (its stub lacks it)
            most = max(most, alive)
    return most


@contextmanager
def silenced() -> Iterator[None]:
    """While the profiler starts and ends, which writes notes of its own to the process's stderr."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def beside_the_allocator(
    networks: Mapping[str, int], *, numbers: Sequence[int] = (4, 8, 16), num_classes: int = 10
) -> pd.DataFrame:
    """Passes of real networks (name -> pixels) on this machine, with so many images: what is told
    of them, and what PyTorch's allocator holds.
    """
    rows = []
    for name, size in networks.items():
        model = create(name, img_size=size, num_classes=num_classes)
        for number in numbers:
            needed = of_training(
                model, (size, size), batch=number, micro_batch=number, channels_last=True
            )
            told = needed.gradients + needed.kept + needed.temporary
            step = training_step(model, torch.rand(number, 3, size, size))
            step()  # what is made once and for all
            model.zero_grad()
            held = held_by_the_allocator(step)
            rows.append(
                {
                    "network": name,
                    "pixels": size,
                    "images at a time": number,
                    "told (GB)": round(told / GB, 3),
                    "held (GB)": round(held / GB, 3),
                    "held / told": round(held / told, 3),
                }
            )
    return pd.DataFrame(rows)


@cache
def optimizer_ratio(name: str) -> float:
    """Bytes of an optimizer's states over those of the weights, by its name in timm's factory: a
    few of its steps on a small matrix. Lookahead makes its own copy at the sixth.
    """
    with stepping(name) as (optimizer, weights):
        # what a checkpoint holds of it: wrappers as Lookahead have their states elsewhere
        tensors = [one for one in tree_leaves(optimizer.state_dict()) if isinstance(one, Tensor)]
    return size_of([one for one in tensors if one.numel() > 1]) / size_of([weights])


@cache
def optimizer_copies(name: str) -> float:
    """Bytes of what an optimizer makes on a CPU while it changes a weight, over those of the
    weight, in the same way: AdamW, for one, has a root and a quotient at once.
    """
    with stepping(name) as (optimizer, weights), Recorder() as recorder:
        for _ in range(6):  # of which Lookahead averages at one; what is there already is seen
            optimizer.step()
        there = recorder.fullest = recorder.alive
        for _ in range(6):
            optimizer.step()
    return (recorder.fullest - there) / size_of([weights])


@contextmanager
def stepping(name: str) -> Iterator[tuple[torch.optim.Optimizer, nn.Parameter]]:
    """An optimizer that has made all its states, and what it changes, a matrix with a gradient."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        weights = nn.Parameter(torch.zeros(64, 64))
        optimizer = create_optimizer_v2([weights], opt=name, lr=1e-3, weight_decay=0.0)
        weights.grad = torch.ones_like(weights)
        for _ in range(8):
            optimizer.step()
        yield optimizer, weights


def size_of(tensors: list[Tensor]) -> int:
    """Bytes of tensors, each once."""
    return sum(one.nbytes for one in {id(one): one for one in tensors}.values())


def images_of(number: int, *shape: int, channels_last: bool = False) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(number, *shape).contiguous(memory_format=layout)


def outputs_of(outputs: Tensor | tuple) -> list[Tensor]:
    """Those that a loss is computed from: token labels give more than logits."""
    leaves = [one for one in tree_leaves(outputs) if isinstance(one, Tensor)]
    return [one for one in leaves if one.is_floating_point() and one.requires_grad]


def run_backward(loss: Tensor) -> None:
    """`loss.backward()` without leaving the modes of functions, which the second pass of a block
    needs as well.
    """
    torch.autograd.Variable._execution_engine.run_backward(
        (loss,), (torch.ones_like(loss),), False, False, (), True, True
    )


@contextmanager
def pretended(model: nn.Module, *, channels_last: bool) -> Iterator[nn.Module]:
    """A copy of the network on fake tensors of a CPU, while new tensors are fake too. Nobody's
    random numbers are drawn.
    """
    meta: dict[int, Tensor] = {}
    for own in (*model.parameters(), *model.buffers()):
        shadow = own.detach().to("meta")
        if channels_last and shadow.dim() == 4:  # as module.to(memory_format=...) does
            shadow = shadow.contiguous(memory_format=torch.channels_last)
        learned = isinstance(own, nn.Parameter)
        meta[id(own)] = nn.Parameter(shadow, requires_grad=own.requires_grad) if learned else shadow
    with torch.random.fork_rng(devices=[]), FakeTensorMode():
        copies: dict[int, object] = {}
        for known, one in meta.items():
            fake = torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device="cpu")
            learned = isinstance(one, nn.Parameter)
            copies[known] = nn.Parameter(fake, requires_grad=one.requires_grad) if learned else fake
        # deepcopy takes what the dictionary holds instead of copying it
        yield copy.deepcopy(model, copies)


@contextmanager
def autocast(precision: str) -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        yield


class Recorder(TorchDispatchMode):
    """Adds up the storages that operations make, until they are freed.

    beside: operation, its arguments -> bytes that its kernel has for itself when it ends
    """

    def __init__(self, beside: Callable[..., int] | None = None):
        super().__init__()
        self.beside = beside or nothing
        self.alive = self.fullest = 0  # bytes beside what it began with, now and at most
        self.clock = self.then = 0  # storages so far, and when it was fullest
        self.births: dict[int, int] = {}  # of the storages that are alive
        self.watched: dict[int, weakref.ref] = {}

    def begin(self, there: list[Tensor], parameters) -> None:
        """Tensors that are there already are not counted; gradients of the parameters that are,
        count from the beginning.
        """
        for tensor in there:
            self._see(tensor, counted=False)
        for parameter in parameters:
            if parameter.grad is not None:
                self._see(parameter.grad)

    def born_by_the_fullest(self, tensors: list[Tensor]) -> int:
        """Bytes of those that were there at the fullest moment."""
        return sum(
            tensor.untyped_storage().nbytes()
            for tensor in tensors
            if self.births.get(tensor.untyped_storage()._cdata, self.clock) < self.then
        )

    def _see(self, tensor: Tensor, *, counted: bool = True) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self.watched:
            return
        size = storage.nbytes() if counted else 0
        self.watched[address] = weakref.ref(storage, partial(self._freed, address, size))
        self.births[address] = self.clock
        self.clock += 1
        self.alive += size
        self._fill(self.alive)

    def _fill(self, size: int) -> None:
        if size > self.fullest:
            self.fullest, self.then = size, self.clock

    def _freed(self, address: int, size: int, _) -> None:
        self.alive -= size
        del self.watched[address], self.births[address]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            # A network that draws a box or a depth asks for a number, and a fake tensor has none:
            # it is given the middle of what is drawn from 0 to 1, and the first of whole numbers.
            return 0.5 if args[0].is_floating_point() else 0
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._see(tensor)
        self._fill(self.alive + self.beside(func, args))
        return out


def nothing(func, args: tuple) -> int:
    return 0


# Channels that oneDNN's vectors hold, by what PyTorch calls the processor's instructions.
LANES = {"AVX512": 16, "AVX2": 8}


def padded_filters(func, args: tuple) -> int:
    """Bytes that a CPU takes for the filters' gradients of a depthwise convolution whose images lie
    channels last: oneDNN pads each filter to a square of channels. Filters of 3 x 3 have a kernel
    of their own, unless the image is smaller than they are. With AVX2 an image smaller than the
    filter takes a row of channels, not a square, and bfloat16 is computed without. Measured on
    processors with AVX-512 and with AVX2: 64 to 192 channels, filters of 3, 5 and 7, images of 2 to
    32, float32 and bfloat16.
    """
    if func is not torch.ops.aten.convolution_backward.default or not args[10][1]:
        return 0
    image, weight, groups = args[1], args[2], args[9]
    if image.dim() != 4 or weight.shape[1] != 1 or groups != weight.shape[0]:
        return 0
    filled = image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous()
    smaller = min(image.shape[-2:]) < min(weight.shape[-2:])  # the image than the filter
    if not filled or (min(weight.shape[-2:]) <= 3 and not smaller):
        return 0
    whole = weight.dtype == torch.float32
    instructions = torch.backends.cpu.get_cpu_capability()
    lanes = LANES.get(instructions, 0)
    if instructions == "AVX2":
        return (lanes if smaller else lanes**2) * weight.numel() * 4 if whole else 0
    # summed in float32, then rounded to the weights' type
    return lanes**2 * weight.numel() * (4 if whole else 4 + weight.element_size())


# What a GPU does otherwise


@contextmanager
def kernels_of(device: str, precision: str) -> Iterator[None]:
    """Computes as the device does, as far as it concerns what is kept."""
    if device != "cuda":
        yield
        return
    with OnGpu(cast=precision == "bfloat16"):
        yield


class OnGpu(TorchFunctionMode):
    """Attention in one kernel, with a bias too, which keeps no weights between positions; and
    functions that autocast computes in float32 on a GPU but not on a CPU.
    """

    FLOAT32 = ("layer_norm", "group_norm", "softmax", "log_softmax", "norm", "pow")

    def __init__(self, *, cast: bool):
        super().__init__()
        self.cast = cast

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            return self.attention(*args, **kwargs)
        if self.cast and torch.is_autocast_enabled("cpu") and name in self.FLOAT32:
            args, kwargs = tree_map(partial(as_type, torch.float32), (args, kwargs))
        return func(*args, **kwargs)

    def attention(self, query, key, value, attn_mask=None, *_, **__) -> Tensor:
        taken = (query, key, value, attn_mask)
        if self.cast and torch.is_autocast_enabled("cpu"):
            taken = tree_map(partial(as_type, torch.bfloat16), taken)
        return FusedAttention.apply(*taken)


def as_type(dtype: torch.dtype, value):
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(dtype) if floating else value


class FusedAttention(torch.autograd.Function):
    """What a fused kernel reads, writes and keeps; it computes nothing."""

    @staticmethod
    def forward(ctx, query, key, value, mask):
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        log_sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, out, log_sums)
        return out

    @staticmethod
    def backward(ctx, *_):
        return tuple(
            torch.empty_like(one) if needed else None
            for one, needed in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        )
