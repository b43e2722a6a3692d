"""Predictions of a folder: the same bits for any batch, number of processes and order, and after an
interrupt; calibration, views and ensembles; files that cannot be read; the command.
"""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from galaxy_folder import write_galaxies
from PIL import Image

from astroformer import cli
from astroformer.inference import predict, rows, temperature, unlike, write
from astroformer.inference.forward import PIECE
from astroformer.inference.predicting import Prediction

QUIET = dict(device="cpu", unlike=False)


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory):
    """72 images in folders within folders, one of them broken."""
    root = tmp_path_factory.mktemp("new") / "cutouts"
    write_galaxies(root, train=20, test=4)
    (root / "test/round/000.png").write_text("no image")
    return root


def read(path):
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def same(one, other):
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    return True


def test_every_image_is_a_row_whose_label_is_its_likeliest_class(runs, galaxies):
    table = predict(runs.weights[0], galaxies, top_k=2, every=True, **QUIET)
    assert len(table) == 72 and table["file"].is_monotonic_increasing
    good = table[table["error"].isna()]
    assert len(good) == 71 and set(good["runs"]) == {runs.names[0]}
    each = good[["p_cigar", "p_round", "p_spiral"]].to_numpy()
    assert np.allclose(each.sum(1), 1)
    names = np.array(["cigar", "round", "spiral"])
    assert (names[each.argmax(1)] == good["label"]).all()
    assert (np.sort(each, 1)[:, -1] == good["probability"]).all()
    assert (np.sort(each, 1)[:, -2] == good["probability_2"]).all()
    [bad] = table[table["error"].notna()].to_dict("records")
    assert bad["file"] == "test/round/000.png" and "cannot identify image file" in bad["error"]
    assert all(pd.isna(bad[name]) for name in ("label", "probability", "label_2", "p_round"))


def test_batches_processes_and_order_change_no_bit(runs, galaxies, tmp_path):
    whole = predict(runs.weights[0], galaxies, **QUIET)
    for how in (dict(batch_size=1), dict(batch_size=50), dict(batch_size=500, workers=2)):
        assert same(predict(runs.weights[0], galaxies, **how, **QUIET), whole)
    order = np.random.default_rng(0).permutation(len(whole))[:41]
    listed = tmp_path / "some.txt"
    listed.write_text("".join(f"{galaxies}/{whole['file'][i]}\n" for i in order))
    some = predict(runs.weights[0], listed, **QUIET)
    expected = whole.iloc[order].reset_index(drop=True).drop(columns="file")
    assert same(some.drop(columns="file"), expected)
    one = predict(runs.weights[0], galaxies / whole["file"][5], **QUIET)
    assert one["probability"][0] == whole["probability"][5]


def test_turned_images_have_the_predictions_of_the_images_with_turns(runs, galaxies, tmp_path):
    for path in sorted(galaxies.rglob("*.png"))[24:40]:
        for quarter in range(4):
            place = tmp_path / str(quarter) / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.rot90(np.asarray(Image.open(path)), quarter)
            Image.fromarray(pixels[:, ::-1] if quarter == 3 else pixels).save(place)
    found = [predict(runs.weights[0], tmp_path / str(q), turns=8, **QUIET) for q in range(4)]
    assert all(same(one, found[0]) for one in found[1:])
    four = [predict(runs.weights[0], tmp_path / str(q), turns=4, **QUIET) for q in range(3)]
    assert all(same(one, four[0]) for one in four[1:])
    plain = predict(runs.weights[0], tmp_path / "0", **QUIET)
    assert not four[0]["probability"].equals(plain["probability"])
    assert not four[0]["probability"].equals(found[0]["probability"])


def test_an_ensemble_is_the_mean_of_its_members_in_any_order(runs, galaxies):
    how = QUIET | dict(every=True)
    names = ["p_cigar", "p_round", "p_spiral"]
    one, other = (predict(name, galaxies, **how) for name in runs.names)
    both, back = (predict(order, galaxies, **how) for order in (runs.names, runs.names[::-1]))
    assert np.allclose(both[names], (one[names] + other[names]) / 2, equal_nan=True)
    assert same(both.drop(columns="runs"), back.drop(columns="runs"))
    assert set(both["runs"]) == {" ".join(runs.names)}
    assert same(predict([runs.names[0]], galaxies, **how), one)


def test_calibration_changes_probabilities_and_no_label(runs, galaxies):
    said = []
    raw = predict(runs.names[0], galaxies, calibrate=False, **QUIET)
    fitted = predict(runs.names[0], galaxies, calibrate=True, report=said.append, **QUIET)
    assert "fitted on 15 validation images of tiny" in said[0]
    assert raw["label"].equals(fitted["label"])
    assert not raw["probability"].equals(fitted["probability"])
    path = Path(runs.weights[0]).with_name(temperature.FILE)
    [told] = json.loads(path.read_text())
    assert told["nll_after"] <= told["nll_before"] and told["images"] == 15
    assert same(predict(runs.names[0], galaxies, report=said.append, **QUIET), fitted)
    assert "probabilities are calibrated" in said[1]
    version = path.stat().st_mtime_ns  # kept, and not fitted again
    assert same(predict(runs.names[0], galaxies, calibrate=True, **QUIET), fitted)
    assert path.stat().st_mtime_ns == version
    assert same(predict(runs.names[0], galaxies, calibrate=False, **QUIET), raw)


def test_a_temperature_is_of_its_views_and_its_networks_alone(runs, galaxies):
    said = []
    predict(runs.names[0], galaxies, calibrate=True, **QUIET)
    for models, how in ((runs.names[0], dict(turns=4)), (runs.names, {})):
        predict(models, galaxies, report=said.append, **how, **QUIET)
        assert "not calibrated: no temperature is kept" in said.pop()
        predict(models, galaxies, calibrate=True, **how, **QUIET)
        predict(models, galaxies, report=said.append, **how, **QUIET)
        assert "are calibrated" in said.pop()


def test_without_held_out_images_calibration_takes_test_images_and_says_so(runs, galaxies):
    state = torch.load(runs.weights[0], weights_only=True)
    state["images"]["validation"] = 0.0
    torch.save(state, runs.weights[0])
    said = []
    predict(runs.names[0], galaxies, calibrate=True, report=said.append, **QUIET)
    assert "calibrating on the run's test images" in said[0] and "24 test images" in said[1]
    with pytest.raises(ValueError, match="no validation images are new to both|same held out"):
        predict(runs.names, galaxies, calibrate=True, **QUIET)
    state["images"]["data_dir"] = "nowhere"
    torch.save(state, runs.weights[1])
    with pytest.raises(ValueError, match="--calibrate: .*not at hand.*--no-calibrate"):
        predict(runs.weights[1], galaxies, calibrate=True, **QUIET)


def test_noise_is_more_unlike_than_galaxies_and_the_statistics_are_kept(
    runs, tiny_folder, tmp_path
):
    said = []
    table = predict(runs.names[0], tiny_folder / "test", device="cpu", report=said.append)
    assert "33 training images" in said[1] and "15 validation images" in said[1]
    assert table["unlike"].between(0, 1).all() and (table["unlike_distance"] > 0).all()
    order = table.sort_values("unlike_distance")["unlike"]
    assert order.is_monotonic_increasing
    path = Path(runs.weights[0]).with_name(unlike.FILE)
    version = path.stat().st_mtime_ns
    (tmp_path / "noise").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"noise/{i}.png")
    noise = predict(runs.names[0], tmp_path / "noise", device="cpu")
    assert path.stat().st_mtime_ns == version
    assert noise["unlike_distance"].min() > table["unlike_distance"].median()
    four = predict(runs.names[0], tmp_path / "noise", turns=4, device="cpu")
    assert not four["unlike_distance"].equals(noise["unlike_distance"])
    both = predict(runs.names, tmp_path / "noise", device="cpu")
    other = predict(runs.names[1], tmp_path / "noise", device="cpu")
    assert np.allclose(both["unlike"], (noise["unlike"] + other["unlike"]) / 2)


def test_without_its_training_images_a_run_does_not_know_what_is_unlike(runs, galaxies):
    state = torch.load(runs.weights[0], weights_only=True)
    state["images"]["data_dir"] = "nowhere"
    torch.save(state, runs.weights[0])
    said = []
    table = predict(runs.names[0], galaxies, device="cpu", report=said.append)
    assert table["unlike"].isna().all() and table["label"].notna().sum() == 71
    assert "unlike: not known of run" in said[-1] and "--data-dir" in said[-1]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_holds_the_table_and_says_of_what_it_was_made(runs, galaxies, tmp_path, suffix):
    out = tmp_path / "results" / f"p{suffix}"
    outcome = write(runs.names[0], galaxies, out, **QUIET)
    table = predict(runs.names[0], galaxies, **QUIET)
    found = read(out).astype(table.dtypes)
    assert same(found, table)
    assert outcome.made and outcome.images == 72 and outcome.failed == 1
    assert outcome.labels == table["label"].value_counts().to_dict()
    assert sum(outcome.reasons.values()) == 1 and outcome.images_per_second > 0
    assert {one.name for one in out.parent.iterdir()} == {out.name, f"{out.name}.json"}
    told = json.loads(rows.told_of(out).read_text())
    assert told["asked"]["networks"][0][0] == runs.names[0] and told["outcome"]["failed"] == 1


def test_a_finished_file_is_left_unless_something_changed(runs, galaxies, tmp_path):
    images, out, said = tmp_path / "images", tmp_path / "p.csv", []
    shutil.copytree(galaxies / "test", images)

    def made(models=runs.names[0], **how):
        said.clear()
        return write(models, images, out, report=said.append, **how, **QUIET)

    assert made().made and not made().made
    assert "already; --force makes it again" in said[-1]
    assert made(batch_size=3, workers=0).made is False and made(force=True).made
    shutil.copy(images / "round/001.png", images / "round/new.png")
    again = made()
    assert again.made and again.images == 13 and "since other: images" in said[-1]
    assert made(runs.names[1]).made and "since other: networks" in said[-1]
    assert made(runs.names[1], turns=4).made and "since other: turns" in said[-1]
    assert made(runs.names[1], turns=4, top_k=2).made and "since other: columns" in said[-1]
    out.write_text("the user's own")
    with pytest.raises(ValueError, match="was not made by this command"):
        made()
    assert out.read_text() == "the user's own" and made(force=True).made


class Cut(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("batch", [32, 64])
def test_after_an_error_between_two_batches_the_same_call_goes_on(
    runs, galaxies, tmp_path, monkeypatch, after, batch
):
    out, said, seen = tmp_path / "p.csv", [], []
    real = Prediction._answers

    def cut(self, start, of_cut):
        if len(seen) == after:
            raise Cut
        seen.append(start)
        return real(self, start, of_cut)

    monkeypatch.setattr(Prediction, "_answers", cut)
    if after * batch < 72:
        with pytest.raises(Cut):
            write(runs.names[0], galaxies, out, batch_size=batch, **QUIET)
        assert not out.exists() and out.with_name("p.csv.part").exists()
    monkeypatch.setattr(Prediction, "_answers", real)
    outcome = write(runs.names[0], galaxies, out, report=said.append, **QUIET)
    assert outcome.went_on == (min(72, after * batch) if after * batch < 72 else 0)
    whole = tmp_path / "whole.csv"
    write(runs.names[0], galaxies, whole, **QUIET)
    assert out.read_bytes() == whole.read_bytes()


def test_where_no_image_can_be_read_nothing_is_written(runs, tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).write_text("no image")
    for call in (
        lambda: predict(runs.names[0], tmp_path / "images", **QUIET),
        lambda: write(runs.names[0], tmp_path / "images", tmp_path / "out/p.csv", **QUIET),
    ):
        with pytest.raises(ValueError, match="none of the 2 images .* the first: cannot read"):
            call()
    assert not [*(tmp_path / "out").iterdir()]


def test_a_network_whose_weights_are_no_numbers_is_told(runs, galaxies):
    state = torch.load(runs.weights[0], weights_only=True)
    state["weights"] = {name: 0 * one + torch.nan for name, one in state["weights"].items()}
    torch.save(state, runs.weights[0])
    with pytest.raises(ValueError, match="none of the 72 images"):
        predict(runs.names[0], galaxies, **QUIET)
    with pytest.raises(ValueError, match="--calibrate: what the network says is not a number"):
        predict(runs.names[0], galaxies, calibrate=True, **QUIET)


@pytest.mark.parametrize(
    "how, said",
    [
        (dict(batch_size=0), "at least 1 image"),
        (dict(workers=-1), "0 or more"),
        (dict(top_k=0), "at least 1 class"),
        (dict(turns=2), "choose 1, 4, 8"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(runs, galaxies, how, said):
    with pytest.raises(ValueError, match=said) as error:
        predict(runs.names[0], galaxies, **how, **QUIET)
    assert "\n" not in str(error.value)
    assert len(predict(runs.names[0], galaxies, top_k=99, **QUIET).columns) == 11


def call(capsys, *words):
    status = cli.main([*map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_says_what_came_out(runs, galaxies, tmp_path, capsys):
    out = tmp_path / "p.csv"
    words = ["predict", *runs.names, galaxies, "--out", out, "--calibrate", "--device", "cpu"]
    status, text, err = call(capsys, *words, "--turns", "--top-k", "2")
    assert status == 0 and f"{out}: 72 images" in text and "images/s" in text
    assert "not read: 1 images" in text and "unlike: " in text
    assert "calibrated: temperature" in err and "it/s" not in err
    assert [*read(out)][:5] == ["file", "label", "probability", "label_2", "probability_2"]
    status, text, err = call(capsys, *words, "--turns", "--top-k", "2", "--json")
    assert status == 0 and json.loads(text)["made"] is False and "already" in err


@pytest.mark.parametrize(
    "words, said",
    [
        (["predict", "no.pt", "nowhere", "--out", "p.csv"], "no.pt"),
        (["predict", "RUN", "nowhere", "--out", "p.csv"], "there is no nowhere"),
        (["predict", "RUN", "IMAGES", "--out", "p.fits"], ".csv or .parquet"),
        (["predict", "RUN", "IMAGES", "--out", "p.csv", "--batch-size", "0"], "--batch-size"),
    ],
)
def test_the_command_refuses_in_one_line(
    runs, galaxies, capsys, monkeypatch, tmp_path, words, said
):
    monkeypatch.chdir(tmp_path)
    known = {"RUN": runs.names[0], "IMAGES": galaxies}
    status, text, err = call(capsys, *(known.get(word, word) for word in words))
    assert status == 2 and said in err.splitlines()[-1] and not text
    assert err.count("astroformer: ") == 1 and not [*tmp_path.glob("p.*")]


def slowly(words, pipe, said):
    """In a process of its own: tells of each batch, and waits a little before it."""
    real = Prediction._answers

    def answers(self, start, of_cut):
        pipe.send(start)
        time.sleep(0.5)
        return real(self, start, of_cut)

    Prediction._answers = answers
    with open(said, "w") as file, redirect_stderr(file):
        status = cli.main(words)
    sys.exit(status)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_stopped_loses_no_batch(runs, galaxies, tmp_path, number):
    out, whole, said = (tmp_path / name for name in ("p.csv", "whole.csv", "said.txt"))
    words = ["predict", runs.names[0], str(galaxies), "--device", "cpu", "--no-unlike"]
    words += ["--batch-size", str(PIECE), "--out"]
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=slowly, args=([*words, str(out)], theirs, said))
    process.start()
    assert [ours.recv() for _ in range(2) if ours.poll(60)] == [0, PIECE]
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == (-number if number == signal.SIGKILL else 130)
    if number != signal.SIGKILL:
        assert "the same command goes on from there" in said.read_text()
    assert not out.exists()
    assert cli.main([*words, str(out)]) == 0 and cli.main([*words, str(whole)]) == 0
    assert out.read_bytes() == whole.read_bytes()
    told = json.loads(rows.told_of(out).read_text())["outcome"]
    assert told["went_on"] in (PIECE, 2 * PIECE)
