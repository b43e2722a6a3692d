"""From images with more than 8 bits a channel to 8 bits: a stretch, which the user chooses.

RGB of 8 bits has no room for 16-bit integers or floating-point numbers, and which part of them
shows a galaxy is a decision: the whole range, or percentiles, evenly or with an inverse hyperbolic
sine. So none is made silently. The limits are those of the training images, the same for every
image, so that a bright galaxy stays brighter than a faint one.

linear               smallest to largest value
asinh                the central 99.5 % of the values, through asinh(x / 0.1) / asinh(1 / 0.1)
zscale               IRAF's limits around the median
percentile:LOW,HIGH  from one percentile to another, such as percentile:1,99.5

Intervals and stretches are astropy.visualization's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from astroformer.data.pixels import read_deep

NAMES = "linear, asinh, zscale or percentile:LOW,HIGH (such as percentile:1,99.5)"
LOOKED_AT = 100  # training images whose values give the limits, evenly spaced
VALUES = 65_536  # of each image, evenly spaced
ASINH = 0.1  # where the inverse hyperbolic sine turns from linear to logarithmic, as astropy has it
CENTRAL = 99.5  # % of the values that asinh keeps


@dataclass(frozen=True)
class Stretch:
    """A stretch with its limits: an array of any shape -> uint8 of the same shape."""

    name: str
    low: float
    high: float
    looked_at: int  # training images

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values outside of the limits are cut; what is not a number is black."""
        from astropy.visualization import AsinhStretch

        with np.errstate(invalid="ignore"):
            scaled = (np.asarray(values, dtype=np.float64) - self.low) / (self.high - self.low)
        scaled = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
        if self.name == "asinh":
            scaled = AsinhStretch(ASINH)(scaled)
        return np.round(255 * scaled).astype(np.uint8)

    def described(self) -> str:
        return (
            f"stretch {self.name} between {self.low:.6g} and {self.high:.6g}, by "
            f"{self.looked_at:,} training images"
        )


def parsed(name: str) -> tuple[str, tuple[float, ...]]:
    """ "percentile:1,99" -> ("percentile", (1.0, 99.0)). ValueError in one line for what is no
    stretch.
    """
    kind, colon, numbers = name.partition(":")
    if kind in ("linear", "asinh", "zscale") and not colon:
        return kind, ()
    try:
        low, high = (float(one) for one in numbers.split(","))
    except ValueError:
        low = high = -1.0
    if kind != "percentile" or not 0 <= low < high <= 100:
        raise ValueError(f"stretch {name!r} is not known; choose {NAMES}")
    return kind, (low, high)


def canonical(name: str) -> str:
    """The name in one spelling: "percentile:1,99.0" is "percentile:1,99"."""
    kind, numbers = parsed(name)
    return kind + (":" + ",".join(f"{one:g}" for one in numbers) if numbers else "")


def fitted(name: str, paths: Sequence[str]) -> Stretch:
    """The stretch with the limits of these images. ValueError for images that are all of one value,
    or of 8 bits.
    """
    from astropy.visualization import (
        AsymmetricPercentileInterval,
        MinMaxInterval,
        PercentileInterval,
        ZScaleInterval,
    )

    kind, numbers = parsed(name)
    some = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), LOOKED_AT)).astype(int))
    parts = []
    for place in some:
        values = read_deep(paths[place]).ravel()
        values = values[np.isfinite(values)]
        parts.append(values[:: max(1, len(values) // VALUES)])
    values = np.concatenate(parts)
    interval = {
        "linear": MinMaxInterval,
        "asinh": lambda: PercentileInterval(CENTRAL),
        "zscale": ZScaleInterval,
        "percentile": lambda: AsymmetricPercentileInterval(*numbers),
    }[kind]()
    low, high = map(float, interval.get_limits(values)) if len(values) else (0.0, 0.0)
    if not high > low:
        raise ValueError(
            f"stretch {name}: {len(some)} training images have no two values between its limits "
            f"({low:g} to {high:g}); choose another one of {NAMES}"
        )
    return Stretch(kind, low, high, len(some))
