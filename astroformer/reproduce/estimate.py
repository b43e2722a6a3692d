"""What training will cost, said before it starts: arithmetic, memory, and hours where a speed was
measured.
"""

import torch

from astroformer.counting.budget import FLOP_PER_MAC, duration, speed_on_a_gpu
from astroformer.counting.cost import model_cost
from astroformer.counting.throughput import images_per_second
from astroformer.data import classes, native_image_size
from astroformer.ledger import records
from astroformer.models import create
from astroformer.recipes import get_recipe
from astroformer.studies import needs, on_page
from astroformer.training import Execution, Run, memory

from .pages import MAKE, BookError, Page

PARAMETERS = {"model", "dataset", "recipe"}


def cost(page: Page, parameters: dict[str, object]) -> str:
    """What a page that trains will cost, in a line. BookError for runs that cannot be asked for."""
    told = page.defaults | parameters
    if not told.get(MAKE):
        return training_cost(told) if asks_for_one_run(told) else steps_cost(told)
    try:
        return on_page.cost_of(page.source.stem, told)
    except ValueError as error:
        raise BookError(f"{page.name}: {error}") from error


def lacking(page: Page, parameters: dict[str, object]) -> str | None:
    """Why a page that makes what it lacks is to be executed again though nothing has changed; None
    if nothing is missing.
    """
    missing = on_page.asked_by(page.source.stem, page.defaults | parameters).missing
    return f"{len(missing)} runs are missing" if missing else None


def asks_for_one_run(page: dict[str, object]) -> bool:
    """Whether a page's parameters name a run: network, data set and recipe."""
    return set(page) >= PARAMETERS


def steps_cost(page: dict[str, object]) -> str:
    """One line for a page that chooses its networks itself and trains each for some steps."""
    if "steps" not in page:
        return "trains, but has neither model, dataset and recipe nor steps to reckon from"
    return f"trains its networks for {page['steps']} steps each, at {page['image_size']} pixels"


def run_of_page(page: dict[str, object]) -> Run:
    """The run that a page makes of its parameters (defaults and injected ones together)."""
    changes = {"epochs": page["epochs"]} if page.get("epochs") else {}
    folder = page.get("data_dir") or None
    stack = page.get("stack") or "CCCT"
    return Run(
        model=page["model"],
        dataset=page["dataset"],
        data_dir=folder,
        recipe=get_recipe(page["recipe"], **changes),
        image_size=page.get("image_size") or native_image_size(page["dataset"], folder),
        train_images=page.get("train_images") or None,
        fraction=page.get("fraction", 1.0),
        options=() if stack == "CCCT" else (("stack", stack),),
    )


def execution_of_page(page: dict[str, object]) -> Execution:
    return Execution(grad_checkpointing=bool(page.get("grad_checkpointing", False)))


def training_cost(page: dict[str, object], device: torch.device | None = None) -> str:
    """One line for the parameters of a page that trains on a GPU. `device`: one that is at hand, on
    which a step is timed if the ledger knows no speed; None looks for a GPU.
    """
    run, number = run_of_page(page), len(classes(page["dataset"], page.get("data_dir") or None))
    recipe, size = run.recipe, run.image_size
    images = needs.training_images(run) * recipe.epochs
    cost = model_cost(run.model, image_size=size, num_classes=number, **dict(run.options))
    flop = FLOP_PER_MAC * cost["macs"] * images
    execution = execution_of_page(page)
    needed = memory.most_of(memory.of_run(run, classes=number, execution=execution))
    checkpointing = ", gradient checkpointing" if execution.grad_checkpointing else ""
    return (
        f"{run.model} ({cost['params'] / 1e6:.1f} M parameters) at {size} pixels, recipe "
        f"{recipe.name}: {recipe.epochs} epochs of "
        f"{images // recipe.epochs:,} images, {flop / 1e15:,.2f} PFLOP; "
        f"{recipe.images_at_once} images at a time{checkpointing}, "
        f"{needed}; {time_on_a_gpu(run, execution, images, classes=number, device=device)}"
    )


def time_on_a_gpu(
    run: Run,
    execution: Execution,
    images: int,
    *,
    classes: int,
    device: torch.device | None = None,
) -> str:
    """By the newest record of that network at that size on a GPU; without one, by a step that is
    timed on the device at hand. Without either it is not estimated.
    """
    if known := speed_on_a_gpu(run.model, run.image_size):
        rate, name = known["images_per_second"], known["device"]
        return (
            f"{duration(images / rate)} at {rate:,.0f} images/s as measured on one {name} (run "
            f"{known['run']})"
        )
    if device is None and torch.cuda.is_available():
        device = torch.device("cuda")
    if device is None:
        return (
            "the time is not estimated: no run of it on a GPU is in the ledger, and there is no "
            "GPU here to time a step on"
        )
    free = memory.free_on(device)
    steps = memory.of_steps(run, classes=classes, device=device.type, execution=execution)
    if free is not None and steps.most > free:
        return "the time is not estimated: a step of it may not fit the memory at hand"
    rate = timed(run, execution.settled(device), classes, device)
    return (
        f"{duration(images / rate)} at {rate:,.0f} images/s, by three steps timed here on "
        f"{records.device_name(device)}"
    )


def timed(run: Run, execution: Execution, classes: int, device: torch.device) -> float:
    """Images a second of a run's steps on a device, as it would be executed there."""
    settled = run.settled(device)
    model = create(run.model, **run.model_options(classes)).to(device)
    rate = images_per_second(
        execution.prepared(model),
        run.image_size,
        batch_size=run.recipe.images_at_once,
        channels_last=bool(execution.channels_last),
        precision=settled.recipe.precision,
    )
    del model
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the pages train in processes of their own
    return rate


def refused(page: dict[str, object], device: torch.device) -> str | None:
    """Why the run of a page cannot fit a device, in one line; None where it can."""
    if not asks_for_one_run(page):
        return None
    number = len(classes(page["dataset"], page.get("data_dir") or None))
    try:
        memory.checked(
            run_of_page(page),
            classes=number,
            device=device,
            execution=execution_of_page(page).settled(device),
        )
    except ValueError as error:
        return str(error)
    return None
