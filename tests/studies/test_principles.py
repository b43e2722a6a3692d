"""The board of the claims of principle: what is said follows from the runs, in both directions, and
nothing is said without them.
"""

import math

import numpy as np
import pandas as pd
import pytest

from astroformer import contrasts, paths
from astroformer.figures import findings
from astroformer.ledger import claims
from astroformer.studies import principles
from astroformer.studies.augmentation import factorial
from astroformer.studies.principles import PRINCIPLES, Studies, verdict_of

FEW = "test accuracy of C-C-C-T less C-C-T-T, few images"
CTTT = "test accuracy of C-C-C-T less C-T-T-T, few images"
ESPECIALLY = "lead of C-C-C-T over C-C-T-T, few images less more images"
HYBRID = "test accuracy of C-C-C-T less C-C-C-C (no attention), few images"
STABLE = "usable learning rates of C-C-C-T against C-C-T-T and C-T-T-T, no clipping"
REGIONAL = "effect of CutMix, Cutout and DropBlock on Galaxy Zoo 1 less that on CIFAR-100"
STRONG = "effect of Mixup and RandAugment on Galaxy Zoo 1 less that of regularization"
FORM, EQUIVARIANT, MIXED = (
    next(name for name in PRINCIPLES if words in name)
    for words in ("position bias", "by construction", "both kinds")
)


@pytest.fixture(scope="module")
def empty():
    return principles.board(found=[])


def judged(studies, compared):
    return PRINCIPLES[compared].judge(studies)


# the board


def test_every_claim_of_principle_is_on_the_board_and_every_test_is_of_a_claim(empty):
    rows = claims.of_principle(claims.read())
    assert empty["compared"].tolist() == rows["conditions"].tolist()
    assert empty["claim"].tolist() == rows["value"].tolist()
    assert set(PRINCIPLES) == set(rows["conditions"])
    for page in set(empty["page"]) - {""}:
        assert (paths.BOOK / f"{page}.ipynb").is_file()


def test_without_runs_all_is_not_run_and_equivariance_has_the_verdict_of_its_page(empty):
    studied = empty[empty["page"] != "equivariance"]
    assert set(studied["verdict"]) == {"not run"} and set(studied["number"]) == {""}
    moved = empty[empty["page"] == "equivariance"].iloc[0]
    found = principles.trained.changes(principles.trained.read())
    told = principles.trained.verdict(principles.network.attention_checks(), found)
    assert (moved["verdict"], moved["number"]) == told


def test_what_is_not_tested_is_said_with_the_claims_that_no_study_asks_about(empty):
    told = principles.untested(empty)
    assert told.startswith(f"{len(empty) - 2} of {len(empty)} comparisons have a design and wait")
    assert told.endswith("No study asks about stable training with relative attention against "
                         "attention without it.")  # fmt: skip
    assert principles.untested(empty.assign(verdict="supported")) == "Each comparison has runs."
    one = empty[empty["compared"] == FEW]
    told = "1 of 1 comparisons has a design and waits for its runs."
    assert principles.untested(one) == told
    assert principles.scale().startswith("at 1.2 million parameters and 32 to 48 pixels, with 20")


def test_the_board_is_counted_with_pilots_apart_and_not_run_last():
    table = pd.DataFrame(
        {
            "verdict": ["not run", "supported", "undecided", "not run", "undecided", "supported"],
            "pilot": [True, False, True, False, True, True],
        }
    )
    assert principles.counted(table) == (
        "1 supported, 2 undecided (pilot), 1 supported (pilot), 2 not run"
    )


def test_a_claim_that_nobody_tests_is_refused_by_name():
    unknown = claims.read().assign(conditions="beauty of one less the other")
    with pytest.raises(ValueError, match="named for the comparison 'beauty of one"):
        principles.board(found=[], claims=unknown)


def test_the_board_is_html_in_which_a_sentence_stands_once_and_a_page_is_linked(empty):
    text = findings.board(empty).data
    quoted = [f"“{findings.escape(sentence)}”".replace("C-C", "") for sentence in empty["claim"]]
    for one in dict.fromkeys(quoted):
        assert findings.re.sub("<[^>]+>", "", text).replace("C-C", "").count(one) == 1
    assert text.count('href="few_images.html"') == 4 and text.count(">none<") == 1
    assert text.count("<th>claim</th>") == text.count("<th>compared here</th>") == 1
    marked = findings.board(empty.assign(number="a < b & c", pilot=True, verdict="undecided"))
    assert "a &lt; b &amp; c" in marked.data and "undecided (pilot)" in marked.data


# the rule


def difference(low, high):
    middle, error = (low + high) / 2, (high - low) / 2 / 1.959964
    return contrasts.Contrast(middle, low, high, 0.5, 8, freedom=1e6, error=error)


@pytest.mark.parametrize(
    "ends, word",
    [
        ([(0.1, 3)], "supported"),
        ([(0.1, 3), (0.2, 1)], "supported"),
        ([(0.1, 3), (-0.2, 1)], "undecided"),
        ([(0.1, 3), (-3, -0.1)], "contradicted"),
        ([(-0.5, 0.5), (-0.4, 0.6)], "no difference that matters"),
        ([(-0.5, 0.5), (-1.4, 1.6)], "undecided"),
        ([(-1.02, 1.02)], "no difference that matters"),  # its 90 % interval lies within 1 point
        ([(math.nan, math.nan), (0.1, 3)], "undecided"),
    ],
)
def test_every_difference_of_a_claim_must_hold(ends, word):
    assert verdict_of([difference(*pair) for pair in ends]) == word


# few images


def stacks(lead, *, seeds=range(10, 18), middle=0.0):
    """Studies with made-up outcomes: C-C-C-T is `lead` points better than the other stacks with
    attention at few images, `middle` points at more.
    """
    studies, random = Studies("cpu", []), np.random.default_rng(0)
    behind = {
        "low": {"CCCT": 0.0, "CCTT": lead, "CTTT": lead, "CCCC": 0.0},
        "middle": {"CCCT": 0.0, "CCTT": middle, "CTTT": middle},
    }
    rows = [
        {"stage": stage, "task": task, "arm": arm, "seed": seed, "diverged": False,
         "value": 50 - worse + random.normal(0, 0.5), "train": 90 + random.normal(0, 0.5),
         "run": "none"}
        for stage, arms in behind.items()
        for task in studies.few.design.tasks
        for seed in seeds
        for arm, worse in arms.items()
    ]  # fmt: skip
    studies.few.__dict__["table"] = pd.DataFrame(rows)
    return studies


def test_a_lead_is_supported_and_one_behind_contradicted_with_the_number_of_the_study():
    for lead, word in ((4, "supported"), (-4, "contradicted")):
        studies = stacks(lead)
        found = judged(studies, FEW)
        seeds = studies.few.difference("CCCT", "CCTT").seeds
        assert (found.verdict, found.pilot) == (word, False) == (
            studies.few.primary.verdict, studies.few.primary.pilot
        )  # fmt: skip
        assert found.number == principles._points(seeds, "8 seeds", "3 data sets")
        assert judged(studies, CTTT).verdict == word


def test_fewer_seeds_are_a_pilot_and_two_decide_nothing():
    found = judged(stacks(4, seeds=(10, 11, 12)), FEW)
    assert found.pilot and found.verdict == "undecided" and "3 of 8 seeds" in found.number
    two = judged(stacks(4, seeds=(10, 11)), FEW)
    assert (two.verdict, two.pilot) == ("undecided", True)
    assert "no interval; 2 of 8 seeds; 3 data sets" in two.number and "%" not in two.number
    assert judged(stacks(4, seeds=(10,)), FEW).verdict == "not run"


def test_especially_in_low_data_is_another_claim_than_a_lead_there():
    alike, less = judged(stacks(4, middle=4), ESPECIALLY), judged(stacks(4), ESPECIALLY)
    assert less.verdict == "supported" and alike.verdict != "supported"
    assert less.pilot is False  # eight seeds of five
    few = judged(stacks(4, seeds=(10, 11)), ESPECIALLY)
    assert (few.verdict, few.pilot) == ("undecided", True)
    assert judged(stacks(-4), ESPECIALLY).verdict == "contradicted"


@pytest.mark.parametrize("lead, verdict", [(0.5, "undecided"), (1.0, "supported")])
def test_a_secondary_comparison_must_outlive_holms_correction(lead, verdict):
    """At a lead of 0.5 its own interval is above 0 (p = 0.02), and the family does not let it
    pass.
    """
    studies = stacks(4)
    table = studies.few.table
    first = table[table["arm"] == "CCCT"].set_index(["stage", "task", "seed"])["value"]
    spread = np.resize([-1.0, 1.0], len(table))  # by seed, so that differences have an sd of 1
    for arm in ("CTTT", "CCCC"):
        mine = table["arm"] == arm
        keys = pd.MultiIndex.from_frame(table.loc[mine, ["stage", "task", "seed"]])
        table.loc[mine, "value"] = first[keys].to_numpy() - lead - spread[: mine.sum()]
    for other, compared in (("CTTT", CTTT), ("CCCC", HYBRID)):
        assert studies.few.answer("CCCT", other).verdict == "supported"
        found = judged(studies, compared)
        assert found.verdict == verdict
        assert ("with Holm's correction" in found.number) == (verdict == "undecided")


# stability


def rates(wide, *, seeds=(10, 11, 12)):
    """Arm -> octaves on either side of the best rate after which accuracy falls steeply."""
    studies, random = Studies("cpu", []), np.random.default_rng(0)
    rows = [
        {"arm": arm, "seed": seed, "rate": 1e-3 * 2**k, "diverged": abs(k - 2.5) > half + 1,
         "value": 30 - 20 * max(0, abs(k - 2.5) - half) + random.normal(0, 0.2)}
        for arm, half in wide.items() for seed in seeds for k in range(6)
    ]  # fmt: skip
    studies.stable.__dict__["runs"] = pd.DataFrame(rows)
    return studies


def test_stability_has_the_verdict_of_its_study_with_its_ratios_and_what_diverged():
    narrow = {"CCCT": 2.0, "CCTT": 1.0, "CTTT": 1.0}
    studies = rates(narrow)
    found = judged(studies, STABLE)
    assert found.verdict == studies.stable.answer().verdict == "supported" and not found.pilot
    ratio = 2 ** studies.stable.wider("CCCT", "CCTT").estimate
    assert f"{ratio:.2f} times the octaves of usable rates of C-C-T-T" in found.number
    assert "without clipping 0 of 18 of C-C-C-T, 6 of 18 of C-C-T-T, 6 of 18" in found.number
    other = {"CCCT": 1.0, "CCTT": 2.0, "CTTT": 1.0}
    assert judged(rates(other), STABLE).verdict == "contradicted"
    few = judged(rates(narrow, seeds=(10,)), STABLE)
    assert (few.verdict, few.pilot) == ("undecided", True) and "octaves" not in few.number


# augmentation


def recipes(galaxies, control, *, seeds=(10, 11), sd=0.5):
    """Letter -> effect of that factor, on galaxies and on CIFAR-100."""
    studies, random = Studies("cpu", []), np.random.default_rng(1)
    study = studies.recipe
    rows = [
        {"task": task, "seed": seed, "value": 60 + random.normal(0, sd)
         + sum(effects.get(name, 0) / 2 * level for name, level in run.items()), **run}
        for task, effects in zip(study.design.tasks, (galaxies, control))
        for seed in seeds
        for run in factorial(study.design.told["factors"])
    ]  # fmt: skip
    study.__dict__["table"] = pd.DataFrame(rows)
    return studies


def test_harm_on_galaxies_beyond_that_on_cifar_supports_the_warning():
    harm = dict.fromkeys("FGH", -4)
    studies = recipes(harm, {})
    found = judged(studies, REGIONAL)
    assert found.verdict == studies.recipe.answer().verdict == "supported"
    assert found.number.startswith(("−3.", "−4.")) and "galaxies themselves −" in found.number
    assert judged(recipes(harm, harm), REGIONAL).verdict == "undecided"
    assert judged(recipes(dict.fromkeys("FGH", 4), {}), REGIONAL).verdict == "contradicted"


def test_augmentation_is_held_against_regularization_on_galaxies_alone():
    strong, regular = dict.fromkeys("AB", 4), dict.fromkeys("CDE", 4)
    found = judged(recipes(strong, regular), STRONG)
    assert found.verdict == "supported" and found.number.startswith(("+3.", "+4."))
    assert judged(recipes(regular, strong), STRONG).verdict == "contradicted"
    # what both give, what regional dropout takes and what CIFAR-100 gains is no part of it
    plain = judged(recipes({}, {}), STRONG)
    both = judged(recipes(strong | regular | dict.fromkeys("FGH", -8), strong), STRONG)
    assert both == plain and plain.verdict not in ("supported", "contradicted")


# variations


def varied(name, effects, *, seeds=5, sd=0.5):
    """Studies of which one has made-up outcomes: arm -> its effect in points."""
    studies, random = Studies("cpu", []), np.random.default_rng(0)
    study = studies.variations(name)
    rows = [
        {"stage": "low", "task": task, "arm": arm, "seed": seed, "train": 90.0, "diverged": False,
         "value": 50 + block + effect + random.normal(0, sd), "run": "none"}
        for task in study.design.tasks
        for seed, block in enumerate(random.normal(0, 3, seeds))
        for arm, effect in effects.items()
    ]  # fmt: skip
    study.__dict__["table"] = pd.DataFrame(rows)
    one = type(study)(study.design, study.profile, study.found, made_cells(study))
    one.__dict__["table"] = study.table
    return type("Made", (Studies,), {"variations": lambda self, asked: one})("cpu", [])


def made_cells(study):
    """The runs that the design asks for when every rate is tuned."""
    from astroformer.studies import variations
    from astroformer.studies.price import Pretended

    return tuple(variations.cells(study.design, study.profile, Pretended()))


def test_the_bias_inside_must_beat_both_other_forms_on_both_data_sets():
    better = {"inside": 0, "outside": -4, "none": -4, "cbam": 4}
    found = judged(varied("attention_form", better), FORM)
    assert (found.verdict, found.pilot) == ("supported", False)
    assert found.number.count("points (95 %") == 4 and found.number.endswith("; 5 seeds")
    assert "CBAM" not in found.number
    one = judged(varied("attention_form", better | {"none": 0}), FORM)
    assert one.verdict == "undecided"
    assert judged(varied("attention_form", better | {"none": 4}), FORM).verdict == "contradicted"
    few = judged(varied("attention_form", better, seeds=2), FORM)
    assert (few.verdict, few.pilot) == ("undecided", True) and few.number.startswith("too few runs")
    pilot = judged(varied("attention_form", better, seeds=4), FORM)
    assert pilot.pilot and pilot.verdict == "undecided"
    assert pilot.number.endswith("; 4 of 5 seeds")


def test_equivariance_by_construction_is_held_against_the_released_network():
    arms = {"released": 0, "circular": 0, "blur": 0, "polyphase": 4}
    found = judged(varied("equivariant", arms), EQUIVARIANT)
    assert found.verdict == "supported" and found.number.count("points") == 2
    assert found.number.startswith(("+3.", "+4."))
    other = judged(varied("equivariant", arms | {"polyphase": -4}), EQUIVARIANT)
    assert other.verdict == "contradicted"


def test_both_kinds_of_blocks_must_beat_each_kind_alone():
    arms = {str(number): 0.0 for number in range(7)}
    found = judged(varied("spectral_blocks_real", arms | {"0": -4, "6": -4}, seeds=4), MIXED)
    assert found.verdict == "supported" and "less attention alone" in found.number
    rising = judged(varied("spectral_blocks_real", arms | {"0": -4, "6": 4}, seeds=4), MIXED)
    assert rising.verdict == "contradicted"
