"""The fields of a whole ledger record and what each is: what a record that somebody else made must
have before anything else is asked of it. Reading the ledger asks for less (`records.KINDS`).

Reads top to bottom: how a kind is written, the record's fields, `misfits`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from astroformer.ledger import identity
from astroformer.training.record import METRICS, SWITCHES


class Maybe(NamedTuple):
    """Of a field that may be missing."""

    kind: object


# A kind is a tuple of types, a dictionary of fields (with ... where others may be there, too), or a
# list that holds the kind of each entry.
WHOLE, NUMBER, TEXT, FLAG, NOTHING = (int,), (int, float), (str,), (bool,), (type(None),)
ANY = (dict, list, *NUMBER, *TEXT, *FLAG, *NOTHING)

GIT = {"commit": (*TEXT, *NOTHING), "dirty": (*FLAG, *NOTHING)}
VERSIONS = dict.fromkeys(("python", "torch", "torchvision", "timm", "numpy"), TEXT)
YOUNGER_SWITCHES = ("fused", "graphs", "shard")  # than the revision
EXECUTION = {
    **{name: Maybe(FLAG) if name in YOUNGER_SWITCHES else FLAG for name in SWITCHES},
    **dict.fromkeys(("world_size", "threads", "process"), WHOLE),
    ...: ANY,
}
ATTEMPT = {
    **dict.fromkeys(("started", "device"), TEXT),
    **dict.fromkeys(("from_step", "to_step", "images"), WHOLE),
    **dict.fromkeys(("seconds", "cpu_seconds"), NUMBER),
    "git": GIT,
    "versions": VERSIONS,
    "execution": EXECUTION,
}
MEASURED = dict.fromkeys(METRICS, Maybe((*NUMBER, *NOTHING)))
ENTRY = {
    **dict.fromkeys(("epoch", "learning_rate"), NUMBER),
    "step": WHOLE,
    "train_loss": (*NUMBER, *NOTHING),
    **MEASURED,
}
DATASET = {
    **dict.fromkeys(("name", "title", "kind", "sha256", "note", "source", "evaluated_on"), TEXT),
    **dict.fromkeys(("train", "test", "classes", "split_seed"), WHOLE),
    **dict.fromkeys(("class_fraction", "validation"), NUMBER),
    "test_images": (*WHOLE, *NOTHING),
    "mirrored": [[TEXT]],
    "remarks": Maybe([TEXT]),
    "test_fraction": Maybe(NUMBER),
    **dict.fromkeys(("stretch", "bands", "labels", "label_column"), Maybe(TEXT)),
    **dict.fromkeys(("id_column", "votes"), Maybe(TEXT)),
    "threshold": Maybe(NUMBER),
    "soft_targets": Maybe(FLAG),
    "channels": Maybe(WHOLE),
}
RECORD = {
    **dict.fromkeys(("run", "status", "model", "selection", "device", "precision"), TEXT),
    **dict.fromkeys(("command", "started"), TEXT),
    **dict.fromkeys(("params", "macs", "image_size", "seed", "epochs", "steps"), WHOLE),
    **dict.fromkeys(("peak_memory", "world_size"), WHOLE),
    **dict.fromkeys(("resumed_from", "failed_at_step"), (*WHOLE, *NOTHING)),
    "stack": (*TEXT, *NOTHING),
    "fraction": NUMBER,
    "seconds": NUMBER,
    "images_per_second": (*NUMBER, *NOTHING),
    "options": {...: ANY},
    "recipe": {"name": TEXT, ...: ANY},
    "identity": {...: ANY},
    "dataset": DATASET,
    "metrics": MEASURED,
    "history": [ENTRY],
    "attempts": [ATTEMPT],
    "versions": VERSIONS,
    "git": GIT,
    "execution": EXECUTION,
    "init": Maybe({"file": TEXT, "sha256": TEXT, ...: ANY}),
    "study": Maybe(dict.fromkeys(("name", "design", "stage", "task", "arm", "profile"), TEXT)),
    "origin": Maybe(TEXT),  # of who reads the ledger
}
# Of revision 1, which said less.
_OLDER_PARTS = ("classes", "class_fraction", "validation", "test_images")
OLDER = {
    **RECORD,
    **{name: Maybe(RECORD[name]) for name in ("identity", "execution", "attempts", "steps")},
    "dataset": {
        **DATASET,
        **{name: Maybe(DATASET[name]) for name in _OLDER_PARTS},
        "split_seed": (*WHOLE, *NOTHING),
    },
    "history": [{**ENTRY, "step": Maybe(WHOLE)}],
}


def misfits(record: Mapping) -> list[tuple[str, str]]:
    """(field, what is wrong) for each that is missing, is none of a record's, or is of another
    kind. Fields within others are named as `attempts[0].git.commit`.
    """
    older = identity.revision(record) == identity.FIRST
    return list(_misfits(record, OLDER if older else RECORD, ""))


def _misfits(value: object, kind: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(kind, Maybe):
        kind = kind.kind
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            yield name, f"is a {type(value).__name__} and holds no fields"
            return
        inner = f"{name}." if name else ""
        for one, its in kind.items():
            if one is not ... and one not in value and not isinstance(its, Maybe):
                yield f"{inner}{one}", "is missing"
        for one, part in value.items():
            if one in kind:
                yield from _misfits(part, kind[one], f"{inner}{one}")
            elif ... not in kind:
                yield f"{inner}{one}", "is no field of a record"
    elif isinstance(kind, list):
        if not isinstance(value, list):
            yield name, f"is a {type(value).__name__} and no list"
            return
        for number, part in enumerate(value):
            yield from _misfits(part, kind[0], f"{name}[{number}]")
    elif not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
        yield name, f"is a {type(value).__name__}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield name, f"is {value}: what is not finite is null"
