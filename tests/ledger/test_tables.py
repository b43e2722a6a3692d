"""Tables: intervals, runs that failed, what is averaged and what not, what a row is called."""

import random
import re
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astroformer import paths
from astroformer.ledger import identity, predictions, records, tables
from astroformer.recipes import get_recipe
from astroformer.recipes import replace as changed

SMOKE, SMALL = get_recipe("smoke"), get_recipe("small")


def record(seed=0, top1=90.0, *, recipe=SMOKE, **changes):
    dataset = {
        "name": "x",
        "title": "CIFAR-10",
        "kind": "real",
        "sha256": "s" * 64,
        "note": "",
        "mirrored": [],
        "source": "folder",
        "train": 100,
        "test": 50,
        "evaluated_on": "test",
        "split_seed": None,
    } | changes.pop("dataset", {})
    plain = dict.fromkeys(records.FIELDS) | dict(
        run=f"{recipe.name} {seed} {changes}",
        status="completed",
        model="astroformer_3",
        stack="CCCT",
        options={},
        image_size=32,
        dataset=dataset,
        fraction=1.0,
        recipe=asdict(recipe),
        seed=seed,
        epochs=3,
        selection="last epoch",
        seconds=60.0,
        precision="float32",
        device="a card",
        metrics={"top1": top1, "balanced_accuracy": top1, "ece": 1.0},
        started="2026-01-01T00:00:00+00:00",
        origin="committed",
    )
    return plain | changes


def of_seeds(*accuracies, **changes):
    return [record(seed, top1, **changes) for seed, top1 in enumerate(accuracies)]


def measured(*found):
    return tables.measured(records.frame([one for some in found for one in some]))


def test_an_interval_is_students_t_over_seeds():
    assert tables.mean_interval([90, 91, 92]) == "91.00 ± 2.48 (3)"  # 4.303 x 1 / sqrt(3)
    assert tables.interval([90, 91, 92]) == (91, pytest.approx(2.484, abs=1e-3))
    assert tables.mean_interval([90.123]) == "90.12 (1)"
    assert tables.mean_interval([]) == "not run"


def test_two_runs_are_both_shown_and_have_no_interval():
    assert tables.mean_interval([33, 30.6], 1) == "30.6, 33.0 (2)"
    assert tables.interval([30.6, 33]) == (pytest.approx(31.8), None)


def test_a_value_that_was_not_finite_is_not_averaged_and_not_counted():
    assert tables.mean_interval([90, None, 91, float("nan"), 92]) == "91.00 ± 2.48 (3)"
    assert tables.mean_interval([None, float("inf")]) == "not run"
    mean, half = tables.interval([float("nan")])
    assert np.isnan(mean) and half is None


def test_a_share_has_no_interval_beyond_100_and_keeps_its_own_where_there_is_room():
    near = [99.3, 97.6, 97.7]
    assert tables.mean_interval(near, 1) == "98.2 ± 2.4 (3)"  # up to 100.6
    assert tables.mean_interval(near, 1, share=True) == "98.2, 93.5 to 99.5 (3)"
    assert tables.mean_interval([90, 91, 92], share=True) == "91.00 ± 2.48 (3)"
    assert tables.mean_interval([100, 100, 100], share=True) == "100.00 (3)"
    assert tables.mean_interval([-0.2, 0.3, 0.4], share=False).startswith("0.17 ± 0.8")


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_no_share_is_printed_with_a_number_beyond_0_to_100(values):
    text = tables.mean_interval(values, share=True)
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", text)]
    mean, half = numbers[0], numbers[1] if "±" in text else 0
    assert all(0 <= number <= 100 for number in numbers) and text.endswith(f"({len(values)})")
    assert mean - half >= -0.011 and mean + half <= 100.011  # both are rounded


def test_seeds_are_averaged_and_different_recipes_are_not():
    table = measured(of_seeds(90, 92), of_seeds(50, recipe=SMALL)).set_index("recipe")
    assert table.loc["smoke (revision 1)", "top-1 (%)"].endswith("(2), pilot")
    assert table.loc["small (revision 1)", "top-1 (%)"] == "50.00 (1), pilot"


def test_two_recipes_of_one_name_are_two_rows_that_say_in_what_they_differ():
    other = replace(SMOKE, learning_rate=0.3)
    table = measured(of_seeds(31.3), of_seeds(1.3, recipe=other, run="other"))
    assert sorted(table["top-1 (%)"]) == ["1.30 (1), pilot", "31.30 (1), pilot"]
    assert sorted(table["recipe"]) == [
        "smoke (revision 1), learning_rate=0.003",
        "smoke (revision 1), learning_rate=0.3",
    ]


def test_one_recipe_whose_name_is_spelled_in_two_orders_is_one_row():
    recipe = changed(SMOKE, epochs=4, hflip=0.0)
    names = ("smoke+epochs=4+hflip=0.0", "smoke+hflip=0.0+epochs=4")
    found = [
        record(seed, recipe=replace(recipe, name=name), run=name) for seed, name in enumerate(names)
    ]
    table = measured(found)
    assert table["recipe"].tolist() == ["smoke+epochs=4+hflip=0.0 (revision 1)"]
    assert table["top-1 (%)"].tolist() == ["90.00, 90.00 (2), pilot"]


def test_the_committed_recipe_that_was_spelled_in_two_orders_is_one_row():
    table = tables.measured(records.frame(records.read(paths.LEDGER)))
    of_it = table["recipe"] == "vit_cifar+epochs=6+schedule=step+warmup_epochs=1.0 (revision 1)"
    assert table[of_it]["top-1 (%)"].str.endswith("(3), pilot").tolist() == [True]
    counts = [int(text.split("(")[1].partition(")")[0]) for text in table["top-1 (%)"]]
    own = {one["run"] for one in records.read(paths.LEDGER) if "study" not in one}
    assert sum(counts) == len(own)


def test_devices_and_places_of_the_records_of_one_row_are_listed():
    table = measured(
        of_seeds(90, 91), [record(2, device="a chip, 2 threads", origin="local", run="local")]
    )
    assert table["device"].tolist() == ["a card, a chip, 2 threads"]
    assert table["record"].tolist() == ["committed, local"]
    assert table["top-1 (%)"].str.endswith("(3), pilot").all()


def test_only_an_older_revision_is_said():
    own = {"revision": identity.REVISION, "recipe": {}, "options": {}, "seed": 0}
    found = [record(), record(identity=own, run="new")]
    assert sorted(measured(found)["recipe"]) == ["smoke", "smoke (revision 1)"]


def test_runs_on_different_splits_are_not_averaged_and_older_records_stand_beside_newer_ones():
    on_split = [{"classes": 10, "split_seed": seed} for seed in (0, 0, 1)]
    newer = [record(i, run=f"n{i}", dataset=told) for i, told in enumerate(on_split)]
    older = [
        record(3, run="o3", dataset={"split_seed": 3}),
        record(4, run="o4", dataset={"split_seed": None}),
    ]
    assert sorted(len(group) for group in tables.groups(records.frame(newer + older))) == [1, 4]


def test_a_run_repeated_with_the_same_seed_counts_once_by_its_newest_record():
    later = dict(started="2026-01-02T00:00:00+00:00", device="another", origin="local")
    for again in (later, later | {"run": "under another hash"}):
        table = measured(of_seeds(90, 92), of_seeds(94, **{"run": record()["run"]} | again))
        assert table["top-1 (%)"].tolist() == [tables.mean_interval([94, 92]) + ", pilot"]


# runs that failed

FAILED = dict(status="failed", metrics={"top1": 12.0, "balanced_accuracy": 12.0, "ece": 1.0})


def test_runs_that_failed_are_counted_and_never_averaged():
    found = of_seeds(90, 91, 92) + [record(seed, run=f"f{seed}", **FAILED) for seed in (3, 4)]
    row = measured(found).iloc[0]
    assert (row["top-1 (%)"], row["diverged"]) == ("91.00 ± 2.48 (3), pilot", "2 of 5")
    (group,) = tables.gathered(records.frame(found))
    assert tables.cell(group, "top1") == "91.00 ± 2.48 (3); 2 of 5 diverged"
    assert (len(tables.ended(group)), tables.diverged(group)) == (3, 2)


def test_a_group_of_which_every_run_failed_has_a_row():
    row = measured([record(seed, run=f"f{seed}", **FAILED) for seed in range(3)]).iloc[0]
    assert (row["top-1 (%)"], row["minutes"], row["diverged"]) == ("not run", "not run", "3 of 3")
    (group,) = tables.gathered(records.frame([record(**FAILED)]))
    assert tables.cell(group, "top1") == "1 of 1 diverged"


def test_a_completed_run_whose_answers_were_not_finite_diverged():
    found = [*of_seeds(90, 91), record(2, metrics={"top1": None, "nll": None})]
    row = measured(found).iloc[0]
    assert (row["top-1 (%)"], row["diverged"]) == ("90.00, 91.00 (2), pilot", "1 of 3")


def test_a_failed_run_that_was_completed_later_counts_once_and_as_completed():
    again = record(0, 90.0, run="again", started="2026-01-02T00:00:00+00:00")
    for found in ([record(0, **FAILED), again], [again | {"run": "f"}, record(0, **FAILED)]):
        row = measured(found).iloc[0]
        assert (row["top-1 (%)"], row["diverged"]) == ("90.00 (1), pilot", "")
    twice = [record(0, **FAILED), record(0, run="f", started="2026-01-02", **FAILED)]
    assert measured(twice)["diverged"].tolist() == ["1 of 1"]


def test_interrupted_runs_stand_in_no_table():
    assert len(measured([record(status="interrupted")])) == 0
    assert list(measured([]).columns) == list(tables.MEASURED)


# other test images

IMAGES, LABELS = 300, np.arange(300) % 3


def predicted(run, *, seed, labels=LABELS, hard=0.0):
    """Keeps predictions of a run: each image has a difficulty that all runs share."""
    shared = np.random.default_rng(7).normal(size=IMAGES)
    own = np.random.default_rng(100 + seed).normal(size=IMAGES)
    right = shared + 0.3 * own > hard
    logits = np.eye(3)[np.where(right, labels, (labels + 1) % 3)]
    predictions.write(run, logits, labels, ("disc", "bar", "ring"), evaluated_on="test")
    return 100 * right.mean()


def with_predictions(*seeds, **changes):
    return [
        record(seed, predicted(f"p{seed}", seed=seed, **changes), run=f"p{seed}") for seed in seeds
    ]


def test_the_second_interval_knows_that_other_images_would_have_been_drawn(own_runs):
    found = with_predictions(0, 1, 2, 3)
    (group,) = tables.groups(records.frame(found))
    seeds, both = tables.two_intervals(group, "top1")
    assert seeds.estimate == pytest.approx(both.estimate)
    assert both.high - both.low > 2 * (seeds.high - seeds.low) and seeds.n == both.n == 4
    # the binomial interval of one network on as many images is 11 points wide
    assert 8 < both.high - both.low < 14
    shown = measured(found).iloc[0]["top-1: 95 % seeds x images"]
    assert shown == f"{both.low:.1f} to {both.high:.1f}"


def test_the_balanced_accuracy_has_a_second_interval_of_its_own(own_runs):
    labels = np.repeat([0, 1, 2], [260, 30, 10])
    found = with_predictions(0, 1, 2, labels=labels)
    (group,) = tables.groups(records.frame(found))
    (_, plain), (_, balanced) = (tables.two_intervals(group, name) for name in tables.ACCURACIES)
    assert balanced.high - balanced.low > 1.5 * (plain.high - plain.low)
    with pytest.raises(ValueError, match="ece .* choose top1 or balanced_accuracy"):
        tables.two_intervals(group, "ece")


def test_near_100_percent_the_second_interval_stays_below(own_runs):
    (group,) = tables.groups(records.frame(with_predictions(0, 1, 2, hard=-2.3)))
    _, both = tables.two_intervals(group, "top1")
    assert 97 < both.estimate < both.high < 100


def test_without_all_predictions_or_of_two_runs_there_is_no_second_interval(own_runs):
    found = [*with_predictions(0, 1, 2), record(3, 50.0, run="without")]
    for some in (found, found[:2], [*found[:2], found[3]]):
        (group,) = tables.groups(records.frame(some))
        assert tables.two_intervals(group, "top1")[1] is None
        assert measured(some)["top-1: 95 % seeds x images"].tolist() == [""]
    predicted("p2", seed=2, labels=LABELS[::-1])  # on other images
    (group,) = tables.groups(records.frame(found[:3]))
    assert tables.two_intervals(group, "top1")[1] is None


def test_the_committed_runs_with_predictions_have_a_second_interval():
    frame = records.frame(records.read(paths.LEDGER))
    table = tables.measured(frame)
    told = table["balanced: 95 % seeds x images"] != ""
    assert told.any() and not told.all()
    for _, row in table[told].iterrows():
        low, high = map(float, row["balanced: 95 % seeds x images"].split(" to "))
        mean = float(re.match(r"[\d.]+", row["balanced (%)"])[0])
        assert 0 <= low < mean < high <= 100


# any records in any order

RUNS = st.lists(
    st.tuples(
        st.integers(0, 2),  # seed
        st.sampled_from([0.003, 0.3]),  # learning rate
        st.sampled_from([32, 64]),  # pixels
        st.sampled_from(["smoke", "mine", "smoke+hflip=0.5"]),  # the name of the recipe
        st.sampled_from(["a card", "a chip, 2 threads"]),
        st.sampled_from(["committed", "local"]),
    ),
    min_size=1,
)


@settings(deadline=None)
@given(RUNS, st.integers())
def test_a_table_groups_by_what_decides_and_neither_by_names_nor_by_places(runs, shuffle):
    found = [
        record(
            seed,
            float(minute),
            recipe=replace(SMOKE, learning_rate=rate, name=name),
            image_size=size,
            device=device,
            origin=origin,
            started=f"2026-01-01T{minute // 60:02}:{minute % 60:02}:00+00:00",
        )
        for minute, (seed, rate, size, name, device, origin) in enumerate(runs)
    ]
    newest = {}
    for minute, (seed, rate, size, *_) in enumerate(runs):
        newest.setdefault((rate, size), {})[seed] = float(minute)
    expected = sorted(
        tables.mean_interval(list(by_seed.values()), share=True) + ", pilot"
        for by_seed in newest.values()
    )
    random.Random(shuffle).shuffle(found)
    table = measured(found)
    assert sorted(table["top-1 (%)"]) == expected
    assert not table.duplicated(["data set", "model", "recipe", "pixels"]).any(), (
        "two rows that a reader cannot tell apart"
    )


# words


def test_a_difference_is_told_where_labels_are_the_same_and_nowhere_else():
    groups = tables.groups(
        records.frame(
            [
                record(run="a"),
                record(run="b", precision="bfloat16"),
                record(run="c", dataset={"sha256": "t" * 64}),
            ]
        )
    )
    assert tables.differences(["x", "x", "y"], groups) == [
        ", precision=float32",
        ", precision=bfloat16",
        "",
    ]
    assert tables.differences(["x", "y", "x"], groups) == [
        ", data=ssssssss",
        "",
        ", data=tttttttt",
    ]


@pytest.mark.parametrize(
    "name, spelled",
    [
        ("smoke", "smoke"),
        ("smoke+hflip=0.0+epochs=3", "smoke+epochs=3+hflip=0.0"),
        ("galaxy+stars+epochs=3", "galaxy+stars+epochs=3"),
    ],
)
def test_the_changes_in_a_recipes_name_stand_in_order(name, spelled):
    assert tables.spelled(name) == spelled


def test_synthetic_images_and_parts_of_a_data_set_are_called_so():
    rows = pd.Series({"dataset.title": "spirals", "dataset.kind": "synthetic", "fraction": 0.1})
    assert tables.title(rows) == "spirals (synthetic), 10 %"


def test_a_metric_that_no_run_has_is_missing():
    group = records.frame(of_seeds(90, 92))
    assert tables.metric(group, "top1").tolist() == [90, 92]
    assert np.isnan(tables.metric(group, "top5")).all() and len(tables.metric(group, "top5")) == 2


def test_a_record_is_read_with_its_attempts_and_without_what_is_said_twice():
    attempts = [{"from_step": 0, "to_step": 4}, {"from_step": 4, "to_step": 10}]
    shown = tables.readable(record(attempts=attempts, identity={"seed": 0}, history=[1]))["value"]
    assert shown["attempts"] == "to_step 4; from_step 4, to_step 10"
    assert not {"identity", "history", "origin"} & set(shown.index)


STUDY = {"name": "few_images", "design": "0" * 12, "stage": "tuning", "arm": "CCCT"}


def test_runs_of_a_study_with_a_design_stand_in_no_table_and_in_no_mean():
    own, asked = of_seeds(90, 91, 92), of_seeds(10, 11, 12, run=None, study=STUDY)
    asked = [one | {"run": f"asked {one['seed']}", "started": "2026-02-01"} for one in asked]
    lost = [record(9, run="lost", study=STUDY, **FAILED)]
    alone = measured(own)
    for found in ([own, asked, lost], [asked, lost, own]):
        pd.testing.assert_frame_equal(measured(*found), alone)
    frame = records.frame(own + asked + lost)
    assert [len(group) for group in tables.groups(frame)] == [3]
    assert [tables.diverged(group) for group in tables.gathered(frame)] == [0]
    assert set(tables.of_no_study(frame)["run"]) == {one["run"] for one in own}
    assert len(measured(asked, lost)) == len(tables.gathered(records.frame(asked + lost))) == 0


def test_runs_without_a_study_stay_whether_or_not_others_have_one():
    plain = records.frame(of_seeds(90, 91))
    assert tables.of_no_study(plain) is plain and len(tables.of_no_study(records.frame([]))) == 0
    said = of_seeds(90, 91, study=None)  # by a record that has the field and nothing in it
    assert len(tables.of_no_study(records.frame(said))) == 2
    assert len(tables.of_no_study(records.frame(said + of_seeds(1, run="x", study=STUDY)))) == 2


def test_the_committed_runs_of_studies_are_in_no_group():
    frame = records.frame(records.read(paths.LEDGER))
    asked = set(frame.loc[frame["study.name"].notna(), "run"])
    grouped = {run for group in tables.gathered(frame) for run in group["run"]}
    assert asked and grouped and not asked & grouped


@pytest.mark.parametrize("epochs, seeds, pilot", [(30, 3, False), (29, 3, True), (300, 2, True)])
def test_a_number_of_few_seeds_or_epochs_is_called_a_pilot(epochs, seeds, pilot):
    frame = pd.DataFrame(
        {"epochs": [epochs] * seeds, "metrics.top1": [90.0 + i for i in range(seeds)]}
    )
    assert tables.is_pilot(frame) == pilot
    assert tables.accuracy(frame, "top1").endswith(", pilot") == pilot
    assert tables.accuracy(frame.iloc[:0], "top1") == tables.NOT_RUN
