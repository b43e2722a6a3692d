"""The verb `reproduce`: execute every page that is out of date, then build the book."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from .build import build, up_to_date
from .execute import Failure, execute, kernel_environment, stop_kernels, stopping
from .freshness import State, inputs, reason
from .pages import MAKE, BookError, Layout, Page, read_book, read_profile
from .stage import stage

REFUSED = 2  # exit status: the request or the sources are wrong, nothing was executed
INTERRUPTED = 130  # exit status of a command stopped by Ctrl-C
MOST_LANES = 4  # pages executed side by side; each takes about a gigabyte of memory


def plan(
    profile: str = "smoke", layout: Layout | None = None
) -> Iterator[tuple[Page, dict[str, object]]]:
    """The pages to execute and what is injected into each, in the order of execution: what
    trains comes before what reads.
    """
    layout = layout or Layout()
    pages = read_book(layout)
    injected = read_profile(layout, pages, profile)
    told = [page.told(injected[page.name]) for page in pages if page.executable]
    for page in sorted(told, key=lambda page: not page.trains):
        yield page, injected[page.name]


def reproduce(
    profile: str = "smoke",
    *,
    only: Iterable[str] = (),
    force: bool = False,
    yes: bool = False,
    layout: Layout | None = None,
) -> int:
    """Execute and build; returns the exit status: 0 done, 1 a page or the build failed, 2
    refused, 130 interrupted.

    yes: that the price of the profile `paper`, which is said first, was read
    """
    layout = layout or Layout()
    try:
        planned = list(plan(profile, layout))
        chosen = _choose(planned, set(only))
        if profile != "smoke":
            print_plan(profile, chosen)
            if profile == "paper" and not yes:
                raise BookError(
                    "the profile paper trains for days or weeks, as said above: add --yes (make "
                    "book PROFILE=paper YES=1) to begin; the same command goes on where it was "
                    "stopped, and `astroformer plan --profile paper` says it for a cluster"
                )
            if not cuda_available():
                raise BookError(
                    f"profile {profile} needs a CUDA device and torch sees none; use "
                    "PROFILE=smoke on this machine, "
                    f"or run the same command where a GPU is at hand"
                )
            check_memory(chosen)
    except BookError as error:
        print(error, file=sys.stderr)
        return REFUSED
    try:
        failures = execute_pages(layout, profile, chosen, force)
        return _build_book(layout, profile, planned, failures)
    except KeyboardInterrupt:
        print(
            "\nInterrupted. The pages already executed are kept; the same command goes on from "
            "here.",
            file=sys.stderr,
        )
        return INTERRUPTED


def _choose(planned: list[tuple[Page, dict]], only: set[str]) -> list[tuple[Page, dict]]:
    names = [page.name for page, _ in planned]
    for name in only.difference(names, (page.source.stem for page, _ in planned)):
        raise BookError(
            f"no page named {name} to execute; the pages are {', '.join(names) or 'none'}"
        )
    return [
        (page, parameters)
        for page, parameters in planned
        if not only or {page.name, page.source.stem} & only
    ]


def cuda_available() -> bool:
    import torch  # slow to import, and only two of three profiles ask

    return torch.cuda.is_available()


def print_plan(profile: str, chosen: list[tuple[Page, dict]]) -> None:
    """What will be executed, and what training will cost."""
    from .estimate import cost  # imports torch, and `smoke` does without

    print(f"Profile {profile} executes:")
    for page, parameters in chosen:
        print(
            f"  {page.name}: "
            + (
                ", ".join(f"{name}={value!r}" for name, value in parameters.items())
                or "as it stands"
            )
        )
        if page.trains:
            print(f"    {cost(page, parameters)}")


def check_memory(chosen: list[tuple[Page, dict]]) -> None:
    """BookError, in a line for each, for pages whose run cannot fit the GPU at hand: before any
    page is executed.
    """
    import torch

    from .estimate import refused

    device = torch.device("cuda")
    lines = [
        f"{page.name}: {why}"
        for page, parameters in chosen
        if page.trains and (why := refused(page.defaults | parameters, device))
    ]
    if lines:
        raise BookError(*lines)


def execute_pages(
    layout: Layout, profile: str, chosen: list[tuple[Page, dict]], force: bool
) -> dict[str, Failure]:
    """Execute what is out of date; returns the failures by page name.

    Pages that train come first, one after another: the others read what they add to the ledger.
    Those are executed side by side on a machine without a GPU, with a share of the cores each: most
    of a page's time is one thread's work.
    """
    work = Work(layout, State(layout.state(profile)), profile, chosen, force)
    training = [number for number, (page, _) in enumerate(chosen) if page.trains]
    others = [number for number in range(len(chosen)) if number not in training]
    lanes = 1 if profile != "smoke" else max(1, min(MOST_LANES, os.cpu_count() or 1))
    stopping.clear()
    with kernel_environment(layout):
        for number in training:
            work.page(number)
    with (
        kernel_environment(layout, max(1, (os.cpu_count() or 1) // lanes)),
        ThreadPoolExecutor(lanes) as pool,
    ):
        pages = [pool.submit(work.page, number) for number in others]
        try:
            pending = pages
            while pending:  # with a time limit, so that a signal is heard
                done, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
                for page in done:
                    page.result()
        except BaseException:  # Ctrl-C here, or an error of our own in a thread
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(page.done() for page in pages):  # a kernel may just be starting
                stop_kernels()
                time.sleep(0.2)
            raise
    return work.failures


class Work:
    """The pages of one build. `page` may be called by several threads at once."""

    def __init__(
        self,
        layout: Layout,
        state: State,
        profile: str,
        chosen: list[tuple[Page, dict]],
        force: bool,
    ):
        self.layout, self.state, self.profile, self.chosen, self.force = (
            layout,
            state,
            profile,
            chosen,
            force,
        )
        self.failures: dict[str, Failure] = {}
        self.lock = threading.Lock()  # of the state's file and of the lines on the terminal

    def page(self, number: int) -> None:
        """Executes one of the chosen pages if it is out of date, and notes how it ended."""
        page, parameters = self.chosen[number]
        copy = self.layout.executed(self.profile) / page.copy
        # taken here: an earlier page may have added to the ledger
        now = inputs(self.layout, page, parameters)
        why = "forced" if self.force else reason(self.state.pages.get(page.name), now, copy)
        if why is None and parameters.get(MAKE):
            from .estimate import lacking  # imports torch

            why = lacking(page, parameters)
        label = f"[{number + 1}/{len(self.chosen)}] {page.name}:"
        with self.lock:
            print(
                f"{label} up to date" if why is None else f"{label} executing ({why})", flush=True
            )
        if why is None:
            return
        failure, seconds = execute(self.layout, page, parameters, copy)
        if stopping.is_set():
            return
        with self.lock:
            self.state.record(page.name, entry_of(failure, seconds, now))
            print(
                f"      {page.name} {'failed' if failure else 'done'} in {seconds:.1f} s",
                flush=True,
            )
            if failure:
                self.failures[page.name] = failure


def entry_of(failure: Failure | None, seconds: float, inputs: dict) -> dict:
    """What is remembered of an execution."""
    return {
        "status": "failed" if failure else "completed",
        "seconds": round(seconds, 1),
        "inputs": inputs,
        "failure": vars(failure) if failure else None,
    }


def noted(
    layout: Layout, profile: str, page: Page, parameters: dict[str, object]
) -> Callable[[Failure | None, float], None]:
    """To be called before a page is executed; what it gives is called with how it ended, so that
    `reproduce` knows of the execution.
    """
    now = inputs(layout, page, parameters)

    def note(failure: Failure | None, seconds: float) -> None:
        State(layout.state(profile)).record(page.name, entry_of(failure, seconds, now))

    return note


def build_only(profile: str, *, layout: Layout | None = None) -> int:
    """Builds the book from the copies that were executed under a profile, whatever has changed
    since; returns the exit status.
    """
    layout = layout or Layout()
    planned = list(plan(profile, layout))
    return _build_book(layout, profile, planned, {})


def _build_book(
    layout: Layout, profile: str, planned: list[tuple[Page, dict]], failures: dict[str, Failure]
) -> int:
    """Stage, build where needed, and say how it ended."""
    state = State(layout.state(profile)).pages
    # A page that failed earlier and was not chosen this time still shows its error.
    shown = {
        name: Failure(**entry["failure"]) for name, entry in state.items() if entry["failure"]
    } | failures
    stage(
        layout,
        [page for page, _ in planned],
        profile,
        {page.name: parameters for page, parameters in planned},
        shown,
    )
    if up_to_date(layout):
        print("[book] up to date")
        published = True
    else:
        print("[book] building the HTML", flush=True)
        started = time.perf_counter()
        complete = not shown and all(
            (layout.executed(profile) / page.copy).is_file() for page, _ in planned
        )
        published = build(layout, strict=complete)
        print(f"      {'done' if published else 'failed'} in {time.perf_counter() - started:.1f} s")
    return _conclude(layout, profile, failures, published)


def _conclude(layout: Layout, profile: str, failures: dict[str, Failure], published: bool) -> int:
    """The last lines: what failed and where to look, or where the book lies."""
    index = layout.show(layout.html / "index.html")
    for name, failure in failures.items():
        print(f"\n{name} failed at {failure.cell}:")
        for line in failure.source.splitlines():
            print(f"      {line}")
        print(f"  {failure.error}")
        print(f"  its executed copy: {layout.show(layout.executed(profile) / f'{name}.ipynb')}")
    if not published:
        kept = (
            f"the older book in {index} was left as it is"
            if (layout.html / "index.html").is_file()
            else "there is no book yet"
        )
        print(
            f"\nThe HTML was not built ({kept}): correct what is named above and run the same "
            "command again."
        )
        return 1
    if failures:
        print(
            f"\nThe book was built all the same ({index}); there, each page named above shows "
            "its error."
        )
        return 1
    print(f"The book lies in {index}; open it in a browser or run `make serve`.")
    return 0
