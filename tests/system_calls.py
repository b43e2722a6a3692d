"""What a test on Linux can do to its processes. System calls answer otherwise by the kernel's own
filter (seccomp): file systems without flock, or with one that holds on one machine only, and
without hard links, are so had on any disk. Another host name and other process numbers make a
process as one on another machine. And it may have a small disk of its own.
"""

import ctypes
import errno
import os
import platform
import socket
from pathlib import Path

# link and linkat where there are both; touch is utimensat
NUMBERS = {
    "x86_64": {"flock": [73], "link": [86, 265], "touch": [280]},
    "aarch64": {"flock": [32], "link": [37], "touch": [88]},
}
NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2
LOAD, IS_EQUAL, RETURN = 0x20, 0x15, 0x06  # instructions of the filter
ALLOW, ANSWER = 0x7FFF0000, 0x00050000

NO_FLOCK = {"flock": errno.ENOLCK}  # NFS mounted nolock, Lustre without -o flock
FLOCK_OF_ONE_MACHINE = {"flock": 0}  # granted to everybody, as each machine of several grants it
NO_LINKS = {"link": errno.EPERM}
NEW_NAME, NEW_NUMBERS, NEW_USER, NEW_MOUNTS = 0x04000000, 0x20000000, 0x10000000, 0x00020000
ALL_BELOW, PRIVATE = 16384, 1 << 18


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("true", ctypes.c_uint8),
        ("false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction))]


def answer(calls: dict[str, int]) -> None:
    """Lets calls of this thread, and of threads and processes that it starts, fail with an error
    number, or do nothing and succeed with 0. OSError where the system has no such filter.
    """
    known = NUMBERS.get(platform.machine(), {})
    if not calls.keys() <= known.keys():
        raise OSError(errno.ENOSYS, f"numbers of system calls of {platform.machine()}")
    steps = [(LOAD, 0, 0, 0)]
    for name, error in calls.items():
        for number in known[name]:
            steps += [(IS_EQUAL, 0, 1, number), (RETURN, 0, 0, ANSWER | error)]
    steps += [(RETURN, 0, 0, ALLOW)]
    made = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    program = _Program(len(steps), made)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "seccomp")


def become_another_machine(name: str) -> None:
    """Gives this process another host name, and the processes that it forks numbers of their own,
    so that nobody outside can be asked whether one lives. OSError where that is not allowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NAME | NEW_NUMBERS) and libc.unshare(NEW_USER | NEW_NAME | NEW_NUMBERS):
        raise OSError(ctypes.get_errno(), "unshare")
    socket.sethostname(name)


def mount_small_disk(folder: Path, kilobytes: int = 64) -> None:
    """Puts a disk of its own, in memory, in a folder's place, for this process and those it starts.
    OSError where that is not allowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    mount(b"none", b"/", None, ALL_BELOW | PRIVATE, None)
    mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={kilobytes}k".encode())


def mount(*arguments) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(*arguments):
        raise OSError(ctypes.get_errno(), "mount")
