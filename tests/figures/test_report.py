"""The page about a run stands alone, says its number with what guessing reaches, and escapes what
people call their classes.
"""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from galaxy_folder import write_galaxies
from small_run import CPU, small_run

from astroformer import cli, data
from astroformer.figures import report
from astroformer.ledger import predictions, records
from astroformer.training import fit, load_trained, run_folder

MOST = 3_000_000  # bytes of the page


class Page(HTMLParser):
    """What a page asks for, and its words."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.headings, self.text, self.within = [], [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        self.within = tag
        self.sources += [told[name] for name in ("src", "href") if name in told]

    def handle_data(self, words):
        self.text += words
        if self.within == "h2" and words.strip():
            self.headings.append(words)


@pytest.fixture(scope="module")
def made(shared_runs, tmp_path_factory):
    """A run on a folder with a name that no page may take as its own."""
    root = tmp_path_factory.mktemp("images") / "gal & <axies>"
    write_galaxies(root)
    (root / "train" / "round").rename(root / "train" / "<b>round</b> & co".replace("/", "-"))
    (root / "test" / "round").rename(root / "test" / "<b>round</b> & co".replace("/", "-"))
    run = small_run(root, epochs=1)
    fitted = fit(run, device=CPU, report=lambda line: None)
    return run, fitted


def test_the_page_stands_alone_and_has_every_part(made, tmp_path, capsys):
    run, fitted = made
    out = tmp_path / "report.html"
    assert cli.main(["report", fitted.record["run"], "--out", str(out)]) == 0
    text = out.read_text()
    page = Page(text)
    assert len(text) < MOST and all(one.startswith("data:image/png") for one in page.sources)
    assert len(page.sources) >= 5, "curves, confusion, calibration, mistakes, attention"
    assert len(page.headings) == 8 and "http" not in re.sub("https?://arxiv", "", text)
    assert "<b>round" not in text and "&lt;b&gt;round" in text
    said = predictions.read(fitted.record["run"])
    assert f"{100 * said.right.mean():.1f} % of 24 test images" in page.text
    assert "guessing 33.3 %" in page.text
    assert fitted.record["command"] in page.text
    assert "not at hand" not in page.text
    assert capsys.readouterr().out.startswith(f"{out}: ")


def test_a_checkpoint_names_its_run(made, tmp_path):
    _, fitted = made
    out = tmp_path / "page.html"
    assert cli.main(["report", str(fitted.weights), "--out", str(out)]) == 0
    assert fitted.record["run"] in out.read_text()


def test_without_images_or_weights_the_page_says_so(made, tmp_path):
    _, fitted = made
    said = predictions.read(fitted.record["run"])
    page = Page(report.html(fitted.record, said))
    assert page.text.count("not at hand") >= 1 and len(page.headings) == 8


def test_other_images_are_refused(made, tiny_folder):
    _, fitted = made
    said = predictions.read(fitted.record["run"])
    other = data.load("folder", "train", data_dir=tiny_folder)
    with pytest.raises(ValueError, match="name the run's own images with --data-dir"):
        report.html(fitted.record, said, other)


def test_a_run_that_nothing_is_known_of_is_refused_in_one_line(tmp_path, capsys, own_runs):
    assert cli.main(["report", "0123456789ab", "--out", str(tmp_path / "a.html")]) == 2
    told = capsys.readouterr().err
    assert "no completed record of run" in told and told.count("\n") == 1
    assert cli.main(["report", "0123456789ab", "--out", str(tmp_path / "absent/a.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_networks_without_attention_and_runs_without_mistakes_have_a_page(made):
    run, fitted = made
    said = predictions.read(fitted.record["run"])
    right = np.eye(3)[said.labels] * 5
    surely = predictions.of_logits("", right, said.labels, said.classes, evaluated_on="test")
    page = Page(report.html(fitted.record, surely))
    assert "It made none." in page.text and "100.0 % of 24" in page.text
    assert records.completed(fitted.record["run"])["run"] == fitted.record["run"]
    assert run_folder.folder_of(fitted.record["run"]) == fitted.weights.parent
    assert load_trained(fitted.weights)[1]["run"] == fitted.record["run"]
