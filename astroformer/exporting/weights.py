"""The weights alone, as safetensors, with what must be said of them as the file's metadata."""

import os
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from astroformer.exporting.subject import Graph, Subject, batches
from astroformer.models import build


def save(subject: Subject, place: Path, metadata: dict[str, str]) -> None:
    """Writes the state dict, every tensor by itself and contiguous, as the format wants it."""
    state = {
        name: value.detach().clone().contiguous()
        for name, value in subject.model.state_dict().items()
    }
    # "format" tells programs of Hugging Face which library's tensors these are
    safetensors.torch.save_file(state, place, metadata={"format": "pt"} | metadata)
    # the library leaves the file to its owner alone; others may read it as any file
    mask = os.umask(0)
    os.umask(mask)
    place.chmod(0o666 & ~mask)


def write(subject: Subject, place: Path) -> float:
    """Writes and reads back; see `export.Kind`."""
    save(subject, place, subject.metadata())
    again = build.create(subject.name, **subject.told["options"])
    again.load_state_dict(safetensors.torch.load_file(place))
    return difference(subject, again)


def difference(subject: Subject, model: torch.nn.Module) -> float:
    """By how much the logits of the network as it was loaded again differ at most. ValueError
    unless it is none.
    """
    own = Graph(subject)
    theirs = Graph(Subject(subject.path, model.eval(), subject.told, subject.record))
    with torch.inference_mode():
        if not all(torch.equal(own(one), theirs(one)) for one in batches(subject)):
            raise ValueError(
                f"{subject.path}: what was written does not compute what the checkpoint does; it "
                "is not given out"
            )
    return 0.0


def lines(subject: Subject, place: Path) -> list[str]:
    """See `export.Kind`."""
    given = "".join(f", {name}={value!r}" for name, value in subject.arguments.items())
    return [
        f"import {'astroformer, ' * subject.is_ours}json, safetensors, timm",
        f"model = timm.create_model({subject.architecture!r}{given}, "
        f"checkpoint_path={str(place)!r}).eval()",
        f"classes = json.loads(safetensors.safe_open({str(place)!r}, 'pt').metadata()['classes'])",
    ]
