"""What every network of the project promises, by name: it computes, it learns, and it follows
timm's conventions.

A network added to `astroformer.models.MODELS` is held to this without a change here, and to what
timm's own test-suite asks, in `test_timm.py`; baselines to what does not depend on how their layers
are written. Shapes and names are checked on the meta device, which allocates nothing; what needs
numbers at any size runs on the real networks, one at a time, up to LARGEST; what does not depend on
the size runs on the first, smallest network of each file.
"""

import copy
import shutil

import numpy as np
import pytest
import timm
import torch
from networks import (
    CLASSES,
    FIRST_OF_FILE,
    SIZE,
    blank,
    built,
    gradients,
    on_meta,
    seen,
    shallow,
    too_large,
)
from timm.models._manipulate import group_modules, group_parameters

from astroformer.models import MODELS, NAMES

every_name = pytest.mark.parametrize("name", MODELS)
also_baselines = pytest.mark.parametrize("name", NAMES)
first_of_each_file = pytest.mark.parametrize("name", FIRST_OF_FILE)


# --- what it is built with ---


@first_of_each_file
@pytest.mark.parametrize(
    "option, words",
    [
        ({"nonsense": 3}, "has no option 'nonsense'; it takes .*drop_rate"),
        ({"drop_rate": "high"}, "drop_rate='high' is not of type float"),
        ({"in_chans": 2.5}, "in_chans=2.5 is not of type int"),
        ({"num_classes": True}, "num_classes=True is not of type int"),
        ({"num_classes": -1}, "num_classes=-1 is too few; give at least 0"),
        ({"in_chans": 0}, "in_chans=0 is too few; give at least 1"),
        ({"img_size": "wide"}, "img_size='wide' is not of type int"),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_what_can(name, option, words):
    with torch.device("meta"), pytest.raises(ValueError, match=f"{name}.*{words}"):
        timm.create_model(name, **option)


@first_of_each_file
def test_numbers_of_numpy_are_numbers(name):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=np.int64(3), drop_rate=np.float32(0.5))
    assert (model.num_classes, model.drop_rate) == (3, 0.5)


# --- it computes and it learns ---


@pytest.mark.parametrize("name", [name for name in MODELS if not too_large(name)])
def test_output_is_finite_and_deterministic_and_every_parameter_receives_a_gradient(name):
    model, images = built(name)
    for parameter, gradient in gradients(model.train(), images).items():
        assert gradient is not None, f"{parameter} has no part in the output"
        assert gradient.isfinite().all(), parameter
        assert gradient.any(), f"{parameter} receives zeros only"

    with torch.no_grad():
        logits = model.eval()(images)
        assert logits.shape == (2, CLASSES)
        assert logits.isfinite().all()
        assert torch.equal(model(images), logits)


@pytest.mark.parametrize("name", [name for name in MODELS if too_large(name)])
def test_every_parameter_of_a_network_too_large_to_build_has_a_part_in_the_output(name):
    model = on_meta(name)
    model(blank()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@first_of_each_file
def test_in_evaluation_an_images_logits_do_not_depend_on_its_batch(name):
    model, images = built(name, drop_rate=0.5)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images)[:1], model(images[:1]), rtol=0, atol=1e-5)


@first_of_each_file
def test_dropping_paths_varies_training_with_the_seed_and_never_evaluation(name):
    model, images = built(name, drop_path_rate=0.5)

    @torch.no_grad()
    def logits(seed):
        torch.manual_seed(seed)
        # eight draws a layer: chance does not keep every path
        return model(images.repeat(4, 1, 1, 1))

    model.train()
    assert torch.equal(logits(0), logits(0))
    assert not torch.equal(logits(0), logits(1))
    model.eval()
    assert torch.equal(logits(0), logits(1))


@first_of_each_file
def test_dropout_before_the_classifier_acts_in_training_alone(name):
    model, images = built(name, drop_rate=0.5)
    with torch.no_grad():
        features = model.eval().forward_features(images)
        assert torch.equal(model.forward_head(features), model.forward_head(features))
        model.train()
        assert not torch.equal(model.forward_head(features), model.forward_head(features))


# --- timm's conventions ---


@also_baselines
def test_features_then_head_is_the_whole_network(name):
    model, features = seen(name)
    assert features.shape[0] == 2 and model.num_features in features.shape
    assert model.forward_head(features).shape == (2, CLASSES)
    assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)


@first_of_each_file
def test_the_classifier_turns_pre_logits_into_logits(name):
    model, images = built(name)
    with torch.no_grad():
        features = model.eval().forward_features(images)
        pre_logits = model.forward_head(features, pre_logits=True)
        assert torch.equal(model.forward_head(features), model(images))
        assert torch.equal(model.get_classifier()(pre_logits), model(images))


@also_baselines
def test_the_classifier_can_be_replaced_and_removed(name):
    model, features = on_meta(name), seen(name)[1]
    model.reset_classifier(3)
    assert model.num_classes == 3
    assert model.get_classifier().out_features == 3
    model.reset_classifier(0)
    assert model.num_classes == 0
    assert isinstance(model.get_classifier(), torch.nn.Identity)
    assert model.forward_head(features).shape == model.forward_head(features, pre_logits=True).shape
    assert on_meta(name, num_classes=0).forward_head(features).shape == (2, model.head_hidden_size)


@first_of_each_file
def test_a_replaced_classifier_leaves_the_rest_and_gives_its_own_number_of_logits(name):
    model, images = built(name)
    model.eval()
    with torch.no_grad():
        before = model.forward_features(images)
        model.reset_classifier(3)
        assert model(images).shape == (2, 3)
        assert torch.equal(model.forward_features(images), before)


@every_name
def test_pooling_can_be_removed_with_the_classifier(name):
    model, features = copy.deepcopy(seen(name)[0]), seen(name)[1]
    assert model.global_pool
    model.reset_classifier(0, "")
    assert model.global_pool == ""
    assert model(blank()).shape[1:] == features.shape[1:]  # a map, not a vector


@every_name
def test_parameters_without_weight_decay_exist(name):
    model, _ = seen(name)
    assert set(model.no_weight_decay()) <= {parameter for parameter, _ in model.named_parameters()}


@every_name
@pytest.mark.parametrize("coarse", [False, True], ids=["by block", "by stage"])
def test_layer_groups_cover_every_parameter_once_from_the_stem_to_the_head(name, coarse):
    model, _ = seen(name)
    groups = group_parameters(model, model.group_matcher(coarse=coarse))
    grouped = [parameter for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(parameter for parameter, _ in model.named_parameters())
    depth = {parameter: group for group, parameters in groups.items() for parameter in parameters}
    in_order = [depth[parameter] for parameter, _ in model.named_parameters()]
    assert in_order[0] == 0 and depth[model.default_cfg["classifier"] + ".weight"] == max(groups)
    assert len(groups) > 2  # more than a stem and a head

    modules = [
        module
        for group in group_modules(model, model.group_matcher(coarse=coarse)).values()
        for module in group
    ]
    assert len(modules) == len(set(modules))
    # timm never lists the root itself
    assert {parameter.rpartition(".")[0] for parameter in grouped} - {""} <= set(modules)


@also_baselines
def test_feature_info_describes_the_features_that_features_only_returns(name):
    info = seen(name)[0].feature_info
    features = on_meta(name, features_only=True, out_indices=tuple(range(len(info))))(blank())
    assert len(features) == len(info)
    assert len(info) > 1 or name == "logistic_8x8"  # which has nothing between
    for feature, described in zip(features, info):
        side = SIZE // described["reduction"]
        assert feature.shape == (2, described["num_chs"], side, side)


@also_baselines
def test_default_cfg_holds_what_timm_reads_from_it(name):
    model = on_meta(name, img_size=None, num_classes=None)
    for cfg in (timm.get_pretrained_cfg(name).to_dict(), model.default_cfg):
        assert set(cfg) >= {
            "url",
            "num_classes",
            "input_size",
            "pool_size",
            "crop_pct",
            "interpolation",
            "mean",
            "std",
            "first_conv",
            "classifier",
            "fixed_input_size",
            "license",
        }
        assert cfg["classifier"] + ".weight" in model.state_dict()
        assert cfg["first_conv"] + ".weight" in model.state_dict()
    assert model.num_classes == model.default_cfg["num_classes"]
    channels, height, width = model.default_cfg["input_size"]
    assert model(blank(height, width, channels)).shape == (2, model.num_classes)


@every_name
def test_the_models_data_config_tells_the_size_that_it_was_built_for(name):
    assert timm.data.resolve_model_data_config(on_meta(name, in_chans=1))["input_size"] == (
        1,
        SIZE,
        SIZE,
    )


@every_name
@pytest.mark.parametrize(
    "size, channels", [((SIZE, 2 * SIZE), 1), ((2 * SIZE, SIZE), 5)], ids=["wide", "tall"]
)
def test_images_may_be_rectangular_and_have_any_number_of_channels(name, size, channels):
    assert on_meta(name, img_size=size, in_chans=channels)(blank(*size, channels)).shape == (
        2,
        CLASSES,
    )


# --- ways to run it ---


@first_of_each_file
def test_gradient_checkpointing_keeps_less_and_changes_no_gradient(name):
    # what is drawn at random must be drawn alike the second time
    model, images = built(name, drop_path_rate=0.2)
    model.train()

    def kept_and_gradients():
        kept = []
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            found = gradients(model, images)
        return sum(kept), {parameter: gradient.clone() for parameter, gradient in found.items()}

    kept, expected = kept_and_gradients()
    model.set_grad_checkpointing()
    kept_with_checkpoints, found = kept_and_gradients()
    assert kept_with_checkpoints < kept
    for parameter, gradient in expected.items():
        assert torch.equal(found[parameter], gradient), parameter


@first_of_each_file
def test_channels_last_changes_neither_logits_nor_gradients(name):
    model, images = built(name)
    logits = model.eval()(images).detach()
    expected = {
        parameter: gradient.clone() for parameter, gradient in gradients(model, images).items()
    }
    largest = max(gradient.abs().max() for gradient in expected.values())
    model, images = (
        model.to(memory_format=torch.channels_last),
        images.contiguous(memory_format=torch.channels_last),
    )
    torch.testing.assert_close(model(images), logits, rtol=0, atol=1e-5)
    for parameter, gradient in gradients(model, images).items():
        torch.testing.assert_close(
            gradient / largest, expected[parameter] / largest, rtol=0, atol=1e-5, msg=parameter
        )


@first_of_each_file
def test_the_compiled_network_trains_as_the_network_does(name):
    model, images = shallow(name)
    model.train()
    expected = {
        parameter: gradient.clone() for parameter, gradient in gradients(model, images).items()
    }
    largest = max(gradient.abs().max() for gradient in expected.values())
    torch._dynamo.reset()
    gradients(torch.compile(model, backend="aot_eager", fullgraph=True), images)
    for parameter, tensor in model.named_parameters():
        torch.testing.assert_close(
            tensor.grad / largest, expected[parameter] / largest, rtol=0, atol=1e-5, msg=parameter
        )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name != "spectformer_ti" else ())
        for name in FIRST_OF_FILE
    ],
)  # Inductor takes a minute for each
def test_the_network_compiled_to_machine_code_computes_the_same_logits(name):
    if not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("no C++ compiler, which torch.compile's inductor needs on a CPU")
    model, images = shallow(name)
    torch._dynamo.reset()
    with torch.no_grad():
        expected = model.eval()(images)
        torch.testing.assert_close(
            torch.compile(model, fullgraph=True)(images), expected, rtol=0, atol=1e-5
        )
