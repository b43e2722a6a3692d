"""Galaxy10 DECaLS in its edition on Hugging Face (matthieulel/galaxy10_decals): Parquet files whose
rows hold an encoded image and its label, with a split of their own.

ROOT/**/train-00000-of-00005.parquet, ..., test-00000-of-00001.parquet, or train/0000.parquet, ...
    image {bytes, path}, label in 0..9

Labels are read when the data set is opened. An image is decoded when asked for, with those that are
packed with it; before training all are copied once into a memory map, as of the HDF5 file.
"""

import io
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from astroformer import paths
from astroformer.data import listing, pixels, walk
from astroformer.data.images import About, fingerprint
from astroformer.data.morphology import CLASS_NAMES

if TYPE_CHECKING:
    import pyarrow.parquet as pq

TITLE = "Galaxy10 DECaLS (Hugging Face edition)"
SIZE = 256  # pixels, height and width
FULL = {"train": 15_962, "test": 1_774}  # images
GROUPS = 4  # of rows that are packed together, kept by a process
GET = (
    "download the data set matthieulel/galaxy10_decals from Hugging Face anew, or the publishers' "
    "own file with `astroformer data fetch galaxy10_decals`"
)


def files_in(root: Path) -> dict[str, list[Path]]:
    """The Parquet files of each split, in the order of their names; {} for none."""
    found: dict[str, list[Path]] = {}
    for path in walk.others_below(root) if root.is_dir() else []:
        if path.suffix != ".parquet":
            continue
        names = (path.name.partition("-")[0], path.parent.name)
        split = next((one for one in names if one in FULL), "")
        if split:
            found.setdefault(split, []).append(path)
    return {split: found[split] for split in FULL if split in found}


@dataclass(frozen=True)
class Parquet:
    """The images of a split, see `galaxy10.Store`."""

    files: tuple[Path, ...]
    versions: tuple[tuple[int, ...], ...]

    size: int = SIZE

    @property
    def number(self) -> int:
        return len(self.labels())

    @property
    def shown(self) -> str:
        return f"{self.files[0].name} and {len(self.files) - 1} more"

    @property
    def copy(self) -> Path:
        return paths.cache() / "galaxy10_decals" / f"{self.sha256()[:16]}-parquet.npy"

    def labels(self) -> np.ndarray:
        """(N,) int64"""
        read = [_labels(path, own) for path, own in zip(self.files, self.versions)]
        return np.concatenate([labels for labels, _ in read])

    def sha256(self) -> str:
        """Of labels, sizes and samples of the files."""
        told = [_labels(path, own) for path, own in zip(self.files, self.versions)]
        return fingerprint(
            *(part for labels, pieces in told for part in (labels.tobytes(), *pieces)),
            *(f"{own[0]} bytes" for own in self.versions),
        )

    def images(self, start: int, stop: int) -> np.ndarray:
        return np.stack([self.image(place) for place in range(start, stop)])

    def image(self, place: int) -> np.ndarray:
        """uint8 (256, 256, 3)"""
        for path, own in zip(self.files, self.versions):
            number = len(_labels(path, own)[0])
            if place < number:
                break
            place -= number
        group, row = _group_of(path, own, int(place))
        encoded = _encoded(path, own, group)[row]
        shown = f"{path}, image {place}"
        with pixels.open_rgb(io.BytesIO(encoded), shown=shown) as image:
            found = np.asarray(image)
        if found.shape != (SIZE, SIZE, 3):
            raise damaged(path, f"image {place} has the shape {found.shape}")
        return found


def store(root: Path, split: str) -> Parquet:
    found = files_in(root)
    if split not in found:
        there = ", ".join(one.name for own in found.values() for one in own)
        raise FileNotFoundError(f"{root} has no {split} images of {TITLE}, only {there}; {GET}")
    files = tuple(found[split])
    return Parquet(files, tuple(listing.version(one) for one in files))


def about(name: str, root: Path) -> About:
    stores = {split: store(root, split) for split in files_in(root)}
    counts = {split: own.number for split, own in stores.items()}
    told = ", ".join(f"{number:,} {split}" for split, number in counts.items())
    return About(
        name,
        TITLE if counts == FULL else f"part of {TITLE} ({told} images)",
        "real",
        fingerprint(*(f"{split} {own.sha256()}" for split, own in sorted(stores.items()))),
        "images: DESI Legacy Imaging Surveys, labels: Galaxy Zoo; as encoded for Hugging Face, "
        "with that edition's own split; the fingerprint is of labels and samples of the files",
    )


@lru_cache(maxsize=16)
def _labels(path: Path, version: tuple[int, ...]) -> tuple[np.ndarray, list[bytes]]:
    """The labels of a file, (N,) int64, and pieces of its bytes. ValueError in one line for another
    kind of file.
    """
    import pyarrow as pa

    try:
        opened = _file(path, version, os.getpid())
        schema = opened.schema_arrow
        kind = schema.field("image").type if "image" in schema.names else None
        if kind is None or not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            raise damaged(path, f"its columns are {', '.join(schema.names)}, not image and label")
        if "label" not in schema.names:
            raise damaged(path, "it has no column label")
        column = opened.read(columns=["label"])["label"]
        labels = column.to_numpy()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise damaged(path, str(error)) from error
    if column.null_count or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        raise damaged(path, f"its {len(labels):,} labels are {labels.dtype}")
    if labels.min() < 0 or labels.max() >= len(CLASS_NAMES):
        raise damaged(path, f"its labels go from {labels.min()} to {labels.max()}, not 0 to 9")
    return labels.astype(np.int64), listing.samples(path)


@lru_cache(maxsize=16)
def _file(path: Path, version: tuple[int, ...], process: int) -> "pq.ParquetFile":
    """Opened once in each process."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path)


def _group_of(path: Path, version: tuple[int, ...], row: int) -> tuple[int, int]:
    """The group of rows in which one lies, and its place there."""
    told = _file(path, version, os.getpid()).metadata
    for group in range(told.num_row_groups):
        number = told.row_group(group).num_rows
        if row < number:
            return group, row
        row -= number
    raise IndexError(row)


@lru_cache(maxsize=GROUPS)
def _encoded(path: Path, version: tuple[int, ...], group: int) -> list[bytes]:
    import pyarrow as pa

    try:
        opened = _file(path, version, os.getpid())
        column = opened.read_row_group(group, columns=["image"])["image"]
        return [one["bytes"] for one in column.to_pylist()]
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, f"its images cannot be read: {error}") from error


def damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"{path} is not of {TITLE}: {' '.join(what.split())}; {GET}")
