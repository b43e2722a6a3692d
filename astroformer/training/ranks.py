"""The processes that train one run together, called ranks, as `torchrun` starts them.

    torchrun --nproc-per-node 8 -m astroformer train ...

What a run computes does not depend on their number. Its batch is cut into micro-batches as always,
and BatchNorm sees a micro-batch: a rank has whole ones where there are enough of them, and several
ranks share one, synchronised, where there are not (see `pieces`). So one word, micro_batch_size,
says what BatchNorm sees: as many images as a rank has ("per process"), the whole batch
("synchronised"), or any number between ("ghost batches").

Reads top to bottom: Ranks, joined, pieces, and the watch for ranks that answer no more.
"""

import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from astroformer import machine

# A rank that gives no sign of life for so long, or is waited for by all others, is given up.
PATIENCE = 40.0
VARIABLE = "ASTROFORMER_RANK_PATIENCE"  # seconds, where a step may take longer
BEAT = 1.0  # seconds between two signs of life
Answer = TypeVar("Answer")


class RankLost(ChildProcessError):
    """Another process of the run answers no more."""


@dataclass
class Ranks:
    """This process among those that train together; alone without torchrun."""

    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None  # on CPUs, for decisions; None alone
    watch: "Watch | None" = None
    groups: dict[tuple[int, ...], dist.ProcessGroup] = field(default_factory=dict)

    @property
    def first(self) -> bool:
        """Whether this is the one that reports and writes."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether any rank has raised it; every rank must ask, and all are told the
        same.
        """
        if self.size == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.uint8)
        with self._waiting():
            dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.control)
        return tuple(bool(one) for one in raised)

    def told(self, answer: Callable[[], Answer]) -> Answer:
        """What the first rank answers; the others do not ask. An error of its is everyone's."""
        if self.size == 1:
            return answer()
        said: list = [None, None]
        if self.first:
            with self.excused():
                try:
                    said[0] = answer()
                except Exception as error:
                    said[1] = error
        with self._waiting():
            dist.broadcast_object_list(said, src=0, group=self.control)
        if said[1] is not None:
            raise said[1]
        return said[0]

    def sum(self, value: Tensor) -> Tensor:
        """Over all ranks, in place, on its device."""
        if self.size > 1:
            with self._waiting():
                dist.all_reduce(value)
        return value

    def rows(self, number: int) -> slice:
        """This rank's part of so many images, of which none is another's."""
        part = np.array_split(np.arange(number), self.size)[self.rank]
        return slice(int(part[0]), int(part[-1]) + 1) if len(part) else slice(0, 0)

    def gathered(self, own: Tensor, group: tuple[int, ...] | None = None) -> Tensor:
        """The rows of every rank of a group (None is all) in their order, on the device of `own`;
        each may have another number of them.
        """
        members = tuple(range(self.size)) if group is None else group
        if len(members) == 1:
            return own
        channel = self.group_of(members)
        numbers = [torch.zeros(1, dtype=torch.int64, device=own.device) for _ in members]
        with self._waiting():
            dist.all_gather(numbers, torch.tensor([len(own)], device=own.device), group=channel)
            most = int(max(numbers))
            padded = own.new_zeros((most, *own.shape[1:]))
            padded[: len(own)] = own
            parts = [torch.empty_like(padded) for _ in members]
            dist.all_gather(parts, padded, group=channel)
        return torch.cat([part[: int(one)] for part, one in zip(parts, numbers, strict=True)])

    def group_of(self, members: tuple[int, ...]) -> dist.ProcessGroup | None:
        """The channel of ranks that share a micro-batch; None is that of all."""
        return None if len(members) == self.size else self.groups[members]

    def make_groups(self, every: Sequence[tuple[int, ...]]) -> None:
        """Channels for groups of ranks; each rank must make all of them in the same order."""
        for members in every:
            if 1 < len(members) < self.size and members not in self.groups:
                self.groups[members] = dist.new_group(list(members))

    @contextmanager
    def excused(self) -> Iterator[None]:
        """While this rank may take its time, though all others wait for it: it writes a large
        file, or waits for a lock. It still gives signs of life.
        """
        before = self.watch.waiting if self.watch else False
        if self.watch:
            self.watch.waiting = True
        try:
            yield
        finally:
            if self.watch:
                self.watch.waiting = before
                self.watch.progress += 1

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """While this rank waits for others. What their loss raises becomes one line."""
        try:
            with self.excused():
                yield
        except RuntimeError as error:
            lost = self.watch.lost(wait=4 * BEAT) if self.watch else None
            raise RankLost(said_of(lost or "another process of this run")) from error


ALONE = Ranks()


def device_of_rank(device: torch.device) -> torch.device:
    """Each rank has a GPU of its own machine."""
    if device.type != "cuda" or machine.together() == 1:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Joins the processes that torchrun started, on their CPUs or GPUs."""
    if machine.together() == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    # Who is lost is found by the watch; a channel's own limit is the last resort.
    limit = timedelta(seconds=max(1800.0, 10 * patience()))
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store, signs = meeting(time := next(TIMES)), meeting(time, own=True)
    dist.init_process_group(
        backend, timeout=limit, store=dist.PrefixStore("all", store), rank=rank, world_size=size
    )
    control = dist.new_group(backend="gloo", timeout=limit)
    watch = Watch(rank, size, dist.PrefixStore("watch", signs))
    try:
        yield Ranks(rank, size, control, watch)
    except BaseException as error:
        if isinstance(error, Exception):
            error.rank = None if watch.first_says(error) else rank
        watch.leave()
        raise  # the others may wait for this one in the channel, which is not closed in order then
    else:
        watch.leave()
        dist.destroy_process_group()


TIMES = itertools.count()  # how often this process has joined others


def meeting(time: int, *, own: bool = False) -> dist.Store:
    """Where processes meet for the n-th time; nothing of the times before is left there.

    own: over a connection of its own, as one that waits for an answer holds up whoever uses it
    """
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"astroformer/{again}/{time}", connection() if own else first())


@cache
def first() -> dist.TCPStore:
    """The connection that lasts; of the first rank it is the store itself, unless torchrun has
    one.
    """
    theirs = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return connection(serves=os.environ["RANK"] == "0" and not theirs)


def connection(*, serves: bool = False) -> dist.TCPStore:
    return dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=serves,
        wait_for_workers=False,
        timeout=timedelta(seconds=300),
    )


def patience() -> float:
    """Seconds after which a rank without a sign of life is given up. ValueError for a variable
    that is no number.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else PATIENCE
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ValueError(f"{VARIABLE} {text!r} is not a number of seconds above 0")
    return seconds


# Who computes what


@dataclass(frozen=True)
class Piece:
    """Rows of one micro-batch that one rank computes."""

    part: int  # which micro-batch of the batch
    start: int  # rows of the batch
    stop: int
    group: tuple[int, ...]  # the ranks that share the micro-batch

    @property
    def images(self) -> int:
        return self.stop - self.start


def pieces(batch: int, micro_batch: int, ranks: int) -> list[list[Piece]]:
    """Who computes what of a batch, a list for each rank: its rows lie side by side.

    With as many micro-batches as ranks, or more, every rank has whole ones. With fewer, each is
    shared by ranks that lie side by side. ValueError for ranks that would have nothing.
    """
    if ranks > batch:
        raise ValueError(
            f"batch_size {batch} is less than the {ranks} processes that were started; start at "
            f"most {batch}"
        )
    parts = [
        range(start, min(start + micro_batch, batch)) for start in range(0, batch, micro_batch)
    ]
    if ranks <= len(parts):
        shares = np.array_split(np.arange(len(parts)), ranks)
        return [
            [Piece(int(i), parts[i].start, parts[i].stop, (rank,)) for i in share]
            for rank, share in enumerate(shares)
        ]
    found: list[list[Piece]] = []
    for i, members in enumerate(np.array_split(np.arange(ranks), len(parts))):
        group = tuple(int(one) for one in members)
        rows = np.array_split(np.arange(parts[i].start, parts[i].stop), len(group))
        if not len(rows[-1]):
            raise ValueError(
                f"a micro-batch of {len(parts[i])} images cannot be shared by {len(group)} "
                f"processes; start fewer, or choose a larger batch_size"
            )
        found += [[Piece(i, int(own[0]), int(own[-1]) + 1, group)] for own in rows]
    return found


# Who answers no more


class Watch:
    """A thread that tells the other ranks that this one lives and how far it is, and that ends
    this process if another is given up: a rank without a sign of life, or one that all others wait
    for while it goes no further.

    Signs lie in the store through which torchrun's processes found one another.
    """

    def __init__(self, rank: int, size: int, store: dist.Store):
        self.rank, self.size, self.patience, self.store = rank, size, patience(), store
        self.progress, self.waiting = 0, False  # waiting: for others, or excused
        self.seen: dict[int, tuple[str, float]] = {}  # rank -> its last sign and when it changed
        self.moved: dict[int, tuple[str, float]] = {}  # rank -> its progress and when it changed
        self.names: dict[int, str] = {}
        self.ended = threading.Event()
        self.beats = 0
        self.store.set(f"name/{rank}", f"rank {rank} ({socket.gethostname()}, {os.getpid()})")
        self._tell()
        self.thread = threading.Thread(target=self._run, daemon=True, name="watch")
        self.thread.start()

    def leave(self) -> None:
        """This rank ends in order; the others need not wait for it."""
        self.ended.set()
        self.thread.join(5 * BEAT)

    def first_says(self, error: Exception) -> bool:
        """Whether the first rank raises the same error, as it does of a wrong argument."""
        said = f"{type(error).__name__}: {error}"
        with suppress(RuntimeError):
            self.store.set(f"error/{self.rank}", said)
            self.store.wait(["error/0"], timedelta(seconds=3 * BEAT))
            return self.rank > 0 and self.store.get("error/0").decode() == said
        return False

    def lost(self, *, wait: float = 0.0) -> str | None:
        """The name of a rank that gives no sign, looked for as long as `wait` seconds."""
        there = dict(self.seen)
        time.sleep(wait)
        for rank, (sign, _) in self.seen.items():
            if rank != self.rank and rank in there and there[rank][0] == sign:
                return self.names.get(rank, f"rank {rank}")
        return None

    def _tell(self) -> None:
        self.beats += 1
        self.store.set(f"sign/{self.rank}", f"{self.beats} {self.progress} {int(self.waiting)}")

    def _run(self) -> None:
        while not self.ended.wait(BEAT):
            try:
                self._tell()
                late = self._look()
            except Exception:  # the store is gone: who kept it has ended, and so do the channels
                return
            if late and not self.ended.is_set():
                print(f"astroformer: {said_of(late)}", file=sys.stderr, flush=True)
                os._exit(1)

    def _look(self) -> str | None:
        """Reads every rank's sign; the name of one that is given up."""
        now, waiting = time.monotonic(), {}
        for rank in range(self.size):
            if rank not in self.names:
                if not self.store.check([f"name/{rank}", f"sign/{rank}"]):
                    continue
                self.names[rank] = self.store.get(f"name/{rank}").decode()
            sign = self.store.get(f"sign/{rank}").decode()
            _, progress, waits = sign.split()
            waiting[rank] = waits == "1"
            for known, value in ((self.seen, sign), (self.moved, progress)):
                if known.get(rank, ("", 0.0))[0] != value:
                    known[rank] = (value, now)
        for rank, (_, then) in self.seen.items():
            if rank != self.rank and now - then > self.patience:
                return self.names[rank]
        still = [rank for rank, waits in waiting.items() if not waits]
        if len(waiting) == self.size and len(still) == 1 and still[0] != self.rank:
            since = max(then for _, then in self.moved.values())
            if now - since > self.patience:
                return self.names[still[0]]
        return None


def said_of(name: str) -> str:
    return (
        f"{name} answers no more, so this process ends too; the same command goes on from the "
        f"last checkpoint ({VARIABLE} gives slow processes more seconds)"
    )
