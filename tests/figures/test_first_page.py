"""The first page: a row for each claim and table, decided ones first; the same in README.md, as
current as the ledger.
"""

import re

import pytest

from astroformer import paths
from astroformer.figures import first_page as drawn
from astroformer.figures import style
from astroformer.ledger import claims, records
from astroformer.studies import first_page, principles
from astroformer.verdicts import verdicts

ENDS = (".ipynb", ".md")  # of a page's file


@pytest.fixture(scope="module")
def page():
    """Of the committed records alone: a reader's own belong into no README."""
    committed = [record for record in records.read() if record["origin"] == "committed"]
    return first_page.first_page("cpu", committed)


def test_every_claim_has_a_row_and_what_is_decided_stands_first(page):
    reported = claims.read()
    own = [row.claim for row in page.rows]
    assert len(own) == len(set(own)) == len(principles.PRINCIPLES) + len(first_page.TABLES)
    assert {one.short for one in principles.PRINCIPLES.values()} <= set(own)
    ranks = [first_page.ORDER.index(row.verdict) for row in page.rows]
    assert ranks == sorted(ranks)
    assert set(first_page.ORDER) >= {*verdicts.VERDICTS, "supported", "undecided"}
    numbers = reported[(reported["by"] == "authors") & (reported["metric"] != "comparison")]
    tables = {(system, metric) for system, metrics, *_ in first_page.TABLES for metric in metrics}
    left = {(row.system, row.metric) for row in numbers.itertuples()} - tables
    assert {metric for _, metric in left} <= {"margin"}, "margins follow from the accuracies"


def test_what_is_undecided_says_what_it_would_take(page):
    for row in page.rows:
        waits = row.verdict in ("undecided", "not run")
        assert bool(row.to_decide) >= waits, row
        assert not row.page or any((paths.BOOK / f"{row.page}{end}").is_file() for end in ENDS)


def test_a_table_has_the_verdict_of_its_numbers_only_if_all_that_are_decided_share_it(page):
    of_table = first_page.of_table
    assert of_table({"reproduced": 2, "cannot be decided": 7}) == "reproduced"
    assert of_table({"reproduced": 13, "contradicted": 1}) == "partly"
    assert of_table({"reproduced": 13, "partly": 4, "cannot be decided": 1}) == "partly"
    assert of_table({"contradicted": 9, "partly": 3}) == "contradicted"
    assert of_table({"contradicted": 3, "partly": 3}) == "partly"
    assert of_table({"not run": 12, "cannot be decided": 1}) == "not run"
    assert of_table({"contradicted": 1, "not run": 40}) == "contradicted"
    for row in page.rows:
        if row.verdict == "reproduced":
            assert not re.search("contradicted|partly", row.evidence), row


def test_the_first_sentences_and_the_board_count_the_same_accuracies(page):
    [row] = [one for one in page.rows if one.claim == "Astroformer's printed accuracies"]
    told = claims.read().query("system == 'Astroformer' and metric == 'top1' and by == 'authors'")
    named = told[told["model"] != ""]  # as measured.ipynb counts them for the first sentences
    each = re.findall(rf"(\d+) (?:{'|'.join(verdicts.VERDICTS)})", row.evidence)
    assert sum(map(int, each)) == len(named) == 12


def test_the_board_is_html_with_words_icons_and_links(page):
    text = drawn.board(page).data
    assert text.count("<tr>") == len(page.rows) + 1
    assert set(drawn.ICONS) >= {row.verdict for row in page.rows}
    for row in page.rows:
        assert f"{drawn.ICONS[row.verdict]} {row.word}" in text
    assert set(re.findall(r'href="(\w+)\.html"', text)) == {row.page for row in page.rows} - {""}


def test_the_picture_is_carried_for_both_themes(page):
    text = drawn.embedded(page).data
    assert re.findall(r'<img class="([\w-]+)"', text) == ["only-light", "only-dark"]
    assert "image/png;base64," in text and "image/svg+xml;base64," in text
    for stack, one in page.leads.items():
        assert min(page.each[stack]) <= one.estimate <= max(page.each[stack])


def test_the_scale_of_the_evidence_is_that_of_the_records(page):
    whole = records.unique([record for record in records.read() if record["origin"] == "committed"])
    flop = 0.0
    for record in whole:
        recipe = record["recipe"]
        images = record["epochs"] * record["dataset"]["train"]
        if record.get("steps"):
            images = record["steps"] * recipe["batch_size"]
        flop += 6 * record["macs"] * images
    assert page.runs == len(whole) and page.flop == pytest.approx(flop)
    assert page.cheapest > page.flop, "no printed accuracy costs less than all that was run"


def test_readme_and_its_picture_are_current(page):
    stale = drawn.stale(page)
    assert not stale, f"run `python -m astroformer.figures.first_page`; it changes {stale}"


def test_an_old_board_and_an_old_picture_are_found_and_renewed(page, tmp_path):
    (tmp_path / "book/_static").mkdir(parents=True)
    text = f"# A title\n\n{drawn.BEGIN}\n| old |\n{drawn.END}\n\nThe rest.\n"
    (tmp_path / "README.md").write_text(text)
    assert drawn.stale(page, tmp_path) == [drawn.README, drawn.PICTURE]
    with style.plt.rc_context(style.STYLE):
        assert drawn.write(page, tmp_path) == [drawn.README, drawn.PICTURE]
    assert drawn.write(page, tmp_path) == []
    renewed = (tmp_path / "README.md").read_text()
    assert renewed.startswith("# A title") and renewed.endswith("The rest.\n")
    assert "| old |" not in renewed and renewed.count(drawn.BEGIN) == 1
    (tmp_path / "README.md").write_text("# A title\n")
    with pytest.raises(ValueError, match="once each"):
        drawn.stale(page, tmp_path)
