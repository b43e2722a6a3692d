"""A process that has imported everything and forks itself for each command of `astroformer`, which
so begins within milliseconds; a process of its own spends ten seconds of a busy machine on imports.

python fork_server.py: reads lines of JSON. {"words": [...], "variables": {...}, "output": PATH} is
answered with the number of a new process, which leads a session of its own; {"ended": NUMBER} with
its exit status (-9: killed), or null while it lives. "room": so many bytes may be added to the
address space of the process. "calls": system calls that answer otherwise (system_calls.py).
"locks": values in place of those of astroformer.locks.
"""

import json
import os
import resource
import subprocess
import sys
import time
import traceback
from pathlib import Path

import system_calls
import torch

import astroformer.studies.runner  # noqa: F401
import astroformer.training  # noqa: F401
from astroformer import cli, locks


def main():
    torch.set_num_threads(1)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(ended(asked["ended"]) if "ended" in asked else forked(asked)), flush=True)


def ended(number):
    found, status = os.waitpid(number, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def forked(asked):
    number = os.fork()
    if number:
        return number
    status = 70
    try:
        os.setsid()
        os.environ.update(asked["variables"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if asked.get("room") is not None:
            limit_memory(os.getpid(), asked["room"])
        for name, value in asked["locks"].items():
            setattr(locks, name, value)
        system_calls.answer(asked["calls"])
        status = cli.main(asked["words"])
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def limit_memory(number, room):
    """Lets a process take only so many bytes more of address space, as `ulimit -v` does."""
    pages = int(Path(f"/proc/{number}/statm").read_text().split()[0])
    limit = max(0, pages * resource.getpagesize() + room)
    resource.prlimit(number, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


class Server:
    """The other end: starts commands, and tells how they end."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **asked):
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, words, place, *, room=None, calls=None, locks=None, **variables):
        """The number of the process, which leads its own group; what it prints, its ledger and its
        checkpoints lie in a folder.
        """
        own = {
            "ASTROFORMER_RUNS": str(place / "runs"),
            "ASTROFORMER_LOCAL_LEDGER": str(place / "ledger"),
        }
        output = str(place / "output")
        how = dict(output=output, room=room, calls=calls or {}, locks=locks or {})
        return self.ask(words=words, variables=own | variables, **how)

    def ended(self, number):
        """The exit status of a process that ends soon."""
        for _ in until(SOON, f"process {number} ends"):
            status = self.ask(ended=number)
            if status is not None:
                return status

    def close(self):
        self.process.stdin.close()
        self.process.wait(SOON)


SOON = 300  # seconds until anything that is waited for has come, on the busiest machine


def until(seconds, what):
    """Looks again every millisecond; AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.001)
    raise AssertionError(f"{what}: not within {seconds} s")


if __name__ == "__main__":
    main()
