"""How SpectFormer and ViT-CIFAR move with their images: the spectral gate alone, then small
networks of each kind, part by part.

The gate is a circular convolution, so on a torus it moves with its input exactly. What is left to
break a network: patches or strides, which begin to count at a fixed pixel; the position embedding,
which says where a patch lies; padding with zeros, in the convolutions of the hierarchical family.
Each can be repaired in a copy (`equivariance.REPAIRS`), so each can be put back alone.

Reads top to bottom: the gate, the networks, their errors, what these consist of.
"""

import pandas as pd
import torch
from torch import Tensor

from astroformer.equivariance.network import (
    Shift,
    decomposition,
    galaxy,
    relative_error,
    shift_errors,
    switched,
    whole_stride,
)
from astroformer.models.spectformer import SpectralGate

GRIDS = ((8, 8), (7, 7), (6, 9), (5, 12))  # positions, (H, W): even, odd, and of both kinds

# Small enough for double precision while a page is built: name on the page -> name of the network,
# its options.
NETWORKS = {
    "SpectFormer": (
        "spectformer_ti",
        dict(embed_dim=64, depth=6, num_heads=2, spectral_blocks=3, patch_size=4, img_size=32),
    ),
    "SpectFormer-H": (
        "spectformer_h_s",
        dict(
            stem_width=8,
            dims=(8, 16, 32, 32),
            depths=(1, 1, 2, 1),
            num_heads=(1, 1, 2, 2),
            img_size=64,
        ),
    ),
    "ViT-CIFAR": ("vit_cifar", dict(dim=96, heads=3, mlp_hidden=96, img_size=32)),
}

# name on the page -> label of equivariance.choices -> shift_errors
Errors = dict[str, dict[str, pd.DataFrame]]


# The gate.


@torch.no_grad()
def gate_error(gate: SpectralGate, x: Tensor, shift: Shift) -> float:
    """x (B, H, W, C): shift, then gate, against gate, then shift."""
    return relative_error(gate(x.roll(shift, (1, 2))), gate(x).roll(shift, (1, 2)))


@torch.no_grad()
def convolved(gate: SpectralGate, x: Tensor) -> Tensor:
    """What the gate does to x (B, H, W, C), by summing over every offset: y_i = sum_o kernel_o
    x_(i-o), on the torus.
    """
    kernel = gate.kernel()
    found = torch.zeros_like(x)
    for dy in range(kernel.shape[0]):
        for dx in range(kernel.shape[1]):
            found = found + kernel[dy, dx] * x.roll((dy, dx), (1, 2))
    return found


def gate_checks(*, draws: int = 5, channels: int = 4, seed: int = 0) -> pd.DataFrame:
    """The gate in double precision: for each grid the largest relative error over random
    filters, maps and shifts.
    """
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for height, width in GRIDS:
        moved, summed = 0.0, 0.0
        for _ in range(draws):
            gate = SpectralGate(channels, (height, width)).double()
            gate.complex_weight.data = torch.randn(
                gate.complex_weight.shape, generator=draw, dtype=torch.float64
            )
            x = torch.randn(1, height, width, channels, generator=draw, dtype=torch.float64)
            shift = (
                int(torch.randint(1, height, (), generator=draw)),
                int(torch.randint(1, width, (), generator=draw)),
            )
            moved = max(moved, gate_error(gate, x, shift))
            summed = max(summed, relative_error(gate(x).detach(), convolved(gate, x)))
        rows.append(
            {"grid": f"{height} x {width}", "shift, then gate": moved, "sum over offsets": summed}
        )
    return pd.DataFrame(rows)


# The networks.


def errors(*, seed: int = 0) -> Errors:
    """Each network, as released and repaired, for shifts to the right by one pixel and by its whole
    patch or stride; random weights, one synthetic galaxy.
    """
    found = {}
    for name, (network, options) in NETWORKS.items():
        networks = switched(network, seed=seed, num_classes=10, **options)
        whole = whole_stride(networks["as released"])
        image = galaxy(options["img_size"], seed)
        found[name] = {
            label: shift_errors(model, image, [(0, 1), (0, whole)])
            for label, model in networks.items()
        }
    return found


def causes(found: Errors) -> pd.DataFrame:
    """What the squared error of the logits consists of, in % of it: a row for each network and
    shift, a column for each cause; a cause that a network cannot have is missing. Columns add up to
    100; the remainder may be negative.
    """
    rows = []
    for name, tables in found.items():
        for part in decomposition(tables).to_dict("records"):
            shares = {
                cause: 100 * value / part["all"]
                for cause, value in part.items()
                if cause not in ("dy", "dx", "all")
            }
            if "patches" in shares:
                shares["strides"] = shares.pop("patches")  # a patch is a stride
            rows.append({"network": name, "shift (px)": int(part["dx"])} | shares)
    order = ["network", "shift (px)", "strides", "position embedding", "padding", "remainder"]
    return pd.DataFrame(rows)[order].rename(columns={"strides": "patches, strides"})


def facts(found: Errors) -> dict[str, float]:
    """What a page speaks of: of the logits' errors as released the least and the most, in % of
    their size, for one pixel and for whole patches or strides; the largest error of any part for
    whole ones where nothing but patches or strides is left, and for either shift by construction.
    """
    spoken, whole_alone, constructed = {"pixel": [], "whole": []}, [], []
    for tables in found.values():
        released, whole = tables["as released"], tables["as released"]["dx"].max()
        of_logits = released[released["part"] == "logits"]
        spoken["pixel"] += list(of_logits.loc[of_logits["dx"] < whole, "error"])
        spoken["whole"] += list(of_logits.loc[of_logits["dx"] == whole, "error"])
        alone = tables["patches alone" if "patches alone" in tables else "strides alone"]
        whole_alone.append(alone.loc[alone["dx"] == whole, "error"].max())
        constructed.append(tables["by construction"]["error"].max())
    return {
        f"others_{shift}_{extreme.__name__}": 100 * float(extreme(values))
        for shift, values in spoken.items()
        for extreme in (min, max)
    } | {"others_alone": float(max(whole_alone)), "others_built": float(max(constructed))}
