"""The study of regional dropout: that the factorial is the design that it claims to be, that its
effects and intervals are right, and what is said of them.
"""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from made_up_runs import finished

from astroformer.data.tasks import TASKS
from astroformer.studies import augmentation, design, few_images
from astroformer.studies.answers import (
    CONTRADICTED,
    NOT_RUN,
    SCALE,
    SUPPORTED,
    UNDECIDED,
)
from astroformer.studies.augmentation import factorial, interaction, main_effects, recipe_of

DESIGN = design.read("augmentation")
FACTORS = DESIGN.told["factors"]
RUNS = pd.DataFrame(factorial(FACTORS))
NAMES = list(FACTORS)

# The design


def test_sixteen_runs_are_orthogonal_and_balanced():
    assert RUNS.shape == (16, 8) and set(RUNS.to_numpy().ravel()) == {-1, 1}
    assert len(RUNS.drop_duplicates()) == 16
    assert np.array_equal(RUNS.T @ RUNS, 16 * np.eye(8, dtype=int)) and not RUNS.sum().any()


def product(names):
    return RUNS[list(names)].prod(axis=1)


def test_the_resolution_is_four():
    """No product of one, two or three factors is constant, so that no main effect is aliased with
    another one or with an interaction of two; some products of four are.
    """
    constant = {
        number: [
            "".join(names)
            for names in combinations(NAMES, number)
            if abs(product(names).sum()) == len(RUNS)
        ]
        for number in range(1, 9)
    }
    assert not constant[1] and not constant[2] and not constant[3]
    assert {"BCDE", "ACDF", "ABCG", "ABDH"} <= set(constant[4]) and len(constant[4]) == 14
    for name in NAMES:
        for pair in combinations(NAMES, 2):
            assert name in pair or abs(product((name,)) @ product(pair)) < len(RUNS)


def test_generators_are_the_products_of_their_letters():
    for name, factor in FACTORS.items():
        if "generator" in factor:
            assert (RUNS[name] == product(factor["generator"])).all()
    assert [name for name in NAMES if FACTORS[name].get("regional")] == ["F", "G", "H"]
    half = pd.DataFrame(factorial({"A": {}, "B": {}, "C": {"generator": "AB"}}))
    assert len(half) == 4 and (half["C"] == half["A"] * half["B"]).all()
    with pytest.raises(ValueError, match="factor B has the generator 'AX'; choose letters of .*A$"):
        factorial({"A": {}, "B": {"generator": "AX"}})


def test_each_run_has_the_level_of_every_factor():
    fields = {
        "A": "mixup",
        "B": "randaugment",
        "C": "drop_path_rate",
        "D": "label_smoothing",
        "E": "weight_decay",
        "F": "cutmix",
        "G": "cutout",
        "H": "dropblock",
    }
    for levels in RUNS.to_dict("records"):
        changes = recipe_of(DESIGN, levels)
        assert changes["mixing"] == "independent" and changes["dropblock_form"] == "paper"
        for name, field in fields.items():
            assert bool(changes[field]) == (levels[name] > 0), (name, field)
        assert ("cutout_side" in changes) == (levels["G"] > 0)


def rated(profile="cpu"):
    """Records of the tuning of few_images alone, with 0.001 as the best rate of all."""
    return finished(
        few_images,
        lambda cell: 50.0 - 1000 * abs(cell.settings["rate"] - 0.001),
        profile=profile,
        skip=lambda cell: cell.stage != "tuning",
    )


@pytest.fixture(scope="module")
def tuned():
    return rated()


def test_the_runs_are_those_of_the_design_at_the_tuned_rate(tuned):
    study = augmentation.result("cpu", tuned)
    first = [cell for cell in study.cells if cell.stage == "factorial"]
    assert len(first) == 2 * 2 * 16 and len({cell.key for cell in study.cells}) == len(study.cells)
    block = first[:16]
    assert {(cell.task, cell.seed) for cell in block} == {("galaxies3", 10)}
    assert [dict(cell.settings) for cell in block] == RUNS.to_dict("records")
    for cell in first:
        run = cell.run
        assert run.recipe.learning_rate == 0.001 and run.recipe.steps == 1200
        assert (run.image_size, run.evaluated_on) == (32, "test")
        assert bool(run.recipe.cutmix) == (cell.settings["F"] > 0)
        # nothing of the task's own recipe is left in a factor
        assert bool(run.recipe.mixup) == (cell.settings["A"] > 0)
        assert bool(run.recipe.randaugment) == (cell.settings["B"] > 0)
    rest = [cell for cell in study.cells if cell.stage == "confirmation"]
    assert len(rest) == 2 * 8 * 10
    assert [cell.settings["form"] for cell in rest[:10]] == (
        ["base"] + 3 * ["CutMix"] + 3 * ["Cutout"] + 3 * ["DropBlock"]
    )
    assert rest[0].run.recipe.mixup == 0.2 and rest[3].run.recipe.cutmix == 1.0


# Effects

TRUE = {"A": 2.0, "B": -1.0, "C": 0.5, "D": 0.0, "E": 0.3, "F": -3.0, "G": -2.0, "H": -1.0}


def outcomes_of(random, effects=TRUE, *, seeds=(10, 11), spread=1.5, task="galaxies3"):
    rows = []
    for seed in seeds:
        block = random.normal(0, 3)
        for run in RUNS.to_dict("records"):
            value = 60 + block + sum(effects[name] * run[name] / 2 for name in NAMES)
            rows.append({"task": task, "seed": seed, "value": value, **run})
    table = pd.DataFrame(rows)
    table["value"] += random.normal(0, spread, len(table)) if spread else 0.0
    return table


def test_effects_without_noise_are_the_true_ones():
    found = main_effects(outcomes_of(np.random.default_rng(0), spread=0), NAMES)
    assert found.estimates == pytest.approx(TRUE)
    assert found.error == pytest.approx(0, abs=1e-9)
    assert (found.freedom, found.seeds) == (32 - 8 - 2, 2)
    mean = found.of(dict.fromkeys("FGH", 1 / 3))
    assert mean.estimate == pytest.approx(-2.0)
    # the mean with a factor less the mean without it
    table = outcomes_of(np.random.default_rng(1))
    means = table.groupby("A")["value"].mean()
    assert main_effects(table, NAMES).estimates["A"] == pytest.approx(means[1] - means[-1])


def test_the_standard_error_is_that_of_half_of_all_runs_against_the_other():
    random, spread = np.random.default_rng(0), 1.5
    errors = [main_effects(outcomes_of(random), NAMES).error ** 2 for _ in range(200)]
    assert np.mean(errors) == pytest.approx(4 * spread**2 / 32, rel=0.05)


def test_intervals_hold_in_ninety_five_of_a_hundred_studies():
    random, number = np.random.default_rng(0), 250
    hits, mean_hits = 0, 0
    for _ in range(number):
        found = main_effects(outcomes_of(random), NAMES)
        for name in NAMES:
            one = found.of({name: 1.0})
            hits += one.low <= TRUE[name] <= one.high
        mean = found.of(dict.fromkeys("FGH", 1 / 3))
        mean_hits += mean.low <= -2.0 <= mean.high
    assert hits / number / len(NAMES) == pytest.approx(0.95, abs=0.02)
    assert mean_hits / number == pytest.approx(0.95, abs=0.035)


def test_the_difference_of_two_tasks_is_covered_and_sums_their_errors():
    random, hits = np.random.default_rng(3), 0
    other = dict(TRUE, F=0.0, G=0.0, H=0.0)
    weights = dict.fromkeys("FGH", 1 / 3)
    for _ in range(250):
        here = main_effects(outcomes_of(random, spread=2.5), NAMES)
        there = main_effects(outcomes_of(random, other, spread=0.8), NAMES)
        found = interaction(here, there, weights)
        one, two = here.of(weights), there.of(weights)
        assert found.error == pytest.approx(np.hypot(one.error, two.error))
        assert found.estimate == pytest.approx(one.estimate - two.estimate)
        assert min(here.freedom, there.freedom) <= found.freedom <= here.freedom + there.freedom
        hits += found.low <= -2.0 <= found.high
    assert hits / 250 == pytest.approx(0.95, abs=0.035)


def test_an_interaction_of_two_factors_biases_no_main_effect():
    random = np.random.default_rng(0)
    table = outcomes_of(random, spread=0)
    table["value"] += 5 * table["A"] * table["F"]
    found = main_effects(table, NAMES)
    assert found.estimates == pytest.approx(TRUE) and found.error > 1


# Verdict and tables


def study_of(galaxies, control, *, seeds=(10, 11), spread=1.0, profile="cpu", records=()):
    study = augmentation.result(profile, list(records))
    random = np.random.default_rng(0)
    study.__dict__["table"] = pd.concat(
        outcomes_of(random, effects, seeds=seeds, spread=spread, task=task)
        for task, effects in (("galaxies3", galaxies), ("cifar100", control))
    )
    return study


def of_regional(value):
    return dict(TRUE, F=value, G=value, H=value)


@pytest.mark.parametrize(
    "here, there, verdict",
    [
        (-4.0, 0.0, SUPPORTED),
        (0.0, 0.0, UNDECIDED),
        (-4.0, -4.0, UNDECIDED),  # it harms everywhere
        (1.5, 5.0, CONTRADICTED),  # it helps galaxies, if less than the control
        (-1.0, -5.0, CONTRADICTED),  # it harms galaxies less
    ],
)
def test_the_verdict_is_about_galaxies_against_the_control(tuned, here, there, verdict):
    study = study_of(of_regional(here), of_regional(there), records=tuned)
    answer = study.answer()
    assert answer.verdict == verdict and answer.sentence.endswith(SCALE) and not answer.pilot
    assert answer.sentence.startswith("CutMix, Cutout and DropBlock change accuracy on galaxies by")
    assert "from 2 seeds of 16 runs." in answer.sentence and "no effect" not in answer.sentence
    found = study.more_on_galaxies
    assert found.estimate == pytest.approx(here - there, abs=0.8)


def test_false_alarms_are_rare():
    random, wrong = np.random.default_rng(0), 0
    for _ in range(120):
        study = augmentation.result("cpu", [])
        study.__dict__["table"] = pd.concat(
            outcomes_of(random, of_regional(0.0), task=task) for task in ("galaxies3", "cifar100")
        )
        wrong += study.answer().verdict == SUPPORTED
    assert wrong <= 0.05 * 120


def test_one_seed_of_two_is_a_pilot_and_half_a_seed_is_nothing(tuned):
    study = study_of(of_regional(-4.0), TRUE, seeds=(10,), records=tuned)
    answer = study.answer()
    assert answer.pilot and answer.sentence.startswith("Pilot: CutMix")
    assert "from 1 of 2 seeds of 16 runs. The verdict waits for all seeds." in answer.sentence
    assert answer.verdict == UNDECIDED and study.more_on_galaxies.high < 0
    assert study.fit("galaxies3").freedom == 16 - 8 - 1
    study.__dict__["table"] = study.table.iloc[:-1]  # a run of the control is missing
    assert study.fit("cifar100") is None and study.fit("galaxies3") is not None
    assert study.answer().verdict == NOT_RUN and study.more_on_galaxies is None
    assert not len(study.effects())


def test_the_table_of_effects_has_a_row_for_each_factor(tuned):
    study = study_of(of_regional(-4.0), TRUE, records=tuned)
    table = study.effects()
    assert table.columns.tolist() == [
        *("factor", "regional", "galaxies", "galaxies low", "galaxies high"),
        *("control", "control low", "control high"),
        *("difference", "difference low", "difference high"),
    ]
    assert table["factor"].tolist() == [factor["title"] for factor in FACTORS.values()]
    assert table.loc[table["regional"], "factor"].tolist() == ["CutMix", "Cutout", "DropBlock"]
    assert (table["galaxies"] - table["control"]).to_numpy() == pytest.approx(table["difference"])
    assert (table["galaxies low"] < table["galaxies"]).all()


def test_from_records_to_the_verdict(tuned):
    """Also with a run that diverged, which counts at chance and harms what it had."""

    def accuracy(cell):
        harm = -6.0 if cell.task == "galaxies3" else 0.0
        if cell.stage != "factorial":
            return 50.0
        if (cell.task, cell.seed) == ("cifar100", 11) and cell.settings["A"] > 0 and broken:
            return None
        own = np.random.default_rng(list(cell.key.encode())[-40:]).normal(0, 0.5)
        return 60 + own + sum(harm * cell.settings[name] / 2 for name in "FGH")

    broken = False
    made = finished_after(tuned, accuracy)
    study = augmentation.result("cpu", made)
    assert len(study.table) == 64 and study.answer().verdict == SUPPORTED
    broken = True
    study = augmentation.result("cpu", finished_after(tuned, accuracy))
    lost = study.table[study.table["diverged"]]
    assert len(lost) == 8 and lost["value"].eq(100 / TASKS["cifar100"].classes).all()
    assert study.effects().set_index("factor").loc["Mixup", "control"] < -20


def finished_after(tuned, accuracy):
    from made_up_runs import record

    study = augmentation.result("cpu", tuned)
    made = list(tuned)
    for cell in study.cells:
        value = accuracy(cell)
        made.append(record(cell, value, status="failed" if value is None else "completed"))
    return made


def test_other_profiles_have_their_own_seeds_and_pixels():
    study = augmentation.result("gpu", rated("gpu"))
    assert {cell.seed for cell in study.cells} == set(range(10, 18))
    assert {cell.run.image_size for cell in study.cells} == {64}
    assert {cell.run.recipe.steps for cell in study.cells} == {5000}
