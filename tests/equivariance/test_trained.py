"""A measurement of a checkpoint is complete, is kept beside its run, and is averaged over seeds
and never over networks.
"""

import json
import math
import re
from dataclasses import replace

import pandas as pd
import pytest
import timm
import torch
from smoke_records import FIRST, REPAIRED, record

from astroformer.cli import main
from astroformer.equivariance import causes, comparisons
from astroformer.equivariance import trained as kept
from astroformer.recipes import get_recipe
from astroformer.training import Run, fit, load_trained

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tiny_folder, shared_runs):
    """Two seeds of the released network and one of the variant by construction, one epoch each."""
    return [
        fit(
            Run(
                model="astroformer_pico",
                dataset="folder",
                data_dir=str(tiny_folder),
                image_size=32,
                seed=seed,
                options=options,
                recipe=get_recipe("smoke", epochs=1, batch_size=8),
            ),
            device=CPU,
            report=lambda line: None,
        ).weights
        for seed, options in ((0, ()), (1, ()), (0, tuple(REPAIRED.items())))
    ]


@pytest.fixture(scope="module")
def images(tiny_folder):
    return kept.sample("folder", 12, image_size=32, data_dir=str(tiny_folder))


@pytest.fixture(scope="module")
def frame(trained, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "FOLDER", folder)
        patch.setattr(kept, "FEW", 2)  # images in double precision, for speed
        for checkpoint in trained:
            for weights in kept.WEIGHTS:
                line = kept.measure(checkpoint, images, weights=weights, shifts=(1, 16))
                kept.keep(line, "here")
        kept.keep(line, "again")  # the newest counts, once
    return kept.read(folder)


def test_images_are_taken_of_each_class_alike(images):
    assert list(images.counts()) == [4, 4, 4] and images.split == "test"


def test_what_is_kept_is_read_back_with_what_the_ledger_says_of_its_run(frame):
    assert len(frame) == 6 and sorted(frame["seed"]) == [0, 0, 0, 0, 1, 1]
    assert (
        list(frame["network"]).count("as released") == 4
        and list(frame["network"]).count("by construction") == 2
    )
    assert set(frame["recipe"]) == {"smoke+batch_size=8+epochs=1"} and set(frame["weights"]) == set(
        kept.WEIGHTS
    )


def test_the_variant_is_exact_before_and_after_training_and_the_release_is_not(frame):
    for part in ("S4", "logits"):
        found = kept.errors_over_seeds(frame, part).set_index(["network", "precision"])
        assert set(found["pixels"]) == {1, 16}
        within = (found["low"] <= 1.001 * found["mean"]) & (found["mean"] <= 1.001 * found["high"])
        assert within.all()
        released, exact = found.loc["as released"], found.loc["by construction"]
        assert exact.loc["float64", "high"].max() < 1e-12 < released["low"].min()
        assert exact["high"].max() < 1e-4
    exact = [
        row["consistency"]["shift by 1 px"]["same class (%)"]
        for _, row in frame.iterrows()
        if row["network"] == "by construction"
    ]
    assert exact == [100, 100]


def test_the_table_of_errors_prints_the_spread_over_seeds(frame):
    table = kept.error_table(frame).set_index(["network", "weights"])
    assert list(table.columns) == ["data", "recipe", "model", "seeds", "16 px", "1 px"]
    assert table.loc[("as released", "trained"), "seeds"] == 2
    found = [
        100 * row["errors"]["logits"]["1"]["float64"]
        for _, row in frame.iterrows()
        if (row["network"], row["weights"]) == ("as released", "trained")
    ]
    low, high = kept.rounded(min(found)), kept.rounded(max(found))
    assert table.loc[("as released", "trained"), "1 px"].endswith(f"% ({low} to {high})")
    assert "e-1" in table.loc[("by construction", "trained"), "1 px"]


@pytest.mark.parametrize(
    "model, options, name",
    [
        ("astroformer_pico", {}, "as released"),
        ("astroformer_pico", REPAIRED, "by construction"),
        ("astroformer_0", {"padding": "circular", "offsets": "torus"}, "strides alone"),
        ("astroformer_0", {"stack": "CCTT"}, "as released, stack=CCTT"),
        ("astroformer_0", {"offsets": "torus"}, "offsets=torus"),
        ("vit_cifar", {}, "as released"),
        ("vit_cifar", {"scale": "head"}, "as released, scale=head"),
    ],
)
def test_a_network_is_named_by_its_options_and_no_option_goes_unsaid(model, options, name):
    assert kept.named(model, options) == name


def test_parts_of_the_lie_derivative_add_up_in_what_is_kept(frame):
    for lie in frame["lie"]:
        assert sum(kind["share (%)"] for kind in lie["by_kind"].values()) == pytest.approx(100)
        assert lie["size"] > 0
    table = kept.lie_by_kind(
        frame[(frame["network"] == "as released") & (frame["weights"] == "trained")]
    )
    assert table["share (%)"].sum() == pytest.approx(100) and (table["half"] >= 0).all()


def test_random_weights_are_those_that_the_run_began_with(trained, images):
    described = load_trained(trained[1])[1]
    torch.manual_seed(1)
    fresh = timm.create_model(described["model"], **described["options"])
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            kept.as_drawn(described).state_dict().values(), fresh.state_dict().values(), strict=True
        )
    )


def test_tables_average_over_seeds_and_say_how_many(frame):
    table = kept.same_class(frame, ["shift by 1 px", "mirror image"]).set_index(
        ["network", "weights"]
    )
    assert table.loc[("as released", "trained"), "shift by 1 px"].endswith("(2)")
    assert table.loc[("by construction", "trained"), "shift by 1 px"] == "100, exact (1)"
    curves = kept.curves(frame)
    assert set(curves["shift"]) == {1, 16} and len(curves) == 2 * 4
    turned = comparisons.symmetry_table(frame[frame["weights"] == "trained"])
    assert list(turned["trained"]) == ["with turns and reflections"]


def moved(network, *shares, move="shift by 1 px"):
    """Measurements of a network, one a seed."""
    return pd.DataFrame(
        [
            dict(
                data="galaxies",
                recipe="smoke",
                model="astroformer_pico",
                network=network,
                weights="trained",
                group=network,
                revision=2,
                identity={},
                errors={"logits": {"16": {}, "1": {}}},
                consistency={
                    move: {"same class (%)": share, "change in accuracy (points)": share - 100}
                },
            )
            for share in shares
        ]
    )


@pytest.mark.parametrize(
    "network, move, exact",
    [
        ("by construction", "shift by 3 px", True),
        ("by construction, stack=CCTT", "shift by 3 px", True),
        ("by construction", "mirror image", False),
        ("BlurPool", "shift by 16 px", True),
        ("BlurPool", "shift by 8 px", False),
        ("strides alone", "shift by 32 px", True),
        ("as released", "shift by 16 px", False),
    ],
)
def test_only_what_a_theorem_promises_and_every_seed_shows_is_called_exact(network, move, exact):
    def said(*shares, what="same class (%)"):
        return kept.same_class(moved(network, *shares, move=move), [move], what=what)[move][0]

    assert said(100.0, 100.0, 100.0) == ("100, exact (3)" if exact else "100.0 (3)")
    change = said(100.0, 100.0, 100.0, what="change in accuracy (points)")
    assert change == ("0, exact (3)" if exact else "0.0 ± 0.0 (3)")
    assert "exact" not in said(100.0, 99.5, 100.0)


def test_intervals_of_shares_stay_within_the_hundred():
    frame = moved("as released", 97.0, 99.5, 100.0)
    text = kept.same_class(frame, ["shift by 1 px"])["shift by 1 px"][0]
    low, high = (float(end) for end in text.split(", ")[1].split(" (")[0].split(" to "))
    assert text.startswith("98.8, ") and 70 < low < 98.8 < high <= 100
    curve = kept.curves(frame).iloc[0]
    assert (round(curve["low"], 1), round(curve["high"], 1)) == (low, high)
    # two seeds have no interval, and a line without a band
    curve = kept.curves(moved("as released", 97.0, 99.0)).iloc[0]
    assert curve["low"] == curve["mean"] == curve["high"] == 98


# The verdict


def checks(theorem):
    """What `network.attention_checks` gives, as far as the verdict reads it."""
    found = dict.fromkeys(("plane, released offsets", "torus, released offsets"), [0.0])
    return pd.DataFrame({"torus, wrapped offsets": [theorem]} | found)


def errors_of(data, network, weights, pixel, stride):
    of_logits = {"16": {"float64": stride}, "1": {"float64": pixel}}
    return dict(data=data, network=network, weights=weights, errors={"logits": of_logits})


@pytest.mark.parametrize(
    "theorem, stride, pixel, expected",
    [
        (1e-15, 1e-15, 1e-15, "reproduced"),
        (1e-15, 1e-15, 1e-3, "partly"),
        (1e-15, 1e-2, 1e-3, "partly"),
        (1e-2, 1e-2, 1e-2, "contradicted"),
    ],
)
def test_the_verdict_follows_from_the_numbers(theorem, stride, pixel, expected):
    frame = pd.DataFrame([errors_of("a", "as released", "trained", pixel, stride)])
    assert kept.verdict(checks(theorem), kept.changes(frame))[0] == expected


def test_the_verdict_speaks_of_trained_networks_as_released_and_of_each_data_set():
    frame = pd.DataFrame(
        [
            errors_of("synthetic galaxies", "as released", "trained", 0.14, 0.04),
            errors_of("synthetic galaxies", "as released", "trained", 0.22, 0.081),
            errors_of("Galaxy Zoo 1 subset (9 images)", "as released", "trained", 0.06, 0.064),
            errors_of("synthetic galaxies", "as released", "random", 0.9, 0.9),
            errors_of("synthetic galaxies", "BlurPool", "trained", 0.9, 0.9),
        ]
    )
    word, reason = kept.verdict(checks(1e-15), kept.changes(frame))
    assert word == "partly" and reason.endswith(
        "the logits of 3 trained networks as released change by 14 to 22 % (synthetic galaxies) "
        "and 6.0 % (Galaxy Zoo 1) for one pixel, and by 4.0 to 8.1 % (synthetic galaxies) and "
        "6.4 % (Galaxy Zoo 1) for the whole stride of 16 pixels"
    )
    spoken = kept.facts(checks(1e-15), frame)
    assert spoken["trained_pixel"] == "6.0 to 22" and spoken["trained_stride"] == "4.0 to 8.1"
    assert (spoken["verdict"], spoken["verdict_reason"]) == (word, reason)
    assert kept.facts(checks(1e-15), frame[3:])["verdict"] == "not run"


def test_a_measurement_without_its_run_is_refused(trained, images, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "FEW", 1)
    line = kept.measure(trained[0], images, shifts=(1,)) | {"run": "000000000000"}
    (tmp_path / "one.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match="no record; keep it too"):
        kept.read(tmp_path)
    monkeypatch.setattr(kept.records, "completed", lambda run: None)
    with pytest.raises(ValueError, match="its seed is not known"):
        kept.measure(trained[0], images, weights="random")


def test_images_of_other_classes_are_refused(trained):
    with pytest.raises(ValueError, match="Measure it on a data set with the same classes"):
        kept.measure(trained[0], kept.sample("galaxies", 10, image_size=32))


def measurements(folder, *found):
    """The ledger with these records, and a measurement of each, in the order given."""
    for number, one in enumerate(found):
        kept.records.append(one)
        line = dict(
            run=one["run"],
            weights="trained",
            model=one["model"],
            options={},
            consistency={"shift by 1 px": {"same class (%)": float(number)}},
            measured=f"2026-02-01T00:00:0{number}+00:00",
        )
        kept.records.write_line(line, folder / "here.jsonl")
    return kept.read(folder)


def test_measurements_are_grouped_by_values_and_each_run_counts_once(own_runs, tmp_path):
    other = replace(get_recipe("smoke"), learning_rate=0.3)
    found = [record(0, 60.0), record(1, 60.0), record(0, 60.0, other), record(1, 60.0)]
    found[3]["run"] = "the hash of an equal run"
    frame = measurements(tmp_path, *found)
    table = kept.same_class(frame, ["shift by 1 px"])
    assert dict(zip(table["recipe"], table["shift by 1 px"])) == {
        f"{FIRST}, learning_rate=0.003": kept.tables.mean_interval([0, 3], 1),
        f"{FIRST}, learning_rate=0.3": "2.0 (1)",
    }
    assert len(kept.curves(frame)) == 2 and set(frame["recipe"]) == {"smoke"}


def test_an_empty_folder_is_an_empty_table(tmp_path):
    assert len(kept.read(tmp_path)) == 0


def test_accuracies_come_from_the_ledger_by_network(trained):
    table = comparisons.accuracies(kept.records.frame()).query(
        "data.str.contains('tiny')", engine="python"
    )
    assert sorted(table["network"]) == ["as released", "by construction"]
    assert table.set_index("network").loc["as released", "top-1 (%)"].endswith("(2), pilot")
    assert all(math.isfinite(float(re.split(r"[ ,]", text)[0])) for text in table["top-1 (%)"])


def test_the_verb_keeps_both_weights_and_refuses_what_it_cannot_keep(
    trained, tiny_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    monkeypatch.setattr(causes, "FOLDER", tmp_path / "causes")
    monkeypatch.setattr(kept, "FEW", 1)
    words = [
        "equivariance",
        "--checkpoint",
        str(trained[0]),
        "--dataset",
        "folder",
        "--data-dir",
        str(tiny_folder),
        "--images",
        "6",
    ]
    assert main([*words, "--keep", "mine"]) == 0 and "kept in" in capsys.readouterr().out
    assert [
        json.loads(line)["weights"] for line in (tmp_path / "mine.jsonl").read_text().splitlines()
    ] == list(kept.WEIGHTS)
    assert len((tmp_path / "causes" / "mine.jsonl").read_text().splitlines()) == 1
    assert main([*words, "--keep", "../mine"]) == 2 and "is not a name" in capsys.readouterr().err
    assert (
        main(["equivariance", "--keep", "mine"]) == 2
        and "--keep needs --checkpoint" in capsys.readouterr().err
    )


# The causes of a trained network's error


def test_causes_are_kept_with_the_record_of_the_run_and_read_back(
    trained, images, tmp_path, monkeypatch
):
    monkeypatch.setattr(kept, "FEW", 2)
    monkeypatch.setattr(causes, "FOLDER", tmp_path)
    for checkpoint in trained:
        causes.keep(causes.measure(checkpoint, images, shifts=(1, 2)), "here")
    causes.keep(causes.measure(trained[0], images, shifts=(1, 2)), "again")
    frame = causes.read()
    assert sorted(frame["network"]) == ["as released", "as released", "by construction"]
    line = frame.iloc[0]
    assert line["shifts"] == [1, 2, 16] and line["whole_stride"] == 16
    assert set(line["squared"]) == {"aligned", "polyphase"}
    assert "history" not in line["training"] and line["training"]["run"] == line["run"]
    assert causes.worth(line, [1, 2])[frozenset()].max() < 1e-20
    # the same error as the other measurement's, whose shifts go down; two images are the same
    assert causes.worth(line, [16])[frozenset(causes.causes_of(line["model"]))].shape == (2,)

    found = causes.shares(frame)  # of the networks as released
    assert set(found["seeds"]) == {2} and set(found["images"]) == {2}
    assert found.groupby("shift")["mean"].sum().tolist() == pytest.approx([100] * 3)
    for way in causes.WAYS:
        table = causes.by_shift(frame, way=way)
        assert (table[list(causes.causes_of("astroformer_pico"))].sum(axis=1)).tolist() == (
            pytest.approx(table["all"].tolist())
        )
    change = causes.changes(frame).iloc[0]
    assert change["runs"] == 2 and 0 < change["pixel low"] <= change["pixel high"]


def test_causes_of_a_run_without_a_record_are_refused(trained, images, monkeypatch):
    monkeypatch.setattr(kept.records, "completed", lambda run: None)
    with pytest.raises(ValueError, match="no completed record of run"):
        causes.measure(trained[0], images, shifts=(1,))
