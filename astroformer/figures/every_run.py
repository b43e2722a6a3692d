"""The page with every run of the ledger: what was trained on what, how each of its seeds ended,
on which machine and from which sources, and the command that repeats it.

Runs that differ in nothing but the seed stand together behind a line that opens. Each group and
each run has an anchor, to which the numbers of other pages lead (`ledger.links`).
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

import pandas as pd

from astroformer import paths
from astroformer.data import DATASETS
from astroformer.ledger import links, predictions, records, tables
from astroformer.recipes import get_recipe

NO_STUDY = "Of no study"
METRICS = {
    "top-1 (%)": ("top1", 2),
    "balanced (%)": ("balanced_accuracy", 2),
    "nll (nats)": ("nll", 3),
    "ECE (%)": ("ece", 2),
    "top-1 on training images (%)": ("train_top1", 2),
}
POINTS, WIDTH, HEIGHT = 30, 90, 20  # of a curve: epochs at most, and its size in pixels


def every_run(frame: pd.DataFrame):
    """All runs of `records.frame`, for a page. One that was stopped several times leaves a record
    each time, of which the last stands for it.
    """
    from IPython.display import HTML  # an extra of the book, not of the library

    once = frame.drop_duplicates(["run", "started"], keep="last")
    return HTML("\n".join(_sections(once)))


def counted(frame: pd.DataFrame) -> dict[str, int]:
    """What the page says about itself."""
    return {
        "records": len(frame),
        "groups": frame["group"].nunique(),
        "completed": int((frame["status"] == "completed").sum()),
        "studies": frame["study.name"].nunique() if "study.name" in frame else 0,
    }


def _sections(frame: pd.DataFrame) -> Iterator[str]:
    places = _places()
    study = frame.get("study.name", pd.Series(None, index=frame.index)).fillna("")
    yield '<div class="every-run searchable">'
    for name in sorted(set(study), key=lambda one: (one == "", one)):
        own = frame[study == name]
        title = f"Study {name}" if name else NO_STUDY
        yield f'<h2 id="study-{escape(name or "none")}">{escape(title)}</h2>'
        named = [(tables.title(row), group) for group, row in _firsts(own)]
        for title in sorted({title for title, _ in named}):
            yield f"<h3>{escape(title)}</h3>"
            for one, group in named:
                if one == title:
                    yield _group(own[own["group"] == group], places)
    yield "</div>"


def _firsts(frame: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    """Each group and its first row, by network and recipe."""
    firsts = frame.drop_duplicates("group").sort_values(
        ["model", "stack", "recipe.name"], kind="stable"
    )
    return [(row["group"], row) for _, row in firsts.iterrows()]


def _group(group: pd.DataFrame, places: dict[tuple[str, str], str]) -> str:
    first = group.iloc[0]
    done = tables.ended(group)
    what = tables.ACCURACIES
    name = next((one for one in what if tables.metric(done, one).notna().any()), "top1")
    told = tables.mean_interval(tables.metric(done, name), share=True)
    stage = first.get("study.stage")
    stage = f"stage {stage}" if isinstance(stage, str) else ""
    words = ", ".join(filter(None, (tables.options(first), stage, tables.recipe(group))))
    ended = f"{name} {told}" if len(done) else f"{len(group)} that did not end"
    return (
        f'<details class="runs"><summary><b>{escape(first["model"])}</b>, {escape(words)}; '
        f"{escape(ended)}</summary>"
        f'<div id="runs-{first["group"]}" class="run-group">'
        f"{_facts(first)}{_seeds(group, places)}</div></details>"
    )


def _facts(row: pd.Series) -> str:
    """What decides the outcome, as a list of names and texts, and the command."""
    study = [row.get(f"study.{part}") for part in ("stage", "task", "arm")]
    source = row["dataset.source"]
    known = DATASETS.get(row["dataset.name"] if source == "folder" else source)
    facts = {
        "part of the study": ", ".join(one for one in study if isinstance(one, str)),
        "network": f"{row['params']:,} parameters, {row['macs']:,} multiply-adds an image of "
        f"{row['image_size']} pixels",
        "images": f"{row['dataset.train']:,} to train on, {row['dataset.test']:,} of "
        f"{row['dataset.evaluated_on']}; fingerprint {str(row['dataset.sha256'])[:12]}; "
        f"{row['dataset.kind']}",
        "licence": known.licence if known else row["dataset.note"],
        "recipe": _recipe(row),
        "precision": f"{row['precision']}, revision {row['revision']} of the training",
        "selection": row["selection"],
    }
    listed = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text
    )
    return f"<dl>{listed}</dl><pre>{escape(row['command'])}</pre>"


def _recipe(row: pd.Series) -> str:
    """The base's name, and every field that is not as it has it."""
    told = {
        str(name).partition(".")[2]: value
        for name, value in row.items()
        if str(name).startswith("recipe.") and not _missing(value)
    }
    base = str(told.pop("name", "")).partition("+")[0]
    source = told.pop("source", "")
    try:
        usual = get_recipe(base)
    except ValueError:  # of an older ledger
        return f"{base} ({source}), learning rate {told.get('learning_rate')}"
    changed = [
        f"{name} {_plain(value)}"
        for name, value in told.items()
        if getattr(usual, name, value) not in (value, "auto") and not isinstance(value, list)
    ]
    return f"{base} ({source})" + (f", but {', '.join(changed)}" if changed else "")


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _missing(value: Any) -> bool:
    return not isinstance(value, list | tuple | dict) and bool(pd.isna(value))


def _seeds(group: pd.DataFrame, places: dict[tuple[str, str], str]) -> str:
    shown = {
        head: one for head, one in METRICS.items() if tables.metric(group, one[0]).notna().any()
    }
    heads = ["run", "seed", *shown, "by epoch", "minutes", "device", "made", "record"]
    rows = [
        [
            links.anchored(f"run-{row['run']}", row["run"]),
            str(row["seed"]),
            *(_number(row, *one) for one in shown.values()),
            _curve(row),
            f"{row['seconds'] / 60:.1f}" if pd.notna(row["seconds"]) else "",
            row["device"],
            _made(row),
            _record(row, places),
        ]
        for _, row in group.sort_values(["seed", "started"]).iterrows()
    ]
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{links.html_of(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(row: pd.Series, name: str, digits: int) -> str:
    value = row.get(f"metrics.{name}")
    text = "" if value is None or pd.isna(value) else f"{value:.{digits}f}"
    of = f"run {name} {row['run']} {row['started']}"  # a run may have several records
    return links.Linked(text, f'<span data-of="{escape(of)}">{text}</span>')


def _made(row: pd.Series) -> str:
    """When, from which sources, with what, and in how many attempts."""
    commit = row.get("git.commit")
    sources = f"sources {commit[:10]}" if isinstance(commit, str) else "sources of no repository"
    dirty = " and changes" * (row.get("git.dirty") is True)
    attempts = row.get("attempts")
    times = f", {len(attempts)} attempts" if isinstance(attempts, list) and attempts[1:] else ""
    status = f"; {row['status']}" * (row["status"] != "completed")
    return (
        f"{str(row['started'])[:10]}, {sources}{dirty}, torch {row.get('versions.torch')}, "
        f"timm {row.get('versions.timm')}{times}{status}"
    )


def _record(row: pd.Series, places: dict[tuple[str, str], str]) -> str:
    """Where the record stands, and whether the predictions are kept."""
    place = places.get((row["run"], row["started"]), "of this machine alone")
    kept = "; predictions kept" * predictions.present(row["run"])
    return place + kept


def _places() -> dict[tuple[str, str], str]:
    """(run, started) -> file and line of the committed ledger."""
    return {
        (record["run"], record["started"]): f"{path.name}, line {number}"
        for path in sorted(paths.LEDGER.glob("*.jsonl"))
        for number, record, _ in records.numbered(path)
        if record is not None
    }


def _curve(row: pd.Series) -> links.Linked:
    """Top-1 (or balanced) accuracy by epoch, as a line from 0 to 100 %."""
    history = row["history"] if isinstance(row["history"], Sequence) else []
    values = [
        entry.get("top1") if entry.get("top1") is not None else entry.get("balanced_accuracy")
        for entry in history
    ]
    values = thinned([value for value in values if value is not None], POINTS)
    if len(values) < 2:
        return links.Linked("", "")
    step = WIDTH / (len(values) - 1)
    points = " ".join(
        f"{step * i:.0f},{HEIGHT * (1 - value / 100):.1f}" for i, value in enumerate(values)
    )
    told = f"from {values[0]:.1f} to {values[-1]:.1f} %"
    return links.Linked(
        told,
        f'<svg role="img" aria-label="{told}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 -1 {WIDTH} {HEIGHT + 2}"><polyline points="{points}" fill="none" '
        'stroke="currentColor" stroke-width="1.5"/></svg>',
    )


def thinned(values: Iterable[float], most: int) -> list[float]:
    """At most so many of the values, evenly spaced, the first and the last among them."""
    values = list(values)
    if len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
