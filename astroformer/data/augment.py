"""From stored pixels to batches: order, crops, flips, RandAugment, AutoAugment, erased rectangles,
mixing.

Every random draw is a function of (seed, epoch, index of the image) or (seed, step), never of what
was drawn before. (Where an epoch holds an image several times, of the repetition too.) So the
number of loader processes does not change a batch, and a resumed run needs no generator state.

RandAugment, random-resized crops, erasing and mixing are timm's own parts, since the published
recipes mean those; AutoAugment is torchvision's, and beside it the form in which ViT-CIFAR was
trained. Squares of a given side (Cutout) and Mixup beside CutMix are for studies of ours.
"""

import hashlib
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from timm.data import Mixup
from timm.data.auto_augment import RandAugment, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, ColorJitter, RandomCrop

from astroformer.data.images import Images
from astroformer.data.loader import ImageDataset
from astroformer.data.pixels import as_array, each_band, pictured
from astroformer.recipes import Recipe

# What a seed is for. Two purposes never share one, whatever their numbers.
ORDER, CLASSES, IMAGE, MIXING, DROPOUT, SHOWN, ON_DEVICE = range(7)
LARGEST = 2**63 - 1  # of the numbers that seeds are made from


def derive(purpose: int, *numbers: int) -> int:
    """A 63-bit seed for a purpose, from several numbers: the digest (BLAKE2b) of the purpose, of
    how many numbers there are, and of each in 64 bits. So (3, 1) and (3, 1, 0) have two texts.
    """
    return int.from_bytes(_digest(purpose, numbers, 8), "little") >> 1


def _digest(purpose: int, numbers: tuple[int, ...], size: int) -> bytes:
    try:
        text = struct.pack(f"<qq{len(numbers)}q", purpose, len(numbers), *numbers)
    except struct.error as error:
        raise ValueError(f"a seed is made from whole numbers below 2^63, not {numbers}") from error
    return hashlib.blake2b(text, digest_size=size).digest()


def seed_generators(seed: int) -> None:
    """Seeds the generators of Python, NumPy and, on the CPU alone, torch: `torch.manual_seed` looks
    for accelerators each time and takes a hundred times as long.
    """
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Puts the generators of Python, NumPy and torch (on the CPU) back afterwards."""
    python, numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(of_torch)


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seeds Python, NumPy and torch on the CPU from the numbers, and puts them back afterwards."""
    with generators_kept():
        seed_generators(derive(SHOWN, *numbers))
        yield


def drawing_alike(change: Callable) -> Callable:
    """The change with the same random draws each time that it is called."""
    python, numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()

    def changed(picture: Image.Image) -> Image.Image:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(of_torch)
        return change(picture)

    return changed


class Augmented(ImageDataset):
    """Training images under a recipe's per-image augmentation: item (epoch, index) is
    (uint8 (C, H, W), label).

    Item (epoch, index, n) is the n-th repetition of the image within that epoch, with random draws
    of its own. `mean` is that of the channels, with which RandAugment fills what it lays bare; None
    measures it.

    Images of one band are changed as grey ones, and of other numbers than three each band as a grey
    image with the same draws: crops and turns are alike in all of them, and changes of colour,
    which mix red, green and blue, do nothing.
    """

    def __init__(
        self, images: Images, recipe: Recipe, *, seed: int, mean: Sequence[float] | None = None
    ):
        super().__init__(images)
        self.recipe, self.seed = recipe, seed
        self.mirror_labels = images.mirror_labels()
        self.fill = images.statistics()[0] if mean is None and recipe.randaugment else mean
        self.build()

    def build(self) -> None:
        channels, size = self.images.channels, self.images.image_size
        fills: list = [self.fill]
        if channels not in (1, 3):
            fills = [[value] for value in self.fill] if self.fill else [None] * channels
        # of the image, or of each band
        self.transforms = [per_image_transforms(self.recipe, size, fill) for fill in fills]
        self.policy = auto_augment(self.recipe.autoaugment) if self.recipe.autoaugment else None

    def __getitem__(self, key: tuple[int, ...]) -> tuple[Tensor, int | np.ndarray]:
        with generators_kept():
            return super().__getitem__(key)

    def __getitems__(self, keys: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        with generators_kept():  # once a batch, as it takes as long as a small image
            return super().__getitems__(keys)

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"transforms": None, "policy": None}  # `build` makes them

    def image(self, key: tuple[int, ...]) -> tuple[np.ndarray, int | np.ndarray]:
        """(uint8 (H, W, C), label or probabilities (K,)); leaves the generators seeded."""
        index = key[1]
        # A crop of random size is cut from the image as it is stored, everything else from the
        # square that is evaluated too.
        whole = self.recipe.crop == "random-resized"
        pixels = self.images.picture(index) if whole else self.images.pixels[index]
        label = self.images.target(index)
        drawn = _digest(IMAGE, (self.seed, *key), 32)
        if self.transforms[0] or self.policy:
            seed_generators(int.from_bytes(drawn[:8], "little") >> 1)
        if self.transforms[0]:
            pixels = self._transformed(pixels)
        pixels, label = self.reflect_and_rotate(pixels, label, drawn[8:])
        # last: a reflection after it would turn the released policy's one-sided rotations round
        if self.policy:
            image = pictured(np.ascontiguousarray(pixels))
            pixels = (
                as_array(self.policy(image))
                if isinstance(image, Image.Image)
                else each_band(image, drawing_alike(self.policy))
            )
        return pixels, label

    def _transformed(self, pixels: np.ndarray | Image.Image) -> np.ndarray:
        of_bands = iter(self.transforms)

        def change(image: Image.Image) -> Image.Image:
            for transform in next(of_bands):
                image = transform(image)
            return image

        image = pictured(pixels)
        if isinstance(image, Image.Image):
            return as_array(change(image))
        return each_band(image, drawing_alike(change))

    def reflect_and_rotate(
        self, pixels: np.ndarray, label: int | np.ndarray, drawn: bytes
    ) -> tuple[np.ndarray, int | np.ndarray]:
        """Reflections change the label of classes that have a handedness (spirals seen in a
        mirror). What is done follows from 24 random bytes.
        """
        left_right, up_down, turns = struct.unpack("<3Q", drawn)
        if left_right < self.recipe.hflip * 2**64:
            pixels, label = pixels[:, ::-1], mirrored(label, self.mirror_labels)
        if up_down < self.recipe.vflip * 2**64:
            pixels, label = pixels[::-1], mirrored(label, self.mirror_labels)
        if self.recipe.rotate90:
            pixels = np.rot90(pixels, turns % 4)
        return pixels, label


def mirrored(label: int | np.ndarray, mirror_labels: np.ndarray) -> int | np.ndarray:
    """The label, or the probabilities (K,), of an image seen in a mirror."""
    return label[mirror_labels] if isinstance(label, np.ndarray) else int(mirror_labels[label])


def per_image_transforms(recipe: Recipe, size: int, fill: Sequence[float] | None) -> list[Callable]:
    """PIL image -> PIL image, in timm's order: crop, RandAugment, colour."""
    transforms: list[Callable] = []
    if recipe.crop == "random-resized":
        transforms.append(
            RandomResizedCropAndInterpolation(
                size, scale=recipe.crop_scale, interpolation=recipe.interpolation
            )
        )
    elif recipe.crop == "pad":
        transforms.append(RandomCrop(size, padding=size // 8))
    if recipe.randaugment:
        colour = tuple(round(255 * value) for value in fill)
        settings = {"translate_const": int(0.45 * size), "img_mean": colour}
        if recipe.interpolation != "random":  # else timm draws one of the two each time
            settings["interpolation"] = getattr(Image.Resampling, recipe.interpolation.upper())
        transforms.append(rand_augment(recipe.randaugment, settings))
    if recipe.color_jitter:
        transforms.append(ColorJitter(*[recipe.color_jitter] * 3))
    return transforms


def rand_augment(words: str, settings: dict) -> RandAugment:
    """timm's RandAugment, posterising to one bit a channel at the strongest.

    With a spread of magnitudes (mstd) timm asks now and then for no bits at all, which recent
    Pillow refuses.
    """
    try:
        policy = rand_augment_transform(words, settings)
    except (AssertionError, ValueError, IndexError) as error:
        raise ValueError(
            f"randaugment {words!r} is not in timm's words, such as rand-m9-mstd0.5-inc1"
        ) from error
    for op in policy.ops:
        if op.name.startswith("Posterize"):
            op.level_fn = AtLeastOneBit(op.level_fn)
    return policy


class AtLeastOneBit:
    """timm's rule for the strength of posterising, with one bit instead of none."""

    def __init__(self, rule: Callable[[float, dict], tuple[int]]):
        self.rule = rule

    def __call__(self, level: float, settings: dict) -> tuple[int]:
        return (max(1, self.rule(level, settings)[0]),)


def auto_augment(name: str) -> Callable[[Image.Image], Image.Image]:
    """AutoAugment (Cubuk et al. 2019) by a recipe's word: "cifar10" or "svhn", torchvision's, or
    "cifar10-released", ...
    """
    dataset, _, form = name.partition("-")
    policy = AutoAugment(AutoAugmentPolicy(dataset))
    return ReleasedAutoAugment(policy.policies) if form else policy


# by data set
POLICIES = {"cifar10": "cifar10-released", "cifar100": "cifar10-released", "svhn": "svhn-released"}


def policy_of(dataset: str) -> str:
    """A recipe's word for the policy that ViT-CIFAR's release takes for a data set."""
    if dataset not in POLICIES:
        raise ValueError(
            f"there is no AutoAugment policy for data set {dataset!r}, only for "
            f"{', '.join(POLICIES)}; choose one of "
            "them by --set autoaugment=cifar10-released or svhn-released"
        )
    return POLICIES[dataset]


class ReleasedAutoAugment:
    """AutoAugment as in github.com/DeepVoltaire/AutoAugment, with which ViT-CIFAR was trained. It
    draws from the same pairs of operations, with the same probabilities and strengths (0..9), as
    torchvision's. It differs in the operations:
    - a rotation always goes anticlockwise; in torchvision's form, and in the paper, either way
    - pixels from outside the image are grey, not black; shears are bicubic, not nearest; shifts are
      not cut to whole pixels
    - thresholds of solarising are counted down from 256, not 255
    """

    GREY = (128, 128, 128)
    # at strength 9; shifts are parts
    EITHER_WAY = dict(
        ShearX=0.3,
        ShearY=0.3,
        TranslateX=150 / 331,
        TranslateY=150 / 331,
        # of the image's width or height
        Color=0.9,
        Contrast=0.9,
        Brightness=0.9,
        Sharpness=0.9,
    )
    PLAIN = dict(
        AutoContrast=ImageOps.autocontrast, Equalize=ImageOps.equalize, Invert=ImageOps.invert
    )

    def __init__(self, pairs: list[tuple]):
        self.pairs = pairs

    def __call__(self, image: Image.Image) -> Image.Image:
        for name, probability, strength in random.choice(self.pairs):
            if random.random() < probability:
                image = self.apply(image, name, strength)
        return image

    def apply(self, image: Image.Image, name: str, strength: int | None) -> Image.Image:
        """One operation; the direction of those that have two is drawn."""
        if name in self.PLAIN:
            return self.PLAIN[name](image)
        part = strength / 9
        if name == "Rotate":
            return image.rotate(30 * part, fillcolor=self.grey(image))
        if name == "Posterize":
            return ImageOps.posterize(image, round(8 - 4 * part))
        if name == "Solarize":
            return ImageOps.solarize(image, 256 * (1 - part))
        amount = self.EITHER_WAY[name] * part * random.choice((-1, 1))
        if name.startswith(("Shear", "Translate")):
            return self.affine(image, name, amount)
        return getattr(ImageEnhance, name)(image).enhance(1 + amount)

    def grey(self, image: Image.Image) -> tuple[int, ...]:
        return self.GREY[: len(image.getbands())]

    def affine(self, image: Image.Image, name: str, amount: float) -> Image.Image:
        """Pillow reads pixel (x, y) of the result at (a x + b y + c, d x + e y + f) of the
        image.
        """
        matrix = dict(
            ShearX=(1, amount, 0, 0, 1, 0),
            TranslateX=(1, 0, amount * image.width, 0, 1, 0),
            ShearY=(1, 0, 0, amount, 1, 0),
            TranslateY=(1, 0, 0, 0, 1, amount * image.height),
        )[name]
        resampling = (
            Image.Resampling.BICUBIC if name.startswith("Shear") else Image.Resampling.NEAREST
        )
        return image.transform(
            image.size, Image.Transform.AFFINE, matrix, resampling, fillcolor=self.grey(image)
        )


def keys_of_epoch(
    dataset: Augmented, batch_size: int, *, epoch: int, skip: int = 0
) -> list[list[tuple[int, ...]]]:
    """The batches of one epoch as keys of the data set, without the incomplete last one: (epoch,
    index), or (epoch, index, n) for an image's n-th repetition. `skip` leaves out the first batches
    (on resuming).
    """
    order = order_of_epoch(
        dataset.images.labels,
        batch_size,
        sampling=dataset.recipe.sampling,
        seed=dataset.seed,
        epoch=epoch,
    )
    met: Counter[int] = Counter()
    keys = []
    for index in order.tolist():
        keys.append((epoch, index, met[index]) if met[index] else (epoch, index))
        met[index] += 1
    starts = range(skip * batch_size, len(order) - batch_size + 1, batch_size)
    return [keys[start : start + batch_size] for start in starts]


def order_of_epoch(
    labels: np.ndarray, batch_size: int, *, sampling: str, seed: int, epoch: int
) -> np.ndarray:
    """Indices of the images in the order of an epoch, (N,), a function of its arguments alone.

    shuffled: a permutation
    stratified: a permutation in whose batches each class has its part of the data set, rounded up
        or down
    balanced: as many images of each class as of the others (up to one), a small class coming round
        again and a large one showing a part of itself, another in each epoch; the batches as in
        "stratified"
    """
    if sampling == "shuffled":
        return torch.randperm(
            len(labels), generator=torch.Generator().manual_seed(derive(ORDER, seed, epoch))
        ).numpy()
    random_numbers = np.random.default_rng(derive(CLASSES, seed, epoch))
    members = [
        random_numbers.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)
    ]
    if sampling == "balanced":
        # which classes have one more
        more = random_numbers.permutation(len(members)) < len(labels) % len(members)
        members = [
            cycled(own, len(labels) // len(members) + int(one), random_numbers)
            for own, one in zip(members, more)
        ]
    return evenly_spread(members, batch_size, random_numbers)


def cycled(members: np.ndarray, number: int, random_numbers: np.random.Generator) -> np.ndarray:
    """So many of a class: all of it in another order each time round, the last time a part."""
    rounds = -(-number // len(members))
    return np.concatenate(
        [members, *(random_numbers.permutation(members) for _ in range(rounds - 1))]
    )[:number]


def evenly_spread(
    members: list[np.ndarray], batch_size: int, random_numbers: np.random.Generator
) -> np.ndarray:
    """All members of all classes, so that every whole batch has of a class its quota, size x batch
    / N, rounded up or down.

    The rounding is systematic sampling. Each batch gives every class its quota rounded down; the
    places that are left go to the classes hit by a comb with one tooth a place, on a line where a
    class is as long as the rest of its quota. The combs of the batches begin at evenly spaced
    offsets in random order, so that over the epoch, too, no class gets more than it has.
    """
    sizes, total = np.array([len(own) for own in members]), sum(map(len, members))
    batches = total // batch_size
    if not batches:
        return random_numbers.permutation(np.concatenate(members))
    quota, rest = np.divmod(sizes * batch_size, total)  # of a batch; the rest in units of 1 / total
    ends = rest.cumsum() * batches  # on the line, in units of 1 / (total x batches)
    teeth = np.arange(rest.sum() // total) * total * batches
    offsets = random_numbers.permutation(batches) * total + random_numbers.integers(total)
    taken, order = np.zeros(len(members), dtype=int), []
    for offset in offsets:
        number = quota + np.bincount(
            np.searchsorted(ends, teeth + offset, side="right"), minlength=len(members)
        )
        order.append(
            random_numbers.permutation(
                np.concatenate(
                    [own[start : start + n] for own, start, n in zip(members, taken, number)]
                )
            )
        )
        taken += number
    left = np.concatenate([own[start:] for own, start in zip(members, taken)])  # fewer than a batch
    return np.concatenate([*order, random_numbers.permutation(left)])


def normalise(
    pixels: Tensor,
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(..., C, H, W) of 0..255 -> 0..1, less the mean of each channel, over its deviation."""
    mean, std = (
        torch.as_tensor(value, device=pixels.device).view(-1, 1, 1) for value in (mean, std)
    )
    return (pixels.to(dtype) / 255 - mean) / std


class BatchAugmentation:
    """Normalisation, Cutout, Mixup and CutMix of one batch on its device, and the targets that
    result.

    (B, C, H, W) uint8, labels (B,) or probabilities (B, K) -> (B, C, H, W) float, (B, K)
    probabilities
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        mean: list[float],
        std: list[float],
        num_classes: int,
        device: torch.device,
    ):
        self.mean, self.std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        self.recipe, self.num_classes = recipe, num_classes
        self.cut = self.erase = None
        if recipe.cutout and recipe.cutout_side:
            self.cut = Cutout(recipe.cutout, side=recipe.cutout_side, mode=recipe.erase_mode)
        elif recipe.cutout:
            self.erase = RandomErasing(
                recipe.cutout, mode=recipe.erase_mode, max_area=1 / 3, device=device
            )
        # timm's own, of labels; and of probabilities, with timm's two parts together or one by one
        self.mix = self.mix_targets = None
        if recipe.mixup or recipe.cutmix:
            alphas = dict(mixup_alpha=recipe.mixup, cutmix_alpha=recipe.cutmix)
            smoothing = dict(label_smoothing=recipe.label_smoothing, num_classes=num_classes)
            if recipe.mixing == "independent":
                both = [{name: value} for name, value in alphas.items() if value]
                self.mix_targets = Mixing(both, mode=recipe.mixup_mode, probability=0.5)
            else:
                self.mix = Mixup(**alphas, mode=recipe.mixup_mode, **smoothing)
                self.mix_targets = Mixing([alphas], mode=recipe.mixup_mode)

    def __call__(self, images: Tensor, labels: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        images = normalise(images, self.mean, self.std)
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        if self.cut:
            images = self.cut(images, seed=seed)
        if self.erase:
            images = self.erase(images)
        if self.mix and labels.ndim == 1:
            return self.mix(images, labels)
        targets = smoothed(
            labels, self.num_classes, self.recipe.label_smoothing, over=self.recipe.smoothing_over
        )
        return self.mix_targets(images, targets) if self.mix_targets else (images, targets)


class Cutout:
    """Cutout (DeVries & Taylor 2017): erases a square of an image. Its centre is any pixel, each as
    likely as the others, so that the square may reach over the border and then covers less.

    (B, C, H, W) -> the same

    side: of the square, as a part of the image's shorter side
    mode: what the square is filled with, as timm's RandomErasing has it: "const" (zero, which is
        the mean of normalised pixels), one colour at "rand", or each "pixel" its own, both normal
    """

    def __init__(self, probability: float, *, side: float, mode: str = "const"):
        self.probability, self.side, self.mode = probability, side, mode

    def __call__(self, images: Tensor, *, seed: int) -> Tensor:
        number, channels, height, width = images.shape
        length = max(1, round(self.side * min(height, width)))
        draws = np.random.default_rng(seed)  # the same squares on every device
        hit = torch.from_numpy(draws.random(number) < self.probability).to(images.device)
        rows, columns = (
            self._covered(torch.from_numpy(draws.integers(size, size=number)), size, length).to(
                images.device
            )
            for size in (height, width)
        )
        erased = hit[:, None, None] & rows[:, :, None] & columns[:, None, :]
        return torch.where(erased[:, None], self._filling(images, seed), images)

    @staticmethod
    def _covered(centres: Tensor, size: int, length: int) -> Tensor:
        """(B,) -> (B, size) bool: the positions of one axis within a length around each centre."""
        offsets = torch.arange(size) - (centres[:, None] - length // 2)
        return (offsets >= 0) & (offsets < length)

    def _filling(self, images: Tensor, seed: int) -> Tensor:
        """What the squares are filled with; its shape is broadcast to that of the images."""
        if self.mode == "const":
            return images.new_zeros(())
        number, channels, height, width = images.shape
        shape = (height, width) if self.mode == "pixel" else (1, 1)
        generator = torch.Generator(images.device).manual_seed(seed)
        return torch.randn(
            (number, channels, *shape),
            generator=generator,
            device=images.device,
            dtype=images.dtype,
        )


class Mixing:
    """timm's Mixup and CutMix of images whose targets are probabilities: several after one another,
    each with a probability whatever comes of the others, to a batch, or with mode "elem" or "pair"
    to each image or pair. Where Mixup comes before CutMix, the latter cuts from images that the
    former has mixed.

    (B, C, H, W), (B, K) probabilities -> the same. Mixes the images in place.

    parts: `mixup_alpha` and `cutmix_alpha` of each; one that is missing never comes
    """

    def __init__(self, parts: list[dict[str, float]], *, mode: str, probability: float = 1.0):
        never = dict(mixup_alpha=0.0, cutmix_alpha=0.0, label_smoothing=0.0)
        self.parts = [
            Mixup(**never | alphas, prob=probability, mode=mode, num_classes=2) for alphas in parts
        ]

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # timm pairs the first image with the last and takes labels, not probabilities. With the
        # two halves of the batch as classes, it says which part of itself each image keeps.
        half = (torch.arange(len(images), device=images.device) >= len(images) // 2).long()
        for part in self.parts:
            images, halves = part(images, half)
            kept = halves.gather(1, half[:, None])
            targets = kept * targets + (1 - kept) * targets.flip(0)
        return images, targets


def smoothed(labels: Tensor, num_classes: int, smoothing: float, *, over: str = "all") -> Tensor:
    """(B,) or probabilities (B, K) -> (B, K) probabilities: `smoothing` spread over "all" K classes
    (PyTorch), or over the K - 1 "others" (ViT-CIFAR).
    """
    if over == "others":
        elsewhere, here = smoothing / max(1, num_classes - 1), 1 - smoothing
    else:
        elsewhere, here = smoothing / num_classes, 1 - smoothing + smoothing / num_classes
    if labels.ndim == 2:
        return elsewhere + (here - elsewhere) * labels
    return torch.full((len(labels), num_classes), elsewhere, device=labels.device).scatter_(
        1, labels[:, None], here
    )
