"""Tuning in two rounds on validation images: who comes into the second, who wins, and that a run
that diverged never does.
"""

import pytest
from made_up_runs import record

from astroformer.studies import design, few_images, tuning
from astroformer.studies.cells import Found
from astroformer.studies.tuning import Choice

FEW = design.read("few_images")
CPU = FEW.profile("cpu")
ARM, TASK = FEW.arm("CCCT"), "galaxies3"
GRID = tuning.grid(FEW, CPU)
RATES = [0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008]


def cells(found=()):
    return tuning.cells(FEW, CPU, ARM, TASK, 1, Found(found))


def made(cell, loss, accuracy=50.0, **changes):
    # balanced accuracy is the task's metric; top-1 would say the opposite
    metrics = {"nll": loss, "balanced_accuracy": accuracy, "top1": 100 - (accuracy or 0)}
    return record(cell, metrics=metrics, **changes)


def first_round(losses, failed=()):
    """losses: (rate, decay) -> NLL; others get 9. `failed` are those that diverged."""
    return [
        made(
            cell,
            losses.get((cell.settings["rate"], cell.settings["decay"]), 9.0),
            status="failed"
            if (cell.settings["rate"], cell.settings["decay"]) in failed
            else "completed",
        )
        for cell in cells()
    ]


def outcome(losses, second, failed=()):
    """second: rate -> (NLL, accuracy) at all steps, or None for a run that diverged."""
    first = first_round(losses, failed)
    final = [
        made(cell, *(second[cell.settings["rate"]] or (0.1, 99.0)))
        | ({} if second[cell.settings["rate"]] else {"status": "failed"})
        for cell in cells(first)[len(GRID) :]
    ]
    return tuning.tuned(FEW, CPU, ARM, TASK, Found(first + final))


BEST = {(0.001, 0.2): 1.0, (0.001, 0.02): 1.1, (0.002, 0.02): 1.2, (0.002, 0.2): 1.3}


def test_the_grid_is_the_same_for_every_arm_and_task_at_a_quarter_of_the_steps():
    assert [choice.rate for choice in GRID[::2]] == RATES and len(GRID) == 12
    for arm in ("CCCT", "CCTT", "CTTT", "CCCC"):
        for task in FEW.tasks:
            of = tuning.cells(FEW, CPU, FEW.arm(arm), task, 1, Found([]))
            assert [tuning.choice_of(cell) for cell in of] == GRID
            assert {cell.run.recipe.steps for cell in of} == {
                round(0.25 * few_images.TASKS[task].steps)
            }
            assert {(cell.seed, cell.run.evaluated_on) for cell in of} == {(100, "validation")}
            for cell in of:
                assert cell.run.recipe.learning_rate == cell.settings["rate"]
                assert cell.run.recipe.weight_decay == cell.settings["decay"]


def test_the_second_round_is_named_when_the_whole_first_is_over():
    first = first_round(BEST)
    assert len(cells(first[:-1])) == len(GRID)
    both = cells(first)
    assert len(both) == len(GRID) + 2
    assert {cell.run.recipe.steps for cell in both[-2:]} == {1500}
    assert tuning.tuned(FEW, CPU, ARM, TASK, Found(first)) is None
    assert tuning.tuned(FEW, CPU, ARM, TASK, Found([])) is None


def test_finalists_are_two_different_rates_each_with_its_better_decay():
    first = first_round(BEST)
    chosen = tuning.finalists(cells(), Found(first), 2)
    # the second best run of all has the rate of the best, and is left out
    assert chosen == [Choice(0.001, 0.2), Choice(0.002, 0.02)]
    assert tuning.finalists(cells(), Found(first), 3)[2].rate == 0.00025  # of equals the lowest


def test_the_first_round_is_by_loss_and_the_last_by_accuracy():
    """Of the first round the accuracies say nothing."""
    first = [made(cell, 9.0, 99.0) for cell in cells()]
    for place, (rate, decay) in enumerate(((0.004, 0.2), (0.0005, 0.02))):
        where = GRID.index(Choice(rate, decay))
        first[where] = made(cells()[where], 1.0 + place, 10.0)
    final = cells(first)[len(GRID) :]
    assert [tuning.choice_of(cell) for cell in final] == [Choice(0.004, 0.2), Choice(0.0005, 0.02)]
    second = [made(final[0], 0.5, 60.0), made(final[1], 0.9, 60.1)]
    won = tuning.tuned(FEW, CPU, ARM, TASK, Found(first + second))
    assert won.winner == Choice(0.0005, 0.02) and won.runs == 14
    assert won.finalists == (Choice(0.004, 0.2), Choice(0.0005, 0.02))


def test_ties_in_accuracy_are_broken_by_loss():
    for losses, expected in (((0.8, 0.7), 0.002), ((0.7, 0.8), 0.001)):
        second = {0.001: (losses[0], 60.0), 0.002: (losses[1], 60.0)}
        assert outcome(BEST, second).winner.rate == expected


def test_a_run_that_diverged_comes_last_whatever_its_numbers_say():
    failed = {(0.001, 0.2), (0.001, 0.02)}
    first = first_round(BEST, failed)
    assert [one.rate for one in tuning.finalists(cells(), Found(first), 2)] == [0.002, 0.00025]
    won = outcome(BEST, {0.001: None, 0.002: (5.0, 40.0)})
    assert won.winner == Choice(0.002, 0.02)


def test_where_every_finalist_diverged_the_best_other_rate_of_the_first_round_wins():
    losses = BEST | {(0.0005, 0.2): 1.5, (0.0005, 0.02): 1.4}
    won = outcome(losses, {0.001: None, 0.002: None})
    assert won.winner == Choice(0.0005, 0.02) and not won.at_edge
    everything = {(choice.rate, choice.decay) for choice in GRID}
    won = outcome({}, {0.00025: None, 0.0005: None}, failed=everything)
    assert won.winner.rate == 0.00025 and won.at_edge


@pytest.mark.parametrize("rate", RATES)
def test_the_ends_of_the_grid_are_named(rate):
    losses = {(rate, 0.02): 1.0, (0.001 if rate != 0.001 else 0.002, 0.02): 1.1}
    second = {rate: (0.5, 70.0), 0.001 if rate != 0.001 else 0.002: (0.6, 60.0)}
    won = outcome(losses, second)
    assert won.winner.rate == rate and won.at_edge == (rate in (RATES[0], RATES[-1]))


def test_a_run_without_a_number_counts_as_diverged():
    cell = cells()[0]
    for broken in (made(cell, None), made(cell, 0.1, status="failed")):
        assert tuning.loss_of(broken) == float("inf")
    assert tuning.accuracy_of(made(cell, 0.1, None) | {}, "balanced_accuracy") == -float("inf")
    assert tuning.accuracy_of(made(cell, 0.1, 55.0), "balanced_accuracy") == 55.0


def test_what_is_shown_beside_it_is_the_untuned_pair():
    assert tuning.untuned(FEW) == Choice(0.002, 0.02)
    assert tuning.untuned(FEW).recipe() == {"learning_rate": 0.002, "weight_decay": 0.02}
