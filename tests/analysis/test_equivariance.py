"""The theorem holds where its assumptions hold, to rounding in double precision, and fails where one of them does."""

import json

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from astroformer.analysis.equivariance import (SWITCHES, attention_checks, consistency, decomposition, features, plane_error, shift_errors, shifted, summary,
                                               switched, torus_error)
from astroformer.cli import main
from astroformer.data import About, Images
from astroformer.models.astroformer import HEAD_DIM, RelativeAttention

FORMS = ("inside", "outside", "none")
ROUNDING = 1e-12


def attention(height, width, heads, *, rel_bias, offsets, seed=0):
    """Weights at random in double precision, the bias large enough to matter."""
    torch.manual_seed(seed)
    module = RelativeAttention(8, heads * HEAD_DIM, (height, width), rel_bias=rel_bias, offsets=offsets).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 6), width=st.integers(1, 6), heads=st.integers(1, 3), rel_bias=st.sampled_from(FORMS),
       dy=st.integers(-7, 7), dx=st.integers(-7, 7), seed=st.integers(0, 999))
def test_on_a_torus_with_wrapped_offsets_attention_is_equivariant_in_each_form(height, width, heads, rel_bias, dy, dx, seed):
    module = attention(height, width, heads, rel_bias=rel_bias, offsets="torus", seed=seed)
    x = torch.randn(2, 8, height, width, dtype=torch.float64)
    assert torus_error(module, x, (dy, dx)) < ROUNDING


@settings(max_examples=30, deadline=None)
@given(h=st.integers(1, 3), w=st.integers(1, 3), dy=st.integers(-3, 3), dx=st.integers(-3, 3), rel_bias=st.sampled_from(("inside", "outside")),
       seed=st.integers(0, 999))
def test_on_a_plane_with_the_released_offsets_content_may_move_anywhere(h, w, dy, dx, rel_bias, seed):
    module = attention(6, 6, 2, rel_bias=rel_bias, offsets="plane", seed=seed)
    content = torch.randn(1, 8, h, w, dtype=torch.float64)
    assert plane_error(module, content, (dy, dx)) < ROUNDING


@pytest.mark.parametrize("rel_bias", ["inside", "outside"])
def test_with_the_released_offsets_a_cyclic_shift_is_no_symmetry(rel_bias):
    module = attention(6, 6, 2, rel_bias=rel_bias, offsets="plane")
    x = torch.randn(1, 8, 6, 6, dtype=torch.float64)
    assert torus_error(module, x, (0, 0)) == 0 and torus_error(module, x, (1, 0)) > 1e-2


def test_without_a_bias_even_the_released_attention_does_not_know_where_it_is():
    module = attention(6, 6, 2, rel_bias="none", offsets="plane")
    assert torus_error(module, torch.randn(1, 8, 6, 6, dtype=torch.float64), (2, 5)) < ROUNDING


def test_content_that_would_leave_the_plane_is_refused():
    module = attention(4, 4, 1, rel_bias="inside", offsets="plane")
    with pytest.raises(ValueError, match="leaves the plane of 4x4"):
        plane_error(module, torch.zeros(1, 8, 3, 3, dtype=torch.float64), (2, 0))


def network(**options):
    torch.manual_seed(0)
    model = timm.create_model("astroformer_pico", num_classes=5, img_size=32, **options).double().eval()
    for name, parameter in model.named_parameters():  # a bias that matters, as after training
        if "relative_position_bias_table" in name:
            torch.nn.init.normal_(parameter)
    return model, torch.randn(1, 3, 32, 32, dtype=torch.float64)


def test_with_circular_padding_and_wrapped_offsets_each_stage_is_equivariant_to_its_own_stride():
    model, image = network(padding="circular", offsets="torus")
    spans = {part: span for part, (_, span) in features(model, image).items()}
    assert spans == {"stem": 1, "S1": 2, "S2": 4, "S3": 8, "S4": 16, "logits": 0}
    errors = shift_errors(model, image, [(16, 0), (0, 8), (4, -4), (2, 6), (1, 0)])
    for row in errors.itertuples():
        whole = all(shift % (spans[row.part] or 16) == 0 for shift in (row.dy, row.dx))
        assert (row.error < ROUNDING) == whole, row  # and a shift of less than a stride does break it: aliasing


@pytest.mark.parametrize("options, first", [({}, "stem"), ({"offsets": "torus"}, "stem"), ({"padding": "circular"}, "S4")])
def test_padding_breaks_equivariance_from_the_stem_on_and_the_bias_table_only_in_s4(options, first):
    model, image = network(**options)
    errors = shift_errors(model, image, [(16, 16)]).set_index("part")["error"]
    parts = list(errors.index)
    assert all(errors[part] < ROUNDING for part in parts[:parts.index(first)])
    assert all(errors[part] > 1e-6 for part in parts[parts.index(first):])


def test_options_of_equivariance_change_no_weight_and_the_default_is_the_release():
    model, _ = network()
    other, _ = network(padding="circular", offsets="torus")
    assert {n: p.shape for n, p in model.state_dict().items()} == {n: p.shape for n, p in other.state_dict().items()}
    released, image = network(padding="zeros", offsets="plane")
    assert torch.equal(model(image), released(image)) and not torch.allclose(model(image), other(image))


@pytest.mark.parametrize("options", [{"padding": "reflect"}, {"offsets": "sphere"}])
def test_an_unknown_option_names_those_there_are(options):
    with pytest.raises(ValueError, match="choose"):
        network(**options)


def test_a_shift_and_its_opposite_undo_each_other():
    x = torch.randn(1, 2, 5, 7)
    assert torch.equal(shifted(shifted(x, (2, -3)), (-2, 3)), x)
    assert shifted(x, (1, 0))[0, 0, 1, 0] == x[0, 0, 0, 0]  # downwards


def test_the_parts_of_the_error_add_up_and_only_strides_are_left_on_the_torus():
    networks = switched("astroformer_pico", img_size=32, num_classes=5)
    assert list(networks) == list(SWITCHES)
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    errors = {label: shift_errors(model, image, [(16, 0), (1, 0), (0, 5)]) for label, model in networks.items()}
    parts = decomposition(errors).set_index(["dy", "dx"])
    assert torch.allclose(torch.tensor(parts[["strides", "padding", "bias table", "remainder"]].sum(axis=1).values),
                          torch.tensor(parts["all"].values))
    assert parts.loc[(16, 0), "strides"] < ROUNDING and parts.loc[(1, 0), "strides"] > 1e-8
    assert parts.loc[(16, 0), "padding"] > 1e-8 and parts.loc[(16, 0), "bias table"] > 1e-8


def test_switched_networks_share_their_weights_random_or_given():
    networks = switched("astroformer_pico", img_size=32, num_classes=5, seed=1)
    first = networks["as released"].state_dict()
    for model in networks.values():
        assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items())
    del networks
    given = switched("astroformer_pico", img_size=32, num_classes=5, state={n: v.float() for n, v in first.items()})
    assert torch.equal(given["both"].head.fc.weight, first["head.fc.weight"])


def test_the_summary_reaches_rounding_in_either_precision_only_on_the_torus():
    table = summary("astroformer_pico", torch.randn(1, 3, 32, 32), img_size=32, num_classes=5).set_index(["network", "precision"])
    assert table.loc[("both", "float64"), "logits, 16 px"] < ROUNDING < 1e-9 < table.loc[("as released", "float64"), "logits, 16 px"]
    assert 1e-9 < table.loc[("both", "float32"), "S4, 16 px"] < 1e-4 < table.loc[("both", "float32"), "S4, 1 px"]


def test_the_checks_of_attention_alone_separate_rounding_from_failure():
    table = attention_checks(grid=(4, 5), heads=2, draws=3).set_index("bias")
    assert (table[["torus, wrapped offsets", "plane, released offsets"]] < ROUNDING).all(axis=None)
    assert (table.loc[["inside", "outside"], "torus, released offsets"] > 1e-3).all()
    assert table.loc["none", "torus, released offsets"] < ROUNDING


def test_the_verb_prints_a_row_for_each_network_and_precision(capsys):
    assert main(["equivariance", "--image-size", "32", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 8 and {row["network"] for row in rows} == set(SWITCHES)
    assert main(["equivariance", "--model", "resnet"]) == 2
    assert "choose one of astroformer_pico" in capsys.readouterr().err


class Reader(torch.nn.Module):
    """Reads the class off one pixel of the image, so that what a move does to it is known: brighter than grey is class 1."""

    def __init__(self, row, column):
        super().__init__()
        self.row, self.column, self.weight = row, column, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        bright = x[:, 0, self.row, self.column]
        return torch.stack([-bright, bright], 1)


def read_images(mirrored=()):
    pixels = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    pixels[1, 2:4, 2:4] = 255  # the second image has a bright square of 2 x 2
    return Images(pixels, np.array([0, 1]), ("left", "right"), 8, "test", About("t", "t", "synthetic", mirrored=mirrored))


def test_consistency_says_which_moves_change_the_prediction():
    options = dict(mean=(0.5,) * 3, std=(0.5,) * 3, shifts=(1, 8))
    table = consistency(Reader(2, 2), read_images(), **options).set_index("move")
    # a shift by 1 keeps the pixel bright to the left and upwards, and loses it to the right and downwards; 8 is the whole torus
    assert table.loc["shift by 1 px", "same class (%)"] == 75 and table.loc["shift by 1 px", "change in accuracy (points)"] == -25
    assert table.loc["shift by 8 px", "same class (%)"] == 100 and table.loc["mirror image", "same class (%)"] == 50


def test_in_a_reflection_mirror_classes_change_places():
    options = dict(mean=(0.5,) * 3, std=(0.5,) * 3, shifts=())
    table = consistency(Reader(2, 2), read_images((("left", "right"),)), **options).set_index("move")
    # the dark image is still called left, though its mirror image is right; the bright one is now called left, which is right
    assert table.loc["mirror image", "same class (%)"] == 50 and table.loc["mirror image", "change in accuracy (points)"] == -50


def test_rotations_are_quarter_turns():
    table = consistency(Reader(5, 2), read_images(), mean=(0.5,) * 3, std=(0.5,) * 3, shifts=()).set_index("move")
    # the square begins at the top left, where this reader does not look; one quarter turn, anticlockwise, brings it down there
    assert list(table["same class (%)"]) == [50, 100, 100, 100] and table.loc["rotation by 90°", "change in accuracy (points)"] == 50
