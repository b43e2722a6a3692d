"""One forward pass on the meta device, operation by operation: what each computes, reads, writes
and keeps.

Tensors on the meta device have a shape and no numbers, so the largest network takes no memory.
PyTorch reports each basic operation (a dispatch mode) and the call that it belongs to (a function
mode); hooks say in which module it runs; autograd hands over what it keeps. Works for any network
of one image argument.

Reads top to bottom: Operation, Trace, record, without_storage, the recorder, the rules of counting,
parameters by layer.
"""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2, prod

import pandas as pd
import torch
from timm.layers import to_2tuple
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
# Views that do not say so; the last is how an average of maps that lie channels last is labelled.
VIEWS = (aten._unsafe_view, aten.empty, aten.as_strided_)


@dataclass(frozen=True)
class Operation:
    """One operation on one image. Views (reshape, transpose, slices) move nothing and are no
    operations here.
    """

    module: str  # path of the module that runs it; "" for the network's own forward
    stage: str  # stem, S1 to S4, head; or the first part of the path
    kind: str  # such as "3x3 convolution", "attention product", "batch norm", "gelu"
    # the rule that counts it (see `rule`): layer, attention, fused attention, norm, pooling, fft,
    # none
    family: str
    count: int  # by that rule; multiply-adds for layers and attention
    elements: int  # numbers that it puts out
    input_bytes: int  # activations read
    weight_bytes: int  # parameters and buffers read
    output_bytes: int  # activations written

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions, linear layers and attention products."""
        return self.count if self.family in ("layer", "attention", "fused attention") else 0

    @property
    def bytes_moved(self) -> int:
        """What passes between memory and the processor if nothing stays there from one operation
        to the next.
        """
        return self.input_bytes + self.weight_bytes + self.output_bytes


@dataclass(frozen=True)
class Trace:
    """`kept`: bytes by stage that autograd holds for the backward pass of one image, each tensor
    once, where it is held first; the image is among them, parameters and buffers are not.
    """

    operations: tuple[Operation, ...]
    kept: dict[str, int]

    def frame(self) -> pd.DataFrame:
        """One row an operation, in the order of execution."""
        return pd.DataFrame(
            [vars(op) | {"macs": op.macs, "bytes_moved": op.bytes_moved} for op in self.operations]
        )


def record(
    model: nn.Module, image_size: int | tuple[int, int], in_chans: int = 3, *, dtype_bytes: int = 4
) -> Trace:
    """The forward pass of one image of `image_size` pixels (H, W) in evaluation; `dtype_bytes` is
    the size of a real number.

    Attention is computed in its parts (two products and a softmax), as without a fused kernel: the
    weights of each pair of positions are written, read and kept. The model stays as it is.
    """
    shadow = without_storage(model).eval().requires_grad_()
    image = torch.empty(1, in_chans, *to_2tuple(image_size), device="meta")
    recorder = _Recorder(shadow, dtype_bytes)
    with (
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
        saved_tensors_hooks(recorder.keep, lambda tensor: tensor),
        _Calls(recorder),
        recorder,
    ):
        shadow(image)
    return Trace(tuple(recorder.operations), dict(recorder.kept))


def without_storage(model: nn.Module) -> nn.Module:
    """A copy on the meta device: every tensor's shape, none of its numbers."""
    shadows: dict[int, torch.Tensor] = {
        id(p): nn.Parameter(p.detach().to("meta"), requires_grad=False) for p in model.parameters()
    }
    shadows.update((id(buffer), buffer.to("meta")) for buffer in model.buffers())
    # deepcopy takes what the dictionary holds instead of copying it
    return copy.deepcopy(model, shadows)


def stage_of(path: str) -> str:
    """The part of the network that a module belongs to, as the tables name it."""
    first, second = (path.split(".") + [""])[:2]
    return f"S{int(second) + 1}" if first == "stages" and second.isdigit() else first or "network"


class _Recorder(TorchDispatchMode):
    def __init__(self, model: nn.Module, dtype_bytes: int):
        super().__init__()
        self.dtype_bytes = dtype_bytes
        self.operations: list[Operation] = []
        self.kept: Counter[str] = Counter()
        self.weights = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
        # keeps them alive, so that no address is given twice
        self.held: dict[int, torch.UntypedStorage] = {}
        self.path = [""]
        self.call = ""
        # the model is a copy of ours: its hooks need no removal
        for name, module in model.named_modules():
            module.register_forward_pre_hook(lambda *_, name=name: self.path.append(name))
            module.register_forward_hook(lambda *_: self.path.pop() and None)

    def keep(self, tensor: Tensor) -> Tensor:
        """Autograd calls this for each tensor that it saves."""
        address = _storage(tensor)
        if address not in self.weights and address not in self.held:
            self.held[address] = tensor.untyped_storage()
            numbers = tensor.untyped_storage().nbytes() // tensor.itemsize
            self.kept[stage_of(self.path[-1])] += numbers * self.item_bytes(tensor)
        return tensor

    def item_bytes(self, tensor: Tensor) -> int:
        if tensor.is_complex():
            return 2 * self.dtype_bytes
        return self.dtype_bytes if tensor.is_floating_point() else tensor.itemsize

    def tensor_bytes(self, tensors: list[Tensor]) -> int:
        return sum(tensor.numel() * self.item_bytes(tensor) for tensor in tensors)

    def is_weight(self, tensor: Tensor) -> bool:
        return _storage(tensor) in self.weights

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.is_view or func.overloadpacket in VIEWS:
            return out
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        kind, family, count = rule(
            func.overloadpacket, args, outputs[0], call=self.call, is_weight=self.is_weight
        )
        self.operations.append(
            Operation(
                module=self.path[-1],
                stage=stage_of(self.path[-1]),
                kind=kind,
                family=family,
                count=count,
                elements=outputs[0].numel(),
                input_bytes=self.tensor_bytes(
                    [tensor for tensor in inputs if not self.is_weight(tensor)]
                ),
                weight_bytes=self.tensor_bytes(
                    [tensor for tensor in inputs if self.is_weight(tensor)]
                ),
                output_bytes=self.tensor_bytes(outputs),
            )
        )
        return out


class _Calls(TorchFunctionMode):
    """Tells the recorder which of PyTorch's functions the basic operations belong to."""

    def __init__(self, recorder: _Recorder):
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.recorder.call = getattr(func, "__name__", "")
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.recorder.call = ""


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


# --- the rules of counting ---


def rule(
    operation, args: tuple, out: Tensor, *, call: str, is_weight: Callable[[Tensor], bool]
) -> tuple[str, str, int]:
    """(kind, family, count) of one basic operation.

    layer, attention, fused attention: multiply-adds; the last are within
    `scaled_dot_product_attention`
    norm: fvcore's estimate in evaluation, for each element: BatchNorm 2 with gain and bias, 1
        without; LayerNorm 5, or 4
    pooling: fvcore's `adaptive_avg_pool2d`, one for each element that goes in; a plain mean counts
        nothing
    fft: elements that go in, times log2 N rounded up, where N is how many of them a transform
        takes: the handler for `rfft2` and `irfft2` that the Global Filter Network's authors
        published with DynamicViT (calc_flops.py). A butterfly of two points is then one
        multiply-add.
    Elementwise products, the complex ones of a spectral gate too, count nothing.
    """
    if operation is aten.convolution:
        image, weight, transposed, groups = args[0], args[1], args[6], args[8]
        positions = image if transposed else out
        return (
            convolution_kind(weight.shape, groups),
            "layer",
            positions.numel() * weight[0].numel(),
        )
    if operation in (aten.mm, aten.bmm, aten.addmm, aten.baddbmm):
        left, right = args[-2:]
        macs = out.numel() * left.shape[-1]
        if is_weight(left) or is_weight(right):
            return "linear", "layer", macs
        fused = call == "scaled_dot_product_attention"
        return "attention product", "fused attention" if fused else "attention", macs
    if operation in (aten.native_batch_norm, aten.native_layer_norm):
        batch = operation is aten.native_batch_norm
        affine = args[1 if batch else 2] is not None
        return (
            ("batch norm" if batch else "layer norm"),
            "norm",
            out.numel() * ((1 if batch else 4) + affine),
        )
    if operation in (aten._fft_r2c, aten._fft_c2r, aten._fft_c2c):
        return (
            "FFT",
            "fft",
            args[0].numel() * ceil(log2(prod(args[0].shape[axis] for axis in args[1]))),
        )
    if call == "adaptive_avg_pool2d":
        return "pooling", "pooling", args[0].numel()
    if operation in (aten.avg_pool2d, aten.max_pool2d_with_indices):
        return "pooling", "none", 0
    return operation.__name__.strip("_").replace("_", " "), "none", 0


def convolution_kind(weight_shape: torch.Size, groups: int) -> str:
    size = "x".join(map(str, weight_shape[2:]))
    return (
        f"{size} depthwise convolution"
        if groups > 1 and weight_shape[1] == 1
        else f"{size} convolution"
    )


def parameter_rows(model: nn.Module) -> list[dict]:
    """Each parameter once: its name, stage, kind (of the layer that owns it, or its own name)
    and how many numbers it holds.
    """
    rows = []
    for name, parameter in model.named_parameters():
        path, _, own = name.rpartition(".")
        owner = model.get_submodule(path)
        if isinstance(owner, nn.Conv2d):
            kind = convolution_kind(owner.weight.shape, owner.groups)
        else:
            kinds = {nn.Linear: "linear", nn.BatchNorm2d: "batch norm", nn.LayerNorm: "layer norm"}
            kind = next(
                (kind for layer, kind in kinds.items() if isinstance(owner, layer)),
                own.replace("_", " "),
            )
        rows.append(dict(name=name, stage=stage_of(path), kind=kind, params=parameter.numel()))
    return rows
