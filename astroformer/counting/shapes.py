"""What passes through a network: the shape after the stem, each stage and the head, with the
parameters of each.
"""

import pandas as pd
import torch
from torch import nn

from astroformer.models.astroformer import Astroformer


@torch.inference_mode()
def stage_shapes(model: Astroformer) -> pd.DataFrame:
    """One row for stem, stages and head: kind of block, blocks, shape of the output (C, H, W),
    parameters.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    parts: dict[str, nn.Module] = {
        "S0 (stem)": model.stem,
        **{f"S{i + 1}": stage for i, stage in enumerate(model.stages)},
        "head": model.head,
    }
    hooks = [
        part.register_forward_hook(
            lambda _, __, output, name=name: shapes.__setitem__(name, tuple(output.shape[1:]))
        )
        for name, part in parts.items()
    ]
    training = model.training
    try:
        model.eval()(torch.zeros(1, model.in_chans, *model.img_size))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return pd.DataFrame(
        [
            {
                "blocks": len(blocks) if blocks else "",
                "kind": type(blocks[0] if blocks else part).__name__,
                "output (C, H, W)": " x ".join(map(str, shapes[name])),
                "parameters": f"{sum(p.numel() for p in part.parameters()):,}",
            }
            for name, part in parts.items()
            for blocks in (getattr(part, "blocks", None),)
        ],
        index=list(parts),
    )
