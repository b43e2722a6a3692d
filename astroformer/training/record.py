"""The ledger record of a training as it stands, and what its attempts differ in."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import torch

from astroformer.counting.cost import count_params
from astroformer.ledger import records

if TYPE_CHECKING:
    from astroformer.training.loop import Training

METRICS = (
    *("top1", "top5", "balanced_accuracy", "nll", "ece"),
    *("train_top1", "train_balanced_accuracy", "train_nll"),  # of the training images themselves
)

# of an Execution, those that change the rounding; one that an older attempt does not name was off
SWITCHES = (
    *("channels_last", "compile", "fused", "graphs", "tf32", "grad_checkpointing"),
    *("shard", "world_size"),
)


def record_of(training: "Training", status: str) -> dict:
    """The ledger record of the run as it stands; see `astroformer.ledger.records.FIELDS`. Its
    device and speed are those of the attempt that trained on most images.
    """
    final = training.measured or (training.history[-1] if training.history else {})
    names = ("class_fraction", "validation", "test_images", "split_seed")
    main = max(training.attempts, key=lambda attempt: attempt["images"])
    last = training.attempts[-1]
    return {
        "run": training.run.hash,
        "status": status,
        "model": training.run.model,
        "stack": getattr(training.model, "stack", None),
        "options": training.run.asked()["options"],
        "params": count_params(training.model),
        "macs": training.macs,
        "image_size": training.run.image_size,
        "dataset": _about(training)
        | training.run.younger()
        | training.run.labelled()
        | ({"channels": channels} if (channels := training.train_images.channels) != 3 else {})
        | {
            "source": training.run.dataset,
            "train": len(training.train_images),
            "test": len(training.test_images),
            "evaluated_on": training.test_images.split,
            "classes": len(training.classes),
            **{name: getattr(training.run, name) for name in names},
        },
        "fraction": training.run.fraction,
        "recipe": asdict(training.recipe),
        "seed": training.run.seed,
        "epochs": training.step // training.steps_per_epoch,
        "selection": "last epoch" + (", average of weights" if training.average else ""),
        "metrics": {name: final[name] for name in METRICS if name in final},
        "history": training.history,
        "seconds": round(sum(attempt["seconds"] for attempt in training.attempts), 2),
        "images_per_second": (
            round(main["images"] / main["seconds"], 1) if main["seconds"] else None
        ),
        "peak_memory": peak_memory(training.device),
        "device": main["device"],
        "world_size": training.execution.world_size,
        "precision": training.recipe.precision,
        "versions": last["versions"],
        "git": last["git"],
        "command": training.run.command(),
        "started": training.started,
        "resumed_from": last["from_step"] or None,
        "failed_at_step": training.failed_at,
        "steps": training.steps,
        "identity": training.run.identity(),
        "execution": main["execution"],
        "attempts": training.attempts,
    } | ({"init": training.init} if training.init else {})


def attempt_of(training: "Training") -> dict:
    """What is said of the part of a run that begins now, in this process."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": records.git_state(),  # now: the files may be edited while it trains
        "versions": records.versions(),
        "device": records.device_name(training.device),
        "execution": training.execution.recorded(),
        "from_step": training.step,
        "to_step": training.step,
        "seconds": 0.0,  # spent training
        "cpu_seconds": 0.0,  # of this process, in training alone
        "images": 0,  # trained on
    }


def _about(training: "Training") -> dict:
    """What is said of the data set, without remarks where there are none."""
    told = asdict(training.train_images.about)
    return {name: value for name, value in told.items() if name != "remarks" or value}


def differences(then: dict, now: dict) -> list[str]:
    """What another attempt has changed that may change rounding or speed, in words."""
    found = []
    if then["git"]["commit"] != now["git"]["commit"]:
        short = [str(attempt["git"]["commit"])[:12] for attempt in (then, now)]
        found.append(f"commit {short[0]} -> {short[1]}")
    for name in now["versions"]:
        if then["versions"].get(name) != now["versions"][name]:
            found.append(f"{name} {then['versions'].get(name)} -> {now['versions'][name]}")
    if then["device"] != now["device"]:
        found.append(f"device {then['device']} -> {now['device']}")
    for name in SWITCHES:
        if then["execution"].get(name, False) != now["execution"][name]:
            found.append(f"{name} {then['execution'].get(name, False)} -> {now['execution'][name]}")
    return found


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on the GPU, or that the process took on the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
