"""The runs of studies are made: by one process, by several that share them, within a budget that
ends in the middle of a run; and what there is is listed, planned and kept.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_runs import install, restored

from astroformer import cli, paths
from astroformer.cli.training import SWITCHES
from astroformer.ledger import curves, predictions, records
from astroformer.studies import design, few_images, runner, stability
from astroformer.studies.cells import Found
from astroformer.training import run_folder

HERE = Path(__file__).parent
QUIET = {"report": lambda line: None}


@pytest.fixture
def tiny(own_runs, tiny_folder, monkeypatch):
    """A task of few images with two designs of its own, and an empty ledger."""
    world(own_runs, tiny_folder, monkeypatch)
    return own_runs


@pytest.fixture(scope="module")
def made(shared_runs, tiny_folder):
    """The same with both studies made by one process, and the lines that it reported."""
    with pytest.MonkeyPatch.context() as patch:
        world(shared_runs, tiny_folder, patch)
        lines = []
        number = runner.work(["few_images", "stability"], "cpu", report=lines.append)
        yield number, lines


def world(folder, images, patch):
    patch.setenv("ASTROFORMER_DATA", str(images.parent))
    patch.setattr(paths, "LEDGER", folder / "committed")
    restored(patch)
    install(folder)


def local():
    return [record for record in records.read() if record["origin"] == "local"]


# One process


def test_one_process_makes_everything_in_the_order_of_the_designs(made):
    number, lines = made
    begun = [line for line in lines if ", seed " in line]
    assert begun == [
        # both rounds of each arm, and the confirmatory runs that follow from them
        "few_images, tuning: tiny, CCCT, seed 100",
        "few_images, tuning: tiny, CCCT, seed 100",
        "few_images, tuning: tiny, CCTT, seed 100",
        "few_images, tuning: tiny, CCTT, seed 100",
        "few_images, low: tiny, CCCT, seed 10",
        "few_images, low: tiny, CCTT, seed 10",
        "stability, rates: tiny, CCCT, seed 10",
        "stability, rates: tiny, CCCT, seed 10",
    ]
    assert number == 8 == len(local())
    assert [record["steps"] for record in local()] == [2, 4, 2, 4, 4, 4, 12, 12]
    assert runner.work(["few_images", "stability"], "cpu", report=lines.append) == 0
    assert len(local()) == 8


def test_a_record_says_what_it_was_made_for(made):
    told = [record["study"] for record in local()]
    assert told[0] == {
        "name": "few_images",
        "design": design.read("few_images").digest,
        "stage": "tuning",
        "task": "tiny",
        "arm": "CCCT",
        "profile": "cpu",
    }
    assert {one["stage"] for one in told} == {"tuning", "low", "rates"}
    by_split = {record["dataset"]["evaluated_on"] for record in local()[:4]}
    assert by_split == {"validation"} and local()[4]["dataset"]["evaluated_on"] == "test"


def test_a_run_that_diverged_is_not_made_again_and_is_told(made):
    [lost] = [record for record in local() if record["status"] == "failed"]
    assert lost["recipe"]["learning_rate"] == 1e12 and lost["study"]["name"] == "stability"
    table = runner.plan(["stability"], "cpu")
    assert (table["runs"].item(), table["done"].item(), table["diverged"].item()) == (2, 2, 1)
    study = stability.result("cpu")
    assert study.runs["diverged"].tolist() == [False, True]
    assert study.runs["spikes"].isna().all()  # 12 steps are too few to have any
    few = few_images.result("cpu")
    assert len(few.table) == 2 and few.progress()["made"].sum() == 6
    assert few.progress()["processor hours"].sum() > 0


def test_nothing_left_starts_no_process(made, monkeypatch):
    monkeypatch.setattr(runner.subprocess, "Popen", None)
    assert runner.run(["few_images", "stability"], "cpu", parallel=2, progress=False)


def test_images_that_call_themselves_otherwise_are_refused(
    tiny, tmp_path, tiny_folder, monkeypatch
):
    """Their records would not be found again, and the run be made for ever."""
    root = tmp_path / "data" / "tiny"
    root.mkdir(parents=True)
    for split in ("train", "test"):
        (root / split).symlink_to(tiny_folder / split)
    (root / "about.json").write_text('{"name": "another"}')
    monkeypatch.setenv("ASTROFORMER_DATA", str(tmp_path / "data"))
    with pytest.raises(
        ValueError, match="calls itself 'another' .* `astroformer data derive tiny`"
    ):
        runner.work(["few_images"], "cpu", **QUIET)
    assert not local()


def test_a_record_that_does_not_answer_ends_the_work(tiny, monkeypatch):
    """As another version of the library would write it."""
    fit = runner.fit

    def other(run, **how):
        fitted = fit(run, **how)
        fitted.record["identity"]["revision"] += 1
        return fitted

    monkeypatch.setattr(runner, "fit", other)
    with pytest.raises(ChildProcessError, match="does not answer the run that was asked for"):
        runner.work(["stability"], "cpu", **QUIET)


def test_while_others_make_what_is_left_a_process_waits_for_what_they_open(tiny, monkeypatch):
    monkeypatch.setattr(runner, "PATIENCE", 0.02)
    looked, looks = threading.Event(), []

    class Counted(Found):
        def __init__(self, known):
            super().__init__(known)
            looks.append(1)
            if len(looks) > 3:
                looked.set()

    monkeypatch.setattr(runner, "Found", Counted)
    cells = runner.cells_of(["few_images"], "cpu", Found([]))
    folders = [cell.run.resolved(runner_device()).folder for cell in cells]
    assert len(folders) == 2
    lines = []

    def hold():
        with ExitStack() as stack:
            for folder in folders:
                stack.enter_context(run_folder.held(folder, wait=True, report=print))
            held.set()
            looked.wait(20)

    held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    try:
        # within the budget nothing is free
        assert runner.work(["few_images"], "cpu", until=time.time() + 0.01, **QUIET) == 0
        assert runner.work(["few_images"], "cpu", report=lines.append) == 6
    finally:
        looked.set()
        thread.join()
    assert len(looks) > 4
    assert sum(line == "few_images, tuning: tiny, CCCT, seed 100" for line in lines) == 2


def runner_device():
    from astroformer.training.run import default_device

    return default_device()


# A budget that ends within a run


def newest(folder):
    return list((folder / "runs").glob("*/last.pt"))


def test_a_run_that_is_stopped_goes_on_where_it_was(tiny, monkeypatch):
    monkeypatch.setattr(run_folder, "SHORTEST", 0.0)  # a checkpoint after the first step
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)

    def end_the_job():
        end = time.monotonic() + 60
        while not newest(tiny) and time.monotonic() < end:
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end_the_job)
    thread.start()
    lines = []
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.work(["stability"], "slow", report=lines.append)
    finally:
        thread.join()
        signal.signal(signal.SIGTERM, before)
    [stopped] = local()
    step = stopped["attempts"][-1]["to_step"]
    assert stopped["status"] == "interrupted" and 0 < step < 300
    assert any(line.startswith(f"stopped at step {step} of 300") for line in lines)
    assert (
        len(runner.missing(runner.cells_of(["stability"], "slow", Found(local())), Found(local())))
        == 2
    )
    assert runner.work(["stability"], "slow", report=lines.append) == 2
    [whole] = [record for record in local() if record["status"] == "completed"]
    assert whole["run"] == stopped["run"] and whole["resumed_from"] == step
    assert any(f"goes on from step {step} of 300" in line for line in lines)
    assert [attempt["from_step"] for attempt in whole["attempts"]] == [0, step]
    curve = curves.read(whole["run"])
    assert np.isfinite(curve.loss).all() and len(curve.loss) == 300  # of both attempts


def worker(tiny, monkeypatch, body):
    """In place of the interpreter of each process: a script, which gets its words."""
    script = tiny / "worker"
    script.write_text(
        f"#!{sys.executable}\nimport os, signal, sys, time\nfrom pathlib import Path\n{body}"
    )
    script.chmod(0o755)
    monkeypatch.setattr(runner.sys, "executable", str(script))
    return script


# The command itself, which knows the tiny task too and writes checkpoints often.
REAL = """
sys.path[:0] = [{here!r}]
from made_up_runs import install
install(Path({folder!r}))
from astroformer.training import run_folder
run_folder.SHORTEST = 0.0
from astroformer.cli import main
sys.exit(main(sys.argv[3:]))
"""


def test_two_processes_share_the_runs_and_save_them_at_the_end_of_the_budget(tiny, monkeypatch):
    worker(tiny, monkeypatch, REAL.format(here=str(HERE), folder=str(tiny)))
    watched = []

    def until_both_train(workers, *rest):
        watched.extend(workers)
        while len(newest(tiny)) < 2 and all(one.poll() is None for one in workers):
            time.sleep(0.1)

    monkeypatch.setattr(runner, "_watch", until_both_train)
    assert runner.run(["few_images"], "endless", minutes=60, parallel=2) is False
    assert len(watched) == 2 and {one.returncode for one in watched} == {130}
    assert [record["status"] for record in local()] == ["interrupted"] * 2
    assert len({record["run"] for record in local()}) == 2
    assert {record["study"]["arm"] for record in local()} == {"CCCT", "CCTT"}
    for record in local():
        assert record["attempts"][-1]["to_step"] > 0 and record["execution"]["threads"] == 1
    logs = list((tiny / "ledger" / "logs").iterdir())
    assert len(logs) == 2
    for log in logs:
        assert "stopped at step" in log.read_text()


# What the parent does with its processes


def test_each_process_gets_the_studies_the_profile_and_the_words(tiny, monkeypatch):
    worker(
        tiny,
        monkeypatch,
        f"words = (*sys.argv[1:], os.environ['OMP_NUM_THREADS'])\n"
        f"(Path({str(tiny)!r}) / f'said-{{os.getpid()}}').write_text(' '.join(words))\n",
    )
    shard = runner.Shard.parse("0/1", ["tiny"])
    assert not runner.run(
        ["few_images"], "cpu", minutes=2, parallel=3, shard=shard, words=["--workers", "0"],
        progress=False,
    )  # fmt: skip
    said = [path.read_text().split() for path in tiny.glob("said-*")]
    assert len(said) == 3  # more than the two runs that can be named: they open others
    for words in said:
        assert words[:4] == ["-m", "astroformer", "study", "work"] and words[-1] == "1"
        assert words[4:11] == ["few_images", "--profile", "cpu", "--task", "tiny", "--workers", "0"]
        assert float(words[words.index("--until") + 1]) == pytest.approx(time.time() + 120, abs=60)


def test_a_process_that_dies_is_named_with_its_last_words(tiny, monkeypatch):
    body = f"""
try:
    os.mkdir({str(tiny / "first")!r})
except FileExistsError:
    sys.exit(0)
print("it begins\\nout of memory\\n", flush=True)
sys.exit(3)
"""
    worker(tiny, monkeypatch, body)
    with pytest.raises(ChildProcessError, match="1 of 2 processes ended with status 3") as error:
        runner.run(["few_images"], "cpu", parallel=2, progress=False)
    message = str(error.value)
    assert "'out of memory'" in message and "the same command goes on" in message
    named = Path(message.split(" in ")[-1].split(";")[0])
    assert "out of memory" in named.read_text() and "\n" not in message


def test_a_process_that_does_not_end_is_ended(tiny, monkeypatch):
    body = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path({str(tiny / "ready")!r}).touch()
time.sleep(60)
"""
    worker(tiny, monkeypatch, body)
    monkeypatch.setattr(runner, "GRACE", 0.3)
    monkeypatch.setattr(runner, "_watch", lambda *rest: wait_for(tiny / "ready"))
    began = time.monotonic()
    with pytest.raises(ChildProcessError, match="1 of 1 processes ended with status -9"):
        runner.run(["few_images"], "cpu", parallel=1)
    assert time.monotonic() - began < 30


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} did not come"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_end_of_a_job_ends_its_processes_once(tiny, monkeypatch, number):
    """A batch system tells the processes as well, which is enough."""
    body = f"""
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
Path({str(tiny / "ready")!r}).touch()
while not told:
    time.sleep(0.02)
time.sleep(0.2)  # it saves
Path({str(tiny / "saved")!r}).write_text(str(len(told)))
sys.exit(130)
"""
    worker(tiny, monkeypatch, body)
    workers = []

    def told(started, *rest):
        workers.extend(started)
        wait_for(tiny / "ready")
        if number != signal.SIGINT:  # a Ctrl-C reaches the parent alone
            started[0].send_signal(signal.SIGTERM)
        os.kill(os.getpid(), number)
        time.sleep(20)

    monkeypatch.setattr(runner, "_watch", told)
    # whoever started the tests in the background made them deaf
    usual = {
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
    }
    before = {each: signal.signal(each, handler) for each, handler in usual.items()}
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.run(["few_images"], "cpu", parallel=1)
        assert {each: signal.getsignal(each) for each in usual} == usual
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert (tiny / "saved").read_text() == "1" and workers[0].returncode == 130


def test_a_job_that_is_to_outlive_its_terminal_does(tiny, monkeypatch):
    """nohup has the hang-up ignored, and so it stays."""
    worker(tiny, monkeypatch, "")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(runner, "_watch", lambda *rest: os.kill(os.getpid(), signal.SIGHUP))
        assert runner.run(["few_images"], "cpu", parallel=1) is False
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_has_a_session_of_its_own(tiny, monkeypatch):
    """A terminal's Ctrl-C does not reach it, so that it is told once, by its parent."""
    worker(tiny, monkeypatch, f"Path({str(tiny / 'session')!r}).write_text(str(os.getsid(0)))")
    runner.run(["stability"], "cpu", parallel=1, progress=False)
    assert int((tiny / "session").read_text()) != os.getsid(0)


def test_the_watch_ends_with_the_budget_and_with_the_processes(tiny):
    sleeping = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    try:
        began = time.time()
        runner._watch(sleeping, ["few_images"], "cpu", None, began + 0.3, False)
        assert 0.3 <= time.time() - began < 30 and all(one.poll() is None for one in sleeping)
    finally:
        runner._end(sleeping)
    assert [one.returncode for one in sleeping] == [-signal.SIGTERM] * 2
    runner._watch(sleeping, ["few_images"], "cpu", None, None, False)  # all have ended


# Images, plans, lists


def test_images_that_are_missing_are_one_line_with_the_command(tiny, monkeypatch, capsys):
    monkeypatch.setenv("ASTROFORMER_DATA", str(tiny / "nowhere"))
    for call in (
        lambda: runner.run(["few_images"], "cpu"),
        lambda: runner.work(["stability"], "cpu"),
    ):
        with pytest.raises(FileNotFoundError, match="the images of tiny are not below .*nowhere"):
            call()
    assert cli.main(["study", "run", "few_images"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "`astroformer data derive tiny`" in line and "ASTROFORMER_DATA" in line
    assert not (tiny / "ledger").exists() or not list((tiny / "ledger").rglob("*.log"))


def answered(capsys, *words):
    """What the command printed as JSON, and its exit status."""
    status = cli.main(["study", *words])
    return json.loads(capsys.readouterr().out), status


def test_a_dry_run_trains_nothing(tiny, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run", None)
    rows, status = answered(capsys, "run", "few_images", "--dry-run", "--json")
    assert status == 0 and not (tiny / "runs").exists() and not local()
    assert rows == [
        {
            "tier": 1,
            "study": "few_images",
            "stage": "tuning",
            "runs": 2,
            "done": 0,
            "diverged": 0,
            "hours left": None,  # no run on this device tells its speed
        }
    ]
    assert cli.main(["study", "run", "few_images", "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "2 runs are missing: for how long is not known" in said and "waiting" not in said
    assert re.search(r", up to \d+\.\d\d GB of memory for each; runs that wait", said)


def test_lists_plans_and_tables_are_json(made, capsys):
    rows, _ = answered(capsys, "--json")
    first = next(row for row in rows if row["study"] == "few_images")
    assert (first["runs"], first["done"], first["question"]) == (6, 6, "Does it run?")
    assert [row["study"] for row in rows].count("augmentation") == 0  # no design here
    assert any(row["study"] == "spectral_blocks" for row in rows)
    assert answered(capsys, "list", "--json")[0] == rows
    rows, _ = answered(capsys, "plan", "--json")
    assert [(row["study"], row["stage"], row["runs"], row["done"]) for row in rows] == [
        ("few_images", "tuning", 4, 4),
        ("few_images", "low", 2, 2),
        ("stability", "rates", 2, 2),
    ]
    assert all(row["hours left"] == 0 for row in rows)
    rows, _ = answered(capsys, "show", "few_images", "--json")
    assert [row["status"] for row in rows] == ["completed"] * 6
    assert rows[0]["settings"] == "rate 0.001, decay 0.02, part 0.5"
    assert all("astroformer train" in row["command"] for row in rows)
    both, _ = answered(capsys, "show", "few_images", "stability", "--json")
    assert [row["study"] for row in both] == ["few_images"] * 6 + ["stability"] * 2
    lost = next(row for row in both if row["status"] == "failed")
    assert lost["top1"] is None  # NaN is no JSON
    fixed, _ = answered(capsys, "show", "filters", "--json")
    assert len(fixed) == 2
    assert answered(capsys, "stability", "--show", "--json")[0] == [
        {name: value for name, value in row.items() if name != "study"} for row in both[6:]
    ]


def test_a_run_prints_one_document(tiny, monkeypatch, capsys):
    given = {}
    monkeypatch.setattr(runner, "run", lambda names, profile, **how: given.update(how) or False)
    words = [
        "--parallel",
        "2",
        "--time-budget",
        "5",
        "--workers",
        "0",
        "--no-channels-last",
        "--tf32",
    ]
    rows, status = answered(capsys, "run", "stability", "--json", *words)
    assert status == 1 and len(rows) == 1  # 1: not complete
    assert given["minutes"] == 5 and given["parallel"] == 2
    assert given["words"] == ["--workers", "0", "--no-channels-last", "--tf32"]


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("no", ["", "no-"])
def test_every_switch_reaches_the_processes(tiny, monkeypatch, capsys, switch, no):
    given = {}
    monkeypatch.setattr(runner, "run", lambda names, profile, **how: given.update(how) or False)
    assert cli.main(["study", "run", "stability", "--json", f"--{no}{switch}"]) == 1
    assert given["words"] == [f"--{no}{switch}"] and given["shard"] is None


@pytest.mark.parametrize(
    "words, said",
    [
        (["plan", "few_images", "--shard", "5/4"], "--shard '5/4' is not I/N with I from 0 to N"),
        (["run", "few_images", "--shard", "5/4"], "--shard '5/4' is not I/N"),
        (["run", "few_images", "--task", "x"], "--task 'x' is no task of few_images; choose of t"),
        (["run", "filters", "--task", "cifar100"], "study filters is a fixed list of runs without"),
        (["run", "few_images", "--parallel", "0"], "--parallel 0: give at least 1 process"),
        (["run", "few_images", "--time-budget", "-1"], "--time-budget -1: give 0 or more minutes"),
        (["run", "few_images", "--time-budget", "nan"], "--time-budget nan: give 0 or more"),
        (["run"], "study run needs NAMES, or --all: few_images, stability"),
        (["run", "no_such"], "study 'no_such' is not known; choose one of few_images"),
        (["plan", "few_images", "--profile", "x"], "profile 'x' is not known; choose one of cpu"),
        (["keep", "filters"], "study filters is a fixed list of runs without a design"),
        (["run", "few_images", "filters"], "study filters is a fixed list of runs without a des"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(tiny, capsys, words, said):
    assert cli.main(["study", *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1] and not local()


def test_hours_follow_from_the_speed_that_the_ledger_knows(tiny):
    mine = records.device_name(runner_device())
    rows = [("spectformer_ti", 32, 100.0, 5e6), ("spectformer_ti", 32, 300.0, 5e6)]
    rows += [("vit_cifar", 32, 10.0, 1e6), ("spectformer_ti", 64, 7.0, 2e6)]
    table = pd.DataFrame(rows, columns=["model", "image_size", "images_per_second", "macs"])
    table["device"] = mine
    other = table.assign(device="Another Card", images_per_second=1e9)
    speeds = runner.speeds_of(pd.concat([table, other], ignore_index=True))
    assert speeds["spectformer_ti", 32] == 200 * 5e6 and speeds["vit_cifar", 32] == 1e7
    assert speeds["", 0] == pytest.approx(np.median([5e8, 15e8, 1e7, 1.4e7]))
    cell = runner.cells_of(["few_images"], "slow", Found([]))[0]
    from astroformer.counting.cost import model_cost

    cost = model_cost("spectformer_ti", image_size=32, num_classes=3, **dict(cell.run.options))
    assert runner.seconds_of(cell, speeds) == pytest.approx(150 * 6 * cost["macs"] / 1e9)
    unknown = {("", 0): 1e6}
    assert runner.seconds_of(cell, unknown) == pytest.approx(150 * 6 * cost["macs"] / 1e6)
    assert np.isnan(runner.seconds_of(cell, {})) and runner.speeds_of(other) == {}
    assert runner.speeds_of(pd.DataFrame()) == {}


# Keeping


def test_keeping_copies_finished_runs_once_with_predictions_and_curves(made, capsys):
    assert cli.main(["study", "keep", "--all"]) == 0
    said = capsys.readouterr().out
    assert "few_images: 6 runs copied" in said and "stability: 2 runs copied" in said
    lines = [
        json.loads(line) for line in (paths.LEDGER / "stability.jsonl").read_text().splitlines()
    ]
    assert {line["status"] for line in lines} == {"completed", "failed"}
    assert all("origin" not in line and line["study"]["name"] == "stability" for line in lines)
    assert not local() and len(records.read()) == 8  # each record once
    for record in records.read():
        run, looked_at = record["run"], record["study"]["name"] == "stability"
        assert curves.committed(run).is_file() == looked_at
        assert predictions.committed(run).is_file() == (record["status"] == "completed")
        if record["status"] == "completed":
            kept = predictions.load(predictions.committed(run))
            whole = predictions.load(predictions.local(run))
            assert kept.top.shape == (len(whole), 1)
            assert kept.predicted.tolist() == whole.predicted.tolist()
            assert kept.evaluated_on == record["dataset"]["evaluated_on"]
            assert predictions.metrics(kept)["top1"] == pytest.approx(record["metrics"]["top1"])
    assert runner.keep("few_images") == runner.keep("stability") == 0
    assert len((paths.LEDGER / "few_images.jsonl").read_text().splitlines()) == 6
    # the committed records answer as the local ones did
    assert not runner.missing(
        runner.cells_of(["few_images"], "cpu", Found(records.read())), Found(records.read())
    )


def test_a_run_is_kept_under_the_study_that_it_was_made_for(tiny, monkeypatch):
    """A run that two studies need is made for one of them, and either may be kept first."""
    same = (design.STUDIES / "few_images.yml").read_text()
    (design.STUDIES / "earlier.yml").write_text(same)
    monkeypatch.setitem(runner.MODULES, "earlier", few_images)
    cell = runner.cells_of(["few_images"], "cpu", Found([]))[0]
    runner.fit(cell.run, study={"name": "few_images", "stage": cell.stage}, **QUIET)
    assert runner.keep("earlier") == 1 and runner.keep("few_images") == 0
    assert [path.name for path in paths.LEDGER.glob("*.jsonl")] == ["few_images.jsonl"]


def test_what_is_not_finished_is_not_kept(tiny):
    from astroformer.training import fit

    cell = runner.cells_of(["stability"], "cpu", Found([]))[0]
    fit(cell.run, stop_after=3, **QUIET)
    assert [record["status"] for record in local()] == ["interrupted"]
    assert runner.keep("stability") == 0 and not (paths.LEDGER / "stability.jsonl").exists()


def test_a_copy_that_was_cut_short_is_made_again(tiny, monkeypatch):
    cell = runner.cells_of(["stability"], "cpu", Found([]))[0]
    runner.fit(cell.run, **QUIET)

    def full(run):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(curves, "keep", full)
        with pytest.raises(OSError, match="disk full"):
            runner.keep("stability")
    assert runner.keep("stability") == 1
    [record] = records.read()
    assert record["origin"] == "committed" and curves.committed(record["run"]).is_file()
