"""A graph of ONNX, written by PyTorch's exporter and compared through ONNX Runtime before it is
given out. Its input "images" is uint8 (batch, C, H, W), its output "logits" float32 (batch, K); the
batch may have any size.

All networks of this project have such a graph; the Fourier transforms of SpectFormer are its
operator DFT. A network with an operator that ONNX does not know is refused with its name.
"""

import contextlib
import importlib.util
import io
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from astroformer.exporting.program import compared, reason
from astroformer.exporting.subject import Graph, Subject, batches

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Bytes of weights from which on they lie in a file of their own beside the graph, as a message of
# protocol buffers holds 2 GB.
LARGEST = 1.8e9
MISSING = re.compile(r"(?:No ONNX function found for|Unsupported).*?(aten[:.]+[\w.]+)", re.S)


def check() -> None:
    """ModuleNotFoundError in one line unless all that is needed is installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"--to onnx needs the packages {', '.join(PACKAGES)}, and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: "
            "pip install 'astroformer[onnx]'"
        )


def write(subject: Subject, place: Path) -> float:
    """Writes, loads and compares; see `export.Kind`."""
    import onnx
    import onnxruntime

    graph, example = Graph(subject), batches(subject)[1]
    try:
        with silenced():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
            )
        assert program is not None
        model = program.model
        for name, value in subject.metadata().items():
            model.metadata_props[name] = value
        large = sum(one.nbytes for one in subject.model.state_dict().values()) > LARGEST
        program.save(place, external_data=large)
        onnx.checker.check_model(str(place))
        session = onnxruntime.InferenceSession(str(place), providers=["CPUExecutionProvider"])
    except Exception as error:  # of the exporter, the checker or the runtime: each has its own
        raise ValueError(
            f"{subject.name} has no form in ONNX ({refused(error)}); --to torch, --to hf and "
            "--to safetensors need none"
        ) from error

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    return compared(subject, graph, run, "ONNX Runtime")


def refused(error: BaseException) -> str:
    """Why, in words: the operator that has no form, where that is it."""
    parts, one = [], error
    while one is not None:
        parts.append(str(one))
        one = one.__cause__
    found = MISSING.search("\n".join(parts))
    return f"the operator {found[1]} is not among ONNX's" if found else reason(error)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """While the exporter works, which prints its progress and warns of what does not concern it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def lines(subject: Subject, place: Path) -> list[str]:
    """See `export.Kind`."""
    shape = ", ".join(map(str, (1, *subject.input_size)))
    return [
        "import numpy, onnxruntime",
        f"session = onnxruntime.InferenceSession({str(place)!r})",
        f"logits = session.run(['logits'], {{'images': numpy.zeros(({shape}), numpy.uint8)}})[0]",
    ]
