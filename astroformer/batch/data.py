"""Whether the images of a batch are at hand, and how they are brought."""

import subprocess
import sys
from collections.abc import Iterable
from urllib.parse import unquote

from astroformer import data, paths
from astroformer.data.derive import PNG_OF
from astroformer.data.tasks import TASKS, not_at_hand

FOLDER = "folder-"  # begins the name of a folder of images, whose path follows, quoted


def lacking(names: Iterable[str]) -> list[str]:
    """A line for each data set or folder that is not at hand, with the way to bring it."""
    return [line for name in names if (line := _lacks(name))]


def _lacks(name: str) -> str | None:
    if name.startswith(FOLDER):
        return _lacks_folder(unquote(name.removeprefix(FOLDER)))
    as_png = [folder for folder, of in PNG_OF.items() if of == name]
    if name == "galaxies" or any((paths.data() / folder).is_dir() for folder in as_png):
        return None
    try:
        data.train_size(name)
    except (OSError, ValueError) as error:
        return f"{error}"
    return None


def _lacks_folder(name: str) -> str | None:
    if (paths.data() / name).is_dir():  # of a whole path that path itself
        return None
    return not_at_hand([name])


def bring(name: str) -> None:
    """What the first rule does for a data set: nothing if it is at hand, else `astroformer data`
    derives or fetches it. FileNotFoundError in one line where it cannot be had from here.
    """
    why = _lacks(name)
    if why is None:
        return
    folder = unquote(name.removeprefix(FOLDER)) if name.startswith(FOLDER) else ""
    if folder and folder not in TASKS:
        raise FileNotFoundError(why)
    words = ["derive", folder] if folder else ["fetch", name]
    status = subprocess.run([sys.executable, "-m", "astroformer", "data", *words]).returncode
    if status or _lacks(name):
        raise FileNotFoundError(why)
