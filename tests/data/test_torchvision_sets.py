"""CIFAR and SVHN from files in their authors' formats: read as torchvision reads them, checked, and never fetched."""

import hashlib
import json
import pickle
import socket

import numpy as np
import pytest
import scipy.io
from PIL import Image
from torchvision import datasets

from astroformer import cli, data

GENERATOR = np.random.default_rng(0)
NAMES = {"cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
         "cifar100": [f"kind{i:02d}" for i in range(100)]}


def draw(number):
    """(N, 32, 32, 3) and labels; every label of ten occurs."""
    return GENERATOR.integers(0, 256, (number, 32, 32, 3), dtype=np.uint8), np.arange(number) % 10


def write_cifar(root, name):
    """Pickled batches, each image as 1,024 red values, then green, then blue."""
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder, key = root / kind.base_folder, "labels" if name == "cifar10" else "fine_labels"
    folder.mkdir(parents=True)
    written = {}
    for split, listed in (("train", kind.train_list), ("test", kind.test_list)):
        parts = [draw(20) for _ in listed]
        for (file, _), (pixels, labels) in zip(listed, parts, strict=True):
            batch = {"data": pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1), key: labels.tolist()}
            (folder / file).write_bytes(pickle.dumps(batch))
        written[split] = tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: NAMES[name]}))
    return written


def write_svhn(root):
    """MATLAB files: X is (32, 32, 3, N), y is (N, 1) with 10 for the digit 0."""
    root.mkdir(parents=True, exist_ok=True)
    written = {}
    for split in ("train", "test"):
        pixels, labels = written[split] = draw(20)
        scipy.io.savemat(root / f"{split}_32x32.mat", {"X": pixels.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
    return written


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a data set below ASTROFORMER_DATA, its checksums in the place of the published ones, and tells what it holds."""
    monkeypatch.setenv("ASTROFORMER_DATA", str(tmp_path))

    def write(name):
        if name == "svhn":
            made = write_svhn(tmp_path)
            monkeypatch.setattr(datasets.SVHN, "split_list", {
                split: [url, file, md5(tmp_path / file) if split != "extra" else old]
                for split, (url, file, old) in datasets.SVHN.split_list.items()})
            return made
        made, kind = write_cifar(tmp_path, name), {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
        folder = tmp_path / kind.base_folder
        for listed in ("train_list", "test_list"):
            monkeypatch.setattr(kind, listed, [[file, md5(folder / file)] for file, _ in getattr(kind, listed)])
        monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(folder / kind.meta["filename"])})
        return made
    return write


@pytest.mark.parametrize("name, title", [("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100"), ("svhn", "SVHN")])
def test_images_labels_and_classes_are_those_of_the_files(written, tmp_path, name, title):
    made = written(name)
    for split, (pixels, labels) in made.items():
        images = data.load(name, split)
        assert np.array_equal(images.pixels, pixels) and np.array_equal(images.labels, labels) and images.labels.dtype == np.int64
        assert (images.image_size, images.about.title, images.about.kind) == (32, title, "real")
        assert images.classes == data.classes(name) == tuple(NAMES.get(name, "0123456789"))
        assert len(images.classes) == data.DATASETS[name].classes
    assert np.array_equal(data.load(name, "test", data_dir=tmp_path).pixels, made["test"][0])
    assert len(data.load(name, "train", fraction=0.5)) == len(made["train"][0]) // 2


def test_another_size_is_resized_bicubically(written):
    pixels = written("cifar10")["test"][0]
    larger = data.load("cifar10", "test", image_size=48)
    expected = [np.asarray(Image.fromarray(image).resize((48, 48), Image.Resampling.BICUBIC)) for image in pixels]
    assert larger.image_size == 48 and np.array_equal(larger.pixels, expected)
    middle = data.load("cifar10", "test", image_size=28, crop_pct=0.875)
    assert np.array_equal(middle.pixels, pixels[:, 2:30, 2:30])


def test_the_command_line_describes_them_and_knows_their_short_names(written, capsys):
    written("cifar100")
    assert cli.main(["data", "stats", "--dataset", "c100", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["title"] == "CIFAR-100" and len(told["classes"]) == 100 and told["sha256"] == data.about("cifar100").sha256
    assert "cs.toronto.edu" in told["note"]


@pytest.mark.parametrize("name, addresses", [
    ("cifar10", ["https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", "-py/test_batch"]),
    ("cifar100", ["https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", "python/train"]),
    ("svhn", ["housenumbers/train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", "eb5a983be6a315427106f1b164d9cef3", "test_32x32.mat"]),
])
def test_missing_files_are_named_with_their_address_and_nothing_is_fetched(tmp_path, monkeypatch, capsys, name, addresses):
    monkeypatch.setattr(socket, "socket", None)  # whoever opens a connection fails
    assert cli.main(["data", "stats", "--dataset", name, "--data-dir", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert all(word in complaint for word in [*addresses, str(tmp_path), "--data-dir"]) and len(complaint.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_the_published_one_is_named_and_not_unpickled(written, tmp_path):
    written("cifar10")
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(FileNotFoundError, match=r"not as published \(MD5\) are cifar-10-batches-py/data_batch_3\. Put there"):
        data.load("cifar10", "train")
