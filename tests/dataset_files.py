"""Small data sets in the exact formats of the published ones, written by the libraries that those
files come from.

Each function writes below `root` and tells what it wrote: split -> (images, labels) where the
pixels are kept as they are, split -> labels where they go through JPEG. Trees of images have files
of their own here: `imagenet_tree.py`, `tiny_imagenet_tree.py`, `galaxy_folder.py`. `publish` puts
the checksums of what was written in the published ones' place.
"""

import hashlib
import pickle

import h5py
import numpy as np
import scipy.io
from PIL import Image
from torchvision import datasets

CIFAR = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
CIFAR_NAMES = {
    "cifar10": [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ],
    "cifar100": [f"kind{i:02d}" for i in range(100)],
}
FLOWERS = 102  # classes
CARS = [f"Maker Model {i:03d} Sedan 2012" for i in range(196)]


def draw(number, size=32, classes=10):
    """uint8 (N, size, size, 3) and labels, each class in turn; the same ones at every call."""
    generator = np.random.default_rng([number, size])
    return generator.integers(0, 256, (number, size, size, 3), dtype=np.uint8), np.arange(
        number
    ) % classes


def photograph(label, index):
    """A JPEG-able picture of a size and shape of its own, smooth, with its class in its colour."""
    generator = np.random.default_rng([label, index])
    width, height = ((90, 60), (60, 90), (64, 64))[index % 3]
    pixels = generator.integers(0, 80, (6, 9, 3), dtype=np.uint8)
    pixels[..., label % 3] += 150
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def write_cifar(root, name, *, batch=None):
    """Pickled batches, each image as 1,024 red values, then green, then blue; two images of every
    class at least, where nobody says how many.
    """
    kind, classes = CIFAR[name], len(CIFAR_NAMES[name])
    batch = batch or max(20, 2 * classes)
    folder, key = root / kind.base_folder, "labels" if name == "cifar10" else "fine_labels"
    folder.mkdir(parents=True)
    written = {}
    for split, listed in (("train", kind.train_list), ("test", kind.test_list)):
        parts = [draw(batch + i, classes=classes) for i, _ in enumerate(listed)]
        for (file, _), (pixels, labels) in zip(listed, parts, strict=True):
            (folder / file).write_bytes(
                pickle.dumps(
                    {
                        "data": pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1),
                        key: labels.tolist(),
                    }
                )
            )
        written[split] = tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    (folder / kind.meta["filename"]).write_bytes(
        pickle.dumps({kind.meta["key"]: CIFAR_NAMES[name]})
    )
    return written


def write_svhn(root, *, number=20):
    """MATLAB files: X is (32, 32, 3, N), y is (N, 1) with 10 for the digit 0."""
    root.mkdir(parents=True, exist_ok=True)
    written = {split: draw(number + i) for i, split in enumerate(("train", "test"))}
    for split, (pixels, labels) in written.items():
        scipy.io.savemat(
            root / f"{split}_32x32.mat",
            {"X": pixels.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]},
        )
    return written


def write_flowers(root):
    """jpg/image_00001.jpg .., their labels from 1, and the ids of the three parts, which are not
    in order; each part has an image of every class.
    """
    folder = root / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    labels = np.arange(3 * FLOWERS) % FLOWERS
    for index, label in enumerate(labels):
        photograph(label, index).save(folder / "jpg" / f"image_{index + 1:05d}.jpg", quality=95)
    generator = np.random.default_rng(0)
    of_image = generator.permuted(np.tile(np.arange(3), (FLOWERS, 1)), axis=1).T.ravel()
    train, val, test = (
        generator.permutation(np.flatnonzero(of_image == part)) + 1 for part in range(3)
    )
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": (labels + 1).astype(np.uint8)[None]})
    scipy.io.savemat(
        folder / "setid.mat",
        {
            key: part.astype(np.uint16)[None]
            for key, part in (("trnid", train), ("valid", val), ("tstid", test))
        },
    )
    return {"train": labels[np.concatenate([train, val]) - 1], "test": labels[test - 1]}


def write_cars(root):
    """The devkit's tables of structures, beside the two folders of images, one of every class."""
    base, written = root / "stanford_cars", {}
    (base / "devkit").mkdir(parents=True)
    scipy.io.savemat(
        base / "devkit" / "cars_meta.mat", {"class_names": np.array(CARS, dtype=object)[None]}
    )
    for split, table in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        (base / f"cars_{split}").mkdir()
        labels = written[split] = np.arange(len(CARS)) * 5 % len(CARS)
        fields = [
            ("bbox_x1", object),
            ("bbox_y1", object),
            ("bbox_x2", object),
            ("bbox_y2", object),
            ("class", object),
            ("fname", object),
        ]
        rows = np.zeros((1, len(CARS)), dtype=fields)
        for index, label in enumerate(labels):
            photograph(label, index).save(
                base / f"cars_{split}" / f"{index + 1:05d}.jpg", quality=95
            )
            rows[0, index] = (1, 1, 50, 50, np.uint8(label + 1), f"{index + 1:05d}.jpg")
        scipy.io.savemat(base / table, {"annotations": rows})
    return written


def write_galaxy10(root, *, number=100, images=None, labels=None):
    """Galaxy10_DECals.h5, compressed in blocks that hold parts of several images; (images,
    labels) in the file's order.
    """
    root.mkdir(parents=True, exist_ok=True)
    coarse, drawn = draw(number, size=8)
    # 8 x 8 patches compress well
    images = coarse.repeat(32, axis=1).repeat(32, axis=2) if images is None else images
    labels = drawn.astype(np.uint8) if labels is None else labels
    generator = np.random.default_rng(0)
    with h5py.File(root / "Galaxy10_DECals.h5", "w") as file:
        chunks = (7, 128, 128, 3) if images.shape[1:] == (256, 256, 3) else None
        file.create_dataset(
            "images", data=images, compression="gzip", compression_opts=1, chunks=chunks
        )
        file["ans"] = labels
        for key, scale in (("ra", 360), ("dec", 90), ("redshift", 0.2), ("pxscale", 0.5)):
            file[key] = generator.random(len(labels)) * scale
    return images, labels


def write_galaxy10_sdss(root, *, number=100):
    """Galaxy10.h5; (images, labels) in the file's order."""
    root.mkdir(parents=True, exist_ok=True)
    images, labels = draw(number, size=69)
    with h5py.File(root / "Galaxy10.h5", "w") as file:
        file["images"], file["ans"] = images, labels.astype(np.uint8)
    return images, labels


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def publish(monkeypatch, name, root):
    """torchvision takes the files below `root` for the published ones."""
    if name == "svhn":
        monkeypatch.setattr(
            datasets.SVHN,
            "split_list",
            {
                split: [url, file, md5(root / file) if split != "extra" else old]
                for split, (url, file, old) in datasets.SVHN.split_list.items()
            },
        )
    elif name == "flowers102":
        monkeypatch.setattr(
            datasets.Flowers102,
            "_file_dict",
            {
                key: (
                    file,
                    md5(root / "flowers-102" / file)
                    if (root / "flowers-102" / file).is_file()
                    else old,
                )
                for key, (file, old) in datasets.Flowers102._file_dict.items()
            },
        )
    elif name in CIFAR:
        kind, folder = CIFAR[name], root / CIFAR[name].base_folder
        for listed in ("train_list", "test_list"):
            monkeypatch.setattr(
                kind, listed, [[file, md5(folder / file)] for file, _ in getattr(kind, listed)]
            )
        monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(folder / kind.meta["filename"])})
