"""Images without labels: which files they are, and how one becomes what a network sees.

A folder is walked at any depth, a single file is one image, and any other file is a list of paths,
one a line. What cannot be read is known by its reason and stops nothing.

Reads top to bottom: Inputs, inputs_of and its kinds, Unlabelled (what a loader reads).
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from astroformer.data import stretch, values, walk
from astroformer.data.loader import ImageDataset
from astroformer.data.values import Reading
from astroformer.inference.members import Cut

Source = str | tuple[str, ...]  # a file, or one for each band ("" for a band that has none)
REASON = 400  # bytes of the reason why a file is not read, at most
LIST = {"", ".txt", ".lst", ".list"}  # suffixes of a list of paths
IMAGES = {*walk.SUFFIXES, *walk.VALUES}


@dataclass(frozen=True)
class Inputs:
    """N images: their names, relative to what was given, and their files.

    left_out: files that are no images, by suffix
    """

    names: tuple[str, ...]
    sources: tuple[Source, ...]
    left_out: Counter[str]
    shown: str  # what was given, for words

    def __len__(self) -> int:
        return len(self.sources)

    def signature(self) -> str:
        """SHA-256 over the names, sizes and times of all files."""
        digest = hashlib.sha256()
        for name, source in zip(self.names, self.sources, strict=True):
            for path in files_of(source):
                try:
                    told = os.stat(path)
                    version = f"{told.st_size} {told.st_mtime_ns}"
                except OSError:
                    version = "absent"
                digest.update(f"{name}\0{version}\0".encode(errors="surrogateescape"))
        return digest.hexdigest()


def files_of(source: Source) -> tuple[str, ...]:
    return (source,) if isinstance(source, str) else tuple(filter(None, source))


def inputs_of(given: str | Path | Sequence[str | Path], reading: Reading | None) -> Inputs:
    """The images that a folder, a file, a list of paths in a file, or a sequence of paths means.

    A list's paths are relative to the current folder or, where its first is not found there, to the
    list's own. FileNotFoundError or ValueError in one line for what holds no image at all.

    reading: how the networks' run read its images, which tells pictures from values and whether
        each band has a file of its own
    """
    if not isinstance(given, str | Path):
        return _of_paths(list(map(str, given)), Path(), reading, "the list")
    path = Path(given).expanduser()
    if path.is_dir():
        return in_folder(path, reading)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}; give a folder of images, an image, or a text file with a path on "
            "each line"
        )
    suffix = walk.suffix_of(path.name)
    if suffix in IMAGES:
        return Inputs((path.name,), (str(path),), Counter(), str(path))
    if suffix not in LIST:
        raise ValueError(
            f"{path} is neither an image ({', '.join(sorted(IMAGES))}) nor a text file with a path "
            "on each line"
        )
    return _of_list(path, reading)


def in_folder(folder: Path, reading: Reading | None) -> Inputs:
    """Every image at any depth below a folder. FileNotFoundError for none."""
    left_out: Counter[str] = Counter()
    files = walk.images_below(folder, left_out, suffixes=IMAGES, dangling=True)
    kinds = Counter(walk.kind_of(one) for one in files)
    # as a data set has images of one kind, and previews may lie beside values
    known = (*{**dict.fromkeys(walk.VALUES.values())}, walk.PICTURES)
    order = known if reading and (reading.stretch or reading.bands) else known[::-1]
    kind = next((one for one in order if kinds[one]), walk.PICTURES)
    for one in files:
        if walk.kind_of(one) != kind:
            left_out[walk.suffix_of(one.name)] += 1
    chosen = [str(one) for one in files if walk.kind_of(one) == kind]
    if not chosen:
        lies = f", but {walk.counted(left_out)}" if +left_out else ""
        raise FileNotFoundError(f"{folder} has no images at any depth{lies}")
    names = [os.path.relpath(one, folder) for one in chosen]
    return _by_bands(names, chosen, reading, left_out, str(folder))


def _of_list(path: Path, reading: Reading | None) -> Inputs:
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file with a path on each line ({error})") from error
    if "\0" in text:
        raise ValueError(f"{path} is no text file with a path on each line")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise ValueError(f"{path} names no image: it needs a path on each line")
    relative = next((line for line in lines if not os.path.isabs(line)), "")
    base = path.parent if relative and not os.path.exists(relative) else Path()
    return _of_paths(lines, base, reading, str(path))


def _of_paths(lines: list[str], base: Path, reading: Reading | None, shown: str) -> Inputs:
    if not lines:
        raise ValueError("the list of images is empty")
    sources = [str(base / Path(line).expanduser()) for line in lines]
    return _by_bands(lines, sources, reading, Counter(), shown)


def _by_bands(
    names: list[str], files: list[str], reading: Reading | None, left_out: Counter[str], shown: str
) -> Inputs:
    """The images, where each band may have a file: NAME_g.fits, NAME_r.fits, ... are one, called
    NAME.fits. One that lacks a band keeps its place, and is told of when it is read.
    """
    order = reading.bands if reading else ()
    bands = [one for one in order if not one.isdecimal()]
    end = re.compile(f"(.+)[_.-]({'|'.join(map(re.escape, sorted(bands, key=len)[::-1]))})")

    def parts(name: str) -> tuple[str, str, str]:
        suffix = walk.suffix_of(name)
        match = end.fullmatch(name[: len(name) - len(suffix)]) if bands else None
        return (match[1], match[2], suffix) if match else ("", "", suffix)

    if not bands or not any(parts(name)[1] for name in names):
        return Inputs(tuple(map(as_text, names)), tuple(files), left_out, shown)
    found: dict[str, dict[str, str]] = {}
    for name, path in zip(names, files, strict=True):
        stem, band, suffix = parts(name)
        if band:
            found.setdefault(f"{stem}{suffix}", {}).setdefault(band, path)
        else:
            left_out[f"{suffix} of no band that is asked for"] += 1
    sources = [tuple(own.get(band, "") for band in order) for own in found.values()]
    return Inputs(tuple(map(as_text, found)), tuple(sources), left_out, shown)


def as_text(name: str) -> str:
    """A file's name as it is, as far as it is UTF-8; other bytes as \\xNN."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def check_units(inputs: Inputs, reading: Reading | None) -> None:
    """ValueError in one line for values that are in other units than those that the networks were
    trained on, so that the stretch would make black or white of them.
    """
    if reading is None or reading.stretch is None:
        return
    number = len(inputs)
    found = []
    for i in np.unique(np.linspace(0, number - 1, min(number, stretch.LOOKED_AT)).astype(int)):
        try:
            found.append(values.read(inputs.sources[i], reading.bands))
        except Exception:  # whoever predicts it says so
            continue
    if len({one.shape[2] for one in found}) == 1:
        what = f"the images of {inputs.shown}"
        stretch.check_units(reading.stretch, found, lambda one: one, what)


class Unlabelled(ImageDataset):
    """Images for a loader: the key (c, i) is image i under cut c, as (uint8 (C, H, W), reason).

    The reason why an image cannot be read is a text in uint8 (REASON,), UTF-8 with zeros behind it;
    the image is black then.
    """

    def __init__(self, inputs: Inputs, cuts: Sequence[Cut]):
        self.inputs, self.cuts = inputs, cuts

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """uint8 (B, C, H, W), uint8 (B, REASON); all keys of one cut."""
        squares, reasons = zip(*(self.read(*key) for key in keys), strict=True)
        stacked = torch.from_numpy(np.stack(squares))
        return stacked.permute(0, 3, 1, 2), torch.from_numpy(np.stack(reasons))

    def read(self, cut: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (H, W, C), uint8 (REASON,)"""
        how, source = self.cuts[cut], self.inputs.sources[index]
        reason = np.zeros(REASON, dtype=np.uint8)
        try:
            if isinstance(source, tuple) and "" in source and how.reading is not None:
                band = how.reading.bands[source.index("")]
                raise ValueError(f"there is no file of band {band}")
            return how(source), reason
        except Exception as error:  # a file of others can raise anything, and the rest goes on
            told = self._told(error, source).encode()[:REASON]
            reason[: len(told)] = np.frombuffer(told, dtype=np.uint8)
            black = np.zeros((how.size, how.size, how.channels), dtype=np.uint8)
            return black, reason

    def _told(self, error: Exception, source: Source) -> str:
        """One line, without the path, which stands beside it."""
        said = " ".join(as_text(str(error)).split())
        if isinstance(error, OSError) and error.strerror:
            said = error.strerror.lower()
        if not isinstance(error, OSError | ValueError) or not said:
            said = f"{type(error).__name__}: {said}".rstrip(": ")
        for path in files_of(source):
            said = said.replace(as_text(path), os.path.basename(as_text(path)))
        return said

    def __getstate__(self) -> dict:
        return vars(self)

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)


def reasons_of(told: Tensor) -> list[str]:
    """(B, REASON) -> "" for each image that was read, else why it was not."""
    return [bytes(one).rstrip(b"\0").decode(errors="ignore") for one in told.numpy()]
