"""Records of speed: one JSON line a measurement, in `book/ledger/speed/`, one file a device."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from astroformer import paths
from astroformer.ledger import records

FOLDER = paths.LEDGER / "speed"


def file_of(name: str) -> Path:
    """Where measurements are kept under a name. ValueError for one that is no file's."""
    if not name or not all(letter.isalnum() or letter in "-_" for letter in name):
        raise ValueError(
            f"--keep {name!r}: give a name of letters, digits, - and _, such as h100 or cpu-2core"
        )
    return FOLDER / f"{name}.jsonl"


def keep(rows: Iterable[dict], name: str) -> Path:
    """Adds rows to the file of that name."""
    paths.need_checkout("keeping records of speed")
    path = file_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    for row in rows:
        records.write_line(row, path)
    return path


def frame(folder: Path | None = None) -> pd.DataFrame:
    """All that is kept in a folder (default: FOLDER), the newest measurement of each (device, what,
    network, pixels, images, contestant) alone; `source` is the file's name.
    """
    rows = [
        json.loads(line) | {"source": path.stem}
        for path in sorted((folder or FOLDER).glob("*.jsonl"))
        for line in path.read_text().splitlines()
        if line.strip()
    ]
    table = pd.DataFrame(rows)
    if not len(table):
        return table
    key = ["device", "what", "model", "image_size", "batch_size", "contestant"]
    for name in key:
        if name not in table:
            table[name] = None
    return (
        table.sort_values("started", kind="stable")
        .drop_duplicates(key, keep="last")
        .reset_index(drop=True)
    )
