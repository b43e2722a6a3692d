"""Pictures and tables of the studies: the forest of differences, accuracy against the number of
images and against the learning rate, the effects of a factorial; the design and what it costs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astroformer import contrasts
from astroformer.counting.budget import duration
from astroformer.counting.memory import gigabytes
from astroformer.data.tasks import TASKS
from astroformer.figures.style import COLORS, panels
from astroformer.studies import design as designs
from astroformer.studies import devices, few_images, stability, variations
from astroformer.studies.answers import Answer, signed
from astroformer.studies.asked import unit_of
from astroformer.studies.cells import Found
from astroformer.studies.design import Design
from astroformer.studies.needs import MEASURED, Estimator, Place
from astroformer.studies.outcomes import by_seed
from astroformer.studies.price import price
from astroformer.studies.runner import MODULES

OF_ARM = {"CCCT": "blue", "CCTT": "orange", "CTTT": "green", "CCCC": "grey"}
ALL = "all, pooled"  # data sets
MARKERS = {"CCCT": "o", "CCTT": "s", "CTTT": "^", "CCCC": "D"}


def forest(table: pd.DataFrame, *, smallest: float = 1.0, first: str = "C-C-C-T") -> Figure | str:
    """`few_images.Result.forest`: a point and a thick bar for other seeds, a thin one for other
    seeds and images, each seed's difference as a tick. The band is ± the smallest effect of
    interest. A text where there is no difference yet.
    """
    if "points" not in table or table["points"].isna().all():
        return "There are too few runs yet to draw a difference."
    begun = table.groupby("against")["points"].transform("count") > 0
    waiting = list(dict.fromkeys(table.loc[~begun, "against"]))
    table = table[begun]
    figure, (axes,) = panels(1, 1, height=0.9 + 0.42 * len(table))
    axes.axvspan(-smallest, smallest, color=COLORS["grey"], alpha=0.15, linewidth=0)
    axes.axvline(0, color=COLORS["grey"], linewidth=1)
    labels = []
    for place, row in enumerate(table.to_dict("records")):
        mean = row["data set"].startswith("mean")
        labels.append(f"{row['data set']}\nless {row['against']}")
        if np.isnan(row["points"]):
            axes.annotate("not run", (smallest * 1.2, place), va="center", fontsize=9)
            continue
        color = COLORS["red" if mean else "blue"]
        if np.isfinite(row["low with images"]):
            ends = (row["low with images"], row["high with images"])
            axes.plot(ends, (place, place), color=color, linewidth=1.2)
        if np.isfinite(row["low"]):
            axes.plot((row["low"], row["high"]), (place, place), color=color, linewidth=4)
        axes.plot(row["pairs"], [place + 0.24] * len(row["pairs"]), "|", color=color, markersize=6)
        axes.plot(row["points"], place, "D" if mean else "o", color="white", markeredgecolor=color)
    axes.set(
        yticks=range(len(labels)),
        xlabel=f"test accuracy of {first} less that of the other (points)",
        ylim=(len(labels) - 0.4, -0.6),
    )
    axes.set_yticklabels(labels, fontsize=9)
    axes.grid(axis="y", visible=False)
    if waiting:
        axes.set_title(f"not run yet: {', '.join(waiting)}", loc="left", fontsize=9)
    return figure


def accuracy_against_images(result: few_images.Result) -> Figure | str:
    """Test accuracy (left) and accuracy on the training images (right) against their number: a
    line an arm, seeds as dots. Fit and generalisation on one scale.
    """
    table = result.curve()
    if not len(table):
        return "There is no run yet to draw."
    tasks = [task for task in result.design.tasks if task in set(table["task"])]
    figure, axes = panels(len(tasks), 2, height=0.6 + 2.3 * len(tasks))
    for row, task in enumerate(tasks):
        part = table[table["task"] == task]
        for column, (value, title) in enumerate((("value", "test"), ("train", "training images"))):
            one = axes[2 * row + column]
            for shift, (arm, group) in enumerate(part.groupby("arm", sort=False)):
                color = COLORS[OF_ARM[arm]]
                moved = group["images"] * (1 + 0.04 * (shift - 1))
                one.plot(moved, group[value], ".", color=color, alpha=0.5, markersize=5)
                means = group.groupby("images")[value].mean()
                one.plot(
                    means.index,
                    means,
                    marker=MARKERS[arm],
                    color=color,
                    markersize=5,
                    label=result.title(arm),
                )
            name = f"{TASKS[task].title}\n" if column == 0 else "\n"
            one.set_title(f"{name}{title}", loc="left")
            one.set(xscale="log", ylim=_limits(part[["value", "train"]]))
            one.set_xticks(sorted(part["images"].unique()))
            one.set_xticklabels([f"{number:,}" for number in sorted(part["images"].unique())])
            one.minorticks_off()
            one.set_xlim(0.8 * part["images"].min(), 1.25 * part["images"].max())
            if column == 0:
                one.set_ylabel("accuracy (%)")
            if row == len(tasks) - 1:
                one.set_xlabel("training images")
    axes[0].legend(loc="best", fontsize=8)
    return figure


def tuning(
    result: few_images.Result, arms: Sequence[str] = ("CCCT", "CCTT", "CTTT")
) -> Figure | str:
    """Validation accuracy against the learning rate: the better weight decay of each rate at a part
    of the steps (lines), the finalists at all of them (large marks), the winner ringed. Runs that
    diverged are crosses on the floor.
    """
    table = result.tuning_runs()
    if not len(table):
        return "No tuning run is made yet."
    table = table[table["arm"].isin(arms)]
    tasks = [task for task in result.design.tasks if task in set(table["task"])]
    figure, axes = panels(1, len(tasks), height=2.9)
    for one, task in zip(axes, tasks):
        part = table[table["task"] == task]
        for arm, group in part.groupby("arm", sort=False):
            color = COLORS[OF_ARM[arm]]
            short, whole = group[group["part"] < 1], group[group["part"] == 1]
            best = short.groupby("rate")["value"].max()
            one.plot(best.index, best, ".-", color=color, linewidth=1.2, label=result.title(arm))
            one.plot(whole["rate"], whole["value"], MARKERS[arm], color=color, markersize=7)
            if len(whole):
                winner = whole.loc[whole["value"].astype(float).idxmax()]
                one.plot(
                    winner["rate"], winner["value"], "o", markersize=13, mfc="none", color=color
                )
            failed = group[group["diverged"]]
            one.plot(failed["rate"], [0] * len(failed), "x", color=color)
        one.set_title(TASKS[task].title.replace(", ", ",\n"), fontsize=9)
        _rate_axis(one, sorted(part["rate"].unique()))
        if one is not axes[len(tasks) // 2]:  # said once
            one.set_xlabel("")
    axes[0].set_ylabel("validation accuracy (%)")
    axes[0].legend(loc="best", fontsize=8)
    return figure


def rates(result: stability.Result) -> Figure | str:
    """Validation accuracy against the learning rate, without clipping: a line an arm through the
    means of its seeds, seeds as dots, runs that diverged as crosses; the usable range of each arm
    drawn below.
    """
    runs = result.runs
    if not len(runs):
        return "No run is made yet."
    figure, (axes, below) = panels(2, 1, height=4.2, heights=(3, 1))
    for place, arm in enumerate(result.arms):
        own, color = runs[runs["arm"] == arm], COLORS[OF_ARM[arm]]
        if not len(own):
            continue
        fine = own[~own["diverged"]]
        axes.plot(fine["rate"], fine["value"], ".", color=color, alpha=0.6)
        broken = own[own["diverged"]]
        axes.plot(broken["rate"], broken["value"], "x", color=color, markersize=8)
        means = own.groupby("rate")["value"].mean()
        axes.plot(means.index, means, color=color, marker=MARKERS[arm], label=result.title(arm))
        span, ends = stability.usable(means, result.chance), stability.ends(means, result.chance)
        below.plot(ends, (place, place), color=color, linewidth=6, solid_capstyle="butt")
        for end, rate, mark in zip(ends, (means.index.min(), means.index.max()), ("<", ">")):
            if end == rate:  # the range goes on beyond the grid, how far is not known
                below.plot(end, place, mark, color=color, markersize=11)
        below.annotate(
            f"{span:.1f} octaves",
            (ends[1], place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set(ylabel="validation accuracy (%)")
    axes.legend(loc="best")
    for one in (axes, below):
        _rate_axis(one, sorted(runs["rate"].unique()))
    axes.set_xlabel("")
    below.set(
        xlim=axes.get_xlim(),
        yticks=range(len(result.arms)),
        ylim=(len(result.arms) - 0.5, -0.5),
    )
    below.set_yticklabels([result.title(arm) for arm in result.arms], fontsize=9)
    return figure


def effects(table: pd.DataFrame, *, smallest: float = 1.0) -> Figure | str:
    """Main effects of the factors on galaxies, on the control, and their difference, each with its
    95 % interval (points). Factors that are regional dropout are red.
    """
    if not len(table):
        return "No complete factorial is made yet."
    columns = ("galaxies", "control", "difference")
    figure, axes = panels(1, 3, height=0.9 + 0.32 * len(table))
    for one, column in zip(axes, columns):
        one.axvspan(-smallest, smallest, color=COLORS["grey"], alpha=0.15, linewidth=0)
        one.axvline(0, color=COLORS["grey"], linewidth=1)
        for place, row in enumerate(table.to_dict("records")):
            color = COLORS["red" if row["regional"] else "blue"]
            ends = (row[f"{column} low"], row[f"{column} high"])
            one.plot(ends, (place, place), color=color, linewidth=2.5)
            one.plot(row[column], place, "o", color=color, markersize=5)
        one.set(title=column, ylim=(len(table) - 0.5, -0.5), yticks=range(len(table)))
        one.set_yticklabels(table["factor"] if one is axes[0] else [])
        one.grid(axis="y", visible=False)
    ends = [one.get_xlim() for one in axes]
    for one in axes:  # one scale, as the panels are compared
        one.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
    axes[1].set_xlabel("effect on test accuracy (points)")
    return figure


def _rate_axis(axes: Axes, rates: Sequence[float]) -> None:
    """A logarithmic axis with a tick at each rate, in thousandths."""
    axes.set(xscale="log", xlabel="learning rate, in thousandths", xticks=rates)
    axes.set_xticklabels([f"{1000 * rate:g}" for rate in rates], fontsize=8)
    axes.minorticks_off()
    axes.margins(x=0.12)  # a ring around a mark at the end of the grid is seen whole


def _limits(values: pd.DataFrame) -> tuple[float, float]:
    """One scale for test and training accuracy, with a little room."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = 0.05 * max(high - low, 1.0)
    return low - room, high + room


# Words and tables


def shown(figure: Figure | str):
    """A figure for a page, or the sentence (Markdown) that stands in its place."""
    from IPython.display import Markdown

    return Markdown(figure) if isinstance(figure, str) else figure


def answered(answer: Answer) -> str:
    """The verdict in bold and its sentence."""
    return f"**{answer.verdict.capitalize()}.** {answer.sentence}"


def forest_table(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of `forest` where there are runs, as texts."""
    rows = []
    for row in table.to_dict("records"):
        if "points" not in row or np.isnan(row["points"]):
            continue
        better = row["P(better)"]
        rows.append(
            {
                "data set": row["data set"],
                "against": row["against"],
                "points": signed(row["points"]),
                "95 %, seeds": _interval(row["low"], row["high"]),
                "95 %, seeds and images": _interval(
                    row["low with images"], row["high with images"]
                ),
                "on training images": signed(row["training, points"])
                + f" {_interval(row['training low'], row['training high'])}",
                "seeds": int(row["seeds"]),
                "P(a run is better)": "" if np.isnan(better) else f"{better:.2f}",
            }
        )
    return pd.DataFrame(rows).fillna("")


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers as short texts, and nothing in place of what is not known."""

    def text(value) -> str:
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        if isinstance(value, float | np.floating):
            return "" if np.isnan(value) else f"{value:.3g}"
        return "" if value is None else value if isinstance(value, str) else str(value)

    return table.map(text)


def effects_table(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of `effects`, as texts."""
    rows = []
    for row in table.to_dict("records"):
        told = {"part of the recipe": row["factor"]}
        for column in ("galaxies", "control", "difference"):
            interval = _interval(row[f"{column} low"], row[f"{column} high"])
            told[column] = f"{signed(row[column])} {interval}"
        rows.append(told)
    return pd.DataFrame(rows)


def factors_table(design: Design) -> pd.DataFrame:
    """Each factor's two levels, and from which others it follows."""

    def words(changes: dict) -> str:
        return ", ".join(f"{name} {value}" for name, value in changes.items()).replace(
            " ,", " none,"
        )

    return pd.DataFrame(
        [
            {
                "factor": name,
                "part of the recipe": factor["title"],
                "without": words(factor["without"]).strip(),
                "with": words(factor["with"]),
                "sign": " x ".join(factor["generator"]) if "generator" in factor else "free",
            }
            for name, factor in design.told["factors"].items()
        ]
    )


def spread_table(
    study: few_images.Result, others: Sequence[str] = ("CCTT", "CTTT")
) -> pd.DataFrame:
    """Ratio of the standard deviations over seeds, of each other stack over C-C-C-T at the tuned
    rates, with its interval: pooled over the tasks of few_images, and of each task.
    """
    first = study.design.told["primary"]["arms"][0]
    low, rows = study.stage("low"), []
    for other in others:
        tables = {
            TASKS[task].title: by_seed(low, task, (other, first), "value")
            for task in study.design.tasks
        }
        alone = {title: [table] for title, table in tables.items()}
        for title, some in {ALL: list(tables.values()), **alone}.items():
            row = {"ratio of": f"{study.title(other)} over {study.title(first)}", "data": title}
            seeds = min(len(one) for one in some)
            # seeds that are all alike have no spread to be compared
            spread = all(any(one[arm].nunique() > 1 for one in some) for arm in (other, first))
            if seeds >= contrasts.contrast.PAIR and spread:
                found = contrasts.sd_ratio(
                    *([one[arm].to_numpy() for one in some] for arm in (other, first))
                )
                row |= {"seeds": seeds, "ratio": float(np.exp(found.estimate))}
                row |= {"low": float(np.exp(found.low)), "high": float(np.exp(found.high))}
            rows.append(row)
    return pd.DataFrame(rows, columns=["ratio of", "data", "seeds", "ratio", "low", "high"])


def design_lines(design: Design, found: Found) -> str:
    """Where the design is, its commit, and what was made under another state of it."""
    written = designs.commit(design)
    where = f"`book/studies/{design.name}.yml`, SHA-256 {design.digest}"
    line = f"Design: {where}" + (f", commit `{written[:12]}`." if written else ".")
    other = designs.changes(design, list(found.by_key.values()))
    if other:
        told = ", ".join(f"{number} under {digest}" for digest, number in other.items())
        line += f" **The file was changed after runs were made: {told}.**"
    if found.other_revisions:
        line += (
            f" {found.other_revisions} records of another revision of the training, or of networks "
            "that are not known here, are left out."
        )
    return " ".join(filter(None, [line, devices_line(design, found)]))


def devices_line(design: Design, found: Found) -> str:
    """Where runs were made, and which that are compared with one another were made on different
    devices, in sentences for each profile; "" for one device.
    """
    if design.name not in MODULES or not devices.are_several(found.by_key.values()):
        return ""
    told = []
    for profile in design.profiles.values():
        cells = MODULES[design.name].cells(design, profile, found)
        mixed = devices.sentence(devices.mixed(cells, found))
        alone = "Runs of one stage, data set and seed were made on one device." * (not mixed)
        if (line := devices.where(cells, found)) or mixed:
            told.append(
                " ".join(filter(None, [line, mixed or alone, f"(Profile {profile.name}.)"]))
            )
    return " ".join(filter(None, told))


def price_lines(name: str, found: list[dict] | None = None) -> str:
    """What the profiles for GPUs cost, in runs, gigabytes and hours of one card (`needs`).

    found: all records of the ledger; None reads them
    """
    place = Place.named("", "cuda")
    estimator, lines = Estimator(place, found, memory=False), []
    for profile in ("gpu", "cluster"):
        cost, model = price(name, profile), designs.read(name).profile(profile).model
        needed = [estimator.of(unit_of(cell, profile, Found([]))) for cell in cost.cells]
        known = [one for one in needed if one.seconds is not None]
        time = f"{duration(sum(one.seconds or 0.0 for one in known))} of {place.title}"
        if len(known) < len(needed):
            time = "the hours are not known, since no speed is"
        elif any(one.how != MEASURED for one in needed):
            time = f"about {time}, at a speed that is not measured there for this network and size"
        lines.append(
            f"`--profile {profile}`: {cost.runs:,} runs of {model}, {cost.flop / 1e15:,.0f} PFLOP, "
            f"up to {gigabytes(cost.memory.total)} GB of memory; {time}."
        )
    return "\n\n".join(lines)


def threats(design: Design) -> str:
    """The design's own list."""
    return "\n".join(f"- {threat[0].upper()}{threat[1:]}." for threat in design.told["threats"])


def _interval(low: float, high: float) -> str:
    return f"[{signed(low)}, {signed(high)}]" if np.isfinite(low) and np.isfinite(high) else ""


def answers_table(studies: Mapping[str, variations.Result]) -> str:
    """Each study's question and what can be said so far, as a list."""
    return "\n".join(
        f"- **{study.design.question}** {study.sentence()}" for study in studies.values()
    )


def designs_and_prices(studies: Mapping[str, variations.Result]) -> str:
    """The design of each study, its cost, and what it does not show."""
    return "\n\n".join(
        f"{design_lines(study.design, study.found)}\n\n{price_lines(name)}\n\n"
        f"{threats(study.design)}"
        for name, study in studies.items()
    )


# data set of a results page -> the study of a part of it
PARTS = {"galaxy10_decals": "galaxy10_part"}


def part_of(dataset: str, profile: str = "cpu") -> pd.DataFrame:
    """The comparisons of a study of a part of a data set; an empty table where there is none."""
    if dataset not in PARTS:
        return pd.DataFrame()
    return variations.result(PARTS[dataset], profile).comparisons()


def part_words(dataset: str, profile: str = "cpu") -> str:
    """A heading of its own, since a part of a data set is not the data set; "" where there is
    none.
    """
    if dataset not in PARTS:
        return ""
    study = variations.result(PARTS[dataset], profile)
    return (
        f"## A part of the data set\n\n{study.design.question} {study.sentence()} Its runs are not "
        "compared with what is reported above: "
        f"{'; '.join(study.design.told['threats'])}. [More of this study](variations.html)."
    )
