"""What a page does about the runs that it lacks: it says what they take, or trains them before it
shows anything, and then says what is left.

    papermill book/results.ipynb out.ipynb -p dataset cifar100 -p make_missing true -p hours 12

Reads top to bottom: asked_by (what a page asks for, by its parameters), runs (what the page calls).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from astroformer.counting.budget import duration
from astroformer.counting.cards import card_of
from astroformer.ledger import records
from astroformer.studies import moving, variations
from astroformer.studies.asked import SHOWN, Asked, Unit, asked
from astroformer.studies.make import Made, NotMade, Report, make, reasons
from astroformer.studies.needs import USUAL_CARD, Estimator, Place, cost_line
from astroformer.training.run import default_device

QUIET = 60.0  # seconds between two lines about a run that goes on
HOW = (
    "With papermill's `-p make_missing true` this page trains them here before it shows anything, "
    "and with `-p hours 12` leaves off after so long; the same line goes on."
)
STUCK = (
    "its record does not answer what was asked for; is another version of this library at work "
    "beside this one?"
)

# Pages of which a parameter `only` chooses among several studies.
SEVERAL: dict[str, tuple[str, ...]] = {
    "variations": variations.NAMES,
    "vit_cifar": ("vit_cifar_quirks", "vit_cifar", "vit_cifar_quirks_full"),
    "recipes": tuple(name for name, pages in SHOWN.items() if "recipes" in pages),
}
ALONE = ("few_images", "stability", "augmentation", "scaling")


# What a page asks for


def asked_by(page: str, parameters: Mapping[str, object]) -> Asked:
    """The runs behind a notebook (by its stem), as its parameters say. ValueError in one line for
    what cannot be asked for, or a page without runs of its own.
    """
    if page == "equivariance":
        return moving.asked_by(parameters)
    profile = str(parameters.get("study_profile") or parameters.get("profile") or "smoke")
    models = listed(parameters.get("models"))
    return asked(_names(page, parameters), profile, models=models)


def _names(page: str, parameters: Mapping[str, object]) -> list[str]:
    if page in ALONE:
        return [page]
    if page == "results":
        own = [str(parameters["runs_file"])] if parameters.get("runs_file") else []
        return [f"results_{parameters['dataset']}", *own]
    if page == "spectral_blocks":
        return [str(parameters["study"])]
    if page in SEVERAL:
        return _only(SEVERAL[page], listed(parameters.get("only")))
    raise ValueError(f"the page {page} has no runs that could be missing")


def _only(several: tuple[str, ...], only: list[str]) -> list[str]:
    for name in only:
        if name not in several:
            raise ValueError(f"study {name!r} is not of this page; choose {', '.join(several)}")
    return only or list(several)


def listed(words: object) -> list[str]:
    """ "a, b" -> ["a", "b"]"""
    return [word.strip() for word in str(words or "").split(",") if word.strip()]


# What it does about them


@dataclass(frozen=True)
class Runs:
    """words: for the page, in Markdown; errors: runs that could not be made, each with its line"""

    words: str
    errors: tuple[tuple[Unit, str], ...] = field(default=(), repr=False)

    def _repr_markdown_(self) -> str:
        return self.words

    def check(self) -> None:
        """NotMade if a run could not be made: to be called at the end of a page, when all else is
        shown.
        """
        if self.errors:
            raise NotMade(Made(errors=list(self.errors)))


def runs(
    page: str,
    make_missing: bool,
    *,
    hours: float = 0.0,
    card: str = "",
    report: Report = print,
    **parameters: object,
) -> Runs:
    """What a page lacks: with `make_missing` it is trained here, after what that takes is said;
    else only that is said.

    hours: after which the run under way saves and no other begins; 0 is no limit
    card: for which time and memory are said, by its name, or "cpu"; "" is the device at hand where
        is trained, else USUAL_CARD, and then memory is not counted
    parameters: others of the page that decide what it asks for
    """
    if not hours >= 0:
        raise ValueError(f"hours {hours:g}: give 0 (no limit) or more hours")
    place, remark = _place(card, make_missing)
    ask = partial(asked_by, page, parameters)
    lacking, of = ask(), _of(parameters)
    if not make_missing:
        words = _cost(lacking, Estimator(place, memory=bool(card)), of)
        return Runs(f"{words} {HOW}" if lacking.missing else words)
    report(_cost(lacking, Estimator(place), of) + remark)
    until = time.monotonic() + 3600 * hours if hours else None
    how = moving.HOW if page == "equivariance" else {}
    done, lacking = _made(ask, lacking, until, report, how)
    wrong = {unit.key for unit, _ in done.errors}
    left = [unit for unit in lacking.missing if unit.key not in wrong]
    words = _told(done, Asked(tuple(left), lacking.unnamed), Estimator(place), of)
    return Runs(words, tuple(done.errors))


def _made(
    ask: Callable[[], Asked], lacking: Asked, until: float | None, report: Report, how: dict
) -> tuple[Made, Asked]:
    """What was made, until nothing is missing or the time is over, and what is asked for then: the
    end of a tuning opens more runs.
    """
    done = Made()
    while True:
        ended = {unit.key for unit in (*done.made, *done.found)}
        wrong = {unit.key for unit, _ in done.errors}
        done.errors += [
            (unit, STUCK) for unit in lacking.missing if unit.key in ended and unit.key not in wrong
        ]
        todo = [unit for unit in lacking.missing if unit.key not in ended | wrong]
        left = None if until is None else max(0.0, until - time.monotonic()) / 3600
        if not todo or left == 0.0:
            return done, lacking
        try:
            done += make(todo, hours=left, report=report, progress=_sparing(report), **how)
        except NotMade as told:
            done += told.made
        lacking = ask()


def _sparing(report: Report) -> Report:
    """Passes a line on once in QUIET seconds: a run of 300 epochs would fill a page."""
    said = time.monotonic()

    def sparing(line: str) -> None:
        nonlocal said
        if time.monotonic() - said >= QUIET:
            said = time.monotonic()
            report(line)

    return sparing


def cost_of(page: str, parameters: Mapping[str, object]) -> str:
    """What it takes to make what a page lacks on the device at hand, or on the card that its
    parameters name.
    """
    place, remark = _place(str(parameters.get("card") or ""), True)
    return _cost(asked_by(page, parameters), Estimator(place), _of(parameters)) + remark


def _place(card: str, make_missing: bool) -> tuple[Place, str]:
    """Where runs are reckoned to be made, and a remark if it is not where they are."""
    device = default_device()
    if card or not make_missing:
        return Place.named(card or USUAL_CARD, "cpu" if card == "cpu" else "cuda"), ""
    if device.type == "cpu":
        return Place(), ""
    name = records.device_name(device)
    if (known := card_of(name)) is not None:
        return Place(known), ""
    return Place.named(USUAL_CARD, "cuda"), f" (No rate of {name}, the card at hand, is known.)"


def _of(parameters: Mapping[str, object]) -> str:
    """Which profile of a design is spoken of."""
    profile = parameters.get("study_profile")
    return f" of the study's profile {profile}" if profile else ""


def _cost(lacking: Asked, estimator: Estimator, of: str) -> str:
    """What is missing takes so much, in one or two sentences."""
    if not lacking.missing:
        return f"Nothing is missing{of}.{_unnamed(lacking)}"
    return (
        f"Missing{of}: {cost_line(lacking.missing, estimator.place, estimator)}{_unnamed(lacking)}"
    )


def _unnamed(lacking: Asked) -> str:
    if not lacking.unnamed:
        return ""
    return f" {lacking.unnamed} further runs follow from the tuning, once that is over."


def _told(done: Made, left: Asked, estimator: Estimator, of: str) -> str:
    """What was made, what could not be, and what is left."""
    said = []
    if done.made or done.found or left.missing:
        made = f"Made here: {len(done.made)} runs in {duration(done.seconds)}"
        made += f", {len(done.diverged)} of which diverged" if done.diverged else ""
        said.append(made + (f"; {len(done.found)} were found made." if done.found else "."))
    if done.errors:
        said.append(f"{reasons(done.errors)}.")
    if left.missing or not done.errors:
        said.append(_cost(left, estimator, of))
    if left.missing:
        said.append("The same line goes on.")
    return " ".join(said)
