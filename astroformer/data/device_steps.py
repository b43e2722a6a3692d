"""What the augmentation on a device draws and does: each step of an image plans on the host for
many images, and then changes them on their device.

Reads top to bottom: random numbers, plans, steps (crops and reflections, colour jitter,
RandAugment, AutoAugment), and all of a recipe's in the order of `augment.Augmented`.

Crops by whole pixels, reflections and quarter turns only move pixels. Resamplings that follow one
another are not merged into one: Pillow rounds and fills between them, and each blurs a little.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from timm.data.auto_augment import AugmentOp
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from astroformer.data import device_operations as operations
from astroformer.data.augment import ON_DEVICE, ReleasedAutoAugment, derive, rand_augment
from astroformer.recipes import Recipe

HOST = "choose --set augmentation=host"

# Random numbers


def mixed(state: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64 (Steele, Lea & Flood 2014): uint64 -> uint64."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


STRIDE = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's, 2^64 over the golden ratio
# What numbers are for: each has 2^16 of its own, so that flips do not depend on whether images
# are cropped.
CROP, RANDAUGMENT, JITTER, REFLECTION, POLICY = range(5)


class Draws:
    """The random numbers of some images: those of SplitMix64 with a seed for each image.

    keys: (epoch, index) or (epoch, index, n), as `augment.keys_of_epoch` gives them
    """

    def __init__(self, seed: int, keys: Sequence[tuple[int, ...]]):
        epochs = np.array([key[0] for key in keys], dtype=np.int64)
        self.index = np.array([key[1] for key in keys], dtype=np.int64)
        repetition = np.array([key[2] if len(key) > 2 else 0 for key in keys], dtype=np.int64)
        which, inverse = np.unique(epochs, return_inverse=True)
        of_epoch = np.array([derive(ON_DEVICE, seed, int(e)) for e in which], dtype=np.uint64)
        state = of_epoch[inverse]
        for number in (self.index, repetition):
            state = mixed(state + STRIDE * (number + 1).astype(np.uint64))
        self.state = state

    def __len__(self) -> int:
        return len(self.state)

    def uniform(self, purpose: int, number: int, *, begin: int = 0) -> np.ndarray:
        """Numbers `begin`, `begin` + 1, ... of a purpose: float64 (B, number) in [0, 1)."""
        counter = np.arange(number, dtype=np.uint64) + np.uint64((purpose << 16) + begin + 1)
        bits = mixed(self.state[:, None] + STRIDE * counter)
        return (bits >> np.uint64(11)) * 2.0**-53


def normal(uniform: np.ndarray) -> np.ndarray:
    """Pairs of uniform numbers, (..., 2), as normal ones, (...): Box & Muller's."""
    radius = np.sqrt(-2 * np.log1p(-uniform[..., 0]))
    return radius * np.cos(2 * np.pi * uniform[..., 1])


# A plan, and how it gets to the device


class Plan:
    """Arrays of float64 and int64 that go to the device in one piece."""

    def __init__(self):
        self.arrays: list[np.ndarray] = []

    def add(self, array: np.ndarray) -> int:
        """Where the array will be found among those on the device."""
        kind = np.float64 if array.dtype.kind == "f" else np.int64
        self.arrays.append(np.ascontiguousarray(array, dtype=kind))
        return len(self.arrays) - 1

    def on(self, device: torch.device) -> list[Tensor]:
        bits = np.concatenate([array.reshape(-1).view(np.int64) for array in self.arrays])
        sent = torch.from_numpy(bits)
        if device.type == "cuda":
            sent = sent.pin_memory().to(device, non_blocking=True)
        parts = sent.to(device).split([array.size for array in self.arrays])
        return [
            (part.view(torch.float64) if array.dtype == np.float64 else part).view(array.shape)
            for part, array in zip(parts, self.arrays)
        ]


@dataclass(frozen=True)
class Operation:
    """What is done to images that need the same, with strengths of their own.

    (n, C, H, W), float64 (n, ...) or (n,) -> (n, C, H, W)
    """

    name: str  # of a function of `device_operations`
    how: tuple[tuple[str, object], ...] = ()  # its keywords

    def __call__(self, images: Tensor, strengths: Tensor | None) -> Tensor:
        how = dict(self.how)
        if "fill" in how:
            how["fill"] = filling(how["fill"], images.device)
        apply = partial(getattr(operations, self.name), **how)
        return apply(images) if strengths is None else apply(images, strengths)


_FILLINGS: dict[tuple, Tensor] = {}  # on each device, as sending one anew would wait


def filling(colour: tuple[int, ...], device: torch.device) -> Tensor:
    """A colour on a device, uint8 (C,)."""
    if (colour, device) not in _FILLINGS:
        _FILLINGS[colour, device] = torch.tensor(colour, dtype=torch.uint8, device=device)
    return _FILLINGS[colour, device]


# An operation, the images among those at hand that need it, int64 (n,), and their strengths.
Group = tuple[Operation, np.ndarray, "np.ndarray | None"]


class Step:
    """A part of the augmentation: first it plans on the host for some images, then it changes
    them on their device. Subclasses say by `groups` which images need which operation, one after
    the other.
    """

    def groups(self, draws: Draws) -> Iterator[Group]:
        raise NotImplementedError

    def labelled(self, labels: np.ndarray, draws: Draws, mirrored: np.ndarray) -> np.ndarray:
        """The labels (B,), or probabilities (B, K), after the step."""
        return labels

    def planned(self, draws: Draws, plan: Plan) -> list:
        return [
            (operation, plan.add(rows), None if strengths is None else plan.add(strengths))
            for operation, rows, strengths in self.groups(draws)
            if len(rows)
        ]

    def applied(self, images: Tensor, slots: list, arrays: list[Tensor]) -> Tensor:
        """May change the images in place."""
        return self._into(images, images, slots, arrays)

    @staticmethod
    def _into(changed: Tensor, images: Tensor, slots: list, arrays: list[Tensor]) -> Tensor:
        for operation, rows, strengths in slots:
            some = images.index_select(0, arrays[rows])
            given = None if strengths is None else arrays[strengths]
            changed.index_copy_(0, arrays[rows], operation(some, given))
        return changed


# Crops and reflections


class PaddedCrop(Step):
    """torchvision's RandomCrop with a black margin."""

    def __init__(self, padding: int):
        self.padding = padding

    def planned(self, draws: Draws, plan: Plan) -> list:
        offsets = (draws.uniform(CROP, 2) * (2 * self.padding + 1)).astype(np.int64)
        return [plan.add(offsets[:, 0]), plan.add(offsets[:, 1])]

    def applied(self, images: Tensor, slots: list, arrays: list[Tensor]) -> Tensor:
        tops, lefts = (arrays[slot] for slot in slots)
        return operations.padded_crop(images, tops, lefts, padding=self.padding)


class ResizedCrop(Step):
    """timm's RandomResizedCropAndInterpolation: the first of ten draws of area and shape that lies
    within the image, else its middle.

    shape: height and width of the images as they are stored
    """

    RATIO = (3 / 4, 4 / 3)  # of width to height
    ATTEMPTS = 10

    def __init__(
        self, size: int, shape: tuple[int, int], scale: tuple[float, float], interpolation: str
    ):
        self.size, self.shape, self.scale = size, shape, scale
        self.filters = [
            Operation("resized_crop", (("interpolation", name), ("size", size)))
            for name in interpolations(interpolation)
        ]

    def boxes(self, draws: Draws) -> np.ndarray:
        """int64 (B, 4): top, left, height, width."""
        height, width = self.shape
        drawn = draws.uniform(CROP, 2 * self.ATTEMPTS + 2)
        low, high = self.scale
        areas = (low + (high - low) * drawn[:, : self.ATTEMPTS]) * (height * width)
        low, high = np.log(self.RATIO)
        ratios = np.exp(low + (high - low) * drawn[:, self.ATTEMPTS : -2])
        widths, heights = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
        fits = (widths <= width) & (heights <= height)
        first, rows = fits.argmax(1), np.arange(len(draws))
        sides = np.stack([heights[rows, first], widths[rows, first]], 1)
        corners = np.floor(drawn[:, -2:] * (np.array(self.shape) - sides + 1))
        boxes = np.concatenate([corners, sides], 1)
        return np.where(fits.any(1, keepdims=True), boxes, self._middle()).astype(np.int64)

    def _middle(self) -> np.ndarray:
        height, width = self.shape
        low, high = self.RATIO
        tall = round(width / low) if width / height < low else height
        wide = round(height * high) if width / height > high else width
        return np.array([(height - tall) // 2, (width - wide) // 2, tall, wide])

    def groups(self, draws: Draws) -> Iterator[Group]:
        boxes = self.boxes(draws)
        drawn = draws.uniform(CROP, 1, begin=1_000)[:, 0] * len(self.filters)
        for number, operation in enumerate(self.filters):
            rows = np.flatnonzero(drawn.astype(int) == number)
            yield operation, rows, boxes[rows]

    def applied(self, images: Tensor, slots: list, arrays: list[Tensor]) -> Tensor:
        crops = images.new_empty(*images.shape[:2], self.size, self.size)
        return self._into(crops, images, slots, arrays)


def interpolations(word: str) -> tuple[str, ...]:
    """A recipe's word, or at "random" the two that timm draws from."""
    return ("bilinear", "bicubic") if word == "random" else (word,)


class Reflection(Step):
    """Left to right, then top to bottom, then quarter turns anticlockwise. Of the 16 ways that they
    may come together, eight differ: a reflection top to bottom is one left to right and half a
    turn.
    """

    def __init__(self, hflip: float, vflip: float, rotate90: bool):
        self.hflip, self.vflip, self.rotate90 = hflip, vflip, rotate90

    def drawn(self, draws: Draws) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each image: whether it is reflected left to right, and top to bottom, (B,) bool, and
        by how many quarters it is turned.
        """
        left_right, up_down, turns = draws.uniform(REFLECTION, 3).T
        quarters = (turns * 4).astype(int) if self.rotate90 else np.zeros(len(draws), dtype=int)
        return left_right < self.hflip, up_down < self.vflip, quarters

    def labelled(self, labels: np.ndarray, draws: Draws, mirrored: np.ndarray) -> np.ndarray:
        left_right, up_down, _ = self.drawn(draws)
        flip = left_right ^ up_down
        if labels.ndim == 2:
            return np.where(flip[:, None], labels[:, mirrored], labels)
        return np.where(flip, mirrored[labels], labels)

    def groups(self, draws: Draws) -> Iterator[Group]:
        left_right, up_down, quarters = self.drawn(draws)
        flip, quarters = left_right ^ up_down, (quarters + 2 * up_down) % 4
        for flipped, turns in itertools.product((False, True), range(4)):
            if flipped or turns:
                rows = np.flatnonzero((flip == flipped) & (quarters == turns))
                how = (("flip", flipped), ("quarters", turns))
                yield Operation("turned", how), rows, None


# Colours and affine maps

# Of an affine operation, the axis along which pixels move.
AXIS = {
    **dict.fromkeys(("ShearX", "TranslateX", "TranslateXRel"), "x"),
    **dict.fromkeys(("ShearY", "TranslateY", "TranslateYRel"), "y"),
    "Rotate": "both",
}
# The matrix's place of a shear's factor and of a shift in pixels.
PLACE = {"ShearX": 1, "ShearY": 3, "TranslateX": 2, "TranslateY": 5}
WITHOUT_STRENGTH = ("AutoContrast", "Equalize", "Invert")


def affine(name: str, interpolation: str, fill: tuple[int, ...]) -> Operation:
    how = (("interpolation", interpolation), ("axis", AXIS[name]), ("fill", fill))
    return Operation("affine", how)


def matrices(name: str, amounts: np.ndarray, size: int) -> np.ndarray:
    """(B,) degrees anticlockwise, factors of shears or shifts in pixels -> (B, 6)"""
    made = np.tile([1.0, 0, 0, 0, 1, 0], (len(amounts), 1))
    if name != "Rotate":
        made[:, PLACE[name.removesuffix("Rel")]] = amounts
        return made
    # one by one, as Pillow rounds them: NumPy's rounding differs from Python's now and then
    angles, middle = [-math.radians(degrees % 360.0) for degrees in amounts.tolist()], size / 2
    cosine = np.array([round(math.cos(angle), 15) for angle in angles])
    sine = np.array([round(math.sin(angle), 15) for angle in angles])
    made[:, 0], made[:, 1], made[:, 2] = cosine, sine, cosine * -middle + sine * -middle + middle
    made[:, 3], made[:, 4], made[:, 5] = -sine, cosine, -sine * -middle + cosine * -middle + middle
    return made


class Jitter(Step):
    """torchvision's ColorJitter of brightness, contrast and saturation, in random order."""

    NAMES = ("brightness", "contrast", "color")

    def __init__(self, most: float):
        self.low, self.high = max(0.0, 1 - most), 1 + most

    def groups(self, draws: Draws) -> Iterator[Group]:
        drawn = draws.uniform(JITTER, 4)
        factors = self.low + (self.high - self.low) * drawn[:, :3]
        orders = np.array(list(itertools.permutations(range(3))))
        order = orders[(drawn[:, 3] * len(orders)).astype(int)]  # (B, 3)
        for place, (number, name) in itertools.product(range(3), enumerate(self.NAMES)):
            rows = np.flatnonzero(order[:, place] == number)
            yield Operation(name), rows, factors[rows, number]


# What timm makes of a magnitude over 10 and of a direction, -1 or 1: a strength of the operation.
Rule = Callable[[np.ndarray, np.ndarray, AugmentOp], np.ndarray]


def enhanced(part: np.ndarray, direction: np.ndarray, op: AugmentOp) -> np.ndarray:
    return part * 1.8 + 0.1


def increasing(part: np.ndarray, direction: np.ndarray, op: AugmentOp) -> np.ndarray:
    return np.maximum(0.1, 1.0 + direction * (part * 0.9))


ENHANCEMENTS = ("Color", "Contrast", "Brightness", "Sharpness")
RULES: dict[str, Rule] = {
    "Rotate": lambda part, direction, op: direction * (part * 30.0),
    **dict.fromkeys(("ShearX", "ShearY"), lambda part, direction, op: direction * (part * 0.3)),
    **dict.fromkeys(
        ("TranslateXRel", "TranslateYRel"),  # parts of the image's side
        lambda part, direction, op: direction * (part * op.hparams.get("translate_pct", 0.45)),
    ),
    "Posterize": lambda part, direction, op: np.clip(np.trunc(part * 4), 1, 8),
    "PosterizeIncreasing": lambda part, direction, op: np.clip(4 - np.trunc(part * 4), 1, 8),
    "Solarize": lambda part, direction, op: np.minimum(256, np.trunc(part * 256)),
    "SolarizeIncreasing": lambda part, direction, op: 256 - np.minimum(256, np.trunc(part * 256)),
    "SolarizeAdd": lambda part, direction, op: np.minimum(128, np.trunc(part * 110)),
    **dict.fromkeys(ENHANCEMENTS, enhanced),
    **dict.fromkeys((name + "Increasing" for name in ENHANCEMENTS), increasing),
}


class RandAugment(Step):
    """timm's RandAugment, as `augment.rand_augment` makes it of a recipe's words."""

    OF_LAYER = 8  # numbers that a layer draws, at most, besides which operation it is

    def __init__(self, words: str, interpolation: str, size: int, mean: Sequence[float]):
        self.policy = rand_augment(words, {})
        self.size, self.interpolations = size, interpolations(interpolation)
        self.fill = tuple(round(255 * value) for value in mean)
        names = [op.name for op in self.policy.ops]
        lacking = [name for name in names if name not in {*RULES, *WITHOUT_STRENGTH}]
        if lacking:
            raise ValueError(
                f"augmentation=device has no {lacking[0]}, which randaugment={words} asks for; "
                f"{HOST}, or other words"
            )

    def chosen(self, draws: Draws) -> np.ndarray:
        """Which operation each layer has, (B, layers): with replacement, unless they are weighted
        (the order of exponential waiting times is such a choice).
        """
        layers, ops, weights = self.policy.num_layers, self.policy.ops, self.policy.choice_weights
        if weights is None:
            return (draws.uniform(RANDAUGMENT, layers) * len(ops)).astype(int)
        waiting = -np.log1p(-draws.uniform(RANDAUGMENT, len(ops))) / weights
        return waiting.argsort(1)[:, :layers]

    def levels(self, drawn: np.ndarray) -> np.ndarray:
        """Magnitudes over 10, (B,), of two uniform numbers each."""
        op = self.policy.ops[0]  # the others have the same
        if op.magnitude_std == float("inf"):
            levels = drawn[:, 0] * op.magnitude
        else:
            levels = op.magnitude + max(0.0, op.magnitude_std) * normal(drawn)
        return np.clip(levels, 0.0, op.magnitude_max or 10.0) / 10.0

    def groups(self, draws: Draws) -> Iterator[Group]:
        chosen = self.chosen(draws)
        for layer in range(self.policy.num_layers):
            drawn = draws.uniform(RANDAUGMENT, 5, begin=1_000 + self.OF_LAYER * layer)
            parts = self.levels(drawn[:, 1:3])
            directions = np.where(drawn[:, 3] < 0.5, -1.0, 1.0)
            filters = (drawn[:, 4] * len(self.interpolations)).astype(int)
            for number, op in enumerate(self.policy.ops):
                rows = np.flatnonzero((chosen[:, layer] == number) & (drawn[:, 0] < op.prob))
                yield from self.groups_of(op, rows, parts[rows], directions[rows], filters[rows])

    def groups_of(
        self,
        op: AugmentOp,
        rows: np.ndarray,
        parts: np.ndarray,
        directions: np.ndarray,
        filters: np.ndarray,
    ) -> Iterator[Group]:
        """One of timm's operations for some images, with magnitudes over 10, directions (-1 or 1)
        and, for those that are resampled, the place of the interpolation among the policy's.
        """
        if op.name in WITHOUT_STRENGTH:
            yield Operation(op.name.lower()), rows, None
            return
        strengths = RULES[op.name](parts, directions, op)
        if op.name not in AXIS:
            yield Operation(function_of(op.name)), rows, strengths
            return
        amounts = strengths * self.size if op.name.startswith("Translate") else strengths
        made = matrices(op.name, amounts, self.size)
        for number, interpolation in enumerate(self.interpolations):
            some = filters == number
            yield affine(op.name, interpolation, self.fill), rows[some], made[some]


def function_of(name: str) -> str:
    """The function of `device_operations` for a name of timm's or torchvision's."""
    return {"SolarizeAdd": "solarize_add"}.get(name, name.removesuffix("Increasing").lower())


class Policy(Step):
    """AutoAugment by a recipe's word: for each image one of a policy's pairs of operations, each of
    the two with its own probability, strength and direction.
    """

    def __init__(self, word: str, size: int):
        dataset, _, form = word.partition("-")
        textbook = AutoAugment(AutoAugmentPolicy(dataset))
        self.pairs = textbook.policies
        space = textbook._augmentation_space(10, (size, size))
        self.probabilities = np.array([[p for _, p, _ in pair] for pair in self.pairs])
        self.operations: list[Operation] = []
        self.which = np.zeros(
            (len(self.pairs), 2, 2), dtype=int
        )  # pair, first or second, direction
        self.strengths = np.zeros((*self.which.shape, 6))
        for pair, place, way in np.ndindex(self.which.shape):
            name, _, number = self.pairs[pair][place]
            made = released if form else partial(as_published, space=space)
            operation, strength = made(name, number, (-1, 1)[way], size=size)
            if operation not in self.operations:
                self.operations.append(operation)
            self.which[pair, place, way] = self.operations.index(operation)
            self.strengths[pair, place, way] = strength

    def groups(self, draws: Draws) -> Iterator[Group]:
        drawn = draws.uniform(POLICY, 5)
        pairs = (drawn[:, 0] * len(self.pairs)).astype(int)
        for place in range(2):
            ways = (drawn[:, 3 + place] * 2).astype(int)
            applied = drawn[:, 1 + place] < self.probabilities[pairs, place]
            which = np.where(applied, self.which[pairs, place, ways], -1)
            for number, operation in enumerate(self.operations):
                rows = np.flatnonzero(which == number)
                strengths = self.strengths[pairs[rows], place, ways[rows]]
                if operation.name != "affine":
                    strengths = strengths[:, 0]
                plain = operation.name in map(str.lower, WITHOUT_STRENGTH)
                yield operation, rows, None if plain else strengths


Strength = float | np.ndarray


def as_published(
    name: str, number: int | None, way: int, *, size: int, space: dict
) -> tuple[Operation, Strength]:
    """torchvision's AutoAugment: nearest pixels, black from outside, shifts by whole pixels."""
    if number is None:
        return Operation(name.lower()), 0.0
    magnitudes, signed = space[name]
    amount = float(magnitudes[number]) * (way if signed else 1)
    if name in AXIS:
        # torchvision moves the image, Pillow's matrix the place that is read
        amount = -int(amount) if name.startswith("Translate") else amount
        made = matrices(name, np.array([amount]), size)[0]
        return affine(name, "nearest", (0,)), made
    return Operation(name.lower()), 1.0 + amount if signed else amount


def released(name: str, number: int | None, way: int, *, size: int) -> tuple[Operation, Strength]:
    """`augment.ReleasedAutoAugment`"""
    if number is None:
        return Operation(name.lower()), 0.0
    part, grey = number / 9, ReleasedAutoAugment.GREY[:1]
    if name == "Rotate":
        return affine(name, "nearest", grey), matrices(name, np.array([30 * part]), size)[0]
    if name == "Posterize":
        return Operation("posterize"), float(round(8 - 4 * part))
    if name == "Solarize":
        return Operation("solarize"), 256 * (1 - part)
    amount = ReleasedAutoAugment.EITHER_WAY[name] * part * way
    if name in AXIS:
        amount = amount * size if name.startswith("Translate") else amount
        filters = "bicubic" if name.startswith("Shear") else "nearest"
        return affine(name, filters, grey), matrices(name, np.array([amount]), size)[0]
    return Operation(name.lower()), 1 + amount


def steps_of(
    recipe: Recipe, size: int, mean: Sequence[float], *, shape: tuple[int, int]
) -> list[Step]:
    """What a recipe asks for of images that are stored with a shape, in the order of `Augmented`:
    crop, RandAugment, colours, reflections and quarter turns, AutoAugment.
    """
    steps: list[Step] = []
    if recipe.crop == "random-resized":
        steps.append(ResizedCrop(size, shape, recipe.crop_scale, recipe.interpolation))
    elif recipe.crop == "pad" and size // 8:
        steps.append(PaddedCrop(size // 8))
    if recipe.randaugment:
        steps.append(RandAugment(recipe.randaugment, recipe.interpolation, size, mean))
    if recipe.color_jitter:
        steps.append(Jitter(recipe.color_jitter))
    if recipe.hflip or recipe.vflip or recipe.rotate90:
        steps.append(Reflection(recipe.hflip, recipe.vflip, recipe.rotate90))
    if recipe.autoaugment:
        steps.append(Policy(recipe.autoaugment, size))
    return steps
