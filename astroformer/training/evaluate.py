"""What a network says about every image of a split, and the metrics of a ledger record."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from astroformer.data import Images
from astroformer.data.augment import normalise
from astroformer.training import checkpoint

ECE_BINS = 15  # of equal width, as in Guo et al. 2017


@torch.inference_mode()
def predict(model: nn.Module, images: Images, *, mean: Sequence[float], std: Sequence[float], device: torch.device | None = None,
            precision: str = "float32", batch_size: int = 250) -> Tensor:
    """Logits of every image, (N, K) float32 on the CPU. Evaluates the bare model, in eval mode, and leaves its mode as it was."""
    device = device or next(model.parameters()).device
    mean, std = (torch.tensor(v, device=device) for v in (mean, std))
    training = model.training
    model.eval()
    logits = []
    for start in range(0, len(images), batch_size):
        pixels = images.array(start, start + batch_size)
        batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)  # (B, 3, H, W)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits.append(model(normalise(batch, mean, std)).float().cpu())
    model.train(training)
    return torch.cat(logits)


def metrics(logits: Tensor, labels: np.ndarray) -> dict[str, float]:
    """top1, top5, balanced_accuracy in percent; nll in nats; ece (expected calibration error) in percent.

    balanced_accuracy is the mean over the classes present of the part recognised.
    """
    target = torch.from_numpy(labels)
    log_probability = F.log_softmax(logits.double(), dim=1)
    confidence, predicted = log_probability.exp().max(1)
    correct = predicted == target
    top5 = logits.topk(min(5, logits.shape[1])).indices.eq(target[:, None]).any(1)
    recall = [correct[target == label].double().mean() for label in target.unique()]
    bins = (confidence * ECE_BINS).long().clamp(max=ECE_BINS - 1)
    gaps = [(correct[bins == b].double().sum() - confidence[bins == b].sum()).abs() for b in range(ECE_BINS)]
    return {"top1": 100 * correct.double().mean().item(),
            "top5": 100 * top5.double().mean().item(),
            "balanced_accuracy": 100 * torch.stack(recall).mean().item(),
            "nll": F.nll_loss(log_probability, target).item(),
            "ece": 100 * torch.stack(gaps).sum().item() / len(target)}


def load_trained(path: str | Path) -> tuple[nn.Module, dict]:
    """The network of a checkpoint in eval mode on the CPU (its average where one was kept), and the checkpoint's description.

    The description holds classes, mean, std, image_size, model, options, run, dataset.
    """
    state = checkpoint.read(Path(path))
    model = timm.create_model(state["model"], **state["options"])
    model.load_state_dict(state["average"] or state["weights"])
    described = {name: state[name] for name in
                 ("run", "model", "options", "dataset", "classes", "mean", "std", "image_size", "step", "steps", "recipe")}
    return model.eval(), described


def check_classes(path: str | Path, described: dict, images: Images, verb: str) -> None:
    """Raises ValueError unless the images have the classes that the checkpoint was trained on, in the same order."""
    if tuple(described["classes"]) != images.classes:
        raise ValueError(f"{path} was trained on the classes {', '.join(described['classes'])}; the images have "
                         f"{', '.join(images.classes)}. {verb} it on a data set with the same classes")


def evaluate_checkpoint(path: str | Path, images: Images, *, device: torch.device | None = None) -> dict:
    """Metrics of a checkpoint on a split whose classes are those it was trained on, in the same order."""
    model, described = load_trained(path)
    check_classes(path, described, images, "Evaluate")
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    logits = predict(model.to(device), images, mean=described["mean"], std=described["std"])
    return {"checkpoint_run": described["run"], "model": described["model"], "finished": described["step"] == described["steps"],
            "dataset": images.about.title, "kind": images.about.kind, "split": images.split, "images": len(images),
            **metrics(logits, images.labels)}
