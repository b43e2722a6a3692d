"""Votes as training's targets: what a table says of an image is what its batch aims at, through
reflections, mixing and both ways to augment; probabilities of one class alone are its label.
"""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from astroformer import data
from astroformer.cli import main
from astroformer.data import galaxies
from astroformer.data.augment import Augmented, BatchAugmentation, Mixing, smoothed
from astroformer.data.on_device import DeviceLoader
from astroformer.recipes import get_recipe
from astroformer.recipes import replace as changed

CPU = torch.device("cpu")
COLUMNS = ("smooth", "disk", "star")
VOTES = np.array([[9, 1, 0], [2, 6, 2], [1, 3, 6], [5, 5, 0], [0, 7, 3], [8, 1, 1]] * 4)


@pytest.fixture
def root(tmp_path):
    """Images without class folders and a table of votes, `votes.csv`; every fourth row is a tie."""
    place = tmp_path / "cut-outs"
    place.mkdir()
    for index in range(len(VOTES)):
        grey = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(grey).save(place / f"{index}.png")
    frame = pd.DataFrame(VOTES, columns=COLUMNS).assign(id=range(len(VOTES)))
    frame.to_csv(place / "votes.csv", index=False)
    return place


def load(root, split="train", **how):
    told = {"labels": "votes.csv", "votes": ",".join(COLUMNS), "soft_targets": True} | how
    return data.load("folder", split, data_dir=root, **told)


def test_fractions_are_targets_and_the_class_with_most_votes_is_the_label(root):
    images = load(root)
    assert images.classes == ("disk", "smooth", "star") and len(images) == 20
    order = [COLUMNS.index(one) for one in images.classes]
    names = [
        int(source.rpartition("/")[2].removesuffix(".png")) for source in images.pixels.sources
    ]
    expected = VOTES[names][:, order] / 10
    np.testing.assert_allclose(images.targets, expected, rtol=1e-6)
    assert images.labels.tolist() == expected.argmax(1).tolist()
    assert "votes.csv: 4 images with a tie of votes are left out" in images.about.remarks
    assert "votes.csv: the votes' fractions are training's targets" in images.about.remarks
    some = images.take(np.array([3, 1]))
    assert np.array_equal(some.targets, images.targets[[3, 1]])
    # a threshold leaves out, as it does without
    sure = load(root, threshold=0.7)
    assert len(sure) == 12 and sure.targets.max(1).min() >= 0.7


def test_targets_are_in_the_fingerprint_and_labels_alone_are_not_changed(root):
    hard = load(root, soft_targets=False, threshold=0.5)
    soft = load(root, threshold=0.5)
    assert hard.targets is None and hard.labels.tolist() == soft.labels.tolist()
    told = pd.read_csv(root / "votes.csv")
    told.loc[0, "smooth"] = 8
    told.to_csv(root / "votes.csv", index=False)
    assert load(root, soft_targets=False, threshold=0.5).about.sha256 == hard.about.sha256
    assert len({hard.about.sha256, soft.about.sha256, load(root, threshold=0.5).about.sha256}) == 3


@pytest.mark.parametrize(
    "told, words",
    [
        ({"votes": "", "label_column": "id"}, "--soft-targets is about votes"),
        ({"labels": "", "votes": ""}, "--soft-targets is about a table of labels"),
        ({"votes": "smooth"}, "names one class"),
        ({"threshold": 1.5}, "give --threshold 0.8, say"),
    ],
)
def test_what_contradicts_itself_is_said_in_one_line(root, told, words):
    with pytest.raises(ValueError) as refused:
        load(root, **told)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_fewer_classes_share_out_what_the_others_have(root):
    kept = load(root, class_fraction=0.7)
    assert len(kept.classes) == 2 and kept.targets.shape == (len(kept), 2)
    np.testing.assert_allclose(kept.targets.sum(1), 1, rtol=1e-6)
    assert kept.labels.tolist() == kept.targets.argmax(1).tolist()


# Through a batch


def one_hot(images):
    return replace(images, targets=np.eye(len(images.classes), dtype=np.float32)[images.labels])


@pytest.mark.parametrize("where", ["host", "device"])
def test_probabilities_of_one_class_are_its_label_also_in_a_mirror(where):
    images = galaxies.load("galaxies", None, "train", image_size=16, train_images=40)
    pair = (images.classes[1], images.classes[4])
    images = replace(images, about=replace(images.about, mirrored=(pair,)))
    recipe = changed(get_recipe("smoke"), hflip=0.5, vflip=0.5, rotate90=True)
    keys = [(epoch, index) for epoch in range(2) for index in range(len(images))]
    found = []
    for one in (images, one_hot(images)):
        if where == "host":
            found.append(Augmented(one, recipe, seed=1).__getitems__(keys))
        else:
            mean = images.statistics()[0]
            found.append(DeviceLoader(one, recipe, seed=1, mean=mean, device=CPU).augmented(keys))
    (pixels, labels), (same, targets) = found
    assert torch.equal(pixels, same) and targets.dtype == torch.float32
    assert targets.shape == (len(keys), len(images.classes))
    assert torch.equal(targets.argmax(1), labels) and torch.equal(targets.sum(1), torch.ones(80))
    assert (labels.numpy() != np.tile(images.labels, 2)).any()  # some were seen in a mirror


@given(
    st.sampled_from(["one", "independent"]),
    st.sampled_from(["batch", "elem", "pair"]),
    st.sampled_from([(0.8, 0.0), (0.0, 1.0), (0.8, 1.0), (0.0, 0.0)]),
    st.sampled_from([0.0, 0.1]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_a_batch_of_labels_and_one_of_their_probabilities_are_mixed_alike(
    mixing, mode, alphas, smoothing, seed
):
    recipe = changed(
        get_recipe("smoke"),
        mixing="independent" if mixing == "independent" else get_recipe("smoke").mixing,
        mixup_mode=mode,
        mixup=alphas[0],
        cutmix=alphas[1],
        label_smoothing=smoothing,
    )
    augment = BatchAugmentation(recipe, mean=[0.5] * 3, std=[0.25] * 3, num_classes=5, device=CPU)
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.integers(0, 256, (8, 3, 12, 12), dtype=np.uint8))
    labels = torch.from_numpy(random.integers(0, 5, 8))
    pixels, targets = augment(images, labels, seed=seed)
    same, mixed = augment(images, torch.eye(5)[labels], seed=seed)
    assert torch.equal(pixels, same)
    torch.testing.assert_close(targets, mixed, rtol=0, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["batch", "elem", "pair"]))
@settings(max_examples=30, deadline=None)
def test_mixed_targets_stay_probabilities_between_those_that_are_mixed(seed, mode):
    random = np.random.default_rng(seed)
    targets = torch.from_numpy(random.dirichlet(np.ones(4), 8).astype(np.float32))
    np.random.seed(seed)
    mixed = Mixing([dict(mixup_alpha=0.8, cutmix_alpha=1.0)], mode=mode)(
        torch.rand(8, 3, 8, 8), targets
    )[1]
    torch.testing.assert_close(mixed.sum(1), torch.ones(8))
    low, high = torch.minimum(targets, targets.flip(0)), torch.maximum(targets, targets.flip(0))
    assert (mixed >= low - 1e-6).all() and (mixed <= high + 1e-6).all()


@given(st.floats(0, 0.9), st.sampled_from(["all", "others"]), st.integers(2, 9))
def test_smoothing_is_the_same_of_labels_and_of_their_probabilities(smoothing, over, classes):
    labels = torch.arange(classes)
    torch.testing.assert_close(
        smoothed(labels, classes, smoothing, over=over),
        smoothed(torch.eye(classes)[labels], classes, smoothing, over=over),
    )


def test_a_network_is_trained_on_votes_and_its_record_says_so(root, own_runs, capsys):
    words = ["train", "--dataset", "folder", "--data-dir", str(root), "--recipe", "smoke",
             "--set", "epochs=2", "--set", "batch_size=4", "--set", "mixup=0.8", "--seed", "1",
             "--labels", "votes.csv", "--votes", ",".join(COLUMNS), "--test-fraction", "0.3",
             "--image-size", "32"]  # fmt: skip
    assert main([*words, "--soft-targets"]) == 0
    assert main([*words, "--threshold", "0.6"]) == 0
    files = (own_runs / "ledger").glob("*.jsonl")
    records = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    soft, hard = sorted(records, key=lambda one: "soft_targets" not in one["dataset"])
    assert soft["dataset"]["soft_targets"] is True and "soft_targets" not in hard["dataset"]
    assert soft["command"].count("--soft-targets") == 1 and "True" not in soft["command"]
    assert soft["run"] != hard["run"]
    assert 0 <= soft["metrics"]["top1"] <= 100
    assert main([*words, "--soft-targets"]) == 0 and "is in the ledger" in capsys.readouterr().out
