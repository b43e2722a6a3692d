"""A program of `torch.export`, which torch runs without this library and without timm."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from astroformer.exporting.subject import Graph, Subject, batches

TOLERANCE = 1e-4  # of a logit, or of the largest where that is above 1
TOLD = "astroformer.json"  # what must be said of the program, a file within its archive


def exported(graph: Graph, example: Tensor) -> torch.export.ExportedProgram:
    """The graph's program for any number of images at a time."""
    dynamic = {"images": {0: torch.export.Dim("batch", min=1)}}
    with torch.no_grad():
        return torch.export.export(graph, (example,), dynamic_shapes=dynamic)


def write(subject: Subject, place: Path) -> float:
    """Writes, loads and compares; see `export.Kind`."""
    # of two images: a batch of one would be taken for a number that never changes
    graph, example = Graph(subject), batches(subject)[1]
    try:
        program = exported(graph, example)
    except Exception as error:  # whatever a network of timm's does that torch.export cannot follow
        raise ValueError(
            f"{subject.name} cannot be exported by torch.export ({reason(error)}); --to hf and "
            "--to safetensors need no graph"
        ) from error
    said = json.dumps(subject.metadata(), indent=1)
    torch.export.save(program, place, extra_files={TOLD: said})
    again = torch.export.load(place).module()
    return compared(subject, graph, again, "torch.export")


def compared(subject: Subject, graph: Graph, other: Callable[[Tensor], Tensor], what: str) -> float:
    """By how much the logits of what was written differ at most from the network's. ValueError in
    one line if it is more than TOLERANCE, which is a mistake of whoever made the graph.
    """
    worst = 0.0
    for images in batches(subject):
        with torch.no_grad():
            own, theirs = graph(images), other(images)
        off = float((own - theirs).abs().max())
        allowed = TOLERANCE * max(1.0, float(own.abs().max()))
        if theirs.shape != own.shape or not off <= allowed:
            raise ValueError(
                f"{subject.name}: the logits of the graph by {what} differ from the network's by "
                f"{off:.2g} with {len(images)} images, more than {allowed:.0e}; it is not given out"
            )
        worst = max(worst, off)
    return worst


def reason(error: BaseException) -> str:
    """The first line of what is at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), "")[:200] or type(error).__name__


def lines(subject: Subject, place: Path) -> list[str]:
    """See `export.Kind`."""
    return [
        "import torch",
        f"program = torch.export.load({str(place)!r}).module()",
        f"logits = program(torch.zeros(1, {', '.join(map(str, subject.input_size))}, "
        "dtype=torch.uint8))",
    ]
