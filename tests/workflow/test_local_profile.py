"""The workflow on one machine, two jobs at a time: twelve runs and pages become a book."""

import json

import pytest
from checkout_copy import BROKEN, Copy, twelve

PAGES = "results_galaxies,measured"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A copy in which the study of twelve runs was made, and what the first call said."""
    place = tmp_path_factory.mktemp("local")
    copy = Copy.of_checkout(place)
    copy.words = ("--profile", str(copy.root / "workflow/profiles/local"))
    study = copy.study("twelve", twelve())
    status, said = copy.call(study, pages=PAGES, bundle=0.02)
    assert status == 0, said
    return copy, study, said


@pytest.mark.slow
def test_every_run_is_made_once_in_jobs_that_have_a_ledger_file_each(made):
    copy, _, _ = made
    found = copy.completed()
    assert len(found) == 12 and all(len(records) == 1 for records in found.values())
    jobs = sorted(path.stem for path in copy.batch().glob("jobs/*.json"))
    files = sorted(path.name for path in copy.ledger.glob("*.jsonl"))
    assert len(jobs) > 1
    assert len(files) == len(jobs)
    assert all(file.startswith(job) for job, file in zip(jobs, files))


def test_every_job_leaves_its_page_its_log_and_its_benchmark(made):
    copy, _, _ = made
    names = [path.stem for path in copy.batch().glob("jobs/*.json")]
    for name in [*names, *PAGES.split(",")]:
        folder = "pages" if name in PAGES else "runs"
        told = json.loads((copy.batch() / folder / f"{name}.ipynb").read_text())
        code = [cell for cell in told["cells"] if cell["cell_type"] == "code"]
        assert all(cell["execution_count"] for cell in code if "".join(cell["source"]).strip())
        assert (copy.batch() / "logs" / f"{name}.log").stat().st_size
        lines = (copy.batch() / "benchmarks" / f"{name}.tsv").read_text().splitlines()
        assert float(dict(zip(*(line.split("\t") for line in lines)))["s"]) > 0


def test_the_book_shows_the_runs(made):
    copy, _, _ = made
    html = (copy.root / "_build/html/book/results_galaxies.html").read_text()
    assert "astroformer_pico" in html
    assert (copy.root / "_build/html/index.html").is_file()


def test_a_second_call_does_nothing(made):
    copy, study, _ = made
    status, said = copy.call(study, pages=PAGES, bundle=0.02)
    assert status == 0 and "Nothing to be done" in said, said


@pytest.mark.slow
def test_a_changed_recipe_makes_its_own_runs_and_the_pages_that_show_them(made):
    copy, study, _ = made
    before = {
        path: path.stat().st_mtime_ns
        for folder in ("runs", "pages")
        for path in (copy.batch() / folder).glob("*.ipynb")
    }
    study.write_text(twelve(epochs=3))
    status, said = copy.call(study, pages=PAGES, bundle=0.02)
    assert status == 0, said
    assert len(copy.completed()) == 15
    again = {path.stem for path, time in before.items() if path.stat().st_mtime_ns != time}
    # a job may hold runs that changed beside runs that did not; the latter are not made again
    assert again == {"results_galaxies"}
    assert all(len(records) == 1 for records in copy.completed().values())


@pytest.mark.slow
def test_a_page_that_fails_is_named_with_its_cell_and_the_others_go_on(made):
    copy, study, _ = made
    pages = f"{PAGES},claims"
    measured = copy.root / "book/measured.ipynb"
    measured.write_text(measured.read_text() + "\n")  # so that it is executed, too
    with copy.broken("claims"):
        status, said = copy.call(study, pages=pages, bundle=0.02)
    html = (copy.root / "_build/html/book/claims.html").read_text()
    assert status == 1 and BROKEN in html
    assert f"claims failed at cell In [3]: LookupError: {BROKEN}" in said
    assert "its executed copy: " in said and "its log: " in said
    assert (copy.root / "_build/executed/smoke/claims.ipynb").is_file()
    assert not (copy.batch() / "pages/claims.ipynb").exists()
    assert (copy.batch() / "pages/measured.ipynb").is_file()
    status, said = copy.call(study, pages=pages, bundle=0.02)
    assert status == 0, said
    assert "rule page" in said and said.count("rule page:") == 1
    assert not list(copy.batch().glob("failed/*.json"))
    assert BROKEN not in (copy.root / "_build/html/book/claims.html").read_text()
