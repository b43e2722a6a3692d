"""What `astroformer bench` measures: contestants take turns, a floor is no more than it can be, and
what is kept is read back.
"""

import json

import numpy as np
import pytest
import torch

from astroformer import cli
from astroformer.counting.throughput import turns
from astroformer.models import NAMES
from astroformer.speed import bench, epochs, floors, kept, processes, roofline
from astroformer.speed.contestants import (
    MARKS,
    PLAIN,
    Contestant,
    batch_of,
    contestants,
    models_on,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LIMITS = roofline.Roofline({"float32": 1e11, "bfloat16": 4e11}, 1e10)
QUIET = lambda line: None  # noqa: E731


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("name", [*NAMES, *MARKS])
def test_the_released_setting_is_the_first_and_no_two_are_alike(name, device):
    entered = contestants(name, device, compiled=True, graphs=device is GPU)
    first = entered[0].execution.settled(device)
    assert not any((first.channels_last, first.compile, first.fused, first.graphs))
    assert entered[0].precision == ("float32" if device is CPU else "float16")
    assert len({one.label for one in entered}) == len(entered)
    whose = {one.whose for one in entered}
    assert whose == ({"timm"} if name in MARKS else whose | {"ours"})


@pytest.mark.parametrize("name, size", [("astroformer_pico", 32), ("astroformer_0", 64)])
def test_timms_network_of_the_same_name_computes_the_same_from_the_same_weights(name, size):
    ours, timms = (
        Contestant(label="", whose=whose, execution=PLAIN, precision="float32").network(name, size)
        for whose in ("ours", "timm")
    )
    ours.load_state_dict(timms.state_dict())
    x, _ = batch_of(2, size, CPU, execution=PLAIN)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), timms.eval()(x), rtol=1e-4, atol=1e-5)


def test_every_contestant_of_a_cpu_takes_a_step_that_learns():
    for one in contestants("astroformer_pico", CPU, compiled=False, graphs=False):
        step = one.step("astroformer_pico", 32, CPU)
        before = step.model.stem.conv1.weight.clone()
        loss, norm = step(*batch_of(4, 32, CPU, execution=one.execution))
        assert loss.isfinite() and float(norm) > 0, one.label
        assert not torch.equal(step.model.stem.conv1.weight, before)


def test_the_last_turn_begins_within_the_time_and_there_are_three_at_least():
    calls = {"first": 0, "second": 0}

    def counted(name):
        calls[name] += 1

    found = turns(
        {name: lambda name=name: counted(name) for name in calls}, rounds=50, warmup=1, seconds=0
    )
    assert calls == {"first": 4, "second": 4} and {len(each) for each in found.values()} == {3}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["astroformer_pico", "vit_cifar", "spectformer_ti"])
def test_a_floor_grows_with_images_and_is_no_less_than_its_arithmetic(name, precision):
    one, many = (
        floors.floor_of(name, 32, number, precision=precision, params=10**6, limits=LIMITS)
        for number in (1, 64)
    )
    for floor in (one, many):
        assert floor["floor"] >= floor["floor_arithmetic"] > 0
        assert sum(floor["floor_by_stage"].values()) == pytest.approx(floor["floor"])
    assert many["floor_arithmetic"] == pytest.approx(64 * one["floor_arithmetic"])
    assert one["floor"] < many["floor"] < 64 * one["floor"]  # weights are read once a batch


def test_a_slower_device_has_a_higher_floor():
    slow = roofline.Roofline({key: rate / 2 for key, rate in LIMITS.product.items()}, 5e9)
    how = dict(precision="float32", params=10**6)
    fast, other = (
        floors.floor_of("vit_cifar", 32, 8, limits=limits, **how)["floor"]
        for limits in (LIMITS, slow)
    )
    assert other == pytest.approx(2 * fast)


def test_ratios_are_of_the_same_round():
    own, first = np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0, 8.0])
    row = bench.timing(own, first, 10)
    assert row["times_as_fast"] == row["times_low"] == row["times_high"] == 2
    assert row["images_per_second"] == 5


@pytest.fixture(scope="module")
def measured():
    asked = bench.Asked(models=("vit_narrow",), sizes=(32,), batch_size=2, seconds=0, epochs=False)
    return list(bench.bench(asked, CPU, report=QUIET))


def test_a_network_is_measured_in_every_execution_beside_the_devices_limits(measured):
    what = [row["what"] for row in measured]
    assert what[0] == "roofline" and measured[0]["product"]["float32"] > 1e8
    steps = [row for row in measured if row["what"] == "step"]
    expected = contestants("vit_narrow", CPU, compiled=False, graphs=False)
    assert [row["contestant"] for row in steps] == [one.label for one in expected]
    for row in steps:
        assert row["of_product"] > 0
        # without instructions for bfloat16 a layer and a plain product are computed otherwise
        if row["precision"] == "float32" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
            assert row["seconds"] > row["floor_arithmetic"] and row["of_product"] < 1
        assert row["rounds"] >= 3 and row["times_low"] <= row["times_as_fast"] <= row["times_high"]
        assert sum(part for _, part in row["kernels"]) <= 1.0 + 1e-9 and row["kernels"]
    assert {row["contestant"] for row in measured if row["what"] == "forward"}


def test_what_does_not_fit_says_so_and_the_others_are_measured(monkeypatch):
    whole = bench.entered

    def entered(contestant, *others):
        if "bfloat16" in contestant.label:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(contestant, *others)

    monkeypatch.setattr(bench, "entered", entered)
    asked = bench.Asked(batch_size=2)
    rows = list(bench.rows_of_network("logistic_8x8", 32, CPU, asked, LIMITS, 0.0, QUIET))
    status = {row["contestant"]: row["status"] for row in rows if row["what"] == "step"}
    assert sorted(set(status.values())) == ["measured", "out of memory"]
    assert status["ours, channels last, fused, bfloat16"] == "out of memory"


def test_an_epoch_with_data_is_measured_beside_its_steps_alone(monkeypatch):
    monkeypatch.setattr(epochs, "BATCHES", 2)
    monkeypatch.setitem(epochs.USUAL, "cpu", (("logistic_8x8", 32, 8, "lowdata"),))
    rows = list(epochs.rows_of_network("logistic_8x8", 32, CPU, 0.0))
    assert [row["contestant"][-4:] for row in rows] == ["host", "vice"]
    assert all(row["over_low"] <= row["over_steps_alone"] <= row["over_high"] for row in rows)


@pytest.mark.slow
def test_processes_side_by_side_are_told_when_to_begin_and_end_with_their_input(monkeypatch):
    monkeypatch.setitem(processes.USUAL, "cpu", ("logistic_8x8", 32, 4))
    monkeypatch.setattr(processes, "ROUNDS", 2)
    known = [processes.Arrangement(1, 1), processes.Arrangement(2, 1)]
    monkeypatch.setattr(processes, "arrangements", lambda device: known)
    rows = list(processes.rows(CPU, 0.0))
    assert [row["contestant"] for row in rows] == ["1 process, 1 thread", "2 processes of 1 thread"]
    assert rows[0]["times_as_fast"] == 1 and all(row["images_per_second"] > 10 for row in rows)


def test_a_process_that_cannot_begin_is_an_error_and_no_silence(monkeypatch):
    with pytest.raises(ChildProcessError, match="ended with status 1"):
        processes._Crew(processes.Arrangement(1, 1), "no_such_network", 32, 4, CPU)


def test_what_is_kept_is_read_back_the_newest_of_each_alone(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    kept.keep(measured, "here")
    again = [{**row, "started": "2999-01-01T00:00:00+00:00"} for row in measured]
    kept.keep(again, "here")
    frame = kept.frame()
    assert len(frame) == len(measured) and set(frame["started"]) == {again[0]["started"]}
    assert set(frame["source"]) == {"here"}


@pytest.mark.parametrize(
    "words, says",
    [
        (["--models", "resnet51"], "resnet51"),
        (["--sizes", "0"], "at least 1"),
        (["--keep", "../here"], "letters, digits"),
        (["--batch-size", "-1"], "negative"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(words, says, capsys):
    assert cli.main(["bench", *words]) == 2
    told = capsys.readouterr().err.strip()
    assert says in told and "\n" not in told


def test_the_command_prints_json(capsys):
    words = ["--models", "logistic_8x8", "--sizes", "32", "--batch-size", "2", "--no-epochs"]
    assert cli.main(["bench", *words, "--time-budget", "0", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["what"] == "roofline" and rows[1]["model"] == "logistic_8x8"


def test_the_command_prints_memory_predicted_beside_measured(capsys):
    assert cli.main(["bench", "--memory", "--models", "logistic_8x8", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["model"] for row in rows} == {"logistic_8x8"} and len(rows) >= 2
    assert all(abs(row["measured_bytes"] / row["predicted_bytes"] - 1) < 0.1 for row in rows)


def test_every_usual_network_is_known():
    for device in (CPU, GPU):
        for name, _ in models_on(device, (), ()):
            assert name in NAMES or name in MARKS


def test_a_product_that_would_take_long_is_a_smaller_one(monkeypatch):
    """As in bfloat16 on a processor without instructions for it."""
    sides, whole = [], roofline._seconds_of_product

    def noted(device, side, dtype, rounds=roofline.ROUNDS):
        sides.append((side, rounds))
        return whole(device, side, dtype, rounds)

    monkeypatch.setattr(roofline, "_seconds_of_product", noted)
    monkeypatch.setattr(roofline, "LONGEST", 1e9)
    assert roofline.rate_of_product(CPU, 512, torch.float32) > 1e8
    assert sides == [(256, 1), (512, roofline.ROUNDS)]
    sides.clear()
    monkeypatch.setattr(roofline, "LONGEST", 0)
    assert roofline.rate_of_product(CPU, 512, torch.float32) > 1e8
    assert sides == [(256, 1)]
