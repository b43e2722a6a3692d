"""The page with every run shows each record of the ledger once, with what repeats it, and has an
anchor for whatever a number leads to.
"""

import json

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from astroformer import cli
from astroformer.figures import every_run
from astroformer.ledger import records, tables


@pytest.fixture(scope="module")
def frame():
    return records.frame(records.read())


@pytest.fixture(scope="module")
def page(frame):
    return BeautifulSoup(every_run.every_run(frame).data, "html.parser")


def test_each_record_stands_once_and_each_group_opens(page, frame):
    rows = page.select("tbody tr")
    assert len(rows) == len(frame) > 200
    assert {one["id"] for one in page.select(".run-group")} == {
        f"runs-{group}" for group in frame["group"]
    }
    assert {one["id"] for one in page.select("tbody a[id]")} == {f"run-{r}" for r in frame["run"]}
    assert all(one.find_parent("details") for one in page.select(".run-group"))
    told = every_run.counted(frame)
    assert told["groups"] == len(page.select("details")) and told["records"] == len(rows)


def test_a_group_says_how_to_repeat_it_and_where_its_records_stand(page, frame):
    for block in page.select(".run-group"):
        own = frame[frame["group"] == block["id"].removeprefix("runs-")]
        assert block.find("pre").get_text() in set(own["command"])
        terms = {one.get_text(): one.find_next("dd").get_text() for one in block.find_all("dt")}
        assert {"network", "images", "licence", "recipe", "precision"} <= set(terms)
        assert str(own["dataset.sha256"].iloc[0])[:12] in terms["images"]
        first = block.find("tbody").find("tr").find_all("td")[-1].get_text()
        assert ".jsonl, line " in first or "this machine alone" in first


def test_numbers_are_those_of_the_records(page, frame):
    by_record = frame.set_index(["run", "started"])
    seen = 0
    for one in page.select("[data-of^='run ']"):
        _, metric, *record = one["data-of"].split()
        if one.get_text():
            assert float(one.get_text()) == pytest.approx(
                by_record.loc[tuple(record)][f"metrics.{metric}"], abs=0.0051
            )
            seen += 1
    assert seen > 500


def test_studies_have_anchors_and_the_page_is_light(page, frame):
    for name in frame["study.name"].dropna().unique():
        assert page.find(id=f"study-{name}")
    assert len(str(page)) < 6_000 * len(frame)
    assert not page.find("script")


@given(st.lists(st.floats(0, 100), max_size=200), st.integers(2, 40))
def test_a_thinned_curve_keeps_its_ends_and_its_order(values, most):
    found = every_run.thinned(values, most)
    assert len(found) == min(len(values), most)
    assert found[:1] == values[:1] and found[-1:] == values[-1:]
    places = iter(values)
    assert all(any(one == value for value in places) for one in found)


def test_the_verb_lists_some_runs_by_their_beginnings(frame, capsys):
    run = frame["run"].iloc[0]
    assert cli.main(["ledger", run[:8], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["run"] for one in told} == {run} and told[0]["history"]
    assert cli.main(["ledger", "none"]) == 2
    said = capsys.readouterr().err
    assert "no run in the ledger begins with 'none'" in said and len(said.splitlines()) == 1
    assert tables.ended(frame[frame["run"] == run]).shape[0] <= 1
