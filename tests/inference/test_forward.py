"""What a network says of an image has the same bits whatever other images come with it; views form
a group.
"""

import dataclasses
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import astroformer  # noqa: F401  (registers the networks)
from astroformer.inference.forward import PIECE, Forward, pieces, pooled, reflected, views
from astroformer.inference.members import Cut, Ensemble, Member

CPU = torch.device("cpu")
NAMES = ("a", "b", "c", "d")


def member(name="astroformer_pico", seed=0, **changes):
    torch.manual_seed(seed)
    options = {} if name.startswith(("resnet", "test_")) else {"img_size": 32}
    model = timm.create_model(name, num_classes=len(NAMES), **options).eval()
    with torch.no_grad():  # those that are drawn as zeros say the same of every image
        for weights in model.parameters():
            weights.add_(0.02 * torch.randn_like(weights))
    made = Member(
        path=Path("runs/RUN/last.pt"),
        run="run",
        model=model,
        digest=f"{name} {seed}",
        classes=NAMES,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.2),
        cut=Cut(32, 1.0, "bicubic", None),
        finished=True,
        averaged=False,
        images=None,
        data_sha256="",
        mirrored=(),
    )
    return dataclasses.replace(made, **changes)


def images(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 3, 32, 32), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    "name", ["astroformer_pico", "vit_cifar", "resnet18_narrow", "spectformer_ti", "logistic_8x8"]
)
def test_an_image_has_the_same_bits_alone_among_others_and_in_any_place(name):
    network = Forward(member(name), CPU)
    every = images(PIECE + 5)
    log_p, features = network(every)
    assert log_p.shape == (PIECE + 5, 1, 4) and len(features) == PIECE + 5
    assert log_p.exp().sum(2).allclose(torch.ones(PIECE + 5, 1, dtype=torch.float64))
    alone = [network(every[i : i + 1]) for i in (0, PIECE, PIECE + 4)]
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(1))
    shuffled = network(every[order])
    for i, (told, of_alone) in zip((0, PIECE, PIECE + 4), alone):
        assert torch.equal(told[0], log_p[i]) and torch.equal(of_alone[0], features[i])
    assert torch.equal(shuffled[0], log_p[order]) and torch.equal(shuffled[1], features[order])


def test_it_says_what_the_network_says():
    one = member()
    batch = images(PIECE)
    x = (batch.float() / 255 - torch.tensor(one.mean)[:, None, None]) / torch.tensor(one.std)[
        :, None, None
    ]
    with torch.inference_mode():
        expected = one.model(x)
        before = one.model.forward_head(one.model.forward_features(x), pre_logits=True)
    log_p, features = Forward(one, CPU)(batch)
    assert torch.allclose(log_p[:, 0], expected.double().log_softmax(1))
    assert torch.allclose(features[:, 0], before.flatten(1))


def turned(batch, quarter, mirrored):
    return torch.rot90(batch.flip(3) if mirrored else batch, quarter, (2, 3)).contiguous()


@settings(max_examples=5)
@given(quarter=st.integers(0, 3), mirrored=st.booleans(), seed=st.integers(0, 2**31))
def test_a_turned_image_has_the_bits_of_the_image_with_turns(quarter, mirrored, seed):
    one, batch = MEMBER, images(3, seed)
    for turns, moved in ((4, turned(batch, quarter, False)), (8, turned(batch, quarter, mirrored))):
        network = Forward(one, CPU, turns=turns)
        alone = Ensemble((one,), (tuple(range(4)),))
        expected, found = (pooled([network(own)[0]], alone) for own in (batch, moved))
        assert torch.equal(expected, found)
        assert not torch.equal(expected, Forward(one, CPU)(batch)[0][:, 0])


MEMBER = member("test_efficientnet_evos")


def test_views_are_the_eight_moves_of_a_square_each_once():
    marked = torch.arange(9.0).reshape(1, 1, 3, 3)
    for turns in (1, 4, 8):
        found = [tuple(view.flatten().tolist()) for view in views(marked, turns)]
        assert len(found) == len(set(found)) == turns
    assert torch.equal(next(views(marked, 8)), marked)


def test_in_the_mirror_classes_of_a_handedness_change_places():
    one = member(mirrored=(("b", "d"),))
    assert reflected(one) == [0, 3, 2, 1] and reflected(MEMBER) == [0, 1, 2, 3]
    batch = images(4)
    alone = Ensemble((one,), (tuple(range(4)),))
    network = Forward(one, CPU, turns=8)
    told, mirrored = (pooled([network(own)[0]], alone) for own in (batch, batch.flip(3)))
    assert torch.equal(told[:, [0, 3, 2, 1]], mirrored)


def test_an_ensemble_is_the_mean_probability_in_any_order_of_its_members_and_of_their_classes():
    first, second = member(seed=0), member(seed=1, classes=("c", "a", "d", "b"))
    batch = images(6)
    told = {one.digest: Forward(one, CPU)(batch)[0] for one in (first, second)}
    orders = tuple(map(second.classes.index, first.classes))
    both = Ensemble((first, second), (tuple(range(4)), orders))
    found = pooled([told[one.digest] for one in both.members], both)
    mean = (told[first.digest][:, 0].exp() + told[second.digest][:, 0].exp()[:, list(orders)]) / 2
    assert torch.allclose(found.exp(), mean)
    back = Ensemble(
        (second, first), (tuple(range(4)), tuple(map(first.classes.index, second.classes)))
    )
    swapped = pooled([told[one.digest] for one in back.members], back)
    assert torch.equal(swapped[:, list(orders)], found)
    alone = Ensemble((first,), (tuple(range(4)),))
    assert torch.equal(pooled([told[first.digest]], alone), told[first.digest][:, 0])


@given(number=st.integers(0, 20), size=st.integers(1, 7))
def test_pieces_are_all_rows_in_parts_of_one_size(number, size):
    rows = torch.arange(1, number + 1)
    parts = [*pieces(rows, size)]
    assert all(len(part) == size for part, _ in parts)
    assert torch.equal(torch.cat([torch.empty(0), *(part[:n] for part, n in parts)]), rows.float())
    assert all(not part[n:].any() for part, n in parts)


def test_other_numbers_of_views_are_refused():
    with pytest.raises(ValueError, match="turns 3 .* choose 1, 4, 8"):
        Forward(MEMBER, CPU, turns=3)
