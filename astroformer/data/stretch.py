"""From images with more than 8 bits a channel to 8 bits: a stretch, which the user chooses.

RGB of 8 bits has no room for 16-bit integers or floating-point numbers, and which part of them
shows a galaxy is a decision: the whole range, or percentiles, evenly or with an inverse hyperbolic
sine. So none is made silently. The limits are those of the training images, one pair for each band,
the same for every image, so that a bright galaxy stays brighter than a faint one.

linear               smallest to largest value
asinh                the central 99.5 % of the values, through asinh(x / 0.1) / asinh(1 / 0.1)
zscale               IRAF's limits around the median
percentile:LOW,HIGH  from one percentile to another, such as percentile:1,99.5
own:asinh            (or own:linear, ...) with each image's own limits: brightness is lost
lupton:STRETCH,Q     three bands as one colour picture, whose hue does not depend on brightness
                     (Lupton et al. 2004, PASP 116, 133), such as lupton:0.5,8; no limits are taken
                     from images, and the sky is at 0, or at lupton:STRETCH,Q,SKY

Intervals and stretches are astropy.visualization's, colour is its make_lupton_rgb. What is not a
number is black.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

NAMES = (
    "linear, asinh, zscale or percentile:LOW,HIGH (such as percentile:1,99.5), each after own: for "
    "an image's own limits, or of three bands lupton:STRETCH,Q (such as lupton:0.5,8)"
)
LOOKED_AT = 100  # training images whose values give the limits, evenly spaced
VALUES = 65_536  # of each image and band, evenly spaced
ASINH = 0.1  # where the inverse hyperbolic sine turns from linear to logarithmic, as astropy has it
CENTRAL = 99.5  # % of the values that asinh keeps
OWN, LUPTON = "own:", "lupton"
# Of other images under a stretch that is not theirs: the part of the values that may be cut beyond
# what was cut of the training images, and how far theirs must spread, as a part of those'.
CUT, SPREAD = 0.20, 0.05
MOST_OF_THEM = (99.5, 0.5)  # percentiles between which values spread

Read = Callable[[object], np.ndarray]  # a source -> its values, (H, W, C)


@dataclass(frozen=True)
class Stretch:
    """A stretch with its limits: values (H, W, C) of any size -> uint8 of the same shape.

    low, high: a limit of each band; empty for each image's own
    cut: part of the training images' values that lies outside of the limits
    spread: of these values in each band, as a part of the range between the limits
    """

    name: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    looked_at: int  # training images
    cut: float = 0.0
    spread: tuple[float, ...] = ()

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values outside of the limits are cut; what is not a number is black."""
        from astropy.visualization import AsinhStretch

        low, high = self._limits(values)
        with np.errstate(invalid="ignore"):
            scaled = (np.asarray(values, dtype=np.float64) - low) / (high - low)
        scaled = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
        if parsed(self.name)[0].endswith("asinh"):
            scaled = AsinhStretch(ASINH)(scaled)
        return np.round(255 * scaled).astype(np.uint8)

    def _limits(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.low:
            if len(self.low) != values.shape[2]:
                raise ValueError(
                    f"an image has {values.shape[2]} bands, and the limits of {self.name} are for "
                    f"{len(self.low)}; name the bands with --bands"
                )
            return np.array(self.low), np.array(self.high)
        # an image of one value has nothing to stretch and is black
        pairs = [_interval(self.name, band) for band in np.moveaxis(values, 2, 0)]
        return (
            np.array([low for low, _ in pairs]),
            np.array([high if high > low else low + 1 for low, high in pairs]),
        )

    def described(self) -> str:
        if not self.low:
            return f"stretch {self.name}: each image has its own limits"
        between = "; ".join(f"{low:.6g} and {high:.6g}" for low, high in zip(self.low, self.high))
        return f"stretch {self.name} between {between}, by {self.looked_at:,} training images"

    def told(self) -> dict:
        """As plain values; `stretch_of` makes the same of them."""
        return asdict(self)


@dataclass(frozen=True)
class Lupton:
    """Three bands as a colour picture, (H, W, 3) -> uint8 of the same shape: red, green and blue
    through one asinh of their mean.
    """

    name: str

    def __call__(self, values: np.ndarray) -> np.ndarray:
        from astropy.visualization import make_lupton_rgb

        self.check(values.shape[2])
        _, (stretch, softening, *sky) = parsed(self.name)
        floor = sky[0] if sky else 0.0
        known = np.where(np.isfinite(values), values, floor).astype(np.float64)
        bands = np.moveaxis(known, 2, 0)
        return make_lupton_rgb(*bands, minimum=floor, stretch=stretch, Q=softening)

    def check(self, channels: int) -> None:
        """ValueError for images of any other number of bands than three."""
        if channels != 3:
            raise ValueError(
                f"--stretch {self.name} makes a picture of three bands, and an image has "
                f"{channels}; name three with --bands g,r,z, or choose --stretch asinh"
            )

    def described(self) -> str:
        return f"stretch {self.name}: three bands as one picture, astropy's make_lupton_rgb"

    def told(self) -> dict:
        return {"name": self.name}


def stretch_of(told: dict) -> Stretch | Lupton:
    """The stretch that `told` describes."""
    if parsed(told["name"])[0] == LUPTON:
        return Lupton(told["name"])
    return Stretch(**told | {each: tuple(told[each]) for each in ("low", "high", "spread")})


def parsed(name: str) -> tuple[str, tuple[float, ...]]:
    """ "percentile:1,99" -> ("percentile", (1.0, 99.0)). ValueError in one line for what is no
    stretch.
    """
    own = OWN if name.startswith(OWN) else ""
    kind, colon, text = name.removeprefix(own).partition(":")
    if kind in ("linear", "asinh", "zscale") and not colon:
        return own + kind, ()
    try:
        numbers = tuple(float(one) for one in text.split(","))
    except ValueError:
        numbers = ()
    if kind == "percentile" and len(numbers) == 2 and 0 <= numbers[0] < numbers[1] <= 100:
        return own + kind, numbers
    finite = len(numbers) in (2, 3) and bool(np.isfinite(numbers).all())
    if kind == LUPTON and not own and finite and min(numbers[:2]) > 0:
        return kind, numbers
    raise ValueError(f"stretch {name!r} is not known; choose {NAMES}")


def canonical(name: str) -> str:
    """The name in one spelling: "percentile:1,99.0" is "percentile:1,99"."""
    kind, numbers = parsed(name)
    return kind + (":" + ",".join(f"{one:g}" for one in numbers) if numbers else "")


def _interval(name: str, values: np.ndarray) -> tuple[float, float]:
    """The limits of a stretch for some values, of which those that are no numbers do not count."""
    from astropy.visualization import (
        AsymmetricPercentileInterval,
        MinMaxInterval,
        PercentileInterval,
        ZScaleInterval,
    )

    kind, numbers = parsed(name)
    values = values[np.isfinite(values)].ravel()
    if not len(values):
        return 0.0, 0.0
    interval = {
        "linear": MinMaxInterval,
        "asinh": lambda: PercentileInterval(CENTRAL),
        "zscale": ZScaleInterval,
        "percentile": lambda: AsymmetricPercentileInterval(*numbers),
    }[kind.removeprefix(OWN)]()
    low, high = map(float, interval.get_limits(values))
    return low, high


def fitted(name: str, sources: Sequence, read: Read) -> Stretch | Lupton:
    """The stretch with the limits of these images. ValueError for images that are all of one value.

    read: gives the values of a source, (H, W, C)
    """
    kind, _ = parsed(name)
    if kind == LUPTON:
        return Lupton(name)
    if kind.startswith(OWN):
        return Stretch(name, (), (), 0)
    bands = sampled(sources, read)
    limits = [_interval(name, values) for values in bands]
    number = min(len(sources), LOOKED_AT)
    for band, (low, high) in enumerate(limits):
        if not high > low:
            where = f" of band {band}" if len(limits) > 1 else ""
            raise ValueError(
                f"stretch {name}: {number} training images have no two values between its limits "
                f"({low:g} to {high:g}){where}; choose another one of {NAMES}"
            )
    low, high = zip(*limits)
    made = Stretch(name, low, high, number)
    return replace(made, cut=max(_cut(made, bands)), spread=_spread(made, bands))


def sampled(sources: Sequence, read: Read) -> list[np.ndarray]:
    """The values of each band that are numbers, (n,), of images evenly spaced among the sources."""
    some = np.unique(np.linspace(0, len(sources) - 1, min(len(sources), LOOKED_AT)).astype(int))
    parts: list[list[np.ndarray]] = []
    for place in some:
        bands = np.moveaxis(read(sources[place]), 2, 0)
        parts = parts or [[] for _ in bands]
        for part, band in zip(parts, bands):
            values = np.asarray(band, dtype=np.float64).ravel()
            values = values[np.isfinite(values)]
            part.append(values[:: max(1, len(values) // VALUES)])
    return [np.concatenate(part) for part in parts]


def _cut(stretch: Stretch, bands: Sequence[np.ndarray]) -> list[float]:
    """Of each band the part of the values that lies outside of the limits."""
    return [
        float(np.mean((values < low) | (values > high))) if len(values) else 0.0
        for values, low, high in zip(bands, stretch.low, stretch.high)
    ]


def _spread(stretch: Stretch, bands: Sequence[np.ndarray]) -> tuple[float, ...]:
    return tuple(
        float(np.subtract(*np.percentile(values, MOST_OF_THEM)) / (high - low))
        if len(values)
        else 0.0
        for values, low, high in zip(bands, stretch.low, stretch.high)
    )


def check_units(stretch: Stretch | Lupton, sources: Sequence, read: Read, what: str) -> None:
    """ValueError in one line for images whose values are not in the units of those that a stretch
    was fitted to: too many lie outside of its limits, or all of them in a small part of its range.

    what: the images, in words
    """
    if isinstance(stretch, Lupton) or not stretch.low:
        return
    bands = sampled(sources, read)
    if len(bands) != len(stretch.low):
        raise ValueError(
            f"{what} have {len(bands)} bands, and the limits of {stretch.name} are for "
            f"{len(stretch.low)}; name the bands with --bands"
        )
    cuts, spreads = _cut(stretch, bands), _spread(stretch, bands)
    for low, high, cut, spread, usual in zip(
        stretch.low, stretch.high, cuts, spreads, stretch.spread
    ):
        if cut > CUT + stretch.cut:
            wrong = f"{cut:.0%} of their values lie outside of them"
        elif spread < SPREAD * usual:
            wrong = f"their values spread over {spread / usual:.2%} of the range of those"
        else:
            continue
        raise ValueError(
            f"{what} are not in the units of the training images: the limits of {stretch.name} are "
            f"{low:.6g} to {high:.6g}, and {wrong}; bring them to the same units and zero point"
        )
