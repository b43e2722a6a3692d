"""What training a released network costs, in closed form, and how fast the ledger knows it to go.

Hours follow from a measured speed alone. No rate of arithmetic is assumed: small networks reach a
few hundredths of what large ones do.
"""

from astroformer.counting import closed_forms
from astroformer.ledger import records

FLOP_PER_MAC = 6  # 2 a multiply-add; the backward pass costs two forward passes


def training_flop(
    model: str, *, image_size: int, num_classes: int, images: int, stack: str = "CCCT"
) -> float:
    """Operations of training a released network, or an Astroformer with another stack, on so many
    images, all epochs together. In closed form: no network is built.
    """
    counts = closed_forms.released_counts(
        model, image_size=image_size, num_classes=num_classes, stack=stack
    )
    return FLOP_PER_MAC * counts.macs * images


def speed_on_a_gpu(model: str, image_size: int, found: list[dict] | None = None) -> dict | None:
    """The newest record of that network, without options of its own, at that size on a GPU, of
    which `images_per_second` tells the speed.

    found: the ledger's records, for who asks for many networks; None reads them
    """
    known = [
        r
        for r in (records.read() if found is None else found)
        if r["model"] == model
        and r["image_size"] == image_size
        and not r["options"]
        and r["images_per_second"]
        and "threads" not in r["device"]
    ]
    return known[-1] if known else None


def speed_of(
    model: str, image_size: int, *, device: str, options: dict[str, object]
) -> dict | None:
    """The newest record of that network with those options at that size on a device of that name
    (records.device_name), of which `images_per_second` tells the speed.
    """
    plain = {name: list(one) if isinstance(one, tuple) else one for name, one in options.items()}
    known = [
        r
        for r in records.read()
        if (r["model"], r["image_size"], r["device"]) == (model, image_size, device)
        and r["options"] == plain
        and r["images_per_second"]
    ]
    return known[-1] if known else None


def duration(seconds: float) -> str:
    """Seconds below a minute, minutes below an hour, hours below two days, then days."""
    if seconds < 60:
        return f"{seconds:.2g} seconds"
    for unit, length in (("days", 86_400), ("hours", 3_600)):
        if seconds >= (2 * length if unit == "days" else length):
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.1f} minutes"
