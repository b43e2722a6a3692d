"""Figures that answer to the pointer, and their pictures for print and for readers without scripts.

plotly's script is published once with the book (`astroformer/reproduce/stage.py`): no page asks
another host for it. Where it is not to be had, in a notebook or with scripts switched off, the
picture stays.
"""

import base64
import html
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    import plotly.graph_objects

SCRIPT = "../vendor/plotly/plotly.js"  # seen from _build/html/book/PAGE.html
CONFIG = {"responsive": True, "displaylogo": False}  # no button that leads to another host
BUTTONS = ("zoom2d", "pan2d", "resetScale2d", "toImage")
SHOW = """
const plot = document.getElementById("{plot_id}"), frame = plot.closest(".interactive");
frame.removeAttribute("style");
frame.parentElement.querySelector(".for-print").hidden = true;
Plotly.Plots.resize(plot);
plot.dispatchEvent(new Event("plotdrawn", {bubbles: true}));
"""


def use() -> None:
    """Loads plotly's script into the page; called once, before the first figure."""
    from IPython.display import HTML, display  # extras of the book, not of the library

    display(HTML(f'<script src="{SCRIPT}"></script>'))


@dataclass(frozen=True)
class Interactive:
    """The value of a page's cell: a plotly figure, the same as a picture, and what it shows in
    words.
    """

    name: str  # unique on its page
    figure: "plotly.graph_objects.Figure"
    picture: Figure
    alt: str
    buttons: tuple[str, ...] = BUTTONS  # of plotly's tool bar

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        """HTML for the book's pages, a PNG for whatever shows no HTML."""
        png = self.png()
        return {"text/html": self.html(png), "image/png": png, "text/plain": self.alt}

    def png(self) -> str:
        """The picture, base64."""
        buffer = io.BytesIO()
        self.picture.savefig(buffer, format="png", dpi=200)
        return base64.b64encode(buffer.getvalue()).decode()

    def html(self, png: str) -> str:
        """The picture, and the plot in a box without height that opens, and hides the picture,
        once it has been drawn.
        """
        plot = self.figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=self.name,
            default_height="auto",
            post_script=SHOW,
            auto_play=False,
            config=CONFIG | {"modeBarButtons": [list(self.buttons)]},
        )
        alt = html.escape(self.alt, quote=True)
        # the packed script is there a moment later than the figure
        plot = re.sub(
            r"(<script[^>]*>)(.*?)(</script>)",
            lambda found: f"{found[1]}window.plotlyReady?.then(() => {{{found[2]}}});{found[3]}",
            plot,
            flags=re.DOTALL,
        )
        return (
            f'<div><img class="for-print" alt="{alt}" src="data:image/png;base64,{png}">'
            f'<div class="interactive" role="group" aria-label="{alt}" style="height: 0; '
            f'overflow: hidden">{plot}</div></div>'
        )
