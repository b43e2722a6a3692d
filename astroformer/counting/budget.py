"""What training a released network costs, in closed form, and how fast the ledger knows it to go
on a GPU.
"""

from astroformer.counting import closed_forms
from astroformer.ledger import records

# FLOP/s that training is assumed to sustain where no record tells: a tenth of an H200's bfloat16
# peak
ASSUMED = 100e12
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
