"""What "the same run" means, in one place: the identity of a record, and the names made from it.

An identity is a flat dictionary of plain values with everything that decides what a run comes to,
written out (`training.run.Run.identity` makes it). Three names follow from it:

- the run's own name, the digest of the whole identity;
- its group: runs that differ in nothing but the seed, which tables average (`group`);
- its question: runs that differ in nothing but the precision, so that one made on a GPU answers
  for one asked for on a CPU (`question`).

Records older than identities (revision 1) have one too, put together from what they say.
"""

import hashlib
import json
from collections.abc import Mapping

from astroformer.recipes import Recipe

# Of the training loop and the augmentation: raised when the same run would give other weights.
REVISION = 2
FIRST = 1  # the revision of records that do not name theirs


def digest(identity: Mapping[str, object], *, but: tuple[str, ...] = ()) -> str:
    """Twelve hexadecimal digits of the SHA-256 of an identity without the entries `but`."""
    kept = {name: value for name, value in identity.items() if name not in but}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def of(record: Mapping) -> dict[str, object]:
    """The identity of a ledger record."""
    if record.get("identity"):
        return dict(record["identity"])
    told = record.get("dataset") or {}
    younger = "classes" in told  # before, split_seed meant another thing
    options = {"stack": record.get("stack"), **(record.get("options") or {})}
    return {
        "revision": FIRST,
        "model": record.get("model"),
        "options": {
            name: value
            for name, value in options.items()
            if (name, value) not in (("stack", "CCCT"), ("stack", None))
        },
        "dataset": told.get("source"),
        "data": told.get("sha256"),
        "image_size": record.get("image_size"),
        "fraction": float(record.get("fraction") or 1.0),
        "class_fraction": float(told.get("class_fraction", 1.0)),
        "validation": told.get("validation") or told.get("evaluated_on"),
        "test_images": told.get("test_images"),
        "split_seed": (told.get("split_seed") or 0) if younger else 0,
        "train": told.get("train"),
        "init": (record.get("init") or {}).get("sha256"),
        "recipe": _deciding(record.get("recipe") or {}),
        "precision": record.get("precision"),
        "seed": record.get("seed"),
    }


def _deciding(recipe: Mapping[str, object]) -> dict[str, object]:
    """The fields of a record's recipe that decide the outcome. A recipe that is not whole, or that
    today's checks refuse, is known by all that it says, its name too: the ledger stays readable.
    """
    try:
        return Recipe.from_record(dict(recipe)).canonical()
    except (TypeError, ValueError, OverflowError):
        return {
            name: value for name, value in recipe.items() if name not in ("source", "precision")
        }


def revision(record: Mapping) -> int:
    """Of the training loop and the augmentation under which a record was made."""
    return (record.get("identity") or {}).get("revision", FIRST)


def group(record: Mapping) -> str:
    """The same for runs that differ in nothing but the seed."""
    return digest(of(record), but=("seed",))


def question(record: Mapping) -> str:
    """The same for runs that differ in nothing but the precision."""
    return digest(of(record), but=("precision",))
