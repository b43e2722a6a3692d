"""A verb that builds no network starts without torch, and the package itself costs next to nothing
beside timm. Properties, not timings: which modules are loaded.
"""

import json
import subprocess
import sys

import pytest
import timm

from astroformer import cli
from astroformer.counting import closed_forms, kept_costs
from astroformer.counting.baseline_forms import counts_of
from astroformer.counting.cost import model_cost, network_cost
from astroformer.models import default_image_size
from astroformer.sizes import BASELINES, IMAGE_SIZE, NAMES

# What takes a second or more to load, beside pandas, which draws the tables.
HEAVY = {"torch", "torchvision", "timm", "sklearn", "matplotlib", "astropy", "scipy", "h5py"}
TABLES = {"pandas", "numpy"}
PROGRAM = """
import json, sys
from astroformer import cli
try:
    status = cli.main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print(json.dumps([status, sorted(sys.modules)]), file=sys.stderr)
"""


def answered(*words: str) -> tuple[int, str, set[str]]:
    """The exit status, what was printed, and the modules loaded at the end, in a new process."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *words]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    status, modules = json.loads(result.stderr.splitlines()[-1])
    return status, result.stdout + result.stderr, {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    "words, said",
    [
        (["models"], "astroformer_pico"),
        (["models", "--classes", "7", "--json"], "astroformer_pico"),
        (["cost", "astroformer_5"], "By kind of layer"),
        (["cost", "vit_cifar", "--image-size", "32", "--json"], "macs_by_kind"),
        (["recipe"], "methodology"),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(given),
)
def test_a_verb_that_builds_no_network_loads_tables_at_most(words, said):
    status, printed, modules = answered(*words)
    assert status == 0 and said in printed
    assert not HEAVY & modules


@pytest.mark.parametrize(
    "verb", ["models", "cost", "train", "evaluate", "predict", "study", "data stats"]
)
def test_help_loads_nothing(verb):
    status, printed, modules = answered(*verb.split(), "--help")
    assert status == 0 and "usage:" in printed
    assert not (HEAVY | TABLES) & modules


@pytest.mark.parametrize(
    "words, said",
    [
        (["models", "--classes", "0"], "at least 1 class"),
        (["cost", "astroformer_6"], "choose one of astroformer_"),
        (["cost", "vit_cifar", "--stack", "CCCT"], "no stages to choose"),
        (["cost", "astroformer_0", "--peak-tflops", "100"], "--bandwidth-gb"),
        (["train", "--model", "astroformer_6"], "choose one of astroformer_"),
        (["train", "--recipe", "nonesuch"], "choose one of smoke"),
        (["train", "--set", "epoch=3"], "epoch"),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(given),
)
def test_what_is_mistyped_is_answered_before_anything_is_loaded(words, said):
    status, printed, modules = answered(*words)
    assert status == 2 and said in printed
    assert not (HEAVY | TABLES) & modules


LOADED = "import sys; before = set(sys.modules); {}; print(*(set(sys.modules) - before))"


def loaded(statement: str) -> set[str]:
    command = [sys.executable, "-W", "ignore", "-c", LOADED.format(statement)]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_the_package_loads_no_other_package_and_beside_timm_only_its_networks():
    alone = {name.partition(".")[0] for name in loaded("import astroformer")}
    assert alone <= {"astroformer", *sys.stdlib_module_names}
    more = loaded("import astroformer, timm") - loaded("import timm")
    # what timm itself would load with its first network, and nothing of other packages
    others = {name.partition(".")[0] for name in more} - {*sys.stdlib_module_names}
    assert others <= {"astroformer", "timm", "torch"}
    ours = {name.split(".")[1] for name in more if name.startswith("astroformer.")}
    assert ours <= {"models", "paths", "sizes", "version"}


# --- the numbers that these verbs print are those of the networks ---

USUAL = dict(
    image_size=None,
    num_classes=10,
    stack=None,
    dtype_bytes=4,
    peak_tflops=None,
    bandwidth_gb=None,
)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_takes_images_of_the_size_that_is_told_of_it(name):
    assert (
        IMAGE_SIZE[name] == default_image_size(name) == timm.get_pretrained_cfg(name).input_size[1]
    )


@pytest.mark.parametrize("classes", [7])
def test_the_table_of_networks_has_the_counts_of_the_networks(capsys, classes):
    assert cli.main(["models", "--classes", f"{classes}", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in rows] == list(NAMES)
    for row in rows:
        found = {key: row[key] for key in ("params", "macs")}
        size = row["image_size"]
        assert found == model_cost(row["model"], image_size=size, num_classes=classes)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_has_a_closed_form_at_any_size_and_in_any_convention(name):
    for size in (32, 64):
        found = counts_of(name, image_size=size, num_classes=7)
        traced = network_cost(name, image_size=size, num_classes=7)
        assert (found.params, found.macs) == (traced["params"], traced["macs"])
        for convention, giga in traced["conventions"].items():
            assert closed_forms.CONVENTIONS[convention](found) == round(giga * 1e9), convention


def test_what_is_kept_of_every_network_is_what_is_counted_now():
    assert list(kept_costs.read()) == list(NAMES), (
        "the sources have changed: run `python -m astroformer.counting.kept_costs`"
    )
    for name in NAMES:
        assert kept_costs.read()[name] == json.loads(json.dumps(kept_costs.counted(name))), name


@pytest.fixture
def kept_now(monkeypatch, tmp_path):
    """A copy of the package's sources, and costs that are kept of them; gives where they lie."""
    for source in kept_costs.sources():
        place = tmp_path / source.relative_to(kept_costs.paths.PACKAGE)
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(source.read_bytes())
    kept = {"of": kept_costs.fingerprint(), "costs": {"astroformer_0": {"params": 1}}}
    (tmp_path / "costs.json").write_text(json.dumps(kept))
    monkeypatch.setattr(kept_costs.paths, "PACKAGE", tmp_path)
    monkeypatch.setattr(kept_costs, "PLACE", tmp_path / "costs.json")
    kept_costs.read.cache_clear()
    yield tmp_path
    kept_costs.read.cache_clear()


@pytest.mark.parametrize("changed", ["sizes.py", "models/astroformer.py", "counting/trace.py"])
def test_an_edited_network_never_has_the_numbers_of_the_one_before(kept_now, capsys, changed):
    assert kept_costs.kept("astroformer_0", **USUAL) == {"params": 1}
    file = kept_now / changed
    file.write_text(file.read_text() + '\n\n# a comment changes nothing\n"""nor does text"""\n')
    kept_costs.read.cache_clear()
    assert kept_costs.kept("astroformer_0", **USUAL) == {"params": 1}
    file.write_text(file.read_text() + "EDITED = 1\n")
    kept_costs.read.cache_clear()
    assert kept_costs.kept("astroformer_0", **USUAL) is None
    # and the verb counts instead
    assert cli.main(["cost", "astroformer_0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == kept_costs.counted("astroformer_0")


def test_the_sources_of_a_count_are_the_modules_that_the_networks_load():
    names = {path.relative_to(kept_costs.paths.PACKAGE).as_posix() for path in kept_costs.sources()}
    loads = {name.replace(".", "/") for name in loaded("import astroformer.models")}
    ours = {f"{name.partition('/')[2]}.py" for name in loads if name.startswith("astroformer/m")}
    assert {name for name in ours if name.count("/")} <= names
    assert {"sizes.py", "models/__init__.py", "counting/trace.py"} <= names
    assert "models/twins.py" not in names  # which no network imports


@pytest.mark.parametrize(
    "change",
    [
        dict(image_size=64),
        dict(num_classes=100),
        dict(stack="CCTT"),
        dict(dtype_bytes=2),
        dict(peak_tflops=1.0, bandwidth_gb=1.0),
    ],
    ids=str,
)
def test_another_question_is_not_answered_by_what_is_kept(kept_now, change):
    assert kept_costs.kept("astroformer_0", **USUAL) is not None
    assert kept_costs.kept("astroformer_0", **USUAL | {"image_size": 224}) is not None
    assert kept_costs.kept("astroformer_0", **USUAL | change) is None
