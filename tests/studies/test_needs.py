"""What a run needs is said by measured speeds where there are any, and called rough where not."""

from dataclasses import replace

import pytest
from galaxy_folder import write_galaxies

from astroformer.counting.budget import FLOP_PER_MAC
from astroformer.counting.cards import CARDS
from astroformer.counting.cost import model_cost
from astroformer.recipes import get_recipe
from astroformer.recipes import replace as changed
from astroformer.speed import kept
from astroformer.studies import asked, needs
from astroformer.studies.needs import MEASURED, ROUGH, SCALED, Estimator, Place
from astroformer.training import Run, memory, memory_kept


def unit_of(study, label):
    return next(unit for unit in asked.asked([study], known=[]).units if label in unit.label)


@pytest.fixture(scope="module")
def vit():
    return unit_of("table_vit_cifar", "CIFAR-100, seed 0")


@pytest.fixture(scope="module")
def astroformer():
    """A network whose speed no GPU was asked for yet."""
    speeds = kept.frame()
    asked = set(speeds.loc[speeds["device"].str.startswith("NVIDIA"), "model"])
    names = (f"astroformer_{size}" for size in (4, 5, 3))
    name = next((name for name in names if name not in asked), None)
    if name is None:
        pytest.skip("the speed of every large network is measured")
    return unit_of("table_astroformer", f"{name}, CIFAR-100")


def estimator(card, **how):
    return Estimator(Place.named(card, "cuda"), known=[], **how)


def with_epochs(unit, epochs):
    return replace(unit, run=replace(unit.run, recipe=changed(unit.run.recipe, epochs=epochs)))


def test_a_measured_speed_is_taken_as_it_is_on_its_card(vit):
    speeds = kept.frame()
    row = speeds[(speeds["what"] == "training") & (speeds["device"] == "NVIDIA H200")].iloc[0]
    found = estimator("h200").of(vit)
    assert found.how == MEASURED
    assert found.seconds == pytest.approx(needs.images_of(vit.run) / row["images_per_second"])


@pytest.mark.parametrize("card", [card.name for card in CARDS if card.name != "H200 SXM"])
def test_on_another_card_it_goes_by_the_published_rates(vit, card):
    here, there = estimator("h200").of(vit), estimator(card).of(vit)
    assert there.how == SCALED
    rates = {card.name: card.tflops for card in CARDS}
    assert there.seconds / here.seconds == pytest.approx(rates["H200 SXM"] / rates[card])


def test_a_network_that_was_never_measured_has_a_rough_speed(astroformer):
    found = estimator("h100").of(astroformer)
    assert found.how == ROUGH and found.seconds > 0 and found.kwh > 0


@pytest.mark.parametrize("card", ["h100", "L4"])
def test_a_small_network_is_not_taken_to_make_faster_steps_than_any_that_was_measured(card):
    small = unit_of("spectral_blocks", "3, seed 0")
    speeds = kept.frame()
    rows = speeds[speeds["device"].str.startswith("NVIDIA") & (speeds["what"] == "training")]
    shortest = (rows["batch_size"] / rows["images_per_second"]).min()
    found = estimator(card).of(small)
    steps = needs.images_of(small.run) / small.run.recipe.batch_size
    assert found.how == ROUGH and found.seconds >= 0.999 * steps * shortest


@pytest.mark.parametrize(
    "study, label",
    [
        ("table_astroformer", "astroformer_3, CIFAR-100"),
        ("table_spectformer", "spectformer_ti"),
        ("few_images", "CTTT"),
        ("few_images", "resnet18"),
        ("few_images", "spectformer"),
    ],
)
def test_counts_in_closed_form_are_those_of_the_network_itself(study, label):
    unit = unit_of(study, label)
    told = needs.sizes_of(unit.run, unit.classes)
    options = dict(unit.run.options)
    cost = model_cost(
        unit.run.model,
        image_size=needs.pixels_of(unit.run),
        num_classes=unit.classes,
        **options,
    )
    assert told == (cost["params"], cost["macs"])
    quick = estimator("h100", memory=False).of(unit)
    assert quick.memory == 0 and quick.seconds == estimator("h100").of(unit).seconds


def test_without_any_measured_speed_nothing_is_estimated(astroformer):
    found = estimator("h100", speeds=kept.frame().iloc[:0]).of(astroformer)
    assert found.seconds is None and found.hours is None and found.kwh is None
    line = needs.cost_line([astroformer], Place.named("h100", "cuda"), None)
    assert "rough" in line


@pytest.mark.parametrize("times", [2, 5])
def test_hours_and_energy_grow_with_the_epochs_and_memory_and_disk_do_not(vit, times):
    one, more = (estimator("h100").of(with_epochs(vit, 10 * n)) for n in (1, times))
    assert more.seconds == pytest.approx(times * one.seconds)
    assert more.kwh == pytest.approx(times * one.kwh)
    assert (more.memory, more.disk, more.host_memory) == (one.memory, one.disk, one.host_memory)


def test_what_fits_no_card_as_the_run_that_it_is_is_said(astroformer):
    assert estimator("h200").of(astroformer).fits
    small = estimator("l4").of(astroformer)
    large = estimator("h200").of(astroformer)
    assert small.fits or any("micro_batch_size" in word for word in small.words)
    assert small.memory <= large.memory


@pytest.mark.parametrize("name", ["a100", "A100 SXM"])
def test_a_card_that_could_be_several_is_refused_with_their_names(name):
    with pytest.raises(ValueError, match="A100 SXM 40 GB, A100 SXM 80 GB"):
        Place.named(name, "cuda")


def test_a_card_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="not known; choose RTX 3090"):
        Place.named("V100", "cuda")


def test_the_line_counts_what_it_cannot_know(vit, astroformer):
    place = Place.named("h200", "cuda")
    line = needs.cost_line([vit, astroformer], place)
    assert line.startswith("2 runs: ") and "1 of them at a rough speed" in line
    assert needs.cost_line([], place) == "Nothing is missing."


def test_a_speed_that_is_not_measured_is_that_of_the_step_of_nearest_size():
    macs, rates = (1e8, 1e11), (0.01, 0.1)  # of the card's published rate
    card = Place.named("h100", "cuda").card
    rows = [
        {
            "device": "NVIDIA H100 80GB HBM3",
            "macs": one,
            "batch_size": 64,
            "images_per_second": rate * slower * card.tflops * 1e12 / (FLOP_PER_MAC * one),
        }
        for one, rate in zip(macs, rates)
        for slower in (1.0, 0.1)  # another training shared the card
    ]
    estimated = Estimator(Place.named("h100", "cuda"), known=rows, speeds=kept.frame().iloc[:0])
    for one, rate in zip(macs, rates):
        for factor in (0.3, 1.0, 3.0):
            assert estimated._share_near(factor * one * 64) == pytest.approx(rate)


def test_what_was_counted_is_kept_and_read_again(vit, tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path))
    memory_kept.place.cache_clear()
    try:
        places = [Place.named("h100", "cuda"), Place()]
        told = [Estimator(place, known=[]).of(vit) for place in places]
        assert told[0].memory != told[1].memory
        counted = []
        monkeypatch.setattr(memory, "on_a_card", lambda *_, **__: counted.append("card"))
        monkeypatch.setattr(memory, "of_run", lambda *_, **__: counted.append("cpu"))
        assert [Estimator(place, known=[]).of(vit) for place in places] == told
        assert not counted
    finally:
        memory_kept.place.cache_clear()


def test_a_folder_of_ones_own_is_asked_for_its_images_and_their_size(tmp_path):
    write_galaxies(tmp_path / "mine", train=5, size=40)
    recipe = get_recipe("smoke", epochs=3)
    run = Run(model="vit_cifar", dataset="folder", data_dir=str(tmp_path / "mine"), recipe=recipe)
    assert needs.pixels_of(run) == 40 and needs.images_of(run) == 3 * 15
