"""The verb `study`: list, cost, run, show and keep sets of runs that answer one question."""

import argparse
import math
import os
import sys

from astroformer import paths
from astroformer.cli.common import add_verb, device_of, print_table
from astroformer.cli.training import SWITCHES, add_execution_arguments, execution_of

ACTIONS = ("list", "run", "plan", "show", "keep", "work")
USE = """\
  study [list]               the studies, with the runs that each has and lacks
  study plan [NAME ...]      what is missing, by stage, and the hours and memory it takes here
  study run NAME ... | --all make what is missing: --time-budget, --parallel, --shard, --dry-run
  study show NAME            every run with what the ledger says of it and its command
  study keep NAME ... | --all
                             copy finished runs of this machine, their predictions and curves into
                             book/ledger, to be committed
  study NAME                 the same as `study run NAME`; with --show as `study show NAME`"""


def _study(verbs) -> None:
    verb = add_verb(
        verbs,
        "study",
        study,
        "make and show a study: a named set of runs that answer one question",
        table=True,
    )
    verb.formatter_class = argparse.RawDescriptionHelpFormatter
    verb.description = USE
    verb.add_argument("words", nargs="*", metavar="ACTION or NAME")
    verb.add_argument("--all", action="store_true", help="every study that has a design")
    verb.add_argument(
        "--profile", default="cpu", help="of the design: cpu (default), gpu or cluster"
    )
    verb.add_argument("--show", action="store_true", help="short for the action show")
    verb.add_argument(
        "--data-dir",
        help="the study's folder of images, or one that holds all of "
        "its folders; default: ASTROFORMER_DATA",
    )
    verb.add_argument(
        "--time-budget",
        type=float,
        metavar="MINUTES",
        help="save and leave off then; the same command goes on",
    )
    verb.add_argument(
        "--parallel", type=int, default=1, metavar="K", help="processes of one thread each"
    )
    verb.add_argument(
        "--shard", metavar="I/N", help="only this part of the runs, from 0/N to (N-1)/N"
    )
    verb.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="TASK",
        help="only the runs on this task, such as cifar100; may be repeated",
    )
    verb.add_argument("--dry-run", action="store_true", help="say what it costs, and stop")
    verb.add_argument(
        "--mix-devices",
        action="store_true",
        help="make runs too that are compared with some that another kind of device made",
    )
    verb.add_argument("--until", type=float, help=argparse.SUPPRESS)
    add_execution_arguments(verb)


def study(options) -> int:
    action, names = _asked(options)
    return {
        "list": _list,
        "plan": _plan,
        "run": _run,
        "show": _show,
        "keep": _keep,
        "work": _work,
    }[action](names, options)


def _asked(options) -> tuple[str, list[str]]:
    """The action and the names; ValueError for names that are not there, or that are missing."""
    from astroformer.studies import design
    from astroformer.studies.runner import MODULES
    from astroformer.studies.studies import STUDIES

    words = list(options.words)
    if not words and not options.all:
        return "list", []
    action = words.pop(0) if words and words[0] in ACTIONS else "run"
    if action == "list":
        return action, []
    action = "show" if options.show else action
    designed = [name for name in design.names() if name in MODULES]
    if options.all or (action == "plan" and not words):
        words = designed
    known = [*designed, *STUDIES]
    if not words:
        raise ValueError(f"study {action} needs NAMES, or --all: {', '.join(known)}")
    for name in words:
        if name not in known:
            raise ValueError(f"study {name!r} is not known; choose one of {', '.join(known)}")
    if options.parallel < 1:
        raise ValueError(f"--parallel {options.parallel}: give at least 1 process")
    if options.time_budget is not None and not 0 <= options.time_budget < math.inf:
        raise ValueError(f"--time-budget {options.time_budget:g}: give 0 or more minutes")
    return action, words


def _list(names: list[str], options) -> int:
    from astroformer.studies import design
    from astroformer.studies.runner import MODULES, plan
    from astroformer.studies.studies import STUDIES

    rows = []
    for name in design.names():
        if name in MODULES:
            table = plan([name], options.profile)
            counts = {"runs": int(table["runs"].sum()), "done": int(table["done"].sum())}
            rows.append({"study": name, **counts, "question": design.read(name).question})
    rows += [
        {"study": name, "runs": len(one.runs()), "question": one.question}
        for name, one in STUDIES.items()
    ]
    print_table(rows, options.json)
    return 0


def _plan(names: list[str], options) -> int:
    from astroformer.counting.memory import gigabytes
    from astroformer.studies import price
    from astroformer.studies.runner import plan

    shard = _shard(options)
    table = plan(_designed(names), options.profile, shard)
    print_table(
        [{key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")],
        options.json,
    )
    left = table["hours left"].sum(skipna=False)
    hours = (
        "for how long is not known, as no run on this device is in the ledger"
        if math.isnan(left)
        else f"{left:.1f} hours of one process"
    )
    device = device_of(options.device).type
    most = price.left(names, options.profile, shard, device=device, execution=execution_of(options))
    memory = f", up to {gigabytes(most.total)} GB of memory for each" if most else ""
    print(
        f"{int(table['runs'].sum() - table['done'].sum())} runs are missing: {hours}{memory}; "
        "runs that wait for tuning are not counted",
        file=sys.stderr,
    )
    return 0


def _shard(options):
    """The part of the runs that is asked for; None for all of them."""
    from astroformer.studies.runner import Shard

    if not (options.shard or options.task):
        return None
    return Shard.parse(options.shard or "0/1", options.task)


def _plain(value):
    """A number of NumPy as Python's, with the digits that a table needs; None for NaN, which JSON
    does not have.
    """
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 2)
    return value


def _designed(names: list[str]) -> list[str]:
    from astroformer.studies.runner import MODULES

    for name in names:
        if name not in MODULES:
            raise ValueError(
                f"study {name} is a fixed list of runs without a design; run it alone: "
                f"astroformer study run {name}"
            )
    return names


def _run(names: list[str], options) -> int:
    from astroformer.studies import runner

    if options.data_dir and names[0] in runner.MODULES:
        os.environ["ASTROFORMER_DATA"] = options.data_dir
    if len(names) == 1 and names[0] not in runner.MODULES:
        return _run_fixed(names[0], options)
    if options.dry_run:
        return _plan(names, options)
    if not options.json:  # one table is one document
        _plan(names, options)
    complete = runner.run(
        _designed(names),
        options.profile,
        minutes=options.time_budget,
        parallel=options.parallel,
        shard=_shard(options),
        words=_execution_words(options) + ["--mix-devices"] * options.mix_devices,
        progress=sys.stderr.isatty(),
    )
    _plan(names, options)
    return 0 if complete else 1


def _execution_words(options) -> list[str]:
    """What was said of `add_execution_arguments`, as words for the processes of the study."""
    words = ["--device", options.device] if options.device else []
    words += [] if options.workers is None else ["--workers", f"{options.workers}"]
    for name in SWITCHES:
        value = getattr(options, name.replace("-", "_"))
        words += [] if value is None else [f"--{'' if value else 'no-'}{name}"]
    return words


def _run_fixed(name: str, options) -> int:
    from astroformer.studies import studies

    if options.task:
        raise ValueError(f"study {name} is a fixed list of runs without tasks; leave out --task")
    if options.dry_run:
        return _show([name], options)
    complete = studies.run_study(
        name,
        data_dir=options.data_dir,
        minutes=options.time_budget,
        execution=execution_of(options),
        device=device_of(options.device),
        mix_devices=options.mix_devices,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    _show([name], options)
    return 0 if complete else 1


def _work(names: list[str], options) -> int:
    """One of the processes of `run`."""
    from astroformer.studies import runner

    runner.work(
        names,
        options.profile,
        shard=_shard(options),
        device=device_of(options.device),
        execution=execution_of(options),
        until=options.until,
        mix_devices=options.mix_devices,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    return 0


def _show(names: list[str], options) -> int:
    from astroformer.studies import runner, studies

    every = []  # of several studies one document, in which each row names its own
    for name in names:
        if name not in runner.MODULES:
            found = studies.frame(name)
            columns = (
                *("variation", "seed", "status", "top1", "balanced_accuracy"),
                *("images_per_second", "command"),
            )
        else:
            found = runner.frame(name, options.profile)
            columns = (
                *("stage", "task", "arm", "seed", "settings", "status", "top1"),
                *("balanced_accuracy", "command"),
            )
        rows = [
            {key: None if value != value else value for key, value in row.items()}
            for row in found.drop(columns="history", errors="ignore").to_dict("records")
        ]
        if options.json:
            every += [{"study": name, **row} for row in rows] if len(names) > 1 else rows
        else:
            shown = [{key: row[key] for key in columns if key in row} for row in rows]
            print_table(shown, as_json=False)
    if options.json:
        print_table(every, as_json=True)
    return 0


def _keep(names: list[str], options) -> int:
    from astroformer.studies import runner

    paths.need_checkout("study keep")
    for name in _designed(names):
        kept = runner.keep(name)
        print(f"{name}: {kept} runs copied into book/ledger")
    return 0


VERBS = (_study,)
