"""The 2^n networks of n causes differ in what they should, and their errors are divided whole."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from astroformer.cli import main
from astroformer.equivariance import causes, shapley, systems
from astroformer.equivariance.network import random_state, shift_errors, shifted, switched
from astroformer.figures import equivariance as drawing

ROUNDING = 1e-12
SMALL = {
    "astroformer_pico": dict(img_size=32, num_classes=5),
    "spectformer_ti": systems.NETWORKS["SpectFormer"][1]
    | dict(depth=2, spectral_blocks=1, num_classes=5),
    "spectformer_h_s": systems.NETWORKS["SpectFormer-H"][1] | dict(num_classes=5),
    "vit_cifar": systems.NETWORKS["ViT-CIFAR"][1] | dict(depth=2, num_classes=5),
}
WHOLE = {"astroformer_pico": 16, "spectformer_ti": 4, "spectformer_h_s": 32, "vit_cifar": 4}
small = pytest.mark.parametrize("name", SMALL)


def images(name, number=2):
    size = SMALL[name]["img_size"]
    draw = torch.Generator().manual_seed(0)
    return torch.randn(number, 3, size, size, generator=draw, dtype=torch.float64)


@small
def test_every_set_of_causes_is_measured_and_only_what_is_left_breaks_the_network(name):
    state = random_state(name, seed=1, **SMALL[name])
    shifts = [1, WHOLE[name]]
    found = causes.errors(name, images(name), shifts, state, **SMALL[name])
    every = causes.causes_of(name)
    assert set(found) == set(shapley.subsets(every))
    assert all(made.shape == (2, 2) for made in found.values())
    assert found[frozenset()].max() < ROUNDING**2
    alone = found[frozenset({"strides"})]
    assert alone[:, 1].max() < ROUNDING**2 < 1e-10 < alone[:, 0].min()
    for cause in every[1:]:  # padding or positions are seen by a shift of whole strides
        assert found[frozenset({cause})][:, 1].min() > 1e-14


@small
def test_the_error_with_all_causes_is_that_of_the_network_as_released(name):
    x = images(name, 1)
    state = random_state(name, seed=1, **SMALL[name])
    made = causes.errors(name, x, [3], state, **SMALL[name])[frozenset(causes.causes_of(name))]
    released = switched(name, state=state, only=["as released"], **SMALL[name])["as released"]
    found = shift_errors(released, x, [(0, 3), (3, 0)]).query("part == 'logits'")["error"]
    assert made == pytest.approx((found**2).mean())


def test_the_two_ways_to_repair_strides_differ_only_where_strides_are_repaired():
    name, shifts = "astroformer_pico", [1, 4]
    state = random_state(name, seed=1, **SMALL[name])
    aligned, polyphase = (
        causes.errors(name, images(name), shifts, state, way=way, **SMALL[name])
        for way in causes.WAYS
    )
    for left in shapley.subsets(causes.causes_of(name)):
        same = np.allclose(aligned[left], polyphase[left], rtol=1e-6, atol=1e-24)
        assert same == ("strides" in left or not left)
    assert causes.ways_of("vit_cifar") == ("aligned",)


def test_with_strides_repaired_the_network_is_the_one_that_was_trained_at_the_aligned_image():
    name = "astroformer_pico"
    state = random_state(name, seed=1, **SMALL[name])
    options = SMALL[name]
    repaired = causes.with_causes(name, ["padding", "bias table"], state, **options)
    released = causes.with_causes(name, causes.causes_of(name), state, **options)
    x = images(name, 1)
    with torch.no_grad():
        found = repaired(x)
        places = [released(shifted(x, (-dy, -dx))) for dy in range(16) for dx in range(16)]
    assert sum(torch.allclose(found, place, atol=1e-12) for place in places) == 1


@pytest.mark.slow
def test_polyphase_strides_make_an_error_of_their_own_beside_zero_padding():
    """Why `aligned` counts: with padding left, polyphase strides may choose another grid."""
    name, whole = "astroformer_pico", [16]
    options = SMALL[name] | dict(img_size=64)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 64, 64, generator=draw, dtype=torch.float64)
    largest = {}
    for way in causes.WAYS:
        worst = 0.0
        for seed in range(2):
            state = random_state(name, seed=seed, bias_std=0.02, **options)
            made = causes.errors(name, x, whole, state, way=way, **options)
            ratio = made[frozenset({"padding"})] / made[frozenset({"padding", "strides"})]
            worst = max(worst, float(ratio.max()))
        largest[way] = worst
    assert largest["polyphase"] > largest["aligned"]


def test_causes_of_a_network_of_others_are_not_known():
    with pytest.raises(ValueError, match="what breaks resnet18 cannot be repaired here"):
        causes.causes_of("resnet18")


# Shares


def worth(strides, padding, both, images=3):
    made = {(): 0.0, ("strides",): strides, ("padding",): padding, ("strides", "padding"): both}
    spread = np.linspace(0.5, 1.5, images)
    return {frozenset(left): value * spread for left, value in made.items()}


def test_shares_are_those_of_a_seed_over_its_images_then_the_mean_over_seeds():
    found = causes.divided([worth(3.0, 1.0, 8.0), worth(1.0, 1.0, 4.0)])
    # by hand: (3 + 8 - 1) / 2 / 8 and (1 + 4 - 1) / 2 / 4
    assert found.loc["strides", ["low", "mean", "high"]].tolist() == [50, 56.25, 62.5]
    assert found["mean"].sum() == pytest.approx(100)
    assert found.loc["strides", "first in"] == pytest.approx((37.5 + 25) / 2)
    assert found.loc["strides", "last in"] == pytest.approx((87.5 + 75) / 2)
    assert found.loc["padding", "image low"] == pytest.approx(37.5)
    assert found.loc["padding", "image high"] == pytest.approx(50)
    with pytest.raises(ValueError, match="no measurement"):
        causes.divided([])


def test_an_image_whose_error_is_made_otherwise_widens_the_range_of_images():
    one = worth(3.0, 1.0, 8.0)
    one[frozenset({"padding"})][0] = 40.0
    found = causes.divided([one])
    assert found.loc["padding", "image high"] > 400 > found.loc["padding", "high"]
    assert found.loc["padding", "high"] == found.loc["padding", "low"]


def line(seed, *, revision=2, group="g", network="as released", data="synthetic galaxies", **made):
    """A row of `causes.read`: two images, shifts of 1, 2 and 16 pixels."""
    squared = {"": 0.0, "strides": 3.0, "padding": 1.0, "strides+padding": 8.0} | made
    return dict(
        network=network,
        data=data,
        model="astroformer_pico",
        seed=seed,
        revision=revision,
        group=group,
        whole_stride=16,
        shifts=[1, 2, 16],
        squared={
            "aligned": {
                left: [[value, 2 * value, 0.5 * value]] * 2 for left, value in squared.items()
            }
        },
    )


def test_of_several_trainings_the_newest_as_released_speaks():
    frame = pd.DataFrame(
        [line(0), line(1)]
        + [line(0, revision=1, group="older", padding=100.0)]
        + [line(0, group="fewer", padding=100.0)]
        + [line(seed, group="other", network="by construction", padding=9.0) for seed in range(4)]
    )
    found = causes.shares(frame)
    assert set(found["seeds"]) == {2}
    assert found["shift"].unique().tolist() == ["1 px", "16 px (whole stride)", "1 to 16 px"]
    assert found[found["cause"] == "strides"]["mean"].tolist() == pytest.approx([62.5] * 3)
    shifts = causes.by_shift(frame)
    assert shifts["all"].tolist() == [8, 16, 4]
    assert (shifts["strides"] + shifts["padding"]).tolist() == pytest.approx([8, 16, 4])
    assert causes.changes(frame)["pixel low"].tolist() == pytest.approx([100 * 8**0.5])


def test_a_page_reads_shares_with_their_ranges():
    frame = pd.DataFrame([line(0), line(1, padding=7.0)])
    found = causes.shares(frame)
    table = causes.table(found, "shift")
    assert table.loc[0, "strides"] == "44 (25 to 62); 25 to 62"
    assert list(table["shift"]) == ["1 px", "16 px (whole stride)", "1 to 16 px"]
    assert causes.in_words(found[found["shift"] == "1 to 16 px"]) == (
        "On synthetic galaxies 56 % (38 to 75) comes from padding and 44 % (25 to 62) from strides."
    )
    figure = drawing.shares(found)
    assert len(figure.axes) == 1 and len(figure.axes[0].patches) == 6
    bars = drawing.parts_of_the_error(causes.by_shift(frame)).axes[0]
    tops = {
        bar.get_x() + bar.get_width() / 2: bar.get_y() + bar.get_height() for bar in bars.patches
    }
    assert tops == pytest.approx({1: 8, 2: 16, 16: 4})


def test_random_weights_are_divided_for_each_size_of_their_bias_tables():
    found = causes.random_shares(
        "astroformer_pico",
        images("astroformer_pico"),
        stds=(0.0, 4.0),
        seeds=(0, 1),
        shifts=(4, 16),
        **SMALL["astroformer_pico"],
    ).set_index(["bias_std", "cause"])
    assert found.groupby("bias_std")["mean"].sum().tolist() == pytest.approx([100, 100])
    assert abs(found.loc[(0.0, "bias table"), "mean"]) < 1e-6
    assert found.loc[(4.0, "bias table"), "mean"] > 5


def test_the_ledger_holds_trained_networks_of_every_kind():
    frame = causes.read()
    assert {"astroformer_pico", *systems.NAMES} <= set(frame["model"])
    for found in (causes.shares(frame), systems.shares(frame)):
        assert set(found["seeds"]) == {3}
        sums = found.groupby(["data", "model", "shift"])["mean"].sum()
        assert sums.tolist() == pytest.approx([100] * len(sums))
    assert list(dict.fromkeys(systems.shares(frame)["network"])) == list(systems.NETWORKS)
    assert (systems.changes(frame)["stride low"] > 0).all()
    text = "".join(path.read_text() for path in causes.FOLDER.glob("*.jsonl"))
    assert not any(word in text for word in ("/home/", "/root/", "/tmp/", "/work/"))


def test_the_verb_prints_shares_and_refuses_networks_of_others(capsys):
    assert main(["equivariance", "--model", "vit_cifar", "--causes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["shift"] for row in rows} == {"1 px", "2 px", "4 px", "all of them"}
    for shift in ("1 px", "all of them"):
        assert sum(row["mean (%)"] for row in rows if row["shift"] == shift) == pytest.approx(
            100, abs=0.02
        )
    assert main(["equivariance", "--model", "resnet18", "--causes"]) == 2
    assert "cannot be repaired here" in capsys.readouterr().err
