"""ViT-CIFAR (github.com/omihub777/ViT-CIFAR, 2021): a vision transformer for 32-pixel images. One
network, on one page.

Reads top to bottom: Attention, Block, VitCifar, the table of variants, registration with timm.

State-dict names, shapes and order are the release's, so its checkpoints load. In two places the
release departs from the vision transformer of the textbook (Dosovitskiy et al. 2021,
arXiv:2010.11929). Both forms are options, the release's first:
scale="width"    attention logits over sqrt(384), the width of the network     "head"    over
                 sqrt(32), the width of a head
mlp_end="gelu"   GELU and dropout follow the second linear layer of the MLP    "linear"  nothing
                 follows it

Shapes: images (B, C, H, W); tokens (B, N, dim) with N = 1 + H/4 * W/4, the class token first; heads
(B, heads, N, head_dim).
"""

import math

import torch
import torch.nn.functional as F
from timm.layers import DropPath, resample_abs_pos_embed
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from astroformer.models.shared import SizedNetwork, check_choice, with_checked_options
from astroformer.sizes import IMAGE_SIZE
from astroformer.sizes import VIT_CIFAR as VARIANTS

SCALES = ("width", "head")
MLP_ENDS = ("gelu", "linear")
POOLS = ("token", "")  # the class token, or no pooling: every token


class Attention(nn.Module):
    """Multi-head self-attention, y_i = sum_j softmax_j(q_i k_j * scale) v_j, then a linear layer
    and dropout.
    """

    def __init__(self, dim: int, heads: int, *, scale: str = "width", proj_drop: float = 0.0):
        super().__init__()
        self.heads = heads
        self.scale = 1 / math.sqrt(dim if scale == "width" else dim // heads)
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        # (B, heads, N, head_dim) each
        query = self.q(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key = self.k(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        value = self.v(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        # (B, heads, N, head_dim)
        y = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return self.dropout(self.o(y.transpose(1, 2).flatten(2)))  # (B, N, dim)


class Block(nn.Module):
    """Pre-norm attention, then MLP, each with a residual. (B, N, dim) -> (B, N, dim)"""

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_hidden: int,
        *,
        scale: str = "width",
        mlp_end: str = "gelu",
        proj_drop: float = 0.0,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.la1 = nn.LayerNorm(dim)
        self.msa = Attention(dim, heads, scale=scale, proj_drop=proj_drop)
        self.la2 = nn.LayerNorm(dim)
        end = (nn.GELU(), nn.Dropout(proj_drop)) if mlp_end == "gelu" else ()
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_hidden),
            nn.GELU(),
            nn.Dropout(proj_drop),
            nn.Linear(mlp_hidden, dim),
            *end,
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.msa(self.la1(x)))
        return x + self.drop_path(self.mlp(self.la2(x)))


class VitCifar(SizedNetwork):
    """Patches, class token, learned positions, blocks, and LayerNorm and a linear classifier on the
    class token.

    Arguments besides the sizes of VARIANTS and timm's own (`num_classes`, `in_chans`, `img_size`,
    `global_pool`):
    drop_rate: dropout before the classifier, which the release does not have; proj_drop_rate: the
    release's `--dropout`, within the blocks; drop_path_rate: stochastic depth, growing linearly
    with depth, which the release does not have either
    scale, mlp_end: the release's forms and the textbook's, see the head of this file
    """

    num_prefix_tokens = 1  # the class token, before the patches
    interpolated = "positions"

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        mlp_hidden: int,
        patch_size: int,
        *,
        num_classes: int = 10,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 32,
        global_pool: str = "token",
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        scale: str = "width",
        mlp_end: str = "gelu",
    ):
        super().__init__()
        for name, value, known in (
            ("scale", scale, SCALES),
            ("mlp_end", mlp_end, MLP_ENDS),
            ("global_pool", global_pool, POOLS),
        ):
            check_choice(name, value, known)
        if dim % heads:
            raise ValueError(
                f"a width of {dim} is no multiple of {heads} heads; choose a width "
                "that all heads share alike"
            )
        self.num_classes, self.in_chans, self.drop_rate, self.global_pool = (
            num_classes,
            in_chans,
            drop_rate,
            global_pool,
        )
        self.num_features = self.head_hidden_size = self.embed_dim = dim
        self.patch_size, self.grad_checkpointing = patch_size, False
        self.img_size = self._checked(img_size)
        height, width = self.grid_size

        # Drawn in the release's order: modules begin as PyTorch has them, tokens and positions from
        # N(0, 1).
        self.emb = nn.Linear(patch_size**2 * in_chans, dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_emb = nn.Parameter(torch.randn(1, self.num_prefix_tokens + height * width, dim))
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        self.enc = nn.Sequential(
            *[
                Block(
                    dim,
                    heads,
                    mlp_hidden,
                    scale=scale,
                    mlp_end=mlp_end,
                    proj_drop=proj_drop_rate,
                    drop_path=rate,
                )
                for rate in rates
            ]
        )
        self.fc = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        )
        self.feature_info = [
            dict(num_chs=dim, reduction=patch_size, module=f"enc.{i}") for i in range(depth)
        ]

    def _checked(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        return self.checked_size(
            img_size, (self.patch_size,) * 2, ", which whole patches need; resize or pad the images"
        )

    @property
    def grid_size(self) -> tuple[int, int]:
        """Patches, (H, W)."""
        return self.img_size[0] // self.patch_size, self.img_size[1] // self.patch_size

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Prepares the network for images of another size, (H, W) in pixels: interpolates the
        position embedding.
        """
        old = self.grid_size
        self.img_size = self._checked(img_size)
        resized = resample_abs_pos_embed(
            self.pos_emb.detach(), self.grid_size, old, num_prefix_tokens=self.num_prefix_tokens
        )
        self.pos_emb = nn.Parameter(resized, requires_grad=self.pos_emb.requires_grad)
        self.record_input_size()

    def no_weight_decay(self) -> set[str]:
        return {"cls_token", "pos_emb"}

    def group_matcher(self, coarse: bool = False) -> dict:
        """Layer groups for timm's layer-wise learning rates: by block, as there are no stages."""
        return dict(stem=r"^cls_token|^pos_emb|^emb", blocks=r"^enc\.(\d+)")

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes each block's activations in the backward pass: less memory, about a third
        more arithmetic.
        """
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        return self.fc[1]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        if global_pool is not None:  # "" is a value: no pooling
            check_choice("global_pool", global_pool, POOLS)
            self.global_pool = global_pool
        self.num_classes = num_classes
        where = dict(device=self.emb.weight.device, dtype=self.emb.weight.dtype)
        self.fc[1] = (
            nn.Linear(self.num_features, num_classes, **where) if num_classes else nn.Identity()
        ).train(self.training)

    def patches(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H/4 * W/4, 4 * 4 * C): patches row by row; within one, rows,
        columns, then channels.
        """
        rows, columns = self.grid_size
        side = self.patch_size
        # (B, C, rows, side, columns, side)
        x = self.checked_images(x).unflatten(3, (columns, side)).unflatten(2, (rows, side))
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def embed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, dim): what the first block takes."""
        tokens = self.emb(self.patches(x))
        return torch.cat([self.cls_token.expand(x.shape[0], -1, -1), tokens], dim=1) + self.pos_emb

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.enc, x)
        return self.enc(x)  # (B, N, dim)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Patches after the blocks `indices` (None: all; a number: the last ones), as grids (B,
        dim, H/4, W/4) or, with output_fmt="NLC", as tokens; before them `forward_features` unless
        intermediates_only. norm: through the LayerNorm of the head; stop_early: not beyond the last
        block asked for. What timm's `features_only=True` calls.
        """
        check_choice("output_fmt", output_fmt, ("NCHW", "NLC"))
        wanted, last = feature_take_indices(len(self.enc), indices)
        x, found = self.embed(x), []
        for i, block in enumerate(self.enc[: last + 1] if stop_early else self.enc):
            x = checkpoint_seq((block,), x) if self.grad_checkpointing else block(x)
            if i in wanted:
                tokens = (self.fc[0](x) if norm else x)[:, self.num_prefix_tokens :]
                found.append(
                    tokens.mT.unflatten(2, self.grid_size).contiguous()
                    if output_fmt == "NCHW"
                    else tokens
                )
        return found if intermediates_only else (x, found)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes what the blocks `indices` do not need; gives them as numbers from the first
        block on.
        """
        wanted, last = feature_take_indices(len(self.enc), indices)
        self.enc = self.enc[: last + 1]
        if prune_norm:
            self.fc[0] = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return wanted

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.fc[0](x[:, 0] if self.global_pool == "token" else x)
        x = F.dropout(x, self.drop_rate, self.training)
        # (B, num_classes), or (B, dim) before the classifier
        return x if pre_logits else self.fc[1](x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: VitCifar) -> dict[str, Tensor]:
    """Fits a checkpoint of the release: its file names the network `model.`, and its (square)
    image size may be another.
    """
    state_dict = {name.removeprefix("model."): value for name, value in state_dict.items()}
    positions = state_dict.get("pos_emb")
    if positions is not None and positions.shape != model.pos_emb.shape:
        patches = positions.shape[1] - model.num_prefix_tokens
        if math.isqrt(patches) ** 2 != patches:
            raise ValueError(
                f"pos_emb has {patches} patches, which no square grid has; load it "
                "into a model of the checkpoint's "
                "own img_size, then call set_input_size"
            )
        side = math.isqrt(patches)
        state_dict["pos_emb"] = resample_abs_pos_embed(
            positions, model.grid_size, (side, side), num_prefix_tokens=model.num_prefix_tokens
        )
    return state_dict


def options_of(state_dict: dict[str, Tensor]) -> dict[str, int]:
    """The arguments of VitCifar that a state dict tells, if its images have three channels; not
    heads, scale and mlp_end.
    """
    blocks = {name.split(".")[1] for name in state_dict if name.startswith("enc.")}
    return dict(
        dim=state_dict["cls_token"].shape[2],
        depth=len(blocks),
        mlp_hidden=state_dict["enc.0.mlp.0.weight"].shape[0],
        patch_size=math.isqrt(state_dict["emb.weight"].shape[1] // 3),
    )


# timm's description of a network without released weights; mean and deviation are CIFAR-10's as the
# release has them.
default_cfgs = generate_default_cfgs(
    {
        name: dict(
            url="",
            num_classes=10,
            input_size=(3, IMAGE_SIZE[name], IMAGE_SIZE[name]),
            pool_size=None,
            fixed_input_size=True,
            crop_pct=1.0,
            interpolation="bicubic",
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            first_conv="emb",
            classifier="fc.1",
            license="apache-2.0",
        )
        for name in VARIANTS
    }
)


@register_model
def vit_cifar(pretrained: bool = False, **kwargs) -> VitCifar:
    """Sizes as in VARIANTS, each of which a keyword may change; the other keyword arguments as
    of VitCifar.
    """
    model = build_model_with_cfg(
        with_checked_options(VitCifar, "vit_cifar"),
        "vit_cifar",
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg=dict(out_indices=3, feature_cls="getter"),
        **dict(VARIANTS["vit_cifar"], **kwargs),
    )
    if isinstance(model, VitCifar):  # not with features_only=True, which wraps the network
        model.record_input_size()
    return model
