"""The table of data sets: sizes, classes, licences, what to cite. Nothing here reads a file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """A row of the table of data sets. None stands for "depends on the folder"."""

    name: str
    title: str
    kind: str  # "real" or "synthetic"
    classes: int | None
    image_size: int | None  # pixels, height and width, as loaded when nothing else is asked for
    train: int | None  # images
    test: int | None
    licence: str
    source: str
    citation: str
    # part of the shorter side that the square of evaluation keeps; training sees all of it
    crop_pct: float = 1.0


TORCHVISION = (
    "the owners' files, where torchvision puts its downloads: --data-dir or ASTROFORMER_DATA"
)
_ROWS = (
    DataSet(
        "galaxies",
        "synthetic galaxies",
        "synthetic",
        10,
        64,
        2_000,
        1_000,
        "Apache-2.0",
        "made on this machine by astroformer/data/galaxies.py, in the ten classes of Galaxy10 "
        "DECaLS",
        "this book",
    ),
    DataSet(
        "folder",
        "an ImageFolder",
        "real",
        None,
        None,
        None,
        None,
        "as the images' owner says",
        "ROOT/train/<class>/ and ROOT/test/<class>/, named by --data-dir",
        "as the images' owner says",
    ),
    DataSet(
        "cifar10",
        "CIFAR-10",
        "real",
        10,
        32,
        50_000,
        10_000,
        "none stated",
        TORCHVISION,
        "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    ),
    DataSet(
        "cifar100",
        "CIFAR-100",
        "real",
        100,
        32,
        50_000,
        10_000,
        "none stated",
        TORCHVISION,
        "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    ),
    DataSet(
        "svhn",
        "SVHN",
        "real",
        10,
        32,
        73_257,
        26_032,
        "non-commercial use",
        TORCHVISION,
        "Netzer et al. 2011, Reading Digits in Natural Images with Unsupervised Feature Learning",
    ),
    DataSet(
        "tiny_imagenet",
        "Tiny ImageNet",
        "real",
        200,
        64,
        100_000,
        10_000,
        "non-commercial research, on ImageNet's terms",
        "tiny-imagenet-200/ or tiny-imagenet-200.zip below --data-dir or ASTROFORMER_DATA; "
        "its val is the test split",
        "Le and Yang 2015, Tiny ImageNet Visual Recognition Challenge; Russakovsky et al. "
        "2015, IJCV 115, 211",
    ),
    DataSet(
        "galaxy10_decals",
        "Galaxy10 DECaLS",
        "real",
        10,
        256,
        15_962,
        1_774,
        "as its Zenodo record says",
        "Galaxy10_DECals.h5 below --data-dir or ASTROFORMER_DATA; no official split: a "
        "seeded, stratified one",
        "Leung and Bovy 2019, MNRAS 483, 3255 (astroNN); images: Dey et al. 2019, AJ 157, 168 "
        "(DESI Legacy Imaging Surveys); "
        "labels: Lintott et al. 2008, MNRAS 389, 1179, and Walmsley et al. 2022, MNRAS 509, "
        "3966 (Galaxy Zoo)",
    ),
    DataSet(
        "galaxy10_sdss",
        "Galaxy10 SDSS",
        "real",
        10,
        69,
        19_607,
        2_178,
        "as its Zenodo record says",
        "Galaxy10.h5 below --data-dir or ASTROFORMER_DATA; no official split: a seeded, stratified "
        "one",
        "Leung and Bovy 2019, MNRAS 483, 3255 (astroNN); images: Sloan Digital Sky Survey; labels: "
        "Lintott et al. 2008, MNRAS 389, 1179 (Galaxy Zoo)",
    ),
    DataSet(
        "flowers102",
        "Flowers-102",
        "real",
        102,
        224,
        2_040,
        6_149,
        "none stated",
        TORCHVISION,
        "Nilsback and Zisserman 2008, Automated Flower Classification over a Large Number of "
        "Classes",
        crop_pct=0.875,
    ),
    DataSet(
        "stanford_cars",
        "Stanford Cars",
        "real",
        196,
        224,
        8_144,
        8_041,
        "none stated",
        TORCHVISION + "; the owners' address is gone",
        "Krause et al. 2013, 3D Object Representations for Fine-Grained Categorization",
        crop_pct=0.875,
    ),
    DataSet(
        "imagenet1k",
        "ImageNet-1k",
        "real",
        1_000,
        224,
        1_281_167,
        50_000,
        "non-commercial research, on ImageNet's terms",
        "ROOT/train/<wnid>/*.JPEG, ROOT/val/<wnid>/*.JPEG: --data-dir or ILSVRC2012 in "
        "ASTROFORMER_DATA; never fetched",
        "Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge, IJCV 115, 211",
        crop_pct=0.875,
    ),
)
DATASETS = {row.name: row for row in _ROWS}
