"""Curves of runs: what is written is read again, and what is kept in half precision says the same
of a run's stability.
"""

import numpy as np
import pytest
import torch

from astroformer import paths
from astroformer.ledger import curves
from astroformer.studies.stability import rose_again, spikes, tail_of


@pytest.fixture
def own_ledger(own_runs, monkeypatch):
    """Committed and local curves of one test."""
    monkeypatch.setattr(paths, "LEDGER", own_runs / "committed")
    return own_runs


def made(steps=600, seed=0):
    """(2, S): a loss that falls with noise and spikes, norms with a long tail."""
    random = np.random.default_rng(seed)
    loss = np.linspace(4.6, 3.0, steps) + random.normal(0, 0.1, steps)
    loss[random.choice(steps, 5)] += 3
    return np.stack([loss, random.lognormal(0, 1, steps)]).astype(np.float32)


def test_what_is_written_is_read_again(own_ledger):
    assert curves.read("abc") is None
    for whole in (made(), torch.from_numpy(made())):
        path = curves.write("abc", whole)
        assert path == curves.local("abc") and [path] == list(path.parent.iterdir())
        found = curves.read("abc")
        assert found.loss.dtype == found.norm.dtype == np.float32
        np.testing.assert_array_equal(np.stack([found.loss, found.norm]), made())
    assert len(curves.Curve(*made()[:, :0]).loss) == 0
    curves.write("none", made()[:, :0])
    assert curves.read("none").loss.shape == (0,)


@pytest.mark.parametrize("shape", [(600,), (3, 600), (600, 2), (2, 3, 4)])
def test_another_shape_is_refused(own_ledger, shape):
    with pytest.raises(ValueError, match=r"is not \(2, steps\): the losses, the norms"):
        curves.write("abc", np.zeros(shape))
    assert curves.read("abc") is None


def test_what_was_not_finite_stays_so(own_ledger):
    curve = made()
    curve[0, 300:] = np.nan
    curve[1, 299:] = np.inf
    curves.write("abc", curve)
    for place in (curves.local("abc"), curves.keep("abc")):
        found = curves.load(place)
        assert np.isnan(found.loss[300:]).all() and np.isfinite(found.loss[:300]).all()
        assert np.isinf(found.norm[299:]).all() and np.isfinite(found.norm[:299]).all()


def test_a_kept_curve_is_small_and_says_the_same(own_ledger):
    assert curves.keep("abc") is None
    path = curves.write("abc", made())
    kept = curves.keep("abc")
    assert kept == curves.committed("abc") == paths.LEDGER / "curves" / "abc.npz"
    assert kept.stat().st_size < 0.7 * path.stat().st_size
    whole, half = curves.load(path), curves.load(kept)
    np.testing.assert_allclose(half.loss, whole.loss, rtol=1e-3)
    np.testing.assert_allclose(half.norm, whole.norm, rtol=1e-3)
    assert spikes(half.loss) == spikes(whole.loss) > 0
    assert rose_again(half.loss) == rose_again(whole.loss)
    assert tail_of(half.norm) == pytest.approx(tail_of(whole.norm), rel=2e-3)


def test_a_gradient_beyond_half_precision_stays_in_the_tail(own_ledger):
    """As infinite it would be left out, and the run that burst would look the calmest."""
    curve = made()
    curve[1, ::20] = 1e6
    curves.write("abc", curve)
    half = curves.load(curves.keep("abc"))
    assert np.isfinite(half.norm).all() and half.norm.max() == np.finfo(np.float16).max
    assert tail_of(half.norm) > 1e4 < tail_of(curve[1])


def test_committed_curves_come_before_local_ones_and_are_made_of_them(own_ledger):
    curves.write("abc", made())
    curves.keep("abc")
    curves.write("abc", made(seed=1))  # the run was made again
    first = curves.read("abc")
    np.testing.assert_allclose(first.loss, made()[0], rtol=1e-3)
    curves.keep("abc")
    np.testing.assert_allclose(curves.read("abc").loss, made(seed=1)[0], rtol=1e-3)


def damaged(path, how):
    whole = path.read_bytes()
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "changed":  # within the compressed numbers
        path.write_bytes(whole[:200] + bytes(300) + whole[500:])
    elif how == "text":
        path.write_text("no curve")
    elif how == "array":
        with open(path, "wb") as file:
            np.save(file, made())
    elif how == "other":
        with open(path, "wb") as file:
            np.savez(file, loss=made()[0])
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["cut", "changed", "text", "array", "other", "empty"])
def test_a_damaged_file_is_one_line_with_the_way_out(own_ledger, how):
    damaged(curves.write("abc", made()), how)
    with pytest.raises(ValueError, match="abc.npz is no file of a run's curve .* --force") as error:
        curves.read("abc")
    assert "\n" not in str(error.value)
