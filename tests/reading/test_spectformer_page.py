"""The tables of the page that reads SpectFormer hold what their columns say."""

import pandas as pd
import pytest
import torch

from astroformer.counting.cost import count_macs, count_params, on_meta
from astroformer.models.spectformer import kernel_of
from astroformer.reading import spectformer as page
from astroformer.recipes import RECIPES, get_recipe


@pytest.mark.parametrize(
    "name, options",
    [("spectformer_ti", {}), ("spectformer_h_s", {"token_label": True})],
    ids=["vanilla", "hierarchical"],
)
def test_the_parts_of_a_network_hold_all_its_parameters_and_multiply_adds(name, options):
    table, model = page.parts(name, **options), on_meta(name, 224, 1000, **options)
    assert sum(int(text.replace(",", "")) for text in table["parameters"]) == count_params(model)
    assert table["multiply-adds (M)"].astype(float).sum() == pytest.approx(
        count_macs(model, 224) / 1e6, abs=0.05 * len(table)
    )


def test_blocks_stand_in_the_order_in_which_they_run():
    vanilla, hierarchical = (
        page.parts(name).set_index("part") for name in ("spectformer_ti", "spectformer_h_s")
    )
    assert vanilla["kind"].tolist()[2:14] == ["SpectralBlock"] * 4 + ["AttentionBlock"] * 8
    assert set(vanilla["output"][:-1]) == {"14 x 14 x 256"} and vanilla["output"].iloc[-1] == "1000"
    assert list(hierarchical.index[-3:]) == ["post_network", "norm4", "head"]
    assert hierarchical.loc["post_network", "output"] == "50 x 448"


def test_the_gate_shown_is_the_convolution_shown():
    table = page.gate_and_convolution([(4, 6), (5, 3)])
    assert (table["largest difference"].astype(float) < 1e-14).all() and (
        table["largest output"].astype(float) > 0.01
    ).all()
    assert table["stored gains"].tolist() == [4 * 4 * 3, 5 * 2 * 3]


def test_a_filter_carried_over_keeps_its_part_of_the_image_and_a_surrounded_one_its_positions():
    weight, old, new = page.smooth_filter((6, 6)), (6, 6), (10, 11)
    table = page.same_filter_on_another_grid(weight, old, new)
    assert (
        table.loc["here", "off its part of the image (%)"]
        == 0
        < table.loc["as released", "off its part of the image (%)"]
    )
    assert (table["off its number of positions (%)"] > 0).all()
    kernel = kernel_of(weight, old)
    around = page.surrounded(kernel, new)
    assert torch.equal(around[:3, :3], kernel[:3, :3]) and torch.equal(
        around[-3:, -3:], kernel[-3:, -3:]
    )
    assert around.abs().sum() == pytest.approx(kernel.abs().sum().item()) and around.shape == (
        *new,
        1,
    )


def test_pictures_of_a_filter_are_centred():
    kernel, gains = page.on_another_grid(page.smooth_filter((6, 6)), (6, 6), (10, 10))[
        "10 x 10, here"
    ]
    stored = page.resize_filter(page.smooth_filter((6, 6)), (6, 6), (10, 10))
    assert kernel[5, 5] == kernel_of(stored, (10, 10))[0, 0, 0] and gains[
        5, 5
    ].item() == pytest.approx(abs(kernel.sum().item()))


def test_a_training_pass_with_token_labels_returns_logits_of_every_position():
    torch.manual_seed(3)
    table, then = page.token_label_passes("spectformer_h_s", images=4), torch.rand(1)
    assert table["shape"].tolist() == ["4 x 1000", "4 x 49 x 1000", "4 numbers", "4 x 1000"]
    torch.manual_seed(3)
    assert torch.equal(then, torch.rand(1))


def test_counts_stand_beside_what_was_printed_and_name_what_prints_so(monkeypatch):
    monkeypatch.setattr(
        page,
        "FAMILIES",
        {name: page.FAMILIES[name] for name in ("spectformer_ti", "spectformer_h_s")},
    )
    rows = [
        (model, metric, value, unit, "SpectFormer README", "a verdict")
        for model in page.FAMILIES
        for metric, value, unit in (("params", "22.2", "M"), ("flops", "3.9", "G"))
    ]
    judged = pd.DataFrame(rows, columns=["model", "metric", "value", "unit", "source", "verdict"])
    parameters = page.parameters_beside_reported(judged).set_index("model")
    assert parameters.loc["spectformer_h_s", "counted"] == "21,777,928"
    assert parameters["prints so"].tolist() == ["none", "with aux. head"]
    operations = page.operations_beside_reported(judged).set_index("model")
    rules = operations.loc["spectformer_h_s", "printed so by"].split(", ")
    assert "conv_linear" in rules and "macs" not in rules
    assert (
        operations.loc["spectformer_ti", "printed so by"] == "none"
        and (operations["verdict"] == "a verdict").all()
    )


def test_only_widths_that_six_divides_have_six_heads():
    table = page.heads().set_index("model")
    assert (
        (table["heads here"] == 6).tolist()
        == (table["6 divides it"] == "yes").tolist()
        == [False, True, True, False]
    )
    assert (table["channels a head"] == 64).all()


def test_recipes_side_by_side_show_every_field_that_one_has_on():
    table = page.recipe_table([get_recipe("smoke"), get_recipe("small", cutmix=0.5)])
    assert table.loc["epochs"].tolist() == [
        f"{RECIPES[name].epochs} epochs" for name in ("smoke", "small")
    ]
    assert (
        table.loc["cutmix"].tolist() == ["off", "0.5"]
        and "mixup" not in table.index
        and "source" not in table.index
    )
