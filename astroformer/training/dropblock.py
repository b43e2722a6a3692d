"""DropBlock (Ghiasi et al. 2018), regional dropout of features: parts of the stages' outputs are
erased while training, at a position for all channels alike.

Two forms of it:
stages    after every stage, blocks of 7 x 7 positions or as large as the grid, at one rate from the
          first step to the last. On a grid below 7 x 7 a block is the whole map.
paper     after the last two stages, blocks of half the grid's side, at a rate that rises linearly
          from 0 ("scheduled DropBlock"). The paper puts it into the last two groups of ResNet-50,
          with blocks of 7 x 7, half the third group's 14 x 14; it also draws for each channel alone
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import DropBlock2d
from torch import Tensor, nn

from astroformer.models.shared import listed_parts

# positions, height and width of what is erased at once in the form "stages", or as large as the
# grid allows
BLOCK_SIZE = 7
LAST_STAGES = 2  # of the form "paper"


class Rising:
    """DropBlock at a rate that is set from outside. Blocks lie within the grid, as in the paper;
    timm's DropBlock2d lets them reach over its border.
    """

    def __init__(self, rate: Tensor):
        self.rate, self.training = rate, True

    def train(self, mode: bool = True) -> None:
        self.training = mode

    def __call__(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, scaled so that the mean stays where the maps are alike."""
        if not self.training:
            return maps
        kept = ~erased(len(maps), *maps.shape[2:], rate=self.rate)
        scale = kept.numel() / kept.sum().clamp(min=1)
        return maps * (kept * scale).to(maps.dtype)


def block_side(grid: int) -> int:
    """Positions along a block's side: half the grid's, rounded up from a half."""
    return max(1, (grid + 1) // 2)


def erased(number: int, height: int, width: int, *, rate: Tensor) -> Tensor:
    """(number, 1, height, width) bool: square blocks of half the shorter side, with corners drawn
    so often that blocks which did not overlap would cover the part `rate` of all positions.
    """
    side = block_side(min(height, width))
    rows, columns = height - side + 1, width - side + 1
    chance = rate * (height * width / (side * side * rows * columns))
    corners = torch.rand(number, 1, rows, columns, device=rate.device) < chance
    reach = F.pad(corners.float(), (side - 1,) * 4)
    return F.max_pool2d(reach, side, stride=1) > 0


class DropBlocks:
    """The DropBlock of a network in training. `at` says how far the training is."""

    def __init__(self, rate: float, current: Tensor | None):
        self.rate, self.current = rate, current

    def at(self, part: float) -> None:
        """Sets the rate for a part of the training that is done, 0 to 1. A rate that does not rise
        stays as it is.
        """
        if self.current is not None:
            self.current.fill_(self.rate * part)


def add_dropblock(model: nn.Module, rate: float, form: str = "stages") -> DropBlocks:
    """DropBlock on outputs of the network's stages while training; none of it at rate 0. Its rate
    is a tensor where it rises, since a compiled network would be compiled anew for another number.

    ValueError for a network without stages. There every block writes into one stream of tokens,
    which all later ones read: what is erased once is gone, and to erase again after each block is
    not what DropBlock is.
    """
    if not rate:
        return DropBlocks(rate, None)
    parts = listed_parts(model)
    strides = [info["reduction"] for info in parts]
    if len(set(strides)) < len(strides):
        raise ValueError(
            "dropblock erases parts of each stage's output, and "
            f"{type(model).__name__} has blocks of one grid, no stages; "
            "set dropblock=0 and use cutout (the image's pixels) or drop_path_rate "
            "(whole blocks) instead"
        )
    channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    stages = [info["module"] for info in parts if info["module"] != "stem"]
    current = None
    if form == "paper":
        current = torch.zeros((), device=next(model.parameters()).device)
        stages = stages[-LAST_STAGES:]
    for stage in map(model.get_submodule, stages):
        # a list is never called, nor is a sequence where checkpointing takes it apart
        listed = isinstance(stage, (nn.ModuleList, nn.Sequential))
        last = stage[-1] if listed else stage
        block = (
            DropBlock2d(drop_prob=rate, block_size=BLOCK_SIZE)
            if current is None
            else Rising(current)
        )
        last.register_forward_hook(_dropping(block, channels_last=channels_last))
    return DropBlocks(rate, current)


def _dropping(block: DropBlock2d | Rising, *, channels_last: bool) -> Callable:
    """A hook that erases blocks of a module's output: maps (B, C, H, W), or (B, H, W, C) with
    `channels_last`.
    """

    def hook(stage: nn.Module, _, output: Tensor) -> Tensor:
        block.train(stage.training)
        return (
            block(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            if channels_last
            else block(output)
        )

    return hook
