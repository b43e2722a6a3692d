"""What timm's own test-suite asks of a network, by name: its description tells what it does, its
features are there in every way that timm has, it is pruned to them, and weights come where and in
the type asked for. And what `torch` asks of one that is to be traced, scripted or exported.

Everything that needs no numbers holds for every name, on the meta device. What needs numbers runs
on a small network of each kind, with the options that change how it computes.
"""

import copy
import io
import sys

import pytest
import timm
import torch
from networks import CLASSES, FIRST_OF_FILE, SIZE, SMALL, blank, built, on_meta, shallow

from astroformer.models import MODELS, NAMES

every_name = pytest.mark.parametrize("name", NAMES)
every_model = pytest.mark.parametrize("name", MODELS)
first_of_each_file = pytest.mark.parametrize("name", FIRST_OF_FILE)
small = pytest.mark.parametrize("name", SMALL)

OPTIONS = [
    ("astroformer_pico", dict(rel_bias="none", stack="CCTT")),
    ("astroformer_pico", dict(rel_bias="outside", attn_layer="cbam")),
    ("astroformer_pico", dict(padding="circular", offsets="torus", downsampling="polyphase")),
    ("astroformer_pico", dict(padding="circular", downsampling="blur")),
    ("spectformer_ti", dict(depth=2, spectral_blocks=0, patch_size=(8, 16))),
    ("spectformer_h_s", dict(depths=(1, 1, 1, 1), token_label=True)),
    ("vit_cifar", dict(depth=2, scale="head", mlp_end="linear")),
]
small_and_options = pytest.mark.parametrize(
    "name, options",
    [*((name, {}) for name in SMALL), *OPTIONS],
    ids=[*SMALL, *("-".join([name, *options]) for name, options in OPTIONS)],
)


def network(name: str, options: dict) -> tuple[torch.nn.Module, torch.Tensor]:
    return built(name, **options) if options else shallow(name)


def as_grid(model: torch.nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) from a network's own order of axes."""
    last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    return maps.permute(0, 3, 1, 2) if last and maps.ndim == 4 else maps


# --- its description ---


@every_name
def test_the_description_tells_the_grid_and_the_width_of_the_features(name):
    pixels = timm.get_pretrained_cfg(name).input_size[-1]
    model = on_meta(name, img_size=pixels)
    described, images = model.default_cfg, blank(pixels, pixels)
    grid = described["pool_size"]
    assert described["input_size"] == (model.in_chans, pixels, pixels)
    assert timm.get_pretrained_cfg(name).pool_size == grid
    features = as_grid(model, model.forward_features(images))
    if grid is None:  # tokens, which lie on no grid
        assert features.ndim == 3 and features.shape[2] == model.num_features
        return
    assert features.shape[1:] == (model.num_features, *grid)
    assert model.forward_head(model.forward_features(images), True).shape[1:] == (
        model.head_hidden_size,
    )
    unpooled = on_meta(name, img_size=pixels, num_classes=0, global_pool="")
    assert as_grid(model, unpooled(images)).shape[2:] == grid


@first_of_each_file
@pytest.mark.parametrize("size", [96, (64, 128), (128, 64)], ids=str)
def test_the_description_follows_the_size_that_the_network_is_built_for_or_set_to(name, size):
    built_for, set_to = on_meta(name, img_size=size), on_meta(name)
    set_to.set_input_size(size)
    for model in (built_for, set_to):
        described = model.default_cfg
        features = as_grid(model, model.forward_features(blank(*described["input_size"][1:])))
        assert features.shape[2:] == (described["pool_size"] or features.shape[2:])
        assert timm.data.resolve_model_data_config(model)["input_size"] == described["input_size"]
    assert built_for.default_cfg == set_to.default_cfg


# --- where its weights are ---


@every_name
def test_weights_lie_on_the_device_and_are_of_the_type_asked_for(name):
    model = timm.create_model(
        name, num_classes=CLASSES, img_size=SIZE, device="meta", dtype=torch.bfloat16
    )
    tensors = [*model.parameters(), *model.buffers()]
    assert all(tensor.device.type == "meta" for tensor in tensors)
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.bfloat16}
    assert model(blank().bfloat16()).dtype == torch.bfloat16


@first_of_each_file
def test_the_type_asked_for_rounds_the_weights_that_are_drawn_anyway(name):
    drawn, rounded = (built(name, **kind)[0].state_dict() for kind in ({}, {"dtype": torch.half}))
    for key, value in drawn.items():
        assert torch.equal(rounded[key], value.half() if value.is_floating_point() else value), key


@first_of_each_file
@pytest.mark.parametrize(
    "wrong", [{"device": "nowhere"}, {"dtype": "float32"}, {"dtype": torch.int8}], ids=str
)
def test_a_device_or_type_that_cannot_be_is_refused_in_one_line(name, wrong):
    with pytest.raises(ValueError, match=f"{name}: {next(iter(wrong))}=") as refused:
        timm.create_model(name, **wrong)
    assert "\n" not in str(refused.value)


@every_name
def test_an_option_that_no_network_has_is_what_python_calls_a_wrong_argument(name):
    with torch.device("meta"), pytest.raises(TypeError):
        timm.create_model(name, nonsense=1)


@every_name
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_new_classifier_has_the_device_type_and_mode_of_the_network(name, training):
    model = on_meta(name).double().train(training)
    model.reset_classifier(0)
    model.reset_classifier(2)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert {parameter.dtype for parameter in model.get_classifier().parameters()} == {torch.float64}
    assert {module.training for module in model.modules()} == {training}


@every_name
def test_frozen_weights_stay_frozen_without_a_classifier_and_at_another_size(name):
    model = on_meta(name).requires_grad_(False)
    model.reset_classifier(0)
    model.reset_classifier(0, "")
    if hasattr(model, "set_input_size"):
        model.set_input_size(img_size=(2 * SIZE, 2 * SIZE))
    assert not [key for key, parameter in model.named_parameters() if parameter.requires_grad]


# --- its features ---


@every_name
def test_every_intermediate_is_as_described_and_the_last_result_is_the_features(name):
    model = on_meta(name)
    features, maps = model.forward_intermediates(blank())
    assert features.shape == model.forward_features(blank()).shape
    assert len(maps) == len(model.feature_info)
    for found, described in zip(maps, model.feature_info):
        side = SIZE // described["reduction"]
        assert found.shape == (2, described["num_chs"], side, side)
    [first] = model.forward_intermediates(
        blank(), [-len(maps)], stop_early=True, intermediates_only=True
    )
    assert first.shape == maps[0].shape


@small
@torch.no_grad()
def test_intermediates_are_the_same_whatever_else_is_asked_for(name):
    model, images = shallow(name)
    model.eval()
    features, maps = model.forward_intermediates(images)
    assert torch.equal(features, model.forward_features(images))
    for norm in (False, True):
        [last] = model.forward_intermediates(images, 1, norm=norm, intermediates_only=True)
        assert torch.equal(last, maps[-1]) or (norm and last.shape == maps[-1].shape)
    for i, expected in enumerate(maps):
        for stop_early in (False, True):
            [found] = model.forward_intermediates(
                images, [i], stop_early=stop_early, intermediates_only=True
            )
            assert torch.equal(found, expected)
    if hasattr(model, "set_grad_checkpointing"):
        model.set_grad_checkpointing()
        checkpointed = model.forward_intermediates(images)
        assert torch.equal(checkpointed[0], features)
        assert all(torch.equal(one, other) for one, other in zip(checkpointed[1], maps))


@small
def test_a_network_pruned_to_a_part_ends_there_and_uses_all_that_is_left(name):
    model, images = shallow(name)
    if not hasattr(model, "prune_intermediate_layers"):
        pytest.skip("its only part is its last")
    model.eval()
    last = len(model.feature_info) - 1
    with torch.no_grad():
        logits, maps = model(images), model.forward_intermediates(images, intermediates_only=True)
        whole = copy.deepcopy(model)
        whole.prune_intermediate_layers([last], prune_head=False)
        assert torch.equal(whole(images), logits)
    for i, expected in enumerate(maps):
        pruned = copy.deepcopy(model)
        assert list(pruned.prune_intermediate_layers([i], prune_norm=True)) == [i]
        assert len(pruned.state_dict()) < len(model.state_dict())
        [found] = pruned.forward_intermediates(images, [i], intermediates_only=True)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        features = pruned.forward_features(images)
        if features.ndim == 4:
            assert torch.equal(as_grid(model, features), found)
            assert pruned.num_features == expected.shape[1]
        assert pruned(images).shape == features.shape  # without a head
        (found.sum() + features.sum()).backward()
        assert not [key for key, parameter in pruned.named_parameters() if parameter.grad is None]


@every_name
@pytest.mark.parametrize("kind", ["getter", "hook", "fx"])
def test_features_only_gives_the_described_features_in_each_of_timms_ways(name, kind):
    model = on_meta(name)
    wanted = tuple(range(len(model.feature_info)))[-2:]
    features = on_meta(name, features_only=True, feature_cls=kind, out_indices=wanted)
    maps = features(blank())
    assert len(maps) == len(wanted)
    for found, i in zip(maps, wanted):
        described = model.feature_info[i]
        side = SIZE // described["reduction"]
        if found.ndim == 4:
            found = found if kind == "getter" else as_grid(model, found)
            assert found.shape == (2, described["num_chs"], side, side)
        else:  # a hook sees a vision transformer's tokens
            assert kind != "getter" and found.shape[2] == described["num_chs"]


# --- traced, scripted, exported ---


@every_name
def test_every_network_can_be_traced_and_keeps_the_names_of_its_weights(name):
    model = on_meta(name)
    traced = torch.fx.symbolic_trace(model)
    assert traced(blank()).shape == (2, CLASSES)
    names = {key for key, _ in model.named_parameters()}
    assert {key for key, _ in traced.named_parameters()} == names


@small_and_options
def test_a_traced_network_computes_and_learns_as_the_network_does(name, options):
    model, images = network(name, dict(options, drop_rate=0.1) if options else {})
    for training in (False, True):
        results = []
        for one in (model.train(training), torch.fx.symbolic_trace(model)):
            one.zero_grad()
            torch.manual_seed(1)
            output = one(images)
            logits = output[0] if isinstance(output, tuple) else output
            logits.logsumexp(1).sum().backward()
            results.append((logits, {k: p.grad for k, p in one.named_parameters()}))
        (expected, wanted), (found, gradients) = results
        assert torch.equal(found, expected)
        for key, gradient in gradients.items():
            assert (gradient is None) == (wanted[key] is None), key
            assert gradient is None or torch.equal(gradient, wanted[key]), key


def test_a_traced_network_draws_its_boxes_anew_in_every_pass():
    model, images = network("spectformer_h_s", dict(depths=(1, 1, 1, 1), token_label=True))
    traced = torch.fx.symbolic_trace(model.train())
    assert len({traced(images)[2] for _ in range(20)}) > 1


@first_of_each_file
def test_images_of_another_size_or_number_of_axes_are_refused_in_one_line_also_when_traced(name):
    model, images = shallow(name)
    traced = torch.fx.symbolic_trace(model)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    for wrong, words in [
        (images[..., :32], "an image of 64x32 pixels came to a network built for 64x64"),
        (images[0], "images have four axes, .* not 3"),
    ]:
        for one in (model, traced):
            with pytest.raises(ValueError, match=words) as refused:
                one(wrong)
            assert "\n" not in str(refused.value)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="PyTorch scripts up to Python 3.13")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@small_and_options
@torch.no_grad()
def test_a_scripted_network_computes_the_same_and_refuses_the_same_also_from_a_file(name, options):
    model, images = network(name, options)
    expected, file = model.eval()(images), io.BytesIO()
    scripted = torch.jit.script(model)
    torch.jit.save(scripted, file)
    file.seek(0)
    for one in (scripted, torch.jit.load(file)):
        torch.testing.assert_close(one(images), expected, rtol=0, atol=1e-5)
        assert set(one.state_dict()) >= set(model.state_dict())
        if name in MODELS:
            with pytest.raises(torch.jit.Error, match="64x32 pixels.*built for 64x64"):
                one(images[..., :32])


@pytest.mark.parametrize(
    "name, options",
    [*((name, {}) for name in SMALL), OPTIONS[2], OPTIONS[5]],
    ids=[*SMALL, "polyphase", "token labels"],
)
@torch.no_grad()
def test_an_exported_network_takes_any_number_of_images(name, options):
    model, images = network(name, options)
    batch = torch.export.Dim("batch")
    exported = torch.export.export(model.eval(), (images,), dynamic_shapes=({0: batch},)).module()
    images = torch.randn(5, *images.shape[1:])
    for some in (images, images[:1]):
        torch.testing.assert_close(exported(some), model(some), rtol=0, atol=1e-5)
