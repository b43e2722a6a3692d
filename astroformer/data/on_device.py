"""Training images whole in the memory of the device that trains, and augmented there, many at once.

Reads top to bottom: training_loader, DeviceLoader, where the images lie. What is drawn and done is
in `device_steps`, how each operation computes in `device_operations`.

The distributions are those of `Augmented`, from another stream of random numbers: a run with
`augmentation=device` is another run. Every number is a function of (seed, epoch, index of the
image, repetition) and of what it is for, made on the host: an image does not depend on the batch it
comes in, on how many batches are augmented at once, on the ranks, or on the device.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from astroformer import machine
from astroformer.data.augment import Augmented
from astroformer.data.device_steps import HOST, Draws, Plan, steps_of
from astroformer.data.images import Images
from astroformer.data.loader import Loader
from astroformer.recipes import Recipe

IMAGES_AT_ONCE = 4_096  # of several batches, augmented together: starting kernels takes time
BYTES_AT_ONCE = 48 * 2**20  # of their pixels as uint8


def training_loader(
    images: Images,
    recipe: Recipe,
    *,
    seed: int,
    mean: Sequence[float],
    device: torch.device,
    workers: int = 0,
    pin_memory: bool = False,
) -> "tuple[Augmented, Loader | DeviceLoader]":
    """Training images under a recipe, whose keys `augment.keys_of_epoch` gives, and what makes
    batches of such keys where the recipe says.
    """
    dataset = Augmented(images, recipe, seed=seed, mean=mean)
    if recipe.canonical().get("augmentation") == "device":
        return dataset, DeviceLoader(images, recipe, seed=seed, mean=mean, device=device)
    return dataset, Loader(dataset, workers=workers, pin_memory=pin_memory)


class DeviceLoader:
    """Batches of training images under a recipe's per-image augmentation, on a device.

    mean: of the channels, in units of 0..1, with which RandAugment fills what it lays bare
    room: bytes that the images may take on the device; None is half of what is free there

    ValueError in one line where the images do not fit, or a recipe asks for what is done on the
    host alone.
    """

    def __init__(
        self,
        images: Images,
        recipe: Recipe,
        *,
        seed: int,
        mean: Sequence[float],
        device: torch.device,
        room: int | None = None,
    ):
        self.recipe, self.seed, self.device = recipe, seed, torch.device(device)
        self.size = images.image_size
        # probabilities (N, K) where training's targets are soft
        self.labels = np.asarray(images.labels if images.targets is None else images.targets)
        self.mirror_labels = images.mirror_labels()
        # what cannot be done is said before images are decoded
        steps_of(recipe, self.size, mean, shape=(self.size, self.size))
        room = room_on(self.device) if room is None else room
        self.pixels = stored(images, recipe, self.device, room)  # (N, C, H, W)
        height, width = self.pixels.shape[2:]
        self.steps = steps_of(recipe, self.size, mean, shape=(height, width))

    def batches(self, keys: list[list[tuple[int, ...]]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one pass, a list of keys each: uint8 (B, C, size, size), int64 (B,)."""
        each = max(self.pixels[0].numel(), self.pixels.shape[1] * self.size**2)
        most = min(IMAGES_AT_ONCE, BYTES_AT_ONCE // each)
        for some in together(keys, most):
            images, labels = self.augmented(list(itertools.chain.from_iterable(some)))
            end = 0
            for batch in some:
                start, end = end, end + len(batch)
                yield images[start:end], labels[start:end]

    def augmented(self, keys: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """Images of any number of keys at once, uint8 (B, C, size, size), and labels (B,), or
        probabilities (B, K).
        """
        draws = Draws(self.seed, keys)
        labels = self.labels[draws.index]
        plan = Plan()
        index = plan.add(draws.index)
        planned = [(step, step.planned(draws, plan)) for step in self.steps]
        for step in self.steps:
            labels = step.labelled(labels, draws, self.mirror_labels)
        label = plan.add(labels)
        arrays = plan.on(self.device)
        images = self.pixels.index_select(0, arrays[index])
        for step, slots in planned:
            images = step.applied(images, slots, arrays)
        target = arrays[label]
        return images, target.float() if target.is_floating_point() else target

    def close(self) -> None:
        """Gives the memory of the images back."""
        self.pixels = self.pixels.new_empty(0)


def together(keys: list[list], most: int) -> Iterator[list[list]]:
    """As many batches that follow one another as hold no more than `most` images, at least one."""
    some: list[list] = []
    number = 0
    for batch in keys:
        if some and number + len(batch) > most:
            yield some
            some, number = [], 0
        some.append(batch)
        number += len(batch)
    if some:
        yield some


def room_on(device: torch.device) -> int | None:
    """Half of the bytes that are free on a device; None where nobody tells."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (torch.cuda.mem_get_info(device)[0] + held) // 2
    return machine.free_memory() // 2 if machine.tells_memory() else None


def stored(images: Images, recipe: Recipe, device: torch.device, room: int | None) -> Tensor:
    """All images on the device, uint8 (N, C, H, W): squares, or for crops of random size the images
    as they are stored.
    """
    number, size, channels = len(images), images.image_size, images.channels
    whole = recipe.crop == "random-resized" and not isinstance(images.pixels, np.ndarray)
    height, width = images.whole(0).shape[:2] if whole else (size, size)
    needed = number * channels * height * width
    if room is not None and needed > room:
        raise ValueError(
            f"augmentation=device keeps all {number:,} training images on {device}: "
            f"{needed / 1e9:.2f} GB, and {room / 1e9:.2f} GB may be taken; {HOST}"
        )
    pixels = torch.empty(number, channels, height, width, dtype=torch.uint8, device=device)
    at_once = max(1, BYTES_AT_ONCE // (channels * height * width))
    for start in range(0, number, at_once):
        stop = min(start + at_once, number)
        some = wholes(images, start, stop, (height, width)) if whole else images.array(start, stop)
        pixels[start:stop] = torch.from_numpy(some).to(device).permute(0, 3, 1, 2)
    return pixels


def wholes(images: Images, start: int, stop: int, shape: tuple[int, int]) -> np.ndarray:
    """Images as they are stored, (n, H, W, C), all of which must have one shape."""
    found = [images.whole(index) for index in range(start, stop)]
    for one in found:
        if one.shape[:2] != shape:
            raise ValueError(
                "augmentation=device with crop=random-resized needs stored images of one size, and "
                f"there are {shape[0]} x {shape[1]} and {one.shape[0]} x {one.shape[1]} pixels; "
                f"{HOST}, or crop=pad"
            )
    return np.stack(found)
