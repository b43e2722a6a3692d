"""Images in FITS files: what is read without astropy is what astropy reads, rows are turned, and
each file that holds no image, or several, says so in one line.
"""

import bz2
import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from astroformer.data import fits_images
from astroformer.data.fits_images import planes

KINDS = [np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64]
images = st.sampled_from(KINDS).flatmap(
    lambda kind: arrays(
        kind,
        st.lists(st.integers(1, 5), min_size=2, max_size=3).map(tuple),
    )
)
cards = st.lists(
    st.tuples(
        st.sampled_from(["OBJECT", "EXPTIME", "CRVAL1", "NAXMAX", "COMMENT", "HISTORY", "SIMPLEX"]),
        st.one_of(st.text("aB 9'/=", max_size=20), st.integers(-5, 5), st.floats(-1, 1)),
    ),
    max_size=50,
)


def same(path, **how):
    """What astropy has, its rows turned."""
    values = fits.getdata(path, **how)
    values = values[None] if values.ndim == 2 else values
    return values[:, ::-1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(image=images, told=cards)
def test_a_plain_file_is_read_as_astropy_reads_it(tmp_path, image, told):
    header = fits.Header()
    for name, value in told:
        header.add_comment(str(value)) if name == "COMMENT" else header.append((name, value))
    path = tmp_path / "a.fits"
    fits.writeto(path, image, header, overwrite=True)
    content = path.read_bytes()
    found = planes(path)
    assert fits_images._plain(content) is not None
    assert np.array_equal(found, same(path), equal_nan=image.dtype.kind == "f")
    assert found.dtype == image.dtype and found.dtype.isnative
    assert np.array_equal(planes(path, content=content), found, equal_nan=image.dtype.kind == "f")


@pytest.mark.parametrize("packed", [".fits", ".fits.gz", ".fits.bz2", ".fits.fz"])
@pytest.mark.parametrize("kind", ["scaled", "unsigned", "blank", "extension", "cube"])
def test_what_a_header_means_is_applied(tmp_path, packed, kind):
    path = tmp_path / f"a{packed}"
    values = np.arange(5 * 7, dtype=np.int16).reshape(5, 7)
    header, expected = fits.Header(), values.astype(float)
    if kind == "scaled":
        header["BSCALE"], header["BZERO"] = 0.5, 3.0
        expected = values * 0.5 + 3
    elif kind == "unsigned":
        values = (values.astype(int) + 60_000).astype(np.uint16)
        expected = values.astype(float)
    elif kind == "blank":
        header["BLANK"] = 4
        expected = np.where(values == 4, np.nan, values)
    elif kind == "cube":
        values = np.stack([values, values + 100, values + 200]).astype(np.float32)
        expected = values
    if packed == ".fits.fz":
        unit = fits.CompImageHDU(values, name="SCI")
        # in the file as it is told, not as astropy computes it
        unit.header.update(header) if kind == "blank" else None
        if kind in ("scaled", "blank"):
            pytest.skip("astropy writes no such header into a packed file")
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path)
    else:
        plain = fits.PrimaryHDU(values) if kind != "extension" else fits.ImageHDU(values)
        units = [plain] if kind != "extension" else [fits.PrimaryHDU(), plain]
        fits.HDUList(units).writeto(tmp_path / "plain")
        with fits.open(tmp_path / "plain", "update", do_not_scale_image_data=True) as opened:
            opened[-1].header.update(header)
        pack = {".fits.gz": gzip.compress, ".fits.bz2": bz2.compress}.get(packed, bytes)
        path.write_bytes(pack((tmp_path / "plain").read_bytes()))
    found = planes(path)
    expected = expected if expected.ndim == 3 else expected[None]
    assert np.array_equal(found, expected[:, ::-1], equal_nan=True) and found.dtype.isnative


def test_the_lowest_row_of_a_file_is_the_lowest_of_the_image(tmp_path):
    values = np.zeros((4, 3), np.float32)
    values[0] = 1  # as ds9 shows it: below
    fits.writeto(tmp_path / "a.fits", values)
    assert planes(tmp_path / "a.fits")[0].tolist() == [[0, 0, 0]] * 3 + [[1, 1, 1]]


def write(path, **extensions):
    units = [
        fits.ImageHDU(np.full((4, 4), value, np.float32), name=name)
        if np.isscalar(value)
        else fits.ImageHDU(value, name=name)
        for name, value in extensions.items()
    ]
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(path)
    return path


def test_extensions_are_found_by_their_names_in_any_letters(tmp_path):
    path = write(tmp_path / "a.fits", G=1, R=2, Z=3, MASK=0)
    assert planes(path, ["z", "g"])[:, 0, 0].tolist() == [3, 1]
    assert planes(path, ["R"]).shape == (1, 4, 4)


def test_planes_of_a_cube_are_found_by_their_numbers(tmp_path):
    cube = np.stack([np.full((4, 5), value, np.float32) for value in range(5)])
    fits.writeto(tmp_path / "a.fits", cube)
    assert planes(tmp_path / "a.fits", ["4", "0"])[:, 0, 0].tolist() == [4, 0]
    assert planes(tmp_path / "a.fits").shape == (5, 4, 5)
    fits.writeto(tmp_path / "b.fits", cube[:1, None])  # an axis of length 1 before them
    assert planes(tmp_path / "b.fits").shape == (1, 4, 5)


def table(path):
    Table({"a": [1, 2]}).write(path)


@pytest.mark.parametrize(
    "make, bands, words",
    [
        (table, (), "has no image, but 1 tables; remove it"),
        (lambda path: fits.PrimaryHDU().writeto(path), (), "has no image"),
        (lambda path: write(path, SCI=1, ERR=2), (), r"has 2 images \(SCI, ERR\); .* --bands SCI"),
        (lambda path: write(path, SCI=1, ERR=2), ("g",), "no extension g, only SCI, ERR"),
        (lambda path: write(path, G=1, R=np.zeros((3, 5))), ("g", "r"),
         r"several sizes \(g 4 x 4, r 3 x 5 pixels\)"),
        (lambda path: write(path, G=np.zeros((2, 4, 4))), ("g",), "g of .* has 2 planes"),
        (lambda path: fits.writeto(path, np.zeros((3, 4, 4))), ("0", "3"), "has 3 bands, numbered"),
        (lambda path: fits.writeto(path, np.zeros((99, 4, 4))), (), "99 x 4 x 4, and an image has"),
        (lambda path: fits.writeto(path, np.zeros((2, 2, 4, 4))), (), "2 x 2 x 4 x 4"),
        (lambda path: path.write_bytes(b"no FITS"), (), "cannot read the FITS file"),
        (lambda path: path.write_bytes(b""), (), "cannot read the FITS file"),
    ],
)  # fmt: skip
def test_a_file_without_the_image_that_is_asked_for_is_named(tmp_path, make, bands, words):
    make(tmp_path / "a.fits")
    with pytest.raises(ValueError, match=words) as error:
        planes(tmp_path / "a.fits", bands)
    assert "\n" not in str(error.value) and "a.fits" in str(error.value)


@pytest.mark.filterwarnings("error")
@given(cut=st.integers(1, 8000), packed=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_file_that_is_cut_is_refused_in_one_line_without_a_warning(tmp_path, cut, packed):
    path = tmp_path / "a.fits"
    values = np.random.default_rng(0).normal(size=(20, 40)).astype(np.float32)
    if packed:
        unit = fits.CompImageHDU(values)
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path, overwrite=True)
    else:
        fits.writeto(path, values, overwrite=True)
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)])
    try:
        found = planes(path)
    except ValueError as error:
        assert "\n" not in str(error) and "a.fits" in str(error)
        return
    if not packed:  # only what fills up the last block may be missing
        assert np.array_equal(found[0], values[::-1])
