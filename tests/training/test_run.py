"""A run's name: equal runs have one, others have others, and its command makes it again."""

import dataclasses
import json
import shlex
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astroformer import cli, data
from astroformer.ledger import identity
from astroformer.models.options import checked_options, default_options
from astroformer.recipes import RECIPES, get_recipe
from astroformer.recipes.recipe import CHOICES, Recipe
from astroformer.sizes import MODELS
from astroformer.training import Run, fit
from astroformer.training.run import REVISION

CPU = torch.device("cpu")


def run_on(folder, *, resolve=True, recipe=None, **fields):
    recipe = recipe or get_recipe("smoke", epochs=2, batch_size=8)
    asked = {"model": "astroformer_pico", "dataset": "folder", "data_dir": str(folder)} | fields
    made = Run(recipe=recipe, **asked)
    return made.resolved(CPU) if resolve else made


@pytest.fixture(scope="module")
def folder(tiny_folder):
    return tiny_folder


def test_a_run_that_is_not_resolved_has_no_name(folder):
    unresolved = run_on(folder, resolve=False)
    for name in ("hash", "folder", "question"):
        with pytest.raises(ValueError, match="resolved"):
            getattr(unresolved, name)
    resolved = unresolved.resolved(CPU)
    for change in (
        dict(image_size=None),
        dict(recipe=dataclasses.replace(resolved.recipe, precision="auto")),
        dict(recipe=dataclasses.replace(resolved.recipe, preprocessing="auto")),
        dict(evaluate="auto"),
    ):
        with pytest.raises(ValueError, match="resolved"):
            _ = dataclasses.replace(resolved, **change).hash
    assert resolved.hash and resolved.folder.name == resolved.hash
    assert resolved.resolved(CPU) == resolved


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (dict(fraction=1), dict(fraction=1.0)),
        (dict(fraction="0.5"), dict(fraction=0.5)),
        (dict(fraction=np.float32(0.5)), dict(fraction=0.5)),
        (dict(seed=np.int64(3)), dict(seed=3)),
        (dict(seed="3"), dict(seed=3)),
        (dict(image_size=None), dict(image_size=32)),
        (dict(options=()), dict(options=(("stack", "CCCT"),))),
        (dict(options=(("stack", "CCTT"), ("rel_bias", "none"))),
         dict(options=(("rel_bias", "none"), ("stack", "CCTT")))),
        (dict(options=(("depths", (1, 2, 2, 2)),)), dict(options=(("depths", "1,2,2,2"),))),
        (dict(options=(("depths", [1, 2, 3, 2]),)), dict(options=())),
        (dict(allow_partial=True), dict(allow_partial=False)),
        (dict(split_seed=0.0), dict(split_seed=0)),
    ],
)  # fmt: skip
def test_two_spellings_of_one_run_have_one_name(folder, one, other):
    assert run_on(folder, **one) == run_on(folder, **other) or "allow_partial" in one
    assert run_on(folder, **one).hash == run_on(folder, **other).hash


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (dict(warmup_epochs=2), dict(warmup_epochs=2.0)),
        (dict(mixup_mode="elem"), dict()),
        (dict(crop_scale=(0.5, 1.0)), dict()),
        (dict(erase_mode="pixel"), dict()),
        (dict(interpolation="random"), dict()),
        (dict(warmup_epochs=0, warmup_learning_rate=0.1), dict(warmup_epochs=0)),
        (dict(micro_batch_size=8), dict(micro_batch_size=0)),
        (dict(weight_decay=0, decay_all=True), dict(weight_decay=0)),
        (dict(optimizer="AdamW"), dict(optimizer="adamw")),
        (dict(steps=3, epochs=5), dict(steps=3)),
        (dict(steps=3, warmup_epochs=0.5), dict(steps=3)),
        (dict(warmup_part=0.1), dict()),
        (dict(preprocessing="data"), dict(preprocessing="auto")),
        (dict(precision="float32"), dict(precision="auto")),
        (dict(crop_scale=[0.2, 1], crop="random-resized"),
         dict(crop_scale=(0.2, 1.0), crop="random-resized")),
    ],
)  # fmt: skip
def test_two_spellings_of_one_recipe_have_one_name(folder, one, other):
    recipes = [
        get_recipe("smoke", **{"epochs": 2, "batch_size": 8, **which}) for which in (one, other)
    ]
    names = {run_on(folder, recipe=recipe).hash for recipe in recipes}
    assert len(names) == 1


def test_defaults_of_generated_data_are_written_out():
    of = lambda **fields: run_on("", dataset="galaxies", data_dir=None, **fields).hash  # noqa: E731
    assert of() == of(train_images=2000) != of(train_images=100)


# Everything that a recipe may switch on, so that no field is without effect.
BUSY = dict(
    epochs=4, batch_size=8, micro_batch_size=4, warmup_epochs=1.0, warmup_learning_rate=1e-4,
    weight_decay=0.1, label_smoothing=0.1, crop="random-resized", cutout=0.5, cutmix=0.5,
    mixup=0.4, drop_rate=0.1, drop_path_rate=0.1, clip_grad=1.0, ema_decay=0.9,
    randaugment="rand-m9-mstd0.5-inc1", hflip=0.5, vflip=0.5, color_jitter=0.1, dropblock=0.1,
)  # fmt: skip
OTHER = {
    "optimizer": "sgd", "randaugment": "rand-m5-mstd0.5-inc1", "crop_scale": (0.3, 0.9),
    "warmup_epochs": 2.0, "smoothing_over": "all", "micro_batch_size": 2, "batch_size": 4,
    "epochs": 5, "crop": "pad", "steps": 7,
}  # fmt: skip


def another(field, value):
    """A value of a recipe's field that differs from the one given."""
    if field.name in OTHER:
        return OTHER[field.name]
    if field.name in CHOICES:
        settled = [one for one in CHOICES[field.name] if one not in ("auto", value)]
        return settled[-1]
    if isinstance(value, bool):
        return not value
    return value / 2 if value else 0.25


@pytest.mark.parametrize(
    "field",
    [
        f
        for f in dataclasses.fields(Recipe)
        if f.name not in ("name", "source", "values", "smoothing_over")
    ],
    ids=lambda field: field.name,
)
def test_every_field_of_a_recipe_that_has_an_effect_changes_the_name(folder, field):
    busy = get_recipe("smoke", **BUSY)
    if field.name == "warmup_part":
        busy = dataclasses.replace(busy, steps=9)
    if field.name == "sampling":
        other = dataclasses.replace(busy, sampling="balanced")
    else:
        busy = dataclasses.replace(busy, preprocessing="data", precision="float32")
        value = another(field, getattr(busy, field.name))
        other = dataclasses.replace(busy, **{field.name: value})
    assert run_on(folder, recipe=busy).hash != run_on(folder, recipe=other).hash


@pytest.mark.parametrize(
    "change",
    [
        dict(seed=1), dict(fraction=0.5), dict(options=(("stack", "CCTT"),)), dict(image_size=64),
        dict(model="vit_cifar"), dict(validation=0.25), dict(class_fraction=0.7),
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_field_of_a_run_that_has_an_effect_changes_the_name(folder, change):
    assert run_on(folder, **change).hash != run_on(folder).hash


def test_the_name_follows_the_images_and_not_their_place(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    assert run_on(copied).hash == run_on(folder).hash
    (copied / "test").rename(copied / "val")
    assert run_on(copied).hash == run_on(folder).hash
    image = next((copied / "train").rglob("*.png"))
    image.write_bytes(next(p for p in (copied / "val").rglob("*.png")).read_bytes())
    assert run_on(copied).hash != run_on(folder).hash


@given(pairs=st.permutations(("cigar", "round", "spiral")).map(lambda names: [names[:2]]))
def test_classes_that_change_places_in_a_mirror_are_a_part_of_the_name(
    folder, tmp_path_factory, pairs
):
    copied = shutil.copytree(folder, tmp_path_factory.mktemp("mirrored") / "images")
    told = {"name": "tiny", "mirrored": [list(pair) for pair in pairs]}
    (copied / "about.json").write_text(json.dumps(told))
    flipping, still = (
        get_recipe("smoke", batch_size=8),
        get_recipe("smoke", batch_size=8, hflip=0, vflip=0),
    )
    assert run_on(copied, recipe=flipping).hash != run_on(folder, recipe=flipping).hash
    assert (
        run_on(copied, recipe=still).hash == run_on(folder, recipe=still).hash
    )  # none is mirrored
    told["mirrored"] = [pair[::-1] for pair in told["mirrored"]][::-1]
    named = run_on(copied, recipe=flipping).hash
    (copied / "about.json").write_text(json.dumps(told | {"title": "another"}))
    assert run_on(copied, recipe=flipping).hash == named


def test_a_folder_that_changes_while_the_process_lives_is_another_run(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "growing")
    before = run_on(copied).hash
    for image in list((copied / "train" / "round").glob("*.png"))[:4]:
        shutil.copy(image, image.with_name(f"more_{image.name}"))
    assert run_on(copied).hash != before and len(run_on(copied).load("train")) == 52


def test_the_question_leaves_out_the_precision_alone(folder):
    float32, bfloat16 = (
        run_on(folder, recipe=get_recipe("smoke", epochs=2, batch_size=8, precision=precision))
        for precision in ("float32", "bfloat16")
    )
    assert float32.hash != bfloat16.hash and float32.question == bfloat16.question
    assert run_on(folder, seed=1).question != float32.question


recipes = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 9),
        "learning_rate": st.floats(1e-6, 10.0),
        "weight_decay": st.floats(0, 1),
        "hflip": st.floats(0, 1),
        "rotate90": st.booleans(),
        "crop": st.sampled_from(CHOICES["crop"]),
        "crop_scale": st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1.0)),
        "randaugment": st.sampled_from(["", "rand-m9-mstd0.5-inc1"]),
        "mixup": st.floats(0, 1),
        "optimizer": st.sampled_from(["sgd", "lamb", "AdamW"]),
        "preprocessing": st.sampled_from(CHOICES["preprocessing"]),
        "precision": st.sampled_from(CHOICES["precision"]),
        "batch_size": st.sampled_from([2, 8, 64]),
        "steps": st.sampled_from([0, 40]),
        "warmup_part": st.floats(0, 1),
    },
)
options = st.sampled_from(
    [
        (),
        (("stack", "CCTT"),),
        (("depths", "1,2,2,2"), ("rel_bias", "outside")),
        (("stem_width", 8),),
    ]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    base=st.sampled_from(sorted(RECIPES)), changes=recipes, options=options,
    seed=st.integers(0, 2**62), fraction=st.floats(0.1, 1.0), validation=st.floats(0, 0.4),
    own_name=st.booleans(), evaluate=st.sampled_from(["auto", "test"]),
    place=st.sampled_from(["plain", "my images (v2)", "it's; $HOME"]),
)  # fmt: skip
def test_the_printed_command_makes_the_same_run_again(
    folder,
    tmp_path_factory,
    base,
    changes,
    options,
    seed,
    fraction,
    validation,
    own_name,
    evaluate,
    place,
):
    root = tmp_path_factory.getbasetemp() / "places" / place
    if not root.exists():
        shutil.copytree(folder, root)
    changes = {"batch_size": 8, "micro_batch_size": 0} | changes
    changes["warmup_epochs"] = 1.0
    changes["steps"] = 0 if RECIPES[base].schedule == "epoch" else changes.get("steps", 0)
    changes.setdefault("epochs", 2)
    if changes.get("mixup"):
        changes["smoothing_over"] = "all"
    recipe = get_recipe(base, **changes)
    if own_name:  # a recipe of the user's, with a name that stands in no table
        recipe = dataclasses.replace(recipe, name="of my own")
    asked = dict(
        options=options,
        seed=seed,
        fraction=fraction,
        validation=validation,
        image_size=32,
        evaluate=evaluate,
    )
    run = run_on(root, recipe=recipe, **asked)
    words = shlex.split(run.command(located=True))
    assert words[:2] == ["astroformer", "train"]
    assert run_of(words[1:]).resolved(CPU).hash == run.hash


def run_of(words):
    """The run that a command line asks for."""
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("astroformer.training.fit", lambda run, **_: asked.append(run) or Stop())
        options = cli.parser().parse_args(words)
        with pytest.raises(Stop.Here):
            options.call(options)
    return asked[0]


class Stop:
    """Stands where a fitted run would: whoever looks at it ends there."""

    class Here(Exception):
        pass

    @property
    def record(self):
        raise self.Here


def test_a_record_bears_the_identity_from_which_its_name_follows(folder, own_runs):
    run = run_on(folder)
    record = fit(run, device=CPU, report=lambda line: None).record
    assert identity.digest(record["identity"]) == record["run"] == run.hash
    assert identity.revision(record) == REVISION and record["identity"]["revision"] == REVISION
    assert identity.question(record) == run.question
    other = fit(run_on(folder, seed=1), device=CPU, report=lambda line: None).record
    assert identity.group(other) == identity.group(record)
    assert json.loads(json.dumps(record["identity"])) == record["identity"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(seed=-1), "seed -1"),
        (dict(seed=1.5), "whole number"),
        (dict(fraction=1.5), "fraction 1.5"),
        (dict(image_size=-32), "image_size -32"),
        (dict(image_size=0), "image_size 0"),
        (dict(model="resnet"), "not known"),
        (dict(dataset="imagenet"), "not known"),
        (dict(options=(("width", 3),)), "no option 'width'; it takes"),
        (dict(options=(("drop_rate", 0.1),)), "--set drop_rate"),
        (dict(options=(("num_classes", 3),)), "data set decides"),
        (dict(options=(("stem_width", "wide"),)), "stem_width=wide is not int"),
    ],
)
def test_what_no_run_can_be_is_refused_in_one_line(folder, fields, words):
    with pytest.raises(ValueError) as refused:
        run_on(folder, resolve=False, **fields)
    assert words in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_options_that_say_the_defaults_say_nothing(name):
    assert checked_options(name, default_options(name)) == {}
    spelt = {
        option: ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for option, value in default_options(name).items()
    }
    assert checked_options(name, spelt) == {}


def test_train_size_is_what_is_loaded_without_loading_it(folder, monkeypatch):
    for fields in (dict(), dict(fraction=0.3), dict(validation=0.25), dict(class_fraction=0.7)):
        run = run_on(folder, **fields)
        assert run.train_size() == len(run.load("train"))
    galaxies = run_on("", dataset="galaxies", data_dir=None, train_images=300, fraction=0.5)
    monkeypatch.setattr(data.galaxies, "generate", None)  # nothing is drawn
    assert galaxies.train_size() == 150
