"""Controls beside a figure, where somebody can move them; elsewhere the figure alone.

A page that is read in JupyterLab, Colab or VS Code gets sliders and menus of ipywidgets, which draw
the figure anew in the page's kernel. A page that papermill executes, and so the published book, has
nobody who could move them: it gets what the first choice draws.

Reads top to bottom: whether somebody is there, controls, what pages show with them.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from astroformer import machine
from astroformer.data import Images
from astroformer.figures import networks, sliding


def is_live() -> bool:
    """Whether a person reads the page while its kernel runs, and ipywidgets is installed."""
    return find_spec("ipywidgets") is not None and machine.is_open_notebook()


def controls(draw: Callable[..., Any], **choices: Sequence) -> Any:
    """What `draw` gives for the first of all choices; live, the same with a control for each of
    them: a slider for numbers, a menu for names.

    `draw` takes one value of each by its name, and gives what a cell shows.
    """
    for name, values in choices.items():
        if not len(values):
            raise ValueError(f"there is nothing to choose for {name}")
    if not is_live():
        return draw(**{name: values[0] for name, values in choices.items()})
    import ipywidgets
    from IPython.display import display

    def shown(**chosen) -> None:
        display(draw(**chosen))

    return ipywidgets.interactive(
        shown, **{name: _control(name, values) for name, values in choices.items()}
    )


def _control(name: str, values: Sequence):
    """Begins with the first value; numbers stand on their slider in their order."""
    import ipywidgets

    words = {"description": name.replace("_", " "), "value": values[0]}
    if all(isinstance(value, int) for value in values):
        # drawing takes longer than dragging
        return ipywidgets.SelectionSlider(options=sorted(values), continuous_update=False, **words)
    return ipywidgets.Dropdown(options=list(values), **words)


def attention(
    model: nn.Module,
    images: Images,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    numbers: Sequence[int],
) -> Any:
    """`networks.attention_over_image` of one of `numbers`, places in `images`."""

    def draw(image: int) -> Figure:
        return networks.attention_over_image(
            model, images.pixels[image], mean=list(mean), std=list(std)
        )

    return controls(draw, image=[int(number) for number in numbers])


def slide(
    pixels: np.ndarray,
    probabilities: sliding.Probabilities,
    shifts: Sequence[int],
    classes: Sequence[str],
) -> Any:
    """`sliding.sliding`; live, the position that a slider is at."""
    if not is_live():
        return sliding.sliding(pixels, probabilities, shifts, classes)
    order = [int(shift) for shift in shifts]

    def draw(shift: int) -> Figure:
        return sliding.at(pixels, probabilities, order, classes, shift)

    return controls(draw, shift=[0, *(one for one in order if one)])
