"""What a network costs: parameters, multiply-adds, what other conventions make of them, memory, and
the time that follows.

`macs` counts convolutions, linear layers and the two products of attention, 1 per multiply-add; not
counted are norms, activations, pooling, softmax, the addition of biases. A paper's "FLOPs" are
usually these multiply-adds, but not always: `CONVENTIONS` names the rules in use.

Nothing here allocates a weight: networks are built and traced on the meta device (see trace.py).
`count_macs` asks PyTorch's own counter instead, which the tests hold against the trace.

Reads top to bottom: counters of one network, `network_cost` (its tables stand in `cost_tables`,
what was kept of it in `kept_costs`), reported beside counted, growth.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from timm.layers import to_2tuple
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from astroformer.counting import trace
from astroformer.counting.conventions import CONVENTIONS
from astroformer.counting.cost_tables import (  # noqa: F401  (pages ask this module for its tables)
    convention_table,
    described,
    kind_table,
    stage_table,
)
from astroformer.counting.kept_costs import checked
from astroformer.counting.trace import without_storage
from astroformer.ledger.claims import DATASETS, prints_as
from astroformer.models import MODELS, create, default_image_size
from astroformer.models.build import in_one_line

# --- one network ---


def count_params(model: nn.Module) -> int:
    """Learned numbers; running statistics and index buffers are not among them."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def count_macs(model: nn.Module, image_size: int | tuple[int, int], in_chans: int = 3) -> int:
    """Multiply-adds of one image of `image_size` pixels (H, W) in evaluation, by PyTorch's counter.
    The model stays as it is.

    Fused attention is switched off while it counts: some releases of PyTorch count a fused kernel
    as nothing, all of them count its two matrix products.
    """
    shadow = without_storage(model).eval()
    image = torch.empty(1, in_chans, *to_2tuple(image_size), device="meta")
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        shadow(image)
    return counter.get_total_flops() // 2


def model_cost(
    name: str, *, image_size: int | tuple[int, int], num_classes: int, **kwargs
) -> dict[str, int]:
    """Parameters and multiply-adds of a network by its name, without building its weights;
    `kwargs` as of the network.
    """
    model = on_meta(name, image_size, num_classes, **kwargs)
    with in_one_line(name, image_size):
        macs = count_macs(model, image_size, kwargs.get("in_chans", 3))
    return dict(params=count_params(model), macs=macs)


def on_meta(name: str, image_size: int | tuple[int, int], num_classes: int, **kwargs) -> nn.Module:
    """The network by its name, without weights."""
    with torch.device("meta"):
        return create(name, img_size=image_size, num_classes=num_classes, **kwargs)


def count(operations: pd.DataFrame, convention: str) -> int:
    """Operations of one image by a convention's name, from a trace's frame."""
    rule = CONVENTIONS[convention]
    return rule.factor * int(
        operations.loc[operations["family"].isin(rule.families), "count"].sum()
    )


def network_cost(
    name: str,
    *,
    image_size: int | None = None,
    num_classes: int = 10,
    stack: str | None = None,
    dtype_bytes: int = 4,
    peak_tflops: float | None = None,
    bandwidth_gb: float | None = None,
) -> dict:
    """What one image of `image_size` pixels (default: the network's own) costs, by stage and by
    kind; ready for JSON.

    dtype_bytes: of a real number; activation_bytes: what autograd keeps for the backward pass
        (trace.Trace)
    arithmetic_intensity: 2 macs over bytes moved, where each operation reads its input and weights
        from memory and writes its output there once (no fusion)
    peak_tflops, bandwidth_gb: 10^12 operations and 10^9 bytes a second of an accelerator; both, or
        no `time_floor`
    """
    checked(
        name,
        num_classes=num_classes,
        stack=stack,
        dtype_bytes=dtype_bytes,
        peak_tflops=peak_tflops,
        bandwidth_gb=bandwidth_gb,
    )
    size = default_image_size(name) if image_size is None else image_size
    counted = _counted(name, size, num_classes, stack, dtype_bytes)
    operations, params = counted.operations, counted.params
    stages = operations.groupby("stage", sort=False)[["macs", "bytes_moved"]].sum()
    kinds = operations.groupby("kind")["macs"].sum()
    return {
        "model": name,
        "image_size": size,
        "classes": num_classes,
        "stack": counted.stack,
        "params": int(params["params"].sum()),
        "macs": int(stages["macs"].sum()),
        "dtype_bytes": dtype_bytes,
        "conventions": {key: count(operations, key) / 1e9 for key in CONVENTIONS},
        "params_by_stage": _plain(params.groupby("stage", sort=False)["params"].sum()),
        "params_by_kind": _plain(
            params.groupby("kind")["params"].sum().sort_values(ascending=False)
        ),
        "macs_by_stage": _plain(stages["macs"]),
        "macs_by_kind": _plain(kinds[kinds > 0].sort_values(ascending=False)),
        "activation_bytes": {stage: counted.kept.get(stage, 0) for stage in stages.index},
        "bytes_moved": _plain(stages["bytes_moved"]),
        "arithmetic_intensity": {
            stage: 2 * int(row["macs"]) / int(row["bytes_moved"])
            for stage, row in stages.iterrows()
        },
        "time_floor": None
        if peak_tflops is None
        else time_floor(operations, peak_tflops=peak_tflops, bandwidth_gb=bandwidth_gb),
    }


class _Counted(NamedTuple):
    operations: pd.DataFrame  # trace.Trace.frame
    kept: dict[str, int]  # trace.Trace.kept
    params: pd.DataFrame  # trace.parameter_rows
    stack: str | None  # as the network has it


@cache
def _counted(
    name: str, image_size: int, num_classes: int, stack: str | None, dtype_bytes: int
) -> _Counted:
    """A page asks for the same network several times. Nobody may change what comes back."""
    model = on_meta(name, image_size, num_classes, **({} if stack is None else {"stack": stack}))
    with in_one_line(name, image_size):
        traced = trace.record(model, image_size, dtype_bytes=dtype_bytes)
    params = pd.DataFrame(trace.parameter_rows(model))
    return _Counted(traced.frame(), traced.kept, params, getattr(model, "stack", None))


def operations_of(names: Sequence[str], *, num_classes: int = 10) -> dict[str, pd.DataFrame]:
    """The operations of each network at its own image size (trace.Trace.frame), by name."""
    return {
        name: _counted(name, default_image_size(name), num_classes, None, 4).operations
        for name in names
    }


def parts(operations: pd.DataFrame, column: str) -> pd.Series:
    """Percent of the multiply-adds by "stage" or "kind", from a trace's frame, the largest
    first.
    """
    macs = operations.groupby(column)["macs"].sum()
    return (100 * macs / macs.sum()).sort_values(ascending=False)


def time_floor(operations: pd.DataFrame, *, peak_tflops: float, bandwidth_gb: float) -> dict:
    """Seconds that one image takes at least on an accelerator of that rate and bandwidth, from a
    trace's frame.

    seconds: each operation takes the longer of its arithmetic (2 operations per multiply-add) and
        its traffic (`bytes_moved`)
    arithmetic_seconds, traffic_seconds: all arithmetic alone, all traffic alone; no order of
        operations beats the larger one
    balance: operations per byte at which both take equally long; less waits for memory
    """
    arithmetic = 2 * operations["macs"] / (peak_tflops * 1e12)
    traffic = operations["bytes_moved"] / (bandwidth_gb * 1e9)
    longer = arithmetic.clip(lower=traffic)
    return {
        "peak_tflops": peak_tflops,
        "bandwidth_gb": bandwidth_gb,
        "balance": 1000 * peak_tflops / bandwidth_gb,
        "seconds": float(longer.sum()),
        "arithmetic_seconds": float(arithmetic.sum()),
        "traffic_seconds": float(traffic.sum()),
        "by_stage": longer.groupby(operations["stage"], sort=False).sum().to_dict(),
    }


def _plain(series: pd.Series) -> dict[str, int]:
    return {str(name): int(value) for name, value in series.items()}


def systems_table(*, num_classes: int = 10) -> pd.DataFrame:
    """Every network of the project at its own image size, with as many classes: a row each, from
    small to large in its system.
    """
    rows = []
    for name in MODELS:
        cost = network_cost(name, num_classes=num_classes)
        kinds = cost["macs_by_kind"]
        rows.append(
            {
                "model": name,
                "pixels": cost["image_size"],
                "parameters (M)": f"{cost['params'] / 1e6:.2f}",
                "multiply-adds (G)": f"{cost['macs'] / 1e9:.2f}",
                "of these attention's products (%)": (
                    f"{100 * kinds.get('attention product', 0) / cost['macs']:.1f}"
                ),
                "fvcore as it comes (G)": f"{cost['conventions']['fvcore']:.2f}",
                "kept for the backward pass (MB)": (
                    f"{sum(cost['activation_bytes'].values()) / 1e6:.0f}"
                ),
            }
        )
    return pd.DataFrame(rows)


# --- reported beside counted ---


def reported_beside_counted(claims: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Each network's reported parameters and FLOPs on a data set, as printed, and the counts of the
    network of that name at its own image size with the data set's classes: parameters in millions,
    then billions by convention. A count agrees if it is printed with the same digits.
    """
    if dataset not in DATASETS:
        raise ValueError(f"data set {dataset!r} is not known; choose one of {', '.join(DATASETS)}")
    claims = claims[
        (claims["dataset"] == dataset)
        & claims["model"].isin(list(MODELS))
        & claims["metric"].isin(["params", "flops"])
    ]
    rows = []
    for (model, source), group in claims.groupby(["model", "source"], sort=False):
        cost = network_cost(model, num_classes=DATASETS[dataset]["classes"])
        giga = {"macs": cost["macs"] / 1e9, **cost["conventions"]}
        params, flops = (
            group[group["metric"] == metric].to_dict("records") for metric in ("params", "flops")
        )
        agreeing = [
            name
            for name, value in giga.items()
            if any(prints_as(round(value * 1e9), claim["value"], claim["unit"]) for claim in flops)
        ]
        rows.append(
            {
                "model": model,
                "reported params": ", ".join(claim["value"] for claim in params),
                "counted params (M)": round(cost["params"] / 1e6, 2),
                "params agree": "yes"
                if any(prints_as(cost["params"], c["value"], c["unit"]) for c in params)
                else "no",
                "reported FLOPs": ", ".join(claim["value"] for claim in flops),
                "FLOPs agree with": ", ".join(agreeing) or "none",
                **{f"{name} (G)": round(value, 2) for name, value in giga.items()},
                "source": source,
            }
        )
    return pd.DataFrame(rows)


def reported_over_counted(beside: pd.DataFrame) -> pd.DataFrame:
    """Percent by which what is reported exceeds what is counted (FLOPs: the multiply-adds), for
    rows with one value of each.
    """
    reported = {
        "params": ("reported params", "counted params (M)"),
        "flops": ("reported FLOPs", "macs (G)"),
    }
    return pd.DataFrame(
        {
            metric: 100 * (pd.to_numeric(beside[claim]) / beside[counted] - 1)
            for metric, (claim, counted) in reported.items()
        }
    )


def agreement(beside: pd.DataFrame) -> dict[str, float]:
    """How many reported counts agree, and by how many percent they lie off the counted ones at
    least and at most, of `reported_beside_counted`: what a page says in words.
    """
    excess = reported_over_counted(beside)
    return {
        "rows": len(beside),
        "params_agree": int((beside["params agree"] == "yes").sum()),
        "flops_agree": int((beside["FLOPs agree with"] != "none").sum()),
        "flops_rows": int((beside["reported FLOPs"] != "").sum()),
        "params_least": excess["params"].min(),
        "params_most": excess["params"].max(),
        "flops_least": excess["flops"].min(),
        "flops_most": excess["flops"].max(),
    }


# --- growth ---


def growth(
    name: str, *, stacks: Sequence[str | None], image_sizes: Sequence[int], num_classes: int = 10
) -> pd.DataFrame:
    """Multiply-adds of layers (convolutions and linear) and of attention products by stack and
    image size in pixels.
    """
    costs = [
        network_cost(name, image_size=size, num_classes=num_classes, stack=stack)
        for stack in stacks
        for size in image_sizes
    ]
    attention = [cost["macs_by_kind"].get("attention product", 0) for cost in costs]
    return pd.DataFrame(
        {
            "stack": [cost["stack"] for cost in costs],
            "image_size": [cost["image_size"] for cost in costs],
            "macs": [cost["macs"] for cost in costs],
            "attention": attention,
            "layers": [cost["macs"] - products for cost, products in zip(costs, attention)],
        }
    )


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of a straight line through the logarithms, by least squares: y grows about as x
    to that power.
    """
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


class Polynomial(NamedTuple):
    """Multiply-adds as constant + linear N + square N^2, where N = (pixels / 32)^2: exact, as
    fractions.
    """

    constant: Fraction
    linear: Fraction
    square: Fraction

    def at(self, image_size: int) -> Fraction:
        positions = Fraction(image_size**2, 32**2)
        return self.constant + self.linear * positions + self.square * positions**2

    @property
    def crossing(self) -> float:
        """Pixels from which on the quadratic part exceeds all the rest; infinite where there is
        no quadratic part.
        """
        if not self.square:
            return float("inf")
        b, c = float(self.linear / self.square), float(self.constant / self.square)
        return 32 * sqrt((b + sqrt(b * b + 4 * c)) / 2)


def fit_polynomial(image_sizes: Sequence[int], macs: Sequence[int]) -> Polynomial:
    """The one parabola in N through three sizes, by divided differences."""
    n = [Fraction(size**2, 32**2) for size in image_sizes]
    first, second = ((macs[i + 1] - macs[i]) / (n[i + 1] - n[i]) for i in (0, 1))
    square = (second - first) / (n[2] - n[0])
    linear = first - square * (n[0] + n[1])
    return Polynomial(macs[0] - linear * n[0] - square * n[0] ** 2, linear, square)


def where_attention_dominates(
    name: str, *, stacks: Sequence[str], num_classes: int = 10
) -> pd.DataFrame:
    """For each stack, the image size at which attention's products cost as much as all convolutions
    and linear layers.

    The polynomial comes from 64, 128 and 256 pixels; `error at 1024` is what it says at 1024 pixels
    less what is counted there.
    """
    fitted, held_out, rows = (64, 128, 256), 1024, []
    for stack in stacks:
        counted = growth(
            name, stacks=[stack], image_sizes=(*fitted, held_out), num_classes=num_classes
        )
        macs = [int(value) for value in counted["macs"]]
        polynomial = fit_polynomial(fitted, macs[:3])
        pixels = polynomial.crossing
        rows.append(
            {
                "constant (M)": round(float(polynomial.constant) / 1e6, 3),
                "per position (M)": round(float(polynomial.linear) / 1e6, 3),
                "per pair (M)": round(float(polynomial.square) / 1e6, 6),
                "error at 1024": int(polynomial.at(held_out) - macs[3]),
                "pixels": round(pixels, 1),
                "next size": 32 * ceil(pixels / 32),
            }
        )
    return pd.DataFrame(rows, index=["-".join(stack) for stack in stacks])
