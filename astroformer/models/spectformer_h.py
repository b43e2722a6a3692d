"""SpectFormer (Patro, Namboodiri and Agneeswaran 2023, arXiv:2304.06446), the hierarchical family.

Reads top to bottom: Stem, Downsample, ConvMlp (PVTv2's), Attention, Block, ClassAttention,
ClassBlock, SpectFormerH, token labelling, the table of variants, registration with timm. The gate
itself is `spectformer.py`'s.

Four stages at a 4th, 8th, 16th and 32nd of the image's resolution, the first two spectral, the last
two attention; then one class-attention block (CaiT, Touvron et al. 2021), whose class token starts
as the mean over positions. Other than in the vanilla family, a spectral block here has two residual
connections, as an attention block has. That too is as released.

Shapes: images (B, C, H, W); maps of positions (B, H, W, C); tokens (B, 1 + N, C), the class token
first.
"""

import math

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from astroformer.models.shared import check_choice, init_convolution, with_checked_options
from astroformer.models.spectformer import (
    NORM_EPS,
    Blocks,
    Mlp,
    SpectralGate,
    SpectralNetwork,
    checked_heads,
    checked_pool,
    describe,
    init_linear,
    resize_filter,
)
from astroformer.sizes import MLP_RATIOS, SPECTRAL_STAGES, STEM_STRIDE
from astroformer.sizes import SPECTFORMER_H as VARIANTS

# positions of the first stage per position of the last, to which token labels belong
LABEL_STRIDE = 8
AUXILIARY_SHARE = 0.5  # of the largest token logits, added to the class token's in evaluation
STAGES = 4


class Stem(nn.Module):
    """Overlapping convolutions, the first and the last with a stride of 2. (B, in_chans, H, W)
    -> (B, H / 4, W / 4, dim)
    """

    def __init__(self, in_chans: int, hidden: int, dim: int):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_chans, hidden, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
        )
        self.proj = nn.Conv2d(hidden, dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim)  # eps is PyTorch's 1e-5 here and in Downsample, as released

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(self.conv(x)).permute(0, 2, 3, 1))


class Downsample(nn.Module):
    """Halves the grid by a strided convolution. (B, H, W, dim) -> (B, H / 2, W / 2, dim_out)"""

    def __init__(self, dim: int, dim_out: int):
        super().__init__()
        self.proj = nn.Conv2d(dim, dim_out, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class DepthwiseConv(nn.Module):
    """A 3x3 filter for each channel. (B, H, W, C) -> (B, H, W, C)"""

    def __init__(self, dim: int):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvMlp(nn.Module):
    """PVTv2's feed-forward part (Wang et al. 2022): an MLP with a depthwise convolution before
    its GELU.
    """

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = DepthwiseConv(hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.dwconv(self.fc1(x))))


class Attention(nn.Module):
    """Multi-head self-attention over all positions; queries on their own, keys and values
    together, as released.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = checked_heads(dim, num_heads)
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        y = attend(self.q(x).flatten(1, 2), self.kv(x).flatten(1, 2), self.num_heads)  # (B, N, C)
        return self.proj(y.reshape(x.shape))  # (B, H, W, C)


def attend(query: Tensor, key_value: Tensor, num_heads: int) -> Tensor:
    """(B, M, C) queries at (B, N, 2 C) keys and values -> (B, M, C)."""
    query = query.unflatten(2, (num_heads, -1)).transpose(1, 2)  # (B, heads, M, head_dim)
    # (B, heads, N, head_dim) each
    key, value = key_value.unflatten(2, (2, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """Mixing of positions, by a gate or by attention, then of channels, each with a residual
    connection of its own.
    """

    def __init__(self, dim: int, mixer: nn.Module, *, mlp_ratio: int, drop_path: float = 0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = mixer
        self.mlp = ConvMlp(dim, mlp_ratio * dim)
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class ClassAttention(nn.Module):
    """Attention from the class token to all tokens. (B, 1 + N, C) -> (B, 1, C)"""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = checked_heads(dim, num_heads)
        self.kv = nn.Linear(dim, 2 * dim)
        self.q = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(attend(self.q(x[:, :1]), self.kv(x), self.num_heads))


class ClassBlock(nn.Module):
    """Class attention and MLP for the class token; the other tokens pass unchanged. (B, 1 + N,
    C) -> (B, 1 + N, C)
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = ClassAttention(dim, num_heads)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        token = x[:, :1] + self.attn(self.norm1(x))
        token = token + self.mlp(self.norm2(token))
        return torch.cat([token, x[:, 1:]], dim=1)


class SpectFormerH(SpectralNetwork):
    """Stem, four stages, class attention, classifier.

    Arguments after timm's own (`num_classes`, `in_chans`, `img_size`, `global_pool` "token" or "",
    `drop_rate` before the classifier, `drop_path_rate` growing linearly with depth):
    token_label: adds the auxiliary classifier of every position (Jiang et al. 2021) with which the
        published results were obtained. Then a training pass returns (logits (B, classes), token
        logits (B, N, classes), box), what `token_label_loss` takes; an evaluation pass returns the
        class token's logits plus half the largest token logits. Off, the network trains like any
        classifier.
    """

    own_pool = "token"

    def __init__(
        self,
        stem_width: int,
        dims: tuple[int, ...],
        depths: tuple[int, ...],
        num_heads: tuple[int, ...],
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 224,
        global_pool: str = "token",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        token_label: bool = False,
    ):
        super().__init__()
        self.num_classes, self.in_chans, self.drop_rate, self.token_label = (
            num_classes,
            in_chans,
            drop_rate,
            token_label,
        )
        self.num_features = self.head_hidden_size = self.embed_dim = dims[-1]
        self.global_pool = checked_pool(global_pool, self.own_pool)
        if any(len(one) != STAGES for one in (dims, depths, num_heads)):
            raise ValueError(
                f"dims, depths and num_heads need {STAGES} numbers each, one for a stage, "
                f"not {len(dims)}, {len(depths)} and {len(num_heads)}"
            )
        self.img_size = self._checked(img_size)

        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").split(depths)

        def blocks(i: int) -> Blocks:
            return Blocks(
                *[
                    Block(
                        dims[i],
                        SpectralGate(dims[i], self.grid_size(i))
                        if i < SPECTRAL_STAGES
                        else Attention(dims[i], num_heads[i]),
                        mlp_ratio=MLP_RATIOS[i],
                        drop_path=rate,
                    )
                    for rate in rates[i].tolist()
                ]
            )

        norms = [nn.LayerNorm(dim, eps=NORM_EPS) for dim in dims]
        # written out, for TorchScript does not follow names that are put together
        self.patch_embed1: nn.Module = Stem(in_chans, stem_width, dims[0])
        self.block1: nn.Module = blocks(0)
        self.norm1: nn.Module = norms[0]
        self.patch_embed2: nn.Module = Downsample(dims[0], dims[1])
        self.block2: nn.Module = blocks(1)
        self.norm2: nn.Module = norms[1]
        self.patch_embed3: nn.Module = Downsample(dims[1], dims[2])
        self.block3: nn.Module = blocks(2)
        self.norm3: nn.Module = norms[2]
        self.patch_embed4: nn.Module = Downsample(dims[2], dims[3])
        self.block4: nn.Module = blocks(3)
        self.norm4: nn.Module = norms[3]
        self.post_network = nn.ModuleList([ClassBlock(dims[-1], num_heads[-1], MLP_RATIOS[-1])])
        self.head = nn.Linear(dims[-1], num_classes) if num_classes > 0 else nn.Identity()
        self.auxiliary_share = AUXILIARY_SHARE
        self.aux_head: nn.Module | None = (
            nn.Linear(dims[-1], num_classes) if token_label and num_classes > 0 else None
        )

        self.apply(init_weights)
        self.feature_info = [
            dict(num_chs=dim, reduction=STEM_STRIDE * 2**i, module=f"block{i + 1}")
            for i, dim in enumerate(dims)
        ]

    def _checked(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        stride = STEM_STRIDE * 2 ** (STAGES - 1)
        return self.checked_size(
            img_size,
            (stride, stride),
            "; the network's strides need that; resize or pad the images",
        )

    def grid_size(self, stage: int) -> tuple[int, int]:
        """Positions of a stage, (H, W)."""
        stride = STEM_STRIDE * 2**stage
        return self.img_size[0] // stride, self.img_size[1] // stride

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Prepares the network for images of another size, (H, W) in pixels: interpolates the
        filters.
        """
        self.img_size = self._checked(img_size)
        for i in range(SPECTRAL_STAGES):
            for module in self.get_submodule(f"block{i + 1}").modules():
                if isinstance(module, SpectralGate):
                    module.set_grid_size(self.grid_size(i))
        self.record_input_size(self.grid_size(STAGES - 1))

    def no_weight_decay(self) -> set[str]:
        return set()

    def group_matcher(self, coarse: bool = False) -> dict:
        """Layer groups for timm's layer-wise learning rates: by stage, or by block."""
        last = [(rf"^norm{STAGES}", (99999,)), (r"^post_network", (99999,))]
        if coarse:
            return dict(
                stem=r"^patch_embed1", blocks=[*last, (r"^(?:patch_embed|block|norm)(\d+)", None)]
            )
        return dict(
            stem=r"^patch_embed1",
            blocks=[
                *last,
                (r"^patch_embed(\d+)", (-1,)),
                (r"^block(\d+)\.(\d+)", None),
                (r"^norm(\d+)", (99999,)),
            ],
        )

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        super().reset_classifier(num_classes, global_pool)
        if self.token_label:
            self.aux_head = self.new_classifier(num_classes) if num_classes > 0 else None

    def embed(self, x: Tensor) -> Tensor:
        return self.patch_embed1(self.checked_images(x))  # (B, H / 4, W / 4, dims[0])

    def stages(self, x: Tensor, count: int = STAGES) -> list[Tensor]:
        """The maps (B, H, W, C) after the first `count` stages, from an embedded one (B, H / 4,
        W / 4, dims[0]); each but the last with the norm that hands it on.
        """
        maps = [self.norm1(self.block1(x))]
        if count > 1:
            maps.append(self.norm2(self.block2(self.patch_embed2(maps[0]))))
        if count > 2:
            maps.append(self.norm3(self.block3(self.patch_embed3(maps[1]))))
        if count > 3:
            maps.append(self.block4(self.patch_embed4(maps[2])))
        return maps

    def tokens(self, x: Tensor) -> Tensor:
        """The class token and the positions of the last stage's map (B, H / 32, W / 32, C), after
        class attention and norm: (B, 1 + N, C)
        """
        x = x.flatten(1, 2)  # (B, N, C)
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1)  # (B, 1 + N, C)
        for block in self.post_network:
            x = block(x)
        return self.norm4(x)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last stage's map, before class attention, which belongs to the head as pooling does:
        (B, H / 32, W / 32, C)
        """
        return self.stages(self.embed(x))[-1]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Maps (B, C, H, W) after the stages of `indices` (an int: the last so many), what
        `features_only=True` returns; without `intermediates_only` the pair of `forward_features`
        and them. Each ends with its norm, the last only with `norm`.
        """
        check_choice("output_fmt", output_fmt, ("NCHW",))
        take, last = feature_take_indices(STAGES, indices)
        maps = self.stages(self.embed(x), last + 1 if stop_early or intermediates_only else STAGES)
        intermediates = [
            (self.norm4(maps[i]) if norm and i == STAGES - 1 else maps[i]).permute(0, 3, 1, 2)
            for i in range(last + 1)
            if i in take
        ]
        return intermediates if intermediates_only else (maps[-1], intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes what the features of `indices` do not need, and the head, class attention with
        it, unless it is kept and the last stage too; returns the indices from the first.
        """
        take, last = feature_take_indices(STAGES, indices)
        shorter = last < STAGES - 1
        if shorter:
            self.num_features = self.head_hidden_size = self.embed_dim = self.feature_info[last][
                "num_chs"
            ]
        if shorter or prune_head:
            self.post_network = nn.ModuleList().train(self.training)
            self.reset_classifier(0, "")
        if shorter or prune_norm:
            self.norm4 = nn.Identity().train(self.training)
        for i in range(last + 1, STAGES):
            for part in ("patch_embed", "block", "norm"):
                self.add_module(f"{part}{i + 1}", nn.Identity().train(self.training))
        return take

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        if self.global_pool == "":  # every position, (B, H / 32, W / 32, C)
            x = F.dropout(self.norm4(x), self.drop_rate, self.training)
            return x if pre_logits else self.head(x)
        tokens = F.dropout(self.tokens(x), self.drop_rate, self.training)
        pooled = tokens[:, 0]  # (B, C)
        if pre_logits:
            return pooled
        logits = self.head(pooled)  # (B, num_classes)
        if self.aux_head is not None:
            logits = logits + self.auxiliary_share * self.aux_head(tokens[:, 1:]).amax(1)
        return logits

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, tuple[int, int, int, int]]:
        if self.training and self.aux_head is not None:
            return self.forward_token_labels(x)
        return self.forward_head(self.forward_features(x))

    @torch.jit.unused  # TorchScript evaluates such a network and does not train it
    def forward_token_labels(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[int, int, int, int]]:
        """A training pass with token labels: in a box, each map is replaced by that of the batch
        read backwards, and each position's logits are handed back to the image that it shows. ->
        (B, classes), (B, N, classes), box
        """
        if self.aux_head is None:
            raise ValueError("the network has no token logits; create it with token_label=True")
        grid = self.grid_size(STAGES - 1)
        x, box = swap_drawn_box(self.embed(x), grid)
        tokens = F.dropout(self.tokens(self.stages(x)[-1]), self.drop_rate)
        # (B, H / 32, W / 32, classes)
        token_logits = self.aux_head(tokens[:, 1:]).unflatten(1, grid)
        return self.head(tokens[:, 0]), swap_box(token_logits, box).flatten(1, 2), box


def draw_box(grid_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """CutMix's box (Yun et al. 2019), (top, left, bottom, right) in positions: its area's share is
    uniform from 0 to 1, its centre is anywhere, and what would lie outside is cut off. Draws from
    torch's generator.
    """
    side = math.sqrt(torch.rand(()).item())
    edges = []
    for positions in grid_size:
        centre, half = int(torch.randint(positions, ())), int(positions * side) // 2
        edges.append((max(centre - half, 0), min(centre + half, positions)))
    (top, bottom), (left, right) = edges
    return top, left, bottom, right


@torch.fx.wrap  # a traced network draws anew in every pass
def swap_drawn_box(
    x: Tensor, grid_size: tuple[int, int]
) -> tuple[Tensor, tuple[int, int, int, int]]:
    """The first stage's maps (B, H, W, C) with a box swapped that is drawn for the last stage's
    grid, and the box.
    """
    box = draw_box(grid_size)
    return swap_box(x, box, scale=LABEL_STRIDE), box


@torch.fx.wrap
def swap_box(x: Tensor, box: tuple[int, int, int, int], *, scale: int = 1) -> Tensor:
    """Within the box, each map from the batch read backwards; twice is the first. (B, H, W, C)
    -> (B, H, W, C)
    """
    top, left, bottom, right = (scale * edge for edge in box)
    swapped = x.clone()
    swapped[:, top:bottom, left:right] = x.flip(0)[:, top:bottom, left:right]
    return swapped


def token_label_loss(
    outputs: tuple[Tensor, Tensor, tuple[int, int, int, int]],
    target: Tensor,
    token_target: Tensor | None = None,
    *,
    token_weight: float = 0.5,
) -> Tensor:
    """The published loss of a training pass: cross-entropy of the class token plus `token_weight`
    that of the positions.

    target: probabilities of each image's classes, (B, classes); the class token answers for both
        images in its map, by area
    token_target: a teacher's probabilities for each position, (B, N, classes); without it every
        position has its image's target
    """
    logits, token_logits, (top, left, bottom, right) = outputs
    if target.shape != logits.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, but the loss needs class "
            f"probabilities {tuple(logits.shape)}; "
            "turn labels into them with torch.nn.functional.one_hot(labels, "
            "classes).float()"
        )
    if token_target is None:
        token_target = target[:, None].expand_as(token_logits)
    # share of the map that shows the other image
    other = (bottom - top) * (right - left) / token_logits.shape[1]
    mixed = (1 - other) * target + other * target.flip(0)
    positions = F.cross_entropy(token_logits.flatten(0, 1), token_target.flatten(0, 1))
    return F.cross_entropy(logits, mixed) + token_weight * positions


def init_weights(module: nn.Module) -> None:
    """The release's initialisation: linear layers as in the vanilla family, convolutions normal
    with variance 2 / fan-out.
    """
    init_linear(module)
    init_convolution(module)


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: SpectFormerH) -> dict[str, Tensor]:
    """Interpolates filters of a checkpoint of another image size; leaves out an auxiliary
    classifier that the model lacks.
    """
    out = {}
    for name, value in state_dict.items():
        if name.startswith("aux_head") and model.aux_head is None:
            continue
        if name.endswith("complex_weight"):
            # grids of the spectral stages are even, as the last is a quarter
            grid = (value.shape[0], 2 * (value.shape[1] - 1))
            value = resize_filter(
                value, grid, model.get_submodule(name.rpartition(".")[0]).grid_size
            )
        out[name] = value
    return out


def options_of(state_dict: dict[str, Tensor]) -> dict[str, bool]:
    """What a state dict tells of the arguments that --model does not decide."""
    return dict(token_label=any(name.startswith("aux_head") for name in state_dict))


default_cfgs = generate_default_cfgs(
    {  # the release evaluates on the central 0.96
        name: describe(name, "patch_embed1.conv.0", crop_pct=0.96, stride=32) for name in VARIANTS
    }
)


def _register(name: str):
    def create(pretrained: bool = False, **kwargs) -> SpectFormerH:
        model = build_model_with_cfg(
            with_checked_options(SpectFormerH, name),
            name,
            pretrained,
            pretrained_filter_fn=checkpoint_filter_fn,
            feature_cfg=dict(out_indices=(0, 1, 2, 3), feature_cls="getter"),
            **dict(VARIANTS[name], **kwargs),
        )
        if isinstance(model, SpectFormerH):  # not with features_only=True, which wraps it
            model.record_input_size(model.grid_size(STAGES - 1))
        return model

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"{name}: sizes as in VARIANTS; keyword arguments as of SpectFormerH."
    return register_model(create)


for _name in VARIANTS:
    globals()[_name] = _register(_name)
