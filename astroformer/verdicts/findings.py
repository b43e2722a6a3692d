"""What is known about the three releases: the list of findings, each with its source and what is
run here to show it.

The demonstrations are functions of `astroformer.verdicts.demonstrations`; a finding without one is
quoted, and says so.
"""

from dataclasses import dataclass

import pandas as pd

from astroformer.ledger.claims import RELEASES, address

ASTROFORMER, SPECTFORMER, VIT_CIFAR = (
    f"{repository} at {commit[:7]}" for repository, commit in RELEASES.values()
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing found in a release; `shown` says what is run here, and is empty where it is only
    reported by others.

    where: files of the release with their lines, "path:line", or issues of it, "#6"
    """

    system: str
    statement: str
    source: str
    shown: str = ""
    where: tuple[str, ...] = ()

    def links(self) -> list[tuple[str, str]]:
        """(words, address) of each place of `where`."""
        return [
            (
                f"issue {place}" if place.startswith("#") else place.replace(":", ", line "),
                address(self.system, place),
            )
            for place in self.where
        ]

    @property
    def demonstrated(self) -> bool:
        return bool(self.shown)

    @property
    def status(self) -> str:
        return "demonstrated here" if self.demonstrated else "reported by others, not checked here"

    def _repr_markdown_(self) -> str:
        shown = f": {self.shown}" if self.shown else ""
        read = ", ".join(f"[{words}]({address})" for words, address in self.links())
        return (
            f"> {self.statement}\n>\n> *Source:* {self.source}"
            + (f" ({read})" if read else "")
            + f". *Status:* **{self.status}**{shown}."
        )


ALL = (
    Finding(
        system="Astroformer",
        statement="The released network is timm's MaxxVit with the block types C, C, C, T.",
        source=f"{ASTROFORMER}, pytorch-image-models/timm/models/astroformer.py",
        shown="names, shapes and number of all weights of the six variants against timm's own "
        "class",
        where=("pytorch-image-models/timm/models/astroformer.py:129",),
    ),
    Finding(
        system="Astroformer",
        statement="Only images of 224 pixels run: train.py never passes the image size to the "
        "network, so the "
        "README's own command for 256 pixels fails.",
        source=f"{ASTROFORMER}, train.py; issue #6 has the same at 32 pixels",
        shown="timm's network and ours, built for 224 pixels, are given other images",
        where=("pytorch-image-models/train.py:423", "#6"),
    ),
    Finding(
        system="Astroformer",
        statement="The README's learning rate follows from the global batch, so a re-run on "
        "fewer GPUs trains at "
        "another rate; and two options of its command do nothing.",
        source=f"{ASTROFORMER}, README, section Training; train.py; the re-run of issue #1",
        shown="the rates that the rule gives, and timm's schedule with and without the two options",
        where=("pytorch-image-models/train.py:503", "README.md:33", "#1"),
    ),
    Finding(
        system="Astroformer",
        statement="Every accuracy of the README is one run, without seed, spread, log or "
        "weights, and the public "
        "re-runs that name their model stay below it.",
        source=f"{ASTROFORMER}, README; issues #1 and #5; hyzlt7980/Astroformer-modifiy",
        where=("README.md:51", "#1", "#5"),
    ),
    Finding(
        system="Astroformer",
        statement="The README prints several parameter counts for one model name, depending "
        "on the data set.",
        source=f"{ASTROFORMER}, README, section Main Results",
        shown="the printed counts beside what the number of classes can change",
        where=("README.md:51",),
    ),
    Finding(
        system="Astroformer",
        statement="The file of Galaxy10 DECaLS has no official split, so an accuracy on it "
        "does not say on which "
        "images; and a rotation-equivariant network reports a higher one there.",
        source="astroNN, documentation of Galaxy10 DECals; arXiv:2311.01500",
    ),
    Finding(
        system="Astroformer",
        statement="The poster's proof sketch of translation equivariance adds a vector to the "
        "features; it moves no"
        " position.",
        source="Astroformer poster, section Theoretical Improvements",
        shown="both lines of the sketch, and a real shift of positions, in double precision",
    ),
    Finding(
        system="SpectFormer",
        statement="The README's parameters are not in every row those of the released network.",
        source=f"{SPECTFORMER}, vanilla_architecture/spectformer.py; README, Model Zoo",
        shown="the four counts in closed form",
        where=("vanilla_architecture/README.md:24", "vanilla_architecture/spectformer.py:180"),
    ),
    Finding(
        system="SpectFormer",
        statement="The released attention has 6 heads whatever its width, so two of the four "
        "networks raise at "
        "their first forward pass: this code as it stands cannot have trained the "
        "published ones.",
        source=f"{SPECTFORMER}, vanilla_architecture/spectformer.py, Block_attention",
        shown="the reshape into heads at each width",
        where=("vanilla_architecture/spectformer.py:122",),
    ),
    Finding(
        system="SpectFormer",
        statement="The README mixes best and last epochs of its training logs.",
        source=f"{SPECTFORMER}, vanilla_architecture/logs; README, Model Zoo",
        shown="the digits that the README prints beside those of the logs, both as they were "
        "published",
        where=(
            "vanilla_architecture/README.md:24",
            "vanilla_architecture/logs/spectformer-s/log.txt",
        ),
    ),
    Finding(
        system="SpectFormer",
        statement="The transfer script never passes the number of classes, so targets of 10 "
        "classes meet 1000 "
        "logits; and imports of the release fail on NumPy 2.",
        source=f"{SPECTFORMER}, vanilla_architecture/main_spectformer_transfer.py and "
        "spectformer.py",
        shown="the loss on such targets, and an import at the top of spectformer.py",
        where=(
            "vanilla_architecture/main_spectformer_transfer.py:247",
            "vanilla_architecture/spectformer.py:7",
        ),
    ),
    Finding(
        system="SpectFormer",
        statement="The hierarchical networks carry an auxiliary head for token labels, which "
        "the reported "
        "parameters include, and all of them learned from a stronger teacher.",
        source=f"{SPECTFORMER}, hierarchical_architecture/spectformer.py and README",
        where=(
            "hierarchical_architecture/spectformer.py:430",
            "hierarchical_architecture/README.md:42",
        ),
    ),
    Finding(
        system="SpectFormer",
        statement="The learning rate is that of the option times batch times GPUs over 512, "
        "so the README's command"
        " trains at twice the option's default.",
        source=f"{SPECTFORMER}, vanilla_architecture/main_spectformer.py; README, section Training",
        shown="the rates that the rule gives",
        where=("vanilla_architecture/main_spectformer.py:351",),
    ),
    Finding(
        system="ViT-CIFAR",
        statement="Attention is scaled by the root of the whole width, not of a head's; and "
        "GELU also follows the "
        "second linear layer of the MLP.",
        source=f"{VIT_CIFAR}, layers.py",
        shown="attention of random queries to random keys under both scales, and what GELU "
        "leaves of an output",
        where=("layers.py:33", "layers.py:18"),
    ),
    Finding(
        system="ViT-CIFAR",
        statement="The first epoch runs at learning rate 0, and the cosine ends above the "
        "last rate that the README"
        " gives.",
        source=f"{VIT_CIFAR}, main.py; README, section Hyperparams; the package warmup_scheduler",
        shown="the schedule, stepped as the release steps it",
        where=("main.py:84", "README.md:63"),
    ),
    Finding(
        system="ViT-CIFAR",
        statement="The README's results (2021-03-04) are older than the commit that made "
        "label smoothing take "
        "effect (2021-12-05), although its table lists smoothing; and that "
        "smoothing is not torch's.",
        source=f"{VIT_CIFAR}, criterions.py, README and history; issue #10",
        shown="the lowest loss that either smoothing can reach; dates and re-runs are reported",
        where=("criterions.py:16", "#10"),
    ),
    Finding(
        system="ViT-CIFAR",
        statement="The reported training time leaves most of the card idle.",
        source=f"{VIT_CIFAR}, README, section Results",
        shown="images a second and share of the card's peak, from the printed time",
        where=("README.md:31",),
    ),
)
FINDINGS: dict[int, Finding] = dict(enumerate(ALL, start=1))


def overview() -> pd.DataFrame:
    """Every finding in a line, as HTML: its number links to the target `finding-NUMBER` of the
    page.
    """
    return pd.DataFrame(
        [
            {
                "finding": f'<a href="#finding-{number}">{number}</a>',
                "system": finding.system,
                "shown": "here" if finding.demonstrated else "no, reported",
                "what was found": finding.statement,
            }
            for number, finding in FINDINGS.items()
        ]
    )
