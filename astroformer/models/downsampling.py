"""How a grid is halved: with a plain stride, and two ways that do not depend on where the stride
begins to count.

A stride of 2 keeps every other position. A shift by one position keeps the others, which may be
quite different (aliasing): strides are why a network of convolutions is not translation-equivariant
even on a torus (Zhang 2019; Azulay and Weiss 2019).

strided    the release: convolutions with stride 2, 2x2 averages
blur       BlurPool (Zhang 2019, "Making convolutional networks shift-invariant again"): the
           operation runs at every position, a binomial filter removes what the coarser grid cannot
           hold, then every other position is kept
polyphase  adaptive polyphase sampling (Chaman and Dokmanic 2021, "Truly shift-invariant
           convolutional neural networks"): of the four grids that a stride of 2 can keep, the one
           on which the input has the most energy is kept. Where it lies moves with the image, so on
           a torus the result is exactly equivariant

None adds a parameter. Reads top to bottom: MODES, what a block asks for (`stride_of`, `align`,
`blur`, `average`, Downsample), BlurPool, Align.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from astroformer.models.circular import circular_pad

torch.fx.wrap("circular_pad")  # here too a tracer keeps the call

MODES = ("strided", "blur", "polyphase")


def stride_of(mode: str, stride: int) -> int:
    """The stride that a layer itself takes; BlurPool takes it afterwards."""
    return 1 if mode == "blur" else stride


def align(mode: str, stride: int) -> nn.Module:
    """What comes before a block that halves the grid."""
    return Align() if mode == "polyphase" and stride == 2 else nn.Identity()


def blur(mode: str, stride: int, dim: int, *, padding: str) -> nn.Module:
    """What comes after a layer whose stride was taken away."""
    if mode != "blur" or stride != 2:
        return nn.Identity()
    return BlurPool(dim, padding=padding)


def average(mode: str, dim: int, *, padding: str) -> nn.Module:
    """Halves the grid by 2x2 averages, which alias too, or by BlurPool. (B, dim, H, W) -> (B,
    dim, H / 2, W / 2)
    """
    return blur(mode, 2, dim, padding=padding) if mode == "blur" else nn.AvgPool2d(2)


class Downsample(nn.Module):
    """Halves the grid by 2x2 averages and widens by a 1x1 convolution where the width changes."""

    def __init__(self, dim: int, dim_out: int, *, padding: str, mode: str):
        super().__init__()
        self.pool = average(mode, dim, padding=padding)
        self.expand = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(self.pool(x))  # (B, dim_out, H / 2, W / 2)


class BlurPool(nn.Module):
    """The binomial filter 1 2 1 in both directions, then every other position. (B, dim, H, W) ->
    (B, dim, H / 2, W / 2)
    """

    def __init__(self, dim: int, *, padding: str):
        super().__init__()
        self.padding = padding
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer(
            "filter", torch.outer(line, line).expand(dim, 1, 3, 3).clone(), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        x = circular_pad(x) if self.padding == "circular" else F.pad(x, (1, 1, 1, 1))
        return F.conv2d(x, self.filter, stride=2, groups=x.shape[1])


class Align(nn.Module):
    """Moves each image, cyclically and by at most one position a side, so that of its four grids of
    stride 2 the one with the most energy (sum of squares over it and all channels) is the one that
    a stride keeps. (B, C, H, W) -> (B, C, H, W)

    Whatever follows is then the same for an image and for its shift, up to a shift by whole
    strides. Where two grids have equal energy, to rounding, the choice between them may change with
    a shift.
    """

    def forward(self, x: Tensor) -> Tensor:
        return _aligned(x)


@torch.fx.wrap
def _aligned(x: Tensor) -> Tensor:
    """As of Align; a function, since the type of the sums depends on the images'."""
    wide = x.dtype if x.element_size() >= 4 else torch.float32
    energy = x.detach().to(wide).square().sum(1)  # (B, H, W)
    # (B, 4), row by row
    grids = energy.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum((1, 3)).flatten(1)
    best = grids.argmax(1).view(-1, 1, 1, 1)
    x = torch.where(best >= 2, x.roll(-1, 2), x)
    return torch.where(best % 2 == 1, x.roll(-1, 3), x)
