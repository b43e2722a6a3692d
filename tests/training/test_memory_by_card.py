"""What a card holds is the most that fits it, and what is predicted is what the allocator hands
out, of a whole training: weights, optimizer and steps.
"""

import json

import pytest

from astroformer import paths
from astroformer.counting.memory import GB
from astroformer.ledger import records
from astroformer.sizes import NAMES
from astroformer.training import memory_by_card as by_card

SMALL_NETWORKS = {"astroformer_pico": 64, "vit_narrow": 32}
CARDS = (1.2, 1.5, 2.0, 4.0)  # GB: of these one image more is seen


@pytest.mark.parametrize("checkpointed", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["vit_narrow", pytest.param("astroformer_pico", marks=pytest.mark.slow)]
)
def test_the_answer_fits_the_card_and_one_image_more_does_not(name, checkpointed):
    size = SMALL_NETWORKS[name]
    found = by_card.largest_micro_batch(name, size, CARDS, checkpointed=checkpointed)
    for card, images in zip(CARDS, found, strict=True):
        assert images > 0
        fits, one_more = (
            by_card.predicted(name, size, number, checkpointed=checkpointed).most
            for number in (images, images + 1)
        )
        assert fits <= card * GB < one_more


@pytest.mark.slow
def test_where_another_moment_is_fuller_the_answer_is_found_below_it():
    """Weights of a large network at few small images: the optimizer's step is the fullest."""
    card = by_card.predicted("astroformer_0", 64, 1).most / GB
    [found] = by_card.largest_micro_batch("astroformer_0", 64, [card])
    assert by_card.predicted("astroformer_0", 64, found).most <= card * GB
    assert by_card.predicted("astroformer_0", 64, found + 1).most > card * GB
    assert by_card.largest_micro_batch("astroformer_0", 64, [card - 0.01]) == [0]


@pytest.mark.slow
def test_a_larger_card_and_checkpointing_never_hold_fewer_images():
    table = by_card.predicted_by_card(["astroformer_pico", "vit_narrow", "logistic_8x8"])
    columns = [f"{card} GB" for card in by_card.CARDS]
    for _, row in table.iterrows():
        assert (row[columns].diff().dropna() > 0).all()
    plain, again = (table[table["checkpointing"] == one].set_index("model") for one in (0, 1))
    assert list(again.index) == ["astroformer_pico", "vit_narrow"]  # the other has no blocks
    assert (again[columns] > plain.loc[again.index, columns]).all(axis=None)


def test_what_is_predicted_of_small_networks_is_measured_within_a_tenth():
    names = {"logistic_8x8": [32], "vit_narrow": [32], "astroformer_pico": [64]}
    rows = list(by_card.measured_rows(list(names), sizes=names, micro_batches=(2, 4)))
    assert [(row["model"], row["batch_size"]) for row in rows] == [
        (name, number) for name in names for number in (2, 4)
    ]
    for row in rows:
        assert 0.9 < row["ratio"] < 1.1, row
        json.dumps(row)


def test_what_is_too_large_to_be_measured_says_what_it_needs():
    [row] = by_card.measured_rows(
        ["astroformer_5"], sizes={"astroformer_5": [64]}, micro_batches=(1,), most=1e9
    )
    assert row["measured_bytes"] is None and row["predicted_bytes"] > 9e9
    assert row["note"].startswith("not measured, needs ")


def test_every_network_has_a_size_to_be_measured_at():
    for name in NAMES:
        assert by_card.sizes_to_measure(name)[0] <= 64


def test_records_of_memory_are_no_records_of_runs():
    kept = paths.LEDGER / "speed" / "memory.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    assert {line["model"] for line in lines} == set(NAMES)
    off = [line for line in lines if line["ratio"] and abs(line["ratio"] - 1) >= 0.1]
    assert not off
    assert not {record["run"] for record in records.read()} & {None}
