"""How far a network is from translation equivariance, f(T x) = T f(x), where T moves the image.

The poster argues that relative attention is equivariant because its bias depends on offsets alone.
That is a theorem about a grid without edges: a torus whose offsets wrap, or a plane on which the
content stays inside. This module checks it there to rounding, measures where the released network
departs from it, part by part.

Shifts are cyclic, (dy, dx) in pixels: what leaves at one edge comes back at the other, so that
nothing is lost and every difference is the network's own.

Reads top to bottom: relative attention on the torus and on the plane, a network stage by stage (any
of timm's), what can be changed in it (by options of the network, or by repairs to its copy), the
errors then. How much each cause makes of the error is causes.py's concern, what it means for
predictions consistency.py's, shifts of less than a pixel lie_derivative.py's; trained networks are
in trained.py, SpectFormer and ViT-CIFAR in systems.py.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import timm
import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

from astroformer.data.augment import normalise
from astroformer.data.morphology import CLASS_NAMES, render
from astroformer.models import MODELS, build, checked_name, create, default_image_size
from astroformer.models.astroformer import HEAD_DIM, RelativeAttention
from astroformer.models.shared import listed_parts
from astroformer.models.spectformer import SpectFormer
from astroformer.models.vit_cifar import VitCifar
from astroformer.training import load_trained

Shift = tuple[int, int]  # (dy, dx), downwards and to the right
# a relative error of whole networks below it counts as none
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-4}
# what attention is checked on where the theorem's assumptions hold
THEOREM = ("torus, wrapped offsets", "plane, released offsets")


def shifted(x: Tensor, shift: Shift) -> Tensor:
    """(..., H, W) moved cyclically by so many positions."""
    return torch.roll(x, shift, dims=(-2, -1))


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float(torch.linalg.vector_norm(value - reference) / torch.linalg.vector_norm(reference))


# Relative attention alone.


@torch.no_grad()
def torus_error(attention: RelativeAttention, x: Tensor, shift: Shift) -> float:
    """x (B, dim, H, W): shift, then attend, against attend, then shift. Zero to rounding where
    offsets wrap.
    """
    return relative_error(attention(shifted(x, shift)), shifted(attention(x), shift))


@torch.no_grad()
def plane_error(
    attention: RelativeAttention,
    content: Tensor,
    shift: Shift,
    *,
    grid: tuple[int, int] | None = None,
) -> float:
    """Content (B, dim, h, w) on an empty plane, the rest of the attention's grid (H, W), whose
    positions attend to nothing and are not attended to. Nothing wraps: the content must stay on the
    grid after the shift. Attention without a bias has no grid of its own; it is given.
    """
    height, width = grid or attention.rel_pos.grid_size
    h, w = content.shape[-2:]
    (dy, dx), (top, left) = shift, (max(0, -shift[0]), max(0, -shift[1]))
    if top + h + max(dy, 0) > height or left + w + max(dx, 0) > width:
        raise ValueError(
            f"content of {h}x{w} positions shifted by {shift} leaves the plane of "
            f"{height}x{width}; shift it less"
        )

    def place(y: int, x: int) -> Tensor:
        plane = content.new_zeros(*content.shape[:2], height, width)
        plane[..., y : y + h, x : x + w] = content
        filled = torch.zeros(height, width, dtype=torch.bool)
        filled[y : y + h, x : x + w] = True
        return _attend(attention, plane, filled)[..., y : y + h, x : x + w]

    return relative_error(place(top + dy, left + dx), place(top, left))


def _attend(attention: RelativeAttention, x: Tensor, filled: Tensor) -> Tensor:
    """The module's own weights and bias, with empty positions (H, W) as neither queries nor
    keys.
    """
    query, key, value = attention.heads(x)
    logits = query @ key.mT / query.shape[-1] ** 0.5
    if attention.rel_bias == "inside":
        logits = logits + attention.rel_pos()
    weights = logits.masked_fill(~filled.flatten(), -torch.inf).softmax(-1)  # (B, heads, N, N)
    if attention.rel_bias == "outside":
        weights = weights + attention.rel_pos() * filled.flatten()
    return attention.proj((weights @ value).mT.flatten(1, 2).unflatten(2, x.shape[2:]))


def attention_checks(
    *, grid: tuple[int, int] = (7, 7), heads: int = 3, draws: int = 20, seed: int = 0
) -> pd.DataFrame:
    """Relative attention alone, in double precision: the largest relative error over random
    weights, inputs and shifts, in each of the three forms. On the torus every shift is tried that
    the generator draws; on the plane the content stays inside.
    """
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for rel_bias in ("inside", "outside", "none"):
        worst = dict.fromkeys((*THEOREM, "torus, released offsets"), 0.0)
        for _ in range(draws):
            for name, offsets, moves in (
                ("torus, wrapped offsets", "torus", True),
                ("torus, released offsets", "plane", True),
                ("plane, released offsets", "plane", False),
            ):
                module = _random_attention(grid, heads, rel_bias, offsets, draw)
                dy, dx = torch.randint(1, 3, (2,), generator=draw).tolist()
                size = grid if moves else (grid[0] - dy, grid[1] - dx)
                x = torch.randn(1, HEAD_DIM, *size, generator=draw, dtype=torch.float64)
                error = torus_error if moves else plane_error
                worst[name] = max(
                    worst[name], error(module, x, (dy, dx), **({} if moves else {"grid": grid}))
                )
        rows.append({"bias": rel_bias, **worst})
    return pd.DataFrame(rows)


def facts(checks: pd.DataFrame) -> dict[str, float]:
    """What a page speaks of, from `attention_checks`: the largest error where the theorem's
    assumptions hold, and that on a torus with the released offsets in percent.
    """
    return {
        "theorem_error": float(checks[list(THEOREM)].to_numpy().max()),
        "released_error": 100 * float(checks["torus, released offsets"].max()),
    }


def _random_attention(
    grid: tuple[int, int], heads: int, rel_bias: str, offsets: str, draw: torch.Generator
) -> RelativeAttention:
    module = RelativeAttention(
        HEAD_DIM, heads * HEAD_DIM, grid, rel_bias=rel_bias, offsets=offsets
    ).double()
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
    return module


# A network, stage by stage.


@torch.no_grad()
def features(model: nn.Module, image: Tensor) -> dict[str, tuple[Tensor, int]]:
    """What each part puts out for images (B, C, H, W), as grids (B, C, h, w), and how many pixels
    one position spans (0 for the logits). The parts are those that timm lists in `feature_info`, so
    any of its networks will do; S1 stands for stages.0. Tokens (B, N, C) are laid out as the grid
    that they came from, without class tokens; maps may have their channels last.
    """
    found: dict[str, tuple[Tensor, int]] = {}

    def keep(info: dict) -> Callable:
        def hook(module: nn.Module, inputs, output: Tensor) -> None:
            grid = _as_grid(output, image, info, model)
            found[_label(info["module"])] = (grid, image.shape[-1] // grid.shape[-1])

        return hook

    hooks = [
        _runs(model.get_submodule(info["module"])).register_forward_hook(keep(info))
        for info in listed_parts(model)
    ]
    try:
        logits = model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found | {"logits": (logits, 0)}


def _runs(module: nn.Module) -> nn.Module:
    """The module whose output is the part's: of a list, which is never called itself, the last."""
    return module[-1] if isinstance(module, nn.ModuleList) else module


def _as_grid(output: Tensor, image: Tensor, info: dict, model: nn.Module) -> Tensor:
    """(B, C, h, w) from itself, from a map with its channels last, or from tokens of which the
    first may be no patches.
    """
    channels = info["num_chs"]
    if output.ndim == 4 and getattr(model, "output_fmt", "NCHW") == "NHWC":
        # also where there are as many channels as rows and columns
        return output.permute(0, 3, 1, 2)
    if output.ndim == 3 and output.shape[2] == channels:
        patches = output[:, getattr(model, "num_prefix_tokens", 0) :]
        columns = round((patches.shape[1] * image.shape[-1] / image.shape[-2]) ** 0.5)
        return patches.mT.unflatten(2, (-1, columns))
    if output.ndim == 4 and channels in (output.shape[1], output.shape[3]):
        return output if output.shape[1] == channels else output.permute(0, 3, 1, 2)
    raise ValueError(
        f"{info['module']} puts out {tuple(output.shape)}, neither a map nor tokens "
        f"of {channels} channels; "
        "the network's feature_info must name parts that do"
    )


def _label(module: str) -> str:
    kind, _, number = module.partition(".")
    return f"S{int(number) + 1}" if kind == "stages" else module


def shift_errors(
    model: nn.Module, image: Tensor, shifts: Iterable[Shift], *, batch: int = 64
) -> pd.DataFrame:
    """For each shift in pixels and each part of the network (in evaluation): relative error between
    shift-then-compute and compute-then-shift. `image` is a single one, (1, C, H, W).

    A part whose positions span s pixels can only be moved by whole positions. A shift that is no
    multiple of s lies between two of them in each direction, and counts with the one that fits
    best. Logits are not moved at all; a class has no place.
    """
    model.eval()
    shifts, still, rows = list(shifts), features(model, image), []
    for start in range(0, len(shifts), batch):
        chunk = shifts[start : start + batch]
        for part, (moved, span) in features(
            model, torch.cat([shifted(image, shift) for shift in chunk])
        ).items():
            for shift, value in zip(chunk, moved):
                references = _references(
                    still[part][0][0], shift, span, getattr(model, "moves_by", span)
                )
                error = min(relative_error(value, reference) for reference in references)
                rows.append({"part": part, "dy": shift[0], "dx": shift[1], "error": error})
    return pd.DataFrame(rows)


def _references(value: Tensor, shift: Shift, span: int, moves_by: int) -> list[Tensor]:
    """What a part may put out for the shifted image: moved by the whole positions below and above
    shift / span; in a network that `aligned_images` repaired, by those that its whole stride
    allows.
    """
    if span == 0:
        return [value]
    step = moves_by // span  # positions
    below_and_above = [
        {step * (pixels // moves_by), step * -(-pixels // moves_by)} for pixels in shift
    ]
    return [shifted(value, positions) for positions in product(*below_and_above)]


MOVES: dict[str, Callable[[Tensor], Tensor]] = {  # of (..., H, W); rotations are anticlockwise
    "rotation by 90°": lambda x: torch.rot90(x, 1, (-2, -1)),
    "rotation by 180°": lambda x: torch.rot90(x, 2, (-2, -1)),
    "rotation by 270°": lambda x: torch.rot90(x, 3, (-2, -1)),
    "mirror image": lambda x: x.flip(-1),
}


def symmetry_errors(model: nn.Module, image: Tensor) -> pd.DataFrame:
    """As `shift_errors`, for the moves that change no galaxy's class: rows are moves, columns
    parts. No layer promises anything.
    """
    model.eval()
    still = features(model, image)
    return pd.DataFrame(
        [
            {"move": name}
            | {
                part: relative_error(value, still[part][0] if span == 0 else move(still[part][0]))
                for part, (value, span) in features(model, move(image)).items()
            }
            for name, move in MOVES.items()
        ]
    )


# What can be changed in a network.

RELEASED = dict(padding="zeros", offsets="plane", downsampling="strided")
REPAIRED = dict(padding="circular", offsets="torus", downsampling="polyphase")
# by file of the architecture: name of a network -> its options; one without a row here has only "as
# released"
SWITCHES = {
    "astroformer": {
        "as released": RELEASED,
        "strides alone": REPAIRED | {"downsampling": "strided"},
        "padding alone": REPAIRED | {"padding": "zeros"},
        "bias table alone": REPAIRED | {"offsets": "plane"},
        "BlurPool": REPAIRED | {"downsampling": "blur"},
        "by construction": REPAIRED,
    }
}


# Networks without such options: what is changed in a copy of them. A shift by whole patches, or
# strides, moves one position of the grid onto another; "patches alone" and "strides alone" are
# exact for such shifts, and for no others.


def positions_alike(model: SpectFormer | VitCifar) -> None:
    """Replaces the position embedding of every patch by their mean; a class token keeps its own."""
    embedding, first = (
        (model.pos_emb, model.num_prefix_tokens)
        if isinstance(model, VitCifar)
        else (model.pos_embed, 0)
    )
    with torch.no_grad():
        embedding[:, first:] = embedding[:, first:].mean(1, keepdim=True)


def circular_padding(model: nn.Module) -> None:
    """Lets every convolution read around the edges."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and any(module.padding):
            module.padding_mode = "circular"


def aligned_images(model: nn.Module) -> None:
    """Moves each image, before the network sees it, so that of the grids that its whole stride can
    keep the one with the most energy is kept. What follows then does not depend on where patches or
    strides begin to count.
    """
    stride = whole_stride(model)
    model.register_forward_pre_hook(lambda module, args: (aligned(args[0], stride), *args[1:]))
    model.moves_by = stride  # pixels, every part of it


def aligned(images: Tensor, stride: int) -> Tensor:
    """Of the stride x stride grids of each image (B, C, H, W), as of `models.downsampling.Align`,
    the one with the most energy comes to lie at [::stride, ::stride], by a cyclic shift.
    """
    energy = images.double().square().sum(1)  # (B, H, W)
    # (B, stride * stride), row by row
    grids = energy.unflatten(2, (-1, stride)).unflatten(1, (-1, stride)).sum((1, 3)).flatten(1)
    best = grids.argmax(1).tolist()
    return torch.stack(
        [
            image.roll((-(place // stride), -(place % stride)), (1, 2))
            for image, place in zip(images, best)
        ]
    )


Repairs = tuple[Callable[..., None], ...]  # each of them of a network
REPAIRS: dict[
    str, dict[str, Repairs]
] = {  # as SWITCHES: name of a network -> what is repaired in it
    "spectformer": {
        "as released": (),
        "patches alone": (positions_alike,),
        "position embedding alone": (aligned_images,),
        "by construction": (positions_alike, aligned_images),
    },
    "spectformer_h": {
        "as released": (),
        "strides alone": (circular_padding,),
        "padding alone": (aligned_images,),
        "by construction": (circular_padding, aligned_images),
    },
}
REPAIRS["vit_cifar"] = REPAIRS["spectformer"]


def switches(name: str) -> dict[str, dict[str, str]]:
    """The choices that a network offers as options, by its timm name; "strides alone" has the
    other two repaired, and so on.
    """
    return SWITCHES.get(architecture(name), {"as released": {}})


def choices(name: str) -> dict[str, tuple[dict[str, str], Repairs]]:
    """Every network that `switched` makes: its options, and the repairs to it."""
    repairs = REPAIRS.get(architecture(name))
    return (
        {label: ({}, some) for label, some in repairs.items()}
        if repairs
        else {label: (options, ()) for label, options in switches(name).items()}
    )


def architecture(name: str) -> str:
    return timm.model_entrypoint(build.timm_name(name)).__module__.rpartition(".")[2]


def switched(
    name: str,
    *,
    state: dict[str, Tensor] | None = None,
    seed: int = 0,
    bias_std: float = 0.5,
    dtype: torch.dtype = torch.float64,
    only: Iterable[str] | None = None,
    **options,
) -> dict[str, nn.Module]:
    """A network under each of `choices` (or `only` some) with the same weights. `state` is a
    trained state dict; without it the weights are `random_state`'s.
    """
    if state is None:
        state = random_state(name, seed=seed, bias_std=bias_std, **options)
    offered = choices(name)
    return {
        label: changed(name, state, *offered[label], dtype=dtype, **options)
        for label in (offered if only is None else only)
    }


def random_state(
    name: str, *, seed: int = 0, bias_std: float = 0.5, **options
) -> dict[str, Tensor]:
    """The state dict of a network with random weights. Bias tables begin near zero, where they
    break nothing; here they are drawn with a standard deviation of `bias_std`, which therefore
    decides how much they break.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's generator stays where it was
        torch.manual_seed(seed)
        fresh = create(name, **options)
        for key, parameter in fresh.named_parameters():
            if key.endswith("relative_position_bias_table"):
                nn.init.normal_(parameter, std=bias_std)
    return fresh.state_dict()


def changed(
    name: str,
    state: dict[str, Tensor],
    changes: dict[str, str],
    repairs: Repairs,
    *,
    dtype: torch.dtype = torch.float64,
    **options,
) -> nn.Module:
    """A network with these weights, in evaluation, with other options (`changes`) and repaired."""
    model = create(name, **options | changes)
    model.load_state_dict(state)
    model = model.to(dtype).eval()
    for repair in repairs:
        repair(model)
    return model


def summary(
    name: str, images: Tensor, *, state: dict[str, Tensor] | None = None, seed: int = 0, **options
) -> pd.DataFrame:
    """Errors of the last part before the head and of the logits, for a shift by the network's whole
    stride and by one pixel, in both precisions, under each of `choices`: the mean over images (B,
    C, H, W).
    """
    rows = []
    for dtype in ROUNDING:
        for label, model in switched(name, state=state, seed=seed, dtype=dtype, **options).items():
            rows.append(
                {
                    "network": label,
                    "precision": precision(dtype),
                    **{
                        f"{part}, {shift} px": error
                        for (part, shift), error in mean_at_two_shifts(model, images).items()
                    },
                }
            )
    return pd.DataFrame(rows)


def mean_at_two_shifts(model: nn.Module, images: Tensor) -> dict[tuple[str, int], float]:
    """`at_two_shifts`, the mean over images (B, C, H, W), in the precision of the model."""
    dtype = next(model.parameters()).dtype
    errors = [at_two_shifts(model, image[None].to(dtype)) for image in images]
    return {place: float(np.mean([error[place] for error in errors])) for place in errors[0]}


def at_two_shifts(model: nn.Module, image: Tensor) -> dict[tuple[str, int], float]:
    """(part, pixels) -> error, of the last part before the head and of the logits, for a shift
    by the whole stride and by one.
    """
    whole = whole_stride(model)
    errors = shift_errors(model, image, [(whole, 0), (1, 0)]).set_index(["part", "dy"])["error"]
    parts = (_label(listed_parts(model)[-1]["module"]), "logits")
    return {(part, shift): float(errors[part, shift]) for part in parts for shift in (whole, 1)}


def precision(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def whole_stride(model: nn.Module) -> int:
    """Pixels that one position of the last part spans."""
    return listed_parts(model)[-1]["reduction"]


def report(
    name: str, *, image_size: int | None = None, checkpoint: str | None = None, seed: int = 0
) -> pd.DataFrame:
    """`summary` on one synthetic galaxy, for random weights, or for a checkpoint's: then its own
    network and size are meant. Besides the project's networks any of timm's can be named.
    """
    subject = asked(name, image_size=image_size, checkpoint=checkpoint, seed=seed)
    try:
        return summary(
            subject.model, subject.images, state=subject.state, seed=seed, **subject.options
        )
    except (AssertionError, RuntimeError, TypeError) as error:
        if subject.model in MODELS:
            raise
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"timm's {name} cannot be measured with an image of {subject.images.shape[-1]} pixels "
            f"({why}); try another --image-size or another network"
        ) from error


@dataclass(frozen=True, eq=False)
class Asked:
    """What a caller wants measured."""

    model: str  # its timm name
    options: dict
    state: dict[str, Tensor] | None  # trained weights; None for random ones
    images: Tensor  # (B, 3, H, W) synthetic galaxies, normalised, in double precision


def asked(
    name: str,
    *,
    image_size: int | None = None,
    checkpoint: str | None = None,
    seed: int = 0,
    number: int = 1,
) -> Asked:
    """A network with random weights, or that of a checkpoint, without the options that are
    switched, and so many galaxies drawn by the seeds from `seed` on.
    """
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed {seed} is out of range; give a whole number from 0 to 2^63 - 1")
    seeds = range(seed, seed + number)
    if checkpoint is not None:
        trained, described = load_trained(checkpoint)
        options = {key: value for key, value in described["options"].items() if key not in RELEASED}
        own = {key: described[key] for key in ("mean", "std")}
        images = torch.cat([galaxy(described["image_size"], one, **own) for one in seeds])
        return Asked(described["model"], options, trained.state_dict(), images)
    if not timm.is_model(name):
        checked_name(name)
    config = build.described(name)
    size = default_image_size(name) if image_size is None else image_size
    fixed = config is not None and config.fixed_input_size
    options = {"num_classes": 10} | ({"img_size": to_2tuple(size)} if fixed else {})
    return Asked(name, options, None, torch.cat([galaxy(size, one) for one in seeds]))


def galaxy(size: int, seed: int = 0, *, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)) -> Tensor:
    """(1, 3, size, size) a synthetic galaxy with spiral arms, normalised, in double precision."""
    label = next(i for i, name in enumerate(CLASS_NAMES) if "spiral" in name.lower())
    pixels = torch.from_numpy(render(label, size=size, rng=np.random.default_rng(seed))).permute(
        2, 0, 1
    )[None]
    return normalise(pixels, mean, std, dtype=torch.float64)
