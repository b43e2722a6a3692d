"""From files to pixels: 8 bits a channel are read, whatever has more is refused with its bits, in
any container and under any suffix.
"""

import io
import shutil
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from astroformer import data
from astroformer.data.pixels import TURNED, open_rgb, read_whole, rules_of, size_of

SIDE = 12  # pixels


def ramp(largest, channels=1, dtype=np.uint16):
    """(12, 12, channels) from 0 to the largest value."""
    values = np.linspace(0, largest, SIDE * SIDE * channels)
    return values.reshape(SIDE, SIDE, channels).astype(dtype)


def png(pixels, *, bits=16):
    """A PNG of grey (1 channel), grey and alpha, colours, or colours and alpha; Pillow writes no
    colours of 16 bits.
    """
    height, width, channels = pixels.shape
    values = pixels.astype(">u2" if bits == 16 else np.uint8)
    if bits < 8:
        rows = np.unpackbits(values[..., 0, None], axis=2)[..., 8 - bits :].reshape(height, -1)
        lines = [np.packbits(row).tobytes() for row in rows]
    else:
        lines = [row.tobytes() for row in values]

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(
        ">IIBBBBB", width, height, bits, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0
    )
    packed = zlib.compress(b"".join(b"\0" + line for line in lines))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(pixels, *, order="<"):
    """An uncompressed TIFF of any numbers, in either order of bytes."""
    height, width, channels = pixels.shape
    values = pixels.astype(pixels.dtype.newbyteorder(order))
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    bits = [values.dtype.itemsize * 8] * channels
    tags = [  # (tag, type, values): 3 is a short number, 4 a long one
        (256, 3, [width]),
        (257, 3, [height]),
        (258, 3, bits),
        (259, 3, [1]),
        (262, 3, [1 if channels == 1 else 2]),
        (273, 4, [None]),  # where the pixels are
        (277, 3, [channels]),
        (278, 3, [height]),
        (279, 4, [values.nbytes]),
        (339, 3, [kind] * channels),
    ]
    directory, beyond = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    for tag, of_type, told in tags:
        told = [start + 200 if one is None else one for one in told]
        packed = struct.pack(f"{order}{len(told)}{'H' if of_type == 3 else 'I'}", *told)
        if len(packed) > 4:
            beyond, packed = beyond + packed, struct.pack(f"{order}I", start + len(beyond))
        directory += struct.pack(f"{order}HHI", tag, of_type, len(told)) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    body = struct.pack(f"{order}H", len(tags)) + directory + bytes(4) + beyond.ljust(200, b"\0")
    return head + body + values.tobytes()


def netpbm(magic, pixels, largest):
    """A PPM or PGM, in bytes (P5, P6) or in words (P2, P3)."""
    head = f"{magic}\n{SIDE} {SIDE}\n{largest}\n".encode()
    if magic in ("P2", "P3"):
        return head + " ".join(map(str, pixels.ravel())).encode() + b"\n"
    return head + pixels.astype(">u2" if largest > 255 else np.uint8).tobytes()


def bmp565(pixels):
    """A BMP with 16 bits a pixel: 5 for red, 6 for green, 5 for blue."""
    red, green, blue = np.moveaxis(pixels[::-1].astype(np.uint16), 2, 0)
    packed = (red >> 3 << 11 | green >> 2 << 5 | blue >> 3).astype("<u2").tobytes()
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    start = 14 + 40 + 12
    head = struct.pack("<2sIHHI", b"BM", start + len(packed), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 16, 3, len(packed), 0, 0, 0, 0)
    return head + info + masks + packed


def saved(image, kind, **options):
    """What Pillow writes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def deep_jpeg2000():
    """Colours of 8 bits whose header says 12."""
    content = bytearray(saved(Image.fromarray(ramp(255, 3, np.uint8)), "JPEG2000"))
    first = content.index(b"\xff\x4f\xff\x51") + 4 + 38
    content[first], content[first + 3], content[first + 6] = 11, 11, 11
    return bytes(content)


@pytest.fixture
def copy(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copy")


GREY16, RGB16 = ramp(65535)[..., 0], ramp(65535, 3)
DEEP = {
    "png grey": (png(ramp(65535)), "16-bit"),
    "png grey and alpha": (png(ramp(65535, 2)), "16 bits"),
    "png colours": (png(RGB16), "16 bits"),
    "png colours and alpha": (png(ramp(65535, 4)), "16 bits"),
    "png by Pillow": (saved(Image.fromarray(GREY16), "PNG"), "16-bit"),
    "tiff uint16": (tiff(ramp(65535)), "16-bit"),
    "tiff uint16, other order": (tiff(ramp(65535), order=">"), "16-bit"),
    "tiff int16": (tiff(ramp(32767, dtype=np.int16)), "32-bit|16-bit|16 bits"),
    "tiff uint32": (tiff(ramp(2**32 - 1, dtype=np.uint32)), "32-bit"),
    "tiff int32": (tiff(ramp(2**31 - 1, dtype=np.int32)), "32-bit"),
    "tiff float32": (tiff(ramp(1, dtype=np.float32)), "floating-point"),
    "tiff colours": (tiff(RGB16), "16 bits"),
    "tiff colours, other order": (tiff(RGB16, order=">"), "16 bits"),
    "tiff colours and alpha": (tiff(ramp(65535, 4)), "16 bits"),
    "tiff compressed": (
        saved(Image.fromarray(GREY16), "TIFF", compression="tiff_deflate"),
        "16-bit",
    ),
    "tiff of floats, compressed": (
        saved(Image.fromarray(GREY16.astype(np.float32)), "TIFF", compression="tiff_lzw"),
        "floating-point",
    ),
    "ppm": (netpbm("P6", RGB16, 65535), "16 bits"),
    "ppm of 10 bits": (netpbm("P6", ramp(1023, 3), 1023), "16 bits"),
    "pgm": (netpbm("P5", ramp(65535), 65535), "32-bit|16-bit"),
    "ppm in words": (netpbm("P3", RGB16, 65535), "16 bits"),
    "pgm in words": (netpbm("P2", ramp(4095), 4095), "32-bit|16-bit"),
    "pfm": (saved(Image.fromarray(GREY16.astype(np.float32)), "PPM"), "floating-point"),
    "sgi": (saved(Image.fromarray(ramp(255, 1, np.uint8)[..., 0]), "SGI", bpc=2), "16 bits"),
    "jpeg 2000 grey": (saved(Image.fromarray(GREY16), "JPEG2000"), "16-bit"),
    "jpeg 2000 colours": (deep_jpeg2000(), "12 bits"),
}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_a_channel_are_refused_in_one_line_with_the_bits(tmp_path, name, suffix):
    content, words = DEEP[name]
    path = tmp_path / f"deep{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path} has ({words}).* \(mode .*\).*asinh") as error:
        read_whole(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pixels", [ramp(1, 3, np.float32), ramp(1, 1, np.float64)])
def test_what_pillow_does_not_know_is_refused_though_its_bits_cannot_be_told(tmp_path, pixels):
    (tmp_path / "unknown.tif").write_bytes(tiff(pixels))
    with pytest.raises(ValueError, match="cannot read the image .*unknown.tif") as error:
        read_whole(tmp_path / "unknown.tif")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_folder_with_one_deep_image_is_not_read_past_it(copy, split):
    path = copy / split / "round" / "003.png"
    path.write_bytes(DEEP["png colours"][0])
    with pytest.raises(ValueError, match=f"1 of 72 images .* such as {split}/round/003.png, and"):
        data.load("folder", split, data_dir=copy).array()


LOSSLESS = (
    [("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    + [("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")]
    + [
        (kind, mode)
        for kind, modes in dict(
            BMP="1 L P RGB", GIF="1 L P", PPM="1 L RGB", SGI="L RGB", TGA="L P RGB"
        ).items()
        for mode in modes.split()
    ]
)
COLOURS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)


def of_mode(mode):
    picture = Image.fromarray(COLOURS)
    if mode == "P":
        return picture.convert("RGB").quantize(16)
    return picture.convert("RGB").convert(mode) if mode != "RGBA" else picture


def on_black(image):
    """uint8 (H, W, 3): each colour by its opacity, rounded."""
    if image.mode not in ("RGBA", "LA"):
        return np.asarray(image.convert("RGB"))
    colours = np.asarray(image.convert("RGBA")).astype(float)
    return np.floor(colours[..., :3] * colours[..., 3:] / 255 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["", ".png", ".jpg"])
@pytest.mark.parametrize("kind, mode", LOSSLESS)
def test_images_of_8_bits_are_read_as_the_rgb_that_they_stand_for(tmp_path, kind, mode, suffix):
    image = of_mode(mode)
    path = tmp_path / f"plain{suffix}"
    path.write_bytes(saved(image, kind))
    pixels = read_whole(path)
    assert pixels.dtype == np.uint8 and np.array_equal(pixels, on_black(image))


@pytest.mark.parametrize(
    "kind, mode",
    [("JPEG", mode) for mode in ("L", "RGB", "CMYK", "YCbCr")]
    + [("WEBP", mode) for mode in ("RGB", "RGBA")]
    + [("JPEG2000", mode) for mode in ("L", "RGB", "RGBA")],
)
def test_compressed_photographs_are_read_nearly_as_they_were(tmp_path, kind, mode):
    smooth = Image.fromarray(ramp(255, 3, np.uint8)).convert(mode)
    (tmp_path / "photograph").write_bytes(saved(smooth, kind, quality=95))
    pixels = read_whole(tmp_path / "photograph")
    assert pixels.shape == (SIDE, SIDE, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - on_black(smooth)).mean() < 12


def test_hidden_colours_of_transparent_pixels_do_not_appear(tmp_path):
    colours = np.full((8, 8, 4), (255, 0, 255, 0), np.uint8)
    colours[:4] = (10, 200, 30, 255)
    Image.fromarray(colours).save(tmp_path / "a.png")
    Image.fromarray(colours[..., :3]).save(tmp_path / "b.png", transparency=(255, 0, 255))
    palette = Image.fromarray(colours[..., :3]).quantize(4)
    clear = palette.getpixel((0, 7))
    palette.save(tmp_path / "c.png", transparency=clear)
    palette.save(tmp_path / "d.gif", transparency=clear)
    Image.fromarray(colours).save(tmp_path / "e.webp", lossless=True)
    Image.fromarray(colours).save(tmp_path / "f.tif")
    for path in sorted(tmp_path.iterdir()):
        pixels = read_whole(path)
        assert (pixels[4:] == 0).all() and abs(pixels[:4].astype(int) - (10, 200, 30)).max() <= 2
        assert rules_of(path) == ["transparent"], path


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_an_image_lies_as_its_orientation_says(tmp_path, suffix, number):
    shown = np.zeros((24, 48, 3), np.uint8)
    shown[:8, :16], shown[16:, 32:] = (250, 0, 0), (0, 0, 250)  # red above left, blue below right
    picture = Image.fromarray(shown)
    # as a camera stores it: what the orientation says undone
    turn = TURNED.get(number)
    back = {Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
            Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90}.get(turn, turn)  # fmt: skip
    exif = Image.Exif()
    exif[274] = number
    stored = picture if back is None else picture.transpose(back)
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif, **({"quality": 98} if suffix in ("jpg", "webp") else {}))
    pixels = read_whole(path)
    assert pixels.shape == shown.shape and size_of(path) == (48, 24)
    assert np.abs(pixels.astype(int) - shown).mean() < 8
    assert rules_of(path) == (["turned"] if number > 1 else [])


def test_an_orientation_that_makes_no_sense_changes_nothing(tmp_path):
    exif = Image.Exif()
    exif[274] = 0
    picture = Image.fromarray(COLOURS[..., :3])
    picture.save(tmp_path / "a.png", exif=exif)
    picture.save(tmp_path / "b.png", exif=b"Exif\0\0 broken")
    for name in ("a.png", "b.png"):
        assert np.array_equal(read_whole(tmp_path / name), COLOURS[..., :3])
        assert rules_of(tmp_path / name) == []


def test_fewer_than_8_bits_are_spread_over_the_whole_range():
    for bits in (1, 2, 4):
        values = ramp(2**bits - 1, 1, np.uint8)
        pixels = np.asarray(open_rgb(io.BytesIO(png(values, bits=bits))))
        assert np.array_equal(pixels[..., 1], values[..., 0] * (255 // (2**bits - 1)))
    fifteen = ramp(15, 3)
    for magic in ("P3", "P6"):
        pixels = np.asarray(open_rgb(io.BytesIO(netpbm(magic, fifteen, 15))))
        assert np.array_equal(pixels, fifteen * 17)
    plain = b"P1\n2 2\n1 0\n0 1\n"  # 1 is black
    assert np.asarray(open_rgb(io.BytesIO(plain)))[..., 0].tolist() == [[0, 255], [255, 0]]


def test_16_bits_for_a_whole_pixel_are_fewer_than_8_for_a_channel():
    pixels = np.asarray(open_rgb(io.BytesIO(bmp565(COLOURS[..., :3]))))
    assert np.abs(pixels.astype(int) - COLOURS[..., :3]).max() <= 8


WHOLE = [
    saved(of_mode(mode), kind) for kind, mode in (("PNG", "RGB"), ("TIFF", "RGB"), ("GIF", "P"))
] + [saved(of_mode("RGB"), kind) for kind in ("JPEG", "BMP", "WEBP", "PPM", "SGI", "JPEG2000")]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of tags
@given(content=st.sampled_from(WHOLE), data=st.data())
def test_whatever_befalls_a_file_it_is_read_or_refused_in_one_line(content, data):
    """Cut short, or with some bytes changed near its beginning, where its header is."""
    broken = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for place in data.draw(st.lists(st.integers(0, 60), max_size=4)):
        if place < len(broken):
            broken[place] = data.draw(st.integers(0, 255))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # a header may promise gigabytes
        try:
            image = open_rgb(io.BytesIO(bytes(broken)), shown="SHOWN")
        except ValueError as error:
            assert "\n" not in str(error) and "the image SHOWN" in str(error)
        else:
            assert image.mode == "RGB" and np.asarray(image).dtype == np.uint8
