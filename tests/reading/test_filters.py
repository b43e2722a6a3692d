"""Kept filters are the checkpoint's, a file of them is checked before it is believed, and their
measures measure what they say.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from astroformer import cli
from astroformer.models.spectformer import SpectralGate
from astroformer.reading import filters
from astroformer.reading.filters import (
    Filters,
    concentration,
    energy,
    facts,
    find,
    fresh,
    keep,
    of_checkpoint,
    profile,
    read,
)
from astroformer.recipes import get_recipe
from astroformer.training import Run, fit, load_trained

SMALL = (
    ("depth", 3),
    ("embed_dim", 24),
    ("num_heads", 3),
    ("patch_size", 4),
    ("spectral_blocks", 2),
)


@pytest.fixture(scope="module")
def trained(tiny_folder, shared_runs):
    """The checkpoint of a small SpectFormer trained for an epoch, with its record in a ledger of
    its own.
    """
    run = Run(
        model="spectformer_ti",
        dataset="folder",
        data_dir=str(tiny_folder),
        options=SMALL,
        recipe=get_recipe("smoke", epochs=1, batch_size=16),
    )
    return fit(run, device=torch.device("cpu"), report=lambda line: None).weights


@pytest.fixture
def book(tmp_path, monkeypatch):
    """The folder of kept filters, empty."""
    monkeypatch.setattr(filters, "FOLDER", tmp_path / "filters")
    return tmp_path / "filters"


def made(kernel: np.ndarray, pixels: tuple[int, int]) -> Filters:
    """A network of one gate with this kernel (H, W, C) for images of so many pixels."""
    stored = np.fft.rfft2(kernel, axes=(0, 1))
    return Filters(
        run="0" * 12,
        model="spectformer_ti",
        options={"img_size": pixels, "depth": 1},
        dataset="none",
        kind="synthetic",
        recipe="none",
        command="none",
        weights={"blocks.0.filter": np.stack([stored.real, stored.imag], -1)},
        grids={"blocks.0.filter": kernel.shape[:2]},
    )


def measured(kernel: np.ndarray, pixels: tuple[int, int]) -> list[float]:
    return concentration(made(kernel, pixels)).iloc[0].tolist()


# --- kept ---


def test_what_is_kept_is_the_checkpoints_to_half_precision_and_says_where_it_comes_from(
    trained, book
):
    path, run = keep(trained, "mine"), load_trained(trained)[1]["run"]
    assert path == book / f"mine-{run}.npz"
    kept, gates = (
        read(path),
        {n: m for n, m in load_trained(trained)[0].named_modules() if isinstance(m, SpectralGate)},
    )
    assert list(kept.weights) == list(gates) == ["blocks.0.filter", "blocks.1.filter"]
    for name, gate in gates.items():
        assert kept.weights[name].dtype == np.float16 and kept.grids[name] == gate.grid_size == (
            8,
            8,
        )
        np.testing.assert_allclose(kept.kernel(name), gate.kernel().detach(), rtol=0, atol=2e-4)
    assert (kept.run, kept.model, kept.kind, kept.recipe) == (
        run,
        "spectformer_ti",
        "real",
        "smoke+batch_size=16+epochs=1",
    )
    assert (
        kept.options["spectral_blocks"] == 2 and "--model-option spectral_blocks=2" in kept.command
    )
    assert (
        find("mine").run
        == find(path.stem).run
        == find(str(path)).run
        == find(str(trained)).run
        == run
    )
    assert find("min") is None and find("mine-0") is None


def test_two_runs_of_one_name_are_told_apart_by_the_user(trained, book):
    path = keep(trained, "mine")
    path.with_name("mine-000000000000.npz").write_bytes(path.read_bytes())
    with pytest.raises(
        ValueError, match="2 runs are kept as mine; choose one of mine-000000000000"
    ):
        find("mine")
    assert find(path.stem) is not None


def test_a_file_that_nobody_kept_is_refused_and_executes_nothing(tmp_path, trained, book):
    with pytest.raises(FileNotFoundError):
        find(str(tmp_path / "none.npz"))
    contents = {"text.npz": b"no archive", "part.npz": keep(trained, "mine").read_bytes()[:500]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "other.npz", run=np.array("a"))
    np.savez(tmp_path / "pickled.npz", blocks=np.array([print], dtype=object))
    for name in (*contents, "other.npz", "pickled.npz"):
        with pytest.raises(
            ValueError, match=f"{name} is not a file of kept filters.*ledger --filters"
        ):
            read(tmp_path / name)


def test_only_filters_of_which_the_ledger_knows_the_images_are_kept(
    trained, book, monkeypatch, tmp_path
):
    monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="no completed record of run"):
        keep(trained, "mine")
    assert not book.exists()


def test_gains_too_large_for_half_precision_are_not_kept(trained, book, monkeypatch):
    found = of_checkpoint(trained)
    large = replace(found, weights={name: weight * 1e9 for name, weight in found.weights.items()})
    monkeypatch.setattr(filters, "of_checkpoint", lambda _: large)
    with pytest.raises(ValueError, match="too large for half precision"):
        keep(trained, "mine")


def test_the_command_keeps_filters_and_refuses_with_one_line(trained, book, capsys):
    assert cli.main(["ledger", "--filters", str(trained), "mine"]) == 0
    assert (
        capsys.readouterr().out.startswith("kept in ") and len(list(book.glob("mine-*.npz"))) == 1
    )
    for words, said in (
        (["no.pt", "mine"], "no.pt"),
        ([str(trained), "a/b"], "not a name of letters"),
    ):
        assert cli.main(["ledger", "--filters", *words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


# --- measured ---


def test_a_kernel_of_one_position_is_at_offset_zero_and_has_all_frequencies_alike():
    kernel = np.zeros((8, 6, 2))
    kernel[0, 0] = 1, -3
    low, radius, zero = measured(kernel, (32, 24))
    rows, columns = np.meshgrid(np.fft.fftfreq(8), np.fft.fftfreq(6), indexing="ij")
    assert (
        low == pytest.approx(100 * (np.hypot(rows, columns) <= 0.25).mean())
        and radius == 0
        and zero == 100
    )


def test_a_constant_kernel_has_one_frequency_and_reaches_everywhere():
    # offsets of 0, 8, 16 and again 8 pixels
    low, radius, zero = measured(np.ones((4, 4, 1)), (32, 32))
    assert low == pytest.approx(100) and zero == pytest.approx(100 / 16)
    assert radius == pytest.approx(np.sqrt(2 * np.mean([0, 64, 256, 64])))


def test_distance_is_the_shorter_way_around_in_pixels_of_each_direction():
    for offset, pixels in (((0, 5), 3.0), ((7, 0), 4.0), ((4, 3), np.hypot(16, 9))):
        kernel = np.zeros((8, 6, 1))
        kernel[offset] = 2.0
        assert measured(kernel, (32, 18))[1] == pytest.approx(pixels)


def test_each_channel_counts_alike_whatever_its_gain():
    kernel = np.zeros((4, 4, 2))
    kernel[0, 0, 0], kernel[2, 0, 1] = 1e-3, 1e3
    # radii 0 and 2
    assert measured(kernel, (4, 4)) == pytest.approx(
        [measured(kernel[..., :1], (4, 4))[0], 1.0, 50.0]
    )


@pytest.mark.parametrize("grid", [(8, 8), (5, 7), (6, 9)], ids=str)
def test_energy_lies_alike_in_kernel_and_gains_and_an_even_one_has_a_level_profile(grid):
    random = np.random.default_rng(0).normal(size=(*grid, 3))
    one = made(random, grid)
    for what in ("gains", "kernel"):
        length, parts = energy(one, "blocks.0.filter", what)
        assert length.shape == grid and length[0, 0] == 0 and np.allclose(parts.sum((0, 1)), 1)
    point = np.zeros((*grid, 1))
    point[0, 0] = 1
    np.testing.assert_allclose(profile(made(point, grid), "blocks.0.filter", "gains"), 1, atol=1e-5)
    np.testing.assert_allclose(
        profile(made(np.ones((*grid, 1)), grid), "blocks.0.filter", "kernel"), 1, atol=1e-5
    )
    assert profile(one, "blocks.0.filter", "kernel").index.is_monotonic_increasing


def test_gains_are_what_the_gate_multiplies_with_not_what_is_stored(trained):
    found = of_checkpoint(trained)
    gate, x = load_trained(trained)[0].get_submodule("blocks.1.filter"), torch.randn(1, 8, 8, 24)
    expected = torch.fft.fft2(gate(x), dim=(1, 2)) / torch.fft.fft2(x, dim=(1, 2))
    np.testing.assert_allclose(
        found.gains("blocks.1.filter"), expected[0].detach(), rtol=0, atol=1e-4
    )


def test_fresh_gates_are_drawn_as_a_networks_and_leave_the_generator_alone(trained):
    found = of_checkpoint(trained)
    torch.manual_seed(5)
    drawn, then = fresh(found), torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(then, torch.rand(1))
    weights = drawn.weights["blocks.0.filter"]
    assert weights.shape == found.weights[
        "blocks.0.filter"
    ].shape and weights.std() == pytest.approx(0.02, rel=0.1)
    assert not np.array_equal(weights, found.weights["blocks.0.filter"])
    np.testing.assert_array_equal(weights, fresh(found).weights["blocks.0.filter"])


def test_the_words_about_two_networks_follow_from_the_measures_and_say_what_is_missing(trained):
    narrow, wide = np.zeros((8, 8, 1)), np.ones((8, 8, 1))
    narrow[0, 0] = 1
    said = facts({"gates": made(narrow, (64, 64)), "both": made(wide, (64, 64))})["verdict"]
    assert (
        "100.0 % of the kernels' energy lie at offset zero with gates alone, 1.6 % where "
        "attention follows" in said
    )
    assert (
        "(larger with gates alone in 1 of 1 blocks)." in said
        and "radius is 0.0 pixels with gates alone" in said
    )
    one = {"gates": made(narrow, (64, 64)), "both": None}
    assert facts(one)["verdict"] == "Nothing can be said yet: the filters of both are not kept."
    assert filters.described(one)["trained on"].tolist() == ["none (synthetic)", "not run"]
    table = filters.compared({"gates": of_checkpoint(trained), "both": None})
    assert (
        table.index.tolist() == ["block 1", "block 2", "as drawn"]
        and (table.xs("both", axis=1, level=1) == "not run").all().all()
    )
