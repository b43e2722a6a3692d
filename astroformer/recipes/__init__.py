"""Hyper-parameters as values. A recipe decides everything about training but the model, the data
and the seed.

`RECIPES` is the one table, a module for each source of recipes. A variation is `replace(recipe,
epochs=10)`, from the command line `--set epochs=10`.
"""

from astroformer.recipes import astroformer, lowdata, smoke, spectformer, vit_cifar
from astroformer.recipes.recipe import TOLD, Recipe, parse_changes, replace, setting

__all__ = [
    "BIOGRAPHIES",
    "OURS",
    "RECIPES",
    "TOLD",
    "Recipe",
    "get_recipe",
    "parse_changes",
    "replace",
    "setting",
]

MODULES = (smoke, lowdata, astroformer, spectformer, vit_cifar)
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
