"""A process that lives for hours sees what comes, goes and changes on the disk, in every source;
and nobody can change what it keeps.
"""

import random
import shutil

import numpy as np
import pytest
from dataset_files import (
    publish,
    write_cars,
    write_cifar,
    write_flowers,
    write_galaxy10,
    write_galaxy10_sdss,
    write_svhn,
)
from galaxy_folder import write_galaxies
from imagenet_tree import write_tree
from tiny_imagenet_tree import write_tiny_imagenet

from astroformer import data
from astroformer.data import folder, listing

WRITERS = {
    "folder": lambda root: write_galaxies(root, train=4, test=3),
    "tiny_imagenet": write_tiny_imagenet,
    "tiny_imagenet in its archive": lambda root: write_tiny_imagenet(root, zipped=True),
    "imagenet1k": write_tree,
    "cifar10": lambda root: write_cifar(root, "cifar10"),
    "svhn": write_svhn,
    "flowers102": write_flowers,
    "stanford_cars": write_cars,
    "galaxy10_decals": write_galaxy10,
    "galaxy10_sdss": write_galaxy10_sdss,
}
# whose files may have any names and contents
FREE = ("folder", "tiny_imagenet", "imagenet1k")


@pytest.fixture
def written(tmp_path, monkeypatch):
    """ROOT of a data set in its own format."""
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "cache"))

    def write(name, below="here"):
        root = tmp_path / below / "root"
        WRITERS[name](root)
        publish(monkeypatch, name, root)
        return root

    return write


def told(name, root):
    """All that a data set says, or why it says nothing."""
    name, said = name.split()[0], []
    try:
        said += [data.classes(name, root), data.about(name, root)]
        said += [data.train_size(name, data_dir=root), data.native_image_size(name, root)]
        for split in ("train", "test"):
            images = data.load(name, split, data_dir=root, image_size=16)
            said += [images.labels.tolist(), images.array(0, 30).tobytes(), images.about]
    except (ValueError, OSError) as error:
        return [str(error).replace(str(root), "ROOT")]
    return said


def remove(path, other):
    content = path.read_bytes()
    path.unlink()
    return lambda: path.write_bytes(content)


def add(path, other):
    new = path.with_name(f"new_{path.name}")
    new.write_bytes(path.read_bytes())
    return new.unlink


def rename(path, other):
    new = path.with_name(f"zz_{path.name}")
    path.rename(new)
    return lambda: new.rename(path)


def overwrite(path, other):
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    return lambda: path.write_bytes(content)


def flip(path, other):
    """Another last byte, in a file of the same size."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 255]))
    return lambda: path.write_bytes(content)


def move_folder(path, other):
    new = path.parent.with_name(f"zz_{path.parent.name}")
    path.parent.rename(new)
    return lambda: new.rename(path.parent)


EDITS = (remove, add, rename, overwrite, flip, move_folder)


@pytest.mark.parametrize("name", WRITERS)
def test_after_any_change_a_process_tells_what_one_that_begins_anew_would(written, tmp_path, name):
    root, generator = written(name), random.Random(name)
    before, changes, files = told(name, root), set(), sorted(root.rglob("*.*"))
    files = [path for path in files if path.is_file()]
    assert len(before) > 1 and files
    for number in range(18):
        path, other = generator.choices(files, k=2)
        edit = EDITS[number % len(EDITS)]
        if edit is move_folder and path.parent == root:
            continue
        undo = edit(path, other)
        after = told(name, root)
        fresh = shutil.copytree(root, tmp_path / f"copy {number}" / "root")
        assert after == told(name, fresh), f"{edit.__name__} {path}"
        if after != before:
            changes.add((edit, len(after) > 1))
        undo()
        assert told(name, root) == before, f"{edit.__name__} {path}, undone"
    # some are seen as other data, some as defects
    assert len(changes) >= (4 if name in FREE else 2)
    assert name not in FREE or {good for _, good in changes} == {True, False}


@pytest.mark.parametrize("in_place", [True, False])
def test_the_galaxies_of_another_file_take_the_place_of_those_before(written, tmp_path, in_place):
    root = written("galaxy10_decals")
    before = data.load("galaxy10_decals", "train", data_dir=root, image_size=16)
    was = before.array()  # HDF5 has the file open
    ready = before.ready(print)
    pixels, labels = write_galaxy10(tmp_path / "other", number=110)
    file, other = (folder / "Galaxy10_DECals.h5" for folder in (root, tmp_path / "other"))
    file.write_bytes(other.read_bytes()) if in_place else other.replace(file)
    after = data.load("galaxy10_decals", "train", data_dir=root, image_size=16)
    assert (len(before), len(after)) == (90, 99) and after.about.sha256 != before.about.sha256
    places = after.pixels.sources
    assert np.array_equal(after.labels, labels[places])
    for one in (after, after.ready(print)):
        assert np.array_equal(one.whole(7), pixels[places[7]])
    assert np.array_equal(ready.array(), was)  # its memory map is another file


def test_a_rewritten_archive_is_read_anew(written):
    root = written("tiny_imagenet in its archive")
    before = data.load("tiny_imagenet", "test", data_dir=root).array()
    write_tiny_imagenet(root, zipped=True, val=6)
    after = data.load("tiny_imagenet", "test", data_dir=root)
    assert (len(before), len(after), len(after.array())) == (12, 18, 18)


def test_published_files_that_are_put_right_are_read_after_having_been_refused(written):
    root = written("cifar10")
    batch = root / "cifar-10-batches-py" / "data_batch_2"
    content = batch.read_bytes()
    batch.write_bytes(content[:-10])
    with pytest.raises(FileNotFoundError, match="not as published"):
        data.load("cifar10", "train", data_dir=root)
    batch.write_bytes(content)
    assert len(data.load("cifar10", "train", data_dir=root)) == 110


def test_an_about_json_that_comes_later_is_read(written):
    root = written("folder")
    before = data.about("folder", root)
    (root / "about.json").write_text('{"name": "mine", "mirrored": [["cigar", "round"]]}')
    after = data.load("folder", "train", data_dir=root).about
    assert (before.name, before.mirrored) == ("root", ())
    assert (after.name, after.mirrored) == ("mine", (("cigar", "round"),))
    assert after.sha256 == before.sha256  # which is of the images


def test_a_long_listing_is_not_repeated_at_once_and_a_short_one_always(written, monkeypatch):
    root = written("folder")
    monkeypatch.setattr(listing, "QUICK", 0.0)
    monkeypatch.setattr(listing, "LIFETIME", 1e9)
    before = listing.signature([root])
    (root / "train" / "round" / "new.png").write_bytes(b"x")
    after = listing.signature([root])
    assert after != before
    monkeypatch.setattr(listing, "FEW", 10)
    assert listing.signature([root]) == after
    (root / "train" / "round" / "new.png").unlink()
    assert listing.signature([root]) == after
    assert listing.signature([root, root / "train"]) != after


def test_few_files_are_listed_anew_however_many_folders_they_lie_in(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "QUICK", 0.0)
    monkeypatch.setattr(listing, "LIFETIME", 1e9)
    monkeypatch.setattr(listing, "FEW", 10)
    for number in range(30):
        (tmp_path / f"kind{number:02}").mkdir()
    for number in range(10):
        (tmp_path / f"kind{number:02}" / "1.png").write_bytes(b"x")
    before = listing.signature([tmp_path])
    (tmp_path / "kind00" / "1.png").write_bytes(b"another")
    assert listing.signature([tmp_path]) != before


def test_links_are_followed_and_those_that_lead_nowhere_or_back_do_no_harm(tmp_path):
    elsewhere = tmp_path / "elsewhere" / "round"
    elsewhere.mkdir(parents=True)
    (elsewhere / "1.png").write_bytes(b"x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "round").symlink_to(elsewhere)
    (root / "back").symlink_to(root)
    (root / "nowhere").symlink_to(tmp_path / "nothing")
    before = listing.signature([root])
    assert listing.signature([root]) == before
    (elsewhere / "1.png").write_bytes(b"y")
    after = listing.signature([root])
    assert after != before
    (tmp_path / "nothing").write_bytes(b"z")
    assert listing.signature([root]) != after != listing.signature([tmp_path / "absent"])


@pytest.mark.parametrize("name", [*WRITERS, "galaxies"])
def test_nobody_can_write_into_what_the_process_keeps(written, tmp_path, monkeypatch, name):
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "cache"))
    root = None if name == "galaxies" else written(name)
    name = name.split()[0]
    for size in (16, data.native_image_size(name, root)):
        options = dict(data_dir=root, image_size=size) | (
            {"train_images": 20} if name == "galaxies" else {}
        )
        images = data.load(name, "train", **options)
        first, labels = images.array(0, 2), images.labels.copy()
        for one in (images, images.ready(print), images.ready(print, whole=True)):
            kept = [one.labels]
            kept += [one.pixels] if isinstance(one.pixels, np.ndarray) else []
            kept += [
                array
                for array in (
                    getattr(one.pixels, "squares", None),
                    getattr(one.pixels, "sources", 0),
                )
                if isinstance(array, np.ndarray) and array.ndim > 1
            ]
            if getattr(one.pixels, "wholes", None) is not None:
                kept.append(one.whole(0))
            for array in kept:
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 1
            one.array(0, 2)[:] = 7  # a copy
        again = data.load(name, "train", **options)
        assert np.array_equal(again.array(0, 2), first) and np.array_equal(again.labels, labels)


def test_the_same_folder_is_described_once_while_it_stays_as_it_is(written, monkeypatch):
    root = written("folder")
    before = data.load("folder", "train", data_dir=root)
    monkeypatch.setattr(
        folder, "contents_of", lambda *asked: pytest.fail("read although nothing changed")
    )
    assert data.load("folder", "train", data_dir=root).labels is before.labels
    assert data.about("folder", root) is before.about
