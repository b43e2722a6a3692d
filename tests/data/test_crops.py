"""How images are cut: random-resized crops from the image as it is stored, whatever the source, and
everything that is evaluated alike, whatever folder it is from.
"""

import io

import numpy as np
import pytest
from dataset_files import publish, write_cifar, write_flowers, write_galaxy10
from galaxy_folder import write_galaxies
from imagenet_tree import write_tree
from PIL import Image
from tiny_imagenet_tree import write_tiny_imagenet

from astroformer import data
from astroformer.data.augment import Augmented
from astroformer.recipes import get_recipe

SIZE = 24  # pixels of the squares


def jpeg(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=100, subsampling=0)
    return stream.getvalue()


@pytest.fixture
def painted(tmp_path, monkeypatch):
    """ROOT of a data set in its own format, all of whose images are the one that is given."""
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "cache"))

    def paint(name, pixels):
        root = tmp_path / name
        if name == "galaxy10_decals":
            images = np.broadcast_to(pixels, (100, *pixels.shape))
            write_galaxy10(root, images=images, labels=np.arange(100) % 10)
            return root
        writers = dict(
            folder=write_galaxies,
            flowers102=write_flowers,
            imagenet1k=write_tree,
            tiny_imagenet=write_tiny_imagenet,
        )
        writers[name](root)
        if name == "flowers102":
            publish(monkeypatch, name, root)
        content = jpeg(pixels)
        for path in root.rglob("*"):
            if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
                path.write_bytes(content)
        return root

    return paint


def crops(images, *, scale, times=30, index=0):
    """The first image under a random-resized crop, in so many epochs, (times, H, W, 3)."""
    recipe = get_recipe("smoke", crop="random-resized", crop_scale=scale, hflip=0, vflip=0)
    dataset = Augmented(images, recipe, seed=0, mean=[0.5] * 3)
    return np.stack([dataset[epoch, index][0].permute(1, 2, 0) for epoch in range(times)])


def checkerboard(height, width):
    """Squares of one pixel."""
    rows, columns = np.indices((height, width))
    return np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[..., None], 3, 2)


STORED = {  # sides of an image as it is stored
    "folder": (96, 144),
    "flowers102": (144, 96),
    "imagenet1k": (96, 144),
    "tiny_imagenet": (64, 64),
    "galaxy10_decals": (256, 256),
}


@pytest.mark.parametrize("ready", [False, True], ids=["as loaded", "in memory"])
@pytest.mark.parametrize("name", STORED)
def test_a_crop_keeps_the_finest_detail_that_is_stored(painted, name, ready):
    """A checkerboard of single pixels is grey in a smaller square and black and white in a crop of
    fewer pixels than that.
    """
    height, width = STORED[name]
    root = painted(name, checkerboard(height, width))
    images = data.load(name, "train", data_dir=root, image_size=SIZE)
    images = images.ready(print, whole=True) if ready else images
    assert images.whole(0).shape == (height, width, 3) and np.ptp(images.pixels[0]) < 90
    # at most 20 pixels wide, where the square would have been 24 for the whole side
    part = 12 * 12 / (height * width)
    for crop in crops(images, scale=(part, part * 1.2)):
        assert np.ptp(crop) > 180


@pytest.mark.parametrize("name", STORED)
def test_a_picture_decoded_for_a_crop_has_the_pixels_of_the_array(painted, name):
    """Whether it comes from a file, from what is kept of it in memory, or as an array."""
    pixels = np.random.default_rng(0).integers(0, 256, (*STORED[name], 3), dtype=np.uint8)
    images = data.load(name, "train", data_dir=painted(name, pixels), image_size=SIZE)
    kept = images.ready(print, whole=True)
    for one in (images, kept):
        assert one.picture(0).mode == "RGB"
        assert np.array_equal(np.asarray(one.picture(0)), images.whole(0))
        assert np.array_equal(one.pixels[0], images.pixels[0])
    assert np.array_equal(
        crops(images, scale=(0.2, 1.0), times=4), crops(kept, scale=(0.2, 1.0), times=4)
    )


@pytest.mark.parametrize("ready", [False, True], ids=["as loaded", "in memory"])
@pytest.mark.parametrize("name", ["folder", "flowers102", "imagenet1k"])
def test_the_ends_of_an_oblong_image_are_reached(painted, name, ready):
    """Red and blue ends, which no middle square shows."""
    strip = np.zeros((40, 160, 3), np.uint8)
    strip[:, :50, 0] = strip[:, 110:, 2] = strip[:, 50:110, 1] = 255
    images = data.load(name, "train", data_dir=painted(name, strip), image_size=SIZE)
    images = images.ready(print, whole=True) if ready else images
    assert images.pixels[0][..., 1].min() > 200
    seen = crops(images, scale=(0.08, 0.5), times=60)
    ends = [(seen[..., channel] > 200).all((1, 2)).any() for channel in (0, 2)]
    assert ends == [True, True]
    # without a random crop the square is trained on that is evaluated
    plain = get_recipe("smoke", hflip=0, vflip=0, rotate90=False)
    item, _ = Augmented(images, plain, seed=0)[3, 0]
    assert np.array_equal(item.permute(1, 2, 0), images.pixels[0])


def test_small_images_are_cropped_before_they_are_enlarged(tmp_path, monkeypatch):
    """Each crop is a window of the 32 pixels of CIFAR, enlarged once."""
    monkeypatch.setenv("ASTROFORMER_DATA", str(tmp_path))
    stored = write_cifar(tmp_path, "cifar10")["train"][0][5]
    publish(monkeypatch, "cifar10", tmp_path)
    images = data.load("cifar10", "train", image_size=48)
    assert np.array_equal(images.whole(5), stored) and images.pixels[5].shape == (48, 48, 3)
    windows = {
        Image.fromarray(stored[top : top + height, left : left + width])
        .resize((48, 48), Image.Resampling.BICUBIC)
        .tobytes()
        for height in range(13, 20)
        for width in range(13, 20)
        for top in range(33 - height)
        for left in range(33 - width)
    }
    recipe = get_recipe(
        "smoke", crop="random-resized", crop_scale=(0.25, 0.25), hflip=0, vflip=0, rotate90=False
    )
    for whole in (False, True):
        dataset = Augmented(images.ready(print, whole=whole), recipe, seed=1)
        found = {dataset[epoch, 5][0].permute(1, 2, 0).numpy().tobytes() for epoch in range(20)}
        assert len(found) > 10 and found <= windows


def ramp(side):
    """Grey from 0 on the left to 255 on the right."""
    line = np.linspace(0, 255, side).astype(np.uint8)
    return np.broadcast_to(line[None, :, None], (side, side, 3)).copy()


PARTS = {"imagenet1k": 0.875, "flowers102": 0.875, "folder": 1, "tiny_imagenet": 1}
PARTS["galaxy10_decals"] = 1


@pytest.mark.parametrize("name", PARTS)
def test_whatever_is_evaluated_is_cut_alike_and_training_sees_all(painted, name):
    root = painted(name, ramp(64 if name == "tiny_imagenet" else 256))

    def shown(split, **options):
        images = data.load(name, split, data_dir=root, image_size=32, **options)
        return images.pixels[0].astype(int)

    test = shown("test")
    # the same image, by another way
    for other in (
        shown("validation", validation=0.5),
        shown("train", purpose="evaluate"),
        shown("train", crop_pct=PARTS[name]),
    ):
        assert np.array_equal(other, test)
    trained = shown("train")
    assert np.array_equal(trained, shown("test", purpose="train"))
    assert np.array_equal(trained, shown("validation", validation=0.5, purpose="train"))
    # the part of the width that is seen, less the half pixels at both ends
    for pixels, part in ((trained, 1), (test, PARTS[name]), (shown("test", crop_pct=0.5), 0.5)):
        assert np.ptp(pixels[16, :, 0]) / 255 == pytest.approx(part * 31 / 32, abs=0.02)
    sharper, smoother = (
        shown("test", crop_pct=0.7, interpolation=way) for way in ("lanczos", "box")
    )
    assert not np.array_equal(sharper, smoother)


def test_an_unknown_purpose_interpolation_or_size_is_refused(tiny_folder):
    for options, words in (
        (dict(purpose="test"), "choose train or evaluate"),
        (dict(interpolation="cubic"), "choose one of bicubic, bilinear"),
        (dict(image_size=0), "at least 1"),
        (dict(crop_pct=1.5), "0.875 keeps 224 of 256"),
    ):
        with pytest.raises(ValueError, match=words):
            data.load("folder", "train", data_dir=tiny_folder, **options)
