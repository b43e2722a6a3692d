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

PACKAGE = Path(__file__).resolve().parent


def _root() -> Path | None:
    """The checkout, where the book's sources lie: that of this file, or else the current folder.
    None where neither is one: the package is installed from a wheel.
    """
    for folder in (PACKAGE.parent, Path.cwd()):
        if all((folder / name).exists() for name in ("_toc.yml", "book/claims.csv", "astroformer")):
            return folder
    return None


CHECKOUT = _root()
ROOT = CHECKOUT or Path.cwd()  # where runs and data lie unless a variable names another place
# Pages, bibliography, claims and ledger: the sources of the book. A wheel brings what verbs read of
# it (claims, designs of studies, committed records), without pages.
BOOK = CHECKOUT / "book" if CHECKOUT else PACKAGE / "book"
CLAIMS = BOOK / "claims.csv"  # what the papers report, one row a number
LEDGER = BOOK / "ledger"  # committed records, append-only, one file per machine and job
AUDIT = LEDGER / "audit.json"  # what `astroformer audit --write` found
BUILD = ROOT / "_build"  # everything `make book` writes; deleted without loss


def need_checkout(what: str) -> None:
    """FileNotFoundError in one line unless there is a checkout, in which `what` is done."""
    if CHECKOUT is None:
        raise FileNotFoundError(
            f"{what} needs a checkout of the project, with its book, and this package is installed "
            f"without one (in {PACKAGE.parent}); clone the repository and run the same command in "
            "its folder"
        )


def local_ledger() -> Path:
    """Records made on this machine and not (yet) committed; git ignores the folder."""
    usual = LEDGER / "local" if CHECKOUT else ROOT / "ledger"
    return Path(os.environ.get("ASTROFORMER_LOCAL_LEDGER", usual))


def cache() -> Path:
    """Generated galaxies and memory maps of data sets: can be made again, so it lies with the
    user's other caches.
    """
    if named := os.environ.get("ASTROFORMER_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "astroformer"
    own = home() / ".cache" / "astroformer"
    # a home that is only to be read may hold what was made before
    return (
        own
        if os.path.isdir(own) or _may_write(own)
        else _private_folder() / ".cache" / "astroformer"
    )


def runs() -> Path:
    """Checkpoints, one folder per run hash; git ignores the folder."""
    return Path(os.environ.get("ASTROFORMER_RUNS", ROOT / "runs"))


def data() -> Path:
    """Data sets that the user has downloaded (ImageFolders are looked up here by name)."""
    return Path(os.environ.get("ASTROFORMER_DATA", ROOT / "data"))


def home() -> Path:
    """The user's home. A container may run under a number that has no name and without HOME, or
    with a home that is not there and cannot be made: then a folder of that number among the
    temporary files, which nobody else may enter.
    """
    known = _known_home()
    return _private_folder() if known is None else known


def set_home() -> None:
    """Sets HOME where there is none: astropy cannot be imported without one. Jupyter,
    matplotlib and every process that is started from here then find the same folder.
    """
    if not os.environ.get("HOME"):
        os.environ.pop("HOME", None)  # an empty one would be the root of all files
    if _known_home() is None:
        # without a temporary folder either, whatever needs a place says so itself
        with contextlib.suppress(OSError):
            os.environ["HOME"] = str(_private_folder())


def _known_home() -> Path | None:
    """What the system says, if it is there or can be made."""
    try:
        told = Path.home()
    except RuntimeError:
        return None
    return told if os.path.isdir(told) or _may_write(told) else None


def _may_write(folder: Path) -> bool:
    """Whether files can be written into a folder, or into the nearest one above that is there. One
    that may not be entered is as one that is not there.
    """
    there = next(one for one in (folder, *folder.parents) if os.path.exists(one))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


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
