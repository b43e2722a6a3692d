"""The baselines in closed form, as `closed_forms` has the released networks: parameters and
operations as integers, without a network. The tests hold the formulas to networks built on the meta
device, exactly. Sizes stand in astroformer/sizes.py, the layers are timm's.

Reads top to bottom: one function a baseline, then `counts_of` for every name.
"""

from astroformer.counting import closed_forms
from astroformer.counting.closed_forms import (
    Counts,
    attention_block,
    batch_norm,
    convolution,
    layer_norm,
    linear,
)
from astroformer.sizes import BASELINES

RESNET_STEM = 64  # channels, timm's


def residual_block(dim: int, dim_out: int, side: int, *, stride: int) -> Counts:
    """Two 3x3 convolutions with BatchNorm; a 1x1 convolution with BatchNorm beside them where
    stride or width change.
    """
    positions = (side // stride) ** 2
    total = (
        convolution(dim, dim_out, positions, bias=False)
        + convolution(dim_out, dim_out, positions, bias=False)
        + batch_norm(dim_out, positions) * 2
    )
    beside = linear(dim, dim_out, positions, bias=False) + batch_norm(dim_out, positions)
    return total + beside * (stride != 1 or dim != dim_out)


def resnet(
    layers: tuple[int, ...], channels: tuple[int, ...], *, image_size: int, num_classes: int
) -> Counts:
    """A 3x3 convolution that keeps the image's grid, stages of which all but the first halve it."""
    side, dim = image_size, RESNET_STEM
    total = convolution(3, dim, side**2, bias=False) + batch_norm(dim, side**2)
    for i, (depth, dim_out) in enumerate(zip(layers, channels, strict=True)):
        stride = 1 if i == 0 else 2
        total += residual_block(dim, dim_out, side, stride=stride)
        side, dim = side // stride, dim_out
        total += residual_block(dim, dim, side, stride=1) * (depth - 1)
    return total + Counts(pooling=dim * side**2) + linear(dim, num_classes)


def convnext(
    depths: tuple[int, ...],
    dims: tuple[int, ...],
    patch_size: int,
    *,
    image_size: int,
    num_classes: int,
) -> Counts:
    """Patches, then stages of 7x7 depthwise convolution, LayerNorm, MLP and a scale for each
    channel; between two stages LayerNorm and a 2x2 convolution.
    """
    side = image_size // patch_size
    total = linear(3 * patch_size**2, dims[0], side**2) + layer_norm(dims[0], side**2)
    for i, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
        if i > 0:
            total += layer_norm(dims[i - 1], side**2)
            side //= 2
            total += convolution(dims[i - 1], dim, side**2, kernel=2)
        depthwise = Counts(params=49 * dim + dim, linear=49 * dim * side**2)
        mlp = linear(dim, 4 * dim, side**2) + linear(4 * dim, dim, side**2)
        total += (depthwise + layer_norm(dim, side**2) + mlp + Counts(params=dim)) * depth
    pooled = Counts(pooling=dims[-1] * side**2)
    return total + pooled + layer_norm(dims[-1], 1) + linear(dims[-1], num_classes)


def vit(embed_dim: int, depth: int, patches: int, *, image_size: int, num_classes: int) -> Counts:
    """So many patches in a row, class token, position embedding, attention blocks, LayerNorm of
    all tokens, classifier on the class token.
    """
    patch, tokens = image_size // patches, 1 + patches**2
    return (
        linear(3 * patch**2, embed_dim, patches**2)
        + Counts(params=embed_dim + embed_dim * tokens)
        + attention_block(embed_dim, tokens, mlp_hidden=4 * embed_dim) * depth
        + layer_norm(embed_dim, tokens)
        + linear(embed_dim, num_classes)
    )


def logistic(grid: int, *, image_size: int, num_classes: int) -> Counts:
    """Means over a grid of squares, and a linear layer on them."""
    return Counts(pooling=3 * image_size**2) + linear(3 * grid**2, num_classes)


def counts_of(name: str, *, image_size: int, num_classes: int) -> Counts:
    """What one square image of `image_size` pixels costs in any network of `sizes.NAMES`, with its
    own sizes and options. KeyError for another name.
    """
    asked = dict(image_size=image_size, num_classes=num_classes)
    if name not in BASELINES:
        return closed_forms.released_counts(name, **asked)
    sizes = {key: value for key, value in BASELINES[name].items() if key != "num_heads"}
    form = {
        "resnet18_narrow": resnet,
        "convnext_narrow": convnext,
        "vit_narrow": vit,
        "logistic_8x8": logistic,
    }[name]
    return form(**sizes, **asked)
