"""Weights of timm's own networks to begin with: files as timm publishes them, folders as the hub
has them, for other classes, sizes and channels; and what is said where they cannot be.

The "pretrained" files here are networks of timm with random weights, saved as timm saves them.
"""

import json
import shlex

import pytest
import safetensors.torch
import timm
import torch
from small_run import CPU

from astroformer.models import create
from astroformer.recipes import get_recipe
from astroformer.training import Run, fit, initial, load_trained
from astroformer.training.initial import classes_differ, load_weights, read_weights

# of each a small network: any size, one size, more than one first convolution
KINDS = ("test_resnet", "test_vit", "test_byobnet", "test_convnext")


def published(name, folder, *, suffix=".safetensors", **options):
    """A file of weights as timm publishes it, and their state dict."""
    torch.manual_seed(5)
    state = timm.create_model(name, **options).state_dict()
    path = folder / f"{name}{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path, state


def made(name, **options):
    torch.manual_seed(6)
    usual = dict(num_classes=7, img_size=64, drop_rate=0.0, drop_path_rate=0.0)
    return create(f"timm/{name}", **usual | options)


def loaded(model, weights, **how):
    new = classes_differ(model, weights)
    return load_weights(model, weights, new_classifier=new, report=lambda line: None, **how)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_timm_is_taken_whole_but_for_the_classifier(name, suffix, tmp_path):
    path, theirs = published(name, tmp_path, suffix=suffix)
    size = timm.get_pretrained_cfg(name).input_size[-1]
    model = made(name, img_size=size)
    kept = loaded(model, read_weights(path))
    [classifier] = {one.rpartition(".")[0] for one in kept}
    assert classifier == timm.get_pretrained_cfg(name).classifier and len(kept) == 2
    own = model.state_dict()
    assert all(torch.equal(own[one], theirs[one]) for one in own if one not in kept)
    same = made(name, img_size=size, num_classes=timm.get_pretrained_cfg(name).num_classes)
    assert loaded(same, read_weights(path)) == []  # as many classes: the file's classifier, too


def test_positions_are_brought_to_another_size_of_images_as_timm_brings_them(tmp_path):
    path, theirs = published("test_vit", tmp_path)
    model = made("test_vit", img_size=64)
    loaded(model, read_weights(path))
    expected = timm.create_model(
        "test_vit", pretrained=True, pretrained_cfg_overlay=dict(file=str(path)), img_size=64
    )
    assert theirs["pos_embed"].shape != model.pos_embed.shape
    assert torch.equal(model.pos_embed, expected.pos_embed)


@pytest.mark.parametrize("channels", [1, 2, 5, 6])
@pytest.mark.parametrize("name", ["test_resnet", "test_byobnet"])
def test_the_first_convolutions_are_brought_to_other_channels_as_timm_brings_them(
    name, channels, tmp_path
):
    path, _ = published(name, tmp_path)
    model = made(name, in_chans=channels)
    kept = loaded(model, read_weights(path))
    expected = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=dict(file=str(path)), in_chans=channels
    ).state_dict()
    own = model.state_dict()
    assert all(torch.equal(own[one], expected[one]) for one in own if one not in kept)
    assert len(kept) == 2


def test_a_grey_image_is_to_a_network_of_one_channel_what_it_was_to_one_of_three(tmp_path):
    path, theirs = published("test_resnet", tmp_path)
    grey, colour = made("test_resnet", in_chans=1).eval(), made("test_resnet").eval()
    loaded(grey, read_weights(path))
    loaded(colour, read_weights(path))
    x = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        found = grey.forward_features(x), colour.forward_features(x.expand(2, 3, 64, 64))
    assert torch.allclose(*found, atol=1e-4)


def test_a_file_that_does_not_count_the_batches_of_batch_normalisation_is_whole(tmp_path):
    path, theirs = published("test_resnet", tmp_path)
    weights = read_weights(path)
    for name in [name for name in weights if name.endswith("num_batches_tracked")]:
        del weights[name]
    assert len(weights) < len(theirs)
    assert len(loaded(made("test_resnet"), weights)) == 2


def test_names_of_an_older_release_are_turned_by_timm(tmp_path):
    """As ConvNeXt's authors name its parts."""
    path, theirs = published("test_convnext", tmp_path)
    old = {}
    for name, value in theirs.items():
        name = name.replace("stem.0", "downsample_layers.0.0").replace(
            "stem.1", "downsample_layers.0.1"
        )
        for stage in range(4):
            name = name.replace(f"stages.{stage}.downsample", f"downsample_layers.{stage}")
            name = name.replace(f"stages.{stage}.blocks", f"stages.{stage}")
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        old[name.replace("head.fc", "head").replace("head.norm", "norm")] = value
    assert set(old) != set(theirs)
    torch.save({"model": old}, tmp_path / "old.pth")
    model = made("test_convnext")
    kept = loaded(model, read_weights(tmp_path / "old.pth"))
    own = model.state_dict()
    assert kept == ["head.fc.weight", "head.fc.bias"]
    assert all(torch.equal(own[one], theirs[one]) for one in own if one not in kept)


@pytest.mark.parametrize(
    "file, network, words",
    [
        ("test_resnet", "test_vit", "do not fit the network: .* missing .*; choose the network"),
        ("test_vit", "test_vit3", "do not fit the network"),
    ],
)
def test_weights_of_another_network_are_refused_in_one_line(file, network, words, tmp_path):
    path, _ = published(file, tmp_path)
    with pytest.raises(ValueError, match=words) as refused:
        loaded(made(network), read_weights(path))
    assert "\n" not in str(refused.value)
    assert loaded(made(network), read_weights(path), allow_partial=True)


# --- folders as the hub has them ---


def folder_of(name, folder, **described):
    folder.mkdir()
    _, state = published(name, folder)
    (folder / f"{name}.safetensors").rename(folder / "model.safetensors")
    cfg = dict(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], crop_pct=0.8, interpolation="bilinear")
    config = {"architecture": name, "num_classes": 1000, "pretrained_cfg": cfg | described}
    (folder / "config.json").write_text(json.dumps(config))
    return state


def run_with(init, folder, *, model="timm/test_resnet", recipe="linear_probe", seed=0, **changes):
    settings = dict(epochs=1, warmup_epochs=0, batch_size=8) | changes
    return Run(
        model=model,
        dataset="folder",
        data_dir=str(folder),
        image_size=32,
        recipe=get_recipe(recipe, **settings),
        init=str(init),
        seed=seed,
    ).resolved(CPU)


def test_a_folder_brings_its_weights_and_how_images_are_prepared(tmp_path, tiny_folder, own_runs):
    state = folder_of("test_resnet", tmp_path / "hub")
    run = run_with(tmp_path / "hub", tiny_folder)
    said = []
    fitted = fit(run, device=CPU, report=said.append)
    model, told = load_trained(fitted.weights)
    assert (told["mean"], told["std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert told["crop"] == {"crop_pct": 0.8, "interpolation": "bilinear"}
    # a linear probe: nothing but the classifier has changed
    own = model.state_dict()
    changed = {name for name in own if not (name in state and torch.equal(own[name], state[name]))}
    assert changed == {"fc.weight", "fc.bias"}
    record = fitted.record
    assert record["identity"]["normalisation"] == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    assert record["init"]["file"] == "hub" and record["init"]["as_drawn"] == [
        "fc.weight",
        "fc.bias",
    ]
    assert "--init hub" in record["command"] and str(tmp_path) not in record["command"]
    assert str(tmp_path / "hub") in shlex.split(run.command(located=True))


def test_what_a_folder_says_decides_the_name_of_a_run_and_a_file_says_nothing(
    tmp_path, tiny_folder
):
    folder_of("test_resnet", tmp_path / "a")
    folder_of("test_resnet", tmp_path / "b")
    folder_of("test_resnet", tmp_path / "c", mean=[0.5, 0.5, 0.5])
    of = {name: run_with(tmp_path / name, tiny_folder) for name in "abc"}
    assert of["a"].hash == of["b"].hash != of["c"].hash  # by content, not by place
    file = run_with(tmp_path / "a" / "model.safetensors", tiny_folder)
    assert "normalisation" not in file.identity() and file.hash != of["a"].hash
    assert file.identity()["init"] == of["a"].identity()["init"]
    data = run_with(tmp_path / "a", tiny_folder, preprocessing="data")
    assert "normalisation" not in data.identity()
    (tmp_path / "a" / "config.json").write_text('{"architecture": "test_resnet"}')
    assert run_with(tmp_path / "a", tiny_folder).hash == file.hash  # it is looked at again


def test_a_folder_of_another_network_is_refused_with_its_name(tmp_path):
    folder_of("test_resnet", tmp_path / "hub")
    with pytest.raises(ValueError, match="they are of the network timm/test_resnet"):
        loaded(made("test_vit"), read_weights(tmp_path / "hub"))


@pytest.mark.parametrize(
    "files, words",
    [
        ({}, "has neither a config.json.* nor a last.pt"),
        ({"config.json": "{"}, "is no JSON"),
        ({"config.json": "[]"}, "describes no network"),
        ({"config.json": "{}"}, "has no file of weights, such as model.safetensors"),
        ({"config.json": "{}", "model.safetensors": "no weights"}, "cannot be read as weights"),
    ],
)
def test_a_folder_that_is_none_is_named(files, words, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises((ValueError, OSError), match=words) as refused:
        read_weights(tmp_path)
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)


# --- weights that timm downloads ---


def test_what_cannot_be_downloaded_is_said_in_one_line(monkeypatch):
    def refuses(name, pretrained):
        assert pretrained
        raise OSError(f"the hub has been asked for {name}\nand is not there")

    monkeypatch.setattr(initial.timm, "create_model", refuses)
    for init, name, asked in (
        ("pretrained", "timm/test_vit.r160_in1k", "test_vit.r160_in1k"),
        ("hf-hub:me/mine", "timm/test_vit", "hf-hub:me/mine"),
    ):
        with pytest.raises(OSError, match=f"asked for {asked} and is not there.*give a file") as e:
            initial.weights_of(init, name)
        assert "\n" not in str(e.value)


def test_networks_without_published_weights_are_refused_before_anybody_is_asked(monkeypatch):
    monkeypatch.setattr(initial.timm, "create_model", None)
    with pytest.raises(ValueError, match="one of this project, of which no weights are published"):
        initial.weights_of("pretrained", "astroformer_pico")
    bare = next(
        one for one in timm.list_models("*vit*") if not timm.models.is_model_pretrained(one)
    )
    with pytest.raises(ValueError, match=f"timm has no weights of timm/{bare}"):
        initial.weights_of("pretrained", f"timm/{bare}")


def test_downloaded_weights_enter_the_name_of_a_run_by_their_values(
    tmp_path, tiny_folder, monkeypatch
):
    """With timm's own way from a file in place of its way from the hub."""
    path, state = published("test_resnet", tmp_path)
    network = timm.create_model(
        "test_resnet", pretrained=True, pretrained_cfg_overlay={"file": str(path)}
    )
    monkeypatch.setattr(initial.timm, "create_model", lambda name, pretrained: network)
    by_word = run_with("pretrained", tiny_folder)
    assert by_word.hash == run_with(path, tiny_folder).hash
    assert "--init pretrained" in by_word.command()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    initial.weights_of("pretrained", "timm/test_resnet")
    assert torch.equal(torch.get_rng_state(), before)
    network.pretrained_cfg = network.pretrained_cfg | {"architecture": "test_vit"}
    with pytest.raises(
        ValueError, match="of the network timm/test_vit; give --model timm/test_vit"
    ):
        initial.weights_of("hf-hub:me/mine", "timm/test_resnet")
