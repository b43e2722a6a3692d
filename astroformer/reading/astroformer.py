"""The tables of the page that reads the network: families of prior work, agreement with timm,
variants.
"""

import pandas as pd
import timm
import torch

from astroformer.counting.cost import model_cost
from astroformer.models import default_image_size
from astroformer.models.astroformer import VARIANTS
from astroformer.models.twins import timm_twin


def three_families(model: str, *, image_size: int) -> pd.DataFrame:
    """The poster's families of prior work as options of one network: what each costs for one
    image.
    """
    rows = {
        "gates on convolutions: C-C-C-C with CBAM": dict(stack="CCCC", attn_layer="cbam"),
        "convolutions replaced by self-attention: T-T-T-T": dict(stack="TTTT", rel_bias="none"),
        "attention with relative positions: C-C-T-T (CoAtNet)": dict(stack="CCTT"),
        "attention with relative positions: C-C-C-T (Astroformer)": dict(stack="CCCT"),
    }
    costs = {
        name: model_cost(model, image_size=image_size, num_classes=10, **options)
        for name, options in rows.items()
    }
    return pd.DataFrame(
        [
            {
                "parameters (M)": f"{cost['params'] / 1e6:.2f}",
                "multiply-adds (G)": f"{cost['macs'] / 1e9:.3f}",
            }
            for cost in costs.values()
        ],
        index=list(costs),
    )


@torch.inference_mode()
def parity_with_timm(model: str, *, image_size: int) -> pd.DataFrame:
    """Ours and timm's network with equal random weights on the same random images, in float64."""
    rows, stacks = [], ("CCCT", "CCTT", "CTTT")
    for stack in stacks:
        torch.manual_seed(0)
        ours = (
            timm.create_model(model, num_classes=10, img_size=image_size, stack=stack)
            .double()
            .eval()
        )
        theirs = timm_twin(model, stack=stack, image_size=image_size).double().eval()
        theirs.load_state_dict(ours.state_dict())
        images = torch.randn(2, 3, image_size, image_size, dtype=torch.float64)
        logits, expected = ours(images), theirs(images)
        rows.append(
            {
                "largest logit": f"{expected.abs().max():.3f}",
                "largest difference of logits": f"{(logits - expected).abs().max():.1e}",
            }
        )
    return pd.DataFrame(rows, index=["-".join(stack) for stack in stacks])


def variants(*, num_classes: int) -> pd.DataFrame:
    """Every Astroformer: sizes, parameters and multiply-adds at its own image size."""
    rows = []
    for name, sizes in VARIANTS.items():
        size = default_image_size(name)
        cost = model_cost(name, image_size=size, num_classes=num_classes)
        rows.append(
            {
                "stem": sizes["stem_width"],
                "widths": " ".join(map(str, sizes["dims"])),
                "depths": " ".join(map(str, sizes["depths"])),
                "pixels": size,
                "parameters (M)": f"{cost['params'] / 1e6:.2f}",
                "multiply-adds (G)": f"{cost['macs'] / 1e9:.2f}",
            }
        )
    return pd.DataFrame(rows, index=list(VARIANTS))
