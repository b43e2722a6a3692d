"""A small folder of galaxies for tests that read images from files.

Not in conftest.py: several folders have one, and a test can import from none of them by that name.
"""

import numpy as np
from PIL import Image

from astroformer.data import galaxies

KINDS = {"round": 2, "cigar": 4, "spiral": 5}  # labels of the galaxies in the tiny folder


def write_galaxies(root, *, train: int = 16, test: int = 8, size: int = 32) -> None:
    """A small ImageFolder of galaxies in three classes, as PNG files."""
    for split, number, seed in (("train", train, 0), ("test", test, 1)):
        for name, label in KINDS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                pixels = galaxies.render(
                    label, size=size, rng=np.random.default_rng([seed, label, index])
                )
                Image.fromarray(pixels).save(folder / f"{index:03d}.png")
