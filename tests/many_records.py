"""Ledgers of any size: records that differ from the committed genuine ones in seed, rate, decay,
data set and numbers, in the files of many jobs. Tests read small ones; the command tells how long
reading and a results page take with a large one:

    .venv/bin/python tests/many_records.py 100 1000 10000
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np

from astroformer import paths, recipes
from astroformer.counting.cost import model_cost
from astroformer.data import DATASETS
from astroformer.ledger import identity, predictions, records
from astroformer.recipes import Recipe, setting
from astroformer.training.loop import FIT_IMAGES
from astroformer.training.record import METRICS
from astroformer.training.schedule import learning_rate

SEEDS = 8  # of a group
RECORDS_OF_A_JOB = 20
# Of every four records two are a study's, as they were made, and two are about whole data sets.
WHOLE = (
    ("cifar10", "astroformer_pico", "smoke"),
    ("galaxies", "astroformer_pico", "smoke"),
    ("cifar10", "vit_cifar", "vit_cifar"),
    ("galaxies", "spectformer_ti", "smoke"),
)
EPOCHS = 10
GENUINE = [
    {name: value for name, value in one.items() if name != "origin"}
    for one in records.read(paths.LEDGER)
    if identity.revision(one) == identity.REVISION and len(one["attempts"]) == 1
]


def made(number: int) -> dict:
    """The record number 0, 1, ... of an endless ledger: always the same one."""
    group, seed = divmod(number, SEEDS)
    rate = round(1e-3 * (1 + group / 100), 9)
    one = dict(GENUINE[group % len(GENUINE)])
    if group % 2:
        one = _of_whole(one, *WHOLE[group // 2 % len(WHOLE)])
    recipe = recipes.replace(Recipe.from_record(one["recipe"]), learning_rate=rate)
    own = one["identity"] | {"recipe": recipe.canonical(), "seed": seed}
    one |= {
        "run": identity.digest(own),
        "recipe": one["recipe"] | {"name": recipe.name, "learning_rate": rate},
        "seed": seed,
        "identity": own,
    }
    begun = datetime.fromisoformat(one["started"]) + timedelta(seconds=number)
    one["started"] = begun.isoformat()
    one["attempts"] = [dict(one["attempts"][0], started=one["started"], from_step=0)]
    one |= _measured(one, recipe, np.random.default_rng(number))
    one["attempts"][0] |= {"to_step": one["steps"], "images": one["steps"] * recipe.batch_size}
    seconds = one["attempts"][0]["images"] / one["images_per_second"]
    one["attempts"][0] |= {"seconds": seconds, "cpu_seconds": seconds}
    return one | {
        "seconds": round(seconds, 2),
        "images_per_second": round(one["attempts"][0]["images"] / seconds, 1),
        "resumed_from": None,
        "command": _command(one, recipe),
    }


def _measured(one: dict, recipe: Recipe, draw: np.random.Generator) -> dict:
    """History and metrics with other numbers, at the rates of the recipe."""
    told, a_step = one["dataset"], one["dataset"]["train"] // recipe.batch_size
    images = {"top1": told["test"], "top5": told["test"]}
    images["train_top1"] = min(told["train"], FIT_IMAGES)

    def other(found: dict) -> dict:
        part = draw.uniform(0.9, 1.0)
        new = {name: found[name] * part for name in METRICS if found.get(name) is not None}
        counts = {name: round(new[name] * images[name] / 100) for name in images if name in new}
        return new | {name: 100 * count / images[name] for name, count in counts.items()}

    history = [
        entry | other(entry) | {"learning_rate": learning_rate(recipe, entry["step"] - 1, a_step)}
        for entry in one["history"]
    ]
    metrics = other(one["metrics"])
    if told["evaluated_on"] == "validation" or not told["validation"]:
        metrics |= {name: value for name, value in history[-1].items() if name in METRICS}
    return {"history": history, "metrics": metrics}


def _command(one: dict, recipe: Recipe) -> str:
    """The genuine command with the seed and the rate of this record."""
    words = re.sub(r" --(seed|set learning_rate=)\S*( \d+)?", "", one["command"])
    return f"{words} --set {setting('learning_rate', recipe.learning_rate)} --seed {one['seed']}"


def _of_whole(one: dict, name: str, model: str, recipe_name: str) -> dict:
    """A record as a run on the whole of a data set leaves it."""
    row = DATASETS[name]
    recipe = recipes.get_recipe(recipe_name, epochs=EPOCHS)
    recipe = replace(recipe, precision="float32", preprocessing="data")
    a_step = row.train // recipe.batch_size
    told = dict(
        **dict(name=name, title=row.title, kind=row.kind, note=row.source, mirrored=[]),
        **dict(source=name, train=row.train, test=row.test, classes=row.classes),
        **dict(evaluated_on="test", test_images=None, split_seed=0, validation=0.0),
        **dict(class_fraction=1.0, sha256=one["dataset"]["sha256"]),
    )
    last = one["history"][-1] | one["metrics"]
    words = f"--model {model} --dataset {name} --recipe {recipe_name} --set epochs={EPOCHS}"
    return {key: value for key, value in one.items() if key not in ("study", "init")} | {
        "model": model,
        "stack": "CCCT" if model.startswith("astroformer") else None,
        "options": {},
        **cost(model, row.image_size, row.classes),
        "image_size": row.image_size,
        "dataset": told,
        "fraction": 1.0,
        "recipe": asdict(recipe) | {"crop_scale": list(recipe.crop_scale)},
        "epochs": EPOCHS,
        "steps": a_step * EPOCHS,
        "history": [last | {"epoch": n + 1, "step": a_step * (n + 1)} for n in range(EPOCHS)],
        "images_per_second": one["images_per_second"] / 10,
        "command": f"astroformer train {words} --image-size {row.image_size}",
        "identity": one["identity"]
        | dict(model=model, options={}, dataset=name, image_size=row.image_size)
        | dict(fraction=1.0, validation=0.0, evaluated_on="test", mirrored=[]),
    }


@cache
def cost(model: str, pixels: int, classes: int) -> dict[str, int]:
    return model_cost(model, image_size=pixels, num_classes=classes)


def write(folder: Path, number: int) -> list[Path]:
    """So many records into a folder, RECORDS_OF_A_JOB a file; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for first in range(0, number, RECORDS_OF_A_JOB):
        files.append(folder / f"node-{first // RECORDS_OF_A_JOB:05d}.jsonl")
        those = range(first, min(number, first + RECORDS_OF_A_JOB))
        files[-1].write_text("".join(json.dumps(made(one)) + "\n" for one in those))
    return files


def predict(folder: Path, number: int) -> None:
    """Predictions of the records of `write` that are about whole data sets, as runs leave them."""
    for one in map(made, range(number)):
        if one.get("study"):
            continue
        told, draw = one["dataset"], np.random.default_rng(one["seed"])
        labels = np.arange(told["test"]) % told["classes"]
        logits = 2 * draw.standard_normal((told["test"], told["classes"]))
        logits[np.arange(told["test"]), labels] += 2
        kept = predictions.of_logits(
            one["run"], logits, labels, [*map(str, range(told["classes"]))], evaluated_on="test"
        )
        predictions.save(kept, folder / "predictions" / f"{one['run']}.npz")


# How long it takes

READ = """
import time
{imports}
from astroformer.ledger import records
seconds = []
for _ in range(2):
    began, cpu_began = time.perf_counter(), time.process_time()
    found = records.read()
    seconds += [time.perf_counter() - began, time.process_time() - cpu_began]
print(len(found), *seconds)
"""
PAGE = """
import time
from astroformer import paths
from astroformer.reproduce import pages
notebook = pages.read_notebook(paths.BOOK / "results.ipynb")
cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
# what is imported takes as long with any ledger
from astroformer.figures import results, studies, style, tables
from astroformer.studies import missing
known, seconds = {{}}, []
for number, cell in enumerate(cells):
    began = time.process_time()
    exec("".join(cell), known)
    known |= {{"dataset": "{dataset}"}} if not number else {{}}
    seconds.append(time.process_time() - began)
print(*seconds)
"""


def timed(program: str, times: int) -> np.ndarray:
    """(times, numbers): the last line that a program prints, of so many processes."""
    found = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        for _ in range(times)
    ]
    return np.array(
        [[float(word) for word in one.stdout.splitlines()[-1].split()] for one in found]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="how long a ledger of many records takes")
    parser.add_argument("numbers", type=int, nargs="+", help="of records")
    parser.add_argument("--times", type=int, default=5, help="that each is read, in new processes")
    parser.add_argument("--beside", default="", help="what the process has imported, such as torch")
    parser.add_argument("--predictions", action="store_true", help="beside the records, too")
    parser.add_argument("--pages", nargs="*", default=[], help="data sets whose page is made")
    options = parser.parse_args()
    for number in options.numbers:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), number)
            if options.predictions:
                predict(Path(folder), number)
            os.environ["ASTROFORMER_LOCAL_LEDGER"] = folder
            imports = f"import {options.beside}" if options.beside else ""
            found = timed(READ.format(imports=imports), options.times)
            columns = zip(("read", "of the CPU", "again", "of the CPU"), 1000 * found[:, 1:].T)
            told = [f"{what} {ms.min():.0f} to {ms.max():.0f}" for what, ms in columns]
            beside = int(found[0, 0]) - number
            print(f"{number:,} records and {beside} committed ones, ms: {', '.join(told)}")
            for dataset in options.pages:
                seconds = timed(PAGE.format(dataset=dataset), options.times)
                total, cells = seconds.sum(1), seconds.min(0)
                print(
                    f"  page of {dataset}, seconds of the CPU: {total.min():.1f} to "
                    f"{total.max():.1f}, most in cell {cells.argmax() + 1}: {cells.max():.1f}"
                )


if __name__ == "__main__":
    main()
