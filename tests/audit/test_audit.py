"""The search finds what was hidden in it, counts chance honestly, and its committed report is
that of the present library.
"""

import json

import numpy as np
import pandas as pd
import pytest

from astroformer import paths
from astroformer.audit import audit, chance, tables
from astroformer.audit.candidates import AXES, Block, Release, Space, changes_in_words, counted
from astroformer.audit.search import LEVELS, Numbers, Target, half_steps, search
from astroformer.cli import main
from astroformer.counting import closed_forms
from astroformer.ledger import claims
from astroformer.models.astroformer import VARIANTS

SMALL = Space(
    tuple(
        (
            AXES
            | {
                "widths": AXES["widths"][1:2],
                "depths": AXES["depths"][:1],
                "kernel": (3,),
                "image_size": (64, 224),
            }
        ).items()
    )
)


def target_of(model, dataset="CIFAR-10", classes=10, size=224, **options):
    """A row that prints the counts of a configuration that we know."""
    cost = closed_forms.coatnet(**VARIANTS[model], image_size=size, num_classes=classes, **options)
    return Target(
        model,
        dataset,
        f"{cost.params / 1e6:.2f}",
        f"{cost.macs / 1e9:.2f}",
        Release(model, 10, (224,)),
    )


def test_a_candidate_is_the_release_where_nothing_is_changed():
    release = Release("astroformer_0", 10, (224,))
    block = Block(Space(), release.widths, 224)
    space = block.space
    outer = {"stem": "even", "head_hidden": True, "num_classes": 10}
    option = next(i for i, changes in enumerate(space.option_changes()) if changes == 0)
    depths = space.depths.index(release.depths)
    configuration = block.configuration(outer, option, depths)
    assert changes_in_words(configuration, release) == []
    assert counted(configuration) == closed_forms.coatnet(
        **VARIANTS["astroformer_0"], image_size=224, num_classes=10
    )
    assert (
        space.outer_changes(release, release.widths, 224, outer)
        == 0
        == space.depth_changes(release.depths)[depths]
    )


def test_no_candidate_stands_twice_in_the_space():
    keys = [tuple(option.items()) for option in Space().options]
    assert len(set(keys)) == len(keys) and len(set(Space().depths)) == len(Space().depths)
    conv = [option for option in Space().options if option["stack"] == "CCCC"]
    # attention's options change nothing there
    assert {option["rel_bias"] for option in conv} == {"table"}


def test_the_space_holds_what_it_promises():
    space = Space()
    assert len(space) > 1_000_000
    assert {option["stack"] for option in space.options} == set(AXES["stack"]) and len(
        AXES["stack"]
    ) == 16
    for name in VARIANTS:
        if name != "astroformer_pico":
            release = Release(name, 10, (224,))
            assert release.widths in space["widths"] and release.depths in space.depths, name


def test_changes_are_counted_by_option_stage_and_block():
    space = Space()
    changes = dict(
        zip([tuple(option.values()) for option in space.options], space.option_changes())
    )
    first = [
        AXES[axis][0]
        for axis in ("expand_output", "stride_mode", "kernel", "se", "expand_first", "rel_bias")
    ]
    assert changes[("CCTT", *first)] == 1 and changes[("CTTT", *first)] == 2
    assert changes[("CCCT", *first[:3], False, *first[4:])] == 1
    off = dict(zip(space.depths, space.depth_changes((2, 6, 14, 2))))
    assert (
        off[2, 6, 14, 2],
        off[2, 6, 13, 2],
        off[1, 6, 15, 2],
        off[2, 12, 28, 2],
        off[2, 12, 28, 1],
    ) == (0, 1, 2, 1, 2)
    steps = dict(zip(space.depths, audit.steps_from(space, (2, 6, 14, 2))))
    assert steps[2, 6, 14, 2] == 27 + 9 + 3 + 1 and steps[2, 12, 28, 2] == -1


@pytest.mark.parametrize(
    "printed, count, expected",
    [
        # the last is cut off
        ("161.75", 161_754_999, True),
        ("161.75", 161_745_000, True),
        ("161.75", 161_759_999, True),
        ("161.75", 161_744_999, False),
        ("161.75", 161_760_000, False),
    ],
)
def test_a_count_prints_digits_rounded_or_cut_off(printed, count, expected):
    value, half = half_steps(printed, 1e6)
    assert (abs(count // half - value) <= 1) == expected
    assert expected == (
        claims.prints_as(count, printed, "M") or claims.truncates_to(count, printed, "M")
    )


def test_a_hidden_configuration_is_found_with_its_changes():
    hidden = target_of("astroformer_0", stack="CCTT", head_hidden=False)
    _, found = search(SMALL, [hidden], decoys=40)
    pairs = found.hits("params")[lambda hits: hits["under"] > 0].sort_values("changes")
    assert pairs.iloc[0]["changes"] == 2
    assert audit._words(SMALL, pairs.iloc[0], hidden) == [
        "stack C-C-T-T",
        "no hidden layer in the head",
    ]
    cost = closed_forms.coatnet(
        **VARIANTS["astroformer_0"], image_size=224, num_classes=10, stack="CCTT", head_hidden=False
    )
    assert pairs.iloc[0]["params"] == cost.params
    assert found.by_changes["pair"][0, 0, 2] >= 1


def test_the_search_counts_what_a_plain_loop_counts():
    """Every candidate of a small space, one by one, by the closed forms: matches of parameters,
    of both, and of near FLOPs.
    """
    space = Space(
        tuple(
            (
                dict(SMALL.axes)
                | {
                    "stack": ("CCCT", "CCTT"),
                    "stride_mode": ("dw",),
                    "depth_steps": (0,),
                    "num_classes": (10, 100),
                }
            ).items()
        )
    )
    target = target_of("astroformer_0", stack="CCTT")
    _, found = search(space, [target], decoys=1)
    expected = {kind: np.zeros(LEVELS, dtype=int) for kind in ("params", "flops", "pair")}
    seen = 0
    for block in space.blocks():
        for outer in space.outer:
            for option in range(len(space.options)):
                for depths in range(len(space.depths)):
                    configuration = block.configuration(outer, option, depths)
                    cost, changes = (
                        counted(configuration),
                        len(changes_in_words(configuration, target.release)),
                    )
                    params = audit.how_printed(cost.params, target.params, "M") != "not at all"
                    flops = any(
                        audit.how_printed(count(cost), target.flops, "G") != "not at all"
                        for count in closed_forms.CONVENTIONS.values()
                    )
                    expected["params"][min(changes, LEVELS - 1)] += params
                    expected["pair"][min(changes, LEVELS - 1)] += params and flops
                    expected["flops"][min(changes, LEVELS - 1)] += flops and changes <= 2
                    seen += 1
    assert seen == len(space)
    for kind, table in expected.items():
        assert found.by_changes[kind][0, 0].tolist() == table.tolist(), kind
    assert expected["pair"].sum() > 0


def table(*rows):
    """Targets from (model, data set, params, flops) as printed."""
    return [Target(*row, Release(row[0], 10, (224,))) for row in rows]


REPORTED = table(
    ("astroformer_4", "CIFAR-10", "271.54", "60.54"),
    ("astroformer_4", "CIFAR-100", "271.68", "60.54"),
    ("astroformer_4", "Galaxy10 DECaLS", "271.54", "60.54"),
    ("astroformer_5", "Tiny ImageNet", "595.55", "89.88"),
    ("astroformer_5", "Galaxy10 DECaLS", "681.25", "105.9"),
)


def test_a_made_up_table_moves_all_counts_of_a_model_by_one_amount_and_each_model_on_its_own():
    numbers = Numbers.of(REPORTED, 50, seed=1)
    assert numbers.rows == [
        ("astroformer_4", "271.54", "60.54"),
        ("astroformer_4", "271.68", "60.54"),
        ("astroformer_5", "595.55", "89.88"),
        ("astroformer_5", "681.25", "105.9"),
    ]
    params = numbers.params / 200  # millions
    # 90 classes of 1,537 numbers
    assert params[1] - params[0] == pytest.approx(0.14)
    assert params[3] - params[2] == pytest.approx(681.25 - 595.55)
    moved = params - params[:, :1]
    assert (moved[0, 1:] != moved[2, 1:]).any()
    assert len(set(moved[0])) == 51, "no made-up table comes twice"
    assert (numbers.flops[0] == numbers.flops[1]).all()
    flops = numbers.flops * numbers.flops_half[:, None] / 1e9
    # one is printed to a tenth, the other to a hundredth
    assert np.abs((flops[3] - flops[3, 0]) - (flops[2] - flops[2, 0])).max() <= 0.051


@pytest.mark.parametrize("reach", audit.RANGES)
def test_decoys_lie_near_their_number_and_never_print_as_it_does(reach):
    numbers = Numbers.of(REPORTED, 20, seed=1, reach=reach)
    for values in (numbers.params, numbers.flops):
        assert (np.abs(values / values[:, :1] - 1) <= reach).all() and (values % 2 == 0).all()
        assert (np.abs(values[:, 1:] - values[:, :1]) > 2).all()
    assert (np.abs(numbers.params / numbers.params[:, :1] - 1) > reach / 2).any()


def test_a_count_is_given_every_number_that_it_prints():
    numbers = Numbers.of(REPORTED, 100, seed=2)
    counts = np.r_[np.arange(260_000_000, 285_000_000, 4_999), 1, 10**12]
    found = set(zip(*(part.tolist() for part in numbers.printed_by(counts))))
    expected = {
        (i, int(row), int(column))
        for i, count in enumerate(counts)
        for row, column in np.argwhere(np.abs(count // 5000 - numbers.params) <= 1)
    }
    assert found == expected and len(expected) > 200
    # two numbers of one half step
    assert len({i for i, *_ in expected}) < len(expected)


def test_more_decoys_than_fit_are_refused_in_one_line():
    with pytest.raises(ValueError, match="made-up numbers fit within 5% of 22.77 M"):
        Numbers.of([target_of("astroformer_0")], 500, seed=0)


def test_a_share_counts_the_reported_table_and_is_never_zero():
    assert chance.share(0, 200) == 1 / 201 and chance.share(200, 200) == 1
    assert chance.in_words(chance.share(0, 200), 200) == "< 0.5 %"
    assert chance.in_words(chance.share(1, 200), 200) == "1.0 %"
    by_changes = np.zeros((5, LEVELS), dtype=int)
    by_changes[:, 3] = 7  # every table has matches after three changes
    by_changes[[0, 2], 2] = 1  # the reported one and a made-up one after two
    one = chance.single(by_changes, [])
    assert one["fewest_changes"] == 2 and one["as_easily"] == 2 / 5 and one["matches"] == 8
    assert chance.single(np.zeros((5, LEVELS)), [])["as_easily"] is None


def test_as_many_numbers_pass_by_luck_as_made_up_tables_have():
    """Independent numbers without any hidden configuration: few of a table pass, and the reported
    table is one of them.
    """
    draw = np.random.default_rng(0)
    numbers = [draw.binomial(1, [0.01, 0.02, 0.1, 0.5, 0.9], (101, LEVELS)) for _ in range(40)]
    found = chance.luck(numbers)
    assert found["numbers"] == 40 and 0 < found["expected"] <= 40 * chance.EASY
    for one in numbers[:10]:
        one[:, :2], one[0, 0] = 0, 1
    better = chance.luck(numbers)
    assert better["passing"] >= 10 and better["as_many"] == chance.share(0, 100)


def test_numbers_that_two_rows_print_are_counted_once():
    found = search(SMALL, REPORTED[:3], decoys=20, seed=0)[1]
    counted = audit.singles(found, REPORTED[:3])
    assert {kind: one["numbers"] for kind, one in counted.items()} == {
        "params": 2,
        "flops": 1,
        "pair": 2,
    }


def test_a_made_up_table_is_as_easy_as_chance():
    """A target drawn like a decoy is no better than the decoys: its easiness is spread over 0 to
    1, not near 0.
    """
    draw, easy = np.random.default_rng(5), []
    for i in range(6):
        near = target_of("astroformer_0", stack="CCTT")
        made_up = Target(
            near.model,
            near.dataset,
            f"{float(near.params) * (1 + draw.uniform(-0.05, 0.05)):.2f}",
            near.flops,
            near.release,
        )
        _, found = search(SMALL, [made_up], decoys=30, seed=i)
        easy.append(chance.single(found.by_changes["params"][0], [])["as_easily"])
    assert np.median([1.0 if one is None else one for one in easy]) > audit.EASY


def test_two_class_counts_of_one_network_are_no_evidence_beside_made_up_tables_like_them():
    """Rows that one network prints with few and with many classes, at a place where nothing is
    hidden: what prints the one prints the other, in made-up tables too.
    """
    few, many = (
        closed_forms.coatnet(
            **VARIANTS["astroformer_0"], image_size=224, num_classes=classes
        ).params
        for classes in (10, 100)
    )
    away = 300_000
    rows = [
        Target(
            "astroformer_0", name, f"{(count + away) / 1e6:.2f}", "3.00",
            Release("astroformer_0", classes, (224,)),
        )
        for name, count, classes in (("CIFAR-10", few, 10), ("CIFAR-100", many, 100))
    ]  # fmt: skip
    found = {
        reach: search(SMALL, rows, decoys=60, seed=3, reach=reach)[1] for reach in audit.RANGES
    }
    shown = audit.joint(SMALL, found, rows, 60)["shown"]
    assert shown and {one["distinct_numbers"] for one in shown} == {2}
    assert min(one["as_easily"] for one in shown) > audit.EASY


def test_the_same_seed_gives_the_same_report_and_one_set_of_changes_explains_both_rows(monkeypatch):
    few, many = (
        target_of("astroformer_0", stack="CCTT"),
        target_of("astroformer_0", classes=100, stack="CCTT"),
    )
    rows = [
        few,
        Target(
            many.model, "CIFAR-100", many.params, many.flops, Release("astroformer_0", 100, (224,))
        ),
    ]
    runs = [search(SMALL, rows, decoys=40, seed=3)[1] for _ in range(2)]
    assert all(
        (runs[0].by_changes[kind] == runs[1].by_changes[kind]).all() for kind in runs[0].by_changes
    )
    found = {
        reach: search(SMALL, rows, decoys=40, seed=3, reach=reach)[1] for reach in audit.RANGES
    }
    together = audit.joint(SMALL, found, rows, 40)
    best = together["shown"][0]
    assert best["changes"] == ["stack C-C-T-T"] and best["rows"] == [
        "astroformer_0, CIFAR-10",
        "astroformer_0, CIFAR-100",
    ]
    assert len(best["by_range"]) == 3 and max(best["by_range"]) <= audit.EASY
    assert best["as_easily"] == best["by_range"][1] <= best["as_easily_with_more_changes"]
    assert {flops["how"] for flops in best["flops"]} == {"rounded"}


def test_the_width_of_a_classifier_follows_from_two_class_counts():
    few, many = target_of("astroformer_0"), target_of("astroformer_0", classes=100)
    rows = [
        few,
        Target(
            many.model, "CIFAR-100", many.params, many.flops, Release("astroformer_0", 100, (224,))
        ),
    ]
    (width,) = audit.classifier_widths(rows)
    assert width["agrees"] and width["width_least"] <= 768 <= width["width_most"]
    off = Target(few.model, few.dataset, f"{float(few.params) - 1:.2f}", few.flops, few.release)
    assert not audit.classifier_widths([off, rows[1]])[0]["agrees"]


def test_the_committed_report_is_that_of_this_library_and_these_claims():
    report, rows = audit.read(), audit.targets(claims.read())
    assert len(rows) == 12 == len(report["rows"])
    assert [(row["model"], row["dataset"], *row["printed"].values()) for row in report["rows"]] == [
        (row.model, row.dataset, row.params, row.flops) for row in rows
    ]
    assert report["space"]["candidates"] == len(Space()) and report["space"]["conventions"] == list(
        audit.SEARCHED
    )
    for row, target in zip(report["rows"], rows):
        size = target.release.image_sizes[0]
        assert row["released"] == closed_forms.released(
            target.model, image_size=size, num_classes=target.release.num_classes
        )
        for match in row["params"]["nearest"]:
            assert audit.how_printed(match["params"], target.params, "M") == match["params_printed"]
    assert report["other_systems"] == json.loads(json.dumps(audit.other_systems(claims.read())))
    assert report["classifier"] == audit.classifier_widths(rows)


def test_a_report_of_another_search_space_is_refused(tmp_path, monkeypatch):
    report = json.loads(paths.AUDIT.read_text())
    report["space"]["sha256"] = "0"
    monkeypatch.setattr(paths, "AUDIT", tmp_path / "audit.json")
    with pytest.raises(FileNotFoundError, match="astroformer audit --write"):
        audit.read()
    audit.write(report)
    with pytest.raises(ValueError, match="another search space"):
        audit.read()


def test_tables_of_the_report_have_a_line_for_each_number():
    report = audit.read()
    assert len(tables.match_table(report)) == 36 and len(tables.other_table(report)) == len(
        report["other_systems"]
    )
    assert all(
        line in tables.in_words(report) for line in ("made-up", "astroformer_5, Galaxy10 DECaLS")
    )
    assert "verdict" not in tables.match_table(report), "a single match bears no label"
    decoys = report["space"]["decoys"]
    assert tables.joint_table(report)["within 5 %"].tolist() == [
        chance.in_words(one["as_easily"], decoys) for one in report["joint"]["shown"]
    ]
    assert len(tables.luck_table(report)) == 3 * len(audit.RANGES)


def test_the_committed_report_keeps_the_two_suspects_and_drops_what_is_one_network_twice():
    report = audit.read()
    shown = report["joint"]["shown"]
    kept = [one for one in shown if one["as_easily"] <= report["easy"]]
    assert {tuple(one["changes"]) for one in tables.coincident_sets(report)} == {
        ("stack C-C-T-T", "no hidden layer in the head"),
        ("1000 classes", "32 pixels"),
    }
    assert len(shown) == 8 and len(kept) == 4 == tables.facts(report)["surviving_all"]
    assert all(one["distinct_numbers"] == 2 and one["as_easily"] > 0.1 for one in shown[4:])
    assert report["space"]["ranges"] == list(audit.RANGES)


def test_the_sampled_plane_lies_within_the_space():
    params, macs = tables.plane(SMALL, per_block=50)
    assert (
        len(params) == len(macs) == 50 * SMALL.number_of_blocks
        and (params > 0).all()
        and (macs > 0).all()
    )


def test_claims_without_a_results_table_are_refused_in_one_line():
    with pytest.raises(ValueError, match="no row of the Astroformer README"):
        audit.audit(pd.DataFrame(columns=[*claims.COLUMNS, "number"]))


def test_the_verb_asks_for_at_least_one_made_up_number(capsys):
    assert main(["audit", "--decoys", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
