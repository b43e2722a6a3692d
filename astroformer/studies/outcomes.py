"""What the runs of a study came to: one row a run, and the differences between two arms with both
intervals, for other seeds and for other test images too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astroformer import contrasts
from astroformer.contrasts import Answers, Contrast
from astroformer.data.tasks import TASKS
from astroformer.ledger import predictions
from astroformer.studies.cells import DIVERGED, Cell, Found

COLUMNS = ("stage", "task", "arm", "seed", "value", "train", "diverged", "run")


def outcomes(cells: Sequence[Cell], found: Found) -> pd.DataFrame:
    """One row for each run that has a record: the metric of its task, on test and on the training
    images, in percent. A run that diverged has the value of guessing, and says so: leaving it out
    would make the arm that fails look better.
    """
    rows = []
    for cell in cells:
        record = found.of(cell)
        if record is None:
            continue
        task, told = TASKS[cell.task], record["metrics"]
        diverged = record["status"] == DIVERGED or told.get(task.metric) is None
        chance = 100 / task.classes
        rows.append(
            {
                "stage": cell.stage,
                "task": cell.task,
                "arm": cell.arm,
                "seed": cell.seed,
                "value": chance if diverged else told[task.metric],
                "train": chance if diverged else told.get(f"train_{task.metric}", np.nan),
                "diverged": diverged,
                "run": record["run"],
                **cell.settings,
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(COLUMNS))


def by_seed(table: pd.DataFrame, task: str, arms: Sequence[str], column: str) -> pd.DataFrame:
    """Seeds in rows, arms in columns: the seeds that all the arms have."""
    part = table[(table["task"] == task) & table["arm"].isin(arms)]
    wide = part.pivot_table(index="seed", columns="arm", values=column, aggfunc="last")
    return wide.reindex(columns=list(arms)).dropna()


@dataclass(frozen=True, eq=False)
class Difference:
    """One arm less another, over tasks or on one of them, in percentage points."""

    seeds: Contrast  # would other seeds say the same?
    images: Contrast | None  # other seeds and other test images; None without predictions
    train: Contrast  # the same of the accuracy on training images
    better: Contrast | None  # probability that a run of one is better than one of the other
    pairs: Mapping[str, pd.Series]  # task -> difference of each seed
    diverged: tuple[int, int]  # runs of the one, of the other

    @property
    def n(self) -> int:
        return self.seeds.n

    @property
    def means(self) -> dict[str, float]:
        """Task -> the mean over its seeds."""
        return {task: float(np.mean(pairs)) for task, pairs in self.pairs.items()}


def difference(
    table: pd.DataFrame, one: str, other: str, tasks: Sequence[str]
) -> Difference | None:
    """One arm less the other, the mean over the tasks of which both have at least two common seeds;
    None if there is no such task, or if one of several lacks them.
    """
    values, train, answers, better = {}, {}, {}, []
    for task in tasks:
        wide = by_seed(table, task, (one, other), "value")
        if len(wide) < contrasts.contrast.PAIR:
            return None
        values[task] = wide[one] - wide[other]
        fit = by_seed(table, task, (one, other), "train")
        train[task] = fit[one] - fit[other]
        better.append((wide[one].to_numpy(), wide[other].to_numpy()))
        answers[task] = answers_of(table, task, one, other)
    part = table[table["task"].isin(tasks)]
    failed = [int(part.loc[part["arm"] == arm, "diverged"].sum()) for arm in (one, other)]
    return Difference(
        seeds=contrasts.pooled(values),
        images=None if None in answers.values() else contrasts.pooled_bootstrap(answers),
        train=_pooled_where_known(train),
        better=contrasts.probability_of_improvement(*better[0]) if len(better) == 1 else None,
        pairs=values,
        diverged=(failed[0], failed[1]),
    )


def _pooled_where_known(sets: Mapping[str, pd.Series]) -> Contrast:
    """The mean over the tasks; without an estimate where a task has no pair at all."""
    if all(len(pairs) for pairs in sets.values()):
        return contrasts.pooled(sets)
    return Contrast(math.nan, math.nan, math.nan, math.nan, 0)


def answers_of(table: pd.DataFrame, task: str, one: str, other: str) -> Answers | None:
    """Which test images each run of two arms has right, by common seeds. A run that diverged
    answers one class for every image, which is as good as guessing. None where predictions of
    another run are missing, or are about other images.
    """
    runs = by_seed(table, task, (one, other), "run")
    broken = by_seed(table, task, (one, other), "diverged")
    sides = []
    for arm in (one, other):
        kept = [
            None if broken.loc[seed, arm] else predictions.read(run)
            for seed, run in runs[arm].items()
        ]
        if any(each is None and not lost for each, lost in zip(kept, broken[arm])):
            return None
        sides.append(kept)
    known = [each for side in sides for each in side if each is not None]
    if not known:
        return None
    labels, split = known[0].labels, known[0].evaluated_on
    for each in known:
        if each.evaluated_on != split or not np.array_equal(each.labels, labels):
            return None
    guessed = labels == labels.min()
    right = [np.array([guessed if each is None else each.right for each in side]) for side in sides]
    return Answers(right[0], right[1], labels, TASKS[task].metric == "balanced_accuracy")
