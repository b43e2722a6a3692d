"""Accuracy against size, after the poster's figures 2 and 3: one drawing for the page, the same
for print.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from astroformer.figures.interactive import Interactive
from astroformer.figures.style import COLORS, panels

AXES = (
    ("params_reported", "params_counted", "parameters (millions)"),
    ("flops_reported", "macs_counted", "FLOPs as reported, multiply-adds as counted (billions)"),
)
GREY = COLORS["grey"]
REPORTED, COUNTED, MEASURED = (
    "at the reported count",
    "at the released network's count",
    "measured here",
)


def accuracy_against_size(name: str, points: pd.DataFrame) -> Interactive:
    """The figure of a page from `verdicts.scaling.points`; `name` becomes the plot's id in the
    page.
    """
    return Interactive(name, plot(points), picture(points), in_words(points))


def in_words(points: pd.DataFrame) -> str:
    """What the figure shows, for those who do not see it."""
    reported, measured = (points[points["kind"] == kind] for kind in ("reported", "measured"))
    said = ", ".join(
        f"{row.model} {row.accuracy:.2f} % at {row.params_reported:.2f} million "
        "parameters (counted "
        f"{row.params_counted:.2f}) and {row.flops_reported:.2f} billion FLOPs "
        f"(counted {row.macs_counted:.2f})"
        for row in reported.itertuples()
    )
    seen = ", ".join(
        f"{row.model} {row.accuracy:.2f} % at {row.params_counted:.2f} million parameters"
        for row in measured.itertuples()
    )
    return (
        f"Accuracy against parameters and against FLOPs. Reported: {said}. Measured: "
        f"{seen or 'none yet'}."
    )


def colors(points: pd.DataFrame) -> dict[str, str]:
    """A colour for each network; those reported come first and keep theirs when others are
    measured.
    """
    palette = [color for name, color in COLORS.items() if name != "grey"]
    return {
        model: palette[index % len(palette)] for index, model in enumerate(points["model"].unique())
    }


def short(model: str) -> str:
    """A-3 for astroformer_3; other names as they are."""
    family, _, variant = model.partition("_")
    return f"A-{variant}" if family == "astroformer" and variant.isdigit() else model


def span(values: pd.Series, *, log: bool) -> tuple[float, float]:
    """Limits with room for marks and labels."""
    low, high = values.min(), values.max()
    if log:
        room = (high / low) ** 0.1
        return low / room, high * room
    room = max(0.2 * (high - low), 0.3)
    return low - room, high + room


def ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis: about five, whatever its length."""
    steps = (1, 1.5, 2, 3, 5, 7) if high / low < 12 else (1, 3) if high / low < 300 else (1,)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [
        step * 10.0**power
        for power in powers
        for step in steps
        if low <= step * 10.0**power <= high
    ]


def picture(points: pd.DataFrame) -> Figure:
    """For print: two panels, one above the other."""
    figure, axes = panels(2, 1, height=5.6)
    color = colors(points)
    for axis, (reported, counted, label) in zip(axes, AXES):
        _panel(axis, points, color, reported, counted)
        axis.set(
            xlabel=label, ylabel="top-1 accuracy (%)", ylim=span(points["accuracy"], log=False)
        )
    none = "" if (points["kind"] == "measured").any() else ": none yet"
    mark = dict(linestyle="none", color=GREY, markersize=8)
    handles = [
        Line2D([], [], marker="o", fillstyle="none", markeredgewidth=1.8, label=REPORTED, **mark),
        Line2D(
            [],
            [],
            marker="D",
            fillstyle="none",
            markeredgewidth=1.8,
            label=COUNTED,
            **mark | {"markersize": 6.5},
        ),
        Line2D([], [], marker="o", label=MEASURED + none, **mark),
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, handletextpad=0.2, columnspacing=1.0
    )
    return figure


def _panel(
    axis: Axes, points: pd.DataFrame, color: dict[str, str], reported: str, counted: str
) -> None:
    claims, runs = (points[points["kind"] == kind] for kind in ("reported", "measured"))
    axis.plot(claims[reported], claims["accuracy"], ":", color=GREY, linewidth=1.2, zorder=1)
    for row in claims.to_dict("records"):
        x, own = (row[reported], row[counted]), color[row["model"]]
        axis.plot(x, [row["accuracy"]] * 2, color=own, linewidth=2, zorder=2)
        hollow = dict(markerfacecolor="white", markeredgecolor=own, markeredgewidth=2, zorder=3)
        axis.plot(x[0], row["accuracy"], "o", markersize=9, **hollow)
        axis.plot(x[1], row["accuracy"], "D", markersize=7, **hollow)
        axis.annotate(
            short(row["model"]),
            (x[0], row["accuracy"]),
            (0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=10,
        )
    axis.scatter(
        runs[counted], runs["accuracy"], s=70, c=[color[model] for model in runs["model"]], zorder=4
    )
    low, high = span(pd.concat([points[reported], points[counted]]), log=True)
    axis.set(xscale="log", xlim=(low, high))
    axis.xaxis.set_major_locator(FixedLocator(ticks(low, high)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def plot(points: pd.DataFrame):
    """For the page: a plotly figure whose marks say under the pointer where they come from."""
    import plotly.graph_objects as go  # an extra of the book, not of the library
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, vertical_spacing=0.17)
    color = colors(points)
    for row, (reported, counted, label) in enumerate(AXES, 1):
        figure.add_traces(
            _traces(go, points, color, reported, counted, legend=row == 1), rows=row, cols=1
        )
        low, high = span(pd.concat([points[reported], points[counted]]), log=True)
        round_numbers = ticks(low, high)
        figure.update_xaxes(
            type="log",
            range=[np.log10(low), np.log10(high)],
            tickvals=round_numbers,
            ticktext=[f"{tick:g}" for tick in round_numbers],
            title_text=label,
            title_standoff=6,
            row=row,
            col=1,
        )
        figure.update_yaxes(
            range=span(points["accuracy"], log=False),
            title_text="top-1 accuracy (%)",
            row=row,
            col=1,
        )
    lines = dict(gridcolor="rgba(128,136,150,0.25)", zeroline=False, title_font_size=13)
    figure.update_xaxes(**lines)
    figure.update_yaxes(**lines)
    figure.update_layout(
        template="none",
        height=600,
        margin=dict(l=55, r=15, t=30, b=110),
        dragmode=False,
        hovermode="closest",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font=dict(size=12, color="#374151", family="inherit"),
        legend=dict(
            orientation="h", x=0, xanchor="left", y=-0.13, yanchor="top", bgcolor="rgba(0,0,0,0)"
        ),
        modebar=dict(bgcolor="rgba(0,0,0,0)", color=GREY, activecolor=COLORS["sky"]),
        hoverlabel=dict(
            bgcolor="white", bordercolor=GREY, font=dict(color="#1f2937", size=12), align="left"
        ),
    )
    return figure


def _traces(
    go, points: pd.DataFrame, color: dict[str, str], reported: str, counted: str, *, legend: bool
) -> list:
    """The traces of one panel; a click on the legend hides a kind in both. Its grey marks are
    traces of their own.
    """
    claims, runs = (points[points["kind"] == kind] for kind in ("reported", "measured"))
    none = "" if len(runs) else ": none yet"
    traces = [
        go.Scatter(
            x=claims[reported].tolist(),
            y=claims["accuracy"].tolist(),
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=REPORTED,
            line=dict(color=GREY, dash="dot", width=1.5),
        )
    ]
    for claim in claims.to_dict("records"):
        traces.append(
            go.Scatter(
                x=[claim[reported], claim[counted]],
                y=[claim["accuracy"]] * 2,
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
                legendgroup=COUNTED,
                line=dict(color=color[claim["model"]], width=2.5),
            )
        )
    for rows, x, group, symbol, size, end in (
        (claims, reported, REPORTED, "circle-open", 13, ""),
        (claims, counted, COUNTED, "diamond-open", 12, ""),
        (runs, counted, MEASURED, "circle", 12, none),
    ):
        own = [color[model] for model in rows["model"]]
        names = group == REPORTED
        traces.append(
            go.Scatter(
                x=rows[x].tolist(),
                y=rows["accuracy"].tolist(),
                mode="markers+text" if names else "markers",
                showlegend=False,
                legendgroup=group,
                text=[short(model) for model in rows["model"]] if names else None,
                textposition="top center",
                marker=dict(symbol=symbol, size=size, color=own, line=dict(color=own, width=2.5)),
                hovertext=["<br>".join(lines) for lines in rows["hover"]],
                hoverinfo="text",
            )
        )
        if legend:
            traces.append(
                go.Scatter(
                    x=[None],
                    y=[None],
                    mode="markers",
                    name=group + end,
                    legendgroup=group,
                    marker=dict(
                        symbol=symbol, size=size - 2, color=GREY, line=dict(color=GREY, width=2)
                    ),
                )
            )
    return traces
