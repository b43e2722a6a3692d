"""The contact sheet: a row of its own images for each class, values before and after a stretch."""

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from astroformer import data
from astroformer.cli import main
from astroformer.figures.contact_sheet import COLUMNS, contact_sheet


def drawn_in(figure):
    return [one for one in figure.axes if one.images and one.get_visible()]


def test_every_class_has_a_row_of_its_own_images(tiny_folder):
    images = data.load("folder", "train", data_dir=tiny_folder)
    figure = contact_sheet(images)
    shown = drawn_in(figure)
    assert len(shown) == 3 * COLUMNS
    for place, one in enumerate(shown):
        own = images.array()[images.labels == place // COLUMNS]
        assert any(np.array_equal(one.images[0].get_array(), image) for image in own)
    titles = [one.get_title(loc="left") for one in figure.axes]
    assert "as a network sees them" in titles and not any("in the files" in one for one in titles)


def test_a_stretch_is_shown_with_its_limits(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(3):
            values = random.integers(100, 60_000, (16, 16), dtype=np.uint16)
            Image.fromarray(values).save(tmp_path / "train" / name / f"{number}.png")
    images = data.load("folder", "train", data_dir=tmp_path, stretch="percentile:10,90")
    figure = contact_sheet(images)
    [before] = [one for one in figure.axes if "in the files" in one.get_title(loc="left")]
    limits = sorted(line.get_xdata()[0] for line in before.lines)
    stretch = images.reading.stretch
    assert limits == [*stretch.low, *stretch.high] and len(drawn_in(figure)) == 6


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["asinh", "own:linear", "lupton:1,8"])
def test_bands_are_shown_with_their_names_and_limits(tmp_path, channels, name):
    random = np.random.default_rng(0)
    bands = ("g", "r", "z", "i", "y")[:channels]
    for kind in ("a", "b"):
        (tmp_path / "train" / kind).mkdir(parents=True)
        for number in range(3):
            for band in bands:
                path = tmp_path / "train" / kind / f"{number}_{band}.fits"
                fits.writeto(path, random.normal(size=(12, 12)).astype(np.float32))
    how = {"data_dir": tmp_path, "stretch": name, "bands": ",".join(bands)}
    if name.startswith("lupton") and channels != 3:
        with pytest.raises(ValueError, match="makes a picture of three bands"):
            data.load("folder", "train", **how)
        return
    images = data.load("folder", "train", **how)
    figure = contact_sheet(images)
    assert all(one.images[0].get_array().shape[2] == 3 for one in drawn_in(figure))
    [before] = [one for one in figure.axes if "in the files" in one.get_title(loc="left")]
    assert len(before.lines) == (2 * channels if name == "asinh" else 0)
    if channels > 1:
        shown = [text.get_text() for text in before.get_legend().get_texts()]
        assert sorted(shown) == sorted(bands)
    figure.savefig(tmp_path / "sheet.png")


def test_stats_draws_it(tiny_folder, tmp_path, capsys):
    words = ["data", "stats", "--dataset", "folder", "--data-dir", str(tiny_folder)]
    assert main([*words, "--draw", str(tmp_path / "sheet.png")]) == 0
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width > 800 and np.asarray(image.convert("L")).std() > 10
    assert main([*words, "--draw", str(tmp_path / "sheet.txt")]) == 2
    assert "name a file that ends in .png, .pdf or .svg" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [2, 14])
def test_many_classes_are_cut_to_a_page(tmp_path, classes):
    for number in range(classes):
        place = tmp_path / "train" / f"class{number:02d}"
        place.mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), number * 9, np.uint8)).save(place / "a.png")
    figure = contact_sheet(data.load("folder", "train", data_dir=tmp_path))
    assert len(drawn_in(figure)) == min(classes, 10)
