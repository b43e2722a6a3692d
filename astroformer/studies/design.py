"""The design of a study as it is written in `book/studies/NAME.yml`: question, arms, tasks,
protocol, verdict rule, profiles, and the order in which runs are made.

The file is committed before the first confirmatory run. Every record of a study bears the digest of
the file that it was made under, so that a later change shows (`changes`).
"""

import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import yaml

from astroformer import paths
from astroformer.data.tasks import TASKS

STUDIES = paths.BOOK / "studies"
# What PyYAML raises of a file that is none, and of words that are not what they claim (!!int x).
NO_YAML = (
    *(yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError),
    *(ArithmeticError, RecursionError),
)
# What the fields of a part of the order and of a profile are; a list is one of such values.
NUMBER = (int, float)
KINDS: dict[str, type | tuple[type, ...] | list] = {
    **dict.fromkeys(("tier", "pixels", "steps"), int),
    **dict.fromkeys(("stage", "model"), str),
    **dict.fromkeys(("arms", "tasks", "profiles"), [str]),
    **dict.fromkeys(("rates", "decays"), [NUMBER]),
    "seeds": [int],
    "tuned_as": dict,
}


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
    profiles: tuple[str, ...] = ()  # of which it is a part; none named: of all


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
    told: Mapping[str, Any]  # everything that the file says, as plain values
    digest: str  # twelve hexadecimal digits of the SHA-256 of the file
    path: Path

    def profile(self, name: str) -> Profile:
        return self.profiles[known(self.name, "profile", name, self.profiles)]

    def parts(self, profile: Profile) -> tuple[Part, ...]:
        """The parts of the order that a profile has."""
        return tuple(
            part for part in self.order if not part.profiles or profile.name in part.profiles
        )

    def arm(self, name: str) -> Arm:
        return self.arms[known(self.name, "arm", name, self.arms)]


@lru_cache(maxsize=32)
def _read(path: Path, version: tuple[int, int]) -> Design:
    text = path.read_bytes()
    try:
        told = yaml.safe_load(text)
    except NO_YAML as error:
        where = " ".join(str(error).split())
        raise ValueError(f"{path} is not YAML ({where}); repair it") from error
    kinds = {"question": str, "tasks": [str], "profiles": dict, "order": list}
    for field, kind in kinds.items():
        if not isinstance(told, dict) or not told.get(field):
            raise ValueError(f"{path} does not say its {field}; a design needs it")
        _check_kind(path, "the file", field, told[field], kind)
    name, arms = path.stem, {}
    _check_kind(path, "the file", "arms", told.get("arms") or {}, dict)
    for key, entry in (told.get("arms") or {}).items():
        entry = _said(path, f"arm {key}", entry, ("title",))
        for field, kind in (("title", str), ("model", str), ("options", dict)):
            _check_kind(path, f"arm {key}", field, entry.get(field), kind)
        arms[key] = Arm(key, entry["title"], entry.get("model", ""), _pairs(entry))
    tasks = tuple(known(name, "task", task, TASKS) for task in told["tasks"])
    order = tuple(
        _part(path, place, entry, arms, tasks) for place, entry in enumerate(told["order"], 1)
    )
    profiles = {
        key: Profile(key, **_fields(path, f"profile {key}", entry, Profile, ("model",)))
        for key, entry in told["profiles"].items()
    }
    digest = hashlib.sha256(text).hexdigest()[:12]
    for part in order:
        for profile in part.profiles:
            known(name, "profile", profile, profiles)
    return Design(name, told["question"], arms, tasks, profiles, order, told, digest, path)


def _part(
    path: Path, place: int, entry: object, arms: Mapping[str, Arm], tasks: tuple[str, ...]
) -> Part:
    """One line of the order."""
    study, where = path.stem, f"part {place} of the order"
    found = _fields(path, where, entry, Part, ("tier", "stage"))
    as_which: dict[str, str] = dict(found.get("tuned_as") or {})
    for arm in as_which.values():
        _check_kind(path, where, "tuned_as", arm, str, needed=True)
    for arm in (*found.get("arms", ()), *as_which, *as_which.values()):
        known(study, "arm", arm, arms)
    for task in found.get("tasks", ()):
        known(study, "task", task, TASKS)
    usual = {"arms": (), "tasks": tasks, "seeds": ()}
    return Part(**{**usual, **found, "tuned_as": tuple(as_which.items())})


def _fields(
    path: Path, where: str, entry: object, kind: type, needed: tuple[str, ...]
) -> dict[str, Any]:
    """What an entry says, lists as tuples; ValueError for a field that its kind does not have: a
    misspelt one would be passed over, and other runs made.
    """
    choices = [field.name for field in fields(kind) if field.name != "name"]
    found = _said(path, where, entry, needed)
    for field in found:
        if field not in choices:
            raise ValueError(
                f"{path}: {where} says {field!r}, which is not known; choose one of "
                f"{', '.join(choices)}"
            )
        _check_kind(path, where, field, found[field], KINDS[field], needed=field in needed)
    return {
        field: tuple(value) if isinstance(value, list) else value
        for field, value in found.items()
        if value is not None
    }


def _check_kind(
    path: Path,
    where: str,
    field: str,
    value: object,
    kind: type | tuple[type, ...] | list,
    *,
    needed: bool = False,
) -> None:
    """ValueError for a value of another kind than its field's; the keys of a dictionary are texts,
    and what may be left out may be null.
    """
    if value is None and not needed:
        return
    of_list = isinstance(kind, list)
    inner = kind[0] if of_list else kind
    values = value if of_list and isinstance(value, list) else [value]
    right = of_list == isinstance(value, list) or kind is list
    if isinstance(value, dict):
        right = right and all(isinstance(key, str) for key in value)
    if not right or not all(
        isinstance(one, inner) and (inner is dict or not isinstance(one, bool)) for one in values
    ):
        words = getattr(inner, "__name__", "number")
        raise ValueError(
            f"{path}: {where} says {field} {str(value)[:60]!r}, which is no "
            f"{'list of ' if of_list else ''}{words}; repair it"
        )


def _said(path: Path, where: str, entry: object, needed: tuple[str, ...]) -> Mapping:
    for field in needed:
        if not isinstance(entry, Mapping) or field not in entry:
            raise ValueError(f"{path}: {where} does not say its {field}; add it")
    return cast(Mapping, entry)


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


def known(study: str, kind: str, name: str, choices: Iterable[str]) -> str:
    """The name; ValueError in one line, with the choices, for one that is not among them."""
    if name not in choices:
        raise ValueError(
            f"study {study}: {kind} {name!r} is not known; choose one of "
            f"{', '.join(map(str, choices))}"
        )
    return name


# When it was written


def commit(design: Design) -> str | None:
    """The commit that wrote the file as it is now; None where it is changed since, or where there
    is no history to tell by.
    """
    if _git(design, "status", "--porcelain") != "":
        return None
    found, _, parents = (_git(design, "log", "-1", "--format=%H %P") or "").partition(" ")
    # the oldest commit of a shallow clone seems to have written every file
    if not parents and _git(design, "rev-parse", "--is-shallow-repository", file=False) == "true":
        return None
    return found or None


def changes(design: Design, records: Iterable[Mapping]) -> dict[str, int]:
    """Digests of other states of the file under which confirmatory records of the study were made,
    with how many: a departure, to be printed beside what the study says. Tuning, which sees no
    test image, comes before and may change the design.
    """
    found: dict[str, int] = {}
    for record in records:
        told = record.get("study") or {}
        if told.get("stage") == "tuning" or told.get("name") != design.name:
            continue
        if told.get("design") != design.digest:
            digest = told.get("design", "an unknown state")
            found[digest] = found.get(digest, 0) + 1
    return found


def _git(design: Design, *words: str, file: bool = True) -> str | None:
    """What git says, of the design's file or of its repository; None where it cannot say."""
    about = ["--", design.path.name] if file else []
    try:
        done = subprocess.run(
            ["git", "-C", str(design.path.parent), *words, *about],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
