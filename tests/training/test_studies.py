"""Studies: each run can be made, records are found again by what they answer, and a time budget leaves whole runs."""

from dataclasses import replace

import pytest
import timm
import torch

from astroformer import cli
from astroformer.ledger import records
from astroformer.recipes import get_recipe
from astroformer.training import Run, studies


@pytest.fixture
def tiny_study(own_runs, monkeypatch):
    run = Run(model="spectformer_ti", dataset="galaxies", train_images=20, image_size=32,
              recipe=get_recipe("smoke", epochs=1, batch_size=10),
              options=tuple(sorted(dict(embed_dim=16, num_heads=2, depth=2, patch_size=8).items())))
    study = studies.Study("Does one spectral block help?", {"none": studies.vary(run, spectral_blocks=0),
                                                            "one": studies.vary(run, spectral_blocks=1)}, seeds=(0, 1))
    monkeypatch.setitem(studies.STUDIES, "tiny", study)
    return study


@pytest.mark.parametrize("name", studies.STUDIES)
def test_the_networks_of_a_study_can_be_built_and_no_two_runs_are_one(name):
    runs = [run for _, run in studies.get_study(name).runs()]
    described = {(run.model, run.options, str(run.recipe.deciding()), run.seed) for run in runs}
    assert len(described) == len(runs)
    with torch.device("meta"):
        for run in studies.get_study(name).variations.values():
            timm.create_model(run.model, num_classes=10, img_size=run.image_size or 64, **dict(run.options))


def test_whole_seeds_come_one_after_another(tiny_study):
    assert [(name, run.seed) for name, run in tiny_study.runs()] == [("none", 0), ("one", 0), ("none", 1), ("one", 1)]


def test_a_study_trains_what_is_missing_within_its_budget_and_goes_on(tiny_study):
    assert set(studies.frame("tiny").status) == {"not run"}
    lines = []
    assert not studies.run_study("tiny", minutes=0, report=lines.append)
    assert "0 of 4 runs done; the same command goes on" in lines[-1]
    assert not studies.run_study("tiny", minutes=1e-4, report=lines.append)  # the first begins, and outlasts the budget
    assert studies.frame("tiny").status.eq("completed").sum() == 1
    assert studies.run_study("tiny", report=lines.append)
    table = studies.frame("tiny")
    assert table.status.eq("completed").all() and table.top1.between(0, 100).all()
    assert len(records.read()) - len(list(records.read(folder=records.paths.LEDGER))) == 4  # none was trained twice


def test_a_record_answers_only_the_run_that_it_is_of(tiny_study):
    studies.run_study("tiny", report=lambda line: None)
    record = next(r for r in records.read() if r["origin"] == "local")
    run = next(run for _, run in tiny_study.runs() if run.seed == record["seed"] and studies.answers(record, run))
    assert studies.answers(record, replace(run, recipe=replace(run.recipe, precision="float32")))
    for other in (replace(run, seed=7), replace(run, fraction=0.5), replace(run, validation=0.1), replace(run, image_size=48),
                  replace(run, train_images=30), replace(run, recipe=replace(run.recipe, epochs=2)), studies.vary(run, depth=3)):
        assert not studies.answers(record, other)


def test_the_command_lists_studies_and_shows_one(tiny_study, capsys):
    assert cli.main(["study"]) == 0 and "tiny" in capsys.readouterr().out
    assert cli.main(["study", "tiny", "--show"]) == 0
    assert "--model-option spectral_blocks=1" in capsys.readouterr().out
    assert cli.main(["study", "huge"]) == 2 and "choose one of spectral_blocks" in capsys.readouterr().err


def test_a_folder_of_other_images_is_not_taken_for_the_studys(tiny_folder, own_runs):
    with pytest.raises(ValueError, match="holds 'tiny' and the study is about 'cifar10-jpeg'"):
        studies.run_study("vit_cifar", data_dir=str(tiny_folder))
