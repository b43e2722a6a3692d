"""What two records must share to be one run, one group of seeds, or one question."""

import json
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroformer import paths
from astroformer.ledger import identity, records
from astroformer.recipes import Recipe, get_recipe

COMMITTED = records.read(paths.LEDGER)
SMOKE = get_recipe("smoke")


def record(**changes):
    """A record as revision 1 wrote it, with the fields that decide the outcome."""
    dataset = dict(source="folder", sha256="s", train=100, evaluated_on="test", split_seed=None)
    plain = dict(
        model="astroformer_pico",
        stack="CCCT",
        options={},
        image_size=64,
        dataset=dataset,
        fraction=1.0,
        recipe=asdict(SMOKE),
        precision="float32",
        seed=0,
    )
    return plain | changes


def test_committed_records_have_a_known_revision_and_a_recipe_that_is_understood():
    revisions = {identity.revision(one) for one in COMMITTED}
    assert identity.FIRST in revisions and max(revisions) <= identity.REVISION
    younger = [one for one in COMMITTED if identity.revision(one) > identity.FIRST]
    assert all(identity.digest(one["identity"]) == one["run"] for one in younger)
    assert not any("name" in identity.of(one)["recipe"] for one in COMMITTED)


def test_no_two_committed_runs_have_one_identity():
    names = {identity.digest(identity.of(one)) for one in COMMITTED}
    assert len(names) == len({one["run"] for one in COMMITTED})


@pytest.mark.parametrize("name", ["seed", "precision"])
def test_the_group_is_free_of_the_seed_and_the_question_of_the_precision(name):
    one, other = record(), record(**{name: {"seed": 5, "precision": "bfloat16"}[name]})
    assert (identity.group(one) == identity.group(other)) == (name == "seed")
    assert (identity.question(one) == identity.question(other)) == (name == "precision")


@pytest.mark.parametrize(
    "change",
    [
        dict(model="astroformer_0"),
        dict(stack="CCTT"),
        dict(options={"depth": 2}),
        dict(image_size=32),
        dict(fraction=0.5),
        dict(init={"file": "last.pt", "sha256": "w"}),
        *(
            dict(dataset=record()["dataset"] | told)
            for told in (
                dict(source="galaxies"),
                dict(sha256="t"),
                dict(train=50),
                dict(evaluated_on="validation"),
                dict(classes=10, split_seed=1),
                dict(class_fraction=0.5),
                dict(test_images=10),
            )
        ),
    ],
)
def test_whatever_decides_the_outcome_makes_another_group_and_another_question(change):
    one, other = record(), record(**change)
    assert identity.group(one) != identity.group(other)
    assert identity.question(one) != identity.question(other)


@given(st.sampled_from(sorted(field.name for field in fields(Recipe) if field.type is float)))
def test_two_recipes_of_one_name_with_another_number_are_two_groups(name):
    changed = replace(SMOKE, **{name: getattr(SMOKE, name) / 2 + 0.001})
    expected = changed.canonical() == SMOKE.canonical()  # a number that has no effect
    same = identity.group(record()) == identity.group(record(recipe=asdict(changed)))
    assert same == expected


@given(st.text(), st.text())
def test_name_and_source_of_a_recipe_decide_nothing(name, source):
    renamed = asdict(SMOKE) | {"name": name, "source": source}
    assert identity.of(record(recipe=renamed)) == identity.of(record())


def test_a_seed_that_once_drew_a_part_is_no_seed_of_a_split():
    told = record()["dataset"]
    seeds = [record(seed=n, dataset=told | {"split_seed": n or None}) for n in range(3)]
    younger = record(dataset=told | {"classes": 10, "split_seed": 0})
    assert len({identity.group(one) for one in [*seeds, younger]}) == 1


def test_the_default_stack_may_be_said_or_not():
    groups = {
        identity.group(one)
        for one in (
            record(),
            record(stack=None),
            record(options={"stack": "CCCT"}),
        )
    }
    assert len(groups) == 1


def test_a_record_that_names_its_identity_is_believed_and_survives_the_file():
    own = {"revision": 7, "model": "m", "seed": 3, "precision": "float32", "recipe": {"a": 1.5}}
    one = record(identity=own)
    assert identity.of(one) == own and identity.revision(one) == 7
    again = json.loads(json.dumps(one))
    for name in (identity.group, identity.question):
        assert name(again) == name(one)
    assert identity.of(one) is not own, "a copy, which may be changed"


def test_a_recipe_that_is_refused_today_is_told_apart_by_all_that_it_says():
    odd = asdict(SMOKE) | {"crop": "a crop of 2026"}
    names = {identity.group(record(recipe=odd | {"name": name})) for name in ("one", "other")}
    assert len(names) == 2
    assert identity.group(record(recipe=odd | {"source": "s"})) in {
        identity.group(record(recipe=odd))
    }
