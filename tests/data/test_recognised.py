"""A folder whose pixels and labels are a published data set's is that data set."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from astroformer import data
from astroformer.data import canonical

NAMES = ("apple", "bear", "chair")
SMALL = canonical.Canonical("cifar100", "CIFAR-100", 3, 30, 6, 32, "")


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        split: (
            random.integers(0, 256, (number, 32, 32, 3), dtype=np.uint8),
            np.arange(number) % 3,
        )
        for split, number in (("train", 30), ("test", 6))
    }


def triples(arrays):
    for split, (pixels, labels) in arrays.items():
        for image, label in zip(pixels, labels):
            yield split, NAMES[label], image


def as_folder(arrays, root, suffix=".png"):
    for split, (pixels, labels) in arrays.items():
        for number, (image, label) in enumerate(zip(pixels, labels)):
            place = root / split / NAMES[label] / f"{number:04d}{suffix}"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place)
    return root


def as_torchvision(arrays, root):
    """The two files of CIFAR-100 as torchvision reads them: rows of 3,072 numbers, planes first."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for split, (pixels, labels) in arrays.items():
        rows = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
        content = {"data": rows, "fine_labels": labels.tolist()}
        (folder / split).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(NAMES)}))
    return root


def of_torchvision(root):
    """What torchvision's own reader gives, without its check of the published MD5."""
    from torchvision.datasets import CIFAR100

    class Unchecked(CIFAR100):
        def _check_integrity(self):
            return True

        def _load_meta(self):
            self.classes = pickle.loads((root / self.base_folder / "meta").read_bytes())[
                "fine_label_names"
            ]

    for split in ("train", "test"):
        made = Unchecked(root, train=split == "train")
        for image, label in zip(made.data, made.targets):
            yield split, made.classes[label], image


def test_the_digest_is_the_same_from_torchvisions_files_and_from_a_folder_in_any_order(
    arrays, tmp_path, monkeypatch
):
    expected = canonical.digest(triples(arrays))
    assert canonical.digest(reversed(list(triples(arrays)))) == expected
    assert canonical.digest(of_torchvision(as_torchvision(arrays, tmp_path / "tv"))) == expected
    monkeypatch.setattr(canonical, "KNOWN", (replace(SMALL, sha256=expected),))
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "cache"))
    about = data.about("folder", as_folder(arrays, tmp_path / "png"))
    assert (about.name, about.title, about.kind) == ("cifar100", "CIFAR-100", "real")
    assert about.sha256 == expected


@pytest.mark.parametrize("change", ["pixel", "label", "jpeg"])
def test_one_other_pixel_label_or_a_lossy_copy_is_another_data_set(
    arrays, tmp_path, monkeypatch, change
):
    expected = canonical.digest(triples(arrays))
    monkeypatch.setattr(canonical, "KNOWN", (replace(SMALL, sha256=expected),))
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "cache"))
    pixels, labels = arrays["test"]
    if change == "pixel":
        pixels[2, 3, 4, 1] ^= 1
    if change == "label":
        labels[[0, 1]] = labels[[1, 0]]
    root = as_folder(arrays, tmp_path / "images", ".jpg" if change == "jpeg" else ".png")
    about = data.about("folder", root)
    assert (about.name, about.title) == ("images", "images") and about.sha256 != expected


def test_a_folder_of_other_sizes_is_not_read_for_it(tiny_folder, monkeypatch):
    def fail(images):
        raise AssertionError("the images were read")

    monkeypatch.setattr(canonical, "digest", fail)
    assert data.about("folder", tiny_folder).name == "tiny"
