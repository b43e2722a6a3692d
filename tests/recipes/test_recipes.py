"""Recipes: what the documents say, an unknown field, and the values that they refuse."""

import json
import math
from dataclasses import FrozenInstanceError, asdict, fields
from dataclasses import replace as with_fields

import pytest

from astroformer.recipes import (
    OURS,
    RECIPES,
    Recipe,
    get_recipe,
    parse_changes,
    replace,
    same_values,
    values_of,
)
from astroformer.recipes.recipe import BEFORE, RETIRED


def test_the_readme_recipe_has_the_numbers_of_its_command_under_timms_rules():
    recipe = RECIPES["readme"]
    assert (recipe.epochs, recipe.batch_size, recipe.micro_batch_size, recipe.warmup_epochs) == (
        300,
        2048,
        256,
        5,
    )
    assert math.isclose(recipe.learning_rate, 5.66e-5, rel_tol=1e-3)  # 2e-5 x sqrt(2048 / 256)
    assert (
        recipe.warmup_learning_rate,
        recipe.weight_decay,
        recipe.mixup,
        recipe.label_smoothing,
        recipe.drop_rate,
    ) == (1e-5, 2e-5, 0.8, 0.1, 0.1)
    assert (recipe.drop_path_rate, recipe.randaugment, recipe.ema_decay) == (0, "", 0)


def test_the_methodology_recipe_has_what_its_text_names():
    recipe = RECIPES["methodology"]
    assert (
        recipe.mixup
        and recipe.randaugment
        and recipe.drop_path_rate
        and recipe.weight_decay
        and recipe.label_smoothing
    )


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_every_recipe_tells_where_it_comes_from(recipe):
    assert recipe.source and RECIPES[recipe.name] is recipe


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        RECIPES["smoke"].epochs = 3


def test_a_variation_says_in_its_name_what_it_changes():
    assert replace(RECIPES["smoke"], epochs=3, mixup=0.2).name == "smoke+epochs=3+mixup=0.2"
    assert replace(RECIPES["smoke"], epochs=RECIPES["smoke"].epochs).name == "smoke"


def test_a_variation_is_written_as_the_command_line_reads_it():
    recipe = replace(RECIPES["readme"], crop_scale=(0.5, 1.0), rotate90=True, sampling="balanced")
    assert get_recipe("readme", **parse_changes(recipe.name.split("+")[1:])) == recipe


@pytest.mark.parametrize("name, switch", RETIRED.items())
def test_a_field_that_became_a_switch_is_answered_with_it(name, switch):
    for ask in (lambda: get_recipe("smoke", **{name: True}), lambda: parse_changes([f"{name}=1"])):
        with pytest.raises(ValueError, match=f"say {switch} or --no-{switch[2:]}") as error:
            ask()
        assert "\n" not in str(error.value)


def test_a_record_of_any_age_gives_the_recipe_that_it_was_trained_with():
    told = asdict(RECIPES["readme"])
    assert Recipe.from_record(told | {"channels_last": True, "compile": False}) == RECIPES["readme"]
    old = {name: value for name, value in told.items() if name not in BEFORE}
    then = Recipe.from_record(old)
    assert (then.preprocessing, then.interpolation, then.erase_mode) == ("data", "bicubic", "const")
    assert then == with_fields(RECIPES["readme"], **BEFORE)


def older(recipe):
    """The recipe as a record tells it that is older than the field `values`."""
    told = json.loads(json.dumps(asdict(recipe)))
    del told["values"]
    return told


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_whose_the_values_are_is_known_of_a_record_of_any_age(recipe):
    assert values_of(asdict(recipe)) == values_of(older(recipe)) == recipe.values
    changed = replace(recipe, learning_rate=0.7)
    expected = "ours" if recipe.values == "ours" else "partly ours"
    assert values_of(asdict(changed)) == values_of(older(changed)) == expected


@pytest.mark.parametrize("name", [name for name, fields in OURS.items() if fields])
def test_a_recipe_with_values_of_ours_is_never_published_whatever_it_says(name):
    assert RECIPES[name].values == "partly ours"
    said = asdict(RECIPES[name]) | {"values": "published"}
    assert values_of(said) == "partly ours"
    assert {field.name for field in fields(Recipe)} >= set(OURS[name])


def test_the_table_says_published_of_no_recipe_with_values_of_ours():
    for name, recipe in RECIPES.items():
        assert (recipe.values == "published") <= (OURS[name] == ()), name


def test_values_decide_and_not_names():
    readme = older(RECIPES["readme"])
    assert values_of(readme | {"name": "mine", "source": "me"}) == "published"
    assert values_of(readme | {"learning_rate": 0.3}) == "partly ours"
    assert values_of(older(RECIPES["smoke"]) | {"name": "readme"}) == "ours"
    assert values_of(older(RECIPES["smoke"]) | {"name": "mine", "epochs": 9}) == "ours"
    assert values_of({"name": "readme"}) == "partly ours"  # what is not told equals nothing
    assert values_of({}) == "ours"


def test_preprocessing_that_a_recipe_leaves_open_may_have_been_either():
    assert RECIPES["vit_cifar"].preprocessing == "auto"
    for settled in ("data", "network"):
        told = older(RECIPES["vit_cifar"]) | {"preprocessing": settled}
        assert same_values(told, RECIPES["vit_cifar"]) and values_of(told) == "published"
    told = older(RECIPES["readme"]) | {"preprocessing": "data"}
    assert not same_values(told, RECIPES["readme"]) and values_of(told) == "partly ours"


def test_an_unknown_field_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="no field 'learning_rat'.*learning_rate"):
        get_recipe("smoke", learning_rat=1)
    with pytest.raises(ValueError, match="choose one of smoke"):
        get_recipe("smok")


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(crop="centre"), "choose none, pad"),
        (dict(epochs=0), "give epochs or steps"),
        (dict(warmup_epochs=99), "warmup_epochs 99 is more than epochs 8"),
        (dict(warmup_epochs=-1), "warmup_epochs -1 is out of range; choose at least 0"),
        (dict(hflip=1.5), "hflip 1.5 is out of range; choose 0 to 1"),
        (dict(crop_scale=(0.5, 0.2)), "not 0 < smallest <= largest"),
        (dict(interpolation="nearest"), "choose bicubic, bilinear, random"),
        (dict(erase_mode="mean"), "choose const, rand, pixel"),
        (dict(preprocessing="imagenet"), "choose auto, data, network"),
        (dict(micro_batch_size=7), "not a multiple"),
        (dict(precision="float16"), "choose auto"),
        (dict(schedule="epochs"), "choose step, epoch"),
        (dict(schedule="epoch", warmup_epochs=0.5), "whole epochs, at least one, not 0.5"),
        (dict(schedule="epoch", warmup_epochs=0), "at least one"),
        (dict(smoothing_over="rest"), "choose all, others"),
        (dict(autoaugment="cifar100"), 'choose "", cifar10, svhn, cifar10-released'),
        (dict(sampling="even"), "choose shuffled, stratified, balanced"),
        (
            dict(smoothing_over="others", label_smoothing=0.1, mixup=0.8),
            "Mixup and CutMix smooth over all classes",
        ),
    ],
)
def test_a_value_that_means_nothing_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        get_recipe("smoke", **change)


def test_settings_of_the_command_line_have_the_types_of_the_fields():
    parsed = parse_changes(
        [
            "epochs=3",
            "mixup=0.2",
            "rotate90=true",
            "crop_scale=0.2,1",
            "randaugment=rand-m9-mstd0.5-inc1",
        ]
    )
    assert parsed == {
        "epochs": 3,
        "mixup": 0.2,
        "rotate90": True,
        "crop_scale": (0.2, 1.0),
        "randaugment": "rand-m9-mstd0.5-inc1",
    }
    assert len(fields(Recipe)) > 25


@pytest.mark.parametrize(
    "setting", ["epochs", "epoch=3", "epochs=three", "rotate90=maybe", "crop_scale=1"]
)
def test_a_setting_that_cannot_be_read_is_named(setting):
    with pytest.raises(ValueError, match=setting.split("=")[0]):
        parse_changes([setting])
