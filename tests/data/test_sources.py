"""Every data set with a name, from a file in its genuine format to a record, through
`astroformer train`.
"""

import json

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
from imagenet_tree import write_tree
from tiny_imagenet_tree import write_tiny_imagenet

from astroformer import cli, data

WRITERS = {
    "cifar10": lambda root: write_cifar(root, "cifar10", batch=10),
    "cifar100": lambda root: write_cifar(root, "cifar100"),
    "svhn": write_svhn,
    "flowers102": write_flowers,
    "stanford_cars": write_cars,
    "tiny_imagenet": write_tiny_imagenet,
    "galaxy10_decals": lambda root: write_galaxy10(root, number=30),
    "galaxy10_sdss": lambda root: write_galaxy10_sdss(root, number=30),
    "imagenet1k": write_tree,
}
OPTIONS = dict.fromkeys(
    ("galaxy10_decals", "galaxy10_sdss"), ["--test-images", "10", "--split-seed", "1"]
)
TITLES = {
    "tiny_imagenet": "part of Tiny ImageNet (3 classes; images: 18 train, 12 test)",
    "galaxy10_decals": "part of Galaxy10 DECaLS (30 images)",
    "galaxy10_sdss": "part of Galaxy10 SDSS (30 images)",
    "imagenet1k": "part of ImageNet-1k (3 classes; images: 12 train, 12 val)",
}


def test_every_data_set_with_files_of_its_own_has_a_writer_here():
    assert set(WRITERS) == set(data.DATASETS) - {"galaxies", "folder"}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_in_the_genuine_format_becomes_a_record(
    own_runs, tmp_path, monkeypatch, capsys, name
):
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "cache"))
    WRITERS[name](tmp_path / "files")
    publish(monkeypatch, name, tmp_path / "files")
    where = ["--dataset", name, "--data-dir", str(tmp_path / "files"), *OPTIONS.get(name, [])]
    assert (
        cli.main(
            ["train", *where, "--image-size", "32", "--set", "epochs=1", "--set", "batch_size=4"]
        )
        == 0
    )
    (record,) = (
        json.loads(line)
        for file in (tmp_path / "ledger").glob("*.jsonl")
        for line in file.read_text().splitlines()
    )
    told = record["dataset"]
    assert record["status"] == "completed" and (told["name"], told["kind"]) == (name, "real")
    assert told["title"] == TITLES.get(name, data.DATASETS[name].title)
    assert told["sha256"] == data.about(name, tmp_path / "files").sha256
    assert 0 <= record["metrics"]["top1"] <= 100
