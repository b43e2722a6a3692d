"""A small training with everything that draws random numbers or keeps a state beside the weights,
and what two trainings of it must have in common.
"""

import torch
from small_run import EVERYTHING, small_run

from astroformer.ledger import predictions, records
from astroformer.training import checkpoint


def run_on(folder, **changes):
    return small_run(folder, **(EVERYTHING | changes))


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
