"""The ledger: whole lines, nothing overwritten, damage named, each run once, records kept by
choice.
"""

import errno
import fcntl
import json
import os
import resource
import subprocess
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Event, Thread

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astroformer import paths
from astroformer.ledger import identity, records


def record(**changes):
    plain = dict.fromkeys(records.FIELDS)
    return (
        plain
        | dict(
            run="abc123",
            status="completed",
            started="2026-01-01T00:00:00+00:00",
            metrics={"top1": 50.0},
        )
        | changes
    )


def append_many(path, number):
    for _ in range(number):
        records.append(record(history=["x" * 2000]), path)


def in_another_process(function, *given):
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(function, *given).result()


# writing


def test_two_processes_that_append_to_one_file_leave_whole_lines(tmp_path):
    path = tmp_path / "job.jsonl"
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        list(pool.map(append_many, [path, path], [40, 40]))
    assert len(records.read_file(path)) == 80


def append_to_a_full_disk_at_times(path, number):
    """Every other record meets a full disk after 100 bytes; how many were added."""
    write, added = os.write, 0

    def short(descriptor, line):
        if len(line) < 2000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, line[:100])

    for count in range(number):
        os.write = short if count % 2 else write
        try:
            records.append(record(history=["x" * 2000]), path)
            added += 1
        except OSError:
            pass
    os.write = write
    return added


def test_a_record_taken_back_takes_no_other_processes_record_with_it(tmp_path):
    path = tmp_path / "job.jsonl"
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        added = list(pool.map(append_to_a_full_disk_at_times, [path, path], [40, 40]))
    assert added == [20, 20] and len(records.read_file(path)) == 40


def test_a_record_with_a_missing_a_strange_or_no_status_field_is_refused(tmp_path):
    for bad in (
        {**record(), "extra": 1},
        *({k: v for k, v in record().items() if k != name} for name in ("seed", "identity")),
        record(status="done"),
    ):
        with pytest.raises(ValueError, match="a ledger record has the fields"):
            records.append(bad, tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize("most", [1, 7, 4096])
def test_a_system_that_writes_in_pieces_writes_the_whole_line(tmp_path, monkeypatch, most):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:most]))
    path = tmp_path / "x.jsonl"
    for seed in (1, 2):
        records.append(record(seed=seed), path)
    monkeypatch.undo()
    assert [one["seed"] for one in records.read_file(path)] == [1, 2]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    room=st.integers(0, 3000),
    before=st.none() | st.sampled_from([b"", b'{"run": "a"}\n', b'{"run": "a"}\n{"ru']),
    end=st.sampled_from([OSError(errno.ENOSPC, "No space"), OSError(errno.EIO, "Bad disk"), None]),
)
def test_a_line_is_written_whole_or_not_at_all(tmp_path, room, before, end):
    """`room` bytes can be written, then comes the error `end`, or a count of none."""
    path, write, left = tmp_path / "x.jsonl", os.write, [room]
    path.unlink(missing_ok=True)
    if before is not None:
        path.write_bytes(before)

    def short(descriptor, line):
        if not left[0] and end:
            raise end
        count = write(descriptor, line[: left[0]]) if left[0] else 0
        left[0] -= count
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", short)
        try:
            records.append(record(history=["x" * 1000]), path)
        except OSError as error:
            told = str(error)
            assert str(path) in told and "ASTROFORMER_LOCAL_LEDGER" in told and "\n" not in told
            assert ("Bad disk" if end and end.errno == errno.EIO else "disk full") in told
            assert (path.read_bytes() if path.exists() else None) == before
            return
    assert path.read_bytes().startswith(before or b"")
    assert json.loads(path.read_bytes().splitlines()[-1])["history"] == ["x" * 1000]


def test_an_interrupt_in_the_middle_of_a_line_leaves_nothing_of_it(tmp_path, monkeypatch):
    path, write = tmp_path / "x.jsonl", os.write
    records.append(record(), path)
    before = path.read_bytes()

    def interrupted(descriptor, line):
        write(descriptor, line[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        records.append(record(), path)
    assert path.read_bytes() == before


def test_who_waited_for_a_file_that_was_removed_meanwhile_writes_a_new_one(tmp_path, monkeypatch):
    path, open_, opened = tmp_path / "x.jsonl", os.open, Event()

    def noted(*given):
        descriptor = open_(*given)
        opened.set()
        return descriptor

    monkeypatch.setattr(os, "open", noted)
    with path.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        waiting = Thread(target=records.append, args=(record(), path))
        waiting.start()
        assert opened.wait(30)
        path.unlink()
    waiting.join(30)
    assert not waiting.is_alive() and len(records.read_file(path)) == 1


def append_beyond_the_limit(path, limit):
    """What a process may write is really limited, as on a full disk; the error's text."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for call in (records.check_writable, lambda path: records.append(record(), path)):
        try:
            call(path)
        except OSError as error:
            told = str(error)
        else:
            return f"{call} had room"
    return told


@pytest.mark.parametrize("exists", [True, False])
def test_where_the_system_stops_a_write_nothing_is_left_of_it(tmp_path, exists):
    path = tmp_path / "x.jsonl"
    if exists:
        records.append(record(), path)
    before = path.read_bytes() if exists else b""
    told = in_another_process(append_beyond_the_limit, path, len(before) + 100)
    assert "disk full" in told and str(path) in told
    assert path.exists() == exists and (not exists or path.read_bytes() == before)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_device_is_said_in_one_line():
    for call in (lambda path: records.write_line(record(), path), records.check_writable):
        with pytest.raises(OSError, match=r"^cannot write to /dev/full: disk full; .*LEDGER$"):
            call(paths.Path("/dev/full"))


def test_after_a_torn_line_a_record_begins_on_a_line_of_its_own(own_runs, capsys):
    path = records.append(record(seed=1))
    with path.open("a") as file:
        file.write(json.dumps(record(seed=2))[:50])
    records.append(record(seed=3))
    assert [one["seed"] for one in records.read_file(path)] == [1, 3]
    assert f"{path}, line 2 is not a JSON record" in capsys.readouterr().err


# what Python's own reader makes of NaN and the infinities when it is told that they are null
def nulled(value):
    return json.loads(json.dumps(value), parse_constant=lambda name: None)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
    lambda parts: st.lists(parts) | st.tuples(parts) | st.dictionaries(st.text(), parts),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(PLAIN)
def test_a_number_that_is_not_finite_is_null_wherever_it_stands(tmp_path, value):
    path = tmp_path / "x.jsonl"
    path.unlink(missing_ok=True)
    records.append(record(history=value), path)
    assert records.read_file(path)[0]["history"] == nulled(value)


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    path = tmp_path / "x.jsonl"
    values = [np.float32(0.5), np.float64("inf"), np.int64(3), np.float32("nan")]
    records.append(record(metrics={"a": values}), path)
    assert records.read_file(path)[0]["metrics"] == {"a": [0.5, None, 3, None]}


def test_trying_whether_a_record_can_be_written_leaves_no_trace(own_runs):
    records.check_writable()
    assert list(paths.local_ledger().iterdir()) == []
    path = records.append(record())
    before = path.read_bytes()
    records.check_writable()
    assert path.read_bytes() == before and list(paths.local_ledger().iterdir()) == [path]


def test_a_ledger_that_cannot_be_written_to_is_said_before_a_run(own_runs, monkeypatch):
    (own_runs / "file").write_text("")
    for folder in ("file", "file/below"):
        monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(own_runs / folder))
        with pytest.raises(OSError, match=r"^cannot write to .*ASTROFORMER_LOCAL_LEDGER$"):
            records.check_writable()
    with pytest.raises(OSError, match="cannot write to"):
        records.check_writable(own_runs)


# reading

BROKEN = {
    "torn": '{"run": "abc", "sta',
    "no object": "[1, 2]",
    "a number": "12",
    "without a run": '{"status": "completed", "started": "2026"}',
    "a run that is no text": '{"run": 5, "status": "completed", "started": "2026"}',
    "bytes of a lost power supply": "\0\0\0",
}


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_of_this_machine_is_named_once_and_skipped(own_runs, capsys, line):
    path = records.append(record(seed=1))
    path.write_text(path.read_text() + line + "\n" + json.dumps(record(seed=2)) + "\n")
    for _ in range(2):
        local = [one for one in records.read() if one["origin"] == "local"]
        assert [one["seed"] for one in local] == [1, 2]
    told = capsys.readouterr().err
    assert told.count(f"{path}, line 2 ") == 1 and "remove the line" in told
    assert told.count("\n") == 1


def test_a_line_of_this_machine_without_status_or_start_is_broken_too(own_runs, capsys):
    path = records.append(record())
    with path.open("a") as file:
        file.write('{"run": "abc"}\n')
    assert len([one for one in records.read() if one["origin"] == "local"]) == 1
    assert "line 2 is not a JSON record (it has no status and no started)" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN)
def test_a_broken_committed_line_is_an_error_with_its_file_and_number(tmp_path, line):
    (tmp_path / "bad.jsonl").write_text(json.dumps(record()) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=r"bad.jsonl, line 2"):
        records.read(tmp_path)


def test_a_file_that_its_process_took_back_meanwhile_is_empty(own_runs):
    assert records.read_file(paths.local_ledger() / "gone.jsonl") == []
    with pytest.raises(FileNotFoundError):
        records.read_file(own_runs / "gone.jsonl")


def test_committed_records_are_complete_and_name_no_path_of_a_machine():
    for path in paths.LEDGER.glob("*.jsonl"):
        for one in records.read_file(path):
            older = identity.revision(one) == identity.FIRST
            expected = set(records.FIELDS) - set(records.YOUNGER if older else ())
            assert set(one) - set(records.OPTIONAL) == expected, path.name
            assert not any(
                word in json.dumps(one) for word in ("/home/", "/root/", "/tmp/", "/work/")
            ), path.name
            assert one["git"]["commit"] and one["device"]


# which record of a run counts


def test_the_newest_completed_record_answers_for_a_run(own_runs):
    for day, status in ((1, "completed"), (2, "completed"), (3, "failed")):
        records.append(record(started=f"2026-01-0{day}T00:00:00+00:00", status=status))
    assert records.completed("abc123")["started"].startswith("2026-01-02")
    assert records.completed("other") is None


def test_a_run_in_another_precision_answers_the_same_question_and_one_of_another_seed_does_not(
    own_runs,
):
    def made(day, **changes):
        own = {"revision": 2, "seed": 0, "precision": "float32"} | changes
        return record(
            run=identity.digest(own), identity=own, started=f"2026-01-0{day}T00:00:00+00:00"
        )

    asked = made(1)
    for one in (made(1, precision="bfloat16"), made(2, seed=1), made(3, revision=3)):
        records.append(one)
    question = identity.question(asked)
    found = records.answering(question)
    assert found["identity"]["precision"] == "bfloat16"
    records.append(made(4) | {"status": "failed"})
    assert records.answering(question)["run"] == found["run"], "a failed run answers nothing"
    records.append(made(5))
    assert records.answering(question)["identity"]["precision"] == "float32"
    assert records.answering("another") is None


def test_a_committed_record_of_revision_1_answers_the_question_of_its_own_run(own_runs):
    committed = records.read(paths.LEDGER)[0]
    assert records.answering(identity.question(committed))["run"] == committed["run"]


def made(number, seed, **changes):
    """Two records are one run if they have the same number and seed."""
    return record(
        run=f"{number}-{seed}",
        seed=seed,
        identity={"number": number, "seed": seed, "revision": 2},
        origin="local",
        device="a chip",
        **changes,
    )


MADE = st.lists(
    st.builds(
        lambda number, seed, minute, status, device, origin, renamed: (
            made(number, seed, started=f"2026-01-01T00:{minute:02}:00+00:00")
            | dict(status=status, device=device, origin=origin)
            # equal runs may have had two hashes
            | ({"run": f"again {number}-{seed}"} if renamed else {})
        ),
        number=st.integers(0, 2),
        seed=st.integers(0, 2),
        minute=st.integers(0, 59),
        status=st.sampled_from(records.STATUS),
        device=st.sampled_from(["a chip", "a card"]),
        origin=st.sampled_from(["committed", "local"]),
        renamed=st.booleans(),
    ),
    unique_by=lambda one: one["started"],
)


@settings(deadline=None)
@given(MADE, st.randoms(use_true_random=False))
def test_each_completed_run_counts_once_by_its_newest_record_in_any_order(found, shuffle):
    newest = {}
    for one in sorted(found, key=lambda one: one["started"]):
        if one["status"] == "completed":
            newest[(one["identity"]["number"], one["identity"]["seed"])] = one
    expected = sorted(newest.values(), key=lambda one: one["started"])
    shuffle.shuffle(found)
    assert records.unique(found) == expected
    frame = records.unique(records.frame(found))
    assert frame["started"].tolist() == [one["started"] for one in expected]


def test_a_run_of_one_hash_counts_once_whatever_else_differs():
    found = [made(number, 0, started=f"2026-01-0{number + 1}") | {"run": "x"} for number in (0, 1)]
    assert records.unique(found) == found[1:]


def test_a_frame_says_group_and_revision_and_holds_no_text_among_its_metrics():
    found = [made(1, 0), made(1, 1), made(2, 0), record(metrics={"top1": None}, recipe={})]
    frame = records.frame(found)
    assert frame["group"].nunique() == 3 and frame["group"][0] == frame["group"][1]
    assert frame["revision"].tolist() == [2, 2, 2, 1]
    assert frame["metrics.top1"].dtype == float and np.isnan(frame["metrics.top1"][3])
    assert {"group", "revision", "identity"} <= set(records.frame([]).columns)


FLAT = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=3)
NAMES = st.sampled_from("abcd")
ODD = st.fixed_dictionaries(
    {"started": st.just("2026"), "identity": st.none() | st.just({"revision": 2})},
    optional={
        "dataset": st.dictionaries(NAMES, FLAT | st.lists(FLAT, max_size=2)),
        "options": st.dictionaries(NAMES, FLAT),
        "metrics": st.dictionaries(NAMES, st.none() | st.floats(allow_nan=False)),
        "history": st.lists(st.dictionaries(NAMES, FLAT), max_size=2),
        "seed": st.integers(0, 9),
        "stack": st.none() | st.text(max_size=3),
    },
)


def known(table):
    """Cell by cell, with None for what is not known."""
    return {name: [None if value != value else value for value in table[name]] for name in table}


@given(st.lists(ODD, min_size=1, max_size=6))
def test_a_frame_has_the_cells_that_pandas_makes_of_nested_records(found):
    plain = [{name: value for name, value in one.items() if name != "identity"} for one in found]
    expected = known(pd.json_normalize(plain, max_level=1))
    mine = known(records.frame(found).drop(columns=["identity", "group", "revision"]))
    assert mine == {"seed": [None] * len(found)} | expected
    assert list(mine)[: len(expected)] == list(expected)


GENUINE = [one for one in records.read(paths.LEDGER) if identity.revision(one) == identity.REVISION]


def kind(value):
    """As JSON has it."""
    kinds = {bool: "number", int: "number", float: "number", type(None): None}
    return kinds.get(
        type(value), next((one for one in (dict, list) if isinstance(value, one)), str)
    )


@pytest.mark.parametrize("name", [name for name in records.FIELDS if name in records.KINDS])
def test_a_field_of_another_kind_than_in_every_record_is_refused(tmp_path, name):
    seen = {kind(one[name]) for one in GENUINE} - {None} or {"number"}  # steps at which it failed
    for value in (1, 1.5, True, "x", [], {}, None):
        path = tmp_path / f"{value}.jsonl"
        path.write_text(json.dumps(GENUINE[0] | {name: value}))
        if kind(value) in {*seen, None}:
            assert records.read_file(path, needed=records.CORE)[0][name] == value
            continue
        with pytest.raises(ValueError, match=rf"line 1 .*its {name} is a {type(value).__name__}"):
            records.read_file(path, needed=records.CORE)


# keeping


def test_a_local_record_is_kept_once_and_by_choice(own_runs, monkeypatch):
    monkeypatch.setattr(paths, "LEDGER", own_runs / "committed")
    records.append(record())
    assert [r["origin"] for r in records.read()] == ["local"]
    kept = records.keep("abc", "some-machine")
    records.keep("abc", "some-machine")
    assert kept.name == "some-machine.jsonl" and len(records.read_file(kept)) == 1
    # not a second time as a local one
    assert [r["origin"] for r in records.read()] == ["committed"]
    with pytest.raises(ValueError, match="no completed local record"):
        records.keep("zzz", "some-machine")
    with pytest.raises(ValueError, match="is not a name"):
        records.keep("abc", "../elsewhere")


def test_a_local_record_of_revision_1_can_still_be_kept(own_runs, monkeypatch):
    monkeypatch.setattr(paths, "LEDGER", own_runs / "committed")
    older = {name: value for name, value in record().items() if name not in records.YOUNGER}
    records.write_line(older, records.job_file())
    assert records.read_file(records.keep("abc", "mine")) == [older]


def test_records_that_are_kept_leave_a_checkout_as_it_was(tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    files = [tmp_path / "astroformer" / "a.py", tmp_path / "book" / "ledger" / "a.jsonl"]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("1\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "A commit."]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path)
    assert records.git_state()["dirty"] is False
    files[1].write_text("1\n2\n")
    assert records.git_state()["dirty"] is False
    files[0].write_text("2\n")
    assert records.git_state()["dirty"] is True
