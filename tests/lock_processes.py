"""Processes that take and give back locks when they are told to."""

import multiprocessing
import os
import signal
from contextlib import ExitStack

import pytest
import system_calls

from astroformer import locks

SOON = 60  # seconds in which an answer comes, on the busiest machine


class Holder:
    """A process with the locks of a file system.

    calls: system calls that answer otherwise there (system_calls.py)
    kind: what ASTROFORMER_LOCKS says
    heartbeat, stale: seconds, in place of the library's
    machine: a name, for a process that is as one on another machine
    disk: a folder, in whose place it sees a small disk
    """

    def __init__(
        self, *, calls=None, kind="auto", heartbeat=30.0, stale=600.0, machine="", disk=None
    ):
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        told = (theirs, calls or {}, kind, heartbeat, stale, machine, disk)
        self.process = context.Process(target=serve, args=told)
        self.process.start()
        self.pid = self.answer()
        if isinstance(self.pid, OSError):
            self.close()
            pytest.skip(f"the system does not allow it here: {self.pid}")

    def tell(self, *words):
        self.pipe.send(words)

    def answer(self):
        assert self.pipe.poll(SOON), "no answer"
        return self.pipe.recv()

    def ask(self, *words):
        self.tell(*words)
        return self.answer()

    def take(self, path, *, wait=False):
        """Whether the lock was had."""
        had = self.ask("take", path, wait)
        if isinstance(had, BaseException):
            raise had
        return had

    def do(self, function, *arguments):
        """What a function gives there."""
        return self.ask("do", function, *arguments)

    def holder(self):
        """Who has what could not be had."""
        return self.ask("holder")

    def give_back(self):
        return self.ask("give back")

    def lost(self):
        """What is said on a look, and what was said before by itself."""
        return self.ask("lost")

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.join(SOON)

    def close(self):
        for pid in {self.process.pid, getattr(self, "pid", None)}:
            if isinstance(pid, int):
                try:
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.process.join(SOON)
        self.pipe.close()


def serve(pipe, calls, kind, heartbeat, stale, machine, disk):
    try:
        os.environ[locks.VARIABLE] = kind
        if disk is not None:
            system_calls.mount_small_disk(disk)
        if machine:
            system_calls.become_another_machine(machine)
            if child := os.fork():  # the first whose number is another
                pipe.send(child)
                os.waitpid(child, 0)
                os._exit(0)
        system_calls.answer(calls)
    except OSError as error:
        pipe.send(error)
        return
    locks.HEARTBEAT, locks.STALE, locks.POLL = heartbeat, stale, 0.02
    if not machine:
        pipe.send(os.getpid())
    answer(pipe)


def answer(pipe):
    """Until the other end is closed."""
    held, lock, said = ExitStack(), None, []
    while True:
        try:
            word, *more = pipe.recv()
        except EOFError:
            return
        if word == "take":
            path, wait = more
            try:
                lock = held.enter_context(locks.locked(path, wait=wait, on_loss=said.append))
                pipe.send(bool(lock))
            except Exception as error:
                pipe.send(error)
        elif word == "give back":
            held.close()
            pipe.send(None)
        elif word == "holder":
            pipe.send(lock.holder)
        elif word == "said":
            pipe.send(list(said))
        elif word == "lost":
            pipe.send(lock.lost())
        elif word == "do":
            function, *arguments = more
            pipe.send(function(*arguments))


@pytest.fixture
def start():
    """Starts holders, which end with the test."""
    started = []

    def one(**how):
        started.append(Holder(**how))
        return started[-1]

    yield one
    for holder in started:
        holder.close()
