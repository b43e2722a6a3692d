"""Recipes as values: what is written in another type is the same recipe, what has no effect is no
part of it, and everything else is.
"""

import json
from dataclasses import asdict, fields
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroformer.recipes import RECIPES, TOLD, Recipe, get_recipe, parse_changes, replace, setting
from astroformer.recipes.recipe import CHOICES, LATER

NOT_THE_OUTCOME = (
    "name",
    "source",
    "values",
    "precision",
)  # an identity holds the precision by itself
TYPES = {field.name: field.type for field in fields(Recipe)}
# with every switch on
ON = get_recipe(
    "smoke",
    batch_size=48,
    micro_batch_size=12,
    warmup_learning_rate=1e-5,
    decay_all=True,
    ema_decay=0.99,
    drop_rate=0.1,
    drop_path_rate=0.1,
    crop="random-resized",
    randaugment="rand-m9",
    autoaugment="svhn",
    color_jitter=0.4,
    mixup=0.8,
    cutmix=1.0,
    cutout=0.25,
    dropblock=0.1,
)
OTHER = dict(  # another value of each field
    epochs=9,
    steps=90,
    warmup_part=0.2,
    batch_size=24,
    micro_batch_size=16,
    sampling="balanced",
    optimizer="lamb",
    learning_rate=2e-3,
    warmup_epochs=2.0,
    warmup_learning_rate=1e-6,
    final_learning_rate=1e-6,
    schedule="epoch",
    weight_decay=0.03,
    decay_all=False,
    clip_grad=2.0,
    ema_decay=0.9,
    label_smoothing=0.1,
    smoothing_over="others",
    drop_rate=0.2,
    drop_path_rate=0.2,
    preprocessing="network",
    crop="pad",
    crop_scale=(0.2, 1.0),
    interpolation="bilinear",
    hflip=0.4,
    vflip=0.4,
    rotate90=False,
    randaugment="rand-m5",
    autoaugment="cifar10",
    color_jitter=0.3,
    mixup=0.7,
    mixup_mode="elem",
    cutmix=0.9,
    cutout=0.2,
    erase_mode="pixel",
    dropblock=0.2,
    mixing="independent",
    cutout_side=0.5,
    dropblock_form="paper",
    augmentation="device",
    trained="classifier",
)
# What changes each image by itself, switched off.
AS_STORED = dict(
    crop="none",
    hflip=0,
    vflip=0,
    rotate90=False,
    randaugment="",
    autoaugment="",
    color_jitter=0,
)
# Field -> what makes it idle.
IDLE = {
    "epochs": dict(steps=100),
    "warmup_epochs": dict(steps=100),
    "warmup_part": dict(steps=0),
    "warmup_learning_rate": dict(warmup_epochs=0),
    "decay_all": dict(weight_decay=0),
    "smoothing_over": dict(label_smoothing=0, mixup=0, cutmix=0),
    "crop_scale": dict(crop="pad"),
    "interpolation": dict(crop="pad", randaugment=""),
    "mixup_mode": dict(mixup=0, cutmix=0),
    "erase_mode": dict(cutout=0),
    "mixing": dict(mixup=0, cutmix=0),
    "cutout_side": dict(cutout=0),
    "dropblock_form": dict(dropblock=0),
    "augmentation": AS_STORED,
    **dict.fromkeys(("drop_rate", "drop_path_rate", "dropblock"), dict(trained="classifier")),
}
# in which epochs do not count
BY_STEPS = dict(steps=100, warmup_part=0.1)
# Mixup allows no other smoothing
CALM = dict(mixup=0, cutmix=0)


def test_every_field_that_may_decide_has_another_value_here():
    assert set(OTHER) == set(TYPES) - set(NOT_THE_OUTCOME)
    # fields younger than the revision are left out where they say what was done before
    assert set(ON.canonical()) | set(BY_STEPS) | set(LATER) == set(OTHER)
    assert not set(ON.canonical()) & set(LATER)


@pytest.mark.parametrize("name", OTHER)
def test_every_field_decides_where_everything_is_switched_on(name):
    base = replace(ON, **CALM) if name == "smoothing_over" else ON
    base = replace(base, **BY_STEPS) if name in BY_STEPS else base
    changed = replace(base, **{name: OTHER[name]}).canonical()
    assert {key for key in changed if base.canonical().get(key) != changed[key]} == {name}


@pytest.mark.parametrize("name", IDLE)
def test_a_field_without_effect_does_not_decide(name):
    idle = replace(ON, **IDLE[name])
    assert name not in idle.canonical()
    assert replace(idle, **{name: OTHER[name]}).canonical() == idle.canonical()
    # one switch alone wakes the fields that two of them use
    for one in IDLE[name]:
        if name in ("interpolation", "mixup_mode", "mixing"):
            assert name in replace(idle, **{one: getattr(ON, one)}).effective()


@pytest.mark.parametrize("name", NOT_THE_OUTCOME)
def test_name_source_and_precision_are_no_part_of_what_a_recipe_comes_to(name):
    value = {"precision": "float32", "values": "published"}.get(name, "another")
    assert replace(ON, **{name: value}).canonical() == ON.canonical()


def test_a_batch_that_is_taken_whole_is_one_whether_that_is_said_or_not():
    assert (
        replace(ON, micro_batch_size=48).canonical()
        == replace(ON, micro_batch_size=0).canonical()
        != ON.canonical()
    )


def in_other_words(value):
    """The same value in other types, as papermill, a batch system or NumPy give it."""
    if isinstance(value, bool):
        return st.sampled_from([value, int(value), float(value), np.bool_(value), str(value)])
    if isinstance(value, int):
        forms = [value, float(value), np.int64(value), np.float64(value), str(value), f"{value}.0"]
        return st.sampled_from([*forms, Fraction(value)])
    if isinstance(value, float):
        forms = [value, np.float64(value), repr(value), f" {value!r} "]
        return st.sampled_from(forms + [int(value)] * value.is_integer())
    if isinstance(value, tuple):
        text = ",".join(map(repr, value))
        return st.sampled_from([value, list(value), np.array(value), text, f"({text})"])
    return st.sampled_from([value, np.str_(value)])


def plain_value(name):
    """Any value of a field that is allowed by itself."""
    if name in CHOICES:
        return st.sampled_from(CHOICES[name])
    if name == "optimizer":
        return st.sampled_from(["adamw", "AdamW", "lookahead_radam", "sgd"])
    if name == "randaugment":
        return st.sampled_from(["", "rand-m9-mstd0.5-inc1"])
    if name == "crop_scale":
        return st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1))
    if TYPES[name] is bool:
        return st.booleans()
    if name == "steps":
        return st.sampled_from([0, 0, 100])
    if name == "micro_batch_size":
        return st.sampled_from([0, 2, 8])
    if TYPES[name] is int:
        return st.integers(1, 60).map(lambda number: 8 * number)
    return st.sampled_from([0.0, 1.0, 0.1]) | st.floats(0, 1)


@st.composite
def recipes(draw):
    """A valid recipe with any values in any fields."""
    values = {name: draw(plain_value(name)) for name in TYPES if name not in TOLD}
    if values["schedule"] == "epoch":
        values |= {"warmup_epochs": 1.0, "steps": 0}
    if values["smoothing_over"] == "others":
        values |= CALM
    return Recipe(name="any", source="a test", **values)


@given(recipe=recipes(), data=st.data())
def test_a_value_in_another_type_is_the_same_value(recipe, data):
    told = {name: data.draw(in_other_words(value)) for name, value in asdict(recipe).items()}
    other = Recipe(**told)
    assert other == recipe and hash(other) == hash(recipe)
    assert json.dumps(other.canonical()) == json.dumps(recipe.canonical())
    assert {type(value) for value in asdict(other).values()} <= {bool, int, float, str, tuple}


@given(recipe=recipes())
def test_a_recipe_is_read_back_from_settings_and_from_json(recipe):
    told = [setting(name, value) for name, value in asdict(recipe).items() if name not in TOLD]
    named = dict(name="any", source="a test", values="ours")
    assert replace(RECIPES["readme"], **named, **parse_changes(told)) == recipe
    assert Recipe.from_record(json.loads(json.dumps(asdict(recipe)))) == recipe


@given(recipe=recipes(), name=st.sampled_from(sorted(OTHER)))
def test_what_a_recipe_comes_to_changes_with_a_field_exactly_where_the_field_has_an_effect(
    recipe, name
):
    try:
        changed = replace(recipe, **{name: OTHER[name]})
    except ValueError:  # not beside the others
        return
    on = {
        "epochs": not recipe.steps,
        "warmup_epochs": not recipe.steps,
        "warmup_part": recipe.steps > 0,
        "warmup_learning_rate": (recipe.warmup_part if recipe.steps else recipe.warmup_epochs) > 0,
        "decay_all": recipe.weight_decay > 0,
        "smoothing_over": recipe.label_smoothing > 0,
        "crop_scale": recipe.crop == "random-resized",
        "interpolation": recipe.crop == "random-resized" or recipe.randaugment != "",
        "mixup_mode": recipe.mixup > 0 or recipe.cutmix > 0,
        "erase_mode": recipe.cutout > 0,
        "mixing": recipe.mixup > 0 or recipe.cutmix > 0,
        "cutout_side": recipe.cutout > 0,
        "dropblock_form": recipe.dropblock > 0 and recipe.trained == "all",
        **dict.fromkeys(("drop_rate", "drop_path_rate", "dropblock"), recipe.trained == "all"),
        "augmentation": any(getattr(recipe, part) != off for part, off in AS_STORED.items()),
    }
    same = getattr(recipe, name) == getattr(changed, name) or not on.get(name, True)
    assert (changed.canonical() == recipe.canonical()) == same


@pytest.mark.parametrize(
    "name, value",
    [
        ("epochs", 2.5),
        ("epochs", "two"),
        ("epochs", True),
        ("epochs", None),
        ("epochs", [3]),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", "1e-3 or so"),
        ("learning_rate", np.array([1.0, 2.0])),
        ("rotate90", "maybe"),
        ("rotate90", 2),
        ("crop", 1),
        ("crop_scale", (0.1,)),
        ("crop_scale", "0.1"),
        ("crop_scale", 0.5),
        ("crop_scale", ("a", "b")),
    ],
)
def test_what_is_no_value_of_a_field_is_refused_in_one_line_with_its_name(name, value):
    with pytest.raises(ValueError, match=f"{name} .* is not ") as error:
        get_recipe("smoke", **{name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_an_odd_batch_is_refused_where_images_are_mixed_in_pairs(mixing):
    with pytest.raises(ValueError, match="batch_size 5 is odd; .* --set batch_size=6"):
        get_recipe("smoke", batch_size=5, **{mixing: 0.8})
    with pytest.raises(ValueError, match="micro_batch_size 3 is odd; .* --set micro_batch_size=4"):
        get_recipe("smoke", batch_size=6, micro_batch_size=3, **{mixing: 0.8})
    assert get_recipe("smoke", batch_size=5).batch_size == 5
    assert get_recipe("smoke", batch_size=6, micro_batch_size=2, **{mixing: 0.8}).batch_size == 6
