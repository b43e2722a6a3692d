"""Downloading data sets from their publishers, and comparing files with what was published. Nothing
else here uses a network.

    fetch("cifar10", root)      # downloads what is missing below ROOT, checks it, unpacks it
    verify("cifar10", root)     # every file with its checksum, as published and as found

pooch downloads into a file that appears only with the right checksum; what arrived before a cut is
kept as FILE.part and continued. Archives stay where they were put, so that they can be checked and
need not be fetched again. A machine without a network is told the address, the checksum and the
place; with the file there, the same command goes on.
"""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pooch
import requests
from tqdm import tqdm

from astroformer.data import archives, galaxy10, imagenet, tiny_imagenet, torchvision_sets
from astroformer.data.table import DATASETS

TIMEOUT = (15, 60)  # seconds until a server answers, and between two pieces of a file
PIECE = 2**16  # bytes; no more is lost when the connection is cut
MOST_UNPACKED = 4 * 2**30  # bytes; the largest archive here unpacks to less than a tenth
NOTHING_TO_FETCH = {
    "galaxies": "is made on this machine; there is nothing to fetch or to verify",
    "folder": "is your own; there is nothing to fetch or to verify",
    "imagenet1k": "is never downloaded: its owners give it out at https://image-net.org; name its "
    "tree with --data-dir",
}
GALAXY10 = ("galaxy10_decals", "galaxy10_sdss")
# MD5
TINY_IMAGENET = (
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
)


class Download(NamedTuple):
    """A published file, and what an archive unpacks to."""

    file: str  # below ROOT
    urls: tuple[str, ...]  # tried one after another
    checksum: str  # "md5:..." or "sha256:..."
    folder: str = ""  # below ROOT, whole once it is there; "" for a file that is used as it comes


class Checked(NamedTuple):
    """A file or folder below ROOT: what it should be and what it is."""

    file: str
    expected: str
    found: str
    ok: bool


def downloads(name: str) -> tuple[Download, ...]:
    """What is downloaded for a data set; ValueError where nothing can be."""
    if name in NOTHING_TO_FETCH:
        raise ValueError(f"{DATASETS[name].title} ({name}) {NOTHING_TO_FETCH[name]}")
    if name in GALAXY10:
        own = galaxy10.edition(name)
        return (Download(own.file, own.urls, f"sha256:{own.sha256}"),)
    if name == "tiny_imagenet":
        url, md5 = TINY_IMAGENET
        return (Download(tiny_imagenet.ARCHIVE, (url,), f"md5:{md5}", tiny_imagenet.FOLDER),)
    return tuple(
        Download(file, (url,), f"md5:{md5}", folder)
        for file, url, md5, folder in torchvision_sets.downloads(name)
    )


def fetch(name: str, root: Path, report: Callable[[str], None] = print) -> Path:
    """Downloads and unpacks what is missing below `root`; done before, it says so and does nothing.

    OSError when no address answers, with what to do by hand; ValueError when what came is not what
    was published.
    """
    wanted, title = downloads(name), DATASETS[name].title
    packed = any(
        one.folder and (root / one.file).is_file() and not (root / one.folder).exists()
        for one in wanted
    )
    if not packed and all(one.ok for one in verify(name, root)):
        report(f"{title} is complete in {root}")
        return root
    for one in wanted:
        if one.folder and (root / one.folder).exists():
            faults = ", ".join(
                f"{row.file}: {row.found}" for row in verify(name, root) if not row.ok
            )
            raise FileExistsError(
                f"{root / one.folder} is there but not as published "
                f"({faults[:300]}); move it away and give "
                "the same command again"
            )
    for one in wanted:
        report(f"{title}: {root / one.file} from {one.urls[0]}")
        download(one, root)
        if one.folder:
            report(
                f"{title}: unpacking {root / one.file} (it stays there; delete it when "
                f"{one.folder} is enough)"
            )
            place = root / one.folder
            archives.unpack_folder(
                root / one.file, place.name, place.parent, most_bytes=MOST_UNPACKED
            )
    report(f"{title} is complete in {root}")
    return root


def download(wanted: Download, root: Path) -> None:
    """The file, with its published checksum, from the first address that gives it."""
    path, faults, wrong = root / wanted.file, [], False
    path.parent.mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("WARNING")  # it would name each download a second time
    for url in wanted.urls:
        try:
            pooch.retrieve(
                url,
                wanted.checksum,
                fname=path.name,
                path=path.parent,
                downloader=partial(resumed, part=part_of(path)),
            )
            return
        except requests.RequestException as error:
            faults.append(f"{url} ({reason(error)})")
        except ValueError as error:  # pooch has compared the checksum and removed the file
            faults.append(f"{url} ({error})")
            wrong = True
    begun = (
        f" (what arrived before is kept in {part_of(path).name} and continued)"
        if part_of(path).exists()
        else ""
    )
    raise (ValueError if wrong else OSError)(
        f"{path.name} could not be fetched from {' nor from '.join(faults)}. Give the same "
        f"command again{begun}, or put the "
        f"file by hand at {path} ({wanted.checksum}) first"
    )


def part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def reason(error: requests.RequestException) -> str:
    """A few words; the library's own fill several lines."""
    return (
        f"HTTP {error.response.status_code}"
        if error.response is not None
        else f"no answer: {type(error).__name__}"
    )


def resumed(url: str, output_file: str, downloader, *, part: Path) -> None:
    """A downloader for pooch: goes on after the bytes that `part` holds, with a bar on a terminal.

    A server that knows no ranges sends the whole file, and it is written from its beginning.
    """
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        told = answer.headers.get("Content-Range", "")
        # nothing is missing but the name
        if have and answer.status_code == 416 and told == f"bytes */{have}":
            os.replace(part, output_file)
            return None
        if have and (
            answer.status_code == 416
            or answer.status_code == 206
            and not told.startswith(f"bytes {have}-")
        ):
            part.unlink()  # of another file, or longer than this one
            return resumed(url, output_file, downloader, part=part)
        answer.raise_for_status()
        have = have if answer.status_code == 206 else 0
        coming = int(answer.headers.get("Content-Length", 0))
        check_disk(part, coming)
        bar = tqdm(
            total=have + coming or None,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=part.stem,
            disable=None,
        )
        with open(part, "ab" if have else "wb") as file, bar:
            for piece in answer.iter_content(PIECE):
                file.write(piece)
                bar.update(len(piece))
    if coming and part.stat().st_size < have + coming:
        raise requests.ConnectionError("the connection was cut")
    os.replace(part, output_file)


def check_disk(part: Path, coming: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if coming > free:
        raise OSError(
            f"{part.stem} needs {coming:,} bytes more and {part.parent} has {free:,} "
            "free; make room, or name "
            "another folder with --data-dir"
        )


def verify(name: str, root: Path) -> list[Checked]:
    """Every file of a data set as published and as found. Reads them all; for Galaxy10 DECaLS
    that is 2.5 GB.
    """
    if name in NOTHING_TO_FETCH:
        raise ValueError(f"{DATASETS[name].title} ({name}) {NOTHING_TO_FETCH[name]}")
    if name == "tiny_imagenet":
        return verify_tiny_imagenet(root)
    if name in GALAXY10:
        own = galaxy10.edition(name)
        return [compare(root, own.file, f"sha256:{own.sha256}")]
    checked = [
        compare(root, file, f"md5:{md5}")
        for file, md5 in torchvision_sets.md5_of_files(name).items()
    ]
    return checked + [
        Checked(*row, row[1] == row[2]) for row in torchvision_sets.counted(name, root)
    ]


def compare(root: Path, file: str, checksum: str) -> Checked:
    """One file by its checksum."""
    path, algorithm = root / file, checksum.split(":")[0]
    found = f"{algorithm}:{pooch.file_hash(path, alg=algorithm)}" if path.is_file() else "missing"
    return Checked(file, checksum, found, found == checksum)


def verify_tiny_imagenet(root: Path) -> list[Checked]:
    """The number of images of each split in the extracted folder; the checksum of the archive
    where there is only that.
    """
    zipped = downloads("tiny_imagenet")[0]
    try:
        place = tiny_imagenet.tree(root)
    except FileNotFoundError:
        return [Checked(tiny_imagenet.FOLDER, "the extracted archive", "missing", False)]
    if place.suffix == ".zip":
        return [compare(root, zipped.file, zipped.checksum)]
    rows = []
    for split, number in tiny_imagenet.FULL.items():
        try:
            found = f"{len(tiny_imagenet.listing(place, split)):,} images"
        except (ValueError, OSError) as error:
            found = str(error)
        rows.append(
            Checked(
                f"{place.name}, {split}", f"{number:,} images", found, found == f"{number:,} images"
            )
        )
    return rows


def present(name: str, root: Path | None) -> bool | None:
    """Whether files of a data set lie below `root`, at a glance; None where nothing has to lie
    anywhere, or anywhere may.
    """
    if name in ("galaxies", "folder"):
        return None
    if name == "tiny_imagenet":
        return any(
            (root / place).exists() for place in (tiny_imagenet.FOLDER, tiny_imagenet.ARCHIVE)
        )
    if name == "imagenet1k":
        return any((root / folder).is_dir() for folder in imagenet.FOLDERS.values())
    if name in GALAXY10:
        return all(place.is_file() for place in galaxy10.places(name, root))
    places = torchvision_sets.PLACES[name]
    return all((root / place).exists() for place in places)
