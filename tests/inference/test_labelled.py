"""`evaluate MODEL IMAGES`: a folder of test images alone, with all classes of a checkpoint or some;
and images of five bands, from training to predictions.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_run import CPU

from astroformer import cli
from astroformer.inference import members, predict
from astroformer.inference.labelled import images_of_folder
from astroformer.recipes import get_recipe
from astroformer.training import Run, fit, load_trained


def evaluated(capsys, *words):
    status = cli.main(["evaluate", *map(str, words), "--device", "cpu", "--json"])
    said = capsys.readouterr()
    return (status or json.loads(said.out)[0]), said.err


def record_of(runs):
    lines = [
        json.loads(line)
        for path in sorted((runs.folder / "ledger").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return next(line for line in lines if line["run"] == runs.names[0])


def test_a_test_folder_alone_has_the_metrics_of_the_whole_data_set(
    runs, tiny_folder, tmp_path, capsys
):
    shutil.copytree(tiny_folder / "test", tmp_path / "alone")
    shutil.copytree(tiny_folder / "test", tmp_path / "below/Test")
    (tmp_path / "alone/round").rename(tmp_path / "alone/Round")
    whole, _ = evaluated(capsys, runs.weights[0], "--dataset", "folder", "--data-dir", tiny_folder)
    names = ("top1", "balanced_accuracy", "nll", "ece", "images", "split")
    for place in ("alone", "below"):
        found, err = evaluated(capsys, runs.names[0], tmp_path / place)
        assert {name: found[name] for name in names} == {name: whole[name] for name in names}
        assert found["dataset"] == place and not err
    assert whole["images"] == 24


@pytest.fixture
def flat(tiny_folder, tmp_path):
    """The test images in one folder, and (file, class) of each."""
    (tmp_path / "flat").mkdir()
    rows = []
    for number, path in enumerate(sorted((tiny_folder / "test").glob("*/*"))):
        shutil.copy(path, tmp_path / "flat" / f"J{number:03d}{path.suffix}")
        rows.append((f"J{number:03d}", path.parent.name))
    return tmp_path / "flat", rows


def write_table(path, header, rows):
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def test_a_table_of_labels_does_in_place_of_folders(runs, tiny_folder, flat, tmp_path, capsys):
    whole, _ = evaluated(capsys, runs.weights[0], "--dataset", "folder", "--data-dir", tiny_folder)
    folder, rows = flat
    names = ("top1", "balanced_accuracy", "nll", "ece", "images")
    table = write_table(tmp_path / "all.csv", "id,label", rows)
    found, _ = evaluated(capsys, runs.names[0], folder, "--labels", table)
    assert {name: found[name] for name in names} == {name: whole[name] for name in names}
    # of a table with splits, those to test on
    split = [(*row, "test" if number < 10 else "train") for number, row in enumerate(rows)]
    table = write_table(tmp_path / "split.csv", "id,label,split", split)
    found, err = evaluated(capsys, runs.names[0], folder, "--labels", table)
    assert found["images"] == 10 and "of the 3 classes" in err


def test_labels_that_are_no_classes_are_refused_with_their_names(runs, flat, tmp_path, capsys):
    folder, rows = flat
    table = write_table(tmp_path / "a.csv", "id,kind", [*rows[:-1], (rows[-1][0], "quasar")])
    words = (runs.names[0], folder, "--labels", table, "--label-column", "kind")
    status, err = evaluated(capsys, *words)
    assert status == 2 and "has labels that are none: quasar" in err.strip().splitlines()[-1]
    split = [(*row, "train") for row in rows]
    table = write_table(tmp_path / "b.csv", "id,label,split", split)
    status, err = evaluated(capsys, runs.names[0], folder, "--labels", table)
    assert status == 2 and "no image to test on" in err.strip().splitlines()[-1]


def test_some_of_the_classes_do_and_are_named(runs, tiny_folder, tmp_path, capsys):
    for name in ("round", "spiral"):
        shutil.copytree(tiny_folder / "test" / name, tmp_path / "two" / name)
    shutil.copytree(tiny_folder / "test/spiral", tmp_path / "one/spiral")
    found, err = evaluated(capsys, runs.weights[0], tmp_path / "two")
    assert found["images"] == 16 and "2 of the 3 classes (round, spiral); metrics are over" in err
    one, err = evaluated(capsys, runs.weights[0], tmp_path / "one")
    assert one["images"] == 8 and "1 of the 3 classes (spiral)" in err
    assert one["top1"] == one["balanced_accuracy"]
    _, told = load_trained(runs.weights[0])
    images = images_of_folder(tmp_path / "two", told, report=lambda line: None)
    table = predict(runs.weights[0], tmp_path / "two", device="cpu", unlike=False, calibrate=False)
    right = [Path(name).parent.name for name in table["file"]] == table["label"]
    assert found["top1"] == pytest.approx(100 * right.mean())
    assert [images.classes[label] for label in images.labels] == ["round"] * 8 + ["spiral"] * 8


def test_folders_that_are_no_classes_are_refused_with_their_names(
    runs, tiny_folder, tmp_path, capsys
):
    shutil.copytree(tiny_folder / "test", tmp_path / "more")
    (tmp_path / "more/lens").mkdir()
    (tmp_path / "none").mkdir()
    for words, said in (
        ([tmp_path / "more"], "folders that are none: lens; name each folder"),
        ([tmp_path / "none"], "cigar, round, spiral, and .*none has no folders"),
        ([tmp_path / "nowhere"], "there is no folder"),
        ([tmp_path / "more", "--data-dir", tmp_path], "leave one of them out"),
    ):
        status, err = evaluated(capsys, runs.weights[0], *words)
        assert status == 2 and len(err.splitlines()) == 1
        assert said.partition(".*")[2] in err and said.partition(".*")[0] in err


# Bands

BANDS = 5


def write_bands(root, number, seed):
    """Images of five bands in float32, (5, 32, 32), bright in one corner or in the other."""
    generator = np.random.default_rng(seed)
    for label, corner in (("left", 0), ("right", 16)):
        (root / label).mkdir(parents=True)
        for i in range(number):
            values = generator.exponential(1e-3, (BANDS, 32, 32)).astype(np.float32)
            values[:, 8:24, corner : corner + 16] += 0.02
            np.save(root / label / f"{i:02d}.npy", values)


def test_images_of_five_bands_are_read_as_the_run_read_its_own(tmp_path, own_runs, capsys):
    write_bands(tmp_path / "bands/train", 16, 0)
    write_bands(tmp_path / "bands/test", 6, 1)
    write_bands(tmp_path / "new/test", 9, 2)
    run = Run(
        model="astroformer_pico",
        dataset="folder",
        data_dir=str(tmp_path / "bands"),
        stretch="asinh",
        recipe=get_recipe("smoke", epochs=2, batch_size=8, hflip=0, rotate90=False),
    )
    fitted = fit(run, device=CPU, report=lambda line: None)
    one = members.member(fitted.weights)
    assert one.channels == BANDS and one.cut.reading.stretch.name == "asinh"
    shutil.rmtree(tmp_path / "bands/train")  # its limits are in the checkpoint
    measured, _ = evaluated(capsys, fitted.weights, tmp_path / "bands")
    record = fitted.record["metrics"]
    assert measured["nll"] == pytest.approx(record["nll"], rel=1e-4) and measured["images"] == 12
    table = predict(fitted.weights, tmp_path / "new", device="cpu")
    assert len(table) == 18 and table["error"].isna().all() and table["unlike"].isna().all()
    right = [Path(name).parent.name for name in table["file"]] == table["label"]
    assert 100 * right.mean() == evaluated(capsys, fitted.weights, tmp_path / "new")[0]["top1"]
    np.save(tmp_path / "new/test/left/00.npy", np.full((BANDS, 32, 32), np.nan, dtype=np.float32))
    np.save(tmp_path / "new/test/left/01.npy", np.ones((3, 32, 32), dtype=np.float32))
    again = predict(fitted.weights, tmp_path / "new", device="cpu").set_index("file")
    assert "no pixel that is a number" in again["error"]["test/left/00.npy"]
    assert "bands" in again["error"]["test/left/01.npy"] and again["error"].notna().sum() == 2
    write_bands(tmp_path / "other", 4, 3)
    for path in (tmp_path / "other").rglob("*.npy"):
        np.save(path, 1e4 * np.load(path))
    for call in (
        lambda: predict(fitted.weights, tmp_path / "other", device="cpu"),
        lambda: images_of_folder(tmp_path / "other", load_trained(fitted.weights)[1], print),
    ):
        with pytest.raises(ValueError, match="not in the units of the training images"):
            call()
