"""How many images of each class come into a batch, under each sampling that a recipe may name."""

import numpy as np
import pandas as pd

from astroformer.data import Images
from astroformer.data.augment import order_of_epoch
from astroformer.recipes.recipe import SAMPLINGS


def unbalanced(images: Images) -> Images:
    """A part of the images in which each class has about two thirds of the one before it, as
    rare and common classes do.
    """
    counts = images.counts()
    kept = [
        np.flatnonzero(images.labels == label)[: max(1, round(counts.min() * 0.65**label))]
        for label in range(len(counts))
    ]
    return images.take(np.sort(np.concatenate(kept)))


def batch_counts(
    images: Images, batch_size: int, *, epochs: int = 1, seed: int = 0
) -> pd.DataFrame:
    """Images of each class in each whole batch, under each sampling: columns sampling, epoch,
    batch, class, images.
    """
    rows, number, names = [], len(images) // batch_size, images.classes
    for sampling in SAMPLINGS:
        for epoch in range(epochs):
            order = order_of_epoch(
                images.labels, batch_size, sampling=sampling, seed=seed, epoch=epoch
            )
            for batch, some in enumerate(order[: number * batch_size].reshape(number, batch_size)):
                counts = np.bincount(images.labels[some], minlength=len(names))
                rows += [
                    {
                        "sampling": sampling,
                        "epoch": epoch,
                        "batch": batch,
                        "class": name,
                        "images": int(count),
                    }
                    for name, count in zip(names, counts)
                ]
    return pd.DataFrame(rows)


def sampling_table(images: Images, counted: pd.DataFrame) -> pd.DataFrame:
    """For each class its images, and under each sampling the fewest and the most of them in a
    batch (`batch_counts`).
    """
    grouped = counted.groupby(["class", "sampling"])["images"]
    least, most = grouped.min(), grouped.max()
    return pd.DataFrame(
        [
            {
                "class": name,
                "images": int(total),
                **{
                    sampling: f"{least[name, sampling]} to {most[name, sampling]}"
                    for sampling in SAMPLINGS
                },
            }
            for name, total in zip(images.classes, images.counts())
        ]
    )


def rarest(table: pd.DataFrame) -> dict[str, object]:
    """Of `sampling_table`: the class with the fewest images."""
    return {
        f"rare_{name}": value
        for name, value in table.loc[table["images"].idxmin()].to_dict().items()
    }
