"""Files that hold values: every format gives the same array, whatever its bytes; bands in their
order; and what is no image is refused in one line.
"""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from astroformer.data import values
from astroformer.data.pixels import TURNED
from astroformer.data.stretch import Lupton, fitted
from astroformer.data.values import Reading, of_told, read, shape_of


def of(kind, channels=1, *, height=9, width=12, seed=0):
    """Values (H, W, C) that use the whole range of their kind."""
    random = np.random.default_rng([seed, channels])
    shape = (height, width, channels)
    if np.dtype(kind).kind == "f":
        return random.normal(size=shape).astype(kind)
    told = np.iinfo(kind)
    return random.integers(max(told.min, -(2**40)), min(told.max, 2**40), shape).astype(kind)


def png16(image, orientation=None):
    """A PNG of 16 bits a channel, as the standard has it: grey, with alpha, RGB or RGBA."""
    height, width, channels = image.shape

    def chunk(name, content):
        told = struct.pack(">I", len(content)) + name + content
        return told + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header)]
    if orientation:
        exif = Image.Exif()
        exif[274] = orientation
        parts.append(chunk(b"eXIf", exif.tobytes()[6:]))
    return b"".join([*parts, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


def written(path, image):
    """The values in the format of the path's suffix."""
    suffix = "".join(path.suffixes)
    if suffix == ".npy":
        np.save(path, image)
    elif suffix.startswith(".fits"):
        fits.writeto(
            path, np.moveaxis(values.by_wavelength(np.moveaxis(image, 2, 0)), 0, 0)[:, ::-1]
        )
    elif suffix == ".png":
        path.write_bytes(png16(image))
    elif suffix == ".tif":
        how = {"photometric": "rgb" if image.shape[2] == 3 else "minisblack"}
        how |= {"planarconfig": "contig"} if image.shape[2] > 1 else {}
        tifffile.imwrite(path, image.squeeze(2) if image.shape[2] == 1 else image, **how)
    return path


FORMATS = [
    *((".npy", kind) for kind in (np.int16, np.uint16, np.int32, np.int64, np.float32, ">f8")),
    *((".fits", kind) for kind in (np.int16, np.int32, np.int64, np.float32, np.float64)),
    *((".tif", kind) for kind in (np.uint16, np.float32, np.float64, np.int32)),
    (".png", np.uint16),
]


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("suffix, kind", FORMATS)
def test_every_format_gives_the_values_that_were_written(tmp_path, suffix, kind, channels):
    if suffix == ".png" and channels not in (1, 3):
        pytest.skip("a PNG has one or three channels")
    image = of(kind, channels)
    path = written(tmp_path / f"a{suffix}", image)
    found = read(path)
    assert np.array_equal(found, image) and found.dtype.isnative
    assert found.dtype == np.dtype(kind).newbyteorder("=")
    assert shape_of(path) == image.shape
    assert np.array_equal(read(path, content=path.read_bytes()), image)
    if channels > 1:
        chosen = read(path, ["1", "0"])
        order = [1, 0] if suffix != ".fits" or channels != 3 else [1, 2]
        assert np.array_equal(chosen, image[:, :, order])


@given(st.permutations(["g", "r", "z", "i", "y"]), st.integers(1, 5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_files_of_bands_come_in_the_order_of_the_bands(tmp_path, bands, number):
    bands = bands[:number]
    image = of(np.float32, 5)
    paths = {}
    for place, band in enumerate("grziy"):
        paths[band] = tmp_path / f"a_{band}.fits"
        fits.writeto(paths[band], image[::-1, :, place], overwrite=True)
    found = read(tuple(str(paths[band]) for band in bands), bands)
    order = bands[::-1] if number == 3 else bands  # three make a picture: the last is red
    assert np.array_equal(found, np.stack([image[:, :, "grziy".index(b)] for b in order], 2))
    assert Reading(tuple(bands), None, number).names == tuple(order)


def test_three_named_bands_make_a_picture_and_colours_stay_as_they_are(tmp_path):
    cube = np.stack([np.full((4, 5), value, np.float32) for value in (1, 2, 3)])  # g, r, z
    fits.writeto(tmp_path / "a.fits", cube)
    assert read(tmp_path / "a.fits")[0, 0].tolist() == [3, 2, 1]
    np.save(tmp_path / "a.npy", cube)
    assert read(tmp_path / "a.npy")[0, 0].tolist() == [1, 2, 3]


@given(st.integers(4, 40), st.integers(4, 40), st.integers(1, 64), st.booleans())
def test_the_axis_of_the_channels_is_the_short_one(height, width, channels, last):
    shape = (height, width, channels) if last else (channels, height, width)
    array = np.arange(np.prod(shape)).reshape(shape)
    if channels < min(height, width):
        found = values.channels_last(array, "a.npy")
        assert np.array_equal(found, array if last else np.moveaxis(array, 0, 2))
    elif channels == height == width:
        with pytest.raises(ValueError, match="a.npy has the shape"):
            values.channels_last(array, "a.npy")


def test_pictures_of_8_bits_are_read_as_they_are(tmp_path):
    grey, colours = of(np.uint8, 1), of(np.uint8, 3)
    Image.fromarray(grey[:, :, 0]).save(tmp_path / "grey.png")
    Image.fromarray(colours).save(tmp_path / "colours.png")
    np.save(tmp_path / "colours.npy", colours)
    assert np.array_equal(read(tmp_path / "grey.png"), grey)
    for name in ("colours.png", "colours.npy"):
        assert np.array_equal(read(tmp_path / name), colours)
        assert np.array_equal(read(tmp_path / name, ["2"]), colours[:, :, 2:])
    paths = (str(tmp_path / "grey.png"),) * 3
    assert np.array_equal(read(paths, ["g", "r", "z"]), np.repeat(grey, 3, 2))


@pytest.mark.parametrize("orientation", [1, *TURNED])
def test_values_are_turned_as_the_picture_is(tmp_path, orientation):
    image = of(np.uint16, 3)
    (tmp_path / "a.png").write_bytes(png16(image, orientation))
    tifffile.imwrite(tmp_path / "a.tif", image, extratags=[(274, "H", 1, orientation, True)])
    small = Image.fromarray((image >> 8).astype(np.uint8))
    turned = small.transpose(TURNED[orientation]) if orientation != 1 else small
    for name in ("a.png", "a.tif"):
        assert np.array_equal(read(tmp_path / name) >> 8, np.asarray(turned))


@pytest.mark.parametrize("how", ["lzw", "zlib", "zstd", "planes", "pages"])
def test_a_tiff_may_be_packed_in_any_way(tmp_path, how):
    image = of(np.uint16, 3)
    planes = np.moveaxis(image, 2, 0)
    if how == "planes":
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    elif how == "pages":
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack")
    else:
        tifffile.imwrite(tmp_path / "a.tif", image, compression=how, predictor=True)
    assert np.array_equal(read(tmp_path / "a.tif"), image)


def test_what_is_hidden_by_transparency_is_black(tmp_path):
    image = of(np.uint16, 4)
    image[:4, :, 3], image[4:, :, 3] = 0, 65535
    (tmp_path / "a.png").write_bytes(png16(image))
    found = read(tmp_path / "a.png")
    assert not found[:4].any() and np.array_equal(found[4:], image[4:, :, :3])


def save(path, array, **how):
    np.save(path, array, **how)


@pytest.mark.parametrize(
    "name, make, bands, words",
    [
        ("a.npy", lambda path: path.write_bytes(b"no array"), (), "cannot read the image"),
        ("a.npy", lambda path: save(path, np.array([object()])), (), "cannot read the image"),
        ("a.npy", lambda path: save(path, np.zeros((4, 4), complex)), (), "holds complex128"),
        ("a.npy", lambda path: save(path, np.zeros((4, 4), bool)), (), "holds bool"),
        ("a.npy", lambda path: save(path, np.zeros(4)), (), r"has the shape \(4,\)"),
        ("a.npy", lambda path: save(path, np.zeros((0, 4))), (), r"holds float64 \(0, 4\)"),
        ("a.npy", lambda path: save(path, np.zeros((4, 4))), ("g",), "no bands by the names g: "),
        ("a.npy", lambda path: save(path, np.zeros((4, 4))), ("1",), "has 1 band, numbered from 0"),
        ("a.tif", lambda path: path.write_bytes(b"II*\0"), (), "cannot read the image"),
        ("a.tif", lambda path: tifffile.imwrite(path, np.zeros((2, 3, 4, 5), np.float32),
                                              photometric="minisblack"), (), "holds float32"),
        ("a.png", lambda path: path.write_bytes(png16(of(np.uint16, 3))[:-60]), (), "cannot read"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_in_one_line(tmp_path, name, make, bands, words):
    make(tmp_path / name)
    with pytest.raises(ValueError, match=words) as error:
        read(tmp_path / name, bands)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_bands_of_several_sizes_and_files_of_several_bands_are_refused(tmp_path):
    for name, shape in (("a_g", (4, 5)), ("a_r", (4, 6)), ("a_z", (2, 4, 5))):
        fits.writeto(tmp_path / f"{name}.fits", np.zeros(shape, np.float32))
    paths = [str(tmp_path / f"a_{band}.fits") for band in "grz"]
    with pytest.raises(ValueError, match=r"several sizes \(g 4 x 5, r 4 x 6 pixels\)"):
        read(tuple(paths[:2]), ["g", "r"])
    with pytest.raises(ValueError, match="a_z.fits is to be one band and has 2"):
        read((paths[0], paths[2]), ["g", "z"])


# Reading


@pytest.mark.parametrize("channels, as_rgb", [(1, False), (3, False), (5, False), (3, True)])
@pytest.mark.parametrize("name", ["asinh", "own:linear", "percentile:1,99", "zscale"])
def test_a_reading_is_what_it_tells_of_itself_and_goes_to_other_processes(
    tmp_path, channels, as_rgb, name
):
    stored = 1 if as_rgb else channels
    path = written(tmp_path / "a.npy", of(np.float32, stored))
    made = Reading((), fitted(name, [path], read), channels, as_rgb)
    image = made(path)
    assert image.shape == (9, 12, channels) and image.dtype == np.uint8 and np.ptp(image) > 100
    for other in (of_told(made.told()), pickle.loads(pickle.dumps(made))):
        assert other == made and np.array_equal(other(path), image)


def test_a_picture_of_lupton_and_plain_bands_are_told_too():
    for made in (Reading(("g", "r", "z"), Lupton("lupton:0.5,8"), 3), Reading(("0",), None, 1)):
        assert of_told(made.told()) == made


def test_images_are_refused_that_are_not_what_is_asked_for(tmp_path):
    path = written(tmp_path / "a.npy", of(np.float32, 2))
    with pytest.raises(ValueError, match="has 2 bands, and those of this data set have 3; name"):
        Reading((), fitted("asinh", [path], read), 3)(path)
    with pytest.raises(ValueError, match="has 32-bit floating-point numbers, and 8 bits .*--stre"):
        Reading((), None, 2)(path)
    np.save(tmp_path / "b.npy", of(np.uint8, 2))
    with pytest.raises(ValueError, match="has 8 bits a channel, and a stretch is for more"):
        Reading((), fitted("asinh", [path], read), 2)(tmp_path / "b.npy")


@pytest.mark.parametrize("suffix, kind", FORMATS)
@given(place=st.floats(0, 1), content=st.binary(max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, suffix, kind, place, content):
    path = tmp_path / f"a{suffix}"
    if not path.exists():
        written(path, of(kind))
        path.with_suffix(".whole").write_bytes(path.read_bytes())
    whole = path.with_suffix(".whole").read_bytes()
    start = int(place * len(whole))
    path.write_bytes(whole[:start] + content + whole[start + len(content) + 3 :])
    try:
        found = read(path)
    except ValueError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert found.ndim == 3


def test_a_stream_is_no_part_of_the_answer(tmp_path):
    """The bytes at hand are those that are read, not the file's."""
    path = written(tmp_path / "a.npy", of(np.float32))
    other = io.BytesIO()
    np.save(other, of(np.float32, seed=1))
    assert np.array_equal(read(path, content=other.getvalue()), of(np.float32, seed=1))
