"""Which runs may stand beside a claim, in every table and for every verdict: `barred` says which
are about something else, `departure` how the others differ from the publication.

Reads top to bottom: what is published, which runs, in which groups, the table.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from astroformer import data
from astroformer.ledger import links, records, tables
from astroformer.ledger.claims import README, id_of, source_of
from astroformer.recipes import RECIPES, Recipe, replace, same_values, values_of

# Pixels: of the scaling curves (poster) or the tables first, then of the training command (README:
# 256 for Galaxy10).
IMAGE_SIZES = {"Astroformer": (224, 256), "SpectFormer": (224,), "ViT-CIFAR": (32,)}
# Largest stochastic depth of the networks whose publications give them one of their own: the
# SpectFormer README's commands; those not named here have their recipe's.
DROP_PATH = {"spectformer_s": 0.15, "spectformer_b": 0.25, "spectformer_h_l": 0.3}
# How far a recipe is from the one that a number was published with, the nearest first.
WHOSE = ("", "published", "partly ours", "ours")


class Subject(NamedTuple):
    """What a claim or a page is about, as far as a run may be about it too (`barred`)."""

    dataset: str  # its title
    system: str = "Astroformer"


def published_recipe(claim) -> Recipe:
    """The recipe with which the numbers of the claim's network were published."""
    if claim.system == "Astroformer":
        name = "readme"
    elif claim.system == "SpectFormer":
        name = "spectformer_h" if claim.model.startswith("spectformer_h") else "spectformer"
    else:
        name = "vit_cifar_svhn" if claim.dataset == "SVHN" else "vit_cifar"
    recipe = RECIPES[name]
    if claim.model in DROP_PATH:
        return replace(recipe, drop_path_rate=DROP_PATH[claim.model], values="published")
    return recipe


def runs_beside(claim, frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Runs of the claim's network on its data set or a stand-in for it, as `tables.gathered` has
    them, with a column more: `barred`, why a run is not about the claim at all, "" if it is.
    """
    return [
        group.assign(barred=[barred(run, claim) for _, run in group.iterrows()])
        for group in tables.gathered(_about(claim, frame))
    ]


def studied(claim, frame: pd.DataFrame) -> bool:
    """Whether a study with a design trained the claim's network on its data set or a stand-in for
    it. Such runs take a part of the images, and stand on the study's page (`tables.of_no_study`).
    """
    about = _about(claim, frame)
    return len(tables.of_no_study(about)) < len(about)


def _about(claim, frame: pd.DataFrame) -> pd.DataFrame:
    """The records of the claim's network on its data set: CIFAR-10 (JPEG re-encode) for CIFAR-10,
    but not CIFAR-100.
    """
    if not len(frame):
        return frame
    begins = re.compile(re.escape(claim.dataset) + r"(?![\w-])")
    about = frame["dataset.title"].map(lambda title: begins.match(str(title)) is not None)
    return frame[(frame["model"] == claim.model) & about]


def barred(run: pd.Series, claim) -> str:
    """Why a run is not about the claim (or a Subject): other data or another network than the
    claim's, or other weights at the beginning. "" if it is. Every table and verdict asks here.
    """
    if run["dataset.kind"] != "real":
        return f"on {run['dataset.title']}, which is {run['dataset.kind']}"
    if run["dataset.title"] != claim.dataset:
        return f"on {run['dataset.title']}"
    if run["fraction"] != 1:
        return f"with {100 * run['fraction']:g} % of the training images"
    if run["dataset.evaluated_on"] != "test":
        return f"on {run['dataset.evaluated_on']} images instead of the test images"
    held_out = run.get("dataset.validation")
    if isinstance(held_out, int | float) and held_out > 0:
        return f"with {100 * held_out:g} % of the training images held out"
    tested = run.get("dataset.test_images")
    known = data.DATASETS.get(run.get("dataset.source"))
    if pd.notna(tested) and tested != (known and known.test):
        return f"on {tested:,.0f} test images, another number than the data set's own split has"
    if pd.notna(run.get("init.sha256")) or tables.begun(run):
        return f"with given weights at the beginning{tables.begun(run)}"
    changed = records.options_of(run)
    if claim.system == "Astroformer" and pd.notna(run["stack"]):
        changed.setdefault("stack", run["stack"])
    changes = [
        f"{name} {value}" for name, value in changed.items() if (name, value) != ("stack", "CCCT")
    ]
    return f"with another network ({', '.join(changes)})" if changes else ""


@dataclass(frozen=True, eq=False)
class Beside:
    """Runs that are about a claim and differ in nothing but the seed, one a seed."""

    runs: pd.DataFrame  # as `tables.gathered` has them: those that diverged are among them
    whose: str  # the recipe's values, one of WHOSE; "" is the recipe of the publication itself
    resized: bool  # whether the images have another size than the publication's
    departure: str  # both in words; "" is none
    label: str  # recipe and pixels, and in what another group of these words differs

    @cached_property
    def ended(self) -> pd.DataFrame:
        return tables.ended(self.runs)

    @property
    def distance(self) -> tuple[int, bool, int]:
        """From the publication: recipe, image size, revision of the training."""
        return WHOSE.index(self.whose), self.resized, -int(self.runs["revision"].iloc[0])


def groups_beside(claim, frame: pd.DataFrame) -> list[Beside]:
    """The runs that are about the claim, in groups that differ in nothing but the seed: the nearest
    to the publication first, and of equally near ones the larger. A group is left out of which runs
    ended, but none with the claim's metric.
    """
    whole = [group for group in runs_beside(claim, frame) if (group["barred"] == "").all()]
    if claim.metric != "seconds":
        whole = [group for group in whole if _tells(group, claim.metric)]
    labels = [f"{tables.recipe(group)}, {group['image_size'].iloc[0]} pixels" for group in whole]
    found = [
        Beside(group, *departure(group, claim), label + apart)
        for group, label, apart in zip(whole, labels, tables.differences(labels, whole))
    ]
    return sorted(found, key=lambda group: (group.distance, -len(group.ended)))


def _tells(group: pd.DataFrame, metric: str) -> bool:
    """Whether a run has the metric, or none ended."""
    done = tables.ended(group)
    return not len(done) or bool(tables.metric(done, metric).notna().any())


def departure(group: pd.DataFrame, claim) -> tuple[str, bool, str]:
    """(one of WHOSE, whether resized, in words) how a group of runs departs from the publication in
    recipe and image size. Its runs have one recipe, by whatever names: the values decide, not the
    names.
    """
    run = group.iloc[0]
    told = dict(run["identity"].get("recipe") or {})
    name = tables.spelled(str(run["recipe.name"]))
    if same_values(told, published_recipe(claim)):
        whose, parts = "", []
    else:
        said = run.get("recipe.values")
        said = {"values": said} if isinstance(said, str) else {}
        whose = values_of({**told, "name": name, **said})
        parts = [
            f"the recipe {name}, "
            + (
                "with which no such number was published"
                if whose == "published"
                else f"whose values are {whose}"
            )
        ]
    resized = run["image_size"] not in IMAGE_SIZES[claim.system]
    if resized:
        parts.append(f"{run['image_size']} pixels")
    return whose, resized, " and ".join(parts)


BESIDE = ("data set", "model", "reported (%)", "measured (%)", "measured with", "source")


def reported_beside_measured(
    claims: pd.DataFrame,
    frame: pd.DataFrame | None = None,
    metric: str = "top1",
    source: str = README,
) -> pd.DataFrame:
    """Each claim of one metric and source, and the measurements that may stand beside it: a line
    for each group of runs, or one that says "not run".
    """
    frame = records.frame() if frame is None else frame
    chosen = claims[
        (claims["metric"] == metric) & (claims["model"] != "") & (claims["source"] == source)
    ]
    rows = []
    for claim in chosen.itertuples(index=False):
        measured = [
            (tables.cell(group.runs, metric), group.label) for group in groups_beside(claim, frame)
        ]
        value = links.reported(claim.value, id_of(claim))
        rows += [
            (claim.dataset, claim.model, value, *cells, source_of(claim.source, claim.table))
            for cells in measured or [(tables.NOT_RUN, "")]
        ]
    return links.frame(rows, BESIDE)
