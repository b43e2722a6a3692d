"""Weights to begin with: taken whole or refused with a list; a new classifier where the classes
are others; interpolated sizes.
"""

import argparse

import pytest
import timm
import torch

from astroformer.models.spectformer import resize_filter
from astroformer.recipes import get_recipe
from astroformer.training import Run, fit
from astroformer.training.initial import fingerprint, load_weights, read_weights

SMALL = dict(embed_dim=16, num_heads=2, depth=3, spectral_blocks=1, patch_size=8)


def network(name="spectformer_ti", **options):
    torch.manual_seed(options.pop("seed", 0))
    return timm.create_model(
        name,
        **{
            **(SMALL if name == "spectformer_ti" else {}),
            "num_classes": 5,
            "img_size": 32,
            **options,
        },
    )


def refused(model, state, **options):
    with pytest.raises(ValueError) as raised:
        load_weights(model, state, **options)
    before = str(raised.value)
    assert "\n" not in before
    return before


def test_every_wrapping_of_a_released_file_is_read(tmp_path):
    weights = network().state_dict()
    for number, state in enumerate(
        (
            weights,
            {"model": weights, "args": argparse.Namespace(lr=1e-3)},
            {"model": {"state_dict": weights}},
            {f"module.{name}": value for name, value in weights.items()},
        )
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(state, path)
        assert fingerprint(read_weights(path)) == fingerprint(weights)


def test_a_file_that_is_no_state_dict_is_named(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04")
    for name in ("none.pth", "cut.pth"):
        with pytest.raises(ValueError, match=name):
            read_weights(tmp_path / name)


def test_a_classifier_for_other_classes_stays_new_and_all_else_is_taken():
    source, target = network(seed=1, num_classes=7), network(seed=2)
    head = target.head.weight.clone()
    assert load_weights(target, source.state_dict(), new_classifier=True) == [
        "head.weight",
        "head.bias",
    ]
    assert torch.equal(target.head.weight, head)
    assert all(
        torch.equal(value, source.state_dict()[name])
        for name, value in target.state_dict().items()
        if "head" not in name
    )


def test_filters_and_positions_of_another_image_size_are_interpolated():
    source, target = network(seed=1), network(seed=2, img_size=48)
    assert load_weights(target, source.state_dict()) == []
    name = "blocks.0.filter.complex_weight"
    assert torch.equal(
        target.state_dict()[name], resize_filter(source.state_dict()[name], (4, 4), (6, 6))
    )


def test_an_error_lists_names_and_the_options_that_make_the_files_network():
    source, target = network(depth=4, spectral_blocks=2), network()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    said = refused(target, source.state_dict())
    assert (
        "missing (blocks.1.mlp.fc1.weight" not in said
        and "blocks.1.filter.complex_weight" in said
        and "surplus" in said
    )
    assert (
        "--model-option depth=4 --model-option spectral_blocks=2" in said
        and "--allow-partial" in said
    )
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_shapes_that_differ_are_told_with_the_option():
    said = refused(network(), network(patch_size=4).state_dict())
    assert (
        "patch_embed.proj.weight 16x3x4x4 for 16x3x8x8" in said
        and "--model-option patch_size=4" in said
    )


def test_an_auxiliary_classifier_is_never_dropped_silently():
    source, target = (
        network("spectformer_h_s", token_label=flag, depths=(1, 1, 1, 1)) for flag in (True, False)
    )
    said = refused(target, source.state_dict())
    assert "aux_head.weight" in said and "--model-option token_label=True" in said


def test_what_fits_is_taken_when_asked_and_the_rest_is_printed():
    source, target, lines = network(depth=4, seed=1), network(seed=2), []
    left = load_weights(target, source.state_dict(), allow_partial=True, report=lines.append)
    assert left == [] and len(lines) == 1 and "12 surplus (blocks.3.norm1.weight" in lines[0]
    assert torch.equal(target.pos_embed, source.pos_embed)


def test_another_architectures_file_is_refused():
    assert "choose the network that the file is of with --model" in refused(
        network(), network("vit_cifar").state_dict()
    )


def test_a_run_fine_tunes_from_another_runs_checkpoint(own_runs, tiny_folder):
    recipe = get_recipe("smoke", epochs=1, batch_size=16)
    options = tuple(sorted(SMALL.items()))
    first = fit(
        Run(
            model="spectformer_ti",
            dataset="galaxies",
            train_images=20,
            image_size=32,
            recipe=recipe,
            options=options,
        ),
        report=lambda line: None,
    )
    lines = []
    run = Run(
        model="spectformer_ti",
        dataset="folder",
        data_dir=str(tiny_folder),
        image_size=32,
        recipe=recipe,
        options=options,
        init=str(first.weights),
    )
    second = fit(run, stop_after=1, report=lines.append)
    assert any("as drawn by the seed: head.weight, head.bias" in line for line in lines)
    finished = fit(run, report=lines.append)
    assert finished.record["status"] == "completed" and finished.record["resumed_from"] == 1
    assert (
        "--init last.pt" in finished.record["command"]
        and second.record["run"] == finished.record["run"]
    )
    assert finished.record["init"] == {
        "file": "last.pt",
        "sha256": fingerprint(read_weights(first.weights)),
        "as_drawn": ["head.weight", "head.bias"],
    }
    other = Run(**{**vars(run), "init": None})
    assert finished.record["run"] != other.resolved(torch.device("cpu")).hash


def test_a_released_network_at_224_pixels_is_fine_tuned_at_384(own_runs, tiny_folder, tmp_path):
    options = {**SMALL, "patch_size": 16}
    released = network(img_size=224, num_classes=3, patch_size=16)
    torch.save({"model": released.state_dict()}, tmp_path / "released.pth")
    lines = []
    run = Run(
        model="spectformer_ti",
        dataset="folder",
        data_dir=str(tiny_folder),
        image_size=384,
        options=tuple(sorted(options.items())),
        recipe=get_recipe("spectformer_384", epochs=1, warmup_epochs=0, batch_size=16),
        init=str(tmp_path / "released.pth"),
    )
    record = fit(run, report=lines.append).record
    assert (
        record["status"] == "completed"
        and record["image_size"] == 384
        and record["init"]["as_drawn"] == []
    )


def test_token_labels_train_through_the_loop(own_runs):
    run = Run(
        model="spectformer_h_s",
        dataset="galaxies",
        train_images=20,
        image_size=32,
        recipe=get_recipe(
            "spectformer_h", epochs=1, warmup_epochs=0, batch_size=10, crop="none", randaugment=""
        ),
        options=(("depths", (1, 1, 1, 1)), ("token_label", True)),
    )
    record = fit(run, report=lambda line: None).record
    assert record["status"] == "completed" and record["metrics"]["nll"] > 0
