"""The tables of the three publications, and the commands that others published in issues, as runs.
Who has GPUs makes them by name: `astroformer study run table_vit_cifar`.

Reads top to bottom: the run behind a published number (`run_behind`; the results pages ask it too,
for what is missing), the tables, the re-runs. The numbers themselves are claims.
"""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from astroformer.data import DATASETS
from astroformer.recipes import Recipe, get_recipe, timm_flags
from astroformer.studies.study import Study, run_of
from astroformer.training.run import Run
from astroformer.verdicts.accuracies import ENOUGH
from astroformer.verdicts.beside import IMAGE_SIZES, published_recipe

TITLES = {row.title: name for name, row in DATASETS.items()}
# As many seeds as a claim needs to be contradicted; fewer can only agree with it.
SEEDS = tuple(range(ENOUGH))


class Row(NamedTuple):
    """A number of a publication's table, as far as the run behind it depends on it."""

    system: str
    model: str
    dataset: str  # its title


def run_behind(row) -> Run:
    """The training with which the number of a Row (or of a claim) was published: recipe and pixels
    as its documents name them, the whole data set. KeyError for a data set that is not known.
    """
    sizes = IMAGE_SIZES[row.system]
    # the README's training command, which is for Galaxy10, has a size of its own
    pixels = sizes[-1] if row.dataset == "Galaxy10 DECaLS" else sizes[0]
    return run_of(row.model, TITLES[row.dataset], published_recipe(row), image_size=pixels)


# The tables. SpectFormer's hierarchical networks are not among them: their numbers need the labels
# of a stronger teacher, and no training here has these.

TABLES: dict[str, tuple[Row, ...]] = {
    "table_astroformer": tuple(
        Row("Astroformer", f"astroformer_{size}", dataset)
        for dataset in ("CIFAR-100", "CIFAR-10", "Tiny ImageNet", "Galaxy10 DECaLS")
        for size in (3, 4, 5)
    ),
    "table_spectformer": tuple(
        Row("SpectFormer", f"spectformer_{size}", "ImageNet-1k") for size in ("ti", "xs", "s", "b")
    ),
    "table_vit_cifar": tuple(
        Row("ViT-CIFAR", "vit_cifar", dataset) for dataset in ("CIFAR-10", "CIFAR-100", "SVHN")
    ),
}


def _table(rows: tuple[Row, ...], what: str) -> Study:
    return Study(
        f"Which accuracies of {what} does its own recipe reach, seed by seed? For GPUs.",
        {f"{row.model}, {row.dataset}": run_behind(row) for row in rows},
        SEEDS,
    )


# The re-runs


@dataclass(frozen=True)
class Rerun:
    """A training whose settings somebody published in an issue."""

    source: str  # the issue, as the claims name it
    run: Run


def _flags(*words: str) -> Recipe:
    """The README's flags as the issues repeat them, for one GPU and an image of any size, and those
    in which a command differs.
    """
    shared = (
        "--gpus 1 --opt adamw --sched cosine --lr-base 2e-5 --warmup-lr 1e-5 --epochs 300 "
        "--warmup-epochs 5 --mixup 0.8 --smoothing 0.1"
    )
    return timm_flags.read([*shared.split(), *words]).recipe


# Issue #6 trains in float32 (its commands lack --amp) and without dropout. Its command at 32 pixels
# fails in the release, which builds every network for 224; here the network fits the images. Issue
# #5 of Astroformer (CIFAR-10) and the fork (Tiny ImageNet) report a number without a command. Who
# wrote issue #10 of ViT-CIFAR ran the code as it was, with the smoothing that takes effect since
# the repair.
_SIX = _flags("--batch-size", "64", "--drop", "0")
_TEN = get_recipe("vit_cifar_smoothing")
RERUNS: dict[str, Rerun] = {
    "astroformer_3, CIFAR-100, 224 px, batch 128": Rerun(
        "Astroformer issue #1",
        run_of(
            "astroformer_3",
            "cifar100",
            _flags("--batch-size", "128", "--drop", "0.1", "--amp"),
            image_size=224,
        ),
    ),
    "astroformer_0, CIFAR-100, 224 px, batch 64": Rerun(
        "Astroformer issue #6", run_of("astroformer_0", "cifar100", _SIX, image_size=224)
    ),
    "astroformer_0, CIFAR-100, 32 px, batch 64": Rerun(
        "Astroformer issue #6", run_of("astroformer_0", "cifar100", _SIX, image_size=32)
    ),
    "vit_cifar, CIFAR-10, with smoothing": Rerun(
        "ViT-CIFAR issue #10", run_of("vit_cifar", "cifar10", _TEN, image_size=32)
    ),
    "vit_cifar, CIFAR-100, with smoothing": Rerun(
        "ViT-CIFAR issue #10", run_of("vit_cifar", "cifar100", _TEN, image_size=32)
    ),
}


def reported_by_others(rerun: Rerun, claims: pd.DataFrame) -> str:
    """The accuracy (%) that a re-run's issue reports, as it is printed there; "" if it has none."""
    own = claims[
        (claims["by"] == "others")
        & (claims["metric"] == "top1")
        & (claims["source"] == rerun.source)
        & (claims["model"] == rerun.run.model)
        & (claims["dataset"] == DATASETS[rerun.run.dataset].title)
    ]
    return str(own["value"].iloc[0]) if len(own) else ""


STUDIES = {
    "table_astroformer": _table(TABLES["table_astroformer"], "Astroformer's README"),
    "table_spectformer": _table(TABLES["table_spectformer"], "SpectFormer's README"),
    "table_vit_cifar": _table(TABLES["table_vit_cifar"], "ViT-CIFAR's README"),
    "public_reruns": Study(
        "What do the commands come to that others published in the issues #1 and #6 of Astroformer "
        "and #10 of ViT-CIFAR, over several seeds? For GPUs.",
        {name: rerun.run for name, rerun in RERUNS.items()},
        SEEDS,
    ),
}
