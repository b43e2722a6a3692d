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

import torch
from timm.layers import to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from astroformer.models.shared import check_choice, listed_parts
from astroformer.sizes import BASELINES as VARIANTS
from astroformer.sizes import IMAGE_SIZE


class SmallImageResNet(ResNet):
    """timm's ResNet whose stem keeps the image's grid: (B, 3, H, W) -> four stages of H, H/2, H/4
    and H/8 rows.
    """

    def __init__(self, **arguments):
        super().__init__(BasicBlock, **arguments)
        first = self.conv1
        assert isinstance(first, nn.Conv2d)
        where = dict(device=first.weight.device, dtype=first.weight.dtype)
        self.conv1 = nn.Conv2d(
            first.in_channels, first.out_channels, 3, padding=1, bias=False, **where
        )
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.add_module("maxpool", nn.Identity())
        for part in listed_parts(self):  # what timm tells of the grid
            part["reduction"] = max(1, part["reduction"] // 4)


class LogisticRegression(nn.Module):
    """Softmax regression on the means of `grid` x `grid` squares of the image: (B, C, H, W) ->
    logits (B, num_classes). It has no block to drop: `drop_path_rate` changes nothing.

    In timm's words the means, a map (B, C, grid, grid), are its features, one level of them where
    other networks have three or more; side by side (global_pool="flat") they are its pre-logits.
    Without a classifier they may stay a map (global_pool=""). `img_size` says for which images
    `feature_info` tells the pixels of a square.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        grid: int = 8,
        img_size: int | tuple[int, int] = 32,
        global_pool: str = "flat",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_chans, self.global_pool = in_chans, global_pool
        self.num_features, self.head_hidden_size = in_chans, in_chans * grid**2
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.drop = nn.Dropout(drop_rate)
        # where a classifier is put, also when the network has lost its only weights
        self.register_buffer("beside", torch.empty(0, device=device, dtype=dtype), persistent=False)
        self.reset_classifier(num_classes)
        square = max(1, max(to_2tuple(img_size)) // grid)
        self.feature_info = [dict(num_chs=in_chans, reduction=square, module="pool")]

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A classifier of zeros, with which every class is as likely; without classes, none."""
        if global_pool is not None:  # "" is a value: no pooling
            self.global_pool = global_pool
        check_choice("global_pool", self.global_pool, ("flat", ""))
        if num_classes and not self.global_pool:
            raise ValueError('logistic regression needs global_pool="flat" to tell classes apart')
        self.num_classes = num_classes
        self.head: nn.Module = nn.Identity()
        if num_classes:
            where = dict(device=self.beside.device, dtype=self.beside.dtype)
            self.head = nn.Linear(self.head_hidden_size, num_classes, **where)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.head.train(self.training)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.pool(x)  # (B, C, grid, grid)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The means, (B, C, grid, grid), the only level that `indices` can name; before them
        `forward_features` unless intermediates_only. The other arguments change nothing here.
        """
        check_choice("output_fmt", output_fmt, ("NCHW",))
        wanted, _ = feature_take_indices(1, indices)
        x = self.forward_features(x)
        return [x for _ in wanted] if intermediates_only else (x, [x for _ in wanted])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        if self.global_pool == "flat":
            x = x.flatten(1)
        x = self.drop(x)
        return x if pre_logits else self.head(x)  # (B, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


default_cfgs = generate_default_cfgs(
    {
        name: dict(
            url="",
            num_classes=10,
            input_size=(3, IMAGE_SIZE[name], IMAGE_SIZE[name]),
            pool_size=grid,
            fixed_input_size=name == "vit_narrow",
            crop_pct=1.0,
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            first_conv=first,
            classifier=last,
            license="apache-2.0",
        )
        for name, first, last, grid in (
            ("resnet18_narrow", "conv1", "fc", (4, 4)),
            ("convnext_narrow", "stem.0", "head.fc", (4, 4)),
            ("vit_narrow", "patch_embed.proj", "head", None),
            ("logistic_8x8", "head", "head", (8, 8)),
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
def logistic_8x8(pretrained: bool = False, **kwargs) -> LogisticRegression:
    """For images of any size; `img_size` is that of which its description speaks."""
    return build_model_with_cfg(
        LogisticRegression,
        "logistic_8x8",
        pretrained,
        feature_cfg=dict(out_indices=(0,)),
        **dict(VARIANTS["logistic_8x8"], **kwargs),
    )
