"""Checkpoints for the tests of this folder, as a training leaves them: weights that nobody has
trained, drawn so that no part of the network is without effect, and a description.
"""

import torch

from astroformer.models import build, create
from astroformer.training import checkpoint

CLASSES = ("round", "cigar", "spiral", "edge-on")
SIZE = 32  # pixels

# A network of every file, at few blocks, with options that change what is computed.
SMALL = {
    "astroformer": ("astroformer_pico", dict(depths=(1, 1, 1, 1), stack="CCTT")),
    "as named": ("astroformer_pico", dict(depths=(1, 1, 2, 1), rel_bias="outside")),
    "spectformer": ("spectformer_ti", dict(embed_dim=32, num_heads=2, depth=3, spectral_blocks=2)),
    "hierarchical": ("spectformer_h_s", dict(depths=(1, 1, 1, 1))),
    "vit_cifar": ("vit_cifar", dict(dim=48, depth=2, heads=4, mlp_hidden=48)),
    "resnet": ("resnet18_narrow", {}),
    "convnext": ("convnext_narrow", {}),
    "vit": ("vit_narrow", {}),
    "logistic": ("logistic_8x8", {}),
    "timm's, any size": ("timm/test_resnet", {}),
    "timm's, one size": ("timm/test_vit", {}),
    "timm's, an option": ("timm/test_vit", dict(global_pool="avg")),
}


def drawn(name: str, *, seed: int = 0, **options) -> torch.nn.Module:
    """A network whose weights and statistics all differ from what they begin with."""
    torch.manual_seed(seed)
    model = create(name, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for key, statistic in model.named_buffers():
            if key.endswith("running_mean"):
                statistic.normal_(std=0.1)
            if key.endswith("running_var"):
                statistic.uniform_(0.5, 1.5)
    return model.eval()


def checkpoint_of(folder, name: str, options: dict, *, run="0123456789ab", **changes):
    """A checkpoint of a network with random weights, `folder/last.pt`; `changes` are fields of it,
    "average" among them: True for one that differs from the weights.
    """
    given = dict(
        num_classes=len(CLASSES), img_size=SIZE, drop_rate=0.0, drop_path_rate=0.0, **options
    )
    state = {
        "run": run,
        "model": name,
        "options": given,
        "recipe": "smoke",
        "dataset": "synthetic galaxies",
        "classes": list(CLASSES),
        "mean": [0.1, 0.2, 0.3],
        "std": [0.2, 0.25, 0.3],
        "image_size": SIZE,
        "crop": {"crop_pct": 0.9, "interpolation": "bilinear"},
        "step": 7,
        "steps": 7,
        "weights": drawn(name, **given).state_dict(),
        "average": drawn(name, seed=1, **given).state_dict() if changes.pop("average", 0) else None,
        **changes,
    }
    return checkpoint.save(state, folder)


def network_of(path, *, average=False) -> torch.nn.Module:
    """The network of a checkpoint, made without what is tested here."""
    state = checkpoint.read(path)
    model = build.create(state["model"], **state["options"]).eval()
    model.load_state_dict(state["average"] if average else state["weights"])
    return model


def logits_of(path, pixels: torch.Tensor, *, average=False) -> torch.Tensor:
    """What a checkpoint says of images, uint8 (B, C, H, W): its own normalisation written out."""
    state = checkpoint.read(path)
    mean, std = (torch.tensor(state[name]).view(-1, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        return network_of(path, average=average)((pixels / 255 - mean) / std)


def some_pixels(number: int, channels: int = 3, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (number, channels, SIZE, SIZE)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
