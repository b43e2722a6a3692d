"""Recipes side by side, in words: what they say, where they differ, which values are ours, what
timm's flags become, what each difference does to a network.
"""

from collections.abc import Iterable
from dataclasses import fields

import pandas as pd

from astroformer import contrasts
from astroformer.ledger import tables
from astroformer.recipes import OURS, TOLD, Recipe, get_recipe, timm_flags
from astroformer.studies import effects, studies
from astroformer.studies.effects import Effects, Pair
from astroformer.studies.published import RERUNS, reported_by_others
from astroformer.studies.recipes import COMPARED, PLACES, variation
from astroformer.studies.studies import get_study

OFF = "off"
MARK = " *"  # behind a value that no document gives
UNITS = {
    "epochs": "epochs",
    "warmup_epochs": "epochs",
    "batch_size": "images a step",
    "micro_batch_size": "images at a time",
    "cutout_side": "of the image's side",
}
# what a value of 0 means that does not switch anything off
OF_ZERO = {"micro_batch_size": "the whole batch", "cutout_side": "a rectangle of random size"}


# Words


def in_words(recipe: Recipe, field: str) -> str:
    """The value of a field with its unit; "off" for what is switched off, or has no effect beside
    something that is.
    """
    decides = recipe.effective() | {"precision": recipe.precision}
    if field not in decides:
        return OFF
    value = decides[field]
    if field in OF_ZERO and not value:
        return OF_ZERO[field]
    if isinstance(value, bool):
        return "on" if value else OFF
    if isinstance(value, list):
        return " to ".join(f"{part:g}" for part in value)
    if value in (0, "", "none"):
        return OFF
    text = (
        value
        if isinstance(value, str)
        else f"{value:,}"
        if isinstance(value, int)
        else f"{value:.3g}"
    )
    return f"{text} {UNITS[field]}" if field in UNITS else text


# Tables of recipes


def side_by_side(recipes: Iterable[Recipe]) -> pd.DataFrame:
    """A row for each field that is on in any of the recipes, a column a recipe, by its name."""
    recipes = list(recipes)
    rows = {
        field.name: [in_words(recipe, field.name) for recipe in recipes]
        for field in fields(Recipe)
        if field.name not in TOLD
    }
    shown = {field: row for field, row in rows.items() if set(row) != {OFF}}
    return pd.DataFrame(
        shown.values(), index=list(shown), columns=[recipe.name for recipe in recipes]
    )


def differences(names: Iterable[str]) -> pd.DataFrame:
    """The fields in which recipes of the table differ, a column a recipe. A star: no document
    gives this value, it is ours.
    """
    names = list(names)
    table = side_by_side(get_recipe(name) for name in names)
    table = table[table.nunique(axis=1) > 1]
    return pd.DataFrame(
        {
            name: [value + MARK * (field in OURS[name]) for field, value in table[name].items()]
            for name in names
        },
        index=table.index,
    )


def difference_facts(table: pd.DataFrame) -> dict[str, int]:
    """Of `differences`: how many fields differ, and how many values are ours."""
    return {
        "fields": len(table),
        "ours": int(table.map(lambda value: value.endswith(MARK)).to_numpy().sum()),
    }


# The README's command


def flag_table(names: Iterable[str]) -> pd.DataFrame:
    """What each flag of a command decides here, or that it decides nothing, and what it means or
    why not.
    """
    rows = [
        {
            "flag": name,
            "decides": timm_flags.FLAGS[name].decides,
            "meaning": timm_flags.FLAGS[name].meaning,
        }
        for name in names
    ]
    return pd.DataFrame(rows)


def flag_facts(words: list[str], *, batch_size: int) -> dict[str, object]:
    """What a page says of a command and of the same command on one GPU with a smaller batch."""
    reading = timm_flags.read(words)
    alone = timm_flags.read([*words, "--gpus", "1", "--batch-size", str(batch_size)]).recipe
    names = [word for word in words if word.startswith("--")]
    return {
        "flags": len(names),
        "in_vain": len(reading.warnings),
        "rate": reading.recipe.learning_rate,
        "batch": reading.recipe.batch_size,
        "rate_alone": alone.learning_rate,
        "batch_alone": alone.batch_size,
        "same": "exactly"
        if reading.recipe.canonical() == get_recipe("readme").canonical()
        else "not",
    }


# What the studies show

ALPHA = 0.05
BALANCED = "balanced_accuracy"  # since the classes of Galaxy Zoo 1 are so unequal


def compared(study: str, found: list[dict] | None = None) -> Effects:
    """Balanced accuracy of each variation of a study against that of its first one, from all
    records of the ledger or those given.
    """
    return effects.effects(
        studies.frame(study, found), next(iter(get_study(study).variations)), metric=BALANCED
    )


def two_recipes(found: list[dict] | None = None) -> dict[str, Pair]:
    """What the methodology notes' recipe has more than the README's, in points of balanced
    accuracy: for each network, data set and size of the study `recipes`. The images of a data set
    are a block.
    """
    blocks: dict[str, dict[str, tuple[str, str]]] = {}
    for place in PLACES:
        model, folder, pixels = place
        pair = tuple(variation(place, recipe) for recipe in COMPARED)
        blocks.setdefault(folder, {})[f"{model}, {folder}, {pixels} px"] = pair
    return effects.pairs(studies.frame("recipes", found), blocks.values(), metric=BALANCED)


def two_recipes_table(found: dict[str, Pair]) -> pd.DataFrame:
    """A row for each of `two_recipes`."""
    return effects.pairs_table(found, COMPARED, BALANCED)


def progress(study: str, found: list[dict] | None = None) -> str:
    """How many of a study's runs are missing, and the command that makes them, in words."""
    status = studies.frame(study, found)["status"]
    made, every = int((status == "completed").sum()), len(status)
    if made == every:
        return f"All {every} runs are made."
    missing = f"Not run: {every - made if made else 'all'} of the {every} runs."
    return f"{missing} `astroformer study run {study}` makes them; it needs a GPU."


def which_matter(found: Effects) -> str:
    """Which differences change the accuracy, and how that was found out, in sentences; nothing
    where nothing can be compared.
    """
    if found.model is None:
        return ""
    told = [effects.method(found, f"the recipe {found.base}"), effects.about_images(found)]
    if found.decides:
        clear = [f"{name} ({effects.told(found, name)})" for name in effects.beyond(found)]
        widest = max(max(abs(one.low), abs(one.high)) for one in found.against.values())
        told.append(
            f"{len(clear)} of {len(found.against)} intervals leave out zero: {', '.join(clear)}."
            if clear
            else f"None of {len(found.against)} intervals leaves out zero: each change may be up "
            f"to {widest:.1f} points."
        )
    return " ".join(filter(None, told))


def stacks(found: list[dict] | None = None) -> dict[str, Pair]:
    """What C-C-C-T has more than each other stack under one recipe, in points of top-1: for each
    network of the study `tiny_imagenet`, whose three stacks are a block.
    """
    blocks: dict[str, dict[str, tuple[str, str]]] = {}
    for name, run in get_study("tiny_imagenet").variations.items():
        if run.options:
            pair = (name, f"{run.model}, C-C-C-T")
            blocks.setdefault(run.model, {})[name] = pair
    return effects.pairs(studies.frame("tiny_imagenet", found), blocks.values())


def stacks_table(found: dict[str, Pair]) -> pd.DataFrame:
    """A row for each of `stacks`."""
    return effects.pairs_table(found, ("this stack", "C-C-C-T"), "top1")


def which_is_better(found: dict[str, Pair], what: str) -> str:
    """Which pairs differ, in sentences, where `what` says what less what; nothing where nothing can
    be compared.
    """
    known = {name: one.contrast for name, one in found.items() if one.contrast}
    if not known:
        return ""
    clear = [
        f"{name} {one.estimate:+.2f} points (95 % {effects.ends(one)})"
        for name, one in known.items()
        if one.p < ALPHA
    ]
    widest = max(max(abs(one.low), abs(one.high)) for one in known.values())
    told = (
        "; ".join(clear) or f"no difference is told from 0, each may be up to {widest:.1f} points"
    )
    return (
        f"{what}: {told}. The intervals of all {len(found)} comparisons hold together, and p is "
        f"Holm's over those {len(known)} that can be made. They hold for other seeds and not for "
        "other images."
    )


def reruns(claims: pd.DataFrame, found: list[dict] | None = None) -> pd.DataFrame:
    """A row for each command that others published: what they report, what was measured by the
    same command, and where one further run of ours would lie (95 %).
    """
    frame, rows = studies.frame("public_reruns", found), []
    for name, rerun in RERUNS.items():
        own = frame[(frame["variation"] == name) & (frame["status"] == "completed")]
        values = own["top1"].astype(float).dropna() if len(own) else []
        further = contrasts.prediction_interval(values) if len(values) >= tables.LEAST else None
        rows.append(
            {
                "issue": rerun.source,
                "command": name,
                "reported (%)": reported_by_others(rerun, claims) or "no number",
                "measured (%)": tables.mean_interval(list(values)),
                "one further run": f"{further.low:.1f} to {further.high:.1f}" if further else "",
            }
        )
    return pd.DataFrame(rows)
