"""Whatever befalls a checkpoint, it is read as it was written or refused in one line; then the one
before is taken, or the start, and the run ends with the bits of a run that nothing befell.
"""

import copy
import io
import os
import pickle
import shutil
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_run import CPU
from trained import assert_same_bits, outcome, run_on

from astroformer import machine
from astroformer.training import checkpoint, fit
from astroformer.training.loop import Training

MANY = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
STOPPED = (
    8,
    10,
)  # within an epoch: steps at which the run of the tests was stopped: previous and last


@pytest.fixture(scope="module")
def whole(tiny_folder, tmp_path_factory):
    """What the run ends with that nothing befalls."""
    with pytest.MonkeyPatch.context() as patch:
        own(tmp_path_factory.mktemp("whole"), patch)
        fit(run_on(tiny_folder), device=CPU, report=silent)
        return outcome(run_on(tiny_folder))


@pytest.fixture(scope="module")
def stopped(tiny_folder, tmp_path_factory):
    """Folders of runs with two checkpoints each: of the run of the tests, and of another seed."""
    with pytest.MonkeyPatch.context() as patch:
        own(tmp_path_factory.mktemp("stopped"), patch)
        found = []
        for run in (run_on(tiny_folder), run_on(tiny_folder, seed=1)):
            for step in STOPPED:
                fit(run, device=CPU, stop_after=step, report=silent)
            assert {one.name for one in run.folder.glob("*.pt")} == {"last.pt", "previous.pt"}
            found.append(run.folder)
        return found


@pytest.fixture(scope="module")
def start(tiny_folder):
    """The state with which the run of the tests begins."""
    training = Training(run_on(tiny_folder), CPU, silent)
    yield training.state()
    training.close()


@pytest.fixture
def resumed(tiny_folder, stopped, own_runs):
    """The run of the tests with its two checkpoints, in a place of this test."""
    run = run_on(tiny_folder)
    shutil.copytree(stopped[0], run.folder)
    return run


def own(folder, patch):
    patch.setenv("ASTROFORMER_RUNS", str(folder / "runs"))
    patch.setenv("ASTROFORMER_LOCAL_LEDGER", str(folder / "ledger"))


def silent(line):
    """Says nothing."""


def same(one, other):
    """Whether two states are the same to the bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


# Any damage


DAMAGE = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1)),
    st.tuples(st.just("bits"), st.lists(st.floats(0, 1), min_size=1, max_size=4)),
    st.tuples(st.just("appended"), st.binary(min_size=1, max_size=200)),
    st.tuples(st.just("before"), st.binary(min_size=1, max_size=200)),
    st.tuples(st.just("zeros"), st.tuples(st.floats(0, 1), st.integers(1, 9000))),
    st.tuples(st.just("ends"), st.lists(st.integers(1, 8 * 4000), min_size=1, max_size=4)),
)


def damaged(content, damage):
    """Bytes of a file after some damage. "ends": bits counted from the file's end, where an
    archive has its table of contents.
    """
    kind, how = damage
    broken = bytearray(content)
    if kind == "cut":
        return content[: int(how * len(content))]
    if kind == "appended":
        return content + how
    if kind == "before":
        return how + content
    if kind == "zeros":
        start = int(how[0] * len(content))
        broken[start : start + how[1]] = bytes(len(broken[start : start + how[1]]))
        return bytes(broken)
    for place in how:
        bit = int(place * (8 * len(content) - 1)) if kind == "bits" else 8 * len(content) - place
        broken[bit // 8] ^= 1 << bit % 8
    return bytes(broken)


@pytest.fixture(scope="module")
def content(stopped):
    return (stopped[0] / "last.pt").read_bytes()


@MANY
@given(damage=DAMAGE)
def test_a_damaged_file_is_refused_in_one_line_or_holds_what_was_written(content, tmp_path, damage):
    path = tmp_path / "last.pt"
    path.write_bytes(damaged(content, damage))
    try:
        found = checkpoint.read(path)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    assert same(found, torch.load(io.BytesIO(content), weights_only=True))


def test_a_single_bit_of_any_tensor_is_noticed(content, tmp_path):
    """torch itself reads on: it computes checksums as it writes and looks at none."""
    path, unnoticed = tmp_path / "last.pt", 0
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = [part for part in archive.infolist() if "/data/" in part.filename]
    assert len(parts) > 100
    chosen = parts[:: len(parts) // 30]
    for part in chosen:
        head = content[part.header_offset : part.header_offset + 30]
        lengths = int.from_bytes(head[26:28], "little"), int.from_bytes(head[28:30], "little")
        first = part.header_offset + 30 + sum(lengths)
        broken = bytearray(content)
        broken[first + part.file_size // 2] ^= 0x10
        unnoticed += bool(torch.load(io.BytesIO(broken), weights_only=True))
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="the checksum of its part .* is another"):
            checkpoint.read(path)
        assert not checkpoint.is_finished(path, "any")
    assert unnoticed == len(chosen)


# The one before, or the start


class Evil:
    """Would write a file when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


def with_code(path, place):
    """A checkpoint of the right run that would run code while it is read."""
    state = torch.load(path, weights_only=True)
    torch.save(state | {"curve": Evil(place)}, path)


def changed(path, change):
    """A file with its checksums in order, of which something does not fit."""
    state = copy.deepcopy(torch.load(path, weights_only=True))
    change(state)
    torch.save(state, path)


def shorten(state):
    name = next(iter(state["weights"]))
    state["weights"][name] = state["weights"][name][:1]


def bare_pickle(path, place):
    path.write_bytes(pickle.dumps({"format": checkpoint.FORMAT, "run": Evil(place)}))


def folder(path, place):
    path.unlink()
    path.mkdir()
    (path / "something").write_text("in it")


def pipe(path, place):
    path.unlink()
    os.mkfifo(path)


def link(path, place):
    """To a device that never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


def bomb(path, place):
    """A small file that unpacks to a large one."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(30_000_000))


SPOILED = {
    "cut": lambda path, _: path.write_bytes(path.read_bytes()[:-2000]),
    "empty": lambda path, _: path.write_bytes(b""),
    "a bit": lambda path, _: path.write_bytes(damaged(path.read_bytes(), ("bits", [0.5]))),
    "code": with_code,
    "a pickle": bare_pickle,
    "a folder": folder,
    "a pipe": pipe,
    "a device": link,
    "a bomb": bomb,
    "no step": lambda path, _: changed(path, lambda state: state.pop("step")),
    "no words": lambda path, _: changed(path, lambda state: state.update(run=3)),
    "other steps": lambda path, _: changed(path, lambda state: state.update(steps=7)),
    "a step beyond": lambda path, _: changed(path, lambda state: state.update(step=99)),
    "no curve": lambda path, _: changed(path, lambda state: state.update(curve=torch.ones(2, 1))),
    "other weights": lambda path, _: changed(path, shorten),
    "no average": lambda path, _: changed(path, lambda state: state.update(average=None)),
    "no optimizer": lambda path, _: changed(path, lambda state: state.update(optimizer=None)),
    "other groups": lambda path, _: changed(
        path, lambda state: state["optimizer"]["param_groups"].pop()
    ),
    "a state of nothing": lambda path, _: changed(
        path, lambda state: state["optimizer"]["state"].update({9999: {}})
    ),
    "no attempts": lambda path, _: changed(path, lambda state: state.update(attempts=[])),
    "an attempt of nothing": lambda path, _: changed(
        path, lambda state: state.update(attempts=[{}])
    ),
    "a history of words": lambda path, _: changed(path, lambda state: state.update(history=["x"])),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_the_checkpoint_before_is_taken_in_place_of_one_that_will_not_do(
    resumed, start, tmp_path, spoil
):
    said, place = [], tmp_path / "executed"
    before = torch.load(resumed.folder / "previous.pt", weights_only=True)
    spoil(resumed.folder / "last.pt", place)
    found = checkpoint.newest(resumed.folder, resumed.hash, said.append, like=start)
    assert len(said) == 1 and "\n" not in said[0] and "last.pt" in said[0]
    assert "it is put aside as refused-last.pt; trying the one before" in said[0]
    assert os.path.lexists(resumed.folder / "refused-last.pt") and not place.exists()
    assert same(found, before) and found["step"] == STOPPED[0]


@pytest.mark.parametrize("kind", ["a bit", "code", "other weights"])
def test_a_run_whose_last_checkpoint_will_not_do_ends_with_the_same_bits(
    resumed, whole, tmp_path, kind
):
    said, place = [], tmp_path / "executed"
    SPOILED[kind](resumed.folder / "last.pt", place)
    assert fit(resumed, device=CPU, report=said.append).record["status"] == "completed"
    assert any(f"goes on from step {STOPPED[0]} of 18" in line for line in said)
    assert not place.exists()
    assert_same_bits(outcome(resumed), whole)


@pytest.mark.parametrize("spoil", [SPOILED["a bit"], SPOILED["code"]], ids=["a bit", "code"])
def test_without_any_that_will_do_the_run_begins_anew(resumed, whole, tmp_path, spoil):
    said, place = [], tmp_path / "executed"
    for name in ("last.pt", "previous.pt"):
        spoil(resumed.folder / name, place)
    fit(resumed, device=CPU, report=said.append)
    assert sum("trying the one before" in line for line in said) == 2
    assert not any("goes on from" in line for line in said) and not place.exists()
    assert_same_bits(outcome(resumed), whole)


def test_another_runs_checkpoint_is_refused_by_its_name_and_kept(resumed, stopped, whole):
    said, other = [], stopped[1] / "last.pt"
    shutil.copy(other, resumed.folder / "last.pt")
    fit(resumed, device=CPU, report=said.append)
    assert f"belongs to run {stopped[1].name}, not {resumed.hash}" in " ".join(said)
    assert (resumed.folder / "refused-last.pt").read_bytes() == other.read_bytes()
    assert_same_bits(outcome(resumed), whole)


def test_files_that_were_refused_one_after_another_are_all_kept(resumed, content):
    for number in range(3):
        (resumed.folder / "last.pt").write_bytes(content[: 100 + number])
        shutil.copy(resumed.folder / "previous.pt", resumed.folder / "kept")
        assert checkpoint.newest(resumed.folder, resumed.hash, silent)["step"] == STOPPED[0]
    names = ["refused-last-2.pt", "refused-last-3.pt", "refused-last.pt"]
    assert sorted(path.name for path in resumed.folder.glob("refused-*")) == names
    assert [(resumed.folder / name).stat().st_size for name in names] == [101, 102, 100]


def test_finished_weights_that_are_damaged_are_trained_again_where_they_are_needed(
    tiny_folder, own_runs, whole
):
    run = run_on(tiny_folder)
    weights = fit(run, device=CPU, report=silent).weights
    assert fit(run, device=CPU, need_weights=True, report=silent).reused
    weights.write_bytes(damaged(weights.read_bytes(), ("bits", [0.5])))
    assert fit(run, device=CPU, report=silent).reused  # the record is enough
    assert not fit(run, device=CPU, need_weights=True, report=silent).reused
    state = checkpoint.read(weights)
    assert all(torch.equal(state["weights"][name], one) for name, one in whole["weights"].items())


@pytest.mark.parametrize("kind", [MemoryError, partial(RuntimeError, "can't allocate memory")])
def test_a_want_of_memory_refuses_no_checkpoint(resumed, monkeypatch, kind):
    def short(*_, **__):
        raise kind()

    monkeypatch.setattr(torch, "load", short)
    with pytest.raises((MemoryError, RuntimeError)) as error:
        checkpoint.newest(resumed.folder, resumed.hash, silent)
    assert machine.is_out_of_memory(error.value)
    assert {path.name for path in resumed.folder.glob("*.pt")} == {"last.pt", "previous.pt"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="permissions of POSIX")
def test_a_file_that_may_not_be_read_is_refused_in_one_line(content, tmp_path):
    """In a process of another user, since root may read everything."""
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    path.chmod(0)
    tmp_path.chmod(0o755)
    ours, theirs = os.pipe()
    if not os.fork():
        try:
            os.chdir(tmp_path)  # as nobody may enter the folders above
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            checkpoint.read(Path("last.pt"))
        except ValueError as error:
            os.write(theirs, str(error).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    os.wait()
    assert said.startswith("last.pt cannot be read as a checkpoint") and "\n" not in said
    assert "Permission denied" in said
