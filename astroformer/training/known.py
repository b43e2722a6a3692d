"""What the ledger already says of a run that is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from astroformer.ledger import records
from astroformer.training import checkpoint, run_folder
from astroformer.training.logs import opened_logs
from astroformer.training.run import Run


@dataclass(frozen=True)
class Fitted:
    """What `fit` gives back: the ledger record, where the weights lie, and whether the ledger
    already held the run.
    """

    record: dict
    weights: Path
    reused: bool


def known(
    run: Run,
    question: str | None,
    force: bool,
    need_weights: bool,
    report: Callable[[str], None],
    logs: Sequence[str],
    again: bool = True,
) -> Fitted | None:
    """What the ledger says of the run, if that is what was asked for: that it was completed, or, if
    it shall not be trained again, that it failed.
    """
    if force or run_folder.is_forced(run.folder):
        return None
    record = records.completed(run.hash)
    if record is None and question is not None and not need_weights:
        record = records.answering(question)
    if record is None and not again and (failed := records.failed(run.hash)):
        report(f"run {run.hash} failed before; its record says where")
        return Fitted(failed, run.folder / run_folder.LAST, True)
    if record is None:
        return None
    weights = run_folder.folder_of(record["run"]) / run_folder.LAST
    if need_weights and not checkpoint.is_finished(weights, run.hash):
        return None
    report(
        f"run {record['run']} is in the ledger ({record['metrics']['top1']:.2f} % top-1); "
        "--force trains it again"
    )
    with opened_logs(logs, run) as note:
        note(record["history"])
    return Fitted(record, weights, True)
