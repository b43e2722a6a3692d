"""A suggestion says what was measured at about as many images, or that nothing was; and its command
trains.
"""

import json
import shlex
from dataclasses import replace

import pytest
from galaxy_folder import write_galaxies

from astroformer import cli
from astroformer.data.tasks import TASKS
from astroformer.recipes import get_recipe
from astroformer.studies import suggest as asking
from astroformer.studies.needs import Estimator, Place
from astroformer.studies.suggest import FAR, GALAXIES, PICTURES, Images, Known, suggest
from astroformer.training import Run


def known(task, arm, values, *, each=None, stack="CCCT"):
    own = TASKS[task]
    run = Run(
        model="astroformer_pico",
        dataset="folder",
        data_dir=task,
        recipe=get_recipe(own.recipe, learning_rate=0.004),
        options=(("stack", stack),),
        image_size=own.image_size,
    )
    seeds = tuple(range(10, 10 + len(values)))
    each = each or own.each["low"]
    return Known(own, each, arm, arm, own.image_size, seeds, tuple(values), run)


EVERY = [
    known("galaxies3", "one", [70.0, 71.0, 72.0]),
    known("galaxies3", "two", [71.0, 69.0, 71.5], stack="CCTT"),
    known("galaxies3", "three", [60.0, 61.5, 62.0], stack="CTTT"),
    known("cifar100", "two", [22.0, 21.0, 23.0], stack="CCTT"),
    known("tiny40", "one", [30.0, 31.0, 32.0], each=100),
]
FAST = Estimator(Place(), known=[], memory=False)


def asked(train=150, classes=3, pixels=128, kind="", every=EVERY, **more):
    images = Images(train, classes, pixels, kind, dataset="galaxies", **more)
    return suggest(images, known=every, estimator=FAST)


def test_the_best_network_at_the_nearest_number_of_images_is_suggested_with_its_settings():
    found = asked()
    assert [one.title for one in found.near] == ["one", "two", "three"]
    assert found.run == replace(EVERY[0].run, dataset="galaxies", data_dir=None)
    assert found.run.recipe.learning_rate == 0.004 and found.known
    assert found.level == ("two",), "one seed of two is better, three is worse on each"
    text = "\n".join(found.lines())
    assert (
        "reached 71.0 % (from 70.0 to 72.0 over 3 seeds)" in text and "would reach 33.3 %" in text
    )
    assert found.epochs == pytest.approx(1_500 * 64 / 150)


@pytest.mark.parametrize("kind", [GALAXIES, PICTURES])
def test_one_may_ask_for_images_of_a_kind(kind):
    assert {one.kind for one in asked(kind=kind).near} == {kind}
    with pytest.raises(ValueError, match="choose galaxies or pictures"):
        asked(kind="cats")


@pytest.mark.parametrize("times", [1 / FAR / 1.1, FAR * 1.1])
def test_of_far_more_or_fewer_images_no_accuracy_is_said(times):
    each = {1: min, 0: max}[times < 1](one.each for one in EVERY) * times
    found = asked(train=round(3 * each))
    assert not found.known and found.told()["accuracy"] is None
    assert any("do not say" in line for line in found.lines())
    assert not any("reached" in line for line in found.lines())
    assert found.command, "there is a beginning all the same"


def test_an_empty_ledger_is_said():
    found = asked(every=[])
    assert found.run is None and not found.command and found.told()["network"] is None
    assert "no finished runs" in found.lines()[-1]


@pytest.mark.parametrize("pixels, expected", [(20, 32), (33, 32), (47, 32), (48, 48), (300, 48)])
def test_pixels_are_those_that_the_network_and_the_images_allow(pixels, expected):
    assert asked(pixels=pixels).run.image_size == expected


@pytest.mark.parametrize("train", [1, 2, 3, 63, 64, 1000])
def test_a_batch_is_never_larger_than_the_images(train):
    batch = asked(train=train, classes=1 if train == 1 else 2).run.recipe.batch_size
    assert batch % 2 == 0 and batch <= max(2, train)


def test_what_the_ledger_holds_is_read_with_every_seed():
    for one in asking.measured():
        assert len(one.values) == len(one.seeds) >= asking.FEWEST
        assert one.row()["runs"] == len(one.values) and 0 < one.mean < 100


def test_the_verb_says_it_of_a_folder_and_its_command_is_one(tmp_path, capsys, own_runs):
    write_galaxies(tmp_path / "my galaxies", train=50, size=48)
    assert cli.main(["suggest", str(tmp_path / "my galaxies"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["training_images"] == 150 and told["classes"] == 3
    words = shlex.split(told["command"])
    assert words[:2] == ["astroformer", "train"] and str(tmp_path / "my galaxies") in words
    options = cli.parser().parse_args(words[1:])
    assert options.image_size == told["image_size"]
    short = ["--set", "steps=2", "--set", "batch_size=8"]
    assert cli.main([*words[1:], *short]) == 0


def test_without_images_the_way_out_is_said(tmp_path, capsys):
    assert cli.main(["suggest", str(tmp_path / "absent")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_the_seeds_are_compared_in_pairs():
    one = known("galaxies3", "one", [50.0, 60.0, 70.0])
    better = known("galaxies3", "two", [49.0, 59.0, 69.1])
    assert asking._told_apart(one, better)
    assert not asking._told_apart(one, replace(better, seeds=(1, 2, 3)))
