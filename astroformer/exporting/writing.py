"""`export`: which kind, where to, and that nothing is written over or left half-written.

Reads top to bottom: Kind and KINDS, export, Exported (what is said of it), the place.
"""

import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from astroformer.exporting import hub, onnx_graph, program, weights
from astroformer.exporting.subject import BATCHES, Subject, subject


@dataclass(frozen=True)
class Kind:
    """One of the forms in which a network is exported.

    suffix: of its file; "" for a folder
    write: writes it to a place that is not there yet, loads it again, and gives the largest
        difference of its logits from the checkpoint's over all `batches`; ValueError in one line
        for a network that has no such form, or one that differs
    lines: the three lines of Python that load it from a place
    check: raises in one line what is missing for it, before anything is read
    """

    suffix: str
    write: Callable[[Subject, Path], float]
    lines: Callable[[Subject, Path], list[str]]
    check: Callable[[], None] = lambda: None


KINDS = {
    "safetensors": Kind(".safetensors", weights.write, weights.lines),
    "hf": Kind("", hub.write, hub.lines),
    "torch": Kind(".pt2", program.write, program.lines),
    "onnx": Kind(".onnx", onnx_graph.write, onnx_graph.lines, onnx_graph.check),
}


@dataclass(frozen=True, eq=False)
class Exported:
    """A network that was exported, and where to."""

    subject: Subject
    place: Path
    difference: float  # of a logit, the largest
    lines: list[str]  # that load it

    @property
    def size(self) -> int:
        """Bytes of the file and those beside it, or of the folder."""
        return sum(one.stat().st_size for one in _files(self.place))

    def told(self) -> str:
        """What was written and how it was compared, in a sentence."""
        batches = ", ".join(map(str, BATCHES))
        how = (
            "its logits are those of the checkpoint, bit for bit"
            if not self.difference
            else f"its logits differ from the checkpoint's by {self.difference:.1e} at most"
        )
        return f"wrote {self.place} ({self.size / 1e6:,.1f} MB); {how}, in batches of {batches}"


def export(
    word: str | Path,
    kind: str,
    out: str | Path,
    *,
    average: bool | None = None,
    force: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Exports the network that a word means (a checkpoint, a run's folder or a run) as one of
    KINDS.

    out: the file, or for "hf" the folder, that is made
    average: True asks for the average of the weights, False for those of the last step; None takes
        those by which the run is judged
    force: replaces what is there
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is not known; choose {', '.join(KINDS)}")
    form, place = KINDS[kind], Path(out).expanduser()
    check_place(place, form.suffix, force)
    form.check()
    chosen = subject(word, average=average)
    if not chosen.finished:
        report(
            f"{chosen.path} is at step {chosen.told['step']} of {chosen.told['steps']}: its run "
            "has not ended"
        )
    if chosen.told["averaged"]:
        report("the average of the weights (EMA); --no-ema takes those of the last step")
    place.parent.mkdir(parents=True, exist_ok=True)
    making = place.parent / f".{uuid.uuid4().hex[:12]}"  # a folder beside it, on the same disk
    making.mkdir()
    try:
        difference = form.write(chosen, making / place.name)
        for made in sorted(making.iterdir()):
            _put(made, place.parent / made.name)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Exported(chosen, place, difference, form.lines(chosen, place))


def check_place(place: Path, suffix: str, force: bool) -> None:
    """ValueError in one line for a place where nothing shall be, or not this."""
    if suffix and place.suffix != suffix:
        raise ValueError(
            f"out {place} does not end in {suffix}, by which programs know the file; choose "
            f"{place.name or 'network'}{suffix}"
        )
    if suffix and place.is_dir():
        raise ValueError(f"out {place} is a folder; name a file in it")
    if not suffix and place.is_file():
        raise ValueError(f"out {place} is a file; name a folder")
    if not suffix and place.is_dir() and any(place.iterdir()) and not hub.is_export(place):
        raise ValueError(f"out {place} holds other files; name another folder")
    if place.exists() and not (place.is_dir() and not any(place.iterdir())) and not force:
        raise ValueError(f"out {place} is there already; --force replaces it")


def _put(made: Path, place: Path) -> None:
    """Gives what was made its name; what had it before goes, once that is done."""
    before = made.parent / f"before-{made.name}"
    if place.exists():
        os.replace(place, before)
    try:
        os.replace(made, place)
    except OSError:
        if before.exists():
            os.replace(before, place)
        raise


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return [one for one in place.rglob("*") if one.is_file()]
    beside = place.with_name(f"{place.name}.data")
    return [place, *([beside] if beside.exists() else [])]
