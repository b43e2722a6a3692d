"""Costs are what a reader counts by hand from the paper's figure: the arithmetic is written out here."""

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis

from astroformer.analysis.cost import count_macs, count_params, model_cost
from astroformer.models.astroformer import VARIANTS, MBConv, RelativeAttention, TransformerBlock


def mbconv_macs(dim: int, dim_out: int, side: int, *, stride: int) -> int:
    """An inverted residual on a side x side grid, hidden width 4 dim_out, squeeze-excitation width dim_out / 4."""
    out, hidden = side // stride, 4 * dim_out
    return (side * side * dim * hidden                          # 1x1, before the stride
            + out * out * 9 * hidden                            # 3x3, one filter a channel
            + 2 * hidden * (dim_out // 4)                       # squeeze, excite: on one position
            + out * out * hidden * dim_out                      # 1x1
            + (out * out * dim * dim_out if stride == 2 and dim != dim_out else 0))  # shortcut, after the average


def attention_macs(dim: int, dim_out: int, positions: int) -> int:
    return (positions * dim * 3 * dim_out                       # queries, keys, values
            + positions * positions * dim_out                   # q k, over all heads
            + positions * positions * dim_out                   # weights times values
            + positions * dim_out * dim_out)                    # projection


def transformer_macs(dim: int, dim_out: int, side: int, *, stride: int) -> int:
    positions = (side // stride) ** 2
    return (attention_macs(dim, dim_out, positions)
            + 2 * positions * dim_out * 4 * dim_out             # MLP
            + (positions * dim * dim_out if stride == 2 and dim != dim_out else 0))


def astroformer_0_macs(size: int, classes: int, stack: str = "CCCT") -> int:
    side = size // 2
    macs = side * side * 9 * 3 * 64 + side * side * 9 * 64 * 64  # stem
    dim = 64
    for kind, dim_out, depth in zip(stack, (96, 192, 384, 768), (2, 3, 5, 2)):
        block = mbconv_macs if kind == "C" else transformer_macs
        macs += block(dim, dim_out, side, stride=2)
        side, dim = side // 2, dim_out
        macs += (depth - 1) * block(dim, dim, side, stride=1)
    return macs + 768 * 768 + 768 * classes                     # head


@pytest.mark.parametrize("dim, dim_out, stride", [(8, 16, 2), (16, 16, 2), (16, 16, 1)])
def test_an_inverted_residual_costs_what_its_layers_cost(dim, dim_out, stride):
    assert count_macs(MBConv(dim, dim_out, stride=stride), 8, dim) == mbconv_macs(dim, dim_out, 8, stride=stride)


def test_an_inverted_residual_in_numbers():
    # 8 -> 16 channels, 8x8 -> 4x4 positions: 64*8*64 + 16*9*64 + 2*64*4 + 16*64*16 + 16*8*16
    assert count_macs(MBConv(8, 16, stride=2), 8, 8) == 32_768 + 9_216 + 512 + 16_384 + 2_048 == 60_928


@pytest.mark.parametrize("rel_bias", ["inside", "outside", "none"])
def test_attention_costs_four_projections_and_two_products_in_each_form(rel_bias):
    # 12 positions of 32 channels to 64 (2 heads): 12*32*192 + 2*12*12*64 + 12*64*64
    attention = RelativeAttention(32, 64, (3, 4), rel_bias=rel_bias)
    assert count_macs(attention, (3, 4), 32) == 73_728 + 18_432 + 49_152 == attention_macs(32, 64, 12)


@pytest.mark.parametrize("dim, stride", [(32, 2), (64, 2), (64, 1)])
def test_a_transformer_block_costs_what_its_layers_cost(dim, stride):
    block = TransformerBlock(dim, 64, stride=stride, grid_size=(6 // stride, 6 // stride))
    assert count_macs(block, 6, dim) == transformer_macs(dim, 64, 6, stride=stride)


@pytest.mark.parametrize("rel_bias", ["inside", "outside"])
@pytest.mark.parametrize("stack", ["CCCT", "CCTT", "CTTT"])
@pytest.mark.parametrize("size", [64, 224])
def test_astroformer_0_costs_the_sum_of_its_blocks(size, stack, rel_bias):
    cost = model_cost("astroformer_0", image_size=size, num_classes=10, stack=stack, rel_bias=rel_bias)
    assert cost["macs"] == astroformer_0_macs(size, 10, stack)


def test_astroformer_0_at_224_pixels_in_numbers():
    # 22.8 million parameters is the release's count; 3.99 G multiply-adds is the sum above
    assert model_cost("astroformer_0", image_size=224, num_classes=10) == dict(params=22_772_282, macs=3_994_182_144)


def test_another_counter_finds_the_same():
    # fvcore traces the network and counts by its own rules, but has none for fused attention: the two products are added
    model = timm.create_model("astroformer_0", num_classes=10, img_size=64).eval()
    analysis = FlopCountAnalysis(model, torch.zeros(1, 3, 64, 64)).unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False).tracer_warnings("none")
    counted = analysis.by_operator()
    blocks, positions, width = 2, 2 * 2, 768  # S4 of a 64-pixel image
    expected = counted["conv"] + counted["linear"] + counted["matmul"] + blocks * 2 * positions * positions * width
    assert count_macs(model, 64) == expected


@pytest.mark.parametrize("name", VARIANTS)
def test_counting_on_the_meta_device_takes_every_variant(name):
    cost = model_cost(name, image_size=64, num_classes=10)
    assert 0 < cost["params"] and 0 < cost["macs"]
    larger = model_cost(name, image_size=(128, 64), num_classes=10)
    assert larger["macs"] > 1.9 * cost["macs"]  # all but the head and squeeze-excitation goes with the area


def test_counting_leaves_the_model_as_it_was():
    model = timm.create_model("astroformer_pico", num_classes=10, drop_path_rate=0.1).train()
    model.head.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    count_macs(model, 64)
    assert [module.training for module in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert value.device.type == "cpu" and torch.equal(value, before[name]), name
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_parameters_are_counted_without_buffers_and_shared_ones_once():
    shared = torch.nn.Linear(3, 3)  # 9 weights, 3 biases
    model = torch.nn.Sequential(shared, torch.nn.BatchNorm1d(3), shared)  # 3 gains, 3 biases; 7 numbers of statistics
    assert count_params(model) == 9 + 3 + 3 + 3


def test_channels_of_the_image_count_in_the_stem_alone():
    three, one = (model_cost("astroformer_0", image_size=64, num_classes=10, in_chans=c)["macs"] for c in (3, 1))
    assert three - one == 32 * 32 * 9 * 2 * 64
