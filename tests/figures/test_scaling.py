"""Scaling curves: which points stand where, and that the page's figure needs nothing from
another host.
"""

import base64
import gzip
import math
import re
from importlib import metadata

import numpy as np
import pytest

from astroformer import paths
from astroformer.counting.cost import model_cost
from astroformer.figures import interactive
from astroformer.figures import scaling as drawing
from astroformer.ledger import claims, records
from astroformer.ledger.claims import README, README_DATASETS
from astroformer.reproduce import stage
from astroformer.verdicts import scaling


@pytest.fixture(scope="module")
def reported():
    return claims.read()


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """Writes records into a ledger of this test's own; gives the frame of all."""
    monkeypatch.setattr(paths, "LEDGER", tmp_path / "committed")
    monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(tmp_path / "local"))

    def write(*changes, committed=True):
        for number, change in enumerate(changes):
            folder = paths.LEDGER if committed else paths.local_ledger()
            records.append(run(number, **change), folder / "here.jsonl")
        return records.frame()

    return write


def run(number, **changes):
    """A whole run of astroformer_3 on CIFAR-10 at 32 pixels, as training writes it; `changes`
    spoil it.
    """
    dataset = {
        "name": "CIFAR-10",
        "title": "CIFAR-10",
        "kind": "real",
        "sha256": "s",
        "train": 50_000,
        "test": 10_000,
        "evaluated_on": "test",
    } | changes.pop("dataset", {})
    return (
        dict.fromkeys(records.FIELDS)
        | dict(
            run=f"run{number}",
            status="completed",
            model="astroformer_3",
            stack="CCCT",
            options={},
            params=148_000_000,
            macs=600_000_000,
            image_size=32,
            dataset=dataset,
            fraction=1.0,
            recipe={"name": "readme"},
            seed=number,
            epochs=300,
            metrics={"top1": 95.5},
            device="a card",
            started=f"2026-01-01T00:00:0{number}+00:00",
        )
        | changes
    )


def kinds(points):
    return points["kind"].tolist()


@pytest.mark.parametrize("dataset", README_DATASETS)
def test_every_data_set_of_the_readme_has_its_three_sizes_at_the_printed_and_the_counted_place(
    dataset, reported, ledger
):
    points = scaling.points(dataset, reported, ledger())
    assert kinds(points) == ["reported"] * 3 and points["model"].tolist() == [
        "astroformer_3",
        "astroformer_4",
        "astroformer_5",
    ]
    for point in points.itertuples():
        claim = reported[
            (reported["source"] == README)
            & (reported["dataset"] == dataset)
            & (reported["model"] == point.model)
        ]
        printed = dict(zip(claim["metric"], claim["value"].astype(float)))
        assert (point.accuracy, point.params_reported, point.flops_reported) == (
            printed["top1"],
            printed["params"],
            printed["flops"],
        )
    cost = model_cost(
        "astroformer_3", image_size=224, num_classes=README_DATASETS[dataset]["classes"]
    )
    assert (points["params_counted"][0], points["macs_counted"][0]) == (
        cost["params"] / 1e6,
        cost["macs"] / 1e9,
    )


def test_measured_points_stand_at_the_counts_of_their_record_and_name_it(reported, ledger):
    ledger({})
    points = scaling.points(
        "CIFAR-10", reported, ledger({"run": "mine", "model": "astroformer_pico"}, committed=False)
    )
    measured = points[points["kind"] == "measured"]
    assert sorted(zip(measured["run"], measured["record"])) == [
        ("mine", "local"),
        ("run0", "committed"),
    ]
    assert set(zip(measured["params_counted"], measured["macs_counted"], measured["accuracy"])) == {
        (148.0, 0.6, 95.5)
    }
    text = " ".join(measured.set_index("run")["hover"]["run0"])
    assert "run run0, committed record" in text and "95.50 %" in text and "a card" in text


@pytest.mark.parametrize(
    "spoil",
    [
        dict(dataset={"title": "CIFAR-10 (JPEG re-encode)", "kind": "re-encoded"}),
        dict(dataset={"kind": "re-encoded"}),
        dict(dataset={"kind": "synthetic"}),
        dict(fraction=0.2),
        dict(status="interrupted"),
        dict(dataset={"evaluated_on": "validation"}),
        dict(dataset={"title": "CIFAR-100"}),
    ],
    ids=str,
)
def test_only_a_whole_run_on_the_real_data_set_has_a_point(spoil, reported, ledger):
    assert kinds(scaling.points("CIFAR-10", reported, ledger({}, spoil))).count("measured") == 1


def test_a_run_repeated_on_one_device_has_one_point(reported, ledger):
    again = dict(run="run0", metrics={"top1": 96.5}, started="2026-01-02T00:00:00+00:00")
    points = scaling.points("CIFAR-10", reported, ledger({}, again))
    assert points[points["kind"] == "measured"]["accuracy"].tolist() == [96.5]


def test_a_data_set_without_points_and_claims_that_lack_a_number_are_named(reported, ledger):
    with pytest.raises(
        ValueError, match="no scaling points for the data set 'MNIST'; choose one of CIFAR-10, "
    ):
        scaling.points("MNIST", reported, ledger())
    without = reported[~((reported["model"] == "astroformer_4") & (reported["metric"] == "params"))]
    with pytest.raises(ValueError, match="astroformer_4 on CIFAR-10 must be one accuracy"):
        scaling.points("CIFAR-10", without, ledger())
    with pytest.raises(ValueError, match="nothing of Astroformer README on CIFAR-10"):
        scaling.points("CIFAR-10", reported[reported["dataset"] != "CIFAR-10"], ledger())


def test_shifts_are_the_reported_over_the_counted(reported, ledger):
    points = scaling.points("CIFAR-10", reported, ledger({}))
    shifts = scaling.shifts(points)
    # a measured point has nothing reported to compare with
    assert shifts.index.tolist() == points["model"].tolist()[:3]
    assert shifts["parameters (%)"]["astroformer_3"] == pytest.approx(
        100 * (161.75 / 148.886986 - 1)
    )


def test_chance_is_the_spread_of_two_draws_of_test_images():
    draws = np.random.default_rng(0).binomial(10_000, [[0.9912], [0.9893]], size=(2, 200_000)) / 100
    inside = np.abs(draws[0] - draws[1] - 0.19) <= scaling.chance(99.12, 98.93, 10_000)
    assert inside.mean() == pytest.approx(0.95, abs=0.01)


def test_a_gain_is_the_larger_networks_and_galaxies_have_no_split_to_judge_it_by(reported, ledger):
    cifar = scaling.points("CIFAR-10", reported, ledger())
    pairs = scaling.comparisons({"CIFAR-10": cifar}).set_index(["from", "to"])
    assert pairs["gain"]["astroformer_3", "astroformer_4"] == -0.19 and not scaling.rises(cifar)
    # 0.19 points lie within the draw of 10,000 images, 5.7 do not
    assert pairs["beyond"].tolist() == ["no", "yes", "yes"]
    galaxies = scaling.points("Galaxy10 DECaLS", reported, ledger())
    assert set(scaling.comparisons({"Galaxy10 DECaLS": galaxies})["beyond"]) == {"unknown"}
    assert scaling.rises(scaling.points("Tiny ImageNet", reported, ledger()))


def test_all_pairs_are_tested_at_once(reported, ledger):
    """A gain that the test images hardly explain when it is the only one tested is one of nine."""
    every = {name: scaling.points(name, reported, ledger()) for name in README_DATASETS}
    flat = {
        name: of.assign(accuracy=[90.0 + 1e-3 * i for i in range(3)]) for name, of in every.items()
    }
    gain = 1.05 * scaling.chance(90.0, 90.0, 10_000)
    flat["CIFAR-10"] = flat["CIFAR-10"].assign(accuracy=[90.0, 90.0, 90.0 + gain])
    pairs = scaling.comparisons(flat)
    assert len(pairs) == 12 and pairs["beyond"].tolist().count("unknown") == 3
    assert "yes" not in pairs["beyond"].tolist()
    flat["CIFAR-10"] = flat["CIFAR-10"].assign(accuracy=[90.0, 90.0, 90.0 + 2 * gain])
    assert scaling.comparisons(flat)["beyond"].tolist()[:3] == ["no", "yes", "yes"]
    with pytest.raises(ValueError, match="no scaling points for the data set 'MNIST'"):
        scaling.comparisons({"MNIST": flat["CIFAR-10"]})


def test_the_picture_and_the_plot_have_every_point_inside_their_axes(reported, ledger):
    small = {"model": "astroformer_pico", "params": 1_200_000, "metrics": {"top1": 71.0}}
    points = scaling.points("CIFAR-10", reported, ledger({}, small))
    figure = drawing.plot(points)
    for axes, (of_reported, of_counted, _), x_axis in zip(
        drawing.picture(points).axes, drawing.AXES, ("x", "x2")
    ):
        (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        expected = {
            (x, row["accuracy"])
            for row in points.to_dict("records")
            for x in (row[of_reported], row[of_counted])
            if not math.isnan(x)
        }
        assert len(expected) == 3 * 2 + 2 and all(
            low < x < high and bottom < y < top for x, y in expected
        )
        shown = {
            (x, y)
            for trace in figure.data
            if trace.xaxis == x_axis and "markers" in trace.mode
            for x, y in zip(trace.x, trace.y)
            if x is not None
        }
        assert shown == expected
    hover = {text for trace in figure.data for text in trace.hovertext or ()}
    assert any("run run1, committed record" in text for text in hover) and any(
        README in text for text in hover
    )


def test_the_legend_says_when_nothing_is_measured(reported, ledger):
    def names(frame):
        traces = drawing.plot(scaling.points("CIFAR-10", reported, frame)).data
        return {trace.name for trace in traces if trace.showlegend is not False}

    assert f"{drawing.MEASURED}: none yet" in names(ledger()) and drawing.MEASURED in names(
        ledger({})
    )


@pytest.mark.parametrize("low, high", [(140, 700), (28, 125), (0.9, 800)])
def test_a_logarithmic_axis_has_a_few_round_ticks_inside(low, high):
    ticks = drawing.ticks(low, high)
    assert 2 <= len(ticks) <= 8 and all(low <= tick <= high for tick in ticks)


def test_the_pages_figure_is_a_plot_and_a_picture_and_asks_no_other_host(reported, ledger):
    points = scaling.points("CIFAR-10", reported, ledger())
    bundle = drawing.accuracy_against_size("plot-a", points)._repr_mimebundle_()
    assert (
        base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
        and "161.75" in bundle["text/plain"]
    )
    page = bundle["text/html"]
    assert (
        not re.search(r"""(src|href)=["']?(https?:)?//""", page) and page.count("<script src") == 0
    )
    # the script hides the picture, so it must already be there
    assert page.index("<img") < page.index("<script")
    # or no two builds would be equal
    assert bundle == drawing.accuracy_against_size("plot-a", points)._repr_mimebundle_()


def test_the_script_is_published_where_pages_look_for_it(tmp_path):
    # html_extra_path puts what lies in _extra beside the pages' folder
    book = tmp_path / "_extra" / "book"
    book.mkdir(parents=True)
    stage._copy_plotly(tmp_path / "_extra" / "vendor" / "plotly")
    packaged = metadata.distribution("plotly").locate_file(stage.PLOTLY_SCRIPT)
    published = (book / interactive.SCRIPT).resolve().read_text()
    packed = re.search(r'atob\("([^"]+)"\)', published)
    assert packed and gzip.decompress(base64.b64decode(packed[1])) == packaged.read_bytes()
    assert len(published) < 2_000_000
