"""The command line: each verb answers, JSON is JSON, and whatever goes wrong ends with one line:
status 2 for what cannot be done, 1 for a mistake of the project.
"""

import argparse
import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from galaxy_folder import write_galaxies
from timm.data import Mixup
from torch.utils.data import DataLoader

from astroformer import cli, paths, version
from astroformer.cli.common import device_of
from astroformer.cli.errors import complaint
from astroformer.training import parse_option


def call(capsys, *words):
    status = cli.main(list(words))
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize("words", [["models"], ["data", "list"], ["ledger"], ["claims"]])
def test_every_table_is_printed_and_comes_as_json(capsys, own_runs, words):
    status, text, _ = call(capsys, *words)
    assert status == 0 and text.strip()
    status, text, _ = call(capsys, *words, "--json")
    assert status == 0 and isinstance(json.loads(text), list)


def test_cost_counts_the_release(capsys):
    words = ["cost", "astroformer_0", "--image-size", "224", "--classes", "10"]
    _, text, _ = call(capsys, *words, "--json")
    counted = json.loads(text)
    assert (
        counted["params"] == 22_772_282
        and counted["macs"] == 3_994_182_144
        and counted["stack"] == "CCCT"
    )
    status, said, _ = call(capsys, *words)
    assert status == 0 and "22,772,282" in said


def test_a_folder_of_images_is_trained_on_and_evaluated(capsys, own_runs, tmp_path):
    write_galaxies(tmp_path / "mine", train=8, test=4)
    where = ["--dataset", "folder", "--data-dir", str(tmp_path / "mine")]
    status, said, _ = call(
        capsys,
        "train",
        *where,
        "--image-size",
        "32",
        "--set",
        "epochs=2",
        "--set",
        "batch_size=8",
        "--stack",
        "CCTT",
    )
    assert status == 0 and "epoch   2/2" in said and "top1" in said
    checkpoint = next((tmp_path / "runs").glob("*/last.pt"))
    status, text, _ = call(capsys, "evaluate", str(checkpoint), *where, "--json")
    measured = json.loads(text)[0]
    record = json.loads(next((tmp_path / "ledger").glob("*.jsonl")).read_text())
    assert (
        measured["top1"] == pytest.approx(record["metrics"]["top1"])
        and measured["finished"]
        and measured["images"] == 12
    )
    assert record["stack"] == "CCTT" and record["options"] == {"stack": "CCTT"}
    status, said, _ = call(capsys, "data", "stats", *where)
    assert status == 0 and "sha256" in said


@pytest.mark.parametrize(
    "words, expected",
    [
        (["train", "--model", "astroformer_9"], "choose one of astroformer_pico"),
        (["train", "--recipe", "fast"], "choose one of smoke"),
        (["train", "--set", "epoch=3"], "its fields are augmentation, autoaugment"),
        (["train", "--dataset", "folder"], "--data-dir"),
        (["train", "--dataset", "folder", "--data-dir", "nowhere"], "no folder nowhere"),
        (["train", "--image-size", "50", "--train-images", "20"], "not a multiple of 16"),
        (
            ["train", "--stack", "CCCX", "--train-images", "20", "--image-size", "32"],
            'stack="CCCX"',
        ),
        (["train", "--model-option", "rel_bias"], "NAME=VALUE"),
        (
            ["train", "--log", "comet", "--train-images", "20"],
            "choose one of csv, tensorboard, wandb",
        ),
        (["evaluate", "no.pt"], "no.pt"),
        (["evaluate"], "--weights FILE"),
        (["evaluate", "--weights", "no.pth"], "--model NAME"),
        (
            ["evaluate", "--weights", "no.pth", "--model", "spectformer_xs", "--image-size", "32"],
            "no.pth",
        ),
        (
            ["evaluate", "--weights", "no.pth", "--model", "spectformer"],
            "choose one of astroformer_pico",
        ),
        (
            ["data", "stats", "--dataset", "imagenet1k", "--data-dir", "nowhere"],
            "does not hold ImageNet's tree",
        ),
        (["data", "unpack", "no.tar", "there"], "no archive no.tar"),
        (["ledger", "--keep", "abc", "name"], "no completed local record"),
        (["models", "--classes", "0"], "at least 1 class"),
        (["cost", "astroformer_0", "--image-size", "3200000"], "out of memory"),
        (["equivariance", "--image-size", "0"], "a size of at least 16"),
        (["equivariance", "--image-size", "32", "--seed", "-1"], "seed -1 is out of range"),
        (["equivariance", "--checkpoint", "none.pt"], "none.pt: no such file"),
    ],
)
def test_bad_input_ends_with_one_line_that_names_the_way_out(
    capsys, own_runs, monkeypatch, words, expected
):
    monkeypatch.chdir(own_runs)
    status, _, complaint = call(capsys, *words)
    assert status == 2 and expected in complaint and len(complaint.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (["train", "--image-size", "-32"], "--image-size -32 is out of range"),
        (["train", "--train-images", "0"], "--train-images 0 is out of range"),
        (["train", "--fraction", "0", "--train-images", "20"], "--fraction 0.0 is outside"),
        (["train", "--seed", "-1"], "--seed -1 is out of range"),
        (["train", "--model", "nobodys"], "--model 'nobodys' is not known"),
        (["cost", "nobodys"], "model 'nobodys' is not known"),  # a word without an option
        (["data", "stats", "--dataset", "galaxies", "--image-size", "0"], "--image-size 0: give"),
        (["cost", "astroformer_pico", "--image-size", "69"], "choose --image-size 64 or 80"),
        (["cost", "astroformer_pico", "--image-size", "7"], "choose --image-size 16"),
        (["cost", "astroformer_0", "--image-size", "0"], "choose --image-size 32"),
        (["cost", "astroformer_0", "--image-size", "-64"], "choose --image-size 32"),
    ],
)
def test_an_error_names_the_option_as_it_is_typed_and_a_value_that_will_do(
    capsys, own_runs, words, said
):
    status, _, complaint = call(capsys, *words)
    assert status == 2 and complaint.startswith("astroformer: ") and said in complaint
    assert complaint.startswith(f"astroformer: {said}") or said.startswith("choose")
    assert len(complaint.splitlines()) == 1


@pytest.mark.parametrize("mass, smoothing", [([], 0.1), (["0.2"], 0.2)])
def test_label_smoothing_without_a_number_is_that_of_vit_cifars_command(
    capsys, own_runs, mass, smoothing
):
    few = ["--train-images", "20", "--image-size", "32", "--set", "epochs=1"]
    words = ["train", "--label-smoothing", *mass, *few, "--set", "batch_size=10"]
    assert call(capsys, *words)[0] == 0
    [file] = (own_runs / "ledger").glob("*.jsonl")
    assert json.loads(file.read_text())["recipe"]["label_smoothing"] == smoothing
    # the command of its README, `python main.py --dataset c10 --label-smoothing --autoaugment`
    asked = cli.parser().parse_args(
        ["train", "--dataset", "c10", "--label-smoothing", "--autoaugment"]
    )
    assert (asked.dataset, asked.label_smoothing, asked.autoaugment) == ("cifar10", 0.1, True)


def test_a_checkpoint_of_other_classes_is_not_evaluated_silently(
    capsys, own_runs, tiny_folder, tmp_path
):
    words = [
        "train",
        "--dataset",
        "folder",
        "--data-dir",
        str(tiny_folder),
        "--image-size",
        "32",
        "--set",
        "epochs=1",
        "--set",
        "batch_size=8",
    ]
    assert call(capsys, *words)[0] == 0
    checkpoint = next((tmp_path / "runs").glob("*/last.pt"))
    write_galaxies(tmp_path / "other", train=2, test=2)
    for split in ("train", "test"):
        (tmp_path / "other" / split / "round").rename(tmp_path / "other" / split / "oval")
    status, _, complaint = call(
        capsys,
        "evaluate",
        str(checkpoint),
        "--dataset",
        "folder",
        "--data-dir",
        str(tmp_path / "other"),
    )
    assert status == 2 and "same classes" in complaint


@pytest.mark.parametrize(
    "text, value",
    [("depth=6", 6), ("drop=0.1", 0.1), ("token_label=true", True), ("stack=CCTT", "CCTT")],
)
def test_an_option_of_a_network_has_the_type_that_it_reads_as(text, value):
    name, parsed = parse_option(text)
    assert (name, parsed) == (text.partition("=")[0], value) and type(parsed) is type(value)


# Errors of others.


def raised(call, *arguments) -> Exception:
    try:
        call(*arguments)
    except Exception as error:  # whatever it is
        return error
    raise AssertionError("nothing was raised")


class Broken(torch.utils.data.Dataset):
    """Images of which each raises the same error."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


def in_a_loader(error):
    return raised(list, DataLoader(Broken(error), num_workers=1))


CUDA_MEMORY = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 15.77 GiB\n"
    "If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF"
)


@pytest.mark.parametrize(
    "error, status, words",
    [
        (lambda: raised(torch.device, "gpu"), 2, ["choose cpu, cuda or cuda:1"]),
        (
            lambda: RuntimeError("Found no NVIDIA driver on your system. Please check"),
            2,
            ["no such CUDA device", "--device cpu"],
        ),
        (
            lambda: RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors"),
            2,
            ["the GPU reports an error (CUDA error: device-side assert triggered)"],
        ),
        (
            lambda: torch.OutOfMemoryError(CUDA_MEMORY),
            2,
            ["out of GPU memory (20.00 GiB more", "--set micro_batch_size=N"],
        ),
        (lambda: raised(torch.empty, 10**15), 2, ["out of memory (4000000000000000 bytes more"]),
        (lambda: raised(np.empty, (10**7, 10**7)), 2, ["out of memory (728. TiB more"]),
        (lambda: raised(np.empty, (10**12, 10**12)), 2, ["out of memory:"]),
        (lambda: MemoryError(), 2, ["out of memory:"]),
        (
            lambda: raised(Mixup(0.8), torch.zeros(3, 3, 4, 4), torch.zeros(3).long()),
            2,
            ["even", "--set batch_size=N"],
        ),
        (lambda: raised(lambda: 1 // 0), 2, ["division or modulo by zero", "data stats"]),
        (
            lambda: raised(torch.nn.BatchNorm2d(3), torch.zeros(1, 3, 1, 1)),
            2,
            ["more than one value a channel"],
        ),
        (lambda: raised(json.loads, "{"), 2, ["a file is truncated", "line 1 column 2"]),
        (lambda: EOFError(), 2, ["a file is truncated", "EOFError"]),
        (lambda: raised(__import__, "wandbx"), 2, ["the package wandbx is not installed"]),
        (lambda: in_a_loader(ValueError("no image x.jpg")), 2, ["no image x.jpg"]),
        (lambda: in_a_loader(MemoryError()), 2, ["out of memory"]),
        (lambda: ValueError("two\n  lines"), 2, ["two lines"]),
        (
            lambda: FileNotFoundError(errno.ENOENT, "No such file", "a.pt"),
            2,
            ["a.pt: no such file"],
        ),
        (lambda: OSError(errno.ENOSPC, "No space left"), 2, ["no space left; ASTROFORMER_RUNS"]),
        (
            lambda: PermissionError(errno.EACCES, "Denied", str(paths.runs() / "last.pt")),
            2,
            ["last.pt: denied; ASTROFORMER_RUNS names another folder"],
        ),
        (lambda: in_a_loader(KeyError("color")), 1, ["internal error: KeyError: 'color'"]),
        (lambda: KeyError("no such row"), 1, ["internal error: KeyError: no such row;"]),
        (
            lambda: AttributeError("'list' has no get"),
            1,
            ["internal error: AttributeError: 'list'"],
        ),
        (lambda: RuntimeError("\x1b[1mbold\x1b[0m\nmore"), 1, ["RuntimeError: bold;"]),
        (lambda: AssertionError(), 1, ["internal error: AssertionError:"]),
    ],
)
def test_an_error_of_another_library_is_one_line_with_its_cause_and_a_way_out(error, status, words):
    said, found = complaint(error())
    assert found == status and len(said.splitlines()) == 1 and "\x1b" not in said
    assert all(word in said for word in words), said
    assert ("ASTROFORMER_TRACEBACK=1" in said) or status == 2


def a_verb_that_raises(error):
    def call(options):
        raise error

    parser = argparse.ArgumentParser()
    parser.set_defaults(call=call)
    return lambda: parser


def test_no_traceback_reaches_the_user_unless_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(cli, "parser", a_verb_that_raises(AttributeError("no get")))
    monkeypatch.delenv("ASTROFORMER_TRACEBACK", raising=False)
    status, _, said = call(capsys)
    assert status == 1 and said == (
        "astroformer: internal error: AttributeError: no get; ASTROFORMER_TRACEBACK=1 shows where\n"
    )
    monkeypatch.setenv("ASTROFORMER_TRACEBACK", "1")
    with pytest.raises(AttributeError):
        cli.main([])


def test_an_interrupt_ends_without_a_word(capsys, monkeypatch):
    monkeypatch.setattr(cli, "parser", a_verb_that_raises(KeyboardInterrupt()))
    assert call(capsys) == (130, "", "")


@pytest.mark.parametrize("words, status", [(["claims"], [141]), (["train", "--help"], [0, 141])])
def test_a_reader_that_has_gone_ends_the_command_quietly(words, status):
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "astroformer", *words], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert ended.returncode in status and ended.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a disk that is full")
def test_a_table_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "astroformer", "claims"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1
    assert "no space left on device" in ended.stderr


NOBODY = """
import os, pwd, sys, tempfile
def getpwuid(number):
    raise KeyError(number)
pwd.getpwuid = getpwuid  # as in a container that runs under a number without a name
from astroformer import cli, paths
import astropy
status = cli.main(["data", "list"])
assert paths.cache().is_relative_to(tempfile.gettempdir()), paths.cache()
home = os.environ["HOME"]
print(home, oct(os.stat(home).st_mode & 0o777), file=sys.stderr)
sys.exit(status)
"""


def without_a_home(temporary):
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "XDG_CACHE_HOME", "ASTROFORMER_CACHE")
    }
    return subprocess.run(
        [sys.executable, "-c", NOBODY],
        env=kept | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
    )


def test_a_user_without_a_name_and_a_home_gets_a_private_one(tmp_path):
    first = without_a_home(tmp_path)
    assert first.returncode == 0 and "galaxies" in first.stdout, first.stderr
    assert first.stderr.split() == [str(tmp_path / f"astroformer-{os.getuid()}"), "0o700"]
    assert without_a_home(tmp_path).stderr == first.stderr  # the caches are found again


def test_a_folder_that_others_may_enter_becomes_nobodys_home(tmp_path):
    taken = tmp_path / f"astroformer-{os.getuid()}"
    taken.mkdir()
    taken.chmod(0o777)
    ended = without_a_home(tmp_path)
    home, mode = ended.stderr.split()
    assert ended.returncode == 0 and home != str(taken) and mode == "0o700"


@pytest.mark.parametrize(
    "text", ["gpu", "nonsense", "cuda:x", "cuda:-1", "CUDA", "", "cuda:", "mps"]
)
def test_a_device_that_torch_may_not_know_is_refused_with_a_list(text):
    with pytest.raises(ValueError, match="choose cpu, cuda .* or cuda:1"):
        device_of(text)


def test_the_device_is_a_gpu_only_where_one_is(monkeypatch):
    def with_gpus(number):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)

    with_gpus(0)
    assert device_of(None) == device_of("cpu") == torch.device("cpu")
    for text in ("cuda", "cuda:0"):
        with pytest.raises(ValueError, match="no CUDA device.*--device cpu"):
            device_of(text)
    with_gpus(2)
    assert device_of(None) == device_of("cuda") == torch.device("cuda")
    assert device_of("cuda:1") == torch.device("cuda:1") and device_of("cpu").type == "cpu"
    with pytest.raises(ValueError, match="2 CUDA devices; choose one of cuda:0, cuda:1$"):
        device_of("cuda:7")


def test_the_version_is_that_of_the_library(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and said == f"astroformer {version.__version__}\n"
