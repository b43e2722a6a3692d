"""What `cost.network_cost` counted of every network at its own image size, kept in
book/ledger/costs.json: an answer without torch, for the question that is asked most. And what may
be asked at all: who mistypes a name does not wait for torch either.

    .venv/bin/python -m astroformer.counting.kept_costs

counts again and writes the file. It holds the SHA-256 of the code that the counts come from, and
the releases of torch and timm. Where either has changed, nothing is kept and who asks counts anew,
so that an edited network never has the numbers of the one before.

Reads top to bottom: what may be asked, fingerprint (what the counts come from), kept (an answer),
write.
"""

import ast
import hashlib
import json
from functools import cache
from importlib import metadata
from pathlib import Path

from astroformer import paths
from astroformer.sizes import ASTROFORMER, IMAGE_SIZE, NAMES, checked_name

PLACE = paths.LEDGER / "costs.json"
COUNTING = ("conventions", "cost", "trace")  # modules of this package
CLASSES, DTYPE_BYTES = 10, 4  # of what is kept


def checked(
    name: str,
    *,
    num_classes: int = 10,
    stack: str | None = None,
    dtype_bytes: int = 4,
    peak_tflops: float | None = None,
    bandwidth_gb: float | None = None,
) -> None:
    """Raises ValueError, which names the choices, for what cannot be asked of
    `cost.network_cost`; whether the network takes the stack and the image, it says itself.
    """
    checked_name(name, nearest_first=True)
    checked_classes(num_classes)
    if stack is not None and name not in ASTROFORMER:
        raise ValueError(
            f"{name} has no stages to choose, so no stack {stack!r}; leave it away, "
            "or take an astroformer"
        )
    if (peak_tflops is None) != (bandwidth_gb is None):
        raise ValueError(
            "a time floor needs both, the peak rate and the bandwidth: --peak-tflops "
            "and --bandwidth-gb"
        )
    given = dict(dtype_bytes=dtype_bytes, peak_tflops=peak_tflops, bandwidth_gb=bandwidth_gb)
    for what, value in given.items():
        if value is not None and not value > 0:
            raise ValueError(f"--{what.replace('_', '-')} must be greater than 0, not {value:g}")


def checked_classes(number: int) -> int:
    """The number of classes, if a network can tell so many apart."""
    if number < 1:
        raise ValueError(
            f"a network needs at least 1 class, not {number}; data sets here have 10, 100, 200 or "
            "1000"
        )
    return number


def sources() -> list[Path]:
    """The files that decide what is counted: how it is counted, and the networks with all that
    they import of the package.
    """
    found = [paths.PACKAGE / "counting" / f"{name}.py" for name in COUNTING]
    left = [paths.PACKAGE / "models" / "__init__.py"]
    while left:
        path = left.pop()
        if path not in found:
            found.append(path)
            left += _imported(path)
    return sorted(found)


def _imported(path: Path) -> list[Path]:
    """The modules of the package that a file's first level imports."""
    found = []
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("astroformer."):
            module = f"{node.module}"
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    files = [paths.PACKAGE.joinpath(*name.split(".")[1:]) for name in found]
    return [file for one in files if (file := one.with_suffix(".py")).is_file()]


def fingerprint() -> dict[str, str]:
    """Of everything that the counts come from. Comments, docstrings and line breaks are no part of
    it, nor is Python's release.
    """
    content = hashlib.sha256()
    for path in sources():
        content.update(path.relative_to(paths.PACKAGE).as_posix().encode() + b"\0")
        content.update(repr(_said(ast.parse(path.read_bytes()))).encode() + b"\0")
    # a local release such as 2.6.0+cu124 computes the same shapes as 2.6.0
    releases = {name: metadata.version(name).partition("+")[0] for name in ("torch", "timm")}
    return {"sources": content.hexdigest(), **releases}


def _said(node: object) -> object:
    """A syntax tree as nested tuples, without what does nothing: text that stands alone, and fields
    that are empty, which releases of Python list or leave out.
    """
    if isinstance(node, list):
        kept = [one for one in node if not (isinstance(one, ast.Expr) and _is_text(one.value))]
        return tuple(map(_said, kept))
    if not isinstance(node, ast.AST):
        return node
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, [])}
    return (type(node).__name__, *((name, _said(fields[name])) for name in sorted(fields)))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@cache
def read() -> dict[str, dict]:
    """The kept answers by name; none where they are of other sources or were never written."""
    try:
        found = json.loads(PLACE.read_text())
    except FileNotFoundError:  # a checkout whose ledger is not there
        return {}
    return found["costs"] if found["of"] == fingerprint() else {}


def kept(
    name: str,
    *,
    image_size: int | None,
    num_classes: int,
    stack: str | None,
    dtype_bytes: int,
    peak_tflops: float | None,
    bandwidth_gb: float | None,
) -> dict | None:
    """What `cost.network_cost` gives for the same arguments, if that is kept."""
    own = image_size in (None, IMAGE_SIZE.get(name))
    plain = stack is None and peak_tflops is None and bandwidth_gb is None
    usual = (num_classes, dtype_bytes) == (CLASSES, DTYPE_BYTES)
    return read().get(name) if own and plain and usual else None


def counted(name: str) -> dict:
    """What is kept of a network, counted now."""
    from astroformer.counting.cost import network_cost  # brings torch

    return network_cost(name, num_classes=CLASSES, dtype_bytes=DTYPE_BYTES)


def write() -> None:
    """Counts every network and replaces the file."""
    paths.need_checkout("counting the costs that are kept")
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(counted(name))}" for name in NAMES)
    PLACE.write_text(f'{{"of": {json.dumps(fingerprint())},\n"costs": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    write()
    print(f"kept in {PLACE}")
