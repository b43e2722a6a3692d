"""timm's own networks in the configuration of ours: what our networks are compared with, weight
for weight.
"""

from timm.models.maxxvit import MaxxVit, MaxxVitCfg
from torch import nn

from astroformer.models.astroformer import VARIANTS


def timm_twin(model: str, *, stack: str, image_size: int, num_classes: int = 10) -> nn.Module:
    """timm's own `MaxxVit` in the configuration of one of our names."""
    sizes = VARIANTS[model]
    return MaxxVit(
        MaxxVitCfg(
            embed_dim=sizes["dims"],
            depths=sizes["depths"],
            block_type=tuple(stack),
            stem_width=sizes["stem_width"],
            head_hidden_size=sizes["dims"][-1],
        ),
        img_size=image_size,
        num_classes=num_classes,
    )
