"""Labels by a table, in every format and under many names of columns; objects stay in one part;
what a table leaves out is said.
"""

import json
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table as AstropyTable
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from astroformer import data
from astroformer.cli import main
from astroformer.data import catalogue
from astroformer.data.catalogue import Table, drawn, same_objects
from astroformer.data.images import held_out
from astroformer.recipes import get_recipe
from astroformer.training import Run

KINDS = ("round", "spiral", "edge_on")


@pytest.fixture
def root(tmp_path):
    """Twelve images without class folders, each of its own grey."""
    place = tmp_path / "images"
    place.mkdir()
    for index in range(12):
        Image.fromarray(np.full((8, 8, 3), 20 * index, np.uint8)).save(place / f"{100 + index}.png")
    return place


def rows(number=12, **columns):
    told = {"objid": np.arange(100, 100 + number), "label": [KINDS[i % 3] for i in range(number)]}
    return pd.DataFrame(told | columns)


def written(frame, path):
    suffix = "".join(path.suffixes)
    if suffix in (".csv", ".csv.gz"):
        frame.to_csv(path, index=False)
    elif suffix == ".tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        AstropyTable.from_pandas(frame).write(path)
    return path


def load(root, table, split="train", **how):
    return data.load("folder", split, data_dir=root, labels=str(table), **how)


def label_of(images):
    """Grey -> class."""
    return {int(one[0, 0, 0]): images.classes[label]
            for one, label in zip(images.array(), images.labels)}  # fmt: skip


def error_of(call, kind=(ValueError, FileNotFoundError)):
    with pytest.raises(kind) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


EXPECTED = {20 * index: KINDS[index % 3] for index in range(12)}


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".parquet", ".fits", ".fits.gz"])
@pytest.mark.parametrize("inside", [True, False])
def test_every_format_labels_the_same_images(root, tmp_path, suffix, inside):
    path = written(rows(), (root if inside else tmp_path) / f"table{suffix}")
    for given_as in (path, path.name if inside else path):
        images = load(root, given_as)
        assert images.classes == ("edge_on", "round", "spiral") and label_of(images) == EXPECTED
        assert images.about.remarks == (f"table{suffix}: labels by label, images by objid",)


@pytest.mark.parametrize("spelt", ["{}", "{}.png", "./{}.png", "sub/{}.png", "/elsewhere/{}.png",
                                   "images\\{}.png"])  # fmt: skip
def test_ids_are_places_names_or_names_without_a_suffix(root, tmp_path, spelt):
    told = [spelt.format(100 + index) for index in range(12)]
    path = written(pd.DataFrame({"file": told, "class": rows()["label"]}), tmp_path / "t.csv")
    assert label_of(load(root, path)) == EXPECTED


NAMES = {
    "id": ["objid", "GalaxyID", "iauname", "Image_ID", "FILENAME", "dr7objid", "id"],
    "label": ["label", "Class", "gz2class", "TARGET", "morphology"],
}


@given(st.sampled_from(NAMES["id"]), st.sampled_from(NAMES["label"]), st.permutations(range(4)))
@settings(max_examples=15, deadline=None)
def test_columns_are_found_by_usual_names_in_any_order(one, other, order):
    frame = rows(redshift=np.zeros(12), petroMag_r=np.ones(12))
    frame = frame.rename(columns={"objid": one, "label": other})
    frame = frame[[frame.columns[place] for place in order]]
    known = list(frame.columns)
    assert catalogue.usual_column(known, "label") == other
    assert catalogue.usual_columns(known, "id") == [one]


def test_other_columns_are_named(root, tmp_path):
    frame = rows().rename(columns={"objid": "specimen", "label": "verdict"})
    path = written(frame.assign(id=7), tmp_path / "t.csv")
    assert "no column of labels by a usual name, only specimen, verdict, id; name it with --l" in (
        error_of(lambda: load(root, path))
    )
    assert "none of the 12 ids in column id of" in error_of(
        lambda: load(root, path, label_column="verdict")
    )
    images = load(root, path, label_column="verdict", id_column="specimen")
    assert label_of(images) == EXPECTED
    said = error_of(lambda: load(root, path, label_column="nobody", id_column="specimen"))
    assert "has no column 'nobody', only specimen, verdict, id" in said


def test_the_column_of_ids_that_names_most_images_is_taken(root, tmp_path):
    frame = rows().assign(id=np.arange(12), name="x")
    images = load(root, written(frame, tmp_path / "t.csv"))
    assert images.about.remarks == ("t.csv: labels by label, images by objid",)


@pytest.mark.parametrize("labels", [[0, 1, 10], [0.0, 1.0, 10.0], [-1, 2, 3], ["2", "10", "b"]])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits"])
def test_classes_are_in_the_order_of_their_numbers_or_names(root, tmp_path, labels, suffix):
    frame = rows().assign(label=[labels[i % 3] for i in range(12)])
    images = load(root, written(frame, tmp_path / f"t{suffix}"))
    whole = [str(int(one)) if not isinstance(one, str) else one for one in labels]
    assert images.classes == tuple(sorted(whole) if "b" in whole else whole)


def test_what_is_left_out_is_counted_and_named(root, tmp_path):
    frame = pd.concat([rows(9), pd.DataFrame({"objid": [5, 6], "label": ["round"] * 2})])
    frame.loc[3, "label"] = ""
    images = load(root, written(frame, tmp_path / "t.csv"))
    assert len(images) == 8
    assert images.about.remarks == (
        "t.csv: labels by label, images by objid",
        "t.csv: 1 images without a label are left out",
        "t.csv: 2 rows name no image (5, 6)",
        "t.csv: 3 images have no row (109.png, 110.png, 111.png)",
    )


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda own: own.assign(label="round"), "labels 12 images of .* with 1 class .round., and"),
        (lambda own: own.assign(label=""), "labels 0 images of .* with 0 classes, and a"),
        (lambda own: own.assign(objid=range(12)), r"none of the 12 ids in column objid .*--id-col"),
        (lambda own: own.iloc[:0], "has no rows"),
        (lambda own: pd.concat([own, rows(1, label=["spiral"])]), "two rows of .* name 100.png, a"),
        (lambda own: own.assign(split="later"), "says 'later', which is no split; write train"),
        (lambda own: own.assign(split=["train", "test", "test"] * 4), "of 1 class .round. and a"),
        (lambda own: own.assign(ra="12:30:00", dec=3), "ra of .* holds '12:30:00', which is no"),
        (lambda own: own.assign(ra=3, dec=99), "beyond 360 degrees of right ascension or 90"),
        (lambda own: own.drop(columns="objid"), "no column of ids by a usual name, only label"),
    ],
)  # fmt: skip
def test_a_table_that_labels_nothing_says_why(root, tmp_path, spoil, words):
    path = written(spoil(rows()), tmp_path / "t.csv")
    with pytest.raises(ValueError, match=words) as error:
        load(root, path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("t.csv", b"", "cannot read the table"),
        ("t.parquet", b"PAR1 no", "cannot read the table"),
        ("t.fits", b"SIMPLE", "cannot read the table"),
        ("t.xlsx", b"PK", "is no table that is read; write it as CSV, Parquet or FITS"),
        ("t.csv", None, "there is no table"),
    ],
)
def test_a_file_that_is_no_table_is_named(root, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert words in error_of(lambda: load(root, tmp_path / name))


def test_what_is_about_a_table_needs_one(root):
    for asked in (dict(label_column="a"), dict(votes="a,b"), dict(threshold=0.5)):
        said = error_of(lambda one=asked: data.load("folder", "train", data_dir=root, **one))
        assert "is about a table of labels; name it with --labels" in said


def test_a_name_that_two_images_have_is_refused_and_their_places_are_taken(root, tmp_path):
    for split in ("one", "two"):
        (root / split).mkdir()
        shutil.copy(root / "100.png", root / split / "7.png")
    frame = pd.DataFrame({"file": ["7", "101", "102"], "label": ["a", "b", "a"]})
    said = error_of(lambda: load(root, written(frame, tmp_path / "t.csv")))
    assert "7 in column file of" in said and "is the name of 2 images" in said
    frame["file"] = ["two/7", "101", "one/7.png"]
    assert load(root, written(frame, tmp_path / "t.csv")).counts().tolist() == [2, 1]


# Votes


votes = st.lists(
    st.tuples(*[st.integers(0, 40)] * 3).filter(lambda own: sum(own) > 0), min_size=12, max_size=12
)


@given(votes, st.floats(0.34, 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_votes_become_a_label_where_enough_of_them_agree(tmp_path_factory, told, threshold, parts):
    counts = np.array(told, dtype=float)
    counts[0] = (40, 0, 0)  # numbers of votes, and not fractions, somewhere
    fractions = counts / counts.sum(1, keepdims=True)
    frame = pd.DataFrame(fractions if parts else counts, columns=["smooth", "disk", "star"])
    table = Table(catalogue.Path("t.csv"), votes=("smooth", "disk", "star"), threshold=threshold)
    labels, said = catalogue._by_votes(catalogue._fractions(frame, table, np.arange(12)), table)
    best = fractions.argmax(1)
    unique = (fractions == fractions.max(1, keepdims=True)).sum(1) == 1
    sure = (fractions.max(1) >= threshold) & unique
    assert labels == [
        ("smooth", "disk", "star")[one] if good else "" for one, good in zip(best, sure)
    ]
    number = int((~sure).sum())
    assert said == ([f"{number:,} images with less than {threshold:g} of the votes are left out"]
                    if number else [])  # fmt: skip


def test_votes_label_a_folder(root, tmp_path):
    frame = pd.DataFrame({"id": np.arange(100, 112)})
    frame["smooth"] = [9, 1, 5, 8] * 3
    frame["disk"] = [1, 9, 5, 2] * 3
    frame.loc[11, "disk"] = np.nan
    path, how = written(frame, tmp_path / "t.csv"), {"votes": "smooth, disk", "threshold": 0.8}
    images = load(root, path, **how)
    assert images.classes == ("disk", "smooth") and images.counts().tolist() == [3, 5]
    assert images.about.remarks[:3] == (
        "t.csv: votes smooth, disk, images by id",
        "t.csv: 3 images with less than 0.8 of the votes are left out",
        "t.csv: 1 images without votes are left out",
    )
    assert load(root, path, votes="disk,smooth", threshold=0.8).about.sha256 == images.about.sha256
    for asked, words in (
        (dict(votes="smooth,disk"), "give --threshold 0.8, say"),
        (dict(votes="smooth", threshold=0.5), "names one class; a classifier needs two"),
        (dict(votes="smooth,disk", threshold=1.5), "give --threshold"),
        (dict(threshold=0.5), "--threshold is about votes"),
        (how | {"label_column": "smooth"}, "give --label-column or --votes"),
        (dict(votes="smooth,bar", threshold=0.5), "has no column 'bar'"),
    ):
        assert words in error_of(lambda one=asked: load(root, path, **one))


# Objects


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_positions_within_an_arcsecond_are_one_object_anywhere_on_the_sky(seed):
    random = np.random.default_rng(seed)
    # a few close groups, at the poles and across right ascension 0 too
    ra = random.choice([0.0, 359.99995, 180.0, random.uniform(0, 360)], 30)
    dec = random.choice([89.9999, -90.0, 0.0, random.uniform(-90, 90)], 30)
    ra = (ra + random.normal(0, 0.5 / 3600, 30)) % 360
    dec = np.clip(dec + random.normal(0, 0.5 / 3600, 30), -90, 90)
    found = same_objects(ra, dec, catalogue.Path("t"))
    sky = SkyCoord(ra, dec, unit="deg")
    near = sky[:, None].separation(sky[None]) < catalogue.SAME_OBJECT * units.arcsec
    reach = near
    for _ in range(30):  # of friends of friends
        reach = (reach.astype(int) @ near.astype(int)) > 0
    assert np.array_equal(found[:, None] == found[None], reach)


def test_positions_that_are_missing_are_objects_of_their_own():
    nan = np.array([np.nan, np.nan, 1.0, 1.0])
    assert len(set(same_objects(nan, nan, catalogue.Path("t")).tolist())) == 3


cases = st.integers(2, 30).flatmap(
    lambda number: st.tuples(
        st.lists(st.integers(0, 12), min_size=number, max_size=number),
        st.lists(st.sampled_from("ab"), min_size=number, max_size=number),
    )
)


@given(cases, st.floats(0.05, 0.95), st.integers(0, 5), st.randoms())
@settings(max_examples=60, deadline=None)
def test_no_object_is_trained_and_tested_on_and_the_order_of_rows_does_not_matter(
    case, fraction, seed, random
):
    objects, labels = np.array(case[0]), case[1]
    places = [f"{index:03d}.png" for index in range(len(labels))]
    classes = [Counter(labels[i] for i in np.flatnonzero(objects == one)).most_common()
               for one in np.unique(objects)]  # fmt: skip
    own = [min(label for label, n in found if n == found[0][1]) for found in classes]
    if min(Counter(own)[label] for label in {*labels}) < 2:
        with pytest.raises(ValueError, match="which cannot be trained and tested on"):
            drawn(labels, objects, places, fraction, seed)
        return
    test = drawn(labels, objects, places, fraction, seed)
    assert not {*objects[test]} & {*objects[~test]}
    for label in {*labels}:
        total = own.count(label)
        taken = sum(one == label and bool(test[objects == name].all())
                    for one, name in zip(own, np.unique(objects)))  # fmt: skip
        assert taken == min(max(1, round(fraction * total)), total - 1)
    order = list(range(len(labels)))
    random.shuffle(order)
    again = drawn([labels[i] for i in order], objects[order], [places[i] for i in order],
                  fraction, seed)  # fmt: skip
    assert np.array_equal(again, test[order])


def with_positions(number=12, pairs=3):
    """Positions far apart, but for the first so many pairs of neighbouring rows."""
    ra = np.arange(number) * 1.0
    ra[1 : 2 * pairs : 2] = ra[0 : 2 * pairs : 2] + 0.3 / 3600
    return rows(number).assign(label=["ab"[i // 6] for i in range(number)], RA=ra, DEC=0.0)


def test_a_test_part_is_drawn_by_objects_and_the_record_says_so(root, tmp_path):
    path = written(with_positions(), tmp_path / "t.csv")
    for seed in range(4):
        how = {"test_fraction": 0.34, "split_seed": seed}
        parts = {split: load(root, path, split, **how) for split in ("train", "test")}
        greys = {split: {*label_of(images)} for split, images in parts.items()}
        assert not greys["train"] & greys["test"] and len(greys["train"] | greys["test"]) == 12
        for pair in ({0, 20}, {40, 60}, {80, 100}):
            assert pair <= greys["train"] or pair <= greys["test"]
        assert parts["train"].counts().min() > 0 and parts["test"].counts().min() > 0
    said = parts["train"].about.remarks
    assert "t.csv: 12 images show 9 objects, by positions within 1 arcsec" in said
    assert "has no images for the split test; give --test-fraction" in error_of(
        lambda: load(root, path, "test"), FileNotFoundError
    )


@pytest.mark.parametrize("validation", [0.2, 0.5])
def test_validation_images_are_held_out_by_objects(root, tmp_path, validation):
    path = written(with_positions(), tmp_path / "t.csv")
    parts = [load(root, path, one, validation=validation) for one in ("train", "validation")]
    assert not {*parts[0].objects.tolist()} & {*parts[1].objects.tolist()}
    assert len(parts[0]) + len(parts[1]) == 12 and len(parts[1]) > 0
    number = data.train_size("folder", data_dir=root, labels=str(path), validation=validation)
    assert number == len(parts[0])


@given(st.lists(st.integers(0, 8), min_size=4, max_size=30), st.floats(0.1, 0.9))
def test_held_out_objects_are_whole(objects, fraction):
    objects = np.array(objects)
    labels = objects % 2  # each object of one class
    if min(len({*objects[labels == one].tolist()}) for one in {*labels.tolist()}) < 2:
        return
    chosen = held_out(labels, fraction, 0, objects)
    left = np.setdiff1d(np.arange(len(labels)), chosen)
    assert not {*objects[chosen]} & {*objects[left]} and len(chosen) and len(left)


def test_a_column_of_splits_is_obeyed_and_objects_in_both_parts_are_named(root, tmp_path):
    split = ["train", "test"] + ["Training", "TEST", "val"] * 2 + ["train"] * 4
    path = written(with_positions().assign(split=split), tmp_path / "t.csv")
    train, test = load(root, path), load(root, path, "test")
    assert {*label_of(train)} == {0, 40, 100, 160, 180, 200, 220}
    assert {*label_of(test)} == {20, 60, 120}
    remarks = train.about.remarks
    assert "t.csv: 2 rows for validation are not used, as the table has test images" in remarks
    assert "images: 2 test images show objects of training images, by positions within 1 arcsec " \
           "(101.png, 103.png)" in remarks  # fmt: skip
    assert "has its own test images; leave out --test-fraction" in error_of(
        lambda: load(root, path, test_fraction=0.2)
    )
    val = ["val" if one.lower() == "test" else one for one in split]
    path = written(with_positions().assign(split=val), tmp_path / "v.csv")
    assert {*label_of(load(root, path, "test"))} == {20, 60, 80, 120, 140}


def test_folders_of_splits_are_obeyed_where_labelled_images_lie_in_both(root, tmp_path):
    for index in range(12):
        place = root / ("test" if index % 4 == 3 else "train")
        place.mkdir(exist_ok=True)
        (root / f"{100 + index}.png").rename(place / f"{100 + index}.png")
    path = written(rows(), tmp_path / "t.csv")
    assert {*label_of(load(root, path, "test"))} == {60, 140, 220}
    train = written(rows().iloc[[0, 1, 2, 4, 5, 6]], tmp_path / "train.csv")
    assert {*label_of(load(root, train))} == {0, 20, 40, 80, 100, 120}
    assert "images have no row" in load(root, train).about.remarks[-1]


def test_images_with_the_same_bytes_in_both_parts_are_named(root, tmp_path):
    for index in range(6):  # each of class a is one of class b, too
        shutil.copy(root / f"{100 + index}.png", root / f"{106 + index}.png")
    frame = rows().assign(label=["ab"[i // 6] for i in range(12)])
    path = written(frame, tmp_path / "t.csv")
    images = load(root, path, test_fraction=0.5, split_seed=1)
    test = {f"{100 + i}.png" for i in range(12)} - {
        catalogue.Path(source).name for source in images.pixels.sources
    }
    number = sum((f"{100 + (i + 6) % 12}.png" not in test) for i in range(12)
                 if f"{100 + i}.png" in test)  # fmt: skip
    said = [one for one in images.about.remarks if "byte for byte" in one]
    assert number and said[0].startswith(f"images: {number} of 6 test images are byte for byte")


# The fingerprint and the run


def test_the_rows_are_part_of_the_fingerprint_and_the_tables_format_is_not(root, tmp_path):
    frame = with_positions()

    def sha256(some, name="t.csv"):
        return data.about("folder", root, labels=str(written(some, tmp_path / name))).sha256

    before = sha256(frame)
    assert sha256(frame.sample(frac=1, random_state=0), "u.csv") == before  # the order of rows
    assert sha256(frame, "t.parquet") == sha256(frame.assign(z=0.1), "t.fits") == before
    other = frame.copy()
    other.loc[0, "label"] = "b"
    moved = frame.copy()
    moved.loc[0, "RA"] = 300.0  # an object of its own now
    found = {sha256(one, "x.csv") for one in (other, moved, frame.iloc[1:])}
    assert len(found | {before}) == 4
    split = frame.assign(split=["train", "test", "test"] * 4)
    assert sha256(split, "s.csv") not in found | {before}


def test_a_run_is_named_by_what_the_table_says_and_not_by_its_place(root, tmp_path):
    path = written(rows(), tmp_path / "t.csv")
    (tmp_path / "other").mkdir()
    copy = shutil.copy(path, tmp_path / "other" / "u.csv")

    def run(table, **more):
        recipe = get_recipe("smoke", epochs=1, batch_size=4)
        return Run(model="astroformer_pico", dataset="folder", data_dir=str(root), image_size=32,
                   recipe=recipe, labels=str(table), test_fraction=0.25, **more).resolved(
                       data.augment.torch.device("cpu"))  # fmt: skip

    one = run(path)
    assert one.hash == run(copy).hash == run(path, label_column="label", id_column="objid").hash
    assert not {"labels", "label_column"} & set(one.identity())
    words = one.command(located=True)
    assert f"--labels {path}" in words and "--labels t.csv" in one.command()
    assert "--threshold" not in words and one.labelled() == {"labels": "t.csv"}
    changed = rows().assign(label=[KINDS[(i + 1) % 3] for i in range(12)])
    assert run(written(changed, tmp_path / "w.csv")).hash != one.hash


def test_values_are_labelled_by_a_table_and_trained_on(tmp_path, own_runs, capsys):
    root = tmp_path / "cut-outs"
    root.mkdir()
    for index in range(12):
        for band in "grz":
            light = np.random.default_rng([index, ord(band)]).normal(size=(32, 32))
            fits.writeto(root / f"{index}_{band}.fits", light.astype(np.float32))
    frame = pd.DataFrame({"id": range(12), "ra": np.arange(12.0), "dec": 0.0})
    frame["smooth"], frame["disk"] = [0.9, 0.1] * 6, [0.1, 0.9] * 6
    table = written(frame, root / "labels.fits")  # beside the images, and no image
    words = ["train", "--dataset", "folder", "--data-dir", str(root), "--recipe", "smoke",
             "--set", "epochs=1", "--set", "batch_size=4", "--labels", "labels.fits",
             "--votes", "smooth,disk", "--threshold", "0.8", "--test-fraction", "0.3",
             "--bands", "g,r,z", "--stretch", "lupton:1,8"]  # fmt: skip
    assert main(words) == 0
    record = json.loads(next((own_runs / "ledger").glob("*.jsonl")).read_text())
    told = record["dataset"]
    assert (told["labels"], told["votes"], told["threshold"]) == (table.name, "smooth,disk", 0.8)
    assert (told["train"], told["test"]) == (8, 4) and told["test_fraction"] == 0.3
    assert "labels.fits: votes smooth, disk, images by id" in told["remarks"]
    for part in ("--labels labels.fits", "--votes smooth,disk", "--threshold 0.8", "--bands g,r,z"):
        assert part in record["command"]
    assert main(words) == 0 and "is in the ledger" in capsys.readouterr().out
    assert main(["data", "stats", *words[1:5], *words[11:]]) == 0
    assert "4" in capsys.readouterr().out


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_text_is_read_whatever_wrote_it(root, tmp_path, separator, encoding):
    lines = [f"name{separator}key{separator}label"]
    lines += [f"{100 + i}{separator}à{separator} {'ab'[i % 2]} " for i in range(12)]
    (tmp_path / "t.csv").write_bytes("\r\n".join(lines).encode(encoding))
    images = load(root, tmp_path / "t.csv")
    assert images.classes == ("a", "b") and len(images) == 12
