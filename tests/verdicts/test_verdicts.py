"""Verdicts: counts, margins, re-runs by others, what other sources print, and the real claims, of
which none is left without a reason.
"""

import math

import pandas as pd
import pytest
from claims_and_runs import EMPTY, claim, judged, runs

from astroformer.counting import closed_forms
from astroformer.ledger import claims, records
from astroformer.verdicts import verdicts
from astroformer.verdicts.counts import conventions_of_table


@pytest.fixture(scope="module")
def reported():
    return claims.numbers(claims.read())


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


FLOPS = VIT | {"metric": "flops", "unit": "G"}


def test_operations_are_held_against_every_convention_and_the_agreeing_one_is_named():
    for name in closed_forms.CONVENTIONS:
        value = f"{counted('flops', convention=name) / 1e9:.4f}"
        verdict, _, why = judged(claim(**FLOPS | {"value": value}))
        assert verdict == "reproduced" and f"({name})" in why


def operations(**values):
    """A table of SpectFormer's operations: network -> the printed value."""
    row = dict(system="SpectFormer", dataset="ImageNet-1k", metric="flops", unit="G")
    return pd.concat(
        [claim(**row, model=f"spectformer_{name}", value=value) for name, value in values.items()],
        ignore_index=True,
    )


def giga(model, convention):
    return (
        closed_forms.released(f"spectformer_{model}", image_size=224, num_classes=1000)[
            "conventions"
        ][convention]
        / 1e9
    )


def test_operations_are_reproduced_where_one_convention_prints_all_rows_of_the_table():
    table = operations(ti=f"{giga('ti', 'fvcore'):.2f}", xs=f"{giga('xs', 'fvcore'):.2f}")
    verdict, measured, why = judged(table)
    assert verdict == "reproduced" and "All 2 rows of the table are what fvcore prints." in why
    assert measured == f"{giga('ti', 'fvcore'):.3f} G"
    first = next(table.itertuples(index=False))
    assert conventions_of_table(first, table) == ({"fvcore": 0}, 2)


def test_rows_that_need_a_convention_each_agree_only_partly():
    table = operations(ti=f"{giga('ti', 'fvcore'):.2f}", xs=f"{giga('xs', 'macs'):.2f}")
    for rows in (table, table.iloc[::-1].reset_index(drop=True)):
        verdict, _, why = judged(rows)
        assert verdict == "partly" and "No single convention prints all 2 rows" in why
    alone = table.iloc[:1]
    assert judged(alone)[0] == "reproduced" and "rows of the table" not in judged(alone)[2]
    # in another table the other row says nothing
    apart = pd.concat([alone, table.iloc[1:].assign(table="another")], ignore_index=True)
    assert judged(apart)[0] == "reproduced"


def test_a_row_of_the_table_that_is_only_cut_off_is_said():
    cut = math.floor(10 * giga("b", "macs")) / 10
    assert f"{giga('b', 'macs'):.1f}" != f"{cut:.1f}"
    table = operations(ti=f"{giga('ti', 'macs'):.4f}", b=f"{cut:.1f}")
    verdict, _, why = judged(table)
    assert verdict == "reproduced" and "what macs prints, 1 of them only cut off." in why
    verdict, _, why = judged(table.iloc[::-1].reset_index(drop=True))
    assert verdict == "partly" and "cut off, but not rounded" in why and "macs prints" in why


def test_a_row_that_nothing_prints_leaves_the_others_without_a_convention():
    table = operations(ti=f"{giga('ti', 'macs'):.2f}", xs="7.77", b=f"{giga('b', 'macs'):.2f}")
    assert judged(table)[0] == "partly"
    assert conventions_of_table(next(table.itertuples(index=False)), table) == ({}, 3)


def test_the_tables_of_spectformer_follow_one_convention_each(reported):
    result = verdicts.verdicts(reported, EMPTY).query(
        "system == 'SpectFormer' and metric == 'flops'"
    )
    vanilla = result[result["source"] == "SpectFormer README"]
    assert vanilla["why"].str.contains("All 4 rows of the table are what macs, ").all()
    assert vanilla["verdict"].tolist() == ["reproduced"] * 3 + ["partly"]
    hierarchical = result[result["source"] == "SpectFormer-H README"]
    assert hierarchical["why"].str.endswith("All 3 rows of the table are what fvcore prints.").all()
    assert set(hierarchical["verdict"]) == {"reproduced"}


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


# margins, re-runs, other sources


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
        ("78.46", "cannot be decided", "one run, 11.54 points lower"),
        ("89.8", "cannot be decided", "one run, 0.20 points lower"),
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


def test_a_claim_for_no_named_network_cannot_be_decided_but_its_twin_is_found():
    table = pd.concat([claim(model="", source="Astroformer poster"), claim()], ignore_index=True)
    verdict, _, why = judged(table, runs(90, 90.1))
    assert verdict == "cannot be decided" and "prints the same number for astroformer_3" in why


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


def test_claims_of_principle_are_passed_over_and_change_no_count(reported):
    every = claims.read()
    assert len(every) > len(reported)
    both = [verdicts.verdicts(table, EMPTY) for table in (every, reported)]
    pd.testing.assert_frame_equal(*both)
    pd.testing.assert_frame_equal(*map(verdicts.summary, both))
    assert "comparison" not in set(verdicts.readable(both[0], "Astroformer")["metric"])


def test_the_committed_ledger_can_be_judged_against(reported):
    assert (
        verdicts.verdicts(reported, records.frame(records.read()))["verdict"]
        .isin(verdicts.VERDICTS)
        .all()
    )


def test_every_metric_has_its_rule():
    assert set(verdicts.RULES) | {claims.COMPARISON} == set(claims.METRICS) and all(
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
