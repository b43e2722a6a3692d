"""Texts that lead somewhere are texts: tables sort, compare and copy them; a page shows where they
lead, and nothing of them as markup.
"""

import copy
import pickle
from html import escape

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from astroformer.figures.tables import sortable
from astroformer.ledger import claims, links, records, tables
from astroformer.verdicts import verdicts

ANY = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@given(ANY, ANY)
def test_a_text_that_leads_somewhere_is_that_text(text, address):
    one = links.to(address, text, of="claim x")
    assert one == text and hash(one) == hash(text) and isinstance(one, str)
    for again in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert again == one and again.html == one.html
    found = BeautifulSoup(one.html, "html.parser").find("a")
    assert found.get_text() == text and found["href"] == address and found["data-of"] == "claim x"


@given(st.lists(ANY, max_size=4))
def test_joined_texts_show_their_parts(parts):
    whole = links.joined([links.to("a.html", one) for one in parts], " < ")
    assert whole == " < ".join(parts)
    parsed = BeautifulSoup(whole.html, "html.parser")
    assert [one.get_text() for one in parsed.find_all("a")] == parts
    assert whole.html.count("&lt;") >= max(0, len(parts) - 1)


def test_a_table_keeps_them_and_escapes_the_rest():
    rows = [{"a": links.to("x.html", "<1>"), "b": "<i>", "c<": 2.5}, {"a": "", "b": "z", "c<": 1}]
    frame = links.frame(rows)
    assert frame["c<"].dtype == float
    frame = frame.sort_values("c<", ignore_index=True)
    html = sortable(frame, searched=True).data
    parsed = BeautifulSoup(html, "html.parser")
    assert "searchable" in parsed.find("table")["class"]
    assert [one.get_text() for one in parsed.find_all("td")] == [
        "",
        "z",
        "1.0",
        "<1>",
        "<i>",
        "2.5",
    ]
    assert parsed.find("a")["href"] == "x.html" and not parsed.find("i")
    assert parsed.find_all("th")[2].get_text() == "c<" and escape("<i>") in html
    assert links.frame([], ("a", "b")).columns.tolist() == ["a", "b"]


def test_each_claim_has_an_id_of_its_own_and_a_source_that_can_be_read():
    found = claims.read()
    ids = [claims.id_of(one) for one in found.itertuples(index=False)]
    assert len(set(ids)) == len(ids) > 100
    shuffled = found.sample(frac=1, random_state=0).assign(value="1")
    assert {claims.id_of(one) for one in shuffled.to_dict("records")} == set(ids)
    for one in found.itertuples(index=False):
        url = claims.url_of(one.source, one.table)
        assert url.startswith("https://") and "{" not in url and " " not in url


def test_a_source_without_an_address_is_refused_in_one_line():
    with pytest.raises(ValueError, match="'My log' can be read; give it an address in SOURCES"):
        claims.url_of("My log", "t")


def test_every_measured_accuracy_leads_to_runs_that_give_it_again():
    frame = records.frame(records.read())
    by_run = records.unique(frame).set_index("run", drop=False)
    tabled = tables.measured(frame[frame["status"] == "completed"])
    cells = [cell for cell in tabled["top-1 (%)"] if isinstance(cell, links.Linked)]
    assert len(cells) == (tabled["top-1 (%)"] != tables.NOT_RUN).sum() > 20
    for cell in cells:
        link = BeautifulSoup(cell.html, "html.parser").find("a")
        what, metric, *runs = link["data-of"].split()
        some = by_run.loc[runs]
        assert (what, metric) == ("accuracy", "top1") and some["group"].nunique() == 1
        assert link["href"] == f"runs.html#runs-{some['group'].iloc[0]}"
        assert tables.accuracy(some, metric) == cell


def test_every_claim_of_a_table_has_its_anchor_and_its_source():
    judged = verdicts.verdicts(claims.read(), records.frame())
    for system in judged["system"].unique():
        told = verdicts.readable(judged, system)
        parsed = BeautifulSoup(sortable(told, searched=True).data, "html.parser")
        rows = parsed.find("tbody").find_all("tr")
        anchors = [row.find("a", id=True)["id"] for row in rows]
        assert len(set(anchors)) == len(rows) == len(told)
        assert all(row.find("a", href=lambda at: at.startswith("https://")) for row in rows)
    assert isinstance(pd.DataFrame(judged)["why"].iloc[0], str)
