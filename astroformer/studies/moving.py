"""The trained networks that the page on equivariance measures: which, and the measurement of one
that has just been trained, into the local ledger.

A unit here is answered by a measurement of its run (`equivariance.causes.read`), not by its record
alone: a committed record has no weights, so what is measured anew is trained anew.
"""

from collections.abc import Mapping
from dataclasses import replace

from astroformer.equivariance import causes, systems, trained
from astroformer.equivariance.network import architecture
from astroformer.recipes import get_recipe
from astroformer.studies.asked import Asked, Unit, answers, classes_of
from astroformer.studies.results import FOLDERS
from astroformer.studies.study import run_of
from astroformer.training import Fitted, Run

PAGE = "equivariance"
IMAGES = 200  # of the test split that are measured, as `astroformer equivariance --keep` takes them


def kept() -> list[Run]:
    """The trainings whose measurements are committed, each to be made with several seeds."""
    zoo = FOLDERS["galaxyzoo1"].name
    pico = run_of("astroformer_pico", "galaxies", get_recipe("smoke"), image_size=64)
    others = []
    for model, options in systems.NETWORKS.values():
        own = dict(options)
        pixels = own.pop("img_size")
        others.append(
            run_of(model, "galaxies", get_recipe("smoke"), options=own, image_size=pixels)
        )
    real = replace(pico, dataset="folder", data_dir=zoo, recipe=get_recipe("smoke", epochs=4))
    return [pico, real, *others]


def asked_by(parameters: Mapping) -> Asked:
    """What the page asks for: the run whose weights it draws, `model` under `recipe` and `epochs`,
    unless a `checkpoint` takes its place; and `kept`; each with `seeds` seeds.
    """
    recipe = get_recipe(
        parameters["recipe"], **({"epochs": parameters["epochs"]} if parameters["epochs"] else {})
    )
    pixels = parameters["image_size"]
    drawn = run_of(parameters["model"], "galaxies", recipe, image_size=pixels)
    if parameters["seeds"] < 1:
        raise ValueError(f"seeds {parameters['seeds']}: give at least 1")
    first, each = parameters["seed"], range(parameters["seeds"])
    runs = [replace(drawn, seed=first + seed) for seed in each if not parameters["checkpoint"]]
    runs += [replace(run, seed=seed) for seed in each for run in kept()]
    runs = list(dict.fromkeys(runs))
    measured = causes.read()
    known = list(measured["training"]) if len(measured) else []
    return Asked(
        tuple(
            Unit(
                study=PAGE,
                stage="measured",
                label=f"{run.model}, {run.data_dir or run.dataset}, {run.recipe.name}, "
                f"seed {run.seed}",
                run=run,
                classes=classes_of(run),
                group=f"{PAGE} {run.dataset} {run.seed}",
                record=record,
                pages=(PAGE,),
            )
            for run, record in zip(runs, answers(runs, known))
        ),
        0,
    )


def measure(unit: Unit, fitted: Fitted) -> None:
    """Adds the measurements of a network to the local ledger: what its errors consist of, and of an
    Astroformer how far its logits move.
    """
    run = unit.run
    images = trained.sample(
        run.dataset, IMAGES, image_size=fitted.record["image_size"], data_dir=run.data_dir
    )
    if architecture(run.model) == "astroformer":
        trained.keep_here(trained.measure(fitted.weights, images))
    causes.keep_here(causes.measure(fitted.weights, images))


# How `make` makes these: with weights, which are measured.
HOW = {"need_weights": True, "then": measure}
