"""Derived data sets: what is asked for is what is there, from the names of files alone."""

import hashlib
import json
import os
import random
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_imagenet_tree import WNIDS, members

from astroformer import cli, data
from astroformer.data import derive
from astroformer.data.derive import Derivation

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


def test_the_smallest_sha256_of_names_are_taken_whatever_the_pixels_are(source):
    items = derive.planned(
        Derivation(source="s", most=3, order="sha256", drop=("odd",), unused="test"), source
    )
    names = [f"image_{number}.png" for number in range(CLASSES["round"])]
    expected = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:3]
    assert expected != sorted(names)[:3]
    taken = {i.name for i in items if i.split == "train" and i.label == "round"}
    assert taken == set(expected)


def test_every_image_is_tested_once_over_all_folds(source):
    tested = []
    for fold in range(5):
        items = derive.planned(Derivation(source="s", folds=5, fold=fold), source)
        assert len(items) == sum(CLASSES.values()) + 2 * 4
        tested += [item.source for item in items if item.split == "test"]
        for label, number in CLASSES.items():  # folds of a class differ by one image at most
            own = sum(item.split == "test" and item.label == label for item in items)
            assert (number + 2) // 5 <= own <= -(-(number + 2) // 5)
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


def test_what_the_manifest_says_cannot_be_changed_unseen(source, tmp_path):
    out = made(source, tmp_path / "out", **MERGED)
    lines = (out / "manifest.json").read_text().splitlines()
    assert sum(line.startswith('["') for line in lines) == 30 + 2 * 3  # one line an image
    about, manifest = ((out / name).read_text() for name in ("about.json", "manifest.json"))
    (out / "about.json").write_text(about.replace("re-encoded", "real"))
    assert derive.check(out) == ["about.json is changed"]
    (out / "about.json").write_text(about)
    (out / "manifest.json").write_text(manifest.replace('"most": 0', '"most": 9'))
    assert derive.check(out) == ["manifest.json is changed"]
    assert made(source, out, **MERGED) == out and derive.check(out) == []  # told anew
    for wrong in ("[]", "{", '{"images": [["train", "..", "x", "y", "z"]], "source": ""}'):
        (out / "manifest.json").write_text(wrong)
        with pytest.raises(ValueError, match="derive the folder anew") as refused:
            derive.check(out)
        assert "\n" not in str(refused.value)


def test_other_words_about_the_same_images_are_written_and_the_images_stay(source, tmp_path):
    out = made(source, tmp_path / "out", **MERGED)
    first = next((out / "train" / "round").iterdir())
    before = first.stat().st_ino, data.about("folder", out).sha256
    assert data.about("folder", out).title == "out (from S)"
    made(source, out, **MERGED, title="Three", note="of tests")
    about = data.about("folder", out)
    assert (about.title, about.note) == ("Three", "of tests") and derive.check(out) == []
    assert (first.stat().st_ino, about.sha256) == before
    first.unlink()
    with pytest.raises(
        FileExistsError, match="lacks 1 of its images .train/round/.*derive it anew"
    ):
        made(source, out, **MERGED)


def test_a_folder_of_somebody_else_is_left_alone_and_an_empty_one_is_filled(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="holds something else"):
        made(source, tmp_path / "out", **MERGED)
    assert os.listdir(tmp_path / "out") == ["mine.txt"]
    (tmp_path / "out" / "mine.txt").unlink()
    assert derive.check(made(source, tmp_path / "out", **MERGED)) == []


@pytest.mark.parametrize("linked", [True, False])
def test_images_are_links_or_where_there_are_none_copies(source, tmp_path, monkeypatch, linked):
    if not linked:

        def refuse(source, place):
            raise OSError("another file system")

        monkeypatch.setattr(os, "link", refuse)
    out = made(source, tmp_path / "out")
    pairs = [
        (out / split / label / name, source / place)
        for split, label, name, place, _ in derive.read_manifest(out)["images"]
    ]
    assert len(pairs) == sum(CLASSES.values()) + 8
    assert all(ours.samefile(theirs) == linked for ours, theirs in pairs)
    assert all(ours.read_bytes() == theirs.read_bytes() for ours, theirs in pairs)


@pytest.mark.parametrize(
    "fields, mirrored",
    [
        (dict(), (("left", "right"),)),
        (dict(keep=("left", "right")), (("left", "right"),)),
        (dict(merge=(("ccw", ("left",)),)), (("ccw", "right"),)),
        (dict(merge=(("spiral", ("left", "right")),)), ()),
        (dict(merge=(("any", ("left", "right", "odd")),)), ()),
        (dict(drop=("right",)), ()),
    ],
)
def test_mirrored_classes_stay_so_where_both_are_there(source, tmp_path, fields, mirrored):
    assert data.about("folder", made(source, tmp_path / "out", **fields)).mirrored == mirrored


def test_images_of_one_name_in_merged_classes_and_pooled_splits_all_stay(source, tmp_path):
    out = made(source, tmp_path / "out", folds=3, merge=(("spiral", ("left", "right")),))
    names = [path.name for path in (out / "train" / "spiral").iterdir()]
    tested = [path.name for path in (out / "test" / "spiral").iterdir()]
    # two classes and two splits of the source have an image_0.png
    both = [name for name in names + tested if name.endswith("image_0.png")]
    assert len(both) == 4 and len(names) + len(tested) == 9 + 7 + 4


def test_half_of_tiny_imagenet_and_all_of_it_make_the_same_folder(tmp_path):
    manifests = []
    for number in (12, 24):
        whole = tmp_path / str(number) / "tiny-imagenet-200"
        for file, content in members(train=number).items():
            (whole / file).parent.mkdir(parents=True, exist_ok=True)
            (whole / file).write_bytes(content)
        out = tmp_path / f"out{number}"
        asked = Derivation(source="tiny-imagenet-200", classes=2, of=3, most=12, name="tiny2")
        # the tree, or the folder that it lies in
        derive.derive(asked, whole if number == 12 else whole.parent, out, lambda line: None)
        manifests.append(derive.read_manifest(out))
        assert [len(os.listdir(out / "train" / one)) for one in os.listdir(out / "train")] == [
            12,
            12,
        ]
    assert manifests[0] == manifests[1]
    labels = {row[1] for row in manifests[0]["images"]}
    some = data.load("tiny_imagenet", "test", data_dir=whole, class_fraction=2 / 3)
    assert labels == {
        WNIDS[data.classes("tiny_imagenet", whole).index(one)] for one in some.classes
    }
    assert sum(row[0] == "test" for row in manifests[0]["images"]) == len(some)


def test_a_packed_source_is_to_be_unpacked(tmp_path):
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(b"")
    with pytest.raises(ValueError, match="is packed, and links need files; unpack it with"):
        made(tmp_path, tmp_path / "out")


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
        (dict(fold=2), "at least 2 folds"),
        (dict(folds=5, most=3), "folds take every image"),
        (dict(folds=6), "class 'odd' has 5 images, and 6 folds are asked for"),
        (dict(keep=("up", "left")), "class 'up' is not in source"),
        (dict(keep=("left", "odd"), classes=2), "named or drawn, not both"),
        (dict(classes=2, of=5), "source has 4 classes and should have 5"),
        (dict(most=-1), "numbers of at least 0"),
        (dict(unused="test"), "every training image is used"),
        (dict(unused="train", most=2), "choose test, or nothing"),
        (dict(merge=(("round", ("left", "right")),)), "has a class 'round' already"),
        (dict(merge=(("a", ("left", "right")), ("b", ("left",)))), "'left' is merged twice"),
        (dict(merge=(("a", ("left", "odd")),), drop=("odd",)), "merged and dropped"),
        (dict(merge=(("../a", ("left", "right")),)), "cannot be the name of a folder"),
        (dict(merge=(("a", ("left", "odd")),)), "its mirror image 'right' is not"),
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
    (tmp_path / "mine" / "train" / "round" / "new.png").write_bytes(b"")
    assert cli.main(["data", "derive", "--check", str(tmp_path / "mine")]) == 1
    assert "train/round/new.png is not of the derivation" in capsys.readouterr().out
    words = ["data", "derive", "two", "--from", str(source), "--out", str(tmp_path / "deep" / "2")]
    assert cli.main([*words, "--classes", "left,odd", "--title", "Two"]) == 0
    about = json.loads((tmp_path / "deep" / "2" / "about.json").read_text())
    assert (about["name"], about["title"]) == ("two", "Two")
    capsys.readouterr()
    for words, said in (
        (["galaxies3"], "galaxyzoo1-128, from which galaxies3 is derived; unpack its archive"),
        (["galaxies"], "task 'galaxies' is not known; choose one of cifar100"),
        (["x", "--from", str(source), "--merge", "left"], "is not NEW=OLD,OLD"),
        (["x", "--from", str(tmp_path / "gone")], "names a folder that is unpacked"),
        (["galaxies3", "--most", "3"], "most would change it; name a source with --from"),
        (["galaxy10_part", "--out", "x"], "galaxy10_part is 5; name one of them"),
        (["cifar100"], "put torchvision's files there (`astroformer data fetch cifar100`)"),
        (["--check", str(source)], "was not made by"),
        ([], "name a task: cifar100"),
    ):
        assert cli.main(["data", "derive", *words]) == 2
        assert said in capsys.readouterr().err
    assert cli.main(["data", "derive", "--list"]) == 0
    assert "galaxies3" in capsys.readouterr().out
