"""Pictures of equivariance: the error by shift, part by part, and what it is made of."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from astroformer.figures.style import COLORS, WIDTH, panels

FLOOR = 1e-16  # below the rounding of double precision: what is drawn as "none"


def heat_maps(errors: dict[str, pd.DataFrame], parts: tuple[str, ...]) -> Figure:
    """One row a network, one column a part: relative error by shift (dy downwards, dx to the right), logarithmic.

    `errors`: name -> as of analysis.equivariance.shift_errors, over a square grid of shifts.
    """
    figure, axes = panels(len(errors), len(parts), height=1.25 * len(errors) + 0.6)
    for i, (name, table) in enumerate(errors.items()):
        row, last = axes[i * len(parts):(i + 1) * len(parts)], i == len(errors) - 1
        for axis, part in zip(row, parts):
            of_part = table[table["part"] == part].pivot(index="dy", columns="dx", values="error")
            shown = axis.imshow(of_part.to_numpy().clip(FLOOR), norm=LogNorm(FLOOR, 1), cmap="magma",
                                extent=(*_edges(of_part.columns), *_edges(of_part.index)[::-1]))
            axis.grid(False)
            axis.set(xticks=(0, 16, 32), yticks=(0, 16, 32))
            axis.set_title(part if i == 0 else "")
            axis.set_xlabel("dx (px)" if last else "")
            axis.tick_params(labelsize=8, labelleft=axis is row[0], labelbottom=last)
        row[0].set_ylabel(f"{name}\ndy (px)", fontsize=9)
    figure.colorbar(shown, ax=axes, shrink=0.8, label="relative error", ticks=[1e-16, 1e-12, 1e-8, 1e-4, 1])
    return figure


def _edges(values: pd.Index) -> tuple[float, float]:
    half = (values[1] - values[0]) / 2
    return values[0] - half, values[-1] + half


def along_a_row(errors: dict[str, pd.DataFrame], part: str = "logits") -> Figure:
    """Relative error of one part against a shift to the right, for each network."""
    figure, (axis,) = panels(1, 1, height=3.2)
    for (name, table), color, marker in zip(errors.items(), COLORS.values(), "os^D"):
        line = table[(table["part"] == part) & (table["dy"] == 0)]
        axis.plot(line["dx"], line["error"].clip(FLOOR), marker=marker, markersize=4, color=color, label=name)
    axis.set(yscale="log", ylim=(FLOOR / 3, 3), xlabel="shift to the right (pixels)", ylabel=f"relative error of the {part}")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=4)
    return figure


def parts_of_the_error(table: pd.DataFrame) -> Figure:
    """What the squared error is made of, by a shift to the right; bars add up to the dots."""
    line = table[table["dy"] == 0]
    figure, (axis,) = panels(1, 1, height=3.2, width=WIDTH)
    up, down = np.zeros(len(line)), np.zeros(len(line))
    for name, color in (("strides", "blue"), ("padding", "orange"), ("bias table", "green"), ("remainder", "grey")):
        value = line[name].to_numpy()
        axis.bar(line["dx"], value, bottom=np.where(value >= 0, up, down), width=0.8 * (line["dx"].iloc[1] - line["dx"].iloc[0]),
                 color=COLORS[color], label=name)
        up, down = up + value.clip(0), down + value.clip(None, 0)
    axis.plot(line["dx"], line["all"], "o", color="black", markersize=4, label="all, as released")
    axis.set(xlabel="shift to the right (pixels)", ylabel="squared relative error of the logits")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=5, columnspacing=1.2, handlelength=1.2)
    return figure
