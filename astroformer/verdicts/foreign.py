"""Records that somebody else sends, before they are committed: each line against the schema, itself
and this library (`consistent`), against the predictions beside it, the commits of the checkout, and
what the ledger holds already. Images and weights are not asked for.
"""

import math
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from astroformer import paths
from astroformer.ledger import predictions, records
from astroformer.ledger.predictions import Predictions
from astroformer.training.record import METRICS
from astroformer.verdicts.consistent import ERROR, WARNING, Complaint, complaints

# Points that the expected calibration error may be off where probabilities have half precision,
# which puts some into the next bin; and where they are whole.
ECE = {"compact": 2.0, "whole": 1e-3}
NEAR = 1e-6  # of other metrics


class Finding(NamedTuple):
    """What is wrong with a line of a file."""

    file: str
    line: int
    run: str  # "" for a line that is no record
    level: str  # "error" or "warning"
    field: str
    what: str

    def __str__(self) -> str:
        run = f"run {self.run}: " if self.run else ""
        return f"{self.file}, line {self.line}: {run}{self.level}: {self.field}: {self.what}"


class Checked(NamedTuple):
    """What was found in some files, in the order of their lines."""

    records: int
    findings: list[Finding]

    @property
    def errors(self) -> int:
        return sum(one.level == ERROR for one in self.findings)

    def __str__(self) -> str:
        warnings = len(self.findings) - self.errors
        return f"{self.records:,} records: {self.errors:,} errors, {warnings:,} warnings"


def check(files: Sequence[Path], *, now: datetime | None = None) -> Checked:
    """Everything that speaks against committing the records of some files, or for a second look.

    now: as of `consistent.complaints`

    OSError or ValueError for a file that cannot be read at all. Files of the ledger are not held
    against themselves.
    """
    lines = [(path, *line) for path in files for line in records.numbered(path)]
    commits = known_commits({_commit(one) for _, _, one, _ in lines if one} - {None})
    known, found = _ledger(files), []
    for path, number, record, broken in lines:
        if record is None:
            found.append(Finding(str(path), number, "", ERROR, "line", f"is no record: {broken}"))
            continue
        wrong = complaints(record, now=now)
        if not any(one.level == ERROR for one in wrong):
            wrong += [*_of_predictions(record, path), *_of_commit(record, commits)]
        wrong += _of_others(record, known)
        found += [Finding(str(path), number, record["run"], *one) for one in wrong]
        known.setdefault(record["run"], []).append((record, f"{path}, line {number}"))
    return Checked(sum(one is not None for _, _, one, _ in lines), found)


# Predictions


def _of_predictions(record: Mapping, path: Path) -> Iterator[Complaint]:
    """The metrics that the predictions beside the file give anew."""
    beside = path.parent / "predictions" / f"{record['run']}.npz"
    if record["status"] != "completed" or not beside.is_file():
        return
    try:
        kept = predictions.load(beside)
    except ValueError as error:
        yield Complaint(ERROR, "predictions", str(error))
        return
    told = record["dataset"]
    for field, says, has in (
        ("dataset.test", told["test"], len(kept)),
        ("dataset.classes", told.get("classes", len(kept.classes)), len(kept.classes)),
        ("dataset.evaluated_on", told["evaluated_on"], kept.evaluated_on),
    ):
        if says != has:
            yield Complaint(ERROR, field, f"{says} is not {has}, as in {beside.name}")
    for name, value in recomputed(kept).items():
        near = NEAR
        if name == "ece":
            near = ECE["compact" if kept.top.shape[1] == 1 else "whole"]
        if abs(value - record["metrics"][name]) > near:
            what = f"{record['metrics'][name]:g} is not {value:g}, as {beside.name} gives it"
            yield Complaint(ERROR, f"metrics.{name}", what)


def recomputed(kept: Predictions) -> dict[str, float]:
    """The metrics of a run that its predictions tell: those that need more likely classes than were
    kept are left out.
    """
    found, classes = predictions.metrics(kept), len(kept.classes)
    if kept.top.shape[1] >= min(5, classes):
        found["top5"] = 100 * float((kept.top[:, :5] == kept.labels[:, None]).any(1).mean())
    if kept.top.shape[1] == classes:
        # (N,): each label stands once among all classes
        own = kept.probabilities[kept.top == kept.labels[:, None]].astype(np.float64)
        if own.all():  # a probability that was rounded to nothing has no logarithm
            found["nll"] = -float(np.log(own).mean())
    return found


# Commits


def _commit(record: Mapping) -> str | None:
    git = record.get("git")
    commit = git.get("commit") if isinstance(git, Mapping) else None
    return commit if isinstance(commit, str) and commit.isalnum() else None


def known_commits(commits: set[str]) -> set[str] | None:
    """Those that the checkout's repository has; None without one."""
    if paths.CHECKOUT is None:
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(paths.ROOT), "cat-file", "--batch-check=%(objectname) %(objecttype)"],
            input="".join(f"{commit}\n" for commit in sorted(commits)),
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "GIT_NO_LAZY_FETCH": "1"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode:
        return None
    told = (line.split() for line in answer.stdout.splitlines())
    return {name for name, kind, *_ in told if kind == "commit"}


def _of_commit(record: Mapping, commits: set[str] | None) -> Iterator[Complaint]:
    commit = record["git"]["commit"]
    if commit is None:
        return
    if commits is None:
        what = f"{commit[:12]} was not looked for: there is no repository of the library here"
        yield Complaint(WARNING, "git.commit", what)
    elif commit not in commits:
        what = f"{commit[:12]} is not in this repository; `git fetch` may bring it"
        yield Complaint(WARNING, "git.commit", what)


# What is there already

Known = dict[str, list[tuple[Mapping, str]]]  # run -> its records, and where each stands


def _ledger(but: Sequence[Path]) -> Known:
    """The records of the ledger, without those of some files."""
    left_out, known = {path.resolve() for path in but}, {}
    for origin, folder in (("committed", paths.LEDGER), ("local", paths.local_ledger())):
        for path in sorted(folder.glob("*.jsonl")):
            if path.resolve() in left_out:
                continue
            for record in records.read_file(path, needed=records.CORE):
                known.setdefault(record["run"], []).append((record, origin))
    return known


def _of_others(record: Mapping, known: Known) -> Iterator[Complaint]:
    """The records of the same run that the ledger holds, or that stand in the lines before."""
    for other, where in known.get(record["run"], ()):
        place = f"the ledger's ({where})" if where in ("committed", "local") else f"that of {where}"
        if other == record:
            # this machine's own record may be the very one that is to be committed
            if where != "local":
                yield Complaint(WARNING, "run", f"is {place}, word for word")
        elif other["started"] == record["started"]:
            # one that was interrupted leaves a record, and goes on under the same date
            if not other["status"] == record["status"] == "completed":
                continue
            differing = sorted(
                name for name in {*other, *record} if other.get(name) != record.get(name)
            )
            what = f"began when {place} did, and differs in {', '.join(differing)}"
            yield Complaint(ERROR, "run", what)
        else:
            what = f"was made before: {place} began {other['started']} on {other.get('device')}"
            yield Complaint(WARNING, "run", f"{what}; {_compared(record, other)}")


def _compared(record: Mapping, other: Mapping) -> str:
    """In words, whether two records of one run have the same metrics."""
    if record["status"] != other["status"]:
        return f"this one {record['status']}, that one {other['status']}"
    mine, theirs = record.get("metrics") or {}, other.get("metrics") or {}
    differing = [
        f"{name} {mine[name]:g} beside {theirs[name]:g}"
        for name in METRICS
        if None not in (mine.get(name), theirs.get(name))
        and not math.isclose(mine[name], theirs[name], rel_tol=NEAR, abs_tol=NEAR)
    ]
    return f"their metrics differ: {', '.join(differing)}" if differing else "their metrics agree"
