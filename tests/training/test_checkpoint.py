"""Checkpoints: whole or absent, the one before kept, foreign files named and never executed."""

import pickle

import pytest
import torch

from astroformer.training import checkpoint


def state(step, run="abc"):
    words = dict.fromkeys(("model", "recipe", "dataset"), "x")
    lists = dict.fromkeys(("classes", "mean", "std"), [])
    weights = {"w": torch.full((1000,), float(step))}
    where = {"run": run, "step": step, "steps": 9, "image_size": 32}
    return words | lists | where | {"options": {}, "weights": weights, "average": None}


def collect():
    said = []
    return said, said.append


def test_the_newest_checkpoint_is_read_and_the_one_before_kept(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(state(step), tmp_path)
    assert checkpoint.newest(tmp_path, "abc", print)["step"] == 3
    assert checkpoint.read(tmp_path / "previous.pt")["step"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "previous.pt"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a checkpoint"),
        lambda path: torch.save({"something": "else"}, path),
        lambda path: torch.save(state(9) | {"format": checkpoint.FORMAT, "run": "other"}, path),
    ],
    ids=["truncated", "empty", "foreign", "another program's", "another run's"],
)
def test_a_file_that_will_not_do_is_named_and_the_previous_one_used(tmp_path, spoil):
    for step in (1, 2):
        checkpoint.save(state(step), tmp_path)
    spoil(tmp_path / "last.pt")
    said, report = collect()
    assert checkpoint.newest(tmp_path, "abc", report)["step"] == 1
    assert len(said) == 1 and "last.pt" in said[0] and "\n" not in said[0]
    checkpoint.save(state(3), tmp_path)  # what was refused never takes the place of a good one
    assert checkpoint.read(tmp_path / "previous.pt")["step"] == 1


def test_without_a_checkpoint_there_is_none(tmp_path):
    assert checkpoint.newest(tmp_path, "abc", print) is None


def test_a_failed_write_leaves_the_last_checkpoint(tmp_path):
    checkpoint.save(state(1), tmp_path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpoint.save({"run": "abc", "step": lambda: None}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    assert checkpoint.newest(tmp_path, "abc", print)["step"] == 1


def test_reading_a_checkpoint_executes_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"format": checkpoint.FORMAT, "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="evil.pt cannot be read as a checkpoint"):
        checkpoint.read(tmp_path / "evil.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"root:x:0:0\nbin:x:1:1\n", b"\x89PNG", b"\x80", b"c" * 99])
def test_a_file_of_any_kind_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint") as refused:
        checkpoint.read(tmp_path / "file")
    assert "\n" not in str(refused.value) and not checkpoint.is_finished(tmp_path / "file", "abc")
