"""The workflow under a real Slurm of one node, which the tests start: from runs to the book, and
everything that interrupts it.

The daemons stay in the foreground of processes of this test; nothing else on the machine is asked
or changed. How long each part took is printed (`-s`); with ASTROFORMER_KEEP_TEST=FILE what was seen
is written there, for the page on running at scale.
"""

import json
import math
import os
import statistics
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import slurm_cluster
from checkout_copy import BROKEN, IMAGES, Copy, long, twelve

from astroformer.ledger import records

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(slurm_cluster.why_not()), reason=slurm_cluster.why_not()),
]
PAGES = "results_galaxies,measured,claims"
HOW = dict(pages=PAGES, bundle=0.03, gpus=1)
OF_A_TEST = (
    *("--latency-wait", "2", "--slurm-no-account", "--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "2"),
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    started = slurm_cluster.Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        yield started.start()
    finally:
        started.stop()


@pytest.fixture(scope="module")
def copy(cluster, tmp_path_factory):
    found = Copy.of_checkout(tmp_path_factory.mktemp("nodes"))
    found.words = ("--profile", str(found.root / "workflow/profiles/slurm"), *OF_A_TEST)
    return found


@pytest.fixture(autouse=True)
def seen(request):
    """What a test saw, to be filled by it."""
    began, facts = time.monotonic(), {}
    yield facts
    row = {"test": request.node.name, "seconds": round(time.monotonic() - began, 1), **facts}
    row |= {"started": datetime.now(UTC).isoformat(timespec="seconds"), "git": records.git_state()}
    print(f"\n{row['test']}: {row['seconds']:.0f} s, {facts}")
    if path := os.environ.get("ASTROFORMER_KEEP_TEST"):
        records.write_line(row, Path(path))


def submitted(said: str) -> int:
    """How many jobs a call of snakemake gave to Slurm."""
    return said.count("has been submitted with SLURM jobid")


def told_after(seconds: float) -> list[str]:
    """Words of a call whose training jobs are told to end after so many seconds, or up to half a
    minute earlier, since Slurm looks twice a minute; a minute or two later they would be ended.
    """
    minutes = math.ceil(seconds / 60) + 1
    extra = f"train:slurm_extra='--signal=TERM@{round(60 * minutes - seconds)}'"
    return ["--set-resources", f"train:runtime={minutes}", extra]


def pace(copy: Copy) -> tuple[float, float]:
    """Seconds that a job of a few short runs takes on this machine, and images a second of a
    training, both by the jobs of the first test.
    """
    jobs = copy.batch().glob("benchmarks/*-runs-*.tsv")
    seconds = [float(path.read_text().splitlines()[1].split()[0]) for path in jobs]
    rates = [records[0]["images_per_second"] for records in copy.completed().values()]
    return statistics.median(seconds), statistics.median(rates)


def until(holds, what: str, seconds: float = 240.0):
    """What `holds` gives once it is true."""
    limit = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < limit, f"{what} did not come within {seconds:.0f} s"
        time.sleep(0.5)
    return found


class Started:
    """Lets a job that Slurm has put back begin as soon as its node has cleared it away: a real
    Slurm waits for two minutes. Earlier the launch would fail, and Slurm drain the node
    ("Duplicate jobid") and hold the job.
    """

    def __init__(self, cluster):
        self.cluster, self.over, self.seen = cluster, threading.Event(), set()

    def __enter__(self):
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self):
        while not self.over.wait(1):
            for number, state in self.cluster.jobs().items():
                if state == "PENDING":
                    self.seen.add(number)
                    if not on_the_node(number):
                        self.cluster.ask("scontrol", "update", f"JobId={number}", "StartTime=now")

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def on_the_node(number: str) -> bool:
    """Whether a job's processes are still there, as they are for a while after it was ended."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(f"slurmstepd: [{number}."):
                return True
    return False


def same_numbers(one: dict, other: dict) -> bool:
    """To the bit: what was measured at the end and after each epoch."""
    names = ("train_loss", "test_loss", "top1")
    histories = [
        [{name: epoch.get(name) for name in names} for epoch in record["history"]]
        for record in (one, other)
    ]
    return one["metrics"] == other["metrics"] and histories[0] == histories[1]


def test_twelve_runs_and_three_pages_become_a_book(copy, seen):
    study = copy.study("twelve", twelve())
    status, said = copy.call(study, **HOW)
    assert status == 0, said
    found = copy.completed()
    assert len(found) == 12 and all(len(records) == 1 for records in found.values())
    seen |= {"runs": len(found), "jobs": submitted(said)}
    assert submitted(said) >= 2 + 3 + 1  # jobs with runs, pages, the book
    html = (copy.root / "_build/html/book/results_galaxies.html").read_text()
    assert "astroformer_pico" in html
    jobs = [json.loads(path.read_text()) for path in copy.batch().glob("jobs/*.json")]
    assert sum(len(job["units"]) for job in jobs) == 12 and all(job["gpus"] == 1 for job in jobs)


def test_a_second_call_does_nothing(copy, seen):
    status, said = copy.call(copy.place / "twelve.yml", **HOW)
    seen["jobs"] = submitted(said)
    assert status == 0 and "Nothing to be done" in said and not seen["jobs"], said


def test_a_changed_recipe_makes_its_own_runs_and_the_pages_that_show_them(copy, seen):
    study = copy.study("twelve", twelve(epochs=3))
    before = {path: path.stat().st_mtime_ns for path in (copy.batch() / "pages").iterdir()}
    status, said = copy.call(study, **HOW, book=False)
    assert status == 0, said
    assert len(copy.completed()) == 15
    changed = {path.stem for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"results_galaxies"}
    seen |= {"runs": 3, "jobs": submitted(said)}


def test_a_time_limit_scancel_and_a_node_that_goes_down_lose_nothing(copy, cluster, seen):
    """Two workflows beside each other: one whose job meets its time limit and is put back, one
    whose job is ended by scancel; then the node goes down under both.
    """
    how = dict(pages="none", book=False, gpus=1)
    short, rate = pace(copy)
    # of about 80 seconds of training it has had 30 to 60 when it is told
    epochs = [math.ceil(seconds * rate / IMAGES) for seconds in (80, 30)]
    studies = [copy.study("limited", long(epochs[0], 1)), copy.study("ended", long(epochs[1], 2))]
    with Started(cluster) as started:
        limited = copy.start(studies[0], *told_after(short + 60), batch="limited", **how)
        [first] = until(cluster.jobs, "the first job")
        ended = copy.start(studies[1], batch="ended", **how)
        [second] = until(lambda: set(cluster.jobs()) - {first}, "the second job")
        until(copy.checkpoint(studies[1]).is_file, "its checkpoint")
        cluster.ask("scancel", second)
        until(lambda: first in started.seen, "the end of the first job's time")
        again = until(lambda: set(cluster.jobs()) - {first, second}, "another try").pop()
        until(lambda: cluster.jobs().get(again) == "RUNNING", "the second try")
        node = f"NodeName={cluster.host}"
        cluster.ask("scontrol", "update", node, "State=DRAIN", "Reason=test")
        assert cluster.state().startswith("drain"), cluster.state()
        cluster.ask("scontrol", "update", node, "State=DOWN", "Reason=test")
        until(lambda: cluster.jobs().get(again) != "RUNNING", "the end of the job on the node")
        cluster.ask("scontrol", "update", node, "State=RESUME")
        said = [process.communicate()[0] for process in (limited, ended)]
    assert (limited.returncode, ended.returncode) == (0, 0), said
    # afterwards, since beside the jobs they would take the processors from them
    alone = [copy.alone(study) for study in studies]
    for text, one, jobs in zip(said, alone, (1, 2)):
        expected = one.record()
        [record] = copy.completed()[expected["run"]]
        seen |= {"jobs": seen.get("jobs", 0) + submitted(text)}
        seen |= {"runs": 2, "starts": seen.get("starts", 0) + len(record["attempts"])}
        # put back by Slurm, not given to it anew; a job that was done in the second in which it was
        # told may be looked at once more
        assert jobs <= submitted(text) <= jobs + 1, text
        assert len(record["attempts"]) > 1, "the run was made in one go"
        assert same_numbers(record, expected)


def test_two_workflows_at_once_make_no_run_twice(copy, seen):
    known = set(copy.completed())
    study = copy.study("shared", twelve(epochs=4).replace("[0, 1, 2]", "[7]"))
    both = [
        copy.start(study, batch=f"shared-{number}", **HOW | dict(pages="none", book=False))
        for number in range(2)
    ]
    seen |= {"jobs": 0, "runs": 4}
    for process in both:
        said, _ = process.communicate()
        seen["jobs"] += submitted(said)
        assert process.returncode == 0, said
    new = {run: records for run, records in copy.completed().items() if run not in known}
    assert len(new) == 4 and all(len(records) == 1 for records in new.values())


def test_two_processes_train_together_within_one_job(copy, seen):
    known = set(copy.completed())
    text = long(epochs=1, seed=5).replace("batch_size: 16", "batch_size: 16, micro_batch_size: 8")
    status, said = copy.call(
        copy.study("together", text), batch="together", pages="none", book=False, gpus=2, cpus=2
    )
    assert status == 0, said
    [run] = set(copy.completed()) - known
    [record] = copy.completed()[run]
    seen |= {"jobs": submitted(said), "processes": record["world_size"]}
    assert record["world_size"] == 2


def test_a_page_that_fails_is_named_and_the_rest_goes_on(copy, seen):
    with copy.broken("measured"):
        status, said = copy.call(copy.place / "twelve.yml", **HOW)
    seen["jobs"] = submitted(said)
    assert status == 1
    assert f"measured failed at cell In [3]: LookupError: {BROKEN}" in said
    assert BROKEN in (copy.root / "_build/html/book/measured.html").read_text()
    assert "rule train:" not in said
    # that the next call makes this page alone, the local profile tries
