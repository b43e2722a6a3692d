"""A batch of tiny runs on the embedded galaxies, planned for a processor."""

from pathlib import Path

from astroformer.batch import plan
from astroformer.batch.__main__ import add_arguments
from astroformer.batch.jobs import write_plan
from astroformer.batch.layout import Batch

RUNS = """\
pages: [results_galaxies]
runs:
  - {{model: astroformer_pico, dataset: {data}, recipe: smoke,
     set: {{epochs: {epochs}, batch_size: 16}}, image_size: 32, seeds: {seeds}{more}}}
"""


def file_of(folder: Path, *, data="galaxies", epochs=1, seeds=(0,), more=", train_images: 64"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "runs.yml"
    path.write_text(RUNS.format(data=data, epochs=epochs, seeds=list(seeds), more=more))
    return path


def options(*words):
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(list(map(str, words)))


def planned(folder: Path, *words, wave: int = 0, **runs) -> tuple[Batch, dict]:
    """The batch and its plan."""
    told = options("--study", file_of(folder, **runs), *words)
    batch = Batch(folder / "batch")
    return batch, write_plan(
        batch, wave, plan.asked_of(told), plan.estimator_of(told), plan.options_of(told)
    )
