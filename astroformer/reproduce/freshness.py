"""Why a page must be executed again: what went into its last execution, compared with what would go
in now.

Hashes are kept file by file, so that the reason can name the file. The state is one JSON file per
profile and page, written after each page, so that an interrupted build keeps what it has executed,
and pages may be executed by several processes, on several machines.
"""

import hashlib
import json
import os
from pathlib import Path

from .pages import Layout, Page

Files = dict[str, str]  # path as shown to the user -> SHA-256


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def inputs(layout: Layout, page: Page, parameters: dict[str, object]) -> dict:
    """Everything that decides what a page shows, as it is now."""
    return {
        "source": {layout.show(page.source): digest(page.source)},
        "parameters": dict(parameters),
        "library": _hashes(layout, layout.library.rglob("*.py")),
        "lock": _hashes(layout, [layout.lock]),
        "ledger": _hashes(layout, _records(layout, with_local=not page.trains)),
    }


def _records(layout: Layout, with_local: bool) -> list[Path]:
    """Claims, records, what the audit found, kept filters, predictions. A page that trains adds to
    the local ones itself: they must not make it train again.
    """
    committed = [
        path
        for pattern in ("*.json*", "*.npz")
        for path in layout.ledger.rglob(pattern)
        if layout.ledger / "local" not in path.parents
    ]
    local = (
        [path for pattern in ("*.jsonl", "*.npz") for path in layout.local_ledger.rglob(pattern)]
        if with_local
        else []
    )
    return [layout.claims, *committed, *local]


def _hashes(layout: Layout, files) -> Files:
    return {layout.show(path): digest(path) for path in sorted(set(files)) if path.is_file()}


def reason(before: dict | None, now: dict, copy: Path) -> str | None:
    """Why the page must be executed, in a few words; None when it is up to date."""
    if before is None:
        return "first execution"
    if before["status"] != "completed":
        return "its last execution failed"
    if not copy.is_file():
        return "its executed copy is missing"
    old = before["inputs"]
    changes = []
    if old["source"] != now["source"]:
        changes.append("source changed")
    if old["parameters"] != now["parameters"]:
        changes.append(f"parameters changed: {_parameters(old['parameters'], now['parameters'])}")
    for what, label in (("library", "library"), ("lock", "dependencies"), ("ledger", "ledger")):
        if old[what] != now[what]:
            changes.append(f"{label} changed: {_files(old[what], now[what])}")
    return "; ".join(changes) or None


def _files(old: Files, now: Files) -> str:
    """The first file that differs, and how many others do."""
    changed = [path for path in sorted(old.keys() | now.keys()) if old.get(path) != now.get(path)]
    return changed[0] + (f" and {len(changed) - 1} more" if len(changed) > 1 else "")


def _parameters(old: dict, now: dict) -> str:
    """The parameters that differ; one that is no longer set falls back to the page's default."""
    names = [name for name in {**old, **now} if old.get(name) != now.get(name)]
    return ", ".join(
        f"{name} {old.get(name, 'default')} -> {now.get(name, 'default')}" for name in names
    )


class State:
    """What is known of past executions under one profile, by page name; a file a page."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pages: dict[str, dict] = {
            path.stem: told for path in sorted(folder.glob("*.json")) if (told := _read(path))
        }

    def record(self, page: str, entry: dict) -> None:
        """Remember one execution, atomically."""
        self.pages[page] = entry
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{page}-{os.getpid()}.partial"
        partial.write_text(json.dumps(entry, indent=1, sort_keys=True))
        os.replace(partial, self.folder / f"{page}.json")


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None  # nothing is remembered: the page is executed, as on the first build
