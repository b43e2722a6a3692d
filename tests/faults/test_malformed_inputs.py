"""Malformed files and folders, some of ten thousand malformed inputs: whatever they hold, they are
read, or refused in one line; never a traceback, an internal error, or a wait without an end.

Each test calls what the verbs call, and asks `cli.errors.complaint`, which makes the line, of what
was raised (see `malformed.answered`).
"""

import contextlib
import gzip
import io
import json
import os
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from malformed import NUMBER, STRANGE, TEXTS, VALUES, answered, in_time, many, spoiled
from PIL import Image

from astroformer import cli, data, paths
from astroformer.data import archives, folder, pixels, values
from astroformer.ledger import curves, predictions, records
from astroformer.training import checkpoint
from astroformer.training.initial import read_weights

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_ten_thousand_inputs_are_tried():
    assert sum(NUMBER.values()) >= 10_000


def of_arrays(**arrays):
    with io.BytesIO() as file:
        np.savez_compressed(file, **arrays)
        return file.getvalue()


@pytest.fixture
def own(own_runs, monkeypatch):
    """A ledger of its own beside an empty committed one."""
    monkeypatch.setattr(paths, "LEDGER", own_runs / "committed")
    paths.local_ledger().mkdir()
    paths.LEDGER.mkdir()
    return own_runs


# Records


GOOD = dict.fromkeys(records.FIELDS) | dict(
    run="abc123",
    status="completed",
    started="2026-01-01T00:00:00+00:00",
    model="astroformer_pico",
    dataset={"name": "x", "title": "x", "source": "folder", "classes": 3},
    recipe={"name": "smoke"},
    metrics={"top1": 50.0},
    history=[{"epoch": 1}],
)
EVERY = [*records.FIELDS, *records.OPTIONAL]


@st.composite
def lines(draw):
    """A line of a ledger: a record of which something is otherwise, or no record."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.sampled_from(STRANGE) | st.binary(max_size=80))
    record = dict(GOOD)
    for name in draw(st.lists(st.sampled_from(EVERY), max_size=4)):
        inner = record.get(name)
        if isinstance(inner, dict) and draw(st.booleans()):
            keys = st.sampled_from([*inner, "class_fraction", "split_seed", "top1", "epochs"])
            record[name] = inner | draw(st.dictionaries(keys | TEXTS, VALUES, max_size=2))
        else:
            record[name] = draw(VALUES)
    for name in draw(st.lists(st.sampled_from(EVERY), max_size=3)):
        record.pop(name, None)
    record |= draw(st.dictionaries(TEXTS | st.just("metrics.top1"), VALUES, max_size=1))
    line = json.dumps(record).encode()
    if kind == 1:
        line = draw(spoiled(line))
    return line.replace(b"\n", b" ")


def printed(words):
    """What a command prints of the own ledger, in both forms."""
    with contextlib.redirect_stdout(io.StringIO()):
        options = cli.parser().parse_args(words)
        options.call(options)


@many("lines")
@given(
    content=st.lists(lines(), min_size=1, max_size=3), end=st.sampled_from([b"\n", b"", b"\r\n"])
)
def test_any_line_of_this_machines_ledger_is_read_or_skipped_with_its_number(own, content, end):
    path = paths.local_ledger() / "job.jsonl"
    path.write_bytes(b"\n".join(content) + end)
    records._REPORTED.clear()
    found = answered(records.read)
    assert found is not None, "one broken line hides the others"
    assert len(found) <= len(content)
    assert answered(records.frame, found) is not None
    assert answered(records.unique, found) is not None


@many("records")
@given(content=lines(), json_too=st.booleans())
def test_any_committed_line_is_printed_by_the_command_or_refused_by_its_number(
    own, content, json_too
):
    path = paths.LEDGER / "job.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n" + content + b"\n")
    try:
        records.read(paths.LEDGER)
    except ValueError as error:
        assert f"{path}, line 2" in str(error) and len(str(error).splitlines()) == 1
        return
    answered(printed, ["ledger", *["--json"] * json_too])


def test_a_pipe_or_a_folder_among_the_ledgers_is_refused_in_one_line(own):
    for make in (os.mkfifo, os.mkdir):
        place = paths.local_ledger() / "job.jsonl"
        make(place)
        with in_time(), pytest.raises(ValueError, match=r"job.jsonl is a folder, a pipe or a dev"):
            records.read()
        os.unlink(place) if make is os.mkfifo else os.rmdir(place)


# Predictions, curves


SAID = predictions.of_logits(
    "abc", np.eye(4)[[0, 1, 2, 3, 0]], [0, 1, 2, 3, 1], "abcd", evaluated_on="test"
)
WHOLE = of_arrays(**{name: np.asarray(getattr(SAID, name)) for name in predictions.FIELDS})
ARRAYS = st.sampled_from(
    [
        np.zeros(0),
        np.array(3),
        np.array([-1, 0, 1, 2, 3]),
        np.array([[9, 9]] * 5),
        np.full((5, 4), np.nan),
        np.zeros((5, 4), complex),
        np.array(["a"] * 5),
        np.array([[2.0] * 4] * 5),
        np.array([b"x"] * 5),
        np.zeros((5, 4), "M8[s]"),
        np.zeros((5, 0)),
        np.zeros((5, 1), [("a", "f4")]),
    ]
)


@many("predictions")
@given(drawn=st.data())
def test_any_file_of_predictions_is_read_with_all_that_follows_or_refused(own, drawn):
    if drawn.draw(st.booleans()):
        content = drawn.draw(spoiled(WHOLE))
    else:
        own_arrays = {name: np.asarray(getattr(SAID, name)) for name in predictions.FIELDS}
        changed = drawn.draw(
            st.dictionaries(st.sampled_from(predictions.FIELDS), ARRAYS, min_size=1)
        )
        content = of_arrays(**(own_arrays | changed))
    path = predictions.local("abc")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    found = answered(predictions.read, "abc")
    if found is not None and len(found):
        with in_time():  # tables and figures do not ask again
            assert 0 <= predictions.metrics(found)["top1"] <= 100
            predictions.mistakes(found)
            predictions.confused(predictions.confusion(found), found.classes)


CURVE = of_arrays(loss=np.ones(9, np.float32), norm=np.ones(9, np.float32))


@many("curves")
@given(drawn=st.data())
def test_any_file_of_a_curve_is_read_or_refused(own, drawn):
    if drawn.draw(st.booleans()):
        content = drawn.draw(spoiled(CURVE))
    else:
        content = of_arrays(loss=drawn.draw(ARRAYS), norm=drawn.draw(ARRAYS))
    path = curves.local("abc")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    found = answered(curves.read, "abc")
    assert found is None or (found.loss.shape == found.norm.shape and found.loss.ndim == 1)


# Checkpoints, weights


def saved(state, **how):
    with io.BytesIO() as file:
        torch.save(state, file, **how)
        return file.getvalue()


STATE = dict.fromkeys(("model", "recipe", "dataset"), "x") | dict(
    format=checkpoint.FORMAT,
    run="abc",
    options={},
    classes=["a"],
    mean=[0.5],
    std=[0.5],
    step=1,
    steps=2,
    image_size=32,
    average=None,
    weights={"w": torch.ones(30)},
)


@many("checkpoints")
@given(drawn=st.data())
def test_any_file_in_place_of_a_checkpoint_is_read_or_passed_over(tmp_path, drawn):
    if drawn.draw(st.booleans()):
        content = drawn.draw(spoiled(saved(STATE)))
    else:
        names = st.sampled_from([*STATE, *checkpoint.TO_GO_ON])
        values = VALUES | st.just(torch.ones(2))
        content = saved(STATE | drawn.draw(st.dictionaries(names, values, min_size=1, max_size=3)))
    for old in tmp_path.iterdir():
        old.unlink()
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    answered(checkpoint.read, path)
    said = []
    with in_time():
        found = checkpoint.newest(tmp_path, "abc", said.append, like=STATE | {"optimizer": {}})
    assert found is None and len(said) == 1 and len(said[0].splitlines()) == 1


SHAPES = {"w": torch.ones(3, 2), "head.weight": torch.ones(2, 3)}
FILES = [
    saved(SHAPES),
    saved({"model": SHAPES, "epoch": 3}),
    saved(SHAPES, _use_new_zipfile_serialization=False),
]


@many("weights")
@given(drawn=st.data())
def test_any_file_of_weights_is_read_or_refused(tmp_path, drawn):
    from safetensors.torch import save

    content = drawn.draw(spoiled(drawn.draw(st.sampled_from([*FILES, save(SHAPES)]))))
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    answered(read_weights, path)


# Images and folders


@pytest.fixture
def copy(tiny_folder, tmp_path):
    """A small folder of images that a test may spoil: two classes with two images a split."""
    root = tmp_path / "images"
    for split in ("train", "test"):
        for name in ("cigar", "round"):
            place = root / split / name
            place.mkdir(parents=True)
            for image in ("000.png", "001.png"):
                content = (tiny_folder / split / name / image).read_bytes()
                (place / image).write_bytes(content)
    return root


def used(root):
    """What training and `data stats` ask of a folder."""
    folder.describe(root)
    for split in ("train", "test"):
        images = folder.load_folder(root, split, image_size=16)
        images.array()
        images.statistics()
        images.mirror_labels()


ABOUT = {"name": "x", "title": "y", "kind": "real", "note": "", "mirrored": [["cigar", "round"]]}


@many("about")
@given(drawn=st.data())
def test_any_about_json_leaves_the_folder_readable_or_is_named(copy, drawn):
    told = ABOUT | drawn.draw(st.dictionaries(st.sampled_from([*ABOUT, "x"]), VALUES, max_size=3))
    content = json.dumps(told).encode()
    if drawn.draw(st.booleans()):
        content = drawn.draw(spoiled(content))
    (copy / "about.json").write_bytes(content)
    answered(folder.describe, copy)
    with in_time():
        archives.unpacked_from(copy / "about.json")


def image(kind, mode="RGB"):
    with io.BytesIO() as file:
        Image.new(mode, (16, 16), 100).save(file, kind)
        return file.getvalue()


PICTURES = [image(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")]
SUFFIXES = st.sampled_from(
    [".png", ".jpg", ".tif", ".gif", ".webp", ".PNG", ".bmp", ".tga", ".jp2"]
)


@many("images")
@given(drawn=st.data(), suffix=SUFFIXES, name=st.sampled_from(["a", "ä", "a b", "%s", "-x"]))
def test_any_image_is_read_or_named(tmp_path, drawn, suffix, name):
    content = drawn.draw(spoiled(drawn.draw(st.sampled_from(PICTURES))))
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # a header may promise gigabytes
        with in_time():
            pixels.rules_of(path)
        answered(pixels.size_of, path)
        answered(pixels.open_rgb, path)
        answered(values.read, path)
    path.unlink()


def of_values(suffix):
    """A file that holds values, in each format."""
    array = np.arange(64, dtype=np.float32).reshape(8, 8)
    with io.BytesIO() as file:
        if suffix == ".npy":
            np.save(file, array)
        elif suffix == ".tif":
            tifffile.imwrite(file, np.stack([array] * 3, axis=2), compression="zlib")
        elif suffix == ".fits.fz":
            fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(array)]).writeto(file)
        else:
            fits.HDUList([fits.PrimaryHDU(array), fits.ImageHDU(array, name="G")]).writeto(file)
        content = file.getvalue()
    return gzip.compress(content) if suffix.endswith(".gz") else content


HOLDING = {one: of_values(one) for one in (".npy", ".tif", ".fits", ".fits.gz", ".fits.fz")}


@many("values")
@given(drawn=st.data(), suffix=st.sampled_from([*HOLDING]))
def test_any_file_of_values_is_read_or_named(tmp_path, drawn, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(drawn.draw(spoiled(HOLDING[suffix])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
        for bands in ((), ("0",), ("G",)):
            answered(values.read, path, bands)


def of_table(suffix):
    table = pa.table(
        {"objid": ["000", "001"], "label": ["a", "b"], "ra": [1.0, 2], "dec": [0.0, 0]}
    )
    with io.BytesIO() as file:
        if suffix == ".parquet":
            pq.write_table(table, file)
        elif suffix == ".fits":
            fits.BinTableHDU(Table(table.to_pydict())).writeto(file)
        else:
            table.to_pandas().to_csv(file, index=False)
        return file.getvalue()


TABLES = {one: of_table(one) for one in (".csv", ".parquet", ".fits")}


@many("tables")
@given(drawn=st.data(), suffix=st.sampled_from([*TABLES]))
def test_any_table_of_labels_is_read_or_named(copy, drawn, suffix):
    path = copy / f"t{suffix}"
    path.write_bytes(drawn.draw(spoiled(TABLES[suffix])))
    answered(folder.load_folder, copy / "train" / "cigar", "train", labels=path)
    path.unlink()


def put(place, content):
    """A file, a folder, a link, a pipe or a device, where nothing is yet."""
    what, data = content
    if what == "file":
        place.write_bytes(data)
    elif what == "folder":
        place.mkdir()
    elif what == "link":
        place.symlink_to(data)
    else:
        os.mkfifo(place)


NAMES_OF_FILES = st.sampled_from(
    [
        *(
            "a.png",
            "b.jpg",
            "train",
            "test",
            "val",
            "about.json",
            ".hidden",
            "x",
            "c.fits",
            "d.npy",
        ),
        *(
            "Thumbs.db",
            "e.PNG",
            "f.png.gz",
            "A.png",
            "a\u0301.png",
            "\udcff.png",
            "g g.png",
            "n" * 200,
        ),
        *("line\nbreak.png", "{}.png", "%s.png", "cigar", "ROUND", "wnids.txt"),
    ]
)
CONTENTS = st.one_of(
    st.tuples(
        st.just("file"), st.sampled_from([*PICTURES, b"", b"{}", b"\0" * 99, b"\x89PNG\r\n"])
    ),
    st.tuples(st.just("folder"), st.none()),
    st.tuples(
        st.just("link"), st.sampled_from(["..", ".", "nowhere", "/dev/zero", "/dev/null", "a.png"])
    ),
    st.tuples(st.just("pipe"), st.none()),
)
PLACES = st.sampled_from(["", "train", "test", "train/round", "train/cigar", "test/round"])


@many("folders")
@given(drawn=st.data())
def test_any_folder_is_used_or_refused_and_no_pipe_or_device_is_waited_for(
    tiny_folder, tmp_path_factory, drawn
):
    root = tmp_path_factory.mktemp("odd") / "images"
    missing = drawn.draw(st.lists(PLACES, max_size=1))
    picture = PICTURES[0]
    for place in ("train/round", "train/cigar", "test/round", "test/cigar"):
        if not any(place.startswith(one) for one in missing if one):
            (root / place).mkdir(parents=True)
            (root / place / "000.png").write_bytes(picture)
    root.mkdir(exist_ok=True)
    things = st.tuples(PLACES, NAMES_OF_FILES, CONTENTS)
    for place, name, content in drawn.draw(st.lists(things, max_size=5)):
        where = root / place
        if where.is_dir() and not os.path.lexists(where / name):
            put(where / name, content)
    answered(used, root)
    for name in ("imagenet1k", "tiny_imagenet", "galaxy10_decals", "cifar10"):
        answered(images_of, name, root)


def images_of(name, root):
    """As evaluating reads them."""
    data.load(name, "test", data_dir=str(root)).array()


def packed(kind):
    with io.BytesIO() as file:
        if kind == "zip":
            with zipfile.ZipFile(file, "w") as archive:
                for place in ("train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"):
                    archive.writestr(f"x/{place}", PICTURES[0])
        else:
            with tarfile.open(fileobj=file, mode=f"w:{kind}") as archive:
                for place in ("train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"):
                    info = tarfile.TarInfo(f"x/{place}")
                    info.size = len(PICTURES[0])
                    archive.addfile(info, io.BytesIO(PICTURES[0]))
        return file.getvalue()


PACKED = [packed(kind) for kind in ("zip", "", "gz", "xz", "bz2")]


@many("archives")
@given(drawn=st.data())
def test_any_archive_is_unpacked_whole_or_refused_and_leaves_nothing(tmp_path_factory, drawn):
    place = tmp_path_factory.mktemp("packed")
    (place / "archive").write_bytes(drawn.draw(spoiled(drawn.draw(st.sampled_from(PACKED)))))
    if answered(archives.unpack, place / "archive", place / "into") is None:
        assert [one.name for one in place.iterdir()] == ["archive"]
