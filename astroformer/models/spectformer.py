"""SpectFormer (Patro, Namboodiri and Agneeswaran 2023, arXiv:2304.06446), the vanilla family:
spectral blocks, then attention.

Reads top to bottom: SpectralGate, resize_filter, Mlp, SpectralBlock, Attention, AttentionBlock,
PatchEmbed, Blocks, SpectralNetwork, SpectFormer, the table of variants, registration with timm. The
hierarchical family is `spectformer_h.py`.

State-dict names and shapes are the release's, so its checkpoints load. A spectral block has one
residual connection, around filter and MLP together; an attention block has two. Both are kept as
released.

Three departures, none of which changes a released number: heads of 64 channels wherever 6 heads do
not divide the width (the release sets 6 for every width, so that its `ti` and `b` cannot run);
`drop_rate` acts before the classifier alone, as timm means it; filters of another image size are
interpolated as the convolution kernels that they are, see `resize_filter`.

Shapes: images (B, C, H, W); inside the network maps of patches (B, H, W, C); attention on N = H * W
of them.
"""

import math

import torch
import torch.nn.functional as F
from timm.layers import DropPath, resample_abs_pos_embed, to_2tuple
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from astroformer.models.shared import SizedNetwork, check_choice, with_checked_options
from astroformer.sizes import IMAGE_SIZE
from astroformer.sizes import SPECTFORMER as VARIANTS

MLP_RATIO = 4  # hidden width of an MLP over the block's width
NORM_EPS = 1e-6  # LayerNorm's
INIT_STD = 0.02  # of linear layers, position embeddings and filters


class SpectralGate(nn.Module):
    """Mixes positions by one learned complex gain for each frequency and channel (GFNet, Rao et al.
    2021).

    By the convolution theorem this is a circular convolution, channel by channel, with `kernel()`,
    which is as large as the grid. Only half of the spectrum is stored, width // 2 + 1 columns: the
    rest follows from the images being real. It is computed in float32 under any autocast and in a
    half-precision network, in float64 in a float64 network.
    """

    def __init__(self, dim: int, grid_size: tuple[int, int]):
        super().__init__()
        self.grid_size = tuple(grid_size)
        height, width = self.grid_size
        # real and imaginary parts last
        self.complex_weight = nn.Parameter(torch.empty(height, width // 2 + 1, dim, 2))
        nn.init.normal_(self.complex_weight, std=INIT_STD)

    def set_grid_size(self, grid_size: tuple[int, int]) -> None:
        """Makes the filter one for another grid, (H, W) in positions; the same grid changes
        nothing.
        """
        if tuple(grid_size) != self.grid_size:
            weight = self.complex_weight
            resized = resize_filter(weight.detach(), self.grid_size, grid_size)
            self.complex_weight = nn.Parameter(resized, requires_grad=weight.requires_grad)
            self.grid_size = tuple(grid_size)

    def kernel(self) -> Tensor:
        """The convolution kernel, (H, W, C), with offset zero at [0, 0]; its sum is the gain of
        a constant map.
        """
        return kernel_of(self.complex_weight, self.grid_size)

    def forward(self, x: Tensor) -> Tensor:
        x, weight = _of_grid(x, self.grid_size), self.complex_weight
        dtype = _wider(x, weight)
        precise = _at_least_float32(dtype)
        # (B, H, W // 2 + 1, C)
        spectrum = torch.fft.rfft2(x.to(precise), dim=(1, 2), norm="ortho")
        gains = as_complex(weight.to(precise))
        # (B, H, W, C)
        return torch.fft.irfft2(spectrum * gains, s=self.grid_size, dim=(1, 2), norm="ortho").to(
            dtype
        )


@torch.fx.wrap  # see shared.py, as of the two functions that follow
def _of_grid(x: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """The map (B, H, W, C), if H and W are `grid_size`."""
    height, width = x.shape[1], x.shape[2]
    if height != grid_size[0] or width != grid_size[1]:
        raise ValueError(
            f"a grid of ({height}, {width}) positions came to a filter for {grid_size}; create the "
            "network with the images' img_size or call set_input_size, which interpolates the "
            "filters"
        )
    return x


@torch.fx.wrap
def _wider(x: Tensor, weight: Tensor) -> torch.dtype:
    return x.dtype if x.element_size() > weight.element_size() else weight.dtype


@torch.fx.wrap
def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    half = dtype == torch.float16 or dtype == torch.bfloat16
    return torch.float32 if half else dtype


def as_complex(weight: Tensor) -> Tensor:
    """(H, W // 2 + 1, C, 2) -> (H, W // 2 + 1, C), complex. A channels-last network keeps the
    four axes in another order.
    """
    return torch.view_as_complex(weight.contiguous())


def kernel_of(weight: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """Complex gains (H, W // 2 + 1, C, 2) -> the real kernel (H, W, C) with which the gate
    convolves.
    """
    precise = _at_least_float32(weight.dtype)
    return torch.fft.irfft2(as_complex(weight.to(precise)), s=tuple(grid_size), dim=(0, 1))


def resize_filter(weight: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """The same filter on a finer or coarser grid of the same field of view: (H, W // 2 + 1, C, 2)
    of the old -> of the new.

    A gain belongs to a frequency, in cycles per image. An image enlarged for fine-tuning keeps its
    frequencies, and position embeddings are stretched over it too; so each gain stays with its
    frequency, those that the new grid adds get gain zero, those that it lacks are dropped. This is
    trigonometric interpolation of the kernel. For any map x, gating the resampled x gives the
    resampled gate(x); to a finer grid and back is the same kernel; the gain of a constant map is
    kept.

    The release stretches the stored array bicubically instead, corner onto corner. Its rows run
    over frequencies 0, 1, .. and back from the most negative to -1, so the stretching moves
    positive and negative frequencies by different amounts.
    """
    if tuple(old) == tuple(new):
        return weight
    # (H, W, C), with gain(-f) the conjugate of gain(f)
    gains = torch.fft.fft2(kernel_of(weight, old), dim=(0, 1))
    for dim, size in enumerate(new):
        gains = gains_on(gains, size, dim=dim)
    return torch.view_as_real(gains[:, : new[1] // 2 + 1].contiguous()).to(weight.dtype)


def gains_on(gains: Tensor, size: int, *, dim: int) -> Tensor:
    """Takes the gains of an axis of `size` positions from those of the present one, frequency by
    frequency.
    """
    present = gains.shape[dim]
    # 0, 1, .., -2, -1 cycles per image
    frequency = (torch.arange(size, device=gains.device) + size // 2) % size - size // 2
    # On an even axis the highest frequency stands for + and - both: it takes the mean of the two,
    # and gives itself to each.
    mirrored = torch.where(2 * frequency == -size, -frequency, frequency)
    taken = (
        gains.index_select(dim, frequency % present) + gains.index_select(dim, mirrored % present)
    ) / 2
    known = 2 * frequency.abs() <= present
    return taken * known.view([-1 if axis == dim else 1 for axis in range(gains.ndim)])


class Mlp(nn.Module):
    """Two linear layers with a GELU between, at each position."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class SpectralBlock(nn.Module):
    """x + MLP(norm(filter(norm(x)))): one residual connection around mixing of positions and of
    channels.
    """

    def __init__(self, dim: int, *, grid_size: tuple[int, int], drop_path: float = 0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.filter = SpectralGate(dim, grid_size)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, MLP_RATIO * dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.mlp(self.norm2(self.filter(self.norm1(x)))))


def checked_heads(dim: int, num_heads: int) -> int:
    if num_heads < 1 or dim % num_heads:
        nearest = min(
            (n for n in range(1, dim + 1) if dim % n == 0), key=lambda n: abs(n - num_heads)
        )
        raise ValueError(
            f"num_heads={num_heads} does not divide the width {dim}; choose a "
            f"divisor such as {nearest}"
        )
    return num_heads


class Attention(nn.Module):
    """Multi-head self-attention over all positions, scaled by the root of a head's width."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = checked_heads(dim, num_heads)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        # (B, N, 3, heads, head_dim)
        qkv = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, head_dim) each
        # (B, N, heads, head_dim)
        y = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        return self.proj(y.reshape(x.shape))  # (B, H, W, C)


class AttentionBlock(nn.Module):
    """Pre-norm attention, then MLP, each with a residual connection of its own."""

    def __init__(self, dim: int, *, num_heads: int, drop_path: float = 0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, MLP_RATIO * dim)
        self.attn = Attention(dim, num_heads)
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """One linear map of each patch's pixels, patches side by side. (B, in_chans, H, W) -> (B, H
    / patch, W / patch, dim)
    """

    def __init__(self, in_chans: int, dim: int, patch_size: tuple[int, int]):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class Blocks(nn.Sequential):
    """Blocks, one after the other; with checkpointing each is computed again in the backward
    pass.
    """

    def __init__(self, *blocks):
        super().__init__(*blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:  # pyrefly: ignore[bad-override-param-name]
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self, x)
        for block in self:
            x = block(x)
        return x


class SpectralNetwork(SizedNetwork):
    """What both families do alike; `own_pool` is how one pools unless told not to."""

    output_fmt = "NHWC"  # of the maps between the parts, in timm's words
    interpolated = "filters"
    own_pool: str

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes each block's activations in the backward pass: less memory, more
        arithmetic, the same gradients.
        """
        for module in self.modules():
            if isinstance(module, Blocks):
                module.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        if global_pool is not None:  # "" is a value: no pooling
            self.global_pool = checked_pool(global_pool, self.own_pool)
        self.head = self.new_classifier(num_classes)

    def new_classifier(self, num_classes: int) -> nn.Module:
        """A fresh classifier with the type and on the device of the network's weights; without
        classes, none.
        """
        if num_classes == 0:
            return nn.Identity().train(self.training)
        beside = next(self.parameters())
        head = nn.Linear(self.embed_dim, num_classes, device=beside.device, dtype=beside.dtype)
        init_linear(head)
        return head.train(self.training)


class SpectFormer(SpectralNetwork):
    """Patches with position embeddings, spectral blocks, attention blocks, mean over positions,
    classifier.

    Arguments after timm's own (`num_classes`, `in_chans`, `img_size`, `global_pool` "avg" or "",
    `drop_rate` before the classifier, `drop_path_rate` growing linearly with depth):
    patch_size: pixels, a number or (H, W); 16 as released, 4 makes an 8 x 8 grid of 32-pixel images
    num_heads: of each attention block, must divide embed_dim; 6 as released for a width of 384
    spectral_blocks: how many of the blocks, from the first, are spectral: 0 (attention only) to
        depth (a global filter network)
    """

    own_pool = "avg"

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        *,
        num_heads: int = 6,
        patch_size: int | tuple[int, int] = 16,
        spectral_blocks: int = 4,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 224,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        if not 0 <= spectral_blocks <= depth:
            raise ValueError(
                f"spectral_blocks={spectral_blocks} is not possible with {depth} "
                f"blocks; choose 0 to {depth}"
            )
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.num_features = self.head_hidden_size = self.embed_dim = embed_dim
        self.global_pool = checked_pool(global_pool, self.own_pool)
        self.patch_size = tuple(to_2tuple(patch_size))
        self.img_size = self._checked(img_size)

        # (1, N, C)
        self.pos_embed = nn.Parameter(torch.empty(1, math.prod(self.grid_size), embed_dim))
        self.patch_embed = PatchEmbed(in_chans, embed_dim, self.patch_size)
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        self.blocks = Blocks(
            *[
                SpectralBlock(embed_dim, grid_size=self.grid_size, drop_path=rate)
                if i < spectral_blocks
                else AttentionBlock(embed_dim, num_heads=num_heads, drop_path=rate)
                for i, rate in enumerate(rates)
            ]
        )
        self.norm: nn.Module = nn.LayerNorm(embed_dim, eps=NORM_EPS)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes > 0 else nn.Identity()

        nn.init.trunc_normal_(self.pos_embed, std=INIT_STD)
        self.apply(init_linear)
        self.feature_info = [
            dict(num_chs=embed_dim, reduction=max(self.patch_size), module=f"blocks.{i}")
            for i in range(depth)
        ]

    def _checked(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        return self.checked_size(
            img_size,
            self.patch_size,
            "; resize or pad the images, or choose a patch_size that divides them",
        )

    @property
    def grid_size(self) -> tuple[int, int]:
        """Patches, (H, W)."""
        return self.img_size[0] // self.patch_size[0], self.img_size[1] // self.patch_size[1]

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Prepares the network for images of another size, (H, W) in pixels: interpolates
        position embeddings and filters.
        """
        old, self.img_size = self.grid_size, self._checked(img_size)
        if self.grid_size != old:
            resized = resample_abs_pos_embed(
                self.pos_embed.detach(), self.grid_size, old, num_prefix_tokens=0
            )
            self.pos_embed = nn.Parameter(resized, requires_grad=self.pos_embed.requires_grad)
        for module in self.modules():
            if isinstance(module, SpectralGate):
                module.set_grid_size(self.grid_size)
        self.record_input_size(self.grid_size)

    def no_weight_decay(self) -> set[str]:
        return {"pos_embed"}

    def group_matcher(self, coarse: bool = False) -> dict:
        """Layer groups for timm's layer-wise learning rates: by block (there are no stages)."""
        return dict(
            stem=r"^pos_embed|^patch_embed",
            blocks=[(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        )

    def embed(self, x: Tensor) -> Tensor:
        x = self.patch_embed(self.checked_images(x))
        return x + self.pos_embed.unflatten(1, self.grid_size)  # (B, H, W, C)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.norm(self.blocks(self.embed(x)))  # (B, H, W, C)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Maps (B, C, H, W) after the blocks of `indices` (an int: the last so many), what
        `features_only=True` returns; without `intermediates_only` the pair of the last block's
        features and them.
        """
        check_choice("output_fmt", output_fmt, ("NCHW",))
        take, last = feature_take_indices(len(self.blocks), indices)
        x, intermediates = self.embed(x), []
        for i, block in enumerate(self.blocks):
            if i <= last or not stop_early:
                x = checkpoint_seq((block,), x) if self.blocks.grad_checkpointing else block(x)
            if i in take:
                intermediates.append((self.norm(x) if norm else x).permute(0, 3, 1, 2))
        return intermediates if intermediates_only else (self.norm(x), intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes what the features of `indices` do not need; returns the indices, counted from
        the first block.
        """
        take, last = feature_take_indices(len(self.blocks), indices)
        for _ in range(last + 1, len(self.blocks)):
            self.blocks.pop(-1)
        if prune_norm:
            self.norm = nn.Identity().train(self.training)
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        if self.global_pool == "avg":
            x = x.mean((1, 2))  # (B, C)
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.head(x)  # (B, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def checked_pool(global_pool: str, own: str) -> str:
    if global_pool not in (own, ""):
        raise ValueError(
            f'global_pool="{global_pool}" is not known; choose "{own}", or "" to '
            "keep every position"
        )
    return global_pool


def init_linear(module: nn.Module) -> None:
    """The release's initialisation of linear layers; patches keep PyTorch's own."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        nn.init.zeros_(module.bias)


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: SpectFormer) -> dict[str, Tensor]:
    """Interpolates position embeddings and filters of a checkpoint made at another image size;
    the rest passes as it is.
    """
    filters = {name: value for name, value in state_dict.items() if name.endswith("complex_weight")}
    tokens = state_dict["pos_embed"].shape[1]
    # a filter tells its grid, else a square
    height = next((value.shape[0] for value in filters.values()), math.isqrt(tokens))
    grid = (height, tokens // height)
    if math.prod(grid) != tokens:
        raise ValueError(
            f"pos_embed has {tokens} positions, which no square grid has, and no "
            "filter tells their grid; load it "
            "into a model of the checkpoint's own img_size, then call set_input_size"
        )
    resized = {name: resize_filter(value, grid, model.grid_size) for name, value in filters.items()}
    resized["pos_embed"] = resample_abs_pos_embed(
        state_dict["pos_embed"], model.grid_size, grid, num_prefix_tokens=0
    )
    return dict(state_dict, **resized)


def options_of(state_dict: dict[str, Tensor]) -> dict[str, int]:
    """The arguments of SpectFormer that a state dict tells; not num_heads, on which no shape
    depends.
    """
    blocks = [name for name in state_dict if name.startswith("blocks.")]
    spectral = {name.split(".")[1] for name in blocks if name.endswith("complex_weight")}
    return dict(
        embed_dim=state_dict["pos_embed"].shape[2],
        depth=len({name.split(".")[1] for name in blocks}),
        spectral_blocks=len(spectral),
        patch_size=state_dict["patch_embed.proj.weight"].shape[2],
        in_chans=state_dict["patch_embed.proj.weight"].shape[1],
    )


def describe(name: str, first_conv: str, *, crop_pct: float, stride: int) -> dict:
    """timm's description of a network without released weights, whose last map has a position
    for every `stride` pixels; the mean and deviation are ImageNet's.
    """
    pixels = IMAGE_SIZE[name]
    return dict(
        url="",
        num_classes=1000,
        input_size=(3, pixels, pixels),
        pool_size=(pixels // stride, pixels // stride),
        fixed_input_size=True,
        crop_pct=crop_pct,
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        first_conv=first_conv,
        classifier="head",
        license="apache-2.0",
    )


default_cfgs = generate_default_cfgs(
    {name: describe(name, "patch_embed.proj", crop_pct=0.9, stride=16) for name in VARIANTS}
)


def _register(name: str):
    def create(pretrained: bool = False, **kwargs) -> SpectFormer:
        model = build_model_with_cfg(
            with_checked_options(SpectFormer, name),
            name,
            pretrained,
            pretrained_filter_fn=checkpoint_filter_fn,
            feature_cfg=dict(out_indices=3, feature_cls="getter"),
            **dict(VARIANTS[name], **kwargs),
        )
        if isinstance(model, SpectFormer):  # not with features_only=True, which wraps it
            model.record_input_size(model.grid_size)
        return model

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"{name}: sizes as in VARIANTS; keyword arguments as of SpectFormer."
    return register_model(create)


for _name in VARIANTS:
    globals()[_name] = _register(_name)
