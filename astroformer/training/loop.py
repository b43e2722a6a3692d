"""The training loop. Reads top to bottom: fit, train, Training (what a checkpoint holds).

Resuming is exact because nothing random depends on what was drawn before: the order of an epoch and
each image's augmentation come from (seed, epoch, index), each step's dropout and mixing from (seed,
step). A run that was stopped anywhere and started again ends with the same bits on a CPU.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor, nn

from astroformer.counting.cost import count_macs
from astroformer.data.augment import (
    DROPOUT,
    MIXING,
    BatchAugmentation,
    derive,
    generators_kept,
    keys_of_epoch,
)
from astroformer.data.images import Images, of_bands
from astroformer.data.loader import Loader, Squares
from astroformer.data.on_device import training_loader
from astroformer.ledger import curves, predictions, records
from astroformer.locks import Lock
from astroformer.models import create
from astroformer.training import checkpoint, initial, memory, run_folder, sharded, shortage
from astroformer.training.dropblock import add_dropblock
from astroformer.training.evaluate import metrics
from astroformer.training.execution import Execution
from astroformer.training.frozen import freeze
from astroformer.training.interrupts import Interrupts, Stopped
from astroformer.training.known import Fitted, known
from astroformer.training.logs import Note, check_logs, opened_logs
from astroformer.training.pace import Pace
from astroformer.training.ranks import ALONE, Piece, Ranks, device_of_rank, joined, pieces
from astroformer.training.record import attempt_of, differences, record_of
from astroformer.training.run import Run, default_device
from astroformer.training.schedule import learning_rate
from astroformer.training.step import (
    optimizer_of,
    set_learning_rate,
    settle,
    settled_for,
    state_of,
    stepping_of,
)
from astroformer.training.synchronised import RunningStatistics, gradients_kept_back

# how often a run that counts steps is measured on its validation images
EVALUATIONS = 5
# training images on which the fit is measured, at most
FIT_IMAGES = 2_000


def fit(
    run: Run,
    *,
    device: torch.device | None = None,
    execution: Execution | None = None,
    force: bool = False,
    need_weights: bool = False,
    wait: bool = True,
    report: Callable[[str], None] = print,
    checkpoint_seconds: float | None = None,
    stop_after: int | None = None,
    time_limit: float | None = None,
    again: bool = True,
    logs: Sequence[str] = (),
    evaluations: int = EVALUATIONS,
    study: Mapping[str, object] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Fitted:
    """Trains a run, evaluates its last weights and adds a record to the ledger.

    execution: how fast and on what; None is `Execution()`
    force: train again although the ledger holds the run (one that was stopped goes on)
    need_weights: train again if only the weights are missing
    wait: for another process that works on the run; else raises run_folder.Busy
    checkpoint_seconds: time between two checkpoints within an epoch, and one at each epoch's end;
        None writes them as often as two hundredths of the time allow
    stop_after: leave off after that many steps as an interruption would (for tests)
    time_limit: leave off after so many seconds as an interruption would; the record says so
    again: train again a run of which the ledger says that it failed
    logs: "csv", "tensorboard", "wandb"; where they lie says logs.py
    evaluations: of a run whose recipe counts steps, how often it is measured on its validation
        images; one that counts epochs is measured after each
    study: what the record says of the study that asked for the run: its name, the digest of its
        design, ...
    check: called by the first rank once the folder is held, unless the ledger holds the run; its
        error stops all
    """
    check_logs(logs)
    device = device_of_rank(device or default_device())
    left_to_device = run.recipe.precision == "auto"
    run = run.resolved(device)
    question = run.question if left_to_device else None
    with ExitStack() as stack:
        ranks = stack.enter_context(joined(device))
        interrupts = stack.enter_context(Interrupts(time_limit))
        report = report if ranks.first else silent

        locks: list[Lock] = []  # of the folder; the first rank's

        def begun() -> Fitted | None:
            """The run, if it is known; else its folder is this process's and in order."""
            if fitted := known(run, question, force, need_weights, report, logs, again):
                return fitted
            records.check_writable()
            how = dict(wait=wait, report=report, on_loss=lambda _: interrupts.stop())
            locks.append(stack.enter_context(run_folder.held(run.folder, **how)))
            # Another process may have made it meanwhile.
            if fitted := known(run, question, force, need_weights, report, logs, again):
                return fitted
            check()
            if force:
                run_folder.begin_anew(run.folder)
            run_folder.remove_parts(run.folder)
            return None

        if fitted := ranks.told(begun):
            return fitted
        stack.enter_context(generators_kept())
        return _fit(
            run,
            device,
            execution,
            ranks,
            interrupts,
            report,
            checkpoint_seconds,
            stop_after,
            logs,
            evaluations,
            study,
            locks[0] if locks else Lock(True),
        )


def _fit(
    run: Run,
    device: torch.device,
    execution: Execution | None,
    ranks: Ranks,
    interrupts: Interrupts,
    report: Callable[[str], None],
    checkpoint_seconds: float | None,
    stop_after: int | None,
    logs: Sequence[str],
    evaluations: int,
    study: Mapping[str, object] | None,
    lock: Lock,
) -> Fitted:
    """Trains a run whose folder is held. The first rank alone writes, and if another process takes
    the folder meanwhile, all ranks stop without a word more in it: run_folder.Lost.
    """
    with ranks.excused():  # images are decoded, which may take long
        training = Training(
            run,
            device,
            report,
            execution=execution,
            ranks=ranks,
            checkpoint_seconds=checkpoint_seconds,
            evaluations=evaluations,
            lock=lock,
        )
    try:
        training.resume()
        for line in training.room.lines:
            report(line)
        with interrupts.deferred(), opened_logs(logs if ranks.first else (), run) as note:
            note(training.history)
            with shortage.told(training):
                status = train(training, interrupts, stop_after, note)
            state = sharded.gathered(training.state(finished=True), ranks)
            if lost := ranks.told(lock.lost):
                status = "interrupted"

            def recorded() -> dict:
                record = record_of(training, status) | ({"study": dict(study)} if study else {})
                if status == "completed":
                    run_folder.begin_end(run.folder)
                records.append(record)  # before weights and predictions, which may fill a disk
                if status != "interrupted":
                    curves.write(run.hash, training.curve[:, : training.step])
                if status == "completed":
                    training.finish(state)
                return record

            record = ranks.told(recorded)
    finally:
        training.close()
    if lost:
        lost = (
            f"run {run.hash} is another process's now, as {lost}; this one stops at step "
            f"{training.step} of {training.steps} without a checkpoint; the same command waits for "
            "the other, and goes on if that ends early"
        )
        if not interrupts.told:
            raise run_folder.Lost(lost)
        report(lost)
        raise KeyboardInterrupt
    if status == "interrupted":
        report(
            f"stopped at step {training.step} of {training.steps}; the same command goes on "
            f"from there: {run.command(located=True)}"
        )
        if ranks.any(interrupts.told)[0]:
            raise KeyboardInterrupt
    if status == "failed":
        report(
            f"{training.failure} at step {training.failed_at} of {training.steps}; the record "
            "says failed. A lower learning rate or gradient clipping is the usual cure: "
            "--set learning_rate=... --set clip_grad=1"
        )
    return Fitted(record, run.folder / run_folder.LAST, False)


def train(training: "Training", interrupts: Interrupts, stop_after: int | None, note: Note) -> str:
    """Trains from where the training stands to the end; the status of the record. A rank that is
    to stop stops all, after the same step.
    """
    ranks = training.ranks
    while training.step < training.steps or training.is_due():
        for _ in () if training.is_due() else training.train_on():
            interrupts.stopped, due = ranks.any(interrupts.stopped, training.checkpoints.due())
            if interrupts.stopped or training.step == stop_after:
                training.save()
                return "interrupted"
            if due and training.is_finite():
                training.save()
        if not training.is_finite():
            return "failed"
        try:
            finite = training.measure(interrupts)
        except Stopped:
            training.save()
            return "interrupted"
        note(training.history)
        if not finite:
            return "failed"
        [save] = ranks.any(training.step < training.steps and training.checkpoints.affordable())
        if save:
            training.save()
    try:
        training.conclude(interrupts)
    except Stopped:
        training.save()
        return "interrupted"
    return "completed" if training.failure == "" else "failed"


class Training:
    """A run in progress: data, network, optimizer, and the numbers that a checkpoint carries."""

    def __init__(
        self,
        run: Run,
        device: torch.device,
        report: Callable[[str], None] = print,
        *,
        execution: Execution | None = None,
        ranks: Ranks = ALONE,
        checkpoint_seconds: float | None = None,
        evaluations: int = EVALUATIONS,
        lock: Lock | None = None,
    ):
        self.run, self.recipe, self.device, self.report = run, run.recipe, device, report
        self.ranks = ranks
        execution = replace(execution or Execution(), world_size=ranks.size)
        self.execution = execution.settled(device)
        number = len(run.classes())  # images are read after this
        self.room = memory.checked(run, classes=number, device=device, execution=self.execution)
        whole = self.recipe.crop == "random-resized"
        self.train_images = run.load("train").ready(report, whole=whole)
        self.test_images = run.load(run.evaluated_on).ready(report)
        # what is looked at while it trains: test images are not, where others are held out
        self.watched = self.test_images
        if run.validation and run.evaluated_on == "test":
            self.watched = run.load("validation").ready(report)
        for remark in self.train_images.about.remarks:
            report(remark)
        self.classes = self.train_images.classes
        torch.manual_seed(run.seed)
        self.options = run.model_options(len(self.classes))
        self.model = create(run.model, **self.options)
        self.batch_size = self.recipe.batch_size
        self.micro_batch_size = self.recipe.images_at_once
        shares = pieces(self.batch_size, self.micro_batch_size, ranks.size)
        self.pieces = shares[ranks.rank]  # of every batch, this process computes these rows
        self.rows = slice(self.pieces[0].start, self.pieces[-1].stop)
        self.steps_per_epoch = len(self.train_images) // self.batch_size
        self.steps = self.recipe.steps or self.steps_per_epoch * self.recipe.epochs
        self.stops = self._stops(evaluations)
        self.mean, self.std = self._normalisation()
        self.init = None  # what the record says of given weights
        if run.init is not None:
            self.begin_with(*run.initial_weights())
        freeze(self.model, self.recipe.trained)
        # of an image
        self.macs = count_macs(self.model, run.image_size, self.train_images.channels)
        macs = self.macs * self.batch_size
        settled = execution.settled(device, macs=macs, steps=self.steps)
        how = dict(parts=len(self.pieces))
        self.execution = settled_for(settled, execution, self.model, self.recipe, device, **how)
        self.execution.apply()
        self.model = sharded.placed(self.model, self.execution, device)
        self.dropblock = add_dropblock(
            self.model, self.recipe.dropblock, self.recipe.dropblock_form
        )
        self.average = sharded.average_of(self.model, self.recipe, self.execution)
        self.together = sharded.together(self, shares)  # hands gradients on
        self.statistics = RunningStatistics(self.model, shares, ranks)
        self.optimizer = optimizer_of(self.model, self.recipe, self.execution, device)
        how = dict(precision=self.recipe.precision, clip_grad=self.recipe.clip_grad)
        self.stepping = stepping_of(
            self.model, self.together, self.optimizer, self.execution, **how
        )
        self.augment = BatchAugmentation(
            self.recipe,
            mean=self.mean,
            std=self.std,
            num_classes=len(self.classes),
            device=device,
        )
        self.how = {"workers": self.execution.workers, "pin_memory": device.type == "cuda"}
        self.dataset, self.loader = training_loader(
            self.train_images, run.recipe, seed=run.seed, mean=self.mean, device=device, **self.how
        )
        self.evaluation = Loader(Squares(self.watched), **self.how)
        self.checkpoints = run_folder.Checkpoints(
            run.folder, seconds=checkpoint_seconds, writes=ranks.first, lock=lock
        )

        self.step, self.history, self.failed_at, self.failure = 0, [], None, ""
        # loss and norm of the gradient of every step
        self.curve = torch.full((2, self.steps), float("nan"), device=device)
        # over the steps since the last measurement
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        # first step with a loss that is not finite
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self.logits = None  # of the test images, (N, K)
        self.measured: dict[str, float | None] = {}  # the final metrics
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.attempts = [attempt_of(self)]
        self.pace = Pace(device, report, bar=report is not silent)
        self._read_clock()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def _stops(self, evaluations: int) -> list[int]:
        """The steps after which the network is measured: the end of every epoch, or of so many
        equal parts of a run that counts steps; only the last, if no images are held out for it.
        """
        if not self.recipe.steps:
            return list(range(self.steps_per_epoch, self.steps + 1, self.steps_per_epoch))
        parts = max(1, min(evaluations, self.steps)) if self.run.validation else 1
        return [round(self.steps * part / parts) for part in range(1, parts + 1)]

    def _normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and deviation of the channels, in units of 0..1."""
        if self.recipe.preprocessing == "network":
            described = self.run.described()
            channels = self.train_images.channels
            return of_bands(described["mean"], channels), of_bands(described["std"], channels)
        return self.train_images.statistics()

    def begin_with(self, weights: dict[str, Tensor], fingerprint: str) -> None:
        """Takes over weights; the classifier stays a new one unless the file's is for as many
        classes.
        """
        new = initial.classes_differ(self.model, weights)
        kept = initial.load_weights(
            self.model,
            weights,
            new_classifier=new,
            allow_partial=self.run.allow_partial,
            report=self.report,
        )
        self.init = {"file": initial.named(self.run.init), "sha256": fingerprint, "as_drawn": kept}
        self.report(
            f"weights of {self.run.init}"
            + (f": {part}" if (part := getattr(weights, "part", "")) else "")
            + (f"; as drawn by the seed: {initial.listed(kept)}" if kept else "")
        )

    def train_on(self) -> Iterator[int]:
        """Trains to the next step after which the network is measured; yields after every step. If
        a batch cannot be had, what is trained so far is saved first.
        """
        stop = next(stop for stop in self.stops if stop > self.step)
        keys = self._keys(stop)
        batches = self.loader.batches(keys)
        self.model.train()
        self._read_clock()
        while True:
            try:
                images, labels = next(batches)
            except StopIteration:
                break
            except Exception:
                if self.is_finite():
                    self.save()
                raise
            loss = self.train_step(
                images.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )
            self.loss_sum += loss
            self.curve[0, self.step] = loss
            self.bad_step = torch.where(
                (self.bad_step < 0) & ~loss.isfinite(), self.step, self.bad_step
            )
            self.step += 1
            self._count(self.batch_size)
            self.pace.after_step(stop - self.step, self.steps - self.step)
            yield self.step
            # what the caller did meanwhile (a checkpoint) is not training
            self._read_clock()
        if self.device.type == "cuda":  # the steps that the device still has before it
            torch.cuda.synchronize(self.device)
            self._count(0)

    def _keys(self, until: int) -> list[list[tuple[int, ...]]]:
        """This rank's rows of the batches from where the training stands to a step, as keys of
        the data set.
        """
        keys: list[list[tuple[int, ...]]] = []
        while (step := self.step + len(keys)) < until:
            epoch, done = divmod(step, self.steps_per_epoch)
            keys += keys_of_epoch(self.dataset, self.batch_size, epoch=epoch, skip=done)
        return [batch[self.rows] for batch in keys[: until - self.step]]

    def _read_clock(self) -> None:
        self.clock, self.cpu_clock = time.monotonic(), time.process_time()

    def _count(self, images: int) -> None:
        """Adds the time since the clock was read, and images, to this attempt."""
        began, cpu_began = self.clock, self.cpu_clock
        self._read_clock()
        attempt = self.attempts[-1]
        attempt["seconds"] += self.clock - began
        attempt["cpu_seconds"] += self.cpu_clock - cpu_began
        attempt["images"] += images
        attempt["to_step"] = self.step

    def train_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One optimizer step on this rank's rows of a batch; the mean loss of the whole batch's
        micro-batches.
        """
        torch.manual_seed(self._dropout_seed())
        set_learning_rate(
            self.optimizer, learning_rate(self.recipe, self.step, self.steps_per_epoch)
        )
        self.dropblock.at(self.step / self.steps)
        self.statistics.begin()
        parts = (self._augmented(images, labels, piece) for piece in self.pieces)
        if self.execution.graphs:
            loss, norm = self.stepping(*next(parts))
        else:
            loss = torch.zeros((), device=self.device)
            for piece, (x, target) in zip(self.pieces, parts, strict=True):
                last = piece is self.pieces[-1]
                with nullcontext() if last else gradients_kept_back(self.together):
                    # ranks take the mean of their gradients, and the sum is wanted
                    loss += self.stepping.add(
                        x, target, part=piece.images / self.batch_size, times=self.ranks.size
                    )
            loss = self.ranks.sum(loss)
            self.statistics.end()
            norm = self.stepping.end()
        self.curve[1, self.step] = sharded.whole(norm)
        if self.average:
            self.average.update(self.model, step=self.step)
        return loss

    def _dropout_seed(self) -> int:
        """For dropout and stochastic depth in a step. The rank that has the first row draws as one
        process does; the others draw for their rows.
        """
        first = self.pieces[0]
        where = (first.part, first.start) if first.start else ()
        return derive(DROPOUT, self.run.seed, self.step, *where)

    def _augmented(self, images: Tensor, labels: Tensor, piece: Piece) -> tuple[Tensor, Tensor]:
        """The rows of a piece as the network sees them, and their targets. Images that are mixed
        with others of a micro-batch that several ranks share are mixed as in one process.
        """
        seed = derive(MIXING, self.run.seed, self.step, piece.part)
        own = slice(piece.start - self.rows.start, piece.stop - self.rows.start)
        if len(piece.group) == 1:
            x, target = self.augment(images[own], labels[own], seed=seed)
        else:
            every, theirs = (self.ranks.gathered(one, piece.group) for one in (images, labels))
            x, target = self.augment(every, theirs, seed=seed)
            begin = piece.start - piece.part * self.micro_batch_size
            x, target = (one[begin : begin + piece.images] for one in (x, target))
        return x.contiguous(memory_format=self.execution.layout), target

    def is_finite(self) -> bool:
        """Whether every loss was a finite number so far."""
        bad = int(self.bad_step)
        if bad >= 0:
            self.failed_at, self.failure = bad, "the loss was not finite"
        return bad < 0

    def is_due(self) -> bool:
        """Whether the network is to be measured where the training stands and is not yet (a run may
        be stopped right there).
        """
        return self.step in self.stops and len(self.history) <= self.stops.index(self.step)

    def evaluated(self) -> nn.Module:
        """The bare network whose accuracy is reported: the average of the weights where one is
        kept.
        """
        return self.average.module if self.average else self.model

    def predict(self, images: Loader | Images, interrupts: Interrupts | None = None) -> Tensor:
        """Logits of images, (N, K), as the weights now stand. Ranks share the images, and then are
        not stopped before all of them are done.
        """
        own = sharded.predict(
            self.ranks,
            self.evaluated(),
            images,
            mean=self.mean,
            std=self.std,
            precision=self.recipe.precision,
            batch_size=self.room.evaluation_batch,
            interrupts=interrupts if self.ranks.size == 1 else None,
        )
        return self.ranks.gathered(own.to(self.device)).cpu()

    def measure(self, interrupts: Interrupts | None = None) -> bool:
        """Evaluates, notes it in the history and reports it in one line. False if what the network
        says is not finite: then the metrics are None.
        """
        logits = self.predict(self.evaluation, interrupts)
        if self.watched is self.test_images:
            self.logits = logits
        finite = bool(logits.isfinite().all())
        measured = metrics(logits, self.watched.labels, finite=finite)
        if self.recipe.steps and self.step < self.steps:
            measured |= self.fit_metrics(interrupts)
        began = self.stops[len(self.history) - 1] if self.history else 0
        epoch = self.step / self.steps_per_epoch
        entry = {
            "epoch": int(epoch) if epoch.is_integer() else round(epoch, 2),
            "step": self.step,
            "train_loss": float(self.loss_sum) / (self.step - began),
            "learning_rate": learning_rate(self.recipe, self.step - 1, self.steps_per_epoch),
            **measured,
        }
        self.history.append(entry)
        self.loss_sum.zero_()
        if not finite:
            self.failed_at, self.failure = self.step, "what the network says was not finite"
            return False
        attempt = self.attempts[-1]
        rate = attempt["images"] / attempt["seconds"] if attempt["seconds"] else 0.0
        left = (self.steps - self.step) * self.batch_size / rate / 60 if rate else 0.0
        where = (
            f"step {self.step:,}/{self.steps:,}"
            if self.recipe.steps
            else f"epoch {int(epoch):3d}/{self.recipe.epochs}"
        )
        self.report(
            f"{where}  train loss {entry['train_loss']:.3f}  "
            f"{self.watched.split} {measured['top1']:5.2f} %  balanced "
            f"{measured['balanced_accuracy']:5.2f} %  "
            f"{rate:,.0f} images/s  {left:.1f} min left"
        )
        return True

    def fit_metrics(self, interrupts: Interrupts | None = None) -> dict[str, float | None]:
        """How well the training images themselves are recognised, without augmentation: what tells
        "fits better" from "generalises better". Of many images, FIT_IMAGES evenly spaced ones.
        """
        number = min(len(self.train_images), FIT_IMAGES)
        chosen = np.linspace(0, len(self.train_images) - 1, number).astype(int)
        images = self.train_images.take(chosen).cut(**self.run.evaluation_crop())
        logits = self.predict(images, interrupts)
        found = metrics(logits, images.labels, finite=bool(logits.isfinite().all()))
        return {f"train_{name}": found[name] for name in ("top1", "balanced_accuracy", "nll")}

    def conclude(self, interrupts: Interrupts | None = None) -> None:
        """The final metrics: on the test images, once, and on the training images."""
        if self.logits is None:
            loader = self.evaluation
            if self.watched is not self.test_images:
                loader = Loader(Squares(self.test_images), **self.how)
            self.logits = self.predict(loader, interrupts)
            if loader is not self.evaluation:
                loader.close()
        finite = bool(self.logits.isfinite().all())
        if not finite:
            self.failed_at, self.failure = self.step, "what the network says was not finite"
        self.measured = metrics(self.logits, self.test_images.labels, finite=finite)
        self.measured |= self.fit_metrics(interrupts)
        if self.watched is not self.test_images and finite:
            self.report(
                f"{self.test_images.split} {self.measured['top1']:5.2f} %  balanced "
                f"{self.measured['balanced_accuracy']:5.2f} %  of the training images "
                f"{self.measured['train_top1']:5.2f} %"
            )

    def finish(self, state: dict) -> None:
        """Keeps the weights and the predictions of a finished run."""
        predictions.write(
            self.run.hash,
            self.logits,
            self.test_images.labels,
            self.classes,
            evaluated_on=self.test_images.split,
        )
        self.checkpoints.finish(state)

    def close(self) -> None:
        """Ends the loader processes."""
        self.loader.close()
        self.evaluation.close()

    def state(self, *, finished: bool = False) -> dict:
        """Everything that the rest of the run depends on, and what evaluating the weights needs; of
        a finished run only that.
        """
        about, reading = self.train_images.about, self.train_images.reading
        return {
            "run": self.run.hash,
            "model": self.run.model,
            "options": self.options,
            "recipe": self.recipe.name,
            "dataset": self.train_images.about.title,
            "classes": list(self.classes),
            "mean": self.mean,
            "std": self.std,
            "image_size": self.run.image_size,
            "crop": self.run.evaluation_crop(),
            "images": self.run.images(),
            "about": {name: getattr(about, name) for name in ("sha256", "mirrored")},
            "reading": reading and reading.told(),
            "step": self.step,
            "steps": self.steps,
            "weights": self.model.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "optimizer": None if finished else state_of(self.optimizer),
            "history": self.history,
            "loss_sum": float(self.loss_sum),
            "curve": self.curve[:, : self.step].cpu(),
            "attempts": self.attempts,
            "started": self.started,
        }

    def save(self) -> None:
        with self.ranks.excused():
            self.checkpoints.write(sharded.gathered(self.state(), self.ranks))

    def resume(self) -> None:
        """Takes up the newest readable checkpoint of this run, if there is one."""
        where, run, like = self.run.folder, self.run.hash, self.state()
        state = sharded.taken_up(
            self, lambda: checkpoint.newest(where, run, self.report, like=like)
        )
        if state is None:
            return
        self.model.load_state_dict(state["weights"])
        if self.average:
            self.average.module.load_state_dict(state["average"])
        if state["optimizer"] is not None:  # of a finished run it is gone
            self.optimizer.load_state_dict(state["optimizer"])
            settle(self.optimizer, self.execution, self.device)
        self.loss_sum.fill_(state["loss_sum"])
        self.curve[:, : state["step"]] = state["curve"].to(self.device)
        for name in ("step", "history", "started"):
            setattr(self, name, state[name])
        now = attempt_of(self)
        changes = differences(state["attempts"][-1], now)
        self.attempts = [*state["attempts"], now]
        self.report(
            f"run {self.run.hash} goes on from step {self.step} of {self.steps}"
            + (f"; since then other: {', '.join(changes)}" if changes else "")
        )


def silent(line: str) -> None:
    """What ranks other than the first report."""
