"""ViT-CIFAR is the released network: names, shapes, order, parameters, and its arithmetic against
the formulas written out, in the release's two peculiar forms and in the textbook's; other image
sizes, and what timm and the analysis ask of it.
"""

import math

import pytest
import timm
import torch

import astroformer  # noqa: F401  (registers the networks)
from astroformer.counting.closed_forms import released
from astroformer.equivariance.network import features, galaxy, shift_errors
from astroformer.models.vit_cifar import checkpoint_filter_fn

RELEASED_PARAMETERS = 6_268_810  # 32 pixels, 10 classes, from the release's own state dict
# unlike widths, so that a mix-up of axes shows
TINY = dict(dim=24, depth=2, heads=3, mlp_hidden=20)


def tiny(**kwargs) -> torch.nn.Module:
    """A small network in double precision whose gains and biases are not their initial 1 and 0,
    which would hide one not used.
    """
    torch.manual_seed(0)
    model = timm.create_model("vit_cifar", **TINY | kwargs).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def images(*size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_state_dict_has_the_released_names_shapes_and_order(released_state_dicts):
    expected = released_state_dicts["vit_cifar@32px/10classes"]
    with torch.device("meta"):
        model = timm.create_model("vit_cifar", num_classes=10, img_size=32)
    assert [[key, list(value.shape)] for key, value in model.state_dict().items()] == expected


@pytest.mark.parametrize(
    "img_size, num_classes, in_chans", [(32, 10, 3), (32, 100, 3), ((32, 64), 7, 1)]
)
def test_the_parameters_are_the_released_number_and_that_of_a_closed_formula(
    img_size, num_classes, in_chans
):
    with torch.device("meta"):
        model = timm.create_model(
            "vit_cifar", num_classes=num_classes, img_size=img_size, in_chans=in_chans
        )
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    d, tokens = 384, 1 + height * width // 16
    # two LayerNorms; q, k, v, o; an MLP as wide as the network
    block = 4 * d + 4 * (d * d + d) + 2 * (d * d + d)
    formula = d + tokens * d + (16 * in_chans * d + d) + 7 * block + 2 * d + num_classes * (d + 1)
    assert sum(parameter.numel() for parameter in model.parameters()) == formula
    if (img_size, num_classes) == (32, 10):
        assert (
            formula
            == RELEASED_PARAMETERS
            == released("vit_cifar", image_size=32, num_classes=10)["params"]
        )


# --- the arithmetic, written out ---


def layer_norm(x, weight, bias):
    return (x - x.mean(-1, keepdim=True)) / (
        x.var(-1, correction=0, keepdim=True) + 1e-5
    ).sqrt() * weight + bias


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def written_out(
    p: dict[str, torch.Tensor],
    x: torch.Tensor,
    *,
    heads: int,
    divisor: float,
    gelu_at_the_end: bool,
) -> torch.Tensor:
    """Logits from the state dict alone: patches by slicing, every product an einsum."""
    dim = p["cls_token"].shape[-1]

    def linear(x, name):
        return torch.einsum("bni,oi->bno", x, p[f"{name}.weight"]) + p[f"{name}.bias"]

    patches = [
        x[:, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].permute(0, 2, 3, 1).reshape(len(x), -1)
        for i in range(x.shape[2] // 4)
        for j in range(x.shape[3] // 4)
    ]
    z = (
        torch.cat([p["cls_token"].repeat(len(x), 1, 1), linear(torch.stack(patches, 1), "emb")], 1)
        + p["pos_emb"]
    )
    for block in sorted({".".join(name.split(".")[:2]) for name in p if name.startswith("enc.")}):
        y = layer_norm(z, p[f"{block}.la1.weight"], p[f"{block}.la1.bias"])
        q, k, v = (
            linear(y, f"{block}.msa.{part}").reshape(*y.shape[:2], heads, dim // heads)
            for part in "qkv"
        )
        weights = (torch.einsum("bihf,bjhf->bhij", q, k) / divisor).exp()
        weights = weights / weights.sum(-1, keepdim=True)
        z = z + linear(
            torch.einsum("bhij,bjhf->bihf", weights, v).reshape(z.shape), f"{block}.msa.o"
        )
        y = layer_norm(z, p[f"{block}.la2.weight"], p[f"{block}.la2.bias"])
        y = linear(gelu(linear(y, f"{block}.mlp.0")), f"{block}.mlp.3")
        z = z + (gelu(y) if gelu_at_the_end else y)
    token = layer_norm(z[:, 0], p["fc.0.weight"], p["fc.0.bias"])
    return torch.einsum("bi,oi->bo", token, p["fc.1.weight"]) + p["fc.1.bias"]


@pytest.mark.parametrize("mlp_end", ["gelu", "linear"])
@pytest.mark.parametrize("scale", ["width", "head"])
@pytest.mark.parametrize("size", [(16, 16), (8, 20)], ids=["square", "wide"])
def test_the_logits_are_those_of_the_formulas_written_out(scale, mlp_end, size):
    model, x = tiny(scale=scale, mlp_end=mlp_end, img_size=size, in_chans=2), images(3, 2, *size)
    divisor = math.sqrt(24) if scale == "width" else math.sqrt(24 / 3)
    expected = written_out(
        model.state_dict(), x, heads=3, divisor=divisor, gelu_at_the_end=mlp_end == "gelu"
    )
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)


def test_the_default_is_the_release_and_every_choice_is_another_network():
    x, choices = (
        images(2, 3, 16, 16),
        [{}, dict(scale="width", mlp_end="gelu"), dict(scale="head"), dict(mlp_end="linear")],
    )
    logits = [tiny(img_size=16, **choice)(x) for choice in choices]
    assert torch.equal(logits[0], logits[1])
    assert all((logits[0] - other).abs().max() > 1e-4 for other in logits[2:])


def test_the_full_network_scales_its_attention_by_the_root_of_384_or_of_32():
    assert all(
        timm.create_model("vit_cifar", scale=scale).enc[6].msa.scale == 1 / math.sqrt(width)
        for scale, width in (("width", 384), ("head", 32))
    )


def test_a_choice_of_form_needs_no_other_weights():
    released_form, textbook = tiny(), tiny(scale="head", mlp_end="linear")
    assert textbook.load_state_dict(released_form.state_dict())


@pytest.mark.parametrize("mlp_end, places", [("gelu", 3), ("linear", 2)])
def test_the_releases_dropout_is_within_blocks_and_follows_the_mlp_where_its_gelu_does(
    mlp_end, places
):
    block = tiny(proj_drop_rate=0.25, mlp_end=mlp_end).enc[0]
    assert [module.p for module in block.modules() if isinstance(module, torch.nn.Dropout)] == [
        0.25
    ] * places
    model, x = tiny(proj_drop_rate=0.25, img_size=16).train(), images(2, 3, 16, 16)
    assert not torch.equal(model.forward_features(x), model.forward_features(x))


def test_tokens_and_positions_are_drawn_from_a_normal_distribution_of_deviation_one():
    torch.manual_seed(0)
    model = timm.create_model("vit_cifar")
    for parameter in (model.cls_token, model.pos_emb):
        assert abs(float(parameter.mean())) < 4 / math.sqrt(parameter.numel())
        assert abs(float(parameter.std()) - 1) < 4 / math.sqrt(2 * parameter.numel())


# --- what it accepts ---


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(scale="heads"), 'scale="heads" is not known; choose one of "width", "head"'),
        (dict(mlp_end="none"), 'choose one of "gelu", "linear"'),
        (dict(global_pool="avg"), 'choose one of "token", ""'),
        (dict(dim=20), "no multiple of 3 heads"),
        (dict(img_size=30), "30x30 is not a multiple of 4"),
    ],
)
def test_a_choice_that_means_nothing_is_refused_with_those_that_do(options, words):
    with pytest.raises(ValueError, match=words):
        timm.create_model("vit_cifar", **TINY | options)


def test_an_image_of_another_size_is_answered_with_the_way_to_use_it():
    with pytest.raises(
        ValueError,
        match=r"16x20 pixels came to a network built for "
        r"16x16.*img_size=\(16, 20\) or call set_input_size",
    ):
        tiny(img_size=16)(images(1, 3, 16, 20))


def test_another_input_size_interpolates_positions_and_leaves_the_class_token_and_all_else():
    model = tiny(img_size=16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.set_input_size((16, 32))
    assert model(images(2, 3, 16, 32)).shape == (2, 10)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 16, 32)
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"pos_emb"} and torch.equal(model.pos_emb[:, 0], before["pos_emb"][:, 0])


def test_positions_that_are_a_plane_stay_a_plane_when_interpolated():
    """A ramp over the grid, read at twice as many places: neighbours differ by half as much. Edges
    are cut, where bicubic interpolation repeats the last row.
    """
    model = tiny(img_size=32)
    rows = torch.arange(8.0).double()[:, None].expand(8, 8).flatten()
    with torch.no_grad():
        model.pos_emb[0, 1:] = rows[:, None]
    model.set_input_size(64)
    ramp = model.pos_emb[0, 1:, 0].reshape(16, 16)[4:-4]
    torch.testing.assert_close(
        ramp.diff(dim=0), torch.full((7, 16), 0.5).double(), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(ramp, ramp[:, :1].expand(8, 16), rtol=0, atol=1e-5)


def test_a_checkpoint_of_the_release_loads_also_at_another_image_size():
    source, target = tiny(img_size=16), tiny(img_size=32)
    # as PyTorch Lightning names them
    saved = {f"model.{name}": value for name, value in source.state_dict().items()}
    same = tiny(img_size=16)
    same.load_state_dict(checkpoint_filter_fn(saved, same))
    assert torch.equal(same(images(1, 3, 16, 16)), source(images(1, 3, 16, 16)))
    target.load_state_dict(checkpoint_filter_fn(saved, target))
    source.set_input_size(32)
    assert torch.equal(target(images(1, 3, 32, 32)), source(images(1, 3, 32, 32)))


def test_a_checkpoint_of_a_rectangular_grid_is_answered_with_the_way_to_use_it():
    with pytest.raises(ValueError, match="8 patches, which no square grid has.*set_input_size"):
        checkpoint_filter_fn(tiny(img_size=(8, 16)).state_dict(), tiny(img_size=16))


# --- what others ask of it ---


def test_intermediate_features_are_what_the_blocks_put_out():
    model, x, outputs = tiny(depth=3, img_size=(8, 12)), images(2, 3, 8, 12), []
    for block in model.enc:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    final, grids = model.forward_intermediates(x, norm=False)
    assert torch.equal(final, model.forward_features(x)) and len(grids) == 3
    for grid, tokens in zip(grids, outputs):
        # second row, third column of 2 x 3
        assert torch.equal(grid[:, :, 1, 2], tokens[:, 1 + 1 * 3 + 2])
    [normed] = model.forward_intermediates(
        x, [1], norm=True, output_fmt="NLC", intermediates_only=True, stop_early=True
    )
    assert torch.equal(normed, model.fc[0](outputs[1])[:, 1:])


def test_features_only_takes_no_more_blocks_than_it_needs():
    model = timm.create_model(
        "vit_cifar", **TINY | dict(depth=4), features_only=True, out_indices=(0, 2)
    )
    assert (
        len(model.model.enc) == 3
        and [f.shape for f in model(torch.randn(1, 3, 32, 32))] == [(1, 24, 8, 8)] * 2
    )


def test_equivariance_sees_its_patches_as_a_grid_without_the_class_token():
    model, x = tiny(depth=2), galaxy(32)
    parts = features(model, x)
    assert {part: (tuple(grid.shape), span) for part, (grid, span) in parts.items()} == {
        "enc.0": ((1, 24, 8, 8), 4),
        "enc.1": ((1, 24, 8, 8), 4),
        "logits": ((1, 10), 0),
    }
    with torch.no_grad():
        # without positions, attention permutes: patches move with the image by whole patches
        model.pos_emb.zero_()
    errors = shift_errors(model, x, [(4, 8), (1, 0)]).set_index(["part", "dy"])["error"]
    assert errors["enc.1", 4] < 1e-12 and errors["logits", 4] < 1e-12 and errors["enc.1", 1] > 1e-4
