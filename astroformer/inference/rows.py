"""The rows of predictions: what a table holds, the part file that an interrupted run goes on from,
and the file that is written whole or not at all.

OUT is a CSV or Parquet file. While it is made, OUT.part beside it holds what is done: a line of
JSON that says what is asked for, then one for each batch. OUT.json says afterwards of what OUT was
made, so that the same command need not make it again.

Reads top to bottom: Answers (of one batch), Part, frames (from answers to a table), files.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import orjson

from astroformer.locks import locked

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1  # of a part file and of OUT.json
SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class Answers:
    """What is said of B images one after the other, the first of them number `start`.

    top: (B, k) classes, the likeliest first; probabilities: (B, k), theirs, or of every class in
        the order of the classes where those are asked for, (B, K)
    distance, unlike: (B,), NaN where nothing is known
    errors: "" or why an image has no prediction; its other values mean nothing
    """

    start: int
    top: np.ndarray
    probabilities: np.ndarray
    distance: np.ndarray
    unlike: np.ndarray
    errors: list[str]

    def __len__(self) -> int:
        return len(self.errors)

    def line(self) -> bytes:
        told = {
            name: np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }
        return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> "Answers":
        told = orjson.loads(line)
        floats = ("probabilities", "distance", "unlike")
        arrays = {name: np.array(told[name], dtype=np.float64) for name in floats}
        return cls(
            start=told["start"],
            top=np.array(told["top"], dtype=np.int64),
            errors=told["errors"],
            **arrays,
        )


class Busy(OSError):
    """Another process writes the same file."""


class Part:
    """The part file of a table, held by this process alone.

    done: images whose answers it holds
    """

    def __init__(self, path: Path, file: BinaryIO, asked: dict):
        """file: open for reading and for adding at its end"""
        self.path, self.file, self.asked = path, file, asked
        self.done, self.begun_anew = 0, False
        self._take_up()

    def _take_up(self) -> None:
        """Reads what is there, as far as it is of what is asked for and whole; the rest goes."""
        end = 0
        self.file.seek(0)
        first = self.file.readline()
        if first == self._first():
            end = len(first)
            for line in self.file:
                try:
                    answers = Answers.of_line(line)
                except (ValueError, KeyError, TypeError):  # a line that was not ended
                    break
                if not line.endswith(b"\n") or answers.start != self.done:
                    break
                self.done += len(answers)
                end += len(line)
        self.begun_anew = bool(first) and not end
        self.file.truncate(end)
        if not end:
            self._write(self._first())

    def _first(self) -> bytes:
        return json.dumps(self.asked, sort_keys=True).encode() + b"\n"

    def add(self, answers: Answers) -> None:
        self._write(answers.line())
        self.done += len(answers)

    def _write(self, line: bytes) -> None:
        self.file.write(line)
        self.file.flush()

    def answers(self) -> Iterator[Answers]:
        """All that is done, from the beginning."""
        with open(self.path, "rb") as file:
            file.readline()
            yield from map(Answers.of_line, file)


@contextmanager
def part_of(out: Path, asked: dict) -> Iterator[Part]:
    """The part file beside OUT, with what an interrupted run of the same command left there. Busy
    if another process writes it.
    """
    path = out.with_name(f"{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, wait=False) as lock:
            if not lock:
                who = f" ({lock.holder})" if lock.holder else ""
                raise Busy(f"another process writes {out}{who}")
            with open(path, "a+b") as file:
                yield Part(path, file, asked)
    except Busy:
        raise
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(str(path)):
            raise
        raise OSError(f"cannot write {path} ({error.strerror}); name another --out") from error


# Tables


@dataclass(frozen=True)
class Columns:
    """Of a table: how many of the likeliest classes are told of, whether the probability of every
    class is, and what stands in each row.
    """

    classes: tuple[str, ...]
    top_k: int
    every: bool
    runs: str

    def names(self) -> list[str]:
        ranks = ["label", "probability"]
        for rank in range(2, self.top_k + 1):
            ranks += [f"label_{rank}", f"probability_{rank}"]
        every = [f"p_{name}" for name in self.classes] if self.every else []
        return ["file", *ranks, *every, "unlike", "unlike_distance", "runs", "error"]


def frame(answers: Answers, files: Sequence[str], columns: Columns) -> "pd.DataFrame":
    """The rows of a batch, whose files stand one after the other in `files`, by their numbers."""
    import pandas as pd

    failed = np.array([bool(one) for one in answers.errors], dtype=bool)
    names = np.array(columns.classes, dtype=object)
    table: dict[str, object] = {"file": files[answers.start : answers.start + len(answers)]}
    for rank in range(columns.top_k):
        end = f"_{rank + 1}" if rank else ""
        of_rank = answers.top[:, rank]
        labels = names[of_rank]
        labels[failed] = None
        table[f"label{end}"] = labels
        where = of_rank if columns.every else np.full(len(answers), rank)
        value = answers.probabilities[np.arange(len(answers)), where]
        table[f"probability{end}"] = np.where(failed, np.nan, value)
    for number, name in enumerate(columns.classes if columns.every else ()):
        table[f"p_{name}"] = np.where(failed, np.nan, answers.probabilities[:, number])
    table["unlike"] = np.where(failed, np.nan, answers.unlike)
    table["unlike_distance"] = np.where(failed, np.nan, answers.distance)
    table["runs"] = columns.runs
    table["error"] = [one or None for one in answers.errors]
    return pd.DataFrame(table, columns=columns.names()).astype(_types(columns))


def _types(columns: Columns) -> dict[str, str]:
    texts = ("file", "label", "runs", "error")
    return {
        name: "string" if name in texts or name.startswith("label_") else "float64"
        for name in columns.names()
    }


def empty(columns: Columns) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(columns=columns.names()).astype(_types(columns))


# Files


def check_suffix(out: Path) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--out {out}: a table is written as {' or '.join(SUFFIXES)}")
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a file in it")


def write_table(out: Path, frames: Iterable["pd.DataFrame"], columns: Columns) -> None:
    """Writes a table frame by frame, and gives it its name when it is whole."""
    draft = out.with_name(f"{out.name}.{os.getpid()}.draft")
    try:
        if out.suffix.lower() == ".csv":
            _write_csv(draft, frames, columns)
        else:
            _write_parquet(draft, frames, columns)
        os.replace(draft, out)
    finally:
        with suppress(OSError):
            draft.unlink()


def _write_csv(path: Path, frames: Iterable["pd.DataFrame"], columns: Columns) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(columns.names())
        for one in frames:
            one.to_csv(file, header=False, index=False, lineterminator="\n")
        _to_disk(file.fileno(), file.flush)


def _write_parquet(path: Path, frames: Iterable["pd.DataFrame"], columns: Columns) -> None:
    import pyarrow
    from pyarrow import parquet

    kinds = {"string": pyarrow.string(), "float64": pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in _types(columns).items()])
    with open(path, "wb") as file:
        with parquet.ParquetWriter(file, schema) as writer:
            for one in _gathered(frames):
                writer.write_table(
                    pyarrow.Table.from_pandas(one, schema=schema, preserve_index=False)
                )
        _to_disk(file.fileno(), file.flush)


GROUP = 16_384  # rows of a row group of Parquet


def _gathered(frames: Iterable["pd.DataFrame"]) -> Iterator["pd.DataFrame"]:
    """Larger frames, as row groups of a few rows are slow to read."""
    import pandas as pd

    waiting: list[pd.DataFrame] = []
    for one in frames:
        waiting.append(one)
        if sum(map(len, waiting)) >= GROUP:
            yield pd.concat(waiting, ignore_index=True)
            waiting = []
    if waiting:
        yield pd.concat(waiting, ignore_index=True)


def _to_disk(descriptor: int, flush) -> None:
    """The name must not point to bytes that a power cut loses."""
    flush()
    os.fsync(descriptor)


# Of what a file was made


def told_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")


def made_of(out: Path) -> dict | None:
    """What OUT.json says of OUT as it lies there; None where there is none, or OUT is another file
    now.
    """
    try:
        told = json.loads(told_of(out).read_text())
        version = os.stat(out)
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        return None
    return told if told.get("bytes") == version.st_size else None


def tell(out: Path, told: dict) -> None:
    path = told_of(out)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    whole = {"format": FORMAT, "bytes": os.stat(out).st_size} | told
    try:
        draft.write_text(json.dumps(whole, indent=1) + "\n")
        os.replace(draft, path)
    finally:
        with suppress(OSError):
            draft.unlink()
