"""What training will cost, said before it starts: arithmetic, and hours where the ledger knows a
speed.
"""

from astroformer.counting.budget import ASSUMED, FLOP_PER_MAC, speed_on_a_gpu
from astroformer.counting.cost import model_cost
from astroformer.data import DATASETS, classes, native_image_size
from astroformer.recipes import get_recipe


def training_cost(page: dict[str, object]) -> str:
    """One line for the parameters of a page that trains (defaults and injected ones together)."""
    if not {"model", "dataset", "recipe"} <= set(page):
        return "trains, but has no parameters model, dataset and recipe to reckon from"
    recipe = get_recipe(
        page["recipe"], **({"epochs": page["epochs"]} if page.get("epochs") else {})
    )
    folder = page.get("data_dir") or None
    size = page.get("image_size") or native_image_size(page["dataset"], folder)
    if page["dataset"] == "folder":
        from astroformer import data

        number = len(data.load("folder", "train", data_dir=folder, image_size=size))
    else:
        number = page.get("train_images") or DATASETS[page["dataset"]].train
    images = round(number * page.get("fraction", 1.0)) * recipe.epochs
    options = {"stack": page["stack"]} if page.get("stack") else {}
    cost = model_cost(
        page["model"], image_size=size, num_classes=len(classes(page["dataset"], folder)), **options
    )
    flop = FLOP_PER_MAC * cost["macs"] * images
    return (
        f"{page['model']} ({cost['params'] / 1e6:.1f} M parameters) at {size} pixels, recipe "
        f"{recipe.name}: {recipe.epochs} epochs of "
        f"{images // recipe.epochs:,} images, {flop / 1e15:,.2f} PFLOP; "
        f"{time_on_a_gpu(page['model'], size, images, flop)}"
    )


def time_on_a_gpu(model: str, image_size: int, images: int, flop: float) -> str:
    """By the newest record of that network at that size on a GPU; without one, what an assumed
    rate would give.
    """
    if known := speed_on_a_gpu(model, image_size):
        rate, device = known["images_per_second"], known["device"]
        return (
            f"{duration(images / rate)} at {rate:,.0f} images/s as measured on one {device} (run "
            f"{known['run']})"
        )
    return (
        f"no record of its speed on a GPU; {duration(flop / ASSUMED)} if it sustains "
        f"{ASSUMED / 1e12:.0f} TFLOP/s, "
        "which is assumed, not measured"
    )


def duration(seconds: float) -> str:
    """Minutes below an hour, hours below two days, then days."""
    for unit, length in (("days", 86_400), ("hours", 3_600)):
        if seconds >= (2 * length if unit == "days" else length):
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.1f} minutes"
