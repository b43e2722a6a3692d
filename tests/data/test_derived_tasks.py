"""The tasks of the studies: their numbers of images come out exactly, and their folders are what
they say. tests/real/test_tasks.py makes them of the real archives.
"""

import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from dataset_files import CIFAR_NAMES, publish, write_cifar
from PIL import Image

from astroformer import cli, data, paths
from astroformer.data import archives, canonical, derive
from astroformer.data.tasks import TASKS, named
from astroformer.recipes import RECIPES

SHARED = Path(os.environ.get("ASTROFORMER_SHARED", paths.ROOT.parent / "shared")) / "data"


@pytest.mark.parametrize("name", TASKS)
def test_validation_and_fraction_of_a_task_give_exactly_its_numbers(name):
    task = TASKS[name]
    labels = np.repeat(np.arange(3), task.pool)
    left_out = data.images.held_out(labels, task.validation, seed=0)
    assert np.bincount(labels[left_out]).tolist() == [task.held_out] * 3
    rest = np.setdiff1d(np.arange(len(labels)), left_out)
    chosen = []
    for size, number in sorted(task.each.items(), key=lambda item: item[1]):
        taken = rest[data.stratified(labels[rest], task.fraction(size), seed=11)]
        assert np.bincount(labels[taken]).tolist() == [number] * 3
        assert set(taken).isdisjoint(left_out)
        chosen.append(set(taken))
    assert all(small <= large for small, large in zip(chosen, chosen[1:]))
    with pytest.raises(ValueError, match="no size 'huge'"):
        task.fraction("huge")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_the_same_as_its_derivation_and_names_a_recipe(name):
    task = TASKS[name]
    asked = task.derivation
    assert (task.name, task.title) == (asked.name, asked.title) and task.note
    assert task.recipe in RECIPES and task.metric in ("top1", "balanced_accuracy")
    assert asked.most in (0, task.pool) and asked.classes in (0, task.classes)


def test_the_numbers_of_images_are_those_of_the_design():
    numbers = {name: task.images for name, task in TASKS.items() if task.folds == 1}
    assert numbers == {
        "cifar100": {"low": 2_000, "middle": 10_000},
        "galaxies3": {"low": 150, "middle": 450},
        "tiny40": {"low": 1_000, "middle": 4_000},
        "cifar10_jpeg": {"low": 500, "middle": 2_000},
        "cifar100_20": {"low": 2_000},
    }
    folds = named("galaxy10_part")
    assert [task.derivation.fold for task in folds] == [0, 1, 2, 3, 4]
    assert all(TASKS[task.name].images == {"whole": 720} for task in folds)
    assert named("tiny40") == [TASKS["tiny40"]]
    with pytest.raises(ValueError, match="choose one of cifar100, galaxies3, tiny40"):
        named("galaxy10")


def test_galaxies3_is_made_of_a_folder_of_its_sources_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROFORMER_DATA", str(tmp_path))
    number = {"elliptical": 490, "edge_on": 480, "merger": 3, "unclear": 2}
    number |= {"spiral_anticlockwise": 250, "spiral_clockwise": 240}
    root, pixels = tmp_path / "galaxyzoo1-128", np.zeros((4, 4, 3), np.uint8)
    for split in ("train", "test"):
        for label, count in number.items():
            (root / split / label).mkdir(parents=True)
            for i in range(count if split == "train" else 2):
                Image.fromarray(pixels).save(root / split / label / f"{label}{split}{i}.png")
    pair = '[["spiral_anticlockwise", "spiral_clockwise"]]'
    (root / "about.json").write_text(f'{{"title": "Z", "mirrored": {pair}, "note": "credit"}}')
    assert cli.main(["data", "derive", "galaxies3"]) == 0
    task, where = TASKS["galaxies3"], {"data_dir": "galaxies3", "validation": 80 / 480}
    test = data.load("folder", "test", **where)
    assert test.classes == ("edge_on", "elliptical", "spiral")
    assert test.counts().tolist() == [2, 12, 14]
    assert data.load("folder", "validation", **where).counts().tolist() == [80] * 3
    for size in ("low", "middle"):
        images = data.load("folder", "train", **where, fraction=task.fraction(size), seed=3)
        assert images.counts().tolist() == [task.each[size]] * 3
    assert (test.about.name, test.about.title) == (task.name, task.title)
    assert test.about.mirrored == () and test.about.note.endswith("Made of Z: credit")


@pytest.fixture
def small_cifar100(tmp_path, monkeypatch):
    """Torchvision's files of four images a class and split, known by their digest."""
    monkeypatch.setenv("ASTROFORMER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "cache"))
    written = write_cifar(tmp_path / "data", "cifar100", batch=400)
    publish(monkeypatch, "cifar100", tmp_path / "data")
    digest = canonical.digest(
        (split, CIFAR_NAMES["cifar100"][label], image)
        for split, (pixels, labels) in written.items()
        for image, label in zip(pixels, labels)
    )
    known = canonical.Canonical("cifar100", "CIFAR-100", 100, 400, 400, 32, digest)
    monkeypatch.setattr(canonical, "KNOWN", (known,))
    return tmp_path / "data", written, digest


def same_data(one, other):
    """Whether two descriptions are of the same data."""
    return (one.name, one.title, one.kind, one.sha256) == (
        other.name,
        other.title,
        other.kind,
        other.sha256,
    )


def test_cifar100_of_torchvision_and_its_images_as_png_are_the_same_data(small_cifar100):
    place, written, digest = small_cifar100
    of_files = data.about("cifar100")
    assert of_files.sha256 == digest and of_files.name == "cifar100"
    assert cli.main(["data", "derive", "cifar100"]) == 0
    assert derive.check(place / "cifar100") == []
    of_folder = data.about("folder", "cifar100")
    assert same_data(of_folder, of_files) and same_data(
        data.about("folder", "cifar100-png"), of_files
    )
    for split in ("train", "test"):
        ours, theirs = data.load("folder", split, data_dir="cifar100"), data.load("cifar100", split)
        assert ours.classes == theirs.classes
        order = np.argsort(theirs.labels, kind="stable")  # the folder is sorted by class
        assert np.array_equal(ours.labels, theirs.labels[order])
        assert np.array_equal(ours.array(), theirs.array()[order])
    # a file that is written again with other pixels is another data set, whatever about.json says
    first = next((place / "cifar100" / "test" / "kind00").iterdir())
    first.unlink()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(first)
    about = data.about("folder", "cifar100")
    assert about.sha256 != digest and about.title == "CIFAR-100 (not all of its own images)"


def test_the_twenty_classes_are_the_fixed_draw_from_what_was_written_before(small_cifar100):
    place, _, _ = small_cifar100
    assert cli.main(["data", "derive", "cifar100"]) == 0
    written = (place / "cifar100-png" / "about.json").stat().st_mtime_ns
    assert cli.main(["data", "derive", "cifar100_20"]) == 0
    assert (place / "cifar100-png" / "about.json").stat().st_mtime_ns == written
    some = data.load("cifar100", "test", class_fraction=0.2)
    made = data.load("folder", "test", data_dir="cifar100_20")
    assert made.classes == some.classes and len(made.classes) == 20
    order = np.argsort(some.labels, kind="stable")
    assert np.array_equal(made.array(), some.array()[order])


def test_known_archives_of_cifar100_make_one_tree_in_any_order(small_cifar100, monkeypatch):
    place, _, digest = small_cifar100
    assert cli.main(["data", "derive", "cifar100"]) == 0
    packed = []
    for part in range(5):
        packed.append(place / f"part{part}.tar")
        with tarfile.open(packed[part], "w") as tar:
            for file in sorted((place / "cifar100").rglob("*.png")):
                split, rank = file.relative_to(place / "cifar100").parts[0], int(file.stem)
                if (rank % 4 == part) if split == "train" else part == 4:
                    tar.add(file, file.relative_to(place / "cifar100"))
    sha256 = [archives.file_sha256(one) for one in packed]
    monkeypatch.setattr(archives, "CIFAR100_TRAIN", set(sha256[:4]))
    monkeypatch.setattr(archives, "CIFAR100_TEST", sha256[4])
    made = archives.unpack(packed, place / "made")
    assert data.about("folder", made).sha256 == digest
    assert archives.unpack(packed[::-1], made) == made  # done before, in another order
    quarter = data.about("folder", archives.unpack([packed[4], packed[1]], place / "quarter"))
    assert quarter.title == "CIFAR-100 (25 % of the training images)"
    assert quarter.name == "cifar100-png" and quarter.kind == "real"


def unpacked(names, folder):
    found = [SHARED / f"{name}.tar.xz" for name in names]
    if absent := [one.name for one in found if not one.is_file()]:
        pytest.skip(f"{absent[0]} is not at hand; put it where ASTROFORMER_SHARED/data points to")
    return archives.unpack(found, folder)


@pytest.mark.real
def test_the_real_cifar100_is_known_as_png_and_as_torchvisions_files(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROFORMER_DATA", str(tmp_path))
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "cache"))
    parts = ["test", *(f"train{part}" for part in range(4))]
    unpacked([f"cifar100-png.{part}" for part in parts], tmp_path / "cifar100-png")
    assert cli.main(["data", "derive", "cifar100"]) == 0
    about = data.about("folder", "cifar100")
    assert about.name == "cifar100" and about.sha256 == canonical.SHA256_CIFAR100
    other = tmp_path / "other"
    (other / "cifar-100-python").mkdir(parents=True)
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        images = data.load("folder", split, data_dir="cifar100")
        mixed = random.permutation(len(images))  # the authors' files are not sorted by class
        rows = images.array()[mixed].transpose(0, 3, 1, 2).reshape(len(mixed), -1)
        content = {"data": rows, "fine_labels": images.labels[mixed].tolist()}
        (other / "cifar-100-python" / split).write_bytes(pickle.dumps(content))
    names = pickle.dumps({"fine_label_names": list(images.classes)})
    (other / "cifar-100-python" / "meta").write_bytes(names)
    publish(monkeypatch, "cifar100", other)
    assert same_data(data.about("cifar100", other), about)
    monkeypatch.setenv("ASTROFORMER_DATA", str(other))
    assert cli.main(["data", "derive", "cifar100"]) == 0
    assert same_data(data.about("folder", "cifar100"), about)
