"""Tables of recipes: values in words, only what differs, marks behind values of ours, and
classes in batches.
"""

import numpy as np
import pandas as pd
import pytest

from astroformer.data.images import About, Images
from astroformer.reading import recipes, sampling
from astroformer.recipes import OURS, RECIPES, get_recipe
from astroformer.recipes.timm_flags import FLAGS, README_COMMAND


def test_differences_are_the_fields_in_which_recipes_differ_with_what_is_off_called_so():
    table = recipes.differences(["readme", "methodology", "paper"])
    assert set(table.index) == {
        "clip_grad",
        "color_jitter",
        "drop_path_rate",
        "drop_rate",
        "optimizer",
        "randaugment",
        "sampling",
        "weight_decay",
    }
    assert table.loc["clip_grad"].tolist() == ["off", "1 *", "off"]
    assert table.loc["sampling"].tolist() == ["shuffled", "shuffled", "stratified"]


def test_a_star_stands_behind_every_value_of_ours_and_no_other():
    names = list(RECIPES)
    table = recipes.differences(names)
    for name in names:
        assert {field for field in table.index if table.loc[field, name].endswith("*")} == set(
            OURS[name]
        ) & set(table.index)


def test_values_have_their_units_and_what_depends_on_something_off_is_off():
    recipe = get_recipe("smoke", crop_scale=(0.5, 1.0), erase_mode="pixel", micro_batch_size=50)
    words = {
        field: recipes.in_words(recipe, field)
        for field in ("batch_size", "micro_batch_size", "warmup_epochs", "rotate90", "precision")
    }
    assert words == {
        "batch_size": "50 images a step",
        "micro_batch_size": "the whole batch",
        "warmup_epochs": "1 epochs",
        "rotate90": "on",
        "precision": "auto",
    }
    idle = ("crop_scale", "interpolation", "mixup_mode", "erase_mode")
    assert {recipes.in_words(recipe, field) for field in idle} == {"off"}
    cut = get_recipe("smoke", erase_mode="pixel", cutout=0.25)
    assert recipes.in_words(cut, "erase_mode") == "pixel"
    assert recipes.in_words(RECIPES["readme"], "crop_scale") == "0.08 to 1"


def test_side_by_side_leaves_out_what_is_off_everywhere():
    table = recipes.side_by_side([get_recipe("smoke"), get_recipe("small", cutmix=0.5)])
    assert table.loc["cutmix"].tolist() == ["off", "0.5"] and not {
        "mixup",
        "autoaugment",
        "source",
    } & set(table.index)


def test_the_table_of_flags_repeats_the_librarys_own_words():
    table = recipes.flag_table(["--amp", "--output"])
    assert (
        table.meaning.tolist() == [FLAGS["--amp"].meaning, FLAGS["--output"].meaning]
        and table.decides[1] == "nothing"
    )


def test_class_counts_of_batches_vary_least_where_the_sampling_promises_it():
    labels = np.repeat([0, 1, 2], [30, 12, 6])
    images = Images(
        np.zeros((48, 4, 4, 3), dtype=np.uint8),
        labels,
        ("a", "b", "c"),
        4,
        "train",
        About("x", "x", "synthetic"),
    )
    counted = sampling.batch_counts(images, 8, epochs=5)
    assert counted.groupby(["sampling", "epoch", "batch"])["images"].sum().eq(8).all()
    table = sampling.sampling_table(images, counted).set_index("class")
    assert table["images"].tolist() == [30, 12, 6] and table["stratified"].tolist() == [
        "5 to 5",
        "2 to 2",
        "1 to 1",
    ]
    assert table["balanced"].tolist() == ["2 to 3"] * 3
    spread = counted.groupby(["sampling", "class"])["images"].std()
    assert (spread["shuffled"] > spread["stratified"]).all()


def test_an_unbalanced_part_has_fewer_of_each_class_than_of_the_one_before():
    labels = np.tile(np.arange(5), 40)
    images = Images(
        np.zeros((200, 4, 4, 3), dtype=np.uint8),
        labels,
        tuple("abcde"),
        4,
        "train",
        About("x", "x", "synthetic"),
    )
    assert sampling.unbalanced(images).counts().tolist() == [40, 26, 17, 11, 7]


def test_the_facts_of_the_readmes_command_are_those_of_timms_rule():
    facts = recipes.flag_facts(README_COMMAND.split(), batch_size=128)
    assert facts["same"] == "exactly" and facts["rate"] == pytest.approx(4 * facts["rate_alone"])
    assert (facts["batch"], facts["batch_alone"]) == (2048, 128) and 0 < facts["in_vain"] < facts[
        "flags"
    ]


def test_a_study_is_told_by_changes_against_its_first_variation_with_the_same_seed():
    rows = [
        ("base", 0, 50.0),
        ("base", 1, 60.0),
        ("other", 0, 52.0),
        ("other", 1, 62.0),
        ("third", 0, None),
        ("third", 1, None),
    ]
    frame = pd.DataFrame(
        [
            {
                "variation": name,
                "seed": seed,
                "status": "not run" if value is None else "completed",
                "top1": value,
                "balanced_accuracy": value,
            }
            for name, seed, value in rows
        ]
    )
    table = recipes.study_table(frame, "augmentation").set_index("variation")
    assert (
        table["change (points)"].tolist() == ["", "2.00, 2.00 (2)", "not run"]
        and table["top-1 (%)"]["third"] == "not run"
    )
    assert table["seeds missing"].tolist() == [0, 0, 2] and table["command"].tolist() == [
        "",
        "",
        "astroformer study augmentation",
    ]
    nothing = pd.DataFrame(
        [{"variation": name, "seed": 0, "status": "not run"} for name in ("base", "other")]
    )
    assert set(recipes.study_table(nothing, "x")["balanced (%)"]) == {"not run"}
