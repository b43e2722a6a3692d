"""What is exported is the checkpoint's network: in every form, for networks of every kind, loaded
again by the lines that the verb prints, in a process that knows nothing of this library.
"""

import contextlib
import json
import re
import shutil
import zipfile

import numpy as np
import pytest
import safetensors
import safetensors.torch
import timm
import torch
from exported_networks import (
    CLASSES,
    SIZE,
    SMALL,
    checkpoint_of,
    logits_of,
    network_of,
    some_pixels,
)
from fresh_process import answer_of
from PIL import Image

from astroformer import cli, data
from astroformer.exporting import KINDS, export, onnx_graph, program
from astroformer.exporting.subject import Graph, subject
from astroformer.recipes import get_recipe
from astroformer.training import Run, fit

LOADED_HERE = ("astroformer", "timm", "torchvision")
TOLERANCE = 1e-4


def said_by(lines, **names):
    """What the lines that load an export leave behind, executed as they are."""
    exec("\n".join(lines), names)
    return names


@pytest.mark.parametrize("kind", SMALL)
def test_weights_and_folder_have_the_logits_of_the_checkpoint_bit_for_bit(kind, tmp_path):
    path = checkpoint_of(tmp_path / "run", *SMALL[kind])
    pixels = some_pixels(3)
    expected = logits_of(path, pixels)
    for form, place in (("safetensors", tmp_path / "a.safetensors"), ("hf", tmp_path / "folder")):
        made = export(path, form, place)
        assert made.difference == 0 and made.place == place
        found = said_by(made.lines)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.1, 0.2, 0.3], [0.2, 0.25, 0.3]))
        with torch.no_grad():
            assert torch.equal(found["model"]((pixels / 255 - mean) / std), expected)
    own = network_of(path).state_dict()
    for file in (tmp_path / "a.safetensors", tmp_path / "folder" / "model.safetensors"):
        state = safetensors.torch.load_file(file)
        assert state.keys() == own.keys()
        assert all(torch.equal(state[name], own[name]) for name in own)
        assert (
            file.stat().st_mode & 0o777
            == (tmp_path / "folder" / "config.json").stat().st_mode & 0o777
        )


def test_the_metadata_of_the_weights_say_all_that_is_needed_to_use_them(tmp_path):
    path = checkpoint_of(tmp_path / "run", *SMALL["astroformer"])
    made = export(path, "safetensors", tmp_path / "a.safetensors")
    with safetensors.safe_open(made.place, "pt") as file:
        told = file.metadata()
    assert json.loads(told["classes"]) == list(CLASSES) == said_by(made.lines)["classes"]
    assert (json.loads(told["mean"]), json.loads(told["std"])) == (
        [0.1, 0.2, 0.3],
        [0.2, 0.25, 0.3],
    )
    assert json.loads(told["input_size"]) == [3, SIZE, SIZE]
    assert json.loads(told["crop"]) == {"crop_pct": 0.9, "interpolation": "bilinear"}
    assert json.loads(told["options"])["stack"] == "CCTT"
    assert (told["model"], told["run"], told["steps"]) == (
        "astroformer_pico",
        "0123456789ab",
        "7 of 7",
    )
    assert told["licence"] == "Apache-2.0" and "no record" in told["data_licence"]


def test_timm_prepares_images_for_the_folder_as_the_checkpoint_says(tmp_path):
    path = checkpoint_of(tmp_path / "run", *SMALL["vit_cifar"])
    export(path, "hf", tmp_path / "folder")
    model = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)
    told = timm.data.resolve_model_data_config(model)
    assert told["input_size"] == (3, SIZE, SIZE) and told["crop_pct"] == 0.9
    assert (*told["mean"], *told["std"]) == (0.1, 0.2, 0.3, 0.2, 0.25, 0.3)
    assert told["interpolation"] == "bilinear" and told["crop_mode"] == "center"
    assert list(model.pretrained_cfg["label_names"]) == list(CLASSES)
    other = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True, num_classes=9)
    assert other.num_classes == 9  # for fine-tuning by timm itself


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("kind", ["astroformer", "timm's, one size"])
def test_a_network_of_other_bands_is_exported_as_one(kind, channels, tmp_path):
    name, options = SMALL[kind]
    told = {"mean": [0.1] * channels, "std": [0.3] * channels}
    reading = {"bands": ["g", "r"], "stretch": {"name": "asinh"}, "channels": channels}
    path = checkpoint_of(
        tmp_path / "run", name, options | {"in_chans": channels}, reading=reading, **told
    )
    pixels = some_pixels(2, channels)
    found = said_by(export(path, "hf", tmp_path / "folder").lines)
    with torch.no_grad():
        logits = found["model"]((pixels / 255 - 0.1) / 0.3)
    assert torch.allclose(logits, logits_of(path, pixels), atol=1e-6)
    card = (tmp_path / "folder" / "README.md").read_text()
    assert f"and {channels} channels" in card and "of the bands g, r" in card and "asinh" in card
    assert Graph(subject(path))(pixels).shape == (2, len(CLASSES))


def test_the_average_is_exported_where_the_run_is_judged_by_it(tmp_path):
    path = checkpoint_of(tmp_path / "run", *SMALL["logistic"], average=True)
    pixels, said = some_pixels(2), []
    for flag, judged in ((None, True), (True, True), (False, False)):
        made = export(path, "hf", tmp_path / f"{flag}", average=flag, report=said.append)
        told = json.loads((made.place / "config.json").read_text())["astroformer"]["weights"]
        assert told == ("average of the steps (EMA)" if judged else "last step")
        graph = Graph(subject(path, average=flag))
        with torch.no_grad():
            assert torch.equal(graph(pixels), logits_of(path, pixels, average=judged))
    assert not torch.equal(logits_of(path, pixels), logits_of(path, pixels, average=True))
    assert len(said) == 2 and "--no-ema" in said[0]
    alone = checkpoint_of(tmp_path / "alone", *SMALL["logistic"])
    with pytest.raises(ValueError, match="holds no average"):
        export(alone, "hf", tmp_path / "none", average=True)


# --- graphs ---

WITH_TORCH = """
import numpy
{lines}
images = numpy.load(sys.argv[1])
found = [program(torch.from_numpy(images[:n])).tolist() for n in (1, 2, 5)]
names = torch.export.load(sys.argv[2], extra_files=(extra := {{"astroformer.json": ""}})) and extra
print(json.dumps([found, json.loads(names["astroformer.json"]), sorted(sys.modules)]))
"""
WITH_ONNX = """
{lines}
images = numpy.load(sys.argv[1])
found = [session.run(["logits"], {{"images": images[:n]}})[0].tolist() for n in (1, 2, 5)]
told = session.get_modelmeta().custom_metadata_map
print(json.dumps([found, told, sorted(sys.modules)]))
"""


def held_to(kind, form, tmp_path, program, without):
    """Exports, and compares what a fresh process says with the checkpoint."""
    path = checkpoint_of(tmp_path / "run", *SMALL[kind])
    place = tmp_path / f"network{KINDS[form].suffix}"
    made = export(path, form, place)
    assert made.difference <= TOLERANCE
    pixels = some_pixels(5)
    np.save(tmp_path / "images.npy", pixels.numpy())
    found, told, modules = answer_of(
        program.format(lines="\n".join(made.lines)),
        str(tmp_path / "images.npy"),
        str(place),
        without=without,
    )
    assert not {name.partition(".")[0] for name in modules} & set(without)
    expected = logits_of(path, pixels)
    for logits, number in zip(found, (1, 2, 5), strict=True):
        difference = (torch.tensor(logits) - expected[:number]).abs().max()
        assert difference <= TOLERANCE * max(1, float(expected.abs().max()))
    assert json.loads(told["classes"]) == list(CLASSES)


@pytest.mark.parametrize("kind", ["astroformer"])
def test_a_program_runs_in_torch_alone(kind, tmp_path):
    held_to(kind, "torch", tmp_path, WITH_TORCH, LOADED_HERE)


@pytest.mark.parametrize("kind", ["spectformer"])
def test_a_graph_of_onnx_runs_without_torch(kind, tmp_path):
    """Fourier transforms among it."""
    held_to(kind, "onnx", tmp_path, WITH_ONNX, (*LOADED_HERE, "torch"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_every_kind_of_network_has_a_program_and_a_graph(kind, tmp_path):
    held_to(kind, "torch", tmp_path / "torch", WITH_TORCH, LOADED_HERE)
    held_to(kind, "onnx", tmp_path / "onnx", WITH_ONNX, (*LOADED_HERE, "torch"))


class Special(torch.nn.Module):
    """What torch computes and ONNX has no operator for."""

    def forward(self, x):
        return torch.special.bessel_j0(x.mean((2, 3)))


class Branching(torch.nn.Module):
    """A choice by the values of the images, which no graph can follow."""

    def forward(self, x):
        return x.mean((2, 3)) if x.mean() > 0 else x.amax((2, 3))


@pytest.mark.parametrize(
    "network, form, words",
    [
        (Special(), onnx_graph, "no form in ONNX .*bessel_j0.*--to torch"),
        (Branching(), program, "cannot be exported by torch.export .*--to hf"),
    ],
    ids=["onnx", "torch"],
)
def test_a_network_without_such_a_form_is_refused_in_one_line(network, form, words, tmp_path):
    chosen = subject(checkpoint_of(tmp_path, *SMALL["logistic"]))
    object.__setattr__(chosen, "model", network.eval())
    with pytest.raises(ValueError, match=words) as refused:
        form.write(chosen, tmp_path / f"a{KINDS['onnx' if form is onnx_graph else 'torch'].suffix}")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


@pytest.mark.parametrize("off", [2e-4, float("nan")])
def test_a_graph_that_computes_something_else_is_not_given_out(off, tmp_path):
    chosen = subject(checkpoint_of(tmp_path, *SMALL["logistic"]))
    graph = Graph(chosen)
    assert program.compared(chosen, graph, lambda images: graph(images) + 1e-5, "a test") > 0
    with pytest.raises(ValueError, match="differ from the network's by .*not given out"):
        program.compared(
            chosen, graph, lambda images: graph(images) + (off if len(images) > 1 else 0), "a test"
        )


def test_large_weights_lie_beside_the_graph(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "LARGEST", 0)
    made = export(checkpoint_of(tmp_path, *SMALL["logistic"]), "onnx", tmp_path / "out" / "a.onnx")
    assert sorted(one.name for one in made.place.parent.iterdir()) == ["a.onnx", "a.onnx.data"]
    assert made.size == sum(one.stat().st_size for one in made.place.parent.iterdir())
    assert said_by(made.lines)["logits"].shape == (1, len(CLASSES))


# --- the place ---


def test_nothing_is_replaced_unless_that_is_asked_for_and_nothing_stays_half_made(
    tmp_path, monkeypatch
):
    path = checkpoint_of(tmp_path / "run", *SMALL["logistic"])
    place = tmp_path / "out" / "a.safetensors"
    export(path, "safetensors", place)
    before = place.read_bytes()
    other = checkpoint_of(tmp_path / "other", *SMALL["logistic"], run="ffffffffffff")
    with pytest.raises(ValueError, match="is there already; --force"):
        export(other, "safetensors", place)
    assert place.read_bytes() == before
    export(other, "safetensors", place, force=True)
    after = place.read_bytes()
    assert after != before

    from astroformer.exporting import weights

    monkeypatch.setattr(weights, "difference", lambda *_: (_ for _ in ()).throw(ValueError("no")))
    with pytest.raises(ValueError, match="no"):
        export(path, "safetensors", place, force=True)
    assert place.read_bytes() == after
    assert [one.name for one in place.parent.iterdir()] == [place.name]


def test_a_folder_of_others_is_left_alone_and_an_export_is_replaced_whole(tmp_path):
    path = checkpoint_of(tmp_path / "run", *SMALL["logistic"])
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    export(path, "hf", theirs)  # an empty one may be filled
    (theirs / "more.txt").write_text("of the last export")
    export(path, "hf", theirs, force=True)
    assert sorted(one.name for one in theirs.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "config.json").write_text("{}")
    for force in (False, True):
        with pytest.raises(ValueError, match="holds other files"):
            export(path, "hf", photos, force=force)
    assert (photos / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    "words, said",
    [
        (["nowhere.pt", "--to", "hf", "--out", "OUT/a"], "no such file, and no run of this name"),
        (["RUN", "--to", "onnx", "--out", "OUT/a.pt2"], r"--out .*does not end in \.onnx"),
        (["RUN", "--to", "torch", "--out", "OUT"], r"--out .*does not end in \.pt2"),
        (["RUN", "--to", "hf", "--out", "RUN/last.pt"], "--out .*is a file; name a folder"),
        (["RUN", "--to", "hf", "--out", "RUN"], "--out .*holds other files"),
        (["RUN", "--to", "torch", "--out", "OUT/a.pt2", "--push", "a/b"], "--push .* --to hf"),
        (["RUN", "--to", "hf", "--out", "OUT/a", "--private"], "--private .* --push"),
        (["RUN", "--to", "hf", "--out", "OUT/a", "--ema"], "no average"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(words, said, tmp_path, capsys):
    checkpoint_of(tmp_path / "RUN", *SMALL["logistic"])
    put = [re.sub("^(RUN|OUT)", f"{tmp_path}/\\1", word) for word in words]
    assert cli.main(["export", *put]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and error.count("\n") == 1
    assert not (tmp_path / "OUT").exists()


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_the_packages_of_onnx_it_is_said_what_to_install(
    missing, tmp_path, capsys, monkeypatch
):
    found = onnx_graph.importlib.util.find_spec
    monkeypatch.setattr(
        onnx_graph.importlib.util,
        "find_spec",
        lambda name: None if name == missing else found(name),
    )
    path = checkpoint_of(tmp_path, *SMALL["logistic"])
    assert cli.main(["export", str(path), "--to", "onnx", "--out", f"{tmp_path}/a.onnx"]) == 2
    error = capsys.readouterr().err
    assert f"and {missing} is not installed: pip install 'astroformer[onnx]'" in error


def test_a_run_is_named_by_its_hash_or_the_beginning_of_it(tmp_path, own_runs, capsys):
    for run in ("0123456789ab", "0123ffffffff"):
        checkpoint_of(own_runs / "runs" / run, *SMALL["logistic"], run=run)
    out = str(tmp_path / "a.safetensors")
    assert cli.main(["export", "01234", "--to", "safetensors", "--out", out]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"wrote {out}") and "bit for bit" in printed
    assert len(printed.strip().splitlines()) == 6  # what was done, "Load it with:", three lines
    assert (
        cli.main(["export", "0123", "--to", "safetensors", "--out", f"{tmp_path}/b.safetensors"])
        == 2
    )
    assert "begins the names of several runs" in capsys.readouterr().err


@pytest.mark.parametrize("height, width", [(SIZE, SIZE), (48, 48), (33, 45), (64, 40)])
@pytest.mark.parametrize("crop_pct, interpolation", [(1.0, "bicubic"), (0.875, "bilinear")])
def test_timm_prepares_the_pixels_that_a_run_is_evaluated_on(
    height, width, crop_pct, interpolation, tmp_path
):
    """From files of other sizes, through the transform of the exported folder."""
    for name, seed in (("a", 0), ("b", 1)):
        folder = tmp_path / "images" / "test" / name
        folder.mkdir(parents=True)
        shape = (height, width, 3)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "0.png")
        (folder.parent.parent / "train" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(folder.parent.parent / "train" / name / "0.png")
    crop = {"crop_pct": crop_pct, "interpolation": interpolation}
    path = checkpoint_of(tmp_path / "run", *SMALL["logistic"], crop=crop)
    prepare = said_by(export(path, "hf", tmp_path / "out").lines)["prepare"]
    images = data.load("folder", "test", image_size=SIZE, data_dir=tmp_path / "images", **crop)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.1, 0.2, 0.3], [0.2, 0.25, 0.3]))
    for index, name in enumerate("ab"):
        own = torch.from_numpy(images.array(index, index + 1)[0]).permute(2, 0, 1) / 255
        theirs = prepare(Image.open(tmp_path / "images" / "test" / name / "0.png"))
        assert torch.allclose((own - mean) / std, theirs, atol=1e-5)


@pytest.mark.parametrize(
    "form, place",
    [("safetensors", "a.safetensors"), ("hf", "a"), ("torch", "a.pt2"), ("onnx", "a.onnx")],
)
def test_where_the_images_lie_stays_at_home(form, place, tiny_folder, tmp_path, own_runs):
    """A checkpoint knows the folder of its run's images, for `predict` and `report`."""
    home = tmp_path / "home-of-somebody" / "galaxies"
    shutil.copytree(tiny_folder, home)
    recipe = get_recipe("smoke", epochs=1, batch_size=8)
    run = Run(model="logistic_8x8", dataset="folder", data_dir=home, recipe=recipe, image_size=32)
    weights = fit(run, device=torch.device("cpu"), report=lambda line: None).weights
    assert b"home-of-somebody" in weights.read_bytes()
    made = export(weights, form, tmp_path / place)
    files = [made.place] if made.place.is_file() else sorted(made.place.iterdir())
    assert files
    for file in files:
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                assert b"home-of-somebody" not in archive.read(name), (file.name, name)
        assert b"home-of-somebody" not in file.read_bytes(), file.name
