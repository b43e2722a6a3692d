"""The theorem holds where its assumptions hold, to rounding in double precision, and fails where
one of them does.
"""

import json
from functools import cache

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from astroformer.cli import main
from astroformer.counting.closed_forms import released_counts
from astroformer.equivariance import causes, systems
from astroformer.equivariance.network import (
    MOVES,
    aligned,
    attention_checks,
    features,
    plane_error,
    report,
    shift_errors,
    shifted,
    summary,
    switched,
    switches,
    symmetry_errors,
    torus_error,
    whole_stride,
)
from astroformer.figures import equivariance as drawing
from astroformer.models import MODELS
from astroformer.models.astroformer import HEAD_DIM, RelativeAttention
from astroformer.models.spectformer import SpectralGate

FORMS = ("inside", "outside", "none")
ROUNDING = 1e-12


def attention(height, width, heads, *, rel_bias, offsets, seed=0):
    """Weights at random in double precision, the bias large enough to matter."""
    torch.manual_seed(seed)
    module = RelativeAttention(
        8, heads * HEAD_DIM, (height, width), rel_bias=rel_bias, offsets=offsets
    ).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    heads=st.integers(1, 3),
    rel_bias=st.sampled_from(FORMS),
    dy=st.integers(-7, 7),
    dx=st.integers(-7, 7),
    seed=st.integers(0, 999),
)
def test_on_a_torus_with_wrapped_offsets_attention_is_equivariant_in_each_form(
    height, width, heads, rel_bias, dy, dx, seed
):
    module = attention(height, width, heads, rel_bias=rel_bias, offsets="torus", seed=seed)
    x = torch.randn(2, 8, height, width, dtype=torch.float64)
    assert torus_error(module, x, (dy, dx)) < ROUNDING


@settings(max_examples=30, deadline=None)
@given(
    h=st.integers(1, 3),
    w=st.integers(1, 3),
    dy=st.integers(-3, 3),
    dx=st.integers(-3, 3),
    rel_bias=st.sampled_from(("inside", "outside")),
    seed=st.integers(0, 999),
)
def test_on_a_plane_with_the_released_offsets_content_may_move_anywhere(
    h, w, dy, dx, rel_bias, seed
):
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
    model = (
        timm.create_model("astroformer_pico", num_classes=5, img_size=32, **options).double().eval()
    )
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
        # and a shift of less than a stride does break it: aliasing
        assert (row.error < ROUNDING) == whole, row


@pytest.mark.parametrize(
    "options, first",
    [({}, "stem"), ({"offsets": "torus"}, "stem"), ({"padding": "circular"}, "S4")],
)
def test_padding_breaks_equivariance_from_the_stem_on_and_the_bias_table_only_in_s4(options, first):
    model, image = network(**options)
    errors = shift_errors(model, image, [(16, 16)]).set_index("part")["error"]
    parts = list(errors.index)
    assert all(errors[part] < ROUNDING for part in parts[: parts.index(first)])
    assert all(errors[part] > 1e-6 for part in parts[parts.index(first) :])


def test_options_of_equivariance_change_no_weight_and_the_default_is_the_release():
    model, _ = network()
    other, _ = network(padding="circular", offsets="torus")
    assert {n: p.shape for n, p in model.state_dict().items()} == {
        n: p.shape for n, p in other.state_dict().items()
    }
    released, image = network(padding="zeros", offsets="plane")
    assert torch.equal(model(image), released(image)) and not torch.allclose(
        model(image), other(image)
    )


def test_a_shift_and_its_opposite_undo_each_other():
    x = torch.randn(1, 2, 5, 7)
    assert torch.equal(shifted(shifted(x, (2, -3)), (-2, 3)), x)
    assert shifted(x, (1, 0))[0, 0, 1, 0] == x[0, 0, 0, 0]  # downwards


def test_a_shift_between_two_positions_counts_with_the_one_that_fits_best():
    model, image = network()
    errors = shift_errors(model, image, [(0, 15)]).set_index("part")["error"]
    moved = features(model, shifted(image, (0, 15)))["S4"][0][0]
    still = features(model, image)["S4"][0][0]
    below, above = (float((moved - shifted(still, (0, k))).norm() / still.norm()) for k in (0, 1))
    assert errors["S4"] == pytest.approx(min(below, above)) and below != above


# Networks by name, and the variants

ROUNDS = {"float64": ROUNDING, "float32": 1e-4}


# Of the networks in one file the larger ones are the same code; in double precision they would take
# gigabytes.
@pytest.mark.parametrize(
    "name",
    [name for name in MODELS if released_counts(name, image_size=64, num_classes=3).params < 40e6],
)
def test_every_network_by_name_stays_still_when_nothing_moves(name):
    model = next(iter(switched(name, num_classes=3, img_size=64, only=["as released"]).values()))
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    errors = (
        shift_errors(model, image, [(0, 0), (64, -64), (0, 1)])
        .set_index(["dy", "dx", "part"])["error"]
        .sort_index()
    )
    assert (
        (errors[0, 0] < ROUNDING).all()
        and (errors[64, -64] < ROUNDING).all()
        and (errors[0, 1] > 1e-9).all()
    )
    assert "logits" in errors[0, 0] and whole_stride(model) in (1, 2, 4, 8, 16, 32)


@pytest.mark.parametrize(
    "name, parts",
    [
        ("resnet18", ["act1", "layer1", "layer2", "layer3", "layer4", "logits"]),
        ("vit_tiny_patch16_224", [f"blocks.{i}" for i in range(12)] + ["logits"]),
    ],
)
def test_networks_of_timm_are_measured_too_tokens_laid_out_as_a_grid(name, parts):
    table = report(name, image_size=64)
    assert list(table["network"]) == ["as released"] * 2
    model = (
        timm.create_model(name, num_classes=3, **({"img_size": 64} if "vit" in name else {}))
        .double()
        .eval()
    )
    found = features(model, torch.randn(2, 3, 64, 64, dtype=torch.float64))
    assert list(found) == parts
    grid, span = found[parts[-2]]
    assert grid.shape[2:] == (64 // span, 64 // span)


class ChannelsLast(torch.nn.Module):
    feature_info = [dict(module="blocks.0", num_chs=3, reduction=2)]

    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(3, 3)])
        torch.nn.init.eye_(self.blocks[0].weight)

    def forward(self, x):
        return self.blocks[0](x[..., ::2, ::2].permute(0, 2, 3, 1)).mean((1, 2))


def test_maps_with_their_channels_last_are_turned_and_other_shapes_refused():
    model, image = ChannelsLast(), torch.randn(1, 3, 8, 8)
    grid, span = features(model, image)["blocks.0"]
    assert (
        grid.shape == (1, 3, 4, 4)
        and span == 2
        and torch.allclose(grid, image[..., ::2, ::2] + model.blocks[0].bias.view(3, 1, 1))
    )
    model.feature_info = [dict(module="blocks.0", num_chs=7, reduction=2)]
    with pytest.raises(ValueError, match="neither a map nor tokens of 7 channels"):
        features(model, image)


def test_tokens_of_a_network_without_position_embedding_move_with_their_patches():
    model = (
        timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=64, pos_embed="none")
        .double()
        .eval()
    )
    errors = shift_errors(
        model, torch.randn(1, 3, 64, 64, dtype=torch.float64), [(16, 32), (1, 0)]
    ).set_index(["dy", "part"])["error"]
    assert (errors[16] < ROUNDS["float64"]).all() and (errors[1] > 1e-6).all()


@cache
def by_construction(name, seed):
    return switched(name, seed=seed, num_classes=3, img_size=32, only=["by construction"])[
        "by construction"
    ]


@pytest.mark.parametrize(
    "name, weights", [("astroformer_pico", 0), ("astroformer_pico", 1), ("astroformer_0", 0)]
)
@settings(max_examples=6, deadline=None)
@given(dy=st.integers(-40, 40), dx=st.integers(-40, 40), seed=st.integers(0, 99))
def test_the_variant_by_construction_moves_with_its_image_by_any_number_of_pixels(
    name, weights, dy, dx, seed
):
    model = by_construction(name, weights)
    image = torch.randn(
        1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    assert (shift_errors(model, image, [(dy, dx)])["error"] < ROUNDS["float64"]).all()


def test_blurred_strides_halve_the_error_of_one_pixel_at_least_and_leave_whole_strides_exact():
    networks = switched(
        "astroformer_pico", num_classes=3, img_size=64, only=["strides alone", "BlurPool"]
    )
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    # smooth, as galaxies are
    image = torch.exp(-((x - 30) ** 2 + (y - 33) ** 2) / 50).expand(1, 3, 64, 64).double()
    errors = {
        name: shift_errors(model, image, [(0, 1), (16, 0)]).set_index(["dx", "part"])["error"]
        for name, model in networks.items()
    }
    assert errors["BlurPool"][1, "logits"] < errors["strides alone"][1, "logits"] / 2
    assert (errors["BlurPool"][0] < ROUNDS["float64"]).all()


def test_each_cause_breaks_alone_what_the_variant_keeps():
    networks = switched("astroformer_pico", img_size=32, num_classes=5)
    assert list(networks) == list(switches("astroformer_pico"))
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    errors = {
        label: shift_errors(model, image, [(16, 0), (1, 0)]).set_index(["part", "dy"])["error"]
        for label, model in networks.items()
    }
    strides = errors["strides alone"]["logits"]
    assert strides[16] < ROUNDING < 1e-4 < strides[1]
    for label in ("padding alone", "bias table alone"):
        assert errors[label]["logits", 16] > 1e-4
    assert (errors["by construction"] < ROUNDING).all()


def test_switched_networks_share_their_weights_random_or_given():
    networks = switched("astroformer_pico", img_size=32, num_classes=5, seed=1)
    first = networks["as released"].state_dict()
    for model in networks.values():
        assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items())
    del networks
    given = switched(
        "astroformer_pico",
        img_size=32,
        num_classes=5,
        state={n: v.float() for n, v in first.items()},
    )
    assert torch.equal(given["by construction"].head.fc.weight, first["head.fc.weight"])


def test_quarter_turns_and_reflections_are_symmetries_of_no_part():
    model, image = network(padding="circular", offsets="torus", downsampling="polyphase")
    errors = symmetry_errors(model, image).set_index("move")
    assert list(errors.index) == list(MOVES) and (errors > 1e-3).all(axis=None)


def test_one_position_knows_no_direction_so_turning_it_changes_nothing():
    # a network that is symmetric, to see that the measurement can say so
    class Mean(torch.nn.Module):
        feature_info = [dict(module="pool", num_chs=3, reduction=1)]

        def __init__(self):
            super().__init__()
            self.pool = torch.nn.AvgPool2d(3, 1, 1, count_include_pad=False)

        def forward(self, x):
            return self.pool(x).mean((2, 3))

    errors = symmetry_errors(Mean(), torch.randn(1, 3, 8, 8, dtype=torch.float64)).set_index("move")
    assert (errors < ROUNDING).all(axis=None)


def test_the_summary_reaches_rounding_in_either_precision_only_where_all_is_repaired():
    table = summary(
        "astroformer_pico", torch.randn(1, 3, 32, 32), img_size=32, num_classes=5
    ).set_index(["network", "precision"])
    for precision, limit in ROUNDS.items():
        assert (
            table.loc[("by construction", precision)].max()
            < limit
            < table.loc[("as released", precision)].min()
        )
        assert (
            table.loc[("strides alone", precision), "logits, 16 px"]
            < limit
            < table.loc[("strides alone", precision), "logits, 1 px"]
        )


def test_the_summary_of_several_images_is_the_mean_of_each_ones():
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    options = dict(img_size=32, num_classes=5)
    together, one, other = (
        summary("astroformer_pico", some, **options).set_index(["network", "precision"])
        for some in (images, images[:1], images[1:])
    )
    assert torch.allclose(
        torch.tensor(together.to_numpy()), torch.tensor((one + other).to_numpy() / 2), rtol=1e-4
    )


def test_the_checks_of_attention_alone_separate_rounding_from_failure():
    table = attention_checks(grid=(4, 5), heads=2, draws=3).set_index("bias")
    assert (table[["torus, wrapped offsets", "plane, released offsets"]] < ROUNDING).all(axis=None)
    assert (table.loc[["inside", "outside"], "torus, released offsets"] > 1e-3).all()
    assert table.loc["none", "torus, released offsets"] < ROUNDING


def test_the_verb_prints_a_row_for_each_network_and_precision(capsys):
    assert main(["equivariance", "--image-size", "32", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 12 and {row["network"] for row in rows} == set(switches("astroformer_pico"))
    assert main(["equivariance", "--model", "resnet"]) == 2
    assert "choose one of astroformer_pico" in capsys.readouterr().err


# The other two systems


def gated(height, width, channels, seed):
    torch.manual_seed(seed)
    gate = SpectralGate(channels, (height, width)).double()
    torch.nn.init.normal_(gate.complex_weight)
    return gate, torch.randn(2, height, width, channels, dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    channels=st.integers(1, 3),
    dy=st.integers(-9, 9),
    dx=st.integers(-9, 9),
    seed=st.integers(0, 999),
)
def test_a_spectral_gate_moves_with_its_map_on_any_torus_and_is_the_convolution_with_its_kernel(
    height, width, channels, dy, dx, seed
):
    gate, x = gated(height, width, channels, seed)
    assert systems.gate_error(gate, x, (dy, dx)) < ROUNDING
    assert torch.allclose(
        gate(x), systems.convolved(gate, x), rtol=0, atol=ROUNDING * float(gate(x).norm().detach())
    )


def test_a_gate_does_not_turn_with_its_map_so_that_its_kernel_has_a_direction():
    gate, x = gated(6, 6, 2, 0)
    with torch.no_grad():
        turned, reference = gate(x.rot90(1, (1, 2))), gate(x).rot90(1, (1, 2))
    assert (turned - reference).norm() > 0.1 * reference.norm()


def test_an_aligned_image_is_the_same_for_every_shift_up_to_whole_strides():
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    still = aligned(x, 4)
    for shift in ((1, 0), (-2, 3), (5, 7)):
        moved = aligned(shifted(x, shift), 4)
        for one, other in zip(still, moved):
            found = [
                torch.equal(one.roll((4 * i, 4 * j), (1, 2)), other)
                for i in range(2)
                for j in range(3)
            ]
            assert sum(found) == 1


@pytest.fixture(scope="module")
def errors():
    return systems.errors()


@pytest.mark.parametrize("name", systems.NETWORKS)
def test_repairs_make_the_other_systems_move_and_each_cause_alone_breaks_what_it_should(
    errors, name
):
    tables = {label: table.set_index("dx")["error"] for label, table in errors[name].items()}
    one, whole = sorted(set(tables["as released"].index))
    assert (tables["as released"] > 1e-6).all() and (tables["by construction"] < ROUNDING).all()
    first = "strides alone" if name == "SpectFormer-H" else "patches alone"
    second = "padding alone" if name == "SpectFormer-H" else "position embedding alone"
    assert set(tables) == {"as released", first, second, "by construction"}
    assert (tables[first][whole] < ROUNDING).all() and (tables[first][one] > 1e-6).all()
    assert (tables[second][whole] > 1e-6).all()
    assert tables[second][one].max() < ROUNDING  # for this shift the aligned image is the same


def test_every_part_is_drawn_and_what_should_be_exact_is_so(errors):
    figure = drawing.stage_by_stage(errors)
    assert [len(axis.lines[0].get_xdata()) for axis in figure.axes] == [7, 5, 8]
    assert all(len(axis.lines) == 4 for axis in figure.axes)
    spoken = systems.facts(systems.gate_checks(draws=1), errors, causes.read())
    for name in ("gate_error", "others_alone", "others_built"):
        assert 0 < spoken[name] < ROUNDING
    assert all(f"{name} by " in spoken["others_changes"] for name in systems.NETWORKS)


def test_repairs_leave_every_weight_but_the_position_embedding_and_a_class_token_its_own():
    networks = switched(
        "vit_cifar", num_classes=3, img_size=16, dim=8, heads=2, mlp_hidden=8, depth=1
    )
    first, repaired = (networks[label].state_dict() for label in ("as released", "by construction"))
    assert [name for name in first if not torch.equal(first[name], repaired[name])] == ["pos_emb"]
    assert torch.equal(first["pos_emb"][:, 0], repaired["pos_emb"][:, 0])
    assert (repaired["pos_emb"][:, 1:] == repaired["pos_emb"][:, 1:2]).all()


def test_the_verb_names_the_causes_of_a_network_that_has_no_options_for_them(capsys):
    assert main(["equivariance", "--model", "vit_cifar", "--json"]) == 0
    rows = {(row["network"], row["precision"]): row for row in json.loads(capsys.readouterr().out)}
    assert {network for network, _ in rows} == {
        "as released",
        "patches alone",
        "position embedding alone",
        "by construction",
    }
    assert (
        rows["patches alone", "float64"]["logits, 4 px"]
        < ROUNDING
        < 1e-6
        < rows["patches alone", "float64"]["logits, 1 px"]
    )


def test_stages_that_are_lists_of_blocks_are_seen_with_their_channels_first():
    model = (
        timm.create_model(
            "spectformer_h_s",
            stem_width=4,
            dims=(16, 4, 4, 4),
            depths=(2, 1, 1, 1),
            num_heads=(2, 2, 2, 2),
            # 16 channels on 16 x 16 positions
            img_size=64,
            num_classes=3,
        )
        .double()
        .eval()
    )
    found = features(model, torch.randn(1, 3, 64, 64, dtype=torch.float64))
    assert {
        name: (tuple(grid.shape[1:]), span) for name, (grid, span) in found.items() if span
    } == {
        "block1": ((16, 16, 16), 4),
        "block2": ((4, 8, 8), 8),
        "block3": ((4, 4, 4), 16),
        "block4": ((4, 2, 2), 32),
    }
    maps = model.forward_intermediates(
        torch.zeros(1, 3, 64, 64, dtype=torch.float64), norm=False, intermediates_only=True
    )
    last = features(model, torch.zeros(1, 3, 64, 64, dtype=torch.float64))["block4"][0]
    assert torch.allclose(maps[-1], last)
