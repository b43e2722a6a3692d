"""The embedded galaxies: reproducible to the byte, balanced, neither trivial nor hopeless, and
safely kept.
"""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from astroformer import paths
from astroformer.data import galaxies
from astroformer.data.galaxies import CLASS_NAMES, VERSION, generate, load_galaxies, render

TRAIN, TEST = 1000, 500


@pytest.fixture(scope="module")
def sample():
    """Images uint8 (TRAIN + TEST, 32, 32, 3) and labels."""
    return generate(TRAIN + TEST, size=32, seed=7)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path))
    return tmp_path


def linear_accuracy(features, labels):
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=60, tol=1e-2))
    with warnings.catch_warnings():
        # sixty steps are enough to tell 30 % from 70 %
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(features[:TRAIN], labels[:TRAIN])
    return classifier.score(features[TRAIN:], labels[TRAIN:])


def test_the_classes_are_those_of_galaxy10_in_its_order():
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 10
    assert (
        CLASS_NAMES[0] == "disturbed"
        and CLASS_NAMES[5] == "barred spiral"
        and CLASS_NAMES[9] == "edge-on with bulge"
    )


@pytest.mark.parametrize("size", [32, 64, 96])
def test_images_have_the_size_asked_for(size):
    images, labels = generate(10, size=size)
    assert images.shape == (10, size, size, 3) and images.dtype == np.uint8
    assert labels.shape == (10,) and labels.dtype == np.int64


def test_a_seed_means_the_same_bytes_for_any_number_of_processes():
    alone, together = (
        generate(21, size=32, seed=3, workers=1),
        generate(21, size=32, seed=3, workers=2),
    )
    np.testing.assert_array_equal(alone[0], together[0])
    np.testing.assert_array_equal(alone[1], together[1])


def test_a_part_of_a_sample_equals_the_same_part_made_alone():
    whole, part = generate(30, size=32, seed=3), generate(7, size=32, seed=3, first=13)
    np.testing.assert_array_equal(whole[0][13:20], part[0])
    np.testing.assert_array_equal(whole[1][13:20], part[1])


def test_another_seed_gives_other_galaxies_and_no_two_are_alike():
    one, other = generate(20, size=32, seed=1)[0], generate(20, size=32, seed=2)[0]
    assert len({image.tobytes() for image in np.concatenate([one, other])}) == 40


@pytest.mark.parametrize("number", [10, 50, 120])
def test_any_multiple_of_ten_is_exactly_balanced(number):
    labels = [galaxies.label_at(index, seed=5) for index in range(number)]
    assert np.bincount(labels).tolist() == [number // 10] * 10


def test_the_order_of_classes_changes_from_one_ten_to_the_next():
    blocks = {
        tuple(galaxies.label_at(10 * block + place, seed=5) for place in range(10))
        for block in range(20)
    }
    assert len(blocks) == 20


@pytest.mark.parametrize("label", range(10), ids=CLASS_NAMES)
def test_a_galaxy_is_the_same_at_every_size_up_to_pixel_noise(label):
    def drawn(size, of=0):
        image = render(label, size=size, rng=np.random.default_rng([of, label])).astype(float)
        return image.reshape(16, size // 16, 16, size // 16, 3).mean(axis=(1, 3))

    small, large, stranger = drawn(32), drawn(128), drawn(128, of=1)
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.93
    assert np.abs(small - large).mean() < 0.7 * np.abs(small - stranger).mean()


def test_galaxies_lie_near_the_centre_of_a_dark_sky(sample):
    images, labels = sample
    for label, name in enumerate(CLASS_NAMES):
        mean = images[labels == label].mean(axis=(0, 3))  # (32, 32), one class superposed
        edge = np.concatenate([mean[0], mean[-1], mean[:, 0], mean[:, -1]])
        row, column = np.unravel_index(mean.argmax(), mean.shape)
        assert edge.mean() < 30, name
        assert mean.max() > 3 * edge.mean(), name
        assert max(abs(row - 15.5), abs(column - 15.5)) < 3, name


def test_brightness_and_colour_alone_do_not_tell_the_class(sample):
    images, labels = sample
    numbers = np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1)  # (N, 6)
    assert linear_accuracy(numbers, labels) < 0.45


def test_the_corners_do_not_tell_the_class(sample):
    images, labels = sample
    corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(len(images), -1)  # (N, 12)
    assert linear_accuracy(corners, labels) < 0.2


def test_a_linear_classifier_on_pixels_learns_something_but_not_the_classes(sample):
    images, labels = sample
    assert 0.15 < linear_accuracy(images.reshape(len(images), -1).astype(np.float32), labels) < 0.7


def test_the_cache_returns_the_bytes_that_were_generated(cache, monkeypatch):
    made = load_galaxies(10, size=32, seed=4)
    monkeypatch.setattr(
        galaxies, "generate", lambda *_, **__: pytest.fail("generated although it is kept")
    )
    kept = load_galaxies(10, size=32, seed=4)
    np.testing.assert_array_equal(made[0], kept[0])
    np.testing.assert_array_equal(made[1], kept[1])
    assert kept[0].dtype == np.uint8 and kept[1].dtype == np.int64


def test_whatever_decides_the_pixels_has_its_own_file(cache):
    load_galaxies(10, size=32, seed=4)
    for other in ({"size": 16}, {"seed": 5}, {"first": 10}, {"number": 11}):
        load_galaxies(**({"number": 10, "size": 32, "seed": 4} | other))
    assert len(list((paths.cache() / "galaxies").glob("*.npz"))) == 5
    assert not list((paths.cache() / "galaxies").glob(".unfinished*"))


def test_a_new_version_of_the_pixels_does_not_read_the_old_file(cache, monkeypatch):
    old = galaxies._cache_file(10, 32, 0, 0)
    monkeypatch.setattr(galaxies, "VERSION", VERSION + 1)
    assert galaxies._cache_file(10, 32, 0, 0) != old


@pytest.mark.parametrize("damage", ["a flipped bit", "cut short", "no checksum"])
def test_a_damaged_file_is_named_and_made_again(cache, capsys, damage):
    made = load_galaxies(10, size=32)
    (file,) = cache.rglob("*.npz")
    content = bytearray(file.read_bytes())
    if damage == "a flipped bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "cut short":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.with_suffix(".sha256").unlink()
    np.testing.assert_array_equal(load_galaxies(10, size=32)[0], made[0])
    complaint = capsys.readouterr().err
    assert str(file) in complaint and complaint.count("\n") == 1
    load_galaxies(10, size=32)
    assert capsys.readouterr().err == ""


def test_without_a_cache_nothing_is_written(cache):
    load_galaxies(10, size=32, cache=False)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "occupied").write_text("a file where the folder should be")
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "occupied"))
    with pytest.raises(OSError, match="ASTROFORMER_CACHE"):
        load_galaxies(10, size=32)


def test_a_process_that_fails_is_an_error_with_its_last_words(tmp_path, monkeypatch):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no light today')")
    monkeypatch.setattr(galaxies.morphology, "__file__", str(broken))
    with pytest.raises(RuntimeError, match="no light today"):
        generate(10, size=32, workers=2)


@pytest.mark.parametrize(
    ("call", "cause", "way_out"),
    [
        (lambda: render(10, rng=np.random.default_rng(0)), "no class 10", "from 0 to 9"),
        (lambda: render(-1, rng=np.random.default_rng(0)), "no class -1", "from 0 to 9"),
        (lambda: render(0, size=15, rng=np.random.default_rng(0)), "15 pixels", "at least 16"),
        (lambda: generate(10, size=8), "8 pixels", "at least 16"),
        (lambda: generate(0), "0 galaxies", "at least 1"),
        (lambda: load_galaxies(-5), "-5 galaxies", "at least 1"),
        (lambda: generate(1, seed=-1), "seed -1", "not negative"),
        (lambda: generate(1, first=-1), "first -1", "not negative"),
        (lambda: generate(1, workers=0), "0 workers", "at least 1"),
    ],
)
def test_bad_input_is_refused_with_the_cause_and_the_way_out(call, cause, way_out):
    with pytest.raises(ValueError) as refusal:
        call()
    message = str(refusal.value)
    assert cause in message and way_out in message and "\n" not in message
