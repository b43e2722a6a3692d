"""The one loader: the same batches whoever makes them, processes that live as long as it does and
no longer, and faults that reach whoever asks for a batch, in one line.
"""

import contextlib
import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_files import write_galaxy10
from tiny_imagenet_tree import write_tiny_imagenet

from astroformer import data, machine
from astroformer.data.augment import Augmented, keys_of_epoch
from astroformer.data.folder import load_folder
from astroformer.data.images import About, Images
from astroformer.data.loader import MOST, ImageDataset, Loader, Squares, workers_beside
from astroformer.recipes import get_recipe

# Between them they have every per-image augmentation.
RECIPES = [
    dict(crop="random-resized", randaugment="rand-m9-mstd0.5-inc1", interpolation="random"),
    dict(crop="random-resized", color_jitter=0.4, interpolation="bilinear", sampling="stratified"),
    dict(crop="pad", autoaugment="cifar10-released", sampling="balanced"),
    dict(crop="pad", autoaugment="svhn"),
    dict(randaugment="rand-m9-mstd0.5-inc1", autoaugment="svhn-released"),
    dict(hflip=0.0, vflip=0.0, rotate90=False),
]


@pytest.fixture(scope="module")
def kinds(tiny_folder, tmp_path_factory):
    """Images from memory and from the disk, in every way in which they are kept."""
    root = tmp_path_factory.mktemp("kinds")
    write_galaxy10(root / "galaxy10")
    write_tiny_imagenet(root / "tiny", zipped=True)
    folder = load_folder(tiny_folder, "train", image_size=24)
    drawn = np.random.default_rng(0).integers(0, 256, (48, 24, 24, 3), dtype=np.uint8)
    about = About("x", "x", "synthetic", mirrored=(("a", "b"),))
    array = Images(drawn, np.arange(48) % 3, ("a", "b", "c"), 24, "train", about)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASTROFORMER_CACHE", str(root / "cache"))
        galaxies = data.load("galaxy10_decals", "train", data_dir=root / "galaxy10", image_size=24)
        return {
            "array": array,
            "files": folder,
            "squares in memory": folder.ready(print),
            "images in memory": folder.ready(print, whole=True),
            "HDF5": galaxies,
            "memory map": galaxies.ready(print, whole=True),
            "zip": data.load("tiny_imagenet", "train", data_dir=root / "tiny", image_size=24),
        }


class Several(ImageDataset):
    """Items of several data sets, by the number of one and its own key; so that processes which
    take seconds to start are started once for all.
    """

    def __init__(self, datasets):
        super().__init__(datasets[0].images)
        self.datasets = datasets

    def image(self, key):
        return self.datasets[key[0]].image(key[1])


@pytest.fixture(scope="module")
def several(kinds):
    """Every recipe on every kind of images, the keys of an epoch, and its batches as this process
    makes them.
    """
    datasets = [
        Augmented(images, get_recipe("smoke", **fields), seed=5)
        for images in kinds.values()
        for fields in RECIPES
    ]
    datasets += [Squares(images) for images in kinds.values()]
    keys = [
        [(number, key) for key in batch]
        for number, one in enumerate(datasets[: -len(kinds)])
        for batch in keys_of_epoch(one, 4, epoch=2)[:2]
    ]
    keys += [[(len(datasets) - 1 - i, key) for key in range(5)] for i in range(len(kinds))]
    dataset = Several(datasets)
    return dataset, keys, list(Loader(dataset).batches(keys))


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(x, z) and torch.equal(y, w) for (x, y), (z, w) in zip(one, other)
    )


@pytest.mark.parametrize(
    "context, workers",
    [
        *(("fork", 1), ("fork", 2), ("spawn", 1)),
        pytest.param("forkserver", 1, marks=pytest.mark.slow),
    ],
)
def test_batches_are_the_same_whoever_makes_them(several, context, workers):
    dataset, keys, expected = several
    loader = Loader(dataset, workers=workers, context=context)
    try:
        # twice, as the processes keep their generators from one pass to the next
        assert same(list(loader.batches(keys)), expected)
        assert same(list(loader.batches(keys[::-1])), expected[::-1])
    finally:
        loader.close()


def test_batches_of_an_epoch_differ_from_those_of_others_and_hold_what_their_keys_say(several):
    dataset, keys, expected = several
    for (pixels, labels), batch in zip(expected, keys):
        assert pixels.dtype == torch.uint8 and pixels.shape == (len(batch), 3, 24, 24)
        assert labels.dtype == torch.int64
        for i, (number, key) in enumerate(batch):
            own, label = dataset.datasets[number][key]
            assert torch.equal(own, pixels[i]) and label == labels[i]
    later = [[(number, (9, *key[1:])) for number, key in batch] for batch in keys[:2]]
    assert not same(list(Loader(dataset).batches(later)), expected[:2])


def test_evaluation_sees_every_image_once_in_order_and_the_last_batch_as_small_as_it_is(kinds):
    for images in kinds.values():
        for workers in (0, 1) if images is kinds["files"] else (0,):
            loader = Loader(Squares(images), workers=workers)
            pixels, labels = zip(*loader.in_order(7))
            loader.close()
            assert [len(one) for one in labels[:-1]] == [7] * (len(images) // 7)
            assert np.array_equal(torch.cat(labels), images.labels)
            assert np.array_equal(torch.cat(pixels).permute(0, 2, 3, 1), images.array())


def test_large_arrays_go_to_other_processes_in_shared_memory():
    pixels = np.zeros((300, 64, 64, 3), np.uint8)
    images = Images(pixels, np.zeros(300, int), ("a", "b"), 64, "train", About("x", "x", "real"))
    dataset = Augmented(images, get_recipe("smoke", randaugment="rand-m9"), seed=0)
    told = [bytes(ForkingPickler.dumps(dataset)) for _ in range(2)]
    assert max(map(len, told)) < 50_000 < pixels.nbytes
    again = [pickle.loads(one) for one in told]
    for one in again:
        assert np.array_equal(one.images.pixels, pixels) and not one.images.pixels.flags.writeable
        assert torch.equal(one[0, 3][0], dataset[0, 3][0])
    with pytest.raises(ValueError, match="read-only"):
        again[0].images.pixels[0] = 1


class Process(ImageDataset):
    """Whose label is the process that made the item; the key "broken" is answered with an error."""

    def image(self, key):
        if key == "broken":
            raise ValueError("cannot read the image x.png (cut); replace the file or delete it")
        if key == "slow":
            time.sleep(0.2)
        return self.images.pixels[0], os.getpid()


@pytest.fixture
def processes():
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    images = Images(pixels, np.arange(4) % 2, ("a", "b"), 8, "train", About("x", "x", "real"))
    made = []

    def start(workers=2, **options):
        made.append(Loader(Process(images), workers=workers, context="fork", **options))
        return made[-1]

    yield start
    for loader in made:
        loader.close()


def pids(batches):
    return {int(pid) for _, labels in batches for pid in labels}


def lives(pid):
    """Whether a process is there and not merely waiting to be forgotten."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def soon(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


KEYS = [[i, i] for i in range(12)]


def test_processes_are_started_once_and_serve_every_pass(processes):
    loader = processes()
    first = pids(loader.batches(KEYS))
    assert len(first) == 2 and os.getpid() not in first
    for _ in range(4):
        assert pids(loader.batches(KEYS)) == first
    assert pids(processes(0).batches(KEYS)) == {os.getpid()}


def test_a_pass_that_is_left_in_its_middle_does_not_disturb_the_next(processes):
    loader = processes()
    left = loader.batches([*KEYS, ["broken"], *KEYS])
    first = {int(pid) for _ in range(3) for pid in next(left)[1]}
    counts = [len(labels) for _, labels in loader.batches([[0], [0, 0], [0, 0, 0]])]
    assert counts == [1, 2, 3]
    assert first <= pids(loader.batches(KEYS))


def test_processes_end_with_the_loader(processes):
    closed, forgotten = processes(), None
    ended = pids(closed.batches(KEYS))
    closed.close()
    assert soon(lambda: not any(map(lives, ended)))
    assert not pids(closed.batches(KEYS)) & ended  # others are started
    images = closed.dataset.images
    forgotten = Loader(Process(images), workers=2, context="fork")
    ended = pids(forgotten.batches(KEYS))
    assert all(map(lives, ended))
    del forgotten
    gc.collect()
    assert soon(lambda: not any(map(lives, ended)))


SCRIPT = """
import os, sys
import numpy as np
from astroformer.data.images import About, Images
from astroformer.data.loader import Loader, Squares

images = Images(
    np.zeros((64, 8, 8, 3), np.uint8), np.arange(64) % 2, ("a", "b"), 8, "train",
    About("x", "x", "real"),
)
loader = Loader(Squares(images), workers=2, context="fork")
passing = loader.in_order(4)
next(passing)
print(*[process.pid for process in loader._loader._iterator._workers], flush=True)
exec(sys.argv[1])
"""


@pytest.mark.parametrize(
    "ending, status",
    [("raise RuntimeError", 1), ("os.kill(os.getpid(), 9)", -signal.SIGKILL)],
    ids=["failed", "killed"],
)
def test_no_process_keeps_python_from_ending_or_outlives_it(ending, status):
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, ending], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == status
    started = [int(pid) for pid in ran.stdout.split()]
    assert len(started) == 2 and soon(lambda: not any(map(lives, started)))


def test_an_interrupt_of_the_whole_group_is_left_to_the_first_process(processes):
    loader = processes()
    passing = loader.batches(KEYS * 3)
    first = {int(pid) for _ in range(4) for pid in next(passing)[1]}
    for pid in first:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
    assert pids(passing) == pids(loader.batches(KEYS)) == first


def test_signals_that_arrive_while_processes_start_do_not_end_them(processes):
    told, done = Path(f"/proc/self/task/{os.getpid()}/children"), threading.Event()
    signalled = set()

    def signal_children():
        while not done.is_set():
            for pid in map(int, told.read_text().split()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
                    signalled.add(pid)

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    thread = threading.Thread(target=signal_children)
    thread.start()
    try:
        started = pids(processes().batches(KEYS))
    finally:
        done.set()
        thread.join()
    assert len(started) == 2 and started <= signalled
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


def test_a_process_that_was_killed_is_told_between_batches_and_nowhere_else(processes):
    loader = processes()
    passing = loader.batches([["slow"]] * 40)
    victim = int(next(passing)[1][0])
    os.kill(victim, signal.SIGKILL)
    for _ in range(30):  # an optimizer step, say, in which torch would raise
        time.sleep(0.02)
    with pytest.raises(OSError, match="a loader process ended .* try .* --workers 0") as error:
        pids(passing)
    assert "\n" not in str(error.value) and str(victim) in str(error.value)
    others = pids(loader.batches(KEYS))  # the next pass starts anew
    assert len(others) == 2 and victim not in others


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_process_is_the_one_that_it_would_be_here(processes, workers):
    loader = processes(workers)
    with pytest.raises(ValueError) as error:
        list(loader.batches([[0], ["broken"], [0]]))
    assert str(error.value) == "cannot read the image x.png (cut); replace the file or delete it"
    assert len(list(loader.batches(KEYS))) == 12  # and the next pass goes on


def test_a_broken_image_is_named_from_any_process_alike(tiny_folder, tmp_path):
    root = shutil.copytree(tiny_folder, tmp_path / "copy")
    path = root / "train" / "round" / "004.png"
    path.write_bytes(path.read_bytes()[:200])
    said = []
    for workers in (0, 2):
        loader = Loader(Squares(load_folder(root, "train")), workers=workers)
        with pytest.raises(ValueError) as error:
            list(loader.in_order(8))
        loader.close()
        said.append(str(error.value))
    assert said[0] == said[1] and str(path) in said[0] and "\n" not in said[0]


def test_as_many_processes_as_may_be_used_stand_beside_a_gpu_and_none_beside_a_cpu(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for allowed in (1, 3, 64):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=allowed: set(range(n)))
        monkeypatch.setattr(machine, "control_groups", list)
        assert workers_beside(torch.device("cuda")) == min(MOST, allowed)
        assert workers_beside(torch.device("cpu")) == 0


def test_pythons_own_way_of_starting_processes_is_taken_unless_one_is_named(processes):
    loader = Loader(processes().dataset, workers=1)
    assert os.getpid() not in pids(loader.batches(KEYS[:2]))
    loader.close()
    with pytest.raises(ValueError, match="spawn"):
        Loader(loader.dataset, workers=1, context="no such way")
    assert {"fork", "spawn", "forkserver"} <= set(multiprocessing.get_all_start_methods())
