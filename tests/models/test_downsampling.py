"""Downsampling that does not depend on where the stride begins, and convolutions on a torus."""

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import BlurPool2d

from astroformer.models.circular import CircularConv2d, CircularPad
from astroformer.models.downsampling import MODES, Align, BlurPool


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_circular_padding_is_pytorchs_with_its_gradients_and_keeps_the_layout(layout):
    x = (
        torch.randn(2, 3, 4, 5, dtype=torch.float64)
        .contiguous(memory_format=layout)
        .requires_grad_()
    )
    padded = CircularPad.apply(x)
    assert torch.equal(padded, F.pad(x, (1, 1, 1, 1), mode="circular"))
    assert padded.is_contiguous(memory_format=layout)
    assert torch.autograd.gradcheck(
        CircularPad.apply, (x,), check_forward_ad=True
    ) and torch.autograd.gradgradcheck(CircularPad.apply, (x,))


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 3)])
def test_a_grid_smaller_than_the_kernel_meets_itself_around_the_edge(size):
    x = torch.randn(1, 2, *size)
    assert torch.equal(CircularPad.apply(x), F.pad(x, (1, 1, 1, 1), mode="circular"))


@pytest.mark.parametrize("stride, groups", [(1, 1), (2, 4)])
def test_a_circular_convolution_has_pytorchs_numbers(stride, groups):
    torch.manual_seed(0)
    theirs = torch.nn.Conv2d(
        4, 8, 3, stride, 1, groups=groups, bias=False, padding_mode="circular"
    ).double()
    ours = CircularConv2d(4, 8, 3, stride, 1, groups=groups, bias=False).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 6, 8, dtype=torch.float64)
    assert torch.allclose(ours(x), theirs(x), atol=1e-14)


@pytest.mark.parametrize("padding, theirs", [("circular", "circular"), ("zeros", "constant")])
def test_blurpool_is_timms(padding, theirs):
    x = torch.randn(2, 4, 6, 8)
    assert torch.allclose(
        BlurPool(4, padding=padding)(x),
        BlurPool2d(4, filt_size=3, stride=2, pad_mode=theirs)(x),
        atol=1e-6,
    )


@pytest.mark.parametrize("dy, dx", [(0, 1), (1, 0), (1, 1), (2, 0), (-3, 5)])
def test_alignment_makes_a_stride_of_two_follow_the_image(dy, dx):
    torch.manual_seed(0)
    x = torch.randn(3, 2, 8, 6)
    kept, moved = Align()(x)[..., ::2, ::2], Align()(x.roll((dy, dx), (2, 3)))[..., ::2, ::2]
    candidates = [kept.roll((sy, sx), (2, 3)) for sy in range(-3, 4) for sx in range(-3, 4)]
    for one in range(3):  # each image by its own whole positions
        assert any(torch.equal(moved[one], candidate[one]) for candidate in candidates)


def test_alignment_keeps_the_grid_with_the_most_energy_and_moves_at_most_one_position():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 2] = -5.0  # row 1, column 2: odd row, even column
    x[0, 0, 0, 0] = 4.0
    assert torch.equal(Align()(x), x.roll(-1, 2))


def network(mode, **options):
    torch.manual_seed(0)
    return timm.create_model(
        "astroformer_pico", num_classes=5, img_size=32, downsampling=mode, **options
    )


@pytest.mark.parametrize("stack", ["CCCT", "CCTT", "CTTT"])
@pytest.mark.parametrize("mode", MODES)
def test_every_way_to_halve_the_grid_has_the_releases_weights_and_learns(mode, stack):
    model, released = network(mode, stack=stack), network("strided", stack=stack)
    assert all(
        torch.equal(a, b) and n == m
        for (n, a), (m, b) in zip(
            model.state_dict().items(), released.state_dict().items(), strict=True
        )
    )
    images = torch.randn(2, 3, 32, 32)
    model.train()(images).logsumexp(1).sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter in model.parameters()
    )
    assert model.eval()(images).shape == (2, 5)
    assert mode == "strided" or not torch.allclose(model(images), released.eval()(images))


def test_networks_with_a_strided_stem_are_covered_too():
    torch.manual_seed(0)
    model = timm.create_model(
        "astroformer_0", num_classes=3, img_size=64, downsampling="blur"
    ).eval()
    with torch.no_grad():
        assert [
            tuple(x.shape[2:])
            for x in (
                model.stem(torch.randn(1, 3, 64, 64)),
                model.forward_features(torch.randn(1, 3, 64, 64)),
            )
        ] == [(32, 32), (2, 2)]


@pytest.mark.parametrize(
    "options", [{"padding": "reflect"}, {"offsets": "sphere"}, {"downsampling": "maximum"}]
)
def test_an_unknown_option_names_those_there_are(options):
    with pytest.raises(ValueError, match="choose one of"):
        timm.create_model("astroformer_pico", img_size=32, **options)
