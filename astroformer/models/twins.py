"""timm's own networks in the configuration of ours: what our networks are compared with, weight
for weight.
"""

from timm.models.maxxvit import MaxxVit, MaxxVitCfg
from torch import nn

from astroformer.models.astroformer import VARIANTS


def timm_twin(model: str, *, stack: str, image_size: int, num_classes: int = 10) -> nn.Module:
    """timm's own `MaxxVit` in the configuration of one of our names: the same weights, the same
    multiply-adds.

    timm's stem always has a stride of 2. Where ours has another, timm's network is made for images
    that its stem would bring to the same grid, and its first convolution is given our stride.
    """
    sizes = VARIANTS[model]
    stride = sizes.get("stem_stride", 2)
    twin = MaxxVit(
        MaxxVitCfg(
            embed_dim=sizes["dims"],
            depths=sizes["depths"],
            block_type=tuple(stack),
            stem_width=sizes["stem_width"],
            head_hidden_size=sizes["dims"][-1],
        ),
        img_size=image_size * 2 // stride,
        num_classes=num_classes,
    )
    twin.stem.conv1.stride = (stride, stride)
    return twin
