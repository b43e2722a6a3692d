"""Derived data sets: what is asked for is what is there, from the names of files alone."""

import json
import os
import random
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from astroformer import cli, data
from astroformer.data import derive
from astroformer.data.derive import Derivation
from astroformer.data.tasks import TASKS

CLASSES = {"round": 14, "left": 9, "right": 7, "odd": 3}


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "source")


def write(root, *, shuffled=False):
    """An ImageFolder of four classes, its files written in this order or another."""
    names = [
        (split, label, f"image_{number}.png")
        for label, number_of in CLASSES.items()
        for split, count in (("train", number_of), ("test", 2))
        for number in range(count)
    ]
    if shuffled:
        random.Random(1).shuffle(names)
    for split, label, name in names:
        place = root / split / label / name
        place.parent.mkdir(parents=True, exist_ok=True)
        seed, number = sum(map(ord, label)), int(name.split("_")[1].split(".")[0])
        pixels = np.random.default_rng([seed, number, split == "test"]).integers(
            0, 256, (8, 8, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(place)
    (root / "about.json").write_text(
        json.dumps(
            {"name": "s", "title": "S", "kind": "re-encoded", "mirrored": [["left", "right"]]}
        )
    )
    return root


def counts(root):
    return {
        split: {one.name: len(list(one.iterdir())) for one in sorted((root / split).iterdir())}
        for split in ("train", "test")
    }


def made(source, destination, **fields):
    return derive.derive(
        Derivation(source="source", **fields), source, destination, report=lambda line: None
    )


MERGED = dict(merge=(("spiral", ("left", "right")),), drop=("odd",))


def test_classes_are_merged_dropped_and_balanced_and_the_rest_is_tested_on(source, tmp_path):
    out = made(source, tmp_path / "out", **MERGED, most=10, order="sha256", unused="test")
    assert counts(out) == {
        "train": {"round": 10, "spiral": 10},
        "test": {"round": 2 + 4, "spiral": 4 + 6},
    }
    about = data.about("folder", out)
    # a reflection changes no label any more, and what the images are is still said
    assert about.kind == "re-encoded" and about.mirrored == ()
    images = [data.load("folder", split, data_dir=out) for split in ("train", "test")]
    assert [len(one) for one in images] == [20, 16]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(most=st.integers(1, 7), order=st.sampled_from(derive.ORDERS), merge=st.booleans())
def test_no_image_is_lost_taken_twice_or_in_both_splits(tmp_path_factory, most, order, merge):
    root = write(tmp_path_factory.mktemp("many") / "source")
    fields = MERGED if merge else dict(drop=("odd",))
    asked = Derivation(source="s", most=most, order=order, unused="test", **fields)
    items = derive.planned(asked, root)
    sources = [item.source for item in items]
    assert len(set(sources)) == len(sources) == sum(CLASSES.values()) - 3 + 2 * 3
    assert len({(i.split, i.label, i.name) for i in items}) == len(items)
    taken = [item for item in items if item.split == "train"]
    assert len(taken) == most * len({item.label for item in items})
    more = derive.planned(
        Derivation(source="s", most=7, order=order, unused="test", **fields), root
    )
    # a smaller choice lies within a larger one
    assert {i.source for i in taken} <= {i.source for i in more if i.split == "train"}


def test_files_written_in_another_order_make_the_same_folder(tmp_path):
    one, other = write(tmp_path / "a" / "source"), write(tmp_path / "b" / "source", shuffled=True)
    asked = Derivation(source="source", most=5, order="sha256", **MERGED)
    manifests = [derive.manifest(asked, root, derive.planned(asked, root)) for root in (one, other)]
    assert manifests[0] == manifests[1]
    made_of = [
        made(root, root.parent / "out", most=5, order="sha256", **MERGED) for root in (one, other)
    ]
    assert data.about("folder", made_of[0]).sha256 == data.about("folder", made_of[1]).sha256


def test_numbers_in_names_count(source):
    items = derive.planned(Derivation(source="s", most=3, drop=("odd",)), source)
    names = {i.name for i in items if i.split == "train" and i.label == "round"}
    assert names == {"image_0.png", "image_1.png", "image_2.png"}


def test_every_image_is_tested_once_over_all_folds(source):
    tested = []
    for fold in range(5):
        items = derive.planned(Derivation(source="s", folds=5, fold=fold), source)
        assert len(items) == sum(CLASSES.values()) + 2 * 4
        tested += [item.source for item in items if item.split == "test"]
    assert len(tested) == len(set(tested)) == sum(CLASSES.values()) + 2 * 4


def test_a_drawn_part_of_the_classes_is_that_of_class_fraction(source):
    items = derive.planned(Derivation(source="s", classes=2), source)
    kept = data.load("folder", "train", data_dir=source, class_fraction=0.5).classes
    assert {item.label for item in items} == set(kept)


def test_a_folder_is_made_once_and_a_change_of_it_is_found(source, tmp_path):
    out = made(source, tmp_path / "out", **MERGED)
    before = data.about("folder", out).sha256
    assert made(source, tmp_path / "out", **MERGED) == out and derive.check(out) == []
    with pytest.raises(FileExistsError, match="holds something else"):
        made(source, tmp_path / "out", drop=("odd",))
    first = sorted((out / "train" / "round").iterdir())[0]
    content = first.read_bytes()
    first.unlink()  # it is a link: the source must not change
    assert derive.check(out) == [f"train/round/{first.name} is missing"]
    first.write_bytes(content + b"more")
    assert derive.check(out) == [f"train/round/{first.name} is changed"]
    first.write_bytes(content)
    (out / "test" / "round" / "new.png").write_bytes(content)
    assert derive.check(out) == ["test/round/new.png is not of the derivation"]
    (out / "test" / "round" / "new.png").unlink()
    assert derive.check(out) == [] and data.about("folder", out).sha256 == before


def test_an_interruption_leaves_nothing_half_made(source, tmp_path, monkeypatch):
    calls = []

    def stopping(place, target):
        calls.append(target)
        if len(calls) > 5:
            raise KeyboardInterrupt
        shutil.copyfile(place, target)

    monkeypatch.setattr(derive, "_link", stopping)
    with pytest.raises(KeyboardInterrupt):
        made(source, tmp_path / "out", **MERGED)
    assert sorted(os.listdir(tmp_path)) == ["source"]


@pytest.mark.parametrize(
    "fields, words",
    [
        (dict(drop=("bar",)), "class 'bar' is not in source; its classes are left, odd"),
        (dict(merge=(("a", ("left", "up")),)), "class 'up' is not in source"),
        (dict(most=5), "class 'odd' has 3 training images and 5 are asked for"),
        (dict(classes=9), "9 classes are asked for, and source has 4"),
        (dict(drop=("left", "right", "odd")), "leaves 1 classes"),
        (dict(order="size"), "choose name or sha256"),
        (dict(folds=5, fold=5), "one from 0 to 4"),
        (dict(folds=1), "at least 2 folds"),
        (dict(folds=5, most=3), "folds take every image"),
    ],
)
def test_what_cannot_be_derived_is_refused_in_one_line(source, tmp_path, fields, words):
    with pytest.raises(ValueError, match=words) as refused:
        made(source, tmp_path / "out", **fields)
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()


def test_the_command_derives_by_flags_and_says_where_a_source_is_missing(
    source, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("ASTROFORMER_DATA", str(tmp_path))
    words = ["data", "derive", "mine", "--from", str(source), "--merge", "spiral=left,right"]
    assert cli.main([*words, "--drop", "odd", "--most", "6", "--unused-to-test"]) == 0
    assert "2 classes, 12 training images" in capsys.readouterr().out
    assert cli.main(["data", "derive", "--check", str(tmp_path / "mine")]) == 0
    for words, said in (
        (["galaxies3"], "galaxyzoo1-128, from which galaxies3 is derived; unpack its archive"),
        (["galaxies"], "task 'galaxies' is not known; choose one of cifar100"),
        (["x", "--from", str(source), "--merge", "left"], "is not NEW=OLD,OLD"),
        (["--check", str(source)], "was not made by"),
        ([], "name a task: cifar100"),
    ):
        assert cli.main(["data", "derive", *words]) == 2
        assert said in capsys.readouterr().err
    assert cli.main(["data", "derive", "--list"]) == 0
    assert "galaxies3" in capsys.readouterr().out


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
