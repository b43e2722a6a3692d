"""Files of weights as other programs write them: wrappers' names, plain values beside the weights,
averages, and what is refused, by its name.
"""

import argparse
import itertools
import pathlib
import random
import types
from collections import Counter, OrderedDict

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.utils import ModelEmaV3, get_state_dict

from astroformer import cli
from astroformer.recipes import get_recipe
from astroformer.sizes import BASELINES, MODELS
from astroformer.training import Run, fit
from astroformer.training.initial import (
    classes_differ,
    fingerprint,
    load_weights,
    read_weights,
    unwrapped,
    without_prefix,
)

CLASSES = 3
WRAPPERS = ("module.", "_orig_mod.", "model.", "_fsdp_wrapped_module.")


def network(seed=0, name="logistic_8x8", **options):
    torch.manual_seed(seed)
    model = timm.create_model(name, **{"num_classes": CLASSES, "img_size": 32, **options})
    for one in model.parameters():  # those that begin as zeros, too
        one.data.normal_()
    return model


def saved(folder, content, name="file.pth"):
    torch.save(content, folder / name)
    return folder / name


def prefixed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


def same(path, state, **how):
    return fingerprint(read_weights(path, **how)) == fingerprint(dict(state))


# Names


@pytest.mark.parametrize("name", [*MODELS, *BASELINES])
def test_no_network_has_names_that_would_be_taken_for_a_wrappers(name):
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=CLASSES).state_dict()
    assert list(unwrapped(state, "file")) == list(state)
    assert list(without_prefix(state, state)) == list(state)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(WRAPPERS), max_size=4), st.sampled_from(["", "encoder.", "net.b."]))
def test_wrappers_and_a_common_prefix_are_taken_off_in_any_order(wrappers, prefix):
    target = network(seed=1, name="vit_narrow")
    state = network(seed=2, name="vit_narrow").state_dict()
    words = [*wrappers, prefix]
    random.Random(len(words)).shuffle(words)
    bare = unwrapped(prefixed(state, "".join(words)), "file")
    assert not classes_differ(target, bare)
    assert load_weights(target, bare) == []
    assert all(torch.equal(value, state[name]) for name, value in target.state_dict().items())


def test_a_compiled_part_of_a_network_is_known_by_the_networks_names():
    model = network(name="vit_narrow")
    state = model.state_dict()
    model.blocks = torch.compile(model.blocks)
    assert any("_orig_mod" in name for name in model.state_dict())
    assert set(unwrapped(model.state_dict(), "file")) == set(state)


def test_what_torch_and_timm_wrap_themselves_is_read(tmp_path):
    model = network()
    for number, made in enumerate(
        (
            torch.compile(model),
            torch.nn.DataParallel(model),
            torch.compile(torch.nn.DataParallel(torch.compile(model))),
            torch.optim.swa_utils.AveragedModel(model),
            ModelEmaV3(model),
        )
    ):
        path = saved(tmp_path, {"state_dict": made.state_dict()}, f"{number}.pth")
        assert same(path, model.state_dict())


def test_a_part_of_a_network_keeps_its_names():
    """The names of a classifier alone all begin alike, and are the network's as they stand."""
    model = network(name="astroformer_pico")
    head = {name: one for name, one in model.state_dict().items() if name.startswith("head.")}
    assert without_prefix(head, model.state_dict()) == head
    left = load_weights(model, head, allow_partial=True, report=lambda line: None)
    assert not set(left) & set(head)


def test_a_prefix_that_only_some_names_have_is_no_wrapper():
    model = network(name="vit_narrow")
    state = prefixed(model.state_dict(), "encoder.") | {"criterion.weight": torch.ones(2)}
    with pytest.raises(ValueError, match=r"surplus \(encoder\.") as refused:
        load_weights(model, unwrapped(state, "file"))
    assert "\n" not in str(refused.value)


def test_weights_that_stand_twice_in_a_file_are_refused(tmp_path):
    state = network().state_dict()
    twice = saved(tmp_path, state | prefixed(network(1).state_dict(), "module."))
    with pytest.raises(ValueError, match="file.pth holds some weights twice"):
        read_weights(twice)


# What stands beside the weights


def plain_values():
    return {
        "epoch": 3,
        "best_acc1": np.float64(71.2),
        "others": [np.float32(1), np.int64(2), np.bool_(True), np.str_("x"), np.uint8(3)],
        "confusion": np.eye(3, dtype=np.int32),
        "big_endian": np.arange(3, dtype=">f8"),
        "args": argparse.Namespace(output=pathlib.PurePosixPath("a"), lr=np.float16(0.1)),
        "folder": pathlib.PosixPath("runs"),
        "counts": Counter("abc"),
        "order": OrderedDict(a=1),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
        "rng_state": torch.get_rng_state(),
        "loss": {"weight": torch.ones(3)},
        "scaler": {"scale": torch.ones(())},
        "nothing": None,
    }


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "net", "backbone"])
def test_plain_values_are_no_obstacle(tmp_path, key):
    state = network().state_dict()
    assert same(saved(tmp_path, plain_values() | {key: state}), state)
    legacy = tmp_path / "legacy.pth"  # the format before torch 1.6
    torch.save({key: state, "best": np.float64(1)}, legacy, _use_new_zipfile_serialization=False)
    assert same(legacy, state)


def test_numpys_numbers_are_read_by_both_names_of_its_module(tmp_path):
    state = network().state_dict()
    path = saved(tmp_path, {"state_dict": state, "best": np.float64(1), "all": np.ones(2)})
    content, names = path.read_bytes(), (b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert any(name in content for name in names)
    older = tmp_path / "older.pth"
    torch.save({"state_dict": state, "best": np.float64(1)}, older, pickle_protocol=2)
    assert same(older, state) and same(path, state)
    pickled = older.read_bytes()
    for ours, theirs in itertools.permutations(names):
        if ours in pickled and len(ours) != len(theirs):
            # the text of the pickle, in a file of the format before torch 1.6, is found by lines
            torch.save(
                {"state_dict": state, "best": np.float64(1)},
                older,
                _use_new_zipfile_serialization=False,
            )
            older.write_bytes(older.read_bytes().replace(ours + b"\n", theirs + b"\n"))
            assert theirs in older.read_bytes() and same(older, state)


def test_safetensors_are_read_whatever_they_are_called(tmp_path):
    state = {name: value.contiguous() for name, value in network().state_dict().items()}
    for name in ("model.safetensors", "model.bin"):
        safetensors.torch.save_file(prefixed(state, "module."), tmp_path / name)
        assert same(tmp_path / name, state)
    (tmp_path / "cut").write_bytes((tmp_path / "model.bin").read_bytes()[:40])
    with pytest.raises(ValueError, match="cut cannot be read as weights"):
        read_weights(tmp_path / "cut")


# The average


@pytest.mark.parametrize(
    "raw, average",
    [
        ("state_dict", "state_dict_ema"),  # timm
        ("model", "model_ema"),  # DeiT, ConvNeXt
        ("model", "ema"),
        ("state_dict", "ema_state_dict"),
        ("model_state_dict", "ema_model_state_dict"),
    ],
)
def test_which_weights_are_taken_is_said_and_the_others_can_be_asked_for(tmp_path, raw, average):
    weights, averaged = network(1).state_dict(), network(2).state_dict()
    path = saved(tmp_path, {"epoch": 3, average: averaged, raw: weights, "metric": 71.2})
    assert same(path, weights) and same(path, weights, average=False)
    assert same(path, averaged, average=True)
    assert read_weights(path).part == (
        f"{raw}, the weights of the last step (--ema takes {average}, the average of them (EMA))"
    )
    assert read_weights(path, average=True).part == (
        f"{average}, the average of the weights (EMA) (--no-ema takes {raw}, those of the last "
        "step)"
    )
    alone = saved(tmp_path, {average: averaged}, "alone.pth")
    assert same(alone, averaged) and average in read_weights(alone).part
    with pytest.raises(ValueError, match=f"alone.pth .* last step, only {average}; .*--no-ema"):
        read_weights(alone, average=False)
    for content in ({raw: weights}, weights):
        plain = saved(tmp_path, content, "plain.pth")
        assert read_weights(plain).part == ""
        with pytest.raises(ValueError, match=r"does not hold the average .*leave out --ema"):
            read_weights(plain, average=True)


def test_of_several_networks_none_is_guessed(tmp_path):
    content = {"student": network(1).state_dict(), "teacher": network(2).state_dict()}
    with pytest.raises(ValueError, match="several networks .student, teacher.; save the one"):
        read_weights(saved(tmp_path, content))


def test_a_run_begins_with_the_part_that_is_asked_for_and_its_command_says_so(
    own_runs, tiny_folder, tmp_path
):
    weights, averaged = network(1).state_dict(), network(2).state_dict()
    path = saved(tmp_path, {"state_dict": weights, "state_dict_ema": averaged})
    ids = {}
    for average, flag in ((None, ""), (False, " --no-ema"), (True, " --ema")):
        run = Run(
            model="logistic_8x8",
            dataset="folder",
            data_dir=str(tiny_folder),
            image_size=32,
            recipe=get_recipe("smoke", epochs=1, batch_size=16),
            init=str(path),
            init_average=average,
        )
        assert f"--init file.pth{flag} " in run.command()
        ids[average] = run.resolved(torch.device("cpu")).hash
        assert same(path, run.initial_weights()[0], average=average)
    # what a run is called follows from the weights, not from the words
    assert ids[None] == ids[False] != ids[True]
    lines = []
    fit(run, report=lines.append)
    assert any("state_dict_ema, the average of the weights (EMA)" in line for line in lines)


def test_the_commands_take_the_flag(own_runs, tiny_folder, tmp_path, capsys):
    def call(*words):
        status = cli.main([*words, "--dataset", "folder", "--data-dir", str(tiny_folder)])
        return status, capsys.readouterr()

    model = network(1)
    ema = ModelEmaV3(model)
    for one in ema.module.parameters():
        one.data.zero_()
    content = {"state_dict": get_state_dict(model), "state_dict_ema": get_state_dict(ema)}
    path = str(saved(tmp_path, content, "timm.pth.tar"))
    words = ("evaluate", "--weights", path, "--model", "logistic_8x8", "--json")
    raw, average = (call(*words, *flag) for flag in ((), ("--ema",)))
    assert raw[0] == average[0] == 0 and raw[1].out != average[1].out
    assert "state_dict, the weights of the last step (--ema takes state_dict_ema" in raw[1].err
    assert "state_dict_ema, the average of the weights (EMA) (--no-ema" in average[1].err
    assert (
        call(*words, "--no-ema")[1].out.split('"images_per_second"')[0]
        == (raw[1].out.split('"images_per_second"')[0])
    )
    status, told = call("train", "--ema")
    assert status == 2 and "--init FILE" in told.err and "ema_decay" in told.err


def test_a_checkpoint_of_a_run_is_judged_by_its_average_unless_asked_otherwise(
    own_runs, tiny_folder, capsys
):
    where = ("--dataset", "folder", "--data-dir", str(tiny_folder))
    for decay, flag, status, said in (
        ("0.5", (), 0, "the average of the weights (EMA); --no-ema"),
        ("0.5", ("--no-ema",), 0, ""),
        ("0", (), 0, ""),
        ("0", ("--ema",), 2, "holds no average of the weights"),
    ):
        changes = ("epochs=1", "batch_size=16", f"ema_decay={decay}")
        settings_ = [word for one in changes for word in ("--set", one)]
        words = ("train", "--model", "logistic_8x8", "--image-size", "32", *settings_, *where)
        assert cli.main(words) == 0
        path = capsys.readouterr().out.rstrip().rpartition("weights in ")[2]
        path = path or next(own_runs.glob("runs/*/last.pt"))
        assert cli.main(["evaluate", str(path), *where, *flag]) == status
        told = capsys.readouterr().err
        assert said in told and (said or not told)


# What is refused


class Odd:
    pass


def forbidden():
    parsing = types.ModuleType("pytorch_lightning.utilities.parsing")

    class AttributeDict(dict):
        pass

    AttributeDict.__module__, AttributeDict.__qualname__ = parsing.__name__, "AttributeDict"
    parsing.AttributeDict = AttributeDict
    modules = {"pytorch_lightning": None, "pytorch_lightning.utilities": None}
    modules = {name: types.ModuleType(name) for name in modules} | {parsing.__name__: parsing}
    return AttributeDict(lr=1e-3), modules, f"{parsing.__name__}.AttributeDict"


@pytest.mark.parametrize("new_format", [True, False])
def test_an_object_that_could_run_code_is_named_and_not_read(tmp_path, monkeypatch, new_format):
    lightning, modules, name = forbidden()
    for one, module in modules.items():
        monkeypatch.setitem(__import__("sys").modules, one, module)
    state = network().state_dict()
    for content, named in (
        ({"state_dict": state, "hyper_parameters": lightning}, name),
        (network(name="astroformer_pico"), "astroformer.models.astroformer.Astroformer"),
        ({"model": network(name="vit_narrow")}, "VisionTransformer"),
        ({"state_dict": state, "hook": Odd()}, "Odd"),
        ({"state_dict": state, "call": print}, "print"),
        ({"state_dict": state, "values": np.array([{}, 1], dtype=object)}, "ObjectDType"),
    ):
        path = tmp_path / "file.pth"
        torch.save(content, path, _use_new_zipfile_serialization=new_format)
        with pytest.raises(ValueError) as refused:
            read_weights(path)
        said = str(refused.value)
        assert str(path) in said and f"{named}, and reading" in said, said
        assert "\n" not in said and "\x1b" not in said and "torch.save(network.state_dict()" in said
