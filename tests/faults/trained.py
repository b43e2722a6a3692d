"""A small training with everything that draws random numbers or keeps a state beside the weights,
and what two trainings of it must have in common.
"""

import torch

from astroformer.ledger import predictions, records
from astroformer.recipes import get_recipe
from astroformer.training import Run, checkpoint

CPU = torch.device("cpu")
EVERYTHING = dict(
    epochs=3,
    batch_size=8,
    micro_batch_size=4,
    mixup=0.8,
    cutout=0.5,
    dropblock=0.1,
    drop_rate=0.1,
    drop_path_rate=0.2,
    ema_decay=0.9,
    crop="random-resized",
    hflip=0.5,
)


def run_on(folder, *, seed=0, **changes):
    """On the 48 training images of `tiny_folder`: 6 steps an epoch."""
    return Run(
        model="astroformer_pico",
        dataset="folder",
        data_dir=str(folder),
        image_size=32,
        recipe=get_recipe("smoke", **(EVERYTHING | changes)),
        seed=seed,
    ).resolved(CPU)


def outcome(run):
    """What a completed run left: weights, history, curve and predictions, as plain values and
    tensors. AssertionError unless the ledger holds it once.
    """
    completed = [
        one for one in records.read() if one["run"] == run.hash and one["status"] == "completed"
    ]
    assert len(completed) == 1
    state = checkpoint.read(run.folder / "last.pt")
    said = predictions.load(predictions.local(run.hash))
    return {
        "weights": dict(state["weights"]),
        "average": dict(state["average"]),
        "curve": state["curve"],
        "history": state["history"],
        "metrics": completed[0]["metrics"],
        "predictions": [said.labels.tolist(), said.top.tolist(), said.probabilities.tolist()],
    }


def assert_same_bits(one, other):
    for part in ("weights", "average"):
        assert one[part].keys() == other[part].keys()
        for name, value in one[part].items():
            assert torch.equal(value, other[part][name]), f"{part} {name}"
    assert torch.equal(one["curve"], other["curve"])
    for part in ("history", "metrics", "predictions"):
        assert one[part] == other[part], part
