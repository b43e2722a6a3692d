"""The findings, run: each demonstration is a short function that returns what happened.

Reads top to bottom, numbered as in `astroformer.verdicts.findings`: Astroformer (1 to 7),
SpectFormer (8 to 13), ViT-CIFAR (14 to 17). What a release does is written here in our own words,
in as few lines as show the point.
"""

import importlib
import math
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import timm
import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn

from astroformer.counting import closed_forms, memory
from astroformer.counting.cost import count_params
from astroformer.equivariance.proof_sketch import (
    attention_and_shift,
    attention_of_sum,
    first_line,
    last_line,
    offset_bias,
)
from astroformer.ledger.claims import DATASETS, README, prints_as, truncates_to
from astroformer.models.twins import timm_twin
from astroformer.recipes import RECIPES


def outcome(call: Callable[[], object]) -> str:
    """What calling it ends in: the exception's name and text, or "runs"."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the finding)
        return f"{type(error).__name__}: {error}"
    return "runs"


# Astroformer


def released_variants() -> pd.DataFrame:
    """Finding 1. The six variants at 224 pixels and 10 classes, ours and timm's, on the meta
    device: no weights are made.
    """
    rows = {}
    for name in (f"astroformer_{variant}" for variant in range(6)):
        with torch.device("meta"):
            ours = timm.create_model(name, num_classes=10, img_size=224)
            theirs = timm_twin(name, stack="CCCT", image_size=224)
        same = [
            {entry: tuple(tensor.shape) for entry, tensor in net.state_dict().items()}
            for net in (ours, theirs)
        ]
        rows[name] = {
            "timm's MaxxVit": count_params(theirs),
            "ours": count_params(ours),
            "names and shapes": "the same" if same[0] == same[1] else "different",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


@torch.inference_mode()
def image_sizes(
    model: str = "astroformer_0", *, pixels: tuple[int, ...] = (224, 256, 32)
) -> pd.DataFrame:
    """Finding 2. Networks built for 224 pixels, as the released train.py builds them, and what
    they make of other images.
    """
    theirs = timm_twin(model, stack="CCCT", image_size=224).eval()
    ours = timm.create_model(model, img_size=224).eval()
    rows = []
    for size in pixels:
        image = torch.randn(1, 3, size, size)
        told = timm.create_model(model, img_size=size).eval()
        networks = {
            "timm's, built for 224": theirs,
            "ours, built for 224": ours,
            f"ours, built for {size}": told,
        }
        for words, network in networks.items():
            rows.append(
                {
                    "image": f"{size} x {size}",
                    "network": words,
                    "what happens": outcome(lambda: network(image)),  # noqa: B023
                }
            )
    return pd.DataFrame(rows).drop_duplicates(ignore_index=True)


def memory_of_the_command(
    *, variants: Iterable[int] = (3, 4, 5), pixels: int = 256, card: float = 80.0
) -> pd.DataFrame:
    """Beside finding 2: what one GPU holds at once in the README's command, which gives each 256
    images of 256 pixels, in gigabytes: timm's class of the released networks, in half precision.
    Then what it holds with gradient checkpointing, which the command does not ask for, and the
    largest part of its batch that fits a GPU of `card` gigabytes without.
    """
    recipe = RECIPES["readme"]
    number, rows = recipe.micro_batch_size, {}
    how = dict(precision="bfloat16", device="cuda", optimizer=recipe.optimizer)

    def held(model: nn.Module, images: int, **more) -> memory.Memory:
        return memory.of_training(
            model, (pixels, pixels), batch=number, micro_batch=images, **how, **more
        )

    for variant in variants:
        name = f"astroformer_{variant}"
        with torch.device("meta"):
            model = timm_twin(name, stack="CCCT", image_size=pixels)
        printed = held(model, number)
        again = held(model, number, prepare=lambda net: net.set_grad_checkpointing())
        halves = [number >> power for power in range(1, number.bit_length())]
        # what is held grows with the images: the first half that fits is the largest
        fits = next(part for part in halves if held(model, part).most <= card * memory.GB)
        rows[name] = {
            "as printed": float(memory.gigabytes(printed.total)),
            "activations of it": float(memory.gigabytes(printed.kept)),
            "with checkpointing": float(memory.gigabytes(again.total)),
            f"images at a time that fit {card:g} GB": fits,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def learning_rates(setups: Iterable[tuple[int, int]]) -> pd.DataFrame:
    """Finding 3. The README recipe's rate at other global batches; `setups` are (GPUs, images on
    each).
    """
    recipe = RECIPES["readme"]
    rows = []
    for gpus, images in setups:
        rate = recipe.learning_rate * math.sqrt(gpus * images / recipe.batch_size)
        rows.append(
            {
                "GPUs": gpus,
                "images on each": images,
                "global batch": gpus * images,
                "learning rate": rate,
                "of the README's (%)": 100 * rate / recipe.learning_rate,
            }
        )
    return pd.DataFrame(rows)


def timm_rates(epochs: int, **options) -> np.ndarray:
    """timm's cosine schedule of the README's command, one rate an epoch; `options` as of
    `create_scheduler_v2`.
    """
    recipe = RECIPES["readme"]
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=recipe.epochs,
        warmup_epochs=int(recipe.warmup_epochs),
        warmup_lr=recipe.warmup_learning_rate,
        min_lr=recipe.final_learning_rate,
        **options,
    )
    rates = []
    for epoch in range(epochs):
        scheduler.step(epoch)
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)


def option_effects() -> pd.DataFrame:
    """Finding 3. What two options of the command change; and, as a control, the same with what
    would change something.
    """
    rows = []
    for words, cycles, options in (
        ("--lr-cycle-decay 1e-2, as in the README", 1, dict(cycle_decay=1e-2)),
        ("--lr-k-decay 1, as in the README", 1, dict(cycle_decay=1.0, k_decay=1.0)),
        ("--lr-cycle-decay 1e-2 with a second cycle", 2, dict(cycle_decay=1e-2)),
        ("--lr-k-decay 2", 1, dict(cycle_decay=1.0, k_decay=2.0)),
    ):
        epochs = cycles * RECIPES["readme"].epochs
        plain, changed = (
            timm_rates(epochs, cycle_limit=cycles, **given)
            for given in (dict(cycle_decay=1.0), options)
        )
        rows.append(
            {
                "option": words,
                "epochs": epochs,
                "highest rate": plain.max(),
                "largest change of a rate": abs(changed - plain).max(),
            }
        )
    return pd.DataFrame(rows).set_index("option")


def reruns(claims: pd.DataFrame, system: str) -> pd.DataFrame:
    """Findings 4 and 16. What others report of their own runs, beside the README; nothing of it
    is checked here.
    """
    own = claims[(claims["system"] == system) & (claims["metric"] == "top1")]
    readme = own[(own["source"] == f"{system} README") & (own["qualifier"] == "")].set_index(
        ["model", "dataset"]
    )["value"]
    others = own[own["by"] == "others"]
    threads = others["source"].str.removeprefix(f"{system} ")
    beside = [
        readme.get((claim["model"], claim["dataset"]), "unclear") for _, claim in others.iterrows()
    ]
    return pd.DataFrame(
        {
            "data set": others["dataset"],
            "model": others["model"].where(others["model"] != "", "not named"),
            "README (%)": beside,
            "re-run (%)": others["value"],
            "reported in": threads,
            "conditions": others["conditions"],
        }
    )


def params_by_dataset(claims: pd.DataFrame) -> pd.DataFrame:
    """Finding 5. Parameters (M) that the README prints, and those of the released network for as
    many classes.
    """
    printed = claims[(claims["metric"] == "params") & (claims["source"] == README)]
    rows = []
    for _, claim in printed.sort_values(["model", "dataset"]).iterrows():
        classes = DATASETS[claim["dataset"]]["classes"]
        counted = (
            closed_forms.released(claim["model"], image_size=224, num_classes=classes)["params"]
            / 1e6
        )
        rows.append(
            {
                "model": claim["model"],
                "data set": claim["dataset"],
                "classes": classes,
                "printed (M)": claim["value"],
                "counted (M)": round(counted, 2),
                "difference (M)": round(claim["number"] - counted, 2),
            }
        )
    return pd.DataFrame(rows)


def spread(table: pd.DataFrame) -> pd.DataFrame:
    """Finding 5. By name: how many different counts are printed, and how far apart the prints
    and the counts lie (M).
    """
    numbers = table.assign(printed=table["printed (M)"].astype(float)).groupby("model")
    width = {
        column: numbers[column].max() - numbers[column].min()
        for column in ("printed", "counted (M)")
    }
    return pd.DataFrame(
        {
            "different prints": numbers["printed"].nunique(),
            "prints apart (M)": width["printed"].round(2),
            "counts apart (M)": width["counted (M)"].round(2),
        }
    )


def proof_sketch(*, side: int = 7, dim: int = 16, seed: int = 0) -> pd.DataFrame:
    """Finding 7. The sketch's lines beside one another, and attention to shifted positions beside
    shifted attention.

    A grid of side x side positions; the features x, (N, C), and the added vector Delta, (C,), are
    random, of length about 1, in float64.
    """
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(side * side, dim, generator=draw, dtype=torch.float64) / math.sqrt(dim)
    delta = torch.randn(dim, generator=draw, dtype=torch.float64) / math.sqrt(dim)
    wrapped, released = (
        offset_bias(torch.randn(offsets, offsets, generator=draw, dtype=torch.float64), side)
        for offsets in (side, 2 * side - 1)
    )

    right_side = last_line(x, delta, wrapped)
    rows = {
        "x + Δ: the sketch's two sides": (first_line(x, delta, wrapped), right_side),
        "x + Δ: attention, the sketch's right side": (
            attention_of_sum(x, delta, wrapped),
            right_side,
        ),
    }
    for words, bias in (("offsets around a torus", wrapped), ("offsets as released", released)):
        rows[f"shifted positions, {words}"] = attention_and_shift(x, bias, (2, 3), (side, side))
    return pd.DataFrame(
        [
            {
                "largest difference": (one - other).abs().max().item(),
                "largest value": other.abs().max().item(),
            }
            for one, other in rows.values()
        ],
        index=list(rows),
    )


# SpectFormer

LOGS = {"last": "SpectFormer log, last epoch", "best": "SpectFormer log, best epoch"}


def by_source(claims: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """Printed values of SpectFormer's models, one column a source."""
    chosen = claims[
        (claims["system"] == "SpectFormer")
        & (claims["model"] != "")
        & claims["metric"].isin(metrics)
    ]
    return chosen.pivot_table(
        index=["model", "metric"], columns="source", values="value", aggfunc="first"
    )


def spectformer_params(claims: pd.DataFrame) -> pd.DataFrame:
    """Finding 8. Parameters as README and logs print them, and of the released networks at 224
    pixels, 1000 classes.
    """
    printed = (
        by_source(claims, "params")
        .droplevel("metric")[["SpectFormer README", LOGS["last"]]]
        .dropna()
    )
    counted = {
        model: closed_forms.released(model, image_size=224, num_classes=1000)["params"]
        for model in printed.index
    }
    readme = printed["SpectFormer README"]
    agrees = [
        "yes" if prints_as(counted[model], value, "M") else "no" for model, value in readme.items()
    ]
    table = pd.DataFrame(
        {
            "README (M)": readme,
            "log": printed[LOGS["last"]].astype(int),
            "counted": pd.Series(counted),
            "README prints the count": agrees,
        }
    )
    return table.sort_values("counted").rename_axis(None)


def logs_beside_readme(claims: pd.DataFrame) -> pd.DataFrame:
    """Finding 10. README's accuracies beside the logs', and which epochs give its digits,
    rounded or cut off.
    """
    table = by_source(claims, "top1", "top5").dropna(subset=["SpectFormer README", LOGS["last"]])
    rows = []
    for values in table.reset_index().to_dict("records"):
        readme, epochs = (
            values["SpectFormer README"],
            {name: values[source] for name, source in LOGS.items()},
        )
        listed = {name: value for name, value in epochs.items() if pd.notna(value)}
        gives = [
            name if prints_as(float(value), readme, "%") else f"{name}, cut off"
            for name, value in listed.items()
            if prints_as(float(value), readme, "%") or truncates_to(float(value), readme, "%")
        ]
        rows.append(
            {
                "model": values["model"],
                "metric": values["metric"],
                "README (%)": readme,
                "last (%)": epochs["last"],
                "best (%)": listed.get("best", "not listed"),
                "README's digits are": "; ".join(gives) or "neither",
            }
        )
    return pd.DataFrame(rows)


def hierarchical_claims(claims: pd.DataFrame) -> pd.DataFrame:
    """Finding 12. What the README of the hierarchical networks reports, a row a network; nothing
    of it is checked here.
    """
    reported = claims[claims["source"] == "SpectFormer-H README"]
    reported = reported.assign(what=reported["metric"] + " (" + reported["unit"] + ")")
    table = reported.pivot(index="model", columns="what", values="value")
    return table.rename_axis(index=None, columns=None)


def heads(widths: dict[str, tuple[int, tuple[int, ...]]], *, tokens: int = 196) -> pd.DataFrame:
    """Finding 9. The release's split of queries, keys and values into heads; `widths` name ->
    (width, heads to try).
    """
    rows = []
    for name, (width, tried) in widths.items():
        qkv = nn.Linear(width, 3 * width)(torch.randn(1, tokens, width))  # (1, N, 3 C)
        for number in tried:
            rows.append(
                {
                    "model": name,
                    "width": width,
                    "heads": number,
                    "forward pass": outcome(
                        lambda: qkv.reshape(1, tokens, 3, number, width // number)  # noqa: B023
                    ),
                }
            )
    return pd.DataFrame(rows)


def transfer_refusals() -> pd.DataFrame:
    """Finding 11. The transfer script's loss when the network keeps its 1000 classes, and an
    import at its top.
    """
    logits = torch.randn(2, 1000)  # what SpectFormer gives when nobody tells it num_classes
    mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=10)
    _, targets = mixup(torch.randn(2, 3, 32, 32), torch.tensor([3, 7]))
    rows = {
        "loss of 1000 logits on targets of 10 classes": outcome(
            lambda: SoftTargetCrossEntropy()(logits, targets)
        ),
        f"import numpy.lib.arraypad, NumPy {np.__version__}": outcome(
            lambda: importlib.import_module("numpy.lib.arraypad")
        ),
    }
    return pd.DataFrame({"what happens": rows})


def spectformer_rates(setups: Iterable[tuple[int, int]], *, base: float = 5e-4) -> pd.DataFrame:
    """Finding 13. The rate that `base` becomes; `setups` are (GPUs, images on each)."""
    return pd.DataFrame(
        [
            {"GPUs": gpus, "images on each": images, "learning rate": base * images * gpus / 512}
            for gpus, images in setups
        ]
    )


# ViT-CIFAR


def attention_scales(
    *, width: int = 384, heads: int = 12, tokens: int = 65, draws: int = 64, seed: int = 0
) -> pd.DataFrame:
    """Finding 14. Softmax attention of random normal queries to random normal keys under two
    scales, averaged over draws.
    """
    draw = torch.Generator().manual_seed(seed)
    head_dim = width // heads
    query, key = (torch.randn(draws, heads, tokens, head_dim, generator=draw) for _ in range(2))
    rows = {}
    for words, scale in (("a head's width", head_dim), ("the whole width, as released", width)):
        logits = query @ key.mT / math.sqrt(scale)  # (B, heads, N, N)
        weights = logits.softmax(-1)
        entropy = -(weights * weights.log()).sum(-1).mean().item()
        rows[words] = {
            "spread of logits": logits.std().item(),
            "largest weight (%)": 100 * weights.amax(-1).mean().item(),
            f"keys, of {tokens}": math.exp(entropy),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def lowest_gelu() -> float:
    """Finding 14. What no output of an MLP that ends in GELU can fall below."""
    return F.gelu(torch.linspace(-6, 6, 120001, dtype=torch.float64)).min().item()


def vit_cifar_schedule(
    *, epochs: int = 200, warmup: int = 5, base: float = 1e-3, final: float = 1e-5
) -> pd.DataFrame:
    """Finding 15. Each epoch's rate as the release sets it, and how often the cosine was stepped
    until then.

    GradualWarmupScheduler(multiplier=1, total_epoch=warmup) around CosineAnnealingLR(T_max=epochs,
    eta_min=final), stepped once an epoch. Counting epochs from 0, it gives base x epoch / warmup up
    to and including epoch `warmup`; then an epoch at the base rate, in which it only hands over;
    then one step of the cosine for each epoch that is left.
    """
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=base)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=final)
    rows = []
    for epoch in range(epochs):
        if epoch <= warmup + 1:
            optimizer.param_groups[0]["lr"] = base * min(epoch / warmup, 1.0)
        else:
            cosine.step()
        rows.append(
            {
                "epoch": epoch + 1,
                "learning rate": optimizer.param_groups[0]["lr"],
                "steps of the cosine": cosine.last_epoch,
            }
        )
        optimizer.step()
    return pd.DataFrame(rows)


def smoothed_target(classes: int, smoothing: float, *, torch_rule: bool) -> Tensor:
    """Probabilities, (K,), for true class 0: the rest spread over the other classes (the
    release) or over all (torch).
    """
    others = smoothing / classes if torch_rule else smoothing / (classes - 1)
    target = torch.full((classes,), others, dtype=torch.float64)
    target[0] = 1 - smoothing + (others if torch_rule else 0.0)
    return target


def lowest_loss(classes: int, smoothing: float, *, torch_rule: bool) -> float:
    """The smallest smoothed cross-entropy that any logits reach, by minimising it (L-BFGS from
    zero).
    """
    logits = torch.zeros(1, classes, dtype=torch.float64, requires_grad=True)
    target = smoothed_target(classes, smoothing, torch_rule=False)
    descent = torch.optim.LBFGS(
        [logits],
        max_iter=200,
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        descent.zero_grad()
        value = (
            F.cross_entropy(logits, torch.tensor([0]), label_smoothing=smoothing)
            if torch_rule
            else -(target * logits.log_softmax(-1)).sum()
        )
        value.backward()
        return value

    descent.step(loss)
    return loss().item()


def smoothing_floors(
    smoothing: float = 0.1, *, classes: tuple[int, ...] = (10, 100)
) -> pd.DataFrame:
    """Finding 16. The floor of the smoothed loss in nats: the entropy of the target, and what
    minimising finds.
    """
    rows = []
    for number in classes:
        for words, torch_rule in (("the others (release)", False), ("all (torch)", True)):
            target = smoothed_target(number, smoothing, torch_rule=torch_rule)
            rows.append(
                {
                    "classes": number,
                    "spread over": words,
                    "by formula": -(target * target.log()).sum().item(),
                    "by minimising": lowest_loss(number, smoothing, torch_rule=torch_rule),
                    "true class there": target[0].item(),
                }
            )
    return pd.DataFrame(rows)


def smoothed_losses(
    smoothing: float = 0.1, *, classes: tuple[int, ...] = (10, 100)
) -> pd.DataFrame:
    """Finding 16. The loss, plain and smoothed as released, where the true class gets p and the
    others share the rest.
    """
    p = torch.linspace(0.3, 0.9999, 500, dtype=torch.float64)
    parts = []
    for number in classes:
        smoothed = -(1 - smoothing) * p.log() - smoothing * ((1 - p) / (number - 1)).log()
        target = smoothed_target(number, smoothing, torch_rule=False)
        parts.append(
            pd.DataFrame(
                {
                    "classes": number,
                    "probability": p,
                    "loss": -p.log(),
                    "smoothed": smoothed,
                    "floor": -(target * target.log()).sum().item(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


# operations a second of its tensor cores, two per multiply-add (NVIDIA, data sheet of the Tesla
# V100)
V100_PEAK = 125e12
# a training step costs about three forward passes: the backward pass takes the products twice
TRAINING = 3


def v100_share(
    claims: pd.DataFrame, *, epochs: int = 200, images: int = 50_000
) -> dict[str, float]:
    """Finding 17. Images a second and share of the card's peak (%) that the README's time for
    CIFAR-10 means.
    """
    timed = claims[(claims["system"] == "ViT-CIFAR") & (claims["metric"] == "seconds")]
    claim = timed.set_index("dataset").loc["CIFAR-10"]
    network = closed_forms.released_counts("vit_cifar", image_size=32, num_classes=10)
    rate = float(epochs * images / claim["number"])
    return {
        "seconds": float(claim["number"]),
        "images a second": rate,
        "parameters (M)": network.params / 1e6,
        "multiply-adds of an image (G)": network.macs / 1e9,
        "share of the peak (%)": 100 * rate * TRAINING * 2 * network.macs / V100_PEAK,
    }
