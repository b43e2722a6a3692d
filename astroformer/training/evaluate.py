"""What a network says about every image of a split, and the metrics of a ledger record."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from astroformer import paths
from astroformer.data import Images
from astroformer.data.augment import normalise
from astroformer.data.loader import Loader, Squares, workers_beside
from astroformer.ledger import predictions, records
from astroformer.models import checked_name, create, default_image_size
from astroformer.training import checkpoint
from astroformer.training.initial import load_weights, preparation, read_weights
from astroformer.training.interrupts import Interrupts
from astroformer.training.run import default_device

ECE_BINS = predictions.BINS
BATCH = 250  # images at a time
SHOWN = 10  # classes that an error lists
# By how much another device may differ, for predictions to be those of a record. A network that was
# trained again with the same top-1 differs more in its cross-entropy.
SAME_TOP1, SAME_NLL = 0.25, 0.002  # percentage points; part of the value


def predict(
    model: nn.Module,
    images: Images | Loader,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | None = None,
    precision: str = "float32",
    batch_size: int = BATCH,
    interrupts: Interrupts | None = None,
    rows: Callable[[int], slice] = lambda number: slice(0, number),
) -> Tensor:
    """Logits of every image, (N, K) float32 on the CPU. Evaluates the bare model, in eval mode,
    and leaves its mode as it was.

    images: or a loader of `Squares`, whose processes serve several calls
    interrupts: after one, raises Stopped between two batches
    rows: of how many images which are to be evaluated; all of them, unless ranks share them
    """
    device = device or next(model.parameters()).device
    mean, std = (torch.tensor(v, device=device) for v in (mean, std))
    loader = images if isinstance(images, Loader) else Loader(Squares(images))
    training = model.training
    model.eval()
    logits = []
    try:
        own = rows(len(loader.dataset))
        for batch, _ in loader.in_order(batch_size, own):
            if interrupts is not None:
                interrupts.check()
            x = normalise(batch.to(device, non_blocking=True), mean, std).contiguous()
            with (
                without_gradients(model),
                torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"),
            ):
                logits.append(model(x).float())  # on the device, which need not be waited for
    finally:
        model.train(training)
    if not logits:  # more ranks than images
        return torch.empty(0, getattr(model, "num_classes", 0))
    return torch.cat(logits).cpu()


def without_gradients(model: nn.Module) -> AbstractContextManager:
    """The cheapest mode in which a network may be called. One whose weights are divided among
    processes makes tensors that its training uses, too.
    """
    return torch.no_grad() if isinstance(model, FSDPModule) else torch.inference_mode()


def metrics(logits: Tensor, labels: np.ndarray, *, finite: bool = True) -> dict[str, float | None]:
    """top1, top5, balanced_accuracy in percent; nll in nats; ece (expected calibration error) in
    percent. None each if the logits are not finite: there is nothing to measure.

    balanced_accuracy is the mean over the classes present of the part recognised.
    """
    if not finite:
        return dict.fromkeys(("top1", "top5", "balanced_accuracy", "nll", "ece"))
    target = torch.from_numpy(np.array(labels))
    log_probability = F.log_softmax(logits.double(), dim=1)
    confidence, predicted = log_probability.exp().max(1)
    correct = predicted == target
    top5 = logits.topk(min(5, logits.shape[1])).indices.eq(target[:, None]).any(1)
    recall = [correct[target == label].double().mean() for label in target.unique()]
    bins = (confidence * ECE_BINS).long().clamp(max=ECE_BINS - 1)
    gaps = [
        (correct[bins == b].double().sum() - confidence[bins == b].sum()).abs()
        for b in range(ECE_BINS)
    ]
    return {
        "top1": 100 * correct.double().mean().item(),
        "top5": 100 * top5.double().mean().item(),
        "balanced_accuracy": 100 * torch.stack(recall).mean().item(),
        "nll": F.nll_loss(log_probability, target).item(),
        "ece": 100 * torch.stack(gaps).sum().item() / len(target),
    }


def load_trained(path: str | Path, *, average: bool | None = None) -> tuple[nn.Module, dict]:
    """The network of a checkpoint in eval mode on the CPU (its average where one was kept), and the
    checkpoint's description.

    The description holds classes, mean, std, image_size, crop (arguments of `data.load`), model,
    options, run, dataset, averaged (whether the weights are an average); and, of checkpoints that
    say them (None else), images (arguments of `data.load` that give those of the run on the machine
    where it was trained), about (their sha256 and mirrored classes) and reading (`values.Reading`).
    average: True asks for the average (ValueError where there is none), False for the weights of
        the last step
    """
    state = checkpoint.read(Path(path))
    model = create(state["model"], **state["options"])
    model.load_state_dict(checkpoint.evaluated(state, average=average))
    described = {
        name: state[name]
        for name in (
            "run",
            "model",
            "options",
            "dataset",
            "classes",
            "mean",
            "std",
            "image_size",
            "step",
            "steps",
            "recipe",
        )
    }
    # how its run cut the images that it was evaluated on; older checkpoints did as the data do
    return model.eval(), described | {
        "crop": state.get("crop", {}),
        **{name: state.get(name) for name in ("images", "about", "reading")},
        "averaged": bool(state["average"]) and average is not False,
    }


def check_classes(path: str | Path, described: dict, images: Images, verb: str) -> None:
    """Raises ValueError unless the images have the bands, and in the same order the classes, that
    the checkpoint was trained on.
    """
    bands = described["options"].get("in_chans", 3)
    if images.channels != bands:
        raise ValueError(
            f"{path} was trained on images of {bands} bands; the images have {images.channels}. "
            "Name its bands with --bands"
        )
    if tuple(described["classes"]) != images.classes:
        trained, given = (
            ", ".join(names[:SHOWN]) + (f", ... ({len(names):,})" if len(names) > SHOWN else "")
            for names in (described["classes"], images.classes)
        )
        raise ValueError(
            f"{path} was trained on the classes {trained}; the images have {given}. "
            f"{verb} it on a data set with the same classes"
        )


def evaluate_checkpoint(
    path: str | Path,
    load_images: Callable[[dict], Images],
    *,
    device: torch.device | None = None,
    keep: bool = False,
    crop_pct: float | None = None,
    batch_size: int = BATCH,
    average: bool | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> dict:
    """Metrics and speed of a checkpoint on a split whose classes are those it was trained on, in
    the same order.

    load_images: gives the split, by what `load_trained` says of the checkpoint
    crop_pct: part of the shorter side that is kept; None cuts as the checkpoint's run did
    keep: the predictions, beside the record of the run; ValueError unless they are those of the
        record
    average: as `load_trained`; that an average is evaluated is said through `report`
    """
    model, described = load_trained(path, average=average)
    if described["averaged"]:
        report(f"{path}: the average of the weights (EMA); --no-ema takes those of the last step")
    images = _cut(load_images(described), described["crop"], crop_pct)
    check_classes(path, described, images, "Evaluate")
    logits, measured = _evaluated(
        model,
        images,
        mean=described["mean"],
        std=described["std"],
        device=device,
        batch_size=batch_size,
    )
    if keep:
        keep_predictions(described["run"], logits, images, measured)
    return {
        "checkpoint_run": described["run"],
        "model": described["model"],
        "finished": described["step"] == described["steps"],
        **measured,
    }


def keep_predictions(run: str, logits: Tensor, images: Images, measured: dict) -> Path:
    """Keeps what the checkpoint of a run said, with the committed records if its record is one of
    them, else with this machine's.

    ValueError unless the ledger holds the run, on these images, with these metrics (another device
    rounds differently).
    """
    record = records.completed(run)
    if record is None:
        raise ValueError(
            f"the ledger holds no completed record of run {run}, beside which its "
            "predictions would be kept; "
            "`astroformer ledger` lists the runs"
        )
    told = record["dataset"]
    if (told["sha256"], told["evaluated_on"], record["image_size"]) != (
        images.about.sha256,
        images.split,
        images.image_size,
    ):
        raise ValueError(
            f"the record of run {run} is about the {told['evaluated_on']} images of "
            f"{told['title']} at "
            f"{record['image_size']} pixels, not about the {images.split} images of "
            f"{images.about.title} at "
            f"{images.image_size}; evaluate it on those"
        )
    then = record["metrics"]
    if (
        abs(measured["top1"] - then["top1"]) > SAME_TOP1
        or abs(measured["nll"] - then["nll"]) > SAME_NLL * then["nll"]
    ):
        raise ValueError(
            f"run {run} has {then['top1']:.2f} % top-1 and {then['nll']:.4f} nats in "
            f"the ledger, {measured['top1']:.2f} % "
            f"and {measured['nll']:.4f} nats here; its predictions are not kept. Is "
            "the checkpoint finished, and that "
            "of the record?"
        )
    if record["origin"] == "committed":
        paths.need_checkout("keeping predictions beside a committed record")
    where = predictions.committed if record["origin"] == "committed" else predictions.local
    kept = predictions.of_logits(
        run, logits, images.labels, images.classes, evaluated_on=images.split
    )
    return predictions.save(kept, where(run))


def evaluate_weights(
    path: str | Path,
    name: str,
    load_images: Callable[[int], Images],
    *,
    options: Mapping[str, object] = {},
    device: torch.device | None = None,
    allow_partial: bool = False,
    crop_pct: float | None = None,
    batch_size: int = BATCH,
    average: bool | None = None,
    report: Callable[[str], None] = print,
) -> dict:
    """The same of a file that holds weights alone, as SpectFormer's infer.py does it for released
    ones.

    The network `name` is made for the images that `load_images` gives for the network's own size,
    and for as many classes; the weights must have been trained on these classes in this order.
    Images are cut (but for `crop_pct`) and normalised as a folder of weights says, or else as the
    network is described.
    allow_partial: what is missing, surplus or of another shape is left out, each name through
        `report`
    average: as `read_weights`; which part of the file is taken is said through `report`
    """
    size = default_image_size(checked_name(name))
    weights = read_weights(path, average=average)
    told = preparation(name, weights)
    crop = {part: told[part] for part in ("crop_pct", "interpolation")}
    images = _cut(load_images(size), crop, crop_pct)
    model = create(
        name, **{"num_classes": len(images.classes), "img_size": images.image_size, **options}
    )
    if weights.part:
        report(f"weights of {path}: {weights.part}")
    load_weights(model, weights, allow_partial=allow_partial, report=report)
    return {
        "weights": Path(path).name,
        "model": name,
        "crop_pct": getattr(images.pixels, "crop_pct", 1.0),
        **_evaluated(
            model,
            images,
            mean=told["mean"],
            std=told["std"],
            device=device,
            batch_size=batch_size,
        )[1],
    }


def _cut(images: Images, crop: dict, crop_pct: float | None) -> Images:
    """The images cut as a network wants them, or as the user asks for; where neither says how, as
    the data set does.
    """
    if crop_pct is not None:
        crop = {**crop, "crop_pct": crop_pct}
    return images.cut(**crop) if crop else images


def evaluate(
    model: nn.Module,
    images: Images,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | None = None,
) -> dict:
    """Metrics, and images per second of `predict`: with the copy to the device and, for images
    not in memory, decoding.
    """
    return _evaluated(model, images, mean=mean, std=std, device=device)[1]


def _evaluated(
    model: nn.Module,
    images: Images,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | None = None,
    batch_size: int = BATCH,
) -> tuple[Tensor, dict]:
    """Logits (N, K) on the CPU, and what `evaluate` says."""
    device = device or default_device()
    model = model.to(device)
    # what a device loads at first use is not counted
    predict(model, images.take(np.arange(1)), mean=mean, std=std)
    loader = Loader(
        Squares(images), workers=workers_beside(device), pin_memory=device.type == "cuda"
    )
    start = time.monotonic()
    # on the CPU when it returns, so the device has finished
    logits = predict(model, loader, mean=mean, std=std, batch_size=batch_size)
    seconds = time.monotonic() - start
    loader.close()
    return logits, {
        "dataset": images.about.title,
        "kind": images.about.kind,
        "split": images.split,
        "images": len(images),
        **metrics(logits, images.labels, finite=bool(logits.isfinite().all())),
        "images_per_second": round(len(images) / seconds, 1),
    }
