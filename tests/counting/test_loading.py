"""Images a second of one processor: of every augmentation, counted rightly, in turns."""

import re

import numpy as np
import pytest
import torch

from astroformer.counting import loading
from astroformer.data.augment import Augmented
from astroformer.data.images import About, Images


@pytest.fixture
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    return Images(pixels, np.arange(12) % 2, ("a", "b"), 16, "train", About("x", "x", "synthetic"))


class Slow(Augmented):
    """Takes two milliseconds of the processor's time an image, at least."""

    def image(self, key):
        end = loading.time.process_time() + 0.002
        while loading.time.process_time() < end:
            pass
        return super().image(key)


def test_rates_are_of_the_images_that_were_made_and_of_the_processors_time(images, monkeypatch):
    monkeypatch.setattr(loading, "Augmented", Slow)
    [rate] = loading.images_per_second(images, {"none": loading.PLAIN}, batch_size=5).values()
    assert 100 < rate.median < 500 and rate.least <= rate.median <= rate.most


def test_every_augmentation_takes_its_turn_and_the_number_of_threads_stays(images):
    threads = torch.get_num_threads()
    rates = loading.images_per_second(images, loading.AUGMENTATIONS, rounds=3)
    assert list(rates) == list(loading.AUGMENTATIONS) and torch.get_num_threads() == threads
    assert all(0 < rate.least <= rate.median <= rate.most for rate in rates.values())
    assert rates["none"].median > max(rate.median for name, rate in rates.items() if name != "none")


def test_the_table_has_a_row_for_each_way_and_a_column_for_each_size(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path))
    table = loading.table((16, 32), number=20, rounds=1)
    assert list(table.index) == list(loading.AUGMENTATIONS)
    assert list(table.columns) == ["16 px", "32 px"]
    shown = re.compile(r"[\d,]+ \[[\d,]+, [\d,]+\]")
    assert table.map(shown.fullmatch).notna().all(axis=None)
