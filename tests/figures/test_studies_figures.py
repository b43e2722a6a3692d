"""Pictures and tables of the studies: what is drawn is what the numbers say, and nothing is drawn
where nothing was made.
"""

import numpy as np
import pandas as pd
import pytest

from astroformer.counting.budget import duration
from astroformer.counting.memory import gigabytes
from astroformer.data.tasks import TASKS as EVERY_TASK
from astroformer.figures import studies as drawn
from astroformer.studies import augmentation, design, few_images, needs, price, stability
from astroformer.studies.asked import unit_of
from astroformer.studies.augmentation import factorial
from astroformer.studies.cells import Found
from astroformer.training import memory

TASKS = ("cifar100", "galaxies3", "tiny40")


@pytest.fixture
def few():
    """The study with outcomes that are made up: C-C-C-T is 3 and 6 points better."""
    study, random = few_images.result("cpu", found=[]), np.random.default_rng(0)
    rows = [
        {
            "stage": stage,
            "task": task,
            "arm": arm,
            "seed": seed,
            "value": 50 + more - 3 * worse + random.normal(0, 1),
            "train": 80 + more - worse + random.normal(0, 1),
            "diverged": False,
            "run": f"none-{task}-{arm}-{seed}",
        }
        for stage, more in (("low", 0), ("middle", 10))
        for task in TASKS
        for seed in range(10, 18)
        for worse, arm in enumerate(("CCCT", "CCTT", "CTTT"))
    ]
    study.__dict__["table"] = pd.DataFrame(rows)
    return study


def points(axes):
    """The x of every mark that is drawn alone."""
    return [line.get_xdata()[0] for line in axes.lines if line.get_marker() in ("o", "D")]


def test_the_forest_shows_each_difference_with_its_seeds(few):
    table = few.forest()
    assert len(table) == 8 and table["seeds"].eq(8).all()
    figure = drawn.forest(table)
    assert points(figure.axes[0]) == pytest.approx(table["points"].tolist())
    ticks = [line for line in figure.axes[0].lines if line.get_marker() == "|"]
    assert [len(line.get_xdata()) for line in ticks] == [8, 8, 8, 24] * 2
    told = drawn.forest_table(table)
    assert told["points"].str.startswith("+").all()
    # predictions are missing: no interval for other images is made up
    assert told["95 %, seeds and images"].eq("").all()


def test_what_waits_for_runs_is_named_and_takes_no_room(few):
    table = few.forest()
    table.loc[table["against"] == "C-T-T-T", "points"] = np.nan
    axes = drawn.forest(table).axes[0]
    assert axes.get_title(loc="left") == "not run yet: C-T-T-T"
    assert len(axes.get_yticklabels()) == len(drawn.forest_table(table)) == 4


def test_fit_and_generalisation_stand_on_one_scale(few):
    figure = drawn.accuracy_against_images(few)
    assert len(figure.axes) == 6
    for left, right in zip(figure.axes[::2], figure.axes[1::2]):
        assert left.get_ylim() == right.get_ylim()
        assert left.get_title(loc="left").endswith("test")
        low, high = left.get_xlim()  # every dot lies near the number that it belongs to
        shown = [x for line in left.lines for x in np.atleast_1d(line.get_xdata())]
        assert low < min(shown) and max(shown) < high and high / low > 1.5
        assert [text.get_text() for text in left.get_xticklabels()] == [
            f"{number:,}" for number in left.get_xticks().astype(int)
        ]


def test_where_nothing_was_made_a_sentence_stands():
    few, stable = few_images.result("cpu", found=[]), stability.result("cpu", found=[])
    dropout = augmentation.result("cpu", found=[])
    for shown in (
        drawn.forest(few.forest()),
        drawn.accuracy_against_images(few),
        drawn.tuning(few),
        drawn.rates(stable),
        drawn.effects(dropout.effects()),
    ):
        assert isinstance(shown, str) and shown.endswith(".")
    assert few.primary.verdict == stable.answer().verdict == dropout.answer().verdict == "not run"
    assert drawn.forest_table(few.forest()).empty
    assert len(few.tuned()) and len(few.secondary()) == 3 and not len(few.accuracies())


def test_spreads_are_compared_on_each_data_set_and_on_all_of_them(few):
    table = few.__dict__["table"]
    wide = (table["arm"] == "CCTT") & (table["task"] == "tiny40") & (table["stage"] == "low")
    mean = table.loc[wide, "value"].mean()
    table.loc[wide, "value"] = mean + 30 * (table.loc[wide, "value"] - mean)
    rows = drawn.spread_table(few).set_index(["ratio of", "data"])
    assert len(rows) == 2 * (1 + len(TASKS))
    assert (rows["low"] < rows["ratio"]).all() and (rows["ratio"] < rows["high"]).all()
    titles = [EVERY_TASK[task].title for task in TASKS]
    of = {data: rows.loc[("C-C-T-T over C-C-C-T", data)] for data in (drawn.ALL, *titles)}
    for task, title in zip(TASKS, titles):
        some = table[(table["task"] == task) & (table["stage"] == "low")]
        std = some.groupby("arm")["value"].std()
        assert of[title]["ratio"] == pytest.approx(std["CCTT"] / std["CCCT"])
        assert (of[title]["low"] > 1) == (task == "tiny40")
    # what is pooled is told for all at once, and hides which one it comes from
    assert titles[0] != drawn.ALL and of[titles[0]]["ratio"] < of[drawn.ALL]["ratio"]
    # where all seeds of a stack come out alike there is no ratio, and the other rows stay
    table.loc[(table["arm"] == "CCTT") & (table["task"] == "galaxies3"), "value"] = 100.0
    rows = drawn.spread_table(few).set_index(["ratio of", "data"])
    empty = rows.index[rows["ratio"].isna()].tolist()
    assert empty == [("C-C-T-T over C-C-C-T", EVERY_TASK["galaxies3"].title)]


def test_rates_are_drawn_with_those_that_diverged_as_crosses():
    study = stability.result("cpu", found=[])
    rows = [
        {"arm": arm, "seed": seed, "rate": 1e-3 * 2**k, "value": 30 - 5 * abs(k - 2) + seed / 100,
         "diverged": k > 4, "sign": "", "spikes": 1.0, "gradient": 2.0, "run": "none"}
        for arm in study.arms for seed in (10, 11, 12) for k in range(6)
    ]  # fmt: skip
    study.__dict__["runs"] = pd.DataFrame(rows)
    axes, below = drawn.rates(study).axes
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [len(line.get_xdata()) for line in crosses] == [3, 3, 3]
    spans = [np.log2(line.get_xdata()[1] / line.get_xdata()[0]) for line in below.lines]
    # the part of the gain over guessing that may be lost, at 5 points an octave, on both sides
    lost = (1 - stability.KEPT) * (30.11 - study.chance)
    assert spans == pytest.approx([2 * lost / 5] * 3)


def test_effects_have_one_scale_and_regional_dropout_another_colour():
    study, random = augmentation.result("cpu", found=[]), np.random.default_rng(0)
    rows = [
        {"task": task, "seed": seed, "value": 60 + run["A"] + random.normal(), **run}
        for task in study.design.tasks
        for seed in (10, 11)
        for run in factorial(study.design.told["factors"])
    ]
    study.__dict__["table"] = pd.DataFrame(rows)
    table = study.effects()
    figure = drawn.effects(table)
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert len({line.get_color() for line in marks}) == 2 and len(marks) == 8
    told = drawn.effects_table(table)
    assert told["galaxies"].iloc[0].startswith("+")  # Mixup, which was made to help
    assert len(drawn.factors_table(study.design)) == 8


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("stability", "few_images", "augmentation")
    ],
)
def test_a_price_counts_every_run_of_the_design(name):
    cost = price.price(name, "cpu")
    assert cost.runs > 50 and cost.flop > 1e14
    larger = price.price(name, "cluster")
    assert larger.flop > 100 * cost.flop
    assert f"{larger.runs:,} runs of astroformer_3" in drawn.price_lines(name)


def test_the_design_is_named_with_its_digest_and_its_threats():
    study = few_images.result("cpu", found=[])
    assert study.design.digest in drawn.design_lines(study.design, study.found)
    assert drawn.threats(study.design).count("\n- ") + 1 == len(study.design.told["threats"])


def test_the_memory_of_a_study_is_that_of_its_largest_run_and_hours_are_measured(monkeypatch):
    cost = price.price("galaxy10_part", "cluster")
    cells = price.MODULES["galaxy10_part"].cells(
        one := design.read("galaxy10_part"), one.profile("cluster"), price.Pretended()
    )
    taken = [
        memory.most_of(memory.of_run(cell.run, classes=EVERY_TASK[cell.task].classes)).total
        for cell in {cell.run.options: cell for cell in cells}.values()
    ]
    assert cost.memory.total == max(taken) > 1.5 * cost.memory.weights
    told = drawn.price_lines("galaxy10_part")
    assert f"up to {gigabytes(max(taken))} GB of memory; about " in told
    assert "at a speed that is not measured there" in told and "FLOP/s" not in told
    estimator = needs.Estimator(needs.Place.named("", "cuda"), memory=False)
    seconds = sum(estimator.of(unit_of(cell, "cluster", Found([]))).seconds for cell in cost.cells)
    assert f"about {duration(seconds)} of one H100 SXM" in told.splitlines()[-1]
    monkeypatch.setattr(needs.kept, "frame", pd.DataFrame)
    assert drawn.price_lines("galaxy10_part", []).endswith(
        "; the hours are not known, since no speed is."
    )
