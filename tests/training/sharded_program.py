"""What each process of `torchrun` runs in the tests of divided weights, one thing after another.

python sharded_program.py IMAGES WORD ...: the images' folder, then a name of a run in RUNS, as
NAME[:STEPS][@FOLDER] with the step after which it is to stop and where its ledger and checkpoints
lie, or "optimizers", "networks", "evaluations". What is found is printed as a line of JSON.
"""

import copy
import json
import os
import sys

import numpy as np
import timm
import torch
import torch.distributed as dist
from ranks_program import SMALL, run_with
from test_checkpointing import CAN, side, small
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from astroformer.recipes import get_recipe, replace
from astroformer.training import Execution, Run, evaluate, fit, loop, sharded
from astroformer.training.ranks import joined

CPU = torch.device("cpu")
# Mixup, CutMix, clipping and the average of weights are on in all that do not say otherwise.
SHORT = replace(SMALL, steps=20)
VIT = {"depth": 2, "dim": 64, "heads": 4, "mlp_hidden": 128}
RUNS = {
    # one micro-batch of 12, which processes share, synchronised
    "shared": ("astroformer_pico", SHORT, {}, {}),
    # two micro-batches in each of two processes, each block computed twice
    "accumulated": (
        "astroformer_pico",
        replace(SHORT, batch_size=16, micro_batch_size=4),
        {},
        {"grad_checkpointing": True},
    ),
    "lookahead": ("vit_cifar", replace(SHORT, optimizer="lookahead_radam", clip_grad=0.0), VIT, {}),
    "thirds": ("vit_cifar", replace(SHORT, micro_batch_size=4), VIT, {}),
}
OPTIMIZERS = ("adamw", "sgd", "lookahead_radam", "lamb", "adafactor", "adamp")


def run_of(name: str, folder: str) -> Run:
    return run_with(folder, *RUNS[name][:3])


def said(what: str, value: object) -> None:
    """A line of the first process about all of them."""
    every: list = [None] * dist.get_world_size()
    dist.all_gather_object(every, value)
    if dist.get_rank() == 0:
        print(f"{what} {json.dumps(every)}", flush=True)


class Held(loop.Training):
    """Tells at its end which part of the weights and the optimizer's states a process has."""

    def close(self) -> None:
        super().close()
        states = self.optimizer.state_dict()["state"].values()
        found = [
            (name, value)
            for name, value in [
                *(("weights", one) for one in self.model.parameters()),
                *(("average", one) for one in self.average.module.parameters()),
                *(("states", one) for state in states for one in state.values()),
            ]
            if isinstance(value, torch.Tensor) and value.dim()
        ]
        parts = {}
        for name in ("weights", "average", "states"):
            these = [value for kind, value in found if kind == name]
            assert all(isinstance(one, DTensor) for one in these)
            parts[name] = sum(one.to_local().nbytes for one in these) / sum(
                one.nbytes for one in these
            )
        said("held", parts)


def optimizers() -> None:
    """Which of them may be divided."""
    mesh, found = init_device_mesh("cpu", (dist.get_world_size(),)), {}
    for name in OPTIMIZERS:
        recipe = get_recipe("smoke", optimizer=name)
        try:
            sharded.check_optimizer(recipe, Execution(fused=name == "adamw"), mesh)
            found[name] = ""
        except ValueError as error:
            found[name] = str(error)
    said("optimizers", found)


def networks() -> None:
    """By how much the gradients of every network differ from the mean of those of whole copies,
    relative to the largest.
    """
    mesh, found = init_device_mesh("cpu", (dist.get_world_size(),)), {}
    for name in CAN:
        whole = small(name).train()
        parts = sharded.shard(copy.deepcopy(whole), mesh)
        images = torch.randn(2, 3, side(name), side(name))  # each process has others
        for model in (whole, parts):
            torch.manual_seed(dist.get_rank())
            nn.functional.cross_entropy(model(images), torch.arange(2)).backward()
        worst = most = 0.0
        for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
            if one.grad is None:
                assert other.grad is None
                continue
            mean = one.grad.clone()
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
            most = max(most, float(mean.abs().max()))
            worst = max(worst, float((sharded.whole(other.grad) - mean).abs().max()))
        found[name] = worst / most
    said("networks", found)


def evaluations(folder: str, ranks) -> None:
    """By how much divided networks differ in what they say of so many images, of which ranks have
    unequal parts, and that they can be trained after it.
    """
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    whole = timm.create_model("astroformer_pico", num_classes=3, img_size=32)
    torch.manual_seed(0)
    for parameter in whole.parameters():
        nn.init.normal_(parameter, std=0.05)
    parts = sharded.shard(copy.deepcopy(whole), mesh)
    images, found = run_of("shared", folder).load("test"), {}
    how = dict(mean=[0.5] * 3, std=[0.25] * 3)
    for number in (1, 23):
        some = images.take(np.arange(number))
        expected = evaluate.predict(whole, some, **how)
        own = sharded.predict(ranks, parts, some, batch_size=11 + ranks.rank, **how)
        found[number] = float((ranks.gathered(own) - expected).abs().max())
    parts.train()(torch.randn(2, 3, 32, 32)).sum().backward()
    said("evaluations", found)


def main(folder: str, *words: str) -> None:
    loop.Training = Held
    for word in words:
        if word in ("optimizers", "networks", "evaluations"):
            with joined(CPU) as ranks:
                known = {"optimizers": (), "networks": (), "evaluations": (folder, ranks)}
                globals()[word](*known[word])
            continue
        asked, _, where = word.partition("@")
        if where:
            os.environ["ASTROFORMER_RUNS"] = f"{where}/runs"
            os.environ["ASTROFORMER_LOCAL_LEDGER"] = f"{where}/ledger"
        name, _, steps = asked.partition(":")
        try:
            fit(
                run_of(name, folder),
                device=CPU,
                execution=Execution(shard=True, **RUNS[name][3]),
                stop_after=int(steps) if steps else None,
                report=lambda line: print(line, flush=True),
            )
        except ValueError as error:  # of the last run, after which processes are not together
            if os.environ["RANK"] == "0":
                print(f"refused {json.dumps(str(error))}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
