"""The search space of the audit: which configurations of the CoAtNet family are candidates, how
many changes each lies from a release, and what each costs.

A candidate is one choice on every axis of `AXES`. Options that touch no block of a candidate
(attention's in a network without attention, the inverted residual's in one without convolutions)
stay at the release's, so that no network is counted twice.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from astroformer.counting import closed_forms
from astroformer.counting.closed_forms import Counts
from astroformer.sizes import ASTROFORMER as VARIANTS

# Each axis with the choices tried; the first choice of an option is the release's. Widths and
# depths: the rows of CoAtNet's table (Dai et al. 2021; its models 6 and 7 mix two kinds of block in
# one stage and are left out) and of timm's CoAtNets.
#
# All axes came in one commit, with the first result of the search and after the printed counts had
# been copied into book/claims.csv: the history cannot tell which were chosen after a look at the
# numbers. Made-up tables are searched over the same axes, but an axis chosen because it explains a
# reported number favours the reported table. The page names those that are open to this.
AXES = {
    "widths": (
        (64, 64, 128, 256, 512),
        (64, 96, 192, 384, 768),
        (128, 128, 256, 512, 1024),
        # of the stem, S1, S2, S3, S4
        (192, 192, 384, 768, 1536),
        (192, 256, 512, 1280, 2048),
    ),
    "depths": ((2, 3, 5, 2), (2, 3, 7, 2), (3, 4, 6, 3), (2, 6, 14, 2), (2, 12, 28, 2)),
    "depth_steps": (0, -1, 1),  # blocks less or more than that, in each stage on its own
    # its first convolution as wide as its second, or half as wide (timm's)
    "stem": ("even", "narrow"),
    "stack": (
        "CCCT",
        *("".join(word) for word in itertools.product("CT", repeat=4) if "".join(word) != "CCCT"),
    ),
    "expand_output": (True, False),  # MBConv's hidden width from its output's width, or its input's
    "stride_mode": ("dw", "pool"),  # where MBConv strides: in the depthwise convolution, or before
    "kernel": (3, 5),  # side of MBConv's depthwise convolution
    "se": (True, False),  # squeeze-excitation
    "expand_first": (True, False),  # attention as wide as its output, or as its input
    "rel_bias": ("table", "mlp", "none"),
    "head_hidden": (True, False),  # a hidden layer before the classifier
    "num_classes": (10, 100, 200, 1000),
    "image_size": tuple(range(32, 385, 32)),  # pixels
}
CONV_AXES = ("expand_output", "stride_mode", "kernel", "se")
ATTENTION_AXES = ("expand_first", "rel_bias")
IN_WORDS = {
    ("stem", "narrow"): "narrow stem",
    ("se", False): "no squeeze-excitation",
    ("rel_bias", "none"): "no position bias",
    ("rel_bias", "mlp"): "position bias by an MLP",
    ("head_hidden", False): "no hidden layer in the head",
}
# Conventions of the search. Without norms, fvcore differs from macs by the few elements that are
# pooled: by less than a hundredth of the last digit that the README prints.
SEARCHED = tuple(name for name in closed_forms.CONVENTIONS if name != "fvcore_handlers_no_norm")
# what the conventions below need
FEATURES = ("params", "linear", "attention", "batch_norm", "layer_norm", "pooling")


@dataclass(frozen=True)
class Release:
    """A released network and what its row in a table says about it: the point from which changes
    are counted.
    """

    model: str  # a name of VARIANTS
    num_classes: int  # of the data set
    image_sizes: tuple[int, ...]  # pixels, those that the sources state

    @property
    def widths(self) -> tuple[int, ...]:
        return (VARIANTS[self.model]["stem_width"], *VARIANTS[self.model]["dims"])

    @property
    def depths(self) -> tuple[int, ...]:
        return VARIANTS[self.model]["depths"]


@dataclass(frozen=True)
class Space:
    """The candidates that `axes` spans. They come in blocks: an array over options (rows) and
    depths (columns) for each choice of widths and image size; stem, head and classes then add one
    number to a whole block.
    """

    axes: tuple[tuple[str, tuple], ...] = tuple(AXES.items())

    def __getitem__(self, axis: str) -> tuple:
        return dict(self.axes)[axis]

    @cached_property
    def sha256(self) -> str:
        """Of the axes and their choices: two searches with the same hash looked at the same
        candidates.
        """
        return hashlib.sha256(json.dumps(self.axes).encode()).hexdigest()

    @cached_property
    def options(self) -> list[dict]:
        """Every choice of stack and block options that is a network of its own."""
        found = []
        for stack in self["stack"]:
            convolution = list(itertools.product(*(self[axis] for axis in CONV_AXES)))
            attention = list(itertools.product(*(self[axis] for axis in ATTENTION_AXES)))
            for conv in convolution if "C" in stack else convolution[:1]:
                for attn in attention if "T" in stack else attention[:1]:
                    found.append(
                        {
                            "stack": stack,
                            **dict(zip(CONV_AXES, conv)),
                            **dict(zip(ATTENTION_AXES, attn)),
                        }
                    )
        return found

    @cached_property
    def depths(self) -> list[tuple[int, ...]]:
        """Every published row of depths with a step in each stage, at least one block a stage,
        each tuple once.
        """
        steps = list(itertools.product(self["depth_steps"], repeat=4))
        near = (tuple(d + s for d, s in zip(row, step)) for row in self["depths"] for step in steps)
        return sorted({depths for depths in near if min(depths) > 0})

    @cached_property
    def per_stage(self) -> list[tuple[list[dict], np.ndarray]]:
        """For each stage, the choices that matter there (its kind and that kind's options), and
        which of them each row of `options` makes: (options,).
        """
        found = []
        for i in range(4):
            keys = [
                tuple(
                    (axis, option[axis])
                    for axis in (CONV_AXES if option["stack"][i] == "C" else ATTENTION_AXES)
                )
                for option in self.options
            ]
            distinct = list(dict.fromkeys(keys))
            found.append(
                ([dict(key) for key in distinct], np.array([distinct.index(key) for key in keys]))
            )
        return found

    @cached_property
    def outer(self) -> list[dict]:
        """What adds the same to every candidate of a block."""
        names = ("stem", "head_hidden", "num_classes")
        return [
            dict(zip(names, choice))
            for choice in itertools.product(*(self[name] for name in names))
        ]

    @property
    def number_of_blocks(self) -> int:
        return len(self["widths"]) * len(self["image_size"])

    def __len__(self) -> int:
        return self.number_of_blocks * len(self.outer) * len(self.options) * len(self.depths)

    def blocks(self) -> Iterator["Block"]:
        for widths in self["widths"]:
            for image_size in self["image_size"]:
                yield Block(self, widths, image_size)

    def option_changes(self) -> np.ndarray:
        """(options,) how many options of each choice are not the release's; each stage of
        another kind is one change.
        """
        release = {axis: self[axis][0] for axis in (*CONV_AXES, *ATTENTION_AXES)}
        return np.array(
            [
                sum(option[axis] != value for axis, value in release.items())
                + sum(a != b for a, b in zip(option["stack"], self["stack"][0]))
                for option in self.options
            ]
        )

    def depth_changes(self, depths: tuple[int, ...]) -> np.ndarray:
        """(depths,) changes from these depths: another published row is one, each stage off that
        row by a block is one.
        """
        return np.array(
            [
                min(
                    (row != depths) + sum(a != b for a, b in zip(row, candidate))
                    for row in {*self["depths"], depths}
                    if max(abs(a - b) for a, b in zip(row, candidate)) <= 1
                )
                for candidate in self.depths
            ]
        )

    def outer_changes(
        self, release: Release, widths: tuple[int, ...], image_size: int, outer: dict
    ) -> int:
        return (
            (widths != release.widths)
            + (image_size not in release.image_sizes)
            + (outer["stem"] != self["stem"][0])
            + (outer["head_hidden"] != self["head_hidden"][0])
            + (outer["num_classes"] != release.num_classes)
        )


@dataclass(frozen=True)
class Block:
    """All candidates of one choice of widths and image size."""

    space: Space
    widths: tuple[int, ...]
    image_size: int

    @cached_property
    def body(self) -> np.ndarray:
        """(features, options, depths) the four stages of every candidate."""
        depths = np.array(self.space.depths)  # (depths, 4)
        total = np.zeros((len(FEATURES), len(self.space.options), len(depths)), dtype=np.int64)
        for i in range(4):
            first, more = self._stage(i)  # (features, options) each
            # 1 block, 2 blocks, ...
            by_depth = first[..., None] + more[..., None] * np.arange(depths[:, i].max())
            total += by_depth[..., depths[:, i] - 1]
        return total

    def _stage(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """(features, options) of the first block of stage i, which halves the grid, and of each
        further one.
        """
        dim, dim_out, side = self.widths[i], self.widths[i + 1], self.image_size // 2 ** (i + 1)
        choices, made = self.space.per_stage[i]
        first, more = [], []
        for choice in choices:
            kind = "C" if CONV_AXES[0] in choice else "T"
            one, two = (
                _vector(closed_forms.stage(kind, dim, dim_out, depth, side, **choice))
                for depth in (1, 2)
            )
            first.append(one)
            more.append(two - one)
        return np.stack(first, 1)[:, made], np.stack(more, 1)[:, made]

    def around(self, outer: dict) -> np.ndarray:
        """(features,) stem and head."""
        return _vector(
            closed_forms.stem(stem_widths(self.widths[0], outer["stem"]), self.image_size)
            + closed_forms.head(
                self.widths[-1],
                outer["num_classes"],
                (self.image_size // 32) ** 2,
                hidden=outer["head_hidden"],
            )
        )

    def configuration(self, outer: dict, option: int, depths: int) -> dict:
        """A candidate in words: every axis of `closed_forms.coatnet`."""
        return {
            "widths": self.widths,
            "depths": self.space.depths[depths],
            **self.space.options[option],
            **outer,
            "image_size": self.image_size,
        }


def stem_widths(width: int, stem: str) -> tuple[int, int]:
    """Of the stem's two convolutions."""
    return (width // 2 if stem == "narrow" else width, width)


def _vector(found: Counts) -> np.ndarray:
    return np.array([getattr(found, name) for name in FEATURES], dtype=np.int64)


def operations(features: np.ndarray) -> dict[str, np.ndarray]:
    """(features, ...) -> operations under each searched convention."""
    found = Counts(**dict(zip(FEATURES, features)))
    return {name: np.asarray(closed_forms.CONVENTIONS[name](found)) for name in SEARCHED}


def counted(configuration: dict) -> Counts:
    """A candidate's counts from its configuration, by the closed forms."""
    chosen = dict(configuration)
    width, *dims = chosen.pop("widths")
    return closed_forms.coatnet(stem_widths(width, chosen.pop("stem")), tuple(dims), **chosen)


def build(configuration: dict):
    """The same candidate as timm's network, on the meta device: what the closed forms are held
    to.
    """
    import torch
    from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitConvCfg, MaxxVitTransformerCfg

    width, *dims = configuration["widths"]
    cfg = MaxxVitCfg(
        embed_dim=tuple(dims),
        depths=configuration["depths"],
        block_type=tuple(configuration["stack"]),
        stem_width=stem_widths(width, configuration["stem"]),
        conv_cfg=MaxxVitConvCfg(
            expand_output=configuration["expand_output"],
            stride_mode=configuration["stride_mode"],
            kernel_size=configuration["kernel"],
            attn_layer="se" if configuration["se"] else "",
        ),
        transformer_cfg=MaxxVitTransformerCfg(
            expand_first=configuration["expand_first"],
            rel_pos_type={"table": "bias", "mlp": "mlp", "none": ""}[configuration["rel_bias"]],
        ),
        head_hidden_size=dims[-1] if configuration["head_hidden"] else None,
    )
    with torch.device("meta"):
        return MaxxVit(
            cfg, img_size=configuration["image_size"], num_classes=configuration["num_classes"]
        ).eval()


def changes_in_words(configuration: dict, release: Release) -> list[str]:
    """What a candidate has that the release has not, in words, such as "stack C-C-T-T"."""
    found = (
        [] if configuration["widths"] == release.widths else [f"widths {configuration['widths']}"]
    )
    if configuration["depths"] != release.depths:
        found.append(f"depths {configuration['depths']}")
    for axis in ("stem", "stack", *CONV_AXES, *ATTENTION_AXES, "head_hidden"):
        if configuration[axis] != AXES[axis][0]:
            said = "-".join(configuration[axis]) if axis == "stack" else configuration[axis]
            found.append(IN_WORDS.get((axis, configuration[axis]), f"{axis} {said}"))
    if configuration["num_classes"] != release.num_classes:
        found.append(f"{configuration['num_classes']} classes")
    if configuration["image_size"] not in release.image_sizes:
        found.append(f"{configuration['image_size']} pixels")
    return found
