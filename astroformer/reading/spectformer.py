"""The tables of the page that reads SpectFormer: its gate as a convolution, its parts with shapes,
variants, heads, recipes.

Reads top to bottom: the gate and its kernel, another image size, the parts of a network, variants,
heads, recipes.
"""

from collections.abc import Iterable

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from astroformer.counting import trace
from astroformer.counting.cost import count_params, network_cost, on_meta
from astroformer.equivariance.systems import convolved
from astroformer.ledger.claims import prints_as, written
from astroformer.models import default_image_size, spectformer, spectformer_h
from astroformer.models.spectformer import (
    SpectralGate,
    as_complex,
    gains_on,
    kernel_of,
    resize_filter,
)
from astroformer.reading.recipes import side_by_side
from astroformer.recipes import Recipe

RELEASED_HEADS = 6  # whatever the width
FAMILIES = {**spectformer.VARIANTS, **spectformer_h.VARIANTS}


# The gate


@torch.no_grad()
def gate_and_convolution(grids: Iterable[tuple[int, int]], *, dim: int = 3) -> pd.DataFrame:
    """The gate on random maps against the sum that defines a circular convolution with its
    kernel, in float64.
    """
    rows = []
    for grid in grids:
        torch.manual_seed(0)
        gate = SpectralGate(dim, grid).double()
        x = torch.randn(2, *grid, dim, dtype=torch.float64)
        summed = convolved(gate, x)
        rows.append(
            {
                "grid": f"{grid[0]} x {grid[1]}",
                "stored gains": gate.complex_weight[..., 0].numel(),
                "numbers of the kernel": gate.kernel().numel(),
                "largest output": f"{summed.abs().max():.3f}",
                "largest difference": f"{(gate(x) - summed).abs().max():.1e}",
            }
        )
    return pd.DataFrame(rows)


# Another image size


def smooth_filter(grid: tuple[int, int], *, width: float = 2.5, seed: int = 0) -> Tensor:
    """A random filter of one channel, (H, W // 2 + 1, 1, 2), whose kernel fades with the distance
    from offset zero: `width` positions are the standard deviation of a Gaussian. Not learned, but
    of a kind that is easily recognised.
    """

    def squared(n: int) -> Tensor:
        offsets = (torch.arange(n) + n // 2) % n - n // 2
        return offsets.double() ** 2

    noise = torch.randn(
        *grid, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    fading = torch.exp(-(squared(grid[0])[:, None] + squared(grid[1])[None]) / (2 * width**2))
    near = torch.fft.irfft2(
        torch.fft.rfft2(noise, dim=(0, 1)) * torch.fft.rfft2(fading)[..., None], s=grid, dim=(0, 1)
    )
    kernel = near * fading[..., None]
    return torch.view_as_real(torch.fft.rfft2(kernel / kernel.abs().max(), dim=(0, 1)))


def stretched_as_released(weight: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """The release's way to another grid: the stored array (H, W // 2 + 1, C, 2) of the old,
    bicubically, corner onto corner.
    """
    stored = weight.flatten(2).permute(2, 0, 1)[None]  # (1, 2 C, H, W // 2 + 1)
    stretched = F.interpolate(
        stored, size=(new[0], new[1] // 2 + 1), mode="bicubic", align_corners=True
    )[0]
    return stretched.permute(1, 2, 0).unflatten(2, weight.shape[2:]).contiguous()


WAYS = {"here": resize_filter, "as released": stretched_as_released}


def on_another_grid(
    weight: Tensor, old: tuple[int, int], new: tuple[int, int]
) -> dict[str, tuple[Tensor, Tensor]]:
    """A filter of one channel before and after each way to another grid: name -> (kernel, magnitude
    of the gains), both (H, W), centred on offset zero and on the constant.
    """
    made = {f"{old[0]} x {old[1]}": (weight, old)} | {
        f"{new[0]} x {new[1]}, {name}": (resize(weight, old, new), new)
        for name, resize in WAYS.items()
    }
    kernels = {name: kernel_of(stored, grid)[..., 0] for name, (stored, grid) in made.items()}
    return {
        name: (torch.fft.fftshift(kernel), torch.fft.fftshift(torch.fft.fft2(kernel).abs()))
        for name, kernel in kernels.items()
    }


def same_filter_on_another_grid(
    weight: Tensor, old: tuple[int, int], new: tuple[int, int]
) -> pd.DataFrame:
    """Two things that a filter on a finer grid might keep, and how far each way is from it, in
    percent of the largest value.

    its part of the image: a random map filtered and then resampled, against the map resampled and
    then filtered its number of positions: the new kernel against the old one with zeros around it
    """

    def filtered(x: Tensor, stored: Tensor) -> Tensor:
        return torch.fft.irfft2(
            torch.fft.rfft2(x, dim=(0, 1)) * as_complex(stored), s=x.shape[:2], dim=(0, 1)
        )

    x = torch.randn(
        *old, weight.shape[2], dtype=weight.dtype, generator=torch.Generator().manual_seed(1)
    )
    expected, padded = resampled(filtered(x, weight), new), surrounded(kernel_of(weight, old), new)
    stored = {name: resize(weight, old, new) for name, resize in WAYS.items()}
    return pd.DataFrame(
        {
            "off its part of the image (%)": {
                name: _percent(filtered(resampled(x, new), gains) - expected, expected)
                for name, gains in stored.items()
            },
            "off its number of positions (%)": {
                name: _percent(kernel_of(gains, new) - padded, padded)
                for name, gains in stored.items()
            },
        }
    ).round(1)


def _percent(difference: Tensor, value: Tensor) -> float:
    return float(100 * difference.abs().max() / value.abs().max())


def surrounded(kernel: Tensor, grid: tuple[int, int]) -> Tensor:
    """A kernel (H, W, C), offset zero at [0, 0], with zeros at the offsets that only the larger
    grid has.
    """
    larger = torch.zeros(*grid, kernel.shape[2], dtype=kernel.dtype)
    larger[: kernel.shape[0], : kernel.shape[1]] = torch.fft.fftshift(kernel, dim=(0, 1))
    return larger.roll([-(n // 2) for n in kernel.shape[:2]], (0, 1))


def resampled(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """A map (H, W, C) on a finer grid by trigonometric interpolation: the same values where both
    grids have a position.
    """
    spectrum = torch.fft.fft2(x, dim=(0, 1), norm="forward")
    for dim, size in enumerate(grid):
        spectrum = gains_on(spectrum, size, dim=dim)
    return torch.fft.ifft2(spectrum, dim=(0, 1), norm="forward").real


# The parts of a network


def parts(name: str, *, image_size: int = 224, num_classes: int = 1000, **options) -> pd.DataFrame:
    """One row for each block (vanilla) or stage (hierarchical), in the order of execution: kind,
    blocks, shape of the output for one image, parameters, multiply-adds. Nothing is allocated: the
    network is traced on the meta device.
    """
    model = on_meta(name, image_size, num_classes, **options).eval()
    found, shapes = _parts(model), {}
    for part, modules in found.items():
        modules[-1].register_forward_hook(
            lambda _, __, output, part=part: shapes.__setitem__(part, tuple(output.shape[1:]))
        )
    model(torch.empty(1, 3, image_size, image_size, device="meta"))
    operations = trace.record(model, image_size).frame()
    paths = {id(module): path for path, module in model.named_modules()}
    rows = []
    for part, shape in shapes.items():  # in the order in which they ran
        inside = tuple(f"{paths[id(module)]}." for module in found[part])
        macs = operations.loc[(operations["module"] + ".").str.startswith(inside), "macs"].sum()
        rows.append(
            _row(
                part,
                _kind(found[part][0]),
                shape,
                macs,
                [p for module in found[part] for p in module.parameters()],
                blocks=len(found[part]),
            )
        )
    # the network's own: added to the patches
    for name, parameter in model.named_parameters(recurse=False):
        rows.insert(1, _row(name, type(parameter).__name__, shapes["patch_embed"], 0, [parameter]))
    return pd.DataFrame(rows)


def _row(
    part: str,
    kind: str,
    shape: tuple[int, ...],
    macs: int,
    parameters: list[Tensor],
    *,
    blocks: int = 1,
) -> dict:
    return {
        "part": part,
        "kind": kind,
        "blocks": blocks,
        "output": " x ".join(map(str, shape)),
        "parameters": f"{sum(p.numel() for p in parameters):,}",
        "multiply-adds (M)": f"{macs / 1e6:.1f}",
    }


def _parts(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Name -> the modules that make up a part."""
    found: dict[str, list[nn.Module]] = {}
    for name, child in model.named_children():
        if name == "blocks":
            found |= {f"block {i + 1}": [block] for i, block in enumerate(child.children())}
        else:
            found[name] = list(child) if isinstance(child, nn.ModuleList) else [child]
    return found


def _kind(module: nn.Module) -> str:
    """A block's class; in the hierarchical family, where one class serves both, what mixes its
    positions too.
    """
    mixer = getattr(module, "attn", None)
    return type(module).__name__ + (
        f" with {type(mixer).__name__}" if isinstance(module, spectformer_h.Block) else ""
    )


def token_label_passes(
    name: str, *, image_size: int = 224, num_classes: int = 1000, images: int = 2
) -> pd.DataFrame:
    """What a hierarchical network with its auxiliary head returns for a batch, in training and
    in evaluation.
    """
    model = on_meta(name, image_size, num_classes, token_label=True)
    batch = torch.empty(images, 3, image_size, image_size, device="meta")
    with torch.random.fork_rng(devices=[]):  # a training pass draws the box
        logits, token_logits, box = model.train()(batch)
    returned = {
        "training": {"class token's logits": logits, "positions' logits": token_logits},
        "evaluation": {"logits": model.eval()(batch)},
    }
    rows = [
        {"pass": when, "returns": what, "shape": " x ".join(map(str, tensor.shape))}
        for when, outputs in returned.items()
        for what, tensor in outputs.items()
    ]
    rows.insert(
        2,
        {
            "pass": "training",
            "returns": "box (top, left, bottom, right)",
            "shape": f"{len(box)} numbers",
        },
    )
    return pd.DataFrame(rows)


# Variants, heads, recipes


def parameters_beside_reported(judged: pd.DataFrame) -> pd.DataFrame:
    """Every SpectFormer's parameters with 1000 classes at its own image size, what the READMEs
    print, which count prints so, and the claim's verdict. `judged`: `verdicts.verdicts` of the
    claims. The hierarchical ones are also counted with their auxiliary head.
    """
    rows = []
    for name, sizes in FAMILIES.items():
        counted = {"": network_cost(name, num_classes=1000)["params"]}
        if name in spectformer_h.VARIANTS:
            counted["with aux. head"] = count_params(
                on_meta(name, default_image_size(name), 1000, token_label=True)
            )
        claim = _printed(judged, name, "params")
        rows.append(
            {
                "model": name,
                "widths": " ".join(map(str, sizes.get("dims", [sizes.get("embed_dim")]))),
                "blocks": " ".join(map(str, sizes.get("depths", [sizes.get("depth")]))),
                "counted": f"{counted['']:,}",
                "with aux. head": f"{counted['with aux. head']:,}" if len(counted) > 1 else "",
                "reported": written(claim["value"], claim["unit"]),
                "prints so": ", ".join(
                    how or "counted"
                    for how, count in counted.items()
                    if prints_as(count, claim["value"], claim["unit"])
                )
                or "none",
                "verdict": claim["verdict"],
            }
        )
    return pd.DataFrame(rows)


def operations_beside_reported(judged: pd.DataFrame) -> pd.DataFrame:
    """Every SpectFormer's multiply-adds for one image of its own size, the READMEs' FLOPs, the
    conventions under which they are printed so, and the claim's verdict.
    """
    rows = []
    for name in FAMILIES:
        cost, claim = network_cost(name, num_classes=1000), _printed(judged, name, "flops")
        giga = {"macs": cost["macs"] / 1e9, **cost["conventions"]}
        agreeing = [
            rule
            for rule, value in giga.items()
            if prints_as(round(value * 1e9), claim["value"], claim["unit"])
        ]
        rows.append(
            {
                "model": name,
                "macs (G)": f"{giga['macs']:.3f}",
                "conv_linear (G)": f"{giga['conv_linear']:.3f}",
                "reported": written(claim["value"], claim["unit"]),
                "verdict": claim["verdict"],
                "printed so by": ", ".join(agreeing) or "none",
            }
        )
    return pd.DataFrame(rows)


def _printed(judged: pd.DataFrame, model: str, metric: str) -> pd.Series:
    """The claim of a README's model zoo about a model."""
    claims = judged[
        (judged["model"] == model)
        & (judged["metric"] == metric)
        & judged["source"].str.endswith("README")
    ]
    return claims.iloc[0]


def heads() -> pd.DataFrame:
    """The vanilla family's heads: what 6, which the release sets for every width, would do, and
    what is chosen here.
    """
    return pd.DataFrame(
        [
            {
                "model": name,
                "width": sizes["embed_dim"],
                f"width / {RELEASED_HEADS}": f"{sizes['embed_dim'] / RELEASED_HEADS:.4g}",
                f"{RELEASED_HEADS} divides it": "no"
                if sizes["embed_dim"] % RELEASED_HEADS
                else "yes",
                "heads here": sizes["num_heads"],
                "channels a head": sizes["embed_dim"] // sizes["num_heads"],
            }
            for name, sizes in spectformer.VARIANTS.items()
        ]
    )


def recipe_table(recipes: Iterable[Recipe]) -> pd.DataFrame:
    """Recipes side by side: a row for each field that is on in any of them, a column for each
    recipe.
    """
    return side_by_side(recipes)
