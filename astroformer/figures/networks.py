"""What a network holds: learned bias tables by head, and where S4 looks in an image."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from astroformer.data.augment import normalise
from astroformer.figures.style import panels, picture
from astroformer.models.astroformer import RelativeAttention, RelativePositionBias


def bias_tables(model: nn.Module, *, heads: int = 4) -> Figure:
    """The relative position bias w of every attention block, a row a block, a column a head,
    centred on offset zero.
    """
    blocks = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, RelativePositionBias)
    ]
    heads = min(heads, *(module.relative_position_bias_table.shape[1] for _, module in blocks))
    figure, axes = panels(len(blocks), heads, height=1.4 * len(blocks) + 0.2)
    tables = [module.relative_position_bias_table.detach().cpu() for _, module in blocks]
    limit = max(float(table[:, :heads].abs().max()) for table in tables)
    for row, ((name, module), table) in enumerate(zip(blocks, tables)):
        height, width = module.grid_size
        for head in range(heads):
            axis = axes[row * heads + head]
            drawn = table[:, head].view(2 * height - 1, 2 * width - 1).numpy()
            extent = (-width + 0.5, width - 0.5, height - 0.5, -height + 0.5)
            axis.imshow(drawn, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=extent)
            axis.grid(False)
            axis.set(xticks=[-width + 1, 0, width - 1], yticks=[-height + 1, 0, height - 1])
            axis.tick_params(labelsize=7, length=2)
            if row == 0:
                axis.set_title(f"head {head}", fontsize=9)
            if head == 0:
                axis.set_ylabel(f"block {name.split('.')[3]}\noffset (positions)", fontsize=8)
    figure.colorbar(axes[0].images[0], ax=axes, shrink=0.8, label="bias w")
    return figure


@torch.inference_mode()
def attention_maps(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Attention weights of every block for a batch of normalised images: a list of (B, heads, N,
    N).
    """
    maps: list[torch.Tensor] = []

    def note(module: RelativeAttention, inputs: tuple[torch.Tensor], _) -> None:
        query, key, _ = module.heads(inputs[0])
        maps.append(module.weights(query, key).cpu())

    hooks = [
        module.register_forward_hook(note)
        for module in model.modules()
        if isinstance(module, RelativeAttention)
    ]
    try:
        model.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def attention_over_image(
    model: nn.Module, pixels: np.ndarray, *, mean: list[float], std: list[float]
) -> Figure:
    """An image (uint8 (H, W, 3)) and, for each block of S4, how much every position receives from
    all others on average.

    A value of 1 is what a position would get if all were treated alike.
    """
    maps = attention_maps(
        model, normalise(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None], mean, std)
    )
    grids = [
        module.rel_pos.grid_size
        for module in model.modules()
        if isinstance(module, RelativeAttention)
    ]
    figure, axes = panels(1, 1 + len(maps), height=2.1)
    picture(axes[0], pixels, "image")
    received = [m[0].mean((0, 1)) * m.shape[-1] for m in maps]
    limit = max(2.0, *(float(r.max()) for r in received))
    extent = (0, pixels.shape[1], pixels.shape[0], 0)
    for i, (values, grid) in enumerate(zip(received, grids)):
        picture(axes[1 + i], pixels, f"S4, block {i}", extent=extent)
        axes[1 + i].imshow(
            values.view(grid).numpy(), cmap="magma", alpha=0.65, vmin=0, vmax=limit, extent=extent
        )
    figure.colorbar(
        axes[-1].images[-1], ax=axes, shrink=0.85, label="attention\nreceived (1 = even)"
    )
    return figure
