"""What was counted of memory once is not counted again, unless what it comes from has changed."""

import pytest

from astroformer.recipes import get_recipe
from astroformer.training import Run, memory, memory_kept


def run_of(model="vit_cifar", **changes):
    recipe = get_recipe("vit_cifar", **changes)
    return Run(model=model, dataset="cifar10", recipe=recipe)


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """The runs that are counted from now on, with a cache of their own."""
    found, original = [], memory.on_a_card
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        memory, "on_a_card", lambda run, **how: found.append(run) or original(run, **how)
    )
    memory_kept.place.cache_clear()
    yield found
    memory_kept.place.cache_clear()


ASKED = [
    (run_of(), dict(classes=10)),
    (run_of(), dict(classes=100)),
    (run_of(), dict(classes=10, card=1e8)),
    (run_of(batch_size=64), dict(classes=10)),
    (run_of(precision="float32"), dict(classes=10)),
    (run_of("astroformer_pico", mixup=0.2), dict(classes=10)),
]


def test_each_run_is_counted_once_and_comes_to_what_is_counted(counted):
    first = [memory_kept.on_a_card(run, **how) for run, how in ASKED]
    assert len(counted) == len(ASKED), "each of them is another question"
    assert first == [memory_kept.on_a_card(run, **how) for run, how in ASKED]
    assert len(counted) == len(ASKED)
    assert first == [memory.on_a_card(run, **how) for run, how in ASKED]
    # what decides nothing about memory asks nothing new
    counted.clear()
    run, how = ASKED[0]
    memory_kept.on_a_card(Run(model=run.model, dataset="cifar10", recipe=run.recipe, seed=7), **how)
    assert counted == []


def test_with_other_sources_all_is_counted_anew(counted, tmp_path, monkeypatch):
    run, how = ASKED[0]
    memory_kept.on_a_card(run, **how)
    before = memory_kept.place()
    for room in memory_kept.ROOMS:
        (tmp_path / "astroformer" / room).mkdir(parents=True)
    (tmp_path / "astroformer" / "counting" / "memory.py").write_text("another")
    monkeypatch.setattr(memory_kept.paths, "PACKAGE", tmp_path / "astroformer")
    memory_kept.place.cache_clear()
    memory_kept.on_a_card(run, **how)
    assert len(counted) == 2 and memory_kept.place() != before


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b'{"a": {"memory": {}}}', b"\xff"])
def test_a_damaged_cache_is_none(counted, content):
    run, how = ASKED[0]
    expected = memory_kept.on_a_card(run, **how)
    memory_kept.place().write_bytes(content)
    assert memory_kept.on_a_card(run, **how) == expected and len(counted) == 2
    assert memory_kept.on_a_card(run, **how) == expected and len(counted) == 2


def test_a_cache_that_cannot_be_written_is_none(counted, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "file"))
    memory_kept.place.cache_clear()
    run, how = ASKED[0]
    assert memory_kept.on_a_card(run, **how) == memory.on_a_card(run, **how)
    assert (tmp_path / "file").read_text() == ""
