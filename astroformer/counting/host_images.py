"""How fast JPEG files become training batches, beside timm's own loader; how fast they are decoded;
and what loader processes take of the memory.

    .venv/bin/python -m astroformer.counting.host_images [FOLDER]

writes a tree in ImageNet's layout into FOLDER (default: a temporary one), of images that compress
as photographs do, and prints three tables. Both loaders read the same files with the same
transforms (random-resized crop to 224 pixels, mirror images, RandAugment) and hand over batches of
bytes. They take turns, so that whatever else the machine does hits both; what is compared is the
processors' time, of all processes, which another load hardly moves.

Reads top to bottom: the tree, the two loaders, beside_timm, decoders, memory_of_processes.
"""

import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from timm.data import ImageDataset, create_loader
from timm.data.loader import PrefetchLoader
from torchvision.io import ImageReadMode, decode_jpeg

from astroformer import data
from astroformer.counting.throughput import middle_half
from astroformer.data import About, Images
from astroformer.data.augment import Augmented, keys_of_epoch
from astroformer.data.loader import Loader, Squares
from astroformer.recipes import get_recipe

IMAGE_SIZE, BATCH = 224, 64
# without "inc1", by which timm's own loader may ask Pillow 12 and later to keep no bit of a pixel
RANDAUGMENT = "rand-m9-mstd0.5"
RECIPE = replace(
    get_recipe("smoke", hflip=0.5, vflip=0.0, rotate90=False),
    crop="random-resized",
    crop_scale=(0.08, 1.0),
    interpolation="bicubic",
    randaugment=RANDAUGMENT,
)
WNIDS = tuple(f"n{number:08d}" for number in range(1, 11))
SIDES = ((500, 375), (375, 500), (500, 333), (500, 500))  # width, height: ImageNet's most common


def photograph(generator: np.random.Generator, width: int, height: int) -> np.ndarray:
    """uint8 (H, W, 3) whose power falls with the frequency as that of photographs does; about a
    hundred kilobytes as a JPEG of 500 x 375 pixels.
    """
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    noise = generator.random((3, *frequency.shape))
    channels = np.fft.irfft2(np.exp(2j * np.pi * noise) / frequency**1.1, s=(height, width))
    channels = channels[0] + 0.3 * channels  # mostly grey
    pixels = 118 + 50 * (channels - channels.mean()) / channels.std()
    return pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def write_tree(root: Path, number: int) -> None:
    """ROOT/train and ROOT/val in ImageNet's layout, `number` training images of usual sizes."""
    generator = np.random.default_rng(0)
    large = [photograph(generator, 700, 700) for _ in range(16)]
    for split, images in (("train", number), ("val", len(WNIDS))):
        for index in range(images):
            width, height = SIDES[index % len(SIDES)]
            left, top = generator.integers(0, (700 - width, 700 - height))
            cut = large[generator.integers(len(large))][top : top + height, left : left + width]
            wnid = WNIDS[index % len(WNIDS)]
            folder = root / split / wnid
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{wnid}_{index}" if split == "train" else f"ILSVRC2012_val_{index + 1:08d}"
            Image.fromarray(cut).save(folder / f"{name}.JPEG", quality=90)


def ours(root: Path, workers: int) -> Callable[[], int]:
    """A pass over the training images by this project's loader; it gives their number."""
    images = data.load("imagenet1k", "train", data_dir=root, image_size=IMAGE_SIZE)
    dataset = Augmented(images, RECIPE, seed=0)
    loader, epochs = Loader(dataset, workers=workers), iter(range(1_000_000))

    def one_pass() -> int:
        keys = keys_of_epoch(dataset, BATCH, epoch=next(epochs))
        return sum(len(labels) for _, labels in loader.batches(keys))

    return one_pass


def timms(root: Path, workers: int) -> Callable[[], int]:
    """The same by timm's loader, up to the bytes that it would send to a GPU."""
    prefetcher = create_loader(
        ImageDataset(str(root / "train")),
        input_size=(3, IMAGE_SIZE, IMAGE_SIZE),
        batch_size=BATCH,
        is_training=True,
        scale=RECIPE.crop_scale,
        hflip=RECIPE.hflip,
        color_jitter=0.0,
        auto_augment=RANDAUGMENT,
        interpolation=RECIPE.interpolation,
        num_workers=workers,
        persistent_workers=workers > 0,
        device=torch.device("cpu"),
    )
    assert isinstance(prefetcher, PrefetchLoader)  # normalises on the device what is within it
    return lambda: sum(len(labels) for _, labels in prefetcher.loader)


def processor_seconds() -> float:
    """Of this process and its children, since they began."""
    import psutil

    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def quartiles(values: list[float]) -> dict[str, float]:
    low, middle, high = middle_half(values)
    return {"ratio": middle, "low": low, "high": high}


def beside_timm(
    root: Path, *, workers: tuple[int, ...] = (0, 2), rounds: int = 7
) -> Iterator[dict]:
    """For each number of processes: images a second of processor time and of the clock, and the
    ratio of timm's processor time to ours in the same round (above 1: ours is faster), its median
    and middle half.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number in workers:
            calls = {"ours": ours(root, number), "timm": timms(root, number)}
            busy: dict[str, list[float]] = {name: [] for name in calls}
            clock: dict[str, list[float]] = {name: [] for name in calls}
            images = 0
            for turn in range(rounds + 1):
                for name in sorted(calls, reverse=turn % 2 == 1):
                    begun = processor_seconds(), time.perf_counter()
                    images = calls[name]()
                    if turn:  # the first round starts the processes
                        busy[name].append(processor_seconds() - begun[0])
                        clock[name].append(time.perf_counter() - begun[1])
            yield {
                "workers": number,
                "images": images,
                "rounds": rounds,
                **{
                    f"{name} (images a processor second)": images / float(np.median(busy[name]))
                    for name in calls
                },
                **{f"{name} (images/s)": images / float(np.median(clock[name])) for name in calls},
                **quartiles([b / a for a, b in zip(busy["ours"], busy["timm"], strict=True)]),
            }
            del calls
    finally:
        torch.set_num_threads(threads)


def decoders(root: Path, *, number: int = 40, rounds: int = 12) -> Iterator[dict]:
    """Decoding alone, each beside Pillow's: the largest difference of a value, and how many times
    as fast, by the processor's time.
    """
    files = sorted((root / "train").rglob("*.JPEG"))[:number]
    packed = [file.read_bytes() for file in files]

    def pillow() -> list[np.ndarray]:
        return [np.asarray(Image.open(io.BytesIO(one))) for one in packed]

    def torchvision() -> list[np.ndarray]:
        tensors = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in packed]
        decoded = [decode_jpeg(tensor, mode=ImageReadMode.RGB) for tensor in tensors]
        channels_last = [one.permute(1, 2, 0) for one in decoded if isinstance(one, torch.Tensor)]
        return [np.ascontiguousarray(one.numpy()) for one in channels_last]

    def torchvision_for_pillow() -> list[np.ndarray]:
        return [np.asarray(Image.fromarray(one)) for one in torchvision()]

    calls = {
        "Pillow": pillow,
        "torchvision": torchvision,
        "torchvision, then as Pillow's image": torchvision_for_pillow,
    }
    reference, seconds = pillow(), {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begun = time.process_time()
            call()
            seconds[name].append(time.process_time() - begun)
    for name, call in calls.items():
        difference = max(
            int(np.abs(one.astype(int) - other).max()) for one, other in zip(reference, call())
        )
        faster = [a / b for a, b in zip(seconds["Pillow"], seconds[name], strict=True)]
        yield {
            "decoder": name,
            "largest difference": difference,
            "milliseconds an image": 1e3 * float(np.median(seconds[name])) / len(packed),
            **quartiles(faster),
        }


def memory_of_processes(
    *, workers: tuple[int, ...] = (1, 2, 4), array_bytes: int = 256 * 2**20
) -> Iterator[dict]:
    """What a loader process has for itself (USS), when all share an array of so many bytes and
    when they share hardly any: forked, and started from a server.
    """
    for context in ("fork", "forkserver"):
        for number in workers:
            small, large = (_own_memory(size, number, context) for size in (2 * 2**20, array_bytes))
            yield {
                "started by": context,
                "workers": number,
                "array (MB)": array_bytes / 1e6,
                "own memory of one (MB)": large / 1e6,
                "of it for the array (MB)": (large - small) / 1e6,
            }


def _own_memory(array_bytes: int, workers: int, context: str) -> float:
    """Bytes, the mean over the processes, after each has read its part."""
    import psutil

    number = array_bytes // (3 * 64 * 64)
    pixels = np.zeros((number, 64, 64, 3), dtype=np.uint8)
    pixels.setflags(write=False)
    labels = np.zeros(number, dtype=np.int64)
    about = About("zeros", "zeros", "synthetic")
    images = Images(pixels, labels, ("a", "b"), 64, "train", about)
    loader = Loader(Squares(images), workers=workers, context=context)
    try:
        for _ in loader.in_order(256):
            pass
        # they serve the next pass, too
        serving = loader._loader._iterator._workers  # pyrefly: ignore[missing-attribute]
        return float(np.mean([psutil.Process(one.pid).memory_full_info().uss for one in serving]))
    finally:
        loader.close()


def main(folder: str | None = None, *, number: int = 2_000) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(folder or temporary)
        if not (root / "train").is_dir():
            write_tree(root, number)
        for rows in (decoders(root), beside_timm(root), memory_of_processes()):
            print(pd.DataFrame(rows).round(2).to_string(index=False), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
