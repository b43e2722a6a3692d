"""The plate of augmented galaxies: labels follow the pixels, holes lie on the network's grid, a
reflection changes a handedness.
"""

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from astroformer.data.images import About, Images
from astroformer.figures import augmentation as figures
from astroformer.reading import augmentation, sampling

CLASSES = ("disk", "ring", "spiral arm", "merger")


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    return Images(pixels, np.arange(12) % 4, CLASSES, 32, "train", About("x", "x", "synthetic"))


def weights(label):
    """ "0.62 disk + 0.38 ring" -> {"disk": 0.62, "ring": 0.38}"""
    parts = [part.split(" ", 1) for part in label.split(" + ")]
    return {label: 1.0} if label in CLASSES else {name: float(weight) for weight, name in parts}


def test_one_of_each_class_is_shown(images):
    assert augmentation.one_of_each(images).labels.tolist() == [0, 1, 2, 3]
    assert np.array_equal(augmentation.one_of_each(images, skip=1).pixels, images.pixels[4:8])
    assert np.array_equal(augmentation.one_of_each(images, skip=99).pixels, images.pixels[8:])


def test_the_label_of_a_mixture_has_the_weights_of_its_pixels(images):
    one = augmentation.one_of_each(images)
    for i, shown in enumerate(augmentation.mixed(one, seed=1)["Mixup"]):
        own, other = (one.pixels[j].astype(float) for j in (i, 3 - i))
        weight = ((shown.pixels - other) * (own - other)).sum() / ((own - other) ** 2).sum()
        assert weights(shown.label).get(CLASSES[i], 0) == pytest.approx(weight, abs=0.02)


def test_the_label_of_a_cut_image_has_the_weights_of_its_areas(images):
    one = augmentation.one_of_each(images)
    for i, shown in enumerate(augmentation.mixed(one, seed=1)["CutMix"]):
        own = (np.abs(shown.pixels.astype(int) - one.pixels[i]) <= 1).all(2).mean()
        assert weights(shown.label).get(CLASSES[i], 0) == pytest.approx(own, abs=0.02)


def test_an_odd_number_of_classes_is_mixed_and_each_is_shown_once(images):
    three = augmentation.one_of_each(images).take(np.arange(3))
    for ways in augmentation.mixed(three, seed=1).values():
        assert len(ways) == 3
    first, _, last = augmentation.mixed(three, seed=1)["Mixup"]
    assert set(weights(first.label)) == {CLASSES[0], CLASSES[2]}
    assert set(weights(last.label)) <= {CLASSES[1], CLASSES[2]}


def test_what_is_cut_out_leaves_the_label_alone(images):
    shown = augmentation.mixed(augmentation.one_of_each(images))
    assert (
        [one.label for one in shown["Cutout"]]
        == list(CLASSES)
        == [one.label for one in shown["as it is"]]
    )
    assert all(
        (one.pixels != plain.pixels).any() for one, plain in zip(shown["Cutout"], shown["as it is"])
    )


def test_strengths_share_their_operations_and_timm_cuts_them_at_ten(images):
    shown = augmentation.randaugmented(augmentation.one_of_each(images), (9, 15, 30))
    assert list(shown) == ["as it is", "m9", "m9, again", "m15", "m15, again", "m30", "m30, again"]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(shown["m15"], shown["m30"]))
    assert any((a.pixels != b.pixels).any() for a, b in zip(shown["m9"], shown["m15"]))


def test_the_holes_of_dropblock_lie_on_the_grid_of_the_first_stage(images):
    holes = augmentation.holes(images, 0.3)
    model, outputs = timm.create_model("astroformer_pico", num_classes=4, img_size=32).eval(), []
    model.get_submodule(augmentation.STAGE).register_forward_hook(
        lambda _, __, output: outputs.append(output)
    )
    model(torch.zeros(1, 3, 32, 32))
    assert holes.shape[1:] == tuple(outputs[0].shape[2:]) and 0.05 < holes.mean() < 0.8
    shown = augmentation.dropped(images, 0.3)
    for erased, one, pixels in zip(holes, shown, images.pixels):
        grey = (one.pixels == 110).all(2)
        assert abs(grey.mean() - erased.mean()) < 0.02 and np.array_equal(
            one.pixels[~grey], pixels[~grey]
        )


def test_hidden_light_is_counted_above_the_sky():
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[4:8, 4:8] = 200
    covered = pixels.copy()
    covered[4:6] = 110
    shown = {
        "as it is": [augmentation.Shown(pixels, "disk")],
        "covered": [augmentation.Shown(covered, "disk")],
    }
    assert augmentation.hidden_light(shown, "covered").tolist() == [
        50
    ] and augmentation.hidden_light(shown, "as it is").tolist() == [0]


def spiral(sense):
    """An arm pair whose azimuth (anticlockwise) changes by `sense` radians for each natural unit
    of the logarithm of the radius.
    """
    rows, columns = np.indices((64, 64)) - 31.5
    radius, azimuth = np.hypot(rows, columns) + 1e-6, np.arctan2(-rows, columns)
    light = np.exp(-radius / 12) * (1 + np.cos(2 * (azimuth - sense * np.log(radius))))
    return np.repeat((120 * light / light.max()).astype(np.uint8)[..., None], 3, 2)


def test_winding_tells_an_s_from_a_z_and_a_reflection_changes_it():
    for sense in (1.5, 2.5):
        s, z = spiral(-sense), spiral(sense)
        assert augmentation.winding(s) > 0.3 and augmentation.winding(z) < -0.3
        assert augmentation.winding(s[:, ::-1]) == pytest.approx(-augmentation.winding(s))
        assert augmentation.winding(np.rot90(s)) == pytest.approx(augmentation.winding(s))


def test_real_spirals_are_shown_where_their_archive_lies_and_get_the_other_label_when_reflected(
    tmp_path, monkeypatch
):
    for split in ("train", "test"):
        for name, sense in zip(augmentation.HANDED, (-2, 2)):
            folder = tmp_path / augmentation.REAL / split / name
            folder.mkdir(parents=True)
            Image.fromarray(spiral(0.2 * sense)).save(folder / "faint.png")
            Image.fromarray(spiral(sense)).save(folder / "clear.png")
    about = (
        '{"name": "galaxyzoo1-128", "title": "some", "kind": "real", "mirrored": '
        '[["spiral_anticlockwise", "spiral_clockwise"]]}'
    )
    (tmp_path / augmentation.REAL / "about.json").write_text(about)
    monkeypatch.setenv("ASTROFORMER_DATA", str(tmp_path))
    chosen = augmentation.spirals()
    assert np.array_equal(chosen.pixels[0], spiral(-2)) and np.array_equal(
        chosen.pixels[1], spiral(2)
    )
    shown = augmentation.moved(chosen)
    labels = {name: [one.label for one in ways] for name, ways in shown.items()}
    assert (
        labels["as it is"]
        == labels["turned by half"]
        == list(augmentation.HANDED)
        == labels["reflected"][::-1]
    )
    assert [np.sign(augmentation.winding(one.pixels)) for one in shown["reflected"]] == [-1, 1]


def test_a_plate_has_every_picture_and_writes_a_label_where_it_changes(images):
    one = augmentation.one_of_each(images)
    shown = augmentation.mixed(one, seed=1)
    [axis] = figures.plate(shown).axes
    assert len(axis.images) == 4 * len(shown)
    written = {text.get_text().replace("\n", " ").replace("  ", " ") for text in axis.texts}
    assert set(CLASSES) | set(shown) <= written
    assert sum(" + " in one.label for ways in shown.values() for one in ways) == sum(
        text[:2] == "0." for text in written
    )


def test_dots_of_the_batches_add_up(images):
    counted = sampling.batch_counts(images, 4)
    figure = figures.class_counts_by_batch(counted, CLASSES)
    assert [axis.get_title() for axis in figure.axes] == list(sampling.SAMPLINGS)
    for axis in figure.axes[1:]:  # in every batch one of each class
        assert axis.collections[0].get_offsets().tolist() == [[1, i] for i in np.argsort(CLASSES)]
