"""Predictions of images without labels: `predict` gives a table, `write` makes a file of it that an
interrupt costs at most one batch.

Reads top to bottom: predict, write, Prediction (everything that decides the rows, and the rows),
what is measured on the run's own images first: temperatures and what is unlike.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from astroformer.data import walk
from astroformer.data.images import Images
from astroformer.data.loader import Loader, Squares, workers_beside
from astroformer.inference import members, rows, temperature, unlike
from astroformer.inference.forward import PIECE, Forward, pooled
from astroformer.inference.inputs import Unlabelled, check_units, inputs_of, reasons_of
from astroformer.inference.members import Member, NotAtHand
from astroformer.inference.rows import Answers, Columns
from astroformer.machine import is_watched
from astroformer.training.interrupts import Interrupts, Stopped
from astroformer.training.run import default_device

BATCH = {"cpu": 2 * PIECE, "cuda": 256}  # images between two lines of the part file
HELD_OUT = 2_000  # images that calibration and `unlike` take, at most, evenly spaced
SEVERAL = 3  # reasons that are told of files that are not read
NOT_FINITE = "what the network says is not a number"

Words = str | Path | Sequence[str | Path]  # one, or several
Report = Callable[[str], None]


def silent(line: str) -> None:
    """What a notebook is not told."""


def predict(models: Words, images: Words, *, report: Report = silent, **how) -> pd.DataFrame:
    """A row for each image: `file`, `label`, `probability`, the next likeliest classes with
    theirs, `unlike`, `unlike_distance`, `runs`, `error`.

    models: checkpoints of this project, or names of runs whose weights lie here
    images: a folder, an image, a text file with a path on each line, or paths
    report: is told what a command prints on stderr, line by line
    how: as of `Prediction`: turns, top_k, every, calibrate, unlike, data_dir, average, device,
        workers, batch_size, progress

    ValueError or FileNotFoundError in one line for what cannot be done. A file that cannot be read
    is a row whose prediction is empty and whose `error` says why; ValueError if that is so of all.
    """
    prediction = Prediction(models, images, report=report, **how)
    found, columns, names = [], prediction.columns, prediction.inputs.names
    with Interrupts():
        for answers in prediction.answers():
            found.append(rows.frame(answers, names, columns))
    table = pd.concat(found, ignore_index=True) if found else rows.empty(columns)
    prediction.check_some(
        int(table["error"].notna().sum()), next(iter(table["error"].dropna()), "")
    )
    return table


@dataclass
class Outcome:
    """What `write` has done.

    made: whether the file was made now; else it was there, of the same images and networks
    went_on: images that an interrupted command had done before
    failed: images that could not be read; reasons: how often which
    flagged: images that are more unlike the training ones than unlike.THRESHOLD of held-out ones;
        None where nothing is known
    images_per_second: of this command
    """

    out: Path
    made: bool
    images: int
    labels: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    flagged: int | None = None
    went_on: int = 0
    seconds: float = 0.0
    images_per_second: float | None = None


def write(
    models: Words,
    images: Words,
    out: str | Path,
    *,
    force: bool = False,
    report: Report = silent,
    **how,
) -> Outcome:
    """The same as a CSV or Parquet file, which is written whole or not at all.

    Stopped (KeyboardInterrupt), what is done stays in OUT.part, and the same call goes on from
    there. A file that was made of the same images by the same networks in the same way is left as
    it is. One that this function has not made is not overwritten: ValueError.

    force: makes the file anew in both cases
    how: as of `predict`
    """
    out = Path(out).expanduser()
    rows.check_suffix(out)
    prediction = Prediction(models, images, report=report, **how)
    asked = prediction.asked
    before = rows.made_of(out)
    if before is not None and not force:
        changed = [name for name in asked if before["asked"].get(name) != asked[name]]
        if not changed:
            report(f"{out} is of these images and networks already; --force makes it again")
            return Outcome(**before["outcome"] | {"out": out, "made": False})
        report(f"{out} is made again, since other: {', '.join(changed)}")
    begun = out.with_name(f"{out.name}.part").exists()
    if out.exists() and before is None and not force and not begun:
        raise ValueError(
            f"{out} is there and was not made by this command (or was changed since); name another "
            "--out, or give --force to overwrite it"
        )
    with rows.part_of(out, asked) as part, Interrupts() as interrupts:
        if part.begun_anew:
            report(f"{part.path} is of other images, networks or options; it begins anew")
        if part.done:
            report(f"goes on from image {part.done:,} of {len(prediction.inputs):,}")
        outcome = _written(prediction, part, out, interrupts)
        rows.tell(out, prediction.told(outcome))
        part.path.unlink()
    return outcome


def _written(
    prediction: "Prediction", part: rows.Part, out: Path, interrupts: Interrupts
) -> Outcome:
    went_on, began = part.done, time.monotonic()
    with interrupts.deferred():
        try:
            for answers in prediction.answers(part.done, interrupts):
                part.add(answers)
        except Stopped:
            prediction.report(
                f"stopped after {part.done:,} of {len(prediction.inputs):,} images; the same "
                "command goes on from there"
            )
            raise KeyboardInterrupt from None
    seconds = time.monotonic() - began
    labels, reasons, flagged = Counter[str](), Counter[str](), 0

    def frames() -> Iterator[pd.DataFrame]:
        nonlocal flagged
        for answers in part.answers():
            table = rows.frame(answers, prediction.inputs.names, prediction.columns)
            labels.update(table["label"].dropna())
            reasons.update(table["error"].dropna())
            flagged += int((table["unlike"] > unlike.THRESHOLD).sum())
            yield table

    # looked at first, so that no file is written of which every row is empty
    for _ in frames():
        pass
    try:
        prediction.check_some(sum(reasons.values()), next(iter(reasons), ""))
    except ValueError:
        part.path.unlink()
        raise
    for counted in (labels, reasons):
        counted.clear()
    flagged = 0
    rows.write_table(out, frames(), prediction.columns)
    here = len(prediction.inputs) - went_on
    return Outcome(
        out=out,
        made=True,
        images=len(prediction.inputs),
        labels=dict(labels.most_common()),
        failed=sum(reasons.values()),
        reasons=dict(reasons.most_common(SEVERAL)),
        flagged=flagged if prediction.knows_unlike else None,
        went_on=went_on,
        seconds=round(seconds, 2),
        images_per_second=round(here / seconds, 1) if here and seconds else None,
    )


class Prediction:
    """Networks, images, and all that decides what is said of them.

    turns: 1, or views of each image that are averaged: 4 quarter turns, or 8 with mirror images
    top_k: how many of the likeliest classes are told; every: the probability of every class, too
    calibrate: True fits a temperature on held-out images of the run, unless one is kept; False
        takes none; None takes the one that is kept, if there is one
    unlike: whether is told how unlike the training images each is; what that needs is measured
        on the run's training images unless it is kept
    data_dir: where the images of the networks' run lie; None is where they lay then
    average: as of `training.load_trained`
    workers: processes that read images; None is none on a CPU and up to eight beside a GPU
    batch_size: images read at a time, rounded up on a CPU to whole passes
    progress: True and False show a bar or none; None shows one where somebody watches
    """

    def __init__(
        self,
        models: Words,
        images: Words,
        *,
        turns: int = 1,
        top_k: int = 1,
        every: bool = False,
        calibrate: bool | None = None,
        unlike: bool = True,
        data_dir: str | Path | None = None,
        average: bool | None = None,
        device: torch.device | str | None = None,
        workers: int | None = None,
        batch_size: int | None = None,
        progress: bool | None = False,
        report: Report = silent,
    ):
        self.report, self.turns, self.data_dir = report, turns, data_dir
        self.disable = not (is_watched() if progress is None else progress)
        self.device = torch.device(device) if device is not None else default_device()
        usual = BATCH.get(self.device.type, BATCH["cuda"])
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: give at least 1 image")
        if workers is not None and workers < 0:
            raise ValueError(f"workers {workers}: give 0 or more processes")
        if top_k < 1:
            raise ValueError(f"top_k {top_k}: give at least 1 class")
        self.batch = batch_size or usual
        if self.device.type == "cpu":
            self.batch = -(-self.batch // PIECE) * PIECE
        self.workers = workers_beside(self.device) if workers is None else workers
        words = [models] if isinstance(models, str | Path) else list(models)
        self.ensemble = members.ensemble(words, average=average, report=report)
        self.networks = [
            Forward(one, self.device, turns=turns, batch=self.batch)
            for one in self.ensemble.members
        ]
        if turns == 8 and not any(one.mirrored for one in self.ensemble.members):
            report("mirror images are averaged as if no class had a handedness: none is known")
        if isinstance(images, str | Path):
            images = str(images)
        first = self.ensemble.members[0]
        self.inputs = inputs_of(images, first.cut.reading)
        check_units(self.inputs, first.cut.reading)
        if +self.inputs.left_out:
            report(f"{self.inputs.shown}: left out: {walk.counted(self.inputs.left_out)}")
        self.columns = Columns(
            self.ensemble.classes,
            min(top_k, len(self.ensemble.classes)),
            every,
            " ".join(self.ensemble.runs),
        )
        self._of_held_out: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
        self.temperature = self._temperature(calibrate)
        self.references = [self._reference(one) if unlike else None for one in self.networks]
        self._of_held_out.clear()

    @property
    def knows_unlike(self) -> bool:
        return any(self.references)

    @cached_property
    def asked(self) -> dict[str, object]:
        """What decides the rows, by names that a user understands; images as they were when it
        began.
        """
        return {
            "images": self.inputs.signature(),
            "networks": [[one.run, one.digest] for one in self.ensemble.members],
            "turns": self.turns,
            "temperature": self.temperature.temperature if self.temperature else None,
            "unlike": [
                one and [one.trained, one.split, len(one.held[self.turns])]
                for one in self.references
            ],
            "columns": self.columns.names(),
            "kind of device": self.device.type,
        }

    def told(self, outcome: Outcome) -> dict[str, object]:
        """What OUT.json says: of what the file was made, and what came out."""
        own = vars(outcome) | {"out": outcome.out.name}
        calibration = self.temperature and vars(self.temperature)
        return {
            "asked": self.asked,
            "outcome": own,
            "calibration": calibration,
            "unlike_threshold": unlike.THRESHOLD,
        }

    def check_some(self, failed: int, reason: str) -> None:
        """ValueError if no image could be read."""
        if failed and failed == len(self.inputs):
            raise ValueError(
                f"none of the {failed:,} images of {self.inputs.shown} could be read; the first: "
                f"{reason}"
            )

    def answers(self, start: int = 0, interrupts: Interrupts | None = None) -> Iterator[Answers]:
        """What is said of all images, batch by batch, from one on. Raises Stopped between two
        batches after an interrupt.
        """
        cuts = list(dict.fromkeys(one.cut for one in self.ensemble.members))
        # so that an image shares its pass with the same ones, wherever a command goes on
        first = start // self.batch * self.batch
        batches = [
            range(one, min(one + self.batch, len(self.inputs)))
            for one in range(first, len(self.inputs), self.batch)
        ]
        keys = [[(cut, i) for i in batch] for batch in batches for cut in range(len(cuts))]
        pinned = self.device.type == "cuda"
        loader = Loader(Unlabelled(self.inputs, cuts), workers=self.workers, pin_memory=pinned)
        with (
            closing(loader),
            tqdm(
                total=len(self.inputs),
                initial=start,
                unit="images",
                unit_scale=len(self.inputs) > 10_000,
                disable=self.disable,
            ) as bar,
        ):
            loaded = loader.batches(keys)
            for batch in batches:
                if interrupts is not None:
                    interrupts.check()
                of_cut = {cut: next(loaded) for cut in cuts}
                answers = _from(self._answers(batch.start, of_cut), start)
                bar.update(len(answers))
                yield answers

    def _answers(self, start: int, of_cut: dict[members.Cut, tuple[Tensor, Tensor]]) -> Answers:
        reasons = [reasons_of(told) for _, told in of_cut.values()]
        errors = [next(filter(None, one), "") for one in zip(*reasons, strict=True)]
        told, distances, shares = [], [], []
        for network, reference in zip(self.networks, self.references, strict=True):
            log_p, features = network(of_cut[network.member.cut][0])
            told.append(log_p)
            if reference is not None:
                distances.append(reference.distance(features))
                shares.append(reference.share(distances[-1], self.turns))
        log_p = pooled(told, self.ensemble)
        finite = log_p.isfinite().all(1).tolist()
        errors = [one or ("" if good else NOT_FINITE) for one, good in zip(errors, finite)]
        # by the log-probabilities themselves, so that a temperature cannot change an order
        top = np.argsort(-log_p.numpy(), axis=1, kind="stable")[:, : self.columns.top_k]
        value = temperature.applied(log_p, self.temperature.temperature if self.temperature else 1)
        if not self.columns.every:
            value = np.take_along_axis(value, top, axis=1)
        nothing = np.full(len(errors), np.nan)
        return Answers(
            start=start,
            top=top,
            probabilities=value,
            distance=_mean(distances) if distances else nothing,
            unlike=_mean(shares) if shares else nothing,
            errors=errors,
        )

    # What is measured on the run's own images first

    def _temperature(self, calibrate: bool | None) -> temperature.Temperature | None:
        if calibrate is False:
            self.report("probabilities are not calibrated, as asked for")
            return None
        known = temperature.kept(self.ensemble, self.turns)
        if known is None and calibrate:
            known = self._fitted_temperature()
        if known is None:
            which = f" for these views ({self.turns})" if self.turns > 1 else ""
            which += " for this ensemble" if len(self.networks) > 1 else ""
            self.report(
                f"probabilities are not calibrated: no temperature is kept{which}; --calibrate "
                "fits one on held-out images of the run"
            )
            return None
        self.report(f"probabilities are calibrated: {known.described()}")
        return known

    def _fitted_temperature(self) -> temperature.Temperature:
        """On images that no member was trained on: validation images, else test images."""
        one = self.ensemble.members[0]
        try:
            images = members.images_of(one, "validation", self.data_dir)
        except NotAtHand as no_validation:
            try:
                images = members.images_of(one, "test", self.data_dir)
            except NotAtHand as no_test:
                why = no_test if one.images and not one.images.get("validation") else no_validation
                raise ValueError(
                    f"--calibrate: {why}; without it, or with --no-calibrate, probabilities are raw"
                ) from None
            self.report(
                "calibrating on the run's test images, as it holds out no others: their NLL and "
                "ECE are no longer those of unseen images"
            )
        for other in self.ensemble.members[1:]:
            self._check_unseen(other, one, images.split)
        images = _some(images, HELD_OUT)
        told = [self._told(network, images) for network in self.networks]
        log_p = pooled([log_p for log_p, _ in told], self.ensemble)
        if not bool(log_p.isfinite().all()):
            raise ValueError(f"--calibrate: {NOT_FINITE}, so there is nothing to calibrate")
        made = temperature.fitted(
            self.ensemble,
            self.turns,
            log_p,
            images.labels,
            split=images.split,
            dataset=images.about.title,
        )
        self._keep(lambda: temperature.keep(made, one.folder))
        return made

    def _check_unseen(self, other: Member, one: Member, split: str) -> None:
        """ValueError unless another member's run left the same images out of its training."""
        names = ("validation", "class_fraction", "test_fraction", "split_seed", "test_images")
        parts = [
            {name: (member.images or {}).get(name) or None for name in names}
            for member in (other, one)
        ]
        if other.data_sha256 != one.data_sha256 or parts[0] != parts[1]:
            raise ValueError(
                f"--calibrate: runs {one.run} and {other.run} were not trained on the same images "
                f"with the same held out, so no {split} images are new to both; calibrate each by "
                "itself, or give --no-calibrate"
            )

    def _reference(self, network: Forward) -> unlike.Reference | None:
        """What is kept beside a member's checkpoint, or else measured now."""
        one = network.member
        known = unlike.kept(one.folder, one.digest)
        if known is not None and self.turns in known.held:
            return known
        try:
            held = self._held_out(one)
            if known is None:
                train = _some(members.images_of(one, "train", self.data_dir), unlike.TRAINED)
                single = Forward(one, self.device, batch=self.batch)
                _, features = network_told(single, train, self)
                known = unlike.fitted(one.digest, features[:, 0], held.split)
                self.report(
                    f"unlike: by the features of {known.trained:,} training images of run "
                    f"{one.run}, beside {len(held):,} {held.split} images"
                )
        except NotAtHand as why:
            self.report(f"unlike: not known of run {one.run}, as {why}")
            return None
        made = known.with_held(self.turns, self._told(network, held)[1])
        self._keep(lambda: unlike.keep(made, one.folder))
        return made

    def _held_out(self, one: Member) -> Images:
        """Images like those of training that were not trained on."""
        try:
            held = members.images_of(one, "validation", self.data_dir)
        except NotAtHand:
            held = members.images_of(one, "test", self.data_dir)
        return _some(held, HELD_OUT)

    def _told(self, network: Forward, images: Images) -> tuple[Tensor, Tensor]:
        """What a network says of held-out images, which both ask for: computed once."""
        key = (network.member.digest, images.split)
        if key not in self._of_held_out:
            self._of_held_out[key] = network_told(network, images, self)
        return self._of_held_out[key]

    def _keep(self, keep: Callable[[], Path]) -> None:
        try:
            keep()
        except OSError as error:
            self.report(
                f"what was measured cannot be kept beside the checkpoint ({error.strerror}); it is "
                "measured again next time"
            )


def network_told(network: Forward, images: Images, prediction: Prediction) -> tuple[Tensor, Tensor]:
    """What a network says of the images of its run: as `Forward`, of all of them."""
    pinned = prediction.device.type == "cuda"
    loader = Loader(Squares(images), workers=prediction.workers, pin_memory=pinned)
    told, features = [], []
    with (
        closing(loader),
        tqdm(
            total=len(images),
            unit="images",
            desc=f"{images.split} images of {network.member.run}",
            disable=prediction.disable,
        ) as bar,
    ):
        for pixels, _ in loader.in_order(prediction.batch):
            log_p, of_batch = network(pixels)
            told.append(log_p)
            features.append(of_batch)
            bar.update(len(pixels))
    return torch.cat(told), torch.cat(features)


def _some(images: Images, most: int) -> Images:
    """The images, or so many of them, evenly spaced: folders are sorted by class."""
    number = min(len(images), most)
    chosen = np.linspace(0, len(images) - 1, number).astype(int)
    return images if number == len(images) else images.take(chosen)


def _mean(of_members: Sequence[np.ndarray]) -> np.ndarray:
    """(B,), the same whatever the order of the members."""
    return np.sort(np.stack(of_members), axis=0).mean(0)


def _from(answers: Answers, start: int) -> Answers:
    """The answers from one image on."""
    skipped = max(0, start - answers.start)
    if not skipped:
        return answers
    arrays = {name: value[skipped:] for name, value in vars(answers).items() if name != "start"}
    return Answers(start=start, **arrays)
