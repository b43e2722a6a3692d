"""A study never mixes devices within what it compares, unless it is told to and says so."""

import json
import re
from collections import Counter

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import finished, install, record, restored
from small_run import CPU, small_run

from astroformer import cli, paths
from astroformer.data.tasks import TASKS
from astroformer.figures import studies as drawn
from astroformer.ledger import records
from astroformer.studies import design, devices, effects, few_images, runner, stability, studies
from astroformer.studies.asked import asked
from astroformer.studies.cells import Found
from astroformer.studies.devices import Elsewhere, Place
from astroformer.studies.make import NotMade, make
from astroformer.training.run import default_device

GPU = "NVIDIA H100 80GB HBM3"
EVERYWHERE = [Place("AMD EPYC", "float32"), Place(GPU, "bfloat16"), Place(GPU, "float32")]


def silent(line):
    """Says nothing."""


# Where a run was made


@given(
    name=st.text(st.characters(codec="ascii", exclude_characters="\n")), threads=st.integers(1, 512)
)
def test_the_kind_of_a_device_is_its_name_whatever_the_number_of_threads(name, threads):
    kind = devices.kind_of(f"{name}, {threads} threads")
    assert kind == name and devices.kind_of(GPU) == GPU


@pytest.mark.parametrize("threads", [1, 2])
def test_a_record_made_here_says_that_it_was_made_here(tiny_folder, own_runs, threads):
    run = small_run(tiny_folder, epochs=1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        made = runner.fit(run, device=CPU, report=silent).record
    finally:
        torch.set_num_threads(before)
    assert devices.places_of(made) == {devices.place_of(run, CPU)}
    assert devices.place_of(run, CPU).precision == "float32"


def test_a_run_that_went_on_elsewhere_was_made_in_both_places():
    attempts = [
        {"device": "AMD EPYC, 2 threads", "images": 10},
        {"device": GPU, "images": 90},
        {"device": "a machine that did nothing", "images": 0},
    ]
    both = {"status": "completed", "device": GPU, "precision": "float32", "attempts": attempts}
    assert devices.places_of(both) == {EVERYWHERE[0], EVERYWHERE[2]}
    assert devices.other_device([both], EVERYWHERE[2]) is both
    assert devices.other_device([both | {"status": "interrupted"}], EVERYWHERE[2]) is None
    assert devices.places_of({"status": "completed"}) == frozenset()


# What is mixed


def placed(cell, place, **changes):
    return record(cell, device=place.device, precision=place.precision, **changes)


def cells_of(module, made=()):
    one = design.read(module.NAME)
    return module.cells(one, one.profile("cpu"), Found(made))


@given(st.data())
def test_blocks_are_mixed_exactly_if_their_runs_were_made_in_several_places(data):
    cells = cells_of(stability)
    where = data.draw(
        st.lists(st.sampled_from([None, *EVERYWHERE[:2]]), min_size=len(cells), max_size=len(cells))
    )
    made = [placed(cell, place) for cell, place in zip(cells, where) if place]
    meant = {}
    for cell, place in zip(cells, where):
        if place:
            block = (cell.study, cell.stage, cell.task, cell.seed)
            meant.setdefault(block, Counter())[place] += 1
    meant = {block: counted for block, counted in meant.items() if len(counted) > 1}
    found = devices.mixed(cells, Found(data.draw(st.permutations(made))))
    assert found == meant
    line = devices.sentence(found)
    assert bool(line) == bool(meant)
    for block in meant:
        assert TASKS[block[2]].title in line
        assert re.search(rf"seeds? (\d+, )*{block[3]}\b", line)
    for place in EVERYWHERE[:2]:
        number = sum(counted[place] for counted in meant.values())
        assert not number or f"{number} run{'s' * (number > 1)} on {place}" in line


def test_blocks_that_were_each_made_in_one_place_are_not_mixed():
    cells = cells_of(stability)
    made = [placed(cell, EVERYWHERE[cell.seed % 2]) for cell in cells]
    assert {cell.seed % 2 for cell in cells} == {0, 1}
    assert devices.mixed(cells, Found(made)) == {}
    assert "mixed" not in drawn.devices_line(design.read("stability"), Found(made))


def test_a_run_that_two_studies_share_is_mixed_with_the_runs_of_both():
    """Whichever study made it."""
    tuned = finished(few_images)
    one = design.read("attention_form")
    cells = runner.MODULES["attention_form"].cells(one, one.profile("cpu"), Found(tuned))
    shared = {cell.key for cell in cells_of(few_images, tuned)} & {cell.key for cell in cells}
    assert shared
    made = [placed(cell, EVERYWHERE[cell.key in shared]) for cell in cells]
    every = [*tuned, *made]
    found = devices.mixed(cells, Found(every))
    assert found and {block.study for block in found} == {"attention_form"}


def committed():
    return records.read(paths.LEDGER)


def test_no_study_of_the_committed_ledger_mixes_devices():
    known = committed()
    found = Found(known)
    assert len(found.by_key) > 100
    for name in design.names():
        one = design.read(name)
        for profile in one.profiles.values():
            cells = runner.MODULES[name].cells(one, profile, found)
            assert devices.mixed(cells, found) == {}, name
        assert "mixed" not in drawn.devices_line(one, found)
    # where all was made on one kind of device nothing can be mixed, and frames take long
    several = len({place for one in known for place in devices.places_of(one)}) > 1
    for name, study in studies.STUDIES.items() if several else ():
        frame = studies.frame(name, known)
        for base in list(study.variations)[:1]:
            assert effects.effects(frame, base).mixed == "", name


def test_the_page_of_a_study_says_which_runs_are_mixed_and_nothing_where_none_are():
    cells = cells_of(stability)
    [first, *rest] = [cell for cell in cells if cell.seed == cells[0].seed]
    here = [placed(cell, EVERYWHERE[0]) for cell in rest]
    one = design.read("stability")
    plain = drawn.design_lines(one, Found([*here, placed(first, EVERYWHERE[0])]))
    assert "mixed" not in plain and "Where they were made" not in plain
    apart = [placed(cell, EVERYWHERE[cell.seed == first.seed]) for cell in cells]
    told = drawn.design_lines(one, Found(apart))
    assert "Where they were made: " in told and f"{len(rest) + 1} runs on {GPU} (" in told
    assert "Runs of one stage, data set and seed were made on one device." in told
    said = drawn.design_lines(one, Found([*here, placed(first, EVERYWHERE[1])]))
    assert said.startswith(plain)
    assert "**Devices are mixed** within one set of runs" in said
    assert f"seed {first.seed}: {len(rest)} runs on AMD EPYC (float32), 1 run on {GPU} " in said


# A study with a design makes its runs


@pytest.fixture
def tiny(own_runs, tiny_folder, monkeypatch):
    """A task of few images with two designs of its own, and an empty ledger."""
    monkeypatch.setenv("ASTROFORMER_DATA", str(tiny_folder.parent))
    monkeypatch.setattr(paths, "LEDGER", own_runs / "committed")
    restored(monkeypatch)
    install(own_runs)
    return own_runs


def local():
    return [record for record in records.read() if record["origin"] == "local"]


def move(folder, chosen, device=GPU):
    """Makes records say that their runs were made on another device."""
    changed = 0
    for path in (folder / "ledger").glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in filter(chosen, lines):
            changed += 1
            line["device"] = device
            for attempt in line["attempts"]:
                attempt["device"] = device
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return changed


@pytest.fixture
def half(tiny):
    """The runs of few_images, where one confirmatory run was made on a GPU and the other is
    missing.
    """
    runner.work(["few_images"], "cpu", report=silent)
    low = [one for one in local() if one["study"]["stage"] == "low"]
    [gone] = [one["run"] for one in low if one["study"]["arm"] == "CCTT"]
    for path in (tiny / "ledger").glob("*.jsonl"):
        kept = [line for line in path.read_text().splitlines() if json.loads(line)["run"] != gone]
        path.write_text("".join(f"{line}\n" for line in kept))
    assert move(tiny, lambda one: one["study"]["stage"] == "low") == 1
    [other] = [one["run"] for one in low if one["run"] != gone]
    return other


def test_a_run_is_refused_whose_block_has_runs_of_another_device_and_other_runs_are_made(half):
    lines, before = [], len(local())
    with pytest.raises(Elsewhere) as refused:
        runner.work(["few_images", "stability"], "cpu", report=lines.append)
    said = str(refused.value)
    place = devices.place_of(
        runner.cells_of(["stability"], "cpu", Found([]))[0].run, default_device()
    )
    assert said.startswith("few_images, low: tiny, CCTT, seed 10 is compared with run ")
    assert (
        f"run {half} (CCCT), which was made on {GPU} (float32), and this device is {place}" in said
    )
    assert "--mix-devices" in said and "\n" not in said
    assert lines.count(said) == 1
    made = local()[before:]
    assert [one["study"]["name"] for one in made] == ["stability", "stability"]


def test_a_run_that_is_mixed_on_purpose_says_so_in_its_record_and_on_the_page(half):
    before = len(local())
    assert cli.main(["study", "work", "few_images", "--mix-devices"]) == 0
    [made] = local()[before:]
    assert made["study"]["mixed_devices"] is True
    assert all("mixed_devices" not in one["study"] for one in local()[:before])
    said = drawn.design_lines(design.read("few_images"), Found(records.read()))
    assert "**Devices are mixed** within one set of runs" in said
    assert f"1 run on {GPU} (float32)" in said and "low, Tiny galaxies, seed 10" in said
    assert cli.main(["study", "work", "few_images"]) == 0  # nothing is left to refuse


def test_the_command_line_refuses_in_one_line_and_hands_the_flag_on(half, monkeypatch, capsys):
    assert cli.main(["study", "work", "few_images"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("astroformer: few_images, low: tiny, CCTT") and "--mix-devices" in said
    handed = []
    monkeypatch.setattr(runner, "run", lambda *names, words, **how: handed.append(words) or True)
    assert cli.main(["study", "run", "few_images", "--mix-devices"]) == 0
    assert cli.main(["study", "run", "few_images"]) == 0
    assert ["--mix-devices" in words for words in handed] == [True, False]


def test_where_all_was_made_on_one_kind_of_device_nothing_is_refused_or_noted(tiny):
    runner.work(["few_images"], "cpu", report=silent)
    assert move(tiny, lambda one: one["study"]["stage"] == "tuning")  # another block
    assert runner.work(["stability"], "cpu", report=silent) == 2
    assert all("mixed_devices" not in one["study"] for one in local())


def test_what_is_made_for_a_page_or_a_job_is_refused_and_allowed_alike(half):
    units = asked(["few_images"], "cpu").missing
    assert [unit.label for unit in units] == ["tiny, CCTT, seed 10, rate 0.001, decay 0.02"]
    with pytest.raises(NotMade, match=f"is compared with run {half} .* this device is "):
        make(units, device=CPU, report=silent, progress=silent)
    made = make(units, device=CPU, report=silent, progress=silent, mix_devices=True)
    assert made.made == list(units) and local()[-1]["study"]["mixed_devices"] is True


# A study without a design


def test_a_fixed_study_keeps_the_runs_of_a_seed_on_one_device_and_says_where_it_does_not(
    tiny_folder, own_runs, monkeypatch
):
    monkeypatch.setattr(paths, "LEDGER", own_runs / "committed")
    runs = {"base": small_run(tiny_folder, epochs=1), "other": small_run(tiny_folder, epochs=2)}
    monkeypatch.setitem(studies.STUDIES, "mine", studies.Study("?", runs, seeds=(0, 1)))
    runner.fit(runs["base"], device=CPU, report=silent)
    assert move(own_runs, lambda one: True) == 1
    lines = []
    with pytest.raises(
        Elsewhere, match=rf"mine: other, seed 0 is compared with .* {GPU} \(float32"
    ):
        studies.run_study("mine", device=CPU, report=lines.append)
    assert [one["seed"] for one in local()] == [0, 1, 1]  # the seed that is on no other device
    assert effects.effects(studies.frame("mine"), "base").mixed == ""
    assert studies.run_study("mine", device=CPU, report=silent, mix_devices=True)
    said = effects.method(effects.effects(studies.frame("mine"), "base"), "the base")
    assert "seed 0: 1 run on" in said and f"1 run on {GPU} (float32)" in said
    assert "seed 1" not in said


def test_seeds_of_one_place_each_are_not_mixed():
    rows = [
        {"seed": seed, "device": GPU if seed else "AMD EPYC, 1 threads", "precision": "float32"}
        for seed in (0, 0, 1, 1)
    ]
    assert devices.sentence_of_seeds(pd.DataFrame(rows)) == ""
    assert devices.sentence_of_seeds(pd.DataFrame(columns=["seed"])) == ""
