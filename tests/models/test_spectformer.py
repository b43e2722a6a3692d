"""The vanilla SpectFormer is the released network: names, shapes, counts, initialisation, asymmetry
of residual connections; its gate is a circular convolution in full precision; its filters and
position embeddings follow the image size.
"""

import math

import pytest
import timm
import torch
from scipy.signal import resample

import astroformer  # noqa: F401  (registers the networks)
from astroformer.models.spectformer import (
    VARIANTS,
    AttentionBlock,
    SpectFormer,
    SpectralBlock,
    SpectralGate,
    checkpoint_filter_fn,
    kernel_of,
    resize_filter,
)

# Parameters of the released networks at 224 pixels with 1000 classes.
RELEASED_PARAMETERS = {
    "spectformer_ti": 9_158_376,
    "spectformer_xs": 20_028_520,
    "spectformer_s": 32_449_768,
    "spectformer_b": 57_159_656,
}


def on_meta(name: str, **kwargs) -> SpectFormer:
    with torch.device("meta"):
        return timm.create_model(name, **kwargs)


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def small(**kwargs) -> SpectFormer:
    """Two spectral and two attention blocks of width 16 on an 8 x 8 grid, away from every
    initial 0 and 1.
    """
    torch.manual_seed(0)
    model = SpectFormer(
        **dict(
            dict(
                embed_dim=16,
                depth=4,
                num_heads=2,
                spectral_blocks=2,
                patch_size=4,
                img_size=32,
                num_classes=5,
            ),
            **kwargs,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def gate(grid_size: tuple[int, int], dim: int = 3) -> SpectralGate:
    """A gate in float64 whose gains are of order one."""
    torch.manual_seed(0)
    module = SpectralGate(dim, grid_size).double()
    torch.nn.init.normal_(module.complex_weight)
    return module


# --- the released network ---


def test_state_dicts_have_the_released_names_shapes_and_order(released_state_dicts):
    for name in ("spectformer_xs", "spectformer_s"):
        found = [
            [key, list(value.shape)]
            for key, value in on_meta(name, img_size=224).state_dict().items()
        ]
        assert found == released_state_dicts[f"{name}@224px/1000classes"], name


@pytest.mark.parametrize("name", RELEASED_PARAMETERS)
def test_parameter_counts_are_the_released_ones(name):
    assert parameters(on_meta(name)) == RELEASED_PARAMETERS[name]


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(),
        dict(img_size=32, patch_size=4, num_classes=10),
        dict(spectral_blocks=0),
        dict(spectral_blocks=12, num_classes=7),
        dict(img_size=(96, 160), in_chans=5),
    ],
    ids=str,
)
def test_parameter_counts_are_the_closed_formula(kwargs):
    sizes = VARIANTS["spectformer_xs"]
    c, depth = sizes["embed_dim"], sizes["depth"]
    options = dict(
        dict(img_size=224, patch_size=16, num_classes=1000, in_chans=3, spectral_blocks=4), **kwargs
    )
    height, width = (n // options["patch_size"] for n in timm.layers.to_2tuple(options["img_size"]))
    norms_and_mlp = 2 * 2 * c + (c * 4 * c + 4 * c) + (4 * c * c + c)
    spectral = norms_and_mlp + height * (width // 2 + 1) * c * 2
    attention = norms_and_mlp + (c * 3 * c + 3 * c) + (c * c + c)
    expected = (
        options["in_chans"] * options["patch_size"] ** 2 * c
        + c  # patches
        + height * width * c  # position embeddings
        + options["spectral_blocks"] * spectral
        + (depth - options["spectral_blocks"]) * attention
        # last norm, classifier
        + 2 * c
        + c * options["num_classes"]
        + options["num_classes"]
    )
    assert parameters(on_meta("spectformer_xs", **kwargs)) == expected


def test_a_fresh_network_is_drawn_from_the_released_distributions():
    torch.manual_seed(0)
    model = SpectFormer(256, 2, num_heads=4, spectral_blocks=1)
    for name, parameter in model.named_parameters():
        if name.startswith("patch_embed"):
            continue  # PyTorch's own
        if parameter.ndim > 1:
            assert abs(parameter.std() - 0.02) < 6 * 0.02 / math.sqrt(parameter.numel()), name
            assert abs(parameter.mean()) < 6 * 0.02 / math.sqrt(parameter.numel()), name
        else:
            assert torch.equal(
                parameter, torch.full_like(parameter, "norm" in name and name.endswith("weight"))
            ), name


def test_the_first_blocks_are_spectral_and_how_many_is_an_option():
    for blocks in (0, 1, 4, 12):
        kinds = [type(block) for block in on_meta("spectformer_ti", spectral_blocks=blocks).blocks]
        assert kinds == blocks * [SpectralBlock] + (12 - blocks) * [AttentionBlock]
    assert [type(block) for block in on_meta("spectformer_b").blocks] == 4 * [
        SpectralBlock
    ] + 15 * [AttentionBlock]


@pytest.mark.parametrize(
    "name, heads",
    [("spectformer_ti", 4), ("spectformer_xs", 6), ("spectformer_s", 6), ("spectformer_b", 8)],
)
def test_heads_are_six_as_released_and_64_channels_wide_where_six_do_not_divide(name, heads):
    model = on_meta(name)
    assert {block.attn.num_heads for block in model.blocks[4:]} == {heads}
    assert model.embed_dim == 64 * heads
    assert on_meta(name, num_heads=2).blocks[-1].attn.num_heads == 2


def test_stochastic_depth_grows_linearly_over_the_blocks():
    model = on_meta("spectformer_xs", drop_path_rate=0.22)
    spectral = [block.drop_path.drop_prob for block in model.blocks[:4]]
    attention = [
        (block.drop_path1.drop_prob, block.drop_path2.drop_prob) for block in model.blocks[4:]
    ]
    assert spectral == pytest.approx([0.02 * i for i in range(4)])
    assert attention == [pytest.approx((0.02 * i, 0.02 * i)) for i in range(4, 12)]


# --- the asymmetry of residual connections ---


@torch.no_grad()
def test_a_spectral_block_has_one_residual_connection_and_an_attention_block_two():
    model, x = small().double(), torch.randn(2, 8, 8, 16, dtype=torch.float64)
    spectral, attention = model.blocks[0], model.blocks[-1]

    whole = x + spectral.mlp(spectral.norm2(spectral.filter(spectral.norm1(x))))
    torch.testing.assert_close(spectral(x), whole, rtol=0, atol=1e-12)
    halfway = x + attention.attn(attention.norm1(x))
    torch.testing.assert_close(
        attention(x), halfway + attention.mlp(attention.norm2(halfway)), rtol=0, atol=1e-12
    )


@torch.no_grad()
def test_without_its_filter_a_spectral_block_adds_a_constant_and_its_mlp_reads_the_input():
    model, x = small().double(), torch.randn(2, 8, 8, 16, dtype=torch.float64)
    spectral, attention = model.blocks[0], model.blocks[-1]

    spectral.filter.complex_weight.zero_()
    # the MLP sees zeros, normalised: the same at every position of every image
    added = spectral(x) - x
    torch.testing.assert_close(added, added[:1, :1, :1].expand_as(added), rtol=0, atol=1e-12)
    attention.attn.proj.weight.zero_(), attention.attn.proj.bias.zero_()
    torch.testing.assert_close(
        attention(x), x + attention.mlp(attention.norm2(x)), rtol=0, atol=1e-12
    )
    assert (attention(x) - x).std((0, 1, 2)).min() > 1e-3

    for block in (spectral, attention):
        block.mlp.fc2.weight.zero_(), block.mlp.fc2.bias.zero_()
        assert torch.equal(block(x), x)


@torch.no_grad()
def test_attention_is_the_softmax_of_scaled_products():
    block, x = small().double().blocks[-1].attn, torch.randn(1, 8, 8, 16, dtype=torch.float64)
    # (N, C) each
    query, key, value = (x.reshape(64, 16) @ block.qkv.weight.T + block.qkv.bias).split(16, dim=1)
    heads = []
    for head in (slice(0, 8), slice(8, 16)):
        products = query[:, head] @ key[:, head].T / math.sqrt(8)
        heads.append(products.softmax(1) @ value[:, head])
    expected = torch.cat(heads, dim=1) @ block.proj.weight.T + block.proj.bias
    torch.testing.assert_close(block(x), expected.reshape(x.shape), rtol=0, atol=1e-12)


# --- the gate ---

GRIDS = [(4, 6), (5, 7), (6, 5), (8, 8), (1, 4), (3, 1)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@torch.no_grad()
def test_the_gate_is_the_circular_convolution_with_its_kernel(grid):
    height, width = grid
    module, x = gate(grid), torch.randn(2, *grid, 3, dtype=torch.float64)
    kernel, expected = module.kernel(), torch.zeros_like(x)
    assert kernel.shape == (*grid, 3)
    for row in range(height):
        for column in range(width):
            for y in range(height):
                for z in range(width):
                    expected[:, row, column] += (
                        kernel[(row - y) % height, (column - z) % width] * x[:, y, z]
                    )
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@torch.no_grad()
def test_the_gate_moves_with_its_input_around_the_torus(grid):
    module, x = gate(grid), torch.randn(2, *grid, 3, dtype=torch.float64)
    for shift in [(0, 1), (1, 0), (2, 3), (-1, 2)]:
        torch.testing.assert_close(
            module(x.roll(shift, (1, 2))), module(x).roll(shift, (1, 2)), rtol=0, atol=1e-13
        )


@torch.no_grad()
def test_without_position_embeddings_attention_and_spectral_blocks_move_with_shifts_of_a_patch():
    model, images = small().double().eval(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    rolled = images.roll((4, 8), (2, 3))  # one patch down, two to the right
    assert not torch.allclose(
        model.forward_features(rolled),
        model.forward_features(images).roll((1, 2), (1, 2)),
        atol=1e-3,
    )
    model.pos_embed.zero_()
    torch.testing.assert_close(
        model.forward_features(rolled),
        model.forward_features(images).roll((1, 2), (1, 2)),
        rtol=0,
        atol=1e-11,
    )


@torch.no_grad()
def test_the_gain_of_a_constant_map_is_the_sum_of_the_kernel():
    module = gate((4, 6))
    torch.testing.assert_close(
        module.kernel().sum((0, 1)), module.complex_weight[0, 0, :, 0], rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        module(torch.ones(1, 4, 6, 3, dtype=torch.float64)),
        module.complex_weight[0, 0, :, 0].expand(1, 4, 6, 3),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_autocast_leaves_the_gate_in_float32(dtype):
    module, x = gate((8, 8)).float(), torch.randn(2, 8, 8, 3)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(module(x), module(x)) and module(x).dtype == torch.float32
        # rounded before, not within
        assert torch.equal(module(x.to(dtype)), gate((8, 8)).float()(x.to(dtype).float()))
    assert torch.equal(module(x.to(dtype)), module(x.to(dtype).float()))


@torch.no_grad()
def test_within_the_network_under_autocast_filters_give_float32_and_linear_layers_bfloat16():
    model, seen = small(), {}
    for name in ("blocks.0.filter", "blocks.0.mlp.fc1"):
        model.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: seen.update({name: output})
        )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.randn(2, 3, 32, 32))
    assert seen["blocks.0.filter"].dtype == torch.float32
    assert seen["blocks.0.mlp.fc1"].dtype == torch.bfloat16
    # not rounded to it either
    assert (seen["blocks.0.filter"].bfloat16().float() != seen["blocks.0.filter"]).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_whole_network_in_another_precision_trains(dtype):
    model = small().to(dtype)
    logits = model(torch.randn(2, 3, 32, 32, dtype=dtype))
    logits.logsumexp(1).sum().backward()
    assert logits.dtype == dtype
    assert all(
        parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.parameters()
    )


def test_a_filter_of_another_grid_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"\(6, 4\).*\(4, 6\).*set_input_size"):
        gate((4, 6))(torch.zeros(1, 6, 4, 3, dtype=torch.float64))


# --- filters of another size ---

CHANGES = [
    ((4, 4), (8, 8)),
    ((4, 6), (7, 9)),
    ((5, 5), (8, 6)),
    ((14, 14), (24, 24)),
    ((5, 7), (9, 7)),
    ((4, 4), (5, 4)),
    ((1, 2), (3, 4)),
]


def resampled(x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(B, H, W, C) on another grid by SciPy's trigonometric interpolation."""
    return torch.from_numpy(resample(resample(x.numpy(), grid[0], axis=1), grid[1], axis=2))


@pytest.mark.parametrize("old, new", CHANGES, ids=str)
@torch.no_grad()
def test_on_a_finer_grid_a_filter_does_to_a_resampled_map_what_it_did_to_the_map(old, new):
    module, x = gate(old), torch.randn(2, *old, 3, dtype=torch.float64)
    before = module(x)
    module.set_grid_size(new)
    assert module.complex_weight.shape == (new[0], new[1] // 2 + 1, 3, 2)
    torch.testing.assert_close(
        module(resampled(x, new)), resampled(before, new), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("new, old", CHANGES, ids=str)
@torch.no_grad()
def test_on_a_coarser_grid_a_filter_does_to_a_smooth_map_what_it_did_on_the_finer(old, new):
    # odd, so without a highest frequency that would be ambiguous
    smooth = [n - 1 - n % 2 if n > 2 else 1 for n in new]
    module, x = gate(old), resampled(torch.randn(2, *smooth, 3, dtype=torch.float64), new)
    before = module(resampled(x, old))
    module.set_grid_size(new)
    torch.testing.assert_close(resampled(module(x), old), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("old, new", CHANGES, ids=str)
def test_to_a_finer_grid_and_back_is_the_same_kernel(old, new):
    weight = gate(old).complex_weight.detach()
    there_and_back = resize_filter(resize_filter(weight, old, new), new, old)
    torch.testing.assert_close(
        kernel_of(there_and_back, old), kernel_of(weight, old), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("old, new", CHANGES + [(b, a) for a, b in CHANGES], ids=str)
def test_resizing_keeps_the_gain_of_a_constant_and_a_filter_that_does_nothing(old, new):
    weight = gate(old).complex_weight.detach()
    torch.testing.assert_close(
        kernel_of(resize_filter(weight, old, new), new).sum((0, 1)),
        kernel_of(weight, old).sum((0, 1)),
        rtol=0,
        atol=1e-12,
    )
    passing = torch.zeros_like(weight)
    passing[..., 0] = 1  # gain one everywhere
    resized = resize_filter(passing, old, new)
    torch.testing.assert_close(
        resized[..., 1], torch.zeros_like(resized[..., 1]), rtol=0, atol=1e-12
    )
    if all(n <= o for o, n in zip(old, new)):  # no frequency is new
        torch.testing.assert_close(
            resized[..., 0], torch.ones_like(resized[..., 0]), rtol=0, atol=1e-12
        )


def test_resizing_to_the_same_size_is_exactly_the_identity():
    weight = gate((4, 6)).complex_weight
    assert resize_filter(weight, (4, 6), (4, 6)) is weight


def test_resizing_keeps_a_filter_symmetric_where_the_released_stretching_does_not():
    random = torch.randn(6, 6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # (6, 4, 1, 2)
    weight = torch.view_as_real(torch.fft.rfft2(random + mirrored(random), dim=(0, 1)))
    resized = kernel_of(resize_filter(weight, (6, 6), (10, 10)), (10, 10))
    torch.testing.assert_close(resized, mirrored(resized), rtol=0, atol=1e-12)

    stored = weight.flatten(2).permute(2, 0, 1)[None]
    stretched = torch.nn.functional.interpolate(
        stored, size=(10, 6), mode="bicubic", align_corners=True
    )[0]
    stretched = kernel_of(stretched.permute(1, 2, 0).unflatten(2, (1, 2)), (10, 10))
    assert (stretched - mirrored(stretched)).abs().max() > 0.1 * stretched.abs().max()


def mirrored(kernel: torch.Tensor) -> torch.Tensor:
    """(H, W, C) upside down, with row 0, offset zero, where it was."""
    return kernel.flip(0).roll(1, 0)


# --- image size ---


def height_width(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


@pytest.mark.parametrize(
    "old, new",
    [(32, 48), (48, 32), (32, (24, 40)), ((32, 48), (48, 32))],
    ids=["larger", "smaller", "to a rectangle", "turned"],
)
def test_set_input_size_and_loading_a_checkpoint_make_the_same_network(old, new):
    trained, fresh = small(img_size=old).eval(), small(img_size=new).eval()
    fresh.load_state_dict(checkpoint_filter_fn(trained.state_dict(), fresh))
    trained.set_input_size(new)
    images = torch.randn(2, 3, *height_width(new))
    assert torch.equal(trained(images), fresh(images))
    for name, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name


def test_setting_the_present_size_changes_nothing():
    model = small()
    before = dict(model.named_parameters())
    model.set_input_size(32)
    # an optimizer's references stay valid
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_a_network_without_filters_takes_checkpoints_of_square_images_alone():
    trained, model = (
        small(spectral_blocks=0, img_size=(32, 48)),
        small(spectral_blocks=0, img_size=64),
    )
    with pytest.raises(ValueError, match="set_input_size"):
        checkpoint_filter_fn(trained.state_dict(), model)
    model.load_state_dict(checkpoint_filter_fn(small(spectral_blocks=0).state_dict(), model))


def test_a_constant_position_embedding_stays_constant():
    model = small()
    with torch.no_grad():
        model.pos_embed.copy_(torch.arange(16.0))
    model.set_input_size((24, 40))
    torch.testing.assert_close(model.pos_embed, torch.arange(16.0).expand(1, 60, 16))


def test_fine_tuning_at_384_pixels_from_224_starts_where_training_ended_and_learns(tmp_path):
    options = dict(embed_dim=32, depth=3, num_heads=2, spectral_blocks=2, num_classes=3)
    torch.manual_seed(0)
    trained = timm.create_model("spectformer_ti", img_size=224, **options)
    torch.save(trained.state_dict(), tmp_path / "checkpoint.pth")
    model = timm.create_model(
        "spectformer_ti",
        img_size=384,
        **options,
        pretrained=True,
        pretrained_cfg_overlay=dict(file=str(tmp_path / "checkpoint.pth"), num_classes=3),
    )
    assert model.blocks[0].filter.complex_weight.shape == (
        24,
        13,
        32,
        2,
    ) and model.pos_embed.shape == (1, 24 * 24, 32)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 384, 384)
    assert torch.equal(model.blocks[2].attn.qkv.weight, trained.blocks[2].attn.qkv.weight)

    images, labels = torch.randn(3, 3, 384, 384), torch.arange(3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    # a frequency that 224 pixels do not have: it had gain zero
    gains = model.blocks[0].filter.complex_weight[12, 12]
    assert gains.abs().max() > 0


def test_images_of_32_pixels_run_with_patches_of_4():
    model = on_meta("spectformer_xs", img_size=32, patch_size=4, num_classes=10)
    assert model.grid_size == (8, 8) and model.blocks[0].filter.complex_weight.shape == (
        8,
        5,
        384,
        2,
    )
    assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(img_size=30), "30x30 is not a multiple of 4 .*patch_size"),
        (dict(img_size=(32, 30)), "32x30 is not a multiple of 4"),
        (dict(img_size=0), "0x0 is not a multiple of 4"),
        (dict(num_heads=6), "num_heads=6 does not divide the width 16; choose a divisor such as 4"),
        (dict(num_heads=0), "num_heads=0 does not divide the width 16; choose a divisor such as 1"),
        (dict(spectral_blocks=5), "spectral_blocks=5 .* choose 0 to 4"),
        (dict(spectral_blocks=-1), "spectral_blocks=-1"),
        (dict(global_pool="max"), 'global_pool="max".*"avg"'),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused_with_the_way_out(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_an_image_of_another_size_is_refused_and_both_sizes_named():
    with pytest.raises(ValueError, match="32x48.*32x32.*set_input_size"):
        small()(torch.zeros(1, 3, 32, 48))
    model = small()
    with pytest.raises(ValueError, match="is not a multiple of 4"):
        model.set_input_size(30)
    assert model.img_size == (32, 32)


# --- as any network ---


def test_every_parameter_receives_a_gradient_and_a_state_dict_comes_back_as_it_was():
    model, images = small(drop_rate=0.1), torch.randn(4, 3, 32, 32)
    torch.nn.functional.cross_entropy(model(images), torch.arange(4)).backward()
    assert all(
        parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.parameters()
    )
    other = small(num_classes=5)
    other.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})
    assert torch.equal(other.eval()(images), model.eval()(images))


@torch.no_grad()
def test_in_evaluation_an_images_logits_do_not_depend_on_its_batch():
    model, images = small(drop_rate=0.5, drop_path_rate=0.5).eval(), torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=0, atol=1e-6)


@torch.no_grad()
def test_intermediate_maps_end_in_the_features_and_a_pruned_network_returns_the_same_ones():
    model, images = small().eval(), torch.randn(2, 3, 32, 32)
    features, maps = model.forward_intermediates(images, norm=True)
    assert torch.equal(features, model.forward_features(images))
    assert torch.equal(maps[-1].permute(0, 2, 3, 1), features)
    expected = model.forward_intermediates(images, [0, -2], intermediates_only=True)
    assert model.prune_intermediate_layers([0, -2]) == [0, 2] and len(model.blocks) == 3
    for found, wanted in zip(
        model.forward_intermediates(images, [0, 2], intermediates_only=True), expected
    ):
        assert torch.equal(found, wanted)
