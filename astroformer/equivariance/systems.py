"""How SpectFormer and ViT-CIFAR move with their images: the spectral gate alone, then small
networks of each kind, part by part.

The gate is a circular convolution, so on a torus it moves with its input exactly. What is left to
break a network: patches or strides, which begin to count at a fixed pixel; the position embedding,
which says where a patch lies; padding with zeros, in the convolutions of the hierarchical family.
Each can be repaired in a copy (`equivariance.REPAIRS`), so each can be put back alone. How much
each makes of the error of trained networks is kept in the ledger (causes.py).

Reads top to bottom: the gate, the networks, their errors, what those of trained ones consist of.
"""

import pandas as pd
import torch
from torch import Tensor

from astroformer.equivariance import causes, trained
from astroformer.equivariance.network import (
    Shift,
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

NAMES = {model: name for name, (model, _) in NETWORKS.items()}  # the reverse

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


def facts(gates: pd.DataFrame, found: Errors, frame: pd.DataFrame) -> dict[str, float | str]:
    """What a page speaks of: from `gate_checks` the largest error of a gate; from `errors` the
    largest error of any part for whole patches or strides where nothing but patches or strides is
    left, and for either shift by construction; from `causes.read` how far trained networks change,
    and how many seeds of each there are.
    """
    whole_alone, constructed = [], []
    for tables in found.values():
        whole = tables["as released"]["dx"].max()
        alone = tables["patches alone" if "patches alone" in tables else "strides alone"]
        whole_alone.append(alone.loc[alone["dx"] == whole, "error"].max())
        constructed.append(tables["by construction"]["error"].max())
    changed = changes(frame)
    return {
        "gate_error": float(gates.drop(columns="grid").max().max()),
        "others_alone": float(max(whole_alone)),
        "others_built": float(max(constructed)),
        "others_changes": changes_in_words(changed),
        "others_seeds": int(changed["runs"].min()),
    }


# What the errors of trained networks consist of.


def shares(frame: pd.DataFrame) -> pd.DataFrame:
    """`causes.shares` of NETWORKS trained on synthetic galaxies, from the ledger's measurements
    (`causes.read`), with what the page calls them as `network`.
    """
    found = causes.shares(_trained(frame))
    return found.assign(network=found["model"].map(NAMES))


def changes(frame: pd.DataFrame) -> pd.DataFrame:
    """`causes.changes` of the same networks, with `network`."""
    found = causes.changes(_trained(frame))
    return found.assign(network=found["model"].map(NAMES))


def changes_in_words(found: pd.DataFrame) -> str:
    """`changes` in one sentence's middle: by how much the logits of each network change."""
    said = []
    for _, row in found.iterrows():
        pixel, stride = (
            trained.between(row[f"{shift} low"], row[f"{shift} high"])
            for shift in ("pixel", "stride")
        )
        said.append(
            f"{row['network']} by {pixel} % for one pixel and {stride} % for {row['whole']} pixels"
        )
    return "; ".join(said)


def _trained(frame: pd.DataFrame) -> pd.DataFrame:
    """The measurements of NETWORKS, in their order."""
    some = frame[frame["model"].isin(NAMES) & (frame["data"] == trained.SYNTHETIC)]
    return some.sort_values(
        "model", key=lambda models: models.map(list(NAMES).index), kind="stable"
    )
