"""A measurement of a checkpoint is complete, is kept beside its run, and is averaged over seeds
and never over networks.
"""

import json
import math
from dataclasses import asdict, replace

import pytest
import timm
import torch

from astroformer.cli import main
from astroformer.equivariance import trained as kept
from astroformer.recipes import get_recipe
from astroformer.recipes import replace as changed
from astroformer.training import Run, fit, load_trained

CPU = torch.device("cpu")
REPAIRED = (("downsampling", "polyphase"), ("offsets", "torus"), ("padding", "circular"))


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
        for seed, options in ((0, ()), (1, ()), (0, REPAIRED))
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
        table = (
            kept.error_table(frame, part)
            .set_index(["network", "weights"])
            .drop(columns=["data", "recipe", "model"])
        )
        assert list(table.columns) == [
            "16 px, float64",
            "1 px, float64",
            "16 px, float32",
            "1 px, float32",
        ]
        exact, double = (
            table.loc["by construction"],
            [column for column in table.columns if "float64" in column],
        )
        assert (
            exact[double].to_numpy().max() < 1e-12 < table.loc["as released"].to_numpy().min()
            and exact.to_numpy().max() < 1e-4
        )
    exact = [
        row["consistency"]["shift by 1 px"]["same class (%)"]
        for _, row in frame.iterrows()
        if row["network"] == "by construction"
    ]
    assert exact == [100, 100]


@pytest.mark.parametrize(
    "model, options, name",
    [
        ("astroformer_pico", {}, "as released"),
        ("astroformer_pico", dict(REPAIRED), "by construction"),
        ("astroformer_0", {"padding": "circular", "offsets": "torus"}, "strides alone"),
        ("astroformer_0", {"stack": "CCTT"}, "as released, stack=CCTT"),
        ("astroformer_0", {"offsets": "torus"}, "offsets=torus"),
        ("vit_cifar", {}, "as released"),
        ("vit_cifar", {"scale": "head"}, "as released, scale=head"),
    ],
)
def test_a_network_is_named_by_its_options_and_no_option_goes_unsaid(model, options, name):
    assert kept._network(model, options) == name


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
    assert table.loc[("by construction", "trained"), "shift by 1 px"] == "100.0 (1)"
    curves = kept.curves(frame)
    assert set(curves["shift"]) == {1, 16} and len(curves) == 2 * 4
    turned = kept.symmetry_table(frame[frame["weights"] == "trained"])
    assert list(turned["trained"]) == ["with turns and reflections"]


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


def record(seed, top1, recipe="smoke", **changes):
    """A record of the ledger, as far as the tables here read it."""
    dataset = dict(
        title=kept.SYNTHETIC,
        kind="synthetic",
        source="galaxies",
        sha256="s",
        train=10,
        evaluated_on="test",
    ) | changes.pop("dataset", {})
    recipe = asdict(get_recipe(recipe) if isinstance(recipe, str) else recipe)
    return (
        dict.fromkeys(kept.records.FIELDS)
        | dict(
            run=f"{seed} {recipe} {changes}",
            status="completed",
            model="astroformer_pico",
            options={},
            image_size=64,
            fraction=1.0,
            recipe=recipe,
            seed=seed,
            precision="float32",
            dataset=dataset,
            metrics={"top1": top1, "balanced_accuracy": top1},
            started=f"2026-01-01T00:00:0{seed}+00:00",
        )
        | changes
    )


def accuracies(*found):
    table = kept.accuracies(kept.records.frame(list(found)))
    return dict(zip(zip(table["network"], table["recipe"]), table["top-1 (%)"]))


SMOKE = ("as released", "smoke (revision 1)")


def test_accuracies_are_those_of_runs_on_test_images_each_once_by_its_newest_record():
    again = dict(started="2026-01-02T00:00:00+00:00", device="another", origin="local")
    found = [record(0, 60.0), record(1, 62.0), record(1, 64.0) | again]
    validation = record(2, 99.0, dataset={"evaluated_on": "validation"})
    assert accuracies(*found, validation) == {SMOKE: kept.tables.mean_interval([60.0, 64.0])}
    assert accuracies(*found[::-1]) == accuracies(*found)
    assert accuracies(validation) == {}


def test_accuracies_are_grouped_by_values_and_not_by_the_name_of_the_recipe():
    other = replace(get_recipe("smoke"), learning_rate=0.3)
    renamed = replace(get_recipe("smoke"), source="mine")
    found = [record(0, 60.0), record(1, 61.0, renamed), record(2, 10.0, other)]
    assert accuracies(*found) == {
        ("as released", f"{SMOKE[1]}, learning_rate=0.003"): kept.tables.mean_interval([60, 61]),
        ("as released", f"{SMOKE[1]}, learning_rate=0.3"): "10.00 (1)",
    }
    assert len(kept.plain(kept.accuracies(kept.records.frame(found[:2])))) == 1
    options = record(0, 50.0, options=dict(REPAIRED))
    assert accuracies(found[0], options)[("by construction", SMOKE[1])] == "50.00 (1)"


def test_a_gap_is_one_between_runs_that_differ_in_nothing_else():
    found = [
        record(0, 60.0),
        record(1, 62.0),
        record(0, 55.0, options=dict(REPAIRED)),
        record(0, 99.0, changed(get_recipe("smoke"), epochs=30)),
        record(0, 99.0, model="astroformer_0"),
        record(0, 99.0, image_size=32),
        record(0, 10.0, changed(get_recipe("smoke"), hflip=0.0), options=dict(REPAIRED)),
        record(0, 10.0, replace(get_recipe("smoke"), hflip=0.0), options=dict(REPAIRED)),
    ]
    assert kept._gaps(kept.records.frame(found)) == {"gap_exact_synthetic": 6.0}
    assert kept._gaps(kept.records.frame([])) == {}


def test_a_gap_of_an_older_revision_is_not_averaged_with_one_of_todays():
    def today(seed, top1, **options):
        own = {"revision": 2, "seed": seed, "recipe": {}, "options": options}
        return record(seed, top1, options=options, identity=own, run=f"new {options}")

    found = [
        record(0, 60.0),
        record(0, 55.0, options=dict(REPAIRED)),
        today(0, 70.0),
        today(0, 69.0, **dict(REPAIRED)),
    ]
    assert kept._gaps(kept.records.frame(found)) == {"gap_exact_synthetic": 1.0}


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
        f"{SMOKE[1]}, learning_rate=0.003": kept.tables.mean_interval([0, 3], 1),
        f"{SMOKE[1]}, learning_rate=0.3": "2.0 (1)",
    }
    assert len(kept.curves(frame)) == 2 and set(frame["recipe"]) == {"smoke"}


def test_an_empty_folder_is_an_empty_table(tmp_path):
    assert len(kept.read(tmp_path)) == 0


def test_accuracies_come_from_the_ledger_by_network(trained):
    table = kept.accuracies(kept.records.frame()).query(
        "data.str.contains('tiny')", engine="python"
    )
    assert sorted(table["network"]) == ["as released", "by construction"]
    assert table.set_index("network").loc["as released", "top-1 (%)"].endswith("(2)")
    assert all(math.isfinite(float(text.split()[0])) for text in table["top-1 (%)"])


def test_the_verb_keeps_both_weights_and_refuses_what_it_cannot_keep(
    trained, tiny_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
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
    assert main([*words, "--keep", "../mine"]) == 2 and "is not a name" in capsys.readouterr().err
    assert (
        main(["equivariance", "--keep", "mine"]) == 2
        and "--keep needs --checkpoint" in capsys.readouterr().err
    )
