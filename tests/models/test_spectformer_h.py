"""The hierarchical SpectFormer is the released network: counts, names, stages and residual
connections; its auxiliary classifier of token labels trains and evaluates as published; its filters
follow the image size.
"""

import math

import pytest
import timm
import torch
import torch.nn.functional as F

import astroformer  # noqa: F401  (registers the networks)
from astroformer.models import spectformer_h
from astroformer.models.spectformer import SpectralGate
from astroformer.models.spectformer_h import (
    VARIANTS,
    Attention,
    SpectFormerH,
    checkpoint_filter_fn,
    draw_box,
    swap_box,
    token_label_loss,
)

# Parameters of the released networks at 224 pixels with 1000 classes, in millions: with the
# auxiliary classifier and without.
RELEASED_MILLIONS = {
    "spectformer_h_s": ("22.227", "21.778"),
    "spectformer_h_b": ("33.053", "32.540"),
    "spectformer_h_l": ("54.676", "54.163"),
}


def on_meta(name: str, **kwargs) -> SpectFormerH:
    with torch.device("meta"):
        return timm.create_model(name, **kwargs)


def small(**kwargs) -> SpectFormerH:
    """One block a stage, away from every initial 0 and 1; 2 x 2 positions in the last stage."""
    torch.manual_seed(0)
    model = SpectFormerH(
        **dict(
            dict(
                stem_width=4,
                dims=(8, 8, 16, 16),
                depths=(1, 1, 1, 1),
                num_heads=(2, 2, 2, 2),
                img_size=64,
                num_classes=5,
            ),
            **kwargs,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def box_of(monkeypatch, box: tuple[int, int, int, int]) -> None:
    monkeypatch.setattr(spectformer_h, "draw_box", lambda grid_size: box)


# --- the released network ---


@pytest.mark.parametrize("name", RELEASED_MILLIONS)
def test_parameter_counts_are_the_released_ones_with_and_without_the_auxiliary_classifier(name):
    counts = [
        sum(parameter.numel() for parameter in on_meta(name, token_label=on).parameters())
        for on in (True, False)
    ]
    assert tuple(f"{count / 1e6:.3f}" for count in counts) == RELEASED_MILLIONS[name]
    assert counts[0] - counts[1] == 1000 * (VARIANTS[name]["dims"][-1] + 1)  # one more linear layer


@pytest.mark.parametrize("name", VARIANTS)
def test_two_stages_are_spectral_and_two_attention_with_the_released_depths_widths_and_names(name):
    model, sizes = on_meta(name), VARIANTS[name]
    for i, (dim, depth, heads) in enumerate(
        zip(sizes["dims"], sizes["depths"], sizes["num_heads"])
    ):
        blocks, side = model.get_submodule(f"block{i + 1}"), 56 // 2**i
        assert len(blocks) == depth
        for block in blocks:
            assert (
                block.mlp.fc1.out_features == (8, 8, 4, 4)[i] * dim
                and block.mlp.dwconv.dwconv.groups == (8, 8, 4, 4)[i] * dim
            )
            if i < 2:
                assert isinstance(block.attn, SpectralGate) and block.attn.complex_weight.shape == (
                    side,
                    side // 2 + 1,
                    dim,
                    2,
                )
            else:
                assert isinstance(block.attn, Attention) and block.attn.num_heads == heads
    names = set(model.state_dict())
    assert {
        "patch_embed1.conv.0.weight",
        "patch_embed1.proj.bias",
        "patch_embed2.norm.weight",
        "block1.0.attn.complex_weight",
        "block2.3.mlp.dwconv.dwconv.weight",
        "block3.0.attn.kv.bias",
        "norm1.weight",
        "norm4.bias",
        "head.weight",
        "post_network.0.attn.q.weight",
        "post_network.0.mlp.fc2.bias",
    } <= names
    assert set(on_meta(name, token_label=True).state_dict()) - names == {
        "aux_head.weight",
        "aux_head.bias",
    }


def test_a_fresh_network_is_drawn_from_the_released_distributions():
    torch.manual_seed(0)
    model = SpectFormerH(32, (32, 32, 64, 64), (1, 1, 1, 1), (1, 1, 1, 1), img_size=64)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            gain = name.endswith("weight")  # of LayerNorm and BatchNorm
            assert torch.equal(parameter, torch.full_like(parameter, gain)), name
            continue
        spread = 0.02
        if parameter.ndim == 4 and "complex_weight" not in name:
            owner = model.get_submodule(name.rpartition(".")[0])
            spread = math.sqrt(
                2 / (owner.out_channels * math.prod(owner.kernel_size) / owner.groups)
            )
        assert abs(parameter.std() - spread) < 6 * spread / math.sqrt(parameter.numel()), name
        assert abs(parameter.mean()) < 6 * spread / math.sqrt(parameter.numel()), name


def test_stochastic_depth_grows_linearly_over_the_blocks_of_all_stages():
    model = on_meta("spectformer_h_s", drop_path_rate=0.3)
    blocks = [block for i in range(4) for block in model.get_submodule(f"block{i + 1}")]
    assert [block.drop_path1.drop_prob for block in blocks] == pytest.approx(
        [0.02 * i for i in range(16)]
    )
    assert [block.drop_path2.drop_prob for block in blocks] == pytest.approx(
        [0.02 * i for i in range(16)]
    )


@pytest.mark.parametrize("block", ["block1", "block3"], ids=["spectral", "attention"])
@torch.no_grad()
def test_a_spectral_block_here_has_two_residual_connections_as_an_attention_block(block):
    block = small().double().get_submodule(block)[0]
    dim = block.norm1.normalized_shape[0]
    x = torch.randn(2, *(getattr(block.attn, "grid_size", (4, 4))), dim, dtype=torch.float64)
    halfway = x + block.attn(block.norm1(x))
    torch.testing.assert_close(
        block(x), halfway + block.mlp(block.norm2(halfway)), rtol=0, atol=1e-12
    )


@torch.no_grad()
def test_attention_and_class_attention_are_the_softmax_of_scaled_products():
    model, tokens = small().double(), torch.randn(1, 16, 16, dtype=torch.float64)

    def formula(layer, queries):
        query = (queries @ layer.q.weight.T + layer.q.bias)[0]
        key, value = (tokens @ layer.kv.weight.T + layer.kv.bias)[0].split(16, dim=1)  # (N, C) each
        heads = [
            (query[:, head] @ key[:, head].T / math.sqrt(8)).softmax(1) @ value[:, head]
            for head in (slice(0, 8), slice(8, 16))
        ]
        return torch.cat(heads, dim=1) @ layer.proj.weight.T + layer.proj.bias

    attention, class_attention = model.block3[0].attn, model.post_network[0].attn
    mixed = attention(tokens.unflatten(1, (4, 4))).flatten(1, 2)[0]
    torch.testing.assert_close(mixed, formula(attention, tokens), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        class_attention(tokens)[0], formula(class_attention, tokens[:, :1]), rtol=0, atol=1e-12
    )


@torch.no_grad()
def test_the_class_token_starts_as_the_mean_and_the_class_block_leaves_the_positions_as_they_are():
    model, images = small().eval(), torch.randn(2, 3, 64, 64)
    features = model.forward_features(images)
    positions = features.flatten(1, 2)  # (B, N, C), before the norm
    tokens = model.tokens(features)
    torch.testing.assert_close(tokens[:, 1:], model.norm4(positions), rtol=0, atol=1e-5)
    block = model.post_network[0]
    for layer in (block.attn.proj, block.mlp.fc2):
        layer.weight.zero_(), layer.bias.zero_()
    torch.testing.assert_close(
        model.tokens(features)[:, 0], model.norm4(positions.mean(1)), rtol=0, atol=1e-5
    )


@torch.no_grad()
def test_without_pooling_the_head_sees_every_position_after_the_norm_and_no_class_token():
    model, images = small().eval(), torch.randn(2, 3, 64, 64)
    features = model.forward_features(images)
    model.global_pool = ""
    assert torch.equal(model(images), model.head(model.norm4(features)))
    assert torch.equal(model.forward_head(features, pre_logits=True), model.norm4(features))


def test_every_parameter_receives_a_gradient_and_a_state_dict_comes_back_as_it_was():
    model, images = small(), torch.randn(4, 3, 64, 64)
    F.cross_entropy(model(images), torch.arange(4)).backward()
    assert all(
        parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.parameters()
    )
    other = small()
    other.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})
    assert torch.equal(other.eval()(images), model.eval()(images))


@torch.no_grad()
def test_in_evaluation_an_images_logits_do_not_depend_on_its_batch():
    for token_label in (False, True):
        model, images = (
            small(drop_rate=0.5, drop_path_rate=0.5, token_label=token_label).eval(),
            torch.randn(3, 3, 64, 64),
        )
        torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=0, atol=1e-5)


@torch.no_grad()
def test_gates_stay_in_float32_under_autocast():
    model, seen = small(), []
    for block in (model.block1[0], model.block2[0]):
        block.attn.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.randn(2, 3, 64, 64))
    assert seen == [torch.float32, torch.float32]


# --- token labels ---


@torch.no_grad()
def test_without_the_option_there_is_no_auxiliary_classifier_and_training_returns_logits():
    model = small()
    assert model.aux_head is None and not any("aux" in name for name in model.state_dict())
    assert (
        model.train()(torch.randn(2, 3, 64, 64)).shape
        == model.eval()(torch.randn(2, 3, 64, 64)).shape
        == (2, 5)
    )


@torch.no_grad()
def test_evaluation_adds_half_the_largest_token_logits_to_the_class_tokens():
    model, images = small(token_label=True).eval(), torch.randn(2, 3, 64, 64)
    features = model.forward_features(images)
    tokens = model.tokens(features)
    # (N, B, classes)
    of_positions = torch.stack([model.aux_head(tokens[:, i]) for i in range(1, 5)])
    assert torch.allclose(
        model(images), model.head(tokens[:, 0]) + 0.5 * of_positions.amax(0), rtol=0, atol=1e-6
    )
    assert torch.equal(model(images), model.forward_head(features))
    assert torch.equal(model.forward_head(features, pre_logits=True), tokens[:, 0])


@torch.no_grad()
def test_a_training_pass_returns_logits_of_the_image_of_each_position_and_the_box(monkeypatch):
    # 2 x 3 positions in the last stage
    model, images = small(token_label=True, img_size=(64, 96)), torch.randn(2, 3, 64, 96)
    model.patch_embed1.eval()  # BatchNorm: the same stem in both passes
    box_of(monkeypatch, (0, 0, 0, 0))
    logits, token_logits, box = model(images)
    assert logits.shape == (2, 5) and token_logits.shape == (2, 6, 5) and box == (0, 0, 0, 0)
    tokens = model.tokens(model.forward_features(images))
    assert torch.equal(logits, model.head(tokens[:, 0])) and torch.equal(
        token_logits, model.aux_head(tokens[:, 1:])
    )

    # the whole map: each image's map is the other's, its positions' logits come back
    box_of(monkeypatch, (0, 0, 2, 3))
    swapped, returned, _ = model(images)
    assert torch.equal(swapped, logits.flip(0))
    assert torch.equal(returned, token_logits)

    seen = []
    model.block1[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    box_of(monkeypatch, (1, 1, 2, 3))  # in the first stage, eight times finer
    model(images)
    embedded = model.embed(images)  # (2, 16, 24, 8)
    expected = embedded.clone()
    expected[:, 8:16, 8:24] = embedded.flip(0)[:, 8:16, 8:24]
    assert torch.equal(seen[0], expected)


def test_swapping_a_box_twice_changes_nothing_and_once_keeps_the_outside():
    x = torch.randn(3, 4, 5, 2)
    once = swap_box(x, (1, 2, 3, 5))
    assert torch.equal(swap_box(once, (1, 2, 3, 5)), x)
    assert torch.equal(once[:, 1:3, 2:5], x.flip(0)[:, 1:3, 2:5])
    assert torch.equal(once[:, :, :2], x[:, :, :2]) and torch.equal(once[:, 3:], x[:, 3:])


def test_boxes_lie_on_the_grid_follow_the_seed_and_have_every_size():
    torch.manual_seed(0)
    boxes = [draw_box((7, 14)) for _ in range(2000)]
    for top, left, bottom, right in boxes:
        assert 0 <= top <= bottom <= 7 and 0 <= left <= right <= 14
        assert all(isinstance(edge, int) for edge in (top, left, bottom, right))
    shares = torch.tensor(
        [(bottom - top) * (right - left) / 98 for top, left, bottom, right in boxes]
    )
    # half a side is rounded down, as in the release
    assert shares.min() == 0 and shares.max() == pytest.approx(6 * 12 / 98)
    # one half before edges are rounded and what lies outside is cut off
    assert 0.1 < shares.mean() < 0.4
    torch.manual_seed(0)
    assert [draw_box((7, 14)) for _ in range(20)] == boxes[:20]


def test_the_loss_weighs_both_images_of_a_map_by_area_and_each_position_by_its_own_label():
    torch.manual_seed(0)
    logits, token_logits = torch.randn(2, 5), torch.randn(2, 4, 5)
    target = F.one_hot(torch.tensor([1, 3]), 5).float()

    def cross_entropy(logits, label):
        return -logits.log_softmax(-1)[label]

    outputs = (logits, token_logits, (0, 1, 1, 2))  # one position of four
    of_class = [
        0.75 * cross_entropy(logits[0], 1) + 0.25 * cross_entropy(logits[0], 3),
        0.75 * cross_entropy(logits[1], 3) + 0.25 * cross_entropy(logits[1], 1),
    ]
    own = [
        cross_entropy(token_logits[i, n], label) for i, label in enumerate((1, 3)) for n in range(4)
    ]
    expected = sum(of_class) / 2 + 0.5 * sum(own) / 8
    torch.testing.assert_close(token_label_loss(outputs, target), expected)

    labels = torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])
    taught = [cross_entropy(token_logits[i, n], labels[i, n]) for i in range(2) for n in range(4)]
    expected = sum(of_class) / 2 + 0.25 * sum(taught) / 8
    torch.testing.assert_close(
        token_label_loss(outputs, target, F.one_hot(labels, 5).float(), token_weight=0.25), expected
    )
    with pytest.raises(ValueError, match="one_hot"):
        token_label_loss(outputs, torch.tensor([1, 3]))


def test_with_token_labels_every_parameter_learns_and_the_loss_falls():
    model, images, target = small(token_label=True), torch.randn(4, 3, 64, 64), torch.eye(5)[:4]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(40):
        loss = token_label_loss(model.train()(images), target)
        optimizer.zero_grad(), loss.backward()
        if step == 0:
            assert all(
                parameter.grad.isfinite().all() and parameter.grad.any()
                for parameter in model.parameters()
            )
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_replaced_classifier_comes_with_its_auxiliary_one():
    model = small(token_label=True)
    model.reset_classifier(3)
    logits, token_logits, _ = model(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 3) and token_logits.shape == (2, 4, 3)
    model.reset_classifier(0)
    assert model.aux_head is None and model(torch.randn(2, 3, 64, 64)).shape == (2, 16)


# --- image size and checkpoints ---


@pytest.mark.parametrize(
    "old, new",
    [(64, 96), (96, 64), (64, (32, 96)), ((64, 96), (96, 64))],
    ids=["larger", "smaller", "to a rectangle", "turned"],
)
def test_set_input_size_and_loading_a_checkpoint_make_the_same_network(old, new):
    trained, fresh = (
        small(img_size=old, token_label=True).eval(),
        small(img_size=new, token_label=True).eval(),
    )
    fresh.load_state_dict(checkpoint_filter_fn(trained.state_dict(), fresh))
    trained.set_input_size(new)
    images = torch.randn(2, 3, *((new, new) if isinstance(new, int) else new))
    assert torch.equal(trained(images), fresh(images))


def test_a_checkpoint_with_an_auxiliary_classifier_loads_into_a_network_without(tmp_path):
    options = dict(
        stem_width=4,
        dims=(8, 8, 16, 16),
        depths=(1, 1, 1, 1),
        num_heads=(2, 2, 2, 2),
        num_classes=5,
    )
    trained = timm.create_model("spectformer_h_s", img_size=64, token_label=True, **options)
    torch.save(trained.state_dict(), tmp_path / "checkpoint.pth")
    model = timm.create_model(
        "spectformer_h_s",
        img_size=96,
        **options,
        pretrained=True,
        pretrained_cfg_overlay=dict(file=str(tmp_path / "checkpoint.pth"), num_classes=5),
    )
    assert torch.equal(model.head.weight, trained.head.weight)
    assert model(torch.randn(2, 3, 96, 96)).shape == (2, 5)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 96, 96)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(img_size=48), "48x48 is not a multiple of 32 .*resize or pad"),
        (dict(img_size=0), "0x0 is not a multiple of 32"),
        (
            dict(num_heads=(2, 2, 3, 2)),
            "num_heads=3 does not divide the width 16; choose a divisor such as 2",
        ),
        (dict(global_pool="avg"), 'global_pool="avg".*"token"'),
        (dict(depths=(1, 1, 1)), "need 4 numbers each, one for a stage, not 4, 3 and 4"),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused_with_the_way_out(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_an_image_of_another_size_is_refused_and_both_sizes_named():
    with pytest.raises(ValueError, match="64x96.*64x64.*set_input_size"):
        small()(torch.zeros(1, 3, 64, 96))


@torch.no_grad()
def test_a_pruned_network_returns_the_same_maps_and_keeps_no_later_stage():
    model, images = small(token_label=True).eval(), torch.randn(2, 3, 64, 64)
    expected = model.forward_intermediates(images, [0, 1], intermediates_only=True)
    assert model.prune_intermediate_layers([0, 1]) == [0, 1]
    for found, wanted in zip(
        model.forward_intermediates(images, [0, 1], intermediates_only=True), expected
    ):
        assert torch.equal(found, wanted)
    assert not any(
        name.startswith(("patch_embed3", "block3", "norm4", "post_network", "head", "aux_head"))
        for name in model.state_dict()
    )
