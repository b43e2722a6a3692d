"""What is timed beside timm's loader is the same work: the same files, as many images, one size."""

import numpy as np
import pytest
from PIL import Image

from astroformer import data
from astroformer.counting import host_images


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    host_images.write_tree(root, 130)  # two batches, and two images that timm leaves out
    return root


def test_the_tree_has_the_sizes_and_bytes_of_photographs(root):
    files = list((root / "train").rglob("*.JPEG"))
    assert len(files) == 130 and len(data.load("imagenet1k", "train", data_dir=root)) == 130
    assert {Image.open(file).size for file in files} == set(host_images.SIDES)
    assert 50e3 < np.mean([file.stat().st_size for file in files]) < 200e3


def test_both_loaders_hand_over_the_same_number_of_images(root):
    [row] = host_images.beside_timm(root, workers=(0,), rounds=2)
    assert host_images.ours(root, 0)() == host_images.timms(root, 0)() == row["images"] == 128
    assert 0.5 < row["low"] <= row["ratio"] <= row["high"] < 2


def test_a_decoder_stands_beside_pillow_with_its_largest_difference(root):
    rows = list(host_images.decoders(root, number=4, rounds=3))
    assert rows[0]["decoder"] == "Pillow" and rows[0]["ratio"] == 1
    assert rows[0]["largest difference"] == 0
    assert all(row["milliseconds an image"] > 0 for row in rows)


def test_processes_share_an_array_whichever_way_they_are_started():
    rows = list(host_images.memory_of_processes(workers=(2,), array_bytes=96 * 2**20))
    assert [row["started by"] for row in rows] == ["fork", "forkserver"]
    for row in rows:  # of a copy each, it would be all of the array
        assert row["of it for the array (MB)"] < 0.4 * row["array (MB)"]
