"""One optimizer step: forward pass, loss, backward pass, norm of the gradient, clipping, optimizer.

Two forms compute the same. `Step` calls PyTorch operation by operation and takes a batch in one
part or in several. `GraphedStep` records those calls once as a CUDA graph and replays them: a GPU
computes a small network faster than Python can ask it to, and a replay is one call.

Reads top to bottom: optimizer_of (with the fused kernel), settle, state_of, Step, GraphedStep,
stepping_of (which of the two), settled_for (what a training rules out).
"""

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.optim import Optimizer

from astroformer.recipes import Recipe
from astroformer.training.execution import Execution
from astroformer.training.loss import loss_of

# Names of timm's factory that are PyTorch's own optimizers with a fused kernel; those that a CUDA
# graph can hold, which keep nothing of a step on the host.
FUSED = ("adam", "adamw", "sgd", "nesterov", "momentum")
CAPTURABLE = ("adam", "adamw")
# steps before a graph is recorded, as PyTorch's notes on CUDA graphs ask for
WARMUP = 3


def optimizer_of(
    model: nn.Module, recipe: Recipe, execution: Execution, device: torch.device
) -> Optimizer:
    """The recipe's optimizer over a network's parameters, executed as is said."""
    # timm spares some of a model's parameters the weight decay
    decayed = list(model.parameters()) if recipe.decay_all else model
    optimizer = create_optimizer_v2(
        decayed,
        opt=recipe.optimizer,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        **({"fused": True} if execution.fused and recipe.optimizer in FUSED else {}),
    )
    settle(optimizer, execution, device)
    return optimizer


def settle(optimizer: Optimizer, execution: Execution, device: torch.device) -> None:
    """Makes an optimizer, new or with the states of a checkpoint, work as the execution says: a
    graph reads the learning rate and the number of steps from the GPU's memory.
    """
    for group in optimizer.param_groups:
        if "fused" in group:
            group["fused"] = execution.fused or None
        if execution.graphs and "capturable" in group:
            group["capturable"] = True
            group["lr"] = torch.as_tensor(float(group["lr"]), device=device)
        elif "capturable" in group:
            group["capturable"] = False
            group["lr"] = float(group["lr"])
    on_device = device.type == "cuda" and bool(execution.fused or execution.graphs)
    for parameter, state in optimizer.state.items():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].to(device if on_device else "cpu", torch.float32)
        # a fused kernel reads weights and states in the order in which they lie in memory
        for name, value in state.items():
            same = isinstance(value, Tensor) and value.shape == parameter.shape
            if same and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def set_learning_rate(optimizer: Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value


def state_of(optimizer: Optimizer) -> dict:
    """The optimizer's state for a checkpoint, the same however it was executed."""
    state = optimizer.state_dict()
    groups = [
        {name: float(value) if name == "lr" else value for name, value in group.items()}
        for group in state["param_groups"]
    ]
    return {**state, "param_groups": groups}


class Step:
    """One optimizer step on a batch in one or several parts.

    forward: what is called for the network: itself, compiled, or what hands gradients on
    loss: of the network's outputs and the target (B, K)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        forward: Callable[[Tensor], Tensor | tuple] | None = None,
        precision: str = "float32",
        clip_grad: float = 0.0,
        loss: Callable[[Tensor | tuple, Tensor], Tensor] = loss_of,
    ):
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.forward = model if forward is None else forward
        self.precision, self.clip_grad = precision, clip_grad
        self.device = next(model.parameters()).device

    def autocast(self) -> AbstractContextManager:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.precision))

    def add(self, x: Tensor, target: Tensor, *, part: float = 1.0, times: int = 1) -> Tensor:
        """Adds the gradient of a part of the batch; the part's loss (), multiplied by `part`, which
        says how much of the batch it is. `times` multiplies the gradient alone.
        """
        with self.autocast():
            outputs = self.forward(x)
        loss = self.loss(outputs, target) * part
        (loss * times if times > 1 else loss).backward()
        return loss.detach()

    def end(self) -> Tensor:
        """Changes the weights by the gradients that were added; their norm () before clipping."""
        # of all gradients together; clipping without a limit measures it
        norm = (
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad)
            if self.clip_grad
            else nn.utils.get_total_norm(
                [p.grad for p in self.model.parameters() if p.grad is not None]
            )
        )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def __call__(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """A batch in one part, (B, C, H, W) and (B, K): its loss and the norm of its gradient."""
        return self.add(x, target), self.end()


class GraphedStep(Step):
    """A step on batches of one shape, recorded at its first call and replayed since then.

    The steps that warm PyTorch up before recording are undone: weights, statistics and the
    optimizer's states are put back in place. Random numbers of a replay follow the generator's
    seed, as those of a call do.

    What a forward pass decides on the host would be the same in every step: see `can_be_graphed`.
    """

    graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if self.graph is None:
            self.x, self.target = torch.empty_like(x), torch.empty_like(target)
            self._record(x, target)
        assert self.graph is not None
        self.x.copy_(x)
        self.target.copy_(target)
        self.graph.replay()
        # a replay writes into the same memory
        return self.loss_of_step.clone(), self.norm_of_step.clone()

    def _record(self, x: Tensor, target: Tensor) -> None:
        self.x.copy_(x)
        self.target.copy_(target)
        kept, generator = self._kept(), torch.cuda.get_rng_state(self.device)
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side), warnings.catch_warnings():
            # that an optimizer for graphs is slower without one, which it soon has
            warnings.filterwarnings("ignore", message=".*[Cc]apturable.*")
            for _ in range(WARMUP):
                super().__call__(self.x, self.target)
        torch.cuda.current_stream(self.device).wait_stream(side)
        self._put_back(kept)
        self.optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        # loader threads of this process may call CUDA meanwhile, to pin memory
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.loss_of_step, self.norm_of_step = super().__call__(self.x, self.target)
        self.graph = graph
        torch.cuda.set_rng_state(generator, self.device)

    def _tensors(self) -> Iterable[Tensor]:
        """All that a step changes."""
        yield from self.model.parameters()
        yield from self.model.buffers()
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))

    @torch.no_grad()
    def _kept(self) -> list[tuple[Tensor, Tensor]]:
        return [(tensor, tensor.clone()) for tensor in self._tensors()]

    @torch.no_grad()
    def _put_back(self, kept: list[tuple[Tensor, Tensor]]) -> None:
        """States that the steps have made were not there: Adam begins with zeros."""
        known = {id(tensor) for tensor, _ in kept}
        for tensor in self._tensors():
            if id(tensor) not in known:
                tensor.zero_()
        for tensor, value in kept:
            tensor.copy_(value)


def stepping_of(
    model: nn.Module,
    forward: Callable[[Tensor], Tensor | tuple],
    optimizer: Optimizer,
    execution: Execution,
    **how,
) -> Step:
    """The step of a training; `forward` is the network, or what hands its gradients on; `how` as
    of `Step`.
    """
    forward = torch.compile(forward) if execution.compile else forward
    return (GraphedStep if execution.graphs else Step)(model, optimizer, forward=forward, **how)


def settled_for(
    execution: Execution,
    asked: Execution,
    model: nn.Module,
    recipe: Recipe,
    device: torch.device,
    *,
    parts: int,
) -> Execution:
    """The execution without what the network, the recipe or the number of parts of a batch rules
    out. ValueError where that was asked for.
    """
    graphs = bool(execution.graphs) and can_be_graphed(
        model, recipe, device, parts=parts, execution=execution
    )
    if asked.graphs and not graphs:
        raise ValueError(
            "a CUDA graph holds steps of one process on a GPU, with the whole batch at once, adam "
            "or adamw, activations computed once and no token labels; leave out --graphs"
        )
    fused = bool(execution.fused) and recipe.optimizer in FUSED
    if asked.fused and not fused:
        raise ValueError(
            f"optimizer {recipe.optimizer} has no fused kernel, only {', '.join(FUSED)} have; "
            "leave out --fused"
        )
    return replace(execution, graphs=graphs, fused=fused)


def can_be_graphed(
    model: nn.Module, recipe: Recipe, device: torch.device, *, parts: int, execution: Execution
) -> bool:
    """Whether a training's step is one that `GraphedStep` can record: a batch in one part, by one
    process, on CUDA, by an optimizer that keeps nothing on the host, of a network whose forward
    pass draws nothing there, and activations that are computed once.
    """
    return (
        device.type == "cuda"
        and parts == 1
        and execution.world_size == 1
        and not execution.grad_checkpointing
        and recipe.optimizer in CAPTURABLE
        and not getattr(model, "token_label", False)  # draws a box, see spectformer_h
    )
