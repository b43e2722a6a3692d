"""A network that several processes train together, as one process would train it.

BatchNorm sees the moments of images that several processes hold ("synchronised"): PyTorch's own
SyncBatchNorm computes the same on GPUs and refuses tensors of a CPU; this one serves both, so that
what several processes compute is tested where there is no GPU. Where processes have micro-batches
of their own, their running statistics are joined.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.parallel import DistributedDataParallel

from astroformer.training.ranks import Piece, Ranks


class NormalisedTogether(torch.autograd.Function):
    """(B, C, ...) -> the same, normalised by each channel's mean and variance over the images of
    all processes of a group; and both moments with the number of values that they are of, which
    have no gradient.

    Moments are float32 whatever the images are, and are joined as Chan, Golub and LeVeque (1979)
    join those of parts, so that no squares of large means are subtracted.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, eps, group):
        axes = [0, *range(2, x.dim())]
        values = x.float()
        number = values.numel() // values.shape[1]
        variance, mean = torch.var_mean(values, axes, correction=0)
        own = torch.cat([mean, variance, mean.new_full((1,), number)])
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, own, group=group)
        means, variances, numbers = torch.stack(parts).split([len(mean), len(mean), 1], dim=1)
        total = numbers.sum()
        mean = (numbers * means).sum(0) / total
        variance = (numbers * (variances + (means - mean) ** 2)).sum(0) / total
        scale = (variance + eps).rsqrt()
        shape = [1, -1] + [1] * (x.dim() - 2)
        standard = (values - mean.view(shape)) * scale.view(shape)
        out = standard if weight is None else standard * weight.view(shape)
        out = out if bias is None else out + bias.view(shape)
        ctx.save_for_backward(x, weight, mean, scale, total)
        ctx.group, ctx.axes, ctx.shape = group, axes, shape
        ctx.mark_non_differentiable(mean, variance, total)
        return out.to(x.dtype), mean, variance, total

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, *_):  # pyrefly: ignore[bad-override]
        x, weight, mean, scale, total = ctx.saved_tensors
        shape = ctx.shape
        standard = (x.float() - mean.view(shape)) * scale.view(shape)
        wide = gradient.float()
        of_bias = wide.sum(ctx.axes)
        of_weight = (wide * standard).sum(ctx.axes)
        both = torch.cat([of_bias, of_weight])
        dist.all_reduce(both, group=ctx.group)
        mean_bias, mean_weight = (both / total).chunk(2)
        of_x = wide - mean_bias.view(shape) - standard * mean_weight.view(shape)
        of_x = of_x * (scale if weight is None else scale * weight).view(shape)
        needed = ctx.needs_input_grad
        return (
            of_x.to(x.dtype),
            of_weight if weight is not None and needed[1] else None,
            of_bias if needed[2] else None,
            None,
            None,
        )


@dataclass(frozen=True)
class Channel:
    """Processes, None for all of them. A copy of a network, such as the average of its weights,
    has the same.
    """

    group: dist.ProcessGroup | None

    def __deepcopy__(self, memo) -> "Channel":
        return self


class Together:
    """What a BatchNorm layer does while it is trained, by the images of all processes of a
    channel; mixed into the layer's own class, so that parameters, buffers and names stay.
    """

    channel: Channel

    def forward(self, x: Tensor) -> Tensor:
        return self.normalised(x) if self.training else super().forward(x)

    def normalised(self, x: Tensor) -> Tensor:
        x, mean, variance, number = NormalisedTogether.apply(
            x, self.weight, self.bias, self.eps, self.channel.group
        )
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            part = self.momentum
            if part is None:  # an average of all batches
                part = 1 / float(self.num_batches_tracked)
            unbiased = variance * (number / (number - 1))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), part)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), part)
        return x


class BatchNorm1dTogether(Together, nn.BatchNorm1d):
    pass


class BatchNorm2dTogether(Together, nn.BatchNorm2d):
    pass


class BatchNormAct2dTogether(Together, BatchNormAct2d):
    """timm's, with dropout and an activation behind it."""

    def normalised(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().normalised(x)))


class RunningStatistics:
    """Joins the running statistics that ranks have of their own micro-batches to those that one
    process would have of all of them, one after another.

    With momentum m, a layer that has seen the moments s_1 ... s_n after r_0 holds
    (1 - m)^n r_0 + m sum_i (1 - m)^(n - i) s_i: a sum over micro-batches, of which each rank has
    some.
    """

    def __init__(self, model: nn.Module, shares: Sequence[Sequence[Piece]], ranks: Ranks):
        self.ranks, own = ranks, shares[ranks.rank]
        self.number = 1 + max(piece.part for share in shares for piece in share)
        self.own, self.after = len(own), self.number - 1 - own[-1].part
        self.sharers = len(own[0].group)
        self.layers = [one for one in layers_of(model) if one.track_running_stats]
        # where all share one micro-batch, all have seen the same
        self.needed = ranks.size > 1 and self.sharers < ranks.size and bool(self.layers)
        if self.needed and any(layer.momentum is None for layer in self.layers):
            raise ValueError(
                "BatchNorm without a momentum averages all batches, which processes that train "
                "together do not join; start one process"
            )
        self.before: list[Tensor] = []

    def begin(self) -> None:
        """Before a step."""
        if self.needed:
            self.before = [one.clone() for one in self._statistics()]

    def end(self) -> None:
        """After the backward pass of a step."""
        if not self.needed:
            return
        kept = [1 - layer.momentum for layer in self.layers for _ in range(2)]
        found = self._statistics()
        added = [
            (now - keep**self.own * then) * (keep**self.after / self.sharers)
            for now, then, keep in zip(found, self.before, kept, strict=True)
        ]
        summed = self.ranks.sum(torch.cat(added)).split([len(one) for one in added])
        for now, then, keep, part in zip(found, self.before, kept, summed, strict=True):
            now.copy_(keep**self.number * then + part)
        for layer in self.layers:
            layer.num_batches_tracked.add_(self.number - self.own)

    def _statistics(self) -> list[Tensor]:
        return [
            one
            for layer in self.layers
            for one in (layer.running_mean, layer.running_var)
            if one is not None
        ]


def layers_of(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Every BatchNorm of a network."""
    return [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]


TOGETHER = {
    nn.BatchNorm1d: BatchNorm1dTogether,
    nn.BatchNorm2d: BatchNorm2dTogether,
    BatchNormAct2d: BatchNormAct2dTogether,
}


def together(model: nn.Module, shares: Sequence[Sequence[Piece]], ranks: Ranks) -> nn.Module:
    """A network that several ranks train: BatchNorm sees all rows of a micro-batch, whoever has
    them, and gradients become the mean of those of all ranks. Alone it is the network itself.
    """
    if ranks.size == 1:
        return model
    share_micro_batches(model, shares, ranks)
    device = next(model.parameters()).device
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        broadcast_buffers=False,  # statistics are joined by RunningStatistics
        gradient_as_bucket_view=True,
    )


def share_micro_batches(model: nn.Module, shares: Sequence[Sequence[Piece]], ranks: Ranks) -> None:
    """Lets BatchNorm see all rows of the micro-batches that this rank shares with others."""
    groups = dict.fromkeys(piece.group for share in shares for piece in share)
    ranks.make_groups(list(groups))
    own = shares[ranks.rank][0].group
    if len(own) > 1:
        synchronise(model, ranks.group_of(own))


def gradients_kept_back(model: nn.Module) -> AbstractContextManager:
    """While gradients of micro-batches add up in each rank, before the last hands them on."""
    alone = not isinstance(model, DistributedDataParallel)
    return nullcontext() if alone else model.no_sync()


def synchronise(model: nn.Module, group: dist.ProcessGroup | None = None) -> int:
    """Makes every BatchNorm of a network see the images of all processes of a group (None is all)
    while it is trained; how many layers there are. ValueError for a kind of layer that is not
    known.
    """
    layers = layers_of(model)
    for layer in layers:
        kind = TOGETHER.get(type(layer))
        if kind is None:
            raise ValueError(
                f"{type(layer).__name__} cannot be synchronised over processes; choose "
                "--set micro_batch_size=... of which each process has whole ones"
            )
        layer.__class__ = kind
        layer.channel = Channel(group)
    return len(layers)
