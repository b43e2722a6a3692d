"""What equivariance means for predictions: how many images keep their class when they are moved, and at what cost in accuracy.

Reads top to bottom: MOVES of pictures, `consistency` of one network, `restless` and `slide` of one galaxy.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from torch import Tensor, nn

from astroformer.data import Images
from astroformer.training import predict

SHIFTS = (1, 2, 4, 8, 16)  # pixels
MOVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # of pictures (N, H, W, 3)
    "rotation by 90°": lambda pixels: np.rot90(pixels, 1, (1, 2)), "rotation by 180°": lambda pixels: np.rot90(pixels, 2, (1, 2)),
    "rotation by 270°": lambda pixels: np.rot90(pixels, 3, (1, 2)), "mirror image": lambda pixels: pixels[:, :, ::-1]}


def consistency(model: nn.Module, images: Images, *, mean: Sequence[float], std: Sequence[float],
                shifts: Sequence[int] = SHIFTS) -> pd.DataFrame:
    """How many images keep their predicted class when they are moved, and what that does to accuracy: cyclic shifts (mean over
    one to the right and one downwards; their opposites undo them, so are as frequent), quarter turns and a reflection. Classes
    that are mirror images of one another change places in a reflection: keeping the class then means predicting the other."""
    def predicted(pixels: np.ndarray) -> np.ndarray:
        moved = replace(images, pixels=np.ascontiguousarray(pixels))
        return predict(model, moved, mean=mean, std=std).argmax(1).numpy()
    still = np.stack([images.pixels[i] for i in range(len(images))])  # (N, H, W, 3)
    first, labels, swap = predicted(still), images.labels, images.mirror_labels()
    right, rows = (first == labels).mean(), []
    for name, versions in _versions(still, shifts):
        expected, true = (swap[first], swap[labels]) if name == "mirror image" else (first, labels)
        after = [predicted(version) for version in versions]
        rows.append({"move": name, "same class (%)": 100 * np.mean([(one == expected).mean() for one in after]),
                     "change in accuracy (points)": 100 * (np.mean([(one == true).mean() for one in after]) - right)})
    return pd.DataFrame(rows)


def _versions(still: np.ndarray, shifts: Sequence[int]) -> list[tuple[str, list[np.ndarray]]]:
    """(name, pictures after the move, once for each direction)"""
    return ([(f"shift by {pixels} px", [np.roll(still, pixels, axis) for axis in (1, 2)]) for pixels in shifts]
            + [(name, [move(still)]) for name, move in MOVES.items()])


def restless(model: nn.Module, images: Images, shifts: Sequence[int], *, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """The picture (H, W, 3) whose predicted class changes most often from one shift to the next, moved cyclically to the right."""
    still = np.stack([images.pixels[i] for i in range(len(images))])
    said = np.stack([predict(model, replace(images, pixels=np.roll(still, shift, 2)), mean=mean, std=std).argmax(1).numpy()
                     for shift in shifts])  # (shifts, N)
    return still[(said[1:] != said[:-1]).sum(0).argmax()]


def slide(model: nn.Module, pixels: np.ndarray, shifts: Sequence[int], *, mean: Sequence[float], std: Sequence[float],
          template: Images) -> Tensor:
    """Probabilities (len(shifts), K) of one picture (H, W, 3), moved cyclically to the right by each shift; `template` are images
    of the classes that the network knows."""
    moved = np.stack([np.roll(pixels, shift, 1) for shift in shifts])
    images = replace(template, pixels=moved, labels=np.zeros(len(moved), dtype=np.int64))
    return predict(model, images, mean=mean, std=std).softmax(1)
