"""Tiny ImageNet in its archive's layout: from the folder and from the zip alike, labels of val
from its annotations.
"""

import shutil

import numpy as np
import pytest
import torch
from tiny_imagenet_tree import WNIDS, write_tiny_imagenet

from astroformer import data
from astroformer.data import tiny_imagenet
from astroformer.recipes import RECIPES
from astroformer.training import Run


@pytest.fixture
def tree(tmp_path):
    return write_tiny_imagenet(tmp_path)


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_images_and_labels_are_those_of_the_files(tmp_path, zipped):
    place = write_tiny_imagenet(tmp_path, zipped=zipped)
    train, test = (
        data.load("tiny_imagenet", split, data_dir=tmp_path) for split in ("train", "test")
    )
    assert tiny_imagenet.tree(tmp_path) == place
    assert (
        train.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
        and test.labels.tolist() == [0, 1, 2] * 4
    )
    assert train.classes == ("goldfish", f"crane ({WNIDS[1]})", f"crane ({WNIDS[2]})")
    for images in (train, test):
        decoded = images.array()
        assert decoded.shape == (len(images), 64, 64, 3) and decoded.dtype == np.uint8
        red = [int(image[..., 0].mean()) for image in decoded]
        grey = [bool((image == image[..., :1]).all()) for image in decoded]
        assert grey == [images is train and i % 6 == 1 for i in range(len(images))]
        assert all(
            abs(value - (80 * label + 10)) < 8
            for value, label, is_grey in zip(red, images.labels, grey)
            if not is_grey
        )


def test_the_folder_and_the_zip_are_the_same_data(tmp_path):
    write_tiny_imagenet(tmp_path / "a")
    write_tiny_imagenet(tmp_path / "b", zipped=True)
    write_tiny_imagenet(tmp_path / "c", val=3)
    a, b, c = (data.about("tiny_imagenet", tmp_path / name) for name in "abc")
    assert a == b and a.sha256 != c.sha256
    assert a.title == "part of Tiny ImageNet (3 classes; images: 18 train, 12 test)"


def test_the_folder_itself_may_be_named(tree):
    assert len(data.load("tiny_imagenet", "test", data_dir=tree)) == 12


def test_training_has_them_decoded_once_in_memory(tree):
    images = data.load("tiny_imagenet", "train", data_dir=tree, image_size=32)
    expected, ready = images.array(), [images.ready(print, whole=whole) for whole in (False, True)]
    shutil.rmtree(tree)  # nothing is left to read
    assert all(np.array_equal(one.array(), expected) for one in ready)
    assert ready[1].whole(3).shape == (64, 64, 3) and ready[0].image_size == 32


def test_a_part_of_the_classes_keeps_all_their_images_and_says_so(tree):
    train, test = (
        data.load("tiny_imagenet", split, data_dir=tree, class_fraction=0.67)
        for split in ("train", "test")
    )
    assert (
        train.counts().tolist() == [6, 6]
        and test.counts().tolist() == [4, 4]
        and train.classes == test.classes
    )
    whole = data.load("tiny_imagenet", "train", data_dir=tree)
    assert set(train.classes) < set(whole.classes) and train.about.title.endswith(
        "(2 of 3 classes)"
    )
    assert [train.classes[label] for label in train.labels] == [
        whole.classes[label] for label in whole.labels if whole.classes[label] in train.classes
    ]
    with pytest.raises(ValueError, match="class_fraction 1.5 is outside"):
        data.load("tiny_imagenet", "train", data_dir=tree, class_fraction=1.5)


def test_a_part_of_the_classes_is_another_run_and_all_of_them_the_run_it_was(tree):
    def make(**fields):
        return Run(
            model="astroformer_pico",
            dataset="tiny_imagenet",
            recipe=RECIPES["smoke"],
            data_dir=str(tree),
            image_size=64,
            **fields,
        ).resolved(torch.device("cpu"))

    part, all_of_them = make(class_fraction=0.67), make(class_fraction=1.0, split_seed=0)
    assert part.hash != make().hash == all_of_them.hash
    assert "--class-fraction 0.67" in part.command()
    assert {
        name for name, value in part.identity().items() if value != make().identity()[name]
    } == {"class_fraction"}


@pytest.mark.parametrize(
    "harm, words",
    [
        (
            lambda tree: (tree / "val" / "val_annotations.txt").unlink(),
            "no val/val_annotations.txt.*no labels.*data fetch tiny_imagenet",
        ),
        (
            lambda tree: (tree / "val" / "val_annotations.txt").write_text(
                "val_0.JPEG\tn09999999\n"
            ),
            "line 1: .*does not name an image",
        ),
        (
            lambda tree: (tree / "wnids.txt").write_text("n01443537\nn09999999\n"),
            "lists 2 classes and train/ has 3.*n09999999",
        ),
        (
            lambda tree: (tree / "wnids.txt").unlink(),
            "neither tiny-imagenet-200/.*nor tiny-imagenet-200.zip",
        ),
        (
            lambda tree: next((tree / "train").rglob("*_2.JPEG")).write_bytes(b"\xff\xd8 cut"),
            "cannot read the image .*_2.JPEG.*replace",
        ),
    ],
    ids=["no labels", "wrong label", "other classes", "no tree", "image"],
)
def test_what_is_wrong_with_a_tree_is_named_with_the_way_out(tree, harm, words):
    harm(tree)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        for split in ("train", "test"):
            data.load("tiny_imagenet", split, data_dir=tree.parent).array()


def test_a_zip_that_was_cut_short_is_named(tmp_path):
    archive = write_tiny_imagenet(tmp_path, zipped=True)
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(ValueError, match="cannot be read as a zip file.*verify tiny_imagenet"):
        data.load("tiny_imagenet", "train", data_dir=tmp_path)
