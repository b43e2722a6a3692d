"""The contents say which results pages have runs, and what is missing."""

import yaml

from astroformer.batch import shown
from astroformer.ledger import records
from astroformer.reproduce import Layout
from astroformer.studies import results


def sections_of(name):
    parts = yaml.safe_load(Layout().toc.read_text())["parts"]
    [page] = [one for part in parts for one in part["chapters"] if one["file"] == f"book/{name}"]
    return [one["file"].removeprefix("book/results_") for one in page["sections"]]


def test_pages_with_runs_stand_below_what_was_measured_and_the_others_below_what_is_missing():
    committed = [one for one in records.read() if one["origin"] == "committed"]
    there = {name: results.groups(name, results.of(name, committed)) for name in results.SUBJECTS}
    assert sections_of("measured") == [name for name in there if there[name]]
    assert sections_of("missing") == [name for name in there if not there[name]]


def test_what_is_missing_leads_to_its_pages_and_is_counted_once():
    cards = ["H100 SXM"]
    found = shown.Missing.on(cards)
    lacking, told = found.table(), found.words(cards[0])
    assert told["runs"] == lacking["runs missing"].sum() > 0 and float(told["days"]) > 1
    titles = {results.subject(name).title for name in sections_of("missing")}
    assert titles <= set(lacking["data set"])
    assert all("results_" in cell.html for cell in lacking["data set"])
