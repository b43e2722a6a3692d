"""What a network costs in closed form: parameters and operations as polynomials of widths, depths
and the image's side.

Nothing is built here: these are integers added and multiplied, which lets the audit examine
hundreds of millions of configurations. The tests hold the formulas to networks built on the meta
device, exactly.

Reads top to bottom: Counts, CONVENTIONS, the parts of the CoAtNet family (stem, mbconv,
transformer, head; options as in timm's `MaxxVitCfg`), the family, SpectFormer, the hierarchical
SpectFormer, ViT-CIFAR, and the released networks by name.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import ceil, log2

from astroformer.counting import conventions
from astroformer.counting.conventions import Convention
from astroformer.sizes import ASTROFORMER as VARIANTS
from astroformer.sizes import EXPANSION, HEAD_DIM, MLP_RATIOS, SPECTRAL_STAGES, STEM_STRIDE
from astroformer.sizes import SPECTFORMER as VANILLA
from astroformer.sizes import SPECTFORMER_H as HIERARCHICAL

# hidden width of timm's `rel_pos_type="mlp"`, a small network that computes the bias from the
# offset
BIAS_HIDDEN = 512


@dataclass(frozen=True)
class Counts:
    """What one image costs, before any convention says which of it counts."""

    params: int = 0  # learned numbers
    # BatchNorm's running mean and variance: saved with the weights, not learned
    statistics: int = 0
    linear: int = 0  # multiply-adds of convolutions and linear layers
    # multiply-adds of attention's two products, queries by keys and weights by values
    attention: int = 0
    batch_norm: int = 0  # elements that pass a BatchNorm
    layer_norm: int = 0  # elements that pass a LayerNorm
    pooling: int = 0  # elements that go into the head's average, which fvcore counts once each
    # operations of Fourier transforms, see `fourier`; the gate's complex products count nothing
    fourier: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, times: int) -> "Counts":
        return Counts(*(getattr(self, f.name) * times for f in fields(self)))

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions, linear layers and attention products: this book's own
        measure.
        """
        return self.linear + self.attention

    @property
    def by_family(self) -> dict[str, int]:
        """Operations by family; fvcore's estimates for norms are 2 an element of a BatchNorm in
        evaluation, 5 of a LayerNorm.
        """
        return {
            "layer": self.linear,
            "attention": 0,
            "fused attention": self.attention,
            "pooling": self.pooling,
            "norm": 2 * self.batch_norm + 5 * self.layer_norm,
            "fft": self.fourier,
        }


# What counts as one, by name: the rules of `conventions.py`, and two more that the trace has no
# need of. On a closed form they apply to what each family of operations (see `trace.rule`) amounts
# to; its attention is of the fused kind.
RULES = {
    "macs": Convention("layers and attention products", ("layer", "fused attention")),
    **{
        name: conventions.CONVENTIONS[name]
        for name in ("conv_linear", "fvcore", "fvcore_handlers", "fvcore_handlers_no_norm", "torch")
    },
    "torch_fused": Convention(
        "torch's counter on a release that misses fused attention", ("layer",), 2
    ),
}


def _counter(rule: Convention) -> Callable[[Counts], int]:
    return lambda counts: rule.factor * sum(counts.by_family[family] for family in rule.families)


CONVENTIONS = {name: _counter(rule) for name, rule in RULES.items()}


def batch_norm(dim: int, positions: int) -> Counts:
    return Counts(params=2 * dim, statistics=2 * dim, batch_norm=dim * positions)


def layer_norm(dim: int, positions: int) -> Counts:
    return Counts(params=2 * dim, layer_norm=dim * positions)


def linear(dim: int, dim_out: int, positions: int = 1, *, bias: bool = True) -> Counts:
    """A linear layer, or a 1x1 convolution, applied at so many positions."""
    return Counts(params=dim * dim_out + dim_out * bias, linear=dim * dim_out * positions)


# The CoAtNet family. A side is that of the block's input, in positions.


def stem(widths: tuple[int, int], side: int, *, in_chans: int = 3, stride: int = 2) -> Counts:
    """S0: two 3x3 convolutions with a BatchNorm between; `side` in pixels."""
    first, second = widths
    positions = (side // stride) ** 2
    convolutions = 9 * in_chans * first + 9 * first * second
    return Counts(params=convolutions, linear=convolutions * positions) + batch_norm(
        first, positions
    )


def mbconv(
    dim: int,
    dim_out: int,
    side: int,
    *,
    stride: int = 1,
    expand_output: bool = True,
    kernel: int = 3,
    se: bool = True,
    stride_mode: str = "dw",
) -> Counts:
    """An inverted residual. `expand_output`: the hidden width is four times the output's width,
    else the input's. `stride_mode`: "dw" strides in the depthwise convolution (the release), "pool"
    before the first 1x1 convolution (timm; a strided 1x1 convolution, as CoAtNet's paper has it,
    costs the same).
    """
    hidden = EXPANSION * (dim_out if expand_output else dim)
    inside, outside = side**2, (side // stride) ** 2
    widened = outside if stride_mode == "pool" else inside
    total = (
        batch_norm(dim, inside)
        + linear(dim, hidden, widened, bias=False)
        + batch_norm(hidden, widened)
        + Counts(params=kernel**2 * hidden, linear=kernel**2 * hidden * outside)
        + batch_norm(hidden, outside)
        + linear(hidden, dim_out, outside)
    )
    if se:
        squeezed = (dim_out if expand_output else hidden) // 4
        total += linear(hidden, squeezed) + linear(squeezed, hidden)
    return total + shortcut(dim, dim_out, outside, stride)


def shortcut(dim: int, dim_out: int, positions: int, stride: int) -> Counts:
    """Average pooling is not counted; the 1x1 convolution exists where stride and width both
    change.
    """
    return linear(dim, dim_out, positions) * ((stride == 2) & (dim != dim_out))


def transformer(
    dim: int,
    dim_out: int,
    side: int,
    *,
    stride: int = 1,
    expand_first: bool = True,
    rel_bias: str = "table",
) -> Counts:
    """Pre-norm attention and MLP. `expand_first`: queries, keys and values already have the
    output's width, else the input's. `rel_bias`: "table" (the release), "mlp" (timm's small network
    over offsets) or "none".
    """
    inner = dim_out if expand_first else dim
    inside, positions, offsets = side**2, (side // stride) ** 2, (2 * (side // stride) - 1) ** 2
    total = (
        layer_norm(dim, inside)
        + linear(dim, 3 * inner, positions)
        + linear(inner, dim_out, positions)
        + Counts(attention=2 * inner * positions**2)
        + layer_norm(dim_out, positions)
        + linear(dim_out, EXPANSION * dim_out, positions)
        + linear(EXPANSION * dim_out, dim_out, positions)
        + shortcut(dim, dim_out, positions, stride)
    )
    heads = inner // HEAD_DIM
    if rel_bias == "table":
        total += Counts(params=offsets * heads)
    elif rel_bias == "mlp":
        total += linear(2, BIAS_HIDDEN, offsets) + linear(BIAS_HIDDEN, heads, offsets)
    return total


def head(dim: int, num_classes: int, positions: int, *, hidden: bool = True) -> Counts:
    """With a hidden layer: pool, LayerNorm, linear, tanh, classifier (the release). Without:
    LayerNorm, pool, classifier.
    """
    pooled = Counts(pooling=dim * positions)
    if hidden:
        return pooled + layer_norm(dim, 1) + linear(dim, dim) + linear(dim, num_classes)
    return pooled + layer_norm(dim, positions) + linear(dim, num_classes)


def stage(
    kind: str,
    dim: int,
    dim_out: int,
    depth: int,
    side: int,
    *,
    expand_output: bool = True,
    kernel: int = 3,
    se: bool = True,
    stride_mode: str = "dw",
    expand_first: bool = True,
    rel_bias: str = "table",
) -> Counts:
    """`depth` blocks, the first of which halves the grid of side `side`; kind "C" is MBConv, "T"
    transformer.
    """
    if kind == "C":
        options = dict(expand_output=expand_output, kernel=kernel, se=se, stride_mode=stride_mode)
        return mbconv(dim, dim_out, side, stride=2, **options) + mbconv(
            dim_out, dim_out, side // 2, **options
        ) * (depth - 1)
    options = dict(expand_first=expand_first, rel_bias=rel_bias)
    return transformer(dim, dim_out, side, stride=2, **options) + transformer(
        dim_out, dim_out, side // 2, **options
    ) * (depth - 1)


def coatnet(
    stem_width: int | tuple[int, int],
    dims: tuple[int, ...],
    depths: tuple[int, ...],
    *,
    image_size: int,
    num_classes: int,
    stack: str = "CCCT",
    stem_stride: int = 2,
    head_hidden: bool = True,
    **options,
) -> Counts:
    """A whole network of the family for square images; `options` as of `stage`."""
    widths = stem_width if isinstance(stem_width, tuple) else (stem_width, stem_width)
    total, side, dim = (
        stem(widths, image_size, stride=stem_stride),
        image_size // stem_stride,
        widths[-1],
    )
    for kind, dim_out, depth in zip(stack, dims, depths, strict=True):
        total += stage(kind, dim, dim_out, depth, side, **options)
        side, dim = side // 2, dim_out
    return total + head(dim, num_classes, side**2, hidden=head_hidden)


# SpectFormer and ViT-CIFAR, from the facts of their releases.


def fourier(elements: int, positions: int) -> int:
    """The rule of `trace.py` for Fourier transforms: elements that go in, times log2 of their
    positions, rounded up.
    """
    return elements * ceil(log2(positions))


def gate(dim: int, side: int) -> Counts:
    """Fourier transform, one learned complex filter a channel, inverse transform."""
    positions, frequencies = side**2, side * (side // 2 + 1)
    # there and back
    transforms = fourier(dim * positions, positions) + fourier(dim * frequencies, frequencies)
    return Counts(params=2 * frequencies * dim, fourier=transforms)


def spectral_block(dim: int, side: int, *, mlp_ratio: int = 4) -> Counts:
    """LayerNorm, gate, LayerNorm, MLP; the residual connection costs nothing."""
    positions = side**2
    return (
        layer_norm(dim, positions) * 2
        + gate(dim, side)
        + linear(dim, mlp_ratio * dim, positions)
        + linear(mlp_ratio * dim, dim, positions)
    )


def attention(dim: int, positions: int, *, qkv_bias: bool = True) -> Counts:
    """Queries, keys and values, the two products, projection; heads do not change the counts."""
    return (
        linear(dim, 3 * dim, positions, bias=qkv_bias)
        + linear(dim, dim, positions)
        + Counts(attention=2 * dim * positions**2)
    )


def attention_block(dim: int, positions: int, *, mlp_hidden: int, qkv_bias: bool = True) -> Counts:
    """LayerNorm, multi-head attention, LayerNorm, MLP."""
    return (
        layer_norm(dim, positions) * 2
        + attention(dim, positions, qkv_bias=qkv_bias)
        + linear(dim, mlp_hidden, positions)
        + linear(mlp_hidden, dim, positions)
    )


def spectformer(
    dim: int,
    depth: int,
    *,
    spectral: int = 4,
    image_size: int = 224,
    num_classes: int = 1000,
    patch: int = 16,
    mlp_ratio: int = 4,
) -> Counts:
    """Patches, position embedding, `spectral` gated blocks, then attention blocks; LayerNorm,
    mean over positions, classifier.
    """
    side = image_size // patch
    attending = attention_block(dim, side**2, mlp_hidden=mlp_ratio * dim)
    return (
        linear(3 * patch**2, dim, side**2)
        + Counts(params=dim * side**2)
        + spectral_block(dim, side, mlp_ratio=mlp_ratio) * spectral
        + attending * (depth - spectral)
        + layer_norm(dim, side**2)
        + linear(dim, num_classes)
    )


def convolution(
    dim: int, dim_out: int, positions: int, *, kernel: int = 3, bias: bool = True
) -> Counts:
    """A convolution that puts out so many positions."""
    weights = kernel**2 * dim * dim_out
    return Counts(params=weights + dim_out * bias, linear=weights * positions)


def conv_mlp(dim: int, positions: int, *, mlp_ratio: int) -> Counts:
    """PVTv2's: an MLP with a 3x3 filter for each hidden channel between its two layers."""
    hidden = mlp_ratio * dim
    depthwise = Counts(params=9 * hidden + hidden, linear=9 * hidden * positions)
    return linear(dim, hidden, positions) + depthwise + linear(hidden, dim, positions)


def class_block(dim: int, positions: int, *, mlp_ratio: int) -> Counts:
    """Attention and MLP for the class token alone, which attends to all positions and itself."""
    tokens = 1 + positions
    return (
        layer_norm(dim, tokens)
        + linear(dim, dim)
        + linear(dim, 2 * dim, tokens)
        + linear(dim, dim)
        + Counts(attention=2 * dim * tokens)
        + layer_norm(dim, 1)
        + linear(dim, mlp_ratio * dim)
        + linear(mlp_ratio * dim, dim)
    )


def overlapping_stem(hidden: int, dim: int, side: int) -> Counts:
    """A 7x7 and two 3x3 convolutions with BatchNorm, then a 3x3 one and LayerNorm; the first and
    the last halve the `side` (in pixels).
    """
    half, quarter = (side // 2) ** 2, (side // 4) ** 2
    return (
        convolution(3, hidden, half, kernel=7, bias=False)
        + convolution(hidden, hidden, half, bias=False) * 2
        + batch_norm(hidden, half) * 3
        + convolution(hidden, dim, quarter)
        + layer_norm(dim, quarter)
    )


def spectformer_h(
    stem_width: int,
    dims: tuple[int, ...],
    depths: tuple[int, ...],
    *,
    image_size: int = 224,
    num_classes: int = 1000,
    token_label: bool = False,
) -> Counts:
    """Stem, spectral stages, attention stages, class attention, LayerNorm of all tokens, classifier
    on the class token. `token_label`: with the auxiliary classifier, which runs at every position
    in evaluation too.
    """
    total, side = overlapping_stem(stem_width, dims[0], image_size), image_size // STEM_STRIDE
    for i, (dim, depth, ratio) in enumerate(zip(dims, depths, MLP_RATIOS, strict=True)):
        if i > 0:
            side //= 2
            total += (
                layer_norm(dims[i - 1], 4 * side**2)
                + convolution(dims[i - 1], dim, side**2)
                + layer_norm(dim, side**2)
            )
        mixer = gate(dim, side) if i < SPECTRAL_STAGES else attention(dim, side**2)
        total += (
            layer_norm(dim, side**2) * 2 + mixer + conv_mlp(dim, side**2, mlp_ratio=ratio)
        ) * depth
    return (
        total
        + class_block(dim, side**2, mlp_ratio=MLP_RATIOS[-1])
        + layer_norm(dim, 1 + side**2)
        + linear(dim, num_classes)
        + linear(dim, num_classes, side**2) * token_label
    )


def vit_cifar(
    dim: int = 384,
    depth: int = 7,
    *,
    mlp_hidden: int = 384,
    image_size: int = 32,
    num_classes: int = 10,
    patch: int = 4,
    class_token: bool = True,
) -> Counts:
    """Patches, class token, position embedding, attention blocks, LayerNorm and classifier on
    the class token.
    """
    patches = (image_size // patch) ** 2
    tokens = patches + class_token
    return (
        linear(3 * patch**2, dim, patches)
        + Counts(params=dim * class_token + dim * tokens)
        + attention_block(dim, tokens, mlp_hidden=mlp_hidden) * depth
        + layer_norm(dim, 1)
        + linear(dim, num_classes)
    )


# The released networks, by name. Their sizes stand in astroformer/sizes.py.
SPECTFORMER = {name: (sizes["embed_dim"], sizes["depth"]) for name, sizes in VANILLA.items()}
SPECTFORMER_H = {
    name: (sizes["stem_width"], sizes["dims"], sizes["depths"])
    for name, sizes in HIERARCHICAL.items()
}


def released_counts(
    model: str,
    *,
    image_size: int,
    num_classes: int,
    token_label: bool = False,
    stack: str = "CCCT",
) -> Counts:
    """The counts of a released network. KeyError for a network that has no closed form here;
    `token_label` is an option of the hierarchical SpectFormers alone, `stack` of the Astroformers.
    """
    sizes = dict(image_size=image_size, num_classes=num_classes)
    if model in SPECTFORMER_H:
        return spectformer_h(*SPECTFORMER_H[model], **sizes, token_label=token_label)
    if token_label:
        raise ValueError(
            f"{model} has no auxiliary classifier for token labels; choose one of "
            f"{', '.join(SPECTFORMER_H)}"
        )
    if model in VARIANTS:
        return coatnet(**VARIANTS[model], **sizes, stack=stack)
    if model in SPECTFORMER:
        return spectformer(*SPECTFORMER[model], **sizes)
    if model == "vit_cifar":
        return vit_cifar(**sizes)
    known = [*VARIANTS, *SPECTFORMER, *SPECTFORMER_H, "vit_cifar"]
    raise KeyError(f"{model} has no closed form; there are {', '.join(known)}")


def released(model: str, *, image_size: int, num_classes: int, token_label: bool = False) -> dict:
    """Parameters and, under each convention, operations of a released network: `{"params": ...,
    "conventions": {name: ...}}`.
    """
    found = released_counts(
        model, image_size=image_size, num_classes=num_classes, token_label=token_label
    )
    return {
        "params": found.params,
        "conventions": {name: count(found) for name, count in CONVENTIONS.items()},
    }
