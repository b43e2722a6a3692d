"""Studies that compare variations with a named one: their runs, and what they allow to be said."""

import numpy as np
import pandas as pd
import pytest
import timm
import torch

import astroformer.models  # noqa: F401  (registers the networks)
from astroformer.data.tasks import TASKS
from astroformer.studies import design as designs
from astroformer.studies import variations
from astroformer.studies.price import Pretended


def cells_of(name, profile="cpu"):
    one = designs.read(name)
    return one, variations.cells(one, one.profile(profile), Pretended())


@pytest.mark.parametrize("name", variations.NAMES)
@pytest.mark.parametrize("profile", ["cpu", "gpu", "cluster"])
def test_every_run_can_be_built_and_no_two_are_one(name, profile):
    design, cells = cells_of(name, profile)
    assert len({cell.key for cell in cells}) == len(cells) > 10
    assert {cell.arm for cell in cells} == set(design.arms)
    first = cells[0].seed
    with torch.device("meta"):
        for cell in (cell for cell in cells if cell.seed == first):
            run = cell.run
            size, classes = run.image_size, TASKS[cell.task].classes
            timm.create_model(run.model, num_classes=classes, img_size=size, **dict(run.options))


@pytest.mark.parametrize("name", variations.NAMES)
def test_arms_of_a_seed_differ_in_what_the_arm_says_alone(name):
    design, cells = cells_of(name)
    for task in design.tasks:
        block = [cell for cell in cells if cell.task == task and cell.seed == cells[0].seed]
        base = next(cell for cell in block if cell.arm == design.told["base"]).run
        for cell in block:
            told = design.told["arms"][cell.arm].get("recipe", {})
            own, theirs = cell.run.recipe.canonical(), base.recipe.canonical()
            differing = {name for name in own | theirs if own.get(name) != theirs.get(name)}
            assert differing == {n for n, v in told.items() if theirs.get(n) != v} - {
                "decay_all"
            } | ({"decay_all"} if "decay_all" in told else set())
            assert (cell.run.fraction, cell.run.validation) == (base.fraction, base.validation)


def test_a_task_waits_for_the_rate_that_it_takes_over():
    one = designs.read("attention_form")
    assert variations.cells(one, one.profile("cpu"), variations.Found([])) == []


def filled(name, effects, *, seeds=5, sd=1.0, seed=0):
    """The study with made-up outcomes: arm -> its effect in points."""
    study, random = variations.result(name, found=[]), np.random.default_rng(seed)
    rows = [
        {"stage": "low", "task": task, "arm": arm, "seed": number, "value": 50 + block + effect
         + random.normal(0, sd), "train": 90.0, "diverged": False, "run": "none"}
        for task in study.design.tasks
        for number, block in enumerate(random.normal(0, 3, seeds))
        for arm, effect in effects.items()
    ]  # fmt: skip
    study.__dict__["table"] = pd.DataFrame(rows)
    return study


def test_a_difference_is_named_with_its_interval_and_none_is_called_no_effect():
    study = filled("attention_form", {"inside": 0, "outside": -6, "none": 0, "cbam": 0})
    sentence = study.sentence()
    assert "“bias outside the softmax” differs from “bias inside" in sentence
    table = study.comparisons()
    outside = table[table["arm"] == "bias outside the softmax"]
    assert (outside["low"] < -6).any() or (outside["high"] < 0).all()
    same = filled("attention_form", dict.fromkeys(study.design.arms, 0), seed=3).sentence()
    assert "may be up to" in same and "no effect" not in same


def test_few_runs_are_shown_and_nothing_is_said_of_them():
    study = filled("attention_form", {"inside": 0, "outside": -6, "none": 0, "cbam": 0}, seeds=2)
    assert "too few runs" in study.sentence()
    table = study.comparisons()
    assert table["accuracy (%)"].notna().all() and table["points"].isna().all()
    assert variations.result("attention_form", found=[]).sentence() == "Not run."


def test_the_trend_of_a_dose_is_its_slope():
    effects = {str(dose): 0.8 * dose for dose in range(7)}
    study = filled("spectral_blocks_real", effects, seeds=4, sd=0.5)
    trend = study.trend(("cifar100",))
    assert trend.low < 0.8 < trend.high and trend.estimate == pytest.approx(0.8, abs=0.15)
    assert "for each step" in study.sentence()


@pytest.mark.slow
def test_false_alarms_are_rare_over_many_studies():
    alarms = [
        "differs" in filled("vit_cifar_parts", dict.fromkeys(
            designs.read("vit_cifar_parts").arms, 0), seeds=4, seed=seed).sentence()
        for seed in range(200)
    ]  # fmt: skip
    assert np.mean(alarms) < 0.1  # 5 % asked for


def test_folds_are_one_data_set_whose_seeds_have_the_mean_of_all_folds():
    study = filled("galaxy10_part", {"CCCT": 0, "CCTT": -4, "CTTT": -4}, seeds=6)
    assert list(study.groups.values()) == [tuple(study.design.tasks)]
    table = study.comparisons()
    assert len(table) == 3 and table["seeds"].eq(6).all()
    part = study.table[study.table["arm"] == "CCCT"]
    assert table["accuracy (%)"].iloc[0] == pytest.approx(part["value"].mean())
    # a seed that lacks a fold is left out
    study.__dict__["table"] = study.table.drop(index=study.table.index[:3])
    assert study.comparisons()["seeds"].eq(5).all()
