"""One loader for training, validation, testing and prediction: batches of a data set of images, by
keys, from this process or from others that live as long as the loader.

Reads top to bottom: ImageDataset (what is loaded), Squares (for evaluation; `augment.Augmented` is
for training), Loader. A batch is (uint8 (B, C, H, W), labels (B,)), whatever made it; where
training's targets are soft, probabilities (B, K) stand in place of the labels.
"""

import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from astroformer.data.images import Images
from astroformer.data.pixels import Decoded, Packed
from astroformer.machine import processors

MOST = 8  # processes that are started when nobody says how many
BY_VALUE = 2**21  # bytes of a batch's images up to which it is passed by value
# what a batch system, or a user, stops a run with; Slurm's warning is SIGUSR1 where one asks for it
STOPPING = {signal.SIGINT, signal.SIGTERM}
if hasattr(signal, "SIGUSR1"):  # not on Windows
    STOPPING.add(signal.SIGUSR1)


class ImageDataset(Dataset):
    """Images that come one by one, (uint8 (C, H, W), label), or as batches; subclasses say by
    `image` what belongs to a key.
    """

    def __init__(self, images: Images):
        self.images = images
        self._shared: Images | None = None

    def __len__(self) -> int:
        return len(self.images)

    def image(self, key) -> tuple[np.ndarray, int | np.ndarray]:
        """(uint8 (H, W, C), label or probabilities)"""
        return self.images.pixels[key], int(self.images.labels[key])

    def __getitem__(self, key) -> tuple[Tensor, int | np.ndarray]:
        pixels, label = self.image(key)
        return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C")), label

    def __getitems__(self, keys: Sequence) -> tuple[Tensor, Tensor]:
        """A batch at once, as torch's fetcher asks for it: uint8 (B, C, H, W), (B,)."""
        pixels, labels = zip(*map(self.image, keys), strict=True)
        stacked = torch.from_numpy(np.stack(pixels))  # (B, H, W, 3)
        return stacked.permute(0, 3, 1, 2), torch.from_numpy(np.array(labels))

    def build(self) -> None:
        """Makes what is not passed to other processes, here and in each of them."""

    def __getstate__(self) -> dict:
        """What goes to a process that is started and not forked: arrays in shared memory, once for
        all processes.
        """
        if self._shared is None:
            self._shared = shared(self.images)
        return vars(self) | {"images": self._shared, "_shared": None}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self.build()


class Squares(ImageDataset):
    """Images as they are evaluated: the key i stands for the middle square of image i."""


class Loader:
    """Batches of a data set, in the order of the keys that each pass is given.

    workers: processes that read and augment, 0 for none; they are started at the first pass and
        serve all others
    context: how they are started, "fork", "forkserver" or "spawn"; None is Python's default
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        workers: int = 0,
        pin_memory: bool = False,
        context: str | None = None,
    ):
        self.dataset, self.workers = dataset, workers
        self._pass = _Pass()
        self._end: weakref.finalize | None = (
            None  # of the processes, at the latest when Python ends
        )
        self._loader = DataLoader(
            dataset,
            batch_sampler=self._pass,
            num_workers=workers,
            collate_fn=as_it_goes,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            worker_init_fn=belong_to_the_first if workers else None,
            multiprocessing_context=context if workers else None,
            generator=torch.Generator(),  # else the process's own would be drawn from
        )

    def batches(self, keys: list[list]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one pass, a list of keys each. An earlier pass need not have ended."""
        self._pass.keys = keys
        passing = None
        while True:
            try:
                passing = self._begin() if passing is None else passing
                batch = next(passing)
            except StopIteration:
                return
            except Exception as error:
                if isinstance(said := in_one_line(error), ProcessEnded):
                    self.close()
                raise said from error
            yield batch.tensors() if isinstance(batch, ByValue) else batch

    def _begin(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self.workers:
            return iter(self._loader)
        with signals_held():
            passing = iter(self._loader)
        if self._end is None:
            self._end = weakref.finalize(self, end_processes, passing)
        return passing

    def in_order(
        self, batch_size: int, rows: slice = slice(None)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, or some that lie side by side, the last batch as small as it is."""
        every = list(range(len(self.dataset)))[rows]
        return self.batches(
            [every[start : start + batch_size] for start in range(0, len(every), batch_size)]
        )

    def close(self) -> None:
        """Ends the processes; another pass would start others."""
        self._loader._iterator = None
        if self._end is not None:
            self._end()
            self._end = None


class _Pass:
    """The keys of the pass that begins, as DataLoader asks for them."""

    keys: Sequence[list] = ()

    def __iter__(self) -> Iterator[list]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


def end_processes(passing: Iterator) -> None:
    """Of DataLoader's iterator. Python itself would ask them by SIGTERM and wait for ever, since
    they leave that to the first process.
    """
    passing._shutdown_workers()
    for process in passing._workers:
        process.kill()


def workers_beside(device: torch.device) -> int:
    """How many processes to start when nobody says: none where the network computes on the same
    processors, else as many as this process may use, up to MOST.
    """
    return min(MOST, processors()) if device.type == "cuda" else 0


def as_it_goes(batch: tuple[Tensor, Tensor]) -> "tuple[Tensor, Tensor] | ByValue":
    """The data set has put the batch together already; a small one of a loader process goes to the
    first process by value.
    """
    images, _ = batch
    small = images.nbytes <= BY_VALUE and get_worker_info() is not None
    return ByValue(*batch) if small else batch


class ByValue:
    """A batch as bytes of a pipe. torch would pass each tensor as an open file, for which the first
    process asks a thread of the loader process, with a handshake over a socket: a millisecond of
    the first process's time for each small batch, as long as a GPU computes a small step.
    """

    def __init__(self, images: Tensor, labels: Tensor):
        self.images, self.labels = images.permute(0, 2, 3, 1).numpy(), labels.numpy()

    def tensors(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.images).permute(0, 3, 1, 2), torch.from_numpy(self.labels)

    def pin_memory(self) -> tuple[Tensor, Tensor]:
        """Called by DataLoader where it pins."""
        images, labels = self.tensors()
        return images.pin_memory(), labels.pin_memory()


class ProcessEnded(OSError):
    """A loader process is no more, though it has been asked for batches."""


def in_one_line(error: Exception) -> Exception:
    """What went wrong in a loader process, without the traceback that torch puts before it."""
    text = str(error)
    if "DataLoader worker" in text and "exited unexpectedly" in text or "is killed by" in text:
        how = text.strip().splitlines()[0]
        return ProcessEnded(
            f"a loader process ended ({how}), most often for want of memory: try fewer of them, "
            "--workers 1, or none, --workers 0"
        )
    if "in DataLoader worker process" in text:
        kind, _, said = text.strip().splitlines()[-1].partition(": ")
        if isinstance(error, MemoryError):
            return MemoryError(f"in a process that prepares images: {said or kind}")
        known = type(error) if type(error) in (ValueError, OSError, RuntimeError) else ValueError
        return known(said or kind)
    return error


def belong_to_the_first(worker: int) -> None:
    """In a loader process: an interrupt or a batch system's SIGTERM goes to the whole group, and
    the first process, which saves, still needs the batches under way. It ends the others; where it
    cannot, since it was killed, they end by themselves.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    threading.Thread(target=_end_with_the_first, daemon=True).start()


def _end_with_the_first() -> None:
    """torch itself asks whether the process that forked this one lives, which may be a server."""
    multiprocessing.parent_process().join()
    os._exit(1)


@contextmanager
def signals_held() -> Iterator[None]:
    """While loader processes are started, they and this one take no signal: theirs would end them
    before they can ignore it. torch's own answer to the death of one, an exception anywhere in this
    process, even within an optimizer step, is put off too: the next batch that is asked for tells.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if main and hasattr(signal, "SIGCHLD") else None
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGCHLD, before)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


# Arrays in shared memory


class SharedArray:
    """An array that other processes get as it lies in shared memory, without a copy each."""

    def __init__(self, array: np.ndarray):
        self.tensor = torch.from_numpy(np.array(array)).share_memory_()

    def __reduce__(self):
        return array_of, (self.tensor,)


def array_of(tensor: Tensor) -> np.ndarray:
    array = tensor.numpy()
    array.setflags(write=False)
    return array


def shared(images: Images) -> Images:
    """The same images for being passed on; what is in memory lies in shared memory then."""
    pixels = images.pixels
    if isinstance(pixels, np.ndarray):
        return replace(images, pixels=SharedArray(pixels))
    if isinstance(pixels, Decoded):
        squares = None if pixels.squares is None else SharedArray(pixels.squares)
        wholes = pixels.wholes
        if wholes is not None:
            wholes = Packed(SharedArray(wholes.buffer), wholes.starts, wholes.shapes)
        sources = pixels.sources
        if isinstance(sources, np.ndarray) and sources.ndim > 1:
            sources = SharedArray(sources)
        return replace(
            images, pixels=pixels.changed(squares=squares, wholes=wholes, sources=sources)
        )
    return images
