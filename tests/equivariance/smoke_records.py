"""Records of short runs, as far as the tables about moved images read them."""

from dataclasses import asdict

from astroformer.equivariance.trained import SYNTHETIC
from astroformer.ledger import records
from astroformer.recipes import get_recipe

PICO = "astroformer_pico"
REPAIRED = {"downsampling": "polyphase", "offsets": "torus", "padding": "circular"}
FIRST = "smoke (revision 1)"  # what a table calls the recipe of these records


def record(seed, top1, recipe="smoke", **changes):
    """A record of the ledger, as far as the tables here read it."""
    dataset = dict(
        title=SYNTHETIC,
        kind="synthetic",
        source="galaxies",
        sha256="s",
        train=10,
        evaluated_on="test",
    ) | changes.pop("dataset", {})
    recipe = asdict(get_recipe(recipe) if isinstance(recipe, str) else recipe)
    return (
        dict.fromkeys(records.FIELDS)
        | dict(
            run=f"{seed} {recipe} {changes}",
            status="completed",
            model=PICO,
            options={},
            image_size=64,
            fraction=1.0,
            recipe=recipe,
            seed=seed,
            precision="float32",
            dataset=dataset,
            metrics={"top1": top1, "balanced_accuracy": changes.pop("balanced", top1)},
            started=f"2026-01-01T00:00:0{seed}+00:00",
        )
        | changes
    )
