"""Cells of studies: what arms share, in which order runs are made, which part is whose, and which
record answers which run.
"""

from dataclasses import replace

import pytest
from made_up_runs import digest_of, install, record, restored

from astroformer.data import tasks
from astroformer.ledger import identity, records
from astroformer.recipes import replace as changed
from astroformer.studies import augmentation, design, few_images, runner, stability
from astroformer.studies.cells import (
    Cell,
    Found,
    base_run,
    key_of_record,
    key_of_run,
    once,
    with_recipe,
)
from astroformer.studies.price import Pretended
from astroformer.studies.runner import Shard
from astroformer.training import fit

THREE = (few_images, stability, augmentation)


def cells_of(module, profile="cpu", found=None):
    one = design.read(module.NAME)
    return module.cells(one, one.profile(profile), Pretended() if found is None else found)


@pytest.fixture
def tiny(own_runs, tiny_folder, monkeypatch):
    """A task, its recipe and its designs that this process alone knows."""
    monkeypatch.setenv("ASTROFORMER_DATA", str(tiny_folder.parent))
    restored(monkeypatch)
    install(own_runs)


def test_runs_already_made_are_those_that_are_asked_for():
    """Another digest means that the ledger's runs no longer answer. Where that is meant (an order
    or a protocol is changed on purpose), write the new one here.
    """
    empty = Found([])
    assert digest_of(cells_of(few_images, found=empty)) == "ef2db7746851"
    assert digest_of(cells_of(few_images)) == "0cb1398645fa"
    assert digest_of(cells_of(stability)) == "a3d7bbd7db80"
    assert digest_of(cells_of(augmentation)) == "d602e8e7a243"
    assert cells_of(augmentation, found=empty) == []  # it waits for a rate


@pytest.mark.parametrize("module", (few_images, stability))
@pytest.mark.parametrize("profile", ["cpu", "gpu", "cluster"])
def test_arms_of_a_seed_share_everything_but_what_the_arm_changes(module, profile):
    blocks = {}
    for cell in cells_of(module, profile):
        rate = cell.settings.get("rate") if cell.stage in ("tuning", "rates") else None
        decay = cell.settings.get("decay") if cell.stage == "tuning" else None
        part = cell.settings.get("part")
        blocks.setdefault((cell.stage, cell.task, cell.seed, rate, decay, part), []).append(cell)
    assert len(blocks) >= 18
    for cells in blocks.values():
        # every arm is tuned alike here, as Pretended has it, so that all recipes are the same
        assert len({replace(cell.run, options=(), model="vit_cifar") for cell in cells}) == 1
        arms = {cell.arm: (cell.run.model, cell.run.options) for cell in cells}
        assert len(set(arms.values())) == len(arms) >= 1


@pytest.mark.parametrize("module", THREE)
def test_every_number_of_a_run_is_that_of_its_task(module):
    for cell in cells_of(module):
        task = tasks.TASKS[cell.task]
        assert cell.run.validation == task.held_out / task.pool
        size = "middle" if cell.stage == "middle" else "low"
        assert round(cell.run.fraction * (task.pool - task.held_out)) == task.each[size]
        assert cell.run.evaluated_on == (
            "validation" if cell.stage in ("tuning", "rates") else "test"
        )
        assert cell.run.data_dir == cell.task and cell.run.seed == cell.seed


def test_steps_are_a_factor_up_to_ten_and_a_number_above():
    one = design.read("few_images")
    arm, cpu, gpu = one.arm("CCCT"), one.profile("cpu"), one.profile("gpu")
    for profile, steps, expected in (
        (cpu, 1.0, 2000),
        (cpu, 0.25, 500),
        (cpu, 2.0, 4000),
        (cpu, 600, 600),
        (gpu, 1.0, 5000),
    ):
        run = base_run(arm, "cifar100", profile, seed=1, size="low", steps=steps)
        assert run.recipe.steps == expected
    with pytest.raises(ValueError, match="task cifar100 has no size 'huge'; choose one of low, mi"):
        base_run(arm, "cifar100", cpu, seed=1, size="huge")
    assert with_recipe(run, mixup=0.5).recipe.mixup == 0.5 and run.recipe.mixup == 0.2


# Order


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_runs_come_by_tier_and_a_block_of_arms_is_made_as_a_whole(profile):
    cells = runner.cells_of([module.NAME for module in THREE], profile, Pretended())
    tiers = [cell.tier for cell in cells]
    assert tiers == sorted(tiers) and len(set(tiers)) > 5
    seen, last = set(), None
    for cell in cells:
        block = (cell.tier, cell.study, cell.stage, cell.task, cell.seed)
        block += (tuple(cell.settings.items()),) if cell.stage == "rates" else ()
        if block != last:
            assert block not in seen, f"{block} is made in two parts"
            seen.add(block)
        last = block


def test_a_run_that_two_studies_ask_for_is_named_once_by_the_earlier(tiny):
    path = design.STUDIES / "stability.yml"
    text = path.read_text()
    for old, new in (
        ("{clip_grad: 0.0}, steps: 12, rates: [0.001, 1.0e+12]", "{}, steps: 1, rates: [0.001]"),
        ("seeds: [10]", "seeds: [100]"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text)
    [own] = runner.cells_of(["stability"], "cpu", Pretended())
    both = runner.cells_of(["stability", "few_images"], "cpu", Pretended())
    [shared] = [cell for cell in both if cell.key == own.key]
    assert (own.study, shared.study, shared.stage) == ("stability", "few_images", "tuning")
    assert len(both) == 6 == len(runner.cells_of(["few_images"], "cpu", Pretended()))


def test_a_run_that_two_parts_of_an_order_ask_for_is_named_once_by_the_first(tiny):
    text = (design.STUDIES / "few_images.yml").read_text()
    text += "  - {tier: 9, stage: low, arms: [CCCT, CCTT], seeds: [10, 11]}\n"
    (design.STUDIES / "few_images.yml").write_text(text)
    cells = runner.cells_of(["few_images"], "cpu", Pretended())
    low = [(cell.tier, cell.arm, cell.seed) for cell in cells if cell.stage == "low"]
    assert low == [(2, "CCCT", 10), (2, "CCTT", 10), (9, "CCCT", 11), (9, "CCTT", 11)]
    assert len({cell.key for cell in cells}) == len(cells)


def test_runs_that_two_parts_name_are_counted_once():
    """A profile's seeds stand in for those of each part."""
    for module in (few_images, stability):
        raw = cells_of(module, "gpu")
        kept = once(raw)
        assert len(kept) < len(raw) and {cell.key for cell in kept} == {cell.key for cell in raw}
        of = {(cell.stage, cell.task, cell.arm, cell.seed, cell.key) for cell in kept}
        assert len(of) == len(kept) and kept[0] == raw[0]
    assert list(once(cells_of(few_images))) == cells_of(few_images)
    study = stability.result("gpu", [record(cell) for cell in cells_of(stability, "gpu")])
    assert len(study.runs) == 3 * 6 * 8 and study.summary()["runs"].eq(48).all()


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_shards_are_a_partition_that_splits_no_block_of_arms(of):
    names = [module.NAME for module in THREE]
    whole = runner.cells_of(names, "cpu", Pretended())
    parts = [runner.cells_of(names, "cpu", Pretended(), Shard(i, of)) for i in range(of)]
    assert sum(map(len, parts)) == len(whole)
    assert {cell.key for part in parts for cell in part} == {cell.key for cell in whole}
    where = {}
    for index, part in enumerate(parts):
        assert part  # 837 runs are enough for all
        for cell in part:
            block = (cell.study, cell.stage, cell.task, cell.seed)
            assert where.setdefault(block, index) == index


@pytest.mark.parametrize("text", ["5/4", "4/4", "1", "", "a/b", "-1/4", "0/0", "1/2/3", "²/4"])
def test_a_part_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"is not I/N with I from 0 to N - 1, such as 0/4"):
        Shard.parse(text)
    assert Shard.parse("3/4") == Shard(3, 4)


def test_a_task_alone_is_all_of_its_runs_and_asks_for_no_other_images(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROFORMER_DATA", str(tmp_path))
    (tmp_path / "cifar100").mkdir()
    names = ["few_images", "stability"]
    whole = runner.cells_of(names, "cpu", Pretended())
    shard = Shard.parse("0/1", ["cifar100"])
    some = runner.cells_of(names, "cpu", Pretended(), shard)
    assert some == [cell for cell in whole if cell.task == "cifar100"] and some
    assert shard.words == ["--task", "cifar100"]
    assert Shard.parse("1/4", ["a", "b"]).words == ["--shard", "1/4", "--task", "a", "--task", "b"]
    runner.check_images(some)
    with pytest.raises(FileNotFoundError, match="galaxies3.*, or name the others with --task$"):
        runner.check_images(whole)
    (tmp_path / "cifar100").rmdir()
    with pytest.raises(FileNotFoundError, match="cifar100.* to the folder that has them$"):
        runner.check_images(some)


# Confirmatory runs follow from the tuning


def tuning_records(cells, best):
    """Of tuning cells: (task, arm) -> the rate that is best, by both measures."""
    return [
        record(
            cell,
            60.0 if cell.settings["rate"] == best[cell.task, cell.arm] else 40.0,
            metrics={"nll": 1.0 if cell.settings["rate"] == best[cell.task, cell.arm] else 2.0},
        )
        for cell in cells
    ]


def test_confirmatory_runs_wait_for_the_tuning_of_all_arms_of_the_part_on_their_task():
    best = {
        ("cifar100", "CCCT"): 0.001,
        ("cifar100", "CCTT"): 0.004,
        ("tiny40", "CCCT"): 0.0005,
    }
    made = []
    while True:  # both rounds: the second is named when the first is over
        cells = cells_of(few_images, found=Found(made))
        more = [
            cell
            for cell in cells
            if cell.stage == "tuning" and (cell.task, cell.arm) in best
            if Found(made).of(cell) is None
        ]
        if not more:
            break
        made += tuning_records(more, best)
    assert len(made) == 3 * (12 + 2)
    cells = cells_of(few_images, found=Found(made))
    rates = {(cell.task, cell.arm, cell.settings["rate"]) for cell in cells if cell.stage == "low"}
    # tiny40 has one of its two arms tuned, and waits
    assert rates == {("cifar100", "CCCT", 0.001), ("cifar100", "CCTT", 0.004)}
    seeds = {cell.seed for cell in cells if cell.stage == "low"}
    assert seeds == {10, 11, 12}  # those of the part of two arms; C-T-T-T is not tuned
    for cell in cells:
        if cell.stage == "low":
            assert cell.run.recipe.learning_rate == cell.settings["rate"]
            assert cell.run.recipe.weight_decay == cell.settings["decay"]
    # the untuned rate needs no tuning
    assert {cell.task for cell in cells if cell.stage == "untuned"} == set(
        design.read("few_images").tasks
    )
    # and the factorial takes the rate of C-C-C-T where it is known
    found = cells_of(augmentation, found=Found(made))
    assert {cell.run.recipe.learning_rate for cell in found} == {0.001}
    assert {cell.task for cell in found} == {"cifar100"}


def test_an_arm_may_take_the_values_that_another_was_tuned_to():
    one = design.read("few_images")
    macs = [cell for cell in cells_of(few_images) if cell.arm == "CCTT-macs"]
    assert {cell.seed for cell in macs} == {10, 11, 12, 13, 14}
    assert not any(cell.stage == "tuning" for cell in macs)
    own = next(
        cell
        for cell in cells_of(few_images)
        if (cell.arm, cell.stage, cell.task, cell.seed) == ("CCTT", "low", macs[0].task, 10)
    )
    assert macs[0].run.recipe == own.run.recipe
    assert macs[0].run.options != own.run.options and dict(one.arms)["CCTT-macs"].options


# Which record answers which run


def test_the_record_of_a_real_run_answers_the_cell_that_asked_for_it(tiny):
    cell = cells_of(stability, found=Found([]))[0]
    kept = fit(cell.run, report=lambda line: None, study={"name": "stability"}).record
    assert kept["status"] == "completed"
    assert key_of_record(kept) == key_of_run(cell.run) == cell.key
    assert Found(records.read()).of(cell.run)["run"] == kept["run"]
    # the records that the other tests make up are like it
    made_up = record(cell)
    assert key_of_record(made_up) == cell.key
    assert set(made_up["identity"]) == set(kept["identity"])
    assert set(made_up["metrics"]) - {"top5"} <= set(kept["metrics"])
    assert set(made_up) == set(kept)


def changed_run(cell, **changes):
    return replace(cell, run=replace(cell.run, **changes))


def test_a_record_answers_no_run_that_differs_in_anything_that_decides():
    cell = cells_of(stability)[0]
    found = Found([record(cell)])
    assert found.of(cell) and found.of(cell.run)
    for other in (
        dict(seed=11),
        dict(image_size=64),
        dict(fraction=0.5),
        dict(validation=0.1),
        dict(evaluate="test"),
        dict(data_dir="cifar100_20"),
        dict(class_fraction=0.5),
        dict(options=(("stack", "CCTT"),)),
        dict(recipe=changed(cell.run.recipe, learning_rate=0.5)),
        dict(recipe=changed(cell.run.recipe, steps=601)),
        dict(recipe=changed(cell.run.recipe, mixing="independent")),
    ):
        assert found.of(changed_run(cell, **other)) is None, other
    for same in (
        dict(recipe=changed(cell.run.recipe, precision="bfloat16")),
        dict(recipe=changed(cell.run.recipe, precision="float32", preprocessing="data")),
        dict(recipe=replace(cell.run.recipe, name="another", source="name")),
        dict(options=(("stack", "CCCT"), ("rel_bias", "inside"))),
    ):
        assert found.of(changed_run(cell, **same)), same


def test_records_of_another_revision_are_left_out_and_counted():
    one, two = cells_of(stability)[:2]
    older = record(one, revision=identity.REVISION - 1)
    gone = record(two)
    gone["identity"]["options"] = {"no_such_option": 3}
    unknown = record(two) | {}
    unknown["identity"]["model"] = "no_such_network"
    alien = record(one, revision=identity.REVISION - 1, study=None)  # not asked for by a study
    found = Found([older, gone, unknown, alien])
    assert found.by_key == {} and found.other_revisions == 3
    assert found.of(one) is None and found.of(two) is None
    assert Found([older, record(one)]).of(one)["identity"]["revision"] == identity.REVISION


def test_an_interrupted_run_does_not_answer_and_a_diverged_one_does():
    cell = cells_of(stability)[0]
    assert Found([record(cell, status="interrupted")]).of(cell) is None
    failed = record(cell, status="failed")
    assert Found([failed]).of(cell) is failed
    assert runner.missing([cell], Found([failed])) == []
    assert runner.missing([cell], Found([record(cell, status="interrupted")])) == [cell]


def test_of_several_records_the_newest_completed_counts_else_the_newest_failed():
    cell = cells_of(stability)[0]
    at = "2026-01-0{}T00:00:00+00:00".format
    first, second = (record(cell, started=at(day)) for day in (1, 2))
    early, late = (record(cell, status="failed", started=at(day)) for day in (3, 4))
    for known, expected in (
        ([first, second], second),
        ([early, late], late),
        ([first, late], first),
        ([early, second], second),
        ([early, first, late], first),
    ):
        assert Found(known).of(cell) is expected


def test_a_cell_is_known_by_its_run_and_not_by_what_it_is_for():
    cell = cells_of(stability)[0]
    other = Cell("other", 9, "low", cell.task, "x", 1, cell.run)
    assert other.key == cell.key and Found([record(cell)]).of(other)


def test_a_run_on_other_images_of_a_folder_answers_no_cell():
    """A stretch, and a test split drawn from the folder, came after the first records."""
    [cell, *_] = cells_of(few_images)
    own = record(cell)
    assert key_of_record(own) == cell.key
    for name, value in (("stretch", "asinh"), ("test_fraction", 0.2)):
        other = {**own, "identity": own["identity"] | {name: value}}
        assert key_of_record(other) != cell.key
