"""The training loop. Reads top to bottom: fit, Training (what a checkpoint holds), train_epoch, the
schedule, the record.

Resuming is exact because nothing random depends on what was drawn before: the order of an epoch and
each image's augmentation come from (seed, epoch, index), each step's dropout and mixing from (seed,
step). A run that was stopped anywhere and started again ends with the same bits on a CPU.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from astroformer.counting.cost import count_macs, count_params
from astroformer.data.augment import Augmented, BatchAugmentation, derive, train_batches
from astroformer.ledger import predictions, records
from astroformer.models.spectformer_h import token_label_loss
from astroformer.training import checkpoint, initial
from astroformer.training.dropblock import add_dropblock
from astroformer.training.evaluate import metrics, predict
from astroformer.training.logs import Note, check_logs, opened_logs
from astroformer.training.run import Run
from astroformer.training.schedule import learning_rate


@dataclass(frozen=True)
class Fitted:
    """What `fit` gives back: the ledger record, where the weights lie, and whether the ledger
    already held the run.
    """

    record: dict
    weights: Path
    reused: bool


def fit(
    run: Run,
    *,
    device: torch.device | None = None,
    force: bool = False,
    need_weights: bool = False,
    report: Callable[[str], None] = print,
    workers: int | None = None,
    checkpoint_seconds: float = 60.0,
    stop_after: int | None = None,
    logs: Sequence[str] = (),
) -> Fitted:
    """Trains a run, evaluates the last epoch on the test split and adds a record to the ledger.

    force: train again although the ledger holds the run; need_weights: train again if only the
        weights are missing
    workers: processes that augment images; None means none on a CPU (which the network needs), up
        to 8 beside a GPU
    checkpoint_seconds: time between two checkpoints within an epoch; each epoch ends with one
    stop_after: leave off after that many steps as an interruption would (for tests and time
        budgets)
    logs: "csv", "tensorboard", "wandb"; where they lie says logs.py
    """
    check_logs(logs)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = run.resolved(device)
    weights = run.folder / "last.pt"
    known = None if force else records.completed(run.hash)
    if known and (is_finished(weights, run) or not need_weights):
        report(
            f"run {run.hash} is in the ledger ({known['metrics']['top1']:.2f} % top-1); "
            "--force trains it again"
        )
        with opened_logs(logs, run) as note:
            note(known["history"])
        return Fitted(known, weights, True)
    training = Training(run, device, report)
    if force:
        for old in ("last.pt", "previous.pt"):
            (run.folder / old).unlink(missing_ok=True)
    training.resume()
    workers = (
        (min(8, torch.get_num_threads()) if device.type == "cuda" else 0)
        if workers is None
        else workers
    )
    with deferred_interrupt() as interrupted, opened_logs(logs, run) as note:
        note(training.history)
        status = train(training, interrupted, workers, checkpoint_seconds, stop_after, note)
        record = training.record(status)
        records.append(record)
        # after the record, which must not be lost with a disk that these fill
        if status == "completed":
            training.keep_predictions()
    if status == "interrupted":
        report(
            f"stopped at step {training.step} of {training.steps}; the same command goes on "
            f"from there: {run.command(located=True)}"
        )
        if interrupted():
            raise KeyboardInterrupt
    if status == "failed":
        report(
            f"the loss was not finite at step {training.failed_at} of {training.steps}; the "
            "record says failed. "
            "A lower learning rate or gradient clipping is the usual cure: --set "
            "learning_rate=... --set clip_grad=1"
        )
    return Fitted(record, weights, False)


def train(
    training: "Training",
    interrupted: Callable[[], bool],
    workers: int,
    checkpoint_seconds: float,
    stop_after: int | None,
    note: Note,
) -> str:
    """Epochs from where the training stands to the end; the status of the record."""
    while training.step < training.steps or training.epoch_to_end():
        for _ in () if training.epoch_to_end() else training.train_epoch(workers):
            if interrupted() or training.step == stop_after:
                training.save()
                return "interrupted"
            if time.monotonic() - training.saved_at > checkpoint_seconds and training.is_finite():
                training.save()
        if not training.is_finite():
            return "failed"
        training.end_epoch()
        training.save()
        note(training.history)
    return "completed"


class Training:
    """A run in progress: data, network, optimizer, and the numbers that a checkpoint carries."""

    def __init__(self, run: Run, device: torch.device, report: Callable[[str], None]):
        self.run, self.recipe, self.device, self.report = run, run.recipe, device, report
        self.train_images = run.load("train").ready(report)
        self.test_images = run.load("validation" if run.validation else "test").ready(report)
        self.classes = self.train_images.classes
        self.mean, self.std = self.train_images.statistics()
        self.dataset = Augmented(self.train_images, self.recipe, seed=run.seed)
        # timm's Mixup pairs images
        self.batch_size = min(self.recipe.batch_size, len(self.train_images) // 2 * 2)
        self.steps_per_epoch = len(self.train_images) // self.batch_size
        self.steps = self.steps_per_epoch * self.recipe.epochs

        torch.manual_seed(run.seed)
        self.options = run.model_options(len(self.classes))
        self.model = timm.create_model(run.model, **self.options)
        self.init = None  # what the record says of given weights
        if run.init is not None:
            self.begin_with(*run.initial_weights())
        self.model = self.model.to(device)
        if self.recipe.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        if self.recipe.dropblock:
            add_dropblock(self.model, self.recipe.dropblock)
        self.forward = torch.compile(self.model) if self.recipe.compile else self.model
        self.average = (
            ModelEmaV3(self.model, decay=self.recipe.ema_decay) if self.recipe.ema_decay else None
        )
        # timm spares some of a model's
        decayed = list(self.model.parameters()) if self.recipe.decay_all else self.model
        self.optimizer = create_optimizer_v2(
            decayed,
            opt=self.recipe.optimizer,
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
        )
        self.augment = BatchAugmentation(
            self.recipe, mean=self.mean, std=self.std, num_classes=len(self.classes), device=device
        )

        self.step, self.history, self.resumed_from, self.failed_at = 0, [], None, None
        # over the steps of this epoch
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        # first step with a loss that is not finite
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self.logits = None  # of the last epoch that was evaluated, (N, K)
        self.seconds, self.images_seen = 0.0, 0  # spent training, in this and earlier sessions
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.git = records.git_state()  # now: the files may be edited while it trains
        self.saved_at = self.clock = time.monotonic()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

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
        self.init = {"file": Path(self.run.init).name, "sha256": fingerprint, "as_drawn": kept}
        self.report(
            f"weights of {self.run.init}"
            + (f"; as drawn by the seed: {initial.listed(kept)}" if kept else "")
        )

    def train_epoch(self, workers: int) -> Iterator[int]:
        """Trains to the end of the epoch in which `step` lies; yields after every step."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        batches = train_batches(
            self.dataset,
            self.batch_size,
            epoch=epoch,
            skip=done,
            workers=workers,
            pin_memory=self.device.type == "cuda",
        )
        self.model.train()
        self.clock = time.monotonic()
        for images, labels in batches:
            loss = self.train_step(
                images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
            )
            self.loss_sum += loss
            self.bad_step = torch.where(
                (self.bad_step < 0) & ~loss.isfinite(), self.step, self.bad_step
            )
            self.step += 1
            self.images_seen += len(labels)
            now = time.monotonic()
            self.seconds, self.clock = self.seconds + now - self.clock, now
            yield self.step
            # what the caller did meanwhile (a checkpoint) is not training
            self.clock = time.monotonic()

    def train_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One optimizer step on a batch; the mean loss of its micro-batches."""
        torch.manual_seed(derive(self.run.seed, self.step, 0))  # dropout, stochastic depth
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step, self.steps_per_epoch)
        size = self.recipe.micro_batch_size or self.batch_size
        parts = list(zip(images.split(size), labels.split(size)))
        loss = torch.zeros((), device=self.device)
        for i, (some, their_labels) in enumerate(parts):
            x, target = self.augment(
                some, their_labels, seed=derive(self.run.seed, self.step, 1, i)
            )
            if self.recipe.channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            with (
                torch.autocast(self.device.type, torch.bfloat16)
                if self.recipe.precision == "bfloat16"
                else nullcontext()
            ):
                logits = self.forward(x)
            part = loss_of(logits, target) * (len(some) / len(images))
            part.backward()
            loss += part.detach()
        if self.recipe.clip_grad:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update(self.model, step=self.step)
        return loss

    def is_finite(self) -> bool:
        self.failed_at = int(self.bad_step) if int(self.bad_step) >= 0 else None
        return self.failed_at is None

    def epoch_to_end(self) -> bool:
        """Whether all steps of an epoch are done and it is not evaluated yet (a run may be
        stopped right there).
        """
        return (
            self.step > 0
            and self.step % self.steps_per_epoch == 0
            and len(self.history) < self.step // self.steps_per_epoch
        )

    def evaluated(self) -> nn.Module:
        """The bare network whose accuracy is reported: the average of the weights where one is
        kept.
        """
        return self.average.module if self.average else self.model

    def predict(self) -> Tensor:
        """Logits of the images that are evaluated on, (N, K), as the weights now stand."""
        return predict(
            self.evaluated(),
            self.test_images,
            mean=self.mean,
            std=self.std,
            precision=self.recipe.precision,
        )

    def end_epoch(self) -> None:
        """Evaluates, notes the epoch in the history and reports it in one line."""
        self.logits = self.predict()
        measured = metrics(self.logits, self.test_images.labels)
        epoch = self.step // self.steps_per_epoch
        entry = {
            "epoch": epoch,
            "train_loss": float(self.loss_sum) / self.steps_per_epoch,
            "learning_rate": learning_rate(self.recipe, self.step - 1, self.steps_per_epoch),
            **measured,
        }
        self.history.append(entry)
        self.loss_sum.zero_()
        rate = self.images_seen / self.seconds
        left = (self.steps - self.step) * self.batch_size / rate
        self.report(
            f"epoch {epoch:3d}/{self.recipe.epochs}  train loss {entry['train_loss']:.3f}  "
            f"{self.test_images.split} {measured['top1']:5.2f} %  balanced "
            f"{measured['balanced_accuracy']:5.2f} %  "
            f"{rate:,.0f} images/s  {left / 60:.1f} min left"
        )

    def keep_predictions(self) -> None:
        """Of the last epoch, beside the record. A run stopped after its last epoch was evaluated
        has to predict again.
        """
        logits = self.predict() if self.logits is None else self.logits
        predictions.write(
            self.run.hash,
            logits,
            self.test_images.labels,
            self.classes,
            evaluated_on=self.test_images.split,
        )

    def save(self) -> None:
        """Everything that the rest of the run depends on, and what evaluating the weights needs."""
        checkpoint.save(
            {
                "run": self.run.hash,
                "model": self.run.model,
                "options": self.options,
                "recipe": self.recipe.name,
                "dataset": self.train_images.about.title,
                "classes": list(self.classes),
                "mean": self.mean,
                "std": self.std,
                "image_size": self.run.image_size,
                "step": self.step,
                "steps": self.steps,
                "weights": self.model.state_dict(),
                "average": self.average.module.state_dict() if self.average else None,
                "optimizer": self.optimizer.state_dict(),
                "history": self.history,
                "loss_sum": float(self.loss_sum),
                "seconds": self.seconds,
                "images_seen": self.images_seen,
                "started": self.started,
            },
            self.run.folder,
        )
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Takes up the newest readable checkpoint of this run, if there is one that is not
        finished.
        """
        state = checkpoint.newest(self.run.folder, self.run.hash, self.report)
        if state is None:
            return
        self.model.load_state_dict(state["weights"])
        if self.average:
            self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss_sum.fill_(state["loss_sum"])
        for name in ("step", "history", "seconds", "images_seen", "started"):
            setattr(self, name, state[name])
        self.resumed_from = self.step
        self.report(f"run {self.run.hash} goes on from step {self.step} of {self.steps}")

    def record(self, status: str) -> dict:
        """The ledger record of the run as it stands; see `astroformer.ledger.records.FIELDS`."""
        final = self.history[-1] if self.history else {}
        return {
            "run": self.run.hash,
            "status": status,
            "model": self.run.model,
            "stack": getattr(self.model, "stack", None),
            "options": dict(self.run.options),
            "params": count_params(self.model),
            "macs": count_macs(self.model, self.run.image_size),
            "image_size": self.run.image_size,
            "dataset": asdict(self.train_images.about)
            | {
                "source": self.run.dataset,
                "train": len(self.train_images),
                "test": len(self.test_images),
                "evaluated_on": self.test_images.split,
                "classes": len(self.classes),
                **{
                    name: getattr(self.run, name)
                    for name in ("class_fraction", "validation", "test_images", "split_seed")
                },
            },
            "fraction": self.run.fraction,
            "recipe": asdict(self.recipe),
            "seed": self.run.seed,
            "epochs": len(self.history),
            "selection": "last epoch" + (", average of weights" if self.average else ""),
            "metrics": {
                name: final[name]
                for name in ("top1", "top5", "balanced_accuracy", "nll", "ece")
                if name in final
            },
            "history": self.history,
            "seconds": round(self.seconds, 2),
            "images_per_second": round(self.images_seen / self.seconds, 1)
            if self.seconds
            else None,
            "peak_memory": peak_memory(self.device),
            "device": records.device_name(self.device),
            "world_size": 1,
            "precision": self.recipe.precision,
            "versions": records.versions(),
            "git": self.git,
            "command": self.run.command(),
            "started": self.started,
            "resumed_from": self.resumed_from,
            "failed_at_step": self.failed_at,
        } | ({"init": self.init} if self.init else {})


def loss_of(outputs: Tensor | tuple, target: Tensor) -> Tensor:
    """Cross-entropy with probabilities (B, K), in float32; that of token labelling where the
    network returns what it needs.
    """
    if isinstance(outputs, tuple):
        logits, token_logits, box = outputs
        return token_label_loss((logits.float(), token_logits.float(), box), target)
    return -(target * outputs.float().log_softmax(1)).sum(1).mean()


def is_finished(path: Path, run: Run) -> bool:
    """Whether the file holds the weights of the run's last step."""
    try:
        state = checkpoint.read(path)
    except (ValueError, FileNotFoundError):
        return False
    return state["run"] == run.hash and state["step"] == state["steps"]


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on the GPU, or that the process took on the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C (or SIGTERM) only sets a flag, which the loop reads between two
    steps.

    An exception in the middle of an optimizer step would leave half of the weights updated. A
    second Ctrl-C ends at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    stopped = []

    def note(number, frame):
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
