"""Images with more than 8 bits: refused until a stretch is given, then stretched alike, with the
limits of the training images.
"""

import json

import numpy as np
import pytest
from astropy.visualization import AsinhStretch, ZScaleInterval, make_lupton_rgb
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from astroformer import data
from astroformer.cli import main
from astroformer.data import stretch
from astroformer.data.stretch import (
    Lupton,
    Stretch,
    canonical,
    check_units,
    fitted,
    parsed,
    stretch_of,
)
from astroformer.data.values import read

NAMES = ("linear", "asinh", "zscale", "percentile:1,99")


def values(kind, seed, size=24):
    """A galaxy with a bright core, in the units of its kind."""
    y, x = np.mgrid[:size, :size] - size / 2
    random = np.random.default_rng(seed)
    light = np.exp(-np.hypot(x, y) / (2 + seed % 3)) + 0.01 * random.random((size, size))
    if kind == "float":
        return light.astype(np.float32)
    return (2000 + 50_000 * light).astype(np.uint16 if kind == "16-bit" else np.int32)


def write(root, kind):
    suffix = "png" if kind == "16-bit" else "tif"
    for split, number in (("train", 6), ("test", 3)):
        for label, name in enumerate(("a", "b")):
            place = root / split / name
            place.mkdir(parents=True)
            for index in range(number):
                Image.fromarray(values(kind, 10 * label + index)).save(place / f"{index}.{suffix}")
    return root


@pytest.mark.parametrize("kind", ["16-bit", "32-bit", "float"])
def test_deep_images_are_refused_until_a_stretch_is_given(tmp_path, kind):
    root = write(tmp_path / kind, kind)
    with pytest.raises(ValueError, match="--stretch linear, asinh, zscale or percentile") as error:
        data.load("folder", "train", data_dir=root).array()
    assert "\n" not in str(error.value)
    for name in NAMES:
        pixels = data.load("folder", "train", data_dir=root, stretch=name).array()
        assert pixels.dtype == np.uint8 and pixels.min() == 0 and pixels.max() == 255
        assert len(np.unique(pixels)) > 30 and (pixels[..., 0] == pixels[..., 2]).all()


def test_the_limits_are_those_of_the_training_images_and_alike_for_all(tmp_path):
    root = write(tmp_path / "a", "float")
    train, test = (data.load("folder", split, data_dir=root, stretch="linear")
                   for split in ("train", "test"))  # fmt: skip
    every = np.stack([values("float", 10 * label + i) for label in (0, 1) for i in range(6)])
    low, high = float(every.min()), float(every.max())
    expected = np.round(255 * (every.astype(np.float64) - low) / (high - low))
    assert np.abs(train.array()[..., 0].astype(float) - expected).max() <= 1
    assert f"stretch linear between {low:.6g} and {high:.6g}, by 12 training" in " ".join(
        train.about.remarks
    )
    Image.fromarray(1000 * values("float", 0)).save(root / "test" / "a" / "0.tif")  # far brighter
    brighter = data.load("folder", "test", data_dir=root, stretch="linear")
    assert brighter.array()[0].min() == 255 or np.array_equal(
        brighter.array()[1:], test.array()[1:]
    )


finite = st.floats(-1e6, 1e6, width=32)


@given(st.lists(finite, min_size=2, max_size=30), st.sampled_from(["linear", "asinh"]))
def test_a_stretch_keeps_the_order_and_the_ends(numbers, name):
    array = np.array(numbers)
    if array.max() - array.min() < 1e-3:
        return
    applied = Stretch(name, (float(array.min()),), (float(array.max()),), 1)
    found = applied(np.sort(array)[:, None, None]).ravel()
    assert (np.diff(found.astype(int)) >= 0).all() and found[0] == 0 and found[-1] == 255
    assert applied(np.array([[[-1e9], [np.nan], [np.inf]]])).ravel().tolist() == [0, 0, 255]


def test_intervals_and_curves_are_astropys(tmp_path):
    paths = []
    for seed in range(5):
        Image.fromarray(values("float", seed)).save(tmp_path / f"{seed}.tif")
        paths.append(str(tmp_path / f"{seed}.tif"))
    every = np.concatenate([values("float", seed).ravel() for seed in range(5)]).astype(float)
    low, high = ZScaleInterval().get_limits(every)
    found = fitted("zscale", paths, read)
    assert (*found.low, *found.high) == pytest.approx((low, high))
    found = fitted("percentile:5,80", paths, read)
    assert (*found.low, *found.high) == pytest.approx(tuple(np.percentile(every, [5, 80])))
    assert found.cut == pytest.approx(0.25, abs=0.01)
    found = fitted("asinh", paths, read)
    [low], [high] = found.low, found.high
    middle = np.linspace(low, high, 50)
    expected = 255 * AsinhStretch(0.1)((middle - low) / (high - low))
    assert np.abs(found(middle[:, None, None]).ravel() - expected).max() <= 0.5


@pytest.mark.parametrize("name", ["log", "", "percentile", "percentile:1", "percentile:99,1",
                                  "percentile:-1,5", "percentile:0,101", "percentile:a,b",
                                  "linear:1", "asinh:0,1", "own:", "own:lupton:1,8", "lupton",
                                  "lupton:1", "lupton:0,8", "lupton:1,0", "lupton:nan,8",
                                  "own:own:asinh", "percentile:nan,5"])  # fmt: skip
def test_what_is_no_stretch_is_refused_with_the_choices(name):
    with pytest.raises(
        ValueError, match="is not known; choose linear, asinh, zscale or percentile"
    ):
        parsed(name)


def test_two_spellings_of_a_stretch_are_one_run():
    assert (
        canonical("percentile:1,99.50") == canonical("percentile:1.0,99.5") == ("percentile:1,99.5")
    )
    assert canonical("own:percentile:1.0,99") == "own:percentile:1,99"
    assert canonical("lupton:0.50,8.0") == "lupton:0.5,8"


def test_images_of_one_value_and_of_8_bits_have_nothing_to_stretch(tmp_path):
    Image.fromarray(np.full((8, 8), 5, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="have no two values between its limits"):
        fitted("linear", [str(tmp_path / "a.png")], read)
    Image.fromarray(np.full((8, 8), 5, np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="has 8 bits a channel, and a stretch is for more"):
        data.values.with_more(read(tmp_path / "b.png"), tmp_path / "b.png")


def test_the_stretch_is_in_the_identity_the_record_and_the_command(tmp_path, own_runs, capsys):
    root = write(tmp_path / "deep", "16-bit")
    words = ["train", "--dataset", "folder", "--data-dir", str(root), "--recipe", "smoke",
             "--set", "epochs=1", "--set", "batch_size=4", "--image-size", "32"]  # fmt: skip
    assert main([*words, "--stretch", "percentile:1,99.0"]) == 0
    assert "stretch percentile:1,99 between" in capsys.readouterr().out
    record = json.loads(next((own_runs / "ledger").glob("*.jsonl")).read_text())
    assert record["identity"]["stretch"] == record["dataset"]["stretch"] == "percentile:1,99"
    assert "--stretch percentile:1,99" in record["command"]
    assert main([*words, "--stretch", "asinh"]) == 0
    [own] = (own_runs / "ledger").glob("*.jsonl")
    assert len({json.loads(line)["run"] for line in own.read_text().splitlines()}) == 2
    assert stretch.LOOKED_AT == 100


# Several bands


def bands(seed, channels=3, scale=1.0, size=16):
    """(H, W, C) of a galaxy in units of a scale, each band twice as bright as the one before."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2
    light = np.exp(-np.hypot(x, y) / 3)[:, :, None] * 2.0 ** np.arange(channels)
    return scale * (light + 0.01 * random.normal(size=light.shape))


def of_arrays(source):
    """The values of a source that is the array itself."""
    return source


@pytest.mark.parametrize("name", NAMES)
def test_each_band_has_limits_of_its_own_which_are_those_of_its_values_alone(name):
    images = [bands(seed) for seed in range(4)]
    whole = fitted(name, images, of_arrays)
    for band in range(3):
        alone = fitted(name, [one[:, :, [band]] for one in images], of_arrays)
        assert (whole.low[band], whole.high[band]) == (*alone.low, *alone.high)
        assert np.array_equal(whole(images[1])[:, :, [band]], alone(images[1][:, :, [band]]))
    assert stretch_of(json.loads(json.dumps(whole.told()))) == whole


def test_an_images_own_limits_are_taken_only_where_they_are_asked_for():
    faint, bright = bands(0, scale=0.01), bands(0)
    fixed, own = (fitted(name, [faint, bright], of_arrays) for name in ("linear", "own:linear"))
    assert np.abs(own(faint).astype(int) - own(bright)).max() <= 1  # brightness is lost
    assert fixed(faint).mean() < 0.2 * fixed(bright).mean()
    assert fitted("linear", [faint], of_arrays)(faint).tolist() == own(faint).tolist()
    flat = np.full((4, 4, 2), np.nan)
    assert not own(flat).any() and not own(np.full((4, 4, 2), 7.0)).any()
    assert stretch_of(own.told()) == own and "own limits" in own.described()


@pytest.mark.parametrize("sky", [0.0, 0.1])
def test_colour_is_astropys_make_lupton_rgb(sky):
    image = bands(0)
    name = "lupton:0.5,8" + (f",{sky}" if sky else "")
    made = fitted(name, [image], of_arrays)
    expected = make_lupton_rgb(*np.moveaxis(image, 2, 0), minimum=sky, stretch=0.5, Q=8)
    assert made == Lupton(name) and np.array_equal(made(image), expected)
    image[3, 4], image[0, 0, 1] = np.nan, np.inf
    assert not made(image)[3, 4].any()
    for channels in (1, 2, 5):
        with pytest.raises(ValueError, match=f"and an image has {channels}; name three with --ba"):
            made(bands(0, channels))


@pytest.mark.parametrize("name", NAMES)
@given(scale=st.floats(0.5, 2), seed=st.integers(0, 50))
def test_images_in_the_units_of_the_training_images_are_taken(name, scale, seed):
    made = fitted(name, [bands(one) for one in range(4)], of_arrays)
    check_units(made, [bands(seed, scale=scale)], of_arrays, "these")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor, offset", [(1000, 0), (0.001, 0), (1, 50), (1, -50)])
def test_images_in_other_units_are_refused(name, factor, offset):
    made = fitted(name, [bands(one) for one in range(4)], of_arrays)
    with pytest.raises(ValueError, match="these are not in the units of the training im") as error:
        check_units(made, [factor * bands(9) + offset], of_arrays, "these")
    assert "\n" not in str(error.value)


def test_units_of_images_with_other_bands_or_without_limits_are_not_compared():
    made = fitted("asinh", [bands(0)], of_arrays)
    with pytest.raises(ValueError, match="these have 2 bands, and the limits .* are for 3"):
        check_units(made, [bands(0, 2)], of_arrays, "these")
    for name in ("own:asinh", "lupton:0.5,8"):
        check_units(fitted(name, [bands(0)], of_arrays), [1000 * bands(0)], of_arrays, "these")
