"""How many of a SpectFormer's blocks should be spectral? The study's runs, averaged over seeds, and
what follows from them.

Accuracies count together if they were measured on the same images (`comparable`). Speeds are not
those of the records, beside which other work may have run: `speeds` lets the networks take turns.
"""

from math import sqrt

import pandas as pd
import timm
import torch
from scipy import stats

from astroformer.counting import throughput
from astroformer.data import native_image_size
from astroformer.ledger.tables import NOT_RUN, interval, mean_interval
from astroformer.studies import studies

# columns that a study without runs lacks
MEASURED = ("top1", "nll", "macs", "params", "dataset", "device")


def comparable(runs: pd.DataFrame) -> pd.DataFrame:
    """The completed runs of a study (`studies.frame`) on that data set on which most were made;
    column `blocks` is the variation as a number.
    """
    done = runs[runs["status"] == "completed"].reindex(
        columns=list(dict.fromkeys([*runs.columns, *MEASURED]))
    )
    if len(done):
        done = done[done["dataset"] == done["dataset"].mode()[0]]
    return done.assign(blocks=done["variation"].astype(int))


def speeds(study: str, *, batch_size: int = 16, rounds: int = 9) -> pd.DataFrame:
    """Time of a training step by number of spectral blocks, over that without any: `ratio` (median
    over rounds), `low` and `high` (the middle half). The networks are new: time does not depend on
    what was learned.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    runs = {int(name): run for name, run in studies.get_study(study).variations.items()}
    first = next(iter(runs.values()))
    size = first.image_size or native_image_size(first.dataset, first.data_dir)
    models = {
        blocks: timm.create_model(run.model, num_classes=10, img_size=size, **dict(run.options)).to(
            device
        )
        for blocks, run in runs.items()
    }
    measured = throughput.step_ratios(models, image_size=size, batch_size=batch_size, rounds=rounds)
    return measured.set_index("name").rename_axis("blocks")


def table(runs: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """A row for each number of spectral blocks: accuracy over seeds, cost, speed (`speeds`); where
    runs lack, the command of the first.
    """
    done, rows = comparable(runs), []
    for blocks in sorted(runs["variation"].astype(int).unique()):
        group = done[done["blocks"] == blocks]
        lacking = runs[
            (runs["variation"].astype(int) == blocks) & ~runs["seed"].isin(group["seed"])
        ]
        rows.append(
            {
                "spectral blocks": blocks,
                "top-1 (%)": mean_interval(group["top1"]),
                "cross-entropy": mean_interval(group["nll"], 3),
                "multiply-adds (M)": f"{group['macs'].iloc[0] / 1e6:.1f}"
                if len(group)
                else NOT_RUN,
                "parameters": f"{int(group['params'].iloc[0]):,}" if len(group) else NOT_RUN,
                "time of a training step, ratio": "{ratio:.2f} ({low:.2f} to {high:.2f})".format(
                    **steps.loc[blocks]
                ),
                "seeds not run": len(lacking),
                "to run the first": lacking["command"].iloc[0] if len(lacking) else "",
            }
        )
    return pd.DataFrame(rows)


def difference(one: pd.Series, other: pd.Series) -> tuple[float, float | None]:
    """Difference of two means and the half-width of its 95 % interval (Welch: neither variance nor
    number need be the same); no width where one of them has a single run, or where both have no
    spread.
    """
    gap, parts = (
        float(one.mean() - other.mean()),
        [group.var(ddof=1) / len(group) for group in (one, other)],
    )
    if min(len(one), len(other)) < 2 or sum(parts) == 0:
        return gap, None
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(group) - 1) for part, group in zip(parts, (one, other))
    )
    return gap, float(stats.t.ppf(0.975, freedom) * sqrt(sum(parts)))


def facts(runs: pd.DataFrame, steps: pd.DataFrame) -> dict[str, object]:
    """What the study says, for the sentences of a page: numbers, and words that follow from
    them.
    """
    done, numbers = comparable(runs), sorted(runs["variation"].astype(int).unique())
    least, most = numbers[0], numbers[-1]
    here = {"depth": int(most), "runs": f"None of the study's {len(runs)} runs is in the ledger."}
    if len(done):
        devices = done["device"].unique()
        here["runs"] = (
            f"Of the study's {len(runs)} runs {len(done)} are shown, on "
            f"{done['dataset'].iloc[0]}, trained on "
            f"{' and '.join(devices)}."
        )
    means = done.groupby("blocks")["top1"].mean()
    if not {least, most} <= set(means.index):
        return here | {
            "verdict": f"Nothing can be said yet: {least} and {most} spectral blocks "
            "are not both run.",
            "price": "",
        }
    best, groups = int(means.idxmax()), dict(iter(done.groupby("blocks")))
    sentences = [f"The best mean is that of {_blocks(best)}, {_percent(groups[best]['top1'])}."]
    for end, name in ((least, "attention alone"), (most, "gates alone")):
        if end != best:
            sentences.append(
                _against(groups[best]["top1"], groups[end]["top1"], f"{name} ({_blocks(end)})")
            )
        else:
            sentences.append(f"That is {name}.")
    return here | {"verdict": " ".join(sentences), "price": _price(done, steps, least, most)}


def _price(done: pd.DataFrame, steps: pd.DataFrame, least: int, most: int) -> str:
    macs, step = done.groupby("blocks")["macs"].first(), steps.loc[most]
    return (
        f"Gates alone take {macs[most] / macs[least]:.2f} times the multiply-adds of "
        "attention alone; a training step takes "
        f"{step['ratio']:.2f} times as long (middle half of the rounds {step['low']:.2f} to "
        f"{step['high']:.2f})."
    )


def _blocks(number: int) -> str:
    return f"{number} spectral block{'' if number == 1 else 's'}"


def _percent(values: pd.Series) -> str:
    mean, half = interval(values)
    return f"{mean:.2f} %" if half is None else f"{mean:.2f} ± {half:.2f} %"


def _against(best: pd.Series, other: pd.Series, name: str) -> str:
    gap, half = difference(best, other)
    if half is None:
        return (
            f"It lies {gap:.2f} points above {name}, but too few seeds were run to say how far "
            "chance goes."
        )
    words = (
        "more than its own interval"
        if gap > half
        else "not more than its own interval, so the two cannot be told apart"
    )
    return f"It lies {gap:.2f} ± {half:.2f} points above {name}: {words}."
