"""What the page about ViT-CIFAR asks: the network's parts, its quirks before training, its recipe
as a table, what runs show.

Reads top to bottom: parts, each quirk beside the textbook's form, hyper-parameters, runs by data
set, the ablation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import cast

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from torch import Tensor

from astroformer import data
from astroformer.counting import closed_forms
from astroformer.counting.cost import count_params
from astroformer.data import Images
from astroformer.data.augment import auto_augment, normalise, seeded, smoothed
from astroformer.ledger import links, records, tables
from astroformer.ledger.claims import written
from astroformer.models.vit_cifar import VARIANTS, Block, VitCifar
from astroformer.recipes import RECIPES, TOLD, Recipe
from astroformer.studies import effects
from astroformer.studies.effects import Effects
from astroformer.studies.studies import Study
from astroformer.training import Run
from astroformer.training.schedule import learning_rate
from astroformer.verdicts.demonstrations import TRAINING
from astroformer.verdicts.verdicts import Subject, barred

SYSTEM, MODEL = "ViT-CIFAR", "vit_cifar"
TEXTBOOK = dict(scale="head", mlp_end="linear")  # the network's two quirks, put right
BASE = "as released"  # the variation of a study that the others are held against
SMOOTHING = "smoothing=others"  # the variation that came with the repair of `--label-smoothing`
# The data sets of the reported numbers: name on the command line, and the recipe with which the
# number was made.
REPORTED = {
    "CIFAR-10": ("cifar10", "vit_cifar"),
    "CIFAR-100": ("cifar100", "vit_cifar"),
    "SVHN": ("svhn", "vit_cifar_svhn"),
}
OWN_RECIPES = ("vit_cifar", "vit_cifar_smoothing", "vit_cifar_svhn")


# The network, part by part


def sample(number: int) -> tuple[Images, Tensor]:
    """The embedded (synthetic) test galaxies at 32 pixels, and so many of them as a batch,
    normalised, (B, 3, 32, 32).
    """
    images = data.load("galaxies", "test", image_size=32)
    return images, normalise(
        torch.from_numpy(images.array(0, number)).permute(0, 3, 1, 2), *images.statistics()
    )


@torch.inference_mode()
def parts(*, num_classes: int = 10) -> pd.DataFrame:
    """What one image passes through: the shape after each part, and the part's parameters, which
    add up to the last row.
    """
    model = _built(num_classes=num_classes)
    image = torch.zeros(1, model.in_chans, *model.img_size)
    patches, tokens = model.patches(image), model.embed(image)
    blocks = _blocks_of(model)
    attention = sum(count_params(part) for block in blocks for part in (block.la1, block.msa))
    mlp = sum(count_params(part) for block in blocks for part in (block.la2, block.mlp))
    after, depth = model.enc(tokens), len(blocks)
    rows = [
        ("image (C, H, W)", image, 0),
        ("patches (N, pixels x C)", patches, 0),
        ("linear layer", model.emb(patches), count_params(model.emb)),
        ("class token in front", tokens, model.cls_token.numel()),
        ("positions added", tokens, model.pos_emb.numel()),
        (f"attention with LayerNorm, {depth} times", after, attention),
        (f"MLP with LayerNorm, {depth} times", after, mlp),
        ("class token, LayerNorm", model.fc[0](after[:, 0]), count_params(model.fc[0])),
        ("linear classifier", model(image), count_params(model.fc[1])),
        ("all", model(image), count_params(model)),
    ]
    return pd.DataFrame(
        {
            "shape": [" x ".join(map(str, value.shape[1:])) for _, value, _ in rows],
            "parameters": [f"{number:,}" for *_, number in rows],
        },
        index=[name for name, *_ in rows],
    )


@torch.inference_mode()
def position_share(x: Tensor, *, seed: int = 0) -> float:
    """Percent of the variance of patches that their positions bring to the first block of an
    untrained network. x: (B, 3, H, W)
    """
    model = drawn(seed=seed)
    content = model.emb(model.patches(x)).var().item()
    place = model.pos_emb[:, model.num_prefix_tokens :].var().item()
    return 100 * place / (place + content)


def part_facts(
    table: pd.DataFrame, judged: pd.DataFrame, x: Tensor, *, seed: int = 0
) -> dict[str, object]:
    """What the page's text says of `parts`: the sum, what is printed and its verdict (`judged`
    as of verdicts.verdicts).
    """
    claim = judged[(judged["metric"] == "params") & (judged["model"] == MODEL)].iloc[-1]
    return {
        "params": table.loc["all", "parameters"],
        "printed": written(claim["value"], claim["unit"]),
        "params_verdict": claim["verdict"],
        "position_share": position_share(x, seed=seed),
    }


def drawn(*, seed: int, **options) -> VitCifar:
    """The network before training; the options do not change which weights a seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _built(**options)


def _built(**options) -> VitCifar:
    return cast("VitCifar", timm.create_model(MODEL, **options).eval())


def _blocks_of(model: VitCifar) -> list[Block]:
    return [block for block in model.enc if isinstance(block, Block)]


# The quirks, each beside the textbook's form


@torch.inference_mode()
def at_start(x: Tensor, *, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Each form of the network, by the same random weights, for normalised images x (B, 3, 32, 32):
    one row a block.

    spread: deviation of the attention logits; keys: exponential of the entropy of the attention
    weights (mean over queries and heads), the number of keys that attention reaches; smallest,
    mean, largest: of what the MLP adds to the residual stream
    """
    forms = {
        BASE: {},
        **{f"{name}={value}": {name: value} for name, value in TEXTBOOK.items()},
        "both": TEXTBOOK,
    }
    return {name: _blocks(drawn(seed=seed, **options), x) for name, options in forms.items()}


def _blocks(model: VitCifar, x: Tensor) -> pd.DataFrame:
    rows, x = [], model.embed(x)
    for number, block in enumerate(_blocks_of(model), start=1):
        normed, attention = block.la1(x), block.msa
        query, key = (
            part(normed).unflatten(2, (attention.heads, -1)).transpose(1, 2)
            for part in (attention.q, attention.k)
        )
        logits = query @ key.mT * attention.scale  # (B, heads, N, N)
        entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)  # (B, heads, N)
        x = x + attention(normed)
        added = block.mlp(block.la2(x))
        x = x + added
        rows.append(
            {
                "block": number,
                "spread": logits.std().item(),
                "keys": entropy.mean().exp().item(),
                "smallest": added.min().item(),
                "mean": added.mean().item(),
                "largest": added.max().item(),
            }
        )
    return pd.DataFrame(rows).set_index("block")


def start_table(starts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The forms of `at_start` over all blocks: means, and the smallest and largest value
    anywhere.
    """
    return pd.DataFrame(
        {
            "logits: spread": {
                name: f"{table['spread'].mean():.3f}" for name, table in starts.items()
            },
            "keys": {name: f"{table['keys'].mean():.1f}" for name, table in starts.items()},
            "MLP: smallest": {
                name: f"{table['smallest'].min():.3f}" for name, table in starts.items()
            },
            "mean": {name: f"{table['mean'].mean():.3f}" for name, table in starts.items()},
            "largest": {name: f"{table['largest'].max():.3f}" for name, table in starts.items()},
        }
    )


def start_facts(starts: dict[str, pd.DataFrame]) -> dict[str, float]:
    """What the page's text says of `at_start`."""
    released, head, linear = (starts[name] for name in (BASE, "scale=head", "mlp_end=linear"))
    facts = {
        "keys_width": released["keys"].mean(),
        "keys_head": head["keys"].mean(),
        "mean_gelu": released["mean"].mean(),
        "lowest_gelu": released["smallest"].min(),
        "lowest_linear": linear["smallest"].min(),
    }
    return {name: float(value) for name, value in facts.items()}


def targets(smoothing: float, *, classes: tuple[int, ...] = (10, 100)) -> pd.DataFrame:
    """What the loss asks for: the true class, each other class, and which smoothing over all
    classes asks for the same.
    """
    rows = []
    for number in classes:
        for over, form in (
            ("others", "s / (K - 1) to the others (release)"),
            ("all", "s / K to all (textbook)"),
        ):
            target = smoothed(torch.tensor([0]), number, smoothing, over=over)[0].double()
            rows.append(
                {
                    "classes": number,
                    "formula": form,
                    "true class": f"{target[0]:.4f}",
                    "each other": f"{target[1]:.5f}",
                    "s / K with s =": f"{number * target[1]:.4f}",
                }
            )
    return pd.DataFrame(rows)


def steps_per_epoch(dataset: str) -> int:
    """Optimizer steps of an epoch on one of the reported data sets, with its recipe's batches."""
    name, recipe = REPORTED[dataset]
    return data.DATASETS[name].train // RECIPES[recipe].batch_size


def rates(recipe: Recipe, *, steps_per_epoch: int) -> pd.DataFrame:
    """The learning rate at every step of a run, by epochs passed."""
    steps = range(recipe.epochs * steps_per_epoch)
    return pd.DataFrame(
        {
            "epoch": [step / steps_per_epoch for step in steps],
            "learning rate": [learning_rate(recipe, step, steps_per_epoch) for step in steps],
        }
    )


def rate_facts(released: pd.DataFrame, textbook: pd.DataFrame, *, steps: int) -> dict[str, float]:
    """What the page's text says of two schedules with as many steps an epoch: mean rate of the
    first, last rate, and by how many percent the released rates add up to more.
    """
    rates = {"released": released["learning rate"], "textbook": textbook["learning rate"]}
    facts = {f"first_{name}": rate[:steps].mean() for name, rate in rates.items()}
    facts |= {f"last_{name}": rate.iloc[-1] for name, rate in rates.items()}
    facts["more_rate"] = 100 * (rates["released"].mean() / rates["textbook"].mean() - 1)
    return {name: float(value) for name, value in facts.items()}


@contextmanager
def noted_rotations() -> Iterator[list[float]]:
    """Within, the list receives the angle (degrees, anticlockwise) of every rotation of a PIL
    image.
    """
    angles, rotate = [], Image.Image.rotate

    def noting(image: Image.Image, angle: float, *words, **options) -> Image.Image:
        angles.append(float(angle))
        return rotate(image, angle, *words, **options)

    Image.Image.rotate = noting
    try:
        yield angles
    finally:
        Image.Image.rotate = rotate


def rotations(
    policy: str, pixels: np.ndarray, *, draws: int, seed: int = 0
) -> tuple[list[float], list[Image.Image]]:
    """AutoAugment's angles over so many draws on one image, uint8 (H, W, 3), and what came out
    of the draws that rotate it.
    """
    transform, image, turned = auto_augment(policy), Image.fromarray(pixels), []
    with seeded(seed), noted_rotations() as angles:
        for _ in range(draws):
            before = len(angles)
            result = transform(image)
            if len(angles) > before:
                turned.append(result)
    return angles, turned


def rotation_table(policies: dict[str, list[float]], *, draws: int) -> pd.DataFrame:
    """Policy -> angles of so many draws: how many images are rotated, which way, how far."""
    return pd.DataFrame(
        [
            {
                "policy": name,
                "images rotated (%)": f"{100 * len(angles) / draws:.1f}",
                "of these anticlockwise (%)": (
                    f"{100 * sum(angle > 0 for angle in angles) / len(angles):.0f}"
                )
                if angles
                else "",
                "by (degrees)": ", ".join(
                    f"{angle:.1f}" for angle in sorted({round(abs(angle), 1) for angle in angles})
                ),
                "mean turn of all images (degrees)": f"{sum(angles) / draws:+.2f}",
            }
            for name, angles in policies.items()
        ]
    )


# Hyper-parameters


def hyper_parameters(names: tuple[str, ...] = OWN_RECIPES) -> pd.DataFrame:
    """The network's sizes and every field that one of the recipes sets, a column a recipe;
    `differs`: not all are equal.
    """
    chosen = [RECIPES[name] for name in names]
    off = {field.name: field.default for field in fields(Recipe)}
    shown = [
        name
        for name in off
        if name not in TOLD and any(getattr(recipe, name) != off[name] for recipe in chosen)
    ]
    values = {name: [size] * len(chosen) for name, size in VARIANTS[MODEL].items()}
    values |= {name: [asdict(recipe)[name] for recipe in chosen] for name in shown}
    values["smoothing_over"] = [
        recipe.smoothing_over if recipe.label_smoothing else "" for recipe in chosen
    ]
    table = pd.DataFrame(
        {name: [_plain(value) for value in row] for name, row in values.items()}, index=list(names)
    ).T
    table["differs"] = ["yes" if len(set(row)) > 1 else "" for row in table.to_numpy()]
    return table


def _plain(value: object) -> str:
    if value in (0, "") and not isinstance(value, bool):
        return "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


# What runs show


def expected(dataset: str) -> dict[str, object]:
    """The run behind a reported accuracy: the line that makes it, and the multiply-adds of all
    its training steps.
    """
    name, recipe = REPORTED[dataset]
    row = data.DATASETS[name]
    network = closed_forms.released_counts(
        MODEL, image_size=row.image_size, num_classes=row.classes
    )
    return {
        "command": f"astroformer train --model {MODEL} --dataset {name} --data-dir ROOT "
        f"--recipe {recipe}",
        "macs": TRAINING * network.macs * row.train * RECIPES[recipe].epochs,
    }


def completed(frame: pd.DataFrame) -> pd.DataFrame:
    """The ledger's (`records.frame()`) finished runs of the network, the newest record of each;
    those that a study with a design asked for stand on its page (`tables.of_no_study`).
    """
    frame = tables.of_no_study(frame)
    if not len(frame):
        return frame
    return records.unique(frame[frame["model"] == MODEL])


def whole_runs(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By data set of a reported number: runs of the released network with one of its own recipes,
    unchanged, on all of the real images. Whatever is re-encoded, reduced or changed is not among
    them; `other_runs` has it.
    """
    runs = completed(frame)
    whole = pd.Series([_is_whole(run) for _, run in runs.iterrows()], index=runs.index, dtype=bool)
    return {
        dataset: runs[whole & (runs["dataset.title"] == dataset)] if len(runs) else runs
        for dataset in REPORTED
    }


def _is_whole(run: pd.Series) -> bool:
    return (
        run["dataset.title"] in REPORTED
        and not barred(run, Subject(run["dataset.title"], SYSTEM))
        and run["image_size"] == 32
        and run["recipe.name"] in OWN_RECIPES
    )


def other_runs(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By heading, which says what the images were and how much was reduced: all other runs of the
    network as released. Those with a quirk put right are the ablation's.
    """
    runs = completed(frame)
    chosen = [not _is_whole(run) and not _is_textbook(run) for _, run in runs.iterrows()]
    runs = runs[pd.Series(chosen, index=runs.index, dtype=bool)]
    headings = [heading(run) for _, run in runs.iterrows()]
    return {name: runs[[own == name for own in headings]] for name in sorted(set(headings))}


def _is_textbook(run: pd.Series) -> bool:
    """Is a quirk put right, in the network or, for a run with one of its own recipes, in the
    training?
    """
    changed, base = records.options_of(run), run["recipe.name"].partition("+")[0]
    if any(changed.get(name) == value for name, value in TEXTBOOK.items()):
        return True
    return base in OWN_RECIPES and any(
        run[f"recipe.{name}"] not in ("", getattr(RECIPES[base], name))
        for name in ("schedule", "autoaugment", "decay_all")
    )


def heading(run: pd.Series) -> str:
    """Two lines for the head of a panel: the images, and the network."""
    network = (
        f"{run['params'] / 1e6:.2f} M parameters "
        f"({_sizes(records.options_of(run)) or 'as released'})"
    )
    images = (
        f"{tables.title(run)}: {run['dataset.train']:,} images of {run['image_size']} pixels, "
        f"{run['epochs']} epochs"
    )
    return f"{images}\n{network}"


def _sizes(options: dict[str, object]) -> str:
    """The network's sizes among its options: "dim 96, heads 3"."""
    return ", ".join(
        tables.option(name, value) for name, value in options.items() if name in VARIANTS[MODEL]
    )


def line_of(run: pd.Series) -> str:
    """What a curve is called: its recipe and the smoothing of its targets."""
    smoothing, over = run["recipe.label_smoothing"], run["recipe.smoothing_over"]
    words = (
        f"{smoothing:g} to {'others' if over == 'others' else 'all'}"
        if smoothing
        else "no smoothing"
    )
    return f"{run['recipe.name'].partition('+')[0]}: {words}"


def run_table(groups: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Accuracy and time of the groups of `other_runs`, over seeds, a row for each recipe and
    device.
    """
    rows = []
    for name, runs in groups.items():
        images, network = name.split("\n")
        for (line, device), same in runs.groupby(
            [runs.apply(line_of, axis=1), "device"], sort=False
        ):
            rows.append(
                {
                    "images": images,
                    "recipe: smoothing": line,
                    "top-1 (%)": tables.accuracy(same, "top1"),
                    "of": same["dataset.evaluated_on"].iloc[0],
                    "minutes": tables.mean_interval(same["seconds"] / 60, 1),
                    "network": network,
                    "device": device,
                }
            )
    return links.frame(
        rows,
        columns=["images", "recipe: smoothing", "top-1 (%)", "of", "minutes", "network", "device"],
    )


# The ablation


def other_questions(study: Study) -> list[str]:
    """The variations of a study that change the schedule where its training is shorter than the
    release's. As released the first epoch runs at rate 0: in a short training it is a larger part.
    """
    base = study.variations[BASE].recipe
    if base.epochs >= RECIPES["vit_cifar"].epochs:
        return []
    return [name for name, run in study.variations.items() if run.recipe.schedule != base.schedule]


def schedule_note(study: Study) -> str:
    """Why `other_questions` are others, in a sentence; nothing where there are none."""
    if not (others := other_questions(study)):
        return ""
    here, released = study.variations[BASE].recipe.epochs, RECIPES["vit_cifar"].epochs
    return (
        f"Marked *: {' and '.join(others)} ask another question here than at full length. As "
        f"released the first epoch runs at rate 0, which is 1 of {here} epochs here and 1 of "
        f"{released} in the release."
    )


def labelled(study: Study) -> dict[str, str]:
    """Variation -> what a table calls it: with a star where its question is another one."""
    others = other_questions(study)
    return {name: f"{name} *" if name in others else name for name in study.variations}


def study_table(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Studies by name, a row a variation: accuracy over seeds or "not run", and the line that
    trains what is missing.
    """
    rows = []
    for study, frame in frames.items():
        for variation, group in frame.groupby("variation", sort=False):
            done = group[group["status"] == "completed"]
            rows.append(
                {
                    "study": study,
                    "variation": variation,
                    "top-1 (%)": tables.mean_interval(list(done["top1"]) if len(done) else []),
                    "on": ", ".join(dict.fromkeys(done["dataset"])) if len(done) else "",
                    "seeds missing": len(group) - len(done),
                    "command": f"astroformer study {study}",
                }
            )
    return pd.DataFrame(rows)


def in_words(run: Run) -> str:
    """What is reduced in a run: "dim 96, heads 3; 10 % of the training images; 6 epochs"."""
    sizes = _sizes(dict(run.options)) or "the released sizes"
    return f"{sizes}; {100 * run.fraction:g} % of the training images; {run.recipe.epochs} epochs"


def reported(claims: pd.DataFrame) -> dict[str, float]:
    """The authors' accuracy (%) by data set; "over 90" is a bound and not among them."""
    own = claims[
        (claims["model"] == MODEL)
        & (claims["metric"] == "top1")
        & (claims["by"] == "authors")
        & (claims["qualifier"] == "")
    ]
    return dict(zip(own["dataset"], own["number"]))


def gap(claims: pd.DataFrame, dataset: str = "CIFAR-10") -> dict[str, float]:
    """What the authors report, what others find with the same code later, and the points between
    the two.
    """
    found = claims[
        (claims["model"] == MODEL)
        & (claims["metric"] == "top1")
        & (claims["dataset"] == dataset)
        & (claims["by"] == "others")
    ]["number"].item()
    own = reported(claims)[dataset]
    return {"reported": own, "found": found, "points": own - found}


def ablation_facts(
    frame: pd.DataFrame, found: Effects, points: float, study: Study
) -> dict[str, object]:
    """What the page's text says of a study and its effects, beside a loss of so many points."""
    beyond = [f"{name} ({effects.told(found, name)})" for name in effects.beyond(found)]
    return {
        "ablation_runs": int((frame["status"] == "completed").sum()),
        "ablation_all": len(frame),
        "method": " ".join(
            filter(
                None,
                (
                    effects.method(found, "the network and recipe as released"),
                    effects.about_images(found),
                    schedule_note(study),
                ),
            )
        ),
        "beyond": _beyond(found, beyond),
        "smoothing_says": verdict_on_smoothing(found, points),
    }


def _beyond(found: Effects, listed: list[str]) -> str:
    """Which departures change accuracy beyond the spread over seeds, in a sentence."""
    if not found.decides:
        return "Too few runs share their seeds to say which departure matters."
    number = len(found.against)
    if listed:
        return (
            f"{len(listed)} of {number} simultaneous intervals leave out zero: {', '.join(listed)}."
        )
    widest = max(max(abs(one.low), abs(one.high)) for one in found.against.values())
    return (
        f"None of {number} simultaneous intervals leaves out zero. That does not show that nothing "
        f"matters: at this size a departure may change top-1 by up to {widest:.1f} points."
    )


def verdict_on_smoothing(found: Effects, points: float) -> str:
    """The end of a sentence: what the ablation says of the repaired smoothing as the reason for
    a loss of so many points.
    """
    if SMOOTHING not in found.against:
        return "cannot be said, since the ablation is not run"
    effect = found.against[SMOOTHING]
    if not found.decides:
        return f"cannot be said from so few runs ({effects.told(found, SMOOTHING)})"
    low, high = effect.low, effect.high
    size = f"at this size it changes the accuracy by {effects.told(found, SMOOTHING)}"
    if low <= 0 <= high:
        holds = "and the whole gap" if low <= -points else "but not the gap"
        return f"cannot be told: {size}, an interval that holds zero {holds}"
    if low > 0:
        return f"is not supported: {size}, a gain, where the gap is a loss"
    return f"is supported in its sign: {size}, " + (
        "an interval that holds the whole gap"
        if low <= -points <= high
        else f"{'more' if high < -points else 'less'} than the gap"
    )
