"""From stored pixels to batches: order, crops, flips, RandAugment, regional dropout, mixing.

Every random draw is a function of (seed, epoch, index of the image) or (seed, step), never of what was drawn before.
So the number of loader workers does not change a batch, and a resumed run needs no generator state.

RandAugment, random-resized crops, erasing and mixing are timm's own parts, since the published recipes mean those.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from timm.data import Mixup
from timm.data.auto_augment import RandAugment, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from timm.layers import DropBlock2d
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import ColorJitter, RandomCrop

from astroformer.data.images import Images
from astroformer.recipes import Recipe


def derive(*numbers: int) -> int:
    """A 32-bit seed from several numbers; unlike their sum, no two tuples share one by arithmetic."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seeds Python, NumPy and torch on the CPU from the numbers, and puts torch's generator back afterwards."""
    with torch.random.fork_rng(devices=[]):
        seed = derive(*numbers)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        yield


class Augmented(Dataset):
    """Training images under a recipe's per-image augmentation: item (epoch, index) is (uint8 (3, H, W), label)."""

    def __init__(self, images: Images, recipe: Recipe, *, seed: int):
        self.images, self.recipe, self.seed = images, recipe, seed
        self.mirror_labels = images.mirror_labels()
        self.transforms = per_image_transforms(recipe, images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        pixels, label = self.images.pixels[index], int(self.images.labels[index])
        with seeded(self.seed, epoch, index):
            if self.transforms:
                image = Image.fromarray(pixels)
                for transform in self.transforms:
                    image = transform(image)
                pixels = np.asarray(image)
            pixels, label = self.reflect_and_rotate(pixels, label)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), label  # (3, H, W)

    def reflect_and_rotate(self, pixels: np.ndarray, label: int) -> tuple[np.ndarray, int]:
        """Reflections change the label of classes that have a handedness (spirals seen in a mirror)."""
        if self.recipe.hflip and random.random() < self.recipe.hflip:
            pixels, label = pixels[:, ::-1], int(self.mirror_labels[label])
        if self.recipe.vflip and random.random() < self.recipe.vflip:
            pixels, label = pixels[::-1], int(self.mirror_labels[label])
        if self.recipe.rotate90:
            pixels = np.rot90(pixels, random.randrange(4))
        return pixels, label


def per_image_transforms(recipe: Recipe, images: Images) -> list:
    """PIL image -> PIL image, in timm's order: crop, RandAugment, colour."""
    size, transforms = images.image_size, []
    if recipe.crop == "random-resized":
        transforms.append(RandomResizedCropAndInterpolation(size, scale=recipe.crop_scale, interpolation="bicubic"))
    elif recipe.crop == "pad":
        transforms.append(RandomCrop(size, padding=size // 8))
    if recipe.randaugment:
        fill = tuple(round(255 * value) for value in images.statistics()[0])
        transforms.append(rand_augment(recipe.randaugment, dict(translate_const=int(0.45 * size), img_mean=fill)))
    if recipe.color_jitter:
        transforms.append(ColorJitter(*[recipe.color_jitter] * 3))
    return transforms


def rand_augment(words: str, settings: dict) -> RandAugment:
    """timm's RandAugment, posterising to one bit a channel at the strongest.

    With a spread of magnitudes (mstd) timm asks now and then for no bits at all, which recent Pillow refuses.
    """
    policy = rand_augment_transform(words, settings)
    for op in policy.ops:
        if op.name.startswith("Posterize"):
            op.level_fn = lambda level, settings, bits=op.level_fn: (max(1, bits(level, settings)[0]),)
    return policy


class EpochOrder(Sampler):
    """Yields (epoch, index) in the order of that epoch's permutation, from batch `skip` on."""

    def __init__(self, number: int, *, seed: int, epoch: int, skip: int = 0):
        self.number, self.seed, self.epoch, self.skip = number, seed, epoch, skip

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(derive(self.seed, self.epoch))
        order = torch.randperm(self.number, generator=generator).tolist()
        yield from ((self.epoch, index) for index in order[self.skip:])

    def __len__(self) -> int:
        return self.number - self.skip


def train_batches(dataset: Augmented, batch_size: int, *, epoch: int, skip: int = 0, workers: int = 0,
                  pin_memory: bool = False) -> DataLoader:
    """Batches of one epoch, without the incomplete last one; `skip` leaves out the first batches (on resuming)."""
    order = EpochOrder(len(dataset), seed=dataset.seed, epoch=epoch, skip=skip * batch_size)
    return DataLoader(dataset, batch_size, sampler=order, num_workers=workers, drop_last=True, pin_memory=pin_memory)


def normalise(pixels: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor, *,
              dtype: torch.dtype = torch.float32) -> Tensor:
    """(..., 3, H, W) of 0..255 -> 0..1, less the mean of each channel, over its deviation."""
    mean, std = (torch.as_tensor(value, device=pixels.device).view(3, 1, 1) for value in (mean, std))
    return (pixels.to(dtype) / 255 - mean) / std


class BatchAugmentation:
    """Normalisation, Cutout, Mixup and CutMix of one batch on its device, and the targets that result.

    (B, 3, H, W) uint8, (B,) -> (B, 3, H, W) float, (B, K) probabilities
    """

    def __init__(self, recipe: Recipe, *, mean: list[float], std: list[float], num_classes: int, device: torch.device):
        self.mean, self.std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        self.recipe, self.num_classes = recipe, num_classes
        self.erase = RandomErasing(recipe.cutout, mode="const", max_area=1 / 3, device=device) if recipe.cutout else None
        self.mix = None
        if recipe.mixup or recipe.cutmix:
            self.mix = Mixup(mixup_alpha=recipe.mixup, cutmix_alpha=recipe.cutmix, mode=recipe.mixup_mode,
                             label_smoothing=recipe.label_smoothing, num_classes=num_classes)

    def __call__(self, images: Tensor, labels: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        images = normalise(images, self.mean, self.std)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        if self.erase:
            images = self.erase(images)
        if self.mix:
            return self.mix(images, labels)
        smoothing = self.recipe.label_smoothing
        targets = torch.full((len(labels), self.num_classes), smoothing / self.num_classes, device=labels.device)
        return images, targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / self.num_classes)


def add_dropblock(model: nn.Module, rate: float) -> None:
    """DropBlock (Ghiasi et al. 2018) on the output of every stage while training: 7 x 7 blocks or as large as the grid allows."""
    for info in model.feature_info[1:]:
        block = DropBlock2d(drop_prob=rate, block_size=7)
        model.get_submodule(info["module"]).register_forward_hook(
            lambda stage, _, output, block=block: block.train(stage.training)(output))
