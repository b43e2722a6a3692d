"""CIFAR-10, CIFAR-100 and SVHN, read from where torchvision's downloads lie. Nothing is downloaded here.

ROOT/cifar-10-batches-py/    data_batch_1 .. 5, test_batch, batches.meta
ROOT/cifar-100-python/       train, test, meta
ROOT/train_32x32.mat, test_32x32.mat

torchvision's own classes read the files and know their addresses and checksums; no batch is unpickled that is not the
authors'. SVHN's label 10 is the digit 0; its `extra` images are left out.
"""

from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from astroformer.data.archives import file_sha256
from astroformer.data.folder import Decoded, checked_crop, squared
from astroformer.data.images import About, Images, fingerprint

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN"}
NATIVE_SIZE = 32  # pixels, of all three
OWN = ()


def load(name: str, root: Path, split: str, *, image_size: int | None = None, crop_pct: float | None = None) -> Images:
    """A whole split ("train" or "test"), in the files' order; images of another size than 32 are resized bicubically."""
    crop_pct = 1.0 if crop_pct is None else crop_pct
    size, described, kind = image_size or NATIVE_SIZE, about(name, root), torchvision_class(name)
    if name == "svhn":
        made = kind(root, split=split)
        pixels, labels = np.ascontiguousarray(made.data.transpose(0, 2, 3, 1)), made.labels  # (N, H, W, 3)
    else:
        made = kind(root, train=split == "train")
        pixels, labels = np.ascontiguousarray(made.data), made.targets
    if size != NATIVE_SIZE or crop_pct != 1:
        pixels = Decoded(pixels, size, partial(resized, size=size, crop_pct=checked_crop(crop_pct))).kept()
    return Images(pixels, np.array(labels, dtype=np.int64), classes(name, root), size, split, described)


def resized(pixels: np.ndarray, *, size: int, crop_pct: float) -> np.ndarray:
    return np.asarray(squared(Image.fromarray(pixels), size, crop_pct))


@lru_cache(maxsize=8)
def about(name: str, root: Path) -> About:
    """Title and fingerprint of the files of both splits."""
    parts = [part for path in checked_files(name, root) for part in (path.relative_to(root).as_posix(), file_sha256(path))]
    return About(name, TITLES[name], "real", fingerprint(*parts), origin(name))


def classes(name: str, root: Path) -> tuple[str, ...]:
    """Names in the order of the labels: those of the data set's own table, for SVHN the digits."""
    if name == "svhn":
        return tuple(str(digit) for digit in range(10))
    checked_files(name, root)
    return tuple(torchvision_class(name)(root, train=False).classes)


def torchvision_class(name: str) -> type:
    from torchvision import datasets  # takes seconds: only when one is asked for
    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "svhn": datasets.SVHN}[name]


def md5_of_files(name: str) -> dict[str, str]:
    """File below ROOT -> its MD5, of both splits."""
    kind = torchvision_class(name)
    if name == "svhn":
        return {file: md5 for _, file, md5 in (kind.split_list["train"], kind.split_list["test"])}
    listed = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    return {f"{kind.base_folder}/{file}": md5 for file, md5 in listed}


@lru_cache(maxsize=8)
def checked_files(name: str, root: Path) -> tuple[Path, ...]:
    """The files, each the authors' own. Otherwise one line: which are missing or differ, whence they come, where they go."""
    from torchvision.datasets.utils import check_integrity
    expected = md5_of_files(name)
    missing = [file for file in expected if not (root / file).is_file()]
    differing = [file for file, md5 in expected.items() if file not in missing and not check_integrity(root / file, md5)]
    if missing or differing:
        faults = "; ".join(f"{what} {', '.join(files)}" for what, files in
                           (("missing are", missing), ("not as published (MD5) are", differing)) if files)
        raise FileNotFoundError(f"{TITLES[name]} is not complete in {root}: {faults}. Put there {origin(name)}; nothing is "
                                "downloaded by itself. Another folder is named with --data-dir ROOT or ASTROFORMER_DATA")
    return tuple(root / file for file in expected)


def origin(name: str) -> str:
    """The official addresses with their checksums."""
    kind = torchvision_class(name)
    if name == "svhn":
        return " and ".join(f"{url} (MD5 {md5})" for url, _, md5 in (kind.split_list["train"], kind.split_list["test"]))
    return f"the folder {kind.base_folder} from {kind.url} (MD5 {kind.tgz_md5})"
