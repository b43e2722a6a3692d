"""Galaxy10 DECaLS: a file in the published format is opened without being read, split fairly,
and copied once or not at all.
"""

import io
import json
import multiprocessing
import os
import pickle
import tracemalloc

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_files import draw, write_galaxy10, write_galaxy10_sdss
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from astroformer import data, locks, paths
from astroformer.data import galaxy10
from astroformer.data.augment import Augmented
from astroformer.recipes import get_recipe

PUBLISHED = (1081, 1853, 2645, 2027, 334, 2043, 1829, 2628, 1423, 1873)  # images of each class
silent = [].append  # takes a report


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """ROOT of a file of 100 images, ten of each class, and what is in it."""
    root = tmp_path_factory.mktemp("galaxy10")
    return root, *write_galaxy10(root)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "galaxy10_decals"


def load(root, split="train", **options):
    return data.load("galaxy10_decals", split, data_dir=root, **options)


def test_both_splits_together_are_the_file(written):
    root, pixels, labels = written
    splits = [load(root, split, split_seed=3) for split in ("train", "test")]
    places = [np.array(images.pixels.sources) for images in splits]
    assert sorted(np.concatenate(places)) == list(range(100)) and [
        len(images) for images in splits
    ] == [90, 10]
    for images, place in zip(splits, places, strict=True):
        assert np.array_equal(images.array(), pixels[place]) and np.array_equal(
            images.labels, labels[place]
        )
        assert (
            images.image_size == 256
            and images.classes[4] == "cigar-shaped smooth"
            and images.about.kind == "real"
        )
    assert splits[0].about.title == "part of Galaxy10 DECaLS (100 images)"


def test_another_size_is_the_middle_resized_bicubically_and_the_whole_stays_at_hand(written):
    root, pixels, _ = written
    images = load(root, image_size=64, crop_pct=0.5)
    place = images.pixels.sources[7]
    shrunk = Image.fromarray(pixels[place]).resize((128, 128), Image.Resampling.BICUBIC)
    assert np.array_equal(images.pixels[7], np.asarray(shrunk)[32:96, 32:96]) and np.array_equal(
        images.whole(7), pixels[place]
    )


def test_the_published_sizes_are_split_like_the_public_edition():
    labels = np.repeat(np.arange(10), PUBLISHED)
    tested = galaxy10.drawn(labels, None, 0)
    counts = np.bincount(labels[tested])
    assert (
        len(labels) == galaxy10.NUMBER
        and len(tested) == 1_774 == data.DATASETS["galaxy10_decals"].test
    )
    # the rarest: 33.4 of 334, cigars
    assert np.abs(counts - np.array(PUBLISHED) * 1_774 / 17_736).max() < 1 and counts[4] == 34
    assert np.array_equal(tested, galaxy10.drawn(labels, 1_774, 0)) and not np.array_equal(
        tested, galaxy10.drawn(labels, None, 1)
    )


@given(
    counts=st.lists(st.integers(3, 60), min_size=2, max_size=10),
    seed=st.integers(0, 2**31),
    data_=st.data(),
)
def test_every_class_gets_its_share_to_within_one_image_and_is_never_lost(counts, seed, data_):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    least = -(-len(labels) // min(counts))
    number = data_.draw(st.integers(least, len(labels) - least))
    tested = galaxy10.drawn(labels, number, seed)
    shares = np.bincount(labels[tested], minlength=len(counts))
    assert (
        len(set(tested)) == number
        and np.abs(shares - number * np.array(counts) / len(labels)).max() < 1
    )
    assert shares.min() > 0 and (np.array(counts) - shares).min() > 0


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(test_images=9), "test_images 9 of 100 .* choose from 10 to 90"),
        (dict(test_images=91), "choose from 10 to 90"),
        (dict(test_images=0), "choose from"),
        (dict(split_seed=-1), "split_seed -1 is negative"),
    ],
)
def test_a_split_that_cannot_be_is_refused(written, options, words):
    with pytest.raises(ValueError, match=words):
        load(written[0], **options)


def test_a_file_of_the_full_size_is_opened_without_reading_an_image(tmp_path, monkeypatch):
    """3.5 GB of images that were never written take no place on the disk; whoever read them all
    would need the memory.
    """
    with h5py.File(tmp_path / galaxy10.FILE, "w") as file:
        file.create_dataset(
            "images", (galaxy10.NUMBER, 256, 256, 3), np.uint8, chunks=(1, 256, 256, 3)
        )
        file["ans"] = np.repeat(np.arange(10), PUBLISHED).astype(np.uint8)
    read, get = [], h5py.Dataset.__getitem__
    monkeypatch.setattr(
        h5py.Dataset,
        "__getitem__",
        lambda one, key: (read.append((one.name, key)), get(one, key))[1],
    )
    tracemalloc.start()
    train, test = (load(tmp_path, split, image_size=64) for split in ("train", "test"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        (len(train), len(test)) == (15_962, 1_774)
        and train.about.title == "Galaxy10 DECaLS"
        and peak < 20e6
    )
    assert {name for name, _ in read} == {"/ans"}
    assert train.pixels[100].shape == (64, 64, 3) and [
        key for name, key in read if name == "/images"
    ] == [slice(train.pixels.sources[100], train.pixels.sources[100] + 1)]


@pytest.mark.parametrize("size", [256, 64])
def test_training_reads_a_memory_map_of_the_same_pixels(written, cache, size):
    root, pixels, _ = written
    images, said = load(root, image_size=size), []
    ready = images.ready(said.append)
    assert np.array_equal(ready.array(), images.array()) and np.array_equal(
        ready.whole(5), images.whole(5)
    )
    assert (ready.pixels.squares is None) == (size == 256)
    part = np.array([4, 9])
    assert np.array_equal(ready.take(part).pixels[1], images.pixels[9])
    assert np.array_equal(ready.take(part).whole(1), images.whole(9))
    (file,) = cache.glob("*.npy")
    assert np.array_equal(np.load(file), pixels) and len(said) == 1 and str(file) in said[0]
    before = file.stat().st_mtime_ns
    load(root, "test").ready(said.append)
    assert file.stat().st_mtime_ns == before and len(said) == 1 and not list(cache.glob("*.part"))


def test_squares_are_made_anew_where_memory_is_short_and_are_the_same(written, cache, monkeypatch):
    images = load(written[0], image_size=64)
    monkeypatch.setattr("astroformer.data.pixels.free_memory", lambda: 10_000)
    ready = images.ready(silent)
    assert ready.pixels.squares is None and np.array_equal(ready.array(0, 5), images.array(0, 5))


def test_random_crops_are_cut_from_the_whole_image(tmp_path, cache):
    """Stripes of one pixel are grey in a square of 32 pixels and black and white in a piece of
    the whole image.
    """
    stripes = np.zeros((20, 256, 256, 3), np.uint8)
    stripes[:, :, ::2] = 255
    write_galaxy10(tmp_path, images=stripes, labels=np.arange(20) % 10)
    ready = load(tmp_path, image_size=32, test_images=10).ready(silent)
    item, _ = Augmented(
        ready, get_recipe("smoke", crop="random-resized", crop_scale=(0.015, 0.016)), seed=0
    )[0, 3]
    assert np.ptp(ready.pixels[3]) < 20 and item.shape == (3, 32, 32) and np.ptp(item.numpy()) > 150


def test_a_whole_memory_map_is_read_without_its_lock_which_may_be_another_users(
    written, cache, monkeypatch
):
    first = load(written[0]).ready(silent)
    refused = PermissionError(13, "Permission denied")

    def locked(path):
        raise refused

    monkeypatch.setattr(galaxy10, "locked", locked)
    assert np.array_equal(load(written[0]).ready(silent).array(0, 3), first.array(0, 3))
    next(cache.glob("*.npy")).unlink()
    with pytest.raises(PermissionError, match="cannot write .*npy.* set ASTROFORMER_CACHE"):
        load(written[0]).ready(silent)


def test_a_memory_map_whose_lock_was_taken_meanwhile_is_left_to_the_process_that_took_it(
    written, cache, monkeypatch
):
    monkeypatch.setenv(locks.VARIABLE, "lease")
    copied = galaxy10.stored_images

    def taken_meanwhile(path, start, stop):
        [lease] = cache.glob("*.lease")
        other = cache / "other"
        other.write_text(json.dumps(locks.described()))
        os.replace(other, lease)
        return copied(path, start, stop)

    monkeypatch.setattr(galaxy10, "stored_images", taken_meanwhile)
    with pytest.raises(OSError, match="is not made here, as its lease was taken by another"):
        load(written[0]).ready(silent)
    # what the other writes bears the same name
    assert not list(cache.glob("*.npy")) and list(cache.glob("*.part"))


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_memory_map_is_whole_or_not_there(written, cache, monkeypatch, stopped_by):
    images, copied = load(written[0]), galaxy10.stored_images
    monkeypatch.setattr(galaxy10, "COPIED", 30)

    def stop_in_the_middle(path, start, stop):
        if start == 60:
            raise stopped_by
        return copied(path, start, stop)

    monkeypatch.setattr(galaxy10, "stored_images", stop_in_the_middle)
    with pytest.raises((KeyboardInterrupt, OSError)):
        images.ready(silent)
    assert not list(cache.glob("*.npy")) and not list(cache.glob("*.part"))
    monkeypatch.setattr(galaxy10, "stored_images", copied)
    assert np.array_equal(images.ready(silent).array(), images.array())


def test_a_cut_memory_map_is_made_again(written, cache):
    images = load(written[0])
    images.ready(silent)
    (file,) = cache.glob("*.npy")
    galaxy10.mapped.cache_clear()
    file.write_bytes(file.read_bytes()[:-100])
    assert np.array_equal(images.ready(silent).array(95 - 10), images.array(95 - 10))


def test_a_disk_too_small_for_the_memory_map_is_named(written, cache, monkeypatch):
    monkeypatch.setattr(
        galaxy10.shutil,
        "disk_usage",
        lambda path: galaxy10.shutil._ntuple_diskusage(10**6, 0, 10**6),
    )
    with pytest.raises(
        OSError, match="needs 0.0 GB in .* and 0.0 GB are free; make room, or set ASTROFORMER_CACHE"
    ):
        load(written[0]).ready(silent)
    assert not list(cache.glob("*.npy")) and paths.cache() in cache.parents


def first_item(pixels):
    return pixels[0].tobytes()


@pytest.mark.parametrize("mapped", [False, True])
def test_another_process_reads_the_same_whether_forked_or_told_by_pickle(written, cache, mapped):
    images = load(written[0])
    pixels = images.ready(silent).pixels if mapped else images.pixels
    expected = first_item(pixels)  # the file is open here before the other process is
    assert (
        len(pickle.dumps(pixels)) < 20_000
        and first_item(pickle.loads(pickle.dumps(pixels))) == expected
    )
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(first_item, (pixels,)) == expected


def test_the_fingerprint_follows_labels_and_pixels_and_not_the_place(written, tmp_path):
    root, pixels, labels = written
    before = data.about("galaxy10_decals", root).sha256
    write_galaxy10(tmp_path)
    assert data.about("galaxy10_decals", tmp_path).sha256 == before
    changed = pixels.copy()
    changed[50] = 255 - changed[50]
    for name, content in (("labels", (pixels, labels[::-1])), ("pixels", (changed, labels))):
        write_galaxy10(tmp_path / name, images=content[0], labels=content[1])
        assert data.about("galaxy10_decals", tmp_path / name).sha256 != before


def rewritten(key, value):
    def spoil(path):
        with h5py.File(path, "a") as file:
            del file[key]
            if value is not None:
                file[key] = value

    return spoil


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda path: path.unlink(), "there is no .*Galaxy10_DECals.h5"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5000]), "truncated file"),
        (
            lambda path: path.write_bytes(b"<!DOCTYPE html><html>"),
            "no HDF5 file, it begins with b'<!DOCTYPE html>",
        ),
        (lambda path: path.write_bytes(b""), "no HDF5 file"),
        (rewritten("ans", None), "it has no ans"),
        (rewritten("images", None), "it has no images"),
        (
            rewritten("images", np.zeros((20, 69, 69, 3), np.uint8)),
            r"its images are uint8 \(20, 69, "
            r"69, 3\), not uint8 \(N, 256, "
            r"256, 3\)",
        ),
        (rewritten("images", np.zeros((20, 256, 256, 3), np.int16)), "its images are int16"),
        (rewritten("ans", np.arange(10)), r"its 20 images have labels \(ans\) of int64 \(10,\)"),
        (rewritten("ans", np.zeros(20, np.float32)), "labels .* of float32"),
        (rewritten("ans", np.arange(20)), "go from 0 to 19, not from 0 to 9"),
        (rewritten("ans", np.arange(20) - 15), "go from -15 to 4"),
    ],
)
def test_a_file_that_is_not_the_published_one_is_named_with_what_is_wrong(
    tmp_path, cache, spoil, words
):
    write_galaxy10(tmp_path, number=20)
    spoil(tmp_path / galaxy10.FILE)
    with pytest.raises(
        (ValueError, FileNotFoundError),
        match=f"{words}.*data fetch galaxy10_decals.*{galaxy10.SHA256}",
    ) as raised:
        load(tmp_path)
    assert "\n" not in str(raised.value) and not cache.exists()


def test_a_damaged_block_is_named_when_it_is_read_and_nothing_is_kept(tmp_path, cache):
    write_galaxy10(tmp_path, images=draw(20, size=256)[0], labels=draw(20)[1])
    with h5py.File(tmp_path / galaxy10.FILE) as file:
        block = file["images"].id.get_chunk_info(8)
    with open(tmp_path / galaxy10.FILE, "r+b") as file:
        file.seek(block.byte_offset + 100)
        file.write(bytes(1000))
    with pytest.raises(
        ValueError, match="images 0 to 19 cannot be read: .*data fetch galaxy10_decals"
    ):
        load(tmp_path, test_images=10).ready(silent)
    assert not list(cache.glob("*.npy")) and not list(cache.glob("*.part"))


@pytest.mark.parametrize(
    "asked, name, words",
    [
        (
            "galaxy10_decals",
            "Galaxy10.h5",
            "Galaxy10.h5 is Galaxy10 SDSS, with other images and cl",
        ),
        ("galaxy10_decals", "mine.hdf5", "mine.hdf5 is not it"),
        ("galaxy10_sdss", "Galaxy10_DECals.h5", "is Galaxy10 DECaLS, .* --dataset galaxy10_decals"),
        ("galaxy10_sdss", "train-0.parquet", "the 1 Parquet files there .* are not read"),
    ],
)
def test_another_edition_in_place_of_the_file_is_named(tmp_path, asked, name, words):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=words) as error:
        data.load(asked, "train", data_dir=tmp_path)
    own = galaxy10.edition(asked)
    assert "\n" not in str(error.value) and own.file in str(error.value)
    assert f"data fetch {asked}" in str(error.value)


# Galaxy10 SDSS


def test_galaxy10_sdss_is_read_as_the_other_is(tmp_path, cache):
    pixels, _ = write_galaxy10_sdss(tmp_path, number=200)
    splits = [data.load("galaxy10_sdss", one, data_dir=tmp_path) for one in ("train", "test")]
    places = np.concatenate([np.array(images.pixels.sources) for images in splits])
    assert [len(images) for images in splits] == [180, 20] and sorted(places) == list(range(200))
    assert np.array_equal(np.concatenate([one.array() for one in splits]), pixels[places])
    assert splits[0].image_size == 69 and splits[0].classes[9] == "Disk, Face-on, Loose Spiral"
    assert splits[0].about.title == "part of Galaxy10 SDSS (200 images)"
    ready = splits[0].ready(silent)
    assert np.array_equal(ready.array(), splits[0].array())
    assert list((cache.parent / "galaxy10_sdss").glob("*.npy")) and not cache.exists()


def test_the_published_number_of_galaxy10_sdss_is_that_of_the_table():
    row, own = data.DATASETS["galaxy10_sdss"], galaxy10.edition("galaxy10_sdss")
    labels = np.arange(own.number) % 10
    assert row.train + row.test == own.number and row.image_size == own.size
    assert len(galaxy10.drawn(labels, None, 0)) == row.test


# The Hugging Face edition


def write_parquet(root, number=30, files=2, test=10):
    """Files in that edition's format: split -> (pixels, labels)."""
    (root / "data").mkdir(parents=True)
    written = {}
    for split, total, parts in (("train", number, files), ("test", test, 1)):
        generator = np.random.default_rng([total, parts])
        pixels = generator.integers(0, 256, (total, 256, 256, 3), dtype=np.uint8)
        labels = np.arange(total) % 10
        for part, rows in enumerate(np.array_split(np.arange(total), parts)):
            encoded = []
            for row in rows:
                stream = io.BytesIO()
                Image.fromarray(pixels[row]).save(stream, "PNG")
                encoded.append({"bytes": stream.getvalue(), "path": f"{row}.png"})
            table = pa.table({"image": encoded, "label": labels[rows]})
            name = f"{split}-{part:05d}-of-{parts:05d}-0123456789abcdef.parquet"
            pq.write_table(table, root / "data" / name, row_group_size=7)
        written[split] = pixels, labels
    return written


def test_the_hugging_face_edition_is_read_with_its_own_split(tmp_path, cache):
    written = write_parquet(tmp_path)
    for split, (pixels, labels) in written.items():
        images = load(tmp_path, split)
        assert np.array_equal(images.labels, labels) and np.array_equal(images.array(), pixels)
        order = np.random.default_rng(0).permutation(len(labels))
        assert all(np.array_equal(images.whole(one), pixels[one]) for one in order)
        ready = images.ready(silent)
        assert np.array_equal(ready.array(), pixels)
        assert np.array_equal(ready.take(order[:3]).pixels[1], pixels[order[1]])
    assert images.about.title == (
        "part of Galaxy10 DECaLS (Hugging Face edition) (30 train, 10 test images)"
    )
    assert data.usual("galaxy10_decals", tmp_path) == {} and len(list(cache.glob("*.npy"))) == 2
    assert pickle.loads(pickle.dumps(images.pixels))[3].tobytes() == pixels[3].tobytes()
    for asked in (dict(test_images=10), dict(split_seed=1)):
        with pytest.raises(ValueError, match="has a split of its own; leave out --test-images"):
            load(tmp_path, **asked)


def test_the_fingerprint_of_the_hugging_face_edition_follows_labels_and_bytes(tmp_path):
    for name, number in (("a", 30), ("b", 30), ("c", 31)):
        write_parquet(tmp_path / name, number)
    found = {name: data.about("galaxy10_decals", tmp_path / name).sha256 for name in "abc"}
    assert found["a"] == found["b"] != found["c"]


def written_as(**columns):
    return lambda path: pq.write_table(pa.table(columns), path)


IMAGE = [{"bytes": b"no image", "path": "0"}] * 10


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda path: path.write_bytes(b"PAR1" + bytes(50) + b"PAR1"), "is not of Galaxy10 DECaLS"),
        (lambda path: path.write_bytes(path.read_bytes()[:-300]), "is not of Galaxy10 DECaLS"),
        (lambda path: path.write_bytes(b""), "is not of Galaxy10 DECaLS"),
        (written_as(picture=[1], label=[1]), "its columns are picture, label, not image and label"),
        (written_as(image=IMAGE), "it has no column label"),
        (written_as(image=IMAGE, label=[0.5] * 10), "its 10 labels are float64"),
        (written_as(image=IMAGE, label=[11] * 10), "its labels go from 11 to 11, not 0 to 9"),
        (written_as(image=IMAGE, label=list(range(10))), "cannot read the image .*, image 0 "),
    ],
)
def test_a_parquet_file_that_is_not_of_that_edition_is_named(tmp_path, spoil, words):
    write_parquet(tmp_path, 20, 1)
    spoil(next(tmp_path.rglob("train-*.parquet")))
    with pytest.raises(ValueError, match=words) as error:
        load(tmp_path).array()
    assert "\n" not in str(error.value) and "train-00000" in str(error.value)
