"""What a fixed study is: variations of one run, each with the same seeds. `studies.STUDIES` holds
them all by name.
"""

from dataclasses import dataclass, replace

from astroformer.recipes import Recipe
from astroformer.recipes import replace as changed
from astroformer.training.run import Option, Run


@dataclass(frozen=True)
class Study:
    question: str
    variations: dict[str, Run]  # by what is varied; the seed of each is set by `runs`
    seeds: tuple[int, ...] = (0, 1, 2)

    def runs(self) -> list[tuple[str, Run]]:
        """(variation, run), all variations of a seed before the next seed: an early end leaves
        whole comparisons.
        """
        return [
            (name, replace(run, seed=seed))
            for seed in self.seeds
            for name, run in self.variations.items()
        ]


def vary(run: Run, *, recipe: dict[str, object] | None = None, **options: Option) -> Run:
    """The run with some fields of its recipe and some of the network's options changed."""
    return replace(
        run,
        recipe=changed(run.recipe, **(recipe or {})),
        options=in_order({**dict(run.options), **options}),
    )


def run_of(
    model: str, dataset: str, recipe: Recipe, *, options: dict[str, Option] | None = None, **fields
) -> Run:
    """A run by its parts; `fields` are the other ones of a Run."""
    return Run(
        model=model, dataset=dataset, recipe=recipe, options=in_order(options or {}), **fields
    )


def in_order(options: dict[str, Option]) -> tuple[tuple[str, Option], ...]:
    """The options as a Run keeps them."""
    return tuple(sorted(options.items()))
