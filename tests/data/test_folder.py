"""ImageFolders: what is read, how large images become, and what each defect says."""

import json
import os
import shutil
import tarfile
import tracemalloc
import zipfile
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from astroformer.data import archives, contents, folder
from astroformer.data.folder import describe, load_folder


@pytest.fixture
def copy(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def test_classes_are_the_folders_and_images_come_as_they_lie(tiny_folder):
    images = load_folder(tiny_folder, "train")
    assert images.classes == ("cigar", "round", "spiral") and images.image_size == 32
    assert images.array().shape == (48, 32, 32, 3) and images.counts().tolist() == [16, 16, 16]
    with Image.open(tiny_folder / "train" / "cigar" / "003.png") as file:
        assert np.array_equal(images.pixels[3], np.asarray(file))


def test_the_test_folder_may_be_called_val(copy):
    (copy / "test").rename(copy / "val")
    assert len(load_folder(copy, "test")) == 24


def test_an_oblong_image_is_scaled_to_its_shorter_side_and_cropped_in_the_middle(copy):
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 30:50] = 255  # the middle; the left and right thirds are dark
    Image.fromarray(wide).save(copy / "train" / "cigar" / "000.png")
    image = load_folder(copy, "train", image_size=20).pixels[0]
    assert image.shape == (20, 20, 3) and image[:, 8:12].min() > 200 and image[:, :3].max() < 60


def test_grey_and_transparent_images_become_rgb(copy):
    Image.fromarray(np.full((32, 32), 77, np.uint8)).save(copy / "train" / "cigar" / "000.png")
    Image.fromarray(np.full((32, 32, 4), 99, np.uint8)).save(copy / "train" / "cigar" / "001.png")
    pixels = load_folder(copy, "train").pixels
    assert (pixels[0] == 77).all() and (pixels[1] == round(99 * 99 / 255)).all()  # on black


@pytest.mark.parametrize("whole", [False, True], ids=["squares", "as they are stored"])
def test_what_does_not_fit_in_memory_is_decoded_when_asked_for_and_is_the_same(
    tiny_folder, monkeypatch, whole
):
    images = load_folder(tiny_folder, "train", image_size=24)
    kept = images.ready(print, whole=whole)
    monkeypatch.setattr("astroformer.data.pixels.free_memory", lambda: 1000)
    lazy = images.ready(print, whole=whole)
    in_memory = [(one.pixels.squares, one.pixels.wholes)[whole] for one in (kept, lazy)]
    assert in_memory[0] is not None and in_memory[1] is None
    some = np.array([5, 40])
    for i, j in enumerate(some):
        for part, every in ((lazy.take(some), kept), (kept.take(some), lazy)):
            assert np.array_equal(part.pixels[i], every.pixels[j])
            assert np.array_equal(part.whole(i), every.whole(j))


def test_the_fingerprint_follows_the_bytes_and_not_the_place(tiny_folder, copy):
    assert describe(copy).sha256 == describe(tiny_folder).sha256
    (copy / "test" / "round" / "000.png").unlink()
    assert describe(copy).sha256 != describe(tiny_folder).sha256


def test_the_fingerprint_is_that_of_places_and_bytes_and_of_nothing_else(copy):
    before = describe(copy).sha256
    (copy / "test").rename(copy / "val")
    (copy / "notes.txt").write_text("no part of it")
    (copy / "train" / "round" / "notes.txt").write_text("no image")
    (copy / "about.json").write_text('{"title": "Another title"}')
    os.utime(copy / "train" / "round" / "003.png", (1, 1))
    assert describe(copy).sha256 == before
    path = copy / "train" / "round" / "003.png"
    content = path.read_bytes()
    for place in (0, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert describe(copy).sha256 != before
    path.write_bytes(content)
    assert describe(copy).sha256 == before
    path.rename(copy / "train" / "spiral" / "099.png")
    moved = describe(copy).sha256
    (copy / "train" / "spiral" / "099.png").rename(copy / "train" / "round" / "099.png")
    assert len({before, moved, describe(copy).sha256}) == 3


def test_large_files_are_fingerprinted_piece_by_piece(tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            with open(tmp_path / split / name / "large.png", "wb") as file:
                file.truncate(16 * 2**20)
    tracemalloc.start()
    sha256 = describe(tmp_path).sha256
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(sha256) == 64 and peak < 4 * 2**20


def test_a_fingerprint_that_took_long_is_kept_for_the_next_process(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "cache"))
    expected = folder.contents_of(copy)
    assert not (tmp_path / "cache").exists()  # it took milliseconds
    monkeypatch.setattr(contents, "SLOW", 0.0)
    assert folder.contents_of(copy) == expected
    [kept] = (tmp_path / "cache" / "fingerprints").iterdir()
    assert json.loads(kept.read_text()) == json.loads(json.dumps(asdict(expected)))
    monkeypatch.setattr(contents, "READ_AT_ONCE", "")  # whoever reads a file fails
    assert folder.contents_of(copy) == expected
    kept.write_text("cut")
    with pytest.raises(TypeError):
        folder.contents_of(copy)
    monkeypatch.undo()
    (copy / "train" / "round" / "000.png").write_bytes(b"x")
    assert folder.contents_of(copy) != expected


def test_a_cache_folder_that_cannot_be_written_to_costs_only_time(copy, tmp_path, monkeypatch):
    (tmp_path / "occupied").write_text("a file where the folder should be")
    expected = folder.contents_of(copy)
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "occupied"))
    monkeypatch.setattr(contents, "SLOW", 0.0)
    assert folder.contents_of(copy) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "title", "kind", "note", "mirrored", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=json_values | st.fixed_dictionaries({"mirrored": json_values}))
def test_any_about_json_is_taken_or_refused_in_one_line_with_its_path(tmp_path, told):
    path = tmp_path / "about.json"
    path.write_text(json.dumps(told))
    texts = ("name", "title", "kind", "note")
    good = isinstance(told, dict) and all(isinstance(told.get(key, ""), str) for key in texts)
    pairs = told.get("mirrored", []) if isinstance(told, dict) else []
    good = good and isinstance(pairs, list)
    good = good and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    good = good and all(isinstance(name, str) for pair in pairs for name in pair)
    if good:
        assert folder.read_about(path) == told
        return
    with pytest.raises(ValueError) as error:
        folder.read_about(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"{name: tiny}", "is not JSON .*repair this one, or remove it"),
        (b"", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b'["tiny"]', "holds a list, not an object"),
        (b'{"title": 3}', "title is not a text"),
        (b'{"mirrored": {"cigar": "round"}}', "mirrored is not a list of pairs"),
        (b'{"mirrored": [["cigar"]]}', "mirrored is not a list of pairs"),
        (b'{"mirrored": [["cigar", "nobody"]]}', "mirrored names 'nobody', which is no class"),
        (b'{"mirrored": [["cigar", "cigar"]]}', "mirrored names 'cigar', twice"),
        (b'{"mirrored": [["cigar", "round"], ["round", "spiral"]]}', "names 'round', twice"),
    ],
)
def test_a_wrong_about_json_is_named_whatever_is_asked_of_the_folder(copy, content, words):
    (copy / "about.json").write_bytes(content)
    for ask in (lambda: describe(copy), lambda: load_folder(copy, "test")):
        with pytest.raises(ValueError, match=words) as error:
            ask()
        assert str(copy / "about.json") in str(error.value) and "\n" not in str(error.value)


def test_an_about_json_as_windows_writes_it_is_read(copy):
    (copy / "about.json").write_bytes(b'\xef\xbb\xbf{"name": "mine"}\r\n')
    assert describe(copy).name == "mine" and describe(copy).title == "mine"


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda root: remove(root), "no folder .*copy.*--data-dir"),
        (lambda root: remove(root / "train"), "no folder train"),
        (
            lambda root: remove(root / "test"),
            "no folder test, testing, val, valid or validation; give --test-fraction",
        ),
        (
            lambda root: [path.unlink() for path in (root / "train" / "round").iterdir()],
            "class 'round' .* has no images",
        ),
        (
            lambda root: remove(root / "train" / "spiral"),
            "class 'spiral' of .*test is missing in .*train",
        ),
        (
            lambda root: remove(root / "test" / "spiral"),
            "class 'spiral' of .*train is missing in .*test",
        ),
        (
            lambda root: [remove(root / "train" / name) for name in ("spiral", "round")],
            "1 class folders",
        ),
        (
            lambda root: (root / "train" / "round" / "005.png").write_bytes(b"not an image"),
            "cannot read the image .*005.png.*delete it",
        ),
        (
            lambda root: (root / "test" / "round" / "005.png").write_bytes(
                (root / "test" / "round" / "005.png").read_bytes()[:300]
            ),
            "cannot read the image .*005.png",
        ),
    ],
)
def test_a_defect_is_named_with_its_file_or_class(copy, spoil, words):
    spoil(copy)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        for split in ("train", "test"):
            load_folder(copy, split).array()


def make_tar(root, path):
    with tarfile.open(path, "w:xz") as tar:
        tar.add(root, "some-name")
    return path


def test_an_archive_is_unpacked_once_and_trains_like_its_folder(tiny_folder, tmp_path):
    archive = make_tar(tiny_folder, tmp_path / "a.tar.xz")
    made = archives.unpack(archive, tmp_path / "made")
    assert describe(made).sha256 == describe(tiny_folder).sha256
    before = (made / "about.json").stat().st_mtime_ns
    assert (
        archives.unpack(archive, made) == made
        and (made / "about.json").stat().st_mtime_ns == before
    )


def test_a_known_archive_brings_its_name_and_its_mirrored_classes(
    tiny_folder, tmp_path, monkeypatch
):
    archive = make_tar(tiny_folder, tmp_path / "a.tar.xz")
    facts = dict(
        name="known",
        title="Known (re-encoded)",
        kind="re-encoded",
        mirrored=[["cigar", "round"]],
        note="of tests",
    )
    monkeypatch.setitem(archives.ARCHIVES, archives.file_sha256(archive), facts)
    about = describe(archives.unpack(archive, tmp_path / "made"))
    assert (about.title, about.kind, about.mirrored) == (
        "Known (re-encoded)",
        "re-encoded",
        (("cigar", "round"),),
    )


def test_a_zip_archive_is_unpacked_too(tiny_folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for path in tiny_folder.rglob("*.png"):
            file.write(path, path.relative_to(tiny_folder))
    assert len(load_folder(archives.unpack(tmp_path / "a.zip", tmp_path / "made"), "test")) == 24


def test_a_cut_archive_is_named_and_leaves_nothing(tiny_folder, tmp_path):
    archive = make_tar(tiny_folder, tmp_path / "a.tar.xz")
    archive.write_bytes(archive.read_bytes()[:-5000])
    with pytest.raises(ValueError, match="cannot unpack .*a.tar.xz"):
        archives.unpack(archive, tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.xz"]


def test_a_member_that_leaves_the_destination_is_refused(tmp_path):
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "evil", "../outside")
    with pytest.raises(ValueError, match="cannot unpack"):
        archives.unpack(tmp_path / "a.tar", tmp_path / "deep" / "made")
    assert not (tmp_path / "outside").exists() and not (tmp_path / "deep" / "outside").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(tiny_folder, tmp_path):
    archive = make_tar(tiny_folder, tmp_path / "a.tar.xz")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="empty it"):
        archives.unpack(archive, tmp_path / "made")
    assert (tmp_path / "made" / "mine.txt").read_text() == "keep"
