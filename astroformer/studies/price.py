"""What all runs of a study take under a profile, whether they were made or not: how many there are,
and their multiply-adds.
"""

from dataclasses import dataclass
from functools import lru_cache

from astroformer.counting.budget import ASSUMED, FLOP_PER_MAC
from astroformer.counting.cost import model_cost
from astroformer.data.tasks import TASKS
from astroformer.studies import design
from astroformer.studies.cells import Found
from astroformer.studies.runner import MODULES


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

    @property
    def seconds_on_a_gpu(self) -> float:
        """At the rate that `counting.budget` assumes for one GPU; nothing was measured."""
        return self.flop / ASSUMED


def price(name: str, profile: str) -> Price:
    """Of all runs that the design asks for."""
    one = design.read(name)
    cells = MODULES[name].cells(one, one.profile(profile), Pretended())
    runs = {cell.key: cell for cell in cells}.values()
    flop = 0.0
    for cell in runs:
        run = cell.run
        macs = _macs(run.model, run.image_size, TASKS[cell.task].classes, run.options)
        flop += FLOP_PER_MAC * macs * run.recipe.steps * run.recipe.batch_size
    return Price(len(runs), flop)


@lru_cache(maxsize=256)
def _macs(model: str, pixels: int, classes: int, options: tuple) -> int:
    return model_cost(model, image_size=pixels, num_classes=classes, **dict(options))["macs"]
