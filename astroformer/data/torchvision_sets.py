"""CIFAR-10, CIFAR-100, SVHN, Flowers-102 and Stanford Cars, read from where torchvision's downloads
lie.

ROOT/cifar-10-batches-py/    data_batch_1 .. 5, test_batch, batches.meta
ROOT/cifar-100-python/       train, test, meta
ROOT/train_32x32.mat, test_32x32.mat                          SVHN
ROOT/flowers-102/            jpg/image_00001.jpg .., imagelabels.mat, setid.mat
ROOT/stanford_cars/          cars_train/*.jpg, cars_test/*.jpg, devkit/cars_meta.mat,
                             devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat

torchvision's own classes read the files and know their addresses and checksums; no batch is
unpickled that is not the authors'. SVHN's label 10 is the digit 0; its `extra` images are left out.
Flowers-102 comes in three parts of 1,020, 1,020 and 6,149 images; `train` here is the first two
together, as the papers that fine-tune on it have it. Nobody publishes checksums of Stanford Cars:
its files must be there and be readable.

CIFAR and SVHN are arrays of 32 x 32 pixels. Flowers and cars are photographs of many sizes, decoded
when asked for and cut as ImageNet's are: for the test split, the middle 224 pixels of a shorter
side of 256.
"""

from pathlib import Path

import numpy as np

from astroformer.data import canonical
from astroformer.data.archives import file_sha256
from astroformer.data.images import About, Images, fingerprint
from astroformer.data.listing import remembered
from astroformer.data.pixels import Decoded, read_stored, stored_or_cut
from astroformer.data.table import DATASETS

OWN = ()
PLACES = {  # below ROOT: what tells at a glance that a data set is there
    "cifar10": ("cifar-10-batches-py",),
    "cifar100": ("cifar-100-python",),
    "svhn": ("train_32x32.mat", "test_32x32.mat"),
    "flowers102": ("flowers-102/jpg",),
    "stanford_cars": (
        "stanford_cars/devkit",
        "stanford_cars/cars_train",
        "stanford_cars/cars_test",
    ),
}
TITLES = {name: DATASETS[name].title for name in PLACES}
PARTS = {
    "flowers102": {"train": ("train", "val"), "test": ("test",)},
    # what torchvision calls the photographs' splits
    "stanford_cars": {"train": ("train",), "test": ("test",)},
}
CARS = (
    "stanford_cars/devkit/cars_meta.mat",
    "stanford_cars/devkit/cars_train_annos.mat",
    "stanford_cars/cars_test_annos_withlabels.mat",
)
CARS_LOST = (
    "its owners' address (https://ai.stanford.edu/~jkrause/cars/car_dataset.html) is "
    "gone; copies are named in "
    "https://github.com/pytorch/vision/issues/7545"
)


def places(name: str, root: Path) -> list[Path]:
    """What the data set consists of."""
    below = dict.fromkeys(
        [*PLACES[name], *md5_of_files(name), *(CARS if name == "stanford_cars" else ())]
    )
    return [root / place for place in below]


def load(
    name: str,
    root: Path,
    split: str,
    *,
    image_size: int | None = None,
    crop_pct: float = 1.0,
    interpolation: str = "bicubic",
) -> Images:
    """A whole split ("train" or "test"), in the files' order."""
    described, size = about(name, root), image_size or DATASETS[name].image_size
    how = {"crop_pct": crop_pct, "interpolation": interpolation}
    if name in PARTS:  # never in memory as a whole unless that is asked for
        listed = photographs(name, root)[split]
        labels = np.array([label for _, label in listed], dtype=np.int64)
        pixels = Decoded([path for path, _ in listed], size, read_stored, **how)
        return Images(pixels, labels, classes(name, root), size, split, described)
    pixels, labels, names = arrays(name, root, split)
    return Images(stored_or_cut(pixels, size, **how), labels, names, size, split, described)


def arrays(name: str, root: Path, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """A split of CIFAR or SVHN as it is stored: uint8 (N, 32, 32, 3), int64 (N,), and the names of
    the classes.
    """
    kind = torchvision_class(name)
    if name == "svhn":
        made, names = kind(root, split=split), classes(name, root)
        pixels, labels = made.data.transpose(0, 2, 3, 1), made.labels  # (N, H, W, 3)
    else:
        made = kind(root, train=split == "train")
        pixels, labels, names = made.data, made.targets, tuple(made.classes)
    return np.ascontiguousarray(pixels), np.array(labels, dtype=np.int64), names


@remembered(places)
def photographs(name: str, root: Path) -> dict[str, list[tuple[str, int]]]:
    """(file, label) of each split; each file is there and each label is one of a class."""
    checked_files(name, root)
    kind, number = torchvision_class(name), len(classes(name, root))
    listed = {}
    for split, parts in PARTS[name].items():
        # in place of an image its path
        made = [kind(root, split=part, loader=str) for part in parts]
        listed[split] = [
            (path, int(label)) for one in made for path, label in (one[i] for i in range(len(one)))
        ]
        wrong = sorted({label for _, label in listed[split]} - set(range(number)))
        if wrong:
            raise ValueError(
                f"{TITLES[name]} in {root}: label {wrong[0] + 1} is none of 1 to "
                f"{number}; its .mat files are not "
                f"the owners'. Put there {origin(name)}"
            )
    missing = missing_images(listed)
    if missing:
        raise FileNotFoundError(
            f"{TITLES[name]} in {root} lacks {len(missing):,} images that its "
            ".mat files name "
            f"({missing[0]}, ...). Put there {origin(name)}"
        )
    return listed


def missing_images(listed: dict[str, list[tuple[str, int]]]) -> list[str]:
    """Asks for each folder's contents once: a network's file system answers slowly for one file
    after another.
    """
    paths = [Path(path) for files in listed.values() for path, _ in files]
    there = {
        folder: {path.name for path in folder.iterdir()}
        for folder in {path.parent for path in paths}
    }
    return [str(path) for path in paths if path.name not in there[path.parent]]


@remembered(places)
def about(name: str, root: Path) -> About:
    """Title and fingerprint of the files of both splits; of photographs the names, sizes and
    labels; of what `canonical.py` knows the pixels and labels.
    """
    files, note = checked_files(name, root), origin(name)
    if name in {known.name for known in canonical.KNOWN}:
        # A folder of the same images is the same data set, so this stands for both.
        digest = canonical.digest(
            (split, names[label], image)
            for split in ("train", "test")
            for pixels, labels, names in [arrays(name, root, split)]
            for image, label in zip(pixels, labels, strict=True)
        )
        return About(name, TITLES[name], "real", digest, note)
    parts = [
        part for path in files for part in (path.relative_to(root).as_posix(), file_sha256(path))
    ]
    if name in PARTS:
        parts += [
            f"{Path(path).relative_to(root).as_posix()} {Path(path).stat().st_size} {label}"
            for files in photographs(name, root).values()
            for path, label in files
        ]
        note += "; the fingerprint is of names, sizes and labels of images"
    return About(name, TITLES[name], "real", fingerprint(*parts), note)


@remembered(places)
def classes(name: str, root: Path) -> tuple[str, ...]:
    """Names in the order of the labels: those of the data set's own table, for SVHN the digits.

    Flowers-102 comes without names: they are torchvision's, and where it is too old to have them
    the numbers 1 to 102.
    """
    if name == "svhn":
        return tuple(str(digit) for digit in range(10))
    checked_files(name, root)
    kind = torchvision_class(name)
    if name == "flowers102":
        return tuple(
            getattr(
                kind, "classes", [str(number) for number in range(1, DATASETS[name].classes + 1)]
            )
        )
    made = kind(root, split="train") if name == "stanford_cars" else kind(root, train=False)
    return tuple(str(one) for one in made.classes)


def torchvision_class(name: str) -> type:
    from torchvision import datasets  # takes seconds: only when one is asked for

    return {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "svhn": datasets.SVHN,
        "flowers102": datasets.Flowers102,
        "stanford_cars": datasets.StanfordCars,
    }[name]


def md5_of_files(name: str) -> dict[str, str]:
    """File below ROOT -> its MD5, of both splits, where one is published."""
    if name in ("svhn", "flowers102"):
        return {file: md5 for file, _, md5, folder in downloads(name) if not folder}
    if name == "stanford_cars":
        return {}
    kind = torchvision_class(name)
    listed = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    return {f"{kind.base_folder}/{file}": md5 for file, md5 in listed}


@remembered(places)
def checked_files(name: str, root: Path) -> tuple[Path, ...]:
    """The files, each the authors' own. Otherwise one line: which are missing or differ, whence
    they come, where they go.
    """
    from torchvision.datasets.utils import check_integrity

    expected, tables = md5_of_files(name), CARS if name == "stanford_cars" else ()
    missing = [
        file
        for file in dict.fromkeys((*expected, *tables, *PLACES[name]))
        if not (root / file).exists()
    ]
    differing = [
        file
        for file, md5 in expected.items()
        if file not in missing and not check_integrity(root / file, md5)
    ]
    unreadable = [file for file in tables if file not in missing and not readable(root / file)]
    faults = {
        "missing are": missing,
        "not as published (MD5) are": differing,
        "unreadable are": unreadable,
    }
    if any(faults.values()):
        faults = "; ".join(f"{what} {', '.join(files)}" for what, files in faults.items() if files)
        get = "" if name == "stanford_cars" else f", or let `astroformer data fetch {name}` do it"
        raise FileNotFoundError(
            f"{TITLES[name]} is not complete in {root}: {faults}. Put there "
            f"{origin(name)}{get}. "
            "Another folder is named with --data-dir ROOT or ASTROFORMER_DATA"
        )
    return tuple(root / file for file in (*expected, *tables))


def readable(path: Path) -> bool:
    """Whether a .mat file holds the tables of the devkit."""
    from scipy.io import loadmat

    try:
        return not {"annotations", "class_names"}.isdisjoint(loadmat(path))
    except Exception:
        # scipy raises whatever its parser stumbles over: ValueError, TypeError, zlib.error,
        # struct.error, ...
        return False


def counted(name: str, root: Path) -> list[tuple[str, str, str]]:
    """(what, as it should be, as it is) for files without a checksum of their own: the
    photographs, the cars' tables.
    """
    if name not in PARTS:
        return []
    rows, row, good = [], DATASETS[name], "a readable .mat file"
    if name == "stanford_cars":
        states = {
            file: "missing"
            if not (root / file).is_file()
            else good
            if readable(root / file)
            else "not readable"
            for file in CARS
        }
        rows = [(file, good, state) for file, state in states.items()]
    try:
        found = {
            split: f"{len(files):,} images" for split, files in photographs(name, root).items()
        }
    except (ValueError, OSError) as error:
        found = dict.fromkeys(PARTS[name], str(error).split(". Put there")[0])
    return rows + [
        (f"{TITLES[name]}, {split}", f"{number:,} images", found[split])
        for split, number in (("train", row.train), ("test", row.test))
    ]


def downloads(name: str) -> list[tuple[str, str, str, str]]:
    """(file below ROOT, address, MD5, folder that it unpacks to or ""); ValueError for Stanford
    Cars.
    """
    kind = torchvision_class(name)
    if name == "stanford_cars":
        raise ValueError(
            f"{TITLES[name]} cannot be fetched: {CARS_LOST}. Put below ROOT, which "
            "is --data-dir or "
            "ASTROFORMER_DATA, the folders stanford_cars/cars_train and "
            "stanford_cars/cars_test and the files " + ", ".join(CARS)
        )
    if name == "svhn":
        return [
            (file, url, md5, "")
            for url, file, md5 in (kind.split_list["train"], kind.split_list["test"])
        ]
    if name == "flowers102":
        return [
            (
                f"flowers-102/{file}",
                kind._download_url_prefix + file,
                md5,
                PLACES[name][0] if key == "image" else "",
            )
            for key, (file, md5) in kind._file_dict.items()
        ]
    return [(kind.filename, kind.url, kind.tgz_md5, kind.base_folder)]


def origin(name: str) -> str:
    """The official addresses with their checksums."""
    if name == "stanford_cars":
        return f"the folder stanford_cars with {', '.join(CARS)} and the images; {CARS_LOST}"
    return " and ".join(
        (f"the folder {folder} from " if folder else "") + f"{url} (MD5 {md5})"
        for _, url, md5, folder in downloads(name)
    )
