"""The verb `reproduce`: execute every page that is out of date, then build the book."""

import sys
import time
from collections.abc import Iterable, Iterator

from .build import build, up_to_date
from .execute import Failure, execute
from .freshness import State, inputs, reason
from .pages import BookError, Layout, Page, read_book, read_profile
from .stage import stage

REFUSED = 2          # exit status: the request or the sources are wrong, nothing was executed
INTERRUPTED = 130    # exit status of a command stopped by Ctrl-C


def plan(profile: str = "smoke", layout: Layout | None = None) -> Iterator[tuple[Page, dict[str, object]]]:
    """The pages to execute and what is injected into each, in the order of execution: what trains comes before what reads."""
    layout = layout or Layout()
    pages = read_book(layout)
    injected = read_profile(layout, pages, profile)
    for page in sorted((page for page in pages if page.executable), key=lambda page: not page.trains):
        yield page, injected[page.name]


def reproduce(profile: str = "smoke", *, only: Iterable[str] = (), force: bool = False, layout: Layout | None = None) -> int:
    """Execute and build; returns the exit status: 0 done, 1 a page or the build failed, 2 refused, 130 interrupted."""
    layout = layout or Layout()
    try:
        planned = list(plan(profile, layout))
        chosen = _choose(planned, set(only))
        if profile != "smoke" and not cuda_available():
            print_plan(profile, chosen)
            raise BookError(f"profile {profile} needs a CUDA device and torch sees none; use PROFILE=smoke on this machine, "
                            f"or run the same command where a GPU is at hand")
    except BookError as error:
        print(error, file=sys.stderr)
        return REFUSED
    if profile != "smoke":
        print_plan(profile, chosen)
    try:
        failures = execute_pages(layout, profile, chosen, force)
        return _build_book(layout, profile, planned, failures)
    except KeyboardInterrupt:
        print("\nInterrupted. The pages already executed are kept; the same command goes on from here.", file=sys.stderr)
        return INTERRUPTED


def _choose(planned: list[tuple[Page, dict]], only: set[str]) -> list[tuple[Page, dict]]:
    names = [page.name for page, _ in planned]
    for name in only.difference(names):
        raise BookError(f"no page named {name} to execute; the pages are {', '.join(names) or 'none'}")
    return [(page, parameters) for page, parameters in planned if not only or page.name in only]


def cuda_available() -> bool:
    import torch                     # slow to import, and only two of three profiles ask
    return torch.cuda.is_available()


def print_plan(profile: str, chosen: list[tuple[Page, dict]]) -> None:
    """What will be executed, and what training will cost."""
    from .estimate import training_cost      # imports torch, and `smoke` does without
    print(f"Profile {profile} executes:")
    for page, parameters in chosen:
        print(f"  {page.name}: " + (", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "as it stands"))
        if page.trains:
            print(f"    {training_cost(page.defaults | parameters)}")


def execute_pages(layout: Layout, profile: str, chosen: list[tuple[Page, dict]], force: bool) -> dict[str, Failure]:
    """Execute what is out of date, page by page; returns the failures by page name."""
    state, failures = State(layout.state(profile)), {}
    for number, (page, parameters) in enumerate(chosen, start=1):
        copy = layout.executed(profile) / page.source.name
        now = inputs(layout, page, parameters)       # taken here: an earlier page may have added to the ledger
        why = "forced" if force else reason(state.pages.get(page.name), now, copy)
        label = f"[{number}/{len(chosen)}] {page.name}:"
        if why is None:
            print(f"{label} up to date")
            continue
        print(f"{label} executing ({why})", flush=True)
        failure, seconds = execute(layout, page, parameters, copy)
        state.record(page.name, {"status": "failed" if failure else "completed", "seconds": round(seconds, 1), "inputs": now,
                                 "failure": vars(failure) if failure else None})
        print(f"      {'failed' if failure else 'done'} in {seconds:.1f} s", flush=True)
        if failure:
            failures[page.name] = failure
    return failures


def _build_book(layout: Layout, profile: str, planned: list[tuple[Page, dict]], failures: dict[str, Failure]) -> int:
    """Stage, build where needed, and say how it ended."""
    state = State(layout.state(profile)).pages
    # A page that failed earlier and was not chosen this time still shows its error.
    shown = {name: Failure(**entry["failure"]) for name, entry in state.items() if entry["failure"]} | failures
    stage(layout, [page for page, _ in planned], profile, {page.name: parameters for page, parameters in planned}, shown)
    if up_to_date(layout):
        print("[book] up to date")
        published = True
    else:
        print("[book] building the HTML", flush=True)
        started = time.perf_counter()
        complete = not shown and all((layout.executed(profile) / page.source.name).is_file() for page, _ in planned)
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
        kept = f"the older book in {index} was left as it is" if (layout.html / "index.html").is_file() else "there is no book yet"
        print(f"\nThe HTML was not built ({kept}): correct what is named above and run the same command again.")
        return 1
    if failures:
        print(f"\nThe book was built all the same ({index}); there, each page named above shows its error.")
        return 1
    print(f"The book lies in {index}; open it in a browser or run `make serve`.")
    return 0
