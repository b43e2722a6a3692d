"""Cut-outs of a mosaic: the right pixels with the right WCS, what lies outside is counted, and
nothing is left half made.
"""

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astroformer import data
from astroformer.cli import main
from astroformer.data.cutouts import cut

SIZE = 60  # pixels of the mosaic
PIXEL = 1e-4  # degrees


def wcs_of(kind="tan"):
    wcs = WCS(naxis=2)
    wcs.wcs.crpix, wcs.wcs.crval = [30, 31], [150.0, 2.0]
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    wcs.wcs.cd = PIXEL * turn @ np.diag([-1, 1])
    if kind == "galactic":
        wcs.wcs.ctype, wcs.wcs.crval = ["GLON-TAN", "GLAT-TAN"], [236.8, 42.1]
    return wcs


def write_mosaic(path, values=None, kind="tan", **how):
    values = np.arange(SIZE**2, dtype=np.float32).reshape(SIZE, SIZE) if values is None else values
    header = wcs_of(kind).to_header()
    header["BUNIT"], header["EXPTIME"] = "nanomaggy", 90.0
    fits.PrimaryHDU(values, header).writeto(path, **how)
    return path


def write_table(path, x, y, kind="tan", **columns):
    """A catalogue of positions given in pixels, from 0."""
    sky = wcs_of(kind).pixel_to_world(np.asarray(x, float), np.asarray(y, float)).icrs
    frame = pd.DataFrame({"objid": [f"g{i}" for i in range(len(x))], "ra": sky.ra.deg,
                          "dec": sky.dec.deg} | columns)  # fmt: skip
    frame.to_csv(path, index=False)
    return path


def expected(values, x, y, size):
    """The square by hand: NaN beyond the border."""
    left, top = (int(np.ceil(place - size / 2)) for place in (x, y))
    found = np.full((size, size), np.nan)
    for row in range(size):
        for column in range(size):
            if 0 <= top + row < SIZE and 0 <= left + column < SIZE:
                found[row, column] = values[top + row, left + column]
    return found


pixels = st.tuples(st.integers(-30, 90), st.integers(-30, 90))


@pytest.mark.parametrize("kind", ["tan", "galactic"])
@given(places=st.lists(pixels, min_size=1, max_size=6), size=st.integers(1, 20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_each_cut_out_has_its_pixels_and_its_wcs(tmp_path_factory, kind, places, size):
    folder = tmp_path_factory.mktemp("cut")
    mosaic = write_mosaic(folder / "m.fits", kind=kind)
    places = [(6, 7), *places]  # one within
    x, y = (np.array(axis) + 0.1 for axis in zip(*places))
    table = write_table(folder / "t.csv", x, y, kind)
    said = []
    counts = cut(table, [mosaic], size, folder / "out", report=said.append)
    values, seen = fits.getdata(mosaic), 0
    for index, (one, other) in enumerate(zip(x, y)):
        square = expected(values, one, other, size)
        path = folder / "out" / f"g{index}.fits"
        assert path.is_file() == bool(np.isfinite(square).any())
        if not path.is_file():
            continue
        seen += 1
        found, header = fits.getdata(path, header=True)
        assert np.array_equal(found, square, equal_nan=True) and found.shape == (size, size)
        assert (header["BUNIT"], header["EXPTIME"]) == ("nanomaggy", 90.0)
        sky = wcs_of(kind).pixel_to_world(one, other)
        left, top = (int(np.ceil(place - size / 2)) for place in (one, other))
        assert WCS(header).world_to_pixel(sky) == pytest.approx((one - left, other - top), abs=1e-4)
    assert counts["whole"] + counts["partial"] == seen and counts["outside"] == len(x) - seen
    assert f"{counts['whole']:,} cut-outs of {size} x {size} pixels" in said[0]


@pytest.mark.parametrize("kind", ["int16", "uint16", "scaled", "packed", "extension", "gz"])
def test_a_mosaic_may_be_stored_in_any_way(tmp_path, kind):
    values = (np.arange(SIZE**2).reshape(SIZE, SIZE) % 30_000).astype(np.int16)
    path = tmp_path / ("m.fits.gz" if kind == "gz" else "m.fits")
    header, expecting = wcs_of().to_header(), values.astype(float)
    if kind == "uint16":
        values = values.astype(np.uint16) + 30_000
        expecting = values.astype(float)
    if kind in ("packed", "extension"):
        unit = (fits.CompImageHDU if kind == "packed" else fits.ImageHDU)(values, header)
        empty = fits.ImageHDU(np.zeros((4, 4)))  # without a WCS
        fits.HDUList([fits.PrimaryHDU(), empty, unit]).writeto(path)
    else:
        fits.PrimaryHDU(values, header).writeto(path)
    if kind == "scaled":
        with fits.open(path, "update", do_not_scale_image_data=True) as opened:
            opened[0].header["BSCALE"], opened[0].header["BZERO"] = 0.5, 3.0
        expecting = values * 0.5 + 3
    table = write_table(tmp_path / "t.csv", [30.1, 1.1, 200], [30.1, 1.1, 200])
    counts = cut(table, [path], 8, tmp_path / "out", report=print)
    assert dict(counts) == {"whole": 1, "partial": 1, "outside": 1}
    for index, place in enumerate((30.1, 1.1)):
        found = fits.getdata(tmp_path / "out" / f"g{index}.fits")
        assert np.array_equal(found, expected(expecting, place, place, 8), equal_nan=True)


def test_distortions_are_followed(tmp_path):
    wcs = wcs_of()
    header = wcs.to_header(relax=True)
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header["A_ORDER"] = header["B_ORDER"] = 2
    header["A_2_0"], header["B_0_2"] = 1e-3, -1e-3
    path = tmp_path / "m.fits"
    fits.PrimaryHDU(np.arange(SIZE**2, dtype=np.float32).reshape(SIZE, SIZE), header).writeto(path)
    own = WCS(header)
    sky = own.pixel_to_world([12.0, 45.0], [13.0, 50.0])
    pd.DataFrame({"id": ["a", "b", "far"], "ra": [*sky.ra.deg, 0.0],
                  "dec": [*sky.dec.deg, -60.0]}).to_csv(tmp_path / "t.csv")  # fmt: skip
    counts = cut(tmp_path / "t.csv", [path], 7, tmp_path / "out", report=print)
    assert counts["outside"] == 1 and counts["whole"] == 2
    for name, one in (("a", 0), ("b", 1)):
        found, header = fits.getdata(tmp_path / "out" / f"{name}.fits", header=True)
        x, y = WCS(header).world_to_pixel(sky[one])
        assert (x, y) == pytest.approx((3, 3), abs=0.51)
        place = own.world_to_pixel(sky[one])
        assert found[3, 3] == pytest.approx(SIZE * round(float(place[1])) + round(float(place[0])))


def test_cut_outs_of_several_mosaics_are_a_data_set_at_once(tmp_path, capsys):
    random = np.random.default_rng(0)
    x, y = random.uniform(-5, 80, (2, 30))
    for band in "grz":
        write_mosaic(tmp_path / f"{band}.fits", random.normal(size=(SIZE, SIZE)).astype("f4"))
    table = write_table(tmp_path / "t.csv", x, y, label=["a", "b"] * 15)
    words = ["data", "cut", str(table), *(str(tmp_path / f"{band}.fits") for band in "grz"),
             "--bands", "g,r,z", "--size", "12", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "partial, filled with NaN" in said and "positions outside" in said
    assert "--bands g,r,z" in said and f"--labels {table}" in said
    images = data.load("folder", "train", data_dir=tmp_path / "out", labels=str(table),
                       bands="g,r,z", stretch="asinh", test_fraction=0.2)  # fmt: skip
    assert images.image_size == 12 and images.channels == 3
    assert any("have no value (NaN" in one for one in images.about.remarks)
    assert main(words) == 2 and "holds something; remove it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spoil, words",
    [
        (dict(size=0), "--size 0: give a number of pixels of at least 1"),
        (dict(mosaics=["none.fits"]), "there is no mosaic"),
        (dict(mosaics=["t.csv"]), "cannot read the mosaic"),
        (dict(mosaics=["plain.fits"]), "1 image of two axes and none with a celestial WCS"),
        (dict(mosaics=["m.fits", "m.fits"]), "2 mosaics need as many names"),
        (dict(table="none.csv"), "there is no table"),
        (dict(table="no_position.csv"), "has no columns ra and dec, only objid, x"),
        (dict(table="far.csv"), "none of the 1 positions of .* lies in"),
        (dict(table="twice.csv"), r"1 ids of .* are empty or there more than once \(g\)"),
        (dict(table="gap.csv"), "1 rows of .* have no position; take them out"),
    ],
)
def test_what_cannot_be_cut_is_said_and_leaves_nothing(tmp_path, spoil, words):
    write_mosaic(tmp_path / "m.fits")
    fits.writeto(tmp_path / "plain.fits", np.zeros((9, 9)))
    write_table(tmp_path / "t.csv", [30], [30])
    (tmp_path / "no_position.csv").write_text("objid,x\n1,2\n")
    (tmp_path / "far.csv").write_text("objid,ra,dec\n1,10,-30\n")
    (tmp_path / "twice.csv").write_text("objid,ra,dec\ng,150,2\ng,150,2\n")
    (tmp_path / "gap.csv").write_text("objid,ra,dec\n1,150,2\n2,,2\n")
    before = sorted(tmp_path.iterdir())
    how = {"table": "t.csv", "mosaics": ["m.fits"], "size": 8} | spoil
    with pytest.raises((ValueError, FileNotFoundError), match=words) as error:
        cut(tmp_path / how["table"], [tmp_path / one for one in how["mosaics"]], how["size"],
            tmp_path / "out")  # fmt: skip
    assert "\n" not in str(error.value) and sorted(tmp_path.iterdir()) == before


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    from astroformer.data import cutouts

    write_mosaic(tmp_path / "m.fits")
    table = write_table(tmp_path / "t.csv", [30, 31, 32], [30, 31, 32])
    write, written = cutouts._write, []

    def interrupted(*told):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(write(*told))
        return written[-1]

    monkeypatch.setattr(cutouts, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cut(table, [tmp_path / "m.fits"], 8, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["m.fits", "t.csv"]


def test_files_are_called_by_the_ids_or_the_positions(tmp_path):
    write_mosaic(tmp_path / "m.fits")
    sky = wcs_of().pixel_to_world([30.0], [30.0])
    assert isinstance(sky, SkyCoord)
    [ra], [dec] = sky.ra.deg, sky.dec.deg
    for number, (column, value, name) in enumerate([
        ("file", "sub/J10 + 2.jpg", "J10_+_2"), ("iauname", "SDSS J1.5-2", "SDSS_J1.5-2"),
        ("x", "y", f"{ra:.6f}{dec:+.6f}"),
    ]):  # fmt: skip
        table, out = tmp_path / f"{number}.csv", tmp_path / f"out{number}"
        pd.DataFrame({column: [value], "ra": [ra], "dec": [dec]}).to_csv(table, index=False)
        cut(table, [tmp_path / "m.fits"], 8, out)
        assert [one.name for one in out.iterdir()] == [f"{name}.fits"]
