"""How far a network is from translation equivariance, f(T x) = T f(x), where T moves the image.

The poster argues that relative attention is equivariant because its bias depends on offsets alone. That is a theorem about
a grid without edges: a torus whose offsets wrap, or a plane on which the content stays inside. This module checks it there
to rounding, measures where the released network departs from it, and says by which of its parts.

Shifts are cyclic, (dy, dx) in pixels: what leaves at one edge comes back at the other, so that nothing is lost and every
difference is the network's own.

Reads top to bottom: relative attention on the torus and on the plane, a network stage by stage, where the error comes from, what it means
for predictions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from torch import Tensor, nn

from astroformer.analysis.cost import checked
from astroformer.data import Images
from astroformer.data.augment import normalise
from astroformer.data.morphology import CLASS_NAMES, render
from astroformer.models import default_image_size
from astroformer.models.astroformer import HEAD_DIM, RelativeAttention
from astroformer.training import load_trained, predict

Shift = tuple[int, int]  # (dy, dx), downwards and to the right


def shifted(x: Tensor, shift: Shift) -> Tensor:
    """(..., H, W) moved cyclically by so many positions."""
    return torch.roll(x, shift, dims=(-2, -1))


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float(torch.linalg.vector_norm(value - reference) / torch.linalg.vector_norm(reference))


# Relative attention alone.

@torch.no_grad()
def torus_error(attention: RelativeAttention, x: Tensor, shift: Shift) -> float:
    """x (B, dim, H, W): shift, then attend, against attend, then shift. Zero to rounding where offsets wrap."""
    return relative_error(attention(shifted(x, shift)), shifted(attention(x), shift))


@torch.no_grad()
def plane_error(attention: RelativeAttention, content: Tensor, shift: Shift, *, grid: tuple[int, int] | None = None) -> float:
    """Content (B, dim, h, w) on an empty plane, the rest of the attention's grid (H, W), whose positions attend to nothing and
    are not attended to. Nothing wraps: the content must stay on the grid after the shift. Attention without a bias has no
    grid of its own; it is given."""
    height, width = grid or attention.rel_pos.grid_size
    h, w = content.shape[-2:]
    (dy, dx), (top, left) = shift, (max(0, -shift[0]), max(0, -shift[1]))
    if top + h + max(dy, 0) > height or left + w + max(dx, 0) > width:
        raise ValueError(f"content of {h}x{w} positions shifted by {shift} leaves the plane of {height}x{width}; shift it less")

    def place(y: int, x: int) -> Tensor:
        plane = content.new_zeros(*content.shape[:2], height, width)
        plane[..., y:y + h, x:x + w] = content
        filled = torch.zeros(height, width, dtype=torch.bool)
        filled[y:y + h, x:x + w] = True
        return _attend(attention, plane, filled)[..., y:y + h, x:x + w]
    return relative_error(place(top + dy, left + dx), place(top, left))


def _attend(attention: RelativeAttention, x: Tensor, filled: Tensor) -> Tensor:
    """The module's own weights and bias, with empty positions (H, W) as neither queries nor keys."""
    query, key, value = attention.heads(x)
    logits = query @ key.mT / query.shape[-1] ** 0.5
    if attention.rel_bias == "inside":
        logits = logits + attention.rel_pos()
    weights = logits.masked_fill(~filled.flatten(), -torch.inf).softmax(-1)  # (B, heads, N, N)
    if attention.rel_bias == "outside":
        weights = weights + attention.rel_pos() * filled.flatten()
    return attention.proj((weights @ value).mT.flatten(1, 2).unflatten(2, x.shape[2:]))


# A network, stage by stage.

@torch.no_grad()
def features(model: nn.Module, image: Tensor) -> dict[str, tuple[Tensor, int]]:
    """What each part puts out for an image (B, C, H, W), and how many pixels one of its positions spans (0 for the logits):
    stem, S1 to S4, logits. Works for every network with `stem`, `stages` and `forward_head`."""
    x = model.stem(image)
    found = {"stem": (x, image.shape[-1] // x.shape[-1])}
    for i, stage in enumerate(model.stages, start=1):
        x = stage(x)
        found[f"S{i}"] = (x, image.shape[-1] // x.shape[-1])
    return found | {"logits": (model.forward_head(x), 0)}


def shift_errors(model: nn.Module, image: Tensor, shifts: Iterable[Shift], *, batch: int = 64) -> pd.DataFrame:
    """For each shift in pixels and each part of the network (in evaluation): relative error between shift-then-compute and
    compute-then-shift. A part whose positions span s pixels can only be moved by whole positions: by shift / s, rounded
    down. Logits are not moved at all; a class has no place. `image` is a single one, (1, C, H, W)."""
    model.eval()
    shifts, still, rows = list(shifts), features(model, image), []
    for start in range(0, len(shifts), batch):
        chunk = shifts[start:start + batch]
        for part, (moved, span) in features(model, torch.cat([shifted(image, shift) for shift in chunk])).items():
            for (dy, dx), value in zip(chunk, moved):
                reference = still[part][0][0] if span == 0 else shifted(still[part][0][0], (dy // span, dx // span))
                rows.append({"part": part, "dy": dy, "dx": dx, "error": relative_error(value, reference)})
    return pd.DataFrame(rows)


# Where the error comes from.

SWITCHES = {"as released": ("zeros", "plane"), "wrapped offsets": ("zeros", "torus"), "circular padding": ("circular", "plane"),
            "both": ("circular", "torus")}  # name -> the network's options `padding` and `offsets`


def switched(name: str, *, state: dict[str, Tensor] | None = None, seed: int = 0, bias_std: float = 0.5,
             dtype: torch.dtype = torch.float64, **options) -> dict[str, nn.Module]:
    """A network four times with the same weights, under each choice of `SWITCHES`. `state` is a trained state dict; without it
    the weights are random, and the bias tables, which begin near zero, are drawn with `bias_std` so that they matter."""
    if state is None:
        with torch.random.fork_rng(devices=[]):  # the caller's generator stays where it was
            torch.manual_seed(seed)
            fresh = timm.create_model(name, **options)
            for key, parameter in fresh.named_parameters():
                if key.endswith("relative_position_bias_table"):
                    nn.init.normal_(parameter, std=bias_std)
        state = fresh.state_dict()
    found = {}
    for label, (padding, offsets) in SWITCHES.items():
        model = timm.create_model(name, padding=padding, offsets=offsets, **options)
        model.load_state_dict(state)
        found[label] = model.to(dtype).eval()
    return found


def decomposition(errors: dict[str, pd.DataFrame], part: str = "logits") -> pd.DataFrame:
    """The squared relative error of one part, by shift: all of it as released, and what each assumption adds alone. `errors` are
    `shift_errors` of each network that `switched` made, over the same shifts.

    strides: what is left with circular padding and wrapped offsets; padding and bias table: what either adds to that when it
    alone is as released; remainder: what they add together beyond the sum, which may be negative. The four add up to `all`.
    """
    squared = {label: table[table["part"] == part].set_index(["dy", "dx"])["error"] ** 2 for label, table in errors.items()}
    strides = squared["both"]
    table = pd.DataFrame({"all": squared["as released"], "strides": strides, "padding": squared["wrapped offsets"] - strides,
                          "bias table": squared["circular padding"] - strides})
    return table.assign(remainder=table["all"] - table["strides"] - table["padding"] - table["bias table"]).reset_index()


def attention_checks(*, grid: tuple[int, int] = (7, 7), heads: int = 3, draws: int = 20, seed: int = 0) -> pd.DataFrame:
    """Relative attention alone, in double precision: the largest relative error over random weights, inputs and shifts, in each
    of the three forms. On the torus every shift is tried that the generator draws; on the plane the content stays inside."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for rel_bias in ("inside", "outside", "none"):
        worst = dict.fromkeys(("torus, wrapped offsets", "plane, released offsets", "torus, released offsets"), 0.0)
        for _ in range(draws):
            for name, offsets, moves in (("torus, wrapped offsets", "torus", True), ("torus, released offsets", "plane", True),
                                         ("plane, released offsets", "plane", False)):
                module = _random_attention(grid, heads, rel_bias, offsets, draw)
                dy, dx = torch.randint(1, 3, (2,), generator=draw).tolist()
                size = grid if moves else (grid[0] - dy, grid[1] - dx)
                x = torch.randn(1, HEAD_DIM, *size, generator=draw, dtype=torch.float64)
                error = torus_error if moves else plane_error
                worst[name] = max(worst[name], error(module, x, (dy, dx), **({} if moves else {"grid": grid})))
        rows.append({"bias": rel_bias, **worst})
    return pd.DataFrame(rows)


def _random_attention(grid: tuple[int, int], heads: int, rel_bias: str, offsets: str, draw: torch.Generator) -> RelativeAttention:
    module = RelativeAttention(HEAD_DIM, heads * HEAD_DIM, grid, rel_bias=rel_bias, offsets=offsets).double()
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
    return module


def summary(name: str, image: Tensor, *, state: dict[str, Tensor] | None = None, seed: int = 0, **options) -> pd.DataFrame:
    """Errors of the logits and of the last stage for a shift by the network's whole stride and by one pixel, in both
    precisions, under each of `SWITCHES`."""
    rows = []
    for dtype in (torch.float64, torch.float32):
        for label, model in switched(name, state=state, seed=seed, dtype=dtype, **options).items():
            whole = model.strides[-1]
            errors = shift_errors(model, image.to(dtype), [(whole, 0), (1, 0)]).set_index(["part", "dy"])["error"]
            last = f"S{len(model.stages)}"
            rows.append({"network": label, "precision": str(dtype).removeprefix("torch."),
                         **{f"{part}, {shift} px": errors[part, shift] for part in (last, "logits") for shift in (whole, 1)}})
    return pd.DataFrame(rows)


# What it means for predictions.

def consistency(model: nn.Module, images: Images, *, mean: Sequence[float], std: Sequence[float],
                shifts: Sequence[int] = (1, 2, 4, 8, 16)) -> pd.DataFrame:
    """How many images keep their predicted class when they are moved, and what that does to accuracy: cyclic shifts (mean over
    the four directions), quarter turns and a reflection. Classes that are mirror images of one another change places in a
    reflection: keeping the class then means predicting the other."""
    def predicted(pixels: np.ndarray) -> np.ndarray:
        return predict(model, replace(images, pixels=pixels), mean=mean, std=std).argmax(1).numpy()
    still = np.stack([images.pixels[i] for i in range(len(images))])  # (N, H, W, 3)
    first, swap = predicted(still), images.mirror_labels()
    right = 100 * (first == images.labels).mean()
    moves = [(f"shift by {s} px", [np.roll(still, (dy * s, dx * s), (1, 2)) for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))], None)
             for s in shifts]
    moves += [(f"rotation by {90 * k}°", [np.rot90(still, k, (1, 2))], None) for k in (1, 2, 3)]
    moves += [("mirror image", [still[:, :, ::-1]], swap)]
    rows = []
    for name, versions, relabel in moves:
        expected, labels = (first, images.labels) if relabel is None else (relabel[first], relabel[images.labels])
        after = [predicted(np.ascontiguousarray(version)) for version in versions]
        rows.append({"move": name, "same class (%)": 100 * np.mean([(one == expected).mean() for one in after]),
                     "change in accuracy (points)": 100 * np.mean([(one == labels).mean() for one in after]) - right})
    return pd.DataFrame(rows)


def before_and_after(checkpoint: str | Path, images: Images) -> pd.DataFrame:
    """`consistency` of a trained network, and of the same network as it was drawn before training."""
    trained, described = load_trained(checkpoint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = timm.create_model(described["model"], **described["options"])
    options = dict(mean=described["mean"], std=described["std"])
    after, before = (consistency(model, images, **options).set_index("move") for model in (trained, fresh))
    return pd.DataFrame({"same class, untrained (%)": before["same class (%)"], "same class, trained (%)": after["same class (%)"],
                         "accuracy, trained (points)": after["change in accuracy (points)"]}).reset_index()


def report(name: str, *, image_size: int | None = None, checkpoint: str | None = None, seed: int = 0) -> pd.DataFrame:
    """`summary` on one synthetic galaxy, for random weights, or for a checkpoint's: then its own network and size are meant."""
    if checkpoint is not None:
        trained, described = load_trained(checkpoint)
        options = {key: value for key, value in described["options"].items() if key not in ("padding", "offsets")}
        image = galaxy(described["image_size"], seed, mean=described["mean"], std=described["std"])
        return summary(described["model"], image, state=trained.state_dict(), **options)
    checked(name, num_classes=10, stack=None)
    size = image_size or default_image_size(name)
    return summary(name, galaxy(size, seed), seed=seed, img_size=size)


def galaxy(size: int, seed: int = 0, *, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)) -> Tensor:
    """(1, 3, size, size) a synthetic galaxy with spiral arms, normalised, in double precision."""
    label = next(i for i, name in enumerate(CLASS_NAMES) if "spiral" in name.lower())
    pixels = torch.from_numpy(render(label, size=size, rng=np.random.default_rng(seed))).permute(2, 0, 1)[None]
    return normalise(pixels, mean, std, dtype=torch.float64)
