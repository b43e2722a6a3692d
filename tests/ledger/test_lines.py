"""What a line of a ledger is read as, and that what was read once is shared and stays as it is."""

import copy
import json
import os
import pickle
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from many_records import made, write

from astroformer import paths
from astroformer.ledger import lines, records
from astroformer.ledger.lines import DEEPEST, FixedDict, FixedList, fixed

NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**63, 2**64, -(2**63) - 1, 10**30, -(10**400), 5e-324, 1e-5, 0.000123])
)
PLAIN = st.none() | st.booleans() | NUMBERS | st.text() | st.sampled_from(["\ud800", "\0", "é"])
VALUES = st.recursive(
    PLAIN, lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts), max_leaves=20
)
RECORDS = st.dictionaries(st.sampled_from([*records.FIELDS, *lines.COMMON]) | st.text(), VALUES)


def deepest(line):
    """How many brackets stand within one another at most, counted one by one."""
    depth = most = 0
    for sign in line:
        depth += {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}.get(sign, 0)
        most = max(most, depth)
    return most


def reference(line):
    """What Python's own reader makes of a line; None for a ValueError."""
    try:
        return [json.loads(line)] if deepest(line) <= DEEPEST else None
    except ValueError:
        return None


def read(line):
    try:
        return [lines.parsed(line)]
    except ValueError:
        return None


# One line


@given(VALUES, st.booleans())
def test_a_value_is_read_as_by_pythons_own_reader_with_the_same_types(value, ascii_only):
    line = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert repr(read(line)) == repr(reference(line))


@given(VALUES, st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1))
def test_a_damaged_line_is_read_or_refused_as_by_pythons_own_reader(value, damage):
    line = bytearray(json.dumps({"a": value}).encode())
    for place, byte in damage:
        line[place % len(line)] = byte
    assert repr(read(bytes(line))) == repr(reference(bytes(line)))


@pytest.mark.parametrize(
    "text",
    [
        *("1e400", "-0", "-0.0", "NaN", "-Infinity", "01", "1.", "[1,]", '{"a":1,"a":2}', " 1\r"),
        *("18446744073709551616", "-9223372036854775809", "1" * 5000, "0.00012345678901234567"),
        *("12345678901234567890123", "1.2345678901234567890123e5", '"\\ud800"', "\ufeff{}"),
        *('"\x01"', '"\\u0000"', "\x0c1", "[" * 50 + "]" * 50, "[" * 51 + "]" * 51, "[" * 10**6),
        '{"a": "' + "[" * 51 + '"}',
    ],
)
def test_what_json_readers_take_differently_is_read_as_by_pythons_own(text):
    assert repr(read(text.encode())) == repr(reference(text.encode()))


@given(
    st.text("[]{}x", max_size=300)
    | st.builds(lambda n, m: "[" * n + "]" * m, *2 * [st.integers(45, 55)])
)
def test_a_line_is_deep_if_so_many_brackets_stand_within_one_another(text):
    assert lines._is_deep(text.encode()) == (deepest(text.encode()) > DEEPEST)


# Parts that cannot be changed

PLAIN_ONES = ({"a": 1, "b": 2}, [3, 1, 2])
ARGUMENTS = (
    *((), (0,), (2,), ("a",), ("c",), ({"c": 1},), ([9],), (0, 9), ("a", 9), ("c", 9)),
    (slice(0, 1), [9]),
)


def calls(plain):
    """Each method with arguments that change a plain dictionary or list."""
    for name in dir(plain):
        for arguments in ARGUMENTS:
            changed = copy.deepcopy(plain)
            try:
                getattr(changed, name)(*arguments)
            except (TypeError, ValueError, KeyError, IndexError, AttributeError):
                continue
            if changed != plain and name != "__init__":
                yield name, arguments


@pytest.mark.parametrize("plain", PLAIN_ONES, ids=["dict", "list"])
def test_no_method_changes_what_was_read(plain):
    own, known = fixed(copy.deepcopy(plain)), list(calls(plain))
    assert len({name for name, _ in known}) >= 8
    for name, arguments in known:
        with pytest.raises(TypeError, match=r"cannot be changed; copy.deepcopy"):
            getattr(own, name)(*arguments)
        assert own == plain, (name, arguments)


@given(RECORDS)
def test_what_was_read_equals_what_was_written_and_is_of_the_same_kinds(record):
    line = json.dumps(record).encode()
    own = fixed(json.loads(line))
    assert repr(own) == repr(json.loads(line)) and isinstance(own, dict)
    assert json.dumps(own) == json.dumps(record)

    def parts(value):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            if isinstance(part, dict | list):
                yield from parts(part)

    assert all(isinstance(part, FixedDict | FixedList) for part in parts(own))
    for copied in (copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert repr(copied) == repr(own)
        assert {type(part) for part in parts(copied)} <= {dict, list}, "which can be changed"


def test_a_deep_copy_of_a_record_has_no_part_twice(own_runs):
    """Equal parts are one object in what was read."""
    write(paths.local_ledger(), 3)
    record = records.read()[-1]
    assert record["attempts"][0]["versions"] is record["versions"]
    copied = copy.deepcopy(record)
    copied["versions"]["torch"] = "another"
    assert copied["attempts"][0]["versions"] == record["versions"] != copied["versions"]


# What is kept


@pytest.fixture
def counted(monkeypatch):
    """The lines that are parsed from now on; a file is kept however young it is."""
    found, parsed = [], lines.parsed
    monkeypatch.setattr(lines, "parsed", lambda line: found.append(line) or parsed(line))
    monkeypatch.setattr(lines, "STILL", -(10**18))
    lines._KEPT.clear()
    return found


def local():
    return [one for one in records.read() if one["origin"] == "local"]


def test_a_second_reading_parses_what_is_new_alone(own_runs, counted):
    files = write(paths.local_ledger(), 60)
    first = local()
    assert len(first) == 60
    counted.clear()
    assert local() == first and records.completed("nothing") is None
    assert records.completed(first[3]["run"]) == first[3] and counted == []
    records.append(made(60), files[0])
    assert len(local()) == 61 and len(counted) == len(files[0].read_bytes().splitlines())


def one(number, length=30):
    """A line of a fixed length."""
    text = json.dumps({"run": f"{number}", "status": "failed", "started": "2026"})
    return text[:-1] + " " * (length + 40 - len(text)) + "}\n"


def appended(path):
    with path.open("a") as file:
        file.write(one(7))


def truncated(path):
    os.truncate(path, len(one(0)))


def replaced(path):
    beside = path.with_name("other")
    beside.write_text(one(3) + one(4))
    os.utime(beside, ns=(path.stat().st_mtime_ns,) * 2)
    os.replace(beside, path)


def written_over(path):
    then = path.stat().st_mtime_ns
    with path.open("r+") as file:
        file.write(one(5) + one(6))
    os.utime(path, ns=(then, then))


def made_again(path):
    path.unlink()
    path.write_text(one(8) + one(9))


@pytest.mark.parametrize(
    "change",
    [appended, truncated, replaced, written_over, made_again],
    ids=lambda one: one.__name__,
)
def test_a_file_that_changed_is_read_again(own_runs, counted, change):
    path = paths.local_ledger() / "job.jsonl"
    path.parent.mkdir()
    path.write_text(one(1) + one(2))
    time.sleep(0.02)  # beyond the clock of the file system, which STILL waits for otherwise
    assert [record["run"] for record in local()] == ["1", "2"]
    assert [record["run"] for record in local()] == ["1", "2"] and len(counted) == 2 + len(
        records.read(paths.LEDGER)
    )
    change(path)
    fresh = [json.loads(line)["run"] for line in path.read_text().splitlines()]
    assert [record["run"] for record in local()] == fresh and fresh != ["1", "2"]


def test_a_file_written_over_within_a_tick_of_the_clock_is_read_again(own_runs):
    path = paths.local_ledger() / "job.jsonl"
    path.parent.mkdir()
    for number in range(300):
        with path.open("r+" if number else "w") as file:
            file.write(one(number))
        assert [record["run"] for record in records.read_file(path)] == [f"{number}"]


def test_a_file_that_is_gone_is_not_remembered(own_runs, counted):
    (path,) = write(paths.local_ledger(), 3)
    assert len(local()) == 3
    path.unlink()
    assert local() == []


def test_a_reader_cannot_change_what_another_reads(own_runs, counted):
    write(paths.local_ledger(), 5)
    before = copy.deepcopy(local())
    for record in local():
        for value in record.values():
            for call in ("clear", "sort"):
                if isinstance(value, dict | list) and hasattr(value, call):
                    with pytest.raises(TypeError, match="cannot be changed; copy.deepcopy"):
                        getattr(value, call)()
        with pytest.raises(TypeError):
            record["history"][0]["top1"] = 100.0
        with pytest.raises(TypeError):
            record["identity"]["recipe"] |= {"epochs": 0}
        record.clear()  # a dictionary of its own
    assert local() == before
    for record in records.read_file(*paths.local_ledger().glob("*.jsonl")):
        record["run"] = "another"
    assert local() == before


def test_a_broken_line_is_told_of_a_committed_file_at_every_reading(tmp_path, counted):
    (tmp_path / "a.jsonl").write_text(one(1) + "{\n")
    for _ in range(3):
        with pytest.raises(ValueError, match=r"a.jsonl, line 2 is not a JSON record"):
            records.read(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.integers(0, 39), min_size=1, max_size=5))
def test_records_in_several_files_are_those_of_one(tmp_path, ends):
    texts = [json.dumps(made(number)) + "\n" for number in range(40)]
    cuts = sorted({0, 40, *ends})
    whole, several = tmp_path / "one", tmp_path / "several"
    for folder in (whole, several):
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
    (whole / "all.jsonl").write_text("".join(texts))
    for begin, end in zip(cuts, cuts[1:]):
        (several / f"{99 - begin:02}.jsonl").write_text("".join(texts[begin:end]))

    def found(folder):
        return sorted(records.read(folder), key=lambda record: record["run"])

    assert found(whole) == found(several)
    once = [{one["run"] for one in records.unique(found(folder))} for folder in (whole, several)]
    assert once[0] == once[1]


def test_records_of_a_made_up_ledger_are_as_runs_leave_them():
    found = [made(number) for number in range(48)]
    assert found == [made(number) for number in range(48)]
    for record in found:
        assert set(record) - set(records.OPTIONAL) == set(records.FIELDS)
        assert record["run"] == records.identity.digest(record["identity"])
    assert len({record["run"] for record in found}) == 48
    assert records.frame(found).groupby("group").size().tolist() == [8] * 6
