"""A temperature has the least negative log-likelihood, and never changes which class is likelier:
properties, over logits that are drawn.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from astroformer.inference import temperature
from astroformer.inference.temperature import LEAST, MOST, Temperature, applied, best
from astroformer.training import metrics


def drawn(seed, number=60, classes=4, true=1.0):
    """Logits, and labels that are drawn by their probabilities at a temperature."""
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(3 * generator.normal(size=(number, classes)))
    labels = [generator.choice(classes, p=row) for row in applied(logits, true)]
    return logits, np.array(labels)


def nll(logits, labels, value):
    return metrics(logits / value, labels)["nll"]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    true=st.floats(0.3, 4),
    factor=st.floats(0.2, 5).filter(lambda x: abs(x - 1) > 0.01),
)
def test_no_other_temperature_has_a_smaller_loss(seed, true, factor):
    logits, labels = drawn(seed, true=true)
    value = best(logits, labels)
    assert LEAST <= value <= MOST
    other = min(MOST, max(LEAST, value * factor))
    assert nll(logits, labels, value) <= nll(logits, labels, other) + 1e-12


def test_the_temperature_by_which_labels_were_drawn_is_found_again():
    for true in (0.5, 1.0, 2.5):
        logits, labels = drawn(3, number=20_000, true=true)
        assert best(logits, labels) == pytest.approx(true, rel=0.03)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), value=st.floats(LEAST, MOST))
def test_no_temperature_changes_an_order(seed, value):
    logits, _ = drawn(seed)
    log_p = logits.log_softmax(1)
    found = applied(log_p, value)
    assert np.allclose(found.sum(1), 1)
    pairs = np.diff(np.take_along_axis(found, np.argsort(log_p.numpy(), axis=1), axis=1), axis=1)
    assert (pairs >= 0).all()


@given(seed=st.integers(0, 2**32))
def test_log_probabilities_and_logits_have_one_temperature(seed):
    logits, labels = drawn(seed)
    assert best(logits.log_softmax(1), labels) == pytest.approx(best(logits, labels), rel=1e-6)


def test_what_is_always_right_or_never_ends_at_a_bound():
    logits = 5 * torch.eye(3, dtype=torch.float64)
    assert best(logits, np.array([0, 1, 2])) == LEAST
    assert best(logits, np.array([1, 2, 0])) == MOST
    assert best(torch.zeros(2, 3), np.array([0, 1])) in (LEAST, MOST)  # says nothing at all


def ensemble(*digests, folder):
    own = [SimpleNamespace(digest=one, folder=folder) for one in digests]
    return SimpleNamespace(members=own, key=sorted(digests), runs=digests)


def test_what_is_kept_is_of_these_networks_and_these_views(tmp_path):
    logits, labels = drawn(1)
    told = dict(split="validation", dataset="galaxies")
    alone, both = (ensemble(*names, folder=tmp_path) for names in ("a", "ab"))
    assert temperature.kept(alone, 1) is None
    made = {}
    for turns, own in ((1, alone), (4, alone), (1, both)):
        made[turns, len(own.members)] = one = temperature.fitted(
            own, turns, logits * turns * len(own.members), labels, **told
        )
        temperature.keep(one, tmp_path)
    assert temperature.kept(alone, 1) == made[1, 1] != made[4, 1] == temperature.kept(alone, 4)
    assert temperature.kept(ensemble("b", "a", folder=tmp_path), 1) == made[1, 2]
    assert temperature.kept(alone, 8) is None and temperature.kept(both, 4) is None
    assert temperature.kept(ensemble("c", folder=tmp_path), 1) is None
    again = Temperature(**vars(made[1, 1]) | {"temperature": 1.5})
    temperature.keep(again, tmp_path)
    assert temperature.kept(alone, 1) == again and temperature.kept(alone, 4) == made[4, 1]
    assert len(json.loads((tmp_path / temperature.FILE).read_text())) == 3
    one = made[1, 1]
    assert one.nll_after <= one.nll_before and one.images == 60
    assert one.nll_before == pytest.approx(metrics(logits, labels)["nll"])
    assert "fitted on 60 validation images of galaxies" in one.described()


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"temperature": 1}]', "\xff"])
def test_a_file_of_others_is_refused_with_its_name(tmp_path, text):
    (tmp_path / temperature.FILE).write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="temperature.json .*remove the file"):
        temperature.kept(ensemble("a", folder=tmp_path), 1)
