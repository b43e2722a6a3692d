"""The networks that predict: checkpoints of this project by their place or by the run's name, each
with what its training says of images, and several of them as an ensemble.

Reads top to bottom: Member, Ensemble, found (from a word to a file), the images of a run.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from astroformer import data, paths
from astroformer.data.images import Images
from astroformer.data.pixels import read_stored, square
from astroformer.data.values import Reading, of_told
from astroformer.ledger import records
from astroformer.training import load_trained
from astroformer.training.initial import fingerprint
from astroformer.training.run_folder import LAST

SHOWN = 6  # names that an error lists
HASH = re.compile("[0-9a-f]{4,12}")  # a run's name, or its beginning


@dataclass(frozen=True)
class Cut:
    """How a file becomes the square that a network sees, uint8 (size, size, C)."""

    size: int  # pixels
    crop_pct: float
    interpolation: str
    reading: Reading | None  # of values or bands; None for pictures in red, green and blue

    @property
    def channels(self) -> int:
        return 3 if self.reading is None else self.reading.channels

    def __call__(self, source: str | tuple[str, ...]) -> np.ndarray:
        """The image of a file, or of a file for each band. ValueError or OSError for none."""
        image = read_stored(source) if self.reading is None else self.reading(source)
        return square(image, self.size, self.crop_pct, self.interpolation)


@dataclass(frozen=True)
class Member:
    """A trained network, in eval mode, and what its checkpoint says of it.

    digest: SHA-256 of its weights
    images: arguments of `data.load` that give the images of its run; None where nothing says them
    mirrored: pairs of classes that change places under a reflection
    """

    path: Path
    run: str
    model: nn.Module
    digest: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    cut: Cut
    finished: bool
    averaged: bool
    images: dict | None
    data_sha256: str
    mirrored: tuple[tuple[str, str], ...]

    @property
    def folder(self) -> Path:
        """Where what is measured of the member is kept."""
        return self.path.parent

    @property
    def channels(self) -> int:
        return self.cut.channels


def member(word: str | Path, *, average: bool | None = None) -> Member:
    """The network of a checkpoint, named by its file, its run's folder or its run.

    average: as `training.load_trained`
    """
    path = found(word)
    model, told = load_trained(path, average=average)
    images = told["images"] or _by_record(told["run"])
    record = records.completed(told["run"]) or {}
    about = told["about"] or record.get("dataset") or {}
    return Member(
        path=path,
        run=told["run"],
        model=model,
        digest=fingerprint(model.state_dict()),
        classes=tuple(told["classes"]),
        mean=tuple(told["mean"]),
        std=tuple(told["std"]),
        cut=cut_of(told),
        finished=told["step"] == told["steps"],
        averaged=told["averaged"],
        images=images,
        data_sha256=about.get("sha256", ""),
        mirrored=tuple((left, right) for left, right in about.get("mirrored", ())),
    )


def cut_of(told: dict) -> Cut:
    """By what `training.load_trained` says of a checkpoint; older ones did not cut."""
    size, reading = told["image_size"], told["reading"]
    crop = told["crop"] or {"crop_pct": 1.0, "interpolation": "bicubic"}
    return Cut(
        size if isinstance(size, int) else size[0],
        crop["crop_pct"],
        crop["interpolation"],
        of_told(reading) if reading else None,
    )


def found(word: str | Path) -> Path:
    """The checkpoint that a word means: a file, the folder of a run, or the name of a run whose
    weights lie among this machine's runs, in full or its first four digits and more.
    """
    path = Path(word).expanduser()
    if path.is_dir():
        path = path / LAST
    if path.is_file():
        return path
    name = str(word)
    if HASH.fullmatch(name):
        here = sorted(paths.runs().glob(f"{name}*/{LAST}"))
        if len(here) == 1:
            return here[0]
        if here:
            several = ", ".join(one.parent.name for one in here)
            raise ValueError(
                f"{name} begins the names of several runs ({several}); give more of it"
            )
        if any(record["run"].startswith(name) for record in records.read()):
            raise FileNotFoundError(
                f"run {name} is in the ledger and its weights are not in {paths.runs()}; its "
                "command with --force makes them (`astroformer ledger --json` has it), or give "
                "the file"
            )
    raise FileNotFoundError(
        f"{word}: no such file, and no run of this name in {paths.runs()}; `astroformer ledger` "
        "lists the runs"
    )


@dataclass(frozen=True)
class Ensemble:
    """One member or several, which tell the same classes apart.

    orders: for each member, where in its own order the classes of the first member stand
    """

    members: tuple[Member, ...]
    orders: tuple[tuple[int, ...], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.members[0].classes

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(one.run for one in self.members)

    @property
    def key(self) -> list[str]:
        """The same for the same networks in any order."""
        return sorted(one.digest for one in self.members)


def ensemble(
    words: Sequence[str | Path],
    *,
    average: bool | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Ensemble:
    """The networks of some checkpoints. ValueError in one line unless they tell the same classes
    apart and are used to images of the same kind: as many channels, of the same bands, with the
    same stretch. Their sizes of images may differ.

    average: as `training.load_trained`; that an average predicts is said through `report`
    """
    if not words:
        raise ValueError("no checkpoint is named; give runs/RUN/last.pt or the name of a run")
    members = tuple(member(word, average=average) for word in words)
    first = members[0]
    for one, word in zip(members, words, strict=True):
        if not one.finished:
            report(f"{word} is a checkpoint of a run that has not ended")
        if one.averaged:
            report(
                f"{word}: the average of the weights (EMA); --no-ema takes those of the last step"
            )
    for one in members[1:]:
        if set(one.classes) != set(first.classes):
            raise ValueError(
                f"{first.path} tells apart {listed(first.classes)}, and {one.path} "
                f"{listed(one.classes)}; an ensemble needs the same classes"
            )
        for what, of in KINDS.items():
            if of(one) != of(first):
                raise ValueError(
                    f"{first.path} is used to images of {what} {of(first)}, and {one.path} to "
                    f"{of(one)}; an ensemble needs networks that see images of one kind"
                )
        if [other.digest for other in members].count(one.digest) > 1:
            raise ValueError(f"{one.path} is one network named twice; name each once")
    return Ensemble(
        members,
        tuple(tuple(map(one.classes.index, first.classes)) for one in members),
    )


KINDS: dict[str, Callable[[Member], object]] = {
    "channels": lambda one: one.channels,
    "bands": lambda one: ",".join(getattr(one.cut.reading, "bands", ())) or "any name",
    "stretch": lambda one: getattr(getattr(one.cut.reading, "stretch", None), "name", "none"),
}


def listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


# The images of a run


class NotAtHand(ValueError):
    """The images of a run are not here, or nothing says which they were."""


def images_of(one: Member, split: str, data_dir: str | Path | None = None) -> Images:
    """A split of the images of a member's run, cut as the run is evaluated: "train", "validation"
    or "test". NotAtHand in one line where they are not here, or are others now.

    data_dir: where they lie; None is where they lay when the run was trained
    """
    asked = one.images
    if asked is None:
        raise NotAtHand(
            f"neither {one.path} nor the ledger says which images run {one.run} was trained on"
        )
    place = asked.get("data_dir") if data_dir is None else str(data_dir)
    if split == "validation" and not asked.get("validation"):
        raise NotAtHand(f"run {one.run} holds out no validation images")
    try:
        images = data.load(
            split=split,
            purpose="evaluate",
            crop_pct=one.cut.crop_pct,
            interpolation=one.cut.interpolation,
            **asked | {"data_dir": place, "image_size": one.cut.size},
        )
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise NotAtHand(
            f"the {split} images of run {one.run} are not at hand ({said}); --data-dir says where "
            "they lie"
        ) from error
    if images.about.sha256 != one.data_sha256:
        raise NotAtHand(
            f"the images in {place or images.about.title} are others than those of run {one.run} "
            "(or have changed since); --data-dir says where these lie"
        )
    return images


def _by_record(run: str) -> dict | None:
    """What the ledger says of the images of a run, for checkpoints that do not."""
    record = records.completed(run)
    if record is None:
        return None
    of = record["dataset"]
    names = (
        "class_fraction",
        "validation",
        "test_images",
        "split_seed",
        "test_fraction",
        "stretch",
        "bands",
    )
    named = {"name": of["source"], "fraction": record["fraction"], "seed": record["seed"]}
    place = {"data_dir": of["name"]} if of["source"] == "folder" else {}
    return named | place | {name: of[name] for name in names if of.get(name)}
