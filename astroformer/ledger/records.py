"""The ledger: one JSON line a run, append-only, one file per machine and job.

Committed records lie in `book/ledger/*.jsonl`; those made on this machine in `book/ledger/local/`,
which git ignores. Readers get both, told apart by `origin`. `keep` copies a local record to a
committed file. A run may have several records; `unique` takes the one that counts.

Reads top to bottom: what a record holds, append, read, which record of a run counts, keep, and what
a record says of the machine.
"""

import errno
import json
import math
import numbers
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from astroformer import paths
from astroformer.ledger import identity, lines, predictions

if TYPE_CHECKING:
    import torch

# Fields that records of revision 1 do not have.
YOUNGER = ("identity", "execution", "attempts", "steps")
FIELDS = (
    "run",
    "status",
    "model",
    "stack",
    "options",
    "params",
    "macs",
    "image_size",
    "dataset",
    "fraction",
    "recipe",
    "seed",
    "epochs",
    "selection",
    "metrics",
    "history",
    "seconds",
    "images_per_second",
    "peak_memory",
    "device",
    "world_size",
    "precision",
    "versions",
    "git",
    "command",
    "started",
    "resumed_from",
    "failed_at_step",
    *YOUNGER,
)
# only in the record of a run that began with given weights, and of one that a study asked for
OPTIONAL = ("init", "study")
STATUS = ("completed", "failed", "interrupted")
CORE = ("run", "status", "started")  # without which a line of a ledger is no record
# What the fields of a record are, where it says them; null is what is not known.
TEXT, DICT, LIST, NUMBER = (
    frozenset((*kinds, type(None))) for kinds in ((str,), (dict,), (list,), (int, float, bool))
)
KINDS: dict[str, frozenset[type]] = {
    **dict.fromkeys(("model", "stack", "selection", "device", "precision", "command"), TEXT),
    **dict.fromkeys(("options", "dataset", "recipe", "metrics", "versions", "git"), DICT),
    **dict.fromkeys(("identity", "execution", "init", "study"), DICT),
    **dict.fromkeys(("history", "attempts"), LIST),
    **dict.fromkeys(("params", "macs", "fraction", "seed", "epochs", "steps"), NUMBER),
    **dict.fromkeys(("seconds", "images_per_second", "peak_memory", "world_size"), NUMBER),
    **dict.fromkeys(("resumed_from", "failed_at_step"), NUMBER),
}
OF_DATASET: dict[str, frozenset[type]] = {
    **dict.fromkeys(("name", "title", "kind", "sha256", "note", "source", "evaluated_on"), TEXT),
    **dict.fromkeys(("train", "test", "classes", "class_fraction"), NUMBER),
    **dict.fromkeys(("validation", "test_images", "split_seed"), NUMBER),
    "mirrored": LIST,
}
LARGEST = 1e300  # of a number in a record
LONGEST = 2**20  # bytes; no record comes near
FULL = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk full (the quota)",
    errno.EFBIG: "disk full (the largest size that the system allows a file)",
}
_REPORTED: set[tuple[Path, int]] = set()  # broken lines that this process has named

Found = TypeVar("Found", list[dict], pd.DataFrame)


def append(record: dict, path: Path | None = None) -> Path:
    """Adds one record to this job's file, or to `path`."""
    if set(record) - set(OPTIONAL) != set(FIELDS) or record["status"] not in STATUS:
        raise ValueError(
            f"a ledger record has the fields {', '.join(FIELDS)} and a status of "
            f"{', '.join(STATUS)}; "
            "differs in "
            f"{', '.join(sorted(set(record) - set(OPTIONAL) ^ set(FIELDS))) or 'status'}"
        )
    return write_line(record, path or job_file())


def write_line(record: dict, path: Path) -> Path:
    """Adds a line of JSON to a file: the whole line, or nothing and an OSError. A number that is
    not finite becomes null.
    """
    _add((json.dumps(_finite(record), allow_nan=False) + "\n").encode(), path)
    return path


def check_writable(path: Path | None = None) -> None:
    """Raises an OSError of one line if no record can be added to this job's file, or to `path`: to
    be asked before a run, whose record would be lost at its end. Leaves the file as it was.
    """
    _add(b" " * LONGEST, path or job_file(), keep=False)


def _finite(value: object) -> object:
    """The same with null for each number that is not finite, and NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if math.isfinite(value) else None


def _add(line: bytes, path: Path, *, keep: bool = True) -> None:
    """Adds a line to a file, or takes back what it wrote of it: where not all can be written, and
    where it is not to be kept. After a torn last line it begins on a new one.
    """
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opened(path) as (descriptor, locked, created):
            before, written, done = os.fstat(descriptor).st_size, 0, False
            line = b"\n" * _is_torn(descriptor, before) + line
            try:
                while written < len(line):
                    some = os.write(descriptor, line[written:])
                    if not some:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    written += some
                os.fsync(descriptor)
                done = keep
            finally:
                if not done:
                    size = os.fstat(descriptor).st_size
                    # without a lock, somebody else's line may follow
                    if size > before and (locked or size == before + written):
                        os.ftruncate(descriptor, before)
                    if created and locked and not before:
                        path.unlink()


def _is_torn(descriptor: int, size: int) -> bool:
    """Whether the file ends within a line, as a process leaves it that was killed as it wrote."""
    if not size:
        return False
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) != b"\n"


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, bool, bool]]:
    """A descriptor to append to the file, whether no other process appends to it meanwhile, and
    whether the file is new. Where the file system has no locks between machines nothing is put in
    their place, as for a run (locks.py): each job has a file of its own.
    """
    while True:
        created = not path.exists()
        descriptor = os.open(
            path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644
        )
        try:
            locked = _lock(descriptor)
            # the process that held the lock may have removed the file
            if not locked or _is_at(path, descriptor):
                yield descriptor, locked, created
                return
        finally:
            os.close(descriptor)  # which gives the lock back


def _lock(descriptor: int) -> bool:
    """Waits until no other process holds the file; False where there are no such locks: on Windows
    and on some network file systems.
    """
    try:
        import fcntl  # not on Windows

        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Says of an OSError, in one line, which file it is about and what can be done."""
    try:
        yield
    except OSError as error:
        reason = FULL.get(error.errno or 0) or error.strerror or str(error)
        told = OSError(
            f"cannot write to {path}: {reason}; make room or give permission there, or name "
            "another folder for the records of this machine with ASTROFORMER_LOCAL_LEDGER"
        )
        told.errno = error.errno
        raise told from error


def job_file() -> Path:
    """This process's own file, so that two jobs never share one."""
    return paths.local_ledger() / job_name()


@lru_cache(maxsize=1)
def job_name() -> str:
    """Machine, time and process; of a batch's job (ASTROFORMER_JOB), its name first."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    job = os.environ.get("ASTROFORMER_JOB")
    parts = [*([job] if job else []), platform.node() or "machine", now, str(os.getpid())]
    return f"{'-'.join(parts)}.jsonl"


def read(folder: Path | None = None) -> list[dict]:
    """Every record, oldest first, with `origin` "committed" or "local"; one that was kept is not
    listed twice. A record is a dictionary of its own, its parts are shared by all who read the
    file and cannot be changed.
    """
    committed = sorted((folder or paths.LEDGER).glob("*.jsonl"))
    local = [] if folder else sorted(paths.local_ledger().glob("*.jsonl"))
    with lines.uncollected():
        records = [
            {**record, "origin": origin}
            for origin, files in (("committed", committed), ("local", local))
            for file in files
            for record in _records_of(file, CORE)
        ]
    kept = {
        (record["run"], record["started"]) for record in records if record["origin"] == "committed"
    }
    records = [
        r for r in records if r["origin"] == "committed" or (r["run"], r["started"]) not in kept
    ]
    return sorted(records, key=lambda record: record["started"])


def read_file(path: Path, *, needed: tuple[str, ...] = ("run",)) -> list[dict]:
    """The lines of a file as dictionaries, each with the texts `needed`; of a ledger (CORE), with
    fields of the kinds that records have. A broken line of a committed file is a ValueError; one of
    this machine's is reported on stderr, once, and skipped.
    """
    return [dict(record) for record in _records_of(path, needed)]


def _records_of(path: Path, needed: tuple[str, ...]) -> Sequence[dict]:
    """The same, shared: for those who copy them."""
    try:
        found = lines.read(path, _check_record, needed)
    except FileNotFoundError:
        if _is_local(path):  # another process began it, could not write, and removed it
            return ()
        raise
    for number, reason in found.broken:
        broken = f"{path}, line {number} is not a JSON record ({reason})"
        if not _is_local(path):
            raise ValueError(f"{broken}; remove the line")
        if (path, number) not in _REPORTED:
            _REPORTED.add((path, number))
            print(f"{broken}; it is skipped: remove the line", file=sys.stderr)
    return found.records


def numbered(path: Path) -> list[tuple[int, dict | None, str]]:
    """Each line of a file that need not be a ledger's, by its number: a record, or None and why it
    is none. OSError or ValueError without a file.
    """
    found = lines.read(path, _check_record, CORE)
    kept = [(number, dict(one), "") for number, one in zip(found.numbers, found.records)]
    broken = [(number, None, why) for number, why in found.broken]
    return sorted([*kept, *broken], key=lambda line: line[0])


def _is_local(path: Path) -> bool:
    return path.resolve().is_relative_to(paths.local_ledger().resolve())


def _check_record(record: object, needed: tuple[str, ...]) -> None:
    """ValueError for what lacks one of the texts `needed`; of a ledger (CORE), for a field that is
    of another kind than in every record: tables would stumble over it where nobody knows of which
    file it is.
    """
    if not isinstance(record, dict):
        raise ValueError("it holds no fields")
    lacking = [name for name in needed if not isinstance(record.get(name), str)]
    if lacking:
        raise ValueError(f"it has no {' and no '.join(lacking)}")
    if needed is CORE:
        _check_kinds(record)


def _check_kinds(record: dict) -> None:
    if record["status"] not in STATUS:
        raise ValueError(f"its status is none of {', '.join(STATUS)}")
    if dotted := [name for name in record if "." in name]:  # as columns of `frame` are called
        raise ValueError(f"its field {dotted[0]!r} is none of a record")
    _check(record, KINDS, "")
    _check(record.get("dataset") or {}, OF_DATASET, "dataset.")
    metrics = record.get("metrics") or {}
    _check(metrics, dict.fromkeys(metrics, NUMBER), "metrics.")
    _check(record.get("recipe") or {}, {"name": TEXT}, "recipe.")
    for name in ("history", "attempts"):
        if {type(entry) for entry in record.get(name) or ()} - {dict}:
            raise ValueError(f"its {name} holds something else than fields")


def _check(fields: dict, kinds: dict[str, frozenset[type]], within: str) -> None:
    for name, kind in kinds.items():
        value = fields.get(name)
        if type(value) not in kind:
            raise ValueError(f"its {within}{name} is a {type(value).__name__}")
        if kind is NUMBER and value is not None and LARGEST < abs(value) < math.inf:
            raise ValueError(f"its {within}{name} is larger than any number that is measured")


# Which record of a run counts


def completed(run: str) -> dict | None:
    """The newest completed record of a run (its hash), or None."""
    return _newest(lambda record: record["run"] == run)


def answering(question: str) -> dict | None:
    """The newest completed record of a run that differs in nothing but the precision from the one
    asked for (`identity.question`), or None.
    """
    return _newest(lambda record: identity.question(record) == question)


def failed(run: str) -> dict | None:
    """The newest record of a run (its hash) that says that it failed, or None."""
    return _newest(lambda record: record["run"] == run, "failed")


def _newest(wanted: Callable[[dict], bool], status: str = "completed") -> dict | None:
    found = [record for record in read() if record["status"] == status and wanted(record)]
    return found[-1] if found else None


def unique(found: Found) -> Found:
    """Completed runs, oldest first, each once: of the records of one hash or of one identity the
    newest counts, on whatever device it was made and wherever it lies. Takes records, or their
    `frame`, and gives the same kind.
    """
    table = found if isinstance(found, pd.DataFrame) else frame(found)
    if not len(table):
        return found
    once = (
        table[table["status"] == "completed"]
        .sort_values("started", kind="stable", na_position="first")
        .drop_duplicates("run", keep="last")
        .drop_duplicates(["group", "seed"], keep="last")
    )
    return once if found is table else [found[position] for position in once.index]


def frame(records: list[dict] | None = None) -> pd.DataFrame:
    """One row a record, with dataset, recipe and metrics spread over columns (`metrics.top1`,
    `dataset.name`, ...) and, as ledger/identity.py has them, `identity`, `group` and `revision`. A
    number that was not finite is NaN.
    """
    records = read() if records is None else records
    if not records:
        return pd.DataFrame(columns=[*FIELDS, "origin", "group", "revision"])
    with lines.uncollected():
        table = pd.DataFrame([_spread(record) for record in records])
        table = table if "seed" in table else table.assign(seed=None)
        # pandas 3 has each column of texts in a block of its own, and whatever takes rows would go
        # through a hundred blocks; as objects, `copy` puts them into one
        texts = [name for name, kind in table.dtypes.items() if isinstance(kind, pd.StringDtype)]
        return (
            table.astype(dict.fromkeys(texts, object))
            .copy()
            .assign(
                identity=[identity.of(record) for record in records],
                group=[identity.group(record) for record in records],
                revision=[identity.revision(record) for record in records],
            )
        )


def _spread(record: Mapping) -> dict[str, object]:
    """A record in one dictionary but for its identity: the parts of a field that has some stand at
    the end, by the names of both.
    """
    plain = {
        name: value
        for name, value in record.items()
        if name != "identity" and not isinstance(value, dict)
    }
    for name, value in record.items():
        if isinstance(value, dict) and name != "identity":
            for part, inner in value.items():
                plain[f"{name}.{part}"] = inner
    for part, inner in (record.get("metrics") or {}).items():
        plain[f"metrics.{part}"] = math.nan if inner is None else float(inner)
    return plain


def options_of(row: pd.Series) -> dict[str, object]:
    """The network's own options of one row of `frame`: those columns that are not empty. Beside an
    empty cell pandas makes 96 into 96.0, which is undone.
    """
    found = {
        name.removeprefix("options."): row[name]
        for name in row.index.tolist()
        if name.startswith("options.")
    }
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in found.items()
        if not (isinstance(value, float) and math.isnan(value))
    }


def check_name(name: str, becomes: str) -> None:
    """Refuses what cannot stand for NAME in the file that the error says it becomes."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(
            f"{name!r} is not a name of letters, digits, - and _; it becomes {becomes}"
        )


def named(name: str, folder: Path, *, shown: str = "book/ledger") -> Path:
    """The file of a committed folder that a user named; `shown` is the folder in the words of an
    error.
    """
    check_name(name, f"{shown}/NAME.jsonl")
    return folder / f"{name}.jsonl"


def keep(run: str, name: str) -> Path:
    """Copies the newest completed local record of a run to `book/ledger/NAME.jsonl`, and its
    predictions, to be committed.
    """
    target = named(name, paths.LEDGER)
    if target.is_file():
        kept = [
            r["run"]
            for r in read_file(target)
            if r["run"].startswith(run) and r["status"] == "completed"
        ]
        if kept:
            predictions.keep(kept[-1])  # they may have been made after the record was kept
            return target
    found = [
        r
        for r in read()
        if r["origin"] == "local" and r["run"].startswith(run) and r["status"] == "completed"
    ]
    if not found:
        raise ValueError(f"no completed local record of run {run}; `astroformer ledger` lists them")
    write_line({field: value for field, value in found[-1].items() if field != "origin"}, target)
    predictions.keep(found[-1]["run"])
    return target


def device_name(device: "torch.device") -> str:
    """The accelerator's or the processor's own name, with the number of threads for the latter."""
    import torch  # here alone: reading the ledger needs none of it

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        name = models[0] if models else name
    return f"{name}, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    libraries = {name: metadata.version(name) for name in ("torch", "torchvision", "timm", "numpy")}
    return {"python": platform.python_version(), **libraries}


def git_state() -> dict:
    """Commit of the checkout and whether tracked files differ from it, other than records that were
    kept since: they decide nothing. None outside a repository, and without a checkout: the current
    folder's repository is another one.
    """
    if paths.CHECKOUT is None:
        return {"commit": None, "dirty": None}

    def git(*words: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", "-C", str(paths.ROOT), *words], capture_output=True, text=True, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    status = git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)book/ledger"
    )
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}
