"""The claims: every number of the documents, once, as printed, and principles in the documents'
words; and a file that is wrong is refused whole.
"""

import csv
import re

import pytest

from astroformer import cli, paths
from astroformer.ledger import claims

SEEDS = paths.ROOT.parent / "shared" / "seeds"
DOCUMENTS = {
    "Astroformer README": "astroformer_readme.md",
    "Astroformer poster": "astroformer_poster.md",
    "Astroformer methodology notes": "astroformer_methodology.md",
    "SpectFormer README": "spectformer_readme.md",
    "ViT-CIFAR README": "vit_cifar_readme.md",
}
documents = pytest.mark.skipif(
    not SEEDS.is_dir(), reason="the documents themselves are not beside this checkout"
)

GOOD = dict(
    system="Astroformer",
    model="astroformer_3",
    dataset="CIFAR-10",
    metric="top1",
    value="99.12",
    unit="%",
    by="authors",
    source="Astroformer README",
    table="Main Results",
    conditions="one run",
)


QUOTED = GOOD | dict(
    model="",
    dataset="",
    metric="comparison",
    value="one design is better than the other",
    unit="",
    conditions="accuracy of one less the other",
)


@pytest.fixture(scope="module")
def reported():
    return claims.numbers(claims.read())


@pytest.fixture(scope="module")
def principles():
    return claims.of_principle(claims.read())


def of(reported, source):
    return reported[reported["source"] == source]


def written(tmp_path, *rows, columns=claims.COLUMNS):
    path = tmp_path / "claims.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", restval="x")
        writer.writeheader()
        writer.writerows(
            {name: cell for name, cell in row.items() if name in columns} for row in rows
        )
    return path


# the committed file


def test_the_claims_hold_the_36_numbers_of_the_readme_as_printed(reported):
    readme = of(reported, "Astroformer README")
    assert len(readme) == 36 and readme.groupby(["dataset", "model"]).size().tolist() == [3] * 12
    assert readme.groupby("metric").size().to_dict() == {"top1": 12, "flops": 12, "params": 12}
    assert "105.9" in set(readme["value"]) and set(readme["by"]) == {"authors"}


def test_the_claims_hold_the_posters_margins_and_its_accuracy(reported):
    poster = of(reported, "Astroformer poster")
    margins = poster[poster["metric"] == "margin"]
    assert margins.set_index("dataset")["value"].to_dict() == {
        "Tiny ImageNet": "0.98",
        "CIFAR-100": "3.46",
        "Galaxy10 DECaLS": "4.62",
    }
    assert len(poster) == 4 and set(poster["model"]) == {""}


def test_the_claims_hold_spectformers_model_zoo_abstract_and_hierarchical_table(reported):
    zoo = of(reported, "SpectFormer README").query("table == 'Model Zoo'")
    assert len(zoo) == 16 and set(zoo["model"]) == {
        f"spectformer_{size}" for size in ("ti", "xs", "s", "b")
    }
    abstract = of(reported, "SpectFormer README").query("table == 'Abstract'")
    assert sorted(abstract["value"]) == ["2", "84.25", "85.7"]
    hierarchical = of(reported, "SpectFormer-H README")
    assert len(hierarchical) == 12 and set(hierarchical["model"]) == {
        f"spectformer_h_{size}" for size in "sbl"
    }


def test_the_claims_hold_spectformers_logs_with_last_and_best_epochs(reported):
    last, best = (of(reported, f"SpectFormer log, {when} epoch") for when in ("last", "best"))
    assert len(last) == 12 and set(last["metric"]) == {"top1", "top5", "params"} and len(best) == 6
    both = last.merge(best, on=["model", "metric"], suffixes=("_last", "_best")).query(
        "metric == 'top1'"
    )
    assert len(both) == 3 and (both["number_best"] >= both["number_last"]).all()


def test_the_claims_hold_vit_cifars_accuracies_times_and_sizes(reported):
    readme = of(reported, "ViT-CIFAR README")
    assert readme.groupby("metric").size().to_dict() == {"top1": 4, "seconds": 3, "params": 3}
    assert readme[readme["metric"] == "seconds"].set_index("dataset")["number"].to_dict() == {
        "CIFAR-10": 8062,
        "CIFAR-100": 8057,
        "SVHN": 12263,
    }
    bound = readme[readme["qualifier"] == "over"]
    assert bound["number"].tolist() == [90] and (readme["value"] == "6.3").sum() == 2


def test_what_others_found_is_told_apart_from_what_the_authors_report(reported):
    others = reported[reported["by"] == "others"]
    assert (
        len(others) == 5
        and not set(others["source"]) & set(DOCUMENTS)
        and (others["conditions"] != "").all()
    )


def test_every_network_of_the_documents_has_a_name_of_this_library_or_none(reported):
    known = (
        {f"astroformer_{i}" for i in range(6)}
        | {f"spectformer_{size}" for size in ("ti", "xs", "s", "b")}
        | {f"spectformer_h_{size}" for size in "sbl"}
        | {"vit_cifar", "vit_b", ""}
    )
    assert set(reported["model"]) <= known


def test_a_claim_of_principle_has_a_sentence_a_place_and_what_is_compared(reported, principles):
    assert len(principles) == 12 and len(reported) + 12 == len(claims.read())
    assert principles["conditions"].is_unique and principles["number"].isna().all()
    assert set(principles["source"]) <= set(DOCUMENTS) and set(principles["by"]) == {"authors"}
    assert reported["number"].notna().all() and set(principles["qualifier"]) == {""}
    assert principles["system"].value_counts().to_dict() == {"Astroformer": 11, "SpectFormer": 1}


@documents
def test_every_sentence_of_a_principle_stands_in_its_section(principles):
    for claim in principles.itertuples():
        lines = (SEEDS / DOCUMENTS[claim.source]).read_text().replace("**", "").splitlines()
        lines = [line.strip("# ") for line in lines]
        [heading] = [i for i, line in enumerate(lines) if line.startswith(claim.table)]
        [said] = [i for i, line in enumerate(lines) if claim.value in line]
        others = tuple(set(principles["table"]) - {claim.table})
        between = [line for line in lines[heading:said] if line.startswith(others)]
        assert heading < said and not between, claim.value


@documents
def test_every_claim_of_a_document_occurs_in_it_literally(reported):
    for source, name in DOCUMENTS.items():
        text = (SEEDS / name).read_text()
        for claim in of(reported, source).itertuples():
            assert re.search(rf"(?<![\d.]){re.escape(claim.value)}(?!\d|\.\d)", text), (
                source,
                claim.value,
            )


def table_numbers(text, width):
    """Heading and cells of each row with so many cells, of which the last is a number."""
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        cells = [cell.strip(" *") for cell in line.split("|")[1:-1]]
        if len(cells) == width and re.fullmatch(r"[\d.:]+", cells[-1]):
            yield heading, cells


@documents
def test_every_number_in_a_results_table_of_the_documents_is_a_claim(reported):
    datasets = {"Tiny Imagenet": "Tiny ImageNet", "Galaxy10 DECals": "Galaxy10 DECaLS"}
    found = {
        (datasets.get(heading, heading), name.lower().replace("-", "_"), metric, value)
        for heading, (name, *cells) in table_numbers(
            (SEEDS / DOCUMENTS["Astroformer README"]).read_text(), 4
        )
        for metric, value in zip(("top1", "flops", "params"), cells, strict=True)
    }
    readme = of(reported, "Astroformer README")
    assert found == set(
        zip(readme["dataset"], readme["model"], readme["metric"], readme["value"], strict=True)
    )

    short = {"t": "ti"}
    found = {
        (f"spectformer_{short.get(size, size)}", metric, value)
        for _, (name, *cells) in table_numbers(
            (SEEDS / DOCUMENTS["SpectFormer README"]).read_text(), 5
        )
        for size in [name.removeprefix("SpectFormer-").lower()]
        for metric, value in zip(("params", "flops", "top1", "top5"), cells, strict=True)
    }
    zoo = of(reported, "SpectFormer README").query("table == 'Model Zoo'")
    assert found == {
        (c.model, c.metric, c.value + c.unit.replace("%", "")) for c in zoo.itertuples()
    }

    found = {
        (name, metric, value)
        for _, (name, *cells) in table_numbers(
            (SEEDS / DOCUMENTS["ViT-CIFAR README"]).read_text(), 3
        )
        for metric, value in zip(("top1", "seconds"), cells, strict=True)
    }
    vit = of(reported, "ViT-CIFAR README").query("table == '2. Results' and dataset != ''")
    assert found == set(zip(vit["dataset"], vit["metric"], vit["value"], strict=True))


@documents
def test_the_methodology_notes_contain_no_result():
    text = (SEEDS / "astroformer_methodology.md").read_text()
    assert not re.search(r"\d+\.\d+|\d\s?%|\d\s?[MG]\b", text.replace("MobileNetV2", ""))


# reading


def test_a_good_row_is_read_with_its_value_as_text_and_as_a_number(tmp_path):
    row = claims.read(written(tmp_path, GOOD | {"value": "85.0"})).iloc[0]
    assert row["value"] == "85.0" and row["number"] == 85 and row["qualifier"] == ""


def test_a_comparison_is_read_without_a_number_and_one_sentence_may_ask_for_several(tmp_path):
    other = QUOTED | {"conditions": "stability of one less the other"}
    read = claims.read(written(tmp_path, GOOD, QUOTED, other))
    assert claims.numbers(read)["number"].tolist() == [99.12]
    assert claims.of_principle(read)["value"].tolist() == [QUOTED["value"]] * 2
    with pytest.raises(ValueError, match="lines 2 and 3 are the same claim"):
        claims.read(written(tmp_path, QUOTED, QUOTED))


def test_the_columns_may_stand_in_any_order(tmp_path):
    path = written(tmp_path, GOOD, columns=claims.COLUMNS[::-1])
    assert tuple(claims.read(path).columns[: len(claims.COLUMNS)]) == claims.COLUMNS


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"metric": "beauty"}, "line 3: metric 'beauty' is not one of top1"),
        ({"by": "nobody"}, "line 3: by 'nobody' is not one of authors, others"),
        ({"unit": "G"}, "line 3, column unit: top1 is given in '%', not in 'G'"),
        ({"value": "99,12"}, "line 3, column value: '99,12' is not a number"),
        ({"value": "nan"}, "line 3, column value: 'nan' is not a number"),
        ({"value": "-1"}, "line 3, column value"),
        ({"value": "1e3"}, "line 3, column value"),
        ({"value": "nearly 90"}, "line 3, column value: 'nearly 90' is not a number"),
        ({"value": "912"}, "line 3, column value: 912 is more than 100 %"),
        ({"value": ""}, "line 3, column value: empty; only model"),
        ({"source": ""}, "line 3, column source: empty"),
        (
            {"model": "astroformer_3 "},
            "line 3, column model: 'astroformer_3 ' begins or ends with a blank",
        ),
        ({"conditions": "one\nrun"}, "line 3, column conditions: a line break"),
        (QUOTED | {"unit": "%"}, "line 3, column unit: comparison is given in '', not in '%'"),
        (QUOTED | {"value": "over 90"}, "line 3, column value: 'over 90' is a number"),
        (QUOTED | {"conditions": ""}, "line 3, column conditions: empty; a comparison says what"),
        (
            {"metric": "seconds", "unit": "hh:mm:ss", "value": "2:75:00"},
            "line 3, column value: '2:75:00' is not a time",
        ),
    ],
)
def test_a_wrong_cell_is_named_with_its_line_and_column(tmp_path, change, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        claims.read(written(tmp_path, GOOD | {"model": "astroformer_4"}, GOOD | change))


def test_a_claim_made_twice_names_both_lines_and_another_condition_tells_them_apart(tmp_path):
    other = GOOD | {"model": "astroformer_4"}
    with pytest.raises(
        ValueError,
        match="lines 2 and 4 are the same claim: Astroformer, astroformer_3, CIFAR-10, top1",
    ):
        claims.read(written(tmp_path, GOOD, other, GOOD | {"value": "98.00"}))
    assert (
        len(claims.read(written(tmp_path, GOOD, other, GOOD | {"conditions": "best of three"})))
        == 3
    )


def test_missing_and_surplus_columns_are_named(tmp_path):
    columns = [name for name in claims.COLUMNS if name != "unit"] + ["colour"]
    with pytest.raises(ValueError, match="has the columns .*; missing: unit; surplus: colour"):
        claims.read(written(tmp_path, GOOD, columns=columns))
    with pytest.raises(ValueError, match="surplus: model"):
        claims.read(written(tmp_path, GOOD, columns=[*claims.COLUMNS, "model"]))


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("", "is empty"),
        (",".join(claims.COLUMNS) + "\na,b,c\n", "line 2: 3 cells where the header has 10"),
        (",".join(claims.COLUMNS) + "\n\n", "line 2: 0 cells"),
        (",".join(claims.COLUMNS) + '\n"a', "not a CSV file"),
        ("\xff", "not a CSV file"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, complaint):
    path = tmp_path / "claims.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=complaint):
        claims.read(path)


def test_a_missing_file_says_where_the_claims_belong(tmp_path):
    with pytest.raises(FileNotFoundError, match="part of the checkout"):
        claims.read(tmp_path / "none.csv")


# values


def test_times_and_qualified_numbers_are_parsed():
    assert (
        claims.parse("02:14:22", "hh:mm:ss") == 8062
        and claims.parse("100:00:01", "hh:mm:ss") == 360_001
    )
    assert (
        claims.parse("over 90", "%") == 90
        and claims.parse("about 56", "%") == 56
        and claims.parse("0.98") == 0.98
    )
    assert claims.qualifier("over 90") == "over" and claims.qualifier(
        "90.92"
    ) == "" == claims.qualifier("02:14:22")


def test_a_value_tells_how_many_decimals_were_printed():
    assert [claims.digits(value) for value in ("22", "4.0", "161.75", "over 90")] == [0, 1, 2, 0]


def test_a_count_prints_as_a_value_from_half_below_to_half_above():
    assert claims.prints_as(161_745_000, "161.75", "M") and claims.prints_as(
        161_754_999, "161.75", "M"
    )
    assert not claims.prints_as(161_744_999, "161.75", "M") and not claims.prints_as(
        161_755_000, "161.75", "M"
    )
    assert claims.prints_as(3_950_000_000, "4.0", "G") and claims.prints_as(
        3_994_182_144, "4.0", "G"
    )
    assert claims.prints_as(57_159_656, "57", "M") and claims.prints_as(57_159_656, "57159656", "")


def test_halves_are_rounded_up_as_on_paper_not_to_even_and_not_by_binary_fractions():
    assert claims.prints_as(0.125, "0.13", "") and not claims.prints_as(0.125, "0.12", "")
    # round(1.005, 2) is 1.0
    assert claims.prints_as(2_500_000, "3", "M") and claims.prints_as(1.005, "1.01", "")


def test_printed_zeros_count():
    assert claims.prints_as(85_020_000, "85.0", "M") and not claims.prints_as(
        85_020_000, "85.00", "M"
    )


def test_truncation_cuts_where_rounding_would_raise():
    assert claims.truncates_to(11_560_000_000, "11.5", "G") and not claims.prints_as(
        11_560_000_000, "11.5", "G"
    )
    assert claims.truncates_to(11_520_000_000, "11.5", "G") and claims.prints_as(
        11_520_000_000, "11.5", "G"
    )
    assert not claims.truncates_to(11_499_999_999, "11.5", "G")


def test_a_unit_or_count_that_cannot_be_printed_is_refused():
    with pytest.raises(ValueError, match="unit 'T' is not known; choose one of"):
        claims.prints_as(1, "1", "T")
    with pytest.raises(ValueError, match="finite"):
        claims.prints_as(float("nan"), "1", "M")
    with pytest.raises(ValueError, match="not a number"):
        claims.truncates_to(1, "many", "M")


# the command


def test_the_table_shows_one_system_with_units_and_fits_a_terminal(capsys, reported):
    assert cli.main(["claims", "--system", "ViT-CIFAR"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + (reported["system"] == "ViT-CIFAR").sum() and any(
        "90.92 %" in line for line in lines
    )
    assert cli.main(["claims"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 105


def test_an_unknown_system_is_answered_with_those_there_are(capsys):
    assert cli.main(["claims", "--system", "ResNet"]) == 2
    assert "choose one of Astroformer, SpectFormer, ViT-CIFAR" in capsys.readouterr().err
