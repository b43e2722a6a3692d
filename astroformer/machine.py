"""What this process may use of the machine: processors and memory, by affinity and control group.

Batch systems and containers give a job less than the machine has, and the machine's own numbers
do not say so.
"""

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # of the process, as containers and version 2 show it
UNKNOWN_MEMORY = 4 * 2**30  # bytes, where no system tells how much is free


def processors() -> int:
    """How many this process may use, at least one: by its affinity and its control group's quota.
    OMP_NUM_THREADS, which batch systems set to 1, says nothing about processes.
    """
    allowed = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quotas = [quota for folder in control_groups() if (quota := cpu_quota(folder)) is not None]
    return max(1, min([allowed, *(int(-(-quota // 1)) for quota in quotas)]))


def threads(number: int) -> dict[str, str]:
    """Environment variables by which a process that is started computes on so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(names, str(number))


def give_way() -> None:
    """Makes the whole session as nice as this process is. Linux divides the processors between
    sessions first (autogroups), so that a background job of niceness 19 would still take half of
    them from another session. Where there are no autogroups, niceness alone does it.
    """
    niceness = os.nice(0)
    if niceness > 0:
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(min(19, niceness)))


# When memory is short torch raises a RuntimeError, Python and NumPy a MemoryError, NumPy a
# ValueError where no machine has so much, the system an OSError.
NO_MEMORY: tuple[tuple[type[BaseException], str], ...] = (
    (MemoryError, ""),
    (
        RuntimeError,
        "out of memory|allocate memory|ALLOC_FAILED|bad_alloc|calculation overflowed"
        "|multiplication overflow",
    ),
    (ValueError, "^array is too big|^Maximum allowed (dimension|size) exceeded"),
    (OSError, "Cannot allocate memory"),
)


AMOUNT = re.compile(r"allocate ([\d.]+ ?(?:bytes|[KMGTPE]iB))")


def is_watched() -> bool:
    """Whether a person sees what this process shows while it works, on a terminal or in a notebook
    that is open.
    """
    return (sys.stderr is not None and sys.stderr.isatty()) or is_open_notebook()


def is_open_notebook() -> bool:
    """Whether this is the kernel of a notebook that somebody has open. JupyterLab, Colab and others
    tell a kernel that its reader can be asked for input; nbclient, and so papermill, that nobody
    can.
    """
    ipython = sys.modules.get("IPython")  # who has not imported it is in no notebook
    shell = ipython.get_ipython() if ipython is not None else None
    kernel = getattr(shell, "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of whatever library, says that memory is short."""
    return any(isinstance(error, kind) and re.search(said, str(error)) for kind, said in NO_MEMORY)


def amount_asked_for(error: BaseException) -> str:
    """ "2.00 GiB": how much more an exception says was asked for; "" where it does not say."""
    found = AMOUNT.search(str(error))
    return found[1] if found else ""


def free_memory() -> int:
    """Bytes that this process can have without swapping: what the machine has free, or what the
    limits of its control groups or its own (`ulimit -v`, `ulimit -d`, which some batch systems
    set) leave, whichever is less. A cautious 4 GiB where nobody tells.
    """
    known = _told_memory()
    return max(0, min(known)) if known else UNKNOWN_MEMORY


def tells_memory() -> bool:
    """Whether the system says how much memory is free."""
    return bool(_told_memory())


def _told_memory() -> list[int]:
    groups = (memory_left(folder) for folder in control_groups())
    told = [machine_memory(), *groups, *own_limits()]
    return [number for number in told if number is not None]


def own_limits(told: Path = Path("/proc/self/statm")) -> list[int]:
    """Bytes that this process may still take of its address space and of its data, where either
    is limited (Linux).
    """
    words = _words(told)
    if len(words) < 6:
        return []
    import resource  # not on Windows

    taken = {resource.RLIMIT_AS: int(words[0]), resource.RLIMIT_DATA: int(words[5])}  # in pages
    limits = {kind: resource.getrlimit(kind)[0] for kind in taken}
    return [
        max(0, limits[kind] - pages * resource.getpagesize())
        for kind, pages in taken.items()
        if limits[kind] != resource.RLIM_INFINITY
    ]


def control_groups(root: Path = CGROUP, told: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """The folders of this process's control group and of those around it, whose limits hold too.

    Version 2 has one tree; version 1 has one for memory and one for processor time.
    """
    try:
        lines = told.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")  # of version 2: "" alone
        if not {"", "memory", "cpu"}.intersection(names):
            continue
        for top in (root / name for name in (controllers, *names)):
            inner = top / path.lstrip("/")
            found += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(top)]
    return list(dict.fromkeys(folder for folder in found if folder.is_dir()))


def cpu_quota(folder: Path) -> float | None:
    """Processors' worth of time that a control group may use; None without a limit."""
    version_2 = _words(folder / "cpu.max")
    if len(version_2) == 2 and version_2[0] != "max":
        return int(version_2[0]) / int(version_2[1])
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def memory_left(folder: Path) -> int | None:
    """Bytes that a control group may still take; None without a limit. Its page cache, which the
    system gives back when asked, counts as free.
    """
    limit = _first_number(folder / "memory.max", folder / "memory.limit_in_bytes")
    used = _first_number(folder / "memory.current", folder / "memory.usage_in_bytes")
    if limit is None or used is None or limit >= 2**60:  # version 1 says so for "no limit"
        return None
    counted = dict(zip(*[iter(_words(folder / "memory.stat"))] * 2, strict=False))
    # version 1 has both, and the first leaves out the groups within
    cached = int(counted.get("total_inactive_file", counted.get("inactive_file", 0)))
    return limit - max(0, used - cached)


def machine_memory() -> int | None:
    """Bytes that the machine has without swapping (Linux)."""
    words = _words(Path("/proc/meminfo"))
    return int(words[words.index("MemAvailable:") + 1]) * 1024 if "MemAvailable:" in words else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if len(words) == 1 and words[0].lstrip("-").isdigit() else None


def _first_number(*paths: Path) -> int | None:
    return next((number for path in paths if (number := _number(path)) is not None), None)


def sharing() -> int:
    """How many of the processes that torchrun has started share this machine; 1 alone."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if together() > 1 else 1


def together() -> int:
    """How many processes torchrun, or something like it, has started of this one; 1 alone."""
    return (
        int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ and "WORLD_SIZE" in os.environ else 1
    )
