"""Networks are compared by pairs of seeds, of runs that differ in one thing, and the sentences say
no more than the intervals.
"""

import re
from dataclasses import replace

import pandas as pd
import pytest
from smoke_records import FIRST, PICO, REPAIRED, record

from astroformer import contrasts
from astroformer.equivariance import comparisons, trained
from astroformer.ledger import records, tables
from astroformer.paths import LEDGER
from astroformer.recipes import get_recipe
from astroformer.recipes import replace as changed

BLUR = REPAIRED | {"downsampling": "blur"}
SMOKE = ("as released", FIRST)


def today(seed, top1, **options):
    """A record of today's revision."""
    own = {"revision": 2, "seed": seed, "recipe": {}, "options": options}
    return record(seed, top1, options=options, identity=own, run=f"new {seed} {options}")


# Accuracies.


def accuracies(*found):
    table = comparisons.accuracies(records.frame(list(found)))
    return dict(zip(zip(table["network"], table["recipe"]), table["top-1 (%)"]))


def test_accuracies_are_those_of_runs_on_test_images_each_once_by_its_newest_record():
    again = dict(started="2026-01-02T00:00:00+00:00", device="another", origin="local")
    found = [record(0, 60.0), record(1, 62.0), record(1, 64.0) | again]
    validation = record(2, 99.0, dataset={"evaluated_on": "validation"})
    assert accuracies(*found, validation) == {SMOKE: tables.mean_interval([60.0, 64.0]) + ", pilot"}
    assert accuracies(*found[::-1]) == accuracies(*found)
    assert accuracies(validation) == {}


def test_accuracies_are_grouped_by_values_and_not_by_the_name_of_the_recipe():
    other = replace(get_recipe("smoke"), learning_rate=0.3)
    renamed = replace(get_recipe("smoke"), source="mine")
    found = [record(0, 60.0), record(1, 61.0, renamed), record(2, 10.0, other)]
    assert accuracies(*found) == {
        ("as released", f"{SMOKE[1]}, learning_rate=0.003"): (
            tables.mean_interval([60, 61]) + ", pilot"
        ),
        ("as released", f"{SMOKE[1]}, learning_rate=0.3"): "10.00 (1), pilot",
    }
    assert len(trained.plain(comparisons.accuracies(records.frame(found[:2])))) == 1
    options = record(0, 50.0, options=REPAIRED)
    assert accuracies(found[0], options)[("by construction", SMOKE[1])] == "50.00 (1), pilot"


def test_runs_that_a_study_with_a_design_asked_for_stand_on_its_page_alone():
    """Also the very run of another record, newer: it must not take that record's place."""
    study = {"name": "equivariant", "design": "0" * 12}
    found = [record(0, 60.0), record(1, 62.0)]
    asked = [record(2, 99.0, study=study)]
    asked.append(found[0] | {"study": study, "started": "2026-02-01T00:00:00+00:00"})
    assert accuracies(*found, *asked) == accuracies(*found)
    assert accuracies(*asked) == {}


# Differences of accuracy.


def gains(*found):
    return comparisons.gains(records.frame(list(found)), PICO)


def estimates(*found):
    return {
        (variant, metric): contrast.estimate
        for (_, variant, metric), contrast in gains(*found).items()
    }


def both(variant, gain):
    return {(variant, "top1"): gain, (variant, "balanced_accuracy"): gain}


def test_a_gain_is_one_between_runs_that_differ_in_nothing_else():
    found = [
        record(0, 60.0),
        record(1, 62.0),
        record(0, 55.0, options=REPAIRED),
        record(0, 99.0, changed(get_recipe("smoke"), epochs=30)),
        record(0, 99.0, model="astroformer_0"),
        record(0, 99.0, image_size=32),
        record(0, 10.0, changed(get_recipe("smoke"), hflip=0.0), options=REPAIRED),
        record(0, 10.0, replace(get_recipe("smoke"), hflip=0.0), options=REPAIRED),
    ]
    assert estimates(*found) == both("by construction", -5.0)
    assert gains() == {} and gains(found[0], found[1]) == {}


def test_a_gain_pairs_the_seeds_that_both_have():
    found = [record(seed, 60.0 + 10 * seed) for seed in range(4)]
    found += [record(seed, 61.0 + 10 * seed, options=REPAIRED) for seed in (2, 3, 0, 5)]
    gain = gains(*found)[trained.SYNTHETIC, "by construction", "top1"]
    assert (gain.estimate, gain.n, gain.low, gain.high) == (1.0, 3, 1.0, 1.0)


def test_a_run_without_a_finite_accuracy_is_no_pair():
    found = [record(0, 60.0), record(1, 60.0), record(0, 61.0, options=REPAIRED)]
    found.append(record(1, None, options=REPAIRED))
    assert gains(*found)[trained.SYNTHETIC, "by construction", "top1"].n == 1


def test_a_gain_of_an_older_revision_is_not_averaged_with_one_of_todays():
    found = [
        record(0, 60.0),
        record(0, 55.0, options=REPAIRED),
        today(0, 70.0),
        today(0, 69.0, **REPAIRED),
    ]
    assert estimates(*found) == both("by construction", -1.0)
    # a revision without the variant is passed over
    assert estimates(*found[:3]) == both("by construction", -5.0)


def test_sentences_say_what_the_intervals_of_both_accuracies_show():
    real = dict(dataset={"title": "Galaxy Zoo 1 subset (6,664 images)", "sha256": "r"})
    found = []
    for seed, noise in enumerate((-1.0, 0.0, 1.0)):
        found += [
            record(seed, 60.0 + noise),
            record(seed, 55.0 + 0.9 * noise, options=REPAIRED),
            record(seed, 60.0 - noise, options=BLUR),
            record(seed, 80.0, balanced=40.0, **real),
            record(seed, 80.0 + noise, balanced=50.0 + noise, options=REPAIRED, **real),
        ]
    made = gains(*found)
    assert comparisons.gains_in_words(made) == (
        "On synthetic galaxies its accuracy (top-1 and balanced) is lower by 5.0 ± 0.2 points. On "
        "Galaxy Zoo 1 its top-1 accuracy is between 2.5 points lower and 2.5 points higher: 3 "
        "seeds do not decide; its balanced accuracy is higher by 10.0 ± 2.5 points."
    )
    assert "between 5.0 points lower and 5.0" in comparisons.gains_in_words(made, "BlurPool")
    # by construction: p is 0.0001 on synthetic galaxies, 1 and 0.003 on the others, of six in all
    assert comparisons.together_in_words(made) == (
        "3 of the 6 differences of accuracy remain after Holm's correction (5 % for all of them "
        "together): by construction on synthetic galaxies, top-1; by construction on synthetic "
        "galaxies, balanced; by construction on Galaxy Zoo 1, balanced."
    )
    weak = {name: one for name, one in made.items() if name[1] == "BlurPool"}
    assert comparisons.together_in_words(weak).startswith("None of the 2 differences of accuracy")
    table = comparisons.gain_table(made)
    assert table["balanced (points)"].tolist() == [
        "-5.0, -5.2 to -4.8 (3)",
        "+0.0, -5.0 to +5.0 (3)",
        "+10.0, +7.5 to +12.5 (3)",
    ]


def test_few_pairs_decide_nothing_and_equal_ones_are_the_same():
    one = contrasts.paired([3.0], [1.0])
    assert "higher by 2.0 points for so few seeds (1)" in comparisons.in_words(one)
    assert comparisons.difference_text(one) == "+2.0 (1)"
    two = contrasts.paired([1.0, 1.2], [3.0, 3.0])
    assert "nothing is decided" in comparisons.in_words(two)
    assert comparisons.difference_text(two) == "-1.9 (2)"
    assert comparisons.in_words(contrasts.paired([1.0] * 3, [1.0] * 3)) == "the same in every seed"


# Measurements.


def measurement(seed, kept, *, weights="trained", network="as released", **changes):
    """A row of `trained.read`, as far as it is read here."""
    move = {"same class (%)": kept, "change in accuracy (points)": 0.0}
    moves = ("shift by 8 px", "shift by 16 px", *comparisons.TURNS)
    return (
        dict(
            data=trained.SYNTHETIC,
            model=PICO,
            network=network,
            weights=weights,
            seed=seed,
            run=f"run {seed}",
            recipe="smoke",
            turned=True,
            revision=2,
            group=f"{network} {changes}",
            identity={"seed": seed},
            errors={"logits": {"16": {}, "1": {}}},
            lie={"size": kept / 100},
            consistency=dict.fromkeys(moves, move),
        )
        | changes
    )


def unturned(seed, kept, **changes):
    other = dict(turned=False, recipe="smoke+hflip=0.0", run=f"unturned {seed}")
    return measurement(seed, kept, **(other | changes))


def test_turns_are_compared_over_trained_weights_and_the_seeds_of_both():
    frame = pd.DataFrame(
        [measurement(seed, 80.0 + seed) for seed in range(4)]
        + [unturned(seed, 70.0 + 2 * seed) for seed in (2, 1, 0)]
        + [unturned(seed, 10.0, weights="random") for seed in range(3)]
        + [measurement(0, 10.0, network="by construction")]
        + [measurement(0, 10.0, revision=1), unturned(0, 10.0, revision=1)]
    )
    found = comparisons.turns(frame)["rotation by 90°"]
    assert (found["taught"], found["untaught"]) == (81, 72)
    assert found["difference"].estimate == 9 and found["difference"].n == 3
    assert found["accuracy"].estimate == 0
    words = comparisons.turns_in_words(comparisons.turns(frame))
    assert "After a quarter turn 81 % keep their class" in words and "9.0 ± 2.5 points" in words
    assert "change in accuracy is the same in every seed" in words


def test_turns_are_not_compared_where_one_side_is_missing():
    frame = pd.DataFrame([measurement(0, 80.0), unturned(0, 70.0, weights="random")])
    assert comparisons.turns(frame) == {} and comparisons.turns_in_words({}) == ""


def test_what_is_kept_is_spoken_of_at_the_shift_that_the_stride_names():
    frame = pd.DataFrame(
        [measurement(seed, 50.0 + seed) for seed in range(3)]
        + [measurement(seed, 100.0, network="by construction") for seed in range(3)]
        + [measurement(seed, 1.0, weights="random") for seed in range(3)]
    )
    assert comparisons.half_stride(frame.iloc[0]) == "shift by 8 px"
    assert comparisons.kept_in_words(frame) == (
        "on synthetic galaxies 100 % (exact) by construction and 51.0 % (48.5 to 53.5) as released"
    )


def test_training_is_compared_with_the_same_runs_before_it():
    frame = pd.DataFrame(
        [measurement(seed, 30.0 + seed) for seed in range(4)]
        + [measurement(seed, 5.0, weights="random") for seed in range(3)]
    )
    found = comparisons.sensitivity(frame, PICO)
    assert found.n == 3 and found.estimate == pytest.approx(26)
    words = comparisons.sensitivity_in_words(found)
    assert words.startswith("Training makes the released network more sensitive: paired by seed")
    assert words.endswith("higher by 26.0 ± 2.5 points than before.")
    undecided = contrasts.paired([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert "is not decided" in comparisons.sensitivity_in_words(undecided)
    assert comparisons.sensitivity(frame[frame["weights"] == "trained"], PICO) is None
    assert comparisons.sizes(frame) == pytest.approx(
        {"released_random": 5, "released_trained": 31.5}
    )


def test_a_page_has_a_sentence_for_everything_and_not_run_for_what_was_not():
    frame = pd.DataFrame([measurement(seed, 50.0 + seed) for seed in range(3)])
    spoken = comparisons.facts(frame, records.frame([]), PICO)
    assert spoken["lie_released_trained"] == pytest.approx(51)
    nothing = ("gains", "gains_blur", "together", "kept", "turns")
    assert {spoken[name] for name in nothing} == {"not run"}
    found = comparisons.facts(trained.read(), records.frame(records.read(LEDGER)), PICO)
    assert "not run" not in found.values()
    assert int(re.search(r"of the (\d+) differences", found["together"])[1]) >= 6
    assert "On Galaxy Zoo 1 its top-1 accuracy is" in found["gains"]
    assert "After a reflection" in found["turns"]
    assert found["single"].endswith("e-07")
    assert len(comparisons.gain_table({})) == 0 and "data" in comparisons.gain_table({})
