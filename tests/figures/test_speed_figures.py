"""Speed and memory, told and drawn: what is said is what the records hold, what they lack is named
with a command that exists, and the form of the page computes what the library does.
"""

import json
import random
import re
import shlex
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from astroformer import cli
from astroformer.counting import closed_forms
from astroformer.counting.budget import FLOP_PER_MAC
from astroformer.counting.cards import CARDS, card_of
from astroformer.counting.memory import GB
from astroformer.figures import calculator
from astroformer.figures import speed as drawn
from astroformer.ledger import claims
from astroformer.reproduce.screenshots import find_browser
from astroformer.sizes import IMAGE_SIZE, MODELS
from astroformer.speed import answers, bench, kept, memory_lines
from astroformer.speed.contestants import PLAIN, Contestant
from astroformer.studies import hours
from astroformer.training import memory_by_card

CPU, GPU = "AMD EPYC, 2 threads", "NVIDIA H200"
SENTENCES = ("how_fast", "limit", "growth", "with_data", "preparing", "memory", "largest")
PICTURES = ("beside_timm", "limits_drawn", "growth_drawn", "memory_drawn")
TABLES = (
    "beside_timm_table",
    "limits_table",
    "kernels_table",
    "with_data_table",
    "preparing_table",
    "memory_table",
    "cards_table",
)


def steps(device, model, size, batch, **seconds):
    """Rows as `bench` makes them, of contestants (label=seconds of a step in each round)."""
    first = np.asarray(next(iter(seconds.values())), dtype=float)
    found = []
    for label, own in seconds.items():
        whose, *way = label.split("_")
        precision = "bfloat16" if "bfloat16" in way else "float32"
        one = Contestant(
            label=f"{whose}, {' '.join(way)}", whose=whose, execution=PLAIN, precision=precision
        )
        macs = closed_forms.released_counts(model, image_size=size, num_classes=100).macs
        own = np.asarray(own, dtype=float)
        row = bench.row_of(one, model, size, batch, "step") | bench.timing(own, first, batch)
        limit = {"floor": own.min() / 3, "floor_arithmetic": own.min() / 6, "of_product": 0.2}
        more = {"device": device, "started": "2026", "macs": macs, "kernels": [["aten::mm", 0.5]]}
        found.append(row | limit | more)
    return found


def frame_of(*groups):
    return pd.DataFrame([row for group in groups for row in group])


ROUNDS = 1 + 0.01 * np.arange(-3, 4)
SLOW = steps(
    CPU,
    "astroformer_pico",
    64,
    16,
    timm_as_released=2 * ROUNDS,
    timm_fused=1.0 * ROUNDS,
    ours_as_released=2 * ROUNDS,
    ours_fused=1.25 * ROUNDS,
    ours_bfloat16=0.1 * ROUNDS,
)
FAST = steps(
    CPU,
    "astroformer_0",
    64,
    16,
    timm_as_released=2 * ROUNDS,
    timm_fused=2 * ROUNDS,
    ours_fused=1 * ROUNDS,
)
EVEN = steps(
    CPU,
    "astroformer_1",
    64,
    16,
    timm_as_released=2 * ROUNDS,
    ours_fused=np.roll(2.01 * ROUNDS, 2),
)
ALONE = steps(CPU, "vit_cifar", 32, 16, ours_as_released=2 * ROUNDS, ours_fused=1 * ROUNDS)


def test_ours_stands_beside_timms_fastest_of_equal_precision():
    [one] = answers.beside_timm(frame_of(SLOW))
    assert one["timm"]["contestant"] == "timm, fused" and one["ours"]["contestant"] == "ours, fused"
    assert one["ratio"] == pytest.approx(1 / 1.25) and not one["tie"]
    assert one["released"]["contestant"] == "timm, as released"


def test_a_slower_network_is_named_and_a_faster_or_equal_one_is_not():
    told = drawn.how_fast(frame_of(SLOW, FAST, EVEN))
    assert "is not always as fast" in told and "slower in 1 (astroformer_pico" in told
    assert "faster in 1" in told and "as fast in 1" in told and "astroformer_0" not in told
    assert "0.80 to 2.00 times" in told
    assert "is never slower" in drawn.how_fast(frame_of(FAST, EVEN))


def test_a_network_that_timm_has_not_is_compared_with_its_own_released_setting():
    [one] = answers.beside_timm(frame_of(ALONE))
    assert one["timm"] is None and one["ours"]["times_as_fast"] == pytest.approx(2)
    assert "no network that timm has too" in drawn.how_fast(frame_of(ALONE))
    figure = drawn.beside_timm(frame_of(ALONE))
    assert figure is not None and not [
        line for line in figure.axes[0].lines if line.get_marker() == "s"
    ]


def test_each_mark_stands_at_the_median_of_its_rounds():
    figure = drawn.beside_timm(frame_of(SLOW, FAST))
    assert figure is not None
    marks = {
        marker: [
            line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == marker
        ]
        for marker in "so"
    }
    assert marks["s"] == pytest.approx([2, 1]) and marks["o"] == pytest.approx([1.6, 2])


def test_bars_are_the_parts_of_the_time_that_the_floor_explains():
    frame = frame_of(SLOW, FAST)
    figure, table = drawn.limits_drawn(frame), answers.limits(frame)
    assert figure is not None
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    expected = [*(100 / table["over_floor"]), *(100 * table["floor_arithmetic"] / table["seconds"])]
    assert widths == pytest.approx(expected)
    low, high = f"{table['over_floor'].min():.1f}", f"{table['over_floor'].max():.1f}"
    assert low in drawn.limit(frame) and high in drawn.limit(frame)


def test_a_kernels_name_is_told_without_what_differs_from_build_to_build():
    assert drawn.short("## Call CompiledFxGraph fihhxt6rqhrasr55kehf4iw ##") == "CompiledFxGraph"
    assert drawn.short("aten::mm") == "aten::mm"
    long = drawn.short("void cutlass::Kernel2<" + "x" * 200 + ">")
    assert long.startswith("cutlass::Kernel2") and len(long) == drawn.LETTERS


@pytest.mark.parametrize("along", answers.GROWTH)
def test_a_line_of_growth_changes_one_thing_alone(along):
    both = [
        steps(CPU, model, size, batch, ours_as_released=np.full(3, size**2 * batch / 1e4))
        for model, size, batch in (
            ("astroformer_pico", 32, 8),
            ("astroformer_pico", 64, 8),
            ("astroformer_pico", 64, 16),
            ("vit_cifar", 32, 8),
        )
    ]
    beside = [
        {"what": "processes", "status": "measured", "device": CPU, "model": "astroformer_pico"}
        | {"image_size": 64, "batch_size": 16, "processes": number, "threads": threads}
        | {"contestant": f"{number} of {threads}", "times_as_fast": number * threads / 4}
        | {"images_per_second": 100.0 * number, "started": "2026"}
        for number, threads in ((1, 4), (1, 1), (2, 1))
    ]
    frame = frame_of(*both, beside)
    table = answers.growth(frame, along)
    lines = table.groupby("label")["x"].apply(list).to_dict()
    assert (
        lines
        == {
            "pixels": {"astroformer_pico, 8 images": [32, 64]},
            "batch": {"astroformer_pico, 64 px": [8, 16]},
            "processes": {"astroformer_pico, 64 px, 16 images, 1 thread each": [1, 2]},
        }[along]
    )
    figure = drawn.growth_drawn(frame)
    assert figure is not None and len(figure.axes) == 3
    axes = figure.axes[list(answers.GROWTH).index(along)]
    low, high = axes.get_ylim()
    for line in axes.lines:
        assert low < min(line.get_ydata()) and max(line.get_ydata()) < high
    assert len(axes.get_yticks()) > 1


def epoch_rows():
    places = {"host": 1.2, "device": 1.0}
    return [
        {"what": "epoch", "status": "measured", "device": CPU, "model": "vit_cifar"}
        | {"image_size": 32, "batch_size": 64, "contestant": f"ours, augmentation on the {place}"}
        | {"rounds": 7, "images_per_second": 90.0, "over_steps_alone": over, "started": "2026"}
        | {"over_low": over - 0.1, "over_high": over + 0.1}
        for place, over in places.items()
    ]


def test_an_epoch_tells_both_places_of_augmentation():
    told = drawn.with_data(frame_of(epoch_rows()))
    assert "1.20 times if the host" in told and "1.00 times if the device" in told


COMMITTED = kept.frame()
KINDS = sorted(set(COMMITTED["what"])) if len(COMMITTED) else []
FRAMES = {
    "nothing": pd.DataFrame(),
    "committed": COMMITTED,
    "one of timm's alone": frame_of(SLOW[:1]),
    "steps": frame_of(SLOW, FAST, EVEN, ALONE),
    "an epoch": frame_of(epoch_rows()),
    "two devices": frame_of(
        SLOW,
        FAST,
        steps(GPU, "astroformer_0", 64, 256, timm_as_released=ROUNDS, ours_graph=0.4 * ROUNDS),
        epoch_rows(),
        [row | {"device": GPU} for row in epoch_rows()],
    ),
    **{kind: COMMITTED[COMMITTED["what"] == kind].reset_index(drop=True) for kind in KINDS},
    **{f"without {kind}": COMMITTED[COMMITTED["what"] != kind] for kind in KINDS},
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_each_part_of_the_page_is_complete_whatever_is_kept(frame, tmp_path):
    for name in SENTENCES:
        told = getattr(drawn, name)(frame)
        assert told and not re.search(r"\b(nan|None|inf)\b", told), told
    for name in PICTURES:
        figure = getattr(drawn, name)(frame)
        if figure is not None:
            figure.savefig(tmp_path / "figure.png", dpi=40)
    for name in TABLES:
        table = getattr(drawn, name)(frame)
        assert table.shape[1] <= 6 and not table.isna().any(axis=None)
        assert not table.isin(["nan", "None"]).any(axis=None)
    priced = hours.of_claims(claims.read(), frame, [])
    assert drawn.claims_table(priced).shape == (len(priced), 6)
    assert "hours" in drawn.claims(priced)
    json.loads(json.dumps(calculator.known(frame), allow_nan=False))


def test_what_is_not_measured_is_named_with_a_command_that_exists():
    nothing = pd.DataFrame()
    told = " ".join(getattr(drawn, name)(nothing) for name in SENTENCES)
    told += drawn.claims(hours.of_claims(claims.read(), nothing, []))
    commands = set(re.findall(r"`(astroformer [^`]+)`", told))
    assert commands == set(answers.COMMANDS.values())
    for command in commands:
        options = cli.parser().parse_args(shlex.split(command)[1:])
        assert options.keep == "NAME"
    assert "not measured" in told.lower()


def test_a_gpu_that_is_measured_is_not_asked_for():
    gpu = steps(GPU, "vit_cifar", 32, 128, ours_as_released_bfloat16=ROUNDS)
    gpu[0]["contestant"] = "ours, as released"
    assert "on a GPU" in drawn.how_fast(frame_of(SLOW))
    assert "on a GPU" not in drawn.how_fast(frame_of(SLOW, gpu))


# --- memory ---


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize(
    "name, sizes", [("astroformer_pico", (64, 32, 128)), ("vit_cifar", (32, 64))]
)
def test_the_line_is_what_is_predicted_of_any_number_of_images_and_size(name, sizes, checkpointed):
    line = memory_lines.line(name, IMAGE_SIZE[name], checkpointed=checkpointed)
    row = line | {"image_size": IMAGE_SIZE[name]}
    for size in sizes:
        for images in (1, 48, 700):
            told = memory_by_card.predicted(name, size, images, checkpointed=checkpointed).total
            assert memory_lines.at(row, images, size) == pytest.approx(told, rel=0.04)


def test_kept_lines_are_those_of_the_networks_as_they_are():
    known = answers.of(COMMITTED, memory_lines.WHAT)
    assert set(MODELS) <= set(known["model"])
    for name in ("astroformer_pico", "vit_cifar"):
        own = known[known["model"] == name]
        assert len(own) == 2
        for row in own.to_dict("records"):
            checkpointed = row["contestant"] != "plain"
            line = memory_lines.line(name, int(row["image_size"]), checkpointed=checkpointed)
            assert {key: row[key] for key in line} == pytest.approx(line)


# --- hours ---


def test_hours_are_images_over_a_speed_measured_of_that_network_and_size_alone():
    gpu = steps(GPU, "vit_cifar", 32, 128, ours_as_released=128 / 20_000 * ROUNDS)
    slower = steps(CPU, "spectformer_ti", 224, 128, ours_as_released=ROUNDS)
    other = steps(GPU, "astroformer_3", 64, 128, ours_as_released=ROUNDS)
    rows = hours.of_claims(claims.read(), frame_of(gpu, slower, other), [])
    known = rows[rows["hours"].notna()]
    assert set(known["model"]) == {"vit_cifar"} and set(known["device"]) == {GPU}
    assert (known["hours"] * 3600 * 20_000).to_numpy() == pytest.approx(known["images"].to_numpy())
    card = card_of(GPU)
    assert card and (known["kwh"] / known["hours"]).to_numpy() == pytest.approx(card.watts / 1000)
    told = drawn.claims_table(rows)
    assert (told["GPU-hours"] == "not measured").sum() == len(rows) - len(known)


def test_each_accuracy_that_authors_report_has_its_training_in_the_table():
    reported = claims.read()
    own = reported[
        reported["metric"].isin(hours.ACCURACIES)
        & (reported["by"] == "authors")
        & (reported["model"] != "")
    ]
    rows = hours.of_claims(reported, pd.DataFrame(), [])
    asked = set(zip(own["model"], own["dataset"]))
    assert set(zip(rows["model"], rows["dataset"])) == asked and len(rows) == len(asked)


# --- cards and the form ---


def test_no_device_reaches_more_than_its_card_is_said_to_do():
    measured = answers.of(COMMITTED, "roofline")
    for row in measured.to_dict("records"):
        card = card_of(row["device"])
        if card:
            assert 0.4 < row["product"]["bfloat16"] / (card.tflops * 1e12) <= 1
    assert len({card.name for card in CARDS}) == len(CARDS)
    devices = [device for card in CARDS for device in card.devices]
    assert len(set(devices)) == len(devices) and card_of("NVIDIA H200 NVL") is None


NODE = shutil.which("node")


def in_node(script):
    assert NODE is not None
    result = subprocess.run([NODE, "-"], input=script, capture_output=True, text=True, timeout=60)
    assert not result.returncode, result.stderr
    return json.loads(result.stdout)


@pytest.mark.skipif(NODE is None, reason="node is not installed (Debian: apt-get install nodejs)")
def test_the_form_computes_what_the_library_does():
    known, draw = calculator.known(COMMITTED), random.Random(0)
    asked = [
        {
            "network": draw.choice(list(MODELS)),
            "pixels": draw.choice(calculator.SIZES),
            "images": draw.randint(1, 10**6),
            "epochs": draw.randint(1, 300),
            "tflops": draw.uniform(10, 1000),
            "watts": draw.uniform(50, 700),
            "share": draw.choice([0, draw.uniform(1, 60)]),
            "batch": draw.randint(1, 512),
            "checkpointing": False,
        }
        for _ in range(60)
    ]
    found = in_node(
        f"{calculator.NEED}\nconst known = {json.dumps(known)}, asked = {json.dumps(asked)};\n"
        "console.log(JSON.stringify(asked.map((one) => need(known, one))));"
    )
    lines = {
        row["model"]: row
        for row in answers.of(COMMITTED, memory_lines.WHAT).to_dict("records")
        if row["contestant"] == "plain"
    }
    for one, told in zip(asked, found, strict=True):
        macs = closed_forms.released_counts(
            one["network"], image_size=one["pixels"], num_classes=calculator.CLASSES
        ).macs
        operations = FLOP_PER_MAC * macs * one["images"] * one["epochs"]
        assert told["operations"] == pytest.approx(operations)
        held = memory_lines.at(lines[one["network"]], one["batch"], one["pixels"])
        assert told["memory"] == pytest.approx(held / GB)
        if not one["share"]:
            assert told["hours"] is None and told["kwh"] is None
            continue
        seconds = operations / (one["tflops"] * 1e12 * one["share"] / 100)
        assert told["hours"] == pytest.approx(seconds / 3600)
        assert told["kwh"] == pytest.approx(seconds / 3600 * one["watts"] / 1000)


@pytest.mark.skipif(NODE is None, reason="node is not installed (Debian: apt-get install nodejs)")
def test_the_form_gives_back_the_speed_that_was_measured():
    """The share of a measured network on its own card makes the hours of the measured speed."""
    speed = 20_000
    gpu = steps(GPU, "vit_cifar", 32, 128, ours_as_released_bfloat16=128 / speed * np.ones(3))
    known = calculator.known(frame_of(gpu))
    [share] = known["networks"]["vit_cifar"]["shares"]
    card = card_of(GPU)
    assert card is not None
    asked = {"network": "vit_cifar", "pixels": 32, "images": 50_000, "epochs": 200}
    asked |= {"tflops": card.tflops, "watts": card.watts, "share": 100 * share["share"]}
    asked |= {"batch": 128, "checkpointing": False}
    told = in_node(
        f"{calculator.NEED}\nconsole.log(JSON.stringify(need({json.dumps(known)}, "
        f"{json.dumps(asked)})));"
    )
    # the record counts the multiply-adds of 100 classes, the form of 10
    assert told["hours"] == pytest.approx(50_000 * 200 / speed / 3600, rel=1e-3)


def test_the_form_asks_no_host_and_every_field_has_its_label():
    page = calculator.calculator(COMMITTED).html()
    assert not re.search(r"https?:|src=|import |fetch\(", page)
    fields = re.findall(r"<(?:input|select) name", page)
    assert len(fields) == len(re.findall(r"<label[ >].*?<(?:input|select) name", page)) == 11


@pytest.mark.browser
def test_the_form_answers_in_a_browser_from_a_file(tmp_path):
    browser = find_browser()
    if browser is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    gpu = steps(GPU, "vit_cifar", 32, 128, ours_as_released_bfloat16=128 / 20_000 * np.ones(3))
    lines = [
        {"what": memory_lines.WHAT, "model": "vit_cifar", "contestant": "plain"}
        | {"image_size": 32, "least": 1e8, "beside": 1e8, "each": 5e6, "cards": []}
    ]
    form = calculator.calculator(frame_of(gpu, lines)).html()
    ask = (
        "<script>const set = (name, value) => { const one = calculator.elements[name];"
        "one.value = value; one.dispatchEvent(new Event('input', {bubbles: true})); };"
        "set('images', 360000); set('epochs', 200); set('batch', 1000); ACT</script>"
    )

    def told(act):
        page = tmp_path / "form.html"
        page.write_text(f"<!doctype html><meta charset=utf-8>{form}{ask.replace('ACT', act)}")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
        seen = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        names = ("hours", "kwh", "memory", "share", "card")
        return {
            name: re.search(rf'id="calculator-{name}">([^<]*)<', seen)[1]  # pyrefly: ignore
            for name in names
        }

    found = told(f"set('card', {[card.name for card in CARDS].index('H200 SXM')});")
    assert found["hours"] == "1 h" and found["kwh"].startswith("0.70")
    assert found["memory"].startswith("5.1 GB") and found["memory"].endswith(": fits 141 GB")
    assert "measured for vit_cifar" in found["share"] and "data sheet" in found["card"]
    found = told("set('network', 'astroformer_5');")
    assert "not known" in found["hours"] and found["memory"] == "not predicted"
    assert "not measured for astroformer_5" in found["share"]
    found = told("set('tflops', 100); set('room', 5);")
    assert "yours" in found["card"] and found["memory"].endswith(": does not fit 5 GB")
