"""Tables: intervals, what may stand beside a claim, and the claims themselves."""

import pandas as pd
import pytest

from astroformer.ledger import claims, records, tables


def record(**changes):
    dataset = {
        "name": "x",
        "title": "CIFAR-10",
        "kind": "real",
        "sha256": "s",
        "note": "",
        "mirrored": [],
        "source": "folder",
        "train": 100,
        "test": 50,
        "evaluated_on": "test",
        "split_seed": None,
    } | changes.pop("dataset", {})
    plain = dict.fromkeys(records.FIELDS) | dict(
        run="r",
        status="completed",
        model="astroformer_3",
        stack="CCCT",
        options={},
        image_size=32,
        dataset=dataset,
        fraction=1.0,
        recipe={"name": "readme"},
        seed=0,
        epochs=3,
        selection="last epoch",
        seconds=60.0,
        precision="float32",
        device="a card",
        metrics={"top1": 90.0, "balanced_accuracy": 90.0, "ece": 1.0},
        started="2026-01-01T00:00:00+00:00",
        origin="committed",
    )
    return plain | changes


def of_seeds(*accuracies, **changes):
    name = changes.get("recipe", {}).get("name", "readme")
    return [
        record(
            run=f"{name}{seed}",
            seed=seed,
            metrics={"top1": top1, "balanced_accuracy": top1, "ece": 1.0},
            **changes,
        )
        for seed, top1 in enumerate(accuracies)
    ]


def test_an_interval_is_students_t_over_seeds():
    assert tables.mean_interval([90, 91, 92]) == "91.00 ± 2.48 (3)"  # 4.303 x 1 / sqrt(3)
    assert tables.mean_interval([90.123]) == "90.12 (1)"
    assert tables.mean_interval([]) == "not run"


def test_seeds_are_averaged_and_different_recipes_are_not():
    frame = records.frame(of_seeds(90, 92) + of_seeds(50, recipe={"name": "smoke"}))
    table = tables.measured(frame).set_index("recipe")
    assert (
        table.loc["readme", "top-1 (%)"].endswith("(2)")
        and table.loc["smoke", "top-1 (%)"] == "50.00 (1)"
    )


def test_runs_on_different_splits_are_not_averaged_and_older_records_stand_beside_newer_ones():
    on_split = [{"classes": 10, "split_seed": seed} for seed in (0, 0, 1)]
    newer = [record(run=f"n{i}", seed=i, dataset=told) for i, told in enumerate(on_split)]
    older = [
        record(run="o3", seed=3, dataset={"split_seed": 3}),
        record(run="o4", seed=4, dataset={"split_seed": None}),
    ]
    assert sorted(len(group) for group in tables.groups(records.frame(newer + older))) == [1, 4]


def test_a_run_repeated_with_the_same_seed_counts_once():
    frame = records.frame(of_seeds(90, 92) + of_seeds(91))
    assert tables.measured(frame)["top-1 (%)"].tolist()[0].endswith("(2)")


def test_failed_and_interrupted_runs_stand_in_no_table():
    frame = records.frame([record(status="failed"), record(status="interrupted")])
    assert len(tables.measured(frame)) == 0


@pytest.mark.parametrize(
    "spoil",
    [
        dict(dataset={"kind": "re-encoded"}),
        dict(dataset={"kind": "synthetic"}),
        dict(fraction=0.1),
        dict(dataset={"title": "CIFAR-10 (JPEG re-encode)"}),
        dict(status="failed"),
        dict(model="astroformer_4"),
    ],
)
def test_only_a_whole_run_on_the_claims_own_data_set_stands_beside_it(spoil):
    def cell(frame):
        beside = tables.reported_beside_measured(claims.read(), frame)
        return beside.set_index(["data set", "model"]).loc[("CIFAR-10", "astroformer_3")]

    assert cell(records.frame([record()]))["measured (%)"] == "90.00 (1)"
    assert cell(records.frame([record(**spoil)]))["measured (%)"] == "not run"


def test_an_empty_ledger_says_not_run_everywhere():
    table = tables.reported_beside_measured(claims.read(), records.frame([]))
    assert (
        len(table) == 12
        and set(table["measured (%)"]) == {"not run"}
        and len(tables.measured(records.frame([]))) == 0
    )


def test_only_the_accuracies_of_the_source_that_is_asked_for_are_shown():
    zoo = tables.reported_beside_measured(
        claims.read(), records.frame([]), "top5", source="SpectFormer README"
    )
    assert len(zoo) == 4 and zoo["source"].str.startswith("SpectFormer README").all()


def test_synthetic_images_and_parts_of_a_data_set_are_called_so():
    rows = pd.Series({"dataset.title": "spirals", "dataset.kind": "synthetic", "fraction": 0.1})
    assert tables.title(rows) == "spirals (synthetic), 10 %"
