"""Verdicts: each rule on rows made for it, and the real claims, of which none is left without a
reason.
"""

from dataclasses import asdict, replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astroformer.counting import closed_forms
from astroformer.data import DATASETS
from astroformer.ledger import claims, records, tables
from astroformer.recipes import get_recipe
from astroformer.verdicts import verdicts

EMPTY = records.frame([])


@pytest.fixture(scope="module")
def reported():
    return claims.read()


def claim(**changes):
    """One claim as a table, with its number as the reader of the file makes it."""
    row = (
        dict(
            system="Astroformer",
            model="astroformer_3",
            dataset="CIFAR-10",
            metric="top1",
            value="90.00",
            unit="%",
            by="authors",
            source="Astroformer README",
            table="Main Results",
            conditions="one run",
        )
        | changes
    )
    number, qualifier = claims.parse(row["value"], row["unit"]), claims.qualifier(row["value"])
    return pd.DataFrame([row | {"number": number, "qualifier": qualifier}])


WEIGHTS = {"file": "last.pt", "sha256": "w"}
README, SMOKE = asdict(get_recipe("readme")), asdict(get_recipe("smoke"))


def record(top1=90.0, **changes):
    dataset = {
        "title": "CIFAR-10",
        "kind": "real",
        "sha256": "s",
        "source": "cifar10",
        "train": 50_000,
        "evaluated_on": "test",
    } | changes.pop("dataset", {})
    plain = dict.fromkeys(records.FIELDS) | dict(
        status="completed",
        model="astroformer_3",
        stack="CCCT",
        options={},
        image_size=224,
        dataset=dataset,
        fraction=1.0,
        recipe=README,
        seed=0,
        precision="float32",
        seconds=100.0,
        device="a card",
        metrics={"top1": top1},
        started="2026-01-01T00:00:00+00:00",
        origin="committed",
    )
    return plain | {"run": str((top1, changes))} | changes


def runs(*accuracies, **changes):
    return records.frame(seeds(*accuracies, **changes))


def seeds(*accuracies, **changes):
    return [
        record(top1, **{"run": f"run {seed} {changes}", "seed": seed} | changes)
        for seed, top1 in enumerate(accuracies)
    ]


def judged(table, frame=EMPTY):
    """(verdict, measured, why) of the first claim."""
    row = verdicts.verdicts(table, frame).iloc[0]
    return row["verdict"], row["measured"], row["why"]


# accuracies


def test_without_a_record_a_claim_is_not_run():
    assert judged(claim())[0] == "not run"
    assert judged(claim(), runs(90, 90, status="failed"))[0] == "not run"
    assert judged(claim(), runs(90, 90, dataset={"title": "CIFAR-100"}))[0] == "not run"
    assert judged(claim(), runs(90, 90, model="astroformer_4"))[0] == "not run"


@pytest.mark.parametrize(
    "accuracies, near",
    [
        ([90.1, 90.2, 90.3], "within 0.5 points"),
        ([90.5], "within 0.5 points"),
        ([89.5], "within 0.5 points"),
        ([89.0, 90.5, 88.5], "interval that holds"),
    ],
)
def test_a_claim_near_the_mean_or_within_the_interval_is_reproduced(accuracies, near):
    verdict, measured, why = judged(claim(), runs(*accuracies))
    assert (
        verdict == "reproduced"
        and near in why
        and measured in why
        and measured.endswith(f"({len(accuracies)})")
    )


def test_a_claim_far_from_the_whole_interval_is_contradicted_from_either_side():
    for accuracies in ([80.0, 80.2, 80.1], [95.0, 95.1]):
        verdict, measured, why = judged(claim(), runs(*accuracies))
        assert verdict == "contradicted" and measured in why and "90.00 %" in why


def test_only_an_interval_that_ends_far_from_the_claim_contradicts():
    verdict, _, why = judged(claim(), runs(89.0, 89.1, 89.2))  # 89.1 ± 0.25: 0.65 points off
    assert verdict == "contradicted" and "0.90 points" in why
    verdict, _, why = judged(claim(), runs(88.9, 89.1, 89.3))  # 89.1 ± 0.50: 0.40 points off
    assert verdict == "cannot be decided" and "further seeds" in why


def test_one_run_far_off_contradicts_nothing():
    verdict, _, why = judged(claim(), runs(70.0))
    assert (
        verdict == "cannot be decided"
        and "one run has no interval" in why
        and "20.00 points" in why
    )


@pytest.mark.parametrize(
    "changes, named",
    [
        (dict(recipe=SMOKE), "the recipe smoke"),
        (
            dict(recipe=README | {"name": "readme+epochs=4", "epochs": 4}),
            "the recipe readme+epochs=4",
        ),
        (dict(image_size=32), "32 pixels"),
    ],
)
def test_another_recipe_or_image_size_never_contradicts_and_agrees_only_partly(changes, named):
    verdict, _, why = judged(claim(), runs(70, 70.1, 70.2, **changes))
    assert verdict == "cannot be decided" and named in why and "published recipe" in why
    verdict, _, why = judged(claim(), runs(90, 90.1, 90.2, **changes))
    assert verdict == "partly" and named in why


@pytest.mark.parametrize(
    "changes, named",
    [
        (dict(dataset={"title": "CIFAR-10 (JPEG re-encode)", "kind": "re-encoded"}), "re-encoded"),
        (dict(dataset={"kind": "synthetic"}), "synthetic"),
        (dict(fraction=0.1), "10 % of the training images"),
        (dict(dataset={"evaluated_on": "validation"}), "validation images"),
        (dict(stack="CCTT"), "stack CCTT"),
        (dict(options={"rel_bias": "outside"}), "rel_bias outside"),
        (dict(init={"file": "last.pt", "sha256": "w"}), "given weights at the beginning, from las"),
        (dict(dataset={"source": "galaxy10_decals", "test_images": 50}), "on 50 test images"),
    ],
)
def test_stand_ins_parts_and_other_networks_decide_nothing_however_near(changes, named):
    verdict, measured, why = judged(claim(), runs(90, 90, 90, **changes))
    assert verdict == "cannot be decided" and measured == "" and named in why and "Missing" in why


def test_the_default_stack_may_be_named():
    assert judged(claim(), runs(90, options={"stack": "CCCT"}))[0] == "reproduced"


def test_a_published_run_speaks_before_one_with_another_recipe():
    both = records.frame(seeds(90.0, 90.1, recipe=SMOKE) + seeds(80.0, 80.1))
    verdict, measured, _ = judged(claim(), both)
    assert verdict == "contradicted" and measured.startswith("80.05")


def test_a_run_repeated_counts_once_by_its_newest_record_wherever_it_was_made():
    later = dict(started="2026-01-02T00:00:00+00:00", device="another", origin="local")
    for again in (dict(run="the same"), dict(run="another hash of the same values")):
        frame = records.frame([record(90.0, **later | again), record(70.0, run="the same")])
        assert judged(claim(), frame)[:2] == ("reproduced", "90.00 (1)")


@pytest.mark.parametrize(
    "other",
    [
        dict(image_size=256),
        dict(recipe=SMOKE | {"source": README["source"]}),
        dict(recipe=README | {"learning_rate": 0.3}),
        dict(precision="bfloat16"),
        dict(stack=None, options={}, dataset={"classes": 10, "split_seed": 1}),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(other):
    """Together they would have the claim within their interval: 87 ± 5.5 (4)."""
    both = records.frame(seeds(84.0, 84.0) + seeds(89.9, 90.1, **other))
    verdict, measured, _ = judged(claim(), both)
    assert verdict == "reproduced" and measured == tables.mean_interval([89.9, 90.1])
    near = records.frame(seeds(84.0, 84.2) + seeds(95.9, 96.1, **other))
    verdict, measured, _ = judged(claim(), near)
    assert verdict == "contradicted" and measured.endswith("(2)")


def test_equal_recipes_of_two_names_are_one_and_published_if_one_of_them_is():
    mine = README | {"name": "mine", "source": "ours"}
    found = [record(90.1, run="a"), record(90.3, run="b", seed=1, recipe=mine)]
    assert judged(claim(), records.frame(found))[:2] == (
        "reproduced",
        tables.mean_interval([90.1, 90.3]),
    )


# what stands beside a claim in a table


def beside(*found, claimed=None):
    table = verdicts.reported_beside_measured(
        claim() if claimed is None else claimed, records.frame(list(found))
    )
    return list(zip(table["measured (%)"], table["measured with"]))


def test_each_group_of_runs_has_a_line_of_its_own_the_published_ones_first():
    found = [
        *seeds(31.0, recipe=SMOKE, image_size=32),
        *seeds(89.9, 90.1),
        *seeds(50.0, init=WEIGHTS),
    ]
    assert beside(*found) == [
        (tables.mean_interval([89.9, 90.1]), "readme (revision 1), 224 pixels"),
        ("31.00 (1)", "smoke (revision 1), 32 pixels"),
    ]
    assert beside(*found, *seeds(88.0, precision="bfloat16"))[:2] == [
        (tables.mean_interval([89.9, 90.1]), "readme (revision 1), 224 pixels, precision=float32"),
        ("88.00 (1)", "readme (revision 1), 224 pixels, precision=bfloat16"),
    ]


@pytest.mark.parametrize(
    "spoil",
    [
        dict(dataset={"kind": "re-encoded"}),
        dict(dataset={"kind": "synthetic"}),
        dict(dataset={"title": "CIFAR-10 (JPEG re-encode)"}),
        dict(dataset={"evaluated_on": "validation"}),
        dict(fraction=0.1),
        dict(status="failed"),
        dict(model="astroformer_4"),
        dict(stack="CCTT"),
        dict(options={"rel_bias": "outside"}),
        dict(init={"file": "last.pt", "sha256": "w"}),
        dict(metrics={"top1": None}),
    ],
)
def test_only_a_whole_run_on_the_claims_own_data_set_stands_beside_it(spoil):
    assert beside(record()) == [("90.00 (1)", "readme (revision 1), 224 pixels")]
    assert beside(record(**spoil)) == [("not run", "")]


def test_the_usual_number_of_test_images_may_be_said():
    galaxies = claim(dataset="Galaxy10 DECaLS")
    told = {"title": "Galaxy10 DECaLS", "source": "galaxy10_decals"}
    for number, measured in (
        (None, "90.00 (1)"),
        (DATASETS["galaxy10_decals"].test, "90.00 (1)"),
        (50, "not run"),
    ):
        found = record(dataset=told | {"test_images": number})
        assert beside(found, claimed=galaxies)[0][0] == measured


def test_an_empty_ledger_says_not_run_everywhere(reported):
    table = verdicts.reported_beside_measured(reported, EMPTY)
    assert len(table) == 12 and set(table["measured (%)"]) == {"not run"}
    assert list(table.columns) == list(verdicts.BESIDE) and len(verdicts.BESIDE) == 6
    assert len(verdicts.reported_beside_measured(reported, EMPTY, "balanced_accuracy")) == 0


def test_only_the_accuracies_of_the_source_that_is_asked_for_are_shown(reported):
    zoo = verdicts.reported_beside_measured(reported, EMPTY, "top5", source="SpectFormer README")
    assert len(zoo) == 4 and zoo["source"].str.startswith("SpectFormer README").all()


SPOILED = st.fixed_dictionaries(
    {},
    optional=dict(
        status=st.sampled_from(["failed", "interrupted"]),
        model=st.just("astroformer_4"),
        stack=st.sampled_from([None, "CCTT"]),
        options=st.sampled_from([{"stack": "CCCT"}, {"rel_bias": "outside"}]),
        image_size=st.sampled_from([32, 256]),
        fraction=st.sampled_from([0.5, 0.1]),
        recipe=st.sampled_from([SMOKE, README | {"name": "readme+epochs=4", "epochs": 4}]),
        init=st.just({"file": "last.pt", "sha256": "w"}),
        precision=st.just("bfloat16"),
        dataset=st.sampled_from(
            [
                {"kind": "re-encoded"},
                {"kind": "synthetic"},
                {"title": "CIFAR-10 (JPEG re-encode)"},
                {"title": "CIFAR-100"},
                {"evaluated_on": "validation"},
                {"test_images": 10},
            ]
        ),
    ),
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(SPOILED, st.integers(0, 2), st.sampled_from([60.0, 89.8, 90.4, None])),
        max_size=5,
    )
)
def test_the_table_and_the_verdict_let_the_same_runs_stand_beside_a_claim(spoiled):
    found = [
        record(top1, run=str(number), seed=seed, started=f"2026-01-0{number + 1}", **changes)
        for number, (changes, seed, top1) in enumerate(spoiled)
    ]
    verdict, measured, _ = judged(claim(), records.frame(found))
    cells = [cell for cell, _ in beside(*found)]
    assert (measured == "") == (cells == ["not run"]), "one of them shows a run, the other none"
    assert measured == "" or measured in cells
    assert measured or verdict in ("not run", "cannot be decided")


def test_over_is_missed_only_from_below():
    assert judged(claim(value="over 90"), runs(95.0, 95.1))[0] == "reproduced"
    assert judged(claim(value="over 90"), runs(85.0, 85.1))[0] == "contradicted"


def test_a_metric_that_was_not_recorded_is_missing():
    verdict, _, why = judged(claim(metric="top5"), runs(90, 90))
    assert verdict == "cannot be decided" and "without top5" in why


def test_a_claim_for_no_named_network_cannot_be_decided_but_its_twin_is_found():
    table = pd.concat([claim(model="", source="Astroformer poster"), claim()], ignore_index=True)
    verdict, _, why = judged(table, runs(90, 90.1))
    assert verdict == "cannot be decided" and "prints the same number for astroformer_3" in why


# counts


def counted(metric="params", model="vit_cifar", *, size=32, classes=10, convention="macs"):
    found = closed_forms.released(model, image_size=size, num_classes=classes)
    return found["params"] if metric == "params" else found["conventions"][convention]


VIT = dict(
    system="ViT-CIFAR", model="vit_cifar", source="ViT-CIFAR README", metric="params", unit="M"
)


def test_a_count_that_prints_the_digits_is_reproduced():
    verdict, measured, why = judged(claim(**VIT | {"value": f"{counted() / 1e6:.2f}"}))
    assert (
        verdict == "reproduced"
        and f"{counted():,} parameters for 10 classes" in why
        and measured.endswith(" M")
    )


def test_a_count_that_only_truncates_to_the_digits_is_partly_so():
    value = f"{counted() // 10_000 / 100:.2f}"  # 6.26 of 6,268,810, which rounds to 6.27
    verdict, _, why = judged(claim(**VIT | {"value": value}))
    assert verdict == "partly" and "cut off, but not rounded" in why


def test_a_count_that_agrees_at_another_number_of_classes_or_image_size_is_partly_so_and_named():
    verdict, _, why = judged(claim(**VIT | {"value": f"{counted(classes=100) / 1e6:.2f}"}))
    assert verdict == "partly" and "100 classes" in why
    at_256 = f"{counted('flops', 'astroformer_5', size=256) / 1e9:.3f}"
    verdict, _, why = judged(
        claim(
            model="astroformer_5", dataset="Galaxy10 DECaLS", metric="flops", unit="G", value=at_256
        )
    )
    assert (
        verdict == "partly"
        and "256 pixels" in why
        and "At 224 pixels with 10 classes it is not" in why
    )


def test_any_other_count_is_contradicted_with_both_numbers():
    verdict, measured, why = judged(claim(**VIT | {"value": "7.77"}))
    assert (
        verdict == "contradicted"
        and "7.77 M" in why
        and f"{counted():,}" in why
        and measured == "6.269 M"
    )


def test_operations_are_held_against_every_convention_and_the_agreeing_one_is_named():
    for name in closed_forms.CONVENTIONS:
        value = f"{counted('flops', convention=name) / 1e9:.4f}"
        verdict, _, why = judged(claim(**VIT | {"metric": "flops", "unit": "G", "value": value}))
        assert verdict == "reproduced" and f"({name})" in why


def test_a_count_for_all_data_sets_must_hold_at_each_number_of_classes():
    accuracies = [
        claim(**VIT | {"dataset": name, "metric": "top1", "unit": "%"})
        for name in ("CIFAR-10", "CIFAR-100")
    ]

    def judged_as(value):
        return judged(
            pd.concat(
                [claim(**VIT | {"dataset": "", "value": value}), *accuracies], ignore_index=True
            )
        )

    verdict, _, why = judged_as("6.3")
    assert verdict == "reproduced" and "for 10 classes and" in why and "for 100 classes" in why
    assert judged_as("6.27")[0] == "partly"


def test_a_network_that_is_not_counted_is_not_run_and_one_without_classes_cannot_be_decided():
    other = dict(
        system="SpectFormer",
        model="spectformer_h_x",
        dataset="ImageNet-1k",
        metric="params",
        unit="M",
    )
    assert judged(claim(**other))[0] == "not run"
    assert judged(claim(**VIT | {"dataset": "", "value": "6.3"}))[0] == "cannot be decided"


def test_a_count_that_needs_the_auxiliary_classifier_is_partly_so_since_no_source_mentions_it():
    sizes = dict(image_size=224, num_classes=1000)
    without, with_it = (
        closed_forms.released("spectformer_h_s", **sizes, token_label=on)["params"]
        for on in (False, True)
    )
    row = dict(
        system="SpectFormer",
        model="spectformer_h_s",
        dataset="ImageNet-1k",
        metric="params",
        unit="M",
    )
    assert judged(claim(**row, value=f"{without / 1e6:.1f}"))[0] == "reproduced"
    verdict, _, why = judged(claim(**row, value=f"{with_it / 1e6:.1f}"))
    assert (
        verdict == "partly"
        and f"{with_it:,} parameters" in why
        and "with the auxiliary classifier" in why
    )
    assert judged(claim(**row, value="7.7"))[0] == "contradicted"


# times, margins, re-runs, other sources

TIME = dict(
    system="ViT-CIFAR",
    model="vit_cifar",
    metric="seconds",
    value="00:01:40",
    unit="hh:mm:ss",
    conditions="device V100 (single GPU)",
)
OWN = dict(model="vit_cifar", image_size=32, recipe=asdict(get_recipe("vit_cifar")))


@pytest.mark.parametrize(
    "changes, verdict",
    [
        (dict(device="Tesla V100-SXM2"), "reproduced"),
        (dict(device="Tesla V100-SXM2", seconds=109.0), "reproduced"),
        (dict(device="Tesla V100-SXM2", seconds=150.0), "contradicted"),
        (dict(device="Tesla V100-SXM2", recipe=SMOKE), "cannot be decided"),
        (dict(device="another card"), "cannot be decided"),
        (dict(device="Tesla V100-SXM2", fraction=0.5), "not run"),
    ],
)
def test_a_time_needs_the_device_that_the_source_names(changes, verdict):
    found, _, why = judged(claim(**TIME), runs(90, **OWN | changes))
    assert found == verdict and ("V100" in why or verdict == "not run")
    assert judged(claim(**TIME | {"conditions": ""}), runs(90, **OWN))[0] == "cannot be decided"


def test_a_run_made_again_elsewhere_keeps_the_time_that_it_took_on_the_claims_device():
    first = record(run="r", device="Tesla V100-SXM2", **OWN)
    again = record(
        run="r", device="a chip", seconds=5000.0, started="2026-01-02T00:00:00+00:00", **OWN
    )
    verdict, measured, _ = judged(claim(**TIME), records.frame([first, again]))
    assert (verdict, measured) == ("reproduced", "100 s (1)")


def test_times_of_different_recipes_are_not_averaged():
    slow = asdict(replace(get_recipe("vit_cifar"), learning_rate=0.5))
    there = dict(device="Tesla V100-SXM2")
    found = [
        record(run="a", **there | OWN, seconds=100.0),
        record(run="b", **there | OWN | {"recipe": slow}, seconds=900.0),
    ]
    assert judged(claim(**TIME), records.frame(found))[:2] == ("reproduced", "100 s (1)")


def test_a_margin_says_which_previous_best_it_implies():
    margin = claim(
        model="",
        metric="margin",
        value="0.98",
        unit="percentage points",
        source="Astroformer poster",
    )
    best, second = claim(value="92.98"), claim(value="91.1", model="astroformer_4")
    verdict, _, why = judged(pd.concat([margin, second, best], ignore_index=True))
    assert verdict == "cannot be decided" and "92.98 %" in why and "implies 92.00 %" in why
    assert judged(margin)[0] == "cannot be decided"


@pytest.mark.parametrize(
    "value, verdict, named",
    [
        ("78.46", "cannot be decided", "11.54 points lower"),
        ("89.8", "reproduced", "within 0.5 points"),
        ("over 85", "cannot be decided", "only a lower bound"),
    ],
)
def test_what_others_found_is_held_against_the_authors_and_not_against_us(value, verdict, named):
    others = claim(value=value, by="others", source="Astroformer issue #1")
    found, _, why = judged(
        pd.concat([others, claim()], ignore_index=True), runs(float(value.split()[-1]), 0.0)
    )
    assert found == verdict and named in why and "90.00 %" in why
    assert (
        "Astroformer issue #1 finds" in judged(pd.concat([claim(), others], ignore_index=True))[2]
    )


def test_other_numbers_for_the_same_quantity_are_noticed_and_rounding_is_told_apart():
    table = pd.concat(
        [
            claim(value="84.25", source="abstract"),
            claim(value="84.3", source="table"),
            claim(value="84.1", source="log"),
            claim(value="84.25", source="copy"),
            claim(value="70.0", source="other", dataset="CIFAR-100"),
        ],
        ignore_index=True,
    )
    why = judged(table)[2]
    assert "table prints 84.3 %, the same when rounded" in why and "log prints 84.1 %." in why
    assert "copy" not in why and "other" not in why


def test_two_counts_of_one_network_with_as_many_classes_are_noticed(reported):
    result = verdicts.verdicts(reported, EMPTY).set_index(["model", "dataset", "metric", "source"])
    why = result.loc[("astroformer_5", "CIFAR-10", "params", "Astroformer README"), "why"]
    assert "681.25 M for Galaxy10 DECaLS" in why and "655.34" not in why  # that is for 100 classes


# the real claims


def test_every_claim_has_one_verdict_and_a_reason_and_the_summary_counts_them(reported):
    result = verdicts.verdicts(reported, EMPTY)
    assert list(result.columns) == [*reported.columns, "verdict", "measured", "why"] and len(
        result
    ) == len(reported)
    assert (
        set(result["verdict"]) <= set(verdicts.VERDICTS) and result["why"].str.endswith(".").all()
    )
    table = verdicts.summary(result)
    assert (
        table[list(verdicts.VERDICTS)].to_numpy().sum() == table["numbers"].sum() == len(reported)
    )
    assert table["system"].tolist()[:3] == ["Astroformer", "SpectFormer", "ViT-CIFAR"]


def test_the_committed_ledger_can_be_judged_against(reported):
    assert (
        verdicts.verdicts(reported, records.frame(records.read()))["verdict"]
        .isin(verdicts.VERDICTS)
        .all()
    )


def test_every_metric_has_its_rule():
    assert set(verdicts.RULES) == set(claims.METRICS) and all(
        rule.endswith(".") for rule in verdicts.RULES.values()
    )


def test_the_logs_of_the_released_spectformers_have_its_exact_counts(reported):
    exact = verdicts.verdicts(reported, EMPTY).query(
        "source == 'SpectFormer log, last epoch' and metric == 'params'"
    )
    assert len(exact) == 4 and set(exact["verdict"]) == {"reproduced"}


def test_a_system_without_a_known_image_size_is_named():
    with pytest.raises(ValueError, match="'ResNet'; it is one of Astroformer"):
        verdicts.verdicts(claim(system="ResNet"), EMPTY)
