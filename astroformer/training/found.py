"""From a word to a checkpoint: a file, the folder of a run, or the name of a run."""

import re
from pathlib import Path

from astroformer import paths
from astroformer.ledger import records
from astroformer.training.run_folder import LAST

NAME = re.compile("[0-9a-f]{4,12}")  # of a run, or its beginning


def checkpoint_of(word: str | Path) -> Path:
    """The checkpoint that a word means: a file, the folder of a run, or the name of a run whose
    weights lie among this machine's runs, in full or its first four digits and more.
    FileNotFoundError or ValueError in one line where there is none, or several.
    """
    path = Path(word).expanduser()
    if path.is_dir():
        path = path / LAST
    if path.is_file():
        return path
    name = str(word)
    if NAME.fullmatch(name):
        here = sorted(paths.runs().glob(f"{name}*/{LAST}"))
        if len(here) == 1:
            return here[0]
        if here:
            several = ", ".join(one.parent.name for one in here)
            raise ValueError(
                f"{name} begins the names of several runs ({several}); give more of it"
            )
        if any(record["run"].startswith(name) for record in records.read()):
            raise FileNotFoundError(
                f"run {name} is in the ledger and its weights are not in {paths.runs()}; its "
                "command with --force makes them (`astroformer ledger --json` has it), or give "
                "the file"
            )
    raise FileNotFoundError(
        f"{word}: no such file, and no run of this name in {paths.runs()}; `astroformer ledger` "
        "lists the runs"
    )
