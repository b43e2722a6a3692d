"""What is said of a run whose memory runs out on the way, where `memory` had let it begin: the
estimate is one, and other programs take memory too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from astroformer import machine
from astroformer.training import memory, run_folder

if TYPE_CHECKING:
    from astroformer.training.loop import Training


class OutOfMemory(OSError):
    """An allocation failed while a run was trained. The older checkpoint stays."""


@contextmanager
def told(training: "Training") -> Iterator[None]:
    """Makes one line of whatever says that memory is short: where the run stands, what decides how
    much it takes, what would take less, and from where the same command goes on.

    Nothing is saved: weights that an optimizer had half updated would be no state of the run.
    """
    try:
        yield
    except Exception as error:
        if not machine.is_out_of_memory(error):
            raise
        raise OutOfMemory(words(training, error)) from error


def words(training: "Training", error: Exception) -> str:
    recipe, device = training.recipe, training.device
    kind = "GPU memory" if device.type == "cuda" else "memory"
    asked = machine.amount_asked_for(error)
    again = not training.execution.grad_checkpointing and memory.can_checkpoint(training.run)
    ways = ["--grad-checkpointing (the same run)"] if again else []
    if recipe.images_at_once > 1:
        ways.append(f"--set micro_batch_size={recipe.images_at_once // 2} or less (another run)")
    ways += ["a lower --set batch_size=N (another run)", "a smaller network or --image-size"]
    last = training.run.folder / run_folder.LAST
    left = (
        f"{last} stays, and the same command goes on from it"
        if last.exists()
        else "no checkpoint was written before"
    )
    return (
        f"out of {kind} at step {training.step:,} of {training.steps:,}"
        f"{f' ({asked} more were asked for)' if asked else ''}: "
        f"batch_size={recipe.batch_size} is computed {recipe.images_at_once} images at a time; "
        f"choose {' or '.join(ways)}; {left}"
    )
