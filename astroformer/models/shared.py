"""What networks of several files do alike: checking the options they are built with, being built
for one image size, and how their convolutions begin.

Networks are followed by tracers (`torch.fx`), scripted (`torch.jit.script`) and exported
(`torch.export`). A tracer sees no shapes, so that it cannot take a branch that depends on one. What
does is a function under `torch.fx.wrap`: a tracer keeps the call, which happens whenever the traced
network runs. It holds only for calls from the file that says so.
"""

import math
import numbers
import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, cast, get_args, get_origin, get_type_hints

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
NUMBERS = {int: numbers.Integral, float: numbers.Real}  # numpy's too
MAY_BE_ZERO = ("num_classes", "spectral_blocks")  # of the whole numbers among the options


class UnknownOption(ValueError, TypeError):
    """An option that a network does not have: a ValueError as of every bad value here, and the
    TypeError that Python, and with it timm, has for an argument that a function does not take.
    """


def with_checked_options(network: type[Network], name: str) -> Callable[..., Network]:
    """The network's class for timm's builder: an option that it does not have, or one of another
    type, is a ValueError that names the choices.

    Beside them the builder takes, as timm's networks do, `device` and `dtype`: where the weights
    are drawn, and the type to which they are rounded afterwards.
    """
    hints = get_type_hints(network.__init__)
    hints.pop("return", None)

    def build(*, device: object = None, dtype: object = None, **options) -> Network:
        for option, value in options.items():
            if option not in hints:
                raise UnknownOption(
                    f"{name} has no option {option!r}; it takes {', '.join(hints)}, device, dtype"
                )
            if not _fits(value, hints[option]):
                kind = getattr(hints[option], "__name__", str(hints[option]))
                raise ValueError(f"{name}: {option}={value!r} is not of type {kind}")
            if hints[option] is int and value < (least := 0 if option in MAY_BE_ZERO else 1):
                raise ValueError(f"{name}: {option}={value} is too few; give at least {least}")
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"{name}: dtype={dtype!r} is no floating-point type of torch")
        with _drawn_on(device, name):
            model = network(**options)
        return model if dtype is None else model.to(dtype)

    return build


def _drawn_on(device: object, name: str) -> AbstractContextManager:
    """Tensors made within lie on the device; with None, where they would lie anyway."""
    if device is None:
        return nullcontext()
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"{name}: device={device!r} is no device of torch; give one such as 'cpu' or 'cuda'"
        ) from None


def _fits(value: object, hint) -> bool:
    """Whether a value is of the type that an argument is annotated with. A whole number is a real
    one too; true and false are no numbers.
    """
    if isinstance(hint, types.UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if isinstance(value, bool):
        return hint is bool
    if get_origin(hint) is tuple:
        return isinstance(value, (tuple, list))
    return isinstance(value, NUMBERS.get(hint, hint))


@torch.fx.wrap
def _of_size(x: Tensor, img_size: tuple[int, int], interpolated: str) -> Tensor:
    """The images (B, C, H, W), if H and W are `img_size`."""
    if x.dim() != 4:
        raise ValueError(f"images have four axes, (batch, channels, height, width), not {x.dim()}")
    height, width = x.shape[2], x.shape[3]
    if height != img_size[0] or width != img_size[1]:
        raise ValueError(
            f"an image of {height}x{width} pixels came to a network built for "
            f"{img_size[0]}x{img_size[1]}; create the model with img_size=({height}, {width}) "
            f"or call set_input_size, which interpolates its {interpolated}"
        )
    return x


class SizedNetwork(nn.Module):
    """A network that is built for images of one size, `img_size`, (H, W) in pixels, until
    `set_input_size` is called.
    """

    img_size: tuple[int, int]
    in_chans: int
    interpolated: str  # what set_input_size interpolates, in words
    __constants__ = ["interpolated"]  # TorchScript sees no other attribute of a class

    def checked_size(
        self, img_size: int | tuple[int, int], multiple: tuple[int, int], why: str
    ) -> tuple[int, int]:
        """(H, W), each a multiple of the one asked for; `why` ends the sentence of the error,
        with the way out.
        """
        height, width = to_2tuple(img_size)
        if min(height, width) < 1 or height % multiple[0] or width % multiple[1]:
            needed = multiple[0] if multiple[0] == multiple[1] else f"{multiple[0]}x{multiple[1]}"
            raise ValueError(
                f"img_size {height}x{width} is not a multiple of {needed} in both directions{why}"
            )
        return int(height), int(width)

    def checked_images(self, x: Tensor) -> Tensor:
        """The images, if they have the size that the network is built for."""
        return _of_size(x, self.img_size, self.interpolated)

    def record_input_size(self, pool_size: tuple[int, int] | None = None) -> None:
        """Tells timm's data config (`timm.data.resolve_model_data_config`) the size that this
        network takes, and the grid (H, W) that it pools, where it has one.
        """
        if hasattr(self, "pretrained_cfg"):
            size = dict(
                input_size=(self.in_chans, *self.img_size),
                **({} if pool_size is None else {"pool_size": pool_size}),
            )
            self.pretrained_cfg = self.default_cfg = dict(self.pretrained_cfg, **size)
        if hasattr(self, "_traits"):  # where newer timm looks first
            self._traits = dict(self._traits, img_size=self.img_size)


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        choices = ", ".join(f'"{choice}"' for choice in known)
        raise ValueError(f'{name}="{value}" is not known; choose one of {choices}')


def listed_parts(model: nn.Module) -> Sequence[dict]:
    """What timm says of each part of any of its networks: the module, its channels, its stride."""
    return cast("Sequence[dict]", model.feature_info)


def init_convolution(module: nn.Module) -> None:
    """Normal, variance 2 / fan-out (as in EfficientNet); biases zero."""
    if isinstance(module, nn.Conv2d):
        fan_out = (
            module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        )
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
