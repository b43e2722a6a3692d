"""What a run takes on a card (`memory.on_a_card`) or on a processor, kept among a user's caches: a
large network takes seconds to be counted, and the same ones are asked for again and again.

Kept is what these sources, with these releases of torch and timm, come to; of other ones all is
counted anew.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from astroformer import paths
from astroformer.counting.memory import Memory
from astroformer.ledger import identity
from astroformer.training import memory
from astroformer.training.execution import Execution
from astroformer.training.memory import CARD
from astroformer.training.run import Run

Counted = Callable[[], tuple[list[str], Memory]]
ROOMS = ("counting", "models", "training")  # whose sources decide what is counted


def on_a_card(run: Run, *, classes: int, card: float = CARD) -> tuple[list[str], Memory]:
    """The same as `memory.on_a_card`."""
    return _kept(run, classes, card, lambda: memory.on_a_card(run, classes=classes, card=card))


def on_a_cpu(run: Run, *, classes: int) -> Memory:
    """The fullest moment of `memory.of_run` on a processor."""
    how = dict(classes=classes, device="cpu", execution=Execution())
    return _kept(run, classes, None, lambda: ([], memory.most_of(memory.of_run(run, **how))))[1]


def _kept(run: Run, classes: int, card: float | None, count: Counted) -> tuple[list[str], Memory]:
    """A cache that cannot be read or written is none."""
    decides = {
        "network": memory.named(run, classes),
        "recipe": run.recipe.canonical(),
        "precision": run.recipe.precision,
        "card": card,
    }
    path, key = place(), identity.digest(decides)
    if found := _read(path).get(key):
        return found["words"], Memory(**found["memory"])
    words, needed = count()
    _add(path, key, {"words": words, "memory": asdict(needed)})
    return words, needed


@cache
def place() -> Path:
    """One file for each state of the sources."""
    files = sorted(path for room in ROOMS for path in (paths.PACKAGE / room).rglob("*.py"))
    told = {
        path.relative_to(paths.PACKAGE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    told |= {name: metadata.version(name) for name in ("torch", "timm")}
    return paths.cache() / "memory" / f"{identity.digest(told)}.json"


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """As it is now: other processes add to it."""
    try:
        found = json.loads(path.read_bytes())
        return {
            key: one
            for key, one in found.items()
            if set(one["memory"]) == set(Memory.__dataclass_fields__) and "words" in one
        }
    except (OSError, ValueError, AttributeError, TypeError, KeyError):  # damaged, or of others
        return {}


def _add(path: Path, key: str, found: dict) -> None:
    """Beside what other processes have added meanwhile; an answer lost is counted again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(_read(path) | {key: found}))
        os.replace(partial, path)
