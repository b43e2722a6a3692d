"""One page through papermill: parameters in, executed copy out, the page's own lines on the
terminal as they come.
"""

import logging
import os
import re
import sys
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nbformat
import psutil
from nbformat import NotebookNode

from .pages import Layout, Page

# What the kernels get besides the caller's environment.
KERNEL_ENVIRONMENT = {
    # the kernel named python3 is the one of this virtual environment
    "JUPYTER_PREFER_ENV_PATH": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the debugger's remark on frozen modules
    # Importing torch and fvcore prints several of the first kind; the second is tqdm's, missing a
    # widget that no page wants.
    "PYTHONWARNINGS": "ignore::FutureWarning,ignore:IProgress not found",
    "PYTHONHASHSEED": "0",  # sets are listed in the same order in every build
}


@dataclass(frozen=True)
class Failure:
    """Where a page stopped and why."""

    cell: str  # "cell In [3]"
    source: str  # the first lines of that cell
    error: str  # "ValueError: no such data set"


class Indented:
    """A stream that papermill writes a page's output to: whole lines, indented below the page's
    own line.
    """

    def __init__(self, stream, indent: str = "      "):
        self.stream, self.indent, self.rest = stream, indent, ""

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            # A progress bar rewrites its line; only what it last said is worth a line in a log.
            self.stream.write(
                f"{self.indent}{line.rstrip().rsplit(chr(13), 1)[-1]}".rstrip() + "\n"
            )
        self.stream.flush()

    def flush(self) -> None:
        self.stream.flush()

    def close(self) -> None:
        if self.rest:
            self.write("\n")


@contextmanager
def kernel_environment(layout: Layout, threads: int | None = None):
    """Papermill starts kernels with this process's environment, so it is changed for the while and
    put back.

    threads: of each kernel's arithmetic, unless the caller's environment says; None leaves it to
        torch, which takes every core
    """
    before = dict(os.environ)
    # the book's own profile: no start-up files of the user, no remarks on shutdown
    ipython = layout.build / "ipython"
    (ipython / "profile_default").mkdir(parents=True, exist_ok=True)
    (ipython / "profile_default" / "ipython_kernel_config.py").write_text(
        "c.IPKernelApp.log_level = 50\n"
    )
    os.environ.update(KERNEL_ENVIRONMENT, IPYTHONDIR=str(ipython))
    # where a kernel says how it is reached: a home may be one that cannot be written
    os.environ["JUPYTER_RUNTIME_DIR"] = str(layout.build / "jupyter")
    if threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# set when the user interrupts: what a page has come to then must not replace a complete copy
stopping = threading.Event()


def stop_kernels() -> None:
    """Ends the kernels that this process started, so that the threads waiting for them end."""
    stopping.set()
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it may have ended by itself
            if any("ipykernel" in word for word in child.cmdline()):
                child.terminate()


def execute(
    layout: Layout, page: Page, parameters: dict[str, object], copy: Path
) -> tuple[Failure | None, float]:
    """Execute a page in its own folder and keep the executed copy, failed or not. Returns the
    failure and the seconds.

    To be called within `kernel_environment`. Lines that the page prints bear its name, as another
    may be executed beside it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import papermill  # two seconds: not for the verbs that execute nothing

    copy.parent.mkdir(parents=True, exist_ok=True)
    # an interrupted execution must not replace a complete copy
    running = copy.with_suffix(".running.ipynb")
    stream, started, failure = (
        Indented(sys.stdout, f"      {page.name}: "),
        time.perf_counter(),
        None,
    )
    try:
        # failures are reported below, once
        logging.getLogger("papermill").setLevel(logging.CRITICAL)
        papermill.execute_notebook(
            page.source,
            running,
            parameters=parameters,
            kernel_name="python3",
            language="python",
            cwd=page.source.parent,
            progress_bar=False,
            stdout_file=stream,
        )
    except papermill.PapermillExecutionError as error:
        failure = Failure(
            f"cell In [{error.exec_count}]",
            _first_lines(error.source),
            _one_line(f"{error.ename}: {error.evalue}"),
        )
    except Exception as error:  # a dead kernel, a full disk: the other pages must still be executed
        failure = _interrupted_cell(running, _one_line(f"{type(error).__name__}: {error}"))
    finally:
        stream.close()
    if running.is_file() and not stopping.is_set():
        os.replace(running, copy)
    return failure or _gate(copy), time.perf_counter() - started


def read_cells(copy: Path) -> NotebookNode:
    """A notebook as nbformat has it, with `.cells`."""
    return cast("NotebookNode", nbformat.read(copy, as_version=4))


def _interrupted_cell(copy: Path, error: str) -> Failure:
    """The cell that papermill was in when the kernel died; papermill saves the copy before each
    cell.
    """
    cells = read_cells(copy).cells if copy.is_file() else []
    code = [cell for cell in cells if cell.cell_type == "code"]
    started = [
        number
        for number, cell in enumerate(code)
        if cell.metadata.get("papermill", {}).get("start_time")
    ]
    if not started:
        return Failure("before its first cell", "", error)
    return Failure(f"cell In [{started[-1] + 1}]", _first_lines(code[started[-1]].source), error)


def _gate(copy: Path) -> Failure | None:
    """Sphinx publishes a cell that was never executed without a word: such a copy counts as
    failed.
    """
    code = [
        cell for cell in read_cells(copy).cells if cell.cell_type == "code" and cell.source.strip()
    ]
    for number, cell in enumerate(code, start=1):
        if cell.execution_count is None:
            return Failure(
                f"cell In [{number}]", _first_lines(cell.source), "the cell was not executed"
            )
        for output in cell.outputs:
            if output.output_type == "error":
                return Failure(
                    f"cell In [{number}]",
                    _first_lines(cell.source),
                    _one_line(f"{output.ename}: {output.evalue}"),
                )
    return None


def _first_lines(source: str, count: int = 2) -> str:
    lines = [line for line in source.splitlines() if line.strip()]
    return "\n".join(lines[:count] + (["..."] if len(lines) > count else []))


def _one_line(text: str) -> str:
    """An error's first line, without the colours that IPython gives it."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).strip().splitlines()
    return lines[0].rstrip(": ") if lines else text
