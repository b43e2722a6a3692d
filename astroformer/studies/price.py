"""What all runs of a study take under a profile, whether they were made or not: how many there are,
their multiply-adds, and the memory of the largest.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from astroformer.counting.budget import FLOP_PER_MAC, speed_on_a_gpu
from astroformer.counting.cost import model_cost
from astroformer.counting.memory import Memory
from astroformer.data.tasks import TASKS
from astroformer.ledger import records
from astroformer.studies import design
from astroformer.studies.cells import Cell, Found
from astroformer.studies.runner import MODULES
from astroformer.training import memory


class Pretended(Found):
    """As if every run were made, all alike: the tuning is over then, and every cell is named."""

    def __init__(self):
        super().__init__([])

    def of(self, cell):
        metrics = {"nll": 1.0, "top1": 50.0, "balanced_accuracy": 50.0}
        return {"status": "completed", "metrics": metrics}


@dataclass(frozen=True)
class Price:
    runs: int
    flop: float  # of training, forward and backward
    memory: Memory  # of the largest run, on a GPU
    seconds_on_a_gpu: float | None  # None unless the ledger knows the speed of every network


def price(name: str, profile: str) -> Price:
    """Of all runs that the design asks for."""
    one = design.read(name)
    cells = MODULES[name].cells(one, one.profile(profile), Pretended())
    runs = {cell.key: cell for cell in cells}.values()
    flop, seconds, largest = 0.0, 0.0, (0, None)
    found = records.read()
    for cell in runs:
        run, classes = cell.run, TASKS[cell.task].classes
        macs = _macs(run.model, run.image_size, classes, run.options)
        images = run.recipe.steps * run.recipe.batch_size
        flop += FLOP_PER_MAC * macs * images
        known = speed_on_a_gpu(run.model, run.image_size, found)
        seconds += images / known["images_per_second"] if known else math.nan
        at_once = macs * (run.recipe.micro_batch_size or run.recipe.batch_size)
        largest = max(largest, (at_once, cell), key=lambda pair: pair[0])
    measured = None if math.isnan(seconds) else seconds
    return Price(len(runs), flop, memory_of(largest[1]), measured)


def memory_of(cell: Cell) -> Memory:
    """At the fullest moment of a cell's run on a GPU."""
    return memory.most_of(memory.of_run(cell.run, classes=TASKS[cell.task].classes))


@lru_cache(maxsize=256)
def _macs(model: str, pixels: int, classes: int, options: tuple) -> int:
    return model_cost(model, image_size=pixels, num_classes=classes, **dict(options))["macs"]
