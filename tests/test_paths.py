"""Places: a user without a home or a name, or with a home that cannot be written; a cache that two
users share.

Root may write anywhere; in a user namespace of another number it may not.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from astroformer import paths
from astroformer.data.galaxies import load_galaxies

NAMELESS = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
HAVE_NAMESPACES = (
    shutil.which("unshare") is not None
    and subprocess.run([*NAMELESS, "true"], capture_output=True).returncode == 0
)
nameless = pytest.mark.skipif(
    not HAVE_NAMESPACES, reason="the system makes no user namespaces (unshare)"
)
NAMES = ("HOME", "XDG_CACHE_HOME", "ASTROFORMER_CACHE")
PLACES = """
import json, os
import astroformer
from astroformer import paths
import astropy.config
print(json.dumps([os.environ.get("HOME"), str(paths.home()), str(paths.cache())]))
"""


def environment(tmp_path, **given):
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    (tmp_path / "temporary").mkdir(exist_ok=True)
    own = {"ASTROFORMER_RUNS": tmp_path / "runs", "ASTROFORMER_LOCAL_LEDGER": tmp_path / "ledger"}
    return (
        kept
        | {name: str(value) for name, value in own.items()}
        | {
            "TMPDIR": str(tmp_path / "temporary"),
            **given,
        }
    )


def run(command, given, **how):
    done = subprocess.run(
        [*NAMELESS, sys.executable, "-W", "ignore", *command],
        env=given,
        capture_output=True,
        text=True,
        **how,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.fixture
def closed(tmp_path):
    """A folder that may be read and not written."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def places(tmp_path, **given):
    told = run(["-c", PLACES], environment(tmp_path, **given))
    home, known, cache = json.loads(told.stdout.splitlines()[-1])
    return home, known, cache, f"{tmp_path / 'temporary' / 'astroformer-12345'}"


@nameless
@pytest.mark.parametrize("given", [{}, {"HOME": ""}])
def test_a_user_without_a_home_has_a_private_one(tmp_path, given):
    home, known, cache, private = places(tmp_path, **given)
    assert home == known == private and cache == f"{private}/.cache/astroformer"
    assert os.stat(private).st_mode & 0o777 == 0o700


@nameless
def test_a_home_that_is_not_there_and_cannot_be_made_is_none(tmp_path, closed):
    home, known, cache, private = places(tmp_path, HOME=str(closed / "me"))
    assert home == known == private and cache == f"{private}/.cache/astroformer"
    (tmp_path / "open").mkdir()
    home, known, cache, _ = places(tmp_path, HOME=str(tmp_path / "open" / "me"))
    assert home == known == str(tmp_path / "open" / "me")
    assert cache == f"{home}/.cache/astroformer"


@nameless
def test_a_home_that_cannot_be_written_is_kept_and_caches_lie_elsewhere(tmp_path, closed):
    home, known, cache, private = places(tmp_path, HOME=str(closed))
    assert home == known == str(closed) and cache == f"{private}/.cache/astroformer"
    # unless there is one already, from which may be read
    closed.chmod(0o755)
    (closed / ".cache" / "astroformer").mkdir(parents=True)
    (closed / ".cache" / "astroformer").chmod(0o555)
    closed.chmod(0o555)
    assert places(tmp_path, HOME=str(closed))[2] == f"{closed}/.cache/astroformer"


@nameless
def test_a_cache_that_is_named_is_taken_wherever_it_is(tmp_path, closed):
    given = {"HOME": str(closed)}
    assert places(tmp_path, **given, XDG_CACHE_HOME="/x")[2] == "/x/astroformer"
    assert places(tmp_path, **given, ASTROFORMER_CACHE="/x")[2] == "/x"


@nameless
@pytest.mark.parametrize("home", [None, "closed", "closed/me"])
def test_a_run_needs_no_home(tmp_path, closed, home, tiny_folder):
    given = environment(tmp_path, **({} if home is None else {"HOME": str(tmp_path / home)}))
    words = ["train", "--dataset", "folder", "--data-dir", str(tiny_folder), "--image-size", "32"]
    few = ["--model", "logistic_8x8", "--set", "epochs=1", "--set", "batch_size=16"]
    done = run(["-m", "astroformer", *words, *few], given, cwd="/")
    assert "top1" in done.stdout and not list(closed.iterdir())


# Two users, one cache


def test_what_is_kept_may_be_read_by_whom_the_user_lets_read(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path))
    before = os.umask(0o022)
    try:
        load_galaxies(10, size=32, seed=1)
    finally:
        os.umask(before)
    files = list((paths.cache() / "galaxies").iterdir())
    assert len(files) == 2 and all(path.stat().st_mode & 0o777 == 0o644 for path in files)


GALAXIES = """
from astroformer.data.galaxies import load_galaxies
for seed in (1, 2):
    print(load_galaxies(10, size=32, seed=seed)[0].sum())
"""


@nameless
def test_a_cache_of_another_user_is_read_and_what_it_lacks_is_made(tmp_path, monkeypatch):
    cache = tmp_path / "shared"
    monkeypatch.setenv("ASTROFORMER_CACHE", str(cache))
    images, _ = load_galaxies(10, size=32, seed=1)
    before = sorted((cache / "galaxies").iterdir())
    (cache / "galaxies").chmod(0o555)
    done = run(["-c", GALAXIES], environment(tmp_path, ASTROFORMER_CACHE=str(cache)))
    (cache / "galaxies").chmod(0o755)
    first, second = map(int, done.stdout.split())
    assert first == images.sum() and sorted((cache / "galaxies").iterdir()) == before
    assert second == load_galaxies(10, size=32, seed=2)[0].sum()
    told = [line for line in done.stderr.splitlines() if "cannot be written to" in line]
    assert len(told) == 1 and "ASTROFORMER_CACHE names a folder of your own" in told[0]


def test_a_cache_without_a_folder_is_still_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ASTROFORMER_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="ASTROFORMER_CACHE"):
        load_galaxies(10, size=32, seed=1)


# make


@nameless
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    "home, taken", [(None, False), ("", False), ("closed", False), (".", True)]
)
def test_make_gives_pip_and_uv_a_home_that_can_be_written(tmp_path, closed, home, taken):
    given = {} if home is None else {"HOME": str(tmp_path / home) if home else ""}
    words = [
        "make",
        "--no-print-directory",
        "-C",
        str(paths.ROOT),
        "--eval",
        'at: ; @echo "$$HOME"',
    ]
    done = subprocess.run(
        [*NAMELESS, *words, "at"],
        env=environment(tmp_path, **given),
        capture_output=True,
        text=True,
    )
    expected = str(tmp_path) if taken else str(paths.ROOT / ".venv" / "home")
    assert done.stdout.strip() == expected, done.stderr
