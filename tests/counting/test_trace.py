"""What the trace says of small modules is what a reader counts by hand; of whole networks, what
real runs show.
"""

import pytest
import timm
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel

from astroformer.counting import trace
from astroformer.counting.cost import count_macs, count_params, on_meta
from astroformer.models.astroformer import MBConv, RelativeAttention


class Spectrum(nn.Module):
    """A gate on the spectrum of (B, H, W, C) features: the core of a global filter."""

    def __init__(self, height: int, width: int, channels: int):
        super().__init__()
        self.complex_weight = nn.Parameter(
            torch.ones(height, width // 2 + 1, channels, dtype=torch.complex64)
        )

    def forward(self, x):
        spectrum = torch.fft.rfft2(x, dim=(1, 2)) * self.complex_weight
        return torch.fft.irfft2(spectrum, s=x.shape[1:3], dim=(1, 2))


def by(traced, column, value="count"):
    return traced.frame().groupby(column)[value].sum().to_dict()


# all: test_counts.py
@pytest.mark.parametrize(
    "name", ["astroformer_pico", "spectformer_ti", "spectformer_h_s", "vit_cifar"]
)
def test_the_trace_of_a_network_agrees_with_pytorchs_counter_and_owns_every_parameter_once(name):
    model = on_meta(name, 64, 7)
    assert sum(op.macs for op in trace.record(model, 64).operations) == count_macs(model, 64)
    rows = trace.parameter_rows(model)
    assert sum(row["params"] for row in rows) == count_params(model)


def test_an_inverted_residual_kind_by_kind():
    # 8 -> 16 channels, 8x8 -> 4x4 positions, 64 hidden
    counted = by(trace.record(MBConv(8, 16, stride=2), 8, 8), "kind")
    assert counted["1x1 convolution"] == 64 * 8 * 64 + 2 * 64 * 4 + 16 * 64 * 16 + 16 * 8 * 16
    assert counted["3x3 depthwise convolution"] == 16 * 9 * 64
    assert counted["batch norm"] == 2 * (64 * 8 + 64 * 64 + 16 * 64)
    assert counted["pooling"] == 0  # fvcore counts adaptive pooling alone


@pytest.mark.parametrize(
    "rel_bias, family",
    [("inside", "fused attention"), ("none", "fused attention"), ("outside", "attention")],
)
def test_attention_products_are_recognised_fused_or_written_out(rel_bias, family):
    traced = trace.record(RelativeAttention(32, 64, (3, 4), rel_bias=rel_bias), (3, 4), 32)
    assert by(traced, "kind")["attention product"] == 2 * 12 * 12 * 64
    assert {op.family for op in traced.operations if op.kind == "attention product"} == {family}
    assert by(traced, "kind")["1x1 convolution"] == 12 * 32 * 192 + 12 * 64 * 64


def test_a_linear_layer_is_no_attention_product_whatever_its_input_is_shaped_like():
    tokens = nn.Sequential(
        nn.Flatten(2), nn.Linear(16, 5), nn.LayerNorm(5), nn.Linear(5, 2, bias=False)
    )
    counted = by(trace.record(tokens, 4), "kind")
    assert counted["linear"] == 3 * 16 * 5 + 3 * 5 * 2 and counted["layer norm"] == 3 * 5 * 5
    assert "attention product" not in counted


def test_a_fourier_transform_counts_log2_n_for_each_element_that_goes_in():
    # 4 x 8 positions of 3 features; its spectrum 4 x 5
    traced = trace.record(Spectrum(4, 8, 3), (8, 3), 4)
    # log2 32; log2 20, up
    assert [op.count for op in traced.operations if op.kind == "FFT"] == [
        4 * 8 * 3 * 5,
        4 * 5 * 3 * 5,
    ]
    assert sum(op.macs for op in traced.operations) == 0
    gate = next(op for op in traced.operations if op.kind == "mul")
    # complex numbers of two times 4 bytes
    assert gate.output_bytes == gate.input_bytes == gate.weight_bytes == 4 * 5 * 3 * 8


@pytest.mark.parametrize("dtype_bytes", [4, 2])
def test_bytes_of_a_small_network_by_hand(dtype_bytes):
    # an image of 3 x 4 x 4 numbers, 5 filters of 3 weights and a bias, 5 x 4 x 4 numbers out of
    # each layer
    convolution, gelu = trace.record(
        nn.Sequential(nn.Conv2d(3, 5, 1), nn.GELU()), 4, dtype_bytes=dtype_bytes
    ).operations
    assert (convolution.input_bytes, convolution.weight_bytes, convolution.output_bytes) == tuple(
        dtype_bytes * numbers for numbers in (48, 20, 80)
    )
    assert (gelu.input_bytes, gelu.weight_bytes, gelu.output_bytes) == (
        80 * dtype_bytes,
        0,
        80 * dtype_bytes,
    )
    assert gelu.bytes_moved == 160 * dtype_bytes and gelu.elements == 80


def test_kept_for_the_backward_pass_are_the_image_and_what_each_derivative_needs():
    # a convolution needs its input for its weights' gradient, GELU its input; the output of GELU is
    # needed by nobody
    traced = trace.record(nn.Sequential(nn.Conv2d(3, 5, 1), nn.GELU()), 4)
    assert traced.kept == {"0": 4 * 48, "1": 4 * 80}


@pytest.mark.parametrize("stack", ["CCCT", "CTTT"])
def test_a_real_network_keeps_as_many_bytes_in_a_training_step_as_its_trace_says(stack):
    model = timm.create_model("astroformer_pico", num_classes=7, stack=stack).train()
    weights = {
        tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())
    }
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            # alive, so that no address comes twice
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), sdpa_kernel(SDPBackend.MATH):
        logits = model(torch.zeros(1, 3, 64, 64))
    assert logits.requires_grad
    assert sum(storage.nbytes() for storage in kept.values()) == sum(
        trace.record(model, 64).kept.values()
    )


def test_views_are_no_operations():
    assert (
        trace.record(
            nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (2, 8)), nn.Identity()), 4
        ).operations
        == ()
    )


def test_stages_bear_the_networks_own_names_in_order():
    traced = trace.record(on_meta("astroformer_pico", 64, 7), 64)
    assert list(dict.fromkeys(op.stage for op in traced.operations)) == [
        "stem",
        "S1",
        "S2",
        "S3",
        "S4",
        "head",
    ]
    for path, stage in {"stages.2.blocks.0": "S3", "blocks.7.mlp": "blocks", "": "network"}.items():
        assert trace.stage_of(path) == stage


def test_tracing_leaves_the_model_as_it_was():
    model = timm.create_model("astroformer_pico", num_classes=7).train()
    model.stem.requires_grad_(False)
    trace.record(model, 64)
    assert model.training and not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.modules()
    )
    assert all(
        parameter.requires_grad != name.startswith("stem")
        for name, parameter in model.named_parameters()
    )
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())
