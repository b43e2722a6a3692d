"""What all runs of a study take under a profile, whether they were made or not: how many there are,
their multiply-adds, and the memory of the largest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from astroformer.counting.budget import FLOP_PER_MAC
from astroformer.counting.cost import model_cost
from astroformer.counting.memory import Memory
from astroformer.data.tasks import TASKS
from astroformer.ledger import records
from astroformer.studies import design
from astroformer.studies.cells import Cell, Found
from astroformer.studies.runner import MODULES, Shard, cells_of, missing
from astroformer.training import Execution, memory


class Pretended(Found):
    """As if every run were made, all alike: the tuning is over then, and every cell is named."""

    def __init__(self):
        super().__init__([])

    def of(self, cell):
        metrics = {"nll": 1.0, "top1": 50.0, "balanced_accuracy": 50.0}
        return {"status": "completed", "metrics": metrics}


@dataclass(frozen=True)
class Price:
    cells: tuple[Cell, ...]  # each run once
    flop: float  # of training, forward and backward
    memory: Memory  # of the largest run, on a GPU

    @property
    def runs(self) -> int:
        return len(self.cells)


def price(name: str, profile: str) -> Price:
    """Of all runs that the design asks for."""
    one = design.read(name)
    cells = MODULES[name].cells(one, one.profile(profile), Pretended())
    runs = tuple({cell.key: cell for cell in cells}.values())
    flop = 0.0
    for cell in runs:
        recipe = cell.run.recipe
        flop += FLOP_PER_MAC * macs_of(cell) * recipe.steps * recipe.batch_size
    return Price(runs, flop, most_memory(runs))


def most_memory(
    cells: Sequence[Cell], *, device: str = "cuda", execution: Execution | None = None
) -> Memory | None:
    """That of the run which takes most on a device, "cpu" or "cuda"; None without a run. Runs of
    one network with one batch differ by little: one of them is asked.
    """
    alike: dict[tuple, Cell] = {}
    for cell in cells:
        run, recipe = cell.run, cell.run.recipe
        batch = (recipe.batch_size, recipe.micro_batch_size, recipe.optimizer)
        alike.setdefault((run.model, run.options, run.image_size, batch), cell)
    needs = [
        memory.of_run(
            cell.run, classes=TASKS[cell.task].classes, device=device, execution=execution
        )
        for cell in alike.values()
    ]
    return max(map(memory.most_of, needs), key=lambda one: one.total, default=None)


def left(names: Sequence[str], profile: str, shard: Shard | None, **how) -> Memory | None:
    """The most memory of a run that is missing and can be named; `how` as of `most_memory`."""
    found = Found(records.read())
    return most_memory(missing(cells_of(names, profile, found, shard), found), **how)


def macs_of(cell: Cell) -> int:
    """Multiply-adds of the forward pass of one image."""
    run = cell.run
    return _macs(run.model, run.image_size, TASKS[cell.task].classes, run.options)


@lru_cache(maxsize=256)
def _macs(model: str, pixels: int, classes: int, options: tuple) -> int:
    return model_cost(model, image_size=pixels, num_classes=classes, **dict(options))["macs"]
