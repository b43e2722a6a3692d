"""The cost of a profile, said before it starts."""

import re

import pytest
import torch

from astroformer import paths
from astroformer.counting.budget import duration
from astroformer.recipes import get_recipe
from astroformer.reproduce import BookError, Layout, plan
from astroformer.reproduce.estimate import (
    asks_for_one_run,
    cost,
    execution_of_page,
    refused,
    run_of_page,
    training_cost,
)
from astroformer.studies.on_page import asked_by
from astroformer.training import memory

PAGE = dict(
    model="astroformer_0",
    dataset="galaxies",
    recipe="smoke",
    epochs=2,
    image_size=224,
    train_images=1000,
    stack="CCCT",
)


def test_arithmetic_of_a_run_follows_from_multiply_adds_images_and_epochs():
    said = training_cost(PAGE)
    # multiply-adds of astroformer_0 at 224 pixels, forward and backward
    petaflop = 6 * 3_994_182_144 * 2 * 1000 / 1e15
    assert f"{petaflop:,.2f} PFLOP" in said and "2 epochs of 1,000 images" in said


def test_without_a_record_and_a_gpu_the_time_is_not_estimated(own_runs, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = training_cost(PAGE)
    assert "the time is not estimated: no run of it on a GPU is in the ledger" in said
    assert not re.search(r"\d (seconds|minutes|hours|days)|FLOP/s", said)


def test_without_a_record_a_step_is_timed_on_the_device_at_hand(own_runs, monkeypatch):
    monkeypatch.setattr(paths, "LEDGER", own_runs / "no-records")
    small = PAGE | dict(model="astroformer_pico", image_size=32)
    said = training_cost(small, device=torch.device("cpu"))
    rate = float(
        re.search(r"([\d,]+) images/s, by three steps timed here", said)[1].replace(",", "")
    )
    number, unit = re.search(r"([\d.]+) (seconds|minutes) at", said).groups()
    seconds = float(number) * {"seconds": 1, "minutes": 60}[unit]
    assert seconds == pytest.approx(2 * 1000 / rate, rel=0.06)


def test_the_memory_of_a_run_stands_beside_its_hours(own_runs):
    said = training_cost(PAGE)
    run = run_of_page(PAGE)
    needed = memory.most_of(memory.of_run(run, classes=10))
    assert f"{run.recipe.batch_size} images at a time, {needed}; " in said
    assert re.search(r"[\d.]+ GB in the", said)
    again = training_cost(PAGE | {"grad_checkpointing": True})
    assert "images at a time, gradient checkpointing, " in again and again != said


@pytest.mark.parametrize("profile", ["smoke", "gpu", "paper"])
def test_every_run_of_a_profile_fits_a_card_of_80_gigabytes(profile):
    training = [
        page.defaults | given
        for page, given in plan(profile, Layout())
        if page.trains and asks_for_one_run(page.defaults | given)
    ]
    assert training
    for page in training:
        run, execution = run_of_page(page), execution_of_page(page)
        for needed in memory.of_run(run, classes=10, execution=execution):
            assert needed.most < 80e9, f"{page['model']}: {needed}"


def test_the_paper_profile_trains_as_published_but_for_what_is_computed_again():
    for page, given in plan("paper", Layout()):
        if page.trains and asks_for_one_run(page.defaults | given):
            run = run_of_page(page.defaults | given)
            assert run.recipe.canonical() == get_recipe("readme").canonical()
            assert execution_of_page(page.defaults | given).grad_checkpointing
            # without that no card holds it
            assert memory.of_steps(run, classes=10).least > 300e9


def test_a_page_whose_run_cannot_fit_is_refused_in_one_line(monkeypatch):
    page = PAGE | dict(epochs=0, recipe="readme", train_images=3000)
    monkeypatch.setattr("astroformer.machine.free_memory", lambda: 4e9)
    why = refused(page, torch.device("cpu"))
    assert "astroformer_0 at 224 pixels, 256 images at a time, takes " in why
    assert "4.0 GB free" in why and "--set micro_batch_size=" in why and "\n" not in why
    monkeypatch.setattr("astroformer.machine.free_memory", lambda: 4e12)
    assert refused(page, torch.device("cpu")) is None
    assert refused({"seed": 1}, torch.device("cpu")) is None


def test_a_record_on_a_gpu_gives_the_time(own_runs):
    from astroformer.ledger import records

    record = dict.fromkeys(records.FIELDS) | dict(
        run="abc",
        status="completed",
        model="astroformer_0",
        image_size=224,
        images_per_second=500.0,
        device="A Card",
        started="2026-01-01T00:00:00+00:00",
        metrics={},
    )
    records.append(record)
    assert "4 seconds at 500 images/s as measured on one A Card (run abc)" in training_cost(PAGE)


def planned():
    """(profile, page, parameters) of every page that trains."""
    for profile in ("smoke", "gpu", "paper"):
        for page, parameters in plan(profile, Layout()):
            if page.trains:
                yield profile, page, parameters


def test_every_page_that_trains_runs_of_its_own_has_a_cost_under_every_profile():
    for profile, page, parameters in planned():
        if not parameters.get("make_missing"):
            said = cost(page, parameters)
            assert re.search(r"[\d,.]+ PFLOP|\d+ steps each", said), (profile, page.name)


def test_a_page_that_chooses_its_networks_is_told_by_its_steps():
    [page] = [page for _, page, _ in planned() if page.name == "your_galaxies"][:1]
    assert not asks_for_one_run(page.defaults)
    assert "77 steps each, at 48 pixels" in cost(page, {"steps": 77, "image_size": 48})


def test_pages_that_train_what_they_lack_ask_for_the_runs_of_their_profile():
    found = {}
    for profile, page, parameters in planned():
        if parameters.get("make_missing"):
            found[profile, page.name] = asked_by(page.source.stem, page.defaults | parameters)
    assert {profile for profile, _ in found} == {"gpu", "paper"}
    assert all(one.units for (_, name), one in found.items() if name != "results_galaxies")
    for (profile, name), one in found.items():
        if name == "few_images":
            design = {"gpu": "gpu", "paper": "cluster"}[profile]
            assert {unit.told["profile"] for unit in one.units} == {design} and one.unnamed
    [one] = {unit.run.dataset for unit in found["paper", "results_cifar100"].units}
    assert one == "cifar100"


@pytest.mark.slow  # networks of 600 million parameters are counted
def test_every_page_that_trains_what_it_lacks_has_a_cost_under_every_profile():
    said = {
        (profile, page.name): cost(page, parameters)
        for profile, page, parameters in planned()
        if parameters.get("make_missing")
    }
    for name, line in said.items():
        assert re.search(r"\d+ runs: [\d.]+ |Nothing is missing", line), (name, line)
    assert "further runs follow from the tuning" in said["gpu", "few_images"]
    assert said["paper", "results_cifar100"].startswith("Missing: ")
    assert said["gpu", "stability"].startswith("Missing of the study's profile gpu: ")


def test_runs_that_cannot_be_asked_for_are_refused_before_anything_is_executed():
    for _, page, parameters in planned():
        if page.name == "variations":
            with pytest.raises(BookError, match="variations: study 'nothing' is not of this page"):
                cost(page, parameters | {"only": "nothing"})


def test_a_duration_is_told_in_a_unit_that_a_person_would_use():
    assert [duration(s) for s in (90, 7200, 200_000)] == ["1.5 minutes", "2.0 hours", "2.3 days"]
    assert [duration(s) for s in (0.42, 7.3)] == ["0.42 seconds", "7.3 seconds"]
