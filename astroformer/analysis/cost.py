"""What a network costs: its parameters, and the multiply-adds of one image.

Counted are convolutions, linear layers and the two products of attention, 1 per multiply-add; not counted are norms,
activations, pooling, softmax, the addition of biases. A paper's "FLOPs" are usually these multiply-adds.

PyTorch's own counter watches the operations as they run (2 per multiply-add), so it needs no tracing and counts on the
meta device, where the largest network takes no memory. Fused attention is switched off while it counts: some releases
of PyTorch count a fused kernel as nothing, all of them count its two matrix products.
"""

import copy

import timm
import torch
from timm.layers import to_2tuple
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import astroformer.models  # noqa: F401  (registers the networks with timm)


def count_params(model: nn.Module) -> int:
    """Learned numbers; running statistics and index buffers are not among them."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def count_macs(model: nn.Module, image_size: int | tuple[int, int], in_chans: int = 3) -> int:
    """Multiply-adds of one image of `image_size` pixels (H, W) in evaluation. The model stays as it is."""
    shadow = without_storage(model).eval()
    image = torch.empty(1, in_chans, *to_2tuple(image_size), device="meta")
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        shadow(image)
    return counter.get_total_flops() // 2


def model_cost(name: str, *, image_size: int | tuple[int, int], num_classes: int, **kwargs) -> dict[str, int]:
    """Parameters and multiply-adds of a network by its name, without building its weights; `kwargs` as of the network."""
    with torch.device("meta"):
        model = timm.create_model(name, img_size=image_size, num_classes=num_classes, **kwargs)
    return dict(params=count_params(model), macs=count_macs(model, image_size, kwargs.get("in_chans", 3)))


def without_storage(model: nn.Module) -> nn.Module:
    """A copy on the meta device: every tensor's shape, none of its numbers."""
    shadows = {id(p): nn.Parameter(p.detach().to("meta"), requires_grad=False) for p in model.parameters()}
    shadows.update((id(buffer), buffer.to("meta")) for buffer in model.buffers())
    return copy.deepcopy(model, shadows)  # deepcopy takes what the dictionary holds instead of copying it
