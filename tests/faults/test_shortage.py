"""Out of memory: one line that names the batch, its micro-batches and checkpointing, before a run
begins or in the middle of it; the older checkpoint stays, and the same command goes on from it.

A real limit of the address space stands for a small machine. Processes are real, too.
"""

import os
import re
import time
from pathlib import Path

import pytest
import torch
from fork_server import SOON, Server, limit_memory, until
from small_run import CPU

from astroformer import machine
from astroformer.cli.errors import complaint
from astroformer.data.loader import in_one_line
from astroformer.recipes import get_recipe
from astroformer.training import Run, checkpoint, fit
from astroformer.training.shortage import OutOfMemory

limited = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="limits as Linux has them"
)
WAYS = (
    "--grad-checkpointing (the same run) or --set micro_batch_size=24 or less (another run) or a "
    "lower --set batch_size=N (another run)"
)


@pytest.fixture(scope="module")
def server():
    made = Server()
    yield made
    made.close()


def words_of(folder, model, *, size=32, epochs=400):
    return [
        *("train", "--model", model, "--dataset", "folder", "--data-dir", str(folder)),
        *("--image-size", str(size), "--device", "cpu", "--checkpoint-seconds", "0"),
        *("--set", f"epochs={epochs}", "--set", "batch_size=48", "--set", "warmup_epochs=0"),
    ]


def errors(place):
    """The lines that complain."""
    said = (place / "output").read_text()
    assert "Traceback" not in said, said[-3000:]
    return [line for line in said.splitlines() if line.startswith("astroformer: ")]


@limited
@pytest.mark.slow
def test_a_run_that_cannot_fit_into_a_limit_is_refused_with_what_would_fit(
    tiny_folder, server, tmp_path
):
    words = words_of(tiny_folder, "astroformer_0", size=64)
    number = server.start(words, tmp_path, room=1_600_000_000)
    assert server.ended(number) == 2
    [line] = errors(tmp_path)
    assert "astroformer_0 at 64 pixels, 48 images at a time, takes 1.4 GB" in line
    assert re.search(r"GB free; choose --grad-checkpointing --set micro_batch_size=\d+ \(", line)
    assert not list((tmp_path / "runs").rglob("*.pt"))


@limited
@pytest.mark.slow
def test_a_run_whose_memory_runs_out_says_so_and_goes_on_from_its_last_checkpoint(
    tiny_folder, server, tmp_path
):
    words = words_of(tiny_folder, "vit_cifar")
    number = server.start(words, tmp_path)
    for _ in until(SOON, "a checkpoint"):
        if saved := list((tmp_path / "runs").glob("*/previous.pt")):
            break
    limit_memory(number, -(10**12))  # whatever is asked for now is too much
    assert server.ended(number) == 2
    [line] = errors(tmp_path)
    assert re.match(r"astroformer: out of memory at step \d+ of 400", line)
    assert "batch_size=48 is computed 48 images at a time" in line and WAYS in line
    last = saved[0].with_name("last.pt")
    assert f"{last} stays, and the same command goes on from it" in line
    step = checkpoint.read(last)["step"]
    again = server.start([*words, "--grad-checkpointing"], tmp_path)
    for _ in until(SOON, "it goes on"):
        if f"goes on from step {step} of 400" in (tmp_path / "output").read_text():
            break
        time.sleep(0.05)
    os.killpg(again, 9)
    server.ended(again)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 3145728 bytes. Error code 12 (Cannot allocate memory)"
        ),
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        MemoryError("Unable to allocate 3.00 GiB for an array with shape (1, 2)"),
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[:20]}",
)
def test_every_way_of_running_out_is_one_line_with_three_ways_out(
    tiny_folder, own_runs, monkeypatch, error
):
    """In the middle of a step, where a library says so in its own words; and outside a run."""
    recipe = get_recipe("smoke", epochs=3, batch_size=8, micro_batch_size=4)
    run = Run(
        model="astroformer_pico",
        dataset="folder",
        data_dir=str(tiny_folder),
        image_size=32,
        recipe=recipe,
    ).resolved(CPU)
    fit(run, device=CPU, stop_after=3, report=lambda line: None)
    real, count = torch.Tensor.backward, []

    def short(*arguments, **named):
        count.append(1)
        if len(count) > 5:
            raise error
        return real(*arguments, **named)

    monkeypatch.setattr(torch.Tensor, "backward", short)
    with pytest.raises(OutOfMemory) as raised:
        fit(run, device=CPU, report=lambda line: None)
    said = str(raised.value)
    assert said.startswith("out of memory at step 5 of 18") and "\n" not in said
    assert "batch_size=8 is computed 4 images at a time" in said
    assert "--grad-checkpointing (the same run) or --set micro_batch_size=2 or less" in said
    assert "last.pt stays" in said and complaint(raised.value) == (said, 2)
    assert ("2.00 GiB" in said) == ("2.00 GiB" in str(error))
    assert checkpoint.read(run.folder / "last.pt")["step"] == 3
    monkeypatch.undo()
    line, status = complaint(error)
    assert status == 2 and line.startswith("out of ") and "--grad-checkpointing" in line
    assert "micro_batch_size=N" in line and "batch_size=N" in line


def test_a_loader_process_that_runs_out_is_out_of_memory_too():
    told = (
        "Caught MemoryError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
        "last):\n  File ...\nnumpy._core._exceptions._ArrayMemoryError: Unable to allocate 3.00 GiB"
    )
    error = in_one_line(MemoryError(told))
    assert machine.is_out_of_memory(error) and machine.amount_asked_for(error) == "3.00 GiB"
    assert "\n" not in str(error)


@limited
def test_a_limit_of_this_process_counts_as_memory_that_is_not_free():
    number = os.fork()
    if not number:
        status = 1
        try:
            assert machine.own_limits() == []
            limit_memory(os.getpid(), 300_000_000)
            [left] = machine.own_limits()
            status = 0 if 0 < left <= 300_000_000 and machine.free_memory() <= left else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0
