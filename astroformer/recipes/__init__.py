"""Hyper-parameters as values. A recipe decides everything about training but the model, the data
and the seed.

`RECIPES` is the one table, a module for each source of recipes. A variation is `replace(recipe,
epochs=10)`, from the command line `--set epochs=10`.
"""

import re
from collections.abc import Mapping

from astroformer.recipes import astroformer, finetune, lowdata, smoke, spectformer, vit_cifar
from astroformer.recipes.recipe import CHOICES, TOLD, Recipe, parse_changes, replace, setting

__all__ = [
    "BIOGRAPHIES",
    "OURS",
    "RECIPES",
    "TOLD",
    "Recipe",
    "get_recipe",
    "parse_changes",
    "replace",
    "same_values",
    "setting",
    "values_of",
]

MODULES = (smoke, lowdata, finetune, astroformer, spectformer, vit_cifar)
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for module in MODULES for recipe in module.RECIPES
}
# By name: what the module of the recipe tells of it and its relatives, and the fields whose values
# no document gives.
BIOGRAPHIES: dict[str, str] = {
    recipe.name: module.__doc__ for module in MODULES for recipe in module.RECIPES
}
OURS: dict[str, tuple[str, ...]] = {
    name: getattr(module, "OURS", {}).get(name, ())
    for module in MODULES
    for name in (recipe.name for recipe in module.RECIPES)
}


def get_recipe(name: str, **changes) -> Recipe:
    """A recipe of the table, with some fields changed."""
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is not known; choose one of {', '.join(RECIPES)}")
    return replace(RECIPES[name], **changes)


def same_values(told: Mapping[str, object], recipe: Recipe) -> bool:
    """Whether the recipe of a record comes to the same training as another, whatever it is called.
    `told` holds its fields, of any age. Where `recipe` leaves the preprocessing to the weights
    ("auto"), the record may say either.
    """
    try:
        own = Recipe.from_record({"name": "", "source": "", **told}).canonical()
    except (TypeError, ValueError):  # not whole, or refused by today's checks
        return False
    theirs = recipe.canonical()
    if theirs["preprocessing"] == "auto":
        own["preprocessing"] = "auto"
    return own == theirs


def values_of(told: Mapping[str, object]) -> str:
    """Whose the values of a record's recipe are: "published", "partly ours" or "ours". `told` holds
    its fields, of any age.

    A record that does not say so is held against the table: it has the values of the recipe that it
    equals, and a published recipe with other values is "partly ours". What OURS lists is never
    published, whatever the record says.
    """
    base = re.split(r"\+(?=[a-z_0-9]+=)", str(told.get("name", "")))[0]
    values = told.get("values")
    if values not in CHOICES["values"]:
        equal = [name for name, recipe in RECIPES.items() if same_values(told, recipe)]
        if equal:
            values = RECIPES[base if base in equal else equal[0]].values
        elif base in RECIPES:
            values = "ours" if RECIPES[base].values == "ours" else "partly ours"
        else:
            values = "ours"
    return "partly ours" if values == "published" and OURS.get(base) else str(values)
