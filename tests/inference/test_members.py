"""Which checkpoint a word means, what several must have in common, and whether the images of a run
are at hand.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from galaxy_folder import write_galaxies

from astroformer.data.stretch import Stretch
from astroformer.data.values import Reading
from astroformer.inference import members
from astroformer.inference.members import NotAtHand, images_of


def refused(*words):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        members.ensemble(words)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_checkpoint_is_found_by_file_folder_and_run(runs):
    path, name = Path(runs.weights[0]), runs.names[0]
    for word in (path, str(path), path.parent, name, name[:8]):
        assert members.found(word) == path
    one = members.member(name)
    assert one.run == name and one.finished and one.classes == ("cigar", "round", "spiral")
    assert one.channels == 3 and one.cut.size == 32 and not one.averaged
    assert len(one.mean) == len(one.std) == 3


def test_words_that_mean_no_checkpoint_are_refused_in_one_line(runs, tmp_path):
    assert "no.pt: no such file" in refused("no.pt")
    assert "no such file" in refused("0123456789ab")
    first = Path(runs.weights[0]).parent
    shutil.copytree(first, first.with_name(f"{first.name[:6]}000000"))
    assert "several runs" in refused(first.name[:6])
    (first / "last.pt").unlink()
    shutil.rmtree(first.with_name(f"{first.name[:6]}000000"))
    assert "is in the ledger and its weights are not in" in refused(first.name)
    text = tmp_path / "notes.txt"
    text.write_text("no weights")
    assert "notes.txt" in refused(text)
    assert "no checkpoint is named" in refused()


def test_an_ensemble_needs_the_same_classes_and_images_of_one_kind(runs, monkeypatch):
    both = members.ensemble(runs.names)
    assert both.runs == runs.names and both.orders == ((0, 1, 2), (0, 1, 2))
    assert both.key == members.ensemble(runs.names[::-1]).key
    assert "named twice" in refused(runs.names[0], runs.weights[0])
    real = members.member

    def changed(**changes):
        def member(word, **how):
            one = real(word, **how)
            return replace(one, **changes) if one.run == runs.names[1] else one

        monkeypatch.setattr(members, "member", member)

    def reading(**how):
        return replace(real(runs.names[1]).cut, reading=Reading(**how))

    changed(classes=("spiral", "cigar", "round"))
    assert members.ensemble(runs.names).orders == ((0, 1, 2), (1, 2, 0))
    changed(classes=("cigar", "round", "lens"))
    assert "needs the same classes" in refused(*runs.names)
    changed(cut=reading(channels=5))
    assert "channels 3, and" in refused(*runs.names)
    changed(cut=reading(bands=("g", "r", "z")))
    assert "images of bands any name, and" in refused(*runs.names)
    changed(cut=reading(stretch=Stretch("asinh", (0.0,), (1.0,), 9)))
    assert "images of stretch none, and" in refused(*runs.names)
    changed(cut=replace(real(runs.names[1]).cut, size=48))
    assert len(members.ensemble(runs.names).members) == 2


def test_a_checkpoint_says_which_images_its_run_had(runs, tiny_folder):
    one = members.member(runs.names[0])
    train, held, test = (images_of(one, split) for split in ("train", "validation", "test"))
    assert (len(train), len(held), len(test)) == (33, 15, 24)
    assert held.split == "validation" and test.classes == one.classes
    assert str(tiny_folder.resolve()) == one.images["data_dir"]


def without_images(path):
    state = torch.load(path, weights_only=True)
    for name in ("images", "about", "reading"):
        state.pop(name)
    torch.save(state, path)


def test_of_an_older_checkpoint_the_ledger_says_them(runs, tiny_folder, monkeypatch):
    own = images_of(members.member(runs.names[0]), "validation")
    without_images(runs.weights[0])
    one = members.member(runs.names[0])
    with pytest.raises(NotAtHand, match="not at hand .*--data-dir"):
        images_of(one, "validation")
    monkeypatch.setenv("ASTROFORMER_DATA", str(tiny_folder.parent))
    found = images_of(one, "validation")
    assert found.pixels.sources == own.pixels.sources
    assert images_of(one, "validation", tiny_folder).pixels.sources == own.pixels.sources
    shutil.rmtree(runs.folder / "ledger")
    with pytest.raises(NotAtHand, match="neither .* nor the ledger"):
        images_of(members.member(runs.names[0]), "validation")


def test_images_that_have_changed_are_not_those_of_the_run(runs, tmp_path):
    one = members.member(runs.names[0])
    write_galaxies(tmp_path / "tiny")
    assert len(images_of(one, "test", tmp_path / "tiny")) == 24  # the same bytes elsewhere
    (tmp_path / "tiny/test/round/000.png").unlink()
    with pytest.raises(NotAtHand, match="others than those of run"):
        images_of(one, "test", tmp_path / "tiny")
    with pytest.raises(NotAtHand, match="not at hand"):
        images_of(one, "test", tmp_path / "nowhere")


def test_a_run_without_held_out_images_says_so(runs):
    one = members.member(runs.names[0])
    bare = replace(one, images=one.images | {"validation": 0.0})
    with pytest.raises(NotAtHand, match="holds out no validation"):
        images_of(bare, "validation")


def test_unfinished_runs_and_averages_are_told(runs):
    state = torch.load(runs.weights[0], weights_only=True)
    state |= {"step": 3, "average": state["weights"]}
    torch.save(state, runs.weights[0])
    said = []
    [one] = members.ensemble([runs.names[0]], report=said.append).members
    assert one.averaged and "has not ended" in said[0] and "EMA" in said[1] and len(said) == 2
    assert not members.member(runs.names[0], average=False).averaged


def test_the_record_of_a_run_is_not_changed_by_what_its_checkpoint_says(runs):
    lines = [
        json.loads(line)
        for path in (runs.folder / "ledger").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert not any("images" in line or os.sep in line["dataset"]["name"] for line in lines)
