"""Every page works by hand: under papermill from the root and from elsewhere, and under nbval."""

import os
import subprocess
import sys

import pytest

from astroformer.reproduce import Layout, read_book

LAYOUT = Layout()
PAGES = [page for page in read_book(LAYOUT) if page.executable]
MINUTES = 60             # in seconds

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Records and checkpoints go to a temporary folder, shared: a page that trains does so once for all tests here."""
    folder = tmp_path_factory.mktemp("records")
    own = {"ASTROFORMER_LOCAL_LEDGER": str(folder / "ledger"), "ASTROFORMER_RUNS": str(folder / "runs")}
    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
    return os.environ | own | quiet


def run_in(folder, environment, *command):
    result = subprocess.run([sys.executable, "-m", *map(str, command)], cwd=folder, env=environment,
                            capture_output=True, text=True, timeout=8 * MINUTES)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]


@pages
def test_a_page_runs_under_papermill_from_the_root(page, environment, tmp_path):
    run_in(LAYOUT.root, environment, "papermill", page.source.relative_to(LAYOUT.root), tmp_path / "out.ipynb", "--no-progress-bar")


@pages
def test_a_page_runs_under_papermill_from_elsewhere(page, environment, tmp_path):
    run_in(tmp_path, environment, "papermill", page.source, "out.ipynb", "--no-progress-bar")


@pages
def test_a_page_runs_under_nbval_with_its_checked_outputs(page, environment):
    run_in(LAYOUT.root, environment, "pytest", "--nbval-lax", "--nbval-current-env", "-n", "0", "-q", "-p", "no:cacheprovider", page.source)
