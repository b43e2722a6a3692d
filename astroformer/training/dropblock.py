"""DropBlock (Ghiasi et al. 2018), regional dropout of features: parts of each stage's output are
erased while training.
"""

from collections.abc import Callable

from timm.layers import DropBlock2d
from torch import Tensor, nn

# positions, height and width of what is erased at once, or as large as the grid allows
BLOCK_SIZE = 7


def add_dropblock(model: nn.Module, rate: float) -> None:
    """DropBlock on the output of every stage while training.

    ValueError for a network without stages. There every block writes into one stream of tokens,
    which all later ones read: what is erased once is gone, and to erase again after each block is
    not what DropBlock is.
    """
    strides = [info["reduction"] for info in model.feature_info]
    if len(set(strides)) < len(strides):
        raise ValueError(
            "dropblock erases parts of each stage's output, and "
            f"{type(model).__name__} has blocks of one grid, no stages; "
            "set dropblock=0 and use cutout (the image's pixels) or drop_path_rate "
            "(whole blocks) instead"
        )
    channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    for stage in [
        model.get_submodule(info["module"])
        for info in model.feature_info
        if info["module"] != "stem"
    ]:
        # a list is never called, its last block is
        last = stage[-1] if isinstance(stage, nn.ModuleList) else stage
        last.register_forward_hook(
            _dropping(
                DropBlock2d(drop_prob=rate, block_size=BLOCK_SIZE), channels_last=channels_last
            )
        )


def _dropping(block: DropBlock2d, *, channels_last: bool) -> Callable:
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
