"""The Lie derivative of a network under translation, and which of its layers it comes from.

How fast do the logits change when the image begins to move? For a network f and images T_t x moved
by t pixels,

    L f(x) = d/dt f(T_t x) at t = 0 = J_f(x) G x        (logits per pixel)

with J_f the Jacobian and G the generator of translation. An invariant classifier has none. Gruver,
Finzi, Goldblum and Wilson (2023, "The Lie derivative for measuring learned equivariance", ICLR,
arXiv:2210.02984) introduced it, and split it by layers with the chain rule: layer i takes z_in and
puts out z_out, and moving what it takes is not quite moving what it puts out,

    d_i = J_i(z_in) G z_in - G z_out                    (its defect)
    L f = sum over layers of J_rest d_i                 (each defect, carried to the logits by all
        that follows)

if whatever happens between the layers, such as adding a shortcut, is linear and commutes with G.

What is different here. They estimate the norm of each part from random combinations of the class
probabilities; here all K gradients of the logits are taken, so that every part is known to
rounding, with its sign, and the parts add up (`decompose` checks that against the derivative of the
whole). Their released code moves images by bilinear interpolation between mirrored edges; here
images live on a torus and G is the derivative of the band-limited image through the pixels.

What it does not say: a network that is invariant to every shift by whole pixels (polyphase
downsampling on a torus) may have a Lie derivative as large as any other's, since only the beginning
of a move counts. There the choice that alignment makes stays the same, unless two grids have equal
energy; at a given choice it is a roll, which commutes with G, and its defect is zero.

Everything is computed in double precision, in evaluation, on a copy of the model. Layers may hand
on maps (B, C, H, W), maps with their channels last, or tokens (B, N, C), a class token before them.
Reads top to bottom: the generator, the layers, steps that are no layers, the decomposition, its
tables.
"""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import pandas as pd
import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from astroformer.models.downsampling import Align, BlurPool
from astroformer.models.spectformer import SpectFormer, SpectralGate
from astroformer.models.vit_cifar import VitCifar

AXES = {"y": -2, "x": -1}  # downwards, to the right
# One layer each, though they have layers within: more happens between those than adding. By class
# name, timm's or this library's.
COMPOSITES = {
    "RelativeAttention": "relative attention",
    "SqueezeExcite": "squeeze-excitation",
    "CbamModule": "block attention",
    "NormMlpClassifierHead": "head",
    "Attention": "attention",
    "ClassAttention": "class attention",
    "DepthwiseConv": "3x3 convolution",
}
# Layers whose maps have their channels last; where channels, rows and columns are as many, a shape
# does not tell.
CHANNELS_LAST = ("Linear", "LayerNorm", "SpectralGate", "Attention", "DepthwiseConv", "Positions")
# put out what they take, in evaluation
TRANSPARENT = (nn.Identity, DropPath, nn.modules.dropout._DropoutNd)
KINDS = {
    nn.AvgPool2d: "average pooling",
    BlurPool: "BlurPool",
    Align: "alignment",
    nn.modules.batchnorm._BatchNorm: "BatchNorm",
    nn.LayerNorm: "LayerNorm",
    SpectralGate: "spectral gate",
}
ROUNDING = 1e-12  # relative to the logits: below this, a derivative is none


# The generator.


def generator(z: Tensor, axis: str, span: int) -> Tensor:
    """G z, how fast a feature map (B, C, H, W) changes per pixel when the image moves to larger
    indices along `axis`, "y" or "x".

    Each position spans `span` pixels, so G = -D / span, where D is the derivative per position of
    the trigonometric interpolation. On an even number of positions the highest frequency, + - + -,
    is left out: its interpolation cos(pi n) has its extremes at the positions, so that its
    derivative is zero there; as a complex exponential it would give an imaginary one. On two
    positions nothing else varies: there G = 0, and the layer that came down to so few is charged
    with what it could not hand on.
    """
    dim = AXES[axis]
    positions = z.shape[dim]
    # radians per position
    waves = 2 * math.pi * torch.fft.rfftfreq(positions, dtype=z.dtype, device=z.device)
    if positions % 2 == 0:
        waves[-1] = 0  # not left to irfft, which on most devices ignores an imaginary part here
    waves = waves.view(-1, *[1] * (-1 - dim))
    return torch.fft.irfft(-1j * waves * torch.fft.rfft(z, dim=dim), n=positions, dim=dim) / span


def grid_of(
    z: Tensor, pixels: tuple[int, int], *, layer: str, channels_last: bool = False
) -> tuple[str, int] | None:
    """How positions lie in z, and how many pixels (of an image of H x W pixels) each spans; None
    where z has no place: (B, C), (B, C, 1, 1), or the class token alone, (B, 1, C).

    "maps" (B, C, H, W), "channels last" (B, H, W, C), "tokens" (B, N, C), "class token" (B, 1 + N,
    C). Where a shape fits the first two, `channels_last` decides. Whatever fits none raises
    ValueError with the layer's name.
    """
    if (
        z.ndim == 2
        or z.ndim == 4
        and 1 in (z.shape[2] * z.shape[3], z.shape[1] * z.shape[2])
        or z.ndim == 3
        and z.shape[1] == 1
    ):
        return None
    if z.ndim == 3:
        spans = {
            (pixels[0] // span) * (pixels[1] // span): span
            for span in range(1, min(pixels) + 1)
            if pixels[0] % span == pixels[1] % span == 0
        }
        for layout, patches in (("tokens", z.shape[1]), ("class token", z.shape[1] - 1)):
            if patches in spans:
                return layout, spans[patches]
    elif z.ndim == 4:
        found = {
            layout: _span(size, pixels)
            for layout, size in (("maps", z.shape[2:]), ("channels last", z.shape[1:3]))
        }
        found = {layout: span for layout, span in found.items() if span}
        if found:
            layout = "channels last" if channels_last and len(found) == 2 else next(iter(found))
            return layout, found[layout]
        raise ValueError(
            f"{layer} puts out or takes {tuple(z.shape)} for {pixels[0]}x{pixels[1]} "
            "pixels, not a whole number of pixels "
            "a position, the same in both directions; choose an image size that the "
            "network's strides divide"
        )
    raise ValueError(
        f"{layer} takes or puts out a tensor of shape {tuple(z.shape)}, whose "
        "positions are not known; only maps, with "
        "their channels first or last, tokens of a whole grid, with a class token or "
        "without, and, after pooling, "
        "vectors (B, C) can be moved"
    )


def _span(size: tuple[int, int], pixels: tuple[int, int]) -> int:
    """Pixels that each of (H, W) positions spans; 0 if that is no whole number, the same in both
    directions.
    """
    span = pixels[0] // size[0]
    return span if (span * size[0], span * size[1]) == tuple(pixels) else 0


def _generated(
    z: Tensor, axis: str, pixels: tuple[int, int], *, layer: str, channels_last: bool
) -> Tensor:
    """G of whatever a layer takes or puts out; zero where there is no place."""
    found = grid_of(z, pixels, layer=layer, channels_last=channels_last)
    if found is None:
        return torch.zeros_like(z)
    layout, span = found
    if layout == "maps":
        return generator(z, axis, span)
    if layout == "channels last":
        return generator(z.permute(0, 3, 1, 2), axis, span).permute(0, 2, 3, 1)
    first = int(layout == "class token")  # which stays where it is
    patches = z[:, first:].mT.unflatten(2, (pixels[0] // span, pixels[1] // span))
    return torch.cat(
        [torch.zeros_like(z[:, :first]), generator(patches, axis, span).flatten(2).mT], 1
    )


# The layers.


def kind_of(module: nn.Module) -> str:
    """A layer's kind in plain words; the name of its class where there are none."""
    if type(module).__name__ in COMPOSITES:
        return COMPOSITES[type(module).__name__]
    if isinstance(module, nn.Conv2d):
        name = "x".join(map(str, module.kernel_size)) + " convolution"
        return name if max(module.stride) == 1 else f"{name}, stride {max(module.stride)}"
    if type(module).__module__ in ("torch.nn.modules.activation", "timm.layers.activations"):
        return "activation"
    return next(
        (kind for known, kind in (KINDS | STEPS).items() if isinstance(module, known)),
        type(module).__name__,
    )


def layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Name and module of each layer: without modules within, or one of `COMPOSITES`; none that
    only passes its input on.
    """
    children = list(module.named_children())
    if isinstance(module, TRANSPARENT):
        return
    if not children or type(module).__name__ in COMPOSITES:
        yield name, module
        return
    for child_name, child in children:
        yield from layers(child, f"{name}.{child_name}" if name else child_name)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer: what it took and put out, as parts of the graph of gradients."""

    layer: str
    number: int  # 1, and more where the network calls one module several times
    module: nn.Module
    options: dict  # keyword arguments of the call
    taken: Tensor
    given: Tensor
    channels_last: bool  # of maps with as many channels as rows and columns

    @property
    def name(self) -> str:
        return f"layer {self.layer!r} ({type(self.module).__name__})"


def _record(model: nn.Module, images: Tensor) -> tuple[Tensor, list[Call]]:
    """Logits (B, K), and the calls of all layers in their order."""
    calls, handles = [], []

    def before(module, args, kwargs):
        """Each layer gets a tensor of its own, which nothing later overwrites in place."""
        return tuple(a.clone() if isinstance(a, Tensor) else a for a in args), kwargs

    def after_of(name):
        def after(module, args, kwargs, given):
            if len(args) != 1 or not all(
                isinstance(z, Tensor) and z.shape[:1] == images.shape[:1] for z in (*args, given)
            ):
                raise ValueError(
                    f"layer {name!r} ({type(module).__name__}) does not take one "
                    "tensor with an entry for each image and "
                    "put out one; name the class of the part around it in COMPOSITES"
                )
            last = (
                type(module).__name__ in CHANNELS_LAST
                or kind_of(module) == "activation"
                and calls
                and calls[-1].channels_last
            )
            calls.append(
                Call(
                    name,
                    1 + sum(call.layer == name for call in calls),
                    module,
                    kwargs,
                    args[0],
                    given,
                    bool(last),
                )
            )
            return given.clone()  # `x += shortcut` must not reach what was recorded

        return after

    for name, module in layers(model):
        handles += [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after_of(name), with_kwargs=True),
        ]
    logits = model(images)
    for handle in handles:
        handle.remove()
    return logits, calls


# Steps that are no layers.


class Patches(nn.Module):
    """Cuts images into patches, as the network does. (B, C, H, W) -> (B, N, pixels)"""

    def __init__(self, cut: Callable[[Tensor], Tensor]):
        super().__init__()
        self.cut = cut

    def forward(self, images: Tensor) -> Tensor:
        return self.cut(images)


class Positions(nn.Module):
    """Adds a position embedding to maps or tokens."""

    def __init__(self, embedding: Tensor):
        super().__init__()
        self.register_buffer("embedding", embedding)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.embedding.view(1, *x.shape[1:])


STEPS = {Patches: "patches", Positions: "position embedding"}


def with_steps_as_layers(model: nn.Module) -> None:
    """Neither cutting patches nor adding a position embedding commutes with translation. Where a
    network's own forward does it, in no module, a layer does it from now on; it computes the same.
    """
    if isinstance(model, VitCifar):
        vars(model)["patches"] = step = Patches(model.patches)
        model.add_module("cut", step)
    if isinstance(model, (SpectFormer, VitCifar)):
        embedding, blocks = (
            (model.pos_emb, model.enc)
            if isinstance(model, VitCifar)
            else (model.pos_embed, model.blocks)
        )
        step = Positions(embedding.detach().clone())
        embedding.data.zero_()
        model.add_module("positions", step)
        blocks[0].register_forward_pre_hook(lambda block, args: (step(args[0]),))


# The decomposition.


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The Lie derivative of every image, split by calls of layers."""

    calls: pd.DataFrame  # layer, call, kind
    parts: Tensor  # (calls, B, 2, K) logits per pixel, moving the image along y and along x
    logits: Tensor  # (B, K)

    @property
    def total(self) -> Tensor:
        """L f, (B, 2, K)"""
        return self.parts.sum(0)


def decompose(model: nn.Module, images: Tensor, *, batch: int = 8) -> Decomposition:
    """The Lie derivative of a classifier's logits for images (B, C, H, W), and what each call of a
    layer adds to it.

    The model's own precision, mode, gradients and hooks stay as they are. `batch` images are in
    memory at a time. Where the parts do not add up, something between the layers is not linear or
    does not commute with translation, and ValueError says so.
    """
    copy, images = _prepared(model, images)
    found = [_decomposed(copy, chunk) for chunk in images.split(batch)]
    return Decomposition(
        found[0][0],
        torch.cat([parts for _, parts, _ in found], 1),
        torch.cat([logits for *_, logits in found]),
    )


def _prepared(model: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy of the model in evaluation that computes nothing in place and asks for no gradient;
    the images; both in double.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(
            f"images have the shape {tuple(images.shape)}; give at least one, as (B, C, H, W)"
        )
    copy = deepcopy(model).double().eval().requires_grad_(False)
    if (switch := getattr(copy, "set_grad_checkpointing", None)) is not None:
        switch(False)  # it would run the network again for each class
    for module in copy.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    with_steps_as_layers(copy)
    device = next((p.device for p in copy.parameters()), images.device)
    return copy, images.detach().to(device, torch.float64)


def _derivative(function, z: Tensor, tangent: Tensor) -> Tensor:
    """J(z) times the tangent, in forward mode, which fused kernels of attention do not have."""
    with sdpa_kernel(SDPBackend.MATH):
        return torch.func.jvp(function, (z,), (tangent,))[1]


def _whole(model: nn.Module, images: Tensor) -> Tensor:
    """L f without its parts, (B, 2, K)."""
    return torch.stack([_derivative(model, images, generator(images, axis, 1)) for axis in AXES], 1)


def _checked(logits: Tensor) -> Tensor:
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"the model puts out {tuple(logits.shape)}; a classifier's logits (B, K) "
            "of at least two classes are needed"
        )
    return logits


def _decomposed(model: nn.Module, images: Tensor) -> tuple[pd.DataFrame, Tensor, Tensor]:
    """Calls, parts and logits of one batch, as in `Decomposition`, for what `_prepared` gives."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        logits, calls = _record(model, images.clone().requires_grad_())
        logits = _checked(logits)
        defects = [_defect(call, tuple(images.shape[-2:])) for call in calls]
        outputs = [call.given for call in calls]
        by_class = []
        # in evaluation images do not see each other: one sum, every image's gradient
        for of_class in logits.sum(0):
            gradients = torch.autograd.grad(
                of_class, outputs, retain_graph=True, materialize_grads=True
            )
            # (calls, B, 2)
            by_class.append(
                torch.stack([(g * d).flatten(2).sum(2).mT for g, d in zip(gradients, defects)])
            )
    parts, logits = torch.stack(by_class, -1), logits.detach()
    _check_sum(parts, _whole(model, images), logits)
    named = [(call.layer, call.number, kind_of(call.module)) for call in calls]
    return pd.DataFrame(named, columns=["layer", "call", "kind"]), parts, logits


def _defect(call: Call, pixels: tuple[int, int]) -> Tensor:
    """J(z_in) G z_in - G z_out along y and along x, (2, B, ...)"""
    taken, given = call.taken.detach(), call.given.detach()
    found = []
    for axis in AXES:
        before, after = (
            _generated(z, axis, pixels, layer=call.name, channels_last=call.channels_last)
            for z in (taken, given)
        )
        found.append(_derivative(lambda z: call.module(z, **call.options), taken, before) - after)
    return torch.stack(found)


def _check_sum(parts: Tensor, whole: Tensor, logits: Tensor) -> None:
    """The chain rule holds to rounding, which grows with the parts that cancel."""
    missing = torch.linalg.vector_norm(whole - parts.sum(0))
    scale = torch.linalg.vector_norm(parts.flatten(1), dim=1).sum() + torch.linalg.vector_norm(
        logits
    )
    if not missing <= 1e3 * ROUNDING * scale:  # NaN neither
        raise ValueError(
            "the layers' parts miss "
            f"{float(missing / torch.linalg.vector_norm(whole)):.2g} of the Lie "
            "derivative: "
            "between two of them something is not linear or does not commute with "
            "translation; name the class of the "
            "part that does it in COMPOSITES, or, for a step in no module, give it "
            "one in with_steps_as_layers"
        )


# Its tables.


def _share_and_size(parts: Tensor, total: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """parts and total (..., N), logits (..., M), where parts may have a dimension more at the
    front.

    share: the part's projection on the total, over the total; adds up to 1 over the parts, and may
    be negative. Where the total is zero to rounding there is nothing to share, and it is NaN. size:
    the part's norm over the logits'.
    """
    norm, whole = torch.linalg.vector_norm(logits, dim=-1), torch.linalg.vector_norm(total, dim=-1)
    share = (parts * total).sum(-1) / whole**2
    return share.where(whole > ROUNDING * norm, torch.nan), torch.linalg.vector_norm(
        parts, dim=-1
    ) / norm


def _centred(logits: Tensor) -> Tensor:
    """Logits, or changes of them, (..., K) without their mean over the classes, which changes no
    probability.
    """
    return logits - logits.mean(-1, keepdim=True)


def contributions(model: nn.Module, images: Tensor, *, batch: int = 8) -> pd.DataFrame:
    """A row for each call of a layer and each image: layer, call, kind, image, share, size.

    The derivatives along y and x of all logits, centred over the classes, are one vector of 2 K
    numbers. share: how much of the image's Lie derivative comes from here (1 is all of it; a layer
    that works against the others has a negative one). size: norm of the contribution over that of
    the image's logits, centred too, per pixel. Errors as of `decompose`.
    """
    found = decompose(model, images, batch=batch)
    share, size = _share_and_size(
        _centred(found.parts).flatten(2), _centred(found.total).flatten(1), _centred(found.logits)
    )
    table = found.calls.loc[found.calls.index.repeat(len(images))].reset_index(drop=True)
    return table.assign(
        image=list(range(len(images))) * len(found.calls),
        share=share.flatten().tolist(),
        size=size.flatten().tolist(),
    )


def by_kind(model: nn.Module, images: Tensor, *, batch: int = 8) -> pd.DataFrame:
    """The Lie derivative by kind of layer, largest share first: index kind, columns "share (%)",
    which adds up to 100, and size.

    Contributions of one kind are added before any norm is taken. All images are one vector, so that
    each counts with its own Lie derivative. `attrs["total"]` is the size of the whole, `lie_error`.
    """
    found = decompose(model, images, batch=batch)
    rows = found.calls.groupby("kind", sort=False).groups  # kind -> its calls
    # (kinds, B 2 K)
    parts = torch.stack(
        [_centred(found.parts[list(calls)].sum(0)).flatten() for calls in rows.values()]
    )
    share, size = _share_and_size(
        parts, _centred(found.total).flatten(), _centred(found.logits).flatten()
    )
    table = pd.DataFrame(
        {"share (%)": 100 * share.cpu().numpy(), "size": size.cpu().numpy()},
        index=pd.Index(rows, name="kind"),
    )
    # not by rounding
    table = table.sort_values(
        "share (%)", ascending=False, kind="stable", key=lambda share: share.round(9)
    )
    table.attrs["total"] = _size(found.total, found.logits)
    return table


def lie_error(model: nn.Module, images: Tensor, *, batch: int = 8) -> float:
    """Change of the logits per pixel: norm of the Lie derivative, both directions together, over
    the norm of the logits, both centred over the classes. Both norms are root mean squares over the
    images, so an image whose logits are small does not weigh more.

    Squared, it is the sum over the two directions; a move in a random direction changes the logits
    by 1 / sqrt(2) of it.
    """
    copy, images = _prepared(model, images)
    with torch.no_grad():
        logits = torch.cat([_checked(copy(chunk)) for chunk in images.split(batch)])
        return _size(torch.cat([_whole(copy, chunk) for chunk in images.split(batch)]), logits)


def _size(total: Tensor, logits: Tensor) -> float:
    return float(
        torch.linalg.vector_norm(_centred(total)) / torch.linalg.vector_norm(_centred(logits))
    )
