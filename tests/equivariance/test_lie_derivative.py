"""The Lie derivative is that of finite moves, and its parts by layers add up to it exactly."""

import math

import pandas as pd
import pytest
import timm
import torch
from torch import nn

import astroformer.models  # noqa: F401  registers the networks with timm
from astroformer.equivariance.lie_derivative import (
    AXES,
    _generated,
    by_kind,
    contributions,
    decompose,
    generator,
    grid_of,
    kind_of,
    layers,
    lie_error,
)
from astroformer.figures import lie_derivative as drawing
from astroformer.models.astroformer import Astroformer, RelativeAttention, SqueezeExcite
from astroformer.models.circular import CircularConv2d
from astroformer.models.downsampling import Align, BlurPool
from astroformer.models.spectformer import SpectFormer, SpectralGate
from astroformer.models.spectformer_h import SpectFormerH
from astroformer.models.vit_cifar import VitCifar

ROUNDING = 1e-12
TORUS = {"padding": "circular", "offsets": "torus"}


def fourier_shift(x, pixels, axis):
    """The trigonometric interpolation of x, moved by a part of a pixel, at the pixels; the highest
    frequency, which an even number of pixels holds as a cosine alone, stays one.
    """
    dim, n = AXES[axis], x.shape[AXES[axis]]
    waves = 2 * math.pi * torch.fft.rfftfreq(n, dtype=x.dtype)
    factor = torch.exp(-1j * waves * pixels)
    if n % 2 == 0:
        factor[-1] = math.cos(math.pi * pixels)
    return torch.fft.irfft(
        torch.fft.rfft(x, dim=dim) * factor.view(-1, *[1] * (-1 - dim)), n=n, dim=dim
    )


def images(number=2, size=32, channels=3):
    return torch.randn(
        number,
        channels,
        size,
        size,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(1),
    )


def randomised(model):
    """Every weight matters, also those that begin at zero or one, and BatchNorm's statistics."""
    draw = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and (value.ndim == 1 or "table" in name):
            value.add_(0.3 * torch.rand(value.shape, generator=draw, dtype=value.dtype))
    return model


def astroformer(**options):
    """Small, since every layer is differentiated by itself; one stage has a block that keeps the
    grid.
    """
    return other(Astroformer, 8, (8, 16, 32, 32), (1, 2, 1, 1), stem_stride=1, **options)


def resnet(**sizes):
    torch.manual_seed(0)
    sizes = dict(layers=(2, 1, 1, 1), channels=(8, 16, 16, 32)) | sizes
    return randomised(timm.create_model("resnet18", num_classes=5, **sizes).double().eval())


def wide_resnet():
    """As released: where a finite move takes one of a few ReLUs over its kink, that is seen in
    the slope.
    """
    return resnet(layers=(2, 2, 2, 2), channels=(64, 128, 256, 512))


def other(network, *sizes, **options):
    torch.manual_seed(0)
    return randomised(network(*sizes, num_classes=5, img_size=32, **options).double().eval())


def whole(model, x):
    """(B, 2, K), without any part"""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return torch.stack(
            [torch.func.jvp(model, (x,), (generator(x, axis, 1),))[1] for axis in AXES], 1
        ).detach()


def sizes(*modules, channels=8, size=16):
    """Layers in a row, then squares, since a mean over positions alone forgets most of what went
    wrong, then a classifier; the sizes of their parts by kind.
    """
    torch.manual_seed(0)
    width = nn.Sequential(*modules)(torch.randn(1, channels, size, size)).shape[1]
    model = randomised(
        nn.Sequential(
            *modules, Square(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)
        ).eval()
    )
    return by_kind(model, images(size=size, channels=channels))["size"]


class Square(nn.Module):
    def forward(self, x):
        return x**2


# The generator.


@pytest.mark.parametrize("n", [8, 9])
@pytest.mark.parametrize("axis, dim", [("y", 2), ("x", 3)])
def test_a_wave_changes_as_its_analytic_derivative_and_faster_where_positions_span_fewer_pixels(
    n, axis, dim
):
    n_other, wave = 5, 2 * math.pi * 3 / n
    position = torch.arange(n, dtype=torch.float64)
    shape = (1, 1, n, 1) if dim == 2 else (1, 1, 1, n)
    repeats = (1, 1, 1, n_other) if dim == 2 else (1, 1, n_other, 1)
    z, slope = (
        f(wave * position).view(shape).repeat(repeats)
        for f in (torch.sin, lambda a: wave * torch.cos(a))
    )
    # content moves to larger indices
    assert torch.allclose(generator(z, axis, 1), -slope, atol=ROUNDING)
    assert torch.allclose(generator(z, axis, 4), -slope / 4, atol=ROUNDING)
    other = "x" if axis == "y" else "y"
    assert generator(z, other, 1).abs().max() < ROUNDING


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_a_constant_and_the_highest_frequency_do_not_change(n):
    assert (
        generator(torch.full((1, 2, n, n), 3.0, dtype=torch.float64), "x", 1).abs().max() < ROUNDING
    )
    if n % 2 == 0:
        alternating = (
            torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(n // 2).expand(1, 1, n, n)
        )
        assert generator(alternating, "x", 1).abs().max() < ROUNDING


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("n", [6, 7])
def test_the_generator_generates_the_fourier_shift_which_by_a_whole_pixel_is_a_roll(n, axis):
    z = images(size=n)
    assert torch.allclose(fourier_shift(z, 1, axis), z.roll(1, AXES[axis]), atol=ROUNDING)
    slope = (fourier_shift(z, 1e-4, axis) - fourier_shift(z, -1e-4, axis)) / 2e-4
    assert torch.allclose(generator(z, axis, 1), slope, atol=1e-6)


def test_maps_tokens_and_vectors_can_be_moved_and_nothing_else():
    def found(*shape, pixels=(32, 32), **options):
        return grid_of(torch.zeros(shape), pixels, layer="blocks.0", **options)

    assert found(2, 3, 8, 8) == ("maps", 4) and found(2, 3, 8, 12, pixels=(32, 48)) == ("maps", 4)
    assert found(2, 8, 8, 16) == ("channels last", 4) and found(2, 8, 12, 3, pixels=(32, 48)) == (
        "channels last",
        4,
    )
    assert found(2, 8, 8, 8) == ("maps", 4) and found(2, 8, 8, 8, channels_last=True) == (
        "channels last",
        4,
    )
    assert (
        found(2, 64, 7) == ("tokens", 4)
        and found(2, 65, 7) == ("class token", 4)
        and found(2, 96, 7, pixels=(32, 48)) == ("tokens", 4)
    )
    assert {
        found(2, 3),
        found(2, 3, 1, 1),
        found(2, 1, 1, 3),
        found(2, 1, 7),
        found(2, 3, 1, 1, pixels=(32, 48)),
    } == {None}
    for shape in ((2, 66, 7), (2, 63, 7), (2, 3, 4, 4, 4)):
        with pytest.raises(
            ValueError,
            match="blocks.0 takes or puts out a tensor of shape .* positions are not known",
        ):
            found(*shape)
    for shape in ((2, 3, 30, 30), (2, 8, 12, 16)):  # unpadded; of another image
        with pytest.raises(ValueError, match="not a whole number of pixels"):
            found(*shape)


@pytest.mark.parametrize("first", [0, 1])
def test_tokens_and_maps_with_their_channels_last_move_as_the_same_map_and_a_class_token_stays(
    first,
):
    z = torch.randn(2, 5, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    tokens = torch.cat([torch.ones(2, first, 5, dtype=torch.float64), z.flatten(2).mT], 1)
    for axis in AXES:
        expected = generator(z, axis, 8)
        moved = _generated(tokens, axis, (32, 48), layer="a", channels_last=False)
        assert not moved[:, :first].any() and torch.equal(
            moved[:, first:].mT.unflatten(2, (4, 6)), expected
        )
        last = _generated(z.permute(0, 2, 3, 1), axis, (32, 48), layer="a", channels_last=True)
        assert torch.equal(last.permute(0, 3, 1, 2), expected)


# The network.

NETWORKS = {
    "as released": lambda: astroformer(),
    "torus": lambda: astroformer(**TORUS),
    "blur": lambda: astroformer(downsampling="blur", **TORUS),
    "polyphase": lambda: astroformer(downsampling="polyphase", **TORUS),
    "cbam": lambda: astroformer(attn_layer="cbam"),
    "outside": lambda: astroformer(rel_bias="outside"),
    "resnet18": resnet,
}
NETWORKS |= {  # of these the first and the last have as many channels as rows and columns somewhere
    "spectformer": lambda: other(SpectFormer, 8, 3, num_heads=2, patch_size=4, spectral_blocks=2),
    "vit_cifar": lambda: other(VitCifar, 16, 2, 2, 16, 4),
    "spectformer_h": lambda: other(SpectFormerH, 4, (8, 4, 4, 8), (1, 1, 1, 1), (2, 2, 2, 2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_add_up_to_the_derivative_of_the_whole(name):
    model, x = NETWORKS[name](), images(1)
    found, expected = decompose(model, x), whole(model, x)
    assert found.parts.shape == (len(found.calls), 1, 2, 5) and expected.norm() > 1e-6
    assert (found.total - expected).norm() < 1e-9 * expected.norm()
    with torch.no_grad():
        assert torch.allclose(found.logits, model(x), rtol=1e-9)


@pytest.mark.parametrize("name", ["blur", "vit_cifar"])
def test_shares_of_calls_and_of_kinds_add_up_to_the_whole(name):
    model, x = NETWORKS[name](), images(1)
    table = contributions(model, x)
    assert table.groupby("image")["share"].sum().tolist() == pytest.approx([1])
    kinds = by_kind(model, x)
    assert (
        kinds["share (%)"].sum() == pytest.approx(100)
        and kinds["share (%)"].round(9).is_monotonic_decreasing
    )
    assert kinds.attrs["total"] == pytest.approx(lie_error(model, x))


@pytest.mark.parametrize("make", [astroformer, wide_resnet])
def test_the_derivative_is_that_of_finite_moves(make):
    model, x = make(), images()
    with torch.no_grad():
        slopes = torch.stack(
            [
                (model(fourier_shift(x, 1e-5, axis)) - model(fourier_shift(x, -1e-5, axis))) / 2e-5
                for axis in AXES
            ],
            1,
        )
        logits = model(x)
    assert (decompose(model, x).total - slopes).norm() < 1e-4 * slopes.norm()
    of_classes, size = (z - z.mean(-1, keepdim=True) for z in (slopes, logits))
    assert lie_error(model, x) == pytest.approx(float(of_classes.norm() / size.norm()), rel=1e-4)


def test_no_image_changes_what_is_found_for_another():
    model, x = astroformer(), images(3)
    together = decompose(model, x)
    for options in ({"batch": 1}, {"batch": 2}):
        assert torch.allclose(
            decompose(model, x, **options).parts, together.parts, rtol=1e-9, atol=ROUNDING
        )
    assert torch.allclose(
        decompose(model, x[1:2]).parts, together.parts[:, 1:2], rtol=1e-9, atol=ROUNDING
    )


def test_kinds_are_added_before_their_norm_is_taken():
    model, x = astroformer(), images()
    found = decompose(model, x)
    parts, centred = (x - x.mean(-1, keepdim=True) for x in (found.parts, found.logits))
    of_kind, total = (
        parts[list(found.calls.index[found.calls["kind"] == "activation"])].sum(0),
        parts.sum(0),
    )
    row = by_kind(model, x).loc["activation"]
    assert row["size"] == pytest.approx(float(of_kind.norm() / centred.norm()))
    assert row["share (%)"] == pytest.approx(
        100 * float((of_kind * total).sum() / total.square().sum())
    )
    table = contributions(model, x).set_index(["layer", "image"])
    first = found.calls.index[found.calls["layer"] == "stem.act1"][0]
    assert table.loc[("stem.act1", 1), "size"] == pytest.approx(
        float(parts[first, 1].norm() / centred[1].norm())
    )


# The layers.


@pytest.mark.parametrize(
    "layer",
    [
        CircularConv2d(8, 4, 3, 1, 1, bias=False),
        nn.Conv2d(8, 4, 1),
        nn.BatchNorm2d(8),
        SqueezeExcite(8, 4),
        Align(),
    ],
    ids=kind_of,
)
def test_what_treats_all_positions_alike_and_linearly_has_no_part(layer):
    assert sizes(layer)[kind_of(layer)] < ROUNDING


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 4, 3, 1, 1),
        nn.Conv2d(8, 4, 3, 2, 1),
        CircularConv2d(8, 4, 3, 2, 1),
        nn.AvgPool2d(2),
        BlurPool(8, padding="circular"),
        nn.MaxPool2d(2),
        nn.GELU(),
        timm.layers.LayerNorm2d(8),
    ],
    ids=str,
)
def test_edges_strides_and_nonlinear_functions_have_a_part(layer):
    assert sizes(layer)[kind_of(layer)] > 1e-5


@pytest.mark.parametrize("offsets", ["torus", "plane"])
def test_attention_has_a_part_even_on_the_torus_since_softmax_makes_new_frequencies(offsets):
    assert (
        sizes(RelativeAttention(8, 64, (8, 8), offsets=offsets), size=8)["relative attention"]
        > 1e-5
    )


def test_without_content_in_its_weights_attention_on_the_torus_is_a_convolution_and_has_no_part():
    for offsets, none in (("torus", True), ("plane", False)):
        layer = RelativeAttention(8, 64, (8, 8), offsets=offsets)
        with torch.no_grad():
            nn.init.normal_(layer.rel_pos.relative_position_bias_table)
            for head in range(layer.num_heads):
                # queries and keys: nothing but the bias is left
                layer.qkv.weight[96 * head : 96 * head + 64] = 0
        model = nn.Sequential(
            layer, Square(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 3)
        )
        size = by_kind(model, images(size=8, channels=8))["size"]["relative attention"]
        assert (size < ROUNDING) == none, (offsets, size)


def test_layers_are_named_in_plain_words():
    found = {kind_of(module) for _, module in layers(astroformer())}
    assert found == {
        "3x3 convolution",
        "3x3 convolution, stride 2",
        "1x1 convolution",
        "average pooling",
        "activation",
        "BatchNorm",
        "LayerNorm",
        "squeeze-excitation",
        "relative attention",
        "head",
    }
    assert {
        kind_of(module) for _, module in layers(astroformer(downsampling="polyphase"))
    } == found | {"alignment"}
    assert {kind_of(module) for _, module in layers(resnet())} >= {
        "7x7 convolution, stride 2",
        "activation",
        "MaxPool2d",
        "Linear",
    }
    assert not any(isinstance(module, nn.Identity) for _, module in layers(astroformer()))


def test_what_other_networks_do_in_no_layer_has_a_kind_and_a_part_of_its_own():
    kinds = by_kind(NETWORKS["vit_cifar"](), images(1))["size"]
    assert {
        "patches",
        "position embedding",
        "attention",
        "LayerNorm",
        "activation",
        "Linear",
    } == set(kinds.index)
    assert (
        kinds["patches"] > 1e-5
        and kinds["position embedding"] > 1e-5
        and kinds["Linear"] < ROUNDING
    )
    kinds = by_kind(NETWORKS["spectformer"](), images(1))["size"]
    assert (
        "patches" not in kinds
        and kinds["4x4 convolution, stride 4"] > 1e-5
        and kinds["position embedding"] > 1e-5
    )


@pytest.mark.parametrize("side", [6, 7])
def test_a_spectral_gate_has_no_part_since_it_is_a_convolution_on_the_torus(side):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.square, self.fc = (
                SpectralGate(3, (side, side)),
                Square(),
                nn.Linear(3, 4),
            )

        def forward(self, x):
            return self.fc(self.square(self.square(self.gate(x.permute(0, 2, 3, 1)))).mean((1, 2)))

    torch.manual_seed(0)
    model = Gated()
    nn.init.normal_(model.gate.complex_weight)
    sizes = by_kind(model, images(size=side))["size"]
    assert sizes["spectral gate"] < ROUNDING < 1e-6 < sizes["Square"]


class Twice(nn.Module):
    """Calls one activation twice, and adds in place."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 3, 1, 1), nn.ReLU(inplace=True)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(3, 4)

    def forward(self, x):
        y = self.act(self.conv(x))
        y += x
        y = self.act(y)
        return self.fc(self.pool(y).flatten(1))


class Hidden(Twice):
    """Has an activation that is no layer."""

    def forward(self, x):
        return self.fc(self.pool(torch.tanh(self.conv(x))).flatten(1))


def test_a_layer_called_twice_has_two_parts_and_adding_in_place_does_no_harm():
    torch.manual_seed(0)
    model, x = Twice().double(), images()
    found = decompose(model, x)
    assert found.calls[["layer", "call"]].values.tolist() == [
        ["conv", 1],
        ["act", 1],
        ["act", 2],
        ["pool", 1],
        ["fc", 1],
    ]
    model.act.inplace = False  # the derivative of the whole, in this test, needs what comes in
    expected = whole(model, x)
    assert (found.total - expected).norm() < 1e-9 * expected.norm()


def test_what_the_layers_do_not_explain_is_an_error():
    with pytest.raises(
        ValueError, match="between two of them something is not linear .* COMPOSITES"
    ):
        decompose(Hidden(), images())
    with pytest.raises(
        ValueError,
        match=r"layer 'norm' \(LayerNorm\) takes or puts out a tensor "
        r"of shape \(2, 66, 8\)",
    ):
        decompose(Tokens(), images())


class Tokens(nn.Module):
    """(B, C, H, W) -> two tokens that are no patches, tokens (B, N, C) -> logits"""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(torch.nn.functional.pad(self.patches(x).flatten(2).mT, (0, 0, 2, 0))).mean(
            1
        )


@pytest.mark.parametrize(
    "model, x, message",
    [
        (nn.Conv2d(3, 4, 1), images(), r"puts out \(2, 4, 32, 32\); a classifier's logits"),
        (Twice(), torch.zeros(3, 8, 8), r"shape \(3, 8, 8\); give at least one"),
        (Twice(), torch.zeros(0, 3, 8, 8), "give at least one"),
    ],
)
def test_anything_but_a_classifier_of_images_is_refused(model, x, message):
    for function in (decompose, lie_error):
        with pytest.raises(ValueError, match=message):
            function(model, x)


def test_an_invariant_network_has_no_shares():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert lie_error(model, images()) < ROUNDING
    table = by_kind(model, images())
    assert table["share (%)"].isna().all() and (table["size"] < ROUNDING).all()


def test_the_callers_model_is_left_as_it_was():
    model, x = resnet().float().train(), images().float()
    model.layer1.requires_grad_(False)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    seen = []
    model.conv1.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    pixels = x.clone()

    def state():
        return [
            (
                name,
                type(m),
                m.training,
                getattr(m, "inplace", None),
                len(m._forward_hooks),
                len(m._forward_pre_hooks),
            )
            for name, m in model.named_modules()
        ] + [
            (name, p.dtype, p.requires_grad, p.grad is None) for name, p in model.named_parameters()
        ]

    before, values = state(), {name: value.clone() for name, value in model.state_dict().items()}
    by_kind(model, x)
    lie_error(model, x)
    assert (
        state() == before
        and model.act1.inplace
        and torch.equal(model.fc.weight.grad, torch.ones_like(model.fc.weight))
    )
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert torch.equal(x, pixels) and not x.requires_grad


def test_a_network_in_single_precision_that_recomputes_its_layers_gives_the_same():
    model, x = astroformer(), images()
    single = astroformer().float()
    single.set_grad_checkpointing(True)
    expected = decompose(model, x).parts
    assert torch.allclose(
        decompose(single, x.float()).parts, expected, atol=1e-4 * float(expected.abs().max())
    )


# The figure.


def test_the_figure_draws_kinds_that_have_a_part_and_names_those_that_have_none():
    kinds = ["activation", "average pooling", "BatchNorm"]
    before = pd.DataFrame(
        {"share (%)": [90.0, 10.0, 1e-14], "size": [1.0, 2.0, 1e-17]}, index=kinds
    )
    after = before.assign(**{"share (%)": [20.0, 80.0, 0.0], "half": [1.0, 2.0, 0.0]})
    figure = drawing.by_kind(before, after)
    axis = figure.axes[0]
    # upwards
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "activation",
        "average pooling",
    ]
    assert sorted(bar.get_width() for bar in axis.patches) == [10, 20, 80, 90]
    assert "BatchNorm" in figure.get_supxlabel()
    with pytest.raises(ValueError, match="choose share"):
        drawing.by_kind(before, after, column="share")
    with pytest.raises(ValueError, match="BatchNorm: in one table only"):
        drawing.by_kind(before, after.drop("BatchNorm"))
