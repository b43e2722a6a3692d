"""A part file gives back what was whole in it, wherever it was cut; a table is written whole or not
at all, and both formats hold the same.
"""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astroformer.inference import rows
from astroformer.inference.rows import Answers, Busy, Columns, frame, made_of, part_of, tell

CLASSES = ("round", "2", "label")
COLUMNS = Columns(CLASSES, 2, False, "0123 4567")


def answers(start, number, *, every=False, failed=()):
    generator = np.random.default_rng([start, number])
    value = generator.dirichlet(np.ones(3), size=number)
    top = np.argsort(-value, axis=1)[:, :2]
    return Answers(
        start=start,
        top=top,
        probabilities=value if every else np.take_along_axis(value, top, axis=1),
        distance=np.where(np.arange(number) % 3, generator.random(number), np.nan),
        unlike=generator.random(number),
        errors=['it is, so to say, "broken"\nindeed' if i in failed else "" for i in range(number)],
    )


BATCHES = [answers(0, 3), answers(3, 3, failed=(0, 2)), answers(6, 1)]


def same(one, other):
    return all(
        np.array_equal(value, getattr(other, name), equal_nan=isinstance(value, np.ndarray))
        if isinstance(value, np.ndarray)
        else value == getattr(other, name)
        for name, value in vars(one).items()
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("part") / "p.csv"
    with part_of(out, {"images": "abc"}) as part:
        for one in BATCHES:
            part.add(one)
        assert part.done == 7
    return out, part.path.read_bytes()


def test_what_was_added_is_given_back_to_the_last_bit(written):
    out, _ = written
    with part_of(out, {"images": "abc"}) as part:
        assert part.done == 7 and not part.begun_anew
        assert all(map(same, part.answers(), BATCHES))


@settings(max_examples=60)
@given(data=st.data())
def test_a_part_cut_anywhere_goes_on_with_its_whole_batches(written, tmp_path_factory, data):
    _, content = written
    cut = data.draw(st.integers(0, len(content)))
    tail = data.draw(st.sampled_from([b"", b"{", b"null\n", b"\xff\n", b'{"start": 99}\n']))
    out = tmp_path_factory.mktemp("cut") / "p.csv"
    path = out.with_name("p.csv.part")
    path.write_bytes(content[:cut] + tail)
    lines = content[:cut].split(b"\n")[:-1]
    with part_of(out, {"images": "abc"}) as part:
        assert part.done == sum(len(one) for one in BATCHES[: max(0, len(lines) - 1)])
        for one in BATCHES[max(0, len(lines) - 1) :]:
            part.add(one)
    assert path.read_bytes() == content


def test_a_part_of_something_else_begins_anew(written, tmp_path):
    _, content = written
    (tmp_path / "p.csv.part").write_bytes(content)
    with part_of(tmp_path / "p.csv", {"images": "other"}) as part:
        assert part.begun_anew and part.done == 0 and not [*part.answers()]


def test_one_process_writes_at_a_time(tmp_path):
    out = tmp_path / "deep" / "p.csv"
    with part_of(out, {}), pytest.raises(Busy, match="another process writes"), part_of(out, {}):
        pass


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as error, part_of(tmp_path / "file" / "p.csv", {}):
        pass
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_holds_every_row_and_both_formats_the_same(tmp_path, every, suffix):
    columns = Columns(CLASSES, 2, every, "0123 4567")
    files = [f'galaxy, "{i}" é.png' for i in range(7)]
    batches = [answers(0, 3, every=every), answers(3, 4, every=every, failed=(1,))]
    out = tmp_path / f"p{suffix}"
    rows.write_table(out, (frame(one, files, columns) for one in batches), columns)
    table = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert [*table] == columns.names() and [*table["file"]] == files
    for i in range(7):
        one = batches[i // 3 if i < 6 else 1]
        row, at = table.iloc[i], i - one.start
        if one.errors[at]:
            assert row[["label", "probability", "unlike"]].isna().all()
            assert row["error"] == one.errors[at]
            continue
        assert pd.isna(row["error"]) and row["label"] == CLASSES[one.top[at, 0]]
        assert row["label_2"] == CLASSES[one.top[at, 1]] and row["unlike"] == one.unlike[at]
        if every:
            assert [*row[[f"p_{name}" for name in CLASSES]]] == [*one.probabilities[at]]
            assert row["probability"] == one.probabilities[at].max()
        else:
            assert [row["probability"], row["probability_2"]] == [*one.probabilities[at]]
    assert [one.name for one in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_error_on_the_way_leaves_the_older_table(tmp_path, suffix):
    out = tmp_path / f"p{suffix}"
    out.write_text("older")

    def frames():
        yield frame(answers(0, 3), ["a", "b", "c"], COLUMNS)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        rows.write_table(out, frames(), COLUMNS)
    assert out.read_text() == "older" and [*tmp_path.iterdir()] == [out]


def test_many_small_batches_become_few_row_groups(tmp_path):
    from pyarrow import parquet

    out = tmp_path / "p.parquet"
    number = 2 * rows.GROUP + 5
    files = list(map(str, range(number)))
    starts = range(0, number, 500)
    frames = (frame(answers(i, min(500, number - i)), files, COLUMNS) for i in starts)
    rows.write_table(out, frames, COLUMNS)
    told = parquet.ParquetFile(out)
    assert told.metadata.num_rows == number and told.metadata.num_row_groups <= 3
    assert pd.read_parquet(out, columns=["file"])["file"].tolist() == files


def test_an_empty_table_has_its_columns(tmp_path):
    rows.write_table(tmp_path / "p.parquet", iter(()), COLUMNS)
    assert [*pd.read_parquet(tmp_path / "p.parquet")] == COLUMNS.names() == [*rows.empty(COLUMNS)]


def test_what_a_file_was_made_of_is_told_while_it_is_that_file(tmp_path):
    out = tmp_path / "p.csv"
    assert made_of(out) is None
    out.write_text("rows")
    assert made_of(out) is None
    tell(out, {"asked": {"images": "abc"}})
    assert made_of(out)["asked"] == {"images": "abc"}
    out.write_text("rows, edited")
    assert made_of(out) is None
    for text in ("{", "[]", json.dumps({"format": 0, "bytes": 12})):
        rows.told_of(out).write_text(text)
        assert made_of(out) is None


def test_only_the_two_formats_are_written(tmp_path):
    for name in ("p.txt", "p", "p.csv.gz"):
        with pytest.raises(ValueError, match=".csv or .parquet"):
            rows.check_suffix(tmp_path / name)
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        rows.check_suffix(tmp_path / "p.csv")
