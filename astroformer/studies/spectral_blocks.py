"""How many of a SpectFormer's blocks should be spectral? The study's runs against those without any
spectral block, and what follows from them.

Accuracies count together if they were measured on the same images (`comparable`). Speeds are not
those of the records, beside which other work may have run: `speeds` lets the networks take turns.
"""

from collections.abc import Mapping

import pandas as pd
import timm
import torch

from astroformer.counting import throughput
from astroformer.data import native_image_size
from astroformer.ledger.tables import NOT_RUN, mean_interval
from astroformer.reading import filters
from astroformer.reading.filters import Filters
from astroformer.studies import effects, studies
from astroformer.studies.effects import Effects

BASE = "0"  # the variation that the others are compared with: attention alone
# columns that a study without runs lacks
MEASURED = ("top1", "nll", "macs", "params", "dataset", "device", "run", "test", "evaluated_on")


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


def compared(runs: pd.DataFrame) -> Effects:
    """Top-1 of each number of spectral blocks against that of none, over the comparable runs."""
    done = comparable(runs)
    others = runs[~runs.index.isin(done.index)].assign(status=NOT_RUN)
    return effects.effects(pd.concat([done, others]).sort_index(), BASE)


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


def costs(runs: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """A row for each number of spectral blocks: cross-entropy over seeds, cost, speed (`speeds`);
    where runs lack, how many and the command of the first.
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
                "cross-entropy": mean_interval(group["nll"], 3),
                "multiply-adds (M)": f"{group['macs'].iloc[0] / 1e6:.1f}"
                if len(group)
                else NOT_RUN,
                "parameters": f"{int(group['params'].iloc[0]):,}" if len(group) else NOT_RUN,
                "time of a training step, ratio": "{ratio:.2f} ({low:.2f} to {high:.2f})".format(
                    **steps.loc[blocks]
                ),
                "not run": f"{len(lacking)} seed{'s' * (len(lacking) > 1)}: "
                f"{lacking['command'].iloc[0]}"
                if len(lacking)
                else "",
            }
        )
    return pd.DataFrame(rows)


def facts(runs: pd.DataFrame, found: Effects, steps: pd.DataFrame) -> dict[str, object]:
    """What the study says, for the sentences of a page: numbers, and words that follow from
    them.
    """
    done, numbers = comparable(runs), sorted(runs["variation"].astype(int).unique())
    here = {
        "depth": int(numbers[-1]),
        "runs": f"None of the study's {len(runs)} runs is in the ledger.",
    }
    if len(done):
        images = f"{int(done['test'].iloc[0]):,} {done['evaluated_on'].iloc[0]} images"
        here["runs"] = (
            f"Of the study's {len(runs)} runs {len(done)} are shown, on "
            f"{done['dataset'].iloc[0]} ({images}), trained on "
            f"{' and '.join(done['device'].unique())}."
        )
    here["method"] = " ".join(
        filter(None, (effects.method(found, "attention alone"), effects.about_images(found)))
    )
    return here | {"verdict": verdict(found), "price": _price(done, steps)}


def verdict(found: Effects) -> str:
    """How accuracy depends on the number of spectral blocks: each number against none, then the
    trend; nothing is said of few runs.
    """
    if not found.decides:
        return "Nothing can be said yet: too few runs share their seeds with attention alone."
    differences, beyond = list(found.against.values()), effects.beyond(found)
    sentences = [
        f"With {', '.join(names)} spectral block{'' if names == ['1'] else 's'} top-1 is "
        f"{_range(found, names)} points {word} than with attention alone."
        for word, names in (
            ("lower", [name for name in beyond if found.against[name].estimate < 0]),
            ("higher", [name for name in beyond if found.against[name].estimate > 0]),
        )
        if names
    ]
    if beyond:
        sentences.append(
            f"{len(beyond)} of {len(differences)} simultaneous intervals leave out zero."
        )
    else:
        better = max(one.high for one in differences)
        worse = -min(one.low for one in differences)
        sentences.append(
            f"None of {len(differences)} simultaneous intervals leaves out zero: against attention "
            f"alone, top-1 may be up to {better:.1f} points higher or {worse:.1f} lower."
        )
    return " ".join([*sentences, *_trend(found)])


def _trend(found: Effects) -> list[str]:
    """Sentences about the straight line through all numbers of blocks, and through those but none,
    which tell a slope from a step.
    """
    whole, others = effects.slope(found), effects.slope(found, without_base=True)
    if whole is None or others is None:
        return []
    lines = [
        f"{where}, a further one changes top-1 by {line.estimate:+.2f} points "
        f"(straight line, 95 % {effects.ends(line)})."
        for where, line in (
            ("Over all numbers of spectral blocks", whole),
            ("Among networks with at least one", others),
        )
    ]
    if not whole.low <= 0 <= whole.high and others.low <= 0 <= others.high:
        lines.append("So the change is seen between none and some, and not between some and more.")
    return lines


def spread_of_draws(networks: Mapping[str, Filters | None], *, draws: int = 20) -> str:
    """Between which values a single gate of a new network lies, in a sentence: from the lowest to
    the highest of all blocks and so many draws, in the measures of the table of learned gates.
    Nothing where no filters are kept.
    """
    known = [one for one in networks.values() if one is not None]
    if not known:
        return ""
    drawn = pd.concat(
        [filters.concentration(filters.fresh(one, seed)) for one in known for seed in range(draws)]
    )
    listed = ", ".join(
        f"{name} {drawn[name].min():.1f} to {drawn[name].max():.1f}" for name in drawn
    )
    return f"Over {draws} draws of every block a gate of a new network has: {listed}."


def _range(found: Effects, names: list[str]) -> str:
    sizes = [abs(found.against[name].estimate) for name in names]
    low, high = f"{min(sizes):.1f}", f"{max(sizes):.1f}"
    return low if low == high else f"{low} to {high}"


def _price(done: pd.DataFrame, steps: pd.DataFrame) -> str:
    """Cost and time of gates alone over attention alone; nothing where one of them is not run."""
    macs = done.groupby("blocks")["macs"].first()
    least, most = steps.index.min(), steps.index.max()
    if not {least, most} <= set(macs.index):
        return ""
    step = steps.loc[most]
    return (
        f"Gates alone take {macs[most] / macs[least]:.2f} times the multiply-adds of "
        "attention alone; a training step takes "
        f"{step['ratio']:.2f} times as long (middle half of the rounds {step['low']:.2f} to "
        f"{step['high']:.2f})."
    )
