"""The package as pip installs it from a wheel, outside a checkout: every verb but `reproduce` works
from an empty folder, without the packages that the book alone needs; what is written into the book
says that it needs a checkout.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from astroformer import cli, paths
from astroformer.cli import book, data, networks, recipes, studies, training
from astroformer.reproduce import address

SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
# Of the extra `book` of pyproject.toml, as they are imported.
OF_THE_BOOK = ("papermill", "nbformat", "psutil", "plotly", "myst_nb", "jupyter_book")
TINY = ["--train-images", "20", "--image-size", "32", "--set", "epochs=1", "--set", "batch_size=10"]
# A command for every verb; RUN stands for the weights that the first one leaves.
COMMANDS = {
    "train": [["train", *TINY]],
    "evaluate": [["evaluate", "RUN", "--image-size", "32", "--json"]],
    "models": [["models", "--json"]],
    "cost": [["cost", "astroformer_0", "--json"]],
    "audit": [["audit", "--decoys", "1", "--json"]],
    "equivariance": [["equivariance", "--image-size", "32", "--json"]],
    "data": [["data", "list", "--json"], ["data", "derive", "--list"]],
    "recipe": [["recipe", "diff", "readme", "paper", "--json"], ["recipe", "from-timm", "--amp"]],
    "study": [["study", "list", "--json"], ["study", "show", "few_images", "--json"]],
    "ledger": [["ledger", "--json"]],
    "claims": [["claims", "--json"]],
    "reproduce": [],
}
REFUSED = [
    ["reproduce"],
    ["ledger", "--keep", "abc", "name"],
    ["ledger", "--filters", "RUN", "name"],
    ["audit", "--write"],
    ["equivariance", "--keep", "name", "--checkpoint", "RUN"],
    ["study", "keep", "--all"],
]
# One process for all, since importing torch takes longer than most of them.
PROGRAM = """
import contextlib, glob, io, json, sys
missing, commands = json.loads(sys.stdin.read())
sys.modules |= dict.fromkeys(missing)  # an import of one raises
from astroformer import cli
answers = []
for words in commands:
    run = (glob.glob("runs/*/last.pt") or ["none"])[0]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main([run if word == "RUN" else word for word in words])
    answers.append((status, out.getvalue(), err.getvalue()))
print(json.dumps(answers))
"""


def every_verb():
    verbs = argparse.ArgumentParser().add_subparsers()
    for module in (networks, data, recipes, training, studies, book):
        for add in module.VERBS:
            add(verbs)
    return set(verbs.choices)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy: a build leaves files beside them."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copy(paths.ROOT / name, folder)
    passed_over = shutil.ignore_patterns("__pycache__")
    shutil.copytree(paths.PACKAGE, folder / "astroformer", ignore=passed_over)
    shutil.copytree(paths.BOOK, folder / "book", ignore=passed_over)
    (folder / "book" / "ledger" / "local").mkdir(exist_ok=True)
    (folder / "book" / "ledger" / "local" / "mine.jsonl").write_text("{}\n")
    return folder


@pytest.fixture(scope="module")
def wheel(sources):
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    built = subprocess.run(
        [*command, "--quiet", "--wheel-dir", "out"], cwd=sources, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    [found] = (sources / "out").glob("*.whl")
    return found


def fresh(folder):
    """A virtual environment that sees the packages of this one, less the library."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    purelib = next(folder.glob("lib/python*/site-packages"))
    (purelib / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A fresh virtual environment with the wheel."""
    folder = tmp_path_factory.mktemp("environment") / "v"
    python = fresh(folder)
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    done = subprocess.run([*pip, *install], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.fixture(scope="module")
def answers(environment, tmp_path_factory):
    """(exit status, output, complaints) by command, from an empty folder."""
    folder = tmp_path_factory.mktemp("empty")
    commands = [*(words for several in COMMANDS.values() for words in several), *REFUSED]
    own = ("ASTROFORMER_RUNS", "ASTROFORMER_LOCAL_LEDGER", "PYTHONPATH")
    done = subprocess.run(
        [environment / "python", "-W", "ignore", "-c", PROGRAM],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in own},
        input=json.dumps([OF_THE_BOOK, commands]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return folder, {tuple(words): answer for words, answer in zip(commands, found)}


def test_a_wheel_brings_what_verbs_read_and_nothing_of_this_machine(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    brought = {name.partition("book/")[2] for name in names if name.startswith("astroformer/book/")}
    tracked = {
        path.relative_to(paths.BOOK).as_posix()
        for pattern in ("claims.csv", "studies/*.yml", "ledger/**/*.json*", "ledger/**/*.npz")
        for path in paths.BOOK.glob(pattern)
    }
    assert brought == {name for name in tracked if not name.startswith("ledger/local/")}
    assert len(brought) > 20 and not any(name.endswith(".ipynb") for name in names)


def test_every_verb_is_tried():
    assert set(COMMANDS) == every_verb()


@pytest.mark.parametrize(
    "words", [words for several in COMMANDS.values() for words in several], ids=" ".join
)
def test_a_verb_works_without_a_checkout(answers, words):
    status, said, complaint = answers[1][tuple(words)]
    assert status == 0, complaint
    assert said.strip() and ("--json" not in words or json.loads(said))


def test_what_is_made_lies_in_the_current_folder_and_knows_of_no_repository(answers):
    folder, _ = answers
    assert sorted(path.name for path in folder.iterdir()) == ["ledger", "runs"]
    [record] = [json.loads(path.read_text()) for path in (folder / "ledger").glob("*.jsonl")]
    assert record["git"] == {"commit": None, "dirty": None}


def test_the_claims_and_the_ledger_are_the_books(answers, capsys):
    _, said = answers
    assert cli.main(["claims", "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)
    assert [one["value"] for one in json.loads(said[("claims", "--json")][1])] == [
        one["value"] for one in ours
    ]
    committed = [r for r in json.loads(said[("ledger", "--json")][1]) if r["origin"] == "committed"]
    lines = sum(len(path.read_text().splitlines()) for path in paths.LEDGER.glob("*.jsonl"))
    assert len(committed) == lines


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_the_book_alone_has_is_refused_in_one_line(answers, words):
    status, said, complaint = answers[1][tuple(words)]
    assert (status, said) == (2, "") and len(complaint.splitlines()) == 1
    assert f"astroformer: {words[0]}" in complaint and "needs a checkout" in complaint


def test_the_command_itself_is_installed(environment, tmp_path):
    done = subprocess.run(
        [environment / "astroformer", "claims", "--system", "ViT-CIFAR"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "vit_cifar" in done.stdout and not list(tmp_path.iterdir())


def test_in_the_folder_of_a_checkout_its_book_is_read(environment):
    told = subprocess.run(
        [environment / "python", "-c", "from astroformer import paths; print(paths.BOOK)"],
        cwd=paths.ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        | {"PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == str(paths.BOOK), told.stderr


@pytest.mark.slow
def test_the_first_cell_of_a_published_page_installs_the_library(sources, tmp_path):
    """From an archive of the sources, into an environment without it, in a folder with nothing
    but the page; the rest of the page then runs there.
    """
    build = "import setuptools.build_meta as build; print(build.build_sdist('out'))"
    built = subprocess.run(
        [sys.executable, "-c", build], cwd=sources, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    archive = sources / "out" / built.stdout.splitlines()[-1]
    page = (paths.BOOK / "claims.ipynb").read_text()
    package = f"astroformer[book] @ {archive.as_uri()}"
    (tmp_path / "page.ipynb").write_text(address.with_cell(page, package))
    python = fresh(tmp_path / "v")
    own = ("ASTROFORMER_RUNS", "ASTROFORMER_LOCAL_LEDGER", "PYTHONPATH", "JUPYTER_PATH")
    variables = {name: value for name, value in os.environ.items() if name not in own}
    variables |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # 0: without isolation
    variables |= {"JUPYTER_DATA_DIR": str(tmp_path / "jupyter"), "JUPYTER_PLATFORM_DIRS": "0"}
    ask = "import importlib.util as util; print(util.find_spec('astroformer'))"
    asked = dict(cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert subprocess.run([python, "-c", ask], **asked).stdout.strip() == "None"
    words = ["-m", "papermill", "page.ipynb", "out.ipynb", "-k", "python3"]
    done = subprocess.run([python, *words], **asked)
    assert done.returncode == 0, done.stderr[-3000:]
    assert str(tmp_path / "v") in subprocess.run([python, "-c", ask], **asked).stdout
    assert "contradicted" in (tmp_path / "out.ipynb").read_text()
