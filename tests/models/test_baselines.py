"""Baselines: of the size of astroformer_pico, made of timm's own layers, with a grid left for small
images; a run trains one as any other network, and its record answers the cell that asked for it.
"""

import pytest
import timm
import torch
from timm.models.resnet import BasicBlock, ResNet

from astroformer.counting.cost import model_cost
from astroformer.ledger import records
from astroformer.models import BASELINES, MODELS, NAMES, checked_name, default_image_size
from astroformer.models.options import checked_options
from astroformer.recipes import get_recipe
from astroformer.studies.cells import key_of_record, key_of_run
from astroformer.training import Run, fit

NETWORKS = [name for name in BASELINES if name != "logistic_8x8"]
SIZES = (32, 48, 64)


def test_a_baseline_is_a_name_and_no_model_of_the_claims():
    assert set(NAMES) == {*MODELS, *BASELINES} and not set(MODELS) & set(BASELINES)
    for name in BASELINES:
        assert checked_name(name) == name and default_image_size(name) == 32
        assert checked_options(name, {}) == {}
        with pytest.raises(ValueError, match=f"{name} has no option 'depth'; it takes none$"):
            checked_options(name, {"depth": 3})


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("pixels", SIZES)
@pytest.mark.parametrize("classes", [3, 100])
def test_each_has_the_size_of_the_smallest_astroformer(name, pixels, classes):
    params = model_cost(name, image_size=pixels, num_classes=classes)["params"]
    pico = model_cost("astroformer_pico", image_size=pixels, num_classes=classes)["params"]
    assert 1.0e6 < params < 1.31e6 and abs(params / pico - 1) < 0.15


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("pixels", SIZES)
def test_each_tells_images_apart_at_every_size(name, pixels):
    model = timm.create_model(name, num_classes=7, img_size=pixels, drop_path_rate=0.1).eval()
    torch.nn.init.normal_(model.get_classifier().weight if name != "logistic_8x8"
                          else model.head.weight)  # fmt: skip
    logits = model(torch.randn(2, 3, pixels, pixels))
    assert logits.shape == (2, 7) and not torch.allclose(logits[0], logits[1])


@pytest.mark.parametrize("name", ["resnet18_narrow", "convnext_narrow"])
def test_four_stages_keep_an_eighth_of_the_rows(name):
    model = timm.create_model(name, features_only=True, img_size=32).eval()
    stages = model(torch.randn(1, 3, 32, 32))[-4:]
    assert [tuple(one.shape[2:]) for one in stages] == [(32, 32), (16, 16), (8, 8), (4, 4)]
    assert [32 // one.shape[2] for one in stages] == model.feature_info.reduction()[-4:]


def test_the_resnet_is_timms_but_for_its_stem():
    ours = timm.create_model("resnet18_narrow", num_classes=10)
    theirs = ResNet(BasicBlock, **BASELINES["resnet18_narrow"], num_classes=10)
    shapes = [{key: value.shape for key, value in one.state_dict().items()}
              for one in (ours, theirs)]  # fmt: skip
    assert shapes[0].keys() == shapes[1].keys()
    assert [key for key in shapes[0] if shapes[0][key] != shapes[1][key]] == ["conv1.weight"]
    assert tuple(shapes[0]["conv1.weight"]) == (64, 3, 3, 3)
    # as timm draws it: variance 2 / (out channels x positions of the kernel)
    assert ours.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


@pytest.mark.parametrize("pixels", SIZES)
def test_the_transformer_has_eight_patches_in_a_row_of_any_image(pixels):
    model = timm.create_model("vit_narrow", img_size=pixels)
    assert model.patch_embed.grid_size == (8, 8)


@pytest.mark.parametrize("size", [36, (32, 48), (12, 12)])
def test_images_that_make_no_eight_patches_are_refused(size):
    with pytest.raises(ValueError, match="vit_narrow takes square images of a multiple of 8 pixel"):
        timm.create_model("vit_narrow", img_size=size)


def test_logistic_regression_sees_the_means_of_eight_by_eight_squares():
    model = timm.create_model("logistic_8x8", num_classes=3, img_size=32)
    torch.nn.init.normal_(model.head.weight)
    images = torch.randn(4, 3, 32, 32)
    means = images.unflatten(2, (8, 4)).unflatten(4, (8, 4)).mean((3, 5))  # (B, C, 8, 8)
    expected = means.flatten(1) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("name", BASELINES)
def test_a_run_trains_one_and_its_record_answers_the_run(name, tiny_folder, own_runs):
    recipe = get_recipe("smoke", epochs=1, batch_size=16, warmup_epochs=0.0)
    run = Run(model=name, dataset="folder", data_dir=str(tiny_folder), recipe=recipe, image_size=32)
    fit(run, report=lambda line: None)
    [kept] = records.read(own_runs / "ledger")
    assert kept["status"] == "completed" and kept["model"] == name
    assert kept["params"] == model_cost(name, image_size=32, num_classes=3)["params"]
    named = Run(model=name, dataset="folder", data_dir="tiny", recipe=recipe, image_size=32)
    assert key_of_record(kept) == key_of_run(named)
