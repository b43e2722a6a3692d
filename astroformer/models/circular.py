"""3x3 convolutions on a torus: what lies beyond an edge is what lies at the opposite one.

PyTorch's `padding_mode="circular"` gives the same numbers; it leaves the channels-last layout,
which makes training on a CPU about three times as slow. Reads top to bottom: CircularPad,
`circular_pad`, CircularConv2d, `conv3x3`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CircularPad(torch.autograd.Function):
    """One position on each side, in the layout of the input. (B, C, H, W) -> (B, C, H + 2, W + 2)

    Written out, since slices and concatenations cost a copy of the whole for each edge on the way
    back.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        last = x.is_contiguous(memory_format=torch.channels_last)
        out = x.new_empty(batch, channels, height + 2, width + 2).contiguous(
            memory_format=torch.channels_last if last else torch.contiguous_format
        )
        out[..., 1:-1, 1:-1] = x
        out[..., 1:-1, 0], out[..., 1:-1, -1] = x[..., -1], x[..., 0]
        out[..., 0, :], out[..., -1, :] = out[..., -2, :], out[..., 1, :]  # corners included
        return out

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """A linear function keeps nothing."""

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]
        rows = grad[..., 1:-1, :].clone(memory_format=torch.preserve_format)
        rows[..., 0, :] += grad[..., -1, :]
        rows[..., -1, :] += grad[..., 0, :]
        out = rows[..., 1:-1].clone(memory_format=torch.preserve_format)
        out[..., 0] += rows[..., -1]
        out[..., -1] += rows[..., 0]
        return out

    @staticmethod
    def jvp(ctx, tangent: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]
        return CircularPad.apply(tangent)


@torch.fx.wrap  # the function above looks at the layout, which no tracer sees
def circular_pad(x: Tensor) -> Tensor:
    """CircularPad, or in a scripted network, which has no functions of ours, PyTorch's padding."""
    if not torch.jit.is_scripting():
        return CircularPad.apply(x)
    return F.pad(x, [1, 1, 1, 1], mode="circular")


class CircularConv2d(nn.Conv2d):
    """A convolution whose kernel of 3x3 reads around the edges; weights as of nn.Conv2d."""

    def forward(self, x: Tensor) -> Tensor:  # pyrefly: ignore[bad-override-param-name]
        return F.conv2d(circular_pad(x), self.weight, self.bias, self.stride, groups=self.groups)


def conv3x3(dim: int, dim_out: int, *, stride: int, padding: str, groups: int = 1) -> nn.Conv2d:
    """Without a bias; padding="zeros" or "circular". (B, dim, H, W) -> (B, dim_out, H / stride,
    W / stride)
    """
    kind = CircularConv2d if padding == "circular" else nn.Conv2d
    return kind(dim, dim_out, 3, stride, 1, groups=groups, bias=False)
