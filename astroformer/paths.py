"""Every place the project reads or writes, one comment a path. Nothing else in the library builds a
path from `__file__`.

Pages run in their own folder under Jupyter and in the caller's under papermill, so relative paths
mean two things; the functions here mean one.
"""

import contextlib
import os
import stat
import tempfile
from pathlib import Path


def _root() -> Path:
    """The checkout: where `book/` and `pyproject.toml` lie. Outside a checkout (a plain wheel),
    the current folder.
    """
    checkout = Path(__file__).resolve().parent.parent
    return (
        checkout
        if (checkout / "book").is_dir() and (checkout / "pyproject.toml").is_file()
        else Path.cwd()
    )


ROOT = _root()
BOOK = ROOT / "book"  # pages, bibliography, claims and ledger: the sources of the book
CLAIMS = BOOK / "claims.csv"  # what the papers report, one row a number
LEDGER = BOOK / "ledger"  # committed records, append-only, one file per machine and job
AUDIT = LEDGER / "audit.json"  # what `astroformer audit --write` found
BUILD = ROOT / "_build"  # everything `make book` writes; deleted without loss


def local_ledger() -> Path:
    """Records made on this machine and not (yet) committed; git ignores the folder."""
    return Path(os.environ.get("ASTROFORMER_LOCAL_LEDGER", LEDGER / "local"))


def cache() -> Path:
    """Generated galaxies and memory maps of data sets: can be made again, so it lies with the
    user's other caches.
    """
    base = os.environ.get("XDG_CACHE_HOME") or home() / ".cache"
    return Path(os.environ.get("ASTROFORMER_CACHE", Path(base) / "astroformer"))


def runs() -> Path:
    """Checkpoints, one folder per run hash; git ignores the folder."""
    return Path(os.environ.get("ASTROFORMER_RUNS", ROOT / "runs"))


def data() -> Path:
    """Data sets that the user has downloaded (ImageFolders are looked up here by name)."""
    return Path(os.environ.get("ASTROFORMER_DATA", ROOT / "data"))


def home() -> Path:
    """The user's home. A container may run under a number that has no name and without HOME:
    then a folder of that number among the temporary files, which nobody else may enter.
    """
    try:
        return Path.home()
    except RuntimeError:
        return _private_folder()


def set_home() -> None:
    """Sets HOME where the system knows none: astropy cannot be imported without one. Jupyter,
    matplotlib and every process that is started from here then find the same folder.
    """
    try:
        Path.home()
    except RuntimeError:
        # without a temporary folder either, whatever needs a place says so itself
        with contextlib.suppress(OSError):
            os.environ["HOME"] = str(_private_folder())


def _private_folder() -> Path:
    """A folder of this user among the temporary files, the same in every process unless its name
    is taken.
    """
    folder = Path(tempfile.gettempdir()) / f"astroformer-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if mine and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
