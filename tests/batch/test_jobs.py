"""Runs become jobs: each run in one, alike runs together, no job without need; a plan that is made
again changes only what has changed.
"""

import json

import pytest
from batch_of_runs import options, planned

from astroformer.batch import jobs, plan
from astroformer.batch.jobs import Options, jobs_of, plain, unit_of
from astroformer.studies import asked, price
from astroformer.studies.needs import MEASURED, Needs


class Fixed:
    """An estimator that says the same of each run."""

    def __init__(self, seconds):
        self.seconds = seconds

    def of(self, unit):
        return Needs(
            seconds=self.seconds,
            how=MEASURED if self.seconds else "",
            memory=10**9,
            host_memory=4 * 10**9,
            disk=10**6,
            running=10**7,
            kwh=None,
        )


@pytest.fixture(scope="module")
def units():
    return asked.asked(["stability", "table_vit_cifar"], "gpu", known=[]).units


@pytest.mark.parametrize("seconds", [1.0, 100.0, 1000.0, 10_000.0, 10**6, None])
def test_every_run_is_in_one_job_and_short_ones_share_it(units, seconds):
    found = list(jobs_of(units, Fixed(seconds), Options()))
    keys = [told["key"] for job in found for told in job["units"]]
    assert keys == [unit.key for unit in units]
    assert len({job["name"] for job in found}) == len(found)
    for job in found:
        assert len({told["study"] for told in job["units"]}) == 1
        if seconds and len(job["units"]) > 1:
            assert job["seconds"] <= 2 * Options().bundle
    if seconds == 1.0:
        assert len(found) < 5
    if seconds is None or seconds >= 10_000:
        assert len(found) == len(units)


@pytest.mark.parametrize("hours", [1, 30, 100, 10_000])
def test_a_run_gets_gpus_until_it_fits_the_longest_job(units, hours):
    how = Options()
    for job in jobs_of(units[:4], Fixed(3600.0 * hours), how):
        run = unit_of(job["units"][0]).run
        parts = -(-run.recipe.batch_size // run.recipe.images_at_once)
        assert 1 <= job["gpus"] <= min(parts, how.most_gpus)
        assert job["runtime"] * 60 <= how.longest + 60


def test_a_job_holds_its_runs_in_full(units):
    others = asked.asked(["few_images", "results", "spectral_blocks"], "paper", known=[]).units
    for unit in (*units, *others):
        again = unit_of(json.loads(json.dumps(plain(unit))))
        assert again.run == unit.run and again.key == unit.key
        assert dict(again.told or {}) == dict(unit.told or {})


def test_a_plan_that_is_made_again_is_the_same(own_runs, tmp_path):
    batch, told = planned(tmp_path / "own", seeds=(0, 1, 2))
    before = {path.name: path.read_text() for path in batch.folder.glob("jobs/*.json")}
    _, again = planned(tmp_path / "own", seeds=(0, 1, 2))
    after = {path.name: path.read_text() for path in batch.folder.glob("jobs/*.json")}
    assert told == again and before == after


def test_runs_that_are_asked_for_beside_others_leave_the_others_jobs_as_they_are(
    own_runs, tmp_path
):
    batch, told = planned(tmp_path / "own", seeds=(0, 1))
    _, more = planned(tmp_path / "own", seeds=(0, 1, 2))
    assert set(told["jobs"]) < set(more["jobs"])
    keys = [one["key"] for name in more["jobs"] for one in batch.read_job(name)["units"]]
    assert len(keys) == len(set(keys)) == 3


def test_a_plan_counts_every_run_once_and_says_what_it_cannot_estimate():
    told = options("--profile", "gpu", "--study", "few_images,results_cifar100", "--card", "h200")
    found, estimator = plan.asked_of(told), plan.estimator_of(told)
    rows = plan.table(found, estimator)
    assert rows["runs"].sum() == len(found.units)
    assert (rows["runs"] == rows["in_ledger"] + rows["missing"]).all()
    said = plan.summary(found, rows, estimator, plan.options_of(told))
    assert said["runs"] == said["in_ledger"] + said["missing"]
    assert said["rough"] + said["unknown"] <= said["missing"]
    assert said["longest_job_hours"] <= said["device_hours"]
    assert any("rough" in line for line in plan.lines(said)) == bool(said["rough"])


@pytest.mark.parametrize(
    "text, why",
    [
        ("runs: [", "not YAML"),
        ("runs: []", "does not list its `runs`"),
        ("- 1", "does not list its `runs`"),
        ("runs: [{model: astroformer_pico}]", "run 1 does not say its model, dataset and recipe"),
        (
            "runs: [{model: astroformer_pico, dataset: galaxies, recipe: smoke, sedes: [1]}]",
            "'sedes', which is not known",
        ),
        (
            "runs: [{model: astroformer_pico, dataset: galaxies, recipe: smoke, seeds: 1}]",
            "`seeds` is no list",
        ),
        ("runs: [{model: resnet, dataset: galaxies, recipe: smoke}]", "resnet"),
        (
            "runs: [{model: astroformer_pico, dataset: galaxies, recipe: smoke, set: {epoch: 1}}]",
            "no field 'epoch'",
        ),
        ("pages: 3\nruns: [{model: vit_cifar, dataset: svhn, recipe: vit_cifar}]", "`pages`"),
    ],
)
def test_a_file_of_runs_that_is_wrong_is_refused_in_one_line(tmp_path, text, why):
    path = tmp_path / "own.yml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        asked.asked([str(path)], known=[])
    assert why in str(caught.value) and "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_names_that_are_not_known_are_refused_with_those_that_are():
    with pytest.raises(ValueError, match="few_images"):
        asked.asked(["few_image"], known=[])
    with pytest.raises(ValueError, match="its networks are vit_cifar"):
        asked.asked(["table_vit_cifar"], models=["astroformer_3"], known=[])


def test_jobs_of_a_wave_are_none_of_the_next(own_runs, tmp_path):
    batch, told = planned(tmp_path / "own", seeds=(0, 1))
    _, later = planned(tmp_path / "own", seeds=(0, 1, 2), wave=1)
    assert not set(told["jobs"]) & set(later["jobs"])
    assert jobs.unit_of(batch.read_job(later["jobs"][0])["units"][0]).run.seed == 2


def test_runs_that_follow_from_tuning_are_counted_before_they_can_be_named():
    before = asked.asked(["few_images"], "gpu", known=[])
    assert before.unnamed > 0 and before.missing == before.units
    assert {unit.stage for unit in before.units} <= {"tuning", "untuned"}
    whole = price.price("few_images", "gpu").runs
    assert len(before.units) + before.unnamed == pytest.approx(whole, abs=whole * 0.02)
