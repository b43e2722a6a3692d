"""Astroformer is the released network: names, shapes, initialisation, logits, gradients and
statistics, against timm's own `MaxxVit`; the poster's other forms of attention, against its
formulas written out; and the image sizes it accepts.
"""

import math
import re

import pytest
import timm
import torch
from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitConvCfg

import astroformer  # noqa: F401  (registers the networks)
from astroformer.models.astroformer import (
    VARIANTS,
    Astroformer,
    RelativeAttention,
    RelativePositionBias,
    checkpoint_filter_fn,
    resize_bias_table,
)

# Parameters of the released networks at 224 pixels with 10 classes, from the release's own state
# dicts.
RELEASED_PARAMETERS = {
    "astroformer_0": 22_772_282,
    "astroformer_1": 37_388_138,
    "astroformer_2": 66_367_114,
    "astroformer_3": 148_886_986,
    "astroformer_4": 241_083_274,
    "astroformer_5": 593_551_178,
}


# Every kind of block after one that halves the grid and after one that does not; a first stage as
# wide as the stem, as in astroformer_2, and three that are wider than what comes before.
NARROW = dict(stem_width=32, dims=(32, 64, 96, 128), depths=(2, 2, 2, 2))


def maxxvit(sizes: dict, *, stack: str = "CCCT", attn_layer: str = "se", **kwargs) -> MaxxVit:
    """timm's network in the configuration of the release."""
    cfg = MaxxVitCfg(
        embed_dim=sizes["dims"],
        depths=sizes["depths"],
        block_type=tuple(stack),
        stem_width=sizes["stem_width"],
        head_hidden_size=sizes["dims"][-1],
        conv_cfg=MaxxVitConvCfg(attn_layer=attn_layer),
    )
    return MaxxVit(cfg, **kwargs)


def height_width(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


@torch.no_grad()
def roughen(model: torch.nn.Module) -> None:
    """Moves every gain, bias and bias table away from its initial 1 or 0, which would hide one
    that is not used.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
        elif name.endswith("relative_position_bias_table"):
            parameter.normal_()


def pair(sizes: dict, size, dtype, **kwargs) -> tuple[Astroformer, MaxxVit]:
    """Our network and timm's, with the same weights."""
    torch.manual_seed(0)
    kwargs = dict(kwargs, img_size=size, num_classes=10, drop_path_rate=0.2, drop_rate=0.1)
    ours, theirs = Astroformer(**sizes, **kwargs), maxxvit(sizes, **kwargs)
    roughen(ours)
    theirs.load_state_dict(ours.state_dict())
    return ours.to(dtype), theirs.to(dtype)


def logits_and_gradients(
    model: torch.nn.Module, images: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One pass in the model's present mode; the seed fixes stochastic depth and dropout."""
    model.zero_grad()
    torch.manual_seed(1)
    logits = model(images)
    torch.nn.functional.cross_entropy(logits, torch.arange(len(images))).backward()
    return logits.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same_network(
    ours: torch.nn.Module, theirs: torch.nn.Module, images: torch.Tensor
) -> None:
    """A training step, BatchNorm's statistics after it, then evaluation with those statistics."""
    tolerance = 1e-5 if images.dtype == torch.float32 else 1e-10
    for training in (True, False):
        logits, gradients = logits_and_gradients(ours.train(training), images)
        expected, expected_gradients = logits_and_gradients(theirs.train(training), images)
        torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)

        assert gradients.keys() == expected_gradients.keys()
        largest = max(gradient.abs().max() for gradient in expected_gradients.values())
        for name, gradient in expected_gradients.items():
            torch.testing.assert_close(
                gradients[name] / largest, gradient / largest, rtol=0, atol=tolerance, msg=name
            )
        expected_state = theirs.state_dict()
        # running means and variances, numbers of batches
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(
                value, expected_state[name], rtol=0, atol=tolerance, msg=name
            )


def test_state_dicts_have_the_released_names_shapes_and_order(released_state_dicts):
    checked = 0
    for label, expected in released_state_dicts.items():
        entry = re.fullmatch(r"(astroformer_\d)(?:\[(\w+)\])?@(\d+)px/(\d+)classes", label)
        if entry is None:
            continue  # another system's
        name, stack, size, classes = entry.groups()
        with torch.device("meta"):
            model = timm.create_model(
                name, stack=stack or "CCCT", img_size=int(size), num_classes=int(classes)
            )
        assert [
            [key, list(value.shape)] for key, value in model.state_dict().items()
        ] == expected, label
        checked += 1
    assert checked >= 11  # six variants, two stack designs, smaller images


@pytest.mark.parametrize("name", RELEASED_PARAMETERS)
def test_parameter_counts_are_the_released_ones(name):
    with torch.device("meta"):
        model = timm.create_model(name, img_size=224, num_classes=10)
    assert sum(parameter.numel() for parameter in model.parameters()) == RELEASED_PARAMETERS[name]


def test_the_pico_variant_stays_under_four_million_parameters():
    with torch.device("meta"):
        model = timm.create_model("astroformer_pico", img_size=64, num_classes=1000)
    assert sum(parameter.numel() for parameter in model.parameters()) <= 4_000_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", [32, 64, (64, 96), 224], ids=["32", "64", "64x96", "224"])
@pytest.mark.parametrize("stack", ["CCCT", "CCTT", "CTTT"])
def test_with_equal_weights_the_network_computes_what_timms_does(stack, size, dtype):
    batch = 1 if size == 224 else 2  # which makes the slowest cases half as long
    assert_same_network(
        *pair(NARROW, size, dtype, stack=stack),
        torch.randn(batch, 3, *height_width(size), dtype=dtype),
    )


def test_astroformer_0_at_the_size_of_the_release_computes_what_timms_does():
    assert_same_network(
        *pair(VARIANTS["astroformer_0"], 224, torch.float32), torch.randn(1, 3, 224, 224)
    )


@pytest.mark.parametrize(
    "reduced",
    [dict(depths=(1, 1, 1, 1)), dict(stem_width=16, dims=(32, 32, 64, 64))],
    ids=["widths", "depths"],
)
def test_the_largest_networks_widths_and_its_depths_give_finite_gradients_that_are_not_zero(
    reduced,
):
    """Each without the other: together they take 5 GB."""
    torch.manual_seed(0)
    model = Astroformer(**VARIANTS["astroformer_5"] | reduced, img_size=64, num_classes=10)
    _, gradients = logits_and_gradients(model, torch.randn(2, 3, 64, 64))
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_block_attention_computes_what_timms_does(dtype):
    assert_same_network(
        *pair(NARROW, 64, dtype, attn_layer="cbam"), torch.randn(2, 3, 64, 64, dtype=dtype)
    )


def test_a_fresh_network_is_drawn_from_the_released_distributions():
    torch.manual_seed(0)
    ours = timm.create_model("astroformer_0", stack="CCTT", img_size=64, num_classes=10)
    theirs = dict(
        maxxvit(
            VARIANTS["astroformer_0"], stack="CCTT", img_size=64, num_classes=10
        ).named_parameters()
    )
    for name, parameter in ours.named_parameters():
        drawn, expected = parameter.detach().double(), theirs[name].detach().double()
        n, spread = drawn.numel(), expected.std().item()
        # two samples of n numbers: their means differ by about spread sqrt(2/n), their deviations
        # by spread / sqrt(n)
        assert abs(drawn.mean() - expected.mean()) <= 6 * spread * math.sqrt(2 / n), name
        assert abs(drawn.std() - expected.std()) <= 6 * spread / math.sqrt(n), name


@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_stochastic_depth_grows_over_the_blocks_as_in_timm(rate):
    def rates(model):  # timm leaves out a layer that drops nothing, we keep one with rate 0
        return {
            name: layer.drop_prob
            for name, layer in model.named_modules()
            if isinstance(layer, timm.layers.DropPath) and layer.drop_prob > 0
        }

    with torch.device("meta"):
        ours = timm.create_model("astroformer_0", drop_path_rate=rate, img_size=64)
    assert rates(ours) == rates(
        maxxvit(VARIANTS["astroformer_0"], drop_path_rate=rate, img_size=64)
    )


# --- attention ---

FORMS = ["inside", "outside", "none"]


def rough_attention(
    rel_bias: str, *, dim: int = 48, dim_out: int = 64, grid_size=(2, 3)
) -> RelativeAttention:
    torch.manual_seed(0)
    attention = RelativeAttention(dim, dim_out, grid_size, rel_bias=rel_bias).double()
    roughen(attention)
    return attention


@torch.no_grad()
def poster(attention: RelativeAttention, image: torch.Tensor, rel_bias: str) -> torch.Tensor:
    """y_i of the poster for one image (dim, H, W), position by position and offset by offset."""
    _, height, width = image.shape
    positions = [(y, x) for y in range(height) for x in range(width)]
    output = torch.empty(attention.proj.in_channels, height, width, dtype=image.dtype)
    weight, bias = attention.qkv.weight[:, :, 0, 0], attention.qkv.bias
    for head in range(attention.num_heads):
        rows = slice(96 * head, 96 * head + 96)  # 32 channels each of query, key and value
        query, key, value = (
            torch.einsum("oc,chw->ohw", weight[rows], image) + bias[rows, None, None]
        ).split(32)

        def offset_bias(i, j):
            row = (i[0] - j[0] + height - 1) * (2 * width - 1) + (i[1] - j[1] + width - 1)
            return attention.rel_pos.relative_position_bias_table[row, head]  # noqa: B023

        for i in positions:
            products = torch.stack([query[:, *i] @ key[:, *j] / math.sqrt(32) for j in positions])
            if rel_bias == "inside":
                products = products + torch.stack([offset_bias(i, j) for j in positions])
            shares = products.exp() / products.exp().sum()
            if rel_bias == "outside":
                shares = shares + torch.stack([offset_bias(i, j) for j in positions])
            output[32 * head : 32 * head + 32, *i] = sum(
                share * value[:, *j] for share, j in zip(shares, positions)
            )
    return (
        torch.einsum("oc,chw->ohw", attention.proj.weight[:, :, 0, 0], output)
        + attention.proj.bias[:, None, None]
    )


@pytest.mark.parametrize("rel_bias", FORMS)
def test_attention_is_the_posters_formula(rel_bias):
    attention = rough_attention(rel_bias)
    images = torch.randn(2, 48, 2, 3, dtype=torch.float64)
    expected = torch.stack([poster(attention, image, rel_bias) for image in images])
    torch.testing.assert_close(attention(images), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rel_bias", FORMS)
def test_the_weights_that_pages_draw_are_the_ones_the_network_uses(rel_bias):
    attention = rough_attention(rel_bias)
    images = torch.randn(2, 48, 2, 3, dtype=torch.float64)
    query, key, value = attention.heads(images)
    mixed = attention.weights(query, key) @ value  # (B, heads, N, head_dim)
    mixed = mixed.transpose(2, 3).reshape(2, 64, 2, 3)
    torch.testing.assert_close(attention(images), attention.proj(mixed), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rel_bias", ["inside", "none"])
def test_each_position_distributes_exactly_one_unit_of_attention(rel_bias):
    attention = rough_attention(rel_bias)
    query, key, _ = attention.heads(torch.randn(2, 48, 2, 3, dtype=torch.float64))
    weights = attention.weights(query, key)
    torch.testing.assert_close(
        weights.sum(-1), torch.ones(2, 2, 6, dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert (weights >= 0).all()


def test_the_bias_depends_on_the_offset_between_two_positions_alone():
    # (heads, H, W, H, W)
    bias = RelativePositionBias((3, 4), heads=2)().unflatten(1, (3, 4)).unflatten(3, (3, 4))
    # both positions moved by (1, 1)
    assert torch.equal(bias[:, :-1, :-1, :-1, :-1], bias[:, 1:, 1:, 1:, 1:])
    assert not torch.equal(bias, bias.permute(0, 3, 4, 1, 2))  # w_{i-j} is not w_{j-i}


@pytest.mark.parametrize(
    "option, value",
    [("stack", "CCXT"), ("stack", "CCT"), ("rel_bias", "beside"), ("attn_layer", "eca")],
)
def test_an_unknown_option_is_refused_by_name(option, value):
    with pytest.raises(ValueError, match=rf'{option}="{value}"'):
        timm.create_model("astroformer_pico", **{option: value})


# --- image size ---


@pytest.mark.parametrize("stack", ["CCCT", "CTTT"])
def test_an_image_of_another_size_is_refused_and_both_sizes_named(stack):
    model = timm.create_model("astroformer_pico", img_size=64, stack=stack)
    with pytest.raises(ValueError, match="64x96.*64x64.*set_input_size"):
        model(torch.zeros(1, 3, 64, 96))


def test_an_image_turned_on_its_side_is_refused_where_only_features_are_taken():
    # the number of positions is the same, so the bias table would be applied silently to the wrong
    # offsets
    features = timm.create_model("astroformer_pico", img_size=(64, 96), features_only=True)
    with pytest.raises(ValueError, match=r"\(6, 4\).*\(4, 6\)"):
        features(torch.zeros(1, 3, 96, 64))


@pytest.mark.parametrize("name, multiple", [("astroformer_0", 32), ("astroformer_pico", 16)])
@pytest.mark.parametrize("size", [100, (64, 100), (100, 64), 0])
def test_a_size_that_the_strides_do_not_divide_is_refused_with_the_multiple(name, multiple, size):
    message = f"{'x'.join(map(str, height_width(size)))} is not a multiple of {multiple}"
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        timm.create_model(name, img_size=size)
    with torch.device("meta"):
        model = timm.create_model(name, img_size=64)
    with pytest.raises(ValueError, match=message):
        model.set_input_size(size)
    assert model.img_size == (64, 64)


def test_setting_the_present_size_changes_nothing():
    model = timm.create_model("astroformer_pico", img_size=64, stack="CTTT")
    before = dict(model.named_parameters())
    copies = {name: parameter.clone() for name, parameter in before.items()}
    model.set_input_size(64)
    for name, parameter in model.named_parameters():
        assert parameter is before[name]  # an optimizer's references stay valid
        assert torch.equal(parameter, copies[name])


@pytest.mark.parametrize(
    "old, new",
    [(64, 128), (128, 64), (64, (32, 96)), ((64, 32), (32, 64))],
    ids=["larger", "smaller", "to a rectangle", "turned"],
)
@pytest.mark.parametrize("rel_bias", ["inside", "outside"])
def test_after_set_input_size_the_network_is_one_built_for_that_size(old, new, rel_bias):
    kwargs = dict(num_classes=10, stack="CCTT", rel_bias=rel_bias)
    torch.manual_seed(0)
    model = timm.create_model("astroformer_pico", img_size=old, **kwargs).eval()
    roughen(model)
    model.set_input_size(new)
    fresh = timm.create_model("astroformer_pico", img_size=new, **kwargs).eval()
    fresh.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, *height_width(new))
    torch.testing.assert_close(model(images), fresh(images), rtol=0, atol=0)
    assert (
        model.pretrained_cfg["input_size"]
        == fresh.pretrained_cfg["input_size"]
        == (3, *height_width(new))
    )
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, *height_width(new))
    # newer timm's account of the same, which its exports use
    if hasattr(timm.models, "get_model_input_config"):
        assert timm.models.get_model_input_config(model)["input_size"] == (3, *height_width(new))


def test_resized_bias_tables_are_still_trained():
    model = timm.create_model("astroformer_pico", img_size=64)
    model.set_input_size(32)
    model(torch.randn(2, 3, 32, 32)).logsumexp(1).sum().backward()
    tables = [
        parameter for name, parameter in model.named_parameters() if name in model.no_weight_decay()
    ]
    assert tables and all(table.grad.abs().max() > 0 for table in tables)


GRIDS = [
    ((2, 2), (4, 4)),
    ((4, 4), (2, 2)),
    ((2, 2), (3, 5)),
    ((3, 5), (1, 4)),
    ((4, 4), (1, 1)),
    ((1, 1), (3, 2)),
]


@pytest.mark.parametrize("old, new", GRIDS)
def test_interpolation_keeps_a_constant_table_constant(old, new):
    # (offsets, heads)
    table = torch.tensor([[0.5, -2.0]]).repeat((2 * old[0] - 1) * (2 * old[1] - 1), 1)
    resized = resize_bias_table(table, old, new)
    assert resized.shape == ((2 * new[0] - 1) * (2 * new[1] - 1), 2)
    torch.testing.assert_close(resized, torch.tensor([[0.5, -2.0]]).expand_as(resized))


@pytest.mark.parametrize("old, new", GRIDS)
def test_interpolation_keeps_zero_offset_in_the_middle(old, new):
    # a table that grows linearly with the offset and has 7 at offset zero: so must the resized one
    dy, dx = torch.meshgrid(
        torch.arange(1 - old[0], old[0]), torch.arange(1 - old[1], old[1]), indexing="ij"
    )
    resized = resize_bias_table((7.0 + 3 * dy + dx).reshape(-1, 1), old, new).reshape(
        2 * new[0] - 1, 2 * new[1] - 1
    )
    torch.testing.assert_close(resized[new[0] - 1, new[1] - 1], torch.tensor(7.0))
    # odd about the middle
    torch.testing.assert_close(resized + resized.flip(0, 1), torch.full_like(resized, 14.0))
    for axis in (0, 1):
        if old[axis] > 1:
            assert (resized.diff(dim=axis) > 0).all()


@pytest.mark.parametrize("old, new", [(64, 128), (128, (64, 32))], ids=["larger", "to a rectangle"])
def test_a_checkpoint_of_another_size_loads_through_timm_with_interpolated_tables(
    old, new, tmp_path
):
    torch.manual_seed(0)
    trained = timm.create_model("astroformer_pico", img_size=old, num_classes=10, stack="CCTT")
    roughen(trained)
    torch.save(trained.state_dict(), tmp_path / "checkpoint.pth")
    loaded = timm.create_model(
        "astroformer_pico",
        img_size=new,
        num_classes=10,
        stack="CCTT",
        pretrained=True,
        pretrained_cfg_overlay=dict(file=str(tmp_path / "checkpoint.pth"), num_classes=10),
    )
    trained.set_input_size(new)
    for name, value in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_a_checkpoint_of_a_rectangular_size_names_the_way_out():
    trained = timm.create_model("astroformer_pico", img_size=(64, 96))
    with pytest.raises(ValueError, match="set_input_size"):
        checkpoint_filter_fn(
            trained.state_dict(), timm.create_model("astroformer_pico", img_size=64)
        )
