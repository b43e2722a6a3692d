"""The options of every network by name, with their defaults: two spellings of one network are told
from two networks.
"""

import inspect
from functools import lru_cache

from torch import nn

from astroformer.models import astroformer, build, spectformer, spectformer_h, vit_cifar
from astroformer.sizes import BASELINES, MODELS, TIMM

Option = str | int | float | bool | tuple[int, ...]

CLASSES: dict[str, type[nn.Module]] = {
    **dict.fromkeys(astroformer.VARIANTS, astroformer.Astroformer),
    **dict.fromkeys(spectformer.VARIANTS, spectformer.SpectFormer),
    **dict.fromkeys(spectformer_h.VARIANTS, spectformer_h.SpectFormerH),
    **dict.fromkeys(vit_cifar.VARIANTS, vit_cifar.VitCifar),
}
# Arguments that a run's recipe and images decide, and no option.
DECIDED = {
    "num_classes": "the data set decides it",
    "img_size": "--image-size decides it",
    "in_chans": "the images decide it (--bands)",
    "drop_rate": "the recipe decides it: --set drop_rate=...",
    "drop_path_rate": "the recipe decides it: --set drop_path_rate=...",
}


@lru_cache
def default_options(name: str) -> dict[str, object]:
    """The options that a network takes, each with the value that it has if nothing is said; none of
    a baseline, whose sizes are what it is.
    """
    if name in BASELINES:
        return {}
    arguments = inspect.signature(CLASSES[name]).parameters.values()
    defaults = {one.name: MODELS[name].get(one.name, one.default) for one in arguments}
    return {option: value for option, value in defaults.items() if option not in DECIDED}


def checked_options(name: str, options: dict[str, Option]) -> dict[str, Option]:
    """Options in the order of their names, each of its default's type, without those that say
    what is so anyway: "6" and 6 are one depth. ValueError for one that the network does not take.

    Of timm's networks nothing tells the defaults: their options stay as they are said.
    """
    if name.startswith(TIMM):
        return _checked_by_timm(name, options)
    defaults = default_options(name)
    kept = {}
    for option in sorted(options):
        if option in DECIDED:
            raise ValueError(f"{option} is no option of {name}: {DECIDED[option]}")
        if option not in defaults:
            known = ", ".join(sorted(defaults)) or "none"
            raise ValueError(f"{name} has no option {option!r}; it takes {known}")
        value = _as(defaults[option], options[option], f"{name}: option {option}")
        if value != defaults[option]:
            kept[option] = value
    return kept


def _checked_by_timm(name: str, options: dict[str, Option]) -> dict[str, Option]:
    kept: dict[str, Option] = {}
    for option, value in sorted(options.items()):
        if option in DECIDED:
            raise ValueError(f"{option} is no option of {name}: {DECIDED[option]}")
        value = value.item() if hasattr(value, "item") else value
        kept[option] = tuple(value) if isinstance(value, list) else value
    if kept:
        build.check_options(name, tuple(kept.items()))
    return kept


def _as(default: object, value: Option, what: str) -> Option:
    """A value of its default's type. What has no plain default (widths, a patch of two lengths)
    stays as it is.
    """
    wrong = ValueError(f"{what}={value} is not {type(default).__name__}, as {default!r} is")
    if isinstance(default, bool):
        if str(value).lower() not in ("true", "false", "1", "0"):
            raise wrong
        return str(value).lower() in ("true", "1")
    if isinstance(default, int | float):
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise wrong from None
        if isinstance(default, float):
            return number
        if number != int(number):
            raise wrong
        return int(number)
    if isinstance(default, tuple):  # "1,2,2,2" on a command line
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise wrong
        try:
            numbers = tuple(int(part) for part in parts)
        except (TypeError, ValueError):
            raise wrong from None
        if len(numbers) != len(default):
            raise ValueError(f"{what}={value} has not {len(default)} numbers, as {default} has")
        return numbers
    if isinstance(default, str):
        return str(value)
    return value.item() if hasattr(value, "item") else value
