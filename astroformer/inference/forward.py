"""From images to log-probabilities and features, with the same bits however the images come.

Kernels of a matrix product are chosen by its shape, so that another batch size rounds otherwise. On
a CPU each pass therefore has PIECE images, the last ones filled up with black, and what a network
says of an image depends neither on its neighbours nor on its place among them (measured for every
network of this project; tests/inference/test_forward.py). On a GPU a pass has a whole batch, filled
up as well: other batch sizes agree to rounding.

Views of an image and members of an ensemble are averaged in the order of their values, so that the
average is the same for a turned image and for members in another order.
"""

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from astroformer.data.augment import normalise
from astroformer.inference.members import Ensemble, Member

PIECE = 32  # images of a pass on a CPU
TURNS = (1, 4, 8)  # an image as it is; its quarter turns; these and their mirror images


class Forward:
    """One member on a device.

    turns: of TURNS, how many views of an image are looked at
    batch: images of a pass on a GPU
    """

    def __init__(self, member: Member, device: torch.device, *, turns: int = 1, batch: int = 256):
        if turns not in TURNS:
            raise ValueError(f"turns {turns} is not known; choose {', '.join(map(str, TURNS))}")
        self.member, self.device, self.turns = member, device, turns
        self.model: nn.Module = member.model.to(device).eval()
        self.mean, self.std = (
            torch.tensor(value, device=device) for value in (member.mean, member.std)
        )
        self.piece = PIECE if device.type == "cpu" else batch
        self.reflected = torch.tensor(reflected(member), device=device)

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, C, H, W) -> log-probabilities float64 (B, V, K) of each of V views, in the
        member's own order of classes, and features float32 (B, V, F) before the classifier, on the
        CPU.
        """
        told, features = [], []
        for part, number in pieces(pixels, self.piece):
            x = normalise(part.to(self.device, non_blocking=True), self.mean, self.std)
            of_views = [self._pass(view) for view in views(x, self.turns)]
            log_p = torch.stack([one for one, _ in of_views], 1)
            log_p[:, 4:] = log_p[:, 4:, self.reflected]
            told.append(log_p[:number].cpu())
            features.append(torch.stack([one for _, one in of_views], 1)[:number].cpu())
        return torch.cat(told), torch.cat(features)

    def _pass(self, x: Tensor) -> tuple[Tensor, Tensor]:
        model = cast(NetworkOfTimm, self.model)
        maps = model.forward_features(x)
        logits = model.forward_head(maps)
        features = model.forward_head(maps, pre_logits=True)
        return logits.double().log_softmax(1), features.float().flatten(1)


def pieces(x: Tensor, size: int) -> Iterator[tuple[Tensor, int]]:
    """Parts of `size` rows, the last one filled up with zeros, and how many rows are x's own."""
    for start in range(0, len(x), size):
        part = x[start : start + size]
        number = len(part)
        if number < size:
            part = torch.cat([part, part.new_zeros((size - number, *part.shape[1:]))])
        yield part, number


class NetworkOfTimm(nn.Module):
    """What every network of timm has beside `forward`, which is one after the other."""

    def forward_features(self, x: Tensor) -> Tensor: ...

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor: ...


def views(x: Tensor, turns: int) -> Iterator[Tensor]:
    """(B, C, H, W): the images, turned by 0, 90, 180 and 270 degrees, and the same of their mirror
    images.
    """
    for mirrored in (x, x.flip(3))[: 1 + turns // 8]:
        for quarter in range(min(turns, 4)):
            yield torch.rot90(mirrored, quarter, (2, 3)).contiguous()


def reflected(member: Member) -> list[int]:
    """For each class, the one that an image of it has in the mirror: of classes of a handedness the
    other hand.
    """
    after = list(range(len(member.classes)))
    for left, right in member.mirrored:
        if left in member.classes and right in member.classes:
            i, j = member.classes.index(left), member.classes.index(right)
            after[i], after[j] = j, i
    return after


def pooled(of_members: Sequence[Tensor], ensemble: Ensemble) -> Tensor:
    """Log of the mean probability over views and members, float64 (B, K), in the order of the
    ensemble's classes. Of each member (B, V, K).
    """
    ordered = [
        told[:, :, list(order)] for told, order in zip(of_members, ensemble.orders, strict=True)
    ]
    every = torch.cat(ordered, 1)
    if every.shape[1] == 1:
        return every[:, 0]
    # sums depend on the order of their terms
    return every.sort(1).values.logsumexp(1) - math.log(every.shape[1])
