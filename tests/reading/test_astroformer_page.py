"""The tables of the page that reads the network, and the yardstick of the page that shows the
galaxies.
"""

import timm

from astroformer import data
from astroformer.counting import shapes
from astroformer.counting.cost import count_params
from astroformer.reading import astroformer as tour
from astroformer.reading.linear import linear_accuracy


def test_the_parts_of_a_network_hold_all_its_parameters():
    model = timm.create_model("astroformer_0", num_classes=10, img_size=64)
    table = shapes.stage_shapes(model)
    assert sum(int(text.replace(",", "")) for text in table["parameters"]) == count_params(model)
    assert table["output (C, H, W)"].tolist() == [
        "64 x 32 x 32",
        "96 x 16 x 16",
        "192 x 8 x 8",
        "384 x 4 x 4",
        "768 x 2 x 2",
        "10",
    ]
    assert model.training, "looking at a network must not change its mode"


def test_the_parity_that_the_page_shows_is_rounding():
    table = tour.parity_with_timm("astroformer_0", image_size=32)
    assert table.index.tolist() == ["C-C-C-T", "C-C-T-T", "C-T-T-T"]
    assert (table["largest difference of logits"].astype(float) < 1e-12).all()
    # two silent networks would agree, too
    assert (table["largest logit"].astype(float) > 0.01).all()


def test_attention_everywhere_costs_most_and_in_the_last_stage_as_much_as_a_gate():
    cost = tour.three_families("astroformer_0", image_size=64)["multiply-adds (G)"].astype(float)
    assert cost.idxmax().startswith("convolutions replaced") and len(cost) == 4
    gated, astroformer = (
        cost[cost.index.str.contains(word)].item() for word in ("CBAM", "Astroformer")
    )
    assert abs(gated - astroformer) < 0.05 * astroformer


def test_the_embedded_galaxies_are_too_hard_for_a_linear_classifier():
    train, test = (data.load("galaxies", split) for split in ("train", "test"))
    assert 15 < linear_accuracy(train, test) < 70  # guessing gives 10
