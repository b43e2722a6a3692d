"""What the rules of `workflow/Snakefile` call: python -m astroformer.batch ACTION ...

plan FOLDER WAVE    the jobs of a wave
data NAME FILE      bring a data set, and write FILE
run FOLDER NAME     one job, on its node
ranks FILE          one of the processes that torchrun starts for a job
page FOLDER NAME    one page of the book
book FOLDER         build the book from the pages
summary FOLDER      which jobs and pages failed, and where
"""

import argparse
import sys
from pathlib import Path

from astroformer.batch.ending import stay, told_to_end
from astroformer.batch.layout import Batch


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m astroformer.batch", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    plan = actions.add_parser("plan")
    plan.add_argument("folder", type=Path)
    plan.add_argument("wave", type=int)
    add_arguments(plan)
    data = actions.add_parser("data")
    data.add_argument("name")
    data.add_argument("file", type=Path)
    for action in ("run", "page"):
        one = actions.add_parser(action)
        one.add_argument("folder", type=Path)
        one.add_argument("name")
    one.add_argument("--profile", default="smoke")
    one.add_argument("--study-profile", default="")
    ranks = actions.add_parser("ranks")
    ranks.add_argument("file", type=Path)
    for action in ("book", "summary"):
        one = actions.add_parser(action)
        one.add_argument("folder", type=Path)
        one.add_argument("--profile", default="smoke")
    options = parser.parse_args(words)
    try:
        return ACTIONS[options.action](options)
    except (OSError, ValueError) as error:
        print(f"astroformer.batch {options.action}: {error}", file=sys.stderr)
        return 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of a plan, here and of the verb `plan`."""
    parser.add_argument("--profile", default="smoke", choices=("smoke", "gpu", "paper"))
    parser.add_argument(
        "--study",
        action="append",
        default=[],
        metavar="NAME",
        help="a study, `results`, one of its pages, `scaling`, or a file of runs (.yml); may be "
        "repeated, or list several with commas",
    )
    parser.add_argument("--study-profile", default="", help="of designs: cpu, gpu or cluster")
    parser.add_argument("--models", default="", help="only runs of these networks, with commas")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cpu under smoke")
    parser.add_argument("--card", default="", help="such as 'H100 SXM' (default) or 'A100 SXM 40'")
    parser.add_argument("--bundle", type=float, default=30.0, help="minutes that a job should last")
    parser.add_argument(
        "--longest", type=float, default=24.0, help="hours of a run from which on it gets more GPUs"
    )
    parser.add_argument("--gpus", type=int, default=0, help="of every job; 0: by the estimate")
    parser.add_argument("--most-gpus", type=int, default=8, help="of a node")
    parser.add_argument("--cpus", type=int, default=0, help="for each GPU, or of a job without one")
    parser.add_argument("--mix-devices", action="store_true", help="within a comparison")


def _plan(options) -> int:
    from astroformer.batch.jobs import write_plan
    from astroformer.batch.plan import asked_of, estimator_of, options_of

    told = write_plan(
        Batch(options.folder),
        options.wave,
        asked_of(options),
        estimator_of(options),
        options_of(options),
    )
    later = f", {told['unnamed']} more follow from their outcome" if told["unnamed"] else ""
    print(
        f"wave {options.wave}: {told['asked']} runs are asked for, {told['in_ledger']} are in the "
        f"ledger, {len(told['jobs'])} jobs{later}",
        flush=True,
    )
    return 0


def _data(options) -> int:
    from astroformer.batch.data import bring

    bring(options.name)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.write_text(f"{options.name}\n")
    return 0


def _run(options) -> int:
    with told_to_end() as ending:
        from astroformer.batch import node

        return node.run(Batch(options.folder.resolve()), options.name, ending)


def _ranks(options) -> int:
    from astroformer.batch import node

    return node.ranks(options.file)


def _page(options) -> int:
    with told_to_end() as ending:
        from astroformer.batch import node

        return node.page(
            Batch(options.folder.resolve()),
            options.name,
            ending,
            profile=options.profile,
            study_profile=options.study_profile,
        )


def _book(options) -> int:
    from astroformer.reproduce.run import build_only

    return build_only(options.profile)


def _summary(options) -> int:
    """One paragraph for each failure; status 1 if there is any."""
    failures = Batch(options.folder).failures()
    for told in failures:
        print(f"{told['name']} failed at {told['cell']}: {told['error']}")
        for line in told["source"].splitlines():
            print(f"      {line}")
        if told["copy"]:
            print(f"  its executed copy: {told['copy']}")
        print(f"  its log: {options.folder / 'logs' / told['name']}.log")
    return 1 if failures else 0


ACTIONS = {
    "plan": _plan,
    "data": _data,
    "run": _run,
    "ranks": _ranks,
    "page": _page,
    "book": _book,
    "summary": _summary,
}

if __name__ == "__main__":
    status = main()
    stay()
    sys.exit(status)
