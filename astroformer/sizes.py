"""The sizes of every network, by the name under which timm makes it, and the numbers that all
networks of a family share.

Beside the table nothing is needed to count parameters and operations (`counting.closed_forms`): no
network, no torch. Any other network of timm's has a name here, too, and no sizes (`checked_name`).
"""

import difflib
from functools import cache

# Astroformer
EXPANSION = 4  # hidden width of MBConv and MLP over the block's output width
HEAD_DIM = 32  # channels of one attention head

# The release (its timm/models/astroformer.py): stem width, widths and depths of S1..S4, stride of
# the stem. `astroformer_pico` is ours: about a million parameters for images of 32 to 64 pixels on
# a CPU; its stem keeps the resolution, so that S4 still sees a grid (4 x 4 at 64 pixels, where the
# release's strides leave 2 x 2).
ASTROFORMER = {
    "astroformer_pico": dict(
        stem_width=16, dims=(16, 32, 96, 192), depths=(1, 2, 3, 2), stem_stride=1
    ),
    "astroformer_0": dict(stem_width=64, dims=(96, 192, 384, 768), depths=(2, 3, 5, 2)),
    "astroformer_1": dict(stem_width=64, dims=(96, 192, 384, 768), depths=(2, 6, 14, 2)),
    "astroformer_2": dict(stem_width=128, dims=(128, 256, 512, 1024), depths=(2, 6, 14, 2)),
    "astroformer_3": dict(stem_width=192, dims=(192, 384, 768, 1536), depths=(2, 6, 14, 2)),
    "astroformer_4": dict(stem_width=192, dims=(192, 384, 768, 1536), depths=(2, 12, 28, 2)),
    "astroformer_5": dict(stem_width=192, dims=(256, 512, 1280, 2048), depths=(2, 12, 28, 2)),
}

# SpectFormer
# Sizes of the release (its vanilla_architecture/main_spectformer.py). It sets 6 heads everywhere; 4
# and 8 are ours, the numbers that keep 64 channels a head. Stochastic depth of the released
# trainings, which a recipe passes: 0, 0, 0.15, 0.25.
SPECTFORMER = {
    "spectformer_ti": dict(embed_dim=256, depth=12, num_heads=4),
    "spectformer_xs": dict(embed_dim=384, depth=12, num_heads=6),
    "spectformer_s": dict(embed_dim=384, depth=19, num_heads=6),
    "spectformer_b": dict(embed_dim=512, depth=19, num_heads=8),
}

# The hierarchical SpectFormer
MLP_RATIOS = (8, 8, 4, 4)  # hidden width of an MLP over the block's width, of each stage
SPECTRAL_STAGES = 2  # the first two
STEM_STRIDE = 4  # pixels per position in the first stage; each later one doubles it

# Sizes of the release (its hierarchical_architecture/spectformer.py). Stochastic depth of its
# configurations, which a recipe
# passes: 0.1, 0.1, 0.3. All published results were trained with token labels.
SPECTFORMER_H = {
    "spectformer_h_s": dict(
        stem_width=32, dims=(64, 128, 320, 448), depths=(3, 4, 6, 3), num_heads=(2, 4, 10, 14)
    ),
    "spectformer_h_b": dict(
        stem_width=64, dims=(64, 128, 320, 512), depths=(3, 4, 12, 3), num_heads=(2, 4, 10, 16)
    ),
    "spectformer_h_l": dict(
        stem_width=64, dims=(96, 192, 384, 512), depths=(3, 6, 18, 3), num_heads=(3, 6, 12, 16)
    ),
}

# ViT-CIFAR
# Sizes of the release (defaults of its main.py); it names the 8 patches of a row of 32 pixels, here
# it is their side in pixels.
VIT_CIFAR = {"vit_cifar": dict(dim=384, depth=7, heads=12, mlp_hidden=384, patch_size=4)}

# timm name -> sizes
MODELS: dict[str, dict] = {**ASTROFORMER, **SPECTFORMER, **SPECTFORMER_H, **VIT_CIFAR}

# Baselines
# What a user would take instead of the systems above, at the size of `astroformer_pico` (1.0 to 1.3
# million parameters) and for images of 32 to 64 pixels, and logistic regression as the floor. The
# layers are timm's; only the sizes are ours. Studies compare them; the claims are about MODELS.
BASELINES: dict[str, dict] = {
    "resnet18_narrow": dict(layers=(2, 2, 2, 2), channels=(24, 48, 96, 160)),
    "convnext_narrow": dict(depths=(2, 2, 4, 2), dims=(24, 48, 96, 192), patch_size=1),
    "vit_narrow": dict(embed_dim=144, depth=5, num_heads=3, patches=8),  # in a row of any image
    "logistic_8x8": dict(grid=8),  # rows to which an image is averaged
}

NAMES = (*MODELS, *BASELINES)

# Pixels, height and width, that a network takes when nothing else is asked for.
IMAGE_SIZE: dict[str, int] = {
    **dict.fromkeys(MODELS, 224),
    "astroformer_pico": 64,
    **dict.fromkeys((*VIT_CIFAR, *BASELINES), 32),
}


# Begins the name of any other network that timm knows: timm/resnet50, or timm/resnet50.a1_in1k with
# the tag of weights, by which timm describes the images that a network is used to.
TIMM = "timm/"
NEAR = 6  # names of timm's that an error lists


def checked_name(name: str, *, nearest_first: bool = False) -> str:
    """The name, if it is one of NAMES or of timm's, else a ValueError that lists NAMES, or those of
    timm's that are near. Only a name that begins with TIMM makes timm be imported, with torch.
    """
    if name.startswith(TIMM):
        return _checked_with_timm(name)
    if name not in NAMES:
        near = (
            difflib.get_close_matches(name, NAMES, n=len(NAMES), cutoff=0.6)
            if nearest_first
            else []
        )
        raise ValueError(
            f"model {name!r} is not known; choose one of "
            f"{', '.join(dict.fromkeys([*near, *NAMES]))}, or any network of timm's with {TIMM} "
            f"before its name, such as {TIMM}resnet50"
        )
    return name


@cache
def _checked_with_timm(name: str) -> str:
    import timm

    own = name.removeprefix(TIMM)
    network, _, tag = own.partition(".")
    if network in NAMES:
        raise ValueError(f"{network} is a network of this project; give its name without {TIMM}")
    known = timm.list_models()
    if network not in known:
        near = difflib.get_close_matches(network, known, n=NEAR, cutoff=0.6)
        listed = ", ".join(f"{TIMM}{one}" for one in near)
        raise ValueError(
            f"timm {timm.__version__} has no network {network!r}; "
            + (f"choose one of {listed}, or another" if near else "choose one")
            + " of timm.list_models()"
        )
    tags = {one.partition(".")[2] for one in timm.list_models(network, include_tags=True)}
    if tag and tag not in tags:
        there = ", ".join(sorted(tags - {""})) or "none"
        raise ValueError(f"{TIMM}{network} has no weights with the tag {tag!r}; it has {there}")
    return name
