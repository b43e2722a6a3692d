"""The example is read as an astronomer's files would be, and its galaxies are the library's."""

import csv
import shlex

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astroformer import data
from astroformer.cli import main
from astroformer.data import example, morphology


def test_pictures_lie_by_class_and_others_wait_to_be_predicted(tmp_path):
    root = example.write(tmp_path / "mine", each=4, new=6, size=32)
    train = data.load("folder", "train", data_dir=root / "labelled", test_fraction=0.25)
    assert train.classes == tuple(sorted(example.CLASSES)) and len(train) == 12
    assert train.about.kind == "synthetic" and not train.about.title.startswith("labelled")
    assert len(list((root / "new").glob("*.png"))) == 6


def test_cut_outs_hold_three_bands_with_a_position_and_a_catalogue_names_them(tmp_path):
    root = example.write(tmp_path / "mine", kind="fits", each=2, new=3, size=32)
    rows = list(csv.DictReader((root / "catalogue.csv").read_text().splitlines()))
    assert len(rows) == 8 and {row["label"] for row in rows} == set(example.CLASSES)
    for row in rows:
        with fits.open(root / "cutouts" / f"{row['id']}.fits") as file:
            assert [one.name for one in file[1:]] == list(example.BANDS)
            assert file[1].data.shape == (32, 32)
            middle = WCS(file[1].header).pixel_to_world(15.5, 15.5)
            assert middle.ra.deg == pytest.approx(float(row["ra"]), abs=1e-4)
    how = dict(bands="G,R,Z", stretch="lupton:0.4,7", labels=str(root / "catalogue.csv"))
    train = data.load("folder", "train", data_dir=root / "cutouts", test_fraction=0.5, **how)
    assert len(train) == 4 and train.pixels[0].shape == (32, 32, 3)


@pytest.mark.parametrize("label", range(len(morphology.CLASS_NAMES)))
def test_bands_are_those_of_the_picture(label):
    from astropy.visualization import make_lupton_rgb

    g, r, z = morphology.bands(label, size=32, rng=np.random.default_rng(label))
    picture = morphology.render(label, size=32, rng=np.random.default_rng(label))
    made = make_lupton_rgb(z, r, g, minimum=-0.015, stretch=0.4, Q=7)
    assert np.array_equal(made, picture)


def test_nothing_is_written_over_and_what_is_not_known_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is there already"):
        example.write(tmp_path)
    with pytest.raises(ValueError, match="choose png or fits"):
        example.write(tmp_path / "new", kind="jpeg")
    with pytest.raises(ValueError, match="choose of disturbed"):
        example.write(tmp_path / "new", classes=["cat"])
    assert not (tmp_path / "new").exists()


def test_another_seed_draws_others(tmp_path):
    one, other = (
        example.write(tmp_path / str(seed), each=1, new=0, size=32, seed=seed) for seed in (0, 1)
    )
    first, second = (next((root / "labelled").glob("*/*.png")) for root in (one, other))
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize("kind", example.KINDS)
def test_the_command_makes_an_example_and_its_line_looks_at_it(kind, tmp_path, capsys):
    root = str(tmp_path / "two words")
    made = ["data", "example", root, "--kind", kind, "--each", "3", "--new", "2", "--size", "32"]
    assert not main(made)
    line = next(one for one in capsys.readouterr().out.splitlines() if "look at them" in one)
    words = shlex.split(line.partition("with: ")[2])
    assert not main(words[1:])
    assert "synthetic galaxies, an example" in capsys.readouterr().out
    assert main(made) == 2 and "is there already" in capsys.readouterr().err
