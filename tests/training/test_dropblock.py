"""DropBlock: what it erases while training, in either layout, and the networks that it is not
for.
"""

import pytest
import torch

from astroformer.training.dropblock import add_dropblock


def test_dropblock_erases_blocks_while_training_and_nothing_in_evaluation():
    import timm

    torch.manual_seed(0)
    model = timm.create_model("astroformer_pico", num_classes=3, img_size=32)
    images = torch.randn(2, 3, 32, 32)
    plain = model.eval()(images)
    add_dropblock(model, 0.3)
    assert torch.equal(model.eval()(images), plain)
    features = []
    model.stages[0].register_forward_hook(lambda _, __, output: features.append(output))
    model.train()(images)
    assert (features[0] == 0).float().mean() > 0.05


def test_dropblock_erases_all_channels_of_a_position_where_they_come_last():
    from astroformer.models.spectformer_h import SpectFormerH

    torch.manual_seed(0)
    # 16 x 16 positions of 16 channels
    model = SpectFormerH(4, (16, 4, 4, 4), (2, 1, 1, 1), (2, 2, 2, 2), img_size=64, num_classes=3)
    images = torch.randn(2, 3, 64, 64)
    plain = model.eval()(images)
    add_dropblock(model, 0.3)
    assert torch.equal(model.eval()(images), plain)
    maps = []
    for i in range(1, 5):
        model.get_submodule(f"block{i}")[-1].register_forward_hook(
            lambda _, __, output: maps.append(output)
        )
    model.train()(images)
    for stage, height in zip(maps, (16, 8, 4, 2)):
        assert stage.shape[1:3] == (height, height)
        erased = (stage == 0).all(3)
        assert torch.equal(erased, (stage == 0).any(3))
        # on smaller grids a block may be as large as the grid
        assert height < 16 or 0.05 < erased.float().mean() < 1
    assert len(maps) == 4


def test_a_network_of_blocks_on_one_grid_has_no_stages_for_dropblock():
    from astroformer.models.spectformer import SpectFormer
    from astroformer.models.vit_cifar import VitCifar

    for model in (
        SpectFormer(8, 2, num_heads=2, img_size=32, spectral_blocks=1),
        VitCifar(8, 2, 2, 8, 4),
    ):
        with pytest.raises(ValueError, match="no stages; set dropblock=0 and use cutout"):
            add_dropblock(model, 0.3)
