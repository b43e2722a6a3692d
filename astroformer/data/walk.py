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

# Suffixes of images that Pillow reads.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".webp", ".avif", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2"),
}
# Files of astronomers and others that hold images and that are not read as such.
CONTAINERS = {
    **dict.fromkeys((".fits", ".fit", ".fts", ".fits.gz", ".fits.fz"), "FITS"),
    **dict.fromkeys((".npy", ".npz"), "NumPy"),
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
    place: Path, left_out: Counter[str] | None = None, *, suffixes: Iterable[str] = SUFFIXES
) -> list[Path]:
    """Every image at any depth below a folder, in the order of the names; `left_out` counts the
    rest, by suffix. ValueError for the link of an image that leads nowhere.
    """
    left_out = Counter() if left_out is None else left_out
    found = list(_images_below(os.fspath(place), left_out, frozenset(suffixes), ()))
    return [
        Path(place, *names) for names in sorted(found, key=lambda names: [*map(_by_name, names)])
    ]


def others_below(place: Path) -> list[Path]:
    """Every file of CONTAINERS at any depth below a folder, in the order of the names."""
    return images_below(place, suffixes=CONTAINERS)


def _images_below(
    place: str, left_out: Counter[str], suffixes: frozenset[str], above: tuple[tuple[int, int], ...]
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
            for names in _images_below(entry.path, left_out, suffixes, (*above, own)):
                yield entry.name, *names
        elif (suffix := suffix_of(entry.name)) not in suffixes or not _is_image(entry):
            left_out[suffix or OTHER] += 1
        else:
            yield (entry.name,)


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a chain of links without an end
        return False


def _is_image(entry: os.DirEntry) -> bool:
    """Whether it is a file; ValueError for a link that leads to none."""
    try:
        if entry.is_file():
            return True
    except OSError:
        pass
    if entry.is_symlink() and not os.path.exists(entry.path):
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
    """What is said of files that hold images or labels in a format that is not read; "" for
    none.
    """
    kinds = sorted({CONTAINERS[one] for one in map(_first, left_out) if one in CONTAINERS})
    said = ""
    if kinds:
        said += (
            f"; {' and '.join(kinds)} files are not read: convert them to PNG or TIFF, one image a "
            "file (astropy.io.fits, numpy.load)"
        )
    if any(one in SUFFIXES for one in map(_first, left_out)):
        said += "; sort the images into a folder for each class, as a table of labels is not read"
    return said


def _first(what: str) -> str:
    """The suffix in ".jpg outside of a class folder"."""
    return what.partition(" ")[0]
