"""ImageNet-1k: its tree, images cut for evaluation as infer.py cuts them, whole ones for random
crops, and what is refused.
"""

import shutil

import numpy as np
import pytest
from imagenet_tree import WNIDS, write_tree
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from astroformer import data
from astroformer.data.augment import Augmented
from astroformer.recipes import get_recipe


@pytest.fixture
def tree(tmp_path):
    write_tree(tmp_path / "ILSVRC2012")
    return tmp_path / "ILSVRC2012"


def files(tree, split):
    return sorted((tree / split).rglob("*.JPEG"))


def test_a_tree_is_read_in_the_order_of_its_wnids_without_being_decoded_as_a_whole(tree):
    train, test = (
        data.load("imagenet1k", split, data_dir=tree, image_size=32) for split in ("train", "test")
    )
    assert train.classes == test.classes == WNIDS and train.counts().tolist() == [4, 4, 4]
    assert not isinstance(train.pixels, np.ndarray) and test.array(3, 7).shape == (4, 32, 32, 3)
    assert (
        train.about.title == "part of ImageNet-1k (3 classes; images: 12 train, 12 val)"
        and train.about.kind == "real"
    )


@pytest.mark.parametrize("size", [32, 33])
def test_the_test_split_is_cut_as_the_release_cuts_it(tree, size):
    cut = Compose([Resize(int(256 / 224 * size), InterpolationMode.BICUBIC), CenterCrop(size)])
    images = data.load("imagenet1k", "test", data_dir=tree, image_size=size)
    for i, path in enumerate(files(tree, "val")):
        with Image.open(path) as image:
            assert np.array_equal(images.pixels[i], np.asarray(cut(image.convert("RGB"))))


def test_the_part_that_is_kept_can_be_chosen(tree):
    narrow, wide = (
        data.load("imagenet1k", "test", data_dir=tree, image_size=32, crop_pct=part)
        for part in (0.5, 1.0)
    )
    with Image.open(files(tree, "val")[2]) as image:  # a square of 64 pixels, seen at its own size
        assert np.array_equal(narrow.pixels[2], np.asarray(image.convert("RGB"))[16:48, 16:48])
        assert np.array_equal(
            wide.pixels[2],
            np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)),
        )


def test_random_crops_are_cut_from_the_whole_training_image(tree):
    """The widest image has ends that no middle square shows: marked black, they are seen in
    crops of the whole.
    """
    path = files(tree, "train")[3]
    wide = np.full((40, 150, 3), 255, np.uint8)
    wide[:, :40] = wide[:, 110:] = 0
    Image.fromarray(wide).save(path, format="JPEG")
    images = data.load("imagenet1k", "train", data_dir=tree, image_size=16)
    assert images.whole(3).shape == (40, 150, 3) and images.pixels[3].min() > 200
    augmented = Augmented(images, get_recipe("smoke", crop="random-resized"), seed=0)
    crops = np.stack([augmented[epoch, 3][0] for epoch in range(20)])
    assert crops.shape == (20, 3, 16, 16) and crops.min() < 50
    plain = Augmented(images, get_recipe("smoke", hflip=0.0, vflip=0.0, rotate90=False), seed=0)
    assert np.array_equal(plain[0, 3][0], images.pixels[3].transpose(2, 0, 1))


def test_the_fingerprint_follows_names_and_sizes_of_files(tree, tmp_path):
    before = data.about("imagenet1k", tree).sha256
    assert data.about("imagenet1k", shutil.copytree(tree, tmp_path / "elsewhere")).sha256 == before
    files(tree, "val")[0].write_bytes(b"x")
    assert data.about("imagenet1k", tree).sha256 != before


def test_evaluating_needs_no_training_images(tree, monkeypatch):
    shutil.rmtree(tree / "train")
    # where ILSVRC2012 is found without being named
    monkeypatch.setenv("ASTROFORMER_DATA", str(tree.parent))
    assert data.load("imagenet1k", "test", image_size=32).classes == WNIDS
    with pytest.raises(FileNotFoundError, match="no folder train"):
        data.load("imagenet1k", "train", image_size=32)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (
            lambda tree: [shutil.rmtree(tree / split) for split in ("train", "val")],
            "does not hold ImageNet's tree.*image-net.org.*--data-dir",
        ),
        (
            lambda tree: shutil.rmtree(tree / "val" / WNIDS[1]),
            f"1 classes lie only in one of .*{WNIDS[1]}",
        ),
        (
            lambda tree: (tree / "val" / WNIDS[0]).rename(tree / "val" / "tench"),
            "not named by a wnid.*--dataset folder",
        ),
        (
            lambda tree: [path.unlink() for path in (tree / "val" / WNIDS[0]).iterdir()],
            f"class {WNIDS[0]} of .*val has no .JPEG",
        ),
        (
            lambda tree: files(tree, "val")[0].write_bytes(b"not an image"),
            "cannot read the image .*00000013.JPEG",
        ),
    ],
)
def test_a_defect_is_named_in_one_line(tree, spoil, words):
    spoil(tree)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as raised:
        data.load("imagenet1k", "test", data_dir=tree, image_size=32).array()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("crop_pct", [0, -0.5, 1.5])
def test_a_part_that_is_none_is_refused(tree, crop_pct):
    with pytest.raises(ValueError, match="0.875 keeps 224 of 256"):
        data.load("imagenet1k", "test", data_dir=tree, crop_pct=crop_pct)
