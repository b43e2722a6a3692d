"""What equivariance means for predictions: how many images keep their class when they are moved,
and at what cost in accuracy.

Reads top to bottom: `consistency` of one network, `restless` and `slide` of one galaxy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from astroformer.data import Images
from astroformer.equivariance.network import MOVES
from astroformer.training import predict

SHIFTS = tuple(range(1, 17))  # pixels


def consistency(
    model: nn.Module,
    images: Images,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    shifts: Sequence[int] = SHIFTS,
) -> pd.DataFrame:
    """How many images keep their predicted class when they are moved, and what that does to
    accuracy: cyclic shifts (mean over one to the right and one downwards; their opposites undo
    them, so are as frequent), quarter turns and a reflection. Classes that are mirror images of one
    another change places in a reflection: keeping the class then means predicting the other.
    """
    still = images.array()  # (N, H, W, 3)
    first, labels, swap = (
        _predicted(model, images, still, mean, std),
        images.labels,
        images.mirror_labels(),
    )
    right, rows = (first == labels).mean(), []
    for name, versions in _versions(still, shifts):
        expected, true = (swap[first], swap[labels]) if name == "mirror image" else (first, labels)
        after = [_predicted(model, images, version, mean, std) for version in versions]
        rows.append(
            {
                "move": name,
                "same class (%)": 100 * np.mean([(one == expected).mean() for one in after]),
                "change in accuracy (points)": 100
                * (np.mean([(one == true).mean() for one in after]) - right),
            }
        )
    return pd.DataFrame(rows)


def _predicted(
    model: nn.Module,
    images: Images,
    pixels: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
) -> np.ndarray:
    """The predicted class (N,) of each image, with other pixels (N, H, W, 3) in its place."""
    return predict(model, replace(images, pixels=pixels), mean=mean, std=std).argmax(1).numpy()


def _versions(
    still: np.ndarray, shifts: Sequence[int]
) -> Iterator[tuple[str, Iterator[np.ndarray]]]:
    """(name, pictures after the move, once for each direction), each made when it is asked for."""
    for pixels in shifts:
        yield f"shift by {pixels} px", (np.roll(still, pixels, axis) for axis in (1, 2))
    planes = torch.from_numpy(still).permute(0, 3, 1, 2)  # (N, 3, H, W)
    for name, move in MOVES.items():
        yield name, iter([move(planes).permute(0, 2, 3, 1).contiguous().numpy()])


def restless(
    model: nn.Module,
    images: Images,
    shifts: Sequence[int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> np.ndarray:
    """The picture (H, W, 3) whose predicted class changes most often from one shift to the next,
    moved cyclically to the right.
    """
    still = images.array()
    # (shifts, N)
    said = np.stack(
        [_predicted(model, images, np.roll(still, shift, 2), mean, std) for shift in shifts]
    )
    return still[(said[1:] != said[:-1]).sum(0).argmax()]


def slide(
    model: nn.Module,
    pixels: np.ndarray,
    shifts: Sequence[int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    template: Images,
) -> Tensor:
    """Probabilities (len(shifts), K) of one picture (H, W, 3), moved cyclically to the right by
    each shift; `template` are images of the classes that the network knows.
    """
    moved = np.stack([np.roll(pixels, shift, 1) for shift in shifts])
    images = replace(template, pixels=moved, labels=np.zeros(len(moved), dtype=np.int64))
    return predict(model, images, mean=mean, std=std).softmax(1)
