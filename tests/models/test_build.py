"""Any network of timm's has a name here, and only such: made with the arguments of a run, of which
it is given what it takes; what it lacks is refused where it would then not be done.
"""

import pytest
import timm
import torch

from astroformer import cli
from astroformer.counting.cost import model_cost, network_cost
from astroformer.models import checked_name, create, default_image_size
from astroformer.models.build import arguments, lacking
from astroformer.models.options import checked_options
from astroformer.sizes import NAMES

OF_A_RUN = dict(num_classes=5, img_size=64, drop_rate=0.0, drop_path_rate=0.0)
# built for any size; for one size; without stochastic depth; with a tag of weights
TIMMS = ("timm/test_resnet", "timm/test_vit", "timm/vgg11", "timm/test_vit.r160_in1k")


@pytest.mark.parametrize("name", TIMMS)
def test_a_network_of_timm_is_made_with_the_arguments_of_a_run(name):
    assert checked_name(name) == name
    with torch.device("meta"):
        model = create(name, **OF_A_RUN).eval()
    # before its logits, vgg11 has a convolution as large as the image that it is described with
    size = 224 if "vgg" in name else 64
    assert model(torch.empty(2, 3, size, size, device="meta")).shape == (2, 5)


def test_what_a_network_takes_is_left_out_or_refused():
    assert "img_size" not in arguments("timm/test_resnet", **OF_A_RUN)
    assert arguments("timm/test_vit", **OF_A_RUN) == OF_A_RUN
    assert lacking("timm/vgg11") == {"drop_path_rate"} and not lacking("timm/test_vit")
    assert "drop_path_rate" not in arguments("timm/vgg11", **OF_A_RUN)
    with pytest.raises(ValueError, match="timm/vgg11 has no drop_path_rate; .*the recipe has 0.1"):
        create("timm/vgg11", **OF_A_RUN | {"drop_path_rate": 0.1})
    for name in NAMES:  # which are given everything
        assert arguments(name, **OF_A_RUN) == OF_A_RUN


def test_it_is_the_network_that_timm_makes():
    torch.manual_seed(0)
    own = create("timm/test_vit", **OF_A_RUN).state_dict()
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit", num_classes=5, img_size=64).state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in own)


@pytest.mark.parametrize(
    "name, words",
    [
        ("timm/resnet5", "has no network 'resnet5'; choose one of timm/resnet50"),
        ("timm/~", r"has no network '~'; choose one of timm.list_models\(\)"),
        ("timm/resnet50.no_such", "no weights with the tag 'no_such'; it has a1_in1k, "),
        ("timm/astroformer_pico", "is a network of this project; .* without timm/"),
        ("resnet50", "not known; choose one of .* any network of timm's .* timm/resnet50"),
        ("timm/", "has no network ''"),
    ],
)
def test_a_name_that_nobody_knows_is_refused_with_near_ones(name, words):
    with pytest.raises(ValueError, match=words) as refused:
        checked_name(name)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 900


def test_options_are_those_that_timm_takes():
    assert checked_options("timm/test_vit", {"global_pool": "avg", "class_token": False}) == {
        "class_token": False,
        "global_pool": "avg",
    }
    for options, words in (
        ({"stack": "CCTT"}, "timm/test_vit has no option 'stack'"),
        ({"pretrained": True}, "pretrained is no option of timm/test_vit in a run: .*--init"),
        ({"checkpoint_path": "a.pth"}, "checkpoint_path is no option"),
        ({"features_only": True}, "features_only is no option"),
        ({"num_classes": 3}, "num_classes is no option of timm/test_vit: the data set decides"),
        ({"drop_path_rate": 0.1}, "--set drop_path_rate"),
        ({"global_pool": "sideways"}, "timm/test_vit cannot be used, timm says"),
    ):
        with pytest.raises(ValueError, match=words) as refused:
            checked_options("timm/test_vit", options)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit"])
def test_the_cost_of_a_network_of_timm_is_counted(name, capsys):
    size = default_image_size(name)
    found = model_cost(name, image_size=size, num_classes=7)
    with torch.device("meta"):
        model = timm.create_model(name.removeprefix("timm/"), num_classes=7)
    assert found["params"] == sum(one.numel() for one in model.parameters())
    traced = network_cost(name, num_classes=7)
    assert (traced["params"], traced["macs"], traced["image_size"]) == (*found.values(), size)
    assert cli.main(["cost", name, "--classes", "7"]) == 0
    assert f"{name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, said",
    [
        (["cost", "timm/test_resnett"], "has no network 'test_resnett'; choose one of timm/test_"),
        (["cost", "timm/test_vit", "--stack", "CCTT"], "no stages to choose"),
        (["cost", "timm/test_vit", "--image-size", "7"], "timm/test_vit cannot be used"),
        (
            ["train", "--model", "timm/inception_v3", "--image-size", "32"],
            "timm/inception_v3 cannot be used",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(words, said, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
