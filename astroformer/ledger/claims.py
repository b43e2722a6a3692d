"""What the papers claim: `book/claims.csv`, one row a number, with its value as printed and its
citation; and one row for each claim of principle that compares two things without a number
(metric `comparison`), whose value is the sentence of the document.

They are the numbers of the documents that this book examines: the Astroformer README and poster,
the SpectFormer and ViT-CIFAR READMEs; the Astroformer methodology notes contain no result at all,
but principles. Beside them stand the numbers of SpectFormer's public training logs and hierarchical
table, and what others report of their re-runs (column `by`). Epochs, rates and other settings are
no results and no claims.

A printed value says how exactly it was given, so it stays text. `prints_as` and `truncates_to` ask
whether a count would be printed with these very digits.
"""

import csv
import hashlib
import math
import re
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from pathlib import Path

import pandas as pd

from astroformer import paths
from astroformer.ledger import links

COLUMNS = (
    "system",
    "model",
    "dataset",
    "metric",
    "value",
    "unit",
    "by",
    "source",
    "table",
    "conditions",
)
OPTIONAL = ("model", "dataset", "unit", "conditions")  # a source may name none
KEY = ("system", "model", "dataset", "metric", "source", "table", "conditions")
BY = ("authors", "others")  # others: a re-run of the authors' system by somebody else

# Metric -> the units that its values may have; unit -> how many of the metric it stands for.
METRICS = {
    "top1": ("%",),
    "top5": ("%",),
    "params": ("M", ""),
    "flops": ("G",),
    "seconds": ("hh:mm:ss",),
    "margin": ("percentage points",),
    "comparison": ("",),
}
COMPARISON = "comparison"  # its value is a quotation, its conditions say what is compared
# as written beside a value, where that is not the unit itself
SHORT = {"percentage points": "points", "hh:mm:ss": ""}
UNITS = {"": 1, "M": 10**6, "G": 10**9, "%": 1, "percentage points": 1, "hh:mm:ss": 1}

README = "Astroformer README"  # the source of its results tables
# The release of a system: repository and the whole name of the commit that was read.
RELEASES = {
    "Astroformer": ("Rishit-dagli/Astroformer", "e9fcef037dc8af842325d7a742266e7e36a5a45a"),
    "SpectFormer": ("badripatro/SpectFormers", "b6cf487a0ea71eeb252d5ba0fc7410b3f5dbd256"),
    "ViT-CIFAR": ("omihub777/ViT-CIFAR", "ab9043ea44cfe8311d30295fc0e0467d676187f1"),
}


def address(system: str, place: str) -> str:
    """Of a place in a release: a file at the commit that was read, "path" or "path:line", or an
    issue, "#6".
    """
    repository, commit = RELEASES[system]
    if place.startswith("#"):
        return f"https://github.com/{repository}/issues/{place[1:]}"
    path, _, line = place.partition(":")
    return f"https://github.com/{repository}/blob/{commit}/{path}" + f"#L{line}" * bool(line)


# Where a source can be read; {table} is the claim's own. What has no address of its own (poster,
# notes) is about the paper.
_PAPER = "https://arxiv.org/abs/2304.05350"
SOURCES = {
    README: address("Astroformer", "README.md"),
    "Astroformer poster": _PAPER,
    "Astroformer methodology notes": _PAPER,
    "Astroformer issue #1": address("Astroformer", "#1"),
    "Astroformer issue #5": address("Astroformer", "#5"),
    "Astroformer fork": "https://github.com/{table}",
    "SpectFormer README": address("SpectFormer", "vanilla_architecture/README.md"),
    "SpectFormer-H README": address("SpectFormer", "hierarchical_architecture/README.md"),
    **dict.fromkeys(
        (f"SpectFormer log, {which} epoch" for which in ("first", "best", "last")),
        address("SpectFormer", "vanilla_architecture/logs/{table}"),
    ),
    "ViT-CIFAR README": address("ViT-CIFAR", "README.md"),
    "ViT-CIFAR issue #10": address("ViT-CIFAR", "#10"),
}
# The data sets of those tables: classes, pixels of the data set's own images, images of the
# official test split (of Tiny ImageNet, the labelled validation split). Galaxy10 DECaLS has no
# official split; ImageNet's images have many sizes.
README_DATASETS = {
    "CIFAR-10": dict(classes=10, pixels=32, test_images=10_000),
    "CIFAR-100": dict(classes=100, pixels=32, test_images=10_000),
    "Tiny ImageNet": dict(classes=200, pixels=64, test_images=10_000),
    "Galaxy10 DECaLS": dict(classes=10, pixels=256, test_images=None),
}
DATASETS = README_DATASETS | {
    "ImageNet-1k": dict(classes=1000, pixels=None, test_images=50_000),
    "SVHN": dict(classes=10, pixels=32, test_images=26_032),
}

PRINTED = re.compile(r"(?:(?P<qualifier>over|about) )?(?P<digits>\d+(?:\.\d+)?)")
TIME = re.compile(r"(?P<hours>\d+):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)")


def read(path: Path | None = None) -> pd.DataFrame:
    """Every claim, checked; one that is wrong makes the whole file unreadable, with its line and
    column named.

    Two columns are added: `number`, the value in its printed unit (seconds for a time, NaN for a
    comparison), and `qualifier`, "over" or "about" where the source prints that word before the
    value. `numbers` and `of_principle` part the rows.
    """
    path = path or paths.CLAIMS
    rows = _rows(path)
    for line, row in enumerate(rows, start=2):
        _check(row, f"{path}, line {line}")
    _check_unique(rows, path)
    claims = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    claims["number"] = [
        math.nan if row["metric"] == COMPARISON else parse(row["value"], row["unit"])
        for row in rows
    ]
    claims["qualifier"] = [qualifier(row["value"]) for row in rows]
    return claims.astype({"number": float})


def id_of(claim) -> str:
    """What a claim, a row as a named tuple or a dictionary, is called: six hexadecimal digits of
    the SHA-256 of what makes it a claim of its own (KEY), whatever its value and its place.
    """
    told = claim if isinstance(claim, dict) else claim._asdict()
    text = "\0".join(str(told[name]) for name in KEY)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def url_of(source: str, table: str) -> str:
    """Where a claim can be read: a file at a commit, an issue, a paper. ValueError for a source
    whose address is not written down.
    """
    if source not in SOURCES:
        raise ValueError(
            f"nothing says where the source {source!r} can be read; give it an address in SOURCES "
            "of astroformer/ledger/claims.py"
        )
    return SOURCES[source].format(table=table)


def source_of(source: str, table: str) -> links.Linked:
    """`source, table`, which leads there."""
    return links.to(url_of(source, table), f"{source}, {table}")


def numbers(claims: pd.DataFrame) -> pd.DataFrame:
    """The claims that print a number, which counts and runs can meet or miss."""
    return claims[claims["metric"] != COMPARISON]


def of_principle(claims: pd.DataFrame) -> pd.DataFrame:
    """The claims that compare two things without a number, which only a study can decide: `value`
    is the document's sentence, `conditions` what is compared.
    """
    return claims[claims["metric"] == COMPARISON]


def about(claims: pd.DataFrame, system: str) -> pd.DataFrame:
    """The claims about one system."""
    systems = list(dict.fromkeys(claims["system"]))
    if system not in systems:
        raise ValueError(f"no claim is about {system!r}; choose one of {', '.join(systems)}")
    return claims[claims["system"] == system]


def _rows(path: Path) -> list[dict[str, str]]:
    """The file's rows by column. One row is one line, so that a line number in a complaint is
    the one in the editor.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}; the claims are part of the checkout, run from there"
        )
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from None
    if not lines:
        raise ValueError(f"{path} is empty; its first line is {','.join(COLUMNS)}")
    header = lines[0]
    if sorted(header) != sorted(COLUMNS):
        missing = [name for name in COLUMNS if name not in header]
        surplus = [
            name for name in dict.fromkeys(header) if name not in COLUMNS or header.count(name) > 1
        ]
        raise ValueError(
            f"{path} has the columns {', '.join(header)}; missing: "
            f"{', '.join(missing) or 'none'}; "
            f"surplus: {', '.join(surplus) or 'none'}"
        )
    for line, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, line {line}: {len(cells)} cells where the header has "
                f"{len(header)}; "
                "quote a cell that holds a comma"
            )
        for name, cell in zip(header, cells, strict=True):
            if "\n" in cell or "\r" in cell:
                raise ValueError(
                    f"{path}, line {line}, column {name}: a line break in a cell; "
                    "keep each claim on one line"
                )
    return [dict(zip(header, cells, strict=True)) for cells in lines[1:]]


def _check(row: dict[str, str], where: str) -> None:
    for name, cell in row.items():
        if cell != cell.strip():
            raise ValueError(
                f"{where}, column {name}: {cell!r} begins or ends with a blank; remove it"
            )
    for name in COLUMNS:
        if not row[name] and name not in OPTIONAL:
            raise ValueError(f"{where}, column {name}: empty; only {', '.join(OPTIONAL)} may be")
    for name, known in (("metric", METRICS), ("by", BY)):
        if row[name] not in known:
            raise ValueError(f"{where}: {name} {row[name]!r} is not one of {', '.join(known)}")
    if row["unit"] not in METRICS[row["metric"]]:
        units = " or ".join(repr(unit) for unit in METRICS[row["metric"]])
        raise ValueError(
            f"{where}, column unit: {row['metric']} is given in {units}, not in {row['unit']!r}"
        )
    if row["metric"] == COMPARISON:
        _check_comparison(row, where)
        return
    try:
        number = parse(row["value"], row["unit"])
    except ValueError as error:
        raise ValueError(f"{where}, column value: {error}") from None
    if row["unit"] == "%" and number > 100:
        raise ValueError(f"{where}, column value: {row['value']} is more than 100 %")


def _check_comparison(row: dict[str, str], where: str) -> None:
    if PRINTED.fullmatch(row["value"]):
        raise ValueError(
            f"{where}, column value: {row['value']!r} is a number; a comparison quotes a sentence"
        )
    if not row["conditions"]:
        raise ValueError(f"{where}, column conditions: empty; a comparison says what is compared")


def _check_unique(rows: list[dict[str, str]], path: Path) -> None:
    seen: dict[tuple[str, ...], int] = {}
    for line, row in enumerate(rows, start=2):
        key = tuple(row[name] for name in KEY)
        if key in seen:
            raise ValueError(
                f"{path}, lines {seen[key]} and {line} are the same claim: "
                f"{', '.join(filter(None, key))}; "
                "remove one, or tell them apart by their conditions"
            )
        seen[key] = line


def parse(value: str, unit: str = "") -> float:
    """A printed value as a number in its unit; a time in seconds. "over 90" and "about 85" are
    90 and 85.
    """
    if unit == "hh:mm:ss":
        time = TIME.fullmatch(value)
        if not time:
            raise ValueError(f"{value!r} is not a time such as 02:14:22")
        return float(3600 * int(time["hours"]) + 60 * int(time["minutes"]) + int(time["seconds"]))
    return float(_digits_of(value))


def _digits_of(value: str) -> str:
    printed = PRINTED.fullmatch(value)
    if not printed:
        raise ValueError(f"{value!r} is not a number such as 99.12, over 90 or about 85")
    return printed["digits"]


def qualifier(value: str) -> str:
    """ "over" or "about", where the source prints that before the value; else nothing."""
    printed = PRINTED.fullmatch(value)
    return (printed["qualifier"] or "") if printed else ""


def digits(value: str) -> int:
    """How many decimals are printed: 2 for 161.75, 0 for 22."""
    return len(_digits_of(value).partition(".")[2])


def prints_as(count: float, value: str, unit: str) -> bool:
    """Is `count` printed as `value` when it is divided by the unit and rounded, half up, to as
    many decimals?
    """
    return _shorten(count, value, unit, ROUND_HALF_UP) == _digits_of(value)


def truncates_to(count: float, value: str, unit: str) -> bool:
    """Is `count` printed as `value` when it is divided by the unit and more decimals are cut
    off? Both may hold at once.
    """
    return _shorten(count, value, unit, ROUND_DOWN) == _digits_of(value)


def _shorten(count: float, value: str, unit: str, rounding: str) -> str:
    """`count` in `unit` with the decimals of `value`. Decimal arithmetic: 0.5 of the last digit
    is exact, as on paper.
    """
    if unit not in UNITS:
        raise ValueError(f"unit {unit!r} is not known; choose one of {', '.join(map(repr, UNITS))}")
    exact = Decimal(str(count))
    if not exact.is_finite():
        raise ValueError(f"{count} cannot be printed; a count is a finite number")
    shortened = (exact / UNITS[unit]).quantize(Decimal(1).scaleb(-digits(value)), rounding=rounding)
    return f"{shortened:f}"


def written(value: str, unit: str) -> str:
    """Value and unit as one text: "87.65 %", "0.98 points", "02:14:22"."""
    return f"{value} {SHORT.get(unit, unit)}".rstrip()


def row_name(model: str, dataset: str) -> str:
    """How a row of a results table is called in the report."""
    return f"{model}, {dataset}"
