"""The cost of a profile, said before it starts."""

import re

from astroformer.reproduce import Layout, plan
from astroformer.reproduce.estimate import duration, training_cost

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


def test_without_a_record_on_a_gpu_the_time_is_called_assumed(own_runs):
    assert "assumed, not measured" in training_cost(PAGE)


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
    assert "0.1 minutes at 500 images/s as measured on one A Card (run abc)" in training_cost(PAGE)


def test_every_profile_has_a_cost_for_each_page_that_trains():
    for profile in ("smoke", "gpu", "paper"):
        for page, parameters in plan(profile, Layout()):
            if page.trains:
                assert re.search(r"[\d,.]+ PFLOP", training_cost(page.defaults | parameters)), (
                    profile,
                    page.name,
                )


def test_a_duration_is_told_in_a_unit_that_a_person_would_use():
    assert [duration(s) for s in (90, 7200, 200_000)] == ["1.5 minutes", "2.0 hours", "2.3 days"]
