"""Consistency counts what it says: predictions that survive a move, and what that does to
accuracy.
"""

import numpy as np
import pytest
import torch

from astroformer.data import About, Images
from astroformer.equivariance.consistency import consistency, slide

OPTIONS = dict(mean=(0.5,) * 3, std=(0.5,) * 3)


class Reader(torch.nn.Module):
    """Reads the class off one pixel of the image, so that what a move does to it is known:
    brighter than grey is class 1.
    """

    def __init__(self, row, column):
        super().__init__()
        self.row, self.column, self.weight = row, column, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        bright = x[:, 0, self.row, self.column]
        return torch.stack([-bright, bright], 1)


def read_images(mirrored=()):
    pixels = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    pixels[1, 2:4, 2:4] = 255  # the second image has a bright square of 2 x 2
    return Images(
        pixels,
        np.array([0, 1]),
        ("left", "right"),
        8,
        "test",
        About("t", "t", "synthetic", mirrored=mirrored),
    )


@pytest.mark.parametrize("column, kept", [(3, 75), (2, 50)])
def test_consistency_says_which_shifts_change_the_prediction(column, kept):
    table = consistency(Reader(2, column), read_images(), shifts=(1, 8), **OPTIONS).set_index(
        "move"
    )
    # a shift by 1 downwards takes the square off row 2; one to the right off column 2, but not off
    # column 3
    assert (
        table.loc["shift by 1 px", "same class (%)"] == kept
        and table.loc["shift by 1 px", "change in accuracy (points)"] == kept - 100
    )
    assert table.loc["shift by 8 px", "same class (%)"] == 100  # the whole torus
    assert table.loc["mirror image", "same class (%)"] == 50


def test_in_a_reflection_mirror_classes_change_places():
    table = consistency(
        Reader(2, 2), read_images((("left", "right"),)), shifts=(), **OPTIONS
    ).set_index("move")
    # the dark image is still called left, though its mirror image is right; the bright one is now
    # called left, which is right
    assert (
        table.loc["mirror image", "same class (%)"] == 50
        and table.loc["mirror image", "change in accuracy (points)"] == -50
    )


def test_rotations_are_quarter_turns():
    table = consistency(Reader(5, 2), read_images(), shifts=(), **OPTIONS).set_index("move")
    # the square begins at the top left, where this reader does not look; one quarter turn,
    # anticlockwise, brings it down there
    assert (
        list(table["same class (%)"]) == [50, 100, 100, 100]
        and table.loc["rotation by 90°", "change in accuracy (points)"] == 50
    )


def test_a_sliding_picture_is_seen_where_it_is():
    images = read_images()
    probabilities = slide(Reader(2, 4), images.pixels[1], range(8), template=images, **OPTIONS)
    assert probabilities.shape == (8, 2) and torch.allclose(probabilities.sum(1), torch.ones(8))
    # columns 2 and 3 reach column 4 after 2 and 1 pixels
    assert probabilities.argmax(1).tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
