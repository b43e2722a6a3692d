"""A galaxy that the reader slides across the frame, and what networks make of it there: one plot
for the page, one for print.

Reads top to bottom: the figure and its words, the plot with its slider, the picture.
"""

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from PIL import Image

from astroformer.figures.interactive import Interactive
from astroformer.figures.style import COLORS, WIDTH, panels
from astroformer.figures.style import picture as show

# Heights in pixels, from above: the tool bar, the galaxy, what moves it, a network in the legend, a
# class's name, one network's bar, the space below a class, ticks and the axis's title.
HEAD, IMAGE, SLIDER, KEY, LABEL, BAR, GAP, FOOT = 28, 230, 112, 20, 17, 10, 4, 45
INK = "#374151"  # of letters; the page's style sheet makes them light in its dark theme
PALE = 0.4  # opacity of the bars of classes that are not the predicted one
STRIP = 5  # positions in print
PLAY = 120  # milliseconds a position is shown while playing

Probabilities = dict[str, np.ndarray]  # network -> (S, K), a row for each shift


def sliding(
    pixels: np.ndarray,
    probabilities: Probabilities,
    shifts: Sequence[int],
    classes: Sequence[str],
    *,
    name: str = "sliding",
) -> Interactive:
    """The figure of a page. `pixels` (H, W, 3) uint8 is the image unmoved; `shifts` are pixels to
    the right, cyclic, 0 among them; `probabilities` has an array (shifts, classes) for each
    network; `name` becomes the plot's id in the page.
    """
    shifts = [int(shift) for shift in shifts]
    probabilities = {
        network: np.asarray(values, dtype=float) for network, values in probabilities.items()
    }
    _check(pixels, probabilities, shifts, classes)
    return Interactive(
        name,
        plot(pixels, probabilities, shifts, classes),
        picture(pixels, probabilities, shifts, classes),
        # its axes stay as they are
        in_words(probabilities, shifts, classes),
        buttons=("toImage",),
    )


def _check(
    pixels: np.ndarray, probabilities: Probabilities, shifts: Sequence[int], classes: Sequence[str]
) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"the image is {pixels.dtype} of shape {pixels.shape}; give the pixels "
            "as stored, uint8 of (H, W, 3)"
        )
    if 0 not in shifts or len(set(shifts)) < max(len(shifts), 2):
        raise ValueError(
            f"shifts {shifts}: give two or more, each once, 0 among them: the figure "
            "begins with the image unmoved"
        )
    if not probabilities:
        raise ValueError(
            "no network's probabilities; give an array (shifts, classes) for at least one"
        )
    for network, values in probabilities.items():
        if values.shape != (len(shifts), len(classes)):
            raise ValueError(
                f"probabilities of {network!r} have the shape {values.shape}; "
                f"{len(shifts)} shifts and "
                f"{len(classes)} classes need {(len(shifts), len(classes))}"
            )
        if not (np.all(values >= 0) and np.allclose(values.sum(1), 1, atol=1e-3)):
            raise ValueError(
                f"probabilities of {network!r} are negative or do not add up to 1 in "
                "each row; "
                "give the logits' softmax"
            )


def followed(probabilities: Probabilities, shifts: Sequence[int]) -> tuple[int, int]:
    """The class that the first network predicts for the image unmoved, and the one it holds
    second most probable.
    """
    unmoved = next(iter(probabilities.values()))[shifts.index(0)]
    first, second = np.argsort(-unmoved, kind="stable")[:2]
    return int(first), int(second)


def in_words(probabilities: Probabilities, shifts: Sequence[int], classes: Sequence[str]) -> str:
    """What the figure shows, for those who do not see it."""
    first, _ = followed(probabilities, shifts)
    said = []
    for network, values in probabilities.items():
        predicted = values.argmax(1)
        start = predicted[shifts.index(0)]
        said.append(
            f"{network}: predicts {classes[start]} for the image unmoved, another class at "
            f"{int((predicted != start).sum())} of {len(shifts)} shifts; its probability "
            f"of {classes[first]} lies "
            f"between {100 * values[:, first].min():.1f} % and "
            f"{100 * values[:, first].max():.1f} %"
        )
    return (
        f"A galaxy moved cyclically along its rows, by {min(shifts)} to {max(shifts)} pixels, "
        "and the class probabilities of "
        f"each network there. {'. '.join(said)}."
    )


def colors(probabilities: Probabilities) -> dict[str, str]:
    """A colour for each network."""
    palette = [color for name, color in COLORS.items() if name != "grey"]
    return {network: palette[index % len(palette)] for index, network in enumerate(probabilities)}


# For the page.


def png(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as the address of a PNG that carries itself."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def plot(
    pixels: np.ndarray, probabilities: Probabilities, shifts: Sequence[int], classes: Sequence[str]
):
    """A plotly figure with a frame for each shift: the galaxy above its slider, the bars below at
    full width, so that a phone shows whole names. The predicted class of each network is the bar in
    full colour.
    """
    import plotly.graph_objects as go  # an extra of the book, not of the library

    frames = [
        go.Frame(
            name=str(shift),
            traces=list(range(1 + len(probabilities))),
            data=_moving(
                go,
                np.roll(pixels, shift, axis=1),
                {network: values[row] for network, values in probabilities.items()},
                classes,
            ),
        )
        for row, shift in enumerate(shifts)
    ]
    bars = len(classes) * (LABEL + BAR * len(probabilities) + GAP)
    height = IMAGE + SLIDER + KEY * len(probabilities) + bars
    names = go.Scatter(
        x=[0] * len(classes),
        y=[k + 0.2 for k in range(len(classes))],
        text=list(classes),
        mode="text",
        textposition="middle right",
        textfont_size=12,
        hoverinfo="skip",
        showlegend=False,
        xaxis="x2",
        yaxis="y2",
    )
    legend = [
        go.Bar(
            x=[None],
            y=[None],
            name=network,
            marker_color=color,
            orientation="h",
            hoverinfo="skip",
            xaxis="x2",
            yaxis="y2",
        )
        for network, color in colors(probabilities).items()
    ]
    figure = go.Figure([*frames[shifts.index(0)].data, names, *legend], frames=frames)
    figure.update_layout(
        template="none",
        height=HEAD + height + FOOT,
        margin=dict(l=12, r=16, t=HEAD, b=FOOT),
        dragmode=False,
        barmode="overlay",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font=dict(size=12, color=INK, family="inherit"),
        xaxis=dict(visible=False, fixedrange=True, domain=[0, 1]),
        yaxis=dict(visible=False, fixedrange=True, domain=[1 - IMAGE / height, 1]),
        xaxis2=dict(
            anchor="y2",
            range=[0, 100],
            fixedrange=True,
            gridcolor="rgba(128,136,150,0.25)",
            zeroline=False,
            title=dict(text="probability (%)", standoff=4, font_size=13),
            tickvals=[0, 25, 50, 75, 100],
        ),
        yaxis2=dict(
            anchor="x2",
            range=[len(classes), 0],
            fixedrange=True,
            visible=False,
            domain=[0, bars / height],
        ),
        legend=dict(
            orientation="v",
            x=0,
            xanchor="left",
            y=bars / height,
            yanchor="bottom",
            bgcolor="rgba(0,0,0,0)",
            itemclick=False,
            itemdoubleclick=False,
        ),
        sliders=[_slider(shifts, 1 - IMAGE / height)],
        updatemenus=[_buttons(1 - IMAGE / height)],
        modebar=dict(bgcolor="rgba(0,0,0,0)", color=COLORS["grey"], activecolor=COLORS["sky"]),
    )
    return figure


def _moving(go, moved: np.ndarray, rows: Probabilities, classes: Sequence[str]) -> list:
    """What a frame replaces: the image, and one trace of bars for each network, whose rows (K,)
    are those of this shift.
    """
    traces = [go.Image(source=png(moved), hoverinfo="skip", xaxis="x", yaxis="y")]
    # of the unit that a class is high
    part, start = (pixels / (LABEL + BAR * len(rows) + GAP) for pixels in (BAR, LABEL))
    for place, (network, color) in enumerate(colors(rows).items()):
        percent = [round(100 * value, 2) for value in rows[network].tolist()]
        opacity = [PALE] * len(classes)
        opacity[int(rows[network].argmax())] = 1
        traces.append(
            go.Bar(
                x=percent,
                y=[round(k + start + part * (place + 0.5), 4) for k in range(len(classes))],
                width=round(0.9 * part, 4),
                orientation="h",
                xaxis="x2",
                yaxis="y2",
                showlegend=False,
                marker=dict(color=color, opacity=opacity, line_width=0),
                customdata=list(classes),
                hovertemplate=f"%{{customdata}}: %{{x}} %<extra>{network}</extra>",
            )
        )
    return traces


def _slider(shifts: Sequence[int], below: float) -> dict:
    steps = [
        dict(label=str(shift), method="animate", args=[[str(shift)], _at_once(0)])
        for shift in shifts
    ]
    return dict(
        active=shifts.index(0),
        steps=steps,
        x=0,
        len=1,
        xanchor="left",
        y=below,
        yanchor="top",
        pad=dict(t=16, l=8, r=8),
        currentvalue=dict(
            prefix="shift to the right: ", suffix=" px", offset=16, font=dict(size=13, color=INK)
        ),
        font=dict(size=10, color=INK),
        bgcolor="rgba(128,136,150,0.6)",
        activebgcolor=COLORS["sky"],
        borderwidth=0,
        tickcolor=COLORS["grey"],
    )


def _buttons(below: float) -> dict:
    """Play and stop, above the right end of the slider."""
    buttons = [
        dict(label=label, method="animate", args=args)
        for label, args in (
            ("▶", [None, _at_once(PLAY) | {"fromcurrent": True}]),
            ("◼", [[None], _at_once(0)]),
        )
    ]
    return dict(
        type="buttons",
        direction="right",
        buttons=buttons,
        showactive=False,
        x=1,
        xanchor="right",
        y=below,
        yanchor="top",
        pad=dict(t=8, r=8),
        font=dict(size=12, color=COLORS["grey"]),
        bgcolor="white",
        bordercolor=COLORS["grey"],
    )


def _at_once(duration: int) -> dict:
    """Frames of so many milliseconds without anything between; an image is only exchanged when
    all is drawn again.
    """
    return {
        "mode": "immediate",
        "frame": {"duration": duration, "redraw": True},
        "transition": {"duration": 0},
    }


# For print.


def picture(
    pixels: np.ndarray, probabilities: Probabilities, shifts: Sequence[int], classes: Sequence[str]
) -> Figure:
    """Some of the positions; below, against the shift, each network's probability of the two
    classes that it begins with.
    """
    order = np.argsort(shifts)
    chosen = [
        shifts[order[round(i)]] for i in np.linspace(0, len(shifts) - 1, min(STRIP, len(shifts)))
    ]
    figure, axes = panels(1, 1, height=5.6, width=WIDTH)
    axes[0].remove()
    grid = GridSpec(3, len(chosen), figure=figure, height_ratios=(1, 1.5, 1.5))
    for column, shift in enumerate(chosen):
        show(figure.add_subplot(grid[0, column]), np.roll(pixels, shift, axis=1), f"{shift} px")
    x = [shifts[row] for row in order]
    room = 0.015 * (x[-1] - x[0])  # for the outermost marks
    for row, label in enumerate(followed(probabilities, shifts), 1):
        axis = figure.add_subplot(grid[row, :])
        for (network, color), marker in zip(colors(probabilities).items(), "os^Dvp*"):
            axis.plot(
                x,
                100 * probabilities[network][order, label],
                color=color,
                marker=marker,
                markersize=4,
                label=network,
            )
        axis.set(ylabel="probability (%)", ylim=(-4, 104), xlim=(min(x) - room, max(x) + room))
        axis.set_title(classes[label], loc="left")
    axis.set_xlabel("shift to the right (pixels)")
    figure.legend(
        *axis.get_legend_handles_labels(), loc="outside lower center", ncols=len(probabilities)
    )
    return figure


def at(
    pixels: np.ndarray,
    probabilities: Probabilities,
    shifts: Sequence[int],
    classes: Sequence[str],
    shift: int,
) -> Figure:
    """One position: the galaxy there, and each network's probability of every class."""
    row = list(shifts).index(shift)
    figure, (image, bars) = panels(1, 2, height=3.4)
    show(image, np.roll(pixels, shift, axis=1), f"{shift} px to the right")
    places = np.arange(len(classes))
    thick = 0.8 / len(probabilities)
    for number, (network, color) in enumerate(colors(probabilities).items()):
        values = 100 * probabilities[network][row]
        bars.barh(places + number * thick, values, thick, color=color, label=network)
    middle = places + thick * (len(probabilities) - 1) / 2
    bars.set_yticks(middle, classes)
    bars.invert_yaxis()
    bars.set(xlim=(0, 100), xlabel="probability (%)")
    bars.legend(loc="lower right")
    return figure
