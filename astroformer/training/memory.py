"""Whether a run fits into the memory of a device, said before it starts.

A run that cannot fit is refused in one line that names what would: gradient checkpointing, which
changes no outcome, or smaller micro-batches, which make another run (BatchNorm sees fewer images).
Refused is only what is too large by the least that it needs (`counting.memory`); what may or may
not fit is begun with a warning.

Reads top to bottom: of_run (what it needs), free_on (what there is), fitting (what would fit),
checked (the refusal), told (the line that a run begins with).
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import torch
from timm.layers import to_2tuple
from torch import nn

from astroformer import machine
from astroformer.counting import budget
from astroformer.counting.memory import GB, Memory, gigabytes, of_evaluation, of_training
from astroformer.ledger import records
from astroformer.models import create
from astroformer.models.build import in_one_line
from astroformer.recipes import replace as changed
from astroformer.training.dropblock import add_dropblock
from astroformer.training.evaluate import BATCH
from astroformer.training.execution import Execution, can_recompute, checkpoint_gradients
from astroformer.training.frozen import freeze
from astroformer.training.ranks import pieces
from astroformer.training.run import Run
from astroformer.training.sharded import largest_unit

CARD = 80 * GB  # of the largest GPUs that were common when the papers appeared
Needs = tuple[Memory, Memory]  # of the steps, and of the evaluation of BATCH images at a time


def of_run(run: Run, **how) -> Needs:
    """What a run takes at its fullest moments; arguments as of `of_steps`. Nothing is allocated."""
    steps = of_steps(run, **how)
    layout = {name: steps_of(run, **how)[name] for name in ("precision", "device", "channels_last")}
    temporary = _evaluation(*named(run, how["classes"]), **layout)
    evaluation = replace(steps, moment="evaluation", gradients=0, images=0, kept=0)
    return steps, replace(evaluation, temporary=temporary)


def of_steps(
    run: Run, *, classes: int, device: str = "cuda", execution: Execution | None = None
) -> Memory:
    """What the optimizer's steps of a run take, without its evaluation.

    device: "cuda" or "cpu", which need not be there; a precision that is left to it is bfloat16
        on "cuda"

    ValueError for a network that cannot be, or cannot compute its activations again.
    """
    how = steps_of(run, classes=classes, device=device, execution=execution)
    return _steps(*named(run, classes), **how)


def named(run: Run, classes: int) -> tuple[str, tuple[tuple[str, object], ...]]:
    """The network and its arguments, to be built once."""
    pixels = run.image_size or run.native_image_size()
    options = replace(run, image_size=pixels).model_options(classes)
    return run.model, tuple(sorted(options.items()))


def steps_of(
    run: Run, *, classes: int, device: str = "cuda", execution: Execution | None = None
) -> dict[str, object]:
    """Everything else that decides the memory of a run's steps."""
    execution = (execution or Execution()).settled(torch.device(device))
    recipe, precision = run.recipe, run.recipe.precision
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    # of the processes that train together each takes its own; the first takes most
    own = pieces(recipe.batch_size, recipe.images_at_once, execution.world_size)[0]
    return dict(
        batch=sum(piece.images for piece in own),
        micro_batch=max(piece.images for piece in own),
        optimizer=recipe.optimizer,
        average=bool(recipe.ema_decay),
        precision=precision,
        device=device,
        channels_last=bool(execution.channels_last),
        compiled=bool(execution.compile),
        checkpointed=execution.grad_checkpointing,
        dropblock=(recipe.dropblock, recipe.dropblock_form),
        trained=recipe.trained,
        holders=execution.world_size if execution.shard else 1,
    )


def on_meta(name: str, options: tuple[tuple[str, object], ...]) -> nn.Module:
    """The network by its name, without weights."""
    with torch.device("meta"):
        return create(name, **dict(options))


@lru_cache(maxsize=512)
def _steps(
    name: str,
    options: tuple[tuple[str, object], ...],
    *,
    checkpointed: bool,
    dropblock: tuple[float, str],
    trained: str,
    holders: int,
    **how,
) -> Memory:
    def prepare(network: nn.Module) -> None:
        if checkpointed:
            checkpoint_gradients(network)
        add_dropblock(network, *dropblock)
        freeze(network, trained)

    network, size = on_meta(name, options), to_2tuple(dict(options)["img_size"])
    unit = largest_unit(network) if holders > 1 else 0
    how["in_chans"] = channels_of(options)
    with in_one_line(name, size[0]):
        return of_training(network, size, prepare=prepare, holders=holders, unit=unit, **how)


def channels_of(options: tuple[tuple[str, object], ...]) -> int:
    """Of the images that a network with these arguments takes."""
    return int(dict(options).get("in_chans", 3))


@lru_cache(maxsize=512)
def _evaluation(name: str, options: tuple[tuple[str, object], ...], **how) -> int:
    size = to_2tuple(dict(options)["img_size"])
    how["in_chans"] = channels_of(options)
    with in_one_line(name, size[0]):
        return of_evaluation(on_meta(name, options), size, batch=BATCH, **how)


def on_a_card(run: Run, *, classes: int, card: float = CARD) -> tuple[list[str], Memory]:
    """What to add to the command of a run so that it fits a GPU of so many bytes, and what it
    takes then: nothing, checkpointing, or smaller micro-batches too, which make another run. What
    fits no such card is given the least that it can take.
    """
    of = partial(of_steps, classes=classes)
    plain = Execution()
    if of(run).most <= card:
        return [], of(run)
    again = replace(plain, grad_checkpointing=True) if can_checkpoint(run) else plain
    words = ["--grad-checkpointing"] if again.grad_checkpointing else []
    if of(run, execution=again).most <= card:
        return words, of(run, execution=again)
    sizes = with_micro_batches(run)
    parted = largest(sizes, card, again, of) or sizes[-1]
    return [*words, *setting(parted).split()], of(parted, execution=again)


def most_of(needs: Needs) -> Memory:
    """Those of its fullest moment."""
    return max(needs, key=lambda memory: memory.total)


def free_on(device: torch.device) -> int | None:
    """Bytes that this process can still have on a device; None where nobody tells."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device.type != "cpu" or not machine.tells_memory():
        return None
    free, sharing = machine.free_memory(), machine.sharing()
    return free if sharing == 1 else free // sharing


def with_micro_batches(run: Run) -> list[Run]:
    """The run in smaller micro-batches, the largest first: parts of its batch that Mixup can pair;
    at least the run itself.
    """
    recipe = run.recipe
    paired = bool(recipe.mixup or recipe.cutmix)
    below = range(recipe.images_at_once - 1, 0, -1)
    sizes = [n for n in below if recipe.batch_size % n == 0 and not (paired and n % 2)]
    return [replace(run, recipe=changed(recipe, micro_batch_size=n)) for n in sizes] or [run]


def largest(
    runs: Sequence[Run], free: float, execution: Execution, of: Callable[..., Memory]
) -> Run | None:
    """The first that fits into so many bytes of runs in ever smaller micro-batches."""
    first = bisect_left(runs, True, key=lambda one: of(one, execution=execution).most <= free)
    return runs[first] if first < len(runs) else None


def fitting(run: Run, free: float, execution: Execution, of: Callable[..., Memory]) -> list[str]:
    """What to say so that a run fits into so many bytes, each with the gigabytes that it takes;
    nothing where no micro-batch is small enough.

    of: `of_steps` with what else it needs
    """
    ways: list[tuple[str, Run, Execution]] = []
    if not execution.grad_checkpointing and can_checkpoint(run):
        again, word = replace(execution, grad_checkpointing=True), "--grad-checkpointing"
        if of(run, execution=again).most <= free:
            ways.append((word, run, again))
        elif parted := largest(with_micro_batches(run), free, again, of):
            ways.append((f"{word} {setting(parted)}", parted, again))
    if parted := largest(with_micro_batches(run), free, execution, of):
        ways.append((setting(parted), parted, execution))
    return [
        f"{words} ({gigabytes(of(one, execution=how).total)} GB, "
        f"{'the same run' if one is run else 'another run'})"
        for words, one, how in ways
    ]


def setting(parted: Run) -> str:
    """What to say for a run's micro-batches."""
    return f"--set micro_batch_size={parted.recipe.micro_batch_size}"


def can_checkpoint(run: Run) -> bool:
    """Whether the network has blocks that can be computed again."""
    return can_recompute(on_meta(*named(run, 1)))


@dataclass(frozen=True)
class Room:
    """A run that may be begun: what to say of it first, and how many images are evaluated at a
    time, BATCH where that fits.
    """

    lines: tuple[str, ...]
    evaluation_batch: int


def checked(run: Run, *, classes: int, device: torch.device, execution: Execution) -> Room:
    """ValueError for a run that cannot fit, in one line; a warning among the lines for one that
    perhaps does not.
    """
    how = dict(classes=classes, device="cpu" if device.type == "cpu" else "cuda")
    of = partial(of_steps, **how)
    # what is wrong with the network is said first
    steps, evaluation = (
        replace(memory, images=memory.images + held_on(device, run))
        for memory in of_run(run, execution=execution, **how)
    )
    run.check_batch()
    free = free_on(device)
    if free is None:
        return Room((told(run, most_of((steps, evaluation)), free, device),), BATCH)
    if steps.least > free:
        raise ValueError(refusal(run, steps, free, device, fitting(run, free, execution, of)))
    number = evaluation_batch(evaluation, free)
    some = replace(evaluation, temporary=round(evaluation.temporary * number / BATCH))
    lines = [told(run, most_of((steps, some)), free, device)]
    if steps.most > free:
        ways = " or ".join(fitting(run, free, execution, of)) or "a smaller network or --image-size"
        lines.append(
            f"memory may run out: up to {gigabytes(steps.most)} GB may be taken; safe is {ways}"
        )
    return Room(tuple(lines), number)


def held_on(device: torch.device, run: Run) -> int:
    """Bytes of the training images, which lie on a GPU whole where they are augmented there."""
    if device.type != "cuda" or run.recipe.canonical().get("augmentation") != "device":
        return 0
    return run.train_size() * run.channels * run.image_size**2


def evaluation_batch(evaluation: Memory, free: float) -> int:
    """BATCH images at a time, or as many as fit: what is needed goes with their number."""
    if evaluation.most <= free:
        return BATCH
    spare = free - replace(evaluation, temporary=0).most
    each = (evaluation.most - replace(evaluation, temporary=0).most) / BATCH
    return max(1, min(BATCH, int(spare / each)))


def refusal(
    run: Run, needed: Memory, free: float, device: torch.device, ways: Sequence[str]
) -> str:
    """Why a run is not begun, and what would fit, in one line."""
    here = "this machine" if device.type == "cpu" else str(device)
    size = run.recipe.images_at_once
    choose = (
        f"choose {' or '.join(ways)}"
        if ways
        else "no micro-batch is small enough: choose a smaller network or --image-size"
    )
    return (
        f"{run.model} at {run.image_size} pixels, {size} images at a time, takes "
        f"{needed} and {here} has {gigabytes(free)} GB free; {choose}"
    )


def told(run: Run, needed: Memory, free: float | None, device: torch.device) -> str:
    """What a run takes in gigabytes and hours, as it begins."""
    size = run.recipe.images_at_once
    known = budget.speed_of(
        run.model, run.image_size, device=records.device_name(device), options=dict(run.options)
    )
    time = "for how long is not estimated, as no run of it on this device is in the ledger"
    if known:
        images = (run.recipe.steps or 0) * run.recipe.batch_size
        images = images or run.recipe.epochs * run.train_size()
        rate = known["images_per_second"]
        time = f"{budget.duration(images / rate)} at {rate:,.0f} images/s, as run {known['run']}"
    spare = "" if free is None else f"; {gigabytes(free)} GB are free"
    return (
        f"{run.model} at {run.image_size} pixels, {size} images at a time: {needed}{spare}; {time}"
    )
