"""Astroformer (Dagli 2023, arXiv:2304.05350, section 3; poster, "Method"). One network, on one
page.

Reads top to bottom: Stem (S0), SqueezeExcite, MBConv (S1-S3), RelativePositionBias,
RelativeAttention and TransformerBlock (S4), Stage, Astroformer, the table of variants, registration
with timm.

The release is timm's `MaxxVit` with the block types C, C, C, T. State-dict names and shapes here
are the release's, so its checkpoints load; `tests/models/test_astroformer.py` holds logits and
gradients against timm's own network.

Shapes: images and feature maps (B, C, H, W); attention works on N = H * W positions as (B, heads,
N, head_dim).
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm2d, NormMlpClassifierHead
from timm.layers.cbam import CbamModule
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from astroformer.models.circular import conv3x3
from astroformer.models.downsampling import MODES, Downsample, align, average, blur, stride_of
from astroformer.models.shared import (
    SizedNetwork,
    check_choice,
    init_convolution,
    with_checked_options,
)
from astroformer.sizes import ASTROFORMER as VARIANTS
from astroformer.sizes import EXPANSION, HEAD_DIM, IMAGE_SIZE

SE_RATIO = 0.25  # squeeze-excitation width over the block's output width
NORM_EPS = 1e-6  # LayerNorm's, in S4 and the head; BatchNorm keeps PyTorch's 1e-5


class Stem(nn.Module):
    """S0: two 3x3 convolutions, the first with a stride. (B, in_chans, H, W) -> (B, width, H /
    stride, W / stride)
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        *,
        stride: int = 2,
        padding: str = "zeros",
        mode: str = "strided",
    ):
        super().__init__()
        own = stride_of(mode, stride)
        self.align = align(mode, stride)
        self.conv1 = conv3x3(in_chans, width, stride=own, padding=padding)
        self.norm1 = nn.BatchNorm2d(width)
        self.act1 = nn.GELU()
        self.blur = blur(mode, stride, width, padding=padding)
        self.conv2 = conv3x3(width, width, stride=1, padding=padding)
        for conv in (self.conv1, self.conv2):
            init_convolution(conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.blur(self.act1(self.norm1(self.conv1(self.align(x))))))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): one gate a channel, computed from the mean over
    the image.
    """

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        return x * self.fc2(F.silu(self.fc1(gate))).sigmoid()


class MBConv(nn.Module):
    """Inverted residual (Sandler et al. 2018) with squeeze-excitation, pre-norm: the block of S1,
    S2 and S3.

    `attn_layer="cbam"` puts block attention (Woo et al. 2018: a channel gate, then a spatial gate;
    the poster's first family of prior work) where squeeze-excitation is, through timm's layer.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        *,
        stride: int,
        attn_layer: str = "se",
        padding: str = "zeros",
        mode: str = "strided",
        drop_path: float = 0.0,
    ):
        super().__init__()
        hidden = EXPANSION * dim_out
        squeezed = int(SE_RATIO * dim_out)
        own = stride_of(mode, stride)
        self.align = align(mode, stride)
        self.shortcut = (
            Downsample(dim, dim_out, padding=padding, mode=mode) if stride == 2 else nn.Identity()
        )
        self.pre_norm = nn.BatchNorm2d(dim)
        self.conv1_1x1 = nn.Conv2d(dim, hidden, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.act1 = nn.GELU()
        self.conv2_kxk = conv3x3(hidden, hidden, stride=own, padding=padding, groups=hidden)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.act2 = nn.GELU()
        self.blur = blur(mode, stride, hidden, padding=padding)
        if attn_layer == "se":
            self.se = SqueezeExcite(hidden, squeezed)
        elif attn_layer == "cbam":
            self.se = CbamModule(hidden, rd_channels=squeezed)
        else:
            raise ValueError(f'attn_layer="{attn_layer}" is not known; choose "se" or "cbam"')
        self.conv3_1x1 = nn.Conv2d(hidden, dim_out, 1)
        self.drop_path = DropPath(drop_path)
        self.apply(init_convolution)

    def forward(self, x: Tensor) -> Tensor:
        x = self.align(x)
        shortcut = self.shortcut(x)  # (B, dim_out, H / stride, W / stride)
        x = self.conv1_1x1(self.pre_norm(x))  # (B, 4 dim_out, H, W)
        x = self.conv2_kxk(self.act1(self.norm1(x)))  # (B, 4 dim_out, H / stride, W / stride)
        x = self.se(self.blur(self.act2(self.norm2(x))))
        x = self.conv3_1x1(x)  # (B, dim_out, H / stride, W / stride)
        return shortcut + self.drop_path(x)


class RelativePositionBias(nn.Module):
    """w_{i-j}: one learned number for each head and each offset between two positions of an H x W
    grid.

    offsets="plane": as they are, from 1 - H to H - 1 (the release); "torus": modulo H and W, on a
    grid whose edges meet. The table has the same shape in both; on the torus its part of negative
    offsets is not read.
    """

    def __init__(self, grid_size: tuple[int, int], heads: int, *, offsets: str = "plane"):
        super().__init__()
        self.offsets = offsets
        height, width = grid_size
        self.relative_position_bias_table = nn.Parameter(
            torch.empty((2 * height - 1) * (2 * width - 1), heads)
        )
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.set_grid_size(grid_size)

    def set_grid_size(self, grid_size: tuple[int, int]) -> None:
        """Builds the index of offsets; where the grid changes, interpolates the table too."""
        height, width = grid_size
        table = self.relative_position_bias_table
        if hasattr(self, "grid_size") and tuple(grid_size) != self.grid_size:
            resized = resize_bias_table(table.detach(), self.grid_size, grid_size)
            self.relative_position_bias_table = nn.Parameter(
                resized, requires_grad=table.requires_grad
            )
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        y, x = y.flatten(), x.flatten()  # (N,)
        dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]  # (N, N), from 1 - H to H - 1
        if self.offsets == "torus":
            dy, dx = dy % height, dx % width
        index = ((dy + height - 1) * (2 * width - 1) + dx + width - 1).to(table.device)
        self.register_buffer("relative_position_index", index, persistent=False)
        self.grid_size = tuple(grid_size)

    def forward(self) -> Tensor:
        # (heads, N, N)
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class RelativeAttention(nn.Module):
    """Multi-head self-attention with a relative position bias, in the poster's two forms and
    without:

    rel_bias="inside"    y_i = sum_j softmax_j(x_i x_j + w_{i-j}) x_j    (methodology, equation 1;
                         the release)
    rel_bias="outside"   y_i = sum_j (softmax_j(x_i x_j) + w_{i-j}) x_j  (poster, "Transformer
                         Block")
    rel_bias="none"      y_i = sum_j softmax_j(x_i x_j) x_j
    where x_i x_j stands for the scaled product of queries and keys, the last x_j for values.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        grid_size: tuple[int, int],
        *,
        rel_bias: str = "inside",
        offsets: str = "plane",
    ):
        super().__init__()
        if rel_bias not in ("inside", "outside", "none"):
            raise ValueError(
                f'rel_bias="{rel_bias}" is not known; choose "inside", "outside" or "none"'
            )
        if dim_out % HEAD_DIM:
            raise ValueError(
                f"attention needs a width that is a multiple of {HEAD_DIM}, not {dim_out}"
            )
        self.rel_bias = rel_bias
        self.num_heads, self.head_dim = dim_out // HEAD_DIM, HEAD_DIM
        self.qkv = nn.Conv2d(dim, 3 * dim_out, 1)
        if rel_bias == "none":
            self.register_module("rel_pos", None)
        else:
            self.rel_pos = RelativePositionBias(grid_size, self.num_heads, offsets=offsets)
        self.proj = nn.Conv2d(dim_out, dim_out, 1)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, dim, H, W) -> queries, keys, values, each (B, heads, N, head_dim)"""
        qkv = self.qkv(x).flatten(2)  # (B, 3 dim_out, N)
        qkv = qkv.unflatten(1, (self.num_heads, 3 * self.head_dim)).mT  # (B, heads, N, 3 head_dim)
        # fused kernels read head_dim with stride 1
        query, key, value = qkv.contiguous().chunk(3, dim=-1)
        return query, key, value

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """A_{ij}, how much position j contributes to position i: (B, heads, N, N)."""
        logits = query @ key.mT / math.sqrt(self.head_dim)
        if self.rel_pos is None:
            return logits.softmax(-1)
        if self.rel_bias == "inside":
            return (logits + self.rel_pos()).softmax(-1)
        return logits.softmax(-1) + self.rel_pos()

    def forward(self, x: Tensor) -> Tensor:
        if self.rel_pos is not None:  # H x W and W x H have the same N
            x = _of_grid(x, self.rel_pos.grid_size)
        query, key, value = self.heads(x)  # (B, heads, N, head_dim) each
        if self.rel_bias == "outside":  # no fused kernel adds after the softmax
            y = self.weights(query, key) @ value
        else:
            bias: Tensor | None = None
            if self.rel_pos is not None:
                bias = self.rel_pos().to(query.dtype)
            y = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        y = y.mT.flatten(1, 2).unflatten(2, x.shape[2:])  # (B, dim_out, H, W)
        return self.proj(y)


@torch.fx.wrap  # see shared.py
def _of_grid(x: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """The map (B, C, H, W), if H and W are `grid_size`."""
    height, width = x.shape[2], x.shape[3]
    if height != grid_size[0] or width != grid_size[1]:
        raise ValueError(
            f"a grid of ({height}, {width}) positions came to a bias table for {grid_size}"
        )
    return x


class Mlp(nn.Module):
    """Two 1x1 convolutions with a GELU between: the position-wise feed-forward part of S4."""

    def __init__(self, dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, EXPANSION * dim, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(EXPANSION * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Pre-norm attention, then MLP, each with a residual; the block of S4. With stride 2 the
    grid is halved first.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        *,
        stride: int,
        grid_size: tuple[int, int],
        rel_bias: str = "inside",
        offsets: str = "plane",
        padding: str = "zeros",
        mode: str = "strided",
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.align = align(mode, stride)
        self.shortcut, self.norm1 = nn.Identity(), LayerNorm2d(dim, eps=NORM_EPS)
        if stride == 2:
            self.shortcut = Downsample(dim, dim_out, padding=padding, mode=mode)
            self.norm1 = nn.Sequential()
            self.norm1.add_module("norm", LayerNorm2d(dim, eps=NORM_EPS))
            self.norm1.add_module("down", average(mode, dim, padding=padding))
        self.attn = RelativeAttention(dim, dim_out, grid_size, rel_bias=rel_bias, offsets=offsets)
        self.norm2 = LayerNorm2d(dim_out, eps=NORM_EPS)
        self.mlp = Mlp(dim_out)
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)
        self.apply(init_transformer)
        for linear in (self.mlp.fc1, self.mlp.fc2):
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.align(x)
        # (B, dim_out, H / stride, W / stride)
        x = self.shortcut(x) + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class Stage(nn.Module):
    """`depth` blocks of one kind, C for MBConv or T for TransformerBlock; the first halves the
    grid.
    """

    def __init__(
        self,
        kind: str,
        dim: int,
        dim_out: int,
        *,
        grid_size: tuple[int, int],
        drop_path: list[float],
        attn_layer: str,
        rel_bias: str,
        padding: str,
        offsets: str,
        mode: str,
    ):
        super().__init__()
        self.grad_checkpointing = False
        self.blocks = nn.Sequential()
        for i, rate in enumerate(drop_path):
            dims = (dim if i == 0 else dim_out, dim_out)
            stride = 2 if i == 0 else 1
            self.blocks.append(
                MBConv(
                    *dims,
                    stride=stride,
                    attn_layer=attn_layer,
                    padding=padding,
                    mode=mode,
                    drop_path=rate,
                )
                if kind == "C"
                else TransformerBlock(
                    *dims,
                    stride=stride,
                    grid_size=grid_size,
                    rel_bias=rel_bias,
                    offsets=offsets,
                    padding=padding,
                    mode=mode,
                    drop_path=rate,
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.blocks, x)
        return self.blocks(x)  # (B, dim_out, H / 2, W / 2)


class Astroformer(SizedNetwork):
    """Stem, four stages, head; `stack` names the kind of each stage (C: convolution, T:
    transformer).

    Arguments after timm's own (`num_classes`, `in_chans`, `img_size`, `global_pool`, `drop_rate`
    before the classifier, `drop_path_rate` growing linearly with depth):
    stack: four letters; "CCCT" is Astroformer's, "CCTT" and "CTTT" are CoAtNet's
    attn_layer: "se" or "cbam", the gate within MBConv; rel_bias: "inside", "outside" or "none", see
        RelativeAttention
    padding: "zeros" (the release) or "circular", of the 3x3 convolutions; offsets: "plane" or
        "torus", see RelativePositionBias
    downsampling: "strided" (the release), "blur" or "polyphase", see downsampling.py
    """

    interpolated = "bias tables"

    def __init__(
        self,
        stem_width: int,
        dims: tuple[int, ...],
        depths: tuple[int, ...],
        *,
        stem_stride: int = 2,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 224,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        stack: str = "CCCT",
        attn_layer: str = "se",
        rel_bias: str = "inside",
        padding: str = "zeros",
        offsets: str = "plane",
        downsampling: str = "strided",
    ):
        super().__init__()
        for name, value, known in (
            ("padding", padding, ("zeros", "circular")),
            ("offsets", offsets, ("plane", "torus")),
            ("downsampling", downsampling, MODES),
        ):
            check_choice(name, value, known)
        if len(stack) != len(dims) or set(stack) - set("CT"):
            raise ValueError(
                f'stack="{stack}" must be {len(dims)} letters, each C or T, such as '
                '"CCCT" or "CCTT"'
            )
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.stack, self.global_pool = stack, global_pool
        self.num_features = self.head_hidden_size = self.embed_dim = dims[-1]
        # pixels per position, after each stage
        self.strides = tuple(stem_stride * 2 ** (i + 1) for i in range(len(dims)))
        self.img_size = self._checked(img_size)

        self.stem = Stem(
            in_chans, stem_width, stride=stem_stride, padding=padding, mode=downsampling
        )
        # float32, as in timm
        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").split(depths)
        widths = (stem_width, *dims)
        self.stages = nn.Sequential(
            *[
                Stage(
                    kind,
                    widths[i],
                    widths[i + 1],
                    grid_size=self._grid(i),
                    drop_path=rates[i].tolist(),
                    attn_layer=attn_layer,
                    rel_bias=rel_bias,
                    padding=padding,
                    offsets=offsets,
                    mode=downsampling,
                )
                for i, kind in enumerate(stack)
            ]
        )
        # mean over positions, LayerNorm, linear, tanh, dropout, linear
        self.head = NormMlpClassifierHead(
            dims[-1],
            num_classes,
            hidden_size=dims[-1],
            pool_type=global_pool,
            drop_rate=drop_rate,
            norm_layer=partial(LayerNorm2d, eps=NORM_EPS),
        )
        self.feature_info = [dict(num_chs=stem_width, reduction=stem_stride, module="stem")] + [
            dict(num_chs=dim, reduction=stride, module=f"stages.{i}")
            for i, (dim, stride) in enumerate(zip(dims, self.strides))
        ]

    def _checked(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        return self.checked_size(
            img_size,
            (self.strides[-1],) * 2,
            ", which the network's strides need; resize or pad the images",
        )

    def _grid(self, stage: int) -> tuple[int, int]:
        """Positions of a stage's output, (H, W)."""
        return self.img_size[0] // self.strides[stage], self.img_size[1] // self.strides[stage]

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Prepares the network for images of another size, (H, W) in pixels: interpolates every
        bias table.
        """
        self.img_size = self._checked(img_size)
        for i, stage in enumerate(self.stages):
            for module in stage.modules():
                if isinstance(module, RelativePositionBias):
                    module.set_grid_size(self._grid(i))
        self.record_input_size(self._grid(-1))

    def no_weight_decay(self) -> set[str]:
        return {
            name
            for name, _ in self.named_parameters()
            if name.endswith("relative_position_bias_table")
        }

    def group_matcher(self, coarse: bool = False) -> dict:
        """Layer groups for timm's layer-wise learning rates: by stage, or by block."""
        return dict(
            stem=r"^stem", blocks=r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.blocks\.(\d+)"
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes each block's activations in the backward pass: less memory, about a third more
        arithmetic, the same gradients. BatchNorm's running statistics count each batch twice then,
        as in timm's networks.
        """
        for stage in self.stages:
            stage.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        # "" is a value: no pooling
        self.global_pool = self.global_pool if global_pool is None else global_pool
        self.head.reset(num_classes, global_pool)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.stages(self.stem(self.checked_images(x)))  # (B, dims[-1], H / 32, W / 32)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Maps (B, C, H, W) after the stem, number 0, and the stages 1 to 4 of `indices` (None:
        all; a number: the last ones); before them `forward_features` unless intermediates_only.
        stop_early: nothing beyond the last one asked for. `norm` changes nothing: the network has
        no norm before its head. What timm's `feature_cls="getter"` calls.
        """
        check_choice("output_fmt", output_fmt, ("NCHW",))
        wanted, last = feature_take_indices(len(self.stages) + 1, indices)
        x, found = self.stem(self.checked_images(x)), []
        if 0 in wanted:
            found.append(x)
        for i, stage in enumerate(self.stages, start=1):
            if i <= last or not stop_early:
                x = stage(x)
            if i in wanted:
                found.append(x)
        return found if intermediates_only else (x, found)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes the stages that the maps of `indices` do not need, and the head, unless it is
        kept and the last stage with it; gives the indices as numbers from the stem on.
        """
        wanted, last = feature_take_indices(len(self.stages) + 1, indices)
        shorter = last < len(self.stages)
        self.stages = self.stages[:last].train(self.training)
        if shorter or prune_head:
            width = self.feature_info[last]["num_chs"]
            self.num_features = self.head_hidden_size = self.embed_dim = width
            self.num_classes, self.global_pool = 0, ""
            self.head.reset(0, "", reset_other=True)
            self.head.in_features = self.head.num_features = width
        return wanted

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        # (B, num_classes), or (B, dims[-1]) before the classifier
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def init_transformer(module: nn.Module) -> None:
    """The release's initialisation of transformer blocks: Glorot uniform, biases zero (as in
    ViT).
    """
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def resize_bias_table(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Bicubic interpolation, extreme offset onto extreme offset: ((2H-1)(2W-1), heads) of the
    old grid -> of the new.
    """
    # (1, heads, 2H-1, 2W-1)
    offsets = table.mT.unflatten(1, (2 * old[0] - 1, 2 * old[1] - 1))[None].float()
    for axis in (0, 1):
        # only offset zero is left, the middle; aligned interpolation to one sample reads a corner
        if new[axis] == 1:
            offsets = offsets.narrow(2 + axis, old[axis] - 1, 1)
    size = (2 * new[0] - 1, 2 * new[1] - 1)
    resized = F.interpolate(offsets, size=size, mode="bicubic", align_corners=True)
    return resized[0].flatten(1).mT.contiguous().to(table.dtype)


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: Astroformer) -> dict[str, Tensor]:
    """Interpolates bias tables of a checkpoint made at another (square) image size; the rest
    passes as it is.
    """
    out = {}
    for name, value in state_dict.items():
        if name.endswith("relative_position_bias_table"):
            bias = model.get_submodule(name.rpartition(".")[0])
            if value.shape != bias.relative_position_bias_table.shape:
                side = (math.isqrt(value.shape[0]) + 1) // 2
                if (2 * side - 1) ** 2 != value.shape[0]:
                    raise ValueError(
                        f"{name} has {value.shape[0]} offsets, which no square grid "
                        "has; load it into a "
                        "model of the checkpoint's own img_size, then call "
                        "set_input_size"
                    )
                value = resize_bias_table(value, (side, side), bias.grid_size)
        out[name] = value
    return out


def _cfg(name: str) -> dict:
    """timm's description of a network without released weights; the mean and deviation are
    ImageNet's.
    """
    pixels = IMAGE_SIZE[name]
    grid = pixels // (16 * VARIANTS[name].get("stem_stride", 2))
    return dict(
        url="",
        num_classes=1000,
        input_size=(3, pixels, pixels),
        pool_size=(grid, grid),
        fixed_input_size=True,
        crop_pct=0.95,
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        first_conv="stem.conv1",
        classifier="head.fc",
        license="apache-2.0",
    )


default_cfgs = generate_default_cfgs({name: _cfg(name) for name in VARIANTS})


def _register(name: str):
    def create(pretrained: bool = False, **kwargs) -> Astroformer:
        model = build_model_with_cfg(
            with_checked_options(Astroformer, name),
            name,
            pretrained,
            pretrained_filter_fn=checkpoint_filter_fn,
            feature_cfg=dict(flatten_sequential=True),
            **dict(VARIANTS[name], **kwargs),
        )
        if isinstance(model, Astroformer):  # not with features_only=True, which wraps the stages
            model.record_input_size(model._grid(-1))
        return model

    create.__name__ = create.__qualname__ = name
    create.__doc__ = (
        f"{name}: stem, widths and depths as in VARIANTS; keyword arguments as of Astroformer."
    )
    return register_model(create)


for _name in VARIANTS:
    globals()[_name] = _register(_name)
