"""The study of few images from records alone: its tables, its primary answer, and what a run that
diverged counts for.
"""

import numpy as np
import pandas as pd
import pytest
from made_up_runs import finished, record

from astroformer import contrasts, paths
from astroformer.data.tasks import TASKS
from astroformer.ledger import predictions
from astroformer.studies import few_images, tuning
from astroformer.studies.answers import NOT_RUN, SCALE, SUPPORTED, UNDECIDED, signed
from astroformer.studies.cells import once
from astroformer.studies.outcomes import answers_of, by_seed, difference

LOST = {"CCCT": 0, "CCTT": 3, "CTTT": 6, "CCCC": 1}  # points, against C-C-C-T
TWICE_TINY = ("twice", "tiny40")
MORE = {"low": 0, "middle": 10, "twice": 1, "untuned": -2, "larger": 2}


def accuracy(cell):
    if cell.stage == "tuning":
        return 40.0 - 1000 * abs(cell.settings["rate"] - 0.001)
    name = f"{cell.stage}{cell.task}{cell.seed}".encode()
    block = np.random.default_rng(list(name)).normal(0, 2)
    own = np.random.default_rng([*name, *cell.arm.encode()]).normal(0, 0.5)
    return 50 + MORE[cell.stage] + block + own - LOST.get(cell.arm, 2)


@pytest.fixture(scope="module")
def made():
    return finished(few_images, accuracy)


@pytest.fixture(scope="module")
def study(made):
    return few_images.result("cpu", made)


def test_the_tables_have_a_row_for_each_run(study, made):
    assert len(made) == len(study.cells) > 350
    table = study.table
    assert len(table) == sum(cell.stage != "tuning" for cell in study.cells)
    assert not table["diverged"].any() and table["value"].notna().all()
    confirmatory = [cell for cell in study.cells if cell.stage != "tuning"]
    for cell in (confirmatory[0], confirmatory[-90], confirmatory[-1]):
        row = table[table["run"] == study.found.of(cell)["run"]].iloc[0]
        assert (row["stage"], row["task"], row["arm"]) == (cell.stage, cell.task, cell.arm)
        assert row["value"] == pytest.approx(accuracy(cell))
        assert row["rate"] == cell.settings["rate"]
    assert study.stage("middle")["seed"].unique().tolist() == [10, 11, 12, 13, 14]
    assert study.seeds("low", "CCCT") == list(range(10, 18))
    assert study.seeds("larger", "CCTT") == [10, 11, 12]


def test_the_primary_answer_is_the_mean_over_the_tasks(study):
    found = study.difference("CCCT", "CCTT")
    pairs = {task: by_seed(study.stage("low"), task, ("CCCT", "CCTT"), "value") for task in TASKS}
    means = [(wide["CCCT"] - wide["CCTT"]).mean() for wide in pairs.values() if len(wide)]
    assert found.seeds.estimate == pytest.approx(np.mean(means)) == pytest.approx(3, abs=0.5)
    assert found.n == 24 and found.images is None and found.better is None
    assert study.primary.verdict == SUPPORTED and not study.primary.pilot
    assert study.primary.sentence.startswith(
        "At 1.2 million parameters and 32 to 48 pixels, with 20 to 50 images a class and rates "
        "tuned alike, C-C-C-T is better than C-C-T-T by "
    )
    assert study.primary.sentence.endswith(SCALE)


def test_the_forest_has_a_row_for_each_task_and_their_mean(study):
    table = study.forest()
    assert table.columns.tolist() == [
        *("data set", "against", "points", "low", "high", "low with images", "high with images"),
        *("seeds", "training, points", "training low", "training high", "P(better)", "pairs"),
    ]
    assert table["data set"].tolist() == 2 * [
        *(TASKS[task].title for task in study.design.tasks),
        "mean of 3",
    ]
    assert table["against"].tolist() == 4 * ["C-C-T-T"] + 4 * ["C-T-T-T"]
    mean = table.iloc[3]
    assert mean["points"] == pytest.approx(table["points"][:3].mean())
    assert len(mean["pairs"]) == 24 and mean["seeds"] == 8 and np.isnan(mean["P(better)"])
    one = table.iloc[0]
    assert one["P(better)"] > 0.5 and len(one["pairs"]) == 8
    paired = contrasts.mean(one["pairs"])
    assert (one["low"], one["high"]) == pytest.approx((paired.low, paired.high))
    assert table["low with images"].isna().all()


def test_accuracies_are_means_with_intervals(study):
    table = study.accuracies()
    assert table["runs"].eq(8).sum() == 3 * 4 and table["diverged"].sum() == 0
    first = study.stage("low").query("task == 'cifar100' and arm == 'CCCT'")["value"]
    interval = contrasts.mean(first)
    assert table["test (%)"][0] == (
        f"{interval.estimate:.1f} [{interval.low:.1f}, {interval.high:.1f}]"
    )
    assert table["estimate"][0] == pytest.approx(first.mean())


def test_the_curve_has_the_numbers_of_images(study):
    table = study.curve()
    numbers = {task: set(part["images"]) for task, part in table.groupby("task")}
    assert numbers["cifar100"] == {2000, 10_000} and numbers["galaxies3"] == {150, 450}
    assert set(table["arm"]) == {"CCCT", "CCTT", "CTTT"}


# The family of secondary comparisons


def test_the_family_counts_the_tests_of_the_other_designs(study):
    table = study.secondary().set_index("comparison")
    assert table.index.tolist() == [
        "C-C-C-T less C-T-T-T",
        "C-C-C-T less C-C-C-C (no attention)",
        "C-C-C-T less C-C-T-T, small less middle",
    ]
    # two of stability, one of the factorial, two of attention's form on two data sets: not made
    assert list(study.elsewhere.values()) == [1.0] * 7
    least = min(study.difference("CCCT", "CTTT").seeds.p, study.difference("CCCT", "CCCC").seeds.p)
    assert table["p (Holm)"].min() == pytest.approx(10 * least, rel=1e-6, abs=0)
    assert table["p (Holm)"].iloc[0] < 0.001 and table["p (Holm)"].iloc[2] > 0.5
    assert table["points"].iloc[0] == pytest.approx(6, abs=0.6)


def test_a_test_of_another_design_joins_with_its_own_p(study, monkeypatch):
    from astroformer.studies import augmentation

    found = contrasts.Contrast(-2.0, -3.0, -1.0, 1e-200, 2, 40.0, 0.5)
    monkeypatch.setattr(augmentation.Result, "more_on_galaxies", found)
    other = few_images.Result(study.design, study.profile, study.found, study.cells)
    assert other.elsewhere["regional dropout"] == 1e-200
    ours = other.secondary()["p (Holm)"].min(), study.secondary()["p (Holm)"].min()
    # one smaller p comes before it
    assert ours[0] == pytest.approx(ours[1] * 9 / 10, rel=1e-6, abs=0)


def test_comparisons_that_are_not_made_have_an_empty_row_and_count(made):
    early = [one for one in made if one["study"]["arm"] != "CCCC"]
    table = few_images.result("cpu", early).secondary().set_index("comparison")
    assert table.loc["C-C-C-T less C-C-C-C (no attention)"].isna().all()
    whole = few_images.result("cpu", made).secondary().set_index("comparison")
    name = "C-C-C-T less C-T-T-T"
    # the smallest of ten or one of two smaller ones: C-C-C-C is told apart less surely
    assert table.loc[name, "p (Holm)"] == pytest.approx(
        whole.loc[name, "p (Holm)"], rel=1e-6, abs=0
    )


def test_the_interaction_compares_the_seeds_that_both_sizes_have(study):
    found = study.interaction("CCCT", "CCTT")
    assert found.n == 15
    sets = []
    for task in study.design.tasks:
        low, middle = (
            by_seed(study.stage(stage), task, ("CCCT", "CCTT"), "value")
            for stage in ("low", "middle")
        )
        gap = (low["CCCT"] - low["CCTT"]).loc[10:14] - (middle["CCCT"] - middle["CCTT"])
        sets.append(gap.mean())
    assert found.estimate == pytest.approx(np.mean(sets)) and found.low < 0 < found.high
    assert study.interaction("CCCT", "CCCC") is None


# Pilots and parts


def test_the_seeds_that_are_there_are_a_pilot_until_all_are(made):
    def upto(last):
        return few_images.result("cpu", [one for one in made if one["seed"] in (100, *last)])

    three = upto(range(10, 13)).primary
    assert three.pilot and "3 of 8 seeds, 3 data sets" in three.sentence
    # a look before all seeds are in decides nothing, however clear it is
    assert three.sentence.startswith("Pilot: ") and three.verdict == UNDECIDED
    assert "The verdict waits for all seeds." in three.sentence and "better" not in three.sentence
    two = upto(range(10, 12)).primary
    assert two.verdict == UNDECIDED and "2 seeds decide nothing." in two.sentence
    assert upto([10]).primary.verdict == NOT_RUN
    none = few_images.result("cpu", [])
    assert none.primary.verdict == NOT_RUN and none.primary.pilot
    assert len(none.forest()) == 8 and len(none.secondary()) == 3 and not len(none.accuracies())


def test_a_task_that_lacks_runs_leaves_the_mean_open_and_not_the_others(made):
    part = few_images.result("cpu", [one for one in made if one["study"]["task"] != "tiny40"])
    table = part.forest()
    assert table["points"].notna().tolist() == [True, True, False, False] * 2
    assert part.primary.verdict == NOT_RUN


def test_each_stage_tells_its_own_scale(study):
    assert "and 64 pixels, with" in study.where("larger")
    assert study.where("untuned").endswith("images a class and one rate for all")
    assert study.where("twice").endswith("a class, 2 times the steps and rates tuned alike")
    assert "with 100 to 150 images a class" in study.where("middle")
    larger = study.answer("CCCT", "CCTT", "larger")
    assert "64 pixels" in larger.sentence and "3 seeds, 3 data sets" in larger.sentence


def test_the_primary_comparison_is_shown_beside_itself_on_the_same_seeds(study, made):
    table = study.elsewise().set_index("measured")
    assert list(table.index) == list(few_images.ELSEWISE.values())
    for stage, title in few_images.ELSEWISE.items():
        row = table.loc[title]
        assert row["data sets"] == 3 and row["seeds"] == len(study.seeds(stage, "CCTT"))
        shared = study.stage("low")["seed"].isin(study.seeds(stage, "CCTT"))
        low = difference(study.stage("low")[shared], "CCCT", "CCTT", study.design.tasks)
        there = study.difference("CCCT", "CCTT", stage)
        assert row["at first"] == pytest.approx(low.seeds.estimate)
        assert row["points"] == pytest.approx(there.seeds.estimate)
        assert row["moved"] == pytest.approx(row["points"] - row["at first"])
        assert row["low"] < row["moved"] < row["high"]
    other_way = study.interaction("CCCT", "CCTT")
    assert other_way.estimate == pytest.approx(-table.loc["more images", "moved"])
    one_set = [one for one in made if (one["study"]["stage"], one["study"]["task"]) != TWICE_TINY]
    part = few_images.result("cpu", one_set).elsewise().set_index("measured")
    assert part["data sets"].tolist() == [2, 3, 3, 3]
    assert not len(few_images.result("cpu", []).elsewise())


def test_the_check_of_the_design_says_whether_the_steps_decide(made, study):
    moved = study.elsewise().set_index("measured").loc["twice the steps", "moved"]
    assert abs(moved) < 1 and "That is met." in study.checked()
    assert f"by {signed(moved, 2)} points" in study.checked()

    def longer(cell):
        more = 3 * ((cell.stage, cell.arm) == ("twice", "CCCT"))
        return accuracy(cell) + more

    told = few_images.result("cpu", finished(few_images, longer)).checked()
    assert "to a larger difference" in told
    assert "That is not met: by the design the steps are to be doubled" in told
    assert "not measured yet" in few_images.result("cpu", []).checked()


def test_a_profile_with_its_own_seeds_counts_each_run_once():
    few = finished(
        few_images, accuracy, profile="gpu", skip=lambda cell: cell.stage in ("middle", "untuned")
    )
    study = few_images.result("gpu", few)
    assert len(study.cells) == len({(cell.stage, cell.key) for cell in study.cells})
    low = study.accuracies().query("arm in ['C-C-C-T', 'C-C-T-T']")
    assert low["runs"].eq(16).all() and study.difference("CCCT", "CCTT").n == 48
    progress = study.progress().set_index("stage")
    assert progress.loc["low", "runs"] == study.stage("low").shape[0]
    assert study.where("low").startswith("At ") and "64 pixels" in study.where("low")


# What was tuned, and what it took


def test_the_tuned_values_are_those_of_the_best_rate(study):
    table = study.tuned()
    tuned = {arm for part in study.design.order if part.stage == "tuning" for arm in part.arms}
    assert {"CCCT", "resnet18", "logistic", "spectformer"} < tuned
    assert len(table) == 3 * len(tuned) and table["learning rate"].eq(0.001).all()
    each = len(tuning.grid(study.design, study.profile)) + 2  # and the finalists
    assert table["runs"].eq(each).all() and not table["end of the grid"].any()
    runs = study.tuning_runs()
    assert len(runs) == 3 * len(tuned) * each and set(runs["part"]) == {0.25, 1.0}
    assert runs.loc[runs["rate"] == 0.001, "value"].eq(40.0).all() and not runs["diverged"].any()


def test_progress_adds_up_what_was_made(study, made):
    table = study.progress().set_index("stage")
    assert table["runs"].sum() == table["made"].sum() == len(study.cells)
    assert table["processor hours"].sum() == pytest.approx(len(made))  # each has two half hours
    half = few_images.result("cpu", [one for one in made if one["study"]["arm"] != "CTTT"])
    left = half.progress().set_index("stage")
    each = len(tuning.grid(study.design, study.profile)) + 2
    made_whole = left.loc["tuning", "made"]
    assert made_whole == table.loc["tuning", "made"] - 3 * each < left.loc["tuning", "runs"]


# Runs that diverged, and predictions


def test_a_run_that_diverged_counts_at_chance_and_is_told(made):
    def lost(cell):
        broken = (cell.stage, cell.arm, cell.seed) == ("low", "CCTT", 12)
        return None if broken and cell.task != "tiny40" else accuracy(cell)

    study = few_images.result("cpu", finished(few_images, lost))
    low = study.stage("low")
    broken = low[low["diverged"]]
    assert set(broken["task"]) == {"cifar100", "galaxies3"} and len(broken) == 2
    assert broken.set_index("task")["value"].to_dict() == pytest.approx(
        {"cifar100": 1.0, "galaxies3": 100 / 3}
    )
    assert broken["train"].tolist() == broken["value"].tolist()
    found = study.difference("CCCT", "CCTT")
    assert found.diverged == (0, 2) and found.seeds.estimate > 5
    without = study.difference("CCCT", "CCTT", diverged=False)
    assert without.n == 22 and without.seeds.estimate == pytest.approx(3, abs=0.5)
    assert "0 runs of C-C-C-T and 2 of C-C-T-T diverged and count at chance; without them the" in (
        study.primary.sentence
    )
    assert study.accuracies()["diverged"].sum() == 2
    # they are not made again
    assert all(study.found.of(cell) is not None for cell in study.cells)


def keep_predictions(study, stage="low", size=60):
    """Predictions of every run that agree with its accuracy as far as so few images can."""
    labels = {task: np.arange(size) % TASKS[task].classes for task in study.design.tasks}
    for row in study.stage(stage).to_dict("records"):
        if row["diverged"]:
            continue
        classes, own = TASKS[row["task"]].classes, labels[row["task"]]
        random = np.random.default_rng(list(row["run"].encode()))
        right = np.arange(size) < round(size * row["value"] / 100)
        random.shuffle(right)
        logits = np.eye(classes)[np.where(right, own, (own + 1) % classes)]
        predictions.write(row["run"], logits, own, range(classes), evaluated_on="test")


@pytest.fixture
def kept(own_runs, monkeypatch):
    monkeypatch.setattr(paths, "LEDGER", own_runs / "committed")
    (own_runs / "committed").mkdir()
    return own_runs


def test_predictions_give_the_interval_for_other_images_whole_and_compact(made, kept):
    study = few_images.result("cpu", made)
    keep_predictions(study)
    whole = study.forest(("CCTT",))
    assert (whole["low with images"] < whole["low"]).all()
    assert (whole["high with images"] > whole["high"]).all()
    low, high = whole.loc[3, ["low with images", "high with images"]]
    assert f"(95 % {signed(low)} to {signed(high)}; 8 seeds" in study.primary.sentence
    assert "for other seeds alone" not in study.primary.sentence
    for run in study.stage("low")["run"]:
        predictions.keep(run, compact=True)
        predictions.local(run).unlink()
    compact = study.forest(("CCTT",)).drop(columns="pairs")
    pd.testing.assert_frame_equal(compact, whole.drop(columns="pairs"))
    # the runs of C-T-T-T have theirs; without one run's there is no interval for images
    predictions.committed(study.stage("low").query("arm == 'CTTT'")["run"].iloc[0]).unlink()
    other = study.forest(("CTTT",))
    assert other["low with images"].isna().tolist() == [True, False, False, True]


def test_a_run_that_diverged_guesses_and_leaves_the_interval_for_images(made, kept):
    def lost(cell):
        broken = (cell.stage, cell.task, cell.arm, cell.seed) == ("low", "galaxies3", "CCTT", 12)
        return None if broken else accuracy(cell)

    study = few_images.result("cpu", finished(few_images, lost))
    keep_predictions(study)
    answers = answers_of(study.stage("low"), "galaxies3", "CCCT", "CCTT")
    guess = answers.correct_b[2]
    assert answers.balanced and 100 * guess.mean() == pytest.approx(100 / 3)
    assert [guess[answers.labels == label].mean() for label in range(3)] == [1, 0, 0]
    assert study.difference("CCCT", "CCTT").images is not None


def test_predictions_of_other_images_are_not_compared(made, kept):
    study = few_images.result("cpu", made)
    keep_predictions(study)
    low = study.stage("low")
    assert answers_of(low, "cifar100", "CCCT", "CCTT") is not None
    run = low.query("task == 'cifar100' and arm == 'CCTT'")["run"].iloc[3]
    one = predictions.read(run)
    logits = np.eye(100)[one.predicted]
    for labels, split in ((one.labels, "validation"), (one.labels[::-1], "test")):
        predictions.write(run, logits, labels, one.classes, evaluated_on=split)
        assert answers_of(low, "cifar100", "CCCT", "CCTT") is None


def test_a_task_without_numbers_of_the_training_images_has_no_difference_there(made):
    table = few_images.result("cpu", made).stage("low").copy()
    table.loc[table["task"] == "tiny40", "train"] = np.nan
    found = difference(table, "CCCT", "CCTT", ("cifar100", "tiny40"))
    assert np.isnan(found.train.estimate) and np.isfinite(found.seeds.estimate)
    assert found.n == 16


def test_a_run_whose_number_is_missing_diverged(made):
    cell = next(cell for cell in few_images.result("cpu", made).cells if cell.stage == "low")
    other = record(cell, metrics={TASKS[cell.task].metric: None})
    study = few_images.result("cpu", [*made[:1], other, *made])
    assert study.found.of(cell)["metrics"]["top1"] is not None  # the newer one counts
    alone = few_images.outcomes([cell], few_images.Found([other]))
    assert alone["diverged"].tolist() == [True] and alone["value"].tolist() == [1.0]
    assert once([cell, cell]) == (cell,)
