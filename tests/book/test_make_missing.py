"""Pages that train what they lack: by papermill and by `jupyter execute`, from any folder, within
hours, and once.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace

import nbformat
import pytest
import yaml
from small_run import CPU, small_run

from astroformer.equivariance import causes
from astroformer.ledger import records
from astroformer.reproduce import Layout, estimate, plan, run
from astroformer.reproduce.freshness import State, inputs
from astroformer.reproduce.pages import read_notebook
from astroformer.studies import make, moving, on_page
from astroformer.studies.asked import Asked, Unit, answers
from astroformer.studies.make import NotMade
from astroformer.training import fit

LAYOUT = Layout()
MAKING = sorted(
    path for path in LAYOUT.book.glob("*.ipynb") if '"made = on_page.runs(' in path.read_text()
)
QUIET = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
OWN = {
    "name": "C-C-T-T",
    "model": "astroformer_pico",
    "dataset": "galaxies",
    "recipe": "smoke",
    "set": {"epochs": 2, "batch_size": 20},
    "options": {"stack": "CCTT"},
    "image_size": 32,
    "train_images": 60,
    "seeds": [0, 1],
}


def silent(line):
    """Says nothing."""


@pytest.fixture
def environment(own_runs):
    """Records and checkpoints of this test alone, for a page's kernel."""
    return os.environ | QUIET | {"OMP_NUM_THREADS": "1"}


def in_folder(folder, environment, *command):
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


def papermill(page, folder, environment, **parameters):
    words = [word for name, value in parameters.items() for word in ("-p", name, value)]
    source = LAYOUT.book / f"{page}.ipynb"
    command = ("papermill", source, "out.ipynb", "--no-progress-bar", *words)
    return in_folder(folder, environment, *command)


def file_of_runs(folder, **changes):
    path = folder / "mine.yml"
    path.write_text(yaml.safe_dump({"runs": [OWN | changes]}))
    return path


def code(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def printed(path):
    """The lines that the page said while it trained."""
    [cell] = [cell for cell in code(path) if cell.source.startswith("made = on_page.runs(")]
    text = [out.text for out in cell.outputs if out.output_type == "stream"]
    return "".join(text).splitlines()


def stated(path):
    """What the page says of what it lacks."""
    [cell] = [cell for cell in code(path) if cell.source == "made"]
    return cell.outputs[0].data["text/markdown"]


def local(status="completed"):
    return [r for r in records.read() if (r["origin"], r["status"]) == ("local", status)]


# The pages


@pytest.mark.parametrize("source", MAKING, ids=lambda path: path.stem)
def test_a_page_trains_before_it_reads_and_fails_when_all_is_shown(source):
    cells = ["".join(c["source"]) for c in read_notebook(source)["cells"]]
    at = next(n for n, text in enumerate(cells) if text.startswith("made = on_page.runs("))
    assert f'made = on_page.runs("{source.stem}", make_missing, ' in cells[at]
    assert not any("records." in text or "studies.frame" in text for text in cells[:at])
    assert "made" in cells[at:] and cells[-1].startswith("made.check()")
    declared = next(text for text in cells if "make_missing: bool = False" in text)
    for name in ("hours: float = 0.0", 'card: str = ""'):
        assert name in declared, "with no parameter it reads the ledger, without a limit"


def test_every_kind_of_page_has_the_parameter():
    studies = ["augmentation", "few_images", "recipes", "spectral_blocks", "stability"]
    others = ["equivariance", "results", "scaling", "variations", "vit_cifar"]
    assert [path.stem for path in MAKING] == sorted([*studies, *others])


def test_one_line_trains_what_a_table_lacks_and_the_second_call_trains_nothing(
    environment, tmp_path
):
    file_of_runs(tmp_path)
    asked = dict(dataset="galaxies", make_missing="true", runs_file="mine.yml")
    done = papermill("results", tmp_path, environment, **asked)
    assert done.returncode == 0, done.stderr[-3000:]
    said = printed(tmp_path / "out.ipynb")
    assert said[0].startswith("Missing: 2 runs: ") and "this machine's processor" in said[0]
    assert "GB of its memory" in said[0]
    assert [line for line in said if line.startswith(("1/2", "2/2"))] == [
        "1/2 mine, runs: C-C-T-T, seed 0",
        "2/2 mine, runs: C-C-T-T, seed 1",
    ]
    assert stated(tmp_path / "out.ipynb").startswith("Made here: 2 runs in ")
    assert stated(tmp_path / "out.ipynb").endswith(" Nothing is missing.")
    before = local()
    assert {record["seed"] for record in before} == {0, 1} and len(before) == 2
    shown = json.dumps(nbformat.read(tmp_path / "out.ipynb", 4))
    assert "CCTT" in shown, "the table has the runs that were made"
    done = papermill("results", tmp_path, environment, **asked)
    assert done.returncode == 0, done.stderr[-3000:]
    assert printed(tmp_path / "out.ipynb") == ["Nothing is missing."]
    assert stated(tmp_path / "out.ipynb") == "Nothing is missing." and local() == before


@pytest.mark.slow
def test_within_hours_a_page_stops_in_mid_run_and_by_the_same_line_goes_on(environment, tmp_path):
    """By `jupyter execute`, which runs a page in its own folder: so the file has its whole path."""
    mine = file_of_runs(tmp_path, set={"steps": 400, "batch_size": 20}, seeds=[0])
    cell = nbformat.v4.new_code_cell()
    notebook = nbformat.read(LAYOUT.book / "results.ipynb", 4)
    notebook.cells.insert(2, cell)
    for call in range(1, 30):
        path, hours = tmp_path / f"{call}.ipynb", 6 * call / 3600
        given = f"make_missing = True\nruns_file = {str(mine)!r}\nhours = {hours}"
        cell.source = f"# Parameters\n{given}"
        nbformat.write(notebook, path)
        done = in_folder(LAYOUT.root, environment, "jupyter", "execute", "--inplace", path)
        assert done.returncode == 0, done.stderr[-3000:]
        if local():
            break
        assert "Made here: 0 runs" in stated(path) and "Missing: 1 runs" in stated(path)
        assert stated(path).endswith("The same line goes on.")
        assert "the time is over with 1 runs left; the same line goes on" in printed(path)
    assert call > 1 and len(local("interrupted")) == call - 1
    [record] = local()
    ends = [attempt["to_step"] for attempt in record["attempts"]]
    assert len(ends) == call and 0 < ends[0] < record["steps"], "it was stopped in mid-run"


@pytest.mark.slow
def test_what_cannot_be_made_fails_the_page_when_the_rest_is_made_and_shown(environment, tmp_path):
    mine = file_of_runs(tmp_path, seeds=[0])
    told = yaml.safe_load(mine.read_text())
    absent = {"model": "vit_cifar", "dataset": "cifar10", "recipe": "smoke", "image_size": 32}
    mine.write_text(yaml.safe_dump({"runs": [absent, *told["runs"]]}))
    environment["ASTROFORMER_DATA"] = str(tmp_path / "no-data")
    asked = dict(dataset="galaxies", make_missing="true", runs_file="mine.yml")
    done = papermill("results", tmp_path, environment, **asked)
    assert done.returncode == 1 and len(local()) == 1
    last = done.stderr.rstrip().splitlines()[-1]
    assert "NotMade: 1 run could not be made: mine (vit_cifar, smoke, seed 0): " in last
    assert "astroformer data fetch cifar10" in last
    cells = code(tmp_path / "out.ipynb")
    assert all(cell.execution_count for cell in cells)
    assert [bool(cell.source.startswith("made.check()")) for cell in cells][-1]
    # -p models leaves it out
    done = papermill("results", tmp_path, environment, **asked, models="astroformer_pico")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_network_that_nobody_asks_for_stops_the_page_at_once(environment, tmp_path):
    done = papermill("results", tmp_path, environment, dataset="cifar100", models="astroformer_9")
    last = done.stderr.rstrip().splitlines()[-1]
    assert done.returncode == 1 and "asks for no run of astroformer_9; its networks are" in last


@pytest.mark.slow
def test_the_page_on_equivariance_trains_measures_and_shows_another_network(environment, tmp_path):
    asked = dict(make_missing="true", seeds=2, epochs=1, recipe="smoke", step=16, draws=20)
    done = papermill("equivariance", tmp_path, environment, image_size=32, **asked)
    assert done.returncode == 0, done.stderr[-3000:]
    assert stated(tmp_path / "out.ipynb").startswith("Made here: 2 runs in ")
    measured = causes.about(causes.read(), "astroformer_pico", local()[0]["run"])
    assert set(measured["seed"]) == {0, 1} and set(measured["data"]) == {"synthetic galaxies"}
    before = local()
    done = papermill("equivariance", tmp_path, environment, image_size=32, **asked)
    assert done.returncode == 0 and local() == before
    assert stated(tmp_path / "out.ipynb") == "Nothing is missing."


# What they call


def unit(run, label="one"):
    return Unit("mine", "runs", label, run, classes=3, group="a group")


@pytest.fixture
def small(tiny_folder, own_runs, monkeypatch):
    """A page that asks for some small runs, the last of which follows from the others."""
    runs = [small_run(tiny_folder, seed=seed, epochs=1) for seed in range(3)]

    def asked_by(page, parameters):
        units = [unit(run, str(run.seed)) for run in runs]
        found = answers(runs, records.read())
        units = tuple(replace(one, record=record) for one, record in zip(units, found))
        tuned = all(one.record for one in units[:2])
        return Asked(units if tuned else units[:2], 0 if tuned else 1)

    monkeypatch.setattr(on_page, "asked_by", asked_by)
    return runs


def test_what_follows_from_a_tuning_is_made_by_the_same_call(small):
    said = []
    before = on_page.runs("small", False, card="cpu")
    assert before.words.startswith("Missing: 2 runs: ") and "-p make_missing true" in before.words
    assert "1 further runs follow from the tuning" in before.words and not local()
    made = on_page.runs("small", True, report=said.append)
    assert made.words.startswith("Made here: 3 runs in ")
    assert made.words.endswith("Nothing is missing.") and len(local()) == 3
    assert said[0].startswith("Missing: 2 runs: ") and "1/1 mine, runs: 2" in said
    assert on_page.runs("small", True, report=silent).words == "Nothing is missing."
    made.check()


def test_a_record_that_does_not_answer_what_was_asked_ends_it_and_is_said(small, monkeypatch):
    asked_by = on_page.asked_by

    def never(page, parameters):
        found = asked_by(page, parameters)
        return Asked(tuple(replace(one, record=None) for one in found.units), 0)

    monkeypatch.setattr(on_page, "asked_by", never)
    made = on_page.runs("small", True, report=silent)
    assert "another version of this library" in made.words
    with pytest.raises(NotMade, match="could not be made: .*another version"):
        made.check()


def test_a_long_run_says_little(small, monkeypatch):
    assert make.make([unit(small[0])], device=CPU, report=silent, progress=silent).made
    passed, now = [], [0.0]
    monkeypatch.setattr(on_page.time, "monotonic", lambda: now[0])
    sparing = on_page._sparing(passed.append)
    for second in range(600):
        now[0] = float(second)
        sparing(f"epoch {second}")
    assert len(passed) == 9 and passed[0] == "epoch 60"


def test_cost_is_stated_for_the_card_that_is_named():
    for card, words in (("h100", "one H100 SXM"), ("cpu", "this machine's processor")):
        told = on_page.runs("spectral_blocks", False, card=card, study="spectral_blocks_xs")
        assert words in told.words and "GB of its memory" in told.words
    with pytest.raises(ValueError, match="card 'B200' is not known; choose RTX 3090"):
        on_page.runs("stability", False, card="B200", study_profile="gpu")


@pytest.mark.parametrize(
    "page, wrong, said",
    [
        ("variations", {"only": "few_images"}, "not of this page; choose attention_form"),
        ("stability", {"study_profile": "huge"}, "huge"),
        ("stability", {"hours": -1.0}, "give 0"),
        ("claims", {}, "no runs that could be missing"),
        ("results", {"dataset": "galaxies", "runs_file": "no.yml"}, "no.yml cannot be read"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_line(page, wrong, said):
    with pytest.raises(ValueError, match=said) as refused:
        on_page.runs(page, False, **wrong)
    assert "\n" not in str(refused.value)


# Equivariance


PAGE = dict(recipe="smoke", epochs=0, image_size=64, seed=0, seeds=3, checkpoint="")


def test_every_training_that_is_measured_and_committed_is_known_as_such():
    assert not moving.asked_by(PAGE | {"model": "astroformer_pico"}).missing
    assert len(moving.asked_by(PAGE | {"model": "astroformer_pico"}).units) == 15
    more = moving.asked_by(PAGE | {"model": "astroformer_pico", "seeds": 4}).missing
    assert {one.run.seed for one in more} == {3} and len(more) == 5
    other = moving.asked_by(PAGE | {"model": "astroformer_0", "seed": 7})
    assert [one.run.seed for one in other.missing] == [7, 8, 9]
    given = PAGE | {"model": "astroformer_0", "checkpoint": "a file"}
    assert not moving.asked_by(given).missing
    with pytest.raises(ValueError, match="seeds 0: give at least 1"):
        moving.asked_by(PAGE | {"model": "astroformer_0", "seeds": 0})


def test_what_is_measured_here_is_shown_beside_what_is_committed(
    tiny_folder, own_runs, monkeypatch
):
    monkeypatch.setattr(moving.trained, "FEW", 2)
    monkeypatch.setattr(moving, "IMAGES", 6)
    run = replace(small_run(tiny_folder, epochs=1), data_dir=str(tiny_folder))
    committed = len(causes.read())
    moving.measure(unit(run), fit(run, device=CPU, report=silent))
    found = causes.read()
    assert len(found) == committed + 1
    own = causes.about(found, "astroformer_pico", run.hash)
    assert list(own["run"]) == [run.hash] and list(own["data"]) == ["tiny"]
    assert run.hash in set(moving.trained.read()["run"])
    usual = causes.about(found, "astroformer_0", "no run")
    assert set(usual["model"]) == {"astroformer_pico"}
    assert answers([run], list(found["training"]))[0] is not None


def test_a_measurement_that_a_killed_process_left_torn_is_passed_over(own_runs, capsys):
    committed = len(causes.read())
    causes.local_folder().mkdir(parents=True)
    (causes.local_folder() / "torn.jsonl").write_text('{"run": "abc", "squ')
    assert len(causes.read()) == committed and "it is skipped" in capsys.readouterr().err


# Building the book


@pytest.fixture
def layout(tmp_path):
    layout = Layout()
    layout.profiles = tmp_path / "profiles.yml"
    layout.profiles.write_text("gpu: {stability: {make_missing: true, hours: 1}}\n")
    layout.build = tmp_path / "build"
    layout.local_ledger = tmp_path / "ledger"
    layout.local_ledger.mkdir()
    (layout.local_ledger / "one.jsonl").write_text("{}\n")
    return layout


def test_a_page_that_makes_what_it_lacks_comes_before_those_that_read_and_is_not_made_stale_by_it(
    layout,
):
    for profile, trains in (("gpu", True), ("smoke", False)):
        pages = list(plan(profile, layout))
        trained = [page.trains for page, _ in pages]
        assert trained == sorted(
            trained, reverse=True
        )  # pages that train come first, whatever the order of the contents
        [(page, parameters)] = [one for one in pages if one[0].name == "stability"]
        assert page.trains == trains and trained.count(True) >= 1 + trains
        shown = {name for name in inputs(layout, page, parameters)["ledger"] if "one.jsonl" in name}
        assert bool(shown) != trains


def test_a_page_is_executed_again_while_runs_are_missing(layout, monkeypatch, tmp_path, capsys):
    executed, missing = [], ["2 runs are missing", None]

    def copy_instead(layout, page, parameters, copy):
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(page.source.read_text())
        executed.append(page.name)
        return None, 0.0

    monkeypatch.setattr(run, "execute", copy_instead)
    monkeypatch.setattr(estimate, "lacking", lambda page, parameters: missing.pop(0))
    [one] = [one for one in plan("gpu", layout) if one[0].name == "stability"]
    for _ in range(3):
        run.Work(layout, State(layout.state("gpu")), "gpu", [one], False).page(0)
    assert executed == ["stability"] * 2
    said = capsys.readouterr().out
    assert "executing (2 runs are missing)" in said and "up to date" in said


def test_smoke_trains_nothing_that_is_missing():
    assert not any("make_missing" in parameters for _, parameters in plan("smoke", Layout()))
