"""timm's own network beside ours of the same name: the same weights, multiply-adds and logits, so
that a difference in speed is one of execution.
"""

import pytest
import timm
import torch

from astroformer.counting.cost import count_macs
from astroformer.models.twins import timm_twin
from astroformer.reading.astroformer import parity_with_timm
from astroformer.sizes import ASTROFORMER


@pytest.mark.parametrize("name", ASTROFORMER)
def test_the_twin_has_the_weights_and_does_the_multiply_adds_of_ours(name, size=64):
    with torch.device("meta"):
        ours = timm.create_model(name, img_size=size, num_classes=10)
        theirs = timm_twin(name, stack="CCCT", image_size=size)
    shapes = [
        {entry: tuple(tensor.shape) for entry, tensor in network.state_dict().items()}
        for network in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]
    assert count_macs(ours, size) == count_macs(theirs, size)


@pytest.mark.parametrize("name, size", [("astroformer_pico", 64), ("astroformer_0", 64)])
def test_the_twin_gives_the_logits_of_ours_whatever_the_stride_of_the_stem(name, size):
    table = parity_with_timm(name, image_size=size)
    assert (table["largest difference of logits"].astype(float) < 1e-12).all()
    assert (table["largest logit"].astype(float) > 0.01).all()
