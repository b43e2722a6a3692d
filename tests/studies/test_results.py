"""A data set's results page: everything that it calls, for every data set, on the committed
ledger and on made-up records.
"""

import re
from dataclasses import asdict, replace

import numpy as np
import pytest

from astroformer import paths
from astroformer.batch import shown
from astroformer.counting.cost import model_cost
from astroformer.counting.memory import gigabytes
from astroformer.data import DATASETS
from astroformer.data.tasks import TASKS
from astroformer.figures import results as figures
from astroformer.ledger import claims, predictions, records
from astroformer.recipes import get_recipe
from astroformer.reproduce import Layout
from astroformer.reproduce.pages import copies
from astroformer.studies import design, missing, results, studies
from astroformer.studies.asked import subjects as subjects_of_pages
from astroformer.studies.lacking import hours_in_words, not_run
from astroformer.training import memory

CLAIMS = claims.read()
COMMITTED = records.read(paths.LEDGER)
SMOKE = asdict(get_recipe("smoke"))
# One with claims alone, one with records and predictions; `make book` executes the others, too.
USUAL = ("cifar100", "galaxyzoo1")
subjects = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in USUAL else pytest.mark.slow)
        for name in results.SUBJECTS
    ],
)


def record(
    seed=0,
    *,
    title="CIFAR-10",
    source="cifar10",
    kind="real",
    name="cifar10",
    evaluated_on="test",
    top1=50.0,
    **changes,
):
    """What a run leaves in the ledger, as far as the pages read it."""
    history = [
        {"epoch": epoch, "top1": top1 * epoch / 2, "balanced_accuracy": top1 * epoch / 2}
        for epoch in (1, 2)
    ]
    return (
        dict.fromkeys(records.FIELDS)
        | dict(
            run=f"{name}{seed}{top1:g}",
            status="completed",
            model="astroformer_3",
            stack="CCCT",
            options={},
            image_size=224,
            fraction=1.0,
            recipe=asdict(get_recipe("readme")),
            seed=seed,
            epochs=2,
            selection="last epoch",
            metrics={
                "top1": top1 + seed,
                "top5": 99.0,
                "balanced_accuracy": top1,
                "ece": 3.0,
                "nll": 1.0,
            },
            history=history,
            seconds=1800.0,
            images_per_second=1000.0,
            device="A Card",
            world_size=2,
            precision="bfloat16",
            started=f"2026-01-0{seed + 1}T00:00:00+00:00",
            dataset=dict(
                name=name,
                title=title,
                kind=kind,
                sha256="0",
                source=source,
                train=50_000,
                test=10_000,
                evaluated_on=evaluated_on,
            ),
            origin="committed",
        )
        | changes
    )


def test_every_subject_has_a_page_and_every_page_a_subject():
    assert [page.given["dataset"] for page in copies(Layout()).values()] == list(results.SUBJECTS)
    with pytest.raises(
        ValueError, match="no page is about the data set 'cifar'; choose one of cifar10, "
    ):
        results.subject("cifar")


@subjects
def test_every_page_has_its_tables_and_figures_from_the_committed_ledger(name):
    groups = results.groups(name, results.of(name, COMMITTED))
    best = results.chosen(groups, COMMITTED)
    assert "pixels" in results.facts(name).loc["own size", ""] and results.standing(name).endswith(
        "."
    )
    reported = results.reported(name, CLAIMS, records.frame(COMMITTED))
    assert (len(reported) > 0) == (
        DATASETS.get(name, results.subject(name)).title in claims.DATASETS
    )
    lacking = not_run(name, CLAIMS, COMMITTED)
    assert len(results.measured(groups)) == len(groups)
    hours = lacking["hours"].str.removeprefix("~").str.replace(",", "")
    assert (lacking["PFLOP"] > 0).all() and (hours.astype(float) > 0).all()
    told = hours_in_words(lacking)
    assert ("H100 SXM" in told) == (len(lacking) > 0)
    assert ("`~`" in told) == lacking["hours"].str.startswith("~").any()
    assert results.described(best, name).endswith(".") and "ASTROFORMER_DATA" in results.no_plate(
        name
    )
    shown = [results.watched(groups, images) for images in ("validation", "test")]
    assert sum(map(len, shown)) == len(groups)
    for some in shown:
        assert not some or len(figures.learning(some).axes) == 2
    if best:
        assert "Guessing would reach" in results.described(best, name)
        assert results.per_class(best)["images"].sum() == len(best.seeds[0])
        assert results.confused(best)["images"].max() <= best.confusion.max()
        assert (
            len(figures.confusion(best.confusion, best.classes).axes) == 1
            and len(figures.reliability(best.seeds).axes) == 2
        )
        assert predictions.metrics(best.seeds[0])["top1"] == pytest.approx(
            best.records[0]["metrics"]["top1"], abs=0.25
        )


def test_pages_lead_to_the_study_that_trains_on_parts_of_their_images():
    tasks = [TASKS[name].derivation.source for name in design.read("few_images").tasks]
    known = [name.replace("_", "-") for name in results.STUDIED]
    assert len(tasks) == len(known)
    assert all(task.startswith(name) for task, name in zip(tasks, known))
    for name in results.SUBJECTS:
        assert ("few_images.html" in results.standing(name)) == (name in results.STUDIED)


def test_some_committed_runs_have_predictions_that_a_page_shows():
    assert results.chosen(results.groups("galaxies", results.of("galaxies", COMMITTED)), COMMITTED)


@subjects
def test_a_missing_run_is_named_by_its_own_command_and_costs_what_its_images_cost(name):
    asked, lacking = missing.asked_for(name, CLAIMS), not_run(name, CLAIMS, [])
    classes = results.subject(name).classes
    for run, row in zip(asked, lacking.to_dict("records"), strict=True):
        words, needed = memory.on_a_card(run, classes=classes)
        assert row["command"] == " ".join([run.command(located=True), *words])
        assert needed.most <= memory.CARD and row["GB"] == gigabytes(needed.total)
    assert len(set(asked)) == len(asked)
    row = results.subject(name)
    for run, pflop in zip(asked, lacking["PFLOP"]):
        assert results.named(name) in run.command(located=True)
        assert run.recipe.batch_size <= row.train, "the loop refuses a larger batch"
        # closed forms of an image, the backward pass twice the forward one
        counted = model_cost(
            run.model, image_size=run.image_size, num_classes=row.classes, **dict(run.options)
        )
        images = run.recipe.steps * run.recipe.batch_size or run.recipe.epochs * row.train
        assert pflop == pytest.approx(6 * counted["macs"] * images / 1e15, rel=0.02)


def test_a_planned_run_on_one_gpu_is_told_from_the_published_one_with_its_network():
    lacking = not_run("cifar100", CLAIMS, [])
    of_three = lacking[lacking["model"] == "astroformer_3"]["recipe"].tolist()
    assert of_three == ["readme", "readme, 128 images a step"]
    stacks = not_run("tiny_imagenet", CLAIMS, [])["model"].tolist()
    assert {"astroformer_3", "astroformer_3 CCTT", "astroformer_3 CTTT"} <= set(stacks)


def test_a_stack_of_a_planned_study_is_missing_until_it_is_run_itself():
    run = studies.get_study("tiny_imagenet").variations["astroformer_0, C-C-T-T"]
    whole = dict(title="Tiny ImageNet", source="tiny_imagenet", name="tiny_imagenet")

    def lacking(options, stack):
        one = record(
            **whole,
            model=run.model,
            image_size=64,
            recipe=asdict(run.recipe) | {"preprocessing": "network"},
            options=options,
            stack=stack,
        )
        one["dataset"] |= {"train": 100_000}
        return not_run("tiny_imagenet", CLAIMS, [one])["model"].tolist()

    every = not_run("tiny_imagenet", CLAIMS, [])["model"].tolist()
    made = lacking({"stack": "CCTT"}, "CCTT")
    assert set(every) - set(made) == {"astroformer_0 CCTT"} and len(made) == len(every) - 1
    assert set(every) - set(lacking({}, "CCCT")) == {"astroformer_0"}


def test_a_published_run_is_missing_until_a_whole_record_of_it_is_there():
    asked = ("astroformer_3", "readme", 224)

    def lacking(*found):
        return asked in set(
            not_run("cifar10", CLAIMS, list(found))[["model", "recipe", "pixels"]].itertuples(
                index=False, name=None
            )
        )

    assert lacking() and not lacking(record())
    assert (
        lacking(record(fraction=0.1))
        and lacking(record(evaluated_on="validation"))
        and lacking(record(status="failed"))
    )
    assert lacking(record(options={"stack": "CCTT"})) and lacking(record(init={"file": "last.pt"}))
    assert lacking(record(title="CIFAR-10 (5 of 10 classes)"))


def test_hours_of_a_missing_run_are_those_of_the_page_of_all_missing_runs():
    """One rule for both: a page that says "not known" beside another's hours answers nobody."""
    for card in ("H100 SXM", "RTX 4090"):
        of_all = shown.Missing.on([card]).needed
        for page, name in subjects_of_pages().items():
            own = not_run(name, CLAIMS, records.read(), card)["hours"].tolist()
            assert all(re.fullmatch(r"~?(\d{1,3}(,\d{3})*|\d?\.\d+|\d\.\d)", one) for one in own), (
                own
            )
            needed = [one.hours for one in of_all.get(page, {}).get(card, [])]
            assert [float(one.strip("~").replace(",", "")) for one in own] == [
                pytest.approx(one, rel=0.05) for one in needed
            ], (page, card)
    assert not_run("cifar10", CLAIMS, [], "cpu").equals(not_run("cifar10", CLAIMS, []))
    with pytest.raises(ValueError, match="card 'abacus' is not known"):
        not_run("cifar10", CLAIMS, [], "abacus")


def test_a_part_of_a_data_set_belongs_to_its_page_under_its_own_name():
    part = record(title="CIFAR-10 (2 of 10 classes)", recipe=SMOKE)
    groups = results.groups(
        "cifar10",
        results.of(
            "cifar10", [part, record(source="cifar100", name="cifar100", title="CIFAR-100")]
        ),
    )
    assert (
        results.measured(groups)["data set"].tolist() == ["CIFAR-10 (2 of 10 classes)"]
        and "2 of 10 classes" in groups[0].label
    )
    reported = results.reported("cifar10", CLAIMS, records.frame([part])).set_index("network")
    assert not reported["verdict"].isin(["reproduced", "contradicted"]).loc["astroformer_3"]


def test_runs_of_a_study_with_a_design_stand_on_no_results_page(own_runs):
    study = {"name": "few_images", "design": "0" * 12}
    own = [record(seed) for seed in range(3)]
    # one of them is the very run of another record, newer and with predictions
    asked = [record(seed, top1=20.0, study=study) for seed in (3, 4)]
    asked.append(own[0] | {"study": study, "started": "2026-02-01T00:00:00+00:00", "run": "again"})
    for one in own + asked:
        keep(one, 4)
    pages = [results.groups("cifar10", found) for found in (own, own + asked)]
    alone, both = (results.measured(groups) for groups in pages)
    assert both.equals(alone) and both["top-1 (%)"].tolist() == ["51.00 ± 2.48 (3), pilot"]
    best = results.chosen(pages[1], own + asked)
    assert [one["run"] for one in best.records] == [one["run"] for one in own]
    # and what a study made in passing is still asked for
    left = [len(not_run("cifar10", CLAIMS, found)) for found in ([], asked, own)]
    assert left[0] == left[1] == left[2] + 1


def test_images_of_a_folder_are_told_apart_by_the_name_of_their_data_set():
    folders = [
        record(
            source="folder",
            name="cifar10-jpeg",
            title="CIFAR-10 (JPEG re-encode)",
            kind="re-encoded",
        ),
        record(source="folder", name="holiday", title="holiday"),
    ]
    assert [r["dataset"]["name"] for r in results.of("cifar10_jpeg", folders)] == ["cifar10-jpeg"]
    assert results.of("cifar10", folders) == [] and results.of("galaxyzoo1", folders) == []


def test_seeds_are_averaged_and_hours_are_those_of_the_device():
    groups = results.groups(
        "cifar10",
        [record(seed) for seed in range(3)]
        + [
            record(
                top1=70,
                recipe=SMOKE,
                device="A Chip, 4 threads",
                world_size=1,
            )
        ],
    )
    table = results.measured(groups)
    assert table["top-1 (%)"].tolist() == ["51.00 ± 2.48 (3), pilot", "70.00 (1), pilot"], (
        "most runs stand first, and not the best"
    )
    assert table["all seeds"].tolist() == ["3.00 GPU-hours", "2.00 CPU-hours"] and table[
        "hours a run"
    ].tolist() == ["0.50", "0.50"]
    assert results.curves(groups[0], "top1").loc[2].tolist() == [50, 50, 50]


def test_a_group_made_on_two_devices_names_both_and_adds_up_their_hours():
    again = dict(origin="local", started="2026-01-09T00:00:00+00:00")
    found = [
        record(0),
        record(1, device="A Chip, 4 threads", world_size=1),
        record(2) | again,  # the one below is older, and of the same run
        record(2),
    ]
    [group] = results.groups("cifar10", found)
    row = results.measured([group]).iloc[0]
    assert row["top-1 (%)"] == "51.00 ± 2.48 (3), pilot"
    assert row["device"] == "A Card, A Chip, 4 threads" and row["record"] == "committed, local"
    assert row["all seeds"] == "2.00 GPU-hours, 2.00 CPU-hours"


def test_two_recipes_of_one_name_are_two_groups_whose_labels_say_the_difference():
    other = asdict(replace(get_recipe("readme"), learning_rate=0.5))
    found = [record(), record(1, top1=40.0), record(top1=30.0, recipe=other)]
    groups = results.groups("cifar10", found)
    assert [len(group.rows) for group in groups] == [2, 1]
    assert groups[1].label.endswith("224 pixels, learning_rate=0.5")
    assert results.measured(groups)["recipe"].str.endswith("learning_rate=0.5").tolist() == [
        False,
        True,
    ]
    assert results.groups("cifar10", found[:2])[0].label == (
        "astroformer_3, readme (revision 1), 224 pixels"
    )


def test_an_evaluation_that_was_not_finite_is_left_out_of_means_and_curves():
    burst = record(1)
    burst["metrics"] = dict.fromkeys(burst["metrics"])
    burst["history"][1] = {"epoch": 2, "top1": None, "balanced_accuracy": None}
    groups = results.groups(
        "cifar10", [record(0), burst, record(run="s", recipe=SMOKE, metrics={})]
    )
    assert results.measured(groups)["top-1 (%)"].tolist() == ["50.00 (1), pilot", "not run"]
    assert results.curves(groups[0], "top1").loc[2].tolist() == [50, 50, 50]
    assert len(figures.learning(groups).axes) == 2


def galaxies(*seeds, **changes):
    return [
        record(
            seed,
            source="galaxies",
            name="galaxies",
            title="synthetic galaxies",
            kind="synthetic",
            **{"image_size": 32} | changes,
        )
        for seed in seeds
    ]


def keep(found, wrong):
    """Predictions of a record on 40 images of which so many, from the first, are wrong."""
    labels = np.arange(40) % 10
    logits = np.eye(10)[(labels + (np.arange(40) < wrong)) % 10]
    predictions.write(
        found["run"], logits, labels, results.galaxies.CLASS_NAMES, evaluated_on="test"
    )


def test_the_first_group_with_predictions_is_shown_with_all_its_seeds(own_runs):
    found = galaxies(0, 1) + galaxies(0, top1=90, recipe=SMOKE)
    keep(found[0], 4)
    keep(found[1], 8)
    groups = results.groups("galaxies", found)
    best = results.chosen(groups, found)
    assert best.group is groups[0]
    assert best.confusion.sum() == 80 and best.confusion.trace() == 80 - 4 - 8
    assert "by 2 of its 2 runs (seed 0, 1)" in results.described(best, "galaxies")
    images = results.pictures(best, "galaxies", number=2)
    assert [image.shape for image in images] == [(32, 32, 3)] * 2
    assert len(figures.plate(results.mistakes(best, 2), images).axes) == 3


def test_no_accuracy_decides_which_group_is_shown_or_in_which_order(own_runs):
    plans = (
        galaxies(0, 1, run=None),
        galaxies(0, recipe=SMOKE, run=None),
        galaxies(0, model="vit_cifar", run=None),
        galaxies(0, options={"stack": "CCTT"}, run=None),
        galaxies(0, recipe=SMOKE | {"name": "smoke+hflip=0.0", "hflip": 0.0}, run=None),
    )
    orders = []
    for accuracies in ((90, 80, 70, 60, 50), (50, 60, 70, 80, 90)):
        found = []
        for number, (plan, top1) in enumerate(zip(plans, accuracies)):
            for one in plan:
                metrics = one["metrics"] | {"top1": top1, "balanced_accuracy": top1}
                found.append(one | {"metrics": metrics, "run": f"{number}{one['seed']}"})
                keep(found[-1], number)
        groups = results.groups("galaxies", found[::-1] if orders else found)
        orders.append([group.label for group in groups])
        assert results.chosen(groups, found).group is groups[0]
    assert orders[0] == orders[1] and len(orders[0]) == 5
    assert orders[0][0].startswith("astroformer_3, readme"), "the one of two runs"
    assert "vit_cifar" in orders[0][-1]
    assert orders[0][2].startswith("astroformer_3, smoke+hflip=0.0")


def test_a_group_of_which_more_runs_left_predictions_is_shown_before_one_of_more_runs(own_runs):
    found = galaxies(0, 1, 2) + galaxies(0, 1, top1=20, recipe=SMOKE)
    for one in (found[0], *found[3:]):
        keep(one, 4)
    best = results.chosen(results.groups("galaxies", found), found)
    assert len(best.group.rows) == 2 and len(best.seeds) == 2
    assert results.chosen(results.groups("galaxies", found[1:3]), found) is None


def test_recall_has_an_interval_for_other_images_and_is_never_exact(own_runs):
    """Of three seeds that all miss a rare class, what is known is the rare class's few images."""
    labels = np.r_[np.zeros(100, int), np.ones(23, int)]
    found = galaxies(0, 1, 2)
    draw = np.random.default_rng(0)
    for one in found:
        said = np.where(draw.random(123) < 0.8, 0, 2)  # never the rare class
        predictions.write(one["run"], np.eye(3)[said], labels, "abc", evaluated_on="test")
    best = results.chosen(results.groups("galaxies", found), found)
    table = results.per_class(best).set_index("class")
    assert table.loc["b", "recall (%)"] == "0.0 (3)" and table.loc["b", "95 %"] == "0.0 to 14.3"
    low, high = map(float, table.loc["a", "95 %"].split(" to "))
    assert low < 75 < 80 < high < 95
    assert table.loc["c", ["recall (%)", "95 %"]].tolist() == ["", ""], "a class without images"
    assert not table["recall (%)"].str.contains("±").any()


def test_the_calibration_error_of_a_calibrated_network_is_what_few_images_show(own_runs):
    draw = np.random.default_rng(1)

    def network(images):
        sure = draw.uniform(0.5, 1, images)
        right = draw.random(images) < sure
        logits = np.log(np.stack([sure, 1 - sure], 1))
        return predictions.of_logits(
            "", logits, np.where(right, 0, 1), ("a", "b"), evaluated_on="test"
        )

    few, many = network(200), network(20_000)
    assert results.ece_if_calibrated(few) > 5 * results.ece_if_calibrated(many)
    for one in (few, many):
        # itself calibrated: its own error is one such draw
        assert predictions.metrics(one)["ece"] == pytest.approx(
            results.ece_if_calibrated(one), rel=0.7
        )
    found = galaxies(0)
    keep(found[0], 4)
    best = results.chosen(results.groups("galaxies", found), found)
    assert "on 40 images (mean of 200 draws)" in results.calibration(best)


def test_the_interval_for_other_images_stands_where_predictions_are_kept(own_runs):
    found = galaxies(0, 1, 2)
    column = "balanced: 95 % seeds x images"
    groups = results.groups("galaxies", found)
    assert results.measured(groups)[column].tolist() == [""]
    for wrong, one in zip((4, 8, 6), found):
        keep(one, wrong)
    assert " to " in results.measured(groups)[column].item()


def test_curves_are_of_held_out_images_where_a_run_held_some_out():
    kept = record(1, recipe=SMOKE)
    kept["dataset"] = kept["dataset"] | {"validation": 0.1}  # and evaluated on test once
    found = [record(), kept, record(2, evaluated_on="validation", model="vit_cifar")]
    groups = results.groups("cifar10", found)
    held_out, on_test = (results.watched(groups, images) for images in ("validation", "test"))
    assert [group.rows["seed"].item() for group in on_test] == [0]
    assert sorted(group.rows["seed"].item() for group in held_out) == [1, 2]
    with pytest.raises(ValueError, match="Curves on test and validation images are no figure"):
        figures.learning(groups)


def test_images_that_are_not_at_hand_or_others_than_the_runs_give_no_plate(
    own_runs, tiny_folder, monkeypatch
):
    monkeypatch.setenv("ASTROFORMER_DATA", str(own_runs / "nowhere"))
    found = [
        record(
            source="folder",
            name="cifar10-jpeg",
            title="CIFAR-10 (JPEG re-encode)",
            kind="re-encoded",
            image_size=32,
        )
    ]
    labels = np.repeat([0, 1, 2], 8)  # as in the folder
    predictions.write(
        found[0]["run"], np.eye(3)[(labels + 1) % 3], labels, "abc", evaluated_on="test"
    )
    best = results.chosen(results.groups("cifar10_jpeg", found), found)
    assert results.pictures(best, "cifar10_jpeg") is None
    assert "the folder cifar10-jpeg below ASTROFORMER_DATA" in results.no_plate("cifar10_jpeg")
    (own_runs / "data").mkdir()
    (own_runs / "data" / "cifar10-jpeg").symlink_to(tiny_folder)
    monkeypatch.setenv("ASTROFORMER_DATA", str(own_runs / "data"))
    assert len(results.pictures(best, "cifar10_jpeg", number=3)) == 3
    predictions.write(found[0]["run"], np.eye(3)[labels], labels[::-1], "abc", evaluated_on="test")
    other = results.chosen(results.groups("cifar10_jpeg", found), found)
    assert results.pictures(other, "cifar10_jpeg") is None, (
        "labels in another order: these are not the images of the run"
    )


def test_of_very_many_classes_the_worst_are_listed_and_no_matrix_is_drawn(own_runs):
    found, classes = [record()], [f"class {k}" for k in range(40)]
    labels = np.repeat(np.arange(40), 2)
    predictions.write(
        found[0]["run"],
        np.eye(40)[np.where(labels == 7, 8, labels)],
        labels,
        classes,
        evaluated_on="test",
    )
    best = results.chosen(results.groups("cifar10", found), found)
    table = results.per_class(best, number=5)
    assert len(table) == 5 and table.iloc[0][
        ["class", "recall (%)", "95 %", "most often taken for"]
    ].tolist() == ["class 7", "0.0 (1)", "0.0 to 65.8", "class 8"]
    assert "40 classes cannot be read" in results.no_matrix(best)
