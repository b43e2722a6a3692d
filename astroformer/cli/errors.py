"""What an exception means to whoever typed the command: one line and an exit status.

Errors of the project say themselves what is wrong and what to do. Errors of torch, timm, numpy and
the system are put into such words here, as far as a user can cause them. All others are mistakes of
the project and are called an internal error.

Reads top to bottom: the answer, known errors of others, files, the words of an exception.
"""

import errno
import json
import lzma
import pickle
import re
import struct
import tarfile
import zipfile
import zlib

from astroformer import paths
from astroformer.machine import amount_asked_for, is_out_of_memory

FAILED, REFUSED = 1, 2  # exit status: the work failed; what was asked for cannot be done
WHERE = "ASTROFORMER_TRACEBACK=1 shows where"

# Raised of a file that is cut, or of another kind than its name says.
UNREADABLE = (
    json.JSONDecodeError,
    UnicodeDecodeError,
    EOFError,
    pickle.UnpicklingError,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    struct.error,
)

# Which exception, what is found in its message, what is said; {message} is the exception's own.
TORCH = (RuntimeError, AssertionError)
KNOWN = (
    (
        TORCH,
        "NVIDIA driver|not compiled with CUDA|No CUDA GPUs|invalid device ordinal",
        "this machine has no such CUDA device ({message}); give --device cpu",
    ),
    (
        TORCH,
        "[Dd]evice string|not compiled with [A-Z]+ enabled",
        "this is no device to compute on ({message}); choose cpu, cuda or cuda:1",
    ),
    (
        TORCH,
        "CUDA error|CUDNN_STATUS|CUBLAS_STATUS|cuDNN error",
        "the GPU reports an error ({message}); try again, or give --device cpu",
    ),
    (
        TORCH,
        "NCCL|gloo|TCPStore|EADDRINUSE|[Ss]ocket|Connection (closed|reset)",
        "the processes of torchrun do not reach one another ({message}); the same command goes on "
        "from the last checkpoint",
    ),
    (
        TORCH,
        "DataLoader worker.* (exited unexpectedly|is killed)",
        "the system ended a process that prepares images ({message}); memory may be short: give "
        "fewer --workers, or --workers 0",
    ),
    (
        TORCH,
        "inline_container|PytorchStreamWriter",
        "a file could not be written in full ({message}); is the disk full? ASTROFORMER_RUNS "
        "names another folder",
    ),
    (
        TORCH,
        "PytorchStreamReader|corrupt file",
        f"a file of weights is truncated or of another kind ({{message}}); {WHERE}",
    ),
    (
        TORCH,
        "Batch size should be even",
        "Mixup and CutMix pair the images of a batch, so the batch must be even; choose such a "
        "--set batch_size=N, and micro_batch_size too",
    ),
    (
        TORCH,
        "doesn't match model|Kernel size can't be greater than actual input size",
        "the images do not fit the network ({message}); choose another --image-size",
    ),
    (
        ValueError,
        "^Expected more than 1 value per channel",
        "batch normalisation needs more than one value a channel ({message}); choose a larger "
        "--set batch_size=N or --image-size",
    ),
    (
        UnicodeEncodeError,
        "",
        "the terminal cannot show a sign ({message}); set PYTHONIOENCODING=utf-8",
    ),
    (
        ZeroDivisionError,
        "",
        "a number to divide by is zero ({message}): is a class or a split empty? "
        f"`astroformer data stats` counts its images; {WHERE}",
    ),
    (OverflowError, "", "a number is too large ({message})"),
    (
        UNREADABLE,
        "",
        f"a file is truncated or of another kind than expected ({{message}}); {WHERE}",
    ),
)


def complaint(error: BaseException, usage: str = "") -> tuple[str, int]:
    """One line that says what is wrong and what to do, and the exit status.

    usage: of the verb, whose options are named as they are typed
    """
    message = in_one_line(error)
    if is_out_of_memory(error):
        return _too_large(error, message), REFUSED
    for kind, found, words in KNOWN:
        if isinstance(error, kind) and re.search(found, message):
            return words.format(message=message or type(error).__name__), REFUSED
    if isinstance(error, OSError):
        return _of_the_system(error), REFUSED
    if isinstance(error, ModuleNotFoundError) and not _is_ours(error.name):
        return (
            f"the package {error.name} is not installed; `make install` installs all that the book "
            f"needs, `pip install {error.name}` this one",
            REFUSED,
        )
    if isinstance(error, ValueError) and message:
        return _as_typed(message, usage), REFUSED
    return f"internal error: {_shortened(f'{type(error).__name__}: {message}')}; {WHERE}", FAILED


def _too_large(error: BaseException, message: str) -> str:
    on_gpu = type(error).__name__ == "OutOfMemoryError" or re.search("CUDA|CUBLAS", message)
    kind, asked = "GPU memory" if on_gpu else "memory", amount_asked_for(error)
    return (
        f"out of {kind}{f' ({asked} more were asked for)' if asked else ''}: choose a smaller "
        "--image-size or, in training, --grad-checkpointing, a lower --set micro_batch_size=N (the "
        "batch is then computed in parts) or batch_size=N"
    )


# What a network says of images that do not go into its strides.
STRIDES = re.compile(
    r"img_size (-?\d+)x(-?\d+) is not a multiple of (\d+)(.*?)(; resize or pad the images)?"
)


def _as_typed(message: str, usage: str) -> str:
    """The message with the option in place of the library's name for it: image_size is typed as
    --image-size; and with sizes of images that a network takes.
    """
    name = re.match(r"[a-z]+(_[a-z]+)*(?= )", message)
    if name and re.search(rf"--{name[0].replace('_', '-')}\b(?!-)", usage):
        message = f"--{name[0].replace('_', '-')}{message[name.end() :]}"
    found = STRIDES.fullmatch(message)
    if found is None or "--image-size" not in usage:
        return message
    step = int(found[3])
    below = int(found[1]) // step * step
    sizes = " or ".join(str(size) for size in (below, below + step) if size > 0) or str(step)
    return f"img_size {found[1]}x{found[2]} is not a multiple of {step}{found[4]}; choose " + (
        f"--image-size {sizes}"
    )


def _is_ours(module: str | None) -> bool:
    return module is None or module.partition(".")[0] == "astroformer"


# Files.

NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
PLACES = {
    "ASTROFORMER_RUNS": paths.runs,
    "ASTROFORMER_LOCAL_LEDGER": paths.local_ledger,
    "ASTROFORMER_CACHE": paths.cache,
    "ASTROFORMER_DATA": paths.data,
}


def _of_the_system(error: OSError) -> str:
    """The file first, then the system's words; the variable that moves it, where there is one."""
    if error.strerror is None:
        return in_one_line(error) or type(error).__name__
    said = f"{error.strerror[:1].lower()}{error.strerror[1:]}"
    if error.filename is not None:
        said = f"{error.filename}: {said}"
    if error.errno not in NO_PLACE:
        return said
    below = [
        variable
        for variable, place in PLACES.items()
        if error.filename is not None and str(error.filename).startswith(str(place()))
    ]
    if below:
        return f"{said}; {below[0]} names another folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{said}; {', '.join(PLACES)} name folders on another disk"
    return said


# The words of an exception.

ESCAPES = re.compile(r"(?:\x1b|ESC)\[[0-9;]*m")  # of a terminal's colours
TRACEBACK = "Traceback (most recent call last):\n"
LONGEST = 300  # characters of an internal error


def in_one_line(error: BaseException) -> str:
    """The message without line breaks and colours. Of torch's long explanations the first line
    remains, and of an error in a loader's process what was raised there.
    """
    # the text of a KeyError is its key in quotes
    key = isinstance(error, KeyError) and len(error.args) == 1
    text = ESCAPES.sub("", str(error.args[0]) if key else str(error))
    if text.startswith("Caught ") and TRACEBACK in text:
        text = _raised_elsewhere(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not isinstance(error, (ValueError, OSError)) and lines:
        lines = lines[:2] if lines[0].endswith(":") else lines[:1]
    return " ".join(lines)


def _raised_elsewhere(text: str) -> str:
    """The message that follows the last traceback in a text: the first line that is not indented
    is "Type: message".
    """
    lines = text.rpartition(TRACEBACK)[2].splitlines()
    first = next((i for i, line in enumerate(lines) if line[:1].strip()), 0)
    kind, _, message = "\n".join(lines[first:]).partition(": ")
    return message or kind


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
