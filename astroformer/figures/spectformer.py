"""SpectFormer's gates, drawn: one filter on two grids, the learned filters of two networks, and
the study of spectral blocks.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from astroformer.figures.style import COLORS, panels
from astroformer.ledger.tables import NOT_RUN
from astroformer.reading.filters import Filters, fresh, profile
from astroformer.studies.effects import Effects
from astroformer.studies.spectral_blocks import comparable

GAP = 2  # blank cells between two filters of a mosaic


def on_two_grids(made: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """One filter as `reading.spectformer.on_another_grid` gives it: a column a grid, kernels above
    and gains below, offsets in parts of the image and frequencies in cycles per image, so that the
    same filter looks the same. Colours end at the first's largest value.
    """
    figure, axes = panels(2, len(made), height=4.1)
    # finer positions are more, and each counts less
    density = [kernel * len(kernel) ** 2 for kernel, _ in made.values()]
    gains = [gains for _, gains in made.values()]
    positions = max(map(len, gains))
    for column, name in enumerate(made):
        size, upper, lower = len(gains[column]), axes[column], axes[len(made) + column]
        first, limit = -(size // 2) - 0.5, float(density[0].abs().max())
        upper.imshow(
            density[column], cmap="RdBu_r", vmin=-limit, vmax=limit, extent=_extent(first / size, 1)
        )
        lower.imshow(
            gains[column],
            cmap="magma",
            vmin=0,
            vmax=float(gains[0].max()),
            extent=_extent(first, size),
        )
        upper.set(
            title=name,
            xticks=[-0.5, 0, 0.5],
            yticks=[-0.5, 0, 0.5],
            xlim=(-0.54, 0.54),
            ylim=(0.54, -0.54),
        )
        lower.set(xticks=[-10, 0, 10], yticks=[-10, 0, 10])
        lower.set(
            xlim=(-positions / 2 - 1, positions / 2 + 1),
            ylim=(positions / 2 + 1, -positions / 2 - 1),
        )
        for axis in (upper, lower):
            axis.grid(False)
            if column:
                axis.set_yticklabels([])
    axes[0].set_ylabel("kernel: offset\n(parts of the image)")
    axes[len(made)].set_ylabel("gains: frequency\n(cycles per image)")
    figure.colorbar(axes[-1].images[0], ax=axes[len(made) :], label="magnitude")
    return figure


def _extent(first: float, length: float) -> tuple[float, float, float, float]:
    return first, first + length, first + length, first


def learned(
    networks: Mapping[str, Filters | None], *, what: str, blocks: int = 4, channels: int = 12
) -> Figure:
    """The first blocks' filters: a panel a network, a row a block, channels at even distances;
    `what` is "gains" (magnitudes, the constant in the middle) or "kernels" (offset zero in the
    middle). Each filter is scaled by its own largest value.
    """
    shown = {
        name: _mosaic(filters, what, blocks, channels) if filters else None
        for name, filters in networks.items()
    }
    rows = max((len(filters.weights) for filters in networks.values() if filters), default=1)
    figure, axes = panels(
        len(shown), 1, height=0.3 + len(shown) * (0.42 + 0.39 * min(blocks, rows))
    )
    drawn = []
    for axis, (name, found) in zip(axes, shown.items()):
        axis.set_title(name)
        if found is None:
            _not_run(axis)
            axis.set_xticks([])
            continue
        mosaic, tile, names = found
        options = (
            dict(cmap="magma", vmin=0, vmax=1)
            if what == "gains"
            else dict(cmap="RdBu_r", vmin=-1, vmax=1)
        )
        drawn.append(axis.imshow(mosaic, **options))
        centres = [
            [start + (size - 1) / 2 for start in range(0, length, size + GAP)]
            for size, length in zip(tile, mosaic.shape)
        ]
        axis.set_xticks(centres[1], names)
        axis.set_yticks(centres[0], [f"block {i + 1}" for i in range(len(centres[0]))])
        axis.tick_params(length=0, labelsize=8)
        _bare(axis)
    if drawn:
        label = (
            "gain, over the filter's largest"
            if what == "gains"
            else "kernel, over the filter's largest"
        )
        figure.colorbar(drawn[-1], ax=axes, shrink=0.6, label=label)
        figure.supxlabel("channel", fontsize=10)
    return figure


def _mosaic(
    filters: Filters, what: str, blocks: int, channels: int
) -> tuple[np.ndarray, tuple[int, int], list[int]]:
    """(the picture, (H, W) of one filter, the channels drawn); blanks are NaN."""
    rows = []
    for block in list(filters.weights)[:blocks]:
        # (H, W, C)
        values = np.abs(filters.gains(block)) if what == "gains" else filters.kernel(block)
        chosen = (
            np.linspace(0, values.shape[2] - 1, min(channels, values.shape[2])).round().astype(int)
        )
        values = np.fft.fftshift(values[..., chosen], axes=(0, 1))
        values = np.pad(
            values / np.abs(values).max((0, 1)),
            ((0, GAP), (0, GAP), (0, 0)),
            constant_values=np.nan,
        )
        rows.append(np.concatenate(list(values.transpose(2, 0, 1)), axis=1))
    return np.concatenate(rows)[:-GAP, :-GAP], filters.grids[block], chosen.tolist()


def profiles(networks: Mapping[str, Filters | None]) -> Figure:
    """How every block's energy lies over frequency (above) and over distance in the image (below),
    a column a network; 1 is an even spread. Dashed: gates as a new network draws them.
    """
    figure, axes = panels(2, len(networks), height=4.6)
    labels = {"gains": "frequency (cycles per position)", "kernel": "distance (pixels)"}
    for column, (name, filters) in enumerate(networks.items()):
        for row, (what, label) in enumerate(labels.items()):
            axis = axes[row * len(networks) + column]
            axis.set_xlabel(label)
            if row == 0:
                axis.set_title(name)
            if filters is None:
                _not_run(axis)
                continue
            for i, block in enumerate(filters.weights):
                found = profile(filters, block, what)
                axis.plot(found.index, found, "o-", markersize=3, label=f"block {i + 1}")
            first, *others = (profile(fresh(filters), block, what) for block in filters.weights)
            drawn = sum(others, first) / len(filters.weights)
            axis.plot(drawn.index, drawn, "--", color=COLORS["grey"], linewidth=1, label="as drawn")
            axis.set_ylim(0, None)
    for row, what in enumerate(("gains'", "kernels'")):
        axes[row * len(networks)].set_ylabel(f"{what} energy (1: even)")
    _same_scale(axes, len(networks))
    widest = max(axes[: len(networks)], key=lambda axis: len(axis.lines))
    if widest.lines:
        widest.legend(ncols=2, fontsize=8)
    return figure


def _same_scale(axes: list[Axes], columns: int) -> None:
    for start in range(0, len(axes), columns):
        drawn = [axis for axis in axes[start : start + columns] if axis.lines]
        for axis in drawn:
            axis.set_ylim(0, max(other.get_ylim()[1] for other in drawn))


def study(runs: pd.DataFrame, found: Effects, steps: pd.DataFrame) -> Figure:
    """Accuracy, speed and cost by number of spectral blocks. Accuracies: every seed a dot, means,
    and where `found` allows a verdict the interval of the difference to attention alone, whose mean
    is the dashed line. Times of a training step (`speeds`) with the middle half of the rounds.
    """
    done = comparable(runs)
    figure, (top1, time, macs, params) = panels(2, 2, height=4.4)
    for axis, label in (
        (top1, "top-1 (%)"),
        (time, "time of a step (ratio)"),
        (macs, "multiply-adds (M)"),
        (params, "parameters (M)"),
    ):
        axis.set(
            ylabel=label,
            xlabel="spectral blocks",
            xticks=list(steps.index),
            xlim=(steps.index.min() - 0.3, steps.index.max() + 0.3),
        )
    time.errorbar(
        steps.index,
        steps["ratio"],
        (steps["ratio"] - steps["low"], steps["high"] - steps["ratio"]),
        color=COLORS["orange"],
        marker="o",
        capsize=3,
    )
    time.set_ylim(0, 1.1 * steps["high"].max())
    if not len(done):
        for axis in (top1, macs, params):
            _not_run(axis)
        return figure
    _accuracies(top1, done, found)
    for axis, column, color in ((macs, "macs", "green"), (params, "params", "purple")):
        counted = done.groupby("blocks")[column].first().astype(float) / 1e6
        axis.plot(counted.index, counted, "o-", color=COLORS[color])
        axis.set_ylim(0, 1.1 * counted.max())
    return figure


def _accuracies(axis: Axes, done: pd.DataFrame, found: Effects) -> None:
    means = done.groupby("blocks")["top1"].mean()
    axis.plot(means.index, means, "o", color=COLORS["blue"])
    if found.decides:
        base = found.values[found.base].mean()
        axis.axhline(base, color=COLORS["grey"], linestyle="--", linewidth=1.2)
        for name, one in found.against.items():
            axis.errorbar(
                int(name),
                base + one.estimate,
                [[one.estimate - one.low], [one.high - one.estimate]],
                color=COLORS["blue"],
                marker="o",
                capsize=3,
                elinewidth=1.2,
            )
    axis.plot(
        done["blocks"], done["top1"], "o", color=COLORS["grey"], markersize=3, alpha=0.8, zorder=3
    )


def _not_run(axis: Axes) -> None:
    axis.text(0.5, 0.5, NOT_RUN, transform=axis.transAxes, ha="center", va="center")
    axis.set_yticks([])
    _bare(axis)


def _bare(axis: Axes) -> None:
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)
