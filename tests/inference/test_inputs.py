"""Which files are images, by what name, and why one is not read."""

import os
import pickle

import numpy as np
import pytest
import torch
from galaxy_folder import write_galaxies
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from astroformer.data.loader import Loader
from astroformer.data.stretch import Stretch
from astroformer.data.values import Reading
from astroformer.inference.inputs import (
    REASON,
    Inputs,
    Unlabelled,
    as_text,
    check_units,
    inputs_of,
    reasons_of,
)
from astroformer.inference.members import Cut

PLAIN = Cut(16, 1.0, "bicubic", None)
VALUES = Reading(stretch=Stretch("asinh", (0.0,), (10.0,), 9, spread=(0.5,)), channels=1)


def picture(path, value=100, size=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), value, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "cut outs"
    for name in ("b.png", "a/z.png", "a/b/c.jpg"):
        picture(root / name)
    for name in (".hidden.png", "._b.png", "notes.txt", "a/table.csv"):
        (root / name).write_text("x")
    return root


def test_a_folder_is_walked_at_any_depth_and_what_is_no_image_is_counted(folder):
    found = inputs_of(folder, None)
    assert found.names == ("a/b/c.jpg", "a/z.png", "b.png") and found.shown == str(folder)
    assert [os.path.relpath(one, folder) for one in found.sources] == [*found.names]
    assert found.left_out == {"hidden": 2, ".txt": 1, ".csv": 1}


def test_a_link_that_leads_nowhere_is_an_image_that_is_not_read(folder):
    (folder / "gone.png").symlink_to(folder / "annex")
    found = inputs_of(folder, None)
    at = found.names.index("gone.png")
    _, [reason] = Unlabelled(found, [PLAIN]).__getitems__([(0, at)])
    assert "no such file" in bytes(reason.tolist()).decode().lower()


def test_one_image_and_a_list_of_paths(folder, tmp_path, monkeypatch):
    assert inputs_of(folder / "b.png", None).names == ("b.png",)
    paths = tmp_path / "list.txt"
    paths.write_text("# these\r\ncut outs/b.png\n\n  \ncut outs/none.png\n", newline="")
    beside = inputs_of(paths, None)  # from the list's own folder
    assert beside.names == ("cut outs/b.png", "cut outs/none.png")
    assert beside.sources[0] == str(folder / "b.png")
    monkeypatch.chdir(folder)
    paths.write_text(f"b.png\n{folder}/a/z.png\n")
    here = inputs_of(paths, None)
    assert here.names == ("b.png", f"{folder}/a/z.png") and here.sources[0] == "b.png"
    assert inputs_of(["b.png", folder / "a/z.png"], None).names == here.names


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda root: root / "nowhere", "there is no .*nowhere"),
        (lambda root: (root / "empty").mkdir() or root / "empty", "no images at any depth"),
        (lambda root: (root / "a.zip").write_bytes(b"PK\0") and root / "a.zip", "neither an image"),
        (lambda root: (root / "a.txt").write_bytes(b"a\0b") and root / "a.txt", "no text file"),
        (lambda root: (root / "a.txt").write_text("\n# no\n") and root / "a.txt", "names no image"),
        (lambda root: [], "is empty"),
    ],
)
def test_what_holds_no_image_is_refused_in_one_line(tmp_path, make, said):
    with pytest.raises((FileNotFoundError, ValueError), match=said) as error:
        inputs_of(make(tmp_path), None)
    assert "\n" not in str(error.value)


def test_previews_beside_values_are_left_out_and_values_beside_pictures(folder):
    np.save(folder / "b.npy", np.zeros((20, 20)))
    assert inputs_of(folder, VALUES).names == ("b.npy",)
    assert inputs_of(folder, VALUES).left_out[".png"] == 2
    assert "b.npy" not in inputs_of(folder, None).names
    assert inputs_of(folder, None).left_out[".npy"] == 1


def test_files_of_bands_are_one_image_and_one_that_lacks_a_band_is_told(tmp_path):
    for name in ("ngc1_g", "ngc1_r", "ngc1_z", "deep/ngc2_g", "deep/ngc2_z", "sky"):
        path = tmp_path / f"{name}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, np.random.default_rng(len(name)).uniform(0, 10, (20, 20)))
    stretch = Stretch("linear", (0.0,) * 3, (10.0,) * 3, 9)
    reading = Reading(bands=("g", "r", "z"), stretch=stretch, channels=3)
    found = inputs_of(tmp_path, reading)
    assert found.names == ("deep/ngc2.npy", "ngc1.npy")
    assert found.left_out == {".npy of no band that is asked for": 1}
    assert found.sources[1] == tuple(str(tmp_path / f"ngc1_{band}.npy") for band in "grz")
    images, told = Unlabelled(found, [Cut(16, 1.0, "bicubic", reading)]).__getitems__(
        [(0, 0), (0, 1)]
    )
    assert reasons_of(told) == ["there is no file of band r", ""]
    assert images.shape == (2, 3, 16, 16) and not images[0].any() and images[1].any()


def test_an_image_is_what_its_run_would_have_seen(folder):
    found = inputs_of(folder, None)
    cuts = [PLAIN, Cut(8, 0.5, "bilinear", None)]
    images, told = Unlabelled(found, cuts).__getitems__([(1, 2), (1, 0)])
    assert images.shape == (2, 3, 8, 8) and images.dtype == torch.uint8
    assert (images[0] == 100).all() and told.shape == (2, REASON)


def test_whatever_a_file_is_it_is_an_image_or_a_reason(tmp_path):
    bad = {
        "text.png": b"no image",
        "empty.jpg": b"",
        "cut.png": picture(tmp_path / "whole.png").read_bytes()[:60],
        "lfs.png": b"version https://git-lfs.github.com/spec/v1\n",
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    Image.fromarray(np.zeros((20, 20), dtype=np.uint16)).save(tmp_path / "deep.png")
    names = [*bad, "absent.png", "folder.png", "deep.png", "whole.png"]
    found = inputs_of([tmp_path / name for name in names], None)
    images, told = Unlabelled(found, [PLAIN]).__getitems__([(0, i) for i in range(len(names))])
    reasons = dict(zip(names, reasons_of(told)))
    assert reasons.pop("whole.png") == "" and (images[-1] == 100).all()
    assert all(reasons.values()) and not images[:-1].any()
    assert not any(str(tmp_path) in one or "\n" in one for one in reasons.values())
    assert "16" in reasons["deep.png"] and "directory" in reasons["folder.png"]


@settings(max_examples=30)
@given(said=st.text(min_size=1, max_size=1_000))
def test_a_reason_of_any_length_and_letters_comes_through(said):
    class Broken(Cut):
        def __call__(self, source):
            raise ValueError(said)

    data = Unlabelled(inputs_of(["a.png"], None), [Broken(4, 1.0, "bicubic", None)])
    _, told = data.__getitems__([(0, 0)])
    [reason] = reasons_of(told)
    one_line = " ".join(said.split()) or "ValueError"
    assert (
        reason
        and one_line.encode(errors="replace").startswith(reason[:20].encode()[:10])
        or ("\\x" in reason or "\0" in said)
    )


def test_names_that_are_no_text_are_shown_and_pass_to_other_processes(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    picture(tmp_path / "a.png").rename(os.fsdecode(raw))
    found = inputs_of(tmp_path, None)
    assert found.names == ("caf\\xe9.png",) and as_text("plain é.png") == "plain é.png"
    data = pickle.loads(pickle.dumps(Unlabelled(found, [PLAIN])))
    images, told = data.__getitems__([(0, 0)])
    assert reasons_of(told) == [""] and (images == 100).all()


def test_processes_read_the_same(tmp_path):
    write_galaxies(tmp_path, train=4, test=1)
    (tmp_path / "train/round/bad.png").write_text("no image")
    data = Unlabelled(inputs_of(tmp_path, None), [PLAIN])
    keys = [[(0, i) for i in batch] for batch in (range(7), range(7, len(data)))]
    here, there = (
        [
            (images.clone(), reasons_of(told))
            for images, told in Loader(data, workers=n).batches(keys)
        ]
        for n in (0, 2)
    )
    for (images, told), (others, reasons) in zip(here, there, strict=True):
        assert torch.equal(images, others) and told == reasons
    assert sum(bool(one) for _, reasons in here for one in reasons) == 1


def test_a_signature_tells_a_changed_an_added_and_an_absent_file(folder):
    before = inputs_of(folder, None).signature()
    assert inputs_of(folder, None).signature() == before
    picture(folder / "c.png")
    added = inputs_of(folder, None).signature()
    picture(folder / "c.png", size=30)
    changed = inputs_of(folder, None).signature()
    listed = inputs_of([folder / "c.png"], None)
    there = listed.signature()
    (folder / "c.png").unlink()
    assert len({before, added, changed, there, listed.signature()}) == 5
    assert inputs_of(folder, None).signature() == before


def test_values_in_other_units_than_the_training_images_are_refused(tmp_path):
    generator = np.random.default_rng(0)
    for scale, name in ((1.0, "same"), (1e-4, "smaller"), (1e3, "larger")):
        (tmp_path / name).mkdir()
        for i in range(3):
            np.save(tmp_path / name / f"{i}.npy", scale * generator.uniform(0, 9, (20, 20, 1)))
        (tmp_path / name / "bad.npy").write_text("no array")
    check_units(inputs_of(tmp_path / "same", VALUES), VALUES)
    for name in ("smaller", "larger"):
        with pytest.raises(ValueError, match=f"{name} are not in the units"):
            check_units(inputs_of(tmp_path / name, VALUES), VALUES)
    check_units(Inputs(("a",), ("a.png",), {}, "a"), None)
