"""Tables: intervals, what is averaged and what is not, and what a row is called."""

import random
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astroformer import paths
from astroformer.ledger import identity, records, tables
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
    assert tables.mean_interval([90.123]) == "90.12 (1)"
    assert tables.mean_interval([]) == "not run"


def test_a_value_that_was_not_finite_is_not_averaged_and_not_counted():
    assert tables.mean_interval([90, None, 91, float("nan"), 92]) == "91.00 ± 2.48 (3)"
    assert tables.mean_interval([None, float("inf")]) == "not run"


def test_a_record_with_null_metrics_stands_in_the_table_without_them():
    found = of_seeds(90, 92)
    found[1]["metrics"] = {"top1": 92.0, "balanced_accuracy": None, "ece": None}
    row = measured(found).iloc[0]
    assert row["top-1 (%)"].endswith("(2)") and row["balanced (%)"] == "90.00 (1)"
    assert measured(of_seeds(90, metrics={}))["top-1 (%)"].tolist() == ["not run"]


def test_seeds_are_averaged_and_different_recipes_are_not():
    table = measured(of_seeds(90, 92), of_seeds(50, recipe=SMALL)).set_index("recipe")
    assert table.loc["smoke (revision 1)", "top-1 (%)"].endswith("(2)")
    assert table.loc["small (revision 1)", "top-1 (%)"] == "50.00 (1)"


def test_two_recipes_of_one_name_are_two_rows_that_say_in_what_they_differ():
    other = replace(SMOKE, learning_rate=0.3)
    table = measured(of_seeds(31.3), of_seeds(1.3, recipe=other, run="other"))
    assert sorted(table["top-1 (%)"]) == ["1.30 (1)", "31.30 (1)"]
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
    assert table["top-1 (%)"].tolist() == ["90.00 ± 0.00 (2)"]


def test_the_committed_recipe_that_was_spelled_in_two_orders_is_one_row():
    table = tables.measured(records.frame(records.read(paths.LEDGER)))
    of_it = table["recipe"] == "vit_cifar+epochs=6+schedule=step+warmup_epochs=1.0 (revision 1)"
    assert table[of_it]["top-1 (%)"].str.endswith("(3)").tolist() == [True]
    counts = [int(text.split("(")[1].rstrip(")")) for text in table["top-1 (%)"]]
    assert sum(counts) == len({one["run"] for one in records.read(paths.LEDGER)})


def test_devices_and_places_of_the_records_of_one_row_are_listed():
    table = measured(
        of_seeds(90, 91), [record(2, device="a chip, 2 threads", origin="local", run="local")]
    )
    assert table["device"].tolist() == ["a card, a chip, 2 threads"]
    assert table["record"].tolist() == ["committed, local"]
    assert table["top-1 (%)"].str.endswith("(3)").all()


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
        assert table["top-1 (%)"].tolist() == [tables.mean_interval([94, 92])]


def test_failed_and_interrupted_runs_stand_in_no_table():
    assert len(measured([record(status="failed"), record(status="interrupted")])) == 0
    assert list(measured([]).columns) == list(tables.MEASURED)


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
    expected = sorted(tables.mean_interval(list(by_seed.values())) for by_seed in newest.values())
    random.Random(shuffle).shuffle(found)
    table = measured(found)
    assert sorted(table["top-1 (%)"]) == expected
    assert not table.duplicated(["data set", "model", "options", "recipe", "pixels"]).any(), (
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
