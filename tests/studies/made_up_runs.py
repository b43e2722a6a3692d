"""Ledger records of runs that nobody made, for tests of what studies make of records; and a tiny
task with designs of its own, whose runs are made within a second.
"""

import hashlib
from dataclasses import asdict
from pathlib import Path

from astroformer import recipes
from astroformer.data import tasks
from astroformer.data.derive import Derivation
from astroformer.data.tasks import Task
from astroformer.ledger import identity, records
from astroformer.recipes import get_recipe
from astroformer.recipes import replace as changed
from astroformer.studies import design
from astroformer.studies.cells import Cell, Found, once

ACCURACIES = ("top1", "balanced_accuracy", "train_top1", "train_balanced_accuracy")


def record(cell: Cell, accuracy=50.0, *, status="completed", revision=None, **changes) -> dict:
    """What the ledger holds of a cell's run after it was made, as far as studies read it: every
    accuracy is `accuracy` (and the loss follows it) unless `metrics` say another.
    """
    run = cell.run.settled()
    own = run.asked() | {
        "data": "0" * 64,
        "mirrored": [],
        "image_size": run.image_size,
        "evaluation": run.evaluation_crop(),
        "precision": "float32",
    }
    own["revision"] = revision or own["revision"]
    loss = 3.0 if accuracy is None else 3.0 - accuracy / 50
    metrics = dict.fromkeys(ACCURACIES, accuracy) | {"nll": loss, "top5": 90.0, "ece": 1.0}
    told = {
        "name": cell.study,
        "design": design.read(cell.study).digest,
        "stage": cell.stage,
        "task": cell.task,
        "arm": cell.arm,
        "profile": "cpu",
    }
    return (
        dict.fromkeys(records.FIELDS)
        | {
            "run": identity.digest(own),
            "status": status,
            "model": run.model,
            "options": own["options"],
            "image_size": run.image_size,
            "fraction": run.fraction,
            "dataset": {"name": run.data_dir, "title": run.data_dir, "source": "folder"},
            "recipe": asdict(run.recipe),
            "seed": run.seed,
            "metrics": metrics | changes.pop("metrics", {}),
            "history": [],
            "attempts": [{"cpu_seconds": 1800.0}, {"cpu_seconds": 1800.0}],
            "started": "2026-01-01T00:00:00+00:00",
            "identity": own,
            "study": told,
        }
        | changes
    )


def finished(module, accuracy=lambda cell: 50.0, *, profile="cpu", skip=lambda cell: False):
    """Records of all runs of a study, as its design names them one after another: `accuracy` of a
    cell in percent, None for a run that diverged.
    """
    one, made = design.read(module.NAME), []
    while True:
        found = Found(made)
        cells = once(module.cells(one, one.profile(profile), found))
        more = [cell for cell in cells if found.of(cell) is None and not skip(cell)]
        if not more:
            return made
        for cell in more:
            value = accuracy(cell)
            status = "failed" if value is None else "completed"
            made.append(record(cell, value, status=status))


def digest_of(cells) -> str:
    """Of runs in their order, each with what it is for."""
    lines = (f"{one.tier} {one.stage} {one.task} {one.arm} {one.seed} {one.key}" for one in cells)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def restored(patch) -> None:
    """With a MonkeyPatch: what `install` changes is undone with it."""
    patch.setattr(design, "STUDIES", design.STUDIES)
    for table in (tasks.TASKS, recipes.RECIPES):
        patch.setitem(table, "tiny", None)


# A task of the images that the fixture `tiny_folder` has, and two studies of it.

TINY = Task(
    "tiny",
    "Tiny galaxies",
    classes=3,
    image_size=32,
    held_out=4,
    pool=16,
    each={"low": 6, "middle": 12},
    derivation=Derivation(source="nothing", name="tiny"),
    recipe="tiny",
    steps=4,
    metric="balanced_accuracy",
)
NETWORK = "{embed_dim: 16, num_heads: 2, depth: 2, patch_size: 8, spectral_blocks: %d}"
HEAD = f"""\
question: Does it run?
arms:
  CCCT: {{title: one, options: {NETWORK % 1}}}
  CCTT: {{title: none, options: {NETWORK % 0}}}
tasks: [tiny]
profiles:
  cpu: {{model: spectformer_ti}}
  slow: {{model: spectformer_ti, steps: 300}}
  endless: {{model: spectformer_ti, steps: 1000000}}
threats: [it is tiny]
"""
FEW_IMAGES = f"""{HEAD}
smallest_effect: 1.0
primary: {{arms: [CCCT, CCTT]}}
tuning:
  {{seed: 100, rates: [0.001], decays: [0.02], part: 0.5, finalists: 2,
   untuned: {{rate: 0.002, decay: 0.02}}}}
order:
  - {{tier: 1, stage: tuning, arms: [CCCT, CCTT]}}
  - {{tier: 2, stage: low, arms: [CCCT, CCTT], seeds: [10]}}
"""
STABILITY = f"""{HEAD}
protocol:
  {{recipe_changes: {{clip_grad: 0.0}}, steps: 12, rates: [0.001, 1.0e+12], decay: 0.02}}
order:
  - {{tier: 3, stage: rates, arms: [CCCT], seeds: [10]}}
"""


def install(folder: Path) -> None:
    """Makes the tiny task, its recipe and its designs those of this process; the designs are
    written below the folder, if they are not there yet.
    """
    design.STUDIES = folder / "studies"
    if not design.STUDIES.is_dir():
        design.STUDIES.mkdir()
        (design.STUDIES / "few_images.yml").write_text(FEW_IMAGES)
        (design.STUDIES / "stability.yml").write_text(STABILITY)
    tasks.TASKS["tiny"] = TINY
    recipes.RECIPES["tiny"] = changed(get_recipe("lowdata_galaxies"), batch_size=6)
