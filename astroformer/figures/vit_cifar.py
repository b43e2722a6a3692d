"""Pictures of ViT-CIFAR: attention and MLP before training, the schedule, one-sided rotations,
curves, the ablation.
"""

from collections.abc import Mapping
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from astroformer.figures.style import COLORS, panels, picture
from astroformer.ledger import records
from astroformer.ledger.tables import NOT_RUN
from astroformer.reading.vit_cifar import BASE, expected, line_of
from astroformer.studies.effects import Effects


def before_training(starts: dict[str, pd.DataFrame], *, tokens: int = 65) -> Figure:
    """By block, in untrained networks (reading.vit_cifar.at_start): keys that attention reaches, of
    so many tokens, under both scales; and mean and range of what the MLP adds, under both ends.
    """
    figure, (keys, added) = panels(1, 2, height=2.9)
    for name, label, color, marker in (
        (BASE, "scale=width", "blue", "o"),
        ("scale=head", "scale=head", "orange", "s"),
    ):
        keys.plot(
            starts[name].index,
            starts[name]["keys"],
            marker=marker,
            markersize=4,
            color=COLORS[color],
            label=label,
        )
    keys.axhline(tokens, color=COLORS["grey"], linestyle="--", linewidth=1.2)
    keys.annotate(
        "all alike",
        (1, tokens),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=9,
        color=COLORS["grey"],
    )
    lowest = min(table["keys"].min() for table in starts.values())
    span = tokens - lowest
    keys.set(
        xlabel="block",
        ylabel=f"keys reached, of {tokens}",
        ylim=(lowest - 0.3 * span, tokens + 0.2 * span),
        xticks=starts[BASE].index,
    )
    keys.legend(loc="center right")
    for shift, name, label, color in (
        (-0.12, BASE, "mlp_end=gelu", "blue"),
        (0.12, "mlp_end=linear", "mlp_end=linear", "orange"),
    ):
        table, places = starts[name], starts[name].index + shift
        added.vlines(
            places, table["smallest"], table["largest"], color=COLORS[color], linewidth=2.5
        )
        added.plot(places, table["mean"], "o", markersize=4, color=COLORS[color], label=label)
    top = max(table["largest"].max() for table in starts.values())
    added.set(
        xlabel="block",
        ylabel="what the MLP adds",
        ylim=(None, 1.75 * top),
        xticks=starts[BASE].index,
    )
    added.legend(loc="upper left")
    return figure


def schedules(
    released: pd.DataFrame, textbook: pd.DataFrame, *, final: float, number: int = 10
) -> Figure:
    """The learning rate over a whole run, and in its first and last epochs, released (by epochs)
    and textbook (by steps).
    """
    figure, axes = panels(1, 3, height=2.7)
    end = round(released["epoch"].max())
    for axis, title, low, high in zip(
        axes, ("whole run", "first epochs", "last epochs"), (0, 0, end - number), (end, number, end)
    ):
        for table, label, color, style in (
            (released, "released", "blue", "-"),
            (textbook, "textbook", "orange", "--"),
        ):
            shown = table[(table["epoch"] >= low) & (table["epoch"] <= high)]
            axis.plot(
                shown["epoch"],
                1e3 * shown["learning rate"],
                style,
                color=COLORS[color],
                label=label,
            )
        axis.set(
            xlabel="epochs passed",
            title=title,
            ylim=(0, None),
            xlim=(low, high),
            xticks=np.linspace(low, high, 3),
        )
    axes[2].axhline(1e3 * final, color=COLORS["grey"], linestyle=":", linewidth=1.2)
    axes[0].set_ylabel("learning rate (10$^{-3}$)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def turned(image: np.ndarray, forms: dict[str, list[Image.Image]], *, columns: int = 7) -> Figure:
    """One image, uint8 (H, W, 3), and a row a form of AutoAugment: what came out of draws that
    rotate it.
    """
    figure, axes = panels(len(forms), columns, height=1.1 * len(forms) + 0.15)
    for row, (name, images) in enumerate(forms.items()):
        own = axes[row * columns : (row + 1) * columns]
        for axis, shown in zip(own, [image, *images]):
            picture(axis, shown)
        for axis in own[1 + len(images) :]:
            axis.set_axis_off()
        own[0].set_title("image", fontsize=9)
        own[1].set_title(name, loc="left", fontsize=9)
    return figure


def curves(groups: dict[str, pd.DataFrame], reported: dict[str, float]) -> Figure:
    """Accuracy and loss by epoch, a row a group of runs, every run a line and every recipe a
    colour; no group: "not run".

    groups: heading -> rows of the ledger's frame; one without runs says so, with the run's command
        and multiply-adds
    reported: data set -> final accuracy (%), dashed under its heading and beside the released
        network on a re-encoded copy
    """
    if not groups:
        figure, (axis,) = panels(1, 1, height=1.0)
        axis.text(0.5, 0.5, NOT_RUN, ha="center", va="center", color=COLORS["red"])
        axis.set_axis_off()
        return figure
    lines = list(
        dict.fromkeys(line_of(run) for runs in groups.values() for _, run in runs.iterrows())
    )
    colors = dict(zip(lines, COLORS.values(), strict=False))
    if len(lines) > len(colors):
        raise ValueError(
            f"{len(lines)} recipes and {len(colors)} colours; draw fewer groups in one figure"
        )
    heights = [2.4 if len(runs) else 1.5 for runs in groups.values()]
    figure, axes = panels(len(groups), 2, height=sum(heights) + 0.6 * bool(lines), heights=heights)
    for row, (heading, runs) in enumerate(groups.items()):
        accuracy, loss = axes[2 * row : 2 * row + 2]
        accuracy.set_title(heading, loc="left", fontsize=9)
        accuracy.set(ylim=(0, 105), yticks=range(0, 101, 25))
        resized = any(records.options_of(run) for _, run in runs.iterrows())
        for dataset, value in reported.items():
            if heading == dataset or heading.startswith(f"{dataset} (") and not resized:
                _dashed(
                    accuracy,
                    value,
                    "reported" if heading == dataset else f"reported, on {dataset} itself",
                )
        if len(runs):
            _draw(accuracy, loss, runs, colors)
        else:
            _not_run(accuracy, loss, heading)
    if lines:
        handles = {
            label: handle
            for axis in axes
            for handle, label in zip(*axis.get_legend_handles_labels())
        }
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=2,
            title="recipe: label smoothing",
        )
    return figure


def _dashed(axis, value: float, words: str) -> None:
    axis.axhline(value, color=COLORS["grey"], linestyle="--", linewidth=1.3)
    axis.annotate(
        f"{words}: {value:.2f}",
        (0.98, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, -11),
        textcoords="offset points",
        ha="right",
        fontsize=8.5,
    )


def _draw(accuracy, loss, runs: pd.DataFrame, colors: dict[str, str]) -> None:
    names = list(dict.fromkeys(line_of(run) for _, run in runs.iterrows()))
    for _, run in runs.iterrows():
        history, name = run["history"], line_of(run)
        epochs = [entry["epoch"] for entry in history]
        # equal curves: all remain visible
        look = dict(color=colors[name], linewidth=max(0.9, 2.4 - 0.7 * names.index(name)))
        accuracy.plot(epochs, [entry["top1"] for entry in history], label=name, **look)
        loss.plot(epochs, [entry["nll"] for entry in history], **look)
        loss.plot(epochs, [entry["train_loss"] for entry in history], ":", **look)
    loss.plot([], [], ":", color=COLORS["grey"], label="in training, as augmented")
    evaluated = " and ".join(dict.fromkeys(runs["dataset.evaluated_on"]))
    for axis, words in ((accuracy, f"{evaluated} accuracy (%)"), (loss, "cross-entropy (nats)")):
        axis.set(xlabel="epoch", ylabel=words)
        axis.locator_params(axis="x", integer=True, nbins=6)


def _not_run(accuracy, loss, dataset: str) -> None:
    """An empty panel, and beside it the run that would fill it."""
    run = expected(dataset)
    accuracy.text(
        0.5,
        0.4,
        NOT_RUN,
        transform=accuracy.transAxes,
        ha="center",
        va="center",
        fontsize=11,
        color=COLORS["red"],
    )
    accuracy.set(xticks=[], ylabel="accuracy (%)")
    words = [
        *wrap(run["command"], 38, break_on_hyphens=False),
        "",
        f"{run['macs'] / 1e15:.1f} P multiply-adds ({2 * run['macs'] / 1e15:.1f} PFLOP)",
    ]
    loss.text(0, 0.5, "\n".join(words), transform=loss.transAxes, va="center", fontsize=8.5)
    loss.set_axis_off()


def ablation(found: Effects, labels: Mapping[str, str]) -> Figure:
    """Top-1 of each variation less that of network and recipe as released: every seed a small dot
    and, where `found` allows a verdict, the estimate with its simultaneous 95 % interval.
    """
    shown = [name for name in found.asked if name != found.base]
    figure, (axis,) = panels(1, 1, height=0.36 * len(shown) + 1.0)
    axis.axvline(0, color=COLORS["grey"], linewidth=1.2)
    for place, name in enumerate(shown):
        pairs = found.pairs(name)
        if name in found.against and found.decides:
            one = found.against[name]
            axis.errorbar(
                one.estimate,
                place,
                xerr=[[one.estimate - one.low], [one.high - one.estimate]],
                fmt="o",
                capsize=3,
                color=COLORS["blue"],
            )
        axis.plot(pairs, [place] * len(pairs), "o", color=COLORS["grey"], markersize=3.5, zorder=3)
        if not len(pairs):
            axis.text(
                0.02,
                place,
                NOT_RUN,
                transform=axis.get_yaxis_transform(),
                va="center",
                fontsize=9,
                color=COLORS["red"],
            )
    axis.set(
        yticks=range(len(shown)),
        yticklabels=[labels.get(name, name) for name in shown],
        ylim=(len(shown) - 0.5, -0.5),
        xlabel="top-1 less that as released (points)",
    )
    axis.grid(axis="y", visible=False)
    if not found.against:
        axis.set_xticks([])
    return figure
