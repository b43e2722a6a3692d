"""The lines of a ledger's file as dictionaries. A file that is as it was when this process last
read it is not read again, so whoever asks for the ledger at every turn pays for what is new.

All readers share what was read, therefore its parts cannot be changed (`FixedDict`, `FixedList`).
orjson reads the lines. What it refuses or would round, Python's json decides, which takes more:
NaN, numbers beyond 64 bits, halves of surrogates.

Reads top to bottom: `read`, one line, parts that cannot be changed.
"""

import gc
import json
import marshal
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson

DEEPEST = 50  # brackets within brackets; no record comes near
MOST = 100_000  # files of which the lines are kept
# The clock of a file system may stand still for so long: of a file that was written later than
# this before it was read, another version may have the same time.
STILL = 2 * 10**9  # nanoseconds; FAT's


class Lines(NamedTuple):
    """What a file holds."""

    records: tuple[dict, ...]
    numbers: tuple[int, ...]  # the number of the line of each record
    broken: tuple[tuple[int, str], ...]  # the number of a line that is none, and why


_KEPT: dict[tuple, tuple[tuple[int, ...], Lines]] = {}


def read(path: Path, check: Callable[..., None], *arguments: object) -> Lines:
    """The lines of a file, but for empty ones. `check(record, *arguments)` raises a ValueError for
    what is JSON and no record. FileNotFoundError without the file; ValueError for a folder, a pipe
    or a device.
    """
    # a pipe would be waited for without an end
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} is a folder, a pipe or a device and no ledger; remove it")
    asked = (str(path), check, arguments)
    with open(path, "rb") as file:  # which makes a network's file system ask what is new
        version = _version(file.fileno())
        known = _KEPT.get(asked)
        if known and known[0] == version:
            return known[1]
        _KEPT.pop(asked, None)
        content, begun = file.read(), time.time_ns()
        same = _version(file.fileno()) == version
    with uncollected():
        found = _lines_of(content, check, arguments)
    if same and begun - max(version[-2:]) > STILL:
        if len(_KEPT) >= MOST:
            _KEPT.clear()
            _COMMON.clear()
        _KEPT[asked] = version, found
    return found


def _version(descriptor: int) -> tuple[int, ...]:
    """What differs once a file was appended to, cut, replaced or written over."""
    told = os.fstat(descriptor)
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's search for cycles: records have none, and each search would pass through all
    records read so far. It takes longer than the reading.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _lines_of(content: bytes, check: Callable[..., None], arguments: tuple) -> Lines:
    records, numbers, broken = [], [], []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = parsed(line)
            check(record, *arguments)
            records.append(fixed(record))
            numbers.append(number)
        except ValueError as error:
            broken.append((number, str(error)))
    return Lines(tuple(records), tuple(numbers), tuple(broken))


# One line

# every bracket as a brace, nothing else
OPENING = ord("{")
BRACES = bytes.maketrans(b"[]", b"{}")
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# every digit as a nine; more of them in a row than a number of 64 bits may have
NINES = bytes.maketrans(b"012345678", b"9" * 9)
MANY = b"9" * 19


def parsed(line: bytes) -> object:
    """What Python's json makes of a line; ValueError for what is no JSON, and for more than DEEPEST
    brackets within one another.
    """
    if _is_deep(line):
        raise ValueError(f"it has more than {DEEPEST} brackets within one another")
    if not _may_have_large_whole_numbers(line):
        try:
            return orjson.loads(line)
        except ValueError:
            pass
    return json.loads(line)


def _is_deep(line: bytes) -> bool:
    """Whether more than DEEPEST brackets stand within one another, those in texts counted too:
    Python's recursion would end with more than its own limit.
    """
    signs = left = line.translate(BRACES, NO_BRACKETS)
    for _ in range(DEEPEST):  # each time without the innermost pairs
        left = left.replace(b"{}", b"")
        if not left:
            return False
    depth = most = 0  # some have no partner, or there are too many
    for sign in signs:
        depth += 1 if sign == OPENING else -1
        most = max(most, depth)
    return most > DEEPEST


def _may_have_large_whole_numbers(line: bytes) -> bool:
    """Whether a whole number may need more than 64 bits, of which orjson makes a rounded one.
    Fractions have as many digits in a row.
    """
    digits = line.translate(NINES)
    return MANY in digits and MANY in digits.replace(b"." + MANY, b"")


# Parts that cannot be changed


def _refuse(*_, **__):
    raise TypeError(
        "what was read from a ledger is shared by all who read it and cannot be changed; "
        "copy.deepcopy(record) can be"
    )


class FixedDict(dict):
    """A dictionary that stays as it is. Its copies are plain ones."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __copy__(self) -> dict:
        return dict(self)

    def __deepcopy__(self, memo: dict) -> dict:
        return {name: _plain(part) for name, part in self.items()}

    def __reduce__(self):
        return dict, (dict(self),)


class FixedList(list):
    """A list that stays as it is. Its copies are plain ones."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __copy__(self) -> list:
        return list(self)

    def __deepcopy__(self, memo: dict) -> list:
        return [_plain(part) for part in self]

    def __reduce__(self):
        return list, (list(self),)


def _plain(part: object) -> object:
    """A copy that can be changed, of its own each time: what records have in common is one object,
    and copies of it are not.
    """
    return part.__deepcopy__({}) if isinstance(part, FixedDict | FixedList) else part


NESTED = frozenset((dict, list))
# Parts that many records have in common: each is kept once, by its content.
COMMON = frozenset(
    ("versions", "git", "execution", "recipe", "options", "dataset", "evaluation", "study")
)
_COMMON: dict[bytes, "FixedDict | FixedList"] = {}


def fixed(value: dict | list) -> FixedDict | FixedList:
    """What was parsed, with all its parts, so that nobody can change it. The given one is used
    up.
    """
    if type(value) is list:
        return FixedList([fixed(part) if type(part) in NESTED else part for part in value])
    if not NESTED.isdisjoint(map(type, value.values())):
        for name, part in value.items():
            if type(part) in NESTED:
                value[name] = _common(part) if part and name in COMMON else fixed(part)
    return FixedDict(value)


def _common(part: dict | list) -> FixedDict | FixedList:
    """The same, or an equal one that an earlier record has."""
    content = marshal.dumps(part, 2)  # tells 1 from 1.0 and True, and null from NaN
    known = _COMMON.get(content)
    if known is None:
        known = _COMMON[content] = fixed(part)
    return known
