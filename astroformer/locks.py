"""Locks between processes, of one machine or of many that share a file system.

    with locked(path, wait=False) as lock:
        if lock: ...

Two kinds, one after the other. The first is the system's own, flock: it is free as soon as its
process ends, however that happens. NFS since version 4 and Lustre mounted with `-o flock` know it
between machines. NFS mounted `nolock` and Lustre without the option refuse it. And where they are
mounted `local_lock=flock` or `localflock`, every machine grants it and excludes nobody on another.

The second is a lease: a file beside the lock that says who has it, and that its holder touches
every HEARTBEAT. What has not been touched for STALE is another's to take. So a lease outlasts a
process that is killed: for STALE, or not at all where it can be seen that the process has ended, on
its own machine.

ASTROFORMER_LOCKS=auto (the default) uses flock, and a lease where flock is refused or a lease lies
there already. ASTROFORMER_LOCKS=lease uses both, for file systems whose flock holds on one machine
only: set it for every job that shares such a folder, as one that is `auto` leaves no lease there.

What a lease relies on
- link (an exclusive open where links are refused) is atomic between machines, and so is rename.
- To open a file is to ask the server, not a cache (NFS calls it close-to-open). HEARTBEAT and STALE
  leave room for caches of file attributes, a minute by default.
- Ages are told by the clock that stamps files: a file is written and its time compared. That is the
  server's clock on NFS. On Lustre it is each machine's own, which then must agree within minutes.
- A process that sleeps for more than STALE may wake up while another has its lease. It is told so
  by its next heartbeat, and by `Lock.lost`, which is to be asked just before a file is replaced;
  the few microseconds between the two calls are not covered.

Reads top to bottom: locked, Lock, Lease, how a lease is taken, when it is stale, files.
"""

import errno
import itertools
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

VARIABLE = "ASTROFORMER_LOCKS"
KINDS = ("auto", "lease")
HEARTBEAT = 30.0  # seconds between two signs of life
STALE = 20 * HEARTBEAT  # seconds without one, after which a lease is another's to take
POLL = 5.0  # seconds after which who waits for a lease looks again
TRIES = 10  # that find a lease both there and not there, as others take it and give it back
LITTER = 6 * STALE  # age of files that killed processes left and that nobody can need any more

TAKEN = (errno.EWOULDBLOCK, errno.EACCES)  # what flock answers if somebody holds the lock
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of a file system that has none
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EINVAL)
# where batch systems name a job
JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")

OnLoss = Callable[[str], None]


@contextmanager
def locked(path: Path, *, wait: bool = True, on_loss: OnLoss | None = None) -> Iterator["Lock"]:
    """Holds a lock, which is a file; gives a `Lock`, which is false if another process has it and
    this one does not wait. OSError where the file or the lease cannot be written.

    on_loss: called once, in any thread, with a sentence, when another process has taken the lease
    """
    kind = kind_asked_for()
    with _flock(path, wait=wait) as had:
        lease = lease_of(path)
        if had is False:
            yield Lock(False, holder=holder_of(lease))
        elif had and kind == "auto" and not lease.exists():
            yield Lock(True)
        else:
            own = Lease(lease, on_loss)
            try:
                other = own.take(wait=wait)
                yield Lock(True, own) if other is None else Lock(False, holder=named(other.told))
            finally:
                own.release()


def kind_asked_for() -> str:
    """By ASTROFORMER_LOCKS. ValueError for a word that is none of KINDS."""
    kind = os.environ.get(VARIABLE) or "auto"
    if kind not in KINDS:
        raise ValueError(f"{VARIABLE} {kind!r} is not known; choose {' or '.join(KINDS)}")
    return kind


def lease_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lease")


def holder_of(lease: Path) -> str:
    """Who has a lease, in words; "" where nothing tells."""
    try:
        seen = read(lease)
    except OSError:
        return ""
    return named(seen.told) if seen else ""


@contextmanager
def _flock(path: Path, *, wait: bool) -> Iterator[bool | None]:
    """The system's lock: True if it was had, False if not, None where there is none, as on
    Windows.
    """
    try:
        import fcntl
    except ImportError:
        yield None
        return
    with open(path, "a") as file:
        had: bool | None = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in (*TAKEN, *NO_LOCKS):
                raise
            had = None if error.errno in NO_LOCKS else False
        yield had


class Lock:
    """What `locked` gives; true if it was had."""

    def __init__(self, had: bool, lease: "Lease | None" = None, *, holder: str = ""):
        self.had, self.lease = had, lease
        self.holder = holder  # who has it in place of this process, where a lease tells

    def __bool__(self) -> bool:
        return self.had

    def lost(self) -> str:
        """Looks whether the lock is still this process's: "", or in a sentence why not. Costs a
        look at a file where there is a lease, else nothing.
        """
        return self.lease.lost() if self.lease else ""


class Lease:
    """A file by which a process holds a lock, and the thread that gives signs of life."""

    def __init__(self, path: Path, on_loss: OnLoss | None = None):
        self.path, self.on_loss = path, on_loss
        self.process, self.told = os.getpid(), described()
        self.token: str = self.told["token"]
        self._other: Seen | None = None  # which it did not take
        self._reason, self._said = "", False
        self._ended, self._looking = threading.Event(), threading.Lock()
        self._renewed = time.monotonic()
        self._thread: threading.Thread | None = None

    def take(self, *, wait: bool) -> "Seen | None":
        """None if the lease is this process's now, else the one that is in its place."""
        tries = itertools.count(1)
        while (other := taken(self.path, self.told)) is not None:
            if other is NOBODY and next(tries) < TRIES:
                continue
            if not wait:
                self._other = other
                return other
            time.sleep(min(POLL, HEARTBEAT))
        self._renewed = time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lease")
        self._thread.start()
        return None

    def lost(self) -> str:
        """Gives a sign of life; "", or in a sentence why the lease is not this process's any
        more.
        """
        with self._looking:
            self._reason = self._reason or self._look()
            tell = bool(self._reason) and not self._said
            self._said = self._said or tell
        if tell and self.on_loss is not None:
            self.on_loss(self._reason)
        return self._reason

    def release(self) -> None:
        """Removes the lease if it still is this process's: as whoever would take it now must, it
        first claims the change (`taken`), so that it never removes another's.
        """
        self._ended.set()
        if self._other is not None or self.process != os.getpid():  # or a child of a fork
            return
        if self._thread is not None:
            self._thread.join(HEARTBEAT)
        with suppress(OSError), claimed(self.path, self.token, self.told, self.path) as had:
            if had and (seen := read(self.path)) is not None and seen.token == self.token:
                self.path.unlink()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            if self.lost():
                return

    def _look(self) -> str:
        try:
            seen = read(self.path, touch=self.token)
        except OSError as error:  # of a server that may answer again
            silent = time.monotonic() - self._renewed
            return f"its lease cannot be renewed ({error.strerror})" if silent > STALE else ""
        if seen is None:
            return f"its lease {self.path} was removed"
        if seen.token != self.token:
            return f"its lease was taken by another process ({named(seen.told)})"
        self._renewed = time.monotonic()
        return ""


# How a lease is taken


def taken(path: Path, told: dict) -> "Seen | None":
    """Tries once to take a lease: None if it was had, else what is in its place.

    A free one is had by whoever links its file to the name first. Of a stale one the change must be
    claimed, by a name that bears the stale one's token: only one process ever gets it. It looks
    again whether what is to be replaced is what was judged, and replaces it in one step, so that
    the name is never free for a third.
    """
    text = json.dumps(told)
    draft = path.with_name(f"{path.name}.{told['token']}.draft")
    try:
        write(draft, text)
        if not placed(draft, path, text):
            seen = read(path)
            if seen is None:  # released meanwhile
                return NOBODY
            if not is_stale(path, seen, draft):
                return seen
            with claimed(path, seen.token, told, draft) as had:
                again = read(path) if had else seen
                if not had or again != seen:
                    return again or NOBODY
                with suppress(FileNotFoundError):  # a lost answer, as in `placed`
                    os.replace(draft, path)
        found = read(path)
        if found is None or found.token != told["token"]:
            return found or NOBODY
        remove_litter(path, found)
        return None
    finally:
        with suppress(OSError):
            draft.unlink()


@contextmanager
def claimed(path: Path, token: str, told: dict, source: Path) -> Iterator[bool]:
    """The right to replace or to remove the lease that bears a token; gives whether it was had. A
    claim that its maker left behind goes stale as a lease does, and the next number is free then.
    """
    for number in itertools.count():
        claim = path.with_name(f"{path.name}.{token}.{number}")
        if placed(source, claim, json.dumps(told)):
            break
        other = read(claim)
        if other is None or not is_stale(claim, other, source):
            yield False
            return
    try:
        yield True
    finally:
        for older in range(number + 1):
            with suppress(OSError):
                path.with_name(f"{path.name}.{token}.{older}").unlink()


def placed(source: Path, name: Path, text: str) -> bool:
    """Gives a file a second name that nobody has, or makes one of that name with the text where
    links are refused. Whether the name was free.
    """
    try:
        os.link(source, name)
        return True
    except FileExistsError:
        # the answer of a server may be lost, and the question be asked again
        with suppress(FileNotFoundError):
            return os.path.samestat(os.stat(source), os.stat(name))
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    try:
        write(name, text, flags=os.O_EXCL)
    except FileExistsError:
        return False
    return True


# When a lease is stale

# lease -> what was seen there, and when first by this process's own clock
_watched: dict[Path, tuple["Seen", float]] = {}


def is_stale(path: Path, seen: "Seen", probe: Path) -> bool:
    """Whether nobody stands behind a lease: its process has ended, as can be seen on its own
    machine; it was not touched for STALE; or this process has watched it unchanged for STALE, by
    which a time stamp in the future does not matter.

    probe: a file of this process's on the same file system, which is touched to read its clock
    """
    if has_ended(seen.told):
        return True
    os.utime(probe)
    age = (os.stat(probe).st_mtime_ns - seen.time) / 1e9
    if age > STALE or is_of_another_boot(seen.told, age):
        return True
    known, since = _watched.get(path, (None, 0.0))
    if known != seen:
        _watched[path] = (seen, time.monotonic())
        return False
    return time.monotonic() - since > STALE


def has_ended(told: dict) -> bool:
    """Whether the process that a lease names is gone. Only one that counts processes as this one
    does can tell: of the same boot of the same machine, and of the same container.
    """
    here = (boot(), process_space())
    number = told.get("pid")
    if not all(here) or (told.get("boot"), told.get("space")) != here:
        return False
    if type(number) is not int or number < 1:
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's
        return False
    state, born = status_of(number)
    # a zombie holds nothing, and a number is given again
    return state == "Z" or (bool(born) and born != told.get("born"))


def is_of_another_boot(told: dict, age: float) -> bool:
    """Whether a lease was last touched before this machine was started, and by this machine.
    Containers of one name on several machines are not mistaken for one: theirs are younger.
    """
    if not boot() or not told.get("boot") or told["boot"] == boot():
        return False
    return told.get("host") == socket.gethostname() and age > time.clock_gettime(
        time.CLOCK_BOOTTIME
    )


def described() -> dict:
    """Who this process is, and the token of one lease."""
    job = next((f"{name}={os.environ[name]}" for name in JOBS if os.environ.get(name)), None)
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": boot(),
        "space": process_space(),
        "born": status_of(os.getpid())[1],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": job,
        "token": uuid.uuid4().hex,
    }


def named(told: dict) -> str:
    if not told:
        return "which does not say its name"
    job = f", {told['job']}" if told.get("job") else ""
    return f"process {told.get('pid')} on {told.get('host')}{job}"


def boot() -> str:
    """Names this start of this machine (Linux); "" where nothing does."""
    return _text_of("/proc/sys/kernel/random/boot_id").strip()


def process_space() -> str:
    """Names the numbering of processes, which a container may have of its own (Linux)."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def status_of(number: int) -> tuple[str, str]:
    """State of a process, such as "S" or "Z", and when it began, in ticks since the boot (Linux);
    "" and "" where the system does not tell.
    """
    words = _text_of(f"/proc/{number}/stat").rpartition(")")[2].split()
    return (words[0], words[19]) if len(words) > 19 else ("", "")


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


# Files


@dataclass(frozen=True)
class Seen:
    """A lease as it was found."""

    token: str
    time: int  # ns, when it was last touched, by the clock of the file system
    told: dict


NOBODY = Seen("", 0, {})  # had it in the end: it is free


def read(path: Path, *, touch: str = "") -> Seen | None:
    """The lease of that name; None if there is none. It is opened, since a look at its attributes
    may be answered from a cache.

    touch: the token of the lease to which a sign of life is given, if it is still the one there
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None
    try:
        text, found = os.read(descriptor, 65536), os.fstat(descriptor)
        told = _parsed(text)
        token = told.get("token", f"unread{found.st_ino}")
        if touch and token == touch:
            # the file that was read, whatever has its name by now
            os.utime(descriptor if os.utime in os.supports_fd else path)
        return Seen(token, found.st_mtime_ns, told)
    finally:
        os.close(descriptor)


def _parsed(text: bytes) -> dict:
    """What a lease tells; nothing where it is cut, or just being written without links."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    # a token becomes part of a name
    token = told.get("token") if isinstance(told, dict) else None
    return told if isinstance(token, str) and re.fullmatch(r"[0-9a-f]{32}", token) else {}


def write(path: Path, text: str, *, flags: int = 0) -> None:
    """A file as a whole, on the disk, or an OSError that names it and nothing left of it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    try:
        try:
            if os.write(descriptor, text.encode()) < len(text.encode()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_litter(path: Path, own: Seen) -> None:
    """Drafts and claims beside a lease that killed processes left, long ago."""
    for file in path.parent.glob(f"{path.name}.*"):
        with suppress(OSError):
            if own.time - file.stat().st_mtime_ns > LITTER * 1e9:
                file.unlink()
