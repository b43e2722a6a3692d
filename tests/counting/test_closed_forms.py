"""Closed forms are held to the networks themselves, built on the meta device, and to counts that
the releases print.
"""

import random

import pytest
import timm
import torch

from astroformer.audit.candidates import Block, Space, build, counted
from astroformer.counting import closed_forms
from astroformer.counting.cost import count_macs, count_params, network_cost
from astroformer.models import MODELS
from astroformer.models.astroformer import VARIANTS


def test_an_inverted_residual_in_numbers():
    # 8 -> 16 channels, 8x8 -> 4x4 positions: 64*8*64 + 16*9*64 + 2*64*4 + 16*64*16 + 16*8*16
    block = closed_forms.mbconv(8, 16, 8, stride=2)
    assert block.linear == 32_768 + 9_216 + 512 + 16_384 + 2_048 and block.attention == 0
    # norms 2*8 + 2*64 + 2*64; 1x1 8*64; 3x3 9*64; gate 64*4 + 4 + 4*64 + 64; 1x1 64*16 + 16;
    # shortcut 8*16 + 16
    assert block.params == 272 + 512 + 576 + 580 + 1_040 + 144
    assert block.batch_norm == 64 * 8 + 64 * 64 + 16 * 64


def test_an_attention_block_in_numbers():
    # 32 channels, 4x4 positions: queries, keys, values 32*96, projection 32*32, MLP 2*32*128, each
    # at 16 positions
    block = closed_forms.transformer(32, 32, 4)
    assert block.linear == 16 * (32 * 96 + 32 * 32 + 2 * 32 * 128)
    assert block.attention == 2 * 16 * 16 * 32
    # biases 96 + 32 + 128 + 32; two norms; a table of 7x7 offsets for one head
    assert block.params == 32 * 96 + 32 * 32 + 2 * 32 * 128 + 288 + 128 + 49
    assert block.layer_norm == 2 * 16 * 32


def statistics(model):
    """Numbers of BatchNorm's running means and variances."""
    return sum(buffer.numel() for name, buffer in model.named_buffers() if "running_" in name)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_closed_form_counts_each_astroformer_exactly_with_attention_in_three_stages(name):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=10, img_size=64, stack="CTTT")
    found = closed_forms.coatnet(**VARIANTS[name], image_size=64, num_classes=10, stack="CTTT")
    assert (found.params, found.macs, found.statistics) == (
        count_params(model),
        count_macs(model, 64),
        statistics(model),
    )


@pytest.mark.parametrize(
    "name, size",
    [
        *((name, 224) for name in MODELS),
        ("astroformer_0", 64),
        ("spectformer_ti", 64),
        ("spectformer_h_s", 64),
        ("vit_cifar", 64),
    ],
)
def test_every_released_network_of_the_library_has_a_closed_form(name, size):
    """Of which PyTorch's counter, the trace and its conventions make the same."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=100, img_size=size)
    found, traced = (
        closed_forms.released(name, image_size=size, num_classes=100),
        network_cost(name, image_size=size, num_classes=100),
    )
    assert found["params"] == traced["params"] == count_params(model)
    assert found["conventions"]["macs"] == traced["macs"] == count_macs(model, size)
    for convention, giga in traced["conventions"].items():
        assert found["conventions"][convention] == round(giga * 1e9), convention
    assert closed_forms.released_counts(
        name, image_size=size, num_classes=100
    ).statistics == statistics(model)


def test_the_release_in_numbers():
    # the release's own counts at 224 pixels and 10 classes
    found = [
        closed_forms.released(f"astroformer_{i}", image_size=224, num_classes=10)["params"]
        for i in range(6)
    ]
    assert found == [22_772_282, 37_388_138, 66_367_114, 148_886_986, 241_083_274, 593_551_178]


@pytest.mark.parametrize(
    "name, params",
    [
        ("spectformer_ti", 9_158_376),
        ("spectformer_xs", 20_028_520),
        ("spectformer_s", 32_449_768),
        ("spectformer_b", 57_159_656),
    ],
)
def test_spectformers_have_the_parameters_that_their_logs_print(name, params):
    assert closed_forms.released(name, image_size=224, num_classes=1000)["params"] == params


@pytest.mark.parametrize("name", closed_forms.SPECTFORMER_H)
def test_the_auxiliary_classifier_of_the_hierarchical_spectformers_is_counted_too(name, size=224):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=100, img_size=size, token_label=True)
    found = closed_forms.released_counts(name, image_size=size, num_classes=100, token_label=True)
    assert (found.params, found.macs) == (count_params(model), count_macs(model, size))
    elements = count_norm_elements(model)
    model.eval()(torch.empty(1, 3, size, size, device="meta"))
    assert (found.batch_norm, found.layer_norm) == (elements["BatchNorm"], elements["LayerNorm"])
    assert found.statistics == statistics(model)
    without = closed_forms.released_counts(name, image_size=size, num_classes=100)
    width, positions = closed_forms.SPECTFORMER_H[name][1][-1], (size // 32) ** 2
    assert (found.params - without.params, found.linear - without.linear) == (
        100 * (width + 1),
        100 * width * positions,
    )


def test_only_a_network_that_can_have_an_auxiliary_classifier_is_counted_with_one():
    with pytest.raises(
        ValueError, match="vit_cifar has no auxiliary classifier.*choose one of spectformer_h_s"
    ):
        closed_forms.released("vit_cifar", image_size=32, num_classes=10, token_label=True)


def test_vit_cifar_has_the_parameters_of_the_released_network():
    assert closed_forms.released("vit_cifar", image_size=32, num_classes=10)["params"] == 6_268_810


def test_a_name_without_a_closed_form_is_told_the_names_that_have_one():
    with pytest.raises(KeyError, match="resnet50 has no closed form.*astroformer_5.*vit_cifar"):
        closed_forms.released("resnet50", image_size=224, num_classes=10)


@pytest.mark.parametrize("candidates", [12, pytest.param(50, marks=pytest.mark.slow)])
def test_candidates_drawn_at_random_are_counted_as_timm_builds_them(candidates):
    """Parameters, multiply-adds, and the elements of both norms, of some of the audit's candidates,
    exactly. Of all but six the depths are drawn from the lesser half, since a deep network takes
    long to build.
    """
    space, draw = Space(), random.Random(0)
    by_blocks = sorted(range(len(space.depths)), key=lambda depths: sum(space.depths[depths]))
    for number in range(candidates):
        block = Block(space, draw.choice(space["widths"]), draw.choice(space["image_size"]))
        outer, option = draw.choice(space.outer), draw.randrange(len(space.options))
        depths = draw.choice(by_blocks if number < 6 else by_blocks[: len(by_blocks) // 2])
        configuration = block.configuration(outer, option, depths)
        found, model = counted(configuration), build(configuration)
        elements = count_norm_elements(model)
        assert (found.params, found.macs) == (
            count_params(model),
            count_macs(model, configuration["image_size"]),
        ), configuration
        assert (found.batch_norm, found.layer_norm) == (
            elements["BatchNorm"],
            elements["LayerNorm"],
        ), configuration
        vector = block.body[:, option, depths] + block.around(outer)
        assert vector.tolist() == [
            found.params,
            found.linear,
            found.attention,
            found.batch_norm,
            found.layer_norm,
            found.pooling,
        ]


def count_norm_elements(model):
    """Elements that pass each kind of norm, filled in while the model runs."""
    elements = {"BatchNorm": 0, "LayerNorm": 0}

    def hook(kind):
        def count(module, inputs, output):
            elements[kind] += output.numel()

        return count

    for module in model.modules():
        for kind in elements:
            if kind in type(module).__name__:
                module.register_forward_hook(hook(kind))
    return elements
