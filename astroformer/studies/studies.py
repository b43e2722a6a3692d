"""Studies: sets of runs that answer one question together, by name, and what the ledger holds of
them.

`STUDIES` is the table. `astroformer study NAME` trains what the ledger lacks, whole seeds at a
time, and leaves off within a time budget; `frame(NAME)` is what a page shows: one row a run, "not
run" where the ledger has none, with the command.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from astroformer import data, paths
from astroformer.data import canonical
from astroformer.data.derive import PNG_OF
from astroformer.ledger import identity, records
from astroformer.models.options import checked_options
from astroformer.recipes import get_recipe
from astroformer.studies import devices, published, recipes
from astroformer.studies.recipes import CIFAR10_JPEG
from astroformer.studies.study import Study, run_of, vary
from astroformer.training.execution import Execution
from astroformer.training.loop import fit
from astroformer.training.run import YOUNGER, Run, default_device
from astroformer.training.run_folder import Busy

# SpectFormer at a size that two cores train within minutes: patches of 8 pixels make the 8 x 8 grid
# of 64-pixel images.
SMALL_SPECTFORMER = dict(embed_dim=96, num_heads=3, depth=6, patch_size=8)
# SpectFormer xs on 32-pixel images, the grid of which is 8 x 8 too.
CIFAR_SPECTFORMER = dict(patch_size=4)
# ViT-CIFAR with the released heads, 32 channels each, a quarter of the width and four of the seven
# layers.
SMALL_VIT_CIFAR = dict(dim=96, depth=4, heads=3, mlp_hidden=96)


def _spectral_blocks(run: Run, depth: int) -> dict[str, Run]:
    return {str(number): vary(run, spectral_blocks=number) for number in range(depth + 1)}


def _quirks(run: Run) -> dict[str, Run]:
    """Each of the release's departures replaced by the textbook's form, alone, and all at once;
    label smoothing, which the table lists and the numbers were made without, in both formulas.
    """
    textbook = dict(
        schedule="step",
        autoaugment="cifar10",
        decay_all=False,
        label_smoothing=0.1,
        smoothing_over="all",
    )
    return {
        "as released": run,
        "scale=head": vary(run, scale="head"),
        "mlp_end=linear": vary(run, mlp_end="linear"),
        "smoothing=others": vary(run, recipe=dict(label_smoothing=0.1, smoothing_over="others")),
        "smoothing=all": vary(run, recipe=dict(label_smoothing=0.1, smoothing_over="all")),
        "schedule=step": vary(run, recipe=dict(schedule="step")),
        "autoaugment=cifar10": vary(run, recipe=dict(autoaugment="cifar10")),
        "textbook": vary(run, recipe=textbook, scale="head", mlp_end="linear"),
    }


STUDIES = {
    "spectral_blocks": Study(
        "How many of the blocks should be spectral? A small SpectFormer on synthetic galaxies.",
        _spectral_blocks(
            run_of(
                "spectformer_ti",
                "galaxies",
                get_recipe("smoke", epochs=10),
                options=SMALL_SPECTFORMER,
            ),
            6,
        ),
    ),
    "spectral_blocks_xs": Study(
        "How many of the blocks should be spectral? SpectFormer xs at 32 pixels, for a GPU.",
        _spectral_blocks(
            run_of(
                "spectformer_xs",
                "folder",
                get_recipe("vit_cifar"),
                options=CIFAR_SPECTFORMER,
                data_dir=CIFAR10_JPEG,
                image_size=32,
            ),
            12,
        ),
    ),
    "filters": Study(
        "What do spectral gates learn, in a network of nothing else and in a SpectFormer? "
        "Synthetic galaxies.",
        {
            name: run_of(
                "spectformer_ti",
                "galaxies",
                get_recipe("smoke", epochs=10),
                options=dict(SMALL_SPECTFORMER, patch_size=4, spectral_blocks=number),
            )
            for name, number in (("gate only", 6), ("SpectFormer", 4))
        },
        seeds=(0,),
    ),
    "small_systems": Study(
        "Do SpectFormer and ViT-CIFAR learn, at reduced sizes and within minutes on two cores?",
        {
            "ViT-CIFAR, galaxies": run_of(
                "vit_cifar", "galaxies", get_recipe("smoke"), options=SMALL_VIT_CIFAR, image_size=32
            ),
            "SpectFormer, CIFAR-10 (JPEG)": run_of(
                "spectformer_ti",
                "folder",
                get_recipe("small", epochs=5),
                image_size=32,
                options=dict(SMALL_SPECTFORMER, patch_size=4, spectral_blocks=2),
                data_dir=CIFAR10_JPEG,
                fraction=0.2,
            ),
            "ViT-CIFAR, CIFAR-10 (JPEG)": run_of(
                "vit_cifar",
                "folder",
                get_recipe("small", epochs=5),
                image_size=32,
                options=SMALL_VIT_CIFAR,
                data_dir=CIFAR10_JPEG,
                fraction=0.2,
            ),
        },
    ),
    "vit_cifar": Study(
        "Does ViT-CIFAR's published recipe reach its published accuracy, and SpectFormer xs "
        "within the same budget? For a GPU.",
        {
            "as the numbers were made": run_of(
                "vit_cifar", "folder", get_recipe("vit_cifar"), data_dir=CIFAR10_JPEG, image_size=32
            ),
            "with label smoothing": run_of(
                "vit_cifar",
                "folder",
                get_recipe("vit_cifar_smoothing"),
                data_dir=CIFAR10_JPEG,
                image_size=32,
            ),
            "SpectFormer xs": run_of(
                "spectformer_xs",
                "folder",
                get_recipe("vit_cifar"),
                options=CIFAR_SPECTFORMER,
                data_dir=CIFAR10_JPEG,
                image_size=32,
            ),
        },
    ),
    "vit_cifar_quirks": Study(
        "Which of ViT-CIFAR's peculiarities matters? A reduced network on a tenth of CIFAR-10 "
        "(JPEG), six epochs.",
        _quirks(
            run_of(
                "vit_cifar",
                "folder",
                get_recipe("vit_cifar", epochs=6, warmup_epochs=1.0),
                options=SMALL_VIT_CIFAR,
                data_dir=CIFAR10_JPEG,
                image_size=32,
                fraction=0.1,
                validation=0.04,
            )
        ),
    ),
    "vit_cifar_quirks_full": Study(
        "Which of ViT-CIFAR's peculiarities matters? The network and the recipe as released, for "
        "a GPU.",
        _quirks(
            run_of(
                "vit_cifar", "folder", get_recipe("vit_cifar"), data_dir=CIFAR10_JPEG, image_size=32
            )
        ),
    ),
    **recipes.STUDIES,
    **published.STUDIES,
    "tiny_imagenet_small": Study(
        "Does the smallest Astroformer learn a twentieth of Tiny ImageNet's classes within ten "
        "epochs on two cores?",
        {
            "C-C-C-T": run_of(
                "astroformer_pico",
                "tiny_imagenet",
                get_recipe("small", epochs=10),
                class_fraction=0.05,
            )
        },
    ),
}


def get_study(name: str) -> Study:
    if name not in STUDIES:
        raise ValueError(f"study {name!r} is not known; choose one of {', '.join(STUDIES)}")
    return STUDIES[name]


def run_study(
    name: str,
    *,
    data_dir: str | None = None,
    minutes: float | None = None,
    device: torch.device | None = None,
    execution: Execution | None = None,
    report: Callable[[str], None] = print,
    mix_devices: bool = False,
) -> bool:
    """Trains the runs that the ledger lacks. After `minutes` no other run is begun; the same call
    goes on. True when complete.

    A run that another process is making is left to it, so that several calls share the work.

    data_dir: where the study's images lie, if not below ASTROFORMER_DATA: the folder itself, or
        one that holds all it needs
    mix_devices: make runs too that are compared with some that were made on another kind of device
        or in another precision; else `devices.Elsewhere` says why when all others are made
    """
    study, began = get_study(name), time.monotonic()
    todo, elsewhere, refused = study.runs(), 0, []
    device = device or default_device()
    for number, (variation, run) in enumerate(todo, 1):
        if minutes is not None and time.monotonic() - began > 60 * minutes:
            report(
                f"{minutes:g} minutes are over with {number - 1 - elsewhere} of {len(todo)} runs "
                "done; the same command goes on"
            )
            return False
        what, peers = f"{name}: {variation}, seed {run.seed}", Peers(name)
        check = devices.check(run, device, peers, what=what, about=None, mix=mix_devices)
        run = located(run, data_dir)
        report(f"{name} {number}/{len(todo)}: {variation}, seed {run.seed}")
        try:
            fit(run, device=device, execution=execution, wait=False, report=report, check=check)
        except Busy as busy:
            report(f"{busy}; going on with the next")
            elsewhere += 1
        except devices.Elsewhere as error:
            report(str(error))
            refused.append(error)
    if elsewhere:
        report(f"{elsewhere} of {len(todo)} runs are being made by other processes")
    if refused:
        raise refused[0]
    return not elsewhere


class Peers:
    """The runs with which a study compares a run: those of its seed on the same images."""

    def __init__(self, name: str):
        self.study = get_study(name)

    def __call__(self, run: Run, place: devices.Place) -> list[dict]:
        """Their completed records that were made elsewhere than in a place."""
        others = [
            record
            for record in devices.elsewhere(records.read(), place, run.seed)
            if record["status"] == "completed" and not answers(record, run)
        ]
        images = (run.dataset, run.data_dir, run.seed)
        peers = [
            one
            for _, one in self.study.runs()
            if others and (one.dataset, one.data_dir, one.seed) == images
        ]
        return [record for record in others if any(answers(record, one) for one in peers)]


def located(run: Run, given: str | None = None) -> Run:
    """The run with its images taken from `given`: from that folder or, where it holds several,
    from the one below by the run's name. Without it from where the library looks for them, or from
    a folder below ASTROFORMER_DATA that is the run's data set.
    """
    if not given:
        return _as_folder(run, paths.data())
    if run.dataset != "folder":
        if (own := _as_folder(run, Path(given).expanduser())) is not run:
            return own
        generated = data.root_of(run.dataset, None) is None
        return run if generated else replace(run, data_dir=given)
    below = Path(given).expanduser() / run.data_dir
    found = below if below.is_dir() else given
    if (name := data.about("folder", found).name) != run.data_dir:
        raise ValueError(
            f"{given} holds {name!r} and the study is about {run.data_dir!r}; unpack "
            "its archive there, or name its folder"
        )
    return replace(run, data_dir=str(found))


def _as_folder(run: Run, given: Path) -> Run:
    """The run on a folder of images that *is* its data set (`data.canonical`): `given`, or the one
    in it that the project's archive unpacks. The run itself where there is none.
    """
    archives = [archive for archive, name in PNG_OF.items() if name == run.dataset]
    for place in [given, *(given / name for name in archives)] if archives else []:
        if (place / "train").is_dir() and _is(data.about("folder", place).sha256, run.dataset):
            return replace(run, dataset="folder", data_dir=str(place))
    return run


def _is(sha256: str, dataset: str) -> bool:
    """Whether images with this fingerprint are those of a published data set, whole."""
    return any(known.sha256 == sha256 for known in canonical.KNOWN if known.name == dataset)


def frame(name: str, found: list[dict] | None = None) -> pd.DataFrame:
    """One row a run of the study: what the ledger says of it, or "not run", and the command that
    makes it.
    """
    found = records.read() if found is None else found
    return pd.DataFrame(
        [
            {
                "variation": variation,
                "seed": run.seed,
                **_measured(run, found),
                "command": run.command(located=True),
            }
            for variation, run in get_study(name).runs()
        ]
    )


def _measured(run: Run, found: list[dict]) -> dict:
    of_run = [
        record for record in found if record["status"] == "completed" and answers(record, run)
    ]
    if not of_run:
        return {"status": "not run"}
    # the newest revision's, of these the newest
    record = max(of_run, key=lambda record: (identity.revision(record), record["started"]))
    return {
        "status": "completed",
        "run": record["run"],
        "revision": identity.revision(record),
        **{key: record["metrics"].get(key) for key in ("top1", "balanced_accuracy", "nll")},
        **{
            key: record[key]
            for key in (
                "seconds",
                "images_per_second",
                "macs",
                "params",
                "epochs",
                "device",
                "precision",
                "history",
            )
        },
        "dataset": record["dataset"]["title"],
        "kind": record["dataset"]["kind"],
        "evaluated_on": record["dataset"]["evaluated_on"],
        "train": record["dataset"]["train"],
        "test": record["dataset"]["test"],
    }


def answers(record: dict, run: Run) -> bool:
    """Whether a record is of the run, on whatever device and under whatever revision: all that
    decides the outcome, but for the precision, is the same.

    The run's whole identity would need the images, which a page that only shows a study may not
    have at hand. So a folder is known by its name, and the batch by the number of images.
    """
    told, found = record["dataset"], identity.of(record)
    asked = run.settled().asked()
    same = ("model", "fraction", "init", "seed", "recipe")
    return (
        all(found[name] == asked[name] for name in same)
        and all(found.get(name) == asked.get(name) for name in YOUNGER)
        and (found["dataset"] == run.dataset or _is(told["sha256"], run.dataset))
        and checked_options(run.model, found["options"]) == dict(run.options)
        and run.image_size in (None, record["image_size"])
        and _same_images(told, run)
        and _same_parts(told, run)
    )


def _same_images(told: dict, run: Run) -> bool:
    """A folder is known by its name, a data set by its own; generated images by what generates
    them.
    """
    if run.dataset == "folder":
        return told["name"] == run.data_dir or told["name"] == name_of_folder(run.data_dir)
    if _is(told["sha256"], run.dataset):
        return True
    generated = data.root_of(run.dataset, run.data_dir) is None
    return (
        not generated
        or told["sha256"] == data.about(run.dataset, run.data_dir, run.train_images).sha256
    )


def name_of_folder(data_dir: str) -> str:
    """What a folder of images that is given by its path calls itself; a name stays one."""
    there = Path(data_dir).expanduser().is_dir()
    return data.about("folder", data_dir).name if there else data_dir


def _same_parts(told: dict, run: Run) -> bool:
    """Whether the same classes and images were trained and tested on. Records older than a field
    had no choice in it, and said of the held-out part only that there was one.
    """
    if told["evaluated_on"] != ("validation" if run.validation else "test"):
        return False
    if "classes" not in told:  # older
        return (run.class_fraction, run.test_images, run.split_seed) == (1.0, None, 0)
    return all(
        told[name] == getattr(run, name)
        for name in ("class_fraction", "validation", "test_images", "split_seed")
    )
