"""CIFAR, SVHN, Flowers-102, Stanford Cars from files in their authors' formats: read as
torchvision reads them, and checked.
"""

import json
import socket

import numpy as np
import pytest
import scipy.io
from dataset_files import (
    CARS,
    CIFAR_NAMES,
    publish,
    write_cars,
    write_cifar,
    write_flowers,
    write_svhn,
)
from PIL import Image

from astroformer import cli, data
from astroformer.data import fetch


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a data set below ASTROFORMER_DATA, its checksums in the place of the published
    ones, and tells what it holds.
    """
    monkeypatch.setenv("ASTROFORMER_DATA", str(tmp_path))

    def write(name):
        writers = {"svhn": write_svhn, "flowers102": write_flowers, "stanford_cars": write_cars}
        made = writers[name](tmp_path) if name in writers else write_cifar(tmp_path, name)
        publish(monkeypatch, name, tmp_path)
        return made

    return write


@pytest.mark.parametrize(
    "name, title", [("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100"), ("svhn", "SVHN")]
)
def test_images_labels_and_classes_are_those_of_the_files(written, tmp_path, name, title):
    made = written(name)
    for split, (pixels, labels) in made.items():
        images = data.load(name, split)
        assert (
            np.array_equal(images.pixels, pixels)
            and np.array_equal(images.labels, labels)
            and images.labels.dtype == np.int64
        )
        assert (images.image_size, images.about.title, images.about.kind) == (32, title, "real")
        assert images.classes == data.classes(name) == tuple(CIFAR_NAMES.get(name, "0123456789"))
        assert len(images.classes) == data.DATASETS[name].classes
    assert np.array_equal(data.load(name, "test", data_dir=tmp_path).pixels, made["test"][0])
    assert len(data.load(name, "train", fraction=0.5)) == len(made["train"][0]) // 2


def test_another_size_is_resized_bicubically(written):
    pixels = written("cifar10")["test"][0]
    larger = data.load("cifar10", "test", image_size=48)
    expected = [
        np.asarray(Image.fromarray(image).resize((48, 48), Image.Resampling.BICUBIC))
        for image in pixels
    ]
    assert larger.image_size == 48 and np.array_equal(larger.array(), expected)
    middle = data.load("cifar10", "test", image_size=28, crop_pct=0.875)
    assert np.array_equal(middle.array(), pixels[:, 2:30, 2:30])


def test_the_command_line_describes_them_and_knows_their_short_names(written, capsys):
    written("cifar100")
    assert cli.main(["data", "stats", "--dataset", "c100", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (
        told["title"] == "CIFAR-100"
        and len(told["classes"]) == 100
        and told["sha256"] == data.about("cifar100").sha256
    )
    assert "cs.toronto.edu" in told["note"]


@pytest.mark.parametrize(
    "name, addresses",
    [
        (
            "cifar10",
            [
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
                "-py/test_batch",
            ],
        ),
        (
            "cifar100",
            [
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "eb9058c3a382ffc7106e4002c42a8d85",
                "python/train",
            ],
        ),
        (
            "svhn",
            [
                "housenumbers/train_32x32.mat",
                "e26dedcc434d2e4c54c9b2d4a06d8373",
                "eb5a983be6a315427106f1b164d9cef3",
                "test_32x32.mat",
            ],
        ),
    ],
)
def test_missing_files_are_named_with_their_address_and_nothing_is_fetched(
    tmp_path, monkeypatch, capsys, name, addresses
):
    monkeypatch.setattr(socket, "socket", None)  # whoever opens a connection fails
    assert cli.main(["data", "stats", "--dataset", name, "--data-dir", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert (
        all(word in complaint for word in [*addresses, str(tmp_path), "--data-dir"])
        and len(complaint.splitlines()) == 1
    )
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_the_published_one_is_named_and_not_unpickled(written, tmp_path):
    written("cifar10")
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(
        FileNotFoundError,
        match=r"not as published \(MD5\) are "
        r"cifar-10-batches-py/data_batch_3\. Put there",
    ):
        data.load("cifar10", "train")


@pytest.mark.parametrize("name", ["flowers102", "stanford_cars"])
def test_photographs_are_decoded_when_asked_for_and_cut_for_testing_as_imagenet_is(written, name):
    made = written(name)
    for split, labels in made.items():
        images = data.load(name, split, image_size=32)
        assert images.labels.tolist() == labels.tolist() and not isinstance(
            images.pixels, np.ndarray
        )
        assert images.array(2, 5).shape == (3, 32, 32, 3) and images.whole(0).shape in (
            (60, 90, 3),
            (90, 60, 3),
            (64, 64, 3),
        )
        assert (
            images.classes == data.classes(name)
            and len(images.classes) == data.DATASETS[name].classes
        )
    train, test = (data.load(name, split, image_size=32) for split in ("train", "test"))
    square = next(i for i in range(len(test)) if test.whole(i).shape[0] == test.whole(i).shape[1])
    # 32 / 0.875 = 36.6
    shrunk = Image.fromarray(test.whole(square)).resize((36, 36), Image.Resampling.BICUBIC)
    assert np.array_equal(test.pixels[square], np.asarray(shrunk)[2:34, 2:34])
    assert data.native_image_size(name) == 224


def test_flowers_train_on_two_of_their_three_parts(written):
    written("flowers102")
    images = {split: data.load("flowers102", split, image_size=32) for split in ("train", "test")}
    assert len(images["train"]) == 2 * len(images["test"]) == 204
    assert images["train"].classes[25] == "corn poppy"  # label 26 of imagelabels.mat
    seen = [
        {image.tobytes() for image in map(one.whole, range(len(one)))} for one in images.values()
    ]
    assert not seen[0] & seen[1]


def test_cars_are_named_by_their_devkit(written):
    written("stanford_cars")
    assert data.classes("stanford_cars") == tuple(CARS)


def without(path):
    path.unlink()


def to_noise(path):
    path.write_bytes(b"not what it was" * 10)


def with_label(root, label):
    table = root / "stanford_cars" / "cars_test_annos_withlabels.mat"
    rows = scipy.io.loadmat(table)["annotations"]
    rows[0, 0]["class"] = np.uint8(label)
    scipy.io.savemat(table, {"annotations": rows})


@pytest.mark.parametrize(
    "name, spoil, words",
    [
        (
            "flowers102",
            lambda root: without(root / "flowers-102" / "jpg" / "image_00003.jpg"),
            "lacks 1 images that its .mat files name .*image_00003.jpg.*102flowers.tgz",
        ),
        (
            "flowers102",
            lambda root: to_noise(root / "flowers-102" / "setid.mat"),
            r"not as published "
            r"\(MD5\) are "
            r"flowers-102/setid.mat",
        ),
        (
            "flowers102",
            lambda root: to_noise(root / "flowers-102" / "jpg" / "image_00003.jpg"),
            "cannot read the image .*00003.jpg.*delete it",
        ),
        (
            "stanford_cars",
            lambda root: without(root / "stanford_cars" / "devkit" / "cars_meta.mat"),
            "missing are .*cars_meta.mat.*issues/7545",
        ),
        (
            "stanford_cars",
            lambda root: to_noise(root / "stanford_cars" / "devkit" / "cars_meta.mat"),
            "unreadable are .*cars_meta.mat",
        ),
        (
            "stanford_cars",
            lambda root: without(root / "stanford_cars" / "cars_test" / "00002.jpg"),
            "lacks 1 images .*cars_test/00002.jpg",
        ),
        ("stanford_cars", lambda root: with_label(root, 197), "label 197 is none of 1 to 196"),
        (
            "stanford_cars",
            lambda root: (root / "stanford_cars" / "cars_test").rename(root / "elsewhere"),
            "missing are stanford_cars/cars_test",
        ),
    ],
)
def test_a_defect_of_photographs_is_named_with_its_file(written, tmp_path, name, spoil, words):
    written(name)
    spoil(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as raised:
        for split in ("train", "test"):
            data.load(name, split, image_size=32).array()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name, spoilt",
    [
        ("cifar10", "cifar-10-batches-py/data_batch_3"),
        ("svhn", "test_32x32.mat"),
        ("flowers102", "flowers-102/setid.mat"),
        ("stanford_cars", "stanford_cars/devkit/cars_meta.mat"),
    ],
)
def test_verify_names_the_file_that_is_not_as_published(written, tmp_path, capsys, name, spoilt):
    written(name)
    files = {one.file: one.ok for one in fetch.verify(name, tmp_path)}
    # the numbers of images are small here
    assert files.pop(spoilt) and all(ok for file, ok in files.items() if ", t" not in file)
    to_noise(tmp_path / spoilt)
    assert not {one.file: one.ok for one in fetch.verify(name, tmp_path)}[spoilt]
    assert cli.main(["data", "verify", name]) == 1 and spoilt in capsys.readouterr().out


def test_stats_tell_the_licence_and_whom_to_cite(written, capsys):
    written("svhn")
    assert cli.main(["data", "stats", "svhn"]) == 0
    said = capsys.readouterr().out
    assert (
        "licence: non-commercial use" in said
        and "citation: Netzer et al. 2011" in said
        and "train_images: 20" in said
    )
