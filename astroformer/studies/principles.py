"""The claims of principle, that one design is better than another, and what the studies allow to be
said of each.

They are rows of `book/claims.csv` (metric `comparison`): `value` is the sentence of the document,
`conditions` what is compared here. `board` gives each its verdict, in the words of `answers`, its
strongest number and the page that shows more. The rules of few_images, stability and augmentation
are those of their designs; those of the others stand below, and were written before their first
run.

Reads top to bottom: `board`, words, the few images, stability, augmentation, variations,
equivariance, and the table of claims.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import pandas as pd

from astroformer import contrasts
from astroformer.contrasts import Contrast
from astroformer.equivariance import network, trained
from astroformer.ledger import claims as reported
from astroformer.ledger import records
from astroformer.studies import augmentation, few_images, stability, variations
from astroformer.studies.answers import (
    CONTRADICTED,
    FEWEST,
    NOT_RUN,
    SAME,
    SUPPORTED,
    UNDECIDED,
    by_task,
    interval_of,
    signed,
)
from astroformer.studies.outcomes import Difference

COLUMNS = (
    *("system", "claim", "source", "compared", "verdict", "pilot", "number", "page"),
    *("brief", "short", "study"),
)
SMALLEST = 1.0  # percentage points; the smallest effect of interest of every design
# Of the eight parts of a recipe, by their titles in the design of augmentation, those that the
# methodology notes recommend; the other three are regional dropout.
STRONG = {
    "augmentation": ("Mixup", "RandAugment"),
    "regularization": ("stochastic depth", "label smoothing", "weight decay"),
}


@dataclass(frozen=True)
class Standing:
    """How it stands with a claim."""

    verdict: str
    number: str = ""  # the strongest one, with its interval and what it rests on
    pilot: bool = False  # fewer seeds than the design asks for
    brief: str = ""  # the number in a few words, where it is long

    def __post_init__(self):
        # the verdict waits for all seeds: many looks would find something by chance
        if self.pilot and self.verdict != NOT_RUN:
            object.__setattr__(self, "verdict", UNDECIDED)


@dataclass(frozen=True)
class Studies:
    """What the ledger holds of the studies under a profile; each is read once."""

    profile: str
    records: list[dict]

    @cached_property
    def few(self) -> few_images.Result:
        return few_images.result(self.profile, self.records)

    @cached_property
    def stable(self) -> stability.Result:
        return stability.result(self.profile, self.records)

    @cached_property
    def recipe(self) -> augmentation.Result:
        return augmentation.result(self.profile, self.records)

    def variations(self, name: str) -> variations.Result:
        return variations.result(name, self.profile, self.records)


@dataclass(frozen=True)
class Principle:
    """How a claim is judged; `short`: the claim in a few words; `page`: its name under book/, and
    `study`: the design whose runs decide, "" without one.
    """

    judge: Callable[[Studies], Standing]
    short: str
    page: str = ""
    study: str = ""


def board(
    profile: str = "cpu",
    found: list[dict] | None = None,
    claims: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Each claim of principle in the order of the file: COLUMNS.

    profile: of the studies' designs; each has verdicts of its own
    found: records of the ledger (`records.read()`)
    claims: as `claims.read()` gives them
    """
    rows = reported.of_principle(reported.read() if claims is None else claims)
    unknown = [one for one in rows["conditions"] if one not in PRINCIPLES]
    if unknown:
        raise ValueError(
            f"no study is named for the comparison {unknown[0]!r}; it stands in "
            "astroformer.studies.principles.PRINCIPLES first"
        )
    studies = Studies(profile, records.read() if found is None else found)
    told = []
    for row in rows.itertuples(index=False):
        principle = PRINCIPLES[row.conditions]
        standing = principle.judge(studies)
        source = f"{row.source}, {row.table}"
        told.append(
            (row.system, row.value, source, row.conditions, standing.verdict, standing.pilot)
            + (standing.number, principle.page)
            + (standing.brief or standing.number, principle.short, principle.study)
        )
    return pd.DataFrame(told, columns=list(COLUMNS))


# Words


def word(verdict: str, pilot: bool) -> str:
    """A verdict as a table prints it: "supported", "undecided (pilot)"."""
    return f"{verdict} (pilot)" if pilot and verdict != NOT_RUN else verdict


def counted(table: pd.DataFrame) -> str:
    """ "1 supported, 2 undecided (pilot), 9 not run": the verdicts of a board, "not run" last."""
    words = [word(*pair) for pair in zip(table["verdict"], table["pilot"])]
    order = sorted(dict.fromkeys(words), key=lambda one: one == NOT_RUN)
    return ", ".join(f"{words.count(one)} {one}" for one in order)


def untested(table: pd.DataFrame) -> str:
    """How much of a board waits for its runs, and for what there is no study, in sentences."""
    waiting = table[table["verdict"] == NOT_RUN]
    designed = int((waiting["page"] != "").sum())
    alone = list(waiting.loc[waiting["page"] == "", "compared"])
    said = []
    if designed:
        verb = (
            "has a design and waits for its"
            if designed == 1
            else "have a design and wait for their"
        )
        said.append(f"{designed} of {len(table)} comparisons {verb} runs.")
    if alone:
        said.append(f"No study asks about {'; '.join(alone)}.")
    return " ".join(said) or "Each comparison has runs."


def scale(profile: str = "cpu") -> str:
    """ "at 1.2 million parameters and 32 to 48 pixels, with 20 to 50 images a class": at which size
    the verdicts of a profile hold.
    """
    told = few_images.result(profile, []).where("low")
    return told[0].lower() + told[1:]


def verdict_of(differences: Sequence[Contrast], smallest: float = SMALLEST) -> str:
    """The word for a claim that holds if every one of some differences lies above 0: supported
    where all 95 % intervals do, contradicted where one lies below, no difference that matters where
    every 90 % interval lies within the smallest effect, else undecided.
    """
    if not all(math.isfinite(one.low) and math.isfinite(one.high) for one in differences):
        return UNDECIDED
    if all(one.low > 0 for one in differences):
        return SUPPORTED
    if any(one.high < 0 for one in differences):
        return CONTRADICTED
    same = all(contrasts.tost(one, smallest).p < 0.05 for one in differences)
    return SAME if same else UNDECIDED


def _points(found: Contrast, *also: str) -> str:
    """ "+1.2 points (95 % +0.3 to +2.1; 8 seeds)"; without an interval where none is known."""
    ends = f"95 % {signed(found.low)} to {signed(found.high)}"
    known = math.isfinite(found.low) and math.isfinite(found.high)
    evidence = "; ".join(filter(None, (ends if known else "no interval", *also)))
    return f"{signed(found.estimate)} points ({evidence})"


def _seeds(number: int, planned: int) -> str:
    """ "8 seeds", or "3 of 8 seeds" of a pilot."""
    return f"{number} of {planned} seeds" if number < planned else f"{number} seeds"


def _turned(found: Contrast) -> Contrast:
    """The other less the one."""
    return replace(found, estimate=-found.estimate, low=-found.high, high=-found.low)


# Few images


def _stacks(other: str, *, primary: bool = False) -> Callable[[Studies], Standing]:
    """C-C-C-T less another stack at the small number of images. The secondary ones are one family:
    what is not left of them after Holm's correction is undecided.
    """

    def judge(studies: Studies) -> Standing:
        study = studies.few
        first = study.design.told["primary"]["arms"][0]
        found = study.difference(first, other)
        if found is None:
            return Standing(NOT_RUN)
        answer = study.answer(first, other)
        number, verdict = _of_stacks(study, found, other), answer.verdict
        if not primary:
            name = f"{study.title(first)} less {study.title(other)}"
            verdict, number = _in_family(study, name, verdict, number)
        return Standing(verdict, number, answer.pilot)

    return judge


def _of_stacks(study: few_images.Result, found: Difference, other: str) -> str:
    each = min(len(pairs) for pairs in found.pairs.values())
    planned, sets = len(study.seeds("low", other)), len(found.pairs)
    apart = by_task(found)  # a mean alone would hide it
    of_sets = f"{sets} data set{'s' * (sets > 1)}" + (f" that disagree: {apart}" if apart else "")
    evidence = (_seeds(each, planned), of_sets)
    if each < FEWEST:
        return _points(replace(found.seeds, low=math.nan, high=math.nan), *evidence)
    return _points(interval_of(found), *evidence)


def _in_family(study: few_images.Result, name: str, verdict: str, number: str) -> tuple[str, str]:
    """The same, undecided where Holm's p of the family is 0.05 or more, which the number says."""
    table = study.secondary().set_index("comparison")
    p = float(table.loc[name, "p (Holm)"])
    if verdict not in (SUPPORTED, CONTRADICTED) or p < 0.05:
        return verdict, number
    return UNDECIDED, f"{number}; p = {p:.2f} with Holm's correction"


def _especially(studies: Studies) -> Standing:
    """The lead of C-C-C-T over C-C-T-T at the small number of images less that at the middle."""
    study = studies.few
    first, second = study.design.told["primary"]["arms"]
    found = study.interaction(first, second)
    if found is None:
        return Standing(NOT_RUN)
    tasks = len(study.design.tasks)
    planned = len(study.seeds("middle", second))
    each, pilot = found.n // tasks, found.n < planned * tasks
    name = f"{study.title(first)} less {study.title(second)}, small less middle"
    number = _points(found, _seeds(each, planned), f"{tasks} data sets")
    verdict, number = _in_family(study, name, verdict_of([found]), number)
    return Standing(UNDECIDED if each < FEWEST else verdict, number, pilot)


# Stability


def _stable(studies: Studies) -> Standing:
    """By the design's rule; the number is the ratio of the octaves of usable rates."""
    study = studies.stable
    answer = study.answer()
    if answer.verdict == NOT_RUN:
        return Standing(NOT_RUN)
    first, *others = study.arms
    runs = study.runs
    lost = ", ".join(
        f"{int(own['diverged'].sum())} of {len(own)} of {study.title(arm)}"
        for arm in study.arms
        if len(own := runs[runs["arm"] == arm])
    )
    ratios = [
        f"{2**one.estimate:.2f} times the octaves of usable rates of {study.title(other)} "
        f"(95 % {2**one.low:.2f} to {2**one.high:.2f})"
        for other in others
        if (one := study.wider(first, other)) is not None
    ]
    return Standing(
        answer.verdict, "; ".join([*ratios, f"without clipping {lost} diverged"]), answer.pilot
    )


# Augmentation


def _regional(studies: Studies) -> Standing:
    """By the design's rule; the number is what regional dropout does to galaxies beyond what it
    does to CIFAR-100.
    """
    study = studies.recipe
    answer = study.answer()
    galaxies, control = (study.fit(task) for task in study.design.tasks)
    if galaxies is None or control is None:
        return Standing(NOT_RUN)
    weights = dict.fromkeys(study.regional, 1 / len(study.regional))
    more = augmentation.interaction(galaxies, control, weights)
    number = (
        f"{_points(more, _seeds(min(galaxies.seeds, control.seeds), _planned(study)))}; on "
        f"galaxies themselves {_points(galaxies.of(weights))}"
    )
    return Standing(answer.verdict, number, answer.pilot)


def _strong(studies: Studies) -> Standing:
    """On galaxies, the mean effect of the parts that augment less that of the parts that
    regularize.
    """
    study = studies.recipe
    galaxies = study.fit(study.design.tasks[0])
    if galaxies is None:
        return Standing(NOT_RUN)
    factors = dict(study.design.told["factors"])
    letters = {factor["title"]: name for name, factor in factors.items()}
    weights = {
        letters[title]: sign / len(STRONG[kind])
        for kind, sign in (("augmentation", 1), ("regularization", -1))
        for title in STRONG[kind]
    }
    found, planned = galaxies.of(weights), _planned(study)
    return Standing(
        verdict_of([found]),
        _points(found, _seeds(galaxies.seeds, planned)),
        galaxies.seeds < planned,
    )


def _planned(study: augmentation.Result) -> int:
    return len({cell.seed for cell in study.cells if cell.stage == "factorial"})


# Variations


def _base_against(
    name: str, arms: Sequence[str], *, base_first: bool = True
) -> Callable[[Studies], Standing]:
    """The base of a study less each of some arms (or each of them less the base) on every data set,
    with Dunnett's intervals. All must lie above 0 for the claim to hold.
    """

    def judge(studies: Studies) -> Standing:
        study = studies.variations(name)
        base = study.design.told["base"]

        def differences(model: contrasts.Blocked) -> Mapping[str, Contrast]:
            against = model.against(base)
            if base_first:
                return {f"less {study.title(arm)}": _turned(against[arm]) for arm in arms}
            return {study.title(arm): against[arm] for arm in arms}

        return _of_variations(study, (base, *arms), differences)

    return judge


def _mixed(studies: Studies) -> Standing:
    """SpectFormers with both kinds of blocks, their mean, less those with one kind alone."""
    study = studies.variations("spectral_blocks_real")
    none, *some, every = study.design.arms
    mean = dict.fromkeys(some, 1 / len(some))

    def differences(model: contrasts.Blocked) -> Mapping[str, Contrast]:
        return {
            "less attention alone": model.combination(mean | {none: -1.0}),
            "less spectral blocks alone": model.combination(mean | {every: -1.0}),
        }

    return _of_variations(study, (none, *some, every), differences)


def _of_variations(
    study: variations.Result,
    arms: Sequence[str],
    differences: Callable[[contrasts.Blocked], Mapping[str, Contrast]],
) -> Standing:
    """The standing by the differences on every data set; undecided where one has too few runs."""
    others = tuple(set(arms) - {study.design.told.get("base")})
    if not study.table["arm"].isin(others).any():
        return Standing(NOT_RUN)  # the base alone is compared with nothing
    planned = len({cell.seed for cell in study.cells})
    seeds = min(len(study.values(tasks, list(arms))) for tasks in study.groups.values())
    found: dict[str, Contrast] = {}
    for title, tasks in study.groups.items():
        model = study.model(tasks)
        if model is None or model.freedom < variations.FREEDOM or set(arms) - set(model.arms):
            return Standing(UNDECIDED, f"too few runs on {title} to compare", True)
        found |= {f"{title}, {words}": one for words, one in differences(model).items()}
    number = "; ".join(f"{_points(one)} on {words}" for words, one in found.items())
    return Standing(
        verdict_of(list(found.values())), f"{number}; {_seeds(seeds, planned)}", seeds < planned
    )


# Equivariance


def _equivariant(studies: Studies) -> Standing:
    """The verdict of the page on equivariance, in its own word, from the trained networks that were
    measured and from attention alone. It is the same under every profile.
    """
    found = trained.changes(trained.read())
    if not len(found):
        return Standing(NOT_RUN)
    least, most = found["pixel low"].min(), found["pixel high"].max()
    brief = f"one pixel changes the logits by {least:.0f} to {most:.0f} %"
    return Standing(*trained.verdict(_checks(), found), brief=brief)


@lru_cache(maxsize=1)
def _checks() -> pd.DataFrame:
    """The same draws as on the page."""
    return network.attention_checks()


def _no_study(studies: Studies) -> Standing:
    return Standing(NOT_RUN)


PRINCIPLES: dict[str, Principle] = {
    "test accuracy of C-C-C-T less C-C-T-T, few images": Principle(
        _stacks("CCTT", primary=True),
        "C-C-C-T learns better from few images than C-C-T-T",
        *("few_images", "few_images"),
    ),
    "test accuracy of C-C-C-T less C-T-T-T, few images": Principle(
        _stacks("CTTT"),
        "C-C-C-T learns better from few images than C-T-T-T",
        *("few_images", "few_images"),
    ),
    "lead of C-C-C-T over C-C-T-T, few images less more images": Principle(
        _especially, "The lead of C-C-C-T grows as images become fewer", "few_images", "few_images"
    ),
    "test accuracy of C-C-C-T less C-C-C-C (no attention), few images": Principle(
        _stacks("CCCC"),
        "Attention in the last stage helps with few images",
        *("few_images", "few_images"),
    ),
    "usable learning rates of C-C-C-T against C-C-T-T and C-T-T-T, no clipping": Principle(
        _stable, "C-C-C-T trains more stably", "stability", "stability"
    ),
    "stable training with relative attention against attention without it": Principle(
        _no_study, "Relative attention makes training more stable"
    ),
    "effect of CutMix, Cutout and DropBlock on Galaxy Zoo 1 less that on CIFAR-100": Principle(
        _regional, "Regional dropout harms galaxies", "augmentation", "augmentation"
    ),
    "effect of Mixup and RandAugment on Galaxy Zoo 1 less that of regularization": Principle(
        _strong,
        "Strong augmentation helps more than strong regularization",
        *("augmentation", "augmentation"),
    ),
    "test accuracy with the position bias inside the softmax less that with it outside, and "
    "without it": Principle(
        _base_against("attention_form", ("outside", "none")),
        "A position bias inside the softmax helps attention",
        *("variations", "attention_form"),
    ),
    "change of the logits when the image moves": Principle(
        _equivariant, "Astroformer keeps translational equivariance", "equivariance"
    ),
    "test accuracy of a network equivariant by construction less the released one, few "
    "images": Principle(
        _base_against("equivariant", ("polyphase",), base_first=False),
        "Equivariance makes the network overfit less",
        *("variations", "equivariant"),
    ),
    "test accuracy with both kinds of blocks less that of spectral blocks alone, and of "
    "attention alone": Principle(
        _mixed,
        "Spectral and attention blocks together are better than either (SpectFormer)",
        *("variations", "spectral_blocks_real"),
    ),
}
