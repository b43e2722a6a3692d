"""Folders of values: which files are the images, what is said of them, bands of any number through
the loaders and augmentations, and the identity of a run on them.
"""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from astroformer import data
from astroformer.cli import main
from astroformer.data import folder_tree, on_device, stretch, values
from astroformer.data.augment import Augmented, BatchAugmentation
from astroformer.data.folder import load_folder
from astroformer.data.images import About, Images
from astroformer.data.loader import Loader, Squares, shared
from astroformer.data.pixels import Packed, shown, square
from astroformer.recipes import get_recipe
from astroformer.training import Run

CPU = torch.device("cpu")


def galaxy(seed, channels=1, size=24):
    """float32 (C, H, W)"""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2
    light = np.exp(-np.hypot(x, y * (1 + seed % 2)) / 4)
    image = light * np.arange(1, channels + 1)[:, None, None]
    return (image + 0.02 * random.normal(size=image.shape)).astype(np.float32)


def write(root, channels=1, *, bands="", change=None, splits=(("train", 6), ("test", 3))):
    """FITS files, one a galaxy, or one for each of `bands`; `change` of the array (C, H, W)."""
    for split, number in splits:
        for label, name in enumerate(("a", "b")):
            place = root / split / name
            place.mkdir(parents=True, exist_ok=True)
            for index in range(number):
                image = galaxy(2 * index + label, channels)
                image = image if change is None else change(image, index)
                for band, plane in zip(bands, image):
                    fits.writeto(place / f"{index}_{band}.fits", plane)
                if not bands:
                    whole = image[0] if channels == 1 else image
                    fits.writeto(place / f"{index}.fits", whole)
    return root


def load(root, split="train", **how):
    return data.load("folder", split, data_dir=root, **how)


def error_of(call):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# Which files


def test_values_alone_need_a_stretch_and_say_so(tmp_path):
    root = write(tmp_path / "a")
    for split in ("train", "test"):
        assert "choose a stretch (--stretch linear, asinh" in error_of(
            lambda s=split: load(root, s)
        )
    images = load(root, stretch="asinh")
    assert images.channels == 1 and images.array().shape == (12, 24, 24, 1)
    assert np.ptp(images.array()) == 255 and images.image_size == 24


@pytest.mark.parametrize("suffix", [".fits", ".npy"])
def test_pictures_and_values_in_one_folder_are_not_mixed(tiny_folder, tmp_path, suffix):
    root = shutil.copytree(tiny_folder, tmp_path / "a")
    for split in ("train", "test"):
        for index in range(2):
            for name in ("round", "cigar", "spiral"):
                path = root / split / name / f"v{index}{suffix}"
                image = galaxy(index)[0]
                np.save(path, image) if suffix == ".npy" else fits.writeto(path, image)
    images = load(root)
    assert len(images) == 48 and images.about.remarks == (f"a: left out: 12 {suffix}",)
    images = load(root, stretch="asinh")
    assert len(images) == 6 and images.channels == 1
    assert images.about.remarks[0] == "a: left out: 72 .png"


def test_a_split_with_images_of_another_kind_is_named(tmp_path):
    root = write(tmp_path / "a", splits=[("train", 2)])
    for name in ("a", "b"):
        (root / "test" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "test" / name / "0.png")
    said = error_of(lambda: load(root, "test", stretch="asinh"))
    assert "has no images, but 1 .png; the others are FITS, and a data set has images of" in said
    said = error_of(lambda: load(root))
    assert "has no images, but 2 .fits; FITS files are not read beside pictures" in said


@pytest.mark.parametrize("stretched", ["", "asinh"])
def test_pictures_of_8_bits_and_of_more_are_counted_apart(tmp_path, stretched):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for index in range(3):
            grey = (255 * galaxy(index)[0].clip(0, 1)).astype(np.uint8)
            deep = (grey.astype(np.uint16) << 8) if index == 2 else grey
            Image.fromarray(deep).save(tmp_path / "train" / name / f"{index}.png")
    said = error_of(lambda: load(tmp_path, stretch=stretched))
    assert "2 of 6 images of" in said and "such as train/a/2.png" in said


def test_a_file_for_each_band_is_one_galaxy_in_the_order_of_the_bands(tmp_path):
    files, cubes = write(tmp_path / "f", 3, bands="grz"), write(tmp_path / "c", 3)
    one, other = (load(root, stretch="asinh", bands=bands)
                  for root, bands in ((files, "g,r,z"), (cubes, "")))  # fmt: skip
    assert len(one) == 12 and np.array_equal(one.array(), other.array())
    assert one.reading.names == ("z", "r", "g")  # red, green and blue
    assert "bands z, r, g are red, green and blue" in one.about.remarks
    two = load(files, stretch="asinh", bands="z,g")
    assert two.channels == 2 and np.array_equal(two.array()[..., 0], one.array()[..., 0])
    assert "f: left out: 18 .fits of no band that is asked for" in two.about.remarks
    single = load(files, stretch="asinh", bands="r")
    assert np.array_equal(single.array()[..., 0], one.array()[..., 1])


def test_bands_that_nobody_named_are_found_by_the_names_of_the_files(tmp_path):
    root = write(tmp_path / "f", 3, bands="zgr")
    assert "has 3 files, one a band (0_g and so on); say so with --bands g,r,z" in error_of(
        lambda: load(root, stretch="asinh")
    )
    for path in sorted((root / "train").rglob("*_g.fits")):
        path.unlink()  # no longer the same bands of all: images of their own
    assert len(load(root, stretch="asinh")) == 24


def test_a_galaxy_that_lacks_a_band_is_left_out_and_counted(tmp_path):
    root = write(tmp_path / "f", 3, bands="grz")
    (root / "train" / "a" / "2_r.fits").unlink()
    (root / "test" / "b" / "0_g.fits").unlink()
    images = load(root, stretch="asinh", bands="g,r,z")
    assert len(images) == 11
    assert "f: left out: 2 galaxies without a file for each band" in images.about.remarks


@given(st.lists(st.sampled_from("grizy"), min_size=1, max_size=4), st.sampled_from(["", " "]))
def test_bands_are_named_once_with_or_without_blanks(names, blank):
    text = f"{blank},{blank}".join(names)
    if len({*names}) == len(names):
        assert folder_tree.parsed_bands(text) == tuple(names)
    else:
        with pytest.raises(ValueError, match="twice; name each band once"):
            folder_tree.parsed_bands(text)


@pytest.mark.parametrize("suffix", [".npy", ".fits"])
def test_values_of_8_bits_are_pictures_and_other_numbers_of_bands_are_named(tmp_path, suffix):
    def put(root, channels):
        for name in ("a", "b"):
            (root / "train" / name).mkdir(parents=True)
            for index in range(2):
                image = (255 * galaxy(index, channels).clip(0, 1)).astype(np.uint8)
                image = image[0] if channels == 1 else image
                path = root / "train" / name / f"{index}{suffix}"
                np.save(path, image) if suffix == ".npy" else fits.writeto(path, image)
        return root

    grey = put(tmp_path / "1", 1)
    images = load(grey)
    assert images.channels == 3 == data.channels("folder", grey) and images.array().any()
    assert "8 bits a channel, and a stretch is for more" in error_of(
        lambda: load(grey, stretch="asinh")
    )
    two = put(tmp_path / "2", 2)
    assert "have 2 bands of 8 bits, and a picture has three; name those that are used with --band" \
           "s 0,1" in error_of(lambda: load(two))  # fmt: skip
    assert load(two, bands="0,1").channels == 2 == data.channels("folder", two, bands="0,1")


# What is said


def test_pixels_without_a_value_are_black_and_counted(tmp_path):
    def holes(image, index):
        image[:, 3, 4:6] = (np.nan, np.inf) if index == 1 else image[:, 3, 4:6]
        return image

    root = write(tmp_path / "a", change=holes)
    images = load(root, stretch="linear")
    # a file of each class and split; rows are turned
    assert "a: 8 pixels of 4 images have no value (NaN, infinite or masked) and are black" in (
        images.about.remarks
    )
    assert images.pixels[1][20, 4:6, 0].tolist() == [0, 255]  # infinity is the brightest
    assert images.pixels[0][20, 4, 0] > 0


def test_an_image_of_nothing_but_nan_is_named(tmp_path):
    root = write(tmp_path / "a", change=lambda image, index: image * (np.nan if index == 2 else 1))
    said = error_of(lambda: load(root, stretch="asinh"))
    assert "4 images of" in said and "no pixel that is a number (train/a/2.fits, train/b/2" in said


def test_images_with_other_numbers_of_bands_are_named(tmp_path):
    root = write(tmp_path / "a", 3)
    (root / "train" / "a" / "3.fits").unlink()
    fits.writeto(root / "train" / "a" / "3.fits", galaxy(0, 5))
    said = error_of(lambda: load(root, stretch="asinh"))
    assert "several numbers of bands: 3 (" in said and "5 (" in said and "3.fits" in said


def test_a_file_without_an_image_is_named_before_anything_is_trained(tmp_path):
    root = write(tmp_path / "a")
    fits.PrimaryHDU().writeto(root / "test" / "b" / "9.fits")
    assert "b/9.fits has no image; remove it" in error_of(lambda: load(root, stretch="asinh"))


def test_files_stay_as_they_are_with_their_wcs(tmp_path):
    root = write(tmp_path / "a")
    path = root / "train" / "a" / "0.fits"
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
    fits.writeto(path, galaxy(0)[0], wcs.to_header(), overwrite=True)
    before = path.read_bytes()
    load(root, stretch="asinh").ready(print).array()
    assert path.read_bytes() == before and WCS(fits.getheader(path)).wcs.crval[0] == 150


def test_a_stretch_with_limits_is_taken_as_it_is_and_other_units_are_refused(tmp_path):
    root, other = write(tmp_path / "a", 3), write(tmp_path / "b", 3)
    applied = load(root, stretch="asinh").reading.stretch
    again = stretch.stretch_of(json.loads(json.dumps(applied.told())))
    images = load(other, "test", stretch=again)
    assert images.reading.stretch == applied
    assert np.array_equal(images.array(), load(root, "test", stretch="asinh").array())
    brighter = write(tmp_path / "c", 3, change=lambda image, index: 1000 * image)
    said = error_of(lambda: load(brighter, "test", stretch=again))
    assert "are not in the units of the training images" in said


def test_the_fingerprint_follows_the_bytes_of_every_file_and_its_place(tmp_path):
    root = write(tmp_path / "a", 2, bands="gr")
    same = shutil.copytree(root, tmp_path / "b")
    how = {"stretch": "asinh", "bands": "g,r"}
    before = data.about("folder", root, **how).sha256
    assert data.about("folder", same, **how).sha256 == before
    for path in ("train/a/0_g.fits", "test/b/2_r.fits"):
        content = (same / path).read_bytes()
        (same / path).write_bytes(content[:-1] + b"\1")
        assert data.about("folder", same, **how).sha256 != before
        (same / path).write_bytes(content)
    (same / "train/a/0_g.fits").rename(same / "train/a/x_g.fits")
    (same / "train/a/0_r.fits").rename(same / "train/a/x_r.fits")
    assert data.about("folder", same, **how).sha256 != before


# One band, and five


def images_of(channels, size=24, number=8):
    pixels = np.stack([
        (255 * np.moveaxis(galaxy(seed, channels, 32), 0, 2) / channels).clip(0, 255)
        for seed in range(number)
    ]).astype(np.uint8)  # fmt: skip
    about = About("toy", "toy", "synthetic")
    cut = data.pixels.stored_or_cut(pixels, size)
    return Images(cut, np.arange(number) % 2, ("a", "b"), size, "train", about)


BUSY = dict(
    randaugment="rand-m9-mstd0.5-inc1", color_jitter=0.3, autoaugment="cifar10-released",
    hflip=0.5, vflip=0.5, rotate90=True,
)  # fmt: skip
RECIPES = [
    dict(crop="pad", randaugment="", hflip=0.5),
    dict(crop="random-resized", **BUSY),
    dict(crop="pad", **BUSY | {"autoaugment": "svhn", "randaugment": "rand-m5-mstd0.5"}),
]


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("changes", RECIPES)
def test_each_band_is_augmented_alike_on_the_host(channels, changes):
    """What comes of an image whose bands are all the same has the same bands."""
    images, recipe = images_of(channels), get_recipe("smoke", **changes)
    made = Augmented(images, recipe, seed=0, mean=[0.2] * channels)
    for index in range(8):
        item, _ = made[0, index]
        assert item.shape == (channels, 24, 24) and item.dtype == torch.uint8
        assert torch.equal(item, made[0, index][0])
    grey = images_of(1)
    alike = Images(
        np.repeat(grey.array(), channels, 3), grey.labels, grey.classes, 24, "train", grey.about
    )
    alone = Augmented(alike.take(np.arange(8)), recipe, seed=0, mean=[0.2] * channels)
    one = Augmented(
        Images(grey.array(), grey.labels, grey.classes, 24, "train", grey.about),
        recipe, seed=0, mean=[0.2],
    )  # fmt: skip
    for index in range(8):
        item, single = alone[3, index][0], one[3, index][0]
        assert all(torch.equal(band, single[0]) for band in item)


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("changes", RECIPES)
def test_each_band_is_augmented_alike_on_the_device(channels, changes):
    grey = images_of(1).array()
    images = images_of(1)
    recipe = get_recipe("smoke", augmentation="device", **changes)

    def augmented(number):
        own = np.repeat(grey, number, axis=3)
        some = Images(own, images.labels, images.classes, 24, "train", images.about)
        loader = on_device.DeviceLoader(some, recipe, seed=0, mean=[0.2] * number, device=CPU)
        return loader.augmented([(0, index) for index in range(8)])[0]

    found, single = augmented(channels), augmented(1)
    assert found.shape == (8, channels, 24, 24)
    assert all(torch.equal(found[:, [band]], single) for band in range(channels))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_one_channel_is_changed_on_the_device_as_pillow_changes_grey_images(channels):
    """Contrast, brightness and sharpness of each band are those of a grey picture."""
    from PIL import ImageEnhance

    from astroformer.data import device_operations as operations

    images = torch.from_numpy(images_of(channels).array()).permute(0, 3, 1, 2)
    factors = torch.linspace(0.2, 1.8, len(images), dtype=torch.float64)
    for name in ("Contrast", "Brightness", "Sharpness", "Color"):
        found = getattr(operations, name.lower())(images.clone(), factors)
        for one, factor, made in zip(images, factors, found):
            for band, own in zip(one, made):
                picture = Image.fromarray(band.numpy())
                expected = np.asarray(getattr(ImageEnhance, name)(picture).enhance(float(factor)))
                assert np.array_equal(own.numpy(), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_bands_go_through_loaders_memory_and_batches(channels):
    images = images_of(channels, size=20)
    assert images.channels == channels and images.array().shape == (8, 20, 20, channels)
    for kept in (images.ready(print), images.ready(print, whole=True)):
        assert np.array_equal(kept.array(), images.array())
    sent = pickle.loads(pickle.dumps(Squares(images)))
    batch, labels = next(Loader(sent).in_order(8))
    assert batch.shape == (8, channels, 20, 20) and labels.tolist() == images.labels.tolist()
    assert shared(images).pixels.channels == channels
    mean, std = images.statistics()
    made = BatchAugmentation(
        get_recipe("smoke", cutmix=1.0, mixup=0.2), mean=mean, std=std, num_classes=2, device=CPU
    )
    x, _ = made(batch, labels, seed=0)
    assert x.shape == batch.shape and abs(float(x.mean())) < 1


@given(st.integers(1, 6), st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1))
@settings(max_examples=30)
def test_packed_images_come_back_whatever_their_bands(channels, sides):
    images = [np.random.default_rng(i).integers(0, 256, (*own, channels)).astype(np.uint8)
              for i, own in enumerate(sides)]  # fmt: skip
    packed = Packed.of(images)
    assert all(np.array_equal(packed[i], image) for i, image in enumerate(images))
    order = np.arange(len(images))[::-1]
    assert all(np.array_equal(packed.take(order)[i], images[j]) for i, j in enumerate(order))


@given(st.integers(1, 6), st.integers(3, 30), st.integers(3, 30), st.integers(1, 20))
@settings(max_examples=30)
def test_a_square_is_cut_of_each_band_as_of_a_grey_image(channels, height, width, size):
    image = np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.uint8)
    found = square(image, size, 0.875)
    assert found.shape == (size, size, channels)
    for band in range(channels):
        assert np.array_equal(found[:, :, [band]], square(image[:, :, [band]], size, 0.875))
    assert shown(image).shape == (height, width, 3)


# Runs


def run_of(root, **fields):
    recipe = get_recipe("smoke", epochs=1, batch_size=4)
    return Run(model="astroformer_pico", dataset="folder", data_dir=str(root), recipe=recipe,
               image_size=32, **fields)  # fmt: skip


@pytest.mark.parametrize("channels, expected", [(1, 1), (3, None), (5, 5)])
def test_the_network_has_as_many_channels_as_the_images(tmp_path, channels, expected):
    root = write(tmp_path / "a", channels)
    run = run_of(root, stretch="asinh")
    assert run.channels == channels
    assert run.model_options(2).get("in_chans") == expected
    one = run_of(root, stretch="asinh", bands="0")
    assert one.model_options(2)["in_chans"] == 1
    assert one.asked()["bands"] == "0" and "bands" not in run.asked()


def test_grey_pictures_stay_three_equal_channels_unless_bands_say_one(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for index in range(2):
            deep = (60_000 * galaxy(index)[0].clip(0, 1)).astype(np.uint16)
            Image.fromarray(deep).save(tmp_path / "train" / name / f"{index}.png")
    three, one = load(tmp_path, stretch="asinh"), load(tmp_path, stretch="asinh", bands="0")
    assert three.channels == 3 and one.channels == 1
    assert all(np.array_equal(three.array()[..., [band]], one.array()) for band in range(3))
    assert values.of_told(three.reading.told()) == three.reading


def test_five_bands_train_and_the_record_says_which(tmp_path, own_runs, capsys):
    root = write(tmp_path / "deep", 5)
    words = ["train", "--dataset", "folder", "--data-dir", str(root), "--recipe", "smoke",
             "--set", "epochs=1", "--set", "batch_size=4", "--image-size", "32",
             "--stretch", "zscale", "--bands", "4, 0,1,2"]  # fmt: skip
    assert main(words) == 0
    record = json.loads(next((own_runs / "ledger").glob("*.jsonl")).read_text())
    told = record["dataset"]
    assert (told["bands"], told["channels"], told["stretch"]) == ("4,0,1,2", 4, "zscale")
    assert record["identity"]["bands"] == "4,0,1,2" and "--bands 4,0,1,2" in record["command"]
    assert main(words) == 0 and "is in the ledger" in capsys.readouterr().out
    checkpoint = str(next((own_runs / "runs").glob("*/last.pt")))
    where = ["evaluate", checkpoint, "--dataset", "folder", "--data-dir", str(root)]
    assert main(where) == 0  # bands and limits are those of the checkpoint
    capsys.readouterr()
    assert main([*where, "--bands", "0,1"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "--bands" in said


def test_named_data_sets_and_plain_folders_take_no_bands(tiny_folder):
    said = error_of(lambda: data.load("galaxies", "train", bands="g"))
    assert "bands is for a folder of images; synthetic galaxies is not" in said
    with pytest.raises(TypeError, match="colour is no argument of a data set"):
        data.load("folder", "train", data_dir=tiny_folder, colour="g")
    one = load_folder(tiny_folder, "train", bands="2")
    whole = load_folder(tiny_folder, "train")
    assert np.array_equal(one.array(), whole.array()[..., [2]]) and one.channels == 1
    assert "has no bands by the names g, r" in error_of(
        lambda: load_folder(tiny_folder, "train", bands="g,r")
    )
