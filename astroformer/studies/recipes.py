"""The studies of recipes and stacks that a GPU makes: which recipe trains better, which of their
differences matters, which stack. The page "Recipes" shows what they found.

All of them train as one GPU does (`on_one_gpu`). The recipes are written for 2,048 images a step;
with so many, the 5,331 galaxies of Galaxy Zoo 1 make two steps an epoch and 600 in all, which
leaves a network nearly as it was drawn.
"""

from dataclasses import asdict, replace

from astroformer.recipes import TOLD, Recipe, get_recipe, setting, timm_flags
from astroformer.recipes import replace as changed
from astroformer.studies.study import Study, run_of, vary
from astroformer.training.run import Run

# The folders into which archives unpack, found below ASTROFORMER_DATA or where one stands.
CIFAR10_JPEG, GALAXY_ZOO = "cifar10-jpeg", "galaxyzoo1-128"

# The README's command on one GPU with the batch of those who ran it again (issue #1): 128 images,
# and by timm's rule a quarter of the rate.
ONE_GPU = timm_flags.read(
    [*timm_flags.README_COMMAND.split(), "--gpus", "1", "--batch-size", "128"]
).recipe
# As long as that run, which is known to learn: 300 epochs of CIFAR-100 in whole batches. Steps and
# not epochs, so that a data set of few images is trained as long as one of many.
STEPS = ONE_GPU.epochs * (50_000 // ONE_GPU.batch_size)
# With two arms or more, eight seeds find a difference of 1.2 points where runs spread by one, and
# leave the pooled residual enough degrees of freedom (`effects.FREEDOM`).
SEEDS = tuple(range(8))


def on_one_gpu(recipe: Recipe) -> Recipe:
    """One of Astroformer's recipes as one GPU trains it: the batch and the rate of ONE_GPU, STEPS
    steps, and as large a part of them for the warm-up as the recipe has. BatchNorm then sees 128
    images instead of 256.
    """
    return changed(
        recipe,
        batch_size=ONE_GPU.batch_size,
        micro_batch_size=ONE_GPU.micro_batch_size,
        learning_rate=ONE_GPU.learning_rate,
        steps=STEPS,
        warmup_part=recipe.warmup_epochs / recipe.epochs,
    )


def called(recipe: Recipe) -> str:
    """The name of the recipe of the table that another was made from: "readme"."""
    return recipe.name.partition("+")[0]


def each_alone(run: Run, towards: Recipe) -> dict[str, Run]:
    """The run; with each field alone in which its recipe differs from another one; with that
    other recipe, all of them at once.
    """
    differing = {
        name: value
        for name, value in asdict(towards).items()
        if name not in TOLD and value != getattr(run.recipe, name)
    }
    return (
        {called(run.recipe): run}
        | {
            setting(name, value): vary(run, recipe={name: value})
            for name, value in differing.items()
        }
        | {called(towards): replace(run, recipe=towards)}
    )


# Network, folder, pixels: where the study `recipes` compares the two recipes.
PLACES = tuple(
    (model, folder, pixels)
    for pixels in (64, 128)
    for folder in (CIFAR10_JPEG, GALAXY_ZOO)
    for model in ("astroformer_0", "astroformer_pico")
)
COMPARED = ("readme", "methodology")


def variation(place: tuple[str, str, int], recipe: str) -> str:
    """What the study `recipes` calls the run of a recipe at one of PLACES."""
    model, folder, pixels = place
    return f"{model}, {folder}, {pixels} px, {recipe}"


def _recipes() -> dict[str, Run]:
    return {
        variation(place, recipe): run_of(
            place[0],
            "folder",
            on_one_gpu(get_recipe(recipe)),
            data_dir=place[1],
            image_size=place[2],
        )
        for place in PLACES
        for recipe in COMPARED
    }


def _tiny_imagenet() -> dict[str, Run]:
    return {
        f"{model}, {'-'.join(stack)}": run_of(
            model,
            "tiny_imagenet",
            on_one_gpu(get_recipe("methodology")),
            image_size=64,
            # C-C-C-T is the default
            options={} if stack == "CCCT" else {"stack": stack},
        )
        for model in ("astroformer_3", "astroformer_0")
        for stack in ("CCCT", "CCTT", "CTTT")
    }


# What is switched: the small network on galaxies, of which a GPU makes many runs.
PICO_README = run_of(
    "astroformer_pico",
    "folder",
    on_one_gpu(get_recipe("readme")),
    data_dir=GALAXY_ZOO,
    image_size=64,
)

STUDIES = {
    "recipes": Study(
        "Does the README's recipe or that of the methodology notes train better, at which size, "
        "and for how large a network? For a GPU.",
        _recipes(),
        SEEDS,
    ),
    "recipe_differences": Study(
        "Which difference between the README's recipe and the methodology notes' matters? Galaxy "
        "Zoo 1, for a GPU.",
        each_alone(PICO_README, on_one_gpu(get_recipe("methodology"))),
        SEEDS,
    ),
    "recipe_differences_paper": Study(
        "Which difference between the README's recipe and the one that others read in the paper "
        "matters? Galaxy Zoo 1, for a GPU.",
        each_alone(PICO_README, on_one_gpu(get_recipe("paper"))),
        SEEDS,
    ),
    "tiny_imagenet": Study(
        "Does a stack of C-C-C-T beat C-C-T-T and C-T-T-T on all of Tiny ImageNet, with one recipe "
        "that is tuned for none of them, and what is reached there? For a GPU.",
        _tiny_imagenet(),
        SEEDS,
    ),
}
