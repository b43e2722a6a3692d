"""Predictions of a run: what is kept is enough for the metrics, the confusions and the
calibration, and travels with its record.
"""

import json

import numpy as np
import pytest
import torch

from astroformer import data, paths
from astroformer.ledger import predictions, records
from astroformer.training.evaluate import ECE_BINS, keep_predictions, metrics

CLASSES = ("disc", "bar", "ring")


def some(number=400, classes=3, seed=0):
    """Logits (N, K) that are right more often than not, and labels of unequal frequency."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(
        classes, number, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    )
    return 2 * np.eye(classes)[labels] + generator.normal(0, 1.5, (number, classes)), labels


def made(classes=CLASSES, **options):
    logits, labels = some(classes=len(classes), **options)
    return predictions.of_logits("abc", logits, labels, classes, evaluated_on="test")


@pytest.fixture
def own_ledger(own_runs, monkeypatch):
    """Committed and local records and predictions of one test."""
    monkeypatch.setattr(paths, "LEDGER", own_runs / "committed")
    (own_runs / "committed").mkdir()
    return own_runs


@pytest.mark.parametrize("classes", [3, 10, 40])
def test_metrics_from_predictions_alone_are_those_of_the_evaluation(classes):
    logits, labels = some(classes=classes)
    whole = metrics(torch.from_numpy(logits), labels)
    kept = predictions.metrics(
        predictions.of_logits("abc", logits, labels, range(classes), evaluated_on="test")
    )
    assert kept == pytest.approx({name: whole[name] for name in kept}, abs=1e-4)
    assert set(kept) == {"top1", "balanced_accuracy", "ece"} and predictions.BINS == ECE_BINS


def test_what_is_written_is_read_again(own_ledger):
    logits, labels = some()
    path = predictions.write(
        "abc", torch.from_numpy(logits).float(), labels, CLASSES, evaluated_on="validation"
    )
    assert path == paths.local_ledger() / "predictions" / "abc.npz" and [path] == list(
        path.parent.iterdir()
    )
    found = predictions.read("abc")
    assert found.run == "abc" and found.classes == CLASSES and found.evaluated_on == "validation"
    assert (
        found.top.shape == found.probabilities.shape == (400, 3)
        and found.probabilities.dtype == np.float32
    )
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.predicted, logits.argmax(1))
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-6)
    assert (np.diff(found.probabilities) <= 0).all(), "the likeliest class comes first"


@pytest.mark.parametrize("classes, kept", [(2, 2), (10, 10), (11, 5)])
def test_few_classes_are_all_kept_and_many_only_the_likeliest(classes, kept):
    logits, labels = some(number=20, classes=classes)
    assert predictions.of_logits(
        "abc", logits, labels, range(classes), evaluated_on="test"
    ).top.shape == (20, kept)


def test_committed_predictions_come_before_local_ones(own_ledger):
    assert predictions.read("abc") is None and not predictions.present("abc")
    predictions.save(made(number=7), predictions.local("abc"))
    assert len(predictions.read("abc")) == 7 and predictions.present("abc")
    predictions.save(made(number=9), predictions.committed("abc"))
    assert len(predictions.read("abc")) == 9


def test_logits_of_another_shape_and_damaged_files_are_refused(own_ledger):
    logits, labels = some()
    with pytest.raises(ValueError, match=r"shape \(400, 3\) do not fit 400 labels of 2 classes"):
        predictions.write("abc", logits, labels, CLASSES[:2], evaluated_on="test")
    path = predictions.write("abc", logits, labels, CLASSES, evaluated_on="test")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="abc.npz is no file of predictions .* --keep"):
        predictions.read("abc")


def test_a_confusion_matrix_has_true_classes_in_rows():
    logits = np.array([[3.0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3], [0, 3, 0]])
    found = predictions.of_logits("abc", logits, [0, 1, 1, 1, 1], CLASSES, evaluated_on="test")
    matrix = predictions.confusion(found)
    assert matrix.tolist() == [[1, 0, 0], [1, 2, 1], [0, 0, 0]]
    table = predictions.per_class(found)
    assert table["images"].tolist() == [1, 4, 0] and table["recall (%)"].tolist()[:2] == [100, 50]
    assert np.isnan(table["recall (%)"][2]), "a class without images has no recall"
    pairs = predictions.confused(matrix, CLASSES)
    assert pairs[["true", "predicted", "images"]].values.tolist() == [
        ["bar", "disc", 1],
        ["bar", "ring", 1],
    ]


def test_bins_of_confidence_hold_every_image_once():
    found = made()
    bins = predictions.reliability(found)
    assert bins["images"].sum() == len(found)
    assert ((bins["low"] <= bins["confidence"]) & (bins["confidence"] <= bins["high"])).all()
    weighted = (bins["accuracy"] * bins["images"]).sum() / len(found)
    assert weighted == pytest.approx(found.right.mean())


def test_surest_mistakes_are_wrong_and_in_order():
    found = made()
    table = predictions.mistakes(found, 5)
    assert (
        len(table) == 5
        and (table["true"] != table["predicted"]).all()
        and table["probability"].is_monotonic_decreasing
    )
    others = np.setdiff1d(np.flatnonzero(~found.right), table["index"])
    assert found.confidence[others].max() <= table["probability"].min()


def test_keeping_a_record_keeps_its_predictions(own_ledger):
    record = dict.fromkeys(records.FIELDS) | dict(
        run="abc123", status="completed", started="2026-01-01T00:00:00+00:00"
    )
    records.append(record)
    predictions.save(made(), predictions.local("abc123"))
    target = records.keep("abc1", "mine")
    assert json.loads(target.read_text())["run"] == "abc123"
    assert (
        predictions.load(predictions.committed("abc123")).labels.tolist() == made().labels.tolist()
    )


def test_predictions_made_after_a_record_was_kept_follow_it(own_ledger):
    record = dict.fromkeys(records.FIELDS) | dict(
        run="abc123", status="completed", started="2026-01-01T00:00:00+00:00"
    )
    records.append(record)
    records.keep("abc123", "mine")
    assert not predictions.committed("abc123").exists()
    predictions.save(made(), predictions.local("abc123"))
    records.keep("abc123", "mine")
    assert (
        predictions.committed("abc123").is_file()
        and len((paths.LEDGER / "mine.jsonl").read_text().splitlines()) == 1
    )


@pytest.fixture
def evaluated(own_ledger, tiny_folder):
    """Images, logits, their metrics, and a local record of run abc123 that says the same."""
    images = data.load("folder", "test", data_dir=tiny_folder)
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(len(images), 3)))
    measured = metrics(logits, images.labels)
    told = {"sha256": images.about.sha256, "evaluated_on": "test", "title": images.about.title}
    records.append(
        dict.fromkeys(records.FIELDS)
        | dict(
            run="abc123",
            status="completed",
            started="2026-01-01T00:00:00+00:00",
            dataset=told,
            image_size=images.image_size,
            metrics=measured,
        )
    )
    return images, logits, measured


def test_predictions_of_a_checkpoint_lie_beside_its_record(evaluated):
    images, logits, measured = evaluated
    assert keep_predictions("abc123", logits, images, measured) == predictions.local("abc123")
    records.keep("abc123", "mine")
    predictions.committed("abc123").unlink()
    assert keep_predictions("abc123", logits, images, measured) == predictions.committed("abc123")
    assert predictions.read("abc123").predicted.tolist() == logits.argmax(1).tolist()


def test_predictions_that_are_not_those_of_the_record_are_refused(evaluated):
    images, logits, measured = evaluated
    with pytest.raises(ValueError, match="no completed record of run abd"):
        keep_predictions("abd", logits, images, measured)
    with pytest.raises(ValueError, match="its predictions are not kept"):
        keep_predictions("abc123", logits, images, measured | {"top1": measured["top1"] + 1})
    with pytest.raises(ValueError, match="its predictions are not kept"):
        keep_predictions("abc123", logits, images, measured | {"nll": 1.01 * measured["nll"]})
    with pytest.raises(ValueError, match="is about the test images .* not about the train images"):
        keep_predictions("abc123", logits, images.take(np.arange(len(images)), "train"), measured)
    assert not predictions.present("abc123")


# Compact


def images(classes, number=2000, seed=0):
    logits, labels = some(number=number, classes=classes, seed=seed)
    return predictions.of_logits("abc", logits, labels, range(classes), evaluated_on="test")


@pytest.mark.parametrize("classes", [2, 10, 100, 300])
def test_compact_predictions_say_the_same_but_for_half_precision(own_ledger, classes):
    whole = images(classes)
    path = predictions.save_compact(whole, predictions.committed("abc"))
    found = predictions.load(path)
    np.testing.assert_array_equal(found.labels, whole.labels)
    np.testing.assert_array_equal(found.predicted, whole.predicted)
    np.testing.assert_array_equal(found.right, whole.right)
    np.testing.assert_allclose(found.confidence, whole.confidence, rtol=1e-3)
    assert found.top.shape == (2000, 1) and found.probabilities.dtype == np.float32
    assert (found.run, found.classes, found.evaluated_on) == ("abc", whole.classes, "test")
    one, other = predictions.metrics(found), predictions.metrics(whole)
    assert one == pytest.approx(other, abs=0.2)
    assert (one["top1"], one["balanced_accuracy"]) == pytest.approx(
        (other["top1"], other["balanced_accuracy"]), abs=1e-9
    )
    assert (predictions.confusion(found) == predictions.confusion(whole)).all()


def test_compact_predictions_of_many_runs_share_their_labels(own_ledger):
    sizes = []
    for seed in range(4):
        logits, labels = some(number=5000, classes=100, seed=0)
        logits = logits + np.random.default_rng(seed).normal(0, 1, logits.shape)
        one = predictions.of_logits(f"r{seed}", logits, labels, range(100), evaluated_on="test")
        whole = predictions.save(one, predictions.local(f"r{seed}"))
        compact = predictions.keep(f"r{seed}", compact=True)
        sizes.append(compact.stat().st_size / whole.stat().st_size)
        assert predictions.read(f"r{seed}").predicted.tolist() == one.predicted.tolist()
    assert max(sizes) < 0.15  # of the room of whole ones
    folder = predictions.committed("r0").parent
    shared = list(folder.glob(f"{predictions.SHARED}*.npz"))
    assert len(shared) == 1 and len(list(folder.iterdir())) == 5
    # other images, and classes of other names, have their own
    predictions.save_compact(images(100), folder / "other.npz")
    renamed = predictions.of_logits("x", logits, labels, range(1, 101), evaluated_on="test")
    predictions.save_compact(renamed, folder / "renamed.npz")
    assert len(list(folder.glob(f"{predictions.SHARED}*.npz"))) == 3
    assert predictions.load(folder / "renamed.npz").classes[0] == "1"
    assert predictions.load(folder / "r1.npz").classes[0] == "0"


def test_a_split_keeps_its_name_where_labels_are_shared(own_ledger):
    logits, labels = some()
    for split in ("test", "validation"):
        one = predictions.of_logits(split, logits, labels, CLASSES, evaluated_on=split)
        predictions.save_compact(one, predictions.committed(split))
    for split in ("test", "validation"):
        assert predictions.read(split).evaluated_on == split


def test_without_its_labels_a_compact_file_says_what_is_missing(own_ledger):
    path = predictions.save_compact(made(), predictions.committed("abc"))
    [shared] = path.parent.glob(f"{predictions.SHARED}*.npz")
    kept = shared.read_bytes()
    for damaged in (None, kept[:100], b""):
        shared.unlink(missing_ok=True)
        if damaged is not None:
            shared.write_bytes(damaged)
        with pytest.raises(ValueError, match="with the labels of abc.npz, is missing or damaged"):
            predictions.read("abc")
    shared.write_bytes(kept)
    assert len(predictions.read("abc")) == 400


def test_numbers_that_are_damaged_within_a_file_are_refused(own_ledger):
    for name, save in (("abc", predictions.save), ("abd", predictions.save_compact)):
        path = save(images(10), predictions.committed(name))
        whole = path.read_bytes()
        path.write_bytes(whole[:400] + bytes(200) + whole[600:])
        with pytest.raises(ValueError, match=f"{name}.npz is no file of predictions .* --keep"):
            predictions.read(name)
    one = images(10)
    path = predictions.save_compact(one, predictions.committed("short"))
    with np.load(path) as file:
        values = {name: file[name] for name in file.files}
    with open(path, "wb") as file:
        np.savez_compressed(file, **values | {"top": values["top"][:7]})
    with pytest.raises(ValueError, match="short.npz is no file of .*7 answers to 2000 images"):
        predictions.read("short")
