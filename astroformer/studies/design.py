"""The design of a study as it is written in `book/studies/NAME.yml`: question, arms, tasks,
protocol, verdict rule, profiles, and the order in which runs are made.

The file is committed before the first confirmatory run. Every record of a study bears the digest of
the file that it was made under, so that a later change shows (`changes`).
"""

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from astroformer import paths
from astroformer.data.tasks import TASKS

STUDIES = paths.BOOK / "studies"


@dataclass(frozen=True)
class Arm:
    """What is compared. A model of "" is the profile's network."""

    name: str
    title: str
    model: str = ""
    options: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Part:
    """A part of the order in which runs are made: a stage for some arms, tasks and seeds."""

    tier: int
    stage: str
    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    pixels: int | None = None
    # an arm -> the arm whose tuned values it takes
    tuned_as: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Profile:
    """What a device changes of a study; None leaves the task's own."""

    name: str
    model: str
    pixels: int | None = None
    steps: int | None = None
    seeds: tuple[int, ...] | None = None  # in place of those of the confirmatory parts
    rates: tuple[float, ...] | None = None
    decays: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Design:
    name: str
    question: str
    arms: Mapping[str, Arm]
    tasks: tuple[str, ...]
    profiles: Mapping[str, Profile]
    order: tuple[Part, ...]
    told: Mapping[str, object]  # everything that the file says, as plain values
    digest: str  # twelve hexadecimal digits of the SHA-256 of the file
    path: Path

    def profile(self, name: str) -> Profile:
        return self.profiles[_known(self.name, "profile", name, self.profiles)]

    def arm(self, name: str) -> Arm:
        return self.arms[_known(self.name, "arm", name, self.arms)]


@lru_cache(maxsize=32)
def _read(path: Path, version: tuple[int, int]) -> Design:
    text = path.read_bytes()
    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = str(error).replace("\n", " ")
        raise ValueError(f"{path} is not YAML ({where}); repair it") from error
    name = path.stem
    for field in ("question", "tasks", "profiles", "order"):
        if not isinstance(told, dict) or field not in told:
            raise ValueError(f"{path} does not say its {field}; a design needs it")
    arms = {
        key: Arm(key, value.get("title", key), value.get("model", ""), _pairs(value))
        for key, value in (told.get("arms") or {}).items()
    }
    tasks = tuple(_known(name, "task", task, TASKS) for task in told["tasks"])
    parts = []
    for entry in told["order"]:
        part = Part(
            tier=int(entry["tier"]),
            stage=entry["stage"],
            arms=tuple(_known(name, "arm", arm, arms) for arm in entry.get("arms", ())),
            tasks=tuple(_known(name, "task", task, TASKS) for task in entry.get("tasks", tasks)),
            seeds=tuple(entry.get("seeds", ())),
            pixels=entry.get("pixels"),
            tuned_as=tuple((entry.get("tuned_as") or {}).items()),
        )
        parts.append(part)
    profiles = {
        key: Profile(
            key,
            **{
                field: tuple(value) if isinstance(value, list) else value
                for field, value in entry.items()
            },
        )
        for key, entry in told["profiles"].items()
    }
    digest = hashlib.sha256(text).hexdigest()[:12]
    return Design(name, told["question"], arms, tasks, profiles, tuple(parts), told, digest, path)


def read(name: str) -> Design:
    """The design of a study by its name; ValueError that lists the names for one that is not
    there.
    """
    known = names()
    if name not in known:
        raise ValueError(f"study {name!r} has no design; there are {', '.join(known)}")
    path = STUDIES / f"{name}.yml"
    stat = path.stat()
    return _read(path, (stat.st_mtime_ns, stat.st_size))


def names() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.yml"))


def _pairs(entry: Mapping) -> tuple[tuple[str, object], ...]:
    return tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in sorted((entry.get("options") or {}).items())
    )


def _known(study: str, kind: str, name: str, known) -> str:
    if name not in known:
        raise ValueError(
            f"study {study}: {kind} {name!r} is not known; choose one of {', '.join(known)}"
        )
    return name


# When it was written


def commit(design: Design) -> str | None:
    """The commit that wrote the file as it is now; None where it is changed since, or where there
    is no history.
    """
    path = str(design.path.relative_to(paths.ROOT))
    if _git("status", "--porcelain", "--", path):
        return None
    return _git("log", "-1", "--format=%H", "--", path) or None


def changes(design: Design, records: list[dict]) -> dict[str, int]:
    """Digests of other states of the file under which records of the study were made, with how
    many: a departure, to be printed beside what the study says.
    """
    found: dict[str, int] = {}
    for record in records:
        told = record.get("study") or {}
        if told.get("name") == design.name and told.get("design") != design.digest:
            found[told["design"]] = found.get(told["design"], 0) + 1
    return found


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(paths.ROOT), *words], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
