"""Tables of recipes: values in words, only what differs, marks behind values of ours, classes in
batches, and what the studies of recipes show.
"""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from astroformer import contrasts
from astroformer.data import canonical
from astroformer.data.images import About, Images
from astroformer.ledger import claims, records
from astroformer.reading import recipes, sampling
from astroformer.recipes import OURS, RECIPES, get_recipe
from astroformer.recipes.timm_flags import FLAGS, README_COMMAND
from astroformer.studies import effects
from astroformer.studies.studies import get_study


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


# What the studies show


def record(run, balanced, top1=0.0):
    """What the run leaves in the ledger, as far as a study's frame reads it."""
    cifar = run.dataset == "cifar100"
    return dict.fromkeys(records.FIELDS) | {
        "run": f"{run.model} {run.options} {run.recipe.name} {run.image_size} {run.seed}",
        "status": "completed",
        "model": run.model,
        "options": dict(run.options),
        "seed": run.seed,
        "fraction": 1.0,
        "image_size": run.image_size,
        "recipe": asdict(run.recipe),
        "metrics": {"top1": top1, "balanced_accuracy": balanced, "nll": 1.0},
        "started": "2026-01-01T00:00:00+00:00",
        "dataset": {
            "source": run.dataset,
            "name": run.data_dir or run.dataset,
            "title": run.data_dir or run.dataset,
            "kind": "real",
            "sha256": canonical.SHA256_CIFAR100 if cifar else "0",
            "evaluated_on": "test",
            "train": 5_331,
            "test": 1_333,
            "classes": 6,
            "class_fraction": 1.0,
            "validation": 0.0,
            "test_images": None,
            "split_seed": 0,
        },
    }


def made(study, value, *, seeds=range(8), only=lambda name: True):
    """Records of a study: value(variation) is its balanced accuracy, and all seeds differ by noise
    that they share and by some of their own.
    """
    noise = np.random.default_rng(1)
    shared = noise.normal(0, 5, len(seeds))
    return [
        record(replace(run, seed=seed), value(name) + shared[place] + noise.normal(0, 0.5))
        for name, run in get_study(study).variations.items()
        if only(name)
        for place, seed in enumerate(seeds)
    ]


def test_differences_of_recipes_are_those_of_the_common_function_in_balanced_accuracy(own_runs):
    found = made("recipe_differences", lambda name: 53.0 if name.startswith("weight") else 50.0)
    compared = recipes.compared("recipe_differences", found)
    assert compared.base == "readme" and compared.decides
    table = pd.DataFrame(
        {
            name: {
                one["seed"]: one["metrics"]["balanced_accuracy"]
                for one in found
                if one["run"].startswith(record(run, 0)["run"].rpartition(" ")[0])
            }
            for name, run in get_study("recipe_differences").variations.items()
        }
    )
    against = contrasts.blocked(table).against("readme")
    for name, one in against.items():
        assert (compared.against[name].estimate, compared.against[name].p) == pytest.approx(
            (one.estimate, one.p)
        )
    told = recipes.which_matter(compared)
    assert "1 of 6 intervals leave out zero: weight_decay=0.05 (+" in told
    assert "Dunnett's against the recipe readme" in told
    shown = effects.effects_table(compared)
    assert shown.columns[0] == "balanced (%): mean (runs)" and len(shown) == 7


def test_no_difference_is_told_where_there_is_none_and_its_bound_is_named(own_runs):
    compared = recipes.compared("recipe_differences", made("recipe_differences", lambda name: 50.0))
    told = recipes.which_matter(compared)
    widest = max(max(-one.low, one.high) for one in compared.against.values())
    assert f"None of 6 intervals leaves out zero: each change may be up to {widest:.1f}" in told


@pytest.mark.parametrize("study", ["recipe_differences", "recipe_differences_paper"])
def test_a_study_without_runs_is_not_run_and_says_nothing_else(study):
    compared = recipes.compared(study, [])
    assert set(effects.effects_table(compared).iloc[:, 0]) == {"not run"}
    assert recipes.which_matter(compared) == ""
    missing = len(get_study(study).runs())
    assert recipes.progress(study, []).startswith(f"Not run: all of the {missing} runs. ")
    assert f"`astroformer study run {study}`" in recipes.progress(study, [])


def test_what_is_missing_is_counted_and_nothing_is_when_all_is_made(own_runs):
    found = made("recipe_differences", lambda name: 50.0)
    assert recipes.progress("recipe_differences", found[:3]).startswith("Not run: 53 of the 56")
    assert recipes.progress("recipe_differences", found) == "All 56 runs are made."


def test_two_recipes_are_compared_in_every_place_at_once_and_data_sets_apart(own_runs):
    def value(name):
        better = "methodology" in name and "astroformer_0, galaxyzoo1-128, 64" in name
        return 54.0 if better else 50.0

    found = made("recipes", value)
    galaxies = [one for one in found if one["dataset"]["name"] == "galaxyzoo1-128"]
    both, alone = recipes.two_recipes(found), recipes.two_recipes(galaxies)
    assert len(both) == 8 and all(pair.contrast for pair in both.values())
    known = {name for name, pair in alone.items() if pair.contrast}
    assert known == {name for name in both if "galaxyzoo1" in name}
    for name in known:
        # the other data set says nothing about this one, but is one more hypothesis
        one, other = both[name].contrast, alone[name].contrast
        assert (one.estimate, one.low, one.high) == (other.estimate, other.low, other.high)
        assert one.p >= other.p
        assert one.estimate == pytest.approx(both[name].each_seed.mean())
    told = recipes.which_is_better(both, "The notes' recipe less the README's")
    assert told.startswith("The notes' recipe less the README's: astroformer_0, galaxyzoo1-128, 64")
    assert told.count("(95 % ") == 1 and "of all 8 comparisons" in told
    table = recipes.two_recipes_table(both)
    assert len(table.columns) <= 6 and table["p (Holm)"].iloc[4] == "< 0.001"


def test_two_recipes_that_are_not_run_have_no_difference_and_no_sentence():
    pairs = recipes.two_recipes([])
    assert set(recipes.two_recipes_table(pairs).iloc[:, :2].to_numpy().ravel()) == {"not run"}
    assert recipes.which_is_better(pairs, "A less B") == ""


def test_c_c_c_t_is_compared_with_each_other_stack_of_its_own_network(own_runs):
    found = made("tiny_imagenet", lambda name: 60.0)
    for one in found:
        worse = one["options"].get("stack") == "CTTT" and one["model"] == "astroformer_0"
        one["metrics"]["top1"] = one["metrics"].pop("balanced_accuracy") - 5.0 * worse
    pairs = recipes.stacks(found)
    assert sorted(pairs) == [
        f"astroformer_{size}, {stack}" for size in (0, 3) for stack in ("C-C-T-T", "C-T-T-T")
    ]
    told = recipes.which_is_better(pairs, "C-C-C-T less")
    assert told.startswith("C-C-C-T less: astroformer_0, C-T-T-T +") and told.count("(95 %") == 1
    table = recipes.stacks_table(pairs)
    assert table.columns.tolist()[:2] == ["this stack: top-1 (%)", "C-C-C-T: top-1 (%)"]
    assert set(recipes.stacks_table(recipes.stacks([])).iloc[:, 0]) == {"not run"}
    none = [one for one in found if one["model"] == "astroformer_3"]
    assert "no difference is told from 0" in recipes.which_is_better(recipes.stacks(none), "x")


def test_a_command_of_an_issue_stands_beside_one_further_run_of_ours(own_runs):
    reported = claims.read()
    run = get_study("public_reruns").variations["astroformer_3, CIFAR-100, 224 px, batch 128"]
    found = [record(replace(run, seed=seed), 0.0, 77.0 + seed) for seed in range(3)]
    empty, two, three = (recipes.reruns(reported, found[:n]).iloc[0] for n in (0, 2, 3))
    assert empty["reported (%)"] == "78.46" and empty["measured (%)"] == "not run"
    assert two["measured (%)"] == "77.00, 78.00 (2)" and two["one further run"] == ""
    low, high = map(float, three["one further run"].split(" to "))
    further = contrasts.prediction_interval([77.0, 78.0, 79.0])
    assert (low, high) == pytest.approx((further.low, further.high), abs=0.05)
    rest = recipes.reruns(reported, found).iloc[1:]
    assert set(rest["measured (%)"]) == {"not run"}
    assert rest["reported (%)"].tolist() == ["no number", "no number", "about 85", "about 56"]
