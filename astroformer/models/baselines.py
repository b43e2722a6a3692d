"""Baselines: what a user would take instead, at the size of `astroformer_pico` and for images of 32
to 64 pixels. A narrow ResNet-18 (He et al. 2016, arXiv:1512.03385), a narrow ConvNeXt (Liu et al.
2022, arXiv:2201.03545), a small vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929),
and, as the floor, logistic regression on the image's means over 8 x 8 squares.

The layers are timm's. Where a network made for 224 pixels would leave a small image no grid, the
first layers keep more of it, as is usual on CIFAR: the ResNet begins with a 3 x 3 convolution of
stride 1 and without max-pooling (He et al., section 4.2), the ConvNeXt with patches of 1 pixel,
the vision transformer with 8 x 8 patches of any image.

Registered with timm as the project's own networks are; a keyword may change a size, as of timm's. A
run has no options for them: a baseline is these sizes.
"""

import torch.nn.functional as F
from timm.layers import to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from astroformer.models.shared import listed_parts
from astroformer.sizes import BASELINES as VARIANTS


class SmallImageResNet(ResNet):
    """timm's ResNet whose stem keeps the image's grid: (B, 3, H, W) -> four stages of H, H/2, H/4
    and H/8 rows.
    """

    def __init__(self, **arguments):
        super().__init__(BasicBlock, **arguments)
        first = self.conv1
        assert isinstance(first, nn.Conv2d)
        self.conv1 = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.add_module("maxpool", nn.Identity())
        for part in listed_parts(self):  # what timm tells of the grid
            part["reduction"] = max(1, part["reduction"] // 4)


class LogisticRegression(nn.Module):
    """Softmax regression on the means of `grid` x `grid` squares of the image: (B, C, H, W) ->
    logits (B, num_classes). It has no block to drop: `drop_path_rate` changes nothing.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        grid: int = 8,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        self.grid, self.num_classes = grid, num_classes
        self.num_features = self.head_hidden_size = in_chans * grid**2
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(self.num_features, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(F.adaptive_avg_pool2d(x, self.grid).flatten(1)))


default_cfgs = generate_default_cfgs(
    {
        name: dict(
            url="",
            num_classes=10,
            input_size=(3, 32, 32),
            pool_size=None,
            fixed_input_size=name == "vit_narrow",
            crop_pct=1.0,
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            first_conv=first,
            classifier=last,
            license="apache-2.0",
        )
        for name, first, last in (
            ("resnet18_narrow", "conv1", "fc"),
            ("convnext_narrow", "stem.0", "head.fc"),
            ("vit_narrow", "patch_embed.proj", "head"),
            ("logistic_8x8", "head", "head"),
        )
    }
)


@register_model
def resnet18_narrow(pretrained: bool = False, img_size: object = None, **kwargs) -> ResNet:
    """For images of any size; `img_size` is taken as of every network here and changes nothing."""
    return build_model_with_cfg(
        SmallImageResNet,
        "resnet18_narrow",
        pretrained,
        **dict(VARIANTS["resnet18_narrow"], **kwargs),
    )


@register_model
def convnext_narrow(pretrained: bool = False, img_size: object = None, **kwargs) -> ConvNeXt:
    """For images of any size; `img_size` is taken as of every network here and changes nothing."""
    return build_model_with_cfg(
        ConvNeXt,
        "convnext_narrow",
        pretrained,
        feature_cfg=dict(out_indices=(0, 1, 2, 3), flatten_sequential=True),
        **dict(VARIANTS["convnext_narrow"], **kwargs),
    )


@register_model
def vit_narrow(
    pretrained: bool = False, img_size: int | tuple[int, int] = 32, **kwargs
) -> VisionTransformer:
    """For images of `img_size` pixels, a multiple of 8: its patches are an eighth of a row."""
    sizes = dict(VARIANTS["vit_narrow"])
    rows = sizes.pop("patches")
    height, width = to_2tuple(img_size)
    if height % rows or height != width:
        raise ValueError(
            f"vit_narrow takes square images of a multiple of {rows} pixels, not {height}x{width}"
        )
    return build_model_with_cfg(
        VisionTransformer,
        "vit_narrow",
        pretrained,
        feature_cfg=dict(out_indices=3, feature_cls="getter"),
        img_size=height,
        patch_size=height // rows,
        **dict(sizes, **kwargs),
    )


@register_model
def logistic_8x8(pretrained: bool = False, img_size: object = None, **kwargs) -> LogisticRegression:
    """For images of any size; `img_size` is taken as of every network here and changes nothing."""
    return build_model_with_cfg(
        LogisticRegression, "logistic_8x8", pretrained, **dict(VARIANTS["logistic_8x8"], **kwargs)
    )
