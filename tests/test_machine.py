"""What a process may use of its machine: by affinity, by control groups of both versions, whatever
the machine has.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroformer import machine

GIB = 2**30


def write(folder, **files):
    """A control group's files; a "." of a name is written "__"."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Puts this process into groups below tmp_path, by the lines of /proc/self/cgroup; returns
    the root of their tree.
    """
    root, told = tmp_path / "cgroup", tmp_path / "self"
    root.mkdir()

    def enter(*lines):
        told.write_text("".join(f"{line}\n" for line in lines))
        found = machine.control_groups(root, told)
        monkeypatch.setattr(machine, "control_groups", lambda: found)
        monkeypatch.setattr(machine, "machine_memory", lambda: 64 * GIB)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)))
        return found

    enter.root = root
    return enter


def test_processors_are_those_that_the_process_is_bound_to_whatever_openmp_is_told():
    allowed = sorted(os.sched_getaffinity(0))
    script = (
        f"import os; os.sched_setaffinity(0, {allowed[:1]})\n"
        "from astroformer import machine; print(machine.processors())"
    )
    for threads in ("1", "7"):
        ran = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout == "1\n"
    assert 1 <= machine.processors() <= len(allowed)


def test_memory_and_processors_of_a_group_of_version_2(groups):
    inner = groups.root / "job" / "step"
    write(
        inner,
        memory__max=8 * GIB,
        memory__current=5 * GIB,
        memory__stat=f"anon {3 * GIB}\ninactive_file {GIB}\nactive_file {GIB}",
        cpu__max="250000 100000",
    )
    found = groups("0::/job/step")
    assert found[0] == inner and groups.root in found
    assert machine.free_memory() == 4 * GIB  # 8 less the 5, of which 1 is cache
    assert machine.processors() == 3  # two and a half


def test_memory_and_processors_of_groups_of_version_1(groups):
    write(
        groups.root / "memory" / "slurm" / "job",
        memory__limit_in_bytes=10 * GIB,
        memory__usage_in_bytes=7 * GIB,
        memory__stat=f"inactive_file 0\ntotal_inactive_file {2 * GIB}",
    )
    write(
        groups.root / "cpu,cpuacct" / "slurm",
        cpu__cfs_quota_us=400000,
        cpu__cfs_period_us=100000,
    )
    groups("12:pids:/", "4:memory:/slurm/job", "3:cpu,cpuacct:/slurm", "0::/")
    assert machine.free_memory() == 5 * GIB
    assert machine.processors() == 4


def test_the_tightest_of_the_groups_around_a_process_holds(groups):
    outer, inner = groups.root / "user", groups.root / "user" / "job"
    write(outer, memory__max=6 * GIB, memory__current=5 * GIB, cpu__max="100000 100000")
    write(inner, memory__max=6 * GIB, memory__current=1 * GIB, cpu__max="800000 100000")
    write(groups.root, memory__max="max", memory__current=9 * GIB)
    groups("0::/user/job")
    assert machine.free_memory() == GIB and machine.processors() == 1


@pytest.mark.parametrize("lines", [("0::/",), ("0::/not/shown/in/the/container",), ()])
def test_without_a_limit_the_machine_decides(groups, lines):
    write(groups.root, memory__max="max", memory__current=GIB, cpu__max="max 100000")
    unlimited = 2**63 - 4096  # as version 1 says it
    write(
        groups.root / "memory",
        memory__limit_in_bytes=unlimited,
        memory__usage_in_bytes=GIB,
    )
    write(groups.root / "cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    groups(*lines, "5:memory:/", "4:cpu:/")
    assert machine.free_memory() == 64 * GIB and machine.processors() == 32


def test_the_machine_decides_where_it_has_less_than_the_group_allows(groups, monkeypatch):
    write(groups.root, memory__max=32 * GIB, memory__current=0, cpu__max="6400000 100000")
    groups("0::/")
    assert machine.free_memory() == 32 * GIB and machine.processors() == 32
    monkeypatch.setattr(machine, "machine_memory", lambda: GIB)
    assert machine.free_memory() == GIB


def test_a_full_group_leaves_nothing_and_a_machine_that_tells_nothing_a_little(groups, monkeypatch):
    write(groups.root, memory__max=GIB, memory__current=2 * GIB, cpu__max="1000 100000")
    groups("0::/")
    assert machine.free_memory() == 0 and machine.processors() == 1
    monkeypatch.setattr(machine, "control_groups", list)
    monkeypatch.setattr(machine, "machine_memory", lambda: None)
    assert machine.free_memory() == machine.UNKNOWN_MEMORY


numbers = st.none() | st.integers(0, 2**40)


@given(limit=numbers, used=numbers, cached=numbers, free=numbers, outer=numbers)
def test_memory_is_never_negative_and_never_more_than_any_of_the_limits(
    tmp_path_factory, limit, used, cached, free, outer
):
    stat = None if cached is None else f"inactive_file {cached}"
    told = {"memory__max": limit, "memory__current": used, "memory__stat": stat}
    folder = tmp_path_factory.mktemp("group")
    write(folder, **{name: value for name, value in told.items() if value is not None})
    write(folder / "outer", memory__max="max" if outer is None else outer, memory__current=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "control_groups", lambda: [folder, folder / "outer"])
        patch.setattr(machine, "machine_memory", lambda: free)
        left = machine.free_memory()
    known = [number for number in (free, outer) if number is not None]
    if limit is not None and used is not None:
        known.append(limit - max(0, used - (cached or 0)))
    assert left == (max(0, min(known)) if known else machine.UNKNOWN_MEMORY)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="tells of Linux")
def test_the_machine_at_hand_tells_of_itself():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < machine.machine_memory() < total and 0 < machine.free_memory() < total
    assert all(folder.is_dir() for folder in machine.control_groups())


@pytest.mark.skipif(not Path("/proc/self/autogroup").is_file(), reason="no autogroups here")
@pytest.mark.parametrize("niceness", [0, 7])
def test_a_nice_process_makes_its_session_as_nice(niceness):
    """Else the system would give it as much as any other session."""
    script = (
        "import os; os.setsid(); "
        f"os.nice({niceness}); from astroformer import machine; machine.give_way(); "
        "print(open('/proc/self/autogroup').read())"
    )
    words = [sys.executable, "-c", script]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert told.split()[-1] == str(min(19, max(0, os.nice(0)) + niceness))
