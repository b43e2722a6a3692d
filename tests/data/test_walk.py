"""Folders as people have them: hidden names, links, other formats, other names of splits, no
splits, spellings of names; what is left out is counted, and what is missing is said.
"""

import json
import os
import shutil
import tarfile
import unicodedata
import zipfile
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from astroformer import data
from astroformer.cli import main
from astroformer.data import archives, folder, walk
from astroformer.recipes import get_recipe
from astroformer.training import Run

HIDDEN = (".DS_Store", "._000.png", ".ipynb_checkpoints", "__MACOSX", "Thumbs.db", ".git", "@eaDir")


@pytest.fixture
def copy(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def load(root, split="train", **options):
    return data.load("folder", split, data_dir=root, **options)


def arrays(root, **options):
    return [load(root, split, **options).array() for split in ("train", "test")]


# The walker


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("place", ["", "train", "test", "train/round", "test/cigar"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_hidden_names_are_no_data_wherever_they_lie(copy, tiny_folder, name, place, kind):
    odd = copy / place / name
    if kind == "file":
        odd.write_bytes(b"\0\5\26\7 not an image")
    else:
        (odd / "deeper").mkdir(parents=True)
        shutil.copy(copy / "train" / "round" / "000.png", odd / "deeper" / "000.png")
    before, after = load(tiny_folder), load(copy)
    assert after.classes == before.classes and after.about.sha256 == before.about.sha256
    assert after.counts().tolist() == before.counts().tolist()
    said = [one for one in after.about.remarks if "left out: 1 hidden" in one]
    assert len(said) == (place != "")


def test_every_other_file_is_counted_by_its_suffix(copy):
    for place, names in {
        "train/round": ("a.fits", "b.FITS", "c.fits.gz", "notes.txt", "README"),
        "test/round/deeper": ("d.fits", "e.npy"),
    }.items():
        (copy / place).mkdir(exist_ok=True)
        for name in names:
            (copy / place / name).write_bytes(b"x")
    [remark] = data.about("folder", copy).remarks
    assert remark == ("copy: left out: 3 .fits, 1 .fits.gz, 1 .npy, 1 .txt, 1 without a suffix")
    assert len(load(copy)) == 48


@pytest.mark.parametrize("suffix", ["JPG", "jfif", "avif", "webp", "tiff", "bmp", "pgm", "PNG"])
def test_every_suffix_that_pillow_reads_is_read(copy, suffix):
    image = Image.open(copy / "train" / "round" / "000.png").convert("L")
    kind = {"jpg": "JPEG", "jfif": "JPEG", "tiff": "TIFF", "pgm": "PPM"}.get(suffix.lower())
    path = copy / "train" / "round" / f"more.{suffix}"
    image.save(path, format=kind or suffix.upper())
    images = load(copy)
    assert len(images) == 49 and not images.about.remarks and images.array().shape[0] == 49


def test_links_to_files_and_folders_are_followed_at_any_depth(copy, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (copy / "train" / "round").rename(elsewhere)
    (copy / "train" / "round").symlink_to(elsewhere)
    deeper = tmp_path / "deeper"
    deeper.mkdir()
    (elsewhere / "000.png").rename(deeper / "zz.png")
    (elsewhere / "more").symlink_to(deeper)
    (elsewhere / "001.png").rename(tmp_path / "single.png")
    (elsewhere / "001.png").symlink_to(tmp_path / "single.png")
    assert load(copy).counts().tolist() == [16, 16, 16]
    assert len(load(copy).array()) == 48


def test_a_link_that_leads_back_ends_and_is_said(copy):
    (copy / "train" / "round" / "again").symlink_to(copy / "train" / "round")
    assert load(copy).counts().tolist() == [16, 16, 16]
    [remark] = load(copy).about.remarks
    assert "1 link that leads back" in remark


def test_a_link_of_an_image_that_leads_nowhere_is_named(copy):
    (copy / "train" / "round" / "000.png").unlink()
    (copy / "train" / "round" / "000.png").symlink_to(copy / "annex" / "objects" / "x.png")
    with pytest.raises(ValueError, match="round/000.png is a link that leads nowhere") as error:
        load(copy)
    assert "\n" not in str(error.value)


def test_a_folder_with_the_name_of_an_image_is_a_folder(copy):
    (copy / "train" / "round" / "album.jpg").mkdir()
    assert len(load(copy)) == 48
    shutil.move(copy / "train" / "round" / "000.png", copy / "train" / "round" / "album.jpg")
    assert len(load(copy)) == 48


def test_the_order_is_that_of_the_names_folder_by_folder(tmp_path):
    for name in ("b/1.png", "a/2.png", "a-x.png", "a.png", "a/10.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = [str(path.relative_to(tmp_path)) for path in walk.images_below(tmp_path)]
    assert found == ["a/10.png", "a/2.png", "a-x.png", "a.png", "b/1.png"]


# Names


letters = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8)


@given(letters)
def test_every_spelling_of_a_name_is_one_name(name):
    forms = {unicodedata.normalize(form, name) for form in ("NFC", "NFD")}
    assert len({walk.readable(one) for one in forms}) == 1
    assert walk.readable(walk.readable(name)) == walk.readable(name)


@given(st.binary(min_size=1, max_size=8).filter(lambda raw: b"/" not in raw and b"\0" not in raw))
def test_every_name_of_bytes_can_be_printed(raw):
    walk.readable(os.fsdecode(raw)).encode("utf-8")


@pytest.mark.parametrize("spelt", ["NFD", "latin-1", "case"])
def test_a_class_spelt_in_two_ways_is_one_class(copy, spelt):
    name = "spirale_étoilée"
    other = {
        "NFD": unicodedata.normalize("NFD", name),
        "latin-1": os.fsdecode(name.encode("latin-1")),
        "case": name.upper(),
    }[spelt]
    (copy / "train" / "round").rename(copy / "train" / name)
    (copy / "test" / "round").rename(copy / "test" / other)
    train, test = load(copy), load(copy, "test")
    assert train.classes == test.classes == ("cigar", "spiral", name)
    assert test.counts().tolist() == [8, 8, 8] and "éto" in json.dumps(
        train.classes, ensure_ascii=False
    )


def test_classes_that_differ_in_capital_letters_alone_stay_two(copy):
    for split in ("train", "test"):
        shutil.copytree(copy / split / "round", copy / split / "Round")
    assert load(copy, "test").classes == ("Round", "cigar", "round", "spiral")


def test_a_folder_has_one_fingerprint_on_every_system(copy, tmp_path):
    for split in ("train", "test"):
        (copy / split / "round").rename(copy / split / "étoile")
    other = shutil.copytree(copy, tmp_path / "mac")
    for split in ("train", "test"):
        (other / split / "étoile").rename(other / split / unicodedata.normalize("NFD", "étoile"))
    assert folder.describe(other).sha256 == folder.describe(copy).sha256


# Splits


@pytest.mark.parametrize("name", ["val", "valid", "validation", "testing", "Test", "VALID"])
def test_the_test_folder_has_many_names(copy, tiny_folder, name):
    (copy / "test").rename(copy / name)
    assert np.array_equal(load(copy, "test").array(), load(tiny_folder, "test").array())
    assert data.about("folder", copy).sha256 == data.about("folder", tiny_folder).sha256


@pytest.mark.parametrize("flat", [True, False])
def test_an_unlabelled_test_folder_is_passed_over_for_a_labelled_one(copy, flat):
    (copy / "test").rename(copy / "valid")
    unlabelled = copy / "test" if flat else copy / "test" / "images"
    unlabelled.mkdir(parents=True)
    shutil.copy(copy / "train" / "round" / "000.png", unlabelled / "a.png")
    images = load(copy, "test")
    assert images.counts().tolist() == [8, 8, 8]
    assert "test/ is not used: it has no folder of a class" in images.about.remarks[0]


def test_a_second_test_folder_is_said_not_to_be_used(copy):
    shutil.copytree(copy / "test", copy / "val")
    [remark] = load(copy).about.remarks
    assert remark == "copy: val/ is not used: test/ is the test split"


def test_validation_alone_suffices_without_test_images(copy):
    shutil.rmtree(copy / "test")
    with pytest.raises(
        FileNotFoundError, match="--test-fraction 0.2 .* or --validation 0.1 to mea"
    ):
        load(copy, "test")
    options = {"data_dir": copy, "validation": 0.25}
    assert len(data.load("folder", "train", **options)) == 36
    assert len(data.load("folder", "validation", **options)) == 12


def unsplit(copy):
    """ROOT/<class> with all images."""
    for name in ("cigar", "round", "spiral"):
        for number, path in enumerate(sorted((copy / "test" / name).iterdir()), 16):
            path.rename(copy / "train" / name / f"{number:03d}.png")
        (copy / "train" / name).rename(copy / name)
    shutil.rmtree(copy / "train")
    shutil.rmtree(copy / "test")
    return copy


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("fraction, number", [(0.25, 6), (0.5, 12), (0.01, 1), (0.99, 23)])
def test_a_folder_without_splits_is_split_by_a_rule(copy, fraction, number, seed):
    root, how = unsplit(copy), {"test_fraction": fraction, "split_seed": seed}
    train, test = load(root, **how), load(root, "test", **how)
    assert test.counts().tolist() == [number] * 3 and train.counts().tolist() == [24 - number] * 3
    parts = [{image.tobytes() for image in one.array()} for one in (train, test)]
    assert not parts[0] & parts[1]
    assert train.about.sha256 == load(root).about.sha256  # the images are the same
    if 0.2 < fraction < 0.6:
        other = load(root, "test", test_fraction=fraction, split_seed=seed + 1)
        assert parts[1] != {image.tobytes() for image in other.array()}


def test_an_image_keeps_its_split_when_others_come(copy):
    root = unsplit(copy)
    before = {path.name for path, _ in folder.list_split(root, "test", ("cigar", "round", "spiral"),
                                                         0.25)}  # fmt: skip
    for name in ("cigar", "round", "spiral"):
        shutil.copy(root / name / "000.png", root / name / "zzz.png")
    after = {path.name for path, _ in folder.list_split(root, "test", ("cigar", "round", "spiral"),
                                                        0.25)}  # fmt: skip
    assert len(before - after) <= 1


def test_a_split_that_is_asked_for_twice_or_is_no_part_is_refused(copy):
    with pytest.raises(ValueError, match="has its own test images in test/; leave out --test-fra"):
        load(copy, test_fraction=0.2)
    root = unsplit(copy)
    for wrong in (-0.1, 1.0, 2.0):
        with pytest.raises(ValueError, match="test_fraction .* is outside"):
            load(root, test_fraction=wrong)
    for path in sorted((root / "round").iterdir())[1:]:
        path.unlink()
    with pytest.raises(
        ValueError, match="class 'round' of .* has 1 image, which cannot be trained"
    ):
        load(root, "test", test_fraction=0.2)


def test_the_split_is_in_the_record_and_in_the_command(copy, own_runs, capsys):
    root = unsplit(copy)
    words = ["train", "--dataset", "folder", "--data-dir", str(root), "--recipe", "smoke",
             "--set", "epochs=1", "--set", "batch_size=12", "--image-size", "32",
             "--test-fraction", "0.25", "--split-seed", "3"]  # fmt: skip
    assert main(words) == 0
    record = json.loads(next((own_runs / "ledger").glob("*.jsonl")).read_text())
    assert record["dataset"]["test_fraction"] == 0.25 and record["dataset"]["split_seed"] == 3
    assert (record["dataset"]["train"], record["dataset"]["test"]) == (54, 18)
    assert record["identity"]["test_fraction"] == 0.25
    assert "--test-fraction 0.25" in record["command"] and "--split-seed 3" in record["command"]
    assert main(words) == 0 and "is in the ledger" in capsys.readouterr().out


def test_runs_without_the_new_fields_keep_their_identity(tiny_folder):
    run = Run(model="astroformer_pico", dataset="folder", data_dir=str(tiny_folder),
              recipe=get_recipe("smoke"))  # fmt: skip
    assert not {"test_fraction", "stretch"} & set(run.asked())


def test_a_class_of_the_test_images_alone_has_test_images_without_train(copy):
    shutil.rmtree(copy / "train")
    images = load(copy, "test")
    assert images.classes == ("cigar", "round", "spiral") and len(images) == 24
    with pytest.raises(FileNotFoundError, match="no folder train"):
        load(copy, "train")


# What is said


def test_test_images_that_are_training_images_are_counted(copy):
    assert not load(copy).about.remarks
    for number in range(3):
        shutil.copy(
            copy / "train" / "cigar" / f"00{number}.png",
            copy / "test" / "round" / f"00{number}.png",
        )
    [remark] = load(copy).about.remarks
    assert remark == (
        "copy: 3 of 24 test images are byte for byte training images (round/000.png, "
        "round/001.png and 1 more)"
    )


def test_rules_of_pixels_are_said_and_are_another_data_set(copy):
    before = data.about("folder", copy)
    path = copy / "train" / "cigar" / "000.png"
    Image.open(path).convert("RGBA").save(path)
    about = data.about("folder", copy)
    assert about.remarks == ("copy: 1 images with transparency are laid on black",)
    assert about.sha256 != before.sha256


@pytest.mark.parametrize("suffix, kind", [(".fits", "FITS"), (".npy", "NumPy"), (".h5", "HDF5")])
def test_a_class_without_images_says_what_lies_there(copy, suffix, kind):
    for path in sorted((copy / "train" / "round").iterdir()):
        path.rename(path.with_suffix(suffix))
    with pytest.raises(ValueError, match=f"has no images, but 16 {suffix}; {kind} files are not"):
        load(copy)


def test_loose_images_with_a_table_of_labels_are_told_how_to_be_sorted(copy):
    for path in list((copy / "train").rglob("*.png")):
        path.rename(copy / "train" / f"{path.parent.name}{path.name}")
    for place in list((copy / "train").iterdir()):
        if place.is_dir():
            place.rmdir()
    (copy / "train.csv").write_text("id,label\n")
    with pytest.raises(ValueError, match="48 .png outside of a class folder; sort the images into"):
        load(copy)


def test_what_is_said_of_a_folder_is_said_before_training_and_by_stats(copy, own_runs, capsys):
    (copy / "train" / "round" / "a.fits").write_bytes(b"x")
    words = ["--dataset", "folder", "--data-dir", str(copy), "--image-size", "32"]
    assert main(["train", *words, "--recipe", "smoke", "--set", "epochs=1",
                 "--set", "batch_size=12"]) == 0  # fmt: skip
    assert "copy: left out: 1 .fits" in capsys.readouterr().out
    assert main(["data", "stats", *words]) == 0
    assert "copy: left out: 1 .fits" in capsys.readouterr().out


# Archives


def test_archives_leave_hidden_names_out_and_read_names_of_windows(tiny_folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for path in tiny_folder.rglob("*.png"):
            place = path.relative_to(tiny_folder)
            odd = zipfile.ZipInfo("x")
            odd.filename = "\\".join(("data", "deep", *place.parts))  # as written by Windows
            file.writestr(odd, path.read_bytes())
            file.writestr(f"__MACOSX/data/{place}", b"x")
            file.writestr(f"data/deep/{place.parent}/._{place.name}", b"x")
    made = archives.unpack(tmp_path / "a.zip", tmp_path / "made")
    assert data.about("folder", made).sha256 == data.about("folder", tiny_folder).sha256
    assert not [path for path in made.rglob("*") if walk.hidden(path.name)]


@pytest.mark.parametrize("above", ["", "one", "one/two/three"])
@pytest.mark.parametrize("split", [True, False])
def test_archives_hold_the_data_set_at_any_depth(copy, tmp_path, above, split):
    root = copy if split else unsplit(copy)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(root, above or ".")
    made = archives.unpack(tmp_path / "a.tar", tmp_path / "made")
    images = load(made, "train", **({} if split else {"test_fraction": 0.25}))
    assert images.counts().tolist() == [16 if split else 18] * 3


def test_counts_are_told_the_most_frequent_first():
    assert walk.counted(Counter({".b": 1, ".a": 1, ".fits": 1200})) == "1,200 .fits, 1 .a, 1 .b"
    assert walk.counted(Counter()) == ""
