"""Costs are what a reader counts by hand from the paper's figure: the arithmetic is written out
here.
"""

import json
from math import ceil, log2, prod

import pandas as pd
import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis
from torch.utils.flop_counter import FlopCounterMode

from astroformer import cli
from astroformer.counting import trace
from astroformer.counting.cost import (
    CONVENTIONS,
    count,
    count_macs,
    count_params,
    exponent,
    fit_polynomial,
    growth,
    model_cost,
    network_cost,
    operations_of,
    parts,
    reported_beside_counted,
    reported_over_counted,
    time_floor,
    where_attention_dominates,
)
from astroformer.ledger import claims
from astroformer.models.astroformer import MBConv, RelativeAttention, TransformerBlock


def mbconv_macs(dim: int, dim_out: int, side: int, *, stride: int) -> int:
    """An inverted residual on a side x side grid, hidden width 4 dim_out, squeeze-excitation
    width dim_out / 4.
    """
    out, hidden = side // stride, 4 * dim_out
    return (
        side * side * dim * hidden  # 1x1, before the stride
        + out * out * 9 * hidden  # 3x3, one filter a channel
        + 2 * hidden * (dim_out // 4)  # squeeze, excite: on one position
        + out * out * hidden * dim_out  # 1x1
        # shortcut, after the average
        + (out * out * dim * dim_out if stride == 2 and dim != dim_out else 0)
    )


def attention_macs(dim: int, dim_out: int, positions: int) -> int:
    return (
        positions * dim * 3 * dim_out  # queries, keys, values
        + positions * positions * dim_out  # q k, over all heads
        + positions * positions * dim_out  # weights times values
        + positions * dim_out * dim_out
    )  # projection


def transformer_macs(dim: int, dim_out: int, side: int, *, stride: int) -> int:
    positions = (side // stride) ** 2
    return (
        attention_macs(dim, dim_out, positions)
        + 2 * positions * dim_out * 4 * dim_out  # MLP
        + (positions * dim * dim_out if stride == 2 and dim != dim_out else 0)
    )


def astroformer_0_macs(size: int, classes: int, stack: str = "CCCT") -> int:
    side = size // 2
    macs = side * side * 9 * 3 * 64 + side * side * 9 * 64 * 64  # stem
    dim = 64
    for kind, dim_out, depth in zip(stack, (96, 192, 384, 768), (2, 3, 5, 2)):
        block = mbconv_macs if kind == "C" else transformer_macs
        macs += block(dim, dim_out, side, stride=2)
        side, dim = side // 2, dim_out
        macs += (depth - 1) * block(dim, dim, side, stride=1)
    return macs + 768 * 768 + 768 * classes  # head


@pytest.mark.parametrize("dim, dim_out, stride", [(8, 16, 2), (16, 16, 2), (16, 16, 1)])
def test_an_inverted_residual_costs_what_its_layers_cost(dim, dim_out, stride):
    assert count_macs(MBConv(dim, dim_out, stride=stride), 8, dim) == mbconv_macs(
        dim, dim_out, 8, stride=stride
    )


def test_an_inverted_residual_in_numbers():
    # 8 -> 16 channels, 8x8 -> 4x4 positions: 64*8*64 + 16*9*64 + 2*64*4 + 16*64*16 + 16*8*16
    assert (
        count_macs(MBConv(8, 16, stride=2), 8, 8) == 32_768 + 9_216 + 512 + 16_384 + 2_048 == 60_928
    )


@pytest.mark.parametrize("rel_bias", ["inside", "outside", "none"])
def test_attention_costs_four_projections_and_two_products_in_each_form(rel_bias):
    # 12 positions of 32 channels to 64 (2 heads): 12*32*192 + 2*12*12*64 + 12*64*64
    attention = RelativeAttention(32, 64, (3, 4), rel_bias=rel_bias)
    assert (
        count_macs(attention, (3, 4), 32) == 73_728 + 18_432 + 49_152 == attention_macs(32, 64, 12)
    )


@pytest.mark.parametrize("dim, stride", [(32, 2), (64, 2), (64, 1)])
def test_a_transformer_block_costs_what_its_layers_cost(dim, stride):
    block = TransformerBlock(dim, 64, stride=stride, grid_size=(6 // stride, 6 // stride))
    assert count_macs(block, 6, dim) == transformer_macs(dim, 64, 6, stride=stride)


@pytest.mark.parametrize("rel_bias", ["inside", "outside"])
@pytest.mark.parametrize("stack", ["CCCT", "CCTT", "CTTT"])
@pytest.mark.parametrize("size", [64, 224])
def test_astroformer_0_costs_the_sum_of_its_blocks(size, stack, rel_bias):
    cost = model_cost(
        "astroformer_0", image_size=size, num_classes=10, stack=stack, rel_bias=rel_bias
    )
    assert cost["macs"] == astroformer_0_macs(size, 10, stack)


def test_astroformer_0_at_224_pixels_in_numbers():
    # 22.8 million parameters is the release's count; 3.99 G multiply-adds is the sum above
    assert model_cost("astroformer_0", image_size=224, num_classes=10) == dict(
        params=22_772_282, macs=3_994_182_144
    )


def astroformer_0_attention(size: int, stack: str) -> int:
    """The products of attention alone: 2 N^2 width, for each transformer block."""
    return sum(
        depth * 2 * (size // 2 ** (i + 2)) ** 4 * dim
        for i, (kind, dim, depth) in enumerate(zip(stack, (96, 192, 384, 768), (2, 3, 5, 2)))
        if kind == "T"
    )


@pytest.mark.parametrize("stack", ["CCCC", "CCCT", "CTTT"])
def test_the_trace_of_astroformer_0_is_the_sum_by_hand(stack):
    cost = network_cost("astroformer_0", image_size=224, num_classes=10, stack=stack)
    by_hand, attention = astroformer_0_macs(224, 10, stack), astroformer_0_attention(224, stack)
    assert cost["macs"] == by_hand and cost["macs_by_kind"].get("attention product", 0) == attention
    assert cost["conventions"]["conv_linear"] == (by_hand - attention) / 1e9
    assert cost["conventions"]["torch"] == 2 * by_hand / 1e9


# --- conventions, against the programs whose they are, run on real networks ---


def by_fvcore(model, image, **handlers) -> int:
    analysis = FlopCountAnalysis(model.eval(), image).unsupported_ops_warnings(False)
    return (
        analysis.uncalled_modules_warnings(False)
        .tracer_warnings("none")
        .set_op_handle(**handlers)
        .total()
    )


def attention_handler(inputs, outputs) -> int:
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    return prod(query) * key[-2] + prod(query[:-1]) * key[-2] * value[-1]


def fourier_handler(inputs, outputs) -> int:
    _, height, width, channels = inputs[0].type().sizes()
    return height * width * channels * ceil(log2(height * width))


HANDLERS = {
    "aten::scaled_dot_product_attention": attention_handler,
    "aten::fft_rfft2": fourier_handler,
    "aten::fft_irfft2": fourier_handler,
}
# None leaves fvcore's own in force
NO_NORMS = dict.fromkeys(("aten::batch_norm", "aten::layer_norm"), lambda inputs, outputs: 0)


class Filter(torch.nn.Module):
    """What SpectFormer's spectral blocks do: a norm, a transform, a complex gate, the transform
    back, a linear layer.
    """

    def __init__(self):
        super().__init__()
        self.norm, self.linear = torch.nn.LayerNorm(8), torch.nn.Linear(8, 5)
        self.complex_weight = torch.nn.Parameter(torch.ones(3, 7, 8, dtype=torch.complex64))

    def forward(self, x):  # (B, 3, 12, 8)
        x = torch.fft.rfft2(self.norm(x), dim=(1, 2)) * self.complex_weight
        return self.linear(torch.fft.irfft2(x, s=(3, 12), dim=(1, 2)))


@pytest.mark.parametrize(
    "model, size",
    [
        (lambda: timm.create_model("astroformer_pico", num_classes=7), (64, 64)),
        (
            lambda: timm.create_model(
                "astroformer_pico",
                num_classes=7,
                stack="CTTT",
                rel_bias="outside",
                attn_layer="cbam",
            ),
            (64, 64),
        ),
        (Filter, (12, 8)),
        (lambda: timm.create_model("convnext_narrow", num_classes=7), (32, 32)),
    ],
    ids=["fused attention", "attention written out", "spectral gate", "maps channels last"],
)
def test_each_convention_is_what_its_own_program_counts(model, size):
    model, image = model(), torch.zeros(1, 3, *size)
    traced = trace.record(model, size).frame()
    assert count(traced, "fvcore") == by_fvcore(model, image)
    assert count(traced, "fvcore_handlers") == by_fvcore(model, image, **HANDLERS)
    assert count(traced, "fvcore_handlers_no_norm") == by_fvcore(
        model, image, **HANDLERS, **NO_NORMS
    )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    assert count(traced, "torch") == counter.get_total_flops()


# the smallest and the largest
@pytest.mark.parametrize("name", ["astroformer_pico", "astroformer_5"])
def test_multiply_adds_go_with_the_area_of_an_image_and_parameters_hardly(name):
    cost, larger = (model_cost(name, image_size=size, num_classes=10) for size in (64, (128, 64)))
    assert larger["macs"] > 1.9 * cost["macs"] > 0  # all but the head and squeeze-excitation
    # a table of offsets is larger
    assert cost["params"] < larger["params"] < 1.001 * cost["params"]


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
    # 3 gains, 3 biases; 7 numbers of statistics
    model = torch.nn.Sequential(shared, torch.nn.BatchNorm1d(3), shared)
    assert count_params(model) == 9 + 3 + 3 + 3


def test_channels_of_the_image_count_in_the_stem_alone():
    three, one = (
        model_cost("astroformer_0", image_size=64, num_classes=10, in_chans=c)["macs"]
        for c in (3, 1)
    )
    assert three - one == 32 * 32 * 9 * 2 * 64


# --- by stage and kind, memory, time ---


@pytest.mark.parametrize("name", ["astroformer_pico", "astroformer_0"])
def test_parts_add_up_to_the_whole(name):
    cost = network_cost(name, num_classes=100)
    for total, divided in (
        ("params", ("params_by_stage", "params_by_kind")),
        ("macs", ("macs_by_stage", "macs_by_kind")),
    ):
        for part in divided:
            assert sum(cost[part].values()) == cost[total], part
    assert (
        list(cost["macs_by_stage"])
        == list(cost["params_by_stage"])
        == ["stem", "S1", "S2", "S3", "S4", "head"]
    )
    assert set(cost["conventions"]) == set(CONVENTIONS)
    assert (
        cost["params"] == model_cost(name, image_size=cost["image_size"], num_classes=100)["params"]
    )
    json.dumps(cost)


def test_numbers_of_half_the_bytes_halve_memory_and_double_the_operations_per_byte():
    # no integer tables
    full, half = (
        network_cost("astroformer_pico", stack="CCCC", dtype_bytes=size) for size in (4, 2)
    )
    for stage, kept in full["activation_bytes"].items():
        assert kept == 2 * half["activation_bytes"][stage]
        assert half["arithmetic_intensity"][stage] == pytest.approx(
            2 * full["arithmetic_intensity"][stage]
        )


def test_a_time_floor_by_hand():
    operations = pd.DataFrame(
        {"stage": ["a", "a", "b"], "macs": [5e11, 0, 1e12], "bytes_moved": [1e9, 3e9, 1e9]}
    )
    # arithmetic takes 1, 0, 2 seconds; traffic 1, 3, 1
    floor = time_floor(operations, peak_tflops=1, bandwidth_gb=1)
    assert floor["by_stage"] == {"a": 4, "b": 2} and floor["seconds"] == 6
    assert (floor["arithmetic_seconds"], floor["traffic_seconds"]) == (3, 5)


def test_the_parts_of_a_network_are_percent_of_its_multiply_adds_the_largest_first():
    operations = operations_of(["astroformer_pico"])["astroformer_pico"]
    for column, macs in (("stage", "macs_by_stage"), ("kind", "macs_by_kind")):
        share, cost = parts(operations, column), network_cost("astroformer_pico")
        assert share.sum() == pytest.approx(100) and share.is_monotonic_decreasing
        assert share.iloc[0] == pytest.approx(100 * max(cost[macs].values()) / cost["macs"])


# --- growth ---


def test_a_power_law_has_its_exponent():
    assert exponent([1, 2, 4, 8], [3, 24, 192, 1536]) == pytest.approx(3)


def test_three_sizes_give_the_polynomial_and_where_its_square_takes_over():
    macs = [7 + 5 * n + 2 * n * n for n in (4, 16, 36)]  # 64, 128, 192 pixels
    assert fit_polynomial((64, 128, 192), macs) == (7, 5, 2)
    assert fit_polynomial((64, 128, 192), macs).at(32) == 14
    # at N = 1
    crossing = fit_polynomial((64, 128, 192), [3 * n + 3 * n * n for n in (4, 16, 36)]).crossing
    assert crossing == pytest.approx(32)
    assert fit_polynomial((64, 128, 192), [3 * n for n in (4, 16, 36)]).crossing == float("inf")


def test_attention_takes_over_between_the_two_sizes_that_the_table_names():
    row = where_attention_dominates("astroformer_0", stacks=["CTTT"]).loc["C-T-T-T"]
    assert row["error at 1024"] == 0
    size = int(row["next size"])
    below, above = growth(
        "astroformer_0", stacks=["CTTT"], image_sizes=[size - 32, size]
    ).itertuples()
    assert below.attention < below.layers and above.attention > above.layers


# --- reported beside counted ---


def test_every_reported_count_stands_beside_one_of_the_network_with_that_many_classes():
    reported = claims.read()
    table = reported_beside_counted(reported, "Tiny ImageNet").set_index("model")
    flops = reported[(reported["dataset"] == "Tiny ImageNet") & (reported["metric"] == "flops")]
    assert len(flops)
    for _, claim in flops.iterrows():
        assert table.loc[claim["model"], "reported FLOPs"] == claim["value"]
        with torch.device("meta"):
            model = timm.create_model(claim["model"], num_classes=200)
        assert table.loc[claim["model"], "counted params (M)"] == round(
            count_params(model) / 1e6, 2
        )
        assert table.loc[claim["model"], "params agree"] == (
            "yes"
            if f"{count_params(model) / 1e6:.2f}" == table.loc[claim["model"], "reported params"]
            else "no"
        )


def test_reported_exceeds_counted_in_percent_of_what_is_counted():
    beside = pd.DataFrame(
        {
            "reported params": ["110"],
            "counted params (M)": [100.0],
            "reported FLOPs": ["45"],
            "macs (G)": [50.0],
        }
    )
    assert reported_over_counted(beside).loc[0].tolist() == pytest.approx([10, -10])


def test_a_data_set_without_a_number_of_classes_is_named_with_the_choices():
    with pytest.raises(ValueError, match="choose one of CIFAR-10"):
        reported_beside_counted(claims.read(), "MNIST")


# --- the command ---


def test_the_command_prints_one_object_with_the_networks_own_size_and_stack(capsys):
    assert cli.main(["cost", "astroformer_pico", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    given = [cost[key] for key in ("model", "image_size", "classes", "stack", "time_floor")]
    assert given == ["astroformer_pico", 64, 10, "CCCT", None]


def test_the_command_prints_tables_for_a_reader(capsys):
    words = [
        "--stack",
        "CCTT",
        "--dtype-bytes",
        "2",
        "--peak-tflops",
        "100",
        "--bandwidth-gb",
        "1000",
    ]
    assert cli.main(["cost", "astroformer_pico", *words]) == 0
    said = capsys.readouterr().out
    for word in (
        "CCTT",
        "S4",
        "attention product",
        "fvcore_handlers_no_norm",
        "floor (µs)",
        "GB a second",
    ):
        assert word in said


@pytest.mark.parametrize(
    "words, expected",
    [
        (["astroformer_6"], "choose one of astroformer_"),
        (["astroformer_0", "--stack", "CCCX"], 'stack="CCCX" must be 4 letters'),
        (["astroformer_0", "--stack", ""], 'stack="" must be 4 letters'),
        (["astroformer_0", "--image-size", "100"], "not a multiple of 32"),
        (["astroformer_0", "--image-size", "0"], "not a multiple of 32"),
        (["astroformer_0", "--classes", "0"], "at least 1 class"),
        (["astroformer_0", "--peak-tflops", "100"], "--bandwidth-gb"),
        (["astroformer_0", "--peak-tflops", "-1", "--bandwidth-gb", "5"], "greater than 0"),
    ],
)
def test_what_cannot_be_counted_ends_with_one_line_that_names_the_way_out(capsys, words, expected):
    assert cli.main(["cost", *words]) == 2
    complaint = capsys.readouterr().err
    assert expected in complaint and len(complaint.strip().splitlines()) == 1
