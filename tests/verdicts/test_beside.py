"""Which runs stand beside a claim: the same in the table and for the verdict."""

import pytest
from claims_and_runs import (
    EMPTY,
    FAILED,
    METHODOLOGY,
    README,
    SMOKE,
    WEIGHTS,
    claim,
    judged,
    record,
    runs,
    seeds,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from astroformer.data import DATASETS
from astroformer.ledger import claims, records, tables
from astroformer.recipes import RECIPES
from astroformer.verdicts import beside as chosen
from astroformer.verdicts import scaling


@pytest.fixture(scope="module")
def reported():
    return claims.read()


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
        (dict(dataset={"validation": 0.1}), "with 10 % of the training images held out"),
    ],
)
def test_stand_ins_parts_and_other_networks_decide_nothing_however_near(changes, named):
    verdict, measured, why = judged(claim(), runs(90, 90, 90, **changes))
    assert verdict == "cannot be decided" and measured == "" and named in why and "Missing" in why


def test_the_default_stack_may_be_named():
    assert judged(claim(), runs(90, options={"stack": "CCCT"}))[1] == "90.00 (1)"


def test_nothing_held_out_is_said_by_newer_records():
    assert judged(claim(), runs(90, dataset={"validation": 0.0}))[1] == "90.00 (1)"


def beside(*found, claimed=None):
    table = chosen.reported_beside_measured(
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
        dict(status="interrupted"),
        dict(model="astroformer_4"),
        dict(stack="CCTT"),
        dict(options={"rel_bias": "outside"}),
        dict(init={"file": "last.pt", "sha256": "w"}),
        dict(dataset={"validation": 0.1}),
    ],
)
def test_only_a_whole_run_on_the_claims_own_data_set_stands_beside_it(spoil):
    assert beside(record()) == [("90.00 (1)", "readme (revision 1), 224 pixels")]
    assert beside(record(**spoil)) == [("not run", "")]


def test_runs_that_diverged_are_counted_beside_the_claim_too():
    lost = seeds(None, None, first=3, **FAILED)
    assert beside(*seeds(90.0, 90.1, 90.2), *lost) == [
        ("90.10 ± 0.25 (3); 2 of 5 diverged", "readme (revision 1), 224 pixels")
    ]
    for alone in (lost[0], record(metrics={"top1": None})):
        assert beside(alone) == [("1 of 1 diverged", "readme (revision 1), 224 pixels")]


def test_a_smoke_run_a_small_one_and_one_on_held_out_images_are_no_average():
    """They printed "reported 90.00, measured 57.00 ± 71.00 (3)"."""
    found = [
        *seeds(90.0),
        *seeds(30.0, recipe=SMOKE, image_size=32),
        *seeds(51.0, recipe=SMOKE, image_size=32, dataset={"evaluated_on": "validation"}),
    ]
    assert [cell for cell, _ in beside(*found)] == ["90.00 (1)", "30.00 (1)"]


def test_groups_stand_in_the_order_of_their_distance_from_the_publication():
    found = [
        *seeds(1.0, 1.0, 1.0, recipe=SMOKE),
        *seeds(2.0, 2.0, recipe=METHODOLOGY),
        *seeds(3.0, image_size=32),
        *seeds(4.0),
        *seeds(5.0, 5.0, precision="bfloat16"),
    ]
    groups = chosen.groups_beside(next(claim().itertuples(index=False)), records.frame(found))
    firsts = [group.ended["metrics.top1"].iloc[0] for group in groups]
    assert firsts == [5.0, 4.0, 3.0, 2.0, 1.0]
    assert [group.whose for group in groups] == ["", "", "", "partly ours", "ours"]
    assert groups[2].departure == "32 pixels" and groups[0].departure == ""


def test_an_older_revision_of_the_training_is_further_away():
    identity = {"revision": 2, "recipe": RECIPES["readme"].canonical(), "options": {}, "seed": 0}
    found = [*seeds(80.0, 81.0), record(90.0, identity=identity, run="new")]
    assert [cell for cell, _ in beside(*found)] == ["90.00 (1)", "80.00, 81.00 (2)"]


@pytest.mark.parametrize("system", chosen.IMAGE_SIZES)
def test_the_recipe_of_every_claim_is_a_published_one(reported, system):
    own = reported[(reported["system"] == system) & (reported["model"] != "")]
    for one in own.itertuples(index=False):
        recipe = chosen.published_recipe(one)
        assert recipe.values == "published" and recipe.source.startswith(system)
    assert set(chosen.DROP_PATH) <= set(reported["model"])


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
    table = chosen.reported_beside_measured(reported, EMPTY)
    assert len(table) == 12 and set(table["measured (%)"]) == {"not run"}
    assert list(table.columns) == list(chosen.BESIDE) and len(chosen.BESIDE) == 6
    assert len(chosen.reported_beside_measured(reported, EMPTY, "balanced_accuracy")) == 0


def test_only_the_accuracies_of_the_source_that_is_asked_for_are_shown(reported):
    zoo = chosen.reported_beside_measured(reported, EMPTY, "top5", source="SpectFormer README")
    assert len(zoo) == 4 and zoo["source"].str.startswith("SpectFormer README").all()


SPOILED = st.fixed_dictionaries(
    {},
    optional=dict(
        status=st.sampled_from(["failed", "failed", "interrupted"]),
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
                {"validation": 0.2},
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


STUDY = {"name": "few_images", "design": "0" * 12}


def test_runs_of_a_study_stand_beside_no_claim_and_decide_nothing():
    """Even one that no other rule bars; it is mentioned where nothing else was run."""
    asked = seeds(10.0, 11.0, 12.0, 13.0, 14.0, study=STUDY)
    assert beside(*asked) == [("not run", "")]
    verdict, measured, why = judged(claim(), records.frame(asked))
    assert (verdict, measured) == ("not run", "")
    assert why == (
        "The ledger holds no completed run of astroformer_3 on CIFAR-10 but for those of studies."
    )
    own = seeds(90.0, 90.1, 90.2, first=5)
    assert beside(*asked, *own) == beside(*own)
    assert judged(claim(), records.frame(asked + own)) == judged(claim(), records.frame(own))
    other = seeds(10.0, study=STUDY, model="vit_cifar")
    assert "studies" not in judged(claim(), records.frame(other))[2]


def test_a_run_of_a_study_has_no_point_on_the_scaling_curves(reported):
    own, asked = seeds(90.0), seeds(10.0, first=1, study=STUDY)
    counted = dict(params=160e6, macs=31e9, epochs=3)
    frame = records.frame([one | counted for one in own + asked])
    points = scaling.points("CIFAR-10", reported, frame)
    assert points.loc[points["kind"] == "measured", "accuracy"].tolist() == [90.0]
