"""The command line: each verb answers, JSON is JSON, and bad input ends with one line and status
2.
"""

import json

import pytest
from galaxy_folder import write_galaxies

from astroformer import cli
from astroformer.training import parse_option


def call(capsys, *words):
    status = cli.main(list(words))
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize("words", [["models"], ["data", "list"], ["ledger"], ["claims"]])
def test_every_table_is_printed_and_comes_as_json(capsys, own_runs, words):
    status, text, _ = call(capsys, *words)
    assert status == 0 and text.strip()
    status, text, _ = call(capsys, *words, "--json")
    assert status == 0 and isinstance(json.loads(text), list)


def test_cost_counts_the_release(capsys):
    words = ["cost", "astroformer_0", "--image-size", "224", "--classes", "10"]
    _, text, _ = call(capsys, *words, "--json")
    counted = json.loads(text)
    assert (
        counted["params"] == 22_772_282
        and counted["macs"] == 3_994_182_144
        and counted["stack"] == "CCCT"
    )
    status, said, _ = call(capsys, *words)
    assert status == 0 and "22,772,282" in said


def test_a_folder_of_images_is_trained_on_and_evaluated(capsys, own_runs, tmp_path):
    write_galaxies(tmp_path / "mine", train=8, test=4)
    where = ["--dataset", "folder", "--data-dir", str(tmp_path / "mine")]
    status, said, _ = call(
        capsys,
        "train",
        *where,
        "--image-size",
        "32",
        "--set",
        "epochs=2",
        "--set",
        "batch_size=8",
        "--stack",
        "CCTT",
    )
    assert status == 0 and "epoch   2/2" in said and "top1" in said
    checkpoint = next((tmp_path / "runs").glob("*/last.pt"))
    status, text, _ = call(capsys, "evaluate", str(checkpoint), *where, "--json")
    measured = json.loads(text)[0]
    record = json.loads(next((tmp_path / "ledger").glob("*.jsonl")).read_text())
    assert (
        measured["top1"] == pytest.approx(record["metrics"]["top1"])
        and measured["finished"]
        and measured["images"] == 12
    )
    assert record["stack"] == "CCTT" and record["options"] == {"stack": "CCTT"}
    status, said, _ = call(capsys, "data", "stats", *where)
    assert status == 0 and "sha256" in said


@pytest.mark.parametrize(
    "words, expected",
    [
        (["train", "--model", "astroformer_9"], "choose one of astroformer_pico"),
        (["train", "--recipe", "fast"], "choose one of smoke"),
        (["train", "--set", "epoch=3"], "field of a recipe"),
        (["train", "--dataset", "folder"], "--data-dir"),
        (["train", "--dataset", "folder", "--data-dir", "nowhere"], "no folder nowhere"),
        (["train", "--image-size", "50", "--train-images", "20"], "not a multiple of 16"),
        (
            ["train", "--stack", "CCCX", "--train-images", "20", "--image-size", "32"],
            'stack="CCCX"',
        ),
        (["train", "--model-option", "rel_bias"], "NAME=VALUE"),
        (
            ["train", "--log", "comet", "--train-images", "20"],
            "choose one of csv, tensorboard, wandb",
        ),
        (["evaluate", "no.pt"], "no.pt"),
        (["evaluate"], "--weights FILE"),
        (["evaluate", "--weights", "no.pth"], "--model NAME"),
        (
            ["evaluate", "--weights", "no.pth", "--model", "spectformer_xs", "--image-size", "32"],
            "no.pth",
        ),
        (
            ["evaluate", "--weights", "no.pth", "--model", "spectformer"],
            "choose one of astroformer_pico",
        ),
        (
            ["data", "stats", "--dataset", "imagenet1k", "--data-dir", "nowhere"],
            "does not hold ImageNet's tree",
        ),
        (["data", "unpack", "no.tar", "there"], "no archive no.tar"),
        (["ledger", "--keep", "abc", "name"], "no completed local record"),
    ],
)
def test_bad_input_ends_with_one_line_that_names_the_way_out(
    capsys, own_runs, monkeypatch, words, expected
):
    monkeypatch.chdir(own_runs)
    status, _, complaint = call(capsys, *words)
    assert status == 2 and expected in complaint and len(complaint.strip().splitlines()) == 1


def test_a_checkpoint_of_other_classes_is_not_evaluated_silently(
    capsys, own_runs, tiny_folder, tmp_path
):
    words = [
        "train",
        "--dataset",
        "folder",
        "--data-dir",
        str(tiny_folder),
        "--image-size",
        "32",
        "--set",
        "epochs=1",
        "--set",
        "batch_size=8",
    ]
    assert call(capsys, *words)[0] == 0
    checkpoint = next((tmp_path / "runs").glob("*/last.pt"))
    write_galaxies(tmp_path / "other", train=2, test=2)
    for split in ("train", "test"):
        (tmp_path / "other" / split / "round").rename(tmp_path / "other" / split / "oval")
    status, _, complaint = call(
        capsys,
        "evaluate",
        str(checkpoint),
        "--dataset",
        "folder",
        "--data-dir",
        str(tmp_path / "other"),
    )
    assert status == 2 and "same classes" in complaint


@pytest.mark.parametrize(
    "text, value",
    [("depth=6", 6), ("drop=0.1", 0.1), ("token_label=true", True), ("stack=CCTT", "CCTT")],
)
def test_an_option_of_a_network_has_the_type_that_it_reads_as(text, value):
    name, parsed = parse_option(text)
    assert (name, parsed) == (text.partition("=")[0], value) and type(parsed) is type(value)
