"""What a batch is asked for: every run of some studies, of the results pages, or of a file of the
user's own, with the record that answers it where there is one.

`UNITS` are made from names: of a design (`few_images`), of a fixed study (`table_vit_cifar`),
`results` or one of its pages (`results_cifar100`), `scaling`, or the path of a file of runs:

    pages: [results_galaxies]      # that show them, if any
    runs:
      - {name: CCCT, model: astroformer_pico, dataset: galaxies, recipe: smoke, set: {epochs: 2},
         options: {stack: CCCT}, image_size: 32, train_images: 200, seeds: [0, 1, 2]}

Reads top to bottom: Unit, asked (all of them), the sources one by one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import yaml

from astroformer.data.tasks import TASKS
from astroformer.ledger import claims, identity, records
from astroformer.recipes import get_recipe
from astroformer.studies import design, missing, price, results, runner, studies
from astroformer.studies.cells import Cell, Found, key_of_run
from astroformer.studies.study import run_of
from astroformer.training.run import PLAIN, Run

RESULTS, SCALING = "results", "scaling"
# The profile of a design that belongs to a profile of the book.
OF_BOOK = {"smoke": "cpu", "gpu": "gpu", "paper": "cluster"}
NAMED_ELSEWHERE = ("model", "dataset", "recipe", "options", "seed", "init", "init_average")


@dataclass(frozen=True)
class Unit:
    """One run, with what it is for.

    group: of units that are compared with one another, so that they belong on one device
    told: what its record says of its study; None where no study asks for it
    record: the one that answers it, completed or failed; None where it is to be made
    """

    study: str
    stage: str
    label: str
    run: Run
    classes: int
    group: str
    told: Mapping[str, object] | None = None
    record: Mapping | None = None
    pages: tuple[str, ...] = ()  # that show it

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits: of what is asked for, without images and device."""
        return identity.digest({"run": key_of_run(self.run), "study": self.study})


@dataclass(frozen=True)
class Asked:
    """The runs that can be named now; `unnamed` follow from the outcome of others (tuning)."""

    units: tuple[Unit, ...]
    unnamed: int

    @property
    def missing(self) -> tuple[Unit, ...]:
        return tuple(unit for unit in self.units if unit.record is None)


def names() -> list[str]:
    """Every name that can be asked for, but for files."""
    return [*runner.MODULES, *studies.STUDIES, RESULTS, *subjects(), SCALING]


def asked(
    wanted: Sequence[str],
    profile: str = "smoke",
    *,
    models: Iterable[str] = (),
    known: list[dict] | None = None,
) -> Asked:
    """Of some names, each run once, in the order in which they are made.

    profile: of the book (OF_BOOK), or of the designs
    models: only runs of these networks; none means all
    known: the ledger's records; None reads them

    ValueError in one line for a name, a profile or a file that is not known.
    """
    known = records.read() if known is None else known
    profile = OF_BOOK.get(profile, profile)
    found, units, unnamed = Found(known), {}, 0
    for name in wanted:
        some, later = _of(name)(name, profile, known, found)
        unnamed += later
        for unit in some:
            units.setdefault(unit.key, unit)
    only = set(models)
    chosen = tuple(unit for unit in units.values() if not only or unit.run.model in only)
    if only - {unit.run.model for unit in units.values()}:
        there = sorted({unit.run.model for unit in units.values()})
        raise ValueError(
            f"{', '.join(wanted)} asks for no run of "
            f"{', '.join(sorted(only - set(there)))}; its networks are {', '.join(there) or 'none'}"
        )
    return Asked(chosen, unnamed)


Source = Callable[[str, str, list[dict], Found], tuple[list[Unit], int]]


def _of(name: str) -> Source:
    if name in runner.MODULES:
        return _designed
    if name in studies.STUDIES:
        return _fixed
    if name == RESULTS or name in subjects():
        return _results
    if name == SCALING:
        return _scaling
    if Path(name).suffix in (".yml", ".yaml"):
        return _file
    raise ValueError(
        f"study {name!r} is not known; choose one of {', '.join(names())}, or the path of a file "
        "of runs that ends in .yml"
    )


# A design


def _designed(name: str, profile: str, known: list[dict], found: Found) -> tuple[list[Unit], int]:
    cells = runner.cells_of([name], profile, found)
    whole = runner.cells_of([name], profile, price.Pretended())
    before = _tuning_for(name, profile, found)
    units = [unit_of(cell, profile, found) for cell in (*before, *cells)]
    return units, max(0, len(whole) - len(cells))


def _tuning_for(name: str, profile: str, found: Found) -> list[Cell]:
    """Of a design that takes rates which few_images tunes: the runs of that tuning."""
    one = design.read(name)
    as_which = one.told.get("tuned_as") or one.told.get("arm")  # of augmentation: its only one
    if as_which is None:
        return []
    arms = set(as_which.values()) if isinstance(as_which, dict) else {as_which}
    tasks = {one.told["tuned_on"]} if "tuned_on" in one.told else set(one.tasks)
    return [
        cell
        for cell in runner.cells_of([runner.few_images.NAME], profile, found)
        if cell.stage == "tuning" and cell.arm in arms and cell.task in tasks
    ]


def unit_of(cell: Cell, profile: str, found: Found) -> Unit:
    """A cell of a study's design, as one run among those of any origin."""
    block = f"{cell.study} {cell.stage} {cell.task} {cell.seed}"
    settings = ", ".join(f"{name} {value}" for name, value in cell.settings.items())
    return Unit(
        study=cell.study,
        stage=cell.stage,
        label=", ".join(filter(None, [cell.task, cell.arm, f"seed {cell.seed}", settings])),
        run=cell.run,
        classes=TASKS[cell.task].classes,
        group=block,
        told=runner.told(cell, profile),
        record=found.of(cell),
        pages=("variations",) if cell.study in runner.variations.NAMES else (cell.study,),
    )


# A fixed study

# Pages that show fixed studies; runs of the tables are shown by the pages of results.
SHOWN = {
    **dict.fromkeys(("spectral_blocks", "spectral_blocks_xs", "filters"), ("spectral_blocks",)),
    **dict.fromkeys(
        ("vit_cifar", "vit_cifar_quirks", "vit_cifar_quirks_full", "small_systems"), ("vit_cifar",)
    ),
    **dict.fromkeys(
        ("recipes", "recipe_differences", "recipe_differences_paper", "public_reruns"), ("recipes",)
    ),
    "tiny_imagenet": ("recipes",),
}


def _fixed(name: str, profile: str, known: list[dict], found: Found) -> tuple[list[Unit], int]:
    shown, labelled = SHOWN.get(name, ()), studies.get_study(name).runs()
    return _units(name, labelled, lambda run: shown or _page_of(run), known), 0


def _units(
    study: str,
    labelled: Sequence[tuple[str, Run]],
    pages: Callable[[Run], tuple[str, ...]],
    known: list[dict],
) -> list[Unit]:
    """Runs that stand fixed; those of one seed are compared."""
    return [
        Unit(
            study=study,
            stage="runs",
            label=f"{label}, seed {run.seed}",
            run=run,
            classes=classes_of(run),
            group=f"{study} {run.dataset} {run.data_dir} {run.seed}",
            record=record,
            pages=pages(run),
        )
        for (label, run), record in zip(labelled, answers([run for _, run in labelled], known))
    ]


def answers(runs: Sequence[Run], known: Iterable[dict]) -> list[dict | None]:
    """For each run the newest completed record of it (`studies.answers`: of whatever revision, as
    pages show it), else the newest that failed under this revision, or None.
    """
    by: dict[tuple, list[dict]] = {}
    for record in known:
        if record["status"] == "completed" or (
            record["status"] == "failed" and identity.revision(record) == identity.REVISION
        ):
            by.setdefault((record["model"], record["seed"]), []).append(record)

    def newest(run: Run, status: str) -> dict | None:
        alike = (r for r in reversed(by.get((run.model, run.seed), [])) if r["status"] == status)
        return next((record for record in alike if studies.answers(record, run)), None)

    return [newest(run, "completed") or newest(run, "failed") for run in runs]


# Pages of results


def subjects() -> dict[str, str]:
    """Page -> data set."""
    return {f"{RESULTS}_{name}": name for name in results.SUBJECTS}


def _page_of(run: Run) -> tuple[str, ...]:
    by_name = {row.name: name for name, row in results.FOLDERS.items()}
    name = by_name.get(run.data_dir or "") if run.dataset == "folder" else run.dataset
    return (f"{RESULTS}_{name}",) if name in results.SUBJECTS else ()


def _results(name: str, profile: str, known: list[dict], found: Found) -> tuple[list[Unit], int]:
    told, units = claims.read(), []
    for page, subject in subjects().items():
        if name not in (RESULTS, page):
            continue
        made, runs = missing.made(subject, known), missing.asked_for(subject, told)
        for run, answer in zip(runs, answers(runs, known)):
            units.append(
                Unit(
                    study=RESULTS,
                    stage=subject,
                    label=f"{run.model}, {subject}, {run.recipe.name}, seed {run.seed}",
                    run=run,
                    classes=results.subject(subject).classes,
                    group=f"{page} {run.model} {run.seed}",
                    record=made(run) or answer,
                    pages=(page,),
                )
            )
    return units, 0


def _scaling(name: str, profile: str, known: list[dict], found: Found) -> tuple[list[Unit], int]:
    titles = {results.subject(subject).title: page for page, subject in subjects().items()}
    units = [
        replace(unit, study=SCALING, pages=(SCALING,))
        for title in claims.README_DATASETS
        for unit in _results(titles[title], profile, known, found)[0]
        if unit.run.model.startswith("astroformer")
    ]
    return units, 0


# A file of runs


def _file(name: str, profile: str, known: list[dict], found: Found) -> tuple[list[Unit], int]:
    path = Path(name)
    told = _read(path)
    pages, labelled = tuple(told.get("pages") or ()), []
    for number, entry in enumerate(told["runs"], 1):
        labelled += _runs(path, number, entry)
    return _units(path.stem, labelled, lambda run: pages, known), 0


def _read(path: Path) -> dict:
    try:
        told = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ValueError(
            f"the file of runs {path} cannot be read ({error.strerror or error}); give its path"
        ) from error
    except design.NO_YAML as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path} is not YAML ({why}); repair it") from error
    if not isinstance(told, dict) or not isinstance(told.get("runs"), list) or not told["runs"]:
        raise ValueError(f"{path} does not list its `runs`, each with model, dataset and recipe")
    pages = told.get("pages") or []
    if not isinstance(pages, list) or not all(isinstance(page, str) for page in pages):
        raise ValueError(f"{path}: `pages` is no list of names of pages")
    return told


def _runs(path: Path, number: int, entry: object) -> list[tuple[str, Run]]:
    """(label, run) of one line of the file, a run for each of its seeds."""
    where = f"{path}, run {number}"
    plain = {field.name for field in fields(Run)} - {*NAMED_ELSEWHERE}
    choices = ["name", "model", "dataset", "recipe", "set", "options", "seeds", *sorted(plain)]
    if not isinstance(entry, dict) or not {"model", "dataset", "recipe"} <= set(entry):
        raise ValueError(f"{where} does not say its model, dataset and recipe")
    if unknown := [field for field in entry if field not in choices]:
        raise ValueError(
            f"{where} says {unknown[0]!r}, which is not known; choose one of {', '.join(choices)}"
        )
    seeds = entry.get("seeds", [0])
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds) or not seeds:
        raise ValueError(f"{where}: `seeds` is no list of whole numbers")
    for field in ("set", "options"):
        if not isinstance(entry.get(field) or {}, dict):
            raise ValueError(f"{where}: `{field}` is no table of names with values")
    try:
        options = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (entry.get("options") or {}).items()
        }
        run = run_of(
            entry["model"],
            entry["dataset"],
            get_recipe(entry["recipe"], **(entry.get("set") or {})),
            options=options,
            **{field: value for field, value in entry.items() if field in plain & set(PLAIN)},
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error
    label = str(entry.get("name") or f"{run.model}, {run.recipe.name}")
    return [(label, replace(run, seed=seed)) for seed in seeds]


@lru_cache(maxsize=64)
def _classes_of(dataset: str, data_dir: str | None, read_by: tuple) -> int:
    from astroformer.data import classes

    if row := results.row_of(dataset, data_dir):
        return row.classes
    if data_dir in TASKS:
        return TASKS[data_dir].classes
    return len(classes(dataset, data_dir, **dict(read_by)))


def classes_of(run: Run) -> int:
    """How many the data set has; without its images, if it is one that the book knows."""
    number = _classes_of(run.dataset, run.data_dir, tuple(run.read_by().items()))
    return max(1, round(number * run.class_fraction)) if run.class_fraction != 1 else number
