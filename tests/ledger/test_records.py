"""The ledger: whole lines, nothing overwritten, damage named, records kept by choice."""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from astroformer import paths
from astroformer.ledger import records


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


def test_two_processes_that_append_to_one_file_leave_whole_lines(tmp_path):
    path = tmp_path / "job.jsonl"
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        list(pool.map(append_many, [path, path], [40, 40]))
    assert len(records.read_file(path)) == 80


def test_a_record_with_a_missing_a_strange_or_no_status_field_is_refused(tmp_path):
    for bad in (
        {**record(), "extra": 1},
        {k: v for k, v in record().items() if k != "seed"},
        record(status="done"),
    ):
        with pytest.raises(ValueError, match="a ledger record has the fields"):
            records.append(bad, tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()


def test_the_newest_completed_record_answers_for_a_run(own_runs):
    for day, status in ((1, "completed"), (2, "completed"), (3, "failed")):
        records.append(record(started=f"2026-01-0{day}T00:00:00+00:00", status=status))
    assert records.completed("abc123")["started"].startswith("2026-01-02")
    assert records.completed("other") is None


def test_a_damaged_line_is_named_with_its_file_and_number(tmp_path):
    (tmp_path / "bad.jsonl").write_text(json.dumps(record()) + "\n{half a li\n")
    with pytest.raises(ValueError, match=r"bad.jsonl, line 2"):
        records.read(tmp_path)


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


def test_committed_records_are_complete_and_name_no_path_of_a_machine():
    for path in paths.LEDGER.glob("*.jsonl"):
        for one in records.read_file(path):
            assert set(one) == set(records.FIELDS), path.name
            assert not any(
                word in json.dumps(one) for word in ("/home/", "/root/", "/tmp/", "/work/")
            ), path.name
            assert one["git"]["commit"] and one["device"]
