"""Networks for the tests of this folder, by name: on the meta device, which allocates nothing, or
real ones, small where an option makes them small.
"""

from functools import cache

import timm
import torch

from astroformer.counting.closed_forms import released_counts
from astroformer.models import BASELINES, MODELS

# pixels; at 32, S4 of Astroformer is a single position, whose attention has nothing to learn
SIZE = 64
CLASSES = 7  # unlike any width, so that a mix-up of axes shows
# parameters of a network that a test builds with its weights; with gradients astroformer_5 takes 5
# GB
LARGEST = 200e6

FIRST_OF_FILE = list(
    {timm.model_entrypoint(name).__module__: name for name in reversed(MODELS)}.values()
)
SMALL = [*FIRST_OF_FILE, *BASELINES]  # every kind of network, at its smallest


def on_meta(name: str, **kwargs) -> torch.nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, **dict(dict(img_size=SIZE, num_classes=CLASSES), **kwargs))


@cache
def seen(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """A network on the meta device and its features, for tests that change neither."""
    model = on_meta(name)
    return model, model.forward_features(blank())


def blank(height: int = SIZE, width: int = SIZE, channels: int = 3) -> torch.Tensor:
    return torch.empty(2, channels, height, width, device="meta")


def too_large(name: str) -> bool:
    return released_counts(name, image_size=SIZE, num_classes=CLASSES).params > LARGEST


SHALLOW = {
    "vit_cifar": dict(depth=2),
    "spectformer_ti": dict(depth=4, spectral_blocks=2),
    "spectformer_h_s": dict(depths=(1, 1, 1, 1)),
}


def shallow(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """As `built`, with a few blocks of each kind where the network has an option for it: a
    compiler takes its time for each.
    """
    return built(name, **SHALLOW.get(name, {}))


def built(name: str, **kwargs) -> tuple[torch.nn.Module, torch.Tensor]:
    """A real network and two images for it."""
    torch.manual_seed(0)
    return timm.create_model(name, img_size=SIZE, num_classes=CLASSES, **kwargs), torch.randn(
        2, 3, SIZE, SIZE
    )


def gradients(model: torch.nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.nn.functional.cross_entropy(model(images), torch.tensor([0, 1])).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}
