"""Labels by a table: CSV, Parquet or a FITS table with a row for each image, its label or the votes
for each class, and perhaps its position and its split.

Columns are found by the names that are usual, or given. A row belongs to the image whose place
below the folder, name, or name without the suffix is the row's id. Images within an arcsecond of
one another show one object, and a test part is drawn by objects, so that no object is trained and
tested on; it follows from the seed and the images' places alone.

Reads top to bottom: Table, labelled (what the rows say of the images), columns and cells, objects,
drawn.
"""

import codecs
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astroformer.data import walk
from astroformer.data.walk import readable

if TYPE_CHECKING:
    import pandas as pd

SAME_OBJECT = 1.0  # arcseconds
SNIFFED = 2**20  # bytes of a text file that tell its encoding
SHOWN = 3  # names that a remark or an error lists
# Names of columns that are usual, in small letters without what is no letter or digit; the first of
# them that a table has.
USUAL = {
    "label": (
        *("label", "class", "target", "category", "classname", "labelname", "morphology"),
        *("morphologicaltype", "morph", "type", "gz2class", "ans"),
    ),
    "id": (
        *("file", "filename", "path", "image", "imagename", "imageid", "imagefile", "cutout"),
        *("id", "galaxyid", "objectid", "objid", "sourceid", "assetid", "idstr", "iauname"),
        *("dr7objid", "dr8objid", "targetid", "name"),
    ),
    "ra": ("ra", "raj2000", "radeg", "raj2000deg", "alphaj2000", "rightascension", "rad"),
    "dec": ("dec", "dej2000", "decj2000", "decdeg", "deltaj2000", "declination", "decd"),
    "split": ("split",),
}
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}
WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")  # a number, as a program that lacks some may write it
PARQUET = (".parquet", ".pq")
TEXT = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")


# What is asked of a table, and the table itself, by the names of `data.load` and of commands.
ASKED = ("labels", "label_column", "id_column", "votes", "threshold", "soft_targets")


@dataclass(frozen=True)
class Table:
    """A table of labels as it is asked for; empty names are found by what is usual.

    votes: columns with the votes for each class, or their fractions, in place of a label
    threshold: part of the votes that the label must have; with soft targets 0 asks for none
    soft_targets: networks are trained to give the votes' fractions, not the label alone
    """

    path: Path
    label_column: str = ""
    id_column: str = ""
    votes: tuple[str, ...] = ()
    threshold: float = 0.0
    soft_targets: bool = False

    def __post_init__(self):
        if self.votes and self.label_column:
            raise ValueError("a label is a column or made of votes; give --label-column or --votes")
        if len(self.votes) == 1:
            raise ValueError(f"--votes {self.votes[0]} names one class; a classifier needs two")
        if self.votes and not (0 < self.threshold <= 1 or self.soft_targets and not self.threshold):
            raise ValueError(
                "votes become a label by a part of them that agrees; give --threshold 0.8, say, or "
                "train on their fractions with --soft-targets"
            )
        for name, given in (("threshold", self.threshold), ("soft-targets", self.soft_targets)):
            if given and not self.votes:
                raise ValueError(f"--{name} is about votes; name their columns with --votes a,b")


@dataclass(frozen=True)
class Labelled:
    """What a table says of the images that it names, in the order of their places."""

    sources: list
    places: list[str]  # below the folder
    labels: list[str]
    splits: list[str]  # "train", "test", or "" where the table does not say
    objects: np.ndarray  # (N,) numbers of the objects that they show
    positions: bool  # whether objects are told by positions; else each image is one
    remarks: tuple[str, ...] = ()
    classes: tuple[str, ...] = field(default=())  # in the order of the labels' numbers
    # (N, K) float32, each row's sum 1: of the votes, where training's targets are soft
    fractions: np.ndarray | None = None

    def rows(self) -> Iterable[str]:
        """A line for each image, for the fingerprint of the data set."""
        first: dict[int, str] = {}
        for place, one in zip(self.places, self.objects.tolist()):
            first.setdefault(one, place)
        told = [()] * len(self.places) if self.fractions is None else self.fractions.tolist()
        for place, label, split, one, votes in zip(
            self.places, self.labels, self.splits, self.objects.tolist(), told
        ):
            yield "\0".join((place, label, split, first[one], *(f"{part:.6g}" for part in votes)))


def labelled(
    table: Table, sources: Mapping[str, object], root: Path, *, fewest: int = 2
) -> Labelled:
    """The images that the table labels.

    sources: by place below the folder `root`, such as "train/100008.jpg"

    ValueError in one line for a table in which no image or fewer than `fewest` classes are found.
    """
    known = column_names(table.path)
    found = {
        what: given or usual_column(known, what)
        for what, given in (
            ("label", table.label_column),
            *(("ra", ""), ("dec", ""), ("split", "")),
        )
    }
    if table.votes:
        found["label"] = ""
    elif not found["label"]:
        raise ValueError(
            f"{table.path} has no column of labels by a usual name, only {listed(known, 12)}; name "
            "it with --label-column, or columns of votes with --votes"
        )
    candidates = [table.id_column] if table.id_column else usual_columns(known, "id")
    candidates = [one for one in candidates if one not in found.values()]
    if not candidates:
        raise ValueError(
            f"{table.path} has no column of ids by a usual name, only {listed(known, 12)}; name it "
            "with --id-column"
        )
    wanted = [*filter(None, found.values()), *candidates, *table.votes]
    frame = read(table.path, wanted, known)
    column, rows, places = _matched(frame, candidates, sources, table.path, root)
    votes = _fractions(frame, table, rows) if table.votes else None
    labels, said = (
        _as_told(frame, found["label"], rows) if votes is None else _by_votes(votes, table)
    )
    name = table.path.name
    remarks = [
        f"{name}: "
        + (f"votes {', '.join(table.votes)}" if table.votes else f"labels by {found['label']}")
        + f", images by {column}",
        *(f"{name}: {one}" for one in said),
    ]
    splits = _splits(frame, found["split"], rows)
    kept, more = _once(places, labels, splits, table.path)
    remarks += [f"{name}: {one}" for one in more]
    if absent := len(frame) - len(set(rows.tolist())):
        lost = np.setdiff1d(np.arange(len(frame)), rows)[:SHOWN]
        which = listed([text_of(frame[column])[row] for row in lost], SHOWN, absent)
        remarks.append(f"{name}: {absent:,} rows name no image ({which})")
    if without := len(sources) - len(there := set(places)):
        lost = [place for place in sources if place not in there]
        remarks.append(f"{name}: {without:,} images have no row ({listed(lost, SHOWN)})")
    kept = sorted(kept, key=lambda index: places[index])
    classes = in_order({labels[index] for index in kept})
    if len(classes) < fewest:
        raise ValueError(
            f"{table.path} labels {len(kept):,} images of {root} with {len(classes)} class"
            f"{'es' * (len(classes) != 1)}{f' ({classes[0]})' if classes else ''}, and a "
            "classifier needs two; name other columns with --label-column or --votes"
        )
    fractions = None
    if votes is not None and table.soft_targets:
        fractions = of_classes(votes[kept], table.votes, classes)
        remarks.append(f"{name}: the votes' fractions are training's targets")
    objects, positions = np.arange(len(kept)), bool(found["ra"] and found["dec"])
    if positions:
        ra, dec = (numbers_of(frame, found[one], table.path)[rows[kept]] for one in ("ra", "dec"))
        objects = same_objects(ra, dec, table.path)
        number = len(np.unique(objects))
        if number < len(kept):
            remarks.append(
                f"{name}: {len(kept):,} images show {number:,} objects, by positions within "
                f"{SAME_OBJECT:g} arcsec"
            )
    return Labelled(
        sources=[sources[places[index]] for index in kept],
        places=[places[index] for index in kept],
        labels=[labels[index] for index in kept],
        splits=[splits[index] for index in kept],
        objects=objects,
        positions=positions,
        remarks=tuple(remarks),
        classes=classes,
        fractions=fractions,
    )


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Names of classes sorted, whole numbers by their size."""
    labels = list(labels)
    if all(one.lstrip("-").isdecimal() for one in labels):
        return tuple(sorted(labels, key=lambda one: (int(one), one)))
    return tuple(sorted(labels))


def listed(names: Sequence, most: int, number: int | None = None) -> str:
    """The first names, and how many more there are."""
    more = (len(names) if number is None else number) - min(len(names), most)
    return ", ".join(map(str, names[:most])) + (f" and {more:,} more" if more > 0 else "")


def _matched(
    frame: "pd.DataFrame",
    candidates: Sequence[str],
    sources: Mapping[str, object],
    path: Path,
    root: Path,
) -> tuple[str, np.ndarray, list[str]]:
    """The column of ids that names most images, the rows that name one, and its place."""
    known: dict[str, list[str]] = defaultdict(list)
    for place in sources:
        name = place.rpartition("/")[2]
        suffix = walk.suffix_of(name)
        whole = place[: len(place) - len(suffix)]
        for one in {place, name, whole, whole.rpartition("/")[2]}:
            known[one].append(place)
    best: tuple[str, list[int], list[str]] = (candidates[0], [], [])
    for column in candidates:
        rows, places = [], []
        for row, told in enumerate(text_of(frame[column])):
            one = readable(told).replace("\\", "/").removeprefix("./")
            # the longest end of a path that is the place of an image
            hits = next((known[end] for end in _ends(one) if end in known), [])
            if len(hits) > 1:
                raise ValueError(
                    f"{told} in column {column} of {path} is the name of {len(hits)} images below "
                    f"{root} ({listed(hits, SHOWN)}); give places below the folder, such as "
                    f"{hits[0]}"
                )
            if hits:
                rows.append(row)
                places.append(hits[0])
        if len(rows) > len(best[1]):
            best = column, rows, places
    if not best[1]:
        told = listed(list(text_of(frame[best[0]])), SHOWN)
        raise ValueError(
            f"none of the {len(frame):,} ids in column {best[0]} of {path} ({told}) is the name of "
            f"one of the {len(sources):,} images below {root} ({listed(list(sources), SHOWN)}); "
            "name the column with --id-column, or the folder with --data-dir"
        )
    return best[0], np.array(best[1]), best[2]


def _ends(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[begin:]) for begin in range(len(parts)))


def _as_told(frame: "pd.DataFrame", column: str, rows: np.ndarray) -> tuple[list[str], list[str]]:
    labels = [readable(one) for one in text_of(frame[column])[rows]]
    without = sum(not one for one in labels)
    return labels, [f"{without:,} images without a label are left out"] if without else []


def of_classes(votes: np.ndarray, known: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """(N, all classes) votes, of which each row has some for `classes` -> (N, K) float32 fractions
    of those for `classes`, in their order.
    """
    own = votes[:, [known.index(one) for one in classes]]
    return (own / own.sum(1, keepdims=True)).astype(np.float32)


def _fractions(frame: "pd.DataFrame", table: Table, rows: np.ndarray) -> np.ndarray:
    """(N, K): the votes for each class as parts of all; NaN in rows in which one is missing."""
    votes = np.stack([numbers_of(frame, one, table.path) for one in table.votes], axis=1)[rows]
    if (votes < 0).any():
        raise ValueError(f"{table.path} has votes below 0; name columns of votes with --votes")
    unknown = ~np.isfinite(votes).all(1)
    counts = np.where(unknown[:, None], 0.0, votes)
    if counts.max(initial=0) > 1:  # numbers of votes; fractions stay, as others may take the rest
        votes = votes / np.maximum(counts.sum(1, keepdims=True), 1)
    return np.where(unknown[:, None], np.nan, votes)


def _by_votes(votes: np.ndarray, table: Table) -> tuple[list[str], list[str]]:
    """The class with most votes, where they are a large enough part; "" elsewhere."""
    unknown = np.isnan(votes).any(1)
    votes = np.where(unknown[:, None], 0.0, votes)
    best, most = votes.argmax(1), votes.max(1)
    sure = (most >= table.threshold) & ((votes == most[:, None]).sum(1) == 1)
    labels = [table.votes[one] if good else "" for one, good in zip(best, sure & ~unknown)]
    few = f"with less than {table.threshold:g} of the votes"
    said = [
        f"{number:,} images {why} are left out"
        for number, why in (
            (int((~sure & ~unknown).sum()), few if table.threshold else "with a tie of votes"),
            (int(unknown.sum()), "without votes"),
        )
        if number
    ]
    return labels, said


def _splits(frame: "pd.DataFrame", column: str, rows: np.ndarray) -> list[str]:
    if not column:
        return [""] * len(rows)
    told = text_of(frame[column])[rows]
    for one in set(told):
        if one and one.casefold() not in SPLITS:
            raise ValueError(
                f"column {column} says {one!r}, which is no split; write train, test or val, or "
                "give the column another name"
            )
    found = [SPLITS.get(one.casefold(), "") for one in told]
    if "test" not in found:  # as in a folder, images for validation are tested on then
        found = ["test" if one == "val" else one for one in found]
    return found


def _once(
    places: Sequence[str], labels: Sequence[str], splits: Sequence[str], path: Path
) -> tuple[list[int], list[str]]:
    """The rows that are used: with a label, in one of the splits, each image once."""
    kept: dict[str, int] = {}
    left: Counter[str] = Counter()
    for index, (place, label, split) in enumerate(zip(places, labels, splits)):
        if not label:
            continue
        if split == "val":
            left["for validation are not used, as the table has test images"] += 1
            continue
        if place not in kept:
            kept[place] = index
            continue
        one = kept[place]
        if (labels[one], splits[one]) != (label, split):
            raise ValueError(
                f"two rows of {path} name {place}, as {labels[one]} {splits[one]}".rstrip()
                + f" and as {label} {split}".rstrip()
                + "; keep one of them"
            )
        left["that name an image again are left out"] += 1
    return [*kept.values()], [f"{number:,} rows {why}" for why, number in left.items()]


# Columns and cells


def column_names(path: Path) -> list[str]:
    """The names of a table's columns, without reading its rows."""
    suffix = walk.suffix_of(path.name)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no table {path}; --labels names a CSV, Parquet or FITS table, by its path "
            "or by its name in the folder of the images"
        )
    try:
        if suffix in PARQUET:
            import pyarrow.parquet

            return list(pyarrow.parquet.read_schema(path).names)
        if walk.kind_of(path) == "FITS":
            return list(_fits_table(path).colnames)
        if suffix in TEXT:
            import pandas as pd

            return [*pd.read_csv(path, nrows=0, **_as_text(path)).columns]
    except Exception as error:  # of three libraries, each with its own
        raise _unreadable(path, error) from error
    raise ValueError(
        f"{path} is no table that is read; write it as CSV, Parquet or FITS (.csv, .parquet, .fits)"
    )


def read(path: Path, columns: Sequence[str], known: Sequence[str]) -> "pd.DataFrame":
    """Some columns of a table, with every cell of a CSV file as text."""
    import pandas as pd

    for one in columns:
        if one not in known:
            raise ValueError(
                f"{path} has no column {one!r}, only {listed(known, 12)}; columns are named as the "
                "table spells them"
            )
    columns = list(dict.fromkeys(columns))
    try:
        if walk.suffix_of(path.name) in PARQUET:
            frame = pd.read_parquet(path, columns=columns)
        elif walk.kind_of(path) == "FITS":
            table = _fits_table(path)
            frame = pd.DataFrame({one: _column(table[one]) for one in columns})
        else:
            frame = pd.read_csv(path, usecols=columns, **_as_text(path))
    except Exception as error:  # of three libraries, each with its own
        raise _unreadable(path, error) from error
    if frame.empty:
        raise ValueError(f"the table {path} has no rows; write one for each image")
    return frame


def _unreadable(path: Path, error: Exception) -> ValueError:
    what = " ".join(str(error).split())
    return ValueError(f"cannot read the table {path} ({what}); write it as CSV, Parquet or FITS")


def _as_text(path: Path) -> dict[str, Any]:
    """How pandas reads a text file without interpreting its cells. The separator is the one that
    the header has most of.
    """
    import gzip

    open_it = gzip.open if path.name.lower().endswith(".gz") else open
    with open_it(path, "rb") as file:
        beginning = file.read(SNIFFED)
    header = beginning.partition(b"\n")[0]
    separator = max((b",", b";", b"\t", b"|"), key=header.count).decode()
    encoding = "utf-8-sig"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning)  # may end within a letter
    except UnicodeDecodeError:
        encoding = "latin-1"
    how: dict[str, Any] = {"dtype": str, "keep_default_na": False, "skipinitialspace": True}
    return how | {"sep": separator, "encoding": encoding}


def _fits_table(path: Path):
    from astropy.table import Table as AstropyTable

    return AstropyTable.read(path, format="fits", unit_parse_strict="silent")


def _column(column) -> np.ndarray:
    """A column of a FITS table for pandas: text as text, and nothing where it is masked."""
    values, masked = np.asarray(column), np.ma.getmaskarray(column)
    if values.ndim > 1:
        return np.array([None] * len(values), dtype=object)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    values = values.astype(values.dtype.newbyteorder("="))
    if masked.any():
        values = values.astype(object)
        values[masked] = None
    return values


def text_of(column: "pd.Series") -> np.ndarray:
    """Cells as text without blanks at their ends: whole numbers without a point, as in a column of
    "1.0" and "2.0", nothing for what is missing.
    """

    def text(value: object) -> str:
        if value is None or value != value:
            return ""
        if isinstance(value, float | np.floating) and float(value).is_integer():
            value = int(value)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        return str(value).strip()

    told = [text(one) for one in column.tolist()]
    if all(WHOLE.fullmatch(one) for one in told if one):
        told = [one.partition(".")[0] for one in told]
    return np.array(told, dtype=object)


def numbers_of(frame: "pd.DataFrame", column: str, path: Path) -> np.ndarray:
    """Cells as numbers, NaN for what is missing; ValueError for text."""
    import pandas as pd

    told = frame[column]
    numbers = pd.to_numeric(told, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.isnan(numbers) & (text_of(told) != "") & (told.astype(str) != "nan").to_numpy()
    if wrong.any():
        first = told.iloc[int(np.flatnonzero(wrong)[0])]
        raise ValueError(
            f"column {column} of {path} holds {str(first)!r}, which is no number; write positions "
            "in degrees, and votes as numbers"
        )
    return numbers


def usual_columns(known: Iterable[str], what: str) -> list[str]:
    """The columns with a usual name, in the order of USUAL."""
    plain = {one: "".join(filter(str.isalnum, one.casefold())) for one in known}
    return [one for usual in USUAL[what] for one, name in plain.items() if name == usual]


def usual_column(known: Iterable[str], what: str) -> str:
    return next(iter(usual_columns(known, what)), "")


# Objects


def same_objects(ra: np.ndarray, dec: np.ndarray, path: Path) -> np.ndarray:
    """A number for each position, in degrees, (N,): the same for those within an arcsecond of one
    another, and of a third. One that is not a number is an object of its own.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if len(known) and (np.abs(dec[known]).max() > 90 or np.abs(ra[known]).max() > 360):
        raise ValueError(
            f"{path} has positions beyond 360 degrees of right ascension or 90 of declination; "
            "write them in degrees"
        )
    longitude, latitude = np.radians(ra[known]), np.radians(dec[known])
    unit = np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ],
        axis=1,
    ).reshape(-1, 3)
    chord = 2 * np.sin(np.radians(SAME_OBJECT / 3600) / 2)
    near = known[KDTree(unit).query_pairs(chord, output_type="ndarray")] if len(known) else known
    near = near.reshape(-1, 2)
    links = coo_array((np.ones(len(near)), (near[:, 0], near[:, 1])), shape=(len(ra), len(ra)))
    return connected_components(links, directed=False)[1]


def drawn(
    labels: Sequence[str], objects: np.ndarray, places: Sequence[str], fraction: float, seed: int
) -> np.ndarray:
    """Whether each image is tested on, (N,) bool: part of the objects of each class, at least one
    and never all, the first in the order of the SHA-256 of the seed and the place of their first
    image. An object whose images have several labels counts for the most frequent one.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"test_fraction {fraction} is outside (0, 1); 0.2 tests on a fifth")
    members: dict[int, list[int]] = defaultdict(list)
    for index, one in enumerate(objects.tolist()):
        members[one].append(index)
    of_class: dict[str, list[tuple[bytes, list[int]]]] = {label: [] for label in sorted({*labels})}
    for own in members.values():
        counts = Counter(labels[index] for index in own)
        label = min(counts, key=lambda one: (-counts[one], one))
        first = min(places[index] for index in own)
        key = hashlib.sha256(f"{seed}/{first}".encode()).digest()
        of_class[label].append((key, own))
    tested = np.zeros(len(labels), dtype=bool)
    for label, own in of_class.items():
        if len(own) < 2:
            raise ValueError(
                f"class {label!r} has {len(own)} object{'s' * (len(own) != 1)}, which cannot be "
                "trained and tested on; add images or take its rows out of the table"
            )
        number = min(max(1, round(fraction * len(own))), len(own) - 1)
        for _, indices in sorted(own)[:number]:
            tested[indices] = True
    return tested
