"""Locks exclude, whatever the file system knows of locks; they are freed by whatever ends a
process, and one that slept while its lock became another's is told.

Real processes; the kernel's own filter answers for file systems that refuse flock or hard links, or
grant flock to everybody (system_calls.py).
"""

import errno
import fcntl
import json
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lock_processes import SOON, start  # noqa: F401
from system_calls import FLOCK_OF_ONE_MACHINE, NO_FLOCK, NO_LINKS

from astroformer import locks
from astroformer.cli import errors

FILE_SYSTEMS = {
    "flock": dict(),
    "flock and a lease": dict(kind="lease"),
    "no flock": dict(calls=NO_FLOCK),
    "flock of one machine": dict(calls=FLOCK_OF_ONE_MACHINE, kind="lease"),
    "no flock, no links": dict(calls=NO_FLOCK | NO_LINKS),
}
OF_LEASES = [name for name in FILE_SYSTEMS if name != "flock"]
WITHOUT_FLOCK = ["no flock", "flock of one machine", "no flock, no links"]
on = pytest.mark.parametrize("system", FILE_SYSTEMS)


def until(condition, seconds=SOON):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


# Exclusion


def count(path, counter, times):
    for _ in range(times):
        with locks.locked(path) as lock:
            assert lock
            number = int(counter.read_text())
            counter.write_text(f"{number + 1}")
    return times


@on
def test_processes_that_count_in_one_file_under_a_lock_lose_no_number(start, path, system):  # noqa: F811
    counter, times = path.with_name("counter"), 25
    counter.write_text("0")
    counting = [start(**FILE_SYSTEMS[system]) for _ in range(4)]
    for one in counting:
        one.tell("do", count, path, counter, times)
    assert [one.answer() for one in counting] == [times] * 4
    assert counter.read_text() == f"{4 * times}"
    assert files(path) == ["counter", "lock"]  # nothing else is left


@on
def test_a_lock_is_had_once_and_again_when_it_was_given_back(start, path, system):  # noqa: F811
    first, second = (start(**FILE_SYSTEMS[system]) for _ in range(2))
    for holder, other in ((first, second), (second, first)):
        assert holder.take(path) and not other.take(path)
        assert not other.take(path)  # who did not have it did not free it
        if system != "flock":
            assert f"process {holder.pid} on {socket.gethostname()}" in other.holder()
        other.give_back()
        assert not holder.lost() and not other.take(path)
        holder.give_back()


@on
def test_who_waits_has_the_lock_when_it_is_free_and_not_before(start, path, system):  # noqa: F811
    first, second = (start(**FILE_SYSTEMS[system]) for _ in range(2))
    assert first.take(path)
    second.tell("take", path, True)
    assert not second.pipe.poll(0.3)
    first.give_back()
    assert second.answer()


@pytest.mark.parametrize("kinds", [("auto", "lease"), ("lease", "auto")])
def test_auto_and_lease_exclude_one_another_on_one_machine(start, path, kinds):  # noqa: F811
    first, second = (start(kind=kind) for kind in kinds)
    assert first.take(path) and not second.take(path)
    first.give_back()
    assert second.take(path) and not first.take(path)


def test_auto_respects_the_lease_of_another_machine_where_flock_holds_on_one(start, path):  # noqa: F811
    far = start(calls=FLOCK_OF_ONE_MACHINE, kind="lease", machine="node7")
    near = start(calls=FLOCK_OF_ONE_MACHINE)
    assert far.take(path) and not near.take(path)
    assert "on node7" in near.holder()
    far.give_back()
    assert near.take(path)


def test_threads_of_one_process_exclude_one_another(path, monkeypatch):
    for kind in locks.KINDS:
        monkeypatch.setenv(locks.VARIABLE, kind)
        order = []

        def wait(order=order):
            with locks.locked(path) as lock:
                order.append(("second", bool(lock)))

        with locks.locked(path) as lock:
            assert lock
            with locks.locked(path, wait=False) as again:
                assert not again
            thread = threading.Thread(target=wait)
            thread.start()
            thread.join(0.2)
            assert thread.is_alive()
            order.append(("first", True))
        thread.join(SOON)
        assert order == [("first", True), ("second", True)]


@pytest.mark.parametrize("kind", locks.KINDS)
def test_a_lock_is_freed_by_an_error(path, monkeypatch, kind):
    monkeypatch.setenv(locks.VARIABLE, kind)
    with pytest.raises(KeyError), locks.locked(path):
        raise KeyError("within")
    with locks.locked(path, wait=False) as lock:
        assert lock


def test_a_child_of_a_fork_does_not_give_its_parents_lease_back(path, monkeypatch):
    monkeypatch.setenv(locks.VARIABLE, "lease")
    with locks.locked(path) as lock:
        child = os.fork()
        if not child:
            lock.lease.release()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert not lock.lost() and locks.lease_of(path).exists()
    assert not locks.lease_of(path).exists()


# Holders that end, or sleep


@on
def test_the_lock_of_a_killed_process_is_free_at_once_on_its_machine(start, path, system):  # noqa: F811
    first, second = (start(**FILE_SYSTEMS[system]) for _ in range(2))
    assert first.take(path)
    first.kill()
    assert second.take(path) and not second.lost()
    assert not start(**FILE_SYSTEMS[system]).take(path)
    second.give_back()
    assert files(path) == ["lock"]


@pytest.mark.parametrize("system", WITHOUT_FLOCK[:2])
def test_the_lease_of_a_machine_that_is_gone_is_free_when_it_is_stale_and_not_before(
    start,  # noqa: F811
    path,
    system,
):
    beat, stale = 0.1, 3.0
    how = FILE_SYSTEMS[system] | dict(heartbeat=beat, stale=stale)
    far, near = start(**how, machine="node7"), start(**how)
    assert far.take(path)
    end = time.monotonic() + 1.5 * stale  # while it lives it keeps it
    while time.monotonic() < end:
        assert not near.take(path)
    died = time.monotonic()
    far.kill()
    until(lambda: near.take(path))
    assert stale - beat - 0.1 <= time.monotonic() - died < stale + SOON / 2
    assert not near.lost()


@pytest.mark.parametrize("system", WITHOUT_FLOCK)
def test_a_holder_that_slept_while_another_took_its_lease_is_told_and_takes_nothing_back(
    start,  # noqa: F811
    path,
    system,
):
    beat, stale = 0.1, 2.0
    how = FILE_SYSTEMS[system] | dict(heartbeat=beat, stale=stale)
    sleeper, other = start(**how), start(**how)
    assert sleeper.take(path)
    sleeper.signal(signal.SIGSTOP)
    slept = time.monotonic()
    other.tell("take", path, True)
    assert other.answer() and time.monotonic() - slept > stale - beat - 0.1
    sleeper.signal(signal.SIGCONT)
    until(lambda: sleeper.ask("said"))
    [said] = sleeper.ask("said")
    assert f"process {other.pid} on " in said and sleeper.lost() == said
    sleeper.give_back()
    assert not other.lost() and not sleeper.take(path)


def test_the_first_look_after_a_sleep_tells_before_any_heartbeat(start, path):  # noqa: F811
    how = dict(calls=NO_FLOCK, heartbeat=SOON, stale=1.0)
    sleeper, other = start(**how), start(**how)
    assert sleeper.take(path)
    until(lambda: other.take(path))
    assert "was taken by another process" in sleeper.lost()
    assert len(sleeper.ask("said")) == 1
    assert sleeper.lost() and len(sleeper.ask("said")) == 1  # once


def test_a_lease_that_somebody_removed_is_lost(start, path):  # noqa: F811
    holder = start(kind="lease", heartbeat=0.05)
    assert holder.take(path)
    locks.lease_of(path).unlink()
    until(lambda: holder.ask("said"))
    assert "was removed" in holder.lost()


STALE_LEASES = {
    "its process has ended": lambda told: 0,
    "it was not touched": lambda told: told.update(boot="", host="node7") or 2 * locks.STALE,
}


@pytest.mark.parametrize(
    "system, why, times",
    [
        ("no flock", "its process has ended", 100),
        ("no flock", "it was not touched", 30),
        ("no flock, no links", "its process has ended", 30),
    ],
)
def test_of_several_that_take_one_stale_lease_exactly_one_wins(start, path, system, why, times):  # noqa: F811
    takers = [start(**FILE_SYSTEMS[system]) for _ in range(3)]
    winners = []
    for _ in range(times):
        write_lease(path, STALE_LEASES[why])
        for one in takers:
            one.tell("take", path, False)
        had = [one.answer() for one in takers]
        assert had.count(True) == 1
        assert not takers[had.index(True)].lost()
        for one in takers:
            one.give_back()
        assert files(path) == ["lock"]
        winners.append(had.index(True))
    assert len(set(winners)) > 1, "they never came at once"


def test_of_several_that_wait_for_one_stale_lease_each_has_it_once_and_alone(start, path):  # noqa: F811
    takers = [start(calls=NO_FLOCK) for _ in range(3)]
    for _ in range(15):
        write_lease(path, STALE_LEASES["its process has ended"])
        for one in takers:
            one.tell("take", path, True)
        waiting = set(takers)
        while waiting:
            until(lambda: any(one.pipe.poll() for one in waiting))  # noqa: B023
            time.sleep(0.03)  # in which a second would come
            [holder] = [one for one in waiting if one.pipe.poll()]
            assert holder.answer() and not holder.lost()
            waiting.remove(holder)
            holder.give_back()


def write_lease(path, change, told=None):
    """A lease of a process of this machine that has ended, unless `change` says otherwise, which
    gives its age in seconds too.
    """
    told = ended_process() if told is None else told
    age = change(told)
    lease = locks.lease_of(path)
    lease.write_text(json.dumps(told))
    stamp = lease.stat().st_mtime - age
    os.utime(lease, (stamp, stamp))
    return lease


def ended_process():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return locks.described() | {"pid": child, "born": "1"}


# Who can be seen to have ended, and clocks


def takes(path):
    with locks.locked(path, wait=False) as lock:
        return bool(lock)


def test_a_living_process_holds_its_lease_and_one_that_got_its_number_does_not(path):
    mine = locks.described()
    write_lease(path, lambda told: 0, told=mine)
    assert not takes(path)
    write_lease(path, lambda told: 0, told=mine | {"born": "1"})
    assert takes(path)


def test_a_process_that_ended_and_is_not_waited_for_holds_nothing(path):
    child = os.fork()
    if not child:
        os._exit(0)
    until(lambda: locks.status_of(child)[0] == "Z")
    born = locks.status_of(child)[1]
    write_lease(path, lambda told: 0, told=locks.described() | {"pid": child, "born": born})
    assert takes(path)
    os.waitpid(child, 0)


@pytest.mark.parametrize("other", [{"boot": "another"}, {"space": "pid:[1]"}, {"boot": ""}])
def test_a_process_of_another_machine_or_container_is_not_taken_for_one_that_ended(path, other):
    write_lease(path, lambda told: told.update(other) or 0)
    assert not takes(path)


def test_a_lease_from_before_this_machine_was_started_is_free_at_once(path, monkeypatch):
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(locks, "STALE", 10 * up + 1000)
    write_lease(path, lambda told: told.update(boot="before") or up / 2)
    assert not takes(path)
    write_lease(path, lambda told: told.update(boot="before", host="node7") or up + 5)
    assert not takes(path)
    write_lease(path, lambda told: told.update(boot="before") or up + 5)
    assert takes(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(age=st.floats(-1e6, 1e6), clock=st.floats(-1e9, 1e9))
def test_a_lease_is_as_old_as_the_file_systems_clock_says_whatever_the_machines(
    tmp_path_factory, age, clock
):
    path = tmp_path_factory.mktemp("clock") / "lock"
    write_lease(path, lambda told: told.update(boot="", host="node7") or age)
    with pytest.MonkeyPatch.context() as patch:
        now = time.time
        patch.setattr(time, "time", lambda: now() + clock)
        had = takes(path)
    if abs(age - locks.STALE) > 5:
        assert had == (age > locks.STALE)


def test_a_lease_that_is_dated_in_the_future_is_free_when_it_was_watched_long_enough(
    path, monkeypatch
):
    monkeypatch.setattr(locks, "STALE", 0.5)
    write_lease(path, lambda told: told.update(boot="", host="node7") or -1e6)
    began = time.monotonic()
    assert not takes(path)
    until(lambda: takes(path))
    assert time.monotonic() - began > 0.5


def test_a_lease_that_is_dated_in_the_future_and_touched_is_held(path, monkeypatch):
    monkeypatch.setattr(locks, "STALE", 0.3)
    lease = write_lease(path, lambda told: told.update(boot="", host="node7") or -1e6)
    end, number = time.monotonic() + 1.0, 0
    while time.monotonic() < end:
        number += 1
        os.utime(lease, (1e10 + number, 1e10 + number))
        assert not takes(path)


DAMAGED = [b"", b"{", b"[]", b'"word"', b"\xff\x00", b"{}", b'{"token": "../../x"}', b"[" * 50_000]


@pytest.mark.parametrize("damage", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_lease_holds_until_it_is_stale(path, damage):
    lease = locks.lease_of(path)
    lease.write_bytes(damage)
    assert not takes(path)
    stamp = lease.stat().st_mtime - 2 * locks.STALE
    os.utime(lease, (stamp, stamp))
    assert takes(path) and not lease.exists()


def test_what_killed_processes_left_beside_a_lease_is_removed_when_nobody_can_need_it(
    path, monkeypatch
):
    monkeypatch.setenv(locks.VARIABLE, "lease")
    lease = locks.lease_of(path)
    old, young = (lease.with_name(f"{lease.name}.{name}.draft") for name in ("old", "young"))
    for file, age in ((old, 2 * locks.LITTER), (young, 0)):
        file.touch()
        os.utime(file, (time.time() - age,) * 2)
    assert takes(path) and files(path) == ["lock", young.name]


# Who dies, or waits, within the taking


def test_a_claim_of_a_process_that_died_within_the_taking_holds_nobody_up(path):
    dead, claimant = ended_process(), ended_process()
    for numbers in ((0,), (0, 1)):
        lease = write_lease(path, lambda told: 0, told=dead)
        for number in numbers:
            claim = lease.with_name(f"{lease.name}.{dead['token']}.{number}")
            claim.write_text(json.dumps(claimant))
        assert takes(path) and files(path) == ["lock"]


def test_while_another_claims_a_stale_lease_it_is_not_taken(path):
    lease = write_lease(path, lambda told: 0, told=(dead := ended_process()))
    claim = lease.with_name(f"{lease.name}.{dead['token']}.0")
    claim.write_text(json.dumps(locks.described()))
    assert not takes(path) and claim.exists()


def test_a_holder_whose_lease_is_being_claimed_leaves_it_to_the_claimant(path, monkeypatch):
    monkeypatch.setenv(locks.VARIABLE, "lease")
    with locks.locked(path) as lock:
        lease = lock.lease.path
        claim = lease.with_name(f"{lease.name}.{lock.lease.token}.0")
        claim.write_text(json.dumps(locks.described()))
    assert lease.exists() and claim.exists()


# What cannot be written


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_an_error_of_flock_that_says_nothing_of_locks_is_an_error(path, monkeypatch, number):
    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError), locks.locked(path):
        pass


def test_a_lock_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), locks.locked(tmp_path / "absent" / "lock"):
        pass


def test_a_word_that_is_no_kind_of_locks_is_refused_with_those_that_are(path, monkeypatch):
    monkeypatch.setenv(locks.VARIABLE, "fcntl")
    with pytest.raises(ValueError, match="'fcntl' is not known; choose auto or lease"):
        takes(path)


def complaint_of(path):
    """What the command line would say of taking and giving back a lock."""
    try:
        return "" if takes(path) else "taken"
    except OSError as error:
        return errors.complaint(error)[0]


def in_another_users_folder(folder):
    os.chdir(folder)
    os.environ["HOME"] = str(folder)
    os.setgid(65534)
    os.setuid(65534)
    return complaint_of(Path("lock"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("lock_is_there", [False, True])
def test_a_lease_in_a_folder_that_is_not_to_be_written_is_refused_in_one_line(
    start,  # noqa: F811
    path,
    lock_is_there,
):
    path.parent.chmod(0o755)
    if lock_is_there:
        path.touch()
        path.chmod(0o666)
    said = start(kind="lease").do(in_another_users_folder, path.parent)
    assert "lock" in said and said.endswith(": permission denied") and "\n" not in said
    assert files(path) == ["lock"] * lock_is_there


def fill(folder, name="filling"):
    with open(folder / name, "wb", buffering=0) as file, suppress(OSError):
        while file.write(b"0" * 4096):
            pass


def names_in(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_full_disk_is_one_line_that_names_the_file_and_nothing_is_left(start, path):  # noqa: F811
    holder = start(calls=NO_FLOCK, disk=path.parent)
    holder.do(fill, path.parent)
    said = holder.do(complaint_of, path)
    assert ".draft: no space left on device" in said and "\n" not in said
    assert holder.do(names_in, path.parent) == ["filling", "lock"]
    holder.do(os.unlink, path.parent / "filling")
    assert holder.do(complaint_of, path) == ""


def test_a_lease_is_renewed_and_given_back_on_a_disk_that_became_full(start, path):  # noqa: F811
    holder = start(calls=NO_FLOCK, disk=path.parent, heartbeat=0.05, stale=1.0)
    assert holder.take(path)
    holder.do(fill, path.parent)
    time.sleep(0.5)
    assert holder.do(age_of, locks.lease_of(path)) < 0.4 and not holder.lost()
    holder.give_back()
    assert holder.do(names_in, path.parent) == ["filling", "lock"]


def age_of(file):
    probe = file.with_name("filling")
    os.utime(probe)
    return probe.stat().st_mtime - file.stat().st_mtime


def test_a_lease_that_cannot_be_renewed_is_kept_for_a_while_and_then_lost(start, path):  # noqa: F811
    holder = start(calls=NO_FLOCK | {"touch": errno.EIO}, heartbeat=0.05, stale=1.0)
    began = time.monotonic()
    assert holder.take(path) and not holder.lost()
    until(lambda: holder.ask("said"))
    assert time.monotonic() - began > 1.0
    assert "cannot be renewed (Input/output error)" in holder.lost()
