"""How fast networks train, drawn and told from the records of speed: sentences (Markdown), tables
and pictures of the page "Speed and memory".

Every function takes the records as they are, few or none. A sentence then says what is not measured
and names the command that measures it; a picture or a table is None, and its cell is not published.

Reads top to bottom: what is not measured, beside timm, the limit, growth, epochs, memory, claims.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astroformer.counting.cards import card_of
from astroformer.counting.memory import GB
from astroformer.figures import tables
from astroformer.figures.scaling import ticks as round_numbers
from astroformer.figures.style import COLORS, panels
from astroformer.speed import answers
from astroformer.speed.answers import COMMANDS, network, on_a_gpu

MOST_LINES = 7  # of one panel: one for each colour

# --- what is not measured ---


def not_measured(where: str, command: str) -> str:
    return f"**Not measured {where}.** This measures it: `{COMMANDS[command]}`"


def lacking_gpu(rows: pd.DataFrame, command: str = "step") -> str:
    """A sentence where no row is of a GPU, else ""."""
    if len(rows) and rows["device"].map(on_a_gpu).any():
        return ""
    return not_measured("on a GPU", command)


def joined(*sentences: str) -> str:
    """Paragraphs of Markdown, without those that are empty."""
    return "\n\n".join(sentence for sentence in sentences if sentence)


def devices(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each device, GPUs first."""
    if not len(rows):
        return []
    parts = [(str(name), part) for name, part in rows.groupby("device", sort=False)]
    return sorted(parts, key=lambda one: not on_a_gpu(one[0]))


def shown(table: pd.DataFrame, **how):
    """The table for a page, as `tables.sortable` takes it; None without rows."""
    return tables.sortable(table, **how) if len(table) else None


def by_device(rows: Sequence[dict]) -> pd.DataFrame:
    """Rows with a column `device`, which comes last, and is left out where all are of one: the
    sentence above the table names it.
    """
    table = pd.DataFrame(rows)
    if not len(table):
        return table
    last = ["device"] * (table["device"].nunique() > 1)
    return table[[*(name for name in table if name != "device"), *last]]


def brief(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def span(values: Iterable[float], spec: str = ".2f") -> str:
    """The smallest and the largest, or both at once where they print alike."""
    low, high = (format(end(list(values)), spec) for end in (min, max))
    return low if low == high else f"{low} to {high}"


def rounds(values: Iterable[float]) -> str:
    return f"{span(values, '.0f')} rounds"


# --- beside timm ---

NAMING = ["model", "image_size", "batch_size"]


def _named(row: Mapping | pd.Series) -> str:
    return network(row["model"], row["image_size"], row["batch_size"])


def how_fast(frame: pd.DataFrame) -> str:
    """Whether ours is ever slower than timm's fastest, device by device."""
    groups = pd.DataFrame(answers.beside_timm(frame))
    told = [_beside_timm(device, part) for device, part in devices(groups)]
    return joined(*told, lacking_gpu(groups))


def _beside_timm(device: str, groups: pd.DataFrame) -> str:
    both = groups[groups["ratio"].notna()] if "ratio" in groups else groups[:0]
    if not len(both):
        return f"On {device} no network that timm has too is measured."
    slower = both[(both["ratio"] < 1) & ~both["tie"].astype(bool)]
    faster = both[(both["ratio"] > 1) & ~both["tie"].astype(bool)]
    equal = len(both) - len(slower) - len(faster)
    answer = "is never slower than" if not len(slower) else "is not always as fast as"
    counted = [f"faster in {len(faster)}"] * bool(len(faster))
    counted += [f"as fast in {equal}, where the middle halves overlap"] * bool(equal)
    if len(slower):
        named = "; ".join(network(*row) for row in slower[NAMING].itertuples(index=False))
        counted += [f"slower in {len(slower)} ({named})"]
    spoken = pd.DataFrame([*both["ours"], *both["timm"]])
    settings = f"{len(both)} measured setting{'s' * (len(both) > 1)}"
    return (
        f"**On {device}, our network {answer} the fastest way to train timm's.** It trains "
        f"{span(both['ratio'])} times as many images a second, in the median of "
        f"{rounds(spoken['rounds'])} in which all take turns. Of {settings} of network, pixels "
        f"and images a step, it is {', '.join(counted)}."
    )


def beside_timm(frame: pd.DataFrame) -> Figure | None:
    """A row for each network, a panel for each device: how many times as fast as the released
    setting, medians with the middle half of rounds.
    """
    groups = pd.DataFrame(answers.beside_timm(frame))
    if not len(groups):
        return None
    parts = devices(groups)
    sizes = [1.3 + len(part) for _, part in parts]
    figure, axes = panels(len(parts), 1, height=0.9 + 0.4 * sum(sizes), heights=sizes)
    for axis, (device, part) in zip(axes, parts):
        _ways(axis, part)
        axis.set_title(device, loc="left")
    axes[-1].set_xlabel("images a second, as a multiple of the released setting")
    handles = {label: one for axis in axes for one, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return figure


def _ways(axis: Axes, groups: pd.DataFrame) -> None:
    several = groups.duplicated(["model", "image_size"], keep=False)
    labels, marks = [], (("timm", "orange", "s", 0.13), ("ours", "blue", "o", -0.13))
    axis.axvline(1, color=COLORS["grey"], linewidth=1.2, label="released setting")
    for place, (row, more) in enumerate(zip(groups.to_dict("records"), several)):
        name = network(row["model"], row["image_size"], row["batch_size"] if more else None)
        labels.append(name.replace(", ", "\n", 1))
        for whose, color, marker, up in marks:
            one = row[whose]
            if one is None:
                continue
            x, y = one["times_as_fast"], place - up
            axis.plot((one["times_low"], one["times_high"]), (y, y), color=COLORS[color])
            label = f"{whose}, fastest" if whose == "ours" else "timm's network, fastest"
            axis.plot(x, y, marker, color=COLORS[color], markersize=6, label=label)
    axis.set(yticks=range(len(labels)), ylim=(len(labels) - 0.5, -0.5))
    axis.set_yticklabels(labels, fontsize=9)
    axis.grid(axis="y", visible=False)


def beside_timm_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Released setting (images a second), the fastest of timm's and of ours as multiples of it."""

    def told(one) -> str:
        return "-" if one is None else f"{one['times_as_fast']:.2f}"

    parts = devices(pd.DataFrame(answers.beside_timm(frame)))
    rows = [
        {
            "network": _named(one),
            "released (images/s)": f"{one['released']['images_per_second']:,.3g}",
            "timm's": told(one["timm"]),
            "ours": told(one["ours"]),
            "ours / timm's": "-" if pd.isna(one.get("ratio")) else f"{one['ratio']:.2f}",
            "fastest way of ours": f"{device}: " * (len(parts) > 1)
            + ("-" if one["ours"] is None else answers.how(one["ours"]["contestant"])),
        }
        for device, part in parts
        for one in part.to_dict("records")
    ]
    return pd.DataFrame(rows)


# --- the limit ---


def limit(frame: pd.DataFrame) -> str:
    """Times the floor, and the share of the device's own matrix product, device by device."""
    table = answers.limits(frame)
    told = []
    for device, rows in devices(table):
        near, far = rows.loc[rows["over_floor"].idxmin()], rows.loc[rows["over_floor"].idxmax()]
        where = f"{near['over_floor']:.1f} times its floor in {_named(near)}"
        if len(rows) > 1:
            where += f" and {far['over_floor']:.1f} times in {_named(far)}"
        told.append(
            f"**On {device}, a training step takes {where}.** It does "
            f"{span(100 * rows['of_product'], '.0f')} % of the operations a second that a large "
            "matrix product reaches on the same device."
        )
    return joined(*told, lacking_gpu(table))


def limits_drawn(frame: pd.DataFrame) -> Figure | None:
    """Part of the measured time that the floor explains, and the arithmetic alone."""
    table = answers.limits(frame)
    if not len(table):
        return None
    parts = devices(table)
    sizes = [1.3 + len(part) for _, part in parts]
    figure, axes = panels(len(parts), 1, height=0.9 + 0.34 * sum(sizes), heights=sizes)
    for axis, (device, part) in zip(axes, parts):
        labels = [
            network(row.model, row.image_size, row.batch_size).replace(", ", "\n", 1)
            for row in part.itertuples()
        ]
        places = range(len(part))
        for column, color, label in (
            ("floor", "sky", "floor: arithmetic or traffic of each operation"),
            ("floor_arithmetic", "blue", "arithmetic alone"),
        ):
            width = 100 * part[column] / part["seconds"]
            axis.barh(places, width, color=COLORS[color], height=0.6, label=label)
        axis.axvline(100, color=COLORS["grey"], linewidth=1.2)
        axis.set(yticks=places, ylim=(len(part) - 0.5, -0.5), xlim=(0, None))
        axis.set_yticklabels(labels, fontsize=9)
        axis.grid(axis="y", visible=False)
        axis.set_title(device, loc="left")
    axes[-1].set_xlabel("part of the measured time of a step (%)")
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels())))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    return figure


def limits_table(frame: pd.DataFrame) -> pd.DataFrame:
    return by_device(
        [
            {
                "device": device,
                "network": _named(row),
                "measured (ms)": brief(1e3 * row["seconds"]),
                "floor (ms)": brief(1e3 * row["floor"]),
                "measured / floor": f"{row['over_floor']:.1f}",
                "of the product (%)": f"{100 * row['of_product']:.0f}",
            }
            for device, part in devices(answers.limits(frame))
            for row in part.to_dict("records")
        ]
    )


NAMED = 3  # kernels of a step
LETTERS = 48  # of a kernel's name, which may hold pages of template arguments


def kernels_table(frame: pd.DataFrame) -> pd.DataFrame:
    """What takes most of a step, the largest part first: a row for each step of `limits`."""
    rows = [
        {
            "device": device,
            "network": _named(row),
            "of the time": ", ".join(
                f"{100 * part:.0f} % {short(name)}" for name, part in row["kernels"][:NAMED]
            ),
        }
        for device, steps in devices(answers.limits(frame))
        for row in steps.to_dict("records")
        if isinstance(row.get("kernels"), list)
    ]
    return by_device(rows)[["network", "of the time"]] if rows else pd.DataFrame()


def short(kernel: str) -> str:
    """A name without what differs from build to build, and cut where it is long."""
    name = re.sub(r"^## Call (\w+) \w+ ##$", r"\1", kernel.removeprefix("void "))
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"


# --- growth ---

AXES = {"pixels": "Pixels a side", "batch": "Images a step", "processes": "Processes"}


def growth(frame: pd.DataFrame) -> str:
    """By how much speed changes along each axis that was measured; what was not."""
    told = []
    for along in answers.GROWTH:
        table = answers.growth(frame, along)
        if not len(table):
            told.append(f"- {AXES[along]}: not measured. This measures it: `{COMMANDS[along]}`")
            continue
        ratios, ends = [], []
        for _, line in table.groupby(["device", "label"], sort=False):
            first, last = line.iloc[0], line.iloc[-1]
            ratios.append(last["images_per_second"] / first["images_per_second"])
            ends += [first["x"], last["x"]]
        lines = f"{len(ratios)} network{'s' * (len(ratios) > 1)}"
        told.append(
            f"- {AXES[along]}, from {min(ends):.0f} to {max(ends):.0f}: {span(ratios)} times as "
            f"many images a second at the upper end ({lines})."
        )
    told += [
        f"- On {row['device']}, {row['contestant']} train {row['times_as_fast']:.2f} times as many "
        f"images a second of {network(row['model'], row['image_size'])}, all together, as "
        f"{first['contestant']}."
        for first, row in answers.side_by_side(frame)
    ]
    return "\n".join(told)


def growth_drawn(frame: pd.DataFrame) -> Figure | None:
    """Images a second along whatever was measured, one panel each."""
    tables = {along: answers.growth(frame, along) for along in answers.GROWTH}
    tables = {along: table for along, table in tables.items() if len(table)}
    if not tables:
        return None
    figure, axes = panels(len(tables), 1, height=2.6 * len(tables))
    for axis, (along, table) in zip(axes, tables.items()):
        palette = list(COLORS.values())
        lines = list(table.groupby(["device", "label"], sort=False))[:MOST_LINES]
        for color, ((device, label), line) in zip(palette, lines):
            axis.plot(
                line["x"], line["images_per_second"], "o-", color=color, label=f"{label}; {device}"
            )
        ticks = sorted(set(table["x"]))
        axis.set(xscale="log", yscale="log", xlabel=AXES[along], ylabel="images a second")
        axis.set_xticks(ticks, [f"{x:.0f}" for x in ticks])
        speeds = table["images_per_second"]
        low, high = 0.8 * speeds.min(), 1.25 * speeds.max()
        axis.set_ylim(low, high)
        axis.set_yticks(marks := round_numbers(low, high), [f"{one:,g}" for one in marks])
        axis.minorticks_off()
        axis.legend(fontsize=8)
    return figure


# --- epochs with data, and before the first step ---


def with_data(frame: pd.DataFrame) -> str:
    """What reading and augmenting costs beside computing, on the host and on the device."""
    table, told = answers.epochs(frame), []
    for device, rows in devices(table):
        times = " and ".join(
            f"{span(part['over_steps_alone'])} times if the {place} augments"
            for place, part in rows.groupby("augmentation", sort=False)
        )
        told.append(
            f"**On {device}, an epoch with data takes, beside the same steps on one repeated "
            f"batch, {times}** (medians of {rounds(rows['rounds'])})."
        )
    return joined(*told, lacking_gpu(table, "epoch"))


def with_data_table(frame: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {
            "device": device,
            "network": _named(row),
            "augmented on the": row["augmentation"],
            "images/s": f"{row['images_per_second']:,.0f}",
            "times alone": f"{row['over_steps_alone']:.2f}",
            "middle half": f"{row['over_low']:.2f} to {row['over_high']:.2f}",
        }
        for device, part in devices(answers.epochs(frame))
        for row in part.to_dict("records")
    ]
    return by_device(rows)


def preparing(frame: pd.DataFrame) -> str:
    table, told = answers.preparing(frame), []
    for device, rows in devices(table):
        known, failed = rows[rows["prepared"].notna()], rows[rows["status"] == "failed"]
        if len(known):
            told.append(
                f"On {device}, a compiled network takes {span(known['prepared'], '.0f')} s before "
                "its third step."
            )
        for row in failed.to_dict("records"):
            told.append(f"On {device}, {row['model']} ({row['contestant']}) failed: {row['note']}.")
    return " ".join(told) or not_measured("for a compiled network", "step")


def preparing_table(frame: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {
            "device": device,
            "network": _named(row),
            "executed as": row["contestant"],
            "seconds": f"{row['prepared']:.0f}" if row["prepared"] == row["prepared"] else "failed",
        }
        for device, part in devices(answers.preparing(frame))
        for row in part.to_dict("records")
    ]
    return by_device(rows)


# --- memory ---


def memory(frame: pd.DataFrame) -> str:
    table = answers.memory(frame)
    told = [
        f"**On {device}, {span(part['ratio'])} times the predicted memory was held** "
        f"({len(part)} training{'s' * (len(part) > 1)}; networks: {part['model'].nunique()})."
        for device, part in devices(table)
    ]
    if not len(table):
        told = ["No training's memory is measured yet beside what is predicted."]
    return joined(*told, lacking_gpu(table))


def memory_drawn(frame: pd.DataFrame) -> Figure | None:
    """Measured over predicted, against predicted, a colour for each device."""
    table = answers.memory(frame)
    if not len(table):
        return None
    figure, (axis,) = panels(1, 1, height=3.2)
    axis.axhline(1, color=COLORS["grey"], linewidth=1.2)
    for color, (device, part) in zip(COLORS.values(), devices(table)):
        axis.plot(
            part["predicted"] / GB, part["ratio"], "o", color=color, markersize=5, label=device
        )
    low, high = min(table["ratio"].min(), 0.9), max(table["ratio"].max(), 1.1)
    axis.set(
        xscale="log",
        xlabel="predicted (GB)",
        ylabel="measured / predicted",
        ylim=(low - 0.05, high + 0.05),
    )
    low, high = 0.8 * table["predicted"].min() / GB, 1.25 * table["predicted"].max() / GB
    axis.set_xlim(low, high)
    axis.set_xticks(marks := round_numbers(low, high), [f"{one:,g}" for one in marks])
    axis.minorticks_off()
    axis.legend()
    return figure


def memory_table(frame: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {
            "device": device,
            "network": _named(row),
            "executed as": row["contestant"].removeprefix("ours, "),
            "predicted (GB)": f"{row['predicted'] / GB:.3g}",
            "measured (GB)": f"{row['measured'] / GB:.3g}",
            "ratio": f"{row['ratio']:.2f}",
        }
        for device, part in devices(answers.memory(frame))
        for row in part.to_dict("records")
    ]
    return by_device(rows)


NOT_PREDICTED = "Not predicted yet. This predicts it: `python -m astroformer.speed.memory_lines`"


def cards_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The largest micro-batch of each network on each card: plain / with checkpointing."""
    table = answers.by_card(frame)
    if not len(table):
        return table
    table = table.assign(network=[network(r.model, r.image_size) for r in table.itertuples()])
    table["cell"] = [_both(row) for row in table.to_dict("records")]
    wide = table.pivot(index="network", columns="card", values="cell")
    wide = wide.loc[list(dict.fromkeys(table["network"]))]
    wide.columns = [f"{card:g} GB" for card in wide.columns]
    return wide.reset_index()


def _both(row: dict) -> str:
    again = row.get("checkpointing")
    return f"{row['plain']:,.0f}" + (f" / {again:,.0f}" if again and again == again else "")


def largest(frame: pd.DataFrame, cards: Sequence[int] = (24, 80)) -> str:
    """Which networks hold no image at all on usual cards."""
    table = answers.by_card(frame)
    if not len(table):
        return NOT_PREDICTED
    told = []
    for card in cards:
        own = table[table["card"] == card]
        most = own[["plain", "checkpointing"]].max(axis=1)
        none = list(own.loc[most < 1, "model"])
        few = own.loc[own["plain"] < 64, "model"]
        told.append(
            f"On a card of {card} GB "
            + (
                f"{', '.join(none)} cannot be trained at all; "
                if none
                else "every network trains; "
            )
            + f"{len(few)} of {len(own)} networks hold fewer than 64 images at once without "
            "checkpointing."
        )
    return " ".join(told)


# --- what the claims cost ---


def claims(rows: pd.DataFrame) -> str:
    """How many of the trainings behind reported accuracies have a price, and whose is unknown."""
    known = rows[rows["hours"].notna()]
    told = (
        f"**Of {len(rows)} trainings behind reported accuracies, the GPU-hours of {len(known)} "
        "follow from a measured speed.** "
    )
    for device, part in devices(known):
        card = card_of(device)
        power = f", and the board's {card.watts} W ({card.source})" if card else ""
        told += (
            f"They take {span(part['hours'], '.2g')} hours each on one {device}, by the speed of "
            f"{' and '.join(part['how'].unique())}{power}. "
        )
    if len(known) < len(rows):
        told += (
            "The others are not measured, and this page infers no hours from another network or "
            "size; [Running at scale](at_scale.html) does, and marks them by ~. "
            f"This measures one: `{COMMANDS['claims']}`"
        )
    return told


def claims_table(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "network": network(row["model"], row["image_size"]),
                "data set": row["dataset"],
                "reported (%)": row["reported"],
                "EFLOP": f"{row['flop'] / 1e18:,.3g}",
                "GPU-hours": f"{row['hours']:.2g} ({row['device']})"
                if row["hours"] == row["hours"]
                else "not measured",
                "kWh": f"{row['kwh']:.2g}" if row["kwh"] == row["kwh"] else "not measured",
            }
            for row in rows.astype({"hours": float, "kwh": float}).to_dict("records")
        ]
    )
