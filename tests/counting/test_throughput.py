"""Ratios are measured in turns; no test depends on how fast this machine is."""

import itertools

import timm
import torch

from astroformer.counting import throughput


def test_every_call_takes_its_turn_as_often_and_none_is_always_first(monkeypatch):
    order = []
    table = throughput.interleaved(
        {name: lambda name=name: order.append(name) for name in "abc"}, rounds=6, warmup=3
    )
    rounds = list(zip(*[iter(order)] * 3))
    assert len(rounds) == 9 and all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert {turn[0] for turn in rounds} == {"a", "b", "c"} and list(table["name"]) == [
        "a",
        "b",
        "c",
    ]


def test_ratios_are_to_the_first_call_of_the_same_round(monkeypatch):
    clock = itertools.chain([0, 1, 10, 13, 20, 24, 30, 32])  # seconds: a 1, b 3; then b 4, a 2
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    table = throughput.interleaved(
        {"a": lambda: None, "b": lambda: None}, rounds=2, warmup=0
    ).set_index("name")
    assert list(table["ratio"]) == [1, 2.5] and list(table["seconds"]) == [1.5, 3.5]
    assert table.loc["b", "low"] == 2.25 and table.loc["b", "high"] == 2.75


def test_a_training_step_leaves_gradients_and_no_changed_weight():
    model = timm.create_model("astroformer_pico", img_size=32, num_classes=3)
    before = model.head.fc.weight.clone()
    table = throughput.step_ratios({"one": model}, image_size=32, batch_size=2, rounds=1)
    assert (
        torch.equal(model.head.fc.weight, before)
        and model.stem.conv1.weight.grad.any()
        and table.loc[0, "ratio"] == 1
    )
