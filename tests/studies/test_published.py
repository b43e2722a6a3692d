"""The tables of the publications and the commands of the issues as runs: which there are, that each
has the published settings, and that no page says another one.
"""

import shlex
from dataclasses import replace

import pytest

from astroformer.data import DATASETS
from astroformer.ledger import claims
from astroformer.recipes import timm_flags
from astroformer.studies import missing, published, studies
from astroformer.verdicts.beside import published_recipe

CLAIMS = claims.read()
ACCURACIES = CLAIMS[
    (CLAIMS["by"] == "authors") & (CLAIMS["metric"] == "top1") & (CLAIMS["model"] != "")
]
ROWS = [row for rows in published.TABLES.values() for row in rows]


def test_every_accuracy_that_authors_print_is_a_run_of_a_table_or_had_a_teacher():
    printed = set(ACCURACIES[["system", "model", "dataset"]].itertuples(index=False, name=None))
    taught = {row for row in printed if row[1].startswith("spectformer_h")}
    assert {tuple(row) for row in ROWS} == printed - taught
    assert len(ROWS) == len(set(ROWS)) and taught


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.model}, {row.dataset}")
def test_a_row_is_trained_as_its_documents_say_on_the_whole_data_set(row):
    run = published.run_behind(row)
    recipe = published_recipe(row)
    assert run.recipe.canonical() == recipe.canonical() and run.recipe.values == "published"
    assert DATASETS[run.dataset].title == row.dataset
    assert (run.fraction, run.class_fraction, run.validation, run.init) == (1, 1, 0, None)
    assert run.options == () and run.evaluated_on == "test"
    # no batch is larger than the data
    assert run.recipe.batch_size <= DATASETS[run.dataset].train


def test_a_results_page_asks_for_the_very_runs_of_the_tables():
    for row in ROWS:
        name = published.TITLES[row.dataset]
        assert published.run_behind(row) in missing.asked_for(name, CLAIMS)


def test_galaxy10_alone_has_the_pixels_of_the_training_command():
    sizes = {row.dataset: published.run_behind(row).image_size for row in ROWS[:12]}
    assert sizes.pop("Galaxy10 DECaLS") == 256 and set(sizes.values()) == {224}


def test_tables_and_reruns_have_as_many_seeds_as_a_claim_needs_to_be_contradicted():
    for name in published.STUDIES:
        assert len(studies.get_study(name).seeds) == published.ENOUGH


# The re-runs


def issue(number, system="Astroformer"):
    return {
        name: rerun.run
        for name, rerun in published.RERUNS.items()
        if rerun.source == f"{system} issue #{number}"
    }


def test_a_rerun_is_the_command_of_its_issue_and_differs_from_the_readmes_in_nothing_else():
    words = timm_flags.README_COMMAND.split()
    readme = timm_flags.read([*words, "--gpus", "1", "--batch-size", "128"]).recipe
    [one] = issue(1).values()
    assert one.recipe.canonical() == readme.canonical() and one.recipe.precision == "auto"
    words = [word for word in words if word != "--amp"]
    six = timm_flags.read([*words, "--gpus", "1", "--batch-size", "64", "--drop", "0"]).recipe
    assert {run.recipe.canonical() == six.canonical() for run in issue(6).values()} == {True}
    assert {run.recipe.precision for run in issue(6).values()} == {"float32"}
    assert sorted(run.image_size for run in issue(6).values()) == [32, 224]


def test_a_command_of_an_issue_can_be_read_with_its_data_set():
    words = (
        "--dataset torch/cifar100 --data-dir there --model astroformer_3 --num-classes 100 "
        "--in-chans 3 --input-size 3 224 224 --batch-size 128 --grad-accum-steps 1 --opt adamw "
        "--sched cosine --lr-base 2e-5 --warmup-lr 1e-5 --epochs 300 --warmup-epochs 5 "
        "--mixup 0.8 --smoothing 0.1 --drop 0.1 --amp --gpus 1"
    )
    [run] = issue(1).values()
    command = shlex.split(timm_flags.read(words.split()).command())
    ours = shlex.split(replace(run, data_dir="there").command(located=True))
    ours = ours[: ours.index("--seed")]
    for flag in ("--model", "--dataset", "--data-dir", "--recipe"):
        assert command[command.index(flag) + 1] == ours[ours.index(flag) + 1]
    said = [{word for word in line if "=" in word} for line in (command, ours)]
    assert said[0] == said[1] | {f"epochs={run.recipe.epochs}"} - {"epochs=300"}


def test_the_numbers_of_the_issues_are_those_of_the_claims_and_a_command_may_have_none():
    said = {
        name: published.reported_by_others(rerun, CLAIMS)
        for name, rerun in published.RERUNS.items()
    }
    assert [said[name] for name in issue(1)] == ["78.46"]
    assert [said[name] for name in issue(6)] == ["", ""]
    assert [said[name] for name in issue(10, "ViT-CIFAR")] == ["about 85", "about 56"]
    known = CLAIMS[CLAIMS["by"] == "others"]["source"]
    for rerun in published.RERUNS.values():
        assert rerun.source in set(known) or rerun.source == "Astroformer issue #6"
