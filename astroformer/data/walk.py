"""The one walk through folders of images, for every source that reads files by their places.

Hidden names are no data: those that begin with a dot (.DS_Store, .ipynb_checkpoints, and the
._x.jpg that macOS writes beside x.jpg), and what systems leave behind (SYSTEM). Links are followed.
What else is no image is left out and counted by its suffix, so that nobody trains on a part of the
data without a word.

Names are compared as `readable` has them, so that one folder on two systems has the same classes in
the same order.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

# Suffixes of pictures, which Pillow reads.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".webp", ".avif", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2"),
}
PICTURES = "pictures"
_FITS = (".fits", ".fit", ".fts")
# Suffixes of files of one image each that hold values, and what they are called.
VALUES = {
    **dict.fromkeys(
        (*_FITS, ".fz", *(one + packed for one in _FITS for packed in (".gz", ".fz", ".bz2"))),
        "FITS",
    ),
    ".npy": "NumPy",
}
# Files that hold images and that are not read as a folder's.
CONTAINERS = {
    ".npz": "packed NumPy",
    **dict.fromkeys((".h5", ".hdf5"), "HDF5"),
    ".parquet": "Parquet",
}
SYSTEM = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"),
    *("lost+found", "system volume information"),
}
HIDDEN, LOOP, OTHER = "hidden", "link that leads back", "without a suffix"
PACKED = (".gz", ".fz", ".bz2", ".xz", ".zst")


def hidden(name: str) -> bool:
    """Whether a name of a file or folder is no data."""
    return name.startswith(".") or name.casefold() in SYSTEM


def readable(name: str) -> str:
    """A name as text in one spelling: UTF-8, else Latin-1, with each accented letter composed
    (NFC); a Mac composes none.
    """
    raw = os.fsencode(name)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return unicodedata.normalize("NFC", text)


def suffix_of(name: str) -> str:
    """The suffix in small letters: ".fits.gz" of a packed file; "" if there is none."""
    stem, suffix = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1] + suffix if suffix in PACKED else suffix


def folders_in(place: Path) -> list[Path]:
    """The folders that are data, links to folders among them, in the order of their names."""
    found = [
        Path(entry) for entry in os.scandir(place) if not hidden(entry.name) and _is_dir(entry)
    ]
    return sorted(found, key=lambda path: _by_name(path.name))


def images_below(
    place: Path,
    left_out: Counter[str] | None = None,
    *,
    suffixes: Iterable[str] = SUFFIXES,
    dangling: bool = False,
) -> list[Path]:
    """Every image at any depth below a folder, in the order of the names; `left_out` counts the
    rest, by suffix. ValueError for the link of an image that leads nowhere, unless such links are
    listed, too (`dangling`).
    """
    left_out = Counter() if left_out is None else left_out
    found = list(_images_below(os.fspath(place), left_out, frozenset(suffixes), dangling, ()))
    return [
        Path(place, *names) for names in sorted(found, key=lambda names: [*map(_by_name, names)])
    ]


def kind_of(path: str | os.PathLike) -> str:
    """What an image's file is by its suffix: PICTURES, "FITS" or "NumPy"; "" for no image."""
    suffix = suffix_of(os.fspath(path))
    return PICTURES if suffix in SUFFIXES else VALUES.get(suffix, "")


def others_below(place: Path) -> list[Path]:
    """Every file of CONTAINERS at any depth below a folder, in the order of the names."""
    return images_below(place, suffixes=CONTAINERS)


def _images_below(
    place: str,
    left_out: Counter[str],
    suffixes: frozenset[str],
    dangling: bool,
    above: tuple[tuple[int, int], ...],
) -> Iterable[tuple[str, ...]]:
    """The names of folders and file of each image; `above`: the folders around this one."""
    told = os.stat(place)
    own = (told.st_dev, told.st_ino)
    if own in above:
        left_out[LOOP] += 1
        return
    for entry in os.scandir(place):
        if hidden(entry.name):
            left_out[HIDDEN] += 1
        elif _is_dir(entry):
            for names in _images_below(entry.path, left_out, suffixes, dangling, (*above, own)):
                yield entry.name, *names
        elif (suffix := suffix_of(entry.name)) not in suffixes or not (_is_image(entry, dangling)):
            left_out[suffix or OTHER] += 1
        else:
            yield (entry.name,)


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a chain of links without an end
        return False


def _is_image(entry: os.DirEntry, dangling: bool = False) -> bool:
    """Whether it is a file, or (`dangling`) a link that leads to none; ValueError for one else."""
    try:
        if entry.is_file():
            return True
    except OSError:
        pass
    if entry.is_symlink() and not os.path.exists(entry.path):
        if dangling:
            return True
        raise ValueError(
            f"{entry.path} is a link that leads nowhere, as links of git-annex and DVC do before "
            "their files are fetched; fetch the file or remove the link"
        )
    return False


def _by_name(name: str) -> tuple[str, bytes]:
    return readable(name), os.fsencode(name)


def counted(left_out: Counter[str]) -> str:
    """ "12 .fits, 3 hidden": what was left out, the most frequent first."""
    order = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number:,} {what}" for what, number in order)


def not_read(left_out: Counter[str]) -> str:
    """What is said of files that are no images of this data set: in a format that is not read, of
    another kind than the others, or without a class; "" for none.
    """
    kinds = sorted({CONTAINERS[one] for one in map(_first, left_out) if one in CONTAINERS})
    values = sorted({VALUES[one] for one in left_out if one in VALUES})
    said = ""
    if kinds:
        said += (
            f"; {' and '.join(kinds)} files are not read: write one image a file, as FITS, NPY, "
            "TIFF or PNG"
        )
    if values:
        said += (
            f"; {' and '.join(values)} files are not read beside pictures, as a data set has "
            "images of one kind: move the others away, or choose these with --stretch asinh"
        )
    if any(one in SUFFIXES or one in VALUES for one in map(_loose, left_out)):
        said += (
            "; sort the images into a folder for each class, or name a table of their labels with "
            "--labels FILE"
        )
    return said


LOOSE = "outside of a class folder"


def _loose(what: str) -> str:
    """The suffix of images that lie outside of a class folder, in ".jpg outside of a class folder";
    "" for others.
    """
    suffix, _, rest = what.partition(" ")
    return suffix if rest == LOOSE else ""


def _first(what: str) -> str:
    """The suffix in ".jpg outside of a class folder"."""
    return what.partition(" ")[0]
