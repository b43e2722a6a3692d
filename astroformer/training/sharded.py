"""A network whose weights, gradients and optimizer states are divided among processes, so that each
holds a part: PyTorch's FSDP2 (`fully_shard`; Zhao et al. 2023, arXiv:2304.11277). A block is
gathered whole while it is computed, forward and backward, and given up again.

What a run computes stays what one process computes, but for rounding: weights are float32, autocast
is the loop's, gradients become the mean over the ranks after every micro-batch, so that no rank
ever has all of them. A checkpoint holds whole tensors, so a run may go on with other numbers of
processes, divided or not.

Every rank takes part whenever a block is computed. So all ranks compute equally often: as many
micro-batches, and as many images where the network is evaluated.

Reads top to bottom: units_of (what is gathered at once), shard, placed, together, check_optimizer,
average_of, predict, gathered (a state with whole tensors), taken_up (the way back).
"""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from astroformer.data.images import Images
from astroformer.data.loader import Loader
from astroformer.recipes import Recipe, replace
from astroformer.training import evaluate, synchronised
from astroformer.training.execution import Execution
from astroformer.training.ranks import Piece, Ranks
from astroformer.training.step import optimizer_of

if TYPE_CHECKING:
    from astroformer.training.loop import Training

# steps of the trial of an optimizer; Lookahead's first own step is the sixth
TRIAL = 8


def units_of(model: nn.Module) -> dict[str, nn.Module]:
    """The blocks of a network by their names, each of which is gathered at once: those that timm's
    `group_matcher` numbers one by one, for layer-wise learning rates.

    ValueError in one line for a network that has no such blocks.
    """
    matcher = model.group_matcher(coarse=False) if hasattr(model, "group_matcher") else {}
    entries = [
        one for found in matcher.values() for one in ([found] if isinstance(found, str) else found)
    ]
    patterns = [re.compile(one if isinstance(one, str) else one[0]) for one in entries if one]
    numbered = [one for one in patterns if one.groups]
    units = {
        name: module
        for name, module in model.named_modules()
        if any(one.fullmatch(name) for one in numbered)
        and not isinstance(module, nn.ModuleList | nn.ModuleDict)  # which are not called
        and next(module.parameters(), None) is not None
    }
    if not units:
        raise ValueError(
            f"{type(model).__name__} has no blocks of which processes could keep parts; leave out "
            "--shard"
        )
    return units


def largest_unit(model: nn.Module) -> int:
    """Bytes of the parameters that are gathered at once, at most: of a block, or of what lies in
    none.
    """
    left, sizes = {id(p): p.nbytes for p in model.parameters()}, []
    for unit in reversed(units_of(model).values()):
        sizes.append(sum(left.pop(id(p), 0) for p in unit.parameters()))
    return max(*sizes, sum(left.values()))


def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Leaves each rank its part of every parameter, in place and on the mesh's device; buffers stay
    whole. The parameters must be the same in all ranks, and contiguous.
    """
    for module in [*reversed(units_of(model).values()), model]:  # a block within another first
        # The root gives up its own too, so that parameters are parts between any two calls.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    return model


def placed(model: nn.Module, execution: Execution, device: torch.device) -> nn.Module:
    """The network of a training on its device, as its execution prepares it. One that is to be
    divided stays where it is: FSDP2 moves a block at a time, so that no GPU ever has all of it.
    """
    return execution.prepared(model if execution.shard else model.to(device))


def together(training: "Training", shares: Sequence[Sequence[Piece]]) -> nn.Module:
    """The network of a training as ranks train it together: what hands gradients on. Where it is to
    be divided, the average of its weights is too. ValueError for what cannot be computed so: see
    `units_of`, `check_optimizer`, and micro-batches that are not as many in each rank.
    """
    model, average, ranks = training.model, training.average, training.ranks
    if not training.execution.shard:
        return synchronised.together(model, shares, ranks)
    numbers = {len(share) for share in shares}
    if len(numbers) > 1:
        total = 1 + max(piece.part for share in shares for piece in share)
        raise ValueError(
            f"--shard needs as many micro-batches in each process, and {total} cannot be divided "
            f"among {ranks.size}; start another number of processes, or choose another "
            "micro_batch_size"
        )
    synchronised.share_micro_batches(model, shares, ranks)
    mesh = init_device_mesh(training.device.type, (ranks.size,))
    check_optimizer(training.recipe, training.execution, mesh)
    for one in (model, average.module) if average else (model,):
        shard(one, mesh)
    return model


def check_optimizer(recipe: Recipe, execution: Execution, mesh: DeviceMesh) -> None:
    """ValueError unless the recipe's optimizer makes of divided weights what it makes of whole
    ones, and keeps states that can be joined again. It is tried on small ones.
    """
    recipe = replace(recipe, learning_rate=0.01)
    size, device = mesh.size(), torch.device(mesh.device_type)
    draw = torch.Generator().manual_seed(0)
    shapes = ((2 * size + 1, 3, 3, 3), (3 * size, 5), (size + 1,))
    values = [
        [torch.randn(shape, generator=draw).to(device) for shape in shapes]
        for _ in range(TRIAL + 1)
    ]
    alone = nn.ParameterList(values[0])
    parts = nn.ParameterList([divided(one, mesh) for one in values[0]])
    refused = ValueError(
        f"optimizer {recipe.optimizer} does not make of divided weights what it makes of whole "
        "ones; leave out --shard, or choose another, such as adamw"
    )
    try:
        for network in (alone, parts):
            optimizer = optimizer_of(network, recipe, execution, device)
            for gradients in values[1:]:
                for parameter, gradient in zip(network, gradients, strict=True):
                    own = isinstance(parameter, DTensor)
                    parameter.grad = divided(gradient, mesh) if own else gradient.clone()
                optimizer.step()
        states = optimizer.state_dict()["state"]
        order = [one for group in optimizer.param_groups for one in group["params"]]
    except Exception as error:
        raise refused from error
    known = all(
        (value.shape, value.placements) == (order[i].shape, order[i].placements)
        for i, state in states.items()
        for value in state.values()
        if isinstance(value, DTensor)
    )
    near = dict(rtol=1e-4, atol=1e-5)
    if not known or not all(torch.allclose(whole(b), a, **near) for a, b in zip(alone, parts)):
        raise refused


def divided(value: Tensor, mesh: DeviceMesh) -> DTensor:
    """A tensor that every rank has, of which each keeps some rows."""
    return distribute_tensor(value, mesh, [Shard(0)])


def average_of(model: nn.Module, recipe: Recipe, execution: Execution) -> ModelEmaV3 | None:
    """The moving average of a network's weights, if the recipe asks for it. It is made of the whole
    network, before `together` divides both.
    """
    if not recipe.ema_decay:
        return None
    kind = LocalAverage if execution.shard else ModelEmaV3
    return kind(model, decay=recipe.ema_decay, use_warmup=True)


class LocalAverage(ModelEmaV3):
    """An average of which each rank has the same parts as of the network."""

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        pairs = [
            (_local(mine), _local(theirs))
            for mine, theirs in zip(
                self.module.state_dict().values(), model.state_dict().values(), strict=True
            )
        ]
        numbers = [pair for pair in pairs if pair[0].is_floating_point()]
        own, news = ([pair[i] for pair in numbers] for i in (0, 1))
        torch._foreach_lerp_(own, news, 1.0 - decay)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def predict(
    ranks: Ranks, model: nn.Module, images: Images | Loader, *, batch_size: int, **how
) -> Tensor:
    """`evaluate.predict` of this rank's part of the images. Where the network is divided, each rank
    computes as many batches as the others: one that has an image less adds one of another's.
    """
    if not isinstance(model, FSDPModule):
        return evaluate.predict(model, images, batch_size=batch_size, rows=ranks.rows, **how)
    added = 0

    def rows(number: int) -> slice:
        nonlocal added
        own, most = ranks.rows(number), -(-number // ranks.size)
        stop = max(own.stop, most)
        added = most - (own.stop - own.start)
        return slice(stop - most, stop)

    # another rank may have less memory
    sizes = ranks.gathered(torch.tensor([batch_size], device=next(model.parameters()).device))
    logits = evaluate.predict(model, images, batch_size=int(sizes.min()), rows=rows, **how)
    return logits[added:]


def whole(value: Tensor) -> Tensor:
    """A tensor of which ranks have parts, in each of them; every rank must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def gathered(state: Any, ranks: Ranks) -> Any:
    """A state (dictionaries, lists, tensors) with whole tensors on the CPU in place of divided
    ones; without such it is itself. Every rank must ask; the first alone has the tensors then.
    """
    if isinstance(state, DTensor):
        value = state.detach().full_tensor()
        return value.cpu() if ranks.first else None
    if isinstance(state, dict):
        found = {name: gathered(value, ranks) for name, value in state.items()}
        if all(found[name] is state[name] for name in found):
            return state
        joined = copy.copy(state)  # with what torch notes beside a network's weights
        joined.update(found)
        return joined
    if isinstance(state, list | tuple):
        found = [gathered(value, ranks) for value in state]
        same = all(one is other for one, other in zip(found, state, strict=True))
        return state if same else type(state)(found)
    return state


def taken_up(training: "Training", answer: Callable[[], dict | None]) -> dict | None:
    """The state that the first rank answers for a training, with parts in place of whole tensors of
    which this rank keeps a part. Other ranks are never given all of it.
    """
    ranks, weights = training.ranks, training.model.state_dict()
    parameters = [one for group in training.optimizer.param_groups for one in group["params"]]

    def to_divide(state: dict) -> Iterator[tuple[dict, Any, DTensor]]:
        """Where whole tensors stand, and the parts by which they are to be divided."""
        for part in (state["weights"], state["average"] or {}):
            for name in part:
                if isinstance(weights[name], DTensor):
                    yield part, name, weights[name]
        for i, own in (state["optimizer"] or {}).get("state", {}).items():
            for name, value in own.items():
                like = parameters[i]
                if isinstance(like, DTensor) and isinstance(value, Tensor) and value.dim():
                    yield own, name, like

    found: dict | None = None

    def without_numbers() -> dict | None:
        nonlocal found
        found = answer()
        if found is None:
            return None
        told = _copied(found)
        for place, name, _ in to_divide(told):
            place[name] = place[name].to("meta")
        return told

    told = ranks.told(without_numbers)
    if told is None:
        return None
    state = _copied(found) if ranks.first else told
    for place, name, like in to_divide(state):
        value, there = place[name].to(like.dtype), like.device
        value = value.to(there) if ranks.first else torch.empty_like(value, device=there)
        place[name] = distribute_tensor(value.contiguous(), like.device_mesh, like.placements)
    return state


def _copied(state: Any) -> Any:
    """The same with dictionaries of its own."""
    if not isinstance(state, dict):
        return state
    copied = copy.copy(state)
    copied.update({name: _copied(value) for name, value in state.items()})
    return copied
