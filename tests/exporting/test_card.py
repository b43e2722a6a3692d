"""The model card says what the ledger says of the run, and that nothing is known where it says
nothing.
"""

import re

import pytest
from exported_networks import SMALL, checkpoint_of
from small_run import CPU, small_run

from astroformer import contrasts
from astroformer.exporting import card, hub
from astroformer.exporting.subject import subject
from astroformer.training import fit


def text(path, **how):
    chosen = subject(path, **how)
    return card.text(chosen, ["import timm"])


@pytest.fixture(scope="module")
def fitted(tiny_folder, shared_runs):
    return fit(
        small_run(tiny_folder, epochs=1, ema_decay=0.9), device=CPU, report=lambda line: None
    )


def test_numbers_are_those_of_the_record_with_wilsons_interval(fitted):
    said, record = text(fitted.weights), fitted.record
    top1, number = record["metrics"]["top1"], record["dataset"]["test"]
    assert number == 24
    low, high = contrasts.wilson(top1 / 100 * number, number)
    assert f"| accuracy (%) | {top1:.2f} | {100 * low:.2f} to {100 * high:.2f} |" in said
    assert f"n = {number} test images" in said and "likeliest" not in said  # of three classes
    assert f"{record['dataset']['train']} images to train on, {number} to measure on" in said
    assert record["command"] in said and record["dataset"]["sha256"] in said
    assert "as the images' owner says" in said and "license: other" in said
    for name in ("round", "cigar", "spiral"):
        assert f"`{name}`" in said
    for part in ("Load it", "Data", "Metrics", "How it was trained", "Limits", "Licence", "Cite"):
        assert f"\n## {part}\n" in said
    assert "was not tuned" in said and "arXiv:2304.05350" in said


def test_metrics_of_other_weights_are_not_those_of_these(fitted):
    assert "the average of the weights over its steps" in text(fitted.weights)
    other = text(fitted.weights, average=False)
    assert "Not known of these weights" in other and "accuracy (%)" not in other


def test_a_card_of_an_unknown_run_says_so_and_of_an_unfinished_one_too(tmp_path, own_runs):
    path = checkpoint_of(tmp_path, *SMALL["timm's, one size"], step=3)
    said = text(path)
    assert said.count("no record of the run") >= 3 and "| accuracy" not in said
    assert "**The run had not ended**: step 3 of 7" in said and "Wightman 2019" in said
    lines = hub.lines_of(subject(path), "local-dir:here")
    assert lines[0] == "import timm"  # whose network it is


def test_the_header_is_what_the_hub_reads(tmp_path, own_runs):
    yaml = pytest.importorskip("yaml")
    said = text(checkpoint_of(tmp_path, *SMALL["logistic"]))
    header = yaml.safe_load(re.match("---\n(.*?)\n---\n", said, re.S)[1])
    assert (header["library_name"], header["pipeline_tag"]) == ("timm", "image-classification")
    assert header["license"] == "other" and set(header["tags"]) >= {"timm", "astroformer"}


def test_a_class_with_a_strange_name_breaks_nothing(tmp_path, own_runs):
    names = ["a|b", "`tick`", "<b>bold</b>", "Ümläut \\ $x$"]
    said = text(checkpoint_of(tmp_path, *SMALL["logistic"], classes=names))
    for shown in ("`a|b`", "`` `tick` ``", "`<b>bold</b>`", "`Ümläut \\ $x$`"):
        assert shown in said
