"""Stack designs side by side: what passes from stage to stage, and where attention stands."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from astroformer.figures.style import COLORS, panels

WORDS = {
    "Stem": "stem",
    "MBConv": "convolution",
    "TransformerBlock": "attention",
    "NormMlpClassifierHead": "head",
}
FILLS = {"convolution": "#dbeafe", "attention": "#fde7c3"}
EDGES = {"convolution": COLORS["blue"], "attention": COLORS["orange"]}


def diagram(stacks: Mapping[str, pd.DataFrame]) -> Figure:
    """A column of boxes for each stack design, from the image to the logits: title ->
    `counting.shapes.stage_shapes`.
    """
    figure, axes = panels(1, len(stacks), height=5.6)
    for axis, (title, table) in zip(axes, stacks.items()):
        axis.set(xlim=(0, 1), ylim=(-len(table) + 0.1, 1.2), xticks=[], yticks=[])
        axis.set_title(title, fontsize=12, fontweight="bold")
        axis.grid(False)
        for spine in axis.spines.values():
            spine.set_visible(False)
        axis.text(0.5, 0.95, "image", ha="center", va="center", fontsize=10.5)
        for height, (name, row) in enumerate(table.iterrows()):
            kind = WORDS[row["kind"]]
            _box(axis, -height, kind, name, row)
            axis.annotate(
                "",
                (0.5, -height + 0.32),
                (0.5, -height + (0.83 if height == 0 else 0.68)),
                arrowprops={"arrowstyle": "-|>", "color": COLORS["grey"]},
            )
    return figure


def _box(axis, y: float, kind: str, name: str, row: pd.Series) -> None:
    box = FancyBboxPatch(
        (0.06, y - 0.3),
        0.88,
        0.6,
        boxstyle="round,pad=0.02,rounding_size=0.05",
        facecolor=FILLS.get(kind, "#f3f4f6"),
        edgecolor=EDGES.get(kind, COLORS["grey"]),
    )
    axis.add_patch(box)
    stage = name.partition(" ")[0]
    blocks = f", {row['blocks']} blocks" if row["blocks"] else ""
    first = kind if stage == "head" else f"{stage}: {kind}{blocks}"
    shape = row["output (C, H, W)"].replace(" x ", " × ")
    axis.text(0.5, y + 0.11, first, ha="center", va="center", fontsize=10.5)
    what = "logits" if stage == "head" else "out"
    axis.text(0.5, y - 0.14, f"{what}: {shape}", ha="center", va="center", fontsize=10)
