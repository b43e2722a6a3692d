"""Recipes side by side, in words: what they say, where they differ, which values are ours, what
timm's flags become, what each difference does to a network.
"""

from collections.abc import Iterable
from dataclasses import fields

import pandas as pd

from astroformer.ledger import tables
from astroformer.recipes import OURS, TOLD, Recipe, get_recipe, timm_flags

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


# What a study shows


def study_table(frame: pd.DataFrame, study: str) -> pd.DataFrame:
    """A row for each variation of a study (`studies.frame`): accuracies over seeds, the change of
    the balanced one against the first variation with the same seed, and the line that trains what
    is missing.
    """
    done = frame[frame["status"] == "completed"]
    measured = {
        name: done[done["variation"] == name].set_index("seed")
        for name in dict.fromkeys(frame["variation"])
    }
    first, rows = next(iter(measured.values())), []
    for name, own in measured.items():
        values = {
            metric: list(own[metric]) if len(own) else []
            for metric in ("top1", "balanced_accuracy")
        }
        both = own.index.intersection(first.index)
        change = (
            list(own["balanced_accuracy"][both] - first["balanced_accuracy"][both])
            if len(both)
            else []
        )
        missing = int((frame["variation"] == name).sum()) - len(own)
        rows.append(
            {
                "variation": name,
                "top-1 (%)": tables.mean_interval(values["top1"]),
                "balanced (%)": tables.mean_interval(values["balanced_accuracy"]),
                "change (points)": tables.mean_interval(change) if own is not first else "",
                "seeds missing": missing,
                "command": f"astroformer study {study}" if missing else "",
            }
        )
    return pd.DataFrame(rows)
