"""What augmentation makes of single images, and which label each result carries: for a plate, with
the training's own parts.

Reads top to bottom: mixing and erasing, RandAugment, DropBlock's holes, spirals and their mirror
images.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from timm.layers import DropBlock2d

from astroformer import data, paths
from astroformer.counting.cost import on_meta
from astroformer.data import About, Images
from astroformer.data.augment import Augmented, BatchAugmentation, seeded
from astroformer.models.shared import listed_parts
from astroformer.recipes import get_recipe
from astroformer.studies import design
from astroformer.training.dropblock import BLOCK_SIZE

STAGE = "stages.0"  # whose output the plate shows DropBlock on
# no augmentation at all
PLAIN = get_recipe("smoke", label_smoothing=0.0, hflip=0.0, vflip=0.0, rotate90=False)
# as Galaxy Zoo 1 names them: the sense in which arms that trail rotate
HANDED = ("spiral_anticlockwise", "spiral_clockwise")
REAL = "galaxyzoo1-128"  # the folder of that archive below ASTROFORMER_DATA


@dataclass(frozen=True)
class Shown:
    """An image (H, W, 3), uint8, and the label with which it is trained, in words."""

    pixels: np.ndarray
    label: str


def one_of_each(images: Images, *, skip: int = 0) -> Images:
    """The first image of every class, or the one after so many; a class that has fewer shows its
    last.
    """
    members = [np.flatnonzero(images.labels == label) for label in np.unique(images.labels)]
    return images.take(np.array([own[min(skip, len(own) - 1)] for own in members]))


def in_words(target: np.ndarray, classes: tuple[str, ...]) -> str:
    """Probabilities (K,) as "0.62 barred spiral + 0.38 merging", the largest first; a single
    class by its name alone.
    """
    order = [
        label for label in np.argsort(-target, kind="stable") if round(float(target[label]), 2) > 0
    ]
    if len(order) == 1:
        return classes[order[0]]
    return " + ".join(f"{target[label]:.2f} {classes[label]}" for label in order)


# Mixing and erasing

# what is switched on, everything else off; a weight for each image, to show more of them than one
# for a batch
METHODS = {
    "as it is": {},
    "Mixup": dict(mixup=0.8, mixup_mode="elem"),
    "CutMix": dict(cutmix=1.0, mixup_mode="elem"),
    "Cutout": dict(cutout=1.0),
}


def mixed(images: Images, *, seed: int = 0) -> dict[str, list[Shown]]:
    """Method -> each image under it, with its label. Mixup and CutMix mix the first image with
    the last, and so on inwards.
    """
    mean, std = images.statistics()
    # timm mixes even numbers of images: of an odd one, the last comes twice and is shown once
    paired = np.arange(len(images) + len(images) % 2).clip(max=len(images) - 1)
    pixels = torch.from_numpy(images.take(paired).array()).permute(0, 3, 1, 2)
    labels = torch.from_numpy(images.labels[paired])
    shown = {}
    for name, fields in METHODS.items():
        augment = BatchAugmentation(
            replace(PLAIN, **fields),
            mean=mean,
            std=std,
            num_classes=len(images.classes),
            device=torch.device("cpu"),
        )
        x, targets = augment(pixels, labels, seed=seed)
        x = (x * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)).clamp(
            0, 1
        ) * 255
        shown[name] = [
            Shown(image, in_words(target, images.classes))
            for image, target in zip(
                x.round().byte().permute(0, 2, 3, 1).numpy()[: len(images)], targets.numpy()
            )
        ]
    return shown


def randaugmented(
    images: Images, strengths: tuple[int, ...], *, seed: int = 0
) -> dict[str, list[Shown]]:
    """ "m9" and such -> each image under timm's RandAugment of that strength, two draws of it. The
    label stays. A draw takes the same operations, and the same side of those that have two, at
    every strength.
    """
    shown = {
        "as it is": [
            Shown(images.pixels[i], images.classes[label]) for i, label in enumerate(images.labels)
        ]
    }
    for strength in strengths:
        dataset = Augmented(
            images, replace(PLAIN, randaugment=f"rand-m{strength}-mstd0.5-inc1"), seed=seed
        )
        for draw in range(2):
            made = [dataset[draw, i] for i in range(len(images))]
            shown[f"m{strength}" + ", again" * (draw > 0)] = [
                Shown(image.permute(1, 2, 0).numpy(), images.classes[label])
                for image, label in made
            ]
    return shown


# DropBlock


def studied_rate() -> float:
    """The part of the features that DropBlock erases in the study of augmentation."""
    factors = design.read("augmentation").told["factors"].values()
    return next(one["with"]["dropblock"] for one in factors if "dropblock" in one["with"])


def holes(
    images: Images, rate: float, *, model: str = "astroformer_pico", seed: int = 0
) -> np.ndarray:
    """(N, h, w) bool: the positions of the first stage's output that DropBlock erases for each
    image, on that stage's grid.
    """
    network = on_meta(model, images.image_size, len(images.classes))
    stride = next(info["reduction"] for info in listed_parts(network) if info["module"] == STAGE)
    grid, block = (
        images.image_size // stride,
        DropBlock2d(drop_prob=rate, block_size=BLOCK_SIZE).train(),
    )
    with seeded(seed):
        return (block(torch.ones(len(images), 1, grid, grid)) == 0)[:, 0].numpy()


def dropped(images: Images, rate: float, *, seed: int = 0) -> list[Shown]:
    """Each image with what DropBlock erases of its features laid over it, in grey. The pixels
    themselves stay as they are.
    """
    shown = []
    for i, erased in enumerate(holes(images, rate, seed=seed)):
        over = erased.repeat(-(-images.image_size // len(erased)), 0).repeat(
            -(-images.image_size // len(erased)), 1
        )
        over = over[: images.image_size, : images.image_size, None]
        shown.append(
            Shown(np.where(over, np.uint8(110), images.pixels[i]), images.classes[images.labels[i]])
        )
    return shown


def hidden_light(shown: dict[str, list[Shown]], name: str) -> np.ndarray:
    """Part of each galaxy's light, percent, that a way covers: where it changes pixels. Light is
    what rises above the sky, the median of the image, by three times the median deviation from it.
    """
    parts = []
    for plain, covered in zip(next(iter(shown.values())), shown[name]):
        grey = plain.pixels.astype(float).mean(2)
        above = grey - np.median(grey)
        light = np.where(above > 3 * np.median(np.abs(above)), above, 0)
        parts.append(
            100 * light[(plain.pixels != covered.pixels).any(2)].sum() / max(light.sum(), 1)
        )
    return np.array(parts)


def plate_facts(
    shown: dict[str, list[Shown]], images: Images, *, seed: int = 0
) -> dict[str, object]:
    """What a page says of the plates: how much of a galaxy is covered at most, of which, and
    whether strengths beyond 10 differ.
    """
    found: dict[str, object] = {"images": images.about.title}
    for name in ("Cutout", "DropBlock"):
        hidden = hidden_light(shown, name)
        found |= {
            f"hidden_{name}": float(hidden.max()),
            f"most_{name}": shown[name][hidden.argmax()].label,
        }
    m15, m30 = (
        randaugmented(images, (strength,), seed=seed)[f"m{strength}"] for strength in (15, 30)
    )
    same = all(np.array_equal(one.pixels, other.pixels) for one, other in zip(m15, m30))
    return found | {"cut": "give the same images" if same else "give other images"}


# Spirals and their mirror images


def arms(pixels: np.ndarray) -> tuple[float, float]:
    """How much of the light of an image (H, W, 3) lies along two-armed logarithmic spirals whose
    azimuth, counted anticlockwise, falls with the radius (seen as an S) and along those where it
    rises (a Z): light of azimuthal order 2 times exp(-i p ln r), the mean over p.
    """
    grey = pixels.astype(float).mean(2)
    rows, columns = np.indices(grey.shape) - (np.array(grey.shape)[:, None, None] - 1) / 2
    radius, azimuth = np.hypot(rows, columns), np.arctan2(-rows, columns)  # rows count downwards
    ring = radius.astype(int)
    profile = np.bincount(ring.ravel(), grey.ravel()) / np.bincount(ring.ravel()).clip(1)
    inside = (radius > 0.06 * len(grey)) & (radius < 0.4 * len(grey))
    pitch, log_radius = np.arange(1.0, 12.5, 0.5), np.log(radius[inside])
    turned = (
        (grey - profile[ring])[inside] * np.exp(-2j * azimuth[inside]) / max(grey[inside].sum(), 1)
    )
    rising, falling = (
        float(np.abs(np.exp(sign * 1j * pitch[:, None] * log_radius) @ turned).mean())
        for sign in (1, -1)
    )
    return falling, rising


def winding(pixels: np.ndarray) -> float:
    """Between -1 (all of that light in a Z) and 1 (in an S)."""
    falling, rising = arms(pixels)
    return (falling - rising) / (falling + rising)


def spirals() -> Images:
    """A spiral of either handedness: of Galaxy Zoo 1 where its archive is below ASTROFORMER_DATA,
    else synthetic ones, named by their measured winding. Of those at hand the clearest;
    `about.title` says which they are.
    """
    real = (paths.data() / REAL).is_dir()
    images = data.load("folder", "test", data_dir=REAL) if real else data.load("galaxies", "train")
    names = HANDED if real else ("unbarred loose spiral",) * 2
    members = [np.flatnonzero(images.labels == images.classes.index(name)) for name in names]
    clearest = [
        own[np.argmax([sign * _clearness(images.pixels[i]) for i in own])]
        for own, sign in zip(members, (1, -1))
    ]
    chosen = images.take(np.array(clearest))
    if real:
        return chosen
    about = About("spirals", "two synthetic galaxies", "synthetic", mirrored=(HANDED,))
    return replace(chosen, labels=np.array([0, 1]), classes=HANDED, about=about)


def _clearness(pixels: np.ndarray) -> float:
    """How much light lies in one sense rather than the other, and how surely; positive for an S."""
    falling, rising = arms(pixels)
    return (falling - rising) * abs(falling - rising) / (falling + rising)


MOVES = {"as it is": {}, "reflected": dict(hflip=1.0), "turned by half": dict(hflip=1.0, vflip=1.0)}


def moved(images: Images) -> dict[str, list[Shown]]:
    """Move -> each image under it, with the label that training gives it. Two reflections are
    half a turn.
    """
    shown = {}
    for name, fields in MOVES.items():
        dataset = Augmented(images, replace(PLAIN, **fields), seed=0)
        made = [dataset[0, i] for i in range(len(images))]
        shown[name] = [
            Shown(image.permute(1, 2, 0).numpy(), images.classes[label]) for image, label in made
        ]
    return shown


def mirror_facts(images: Images, shown: dict[str, list[Shown]]) -> dict[str, object]:
    """Which spirals are shown, and the winding of the first under each move."""
    windings = {
        f"winding_{name.split()[0]}": winding(ways[0].pixels) for name, ways in shown.items()
    }
    return {"spirals": images.about.title, **windings}
