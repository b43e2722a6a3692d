"""The page about ViT-CIFAR: its counts add up, its quirks are what it says, and no run stands
under a name not its own.
"""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from astroformer import data
from astroformer.counting import closed_forms
from astroformer.data.augment import smoothed
from astroformer.ledger import claims, records
from astroformer.reading import vit_cifar as asked
from astroformer.recipes import RECIPES, get_recipe
from astroformer.studies import effects
from astroformer.studies.studies import get_study
from astroformer.training import Run, fit
from astroformer.verdicts.demonstrations import lowest_gelu, vit_cifar_schedule

SMALL = (("depth", 1), ("dim", 16), ("heads", 2), ("mlp_hidden", 16))


def test_the_parts_add_up_to_the_released_number_of_parameters():
    table = asked.parts()
    *parts, whole = (int(text.replace(",", "")) for text in table["parameters"])
    assert sum(parts) == whole == 6_268_810
    assert table["shape"].iloc[[0, 1, 3, -1]].tolist() == [
        "3 x 32 x 32",
        "64 x 48",
        "65 x 384",
        "10",
    ]


def test_before_training_the_textbooks_scale_spreads_logits_by_the_root_of_the_heads():
    starts = asked.at_start(asked.sample(2)[1])
    released, head, linear = (
        starts[name].loc[1] for name in (asked.BASE, "scale=head", "mlp_end=linear")
    )
    # same weights, same input
    assert head["spread"] / released["spread"] == pytest.approx(math.sqrt(12), rel=1e-4)
    assert head["keys"] < released["keys"] < 65
    assert linear["spread"] == released["spread"]
    lowest = {name: table["smallest"].min() for name, table in starts.items()}
    assert (
        lowest_gelu() - 1e-6 < lowest[asked.BASE] < 0
        and lowest["mlp_end=linear"] < 2 * lowest_gelu()
    )
    assert list(asked.start_table(starts).index) == list(starts)


def test_smoothing_over_the_others_is_a_larger_smoothing_over_all():
    table = asked.targets(0.1, classes=(10,))
    larger = float(table["s / K with s ="].iloc[0])
    torch.testing.assert_close(
        smoothed(torch.tensor([0]), 10, larger),
        smoothed(torch.tensor([0]), 10, 0.1, over="others"),
        rtol=0,
        atol=1e-4,
    )
    assert larger > 0.1 == float(table["s / K with s ="].iloc[1])


def test_the_drawn_schedule_is_that_of_torchs_own_schedulers():
    released = asked.rates(get_recipe("vit_cifar"), steps_per_epoch=2)
    np.testing.assert_allclose(
        released["learning rate"][::2], vit_cifar_schedule()["learning rate"], atol=1e-12
    )
    textbook = asked.rates(get_recipe("vit_cifar", schedule="step"), steps_per_epoch=2)
    facts = asked.rate_facts(released, textbook, steps=2)
    assert (
        facts["first_released"] == 0 < facts["first_textbook"]
        and facts["last_released"] > facts["last_textbook"] > 1e-5
    )


def test_released_rotations_go_one_way_and_pillow_is_left_as_it_was():
    rotate, pixels = Image.Image.rotate, np.zeros((32, 32, 3), np.uint8)
    found = {
        policy: asked.rotations(policy, pixels, draws=300) for policy in ("svhn-released", "svhn")
    }
    angles, images = found["svhn-released"]
    assert len(images) > 10 and min(angles) > 0
    assert min(found["svhn"][0]) < 0 < max(found["svhn"][0])
    assert Image.Image.rotate is rotate
    table = asked.rotation_table({"svhn-released": angles, "never": []}, draws=300)
    assert table["of these anticlockwise (%)"].tolist() == ["100", ""]


def test_the_table_of_hyper_parameters_says_where_the_recipes_differ():
    table = asked.hyper_parameters()
    assert set(table.index[table["differs"] == "yes"]) == {
        "label_smoothing",
        "smoothing_over",
        "hflip",
        "autoaugment",
    }
    for name in ("epochs", "batch_size", "optimizer"):
        assert table.loc[name, "vit_cifar"] == str(getattr(RECIPES["vit_cifar"], name))


def test_the_run_behind_a_reported_number_can_be_made_and_costs_three_forward_passes_an_image():
    for dataset, (name, recipe) in asked.REPORTED.items():
        row, run = data.DATASETS[name], asked.expected(dataset)
        assert row.title == dataset and f"--dataset {name} " in run["command"]
        assert run["command"].endswith(f"--recipe {recipe}")
        network = closed_forms.released_counts("vit_cifar", image_size=32, num_classes=row.classes)
        assert run["macs"] == 3 * network.macs * row.train * 200


@pytest.fixture(scope="module")
def frame(tiny_folder, shared_runs):
    """Three real records: as released, with a quirk put right, with the schedule put right."""
    made = [
        fit(
            Run(
                model="vit_cifar",
                dataset="folder",
                data_dir=str(tiny_folder),
                image_size=32,
                options=SMALL + options,
                recipe=get_recipe("vit_cifar", epochs=1, warmup_epochs=1, batch_size=8, **changes),
            ),
            device=torch.device("cpu"),
            report=lambda line: None,
        ).record
        for options, changes in (((), {}), ((("scale", "head"),), {}), ((), {"schedule": "step"}))
    ]
    return records.frame(made)


def test_only_the_whole_recipe_on_the_real_images_stands_under_a_data_sets_name(frame):
    row = frame.iloc[0].to_dict() | {
        "dataset.title": "CIFAR-10",
        "dataset.kind": "real",
        "recipe.name": "vit_cifar",
    }
    whole = row | {name: np.nan for name in row if name.startswith("options.")}
    departures = (
        {"dataset.kind": "re-encoded"},
        {"dataset.title": "CIFAR-10 (JPEG re-encode)"},
        {"fraction": 0.5},
        {"recipe.name": "vit_cifar+epochs=5"},
        {"options.depth": 1},
        {"image_size": 64},
        {"dataset.evaluated_on": "validation"},
    )
    every = [whole, *(whole | change for change in departures)]
    runs = pd.DataFrame([dict(each, run=str(i), group=str(i)) for i, each in enumerate(every)])
    assert asked.whole_runs(runs)["CIFAR-10"]["run"].tolist() == ["0"]
    assert {name: len(found) for name, found in asked.whole_runs(runs).items()} == {
        "CIFAR-10": 1,
        "CIFAR-100": 0,
        "SVHN": 0,
    }
    others = pd.concat(asked.other_runs(runs).values())
    assert sorted(others["run"]) == sorted(str(i + 1) for i in range(len(departures)))


def test_runs_with_a_quirk_put_right_are_not_drawn_as_released(frame):
    [(heading, runs)] = asked.other_runs(frame).items()
    assert runs["run"].tolist() == [frame["run"].iloc[0]]
    assert (
        "48 images of 32 pixels, 1 epochs\n" in heading
        and "(depth 1, dim 16, heads 2, mlp_hidden 16)" in heading
    )
    assert asked.run_table({heading: runs})["recipe: smoothing"].tolist() == [
        "vit_cifar: no smoothing"
    ]
    assert (
        asked.other_runs(records.frame([])) == {}
        and len(asked.whole_runs(records.frame([]))["SVHN"]) == 0
    )


def test_runs_that_a_study_with_a_design_asked_for_are_not_among_the_runs_of_the_page(frame):
    own = frame.assign(**{"study.name": np.nan})
    asked_for = frame.assign(**{"study.name": "vit_cifar_parts"}, run="s", started="2999")
    both = pd.concat([own, asked_for], ignore_index=True)
    assert asked.completed(both)["run"].tolist() == asked.completed(frame)["run"].tolist()
    assert not len(asked.completed(asked_for))


def study(**top1):
    """A study's frame: variation -> accuracy by seed, None where it is not run."""
    return pd.DataFrame(
        [
            {
                "variation": name.replace("_", " ").replace("0", "="),
                "seed": seed,
                "top1": value,
                "status": "not run" if value is None else "completed",
                "dataset": "tiny",
                "run": f"{name}-{seed}",
            }
            for name, values in top1.items()
            for seed, value in enumerate(values)
        ]
    )


# Variations that differ from the released network by chance alone; with them there are enough runs.
OTHERS = {f"other{i}": (50.0 + 0.3 * i, 60.1, 70.0 - 0.3 * i) for i in range(1, 5)}


def judged(**top1):
    frame = study(as_released=(50.0, 60.0, 70.0), **top1, **OTHERS)
    return frame, effects.effects(frame, asked.BASE)


def test_a_departure_is_named_only_if_its_simultaneous_interval_leaves_zero_out():
    frame, found = judged(scale0head=(60.0, 70.0, 80.2))
    facts = asked.ablation_facts(frame, found, 5.92, get_study("vit_cifar_quirks"))
    assert facts["beyond"].startswith("1 of 5 simultaneous intervals leave out zero: scale=head (+")
    assert facts["ablation_runs"] == facts["ablation_all"] == 18
    assert "Dunnett" in facts["method"] and "all 18 runs are missing" in facts["method"]
    frame, found = judged(scale0head=(50.9, 61.0, 70.9))
    nothing = asked.ablation_facts(frame, found, 5.92, get_study("vit_cifar_quirks"))["beyond"]
    assert nothing.startswith("None of 5") and "may change top-1 by up to" in nothing
    few = study(as_released=(50.0, 60.0, 70.0), scale0head=(60.0, 70.0, 80.2))
    facts = asked.ablation_facts(
        few, effects.effects(few, asked.BASE), 5.92, get_study("vit_cifar_quirks")
    )
    assert facts["beyond"].startswith("Too few runs")


def test_changes_of_the_schedule_ask_another_question_in_a_short_training():
    short, full = get_study("vit_cifar_quirks"), get_study("vit_cifar_quirks_full")
    assert asked.other_questions(short) == ["schedule=step", "textbook"]
    assert asked.labelled(short)["schedule=step"] == "schedule=step *"
    assert "1 of 6 epochs here and 1 of 200" in asked.schedule_note(short)
    assert asked.other_questions(full) == [] and asked.schedule_note(full) == ""


def test_runs_that_a_study_lacks_are_counted():
    frame = study(as_released=(50.0, 60.0, 70.0), scale0head=(51.0, None, None))
    assert asked.study_table({"a": frame})["seeds missing"].tolist() == [0, 2]


@pytest.mark.parametrize(
    "values, words",
    [
        ((None,) * 3, "cannot be said, since the ablation is not run"),
        ((49.0, 60.1, 70.0), "an interval that holds zero but not the gap"),
        ((56.0, 66.1, 76.0), "is not supported"),
        ((48.0, 58.1, 68.0), "less than the gap"),
        ((40.0, 50.1, 60.0), "more than the gap"),
        ((44.1, 54.0, 64.3), "holds the whole gap"),
    ],
)
def test_the_sentence_about_smoothing_follows_from_the_interval(values, words):
    assert words in asked.verdict_on_smoothing(judged(smoothing0others=values)[1], 5.92)


def test_nothing_is_said_about_smoothing_from_few_runs():
    few = study(as_released=(50.0, 60.0, 70.0), smoothing0others=(49.0, 58.0, 67.0))
    said = asked.verdict_on_smoothing(effects.effects(few, asked.BASE), 5.92)
    assert said == "cannot be said from so few runs (-1.00, -2.00, -3.00 points by seed)"


def test_the_gap_is_that_of_the_printed_numbers():
    reported = claims.read()
    assert asked.gap(reported) == pytest.approx({"reported": 90.92, "found": 85, "points": 5.92})
    assert list(asked.reported(reported)) == list(asked.REPORTED)
